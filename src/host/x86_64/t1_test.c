/*
 * Random IR blocks, T1 against the interpreter: registers, flags (where the manual defines them),
 * memory, and where each run ends. An instruction that T1 leaves to the interpreter is stepped
 * there and T1 goes on behind it. Pages that fault, cross and are read-only come up by themselves.
 *
 * With TROUBLE, one in so many misses is not filled, or treated as a crossing access.
 *
 * usage: t1_test [FIRST_SEED [COUNT [INSNS [TROUBLE]]]]
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "ir/host.h"
#include "ir/interp.h"
#include "jit/codemem.h"
#include "tests/host/t1_gen.h"

struct cpu {
    struct rt_env env;
    uint64_t extra[2];
    uint64_t mxcsr;
    uint8_t vec[16][32];
};

static const struct ir_reg regs[NREGS] = {
#define R(i, name, aff)                                                                            \
    {                                                                                              \
        name, offsetof(struct cpu, env.reg) + 8 * (i), aff                                         \
    }
    R(0, "rax", "rax"),
    R(1, "rcx", "rcx"),
    R(2, "rdx", "rdx"),
    R(3, "rbx", "rbx"),
    R(4, "rsp", "rsp"),
    R(5, "rbp", "rbp"),
    R(6, "rsi", "rsi"),
    R(7, "rdi", "rdi"),
    R(8, "r8", "r8"),
    R(9, "r9", "r9"),
    R(10, "r10", "r10"),
    R(11, "r11", NULL),
    R(12, "r12", NULL),
    R(13, "r13", NULL),
    R(14, "r14", NULL),
    R(15, "r15", NULL),
    {"x0", offsetof(struct cpu, extra[0]), NULL},
    {"x1", offsetof(struct cpu, extra[1]), NULL},
};

static enum ir_helper_result helper_mix(struct rt_env *env, uint64_t a, uint64_t b, uint64_t c)
{
    env->reg[0] = a + 3 * b + 5 * c + env->reg[1];
    return c & 1 ? IR_HELPER_NEXT : IR_HELPER_EXIT;
}

static const struct ir_helper helpers[] = {{"mix", helper_mix}};
static const struct ir_guest guest = {
    .regs = regs,
    .nregs = NREGS,
    .helpers = helpers,
    .nhelpers = 1,
    .vec_off = offsetof(struct cpu, vec),
    .mxcsr_off = offsetof(struct cpu, mxcsr),
};

/* The machine: PAGES pages at MEM_BASE; page 5 read-only, page 6 absent. */
struct machine {
    struct cpu *cpu;
    uint8_t *mem;
};
static struct machine *of_env; /* the one that runs */

static bool allowed(uint64_t va, unsigned access)
{
    uint64_t page = (va - MEM_BASE) >> RT_PAGE_BITS;
    return page < PAGES && page != 6 && !(page == 5 && (access & RT_WRITE));
}

static bool check(struct rt_env *env, uint64_t va, unsigned size, unsigned access)
{
    if (allowed(va, access) && allowed(va + size - 1, access)) {
        return true;
    }
    env->fault = (struct rt_fault){
        .kind = RT_FAULT_GUEST, .vector = 14, .addr = allowed(va, access) ? va + size - 1 : va};
    return false;
}

static struct {
    unsigned rate, kind; /* kind: 0 not filled, 1 treated as crossing */
    uint64_t n, injected[2];
} trouble;

static bool in_trouble(void)
{
    trouble.n = trouble.n * 6364136223846793005ull + 1442695040888963407ull;
    bool hit = trouble.rate && (trouble.n >> 40) % trouble.rate == 0;
    trouble.kind = trouble.n >> 39 & 1;
    trouble.injected[trouble.kind] += hit;
    return hit;
}

