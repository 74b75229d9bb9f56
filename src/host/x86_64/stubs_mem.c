/*
 * Stubs for memory accesses: what the inline check of the soft TLB does not find, and the whole
 * check out of line for compact code.
 *
 * They are called, so the return address tells the access. One that fails leaves generated code
 * with it in env->site; the site's guest instruction stands in a table of its block.
 */
#include "host/x86_64/t1.h"

#include <assert.h>
#include <string.h>

#define ENV(field) x_env(offsetof(struct rt_env, field))

static void jump(struct enc *e, const uint8_t *to)
{
    x_patch(x_jmp(e), to);
}

/* Jumps to where C's answer is no: the guest faults; there is no host address. */
struct failed {
    uint8_t *fault, *step;
};

/*
 * Calls resolve() for the address in rsi, size in edx, access in ecx, made at the return address in
 * rax; guest registers and vectors are in env, whether the latter were live is in ebp. The host
 * address goes to host_save[1], guest registers and vectors are where they were.
 */
static struct failed ask_c(struct ir_host_ctx *c, struct enc *e, unsigned t, unsigned u)
{
    struct failed f;
    x_mov_rm_r(e, IR_I64, ENV(asked), X_RAX);
    x_mov_rm_i(e, IR_I32, ENV(asked_regs), (int32_t)(t | u << 8));
    x_lea(e, IR_I64, X_RDI, x_m(X_ENV, -RT_BIAS));
    x_lea(e, IR_I64, X_R8, ENV(host_save[1]));
    stub_to_c_stack(e);
    x_mov_r_rm(e, IR_I64, X_RAX, ENV(mem));
    x_call_rm(e, x_m(X_RAX, offsetof(struct rt_mem_ops, resolve)));
    stub_from_c_stack(e);
    x_test_rm_r(e, IR_I8, x_r(X_RAX), X_RAX);
    f.fault = x_jcc(e, IR_CC_E);
    x_alu_rm_i(e, X_CMP, IR_I64, ENV(host_save[1]), 0);
    f.step = x_jcc(e, IR_CC_E);
    x_test_rm_r(e, IR_I32, x_r(X_RBP), X_RBP);
    uint8_t *dead = x_jcc(e, IR_CC_E);
    x_patch(x_call(e), c->load_vec);
    x_patch_here(e, dead);
    stub_load_pins(c, e);
    return f;
}

/* The reason in r11d. */
static void failed_here(struct enc *e, const struct failed *f)
{
    x_patch_here(e, f->step);
    x_mov_r_i64(e, X_R11, RT_EXIT_STEP);
    uint8_t *out = x_jmp(e);
    x_patch_here(e, f->fault);
    x_mov_r_i64(e, X_R11, RT_EXIT_FAULT);
    x_patch_here(e, out);
}

/* Operand: the tag of the TLB entry at offset u, or with `host` its host address. */
static struct x_rm entry(unsigned idx, bool write, bool host, unsigned u)
{
    size_t field = host    ? offsetof(struct rt_tlb_entry, host)
                   : write ? offsetof(struct rt_tlb_entry, tag_w)
                           : offsetof(struct rt_tlb_entry, tag_r);
    size_t off = offsetof(struct rt_env, tlb) + idx * sizeof(((struct rt_env *)0)->tlb[0]) + field;
    return x_mx(X_ENV, u, 0, (int32_t)off - RT_BIAS);
}

/* Out with the reason in r11d; on the stack: return address, parameter. */
static void leave_site(struct enc *e, const uint8_t *exit)
{
    x_pop_r(e, X_RAX);
    x_mov_rm_r(e, IR_I64, ENV(site), X_RAX);
    x_alu_rm_i(e, X_ADD, IR_I64, x_r(X_RSP), 8);
    jump(e, exit);
}

