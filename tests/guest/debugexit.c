/*
 * Ends the machine with an exit status: debugexit STATUS writes it to the isa-debug-exit port 0xf4,
 * after what was written to the terminal has left it.
 * Static and without a C library, so that it is small and runs in any Linux guest.
 */
static long call(long number, long a, long b, long c)
{
    long r;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return r;
}

static __attribute__((used)) void start(const long *stack)
{
    const char *text = stack[0] > 1 ? (const char *)stack[2] : "0";
    unsigned status = 0;
    while (*text >= '0' && *text <= '9') {
        status = status * 10 + (unsigned)(*text++ - '0');
    }
    call(16 /* ioctl */, 1, 0x5409 /* TCSBRK, waits only */, 1);
    if (call(172 /* iopl */, 3, 0, 0) == 0) {
        __asm__ volatile("outb %b0, $0xf4" : : "a"(status));
    }
    call(60 /* exit */, 1, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
