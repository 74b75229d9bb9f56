/*
 * Unix and TCP stream sockets: client, or server for one peer at a time.
 * telnet=on: takes the client's commands out, asks it to send each key at once.
 * Does not do: TLS, reconnect, waiting for the first peer (wait=on is refused).
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "chardev/internal.h"
#include "loop/loop.h"

struct sock_chardev {
    struct chardev c;
    int listener;
    _Atomic int peer;
    char *unlink_path;
    bool telnet;
    enum { TELNET_DATA, TELNET_COMMAND, TELNET_OPTION, TELNET_BLOCK, TELNET_BLOCK_IAC } state;
};

static void sock_drop_peer(struct sock_chardev *s)
{
    int fd = s->peer;
    s->peer = -1;
    if (fd >= 0) {
        loop_unwatch(s->c.loop, fd);
        close(fd);
        chardev_tell(&s->c, CHARDEV_CLOSED);
    }
}

/* RFC 854, 857, 858. True: a byte of data. */
static bool telnet_byte(struct sock_chardev *s, uint8_t byte)
{
    enum { SE = 240, SB = 250, WILL = 251, DONT = 254, IAC = 255 };
    switch (s->state) {
    case TELNET_DATA:
        s->state = byte == IAC ? TELNET_COMMAND : TELNET_DATA;
        return byte != IAC && byte; /* a NUL follows each CR */
    case TELNET_COMMAND:
        s->state = byte >= WILL && byte <= DONT ? TELNET_OPTION
                   : byte == SB                 ? TELNET_BLOCK
                                                : TELNET_DATA;
        return byte == IAC;
    case TELNET_OPTION: s->state = TELNET_DATA; return false;
    case TELNET_BLOCK: s->state = byte == IAC ? TELNET_BLOCK_IAC : TELNET_BLOCK; return false;
    case TELNET_BLOCK_IAC: s->state = byte == SE ? TELNET_DATA : TELNET_BLOCK; return false;
    }
    return false;
}

static bool telnet_pump(struct sock_chardev *s, int fd)
{
    uint8_t buf[256];
    size_t room = chardev_room(&s->c), kept = 0;
    if (!room) {
        return chardev_pump(&s->c, fd);
    }
    ssize_t n = read(fd, buf, room < sizeof(buf) ? room : sizeof(buf));
    for (ssize_t i = 0; i < n; i++) {
        if (telnet_byte(s, buf[i])) {
            buf[kept++] = buf[i];
        }
    }
    if (kept) {
        chardev_rx(&s->c, buf, kept);
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The end, which the descriptor reports whether we read or not, while the user has no room: what
 * was sent before is kept for it. */
static void sock_ended(struct sock_chardev *s, int fd)
{
    int waiting = 0;
    if (ioctl(fd, FIONREAD, &waiting) || !waiting) {
        sock_drop_peer(s);
    } else {
        loop_unwatch(s->c.loop, fd);
        s->c.rx_on = false;
    }
}

static void sock_ready(void *opaque, int fd, unsigned events)
{
    struct sock_chardev *s = opaque;
    if (events & LOOP_HUP && !chardev_room(&s->c)) {
        sock_ended(s, fd);
        return;
    }
    if (!(s->telnet ? telnet_pump(s, fd) : chardev_pump(&s->c, fd))) {
        sock_drop_peer(s);
    }
}

static void sock_set_rx(struct chardev *c, bool on)
{
    struct sock_chardev *s = container_of(c, struct sock_chardev, c);
    if (s->peer >= 0) {
        loop_watch(c->loop, s->peer, on ? LOOP_IN : 0, sock_ready, s);
    }
}

static void sock_accept(void *opaque, int fd, unsigned events)
{
    struct sock_chardev *s = opaque;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0) {
        return;
    }
    if (s->peer >= 0) {
        close(peer); /* one at a time */
        return;
    }
    s->peer = peer;
    s->c.rx_on = true;
    sock_set_rx(&s->c, true);
    if (s->telnet) {
        static const uint8_t hello[] = {255, 251, 1, 255, 251, 3}; /* WILL ECHO, WILL SGA */
        s->state = TELNET_DATA;
        chardev_put(peer, hello, sizeof(hello));
    }
    chardev_tell(&s->c, CHARDEV_OPENED);
}

/* Without a peer the bytes are lost, as on a cable nobody holds. */
static size_t sock_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    struct sock_chardev *s = container_of(c, struct sock_chardev, c);
    size_t done = 0;
    while (s->peer >= 0 && done < len) {
        ssize_t n = send(s->peer, buf + done, len - done, MSG_NOSIGNAL);
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        struct pollfd p = {.fd = s->peer, .events = POLLOUT};
        if (n == 0 || (errno != EAGAIN && errno != EINTR) || poll(&p, 1, 2000) <= 0) {
            break;
        }
    }
    return len;
}

