/*
 * Stubs shared by all blocks of a context: entering and leaving generated code, TLB misses, helper
 * calls, guest vectors in and out of host registers. C runs on the C stack (env->host_sp), whatever
 * the stack pointer of generated code is.
 */
#include "host/x86_64/ctx.h"

#include <string.h>

#define ENV(field) x_env(offsetof(struct rt_env, field))

const uint8_t temp_regs[NTEMPS] = {X_R11, X_R14, X_RAX};

static const struct {
    const char *name;
    uint8_t reg;
} homes[] = {
    {"rax", X_R13}, {"rcx", X_RCX}, {"rdx", X_RDX}, {"rbx", X_RBX}, {"rsp", X_R12}, {"rbp", X_RBP},
    {"rsi", X_RSI}, {"rdi", X_RDI}, {"r8", X_R8},   {"r9", X_R9},   {"r10", X_R10},
};

void ctx_map_registers(struct ir_host_ctx *c)
{
    for (unsigned g = 0; g < c->guest->nregs; g++) {
        const char *want = c->guest->regs[g].affinity;
        c->pin[g] = X_NONE;
        for (unsigned i = 0; want && i < sizeof(homes) / sizeof(homes[0]); i++) {
            if (strcmp(want, homes[i].name) == 0) {
                c->pin[g] = homes[i].reg;
                c->pinned[c->npinned++] = (uint8_t)g;
            }
        }
    }
}

void stub_store_pins(struct ir_host_ctx *c, struct enc *e)
{
    for (unsigned i = 0; i < c->npinned; i++) {
        unsigned g = c->pinned[i];
        x_mov_rm_r(e, IR_I64, x_guest(c, g), c->pin[g]);
    }
}

void stub_load_pins(struct ir_host_ctx *c, struct enc *e)
{
    for (unsigned i = 0; i < c->npinned; i++) {
        unsigned g = c->pinned[i];
        x_mov_r_rm(e, IR_I64, c->pin[g], x_guest(c, g));
    }
}

static void vec_move(struct ir_host_ctx *c, struct enc *e, bool store)
{
    for (unsigned i = 0; i < 16; i++) {
        struct x_vec v = {
            .map = 1, .opcode = store ? 0x11 : 0x10, .vex = c->avx, .l = c->avx, .reg = (uint8_t)i};
        x_vec_rm(e, &v, x_env(c->guest->vec_off + 32 * i));
    }
}

#define MXCSR_MASKS 0x1f80
#define MXCSR_DEFAULT 0x1f80

/* Both keep every general register. Flags are lost. */
static void emit_load_vec(struct ir_host_ctx *c, struct enc *e)
{
    c->load_vec = e->p;
    x_push_r(e, X_RAX);
    vec_move(c, e, false);
    x_mov_r_rm(e, IR_I32, X_RAX, x_env(c->guest->mxcsr_off));
    x_alu_rm_i(e, X_OR, IR_I32, x_r(X_RAX), MXCSR_MASKS);
    x_mov_rm_r(e, IR_I32, ENV(host_save[3]), X_RAX);
    x_ldmxcsr(e, ENV(host_save[3]));
    x_mov_rm_i(e, IR_I8, ENV(fp_live), 1);
    x_pop_r(e, X_RAX);
    x_ret(e);
}

static void emit_save_vec(struct ir_host_ctx *c, struct enc *e)
{
    c->save_vec = e->p;
    x_push_r(e, X_RAX);
    vec_move(c, e, true);
    x_stmxcsr(e, ENV(host_save[3]));
    x_mov_r_rm(e, IR_I32, X_RAX, ENV(host_save[3]));
    x_alu_rm_i(e, X_AND, IR_I32, x_r(X_RAX), ~MXCSR_MASKS);
    x_alu_rm_i(e, X_AND, IR_I32, x_env(c->guest->mxcsr_off), MXCSR_MASKS);
    x_alu_rm_r(e, X_OR, IR_I32, x_env(c->guest->mxcsr_off), X_RAX);
    x_mov_rm_i(e, IR_I32, ENV(host_save[3]), MXCSR_DEFAULT);
    x_ldmxcsr(e, ENV(host_save[3]));
    if (c->avx) { /* vzeroupper */
        x_byte(e, 0xc5);
        x_byte(e, 0xf8);
        x_byte(e, 0x77);
    }
    x_mov_rm_i(e, IR_I8, ENV(fp_live), 0);
    x_pop_r(e, X_RAX);
    x_ret(e);
}

static void call(struct enc *e, const uint8_t *to)
{
    x_patch(x_call(e), to);
}

static void jump(struct enc *e, const uint8_t *to)
{
    x_patch(x_jmp(e), to);
}

