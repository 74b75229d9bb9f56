/* Branches, calls, stack frames, string instructions, flags on the stack. */
#include "isa/x86/lift.h"

static uint64_t pc_mask(const struct lift *l)
{
    return l->in->opsize == 8 ? ~0ull : l->in->opsize == 4 ? 0xffffffffu : 0xffffu;
}

static uint64_t rel_target(const struct lift *l)
{
    l->b->moves &= l->in->opsize == 8;
    return (l->next + (uint64_t)l->in->imm) & pc_mask(l);
}

static bool lift_jcc(struct lift *l)
{
    enum ir_cc cc = l->in->op - X86_JO;
    if (lift_limits_targets(l)) {
        lift_check_target(l, ir_setcc(l->b, cc, ir_get_flags(l->b)), lift_const(l, rel_target(l)));
    }
    ir_brcc(l->b, cc, ir_get_flags(l->b), rel_target(l));
    return true;
}

static ir_ref target_value(struct lift *l)
{
    enum ir_type t = lift_type(l->in->opsize);
    return ir_ext(l->b, IR_zext, IR_I64, t, lift_read(l, 0));
}

static bool lift_jmp(struct lift *l)
{
    if (l->in->opnd[0].kind == X86_OPND_REL) {
        lift_check_target(l, IR_NONE, lift_const(l, rel_target(l)));
        lift_jump(l, rel_target(l));
    } else {
        ir_ref v = target_value(l);
        lift_check_target(l, IR_NONE, v);
        ir_jumpi(l->b, IR_HINT_NONE, v, 0);
        l->end = true;
    }
    return true;
}

static bool lift_call(struct lift *l)
{
    if (l->in->opnd[0].kind == X86_OPND_REL) {
        lift_check_target(l, IR_NONE, lift_const(l, rel_target(l)));
        lift_push(l, l->in->opsize, lift_pc(l, l->next, l->in->opsize));
        ir_call(l->b, rel_target(l), l->next);
    } else {
        ir_ref v = target_value(l);
        lift_check_target(l, IR_NONE, v);
        lift_push(l, l->in->opsize, lift_pc(l, l->next, l->in->opsize));
        ir_jumpi(l->b, IR_HINT_CALL, v, l->next);
    }
    l->end = true;
    return true;
}

static bool lift_ret(struct lift *l)
{
    ir_ref v = ir_ext(l->b, IR_zext, IR_I64, lift_type(l->in->opsize), lift_pop(l, l->in->opsize));
    uint64_t release = l->in->nopnd ? (uint64_t)l->in->imm & 0xffff : 0;
    lift_check_target(l, IR_NONE, v);
    lift_pop_done(l, l->in->opsize + release);
    ir_jumpi(l->b, IR_HINT_RET, v, 0);
    l->end = true;
    return true;
}

static enum ir_type count_type(const struct lift *l)
{
    return lift_type(l->in->addrsize);
}

static bool lift_jcxz(struct lift *l)
{
    enum ir_type t = count_type(l);
    ir_ref n = ir_getreg(l->b, t, RCX);
    if (lift_limits_targets(l)) {
        lift_check_target(l, ir_bin(l->b, IR_seteq, t, n, lift_const(l, 0)),
                          lift_const(l, rel_target(l)));
    }
    ir_brz(l->b, t, n, rel_target(l));
    return true;
}

static bool lift_loop(struct lift *l)
{
    enum ir_type t = count_type(l);
    ir_ref n = ir_bin(l->b, IR_sub, t, ir_getreg(l->b, t, RCX), lift_const(l, 1));
    ir_ref go = n;
    enum ir_type go_type = t;
    if (l->in->op != X86_LOOP) {
        ir_ref more = ir_bin(l->b, IR_setltu, t, lift_const(l, 0), n);
        enum ir_cc cc = l->in->op == X86_LOOPE ? IR_CC_E : IR_CC_NE;
        go = ir_bin(l->b, IR_and, IR_I8, more, ir_setcc(l->b, cc, ir_get_flags(l->b)));
        go_type = IR_I8;
    }
    if (lift_limits_targets(l)) {
        lift_check_target(l, ir_bin(l->b, IR_setltu, go_type, lift_const(l, 0), go),
                          lift_const(l, rel_target(l)));
    }
    ir_setreg(l->b, t, RCX, n);
    ir_brnz(l->b, go_type, go, rel_target(l));
    return true;
}

