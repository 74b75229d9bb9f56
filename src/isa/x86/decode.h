/*
 * x86 instruction decoder, for 16, 32 and 64-bit code, driven by insn.decode.
 *
 * It knows the encoding and nothing of the processor's state: that VEX does not exist in real and
 * virtual-8086 mode, that a CPU model lacks a feature (x86_form_feature) or that a control register
 * bit disables it is for the translator to check. VEX vector rows need AVX besides their feature.
 *
 * Specification: Intel SDM Vol. 2, chapter 2 and appendix A. Where AMD differs we follow Intel:
 * near branches in 64-bit mode ignore 66; far pointers with REX.W are 10 bytes.
 */
#ifndef ISA_X86_DECODE_H
#define ISA_X86_DECODE_H

#include "isa/x86/insn_gen.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define X86_MAX_LEN 15

/* Values of base and index beyond the register numbers, and of seg. */
#define X86_REG_NONE 0xff
#define X86_REG_RIP 0xfe
#define X86_SEG_NONE 0xff

enum x86_seg { X86_SEG_ES, X86_SEG_CS, X86_SEG_SS, X86_SEG_DS, X86_SEG_FS, X86_SEG_GS };

enum x86_opnd_kind {
    X86_OPND_NONE,
    X86_OPND_GPR,
    X86_OPND_MEM,
    X86_OPND_IMM,
    X86_OPND_VEC, /* xmm or ymm: size 32 only when the whole ymm is meant */
    X86_OPND_MMX,
    X86_OPND_ST,
    X86_OPND_SEG,
    X86_OPND_CR,
    X86_OPND_DR,
    X86_OPND_REL,   /* insn.imm: displacement from the end of the instruction */
    X86_OPND_FAR,   /* insn.imm: offset, insn.imm2: selector */
    X86_OPND_MOFFS, /* memory at insn.imm, an unsigned offset of addrsize bytes */
};

struct x86_opnd {
    uint8_t kind;
    uint8_t size; /* bytes the instruction names, 4 for ss; 0: no fixed size (lea, invlpg) */
    uint8_t reg;  /* GPR, VEC, SEG, CR, DR: 0-15, MMX, ST: 0-7 */
    uint8_t high; /* ah ch dh bh, with reg 0-3 */
};

struct x86_insn {
    uint8_t len;
    uint8_t mode;     /* code size in bytes: 2, 4, 8 */
    uint8_t opsize;   /* 2, 4, 8; the 64-bit mode defaults of the form are in it */
    uint8_t addrsize; /* 2, 4, 8 */
    uint16_t op;      /* enum x86_op */
    uint16_t form;    /* row */
    uint8_t seg;      /* override that has an effect, or X86_SEG_NONE */
    uint8_t mem_seg;  /* segment of the memory operand (of DS:rSI for string instructions) */
    bool lock, p66;
    uint8_t rep;     /* 0, 0xf3, 0xf2: last one seen, even when it selected the form */
    bool rex, rex_w; /* a REX prefix counts; W of REX or VEX */
    bool vex, vex_l;
    uint8_t vvvv;
    uint8_t map; /* 0 one-byte, 1 0f, 2 0f38, 3 0f3a */
    uint8_t opcode;
    bool has_modrm;
    uint8_t modrm;
    uint8_t simd_prefix; /* 0, 0x66, 0xf3, 0xf2: the one that selected the form */
    uint8_t feature;     /* enum x86_feature of the form */
    /*
     * Memory operand: base and index are register numbers, X86_REG_NONE, or X86_REG_RIP as base.
     * With 16-bit addressing they come from the ModRM table. The index of a vsib form is a vector
     * register. String instructions have rSI (rDI if they only use ES:rDI) as base, or BX for xlat
     * and rDI for maskmov.
     */
    uint8_t base, index, scale;
    uint8_t nopnd;
    int32_t disp;
    int64_t imm;     /* sign-extended where the instruction does so, else zero-extended */
    uint8_t imm_len; /* bytes of the only immediate operand, at the end; 0: none, or two */
    bool imm_signed;
    int64_t imm2; /* selector of a far pointer, nesting level of enter */
    struct x86_opnd opnd[4];
};

enum x86_decode_status {
    X86_DECODE_OK,
    X86_DECODE_SHORT,    /* needs more bytes than `avail` */
    X86_DECODE_INVALID,  /* #UD */
    X86_DECODE_TOO_LONG, /* more than 15 bytes: #GP(0) */
};

/* Decodes one instruction. `mode` is the code size: 2, 4 or 8. Only `OK` leaves `insn` complete. */
enum x86_decode_status x86_decode(struct x86_insn *insn, const uint8_t *code, size_t avail,
                                  unsigned mode);

/* Flags of a form. */
enum x86_form_flag {
    X86_FORM_LOCK = 1 << 0, /* LOCK allowed with a memory destination */
    X86_FORM_D64 = 1 << 1,  /* 64-bit operand size by default */
    X86_FORM_F64 = 1 << 2,  /* 64-bit operand size always */
    X86_FORM_VEX = 1 << 3,
    X86_FORM_MODRM = 1 << 4,
    X86_FORM_MODANY = 1 << 5, /* mod is ignored: always a register */
    X86_FORM_VSIB = 1 << 6,
    X86_FORM_ALIGN = 1 << 7, /* memory operand must be aligned to its size, else #GP(0) */
    X86_FORM_VEC = 1 << 8,   /* touches xmm or ymm registers */
    X86_FORM_MMX = 1 << 9,
    X86_FORM_X87 = 1 << 10,
    X86_FORM_VVVV = 1 << 11,  /* VEX.vvvv names an operand */
    X86_FORM_ALIAS = 1 << 12, /* decodes, but the manual does not list it */
};

unsigned x86_form_flags(unsigned form);
enum x86_feature x86_form_feature(unsigned form);
unsigned
x86_form_hostvec(unsigned form);       /* enum hostvec_op of a vector or x87 form, else HV_NONE */
unsigned x86_form_line(unsigned form); /* line of insn.decode */
void x86_form_name(unsigned form, char *text, size_t room); /* "paddb Vx,Hx,Wx" */
const char *x86_op_name(unsigned op);
const char *x86_feature_name(unsigned feature);

static inline bool x86_insn_is_mem(const struct x86_insn *insn)
{
    return insn->has_modrm && insn->modrm < 0xc0 && !(x86_form_flags(insn->form) & X86_FORM_MODANY);
}

#endif
