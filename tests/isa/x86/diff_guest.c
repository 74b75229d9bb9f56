/* The guest side of the differential test: an x86 vCPU whose memory is the window, and engines. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "core/isa.h"
#include "ir/host.h"
#include "ir/interp.h"
#include "isa/x86/model.h"
#include "isa/x86/sys.h"
#include "jit/codemem.h"
#include "tests/isa/x86/diff.h"

struct diff_guest {
    struct vcpu vcpu;
    struct x86_cpu *cpu;
    struct codemem mem;
    struct ir_host_ctx *host;
    unsigned mode;
    struct ir_buf buf, part; /* the case, and what is left of it behind an exit in the middle */
    const struct ir_block *block;
    bool bad; /* the case's IR breaks the rules */
};

/* ---- the vCPU ---- */

/* A user task of a 64-bit Linux, in 64-bit or compatibility mode. */
static void setup(struct x86_cpu *c, unsigned mode)
{
    uint16_t data = AR_P | AR_S | AR_W | AR_A | AR_DPL | AR_DB | AR_G;
    uint16_t code =
        AR_P | AR_S | AR_CODE | AR_W | AR_A | AR_DPL | AR_G | (mode == 8 ? AR_L : AR_DB);
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    c->xcr0 = 7;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        uint16_t sel = i == SEG_CS                  ? (mode == 8 ? 0x33 : 0x23)
                       : i == SEG_FS || i == SEG_GS ? 0
                                                    : 0x2b;
        x86_set_seg_raw(c, i, sel, 0, 0xffffffff, i == SEG_CS ? code : data);
    }
    x86_set_cpl(c, 3);
    c->sys_flags = RF_IF;
    x86_mode_changed(c);
}