/* A vector to env->bounce, for C. */
static void emit_spills(struct ir_host_ctx *c, struct enc *e)
{
    for (unsigned i = 0; i < 16; i++) {
        uint8_t *at = e->p + c->to_rx;
        struct x_vec v = {.map = 1, .opcode = 0x11, .vex = c->avx, .l = c->avx, .reg = (uint8_t)i};
        memcpy(&c->spill[i], &at, sizeof(at));
        x_vec_rm(e, &v, x_m(X_RDI, offsetof(struct rt_env, bounce)));
        x_ret(e);
    }
}

/* Where C finds a host register: ask_c() and emit_cross() keep them there. */
static void set_kept(struct ir_host_ctx *c)
{
    for (unsigned i = 0; i < NTEMPS; i++) {
        c->kept_at[temp_regs[i]] = offsetof(struct rt_env, host_save[0]);
    }
    for (unsigned i = 0; i < c->npinned; i++) {
        c->kept_at[c->pin[c->pinned[i]]] = c->guest->regs[c->pinned[i]].off;
    }
}

/*
 * An access at the address in t over two pages, size << 2 | access in u. Returns with the host
 * address being t + u, t being as it was if `delta`, else u zero; or goes on with t as it was. On
 * the stack: return address, parameter.
 */
static void emit_cross(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui, bool delta)
{
    unsigned t = temp_regs[ti], u = temp_regs[ui], other = temp_regs[3 - ti - ui];
    bool (*fn)(struct rt_env *, uint64_t, unsigned, const uint8_t *, unsigned) = cross_access;
    uint64_t to;
    memcpy(&to, &fn, sizeof(to));
    stub_store_pins(c, e);
    x_mov_rm_r(e, IR_I64, ENV(host_save[0]), other);
    x_mov_rm_r(e, IR_I64, ENV(host_save[2]), t);
    x_mov_r_rm(e, IR_I64, X_RSI, x_r(t));
    x_mov_r_rm(e, IR_I32, X_RDX, x_r(u));
    x_mov_r_rm(e, IR_I64, X_RCX, x_m(X_RSP, 0));
    x_mov_r_i64(e, X_R8, t | u << 8);
    x_lea(e, IR_I64, X_RDI, x_m(X_ENV, -RT_BIAS));
    stub_to_c_stack(e);
    x_mov_r_i64(e, X_RAX, to);
    x_call_rm(e, x_r(X_RAX));
    stub_from_c_stack(e);
    stub_load_pins(c, e);
    x_test_rm_r(e, IR_I8, x_r(X_RAX), X_RAX);
    x_mov_r_rm(e, IR_I64, other, ENV(host_save[0]));
    x_mov_r_rm(e, IR_I64, t, ENV(host_save[2]));
    uint8_t *no = x_jcc(e, IR_CC_E);
    x_lea(e, IR_I64, delta ? u : t, ENV(bounce));
    x_alu_r_rm(e, delta ? X_SUB : X_XOR, IR_I64, u, x_r(delta ? t : u));
    x_ret_pop(e, 8);
    x_patch_here(e, no);
}

/* t holds the address xor the tag that did not match, u the entry's offset. */
static void emit_miss_entries(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui)
{
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        for (unsigned w = 0; w < 2; w++) {
            c->miss[idx][w][ti][ui] = e->p;
            x_alu_r_rm(e, X_XOR, IR_I64, temp_regs[ti], entry(idx, w, false, temp_regs[ui]));
            jump(e, c->miss_at[ti][ui]);
        }
    }
}

/*
 * TLB miss of an access at the address in t. On the stack: return address, size << 2 | access (8
 * bits). Returns with the access' host address being t + u, or leaves. The third temporary is kept.
 */
