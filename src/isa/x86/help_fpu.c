/*
 * State of the FPU and the vector registers in memory: FXSAVE, XSAVE, FNSAVE and their kin (Intel
 * SDM Vol. 1 8.1.10, 10.5, 13.4). The x87 registers themselves live with the accelerator
 * (rt_mem_ops.fpu_get, fpu_set), in the 512-byte layout of FXSAVE.
 *
 * The instruction and data pointers are kept as zero. State components: x87, SSE, AVX.
 */
#include <string.h>

#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"

#define FX_MXCSR 24
#define FX_MXCSR_MASK 28
#define FX_ST 32
#define FX_XMM 160
#define XS_HEADER 512
#define XS_YMM 576
#define XS_SIZE 832

static struct x86_cpu *cpu_of(struct rt_env *env)
{
    return (struct x86_cpu *)env;
}

static uint16_t word_at(const uint8_t *p, unsigned off)
{
    return (uint16_t)(p[off] | p[off + 1] << 8);
}

static void put_word(uint8_t *p, unsigned off, unsigned v)
{
    p[off] = (uint8_t)v;
    p[off + 1] = (uint8_t)(v >> 8);
}

/* x87 part of the FXSAVE image with the guest's own control word and the summary by it (Vol. 1
 * 8.1.3.3); pointers zero. */
void x86_get_x87(struct x86_cpu *c, uint8_t fx[512])
{
    c->rt.mem->fpu_get(&c->rt, fx);
    unsigned sw = word_at(fx, 2) & ~(unsigned)(FSW_ES | FSW_B);
    put_word(fx, 0, c->x87_cw);
    put_word(fx, 2, sw & ~(unsigned)c->x87_cw & FP_ALL ? sw | FSW_ES | FSW_B : sw);
    memset(fx + 6, 0, 18);
}

/* The host's masks are all set and there is no summary. */
void x86_set_x87(struct x86_cpu *c, uint8_t fx[512])
{
    uint16_t cw = (uint16_t)((word_at(fx, 0) & 0x1f3f) | 0x40); /* reserved bits: Vol. 1 8.1.5 */
    put_word(fx, 0, cw | FP_ALL);
    put_word(fx, 2, word_at(fx, 2) & ~(unsigned)(FSW_ES | FSW_B));
    c->rt.mem->fpu_set(&c->rt, fx);
    x86_set_x87_cw(c, cw);
}

static void get_sse(const struct x86_cpu *c, uint8_t *fx)
{
    for (unsigned i = 0; i < (x86_long_code(c) ? 16u : 8u); i++) {
        memcpy(fx + FX_XMM + i * 16, c->vec[i], 16);
    }
}

static void set_sse(struct x86_cpu *c, const uint8_t *fx)
{
    for (unsigned i = 0; i < (x86_long_code(c) ? 16u : 8u); i++) {
        memcpy(c->vec[i], fx + FX_XMM + i * 16, 16);
    }
}

static void put_mxcsr(const struct x86_cpu *c, uint8_t *fx)
{
    uint32_t v = (uint32_t)c->mxcsr, mask = 0xffff;
    memcpy(fx + FX_MXCSR, &v, 4);
    memcpy(fx + FX_MXCSR_MASK, &mask, 4);
}

static bool read_area(struct x86_cpu *c, uint64_t va, uint8_t *buf, unsigned len)
{
    for (unsigned i = 0; i < len; i += 64) {
        if (!vmem_read(c->rt.vcpu, va + i, c->rt.mmu_idx, 64, buf + i)) {
            return false;
        }
    }
    return true;
}

static bool write_area(struct x86_cpu *c, uint64_t va, const uint8_t *buf, unsigned off,
                       unsigned len)
{
    for (unsigned i = 0; i < len;) {
        unsigned n = len - i < 64 ? len - i : 64;
        if (!vmem_write(c->rt.vcpu, va + off + i, c->rt.mmu_idx, n, buf + off + i)) {
            return false;
        }
        i += n;
    }
    return true;
}

