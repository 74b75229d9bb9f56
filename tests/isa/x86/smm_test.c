/* RSM with save areas that a guest has written: what no processor can be in is a shutdown, nothing
 * else is believed (AMD APM Vol. 2, 10.2.3 and 10.3.3; Intel SDM Vol. 3C 31.4). */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/log.h"
#include "base/unit_test.h"
#include "core/machine.h"
#include "core/tlb_ops.h"
#include "isa/x86/cpu.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum {
    MEM = 0x100000,
    SMBASE = 0x30000,
    CS_AR = 0x12, /* from SMBASE + fe00h */
    CS_LIMIT = 0x14,
    CS_BASE = 0x18,
    SS_AR = 0x22,
    FS_BASE = 0x48,
    GDTR_BASE = 0x68,
    LDTR_BASE = 0x78,
    IDTR_BASE = 0x88,
    TR_BASE = 0x98,
    HALT = 0xc9,
    EFER = 0xd0,
    SMBASE_FIELD = 0x100,
    CR4 = 0x148,
    CR3 = 0x150,
    CR0 = 0x158,
    DR7 = 0x160,
    DR6 = 0x168,
    RFLAGS = 0x170,
    RIP = 0x178,
    SAVE_SIZE = 0x200,
};

struct rig {
    struct machine machine;
    struct vcpu vcpu;
    struct x86_cpu *c;
    uint8_t before[SAVE_SIZE]; /* the area as the SMI wrote it */
};

static uint8_t mem[MEM];

/* ---- Memory: one MiB, with nothing behind ---- */

bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    if (va > MEM - size) {
        return false;
    }
    memcpy(val, mem + va, size);
    return true;
}

bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    if (va > MEM - size) {
        return false;
    }
    memcpy(mem + va, val, size);
    return true;
}

int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    return -1;
}

bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    return vmem_read(v, gpa, 0, 8, val);
}

bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    uint32_t v32 = 0;
    bool ok = vmem_read(v, gpa, 0, 4, &v32);
    *val = v32;
    return ok;
}

bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    return false;
}

/* ---- The rig ---- */

static uint8_t *area(void)
{
    return mem + SMBASE + 0xfe00;
}

/* A processor in 64-bit mode, as a kernel has it. */
static void set_long_mode(struct x86_cpu *c)
{
    const uint16_t ar = AR_P | AR_S | AR_W | AR_A;
    c->cr0 = CR0_PE | CR0_ET | CR0_PG | CR0_WP;
    c->cr4 = CR4_PAE | CR4_OSFXSR;
    c->cr3 = 0x1000;
    c->efer = EFER_LME | EFER_LMA | EFER_SCE;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        x86_set_seg_raw(c, i, (uint16_t)(8 + 8 * i), 0, 0xffffffff,
                        i == SEG_CS ? ar | AR_CODE | AR_L | AR_G : ar | AR_DB | AR_G);
    }
    c->rt.pc = 0xffffffff80001234;
    x86_set_rflags(c, RF_IF, FLAG_ALL | RF_SYS_ALL);
    x86_mode_changed(c);
}

static void smi(struct rig *r)
{
    isa_x86.cpu_reset(&r->vcpu);
    memset(mem, 0, sizeof(mem));
    set_long_mode(r->c);
    r->machine.request = MACHINE_REQ_NONE;
    r->vcpu.state = VCPU_RUNNING;
    x86_smm_enter(r->c);
    assert_true(r->c->smm);
    memcpy(r->before, area(), SAVE_SIZE);
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    pthread_mutex_init(&r->machine.lock, NULL);
    r->machine.loop = loop_new(&err);
    r->machine.clock = clock_new_virtual();
    r->vcpu.isa = &isa_x86;
    r->vcpu.machine = &r->machine;
    r->vcpu.env = aligned_alloc(64, (isa_x86.env_size + 63) & ~(size_t)63);
    memset(r->vcpu.env, 0, isa_x86.env_size);
    r->vcpu.env->vcpu = &r->vcpu;
    assert_int_equal(isa_x86.cpu_init(&r->vcpu, "max", &err), 0);
    r->c = x86_cpu(&r->vcpu);
    log_open("/dev/null", &err); /* register dumps of shutdowns */
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    isa_x86.cpu_fini(&r->vcpu);
    loop_free(r->machine.loop);
    clock_free(r->machine.clock);
    pthread_mutex_destroy(&r->machine.lock);
    free(r->vcpu.env);
    free(r);
    return 0;
}

