/*
 * The MMX, SSE and AVX instructions that are more than one hostvec op (Intel SDM Vol. 1 5.4 to
 * 5.14): moves under a mask, gathers, string compares. All others: lift_vec.c.
 */
#include <string.h>

#include "isa/x86/lift_vec.h"
#include "isa/x86/vec_args.h"

static ir_ref packed(struct lift *l, const void *args)
{
    uint64_t k;
    memcpy(&k, args, 8);
    return lift_const(l, k);
}

/* MASKMOVQ, MASKMOVDQU: bytes to DS:rDI. */
static bool lift_maskmov(struct lift *l)
{
    bool result;
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    bool mmx = l->in->op == X86_MASKMOVQ;
    if (mmx) {
        lift_x87_waits(l);
    }
    struct x86_masked m = {.size = 1,
                           .count = mmx ? 8 : 16,
                           .store = 1,
                           .mmx = mmx,
                           .reg = l->in->opnd[0].reg,
                           .mask = l->in->opnd[1].reg};
    ir_ref va = ir_lea(l->b, IR_I64, lift_mem(l, 1, RT_WRITE));
    lift_helper(l, HELPER_masked_move, va, packed(l, &m), IR_NONE);
    return true;
}

/* VMASKMOVPS and its kin: operands register, mask, memory or memory, mask, register. */
static bool lift_vmaskmov(struct lift *l)
{
    bool result;
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    const struct x86_insn *in = l->in;
    bool store = in->opnd[0].kind == X86_OPND_MEM;
    bool wide = in->op == X86_VMASKMOVPD || in->op == X86_VPMASKMOVQ;
    unsigned size = wide ? 8 : 4;
    struct x86_masked m = {.size = (uint8_t)size,
                           .count = (uint8_t)((in->vex_l ? 32 : 16) / size),
                           .store = store,
                           .reg = in->opnd[store ? 2 : 0].reg,
                           .mask = in->opnd[1].reg};
    ir_ref va = ir_lea(l->b, IR_I64, lift_mem(l, 1, store ? RT_WRITE : RT_READ));
    lift_helper(l, HELPER_masked_move, va, packed(l, &m), IR_NONE);
    return true;
}

/* Sizes of index and element by instruction. */
static void gather_sizes(unsigned op, unsigned *index, unsigned *size)
{
    *index =
        op == X86_VPGATHERDD || op == X86_VPGATHERDQ || op == X86_VGATHERDPS || op == X86_VGATHERDPD
            ? 4
            : 8;
    *size =
        op == X86_VPGATHERDD || op == X86_VPGATHERQD || op == X86_VGATHERDPS || op == X86_VGATHERQPS
            ? 4
            : 8;
}

static bool lift_gather(struct lift *l)
{
    const struct x86_insn *in = l->in;
    unsigned reg = in->opnd[0].reg, mask = in->opnd[2].reg, index_size, size;
    bool result;
    if (reg == mask || reg == in->index || mask == in->index) {
        return false;
    }
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    gather_sizes(in->op, &index_size, &size);
    unsigned widest = index_size > size ? index_size : size;
    struct x86_gather g = {.size = (uint8_t)size,
                           .index_size = (uint8_t)index_size,
                           .count = (uint8_t)((in->vex_l ? 32 : 16) / widest),
                           .reg = (uint8_t)reg,
                           .index = in->index,
                           .mask = (uint8_t)mask,
                           .scale_seg = (uint8_t)(in->scale << 4 | in->mem_seg),
                           .addrsize = in->addrsize};
    ir_ref base = in->base == X86_REG_NONE ? IR_NONE : ir_getreg(l->b, IR_I64, in->base);
    struct ir_addr m = {.base = base, .index = IR_NONE, .disp = in->disp};
    lift_helper(l, HELPER_gather, ir_lea(l->b, IR_I64, m), packed(l, &g), IR_NONE);
    return true;
}

static bool lift_pcmpstr(struct lift *l)
{
    const struct x86_insn *in = l->in;
    bool result;
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    bool mem = in->opnd[1].kind == X86_OPND_MEM;
    struct x86_pcmpstr p = {.reg = in->opnd[0].reg,
                            .rm = in->opnd[1].reg,
                            .imm8 = (uint8_t)in->imm,
                            .explicit_len = in->op == X86_PCMPESTRI || in->op == X86_PCMPESTRM,
                            .wide_len = in->mode == 8 && in->rex_w,
                            .mem = mem,
                            .vex = in->vex,
                            .to_mask = in->op == X86_PCMPESTRM || in->op == X86_PCMPISTRM};
    ir_ref va = mem ? ir_lea(l->b, IR_I64, lift_mem(l, 16, RT_READ)) : IR_NONE;
    lift_helper(l, HELPER_pcmpstr, va, packed(l, &p), IR_NONE);
    return true;
}

/* Outside 64-bit mode registers 8 to 15 stay as they are. */
static bool lift_vzero(struct lift *l)
{
    bool result;
    if (l->in->mode == 8) {
        return lift_vec(l);
    }
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    lift_helper(l, HELPER_vzero, lift_const(l, l->in->op == X86_VZEROALL), IR_NONE, IR_NONE);
    return true;
}

x86_lift_fn *const x86_lift_sse[X86_OP_COUNT] = {
    [X86_MASKMOVQ] = lift_maskmov,    [X86_MASKMOVDQU] = lift_maskmov,
    [X86_VMASKMOVPS] = lift_vmaskmov, [X86_VMASKMOVPD] = lift_vmaskmov,
    [X86_VPMASKMOVD] = lift_vmaskmov, [X86_VPMASKMOVQ] = lift_vmaskmov,
    [X86_VPGATHERDD] = lift_gather,   [X86_VPGATHERDQ] = lift_gather,
    [X86_VPGATHERQD] = lift_gather,   [X86_VPGATHERQQ] = lift_gather,
    [X86_VGATHERDPS] = lift_gather,   [X86_VGATHERDPD] = lift_gather,
    [X86_VGATHERQPS] = lift_gather,   [X86_VGATHERQPD] = lift_gather,
    [X86_PCMPESTRM] = lift_pcmpstr,   [X86_PCMPESTRI] = lift_pcmpstr,
    [X86_PCMPISTRM] = lift_pcmpstr,   [X86_PCMPISTRI] = lift_pcmpstr,
    [X86_VZEROUPPER] = lift_vzero,    [X86_VZEROALL] = lift_vzero,
};
