/* compare: do two images hold the same? Exit status: 0 yes, 1 no, 2 to 4 it could not be found
 * out: an image cannot be opened, its map or its data not be read. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/block.h"
#include "img/img.h"
#include "loop/co.h"

#define COMPARE_BUFFER (2u << 20)

enum { COMPARE_SAME, COMPARE_DIFFERENT, COMPARE_OPEN, COMPARE_MAP, COMPARE_READ };

/* The other image is read by a coroutine of its own meanwhile. */
struct side {
    struct block *b;
    const char *name;
    uint8_t *buf;
    struct block_extent e;
    uint64_t e_end;
    /* of one read */
    uint64_t off, len;
    int ret;
    bool busy;
    struct co_queue done;
};

struct compare {
    struct img *img;
    struct side side[2];
    bool strict;
    struct err *err;
};

/* ---- Reading ---- */

static void side_read_co(void *opaque)
{
    struct side *s = opaque;
    s->ret = block_pread(s->b, s->off, s->buf, s->len);
    s->busy = false;
    co_queue_all(&s->done);
}

static void side_read_start(struct compare *c, struct side *s, uint64_t off, uint64_t len)
{
    s->off = off;
    s->len = len;
    s->busy = true;
    co_start(c->img->loop, side_read_co, s);
}

static int side_read_wait(struct compare *c, struct side *s)
{
    while (s->busy) {
        co_queue_wait(&s->done);
    }
    return s->ret ? err_set(c->err, -s->ret, "error while reading '%s' at byte %llu: %s", s->name,
                            (unsigned long long)s->off, strerror(-s->ret))
                  : 0;
}

static bool side_zero(const struct side *s)
{
    return s->e.flags & EXTENT_ZERO || !(s->e.flags & EXTENT_DATA);
}

static int side_extent(struct compare *c, struct side *s, uint64_t off)
{
    if (off < s->e_end) {
        return 0;
    }
    int ret = block_extent_chain(s->b, NULL, off, block_size(s->b) - off, &s->e);
    s->e_end = off + s->e.len;
    return ret ? err_set(c->err, -ret, "error while looking for data in '%s' at byte %llu: %s",
                         s->name, (unsigned long long)off, strerror(-ret))
               : 0;
}

/* ---- Comparing ---- */

static int compare_say(const struct compare *c, const char *text, uint64_t off)
{
    if (!c->img->quiet) {
        printf("%s%llu!\n", text, (unsigned long long)off);
    }
    return COMPARE_DIFFERENT;
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, uint64_t len)
{
    uint64_t at = 0;
    for (; at < len; at += BLOCK_SECTOR) {
        uint64_t n = len - at < BLOCK_SECTOR ? len - at : BLOCK_SECTOR;
        if (b ? memcmp(a + at, b + at, n) : !mem_is_zero(a + at, n)) {
            break;
        }
    }
    return at;
}

static int compare_zero(struct compare *c, struct side *s, uint64_t off, uint64_t len)
{
    side_read_start(c, s, off, len);
    if (side_read_wait(c, s)) {
        return -COMPARE_READ;
    }
    return mem_is_zero(s->buf, len) ? 0
                                    : compare_say(c, "Content mismatch at offset ",
                                                  off + first_difference(s->buf, NULL, len));
}