static void emit_miss(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui)
{
    unsigned t = temp_regs[ti], u = temp_regs[ui], other = temp_regs[3 - ti - ui];
    c->miss_at[ti][ui] = e->p;
    x_movzx(e, IR_I8, u, x_m(X_RSP, 8));
    x_shift_rm_i(e, X_SHR, IR_I32, x_r(u), 2);
    x_lea(e, IR_I64, u, x_mx(t, u, 0, -1));
    x_alu_r_rm(e, X_XOR, IR_I64, u, x_r(t));
    x_alu_rm_i(e, X_CMP, IR_I64, x_r(u), RT_PAGE_SIZE);
    uint8_t *one_page = x_jcc(e, IR_CC_B);
    x_movzx(e, IR_I8, u, x_m(X_RSP, 8));
    emit_cross(c, e, ti, ui, false);
    x_patch_here(e, one_page);
    stub_store_pins(c, e);
    x_mov_rm_r(e, IR_I64, ENV(host_save[0]), other);
    x_mov_r_rm(e, IR_I64, X_RSI, x_r(t));
    x_movzx(e, IR_I8, X_RBP, ENV(fp_live)); /* rbp: to be loaded again */
    stub_save_vec_if_live(c, e);
    x_movzx(e, IR_I8, X_RDX, x_m(X_RSP, 8));
    x_mov_r_rm(e, IR_I32, X_RCX, x_r(X_RDX));
    x_shift_rm_i(e, X_SHR, IR_I32, x_r(X_RDX), 2);
    x_alu_rm_i(e, X_AND, IR_I32, x_r(X_RCX), 3);
    x_mov_r_rm(e, IR_I64, X_RAX, x_m(X_RSP, 0));
    struct failed failed = ask_c(c, e, t, u);
    x_mov_r_rm(e, IR_I64, t, ENV(host_save[1]));
    x_alu_r_rm(e, X_XOR, IR_I32, u, x_r(u));
    x_mov_r_rm(e, IR_I64, other, ENV(host_save[0]));
    x_ret_pop(e, 8);
    failed_here(e, &failed);
    leave_site(e, c->exit_stored);
}

/* Guest address in t to host address in t; u and flags are lost. The same check as inline. */
static void emit_probe(struct ir_host_ctx *c, struct enc *e, unsigned idx, bool write,
                       unsigned bits, unsigned ti, unsigned ui)
{
    unsigned t = temp_regs[ti], u = temp_regs[ui], size = 1u << bits;
    c->probe[idx][write][bits][ti][ui] = e->p;
    tlb_check(c, e, t, u, entry(idx, write, false, u), size);
    uint8_t *miss = x_jcc(e, IR_CC_A);
    x_alu_r_rm(e, X_ADD, IR_I64, t, entry(idx, write, true, u));
    x_ret(e);
    x_patch_here(e, miss);
    x_byte(e, 0xff); /* push [rsp] */
    x_byte(e, 0x34);
    x_byte(e, 0x24);
    x_mov_rm_i(e, IR_I64, x_m(X_RSP, 8), (int32_t)(size << 2 | (write ? RT_WRITE : RT_READ)));
    jump(e, c->miss[idx][write][ti][ui]);
}

static struct x_rm line_field(unsigned idx, size_t field)
{
    size_t off =
        offsetof(struct rt_env, base) + idx * sizeof(((struct rt_env *)0)->base[0]) + field;
    return x_mx(X_ENV, X_RDX, 3, (int32_t)off - RT_BIAS); /* rdx: 3 times the line */
}

static void field_of_param(struct enc *e, unsigned reg, unsigned shift, int32_t mask,
                           int32_t sp_off)
{
    x_mov_r_rm(e, IR_I32, reg, x_m(X_RSP, sp_off));
    x_shift_rm_i(e, X_SHR, IR_I32, x_r(reg), shift);
    x_alu_rm_i(e, X_AND, IR_I32, x_r(reg), mask);
}

/*
 * The soft TLB entry of the range at t: fills the line and returns with u = delta. Keeps t and all
 * else. *slow: two jumps to where the TLB does not have it. On the stack: return address, param.
 */
