/* The exerciser's commands: a table, taking lines apart, and what needs only a few lines. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "img/io.h"

#define ROW_C " -C, -- report statistics in a machine parsable format\n"
#define ROW_Q " -q, -- quiet mode, do not show I/O statistics\n"
#define ROW_V " -v, -- dump buffer to standard output\n"
#define ROW_P_READ " -P, -- use a pattern to verify read data\n"
#define ROW_P_WRITE " -P, -- fill with this byte (0xcd)\n"
#define ROW_F " -f, -- on the medium when it is done\n"
#define ROW_UZ                                                                                     \
    " -u, -- with -z, allow unmapping\n"                                                           \
    " -z, -- write zeroes without sending any\n"
#define ROW_ASYNC                                                                                  \
    "The request is started only; aio_flush waits until all are done. The command\n"               \
    "succeeds once it is started, whatever comes of it.\n"

/* ---- Small commands ---- */

static int flush_run(struct io_call *c)
{
    int ret = block_flush(c->io->b);
    if (ret) {
        printf("flush failed: %s\n", strerror(-ret));
    }
    return ret;
}

static int aio_flush_run(struct io_call *c)
{
    io_drain(c->io);
    return 0;
}

static int length_run(struct io_call *c)
{
    struct strbuf sb = {NULL};
    io_size_text(&sb, (double)block_size(c->io->b));
    printf("%s\n", strbuf_text(&sb));
    strbuf_free(&sb);
    return 0;
}

static int truncate_run(struct io_call *c)
{
    enum block_prealloc prealloc = PREALLOC_OFF;
    struct err err;
    uint64_t size;
    int ret = io_number(c->words[0], &size);
    if (ret) {
        return ret;
    }
    if (c->value['m']) {
        unsigned i = 0;
        while (block_prealloc_names[i] && strcmp(block_prealloc_names[i], c->value['m']) != 0) {
            i++;
        }
        if (!block_prealloc_names[i]) {
            fprintf(stderr, "%s: Invalid preallocation mode '%s'\n", c->io->img.program,
                    c->value['m']);
            return -EINVAL;
        }
        prealloc = (enum block_prealloc)i;
    }
    ret = block_truncate(c->io->b, size, prealloc, &err);
    if (ret) {
        fprintf(stderr, "%s: %s\n", c->io->img.program, err.text);
    }
    return ret;
}

int io_discard_run(struct io_call *c)
{
    uint64_t off, len;
    int ret = io_number(c->words[0], &off);
    ret = ret ? ret : io_length(c->words[1], &len);
    if (ret) {
        return ret;
    }
    if (block_readonly(c->io->b)) {
        fprintf(stderr, "%s: Block node is read-only\n", c->io->img.program);
        return -EPERM;
    }
    long long start = io_now();
    uint64_t size = block_size(c->io->b);
    ret = off > size || len > size - off ? -EIO : block_discard(c->io->b, off, len);
    if (ret) {
        printf("discard failed: %s\n", strerror(-ret));
        return ret;
    }
    if (!c->has['q']) {
        io_report("discard", io_now() - start, off, len, 1, c->has['C']);
    }
    return 0;
}

static int close_run(struct io_call *c)
{
    return io_close(c->io);
}

static int quit_run(struct io_call *c)
{
    c->io->quit = true;
    return 0;
}

static int sleep_run(struct io_call *c)
{
    char *end;
    long long ms = strtoll(c->words[0], &end, 0);
    if (end == c->words[0] || *end || ms < 0) {
        printf("%s is not a number of milliseconds\n", c->words[0]);
        return -EINVAL;
    }
    co_sleep_ns(ms * 1000000);
    return 0;
}

static void help_line(const struct io_command *m)
{
    printf("%s %s -- %s\n", m->name, m->args, m->summary);
}

