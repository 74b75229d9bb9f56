/* The NBD handshake, the client's side: fixed newstyle, and what old servers have instead. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/nbd/client.h"
#include "block/nbd/proto.h"
#include "block/nbd/tls.h"

enum { MAX_REPLY = 64 << 10, MAX_LISTED = 4096, MAX_CONTEXTS = 1024 };

struct reply {
    uint32_t type, len;
    uint8_t *data; /* with a NUL behind it */
};

static int gone(int ret, const struct nbd_ask *ask, struct err *err)
{
    return err_set(err, -ret, "the NBD server '%s' ended the connection: %s", ask->where,
                   strerror(-ret));
}

static int send_option(struct channel *ch, uint32_t opt, const void *data, uint32_t len)
{
    uint8_t head[16];
    store_be64(head, NBD_OPT_MAGIC);
    store_be32(head + 8, opt);
    store_be32(head + 12, len);
    struct iovec v;
    struct iovs q = iovs_buf(&v, (void *)data, len);
    return channel_writev(ch, head, sizeof(head), len ? &q : NULL);
}

/* data must be freed. */
static int read_reply(struct channel *ch, uint32_t opt, struct reply *r, const struct nbd_ask *ask,
                      struct err *err)
{
    uint8_t head[20];
    int ret = channel_read(ch, head, sizeof(head));
    *r = (struct reply){0};
    if (ret) {
        return gone(ret, ask, err);
    }
    r->type = load_be32(head + 12);
    r->len = load_be32(head + 16);
    if (load_be64(head) != NBD_REP_MAGIC || load_be32(head + 8) != opt || r->len > MAX_REPLY) {
        return err_set(err, EPROTO, "the NBD server '%s' answers nonsense", ask->where);
    }
    r->data = alloc_zero(r->len + 1);
    ret = channel_read(ch, r->data, r->len);
    if (ret) {
        free(r->data);
        r->data = NULL;
        return gone(ret, ask, err);
    }
    return 0;
}

static const char *refusal(uint32_t type)
{
    switch (type) {
    case NBD_REP_ERR_UNSUP: return "it does not know that";
    case NBD_REP_ERR_POLICY: return "it is not allowed";
    case NBD_REP_ERR_INVALID: return "it calls that invalid";
    case NBD_REP_ERR_TLS_REQD: return "it wants TLS (tls-creds)";
    case NBD_REP_ERR_UNKNOWN: return "it has no such export";
    default: return "it refuses";
    }
}

/* ---- Options without much of an answer ---- */

/* 1: yes, 0: no, -errno. */
static int ask_simple(struct channel *ch, uint32_t opt, const struct nbd_ask *ask, struct err *err)
{
    struct reply r;
    int ret = send_option(ch, opt, NULL, 0);
    ret = ret ? gone(ret, ask, err) : read_reply(ch, opt, &r, ask, err);
    if (ret) {
        return ret;
    }
    free(r.data);
    return r.type == NBD_REP_ACK;
}

static int start_tls(struct channel *ch, const struct nbd_ask *ask, struct err *err)
{
    int ret = ask_simple(ch, NBD_OPT_STARTTLS, ask, err);
    if (ret <= 0) {
        return ret ? ret : err_set(err, EPROTO, "the NBD server '%s' has no TLS", ask->where);
    }
    return tls_start_client(ch, ask->graph, ask->tls_creds, ask->tls_host, err);
}

/* ---- Meta contexts ---- */