void stub_save_vec_if_live(struct ir_host_ctx *c, struct enc *e)
{
    x_alu_rm_i(e, X_CMP, IR_I8, ENV(fp_live), 0);
    uint8_t *skip = x_jcc(e, IR_CC_E);
    call(e, c->save_vec);
    x_patch_here(e, skip);
}

static const uint8_t callee_saved[6] = {X_RBX, X_RBP, X_R12, X_R13, X_R14, X_R15};

static void prologue(struct enc *e)
{
    for (unsigned i = 0; i < 6; i++) {
        x_push_r(e, callee_saved[i]);
    }
    x_alu_rm_i(e, X_SUB, IR_I64, x_r(X_RSP), 8);
    x_lea(e, IR_I64, X_ENV, x_m(X_RDI, RT_BIAS));
}

static void epilogue(struct enc *e)
{
    x_alu_rm_i(e, X_ADD, IR_I64, x_r(X_RSP), 8);
    for (unsigned i = 6; i-- > 0;) {
        x_pop_r(e, callee_saved[i]);
    }
    x_ret(e);
}

void stub_to_c_stack(struct enc *e)
{
    x_mov_rm_r(e, IR_I64, ENV(ret_sp), X_RSP);
    x_mov_r_rm(e, IR_I64, X_RSP, ENV(host_sp));
}

/* C may have switched to another return stack, or emptied it. */
void stub_from_c_stack(struct enc *e)
{
    x_mov_r_rm(e, IR_I64, X_RSP, ENV(ret_sp));
}

static void emit_enter(struct ir_host_ctx *c, struct enc *e)
{
    uint8_t *at = e->p + c->to_rx;
    memcpy(&c->enter_code, &at, sizeof(at));
    prologue(e);
    x_mov_rm_r(e, IR_I64, ENV(host_sp), X_RSP);
    x_mov_r_rm(e, IR_I64, X_R11, x_r(X_RSI));
    stub_load_pins(c, e);
    stub_from_c_stack(e);
    x_jmp_rm(e, x_r(X_R11));
}

static void emit_exits(struct ir_host_ctx *c, struct enc *e)
{
    c->exit_pinned = e->p;
    stub_store_pins(c, e);
    c->exit_stored = e->p;
    stub_to_c_stack(e);
    stub_save_vec_if_live(c, e);
    x_mov_r_rm(e, IR_I32, X_RAX, x_r(X_R11));
    epilogue(e);
    for (unsigned i = 0; i <= RT_EXIT_LINK; i++) {
        c->exit[i] = e->p;
        x_mov_r_i64(e, X_R11, i);
        jump(e, c->exit_pinned);
    }
}

/*
 * Jump to the guest address in r11 through the jump cache; r14 and flags are lost. The rel32 of the
 * jump that is taken while the exit word is set, r11 being the address still, goes to *poll.
 */
void jump_cached(struct ir_host_ctx *c, struct enc *e, uint8_t **poll)
{
    int32_t table = (int32_t)offsetof(struct rt_env, jump) - RT_BIAS;
    x_alu_rm_i(e, X_CMP, IR_I32, ENV(exit), 0);
    *poll = x_jcc(e, IR_CC_NE);
    x_mov_r_rm(e, IR_I64, X_R14, x_r(X_R11));
    x_shift_rm_i(e, X_SHR, IR_I64, x_r(X_R14), RT_JUMP_BITS);
    x_alu_r_rm(e, X_XOR, IR_I32, X_R14, x_r(X_R11));
    x_shift_rm_i(e, X_SHL, IR_I32, x_r(X_R14), 4);
    x_alu_rm_i(e, X_AND, IR_I32, x_r(X_R14), ((1 << RT_JUMP_BITS) - 1) << 4);
    x_alu_r_rm(e, X_XOR, IR_I64, X_R11, ENV(jump_salt));
    x_alu_r_rm(e, X_CMP, IR_I64, X_R11, x_mx(X_ENV, X_R14, 0, table));
    x_patch(x_jcc(e, IR_CC_NE), c->jump_empty);
    x_jmp_rm(e, x_mx(X_ENV, X_R14, 0, table + (int32_t)offsetof(struct rt_jump_entry, code)));
}

/* Goes on at env->pc, by the jump cache if the exit word is clear and the block is there. */
static void emit_go_pc(struct ir_host_ctx *c, struct enc *e)
{
    uint8_t *poll;
    c->go_pc = e->p;
    stub_load_pins(c, e);
    x_mov_r_rm(e, IR_I64, X_R11, ENV(pc));
    jump_cached(c, e, &poll);
    x_patch(poll, c->exit[RT_EXIT_POLL]);
}

