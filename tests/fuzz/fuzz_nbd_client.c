/* An NBD server's bytes, to the client: handshake, then answers to requests that overlap. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "loop/co.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_block.h"

enum { MAX_INPUT = 64 << 10, READERS = 3, PIECE = 1024, PATIENCE = 32 };

static struct fuzz_block fb;
static int listening = -1;
static char path[64];

static void open_listener(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    fuzz_block_open(&fb);
    snprintf(path, sizeof(path), "/tmp/fuzz-nbd-client-%d", (int)getpid());
    strcpy(un.sun_path, path);
    unlink(path);
    listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listening < 0 || bind(listening, (struct sockaddr *)&un, sizeof(un)) ||
        listen(listening, 4)) {
        abort();
    }
}

static void close_listener(void)
{
    unlink(path);
}

struct serve {
    const uint8_t *data;
    size_t size, first;
    int fd;
    bool ended;
};

static void say(struct serve *s, size_t n)
{
    n = n < s->size ? n : s->size;
    if (n && send(s->fd, s->data, n, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) {
        abort();
    }
    s->data += n;
    s->size -= n;
}

/* Says the handshake, gives the client time to ask, then says the rest. */
static void serve_one(void *opaque)
{
    struct serve *s = opaque;
    co_wait_fd(listening, LOOP_IN);
    s->fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s->fd < 0) {
        abort();
    }
    say(s, s->first);
    for (unsigned i = 0; i < PATIENCE; i++) {
        co_yield ();
    }
    say(s, s->size);
    shutdown(s->fd, SHUT_WR);
    s->ended = true;
}

struct client {
    struct block *b;
    unsigned n, left;
};

static void reader(void *opaque)
{
    struct client *c = opaque;
    uint8_t buf[PIECE];
    struct block_extent e;
    unsigned n = c->n++;
    uint64_t size = block_size(c->b), at = n * 512ull;
    size_t len = size > at ? size - at < PIECE ? size - at : PIECE : 0;
    block_pread(c->b, at < size ? at : 0, buf, len);
    if (len && !block_extent(c->b, at, size - at, &e) && (!e.len || e.len > size - at)) {
        abort();
    }
    block_pwrite(c->b, 0, buf, len < 512 ? len : 512, BLOCK_FUA);
    block_zero(c->b, 0, len, BLOCK_MAY_UNMAP);
    block_flush(c->b);
    c->left--;
}

static void use_it(struct block *b)
{
    struct client c = {b, 0, READERS};
    for (unsigned i = 0; i < READERS; i++) {
        co_start(fb.loop, reader, &c);
    }
    while (c.left) {
        loop_step(fb.loop, true);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct keyval opts = {0};
    if (listening < 0) {
        open_listener();
        atexit(close_listener);
    }
    struct fuzz_in in = {data, data + size};
    bool bitmap = fuzz_u8(&in) & 1;
    struct serve s = {.first = fuzz_u16(&in), .fd = -1};
    size_t n = (size_t)(in.end - in.p);
    s.data = in.p;
    s.size = n < MAX_INPUT ? n : MAX_INPUT;
    co_start(fb.loop, serve_one, &s);
    keyval_add(&opts, "driver", "nbd");
    keyval_add(&opts, "server.type", "unix");
    keyval_add(&opts, "server.path", path);
    keyval_add(&opts, "export", "x");
    if (bitmap) {
        keyval_add(&opts, "x-dirty-bitmap", "marks");
    }
    struct block *b = block_open(fb.g, &opts, BLOCK_RDWR | BLOCK_UNMAP, &err);
    keyval_free(&opts);
    if (b) {
        use_it(b);
    }
    block_close(b);
    while (!s.ended) {
        loop_step(fb.loop, true);
    }
    close(s.fd);
    return 0;
}
