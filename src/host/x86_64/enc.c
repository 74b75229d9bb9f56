/* Encoder; see enc.h. Opcode numbers here: bits 7..0 opcode, 11..8 map, 23..16 mandatory prefix. */
#include "host/x86_64/enc.h"

#include <assert.h>
#include <string.h>

enum { M0F = 0x100, M38 = 0x200, M3A = 0x300, P66 = 0x660000, PF3 = 0xf30000, PF2 = 0xf20000 };

/*
 * Bytes go through a local pointer: a store of a byte may alias anything in memory. What may be
 * there or not is written anyway, and then the pointer moves or does not: up to 8 bytes behind an
 * instruction are lost.
 */
void x_imm64(struct enc *e, uint64_t v)
{
    memcpy(e->p, &v, 8);
    e->p += 8;
}

static inline uint8_t *put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
    return p + 4;
}

static inline uint8_t *put16(uint8_t *p, unsigned v)
{
    uint16_t w = (uint16_t)v;
    memcpy(p, &w, 2);
    return p + 2;
}

static inline uint8_t *modrm_mem(uint8_t *p, unsigned reg, struct x_rm m)
{
    static const uint8_t disp_bytes[] = {0, 1, 4};
    unsigned r = (reg & 7) << 3;
    bool has_index = m.index != X_NONE;
    unsigned ix = has_index ? m.index & 7 : 4;
    if (m.reg == X_NONE) { /* no base: SIB with disp32 */
        p = put16(p, r | 4 | (m.scale << 6 | ix << 3 | 5) << 8);
        return put32(p, (uint32_t)m.disp);
    }
    unsigned base = m.reg & 7;
    unsigned mod = m.disp == 0 && base != 5 ? 0 : m.disp == (int8_t)m.disp ? 1 : 2;
    bool sib = has_index || base == 4;
    put16(p, mod << 6 | r | (sib ? 4 : base) | (m.scale << 6 | ix << 3 | base) << 8);
    p += 1 + sib;
    put32(p, (uint32_t)m.disp);
    return p + disp_bytes[mod];
}

static inline uint8_t *modrm_at(uint8_t *p, unsigned reg, struct x_rm m)
{
    if (m.mem) {
        return modrm_mem(p, reg, m);
    }
    *p = (uint8_t)(0xc0 | (reg & 7) << 3 | (m.reg & 7));
    return p + 1;
}

static inline unsigned rex_bits(unsigned reg, struct x_rm m)
{
    return (reg >> 1 & 4) | (m.index >> 2 & 2) | (m.reg >> 3 & 1);
}

enum { BYTE_REG = 1, BYTE_RM = 2, NO_W = 4, NO_66 = 8 };

/* Of 32 bits, or 64, and one byte of opcode: most are that. In one place, and few have loops or
 * jumps, as translation runs with cold caches. */
static __attribute__((noinline)) void op_plain(struct enc *e, unsigned opcode, unsigned rex_w,
                                               unsigned reg, struct x_rm m)
{
    uint8_t *p = e->p;
    unsigned rex = rex_w | rex_bits(reg, m);
    *p = (uint8_t)(0x40 | rex);
    p += rex != 0;
    *p = (uint8_t)opcode;
    e->p = modrm_at(p + 1, reg, m);
}

static __attribute__((noinline)) void op_rm(struct enc *e, unsigned code, enum ir_type w,
                                            unsigned reg, struct x_rm m, unsigned how)
{
    uint8_t *p = e->p;
    if (w == IR_I16 && !(how & NO_66)) {
        *p++ = 0x66;
    }
    if (code >> 16) {
        *p++ = (uint8_t)(code >> 16);
    }
    unsigned rex = (w == IR_I64 && !(how & NO_W) ? 8 : 0) | rex_bits(reg, m);
    bool low = ((how & BYTE_REG) && reg >= 4) | ((how & BYTE_RM) && !m.mem && m.reg >= 4);
    *p = (uint8_t)(0x40 | rex);
    p += (rex != 0) | low;
    unsigned map = code >> 8 & 15;
    if (map) {
        *p++ = 0x0f;
        if (map > 1) {
            *p++ = map == 2 ? 0x38 : 0x3a;
        }
    }
    *p = (uint8_t)code;
    e->p = modrm_at(p + 1, reg, m);
}