static void emit_refill(const struct ir_host_ctx *c, struct enc *e, unsigned idx, bool write,
                        unsigned t, unsigned u, uint8_t *slow[2])
{
    x_push_r(e, X_RCX);
    x_push_r(e, X_RDX);
    x_mov_r_rm(e, IR_I64, X_RCX, x_r(t));
    tlb_check(c, e, X_RCX, u, entry(idx, write, false, u), 1);
    slow[0] = x_jcc(e, IR_CC_A);
    field_of_param(e, X_RDX, PARAM_SPAN_SHIFT, PARAM_SPAN, 24);
    x_alu_r_rm(e, X_ADD, IR_I32, X_RDX, x_r(X_RCX));
    x_alu_rm_i(e, X_CMP, IR_I32, x_r(X_RDX), RT_PAGE_SIZE);
    slow[1] = x_jcc(e, IR_CC_A);
    field_of_param(e, X_RDX, 0, PARAM_LINE, 24);
    x_lea(e, IR_I32, X_RDX, x_mx(X_RDX, X_RDX, 1, 0));
    x_mov_r_rm(e, IR_I64, X_RCX, x_r(t));
    x_alu_rm_i(e, X_AND, IR_I64, x_r(X_RCX), -(int32_t)RT_PAGE_SIZE);
    size_t mine = write ? offsetof(struct rt_base, tag_w) : offsetof(struct rt_base, tag_r);
    size_t other = write ? offsetof(struct rt_base, tag_r) : offsetof(struct rt_base, tag_w);
    x_mov_rm_r(e, IR_I64, line_field(idx, mine), X_RCX);
    x_mov_rm_r(e, IR_I64, line_field(idx, other), X_RCX);
    x_alu_r_rm(e, X_CMP, IR_I64, X_RCX, entry(idx, !write, false, u));
    uint8_t *same = x_jcc(e, IR_CC_E);
    x_mov_r_i64(e, X_RCX, RT_BASE_INVALID);
    x_mov_rm_r(e, IR_I64, line_field(idx, other), X_RCX);
    x_mov_r_rm(e, IR_I64, X_RCX, x_r(t));
    x_alu_rm_i(e, X_AND, IR_I64, x_r(X_RCX), -(int32_t)RT_PAGE_SIZE);
    x_patch_here(e, same);
    x_mov_r_rm(e, IR_I64, u, entry(idx, write, true, u));
    x_alu_r_rm(e, X_SUB, IR_I64, u, x_r(X_RCX));
    x_mov_rm_r(e, IR_I64, line_field(idx, offsetof(struct rt_base, delta)), u);
    x_pop_r(e, X_RDX);
    x_pop_r(e, X_RCX);
}

/* Before a strip; pushed: the parameter. */
static void emit_line_fill(struct ir_host_ctx *c, struct enc *e, unsigned idx, bool write)
{
    uint8_t *slow[2];
    c->line_fill[idx][write] = e->p;
    emit_refill(c, e, idx, write, X_R11, X_R14, slow);
    x_stc_clc(e, false);
    x_ret_pop(e, 8);
    x_patch_here(e, slow[0]);
    x_patch_here(e, slow[1]);
    x_pop_r(e, X_RDX);
    x_pop_r(e, X_RCX);
    x_stc_clc(e, true);
    x_ret_pop(e, 8);
}

/* Counts look-ups that missed though the TLB has the page. *often: the jump when there are many. */
static uint8_t *count_scatter(struct enc *e)
{
    x_push_r(e, X_RDX);
    x_mov_r_rm(e, IR_I32, X_RDX, x_m(X_RSP, 8));
    x_shift_rm_i(e, X_SHR, IR_I32, x_r(X_RDX), 3);
    x_alu_rm_i(e, X_AND, IR_I32, x_r(X_RDX), RT_SCATTER - 1);
    x_incdec_rm(e, true, IR_I16,
                x_mx(X_ENV, X_RDX, 1, (int32_t)offsetof(struct rt_env, scatter) - RT_BIAS));
    x_pop_r(e, X_RDX);
    return x_jcc(e, IR_CC_E);
}

