/* Layout of the generated tables; for the decoder and what else walks over all forms. */
#ifndef ISA_X86_TABLE_H
#define ISA_X86_TABLE_H

#include "isa/x86/decode.h"

/* Values in struct x86_select besides the number that is asked for. */
#define X86_ANY 0xff
#define X86_LOW3 7

/* What selects a form. */
struct x86_select {
    uint8_t map, opcode;
    uint8_t low;    /* opcode bits that number a register */
    uint8_t prefix; /* set of 1 none, 2 66, 4 f3, 8 f2 */
    uint8_t mod;    /* 0 memory, 1 register */
    uint8_t reg, rm;
    uint8_t mode64;
    uint8_t osize, asize; /* 0 1 2: 16 32 64 bits */
    uint8_t rexb, l, w;
    uint16_t line;
};

struct x86_form {
    uint16_t op, flags;
    uint8_t feature;
    uint8_t nopnd;
    uint8_t opnd[4]; /* into x86_codes */
    struct x86_select sel;
};

/* How an operand is found: the letters of Vol. 2D A.2.1 and those in the head of insn.decode. */
enum x86_how {
    X86_HOW_A,
    X86_HOW_B,
    X86_HOW_C,
    X86_HOW_D,
    X86_HOW_E,
    X86_HOW_G,
    X86_HOW_H,
    X86_HOW_I,
    X86_HOW_J,
    X86_HOW_L,
    X86_HOW_M,
    X86_HOW_N,
    X86_HOW_O,
    X86_HOW_P,
    X86_HOW_Q,
    X86_HOW_R,
    X86_HOW_S,
    X86_HOW_U,
    X86_HOW_V,
    X86_HOW_W,
    X86_HOW_X,
    X86_HOW_Y,
    X86_HOW_Z,
    /* fixed ones */
    X86_HOW_GPR,
    X86_HOW_SEG,
    X86_HOW_ST,
    X86_HOW_STI,
    X86_HOW_XMM,
    X86_HOW_ONE,
};

/* Size codes whose number the decoder needs, in the order of SIZES in tools/x86table.py. */
enum x86_size_code {
    X86_SIZE_NONE,
    X86_SIZE_B,
    X86_SIZE_BS,
    X86_SIZE_W,
    X86_SIZE_D,
    X86_SIZE_Q,
    X86_SIZE_DQ,
    X86_SIZE_X,
    X86_SIZE_XH,
    X86_SIZE_XQ,
    X86_SIZE_XO,
    X86_SIZE_V,
    X86_SIZE_Z,
    X86_SIZE_Y,
    X86_SIZE_R,
    X86_SIZE_AD,
    X86_SIZE_A,
    X86_SIZE_P,
    X86_SIZE_S,
    X86_SIZE_ENV,
    X86_SIZE_ST,
    X86_SIZE_T,
    X86_SIZE_COUNT
};

#define X86_SIZES_ROOM 32 /* at least X86_SIZE_COUNT */

struct x86_code {
    char name[5];
    uint8_t how;  /* enum x86_how */
    uint8_t size; /* enum x86_size_code */
    uint8_t reg;
};

/* Decision nodes, see Tree in tools/x86table.py. */
#define X86_LEAF 0x8000
enum x86_node {
    X86_NODE_MODE64,
    X86_NODE_REXB,
    X86_NODE_PREFIX,
    X86_NODE_MOD,
    X86_NODE_REG,
    X86_NODE_RM,
    X86_NODE_L,
    X86_NODE_W,
    X86_NODE_OSIZE,
    X86_NODE_ASIZE,
};

extern const struct x86_code x86_codes[];
extern const uint8_t x86_sizes[][X86_SIZES_ROOM];
extern const struct x86_form x86_forms[X86_FORM_COUNT];
extern const uint16_t x86_tree[];
extern const uint16_t x86_roots[7][256];
extern const uint16_t x86_form_hostvecs[X86_FORM_COUNT];
#define X86_NAME 20 /* names stand in the tables: pointers would be relocated at each start */
extern const char x86_op_names[X86_OP_COUNT][X86_NAME];
extern const char x86_feature_names[X86_FEATURE_COUNT][X86_NAME];

#endif