static enum ir_helper_result fxsave(struct x86_cpu *c, uint64_t va)
{
    uint8_t fx[512] = {0};
    if (va & 15) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    void *host;
    if (vmem_span(c->rt.vcpu, va + 511, c->rt.mmu_idx, 1, RT_WRITE, &host) < 0) {
        return IR_HELPER_FAULT; /* the unused end must be there, too */
    }
    x86_get_x87(c, fx);
    memset(fx + FX_XMM, 0, 512 - FX_XMM);
    put_mxcsr(c, fx);
    get_sse(c, fx);
    /* registers that the mode does not have are left out */
    return write_area(c, va, fx, 0, x86_long_code(c) ? 416 : 288) ? IR_HELPER_NEXT
                                                                  : IR_HELPER_FAULT;
}

static enum ir_helper_result fxrstor(struct x86_cpu *c, uint64_t va)
{
    uint8_t fx[512] __attribute__((aligned(16)));
    uint32_t mxcsr;
    if (va & 15) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if (!read_area(c, va, fx, 512)) {
        return IR_HELPER_FAULT;
    }
    memcpy(&mxcsr, fx + FX_MXCSR, 4);
    if (mxcsr >> 16) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    x86_set_x87(c, fx);
    x86_set_mxcsr(c, mxcsr);
    set_sse(c, fx);
    return IR_HELPER_NEXT;
}

/* x87 in its initial state? It then need not be written by XSAVEOPT and XSAVEC. */
static bool x87_initial(const uint8_t *fx)
{
    static const uint8_t zero[128];
    if (word_at(fx, 0) != 0x37f || word_at(fx, 2) || fx[4]) {
        return false;
    }
    for (unsigned i = 0; i < 8; i++) {
        if (memcmp(fx + FX_ST + i * 16, zero, 10)) {
            return false;
        }
    }
    return true;
}

static bool vec_zero(const struct x86_cpu *c, unsigned off)
{
    static const uint8_t zero[16];
    for (unsigned i = 0; i < 16; i++) {
        if (memcmp(c->vec[i] + off, zero, 16)) {
            return false;
        }
    }
    return true;
}

/* Components in use (Vol. 1 13.6). */
static uint64_t in_use(const struct x86_cpu *c, const uint8_t *fx)
{
    return (x87_initial(fx) ? 0u : 1u) | (vec_zero(c, 0) ? 0u : 2u) | (vec_zero(c, 16) ? 0u : 4u) |
           (c->cur_pkru ? XCR0_PKRU : 0u);
}

/* Where PKRU is in an area (Vol. 1 13.4.2, 13.4.3); `comp`: the components of a compacted one. */
static unsigned pkru_at(bool compact, uint64_t comp)
{
    return !compact ? XS_PKRU : comp & 4 ? XS_YMM + 256 : XS_YMM;
}

static enum ir_helper_result xsave(struct x86_cpu *c, uint64_t va, enum x86_state_kind kind)
{
    uint8_t xs[XS_SIZE] = {0};
    uint64_t rfbm = ((uint32_t)c->rt.reg[RAX] | c->rt.reg[RDX] << 32) & c->xcr0;
    bool compact = kind == STATE_XSAVEC || kind == STATE_XSAVES;
    if (!(c->cr4 & CR4_OSXSAVE)) {
        return x86_raise(c, EXC_UD);
    }
    if (va & 63) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    x86_get_x87(c, xs);
    uint64_t used = in_use(c, xs), old[8] = {0}, put = rfbm;
    if (kind != STATE_XSAVE) {
        put &= used;
    }
    memset(xs + FX_XMM, 0, sizeof(xs) - FX_XMM);
    put_mxcsr(c, xs);
    get_sse(c, xs);
    unsigned n = x86_long_code(c) ? 16 : 8;
    for (unsigned i = 0; i < n; i++) {
        memcpy(xs + XS_YMM + i * 16, c->vec[i] + 16, 16);
    }
    if (!vmem_read(c->rt.vcpu, va + XS_HEADER, c->rt.mmu_idx, 64, old)) {
        return IR_HELPER_FAULT;
    }
    old[0] = compact ? rfbm & used : (old[0] & ~rfbm) | (rfbm & used);
    if (compact) {
        old[1] = BIT(63) | rfbm;
        memset(old + 2, 0, 48);
    }
    memcpy(xs + XS_HEADER, old, 64);
    bool ok = !(put & 1) || (write_area(c, va, xs, 0, 24) && write_area(c, va, xs, 32, 128));
    ok = ok && (!(rfbm & 6) || write_area(c, va, xs, 24, 8));
    ok = ok && (!(put & 2) || write_area(c, va, xs, FX_XMM, 16 * n));
    ok = ok && (!(put & 4) || write_area(c, va, xs, XS_YMM, 16 * n));
    if (put & XCR0_PKRU) {
        uint64_t pkru = c->cur_pkru;
        ok = ok && vmem_write(c->rt.vcpu, va + pkru_at(compact, rfbm), c->rt.mmu_idx, 8, &pkru);
    }
    ok = ok && write_area(c, va, xs, XS_HEADER, compact ? 64 : 8);
    return ok ? IR_HELPER_NEXT : IR_HELPER_FAULT;
}