static bool t_resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    *host = NULL;
    if (!check(env, va, size, access)) {
        return false;
    }
    if ((va ^ (va + size - 1)) >> RT_PAGE_BITS == 0) {
        bool bad = in_trouble();
        uint8_t *page = of_env->mem + ((va - MEM_BASE) & ~(uint64_t)(RT_PAGE_SIZE - 1));
        if (bad) {
            *host = trouble.kind ? NULL : page + (va & (RT_PAGE_SIZE - 1));
            return true;
        }
        struct rt_tlb_entry *e = rt_tlb_slot(env, 1, va);
        e->host = (uintptr_t)page;
        e->tag_r = va & ~(uint64_t)(RT_PAGE_SIZE - 1);
        e->tag_w = allowed(va, RT_WRITE) ? e->tag_r
                                         : rt_tlb_invalid((unsigned)(va >> 12) & (RT_TLB_SIZE - 1));
        *host = page + (va & (RT_PAGE_SIZE - 1));
    }
    return true;
}

static bool t_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    if (!check(env, va, size, RT_READ)) {
        return false;
    }
    memcpy(val, of_env->mem + (va - MEM_BASE), size);
    return true;
}

static bool t_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    if (!check(env, va, size, RT_WRITE)) {
        return false;
    }
    memcpy(of_env->mem + (va - MEM_BASE), val, size);
    return true;
}

static void t_lock(struct rt_env *env)
{
}

static bool t_vec(struct rt_env *env, const struct ir_vec *v, void *mem, uint64_t in,
                  uint64_t *result)
{
    return ir_host_native()->vec_run(env, v, mem, in, result);
}

static const struct rt_mem_ops mem_ops = {t_resolve, t_read, t_write, t_lock, t_lock, t_vec};
struct stats {
    unsigned long steps, insns, bytes, faults;
    unsigned long step_op[IR_OPCODES];
};

struct bench {
    struct codemem cm;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct ir_buf buf;
    struct ir_block *block;
    struct stats st;
};

static void init_state(struct machine *m, uint64_t seed)
{
    struct gen g = {.rng = seed | 1};
    memset(&m->cpu->env, 0, offsetof(struct rt_env, mem));
    m->cpu->env.ret_sp = m->cpu->env.ret_sp_base[0];
    for (unsigned i = 0; i < 16; i++) {
        m->cpu->env.reg[i] = t1_interesting(&g);
    }
    m->cpu->extra[0] = MEM_BASE;
    m->cpu->extra[1] = MEM_BASE & 0xf0000 ? (MEM_BASE & 0xfffff) / 8 : 0;
    m->cpu->env.reg[4] = MEM_BASE + 2 * RT_PAGE_SIZE + 8 * t1_below(&g, 600);
    m->cpu->env.flags = rt_flags_pack((uint32_t)t1_rnd(&g));
    m->cpu->env.mem = &mem_ops;
    for (unsigned i = 0; i < RT_TLB_SIZE; i++) {
        for (unsigned k = 0; k < RT_MODES; k++) {
            m->cpu->env.tlb[k][i].tag_r = m->cpu->env.tlb[k][i].tag_w = rt_tlb_invalid(i);
        }
    }
    for (unsigned i = 0; i < 16 * 32; i++) {
        m->cpu->vec[i / 32][i % 32] = (uint8_t)(t1_rnd(&g) >> 40);
    }
    m->cpu->mxcsr = 0x1f80 | (t1_below(&g, 4) << 13);
    for (unsigned i = 0; i < PAGES * RT_PAGE_SIZE; i++) {
        m->mem[i] = (uint8_t)(t1_rnd(&g) >> 40);
    }
}

static enum rt_exit run_t0(struct bench *bn, struct machine *m, uint64_t seed, unsigned insns)
{
    of_env = m;
    t1_program(bn->block, &guest, seed, 0, insns);
    return ir_interp(&m->cpu->env, bn->block);
}

static void note_step(struct bench *bn, const struct ir_block *b, uint64_t pc)
{
    bn->st.steps++;
    bool in = false;
    for (unsigned i = 0; i < b->nops; i++) {
        if (b->op[i].op == IR_insn) {
            in = b->target[b->op[i].imm] == pc;
        } else if (in) {
            bn->st.step_op[b->op[i].op]++;
        }
    }
}

