/* read, write and their vectored and asynchronous forms. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "block/block.h"
#include "img/io.h"

enum { READ_FILL = 0xab, WRITE_FILL = 0xcd };

/* What a request is; asynchronous ones outlive their line. */
struct io_request {
    struct io *io;
    uint64_t off, len;
    uint64_t check_off, check_len; /* of the pattern, within the request */
    struct iovec *v;
    unsigned n;
    uint8_t *buf, pattern;
    unsigned flags; /* enum block_io_flags */
    bool write, zero, vmstate, check, quiet, machine, dump, aio;
    long long start_ns;
    int ret;
};

static void request_free(struct io_request *r)
{
    free(r->v);
    free(r->buf);
    free(r);
}

static int request_buffer(struct io_request *r, uint8_t fill)
{
    if (r->zero) {
        return 0;
    }
    r->buf = block_alloc(r->len ? r->len : 1);
    if (!r->buf) {
        printf("no memory for %llu bytes\n", (unsigned long long)r->len);
        return -ENOMEM;
    }
    memset(r->buf, fill, r->len);
    return 0;
}

static int request_do(struct io_request *r)
{
    struct block *b = r->io->b;
    uint64_t size = block_size(b);
    if (!r->vmstate && (r->off > size || r->len > size - r->off)) {
        return -EIO;
    }
    if (r->vmstate) {
        return r->write ? block_vmstate_write(b, r->off, r->buf, r->len)
                        : block_vmstate_read(b, r->off, r->buf, r->len);
    }
    if (r->zero) {
        return block_zero(b, r->off, r->len, r->flags);
    }
    struct iovec one = {r->buf, r->len};
    struct iovs q = r->v ? iovs_of(r->v, r->n) : iovs_of(&one, 1);
    return r->write ? block_pwritev(b, r->off, &q, r->flags) : block_preadv(b, r->off, &q);
}

/* Prints what came out; returns what the command returns. */
static int request_finish(struct io_request *r)
{
    static const char *const names[2][2] = {{"read", "aio_read"}, {"write", "aio_write"}};
    long long ns = io_now() - r->start_ns;
    int ret = r->ret;
    if (ret) {
        printf("%s%s failed: %s\n", names[r->write][r->aio], r->v && !r->aio ? "v" : "",
               strerror(-ret));
        return ret;
    }
    if (r->check) {
        for (uint64_t i = 0; i < r->check_len; i++) {
            if (r->buf[r->check_off + i] != r->pattern) {
                printf("Pattern verification failed at offset %llu, %llu bytes\n",
                       (unsigned long long)(r->off + r->check_off),
                       (unsigned long long)r->check_len);
                ret = -EINVAL;
                break;
            }
        }
    }
    if (r->quiet) {
        return ret;
    }
    if (r->dump) {
        io_dump(r->buf, r->off, r->len);
    }
    io_report(r->write ? "wrote" : "read", ns, r->off, r->len, 1, r->machine);
    return ret;
}

static int request_run(struct io_request *r)
{
    r->start_ns = io_now();
    r->ret = request_do(r);
    int ret = request_finish(r);
    request_free(r);
    return ret;
}

static void request_co(void *opaque)
{
    struct io_request *r = opaque;
    struct io *io = r->io;
    request_run(r);
    fflush(stdout);
    if (!--io->pending) {
        co_queue_all(&io->drained);
    }
}

static int request_start(struct io_request *r)
{
    r->aio = true;
    r->io->pending++;
    co_start(r->io->img.loop, request_co, r);
    return 0;
}

void io_drain(struct io *io)
{
    while (io->pending) {
        co_queue_wait(&io->drained);
    }
}

/* ---- Taking lines apart ---- */

static struct io_request *request_new(const struct io_call *c, bool write)
{
    struct io_request *r = alloc_zero(sizeof(*r));
    r->io = c->io;
    r->write = write;
    r->quiet = c->has['q'];
    r->machine = c->has['C'];
    r->dump = c->has['v'];
    r->pattern = write ? WRITE_FILL : 0;
    r->check = !write && c->value['P'];
    r->zero = write && c->has['z'];
    r->vmstate = c->has['b'];
    r->flags = (write && c->has['f'] ? BLOCK_FUA : 0) | (c->has['u'] ? BLOCK_MAY_UNMAP : 0) |
               (c->has['n'] ? BLOCK_NO_FALLBACK : 0) |
               (write && c->has['c'] ? BLOCK_COMPRESSED : 0);
    return r;
}

static int request_lengths(struct io_request *r, const struct io_call *c)
{
    int ret = io_number(c->words[0], &r->off);
    if (c->count > 2) {
        r->v = alloc_array((size_t)c->count - 1, sizeof(*r->v));
    }
    for (int i = 1; !ret && i < c->count; i++) {
        uint64_t len;
        ret = io_length(c->words[i], &len);
        if (!ret && len > IO_REQUEST_MAX - r->len) {
            printf("Argument '%s' exceeds maximum size %llu\n", c->words[i], IO_REQUEST_MAX);
            ret = -EINVAL;
        }
        if (!ret && r->v) {
            r->v[r->n++].iov_len = len;
        }
        r->len += ret ? 0 : len;
    }
    if (!ret && (r->vmstate || r->flags & BLOCK_COMPRESSED)) {
        uint64_t bad = r->off % BLOCK_SECTOR ? r->off : r->len;
        if (bad % BLOCK_SECTOR) {
            printf("%llu is not a sector-aligned value for '%s'\n", (unsigned long long)bad,
                   r->off % BLOCK_SECTOR ? "offset" : "count");
            ret = -EINVAL;
        }
    }
    return ret;
}

