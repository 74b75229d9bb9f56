/*
 * Accesses over two pages that the soft TLB has both: a load reads a copy (env->bounce); for a
 * store, the store instruction that generated code is about to do is looked at, its value goes to
 * the two pages, and the instruction itself then writes to the copy, where it does no harm.
 *
 * This file is compiled without vector registers: the guest's stay where they are.
 *
 * Does not do: stores in other forms than those of a plain store (read-modify-write, parts of
 * vectors), pages that are not in the soft TLB: those go the way of every miss.
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

/* A store as far as it was read: from `reg`, or an immediate. */
struct form {
    unsigned size, reg;
    bool imm, vector;
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

/* MOV from a register or an immediate. */
static bool read_integer(struct form *f, uint8_t opcode, unsigned rex, bool p66)
{
    f->imm = opcode >= 0xc6;
    f->size = !(opcode & 1) ? 1 : rex & REX_W ? 8 : p66 ? 2 : 4;
    return opcode == 0x88 || opcode == 0x89 || opcode == 0xc6 || opcode == 0xc7;
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

/* From the opcode on. The operand's bytes, if an immediate, are behind ModRM: *imm. */
static bool read_store(const uint8_t *p, unsigned regs, struct form *f, const uint8_t **imm)
{
    unsigned rex = 0, pp = 0;
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
    bool vector = vex || *p == 0x0f;
    p += vector && !vex;
    bool known = vector ? read_vector(f, *p, pp, wide) : read_integer(f, *p, rex, pp == 1);
    f->reg = (p[1] >> 3 & 7) | (rex & REX_R) << 1;
    if (!vector && f->size == 1 && !f->imm && !rex && f->reg >= 4) {
        return false; /* AH and its like */
    }
    *imm = behind_modrm(p + 1, rex, regs);
    return known && *imm;
}

/* The value that the instruction at p is about to store, in env->bounce. */
static bool take_value(struct rt_env *env, const uint8_t *p, unsigned size, unsigned regs)
{
    const struct ir_host_ctx *c = env->host;
    struct form f = {0};
    const uint8_t *imm;
    if (*p == 0xe9) { /* from cold code back */
        p += 5 + (int32_t)part_of(p + 1, 4);
    }
    if (!read_store(p, regs, &f, &imm) || f.size != size || (f.vector && !env->fp_live)) {
        return false;
    }
    if (f.vector) {
        c->spill[f.reg](env);
        return true;
    }
    any64 *to = (any64 *)(void *)env->bounce;
    if (!f.imm) {
        *to = *(const any64 *)(const void *)((const char *)env + c->kept_at[f.reg]);
    } else {
        *to = size == 8 ? (uint64_t)(int64_t)(int32_t)part_of(imm, 4) : part_of(imm, size);
    }
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
    if (!take_value(env, ret, size, regs)) {
        return false;
    }
    copy(first, env->bounce, left);
    copy(second, env->bounce + left, size - left);
    return true;
}
