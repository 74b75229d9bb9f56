/* System instructions: control registers, descriptor tables, I/O, state (Intel SDM Vol. 3A 2.8). */
#include "isa/x86/lift.h"

static bool kernel(const struct lift *l)
{
    return mode_cpl(l->mode) == 0;
}

/* Instructions for CPL 0 only: the helper, or #GP(0). */
static bool privileged(struct lift *l, enum x86_helper h, ir_ref a, ir_ref b, ir_ref c)
{
    if (!kernel(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    lift_helper(l, h, a, b, c);
    return true;
}

static ir_ref wide(struct lift *l, unsigned n)
{
    return ir_ext(l->b, IR_zext, IR_I64, lift_type(l->in->opnd[n].size), lift_read(l, n));
}

static bool lift_mov_cr(struct lift *l, bool to)
{
    unsigned cr = l->in->opnd[to ? 0 : 1].reg, reg = l->in->opnd[to ? 1 : 0].reg;
    if (cr != 0 && cr != 2 && cr != 3 && cr != 4 && cr != 8) {
        return false;
    }
    if (!kernel(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    if (to) {
        lift_helper(l, HELPER_write_cr, lift_const(l, cr), wide(l, 1), IR_NONE);
    } else if (cr == 8) {
        lift_helper(l, HELPER_read_cr8, lift_const(l, reg), IR_NONE, IR_NONE);
    } else {
        ir_ref v = ir_getreg(l->b, IR_I64, XREG_CR0 + (cr ? cr - 1 : 0));
        lift_set_gpr(l, reg, l->in->mode == 8 ? 8 : 4, v);
    }
    return true;
}

static bool lift_mov_sys(struct lift *l)
{
    const struct x86_opnd *d = &l->in->opnd[0], *s = &l->in->opnd[1];
    if (d->kind == X86_OPND_CR || s->kind == X86_OPND_CR) {
        return lift_mov_cr(l, d->kind == X86_OPND_CR);
    }
    if (d->kind == X86_OPND_DR) {
        return privileged(l, HELPER_write_dr, lift_const(l, d->reg), wide(l, 1), IR_NONE);
    }
    if (s->kind == X86_OPND_DR) {
        return privileged(l, HELPER_read_dr, lift_const(l, s->reg), lift_const(l, d->reg),
                          lift_const(l, l->in->mode == 8 ? 8 : 4));
    }
    if (d->kind == X86_OPND_SEG) {
        if (d->reg == SEG_CS || d->reg > SEG_GS) {
            return false;
        }
        ir_ref sel = lift_read(l, 1);
        if (l->in->opnd[1].size != 2) {
            sel = ir_ext(l->b, IR_trunc, IR_I16, lift_type(l->in->opnd[1].size), sel);
        }
        lift_helper(l, HELPER_load_seg, lift_const(l, d->reg),
                    ir_ext(l->b, IR_zext, IR_I64, IR_I16, sel), IR_NONE);
        return true;
    }
    if (s->reg > SEG_GS) {
        return false;
    }
    ir_ref sel = ir_getreg(l->b, IR_I16, XREG_SEL + s->reg);
    lift_write(l, 0, d->size == 2 ? sel : ir_ext(l->b, IR_zext, lift_type(d->size), IR_I16, sel));
    return true;
}

static bool lift_load_far(struct lift *l)
{
    static const struct {
        uint16_t op;
        uint8_t seg;
    } segs[] = {{X86_LES, SEG_ES},
                {X86_LDS, SEG_DS},
                {X86_LSS, SEG_SS},
                {X86_LFS, SEG_FS},
                {X86_LGS, SEG_GS}};
    unsigned size = l->in->opsize, seg = 0;
    for (unsigned i = 0; i < ARRAY_LEN(segs); i++) {
        seg = segs[i].op == l->in->op ? segs[i].seg : seg;
    }
    struct ir_addr m = lift_mem(l, size + 2, RT_READ);
    ir_ref off = ir_ext(l->b, IR_zext, IR_I64, lift_type(size), ir_ld(l->b, lift_type(size), m));
    m.disp += (int32_t)size;
    ir_ref sel = ir_ext(l->b, IR_zext, IR_I64, IR_I16, ir_ld(l->b, IR_I16, m));
    uint64_t how = seg | (uint64_t)l->in->opnd[0].reg << 8 | (uint64_t)size << 16;
    lift_helper(l, HELPER_load_far, lift_const(l, how), sel, off);
    return true;
}

static bool umip_blocks(struct lift *l)
{
    return (l->mode & MODE_UMIP) && !kernel(l);
}

/* SLDT, STR, SMSW. */
static bool lift_store_word(struct lift *l)
{
    unsigned op = l->in->op;
    bool protected = (l->mode & MODE_PE) && !(l->mode & MODE_VM);
    if (op != X86_SMSW && !protected) {
        return false;
    }
    if (umip_blocks(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    unsigned reg = op == X86_SLDT ? XREG_LDTR_SEL : op == X86_STR ? XREG_TR_SEL : XREG_CR0;
    unsigned size = l->in->opnd[0].size;
    ir_ref v = ir_getreg(l->b, op == X86_SMSW ? lift_type(size) : IR_I16, reg);
    if (op != X86_SMSW && size != 2) {
        v = ir_ext(l->b, IR_zext, lift_type(size), IR_I16, v);
    }
    lift_write(l, 0, v);
    return true;
}

static bool lift_store_table(struct lift *l)
{
    if (umip_blocks(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    bool idt = l->in->op == X86_SIDT;
    unsigned size = l->in->mode == 8 ? 8 : 4;
    struct ir_addr m = lift_mem(l, size + 2, RT_WRITE), base = m;
    base.disp += 2;
    ir_ref limit = ir_getreg(l->b, IR_I16, idt ? XREG_IDT_LIMIT : XREG_GDT_LIMIT);
    ir_ref addr = ir_getreg(l->b, lift_type(size), idt ? XREG_IDT_BASE : XREG_GDT_BASE);
    ir_probew(l->b, lift_type(size), base);
    ir_st(l->b, IR_I16, m, limit);
    ir_st(l->b, lift_type(size), base, addr);
    return true;
}

static bool lift_load_table(struct lift *l)
{
    if (!kernel(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    unsigned size = l->in->mode == 8 ? 8 : 4;
    struct ir_addr m = lift_mem(l, size + 2, RT_READ);
    ir_ref limit = ir_ext(l->b, IR_zext, IR_I64, IR_I16, ir_ld(l->b, IR_I16, m));
    m.disp += 2;
    ir_ref base = ir_ext(l->b, IR_zext, IR_I64, lift_type(size), ir_ld(l->b, lift_type(size), m));
    if (l->in->opsize == 2 && size == 4) {
        base = ir_bin(l->b, IR_and, IR_I64, base, lift_const(l, 0xffffff));
    }
    lift_helper(l, HELPER_load_table, lift_const(l, l->in->op == X86_LIDT), base, limit);
    return true;
}

static bool lift_load_system(struct lift *l)
{
    if (!(l->mode & MODE_PE) || (l->mode & MODE_VM)) {
        return false;
    }
    if (!kernel(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    lift_helper(l, l->in->op == X86_LLDT ? HELPER_lldt : HELPER_ltr, wide(l, 0), IR_NONE, IR_NONE);
    return true;
}

static bool lift_inspect(struct lift *l)
{
    if (!(l->mode & MODE_PE) || (l->mode & MODE_VM)) {
        return false;
    }
    unsigned op = l->in->op, what = op == X86_LAR ? 0 : op == X86_LSL ? 1 : op == X86_VERR ? 2 : 3;
    ir_ref sel = wide(l, what < 2 ? 1 : 0);
    uint64_t how = what < 2 ? l->in->opnd[0].reg | (uint64_t)l->in->opsize << 8 : 0;
    lift_helper(l, HELPER_inspect, ir_bin(l->b, IR_and, IR_I64, sel, lift_const(l, 0xffff)),
                lift_const(l, what), lift_const(l, how));
    return true;
}

static bool lift_arpl(struct lift *l)
{
    if (!(l->mode & MODE_PE) || (l->mode & MODE_VM)) {
        return false;
    }
    ir_ref src = lift_read(l, 1);
    struct ir_addr m = {.base = IR_NONE, .index = IR_NONE};
    ir_ref dst = lift_read_rmw(l, 0, &m);
    ir_ref d = ir_ext(l->b, IR_zext, IR_I64, IR_I16, dst),
           s = ir_ext(l->b, IR_zext, IR_I64, IR_I16, src);
    unsigned reg = 255;
    if (l->in->opnd[0].kind == X86_OPND_MEM) {
        ir_ref rpl = ir_bin(l->b, IR_and, IR_I16, src, lift_const(l, 3));
        ir_ref own = ir_bin(l->b, IR_and, IR_I16, dst, lift_const(l, 3));
        ir_ref up = ir_bin(l->b, IR_or, IR_I16,
                           ir_bin(l->b, IR_and, IR_I16, dst, lift_const(l, 0xfffc)), rpl);
        ir_ref less = ir_bin(l->b, IR_setltu, IR_I16, own, rpl);
        ir_st(l->b, IR_I16, m, ir_tri(l->b, IR_selnz, IR_I16, less, up, dst));
    } else {
        reg = l->in->opnd[0].reg;
    }
    lift_helper(l, HELPER_arpl, d, s, lift_const(l, reg));
    return true;
}

static bool lift_lmsw(struct lift *l)
{
    ir_ref v = ir_bin(l->b, IR_and, IR_I64, wide(l, 0), lift_const(l, 0xf));
    ir_ref cr0 = ir_getreg(l->b, IR_I64, XREG_CR0); /* PE can be set, not cleared */
    ir_ref keep = ir_bin(l->b, IR_and, IR_I64, cr0, lift_const(l, ~0xeull));
    return privileged(l, HELPER_write_cr, lift_const(l, 0), ir_bin(l->b, IR_or, IR_I64, keep, v),
                      IR_NONE);
}

static bool lift_clts(struct lift *l)
{
    ir_ref v = ir_bin(l->b, IR_and, IR_I64, ir_getreg(l->b, IR_I64, XREG_CR0),
                      lift_const(l, ~(uint64_t)CR0_TS));
    return privileged(l, HELPER_write_cr, lift_const(l, 0), v, IR_NONE);
}

/* Linear address of a memory operand whose page may not even be there. */
static ir_ref linear(struct lift *l)
{
    unsigned seg = l->in->mem_seg;
    ir_ref off = lift_offset(l);
    if ((l->mode & MODE_CS64) && seg < SEG_FS) {
        return off;
    }
    return ir_bin(l->b, IR_add, IR_I64, ir_getreg(l->b, IR_I64, XREG_SEG_BASE + seg), off);
}

static bool lift_invlpg(struct lift *l)
{
    return privileged(l, HELPER_invlpg, linear(l), IR_NONE, IR_NONE);
}

static bool lift_invpcid(struct lift *l)
{
    return privileged(l, HELPER_invpcid, wide(l, 0), linear(l), IR_NONE);
}

static bool lift_swapgs(struct lift *l)
{
    if (!kernel(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    ir_ref gs = ir_getreg(l->b, IR_I64, XREG_SEG_BASE + SEG_GS);
    ir_ref other = ir_getreg(l->b, IR_I64, XREG_KERNEL_GS);
    ir_setreg(l->b, IR_I64, XREG_SEG_BASE + SEG_GS, other);
    ir_setreg(l->b, IR_I64, XREG_KERNEL_GS, gs);
    return true;
}

static bool lift_fsgsbase(struct lift *l)
{
    unsigned op = l->in->op;
    unsigned seg = op == X86_RDFSBASE || op == X86_WRFSBASE ? SEG_FS : SEG_GS;
    if (!(l->mode & MODE_FSGSBASE)) {
        return false;
    }
    if (op == X86_WRFSBASE || op == X86_WRGSBASE) {
        lift_helper(l, HELPER_write_base, lift_const(l, seg), wide(l, 0), IR_NONE);
    } else {
        lift_set_gpr(l, l->in->opnd[0].reg, l->in->opnd[0].size,
                     ir_getreg(l->b, IR_I64, XREG_SEG_BASE + seg));
    }
    return true;
}

static bool lift_smap(struct lift *l)
{
    if (!kernel(l)) {
        return false;
    }
    lift_helper(l, HELPER_set_ac, lift_const(l, l->in->op == X86_STAC), IR_NONE, IR_NONE);
    return true;
}

static bool lift_in(struct lift *l)
{
    ir_ref port = l->in->opnd[1].kind == X86_OPND_GPR
                      ? ir_ext(l->b, IR_zext, IR_I64, IR_I16, lift_gpr(l, RDX, 2))
                      : lift_const(l, (uint64_t)l->in->imm & 0xff);
    lift_helper(l, HELPER_in, port, lift_const(l, l->in->opnd[0].size), IR_NONE);
    return true;
}

static bool lift_out(struct lift *l)
{
    ir_ref port = l->in->opnd[0].kind == X86_OPND_GPR
                      ? ir_ext(l->b, IR_zext, IR_I64, IR_I16, lift_gpr(l, RDX, 2))
                      : lift_const(l, (uint64_t)l->in->imm & 0xff);
    unsigned size = l->in->opnd[1].size;
    lift_helper(l, HELPER_out, port, lift_const(l, size), lift_gpr(l, RAX, size));
    return true;
}

static bool lift_if(struct lift *l)
{
    bool sti = l->in->op == X86_STI;
    if (!sti && (l->mode & MODE_IO)) {
        ir_ref f = ir_getreg(l->b, IR_I64, XREG_SYS_FLAGS);
        ir_setreg(l->b, IR_I64, XREG_SYS_FLAGS,
                  ir_bin(l->b, IR_and, IR_I64, f, lift_const(l, ~(uint64_t)RF_IF)));
        return true;
    }
    lift_helper(l, sti ? HELPER_sti : HELPER_cli, IR_NONE, IR_NONE, IR_NONE);
    return true;
}

static bool lift_plain(struct lift *l)
{
    static const struct {
        uint16_t op;
        uint8_t helper, privileged, arg;
    } table[] = {
        {X86_HLT, HELPER_hlt, 1, 0},
        {X86_MWAIT, HELPER_mwait, 1, 0},
        {X86_RSM, HELPER_rsm, 0, 0},
        {X86_RDMSR, HELPER_rdmsr, 1, 0},
        {X86_WRMSR, HELPER_wrmsr, 1, 0},
        {X86_CPUID, HELPER_cpuid, 0, 0},
        {X86_RDTSC, HELPER_rdtsc, 0, 0},
        {X86_RDTSCP, HELPER_rdtsc, 0, 1},
        {X86_RDPMC, HELPER_rdpmc, 0, 0},
        {X86_SYSENTER, HELPER_sysenter, 0, 0},
        {X86_INVD, HELPER_flush_code, 1, 0},
        {X86_WBINVD, HELPER_flush_code, 1, 0},
        {X86_WBNOINVD, HELPER_flush_code, 1, 0},
        {X86_XGETBV, HELPER_xgetbv, 0, 0},
        {X86_XSETBV, HELPER_xsetbv, 1, 0},
        {X86_SERIALIZE, HELPER_flush_code, 0, 0},
        {X86_RDPKRU, HELPER_pkru, 0, 0},
        {X86_WRPKRU, HELPER_pkru, 0, 1},
    };
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].op == l->in->op) {
            if (table[i].privileged && !kernel(l)) {
                return lift_raise_error(l, EXC_GP, 0);
            }
            lift_helper(l, table[i].helper, lift_const(l, table[i].arg), IR_NONE, IR_NONE);
            return true;
        }
    }
    return false;
}

static bool lift_monitor(struct lift *l)
{
    if (!kernel(l)) {
        return false;
    }
    enum ir_type t = lift_type(l->in->addrsize);
    ir_ref off = ir_ext(l->b, IR_zext, IR_I64, t, ir_getreg(l->b, t, RAX));
    struct ir_addr m = lift_mem_at(l, l->in->mem_seg, off, 1, RT_READ);
    lift_helper(l, HELPER_monitor, ir_lea(l->b, IR_I64, m), IR_NONE, IR_NONE);
    return true;
}

static bool lift_syscall(struct lift *l)
{
    lift_helper(l, HELPER_syscall, lift_pc(l, l->next, 8), IR_NONE, IR_NONE);
    return true;
}

static bool lift_sysret(struct lift *l)
{
    enum x86_helper h = l->in->op == X86_SYSRET ? HELPER_sysret : HELPER_sysexit;
    lift_helper(l, h, lift_const(l, l->in->rex_w ? 8 : 4), IR_NONE, IR_NONE);
    return true;
}

static bool lift_cmpxchg_pair(struct lift *l)
{
    unsigned half = l->in->op == X86_CMPXCHG16B ? 8 : 4;
    struct ir_addr m = lift_mem(l, half * 2, RT_READ | RT_WRITE);
    lift_helper(l, HELPER_cmpxchg_pair, ir_lea(l->b, IR_I64, m), lift_const(l, half), IR_NONE);
    return true;
}

static bool lift_rdrand(struct lift *l)
{
    lift_helper(l, HELPER_rdrand, lift_const(l, l->in->opnd[0].reg),
                lift_const(l, l->in->opnd[0].size), IR_NONE);
    return true;
}

static bool lift_rdpid(struct lift *l)
{
    lift_set_gpr(l, l->in->opnd[0].reg, l->in->opnd[0].size, ir_getreg(l->b, IR_I64, XREG_TSC_AUX));
    return true;
}

static bool fpu_off(const struct lift *l)
{
    return l->mode & MODE_NM_FPU;
}

static bool lift_state(struct lift *l)
{
    static const struct {
        uint16_t op;
        uint8_t kind, restore;
    } table[] = {
        {X86_FXSAVE, STATE_FXSAVE, 0},     {X86_FXRSTOR, STATE_FXSAVE, 1},
        {X86_XSAVE, STATE_XSAVE, 0},       {X86_XRSTOR, STATE_XSAVE, 1},
        {X86_XSAVEOPT, STATE_XSAVEOPT, 0}, {X86_XSAVEC, STATE_XSAVEC, 0},
        {X86_XSAVES, STATE_XSAVES, 0},     {X86_XRSTORS, STATE_XSAVES, 1},
    };
    unsigned i = 0;
    while (i < ARRAY_LEN(table) - 1 && table[i].op != l->in->op) {
        i++;
    }
    if (table[i].kind == STATE_XSAVES && !kernel(l)) {
        return lift_raise_error(l, EXC_GP, 0);
    }
    if (l->mode & MODE_TS || (table[i].kind == STATE_FXSAVE && fpu_off(l))) {
        return lift_raise(l, EXC_NM);
    }
    unsigned least = table[i].kind == STATE_FXSAVE ? 512 : 576;
    ir_ref va = ir_lea(l->b, IR_I64, lift_mem(l, least, table[i].restore ? RT_READ : RT_WRITE));
    lift_helper(l, table[i].restore ? HELPER_restore_state : HELPER_save_state, va,
                lift_const(l, table[i].kind), lift_const(l, l->in->rex_w));
    return true;
}

static bool lift_mxcsr(struct lift *l)
{
    if (!(l->mode & MODE_SSE)) {
        return false;
    }
    if (l->mode & MODE_TS) {
        return lift_raise(l, EXC_NM);
    }
    if (l->in->op == X86_STMXCSR) {
        ir_ref va = ir_lea(l->b, IR_I64, lift_mem(l, 4, RT_WRITE));
        lift_helper(l, HELPER_ldmxcsr, va, lift_const(l, 1), IR_NONE);
        return true;
    }
    ir_ref v = wide(l, 0);
    lift_helper(l, HELPER_ldmxcsr, v, lift_const(l, 0), IR_NONE);
    return true;
}

x86_lift_fn *const x86_lift_sys[X86_OP_COUNT] = {
    [X86_MOV] = lift_mov_sys,
    [X86_LES] = lift_load_far,
    [X86_LDS] = lift_load_far,
    [X86_LSS] = lift_load_far,
    [X86_LFS] = lift_load_far,
    [X86_LGS] = lift_load_far,
    [X86_SLDT] = lift_store_word,
    [X86_STR] = lift_store_word,
    [X86_SMSW] = lift_store_word,
    [X86_SGDT] = lift_store_table,
    [X86_SIDT] = lift_store_table,
    [X86_LGDT] = lift_load_table,
    [X86_LIDT] = lift_load_table,
    [X86_LLDT] = lift_load_system,
    [X86_LTR] = lift_load_system,
    [X86_LAR] = lift_inspect,
    [X86_LSL] = lift_inspect,
    [X86_VERR] = lift_inspect,
    [X86_VERW] = lift_inspect,
    [X86_ARPL] = lift_arpl,
    [X86_LMSW] = lift_lmsw,
    [X86_CLTS] = lift_clts,
    [X86_INVLPG] = lift_invlpg,
    [X86_INVPCID] = lift_invpcid,
    [X86_SWAPGS] = lift_swapgs,
    [X86_RDFSBASE] = lift_fsgsbase,
    [X86_RDGSBASE] = lift_fsgsbase,
    [X86_WRFSBASE] = lift_fsgsbase,
    [X86_WRGSBASE] = lift_fsgsbase,
    [X86_STAC] = lift_smap,
    [X86_CLAC] = lift_smap,
    [X86_IN] = lift_in,
    [X86_OUT] = lift_out,
    [X86_CLI] = lift_if,
    [X86_STI] = lift_if,
    [X86_HLT] = lift_plain,
    [X86_RSM] = lift_plain,
    [X86_MWAIT] = lift_plain,
    [X86_RDMSR] = lift_plain,
    [X86_WRMSR] = lift_plain,
    [X86_CPUID] = lift_plain,
    [X86_RDTSC] = lift_plain,
    [X86_RDTSCP] = lift_plain,
    [X86_RDPMC] = lift_plain,
    [X86_SYSENTER] = lift_plain,
    [X86_INVD] = lift_plain,
    [X86_WBINVD] = lift_plain,
    [X86_WBNOINVD] = lift_plain,
    [X86_XGETBV] = lift_plain,
    [X86_XSETBV] = lift_plain,
    [X86_SERIALIZE] = lift_plain,
    [X86_RDPKRU] = lift_plain,
    [X86_WRPKRU] = lift_plain,
    [X86_MONITOR] = lift_monitor,
    [X86_SYSCALL] = lift_syscall,
    [X86_SYSRET] = lift_sysret,
    [X86_SYSEXIT] = lift_sysret,
    [X86_CMPXCHG8B] = lift_cmpxchg_pair,
    [X86_CMPXCHG16B] = lift_cmpxchg_pair,
    [X86_RDRAND] = lift_rdrand,
    [X86_RDSEED] = lift_rdrand,
    [X86_RDPID] = lift_rdpid,
    [X86_FXSAVE] = lift_state,
    [X86_FXRSTOR] = lift_state,
    [X86_XSAVE] = lift_state,
    [X86_XRSTOR] = lift_state,
    [X86_XSAVEOPT] = lift_state,
    [X86_XSAVEC] = lift_state,
    [X86_XSAVES] = lift_state,
    [X86_XRSTORS] = lift_state,
    [X86_LDMXCSR] = lift_mxcsr,
    [X86_STMXCSR] = lift_mxcsr,
};