static enum rt_exit run_t1(struct bench *bn, struct machine *m, uint64_t seed, unsigned insns)
{
    struct rt_env *env = &m->cpu->env;
    struct ir_code code;
    unsigned from = 0;
    of_env = m;
    for (;;) {
        t1_program(bn->block, &guest, seed, from, insns);
        if (seed & 1) {
            ir_optimize(bn->block);
        }
        if (!codemem_has_room(&bn->cm)) {
            codemem_advance(&bn->cm);
        }
        assert(bn->host->emit(bn->ctx, bn->block, &bn->cm.cur, &code));
        bn->st.insns += code.ninsns;
        bn->st.bytes += code.hot_size;
        enum rt_exit e = bn->host->enter(bn->ctx, env, code.entry);
        if (e == RT_EXIT_FAULT) {
            bn->st.faults++;
        }
        if (e != RT_EXIT_STEP) {
            return e;
        }
        note_step(bn, bn->block, env->pc);
        from = (unsigned)(env->pc - CODE_PC);
        t1_program(bn->block, &guest, seed, from, insns);
        env->step_insns = 1;
        e = ir_interp(env, bn->block);
        env->step_insns = 0;
        if (e != RT_EXIT_JUMP || env->pc != CODE_PC + from + 1) {
            return e;
        }
        from++;
    }
}

