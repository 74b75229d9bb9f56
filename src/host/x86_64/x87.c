/* The host's x87 registers, which are the guest's while a vCPU thread runs: read and replaced. */
#include <string.h>

#include "host/x86_64/ctx.h"

struct fxarea {
    uint8_t bytes[512] __attribute__((aligned(16)));
};

static void host_fxsave(struct fxarea *a)
{
    __asm__ volatile("fxsave64 %0" : "=m"(*a));
}

void x87_get(struct rt_env *env, uint8_t fx[512])
{
    struct fxarea a;
    host_fxsave(&a);
    memcpy(fx, a.bytes, sizeof(a.bytes));
}

/* Control, status and tag words and the eight registers; MXCSR and vectors stay the host's own. */
void x87_set(struct rt_env *env, const uint8_t fx[512])
{
    struct fxarea a;
    host_fxsave(&a);
    memcpy(a.bytes, fx, 6);
    memset(a.bytes + 6, 0, 18);
    memcpy(a.bytes + 32, fx + 32, 128);
    __asm__ volatile("fxrstor64 %0" : : "m"(a));
}