struct diff_guest *diff_guest_open(unsigned mode)
{
    struct diff_guest *g = calloc(1, sizeof(*g));
    struct err err = {{0}};
    if (!g || posix_memalign((void **)&g->cpu, 64, sizeof(*g->cpu))) {
        abort();
    }
    memset(g->cpu, 0, sizeof(*g->cpu));
    struct rt_env *env = &g->cpu->rt;
    g->vcpu.isa = &isa_x86;
    g->vcpu.env = env;
    env->vcpu = &g->vcpu;
    env->mem = &diff_mem_ops;
    for (unsigned m = 0; m < RT_MODES; m++) {
        for (unsigned i = 0; i < RT_TLB_SIZE; i++) {
            env->tlb[m][i].tag_r = env->tlb[m][i].tag_w = rt_tlb_invalid(i);
        }
    }
    g->mode = mode;
    const struct ir_host *host = ir_host_native();
    int r = ir_host_signals(&err);
    r = r ? r : isa_x86.cpu_init(&g->vcpu, "max", &err);
    r = r ? r : codemem_open(&g->mem, CODEMEM_ARENA * 4, &err);
    if (!r) {
        struct ir_host_config config = {
            .guest = &x86_guest, .code_lo = g->mem.rx, .code_hi = g->mem.rx + g->mem.size};
        g->host = host->open(&config, &g->mem.cur, &err);
    }
    if (r || !g->host) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    codemem_keep(&g->mem);
    if (host->attach(g->host, env, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    env->jump_salt = ~0ull << 62 | 1; /* no pc of the test hits an empty jump cache */
    setup(g->cpu, mode);
    return g;
}

struct x86_cpu *diff_guest_cpu(struct diff_guest *g)
{
    return g->cpu;
}

const struct ir_block *diff_guest_block(const struct diff_guest *g)
{
    return g->block;
}

/* The window's pages in the soft TLB: not at all, for reading, or for reading and writing. */
static void fill_tlb(struct rt_env *env, unsigned how)
{
    for (uint64_t va = DIFF_MEM; va < DIFF_MEM + DIFF_MEM_SIZE; va += RT_PAGE_SIZE, how >>= 2) {
        struct rt_tlb_entry *e = rt_tlb_slot(env, 1, va);
        uint64_t none = rt_tlb_invalid((va >> RT_PAGE_BITS) & (RT_TLB_SIZE - 1));
        e->tag_r = how & 3 ? va : none;
        e->tag_w = how & 2 ? va : none;
        e->host = va;
    }
}

static void load(struct diff_guest *g, const struct diff_state *in)
{
    struct x86_cpu *c = g->cpu;
    uint8_t fx[512] = {0};
    memcpy(c->rt.reg, in->gpr, sizeof(in->gpr));
    c->rt.pc = in->pc;
    c->rt.flags = rt_flags_pack((uint32_t)in->flags);
    c->sys_flags = RF_IF | (in->flags & RF_SYS_ALL);
    c->mxcsr = in->mxcsr;
    memcpy(c->vec, in->vec, sizeof(in->vec));
    memcpy(fx, in->fx, DIFF_FX);
    x86_set_x87(c, fx);
    memcpy((void *)(uintptr_t)DIFF_MEM, in->mem, DIFF_MEM_SIZE);
    fill_tlb(&c->rt, in->mem[0]);
}

static void store(struct diff_guest *g, struct diff_state *out)
{
    const struct x86_cpu *c = g->cpu;
    uint8_t fx[512] = {0};
    x86_get_x87(g->cpu, fx);
    memset(fx + 24, 0, 8);
    memcpy(out->fx, fx, DIFF_FX);
    memcpy(out->gpr, c->rt.reg, sizeof(out->gpr));
    out->pc = c->rt.pc;
    out->flags = x86_rflags(c) & DIFF_FLAGS;
    out->mxcsr = (uint32_t)c->mxcsr;
    memcpy(out->vec, c->vec, sizeof(out->vec));
    memcpy(out->mem, (void *)(uintptr_t)DIFF_MEM, DIFF_MEM_SIZE);
}

static int fault_vector(const struct rt_fault *f)
{
    switch (f->kind) {
    case RT_FAULT_DIVIDE: return EXC_DE;
    case RT_FAULT_ALIGN: return EXC_GP;
    case RT_FAULT_ILLEGAL: return EXC_UD;
    default: return (int)f->vector;
    }
}

/* Instruction of the case that begins at pc; its number if it is the end, -1 if none does. */
static int step_at(const struct diff_case *c, uint64_t pc)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->in.pc + c->step[i].at == pc) {
            return (int)i;
        }
    }
    return pc == c->in.pc + c->len ? (int)c->n : -1;
}

/* Up to `insns` instructions from number k on. False: the lifter made IR that breaks its rules. */
static bool translate(struct diff_guest *g, struct ir_buf *buf, const struct diff_case *c,
                      unsigned k, unsigned insns)
{
    struct err err = {{0}};
    unsigned at = c->step[k].at;
    struct tr_ctx t = {.pc = c->in.pc + at,
                       .mode = x86_mode(&g->vcpu),
                       .code = c->code + at,
                       .avail = (unsigned)sizeof(c->code) - at,
                       .max_insns = insns,
                       .vcpu = &g->vcpu};
    struct ir_block *b = ir_buf_init(buf);
    x86_translate(b, &t);
    int r = ir_verify(b, &err);
    if (!r && (c->code[at] & 1)) { /* tier 1 gets blocks as they are lifted, tier 0 these */
        ir_optimize(b);
        r = ir_verify(b, &err);
    }
    if (r) {
        fprintf(stderr, "bad IR: %s\n", err.text);
    }
    g->block = b;
    return r == 0;
}

void diff_guest_case(struct diff_guest *g, const struct diff_case *c)
{
    load(g, &c->in); /* the mode hangs on some of it */
    g->bad = !translate(g, &g->buf, c, 0, c->n);
}

