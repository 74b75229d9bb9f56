/* What all commands share: sentences, numbers, opening images, lists of options. */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/near.h"
#include "base/strbuf.h"
#include "block/copy.h"
#include "img/img.h"

#define NAMES_MAX 64

/* ---- Saying ---- */

void img_warn(const struct img *img, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fflush(stdout);
    fprintf(stderr, "%s: warning: ", img->program);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

static void watch_progress(void *opaque, uint64_t done, uint64_t all)
{
    struct img *img = opaque;
    progress_set(&img->progress, done, all);
}

static int watch_stopped(void *opaque, struct err *err)
{
    return img_stopped() ? img_stop_error(err) : 0;
}

static void watch_lost(void *opaque, uint64_t off, int error)
{
    const struct img *img = opaque;
    if (!img->quiet) {
        img_warn(img, "error while reading offset %llu: %s", (unsigned long long)off,
                 strerror(-error));
    }
}

const struct copy_watch img_copy_watch = {watch_progress, watch_stopped, watch_lost};

void img_error(const struct img *img, const struct err *err)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", img->program, err->text);
}

int img_usage(struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

int img_operands(const struct img *img, size_t count, const char *what, struct err *err)
{
    const struct args *a = &img->args;
    if (a->operand_count > count) {
        return err_set(err, EINVAL, "unexpected argument '%s'; %s takes %s", a->operands[count],
                       img->command->name, what);
    }
    return a->operand_count == count
               ? 0
               : err_set(err, EINVAL, "%s needs %s", img->command->name, what);
}

int img_wants_json(const struct img *img, bool *json, struct err *err)
{
    const char *text = args_text(&img->args, "output");
    *json = text && !strcmp(text, "json");
    return *json || !text || !strcmp(text, "human")
               ? 0
               : err_set(err, EINVAL, "--output must be 'human' or 'json', not '%s'", text);
}

/* ---- Numbers ---- */

/* "1.5G": what value_size() does not take. */
static int size_fraction(const char *what, const char *text, uint64_t *out, struct err *err)
{
    const char *dot = strchr(text, '.');
    char *end;
    uint64_t unit = 1;
    double v = strtod(text, &end);
    if (!dot || end == text || strcspn(text, "xX") < (size_t)(end - text) || !(v >= 0)) {
        return err_set(err, EINVAL, "%s: '%s' is not a size such as 512M", what, text);
    }
    AUTO_FREE char *one = alloc_printf("1%s", end);
    int ret = value_size(what, one, 1, &unit, err);
    v *= (double)unit;
    if (ret || v > (double)BLOCK_MAX_SIZE) {
        return ret ? ret : err_set(err, ERANGE, "%s: '%s' is too large", what, text);
    }
    *out = (uint64_t)v;
    return 0;
}

int img_size(const char *what, const char *text, uint64_t *out, struct err *err)
{
    int ret = strchr(text, '.') ? size_fraction(what, text, out, err)
                                : value_size(what, text, 1, out, err);
    if (!ret && *out > BLOCK_MAX_SIZE) {
        return err_set(err, EFBIG, "%s: '%s' is too large, an image has less than 8 EiB", what,
                       text);
    }
    return ret;
}

int img_number(const struct img *img, const char *name, uint64_t min, uint64_t max, uint64_t *out,
               struct err *err)
{
    const char *text = args_text(&img->args, name);
    if (!text) {
        return 0;
    }
    int ret = img_size(name, text, out, err);
    if (!ret && (*out < min || *out > max)) {
        return err_set(err, ERANGE, "--%s must be between %llu and %llu, not %s", name,
                       (unsigned long long)min, (unsigned long long)max, text);
    }
    return ret;
}

void img_human_size(struct strbuf *sb, uint64_t bytes)
{
    static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    double v = (double)bytes;
    size_t i = 0;
    while (v >= 1000 && i + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        i++;
    }
    strbuf_add(sb, "%0.3g %sB", v, units[i]);
}

/* ---- Opening ---- */

int img_cache_flags(const char *mode, unsigned *flags, struct err *err)
{
    static const struct {
        const char *name;
        unsigned flags;
    } modes[] = {
        {"none", BLOCK_DIRECT},
        {"off", BLOCK_DIRECT},
        {"writeback", 0},
        {"writethrough", BLOCK_WRITETHROUGH},
        {"directsync", BLOCK_DIRECT | BLOCK_WRITETHROUGH},
        {"unsafe", BLOCK_NO_FLUSH},
    };
    const char *names[ARRAY_LEN(modes)];
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        names[i] = modes[i].name;
        if (mode && !strcmp(mode, modes[i].name)) {
            *flags |= modes[i].flags;
        }
        if (!mode || !strcmp(mode, modes[i].name)) {
            return 0;
        }
    }
    return err_set(err, EINVAL, "Invalid cache option: '%s'; the nearest is '%s'", mode,
                   near_pick(mode, names, ARRAY_LEN(modes)));
}