static inline bool is_plain(unsigned code, enum ir_type w)
{
    return code < 0x100 && (w == IR_I32 || w == IR_I64);
}

/* Ops whose 8-bit form has the even opcode. */
static inline void op_w(struct enc *e, unsigned code, enum ir_type w, unsigned reg, struct x_rm m)
{
    if (is_plain(code, w)) {
        op_plain(e, code, w == IR_I64 ? 8 : 0, reg, m);
    } else {
        op_rm(e, w == IR_I8 ? code & ~1u : code, w, reg, m, w == IR_I8 ? BYTE_REG | BYTE_RM : 0);
    }
}

/* Group ops: `ext` in the reg field. */
static inline void op_ext(struct enc *e, unsigned code, enum ir_type w, unsigned ext, struct x_rm m)
{
    if (is_plain(code, w)) {
        op_plain(e, code, w == IR_I64 ? 8 : 0, ext, m);
    } else {
        op_rm(e, w == IR_I8 ? code & ~1u : code, w, ext, m, w == IR_I8 ? BYTE_RM : 0);
    }
}

static void imm_w(struct enc *e, enum ir_type w, int32_t imm)
{
    static const uint8_t bytes[IR_TYPES] = {1, 2, 4, 4, 4};
    put32(e->p, (uint32_t)imm);
    e->p += bytes[w];
}

void x_mov_r_rm(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_w(e, 0x8b, w, reg, m);
}

void x_mov_rm_r(struct enc *e, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_w(e, 0x89, w, reg, m);
}

void x_mov_rm_i(struct enc *e, enum ir_type w, struct x_rm m, int32_t imm)
{
    op_ext(e, 0xc7, w, 0, m);
    imm_w(e, w, imm);
}

void x_mov_r_i64(struct enc *e, unsigned reg, uint64_t k)
{
    if (k == (uint32_t)k) {
        if (reg >= 8) {
            x_byte(e, 0x41);
        }
        x_byte(e, (uint8_t)(0xb8 | (reg & 7)));
        x_imm32(e, (uint32_t)k);
    } else if (k == (uint64_t)(int32_t)k) {
        x_mov_rm_i(e, IR_I64, x_r(reg), (int32_t)k);
    } else {
        x_byte(e, (uint8_t)(0x48 | reg >> 3));
        x_byte(e, (uint8_t)(0xb8 | (reg & 7)));
        x_imm64(e, k);
    }
}

void x_movzx(struct enc *e, enum ir_type from, unsigned reg, struct x_rm m)
{
    if (from >= IR_I32 && from != IR_H8) {
        x_mov_r_rm(e, from, reg, m);
    } else {
        op_rm(e, M0F | (from == IR_I16 ? 0xb7 : 0xb6), IR_I32, reg, m,
              from == IR_I16 ? 0 : BYTE_RM);
    }
}

void x_movzx_high(struct enc *e, unsigned reg, unsigned from)
{
    assert(reg < 8 && from < 4);
    op_rm(e, M0F | 0xb6, IR_I32, reg, x_r(from + 4), 0);
}

void x_movsx(struct enc *e, enum ir_type to, enum ir_type from, unsigned reg, struct x_rm m)
{
    if (from == IR_I32) {
        op_rm(e, 0x63, to, reg, m, 0);
    } else {
        op_rm(e, M0F | (from == IR_I16 ? 0xbf : 0xbe), to < IR_I32 ? IR_I32 : to, reg, m,
              from == IR_I16 ? 0 : BYTE_RM);
    }
}

void x_lea(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_plain(e, 0x8d, w == IR_I64 ? 8 : 0, reg, m);
}

