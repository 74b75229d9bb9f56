/* IR as text, one op a line; ir_parse reads it back. */
#include "base/strbuf.h"
#include "ir/ir.h"

static const char *const type_names[IR_TYPES] = {"i8", "i16", "i32", "i64", "h8"};

static void print_vec(struct strbuf *sb, const struct ir_vec *v)
{
    strbuf_add(sb,
               " vec{id=%u reg=%u/%u vvvv=%u rm=%u/%u res=%u vex=%d l=%d w=%d imm=%d/%u size=%u "
               "disp=%d %s%s%s}",
               v->id, v->reg, v->reg_kind, v->vvvv, v->rm, v->rm_kind, v->result, v->vex, v->l,
               v->w, v->has_imm, v->imm8, v->size, v->disp, v->load ? "L" : "", v->store ? "S" : "",
               v->aligned ? "A" : "");
}

static bool names_target(const struct ir_op *op)
{
    return op->op == IR_insn || op->op == IR_brcc || op->op == IR_brnz || op->op == IR_brz ||
           op->op == IR_jump || op->op == IR_helper;
}

static void print_op(struct strbuf *sb, const struct ir_block *b, unsigned i)
{
    const struct ir_op *op = &b->op[i];
    const struct ir_op_info *info = &ir_op_info[op->op];
    strbuf_add(sb, info->result == 'N' ? "        " : "%%%-5u = ", i);
    strbuf_add(sb, "%s.%s", info->name, type_names[op->type]);
    if (op->op == IR_const || op->op == IR_fetch) {
        strbuf_add(sb, " 0x%llx\n", (unsigned long long)op->k);
        return;
    }
    const ir_ref v[4] = {op->a, op->b, op->c, op->d};
    for (const char *s = info->operands; *s; s++) {
        if (*s != '?') {
            ir_ref r = v[(*s | 0x20) - 'a'];
            strbuf_add(sb, r == IR_NONE ? " _" : " %%%u", r);
        }
    }
    if (op->op == IR_getreg || op->op == IR_setreg) {
        strbuf_add(sb, " %s", b->guest->regs[op->aux].name);
    } else {
        strbuf_add(sb, " aux=0x%x", op->aux);
    }
    if (names_target(op)) {
        strbuf_add(sb, " @0x%llx", (unsigned long long)b->target[op->imm]);
    } else if (op->op == IR_hostvec) {
        print_vec(sb, &b->vec[op->imm]);
    } else if (op->op != IR_getreg && op->op != IR_setreg && op->imm) {
        strbuf_add(sb, " imm=%d", op->imm);
    }
    if (op->op == IR_helper) {
        strbuf_add(sb, " %s", b->guest->helpers[op->aux].name);
    }
    strbuf_add(sb, "\n");
}

void ir_print(struct strbuf *sb, const struct ir_block *b)
{
    strbuf_add(sb, "block pc=0x%llx mode=0x%x insns=%u bytes=%u\n", (unsigned long long)b->pc,
               b->mode, b->ninsns, b->bytes);
    for (unsigned i = 0; i < b->nops; i++) {
        print_op(sb, b, i);
    }
}