static int help_run(struct io_call *c)
{
    for (const struct io_command *m = io_commands; m->name; m++) {
        if (!c->count) {
            help_line(m);
        } else if (!strcmp(m->name, c->words[0])) {
            help_line(m);
            if (m->help) {
                printf("\n%s\n", m->help);
            }
            return 0;
        }
    }
    if (c->count) {
        printf("command %s not found\n", c->words[0]);
    } else {
        printf("\nUse 'help commandname' for extended help.\n");
    }
    return 0;
}

/* ---- The table ---- */

const struct io_command io_commands[] = {
    {"aio_flush", NULL, "", 0, 0, false, "", "completes all outstanding aio requests", NULL,
     aio_flush_run},
    {"aio_read", NULL, "CP:iqv", 2, -1, false, "[-Ciqv] [-P pattern] off len [len..]",
     "asynchronously reads a number of bytes",
     ROW_ASYNC ROW_C ROW_P_READ " -i, -- an invalid request: not sent\n" ROW_V ROW_Q,
     io_aio_read_run},
    {"aio_write", NULL, "CfiP:quz", 2, -1, false, "[-Cfiquz] [-P pattern] off len [len..]",
     "asynchronously writes a number of bytes",
     ROW_ASYNC ROW_P_WRITE ROW_C ROW_F " -i, -- an invalid request: not sent\n" ROW_Q ROW_UZ,
     io_aio_write_run},
    {"alloc", "a", "", 1, 2, false, "offset [count]", "checks if offset is allocated in the file",
     NULL, io_alloc_run},
    {"close", "c", "", 0, 0, false, "", "close the current open file", NULL, close_run},
    {"discard", "d", "Cq", 2, 2, false, "[-Cq] off len",
     "discards a number of bytes at a specified offset", ROW_C ROW_Q, io_discard_run},
    {"flush", "f", "", 0, 0, false, "", "flush all in-core file state to disk", NULL, flush_run},
    {"help", "?", "", 0, 1, true, "[command]", "help for one or all commands", NULL, help_run},
    {"info", "i", "", 0, 0, false, "", "prints information about the current file", NULL,
     io_info_run},
    {"length", "l", "", 0, 0, false, "", "gets the length of the current file", NULL, length_run},
    {"map", NULL, "", 0, 0, false, "", "prints the allocated areas of a file", NULL, io_map_run},
    {"open", "o", "rsCnkUi:t:d:o:", 0, 1, true,
     "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]", "open the file specified by path",
     " -r, -- open file read-only\n -s, -- writes go to a temporary file\n"
     " -C, -- accepted, without effect\n -n, -- past the host's cache, short for -t none\n"
     " -U, -- read beside a writer\n -k, -i, -- accepted, without effect\n"
     " -t, -- use the given cache mode\n -d, -- use the given discard mode\n"
     " -o, -- options of the image\n",
     io_open_run},
    {"quit", "q", "", 0, 0, true, "", "exit the program", NULL, quit_run},
    {"read", "r", "abCl:pP:qs:v", 2, 2, false, "[-abCqv] [-P pattern [-s off] [-l len]] off len",
     "reads a number of bytes at a specified offset",
     " -b, -- read the VM state instead of the disk\n" ROW_C
     " -l, -- how much has the pattern (only with -P)\n -p, -- ignored\n" ROW_P_READ ROW_Q
     " -s, -- where the pattern starts (only with -P)\n" ROW_V,
     io_read_run},
    {"readv", "rv", "CP:qv", 2, -1, false, "[-Cqv] [-P pattern] off len [len..]",
     "reads a number of bytes at a specified offset", ROW_C ROW_P_READ ROW_V ROW_Q, io_readv_run},
    {"reopen", NULL, "o:rwc:", 0, 0, false, "[(-r|-w)] [-c cache] [-o options]",
     "reopens an image with new options",
     " -r, -- read-only\n -w, -- read-write\n -c, -- cache mode\n -o, -- options of the image\n",
     io_reopen_run},
    {"sleep", NULL, "", 1, 1, true, "ms", "waits for the given value in milliseconds", NULL,
     sleep_run},
    {"truncate", "t", "m:", 1, 1, false, "[-m prealloc_mode] off",
     "truncates the current file at the given offset", NULL, truncate_run},
    {"write", "w", "bcCfnpP:qs:uz", 2, 2, false,
     "[-bcCfnquz] [-P pattern | -s source_file] off len",
     "writes a number of bytes at a specified offset",
     " -b, -- write to the VM state instead of the disk\n -c, -- write compressed data\n" ROW_F
     " -n, -- with -z, fail rather than send zeroes\n -p, -- ignored\n" ROW_P_WRITE
     " -s, -- fill with the bytes of this file\n" ROW_C ROW_Q ROW_UZ,
     io_write_run},
    {"writev", "wv", "CfqP:", 2, -1, false, "[-Cfq] [-P pattern] off len [len..]",
     "writes a number of bytes at a specified offset", ROW_P_WRITE ROW_C ROW_F ROW_Q,
     io_writev_run},
    {NULL},
};

