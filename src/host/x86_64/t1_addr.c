/*
 * T1: from a guest address to host memory. Compact code calls a stub that does it all. A warm block
 * looks the page up inline, in one of four ways that t1_plan.c chose for each access; what is not
 * found goes through a cold stub.
 */
#include "host/x86_64/t1.h"

static unsigned kind_here(const struct t1 *t)
{
    const struct access *a = &t->plan.access[t->i];
    return !t->warm ? ACCESS_TABLE : t->strip_top ? a->strip_kind : a->kind;
}

/* Two temporaries, those of dying address parts if possible. */
static void address_temps(struct t1 *t, const struct ir_op *op, ir_ref a, ir_ref b,
                          unsigned temps[2])
{
    bool a_free = a != IR_NONE && a != op->c && !(op->op == IR_cmpxchg && a == op->d);
    bool b_free = b != IR_NONE && b != a && b != op->c && !(op->op == IR_cmpxchg && b == op->d);
    unsigned n = 0;
    if (a_free && t1_steal(t, a, &temps[n])) {
        n++;
    }
    if (b_free && t1_steal(t, b, &temps[n])) {
        n++;
    }
    while (n < 2) {
        temps[n++] = t1_temp(t);
    }
}

int64_t t1_fold(const struct t1 *t, const struct ir_op *op, ir_ref *a, ir_ref *b)
{
    uint64_t k;
    int32_t disp = op->op == IR_hostvec ? t->b->vec[op->imm].disp : op->imm;
    uint64_t sum = (uint64_t)(int64_t)disp;
    *a = op->a;
    *b = op->b;
    if (t1_number(t, *a, &k)) {
        sum += k;
        *a = IR_NONE;
    }
    if (t1_const(t, *b, &k)) {
        sum += k << (op->aux & IR_AUX_SCALE);
        *b = IR_NONE;
    }
    if (*a != IR_NONE && t->v[*a].loc == L_SUM) {
        sum += (uint64_t)t->sum[*a].disp;
        *a = t->sum[*a].base;
    }
    return (int64_t)sum;
}

/* Register of an address part; one that is in memory is loaded into a temporary not in use. */
static unsigned part(struct t1 *t, ir_ref v, const unsigned temps[2], unsigned *used)
{
    if (v == IR_NONE) {
        return X_NONE;
    }
    struct x_rm m = t1_rm(t, v);
    if (!m.mem) {
        *used |= m.reg == temps[0] ? 1 : m.reg == temps[1] ? 2 : 0;
        return m.reg;
    }
    unsigned k = *used & 1;
    x_mov_r_rm(&t->hot, IR_I64, temps[k], m);
    if (t->v[v].loc == L_GUEST) {
        t1_note(t, 1, KNOWS_GUEST + t->v[v].reg, temps[k]);
    }
    *used |= 1u << k;
    return temps[k];
}

static bool in_memory(const struct t1 *t, ir_ref v)
{
    const struct val *x = &t->v[v];
    bool guest = x->loc == L_GUEST && t->c->pin[x->reg] == X_NONE;
    for (unsigned k = 0; guest && k < NTEMPS; k++) {
        guest = t->knows[k] != KNOWS_GUEST + x->reg;
    }
    return x->loc == L_SLOT || guest;
}

/* A constant address; does it move with the block? */
static void mov_address(struct t1 *t, struct enc *e, unsigned reg, uint64_t va, bool moves)
{
    if (moves) {
        t1_mov_pc(t, e, reg, va);
    } else {
        x_mov_r_i64(e, reg, va);
    }
}

/* The access' address as a memory operand of registers, perhaps temporaries, and a displacement. */
static struct x_rm guest_operand(struct t1 *t, const struct ir_op *op, unsigned temps[2])
{
    ir_ref a, b;
    unsigned used = 0, ra, rb, scale = op->aux & IR_AUX_SCALE;
    int64_t sum = t1_fold(t, op, &a, &b);
    address_temps(t, op, a, b, temps);
    if (a != IR_NONE && b != IR_NONE && in_memory(t, a) && !in_memory(t, b)) {
        rb = part(t, b, temps, &used);
        ra = part(t, a, temps, &used);
    } else {
        ra = part(t, a, temps, &used);
        rb = part(t, b, temps, &used);
    }
    if (sum != (int32_t)sum) { /* then at most one part is not constant */
        unsigned k = used & 1;
        mov_address(t, &t->hot, temps[k], (uint64_t)sum, t1_moves(t, op->a));
        if (ra != X_NONE) {
            rb = ra;
            scale = 0;
        }
        ra = temps[k];
        sum = 0;
    } else {
        t->stays |= t1_moves(t, op->a);
    }
    return x_mx(ra, rb, scale, (int32_t)sum);
}

