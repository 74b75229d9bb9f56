/* Code that is written and called, for the kernels about changing code. */
#ifndef TESTS_KERNEL_PATCH_H
#define TESTS_KERNEL_PATCH_H

#include "rt.h"

static inline word call2(const void *at, word a, word b)
{
    word r;
    __asm__ volatile("call *%3"
                     : "=a"(r), "+D"(a), "+S"(b)
                     : "r"(at)
                     : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
    return r;
}

static inline word call(const void *at)
{
    return call2(at, 0, 0);
}

static inline void put_ret(uint8_t *p, uint32_t v) /* mov $v, %eax; ret */
{
    p[0] = 0xb8;
    memcpy(p + 1, &v, 4);
    p[5] = 0xc3;
}

/* A loop that patches its own immediate and adds it up. */
static inline void check_own_immediate(uint8_t *code)
{
    word want = 0;
    for (unsigned i = 0, imm = 0; i < 10000; i++, imm = (imm + 1) & 0x7f) {
        want += imm;
    }
    static const uint8_t body[] = {0x31, 0xc0,                               /* xor %eax, %eax */
                                   0xb9, 0x10, 0x27, 0,    0,                /* mov $10000, %ecx */
                                   0x05, 0,    0,    0,    0,                /* 7: add $0, %eax */
                                   0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff,       /* incb 8(code) */
                                   0x80, 0x25, 0xef, 0xff, 0xff, 0xff, 0x7f, /* andb $7f, 8(code) */
                                   0xff, 0xc9,                               /* dec %ecx */
                                   0x75, 0xea,                               /* jnz 7 */
                                   0xc3};
    memcpy(code, body, sizeof(body));
    check_eq("sum", call(code), want);
}

#endif
