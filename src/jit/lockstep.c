/*
 * Lockstep: every block is first interpreted on a shadow of the guest's state, with stores kept in
 * an overlay, then run by tier 1 for real; registers, flags, pc and stored bytes must agree.
 *
 * For one vCPU. A block that ends in a helper is compared where tier 1 calls it: same arguments,
 * same state, same memory; the helper, which both tiers share, then runs once, and where the block
 * goes on is checked. Accesses to devices and instructions tier 1 leaves to tier 0 are counted as
 * not compared, by reason.
 * Flags are compared by the mask of what the manual defines for the last flag setter.
 */
#include "jit/lockstep.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "core/tlb_ops.h"

#define BYTES 8192 /* stored bytes of one block */

struct stored {
    uint64_t va;
    uint8_t old, new;
    bool valid; /* `new` counts in this run */
};

struct lockstep {
    struct jit_vcpu *jv;
    struct rt_env *shadow; /* a whole guest state; its soft TLB stays empty */
    uint8_t *before;       /* guest state before the block */
    size_t tail;           /* bytes of guest state behind struct rt_env */
    struct stored store[BYTES];
    unsigned count;
    bool device;           /* an access went to a device: no verdict */
    struct ir_guest guest; /* of the guest, with helpers of our own */
    struct ir_helper *helpers;
    const struct jit_block *block;
    bool judge;  /* tier 1 is to be compared at its helper call */
    bool called; /* ... which came */
    bool shadow_called;
    uint64_t arg[3]; /* of tier 0's call */
    enum ir_helper_result said;
    uint64_t compared, compared_helper, skipped_tier0, skipped_device, skipped_step;
};

#define HEAD offsetof(struct rt_env, host_sp)

static struct lockstep *of(struct rt_env *shadow)
{
    return jit_of(shadow->vcpu)->lockstep;
}

static struct stored *find(struct lockstep *l, uint64_t va)
{
    for (unsigned i = l->count; i-- > 0;) {
        if (l->store[i].va == va) {
            return &l->store[i];
        }
    }
    return NULL;
}

static bool plain(struct lockstep *l, uint64_t va, unsigned size, unsigned access)
{
    struct vcpu *v = l->jv->v;
    void *host;
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1));
    int n = vmem_span(v, va, v->env->mmu_idx, size, access & RT_WRITE ? RT_WRITE : RT_READ, &host);
    if (n == 0) { /* pages with code are RAM all the same */
        n = vmem_span(v, va, v->env->mmu_idx, 1, RT_READ, &host);
    }
    if (n >= 0 && size > left) {
        int m = vmem_span(v, va + left, v->env->mmu_idx, 1, access & RT_WRITE ? RT_WRITE : RT_READ,
                          &host);
        n = m < 0 ? m : m == 0 ? 0 : n;
    }
    l->device |= n == 0;
    if (n < 0) {
        l->shadow->fault = v->env->fault;
    }
    return n > 0;
}

static bool ls_resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    *host = NULL;
    return plain(of(env), va, size, access);
}

static bool ls_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    struct lockstep *l = of(env);
    struct vcpu *v = l->jv->v;
    uint8_t *out = val;
    if (l->device || !vmem_read(v, va, v->env->mmu_idx, size, out)) {
        return false;
    }
    for (unsigned i = 0; l->count && i < size; i++) {
        struct stored *s = find(l, va + i);
        if (s) {
            out[i] = s->valid ? s->new : s->old;
        }
    }
    return true;
}

static bool ls_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    struct lockstep *l = of(env);
    struct vcpu *v = l->jv->v;
    const uint8_t *in = val;
    for (unsigned i = 0; i < size; i++) {
        struct stored *s = find(l, va + i);
        if (!s) {
            if (l->count == BYTES) {
                l->device = true;
                return false;
            }
            s = &l->store[l->count++];
            s->va = va + i;
            vmem_read(v, va + i, v->env->mmu_idx, 1, &s->old);
        }
        s->new = in[i];
        s->valid = true;
    }
    return true;
}

