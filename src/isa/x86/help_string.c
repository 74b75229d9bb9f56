/*
 * String instructions and port I/O (Intel SDM Vol. 2, MOVS STOS LODS CMPS SCAS INS OUTS IN OUT).
 *
 * A call does at most one page, or CHUNK elements, of a repeated instruction and asks to be run
 * again (interrupts are taken in between, with RCX, RSI and RDI up to date). Plain RAM, forward,
 * is done in bulk; everything else element by element. Overlapping MOVS propagates as by elements.
 */
#include <stdatomic.h>
#include <string.h>

#include "core/machine.h"
#include "core/mem.h"
#include "ir/interp.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

#define CHUNK 4096

struct str {
    struct x86_cpu *c;
    struct x86_string_args a;
    uint64_t mask;  /* of address size */
    int64_t step;   /* + or - element size */
    uint64_t count; /* elements left; 1 without a prefix */
    unsigned idx;
    bool flat;
};

static uint64_t get(const struct str *s, unsigned reg)
{
    return s->c->rt.reg[reg] & s->mask;
}

static void set(struct str *s, unsigned reg, uint64_t v)
{
    uint64_t *r = &s->c->rt.reg[reg];
    *r = s->a.addrsize == 2 ? (*r & ~0xffffull) | (v & 0xffff) : v & s->mask;
}

static gva_t linear(const struct str *s, unsigned seg, uint64_t off)
{
    uint64_t base = x86_long_code(s->c) && seg < SEG_FS ? 0 : s->c->seg_base[seg];
    uint64_t va = base + off;
    return x86_long_code(s->c) ? va : va & 0xffffffff;
}

static bool src_at(const struct str *s, unsigned access, gva_t *va)
{
    uint64_t off = get(s, RSI);
    *va = linear(s, s->a.seg, off);
    return (s->flat || x86_seg_check(s->c, s->a.seg, off, s->a.size, access)) &&
           x86_align_check(s->c, *va, s->a.size);
}

static bool dst_at(const struct str *s, unsigned access, gva_t *va)
{
    uint64_t off = get(s, RDI);
    *va = linear(s, SEG_ES, off);
    return (s->flat || x86_seg_check(s->c, SEG_ES, off, s->a.size, access)) &&
           x86_align_check(s->c, *va, s->a.size);
}

static void move_on(struct str *s, bool src, bool dst, uint64_t n)
{
    if (src) {
        set(s, RSI, get(s, RSI) + (uint64_t)s->step * n);
    }
    if (dst) {
        set(s, RDI, get(s, RDI) + (uint64_t)s->step * n);
    }
    if (s->a.rep) {
        set(s, RCX, get(s, RCX) - n);
        s->count -= n;
    }
}

/* Elements that fit from `va` in `span` bytes and up to the wrap of the address. */
static uint64_t fit(const struct str *s, uint64_t off, uint64_t bytes)
{
    uint64_t to_wrap = s->mask - off;
    uint64_t n = (bytes < to_wrap ? bytes : to_wrap) / s->a.size;
    return n < s->count ? n : s->count;
}

static void fill(void *dst, uint64_t v, unsigned size, uint64_t n)
{
    if (size == 1 || v == 0) {
        memset(dst, (int)(v & 0xff), n * size);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        memcpy((char *)dst + i * size, &v, size);
    }
}

/* Bulk steps: elements done, 0 when bulk does not apply, -1 on a fault. */
static int64_t bulk_stos(struct str *s)
{
    gva_t dst;
    void *p;
    if (!dst_at(s, RT_WRITE, &dst)) {
        return -1;
    }
    int n = vmem_span(s->c->rt.vcpu, dst, s->idx, RT_PAGE_SIZE, RT_WRITE, &p);
    if (n <= 0) {
        return n;
    }
    uint64_t k = fit(s, get(s, RDI), (uint64_t)n);
    fill(p, s->c->rt.reg[RAX], s->a.size, k);
    move_on(s, false, true, k);
    return (int64_t)k;
}

