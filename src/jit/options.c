#include "jit/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "jit/inject.h"

#define CODE_MB 256
#define INJECT_RATE 50

static int on_off(const char *key, const char *val, bool *out, struct err *err)
{
    *out = strcmp(val, "on") == 0;
    return *out || strcmp(val, "off") == 0
               ? 0
               : err_set(err, EINVAL, "accelerator option '%s' is 'on' or 'off', not '%s'", key,
                         val);
}

static int take_number(const char *key, const char *val, unsigned lo, unsigned hi, unsigned *out,
                       struct err *err)
{
    char *end;
    unsigned long n = strtoul(val, &end, 0);
    if (*end || end == val || n < lo || n > hi) {
        return err_set(err, EINVAL,
                       "accelerator option '%s' wants a number from %u to %u, not '%s'", key, lo,
                       hi, val);
    }
    *out = (unsigned)n;
    return 0;
}

/* CLASS[:RATE[:SEED]] */
static int take_inject(struct jit_options *o, const char *val, struct err *err)
{
    size_t len = strcspn(val, ":");
    unsigned found = len == 3 && !strncmp(val, "all", 3) ? (1u << INJECT_CLASSES) - 1 : 0;
    for (unsigned k = 0; k < INJECT_CLASSES; k++) {
        if (strlen(inject_name(k)) == len && !strncmp(val, inject_name(k), len)) {
            found = 1u << k;
        }
    }
    if (!found) {
        return err_set(err, EINVAL,
                       "accelerator option 'inject' knows tlb, link, evict, exit, cross, move and "
                       "all, not '%.*s'",
                       (int)len, val);
    }
    o->inject |= found;
    val += len;
    if (*val == ':') {
        char *end;
        unsigned long n = strtoul(val + 1, &end, 0);
        if (n == 0 || (*end && *end != ':')) {
            return err_set(err, EINVAL,
                           "accelerator option 'inject': the rate in '%s' is no number from 1 on",
                           val + 1);
        }
        o->inject_rate = (unsigned)n;
        o->inject_seed = *end ? strtoull(end + 1, NULL, 0) : o->inject_seed;
    }
    return 0;
}

static int take_form(struct jit_options *o, const char *val, struct err *err)
{
    static const char *const names[] = {"auto", "compact", "warm"};
    static const enum ir_form forms[] = {IR_FORM_FIRST, IR_FORM_PLAIN, IR_FORM_LOOP};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcmp(val, names[i])) {
            o->form = forms[i];
            return 0;
        }
    }
    return err_set(err, EINVAL, "accelerator option 'form' is auto, compact or warm, not '%s'",
                   val);
}

static int take_stats(struct jit_options *o, const char *val)
{
    o->stats = strcmp(val, "off") != 0;
    if (o->stats && strcmp(val, "on") != 0) {
        o->stats_path = strdup(val);
    }
    return 0;
}

static int take(struct jit_options *o, const char *key, const char *val, struct err *err)
{
    static const char *const neutral[] = {"thread", "split-wx", "one-insn-per-tb"};
    for (size_t i = 0; i < ARRAY_LEN(neutral); i++) {
        if (!strcmp(key, neutral[i])) {
            return 0;
        }
    }
    if (!strcmp(key, "tier")) {
        return take_number(key, val, 0, 1, &o->tier, err);
    }
    if (!strcmp(key, "form")) {
        return take_form(o, val, err);
    }
    if (!strcmp(key, "tb-size")) {
        return take_number(key, val, 2, 1024, &o->code_mb, err);
    }
    if (!strcmp(key, "lockstep")) {
        return on_off(key, val, &o->lockstep, err);
    }
    if (!strcmp(key, "verify")) {
        return on_off(key, val, &o->verify, err);
    }
    if (!strcmp(key, "perfmap")) {
        return on_off(key, val, &o->perfmap, err);
    }
    if (!strcmp(key, "stats")) {
        return take_stats(o, val);
    }
    if (!strcmp(key, "inject")) {
        return take_inject(o, val, err);
    }
    return err_set(
        err, EINVAL,
        "the accelerator has no option '%s' (it has tier, form, tb-size, stats, perfmap, verify, "
        "lockstep, inject)",
        key);
}

int jit_options_parse(struct jit_options *o, const char *args, struct err *err)
{
    char copy[512], *save = NULL;
    *o = (struct jit_options){
        .tier = 1, .code_mb = CODE_MB, .inject_rate = INJECT_RATE, .inject_seed = 1};
    if (!args) {
        return 0;
    }
    if (strlen(args) >= sizeof(copy)) {
        return err_set(err, EINVAL, "the accelerator's options are too long");
    }
    strcpy(copy, args);
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(item, '=');
        if (!eq) {
            return err_set(err, EINVAL, "accelerator option '%s' has no value", item);
        }
        *eq = 0;
        int ret = take(o, item, eq + 1, err);
        if (ret) {
            return ret;
        }
    }
    o->verify |= o->lockstep;
    return 0;
}

void jit_options_help(FILE *out)
{
    fprintf(
        out,
        "Options of accelerator 'jit':\n"
        "  tier=<0|1>            0: interpret only (default: 1)\n"
        "  form=<auto|compact|warm>  code: compact until it has run often, or always one of them\n"
        "  tb-size=<number>      MiB of code memory of each processor (default: %u)\n"
        "  stats=<on|off|path>   counters as JSON at the end\n"
        "  perfmap=<on|off>      a map of generated code for perf\n"
        "  verify=<on|off>       check the intermediate code of every block\n"
        "  lockstep=<on|off>     compare generated code with the interpreter\n"
        "  inject=<class[:rate[:seed]]>  trouble on purpose: tlb, link, evict, exit, cross, move, "
        "all\n"
        "  thread, split-wx, one-insn-per-tb: accepted, without effect\n",
        CODE_MB);
}

void jit_options_free(struct jit_options *o)
{
    free((void *)(uintptr_t)o->stats_path);
}
