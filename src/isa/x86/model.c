/*
 * CPU models and their features (Intel SDM Vol. 2A CPUID; AMD APM Vol. 3 appendix E).
 *
 * A feature is offered when the emulator implements it and, for those that run on the host's vector
 * unit, the host has it too. Models are the published names of QEMU and of the x86-64 psABI.
 */
#include "isa/x86/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/keyval.h"
#include "base/near.h"
#include "core/vcpu.h"
#include "ir/host.h"
#include "isa/x86/cpu.h"

enum {
    IN_V1 = 1,
    IN_V2 = 2,
    IN_V3 = 4,
    IN_QEMU64 = 8,
    HOST = 16 /* needs the host's */,
    ASKED = 32 /* only by +name */
};
#define BASE (IN_V1 | IN_QEMU64)

struct feature {
    const char *name;
    uint8_t leaf, bit;
    uint16_t insn; /* enum x86_feature, 0 if it gates none */
    uint8_t flags;
};

static const struct feature features[] = {
    {"fpu", LEAF_1_EDX, 0, X86_FEATURE_FPU, BASE},
    {"vme", LEAF_1_EDX, 1, 0, 0},
    {"de", LEAF_1_EDX, 2, 0, BASE},
    {"pse", LEAF_1_EDX, 3, 0, BASE},
    {"tsc", LEAF_1_EDX, 4, X86_FEATURE_TSC, BASE},
    {"msr", LEAF_1_EDX, 5, X86_FEATURE_MSR, BASE},
    {"pae", LEAF_1_EDX, 6, 0, BASE},
    {"mce", LEAF_1_EDX, 7, 0, BASE},
    {"cx8", LEAF_1_EDX, 8, X86_FEATURE_CX8, BASE},
    {"apic", LEAF_1_EDX, 9, 0, BASE},
    {"sep", LEAF_1_EDX, 11, X86_FEATURE_SEP, BASE},
    {"mtrr", LEAF_1_EDX, 12, 0, BASE},
    {"pge", LEAF_1_EDX, 13, 0, BASE},
    {"mca", LEAF_1_EDX, 14, 0, BASE},
    {"cmov", LEAF_1_EDX, 15, X86_FEATURE_CMOV, BASE},
    {"pat", LEAF_1_EDX, 16, 0, BASE},
    {"pse36", LEAF_1_EDX, 17, 0, BASE},
    {"clflush", LEAF_1_EDX, 19, X86_FEATURE_CLFSH, BASE},
    {"mmx", LEAF_1_EDX, 23, X86_FEATURE_MMX, BASE},
    {"fxsr", LEAF_1_EDX, 24, X86_FEATURE_FXSR, BASE},
    {"sse", LEAF_1_EDX, 25, X86_FEATURE_SSE, BASE},
    {"sse2", LEAF_1_EDX, 26, X86_FEATURE_SSE2, BASE},
    {"ss", LEAF_1_EDX, 27, 0, 0},
    {"pni", LEAF_1_ECX, 0, X86_FEATURE_SSE3, IN_V2 | IN_QEMU64},
    {"pclmulqdq", LEAF_1_ECX, 1, X86_FEATURE_PCLMULQDQ, HOST},
    {"monitor", LEAF_1_ECX, 3, X86_FEATURE_MONITOR, 0},
    {"ssse3", LEAF_1_ECX, 9, X86_FEATURE_SSSE3, IN_V2 | HOST},
    {"fma", LEAF_1_ECX, 12, X86_FEATURE_FMA, IN_V3 | HOST},
    {"cx16", LEAF_1_ECX, 13, X86_FEATURE_CX16, IN_V2 | IN_QEMU64},
    {"pcid", LEAF_1_ECX, 17, 0, 0},
    {"sse4.1", LEAF_1_ECX, 19, X86_FEATURE_SSE4_1, IN_V2 | HOST},
    {"sse4.2", LEAF_1_ECX, 20, X86_FEATURE_SSE4_2, IN_V2 | HOST},
    {"x2apic", LEAF_1_ECX, 21, 0, BASE},
    {"movbe", LEAF_1_ECX, 22, X86_FEATURE_MOVBE, IN_V3},
    {"popcnt", LEAF_1_ECX, 23, X86_FEATURE_POPCNT, IN_V2},
    {"tsc-deadline", LEAF_1_ECX, 24, 0, 0},
    {"aes", LEAF_1_ECX, 25, X86_FEATURE_AES, HOST},
    {"xsave", LEAF_1_ECX, 26, X86_FEATURE_XSAVE, IN_V3 | HOST},
    {"avx", LEAF_1_ECX, 28, X86_FEATURE_AVX, IN_V3 | HOST},
    {"f16c", LEAF_1_ECX, 29, X86_FEATURE_F16C, IN_V3 | HOST},
    {"rdrand", LEAF_1_ECX, 30, X86_FEATURE_RDRAND, 0},
    {"hypervisor", LEAF_1_ECX, 31, 0, BASE},
    {"fsgsbase", LEAF_7_EBX, 0, X86_FEATURE_FSGSBASE, 0},
    {"tsc-adjust", LEAF_7_EBX, 1, 0, BASE},
    {"bmi1", LEAF_7_EBX, 3, X86_FEATURE_BMI1, IN_V3},
    {"avx2", LEAF_7_EBX, 5, X86_FEATURE_AVX2, IN_V3 | HOST},
    {"smep", LEAF_7_EBX, 7, 0, 0},
    {"bmi2", LEAF_7_EBX, 8, X86_FEATURE_BMI2, IN_V3},
    {"erms", LEAF_7_EBX, 9, 0, 0},
    {"invpcid", LEAF_7_EBX, 10, X86_FEATURE_INVPCID, 0},
    {"rdseed", LEAF_7_EBX, 18, X86_FEATURE_RDSEED, 0},
    {"adx", LEAF_7_EBX, 19, X86_FEATURE_ADX, 0},
    {"smap", LEAF_7_EBX, 20, X86_FEATURE_SMAP, 0},
    {"clflushopt", LEAF_7_EBX, 23, X86_FEATURE_CLFLUSHOPT, 0},
    {"clwb", LEAF_7_EBX, 24, X86_FEATURE_CLWB, 0},
    {"sha-ni", LEAF_7_EBX, 29, X86_FEATURE_SHA, HOST},
    {"umip", LEAF_7_ECX, 2, 0, 0},
    {"pku", LEAF_7_ECX, 3, X86_FEATURE_PKU, ASKED},
    {"la57", LEAF_7_ECX, 16, 0, ASKED},
    {"rdpid", LEAF_7_ECX, 22, X86_FEATURE_RDPID, 0},
    {"fsrm", LEAF_7_EDX, 4, 0, 0},
    {"serialize", LEAF_7_EDX, 14, X86_FEATURE_SERIALIZE, 0},
    {"xsaveopt", LEAF_D1_EAX, 0, X86_FEATURE_XSAVEOPT, HOST},
    {"xsavec", LEAF_D1_EAX, 1, X86_FEATURE_XSAVEC, HOST},
    {"xgetbv1", LEAF_D1_EAX, 2, 0, HOST},
    {"syscall", LEAF_81_EDX, 11, X86_FEATURE_SYSCALL, BASE},
    {"nx", LEAF_81_EDX, 20, 0, BASE},
    {"pdpe1gb", LEAF_81_EDX, 26, 0, 0},
    {"rdtscp", LEAF_81_EDX, 27, X86_FEATURE_RDTSCP, 0},
    {"lm", LEAF_81_EDX, 29, 0, BASE},
    {"lahf-lm", LEAF_81_ECX, 0, X86_FEATURE_LAHF_LM, IN_V2 | IN_QEMU64},
    {"abm", LEAF_81_ECX, 5, X86_FEATURE_LZCNT, IN_V3},
    {"3dnowprefetch", LEAF_81_ECX, 8, 0, 0},
    {"topoext", LEAF_81_ECX, 22, 0, 0},
    {"invtsc", LEAF_87_EDX, 8, 0, BASE},
};

