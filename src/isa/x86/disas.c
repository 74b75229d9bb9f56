#include "isa/x86/disas.h"

#include "isa/x86/table.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const gpr8[16] = {"al",  "cl",  "dl",   "bl",   "spl",  "bpl",  "sil",  "dil",
                                     "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b"};
static const char *const gpr8_high[4] = {"ah", "ch", "dh", "bh"};
static const char *const gpr16[16] = {"ax",  "cx",  "dx",   "bx",   "sp",   "bp",   "si",   "di",
                                      "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"};
static const char *const gpr32[16] = {"eax", "ecx", "edx",  "ebx",  "esp",  "ebp",  "esi",  "edi",
                                      "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"};
static const char *const gpr64[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const segs[8] = {"es", "cs", "ss", "ds", "fs", "gs", "?", "?"};

const char *x86_gpr_name(unsigned reg, unsigned size, bool high)
{
    if (high) {
        return gpr8_high[reg & 3];
    }
    const char *const *names = size == 1 ? gpr8 : size == 2 ? gpr16 : size == 4 ? gpr32 : gpr64;
    return names[reg & 15];
}

static const char *size_word(unsigned size)
{
    switch (size) {
    case 1: return "byte ";
    case 2: return "word ";
    case 4: return "dword ";
    case 6: return "fword ";
    case 8: return "qword ";
    case 10: return "tbyte ";
    case 16: return "xmmword ";
    case 32: return "ymmword ";
    }
    return "";
}

static uint64_t cut(uint64_t v, unsigned bytes)
{
    return bytes >= 8 ? v : v & ((1ull << bytes * 8) - 1);
}

static void add_signed(struct strbuf *sb, int64_t v, bool plus)
{
    if (v < 0) {
        strbuf_add(sb, "-0x%" PRIx64, -(uint64_t)v);
    } else {
        strbuf_add(sb, "%s0x%" PRIx64, plus ? "+" : "", (uint64_t)v);
    }
}

static void add_mem(struct strbuf *sb, const struct x86_insn *insn, unsigned size)
{
    strbuf_add(sb, "%s", size_word(size));
    if (insn->seg != X86_SEG_NONE) {
        strbuf_add(sb, "%s:", segs[insn->seg]);
    }
    strbuf_add(sb, "[");
    bool some = false;
    if (insn->base == X86_REG_RIP) {
        strbuf_add(sb, "%s", insn->addrsize == 8 ? "rip" : "eip");
        some = true;
    } else if (insn->base != X86_REG_NONE) {
        strbuf_add(sb, "%s", x86_gpr_name(insn->base, insn->addrsize, false));
        some = true;
    }
    if (insn->index != X86_REG_NONE) {
        strbuf_add(sb, "%s", some ? "+" : "");
        if (x86_form_flags(insn->form) & X86_FORM_VSIB) {
            strbuf_add(sb, "vmm%u", insn->index);
        } else {
            strbuf_add(sb, "%s", x86_gpr_name(insn->index, insn->addrsize, false));
        }
        if (insn->addrsize != 2) {
            strbuf_add(sb, "*%u", 1u << insn->scale);
        }
        some = true;
    }
    if (!some) {
        strbuf_add(sb, "0x%" PRIx64, cut((int64_t)insn->disp, insn->addrsize));
    } else if (insn->disp != 0) {
        add_signed(sb, insn->disp, true);
    }
    strbuf_add(sb, "]");
}

static void add_string_mem(struct strbuf *sb, const struct x86_insn *insn, const struct x86_opnd *o)
{
    unsigned seg = o->reg == 7 ? X86_SEG_ES : insn->mem_seg;
    strbuf_add(sb, "%s%s:[%s]", size_word(o->size), segs[seg],
               x86_gpr_name(o->reg, insn->addrsize, false));
}

static void add_opnd(struct strbuf *sb, const struct x86_insn *insn, unsigned i, uint64_t pc)
{
    const struct x86_opnd *o = &insn->opnd[i];
    switch (o->kind) {
    case X86_OPND_GPR: strbuf_add(sb, "%s", x86_gpr_name(o->reg, o->size, o->high)); break;
    case X86_OPND_MEM:
        if (insn->has_modrm) {
            add_mem(sb, insn, o->size);
        } else {
            add_string_mem(sb, insn, o);
        }
        break;
    case X86_OPND_IMM: {
        bool second = i > 0 && insn->opnd[i - 1].kind == X86_OPND_IMM;
        strbuf_add(sb, "0x%" PRIx64, cut(second ? insn->imm2 : insn->imm, o->size));
        break;
    }
    case X86_OPND_VEC: strbuf_add(sb, "%cmm%u", o->size == 32 ? 'y' : 'x', o->reg); break;
    case X86_OPND_MMX: strbuf_add(sb, "mm%u", o->reg); break;
    case X86_OPND_ST: strbuf_add(sb, "st(%u)", o->reg); break;
    case X86_OPND_SEG: strbuf_add(sb, "%s", segs[o->reg]); break;
    case X86_OPND_CR: strbuf_add(sb, "cr%u", o->reg); break;
    case X86_OPND_DR: strbuf_add(sb, "dr%u", o->reg); break;
    case X86_OPND_REL:
        strbuf_add(sb, "0x%" PRIx64, cut(pc + insn->len + insn->imm, insn->opsize));
        break;
    case X86_OPND_FAR:
        strbuf_add(sb, "0x%x:0x%x", (unsigned)insn->imm2, (unsigned)insn->imm);
        break;
    case X86_OPND_MOFFS:
        strbuf_add(sb, "%s%s:[0x%" PRIx64 "]", size_word(o->size), segs[insn->mem_seg], insn->imm);
        break;
    }
}

/* Pairs of names for sizes of one instruction, which the table does not tell apart. */
static const char *sized_name(const struct x86_insn *insn, const char *name)
{
    bool w = insn->rex_w && insn->mode == 8;
    switch (insn->op) {
    case X86_MOVD: return w ? "movq" : name;
    case X86_PEXTRD: return w ? "pextrq" : name;
    case X86_PINSRD: return w ? "pinsrq" : name;
    }
    return name;
}

void x86_disas_mnemonic(struct strbuf *sb, const struct x86_insn *insn)
{
    unsigned flags = x86_form_flags(insn->form);
    const char *name = sized_name(insn, x86_op_name(insn->op));
    size_t len = strlen(name);
    if (flags & X86_FORM_X87 || insn->op == X86_CALL_FAR || insn->op == X86_JMP_FAR ||
        insn->op == X86_RET_FAR) {
        len = strcspn(name, "_");
    }
    bool v = flags & X86_FORM_VEX && name[0] != 'v' &&
             (flags & X86_FORM_VEC || insn->op == X86_LDMXCSR || insn->op == X86_STMXCSR);
    strbuf_add(sb, "%s%.*s", v ? "v" : "", (int)len, name);
}

static bool is_string(const struct x86_insn *insn)
{
    for (unsigned i = 0; i < insn->nopnd; i++) {
        if (insn->opnd[i].kind == X86_OPND_MEM && !insn->has_modrm) {
            return true;
        }
    }
    return false;
}

int x86_disas(struct strbuf *sb, const struct x86_insn *insn, uint64_t pc)
{
    if (insn->lock) {
        strbuf_add(sb, "lock ");
    }
    if (insn->rep && is_string(insn)) {
        bool compares = insn->op == X86_CMPS || insn->op == X86_SCAS;
        strbuf_add(sb, "%s ", insn->rep == 0xf2 ? "repne" : compares ? "repe" : "rep");
    }
    x86_disas_mnemonic(sb, insn);
    for (unsigned i = 0; i < insn->nopnd; i++) {
        strbuf_add(sb, i ? ", " : " ");
        add_opnd(sb, insn, i, pc);
    }
    return insn->len;
}

void x86_form_name(unsigned form, char *text, size_t room)
{
    const struct x86_form *f = &x86_forms[form];
    size_t len =
        snprintf(text, room, "%s%s", f->flags & X86_FORM_VEX ? "vex " : "", x86_op_name(f->op));
    for (unsigned i = 0; i < f->nopnd && len < room; i++) {
        len += snprintf(text + len, room - len, "%s%s", i ? "," : " ", x86_codes[f->opnd[i]].name);
    }
}