/* ---- Lines ---- */

int io_usage(const struct io_call *c)
{
    help_line(c->command);
    return -EINVAL;
}

static int call_options(struct io_call *c, int argc, char **argv)
{
    int letter;
    opterr = 1;
    optind = 0;
    while ((letter = getopt(argc, argv, c->command->letters)) != -1) {
        if (letter == '?' || letter >= 128) {
            return io_usage(c);
        }
        c->has[letter] = true;
        c->value[letter] = optarg;
    }
    c->count = argc - optind;
    memmove(c->words, argv + optind, (size_t)c->count * sizeof(*argv));
    return 0;
}

static int call_count(const struct io_call *c, int before)
{
    const struct io_command *m = c->command;
    if (before < m->min || (m->max >= 0 && before > m->max && !*m->letters)) {
        fflush(stdout);
        if (m->max < 0 || *m->letters) {
            fprintf(stderr, "bad argument count %d to %s, expected at least %d arguments\n", before,
                    m->name, m->min);
        } else if (m->min == m->max) {
            fprintf(stderr, "bad argument count %d to %s, expected %d arguments\n", before, m->name,
                    m->min);
        } else {
            fprintf(stderr, "bad argument count %d to %s, expected between %d and %d arguments\n",
                    before, m->name, m->min, m->max);
        }
        return -EINVAL;
    }
    return 0;
}

static const struct io_command *command_find(const char *word)
{
    for (const struct io_command *m = io_commands; m->name; m++) {
        if (!strcmp(word, m->name) || (m->alias && !strcmp(word, m->alias))) {
            return m;
        }
    }
    return NULL;
}

static int run_words(struct io_call *c, int argc, char **argv)
{
    c->command = command_find(argv[0]);
    if (!c->command) {
        fflush(stdout);
        fprintf(stderr, "command \"%s\" not found\n", argv[0]);
        return -EINVAL;
    }
    if (!c->command->closed && !c->io->b) {
        fflush(stdout);
        fprintf(stderr, "no file open, try 'help open'\n");
        return -EINVAL;
    }
    int ret = call_count(c, argc - 1);
    ret = ret ? ret : call_options(c, argc, argv);
    if (!ret &&
        (c->count < c->command->min || (c->command->max >= 0 && c->count > c->command->max))) {
        ret = io_usage(c);
    }
    return ret ? ret : c->command->run(c);
}

int io_run_line(struct io *io, const char *line)
{
    AUTO_FREE char *copy = alloc_text(line);
    char *argv[IO_WORDS_MAX + 1], *rest = copy, *word;
    int argc = 0;
    while ((word = strsep(&rest, " \t\r\n"))) {
        if (*word && argc == IO_WORDS_MAX) {
            fprintf(stderr, "too many words on a line, the most is %d\n", IO_WORDS_MAX);
            return -E2BIG;
        }
        if (*word) {
            argv[argc++] = word;
        }
    }
    argv[argc] = NULL;
    if (!argc) {
        return 0;
    }
    struct io_call c = {.io = io};
    int ret = run_words(&c, argc, argv);
    fflush(stdout);
    return ret;
}
