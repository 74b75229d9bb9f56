/* The x86 guest as the rest of the tree sees it: tables, reset, segment checks, dumps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "isa/x86/disas.h"
#include "isa/x86/helpers.h"
#include "isa/x86/model.h"
#include "isa/x86/sys.h"

#define REG(n, field, like)                                                                        \
    {                                                                                              \
        n, offsetof(struct x86_cpu, field), like                                                   \
    }
#define SEL(n, i)                                                                                  \
    {                                                                                              \
        n, offsetof(struct x86_cpu, seg) + (i) * sizeof(struct x86_segment), NULL                  \
    }

static const struct ir_reg regs[XREG_COUNT] = {
    REG("rax", rt.reg[0], "rax"),
    REG("rcx", rt.reg[1], "rcx"),
    REG("rdx", rt.reg[2], "rdx"),
    REG("rbx", rt.reg[3], "rbx"),
    REG("rsp", rt.reg[4], "rsp"),
    REG("rbp", rt.reg[5], "rbp"),
    REG("rsi", rt.reg[6], "rsi"),
    REG("rdi", rt.reg[7], "rdi"),
    REG("r8", rt.reg[8], "r8"),
    REG("r9", rt.reg[9], "r9"),
    REG("r10", rt.reg[10], "r10"),
    REG("r11", rt.reg[11], "r11"),
    REG("r12", rt.reg[12], NULL),
    REG("r13", rt.reg[13], NULL),
    REG("r14", rt.reg[14], NULL),
    REG("r15", rt.reg[15], NULL),
    REG("es_base", seg_base[0], NULL),
    REG("cs_base", seg_base[1], NULL),
    REG("ss_base", seg_base[2], NULL),
    REG("ds_base", seg_base[3], NULL),
    REG("fs_base", seg_base[4], NULL),
    REG("gs_base", seg_base[5], NULL),
    REG("sys_flags", sys_flags, NULL),
    REG("kernel_gs", kernel_gs, NULL),
    REG("mxcsr", mxcsr, NULL),
    REG("tsc_aux", tsc_aux, NULL),
    SEL("es", 0),
    SEL("cs", 1),
    SEL("ss", 2),
    SEL("ds", 3),
    SEL("fs", 4),
    SEL("gs", 5),
    REG("ldtr", ldtr.sel, NULL),
    REG("tr", tr.sel, NULL),
    REG("cr0", cr0, NULL),
    REG("cr2", cr2, NULL),
    REG("cr3", cr3, NULL),
    REG("cr4", cr4, NULL),
    REG("gdt_base", gdtr.base, NULL),
    REG("gdt_limit", gdtr.limit, NULL),
    REG("idt_base", idtr.base, NULL),
    REG("idt_limit", idtr.limit, NULL),
};

static const struct ir_helper helpers[X86_HELPERS] = {
#define X86_HELPER(name) [HELPER_##name] = {#name, helper_##name},
#include "isa/x86/helpers.def"
#undef X86_HELPER
};

bool x86_seg_check(struct x86_cpu *c, unsigned seg, uint64_t off, unsigned size, unsigned access)
{
    const struct x86_segment *s = &c->seg[seg];
    uint64_t last = (off & 0xffffffff) + size - 1;
    bool real = !(c->cr0 & CR0_PE) || (c->sys_flags & RF_VM), ok = true;
    if (x86_long_code(c)) {
        return true;
    }
    if (!real) {
        bool code = s->ar & AR_CODE;
        ok = (s->ar & AR_P) &&
             (access & RT_WRITE ? !code && (s->ar & AR_W) : !code || (s->ar & AR_W));
    }
    bool down = (s->ar & (AR_S | AR_CODE | AR_E)) == (AR_S | AR_E);
    if (down) {
        uint64_t top = s->ar & AR_DB ? 0xffffffff : 0xffff;
        ok = ok && (off & 0xffffffff) > s->limit && last <= top;
    } else {
        ok = ok && last <= s->limit;
    }
    if (!ok) {
        x86_raise_error(c, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    }
    return ok;
}

static bool check_read(struct rt_env *env, uint64_t seg, uint64_t off, unsigned size)
{
    return x86_seg_check((struct x86_cpu *)env, (unsigned)seg, off, size, RT_READ);
}

static bool check_write(struct rt_env *env, uint64_t seg, uint64_t off, unsigned size)
{
    return x86_seg_check((struct x86_cpu *)env, (unsigned)seg, off, size, RT_WRITE);
}

/* Before a page fault: the manual leaves their order open (Vol. 3A 6.9), AMD's have it so. */
bool x86_align_check(struct x86_cpu *c, gva_t va, unsigned align)
{
    if (x86_aligned(c) && (va & (align - 1))) {
        x86_raise_error(c, EXC_AC, 0);
        return false;
    }
    return true;
}

