/* Connecting and listening. Names are looked up on a worker thread. */
#include "block/nbd/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "loop/co.h"
#include "loop/loop.h"

void sock_addr_free(struct sock_addr *a)
{
    free(a->path);
    free(a->host);
    free(a->port);
    *a = (struct sock_addr){0};
}

char *sock_addr_text(const struct sock_addr *a)
{
    return a->path ? alloc_printf("unix:%s", a->path) : alloc_printf("%s:%s", a->host, a->port);
}

static int unix_addr(const char *path, struct sockaddr_un *un, struct err *err)
{
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(un->sun_path)) {
        return err_set(err, ENAMETOOLONG, "the socket path '%s' has more than %zu bytes", path,
                       sizeof(un->sun_path) - 1);
    }
    strcpy(un->sun_path, path);
    return 0;
}

struct lookup {
    const struct sock_addr *a;
    bool passive;
    struct addrinfo *list;
};

static int lookup_work(void *opaque)
{
    struct lookup *l = opaque;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = l->passive ? AI_PASSIVE : 0};
    const char *host = l->a->host && *l->a->host ? l->a->host : NULL;
    return getaddrinfo(host, l->a->port, &hints, &l->list);
}

static int lookup(const struct sock_addr *a, bool passive, struct addrinfo **list, struct err *err)
{
    struct lookup l = {a, passive, NULL};
    int ret = co_offload(lookup_work, &l);
    *list = l.list;
    return ret ? err_set(err, EHOSTUNREACH, "cannot find '%s:%s': %s", a->host ? a->host : "",
                         a->port, gai_strerror(ret))
               : 0;
}

static int connect_one(int family, const struct sockaddr *sa, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), why = 0;
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, sa, len)) {
        why = errno;
        if (why == EINPROGRESS) {
            socklen_t n = sizeof(why);
            co_wait_fd(fd, LOOP_OUT);
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n);
        }
    }
    if (why) {
        close(fd);
        return -why;
    }
    return fd;
}

int sock_connect(const struct sock_addr *a, struct err *err)
{
    int fd = -ENOENT;
    if (a->path) {
        struct sockaddr_un un;
        int ret = unix_addr(a->path, &un, err);
        if (ret) {
            return ret;
        }
        fd = connect_one(AF_UNIX, (void *)&un, sizeof(un));
    } else {
        struct addrinfo *list;
        int ret = lookup(a, false, &list, err);
        if (ret) {
            return ret;
        }
        for (struct addrinfo *i = list; i && fd < 0; i = i->ai_next) {
            fd = connect_one(i->ai_family, i->ai_addr, i->ai_addrlen);
        }
        freeaddrinfo(list);
    }
    if (fd < 0) {
        char *text = sock_addr_text(a);
        err_set(err, -fd, "Failed to connect to '%s': %s", text, strerror(-fd));
        free(text);
    }
    return fd;
}

static int listen_one(int family, const struct sockaddr *sa, socklen_t len)
{
    int on = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, sa, len) || listen(fd, 16)) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

/* A socket file that nobody listens on is left from one that was killed. */
static void unix_remove_stale(const struct sockaddr_un *un)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        if (connect(fd, (const void *)un, sizeof(*un)) && errno == ECONNREFUSED) {
            unlink(un->sun_path);
        }
        close(fd);
    }
}

int sock_listen(const struct sock_addr *a, int *fds, int max, struct err *err)
{
    int n = 0, last = -EADDRNOTAVAIL;
    if (a->path) {
        struct sockaddr_un un;
        int ret = unix_addr(a->path, &un, err);
        if (ret) {
            return ret;
        }
        unix_remove_stale(&un);
        last = listen_one(AF_UNIX, (void *)&un, sizeof(un));
        if (last >= 0) {
            fds[n++] = last;
        }
    } else {
        struct addrinfo *list;
        int ret = lookup(a, true, &list, err);
        if (ret) {
            return ret;
        }
        for (struct addrinfo *i = list; i && n < max; i = i->ai_next) {
            last = listen_one(i->ai_family, i->ai_addr, i->ai_addrlen);
            if (last >= 0) {
                fds[n++] = last;
            }
        }
        freeaddrinfo(list);
    }
    if (!n) {
        char *text = sock_addr_text(a);
        err_set(err, -last, "cannot listen on '%s': %s", text, strerror(-last));
        free(text);
        return last;
    }
    return n;
}
