/* The NBD handshake, the server's side: fixed newstyle only. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "block/nbd/proto.h"
#include "block/nbd/server_internal.h"
#include "block/nbd/tls.h"

enum { MAX_OPTIONS = 1000 };

struct option {
    uint32_t opt, len;
    uint8_t *data;
};

static int reply(struct nbd_server_client *c, const struct option *o, uint32_t type,
                 const void *data, uint32_t len)
{
    uint8_t head[20];
    struct iovec v;
    struct iovs q = iovs_buf(&v, (void *)data, len);
    store_be64(head, NBD_REP_MAGIC);
    store_be32(head + 8, o->opt);
    store_be32(head + 12, type);
    store_be32(head + 16, len);
    return channel_writev(&c->ch, head, sizeof(head), len ? &q : NULL);
}

static int refuse(struct nbd_server_client *c, const struct option *o, uint32_t type,
                  const char *why)
{
    return reply(c, o, type, why, (uint32_t)strlen(why));
}

/* A name with its length before it, at *at; NULL: it does not fit. */
static char *take_name(const struct option *o, uint32_t *at)
{
    if (o->len - *at < 4) {
        return NULL;
    }
    uint32_t n = load_be32(o->data + *at);
    *at += 4;
    if (n > NBD_MAX_NAME || n > o->len - *at || memchr(o->data + *at, 0, n)) {
        return NULL;
    }
    char *name = alloc_zero(n + 1);
    memcpy(name, o->data + *at, n);
    *at += n;
    return name;
}

/* ---- Exports ---- */

static int answer_list(struct nbd_server_client *c, const struct option *o)
{
    if (o->len) {
        return refuse(c, o, NBD_REP_ERR_INVALID, "a list takes no data");
    }
    int ret = 0;
    for (struct nbd_export *e = c->s->exports; !ret && e; e = e->next) {
        struct strbuf sb = {0};
        uint8_t n[4];
        store_be32(n, (uint32_t)strlen(e->name));
        strbuf_add_bytes(&sb, n, 4);
        strbuf_add(&sb, "%s%s", e->name, e->description ? e->description : "");
        ret = reply(c, o, NBD_REP_SERVER, sb.text, (uint32_t)sb.len);
        strbuf_free(&sb);
    }
    return ret ? ret : reply(c, o, NBD_REP_ACK, NULL, 0);
}

static uint16_t export_flags(const struct nbd_server_client *c, const struct nbd_export *e)
{
    return c->structured ? e->flags : e->flags & ~NBD_SEND_DF;
}

static int send_text_info(struct nbd_server_client *c, const struct option *o, uint16_t kind,
                          const char *text)
{
    struct strbuf sb = {0};
    uint8_t k[2];
    store_be16(k, kind);
    strbuf_add_bytes(&sb, k, 2);
    strbuf_add(&sb, "%s", text);
    int ret = reply(c, o, NBD_REP_INFO, sb.text, (uint32_t)sb.len);
    strbuf_free(&sb);
    return ret;
}

static int send_infos(struct nbd_server_client *c, const struct option *o, struct nbd_export *e,
                      const uint8_t *asked, uint16_t count)
{
    uint8_t d[14];
    int ret = 0;
    for (uint16_t i = 0; !ret && i < count; i++) {
        uint16_t kind = load_be16(asked + 2 * i);
        if (kind == NBD_INFO_NAME) {
            ret = send_text_info(c, o, kind, e->name);
        } else if (kind == NBD_INFO_DESCRIPTION && e->description) {
            ret = send_text_info(c, o, kind, e->description);
        }
    }
    store_be16(d, NBD_INFO_BLOCK_SIZE);
    store_be32(d + 2, 1);
    store_be32(d + 6, block_granule(e->b) > 4096 ? block_granule(e->b) : 4096);
    store_be32(d + 10, NBD_MAX_PAYLOAD);
    ret = ret ? ret : reply(c, o, NBD_REP_INFO, d, 14);
    store_be16(d, NBD_INFO_EXPORT);
    store_be64(d + 2, block_size(e->b));
    store_be16(d + 10, export_flags(c, e));
    return ret ? ret : reply(c, o, NBD_REP_INFO, d, 12);
}

