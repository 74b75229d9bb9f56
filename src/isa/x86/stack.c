/* Stacks as interrupts, far calls and returns use them: nothing is committed until all is known. */
#include "isa/x86/decode.h"
#include "isa/x86/sys.h"

/* Vol. 3A 5.3: limits of data segments, which expand up or down. */
static void set_range(struct x86_stack *s, uint32_t limit, uint16_t ar)
{
    bool down = (ar & (AR_CODE | AR_E)) == AR_E;
    s->first = down ? (uint64_t)limit + 1 : 0;
    s->last = !down ? limit : ar & AR_DB ? 0xffffffff : 0xffff;
}

void x86_stack_new(struct x86_stack *s, struct x86_cpu *c, uint16_t ss, uint64_t d, uint64_t sp)
{
    uint16_t ar = x86_desc_ar(d);
    *s = (struct x86_stack){.c = c,
                            .base = x86_desc_base(d),
                            .sp = sp,
                            .mask = ar & AR_DB ? 0xffffffff : 0xffff,
                            .error = ss & ~3u,
                            .idx = x86_sys_idx(c)};
    set_range(s, x86_desc_limit(d), ar);
}

void x86_stack_current(struct x86_stack *s, struct x86_cpu *c)
{
    bool flat64 = x86_long_code(c);
    *s = (struct x86_stack){
        .c = c,
        .base = flat64 ? 0 : c->seg_base[SEG_SS],
        .sp = c->rt.reg[RSP],
        .mask = flat64                      ? ~0ull
                : c->seg[SEG_SS].ar & AR_DB ? 0xffffffffull
                                            : 0xffffull,
        .last = ~0ull,
        .idx = c->cpl == 3 ? MODE_MMU_USER : x86_sys_idx(c),
    };
    if (!flat64) {
        set_range(s, c->seg[SEG_SS].limit, c->seg[SEG_SS].ar);
    }
}

uint64_t x86_stack_add(struct x86_cpu *c, uint64_t n)
{
    struct x86_stack s;
    x86_stack_current(&s, c);
    return (s.sp & ~s.mask) | ((s.sp + n) & s.mask);
}

static uint64_t stack_address(const struct x86_stack *s)
{
    uint64_t a = s->base + (s->sp & s->mask);
    return s->mask == ~0ull ? a : a & 0xffffffffu;
}

/* An address that is not canonical gives #SS(0) on a stack (Vol. 3A 6.15, interrupt 12). */
static void stack_fault(struct x86_stack *s)
{
    struct rt_fault *f = &s->c->rt.fault;
    s->bad = true;
    if (f->kind == RT_FAULT_GUEST && f->vector == EXC_GP && f->addr) {
        x86_raise_error(s->c, EXC_SS, 0);
    }
}

static bool in_range(struct x86_stack *s, unsigned size)
{
    uint64_t off = s->sp & s->mask;
    bool limited = s->mask != ~0ull; /* 64-bit stacks wrap around: what is mapped there decides */
    if (limited && !s->bad && (off < s->first || off > s->last || s->last - off < size - 1)) {
        x86_raise_error(s->c, EXC_SS, s->error);
        s->bad = true;
    }
    return !s->bad;
}

/* A stack of CPL 3 may have to be aligned. */
static bool is_aligned(struct x86_stack *s, unsigned size)
{
    bool user = s->idx == MODE_MMU_USER;
    s->bad |= user && !x86_align_check(s->c, stack_address(s), size);
    return !s->bad;
}

void x86_push(struct x86_stack *s, unsigned size, uint64_t v)
{
    s->sp = (s->sp & ~s->mask) | ((s->sp - size) & s->mask);
    if (in_range(s, size) && is_aligned(s, size) &&
        !vmem_write(s->c->rt.vcpu, stack_address(s), s->idx, size, &v)) {
        stack_fault(s);
    }
}

uint64_t x86_pop(struct x86_stack *s, unsigned size)
{
    uint64_t v = 0;
    if (in_range(s, size) && is_aligned(s, size) &&
        !vmem_read(s->c->rt.vcpu, stack_address(s), s->idx, size, &v)) {
        stack_fault(s);
    }
    s->sp = (s->sp & ~s->mask) | ((s->sp + size) & s->mask);
    return v;
}

