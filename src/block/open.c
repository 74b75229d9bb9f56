/*
 * From options to nodes. A node's options are its own, what every node has, and below "file.",
 * "backing." and the like those of its children. A name alone stands for a protocol, by its prefix,
 * and a format on it, given or found by looking at the first bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/near.h"
#include "block/core.h"
#include "block/opts.h"

enum { PROBE_BYTES = 2048 };

static const struct block_opt common_opts[] = {
    {"driver", "str", "format, protocol or filter", NULL},
    {"node-name", "str", "name of this node", NULL},
    {"filename", "str", "name of the image", NULL},
    {"read-only", "bool (on/off)", "no writing", NULL},
    {"auto-read-only", "bool (on/off)", "read-only if it can't be written", NULL},
    {"force-share", "bool (on/off)", "read beside a writer", NULL},
    {"discard", "str", "ignore or unmap", NULL},
    {"detect-zeroes", "str", "off, on or unmap", NULL},
    {"cache", "node", "cache.direct, cache.no-flush", NULL},
    {"file", "node", "the node below", NULL},
    {"backing", "node", "the backing file", NULL},
    {0},
};

struct open_ctx {
    struct block_graph *g;
    struct keyval opts; /* owned */
    unsigned flags;
    int depth;
    bool named_by_image; /* so it may not ask to be written */
    struct err *err;
};

static struct block *open_node(struct open_ctx *c);

static struct block *open_sub(struct open_ctx *parent, struct keyval *opts, unsigned flags)
{
    struct open_ctx c = {parent->g,  *opts, flags, parent->depth + 1, parent->named_by_image,
                         parent->err};
    struct block *b = open_node(&c);
    keyval_free(&c.opts);
    *opts = (struct keyval){0};
    return b;
}

/* ---- What a name means ---- */

static const struct block_type *type_by_prefix(const char *name)
{
    for (size_t i = 0; block_types[i]; i++) {
        for (const char *const *p = block_types[i]->prefixes; p && *p; p++) {
            if (!strncmp(name, *p, strlen(*p))) {
                return block_types[i];
            }
        }
    }
    return NULL;
}

bool block_name_has_protocol(const char *name)
{
    size_t n = strcspn(name, ":/");
    return name[n] == ':';
}

/* Options of the protocol node that `name` stands for. */
static int name_to_opts(const char *name, struct keyval *out, struct err *err)
{
    const struct block_type *t = type_by_prefix(name);
    struct stat st;
    if (t) {
        keyval_add(out, "driver", t->name);
        return t->parse_name(name, out, err);
    }
    bool file = !strncmp(name, "file:", 5);
    if (!file && block_name_has_protocol(name) && stat(name, &st)) {
        return err_set(err, ENOENT, "Unknown protocol '%.*s' in the image name '%s'",
                       (int)strcspn(name, ":"), name, name);
    }
    name += file ? 5 : 0;
    bool device = !stat(name, &st) && S_ISBLK(st.st_mode);
    keyval_add(out, "driver", device ? "host_device" : "file");
    keyval_add(out, "filename", name);
    return 0;
}

static const struct block_type *probe_type(struct block *file, struct err *err)
{
    uint8_t head[PROBE_BYTES] = {0};
    uint64_t size = block_size(file);
    size_t n = size < sizeof(head) ? size : sizeof(head);
    int ret = n ? block_pread(file, 0, head, n) : 0, best = 0;
    const struct block_type *found = block_type_find("raw");
    if (ret) {
        err_set(err, -ret, "cannot read the beginning of '%s': %s", file->filename, strerror(-ret));
        return NULL;
    }
    for (size_t i = 0; block_types[i]; i++) {
        int score = block_types[i]->probe ? block_types[i]->probe(head, n, file->filename) : 0;
        if (score > best) {
            best = score;
            found = block_types[i];
        }
    }
    return found;
}

bool block_head_is_format(const uint8_t *head, size_t n)
{
    for (size_t i = 0; block_types[i]; i++) {
        if (block_types[i]->probe && block_types[i]->probe(head, n, "") > 0) {
            return true;
        }
    }
    return false;
}

/* ---- Common options ---- */

static int flag_opt(struct open_ctx *c, const char *key, unsigned flag, bool inverted)
{
    bool on = false;
    if (!keyval_get(&c->opts, key)) {
        return 0;
    }
    int ret = block_opt_bool(&c->opts, key, &on, c->err);
    c->flags = on != inverted ? c->flags | flag : c->flags & ~flag;
    return ret;
}

