/*
 * String instructions as kernels and C libraries use them, and accesses over two pages.
 */
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

#define PAGE ((size_t)4096)

static uint8_t *pages(size_t n, unsigned seed)
{
    uint8_t *p = aligned_alloc(PAGE, n * PAGE);
    for (size_t i = 0; i < n * PAGE; i++) {
        p[i] = (uint8_t)((i + seed) * 31 >> 3);
    }
    return p;
}

static uint64_t sum_of(const uint8_t *p, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        sum = mix(sum, v);
    }
    return sum;
}

static inline void movsb(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
}

static inline void stosq(void *to, uint64_t v, size_t n)
{
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(v) : "memory");
}

/* `size` bytes, `n` times, at places that change. */
static uint64_t copies(unsigned long n, size_t size)
{
    uint8_t *a = pages(3, 1), *b = pages(3, 2);
    while (n--) {
        a[(n + 2048) & 4095] = (uint8_t)n;
        movsb(b + (n * 8 & 4095), a + (n & 4095), size);
    }
    uint64_t sum = sum_of(b, 3 * PAGE);
    free(a);
    free(b);
    return sum;
}

static uint64_t movsb_64(unsigned long n)
{
    return copies(n, 64);
}

static uint64_t movsb_512(unsigned long n)
{
    return copies(n, 512);
}

static uint64_t movsb_4k(unsigned long n)
{
    return copies(n, PAGE);
}

static uint64_t fills(unsigned long n, size_t size)
{
    uint8_t *a = pages(2, 1);
    uint64_t sum = 0;
    while (n--) {
        stosq(a + (n * 64 & 2047), n * 0x0102030405060708, size / 8);
        sum += a[n & 4095];
    }
    sum = mix(sum, sum_of(a, 2 * PAGE));
    free(a);
    return sum;
}

static uint64_t stosq_64(unsigned long n)
{
    return fills(n, 64);
}

static uint64_t stosq_4k(unsigned long n)
{
    return fills(n, PAGE);
}

/* From the end to the beginning, as an overlapping memmove does. */
static uint64_t movsq_back(unsigned long n)
{
    uint8_t *a = pages(3, 5);
    while (n--) {
        uint8_t *from = a + 4000 + (n & 255), *to = from + 64;
        size_t count = 300;
        __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    }
    uint64_t sum = sum_of(a, 3 * PAGE);
    free(a);
    return sum;
}

/* A pattern of eight bytes repeated. */
static uint64_t movsb_pattern(unsigned long n)
{
    uint8_t *a = pages(2, 7);
    while (n--) {
        memcpy(a, &n, sizeof(n));
        movsb(a + 8, a, 2000);
    }
    uint64_t sum = sum_of(a, 2 * PAGE);
    free(a);
    return sum;
}

static uint64_t cmpsb(unsigned long n)
{
    uint8_t *a = pages(2, 9), *b = pages(2, 9);
    uint64_t sum = 0;
    while (n--) {
        uint8_t *x = a + (n & 63), *y = b + (n & 63), above, before = x[900];
        size_t count = 2000;
        x[900] ^= (uint8_t)(1 + (n & 3));
        __asm__ volatile("repe cmpsb; seta %0"
                         : "=q"(above), "+S"(x), "+D"(y), "+c"(count)::"memory", "cc");
        sum = mix(sum, count + above);
        a[(n & 63) + 900] = before;
    }
    free(a);
    free(b);
    return sum;
}

static uint64_t scas(unsigned long n, size_t at)
{
    static uint8_t text[2 * 4096];
    uint64_t sum = 0;
    memset(text, 'x', sizeof(text));
    while (n--) {
        uint8_t *p = text + (n & 63), *start = p;
        size_t count = 4096;
        p[at] = 0;
        __asm__ volatile("repne scasb" : "+D"(p), "+c"(count) : "a"(0) : "memory", "cc");
        start[at] = 'x';
        sum = mix(sum, count);
    }
    return sum;
}

static uint64_t scasb(unsigned long n)
{
    return scas(n, 1000);
}

static uint64_t scasb_20(unsigned long n)
{
    return scas(n, 20);
}

/* Eight bytes, three of them on the first page. */
static uint64_t store_cross(unsigned long n)
{
    uint8_t *a = pages(4, 3);
    uint64_t i = n;
    while (i--) {
        *(volatile uint64_t *)(void *)(a + PAGE * (1 + i % 3) - 3) = i * 0x9e3779b97f4a7c15u;
    }
    uint64_t sum = sum_of(a, 4 * PAGE);
    free(a);
    return sum;
}

static uint64_t load_cross(unsigned long n)
{
    uint8_t *a = pages(4, 3);
    uint64_t sum = 0;
    while (n--) {
        sum += *(volatile uint64_t *)(void *)(a + PAGE * (1 + n % 3) - 3);
    }
    free(a);
    return sum;
}

/* The same, added to, and counted up. */
static uint64_t rmw_cross(unsigned long n)
{
    uint8_t *a = pages(4, 3);
    uint64_t i = n;
    while (i--) {
        uint8_t *p = a + PAGE * (1 + i % 3) - 3;
        __asm__ volatile("add %1, %0; incl 4%0" : "+m"(*(uint64_t *)(void *)p) : "r"(i) : "cc");
        __asm__ volatile("xorl $0x55, %0" : "+m"(*(uint32_t *)(void *)p) : : "cc");
    }
    uint64_t sum = sum_of(a, 4 * PAGE);
    free(a);
    return sum;
}

/* Vectors of 16 bytes stored one after the other, all misaligned: one in 256 crosses. */
static uint64_t store_misaligned(unsigned long n)
{
    uint8_t *a = pages(17, 4);
    for (unsigned long k = 0; k < n; k++) {
        uint8_t *p = a + 5, *end = p + 16 * PAGE;
        __asm__ volatile("movq %2, %%xmm0; 1: movups %%xmm0, (%0); add $16, %0; cmp %1, %0; jb 1b"
                         : "+r"(p)
                         : "r"(end), "r"(k)
                         : "xmm0", "memory", "cc");
    }
    uint64_t sum = sum_of(a, 17 * PAGE);
    free(a);
    return sum;
}

const struct kernel string_kernels[] = {{"rep-movsb-64", "strings", movsb_64, 5000000},
                                        {"rep-movsb-512", "strings", movsb_512, 2000000},
                                        {"rep-movsb-4k", "strings", movsb_4k, 500000},
                                        {"rep-movsq-back", "strings", movsq_back, 300000},
                                        {"rep-movsb-pattern", "strings", movsb_pattern, 200000},
                                        {"rep-stosq-64", "strings", stosq_64, 5000000},
                                        {"rep-stosq-4k", "strings", stosq_4k, 1000000},
                                        {"rep-cmpsb", "strings", cmpsb, 200000},
                                        {"rep-scasb", "strings", scasb, 200000},
                                        {"rep-scasb-20", "strings", scasb_20, 2000000},
                                        {"store-cross", "strings", store_cross, 2000000},
                                        {"load-cross", "strings", load_cross, 4000000},
                                        {"rmw-cross", "strings", rmw_cross, 2000000},
                                        {"store-misaligned", "strings", store_misaligned, 10000},
                                        {0}};
