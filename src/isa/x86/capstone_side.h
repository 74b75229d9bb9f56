/* Capstone behind names that do not clash with ours. */
#ifndef ISA_X86_CAPSTONE_SIDE_H
#define ISA_X86_CAPSTONE_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct their_insn {
    unsigned len;
    char name[32];
    char text[200];
};

bool capstone_decode(struct their_insn *insn, const uint8_t *code, size_t avail, unsigned mode);

#endif