void x_alu_r_rm(struct enc *e, enum x_alu op, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_w(e, op << 3 | 3, w, reg, m);
}

void x_alu_rm_r(struct enc *e, enum x_alu op, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_w(e, op << 3 | 1, w, reg, m);
}

void x_alu_rm_i(struct enc *e, enum x_alu op, enum ir_type w, struct x_rm m, int32_t imm)
{
    if (w == IR_I8) {
        op_ext(e, 0x81, w, op, m);
        x_byte(e, (uint8_t)imm);
    } else if (imm == (int8_t)imm) {
        op_rm(e, 0x83, w, op, m, 0);
        x_byte(e, (uint8_t)imm);
    } else {
        op_ext(e, 0x81, w, op, m);
        imm_w(e, w, imm);
    }
}

void x_test_rm_r(struct enc *e, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_w(e, 0x85, w, reg, m);
}

void x_test_rm_i(struct enc *e, enum ir_type w, struct x_rm m, int32_t imm)
{
    op_ext(e, 0xf7, w, 0, m);
    imm_w(e, w, imm);
}

void x_shift_rm_i(struct enc *e, enum x_shift op, enum ir_type w, struct x_rm m, unsigned n)
{
    op_ext(e, n == 1 ? 0xd1 : 0xc1, w, op, m);
    if (n != 1) {
        x_byte(e, (uint8_t)n);
    }
}

void x_shift_rm_cl(struct enc *e, enum x_shift op, enum ir_type w, struct x_rm m)
{
    op_ext(e, 0xd3, w, op, m);
}

void x_shiftd_rm_r_i(struct enc *e, bool left, enum ir_type w, struct x_rm m, unsigned reg,
                     unsigned n)
{
    op_rm(e, M0F | (left ? 0xa4 : 0xac), w, reg, m, 0);
    x_byte(e, (uint8_t)n);
}

void x_shiftd_rm_r_cl(struct enc *e, bool left, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_rm(e, M0F | (left ? 0xa5 : 0xad), w, reg, m, 0);
}

void x_unary_rm(struct enc *e, enum x_unary op, enum ir_type w, struct x_rm m)
{
    op_ext(e, 0xf7, w, op, m);
}

void x_incdec_rm(struct enc *e, bool dec, enum ir_type w, struct x_rm m)
{
    op_ext(e, 0xff, w, dec, m);
}

void x_imul_r_rm(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, M0F | 0xaf, w, reg, m, 0);
}

void x_imul_r_rm_i(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m, int32_t imm)
{
    bool small = imm == (int8_t)imm;
    op_rm(e, small ? 0x6b : 0x69, w, reg, m, 0);
    imm_w(e, small ? IR_I8 : w, imm);
}

void x_setcc_rm(struct enc *e, enum ir_cc cc, struct x_rm m)
{
    op_rm(e, M0F | 0x90 | cc, IR_I8, 0, m, BYTE_RM);
}

void x_cmov_r_rm(struct enc *e, enum ir_cc cc, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, M0F | 0x40 | cc, w, reg, m, 0);
}

void x_bswap_r(struct enc *e, enum ir_type w, unsigned reg)
{
    unsigned rex = (w == IR_I64 ? 8 : 0) | reg >> 3;
    if (rex) {
        x_byte(e, (uint8_t)(0x40 | rex));
    }
    x_byte(e, 0x0f);
    x_byte(e, (uint8_t)(0xc8 | (reg & 7)));
}

void x_bt_rm_r(struct enc *e, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_rm(e, M0F | 0xa3, w, reg, m, 0);
}

void x_bt_rm_i(struct enc *e, enum ir_type w, struct x_rm m, unsigned n)
{
    op_rm(e, M0F | 0xba, w, 4, m, 0);
    x_byte(e, (uint8_t)n);
}

void x_xchg_rm_r(struct enc *e, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_w(e, 0x87, w, reg, m);
}

void x_xadd_rm_r(struct enc *e, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_w(e, M0F | 0xc1, w, reg, m);
}