static void init_x87(struct x86_cpu *c)
{
    uint8_t fx[512] = {0x7f, 0x03};
    fx[FX_MXCSR] = 0x80;
    fx[FX_MXCSR + 1] = 0x1f;
    x86_set_x87(c, fx);
}

static enum ir_helper_result xrstor(struct x86_cpu *c, uint64_t va)
{
    uint8_t xs[XS_SIZE + 64] __attribute__((aligned(64)));
    uint64_t header[8], rfbm = ((uint32_t)c->rt.reg[RAX] | c->rt.reg[RDX] << 32) & c->xcr0;
    uint32_t mxcsr;
    if (!(c->cr4 & CR4_OSXSAVE)) {
        return x86_raise(c, EXC_UD);
    }
    if ((va & 63) || !read_area(c, va, xs, 576)) {
        return va & 63 ? x86_raise_error(c, EXC_GP, 0) : IR_HELPER_FAULT;
    }
    memcpy(header, xs + XS_HEADER, 64);
    bool compact = header[1] >> 63;
    uint64_t bv = header[0], comp = header[1] & ~BIT(63);
    uint64_t bad = compact ? (bv & ~comp) | (comp & ~c->xcr0) : header[1]; /* 13.8.1, 13.8.2 */
    for (unsigned i = 2; i < (compact ? 8 : 3); i++) {
        bad |= header[i];
    }
    memcpy(&mxcsr, xs + FX_MXCSR, 4);
    bool uses_mxcsr = compact ? rfbm & 2 : rfbm & 6;
    if ((bv & ~c->xcr0) || bad || (uses_mxcsr && mxcsr >> 16)) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    if ((rfbm & bv & 4) && !read_area(c, va + XS_YMM, xs + XS_YMM, 256)) {
        return IR_HELPER_FAULT;
    }
    uint64_t pkru = 0;
    if ((rfbm & bv & XCR0_PKRU) &&
        !vmem_read(c->rt.vcpu, va + pkru_at(compact, comp), c->rt.mmu_idx, 8, &pkru)) {
        return IR_HELPER_FAULT;
    }
    unsigned n = x86_long_code(c) ? 16 : 8;
    if (rfbm & XCR0_PKRU) {
        x86_set_pkru(c, (uint32_t)pkru);
    }
    if (rfbm & 1) {
        bv & 1 ? x86_set_x87(c, xs) : init_x87(c);
    }
    if (uses_mxcsr) {
        x86_set_mxcsr(c, compact && !(bv & 2) ? 0x1f80 : mxcsr);
    }
    for (unsigned i = 0; i < n; i++) {
        if (rfbm & 2) {
            bv & 2 ? memcpy(c->vec[i], xs + FX_XMM + i * 16, 16) : memset(c->vec[i], 0, 16);
        }
        if (rfbm & 4) {
            bv & 4 ? memcpy(c->vec[i] + 16, xs + XS_YMM + i * 16, 16)
                   : memset(c->vec[i] + 16, 0, 16);
        }
    }
    return IR_HELPER_NEXT;
}

