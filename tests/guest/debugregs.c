/*
 * Runs in the guest: hardware breakpoints and watchpoints by ptrace, single step, RF, ICEBP. Prints
 * one line per check; status 0 when all hold.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile uint64_t watched[4];
static volatile int calls;
static volatile sig_atomic_t traps;

__attribute__((noinline)) static void called(void)
{
    calls++;
    __asm__ volatile("");
}

static void child(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (int i = 1; i <= 3; i++) {
        watched[0] = (uint64_t)i;
        watched[1] = (uint64_t)i; /* not watched at first */
        called();
    }
    memset((void *)(uintptr_t)watched, 0x55, sizeof(watched)); /* perhaps a string instruction */
    __asm__ volatile("rep stosb" : : "D"(watched), "c"(sizeof(watched)), "a"(7) : "memory");
    uint64_t x = watched[2];
    _exit(x == 0x0707070707070707 ? 9 : 1);
}

static void put_dr(pid_t pid, int n, uint64_t v)
{
    if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + (size_t)n * 8, v)) {
        perror("debug register");
        exit(1);
    }
}

static uint64_t get_dr(pid_t pid, int n)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + (size_t)n * 8,
                            0);
}

static int failed;

static void check(const char *what, int ok)
{
    printf("%s: %s\n", what, ok ? "ok" : "FAILED");
    failed |= !ok;
}

/* Goes on; the stop signal, or 1000 + status at the end. */
static int go(pid_t pid, int how)
{
    int status;
    ptrace(how, pid, 0, 0);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? 1000 + WEXITSTATUS(status) : WSTOPSIG(status);
}

static uint64_t rip(pid_t pid)
{
    struct user_regs_struct r;
    ptrace(PTRACE_GETREGS, pid, 0, &r);
    return r.rip;
}

static uint64_t peek(pid_t pid, volatile void *p)
{
    return (uint64_t)ptrace(PTRACE_PEEKDATA, pid, p, 0);
}

static void traced(void)
{
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        child();
    }
    waitpid(pid, &status, 0);
    put_dr(pid, 0, (uintptr_t)&watched[0]);
    put_dr(pid, 1, (uintptr_t)called);
    put_dr(pid, 7, 0x5 | 0xdull << 16); /* DR0: writes of 8... 4 bytes; DR1: execution */
    for (unsigned i = 1; i <= 3; i++) {
        int sig = go(pid, PTRACE_CONT);
        check("write stops",
              sig == SIGTRAP && (get_dr(pid, 6) & 15) == 1 && peek(pid, &watched[0]) == i);
        put_dr(pid, 6, 0);
        sig = go(pid, PTRACE_CONT);
        check("breakpoint stops before",
              sig == SIGTRAP && (get_dr(pid, 6) & 15) == 2 && rip(pid) == (uintptr_t)called);
        put_dr(pid, 6, 0);
    }
    uint64_t at = rip(pid);
    int sig = go(pid, PTRACE_SINGLESTEP);
    check("single step", sig == SIGTRAP && rip(pid) != at && (get_dr(pid, 6) & 0x4000));
    put_dr(pid, 7, 0);
    put_dr(pid, 2, (uintptr_t)&watched[2]);
    put_dr(pid, 7, 0x10 | 0xbull << 24); /* DR2: reads and writes, 8 bytes */
    int hits = 0;
    while ((sig = go(pid, PTRACE_CONT)) == SIGTRAP && hits < 100) {
        hits += (get_dr(pid, 6) & 15) == 4;
        put_dr(pid, 6, 0);
    }
    printf("%d accesses\n", hits);
    check("reads and string writes stop", hits >= 3 && hits < 40);
    check("the program ran", sig == 1009);
}

static void on_trap(int sig)
{
    traps++;
}

static void own_flags(void)
{
    signal(SIGTRAP, on_trap);
    __asm__ volatile(".byte 0xf1");
    check("ICEBP", traps == 1);
    __asm__ volatile("int3");
    check("INT3", traps == 2);
    traps = 0;
    __asm__ volatile(
        "pushfq; orl $0x100, (%%rsp); popfq; nop; nop; pushfq; andl $~0x100, (%%rsp); popfq"
        :
        :
        : "memory", "cc");
    printf("%d traps\n", (int)traps);
    check("TF", traps == 5);
    traps = 0;
    /* a system call under TF: the kernel runs without traps and comes back to one */
    long pid;
    __asm__ volatile(
        "pushfq; orl $0x100, (%%rsp); popfq; syscall; pushfq; andl $~0x100, (%%rsp); popfq"
        : "=a"(pid)
        : "a"(39L)
        : "rcx", "r11", "memory", "cc");
    printf("%d traps\n", (int)traps);
    check("TF over SYSCALL", pid == getpid() && traps >= 3 && traps <= 4);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    traced();
    own_flags();
    printf("%s\n", failed ? "debug registers: FAILED" : "debug registers: all ok");
    return failed;
}