static bool host_has(const struct feature *f)
{
    const struct ir_host *h = ir_host_native();
    return h && h->has(f->name);
}

struct model_def {
    const char *name, *summary;
    unsigned with; /* features whose flags have one of these */
    bool all;
};

static const struct model_def models[] = {
    {"qemu64", "the baseline that QEMU users know", IN_QEMU64, false},
    {"x86-64-v1", "x86-64 psABI level 1", IN_V1, false},
    {"x86-64-v2", "x86-64 psABI level 2", IN_V1 | IN_V2, false},
    {"x86-64-v3", "x86-64 psABI level 3 (AVX2)", IN_V1 | IN_V2 | IN_V3, false},
    {"max", "every feature that can be emulated here, but pku and la57", 0, true},
    {"host", "max, with the host's name", 0, true},
};

static void set_feature(struct x86_model *m, const struct feature *f, bool on)
{
    m->leaf[f->leaf] = on ? m->leaf[f->leaf] | 1u << f->bit : m->leaf[f->leaf] & ~(1u << f->bit);
    if (f->insn) {
        m->has[f->insn] = on;
    }
}

static void derive(struct x86_model *m)
{
    /* Vector extensions without a CPUID bit of their own here, and those that need others. */
    if (!m->has[X86_FEATURE_XSAVE]) {
        m->has[X86_FEATURE_AVX] = false;
        m->leaf[LEAF_1_ECX] &= ~(1u << 28);
        m->leaf[LEAF_D1_EAX] = 0;
        m->has[X86_FEATURE_XSAVEOPT] = m->has[X86_FEATURE_XSAVEC] = false;
    }
    static const uint8_t need_avx[] = {X86_FEATURE_AVX2, X86_FEATURE_FMA, X86_FEATURE_F16C};
    for (unsigned i = 0; !m->has[X86_FEATURE_AVX] && i < ARRAY_LEN(need_avx); i++) {
        for (unsigned k = 0; k < ARRAY_LEN(features); k++) {
            if (features[k].insn == need_avx[i]) {
                set_feature(m, &features[k], false);
            }
        }
    }
    m->has[X86_FEATURE_NONE] = true;
    m->has[X86_FEATURE_LAHF_LM] = true; /* gates 64-bit mode only, and every processor has it */
    /* AMD repeats leaf 1's bits */
    m->leaf[LEAF_81_EDX] |= m->leaf[LEAF_1_EDX] & 0x0183f3ff;
    m->leaf[LEAF_81_ECX] |= 0;
}

