/*
 * T0, the IR interpreter. Runs any IR on any host (hostvec ops go through the accelerator's
 * thunk). Results are kept zero-extended from their type's width.
 *
 * Does not do: speed beyond a switch per op.
 */
#include "ir/interp.h"
#include "ir/hostvec.h"

#include <string.h>

#include "base/bits.h"

struct frame {
    struct rt_env *env;
    const struct ir_block *b;
    unsigned idx;               /* MMU index */
    uint64_t v[IR_MAX_OPS + 1]; /* results; flags values as FLAG_ bits */
};

static uint64_t val(const struct frame *f, ir_ref r)
{
    return r == IR_NONE ? 0 : f->v[r];
}

static uint64_t address(const struct frame *f, const struct ir_op *op)
{
    int32_t disp = op->op == IR_hostvec ? f->b->vec[op->imm].disp : op->imm;
    uint64_t ea = (uint64_t)(int64_t)disp;
    return ea + val(f, op->a) + (val(f, op->b) << (op->aux & IR_AUX_SCALE));
}

static uint64_t load_bytes(const void *p, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

/* Host address of an access, or NULL with *ok telling whether slow_read/slow_write may go on. */
static void *host_of(struct frame *f, uint64_t va, unsigned size, unsigned access, bool *ok)
{
    struct rt_tlb_entry *e = rt_tlb_slot(f->env, f->idx, va);
    uint64_t tag = access & RT_WRITE ? e->tag_w : e->tag_r;
    *ok = true;
    if ((va ^ tag) <= RT_PAGE_SIZE - size) {
        return (char *)(uintptr_t)e->host + (va & (RT_PAGE_SIZE - 1));
    }
    void *host = NULL;
    *ok = f->env->mem->resolve(f->env, va, size, access, &host);
    return *ok ? host : NULL;
}

static bool do_load(struct frame *f, uint64_t va, unsigned size, unsigned access, uint64_t *out)
{
    bool ok;
    void *p = host_of(f, va, size, access, &ok);
    if (p) {
        *out = load_bytes(p, size);
        return true;
    }
    *out = 0;
    return ok && f->env->mem->slow_read(f->env, va, size, out);
}

static bool do_store(struct frame *f, uint64_t va, unsigned size, uint64_t v)
{
    bool ok;
    void *p = host_of(f, va, size, RT_WRITE, &ok);
    if (p) {
        memcpy(p, &v, size);
        return true;
    }
    return ok && f->env->mem->slow_write(f->env, va, size, &v);
}

static uint64_t rmw_new(const struct frame *f, const struct ir_op *op, uint64_t old)
{
    uint64_t c = val(f, op->c), carry = op->d == IR_NONE ? 0 : f->v[op->d] & FLAG_CF;
    switch ((enum ir_rmw)IR_AUX_RMW(op->aux)) {
    case IR_RMW_ADD: return old + c;
    case IR_RMW_SUB: return old - c;
    case IR_RMW_AND: return old & c;
    case IR_RMW_OR: return old | c;
    case IR_RMW_XOR: return old ^ c;
    case IR_RMW_XCHG: return c;
    case IR_RMW_ADC: return old + c + carry;
    case IR_RMW_SBB: return old - c - carry;
    case IR_RMW_NEG: return 0 - old;
    case IR_RMW_NOT: return ~old;
    case IR_RMW_ANDN: return old & ~c;
    case IR_RMWS: break;
    }
    return old;
}

static bool cas(void *p, unsigned size, uint64_t *old, uint64_t new)
{
    uint8_t o8 = (uint8_t)*old;
    uint16_t o16 = (uint16_t)*old;
    uint32_t o32 = (uint32_t)*old;
    bool done;
    switch (size) {
    case 1:
        done = __atomic_compare_exchange_n((uint8_t *)p, &o8, (uint8_t) new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *old = o8;
        return done;
    case 2:
        done = __atomic_compare_exchange_n((uint16_t *)p, &o16, (uint16_t) new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *old = o16;
        return done;
    case 4:
        done = __atomic_compare_exchange_n((uint32_t *)p, &o32, (uint32_t) new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *old = o32;
        return done;
    default:
        return __atomic_compare_exchange_n((uint64_t *)p, old, new, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
}

/* The new value for an old one: shared by rmw and cmpxchg. */
static uint64_t update(const struct frame *f, const struct ir_op *op, uint64_t old)
{
    if (op->op == IR_rmw) {
        return rmw_new(f, op, old);
    }
    uint64_t m = mask_low(ir_type_bits(op->type));
    return ((old ^ val(f, op->c)) & m) == 0 ? val(f, op->d) : old;
}

static bool do_update(struct frame *f, const struct ir_op *op, uint64_t *out)
{
    uint64_t va = address(f, op), m = mask_low(ir_type_bits(op->type));
    unsigned size = ir_type_bytes(op->type);
    struct rt_env *env = f->env;
    bool ok;
    uint8_t *p = host_of(f, va, size, RT_WRITE, &ok);
    if (!ok) {
        return false;
    }
    uint64_t old = 0;
    if (p && (op->aux & IR_AUX_LOCK) && (((uintptr_t)p & 63) + size <= 64)) {
        old = load_bytes(p, size);
        while (!cas(p, size, &old, update(f, op, old) & m)) {
        }
    } else if (p && !(op->aux & IR_AUX_LOCK)) {
        old = load_bytes(p, size);
        uint64_t new = update(f, op, old);
        memcpy(p, &new, size);
    } else { /* device memory, two pages, or a lock across cache lines */
        env->mem->lock_begin(env);
        p = host_of(f, va, size, RT_WRITE, &ok); /* others ran: the page may have code by now */
        ok = ok && (p ? (memcpy(&old, p, size), true) : env->mem->slow_read(env, va, size, &old));
        uint64_t new = update(f, op, old);
        ok = ok && (p ? (memcpy(p, &new, size), true) : env->mem->slow_write(env, va, size, &new));
        env->mem->lock_end(env);
    }
    *out = old & m;
    return ok;
}

static bool do_vec(struct frame *f, const struct ir_op *op, uint64_t *out)
{
    const struct ir_vec *v = &f->b->vec[op->imm];
    struct rt_env *env = f->env;
    uint64_t in = val(f, op->c);
    if (!v->size) {
        return env->mem->vec(env, v, NULL, in, out);
    }
    uint64_t va = address(f, op);
    uint8_t buf[64] __attribute__((aligned(64))) = {0};
    if (v->aligned && (va & (v->size - 1u))) {
        env->fault = (struct rt_fault){.kind = RT_FAULT_ALIGN, .addr = va};
        return false;
    }
    bool ok;
    void *p = host_of(f, va, v->size, v->store ? RT_WRITE : RT_READ, &ok);
    if (!ok) {
        return false;
    }
    if (p) {
        return env->mem->vec(env, v, p, in, out);
    }
    bool read = v->load || (v->store && hostvec_partial_store(v->id));
    if (read && !env->mem->slow_read(env, va, v->size, buf)) {
        return false;
    }
    if (!env->mem->vec(env, v, buf, in, out)) {
        return false;
    }
    return !v->store || env->mem->slow_write(env, va, v->size, buf);
}

/* Divides (hi:lo) by d at width `bits`; false: divide fault. */
static bool divide(unsigned bits, bool is_signed, uint64_t lo, uint64_t hi, uint64_t d, uint64_t *q,
                   uint64_t *r)
{
    uint64_t m = mask_low(bits);
    unsigned __int128 n =
        bits == 64 ? (unsigned __int128)hi << 64 | lo : (hi & m) << bits | (lo & m);
    d &= m;
    if (d == 0) {
        return false;
    }
    if (!is_signed) {
        unsigned __int128 quot = n / d;
        *q = (uint64_t)quot;
        *r = (uint64_t)(n % d);
        return quot <= m;
    }
    __int128 sn = bits == 64 ? (__int128)n : (__int128)sign_extend((uint64_t)n, bits * 2);
    __int128 sd = sign_extend(d, bits);
    if (sd == -1) { /* the one quotient that overflows __int128 itself */
        *q = (uint64_t)-sn & m;
        *r = 0;
        __int128 limit = (__int128)1 << (bits - 1);
        return sn >= -limit + 1 && sn <= limit;
    }
    __int128 quot = sn / sd, limit = (__int128)1 << (bits - 1);
    *q = (uint64_t)quot & m;
    *r = (uint64_t)(sn % sd) & m;
    return quot >= -limit && quot < limit;
}

static bool do_div(struct frame *f, const struct ir_op *op, uint64_t *out)
{
    uint64_t q, r;
    bool sgn = op->op == IR_divs || op->op == IR_rems;
    if (!divide(ir_type_bits(op->type), sgn, val(f, op->a), val(f, op->c), val(f, op->b), &q, &r)) {
        f->env->fault = (struct rt_fault){.kind = RT_FAULT_DIVIDE};
        return false;
    }
    *out = op->op == IR_divu || op->op == IR_divs ? q : r;
    return true;
}

static uint64_t rotate_carry(unsigned bits, uint64_t a, unsigned n, bool cf, bool left)
{
    uint64_t sign = BIT(bits - 1);
    for (n %= bits + 1; n; n--) {
        bool out = left ? !!(a & sign) : a & 1;
        a = left ? (a << 1 | cf) & mask_low(bits) : a >> 1 | (cf ? sign : 0);
        cf = out;
    }
    return a;
}

static uint64_t shift_double(unsigned bits, uint64_t a, uint64_t fill, uint64_t n, bool left)
{
    if (n == 0) {
        return a;
    }
    if (n >= bits) {
        uint64_t t = a;
        n -= bits;
        a = fill, fill = t;
        if (n == 0) {
            return a;
        }
    }
    return left ? a << n | fill >> (bits - n) : a >> n | fill << (bits - n);
}

static uint64_t deposit(uint64_t a, uint64_t mask)
{
    uint64_t r = 0;
    for (; mask; mask &= mask - 1, a >>= 1) {
        r |= a & 1 ? mask & -mask : 0;
    }
    return r;
}

static uint64_t gather(uint64_t a, uint64_t mask)
{
    uint64_t r = 0;
    for (unsigned i = 0; mask; mask &= mask - 1, i++) {
        r |= a & (mask & -mask) ? BIT(i) : 0;
    }
    return r;
}

static uint64_t crc32c(uint64_t crc, uint64_t data, unsigned bytes)
{
    uint32_t c = (uint32_t)crc;
    for (unsigned i = 0; i < bytes; i++) {
        c ^= (uint8_t)(data >> 8 * i);
        for (int k = 0; k < 8; k++) {
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
        }
    }
    return c;
}

/* Pure integer ops: x y z are operands a b c, w the width. */
static uint64_t pure(const struct ir_op *op, uint64_t x, uint64_t y, uint64_t z)
{
    unsigned w = ir_type_bits(op->type);
    uint64_t m = mask_low(w);
    switch (op->op) {
    case IR_add: return x + y;
    case IR_sub: return x - y;
    case IR_and: return x & y;
    case IR_or: return x | y;
    case IR_xor: return x ^ y;
    case IR_adc:
    case IR_adcx: return x + y + (z & FLAG_CF);
    case IR_adox: return x + y + !!(z & FLAG_OF);
    case IR_sbb: return x - y - (z & FLAG_CF);
    case IR_not: return ~x;
    case IR_neg: return 0 - x;
    case IR_mul: return x * y;
    case IR_mulhu: return (uint64_t)((unsigned __int128)(x & m) * (y & m) >> w);
    case IR_mulhs: return (uint64_t)((__int128)sign_extend(x, w) * sign_extend(y, w) >> w);
    case IR_shl: return (y & m) >= w ? 0 : x << (y & m);
    case IR_shr: return (y & m) >= w ? 0 : (x & m) >> (y & m);
    case IR_sar: return (uint64_t)(sign_extend(x, w) >> ((y & m) >= w ? 63 : (y & m)));
    case IR_rol: y %= w; return y ? x << y | (x & m) >> (w - y) : x;
    case IR_ror: y %= w; return y ? (x & m) >> y | x << (w - y) : x;
    case IR_rcl: return rotate_carry(w, x & m, (unsigned)y, z & FLAG_CF, true);
    case IR_rcr: return rotate_carry(w, x & m, (unsigned)y, z & FLAG_CF, false);
    case IR_bswap: return w == 32 ? __builtin_bswap32((uint32_t)x) : __builtin_bswap64(x);
    case IR_clz: return (x & m) ? (unsigned)__builtin_clzll(x & m) - (64 - w) : w;
    case IR_ctz: return (x & m) ? (unsigned)__builtin_ctzll(x & m) : w;
    case IR_popcnt: return (unsigned)__builtin_popcountll(x & m);
    case IR_pdep: return deposit(x & m, y & m);
    case IR_pext: return gather(x & m, y & m);
    case IR_crc32c: return crc32c(x, y, w / 8);
    case IR_zext: return x & mask_low(ir_type_bits(op->aux));
    case IR_sext: return (uint64_t)sign_extend(x, ir_type_bits(op->aux));
    case IR_trunc: return x;
    case IR_seteq: return ((x ^ y) & m) == 0;
    case IR_setltu: return (x & m) < (y & m);
    case IR_setlts: return sign_extend(x, w) < sign_extend(y, w);
    case IR_selnz: return x & 0xff ? y : z;
    default: return 0;
    }
}

static uint64_t get_reg(const struct rt_env *env, const struct ir_op *op)
{
    uint64_t r;
    memcpy(&r, (const char *)env + op->imm, 8);
    return op->type == IR_H8 ? r >> 8 & 0xff : r & mask_low(ir_type_bits(op->type));
}

static void set_reg(struct rt_env *env, const struct ir_op *op, uint64_t v)
{
    uint64_t old, m = op->type == IR_H8 ? 0xff00 : mask_low(ir_type_bits(op->type));
    char *slot = (char *)env + op->imm;
    memcpy(&old, slot, 8);
    if (op->type == IR_H8) {
        v <<= 8;
    } else if (op->type == IR_I32) {
        old = 0;
    }
    v = (old & ~m) | (v & m);
    memcpy(slot, &v, 8);
}

static enum rt_exit call_helper(struct frame *f, const struct ir_op *op)
{
    struct rt_env *env = f->env;
    const struct ir_helper *h = &f->b->guest->helpers[op->aux];
    switch (h->fn(env, val(f, op->a), val(f, op->b), val(f, op->c))) {
    case IR_HELPER_NEXT: env->pc = f->b->target[op->imm]; return RT_EXIT_JUMP;
    case IR_HELPER_FAULT: return RT_EXIT_FAULT;
    case IR_HELPER_EXIT: env->pc = f->b->target[op->imm]; return RT_EXIT_STOP;
    case IR_HELPER_PC:
    case IR_HELPER_AGAIN: break;
    }
    return RT_EXIT_JUMP;
}

static bool branch_taken(const struct frame *f, const struct ir_op *op)
{
    uint64_t m = mask_low(ir_type_bits(op->type));
    switch (op->op) {
    case IR_brcc: return ir_cc_holds(op->aux, (uint32_t)f->v[op->a]);
    case IR_brnz: return f->v[op->a] & m;
    case IR_brz: return !(f->v[op->a] & m);
    default: return true;
    }
}

/* Ops that may fault: result into *out, false on a fault. */
static bool faulting(struct frame *f, const struct ir_op *op, uint64_t *out)
{
    unsigned size = ir_type_bytes(op->type);
    bool ok;
    switch (op->op) {
    case IR_ld: return do_load(f, address(f, op), size, RT_READ, out);
    case IR_ldw: return do_load(f, address(f, op), size, RT_READ | RT_WRITE, out);
    case IR_st: return do_store(f, address(f, op), size, val(f, op->c));
    case IR_probew: host_of(f, address(f, op), size, RT_WRITE, &ok); return ok;
    case IR_rmw:
    case IR_cmpxchg: return do_update(f, op, out);
    case IR_hostvec: return do_vec(f, op, out);
    case IR_check:
        return f->b->guest->checks[op->aux].fn(f->env, val(f, op->a), val(f, op->b),
                                               (unsigned)op->imm);
    default: return do_div(f, op, out);
    }
}

static uint64_t fetch(const struct ir_op *op)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)op->k;
    switch (op->aux) {
    case IR_I8: return op->imm ? (uint64_t) * (const int8_t *)p : *p;
    case IR_I16: {
        uint16_t v = (uint16_t)load_bytes(p, 2);
        return op->imm ? (uint64_t)(int16_t)v : v;
    }
    case IR_I32: {
        uint32_t v = (uint32_t)load_bytes(p, 4);
        return op->imm ? (uint64_t)(int32_t)v : v;
    }
    default: return load_bytes(p, 8);
    }
}

static uint64_t value_op(struct frame *f, const struct ir_op *op)
{
    switch (op->op) {
    case IR_const: return op->k;
    case IR_fetch: return fetch(op);
    case IR_getreg: return get_reg(f->env, op);
    case IR_getflags: return rt_flags_unpack(f->env->flags);
    case IR_lea: return address(f, op);
    case IR_shld:
        return shift_double(ir_type_bits(op->type), val(f, op->a), val(f, op->b),
                            val(f, op->d) & 63, true);
    case IR_shrd:
        return shift_double(ir_type_bits(op->type), val(f, op->a), val(f, op->b),
                            val(f, op->d) & 63, false);
    case IR_flags:
        return ir_flags_value(op->aux, op->type, val(f, op->a), val(f, op->b),
                              (uint32_t)val(f, op->c), val(f, op->d));
    case IR_setcc: return ir_cc_holds(op->aux, (uint32_t)f->v[op->a]);
    case IR_select: return ir_cc_holds(op->aux, (uint32_t)f->v[op->a]) ? f->v[op->b] : f->v[op->c];
    case IR_flagbits: return f->v[op->a];
    default: return pure(op, val(f, op->a), val(f, op->b), val(f, op->c));
    }
}

/* Flags and CRCs do not have the width of their operands. */
static uint64_t result_mask(const struct ir_op *op)
{
    return op->op == IR_flags || op->op == IR_getflags || op->op == IR_crc32c
               ? UINT32_MAX
               : mask_low(ir_type_bits(op->type));
}

enum rt_exit ir_interp(struct rt_env *env, const struct ir_block *b)
{
    struct frame f;
    f.env = env;
    f.b = b;
    f.idx = b->mode & 3;
    unsigned insns = 0;
    for (unsigned i = 0; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        uint64_t out = 0;
        switch (op->op) {
        case IR_nop: break;
        case IR_insn:
            env->pc = b->target[op->imm];
            if ((env->step_insns && insns == env->step_insns) || (insns && env->code_changed)) {
                env->insns += insns;
                return RT_EXIT_JUMP;
            }
            insns++;
            break;
        case IR_setreg: set_reg(env, op, f.v[op->a]); break;
        case IR_setflags: env->flags = rt_flags_pack((uint32_t)f.v[op->a]); break;
        case IR_fence: __atomic_thread_fence(__ATOMIC_SEQ_CST); break;
        case IR_ld:
        case IR_ldw:
        case IR_st:
        case IR_probew:
        case IR_rmw:
        case IR_cmpxchg:
        case IR_hostvec:
        case IR_check:
        case IR_divu:
        case IR_divs:
        case IR_remu:
        case IR_rems:
            if (!faulting(&f, op, &out)) {
                env->insns += insns - 1;
                return RT_EXIT_FAULT;
            }
            f.v[i] = op->op == IR_hostvec ? out : out & mask_low(ir_type_bits(op->type));
            break;
        case IR_brcc:
        case IR_brnz:
        case IR_brz:
        case IR_jump:
            if (branch_taken(&f, op)) {
                env->pc = b->target[op->imm];
                env->insns += insns;
                return RT_EXIT_JUMP;
            }
            break;
        case IR_jumpi:
            env->pc = f.v[op->a];
            env->insns += insns;
            return RT_EXIT_JUMP;
        case IR_helper: env->insns += insns; return call_helper(&f, op);
        default: f.v[i] = value_op(&f, op) & result_mask(op); break;
        }
    }
    return RT_EXIT_STEP; /* a block without an end: the verifier refuses it */
}