/* a: address, b: enum x86_state_kind */
enum ir_helper_result helper_save_state(struct rt_env *env, uint64_t va, uint64_t kind, uint64_t w)
{
    return kind == STATE_FXSAVE ? fxsave(cpu_of(env), va)
                                : xsave(cpu_of(env), va, (enum x86_state_kind)kind);
}

enum ir_helper_result helper_restore_state(struct rt_env *env, uint64_t va, uint64_t kind,
                                           uint64_t w)
{
    return kind == STATE_FXSAVE ? fxrstor(cpu_of(env), va) : xrstor(cpu_of(env), va);
}

enum ir_helper_result helper_xgetbv(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint32_t n = (uint32_t)env->reg[RCX];
    if (!(c->cr4 & CR4_OSXSAVE)) {
        return x86_raise(c, EXC_UD);
    }
    if (n > 1) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    uint64_t v = c->xcr0;
    if (n == 1) {
        uint8_t fx[512];
        x86_get_x87(c, fx);
        v &= in_use(c, fx);
    }
    env->reg[RAX] = (uint32_t)v;
    env->reg[RDX] = v >> 32;
    return IR_HELPER_NEXT;
}

enum ir_helper_result helper_xsetbv(struct rt_env *env, uint64_t a, uint64_t b, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    uint64_t v = (uint32_t)env->reg[RAX] | env->reg[RDX] << 32;
    if (!(c->cr4 & CR4_OSXSAVE)) {
        return x86_raise(c, EXC_UD);
    }
    if ((uint32_t)env->reg[RCX] || !(v & 1) || (v & ~x86_xcr0_known(c)) || (v & 6) == 4) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    c->xcr0 = v;
    x86_mode_changed(c);
    return IR_HELPER_NEXT;
}

/* LDMXCSR: a: value. STMXCSR: a: address, b: 1. */
enum ir_helper_result helper_ldmxcsr(struct rt_env *env, uint64_t v, uint64_t store, uint64_t d)
{
    struct x86_cpu *c = cpu_of(env);
    if (store) {
        uint32_t now = (uint32_t)c->mxcsr;
        return vmem_write(env->vcpu, v, env->mmu_idx, 4, &now) ? IR_HELPER_NEXT : IR_HELPER_FAULT;
    }
    if (v >> 16) {
        return x86_raise_error(c, EXC_GP, 0);
    }
    x86_set_mxcsr(c, (uint32_t)v);
    return IR_HELPER_NEXT;
}

/* Two tag bits of a register from its contents (Vol. 1 8.1.7). */
static unsigned tag_of(const uint8_t *st)
{
    unsigned exp = word_at(st, 8) & 0x7fff;
    uint64_t m;
    memcpy(&m, st, 8);
    if (exp == 0 && m == 0) {
        return 1;
    }
    return exp == 0 || exp == 0x7fff || !(m >> 63) ? 2 : 0;
}

/* Changes TOP in an image whose registers are in stack order; the registers themselves stay. */
void x86_fx_move_top(uint8_t fx[512], unsigned top)
{
    uint8_t st[128];
    unsigned by = top - (word_at(fx, 2) >> 11 & 7);
    memcpy(st, fx + FX_ST, 128);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(fx + FX_ST + i * 16, st + ((i + by) & 7) * 16, 16);
    }
    put_word(fx, 2, (word_at(fx, 2) & ~0x3800u) | top << 11);
}

/* FNINIT: all registers are empty, but keep what they held. */
static void fninit(struct x86_cpu *c, uint8_t fx[512])
{
    x86_fx_move_top(fx, 0);
    put_word(fx, 0, 0x37f);
    put_word(fx, 2, 0);
    fx[4] = 0;
    x86_set_x87(c, fx);
}

