/* What follows the name in `-accel jit,...`. */
#ifndef JIT_OPTIONS_H
#define JIT_OPTIONS_H

#include <stdio.h>

#include "base/types.h"
#include "ir/host.h"

struct err;

/* Classes of injected trouble; see inject.h. */
enum jit_inject {
    INJECT_TLB,
    INJECT_LINK,
    INJECT_EVICT,
    INJECT_EXIT,
    INJECT_CROSS,
    INJECT_MOVE,
    INJECT_CLASSES
};

struct jit_options {
    unsigned tier;     /* tier=0: interpreter only */
    enum ir_form form; /* form=: of new blocks */
    bool lockstep, verify, perfmap;
    bool stats;
    const char *stats_path; /* NULL: the log */
    unsigned code_mb;       /* tb-size=: code memory of each vCPU */
    unsigned inject;        /* bits by class */
    unsigned inject_rate;   /* one in so many */
    uint64_t inject_seed;
};

/* `args` may be NULL. Keeps the path of stats= in memory of its own. */
int jit_options_parse(struct jit_options *, const char *args, struct err *);
void jit_options_help(FILE *out);
void jit_options_free(struct jit_options *);

#endif