static void emit_returns(struct ir_host_ctx *c, struct enc *e)
{
    uint8_t *poll;
    c->ret_empty = e->p;
    x_alu_rm_i(e, X_SUB, IR_I64, x_r(X_RSP), 8); /* stays empty */
    c->ret_miss = e->p;
    jump_cached(c, e, &poll);
    x_patch_here(e, poll);
    c->exit_poll = e->p;
    x_mov_rm_r(e, IR_I64, ENV(pc), X_R11);
    jump(e, c->exit[RT_EXIT_POLL]);
}

static void emit_exit_link(struct ir_host_ctx *c, struct enc *e)
{
    c->exit_link = e->p;
    x_pop_r(e, X_R11);
    x_mov_r_rm(e, IR_I32, X_R11, x_m(X_R11, 0));
    x_mov_rm_r(e, IR_I64, ENV(link_site), X_R11);
    jump(e, c->exit[RT_EXIT_LINK]);
    c->exit_at = e->p;
    x_pop_r(e, X_R11);
    x_mov_r_rm(e, IR_I64, X_R11, x_m(X_R11, 0));
    x_mov_rm_r(e, IR_I64, ENV(pc), X_R11);
    jump(e, c->exit[RT_EXIT_JUMP]);
}

static void emit_jump_empty(struct ir_host_ctx *c, struct enc *e)
{
    c->jump_empty = e->p;
    x_alu_r_rm(e, X_XOR, IR_I64, X_R11, ENV(jump_salt));
    x_mov_rm_r(e, IR_I64, ENV(pc), X_R11);
    jump(e, c->exit[RT_EXIT_JUMP]);
}

static void emit_helper(struct ir_host_ctx *c, struct enc *e)
{
    c->helper = e->p;
    stub_store_pins(c, e);
    stub_save_vec_if_live(c, e);
    x_lea(e, IR_I64, X_RDI, x_m(X_ENV, -RT_BIAS));
    x_mov_r_rm(e, IR_I64, X_RSI, ENV(scratch[0]));
    x_mov_r_rm(e, IR_I64, X_RDX, ENV(scratch[1]));
    x_mov_r_rm(e, IR_I64, X_RCX, ENV(scratch[2]));
    x_mov_r_rm(e, IR_I64, X_RBP, ENV(scratch[3]));
    stub_to_c_stack(e);
    x_call_rm(e, x_r(X_R11));
    stub_from_c_stack(e);
    x_alu_rm_i(e, X_CMP, IR_I32, x_r(X_RAX), IR_HELPER_FAULT);
    uint8_t *fault = x_jcc(e, IR_CC_E);
    x_alu_rm_i(e, X_CMP, IR_I32, x_r(X_RAX), IR_HELPER_EXIT);
    uint8_t *stop = x_jcc(e, IR_CC_E);
    x_alu_rm_i(e, X_CMP, IR_I32, x_r(X_RAX), IR_HELPER_NEXT);
    x_patch(x_jcc(e, IR_CC_NE), c->go_pc);
    x_mov_rm_r(e, IR_I64, ENV(pc), X_RBP);
    jump(e, c->go_pc);
    x_patch_here(e, fault);
    x_mov_r_i64(e, X_R11, RT_EXIT_FAULT);
    jump(e, c->exit_stored);
    x_patch_here(e, stop);
    x_mov_rm_r(e, IR_I64, ENV(pc), X_RBP);
    x_mov_r_i64(e, X_R11, RT_EXIT_STOP);
    jump(e, c->exit_stored);
}

/*
 * vec_call(env, thunk, mem, in): guest vectors in, the thunk's one instruction (memory operand at
 * [r11], integer in and out in rax), guest vectors out. Returns rax; flags packed in r14w -> dx.
 */
static void emit_vec_call(struct ir_host_ctx *c, struct enc *e)
{
    uint8_t *at = e->p + c->to_rx;
    memcpy(&c->vec_call, &at, sizeof(at));
    prologue(e);
    x_mov_r_rm(e, IR_I64, X_RBX, x_r(X_RSI));
    x_mov_r_rm(e, IR_I64, X_R14, x_r(X_RCX));
    x_mov_r_rm(e, IR_I64, X_R11, x_r(X_RDX));
    call(e, c->load_vec);
    x_mov_r_rm(e, IR_I64, X_RAX, x_r(X_R14));
    x_call_rm(e, x_r(X_RBX));
    call(e, c->save_vec);
    epilogue(e);
}

void stubs_emit(struct ir_host_ctx *c, struct enc *e)
{
    emit_load_vec(c, e);
    emit_save_vec(c, e);
    emit_enter(c, e);
    emit_exits(c, e);
    stubs_emit_memory(c, e);
    emit_jump_empty(c, e);
    emit_go_pc(c, e);
    emit_returns(c, e);
    emit_exit_link(c, e);
    emit_helper(c, e);
    emit_vec_call(c, e);
}
