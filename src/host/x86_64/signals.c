/*
 * Faults that the host raises inside generated code: divide errors, and vector operands that are
 * not aligned (SIGSEGV without an address). Such an instruction is preceded by a long NOP whose
 * displacement leads to its continuation, so no table is needed to find it.
 *
 * The handlers are the process' own (one installation); which code memory a thread runs in is the
 * thread's own variable.
 */
#include "host/x86_64/ctx.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "base/err.h"

static _Thread_local const struct ir_host_ctx *attached;

/* nop dword [rax + disp32] */
void mark_emit(struct enc *e, const uint8_t *continuation)
{
    x_byte(e, 0x0f);
    x_byte(e, 0x1f);
    x_byte(e, 0x80);
    x_imm32(e, 0);
    x_patch(e->p - 4, continuation);
}

/* Continuation of the instruction at rip, or NULL. */
static const uint8_t *continuation(const uint8_t *rip)
{
    const uint8_t *mark = rip - MARK_BYTES;
    const struct ir_host_ctx *c = attached;
    if (!c || mark < c->code_lo || rip >= c->code_hi || mark[0] != 0x0f || mark[1] != 0x1f ||
        mark[2] != 0x80) {
        return NULL;
    }
    int32_t rel;
    memcpy(&rel, mark + 3, 4);
    return rip + rel;
}

#define RETURN_KEEP 64 /* bytes on top of a return stack that stubs may need */

/* A return stack is full: the deepest frames are forgotten. False: it was not that. */
static bool return_stack_full(greg_t *regs, const uint8_t *at)
{
    const struct ir_host_ctx *c = attached;
    const uint8_t *rip = (const uint8_t *)(uintptr_t)regs[REG_RIP];
    if (!c || !c->returns || rip < c->code_lo || rip >= c->code_hi || at < c->returns ||
        at >= c->returns + RT_MODES * RETURN_BYTES) {
        return false;
    }
    uint8_t *stack = c->returns + (size_t)(at - c->returns) / RETURN_BYTES * RETURN_BYTES;
    uint8_t *to = stack + RETURN_BYTES - 16 - RETURN_KEEP;
    memcpy(to, (const void *)(uintptr_t)regs[REG_RSP], RETURN_KEEP);
    regs[REG_RSP] = (greg_t)(uintptr_t)to;
    return true;
}

/*
 * A guest address matched a line that has no page: its instruction is interpreted. One tag of a
 * line may be invalid while the other one and delta are those of a page: what matches then is 2^63
 * away from any page, which no host address is (#GP or, by rbp, #SS: a signal without an address).
 */
static bool guarded(greg_t *regs, const siginfo_t *info)
{
    const struct ir_host_ctx *c = attached;
    const uint8_t *rip = (const uint8_t *)(uintptr_t)regs[REG_RIP], *at = info->si_addr;
    if (!c || !c->guard || rip < c->code_lo || rip >= c->code_hi ||
        (info->si_code != SI_KERNEL && (at < c->guard || at >= c->guard + GUARD_BYTES))) {
        return false;
    }
    struct rt_env *env = (struct rt_env *)(uintptr_t)(regs[REG_R15] - RT_BIAS);
    env->site = (uint64_t)(uintptr_t)rip;
    regs[REG_RIP] = (greg_t)(uintptr_t)c->guard_exit;
    return true;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *to = continuation((const uint8_t *)(uintptr_t)regs[REG_RIP]);
    if (to) {
        regs[REG_RIP] = (greg_t)(uintptr_t)to;
        return;
    }
    if ((sig == SIGSEGV && return_stack_full(regs, info->si_addr)) ||
        (sig != SIGFPE && guarded(regs, info))) {
        return;
    }
    signal(sig, SIG_DFL); /* a fault of ours: the instruction faults again and ends the process */
}

int ir_host_signals(struct err *err)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (sigaction(signals[i], &sa, NULL) < 0) {
            return err_set(err, errno, "cannot handle signal %d: %s", signals[i], strerror(errno));
        }
    }
    return 0;
}

int signals_attach(struct ir_host_ctx *c, struct err *err)
{
    stack_t ss = {.ss_sp = c->returns + RT_MODES * RETURN_BYTES, .ss_size = ALT_STACK_BYTES};
    if (sigaltstack(&ss, NULL) < 0) {
        return err_set(err, ENOMEM, "cannot set up a signal stack for a vCPU thread");
    }
    attached = c;
    return 0;
}

void signals_detach(struct ir_host_ctx *c)
{
    stack_t ss = {.ss_flags = SS_DISABLE};
    sigaltstack(&ss, NULL);
    attached = NULL;
}
