/*
 * One instruction on the host processor. UD2 raises a signal whose handler loads the whole state
 * into the signal frame with TF set; the instruction's own trap, or its fault, comes back to the
 * handler, which takes the state out of the frame and puts the first frame back.
 *
 * The handler finds its context at a fixed address. 32-bit code runs in the compatibility segment
 * of Linux.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/isa/x86/diff.h"

#define CONTEXT 0x6b730000u /* no stack pointer comes near it by a bit or two */
#define FP_BYTES 832        /* legacy area, header, upper halves of ymm */
#define FX_XMM 160
#define XS_BV 512
#define XS_YMM 576
#define CS_64 0x33
#define CS_32 0x23
#define MAX_STEPS 4096 /* iterations of a string instruction */

enum phase { PHASE_IDLE, PHASE_ENTER, PHASE_RUN };
struct diff_host {
    volatile enum phase phase;
    const struct diff_case *c;
    struct diff_state *out;
    unsigned steps;
    struct diff_vendor vendor;
    struct sigaction earlier[NSIG]; /* the handlers of generated code */
    greg_t back[NGREG];
    uint8_t back_fp[FP_BYTES];
    uint8_t stack[65536];
};

/* Encoding order to that of the signal frame. */
static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15};

static void load_fp(uint8_t *fp, const struct diff_state *in)
{
    uint64_t bv;
    memcpy(fp, in->fx, DIFF_FX);
    memcpy(fp + 24, &in->mxcsr, 4);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(fp + FX_XMM + i * 16, in->vec[i], 16);
        memcpy(fp + XS_YMM + i * 16, in->vec[i] + 16, 16);
    }
    memcpy(&bv, fp + XS_BV, 8);
    bv |= 7;
    memcpy(fp + XS_BV, &bv, 8);
}

static void store_fp(const uint8_t *fp, struct diff_state *out)
{
    uint64_t bv;
    memcpy(&bv, fp + XS_BV, 8);
    memset(out->fx, 0, DIFF_FX);
    if (bv & 1) {
        memcpy(out->fx, fp, 6);
        memcpy(out->fx + 32, fp + 32, 128);
    } else {
        out->fx[0] = 0x7f;
        out->fx[1] = 0x03;
    }
    memcpy(&out->mxcsr, fp + 24, 4);
    memset(out->vec, 0, sizeof(out->vec));
    for (unsigned i = 0; i < 16; i++) {
        if (bv & 2) {
            memcpy(out->vec[i], fp + FX_XMM + i * 16, 16);
        }
        if (bv & 4) {
            memcpy(out->vec[i] + 16, fp + XS_YMM + i * 16, 16);
        }
    }
}

static void enter(struct diff_host *h, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    const struct diff_state *in = &h->c->in;
    memcpy(h->back, g, sizeof(h->back));
    memcpy(h->back_fp, fp, FP_BYTES);
    for (unsigned i = 0; i < 16; i++) {
        g[greg_of[i]] = (greg_t)in->gpr[i];
    }
    g[REG_RIP] = (greg_t)in->pc;
    g[REG_EFL] = (greg_t)(in->flags | RF_TF | RF_IF | RF_ONE);
    uint16_t cs = h->c->insn.mode == 8 ? CS_64 : CS_32;
    memcpy(&g[REG_CSGSFS], &cs, 2);
    load_fp(fp, in);
    h->phase = PHASE_RUN;
}

/* False: a string instruction goes on. */
static bool leave(struct diff_host *h, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    struct diff_state *out = h->out;
    bool step = g[REG_TRAPNO] == EXC_DB;
    if (step && h->c->insn.rep && (uint64_t)g[REG_RIP] == h->c->in.pc && h->steps++ < MAX_STEPS) {
        return false;
    }
    for (unsigned i = 0; i < 16; i++) {
        out->gpr[i] = (uint64_t)g[greg_of[i]];
    }
    out->pc = (uint64_t)g[REG_RIP];
    out->flags = (uint64_t)g[REG_EFL] & DIFF_FLAGS;
    out->fault = step ? DIFF_NO_FAULT : (int)g[REG_TRAPNO];
    store_fp(fp, out);
    memcpy(g, h->back, sizeof(h->back));
    memcpy(fp, h->back_fp, FP_BYTES);
    g[REG_RIP] += 2; /* behind the UD2 */
    h->phase = PHASE_IDLE;
    return true;
}

