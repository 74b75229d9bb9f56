/* bench: how fast are requests of one size, so many at a time? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/block.h"
#include "img/img.h"
#include "loop/co.h"

#define DEPTH_MAX 65536

struct bench {
    struct img *img;
    struct block *b;
    uint64_t count, depth, offset, size, step, flush_interval, pattern;
    bool write, no_drain;

    uint64_t at, left, running; /* left: requests not started */
    bool flushing;
    struct co_queue changed;
    uint8_t *buf; /* all requests share it: nobody looks at what is read */
    int ret;
};

struct bench_request {
    struct bench *c;
    uint64_t off;
};

static void bench_request_co(void *opaque)
{
    struct bench_request *r = opaque;
    struct bench *c = r->c;
    int ret = c->write ? block_pwrite(c->b, r->off, c->buf, c->size, 0)
                       : block_pread(c->b, r->off, c->buf, c->size);
    c->ret = c->ret ? c->ret : ret;
    c->running--;
    free(r);
    co_queue_all(&c->changed);
}

static void bench_flush_co(void *opaque)
{
    struct bench *c = opaque;
    int ret = block_flush(c->b);
    c->ret = c->ret ? c->ret : ret;
    c->running--;
    co_queue_all(&c->changed);
}

static void bench_start(struct bench *c)
{
    struct bench_request *r = malloc(sizeof(*r));
    if (!r) {
        c->ret = -ENOMEM;
        return;
    }
    *r = (struct bench_request){c, c->at};
    c->at += c->step;
    if (c->at > block_size(c->b) - c->size) {
        c->at = c->offset;
    }
    c->left--;
    c->running++;
    co_start(c->img->loop, bench_request_co, r);
}

static void bench_await(struct bench *c, uint64_t most)
{
    while (c->running > most) {
        co_queue_wait(&c->changed);
    }
}

static void bench_flush(struct bench *c)
{
    if (!c->no_drain) {
        bench_await(c, 0);
    }
    c->running++;
    co_start(c->img->loop, bench_flush_co, c);
    if (!c->no_drain) {
        bench_await(c, 0);
    }
}

static double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int bench_image(struct bench *c, struct err *err)
{
    if (c->offset > block_size(c->b) || c->size > block_size(c->b) - c->offset) {
        return err_set(err, EINVAL, "a request of %llu bytes at %llu does not fit in '%s'",
                       (unsigned long long)c->size, (unsigned long long)c->offset,
                       block_filename(c->b));
    }
    double start = bench_seconds();
    c->at = c->offset;
    c->left = c->count;
    while (c->left && !c->ret && !img_stopped()) {
        bench_await(c, c->depth - 1);
        bench_start(c);
        if (c->flush_interval && c->left % c->flush_interval == 0) {
            bench_flush(c);
        }
    }
    bench_await(c, 0);
    if (c->ret) {
        return err_set(err, -c->ret, "Failed request: %s", strerror(-c->ret));
    }
    if (!c->img->quiet) {
        printf("Run completed in %3.3f seconds.\n", bench_seconds() - start);
    }
    return img_stopped() ? img_stop_error(err) : 0;
}

static void bench_say(const struct bench *c)
{
    printf("Sending %llu %s requests, %llu bytes each, %llu in parallel (starting at offset %llu, "
           "step size %llu)\n",
           (unsigned long long)c->count, c->write ? "write" : "read", (unsigned long long)c->size,
           (unsigned long long)c->depth, (unsigned long long)c->offset,
           (unsigned long long)c->step);
    if (c->flush_interval) {
        printf("Sending flush every %llu %srequests\n", (unsigned long long)c->flush_interval,
               c->no_drain ? "" : "drained ");
    }
}

static int bench_numbers(struct bench *c, struct err *err)
{
    struct img *img = c->img;
    int ret = img_operands(img, 1, "one image", err);
    ret = ret ? ret : img_number(img, "count", 0, INT32_MAX, &c->count, err);
    ret = ret ? ret : img_number(img, "depth", 1, DEPTH_MAX, &c->depth, err);
    ret = ret ? ret : img_number(img, "offset", 0, BLOCK_MAX_SIZE, &c->offset, err);
    ret = ret ? ret : img_number(img, "buffer-size", 1, INT32_MAX, &c->size, err);
    c->step = c->size;
    ret = ret ? ret : img_number(img, "step-size", 0, INT32_MAX, &c->step, err);
    ret = ret ? ret : img_number(img, "flush-interval", 0, INT32_MAX, &c->flush_interval, err);
    ret = ret ? ret : img_number(img, "pattern", 0, 255, &c->pattern, err);
    c->step = c->step ? c->step : c->size;
    c->write = args_has(&img->args, "write");
    c->no_drain = args_has(&img->args, "no-drain");
    if (!ret && !c->write && c->flush_interval) {
        ret = err_set(err, EINVAL, "--flush-interval is only available in write tests: -w");
    }
    if (!ret && c->flush_interval && c->flush_interval < c->depth) {
        ret = err_set(err, EINVAL, "Flush interval can't be smaller than depth");
    }
    return ret;
}

static int bench_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    struct bench c = {.img = img, .count = 75000, .depth = 64, .size = 4096};
    const char *cache = args_text(a, "cache");
    int ret = bench_numbers(&c, err);
    if (ret) {
        return ret;
    }
    c.b =
        img_open(img, a->operands[0], args_text(a, "format"), cache, c.write ? BLOCK_RDWR : 0, err);
    if (!c.b) {
        return -EINVAL;
    }
    if (!img->quiet) {
        bench_say(&c);
    }
    img_hold(NULL);
    c.buf = block_alloc(c.size);
    if (c.buf) {
        memset(c.buf, (int)c.pattern, c.size);
        ret = bench_image(&c, err);
    } else {
        ret = err_set(err, ENOMEM, "no memory for a request of %llu bytes",
                      (unsigned long long)c.size);
    }
    ret = img_close(c.b, ret, err);
    img_release(false);
    free(c.buf);
    return ret;
}

static const struct arg_row bench_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_CACHE,
    ARG_SHARE,
    ARG_QUIET,
    ARG_NO_BACKING,
    {"count", 'c', "COUNT", "requests (75000)"},
    {"depth", 'd', "DEPTH", "at a time (64)"},
    {"flush-interval", 0, "N", "with -w: a flush after so many"},
    {"aio", 'i', "AIO", "threads, native or io_uring; the best there is is used"},
    {"native", 'n', NULL, "accepted, without effect"},
    {"no-drain", 0, NULL, "flushes do not wait until all is done"},
    {"offset", 'o', "OFFSET", "where to begin (0)"},
    {"pattern", 0, "PATTERN", "the byte that is written (0)"},
    {"buffer-size", 's', "BUFFER_SIZE", "bytes of a request (4096)"},
    {"step-size", 'S', "STEP_SIZE", "from one request to the next (as the buffer)"},
    {"write", 'w', NULL, "write, do not read"},
    ARG_END,
};

const struct img_command cmd_bench = {
    .name = "bench",
    .summary = "measure how fast an image is",
    .operands = "FILENAME",
    .rows = bench_rows,
    .run = bench_run,
};
