/* Memory kernels: dependent loads, and the C library's copying and scanning as programs call it. */
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

/* One cycle through all slots of size bytes (Sattolo's shuffle). */
static void **make_chain(size_t slots, size_t stride)
{
    char *base = aligned_alloc(4096, slots * stride);
    uint32_t *order = malloc(slots * sizeof(*order));
    uint32_t seed = 29;
    for (size_t i = 0; i < slots; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t i = slots - 1; i > 0; i--) {
        size_t j = next_random(&seed) % i;
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < slots; i++) {
        *(void **)(base + order[i] * stride) = base + order[(i + 1) % slots] * stride;
    }
    void **first = (void **)(base + order[0] * stride);
    free(order);
    return first;
}

static uint64_t chase(size_t slots, unsigned long n)
{
    void **first = make_chain(slots, 64), **p = first;
    uint64_t laps = 0;
    while (n--) {
        p = *p;
        laps += p == first;
    }
    return laps;
}

static uint64_t chase_l1(unsigned long n)
{
    return chase(256, n);
}

static uint64_t chase_32m(unsigned long n)
{
    return chase(32 * MIB / 64, n);
}

static uint64_t copy(unsigned long n)
{
    uint8_t *a = malloc(8 * MIB), *b = malloc(8 * MIB);
    memset(a, 1, 8 * MIB);
    memset(b, 2, 8 * MIB);
    for (unsigned long i = 0; i < n; i++) {
        a[i] = (uint8_t)i;
        memcpy(b, a, 8 * MIB);
        __asm__ volatile("" ::"r"(b) : "memory");
    }
    uint64_t sum = mix(b[0], b[n - 1] + b[8 * MIB - 1]);
    free(a);
    free(b);
    return sum;
}

static uint64_t set(unsigned long n)
{
    uint8_t *a = malloc(8 * MIB);
    uint64_t sum = 0;
    for (unsigned long i = 0; i < n; i++) {
        memset(a, (int)i, 8 * MIB);
        __asm__ volatile("" ::"r"(a) : "memory");
        sum = mix(sum, a[i * 64]);
    }
    free(a);
    return sum;
}

static uint64_t copy64(unsigned long n)
{
    static uint8_t a[4096 + 64], b[4096 + 64];
    volatile size_t size = 64;
    while (n--) {
        a[n & 4095] = (uint8_t)n;
        memcpy(b + (n * 8 & 4095), a + (n & 4095), size);
    }
    return mix(b[100], b[2000]);
}

static uint64_t strings(unsigned long n)
{
    static char text[1024];
    uint64_t sum = 0;
    memset(text, 'x', 1000);
    text[900] = 'q';
    while (n--) {
        const char *p = text + (n & 63);
        __asm__ volatile("" : "+r"(p)::"memory");
        sum += strlen(p) + (size_t)(strchr(p, 'q') - p);
    }
    return sum;
}

const struct kernel memory_kernels[] = {{"chase-l1", "memory", chase_l1, 60000000},
                                        {"chase-32m", "memory", chase_32m, 3000000},
                                        {"memcpy-8m", "memory", copy, 80},
                                        {"memset-8m", "memory", set, 100},
                                        {"memcpy-64", "memory", copy64, 15000000},
                                        {"strlen", "memory", strings, 1200000},
                                        {0}};
