/*
 * The disk exerciser: lodge-io, also called as qemu-io, whose commands it takes. It reads and
 * writes images for tests.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/strbuf.h"
#include "img/io.h"
#include "loop/loop.h"

static const struct arg_row io_rows[] = {
    {"object", 0, "OBJECTDEF", "define an object: secret,id=ID,data=TEXT|file=PATH"},
    {"image-opts", 0, NULL, "the file is a list of options, not a name"},
    {"cmd", 'c', "STRING", "run this command; may come several times"},
    {"format", 'f', "FMT", "format of the image"},
    {"read-only", 'r', NULL, "open it read-only"},
    {"snapshot", 's', NULL, "writes go to a temporary file"},
    {"nocache", 'n', NULL, "past the host's cache, short for -t none"},
    {"copy-on-read", 'C', NULL, "what is read from backing files is kept in the image"},
    {"misalign", 'm', NULL, "accepted, without effect"},
    {"native-aio", 'k', NULL, "accepted, without effect"},
    {"aio", 'i', "MODE", "threads, native or io_uring; the best there is is used"},
    {"cache", 't', "MODE", "none, writeback, writethrough, directsync or unsafe"},
    {"discard", 'd', "MODE", "ignore or unmap (unmap)"},
    {"trace", 'T', "PATTERN", "accepted, without effect"},
    {"force-share", 'U', NULL, "read the image even while another program writes it"},
    {"no-backing", 0, NULL, "refuse images that name other files"},
    {"help", 'h', NULL, "show this"},
    {"version", 'V', NULL, "show the version"},
    ARG_END,
};

static void io_print_help(const struct io *io)
{
    printf("usage: %s [OPTIONS] [-c STRING]... [FILE]\nread and write disk images for tests\n\n",
           io->img.program);
    args_print(stdout, io_rows);
    printf("\n'%s -c help' lists the commands.\n", io->img.program);
}

/* ---- Commands from stdin ---- */

struct reader {
    struct strbuf text;
    size_t used;
    bool waits, ended;
};

/* A line without its end; NULL: there are no more. Freed by the caller. */
static char *reader_line(struct reader *r)
{
    for (;;) {
        char *start = r->text.text ? r->text.text + r->used : NULL;
        size_t left = r->text.len - r->used;
        char *end = left ? memchr(start, '\n', left) : NULL;
        if (end || (r->ended && left)) {
            size_t n = end ? (size_t)(end - start) : left;
            r->used += n + (end != NULL);
            return strndup(start, n);
        }
        if (r->ended) {
            return NULL;
        }
        char buf[4096];
        if (r->waits) {
            co_wait_fd(STDIN_FILENO, LOOP_IN);
        }
        ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
        r->ended = n <= 0;
        if (n > 0) {
            strbuf_add_bytes(&r->text, buf, (size_t)n);
        }
    }
}

static void io_interactive(struct io *io)
{
    struct stat st;
    struct reader r = {.waits =
                           !fstat(STDIN_FILENO, &st) && !S_ISREG(st.st_mode) &&
                           (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(STDIN_FILENO))};
    while (!io->quit) {
        printf("%s> ", io->img.program);
        fflush(stdout);
        char *line = reader_line(&r);
        if (!line) {
            break;
        }
        if (io_run_line(io, line)) {
            io->failed = true;
        }
        free(line);
    }
    strbuf_free(&r.text);
}

/* ---- Running ---- */

