/* Graphs of nodes: names, references, secrets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/aio.h"
#include "block/core.h"
#include "block/opts.h"

struct block_graph *block_graph_new(struct loop *loop)
{
    struct block_graph *g = alloc_zero(sizeof(*g));
    g->loop = loop;
    g->aio = aio_new(loop);
    return g;
}

void block_graph_free(struct block_graph *g)
{
    while (g->secrets) {
        struct block_secret *s = g->secrets;
        g->secrets = s->next;
        explicit_bzero(s->bytes, s->len);
        free(s->bytes);
        free(s->id);
        free(s);
    }
    while (g->objects) {
        struct block_object *o = g->objects;
        g->objects = o->next;
        keyval_free(&o->opts);
        if (o->state) {
            o->free(o->state);
        }
        free(o);
    }
    aio_free(g->aio);
    free(g);
}

struct loop *block_graph_loop(const struct block_graph *g)
{
    return g->loop;
}

void block_graph_refuse_backing(struct block_graph *g)
{
    g->refuse_backing = true;
}

const char *block_node_name(const struct block *b)
{
    return b->node_name;
}

bool block_can_compress(const struct block *b)
{
    return b->write_flags & BLOCK_COMPRESSED;
}

bool block_has_parents(const struct block *b)
{
    return b->refs > 1;
}

struct block *block_find(struct block_graph *g, const char *node_name)
{
    struct block *b = g->nodes;
    while (b && (!b->node_name || strcmp(b->node_name, node_name))) {
        b = b->next;
    }
    return b;
}

struct block_graph *block_graph_of(const struct block *b)
{
    return b->graph;
}

struct block *block_ref(struct block *b)
{
    b->refs++;
    return b;
}

/* ---- Secrets ---- */

enum { MAX_SECRET = 64 << 10 };

static int secret_read_file(const char *path, uint8_t **bytes, size_t *len, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *buf = alloc_zero(MAX_SECRET + 1);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, MAX_SECRET + 1);
    if (n < 0 || n > MAX_SECRET) {
        free(buf);
        return err_set(err, n < 0 ? errno : EFBIG, "cannot read the secret in '%s': %s", path,
                       strerror(n < 0 ? errno : EFBIG));
    }
    *bytes = buf;
    *len = (size_t)n;
    return 0;
}

static int base64_digit(uint8_t c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* RFC 4648 section 4, in place; white space is skipped. */
static int secret_from_base64(struct block_secret *s, struct err *err)
{
    uint32_t word = 0;
    unsigned bits = 0;
    size_t out = 0, i = 0;
    for (; i < s->len && s->bytes[i] != '='; i++) {
        int digit = base64_digit(s->bytes[i]);
        if (digit < 0 && strchr(" \r\n\t", s->bytes[i])) {
            continue;
        }
        if (digit < 0) {
            return err_set(err, EINVAL, "secret '%s': its data is no base64", s->id);
        }
        word = word << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            s->bytes[out++] = (uint8_t)(word >> bits);
        }
    }
    s->len = out;
    return 0;
}

static int secret_bytes(struct block_secret *s, const struct keyval *opts, struct err *err)
{
    const char *data = keyval_get(opts, "data"), *file = keyval_get(opts, "file"),
               *format = keyval_get(opts, "format");
    if (!data == !file) {
        return err_set(err, EINVAL, "secret '%s': give either 'data' or 'file'", s->id);
    }
    if (keyval_get(opts, "keyid")) {
        return err_set(err, ENOTSUP, "secret '%s': encrypted secrets (keyid) are not supported",
                       s->id);
    }
    int ret = 0;
    if (file) {
        ret = secret_read_file(file, &s->bytes, &s->len, err);
    } else {
        s->len = strlen(data);
        s->bytes = alloc_zero(s->len + 1);
        memcpy(s->bytes, data, s->len);
    }
    if (!ret && format && !strcmp(format, "base64")) {
        ret = secret_from_base64(s, err);
    } else if (!ret && format && strcmp(format, "raw")) {
        ret = err_set(err, EINVAL, "secret '%s': format is raw or base64, not '%s'", s->id, format);
    }
    return ret;
}

static int block_add_secret(struct block_graph *g, const struct keyval *opts, struct err *err)
{
    const char *id = keyval_get(opts, "id");
    if (!id) {
        return err_set(err, EINVAL, "a secret needs an id");
    }
    struct block_secret *s = alloc_zero(sizeof(*s));
    s->id = alloc_text(id);
    int ret = secret_bytes(s, opts, err);
    if (ret) {
        free(s->bytes);
        free(s->id);
        free(s);
        return ret;
    }
    s->next = g->secrets;
    g->secrets = s;
    return 0;
}

int block_add_object(struct block_graph *g, const struct keyval *opts, struct err *err)
{
    const char *type = keyval_get(opts, "qom-type"), *id = keyval_get(opts, "id");
    type = type ? type : "";
    if (!strcmp(type, "secret")) {
        return block_add_secret(g, opts, err);
    }
    if ((strncmp(type, "tls-creds-", 10) && strcmp(type, "throttle-group")) || !id) {
        return err_set(err, EINVAL,
                       id ? "there are no objects '%s': secret, throttle-group, tls-creds-x509, "
                            "-psk, -anon"
                          : "an object '%s' needs an id",
                       type);
    }
    struct block_object *o = alloc_zero(sizeof(*o));
    opts_copy(&o->opts, opts);
    o->next = g->objects;
    g->objects = o;
    return 0;
}

static struct block_object *object_find(struct block_graph *g, const char *id)
{
    struct block_object *o = g->objects;
    while (o && strcmp(keyval_get(&o->opts, "id"), id)) {
        o = o->next;
    }
    return o;
}

bool block_has_object(struct block_graph *g, const char *id)
{
    return object_find(g, id);
}

const struct keyval *block_find_object(struct block_graph *g, const char *id)
{
    struct block_object *o = object_find(g, id);
    return o ? &o->opts : NULL;
}

void *block_object_state(struct block_graph *g, const char *type, const char *id)
{
    struct block_object *o = object_find(g, id);
    return o && !strcmp(keyval_get(&o->opts, "qom-type"), type) ? o->state : NULL;
}

void block_object_set_state(struct block_graph *g, const char *id, void *state,
                            void (*free_fn)(void *))
{
    struct block_object *o = object_find(g, id);
    o->state = state;
    o->free = free_fn;
}

int block_get_secret(struct block_graph *g, const char *id, uint8_t **bytes, size_t *len,
                     struct err *err)
{
    for (struct block_secret *s = g->secrets; s; s = s->next) {
        if (!strcmp(s->id, id)) {
            *bytes = alloc_zero(s->len + 1);
            memcpy(*bytes, s->bytes, s->len);
            *len = s->len;
            return 0;
        }
    }
    return err_set(err, ENOENT, "No secret with id '%s' (add --object secret,id=%s,file=...)", id,
                   id);
}
