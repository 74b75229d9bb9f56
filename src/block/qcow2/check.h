/* Checking and repairing a qcow2 image, inside: check.c leads and counts, check_tree.c looks at the
 * L1 and L2 tables, repair.c puts right. */
#ifndef BLOCK_QCOW2_CHECK_H
#define BLOCK_QCOW2_CHECK_H

#include "block/qcow2/counts.h"
#include "block/qcow2/tree.h"

/* An L2 table, and from how many L1 entries it is referred to. */
struct check_l2 {
    uint64_t off;
    uint64_t refs;
    bool walked, flags_done;
};

/* The refcounts on disk: the table with only usable entries, and the block looked at last. */
struct check_refs {
    uint64_t *table, size, index;
    uint8_t *block;
    bool loaded;
};

struct check {
    struct qcow2 *s;
    struct check_report *r;
    unsigned repair;
    uint64_t clusters; /* of the file */
    struct counts counts;
    struct check_refs refs;
    struct check_l2 *l2;
    size_t l2_count, l2_room;
    bool rebuild; /* the refcount structure itself is broken */
    bool unseen;  /* parts could not be looked at: what seems unused may be in use */
    bool table_bad;
    bool rebuilt;
    uint64_t high;
};

/* Reports: one that is (or is not) put right at once. `n`: counts as so many. */
void check_found(struct check *c, bool fixed, uint64_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void check_error(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The range is in the file; otherwise nothing is counted. */
bool check_in_file(const struct check *c, uint64_t off, uint64_t len);
/* Adds n references to all clusters of the range. */
int check_count(struct check *c, uint64_t off, uint64_t len, int64_t n);
static inline bool check_fixing(const struct check *c)
{
    return c->repair & REPAIR_ERRORS;
}

/* ---- check_refs.c ---- */
int check_refs_init(struct check *c); /* looks at the table, counts it and its blocks */
void check_refs_free(struct check *c);
int check_refs_get(struct check *c, uint64_t cluster, uint64_t *count);
/* Takes the references of the refcount structure itself out of the counts. */
int check_refs_uncount(struct check *c);
int check_compare(struct check *c);

/* ---- check_tree.c ---- */
int check_tree(struct check *c);
/* COPIED flags; after the refcounts are known or right. */
int check_flags(struct check *c);

/* ---- repair.c ---- */
int repair_refcounts(struct check *c, struct err *err);
int repair_leaks(struct check *c);
int repair_finish(struct check *c);

#endif
