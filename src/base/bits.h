/* Bit and arithmetic helpers without side effects. */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define BIT(n) (1ull << (n))

/* All ones in the low `n` bits; n from 0 to 64. */
static inline uint64_t mask_low(unsigned n)
{
    return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* Bits hi..lo of v, as a number. */
static inline uint64_t bits_get(uint64_t v, unsigned hi, unsigned lo)
{
    return (v >> lo) & mask_low(hi - lo + 1);
}

/* v with its low `n` bits taken as a two's complement number; n from 1 to 64. */
static inline int64_t sign_extend(uint64_t v, unsigned n)
{
    return (int64_t)(v << (64 - n)) >> (64 - n);
}

static inline bool add_ok(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool mul_ok(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline uint64_t round_down(uint64_t x, uint64_t to) /* to: a power of two */
{
    return x & ~(to - 1);
}

static inline uint64_t round_up(uint64_t v, uint64_t power_of_two)
{
    return (v + power_of_two - 1) & ~(power_of_two - 1);
}

#endif
