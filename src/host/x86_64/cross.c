/*
 * Accesses over two pages that the soft TLB has both: a load reads a copy (env->bounce); for a
 * store, the store instruction that generated code is about to do is looked at, its value goes to
 * the two pages, and the instruction itself then writes to the copy, where it does no harm. A
 * read-modify-write is computed here, too; the instruction then does it once more with a copy of
 * what was there before, for its flags and the old value.
 *
 * This file is compiled without vector registers: the guest's stay where they are.
 *
 * Does not do: stores in other forms than those of one instruction (locked ones, shifts of memory,
 * parts of vectors), pages that are not in the soft TLB: those go the way of every miss.
 */
#include "host/x86_64/ctx.h"

#define REX_B 1
#define REX_X 2
#define REX_R 4
#define REX_W 8

/* At any address. */
typedef uint64_t any64 __attribute__((aligned(1), may_alias));
typedef uint32_t any32 __attribute__((aligned(1), may_alias));
typedef uint16_t any16 __attribute__((aligned(1), may_alias));

/* What a store makes of the bytes that were there: numbers as in opcodes, and those behind. */
enum change { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, NEG, SET };

/* A store as far as it was read: its operand is `reg`, or `value` if `imm`. */
struct form {
    unsigned size, reg;
    enum change change;
    bool imm, vector;
    unsigned imm_bytes; /* of `value`, that are in the instruction */
    uint64_t value;
};

static uint64_t part_of(const uint8_t *p, unsigned n)
{
    switch (n) {
    case 8: return *(const any64 *)(const void *)p;
    case 4: return *(const any32 *)(const void *)p;
    case 2: return *(const any16 *)(const void *)p;
    default: return *p;
    }
}

static void copy(uint8_t *to, const uint8_t *from, unsigned n)
{
    for (; n >= 8; n -= 8, to += 8, from += 8) {
        *(any64 *)(void *)to = part_of(from, 8);
    }
    if (n & 4) {
        *(any32 *)(void *)to = (uint32_t)part_of(from, 4);
        to += 4, from += 4;
    }
    if (n & 2) {
        *(any16 *)(void *)to = (uint16_t)part_of(from, 2);
        to += 2, from += 2;
    }
    if (n & 1) {
        *to = *from;
    }
}

/* ModRM with base register regs & 15 or index register regs >> 8. What follows it, or NULL when it
 * is something else. */
