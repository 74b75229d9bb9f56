/*
 * Random blocks. They are made one instruction after the other, each run on T0 to see where it
 * leads: so addresses stay in the window, few blocks end by a fault, and no instruction looks at a
 * flag that the manual leaves undefined at that point. Undefined flags are followed by a second
 * run in which they have their other values.
 */
#include <string.h>

#include "ir/hostvec.h"
#include "isa/x86/table.h"
#include "tests/isa/x86/diff.h"

#define MAX_BYTES 112 /* so that short branches reach beyond both ends */
#define AROUND 1500   /* bytes of INT3s on either side that are branched to */
#define FLAGS_OF_LAHF (FLAG_ALL & ~FLAG_OF)

/* They unmask exceptions, set AC, store what differs between processors, or may fault on what they
 * do not store. */
static const uint16_t unwanted[] = {
    X86_POPF,   X86_LDMXCSR, X86_FLDCW,   X86_FLDENV,   X86_FRSTOR,     X86_FXRSTOR,
    X86_FXSAVE, X86_FNSAVE,  X86_FNSTENV, X86_MASKMOVQ, X86_MASKMOVDQU,
};

static bool wanted(const struct x86_insn *in)
{
    for (unsigned i = 0; i < ARRAY_LEN(unwanted); i++) {
        if (unwanted[i] == in->op) {
            return false;
        }
    }
    /* a 16-bit branch in 32-bit code goes below 64 KiB */
    return in->opnd[0].kind != X86_OPND_REL || in->mode == 8 || in->opsize != 2;
}

bool diff_ends_anywhere(const struct x86_insn *in)
{
    bool branch = in->op == X86_JMP || in->op == X86_CALL || in->op == X86_RET;
    return branch && in->opnd[0].kind != X86_OPND_REL;
}

static bool always_leaves(const struct x86_insn *in)
{
    return in->op == X86_JMP || in->op == X86_CALL || in->op == X86_RET;
}

static unsigned flags_of_cc(unsigned cc)
{
    static const uint16_t by_pair[8] = {
        FLAG_OF, FLAG_CF, FLAG_ZF,           FLAG_CF | FLAG_ZF,
        FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF, FLAG_SF | FLAG_OF | FLAG_ZF};
    return by_pair[cc >> 1];
}