static int choice_opt(struct open_ctx *c, const char *key, const char *a, const char *b,
                      const char *also)
{
    const char *val = keyval_get(&c->opts, key);
    if (val && strcmp(val, a) && strcmp(val, b) && strcmp(val, also)) {
        return err_set(c->err, EINVAL, "%s is %s, %s or %s, not '%s'", key, a, b, also, val);
    }
    return val && !strcmp(val, b);
}

static int take_common(struct open_ctx *c)
{
    unsigned may = c->named_by_image ? c->flags : ~0u;
    int ret = flag_opt(c, "read-only", BLOCK_RDWR, true);
    c->flags &= may | ~(unsigned)BLOCK_RDWR;
    ret = ret ? ret : flag_opt(c, "force-share", BLOCK_FORCE_SHARE, false);
    ret = ret ? ret : flag_opt(c, "cache.direct", BLOCK_DIRECT, false);
    ret = ret ? ret : flag_opt(c, "cache.no-flush", BLOCK_NO_FLUSH, false);
    if (!ret && keyval_get(&c->opts, "discard")) {
        const char *val = keyval_get(&c->opts, "discard");
        int unmap = !strcmp(val, "on") ? 1 : choice_opt(c, "discard", "ignore", "unmap", "off");
        c->flags = unmap > 0 ? c->flags | BLOCK_UNMAP : c->flags & ~BLOCK_UNMAP;
        ret = unmap < 0 ? unmap : 0;
    }
    const char *zeros = keyval_get(&c->opts, "detect-zeroes");
    if (!ret && zeros) {
        int unmap = choice_opt(c, "detect-zeroes", "off", "unmap", "on");
        c->flags |= strcmp(zeros, "off") ? BLOCK_DETECT_ZERO : 0;
        c->flags |= unmap > 0 ? BLOCK_DETECT_UNMAP : 0;
        ret = unmap < 0 ? unmap : 0;
    }
    if (!ret && c->flags & BLOCK_FORCE_SHARE && c->flags & BLOCK_RDWR) {
        ret = err_set(c->err, EINVAL, "force-share=on (-U) can only be used with read-only images");
    }
    return ret;
}

static int node_set_name(struct open_ctx *c, struct block *b)
{
    const char *name = keyval_get(&c->opts, "node-name");
    if (name && block_find(c->g, name)) {
        return err_set(c->err, EEXIST, "Duplicate nodes with node-name='%s'", name);
    }
    b->node_name = name ? alloc_text(name) : alloc_printf("#block%03u", c->g->made++);
    return 0;
}

/* ---- Children ---- */

static unsigned child_flags(const struct block_type *type, unsigned flags, bool backing)
{
    unsigned keep = flags & ~(BLOCK_NO_BACKING | BLOCK_DETECT_ZERO | BLOCK_DETECT_UNMAP |
                              BLOCK_WRITETHROUGH | BLOCK_SHARE_WRITE);
    if (backing) {
        return keep & ~(BLOCK_RDWR | BLOCK_RESIZE | BLOCK_CHECK | BLOCK_EXCLUSIVE);
    }
    bool plain = type->filter || !strcmp(type->name, "raw");
    keep |= plain ? 0 : BLOCK_UNMAP | (flags & BLOCK_RDWR ? BLOCK_RESIZE : 0);
    bool shares = plain && !(flags & (BLOCK_EXCLUSIVE | BLOCK_IS_BACKING));
    return keep | (shares ? BLOCK_SHARE_WRITE : 0);
}

/* The child below `prefix`: a name of a node there is, options, or `name`. */
static struct block *open_child(struct open_ctx *c, const char *prefix, const char *name,
                                unsigned flags)
{
    const char *ref = keyval_get(&c->opts, prefix);
    if (ref && *ref) {
        struct block *b = block_find(c->g, ref);
        if (!b) {
            err_set(c->err, ENOENT, "Cannot find device='' nor node-name='%s'", ref);
            return NULL;
        }
        return block_ref(b);
    }
    struct keyval sub = {0};
    opts_part(&sub, &c->opts, prefix);
    /* Without a driver a file below is a protocol's, never looked at for a format. */
    AUTO_FREE char *own = alloc_text(keyval_get(&sub, "filename"));
    name = own ? own : name;
    if (name && !keyval_get(&sub, "driver") && strncmp(name, "json:", 5)) {
        keyval_remove(&sub, "filename");
        if (name_to_opts(name, &sub, c->err)) {
            keyval_free(&sub);
            return NULL;
        }
    } else if (name && !own && !keyval_get(&sub, "driver")) {
        keyval_add(&sub, "filename", name);
    }
    return open_sub(c, &sub, flags);
}

