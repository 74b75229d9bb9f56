/* T1: ways out of a block. */
#include "host/x86_64/t1.h"

#include <string.h>

#define MAX_INSN 15 /* bytes of a guest instruction */
#define ENV(field) x_env(offsetof(struct rt_env, field))

void t1_store_pc(struct t1 *t, struct enc *e, uint64_t pc)
{
    if (pc == (uint64_t)(int32_t)pc) {
        t->stays = true;
        x_mov_rm_i(e, IR_I64, ENV(pc), (int32_t)pc);
    } else {
        t1_mov_pc(t, e, X_RAX, pc);
        x_mov_rm_r(e, IR_I64, ENV(pc), X_RAX);
    }
}

/* RT_EXIT_STEP at the current instruction, inline; what flags it may see are stored. */
void t1_step_exit(struct t1 *t)
{
    ir_ref f = t->fl.host;
    if (t->fl.arch == IR_NONE) {
        t->flags_seen = true;
    }
    if (f != IR_NONE && f != t->fl.env && f < t->insn && t->last[f] >= t->insn) {
        t1_store_flags(&t->hot, t->fl.cf_in_env);
    }
    t1_store_pc(t, &t->hot, t->pc);
    x_patch(x_jmp(&t->hot), t->c->exit[RT_EXIT_STEP]);
}

void t1_site(struct t1 *t, bool cold)
{
    const struct enc *e = cold ? &t->cold : &t->hot;
    ptrdiff_t at = e->p - t->base[cold];
    if (t->nsites == MAX_SITES || at > UINT16_MAX) {
        t->fail = true;
        return;
    }
    t->site[t->nsites++] = (struct t1_site){
        .at = (uint16_t)at,
        .pc =
            (uint16_t)((t->pc - t->b->pc) | (cold ? SITE_COLD : 0) | (t->aligned ? SITE_STEP : 0)),
    };
}

static uint8_t *code_base(const struct ir_host_ctx *c)
{
    return (uint8_t *)(uintptr_t)c->code_lo - c->to_rx;
}

static struct ir_link *new_link(struct t1 *t)
{
    if (t->nlinks == MAX_LINKS) {
        t->fail = true;
        return NULL;
    }
    struct ir_link *l = &t->links[t->nlinks++];
    memset(l, 0, sizeof(*l));
    return l;
}

/* Leaves with RT_EXIT_LINK: the stub finds the link by its number. The call's rel32. */
static uint8_t *leave_by_link(struct t1 *t, const struct ir_link *l)
{
    uint8_t *slot = x_call(&t->cold);
    x_patch(slot, t->c->exit_link);
    x_imm32(&t->cold, (int32_t)(((const uint8_t *)l - t->c->data) / 8));
    return slot;
}

/*
 * The guards of a link that has some: the exit word, the mapping. Returns the rel32 of the jump
 * that is taken when they are passed.
 *
 *     cmp exit, 0;                         je target
 *     cmp epoch, E;                        je target
 *     cmp exit, 0; jne +; cmp epoch, E;    je target; +:
 */
static uint8_t *guards(struct t1 *t, struct ir_link *l, const uint8_t *stub)
{
    struct enc *e = &t->cold;
    uint8_t *over = NULL;
    if (l->poll) {
        x_alu_rm_i(e, X_CMP, IR_I32, ENV(exit), 0);
    }
    if (l->poll && l->cross_page) {
        x_byte(e, 0x75);
        over = e->p;
        x_byte(e, 0);
    }
    if (l->cross_page) {
        x_alu_rm_i(e, X_CMP, IR_I32, ENV(epoch), 0x7fffffff);
        l->epoch = (uint8_t)(e->p - 4 - stub);
    }
    uint8_t *slot = x_jcc(e, IR_CC_E);
    x_patch_here(e, slot);
    if (over) {
        *over = (uint8_t)(e->p - over - 1);
    }
    return slot;
}