static int io_open_first(struct io *io, struct err *err)
{
    const struct args *a = &io->img.args;
    struct keyval opts = {NULL};
    const char *name = a->operand_count ? a->operands[0] : NULL;
    unsigned flags = BLOCK_UNMAP | (args_has(a, "read-only") ? 0 : BLOCK_RDWR | BLOCK_RESIZE) |
                     (args_has(a, "nocache") ? BLOCK_DIRECT : 0) |
                     (args_has(a, "force-share") ? BLOCK_FORCE_SHARE : 0);
    int ret = img_cache_flags(args_text(a, "cache"), &flags, err);
    ret = ret ? ret : io_discard_flags(args_text(a, "discard"), &flags, err);
    if (ret || !name) {
        return ret;
    }
    if (args_has(a, "image-opts") && args_has(a, "format")) {
        return err_set(err, EINVAL, "--image-opts and -f exclude each other");
    }
    if (args_has(a, "image-opts")) {
        ret = keyval_parse(&opts, name, NULL, err);
    } else {
        keyval_add(&opts, "filename", name);
        if (args_has(a, "format")) {
            keyval_add(&opts, "driver", args_text(a, "format"));
        }
    }
    err->text[0] = 0;
    ret =
        ret ? ret : io_open(io, &opts, flags, args_has(a, "snapshot"), args_has(a, "copy-on-read"));
    keyval_free(&opts);
    return ret;
}

struct io_main {
    struct io *io;
    struct err *err;
    int ret;
};

static void io_main_co(void *opaque)
{
    struct io_main *m = opaque;
    struct io *io = m->io;
    const struct args *a = &io->img.args;
    bool any = false;
    m->ret = io_open_first(io, m->err);
    for (size_t i = 0; !m->ret && !io->quit && i < a->count; i++) {
        if (!strcmp(a->given[i].row->name, "cmd")) {
            any = true;
            if (io_run_line(io, a->given[i].value)) {
                io->failed = true;
            }
        }
    }
    if (!m->ret && !any) {
        io_interactive(io);
    }
    if (io_close(io)) {
        io->failed = true;
    }
}

static int io_secrets(struct io *io, struct err *err)
{
    const struct args *a = &io->img.args;
    if (args_has(a, "no-backing")) {
        block_graph_refuse_backing(io->img.graph);
    }
    for (size_t i = 0; i < a->count; i++) {
        struct keyval kv = {NULL};
        if (strcmp(a->given[i].row->name, "object") != 0) {
            continue;
        }
        int ret = keyval_parse(&kv, a->given[i].value, "qom-type", err);
        ret = ret ? ret : block_add_object(io->img.graph, &kv, err);
        keyval_free(&kv);
        if (ret) {
            return err_prefix(err, ret, "--object");
        }
    }
    return 0;
}

static int io_start(struct io *io, struct err *err)
{
    io->img.loop = loop_new(err);
    if (!io->img.loop) {
        return -ENOMEM;
    }
    io->img.graph = block_graph_new(io->img.loop);
    struct io_main m = {.io = io, .err = err};
    m.ret = io_secrets(io, err);
    if (!m.ret) {
        co_run(io->img.loop, io_main_co, &m);
    }
    keyval_free(&io->opts);
    block_graph_free(io->img.graph);
    loop_free(io->img.loop);
    return m.ret;
}

int main(int argc, char **argv)
{
    struct io io = {.img = {.program = "lodge-io"}};
    struct err err = {""};
    if (argc > 0 && argv[0]) {
        const char *slash = strrchr(argv[0], '/');
        io.img.program = slash ? slash + 1 : argv[0];
    }
    int ret = args_parse(&io.img.args, io_rows, argc, argv, &err);
    if (!ret && io.img.args.operand_count > 1) {
        ret = err_set(&err, EINVAL, "unexpected argument '%s'; one file can be opened",
                      io.img.args.operands[1]);
    }
    if (!ret && args_has(&io.img.args, "help")) {
        io_print_help(&io);
    } else if (!ret && args_has(&io.img.args, "version")) {
        printf("%s version %s\n", io.img.program, LODGE_VERSION);
    } else if (!ret) {
        ret = io_start(&io, &err);
    }
    if (ret && err.text[0]) {
        img_error(&io.img, &err);
    }
    args_free(&io.img.args);
    return ret || io.failed ? 1 : 0;
}
