/* Arguments of the helpers in help_vec.c, packed into one IR constant. */
#ifndef ISA_X86_VEC_ARGS_H
#define ISA_X86_VEC_ARGS_H

#include <stdint.h>

/* Moves under a mask. The mask is the sign bit of each element of `mask`. */
struct x86_masked {
    uint8_t size;  /* of an element: 1, 4, 8 */
    uint8_t count; /* elements */
    uint8_t reg, mask;
    uint8_t store, mmx;
    uint8_t pad[2];
};

struct x86_gather {
    uint8_t size, index_size;
    uint8_t count;
    uint8_t reg, index, mask;
    uint8_t scale_seg; /* scale << 4 | segment */
    uint8_t addrsize;
};

/* PCMPESTRM and its kin. */
struct x86_pcmpstr {
    uint8_t reg, rm;
    uint8_t imm8;
    uint8_t explicit_len; /* lengths in eAX and eDX */
    uint8_t wide_len;     /* they are 64 bits */
    uint8_t to_mask;      /* result to XMM0, else to ECX */
    uint8_t mem, vex;
};

/* One hostvec instruction under unmasked exceptions: struct ir_vec, its integer result's size. */
struct x86_unmasked {
    uint64_t id : 12, reg : 4, vvvv : 4, rm : 4, imm8 : 8;
    uint64_t reg_kind : 3, rm_kind : 3, size : 7, result : 2;
    uint64_t vex : 1, l : 1, w : 1, has_imm : 1, store : 1, load : 1, aligned : 1;
    uint64_t out : 4, out_size : 4; /* general register */
};

#endif
