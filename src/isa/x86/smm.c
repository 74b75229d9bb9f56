/*
 * System management mode: Intel SDM Vol. 3C chapter 31; the state save area is that of AMD64 (APM
 * Vol. 2, 10.2.3, revision 20064h), which firmware for virtual machines expects.
 *
 * An SMI goes in between two instructions: x86_smm_enter() saves the state to SMBASE + FE00h and
 * starts the handler at SMBASE + 8000h; RSM loads it back, with SMBASE itself, which the handler
 * may have moved. Meanwhile SMIs, INIT and NMIs wait.
 *
 * The save area is the guest's memory, so RSM believes nothing: what no processor can be in is a
 * shutdown. Does not do: restart of I/O instructions (the field is 0), dual-monitor treatment, the
 * 32-bit area.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "core/machine.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

enum {
    SAVE = 0xfe00, /* from SMBASE; the rest from here */
    SAVE_SIZE = 0x200,
    SAVE_SEGS = 0x00, /* ES CS SS DS FS GS, 16 bytes each: selector, rights, limit, base */
    SAVE_GDTR = 0x60,
    SAVE_LDTR = 0x70,
    SAVE_IDTR = 0x80,
    SAVE_TR = 0x90,
    SAVE_HALT = 0xc9, /* 1: HLT goes on */
    SAVE_NMI = 0xca,  /* 1: NMIs are blocked */
    SAVE_EFER = 0xd0,
    SAVE_REVISION = 0xfc,
    SAVE_SMBASE = 0x100,
    SAVE_CR4 = 0x148,
    SAVE_CR3 = 0x150,
    SAVE_CR0 = 0x158,
    SAVE_DR7 = 0x160,
    SAVE_DR6 = 0x168,
    SAVE_RFLAGS = 0x170,
    SAVE_RIP = 0x178,
    SAVE_R15 = 0x180, /* downwards to R8 */
    SAVE_RDI = 0x1c0, /* RDI RSI RBP RSP RBX RDX RCX RAX: numbers downwards, too */
    HANDLER = 0x8000,
    REVISION = 0x20064,
};

static void put_seg(uint8_t *at, const struct x86_segment *s, uint64_t base)
{
    store_le16(at, s->sel);
    store_le16(at + 2, s->ar);
    store_le32(at + 4, s->limit);
    store_le64(at + 8, base);
}

static struct x86_segment get_seg(const uint8_t *at)
{
    return (struct x86_segment){.sel = load_le16(at),
                                .ar = load_le16(at + 2) & 0xf0ff,
                                .limit = load_le32(at + 4),
                                .base = load_le64(at + 8)};
}

static void put_table(uint8_t *at, const struct x86_table *t)
{
    store_le16(at + 4, t->limit);
    store_le64(at + 8, t->base);
}

static struct x86_table get_table(const uint8_t *at)
{
    return (struct x86_table){.base = load_le64(at + 8), .limit = load_le16(at + 4)};
}

static void save(const struct x86_cpu *c, bool halted, uint8_t *a)
{
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        put_seg(a + SAVE_SEGS + 16 * i, &c->seg[i], c->seg_base[i]);
    }
    put_seg(a + SAVE_LDTR, &c->ldtr, c->ldtr.base);
    put_seg(a + SAVE_TR, &c->tr, c->tr.base);
    put_table(a + SAVE_GDTR, &c->gdtr);
    put_table(a + SAVE_IDTR, &c->idtr);
    a[SAVE_HALT] = halted;
    a[SAVE_NMI] = c->nmi_blocked;
    store_le64(a + SAVE_EFER, c->efer);
    store_le32(a + SAVE_REVISION, REVISION);
    store_le32(a + SAVE_SMBASE, c->smbase);
    store_le64(a + SAVE_CR4, c->cr4);
    store_le64(a + SAVE_CR3, c->cr3);
    store_le64(a + SAVE_CR0, c->cr0);
    store_le64(a + SAVE_DR7, c->dr[7]);
    store_le64(a + SAVE_DR6, c->dr[6]);
    store_le64(a + SAVE_RFLAGS, x86_rflags(c));
    store_le64(a + SAVE_RIP, c->rt.pc);
    for (unsigned i = 0; i < 16; i++) {
        store_le64(a + SAVE_R15 + 8 * (15 - i), c->rt.reg[i]);
    }
}