static bool lift_push_op(struct lift *l)
{
    const struct x86_opnd *o = &l->in->opnd[0];
    unsigned size = l->in->opsize;
    ir_ref v;
    if (o->kind == X86_OPND_SEG) {
        ir_ref sel = ir_getreg(l->b, IR_I16, XREG_SEL + o->reg);
        v = size == 2 ? sel : ir_ext(l->b, IR_zext, lift_type(size), IR_I16, sel);
    } else {
        v = lift_read(l, 0);
    }
    lift_push(l, size, v);
    return true;
}

static bool lift_pop_op(struct lift *l)
{
    const struct x86_opnd *o = &l->in->opnd[0];
    unsigned size = l->in->opsize;
    ir_ref v = lift_pop(l, size);
    if (o->kind == X86_OPND_SEG) {
        ir_ref sel = size == 2 ? v : ir_ext(l->b, IR_trunc, IR_I16, lift_type(size), v);
        lift_helper(l, HELPER_pop_seg, lift_const(l, o->reg),
                    ir_ext(l->b, IR_zext, IR_I64, IR_I16, sel), lift_const(l, size));
        return true;
    }
    if (o->kind == X86_OPND_MEM) { /* the address sees the stack pointer after the pop */
        struct x86_insn moved = *l->in;
        const struct x86_insn *in = l->in;
        if (in->base == RSP) {
            moved.disp += (int32_t)size;
        }
        l->in = &moved;
        struct ir_addr m = lift_mem(l, size, RT_WRITE);
        l->in = in;
        ir_st(l->b, lift_type(size), m, v);
        lift_pop_done(l, size);
        return true;
    }
    lift_pop_done(l, size);
    lift_write(l, 0, v);
    return true;
}

static bool lift_leave(struct lift *l)
{
    enum ir_type st = l->mode & MODE_CS64 ? IR_I64 : l->mode & MODE_SS32 ? IR_I32 : IR_I16;
    ir_ref frame = ir_getreg(l->b, st, RBP);
    ir_ref off = ir_ext(l->b, IR_zext, IR_I64, st, frame);
    struct ir_addr m = lift_mem_at(l, SEG_SS, off, l->in->opsize, RT_READ);
    ir_ref v = ir_ld(l->b, lift_type(l->in->opsize), m);
    ir_setreg(l->b, st, RSP, ir_bin(l->b, IR_add, st, frame, lift_const(l, l->in->opsize)));
    lift_set_gpr(l, RBP, l->in->opsize, v);
    return true;
}

static bool lift_enter(struct lift *l)
{
    lift_helper(l, HELPER_enter, lift_const(l, (uint64_t)l->in->imm & 0xffff),
                lift_const(l, (uint64_t)l->in->imm2), lift_const(l, l->in->opsize));
    return true;
}

static bool lift_pusha(struct lift *l)
{
    lift_helper(l, l->in->op == X86_PUSHA ? HELPER_pusha : HELPER_popa,
                lift_const(l, l->in->opsize), IR_NONE, IR_NONE);
    return true;
}

static bool lift_pushf(struct lift *l)
{
    if ((l->mode & MODE_VM) && !(l->mode & MODE_IO)) {
        lift_helper(l, HELPER_pushf_v86, lift_const(l, l->in->opsize), IR_NONE, IR_NONE);
        return true;
    }
    ir_ref arith = ir_un(l->b, IR_flagbits, IR_I64, ir_get_flags(l->b));
    ir_ref sys = ir_bin(l->b, IR_and, IR_I64, ir_getreg(l->b, IR_I64, XREG_SYS_FLAGS),
                        lift_const(l, ~(uint64_t)(RF_RF | RF_VM)));
    ir_ref v =
        ir_bin(l->b, IR_or, IR_I64, ir_bin(l->b, IR_or, IR_I64, arith, sys), lift_const(l, RF_ONE));
    lift_push(l, l->in->opsize, ir_ext(l->b, IR_trunc, lift_type(l->in->opsize), IR_I64, v));
    return true;
}

static bool lift_popf(struct lift *l)
{
    ir_ref v = ir_ext(l->b, IR_zext, IR_I64, lift_type(l->in->opsize), lift_pop(l, l->in->opsize));
    lift_helper(l, HELPER_popf, v, lift_const(l, l->in->opsize), IR_NONE);
    return true;
}

