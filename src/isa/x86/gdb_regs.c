/*
 * Registers for debuggers: the gdb manual's "i386 Features" (org.gnu.gdb.i386.core, .sse, .avx,
 * .segments), and the control registers as a feature of our own, which gdb lists but ignores.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/endian.h"
#include "base/strbuf.h"
#include "core/irq_ctrl.h"
#include "isa/x86/model.h"
#include "isa/x86/sys.h"

enum kind {
    GPR,
    PC,
    FLAGS,
    SELECTOR,
    ST,
    FPU_WORD,
    XMM,
    MXCSR,
    YMMH,
    BASE,
    KERNEL_GS,
    CR,
    EFER,
    DR
};

struct group {
    const char *feature; /* NULL: goes on */
    const char *names;   /* one after the other; '#' stands for the number */
    const char *type, *extra;
    uint8_t kind, count, first, bits;
};

static const struct group groups64[] = {
    {"org.gnu.gdb.i386.core", "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15",
     "int64", "", GPR, 16, 0, 64},
    {NULL, "rip", "code_ptr", "", PC, 1, 0, 64},
    {NULL, "eflags", "i386_eflags", "", FLAGS, 1, 0, 32},
    {NULL, "cs ss ds es fs gs", "int32", "", SELECTOR, 6, 0, 32},
    {NULL, "st#", "i387_ext", "", ST, 8, 0, 80},
    {NULL, "fctrl fstat ftag fiseg fioff foseg fooff fop", "int32", " group=\"float\"", FPU_WORD, 8,
     0, 32},
    {"org.gnu.gdb.i386.sse", "xmm#", "uint128", " group=\"vector\"", XMM, 16, 0, 128},
    {NULL, "mxcsr", "int32", " group=\"vector\"", MXCSR, 1, 0, 32},
    {"org.gnu.gdb.i386.avx", "ymm#h", "uint128", "", YMMH, 16, 0, 128},
    {"org.gnu.gdb.i386.segments", "fs_base gs_base", "int64", "", BASE, 2, SEG_FS, 64},
    {"org.lodge.x86.system", "k_gs_base", "int64", "", KERNEL_GS, 1, 0, 64},
    {NULL, "cr#", "int64", "", CR, 9, 0, 64},
    {NULL, "efer", "int64", "", EFER, 1, 0, 64},
    {NULL, "dr#", "int64", "", DR, 8, 0, 64},
    {0},
};

static const struct group groups32[] = {
    {"org.gnu.gdb.i386.core", "eax ecx edx ebx esp ebp esi edi", "int32", "", GPR, 8, 0, 32},
    {NULL, "eip", "code_ptr", "", PC, 1, 0, 32},
    {NULL, "eflags", "i386_eflags", "", FLAGS, 1, 0, 32},
    {NULL, "cs ss ds es fs gs", "int32", "", SELECTOR, 6, 0, 32},
    {NULL, "st#", "i387_ext", "", ST, 8, 0, 80},
    {NULL, "fctrl fstat ftag fiseg fioff foseg fooff fop", "int32", " group=\"float\"", FPU_WORD, 8,
     0, 32},
    {"org.gnu.gdb.i386.sse", "xmm#", "uint128", " group=\"vector\"", XMM, 8, 0, 128},
    {NULL, "mxcsr", "int32", " group=\"vector\"", MXCSR, 1, 0, 32},
    {"org.gnu.gdb.i386.avx", "ymm#h", "uint128", "", YMMH, 8, 0, 128},
    {"org.lodge.x86.system", "cr#", "int32", "", CR, 9, 0, 32},
    {NULL, "dr#", "int32", "", DR, 8, 0, 32},
    {0},
};

static bool long_model(const struct vcpu *v)
{
    return x86_cpu(v)->model->leaf[LEAF_81_EDX] >> 29 & 1;
}

static const struct group *groups_of(const struct vcpu *v)
{
    return long_model(v) ? groups64 : groups32;
}

/* Name number `i` of a group. */
static void name_of(const struct group *g, unsigned i, struct strbuf *sb)
{
    const char *p = g->names, *hash = strchr(p, '#');
    if (hash) {
        strbuf_add(sb, "%.*s%u%s", (int)(hash - p), p, i, hash + 1);
        return;
    }
    while (i--) {
        p = strchr(p, ' ') + 1;
    }
    strbuf_add(sb, "%.*s", (int)strcspn(p, " "), p);
}

static void add_group(const struct group *g, struct strbuf *sb)
{
    for (unsigned i = 0; i < g->count; i++) {
        strbuf_add(sb, "<reg name=\"");
        name_of(g, i, sb);
        strbuf_add(sb, "\" bitsize=\"%u\" type=\"%s\"%s/>\n", g->bits, g->type, g->extra);
    }
}

/* Flag names as gdb shows them. */
static void add_flags_type(struct strbuf *sb)
{
    static const struct {
        const char *name;
        unsigned bit;
    } bits[] = {{"CF", 0},  {"PF", 2},   {"AF", 4},   {"ZF", 6},  {"SF", 7},  {"TF", 8},
                {"IF", 9},  {"DF", 10},  {"OF", 11},  {"NT", 14}, {"RF", 16}, {"VM", 17},
                {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}};
    strbuf_add(sb, "<flags id=\"i386_eflags\" size=\"4\">\n");
    for (unsigned i = 0; i < ARRAY_LEN(bits); i++) {
        strbuf_add(sb, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>\n", bits[i].name, bits[i].bit,
                   bits[i].bit);
    }
    strbuf_add(sb, "</flags>\n");
}