void x_cmpxchg_rm_r(struct enc *e, enum ir_type w, struct x_rm m, unsigned reg)
{
    op_w(e, M0F | 0xb1, w, reg, m);
}

void x_popcnt(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, PF3 | M0F | 0xb8, w, reg, m, 0);
}

void x_lzcnt(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, PF3 | M0F | 0xbd, w, reg, m, 0);
}

void x_tzcnt(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, PF3 | M0F | 0xbc, w, reg, m, 0);
}

void x_bsr(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, M0F | 0xbd, w, reg, m, 0);
}

void x_bsf(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, M0F | 0xbc, w, reg, m, 0);
}

void x_adx(struct enc *e, bool of, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, (of ? PF3 : P66) | M38 | 0xf6, w, reg, m, 0);
}

void x_crc32(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m)
{
    op_rm(e, PF2 | M38 | (w == IR_I8 ? 0xf0 : 0xf1), w, reg, m, w == IR_I8 ? BYTE_RM : 0);
}

static void vex(struct enc *e, const struct x_vec *v, struct x_rm m)
{
    unsigned xb = rex_bits(0, m);
    unsigned r = v->reg >> 3 & 1, last = (~v->vvvv & 15u) << 3 | (v->l ? 4u : 0) | v->pp;
    if (v->map == 1 && !v->w && xb == 0) {
        x_byte(e, 0xc5);
        x_byte(e, (uint8_t)((r ? 0 : 0x80) | last));
    } else {
        x_byte(e, 0xc4);
        x_byte(e, (uint8_t)((r ? 0 : 0x80) | (~xb & 3u) << 5 | v->map));
        x_byte(e, (uint8_t)((v->w ? 0x80 : 0) | last));
    }
}

void x_vec_rm(struct enc *e, const struct x_vec *v, struct x_rm m)
{
    static const uint8_t prefix[4] = {0, 0x66, 0xf3, 0xf2};
    if (v->vex) {
        vex(e, v, m);
        x_byte(e, v->opcode);
        e->p = modrm_at(e->p, v->reg, m);
        return;
    }
    unsigned code = (unsigned)prefix[v->pp] << 16 | (unsigned)v->map << 8 | v->opcode;
    op_rm(e, code, v->w ? IR_I64 : IR_I32, v->reg, m, 0);
}

static void bmi(struct enc *e, unsigned pp, unsigned map, unsigned opcode, enum ir_type w,
                unsigned reg, unsigned vvvv, struct x_rm m)
{
    x_vec_rm(e,
             &(struct x_vec){.pp = (uint8_t)pp,
                             .map = (uint8_t)map,
                             .opcode = (uint8_t)opcode,
                             .vex = true,
                             .w = w == IR_I64,
                             .reg = (uint8_t)reg,
                             .vvvv = (uint8_t)vvvv},
             m);
}

void x_rorx(struct enc *e, enum ir_type w, unsigned reg, struct x_rm m, unsigned n)
{
    bmi(e, 3, 3, 0xf0, w, reg, 0, m);
    x_byte(e, (uint8_t)n);
}

void x_mulx(struct enc *e, enum ir_type w, unsigned hi, unsigned lo, struct x_rm m)
{
    bmi(e, 3, 2, 0xf6, w, hi, lo, m);
}

void x_shlx(struct enc *e, enum x_shift op, enum ir_type w, unsigned reg, struct x_rm m,
            unsigned count)
{
    unsigned pp = op == X_SHL ? 1 : op == X_SAR ? 2 : 3;
    bmi(e, pp, 2, 0xf7, w, reg, count, m);
}

void x_pdep(struct enc *e, enum ir_type w, unsigned reg, unsigned src, struct x_rm mask)
{
    bmi(e, 3, 2, 0xf5, w, reg, src, mask);
}

void x_pext(struct enc *e, enum ir_type w, unsigned reg, unsigned src, struct x_rm mask)
{
    bmi(e, 2, 2, 0xf5, w, reg, src, mask);
}