static void on_signal(int sig, siginfo_t *info, void *arg)
{
    /* the instruction may have set AC, under which this C code would trap */
    __asm__ volatile("leaq -128(%%rsp), %%rsp; pushfq; andl $0xfffbffff, (%%rsp); popfq; leaq "
                     "128(%%rsp), %%rsp" ::
                         : "memory", "cc");
    struct diff_host *h = (struct diff_host *)CONTEXT;
    switch (h->phase) {
    case PHASE_IDLE: /* our own bug */
        if (h->earlier[sig].sa_sigaction) {
            h->earlier[sig].sa_sigaction(sig, info, arg);
            break;
        }
        dprintf(2, "signal %d outside of an instruction under test, at %llx, address %p\n", sig,
                ((ucontext_t *)arg)->uc_mcontext.gregs[REG_RIP], info->si_addr);
        signal(sig, SIG_DFL);
        break;
    case PHASE_ENTER: enter(h, arg); break;
    case PHASE_RUN: leave(h, arg); break;
    }
}

static void *map_at(uintptr_t at, size_t size, int prot)
{
    void *p =
        mmap((void *)at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)at) {
        perror("mmap");
        exit(1);
    }
    return p;
}

struct diff_host *diff_host_open(void)
{
    static const int signals[] = {SIGTRAP, SIGILL, SIGSEGV, SIGFPE, SIGBUS};
    struct diff_host *h = map_at(CONTEXT, sizeof(*h), PROT_READ | PROT_WRITE);
    h->vendor = diff_vendor_probe();
    map_at(DIFF_CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    map_at(DIFF_MEM - 4096, 4096, PROT_NONE);
    map_at(DIFF_MEM, DIFF_MEM_SIZE, PROT_READ | PROT_WRITE);
    map_at(DIFF_MEM + DIFF_MEM_SIZE, 4096, PROT_NONE);
    stack_t stack = {.ss_sp = h->stack, .ss_size = sizeof(h->stack)};
    sigaltstack(&stack, NULL);
    struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
        sigaction(signals[i], &act, &h->earlier[signals[i]]);
    }
    /* 64-bit code leaves these null; 32-bit code needs them */
    __asm__ volatile("movl %0, %%ds; movl %0, %%es" ::"r"(0x2b));
    return h;
}

void diff_host_run(struct diff_host *h, const struct diff_case *c, struct diff_state *out)
{
    memcpy((void *)(uintptr_t)DIFF_CODE, c->code, sizeof(c->code));
    diff_vendor_code(&h->vendor, &c->insn, (uint8_t *)(uintptr_t)DIFF_CODE);
    memcpy((void *)(uintptr_t)DIFF_MEM, c->in.mem, DIFF_MEM_SIZE);
    h->c = c;
    h->out = out;
    h->steps = 0;
    h->phase = PHASE_ENTER;
    /* NT and ID outlive a signal frame; an earlier POPF may have set them */
    __asm__ volatile("leaq -128(%%rsp), %%rsp; pushfq; andl $0xffdbbfff, (%%rsp); popfq; leaq "
                     "128(%%rsp), %%rsp; ud2" ::
                         : "memory", "cc");
    memcpy(out->mem, (void *)(uintptr_t)DIFF_MEM, DIFF_MEM_SIZE);
    if (c->insn.op == X86_PUSHF && out->fault == DIFF_NO_FAULT) {
        out->mem[(uint32_t)out->gpr[RSP] - DIFF_MEM + 1] &= 0xfe; /* TF is ours */
    }
    diff_vendor_mend(&h->vendor, c, out);
}
