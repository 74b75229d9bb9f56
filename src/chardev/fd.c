/* Back ends on plain descriptors: null, stdio, file, pipe, pty. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "chardev/internal.h"
#include "loop/loop.h"

/* ---- Shared ---- */

bool chardev_pump(struct chardev *c, int fd)
{
    uint8_t buf[256];
    size_t room = chardev_room(c);
    if (!room) {
        c->rx_on = false;
        c->type->set_rx(c, false);
        return true;
    }
    ssize_t n = read(fd, buf, room < sizeof(buf) ? room : sizeof(buf));
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (n > 0) {
        chardev_rx(c, buf, (size_t)n);
    }
    return n > 0;
}

long chardev_put(int fd, const uint8_t *buf, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(fd, buf + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return (long)done;
        }
        if (n < 0) {
            return -1;
        }
        done += (size_t)n;
    }
    return (long)done;
}

/* ---- Null ---- */

static int null_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    return 0;
}

const struct chardev_type chardev_null = {.name = "null",
                                          .summary = "takes everything, gives nothing",
                                          .size = sizeof(struct chardev),
                                          .open = null_open};

const struct chardev_type chardev_vc = {.name = "vc",
                                        .summary = "as null: there are no text consoles in windows",
                                        .size = sizeof(struct chardev),
                                        .open = null_open};

/* ---- Descriptors ---- */

static void fd_ready(void *opaque, int fd, unsigned events)
{
    struct fd_chardev *f = opaque;
    if (!chardev_pump(&f->c, fd) && !f->datagrams) {
        f->ended = true;
        loop_unwatch(f->c.loop, fd);
    }
}

/* A plain file is always ready: read it piece by piece from the loop. */
static void fd_read_plain(void *opaque)
{
    struct fd_chardev *f = opaque;
    if (!f->ended && f->c.rx_on) {
        f->ended = !chardev_pump(&f->c, f->in);
        if (!f->ended && f->c.rx_on) {
            loop_post(f->c.loop, fd_read_plain, f);
        }
    }
}

void chardev_fd_set_rx(struct chardev *c, bool on)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    if (f->in < 0 || f->ended) {
        return;
    }
    if (!on) {
        loop_unwatch(c->loop, f->in);
        return;
    }
    if (loop_watch(c->loop, f->in, LOOP_IN, fd_ready, f) == -EPERM) {
        loop_post(c->loop, fd_read_plain, f);
    }
}

/*
 * Waits for a slow terminal or pipe: the guest's serial line is slower still. After two seconds
 * the bytes are lost, so that a stopped terminal does not hang the guest for ever.
 */
size_t chardev_fd_write(struct chardev *c, const uint8_t *buf, size_t len)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    size_t done = 0;
    while (f->out >= 0 && done < len) {
        long n = chardev_put(f->out, buf + done, len - done);
        if (n < 0) {
            break;
        }
        done += (size_t)n;
        struct pollfd p = {.fd = f->out, .events = POLLOUT};
        if (done < len && poll(&p, 1, 2000) <= 0) {
            break;
        }
    }
    return len;
}

void chardev_fd_close(struct chardev *c)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    if (f->in >= 0) {
        loop_unwatch(c->loop, f->in);
    }
    if (f->own) {
        cleanup_close(&f->out);
        if (f->in != f->out) {
            cleanup_close(&f->in);
        }
    }
    f->in = f->out = -1;
}

/* ---- Terminal ---- */

/* Process-wide like the terminal itself; restored on every way out, also from signal handlers. */
static struct {
    volatile sig_atomic_t raw;
    struct termios before;
} term;

void chardev_restore_terminal(void)
{
    if (term.raw) {
        term.raw = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &term.before);
    }
}