static void load_address(struct enc *e, unsigned reg, struct x_rm m)
{
    if (m.reg == X_NONE && m.index == X_NONE) {
        x_mov_r_i64(e, reg, (uint64_t)(int64_t)m.disp);
    } else if (m.index == X_NONE && m.disp == 0) {
        if (m.reg != reg) {
            x_mov_r_rm(e, IR_I64, reg, x_r(m.reg));
        }
    } else {
        x_lea(e, IR_I64, reg, m);
    }
}

/* A field of the current MMU index' part of env. */
static struct x_rm in_tlb(const struct t1 *t, unsigned index, size_t entry, size_t field)
{
    size_t off = offsetof(struct rt_env, tlb) +
                 (t->b->mode & 3) * sizeof(((struct rt_env *)0)->tlb[0]) +
                 entry * sizeof(struct rt_tlb_entry) + field;
    return x_mx(X_ENV, index, 0, (int32_t)off - RT_BIAS);
}

struct x_rm t1_in_line(const struct t1 *t, unsigned line, size_t field)
{
    return x_env(offsetof(struct rt_env, base) +
                 (t->b->mode & 3) * sizeof(((struct rt_env *)0)->base[0]) +
                 line * sizeof(struct rt_base) + field);
}

static size_t tag_field(unsigned access)
{
    return access & RT_WRITE ? offsetof(struct rt_tlb_entry, tag_w)
                             : offsetof(struct rt_tlb_entry, tag_r);
}

/* Behind the check: if the host faults on what follows, it is this access. */
static struct x_rm found(struct t1 *t, struct x_rm m)
{
    t1_site(t, false);
    return m;
}

static struct x_rm by_probe(struct t1 *t, struct x_rm ea, const unsigned temps[2], unsigned bits,
                            unsigned access)
{
    load_address(&t->hot, temps[0], ea);
    x_patch(x_call(&t->hot), t->c->probe[t->b->mode & 3][(access & RT_WRITE) != 0][bits]
                                        [t1_temp_index(temps[0])][t1_temp_index(temps[1])]);
    return found(t, x_m(temps[0], 0));
}

static struct x_rm by_table(struct t1 *t, struct x_rm ea, const unsigned temps[2], unsigned size,
                            unsigned access)
{
    struct enc *e = &t->hot, *cold = &t->cold;
    load_address(&t->hot, temps[0], ea);
    tlb_check(t->c, e, temps[0], temps[1], in_tlb(t, temps[1], 0, tag_field(access)), size);
    uint8_t *miss = x_jcc(e, IR_CC_A);
    x_mov_r_rm(e, IR_I64, temps[1], in_tlb(t, temps[1], 0, offsetof(struct rt_tlb_entry, host)));
    x_patch_here(cold, miss);
    x_push_i8(cold, (int8_t)(size << 2 | access));
    x_patch(x_call(cold), t->c->miss[t->b->mode & 3][(access & RT_WRITE) != 0]
                                    [t1_temp_index(temps[0])][t1_temp_index(temps[1])]);
    t1_site(t, true);
    x_patch(x_jmp(cold), e->p);
    return x_mx(temps[0], temps[1], 0, 0);
}

static void note_entry(struct t1 *t, size_t entry, bool moves)
{
    if (moves) {
        t1_moves_entry(t, &t->hot, entry);
    }
}

