/*
 * String instructions and port I/O (Intel SDM Vol. 2, MOVS STOS LODS CMPS SCAS INS OUTS IN OUT).
 *
 * A call does about CHUNK elements of a repeated instruction, less when somebody wants in, and asks
 * to be run again (interrupts are taken in between, with RCX, RSI and RDI up to date). What lies in
 * plain RAM is done in bulk, up to the end of a page; everything else element by element: devices,
 * elements over two pages, ports, single steps, and what faults. Overlapping MOVS propagates.
 */
#include <stdatomic.h>
#include <string.h>

#include "core/machine.h"
#include "core/mem.h"
#include "ir/interp.h"
#include "isa/x86/helpers.h"
#include "isa/x86/string_bulk.h"
#include "isa/x86/sys.h"

#define CHUNK 4096
#define SLOW 32 /* elements done one by one before bulk is tried again */

struct str {
    struct x86_cpu *c;
    struct x86_string_args a;
    uint64_t mask;  /* of address size */
    int64_t step;   /* + or - element size */
    uint64_t count; /* elements left; 1 without a prefix */
    unsigned idx, slow;
    bool flat, trap, aligned;
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

/* One memory operand. */
struct side {
    unsigned seg, reg, access;
    uint64_t off;
    gva_t va;
};

static struct side side_of(const struct str *s, bool dst, unsigned access)
{
    struct side d = {.seg = dst ? SEG_ES : s->a.seg, .reg = dst ? RDI : RSI, .access = access};
    d.off = get(s, d.reg);
    d.va = linear(s, d.seg, d.off);
    return d;
}

/* Bytes of the segment from an offset on, which is valid, in the direction that the string goes. */
static uint64_t segment_room(const struct str *s, const struct side *d)
{
    const struct x86_segment *seg = &s->c->seg[d->seg];
    bool expands_down = (seg->ar & (AR_S | AR_CODE | AR_E)) == (AR_S | AR_E);
    uint64_t top = !expands_down ? seg->limit : seg->ar & AR_DB ? 0xffffffff : 0xffff;
    uint64_t bottom = expands_down ? seg->limit + 1ull : 0;
    return s->step > 0 ? top - d->off + 1 : d->off - bottom + s->a.size;
}

/* Elements from the current one on that lie on one page, in the segment, and before the offset
 * wraps. */
static uint64_t in_reach(const struct str *s, const struct side *d)
{
    unsigned at = d->va & (RT_PAGE_SIZE - 1), size = s->a.size;
    uint64_t bytes = s->step > 0 ? RT_PAGE_SIZE - at : at + size;
    uint64_t to_wrap = s->step > 0 ? s->mask - d->off : d->off + size;
    if (at + size > RT_PAGE_SIZE) {
        return 0;
    }
    bytes = bytes < to_wrap ? bytes : to_wrap;
    if (!s->flat) {
        if (!x86_seg_check(s->c, d->seg, d->off, size, d->access)) {
            return 0;
        }
        uint64_t room = segment_room(s, d);
        bytes = bytes < room ? bytes : room;
    }
    return bytes / size < s->count ? bytes / size : s->count;
}

/* Host address of the lowest byte of n elements, or NULL: not plain RAM, or they fault. Then some
 * are done one by one before it is tried again. */
static uint8_t *plain(struct str *s, const struct side *d, uint64_t n)
{
    unsigned bytes = (unsigned)n * s->a.size;
    gva_t low = s->step > 0 ? d->va : d->va - (bytes - s->a.size);
    void *p;
    if (!(s->aligned && (d->va & (s->a.size - 1u))) &&
        vmem_span(s->c->rt.vcpu, low, s->idx, bytes, d->access, &p) == (int)bytes) {
        return p;
    }
    s->slow = SLOW;
    return NULL;
}

/* Bulk steps: elements done, 0 when they are to be done one by one (which also finds faults). */
static uint64_t bulk_stos(struct str *s)
{
    struct side dst = side_of(s, true, RT_WRITE);
    uint64_t n = in_reach(s, &dst);
    uint8_t *p = n ? plain(s, &dst, n) : NULL;
    if (!p) {
        return 0;
    }
    bulk_fill(p, s->c->rt.reg[RAX], s->a.size, n);
    move_on(s, false, true, n);
    return n;
}

static uint64_t bulk_movs(struct str *s)
{
    struct side src = side_of(s, false, RT_READ), dst = side_of(s, true, RT_WRITE);
    uint64_t ns = in_reach(s, &src), nd = in_reach(s, &dst), n = ns < nd ? ns : nd;
    uint8_t *from = n ? plain(s, &src, n) : NULL;
    uint8_t *to = from ? plain(s, &dst, n) : NULL;
    if (!to) {
        return 0;
    }
    bulk_copy(to, from, s->a.size, n, s->step < 0);
    move_on(s, true, true, n);
    return n;
}

static uint64_t element(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

static void set_acc(struct str *s, uint64_t v)
{
    uint64_t *r = &s->c->rt.reg[RAX], m = mask_low(s->a.size * 8u);
    *r = s->a.size >= 4 ? v : (*r & ~m) | v;
}

/* Only the last element counts. */
static uint64_t bulk_lods(struct str *s)
{
    struct side src = side_of(s, false, RT_READ);
    uint64_t n = in_reach(s, &src);
    const uint8_t *p = n ? plain(s, &src, n) : NULL;
    if (!p) {
        return 0;
    }
    set_acc(s, element(s->step > 0 ? p + (n - 1) * s->a.size : p, s->a.size));
    move_on(s, true, false, n);
    return n;
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

/* CMPS and SCAS: up to the element that stops them; flags are those of the last one. */
static uint64_t bulk_compare(struct str *s)
{
    unsigned size = s->a.size;
    bool cmps = s->a.what == STRING_CMPS;
    struct side src = side_of(s, false, RT_READ), dst = side_of(s, true, RT_READ);
    uint64_t n = in_reach(s, &dst), ns = cmps ? in_reach(s, &src) : n;
    n = ns < n ? ns : n;
    const uint8_t *a = cmps && n ? plain(s, &src, n) : NULL;
    const uint8_t *b = n && (a || !cmps) ? plain(s, &dst, n) : NULL;
    if (!b) {
        return 0;
    }
    uint64_t acc = s->c->rt.reg[RAX] & mask_low(size * 8);
    struct bulk_scan k = {
        .a = a, .b = b, .v = acc, .size = size, .down = s->step < 0, .equal = s->a.rep == 0xf2};
    uint64_t done = bulk_scan(&k, n), last = (s->step > 0 ? done - 1 : n - done) * size;
    compare_flags(s, cmps ? element(a + last, size) : acc, element(b + last, size));
    move_on(s, cmps, true, done);
    return done;
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
        set_acc(s, x);
    } else {
        mem_write(v->io, port, size, x);
    }
    move_on(s, reads_src, uses_dst, 1);
    return true;
}

static uint64_t bulk(struct str *s)
{
    switch (s->a.what) {
    case STRING_MOVS: return bulk_movs(s);
    case STRING_STOS: return bulk_stos(s);
    case STRING_LODS: return bulk_lods(s);
    case STRING_CMPS:
    case STRING_SCAS: return bulk_compare(s);
    default: return 0;
    }
}

/* Elements done; 0: fault. */
static uint64_t step(struct str *s)
{
    uint64_t n = s->a.rep && !s->trap && !s->slow ? bulk(s) : 0;
    s->slow -= s->slow != 0;
    return n ? n : one(s);
}

static struct str start(struct x86_cpu *c, uint64_t packed)
{
    struct str s = {.c = c, .idx = c->rt.mmu_idx};
    s.a = (struct x86_string_args){.what = (uint8_t)packed,
                                   .size = (uint8_t)(packed >> 8),
                                   .rep = (uint8_t)(packed >> 16),
                                   .seg = (uint8_t)(packed >> 24),
                                   .addrsize = (uint8_t)(packed >> 32),
                                   .len = (uint8_t)(packed >> 40)};
    s.mask = mask_low(s.a.addrsize * 8u);
    s.step = c->sys_flags & RF_DF ? -(int64_t)s.a.size : s.a.size;
    s.count = s.a.rep ? c->rt.reg[RCX] & s.mask : 1;
    s.flat = x86_long_code(c);
    s.trap = c->sys_flags & RF_TF;
    s.aligned = x86_aligned(c);
    return s;
}

/* Host address of `bytes` at an address, if they lie on one page that the soft TLB has. */
static uint8_t *at_hand(struct rt_env *env, gva_t va, uint64_t bytes, bool write)
{
    const struct rt_tlb_entry *e = rt_tlb_slot(env, env->mmu_idx, va);
    unsigned at = va & (RT_PAGE_SIZE - 1);
    bool hit = (va ^ (write ? e->tag_w : e->tag_r)) < RT_PAGE_SIZE && bytes <= RT_PAGE_SIZE - at;
    return hit ? (uint8_t *)(uintptr_t)e->host + at : NULL;
}

/* What there is most of: forward STOS and MOVS of 64-bit code, on one page. False: nothing done. */
static bool quick(struct x86_cpu *c, uint64_t packed)
{
    struct rt_env *env = &c->rt;
    unsigned what = packed & 0xff, size = packed >> 8 & 0xff, seg = packed >> 24 & 0xff;
    uint64_t n = env->reg[RCX], bytes = n * size;
    bool wide = (packed >> 32 & 0xff) == 8 && seg < SEG_FS && (packed >> 16 & 0xff);
    if (!wide || what > STRING_STOS || n - 1 >= RT_PAGE_SIZE || !x86_long_code(c) ||
        (c->sys_flags & (RF_DF | RF_TF | RF_AC))) {
        return false;
    }
    uint8_t *to = at_hand(env, env->reg[RDI], bytes, true), *from;
    if (!to) {
        return false;
    }
    if (what == STRING_STOS) {
        bulk_fill(to, env->reg[RAX], size, n);
    } else if ((from = at_hand(env, env->reg[RSI], bytes, false))) {
        bulk_copy(to, from, size, n, false);
        env->reg[RSI] += bytes;
    } else {
        return false;
    }
    env->reg[RDI] += bytes;
    env->reg[RCX] = 0;
    return true;
}

enum ir_helper_result helper_string(struct rt_env *env, uint64_t packed, uint64_t b, uint64_t d)
{
    if (quick((struct x86_cpu *)env, packed)) {
        return IR_HELPER_NEXT;
    }
    struct str s = start((struct x86_cpu *)env, packed);
    bool compares = s.a.what == STRING_CMPS || s.a.what == STRING_SCAS;
    for (uint64_t done = 0; s.count;) {
        uint64_t n = step(&s);
        if (n == 0) {
            return IR_HELPER_FAULT;
        }
        if (!s.a.rep || (compares && stops(&s))) {
            return IR_HELPER_NEXT;
        }
        done += n;
        if (s.count &&
            (s.trap || done >= CHUNK || atomic_load_explicit(&env->exit, memory_order_relaxed))) {
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
