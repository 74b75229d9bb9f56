/*
 * Intermediate representation of one guest block (a superblock: one entry, side exits).
 *
 * A block is an array of 16-byte ops; an op's result is named by its index (ir_ref), assigned
 * once. Guest registers are read and written by getreg and setreg only, so a back end may keep
 * them where it likes. Flags are values. Memory ops name a guest virtual address; what goes
 * wrong there is a fault with the state before the instruction:
 *
 *   Invariant I1: within a guest instruction no setreg or setflags precedes the last op that can
 *   fault, and an instruction has at most one op that changes memory, unless a probew or ldw of
 *   every stored byte came before. (ir_verify checks the first part.)
 *
 * Does not do: loops inside a block, floating point as IR types (vector and FPU instructions are
 * opaque `hostvec` ops on guest vector registers).
 */
#ifndef IR_IR_H
#define IR_IR_H

#include "base/types.h"

typedef uint16_t ir_ref;
#define IR_NONE 0xffff
#define IR_MAX_OPS 1024    /* ops in a block */
#define IR_MAX_TARGETS 160 /* guest addresses named by a block */
#define IR_MAX_VECS 160    /* hostvec ops in a block */

enum ir_opcode {
#define IR_OP(name, result, operands, props, meaning) IR_##name,
#include "ir/ops.def"
#undef IR_OP
    IR_OPCODES
};

enum ir_type { IR_I8, IR_I16, IR_I32, IR_I64, IR_H8 /* getreg, setreg: bits 15..8 */, IR_TYPES };

static inline unsigned ir_type_bits(enum ir_type t)
{
    return t == IR_H8 ? 8 : 8u << t;
}

static inline unsigned ir_type_bytes(enum ir_type t)
{
    return t == IR_H8 ? 1 : 1u << t;
}

enum ir_props {
    IR_FAULT = 1,
    IR_EFFECT = 2,
    IR_END = 4,
    IR_EXIT = 8,
    IR_SEES_FLAGS = 16 /* the guest's */
};

struct ir_op {
    uint8_t op;   /* enum ir_opcode */
    uint8_t type; /* enum ir_type of the result, or of the stored or compared value */
    uint16_t aux; /* see ops.def */
    int32_t imm;
    union {
        struct {
            ir_ref a, b, c, d;
        };
        uint64_t k; /* const */
    };
};

/* aux of const: it stays at the same distance from the block when the same code is mapped elsewhere
 */
#define IR_CONST_PC 1

/* aux of memory ops and lea: scale in bits 1..0; for rmw the operation in bits 7..4; lock. */
#define IR_AUX_SCALE 3
#define IR_AUX_LOCK 0x100
#define IR_AUX_RMW(aux) (((aux) >> 4) & 15)
enum ir_rmw {
    IR_RMW_ADD,
    IR_RMW_SUB,
    IR_RMW_AND,
    IR_RMW_OR,
    IR_RMW_XOR,
    IR_RMW_XCHG,
    IR_RMW_ADC /* carry of D */,
    IR_RMW_SBB,
    IR_RMW_NEG /* 0 - old */,
    IR_RMW_NOT,
    IR_RMW_ANDN /* old & ~c */,
    IR_RMWS
};

/* aux of jump and jumpi */
enum ir_hint { IR_HINT_NONE, IR_HINT_CALL, IR_HINT_RET };

/*
 * Flags are those of x86: carry, parity, adjust, zero, sign, overflow. (Guests with other flags
 * will add kinds.) Kinds name how they come about; w is the op's width.
 */
