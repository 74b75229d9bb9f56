/* Datagrams to and from one peer: host=, port=; localaddr=, localport= (0: any). */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/keyval.h"
#include "chardev/internal.h"

static struct addrinfo *udp_resolve(const char *host, const char *port, int family, struct err *err)
{
    struct addrinfo hints = {
        .ai_family = family, .ai_socktype = SOCK_DGRAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(host && *host ? host : NULL, port, &hints, &list);
    if (code) {
        err_set(err, EINVAL, "cannot resolve '%s:%s': %s", host ? host : "", port,
                gai_strerror(code));
        return NULL;
    }
    return list;
}

static int udp_bind(int fd, const struct keyval *args, int family, struct err *err)
{
    const char *port = keyval_get(args, "localport");
    struct addrinfo *a = udp_resolve(keyval_get(args, "localaddr"), port ? port : "0", family, err);
    if (!a) {
        return -EINVAL;
    }
    int ret = bind(fd, a->ai_addr, a->ai_addrlen)
                  ? err_set(err, errno, "-chardev udp: cannot take port %s: %s", port ? port : "0",
                            strerror(errno))
                  : 0;
    freeaddrinfo(a);
    return ret;
}

static int udp_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    const char *host = keyval_get(args, "host"), *port = keyval_get(args, "port");
    f->in = f->out = -1;
    f->own = f->datagrams = true;
    if (!port || !*port) {
        return err_set(err, EINVAL, "-chardev udp: needs port=PORT");
    }
    struct addrinfo *a = udp_resolve(host && *host ? host : "localhost", port, AF_UNSPEC, err);
    if (!a) {
        return -EINVAL;
    }
    f->in = f->out =
        socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    int ret = f->in < 0 ? err_set(err, errno, "-chardev udp: no socket: %s", strerror(errno))
                        : udp_bind(f->in, args, a->ai_family, err);
    if (!ret && connect(f->in, a->ai_addr, a->ai_addrlen)) {
        ret =
            err_set(err, errno, "-chardev udp: cannot send to port %s: %s", port, strerror(errno));
    }
    freeaddrinfo(a);
    return ret;
}

/* One datagram; a peer that does not listen loses it, and is tried again with the next. */
static size_t udp_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    (void)!send(f->out, buf, len, MSG_NOSIGNAL);
    return len;
}

const struct chardev_type chardev_udp = {.name = "udp",
                                         .summary =
                                             "datagrams (host=, port=, localaddr=, localport=)",
                                         .size = sizeof(struct fd_chardev),
                                         .open = udp_open,
                                         .write = udp_write,
                                         .set_rx = chardev_fd_set_rx,
                                         .close = chardev_fd_close};