static int set_meta(struct channel *ch, const struct nbd_ask *ask, struct nbd_export_info *info,
                    struct err *err)
{
    AUTO_FREE char *bitmap = !ask->bitmap ? NULL
                             : strchr(ask->bitmap, ':')
                                 ? alloc_text(ask->bitmap)
                                 : alloc_printf(NBD_META_BITMAP "%s", ask->bitmap);
    const char *query = bitmap ? bitmap : NBD_META_ALLOCATION;
    uint32_t n = (uint32_t)strlen(ask->export_name), m = (uint32_t)strlen(query);
    AUTO_FREE uint8_t *data = alloc_zero(12 + n + m);
    store_be32(data, n);
    memcpy(data + 4, ask->export_name, n);
    store_be32(data + 4 + n, 1);
    store_be32(data + 8 + n, m);
    memcpy(data + 12 + n, query, m);
    int ret = send_option(ch, NBD_OPT_SET_META, data, 12 + n + m);
    if (ret) {
        return gone(ret, ask, err);
    }
    for (unsigned i = 0; i < 16; i++) {
        struct reply r;
        ret = read_reply(ch, NBD_OPT_SET_META, &r, ask, err);
        if (!ret && r.type == NBD_REP_META && r.len == 4 + m && !memcmp(r.data + 4, query, m)) {
            info->status_id = load_be32(r.data);
            info->has_status = true;
        }
        free(r.data);
        if (ret || r.type != NBD_REP_META) {
            return ret;
        }
    }
    return err_set(err, EPROTO, "the NBD server '%s' does not stop answering", ask->where);
}

/* ---- Choosing the export ---- */

static int take_info(const struct reply *r, struct nbd_export_info *info)
{
    uint16_t kind = r->len >= 2 ? load_be16(r->data) : UINT16_MAX;
    if (kind == NBD_INFO_EXPORT && r->len == 12) {
        info->size = load_be64(r->data + 2);
        info->flags = load_be16(r->data + 10);
    } else if (kind == NBD_INFO_BLOCK_SIZE && r->len == 14) {
        info->min_block = load_be32(r->data + 2);
        info->opt_block = load_be32(r->data + 6);
        info->max_block = load_be32(r->data + 10);
    } else if (kind == NBD_INFO_EXPORT || kind == NBD_INFO_BLOCK_SIZE) {
        return -EPROTO;
    }
    return 0;
}

/* 1: chosen, 0: the server is too old for it. */
static int go(struct channel *ch, uint32_t opt, const struct nbd_ask *ask,
              struct nbd_export_info *info, struct err *err)
{
    uint32_t n = (uint32_t)strlen(ask->export_name);
    AUTO_FREE uint8_t *data = alloc_zero(8 + n);
    store_be32(data, n);
    memcpy(data + 4, ask->export_name, n);
    store_be16(data + 4 + n, 1);
    store_be16(data + 6 + n, NBD_INFO_BLOCK_SIZE);
    int ret = send_option(ch, opt, data, 8 + n);
    if (ret) {
        return gone(ret, ask, err);
    }
    for (unsigned i = 0; i < 64; i++) {
        struct reply r;
        ret = read_reply(ch, opt, &r, ask, err);
        AUTO_FREE uint8_t *text = r.data;
        if (ret || r.type == NBD_REP_ACK) {
            return ret ? ret : 1;
        }
        if (r.type == NBD_REP_INFO) {
            if (take_info(&r, info)) {
                return err_set(err, EPROTO, "the NBD server '%s' answers nonsense", ask->where);
            }
            continue;
        }
        if (r.type == NBD_REP_ERR_UNSUP) {
            return 0;
        }
        return err_set(err, r.type == NBD_REP_ERR_UNKNOWN ? ENOENT : EPROTO,
                       "the NBD server '%s' does not give the export '%s': %s%s%s", ask->where,
                       ask->export_name, refusal(r.type), r.len ? ": " : "", (char *)text);
    }
    return err_set(err, EPROTO, "the NBD server '%s' does not stop answering", ask->where);
}

static int export_name(struct channel *ch, bool no_zeroes, const struct nbd_ask *ask,
                       struct nbd_export_info *info, struct err *err)
{
    uint8_t answer[134];
    int ret =
        send_option(ch, NBD_OPT_EXPORT_NAME, ask->export_name, (uint32_t)strlen(ask->export_name));
    ret = ret ? ret : channel_read(ch, answer, no_zeroes ? 10 : 134);
    if (ret) {
        return err_set(err, -ret, "the NBD server '%s' has no export '%s'", ask->where,
                       ask->export_name);
    }
    info->size = load_be64(answer);
    info->flags = load_be16(answer + 8);
    return 0;
}