/* The entry's place is known, and that the access does not cross. */
static struct x_rm by_constant(struct t1 *t, uint64_t va, const unsigned temps[2], unsigned size,
                               unsigned access, bool moves)
{
    struct enc *e = &t->hot, *cold = &t->cold;
    uint64_t page = va & ~(uint64_t)(RT_PAGE_SIZE - 1);
    int32_t in_page = (int32_t)(va & (RT_PAGE_SIZE - 1));
    size_t entry = va >> RT_PAGE_BITS & (RT_TLB_SIZE - 1);
    struct x_rm tag = in_tlb(t, X_NONE, entry, tag_field(access));
    if (page == (uint64_t)(int64_t)(int32_t)page) {
        t->stays |= moves;
        x_alu_rm_i(e, X_CMP, IR_I64, tag, (int32_t)page);
    } else {
        mov_address(t, e, temps[1], page, moves);
        x_alu_rm_r(e, X_CMP, IR_I64, tag, temps[1]);
    }
    note_entry(t, entry, moves);
    uint8_t *miss = x_jcc(e, IR_CC_NE);
    x_mov_r_rm(e, IR_I64, temps[1], in_tlb(t, X_NONE, entry, offsetof(struct rt_tlb_entry, host)));
    note_entry(t, entry, moves);
    x_patch_here(cold, miss);
    mov_address(t, cold, temps[0], va, moves);
    x_push_i8(cold, (int8_t)(size << 2 | access));
    x_patch(x_call(cold), t->c->miss_at[t1_temp_index(temps[0])][t1_temp_index(temps[1])]);
    t1_site(t, true);
    x_lea(cold, IR_I64, temps[1], x_m(temps[0], -in_page));
    x_patch(x_jmp(cold), e->p);
    return x_m(temps[1], in_page);
}

/* The parameter of emit_base_miss(). */
static uint32_t packed(const struct t1 *t, const struct access *a)
{
    bool counts = a->line < RT_BASES && !a->in_stream && !(t->hints.settled >> a->bit & 1);
    return a->line | (uint32_t)(a->off - a->lo) << PARAM_K_SHIFT |
           (uint32_t)a->span << PARAM_SPAN_SHIFT | (uint32_t)a->size << PARAM_SIZE_SHIFT |
           (a->group ? PARAM_GROUP : 0) | (a->stores && !a->write ? PARAM_READ : 0) |
           (counts ? 0 : (uint32_t)PARAM_QUIET);
}

static void call_base_miss(struct t1 *t, bool cold, const unsigned temps[2], const struct access *a,
                           bool write)
{
    struct enc *e = cold ? &t->cold : &t->hot;
    x_push_i32(e, (int32_t)packed(t, a));
    x_patch(
        x_call(e),
        t->c->base_miss[t->b->mode & 3][write][t1_temp_index(temps[0])][t1_temp_index(temps[1])]);
    t1_site(t, cold);
}

/* Counts a look-up through a line, or that it missed. */
static void count(struct t1 *t, bool cold, const struct access *a, size_t field)
{
    if (!t->hints.probe || a->in_stream || a->line >= RT_BASES) {
        return;
    }
    size_t probe = offsetof(struct rt_env, probe) +
                   (t->hints.probe - 1u) * sizeof(((struct rt_env *)0)->probe[0]);
    x_incdec_rm(cold ? &t->cold : &t->hot, false, IR_I32,
                x_env(probe + a->bit * sizeof(struct rt_probe) + field));
}

/* An address of one register, which stays as it is: it need not be in temps[0] but for the stub. */
static bool one_register(const struct t1 *t, struct x_rm ea, const unsigned temps[2])
{
    return !t->low_bits && ea.index == X_NONE && ea.reg != X_NONE && ea.reg != temps[1] &&
           (ea.reg != temps[0] || ea.disp != INT32_MIN);
}

