/*
 * Vector and FPU instructions: guest registers are the host's of the same number, so an op is the
 * guest's instruction again with its memory operand at the translated address and its integer
 * operand in a host register. In T1, and as a thunk that runs a single one for the interpreter.
 *
 * Does not do: instructions with implicit integer or memory operands, or with a vector index.
 */
#include "host/x86_64/t1.h"

#include <string.h>

#include "ir/hostvec.h"

#define NOT_DONE (HVF_VSIB | HVF_FLAGS_IN | HVF_RDI | HVF_AXDX | HVF_CX_W)
#define MAX_CHECKED 63 /* the miss stub gets the size in six bits */

static const struct hostvec_info *info_of(const struct ir_vec *v)
{
    return &hostvec_info[v->id];
}

static unsigned number(unsigned kind, unsigned n, unsigned int_reg)
{
    return kind == IR_VEC_INT ? int_reg : kind == IR_VEC_MMX || kind == IR_VEC_ST ? n & 7 : n;
}

static void encode(struct enc *e, const struct ir_vec *v, struct x_rm mem, unsigned int_reg)
{
    const struct hostvec_info *h = info_of(v);
    struct x_vec x = {.pp = h->pp,
                      .map = h->map,
                      .opcode = h->opcode,
                      .vex = v->vex,
                      .l = v->l,
                      .w = v->vex && h->w != HV_W_OPERAND ? h->w : v->w,
                      .vvvv = h->flags & HVF_VVVV ? v->vvvv : 0};
    x.reg = (uint8_t)(h->ext != HV_NO_FIELD ? h->ext : number(v->reg_kind, v->reg, int_reg));
    struct x_rm rm = x_r(h->rm != HV_NO_FIELD ? h->rm : number(v->rm_kind, v->rm, int_reg));
    x_vec_rm(e, &x, v->size ? mem : rm);
    if (h->map == 1 && h->opcode == 0x77) { /* EMMS, VZEROUPPER, VZEROALL: no ModRM byte */
        e->p--;
    }
    if (h->flags & (HVF_IMM8 | HVF_IS4)) {
        x_byte(e, v->imm8);
    }
}

static bool needs_vectors(const struct ir_vec *v)
{
    const struct hostvec_info *h = info_of(v);
    bool vec = v->vex || v->reg_kind == IR_VEC_REG || v->rm_kind == IR_VEC_REG;
    return vec || !(h->flags & (HVF_X87 | HVF_MMX)) || (h->flags & HVF_FP);
}

/* Guest vectors into host registers, unless they are there. */
void t1_make_live(struct t1 *t)
{
    struct enc *e = &t->hot;
    if (t->vec_ready) {
        return;
    }
    t1_clobber(t, true);
    x_alu_rm_i(e, X_CMP, IR_I8, x_env(offsetof(struct rt_env, fp_live)), 0);
    uint8_t *cold = x_jcc(e, IR_CC_E);
    x_patch_here(&t->cold, cold);
    x_patch(x_call(&t->cold), t->c->load_vec);
    x_patch(x_jmp(&t->cold), e->p);
    t->vec_ready = true;
}

/* Before an instruction that may fault in the host: T0 does it then. */
static void mark(struct t1 *t)
{
    const uint8_t *at = t->cold.p;
    t1_store_pc(t, &t->cold, t->pc);
    x_patch(x_jmp(&t->cold), t->c->exit[RT_EXIT_STEP]);
    mark_emit(&t->hot, at);
}

/*
 * Intel SDM Vol. 2 has #GP for a misaligned operand of the SHA instructions as of any legacy SSE
 * one; AMD processors (Zen 5) run them.
 */
static bool host_checks(const struct ir_vec *v)
{
    return info_of(v)->feature[0] != HV_FEATURE_SHA;
}

/* The same, found by the low bits of the address: those of t + u are those of t (a page's offset).
 */
