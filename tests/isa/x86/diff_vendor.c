/*
 * The guest follows Intel's manual; the host may be an AMD processor or lack an instruction that
 * does nothing. So that the host stays the oracle for all the rest, it gets other bytes of the same
 * length and meaning where only its reading of the bytes differs, and what it left is mended where
 * the result differs. Each case is as narrow as the difference.
 */
#include <cpuid.h>
#include <string.h>

#include "tests/isa/x86/diff.h"

#define HYGON_EBX 0x6f677948 /* "Hygo": AMD's design */
#define MXCSR_MM (1u << 17)  /* AMD APM Vol. 2 11.3: misaligned operands allowed */
#define FXSAVE_MASK 28       /* MXCSR_MASK in the image */

struct diff_vendor diff_vendor_probe(void)
{
    struct diff_vendor v = {0};
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    v.amd = b == signature_AMD_ebx || b == HYGON_EBX;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        v.serialize = d & bit_SERIALIZE;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        v.misaligned_sse = v.amd && (c >> 7 & 1);
    }
    return v;
}

bool diff_near_branch(unsigned op)
{
    return op == X86_JMP || op == X86_CALL || op == X86_RET || (op >= X86_JO && op <= X86_JG) ||
           (op >= X86_LOOPNE && op <= X86_JRCXZ);
}

static bool is_prefix(uint8_t b)
{
    return (b & 0xe7) == 0x26 || (b >= 0x64 && b <= 0x67) || b == 0xf0 || b == 0xf2 || b == 0xf3;
}

/* Prefixes 66 become 2e, which changes nothing in 64-bit code. */
static void without_66(uint8_t *code)
{
    for (; is_prefix(*code); code++) {
        if (*code == 0x66) {
            *code = 0x2e;
        }
    }
}

static uint8_t *find(uint8_t *code, unsigned len, const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i + n <= len; i++) {
        if (memcmp(code + i, bytes, n) == 0) {
            return code + i;
        }
    }
    return NULL;
}

/* VEX.W of VPINSRD and VPEXTRD outside of 64-bit code: ignored by Intel (Vol. 2B, notes of PINSRD
 * and PEXTRD), #UD on AMD, which knows VPINSRQ and VPEXTRQ there. */
static void without_vex_w(const struct x86_insn *in, uint8_t *code)
{
    for (unsigned i = 0; i + 3 < in->len; i++) {
        if (code[i] == 0xc4 && (code[i + 1] & 0x1f) == 3 && code[i + 3] == in->opcode) {
            code[i + 2] &= 0x7f;
            return;
        }
    }
}

void diff_vendor_code(const struct diff_vendor *v, const struct x86_insn *in, uint8_t *code)
{
    static const uint8_t serialize[] = {0x0f, 0x01, 0xe8}, nop[] = {0x0f, 0x1f, 0x00};
    static const uint8_t prefetch[] = {0x0f, 0x0d};
    uint8_t *p;
    /* AMD APM Vol. 3 1.2.4: near branches heed 66 and cut RIP and what CALL pushes to 16 bits. */
    if (v->amd && in->mode == 8 && in->p66 && diff_near_branch(in->op)) {
        without_66(code);
    }
    /* The register form of PREFETCH is #UD on AMD, a NOP on Intel; 0F 1F is one on both. */
    if (v->amd && in->op == X86_NOP && in->map == 1 && in->opcode == 0x0d &&
        (p = find(code, in->len, prefetch, sizeof(prefetch)))) {
        p[1] = 0x1f;
    }
    if (v->amd && in->mode != 8 && (in->op == X86_PINSRD || in->op == X86_PEXTRD)) {
        without_vex_w(in, code);
    }
    /* Changes no register; older processors do not have it. */
    if (!v->serialize && in->op == X86_SERIALIZE &&
        (p = find(code, in->len, serialize, sizeof(serialize)))) {
        memcpy(p, nop, sizeof(nop));
    }
}

/* Bytes of the memory operand in the window, or NULL. */
static uint8_t *operand(const struct diff_case *c, struct diff_state *s, unsigned at, unsigned size)
{
    uint64_t ea;
    if (!diff_address(&c->insn, &c->in, &ea) || ea < DIFF_MEM ||
        ea + at + size > DIFF_MEM + DIFF_MEM_SIZE) {
        return NULL;
    }
    return s->mem + (ea - DIFF_MEM) + at;
}

static bool loads_mm(const struct diff_case *c, struct diff_state *s)
{
    unsigned at = c->insn.op == X86_FXRSTOR ? 24 : 0;
    bool loads = c->insn.op == X86_LDMXCSR || c->insn.op == X86_FXRSTOR;
    uint32_t mxcsr;
    uint8_t *p = loads && x86_insn_is_mem(&c->insn) ? operand(c, s, at, 4) : NULL;
    if (p) {
        memcpy(&mxcsr, p, 4);
    }
    return p && (mxcsr & MXCSR_MM);
}

/* SHA instructions with a misaligned operand: #GP on Intel (and in the manual), run by AMD. */
static bool sha_misaligned(const struct diff_case *c)
{
    uint64_t ea;
    return x86_form_feature(c->insn.form) == X86_FEATURE_SHA && x86_insn_is_mem(&c->insn) &&
           diff_address(&c->insn, &c->in, &ea) && (ea & 15);
}

/* AMD has FCOMI set ZF, PF and CF in spite of an unmasked invalid operation (Intel: Vol. 2A). */
static bool fcomi_unmasked(const struct diff_case *c, const struct diff_state *s)
{
    unsigned op = c->insn.op;
    bool compares = op == X86_FCOMI_ST0_STI || op == X86_FCOMIP_ST0_STI ||
                    op == X86_FUCOMI_ST0_STI || op == X86_FUCOMIP_ST0_STI;
    return compares && (s->fx[2] & ~s->fx[0] & FP_IE);
}

void diff_vendor_mend(const struct diff_vendor *v, const struct diff_case *c,
                      struct diff_state *out)
{
    uint8_t *p;
    bool done = out->fault == DIFF_NO_FAULT;
    if ((v->amd && sha_misaligned(c)) || (v->misaligned_sse && done && loads_mm(c, out))) {
        *out = c->in;
        out->fault = EXC_GP;
        return;
    }
    if (v->amd && done && fcomi_unmasked(c, out)) {
        out->flags &= ~(uint64_t)FLAG_ALL;
        out->flags |= c->in.flags & (FLAG_ZF | FLAG_PF | FLAG_CF);
    }
    if (v->misaligned_sse && done && c->insn.op == X86_FXSAVE &&
        (p = operand(c, out, FXSAVE_MASK, 4))) {
        p[2] &= (uint8_t) ~(MXCSR_MM >> 16); /* the guest has no such bit */
    }
}