static void name_model(struct x86_model *m, bool host)
{
    memcpy(m->vendor, "AuthenticAMD", 13);
    m->signature = 0x00060fb1; /* family 15, model 107, stepping 1 */
    snprintf(m->brand, sizeof(m->brand), "Lodge virtual CPU (%s)", m->name);
    if (host && ir_host_native()) {
        ir_host_native()->identify(m->vendor, m->brand, &m->signature);
    }
}

static const struct feature *find_feature(const char *name, size_t len)
{
    for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
        if (strlen(features[i].name) == len && !strncmp(features[i].name, name, len)) {
            return &features[i];
        }
    }
    static const struct {
        const char *alias, *name;
    } aliases[] = {
        {"sse3", "pni"},
        {"sse4_1", "sse4.1"},
        {"sse4-1", "sse4.1"},
        {"sse4_2", "sse4.2"},
        {"sse4-2", "sse4.2"},
        {"lzcnt", "abm"},
        {"lahf_lm", "lahf-lm"},
        {"tsc_deadline", "tsc-deadline"},
        {"tsc_adjust", "tsc-adjust"},
        {"sha_ni", "sha-ni"},
        {"i64", "lm"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strlen(aliases[i].alias) == len && !strncmp(aliases[i].alias, name, len)) {
            return find_feature(aliases[i].name, strlen(aliases[i].name));
        }
    }
    return NULL;
}

