/*
 * The vector and x87 instructions that a `hostvec` op can name, and how x86-64 encodes them. The
 * list comes from the rows of src/isa/x86/insn.decode: a row, or several that differ only in
 * mod, VEX or VEX.L, is one id. A back end for another host uses the enum alone.
 *
 * Names: HV_<INSTRUCTION>; where one instruction has several encodings _MMX, _ST (first operand
 * is r/m) and _I (immediate form) tell them apart.
 *
 * To encode one from a struct ir_vec: legacy form: prefix pp, REX, map, opcode; VEX form: pp, map,
 * W (info.w, or ir_vec.w where that is HV_W_OPERAND), L (ir_vec.l), vvvv (ones when not
 * HVF_VVVV). ModRM.reg is info.ext if that is not HV_NO_FIELD, else ir_vec.reg; r/m is info.rm,
 * else ir_vec.rm or memory. Then imm8 if HVF_IMM8 or HVF_IS4.
 */
#ifndef IR_HOSTVEC_H
#define IR_HOSTVEC_H

#include "ir/hostvec_gen.h"
#include <stdbool.h>
#include <stdint.h>

enum hostvec_kind { HVK_NONE, HVK_VEC, HVK_MMX, HVK_ST, HVK_INT };

/* What an id does with its register operands; memory: HVF_LOAD, HVF_STORE. */
enum hostvec_access {
    HVA_REG_R = 1,
    HVA_REG_W = 2,
    HVA_VVVV_R = 4,
    HVA_VVVV_W = 8,
    HVA_RM_R = 16,
    HVA_RM_W = 32,
};

enum hostvec_flag {
    HVF_LEGACY = 1 << 0, /* has a legacy form; one of xmm registers keeps bits 255..128 */
    HVF_VEX128 = 1 << 1, /* has a VEX form with L = 0; it clears bits 255..128 */
    HVF_VEX256 = 1 << 2, /* ... with L = 1; with both and scalar operands L is ignored */
    HVF_VVVV = 1 << 3,   /* VEX form has a vvvv operand */
    HVF_IMM8 = 1 << 4,
    HVF_IS4 = 1 << 5,       /* register number in imm8 bits 7..4, read */
    HVF_VSIB = 1 << 6,      /* memory operand has a vector index: not representable as ir_addr */
    HVF_ALIGN = 1 << 7,     /* legacy form faults on a misaligned memory operand */
    HVF_VALIGN = 1 << 8,    /* VEX form does, too */
    HVF_FP = 1 << 9,        /* reads MXCSR, sets its flags, may raise #XM */
    HVF_FLAGS = 1 << 10,    /* writes EFLAGS */
    HVF_FLAGS_IN = 1 << 11, /* reads EFLAGS (FCMOVcc) */
    HVF_INT_IN = 1 << 12,   /* the HVK_INT operand is read */
    HVF_INT_OUT = 1 << 13,  /* ... is written; FNSTSW AX: AX */
    HVF_MMX = 1 << 14,
    HVF_X87 = 1 << 15,
    HVF_XMM0_R = 1 << 16, /* implicit operands */
    HVF_XMM0_W = 1 << 17,
    HVF_RDI = 1 << 18,    /* stores at DS:rDI */
    HVF_AXDX = 1 << 19,   /* reads eAX and eDX */
    HVF_CX_W = 1 << 20,   /* writes eCX */
    HVF_ALL = 1 << 21,    /* VZEROUPPER, VZEROALL: changes all registers */
    HVF_LOAD = 1 << 22,   /* memory operand, when there is one, is read */
    HVF_STORE = 1 << 23,  /* ... is written */
    HVF_RM_REG = 1 << 24, /* r/m may be a register */
    HVF_RM_MEM = 1 << 25, /* r/m may be memory */
};

#define HV_NO_FIELD 0xff
#define HV_W_OPERAND 0xff

struct hostvec_info {
    char name[20]; /* of the instruction, legacy spelling; no pointer: a start relocates none */
    uint8_t map;   /* 0 one-byte (x87), 1 0f, 2 0f38, 3 0f3a */
    uint8_t opcode;
    uint8_t pp;  /* 0 none, 1 66, 2 f3, 3 f2: as in VEX.pp */
    uint8_t ext; /* ModRM.reg when it is part of the opcode, else HV_NO_FIELD */
    uint8_t rm;  /* ModRM.rm likewise */
    uint8_t w;   /* VEX.W that is wanted; HV_W_OPERAND: W sizes the integer operand */
    uint8_t reg_kind, vvvv_kind, rm_kind; /* enum hostvec_kind; rm_kind of the register form */
    uint8_t access_legacy, access_vex;    /* enum hostvec_access */
    uint8_t mem_size[2];                  /* bytes by L; 0: by W (4 or 8), or no memory operand */
    uint8_t feature[3];                   /* enum hostvec_feature of legacy form, VEX.L = 0 and 1 */
    uint32_t flags;
};

extern const struct hostvec_info hostvec_info[HV_COUNT];
extern const char *const hostvec_feature_names[HV_FEATURE_COUNT];

/* VMASKMOVPS, VMASKMOVPD, VPMASKMOV to memory: bytes that the mask leaves out keep their value. */
static inline bool hostvec_partial_store(unsigned id)
{
    const struct hostvec_info *h = &hostvec_info[id];
    return h->map == 2 && (h->flags & HVF_STORE) &&
           (h->opcode == 0x2e || h->opcode == 0x2f || h->opcode == 0x8e);
}

#endif