void x_lock(struct enc *e)
{
    x_byte(e, 0xf0);
}

void x_lahf(struct enc *e)
{
    x_byte(e, 0x9f);
}

void x_sahf(struct enc *e)
{
    x_byte(e, 0x9e);
}

void x_mfence(struct enc *e)
{
    x_byte(e, 0x0f);
    x_byte(e, 0xae);
    x_byte(e, 0xf0);
}

void x_cdq(struct enc *e, enum ir_type w)
{
    if (w == IR_I64) {
        x_byte(e, 0x48);
    } else if (w == IR_I16) {
        x_byte(e, 0x66);
    }
    x_byte(e, 0x99);
}

void x_stc_clc(struct enc *e, bool set)
{
    x_byte(e, set ? 0xf9 : 0xf8);
}

void x_push_r(struct enc *e, unsigned reg)
{
    if (reg >= 8) {
        x_byte(e, 0x41);
    }
    x_byte(e, (uint8_t)(0x50 | (reg & 7)));
}

void x_pop_r(struct enc *e, unsigned reg)
{
    if (reg >= 8) {
        x_byte(e, 0x41);
    }
    x_byte(e, (uint8_t)(0x58 | (reg & 7)));
}

void x_push_i32(struct enc *e, int32_t imm)
{
    x_byte(e, 0x68);
    x_imm32(e, (uint32_t)imm);
}

void x_push_i8(struct enc *e, int8_t imm)
{
    x_byte(e, 0x6a);
    x_byte(e, (uint8_t)imm);
}

/* Intel SDM Vol. 2B, NOP: the recommended sequences of 1 to 8 bytes. */
void x_align(struct enc *e, unsigned to)
{
    static const uint8_t nop[8][8] = {
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };
    for (size_t left = -(uintptr_t)e->p & (to - 1); left;) {
        size_t n = left < 8 ? left : 8;
        memcpy(e->p, nop[n - 1], n);
        e->p += n;
        left -= n;
    }
}

void x_ret(struct enc *e)
{
    x_byte(e, 0xc3);
}

void x_ret_pop(struct enc *e, unsigned bytes)
{
    x_byte(e, 0xc2);
    x_byte(e, (uint8_t)bytes);
    x_byte(e, (uint8_t)(bytes >> 8));
}

void x_ldmxcsr(struct enc *e, struct x_rm m)
{
    op_rm(e, M0F | 0xae, IR_I32, 2, m, 0);
}

void x_stmxcsr(struct enc *e, struct x_rm m)
{
    op_rm(e, M0F | 0xae, IR_I32, 3, m, 0);
}

void x_ud2(struct enc *e)
{
    x_byte(e, 0x0f);
    x_byte(e, 0x0b);
}

static inline uint8_t *with_rel32(struct enc *e, uint8_t *rel32)
{
    e->p = put32(rel32, 0);
    return rel32;
}

uint8_t *x_jmp(struct enc *e)
{
    *e->p = 0xe9;
    return with_rel32(e, e->p + 1);
}

uint8_t *x_jcc(struct enc *e, enum ir_cc cc)
{
    return with_rel32(e, put16(e->p, 0x0f | (0x80u | cc) << 8));
}

uint8_t *x_call(struct enc *e)
{
    *e->p = 0xe8;
    return with_rel32(e, e->p + 1);
}

void x_patch(uint8_t *at, const uint8_t *to)
{
    int32_t rel = (int32_t)(to - (at + 4));
    memcpy(at, &rel, 4);
}

void x_patch_here(struct enc *e, uint8_t *at)
{
    x_patch(at, e->p);
}

void x_jmp_rm(struct enc *e, struct x_rm m)
{
    op_rm(e, 0xff, IR_I64, 4, m, NO_W);
}

void x_call_rm(struct enc *e, struct x_rm m)
{
    op_rm(e, 0xff, IR_I64, 2, m, NO_W);
}
