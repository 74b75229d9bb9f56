/* Kernels of the operating system: system calls, faults, mappings, switches, signals, processes,
 * code written. */
#include "kernels.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *map(size_t size, int protection)
{
    void *p = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        abort();
    }
    return p;
}

static uint64_t parent(unsigned long n)
{
    uint64_t sum = 0;
    while (n--) {
        sum += syscall(SYS_getppid) > 0;
    }
    return sum;
}

static uint64_t read_zero(unsigned long n)
{
    static char buffer[4096];
    int fd = open("/dev/zero", O_RDONLY);
    uint64_t sum = 0;
    while (n--) {
        sum += (uint64_t)read(fd, buffer, sizeof(buffer));
    }
    close(fd);
    return sum + (uint64_t)buffer[7];
}

static uint64_t page_fault(unsigned long n)
{
    uint64_t sum = 0;
    while (n--) {
        char *p = map(256 * 4096, PROT_READ | PROT_WRITE);
        madvise(p, 256 * 4096, MADV_NOHUGEPAGE);
        for (int i = 0; i < 256; i++) {
            p[i * 4096] = (char)i;
        }
        sum += (uint64_t)p[5 * 4096];
        munmap(p, 256 * 4096);
    }
    return sum;
}

static uint64_t mapping(unsigned long n)
{
    uint64_t sum = 0;
    while (n--) {
        char *p = map(4 * 4096, PROT_READ | PROT_WRITE);
        p[0] = 1;
        sum += mprotect(p, 4096, PROT_READ) == 0;
        sum += (uint64_t)p[0];
        munmap(p, 4 * 4096);
    }
    return sum;
}

static uint64_t pipe_switch(unsigned long n)
{
    int to[2], from[2];
    if (pipe(to) || pipe(from)) {
        abort();
    }
    unsigned char c = 0;
    uint64_t sum = 0;
    pid_t child = fork();
    if (child == 0) {
        close(to[1]);
        while (read(to[0], &c, 1) == 1) {
            c++;
            if (write(from[1], &c, 1) != 1) {
                break;
            }
        }
        _exit(0);
    }
    while (n--) {
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1) {
            abort();
        }
        sum += c;
    }
    close(to[1]);
    waitpid(child, NULL, 0);
    close(to[0]);
    close(from[0]);
    close(from[1]);
    return sum;
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    signals++;
}

static uint64_t signal_delivery(unsigned long n)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    signals = 0;
    while (n--) {
        kill(getpid(), SIGUSR1);
    }
    return (uint64_t)signals;
}

static uint64_t spawn(unsigned long n, int exec)
{
    uint64_t sum = 0;
    while (n--) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            if (exec) {
                execl("/proc/self/exe", "kernels", "nothing", (char *)NULL);
            }
            _exit(exec);
        }
        waitpid(child, &status, 0);
        sum += status == 0;
    }
    return sum;
}

static uint64_t fork_exit(unsigned long n)
{
    return spawn(n, 0);
}

static uint64_t fork_exec(unsigned long n)
{
    return spawn(n, 1);
}

/* mov eax, value; add eax, edi; ret */
static size_t emit(uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    memcpy(at + 5, "\x01\xf8\xc3", 3);
    return 8;
}

static uint32_t call(void *code, uint32_t argument)
{
    __asm__ volatile("" ::"r"(code) : "memory");
    return ((uint32_t(*)(uint32_t))code)(argument);
}

