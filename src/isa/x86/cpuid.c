/* CPUID leaves of a model (Intel SDM Vol. 2A CPUID; AMD APM Vol. 3 appendix E). */
#include <string.h>

#include "base/bits.h"
#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "isa/x86/model.h"
#include "isa/x86/sys.h"

enum { A, B, C, D };
#define TOPOEXT (1u << 22)               /* leaf 80000001h ECX */
enum { OSPKE = 1 << 4, LA57 = 1 << 16 }; /* leaf 7 ECX */

static bool has_la57(const struct x86_cpu *c)
{
    return c->model->leaf[LEAF_7_ECX] & LA57;
}

static void put_text(uint32_t *regs, const char *text, unsigned n)
{
    memcpy(regs, text, n);
}

static const struct topology *topology(const struct x86_cpu *c)
{
    static const struct topology alone = {1, 1, 1, 1, 1};
    const struct machine *m = c->rt.vcpu->machine;
    return m && m->config.topology.max ? &m->config.topology : &alone;
}

static unsigned in_socket(const struct x86_cpu *c)
{
    const struct topology *t = topology(c);
    return t->dies * t->cores * t->threads;
}

static uint32_t apic_id(const struct x86_cpu *c)
{
    return topology_apic_id(topology(c), c->rt.vcpu->index);
}

static void leaf_1(const struct x86_cpu *c, uint32_t *r)
{
    const struct x86_model *m = c->model;
    unsigned n = in_socket(c);
    r[A] = m->signature;
    r[B] = apic_id(c) << 24 | (n > 1 ? n << 16 : 0) | 8 << 8;
    r[C] = m->leaf[LEAF_1_ECX] | (c->cr4 & CR4_OSXSAVE ? 1u << 27 : 0);
    r[D] = m->leaf[LEAF_1_EDX] | (n > 1 ? 1u << 28 : 0);
}

enum topology_level { LEVEL_THREAD = 1, LEVEL_CORE = 2, LEVEL_DIE = 5 };

static void put_level(uint32_t *r, enum topology_level level, unsigned shift, unsigned count)
{
    r[A] = shift;
    r[B] = count;
    r[C] |= level << 8;
}

/* Bh has no level between core and socket, 1Fh is there for that. */
static void leaf_topology(const struct x86_cpu *c, uint32_t sub, bool dies, uint32_t *r)
{
    const struct topology *t = topology(c);
    r[C] = sub & 0xff;
    r[D] = apic_id(c);
    if (sub == 0) {
        put_level(r, LEVEL_THREAD, topology_core_shift(t), t->threads);
    } else if (sub == 1) {
        put_level(r, LEVEL_CORE, dies ? topology_die_shift(t) : topology_socket_shift(t),
                  t->threads * t->cores * (dies ? 1 : t->dies));
    } else if (sub == 2 && dies) {
        put_level(r, LEVEL_DIE, topology_socket_shift(t), in_socket(c));
    }
}

/* Level, type (1 data, 2 code, 3 both), ways, sets, below which bit of the APIC ID it is shared. */
static const struct cache {
    uint8_t level, type;
    uint16_t ways, sets;
    unsigned (*shift)(const struct topology *);
} caches[] = {
    {1, 1, 2, 512, topology_core_shift},
    {1, 2, 2, 512, topology_core_shift},
    {2, 3, 16, 512, topology_core_shift},
    {3, 3, 16, 16384, topology_die_shift},
};

/* Leaves 4 and 8000001Dh, which differ in bits 31:26. */
static void leaf_cache(const struct x86_cpu *c, uint32_t sub, bool cores, uint32_t *r)
{
    const struct topology *t = topology(c);
    if (sub >= ARRAY_LEN(caches)) {
        return;
    }
    const struct cache *k = &caches[sub];
    unsigned shared = (1u << k->shift(t)) - 1,
             ids = (1u << (topology_socket_shift(t) - topology_core_shift(t))) - 1;
    r[A] = k->type | (uint32_t)k->level << 5 | 1 << 8 | shared << 14;
    r[A] |= cores ? (ids < 63 ? ids : 63) << 26 : 0;
    r[B] = 63 | (k->ways - 1u) << 22;
    r[C] = k->sets - 1u;
}

/* Of the form that is not compacted. */
static uint32_t xsave_size(uint64_t components)
{
    return components & XCR0_PKRU ? XS_PKRU + 8 : components & 4 ? 832 : 576;
}

static void leaf_xsave(const struct x86_cpu *c, uint32_t sub, uint32_t *r)
{
    uint64_t known = x86_xcr0_known(c);
    if (!c->model->has[X86_FEATURE_XSAVE]) {
        return;
    }
    if (sub == 0) {
        r[A] = (uint32_t)known;
        r[B] = xsave_size(c->xcr0);
        r[C] = xsave_size(known);
    } else if (sub == 1) {
        r[A] = c->model->leaf[LEAF_D1_EAX];
        r[B] = 576 + (c->xcr0 & 4 ? 256 : 0) + (c->xcr0 & XCR0_PKRU ? 8 : 0);
    } else if (sub == 2 && (known & 4)) {
        r[A] = 256;
        r[B] = 576;
    } else if (sub == 9 && (known & XCR0_PKRU)) {
        r[A] = 8;
        r[B] = XS_PKRU;
    }
}

/* AMD's way to tell threads from cores and dies from sockets (APM Vol. 3 E.4.15, E.4.16), which
 * Linux wants to see before it looks at leaves Bh and 1Fh of such processors. */
