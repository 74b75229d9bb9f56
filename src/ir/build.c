/* Making IR. Checks room only; ir_verify checks the rest. */
#include "ir/build.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

struct ir_block *ir_buf_init(struct ir_buf *buf)
{
    buf->block = (struct ir_block){.op = buf->op, .target = buf->target, .vec = buf->vec};
    return &buf->block;
}

struct ir_block *ir_block_copy(const struct ir_block *b)
{
    size_t ops = b->nops * sizeof(b->op[0]), targets = b->ntargets * sizeof(b->target[0]);
    struct ir_block *c = malloc(sizeof(*c) + ops + targets + b->nvecs * sizeof(b->vec[0]));
    if (!c) {
        abort();
    }
    *c = *b;
    c->op = (struct ir_op *)(c + 1);
    c->target = (uint64_t *)(c->op + b->nops);
    c->vec = (struct ir_vec *)(c->target + b->ntargets);
    memcpy(c->op, b->op, ops);
    memcpy(c->target, b->target, targets);
    memcpy(c->vec, b->vec, b->nvecs * sizeof(b->vec[0]));
    return c;
}

void ir_begin(struct ir_block *b, const struct ir_guest *guest, uint64_t pc, uint32_t mode)
{
    b->guest = guest;
    b->pc = pc;
    b->mode = mode;
    b->nops = b->ntargets = b->nvecs = b->ninsns = 0;
    b->bytes = 0;
    b->flags = IR_NONE;
    b->full = b->uses_vec = false;
    b->imms = b->live = 0;
    b->moves = false;
    b->check = NULL;
    b->hints = NULL;
}

/* An op in its two words. */
static inline ir_ref put(struct ir_block *b, uint64_t head, uint64_t operands)
{
    unsigned n = b->nops;
    if (n >= IR_MAX_OPS) {
        b->full = true;
        return IR_NONE;
    }
    memcpy(&b->op[n], &head, sizeof(head));
    b->op[n].k = operands;
    b->nops = (uint16_t)(n + 1);
    return (ir_ref)n;
}

ir_ref ir_emit(struct ir_block *b, struct ir_op op)
{
    uint64_t head;
    memcpy(&head, &op, sizeof(head));
    return put(b, head, op.k);
}

static inline uint64_t head_of(enum ir_opcode op, enum ir_type type, unsigned aux, int32_t imm)
{
    return op | (unsigned)type << 8 | (uint32_t)aux << 16 | (uint64_t)(uint32_t)imm << 32;
}

static inline uint64_t operands(ir_ref a, ir_ref b, ir_ref c, ir_ref d)
{
    return a | (uint32_t)b << 16 | (uint64_t)c << 32 | (uint64_t)d << 48;
}

uint16_t ir_target(struct ir_block *b, uint64_t pc)
{
    if (b->ntargets >= IR_MAX_TARGETS) {
        b->full = true;
        return 0;
    }
    b->target[b->ntargets] = pc;
    return b->ntargets++;
}

void ir_insn(struct ir_block *b, uint64_t pc, unsigned len)
{
    put(b, head_of(IR_insn, IR_I8, len, ir_target(b, pc)),
        operands(IR_NONE, IR_NONE, IR_NONE, IR_NONE));
    b->ninsns++;
    b->bytes += len;
}

ir_ref ir_const(struct ir_block *b, uint64_t k)
{
    return put(b, head_of(IR_const, IR_I64, 0, 0), k);
}

ir_ref ir_const_pc(struct ir_block *b, uint64_t k)
{
    return put(b, head_of(IR_const, IR_I64, IR_CONST_PC, 0), k);
}

ir_ref ir_fetch(struct ir_block *b, const uint8_t *host, enum ir_type from, bool sign)
{
    return put(b, head_of(IR_fetch, IR_I64, from, sign), (uintptr_t)host);
}

static int32_t place(const struct ir_block *b, unsigned reg)
{
    return (int32_t)b->guest->regs[reg].off;
}