void x86_stack_commit(const struct x86_stack *s)
{
    s->c->rt.reg[RSP] = s->sp;
}

static bool tss_read(struct x86_cpu *c, uint32_t off, unsigned size, uint64_t *v)
{
    *v = 0;
    if (off + size - 1 > c->tr.limit) {
        x86_raise_error(c, EXC_TS, c->tr.sel & ~3u);
        return false;
    }
    return vmem_read(c->rt.vcpu, c->tr.base + off, x86_sys_idx(c), size, v);
}

/* Vol. 3A 8.2.1 (32-bit), 8.7 (64-bit); a 16-bit TSS has words. */
bool x86_tss_stack(struct x86_cpu *c, unsigned level, uint16_t *ss, uint64_t *sp)
{
    uint64_t v;
    if (c->efer & EFER_LMA) {
        *ss = (uint16_t)level;
        return tss_read(c, 4 + level * 8, 8, sp);
    }
    bool wide = c->tr.ar & 8;
    if (!tss_read(c, wide ? 4 + level * 8 : 2 + level * 4, wide ? 4 : 2, sp) ||
        !tss_read(c, wide ? 8 + level * 8 : 4 + level * 4, 2, &v)) {
        return false;
    }
    *ss = (uint16_t)v;
    return true;
}

bool x86_tss_ist(struct x86_cpu *c, unsigned ist, uint64_t *sp)
{
    return tss_read(c, 0x24 + (ist - 1) * 8, 8, sp);
}

bool x86_inner_ss(struct x86_cpu *c, uint16_t sel, unsigned level, unsigned vector, uint64_t *d)
{
    gva_t addr;
    if ((sel & ~3u) == 0) {
        x86_raise_error(c, vector, 0);
        return false;
    }
    if (!x86_fetch_desc(c, sel, vector, d, &addr)) {
        return false;
    }
    uint16_t ar = x86_desc_ar(*d);
    bool right = (sel & 3u) == level && (ar & AR_DPL) >> 5 == level &&
                 (ar & (AR_S | AR_CODE | AR_W)) == (AR_S | AR_W);
    if (!right || !(ar & AR_P)) {
        x86_raise_error(c, right ? EXC_SS : vector, sel & ~3u);
        return false;
    }
    return true;
}

/* The instruction at pc; false: it cannot be read any more. */
static bool read_insn(struct x86_cpu *c, struct x86_insn *in)
{
    uint8_t code[X86_MAX_LEN];
    unsigned n = 0, idx = c->cpl == 3 ? MODE_MMU_USER : MODE_MMU_KERNEL_AC;
    struct rt_fault keep = c->rt.fault;
    while (n < sizeof(code) && vmem_read(c->rt.vcpu, c->rt.pc + n, idx, 1, &code[n])) {
        n++;
    }
    c->rt.fault = keep;
    return x86_decode(in, code, n, 8) == X86_DECODE_OK;
}

static bool within(gva_t va, gva_t first, unsigned len)
{
    return va - first < len;
}

/* Was this address one of the stack's, or of a memory operand whose segment is SS? */
static bool through_ss(struct x86_cpu *c, gva_t va)
{
    struct x86_insn in;
    uint64_t sp = c->rt.reg[RSP];
    if (!read_insn(c, &in)) {
        return false;
    }
    switch (in.op) {
    case X86_PUSH:
    case X86_PUSHF:
    case X86_CALL:
        if (within(va, sp - in.opsize, in.opsize)) {
            return true;
        }
        break;
    case X86_POP:
    case X86_POPF:
    case X86_RET:
        if (within(va, sp, in.opsize)) {
            return true;
        }
        break;
    case X86_LEAVE: return true;
    default: break;
    }
    return x86_insn_is_mem(&in) && in.mem_seg == X86_SEG_SS;
}

void x86_settle_canonical(struct x86_cpu *c, struct rt_fault *f)
{
    if (f->vector == EXC_GP && f->addr && through_ss(c, f->addr)) {
        f->vector = EXC_SS;
    }
}
