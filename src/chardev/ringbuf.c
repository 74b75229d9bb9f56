/* A ring of bytes in memory that a monitor reads and writes (size=, a power of two). */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "chardev/internal.h"

#define RINGBUF_PRESET 65536
#define RINGBUF_MAX (64u << 20)

struct ringbuf {
    struct chardev c;
    pthread_mutex_t lock; /* writers are any thread */
    uint8_t *bytes;
    size_t size, put, got; /* put and got only grow */
};

static int ringbuf_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct ringbuf *r = container_of(c, struct ringbuf, c);
    const char *text = keyval_get(args, "size");
    uint64_t size = RINGBUF_PRESET;
    pthread_mutex_init(&r->lock, NULL);
    if (text && value_size("-chardev ringbuf: size", text, 1, &size, err)) {
        return -EINVAL;
    }
    if (!size || (size & (size - 1)) || size > RINGBUF_MAX) {
        return err_set(err, EINVAL,
                       "-chardev ringbuf: the size must be a power of two, at most 64M");
    }
    r->size = size;
    r->bytes = alloc_zero(size);
    return 0;
}

static size_t ringbuf_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    struct ringbuf *r = container_of(c, struct ringbuf, c);
    AUTO_LOCK(&r->lock);
    for (size_t i = 0; i < len; i++) {
        r->bytes[r->put++ & (r->size - 1)] = buf[i];
    }
    if (r->put - r->got > r->size) {
        r->got = r->put - r->size;
    }
    return len;
}

static void ringbuf_close(struct chardev *c)
{
    struct ringbuf *r = container_of(c, struct ringbuf, c);
    free(r->bytes);
    pthread_mutex_destroy(&r->lock);
}

const struct chardev_type chardev_ringbuf = {.name = "ringbuf",
                                             .summary =
                                                 "memory that the monitor reads and writes (size=)",
                                             .size = sizeof(struct ringbuf),
                                             .open = ringbuf_open,
                                             .write = ringbuf_write,
                                             .close = ringbuf_close};

long chardev_ringbuf_read(struct chardev *c, uint8_t *buf, size_t len)
{
    if (c->type != &chardev_ringbuf) {
        return -ENOTSUP;
    }
    struct ringbuf *r = container_of(c, struct ringbuf, c);
    AUTO_LOCK(&r->lock);
    size_t n = 0;
    while (n < len && r->got < r->put) {
        buf[n++] = r->bytes[r->got++ & (r->size - 1)];
    }
    return (long)n;
}

long chardev_ringbuf_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    return c->type == &chardev_ringbuf ? (long)chardev_write(c, buf, len) : -ENOTSUP;
}
