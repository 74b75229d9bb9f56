/*
 * The case on the host processor. IRET goes to it with all registers loaded. Behind 64-bit code
 * lies a jump to the landing, which stores them. Where that cannot be, a signal comes back: of a
 * fault, of the INT3s around a block for its branches, or of a single step (branches that may go
 * anywhere, POPF, 32-bit code). The handler takes the state out of the signal frame and returns
 * to the end of the landing. The last instruction of a block becomes a single step by an INT3 in
 * its place, whose handler puts the instruction back.
 *
 * Handler and landing find their context at a fixed address. 32-bit code runs in the compatibility
 * segment of Linux.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/isa/x86/diff.h"

#define CONTEXT 0x6b730000u /* no stack pointer comes near it by a bit or two */
#define FX_XMM 160
#define XS_BV 512
#define XS_YMM 576
#define XS_SIZE 832
#define CS_64 0x33
#define CS_32 0x23
#define DATA 0x2b
#define INT3 0xcc
#define CODE_PAGE 4096u
#define MAX_STEPS 4096 /* iterations of a string instruction */

enum phase { PHASE_IDLE, PHASE_RUN, PHASE_STEP };
struct diff_host {
    uint8_t image[XS_SIZE] __attribute__((aligned(64))); /* for XRSTOR */
    uint8_t clean[XS_SIZE] __attribute__((aligned(64)));
    uint64_t gpr[16];
    uint64_t frame[5];         /* for IRET; flags of the landing */
    uint64_t sp, landing, end; /* end: of the landing, for signals */
    volatile enum phase phase;
    const struct diff_case *c;
    struct diff_state *out;
    unsigned steps, at; /* at: offset of the instruction that runs as a single step */
    uint8_t first;      /* its first byte */
    struct diff_vendor vendor;
    struct sigaction earlier[NSIG]; /* the handlers of generated code */
    uint8_t stack[65536];
};

/* Encoding order to that of the signal frame. */
static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15};

static void load_fp(uint8_t *fp, const struct diff_state *in)
{
    memcpy(fp, in->fx, DIFF_FX);
    memcpy(fp + 24, &in->mxcsr, 4);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(fp + FX_XMM + i * 16, in->vec[i], 16);
        memcpy(fp + XS_YMM + i * 16, in->vec[i] + 16, 16);
    }
    fp[XS_BV] = 7;
}

static void store_fp(const uint8_t *fp, struct diff_state *out)
{
    uint8_t bv = fp[XS_BV];
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

static uint8_t *code_at(uint64_t pc)
{
    return (uint8_t *)(uintptr_t)pc;
}

/* The last instruction of a block comes as a single step now. */
static bool begin_step(struct diff_host *h, greg_t *g)
{
    uint64_t pc = h->c->in.pc + h->at;
    if (h->phase != PHASE_RUN || g[REG_TRAPNO] != EXC_BP || (uint64_t)g[REG_RIP] != pc + 1) {
        return false;
    }
    *code_at(pc) = h->first;
    g[REG_RIP] = (greg_t)pc;
    g[REG_EFL] |= RF_TF;
    h->phase = PHASE_STEP;
    return true;
}

/* False: a string instruction goes on. */
static bool leave(struct diff_host *h, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    struct diff_state *out = h->out;
    bool step = g[REG_TRAPNO] == EXC_DB, end = h->phase == PHASE_RUN && g[REG_TRAPNO] == EXC_BP;
    if (step && h->c->step[h->c->n - 1].insn.rep && (uint64_t)g[REG_RIP] == h->c->in.pc + h->at &&
        h->steps++ < MAX_STEPS) {
        return false;
    }
    for (unsigned i = 0; i < 16; i++) {
        out->gpr[i] = (uint64_t)g[greg_of[i]];
    }
    out->pc = (uint64_t)g[REG_RIP] - end;
    out->flags = (uint64_t)g[REG_EFL] & DIFF_FLAGS;
    out->fault = step || end ? DIFF_NO_FAULT : (int)g[REG_TRAPNO];
    store_fp(fp, out);
    uint32_t mxcsr = 0x1f80;
    uint16_t cs = CS_64;
    fp[XS_BV] &= (uint8_t)~7;
    memcpy(fp + 24, &mxcsr, 4);
    memcpy(&g[REG_CSGSFS], &cs, 2);
    g[REG_EFL] = RF_ONE | RF_IF;
    g[REG_RSP] = (greg_t)h->sp;
    g[REG_RIP] = (greg_t)h->end;
    h->phase = PHASE_IDLE;
    return true;
}

/* The instruction may have run with AC set, under which C code would trap. */
static inline void clear_ac(void)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp; pushfq; andl $0xfffbffff, (%%rsp); popfq; leaq "
                     "128(%%rsp), %%rsp" ::
                         : "memory", "cc");
}

