#include "jit/stats.h"

#include <stdio.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "jit/options.h"

static void add(struct strbuf *sb, const char *name, uint64_t n)
{
    strbuf_add(sb, "\"%s\": %llu, ", name, (unsigned long long)n);
}

static void show(struct strbuf *out, const char *name, uint64_t n)
{
    if (n) {
        strbuf_add(out, "  %-20s %llu\n", name, (unsigned long long)n);
    }
}

void jit_stats_show(const struct jit_stats *s, struct strbuf *out)
{
#define X(name) show(out, #name, s->name);
    JIT_STATS(X)
#undef X
}

void jit_stats_print(const struct jit_stats *s, const struct jit_options *o, unsigned vcpu,
                     uint64_t interpreted)
{
    static const char *const exits[] = {"jump",    "fault",  "poll", "stop", "plain",
                                        "scatter", "shared", "step", "link"};
    struct strbuf sb = {0};
    strbuf_add(&sb, "{");
    add(&sb, "vcpu", vcpu);
#define X(name) add(&sb, #name, s->name);
    JIT_STATS(X)
#undef X
    strbuf_add(&sb, "\"exits\": {");
    for (unsigned i = 0; i <= RT_EXIT_LINK; i++) {
        strbuf_add(&sb, "%s\"%s\": %llu", i ? ", " : "", exits[i], (unsigned long long)s->exits[i]);
    }
    strbuf_add(&sb, "}, \"unlowered\": {");
    const char *comma = "";
    for (unsigned i = 0; i < IR_OPCODES; i++) {
        if (s->unlowered[i]) {
            strbuf_add(&sb, "%s\"%s\": %llu", comma, ir_op_info[i].name,
                       (unsigned long long)s->unlowered[i]);
            comma = ", ";
        }
    }
    strbuf_add(&sb, "}, \"interpreted\": %llu}\n", (unsigned long long)interpreted);
    FILE *f = o->stats_path ? fopen(o->stats_path, "a") : NULL;
    if (f) {
        fputs(strbuf_text(&sb), f);
        fclose(f);
    } else {
        log_put(LOG_ALWAYS, "%s", strbuf_text(&sb));
    }
    strbuf_free(&sb);
}