static const uint8_t *behind_modrm(const uint8_t *p, unsigned rex, unsigned regs)
{
    unsigned mod = *p >> 6, rm = *p & 7;
    bool sib = rm == 4;
    unsigned base = (sib ? p[1] & 7u : rm) | (rex & REX_B) << 3;
    unsigned index = sib ? (p[1] >> 3 & 7u) | (rex & REX_X) << 2 : 4;
    if (mod == 3 || (base != (regs & 15) && index != regs >> 8)) {
        return NULL;
    }
    return p + 1 + sib + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static void immediate(struct form *f, unsigned bytes, uint64_t value)
{
    f->imm = true;
    f->imm_bytes = bytes;
    f->value = value;
}

/* Opcodes whose number goes on in ModRM's field. */
static bool read_unary(struct form *f, uint8_t opcode, unsigned field)
{
    immediate(f, 0, 1);
    if (opcode >= 0xfe) { /* INC DEC */
        f->change = field ? SUB : ADD;
        return field <= 1;
    }
    if (field == 2) { /* NOT */
        f->change = XOR;
        f->value = ~0ull;
        return true;
    }
    f->change = NEG;
    return field == 3;
}

/* MOV and the ALU's instructions, from a register or an immediate. */
static bool read_integer(struct form *f, uint8_t opcode, unsigned field, unsigned rex, bool p66)
{
    f->size = !(opcode & 1) ? 1 : rex & REX_W ? 8 : p66 ? 2 : 4;
    unsigned whole = f->size == 8 ? 4 : f->size;
    switch (opcode) {
    case 0x88:
    case 0x89: return true;
    case 0xc6:
    case 0xc7: immediate(f, whole, 0); return true;
    case 0x80:
    case 0x81:
    case 0x83:
        immediate(f, opcode == 0x83 ? 1 : whole, 0);
        f->change = (enum change)field;
        return field != CMP;
    case 0xf6:
    case 0xf7:
    case 0xfe:
    case 0xff: return read_unary(f, opcode, field);
    default: f->change = (enum change)(opcode >> 3); return !(opcode & 6) && opcode < CMP << 3;
    }
}

static bool read_xadd(struct form *f, uint8_t opcode, unsigned rex, bool p66)
{
    f->change = ADD;
    f->size = !(opcode & 1) ? 1 : rex & REX_W ? 8 : p66 ? 2 : 4;
    return true;
}

/* Stores of whole vectors, and of one element at the bottom; pp: 0 none, 1 66, 2 F3, 3 F2. */
static bool read_vector(struct form *f, uint8_t opcode, unsigned pp, bool wide)
{
    unsigned whole = wide ? 32 : 16;
    f->vector = true;
    if (opcode == 0x11) { /* MOVUPS MOVUPD MOVSS MOVSD */
        f->size = pp == 2 ? 4 : pp == 3 ? 8 : whole;
        return true;
    }
    if (opcode == 0xd6 && pp == 1) { /* MOVQ */
        f->size = 8;
        return true;
    }
    f->size = whole;
    return opcode == 0x7f && pp == 2; /* MOVDQU */
}

/* An instruction that stores at the address in `regs`. */
static bool read_store(const uint8_t *p, unsigned regs, struct form *f)
{
    unsigned rex = 0, pp = 0;
    f->change = SET;
    bool wide = false, vex = *p == 0xc4 || *p == 0xc5;
    if (*p == 0xc5) {
        rex = p[1] & 0x80 ? 0 : REX_R;
    } else if (*p == 0xc4) {
        rex = (p[1] & 0x80 ? 0 : REX_R) | (p[1] & 0x40 ? 0 : REX_X) | (p[1] & 0x20 ? 0 : REX_B);
        if ((p[1] & 31) != 1) {
            return false;
        }
        p++;
    }
    if (vex) {
        pp = p[1] & 3;
        wide = p[1] & 4;
        p += 2;
    } else {
        if (*p == 0x66 || *p == 0xf3 || *p == 0xf2) {
            pp = *p == 0x66 ? 1 : *p == 0xf3 ? 2 : 3;
            p++;
        }
        rex = (*p & 0xf0) == 0x40 ? *p++ : 0;
    }
    bool vector = vex || *p == 0x0f, xadd = false;
    if (vector && !vex) {
        p++;
        xadd = (*p & 0xfe) == 0xc0;
        vector = !xadd;
    }
    unsigned field = p[1] >> 3 & 7;
    bool known = xadd     ? read_xadd(f, *p, rex, pp == 1)
                 : vector ? read_vector(f, *p, pp, wide)
                          : read_integer(f, *p, field, rex, pp == 1);
    f->reg = field | (rex & REX_R) << 1;
    if (!vector && f->size == 1 && !f->imm && !rex && f->reg >= 4) {
        return false; /* AH and its like */
    }
    const uint8_t *imm = behind_modrm(p + 1, rex, regs);
    if (imm && f->imm_bytes) {
        unsigned unused = 64 - 8 * f->imm_bytes;
        f->value = (uint64_t)((int64_t)(part_of(imm, f->imm_bytes) << unused) >> unused);
    }
    return known && imm;
}

/* bt [env->flags], 8: the carry of an ADC or SBB */
static bool is_carry(const uint8_t *p)
{
    return p[0] == 0x41 && p[1] == 0x0f && p[2] == 0xba && p[3] == 0x67 &&
           p[4] == offsetof(struct rt_env, flags) - RT_BIAS && p[5] == 8;
}

static uint64_t changed(const struct rt_env *env, enum change how, uint64_t old, uint64_t x)
{
    unsigned carry = env->flags >> 8 & 1;
    switch (how) {
    case ADD: return old + x;
    case OR: return old | x;
    case ADC: return old + x + carry;
    case SBB: return old - x - carry;
    case AND: return old & x;
    case SUB: return old - x;
    case XOR: return old ^ x;
    case NEG: return 0 - old;
    default: return x;
    }
}

/* The store that generated code is about to do. */
static bool read_form(const struct rt_env *env, const uint8_t *p, unsigned size, unsigned regs,
                      struct form *f)
{
    if (*p == 0xe9) { /* from cold code back */
        p += 5 + (int32_t)part_of(p + 1, 4);
    }
    bool carry = is_carry(p);
    if (!read_store(p + (carry ? 6 : 0), regs, f) || f->size != size ||
        (f->vector && !env->fp_live) || carry != (f->change == ADC || f->change == SBB)) {
        return false;
    }
    return true;
}

/* And its operand: vectors to env->bounce. */
static bool take_form(struct rt_env *env, const uint8_t *p, unsigned size, unsigned regs,
                      struct form *f)
{
    const struct ir_host_ctx *c = env->host;
    if (!read_form(env, p, size, regs, f)) {
        return false;
    }
    if (f->vector) {
        c->spill[f->reg](env);
    } else if (!f->imm) {
        f->value = *(const any64 *)(const void *)((const char *)env + c->kept_at[f->reg]);
    }
    return true;
}

/* The bytes at `a` and, from `left` on, at `b`: their new value there, the old one in env->bounce.
 */
static void update(struct rt_env *env, const struct form *f, uint8_t *a, uint8_t *b, unsigned left)
{
    uint64_t new = f->value;
    if (f->change != SET) {
        copy(env->bounce, a, left);
        copy(env->bounce + left, b, f->size - left);
        new = changed(env, f->change, part_of(env->bounce, f->size), f->value);
    }
    const uint8_t *from = f->vector ? env->bounce : (const uint8_t *)&new;
    copy(a, from, left);
    copy(b, from + left, f->size - left);
}

bool cross_stored(const struct rt_env *env, unsigned size, struct ir_stored *from)
{
    struct form f = {0};
    const uint8_t *ret = (const uint8_t *)(uintptr_t)env->asked;
    if (!read_form(env, ret, size, env->asked_regs, &f) || f.change != SET || f.vector) {
        return false;
    }
    *from = (struct ir_stored){f.imm, f.imm ? 0 : env->host->kept_at[f.reg], f.value};
    return true;
}

bool cross_access(struct rt_env *env, uint64_t va, unsigned what, const uint8_t *ret, unsigned regs)
{
    unsigned size = what >> 2, left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1));
    const struct rt_tlb_entry *a = rt_tlb_slot(env, env->mmu_idx, va);
    const struct rt_tlb_entry *b = rt_tlb_slot(env, env->mmu_idx, va + left);
    bool write = (what & 3) == RT_WRITE;
    uint64_t tag_a = write ? a->tag_w : a->tag_r, tag_b = write ? b->tag_w : b->tag_r;
    if ((va ^ tag_a) >= RT_PAGE_SIZE || va + left != tag_b || size > sizeof(env->bounce) ||
        (what & 3) == (RT_READ | RT_WRITE)) {
        return false;
    }
    uint8_t *first = (uint8_t *)(uintptr_t)a->host + (RT_PAGE_SIZE - left);
    uint8_t *second = (uint8_t *)(uintptr_t)b->host;
    if (!write) {
        copy(env->bounce, first, left);
        copy(env->bounce + left, second, size - left);
        return true;
    }
    struct form f = {0};
    if (!take_form(env, ret, size, regs, &f)) {
        return false;
    }
    update(env, &f, first, second, left);
    return true;
}