/* DF as a step of +size or -size. */
static ir_ref string_step(struct lift *l, unsigned size)
{
    ir_ref df =
        ir_bin(l->b, IR_shr, IR_I64, ir_getreg(l->b, IR_I64, XREG_SYS_FLAGS), lift_const(l, 10));
    ir_ref bit = ir_bin(l->b, IR_and, IR_I64, df, lift_const(l, 1));
    ir_ref twice = ir_bin(l->b, IR_mul, IR_I64, bit, lift_const(l, size * 2));
    return ir_bin(l->b, IR_sub, IR_I64, lift_const(l, size), twice);
}

static void advance(struct lift *l, unsigned reg, ir_ref step)
{
    enum ir_type t = lift_type(l->in->addrsize);
    ir_setreg(l->b, t, reg, ir_bin(l->b, IR_add, t, ir_getreg(l->b, t, reg), step));
}

static ir_ref string_offset(struct lift *l, unsigned reg)
{
    enum ir_type t = lift_type(l->in->addrsize);
    return ir_ext(l->b, IR_zext, IR_I64, t, ir_getreg(l->b, t, reg));
}

/* MOVS, STOS and LODS without a prefix: common enough in kernels to be inline. */
static bool lift_string_once(struct lift *l, unsigned what, unsigned size)
{
    enum ir_type t = lift_type(size);
    ir_ref v = IR_NONE;
    ir_ref step = string_step(l, size);
    if (what != STRING_STOS) {
        v = ir_ld(l->b, t, lift_mem_at(l, l->in->mem_seg, string_offset(l, RSI), size, RT_READ));
    } else {
        v = lift_gpr(l, RAX, size);
    }
    if (what != STRING_LODS) {
        ir_st(l->b, t, lift_mem_at(l, SEG_ES, string_offset(l, RDI), size, RT_WRITE), v);
        advance(l, RDI, step);
    } else {
        lift_set_gpr(l, RAX, size, v);
    }
    if (what != STRING_STOS) {
        advance(l, RSI, step);
    }
    return true;
}

static bool lift_string(struct lift *l)
{
    static const uint8_t what_of[] = {
        [X86_MOVS - X86_MOVS] = STRING_MOVS, [X86_CMPS - X86_MOVS] = STRING_CMPS,
        [X86_STOS - X86_MOVS] = STRING_STOS, [X86_LODS - X86_MOVS] = STRING_LODS,
        [X86_SCAS - X86_MOVS] = STRING_SCAS,
    };
    unsigned op = l->in->op;
    unsigned what = op == X86_INS    ? STRING_INS
                    : op == X86_OUTS ? STRING_OUTS
                                     : what_of[op - X86_MOVS];
    unsigned size = 0;
    for (unsigned i = 0; i < l->in->nopnd; i++) {
        if (l->in->opnd[i].kind == X86_OPND_MEM || (size == 0 && l->in->opnd[i].size)) {
            size = l->in->opnd[i].size;
        }
    }
    bool plain = what == STRING_MOVS || what == STRING_STOS || what == STRING_LODS;
    if (plain && !l->in->rep) {
        return lift_string_once(l, what, size);
    }
    uint8_t seg =
        what == STRING_STOS || what == STRING_SCAS || what == STRING_INS ? SEG_DS : l->in->mem_seg;
    struct x86_string_args a = {.what = (uint8_t)what,
                                .size = (uint8_t)size,
                                .rep = l->in->rep,
                                .seg = seg,
                                .addrsize = l->in->addrsize,
                                .len = l->in->len};
    lift_helper(l, HELPER_string, lift_const(l, x86_string_pack(a)), IR_NONE, IR_NONE);
    return true;
}

static bool lift_xlat(struct lift *l)
{
    enum ir_type t = lift_type(l->in->addrsize);
    ir_ref al = ir_ext(l->b, IR_zext, t, IR_I8, lift_gpr(l, RAX, 1));
    ir_ref off =
        ir_ext(l->b, IR_zext, IR_I64, t, ir_bin(l->b, IR_add, t, ir_getreg(l->b, t, RBX), al));
    lift_set_gpr(l, RAX, 1, ir_ld(l->b, IR_I8, lift_mem_at(l, l->in->mem_seg, off, 1, RT_READ)));
    return true;
}