static void ls_lock(struct rt_env *env)
{
}

static bool ls_vec(struct rt_env *env, const struct ir_vec *vec, void *mem, uint64_t in,
                   uint64_t *result)
{
    return jit_mem_ops.vec(env, vec, mem, in, result);
}

static void ls_fpu_get(struct rt_env *env, uint8_t fx[512])
{
    jit_mem_ops.fpu_get(env, fx);
}

static void ls_fpu_set(struct rt_env *env, const uint8_t fx[512])
{
    jit_mem_ops.fpu_set(env, fx);
}

static const struct rt_mem_ops lockstep_ops = {
    .resolve = ls_resolve,
    .slow_read = ls_read,
    .slow_write = ls_write,
    .lock_begin = ls_lock,
    .lock_end = ls_lock,
    .vec = ls_vec,
    .fpu_get = ls_fpu_get,
    .fpu_set = ls_fpu_set,
};

static void report(struct lockstep *l, const struct ir_block *b, const char *what);
static void compare(struct lockstep *l, const struct ir_block *b, bool inside);

static const struct ir_op *last_op(const struct ir_block *b)
{
    return &b->op[b->nops - 1];
}

/* Helper arguments agree in the bits that their types have. */
static bool same_arguments(const struct lockstep *l, const uint64_t arg[3])
{
    const struct ir_block *b = l->block->ir;
    const ir_ref v[3] = {last_op(b)->a, last_op(b)->b, last_op(b)->c};
    for (unsigned k = 0; k < 3; k++) {
        if (v[k] != IR_NONE && ((arg[k] ^ l->arg[k]) & mask_low(ir_type_bits(b->op[v[k]].type)))) {
            return false;
        }
    }
    return true;
}

/* Stands for every helper. */
static enum ir_helper_result ls_helper(struct rt_env *env, uint64_t a, uint64_t b, uint64_t c)
{
    struct lockstep *l = of(env);
    const uint64_t arg[3] = {a, b, c};
    if (env == l->shadow) {
        l->shadow_called = true;
        memcpy(l->arg, arg, sizeof(arg));
        return IR_HELPER_FAULT;
    }
    const struct ir_block *ir = l->block->ir;
    if (l->judge) {
        if (!l->shadow_called || !same_arguments(l, arg)) {
            report(l, ir, "the call of a helper");
        }
        compare(l, ir, false);
        l->compared_helper++;
    }
    l->called = true;
    l->said = l->jv->v->isa->guest->helpers[last_op(ir)->aux].fn(env, a, b, c);
    return l->said;
}

/* Did tier 1 go on as the helper said? */
static bool goes_on(const struct lockstep *l, enum rt_exit why)
{
    const struct ir_block *b = l->block->ir;
    bool next = l->said == IR_HELPER_NEXT || l->said == IR_HELPER_EXIT;
    if (next && l->jv->v->env->pc != b->target[last_op(b)->imm]) {
        return false;
    }
    return (l->said == IR_HELPER_FAULT) == (why == RT_EXIT_FAULT) &&
           (l->said == IR_HELPER_EXIT) == (why == RT_EXIT_STOP);
}

const struct ir_guest *lockstep_guest(const struct lockstep *l)
{
    return &l->guest;
}

static void take_helpers(struct lockstep *l, const struct ir_guest *g)
{
    l->guest = *g;
    l->helpers = alloc_array(g->nhelpers, sizeof(*l->helpers));
    for (unsigned i = 0; i < g->nhelpers; i++) {
        l->helpers[i] = (struct ir_helper){g->helpers[i].name, ls_helper};
    }
    l->guest.helpers = l->helpers;
}

