/* What the host processor can do and is called (Intel SDM Vol. 2A CPUID). */
#include <cpuid.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "host/x86_64/ctx.h"

enum { EAX, EBX, ECX, EDX };

enum { LEAF_1, LEAF_7, LEAF_D1, LEAF_81, LEAVES };

static const struct {
    const char *name;
    uint8_t leaf, reg, bit;
} caps[] = {
    {"pclmulqdq", LEAF_1, ECX, 1}, {"ssse3", LEAF_1, ECX, 9},    {"fma", LEAF_1, ECX, 12},
    {"sse4.1", LEAF_1, ECX, 19},   {"sse4.2", LEAF_1, ECX, 20},  {"aes", LEAF_1, ECX, 25},
    {"xsave", LEAF_1, ECX, 26},    {"avx", LEAF_1, ECX, 28},     {"f16c", LEAF_1, ECX, 29},
    {"avx2", LEAF_7, EBX, 5},      {"sha-ni", LEAF_7, EBX, 29},  {"xsaveopt", LEAF_D1, EAX, 0},
    {"xsavec", LEAF_D1, EAX, 1},   {"xgetbv1", LEAF_D1, EAX, 2},
};

static uint32_t host_leaf[LEAVES][4]; /* written once */

/* Under a hypervisor every CPUID is an exit, tens of microseconds of a start. */
static void caps_read(void)
{
    static const uint32_t leaf[LEAVES][2] = {{1, 0}, {7, 0}, {0xd, 1}, {0x80000001, 0}};
    uint32_t max = (uint32_t)__get_cpuid_max(0, NULL);
    for (unsigned i = 0; i < LEAVES; i++) {
        uint32_t *r = host_leaf[i];
        if ((leaf[i][0] & 0x7fffffff) <= max) {
            __cpuid_count(leaf[i][0], leaf[i][1], r[EAX], r[EBX], r[ECX], r[EDX]);
        }
    }
}

static void caps_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, caps_read);
}

void caps_probe(struct ir_host_ctx *c)
{
    caps_ready();
    uint32_t ecx = host_leaf[LEAF_1][ECX], ebx = host_leaf[LEAF_7][EBX];
    c->popcnt = ecx & bit_POPCNT;
    if ((ecx & bit_OSXSAVE) && (ecx & bit_AVX)) {
        uint32_t lo, hi;
        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        c->avx = (lo & 6) == 6;
    }
    c->bmi2 = ebx & bit_BMI2;
    c->adx = ebx & bit_ADX;
    c->tzcnt = ebx & bit_BMI;
    c->lzcnt = host_leaf[LEAF_81][ECX] & bit_LZCNT;
}

bool caps_has(const char *name)
{
    caps_ready();
    for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
        if (!strcmp(caps[i].name, name)) {
            return host_leaf[caps[i].leaf][caps[i].reg] >> caps[i].bit & 1;
        }
    }
    return false;
}

void caps_identify(char vendor[13], char brand[49], uint32_t *signature)
{
    uint32_t r[4];
    __cpuid(0, r[EAX], r[EBX], r[ECX], r[EDX]);
    memcpy(vendor, &r[EBX], 4);
    memcpy(vendor + 4, &r[EDX], 4);
    memcpy(vendor + 8, &r[ECX], 4);
    vendor[12] = 0;
    __cpuid(1, *signature, r[EBX], r[ECX], r[EDX]);
    for (unsigned i = 0; i < 3; i++) {
        __cpuid(0x80000002 + i, r[EAX], r[EBX], r[ECX], r[EDX]);
        memcpy(brand + i * 16, r, 16);
    }
    brand[48] = 0;
}
