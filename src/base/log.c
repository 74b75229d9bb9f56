/* Log categories and their one output. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/near.h"

unsigned log_mask = LOG_ALWAYS;

static struct {
    pthread_mutex_t lock;
    FILE *file;       /* NULL is stderr */
    unsigned nranges; /* set before the machine runs */
    struct {
        uint64_t first, last;
    } range[16];
} log_out = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct {
    const char *name;
    unsigned bit;
    const char *help;
} log_cats[] = {
    {"in_asm", LOG_IN_ASM, "guest instructions of each translated block"},
    {"op", LOG_OP, "intermediate code of each block"},
    {"op_opt", LOG_OP_OPT, "intermediate code after the passes"},
    {"out_asm", LOG_OUT_ASM, "host instructions of each block"},
    {"int", LOG_INT, "interrupts and exceptions"},
    {"exec", LOG_EXEC, "each block entered from the run loop"},
    {"link", LOG_LINK, "block links made and removed"},
    {"mmu", LOG_MMU, "page walks and flushes"},
    {"smc", LOG_SMC, "writes to translated code"},
    {"cpu", LOG_CPU, "registers at each block entered from the run loop"},
    {"cpu_reset", LOG_CPU_RESET, "registers at processor reset"},
    {"guest_errors", LOG_GUEST, "what the guest did wrong"},
    {"unimp", LOG_UNIMP, "accesses to what is not modelled"},
    {"mmio", LOG_MMIO, "device register accesses"},
    {"irq", LOG_IRQ, "interrupt lines and messages"},
    {"dev", LOG_DEV, "device events"},
    {"timer", LOG_TIMER, "timers set and fired"},
    {"lockstep", LOG_LOCKSTEP, "lockstep comparison"},
};

static void log_write(const char *prefix, const char *fmt, va_list ap)
{
    AUTO_LOCK(&log_out.lock);
    FILE *f = log_out.file ? log_out.file : stderr;
    if (prefix) {
        fprintf(f, "%s: ", prefix);
    }
    vfprintf(f, fmt, ap);
}

void log_put(unsigned cat, const char *fmt, ...)
{
    if (!log_on(cat)) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    log_write(NULL, fmt, ap);
    va_end(ap);
}

static bool log_rate_ok(struct log_rate *rate)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    if (now - rate->window_ns > 1000000000u) {
        rate->window_ns = now;
        rate->in_window = 0;
    }
    if (rate->in_window++ < 10) {
        return true;
    }
    rate->dropped++;
    return false;
}

void log_guest(struct log_rate *rate, const char *who, const char *fmt, ...)
{
    if (!log_on(LOG_GUEST) || !log_rate_ok(rate)) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    log_write(who, fmt, ap);
    va_end(ap);
    if (rate->dropped) {
        log_put(LOG_GUEST, "%s: %u more like this were dropped\n", who, rate->dropped);
        rate->dropped = 0;
    }
}

static int log_enable_one(const char *name, size_t len, struct err *err)
{
    const char *names[ARRAY_LEN(log_cats)];
    for (size_t i = 0; i < ARRAY_LEN(log_cats); i++) {
        names[i] = log_cats[i].name;
        if (strlen(names[i]) == len && !memcmp(names[i], name, len)) {
            log_mask |= log_cats[i].bit;
            return 0;
        }
    }
    char word[64];
    snprintf(word, sizeof(word), "%.*s", (int)len, name);
    return err_set(err, EINVAL, "-d: unknown category '%s'; the nearest is '%s'", word,
                   near_pick(word, names, ARRAY_LEN(names)));
}

int log_enable(const char *items, struct err *err)
{
    while (*items) {
        size_t len = strcspn(items, ",");
        int ret = log_enable_one(items, len, err);
        if (ret) {
            return ret;
        }
        items += len + (items[len] == ',');
    }
    return 0;
}

static int log_filter_one(const char **at, struct err *err)
{
    char *end;
    const char *text = *at;
    uint64_t a = strtoull(text, &end, 0), b;
    unsigned how = (unsigned char)*end, skip = how == '.' ? 2 : 1;
    bool ok = end != text && (how == '+' || how == '-' || (how == '.' && end[1] == '.'));
    const char *second = ok ? end + skip : end;
    b = strtoull(second, &end, 0);
    if (!ok || end == second || (*end && *end != ',') || (how != '.' && !b)) {
        return err_set(err, EINVAL, "-dfilter: '%s' is no START..END, START+LENGTH or START-LENGTH",
                       text);
    }
    if (log_out.nranges == ARRAY_LEN(log_out.range)) {
        return err_set(err, EINVAL, "-dfilter: more than %zu ranges", ARRAY_LEN(log_out.range));
    }
    log_out.range[log_out.nranges].first = how == '-' ? a - b + 1 : a;
    log_out.range[log_out.nranges++].last = how == '.' ? b : how == '+' ? a + b - 1 : a;
    *at = end + (*end == ',');
    return 0;
}

int log_filter(const char *ranges, struct err *err)
{
    int ret = 0;
    while (!ret && *ranges) {
        ret = log_filter_one(&ranges, err);
    }
    return ret;
}

bool log_in_filter(uint64_t addr)
{
    for (unsigned i = 0; i < log_out.nranges; i++) {
        if (addr >= log_out.range[i].first && addr <= log_out.range[i].last) {
            return true;
        }
    }
    return log_out.nranges == 0;
}

int log_open(const char *path, struct err *err)
{
    FILE *f = NULL;
    if (path && strcmp(path, "-")) {
        f = fopen(path, "we");
        if (!f) {
            return err_set(err, errno, "cannot open the log file '%s': %s", path, strerror(errno));
        }
        setvbuf(f, NULL, _IOLBF, 0);
    }
    log_close();
    log_out.file = f;
    return 0;
}

void log_close(void)
{
    AUTO_LOCK(&log_out.lock);
    if (log_out.file) {
        fclose(log_out.file);
        log_out.file = NULL;
    }
}

void log_help(FILE *out)
{
    fprintf(out, "Log categories (comma separated):\n");
    for (size_t i = 0; i < ARRAY_LEN(log_cats); i++) {
        fprintf(out, "  %-14s %s\n", log_cats[i].name, log_cats[i].help);
    }
}
