/* Inside of the monitor. */
#ifndef MONITOR_INTERNAL_H
#define MONITOR_INTERNAL_H

#include "base/strbuf.h"
#include "base/types.h"
#include "loop/clock.h"
#include "loop/co.h"
#include "monitor/line.h"
#include "monitor/monitor.h"
#include "monitor/parse.h"

struct block;
struct ide_dev;
struct vcpu;

#define MONITOR_KEYS 256

struct monitor_key {
    uint16_t code;
    bool down;
    uint32_t wait_ms; /* before the next one */
};

struct monitor {
    struct machine *machine;
    struct chardev *chardev;
    bool own, greeted;
    const struct monitor_control *control;
    void *opaque;
    struct line line;
    /* Takes the next line in place of a command; NULL: nobody asks. */
    int (*answered)(struct monitor *mon, const char *text, struct err *err);
    struct strbuf out; /* written when what came in is done */
    unsigned cpu;      /* which one commands mean */
    unsigned buttons;  /* of the mouse */
    /* sendkey: what is still to come */
    struct timer key_timer;
    struct monitor_key keys[MONITOR_KEYS];
    unsigned key_first, key_count;
};

struct command_args {
    struct words words; /* behind the command's name */
    const char *format; /* "10x" of "x/10x", or NULL */
    const char *rest;   /* all behind it, as typed */
};

struct monitor_command {
    const char *name; /* "print|p": also by the second name */
    const char *args; /* as shown */
    const char *help;
    unsigned most; /* words at most; ~0u: takes the rest of the line */
    int (*run)(struct monitor *mon, struct command_args *a, struct err *err);
};

extern const struct monitor_command monitor_commands[]; /* both end with a NULL name */
extern const struct monitor_command monitor_infos[];

bool command_is(const struct monitor_command *c, const char *name);
void monitor_put(struct monitor *mon, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Asks for a secret. */
void monitor_ask(struct monitor *mon, const char *question,
                 int (*answered)(struct monitor *, const char *, struct err *));
/* Takes "-f" out of the words; true: it was there. */
bool args_flag(struct command_args *a, const char *flag);
const char *args_word(const struct command_args *a, unsigned n); /* NULL: so many there are not */
/* "expects NAME" when there is no n-th word. */
const char *args_need(const struct command_args *a, unsigned n, const char *name, struct err *err);
int args_number(const struct command_args *a, unsigned n, const char *name, long long *val,
                struct err *err);

/* Between these no vcpu runs, whatever the machine's state. */
void monitor_hold(struct monitor *mon);
void monitor_release(struct monitor *mon);
struct vcpu *monitor_vcpu(struct monitor *mon, struct err *err);

/* cmd_*.c, info*.c */
typedef int command_fn(struct monitor *mon, struct command_args *a, struct err *err);
command_fn cmd_help, cmd_info, cmd_stop, cmd_cont, cmd_quit, cmd_reset, cmd_powerdown, cmd_nmi,
    cmd_cpu, cmd_gdbserver, cmd_screendump, cmd_sendkey, cmd_mouse_move, cmd_mouse_button, cmd_x,
    cmd_xp, cmd_print, cmd_eject, cmd_change, cmd_commit, cmd_block_resize, cmd_ringbuf_read,
    cmd_ringbuf_write, cmd_balloon, cmd_watchdog_action, cmd_change_vnc, cmd_set_password,
    cmd_expire_password;
command_fn info_status, info_version, info_name, info_uuid, info_cpus, info_registers, info_pic,
    info_lapic, info_chardev, info_block, info_pci, info_qtree, info_mtree, info_jit, info_history,
    info_balloon, info_vmgenid, info_irq, info_mem, info_tlb;

void input_init(struct monitor *mon);
void input_fini(struct monitor *mon);
void input_complete(const char *word, struct line_matches *m);
/* Runs fn(arg) in a coroutine on the images' thread, and waits. */
void errand_run(struct block_graph *g, co_fn *fn, void *arg);
/* The image of the drive with that name; NULL with a sentence: no such, or without a medium. */
struct block *media_find(struct monitor *mon, const char *name, struct err *err);
void media_complete(struct monitor *mon, const char *word, struct line_matches *m);

#endif