/*
 * Of a group that stores, its page not being in the TLB for that. When the access itself is a load
 * and its page can be read, compact code goes on; when it is not known, C is asked for a load:
 * returns the jump there. Then it is a store's turn. On the stack: return address, parameter.
 */
static uint8_t *emit_reads(struct ir_host_ctx *c, struct enc *e, unsigned idx, unsigned ti,
                           unsigned ui)
{
    unsigned u = temp_regs[ui];
    x_test_rm_i(e, IR_I32, x_m(X_RSP, 8), PARAM_READ);
    uint8_t *store = x_jcc(e, IR_CC_E);
    x_push_r(e, X_RCX);
    x_mov_r_rm(e, IR_I64, X_RCX, x_r(temp_regs[ti]));
    tlb_check(c, e, X_RCX, u, entry(idx, false, false, u), 1);
    x_pop_r(e, X_RCX);
    uint8_t *unknown = x_jcc(e, IR_CC_A);
    uint8_t *often = count_scatter(e);
    jump(e, c->base_group[ti][ui]);
    x_patch_here(e, often);
    x_mov_r_i64(e, X_R11, RT_EXIT_SHARED);
    leave_site(e, c->exit_pinned);
    x_patch_here(e, unknown);
    x_mov_r_i64(e, u, RT_READ);
    uint8_t *ask = x_jmp(e);
    x_patch_here(e, store);
    return ask;
}

/*
 * A look-up through a line missed. t: lowest address of its range. Returns with the access' range
 * at t + u, or leaves: for compact code when the range is not all on one page that the TLB has.
 */
static void emit_base_miss(struct ir_host_ctx *c, struct enc *e, unsigned idx, bool write,
                           unsigned ti, unsigned ui)
{
    unsigned t = temp_regs[ti], u = temp_regs[ui];
    uint8_t *slow[2], *slow2[2];
    c->base_miss[idx][write][ti][ui] = e->p;
    emit_refill(c, e, idx, write, t, u, slow);
    x_alu_rm_i(e, X_CMP, IR_I32, x_m(X_RSP, 8), 0);
    uint8_t *quiet = x_jcc(e, IR_CC_S);
    uint8_t *often = count_scatter(e);
    x_patch_here(e, quiet);
    x_ret_pop(e, 8);
    x_patch_here(e, often);
    x_mov_r_i64(e, X_R11, RT_EXIT_SCATTER);
    leave_site(e, c->exit_pinned);
    x_patch_here(e, slow[1]); /* the page is there, the range crosses */
    x_test_rm_i(e, IR_I32, x_m(X_RSP, 24), PARAM_GROUP);
    uint8_t *single = x_jcc(e, IR_CC_E);
    x_pop_r(e, X_RDX);
    x_pop_r(e, X_RCX);
    jump(e, c->base_group[ti][ui]);
    x_patch_here(e, single);
    x_pop_r(e, X_RDX);
    x_pop_r(e, X_RCX);
    field_of_param(e, u, PARAM_SIZE_SHIFT, 63, 8);
    x_shift_rm_i(e, X_SHL, IR_I32, x_r(u), 2);
    x_alu_rm_i(e, X_OR, IR_I32, x_r(u), write ? RT_WRITE : RT_READ);
    emit_cross(c, e, ti, ui, true);
    uint8_t *crosses = x_jmp(e);
    x_patch_here(e, slow[0]);
    x_pop_r(e, X_RDX);
    x_pop_r(e, X_RCX);
    uint8_t *ask = write ? emit_reads(c, e, idx, ti, ui) : NULL;
    x_patch_here(e, crosses);
    x_mov_r_i64(e, u, write ? RT_WRITE : RT_READ);
    if (ask) {
        x_patch_here(e, ask);
    }
    x_patch(x_call(e), c->base_slow[ti][ui]);
    emit_refill(c, e, idx, write, t, u, slow2);
    x_ret_pop(e, 8);
    x_patch_here(e, slow2[0]);
    x_patch_here(e, slow2[1]);
    x_pop_r(e, X_RDX);
    x_pop_r(e, X_RCX);
    jump(e, c->base_alone[ti][ui]);
}