enum ir_flags_kind {
    IR_FL_ADD,   /* a + b */
    IR_FL_ADC,   /* a + b + carry of C */
    IR_FL_SUB,   /* a - b */
    IR_FL_SBB,   /* a - b - carry of C */
    IR_FL_LOGIC, /* a is the result; CF OF AF clear */
    IR_FL_AND,   /* the same for a & b (TEST) */
    IR_FL_INC,   /* a + 1, CF of C */
    IR_FL_DEC,   /* a - 1, CF of C */
    IR_FL_SHL,   /* a << b; C when b is 0. OF as for count 1 whatever b */
    IR_FL_SHR,   /* the same for >> */
    IR_FL_SAR,
    IR_FL_ROL, /* CF and OF only, the rest (and all when b is 0) of C */
    IR_FL_ROR,
    IR_FL_RCL,
    IR_FL_RCR,
    IR_FL_SHLD, /* a, fill b, old flags C, count d */
    IR_FL_SHRD,
    IR_FL_MULU,   /* CF and OF: a * b unsigned does not fit w; SF ZF PF of the low half, AF clear */
    IR_FL_MULS,   /* the same, signed */
    IR_FL_ZERO,   /* ZF: a == 0, the rest of C (BSF, BSR: the manual leaves them undefined) */
    IR_FL_ZCNT,   /* LZCNT, TZCNT of a: CF: a == 0, ZF: count b == 0, rest clear */
    IR_FL_POPCNT, /* ZF: a == 0, rest clear */
    IR_FL_BT,     /* CF: bit b modulo w of a, the rest of C */
    IR_FL_CARRY,  /* CF: a != 0 (an i8), the rest of C */
    IR_FL_ZF,     /* ZF: a != 0 (an i8), the rest of C (CMPXCHG8B ...) */
    IR_FL_IMAGE,  /* a is an EFLAGS image */
    IR_FL_LOGICC, /* as LOGIC of a, but CF: b != 0 (an i8) (BLSR, BZHI ...) */
    IR_FL_ADCX,   /* CF: carry out of a + b + CF of C, the rest of C */
    IR_FL_ADOX,   /* OF: carry out of a + b + OF of C, the rest of C */
    IR_FLAGS_KINDS
};

/* Condition codes, numbered as the low four bits of Jcc. */
enum ir_cc {
    IR_CC_O,
    IR_CC_NO,
    IR_CC_B,
    IR_CC_AE,
    IR_CC_E,
    IR_CC_NE,
    IR_CC_BE,
    IR_CC_A,
    IR_CC_S,
    IR_CC_NS,
    IR_CC_P,
    IR_CC_NP,
    IR_CC_L,
    IR_CC_GE,
    IR_CC_LE,
    IR_CC_G
};

/* Bits of a flags value and of flagbits. */
enum {
    FLAG_CF = 1,
    FLAG_PF = 4,
    FLAG_AF = 0x10,
    FLAG_ZF = 0x40,
    FLAG_SF = 0x80,
    FLAG_OF = 0x800,
    FLAG_ALL = 0x8d5
};

/*
 * One vector or FPU instruction: which one (enum hostvec_op), and its operands by guest register
 * number. The memory operand, if any, is at the op's address; reg and rm are fields of the
 * instruction as the manual draws it.
 */
enum ir_vec_operand {
    IR_VEC_NO,
    IR_VEC_REG /* vector register */,
    IR_VEC_MMX,
    IR_VEC_ST,
    IR_VEC_MEM,
    IR_VEC_INT /* integer in: op's c; or out: op's result */
};
/* With HVF_FLAGS_IN (FCMOVcc) the op's c is an EFLAGS image; FNSTSW AX has an integer result. */
enum ir_vec_result { IR_VEC_RNONE, IR_VEC_RINT, IR_VEC_RFLAGS };
struct ir_vec {
    uint16_t id;               /* enum hostvec_op */
    uint8_t reg, vvvv, rm;     /* guest numbers */
    uint8_t reg_kind, rm_kind; /* enum ir_vec_operand */
    uint8_t result;            /* enum ir_vec_result: what the IR op's value is */
    bool vex, l, w;            /* encoding to use: VEX form, 256 bits, REX.W or VEX.W */
    bool has_imm;
    uint8_t imm8;
    uint8_t size; /* bytes of the memory operand; 0: none */
    int32_t disp; /* of its address: the op's imm is taken */
    bool store;   /* memory operand is written */
    bool load;    /* memory operand is read */
    bool aligned; /* memory operand must be aligned to size */
};

/* A guest register as getreg and setreg know it. */
struct ir_reg {
    const char *name;
    uint32_t off;         /* in the guest state, of a 64-bit slot */
    const char *affinity; /* host register it would like, or NULL */
};

struct rt_env;
/* What a helper says. State is in memory; env->pc is the address of its instruction. */
enum ir_helper_result {
    IR_HELPER_NEXT,  /* go on behind the instruction */
    IR_HELPER_PC,    /* go on at env->pc, which the helper set */
    IR_HELPER_FAULT, /* env->fault is to be delivered; state is that before the instruction */
    IR_HELPER_EXIT,  /* like NEXT, then leave the run loop's inner circle (halt, mode change ...) */
    IR_HELPER_AGAIN, /* same instruction again, after polling (long string operations) */
};
typedef enum ir_helper_result ir_helper_fn(struct rt_env *, uint64_t a, uint64_t b, uint64_t c);

