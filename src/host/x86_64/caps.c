/* What the host processor can do and is called (Intel SDM Vol. 2A CPUID). */
#include <cpuid.h>
#include <string.h>

#include "base/bits.h"
#include "host/x86_64/ctx.h"

enum { EAX, EBX, ECX, EDX };

static const struct {
    const char *name;
    uint32_t leaf;
    uint8_t sub, reg, bit;
} caps[] = {
    {"pclmulqdq", 1, 0, ECX, 1}, {"ssse3", 1, 0, ECX, 9},     {"fma", 1, 0, ECX, 12},
    {"sse4.1", 1, 0, ECX, 19},   {"sse4.2", 1, 0, ECX, 20},   {"aes", 1, 0, ECX, 25},
    {"xsave", 1, 0, ECX, 26},    {"avx", 1, 0, ECX, 28},      {"f16c", 1, 0, ECX, 29},
    {"avx2", 7, 0, EBX, 5},      {"sha-ni", 7, 0, EBX, 29},   {"xsaveopt", 0xd, 1, EAX, 0},
    {"xsavec", 0xd, 1, EAX, 1},  {"xgetbv1", 0xd, 1, EAX, 2},
};

bool caps_has(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
        uint32_t r[4] = {0};
        if (!strcmp(caps[i].name, name) && (uint32_t)__get_cpuid_max(0, NULL) >= caps[i].leaf) {
            __cpuid_count(caps[i].leaf, caps[i].sub, r[EAX], r[EBX], r[ECX], r[EDX]);
            return r[caps[i].reg] >> caps[i].bit & 1;
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