static int64_t bulk_movs(struct str *s)
{
    gva_t src, dst;
    void *ps, *pd;
    if (!src_at(s, RT_READ, &src) || !dst_at(s, RT_WRITE, &dst)) {
        return -1;
    }
    int ns = vmem_span(s->c->rt.vcpu, src, s->idx, RT_PAGE_SIZE, RT_READ, &ps);
    if (ns <= 0) {
        return ns;
    }
    int nd = vmem_span(s->c->rt.vcpu, dst, s->idx, RT_PAGE_SIZE, RT_WRITE, &pd);
    if (nd <= 0) {
        return nd;
    }
    uint64_t k = fit(s, get(s, RSI), (uint64_t)(ns < nd ? ns : nd));
    uint64_t kd = fit(s, get(s, RDI), (uint64_t)nd);
    k = k < kd ? k : kd;
    size_t bytes = k * s->a.size;
    if ((char *)pd > (char *)ps && (char *)pd < (char *)ps + bytes) {
        for (size_t i = 0; i < bytes; i += s->a.size) {
            memmove((char *)pd + i, (char *)ps + i, s->a.size);
        }
    } else {
        memmove(pd, ps, bytes);
    }
    move_on(s, true, true, k);
    return (int64_t)k;
}

static void compare_flags(struct str *s, uint64_t a, uint64_t b)
{
    static const uint8_t type_of[9] = {[1] = IR_I8, [2] = IR_I16, [4] = IR_I32, [8] = IR_I64};
    uint32_t f = ir_flags_value(IR_FL_SUB, type_of[s->a.size], a, b, 0, 0);
    s->c->rt.flags = rt_flags_pack(f);
}

static bool stops(const struct str *s)
{
    bool zf = rt_flags_unpack(s->c->rt.flags) & FLAG_ZF;
    return s->a.rep && (s->a.rep == 0xf3 ? !zf : zf);
}

static bool io_allowed(struct x86_cpu *c, uint16_t port, unsigned size)
{
    if (!(c->cr0 & CR0_PE) || (!(c->sys_flags & RF_VM) && c->cpl <= (c->sys_flags >> 12 & 3))) {
        return true;
    }
    /* I/O permission bitmap: Intel SDM Vol. 1 19.5.2 */
    uint16_t map = 0, bits = 0;
    bool wide = (c->tr.ar & 0xf) >= 9 && c->tr.limit >= 103;
    if (wide && vmem_read(c->rt.vcpu, c->tr.base + 102, x86_sys_idx(c), 2, &map) &&
        map + port / 8 + 1u <= c->tr.limit &&
        vmem_read(c->rt.vcpu, c->tr.base + map + port / 8, x86_sys_idx(c), 2, &bits) &&
        !(bits >> (port & 7) & mask_low(size))) {
        return true;
    }
    x86_raise_error(c, EXC_GP, 0);
    return false;
}

/* One element of anything, slowly. False: fault. */
static bool one(struct str *s)
{
    struct vcpu *v = s->c->rt.vcpu;
    unsigned size = s->a.size;
    uint64_t x = 0, y = s->c->rt.reg[RAX] & mask_low(size * 8);
    gva_t src = 0, dst = 0;
    bool reads_src = s->a.what == STRING_MOVS || s->a.what == STRING_LODS ||
                     s->a.what == STRING_CMPS || s->a.what == STRING_OUTS;
    bool uses_dst = s->a.what != STRING_LODS && s->a.what != STRING_OUTS;
    bool writes = s->a.what == STRING_MOVS || s->a.what == STRING_STOS || s->a.what == STRING_INS;
    uint16_t port = (uint16_t)s->c->rt.reg[RDX];
    bool io = s->a.what == STRING_INS || s->a.what == STRING_OUTS;
    if (io && !io_allowed(s->c, port, size)) {
        return false;
    }
    if (io) {
        x86_debug_io(s->c, port, size);
    }
    if (reads_src && (!src_at(s, RT_READ, &src) || !vmem_read(v, src, s->idx, size, &x))) {
        return false;
    }
    if (uses_dst && !dst_at(s, writes ? RT_WRITE : RT_READ, &dst)) {
        return false;
    }
    if (s->a.what == STRING_INS) {
        void *host;
        if (!s->c->rt.mem->resolve(&s->c->rt, dst, size, RT_WRITE, &host)) {
            return false;
        }
        mem_read(v->io, port, size, &x);
    }
    if (uses_dst && !writes) {
        uint64_t d = 0;
        if (!vmem_read(v, dst, s->idx, size, &d)) {
            return false;
        }
        s->a.what == STRING_CMPS ? compare_flags(s, x, d) : compare_flags(s, y, d);
    } else if (writes) {
        x = s->a.what == STRING_STOS ? y : x;
        if (!vmem_write(v, dst, s->idx, size, &x)) {
            return false;
        }
    } else if (s->a.what == STRING_LODS) {
        uint64_t *r = &s->c->rt.reg[RAX];
        *r = size == 8 ? x : size == 4 ? (uint32_t)x : (*r & ~mask_low(size * 8)) | x;
    } else {
        mem_write(v->io, port, size, x);
    }
    move_on(s, reads_src, uses_dst, 1);
    return true;
}

