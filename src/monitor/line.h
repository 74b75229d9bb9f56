/*
 * A line editor for one terminal, which may be a pipe, a socket or a pseudo terminal: bytes go in,
 * bytes for the terminal and whole lines come out. It opens nothing, waits for nothing and knows no
 * terminal but the common one (ECMA-48 sequences).
 *
 * Keys: arrows, Home, End, Delete, Ctrl-A E B F (move), Ctrl-H D K U W (delete), Ctrl-P N and the
 * arrows (history), Tab (completion), Ctrl-L (again on a clear screen).
 */
#ifndef MONITOR_LINE_H
#define MONITOR_LINE_H

#include <stdbool.h>
#include <stddef.h>

#define LINE_MAX_LEN 4095 /* what is typed beyond it is dropped */
#define LINE_HISTORY 64
#define LINE_MATCHES 256

struct line_matches {
    char *word[LINE_MATCHES]; /* the last word of the line, completed */
    size_t count;
};

void line_add_match(struct line_matches *m, const char *word);

struct line_user {
    void (*put)(void *opaque, const char *bytes, size_t len); /* to the terminal */
    void (*entered)(void *opaque, const char *line);
    /* What the last word of `text` (up to the cursor) may become; NULL: no completion. */
    void (*complete)(void *opaque, const char *text, struct line_matches *m);
};

struct line {
    const struct line_user *user;
    void *opaque;
    const char *prompt;
    char text[LINE_MAX_LEN + 1];
    size_t len, pos;
    char *history[LINE_HISTORY]; /* oldest first */
    size_t history_count, history_at;
    char *draft; /* what was being typed when history was called up */
    enum { LINE_PLAIN, LINE_ESC, LINE_CSI, LINE_SS3 } state;
    unsigned number; /* of the sequence */
    bool after_cr;
    const char *question; /* in place of the prompt; what is typed shows as '*' */
};

void line_init(struct line *l, const char *prompt, const struct line_user *user, void *opaque);
void line_free(struct line *l);
void line_prompt(struct line *l); /* an empty line: shows the prompt */
/* The next line is a secret's: another prompt for it, no history, no completion. */
void line_ask(struct line *l, const char *question);
void line_reset(struct line *l); /* another person: without history */
void line_rx(struct line *l, const char *bytes, size_t len);

#endif