/* ---- The beginning ---- */

static int hello_old(struct channel *ch, const struct nbd_ask *ask, struct nbd_export_info *info,
                     struct err *err)
{
    uint8_t rest[8 + 4 + 124];
    int ret = channel_read(ch, rest, sizeof(rest));
    if (!ret && ask->tls_creds) {
        return err_set(err, EPROTO, "the NBD server '%s' has no TLS", ask->where);
    }
    if (ret) {
        return gone(ret, ask, err);
    }
    info->size = load_be64(rest);
    info->flags = load_be16(rest + 10);
    return 0;
}

/* 1: go on with options; 0: an old server, all is said. */
static int hello(struct channel *ch, const struct nbd_ask *ask, struct nbd_export_info *info,
                 bool *no_zeroes, struct err *err)
{
    uint8_t head[16], flags[2], mine[4];
    int ret = channel_read(ch, head, sizeof(head));
    if (ret || load_be64(head) != NBD_MAGIC) {
        return ret ? gone(ret, ask, err)
                   : err_set(err, EPROTO, "'%s' is no NBD server", ask->where);
    }
    if (load_be64(head + 8) == NBD_OLD_MAGIC) {
        return hello_old(ch, ask, info, err);
    }
    ret = load_be64(head + 8) == NBD_OPT_MAGIC ? channel_read(ch, flags, 2) : -EPROTO;
    if (ret) {
        return gone(ret, ask, err);
    }
    *no_zeroes = load_be16(flags) & NBD_FLAG_NO_ZEROES;
    store_be32(mine, load_be16(flags) & (NBD_FLAG_FIXED | NBD_FLAG_NO_ZEROES));
    ret = channel_write(ch, mine, 4);
    ret = ret ? gone(ret, ask, err) : 1;
    if (ret == 1 && !(load_be16(flags) & NBD_FLAG_FIXED)) {
        ret = export_name(ch, *no_zeroes, ask, info, err);
    }
    return ret;
}

static int check_info(const struct nbd_ask *ask, const struct nbd_export_info *info,
                      struct err *err)
{
    uint32_t min = info->min_block ? info->min_block : 1;
    if (info->size > BLOCK_MAX_SIZE || min & (min - 1) || min > 65536 || info->size % min ||
        (info->max_block && info->max_block < min)) {
        return err_set(err, EPROTO, "the NBD server '%s' gives impossible sizes", ask->where);
    }
    return 0;
}

int nbd_negotiate(struct channel *ch, const struct nbd_ask *ask, struct nbd_export_info *info,
                  struct err *err)
{
    bool no_zeroes = false;
    *info = (struct nbd_export_info){.min_block = 1};
    if (strlen(ask->export_name) > NBD_MAX_NAME) {
        return err_set(err, ENAMETOOLONG, "the export's name is longer than %u bytes",
                       NBD_MAX_NAME);
    }
    int ret = hello(ch, ask, info, &no_zeroes, err);
    if (ret <= 0) {
        return ret ? ret : check_info(ask, info, err);
    }
    ret = ask->tls_creds ? start_tls(ch, ask, err) : 0;
    ret = ret ? ret : ask_simple(ch, NBD_OPT_STRUCTURED, ask, err);
    if (ret < 0) {
        return ret;
    }
    info->structured = ret;
    ret = info->structured ? set_meta(ch, ask, info, err) : 0;
    ret = ret ? ret : go(ch, NBD_OPT_GO, ask, info, err);
    ret = ret ? ret : export_name(ch, no_zeroes, ask, info, err);
    return ret < 0 ? ret : check_info(ask, info, err);
}

/* ---- Lists ---- */

void nbd_listed_free(struct nbd_listed *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < list[i].context_count; k++) {
            free(list[i].contexts[k]);
        }
        free(list[i].contexts);
        free(list[i].name);
        free(list[i].description);
    }
    free(list);
}

