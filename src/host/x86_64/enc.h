/*
 * Encoder for the integer instructions and control transfers that T1 and the stubs use (Intel SDM
 * Vol. 2). One function per instruction form; `w` is the operand width as an IR type. The caller
 * sees to room: an instruction has at most 15 bytes.
 */
#ifndef HOST_X86_64_ENC_H
#define HOST_X86_64_ENC_H

#include <string.h>

#include "ir/ir.h"

enum x_reg {
    X_RAX,
    X_RCX,
    X_RDX,
    X_RBX,
    X_RSP,
    X_RBP,
    X_RSI,
    X_RDI,
    X_R8,
    X_R9,
    X_R10,
    X_R11,
    X_R12,
    X_R13,
    X_R14,
    X_R15,
    X_NONE = 0xf7 /* without the bit that makes a REX prefix */
};

struct enc {
    uint8_t *p; /* writable view */
};

/* A register, or memory at base + (index << scale) + disp. */
struct x_rm {
    bool mem;
    uint8_t reg; /* register, or base (X_NONE: disp32 alone) */
    uint8_t index, scale;
    int32_t disp;
};

static inline struct x_rm x_r(unsigned reg)
{
    return (struct x_rm){.reg = (uint8_t)reg};
}

static inline struct x_rm x_m(unsigned base, int32_t disp)
{
    return (struct x_rm){.mem = true, .reg = (uint8_t)base, .index = X_NONE, .disp = disp};
}

static inline struct x_rm x_mx(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct x_rm){.mem = true,
                         .reg = (uint8_t)base,
                         .index = (uint8_t)index,
                         .scale = (uint8_t)scale,
                         .disp = disp};
}

/* Numbered as bits 5..3 of the opcode. */
enum x_alu { X_ADD, X_OR, X_ADC, X_SBB, X_AND, X_SUB, X_XOR, X_CMP };
enum x_shift { X_ROL, X_ROR, X_RCL, X_RCR, X_SHL, X_SHR, X_SAR = 7 };
enum x_unary { X_NOT = 2, X_NEG, X_MUL, X_IMUL, X_DIV, X_IDIV };

static inline void x_byte(struct enc *e, uint8_t b)
{
    *e->p++ = b;
}
static inline void x_imm32(struct enc *e, uint32_t v)
{
    memcpy(e->p, &v, 4);
    e->p += 4;
}
void x_imm64(struct enc *, uint64_t);

