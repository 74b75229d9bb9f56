/* CPU models: what CPUID says and which instructions decode. */
#ifndef ISA_X86_MODEL_H
#define ISA_X86_MODEL_H

#include <stdio.h>

#include "base/types.h"
#include "isa/x86/decode.h"

struct err;
struct vcpu;

enum x86_leaf {
    LEAF_1_EDX,
    LEAF_1_ECX,
    LEAF_7_EBX,
    LEAF_7_ECX,
    LEAF_7_EDX,
    LEAF_D1_EAX,
    LEAF_81_EDX,
    LEAF_81_ECX,
    LEAF_87_EDX,
    LEAF_88_EBX,
    X86_LEAVES
};

struct x86_model {
    const char *name;
    char vendor[13], brand[49];
    uint32_t signature; /* leaf 1 EAX */
    uint32_t leaf[X86_LEAVES];
    bool has[X86_FEATURE_COUNT]; /* instructions the decoder's feature column names */
};

/* "MODEL,+feat,-feat,feat=on|off": NULL with a sentence naming the nearest valid word. */
struct x86_model *x86_model_new(const char *text, struct err *err);
bool x86_model_has(const struct vcpu *v, enum x86_feature feature);
void x86_model_help(FILE *out);

#endif