static void choose(struct nbd_server_client *c, struct nbd_export *e)
{
    c->export = e;
    c->selected = c->selected_of == e ? c->selected : 0;
}

static int answer_go(struct nbd_server_client *c, const struct option *o)
{
    uint32_t at = 0;
    AUTO_FREE char *name = take_name(o, &at);
    uint16_t count = name && o->len - at >= 2 ? load_be16(o->data + at) : 0;
    if (!name || o->len - at != 2 + 2u * count) {
        return refuse(c, o, NBD_REP_ERR_INVALID, "the option's lengths do not fit");
    }
    struct nbd_export *e = nbd_server_find(c->s, name);
    if (!e) {
        return refuse(c, o, NBD_REP_ERR_UNKNOWN, "export not found");
    }
    int ret = send_infos(c, o, e, o->data + at + 2, count);
    ret = ret ? ret : reply(c, o, NBD_REP_ACK, NULL, 0);
    if (!ret && o->opt == NBD_OPT_GO) {
        choose(c, e);
    }
    return ret;
}

/* No way to refuse but to hang up. */
static int answer_export_name(struct nbd_server_client *c, const struct option *o)
{
    uint8_t d[134] = {0};
    AUTO_FREE char *name = alloc_zero(o->len + 1);
    memcpy(name, o->data, o->len);
    struct nbd_export *e = o->len <= NBD_MAX_NAME ? nbd_server_find(c->s, name) : NULL;
    if (!e) {
        return -ENOENT;
    }
    store_be64(d, block_size(e->b));
    store_be16(d + 8, export_flags(c, e));
    choose(c, e);
    return channel_write(&c->ch, d, c->no_zeroes ? 10 : 134);
}

/* ---- Meta contexts ---- */

static bool context_matches(const struct nbd_context *x, const char *query, bool list)
{
    size_t n = strlen(query);
    if (!strcmp(x->name, query)) {
        return true;
    }
    return list && (!n || (query[n - 1] == ':' && !strncmp(x->name, query, n)));
}

static int answer_meta(struct nbd_server_client *c, const struct option *o)
{
    bool list = o->opt == NBD_OPT_LIST_META;
    uint32_t at = 0, found = 0;
    AUTO_FREE char *name = take_name(o, &at);
    if (!c->structured || !name || o->len - at < 4) {
        return refuse(c, o, NBD_REP_ERR_INVALID,
                      c->structured ? "the option's lengths do not fit"
                                    : "ask for structured replies first");
    }
    uint32_t queries = load_be32(o->data + at);
    at += 4;
    struct nbd_export *e = nbd_server_find(c->s, name);
    if (!e) {
        return refuse(c, o, NBD_REP_ERR_UNKNOWN, "export not found");
    }
    found = list && !queries ? UINT32_MAX : 0;
    for (uint32_t i = 0; i < queries; i++) {
        AUTO_FREE char *query = take_name(o, &at); /* bounds the loop: 4 bytes each */
        if (!query) {
            return refuse(c, o, NBD_REP_ERR_INVALID, "a query's length does not fit");
        }
        for (unsigned k = 0; k < e->contexts; k++) {
            found |= context_matches(&e->context[k], query, list) ? 1u << k : 0;
        }
    }
    int ret = 0;
    for (unsigned k = 0; !ret && k < e->contexts; k++) {
        struct strbuf sb = {0};
        uint8_t id[4];
        if (found >> k & 1) {
            store_be32(id, list ? 0 : k + 1);
            strbuf_add_bytes(&sb, id, 4);
            strbuf_add(&sb, "%s", e->context[k].name);
            ret = reply(c, o, NBD_REP_META, sb.text, (uint32_t)sb.len);
        }
        strbuf_free(&sb);
    }
    c->selected = list ? c->selected : found;
    c->selected_of = list ? c->selected_of : e;
    return ret ? ret : reply(c, o, NBD_REP_ACK, NULL, 0);
}

