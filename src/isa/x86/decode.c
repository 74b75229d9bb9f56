/*
 * x86 decoder: prefixes, then one table walk to the form, then its operands.
 *
 * The bytes are read without bounds checks: x86_decode gives a copy with room behind it when the
 * caller has less than the longest thing the decoder may read, and compares at the end.
 */
#include "isa/x86/decode.h"

#include "base/bits.h"
#include "isa/x86/table.h"
#include <string.h>

/* The way of most instructions is one function for each kind of code, with the rest out of it. */
#define HOT static inline __attribute__((always_inline))
#define COLD static __attribute__((noinline))
#define READ_AHEAD 40 /* 15 prefixes and everything that can follow them */

enum prefix {
    P_NONE,
    P_SEG, /* es cs ss ds, ignored in 64-bit mode */
    P_FSGS,
    P_66,
    P_67,
    P_LOCK,
    P_REP,
    P_REX,
};

static const uint8_t prefixes[256] = {
    [0x26] = P_SEG,  [0x2e] = P_SEG, [0x36] = P_SEG, [0x3e] = P_SEG,  [0x64] = P_FSGS,
    [0x65] = P_FSGS, [0x66] = P_66,  [0x67] = P_67,  [0xf0] = P_LOCK, [0xf2] = P_REP,
    [0xf3] = P_REP,  [0x40] = P_REX, [0x41] = P_REX, [0x42] = P_REX,  [0x43] = P_REX,
    [0x44] = P_REX,  [0x45] = P_REX, [0x46] = P_REX, [0x47] = P_REX,  [0x48] = P_REX,
    [0x49] = P_REX,  [0x4a] = P_REX, [0x4b] = P_REX, [0x4c] = P_REX,  [0x4d] = P_REX,
    [0x4e] = P_REX,  [0x4f] = P_REX,
};

/*
 * Decoding in progress, what the caller need not see. The one of decode_padded() is to stay in
 * registers: what is not inline there gets the address of a copy.
 */
struct decoder {
    const uint8_t *p; /* next byte */
    uint8_t rex;      /* REX, or the same bits of a VEX prefix: W R X B from bit 3 down */
    uint8_t prefix;   /* mandatory prefix: 0 none, 1 66, 2 f3, 3 f2 */
    bool peeked;      /* *p was looked at as the ModRM byte */
    bool p67;
    const uint8_t *sizes;
};

enum { B_BIT = 1, X_BIT = 2, R_BIT = 4, W_BIT = 8 };

