/* What REP does, on plain host memory that holds all of the elements. */
#ifndef ISA_X86_STRING_BULK_H
#define ISA_X86_STRING_BULK_H

#include "base/types.h"

/*
 * n elements of `size` bytes, n > 0. Pointers are to the lowest byte, also of operations that go
 * down (`down`: the element with the highest address is the first).
 */
void bulk_fill(uint8_t *to, uint64_t v, unsigned size, uint64_t n);

/* The result is that of element after element where source and destination overlap, too. */
void bulk_copy(uint8_t *to, const uint8_t *from, unsigned size, uint64_t n, bool down);

struct bulk_scan {
    const uint8_t *a; /* NULL: all its elements are v */
    const uint8_t *b;
    uint64_t v;
    unsigned size;
    bool down;
    bool equal; /* stop at an element that is equal in both, else at one that is not */
};
/* Elements up to the first that stops it, this one included; n if none does. Others may write the
 * memory meanwhile: look at the last element again. */
uint64_t bulk_scan(const struct bulk_scan *, uint64_t n);

#endif