static int node_claim(struct open_ctx *c, struct block *b)
{
    return b->type->claim ? b->type->claim(b, c->err) : 0;
}

struct block *block_open_child(struct block *parent, const struct keyval *opts, const char *prefix,
                               const char *name, unsigned flags, struct err *err)
{
    /* Options of a node that is not written may come from an image. */
    struct open_ctx c = {parent->graph, {0}, 0, 1, !(flags & BLOCK_RDWR), err};
    opts_copy(&c.opts, opts);
    struct block *b = open_child(&c, prefix, name, flags);
    keyval_free(&c.opts);
    bool claim = b && b->type->protocol && b->refs == 1;
    if (b && (block_check_uses(b, parent, "data-file", err) || (claim && node_claim(&c, b)))) {
        block_close(b);
        return NULL;
    }
    return b;
}

/* ---- Backing files ---- */

/* In the image's own folder, unless it says where. */
char *block_resolve_name(const struct block *b, const char *name, struct err *err)
{
    const struct block *f = b;
    while (f->file && !strncmp(f->filename, "json:", 5)) {
        f = f->file;
    }
    const char *own = f->filename, *slash = strrchr(own, '/');
    if (*name == '/' || block_name_has_protocol(name)) {
        return alloc_text(name);
    }
    if (!strncmp(own, "json:", 5)) {
        err_set(err, EINVAL, "cannot tell in which folder the backing file '%s' of '%s' is", name,
                own);
        return NULL;
    }
    return slash ? alloc_printf("%.*s/%s", (int)(slash - own), own, name) : alloc_text(name);
}

char *block_backing_path(const struct block *b, struct err *err)
{
    return b->backing_name ? block_resolve_name(b, b->backing_name, err) : NULL;
}

/* In a chain the image that names what is missing says so, not also all those above it. */
static int backing_failed(struct open_ctx *c, const struct block *b)
{
    static const char text[] = "Could not open backing file";
    return !strncmp(c->err->text, text, sizeof(text) - 1)
               ? -EINVAL
               : err_prefix(c->err, -EINVAL, "%s of '%s'", text, b->filename);
}

static int open_backing(struct open_ctx *c, struct block *b)
{
    const char *ref = keyval_get(&c->opts, "backing");
    bool given = opts_has_part(&c->opts, "backing") && !(ref && !*ref);
    if (c->flags & BLOCK_NO_BACKING || (ref && !*ref) || (!given && !b->backing_name)) {
        return 0;
    }
    if (!given && c->g->refuse_backing) {
        return err_set(c->err, EPERM, "'%s' names the backing file '%s', which is not allowed here",
                       b->filename, b->backing_name);
    }
    if (c->depth > BLOCK_MAX_DEPTH) {
        return err_set(c->err, ELOOP, "the backing files of '%s' are too many, or a loop",
                       b->filename);
    }
    unsigned flags = child_flags(b->type, c->flags, true) | BLOCK_IS_BACKING;
    if (given && ref) {
        b->backing = open_child(c, "backing", NULL, flags);
        return b->backing ? 0 : -EINVAL;
    }
    struct keyval sub = {0};
    opts_part(&sub, &c->opts, "backing");
    AUTO_FREE char *path = b->backing_name ? block_resolve_name(b, b->backing_name, c->err) : NULL;
    if (!opts_has_part(&sub, "file") && !keyval_get(&sub, "filename") && path) {
        keyval_add(&sub, "filename", path);
    }
    if (!keyval_get(&sub, "driver") && b->backing_format) {
        keyval_add(&sub, "driver", b->backing_format);
    }
    bool outer = c->named_by_image;
    c->named_by_image |= path && !given;
    b->backing = open_sub(c, &sub, flags);
    c->named_by_image = outer;
    return b->backing ? 0 : backing_failed(c, b);
}

/* ---- Nodes ---- */

static void node_free(struct block *b)
{
    struct block **at = &b->graph->nodes;
    while (*at && *at != b) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = b->next;
    }
    block_close(b->backing);
    block_close(b->data);
    block_close(b->file);
    keyval_free(&b->opts);
    free(b->node_name);
    free(b->filename);
    free(b->backing_name);
    free(b->backing_format);
    free(b->requests);
    free(b->state);
    free(b);
}