static void test_alignment(struct t1 *t, unsigned temp, unsigned size)
{
    x_test_rm_i(&t->hot, IR_I8, x_r(temp), (int32_t)size - 1);
    x_patch_here(&t->cold, x_jcc(&t->hot, IR_CC_NE));
    t1_store_pc(t, &t->cold, t->pc);
    x_patch(x_jmp(&t->cold), t->c->exit[RT_EXIT_STEP]);
}

bool t1_vec_op(struct t1 *t, const struct ir_op *op)
{
    const struct ir_vec *v = &t->b->vec[op->imm];
    const struct hostvec_info *h = info_of(v);
    unsigned temps[2] = {0}, reg = X_RAX;
    struct x_rm m = x_r(0);
    if ((h->flags & NOT_DONE) || v->size > MAX_CHECKED || (v->vex && !t->c->avx)) {
        return false;
    }
    if (needs_vectors(v)) {
        t1_make_live(t);
    }
    bool tested = v->aligned && v->size && !host_checks(v);
    if ((v->size && !t1_keeps_flags(t)) || tested || (h->flags & HVF_FLAGS)) {
        t1_clobber(t, true);
    }
    if (op->c != IR_NONE) {
        uint64_t k;
        reg = t1_const(t, op->c, &k) ? t1_rm(t, op->c).reg : t1_reg(t, op->c);
    }
    if (v->size) {
        t->aligned = v->aligned;
        t->low_bits = tested;
        m = t1_address(t, op, v->size, v->store ? RT_WRITE : RT_READ, temps);
        t->aligned = t->low_bits = false;
    }
    bool out = v->result == IR_VEC_RINT;
    if (out && (h->flags & HVF_X87)) {
        t1_take(t, X_RAX);
    } else if (out) {
        reg = t1_temp(t);
    }
    if (t->fail) {
        return false;
    }
    if (tested) {
        test_alignment(t, temps[0], v->size);
    } else if (v->aligned && v->size) {
        mark(t);
    }
    encode(&t->hot, v, m, reg);
    if (v->size) {
        t1_keep(t);
    }
    if (out) {
        t1_bind(t, reg, 64);
    } else if (v->result == IR_VEC_RFLAGS) {
        t1_set_host(t, (ir_ref)t->i);
    }
    return true;
}

/* Thunk: the instruction with memory at [r11] and integer rax, flags packed if asked for, RET. */
static void thunk(struct enc *e, const struct ir_vec *v)
{
    if (info_of(v)->flags & HVF_FLAGS_IN) { /* FCMOVcc: EFLAGS image in eax; xchg al, ah; sahf */
        x_byte(e, 0x86);
        x_byte(e, 0xe0);
        x_sahf(e);
    }
    encode(e, v, x_m(X_R11, 0), X_RAX);
    if (v->result == IR_VEC_RFLAGS) {
        x_lahf(e);
        x_setcc_rm(e, IR_CC_O, x_r(X_RAX));
        x_movzx(e, IR_I16, X_RAX, x_r(X_RAX));
    }
    x_ret(e);
}

static unsigned hash(const uint8_t *p, unsigned n)
{
    uint32_t h = 2166136261u;
    for (unsigned i = 0; i < n; i++) {
        h = (h ^ p[i]) * 16777619u;
    }
    return (h ^ h >> 15) % THUNKS;
}

bool vec_run(struct rt_env *env, const struct ir_vec *v, void *mem, uint64_t in, uint64_t *result)
{
    struct ir_host_ctx *c = env->host;
    uint8_t code[THUNK_BYTES] = {0};
    struct enc e = {.p = code};
    if ((info_of(v)->flags & NOT_DONE & ~HVF_FLAGS_IN) || (v->vex && !c->avx)) {
        return false;
    }
    thunk(&e, v);
    unsigned k = hash(code, THUNK_BYTES);
    uint8_t *at = c->thunks + (size_t)k * THUNK_BYTES;
    if (memcmp(at, code, THUNK_BYTES) != 0) {
        memcpy(at, code, THUNK_BYTES);
    }
    uint64_t r = c->vec_call(env, at + c->to_rx, mem, in);
    *result = v->result == IR_VEC_RFLAGS ? rt_flags_unpack((uint16_t)r) : r;
    return true;
}
