/* The line editor; see line.h, and docs/decisions/026 for why there is one. */
#include "monitor/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"

#define CTRL(c) ((c)&0x1f)

enum { KEY_BS = 8, KEY_TAB = 9, KEY_LF = 10, KEY_CR = 13, KEY_ESC = 27, KEY_DEL = 127 };

/* ---- The terminal ---- */

static void put(struct line *l, const char *bytes, size_t len)
{
    if (len) {
        l->user->put(l->opaque, bytes, len);
    }
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void put_move(struct line *l, size_t n, char direction)
{
    char seq[24];
    if (n) {
        put(l, seq, (size_t)snprintf(seq, sizeof(seq), "\033[%zu%c", n, direction));
    }
}

static void put_typed(struct line *l, const char *bytes, size_t len)
{
    for (size_t i = 0; l->question && i < len; i++) {
        put(l, "*", 1);
    }
    put(l, bytes, l->question ? 0 : len);
}

/* Everything from the cursor on, and back. */
static void put_tail(struct line *l)
{
    put_typed(l, l->text + l->pos, l->len - l->pos);
    put_text(l, "\033[K");
    put_move(l, l->len - l->pos, 'D');
}

static void put_again(struct line *l)
{
    put_text(l, l->question ? l->question : l->prompt);
    put_typed(l, l->text, l->len);
    put_move(l, l->len - l->pos, 'D');
}

/* ---- Editing ---- */

static void move_to(struct line *l, size_t pos)
{
    if (pos < l->pos) {
        put_move(l, l->pos - pos, 'D');
    } else {
        put_move(l, pos - l->pos, 'C');
    }
    l->pos = pos;
}

static void insert(struct line *l, const char *bytes, size_t len)
{
    if (len > LINE_MAX_LEN - l->len) {
        len = LINE_MAX_LEN - l->len;
    }
    if (!len) {
        return;
    }
    memmove(l->text + l->pos + len, l->text + l->pos, l->len - l->pos);
    memcpy(l->text + l->pos, bytes, len);
    l->len += len;
    put_typed(l, l->text + l->pos, len);
    l->pos += len;
    if (l->pos < l->len) {
        put_tail(l);
    }
}

/* Bytes from `from` to `to`, one of which is the cursor. */
static void erase(struct line *l, size_t from, size_t to)
{
    if (from == to) {
        return;
    }
    move_to(l, from);
    memmove(l->text + from, l->text + to, l->len - to);
    l->len -= to - from;
    put_tail(l);
}

static void erase_word(struct line *l)
{
    size_t from = l->pos;
    while (from && l->text[from - 1] == ' ') {
        from--;
    }
    while (from && l->text[from - 1] != ' ') {
        from--;
    }
    erase(l, from, l->pos);
}

static void replace(struct line *l, const char *text)
{
    erase(l, 0, l->pos);
    erase(l, 0, l->len);
    insert(l, text, strlen(text));
}

/* ---- History ---- */

static void history_add(struct line *l)
{
    if (!l->len || (l->history_count && !strcmp(l->history[l->history_count - 1], l->text))) {
        return;
    }
    if (l->history_count == LINE_HISTORY) {
        free(l->history[0]);
        memmove(l->history, l->history + 1, (LINE_HISTORY - 1) * sizeof(l->history[0]));
        l->history_count--;
    }
    l->history[l->history_count++] = alloc_text(l->text);
}

static void history_up(struct line *l)
{
    if (!l->history_at || l->question) {
        return;
    }
    if (l->history_at == l->history_count) {
        l->text[l->len] = 0;
        free(l->draft);
        l->draft = alloc_text(l->text);
    }
    replace(l, l->history[--l->history_at]);
}

static void history_down(struct line *l)
{
    if (l->history_at < l->history_count) {
        l->history_at++;
        replace(l, l->history_at < l->history_count ? l->history[l->history_at] : l->draft);
    }
}

/* ---- Completion ---- */

void line_add_match(struct line_matches *m, const char *word)
{
    for (size_t i = 0; i < m->count; i++) {
        if (!strcmp(m->word[i], word)) {
            return;
        }
    }
    if (m->count < LINE_MATCHES) {
        m->word[m->count++] = alloc_text(word);
    }
}

static void show_matches(struct line *l, const struct line_matches *m)
{
    put_text(l, "\r\n");
    for (size_t i = 0; i < m->count; i++) {
        put_text(l, m->word[i]);
        put_text(l, i % 6 == 5 || i + 1 == m->count ? "\r\n" : "  ");
    }
    put_again(l);
}

static size_t common_length(const struct line_matches *m)
{
    size_t n = strlen(m->word[0]);
    for (size_t i = 1; i < m->count; i++) {
        size_t k = 0;
        while (k < n && m->word[i][k] == m->word[0][k]) {
            k++;
        }
        n = k;
    }
    return n;
}

static void complete(struct line *l)
{
    struct line_matches m = {.count = 0};
    char text[LINE_MAX_LEN + 1];
    memcpy(text, l->text, l->pos);
    text[l->pos] = 0;
    if (!l->user->complete || l->question) {
        return;
    }
    l->user->complete(l->opaque, text, &m);
    const char *space = strrchr(text, ' ');
    size_t typed = l->pos - (space ? (size_t)(space + 1 - text) : 0);
    size_t same = m.count ? common_length(&m) : 0;
    if (same > typed) {
        insert(l, m.word[0] + typed, same - typed);
    }
    if (m.count == 1) {
        insert(l, " ", 1);
    } else if (m.count && same <= typed) {
        show_matches(l, &m);
    }
    for (size_t i = 0; i < m.count; i++) {
        free(m.word[i]);
    }
}

/* ---- Keys ---- */

static void enter(struct line *l)
{
    char text[LINE_MAX_LEN + 1];
    move_to(l, l->len);
    put_text(l, "\r\n");
    l->text[l->len] = 0;
    if (!l->question) {
        history_add(l);
    }
    l->question = NULL;
    memcpy(text, l->text, l->len + 1);
    l->len = l->pos = 0;
    l->history_at = l->history_count;
    l->user->entered(l->opaque, text);
}

static void step(struct line *l, bool right)
{
    if (right && l->pos < l->len) {
        move_to(l, l->pos + 1);
    } else if (!right && l->pos) {
        move_to(l, l->pos - 1);
    }
}

static void erase_here(struct line *l)
{
    erase(l, l->pos, l->pos < l->len ? l->pos + 1 : l->pos);
}

static void plain_key(struct line *l, char c)
{
    switch (c) {
    case CTRL('A'): move_to(l, 0); break;
    case CTRL('B'): step(l, false); break;
    case CTRL('D'): erase_here(l); break;
    case CTRL('E'): move_to(l, l->len); break;
    case CTRL('F'): step(l, true); break;
    case CTRL('K'): erase(l, l->pos, l->len); break;
    case CTRL('L'):
        put_text(l, "\033[H\033[2J");
        put_again(l);
        break;
    case CTRL('N'): history_down(l); break;
    case CTRL('P'): history_up(l); break;
    case CTRL('U'): erase(l, 0, l->pos); break;
    case CTRL('W'): erase_word(l); break;
    case KEY_BS:
    case KEY_DEL: erase(l, l->pos ? l->pos - 1 : 0, l->pos); break;
    case KEY_TAB: complete(l); break;
    case KEY_ESC: l->state = LINE_ESC; break;
    default:
        if ((unsigned char)c >= ' ') {
            insert(l, &c, 1);
        }
    }
}

static void sequence_end(struct line *l, char c)
{
    switch (c) {
    case 'A': history_up(l); break;
    case 'B': history_down(l); break;
    case 'C': step(l, true); break;
    case 'D': step(l, false); break;
    case 'F': move_to(l, l->len); break;
    case 'H': move_to(l, 0); break;
    case '~':
        if (l->number == 3) {
            erase_here(l);
        } else if (l->number == 1 || l->number == 7) {
            move_to(l, 0);
        } else if (l->number == 4 || l->number == 8) {
            move_to(l, l->len);
        }
        break;
    }
}

static void sequence_key(struct line *l, char c)
{
    if (l->state == LINE_ESC) {
        l->number = 0;
        l->state = c == '[' ? LINE_CSI : c == 'O' ? LINE_SS3 : LINE_PLAIN;
    } else if (l->state == LINE_CSI && c >= '0' && c <= '9') {
        l->number = l->number < 1000 ? l->number * 10 + (unsigned)(c - '0') : l->number;
    } else if (l->state == LINE_SS3 || (c >= '@' && c <= '~')) {
        l->state = LINE_PLAIN;
        sequence_end(l, c);
    } else if (c < ' ') {
        l->state = LINE_PLAIN; /* no byte of a sequence */
    }
}

static void line_byte(struct line *l, char c)
{
    bool after_cr = l->after_cr;
    l->after_cr = c == KEY_CR;
    if (c == KEY_LF && after_cr) {
        return;
    }
    if (c == KEY_CR || c == KEY_LF) {
        l->state = LINE_PLAIN;
        enter(l);
    } else if (l->state == LINE_PLAIN) {
        plain_key(l, c);
    } else {
        sequence_key(l, c);
    }
}

void line_rx(struct line *l, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        line_byte(l, bytes[i]);
    }
}

/* ---- Life ---- */

void line_init(struct line *l, const char *prompt, const struct line_user *user, void *opaque)
{
    *l = (struct line){.user = user, .opaque = opaque, .prompt = prompt};
}

void line_prompt(struct line *l)
{
    put_again(l);
}

void line_ask(struct line *l, const char *question)
{
    l->question = question;
}

void line_reset(struct line *l)
{
    line_free(l);
    line_init(l, l->prompt, l->user, l->opaque);
}

void line_free(struct line *l)
{
    for (size_t i = 0; i < l->history_count; i++) {
        free(l->history[i]);
    }
    free(l->draft);
    l->draft = NULL;
    l->history_count = l->history_at = 0;
}