static int node_open_driver(struct open_ctx *c, struct block *b)
{
    struct keyval own = {0};
    for (size_t i = 0; i < c->opts.count; i++) {
        const char *key = c->opts.pairs[i].key;
        if (!strncmp(key, "file.", 5) || !strncmp(key, "backing.", 8)) {
            continue;
        }
        keyval_add(&own, key, c->opts.pairs[i].value);
    }
    AUTO_FREE char *what = alloc_printf("the '%s' driver", b->type->name);
    b->opts = own;
    int ret = opts_check(&own, b->type->open_opts, common_opts, what, c->err);
    return ret ? ret : b->type->open(b, &b->opts, c->err);
}

static struct block *node_make(struct open_ctx *c, const struct block_type *type,
                               struct block *file, bool probed)
{
    struct block *b = alloc_zero(sizeof(*b));
    const char *name = keyval_get(&c->opts, "filename");
    b->type = type;
    b->graph = c->g;
    b->refs = 1;
    b->flags = c->flags;
    b->align = 1;
    b->file = file;
    b->probed = probed;
    b->state = alloc_zero(type->size ? type->size : 1);
    b->requests = alloc_zero(sizeof(*b->requests));
    b->filename = alloc_text(name ? name : file ? file->filename : "");
    b->next = c->g->nodes;
    c->g->nodes = b;
    int ret = node_set_name(c, b);
    ret = ret || !file ? ret : block_check_uses(file, NULL, NULL, c->err);
    ret = ret ? ret : node_open_driver(c, b);
    if (ret) { /* the driver has freed what it had */
        node_free(b);
        return NULL;
    }
    ret = type->has_backing ? open_backing(c, b) : 0;
    ret = ret || !b->backing ? ret : block_check_uses(b->backing, NULL, NULL, c->err);
    if (ret) {
        block_close(b);
        return NULL;
    }
    return b;
}

/* Protocols: the name may say more than a path. */
static struct block *open_protocol(struct open_ctx *c, const struct block_type *type)
{
    const char *name = keyval_get(&c->opts, "filename");
    if (name && type->prefixes && type_by_prefix(name) == type) {
        AUTO_FREE char *copy = alloc_text(name);
        keyval_remove(&c->opts, "filename");
        if (type->parse_name(copy, &c->opts, c->err)) {
            return NULL;
        }
    }
    return node_make(c, type, NULL, false);
}

/* True if the child could not be written and need not be. */
static bool retry_read_only(struct open_ctx *c)
{
    bool automatic = false;
    block_opt_bool(&c->opts, "auto-read-only", &automatic, c->err);
    return automatic && c->flags & BLOCK_RDWR;
}

static struct block *open_format(struct open_ctx *c, const struct block_type *type)
{
    const char *name = keyval_get(&c->opts, "filename");
    if (!name && !opts_has_part(&c->opts, "file")) {
        err_set(c->err, EINVAL, "%s%s%sneeds a file name", type ? "the format '" : "",
                type ? type->name : "an image ", type ? "' " : "");
        return NULL;
    }
    const struct block_type *as = type ? type : block_type_find("raw");
    /* Until the format is known the file is told of no use. */
    struct block *file = open_child(c, "file", name, child_flags(as, c->flags, false));
    if (!file) {
        return NULL;
    }
    const struct block_type *found = type ? type : probe_type(file, c->err);
    if (found && file->refs == 1) {
        file->flags &= ~BLOCK_SHARE_WRITE;
        file->flags |=
            child_flags(found, c->flags, false) & (BLOCK_SHARE_WRITE | BLOCK_RESIZE | BLOCK_UNMAP);
        if (node_claim(c, file)) {
            found = NULL;
        }
    }
    if (!found) {
        block_close(file);
        return NULL;
    }
    return node_make(c, found, file, !type);
}

static int take_json_name(struct open_ctx *c)
{
    const char *name = keyval_get(&c->opts, "filename");
    if (!name || strncmp(name, "json:", 5)) {
        return 0;
    }
    struct keyval more = {0};
    int ret = block_opts_from_json(&more, name + 5, c->err);
    keyval_remove(&c->opts, "filename");
    opts_copy(&c->opts, &more);
    keyval_free(&more);
    return ret;
}

/* blkdebug's published name for the node below is "image". */
static void take_image_alias(struct open_ctx *c)
{
    struct keyval part = {0};
    opts_part(&part, &c->opts, "image");
    for (size_t i = 0; i < part.count; i++) {
        AUTO_FREE char *from = alloc_printf("image.%s", part.pairs[i].key),
                       *to = alloc_printf("file.%s", part.pairs[i].key);
        keyval_remove(&c->opts, from);
        keyval_add(&c->opts, to, part.pairs[i].value);
    }
    keyval_free(&part);
    if (keyval_get(&c->opts, "image")) {
        keyval_add(&c->opts, "file", keyval_get(&c->opts, "image"));
        keyval_remove(&c->opts, "image");
    }
}