static void request_vector(struct io_request *r)
{
    uint8_t *at = r->buf;
    for (unsigned i = 0; i < r->n; i++) {
        r->v[i].iov_base = at;
        at += r->v[i].iov_len;
    }
}

/* -s of write: the file's bytes over and over. */
static int request_fill_from(struct io_request *r, const char *name)
{
    FILE *f = fopen(name, "rb");
    size_t n = f ? fread(r->buf, 1, r->len, f) : 0;
    int ret = 0;
    if (!f) {
        printf("%s: %s\n", name, strerror(errno));
        return -errno;
    }
    if (ferror(f) || (!n && r->len)) {
        printf("%s: %s\n", name, ferror(f) ? strerror(errno) : "file is empty");
        ret = -EINVAL;
    }
    fclose(f);
    for (uint64_t i = n; !ret && i < r->len; i++) {
        r->buf[i] = r->buf[i - n];
    }
    return ret;
}

/* -s and -l of read: only a part has the pattern. */
static int request_check_part(struct io_request *r, const struct io_call *c)
{
    int ret = 0;
    r->check_len = r->len;
    if ((c->value['s'] || c->value['l']) && !c->value['P']) {
        return io_usage(c);
    }
    if (c->value['s']) {
        ret = io_number(c->value['s'], &r->check_off);
    }
    r->check_len = r->check_off < r->len ? r->len - r->check_off : 0;
    if (!ret && c->value['l']) {
        ret = io_number(c->value['l'], &r->check_len);
    }
    if (!ret && (r->check_off > r->len || r->check_len > r->len - r->check_off)) {
        printf("pattern verification range exceeds end of read data\n");
        ret = -EINVAL;
    }
    return ret;
}

static int write_options(const struct io_call *c)
{
    static const struct {
        char a, b;
        const char *text;
    } pairs[] = {
        {'b', 'c', "-b and -c cannot be specified at the same time"},
        {'b', 'z', "-b and -z cannot be specified at the same time"},
        {'c', 'z', "-c and -z cannot be specified at the same time"},
        {'f', 'b', "-f and -b or -c cannot be specified at the same time"},
        {'f', 'c', "-f and -b or -c cannot be specified at the same time"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (c->has[(int)pairs[i].a] && c->has[(int)pairs[i].b]) {
            printf("%s\n", pairs[i].text);
            return -EINVAL;
        }
    }
    if (c->has['n'] && !c->has['z']) {
        printf("-n requires -z to be specified\n");
        return -EINVAL;
    }
    if (c->has['u'] && !c->has['z']) {
        printf("-u requires -z to be specified\n");
        return -EINVAL;
    }
    if (c->has['z'] + c->has['P'] + c->has['s'] > 1) {
        printf("Only one of -z, -P, and -s can be specified at the same time\n");
        return -EINVAL;
    }
    return 0;
}

static int request_prepare(struct io_request *r, const struct io_call *c)
{
    int ret = r->write ? write_options(c) : 0;
    ret = ret ? ret : io_pattern(c, &r->pattern);
    ret = ret ? ret : request_lengths(r, c);
    ret = ret || r->write ? ret : request_check_part(r, c);
    if (!ret && r->write && block_readonly(c->io->b)) {
        fprintf(stderr, "%s: Block node is read-only\n", c->io->img.program);
        ret = -EPERM;
    }
    ret = ret ? ret : request_buffer(r, r->write ? r->pattern : READ_FILL);
    if (!ret && r->write && c->value['s']) {
        ret = request_fill_from(r, c->value['s']);
    }
    if (!ret) {
        request_vector(r);
    }
    return ret;
}

static int request_line(struct io_call *c, bool write, bool aio)
{
    struct io_request *r = request_new(c, write);
    int ret = request_prepare(r, c);
    if (ret) {
        request_free(r);
        return ret;
    }
    return aio ? request_start(r) : request_run(r);
}

int io_read_run(struct io_call *c)
{
    return request_line(c, false, false);
}

int io_readv_run(struct io_call *c)
{
    return request_line(c, false, false);
}

int io_write_run(struct io_call *c)
{
    return request_line(c, true, false);
}

int io_writev_run(struct io_call *c)
{
    return request_line(c, true, false);
}

/* -i: a request that is refused before it is made. */
static int refused(const struct io_call *c)
{
    if (c->has['i']) {
        printf("the request is marked invalid and not sent\n");
    }
    return c->has['i'];
}

int io_aio_read_run(struct io_call *c)
{
    return refused(c) ? 0 : request_line(c, false, true);
}

int io_aio_write_run(struct io_call *c)
{
    return refused(c) ? 0 : request_line(c, true, true);
}