void x_mov_r_rm(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_mov_rm_r(struct enc *, enum ir_type w, struct x_rm, unsigned reg);
void x_mov_rm_i(struct enc *, enum ir_type w, struct x_rm, int32_t imm); /* sign-extended to w */
void x_mov_r_i64(struct enc *, unsigned reg, uint64_t k); /* shortest form; flags unchanged */
void x_movzx(struct enc *, enum ir_type from, unsigned reg, struct x_rm);
void x_movzx_high(struct enc *, unsigned reg,
                  unsigned from); /* from rax..rbx: bits 15..8; no REX */
void x_movsx(struct enc *, enum ir_type to, enum ir_type from, unsigned reg, struct x_rm);
void x_lea(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_alu_r_rm(struct enc *, enum x_alu, enum ir_type w, unsigned reg, struct x_rm);
void x_alu_rm_r(struct enc *, enum x_alu, enum ir_type w, struct x_rm, unsigned reg);
void x_alu_rm_i(struct enc *, enum x_alu, enum ir_type w, struct x_rm, int32_t imm);
void x_test_rm_r(struct enc *, enum ir_type w, struct x_rm, unsigned reg);
void x_test_rm_i(struct enc *, enum ir_type w, struct x_rm, int32_t imm);
void x_shift_rm_i(struct enc *, enum x_shift, enum ir_type w, struct x_rm, unsigned n);
void x_shift_rm_cl(struct enc *, enum x_shift, enum ir_type w, struct x_rm);
void x_shiftd_rm_r_i(struct enc *, bool left, enum ir_type w, struct x_rm, unsigned reg,
                     unsigned n);
void x_shiftd_rm_r_cl(struct enc *, bool left, enum ir_type w, struct x_rm, unsigned reg);
void x_unary_rm(struct enc *, enum x_unary, enum ir_type w, struct x_rm);
void x_incdec_rm(struct enc *, bool dec, enum ir_type w, struct x_rm);
void x_imul_r_rm(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_imul_r_rm_i(struct enc *, enum ir_type w, unsigned reg, struct x_rm, int32_t imm);
void x_setcc_rm(struct enc *, enum ir_cc, struct x_rm);
void x_cmov_r_rm(struct enc *, enum ir_cc, enum ir_type w, unsigned reg, struct x_rm);
void x_bswap_r(struct enc *, enum ir_type w, unsigned reg);
void x_bt_rm_r(struct enc *, enum ir_type w, struct x_rm, unsigned reg); /* register forms only */
void x_bt_rm_i(struct enc *, enum ir_type w, struct x_rm, unsigned n);
void x_xchg_rm_r(struct enc *, enum ir_type w, struct x_rm, unsigned reg);
void x_xadd_rm_r(struct enc *, enum ir_type w, struct x_rm, unsigned reg);
void x_cmpxchg_rm_r(struct enc *, enum ir_type w, struct x_rm, unsigned reg);
void x_popcnt(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_lzcnt(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_tzcnt(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_bsr(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_bsf(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
void x_adx(struct enc *, bool of, enum ir_type w, unsigned reg, struct x_rm); /* ADCX, ADOX */
void x_crc32(struct enc *, enum ir_type w, unsigned reg, struct x_rm);
/* BMI2, none of which touches flags */
void x_rorx(struct enc *, enum ir_type w, unsigned reg, struct x_rm, unsigned n);
void x_mulx(struct enc *, enum ir_type w, unsigned hi, unsigned lo, struct x_rm); /* by rdx */
void x_shlx(struct enc *, enum x_shift, enum ir_type w, unsigned reg, struct x_rm, unsigned count);
void x_pdep(struct enc *, enum ir_type w, unsigned reg, unsigned src, struct x_rm mask);
void x_pext(struct enc *, enum ir_type w, unsigned reg, unsigned src, struct x_rm mask);

void x_lock(struct enc *);
void x_lahf(struct enc *);
void x_sahf(struct enc *);
void x_mfence(struct enc *);
void x_cdq(struct enc *, enum ir_type w);
void x_stc_clc(struct enc *, bool set);
void x_push_r(struct enc *, unsigned reg);
void x_pop_r(struct enc *, unsigned reg);
void x_push_i32(struct enc *, int32_t imm);
void x_push_i8(struct enc *, int8_t imm);
void x_align(struct enc *, unsigned to); /* NOPs up to a multiple */
void x_ret(struct enc *);
void x_ret_pop(struct enc *, unsigned bytes);
void x_ldmxcsr(struct enc *, struct x_rm);
void x_stmxcsr(struct enc *, struct x_rm);
void x_ud2(struct enc *);

/* Jumps return the address of their rel32, for x_patch. */
uint8_t *x_jmp(struct enc *);
uint8_t *x_jcc(struct enc *, enum ir_cc);
uint8_t *x_call(struct enc *);
void x_patch(uint8_t *rel32, const uint8_t *to);
void x_patch_here(struct enc *, uint8_t *rel32);
void x_jmp_rm(struct enc *, struct x_rm);
void x_call_rm(struct enc *, struct x_rm);

/* Vector instructions by opcode: map 1 0F, 2 0F38, 3 0F3A; pp 0 none, 1 66, 2 F3, 3 F2. */
struct x_vec {
    uint8_t pp, map, opcode;
    bool vex, l, w; /* w: REX.W or VEX.W */
    uint8_t reg, vvvv;
};
void x_vec_rm(struct enc *, const struct x_vec *, struct x_rm);

#endif
