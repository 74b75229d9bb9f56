/*
 * x87 instructions that are more than one hostvec op (Intel SDM Vol. 1 5.2, 8.1): those that see
 * the control word, which is the guest's own while the host's has all exceptions masked. All
 * others: lift_vec.c.
 */
#include "isa/x86/lift_vec.h"

static bool lift_env(struct lift *l, enum x86_fpu_env what, unsigned size, unsigned access)
{
    bool result;
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    if (what == FPU_LDCW || what == FPU_LDENV || what == FPU_RSTOR) {
        lift_x87_waits(l);
    }
    ir_ref va = size ? ir_lea(l->b, IR_I64, lift_mem(l, size, access)) : IR_NONE;
    lift_helper(l, HELPER_fpu_env, va, lift_const(l, what),
                lift_const(l, l->in->opsize == 2 ? 2 : 4));
    return true;
}

static unsigned env_bytes(const struct lift *l)
{
    return l->in->opsize == 2 ? 14 : 28;
}

static bool lift_fldcw(struct lift *l)
{
    return lift_env(l, FPU_LDCW, 2, RT_READ);
}

static bool lift_fnstcw(struct lift *l)
{
    return lift_env(l, FPU_STCW, 2, RT_WRITE);
}

static bool lift_fldenv(struct lift *l)
{
    return lift_env(l, FPU_LDENV, env_bytes(l), RT_READ);
}

static bool lift_fnstenv(struct lift *l)
{
    return lift_env(l, FPU_STENV, env_bytes(l), RT_WRITE);
}

static bool lift_frstor(struct lift *l)
{
    return lift_env(l, FPU_RSTOR, env_bytes(l) + 80, RT_READ);
}

static bool lift_fnsave(struct lift *l)
{
    return lift_env(l, FPU_SAVE, env_bytes(l) + 80, RT_WRITE);
}

static bool lift_fninit(struct lift *l)
{
    return lift_env(l, FPU_INIT, 0, 0);
}

/* Its summary bits are not the host's where exceptions are unmasked. */
static bool lift_fnstsw(struct lift *l)
{
    if (!(l->mode & MODE_MF)) {
        return lift_vec(l);
    }
    return l->in->op == X86_FNSTSW_M16 ? lift_env(l, FPU_STSW, 2, RT_WRITE)
                                       : lift_env(l, FPU_STSW_AX, 0, 0);
}

static bool lift_fnop(struct lift *l)
{
    bool result;
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    lift_x87_waits(l);
    return true;
}

/* What the 8087 and 80287 knew. */
static bool lift_old_nop(struct lift *l)
{
    bool result;
    return lift_vec_shut(l, &result) ? result : true;
}

/* #NM when both MP and TS are set (Vol. 3A 2.5); MP is not in the mode word. */
static bool lift_fwait(struct lift *l)
{
    if (l->mode & MODE_MF) {
        ir_check(l->b, CHECK_X87, lift_const(l, 1), lift_const(l, 0), 0);
        return true;
    }
    if (!(l->mode & MODE_TS)) {
        return true;
    }
    ir_ref cr0 = ir_getreg(l->b, IR_I64, XREG_CR0);
    ir_brz(l->b, IR_I64, ir_bin(l->b, IR_and, IR_I64, cr0, lift_const(l, CR0_MP)), l->next);
    return lift_raise(l, EXC_NM);
}

x86_lift_fn *const x86_lift_x87[X86_OP_COUNT] = {
    [X86_FLDCW] = lift_fldcw,      [X86_FNSTCW] = lift_fnstcw,   [X86_FLDENV] = lift_fldenv,
    [X86_FNSTENV] = lift_fnstenv,  [X86_FRSTOR] = lift_frstor,   [X86_FNSAVE] = lift_fnsave,
    [X86_FNINIT] = lift_fninit,    [X86_FNOP] = lift_fnop,       [X86_FNENI] = lift_old_nop,
    [X86_FNDISI] = lift_old_nop,   [X86_FNSETPM] = lift_old_nop, [X86_FNSTSW_M16] = lift_fnstsw,
    [X86_FNSTSW_AX] = lift_fnstsw, [X86_FWAIT] = lift_fwait,
};