static int64_t step(struct str *s)
{
    int64_t n = 0;
    if (s->step > 0 && s->count > 1) {
        n = s->a.what == STRING_STOS ? bulk_stos(s) : s->a.what == STRING_MOVS ? bulk_movs(s) : 0;
    }
    return n ? n : one(s) ? 1 : -1;
}

enum ir_helper_result helper_string(struct rt_env *env, uint64_t packed, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    struct str s = {.c = c, .idx = env->mmu_idx};
    s.a = (struct x86_string_args){.what = (uint8_t)packed,
                                   .size = (uint8_t)(packed >> 8),
                                   .rep = (uint8_t)(packed >> 16),
                                   .seg = (uint8_t)(packed >> 24),
                                   .addrsize = (uint8_t)(packed >> 32),
                                   .len = (uint8_t)(packed >> 40)};
    s.mask = mask_low(s.a.addrsize * 8u);
    s.step = c->sys_flags & RF_DF ? -(int64_t)s.a.size : s.a.size;
    s.count = s.a.rep ? c->rt.reg[RCX] & s.mask : 1;
    s.flat = !!(x86_mode(env->vcpu) & MODE_FLAT);
    bool compares = s.a.what == STRING_CMPS || s.a.what == STRING_SCAS;
    for (uint64_t done = 0; s.count;) {
        int64_t n = step(&s);
        if (n < 0) {
            return IR_HELPER_FAULT;
        }
        if (!s.a.rep || (compares && stops(&s))) {
            return IR_HELPER_NEXT;
        }
        done += (uint64_t)n;
        bool trap = c->sys_flags & RF_TF;
        if (s.count &&
            (trap || done >= CHUNK || atomic_load_explicit(&env->exit, memory_order_relaxed))) {
            return IR_HELPER_AGAIN;
        }
    }
    return IR_HELPER_NEXT;
}

/* a: port, b: size */
enum ir_helper_result helper_in(struct rt_env *env, uint64_t port, uint64_t size, uint64_t d)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    uint64_t v = ~0ull;
    if (!io_allowed(c, (uint16_t)port, (unsigned)size)) {
        return IR_HELPER_FAULT;
    }
    x86_debug_io(c, (uint16_t)port, (unsigned)size);
    mem_read(env->vcpu->io, port & 0xffff, (unsigned)size, &v);
    uint64_t m = mask_low((unsigned)size * 8), *r = &env->reg[RAX];
    *r = size == 4 ? v & m : (*r & ~m) | (v & m);
    return IR_HELPER_NEXT;
}

/* a: port, b: size, c: value */
enum ir_helper_result helper_out(struct rt_env *env, uint64_t port, uint64_t size, uint64_t v)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    if (!io_allowed(c, (uint16_t)port, (unsigned)size)) {
        return IR_HELPER_FAULT;
    }
    x86_debug_io(c, (uint16_t)port, (unsigned)size);
    mem_write(env->vcpu->io, port & 0xffff, (unsigned)size, v & mask_low((unsigned)size * 8));
    return IR_HELPER_NEXT;
}
