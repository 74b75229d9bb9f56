/* CPUID leaves of a model (Intel SDM Vol. 2A CPUID; AMD APM Vol. 3 appendix E). */
#include <string.h>

#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "isa/x86/model.h"
#include "isa/x86/sys.h"

enum { A, B, C, D };

static void put_text(uint32_t *regs, const char *text, unsigned n)
{
    memcpy(regs, text, n);
}

static void leaf_1(const struct x86_cpu *c, uint32_t *r)
{
    const struct x86_model *m = c->model;
    const struct vcpu *v = c->rt.vcpu;
    unsigned n = v->machine ? v->machine->vcpu_count : 1;
    r[A] = m->signature;
    r[B] = (v->index << 24) | (n > 1 ? n << 16 : 0) | 8 << 8;
    r[C] = m->leaf[LEAF_1_ECX] | (c->cr4 & CR4_OSXSAVE ? 1u << 27 : 0);
    r[D] = m->leaf[LEAF_1_EDX] | (n > 1 ? 1u << 28 : 0);
}

static void leaf_topology(const struct x86_cpu *c, uint32_t sub, uint32_t *r)
{
    const struct vcpu *v = c->rt.vcpu;
    unsigned n = v->machine ? v->machine->vcpu_count : 1, shift = 0;
    while ((1u << shift) < n) {
        shift++;
    }
    r[C] = sub;
    r[D] = v->index;
    if (sub == 0) {
        r[B] = 1;
        r[C] |= 1 << 8;
    } else if (sub == 1) {
        r[A] = shift;
        r[B] = n;
        r[C] |= 2 << 8;
    }
}

static void leaf_xsave(const struct x86_cpu *c, uint32_t sub, uint32_t *r)
{
    uint64_t known = x86_xcr0_known(c);
    if (!c->model->has[X86_FEATURE_XSAVE]) {
        return;
    }
    if (sub == 0) {
        r[A] = (uint32_t)known;
        r[B] = c->xcr0 & 4 ? 832 : 576;
        r[C] = known & 4 ? 832 : 576;
    } else if (sub == 1) {
        r[A] = c->model->leaf[LEAF_D1_EAX];
        r[B] = c->xcr0 & 4 ? 832 : 576;
    } else if (sub == 2 && (known & 4)) {
        r[A] = 256;
        r[B] = 576;
    }
}

static void extended(const struct x86_cpu *c, uint32_t leaf, uint32_t *r)
{
    const struct x86_model *m = c->model;
    unsigned n = c->rt.vcpu->machine ? c->rt.vcpu->machine->vcpu_count : 1;
    switch (leaf & 0xff) {
    case 0:
        r[A] = 0x80000008;
        put_text(&r[B], m->vendor, 4);
        put_text(&r[D], m->vendor + 4, 4);
        put_text(&r[C], m->vendor + 8, 4);
        break;
    case 1:
        r[A] = m->signature;
        r[C] = m->leaf[LEAF_81_ECX] | (n > 1 ? 2 : 0);
        r[D] = m->leaf[LEAF_81_EDX];
        break;
    case 2:
    case 3:
    case 4: put_text(r, m->brand + ((leaf & 0xff) - 2) * 16, 16); break;
    case 5: /* L1 caches and TLBs: 64 KiB, 2-way, 64-byte lines */
        r[A] = r[B] = 0x01ff01ff;
        r[C] = r[D] = 0x40020140;
        break;
    case 6: /* L2: 512 KiB, 16-way */
        r[B] = 0x42004200;
        r[C] = 0x02008140;
        break;
    case 7: r[D] = m->leaf[LEAF_87_EDX]; break;
    case 8:
        r[A] = X86_PHYS_BITS | 48 << 8;
        r[B] = m->leaf[LEAF_88_EBX];
        r[C] = n - 1;
        break;
    }
}

void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    const struct x86_model *m = c->model;
    memset(r, 0, 16);
    if (leaf >= 0x80000000u) {
        if (leaf <= 0x80000008u) {
            extended(c, leaf, r);
        }
        return;
    }
    switch (leaf) {
    case 0:
        r[A] = 0xd;
        put_text(&r[B], m->vendor, 4);
        put_text(&r[D], m->vendor + 4, 4);
        put_text(&r[C], m->vendor + 8, 4);
        break;
    case 1: leaf_1(c, r); break;
    case 5:
        r[C] = m->has[X86_FEATURE_MONITOR] ? 3 : 0;
        r[A] = r[B] = r[C] ? 64 : 0;
        break;
    case 6: r[A] = 4; break; /* ARAT */
    case 7:
        if (sub == 0) {
            r[B] = m->leaf[LEAF_7_EBX];
            r[C] = m->leaf[LEAF_7_ECX];
            r[D] = m->leaf[LEAF_7_EDX];
        }
        break;
    case 0xb: leaf_topology(c, sub, r); break;
    case 0xd: leaf_xsave(c, sub, r); break;
    case 0x40000000:
        r[A] = 0x40000001;
        put_text(&r[B], "LodgeLodgeLo", 12);
        break;
    }
}

uint64_t x86_xcr0_known(const struct x86_cpu *c)
{
    return c->model->has[X86_FEATURE_AVX] ? 7 : 3;
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
    return k;
}
