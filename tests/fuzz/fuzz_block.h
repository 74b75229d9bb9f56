/* A graph and a file in memory, for targets of the block layer. */
#ifndef TESTS_FUZZ_FUZZ_BLOCK_H
#define TESTS_FUZZ_FUZZ_BLOCK_H

#include "base/keyval.h"
#include "block/block.h"
#include "loop/loop.h"

struct fuzz_block {
    struct loop *loop;
    struct block_graph *g;
    int fd;
    char name[32]; /* of the file */
};

/* Once; images may not name files of the host, files do not become large. */
void fuzz_block_open(struct fuzz_block *f);

#endif