static bool lift_far(struct lift *l)
{
    bool call = l->in->op == X86_CALL_FAR;
    unsigned size = l->in->opsize;
    ir_ref sel, off;
    if (l->in->opnd[0].kind == X86_OPND_FAR) {
        sel = lift_const(l, (uint64_t)l->in->imm2 & 0xffff);
        off = lift_const(l, (uint64_t)l->in->imm);
    } else {
        struct ir_addr m = lift_mem(l, size + 2, RT_READ);
        off = ir_ext(l->b, IR_zext, IR_I64, lift_type(size), ir_ld(l->b, lift_type(size), m));
        m.disp += (int32_t)size;
        sel = ir_ext(l->b, IR_zext, IR_I64, IR_I16, ir_ld(l->b, IR_I16, m));
    }
    lift_helper(l, call ? HELPER_far_call : HELPER_far_jump, sel, off,
                lift_const(l, size | (uint64_t)l->in->len << 8));
    return true;
}

static bool lift_ret_far(struct lift *l)
{
    uint64_t release = l->in->nopnd ? (uint64_t)l->in->imm & 0xffff : 0;
    lift_helper(l, HELPER_far_ret, lift_const(l, l->in->opsize), lift_const(l, release), IR_NONE);
    return true;
}

static bool lift_iret(struct lift *l)
{
    lift_helper(l, HELPER_iret, lift_const(l, l->in->opsize), lift_pc(l, l->next, 8), IR_NONE);
    return true;
}

static bool lift_int(struct lift *l)
{
    unsigned op = l->in->op;
    uint64_t vector = op == X86_INT3   ? EXC_BP
                      : op == X86_INT1 ? EXC_DB
                                       : (uint64_t)l->in->imm & 0xff;
    lift_helper(l, HELPER_int_n, lift_const(l, vector), lift_pc(l, l->next, 8),
                lift_const(l, op == X86_INT3   ? INT_3_OR_O
                              : op == X86_INT1 ? INT_1
                                               : INT_N));
    return true;
}

static bool lift_into(struct lift *l)
{
    ir_brcc(l->b, IR_CC_NO, ir_get_flags(l->b), l->next);
    lift_helper(l, HELPER_int_n, lift_const(l, EXC_OF), lift_pc(l, l->next, 8), lift_const(l, 0));
    return true;
}

static bool lift_bound(struct lift *l)
{
    unsigned size = l->in->opsize;
    enum ir_type t = lift_type(size);
    struct ir_addr m = lift_mem(l, size * 2, RT_READ);
    ir_ref low = ir_ext(l->b, IR_sext, IR_I64, t, ir_ld(l->b, t, m));
    m.disp += (int32_t)size;
    ir_ref high = ir_ext(l->b, IR_sext, IR_I64, t, ir_ld(l->b, t, m));
    lift_helper(l, HELPER_bound, ir_ext(l->b, IR_sext, IR_I64, t, lift_read(l, 0)), low, high);
    return true;
}

x86_lift_fn *const x86_lift_flow[X86_OP_COUNT] = {
    [X86_JO... X86_JG] = lift_jcc, [X86_JMP] = lift_jmp,         [X86_CALL] = lift_call,
    [X86_RET] = lift_ret,          [X86_JCXZ] = lift_jcxz,       [X86_JECXZ] = lift_jcxz,
    [X86_JRCXZ] = lift_jcxz,       [X86_LOOP] = lift_loop,       [X86_LOOPE] = lift_loop,
    [X86_LOOPNE] = lift_loop,      [X86_PUSH] = lift_push_op,    [X86_POP] = lift_pop_op,
    [X86_LEAVE] = lift_leave,      [X86_ENTER] = lift_enter,     [X86_PUSHA] = lift_pusha,
    [X86_POPA] = lift_pusha,       [X86_PUSHF] = lift_pushf,     [X86_POPF] = lift_popf,
    [X86_MOVS] = lift_string,      [X86_STOS] = lift_string,     [X86_LODS] = lift_string,
    [X86_CMPS] = lift_string,      [X86_SCAS] = lift_string,     [X86_INS] = lift_string,
    [X86_OUTS] = lift_string,      [X86_XLAT] = lift_xlat,       [X86_CALL_FAR] = lift_far,
    [X86_JMP_FAR] = lift_far,      [X86_RET_FAR] = lift_ret_far, [X86_IRET] = lift_iret,
    [X86_INT] = lift_int,          [X86_INT3] = lift_int,        [X86_INT1] = lift_int,
    [X86_INTO] = lift_into,        [X86_BOUND] = lift_bound,
};
