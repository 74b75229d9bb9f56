/* The translate entry: decodes and lifts a superblock; operands and addresses for all chapters. */
#include "isa/x86/lift_vec.h"

#include "ir/hostvec.h"
#include "isa/x86/model.h"

static const struct x86_opnd *opnd(const struct lift *l, unsigned n)
{
    return &l->in->opnd[n];
}

static ir_ref address_reg(struct lift *l, uint8_t reg)
{
    return reg == X86_REG_NONE ? IR_NONE : ir_getreg(l->b, IR_I64, reg);
}

/* The effective address inside its segment, not truncated. */
static struct ir_addr effective(struct lift *l)
{
    const struct x86_insn *in = l->in;
    if (in->base == X86_REG_RIP) {
        uint64_t ea = l->next + (uint64_t)(int64_t)in->disp;
        return (struct ir_addr){.base = lift_pc(l, ea, in->addrsize), .index = IR_NONE};
    }
    struct ir_addr m = {.base = address_reg(l, in->base),
                        .index = address_reg(l, in->index),
                        .scale = in->scale,
                        .disp = in->disp};
    return m;
}

static ir_ref truncate_offset(struct lift *l, struct ir_addr m)
{
    switch (l->in->addrsize) {
    case 8:
        if (m.index == IR_NONE && m.disp == 0 && m.base != IR_NONE) {
            return m.base;
        }
        return ir_lea(l->b, IR_I64, m);
    case 4: return ir_lea(l->b, IR_I32, m);
    default: return ir_ext(l->b, IR_zext, IR_I64, IR_I16, ir_lea(l->b, IR_I32, m));
    }
}

ir_ref lift_offset(struct lift *l)
{
    return truncate_offset(l, effective(l));
}

static struct ir_addr at_base(ir_ref base)
{
    return (struct ir_addr){.base = base, .index = IR_NONE};
}

/* What an operand's address must be divisible by (Vol. 3A Table 6-7). 1: anything will do, or the
 * instruction checks by itself. Of unaligned operands of 16 and 32 bytes the manual leaves open
 * whether they are checked: they are not. */
static unsigned alignment(const struct lift *l, unsigned size)
{
    switch (size) {
    case 2:
    case 4:
    case 8: return size;
    case 6: return 4;
    case 10: return 8;
    case 14:
    case 28:
    case 94:
    case 108: return l->in->opsize == 2 ? 2 : 4; /* FNSTENV, FNSAVE */
    default: return 1;
    }
}

static struct ir_addr aligned(struct lift *l, struct ir_addr m, unsigned size)
{
    unsigned align = alignment(l, size);
    if ((l->mode & MODE_AC) && align > 1) {
        ir_check(l->b, CHECK_ALIGN, ir_lea(l->b, IR_I64, m), ir_const(l->b, 0), align);
    }
    return m;
}

/* Segment base plus an offset that is already truncated. */
static struct ir_addr in_segment(struct lift *l, unsigned seg, ir_ref off, unsigned size,
                                 unsigned access)
{
    bool extra = seg == SEG_FS || seg == SEG_GS || seg == SEG_CS; /* outside of MODE_FLAT */
    if (l->mode & MODE_CS64) {
        if (seg < SEG_FS) {
            return at_base(off);
        }
        return (struct ir_addr){.base = ir_getreg(l->b, IR_I64, XREG_SEG_BASE + seg), .index = off};
    }
    if ((l->mode & MODE_FLAT) && !extra) {
        return at_base(off);
    }
    unsigned check = access & RT_WRITE ? CHECK_WRITE : CHECK_READ;
    ir_check(l->b, check, ir_const(l->b, seg), off, size ? size : 1);
    struct ir_addr m = {.base = ir_getreg(l->b, IR_I64, XREG_SEG_BASE + seg), .index = off};
    return at_base(ir_lea(l->b, IR_I32, m));
}

struct ir_addr lift_mem_at(struct lift *l, unsigned seg, ir_ref off, unsigned size, unsigned access)
{
    return aligned(l, in_segment(l, seg, off, size, access), size);
}