/* Makes the direct exit whose jump in hot code has its rel32 at `branch`. */
bool t1_goto(struct t1 *t, uint8_t *branch, uint64_t pc, bool store_flags)
{
    struct enc *e = &t->cold;
    const uint8_t *stub = e->p, *base = code_base(t->c);
    struct ir_link *l = new_link(t);
    if (!l) {
        return false;
    }
    l->pc = pc;
    l->branch = (uint32_t)(branch - base);
    l->stub = (uint32_t)(stub - base);
    l->has_flags = store_flags;
    l->poll = pc <= t->pc;
    /* At the page's end the target may be an instruction that crosses. */
    l->cross_page =
        (pc ^ t->b->pc) >> RT_PAGE_BITS != 0 || (pc & (RT_PAGE_SIZE - 1)) > RT_PAGE_SIZE - MAX_INSN;
    x_patch(branch, stub);
    if (store_flags) {
        t1_store_flags(e, t->fl.cf_in_env);
    }
    l->bare = (uint8_t)(e->p - stub);
    uint8_t *slot = l->poll || l->cross_page ? guards(t, l, stub) : NULL;
    uint8_t *call = leave_by_link(t, l);
    l->slot = (uint8_t)((slot ? slot : call) - stub);
    return true;
}

/* The way back inside the strip of a loop: no poll, no flags stored (t1_loop.c). */
static bool to_strip(const struct t1 *t, uint64_t pc, uint8_t *branch)
{
    if (!t->strip_top || pc != t->b->pc) {
        return false;
    }
    x_patch(branch, t->strip_top);
    return true;
}

static bool branch_cc(struct t1 *t, const struct ir_op *op)
{
    bool store;
    enum ir_cc cc = op->aux;
    if (!t1_cc(t, op->a, &cc) || !t1_at_exit(t, &store)) {
        return false;
    }
    uint8_t *branch = x_jcc(&t->hot, cc);
    uint64_t pc = t->b->target[op->imm];
    return to_strip(t, pc, branch) || t1_goto(t, branch, pc, store);
}

static bool branch_zero(struct t1 *t, const struct ir_op *op)
{
    bool store;
    uint64_t k;
    t1_clobber(t, true);
    if (t1_const(t, op->a, &k) || !t1_at_exit(t, &store)) {
        return false;
    }
    struct x_rm a = t1_rm(t, op->a);
    if (a.mem) {
        x_alu_rm_i(&t->hot, X_CMP, op->type, a, 0);
    } else {
        x_test_rm_r(&t->hot, op->type, a, a.reg);
    }
    enum ir_cc cc = op->op == IR_brz ? IR_CC_E : IR_CC_NE;
    uint8_t *branch = x_jcc(&t->hot, cc);
    uint64_t pc = t->b->target[op->imm];
    return to_strip(t, pc, branch) || t1_goto(t, branch, pc, store);
}

/* Behind a host call: r11 is where the guest returns to, flags are stored. */
static bool return_site(struct t1 *t, uint64_t pc)
{
    struct enc *e = &t->hot;
    if (pc == (uint64_t)(int32_t)pc) {
        t->stays = true;
        x_alu_rm_i(e, X_CMP, IR_I64, x_r(X_R11), (int32_t)pc);
    } else {
        t1_mov_pc(t, e, X_RAX, pc);
        x_alu_r_rm(e, X_CMP, IR_I64, X_R11, x_r(X_RAX));
    }
    x_patch(x_jcc(e, IR_CC_NE), t->c->ret_miss);
    return t1_goto(t, x_jmp(e), pc, false);
}

static bool jump_direct(struct t1 *t, const struct ir_op *op)
{
    bool store;
    uint64_t pc = t->b->target[op->imm];
    if (!t1_at_exit(t, &store)) {
        return false;
    }
    if (op->aux != IR_HINT_CALL) {
        uint8_t *branch = x_jmp(&t->hot);
        return to_strip(t, pc, branch) || t1_goto(t, branch, pc, store);
    }
    return t1_goto(t, x_call(&t->hot), pc, store) && return_site(t, t->b->target[op->d]);
}

/* The way to the guest address in r11, in `e`. */
static void jump_r11(struct t1 *t, struct enc *e)
{
    uint8_t *poll;
    jump_cached(t->c, e, &poll);
    x_patch(poll, t->c->exit_poll);
}

