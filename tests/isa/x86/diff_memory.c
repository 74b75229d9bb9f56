/*
 * What the engines need of an accelerator: memory is the window, at its own address. The soft TLB
 * is filled, or not, by whoever sets up a run; a miss fills nothing.
 */
#include <string.h>

#include "core/tlb_ops.h"
#include "core/vcpu.h"
#include "ir/host.h"
#include "tests/isa/x86/diff.h"

static bool in_window(uint64_t va, unsigned size)
{
    return va >= DIFF_MEM && va < DIFF_MEM + DIFF_MEM_SIZE && size <= DIFF_MEM + DIFF_MEM_SIZE - va;
}

static bool page_fault(struct rt_env *env, uint64_t va)
{
    env->fault = (struct rt_fault){
        .kind = RT_FAULT_GUEST, .vector = EXC_PF, .has_error = true, .error = PF_U, .addr = va};
    return false;
}

static bool canonical(uint64_t va)
{
    return (int64_t)(va << 16) >> 16 == (int64_t)va;
}

/* As the MMU does: #GP for an address that is not canonical. */
static bool check(struct rt_env *env, uint64_t va, unsigned size)
{
    if (in_window(va, size)) {
        return true;
    }
    if (!canonical(va)) {
        env->fault = (struct rt_fault){.kind = RT_FAULT_GUEST, .vector = EXC_GP, .has_error = true};
        return false;
    }
    return page_fault(env, va);
}

/* Some places are as what is not plain RAM, so that instructions are left and done by T0. */
static bool slow_place(uint64_t va)
{
    return ((va >> 4 ^ va >> 9) & 7) == 0;
}

static bool resolve(struct rt_env *env, uint64_t va, unsigned size, unsigned access, void **host)
{
    if (!check(env, va, size)) {
        return false;
    }
    bool one_page = ((va ^ (va + size - 1)) & ~(uint64_t)(RT_PAGE_SIZE - 1)) == 0;
    *host = one_page && !slow_place(va) ? (void *)(uintptr_t)va : NULL;
    return true;
}

static bool slow_read(struct rt_env *env, uint64_t va, unsigned size, void *val)
{
    if (!check(env, va, size)) {
        return false;
    }
    memcpy(val, (void *)(uintptr_t)va, size);
    return true;
}

static bool slow_write(struct rt_env *env, uint64_t va, unsigned size, const void *val)
{
    if (!check(env, va, size)) {
        return false;
    }
    memcpy((void *)(uintptr_t)va, val, size);
    return true;
}

static void no_lock(struct rt_env *env)
{
}

static bool run_vec(struct rt_env *env, const struct ir_vec *v, void *mem, uint64_t in,
                    uint64_t *result)
{
    if (!ir_host_native()->vec_run(env, v, mem, in, result)) {
        env->fault = (struct rt_fault){.kind = RT_FAULT_ILLEGAL};
        return false;
    }
    return true;
}

#define ALL_XMM                                                                                    \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void fpu_get(struct rt_env *env, uint8_t fx[512])
{
    uint8_t image[512] __attribute__((aligned(16)));
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    memcpy(fx, image, DIFF_FX);
}

static void fpu_set(struct rt_env *env, const uint8_t fx[512])
{
    uint8_t image[512] __attribute__((aligned(16)));
    __asm__ volatile("fxsave64 %0" : "=m"(image));
    memcpy(image, fx, 24);
    memcpy(image + 32, fx + 32, 128);
    __asm__ volatile("fxrstor64 %0" ::"m"(image) : ALL_XMM);
}

const struct rt_mem_ops diff_mem_ops = {
    .resolve = resolve,
    .slow_read = slow_read,
    .slow_write = slow_write,
    .lock_begin = no_lock,
    .lock_end = no_lock,
    .vec = run_vec,
    .fpu_get = fpu_get,
    .fpu_set = fpu_set,
};

bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    return slow_read(v->env, va, size, val);
}

bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    return slow_write(v->env, va, size, val);
}

int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    unsigned left = RT_PAGE_SIZE - (va & (RT_PAGE_SIZE - 1));
    if (!check(v->env, va, 1)) {
        return -1;
    }
    if (slow_place(va)) {
        return 0;
    }
    *host = (void *)(uintptr_t)va;
    return (int)(len < left ? len : left);
}