struct ir_addr lift_mem(struct lift *l, unsigned size, unsigned access)
{
    const struct x86_insn *in = l->in;
    struct ir_addr m = effective(l);
    bool extra = in->mem_seg == SEG_FS || in->mem_seg == SEG_GS;
    if ((l->mode & MODE_CS64) && in->addrsize == 8) {
        if (!extra) {
            return aligned(l, m, size);
        }
        if (m.base == IR_NONE || m.index == IR_NONE) { /* room for the segment's base */
            ir_ref base = ir_getreg(l->b, IR_I64, XREG_SEG_BASE + in->mem_seg);
            if (m.index == IR_NONE) {
                m.index = m.base;
                m.scale = 0;
            }
            m.base = base;
            return aligned(l, m, size);
        }
    }
    return lift_mem_at(l, in->mem_seg, truncate_offset(l, m), size, access);
}

static struct ir_addr moffs(struct lift *l, unsigned size, unsigned access)
{
    return lift_mem_at(l, l->in->mem_seg, ir_const(l->b, (uint64_t)l->in->imm), size, access);
}

ir_ref lift_gpr(struct lift *l, unsigned reg, unsigned bytes)
{
    return ir_getreg(l->b, lift_type(bytes), reg);
}

void lift_set_gpr(struct lift *l, unsigned reg, unsigned bytes, ir_ref v)
{
    ir_setreg(l->b, lift_type(bytes), reg, v);
}

/* The immediate: a constant, or read from the code when the instruction is run. */
static ir_ref immediate(struct lift *l)
{
    const struct x86_insn *in = l->in;
    unsigned at = l->off + in->len - in->imm_len;
    if (l->imm != IR_NONE) {
        return l->imm;
    }
    if (!in->imm_len || at + in->imm_len > 64) {
        return ir_const(l->b, (uint64_t)in->imm);
    }
    uint64_t bytes = mask_low(in->imm_len) << at;
    l->b->imms |= bytes;
    if (!(l->t->live & bytes)) {
        return ir_const(l->b, (uint64_t)in->imm);
    }
    l->b->live |= bytes;
    l->imm = ir_fetch(l->b, l->t->where + at, lift_type(in->imm_len), in->imm_signed);
    return l->imm;
}

ir_ref lift_read(struct lift *l, unsigned n)
{
    const struct x86_opnd *o = opnd(l, n);
    switch (o->kind) {
    case X86_OPND_GPR: return ir_getreg(l->b, o->high ? IR_H8 : lift_type(o->size), o->reg);
    case X86_OPND_MEM: return ir_ld(l->b, lift_type(o->size), lift_mem(l, o->size, RT_READ));
    case X86_OPND_MOFFS: return ir_ld(l->b, lift_type(o->size), moffs(l, o->size, RT_READ));
    default: return immediate(l);
    }
}

ir_ref lift_read_rmw(struct lift *l, unsigned n, struct ir_addr *addr)
{
    const struct x86_opnd *o = opnd(l, n);
    if (o->kind != X86_OPND_MEM) {
        return lift_read(l, n);
    }
    *addr = lift_mem(l, o->size, RT_READ | RT_WRITE);
    return ir_ldw(l->b, lift_type(o->size), *addr);
}

void lift_write_at(struct lift *l, unsigned n, ir_ref v, const struct ir_addr *addr)
{
    const struct x86_opnd *o = opnd(l, n);
    if (o->kind == X86_OPND_GPR) {
        ir_setreg(l->b, o->high ? IR_H8 : lift_type(o->size), o->reg, v);
    } else {
        ir_st(l->b, lift_type(o->size), *addr, v);
    }
}

void lift_write(struct lift *l, unsigned n, ir_ref v)
{
    const struct x86_opnd *o = opnd(l, n);
    struct ir_addr m = at_base(IR_NONE);
    if (o->kind == X86_OPND_MEM) {
        m = lift_mem(l, o->size, RT_WRITE);
    } else if (o->kind == X86_OPND_MOFFS) {
        m = moffs(l, o->size, RT_WRITE);
    }
    lift_write_at(l, n, v, &m);
}

void lift_helper(struct lift *l, enum x86_helper h, ir_ref a, ir_ref b, ir_ref c)
{
    ir_helper(l->b, h, a, b, c, l->next);
    l->end = true;
}