struct lockstep *lockstep_new(struct jit_vcpu *jv)
{
    struct lockstep *l = alloc_zero(sizeof(*l));
    size_t size = jv->v->isa->env_size;
    l->jv = jv;
    take_helpers(l, jv->v->isa->guest);
    l->shadow = aligned_alloc(64, round_up(size, 64));
    if (!l->shadow) {
        abort();
    }
    memset(l->shadow, 0, size);
    l->tail = size - sizeof(struct rt_env);
    l->before = alloc_zero(HEAD + l->tail);
    l->shadow->vcpu = jv->v;
    l->shadow->mem = &lockstep_ops;
    for (unsigned i = 0; i < RT_MODES; i++) {
        for (unsigned k = 0; k < RT_TLB_SIZE; k++) {
            l->shadow->tlb[i][k].tag_r = l->shadow->tlb[i][k].tag_w = rt_tlb_invalid(k);
        }
    }
    return l;
}

void lockstep_free(struct lockstep *l)
{
    if (!l) {
        return;
    }
    uint64_t skipped = l->skipped_tier0 + l->skipped_device + l->skipped_step;
    log_put(LOG_ALWAYS,
            "lockstep: %llu blocks compared (%llu up to their helper), not compared: %llu not "
            "translated, %llu device, "
            "%llu left to tier 0 (%.3f %% compared)\n",
            (unsigned long long)l->compared, (unsigned long long)l->compared_helper,
            (unsigned long long)l->skipped_tier0, (unsigned long long)l->skipped_device,
            (unsigned long long)l->skipped_step,
            100.0 * (double)l->compared / (double)(l->compared + skipped + 1));
    free(l->helpers);
    free(l->before);
    free(l->shadow);
    free(l);
}

static void load_before(struct lockstep *l)
{
    memcpy(l->shadow, l->before, HEAD);
    memcpy((char *)l->shadow + sizeof(struct rt_env), l->before + HEAD, l->tail);
    l->shadow->host = l->jv->v->env->host;
    l->shadow->mmu_idx = l->jv->v->env->mmu_idx;
    l->shadow->fp_live = 0;
}

/* Instructions of the block before the one at pc; -1 when it is none of the block's. */
static int index_of(const struct ir_block *b, uint64_t pc)
{
    int n = 0;
    for (unsigned i = 0; i < b->nops; i++) {
        if (b->op[i].op == IR_insn) {
            if (b->target[b->op[i].imm] == pc) {
                return n;
            }
            n++;
        }
    }
    return -1;
}

static enum rt_exit interpret(struct lockstep *l, const struct ir_block *b, unsigned steps)
{
    uint8_t fx[512] __attribute__((aligned(16)));
    jit_mem_ops.fpu_get(l->jv->v->env, fx);
    load_before(l);
    l->device = false;
    l->shadow->step_insns = steps;
    for (unsigned i = 0; i < l->count; i++) {
        l->store[i].valid = false;
    }
    enum rt_exit why = ir_interp(l->shadow, b);
    jit_mem_ops.fpu_set(l->jv->v->env, fx);
    return why;
}

