/* An NBD client's bytes, to the server: handshake, options, requests. The export is a small qcow2
 * image that can be written, with a bitmap. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "block/nbd/server.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_block.h"

enum { MAX_INPUT = 64 << 10, MAX_TURNS = 1000000 };

static struct fuzz_block fb;
static struct nbd_server *server;

static void open_server(void)
{
    struct err err;
    struct keyval opts = {0};
    static const char *const bitmaps[] = {"marks", NULL};
    struct nbd_export_opts o = {.name = "x",
                                .description = "small",
                                .writable = true,
                                .allocation_depth = true,
                                .bitmaps = bitmaps};
    fuzz_block_open(&fb);
    keyval_add(&opts, "size", "200000");
    keyval_add(&opts, "cluster_size", "512");
    if (block_create(fb.g, "qcow2", fb.name, &opts, &err)) {
        abort();
    }
    keyval_free(&opts);
    struct block *b = block_open_name(fb.g, fb.name, "qcow2", NULL, BLOCK_RDWR | BLOCK_UNMAP, &err);
    server = nbd_server_new(fb.g, NULL);
    if (!b || block_bitmap_change(b, BITMAP_ADD, "marks", 512, false, &err) ||
        nbd_server_export(server, b, &o, &err)) {
        abort();
    }
    block_close(b);
}

static void drain(int fd)
{
    static char sink[65536];
    while (read(fd, sink, sizeof(sink)) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    if (!server) {
        open_server();
    }
    size = size < MAX_INPUT ? size : MAX_INPUT;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds)) {
        abort();
    }
    if (send(fds[0], data, size, 0) < 0 && size) {
        abort();
    }
    shutdown(fds[0], SHUT_WR);
    nbd_server_add(server, fds[1]);
    for (unsigned turns = 0; nbd_server_clients(server); turns++) {
        drain(fds[0]);
        if (nbd_server_clients(server)) {
            loop_step(fb.loop, true);
        }
        if (turns == MAX_TURNS) {
            abort();
        }
    }
    close(fds[0]);
    return 0;
}