static int list_names(struct channel *ch, const struct nbd_ask *ask, struct nbd_listed **list,
                      unsigned *count, struct err *err)
{
    int ret = send_option(ch, NBD_OPT_LIST, NULL, 0);
    ret = ret ? gone(ret, ask, err) : 0;
    for (unsigned i = 0; !ret && i < MAX_LISTED; i++) {
        struct reply r;
        ret = read_reply(ch, NBD_OPT_LIST, &r, ask, err);
        AUTO_FREE uint8_t *data = r.data;
        if (ret || r.type == NBD_REP_ACK) {
            return ret;
        }
        uint32_t n = r.len >= 4 ? load_be32(data) : UINT32_MAX;
        if (r.type != NBD_REP_SERVER || n > r.len - 4 || n > NBD_MAX_NAME) {
            return err_set(err, EPROTO, "the NBD server '%s' does not list exports: %s", ask->where,
                           refusal(r.type));
        }
        *list = alloc_resize(*list, *count + 1, sizeof(**list));
        struct nbd_listed *l = &(*list)[(*count)++];
        *l = (struct nbd_listed){.name = alloc_printf("%.*s", (int)n, (char *)data + 4),
                                 .description = alloc_text((char *)data + 4 + n)};
    }
    return ret ? ret : err_set(err, EPROTO, "the NBD server '%s' has too many exports", ask->where);
}

/* A server that does not answer this has none. */
static int list_contexts(struct channel *ch, const struct nbd_ask *ask, struct nbd_listed *l,
                         struct err *err)
{
    uint32_t n = (uint32_t)strlen(l->name);
    AUTO_FREE uint8_t *data = alloc_zero(8 + n);
    store_be32(data, n);
    memcpy(data + 4, l->name, n);
    int ret = send_option(ch, NBD_OPT_LIST_META, data, 8 + n);
    ret = ret ? gone(ret, ask, err) : 0;
    for (unsigned i = 0; !ret && i < MAX_CONTEXTS; i++) {
        struct reply r;
        ret = read_reply(ch, NBD_OPT_LIST_META, &r, ask, err);
        AUTO_FREE uint8_t *text = r.data;
        if (ret || r.type != NBD_REP_META || r.len < 4) {
            return ret;
        }
        l->contexts = alloc_resize(l->contexts, l->context_count + 1, sizeof(*l->contexts));
        l->contexts[l->context_count++] = alloc_text((char *)text + 4);
    }
    return ret;
}

static int list_details(struct channel *ch, const struct nbd_ask *ask, struct nbd_listed *list,
                        unsigned count, struct err *err)
{
    int structured = ask_simple(ch, NBD_OPT_STRUCTURED, ask, err), ret = 0;
    for (unsigned i = 0; structured >= 0 && !ret && i < count; i++) {
        struct nbd_ask one = *ask;
        one.export_name = list[i].name;
        ret = go(ch, NBD_OPT_INFO, &one, &list[i].info, err);
        list[i].has_info = ret > 0;
        ret = ret < 0 ? ret : structured ? list_contexts(ch, ask, &list[i], err) : 0;
    }
    return structured < 0 ? structured : ret;
}

int nbd_list_exports(struct channel *ch, const struct nbd_ask *ask, struct nbd_listed **list,
                     unsigned *count, struct err *err)
{
    bool no_zeroes;
    struct nbd_export_info info = {0};
    *list = NULL;
    *count = 0;
    int ret = hello(ch, ask, &info, &no_zeroes, err);
    if (ret <= 0) {
        return ret ? ret : err_set(err, EPROTO, "'%s' is too old to list exports", ask->where);
    }
    ret = ask->tls_creds ? start_tls(ch, ask, err) : 0;
    ret = ret ? ret : list_names(ch, ask, list, count, err);
    return ret ? ret : list_details(ch, ask, *list, *count, err);
}