bool lift_raise(struct lift *l, unsigned vector)
{
    lift_helper(l, HELPER_raise, ir_const(l->b, vector), IR_NONE, IR_NONE);
    return true;
}

bool lift_raise_error(struct lift *l, unsigned vector, uint32_t error)
{
    ir_ref v = ir_const(l->b, vector);
    lift_helper(l, HELPER_raise_error, v, ir_const(l->b, error), IR_NONE);
    return true;
}

void lift_jump(struct lift *l, uint64_t pc)
{
    ir_jump(l->b, pc);
    l->end = true;
}

static enum ir_type stack_type(const struct lift *l)
{
    return l->mode & MODE_CS64 ? IR_I64 : l->mode & MODE_SS32 ? IR_I32 : IR_I16;
}

/* Address on the stack for a stack pointer value already computed. */
static struct ir_addr stack_mem(struct lift *l, ir_ref sp, unsigned bytes, unsigned access)
{
    enum ir_type t = stack_type(l);
    if (t == IR_I64) {
        return aligned(l, at_base(sp), bytes);
    }
    ir_ref off = ir_ext(l->b, IR_zext, IR_I64, t, sp);
    return lift_mem_at(l, SEG_SS, off, bytes, access);
}

void lift_push(struct lift *l, unsigned bytes, ir_ref v)
{
    enum ir_type t = stack_type(l);
    ir_ref sp = ir_bin(l->b, IR_sub, t, ir_getreg(l->b, t, RSP), ir_const(l->b, bytes));
    ir_st(l->b, lift_type(bytes), stack_mem(l, sp, bytes, RT_WRITE), v);
    ir_setreg(l->b, t, RSP, sp);
}

ir_ref lift_pop(struct lift *l, unsigned bytes)
{
    ir_ref sp = ir_getreg(l->b, stack_type(l), RSP);
    return ir_ld(l->b, lift_type(bytes), stack_mem(l, sp, bytes, RT_READ));
}

void lift_pop_done(struct lift *l, uint64_t bytes)
{
    enum ir_type t = stack_type(l);
    ir_setreg(l->b, t, RSP,
              ir_bin(l->b, IR_add, t, ir_getreg(l->b, t, RSP), ir_const(l->b, bytes)));
}

/* Only these can leave a CS that ends where IP or EIP does. */
bool lift_limits_targets(const struct lift *l)
{
    return (l->mode & MODE_CS_LIMIT) || (mode_bytes(l->mode) == 2 && l->in->opsize == 4);
}

void lift_check_target(struct lift *l, ir_ref taken, ir_ref target)
{
    if (!lift_limits_targets(l)) {
        return;
    }
    if (taken != IR_NONE) {
        target = ir_tri(l->b, IR_selnz, IR_I64, taken, target, ir_const(l->b, l->pc));
    }
    ir_check(l->b, CHECK_FETCH, target, ir_const(l->b, 0), 1);
}

/* Do its bytes lie in CS (Vol. 3A 5.3)? True: it ended the block. */
static bool beyond_limit(struct lift *l, unsigned len)
{
    if (l->mode & MODE_CS_LIMIT) {
        ir_check(l->b, CHECK_FETCH, ir_const(l->b, l->pc), ir_const(l->b, 0), len);
    } else if (mode_bytes(l->mode) == 2 && l->pc + len - 1 > 0xffff) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    return false;
}

/* In the order of how often they are what is looked for; an op in two of them is the first one's.
 */
static x86_lift_fn *const *const tables[] = {x86_lift_int, x86_lift_flow, x86_lift_bits,
                                             x86_lift_sse, x86_lift_x87,  x86_lift_sys};

static bool lift_one(struct lift *l)
{
    for (unsigned i = 0; i < ARRAY_LEN(tables); i++) {
        x86_lift_fn *fn = tables[i][l->in->op];
        if (fn) {
            return fn(l);
        }
    }
    return x86_form_hostvec(l->in->form) != HV_NONE && lift_vec(l);
}

static void illegal(struct lift *l, unsigned nops, ir_ref flags, enum x86_decode_status why)
{
    l->b->nops = (uint16_t)nops;
    l->b->flags = flags;
    if (why == X86_DECODE_TOO_LONG) {
        lift_raise_error(l, EXC_GP, 0);
    } else {
        lift_raise(l, EXC_UD);
    }
}