static void report(struct lockstep *l, const struct ir_block *b, const char *what)
{
    struct strbuf sb = {0};
    const struct vcpu *v = l->jv->v;
    strbuf_add(&sb, "lockstep: %s differs after block %llx\n", what, (unsigned long long)b->pc);
    const struct jit_itlb *it = jit_fetch(l->jv, v->isa->fetch_address(v, b->pc));
    for (unsigned off = 0; it && off < b->bytes && (b->pc & 0xfff) + off < 0x1000;) {
        strbuf_add(&sb, "%llx: ", (unsigned long long)(b->pc + off));
        off += (unsigned)v->isa->disas(&sb, it->host + (b->pc & 0xfff) + off, 15, b->pc + off,
                                       b->mode);
        strbuf_add(&sb, "\n");
    }
    ir_print(&sb, b);
    const struct rt_env *was = (const struct rt_env *)(const void *)l->before;
    for (unsigned i = 0; i < b->guest->nregs; i++) {
        uint32_t off = b->guest->regs[i].off;
        uint64_t x, y, z = 0;
        memcpy(&x, (char *)l->shadow + off, 8);
        memcpy(&y, (char *)v->env + off, 8);
        memcpy(&z, l->before + (off < HEAD ? off : off - sizeof(struct rt_env) + HEAD), 8);
        strbuf_add(&sb, "%-10s before %016llx T0 %016llx T1 %016llx%s\n", b->guest->regs[i].name,
                   (unsigned long long)z, (unsigned long long)x, (unsigned long long)y,
                   x == y ? "" : "  <--");
    }
    strbuf_add(&sb, "pc T0 %llx T1 %llx flags before %04x T0 %04x T1 %04x\n",
               (unsigned long long)l->shadow->pc, (unsigned long long)v->env->pc, was->flags,
               l->shadow->flags, v->env->flags);
    for (unsigned i = 0; i < l->count; i++) {
        uint8_t now = 0;
        vmem_read(l->jv->v, l->store[i].va, v->env->mmu_idx, 1, &now);
        if (l->store[i].valid && now != l->store[i].new) {
            strbuf_add(&sb, "byte %llx old %02x T0 %02x T1 %02x\n",
                       (unsigned long long)l->store[i].va, l->store[i].old, l->store[i].new, now);
        }
    }
    log_put(LOG_ALWAYS, "%s", strbuf_text(&sb));
    abort();
}

static bool stores_agree(struct lockstep *l)
{
    struct vcpu *v = l->jv->v;
    for (unsigned i = 0; i < l->count; i++) {
        const struct stored *s = &l->store[i];
        uint8_t now = 0;
        if (!vmem_read(v, s->va, v->env->mmu_idx, 1, &now) || now != (s->valid ? s->new : s->old)) {
            return false;
        }
    }
    return true;
}

/* Which flags the manual defines in a flags value, of those it did before. */
static uint16_t defined_in(const struct ir_block *b, const struct ir_op *f, uint16_t before)
{
    if (f->op == IR_flags && f->c != IR_NONE && b->op[f->c].op == IR_flags) {
        before = defined_in(b, &b->op[f->c], before); /* those it keeps, whose setflags is gone */
    }
    switch (f->op == IR_flags ? f->aux : IR_FL_ADD) {
    case IR_FL_LOGIC:
    case IR_FL_AND:
    case IR_FL_LOGICC: return (uint16_t)~0x1000; /* AF */
    case IR_FL_INC:
    case IR_FL_DEC: return 0xfeff | before; /* CF stays */
    case IR_FL_SHL:
    case IR_FL_SHR:
    case IR_FL_SAR:
    case IR_FL_SHLD:
    case IR_FL_SHRD: return (uint16_t)~0x1001; /* AF, OF */
    case IR_FL_ROL:
    case IR_FL_ROR:
    case IR_FL_RCL:
    case IR_FL_RCR: return before & (uint16_t)~0x0001;
    case IR_FL_MULU:
    case IR_FL_MULS: return 0x0101;
    case IR_FL_ZERO: return 0x4000;
    case IR_FL_BT: return (before & 0x4000) | 0x0100;
    case IR_FL_ADCX:
    case IR_FL_CARRY: return before | 0x0100;
    case IR_FL_ADOX: return before | 0x0001;
    case IR_FL_ZF: return before | 0x4000;
    case IR_FL_ZCNT: return 0x4100;
    default: return 0xffff;
    }
}

/*
 * Which flags the manual defines where the block was left for pc: before an instruction of its own
 * (inside), or at its end or by a branch in it.
 */
static uint16_t flags_mask(const struct ir_block *b, uint64_t pc, bool inside)
{
    uint16_t here = 0xffff, mask = 0xffff;
    for (unsigned i = 0; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        if (inside && op->op == IR_insn && b->target[op->imm] == pc) {
            return here;
        }
        if (op->op == IR_setflags) {
            here = defined_in(b, &b->op[op->a], here);
        } else if ((op->op == IR_brcc || op->op == IR_brz || op->op == IR_brnz) &&
                   b->target[op->imm] == pc) {
            mask &= here;
        }
    }
    return mask & here;
}

