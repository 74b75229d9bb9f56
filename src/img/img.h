/*
 * The image tool's commands and what they share. A command runs in a coroutine of its own, so it
 * may start others and wait for them. It returns the exit status, or -errno with a sentence, which
 * main prints.
 */
#ifndef IMG_IMG_H
#define IMG_IMG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/keyval.h"
#include "block/block.h"
#include "img/args.h"
#include "img/progress.h"

struct copy_watch;
struct loop;
struct strbuf;

struct img {
    const char *program; /* as called */
    const struct img_command *command;
    struct args args;
    struct loop *loop;
    struct block_graph *graph;
    struct progress progress;
    bool quiet;
};

struct img_command {
    const char *name, *summary, *operands;
    const struct arg_row *rows;
    int (*run)(struct img *img, struct err *err);
    bool signed_operand; /* the last operand may begin with a minus sign */
};

extern const struct img_command *const img_commands[]; /* NULL-terminated */
extern const struct img_command cmd_amend, cmd_bench, cmd_bitmap, cmd_check, cmd_commit,
    cmd_compare, cmd_convert, cmd_create, cmd_dd, cmd_info, cmd_map, cmd_measure, cmd_rebase,
    cmd_resize, cmd_snapshot;

/* ---- Rows that several commands have ---- */

#define ARG_HELP                                                                                   \
    {                                                                                              \
        "help", 'h', NULL, "show this and the formats there are"                                   \
    }
#define ARG_OBJECT                                                                                 \
    {                                                                                              \
        "object", 0, "OBJECTDEF", "define an object: secret,id=ID,data=TEXT|file=PATH"             \
    }
#define ARG_IMAGE_OPTS                                                                             \
    {                                                                                              \
        "image-opts", 0, NULL, "FILENAME is a list of options, not a name"                         \
    }
#define ARG_FORMAT                                                                                 \
    {                                                                                              \
        "format", 'f', "FMT", "format of the image; without it, a look at its start"               \
    }
#define ARG_SHARE                                                                                  \
    {                                                                                              \
        "force-share", 'U', NULL, "read the image even while another program writes it"            \
    }
#define ARG_QUIET                                                                                  \
    {                                                                                              \
        "quiet", 'q', NULL, "print errors only"                                                    \
    }
#define ARG_PROGRESS                                                                               \
    {                                                                                              \
        "progress", 'p', NULL, "show progress (without it: at SIGUSR1)"                            \
    }
#define ARG_CACHE                                                                                  \
    {                                                                                              \
        "cache", 't', "CACHE", "none, writeback, writethrough, directsync or unsafe"               \
    }
#define ARG_SRC_CACHE                                                                              \
    {                                                                                              \
        "src-cache", 'T', "SRC_CACHE", "the same for what is only read"                            \
    }
#define ARG_OUTPUT                                                                                 \
    {                                                                                              \
        "output", 0, "OFMT", "human or json"                                                       \
    }
#define ARG_NO_BACKING                                                                             \
    {                                                                                              \
        "no-backing", 0, NULL, "refuse images that name other files"                               \
    }
#define ARG_END                                                                                    \
    {                                                                                              \
        NULL, 0, NULL, NULL                                                                        \
    }

/* ---- Saying ---- */

/* For copies whose opaque is a struct img. */
extern const struct copy_watch img_copy_watch;
void img_warn(const struct img *img, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void img_error(const struct img *img, const struct err *err);
int img_usage(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Wants exactly `count` operands; `what` names them. */
int img_operands(const struct img *img, size_t count, const char *what, struct err *err);
int img_wants_json(const struct img *img, bool *json, struct err *err);

/* ---- Numbers ---- */

/* Like value_size in bytes, and "1.5G"; refuses what is beyond BLOCK_MAX_SIZE. */
int img_size(const char *what, const char *text, uint64_t *out, struct err *err);
int img_number(const struct img *img, const char *name, uint64_t min, uint64_t max, uint64_t *out,
               struct err *err);
void img_human_size(struct strbuf *sb, uint64_t bytes); /* "1.5 GiB" */

/* ---- Opening ---- */

int img_cache_flags(const char *mode, unsigned *flags, struct err *err);
/* Opens as the command's --image-opts, --force-share say. */
struct block *img_open(struct img *img, const char *name, const char *format, const char *cache,
                       unsigned flags, struct err *err);
struct block *img_open_opts(struct img *img, const char *opts, const char *cache, unsigned flags,
                            struct err *err);
/* Closes what was written: writing out what is left may fail, too. `ret` wins. */
int img_close(struct block *b, int ret, struct err *err);
/* A new image of this name reads as zero: it is a regular file, or none yet. */
bool img_made_zero(const char *name);
int img_check_format(const char *format, struct err *err);
/* A name that is relative to the folder of `image`; freed by the caller. */
char *img_path_beside(const char *image, const char *name);
/* All of -o. */
int img_collect_options(const struct img *img, struct keyval *kv, struct err *err);
void img_print_options(const char *title, const struct block_opt *opts);
int img_check_options(const struct keyval *kv, const struct block_opt *opts, const char *format,
                      struct err *err);

/* ---- Signals ---- */

/* From here to img_release() the first SIGINT or SIGTERM only makes img_stopped() true; `remove`:
 * an unfinished file, deleted at the second one and by img_release(true). */
void img_hold(const char *remove);
void img_release(bool failed);
bool img_stopped(void);
int img_stop_error(struct err *err); /* -EINTR with a sentence */
bool img_report_wanted(void);        /* SIGUSR1 came since the last call */
void img_signals_init(void);

/* ---- Showing ---- */

struct json_t;
void img_print_json(const struct json_t *j);
/* What `info` shows of one image, without its backing file. */
int img_info_human(struct block *b, struct strbuf *sb, struct err *err);
void img_specific_human(struct strbuf *sb, const struct json_t *specific);
int img_snapshot_list(struct block *b, struct strbuf *sb, bool titled, struct err *err);

/* ---- Commands in commands ---- */

/* convert -l: "snapshot.id=..,snapshot.name=.." or one of them. */
int img_view_snapshot(struct block *b, const char *param, struct err *err);

struct img_create {
    const char *name, *format, *backing, *backing_format;
    bool unsafe; /* the backing file need not be there */
    bool quiet;
    uint64_t size; /* UINT64_MAX: as the backing file */
};
int img_create(struct img *img, const struct img_create *c, struct keyval *opts, struct err *err);

#endif