static void term_make_raw(bool signals)
{
    if (term.raw || tcgetattr(STDIN_FILENO, &term.before)) {
        return;
    }
    if (tcgetpgrp(STDIN_FILENO) != getpgrp()) {
        return; /* in the background: the terminal is not ours to change */
    }
    struct termios t = term.before;
    t.c_iflag &= (tcflag_t) ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag |= OPOST;
    t.c_lflag &= (tcflag_t) ~(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals) {
        t.c_lflag &= (tcflag_t)~ISIG;
    }
    t.c_cflag = (t.c_cflag & (tcflag_t) ~(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    term.raw = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

static int stdio_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    bool signals = true;
    const char *arg = keyval_get(args, "signal");
    if (arg && value_bool("-chardev stdio: signal", arg, &signals, err)) {
        return -EINVAL;
    }
    f->in = STDIN_FILENO;
    f->out = STDOUT_FILENO;
    term_make_raw(signals);
    return 0;
}

static void stdio_close(struct chardev *c)
{
    chardev_fd_close(c);
    chardev_restore_terminal();
}

const struct chardev_type chardev_stdio = {
    .name = "stdio",
    .summary = "the terminal (signal=on|off: whether Ctrl-C ends us)",
    .size = sizeof(struct fd_chardev),
    .open = stdio_open,
    .write = chardev_fd_write,
    .set_rx = chardev_fd_set_rx,
    .close = stdio_close};

/* ---- File ---- */

static int open_path(const char *path, int flags, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC, 0666);
    return fd >= 0 ? fd
                   : err_set(err, errno, "cannot open '%s' for the character device: %s", path,
                             strerror(errno));
}

static int file_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    const char *path = keyval_get(args, "path"), *append = keyval_get(args, "append");
    const char *input = keyval_get(args, "input-path");
    bool keep = false;
    f->in = f->out = -1;
    f->own = true;
    if (!path || !*path) {
        return err_set(err, EINVAL, "-chardev file: needs path=FILE");
    }
    if (append && value_bool("-chardev file: append", append, &keep, err)) {
        return -EINVAL;
    }
    f->out = open_path(path, O_WRONLY | O_CREAT | (keep ? O_APPEND : O_TRUNC), err);
    f->in = f->out >= 0 && input ? open_path(input, O_RDONLY | O_NONBLOCK, err) : -1;
    return f->out < 0 ? f->out : input && f->in < 0 ? f->in : 0;
}

const struct chardev_type chardev_file = {
    .name = "file",
    .summary = "output to a file (path=, append=on|off, input-path=)",
    .size = sizeof(struct fd_chardev),
    .open = file_open,
    .write = chardev_fd_write,
    .set_rx = chardev_fd_set_rx,
    .close = chardev_fd_close};

/* ---- Named pipes: PATH.in and PATH.out, or PATH both ways ---- */

static int pipe_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    const char *path = keyval_get(args, "path");
    f->in = f->out = -1;
    f->own = true;
    if (!path || !*path) {
        return err_set(err, EINVAL, "-chardev pipe: needs path=FILE");
    }
    AUTO_FREE char *in = alloc_printf("%s.in", path);
    AUTO_FREE char *out = alloc_printf("%s.out", path);
    /* For reading and writing: so opening does not wait for the other side. */
    f->in = open(in, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    f->out = open(out, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (f->in < 0 || f->out < 0) {
        chardev_fd_close(c);
        f->in = f->out = open_path(path, O_RDWR | O_NONBLOCK, err);
    }
    return f->in < 0 ? f->in : 0;
}

const struct chardev_type chardev_pipe = {.name = "pipe",
                                          .summary =
                                              "named pipes PATH.in and PATH.out, or PATH (path=)",
                                          .size = sizeof(struct fd_chardev),
                                          .open = pipe_open,
                                          .write = chardev_fd_write,
                                          .set_rx = chardev_fd_set_rx,
                                          .close = chardev_fd_close};

/* ---- Pseudo terminal ---- */

static int pty_open(struct chardev *c, const struct keyval *args, struct err *err)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    f->in = f->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    f->own = true;
    char name[128];
    if (f->in < 0 || grantpt(f->in) || unlockpt(f->in) || ptsname_r(f->in, name, sizeof(name))) {
        return err_set(err, errno, "cannot make a pseudo terminal: %s", strerror(errno));
    }
    c->filename = alloc_printf("pty:%s", name);
    fprintf(stderr, "char device redirected to %s (label %s)\n", name, c->id ? c->id : "pty");
    return 0;
}

const struct chardev_type chardev_pty = {.name = "pty",
                                         .summary = "a new pseudo terminal; its name is printed",
                                         .size = sizeof(struct fd_chardev),
                                         .open = pty_open,
                                         .write = chardev_fd_write,
                                         .set_rx = chardev_fd_set_rx,
                                         .close = chardev_fd_close};
