/* Random states and instructions, with a leaning towards values where instructions differ. */
#include <string.h>

#include "isa/x86/model.h"
#include "isa/x86/randinsn.h"
#include "isa/x86/table.h"
#include "tests/isa/x86/diff.h"

/* Registers that point into the window: SIB and displacement forms, string instructions. */
#define BASES (1u << RBX | 1u << RSP | 1u << RBP | 1u << RSI | 1u << RDI | 1u << R12 | 1u << R13)
#define DISP 1000
#define MIDDLE (DIFF_MEM + DIFF_MEM_SIZE / 2)

/* Not for this test: privileged, or they reach beyond the state that is compared. */
static const uint16_t unwanted[] = {
    X86_IN,       X86_OUT,      X86_INS,    X86_OUTS,   X86_INT,      X86_INT1,     X86_INT3,
    X86_INTO,     X86_IRET,     X86_HLT,    X86_CLI,    X86_STI,      X86_SYSCALL,  X86_SYSRET,
    X86_SYSENTER, X86_SYSEXIT,  X86_RDTSC,  X86_RDTSCP, X86_RDPMC,    X86_RDMSR,    X86_WRMSR,
    X86_CPUID,    X86_RDRAND,   X86_RDSEED, X86_RDPID,  X86_XGETBV,   X86_XSETBV,   X86_XSAVE,
    X86_XSAVEC,   X86_XSAVEOPT, X86_XSAVES, X86_XRSTOR, X86_XRSTORS,  X86_RDFSBASE, X86_RDGSBASE,
    X86_WRFSBASE, X86_WRGSBASE, X86_LAR,    X86_LSL,    X86_VERR,     X86_VERW,     X86_SLDT,
    X86_STR,      X86_LLDT,     X86_LTR,    X86_SGDT,   X86_SIDT,     X86_LGDT,     X86_LIDT,
    X86_SMSW,     X86_LMSW,     X86_INVLPG, X86_INVD,   X86_WBINVD,   X86_WBNOINVD, X86_CLTS,
    X86_SWAPGS,   X86_MONITOR,  X86_MWAIT,  X86_CLAC,   X86_STAC,     X86_XEND,     X86_XTEST,
    X86_XBEGIN,   X86_XABORT,   X86_RDPKRU, X86_WRPKRU, X86_INVPCID,  X86_RSM,      X86_LDS,
    X86_LES,      X86_LSS,      X86_LFS,    X86_LGS,    X86_CALL_FAR, X86_JMP_FAR,  X86_RET_FAR,
};

static uint64_t next(uint64_t *rng)
{
    return x86_random_next(rng);
}

static unsigned below(uint64_t *rng, unsigned n)
{
    return (unsigned)(next(rng) >> 32) % n;
}

bool diff_wants_form(const struct x86_model *m, unsigned form)
{
    const struct x86_form *f = &x86_forms[form];
    if (!m->has[f->feature]) {
        return false;
    }
    if (f->op == X86_FSTP_STI && f->sel.opcode == 0xd9) {
        return false; /* an undocumented FSTP that differs when ST0 is empty */
    }
    for (unsigned i = 0; i < ARRAY_LEN(unwanted); i++) {
        if (unwanted[i] == f->op) {
            return false;
        }
    }
    for (unsigned i = 0; i < f->nopnd; i++) {
        unsigned how = x86_codes[f->opnd[i]].how;
        if (how == X86_HOW_C || how == X86_HOW_D || how == X86_HOW_S || how == X86_HOW_SEG) {
            return false;
        }
    }
    return true;
}

/* Often at an end of a range, or small. */
static uint64_t any_integer(uint64_t *rng)
{
    static const uint64_t special[] = {
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x100000000,
        0x7fffffffffffffff,
        0x8000000000000000,
        0xffffffffffffffff,
        0xffffffff80000000,
        0xffffffffffff8000,
        0x5555555555555555,
        0xaaaaaaaaaaaaaaaa,
    };
    switch (below(rng, 4)) {
    case 0: return special[below(rng, ARRAY_LEN(special))];
    case 1: return next(rng) >> below(rng, 64);
    case 2: return (uint64_t)((int64_t)next(rng) >> below(rng, 64));
    default: return next(rng);
    }
}