/* On with compact code, through the table of places where that happened before. */
static void emit_plain(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui)
{
    unsigned t = temp_regs[ti], u = temp_regs[ui];
    int32_t table = (int32_t)offsetof(struct rt_env, plain) - RT_BIAS;
    c->base_group[ti][ui] = e->p;
    x_mov_r_rm(e, IR_I64, u, x_m(X_RSP, 0));
    x_mov_r_rm(e, IR_I32, t, x_r(u));
    x_shift_rm_i(e, X_SHR, IR_I32, x_r(t), 3);
    x_alu_rm_i(e, X_AND, IR_I32, x_r(t), RT_PLAINS - 1);
    x_shift_rm_i(e, X_SHL, IR_I32, x_r(t), 4);
    x_alu_r_rm(e, X_CMP, IR_I64, u, x_mx(X_ENV, t, 0, table));
    uint8_t *unknown = x_jcc(e, IR_CC_NE);
    x_alu_rm_i(e, X_ADD, IR_I64, x_r(X_RSP), 16);
    x_jmp_rm(e, x_mx(X_ENV, t, 0, table + (int32_t)offsetof(struct rt_plain, code)));
    x_patch_here(e, unknown);
    x_mov_r_i64(e, X_R11, RT_EXIT_PLAIN);
    leave_site(e, c->exit_pinned);
}

/*
 * base_slow: called by the above with the access kind in u: asks C for the access itself; returns
 * with t as it was and its host address in env, or leaves. On the stack: our return address, the
 * block's, the parameter.
 * base_alone: the TLB still does not have the range: good enough for a group of one.
 */
static void emit_base_slow(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui)
{
    unsigned t = temp_regs[ti], u = temp_regs[ui], other = temp_regs[3 - ti - ui];
    c->base_slow[ti][ui] = e->p;
    stub_store_pins(c, e);
    x_mov_rm_r(e, IR_I64, ENV(host_save[0]), other);
    x_mov_rm_r(e, IR_I64, ENV(host_save[2]), t);
    x_mov_r_rm(e, IR_I32, X_RCX, x_r(u));
    x_movzx(e, IR_I8, X_RBP, ENV(fp_live)); /* rbp: to be loaded again */
    field_of_param(e, X_RSI, PARAM_K_SHIFT, PARAM_K, 16);
    x_alu_r_rm(e, X_ADD, IR_I64, X_RSI, x_r(t));
    stub_save_vec_if_live(c, e);
    field_of_param(e, X_RDX, PARAM_SIZE_SHIFT, 63, 16);
    x_mov_r_i64(e, X_RAX, RT_ASKED_GROUP);
    x_test_rm_i(e, IR_I32, x_m(X_RSP, 16), PARAM_GROUP);
    uint8_t *group = x_jcc(e, IR_CC_NE);
    x_mov_r_rm(e, IR_I64, X_RAX, x_m(X_RSP, 8));
    x_patch_here(e, group);
    struct failed failed = ask_c(c, e, t, u);
    x_mov_r_rm(e, IR_I64, t, ENV(host_save[2]));
    x_mov_r_rm(e, IR_I64, other, ENV(host_save[0]));
    x_ret(e);
    failed_here(e, &failed);
    x_pop_r(e, X_RAX);
    leave_site(e, c->exit_stored);

    c->base_alone[ti][ui] = e->p;
    x_test_rm_i(e, IR_I32, x_m(X_RSP, 8), PARAM_GROUP);
    group = x_jcc(e, IR_CC_NE);
    x_mov_r_rm(e, IR_I64, u, ENV(host_save[1]));
    x_alu_r_rm(e, X_SUB, IR_I64, u, x_r(t));
    x_ret_pop(e, 8);
    x_patch_here(e, group);
    emit_plain(c, e, ti, ui);
}

