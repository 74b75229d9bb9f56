#include "jit/trace.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/strbuf.h"

void trace_block(struct jit_vcpu *jv, const struct ir_block *b, const uint8_t *code)
{
    struct strbuf sb = {0};
    if (log_on(LOG_IN_ASM)) {
        unsigned off = 0;
        strbuf_add(&sb, "IN: cpu %u pc %llx mode %x\n", jv->v->index, (unsigned long long)b->pc,
                   b->mode);
        while (off < b->bytes) {
            strbuf_add(&sb, "%llx: ", (unsigned long long)(b->pc + off));
            off += (unsigned)jv->v->isa->disas(&sb, code + off, 15, b->pc + off, b->mode);
            strbuf_add(&sb, "\n");
        }
    }
    if (log_on(LOG_OP)) {
        ir_print(&sb, b);
    }
    log_put(LOG_IN_ASM | LOG_OP, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
}

void trace_optimized(struct jit_vcpu *jv, const struct ir_block *b)
{
    struct strbuf sb = {0};
    strbuf_add(&sb, "OP after passes: cpu %u\n", jv->v->index);
    ir_print(&sb, b);
    log_put(LOG_OP_OPT, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
}

void trace_code(struct jit_vcpu *jv, const struct jit_block *b)
{
    struct strbuf sb = {0};
    const struct ir_code *c = &b->code;
    uint64_t hot = (uintptr_t)c->entry, cold = hot + (uint64_t)(c->cold - c->hot);
    strbuf_add(&sb, "OUT: cpu %u pc %llx mode %x, %u instructions in %u + %u bytes\n", jv->v->index,
               (unsigned long long)b->pc, b->mode, c->ninsns, c->hot_size, c->cold_size);
    jv->host->disas(&sb, c->hot, c->hot_size, hot);
    strbuf_add(&sb, "cold:\n");
    jv->host->disas(&sb, c->cold, c->cold_size, cold);
    log_put(LOG_OUT_ASM, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
}

void trace_exec(struct jit_vcpu *jv, const struct jit_block *b)
{
    struct strbuf sb = {0};
    strbuf_add(&sb, "cpu %u exec %llx mode %x\n", jv->v->index, (unsigned long long)b->pc, b->mode);
    if (log_on(LOG_CPU)) {
        jv->v->isa->dump(jv->v, &sb);
    }
    log_put(LOG_EXEC, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
}

void trace_perfmap_open(struct jit_machine *jm)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    jm->perfmap = fopen(path, "we");
    if (!jm->perfmap) {
        log_put(LOG_ALWAYS, "cannot write %s: no map for perf\n", path);
    }
}

void trace_perfmap_add(struct jit_vcpu *jv, const struct jit_block *b)
{
    unsigned long long hot = (uintptr_t)b->code.entry,
                       cold = hot + (uint64_t)(b->code.cold - b->code.hot);
    unsigned long long pc = b->pc;
    const char *form = b->code.form < IR_FORM_WARM ? "" : "_warm";
    fprintf(jv->jm->perfmap, "%llx %x guest_%llx%s\n%llx %x guest_%llx%s_cold\n", hot,
            b->code.hot_size, pc, form, cold, b->code.cold_size, pc, form);
}