ir_ref ir_getreg(struct ir_block *b, enum ir_type type, unsigned reg)
{
    return put(b, head_of(IR_getreg, type, reg, place(b, reg)),
               operands(IR_NONE, IR_NONE, IR_NONE, IR_NONE));
}

void ir_setreg(struct ir_block *b, enum ir_type type, unsigned reg, ir_ref v)
{
    put(b, head_of(IR_setreg, type, reg, place(b, reg)), operands(v, IR_NONE, IR_NONE, IR_NONE));
}

ir_ref ir_un(struct ir_block *b, enum ir_opcode op, enum ir_type type, ir_ref a)
{
    return put(b, head_of(op, type, 0, 0), operands(a, IR_NONE, IR_NONE, IR_NONE));
}

ir_ref ir_bin(struct ir_block *b, enum ir_opcode op, enum ir_type type, ir_ref x, ir_ref y)
{
    return put(b, head_of(op, type, 0, 0), operands(x, y, IR_NONE, IR_NONE));
}

ir_ref ir_tri(struct ir_block *b, enum ir_opcode op, enum ir_type type, ir_ref x, ir_ref y,
              ir_ref z)
{
    return put(b, head_of(op, type, 0, 0), operands(x, y, z, IR_NONE));
}

ir_ref ir_ext(struct ir_block *b, enum ir_opcode op, enum ir_type to, enum ir_type from, ir_ref a)
{
    return to == from ? a
                      : put(b, head_of(op, to, from, 0), operands(a, IR_NONE, IR_NONE, IR_NONE));
}

ir_ref ir_lea(struct ir_block *b, enum ir_type type, struct ir_addr m)
{
    return put(b, head_of(IR_lea, type, m.scale, m.disp),
               operands(m.base, m.index, IR_NONE, IR_NONE));
}

ir_ref ir_shiftd(struct ir_block *b, enum ir_opcode op, enum ir_type type, ir_ref a, ir_ref fill,
                 ir_ref count)
{
    return put(b, head_of(op, type, 0, 0), operands(a, fill, IR_NONE, count));
}

ir_ref ir_get_flags(struct ir_block *b)
{
    if (b->flags == IR_NONE) {
        b->flags = put(b, head_of(IR_getflags, IR_I32, 0, 0),
                       operands(IR_NONE, IR_NONE, IR_NONE, IR_NONE));
    }
    return b->flags;
}

void ir_set_flags(struct ir_block *b, ir_ref flags)
{
    put(b, head_of(IR_setflags, IR_I32, 0, 0), operands(flags, IR_NONE, IR_NONE, IR_NONE));
    b->flags = flags;
}

ir_ref ir_flags(struct ir_block *b, enum ir_flags_kind kind, enum ir_type type, ir_ref x, ir_ref y,
                ir_ref old, ir_ref d)
{
    return put(b, head_of(IR_flags, type, kind, 0), operands(x, y, old, d));
}

ir_ref ir_setcc(struct ir_block *b, enum ir_cc cc, ir_ref flags)
{
    return put(b, head_of(IR_setcc, IR_I8, cc, 0), operands(flags, IR_NONE, IR_NONE, IR_NONE));
}

ir_ref ir_select(struct ir_block *b, enum ir_type type, enum ir_cc cc, ir_ref flags, ir_ref yes,
                 ir_ref no)
{
    return put(b, head_of(IR_select, type, cc, 0), operands(flags, yes, no, IR_NONE));
}

static ir_ref mem_op(struct ir_block *b, enum ir_opcode op, enum ir_type type, unsigned aux,
                     struct ir_addr m, ir_ref c, ir_ref d)
{
    return put(b, head_of(op, type, aux | m.scale, m.disp), operands(m.base, m.index, c, d));
}

ir_ref ir_ld(struct ir_block *b, enum ir_type type, struct ir_addr m)
{
    return mem_op(b, IR_ld, type, 0, m, IR_NONE, IR_NONE);
}