struct ir_helper {
    const char *name;
    ir_helper_fn *fn;
};

/* A check that may refuse an instruction: false with env->fault filled. Reads env only; state that
 * generated code keeps in registers is not to be looked at. */
struct ir_check {
    const char *name;
    bool (*fn)(struct rt_env *, uint64_t a, uint64_t b, unsigned size);
};

/* What IR knows of a guest ISA: names and offsets only. */
struct ir_guest {
    const struct ir_reg *regs;
    unsigned nregs;
    const struct ir_helper *helpers;
    unsigned nhelpers;
    const struct ir_check *checks; /* imm of a check op is the access size */
    unsigned nchecks;
    uint32_t vec_off; /* of vector register 0 in the guest state, 32 bytes each */
    uint32_t mxcsr_off;
};

/*
 * A block that looks at its own bytes when it is entered (jit/checked.c): they are in one or two
 * pieces of guest RAM and must be what they were when it was translated.
 */
struct ir_self {
    const uint8_t *at[2]; /* host addresses */
    unsigned n[2];
    const uint8_t *was; /* n[0] + n[1] bytes */
    uint64_t live;      /* bytes that are read by `fetch` instead of being compared */
};

/* What is known of a block's accesses: bits by (pc - the block's) % 64 of the instruction. */
struct ir_hints {
    uint64_t scattered; /* lead to other pages all the time: a register's line is no help */
    uint64_t settled;   /* do not: need not be counted */
    uint64_t shared;    /* lead to pages that can only be read: no store joins their groups */
    uint8_t probe;      /* number + 1 of the env->probe in which the others are counted; 0: none */
};

struct ir_block {
    const struct ir_guest *guest;
    uint64_t pc;   /* of the first instruction */
    uint32_t mode; /* mode word; bits 1..0 are the MMU index */
    uint16_t nops, ntargets, nvecs, ninsns;
    uint32_t bytes; /* of guest code, from pc on */
    ir_ref flags;   /* builder: current flags value or IR_NONE */
    bool full;      /* builder: an array ran over; the block must not be used */
    bool uses_vec;  /* has hostvec ops */
    uint64_t imms;  /* which of its first 64 bytes could be read at run time (tr_ctx.live) */
    uint64_t live;  /* which of them are */
    bool moves;     /* what its code has of its address is in IR_CONST_PC, targets and pc */
    const struct ir_self *check;  /* to be compared at entry, or NULL */
    const struct ir_hints *hints; /* or NULL: nothing is known */
    struct ir_op *op;
    uint64_t *target;
    struct ir_vec *vec;
};

/* A block with room to build one of any size: ir_buf_init gives the block inside. */
struct ir_buf {
    struct ir_block block;
    struct ir_op op[IR_MAX_OPS];
    uint64_t target[IR_MAX_TARGETS];
    struct ir_vec vec[IR_MAX_VECS];
};
struct ir_block *ir_buf_init(struct ir_buf *);
/* A copy in one piece of memory (free() it) that holds just what the block has. */
struct ir_block *ir_block_copy(const struct ir_block *);

struct ir_op_info {
    const char *name;
    char result;          /* V F B N */
    const char *operands; /* as in ops.def */
};
extern const struct ir_op_info ir_op_info[IR_OPCODES];
extern const uint8_t ir_op_props[IR_OPCODES]; /* enum ir_props */
extern const uint8_t ir_op_uses[IR_OPCODES];  /* bits 0..3: value operands a b c d; 4..7: flags */
/* Ones in place of those of a b c d that are no operands. */
extern const uint64_t ir_op_others[IR_OPCODES];

/* Tables by ir_ref that are written without looking have a place for IR_NONE, behind the others. */
#define IR_TABLE (2 * IR_MAX_OPS)
static inline unsigned ir_in_table(uint64_t ref)
{
    return ref & (IR_TABLE - 1);
}

struct strbuf;
struct err;
void ir_print(struct strbuf *, const struct ir_block *);
int ir_parse(struct ir_block *, const struct ir_guest *, const char *text, struct err *);
int ir_verify(const struct ir_block *, struct err *);

void ir_optimize(struct ir_block *); /* drops flags nobody can see and values nobody uses */

#endif
