/* amend, inside: amend.c has the options, downgrade.c what version 2 needs. */
#ifndef BLOCK_QCOW2_AMEND_H
#define BLOCK_QCOW2_AMEND_H

#include "block/qcow2/tree.h"

struct amend {
    struct qcow2 *s;
    const struct keyval *opts;
    bool force;
    void (*progress)(void *opaque, uint64_t done, uint64_t all);
    void *opaque;
    struct err *err;

    unsigned version, refcount_order; /* what they are to become */
    bool lazy;
    uint64_t size;
};

/* Replaces all clusters that only version 3 can say are zero. */
int downgrade_zero_clusters(struct amend *a);
/* Is anything compressed, on the disk or in a snapshot? Takes the lock. */
int downgrade_find_packed(struct amend *a, bool *any);

#endif