/*
 * Does the guest need the flags when the block was left in the middle, at pc? Not when it sets
 * others before it looks at them or leaves for elsewhere (engine rule 15).
 */
static bool flags_live_at(const struct ir_block *b, uint64_t pc)
{
    unsigned at = 0;
    ir_ref last = IR_NONE;
    while (at < b->nops && !(b->op[at].op == IR_insn && b->target[b->op[at].imm] == pc)) {
        last = b->op[at].op == IR_setflags ? b->op[at].a : last;
        at++;
    }
    for (unsigned i = at; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        bool uses = op->op != IR_const && op->op != IR_fetch && last != IR_NONE &&
                    ((op->op != IR_setflags && op->a == last) || op->c == last || op->d == last);
        if (op->op == IR_getflags || uses || (ir_op_props[op->op] & IR_EXIT)) {
            return true;
        }
        if (op->op == IR_setflags) {
            return false;
        }
    }
    return true;
}

static void compare(struct lockstep *l, const struct ir_block *b, bool inside)
{
    const struct rt_env *x = l->shadow, *y = l->jv->v->env;
    if (x->pc != y->pc) {
        report(l, b, "pc");
    }
    if (memcmp(x->reg, y->reg, sizeof(x->reg))) {
        report(l, b, "a register");
    }
    unsigned mask = inside && !flags_live_at(b, y->pc) ? 0 : flags_mask(b, y->pc, inside);
    if ((x->flags ^ y->flags) & mask & 0xd501) {
        report(l, b, "a flag");
    }
    if (memcmp((const char *)x + sizeof(*x), (const char *)y + sizeof(*y), l->tail)) {
        report(l, b, "other state");
    }
    if (!stores_agree(l)) {
        report(l, b, "memory");
    }
    l->compared++;
}

/* Tier 1 came back without having called a helper. */
static void judge(struct lockstep *l, const struct ir_block *b, enum rt_exit first,
                  enum rt_exit why)
{
    const struct rt_env *env = l->jv->v->env;
    if (why == RT_EXIT_STEP) { /* compare what was done before the instruction it stands at */
        int n = index_of(b, env->pc);
        if (n <= 0) {
            l->skipped_step++;
            return;
        }
        interpret(l, b, (unsigned)n);
    } else if (l->shadow_called) {
        report(l, b, "the call of a helper");
    } else if ((first == RT_EXIT_FAULT) != (why == RT_EXIT_FAULT)) {
        report(l, b, "faulting");
    }
    compare(l, b, why == RT_EXIT_STEP || why == RT_EXIT_FAULT);
}

enum rt_exit lockstep_run(struct lockstep *l, const struct jit_block *block)
{
    struct jit_vcpu *jv = l->jv;
    struct rt_env *env = jv->v->env;
    const struct ir_block *b = block->ir;
    l->block = block;
    l->judge = l->called = l->shadow_called = false;
    if (!block->code.entry) {
        l->skipped_tier0++;
        return ir_interp(env, b);
    }
    l->count = 0;
    memcpy(l->before, env, HEAD);
    memcpy(l->before + HEAD, (char *)env + sizeof(struct rt_env), l->tail);
    enum rt_exit first = interpret(l, b, 0);
    if (block->dead) { /* its page has become a checked one */
        return RT_EXIT_JUMP;
    }
    if (l->device) {
        l->skipped_device++;
        return jit_enter_code(jv, block->code.entry);
    }
    l->judge = true;
    enum rt_exit why = jit_enter_code(jv, block->code.entry);
    if (!l->called) {
        judge(l, b, first, why);
    } else if (!goes_on(l, why)) {
        report(l, b, "the way behind a helper");
    }
    return why;
}
