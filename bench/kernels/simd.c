/* SIMD kernels: bytes (add, max, sums of differences) and floats (a*x + y), SSE2 and AVX2 with FMA.
 */
#include "kernels.h"
#include <immintrin.h>
#include <string.h>

#define BYTES 4096
#define FLOATS 1024

static uint8_t src[BYTES], dst[BYTES] __attribute__((aligned(32)));
static float xs[FLOATS], ys[FLOATS] __attribute__((aligned(32)));

static void fill(void)
{
    uint32_t seed = 41;
    for (int i = 0; i < BYTES; i++) {
        src[i] = (uint8_t)next_random(&seed);
        dst[i] = (uint8_t)next_random(&seed);
    }
    for (int i = 0; i < FLOATS; i++) {
        xs[i] = (float)(next_random(&seed) >> 8) / 16777216.0f;
        ys[i] = 1.0f;
    }
}

static uint64_t sum_of(const void *data)
{
    uint64_t sum = 0, word;
    for (int i = 0; i < BYTES; i += 8) {
        memcpy(&word, (const char *)data + i, 8);
        sum = mix(sum, word);
    }
    return sum;
}

static uint64_t bytes_sse2(unsigned long n)
{
    fill();
    while (n--) {
        for (int i = 0; i < BYTES; i += 16) {
            __m128i a = _mm_loadu_si128((const __m128i *)(src + i)),
                    b = _mm_load_si128((const __m128i *)(dst + i));
            b = _mm_max_epu8(_mm_add_epi8(a, b), _mm_subs_epu8(b, a));
            _mm_store_si128((__m128i *)(dst + i), b);
        }
    }
    return sum_of(dst);
}

static uint64_t saxpy_sse(unsigned long n)
{
    fill();
    __m128 k = _mm_set1_ps(0.75f), half = _mm_set1_ps(0.5f);
    while (n--) {
        for (int i = 0; i < FLOATS; i += 4) {
            __m128 y = _mm_add_ps(_mm_mul_ps(k, _mm_loadu_ps(xs + i)),
                                  _mm_mul_ps(half, _mm_load_ps(ys + i)));
            _mm_store_ps(ys + i, y);
        }
    }
    return sum_of(ys);
}

__attribute__((target("avx2"))) static uint64_t bytes_avx2(unsigned long n)
{
    fill();
    while (n--) {
        for (int i = 0; i < BYTES; i += 32) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(src + i));
            __m256i b = _mm256_load_si256((const __m256i *)(dst + i));
            b = _mm256_max_epu8(_mm256_add_epi8(a, b), _mm256_subs_epu8(b, a));
            _mm256_store_si256((__m256i *)(dst + i), b);
        }
    }
    return sum_of(dst);
}

__attribute__((target("avx2,fma"))) static uint64_t saxpy_fma(unsigned long n)
{
    fill();
    __m256 k = _mm256_set1_ps(0.75f), half = _mm256_set1_ps(0.5f);
    while (n--) {
        for (int i = 0; i < FLOATS; i += 8) {
            __m256 y = _mm256_load_ps(ys + i);
            y = _mm256_fmadd_ps(k, _mm256_loadu_ps(xs + i), _mm256_mul_ps(half, y));
            _mm256_store_ps(ys + i, y);
        }
    }
    return sum_of(ys);
}

const struct kernel simd_kernels[] = {{"int8-sse2", "simd", bytes_sse2, 120000},
                                      {"saxpy-sse", "simd", saxpy_sse, 100000},
                                      {"int8-avx2", "simd", bytes_avx2, 240000, NEEDS_AVX2},
                                      {"saxpy-fma", "simd", saxpy_fma, 100000, NEEDS_AVX2},
                                      {0}};