static void warn_guessed(const struct img *img, const struct block *b, unsigned flags,
                         const char *format)
{
    if (!format && flags & BLOCK_RDWR && !strcmp(block_format(b), "raw") && !img->quiet) {
        img_warn(img,
                 "no format was given for '%s' and it looks like raw; what would make it look "
                 "like another format is not written to its start: say -f raw to allow that",
                 block_filename(b));
    }
}

struct block *img_open_opts(struct img *img, const char *text, const char *cache, unsigned flags,
                            struct err *err)
{
    struct keyval kv = {NULL};
    struct block *b = NULL;
    if (!img_cache_flags(cache, &flags, err) && !keyval_parse(&kv, text, NULL, err)) {
        b = block_open(img->graph, &kv, flags, err);
    }
    if (b) {
        warn_guessed(img, b, flags, keyval_get(&kv, "driver"));
    }
    keyval_free(&kv);
    return b;
}

struct block *img_open(struct img *img, const char *name, const char *format, const char *cache,
                       unsigned flags, struct err *err)
{
    if (args_has(&img->args, "force-share")) {
        flags |= BLOCK_FORCE_SHARE;
    }
    if (args_has(&img->args, "image-opts")) {
        if (format) {
            err_set(err, EINVAL, "--image-opts and --format exclude each other");
            return NULL;
        }
        return img_open_opts(img, name, cache, flags, err);
    }
    if (img_cache_flags(cache, &flags, err)) {
        return NULL;
    }
    struct block *b = block_open_name(img->graph, name, format, NULL, flags, err);
    if (b) {
        warn_guessed(img, b, flags, format);
    }
    return b;
}

int img_close(struct block *b, int ret, struct err *err)
{
    if (ret) {
        block_close(b);
        return ret;
    }
    return block_sync_close(b, err);
}

bool img_made_zero(const char *name)
{
    struct stat st;
    return stat(name, &st) ? errno == ENOENT : S_ISREG(st.st_mode);
}

int img_check_format(const char *format, struct err *err)
{
    if (block_format_exists(format)) {
        return 0;
    }
    AUTO_FREE const char **names = block_format_names();
    size_t n = 0;
    while (names && names[n]) {
        n++;
    }
    return err_set(err, EINVAL, "Unknown file format '%s'; the nearest is '%s'", format,
                   near_pick(format, names, n));
}

static bool has_protocol(const char *name)
{
    size_t n = strcspn(name, ":/");
    return name[n] == ':';
}

char *img_path_beside(const char *image, const char *name)
{
    const char *slash = strrchr(image, '/');
    if (name[0] == '/' || has_protocol(name) || has_protocol(image) || !slash) {
        return alloc_text(name);
    }
    return alloc_printf("%.*s%s", (int)(slash + 1 - image), image, name);
}

/* ---- Options of formats ---- */

int img_collect_options(const struct img *img, struct keyval *kv, struct err *err)
{
    for (size_t i = 0; i < img->args.count; i++) {
        struct keyval one = {NULL};
        if (strcmp(img->args.given[i].row->name, "options") != 0) {
            continue;
        }
        int ret = keyval_parse(&one, img->args.given[i].value, NULL, err);
        for (size_t k = 0; !ret && k < one.count; k++) {
            const struct keyval_pair *p = &one.pairs[k];
            bool help = p->bare && (!strcmp(p->key, "help") || !strcmp(p->key, "?"));
            keyval_remove(kv, p->key);
            keyval_add(kv, help ? "help" : p->key, p->bare && !help ? "on" : p->value);
        }
        keyval_free(&one);
        if (ret) {
            return err_prefix(err, ret, "-o");
        }
    }
    return 0;
}

static int opt_by_name(const void *a, const void *b)
{
    return strcmp((*(const struct block_opt *const *)a)->name,
                  (*(const struct block_opt *const *)b)->name);
}

void img_print_options(const char *title, const struct block_opt *opts)
{
    const struct block_opt *sorted[NAMES_MAX];
    size_t n = 0;
    for (; opts && opts[n].name && n < NAMES_MAX; n++) {
        sorted[n] = &opts[n];
    }
    qsort(sorted, n, sizeof(sorted[0]), opt_by_name);
    printf("%s\n", title);
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *head = alloc_printf("%s=<%s>", sorted[i]->name, sorted[i]->type);
        printf("  %-22s - %s\n", head, sorted[i]->help);
    }
}

int img_check_options(const struct keyval *kv, const struct block_opt *opts, const char *format,
                      struct err *err)
{
    const char *names[NAMES_MAX];
    size_t n = 0;
    for (; opts && opts[n].name && n < NAMES_MAX; n++) {
        names[n] = opts[n].name;
    }
    for (size_t i = 0; i < kv->count; i++) {
        size_t k = 0;
        while (k < n && strcmp(names[k], kv->pairs[i].key) != 0) {
            k++;
        }
        if (k == n) {
            return err_set(err, EINVAL, "Invalid parameter '%s' for %s; the nearest is '%s'",
                           kv->pairs[i].key, format, near_pick(kv->pairs[i].key, names, n));
        }
    }
    return 0;
}

void img_print_json(const struct json_t *j)
{
    char *text = json_dumps(j, JSON_INDENT(4));
    printf("%s\n", text ? text : "null");
    free(text);
}