/* Flags an instruction looks at (those it just keeps are not meant). */
static unsigned flags_read(const struct x86_insn *in)
{
    static const uint16_t first_cc[] = {X86_JO, X86_SETO, X86_CMOVO};
    static const struct {
        uint16_t op, flags;
    } reads[] = {
        {X86_ADC, FLAG_CF},       {X86_SBB, FLAG_CF},       {X86_RCL, FLAG_CF},
        {X86_RCR, FLAG_CF},       {X86_ADCX, FLAG_CF},      {X86_ADOX, FLAG_OF},
        {X86_CMC, FLAG_CF},       {X86_SALC, FLAG_CF},      {X86_LAHF, FLAGS_OF_LAHF},
        {X86_PUSHF, FLAG_ALL},    {X86_LOOPE, FLAG_ZF},     {X86_LOOPNE, FLAG_ZF},
        {X86_DAA, FLAGS_OF_LAHF}, {X86_DAS, FLAGS_OF_LAHF}, {X86_AAA, FLAGS_OF_LAHF},
        {X86_AAS, FLAGS_OF_LAHF},
    };
    for (unsigned i = 0; i < ARRAY_LEN(first_cc); i++) {
        if (in->op >= first_cc[i] && in->op < first_cc[i] + 16) {
            return flags_of_cc(in->op - first_cc[i]);
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(reads); i++) {
        if (reads[i].op == in->op) {
            return reads[i].flags;
        }
    }
    unsigned hv = x86_form_hostvec(in->form);
    return hv != HV_NONE && (hostvec_info[hv].flags & HVF_FLAGS_IN) ? FLAG_ALL : 0;
}

/* ---- branches ---- */

static uint64_t next_pc(const struct diff_case *t)
{
    return t->in.pc + t->len;
}

static bool set_target(struct diff_case *t, uint64_t target)
{
    const struct x86_form *f = &x86_forms[t->insn.form];
    int64_t rel = (int64_t)(target - next_pc(t));
    unsigned size = x86_codes[f->opnd[0]].size == X86_SIZE_B ? 1 : 4;
    if (size == 1 && rel != (int8_t)rel) {
        return false;
    }
    memcpy(t->code + t->len - size, &rel, size);
    t->insn.imm = t->step[0].insn.imm = rel;
    return true;
}

static void aim(struct diff_case *t, uint64_t *rng)
{
    const struct x86_form *f = &x86_forms[t->insn.form];
    bool near = x86_codes[f->opnd[0]].size == X86_SIZE_B, back = diff_below(rng, 2);
    uint64_t at = next_pc(t) - DIFF_BLOCK;
    if (t->insn.opnd[0].kind == X86_OPND_REL) {
        set_target(t, back ? DIFF_BLOCK - 1 - diff_below(rng, near ? 8 : AROUND)
                           : DIFF_BLOCK + DIFF_CODE_MAX +
                                 diff_below(rng, near ? (unsigned)at : AROUND));
    }
}

/* ---- one more instruction ---- */

static bool same_but_flags(const struct diff_state *a, const struct diff_state *b)
{
    return a->fault == b->fault && a->pc == b->pc && a->mxcsr == b->mxcsr &&
           memcmp(a->gpr, b->gpr, sizeof(a->gpr)) == 0 &&
           memcmp(a->fx, b->fx, sizeof(a->fx)) == 0 &&
           memcmp(a->vec, b->vec, sizeof(a->vec)) == 0 &&
           memcmp(a->mem, b->mem, sizeof(a->mem)) == 0;
}

/* The page of the code can be read on the host and not by the guest. */
static bool at_code(uint64_t va)
{
    return va - (DIFF_CODE - 4096) < 3 * 4096;
}

/* Can what the trial leaves be compared, and be gone on from? */
static bool comparable(struct diff_blocks *d)
{
    const struct diff_case *t = &d->trial;
    const struct diff_state *s = &d->next;
    uint64_t kept = ~(uint64_t)(FLAG_ALL | RF_DF);
    bool sha = x86_form_feature(t->insn.form) == X86_FEATURE_SHA;
    bool inside = s->pc - DIFF_BLOCK < DIFF_CODE_MAX + 16 && s->pc != next_pc(t);
    if (s->fault != DIFF_NO_FAULT) {
        uint64_t va = diff_guest_cpu(d->guest)->rt.fault.addr;
        return s->fault >= 0 && !sha && !at_code(va); /* SHA: see diff_vendor.c */
    }
    return !inside && !((s->flags ^ t->in.flags) & kept) && (s->mxcsr & 0x1f80) == 0x1f80 &&
           (s->fx[0] & 0x3f) == 0x3f && !diff_result_undefined(t);
}

/* Runs the trial. False: it cannot be part of a block. *undefined: flags behind it. */
static bool judge(struct diff_blocks *d, uint64_t *undefined)
{
    struct diff_case *t = &d->trial;
    if (!wanted(&t->insn) || (d->undefined & flags_read(&t->insn))) {
        return false;
    }
    diff_guest_case(d->guest, t);
    diff_guest_run(d->guest, &diff_engines[0], t, &d->next);
    if (!comparable(d)) {
        return false;
    }
    *undefined = FLAG_ALL & ~diff_defined_flags(t);
    if (d->undefined) {
        t->in.flags ^= d->undefined;
        diff_guest_run(d->guest, &diff_engines[0], t, &d->flipped);
        t->in.flags ^= d->undefined;
        *undefined |= (d->next.flags ^ d->flipped.flags) & FLAG_ALL;
        return same_but_flags(&d->next, &d->flipped);
    }
    return true;
}

static bool leaves(const struct diff_blocks *d)
{
    return d->next.fault != DIFF_NO_FAULT || d->next.pc != next_pc(&d->trial);
}

static void append(struct diff_blocks *d, struct diff_case *b, uint64_t undefined)
{
    struct diff_case *t = &d->trial;
    b->step[b->n] = (struct diff_step){.insn = t->insn, .at = (uint8_t)b->len};
    memcpy(b->code + b->len, t->code, t->len);
    b->len += t->len;
    b->n++;
    d->undefined = undefined;
    d->last = *t;
    t->in = d->next;
}

static void begin(struct diff_blocks *d, struct diff_case *b)
{
    b->n = b->len = 0;
    memset(b->code, 0x90, sizeof(b->code));
    d->undefined = 0;
}

/* ---- random blocks ---- */

static bool in_window(uint64_t p)
{
    return p >= DIFF_MEM + 1200 && p < DIFF_MEM + DIFF_MEM_SIZE - 1200;
}

/* Faults end a block, and lost pointers make more of them: not always. */
static bool lucky(struct diff_blocks *d, const struct diff_case *b, unsigned want, uint64_t *rng)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < 16; i++) {
        lost +=
            (DIFF_BASES >> i & 1) && in_window(d->trial.in.gpr[i]) && !in_window(d->next.gpr[i]);
    }
    if (d->next.fault != DIFF_NO_FAULT) {
        return b->n > 0 && diff_below(rng, 16) == 0;
    }
    if (always_leaves(&d->trial.insn) && b->n + 1 < want) {
        return b->n > 0 && diff_below(rng, 8) == 0;
    }
    return !lost || diff_below(rng, 4) == 0;
}