static int sock_unix(struct sock_chardev *s, const char *path, bool server, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path)) {
        return err_set(err, ENAMETOOLONG, "the socket path '%s' is too long", path);
    }
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server) {
        unlink(path);
    }
    int ret = fd < 0   ? -1
              : server ? bind(fd, (struct sockaddr *)&a, sizeof(a))
                       : connect(fd, (struct sockaddr *)&a, sizeof(a));
    if (ret) {
        ret = err_set(err, errno, "cannot %s the socket '%s': %s",
                      server ? "listen on" : "connect to", path, strerror(errno));
        cleanup_close(&fd);
        return ret;
    }
    s->unlink_path = server ? alloc_text(path) : NULL;
    return fd;
}

static int sock_tcp_one(const struct addrinfo *a, bool server)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (server ? bind(fd, a->ai_addr, a->ai_addrlen) : connect(fd, a->ai_addr, a->ai_addrlen)) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

static int sock_tcp(const char *host, const char *port, bool server, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = server ? AI_PASSIVE : 0};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(host && *host ? host : NULL, port, &hints, &list);
    if (code) {
        return err_set(err, EINVAL, "cannot resolve '%s:%s': %s", host ? host : "", port,
                       gai_strerror(code));
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = sock_tcp_one(a, server);
    }
    if (fd < 0) {
        fd = err_set(err, errno, "cannot %s '%s:%s': %s", server ? "listen on" : "connect to",
                     host ? host : "", port, strerror(errno));
    }
    freeaddrinfo(list);
    return fd;
}

static int sock_start(struct sock_chardev *s, int fd, bool server, struct err *err)
{
    if (!server) {
        s->peer = fd;
        return 0;
    }
    s->listener = fd;
    s->c.closed = true;
    if (listen(fd, 1) || loop_watch(s->c.loop, fd, LOOP_IN, sock_accept, s)) {
        return err_set(err, errno, "cannot listen on a socket: %s", strerror(errno));
    }
    return 0;
}

static int sock_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct sock_chardev *s = container_of(c, struct sock_chardev, c);
    s->listener = -1;
    s->peer = -1;
    bool server = false, wait = false;
    const char *path = keyval_get(args, "path"), *port = keyval_get(args, "port");
    const char *opt = keyval_get(args, "server");
    if (opt && value_bool("socket: server", opt, &server, err)) {
        return -EINVAL;
    }
    opt = keyval_get(args, "wait");
    if (opt && value_bool("socket: wait", opt, &wait, err)) {
        return -EINVAL;
    }
    opt = keyval_get(args, "telnet");
    if (opt && value_bool("socket: telnet", opt, &s->telnet, err)) {
        return -EINVAL;
    }
    if (wait) {
        return err_set(err, EINVAL, "socket: wait=on is not supported, use wait=off");
    }
    if (!path && !port) {
        return err_set(err, EINVAL, "socket: needs path=PATH or host=HOST,port=PORT");
    }
    int fd = path ? sock_unix(s, path, server, err)
                  : sock_tcp(keyval_get(args, "host"), port, server, err);
    c->filename = path ? alloc_printf("unix:%s%s", path, server ? ",server=on" : "")
                       : alloc_printf("%s:%s:%s%s", s->telnet ? "telnet" : "tcp",
                                      keyval_get(args, "host") ? keyval_get(args, "host") : "",
                                      port, server ? ",server=on" : "");
    return fd < 0 ? fd : sock_start(s, fd, server, err);
}

static void sock_close(struct chardev *c)
{
    struct sock_chardev *s = container_of(c, struct sock_chardev, c);
    c->user = NULL;
    sock_drop_peer(s);
    if (s->listener >= 0) {
        loop_unwatch(c->loop, s->listener);
        close(s->listener);
    }
    if (s->unlink_path) {
        unlink(s->unlink_path);
        free(s->unlink_path);
    }
}

const struct chardev_type chardev_socket = {
    .name = "socket",
    .summary = "a stream socket (path=, or host= and port=; server=on|off)",
    .size = sizeof(struct sock_chardev),
    .open = sock_open,
    .write = sock_write,
    .set_rx = sock_set_rx,
    .close = sock_close};
