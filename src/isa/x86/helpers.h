/* Numbers and prototypes of the x86 helpers, from helpers.def. */
#ifndef ISA_X86_HELPERS_H
#define ISA_X86_HELPERS_H

#include "ir/ir.h"

enum x86_helper {
#define X86_HELPER(name) HELPER_##name,
#include "isa/x86/helpers.def"
#undef X86_HELPER
    X86_HELPERS
};

#define X86_HELPER(name) ir_helper_fn helper_##name;
#include "isa/x86/helpers.def"
#undef X86_HELPER

/* Checks. Of memory operands in segments that are not flat: segment a, offset b. */
enum x86_check {
    CHECK_READ,
    CHECK_WRITE,
    CHECK_PRIVILEGE,
    CHECK_ALIGN, /* address a; its size is the alignment */
    CHECK_FETCH, /* offset a in CS */
    CHECK_X87,   /* #MF when an exception of the x87 is pending */
    X86_CHECKS
};

/* Operand of helper_int_n. */
enum x86_int { INT_3_OR_O, INT_1, INT_N };

/* Operand of helper_string: what, element size, prefix, segment, address size. */
enum x86_string {
    STRING_MOVS,
    STRING_STOS,
    STRING_LODS,
    STRING_CMPS,
    STRING_SCAS,
    STRING_INS,
    STRING_OUTS
};
struct x86_string_args {
    uint8_t what, size, rep /* 0, 0xf3, 0xf2 */, seg, addrsize, len /* of the instruction */;
};
static inline uint64_t x86_string_pack(struct x86_string_args s)
{
    return s.what | (uint64_t)s.size << 8 | (uint64_t)s.rep << 16 | (uint64_t)s.seg << 24 |
           (uint64_t)s.addrsize << 32 | (uint64_t)s.len << 40;
}

/* Operand of save_state and restore_state. */
enum x86_state_kind { STATE_FXSAVE, STATE_XSAVE, STATE_XSAVEOPT, STATE_XSAVEC, STATE_XSAVES };
/* Operand of fpu_env. */
enum x86_fpu_env {
    FPU_LDCW,
    FPU_STENV,
    FPU_LDENV,
    FPU_SAVE,
    FPU_RSTOR,
    FPU_INIT,
    FPU_STCW,
    FPU_STSW,
    FPU_STSW_AX
};

#endif