static bool make_trial(struct diff_blocks *d, const struct diff_case *b, uint64_t *rng)
{
    bool other = d->nintegers == 0 || (d->nothers && diff_below(rng, 4) == 0);
    unsigned form =
        other ? d->other[diff_below(rng, d->nothers)] : d->integer[diff_below(rng, d->nintegers)];
    if (!diff_make_insn(&d->trial, rng, form, d->mode) || b->len + d->trial.len > MAX_BYTES) {
        return false;
    }
    if (b->n == 0) {
        diff_make_state(&d->trial, rng);
        d->trial.in.pc = DIFF_BLOCK;
    }
    aim(&d->trial, rng);
    return true;
}

bool diff_make_block(struct diff_blocks *d, struct diff_case *b, uint64_t *rng)
{
    unsigned want = 2 + diff_below(rng, d->max - 1);
    uint64_t undefined;
    begin(d, b);
    for (unsigned tries = 0; b->n < want && tries < want * 12; tries++) {
        if (!make_trial(d, b, rng) || !judge(d, &undefined) || !lucky(d, b, want, rng)) {
            continue;
        }
        if (b->n == 0) {
            b->in = d->trial.in;
        }
        bool end = leaves(d);
        append(d, b, undefined);
        if (end) {
            break;
        }
    }
    b->insn = b->step[0].insn;
    return b->n > 1;
}

/* Instruction k of a block as the trial, at the end of block `to`. */
static bool again(struct diff_blocks *d, const struct diff_case *b, unsigned k)
{
    struct diff_case *t = &d->trial;
    const struct diff_step *s = &b->step[k];
    uint64_t target = b->in.pc + s->at + s->insn.len + (uint64_t)s->insn.imm;
    memset(t->code, 0x90, sizeof(t->code));
    memcpy(t->code, b->code + s->at, s->insn.len);
    t->insn = s->insn;
    t->n = 1;
    t->len = s->insn.len;
    t->step[0] = (struct diff_step){.insn = s->insn};
    return s->insn.opnd[0].kind != X86_OPND_REL || set_target(t, target);
}

bool diff_drop(struct diff_blocks *d, const struct diff_case *b, unsigned k, struct diff_case *out)
{
    uint64_t undefined;
    begin(d, out);
    out->in = d->trial.in = b->in;
    for (unsigned i = 0; i < b->n; i++) {
        if (i == k) {
            continue;
        }
        if (!again(d, b, i) || !judge(d, &undefined)) {
            return false;
        }
        bool end = leaves(d);
        append(d, out, undefined);
        if (end) {
            break;
        }
    }
    out->insn = out->step[0].insn;
    return out->n > 0;
}