static bool x86_topoext(const struct x86_cpu *c)
{
    const struct topology *t = topology(c);
    return t->threads > 1 || t->dies > 1 || (c->model->leaf[LEAF_81_ECX] & TOPOEXT);
}

static void extended(const struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t *r)
{
    const struct x86_model *m = c->model;
    const struct topology *t = topology(c);
    unsigned n = in_socket(c);
    switch (leaf & 0xff) {
    case 0:
        r[A] = x86_topoext(c) ? 0x8000001e : 0x80000008;
        put_text(&r[B], m->vendor, 4);
        put_text(&r[D], m->vendor + 4, 4);
        put_text(&r[C], m->vendor + 8, 4);
        break;
    case 1:
        r[A] = m->signature;
        r[C] = m->leaf[LEAF_81_ECX] | (n > 1 ? 2 : 0) | (x86_topoext(c) ? TOPOEXT : 0);
        r[D] = m->leaf[LEAF_81_EDX];
        break;
    case 2:
    case 3:
    case 4: put_text(r, m->brand + ((leaf & 0xff) - 2) * 16, 16); break;
    case 5: /* L1 caches and TLBs: 64 KiB, 2-way, 64-byte lines */
        r[A] = r[B] = 0x01ff01ff;
        r[C] = r[D] = 0x40020140;
        break;
    case 6: /* L2: 512 KiB, 16-way; L3: 16 MiB, 16-way */
        r[B] = 0x42004200;
        r[C] = 0x02008140;
        r[D] = 0x00808140;
        break;
    case 7: r[D] = m->leaf[LEAF_87_EDX]; break;
    case 8:
        r[A] = X86_PHYS_BITS | (has_la57(c) ? 57 : 48) << 8;
        r[B] = m->leaf[LEAF_88_EBX];
        r[C] = (n - 1) | topology_socket_shift(t) << 12;
        break;
    case 0x1d: leaf_cache(c, sub, false, r); break;
    case 0x1e: {
        struct topology_place p = topology_place(t, c->rt.vcpu->index);
        r[A] = apic_id(c);
        r[B] = (t->threads - 1) << 8 | (p.die * t->cores + p.core);
        r[C] = (t->dies - 1) << 8 | (p.socket * t->dies + p.die);
        break;
    }
    }
}

void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    const struct x86_model *m = c->model;
    memset(r, 0, 16);
    if (leaf >= 0x80000000u) {
        if (leaf <= (x86_topoext(c) ? 0x8000001eu : 0x80000008u)) {
            extended(c, leaf, sub, r);
        }
        return;
    }
    switch (leaf) {
    case 0:
        r[A] = topology(c)->dies > 1 ? 0x1f : 0xd;
        put_text(&r[B], m->vendor, 4);
        put_text(&r[D], m->vendor + 4, 4);
        put_text(&r[C], m->vendor + 8, 4);
        break;
    case 1: leaf_1(c, r); break;
    case 4: leaf_cache(c, sub, true, r); break;
    case 5:
        r[C] = m->has[X86_FEATURE_MONITOR] ? 3 : 0;
        r[A] = r[B] = r[C] ? 64 : 0;
        break;
    case 6: r[A] = 4; break; /* ARAT */
    case 7:
        if (sub == 0) {
            r[B] = m->leaf[LEAF_7_EBX];
            r[C] = m->leaf[LEAF_7_ECX] | (c->cr4 & CR4_PKE ? OSPKE : 0);
            r[D] = m->leaf[LEAF_7_EDX];
        }
        break;
    case 0xb: leaf_topology(c, sub, false, r); break;
    case 0xd: leaf_xsave(c, sub, r); break;
    case 0x1f:
        if (topology(c)->dies > 1) {
            leaf_topology(c, sub, true, r);
        }
        break;
    case 0x40000000:
        r[A] = 0x40000001;
        put_text(&r[B], "LodgeLodgeLo", 12);
        break;
    }
}

bool x86_canonical_reg(const struct x86_cpu *c, uint64_t va)
{
    return (uint64_t)sign_extend(va, has_la57(c) ? 57 : 48) == va;
}

uint64_t x86_xcr0_known(const struct x86_cpu *c)
{
    const bool *has = c->model->has;
    return 3 | (has[X86_FEATURE_AVX] ? 4 : 0) | (has[X86_FEATURE_PKU] ? XCR0_PKRU : 0);
}

uint64_t x86_cr4_known(const struct x86_cpu *c)
{
    const struct x86_model *m = c->model;
    uint64_t k = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
                 CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    k |= m->leaf[LEAF_7_ECX] & 4 ? CR4_UMIP : 0;
    k |= m->has[X86_FEATURE_FSGSBASE] ? CR4_FSGSBASE : 0;
    k |= m->leaf[LEAF_1_ECX] >> 17 & 1 ? CR4_PCIDE : 0;
    k |= m->has[X86_FEATURE_XSAVE] ? CR4_OSXSAVE : 0;
    k |= m->leaf[LEAF_7_EBX] & 0x80 ? CR4_SMEP : 0;
    k |= m->has[X86_FEATURE_SMAP] ? CR4_SMAP : 0;
    k |= m->has[X86_FEATURE_PKU] ? CR4_PKE : 0;
    k |= has_la57(c) ? CR4_LA57 : 0;
    return k;
}