/* The environment: seven words of 2 or 4 bytes. */
static void make_env(const uint8_t *fx, uint8_t *out, unsigned word)
{
    unsigned top = word_at(fx, 2) >> 11 & 7, tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned t = fx[4] >> i & 1 ? tag_of(fx + FX_ST + ((i - top) & 7) * 16) : 3;
        tags |= t << 2 * i;
    }
    memset(out, 0, word * 7);
    put_word(out, 0, word_at(fx, 0));
    put_word(out, word, word_at(fx, 2));
    put_word(out, word * 2, tags);
    if (word == 4) {
        put_word(out, 2, 0xffff);
        put_word(out, 6, 0xffff);
        put_word(out, 10, 0xffff);
        put_word(out, 26, 0xffff);
    }
}

static void take_env(uint8_t *fx, const uint8_t *in, unsigned word)
{
    unsigned tags = word_at(in, word * 2), abridged = 0;
    for (unsigned i = 0; i < 8; i++) {
        abridged |= (tags >> 2 * i & 3) != 3 ? 1u << i : 0;
    }
    x86_fx_move_top(fx, word_at(in, word) >> 11 & 7);
    put_word(fx, 0, word_at(in, 0));
    put_word(fx, 2, word_at(in, word));
    fx[4] = (uint8_t)abridged;
}

static bool copy_in(struct x86_cpu *c, uint64_t va, uint8_t *buf, unsigned len)
{
    for (unsigned i = 0; i < len; i += 2) {
        if (!vmem_read(c->rt.vcpu, va + i, c->rt.mmu_idx, 2, buf + i)) {
            return false;
        }
    }
    return true;
}

/* a: address, b: enum x86_fpu_env, c: operand size (2: 16-bit layout) */
enum ir_helper_result helper_fpu_env(struct rt_env *env, uint64_t va, uint64_t what,
                                     uint64_t opsize)
{
    struct x86_cpu *c = cpu_of(env);
    uint8_t fx[512] __attribute__((aligned(16))), buf[128];
    unsigned word = opsize == 2 ? 2 : 4, len = word * 7;
    x86_get_x87(c, fx);
    switch ((enum x86_fpu_env)what) {
    case FPU_INIT: fninit(c, fx); return IR_HELPER_NEXT;
    case FPU_LDCW:
        if (!vmem_read(env->vcpu, va, env->mmu_idx, 2, fx)) {
            return IR_HELPER_FAULT;
        }
        x86_set_x87(c, fx);
        return IR_HELPER_NEXT;
    case FPU_STCW:
        return vmem_write(env->vcpu, va, env->mmu_idx, 2, fx) ? IR_HELPER_NEXT : IR_HELPER_FAULT;
    case FPU_STSW:
        return vmem_write(env->vcpu, va, env->mmu_idx, 2, fx + 2) ? IR_HELPER_NEXT
                                                                  : IR_HELPER_FAULT;
    case FPU_STSW_AX:
        env->reg[RAX] = (env->reg[RAX] & ~0xffffull) | word_at(fx, 2);
        return IR_HELPER_NEXT;
    case FPU_STENV:
    case FPU_SAVE:
        make_env(fx, buf, word);
        for (unsigned i = 0; what == FPU_SAVE && i < 8; i++, len += 10) {
            memcpy(buf + len, fx + FX_ST + i * 16, 10);
        }
        if (!write_area(c, va, buf, 0, len)) {
            return IR_HELPER_FAULT;
        }
        if (what == FPU_SAVE) {
            fninit(c, fx);
        } else { /* FNSTENV masks all exceptions */
            put_word(fx, 0, word_at(fx, 0) | 0x3f);
            x86_set_x87(c, fx);
        }
        return IR_HELPER_NEXT;
    case FPU_LDENV:
    case FPU_RSTOR:
        len += what == FPU_RSTOR ? 80 : 0;
        if (!copy_in(c, va, buf, len)) {
            return IR_HELPER_FAULT;
        }
        take_env(fx, buf, word);
        for (unsigned i = 0; what == FPU_RSTOR && i < 8; i++) {
            memcpy(fx + FX_ST + i * 16, buf + word * 7 + i * 10, 10);
        }
        x86_set_x87(c, fx);
        return IR_HELPER_NEXT;
    }
    return IR_HELPER_NEXT;
}