/* Goes on behind an exit at instruction k, which an engine may leave to the interpreter. */
static bool go_on(struct diff_guest *g, const struct diff_engine *e, const struct diff_case *c,
                  unsigned k, enum rt_exit *exit)
{
    bool one = *exit == RT_EXIT_STEP;
    if (!translate(g, &g->part, c, k, one ? 1 : c->n - k)) {
        return false;
    }
    *exit = one ? ir_interp(&g->cpu->rt, g->block) : e->run(g, g->block);
    return true;
}

void diff_guest_run(struct diff_guest *g, const struct diff_engine *e, const struct diff_case *c,
                    struct diff_state *out)
{
    load(g, &c->in);
    out->fault = -2;
    if (!g->bad) {
        g->block = &g->buf.block;
        enum rt_exit exit = e->run(g, g->block);
        int at = 0;
        /* a string instruction may stop for a poll; a branch to itself ends the case */
        for (unsigned steps = 0; exit != RT_EXIT_FAULT && steps < 200; steps++) {
            int from = at;
            at = step_at(c, g->cpu->rt.pc);
            bool again = at == from && exit != RT_EXIT_STEP && !c->step[from].insn.rep;
            if (at < 0 || at == (int)c->n || again || !go_on(g, e, c, (unsigned)at, &exit)) {
                break;
            }
        }
        out->fault = exit == RT_EXIT_FAULT ? fault_vector(&g->cpu->rt.fault) : DIFF_NO_FAULT;
        out->fault_addr = g->cpu->rt.fault.addr;
        g->block = &g->buf.block;
    }
    store(g, out);
}

/* ---- engines ---- */

static enum rt_exit run_t0(struct diff_guest *g, const struct ir_block *b)
{
    return ir_interp(&g->cpu->rt, b);
}

/* Half of all blocks have accesses that led to many pages, so it is said; half are counted. */
static struct ir_hints any_hints(const struct ir_block *b)
{
    uint64_t h = (b->nops * 64u + b->bytes) * 0x9e3779b97f4a7c15ull;
    return (struct ir_hints){
        .scattered = h >> 63 ? h : 0, .settled = h * 5, .probe = h >> 62 & 1 ? h >> 40 & 7 : 0};
}

/* Generated code for this block alone: every exit leads back here. */
static enum rt_exit run_code(struct diff_guest *g, const struct ir_block *b, enum ir_form form)
{
    const struct ir_host *host = ir_host_native();
    struct rt_env *env = &g->cpu->rt;
    struct ir_hints hints = any_hints(b);
    struct ir_block hinted = *b;
    struct ir_code code = {.form = form};
    hinted.hints = &hints;
    if (!codemem_has_room(&g->mem)) {
        codemem_advance(&g->mem);
    }
    codemem_begin_write(&g->mem);
    bool ok = host->emit(g->host, &hinted, &g->mem.cur, &code);
    codemem_end_write(&g->mem);
    if (!ok) {
        fprintf(stderr, "no code was made\n");
        exit(1);
    }
    env->ret_sp = env->ret_sp_base[0]; /* the code of earlier calls is gone */
    enum rt_exit why = host->enter(g->host, env, code.entry);
    atomic_store(&env->exit, 0);
    why = env->site ? host->settle(g->host, env, &code, why) : why;
    return why == RT_EXIT_PLAIN || why == RT_EXIT_SCATTER || why == RT_EXIT_SHARED ? RT_EXIT_STEP
                                                                                   : why;
}

static enum rt_exit run_compact(struct diff_guest *g, const struct ir_block *b)
{
    return run_code(g, b, IR_FORM_PLAIN);
}

static enum rt_exit run_warm(struct diff_guest *g, const struct ir_block *b)
{
    return run_code(g, b, IR_FORM_WARM);
}

/* The first one is the reference where the host cannot be. */
const struct diff_engine diff_engines[] = {{"t0", run_t0}, {"t1", run_compact}, {"t1w", run_warm}};
const unsigned diff_engine_count = ARRAY_LEN(diff_engines);