/* Eight bytes of a vector: numbers of one kind. */
static uint64_t any_lane(uint64_t *rng, unsigned kind)
{
    static const uint32_t floats[] = {
        0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
        1, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x3f000000, 0x4b000001};
    static const uint64_t doubles[] = {0,
                                       1ull << 63,
                                       0x3ff0000000000000,
                                       0xbff0000000000000,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0x7ff0000000000001,
                                       1,
                                       0x800fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x43e0000000000000,
                                       0x41dfffffffc00000,
                                       0x47f0000000000000,
                                       0x3690000000000000};
    float f[2];
    double d;
    uint64_t v;
    switch (kind) {
    case 0: return any_integer(rng);
    case 1: return floats[below(rng, 16)] | (uint64_t)floats[below(rng, 16)] << 32;
    case 2: return doubles[below(rng, 16)];
    case 3:
        f[0] = (float)(int32_t)next(rng) / (float)(1u << below(rng, 31));
        f[1] = (float)(int32_t)next(rng) / (float)(1u << below(rng, 31));
        memcpy(&v, f, 8);
        return v;
    case 4:
        d = (double)(int64_t)next(rng) / (double)(1ull << below(rng, 63));
        memcpy(&v, &d, 8);
        return v;
    case 5: return (below(rng, 2) ? 0xffffffffu : 0) | (below(rng, 2) ? 0xffffffffull << 32 : 0);
    case 6: return next(rng) & 0x0f0f0f0f0f0f0f0f; /* short strings, small indexes */
    default: return next(rng);
    }
}

static void any_lanes(uint64_t *rng, uint8_t *out, unsigned bytes)
{
    unsigned kind = below(rng, 8);
    for (unsigned i = 0; i < bytes; i += 8) {
        uint64_t v = any_lane(rng, kind);
        memcpy(out + i, &v, bytes - i < 8 ? bytes - i : 8);
    }
}

/* A register of the x87, also in forms the processor does not make itself. */
static void any_st(uint64_t *rng, uint8_t *st)
{
    uint64_t m = next(rng);
    uint16_t sign = below(rng, 2) ? 0x8000 : 0, exp = 0x3fff;
    switch (below(rng, 8)) {
    case 0: m = 0, exp = 0; break;
    case 1: m = 1ull << 63, exp = 0x7fff; break;
    case 2: m |= 3ull << 62, exp = 0x7fff; break;
    case 3: exp = 0; break;
    case 4: exp = (uint16_t)(next(rng) & 0x7fff); break; /* perhaps an unnormal */
    case 5: m = 1ull << 63; break;
    default:
        m |= 1ull << 63;
        exp = (uint16_t)(0x3fff - 40 + below(rng, 80));
        break;
    }
    exp |= sign;
    memcpy(st, &m, 8);
    memcpy(st + 8, &exp, 2);
}

static void any_x87(uint64_t *rng, uint8_t *fx)
{
    memset(fx, 0, DIFF_FX);
    uint16_t cw = (uint16_t)(0x7f | (next(rng) & 0xf00)), sw = (uint16_t)(next(rng) & 0x7f7f);
    if (cw >> 8 == 1) {
        cw |= 0x300; /* a reserved precision */
    }
    memcpy(fx, &cw, 2);
    memcpy(fx + 2, &sw, 2);
    fx[4] = below(rng, 3) ? 0xff : (uint8_t)next(rng);
    for (unsigned i = 0; i < 8; i++) {
        any_st(rng, fx + 32 + i * 16);
    }
}

static uint64_t any_pointer(uint64_t *rng)
{
    if (below(rng, 24) == 0) { /* so that some accesses leave the window */
        return (below(rng, 2) ? DIFF_MEM : DIFF_MEM + DIFF_MEM_SIZE) + below(rng, 128) - 64;
    }
    uint64_t p = MIDDLE - 1500 + below(rng, 3000);
    return below(rng, 2) ? p & ~63ull : p;
}