static struct x_rm by_line(struct t1 *t, struct x_rm ea, const unsigned temps[2],
                           const struct access *a, unsigned access)
{
    struct enc *e = &t->hot, *cold = &t->cold;
    bool write = (access & RT_WRITE) || a->stores;
    int32_t k = a->off - a->lo;
    size_t tag = write ? offsetof(struct rt_base, tag_w) : offsetof(struct rt_base, tag_r);
    bool one = one_register(t, ea, temps);
    struct x_rm lowest = ea;
    lowest.disp -= k;
    count(t, false, a, offsetof(struct rt_probe, runs));
    load_address(e, temps[!one ? 0 : 1], lowest);
    if (!one) {
        x_mov_r_rm(e, IR_I64, temps[1], x_r(temps[0]));
        t->note[1] = 0;
    }
    x_alu_r_rm(e, X_XOR, IR_I64, temps[1], t1_in_line(t, a->line, tag));
    x_alu_rm_i(e, X_CMP, IR_I64, x_r(temps[1]), (int32_t)(RT_PAGE_SIZE - a->span));
    uint8_t *miss = x_jcc(e, IR_CC_A);
    x_mov_r_rm(e, IR_I64, temps[1], t1_in_line(t, a->line, offsetof(struct rt_base, delta)));
    x_patch_here(cold, miss);
    count(t, true, a, offsetof(struct rt_probe, misses));
    if (one) {
        load_address(cold, temps[0], lowest);
    }
    call_base_miss(t, true, temps, a, write);
    if (one && ea.reg == temps[0]) { /* as it was */
        load_address(cold, temps[0], x_m(temps[0], -lowest.disp));
    }
    x_patch(x_jmp(cold), e->p);
    t1_forget(t, a->line + 1u);
    if (a->group) {
        t1_note(t, 0, a->line + 1u, temps[1]);
    }
    if (one) {
        return found(t, x_mx(ea.reg, temps[1], 0, ea.disp));
    }
    if (t->low_bits && k) {
        load_address(e, temps[0], x_m(temps[0], k));
        k = 0;
    }
    return found(t, x_mx(temps[0], temps[1], 0, k));
}

static unsigned line_here(const struct t1 *t, const struct access *a)
{
    return t->strip_top ? a->strip_line : a->line;
}

/* The access, k bytes behind the host address in `reg`, whose low bits are looked at if it must be
 * aligned. */
static struct x_rm at_distance(struct t1 *t, unsigned reg, int32_t k)
{
    if (t->low_bits && k) {
        x_lea(&t->hot, IR_I64, reg, x_m(reg, k));
        k = 0;
    }
    return found(t, x_m(reg, k));
}

/* Through the soft TLB; delta of the group's line is set for the members. */
static struct x_rm by_leader(struct t1 *t, struct x_rm ea, const unsigned temps[2],
                             const struct access *a, unsigned access, const struct ir_op *op)
{
    ir_ref x, y;
    t1_fold(t, op, &x, &y);
    x = x != IR_NONE ? x : y;
    struct enc *e = &t->hot, *cold = &t->cold;
    bool write = (access & RT_WRITE) || a->stores;
    size_t tag = tag_field(write ? RT_WRITE : RT_READ);
    int32_t k = a->off - a->lo;
    ea.disp -= k;
    load_address(&t->hot, temps[0], ea);
    t1_forget(t, a->line + 1u);
    t1_note(t, 0, a->line + 1u, temps[1]);
    if (t->v[x].loc != L_GUEST) { /* in a temporary, which may have been taken */
        call_base_miss(t, false, temps, a, write);
        x_alu_r_rm(e, X_ADD, IR_I64, temps[0], x_r(temps[1]));
        return at_distance(t, temps[0], k);
    }
    struct x_rm base = t1_rm(t, x);
    tlb_check(t->c, e, temps[0], temps[1], in_tlb(t, temps[1], 0, tag), a->span);
    uint8_t *miss = x_jcc(e, IR_CC_A);
    x_patch_here(cold, miss);
    x_alu_r_rm(cold, X_XOR, IR_I64, temps[0], in_tlb(t, temps[1], 0, tag));
    x_alu_r_rm(e, X_ADD, IR_I64, temps[0],
               in_tlb(t, temps[1], 0, offsetof(struct rt_tlb_entry, host)));
    x_lea(e, IR_I64, temps[1], x_m(temps[0], -ea.disp));
    x_alu_r_rm(e, X_SUB, IR_I64, temps[1], base);
    x_mov_rm_r(e, IR_I64, t1_in_line(t, a->line, offsetof(struct rt_base, delta)), temps[1]);
    call_base_miss(t, true, temps, a, write);
    x_alu_r_rm(cold, X_ADD, IR_I64, temps[0], x_r(temps[1]));
    x_patch(x_jmp(cold), e->p);
    return at_distance(t, temps[0], k);
}

