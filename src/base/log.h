/*
 * Log lines by category (-d), to stderr or a file (-D). Any thread; a line is written whole.
 * The mask is one of the few mutable globals of the tree: it is tested on hot paths.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct err;

enum log_cat {
    LOG_IN_ASM = 1 << 0,
    LOG_OP = 1 << 1,
    LOG_OP_OPT = 1 << 2,
    LOG_OUT_ASM = 1 << 3,
    LOG_INT = 1 << 4,
    LOG_EXEC = 1 << 5,
    LOG_LINK = 1 << 6,
    LOG_MMU = 1 << 7,
    LOG_SMC = 1 << 8,
    LOG_CPU = 1 << 9,
    LOG_CPU_RESET = 1 << 10,
    LOG_GUEST = 1 << 11,
    LOG_UNIMP = 1 << 12,
    LOG_MMIO = 1 << 13,
    LOG_IRQ = 1 << 14,
    LOG_DEV = 1 << 15,
    LOG_TIMER = 1 << 16,
    LOG_LOCKSTEP = 1 << 17,
    LOG_ALWAYS = 1 << 30, /* reports that nobody has to ask for */
};

extern unsigned log_mask;

static inline bool log_on(unsigned cat)
{
    return __builtin_expect((log_mask & cat) != 0, 0);
}

/* Lines about guest code only for addresses in "START..END,START+LENGTH,START-LENGTH". */
int log_filter(const char *ranges, struct err *err);
bool log_in_filter(uint64_t addr);

/* Is a category of `cat` on for code at `addr`? */
static inline bool log_at(unsigned cat, uint64_t addr)
{
    return log_on(cat) && log_in_filter(addr);
}

/* Writes one piece of text if a category of `cat` is on; the caller puts the newline. */
void log_put(unsigned cat, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What a guest did wrong, at most a burst of ten and then one a second per `rate`. */
struct log_rate {
    uint64_t window_ns;
    unsigned in_window, dropped;
};
void log_guest(struct log_rate *rate, const char *who, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds the categories in "in_asm,int" to the mask; -errno with a sentence otherwise. */
int log_enable(const char *items, struct err *err);
int log_open(const char *path, struct err *err); /* "-" or NULL is stderr */
void log_close(void);
void log_help(FILE *out);

#endif
