#include "tests/fuzz/fuzz_block.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/log.h"

enum { MAX_BYTES = 256 << 20 };

void fuzz_block_open(struct fuzz_block *f)
{
    struct err err;
    struct rlimit most = {MAX_BYTES, MAX_BYTES};
    struct keyval secret = {0};
    if (f->g) {
        return;
    }
    signal(SIGXFSZ, SIG_IGN);
    f->fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        f->fd = memfd_create("image", MFD_CLOEXEC); /* slower: never answers at once */
    }
    f->loop = loop_new(&err);
    if (f->fd < 0 || !f->loop || setrlimit(RLIMIT_FSIZE, &most) || log_open("/dev/null", &err)) {
        abort();
    }
    snprintf(f->name, sizeof(f->name), "/proc/self/fd/%d", f->fd);
    f->g = block_graph_new(f->loop);
    block_graph_refuse_backing(f->g);
    keyval_add(&secret, "id", "s");
    keyval_add(&secret, "data", "secret");
    keyval_add(&secret, "qom-type", "secret");
    if (block_add_object(f->g, &secret, &err)) {
        abort();
    }
    keyval_free(&secret);
}