static void on_signal(int sig, siginfo_t *info, void *arg)
{
    clear_ac();
    struct diff_host *h = (struct diff_host *)CONTEXT;
    ucontext_t *uc = arg;
    if (h->phase != PHASE_IDLE) {
        if (!begin_step(h, uc->uc_mcontext.gregs)) {
            leave(h, uc);
        }
    } else if (h->earlier[sig].sa_sigaction) {
        h->earlier[sig].sa_sigaction(sig, info, arg);
    } else { /* our own bug */
        dprintf(2, "signal %d outside of an instruction under test, at %llx, address %p\n", sig,
                uc->uc_mcontext.gregs[REG_RIP], info->si_addr);
        signal(sig, SIG_DFL);
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

void diff_map_window(void)
{
    map_at(DIFF_CODE, CODE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    memset(code_at(DIFF_CODE), INT3, CODE_PAGE);
    map_at(DIFF_MEM - 4096, 4096, PROT_NONE);
    map_at(DIFF_MEM, DIFF_MEM_SIZE, PROT_READ | PROT_WRITE);
    map_at(DIFF_MEM + DIFF_MEM_SIZE, 4096, PROT_NONE);
}

struct diff_host *diff_host_open(void)
{
    static const int signals[] = {SIGTRAP, SIGILL, SIGSEGV, SIGFPE, SIGBUS};
    struct diff_host *h = map_at(CONTEXT, sizeof(*h), PROT_READ | PROT_WRITE);
    uint32_t mxcsr = 0x1f80;
    h->vendor = diff_vendor_probe();
    memcpy(h->clean + 24, &mxcsr, 4);
    stack_t stack = {.ss_sp = h->stack, .ss_size = sizeof(h->stack)};
    sigaltstack(&stack, NULL);
    struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
        sigaction(signals[i], &act, &h->earlier[signals[i]]);
    }
    /* 64-bit code leaves these null; 32-bit code needs them */
    __asm__ volatile("movl %0, %%ds; movl %0, %%es" ::"r"(DATA));
    return h;
}

#define AT(field) "%c[" #field "](%%rdi)"
#define GPR(n) "%c[gpr]+8*" #n "(%%rdi)"
#define LOAD(n, name) "movq " GPR(n) ", %%" name "\n\t"
#define STORE(n, name) "movq %%" name ", " GPR(n) "\n\t"
/* All but rsp and rdi. */
#define EACH_GPR(OP)                                                                               \
    OP(0, "rax")                                                                                   \
    OP(1, "rcx")                                                                                   \
    OP(2, "rdx")                                                                                   \
    OP(3, "rbx")                                                                                   \
    OP(5, "rbp")                                                                                   \
    OP(6, "rsi")                                                                                   \
    OP(8, "r8")                                                                                    \
    OP(9, "r9")                                                                                    \
    OP(10, "r10")                                                                                  \
    OP(11, "r11")                                                                                  \
    OP(12, "r12")                                                                                  \
    OP(13, "r13")                                                                                  \
    OP(14, "r14")                                                                                  \
    OP(15, "r15")

/* Loads everything and goes there; comes back by the landing or by the signal handler. */
static void launch(struct diff_host *h)
{
    /* NT and ID outlive a signal frame; an earlier POPF may have set them */
    __asm__ volatile(
        "leaq -128(%%rsp), %%rsp\n\t"
        "pushfq\n\t"
        "andl $0xffdbbfff, (%%rsp)\n\t"
        "popfq\n\t"
        "pushq %%rbx\n\t"
        "pushq %%rbp\n\t"
        "pushq %%r12\n\t"
        "pushq %%r13\n\t"
        "pushq %%r14\n\t"
        "pushq %%r15\n\t"
        "leaq 1f(%%rip), %%rax\n\t"
        "movq %%rax, " AT(
            landing) "\n\t"
                     "leaq 2f(%%rip), %%rax\n\t"
                     "movq %%rax, " AT(
                         end) "\n\t"
                              "movq %%rsp, " AT(
                                  sp) "\n\t"
                                      "movl $7, %%eax\n\t"
                                      "xorl %%edx, %%edx\n\t"
                                      "xrstor64 " AT(
                                          image) "\n\t"
                                                 "leaq " AT(frame) ", %%rsp\n\t" EACH_GPR(LOAD) LOAD(
                                                     7,
                                                     "rdi") "iretq\n"
                                                            "1:\n\t" /* none of this changes flags
                                                                        up to the PUSHF */
                                                            "movq %%rdi, "
                                                            "%c[context]+%c[gpr]+8*7\n\t"
                                                            "movl $%c[context], %%edi\n\t" EACH_GPR(
                                                                STORE)
                                                                STORE(4, "rsp") "movq " AT(
                                                                    sp) ", %%rsp\n\t"
                                                                        "pushfq\n\t"
                                                                        "popq "
                                                                        "%c[frame]+16(%%rdi)\n\t"
                                                                        "cld\n\t"
                                                                        "movl $7, %%eax\n\t"
                                                                        "xorl %%edx, %%edx\n\t"
                                                                        "xsave64 " AT(
                                                                            image) "\n\t"
                                                                                   "xrstor64 " AT(
                                                                                       clean) "\n"
                                                                                              "2:"
                                                                                              "\n\t"
                                                                                              "popq"
                                                                                              " %%"
                                                                                              "r15"
                                                                                              "\n\t"
                                                                                              "popq"
                                                                                              " %%"
                                                                                              "r14"
                                                                                              "\n\t"
                                                                                              "popq"
                                                                                              " %%"
                                                                                              "r13"
                                                                                              "\n\t"
                                                                                              "popq"
                                                                                              " %%"
                                                                                              "r12"
                                                                                              "\n\t"
                                                                                              "popq"
                                                                                              " %%"
                                                                                              "rbp"
                                                                                              "\n\t"
                                                                                              "popq"
                                                                                              " %%"
                                                                                              "rbx"
                                                                                              "\n\t"
                                                                                              "leaq"
                                                                                              " 128"
                                                                                              "(%%"
                                                                                              "rsp)"
                                                                                              ", "
                                                                                              "%%"
                                                                                              "rsp"
        : "+D"(h)
        : [context] "i"(CONTEXT), [image] "i"(offsetof(struct diff_host, image)),
          [clean] "i"(offsetof(struct diff_host, clean)),
          [gpr] "i"(offsetof(struct diff_host, gpr)),
          [frame] "i"(offsetof(struct diff_host, frame)), [sp] "i"(offsetof(struct diff_host, sp)),
          [landing] "i"(offsetof(struct diff_host, landing)),
          [end] "i"(offsetof(struct diff_host, end))
        : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1",
          "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15");
}

/* Does the case need a single step from its beginning? */
static bool steps_alone(const struct diff_case *c)
{
    unsigned op = c->insn.op;
    return c->n == 1 && (c->insn.mode != 8 || op == X86_POPF || diff_near_branch(op));
}

static void put_code(struct diff_host *h, const struct diff_case *c)
{
    static const uint8_t jump[] = {0xff, 0x24, 0x25}; /* jmp [disp32] */
    const uint32_t landing = CONTEXT + offsetof(struct diff_host, landing);
    uint8_t *code = code_at(c->in.pc), *end = code + c->len;
    const struct diff_step *last = &c->step[c->n - 1];
    memcpy(code, c->code, c->len);
    for (unsigned i = 0; i < c->n; i++) {
        diff_vendor_code(&h->vendor, &c->step[i].insn, code + c->step[i].at);
    }
    h->at = last->at;
    h->first = code[h->at];
    if (c->n > 1 && diff_ends_anywhere(&last->insn)) {
        code[h->at] = INT3;
    }
    if (c->insn.mode == 8) {
        memcpy(end, jump, sizeof(jump));
        memcpy(end + sizeof(jump), &landing, 4);
    } else {
        *end = INT3;
    }
}

/* The state that the landing stored. */
static void take(struct diff_host *h, const struct diff_case *c, struct diff_state *out)
{
    memcpy(out->gpr, h->gpr, sizeof(out->gpr));
    out->pc = c->in.pc + c->len;
    out->flags = h->frame[2] & DIFF_FLAGS;
    out->fault = DIFF_NO_FAULT;
    store_fp(h->image, out);
    h->phase = PHASE_IDLE;
}

void diff_host_run(struct diff_host *h, const struct diff_case *c, struct diff_state *out)
{
    bool step = steps_alone(c);
    put_code(h, c);
    memcpy((void *)(uintptr_t)DIFF_MEM, c->in.mem, DIFF_MEM_SIZE);
    h->c = c;
    h->out = out;
    h->steps = 0;
    memcpy(h->gpr, c->in.gpr, sizeof(h->gpr));
    load_fp(h->image, &c->in);
    h->frame[0] = c->in.pc;
    h->frame[1] = c->insn.mode == 8 ? CS_64 : CS_32;
    h->frame[2] = c->in.flags | RF_IF | RF_ONE | (step ? RF_TF : 0);
    h->frame[3] = c->in.gpr[RSP];
    h->frame[4] = DATA;
    h->phase = step ? PHASE_STEP : PHASE_RUN;
    launch(h);
    clear_ac();
    if (h->phase != PHASE_IDLE) {
        take(h, c, out);
    }
    memcpy(out->mem, (void *)(uintptr_t)DIFF_MEM, DIFF_MEM_SIZE);
    if (step && c->insn.op == X86_PUSHF && out->fault == DIFF_NO_FAULT) {
        out->mem[(uint32_t)out->gpr[RSP] - DIFF_MEM + 1] &= 0xfe; /* TF is ours */
    }
    if (c->n == 1) {
        diff_vendor_mend(&h->vendor, c, out);
    }
}

bool diff_host_can(struct diff_host *h, unsigned mode)
{
    struct diff_case *c = calloc(1, sizeof(*c));
    struct diff_state *out = calloc(1, sizeof(*out));
    uint64_t rng = 1;
    memset(c->code, 0x90, sizeof(c->code));
    x86_decode(&c->insn, c->code, sizeof(c->code), mode);
    c->step[0].insn = c->insn;
    c->n = c->len = 1;
    diff_make_state(c, &rng);
    diff_host_run(h, c, out);
    bool can = out->fault == DIFF_NO_FAULT && out->pc == c->in.pc + 1;
    free(c);
    free(out);
    return can;
}
