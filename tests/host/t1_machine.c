#include "tests/host/t1_machine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

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
const struct ir_guest t1_guest = {
    .regs = regs,
    .nregs = NREGS,
    .helpers = helpers,
    .nhelpers = 1,
    .vec_off = offsetof(struct cpu, vec),
    .mxcsr_off = offsetof(struct cpu, mxcsr),
};

struct machine *t1_running;
struct t1_trouble t1_trouble;

static uint64_t page_of(uint64_t va)
{
    return ((va & ~(1ull << 32)) - MEM_BASE) >> RT_PAGE_BITS;
}

/* Neighbours in guest memory are none in the host's. */
static uint8_t *byte_at(uint64_t va)
{
    uint64_t page = page_of(va);
    return t1_running->mem + page * 3 % PAGES * RT_PAGE_SIZE + (va & (RT_PAGE_SIZE - 1));
}

static bool allowed(uint64_t va, unsigned access)
{
    uint64_t page = page_of(va);
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

static bool in_trouble(void)
{
    t1_trouble.n = t1_trouble.n * 6364136223846793005ull + 1442695040888963407ull;
    bool hit = t1_trouble.rate && (t1_trouble.n >> 40) % t1_trouble.rate == 0;
    t1_trouble.kind = t1_trouble.n >> 39 & 1;
    t1_trouble.injected[t1_trouble.kind] += hit;
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
        uint8_t *page = byte_at(va & ~(uint64_t)(RT_PAGE_SIZE - 1));
        if (bad) {
            *host = t1_trouble.kind ? NULL : page + (va & (RT_PAGE_SIZE - 1));
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
    for (unsigned i = 0; i < size; i++) {
        ((uint8_t *)val)[i] = *byte_at(va + i);
    }
    return true;
}

static bool t_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    if (!check(env, va, size, RT_WRITE)) {
        return false;
    }
    for (unsigned i = 0; i < size; i++) {
        *byte_at(va + i) = ((const uint8_t *)val)[i];
    }
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
void t1_init_state(struct machine *m, uint64_t seed)
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
    for (unsigned k = 0; k < RT_MODES; k++) {
        rt_base_clear(&m->cpu->env, k);
    }
    for (unsigned i = 0; i < 16 * 32; i++) {
        m->cpu->vec[i / 32][i % 32] = (uint8_t)(t1_rnd(&g) >> 40);
    }
    m->cpu->mxcsr = 0x1f80 | (t1_below(&g, 4) << 13);
    for (unsigned i = 0; i < PAGES * RT_PAGE_SIZE; i++) {
        m->mem[i] = (uint8_t)(t1_rnd(&g) >> 40);
    }
}

bool t1_differ(const struct machine *a, const struct machine *b, enum rt_exit ea, enum rt_exit eb,
               uint32_t defined, bool verbose)
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
            SAY("  memory, page %u, at %x: %x, T1 %x\n", i / RT_PAGE_SIZE * 3 % PAGES,
                i % RT_PAGE_SIZE, a->mem[i], b->mem[i]);
            break;
        }
    }
    return bad;
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

bool t1_open(struct t1_bench *bn)
{
    struct err err;
    bn->block = ir_buf_init(&bn->buf);
    bn->host = ir_host_native();
    if (!bn->host) {
        return false;
    }
    assert(codemem_open(&bn->cm, 4 * CODEMEM_ARENA, &err) == 0);
    struct ir_host_config cfg = {
        .guest = &t1_guest, .code_lo = bn->cm.rx, .code_hi = bn->cm.rx + bn->cm.size};
    bn->ctx = bn->host->open(&cfg, &bn->cm.cur, &err);
    assert(bn->ctx);
    codemem_keep(&bn->cm);
    bn->m[0] = new_machine();
    bn->m[1] = new_machine();
    assert(ir_host_signals(&err) == 0 && bn->host->attach(bn->ctx, &bn->m[1].cpu->env, &err) == 0);
    bn->m[0].cpu->env.host = bn->ctx;
    return true;
}

void t1_close(struct t1_bench *bn)
{
    bn->host->detach(bn->ctx);
    bn->host->close(bn->ctx);
    codemem_close(&bn->cm);
    for (unsigned i = 0; i < 2; i++) {
        free(bn->m[i].cpu);
        free(bn->m[i].mem);
    }
}

void t1_emit_into(struct t1_bench *bn, struct ir_code *out)
{
    if (!codemem_has_room(&bn->cm)) {
        codemem_advance(&bn->cm);
    }
    uint64_t any = bn->block->nops * 0x9e3779b97f4a7c15ull;
    struct ir_hints hints = {.scattered = any >> 63 ? any : 0, .probe = any >> 62 & 1};
    bn->block->hints = &hints; /* of half of all blocks */
    assert(bn->host->emit(bn->ctx, bn->block, &bn->cm.cur, out));
}
