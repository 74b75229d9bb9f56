/* A conversation: from lines to commands, and what they say. */
#include "monitor/monitor.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "core/machine.h"
#include "core/vcpu.h"
#include "monitor/internal.h"

enum { ROOM = 4096, OUTPUT_MAX = 16 << 20 };

/* ---- Output ---- */

static void out_bytes(void *opaque, const char *bytes, size_t len)
{
    struct monitor *mon = opaque;
    if (mon->out.len < OUTPUT_MAX) {
        strbuf_add_bytes(&mon->out, bytes, len);
    }
}

/* Lines end as a terminal wants it. */
static void out_text(struct monitor *mon, const char *text)
{
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        out_bytes(mon, p, n);
        p += n;
        if (*p) {
            out_bytes(mon, "\r\n", 2);
            p++;
        }
    }
}

/* At once: somebody who does not read holds us up for no longer than one write may. */
static void out_flush(struct monitor *mon)
{
    if (mon->out.len) {
        chardev_write(mon->chardev, (const uint8_t *)mon->out.text, mon->out.len);
    }
    strbuf_clear(&mon->out);
}

void monitor_put(struct monitor *mon, const char *fmt, ...)
{
    char *text;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n >= 0) {
        out_text(mon, text);
        free(text);
    }
}

void monitor_ask(struct monitor *mon, const char *question,
                 int (*answered)(struct monitor *, const char *, struct err *))
{
    mon->answered = answered;
    line_ask(&mon->line, question);
}

/* ---- Arguments ---- */

bool args_flag(struct command_args *a, const char *flag)
{
    for (unsigned i = 0; i < a->words.count; i++) {
        if (!strcmp(a->words.word[i], flag)) {
            a->words.count--;
            memmove(&a->words.word[i], &a->words.word[i + 1],
                    (a->words.count - i) * sizeof(a->words.word[0]));
            return true;
        }
    }
    return false;
}

const char *args_word(const struct command_args *a, unsigned n)
{
    return n < a->words.count ? a->words.word[n] : NULL;
}

const char *args_need(const struct command_args *a, unsigned n, const char *name, struct err *err)
{
    const char *word = args_word(a, n);
    if (!word) {
        err_set(err, EINVAL, "%s expected", name);
    }
    return word;
}

int args_number(const struct command_args *a, unsigned n, const char *name, long long *val,
                struct err *err)
{
    const char *word = args_need(a, n, name, err);
    char *end;
    if (!word) {
        return -EINVAL;
    }
    errno = 0;
    *val = strtoll(word, &end, 0);
    return end == word || *end || errno ? err_set(err, EINVAL, "%s: '%s' is no number", name, word)
                                        : 0;
}

/* ---- The machine ---- */

void monitor_hold(struct monitor *mon)
{
    struct machine *m = mon->machine;
    if (m->state == MACHINE_RUNNING && m->cpus) {
        m->cpus->park(m);
    }
}

void monitor_release(struct monitor *mon)
{
    struct machine *m = mon->machine;
    if (m->state == MACHINE_RUNNING && m->cpus) {
        m->cpus->unpark(m);
    }
}

struct vcpu *monitor_vcpu(struct monitor *mon, struct err *err)
{
    struct machine *m = mon->machine;
    if (mon->cpu < m->vcpu_count && m->vcpu[mon->cpu]) {
        return m->vcpu[mon->cpu];
    }
    err_set(err, ENOENT, "there is no CPU %u", mon->cpu);
    return NULL;
}

/* ---- Commands ---- */

bool command_is(const struct monitor_command *c, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = c->name; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (n && !strncmp(p, name, n) && (!p[n] || p[n] == '|')) {
            return true;
        }
    }
    return false;
}

static const struct monitor_command *command_find(const char *name)
{
    for (const struct monitor_command *c = monitor_commands; c->name; c++) {
        if (command_is(c, name)) {
            return c;
        }
    }
    return NULL;
}

static int command_call(struct monitor *mon, const struct monitor_command *c, const char *format,
                        const char *rest, struct err *err)
{
    struct command_args a = {.format = format, .rest = rest};
    int ret = c->most == ~0u ? 0 : words_split(&a.words, rest, err);
    if (!ret && c->most != ~0u && a.words.count > c->most) {
        ret = err_set(err, EINVAL, "extraneous characters at the end of line");
    }
    if (ret) {
        int n = (int)strcspn(c->name, "|");
        monitor_put(mon, "%.*s: %s\nTry \"help %.*s\" for more information\n", n, c->name,
                    err->text, n, c->name);
        ret = 0;
    } else {
        ret = c->run(mon, &a, err);
    }
    words_free(&a.words);
    return ret;
}