static struct block *open_by_driver(struct open_ctx *c)
{
    const char *driver = keyval_get(&c->opts, "driver");
    const struct block_type *type = driver ? block_type_find(driver) : NULL;
    if (driver && !type) {
        AUTO_FREE const char **names = block_format_names();
        size_t n = 0;
        while (names[n]) {
            n++;
        }
        err_set(c->err, EINVAL, "Unknown driver '%s'; the nearest is '%s'", driver,
                near_pick(driver, names, n));
        return NULL;
    }
    if (type && type->filter) {
        take_image_alias(c);
    }
    return type && type->protocol ? open_protocol(c, type) : open_format(c, type);
}

static struct block *open_node(struct open_ctx *c)
{
    int ret = c->depth > BLOCK_MAX_DEPTH
                  ? err_set(c->err, ELOOP, "images on images nested too deeply, or a loop")
                  : take_json_name(c);
    ret = ret ? ret : take_common(c);
    if (ret) {
        return NULL;
    }
    struct block *b = open_by_driver(c);
    if (!b && retry_read_only(c)) {
        c->flags &= ~(BLOCK_RDWR | BLOCK_RESIZE);
        opts_set(&c->opts, "read-only", "on");
        b = open_by_driver(c);
    }
    return b;
}

/* ---- Calls from outside ---- */

struct open_call {
    struct open_ctx c;
    struct block *b;
};

static void open_called(void *opaque)
{
    struct open_call *o = opaque;
    o->b = open_node(&o->c);
    if (o->b && o->b->type->protocol && node_claim(&o->c, o->b)) {
        block_close(o->b);
        o->b = NULL;
    }
}

struct block *block_open(struct block_graph *g, const struct keyval *opts, unsigned flags,
                         struct err *err)
{
    struct open_call o = {.c = {g, {0}, flags, 0, false, err}};
    opts_copy(&o.c.opts, opts);
    co_run(g->loop, open_called, &o);
    keyval_free(&o.c.opts);
    return o.b;
}

struct block *block_open_name(struct block_graph *g, const char *name, const char *format,
                              const struct keyval *more, unsigned flags, struct err *err)
{
    struct keyval opts = {0};
    keyval_add(&opts, "filename", name);
    if (format) {
        keyval_add(&opts, "driver", format);
    }
    opts_copy(&opts, more);
    struct block *b = block_open(g, &opts, flags, err);
    keyval_free(&opts);
    return b;
}

struct block *block_open_protocol(struct block_graph *g, const char *name, unsigned flags,
                                  struct err *err)
{
    struct keyval opts = {0};
    struct block *b = NULL;
    if (!name_to_opts(name, &opts, err)) {
        b = block_open(g, &opts, flags, err);
    }
    keyval_free(&opts);
    return b;
}

int block_protocol_create(struct block_graph *g, const char *name, const struct keyval *opts,
                          struct err *err)
{
    struct keyval proto = {0};
    int ret = name_to_opts(name, &proto, err);
    if (!ret) {
        const struct block_type *t = block_type_find(keyval_get(&proto, "driver"));
        const char *path = keyval_get(&proto, "filename");
        ret = t->create_file
                  ? t->create_file(g, path ? path : name, opts, err)
                  : err_set(err, ENOTSUP, "Protocol driver '%s' does not support image creation",
                            t->name);
    }
    keyval_free(&proto);
    return ret;
}

struct close_call {
    struct block *b;
    int ret;
};

static void close_called(void *opaque)
{
    struct close_call *c = opaque;
    c->ret = c->b->flags & BLOCK_RDWR ? block_flush(c->b) : 0;
    int ret = c->b->type->close ? c->b->type->close(c->b) : 0;
    c->ret = c->ret ? c->ret : ret;
    node_free(c->b);
}

static int block_drop(struct block *b)
{
    if (--b->refs) {
        return 0;
    }
    struct close_call c = {b, 0};
    co_run(b->graph->loop, close_called, &c);
    return c.ret;
}

void block_close(struct block *b)
{
    if (b) {
        block_drop(b);
    }
}

int block_sync_close(struct block *b, struct err *err)
{
    AUTO_FREE char *name = alloc_text(b->filename);
    int ret = block_drop(b);
    return ret ? err_set(err, -ret, "closing '%s': %s", name, strerror(-ret)) : 0;
}
