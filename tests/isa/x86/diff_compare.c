/* What must be equal, what the manual leaves undefined, and how differences are printed. */
#include <string.h>
#include <sys/mman.h>

#include "base/strbuf.h"
#include "isa/x86/disas.h"
#include "isa/x86/table.h"
#include "tests/isa/x86/diff.h"

/* Flags undefined after an instruction whatever its operands (Intel SDM Vol. 2). */
static const struct {
    uint16_t op, flags;
} undefined[] = {
    {X86_AND, FLAG_AF},
    {X86_OR, FLAG_AF},
    {X86_XOR, FLAG_AF},
    {X86_TEST, FLAG_AF},
    {X86_MUL, FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF},
    {X86_IMUL, FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF},
    {X86_DIV, FLAG_ALL},
    {X86_IDIV, FLAG_ALL},
    {X86_BSF, FLAG_ALL & ~FLAG_ZF},
    {X86_BSR, FLAG_ALL & ~FLAG_ZF},
    {X86_BT, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {X86_BTS, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {X86_BTR, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {X86_BTC, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {X86_LZCNT, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {X86_TZCNT, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {X86_ANDN, FLAG_AF | FLAG_PF},
    {X86_BEXTR, FLAG_AF | FLAG_SF | FLAG_PF},
    {X86_BLSI, FLAG_AF | FLAG_PF},
    {X86_BLSR, FLAG_AF | FLAG_PF},
    {X86_BLSMSK, FLAG_AF | FLAG_PF},
    {X86_BZHI, FLAG_AF | FLAG_PF},
    {X86_AAA, FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF},
    {X86_AAS, FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF},
    {X86_DAA, FLAG_OF},
    {X86_DAS, FLAG_OF},
    {X86_AAM, FLAG_OF | FLAG_AF | FLAG_CF},
    {X86_AAD, FLAG_OF | FLAG_AF | FLAG_CF},
};

/* Count of a shift or rotate, masked as the processor does. */
static unsigned count_of(const struct diff_case *c, unsigned bits)
{
    if (!c->insn.nopnd) {
        return 0;
    }
    const struct x86_opnd *o = &c->insn.opnd[c->insn.nopnd - 1];
    uint64_t n = o->kind == X86_OPND_GPR ? c->in.gpr[RCX] : (uint64_t)c->insn.imm;
    return (unsigned)n & (bits == 64 ? 63 : 31);
}

static unsigned undefined_by_count(const struct diff_case *c)
{
    unsigned bits = c->insn.opnd[0].size * 8u, n = count_of(c, bits);
    unsigned of = n == 1 ? 0 : FLAG_OF;
    if (n == 0) {
        return 0;
    }
    switch (c->insn.op) {
    case X86_ROL:
    case X86_ROR:
    case X86_RCL:
    case X86_RCR: return of;
    case X86_SHL:
    case X86_SHR: return FLAG_AF | of | (n >= bits ? FLAG_CF : 0);
    case X86_SAR: return FLAG_AF | of;
    case X86_SHLD:
    case X86_SHRD: return n > bits ? FLAG_ALL : FLAG_AF | of;
    default: return 0;
    }
}

uint64_t diff_defined_flags(const struct diff_case *c)
{
    uint64_t mask = DIFF_FLAGS & ~(uint64_t)undefined_by_count(c);
    for (unsigned i = 0; i < ARRAY_LEN(undefined); i++) {
        if (undefined[i].op == c->insn.op) {
            mask &= ~(uint64_t)undefined[i].flags;
        }
    }
    return mask;
}

/* 16-bit SHLD and SHRD by more than 16: the result is undefined. */
bool diff_result_undefined(const struct diff_case *c)
{
    bool doubles = c->insn.op == X86_SHLD || c->insn.op == X86_SHRD;
    return doubles && c->insn.opnd[0].size == 2 && count_of(c, 16) > 16;
}

static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static void number(struct strbuf *t, const char *name, uint64_t before, uint64_t want, uint64_t got)
{
    if (want != got) {
        strbuf_add(t, "  %-6s was %016llx, host %016llx, here %016llx\n", name,
                   (unsigned long long)before, (unsigned long long)want, (unsigned long long)got);
    }
}

static void hex(struct strbuf *t, const uint8_t *p, unsigned n)
{
    for (unsigned i = n; i-- > 0;) {
        strbuf_add(t, "%02x%s", p[i], i % 8 == 0 && i ? "'" : "");
    }
}

static void bytes(struct strbuf *t, const char *name, unsigned k, const uint8_t *before,
                  const uint8_t *want, const uint8_t *got, unsigned n)
{
    if (memcmp(want, got, n) == 0) {
        return;
    }
    strbuf_add(t, "  %s%u was ", name, k);
    hex(t, before, n);
    strbuf_add(t, "\n       host ");
    hex(t, want, n);
    strbuf_add(t, "\n       here ");
    hex(t, got, n);
    strbuf_add(t, "\n");
}

static void compare_x87(const struct diff_case *c, const struct diff_state *want,
                        const struct diff_state *got, struct strbuf *t)
{
    uint16_t w[3][2];
    memcpy(w[0], c->in.fx, 4);
    memcpy(w[1], want->fx, 4);
    memcpy(w[2], got->fx, 4);
    number(t, "fcw", w[0][0], w[1][0], w[2][0]);
    number(t, "fsw", w[0][1], w[1][1], w[2][1]);
    number(t, "ftw", c->in.fx[4], want->fx[4], got->fx[4]);
    for (unsigned i = 0; i < 8; i++) {
        unsigned at = 32 + i * 16;
        bytes(t, "st", i, c->in.fx + at, want->fx + at, got->fx + at, 10);
    }
}

/*
 * An address that is not canonical: the manual has #SS for stack accesses where we have #GP, and
 * #GP at a branch to one where we have it at the fetch behind the branch. Some hypervisors turn a
 * page fault into #GP while RSP is not canonical.
 */
static bool not_canonical(const struct diff_case *c, const struct diff_state *want,
                          const struct diff_state *got)
{
    bool branch = c->insn.op == X86_CALL || c->insn.op == X86_JMP || c->insn.op == X86_RET;
    uint64_t rsp = want->gpr[RSP];
    bool odd_stack = (uint64_t)sign_extend(rsp, 48) != rsp;
    return c->insn.mode == 8 && ((want->fault == EXC_SS && got->fault == EXC_GP) ||
                                 (odd_stack && want->fault == EXC_GP && got->fault == EXC_PF) ||
                                 (branch && want->fault == EXC_GP && got->fault == DIFF_NO_FAULT));
}

/*
 * Faults halfway, where the manual lets part of the work be done (gathers, stores of several
 * registers) or the processor does something of its own (VCVTPS2PH has set MXCSR, MASKMOVQ may
 * fault on what it does not store). A gather's single-step trap comes in place of its fault.
 */
static bool fault_differs(const struct diff_case *c, const struct diff_state *want,
                          const struct diff_state *got)
{
    bool gather = x86_form_flags(c->insn.form) & X86_FORM_VSIB;
    bool mask = c->insn.op == X86_MASKMOVQ || c->insn.op == X86_MASKMOVDQU;
    return (gather && got->fault != DIFF_NO_FAULT &&
            (want->fault == got->fault || want->pc == c->in.pc)) ||
           (c->insn.op == X86_POPA && want->fault == EXC_PF && got->fault == EXC_PF) ||
           (mask && want->fault == EXC_PF);
}

/* Alignment checks that the manual leaves to the processor: wide vectors, moves under a mask,
 * FXSAVE. AMD's MOVSXD with a word operand checks for four bytes. */
static bool alignment_differs(const struct diff_case *c, const struct diff_state *want,
                              const struct diff_state *got)
{
    bool saves = c->insn.op == X86_FXSAVE || c->insn.op == X86_FXRSTOR;
    bool wide = c->insn.op == X86_MASKMOVQ || c->insn.op == X86_MASKMOVDQU;
    for (unsigned i = 0; i < c->insn.nopnd; i++) {
        const struct x86_opnd *o = &c->insn.opnd[i];
        wide |= o->kind == X86_OPND_MEM && o->size >= 16;
    }
    bool movsxd = c->insn.op == X86_MOVSXD && c->insn.opsize == 2;
    return want->fault == EXC_AC &&
           (wide || (saves && got->fault == EXC_GP) || (movsxd && got->fault != EXC_AC));
}

static bool partial_memory(const struct diff_case *c, const struct diff_state *want)
{
    static const uint16_t ops[] = {X86_ENTER,      X86_PUSHA,      X86_FXSAVE,
                                   X86_FNSAVE,     X86_FNSTENV,    X86_VMASKMOVPS,
                                   X86_VMASKMOVPD, X86_VPMASKMOVD, X86_VPMASKMOVQ};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        if (ops[i] == c->insn.op) {
            return want->fault != DIFF_NO_FAULT;
        }
    }
    return false;
}

/*
 * A random address can be one where this process has something, which the engines do not know of
 * and the host reads or writes. (AddressSanitizer has a great deal.)
 */
static bool hit_process(const struct diff_state *want, const struct diff_state *got)
{
    unsigned char in_core;
    uint64_t page = got->fault_addr & ~(uint64_t)(RT_PAGE_SIZE - 1);
    return got->fault == EXC_PF && want->fault != EXC_PF &&
           mincore((void *)(uintptr_t)page, RT_PAGE_SIZE, &in_core) == 0;
}

/* A product that is tiny and exact, of which the sum tells nothing (isa/x86/help_unmasked.c). */
static bool hidden_underflow(const struct diff_case *c, const struct diff_state *want,
                             const struct diff_state *got)
{
    bool products = c->insn.op == X86_DPPS || c->insn.op == X86_DPPD;
    unsigned on = ~(want->mxcsr >> MXCSR_MASK_SHIFT) & want->mxcsr;
    return products && want->fault == EXC_XM && got->fault == DIFF_NO_FAULT && (on & FP_UE);
}

/* Flags beside an unmasked exception that are not exact (isa/x86/help_unmasked.c). */
static uint32_t mxcsr_stale(const struct diff_case *c, const struct diff_state *want)
{
    unsigned on = ~(want->mxcsr >> MXCSR_MASK_SHIFT) & want->mxcsr;
    if (want->fault != EXC_XM) {
        return c->insn.op == X86_VCVTPS2PH && want->fault != DIFF_NO_FAULT ? FP_ALL : 0;
    }
    if (c->insn.op == X86_DPPS || c->insn.op == X86_DPPD) {
        return FP_ALL;
    }
    return on & (FP_OE | FP_UE) ? FP_PE : 0;
}

bool diff_same(const struct diff_case *c, uint64_t defined, const struct diff_state *want,
               const struct diff_state *got, struct strbuf *t)
{
    size_t before = t->len;
    if (not_canonical(c, want, got) || fault_differs(c, want, got) ||
        alignment_differs(c, want, got) || hidden_underflow(c, want, got) ||
        hit_process(want, got)) {
        return true;
    }
    if (want->fault != got->fault) {
        strbuf_add(t, "  fault: host %d, here %d\n", want->fault, got->fault);
        return false;
    }
    if (diff_result_undefined(c)) {
        return true;
    }
    for (unsigned i = 0; i < 16; i++) {
        number(t, names[i], c->in.gpr[i], want->gpr[i], got->gpr[i]);
    }
    number(t, "rip", c->in.pc, want->pc, got->pc);
    number(t, "flags", c->in.flags, want->flags & defined, got->flags & defined);
    uint32_t stale = mxcsr_stale(c, want);
    number(t, "mxcsr", c->in.mxcsr, want->mxcsr | stale, got->mxcsr | stale);
    if (want->fault == DIFF_NO_FAULT || !(x86_form_flags(c->insn.form) & X86_FORM_MMX)) {
        compare_x87(c, want, got, t); /* some MMX stores change TOP before they fault */
    }
    for (unsigned i = 0; i < 16; i++) {
        bytes(t, "ymm", i, c->in.vec[i], want->vec[i], got->vec[i], 32);
    }
    if (memcmp(want->mem, got->mem, DIFF_MEM_SIZE) == 0 || partial_memory(c, want)) {
        return t->len == before;
    }
    for (unsigned i = 0; i < DIFF_MEM_SIZE; i += 16) {
        bytes(t, "mem ", i, c->in.mem + i, want->mem + i, got->mem + i, 16);
    }
    return t->len == before;
}

static void print_insn(const struct diff_case *c, const struct diff_step *s, struct strbuf *t)
{
    char form[64];
    x86_form_name(s->insn.form, form, sizeof(form));
    for (unsigned i = 0; i < s->insn.len; i++) {
        strbuf_add(t, "%02x ", c->code[s->at + i]);
    }
    strbuf_add(t, "   ");
    x86_disas(t, &s->insn, c->in.pc + s->at);
    strbuf_add(t, "   (%s, line %u, %u-bit)\n", form, x86_form_line(s->insn.form),
               s->insn.mode * 8);
}

void diff_print_case(const struct diff_case *c, struct strbuf *t)
{
    uint64_t ea;
    for (unsigned k = 0; k < c->n; k++) {
        print_insn(c, &c->step[k], t);
    }
    for (unsigned i = 0; i < 16; i++) {
        strbuf_add(t, "  %-4s%016llx%s", names[i], (unsigned long long)c->in.gpr[i],
                   i % 4 == 3 ? "\n" : "");
    }
    strbuf_add(t, "  flags %llx mxcsr %x fcw %02x%02x fsw %02x%02x ftw %02x\n",
               (unsigned long long)c->in.flags, c->in.mxcsr, c->in.fx[1], c->in.fx[0], c->in.fx[3],
               c->in.fx[2], c->in.fx[4]);
    if (c->n == 1 && diff_address(&c->insn, &c->in, &ea)) {
        strbuf_add(t, "  memory operand at %llx\n", (unsigned long long)ea);
    }
}