/* The same function written anew each time. */
static uint64_t jit_rewrite(unsigned long n)
{
    uint8_t *code = map(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint32_t x = 0;
    while (n--) {
        emit(code, (uint32_t)n * 7);
        x = call(code, x);
    }
    munmap(code, 4096);
    return x;
}

/* mov eax, edi, then eight operations that differ from one function to the next; ret */
static void emit_fresh(uint8_t *at, uint32_t seed)
{
    static const uint8_t ops[8][3] = {{0x83, 0xc0, 0x11}, {0x83, 0xf0, 0x22}, {0xc1, 0xc0, 5},
                                      {0x8d, 0x04, 0x78}, {0x6b, 0xc0, 0x07}, {0x0f, 0xaf, 0xc7},
                                      {0x83, 0xe8, 0x33}, {0x0f, 0xc8, 0x90}};
    at[0] = 0x89, at[1] = 0xf8;
    for (unsigned i = 0; i < 8; i++) {
        memcpy(at + 2 + 3 * i, ops[seed >> 3 * i & 7], 3);
    }
    at[26] = 0xc3;
}

/* One function after another, each called four times, in 256 KiB used again and again. */
static uint64_t append(unsigned long n, void (*write)(uint8_t *at, uint32_t n))
{
    const size_t size = 256 * 1024;
    uint8_t *code = map(size, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint32_t x = 0;
    size_t at = 0;
    while (n--) {
        write(code + at, (uint32_t)n);
        for (int i = 0; i < 4; i++) {
            x = call(code + at, x);
        }
        at = (at + 64) % size;
    }
    munmap(code, size);
    return x;
}

static void write_alike(uint8_t *at, uint32_t n)
{
    emit(at, n * 3);
}

static uint64_t jit_append(unsigned long n)
{
    return append(n, write_alike);
}

/* No two functions have the same instructions. */
static void write_fresh(uint8_t *at, uint32_t n)
{
    emit_fresh(at, n * 2654435769u >> 8);
}

static uint64_t jit_fresh(unsigned long n)
{
    return append(n, write_fresh);
}

/* 300 functions are written, then one of them runs for long: a loop with loads and stores. */
static uint64_t jit_hot(unsigned long n)
{
    static const uint8_t loop[] = {0x31, 0xc0, 0x03, 0x06, 0x89, 0x06, 0x83, 0xc0, 0x05, 0x89,
                                   0x46, 0x04, 0x03, 0x46, 0x04, 0xff, 0xcf, 0x75, 0xef, 0xc3};
    uint8_t *code = map(65536, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint32_t x = 0, cell[2] = {1, 2};
    for (unsigned i = 0; i < 300; i++) {
        emit(code + 64 * i, i);
        x = call(code + 64 * i, x);
    }
    memcpy(code + 64 * 100, loop, sizeof(loop));
    while (n--) {
        uint32_t r, count = 1000000;
        uint32_t *at = cell;
        __asm__ volatile("call *%3"
                         : "=a"(r), "+D"(count), "+S"(at)
                         : "r"(code + 64 * 100)
                         : "memory", "cc", "rcx", "rdx", "r8", "r9", "r10", "r11");
        x += r;
    }
    munmap(code, 65536);
    return x;
}

/* A jump that is a nop every other time, as in code that is switched on and off. */
static uint64_t jit_toggle(unsigned long n)
{
    uint8_t *code = map(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint32_t x = 0;
    memcpy(code, "\x66\x90\x83\xc7\x07\x8d\x47\x01\xc3",
           9); /* nop; add edi, 7; lea eax, [rdi + 1] */
    while (n--) {
        *(volatile uint16_t *)(void *)code = n & 1 ? 0x9066 : 0x03eb; /* jmp over the add */
        for (int i = 0; i < 4; i++) {
            x = call(code, x);
        }
    }
    munmap(code, 4096);
    return x;
}

const struct kernel system_kernels[] = {{"getppid", "system", parent, 2000000},
                                        {"read-zero", "system", read_zero, 150000},
                                        {"page-fault", "system", page_fault, 250},
                                        {"mmap", "system", mapping, 15000},
                                        {"pipe-switch", "system", pipe_switch, 15000},
                                        {"signal", "system", signal_delivery, 60000},
                                        {"fork", "system", fork_exit, 400},
                                        {"fork-exec", "system", fork_exec, 150},
                                        {"jit-rewrite", "guest-jit", jit_rewrite, 7000000},
                                        {"jit-append", "guest-jit", jit_append, 1000000},
                                        {"jit-fresh", "guest-jit", jit_fresh, 50000},
                                        {"jit-hot", "guest-jit", jit_hot, 500},
                                        {"jit-toggle", "guest-jit", jit_toggle, 15000000},
                                        {0}};