static bool jump_indirect(struct t1 *t, const struct ir_op *op)
{
    const struct val *x = &t->v[op->a];
    t1_flags_env(t);
    bool there = x->loc == L_TEMP && x->reg == X_R11;
    if (t->fail || (!there && !t1_take(t, X_R11))) {
        return false;
    }
    t1_copy_to(t, IR_I64, X_R11, op->a);
    switch (op->aux) {
    case IR_HINT_RET: x_ret(&t->hot); return true;
    case IR_HINT_CALL:
        x_patch(x_call(&t->hot), t->cold.p);
        jump_r11(t, &t->cold);
        return return_site(t, t->b->target[op->d]);
    default: jump_r11(t, &t->hot); return true;
    }
}

/* Arguments go through scratch slots, where other values may still be: all are read first. */
static bool call_helper(struct t1 *t, const struct ir_op *op)
{
    const ir_ref arg[3] = {op->a, op->b, op->c};
    unsigned reg[3];
    struct enc *e = &t->hot;
    t1_flags_env(t);
    for (unsigned k = 0; k < 3; k++) {
        reg[k] = t1_temp(t);
    }
    for (unsigned k = 0; k < 3; k++) {
        if (arg[k] != IR_NONE) {
            t1_copy_to(t, IR_I64, reg[k], arg[k]);
        }
    }
    for (unsigned k = 0; k < 3; k++) {
        if (arg[k] != IR_NONE) {
            x_mov_rm_r(e, IR_I64, x_env(offsetof(struct rt_env, scratch) + 8 * k), reg[k]);
        }
    }
    t1_mov_pc(t, e, X_RAX, t->b->target[op->imm]);
    x_mov_rm_r(e, IR_I64, x_env(offsetof(struct rt_env, scratch) + 8 * 3), X_RAX);
    t1_store_pc(t, e, t->pc);
    uint64_t fn = 0;
    memcpy(&fn, &t->c->guest->helpers[op->aux].fn, sizeof(void *));
    x_mov_r_i64(e, X_R11, fn);
    x_patch(x_jmp(e), t->c->helper);
    return !t->fail;
}

bool t1_ctl_op(struct t1 *t, const struct ir_op *op)
{
    switch (op->op) {
    case IR_brcc: return branch_cc(t, op);
    case IR_brnz:
    case IR_brz: return branch_zero(t, op);
    case IR_jump: return jump_direct(t, op);
    case IR_jumpi: return jump_indirect(t, op);
    case IR_helper: return call_helper(t, op);
    default: return false;
    }
}

static uint8_t *entry_of(const struct ir_host_ctx *c, const struct ir_code *code)
{
    return (uint8_t *)(uintptr_t)code->entry - c->to_rx;
}

#define OP_CALL 0xe8
#define OP_JMP 0xe9

/* A link without guards ends in the call that leaves, which becomes a jump when linked. */
void link_make(struct ir_host_ctx *c, struct ir_link *l, const struct ir_code *to, uint32_t epoch)
{
    uint8_t *entry = entry_of(c, to), *base = code_base(c), *stub = base + l->stub;
    uint8_t *slot = stub + l->slot;
    /* Behind a guard that fails another block may come, which wants the flags. */
    bool bare = !l->has_flags || (to->flags_dead && !l->cross_page);
    if (l->epoch) {
        memcpy(stub + l->epoch, &epoch, 4);
    }
    if (!l->poll && !l->cross_page) {
        slot[-1] = OP_JMP;
    }
    x_patch(slot, entry);
    if (bare && !l->poll && !l->cross_page) {
        x_patch(base + l->branch, entry);
    } else {
        x_patch(base + l->branch, bare ? stub + l->bare : stub);
    }
}

void link_break(struct ir_host_ctx *c, struct ir_link *l)
{
    uint8_t *base = code_base(c), *stub = base + l->stub, *slot = stub + l->slot;
    if (l->poll || l->cross_page) {
        x_patch(slot, slot + 4);
    } else {
        slot[-1] = OP_CALL;
        x_patch(slot, c->exit_link);
    }
    x_patch(base + l->branch, stub);
}

/* The cold code of a block begins with its way out for when it is dead. */
void block_kill(struct ir_host_ctx *c, const struct ir_code *code)
{
    struct enc e = {.p = entry_of(c, code)};
    x_patch(x_jmp(&e), code->cold);
}
