/*
 * lodge-nbd: exports a disk image to NBD clients, or connects it to a device of the kernel. Also
 * answers to the name qemu-nbd.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/block.h"
#include "block/nbd/server.h"
#include "block/nbd/socket.h"
#include "loop/loop.h"
#include "nbd/device.h"
#include "nbd/list.h"
#include "nbd/options.h"

enum { MAX_LISTEN = 8 };

struct serve {
    struct nbd_options o;
    struct loop *loop;
    struct block_graph *graph;
    struct block *b;
    struct nbd_server *server;
    struct nbd_device *device;
    struct sock_addr addr;
    bool done;
    int ready; /* a pipe to the one that waits for --fork; or -1 */
};

static int add_objects(struct serve *s, struct err *err)
{
    int ret = 0;
    for (unsigned i = 0; !ret && i < s->o.object_count; i++) {
        ret = block_add_object(s->graph, &s->o.objects[i], err);
    }
    return ret;
}

/* ---- The image ---- */

static int open_overlay(struct serve *s, struct err *err)
{
    struct block *over = block_temporary_overlay(s->b, err);
    block_close(s->b);
    s->b = over;
    return over ? 0 : -EIO;
}

static int open_image(struct serve *s, struct err *err)
{
    struct nbd_options *o = &s->o;
    struct keyval opts = {0};
    unsigned flags = o->flags;
    bool write = !o->readonly && !o->load_snapshot;
    flags |= write && !o->snapshot ? BLOCK_RDWR : 0;
    if (o->no_backing) {
        block_graph_refuse_backing(s->graph);
    }
    int ret = o->image_opts ? keyval_parse(&opts, o->image, "filename", err) : 0;
    for (size_t i = 0; i < o->node.count; i++) {
        keyval_add(&opts, o->node.pairs[i].key, o->node.pairs[i].value);
    }
    if (!ret) {
        s->b = o->image_opts ? block_open(s->graph, &opts, flags, err)
                             : block_open_name(s->graph, o->image, o->format, &opts, flags, err);
        ret = s->b ? 0 : -EIO;
    }
    keyval_free(&opts);
    if (!ret && o->load_snapshot) {
        const char *which = o->load_snapshot;
        which = !strncmp(which, "snapshot.name=", 14) ? which + 14
                : !strncmp(which, "snapshot.id=", 12) ? which + 12
                                                      : which;
        ret = block_snapshot_view(s->b, which, err);
    }
    return !ret && o->snapshot && write ? open_overlay(s, err) : ret;
}

static int make_export(struct serve *s, struct err *err)
{
    const struct nbd_options *o = &s->o;
    struct nbd_export_opts e = {.name = o->export_name ? o->export_name : "",
                                .description = o->description,
                                .writable = !o->readonly,
                                .allocation_depth = o->depth,
                                .bitmaps = o->bitmaps,
                                .multi_conn = o->shared != 1};
    s->server = nbd_server_new(s->graph, o->tls_creds);
    nbd_server_limit(s->server, o->shared);
    return nbd_server_export(s->server, s->b, &e, err);
}

/* ---- Serving ---- */

static void on_leave(void *opaque, unsigned left)
{
    struct serve *s = opaque;
    if (s->o.verbose) {
        fprintf(stderr, "%s: a client has left, %u are here\n", s->o.program, left);
    }
    s->done |= !left && !s->o.persistent;
}

static void on_signal(void *opaque, int fd, unsigned events)
{
    struct signalfd_siginfo info;
    struct serve *s = opaque;
    if (read(fd, &info, sizeof(info)) == sizeof(info)) {
        s->done = true;
    }
}

/* Sockets that systemd has made for us: LISTEN_FDS from descriptor 3 on. */
static int inherited_sockets(int *fds)
{
    const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    if (!count || !pid || atoi(pid) != getpid()) {
        return 0;
    }
    int n = atoi(count) < MAX_LISTEN ? atoi(count) : MAX_LISTEN;
    for (int i = 0; i < n; i++) {
        fds[i] = 3 + i;
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
    }
    return n;
}