static uint64_t wrap(uint32_t mode, uint64_t pc)
{
    return mode & MODE_CS64 ? pc : pc & 0xffffffff;
}

static bool room_left(const struct ir_block *b)
{
    return b->nops + 96 < IR_MAX_OPS && b->ntargets + 8 < IR_MAX_TARGETS &&
           b->nvecs + 4 < IR_MAX_VECS;
}

static enum x86_decode_status decode(const struct tr_ctx *t, unsigned off, struct x86_insn *in)
{
    return x86_decode(in, t->code + off, t->avail + t->avail2 - off, mode_bytes(t->mode));
}

/* One more instruction; false: the block ends before it. */
static bool decode_next(const struct tr_ctx *t, unsigned off, struct x86_insn *in,
                        enum x86_decode_status *status)
{
    *status = decode(t, off, in);
    return *status == X86_DECODE_OK ? off + in->len <= t->avail : *status != X86_DECODE_SHORT;
}

/* Does the CPU model have it? Some encodings mean an older instruction where it does not. */
static bool available(const struct vcpu *v, struct x86_insn *in)
{
    static const struct {
        uint16_t op, older;
    } fallback[] = {{X86_TZCNT, X86_BSF}, {X86_LZCNT, X86_BSR}, {X86_WBNOINVD, X86_WBINVD}};
    if (x86_cpu(v)->model->has[in->feature]) {
        return true;
    }
    for (unsigned i = 0; i < ARRAY_LEN(fallback); i++) {
        if (fallback[i].op == in->op) {
            in->op = fallback[i].older;
            return true;
        }
    }
    return false;
}

/* Has one of the ops from `from` on changed memory? */
static bool has_stored(const struct ir_block *b, unsigned from)
{
    for (unsigned i = from; i < b->nops; i++) {
        const struct ir_op *op = &b->op[i];
        if (op->op == IR_st || op->op == IR_rmw || op->op == IR_cmpxchg ||
            (op->op == IR_hostvec && b->vec[op->imm].store)) {
            return true;
        }
    }
    return false;
}

/* Programs and libraries that lie at another address each time are user code, in 64 bits, and not
 * where addresses are short. */
static bool can_move(const struct tr_ctx *t)
{
    return (t->mode & MODE_CS64) && (t->mode & 3) == 1 && t->pc > INT32_MAX;
}

enum tr_end x86_translate(struct ir_block *b, const struct tr_ctx *t)
{
    struct x86_insn in;
    struct lift l = {.b = b, .in = &in, .mode = t->mode, .pc = t->pc, .t = t};
    unsigned off = 0, max = t->mode & MODE_STEP ? 1 : t->max_insns;
    ir_begin(b, &x86_guest, t->pc, t->mode);
    b->moves = can_move(t);
    for (bool first = true;; first = false) {
        enum x86_decode_status status = X86_DECODE_OK;
        if (!first && (off >= t->avail || b->ninsns >= max || !room_left(b) ||
                       !decode_next(t, off, &in, &status))) {
            ir_jump(b, l.pc);
            return TR_DONE;
        }
        if (first) {
            status = decode(t, off, &in);
        }
        if (status == X86_DECODE_SHORT) {
            if (t->avail2 == 0) {
                return TR_NEED_PAGE;
            }
            status = X86_DECODE_TOO_LONG;
        }
        unsigned len = status == X86_DECODE_OK ? in.len : 1;
        ir_insn(b, l.pc, len);
        l.next = wrap(t->mode, l.pc + len);
        l.off = off;
        l.imm = IR_NONE;
        if (beyond_limit(&l, len)) {
            return TR_DONE;
        }
        unsigned nops = b->nops;
        ir_ref flags = b->flags;
        bool known = status == X86_DECODE_OK && available(t->vcpu, &in);
        if (!known || !lift_one(&l)) {
            illegal(&l, nops, flags, status);
        }
        if (l.end) {
            return TR_DONE;
        }
        off += len;
        l.pc = l.next;
        /* crossed the page: a block of its own (engine rule 10) */
        if ((first && off > t->avail) || (t->after_store && has_stored(b, nops))) {
            ir_jump(b, l.pc);
            return TR_DONE;
        }
    }
}