/* 31.5.1 and its table: like real mode, with segments of 4 GiB. */
static void enter_state(struct x86_cpu *c)
{
    const uint16_t ar = AR_P | AR_S | AR_W | AR_A | AR_G;
    c->efer = 0;
    c->cr4 = 0;
    c->cr0 &= ~(uint64_t)(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
    tlb_switch(c->rt.vcpu, 0, false);
    tlb_flush(c->rt.vcpu);
    x86_set_rflags(c, 0, FLAG_ALL | RF_SYS_ALL);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        x86_set_seg_raw(c, i, 0, 0, 0xffffffff, i == SEG_CS ? ar | AR_CODE : ar);
    }
    c->seg[SEG_CS].sel = (uint16_t)(c->smbase >> 4);
    c->seg_base[SEG_CS] = c->smbase;
    x86_set_cpl(c, 0);
    c->rt.pc = HANDLER;
    c->dr[7] = 0x400;
    x86_debug_regs_changed(c);
}

void x86_smm_enter(struct x86_cpu *c)
{
    struct vcpu *v = c->rt.vcpu;
    uint8_t area[SAVE_SIZE] = {0};
    log_put(LOG_IRQ, "cpu %u SMI at %llx\n", v->index, (unsigned long long)c->rt.pc);
    save(c, v->state == VCPU_HALTED && !c->halted_mwait, area);
    x86_mode_hold(c);
    c->smm = v->smm = true;
    c->nmi_blocked = true;
    c->smi_count++;
    v->state = VCPU_RUNNING;
    c->halted_mwait = false;
    enter_state(c);
    for (unsigned i = 0; i < SAVE_SIZE; i += 64) {
        vmem_write(v, (uint32_t)(c->smbase + SAVE + i), x86_sys_idx(c), 64, area + i);
    }
    x86_mode_release(c);
}

/* Could a processor have these together? */
static bool control_right(const struct x86_cpu *c, const uint8_t *a)
{
    uint64_t cr0 = load_le64(a + SAVE_CR0), cr4 = load_le64(a + SAVE_CR4);
    uint64_t cr3 = load_le64(a + SAVE_CR3), efer = load_le64(a + SAVE_EFER);
    bool pg = cr0 & CR0_PG, lma = efer & EFER_LMA;
    return !(cr0 >> 32) && (!pg || (cr0 & CR0_PE)) && (!(cr0 & CR0_NW) || (cr0 & CR0_CD)) &&
           !(cr4 & ~x86_cr4_known(c)) && !(cr3 >> X86_PHYS_BITS) &&
           !(efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)) &&
           lma == (pg && (efer & EFER_LME)) && (!lma || (cr4 & CR4_PAE)) &&
           (lma || !(cr4 & CR4_PCIDE)) &&
           (!(load_le64(a + SAVE_RFLAGS) & RF_VM) || (!lma && (cr0 & CR0_PE)));
}

/* Bases and RIP as instructions would have let them be; outside long mode they are cut to 32 bits.
 */
static bool addresses_right(const struct x86_cpu *c, const uint8_t *a)
{
    static const uint16_t more[] = {SAVE_LDTR, SAVE_TR, SAVE_GDTR, SAVE_IDTR};
    bool lma = load_le64(a + SAVE_EFER) & EFER_LMA, ok = true;
    for (unsigned i = 0; lma && i < SEG_COUNT; i++) {
        ok &= x86_canonical_reg(c, load_le64(a + SAVE_SEGS + 16 * i + 8));
    }
    for (unsigned i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        ok &= x86_canonical_reg(c, load_le64(a + more[i] + 8));
    }
    uint64_t pc = load_le64(a + SAVE_RIP);
    bool wide = lma && (load_le16(a + SAVE_SEGS + 16 * SEG_CS + 2) & AR_L);
    return ok && (wide ? x86_canonical_reg(c, pc) : !(pc >> 32));
}

