/* What every fuzz target offers; main() is the fuzzer's, or that of replay.c. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes of the input, taken from the front; zero when there are no more. */
struct fuzz_in {
    const uint8_t *p, *end;
};

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static inline uint32_t fuzz_u16(struct fuzz_in *in)
{
    uint32_t lo = fuzz_u8(in);
    return lo | (uint32_t)fuzz_u8(in) << 8;
}

static inline uint32_t fuzz_u32(struct fuzz_in *in)
{
    uint32_t lo = fuzz_u16(in);
    return lo | fuzz_u16(in) << 16;
}

static inline uint64_t fuzz_u64(struct fuzz_in *in)
{
    uint64_t lo = fuzz_u32(in);
    return lo | (uint64_t)fuzz_u32(in) << 32;
}

#endif