/* `name` is the first word, which may end in a format: "x/10i", "x /10i". */
static void command_run(struct monitor *mon, const char *line)
{
    const char *p = line + strspn(line, " \t");
    size_t n = strcspn(p, " \t/");
    AUTO_FREE char *name = alloc_printf("%.*s", (int)n, p);
    AUTO_FREE char *format = NULL;
    const char *rest = p + n + strspn(p + n, " \t");
    struct err err = {""};
    if (!*p || *p == '#') {
        return;
    }
    const struct monitor_command *c = command_find(name);
    if (!c) {
        monitor_put(mon, "unknown command: '%s'\n", name);
        return;
    }
    if (*rest == '/' && !strncmp(c->args, "/fmt", 4)) {
        size_t len = strcspn(++rest, " \t");
        format = alloc_printf("%.*s", (int)len, rest);
        rest += len + strspn(rest + len, " \t");
    }
    if (command_call(mon, c, format, rest, &err)) {
        monitor_put(mon, "Error: %s\n", err.text);
    }
}

static void line_entered(void *opaque, const char *text)
{
    struct monitor *mon = opaque;
    int (*answered)(struct monitor *, const char *, struct err *) = mon->answered;
    struct err err;
    mon->answered = NULL;
    if (!answered) {
        command_run(mon, text);
    } else if (answered(mon, text, &err)) {
        monitor_put(mon, "Error: %s\n", err.text);
    }
    line_prompt(&mon->line);
}

/* ---- Completion ---- */

static void complete_names(const struct monitor_command *list, const char *word,
                           struct line_matches *m)
{
    for (const struct monitor_command *c = list; c->name; c++) {
        size_t n = strcspn(c->name, "|");
        AUTO_FREE char *name = alloc_printf("%.*s", (int)n, c->name);
        if (!strncmp(name, word, strlen(word))) {
            line_add_match(m, name);
        }
    }
}

static void line_complete(void *opaque, const char *text, struct line_matches *m)
{
    struct monitor *mon = opaque;
    const char *first = text + strspn(text, " "), *space = strrchr(first, ' ');
    const char *word = space ? space + 1 : first;
    size_t n = strcspn(first, " ");
    AUTO_FREE char *command = alloc_printf("%.*s", (int)n, first);
    if (!space) {
        complete_names(monitor_commands, word, m);
    } else if (!strcmp(command, "info")) {
        complete_names(monitor_infos, word, m);
    } else if (!strcmp(command, "help")) {
        complete_names(monitor_commands, word, m);
    } else if (!strcmp(command, "sendkey")) {
        input_complete(word, m);
    } else {
        media_complete(mon, word, m);
    }
}

/* ---- The character device ---- */

static void monitor_greet(struct monitor *mon)
{
    mon->greeted = true;
    mon->answered = NULL;
    line_reset(&mon->line);
    monitor_put(mon, "%s %s monitor - type 'help' for more information\n", mon->control->product,
                mon->control->version);
    line_prompt(&mon->line);
    out_flush(mon);
}

static size_t monitor_room(void *opaque)
{
    return ROOM;
}

static void monitor_rx(void *opaque, const uint8_t *buf, size_t len)
{
    struct monitor *mon = opaque;
    if (!mon->greeted) {
        monitor_greet(mon);
    }
    line_rx(&mon->line, (const char *)buf, len);
    out_flush(mon);
}

static void monitor_event(void *opaque, enum chardev_event event)
{
    struct monitor *mon = opaque;
    if (event == CHARDEV_OPENED || (event == CHARDEV_FOCUS && !mon->greeted)) {
        monitor_greet(mon);
    } else if (event == CHARDEV_FOCUS || event == CHARDEV_UNFOCUS) {
        monitor_put(mon, "\n");
        if (event == CHARDEV_FOCUS) {
            line_prompt(&mon->line);
        }
        out_flush(mon);
    }
}

static const struct chardev_user monitor_user = {
    .room = monitor_room, .rx = monitor_rx, .event = monitor_event};

static const struct line_user line_user = {out_bytes, line_entered, line_complete};

struct monitor *monitor_new(struct machine *m, struct chardev *c, bool own,
                            const struct monitor_control *control, void *opaque)
{
    struct monitor *mon = alloc_zero(sizeof(*mon));
    mon->machine = m;
    mon->chardev = c;
    mon->own = own;
    mon->control = control;
    mon->opaque = opaque;
    line_init(&mon->line, control->prompt, &line_user, mon);
    input_init(mon);
    chardev_attach(c, &monitor_user, mon);
    if (!chardev_is_port(c) && !mon->greeted) {
        monitor_greet(mon);
    }
    return mon;
}

void monitor_free(struct monitor *mon)
{
    if (!mon) {
        return;
    }
    input_fini(mon);
    chardev_attach(mon->chardev, NULL, NULL);
    if (mon->own) {
        chardev_free(mon->chardev);
    }
    line_free(&mon->line);
    strbuf_free(&mon->out);
    free(mon);
}