static bool check_align(struct rt_env *env, uint64_t va, uint64_t b, unsigned align)
{
    return x86_align_check((struct x86_cpu *)env, va, align);
}

static bool check_fetch(struct rt_env *env, uint64_t off, uint64_t b, unsigned size)
{
    struct x86_cpu *c = (struct x86_cpu *)env;
    if (off + size - 1 <= c->seg[SEG_CS].limit) {
        return true;
    }
    x86_raise_error(c, EXC_GP, 0);
    return false;
}

static const struct ir_check checks[X86_CHECKS] = {
    [CHECK_READ] = {"seg_read", check_read},       [CHECK_WRITE] = {"seg_write", check_write},
    [CHECK_PRIVILEGE] = {"privilege", check_read}, [CHECK_ALIGN] = {"align", check_align},
    [CHECK_FETCH] = {"fetch", check_fetch},        [CHECK_X87] = {"x87_pending", x86_check_x87},
};

const struct ir_guest x86_guest = {
    .regs = regs,
    .nregs = XREG_COUNT,
    .helpers = helpers,
    .nhelpers = X86_HELPERS,
    .checks = checks,
    .nchecks = X86_CHECKS,
    .vec_off = offsetof(struct x86_cpu, vec),
    .mxcsr_off = offsetof(struct x86_cpu, mxcsr),
};

/* Power-up and INIT state: Intel SDM Vol. 3A Table 9-1. */
static void reset(struct vcpu *v)
{
    struct x86_cpu *c = x86_cpu(v);
    struct x86_model *model = c->model;
    char *guest = (char *)c + sizeof(struct rt_env);
    memset(guest, 0, sizeof(*c) - sizeof(struct rt_env));
    memset(c->rt.reg, 0, sizeof(c->rt.reg));
    c->model = model;
    c->rt.reg[RDX] = model->signature;
    c->rt.flags = rt_flags_pack(0);
    c->cr0 = CR0_ET | CR0_CD | CR0_NW;
    c->xcr0 = 1;
    c->dr[6] = 0xffff0ff0;
    c->dr[7] = 0x400;
    c->mxcsr = 0x1f80;
    c->x87_cw = 0x37f;
    c->pat = 0x0007040600070406ull;
    c->misc_enable = 1;
    c->smbase = 0x30000;
    c->idtr.limit = c->gdtr.limit = 0xffff;
    c->ldtr.ar = AR_P | 2;
    c->tr.ar = AR_P | 11;
    c->tr.limit = c->ldtr.limit = 0xffff;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        c->seg[i] = (struct x86_segment){.limit = 0xffff, .ar = AR_P | AR_S | AR_W | AR_A};
    }
    c->seg[SEG_CS] = (struct x86_segment){
        .sel = 0xf000, .limit = 0xffff, .ar = AR_P | AR_S | AR_CODE | AR_W | AR_A};
    c->seg_base[SEG_CS] = 0xffff0000u;
    c->rt.pc = 0xfff0;
    v->smm = false;
    v->state = v->index ? VCPU_WAIT_SIPI : VCPU_RUNNING;
    x86_debug_regs_changed(c);
    tlb_switch(v, 0, false);
    tlb_flush(v);
    x86_mode_changed(c);
}

/* The state a loader asked for (core/x86_boot.h). */
static void boot_state(struct vcpu *v, const struct x86_boot_state *b)
{
    struct x86_cpu *c = x86_cpu(v);
    bool lm = b->mode == X86_BOOT_LONG64;
    uint16_t data = AR_P | AR_S | AR_W | AR_A | AR_DB | AR_G;
    uint16_t code = AR_P | AR_S | AR_CODE | AR_W | AR_A | AR_G | (lm ? AR_L : AR_DB);
    c->gdtr = (struct x86_table){b->gdt_base, b->gdt_limit};
    c->idtr = (struct x86_table){b->idt_base, b->idt_limit};
    c->cr0 = CR0_PE | CR0_ET | (lm ? CR0_PG : 0);
    c->cr3 = b->cr3;
    c->cr4 = lm ? CR4_PAE : 0;
    c->efer = lm ? EFER_LME | EFER_LMA : 0;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        x86_set_seg_raw(c, i, i == SEG_CS ? b->cs : b->ds, 0, 0xffffffff,
                        i == SEG_CS ? code : data);
    }
    c->tr = (struct x86_segment){.sel = b->tr, .limit = 0x67, .ar = AR_P | 11};
    c->ldtr = (struct x86_segment){0};
    memset(c->rt.reg, 0, sizeof(c->rt.reg));
    c->rt.reg[RSP] = b->rsp;
    c->rt.reg[RAX] = b->rax;
    c->rt.reg[RBX] = b->rbx;
    c->rt.reg[RSI] = b->rsi;
    c->rt.pc = b->rip;
    tlb_flush(v);
    x86_mode_changed(c);
}

