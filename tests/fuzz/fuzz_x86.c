/*
 * x86 code: any bytes in any mode decode, lift to IR that verifies, optimize, translate, and run
 * on the interpreter in a sandbox without an accelerator. Input: state, registers, code.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "core/tlb_ops.h"
#include "ir/host.h"
#include "ir/interp.h"
#include "isa/x86/cpu.h"
#include "isa/x86/helpers.h"
#include "isa/x86/sys.h"
#include "jit/codemem.h"
#include "loop/clock.h"
#include "loop/loop.h"
#include "tests/fuzz/fuzz.h"

#define MEM_SIZE 0x10000u

static struct sandbox {
    struct vcpu vcpu;
    struct machine machine;
    struct codemem cm;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct ir_buf buf;
    uint8_t mem[MEM_SIZE + 64];
} * box;

/* ---- What the CPU asks of an accelerator: 64 KiB of memory that repeats, holes in between ---- */

static bool hole(struct rt_env *env, gva_t va, unsigned size)
{
    if (((va + size - 1) >> 16 & 7) == 7 || (va >> 16 & 7) == 7) {
        env->fault = (struct rt_fault){
            .kind = RT_FAULT_GUEST, .vector = EXC_PF, .has_error = true, .addr = va};
        return true;
    }
    return false;
}

bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    if (hole(v->env, va, size)) {
        return false;
    }
    memcpy(val, box->mem + (va & (MEM_SIZE - 1)), size);
    return true;
}

bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    if (hole(v->env, va, size)) {
        return false;
    }
    memcpy(box->mem + (va & (MEM_SIZE - 1)), val, size);
    return true;
}

int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1));
    if (hole(v->env, va, 1)) {
        return -1;
    }
    *host = box->mem + (va & (MEM_SIZE - 1));
    return (int)(len < left ? len : left);
}

bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    memcpy(val, box->mem + (gpa & (MEM_SIZE - 1)), 8);
    return true;
}

bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    memcpy(val, box->mem + (gpa & (MEM_SIZE - 1)), 4);
    return true;
}

bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    return true;
}

static bool resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    *host = NULL;
    return !hole(env, va, size);
}

static bool slow_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    return vmem_read(env->vcpu, va, 0, size, val);
}

static bool slow_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    return vmem_write(env->vcpu, va, 0, size, val);
}

static void no_lock(struct rt_env *env)
{
}

static bool run_vec(struct rt_env *env, const struct ir_vec *vec, void *mem, uint64_t in,
                    uint64_t *result)
{
    if (box->host->vec_run(env, vec, mem, in, result)) {
        return true;
    }
    env->fault = (struct rt_fault){.kind = RT_FAULT_ILLEGAL};
    return false;
}

static void fpu_get(struct rt_env *env, uint8_t fx[512])
{
    box->host->fpu_get(env, fx);
}

static void fpu_set(struct rt_env *env, const uint8_t fx[512])
{
    box->host->fpu_set(env, fx);
}

static const struct rt_mem_ops mem_ops = {
    .resolve = resolve,
    .slow_read = slow_read,
    .slow_write = slow_write,
    .lock_begin = no_lock,
    .lock_end = no_lock,
    .vec = run_vec,
    .fpu_get = fpu_get,
    .fpu_set = fpu_set,
};

/* ---- One input ---- */

static void open_box(void)
{
    struct err err;
    box = aligned_alloc(64, (sizeof(*box) + 63) & ~63ul);
    memset(box, 0, sizeof(*box));
    struct vcpu *v = &box->vcpu;
    v->isa = &isa_x86;
    v->machine = &box->machine;
    v->env = aligned_alloc(64, (isa_x86.env_size + 63) & ~63ul);
    v->mem = mem_map_new("memory", 0);
    v->io = mem_map_new("io", 0x10000);
    pthread_mutex_init(&box->machine.lock, NULL);
    box->machine.loop = loop_new(&err);
    box->machine.clock = clock_new_virtual();
    log_open("/dev/null", &err); /* register dumps of triple faults */
    memset(v->env, 0, isa_x86.env_size);
    box->host = ir_host_native();
    if (!box->host || isa_x86.cpu_init(v, "max", &err) ||
        codemem_open(&box->cm, 4 * CODEMEM_ARENA, &err)) {
        abort();
    }
    struct ir_host_config cfg = {
        .guest = isa_x86.guest, .code_lo = box->cm.rx, .code_hi = box->cm.rx + box->cm.size};
    box->ctx = box->host->open(&cfg, &box->cm.cur, &err);
    codemem_keep(&box->cm);
    for (unsigned i = 0; i < RT_MODES * RT_TLB_SIZE; i++) {
        struct rt_tlb_entry *e = &v->env->tlb[i / RT_TLB_SIZE][i % RT_TLB_SIZE];
        e->tag_r = e->tag_w = rt_tlb_invalid(i % RT_TLB_SIZE);
    }
    v->env->vcpu = v;
    v->env->mem = &mem_ops;
    if (!box->ctx || ir_host_signals(&err) || box->host->attach(box->ctx, v->env, &err)) {
        abort();
    }
}

static void set_segments(struct x86_cpu *c, unsigned how)
{
    bool cs_long = how & 1, cs32 = how & 2, ss32 = how & 4, flat = how & 8;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        uint16_t ar = AR_P | AR_S | AR_A | AR_W | (i == SEG_CS ? AR_CODE : 0);
        ar |= i == SEG_CS ? cs32 && !cs_long ? AR_DB : 0 : ss32 ? AR_DB : 0;
        ar |= i == SEG_CS && cs_long && (c->efer & EFER_LMA) ? AR_L : 0;
        c->seg[i] = (struct x86_segment){
            .sel = (uint16_t)(i * 8 + 8), .ar = ar, .limit = flat ? 0xffffffff : 0xffff};
        c->seg_base[i] = flat ? 0 : i * 0x1000;
    }
}

