/*
 * Vector and x87 instructions in general: one hostvec op, made from the decoded operands (Intel
 * SDM Vol. 1 chapters 8 to 14). What does not fit that shape is in lift_sse.c and lift_x87.c.
 *
 * Where an exception is unmasked in MXCSR or the x87 control word (MODE_XM, MODE_MF) those that may
 * raise one are done by a helper, one at a time (help_unmasked.c).
 */
#include "isa/x86/lift_vec.h"

#include <string.h>

#include "ir/hostvec.h"
#include "isa/x86/table.h"
#include "isa/x86/vec_args.h"

/* Intel SDM Vol. 3A 2.5 (CR0.EM, TS), 13.1; Vol. 2A 2.4 for VEX. */
enum lift_gate lift_vec_gate(const struct lift *l)
{
    unsigned flags = x86_form_flags(l->in->form);
    if (flags & X86_FORM_X87) {
        return l->mode & MODE_NM_FPU ? LIFT_GATE_NM : LIFT_GATE_OPEN;
    }
    if (l->in->vex) {
        bool protected = (l->mode & MODE_PE) && !(l->mode & MODE_VM);
        if (!protected || !(l->mode & MODE_AVX)) {
            return LIFT_GATE_UD;
        }
    } else if (flags & X86_FORM_VEC) {
        if (!(l->mode & MODE_SSE)) {
            return LIFT_GATE_UD;
        }
    } else if ((l->mode & MODE_NM_FPU) && !(l->mode & MODE_TS)) {
        return LIFT_GATE_UD; /* MMX under CR0.EM */
    }
    return l->mode & MODE_TS ? LIFT_GATE_NM : LIFT_GATE_OPEN;
}

bool lift_vec_shut(struct lift *l, bool *result)
{
    enum lift_gate gate = lift_vec_gate(l);
    *result = gate == LIFT_GATE_NM && lift_raise(l, EXC_NM);
    return gate != LIFT_GATE_OPEN;
}

static uint8_t record_kind(const struct x86_opnd *o)
{
    switch (o->kind) {
    case X86_OPND_VEC: return IR_VEC_REG;
    case X86_OPND_MMX: return IR_VEC_MMX;
    case X86_OPND_ST: return IR_VEC_ST;
    case X86_OPND_MEM: return IR_VEC_MEM;
    case X86_OPND_GPR: return IR_VEC_INT;
    default: return IR_VEC_NO;
    }
}

/* Puts operand n into the field of the instruction it stands in. */
static void record_operand(const struct lift *l, struct ir_vec *v, unsigned n)
{
    const struct x86_opnd *o = &l->in->opnd[n];
    switch (x86_codes[x86_forms[l->in->form].opnd[n]].how) {
    case X86_HOW_V:
    case X86_HOW_P:
    case X86_HOW_G:
        v->reg = o->reg;
        v->reg_kind = record_kind(o);
        break;
    case X86_HOW_H:
    case X86_HOW_B: v->vvvv = o->reg; break;
    case X86_HOW_W:
    case X86_HOW_U:
    case X86_HOW_Q:
    case X86_HOW_N:
    case X86_HOW_E:
    case X86_HOW_R:
    case X86_HOW_M:
    case X86_HOW_STI:
        v->rm = o->reg;
        v->rm_kind = record_kind(o);
        break;
    default: break;
    }
}

/* The general register operand, or the memory operand in its place. */
static const struct x86_opnd *int_operand(const struct lift *l)
{
    for (unsigned i = 0; i < l->in->nopnd; i++) {
        unsigned how = x86_codes[x86_forms[l->in->form].opnd[i]].how;
        if (how == X86_HOW_G || how == X86_HOW_E || how == X86_HOW_R) {
            return &l->in->opnd[i];
        }
    }
    return NULL;
}

static const struct x86_opnd *mem_operand(const struct lift *l)
{
    for (unsigned i = 0; i < l->in->nopnd; i++) {
        if (l->in->opnd[i].kind == X86_OPND_MEM) {
            return &l->in->opnd[i];
        }
    }
    return NULL;
}