static void cpu_reset(struct vcpu *v)
{
    reset(v);
    if (v->index == 0 && v->machine && v->machine->boot.mode != X86_BOOT_RESET) {
        boot_state(v, &v->machine->boot);
    }
}

static int cpu_init(struct vcpu *v, const char *model, struct err *err)
{
    struct x86_cpu *c = x86_cpu(v);
    c->model = x86_model_new(model, err);
    return c->model ? 0 : -EINVAL;
}

static void cpu_fini(struct vcpu *v)
{
    free(x86_cpu(v)->model);
}

static gva_t fetch_address(const struct vcpu *v, uint64_t pc)
{
    const struct x86_cpu *c = x86_cpu(v);
    return x86_long_code(c) ? pc : (c->seg_base[SEG_CS] + pc) & 0xffffffff;
}

static int disas(struct strbuf *sb, const uint8_t *code, size_t n, uint64_t pc, uint32_t mode)
{
    struct x86_insn in;
    if (x86_decode(&in, code, n, mode_bytes(mode)) != X86_DECODE_OK) {
        strbuf_add(sb, "(bad)");
        return 1;
    }
    x86_disas(sb, &in, pc);
    return in.len;
}

static void dump(const struct vcpu *v, struct strbuf *sb)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char segs[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};
    const struct x86_cpu *c = x86_cpu(v);
    for (unsigned i = 0; i < 16; i++) {
        strbuf_add(sb, "%s=%016llx%s", names[i], (unsigned long long)c->rt.reg[i],
                   i % 4 == 3 ? "\n" : " ");
    }
    strbuf_add(sb, "rip=%016llx rflags=%08llx cpl=%u state=%d\n", (unsigned long long)c->rt.pc,
               (unsigned long long)x86_rflags(c), c->cpl, v->state);
    for (unsigned i = 0; i < 6; i++) {
        strbuf_add(sb, "%s=%04x base=%016llx limit=%08x ar=%04x\n", segs[i], c->seg[i].sel,
                   (unsigned long long)c->seg_base[i], c->seg[i].limit, c->seg[i].ar);
    }
    strbuf_add(sb, "ldt=%04x base=%llx limit=%x  tr=%04x base=%llx limit=%x\n", c->ldtr.sel,
               (unsigned long long)c->ldtr.base, c->ldtr.limit, c->tr.sel,
               (unsigned long long)c->tr.base, c->tr.limit);
    strbuf_add(sb, "gdt=%llx/%x idt=%llx/%x\n", (unsigned long long)c->gdtr.base, c->gdtr.limit,
               (unsigned long long)c->idtr.base, c->idtr.limit);
    strbuf_add(sb, "cr0=%08llx cr2=%016llx cr3=%016llx cr4=%08llx efer=%llx\n",
               (unsigned long long)c->cr0, (unsigned long long)c->cr2, (unsigned long long)c->cr3,
               (unsigned long long)c->cr4, (unsigned long long)c->efer);
}

const struct isa isa_x86 = {
    .name = "x86",
    .guest = &x86_guest,
    .env_size = sizeof(struct x86_cpu),
    .cpu_init = cpu_init,
    .cpu_fini = cpu_fini,
    .cpu_reset = cpu_reset,
    .translate = x86_translate,
    .walk = x86_walk,
    .deliver = x86_deliver,
    .mode = x86_mode,
    .fetch_address = fetch_address,
    .events = x86_events,
    .disas = disas,
    .dump = dump,
    .print_maps = x86_print_maps,
    .model_help = x86_model_help,
    .mode_step = MODE_STEP,
    .debug_before = x86_debug_before,
    .debug_after = x86_debug_after,
    .gdb_target = x86_gdb_target,
    .gdb_read = x86_gdb_read,
    .gdb_write = x86_gdb_write,
};