static uint16_t read16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static int32_t read32(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

static int64_t read64(const uint8_t *p)
{
    int64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* False: fifteen bytes and no opcode. */
COLD bool take_all_prefixes(struct decoder *d, struct x86_insn *insn)
{
    const uint8_t *end = d->p + X86_MAX_LEN;
    while (d->p < end) {
        uint8_t byte = *d->p;
        uint8_t kind = prefixes[byte];
        if (kind == P_NONE || (kind == P_REX && insn->mode != 8)) {
            return true;
        }
        d->p++;
        if (kind == P_REX) {
            d->rex = byte;
            continue;
        }
        d->rex = 0; /* only a REX directly before the opcode counts */
        switch (kind) {
        case P_SEG:
            if (insn->mode != 8) {
                insn->seg = byte >> 3 & 3;
            }
            break;
        case P_FSGS: insn->seg = X86_SEG_FS + (byte & 1); break;
        case P_66: insn->p66 = true; break;
        case P_67: d->p67 = true; break;
        case P_LOCK: insn->lock = true; break;
        case P_REP: insn->rep = byte; break;
        }
    }
    return false;
}

/* The same. Most instructions have none, or REX. */
HOT bool take_prefixes(struct decoder *d, struct x86_insn *insn, unsigned mode)
{
    unsigned first = *d->p;
    bool rex = mode == 8 && (first & 0xf0) == 0x40;
    if (prefixes[d->p[rex]] != P_NONE) {
        struct decoder copy = *d;
        bool ok = take_all_prefixes(&copy, insn);
        *d = copy;
        return ok;
    }
    d->rex = rex ? first : 0;
    d->p += rex;
    return true;
}

/* c4 and c5 behind the opcode position; p is at the byte after it. False: #UD. */
COLD bool take_vex(struct decoder *d, struct x86_insn *insn)
{
    bool refused = insn->lock || insn->rep || insn->p66 || d->rex;
    uint8_t last;
    insn->vex = true;
    if (insn->opcode == 0xc5) {
        last = *d->p++;
        insn->map = 1;
        d->rex = last & 0x80 ? 0 : R_BIT;
    } else {
        uint8_t first = *d->p++;
        last = *d->p++;
        insn->map = first & 31;
        d->rex = (first >> 5 ^ 7) | (last & 0x80 ? W_BIT : 0);
    }
    if (insn->mode != 8) {
        d->rex &= W_BIT;
    }
    insn->vvvv = (last >> 3 & 15) ^ 15;
    insn->vex_l = last >> 2 & 1;
    d->prefix = last & 3;
    insn->opcode = *d->p++;
    return !refused && insn->map >= 1 && insn->map <= 3;
}

/* Escapes, VEX and the opcode. False: #UD. */
HOT bool take_opcode(struct decoder *d, struct x86_insn *insn, unsigned mode)
{
    unsigned opcode = *d->p++, map = 0;
    if (opcode == 0x0f) {
        map = 1;
        opcode = *d->p++;
        if (opcode == 0x38 || opcode == 0x3a) {
            map = opcode == 0x38 ? 2 : 3;
            opcode = *d->p++;
        }
    }
    insn->map = map;
    insn->opcode = opcode;
    if (map == 0 && (opcode & 0xfe) == 0xc4) {
        d->peeked = mode != 8;
        if (mode == 8 || *d->p >= 0xc0) {
            struct decoder copy = *d;
            copy.peeked = false;
            bool ok = take_vex(&copy, insn);
            *d = copy;
            return ok;
        }
    }
    /* 62 is bound outside 64-bit mode with a memory operand; else EVEX, which we do not have yet:
     * no row matches. */
    return true;
}

static inline unsigned answer(struct decoder *d, const struct x86_insn *insn, unsigned node)
{
    switch (node) {
    case X86_NODE_MODE64: return insn->mode == 8;
    case X86_NODE_REXB: return d->rex & B_BIT;
    case X86_NODE_PREFIX: return d->prefix;
    case X86_NODE_L: return insn->vex_l;
    case X86_NODE_W: return insn->rex_w;
    case X86_NODE_OSIZE: return insn->opsize >> 2;
    case X86_NODE_ASIZE: return insn->addrsize >> 2;
    }
    d->peeked = true;
    switch (node) {
    case X86_NODE_MOD: return *d->p >= 0xc0;
    case X86_NODE_REG: return *d->p >> 3 & 7;
    default: return *d->p & 7;
    }
}

/* From a node of the tree to the leaf, or 0. */
COLD unsigned walk_tree(struct decoder *d, const struct x86_insn *insn, unsigned at)
{
    while (at && !(at & X86_LEAF)) {
        at = x86_tree[at + 1 + answer(d, insn, x86_tree[at])];
    }
    return at;
}

/* The form, or NULL when there is none. */
HOT const struct x86_form *find_form(struct decoder *d, const struct x86_insn *insn)
{
    unsigned at = x86_roots[insn->map + (insn->vex ? 3 : 0)][insn->opcode];
    if (!(at & X86_LEAF)) {
        struct decoder copy = *d;
        at = walk_tree(&copy, insn, at);
        d->peeked = copy.peeked;
    }
    return at ? &x86_forms[at & ~X86_LEAF] : NULL;
}

/* Vol. 2A table 2-1: base and index of 16-bit addressing by r/m. */
static const uint8_t base16[8] = {3, 3, 5, 5, 6, 7, 5, 3};
static const uint8_t index16[8] = {6,           7, 6, 7, X86_REG_NONE, X86_REG_NONE, X86_REG_NONE,
                                   X86_REG_NONE};

COLD void take_mem16(struct decoder *d, struct x86_insn *insn)
{
    unsigned mod = insn->modrm >> 6;
    unsigned rm = insn->modrm & 7;
    insn->base = base16[rm];
    insn->index = index16[rm];
    if (mod == 0 && rm == 6) {
        insn->base = X86_REG_NONE;
        mod = 2;
    }
    if (mod == 1) {
        insn->disp = (int8_t)*d->p++;
    } else if (mod == 2) {
        insn->disp = (int16_t)read16(d->p);
        d->p += 2;
    }
}

/* Vol. 2A tables 2-2 and 2-3. */
HOT void take_mem32(struct decoder *d, struct x86_insn *insn, bool vsib, unsigned mode)
{
    static const uint8_t bytes[4] = {0, 1, 4};
    unsigned mod = insn->modrm >> 6;
    unsigned base = insn->modrm & 7;
    bool has_sib = base == 4;
    if (has_sib) {
        uint8_t sib = *d->p++;
        unsigned index = (sib >> 3 & 7) | (d->rex & X_BIT ? 8 : 0);
        base = sib & 7;
        insn->scale = sib >> 6;
        insn->index = index == 4 && !vsib ? X86_REG_NONE : index;
    }
    if (base == 5 && mod == 0) {
        insn->base = mode == 8 && !has_sib ? X86_REG_RIP : X86_REG_NONE;
        mod = 2;
    } else {
        insn->base = base | (d->rex & B_BIT ? 8 : 0);
    }
    int32_t disp = read32(d->p);
    insn->disp = mod == 2 ? disp : mod == 1 ? (int8_t)disp : 0;
    d->p += bytes[mod];
}

/* The ModRM byte and what hangs on it. False: #UD. */
HOT bool take_modrm(struct decoder *d, struct x86_insn *insn, unsigned flags, unsigned mode)
{
    unsigned modrm = *d->p++;
    insn->has_modrm = true;
    insn->modrm = modrm;
    if (modrm >= 0xc0 || flags & X86_FORM_MODANY) {
        return true;
    }
    if (flags & X86_FORM_VSIB && (insn->addrsize == 2 || (modrm & 7) != 4)) {
        return false;
    }
    if (mode != 8 && insn->addrsize == 2) {
        struct decoder copy = *d;
        take_mem16(&copy, insn);
        *d = copy;
    } else {
        take_mem32(d, insn, flags & X86_FORM_VSIB, mode);
    }
    if (insn->seg == X86_SEG_NONE && (insn->base & 0xfe) == 4) {
        insn->mem_seg = X86_SEG_SS;
    }
    return true;
}

/* Little endian, of 1 to 8 bytes. */
static int64_t read_bytes(const uint8_t *p, unsigned n, bool is_signed)
{
    uint64_t v = (uint64_t)read64(p) << (64 - 8 * n);
    return is_signed ? (int64_t)v >> (64 - 8 * n) : (int64_t)(v >> (64 - 8 * n));
}

static void take_imm(struct decoder *d, struct x86_insn *insn, struct x86_opnd *o, unsigned size)
{
    bool is_signed = size != X86_SIZE_B && size != X86_SIZE_W;
    unsigned n = size == X86_SIZE_W ? 2 : 1;
    if (size != X86_SIZE_B && size != X86_SIZE_BS && size != X86_SIZE_W) { /* v, z */
        n = size == X86_SIZE_V || insn->opsize < 4 ? insn->opsize : 4;
        o->size = insn->opsize;
    }
    int64_t value = read_bytes(d->p, n, is_signed);
    d->p += n;
    o->kind = X86_OPND_IMM;
    if (o > insn->opnd && o[-1].kind == X86_OPND_IMM) {
        insn->imm2 = value;
        insn->imm_len = 0;
    } else {
        insn->imm = value;
        insn->imm_len = n;
        insn->imm_signed = is_signed;
    }
}

static void take_rel(struct decoder *d, struct x86_insn *insn, unsigned size)
{
    if (size == X86_SIZE_B) {
        insn->imm = (int8_t)*d->p++;
    } else if (insn->opsize == 2) {
        insn->imm = (int16_t)read16(d->p);
        d->p += 2;
    } else {
        insn->imm = read32(d->p);
        d->p += 4;
    }
}

static void take_far(struct decoder *d, struct x86_insn *insn)
{
    if (insn->opsize == 2) {
        insn->imm = read16(d->p);
    } else {
        insn->imm = (uint32_t)read32(d->p);
    }
    d->p += insn->opsize == 2 ? 2 : 4;
    insn->imm2 = read16(d->p);
    d->p += 2;
}

static void take_moffs(struct decoder *d, struct x86_insn *insn)
{
    switch (insn->addrsize) {
    case 2: insn->imm = read16(d->p); break;
    case 4: insn->imm = (uint32_t)read32(d->p); break;
    default: insn->imm = read64(d->p);
    }
    d->p += insn->addrsize;
}

/* CR0, 2, 3, 4 and 8 exist; DR0 to 7. */
static bool set_special(struct x86_opnd *o, unsigned kind, unsigned reg)
{
    o->kind = kind;
    o->reg = reg;
    return kind == X86_OPND_CR ? reg < 9 && 0x11d >> reg & 1 : reg < 8;
}

/* A string operand. DS:rSI is the one insn describes when there are both. */
static void set_string(struct x86_insn *insn, struct x86_opnd *o, bool dest)
{
    o->kind = X86_OPND_MEM;
    o->reg = dest ? 7 : 6;
    if (!dest) {
        insn->base = 6;
        insn->mem_seg = insn->seg == X86_SEG_NONE ? X86_SEG_DS : insn->seg;
    } else if (insn->base == X86_REG_NONE) {
        insn->base = 7;
        insn->mem_seg = X86_SEG_ES;
    }
}

/* Operands that take more than a register number or a look at ModRM. False: #UD. */
COLD bool take_special(struct decoder *d, struct x86_insn *insn, struct x86_opnd *o,
                       const struct x86_code *code)
{
    unsigned reg = (insn->modrm >> 3 & 7) | (d->rex & R_BIT ? 8 : 0);
    switch (code->how) {
    case X86_HOW_I: take_imm(d, insn, o, code->size); return true;
    case X86_HOW_J:
        o->kind = X86_OPND_REL;
        take_rel(d, insn, code->size);
        return true;
    case X86_HOW_L:
        o->kind = X86_OPND_VEC;
        insn->imm = *d->p++;
        o->reg = insn->imm >> 4 & (insn->mode == 8 ? 15 : 7);
        return true;
    case X86_HOW_S:
        o->kind = X86_OPND_SEG;
        o->reg = reg & 7;
        return o->reg < 6 && (o != insn->opnd || o->reg != X86_SEG_CS);
    case X86_HOW_ONE:
        o->kind = X86_OPND_IMM;
        insn->imm = 1;
        return true;
    case X86_HOW_A:
        o->kind = X86_OPND_FAR;
        take_far(d, insn);
        return true;
    case X86_HOW_O:
        o->kind = X86_OPND_MOFFS;
        take_moffs(d, insn);
        return true;
    case X86_HOW_X:
    case X86_HOW_Y: set_string(insn, o, code->how == X86_HOW_Y); return true;
    case X86_HOW_C: return set_special(o, X86_OPND_CR, reg);
    case X86_HOW_D: return set_special(o, X86_OPND_DR, reg);
    }
    return false;
}

/* Where the numbers of the other operands come from. */
enum from { FROM_NONE, FROM_REG, FROM_RM, FROM_OPCODE, FROM_VVVV, FROM_CODE };
static const struct {
    uint8_t kind, from, mask;
    bool mem; /* or a memory operand, as ModRM says */
} simple[] = {
    [X86_HOW_E] = {X86_OPND_GPR, FROM_RM, 15, true},
    [X86_HOW_G] = {X86_OPND_GPR, FROM_REG, 15},
    [X86_HOW_R] = {X86_OPND_GPR, FROM_RM, 15},
    [X86_HOW_Z] = {X86_OPND_GPR, FROM_OPCODE, 15},
    [X86_HOW_B] = {X86_OPND_GPR, FROM_VVVV, 15},
    [X86_HOW_M] = {X86_OPND_MEM, FROM_NONE, 0},
    [X86_HOW_W] = {X86_OPND_VEC, FROM_RM, 15, true},
    [X86_HOW_U] = {X86_OPND_VEC, FROM_RM, 15},
    [X86_HOW_V] = {X86_OPND_VEC, FROM_REG, 15},
    [X86_HOW_H] = {X86_OPND_VEC, FROM_VVVV, 15},
    [X86_HOW_Q] = {X86_OPND_MMX, FROM_RM, 7, true},
    [X86_HOW_N] = {X86_OPND_MMX, FROM_RM, 7},
    [X86_HOW_P] = {X86_OPND_MMX, FROM_REG, 7},
    [X86_HOW_GPR] = {X86_OPND_GPR, FROM_CODE, 15},
    [X86_HOW_SEG] = {X86_OPND_SEG, FROM_CODE, 15},
    [X86_HOW_ST] = {X86_OPND_ST, FROM_NONE, 0},
    [X86_HOW_STI] = {X86_OPND_ST, FROM_RM, 7},
    [X86_HOW_XMM] = {X86_OPND_VEC, FROM_NONE, 0},
    [X86_HOW_ONE] = {X86_OPND_NONE},
};

/* False: #UD. */
HOT bool take_operands(struct decoder *d, struct x86_insn *insn, const struct x86_form *form,
                       unsigned mode)
{
    unsigned modrm = insn->modrm, b_bit = d->rex << 3 & 8;
    bool mem = modrm < 0xc0;
    uint8_t number[] = {
        [FROM_REG] = (modrm >> 3 & 7) | (d->rex << 1 & 8),
        [FROM_RM] = (modrm & 7) | b_bit,
        [FROM_OPCODE] = (insn->opcode & 7) | b_bit,
        [FROM_VVVV] = mode == 8 ? insn->vvvv : insn->vvvv & 7,
        [FROM_CODE] = 0,
    };
    unsigned n = form->nopnd;
    insn->nopnd = n;
    for (unsigned i = 0; i < n; i++) {
        const struct x86_code *code = &x86_codes[form->opnd[i]];
        struct x86_opnd *o = &insn->opnd[i];
        unsigned how = code->how, kind = simple[how].kind;
        unsigned size = code->size == X86_SIZE_AD ? insn->addrsize : d->sizes[code->size];
        if (kind == X86_OPND_NONE) {
            struct decoder copy = *d;
            o->size = size;
            bool ok = take_special(&copy, insn, o, code);
            *d = copy;
            if (!ok) {
                return false;
            }
            continue;
        }
        number[FROM_CODE] = code->reg;
        unsigned reg = number[simple[how].from] & simple[how].mask;
        bool high = kind == X86_OPND_GPR && size == 1 && reg - 4 < 4 && !insn->rex;
        bool is_mem = simple[how].mem & mem;
        *o = is_mem ? (struct x86_opnd){.kind = X86_OPND_MEM, .size = size}
                    : (struct x86_opnd){kind, size, high ? reg - 4 : reg, high};
    }
    return true;
}

/* Memory operands that no ModRM byte describes. */
static void set_implied_mem(struct x86_insn *insn)
{
    if (insn->op == X86_XLAT) {
        insn->base = 3;
    } else if (insn->op == X86_MASKMOVQ || insn->op == X86_MASKMOVDQU) {
        insn->base = 7;
    }
}

/* A gather may not use a register twice (Vol. 2C, VPGATHERDD: "#UD if"). */
static bool gather_ok(const struct x86_insn *insn)
{
    unsigned dest = insn->opnd[0].reg;
    unsigned mask = insn->opnd[2].reg;
    return dest != mask && dest != insn->index && mask != insn->index;
}

HOT void set_sizes(const struct decoder *d, struct x86_insn *insn, unsigned mode)
{
    if (mode == 8) {
        insn->addrsize = d->p67 ? 4 : 8;
        insn->opsize = insn->rex_w ? 8 : insn->p66 ? 2 : 4;
    } else {
        insn->addrsize = d->p67 ? 6 - mode : mode;
        insn->opsize = insn->p66 ? 6 - mode : mode;
    }
}

static const uint8_t simd_prefixes[4] = {0, 0x66, 0xf3, 0xf2};

/* Everything behind the prefixes. False: #UD. */
HOT bool decode_rest(struct decoder *d, struct x86_insn *insn, unsigned mode)
{
    insn->rex = d->rex != 0;
    d->prefix = insn->rep ? (insn->rep == 0xf3 ? 2 : 3) : insn->p66;
    if (!take_opcode(d, insn, mode)) {
        return false;
    }
    insn->rex_w = d->rex >> 3 & 1;
    set_sizes(d, insn, mode);
    const struct x86_form *form = find_form(d, insn);
    if (!form) {
        return false;
    }
    unsigned flags = form->flags;
    insn->form = form - x86_forms;
    insn->op = form->op;
    insn->feature = form->feature;
    if (form->sel.prefix != 15) {
        insn->simd_prefix = simd_prefixes[d->prefix];
    }
    if (flags & (X86_FORM_D64 | X86_FORM_F64) && mode == 8) {
        insn->opsize = insn->p66 && !insn->rex_w && flags & X86_FORM_D64 ? 2 : 8;
    }
    d->sizes = x86_sizes[(insn->opsize >> 2) * 8 + insn->rex_w * 4 + insn->vex_l * 2 + (mode == 8)];
    if (flags & X86_FORM_MODRM && !take_modrm(d, insn, flags, mode)) {
        return false;
    }
    if ((flags & (X86_FORM_VEX | X86_FORM_VVVV)) == X86_FORM_VEX && insn->vvvv != 0) {
        return false;
    }
    if (!take_operands(d, insn, form, mode)) {
        return false;
    }
    if (insn->lock && !(flags & X86_FORM_LOCK && insn->modrm < 0xc0)) {
        return false;
    }
    set_implied_mem(insn);
    return !(flags & X86_FORM_VSIB) || gather_ok(insn);
}

HOT enum x86_decode_status decode_padded(struct x86_insn *insn, const uint8_t *code, size_t avail,
                                         unsigned mode)
{
    struct decoder d = {.p = code};
    *insn = (struct x86_insn){.mode = mode,
                              .seg = X86_SEG_NONE,
                              .base = X86_REG_NONE,
                              .index = X86_REG_NONE,
                              .mem_seg = X86_SEG_DS};
    bool ok = false;
    size_t used = X86_MAX_LEN + 1;
    if (take_prefixes(&d, insn, mode)) {
        insn->mem_seg = insn->seg != X86_SEG_NONE ? insn->seg : X86_SEG_DS;
        ok = decode_rest(&d, insn, mode);
        used = d.p - code + (d.peeked && !insn->has_modrm);
    }
    if (used > avail && avail < X86_MAX_LEN) {
        return X86_DECODE_SHORT;
    }
    if (used > X86_MAX_LEN) {
        return X86_DECODE_TOO_LONG;
    }
    insn->len = used;
    return ok ? X86_DECODE_OK : X86_DECODE_INVALID;
}

COLD enum x86_decode_status decode_old(struct x86_insn *insn, const uint8_t *code, size_t avail,
                                       unsigned mode)
{
    return decode_padded(insn, code, avail, mode);
}

COLD enum x86_decode_status decode_short(struct x86_insn *insn, const uint8_t *code, size_t avail,
                                         unsigned mode)
{
    uint8_t copy[READ_AHEAD] = {0};
    memcpy(copy, code, avail);
    return decode_old(insn, copy, avail, mode);
}

enum x86_decode_status x86_decode(struct x86_insn *insn, const uint8_t *code, size_t avail,
                                  unsigned mode)
{
    if (avail < READ_AHEAD) {
        return decode_short(insn, code, avail, mode);
    }
    return mode == 8 ? decode_padded(insn, code, avail, 8) : decode_old(insn, code, avail, mode);
}

unsigned x86_form_flags(unsigned form)
{
    return x86_forms[form].flags;
}

enum x86_feature x86_form_feature(unsigned form)
{
    return x86_forms[form].feature;
}

unsigned x86_form_hostvec(unsigned form)
{
    return x86_form_hostvecs[form];
}

unsigned x86_form_line(unsigned form)
{
    return x86_forms[form].sel.line;
}

const char *x86_op_name(unsigned op)
{
    return op < X86_OP_COUNT ? x86_op_names[op] : "(none)";
}

const char *x86_feature_name(unsigned feature)
{
    return feature < X86_FEATURE_COUNT ? x86_feature_names[feature] : "(none)";
}
