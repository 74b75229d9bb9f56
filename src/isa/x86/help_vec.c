/*
 * Vector instructions that touch memory element by element, and string compares (Intel SDM Vol. 2:
 * MASKMOVDQU, VMASKMOV, VPGATHERDD ..., chapter 4.1 for PCMPESTRI ...). Elements that are masked
 * out are not accessed. A gather that faults has changed nothing yet: completed elements are read
 * again when it is restarted.
 */
#include <string.h>

#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"
#include "isa/x86/vec_args.h"

#define FX_ST 32

static struct x86_cpu *cpu_of(struct rt_env *env)
{
    return (struct x86_cpu *)env;
}

static bool sign_of(const uint8_t *element, unsigned size)
{
    return element[size - 1] & 0x80;
}

/* An MMX instruction makes TOP 0 and all registers valid. */
static void fx_to_mmx(uint8_t fx[512])
{
    x86_fx_move_top(fx, 0);
    fx[4] = 0xff;
}

static bool move_elements(struct x86_cpu *c, uint64_t va, const struct x86_masked *m, uint8_t *data,
                          const uint8_t *mask)
{
    for (unsigned i = 0; i < m->count; i++) {
        uint8_t *d = data + i * m->size;
        uint64_t at = va + i * m->size;
        if (!sign_of(mask + i * m->size, m->size)) {
            if (!m->store) {
                memset(d, 0, m->size);
            }
            continue;
        }
        bool ok = m->store ? vmem_write(c->rt.vcpu, at, c->rt.mmu_idx, m->size, d)
                           : vmem_read(c->rt.vcpu, at, c->rt.mmu_idx, m->size, d);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* a: address, b: struct x86_masked */
enum ir_helper_result helper_masked_move(struct rt_env *env, uint64_t va, uint64_t args, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    struct x86_masked m;
    uint8_t fx[512] __attribute__((aligned(16))), data[32] = {0};
    memcpy(&m, &args, sizeof(m));
    if (m.mmx) {
        c->rt.mem->fpu_get(env, fx);
        fx_to_mmx(fx);
        if (!move_elements(c, va, &m, fx + FX_ST + m.reg * 16, fx + FX_ST + m.mask * 16)) {
            return IR_HELPER_FAULT;
        }
        c->rt.mem->fpu_set(env, fx);
        return IR_HELPER_NEXT;
    }
    if (m.store) {
        memcpy(data, c->vec[m.reg], 32);
    }
    if (!move_elements(c, va, &m, data, c->vec[m.mask])) {
        return IR_HELPER_FAULT;
    }
    if (!m.store) {
        memcpy(c->vec[m.reg], data, 32);
    }
    return IR_HELPER_NEXT;
}

static bool gather_one(struct x86_cpu *c, const struct x86_gather *g, uint64_t off, uint8_t *out)
{
    unsigned seg = g->scale_seg & 15;
    if (g->addrsize == 4) {
        off = (uint32_t)off;
    }
    uint64_t va = off;
    if (!x86_long_code(c)) {
        if (!x86_seg_check(c, seg, off, g->size, RT_READ)) {
            return false;
        }
        va = (uint32_t)(off + c->seg_base[seg]);
    } else if (seg == SEG_FS || seg == SEG_GS) {
        va += c->seg_base[seg];
    }
    return vmem_read(c->rt.vcpu, va, c->rt.mmu_idx, g->size, out);
}

/* a: base + displacement, b: struct x86_gather */
enum ir_helper_result helper_gather(struct rt_env *env, uint64_t base, uint64_t args, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    struct x86_gather g;
    uint8_t out[32] = {0};
    memcpy(&g, &args, sizeof(g));
    memcpy(out, c->vec[g.reg], (size_t)g.count * g.size);
    for (unsigned i = 0; i < g.count; i++) {
        int64_t index = 0;
        if (!sign_of(c->vec[g.mask] + i * g.size, g.size)) {
            continue;
        }
        memcpy(&index, c->vec[g.index] + i * g.index_size, g.index_size);
        index = g.index_size == 4 ? (int32_t)index : index;
        uint64_t off = base + ((uint64_t)index << (g.scale_seg >> 4));
        if (!gather_one(c, &g, off, out + i * g.size)) {
            return IR_HELPER_FAULT;
        }
    }
    memcpy(c->vec[g.reg], out, 32);
    memset(c->vec[g.mask], 0, 32);
    return IR_HELPER_NEXT;
}

/* a: VZEROALL */
enum ir_helper_result helper_vzero(struct rt_env *env, uint64_t all, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    for (unsigned i = 0; i < (x86_long_code(c) ? 16u : 8u); i++) {
        all ? memset(c->vec[i], 0, 32) : memset(c->vec[i] + 16, 0, 16);
    }
    return IR_HELPER_NEXT;
}

/* One side of a string compare. */
struct side {
    int32_t v[16];
    unsigned len; /* valid elements */
};

/* Vol. 2B 4.1.2: elements, and where they end. */
static struct side take_side(const uint8_t *bytes, unsigned imm8, bool explicit_len, int64_t len)
{
    struct side s;
    bool words = imm8 & 1, is_signed = imm8 & 2;
    unsigned n = words ? 8 : 16;
    s.len = n;
    for (unsigned i = 0; i < n; i++) {
        unsigned u = words ? (unsigned)(bytes[2 * i] | bytes[2 * i + 1] << 8) : bytes[i];
        s.v[i] = !is_signed ? (int32_t)u : words ? (int16_t)u : (int8_t)u;
        if (!explicit_len && u == 0 && s.len == n) {
            s.len = i;
        }
    }
    if (explicit_len) {
        uint64_t abs = len < 0 ? 0 - (uint64_t)len : (uint64_t)len;
        s.len = abs < n ? (unsigned)abs : n;
    }
    return s;
}

/* Does element j of the string b match set or range a? */
static bool match_set(const struct side *a, int32_t x, bool ranges)
{
    for (unsigned i = 0; i < a->len; i += ranges ? 2 : 1) {
        if (ranges ? i + 1 < a->len && a->v[i] <= x && x <= a->v[i + 1] : a->v[i] == x) {
            return true;
        }
    }
    return false;
}

/* Does the string a stand in b at j, as far as b's elements reach? */
static bool match_ordered(const struct side *a, const struct side *b, unsigned j, unsigned n)
{
    for (unsigned i = 0; i < a->len && j + i < n; i++) {
        if (j + i >= b->len || a->v[i] != b->v[j + i]) {
            return false;
        }
    }
    return true;
}

/* Aggregation (4.1.4) and polarity (4.1.5). */
static unsigned compare(const struct side *a, const struct side *b, unsigned imm8)
{
    unsigned n = imm8 & 1 ? 8 : 16, r = 0;
    for (unsigned j = 0; j < n; j++) {
        bool hit;
        switch (imm8 >> 2 & 3) {
        case 0: hit = j < b->len && match_set(a, b->v[j], false); break;
        case 1: hit = j < b->len && match_set(a, b->v[j], true); break;
        case 2:
            hit = j < a->len && j < b->len ? a->v[j] == b->v[j] : j >= a->len && j >= b->len;
            break;
        default: hit = match_ordered(a, b, j, n); break;
        }
        bool flip = (imm8 & 0x30) == 0x10 || ((imm8 & 0x30) == 0x30 && j < b->len);
        r |= (unsigned)(hit != flip) << j;
    }
    return r;
}

/* IntRes2 as a mask of bits or elements (4.1.6). */
static void put_mask(struct x86_cpu *c, unsigned r, const struct x86_pcmpstr *p)
{
    uint8_t out[16] = {(uint8_t)r, (uint8_t)(r >> 8)};
    bool words = p->imm8 & 1;
    for (unsigned i = 0; (p->imm8 & 0x40) && i < 16; i++) {
        out[i] = r >> (words ? i / 2 : i) & 1 ? 0xff : 0;
    }
    memcpy(c->vec[0], out, 16);
    if (p->vex) {
        memset(c->vec[0] + 16, 0, 16);
    }
}

static uint64_t index_of(unsigned r, unsigned imm8)
{
    if (r == 0) {
        return imm8 & 1 ? 8 : 16;
    }
    return imm8 & 0x40 ? 31 - (unsigned)__builtin_clz(r) : (unsigned)__builtin_ctz(r);
}

/* a: address, b: struct x86_pcmpstr */
enum ir_helper_result helper_pcmpstr(struct rt_env *env, uint64_t va, uint64_t args, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    struct x86_pcmpstr p;
    uint8_t other[16];
    memcpy(&p, &args, sizeof(p));
    memcpy(other, c->vec[p.rm], 16);
    if (p.mem && !vmem_read(env->vcpu, va, env->mmu_idx, 16, other)) {
        return IR_HELPER_FAULT;
    }
    int64_t la = (int64_t)env->reg[RAX], lb = (int64_t)env->reg[RDX];
    if (!p.wide_len) {
        la = (int32_t)la;
        lb = (int32_t)lb;
    }
    struct side a = take_side(c->vec[p.reg], p.imm8, p.explicit_len, la);
    struct side b = take_side(other, p.imm8, p.explicit_len, lb);
    unsigned r = compare(&a, &b, p.imm8), n = p.imm8 & 1 ? 8 : 16;
    if (p.to_mask) {
        put_mask(c, r, &p);
    } else {
        env->reg[RCX] = index_of(r, p.imm8);
    }
    env->flags = rt_flags_pack((r ? FLAG_CF : 0u) | (b.len < n ? FLAG_ZF : 0u) |
                               (a.len < n ? FLAG_SF : 0u) | (r & 1 ? FLAG_OF : 0u));
    return IR_HELPER_NEXT;
}