struct ir_vec lift_vec_record(const struct lift *l)
{
    const struct x86_insn *in = l->in;
    struct ir_vec v = {.id = (uint16_t)x86_form_hostvec(in->form), .vex = in->vex, .l = in->vex_l};
    const struct hostvec_info *info = &hostvec_info[v.id];
    const struct x86_opnd *integer = int_operand(l), *mem = mem_operand(l);
    for (unsigned i = 0; i < in->nopnd; i++) {
        record_operand(l, &v, i);
    }
    v.w = info->w == HV_W_OPERAND ? integer && integer->size == 8 : info->w;
    v.has_imm = info->flags & (HVF_IMM8 | HVF_IS4);
    v.imm8 = v.has_imm ? (uint8_t)in->imm : 0;
    if (in->mode != 8 && (info->flags & HVF_IS4)) {
        v.imm8 &= 0x7f; /* there are eight registers */
    }
    if (mem) {
        v.size = mem->size;
        v.store = info->flags & HVF_STORE;
        v.load = info->flags & HVF_LOAD;
        v.aligned = x86_form_flags(in->form) & X86_FORM_ALIGN;
    }
    bool out = (info->flags & HVF_INT_OUT) && !v.store;
    v.result = out ? IR_VEC_RINT : info->flags & HVF_FLAGS ? IR_VEC_RFLAGS : IR_VEC_RNONE;
    return v;
}

/* Integer input: a general register, or the flags for FCMOVcc. */
static ir_ref vec_input(struct lift *l, const struct hostvec_info *info)
{
    const struct x86_opnd *integer = int_operand(l);
    if (info->flags & HVF_FLAGS_IN) {
        return ir_un(l->b, IR_flagbits, IR_I64, ir_get_flags(l->b));
    }
    if ((info->flags & HVF_INT_IN) && integer && integer->kind == X86_OPND_GPR) {
        return lift_gpr(l, integer->reg, integer->size);
    }
    return IR_NONE;
}

void lift_x87_waits(struct lift *l)
{
    if (l->mode & MODE_MF) {
        ir_check(l->b, CHECK_X87, lift_const(l, 0), lift_const(l, 0), 0);
    }
}

/* Must a pending exception be looked for? Instructions of the x87 that wait are done by the helper,
 * which does; before it, if checks of the memory operand would come first. */
static bool waits(const struct lift *l)
{
    unsigned flags = x86_form_flags(l->in->form);
    bool converts = (l->in->op == X86_CVTPI2PS || l->in->op == X86_CVTPI2PD) && mem_operand(l);
    if (flags & X86_FORM_X87) {
        bool checks = (l->mode & MODE_AC) || !(l->mode & (MODE_CS64 | MODE_FLAT));
        return checks && l->in->op != X86_FNCLEX;
    }
    return (flags & X86_FORM_MMX) && !converts;
}

/* May it raise something that is unmasked? */
static bool unmasked(const struct lift *l, const struct hostvec_info *info)
{
    return ((l->mode & MODE_XM) && (info->flags & HVF_FP)) ||
           ((l->mode & MODE_MF) && (info->flags & HVF_X87));
}

static void lift_unmasked(struct lift *l, const struct ir_vec *v, struct ir_addr m)
{
    const struct x86_opnd *o = int_operand(l);
    struct x86_unmasked u = {.id = v->id,
                             .reg = v->reg,
                             .vvvv = v->vvvv,
                             .rm = v->rm,
                             .imm8 = v->imm8,
                             .reg_kind = v->reg_kind,
                             .rm_kind = v->rm_kind,
                             .size = v->size,
                             .result = v->result,
                             .vex = v->vex,
                             .l = v->l,
                             .w = v->w,
                             .has_imm = v->has_imm,
                             .store = v->store,
                             .load = v->load,
                             .aligned = v->aligned};
    if (v->result == IR_VEC_RINT) {
        u.out = o->reg;
        u.out_size = o->size;
    }
    uint64_t args;
    memcpy(&args, &u, sizeof(args));
    ir_ref va = v->size ? ir_lea(l->b, IR_I64, m) : IR_NONE;
    lift_helper(l, HELPER_unmasked, va, lift_const(l, args), vec_input(l, &hostvec_info[v->id]));
}

bool lift_vec(struct lift *l)
{
    bool result;
    if (lift_vec_shut(l, &result)) {
        return result;
    }
    if (waits(l)) {
        lift_x87_waits(l);
    }
    struct ir_vec v = lift_vec_record(l);
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    if (v.size) {
        m = lift_mem(l, v.size, (v.store ? RT_WRITE : 0u) | (v.load ? RT_READ : 0u));
    }
    if (unmasked(l, &hostvec_info[v.id]) && l->in->op != X86_FNCLEX) {
        lift_unmasked(l, &v, m);
        return true;
    }
    ir_ref r = ir_vec_op(l->b, &v, m, vec_input(l, &hostvec_info[v.id]));
    if (v.result == IR_VEC_RFLAGS) {
        ir_set_flags(l->b, r);
    } else if (v.result == IR_VEC_RINT) {
        const struct x86_opnd *o = int_operand(l);
        lift_set_gpr(l, o ? o->reg : RAX, o ? o->size : 2, r); /* without: FNSTSW AX */
    }
    return true;
}