static int compare_data(struct compare *c, uint64_t off, uint64_t len)
{
    struct side *a = &c->side[0], *b = &c->side[1];
    side_read_start(c, a, off, len);
    side_read_start(c, b, off, len);
    int first = side_read_wait(c, a), second = side_read_wait(c, b);
    if (first || second) {
        return -COMPARE_READ;
    }
    return !memcmp(a->buf, b->buf, len) ? 0
                                        : compare_say(c, "Content mismatch at offset ",
                                                      off + first_difference(a->buf, b->buf, len));
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* One step; *len is how far it went. */
static int compare_step(struct compare *c, uint64_t off, uint64_t end, uint64_t *len)
{
    struct side *a = &c->side[0], *b = &c->side[1];
    if (side_extent(c, a, off) || side_extent(c, b, off)) {
        return -COMPARE_MAP;
    }
    *len = at_most(at_most(a->e_end, b->e_end), end) - off;
    if (c->strict && (a->e.flags ^ b->e.flags) & (EXTENT_ZERO | EXTENT_DATA | EXTENT_ALLOCATED)) {
        if (!c->img->quiet) {
            printf("Strict mode: Offset %llu block status mismatch!\n", (unsigned long long)off);
        }
        return COMPARE_DIFFERENT;
    }
    if (side_zero(a) && side_zero(b)) {
        return 0;
    }
    *len = at_most(*len, COMPARE_BUFFER);
    if (side_zero(a) || side_zero(b)) {
        return compare_zero(c, side_zero(a) ? b : a, off, *len);
    }
    return compare_data(c, off, *len);
}

static int compare_tail(struct compare *c, struct side *s, uint64_t off)
{
    uint64_t all = block_size(s->b);
    while (off < all) {
        if (side_extent(c, s, off)) {
            return -COMPARE_MAP;
        }
        uint64_t len = at_most(s->e_end, all) - off;
        int ret = 0;
        if (!side_zero(s)) {
            len = at_most(len, COMPARE_BUFFER);
            ret = compare_zero(c, s, off, len);
        }
        if (ret) {
            return ret;
        }
        off += len;
        progress_set(&c->img->progress, off, all);
    }
    return 0;
}

static int compare_images(struct compare *c)
{
    uint64_t a = block_size(c->side[0].b), b = block_size(c->side[1].b);
    uint64_t end = at_most(a, b), all = a > b ? a : b;
    if (c->strict && a != b) {
        if (!c->img->quiet) {
            printf("Strict mode: Image size mismatch!\n");
        }
        return COMPARE_DIFFERENT;
    }
    for (uint64_t off = 0, len; off < end; off += len) {
        int ret = compare_step(c, off, end, &len);
        if (ret) {
            return ret;
        }
        progress_set(&c->img->progress, off + len, all);
    }
    if (a != b && !c->img->quiet) {
        printf("Warning: Image size mismatch!\n");
    }
    return a == b ? 0 : compare_tail(c, &c->side[a > b ? 0 : 1], end);
}

static int compare_open(struct compare *c, unsigned i, const char *format)
{
    struct img *img = c->img;
    struct side *s = &c->side[i];
    s->name = img->args.operands[i];
    s->buf = block_alloc(COMPARE_BUFFER);
    s->b = img_open(img, s->name, format, args_text(&img->args, "src-cache"), 0, c->err);
    return s->b && s->buf ? 0 : -COMPARE_OPEN;
}

static int compare_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    struct compare c = {.img = img, .strict = args_has(a, "strict"), .err = err};
    int ret = img_operands(img, 2, "two images", err);
    if (ret) {
        img_error(img, err);
        return COMPARE_OPEN;
    }
    ret = compare_open(&c, 0, args_text(a, "format"));
    ret = ret ? ret : compare_open(&c, 1, args_text(a, "second-format"));
    if (!ret) {
        progress_start(&img->progress, args_has(a, "progress") && !img->quiet, 1.0);
        ret = compare_images(&c);
        if (!ret && !img->quiet) {
            printf("Images are identical.\n");
        }
        progress_end(&img->progress, ret >= 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        block_close(c.side[i].b);
        free(c.side[i].buf);
    }
    if (ret < 0) {
        img_error(img, err);
    }
    return abs(ret);
}

static const struct arg_row compare_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    {"format", 'f', "FMT", "format of the first image"},
    {"second-format", 'F', "FMT", "format of the second image"},
    ARG_SRC_CACHE,
    ARG_SHARE,
    ARG_QUIET,
    ARG_PROGRESS,
    ARG_NO_BACKING,
    {"strict", 's', NULL, "sizes and what is allocated have to be the same, too"},
    ARG_END,
};

const struct img_command cmd_compare = {
    .name = "compare",
    .summary = "do two images hold the same?",
    .operands = "FILENAME1 FILENAME2",
    .rows = compare_rows,
    .run = compare_run,
};