void x86_gdb_target(const struct vcpu *v, struct strbuf *sb)
{
    const struct group *g = groups_of(v);
    strbuf_add(sb,
               "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\n"
               "<architecture>%s</architecture>\n",
               long_model(v) ? "i386:x86-64" : "i386");
    for (bool first = true; g->names; g++, first = false) {
        if (g->feature) {
            strbuf_add(sb, "%s<feature name=\"%s\">\n", first ? "" : "</feature>\n", g->feature);
        }
        if (first) {
            add_flags_type(sb);
        }
        add_group(g, sb);
    }
    strbuf_add(sb, "</feature></target>\n");
}

static const struct group *find(const struct vcpu *v, unsigned n, unsigned *i)
{
    for (const struct group *g = groups_of(v); g->names; g++) {
        if (n < g->count) {
            *i = n + g->first;
            return g;
        }
        n -= g->count;
    }
    return NULL;
}

/* gdb's order of general registers and segments, in the encoding's numbers. */
static unsigned gpr_of(const struct vcpu *v, unsigned i)
{
    static const uint8_t order[8] = {RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP};
    return long_model(v) && i < 8 ? order[i] : i;
}

static unsigned seg_of(unsigned i)
{
    static const uint8_t order[6] = {SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS};
    return order[i];
}

/* FXSAVE's image (Vol. 1 10.5.1): control, status, abridged tag, opcode, addresses, registers. */
static uint64_t fpu_word(const struct vcpu *v, unsigned i)
{
    const uint8_t *fx = v->debug.fx;
    static const uint8_t at[8] = {0, 2, 4, 12, 8, 20, 16, 6};
    uint32_t tags = 0;
    if (i == 2) {
        for (unsigned r = 0; r < 8; r++) {
            tags |= (fx[4] >> r & 1 ? 0u : 3u) << (2 * r);
        }
        return tags;
    }
    if (i == 1) { /* the summary is by the guest's masks */
        unsigned sw = load_le16(fx + 2), on = ~(unsigned)x86_cpu(v)->x87_cw & FP_ALL;
        return sw & on ? sw | FSW_ES | FSW_B : sw;
    }
    return i == 0             ? x86_cpu(v)->x87_cw
           : i == 4 || i == 6 ? load_le32(fx + at[i])
                              : load_le16(fx + at[i]);
}

static uint64_t read_cr(struct x86_cpu *c, unsigned i)
{
    switch (i) {
    case 0: return c->cr0;
    case 2: return c->cr2;
    case 3: return c->cr3;
    case 4: return c->cr4;
    case 8: return c->rt.vcpu->ic ? irq_ctrl_get_tpr(c->rt.vcpu->ic) >> 4 : 0;
    default: return 0;
    }
}

static uint64_t read_word(struct vcpu *v, enum kind kind, unsigned i)
{
    struct x86_cpu *c = x86_cpu(v);
    switch (kind) {
    case GPR: return c->rt.reg[gpr_of(v, i)];
    case PC: return c->rt.pc;
    case FLAGS: return x86_rflags(c);
    case SELECTOR: return c->seg[seg_of(i)].sel;
    case FPU_WORD: return fpu_word(v, i);
    case MXCSR: return c->mxcsr;
    case BASE: return c->seg_base[i];
    case KERNEL_GS: return c->kernel_gs;
    case CR: return read_cr(c, i);
    case EFER: return c->efer;
    case DR: return c->dr[i];
    default: return 0;
    }
}

unsigned x86_gdb_read(struct vcpu *v, unsigned n, uint8_t buf[64])
{
    struct x86_cpu *c = x86_cpu(v);
    unsigned i;
    const struct group *g = find(v, n, &i);
    if (!g) {
        return 0;
    }
    if (g->kind == ST) {
        memcpy(buf, v->debug.fx + 32 + 16 * i, 10);
    } else if (g->kind == XMM || g->kind == YMMH) {
        memcpy(buf, c->vec[i] + (g->kind == YMMH ? 16 : 0), 16);
    } else {
        store_le64(buf, read_word(v, g->kind, i));
    }
    return g->bits / 8;
}

/* Selectors, control and debug registers are shown only. */
static void write_word(struct vcpu *v, enum kind kind, unsigned i, uint64_t x)
{
    struct x86_cpu *c = x86_cpu(v);
    switch (kind) {
    case GPR: c->rt.reg[gpr_of(v, i)] = x; break;
    case PC: c->rt.pc = x; break;
    case FLAGS: x86_set_rflags(c, x, FLAG_ALL | (RF_SYS_ALL & ~(uint64_t)(RF_VM | RF_TF))); break;
    case MXCSR: x86_set_mxcsr(c, x & 0xffff); break;
    case BASE: c->seg_base[i] = x; break;
    case KERNEL_GS: c->kernel_gs = x; break;
    default: break;
    }
}

unsigned x86_gdb_write(struct vcpu *v, unsigned n, const uint8_t *buf, size_t len)
{
    struct x86_cpu *c = x86_cpu(v);
    unsigned i;
    const struct group *g = find(v, n, &i);
    if (!g || len < g->bits / 8u) {
        return 0;
    }
    if (g->kind == ST) {
        memcpy(v->debug.fx + 32 + 16 * i, buf, 10);
        v->debug.fx_changed = true;
    } else if (g->kind == XMM || g->kind == YMMH) {
        memcpy(c->vec[i] + (g->kind == YMMH ? 16 : 0), buf, 16);
    } else {
        write_word(v, g->kind, i, g->bits == 64 ? load_le64(buf) : load_le32(buf));
    }
    return g->bits / 8;
}
