/*
 * The guest side of the differential test: an x86 vCPU whose memory is the window, and what the
 * engines need of an accelerator.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "core/tlb_ops.h"
#include "ir/host.h"
#include "ir/interp.h"
#include "isa/x86/model.h"
#include "jit/codemem.h"
#include "tests/isa/x86/diff.h"

struct diff_guest {
    struct vcpu vcpu;
    struct x86_cpu *cpu;
    struct codemem mem;
    struct ir_host_ctx *host;
    unsigned mode;
    uint32_t word; /* mode word */
    struct ir_buf buf;
};

/* ---- memory: the window, at its own address ---- */

static bool in_window(uint64_t va, unsigned size)
{
    return va >= DIFF_MEM && va < DIFF_MEM + DIFF_MEM_SIZE && size <= DIFF_MEM + DIFF_MEM_SIZE - va;
}

static bool page_fault(struct rt_env *env, uint64_t va)
{
    env->fault = (struct rt_fault){
        .kind = RT_FAULT_GUEST, .vector = EXC_PF, .has_error = true, .error = PF_U, .addr = va};
    return false;
}

static bool canonical(uint64_t va)
{
    return (int64_t)(va << 16) >> 16 == (int64_t)va;
}

/* As the MMU does: #GP for an address that is not canonical. */
static bool check(struct rt_env *env, uint64_t va, unsigned size)
{
    if (in_window(va, size)) {
        return true;
    }
    if (!canonical(va)) {
        env->fault = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_GP, .has_error = true};
        return false;
    }
    return page_fault(env, va);
}

static bool resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    if (!check(env, va, size)) {
        return false;
    }
    bool one_page = ((va ^ (va + size - 1)) & ~(uint64_t)(RT_PAGE_SIZE - 1)) == 0;
    *host = one_page ? (void *)(uintptr_t)va : NULL;
    return true;
}

static bool slow_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    if (!check(env, va, size)) {
        return false;
    }
    memcpy(val, (void *)(uintptr_t)va, size);
    return true;
}

static bool slow_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    if (!check(env, va, size)) {
        return false;
    }
    memcpy((void *)(uintptr_t)va, val, size);
    return true;
}

static void no_lock(struct rt_env *env)
{
}

static bool run_vec(struct rt_env *env, const struct ir_vec *v, void *mem, uint64_t in,
                    uint64_t *result)
{
    if (!ir_host_native()->vec_run(env, v, mem, in, result)) {
        env->fault = (struct rt_fault){.kind = RT_FAULT_ILLEGAL};
        return false;
    }
    return true;
}

#define ALL_XMM                                                                                    \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void fpu_get(struct rt_env *env, uint8_t fx[512])
{
    uint8_t image[512] __attribute__((aligned(16)));
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    memcpy(fx, image, DIFF_FX);
}

static void fpu_set(struct rt_env *env, const uint8_t fx[512])
{
    uint8_t image[512] __attribute__((aligned(16)));
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    memcpy(image, fx, 24);
    memcpy(image + 32, fx + 32, 128);
    __asm__ volatile("fxrstor64 %0" ::"m"(image) : ALL_XMM);
}

static const struct rt_mem_ops mem_ops = {
    .resolve = resolve,
    .slow_read = slow_read,
    .slow_write = slow_write,
    .lock_begin = no_lock,
    .lock_end = no_lock,
    .vec = run_vec,
    .fpu_get = fpu_get,
    .fpu_set = fpu_set,
};

void tlb_flush(struct vcpu *v)
{
}

void tlb_flush_nonglobal(struct vcpu *v)
{
}

void tlb_flush_page(struct vcpu *v, gva_t va)
{
}

void tlb_debug_changed(struct vcpu *v)
{
}

void tlb_code_changed(struct vcpu *v)
{
}

bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    return slow_read(v->env, va, size, val);
}

bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    return slow_write(v->env, va, size, val);
}

int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1));
    if (!check(v->env, va, 1)) {
        return -1;
    }
    *host = (void *)(uintptr_t)va;
    return (int)(len < left ? len : left);
}

bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    return false;
}

bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    return false;
}

bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    return false;
}

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
    env->mem = &mem_ops;
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
    g->word = x86_mode(&g->vcpu);
    return g;
}

struct x86_cpu *diff_guest_cpu(struct diff_guest *g)
{
    return g->cpu;
}

const struct ir_block *diff_guest_block(const struct diff_guest *g)
{
    return &g->buf.block;
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
    memcpy(&c->x87_cw, fx, 2);
    fx[0] |= 0x3f;
    fpu_set(&c->rt, fx);
    memcpy((void *)(uintptr_t)DIFF_MEM, in->mem, DIFF_MEM_SIZE);
}

static void store(struct diff_guest *g, struct diff_state *out)
{
    const struct x86_cpu *c = g->cpu;
    uint8_t fx[512] = {0};
    fpu_get(&g->cpu->rt, fx);
    memcpy(fx, &c->x87_cw, 2);
    memset(fx + 6, 0, 26);
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

/* False: the lifter made IR that breaks its rules. */
static bool translate(struct diff_guest *g, const struct diff_case *c)
{
    struct err err = {{0}};
    struct tr_ctx t = {.pc = c->in.pc,
                       .mode = g->word,
                       .code = c->code,
                       .avail = sizeof(c->code),
                       .max_insns = 1,
                       .vcpu = &g->vcpu};
    struct ir_block *b = ir_buf_init(&g->buf);
    x86_translate(b, &t);
    int r = ir_verify(b, &err);
    if (!r) {
        ir_optimize(b);
        r = ir_verify(b, &err);
    }
    if (r) {
        fprintf(stderr, "bad IR: %s\n", err.text);
    }
    return r == 0;
}

void diff_guest_run(struct diff_guest *g, const struct diff_engine *e, const struct diff_case *c,
                    struct diff_state *out)
{
    load(g, &c->in);
    out->fault = -2;
    if (translate(g, c)) {
        enum rt_exit exit;
        unsigned steps = 0;
        do { /* a string instruction may stop for a poll */
            exit = e->run(g, diff_guest_block(g));
        } while (exit != RT_EXIT_FAULT && c->insn.rep && g->cpu->rt.pc == c->in.pc &&
                 steps++ < 100);
        out->fault = exit == RT_EXIT_FAULT ? fault_vector(&g->cpu->rt.fault) : DIFF_NO_FAULT;
    }
    store(g, out);
}

/* ---- engines ---- */

static enum rt_exit run_t0(struct diff_guest *g, const struct ir_block *b)
{
    return ir_interp(&g->cpu->rt, b);
}

/* Generated code for this block alone: every exit leads back here. */
static enum rt_exit run_t1(struct diff_guest *g, const struct ir_block *b)
{
    const struct ir_host *host = ir_host_native();
    struct rt_env *env = &g->cpu->rt;
    struct ir_code code;
    if (!codemem_has_room(&g->mem)) {
        codemem_advance(&g->mem);
    }
    codemem_begin_write(&g->mem);
    bool ok = host->emit(g->host, b, &g->mem.cur, &code);
    codemem_end_write(&g->mem);
    if (!ok) {
        fprintf(stderr, "no code was made\n");
        exit(1);
    }
    enum rt_exit why = host->enter(g->host, env, code.entry);
    if (why == RT_EXIT_STEP && env->pc == b->pc) {
        why = ir_interp(env, b); /* the back end leaves this one to T0 */
    }
    atomic_store(&env->exit, 0);
    return why;
}

const struct diff_engine diff_engines[] = {{"t0", run_t0}, {"t1", run_t1}};
const unsigned diff_engine_count = ARRAY_LEN(diff_engines);