static void any_state(struct diff_state *s, uint64_t *rng, unsigned mode)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = BASES >> i & 1 ? any_pointer(rng) : any_integer(rng);
        if (mode != 8) {
            s->gpr[i] = i < 8 ? (uint32_t)s->gpr[i] : 0;
        }
    }
    s->pc = DIFF_CODE;
    s->flags = (next(rng) & FLAG_ALL) | (below(rng, 4) ? 0 : RF_DF);
    s->mxcsr = 0x1f80 | (next(rng) & 0x603f) | (below(rng, 4) ? 0 : next(rng) & 0x8040);
    s->fault = DIFF_NO_FAULT;
    any_x87(rng, s->fx);
    for (unsigned i = 0; i < (mode == 8 ? 16u : 8u); i++) {
        any_lanes(rng, s->vec[i], 32);
    }
    for (unsigned i = 0; i < DIFF_MEM_SIZE; i += 64) {
        any_lanes(rng, s->mem + i, 64);
    }
}

bool diff_address(const struct x86_insn *in, const struct diff_state *s, uint64_t *ea)
{
    if (in->base >= 16) {
        return false;
    }
    uint64_t mask = in->addrsize == 8 ? ~0ull : in->addrsize == 4 ? 0xffffffff : 0xffff;
    *ea = (s->gpr[in->base] + (uint64_t)(int64_t)in->disp) & mask;
    return true;
}

/* ---- what makes an instruction do more than fault ---- */

static uint8_t *operand_bytes(struct diff_case *c, unsigned size)
{
    uint64_t ea;
    if (!diff_address(&c->insn, &c->in, &ea) || ea < DIFF_MEM ||
        ea + size > DIFF_MEM + DIFF_MEM_SIZE) {
        return NULL;
    }
    return c->in.mem + (ea - DIFF_MEM);
}

static void align_operand(struct diff_case *c, unsigned to)
{
    uint64_t ea;
    if (diff_address(&c->insn, &c->in, &ea)) {
        c->in.gpr[c->insn.base] -= ea & (to - 1);
    }
}

static void prepare_x87(struct diff_case *c, uint64_t *rng)
{
    uint8_t *p;
    switch (c->insn.op) {
    case X86_FLDCW: /* exceptions stay masked */
    case X86_FLDENV:
    case X86_FRSTOR:
        if ((p = operand_bytes(c, 14))) {
            p[0] |= 0x3f;
            p[0] = (p[0] & 0x3f) | 0x40;
            p[1] = (uint8_t)(p[1] & 15 ? (p[1] & 15) | 2 : 0);
            p[c->insn.opsize == 2 ? 2 : 4] &= 0x7f; /* no summary */
        }
        break;
    case X86_FXRSTOR:
        if ((p = operand_bytes(c, 512))) {
            any_x87(rng, p);
            memcpy(p + 24, &c->in.mxcsr, 4);
        }
        break;
    case X86_LDMXCSR:
        if ((p = operand_bytes(c, 4)) && below(rng, 4)) {
            uint32_t v = 0x1f80 | (next(rng) & 0xffff);
            memcpy(p, &v, 4);
        }
        break;
    default: break;
    }
}

/* Index elements that stay in the window; a few masked-out ones that do not. */
static void prepare_gather(struct diff_case *c, uint64_t *rng)
{
    const char *name = x86_op_name(c->insn.op);
    bool wide = name[strlen("vpgather") - (name[1] == 'g')] == 'q';
    uint8_t *v = c->in.vec[c->insn.index];
    for (unsigned i = 0; i < (wide ? 4u : 8u); i++) {
        int64_t k = (int)below(rng, 100) - 50;
        if (below(rng, 64) == 0) {
            k = (int64_t)next(rng);
        }
        memcpy(v + i * (wide ? 8 : 4), &k, wide ? 8 : 4);
    }
}

static void prepare_divide(struct diff_case *c, uint64_t *rng)
{
    if (below(rng, 4)) {
        bool negative = c->insn.op == X86_IDIV && below(rng, 2);
        c->in.gpr[RDX] = negative ? (c->insn.mode == 8 ? ~0ull : 0xffffffff) : below(rng, 3);
    }
}