static bool differ(const struct machine *a, const struct machine *b, enum rt_exit ea,
                   enum rt_exit eb, uint32_t defined, bool verbose)
{
    bool bad = false;
    const struct rt_env *x = &a->cpu->env, *y = &b->cpu->env;
    eb = eb == RT_EXIT_LINK ? RT_EXIT_JUMP : eb;
#define SAY(...)                                                                                   \
    do {                                                                                           \
        bad = true;                                                                                \
        if (verbose) {                                                                             \
            printf(__VA_ARGS__);                                                                   \
        }                                                                                          \
    } while (0)
    if (ea != eb || x->pc != y->pc) {
        SAY("  exit %d at %lx, T1 %d at %lx\n", ea, x->pc, eb, y->pc);
    }
    for (unsigned i = 0; i < 16; i++) {
        if (x->reg[i] != y->reg[i]) {
            SAY("  %s: %lx, T1 %lx\n", regs[i].name, x->reg[i], y->reg[i]);
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        if (memcmp(a->cpu->vec[i], b->cpu->vec[i], 32) != 0) {
            SAY("  vector register %u\n", i);
        }
    }
    if (a->cpu->mxcsr != b->cpu->mxcsr) {
        SAY("  mxcsr %lx, T1 %lx\n", a->cpu->mxcsr, b->cpu->mxcsr);
    }
    if (memcmp(a->cpu->extra, b->cpu->extra, 16) != 0) {
        SAY("  extra registers\n");
    }
    uint32_t fx = rt_flags_unpack(x->flags) & defined, fy = rt_flags_unpack(y->flags) & defined;
    if (ea != RT_EXIT_FAULT && fx != fy) {
        SAY("  flags %x, T1 %x (defined %x)\n", fx, fy, defined);
    }
    if (ea == RT_EXIT_FAULT && (x->fault.kind != y->fault.kind || x->fault.addr != y->fault.addr)) {
        SAY("  fault address %lx, T1 %lx\n", x->fault.addr, y->fault.addr);
    }
    for (unsigned i = 0; i < PAGES * RT_PAGE_SIZE; i++) {
        if (a->mem[i] != b->mem[i]) {
            SAY("  memory at %llx: %x, T1 %x\n", MEM_BASE + i, a->mem[i], b->mem[i]);
            break;
        }
    }
    return bad;
}

static uint32_t defined_at(struct bench *bn, uint64_t seed, uint64_t pc, unsigned insns)
{
    /* an exit in the middle: what is defined there is what the instructions before it left */
    if (pc >= OUT_PC && pc < OUT_PC + 0x1000) {
        return t1_defined_before(bn->block, &guest, seed, (unsigned)(pc - OUT_PC));
    }
    return t1_program(bn->block, &guest, seed, 0, insns);
}

static bool one(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                unsigned insns, bool verbose)
{
    init_state(m0, seed * 77 + 5);
    init_state(m1, seed * 77 + 5);
    trouble.n = seed;
    enum rt_exit e0 = run_t0(bn, m0, seed, insns);
    enum rt_exit e1 = run_t1(bn, m1, seed, insns);
    uint32_t defined = defined_at(bn, seed, m0->cpu->env.pc, insns);
    return differ(m0, m1, e0, e1, defined, verbose);
}

static void report(struct bench *bn, struct machine *m0, struct machine *m1, uint64_t seed,
                   unsigned insns)
{
    while (insns > 1 && one(bn, m0, m1, seed, insns - 1, false)) {
        insns--;
    }
    printf("seed %lu with %u instructions:\n", seed, insns);
    one(bn, m0, m1, seed, insns, true);
    struct strbuf sb = {0};
    t1_program(bn->block, &guest, seed, 0, insns);
    if (seed & 1) {
        ir_optimize(bn->block);
    }
    ir_print(&sb, bn->block);
    printf("%s\n", strbuf_text(&sb));
    struct ir_code code;
    bn->host->emit(bn->ctx, bn->block, &bn->cm.cur, &code);
    FILE *f = fopen("t1_test.bin", "wb");
    fwrite(code.hot, 1, code.hot_size, f);
    fclose(f);
    init_state(m0, seed * 77 + 5);
    for (unsigned i = 0; i < 16; i++) {
        printf("%s=%lx ", regs[i].name, m0->cpu->env.reg[i]);
    }
    printf("flags=%x\n", rt_flags_unpack(m0->cpu->env.flags));
}

static struct machine new_machine(void)
{
    size_t size = (sizeof(struct cpu) + 63) & ~63ul;
    struct machine m = {.cpu = aligned_alloc(64, size),
                        .mem = aligned_alloc(4096, PAGES * RT_PAGE_SIZE)};
    assert(m.cpu && m.mem);
    memset(m.cpu, 0, size);
    return m;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000;
    unsigned insns = argc > 3 ? (unsigned)atoi(argv[3]) : 12;
    trouble.rate = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
    struct bench *bn = calloc(1, sizeof(*bn));
    struct err err;
    bn->block = ir_buf_init(&bn->buf);
    bn->host = ir_host_native();
    if (!bn->host) {
        return 77;
    }
    assert(codemem_open(&bn->cm, 4 * CODEMEM_ARENA, &err) == 0);
    struct ir_host_config cfg = {
        .guest = &guest, .code_lo = bn->cm.rx, .code_hi = bn->cm.rx + bn->cm.size};
    bn->ctx = bn->host->open(&cfg, &bn->cm.cur, &err);
    assert(bn->ctx);
    codemem_keep(&bn->cm);
    struct machine m0 = new_machine(), m1 = new_machine();
    assert(ir_host_signals(&err) == 0 && bn->host->attach(bn->ctx, &m1.cpu->env, &err) == 0);
    m0.cpu->env.host = bn->ctx;
    unsigned bad = 0;
    for (uint64_t s = first; s < first + count && bad < 3; s++) {
        if (one(bn, &m0, &m1, s, insns, false)) {
            report(bn, &m0, &m1, s, insns);
            bad++;
        }
    }
    printf("%lu instructions, %lu faults, %.1f host bytes each, %lu steps\n", bn->st.insns,
           bn->st.faults, (double)bn->st.bytes / (double)(bn->st.insns + 1), bn->st.steps);
    if (trouble.rate) {
        printf("injected: %lu not filled, %lu as crossing\n", trouble.injected[0],
               trouble.injected[1]);
    }
    for (unsigned i = 0; i < IR_OPCODES; i++) {
        if (bn->st.step_op[i] > bn->st.steps / 50 && i != IR_getreg && i != IR_setreg &&
            i != IR_const) {
            printf("  steps with %s: %lu\n", ir_op_info[i].name, bn->st.step_op[i]);
        }
    }
    bn->host->detach(bn->ctx);
    bn->host->close(bn->ctx);
    codemem_close(&bn->cm);
    free(m0.cpu);
    free(m0.mem);
    free(m1.cpu);
    free(m1.mem);
    free(bn);
    return bad != 0;
}