/* RSM; true: the processor goes on. */
static bool rsm(struct rig *r)
{
    helper_rsm(r->vcpu.env, 0, 0, 0);
    assert_false(r->c->smm || r->vcpu.smm);
    bool shut = r->machine.request == MACHINE_REQ_CRASH;
    assert_true(shut || r->machine.request == MACHINE_REQ_NONE);
    return !shut;
}

/* ---- Tests ---- */

static void comes_back_as_it_was(void **state)
{
    struct rig *r = *state;
    smi(r);
    assert_true(rsm(r));
    assert_int_equal(r->c->rt.pc, 0xffffffff80001234);
    assert_int_equal(r->c->cr0, CR0_PE | CR0_ET | CR0_PG | CR0_WP);
    assert_int_equal(r->c->efer, EFER_LME | EFER_LMA | EFER_SCE);
    assert_int_equal(r->c->cpl, 0);
    assert_true(r->c->sys_flags & RF_IF);
    x86_smm_enter(r->c);
    assert_memory_equal(area(), r->before, SAVE_SIZE); /* nothing is lost by going round */
}

struct change {
    uint16_t at;
    uint64_t val;
};

/* Each of these alone is a shutdown. */
static void states_that_cannot_be(void **state)
{
    struct rig *r = *state;
    static const struct change bad[] = {
        {CR0, 1ull << 32 | 0x80010011}, /* reserved bits */
        {CR0, 0x80010010},              /* paging without protection */
        {CR0, 0xa0010011},              /* NW without CD */
        {CR0, 0x00010011},              /* LMA without paging */
        {CR4, 1ull << 63 | CR4_PAE},    /* reserved */
        {CR4, 1u << 31 | CR4_PAE},      /* reserved */
        {CR4, 1 << 13 | CR4_PAE},       /* VMX, which there is not */
        {CR4, 0},                       /* long mode without PAE */
        {CR3, 1ull << X86_PHYS_BITS},   /* beyond physical memory's end */
        {CR3, 1ull << 63},
        {EFER, 0},                            /* paging as it was, without LMA: its RIP */
        {EFER, EFER_LMA},                     /* LMA without LME */
        {EFER, EFER_LME},                     /* LME and paging without LMA */
        {EFER, EFER_LME | EFER_LMA | 1 << 1}, /* reserved */
        {EFER, ~0ull},
        {RFLAGS, RF_VM},       /* virtual-8086 mode in long mode */
        {RIP, 0x800000000000}, /* not canonical */
        {RIP, 1ull << 63},
        {CS_BASE, 0x800000000000},
        {FS_BASE, 1ull << 62},
        {GDTR_BASE, 0x800000000000},
        {LDTR_BASE, 0x800000000000},
        {IDTR_BASE, 0xff00000000000000},
        {TR_BASE, 0x7fffffffffffffff},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        smi(r);
        store_le64(area() + bad[i].at, bad[i].val);
        assert_false(rsm(r));
        assert_int_equal(r->vcpu.state, VCPU_HALTED);
    }
}

static void put_real_mode(uint64_t rflags)
{
    store_le64(area() + CR0, CR0_ET);
    store_le64(area() + CR4, 0);
    store_le64(area() + EFER, 0);
    store_le64(area() + RIP, 0x1234);
    store_le64(area() + RFLAGS, rflags);
}

static void other_modes(void **state)
{
    struct rig *r = *state;
    smi(r);
    put_real_mode(2);
    store_le64(area() + FS_BASE, 0x123456789abcdef0); /* cut, outside of long mode */
    assert_true(rsm(r));
    assert_int_equal(r->c->seg_base[SEG_FS], 0x9abcdef0);
    assert_int_equal(r->c->cpl, 0);
    smi(r);
    put_real_mode(2);
    store_le64(area() + RIP, 1ull << 32);
    assert_false(rsm(r));
    smi(r);
    put_real_mode(RF_VM); /* virtual-8086 mode in real mode */
    assert_false(rsm(r));
    smi(r);
    put_real_mode(RF_VM | RF_IF);
    store_le64(area() + CR0, CR0_PE | CR0_ET);
    assert_true(rsm(r));
    assert_int_equal(r->c->cpl, 3);
    smi(r);
    put_real_mode(2); /* PAE tables in memory that is none: not present */
    store_le64(area() + CR0, CR0_PE | CR0_PG | CR0_ET);
    store_le64(area() + CR4, CR4_PAE);
    store_le64(area() + CR3, MEM);
    assert_true(rsm(r));
    assert_int_equal(r->c->pdpte[0], 0);
    smi(r);
    put_real_mode(2); /* and with reserved bits */
    store_le64(area() + CR0, CR0_PE | CR0_PG | CR0_ET);
    store_le64(area() + CR4, CR4_PAE);
    store_le64(mem + 0x1000, ~0ull);
    assert_false(rsm(r));
    smi(r);
    put_real_mode(2);
    store_le64(area() + CR4, CR4_PCIDE | CR4_PAE); /* outside of long mode */
    assert_false(rsm(r));
}