static int start_listening(struct serve *s, struct err *err)
{
    int fds[MAX_LISTEN], n = inherited_sockets(fds);
    const struct nbd_options *o = &s->o;
    s->addr.path = alloc_text(o->socket);
    s->addr.host = alloc_text(o->socket ? NULL : o->bind ? o->bind : "0.0.0.0");
    s->addr.port = alloc_text(o->socket ? NULL : o->port ? o->port : "10809");
    n = n ? n : sock_listen(&s->addr, fds, MAX_LISTEN, err);
    if (n < 0) {
        return n;
    }
    nbd_server_listen(s->server, fds, n);
    return 0;
}

static int start_device(struct serve *s, struct err *err)
{
    int fd = -1;
    bool readonly = s->o.readonly || block_readonly(s->b);
    s->device = nbd_device_connect(s->o.device, block_size(s->b), readonly, &fd, err);
    if (!s->device) {
        return -EIO;
    }
    return nbd_server_add_ready(s->server, fd, err);
}

static int write_pid(const struct nbd_options *o, struct err *err)
{
    FILE *f = o->pid_file ? fopen(o->pid_file, "w") : NULL;
    if (o->pid_file && (!f || fprintf(f, "%d\n", getpid()) < 0 || fclose(f))) {
        return err_set(err, errno, "cannot write '%s': %s", o->pid_file, strerror(errno));
    }
    return 0;
}

static void tell_parent(struct serve *s)
{
    if (s->ready >= 0) {
        ssize_t n = write(s->ready, "", 1);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)n;
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        close(null);
        close(s->ready);
    }
}

static int watch_signals(struct serve *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return loop_watch(s->loop, fd, LOOP_IN, on_signal, s) ? -1 : fd;
}

static int serve(struct serve *s, struct err *err)
{
    int ret = open_image(s, err);
    ret = ret ? ret : make_export(s, err);
    ret = ret ? ret : s->o.device ? start_device(s, err) : start_listening(s, err);
    ret = ret ? ret : write_pid(&s->o, err);
    if (ret) {
        return ret;
    }
    int signals = watch_signals(s);
    nbd_server_on_leave(s->server, on_leave, s);
    tell_parent(s);
    while (!s->done) {
        loop_step(s->loop, true);
    }
    loop_unwatch(s->loop, signals);
    close(signals);
    return 0;
}

static int close_all(struct serve *s, struct err *err)
{
    int ret = 0;
    if (s->server) {
        nbd_server_free(s->server);
    }
    if (s->device) {
        nbd_device_wait(s->device);
    }
    if (s->b) {
        ret = block_sync_close(s->b, err);
    }
    if (s->addr.path) {
        unlink(s->addr.path);
    }
    sock_addr_free(&s->addr);
    block_graph_free(s->graph);
    loop_free(s->loop);
    nbd_options_free(&s->o);
    return ret;
}

/* ---- */

/* The parent goes when the child can be connected to, or with its failure. */
static void go_to_background(struct serve *s)
{
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC)) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        setsid();
        close(pipes[0]);
        s->ready = pipes[1];
        return;
    }
    char c;
    close(pipes[1]);
    if (child > 0 && read(pipes[0], &c, 1) == 1) {
        _exit(0);
    }
    int status = 1;
    if (child > 0) {
        waitpid(child, &status, 0);
    }
    _exit(1);
}

int main(int argc, char **argv)
{
    struct err err = {""}, closing = {""};
    const char *slash = strrchr(argv[0], '/');
    struct serve s = {.o = {.program = slash ? slash + 1 : argv[0], .shared = 1}, .ready = -1};
    int ret = nbd_options_parse(&s.o, argc, argv, &err);
    if (!ret && s.o.action == NBD_SERVE && s.o.fork) {
        go_to_background(&s);
    }
    s.loop = loop_new(&err);
    s.graph = block_graph_new(s.loop);
    ret = ret ? ret : add_objects(&s, &err);
    if (!ret && s.o.action == NBD_DISCONNECT) {
        ret = nbd_device_disconnect(s.o.device, &err);
        if (!ret) {
            printf("%s disconnected\n", s.o.device);
        }
    } else if (!ret && s.o.action == NBD_LIST) {
        ret = nbd_list(&s.o, s.loop, s.graph, &err);
    } else if (!ret && s.o.action == NBD_SERVE) {
        ret = serve(&s, &err);
    }
    const char *program = s.o.program;
    int closed = close_all(&s, &closing);
    if (ret || closed) {
        fprintf(stderr, "%s: %s\n", program, ret ? err.text : closing.text);
    }
    return ret || closed ? EXIT_FAILURE : EXIT_SUCCESS;
}