static int unknown_feature(const char *word, struct err *err)
{
    const char *names[ARRAY_LEN(features)];
    for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
        names[i] = features[i].name;
    }
    return err_set(err, EINVAL, "-cpu: unknown feature '%s'; the nearest is '%s'", word,
                   near_pick(word, names, ARRAY_LEN(names)));
}

/* One word behind the model's name. */
static int apply_word(struct x86_model *m, const char *word, struct err *err)
{
    bool on = true;
    char text[64];
    snprintf(text, sizeof(text), "%s", word);
    char *name = text, *eq = strchr(text, '=');
    if (*name == '+' || *name == '-') {
        on = *name++ == '+';
    } else if (eq) {
        *eq = 0;
        if (!strcmp(eq + 1, "off")) {
            on = false;
        } else if (strcmp(eq + 1, "on")) {
            return err_set(err, EINVAL, "-cpu: %s takes on or off, not '%s'", name, eq + 1);
        }
    }
    const struct feature *f = find_feature(name, strlen(name));
    if (!f) {
        static const char *const ignored[] = {"migratable", "enforce",        "check",
                                              "pmu",        "host-phys-bits", "kvm"};
        for (unsigned i = 0; i < ARRAY_LEN(ignored); i++) {
            if (!strcmp(ignored[i], name)) {
                return 0;
            }
        }
        return unknown_feature(name, err);
    }
    if (on && (f->flags & HOST) && !host_has(f)) {
        return err_set(err, EINVAL,
                       "-cpu: feature '%s' runs on the host's vector unit, which lacks it", name);
    }
    set_feature(m, f, on);
    return 0;
}

static int unknown_model(const char *word, struct err *err)
{
    const char *names[ARRAY_LEN(models)];
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        names[i] = models[i].name;
    }
    return err_set(err, EINVAL, "-cpu: unknown model '%s'; the nearest is '%s'", word,
                   near_pick(word, names, ARRAY_LEN(names)));
}

struct x86_model *x86_model_new(const char *text, struct err *err)
{
    char *copy = strdup(text), *save = NULL;
    const char *name = strtok_r(copy, ",", &save);
    const struct model_def *def = NULL;
    for (unsigned i = 0; name && i < ARRAY_LEN(models); i++) {
        def = strcmp(models[i].name, name) ? def : &models[i];
    }
    if (!def) {
        unknown_model(name ? name : "", err);
        free(copy);
        return NULL;
    }
    struct x86_model *m = calloc(1, sizeof(*m));
    m->name = def->name;
    for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
        const struct feature *f = &features[i];
        bool want = (def->all && !(f->flags & ASKED)) || (f->flags & def->with);
        set_feature(m, f, want && (!(f->flags & HOST) || host_has(f)));
    }
    for (char *w = strtok_r(NULL, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        if (apply_word(m, w, err)) {
            free(m);
            free(copy);
            return NULL;
        }
    }
    name_model(m, !strcmp(def->name, "host"));
    derive(m);
    free(copy);
    return m;
}

bool x86_model_has(const struct vcpu *v, enum x86_feature feature)
{
    return x86_cpu(v)->model->has[feature];
}

void x86_model_help(FILE *out)
{
    fprintf(out, "Available CPUs:\n");
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        fprintf(out, "  %-12s %s\n", models[i].name, models[i].summary);
    }
    fprintf(out, "\nFeatures, to be added or taken away (+feat, -feat, feat=on, feat=off):\n ");
    for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
        fprintf(out, " %s", features[i].name);
    }
    fprintf(out, "\n");
}