ir_ref ir_ldw(struct ir_block *b, enum ir_type type, struct ir_addr m)
{
    return mem_op(b, IR_ldw, type, 0, m, IR_NONE, IR_NONE);
}

void ir_st(struct ir_block *b, enum ir_type type, struct ir_addr m, ir_ref v)
{
    mem_op(b, IR_st, type, 0, m, v, IR_NONE);
}

void ir_probew(struct ir_block *b, enum ir_type type, struct ir_addr m)
{
    mem_op(b, IR_probew, type, 0, m, IR_NONE, IR_NONE);
}

ir_ref ir_rmw(struct ir_block *b, enum ir_rmw op, enum ir_type type, struct ir_addr m, ir_ref v,
              ir_ref flags, bool lock)
{
    return mem_op(b, IR_rmw, type, (unsigned)op << 4 | (lock ? IR_AUX_LOCK : 0), m, v, flags);
}

ir_ref ir_cmpxchg(struct ir_block *b, enum ir_type type, struct ir_addr m, ir_ref expected,
                  ir_ref desired, bool lock)
{
    return mem_op(b, IR_cmpxchg, type, lock ? IR_AUX_LOCK : 0, m, expected, desired);
}

ir_ref ir_vec_op(struct ir_block *b, const struct ir_vec *v, struct ir_addr m, ir_ref int_in)
{
    if (b->nvecs >= IR_MAX_VECS) {
        b->full = true;
        return IR_NONE;
    }
    b->vec[b->nvecs] = *v;
    b->vec[b->nvecs].disp = m.disp;
    b->uses_vec = true;
    return put(b, head_of(IR_hostvec, IR_I64, m.scale, b->nvecs++),
               operands(m.base, m.index, int_in, IR_NONE));
}

void ir_check(struct ir_block *b, unsigned id, ir_ref x, ir_ref y, unsigned size)
{
    put(b, head_of(IR_check, IR_I64, id, (int32_t)size), operands(x, y, IR_NONE, IR_NONE));
}

static void branch(struct ir_block *b, enum ir_opcode op, enum ir_type type, unsigned aux, ir_ref v,
                   uint64_t pc)
{
    put(b, head_of(op, type, aux, ir_target(b, pc)), operands(v, IR_NONE, IR_NONE, IR_NONE));
}

void ir_brcc(struct ir_block *b, enum ir_cc cc, ir_ref flags, uint64_t pc)
{
    branch(b, IR_brcc, IR_I32, cc, flags, pc);
}

void ir_brnz(struct ir_block *b, enum ir_type type, ir_ref v, uint64_t pc)
{
    branch(b, IR_brnz, type, 0, v, pc);
}

void ir_brz(struct ir_block *b, enum ir_type type, ir_ref v, uint64_t pc)
{
    branch(b, IR_brz, type, 0, v, pc);
}

void ir_jump(struct ir_block *b, uint64_t pc)
{
    branch(b, IR_jump, IR_I64, IR_HINT_NONE, IR_NONE, pc);
}

void ir_call(struct ir_block *b, uint64_t pc, uint64_t return_pc)
{
    uint16_t to = ir_target(b, pc), back = ir_target(b, return_pc);
    put(b, head_of(IR_jump, IR_I64, IR_HINT_CALL, to), operands(IR_NONE, IR_NONE, IR_NONE, back));
}

void ir_jumpi(struct ir_block *b, enum ir_hint hint, ir_ref v, uint64_t return_pc)
{
    ir_ref ret = hint == IR_HINT_CALL ? ir_target(b, return_pc) : IR_NONE;
    put(b, head_of(IR_jumpi, IR_I64, hint, 0), operands(v, IR_NONE, IR_NONE, ret));
}

void ir_helper(struct ir_block *b, unsigned id, ir_ref x, ir_ref y, ir_ref z, uint64_t next_pc)
{
    put(b, head_of(IR_helper, IR_I64, id, ir_target(b, next_pc)), operands(x, y, z, IR_NONE));
}