static void load_segs(struct x86_cpu *c, const uint8_t *a)
{
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        struct x86_segment s = get_seg(a + SAVE_SEGS + 16 * i);
        x86_set_seg_raw(c, i, s.sel, c->efer & EFER_LMA ? s.base : (uint32_t)s.base, s.limit, s.ar);
    }
    c->ldtr = get_seg(a + SAVE_LDTR);
    c->tr = get_seg(a + SAVE_TR);
    c->gdtr = get_table(a + SAVE_GDTR);
    c->idtr = get_table(a + SAVE_IDTR);
    bool real = !(c->cr0 & CR0_PE), vm = c->sys_flags & RF_VM;
    x86_set_cpl(c, real ? 0 : vm ? 3 : (c->seg[SEG_SS].ar & AR_DPL) >> 5);
}

static bool load(struct x86_cpu *c, const uint8_t *a)
{
    if (!control_right(c, a) || !addresses_right(c, a)) {
        return false;
    }
    c->efer = load_le64(a + SAVE_EFER);
    c->cr4 = load_le64(a + SAVE_CR4);
    c->cr3 = load_le64(a + SAVE_CR3);
    c->cr0 = (load_le64(a + SAVE_CR0) & 0xe005003f) | CR0_ET;
    bool pae = (c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LMA);
    if (pae && !x86_load_pdptes(c, c->cr3)) {
        return false;
    }
    tlb_switch(c->rt.vcpu, c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0, false);
    tlb_flush(c->rt.vcpu);
    x86_set_rflags(c, load_le64(a + SAVE_RFLAGS), FLAG_ALL | RF_SYS_ALL);
    load_segs(c, a);
    for (unsigned i = 0; i < 16; i++) {
        c->rt.reg[i] = load_le64(a + SAVE_R15 + 8 * (15 - i));
    }
    c->dr[6] = (load_le64(a + SAVE_DR6) & 0xe00f) | 0xffff0ff0;
    c->dr[7] = (load_le64(a + SAVE_DR7) & 0xffff2bff) | 0x400;
    x86_debug_regs_changed(c);
    c->rt.pc = load_le64(a + SAVE_RIP);
    c->smbase = load_le32(a + SAVE_SMBASE);
    c->nmi_blocked = a[SAVE_NMI] & 1;
    if (a[SAVE_HALT] & 1) {
        c->rt.vcpu->state = VCPU_HALTED;
    }
    return true;
}

enum ir_helper_result helper_rsm(struct rt_env *env, uint64_t b, uint64_t d, uint64_t e)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    uint8_t area[SAVE_SIZE];
    if (!c->smm) {
        return x86_raise(c, EXC_UD);
    }
    /* The handler's own translations do not count: the area is at its physical address. */
    x86_mode_hold(c);
    c->cr0 &= ~(uint64_t)CR0_PG;
    c->efer = 0;
    tlb_flush(env->vcpu);
    bool ok = true;
    for (unsigned i = 0; ok && i < SAVE_SIZE; i += 64) {
        ok = vmem_read(env->vcpu, (uint32_t)(c->smbase + SAVE + i), MODE_MMU_KERNEL_AC, 64,
                       area + i);
    }
    c->smm = env->vcpu->smm = false;
    ok = ok && load(c, area);
    x86_mode_release(c);
    if (!ok) {
        x86_shutdown(c, "RSM found a state that no processor can be in");
    }
    atomic_store(&env->exit, 1); /* SMI, INIT and NMI may wait, or it halts */
    return IR_HELPER_PC;
}
