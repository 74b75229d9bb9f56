/*
 * The measured programs of bench/: each kernel does a fixed amount of work, n times over, and
 * returns a checksum of its results, which must not depend on the machine or the emulator.
 */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum kernel_needs { NEEDS_NOTHING, NEEDS_AVX2, NEEDS_MICROVM /* run by bench/run.py */ };

struct kernel {
    const char *name, *group;
    uint64_t (*run)(unsigned long n);
    unsigned long n;
    enum kernel_needs needs;
};

/* Each file's kernels; the last one has no name. */
extern const struct kernel integer_kernels[], call_kernels[], memory_kernels[], float_kernels[],
    simd_kernels[], system_kernels[], string_kernels[], device_kernels[];

#define NOINLINE __attribute__((noinline))

static inline uint32_t next_random(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x9e3779b97f4a7c15u + (sum >> 29);
}

#endif