/* Compatibility mode has 32 bits of RIP. */
static void compatibility_mode(void **state)
{
    struct rig *r = *state;
    smi(r);
    store_le16(area() + CS_AR, AR_P | AR_S | AR_CODE | AR_W | AR_DB);
    assert_false(rsm(r));
    smi(r);
    store_le16(area() + CS_AR, AR_P | AR_S | AR_CODE | AR_W | AR_DB);
    store_le64(area() + RIP, 0xfffffff0);
    assert_true(rsm(r));
    assert_int_equal(r->c->rt.pc, 0xfffffff0);
}

/* Flags and debug registers have bits that are fixed; the level follows SS. */
static void bits_that_are_fixed(void **state)
{
    struct rig *r = *state;
    smi(r);
    store_le64(area() + RFLAGS, ~0ull & ~(uint64_t)RF_VM);
    store_le64(area() + DR6, 0);
    store_le64(area() + DR7, ~0ull);
    store_le16(area() + SS_AR, AR_P | AR_S | AR_W | AR_DPL | 0x0f00);
    store_le64(area() + CR0, 0xe005003f | 0x1ffaff80);
    area()[HALT] = 0xff;
    assert_true(rsm(r));
    assert_int_equal(x86_rflags(r->c) & ~(uint64_t)(FLAG_ALL | RF_SYS_ALL | RF_ONE), 0);
    assert_int_equal(r->c->dr[6], 0xffff0ff0);
    assert_int_equal(r->c->dr[7] >> 32, 0);
    assert_int_equal(r->c->cr0 & ~0xe005003fu, 0);
    assert_int_equal(r->c->cpl, 3);
    assert_int_equal(r->c->seg[SEG_SS].ar & 0x0f00, 0);
    assert_int_equal(r->vcpu.state, VCPU_HALTED);
}

/* SMBASE anywhere: the next SMI saves and RSM loads there, or it is nowhere. */
static void smbase_anywhere(void **state)
{
    static const uint32_t bases[] = {
        0, 1, 0x12345, MEM - 0x10000, MEM - 0xffff, 0x80000000, 0xffff0000, UINT32_MAX, 0xffff0201};
    struct rig *r = *state;
    for (unsigned i = 0; i < ARRAY_LEN(bases); i++) {
        smi(r);
        store_le32(area() + SMBASE_FIELD, bases[i]);
        assert_true(rsm(r));
        x86_smm_enter(r->c);
        assert_int_equal(r->c->seg_base[SEG_CS], bases[i]);
        rsm(r); /* what was saved there, zeros, or a shutdown */
        r->c->smbase = SMBASE;
    }
}

/* Whatever the area holds, one of both happens, and the state that comes is one with a mode. */
static void any_bytes(void **state)
{
    struct rig *r = *state;
    uint64_t seed = 1;
    unsigned went_on = 0;
    for (unsigned i = 0; i < 20000; i++) {
        smi(r);
        unsigned n = 1 + i % 8;
        for (unsigned k = 0; k < n; k++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            unsigned at = seed >> 40 & (SAVE_SIZE - 1);
            area()[at] = seed >> 32 & 1 ? (uint8_t)(seed >> 52) : area()[at] ^ 1u << (seed >> 61);
        }
        if (!rsm(r)) {
            continue;
        }
        went_on++;
        const struct x86_cpu *c = r->c;
        bool lma = c->efer & EFER_LMA, pg = c->cr0 & CR0_PG, pe = c->cr0 & CR0_PE;
        bool vm = c->sys_flags & RF_VM, wide = lma && (c->seg[SEG_CS].ar & AR_L);
        assert_true(lma == (pg && (c->efer & EFER_LME)) && (!pg || pe) && (!vm || (pe && !lma)));
        assert_true(c->cpl == (vm ? 3 : !pe ? 0 : (c->seg[SEG_SS].ar & AR_DPL) >> 5));
        assert_true(wide || !(c->rt.pc >> 32));
        isa_x86.mode(&r->vcpu);
    }
    assert_true(went_on > 100);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(comes_back_as_it_was), T(states_that_cannot_be), T(other_modes), T(compatibility_mode),
        T(bits_that_are_fixed),  T(smbase_anywhere),       T(any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
