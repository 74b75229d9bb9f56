/* Streams on sockets for coroutines. */
#include "block/nbd/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "loop/co.h"
#include "loop/loop.h"

enum { MAX_SEGS = 64 };

int channel_open(struct channel *ch, int fd)
{
    int on = 1;
    *ch = (struct channel){.in = fd, .out = fcntl(fd, F_DUPFD_CLOEXEC, 3)};
    if (ch->out < 0) {
        close(fd);
        return -errno;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* no TCP: no matter */
    return 0;
}

void channel_shut(struct channel *ch)
{
    ch->broken = true;
    shutdown(ch->in, SHUT_RDWR);
}

void channel_close(struct channel *ch)
{
    if (ch->tls) {
        ch->tls->free(ch->session);
        ch->tls = NULL;
    }
    cleanup_close(&ch->in);
    cleanup_close(&ch->out);
    ch->in = ch->out = -1;
}

static ssize_t recv_some(struct channel *ch, const struct iovec *v, unsigned n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)v, .msg_iovlen = n};
    if (ch->tls) {
        return ch->tls->read(ch->session, v->iov_base, v->iov_len);
    }
    ssize_t got = recvmsg(ch->in, &m, 0);
    return got < 0 ? -errno : got;
}

static ssize_t send_some(struct channel *ch, const struct iovec *v, unsigned n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)v, .msg_iovlen = n};
    if (ch->tls) {
        return ch->tls->write(ch->session, v->iov_base, v->iov_len);
    }
    ssize_t put = sendmsg(ch->out, &m, MSG_NOSIGNAL);
    return put < 0 ? -errno : put;
}

static int channel_move(struct channel *ch, const struct iovs *q, bool write)
{
    struct iovec v[MAX_SEGS];
    for (uint64_t done = 0; done < q->len;) {
        struct iovs left = iovs_part(q, done, q->len - done);
        uint64_t bytes;
        unsigned n = iovs_list(&left, v, MAX_SEGS, &bytes);
        if (ch->broken) {
            return -EPIPE;
        }
        ssize_t moved = write ? send_some(ch, v, n) : recv_some(ch, v, n);
        if (moved == -EAGAIN) {
            co_wait_fd(write ? ch->out : ch->in, write ? LOOP_OUT : LOOP_IN);
            continue;
        }
        if (moved == -EINTR) {
            continue;
        }
        if (moved <= 0) {
            ch->broken = true;
            return moved ? (int)moved : -EPIPE;
        }
        done += (uint64_t)moved;
    }
    return 0;
}

int channel_readv(struct channel *ch, const struct iovs *q)
{
    return channel_move(ch, q, false);
}

int channel_read(struct channel *ch, void *buf, size_t len)
{
    struct iovec v;
    struct iovs q = iovs_buf(&v, buf, len);
    return channel_move(ch, &q, false);
}

int channel_skip(struct channel *ch, uint64_t len)
{
    char buf[4096];
    int ret = 0;
    while (!ret && len) {
        size_t n = len < sizeof(buf) ? len : sizeof(buf);
        ret = channel_read(ch, buf, n);
        len -= n;
    }
    return ret;
}

int channel_write(struct channel *ch, const void *buf, size_t len)
{
    return channel_writev(ch, buf, len, NULL);
}

int channel_writev(struct channel *ch, const void *head, size_t head_len, const struct iovs *q)
{
    struct iovec v[MAX_SEGS];
    uint64_t bytes = 0;
    unsigned n = q ? iovs_list(q, v + 1, MAX_SEGS - 1, &bytes) : 0;
    v[0] = (struct iovec){(void *)head, head_len};
    struct iovs first = iovs_of(v, n + 1);
    int ret = channel_move(ch, &first, true);
    if (!ret && q && bytes < q->len) {
        struct iovs rest = iovs_part(q, bytes, q->len - bytes);
        ret = channel_move(ch, &rest, true);
    }
    return ret;
}