/* The delta of the access' line: the temporary that has it, else temps[1]. */
static unsigned delta(struct t1 *t, const struct access *a, const unsigned temps[2])
{
    unsigned line = line_here(t, a), reg = t1_known(t, line + 1);
    if (reg == X_NONE) {
        reg = temps[1];
        x_mov_r_rm(&t->hot, IR_I64, reg, t1_in_line(t, line, offsetof(struct rt_base, delta)));
        t1_note(t, 0, line + 1, reg);
    }
    return reg;
}

/* Flags stay. */
static struct x_rm by_group(struct t1 *t, struct x_rm ea, const unsigned temps[2],
                            const struct access *a)
{
    unsigned reg = ea.reg != X_NONE ? ea.reg : ea.index;
    if (t->low_bits) {
        load_address(&t->hot, temps[0], ea);
        reg = temps[0];
        ea.disp = 0;
        t->note[1] = 0;
    }
    return found(t, x_mx(reg, delta(t, a, temps), 0, ea.disp));
}

static bool has_probe(unsigned size)
{
    return size && !(size & (size - 1)) && size < 1u << PROBE_SIZES;
}

/* Flags stay. */
static struct x_rm by_stream(struct t1 *t, struct x_rm ea, const unsigned temps[2],
                             const struct access *a)
{
    load_address(&t->hot, temps[0], ea);
    return found(t, x_mx(temps[0], delta(t, a, temps), 0, 0));
}

bool t1_member(struct t1 *t, const struct ir_op *op, struct x_rm *m)
{
    const struct access *a = &t->plan.access[t->i];
    ir_ref x, y;
    int64_t sum = t1_fold(t, op, &x, &y);
    x = x != IR_NONE ? x : y;
    if (kind_here(t) != ACCESS_MEMBER || t->low_bits || (op->a != IR_NONE && op->b != IR_NONE) ||
        x == IR_NONE || in_memory(t, x) || sum != (int32_t)sum) {
        return false;
    }
    unsigned reg = t1_known(t, line_here(t, a) + 1);
    if (reg == X_NONE) {
        return false;
    }
    *m = x_mx(t1_rm(t, x).reg, reg, 0, (int32_t)sum);
    return true;
}

bool t1_keeps_flags(const struct t1 *t)
{
    unsigned kind = kind_here(t);
    return kind == ACCESS_MEMBER || kind == ACCESS_STREAM;
}

struct x_rm t1_address(struct t1 *t, const struct ir_op *op, unsigned size, unsigned access,
                       unsigned temps[2])
{
    const struct access *a = &t->plan.access[t->i];
    unsigned kind = kind_here(t);
    t->note[0] = t->note[1] = 0;
    if (!t1_keeps_flags(t)) {
        t1_clobber(t, true);
    }
    if (kind == ACCESS_CONST) {
        ir_ref x, y;
        uint64_t va = (uint64_t)t1_fold(t, op, &x, &y);
        address_temps(t, op, IR_NONE, IR_NONE, temps);
        if (t->low_bits) {
            mov_address(t, &t->hot, temps[0], va, t1_moves(t, op->a));
        }
        return by_constant(t, va, temps, size, access, t1_moves(t, op->a));
    }
    struct x_rm ea = guest_operand(t, op, temps);
    if (t->fail) {
        return x_r(X_RAX);
    }
    if (ea.index == X_NONE && ea.reg == temps[1]) {
        temps[1] = temps[0];
        temps[0] = ea.reg;
    }
    if (kind != ACCESS_MEMBER && kind != ACCESS_BASE) {
        t->note[1] = 0; /* it is computed with */
    }
    switch (kind) {
    case ACCESS_MEMBER: return by_group(t, ea, temps, a);
    case ACCESS_STREAM: return by_stream(t, ea, temps, a);
    case ACCESS_BASE: return by_line(t, ea, temps, a, access);
    case ACCESS_LEADER:
        return a->group ? by_leader(t, ea, temps, a, access, op)
                        : by_table(t, ea, temps, size, access);
    default:
        return !t->warm && has_probe(size)
                   ? by_probe(t, ea, temps, (unsigned)__builtin_ctz(size), access)
                   : by_table(t, ea, temps, size, access);
    }
}