/* ---- Options ---- */

static int answer_tls(struct nbd_server_client *c, const struct option *o)
{
    struct err err;
    if (!c->s->tls_creds || c->tls || o->len) {
        return refuse(c, o, c->s->tls_creds ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY,
                      c->s->tls_creds ? "not here" : "TLS not configured");
    }
    int ret = reply(c, o, NBD_REP_ACK, NULL, 0);
    ret = ret ? ret : tls_start_server(&c->ch, c->s->graph, c->s->tls_creds, &err);
    c->tls = !ret;
    c->structured = false; /* all that was said in the open is forgotten */
    c->selected = 0;
    return ret;
}

static int answer_structured(struct nbd_server_client *c, const struct option *o)
{
    if (o->len || c->structured) {
        return refuse(c, o, NBD_REP_ERR_INVALID, "once, and without data");
    }
    c->structured = true;
    return reply(c, o, NBD_REP_ACK, NULL, 0);
}

static int answer(struct nbd_server_client *c, const struct option *o)
{
    if (c->s->tls_creds && !c->tls && o->opt != NBD_OPT_STARTTLS && o->opt != NBD_OPT_ABORT) {
        return o->opt == NBD_OPT_EXPORT_NAME
                   ? -EPERM
                   : refuse(c, o, NBD_REP_ERR_TLS_REQD, "this server wants TLS");
    }
    switch (o->opt) {
    case NBD_OPT_EXPORT_NAME: return answer_export_name(c, o);
    case NBD_OPT_ABORT: reply(c, o, NBD_REP_ACK, NULL, 0); return -ESHUTDOWN;
    case NBD_OPT_LIST: return answer_list(c, o);
    case NBD_OPT_STARTTLS: return answer_tls(c, o);
    case NBD_OPT_INFO:
    case NBD_OPT_GO: return answer_go(c, o);
    case NBD_OPT_STRUCTURED: return answer_structured(c, o);
    case NBD_OPT_LIST_META:
    case NBD_OPT_SET_META: return answer_meta(c, o);
    default: return refuse(c, o, NBD_REP_ERR_UNSUP, "unknown option");
    }
}

static int take_option(struct nbd_server_client *c)
{
    uint8_t head[16];
    int ret = channel_read(&c->ch, head, sizeof(head));
    struct option o = {load_be32(head + 8), load_be32(head + 12), NULL};
    if (ret || load_be64(head) != NBD_OPT_MAGIC || o.len > NBD_MAX_PAYLOAD) {
        return ret ? ret : -EPROTO;
    }
    if (o.len > NBD_MAX_OPTION) {
        ret = channel_skip(&c->ch, o.len);
        return ret ? ret : refuse(c, &o, NBD_REP_ERR_TOO_BIG, "the option is too long");
    }
    AUTO_FREE uint8_t *data = alloc_zero(o.len + 1);
    o.data = data;
    ret = channel_read(&c->ch, data, o.len);
    return ret ? ret : answer(c, &o);
}

int nbd_server_negotiate(struct nbd_server_client *c)
{
    uint8_t hello[18], flags[4];
    store_be64(hello, NBD_MAGIC);
    store_be64(hello + 8, NBD_OPT_MAGIC);
    store_be16(hello + 16, NBD_FLAG_FIXED | NBD_FLAG_NO_ZEROES);
    int ret = channel_write(&c->ch, hello, sizeof(hello));
    ret = ret ? ret : channel_read(&c->ch, flags, 4);
    if (ret) {
        return ret;
    }
    uint32_t f = load_be32(flags);
    c->no_zeroes = f & NBD_FLAG_NO_ZEROES;
    if (f & ~(uint32_t)(NBD_FLAG_FIXED | NBD_FLAG_NO_ZEROES)) {
        return -EPROTO;
    }
    for (unsigned i = 0; !ret && !c->export && i < MAX_OPTIONS; i++) {
        ret = take_option(c);
    }
    return ret ? ret : c->export ? 0 : -EPROTO;
}
