/* Random instructions, and what of a state makes them do more than fault. */
#include <string.h>

#include "isa/x86/model.h"
#include "isa/x86/randinsn.h"
#include "isa/x86/table.h"
#include "tests/isa/x86/diff.h"

#define DISP 1000
#define INDEXES ((uint16_t)~DIFF_BASES)
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

bool diff_address(const struct x86_insn *in, const struct diff_state *s, uint64_t *ea)
{
    if (in->base >= 16) {
        return false;
    }
    bool indexed = in->index < 16 && !(x86_form_flags(in->form) & X86_FORM_VSIB);
    uint64_t index = indexed ? s->gpr[in->index] << in->scale : 0;
    uint64_t mask = in->addrsize == 8 ? ~0ull : in->addrsize == 4 ? 0xffffffff : 0xffff;
    *ea = (s->gpr[in->base] + index + (uint64_t)(int64_t)in->disp) & mask;
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

/* Over two pages, mostly. */
static void cross_operand(struct diff_case *c, uint64_t *rng)
{
    uint64_t ea;
    if (x86_insn_is_mem(&c->insn) && diff_address(&c->insn, &c->in, &ea)) {
        uint64_t *base = &c->in.gpr[c->insn.base];
        *base += MIDDLE - 1 - diff_below(rng, diff_below(rng, 2) ? 7 : 31) - ea;
        *base &= c->insn.mode == 8 ? ~0ull : 0xffffffff;
    }
}

static void prepare_x87(struct diff_case *c, uint64_t *rng)
{
    uint8_t *p;
    switch (c->insn.op) {
    case X86_FLDCW: /* exceptions stay masked, mostly */
    case X86_FLDENV:
    case X86_FRSTOR:
        if ((p = operand_bytes(c, c->insn.op == X86_FLDCW ? 2 : 14))) {
            p[0] |= c->unmasked ? 0 : FP_ALL;
            p[0] = (p[0] & FP_ALL) | 0x40;
            p[1] = (uint8_t)(p[1] & 15 ? (p[1] & 15) | 2 : 0);
            if (c->insn.op != X86_FLDCW) {
                p[c->insn.opsize == 2 ? 2 : 4] &= 0x7f; /* no summary */
            }
        }
        break;
    case X86_FXRSTOR:
        if ((p = operand_bytes(c, 512))) {
            diff_any_x87(rng, p);
            memcpy(p + 24, &c->in.mxcsr, 4);
        }
        break;
    case X86_LDMXCSR:
        if ((p = operand_bytes(c, 4)) && diff_below(rng, 4)) {
            uint32_t v = (c->unmasked ? 0 : MXCSR_MASKS) | (diff_next(rng) & 0xffff);
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
        int64_t k = (int)diff_below(rng, 100) - 50;
        if (diff_below(rng, 64) == 0) {
            k = (int64_t)diff_next(rng);
        }
        memcpy(v + i * (wide ? 8 : 4), &k, wide ? 8 : 4);
    }
}

static void prepare_divide(struct diff_case *c, uint64_t *rng)
{
    if (diff_below(rng, 4)) {
        bool negative = c->insn.op == X86_IDIV && diff_below(rng, 2);
        c->in.gpr[RDX] = negative ? (c->insn.mode == 8 ? ~0ull : 0xffffffff) : diff_below(rng, 3);
    }
}

/* The accumulator equals the destination half the time. */
static void prepare_cmpxchg(struct diff_case *c, uint64_t *rng)
{
    const struct x86_opnd *o = &c->insn.opnd[0];
    uint8_t *p = operand_bytes(c, 16);
    if (diff_below(rng, 2)) {
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

/* Strings that overlap, that are equal for long, and long ones. */
static void prepare_string(struct diff_case *c, uint64_t *rng)
{
    uint64_t *r = c->in.gpr, m = c->insn.mode == 8 ? ~0ull : 0xffffffff;
    r[RCX] = diff_below(rng, 8) ? diff_below(rng, 20) : diff_below(rng, 3000);
    switch (diff_below(rng, 4)) {
    case 0: r[RDI] = (r[RSI] + diff_below(rng, 64) - 32) & m; break;
    case 1: r[RDI] = (r[RSI] + diff_below(rng, 3000) - 1500) & m; break;
    default: break;
    }
    if (diff_below(rng, 2)) {
        unsigned kinds = 1 + diff_below(rng, 2);
        for (unsigned i = 0; i < DIFF_MEM_SIZE; i++) {
            c->in.mem[i] = (uint8_t)(kinds == 1 ? r[RAX] : r[RAX] >> (i & 7) * 8);
        }
        for (unsigned i = diff_below(rng, 12); i-- > 0;) {
            c->in.mem[diff_below(rng, DIFF_MEM_SIZE)] ^= (uint8_t)diff_next(rng);
        }
    }
}

static void prepare(struct diff_case *c, uint64_t *rng)
{
    unsigned flags = x86_form_flags(c->insn.form);
    if (diff_below(rng, 8) == 0) {
        cross_operand(c, rng);
    }
    if ((flags & X86_FORM_ALIGN) && diff_below(rng, 8)) {
        align_operand(c, 32);
    }
    if (flags & X86_FORM_VSIB) {
        prepare_gather(c, rng);
    }
    if (c->insn.rep) {
        prepare_string(c, rng);
    }
    switch (c->insn.op) {
    case X86_DIV:
    case X86_IDIV: prepare_divide(c, rng); break;
    case X86_CMPXCHG:
    case X86_CMPXCHG8B:
    case X86_CMPXCHG16B: prepare_cmpxchg(c, rng); break;
    case X86_FXSAVE:
    case X86_FXRSTOR:
        if (diff_below(rng, 8)) {
            align_operand(c, 64);
        }
        break;
    case X86_BT:
    case X86_BTS:
    case X86_BTR:
    case X86_BTC:
        if (c->insn.opnd[1].kind == X86_OPND_GPR && !(DIFF_BASES >> c->insn.opnd[1].reg & 1)) {
            c->in.gpr[c->insn.opnd[1].reg] = (uint64_t)((int64_t)diff_below(rng, 4000) - 2000) &
                                             (c->insn.mode == 8 ? ~0ull : 0xffffffff);
        }
        break;
    case X86_PCMPESTRI:
    case X86_PCMPESTRM:
        c->in.gpr[RAX] = diff_below(rng, 3) ? diff_below(rng, 20) : c->in.gpr[RAX];
        c->in.gpr[RDX] = diff_below(rng, 3) ? diff_below(rng, 20) : c->in.gpr[RDX];
        break;
    default: break;
    }
    prepare_x87(c, rng);
}

/* An index that stays near. */
static void prepare_index(struct diff_case *c, uint64_t *rng)
{
    uint8_t i = c->insn.index;
    if (i < 16 && !(DIFF_BASES >> i & 1) && !(x86_form_flags(c->insn.form) & X86_FORM_VSIB)) {
        uint64_t k = (uint64_t)((int64_t)diff_below(rng, 160) - 80);
        c->in.gpr[i] = c->insn.mode == 8 ? k : (uint32_t)k;
    }
}

/* Absolute addresses become those of the window. */
static void patch_moffs(struct diff_case *c, uint64_t *rng)
{
    uint64_t at = MIDDLE - 1000 + diff_below(rng, 2000);
    for (unsigned i = 0; i < c->insn.nopnd; i++) {
        if (c->insn.opnd[i].kind == X86_OPND_MOFFS) {
            memcpy(c->code + c->insn.len - c->insn.addrsize, &at, c->insn.addrsize);
            c->insn.imm = (int64_t)at;
        }
    }
}

/* REP or REPNE, mostly, before a string instruction. The new length. */
static int repeat(uint8_t *code, int len, unsigned form, uint64_t *rng)
{
    static const uint16_t strings[] = {X86_MOVS, X86_CMPS, X86_STOS, X86_LODS, X86_SCAS};
    bool string = false;
    for (unsigned i = 0; i < ARRAY_LEN(strings); i++) {
        string |= strings[i] == x86_forms[form].op;
    }
    if (!string || diff_below(rng, 4) == 0) {
        return len;
    }
    memmove(code + 1, code, (size_t)len);
    code[0] = diff_below(rng, 2) ? 0xf3 : 0xf2;
    return len + 1;
}

int diff_make_insn(struct diff_case *c, uint64_t *rng, unsigned form, unsigned mode)
{
    struct x86_random_opts opts = {.mode = mode,
                                   .bases = DIFF_BASES,
                                   .indexes = INDEXES,
                                   .disp_min = -DISP,
                                   .disp_max = DISP,
                                   .extra_prefixes = true};
    memset(c->code, 0x90, sizeof(c->code));
    int len = x86_random_of_form(rng, &opts, form, c->code);
    if (len == 0) {
        return 0;
    }
    len = repeat(c->code, len, form, rng);
    memset(c->code + len, 0x90, sizeof(c->code) - (size_t)len);
    x86_decode(&c->insn, c->code, sizeof(c->code), mode);
    patch_moffs(c, rng);
    c->step[0] = (struct diff_step){.insn = c->insn};
    c->n = 1;
    c->len = (unsigned)len;
    return len;
}

void diff_make_state(struct diff_case *c, uint64_t *rng)
{
    diff_any_state(&c->in, rng, c->insn.mode);
    c->in.flags |= c->align ? RF_AC : 0;
    if (c->unmasked) {
        diff_unmask(&c->in, rng);
    }
    prepare_index(c, rng);
    prepare(c, rng);
}
