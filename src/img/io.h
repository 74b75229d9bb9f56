/*
 * The disk exerciser: a line is a command, commands come from -c or from stdin. Everything runs in
 * one coroutine; aio_read and aio_write start others.
 */
#ifndef IMG_IO_H
#define IMG_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "img/img.h"
#include "loop/co.h"

struct strbuf;

#define IO_WORDS_MAX 64
#define IO_REQUEST_MAX 2147483136ull /* a multiple of a sector below 2 GiB */

struct io {
    struct img img; /* program, loop, graph */
    struct block *b;
    struct keyval opts; /* as it was opened */
    unsigned flags;
    char *snapshot; /* a file that takes the writes, deleted when it is opened */
    bool quit, failed;
    unsigned pending;
    struct co_queue drained;
};

/* One command line, taken apart. */
struct io_call {
    struct io *io;
    const struct io_command *command;
    bool has[128];          /* by letter */
    const char *value[128]; /* of letters with a value */
    char *words[IO_WORDS_MAX];
    int count; /* what is left: operands */
};

struct io_command {
    const char *name, *alias;
    const char *letters; /* for getopt */
    int min, max;        /* operands; max -1: any */
    bool closed;         /* needs no open image */
    const char *args, *summary;
    const char *help; /* more; may be NULL */
    int (*run)(struct io_call *c);
};

extern const struct io_command io_commands[]; /* ends with a NULL name */

int io_run_line(struct io *io, const char *line);
int io_usage(const struct io_call *c); /* prints it; -EINVAL */
int io_number(const char *text, uint64_t *out);
int io_length(const char *text, uint64_t *out); /* of one request */
int io_pattern(const struct io_call *c, uint8_t *byte);
void io_drain(struct io *io);
int io_open(struct io *io, struct keyval *opts, unsigned flags, bool snapshot, bool copy);
int io_close(struct io *io);
int io_discard_flags(const char *mode, unsigned *flags, struct err *err);

void io_size_text(struct strbuf *sb, double bytes); /* "1.500 MiB" */
long long io_now(void);
void io_report(const char *what, long long ns, uint64_t off, uint64_t len, unsigned ops,
               bool machine);
void io_dump(const uint8_t *buf, uint64_t off, uint64_t len);

int io_read_run(struct io_call *c);
int io_readv_run(struct io_call *c);
int io_write_run(struct io_call *c);
int io_writev_run(struct io_call *c);
int io_aio_read_run(struct io_call *c);
int io_aio_write_run(struct io_call *c);
int io_discard_run(struct io_call *c);
int io_alloc_run(struct io_call *c);
int io_map_run(struct io_call *c);
int io_info_run(struct io_call *c);
int io_open_run(struct io_call *c);
int io_reopen_run(struct io_call *c);

#endif