/* A state the manual allows, so that the mode word is one that can be. True: and through a save
 * area of system management mode, which is the guest's to write. */
static bool set_state(struct fuzz_in *in)
{
    struct x86_cpu *c = x86_cpu(&box->vcpu);
    unsigned how = fuzz_u8(in), segs = fuzz_u8(in), more = fuzz_u8(in);
    isa_x86.cpu_reset(&box->vcpu);
    bool pe = how & 1, lma = pe && (how & 2), vm = pe && !lma && (how & 4);
    c->cr0 = CR0_ET | (pe ? CR0_PE : 0) | (lma ? CR0_PG : 0) | (how & 8 ? CR0_TS : 0) |
             (how & 16 ? CR0_EM : 0);
    c->cr4 = (lma ? CR4_PAE : 0) | (more & 1 ? CR4_OSFXSR | CR4_OSXMMEXCPT : 0) |
             (more & 2 ? CR4_OSXSAVE : 0) | (more & 4 ? CR4_FSGSBASE : 0) |
             (more & 8 ? CR4_UMIP : 0) | (more & 16 ? CR4_TSD : 0) | (more & 32 ? CR4_DE : 0);
    c->xcr0 = more & 64 ? 7 : 1;
    c->efer = (lma ? EFER_LME | EFER_LMA : 0) | (more & 128 ? EFER_SCE : 0);
    c->cpl = (uint8_t)(vm ? 3 : pe ? how >> 5 & 3 : 0);
    c->sys_flags = (vm ? RF_VM : 0) | (how & 128 ? RF_IOPL : 0) | (segs & 16 ? RF_IF : 0) |
                   (segs & 32 ? RF_DF : 0) | (segs & 64 ? RF_TF : 0);
    set_segments(c, segs);
    c->tr = (struct x86_segment){.limit = 0x67, .ar = AR_P | 11, .base = 0x2000};
    c->idtr = c->gdtr = (struct x86_table){.base = 0x3000, .limit = 0xfff};
    for (unsigned i = 0; i < 16; i++) {
        unsigned kind = fuzz_u8(in);
        c->rt.reg[i] = kind < 128 ? kind * 8u : kind < 192 ? fuzz_u16(in) : fuzz_u64(in);
    }
    c->rt.flags = rt_flags_pack(fuzz_u16(in));
    x86_mode_changed(c);
    return !pe && (how & 4);
}

/* False: RSM did not believe it. */
static bool through_smm(struct fuzz_in *in)
{
    enum { SAVE = 0xfe00, SAVE_SIZE = 0x200 };
    struct x86_cpu *c = x86_cpu(&box->vcpu);
    x86_smm_enter(c);
    for (unsigned n = fuzz_u8(in) & 31; n; n--) {
        unsigned at = fuzz_u16(in) & (SAVE_SIZE - 1);
        box->mem[SAVE + at] = fuzz_u8(in);
    }
    helper_rsm(box->vcpu.env, 0, 0, 0);
    bool on = box->machine.request == MACHINE_REQ_NONE;
    box->machine.request = MACHINE_REQ_NONE;
    c->smbase = 0x30000;
    return on;
}

static void must_verify(const struct ir_block *b, const char *when)
{
    struct err err;
    if (ir_verify(b, &err)) {
        struct strbuf sb = {0};
        ir_print(&sb, b);
        fprintf(stderr, "%s: %s\n%s", when, err.text, strbuf_text(&sb));
        abort();
    }
}

static struct ir_block *lift(const uint8_t *code, size_t size, uint64_t pc)
{
    uint8_t bytes[512 + 16] = {0};
    unsigned n = size < 512 ? (unsigned)size : 512;
    memcpy(bytes, code, n);
    struct tr_ctx t = {.pc = pc,
                       .mode = isa_x86.mode(&box->vcpu),
                       .code = bytes,
                       .avail = n ? n : 1,
                       .max_insns = 64,
                       .vcpu = &box->vcpu};
    struct ir_block *b = ir_buf_init(&box->buf);
    if (isa_x86.translate(b, &t) == TR_NEED_PAGE) {
        t.avail2 = 16;
        if (isa_x86.translate(b, &t) == TR_NEED_PAGE) {
            abort();
        }
    }
    must_verify(b, "lifted");
    ir_optimize(b);
    must_verify(b, "optimized");
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    struct ir_code code = {.form = IR_FORM_FIRST};
    if (!box) {
        open_box();
    }
    struct rt_env *env = box->vcpu.env;
    bool smm = set_state(&in);
    env->pc = 0x100;
    env->ret_sp = env->ret_sp_base[0]; /* the code of earlier inputs is gone */
    for (unsigned i = 0; i < MEM_SIZE; i++) {
        box->mem[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    if (smm && !through_smm(&in)) {
        return 0;
    }
    struct ir_block *b = lift(in.p, (size_t)(in.end - in.p), env->pc);
    if (!codemem_has_room(&box->cm)) {
        codemem_advance(&box->cm);
    }
    if (!box->host->emit(box->ctx, b, &box->cm.cur, &code)) {
        abort(); /* there was room */
    }
    if (ir_interp(env, b) == RT_EXIT_FAULT) {
        box->machine.request = MACHINE_REQ_NONE;
        isa_x86.deliver(&box->vcpu);
    }
    return 0;
}
