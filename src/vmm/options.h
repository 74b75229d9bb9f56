/* The command line: what was asked for, before anything is opened or made. */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include "core/machine.h"

struct err;

struct option_list {
    struct keyval *items;
    size_t count;
};

struct text_list {
    const char **items;
    size_t count;
};

enum option_action { OPTIONS_RUN, OPTIONS_DONE /* help was printed: exit with status 0 */ };

struct options {
    const char *program; /* how we were called */
    struct machine_config config;
    const char *accel;
    struct option_list chardevs, drives, blockdevs, devices;
    struct option_list objects;          /* -object */
    bool snapshot;                       /* -snapshot: nothing is written to the images */
    struct option_list numas, numa_mems; /* -numa, -object memory-backend-ram */
    struct option_list fw_cfgs;          /* -fw_cfg */
    struct option_list globals;          /* -global: driver, property, value */
    const char *debugcon;                /* -debugcon, or NULL */
    struct keyval boot_args;             /* -boot: what config points into */
    struct text_list serials, parallels;
    struct text_list monitors; /* -monitor */
    struct option_list mons;   /* -mon */
    bool monitor_given;
    bool nodefaults, nographic;
    const char *keymap;        /* -k; NULL: a US keyboard */
    const char *vga;           /* -vga; NULL: the board's */
    struct keyval window, vnc; /* -display sdl, -vnc; empty: not asked for */
    bool display_given;        /* -display or -vnc: the terminal is not used */
    bool full_screen;
    bool paused;     /* -S */
    const char *gdb; /* -gdb DEV or -s */
    const char *log_items, *log_file, *pidfile;
    enum option_action action;
};

int options_parse(struct options *o, int argc, char **argv, struct err *err);
void options_free(struct options *o);

#endif
