/*
 * T1: blocks that look at their own bytes (struct ir_self of ir.h). At the entry, where temporaries
 * and host flags are free, the bytes in guest RAM are compared with those that were translated,
 * eight at a time; bytes that a `fetch` reads when it runs are left out. Another block with the
 * same key may come after a check that fails, so one that has a check never says that flags are
 * dead.
 */
#include "host/x86_64/t1.h"

#include <string.h>

/* Which of `n` bytes from `at` on are compared, as a mask of their bits. */
static uint64_t compared(const struct ir_self *s, unsigned at, unsigned n)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!(s->live >> (at + i) & 1)) {
            mask |= 0xffull << 8 * i;
        }
    }
    return mask;
}

/* [r11 + disp], `size` bytes, against those from `at` on. */
static void compare(struct t1 *t, const struct ir_self *s, unsigned at, int32_t disp,
                    enum ir_type size, const uint8_t *fail)
{
    struct enc *e = &t->hot;
    unsigned n = ir_type_bytes(size);
    uint64_t want = 0, all = n == 8 ? ~0ull : (1ull << 8 * n) - 1;
    uint64_t mask = compared(s, at, n);
    memcpy(&want, s->was + at, n);
    if (!mask) {
        return;
    }
    x_movzx(e, size, X_RAX, x_m(X_R11, disp));
    if (mask != all) {
        x_mov_r_i64(e, X_R14, mask);
        x_alu_r_rm(e, X_AND, IR_I64, X_RAX, x_r(X_R14));
        want &= mask;
    }
    if (want == (uint64_t)(int32_t)want) {
        x_alu_rm_i(e, X_CMP, IR_I64, x_r(X_RAX), (int32_t)want);
    } else {
        x_mov_r_i64(e, X_R14, want);
        x_alu_r_rm(e, X_CMP, IR_I64, X_RAX, x_r(X_R14));
    }
    x_patch(x_jcc(e, IR_CC_NE), fail);
}

/* The last compare of a piece reaches back over bytes that were compared before. */
static void compare_piece(struct t1 *t, const struct ir_self *s, unsigned k, const uint8_t *fail)
{
    unsigned base = k ? s->n[0] : 0, n = s->n[k], at = 0;
    if (n == 0) {
        return;
    }
    x_mov_r_i64(&t->hot, X_R11, (uint64_t)(uintptr_t)s->at[k]);
    while (at < n) {
        enum ir_type size = n >= 8 ? IR_I64 : n >= 4 ? IR_I32 : n >= 2 ? IR_I16 : IR_I8;
        unsigned bytes = ir_type_bytes(size);
        at = at + bytes > n ? n - bytes : at;
        compare(t, s, base + at, (int32_t)at, size, fail);
        at += bytes;
    }
}

/* First in hot code, and in cold code behind the way out of dead blocks. */
void t1_check(struct t1 *t, struct ir_code *out)
{
    const struct ir_self *s = t->b->check;
    const uint8_t *fail = t->cold.p;
    out->other = x_jmp(&t->cold);
    x_patch(out->other, out->cold);
    compare_piece(t, s, 0, fail);
    compare_piece(t, s, 1, fail);
}

void block_chain(struct ir_host_ctx *c, const struct ir_code *code, const struct ir_code *to)
{
    const uint8_t *entry = to ? (const uint8_t *)to->entry - c->to_rx : code->cold;
    x_patch(code->other, entry);
}

/* An immediate that is read from the code when it runs. */
bool t1_fetch(struct t1 *t, const struct ir_op *op)
{
    unsigned d = t1_dest(t, IR_NONE, IR_NONE, IR_NONE);
    x_mov_r_i64(&t->hot, d, op->k);
    if (op->imm && op->aux != IR_I64) {
        x_movsx(&t->hot, IR_I64, op->aux, d, x_m(d, 0));
    } else {
        x_movzx(&t->hot, op->aux, d, x_m(d, 0));
    }
    t1_bind(t, d, 64);
    return true;
}
