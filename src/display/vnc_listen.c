/* Where a VNC server listens: "[HOST]:N", which is TCP port 5900 + N, or "unix:PATH". */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "display/vnc_internal.h"
#include "loop/loop.h"

enum { PORT_BASE = 5900, DISPLAY_MAX = 65535 - PORT_BASE, BACKLOG = 8 };

static int listen_add(struct vnc *v, int fd)
{
    if (listen(fd, BACKLOG) || v->listen_count == VNC_MAX_LISTEN ||
        loop_watch(v->main, fd, LOOP_IN, vnc_accept, v)) {
        int ret = errno ? -errno : -EMFILE;
        close(fd);
        return ret;
    }
    v->listen_fd[v->listen_count++] = fd;
    return 0;
}

static int listen_unix(struct vnc *v, const char *path, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof(a.sun_path)) {
        return err_set(err, EINVAL, "-vnc: '%s' is no path for a socket", path);
    }
    memcpy(a.sun_path, path, strlen(path));
    struct stat st;
    if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
        unlink(path); /* of a server that is gone */
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int ret = fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : listen_add(v, fd);
    if (ret) {
        return err_set(err, -ret, "-vnc: cannot listen on '%s': %s", path, strerror(-ret));
    }
    v->unix_path = alloc_text(path);
    return 0;
}

static int listen_address(struct vnc *v, const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(fd, a->ai_addr, a->ai_addrlen)) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return listen_add(v, fd);
}

/* All addresses of a host; one that the machine has not (IPv6) is no failure if another works. */
static int listen_tcp(struct vnc *v, const char *host, unsigned port, struct err *err)
{
    const struct addrinfo want = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    char text[8];
    snprintf(text, sizeof(text), "%u", port);
    int ret = getaddrinfo(host, text, &want, &list), worst = 0;
    if (ret) {
        return err_set(err, EINVAL, "-vnc: host '%s': %s", host ? host : "", gai_strerror(ret));
    }
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        ret = listen_address(v, a);
        worst = ret && worst != -EADDRINUSE ? ret : worst;
    }
    freeaddrinfo(list);
    return v->listen_count && worst != -EADDRINUSE
               ? 0
               : err_set(err, -worst, "-vnc: cannot listen on port %u: %s", port, strerror(-worst));
}

static void listen_undo(struct vnc *v)
{
    while (v->listen_count) {
        int fd = v->listen_fd[--v->listen_count];
        loop_unwatch(v->main, fd);
        close(fd);
    }
}

static int listen_range(struct vnc *v, const char *host, uint64_t first, uint64_t last,
                        struct err *err)
{
    int ret;
    do {
        listen_undo(v);
        ret = listen_tcp(v, host, (unsigned)(PORT_BASE + first), err);
    } while (ret == -EADDRINUSE && first++ < last);
    return ret;
}

int vnc_listen(struct vnc *v, const struct keyval *options, struct err *err)
{
    const char *where = keyval_get(options, "vnc"), *to = keyval_get(options, "to");
    if (where && !strncmp(where, "unix:", 5)) {
        return listen_unix(v, where + 5, err);
    }
    const char *colon = where ? strrchr(where, ':') : NULL;
    uint64_t first, last;
    if (!colon) {
        return err_set(err, EINVAL, "-vnc: '%s' is none of [HOST]:N, unix:PATH, none",
                       where ? where : "");
    }
    int ret = value_u64("-vnc: display", colon + 1, DISPLAY_MAX, &first, err);
    last = first;
    ret = !ret && to ? value_u64("-vnc: to", to, DISPLAY_MAX, &last, err) : ret;
    if (ret) {
        return ret;
    }
    bool brackets = *where == '[' && colon > where + 1 && colon[-1] == ']';
    AUTO_FREE char *host = alloc_text(where + brackets);
    host[colon - where - 2 * brackets] = 0;
    return listen_range(v, *host ? host : NULL, first, last, err);
}
