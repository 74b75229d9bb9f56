/*
 * Segment registers and descriptors (Intel SDM Vol. 3A 3.4, 5.2 to 5.7).
 * Task state segments as targets are in task.c.
 */
#include "isa/x86/sys.h"

uint64_t x86_desc_base(uint64_t d)
{
    return bits_get(d, 39, 16) | bits_get(d, 63, 56) << 24;
}

uint32_t x86_desc_limit(uint64_t d)
{
    uint32_t limit = (uint32_t)(bits_get(d, 15, 0) | bits_get(d, 51, 48) << 16);
    return d & BIT(55) ? limit << 12 | 0xfff : limit;
}

uint16_t x86_desc_ar(uint64_t d)
{
    return (uint16_t)(bits_get(d, 55, 40) & 0xf0ff);
}

void x86_set_seg_raw(struct x86_cpu *c, unsigned seg, uint16_t sel, uint64_t base, uint32_t limit,
                     uint16_t ar)
{
    c->seg[seg] = (struct x86_segment){.sel = sel, .ar = ar, .limit = limit};
    c->seg_base[seg] = base;
    if (seg == SEG_CS || seg == SEG_SS || !(c->efer & EFER_LMA)) {
        x86_mode_changed(c);
    }
}

void x86_seg_from_desc(struct x86_cpu *c, unsigned seg, uint16_t sel, uint64_t d)
{
    x86_set_seg_raw(c, seg, sel, x86_desc_base(d), x86_desc_limit(d), x86_desc_ar(d));
}

/* Address of a selector's descriptor; false when the table does not hold it (nothing raised). */
static bool desc_address(const struct x86_cpu *c, uint16_t sel, unsigned bytes, gva_t *addr)
{
    bool local = sel & 4;
    uint64_t base = local ? c->ldtr.base : c->gdtr.base;
    uint64_t limit = local ? c->ldtr.limit : c->gdtr.limit;
    if (local && !(c->ldtr.ar & AR_P)) {
        return false;
    }
    *addr = base + (sel & ~7u);
    return (sel | 7u) + (bytes - 8) <= limit;
}

bool x86_fetch_desc(struct x86_cpu *c, uint16_t sel, unsigned vector, uint64_t *desc, gva_t *addr)
{
    if (!desc_address(c, sel, 8, addr)) {
        x86_raise_error(c, vector, sel & ~3u);
        return false;
    }
    return vmem_read(c->rt.vcpu, *addr, x86_sys_idx(c), 8, desc);
}

/* Sets the accessed bit in memory when it is clear. */
static bool mark_accessed(struct x86_cpu *c, gva_t addr, uint64_t *desc)
{
    if (*desc & BIT(40)) {
        return true;
    }
    *desc |= BIT(40);
    uint8_t type = (uint8_t)(*desc >> 40);
    return vmem_write(c->rt.vcpu, addr + 5, x86_sys_idx(c), 1, &type);
}

static enum ir_helper_result load_null(struct x86_cpu *c, unsigned seg, uint16_t sel)
{
    if (seg == SEG_SS) {
        bool long_code = (c->efer & EFER_LMA) && (c->seg[SEG_CS].ar & AR_L);
        if (!long_code || c->cpl == 3 || (sel & 3) != c->cpl) {
            return x86_raise_error(c, EXC_GP, 0);
        }
        x86_set_seg_raw(c, seg, sel, 0, 0xffffffff, AR_P | AR_S | AR_W | AR_DB | AR_G);
        return IR_HELPER_NEXT;
    }
    /* The base stays on AMD, is cleared on Intel; we clear it in the cached descriptor. */
    x86_set_seg_raw(c, seg, sel, 0, 0, 0);
    return IR_HELPER_NEXT;
}

static bool loadable(const struct x86_cpu *c, unsigned seg, uint16_t sel, uint16_t ar)
{
    unsigned dpl = (ar & AR_DPL) >> 5, rpl = sel & 3;
    if (!(ar & AR_S)) {
        return false;
    }
    if (seg == SEG_SS) {
        return rpl == c->cpl && dpl == c->cpl && (ar & (AR_CODE | AR_W)) == AR_W;
    }
    if ((ar & AR_CODE) && !(ar & AR_W)) {
        return false; /* execute only */
    }
    bool conforming = (ar & (AR_CODE | AR_E)) == (AR_CODE | AR_E);
    return conforming || (dpl >= rpl && dpl >= c->cpl);
}

/* MOV to a segment register, POP, LDS ... Not for CS. */
enum ir_helper_result x86_load_seg(struct x86_cpu *c, unsigned seg, uint16_t sel)
{
    if (!(c->cr0 & CR0_PE)) {
        struct x86_segment *s = &c->seg[seg];
        x86_set_seg_raw(c, seg, sel, (uint64_t)sel << 4, s->limit, s->ar);
        return IR_HELPER_NEXT;
    }
    if (c->sys_flags & RF_VM) {
        x86_set_seg_raw(c, seg, sel, (uint64_t)sel << 4, 0xffff,
                        AR_P | AR_S | AR_W | AR_A | AR_DPL);
        return IR_HELPER_NEXT;
    }
    if ((sel & ~3u) == 0) {
        return load_null(c, seg, sel);
    }
    uint64_t d;
    gva_t addr;
    if (!x86_fetch_desc(c, sel, EXC_GP, &d, &addr)) {
        return IR_HELPER_FAULT;
    }
    uint16_t ar = x86_desc_ar(d);
    if (!loadable(c, seg, sel, ar)) {
        return x86_raise_error(c, EXC_GP, sel & ~3u);
    }
    if (!(ar & AR_P)) {
        return x86_raise_error(c, seg == SEG_SS ? EXC_SS : EXC_NP, sel & ~3u);
    }
    if (!mark_accessed(c, addr, &d)) {
        return IR_HELPER_FAULT;
    }
    x86_seg_from_desc(c, seg, sel, d);
    return IR_HELPER_NEXT;
}

