/* Scalar floating point: double, float, conversions, and the x87's long double. */
#include "kernels.h"
#include <math.h>
#include <string.h>

static uint64_t bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

__attribute__((noinline, optimize("no-tree-vectorize"))) static void
multiply(double *c, const double *a, const double *b)
{
    for (int i = 0; i < 64; i++) {
        for (int j = 0; j < 64; j++) {
            double sum = 0;
            for (int k = 0; k < 64; k++) {
                sum += a[i * 64 + k] * b[k * 64 + j];
            }
            c[i * 64 + j] = sum;
        }
    }
}

static uint64_t matmul(unsigned long n)
{
    static double a[4096], b[4096], c[4096];
    uint32_t seed = 31;
    for (int i = 0; i < 4096; i++) {
        a[i] = next_random(&seed) / 4294967296.0;
        b[i] = next_random(&seed) / 4294967296.0;
    }
    uint64_t sum = 0;
    while (n--) {
        multiply(c, a, b);
        sum = mix(sum, bits(c[n & 4095]));
    }
    return sum;
}

struct body {
    double x[3], v[3], m;
};

static NOINLINE void advance(struct body *b, double dt)
{
    for (int i = 0; i < 5; i++) {
        for (int j = i + 1; j < 5; j++) {
            double d[3], square = 0;
            for (int k = 0; k < 3; k++) {
                d[k] = b[i].x[k] - b[j].x[k];
                square += d[k] * d[k];
            }
            double pull = dt / (square * __builtin_sqrt(square));
            for (int k = 0; k < 3; k++) {
                b[i].v[k] -= d[k] * b[j].m * pull;
                b[j].v[k] += d[k] * b[i].m * pull;
            }
        }
    }
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 3; k++) {
            b[i].x[k] += dt * b[i].v[k];
        }
    }
}

static uint64_t nbody(unsigned long n)
{
    struct body b[5];
    for (int i = 0; i < 5; i++) {
        b[i] = (struct body){
            {i * 5.0, i * 3.0 + 1, 2.0 - i}, {0.1 * i, 0.2, -0.05 * i}, i ? 0.01 * i : 40.0};
    }
    while (n--) {
        advance(b, 0.001);
    }
    return mix(bits(b[0].x[0]), bits(b[4].v[2]));
}

static uint64_t mandelbrot(unsigned long n)
{
    uint64_t sum = 0;
    for (unsigned long row = 0; row < n; row++) {
        for (int col = 0; col < 200; col++) {
            float cr = (float)col / 80.0f - 2.0f, ci = (float)row / (float)n * 2.0f - 1.0f, r = 0,
                  i = 0;
            int steps = 0;
            while (steps < 100 && r * r + i * i < 4.0f) {
                float t = r * r - i * i + cr;
                i = 2.0f * r * i + ci;
                r = t;
                steps++;
            }
            sum = mix(sum, (uint64_t)steps);
        }
    }
    return sum;
}

static uint64_t convert(unsigned long n)
{
    uint32_t seed = 37;
    int64_t sum = 0;
    while (n--) {
        double d = (double)(int32_t)next_random(&seed);
        float f = (float)(d / 3.7);
        sum += (int64_t)(f / 1.25f) + (int32_t)(d / ((double)(n & 15) + 1.5));
    }
    return (uint64_t)sum;
}

static uint64_t long_double(unsigned long n)
{
    long double x = 0.5L, sum = 0;
    while (n--) {
        x = x * 3.75L * (1 - x);
        sum += x / (sum * sum + 1);
        if (sum > 100) {
            sum -= 99.5L;
        }
    }
    return mix(bits((double)x), bits((double)sum));
}

const struct kernel float_kernels[] = {
    {"matmul", "float", matmul, 400},          {"nbody", "float", nbody, 600000},
    {"mandelbrot", "float", mandelbrot, 3000}, {"convert", "float", convert, 15000000},
    {"x87", "float", long_double, 6000000},    {0}};