static void emit_base_misses(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui)
{
    emit_base_slow(c, e, ti, ui);
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        emit_base_miss(c, e, idx, false, ti, ui);
        emit_base_miss(c, e, idx, true, ti, ui);
    }
}

static void emit_guard_exit(struct ir_host_ctx *c, struct enc *e)
{
    c->guard_exit = e->p + c->to_rx;
    x_mov_r_i64(e, X_R11, RT_EXIT_STEP);
    jump(e, c->exit_pinned);
}

static void emit_probes(struct ir_host_ctx *c, struct enc *e, unsigned ti, unsigned ui)
{
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        for (unsigned bits = 0; bits < PROBE_SIZES; bits++) {
            emit_probe(c, e, idx, false, bits, ti, ui);
            emit_probe(c, e, idx, true, bits, ti, ui);
        }
    }
}

#define TLB_SHIFT 5 /* entries of 32 bytes */
_Static_assert(sizeof(struct rt_tlb_entry) == 1u << TLB_SHIFT, "TLB entry size");

void tlb_check(const struct ir_host_ctx *c, struct enc *e, unsigned t, unsigned u, struct x_rm tag,
               unsigned size)
{
    if (c->bmi2) {
        x_rorx(e, IR_I32, u, x_r(t), RT_PAGE_BITS - TLB_SHIFT);
    } else {
        x_mov_r_rm(e, IR_I32, u, x_r(t));
        x_shift_rm_i(e, X_SHR, IR_I32, x_r(u), RT_PAGE_BITS - TLB_SHIFT);
    }
    x_alu_rm_i(e, X_AND, IR_I32, x_r(u), (int32_t)((RT_TLB_SIZE - 1) << TLB_SHIFT));
    x_alu_r_rm(e, X_XOR, IR_I64, t, tag);
    x_alu_rm_i(e, X_CMP, IR_I64, x_r(t), (int32_t)(RT_PAGE_SIZE - size));
}

void stubs_emit_memory(struct ir_host_ctx *c, struct enc *e)
{
    emit_guard_exit(c, e);
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        emit_line_fill(c, e, idx, false);
        emit_line_fill(c, e, idx, true);
    }
    set_kept(c);
    emit_spills(c, e);
    for (unsigned t = 0; t < NTEMPS; t++) {
        for (unsigned u = 0; u < NTEMPS; u++) {
            if (t != u) {
                emit_miss(c, e, t, u);
                emit_miss_entries(c, e, t, u);
                emit_probes(c, e, t, u);
                emit_base_misses(c, e, t, u);
            }
        }
    }
}

enum rt_exit site_settle(const struct ir_host_ctx *c, struct rt_env *env,
                         const struct ir_code *code, enum rt_exit why)
{
    const struct t1_site *s = code->sites;
    const uint8_t *at = (const uint8_t *)(uintptr_t)env->site - c->to_rx;
    bool cold = at >= code->cold && at < code->cold + code->cold_size;
    uint64_t off = (uint64_t)(at - (cold ? code->cold : code->hot));
    const struct t1_site *found = NULL;
    for (unsigned i = 0; i < code->nsites; i++) {
        if (!(s[i].pc & SITE_COLD) == !cold && (cold ? s[i].at == off : s[i].at <= off)) {
            found = &s[i]; /* in hot code the last one before the place */
        }
    }
    assert(found);
    env->site = 0;
    env->pc = code->pc + (found->pc & SITE_PC);
    return why == RT_EXIT_FAULT && (found->pc & SITE_STEP) ? RT_EXIT_STEP : why;
}
