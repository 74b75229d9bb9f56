/*
 * A stream to the other side: a socket, with TLS or without. In coroutines: waits. One may read
 * while another writes.
 */
#ifndef BLOCK_NBD_CHANNEL_H
#define BLOCK_NBD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/iovs.h"

struct err;

/* What encrypts; NULL in a channel: nothing does. Like read() and write(): -EAGAIN: wait for
 * the descriptor. */
struct channel_tls {
    ssize_t (*read)(void *session, void *buf, size_t len);
    ssize_t (*write)(void *session, const void *buf, size_t len);
    void (*free)(void *session);
};

struct channel {
    int in, out; /* the same socket twice, so that each can be waited for */
    const struct channel_tls *tls;
    void *session;
    bool broken; /* nothing more comes or goes */
};

int channel_open(struct channel *ch, int fd); /* takes the socket; -errno */
void channel_shut(struct channel *ch);        /* wakes who waits in it; then close */
void channel_close(struct channel *ch);

/* All of it, or -errno: -EPIPE when the other side is gone. */
int channel_read(struct channel *ch, void *buf, size_t len);
int channel_readv(struct channel *ch, const struct iovs *q);
int channel_skip(struct channel *ch, uint64_t len);
int channel_write(struct channel *ch, const void *buf, size_t len);
/* A head and, if q is not NULL, data behind it: in one packet where possible. */
int channel_writev(struct channel *ch, const void *head, size_t head_len, const struct iovs *q);

#endif