/* The accumulator equals the destination half the time. */
static void prepare_cmpxchg(struct diff_case *c, uint64_t *rng)
{
    const struct x86_opnd *o = &c->insn.opnd[0];
    uint8_t *p = operand_bytes(c, 16);
    if (below(rng, 2)) {
        return;
    }
    if (o->kind == X86_OPND_GPR) {
        c->in.gpr[RAX] = c->in.gpr[o->reg];
    } else if (p && c->insn.op == X86_CMPXCHG8B) {
        uint32_t half[2];
        memcpy(half, p, 8);
        c->in.gpr[RAX] = half[0];
        c->in.gpr[RDX] = half[1];
    } else if (p) {
        unsigned n = c->insn.mode == 8 ? 8 : 4;
        memcpy(&c->in.gpr[RAX], p, n);
        if (c->insn.op == X86_CMPXCHG16B) {
            memcpy(&c->in.gpr[RDX], p + 8, 8);
        }
    }
}

static void prepare(struct diff_case *c, uint64_t *rng)
{
    unsigned flags = x86_form_flags(c->insn.form);
    if ((flags & X86_FORM_ALIGN) && below(rng, 8)) {
        align_operand(c, 32);
    }
    if (flags & X86_FORM_VSIB) {
        prepare_gather(c, rng);
    }
    if (c->insn.rep) {
        c->in.gpr[RCX] = below(rng, 20);
    }
    switch (c->insn.op) {
    case X86_DIV:
    case X86_IDIV: prepare_divide(c, rng); break;
    case X86_CMPXCHG:
    case X86_CMPXCHG8B:
    case X86_CMPXCHG16B: prepare_cmpxchg(c, rng); break;
    case X86_FXSAVE:
    case X86_FXRSTOR:
        if (below(rng, 8)) {
            align_operand(c, 64);
        }
        break;
    case X86_BT:
    case X86_BTS:
    case X86_BTR:
    case X86_BTC:
        if (c->insn.opnd[1].kind == X86_OPND_GPR && !(BASES >> c->insn.opnd[1].reg & 1)) {
            c->in.gpr[c->insn.opnd[1].reg] = (uint64_t)((int64_t)below(rng, 4000) - 2000) &
                                             (c->insn.mode == 8 ? ~0ull : 0xffffffff);
        }
        break;
    case X86_PCMPESTRI:
    case X86_PCMPESTRM:
        c->in.gpr[RAX] = below(rng, 3) ? below(rng, 20) : c->in.gpr[RAX];
        c->in.gpr[RDX] = below(rng, 3) ? below(rng, 20) : c->in.gpr[RDX];
        break;
    default: break;
    }
    prepare_x87(c, rng);
}

/* Absolute addresses become those of the window. */
static void patch_moffs(struct diff_case *c, uint64_t *rng)
{
    uint64_t at = MIDDLE - 1000 + below(rng, 2000);
    for (unsigned i = 0; i < c->insn.nopnd; i++) {
        if (c->insn.opnd[i].kind == X86_OPND_MOFFS) {
            memcpy(c->code + c->insn.len - c->insn.addrsize, &at, c->insn.addrsize);
            c->insn.imm = (int64_t)at;
        }
    }
}

int diff_make_insn(struct diff_case *c, uint64_t *rng, unsigned form, unsigned mode)
{
    struct x86_random_opts opts = {
        .mode = mode, .bases = BASES, .disp_min = -DISP, .disp_max = DISP, .extra_prefixes = true};
    memset(c->code, 0x90, sizeof(c->code));
    int len = x86_random_of_form(rng, &opts, form, c->code);
    if (len == 0) {
        return 0;
    }
    memset(c->code + len, 0x90, sizeof(c->code) - (size_t)len);
    x86_decode(&c->insn, c->code, sizeof(c->code), mode);
    patch_moffs(c, rng);
    return len;
}

void diff_make_case(struct diff_case *c, uint64_t *rng)
{
    any_state(&c->in, rng, c->insn.mode);
    prepare(c, rng);
}