/* LLDT and LTR: 16-byte descriptors in long mode. */
static enum ir_helper_result load_system(struct x86_cpu *c, struct x86_segment *s, uint16_t sel,
                                         bool tr)
{
    unsigned bytes = c->efer & EFER_LMA ? 16 : 8;
    gva_t addr;
    uint64_t d[2] = {0};
    if ((sel & 4) || !desc_address(c, sel, bytes, &addr)) {
        return x86_raise_error(c, EXC_GP, sel & ~3u);
    }
    if (!vmem_read(c->rt.vcpu, addr, x86_sys_idx(c), bytes, d)) {
        return IR_HELPER_FAULT;
    }
    unsigned type = (unsigned)bits_get(d[0], 44, 40);
    bool right = tr ? type == 9 || (type == 1 && bytes == 8) : type == 2;
    if (!right) {
        return x86_raise_error(c, EXC_GP, sel & ~3u);
    }
    if (!(d[0] & BIT(47))) {
        return x86_raise_error(c, EXC_NP, sel & ~3u);
    }
    if (tr) { /* mark busy */
        uint8_t busy = (uint8_t)(d[0] >> 40) | 2;
        if (!vmem_write(c->rt.vcpu, addr + 5, x86_sys_idx(c), 1, &busy)) {
            return IR_HELPER_FAULT;
        }
        d[0] |= BIT(41);
    }
    *s = (struct x86_segment){.sel = sel,
                              .ar = x86_desc_ar(d[0]),
                              .limit = x86_desc_limit(d[0]),
                              .base = x86_desc_base(d[0]) | d[1] << 32};
    return IR_HELPER_NEXT;
}

enum ir_helper_result x86_lldt(struct x86_cpu *c, uint16_t sel)
{
    if ((sel & ~3u) == 0) {
        c->ldtr = (struct x86_segment){.sel = sel};
        return IR_HELPER_NEXT;
    }
    return load_system(c, &c->ldtr, sel, false);
}

enum ir_helper_result x86_ltr(struct x86_cpu *c, uint16_t sel)
{
    if ((sel & ~3u) == 0) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    return load_system(c, &c->tr, sel, true);
}

/* LAR, LSL, VERR, VERW: may the current privilege level look at this descriptor? `*desc` is read.
 */
static bool visible(struct x86_cpu *c, uint16_t sel, uint64_t *desc, bool *fault)
{
    gva_t addr;
    *fault = false;
    if ((sel & ~3u) == 0 || !desc_address(c, sel, 8, &addr)) {
        return false;
    }
    if (!vmem_read(c->rt.vcpu, addr, x86_sys_idx(c), 8, desc)) {
        *fault = true;
        return false;
    }
    uint16_t ar = x86_desc_ar(*desc);
    bool conforming = (ar & (AR_S | AR_CODE | AR_E)) == (AR_S | AR_CODE | AR_E);
    unsigned dpl = (ar & AR_DPL) >> 5;
    return conforming || (dpl >= c->cpl && dpl >= (sel & 3u));
}

/* what: 0 LAR, 1 LSL, 2 VERR, 3 VERW. ZF and, for LAR and LSL, *out. */
enum ir_helper_result x86_inspect_desc(struct x86_cpu *c, uint16_t sel, unsigned what,
                                       uint32_t *out, bool *zf)
{
    static const uint16_t lar_types = 0x1a3e, lar_long = 0x1a04 | 1 << 9 | 1 << 11;
    static const uint16_t lsl_types = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
    static const uint16_t lsl_long = 1 << 2 | 1 << 9 | 1 << 11;
    uint64_t d = 0;
    bool fault, lma = c->efer & EFER_LMA;
    *zf = visible(c, sel, &d, &fault);
    if (fault) {
        return IR_HELPER_FAULT;
    }
    uint16_t ar = x86_desc_ar(d);
    if (*zf && !(ar & AR_S)) {
        unsigned types = what == 0   ? (lma ? lar_long : lar_types)
                         : what == 1 ? (lma ? lsl_long : lsl_types)
                                     : 0;
        *zf = types >> (ar & 15) & 1;
    } else if (*zf && what == 2) {
        *zf = !(ar & AR_CODE) || (ar & AR_W);
    } else if (*zf && what == 3) {
        *zf = (ar & (AR_CODE | AR_W)) == AR_W;
    }
    *out = what == 0 ? (uint32_t)(d >> 32) & 0x00ffff00 : x86_desc_limit(d);
    return IR_HELPER_NEXT;
}
