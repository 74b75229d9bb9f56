/* Names of NBD exports. "NBD URI specification" (doc/uri.md of the protocol's project). */
#include "block/nbd/names.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "block/nbd/proto.h"

/* ---- Errors on the wire ---- */

int nbd_error_from_wire(uint32_t e)
{
    switch (e) {
    case EPERM:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case ENOTSUP:
    case ESHUTDOWN: return -(int)e;
    default: return -EINVAL; /* as the protocol says */
    }
}

uint32_t nbd_error_to_wire(int err)
{
    err = err < 0 ? -err : err;
    switch (err) {
    case EPERM:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case ENOTSUP:
    case ESHUTDOWN: return (uint32_t)err;
    case EROFS:
    case EACCES: return EPERM;
    case EFBIG:
    case EDQUOT: return ENOSPC;
    default: return EIO;
    }
}

/* ---- URIs ---- */

static char *percent_decode(const char *text, size_t len)
{
    char *out = alloc_zero(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char hex[3] = {0};
        if (text[i] == '%' && i + 2 < len && isxdigit((unsigned char)text[i + 1]) &&
            isxdigit((unsigned char)text[i + 2])) {
            memcpy(hex, text + i + 1, 2);
            out[n++] = (char)strtoul(hex, NULL, 16);
            i += 2;
        } else {
            out[n++] = text[i];
        }
    }
    return out;
}

static void percent_encode(struct strbuf *sb, const char *text)
{
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~/", *text)) {
            strbuf_add(sb, "%c", *text);
        } else {
            strbuf_add(sb, "%%%02X", (unsigned char)*text);
        }
    }
}

static void add_decoded(struct keyval *opts, const char *key, const char *text, size_t len)
{
    AUTO_FREE char *val = percent_decode(text, len);
    keyval_add(opts, key, val);
}

/* host, host:port, [v6]:port */
static int parse_host(const char *host, size_t len, struct keyval *opts, const char *name,
                      struct err *err)
{
    size_t n = len && *host == '[' ? 0 : strcspn(host, ":/?");
    if (len && *host == '[') {
        const char *close = memchr(host, ']', len);
        if (!close) {
            return err_set(err, EINVAL, "'%s': an address in brackets does not end", name);
        }
        n = (size_t)(close - host) + 1;
        add_decoded(opts, "server.host", host + 1, n - 2);
    } else {
        n = n < len ? n : len;
        add_decoded(opts, "server.host", n ? host : "localhost", n ? n : 9);
    }
    if (n < len && host[n] == ':' && n + 1 < len) {
        add_decoded(opts, "server.port", host + n + 1, len - n - 1);
    } else {
        keyval_add(opts, "server.port", NBD_DEFAULT_PORT);
    }
    keyval_add(opts, "server.type", "inet");
    return 0;
}

static int parse_uri(const char *name, struct keyval *opts, struct err *err)
{
    const char *host = strstr(name, "://") + 3;
    bool unix_socket = strstr(name, "+unix:") && strstr(name, "+unix:") < host;
    size_t host_len = strcspn(host, "/?");
    const char *path = host + host_len, *query = strchr(path, '?');
    size_t path_len = query ? (size_t)(query - path) : strlen(path);
    path += path_len ? 1 : 0;
    path_len -= path_len ? 1 : 0;
    if (path_len) {
        add_decoded(opts, "export", path, path_len);
    }
    if (!strncmp(name, "nbds", 4)) {
        return err_set(err, ENOTSUP,
                       "'%s': nbds:// needs credentials: give driver=nbd and tls-creds", name);
    }
    if (!unix_socket) {
        return parse_host(host, host_len, opts, name, err);
    }
    const char *sock = query ? strstr(query, "socket=") : NULL;
    if (!sock || host_len) {
        return err_set(err, EINVAL, "'%s': write it as nbd+unix:///EXPORT?socket=PATH", name);
    }
    add_decoded(opts, "server.path", sock + 7, strcspn(sock + 7, "&"));
    keyval_add(opts, "server.type", "unix");
    return 0;
}

/* nbd:unix:PATH[:exportname=NAME], nbd:HOST:PORT[:exportname=NAME] */
static int parse_old(const char *name, struct keyval *opts, struct err *err)
{
    static const char mark[] = ":exportname=";
    const char *rest = name + 4, *mark_at = strstr(rest, mark);
    size_t len = mark_at ? (size_t)(mark_at - rest) : strlen(rest);
    if (mark_at) {
        keyval_add(opts, "export", mark_at + sizeof(mark) - 1);
    }
    AUTO_FREE char *addr = alloc_printf("%.*s", (int)len, rest);
    if (!strncmp(addr, "unix:", 5)) {
        keyval_add(opts, "server.type", "unix");
        keyval_add(opts, "server.path", addr + 5);
        return 0;
    }
    if (!strrchr(addr, ':')) {
        return err_set(err, EINVAL, "'%s': write it as nbd:HOST:PORT or nbd:unix:PATH", name);
    }
    return parse_host(addr, len, opts, name, err);
}

int nbd_parse_name(const char *name, struct keyval *opts, struct err *err)
{
    return strstr(name, "://") ? parse_uri(name, opts, err) : parse_old(name, opts, err);
}

int nbd_addr_from_opts(struct sock_addr *a, const struct keyval *opts, struct err *err)
{
    const char *path = keyval_get(opts, "server.path"), *host = keyval_get(opts, "server.host"),
               *port = keyval_get(opts, "server.port");
    path = path ? path : keyval_get(opts, "path");
    host = host ? host : keyval_get(opts, "host");
    port = port ? port : keyval_get(opts, "port");
    if (!path == !host) {
        return err_set(err, EINVAL,
                       "NBD: give either a host (server.host) or a unix socket's "
                       "path (server.path)");
    }
    a->path = alloc_text(path);
    a->host = alloc_text(host);
    a->port = alloc_text(path ? NULL : port ? port : NBD_DEFAULT_PORT);
    return 0;
}

char *nbd_uri(const struct sock_addr *a, const char *export_name)
{
    struct strbuf sb = {0};
    strbuf_add(&sb, a->path ? "nbd+unix:///" : "nbd://");
    if (!a->path) {
        strbuf_add(&sb, strchr(a->host, ':') ? "[%s]" : "%s", a->host);
        if (strcmp(a->port, NBD_DEFAULT_PORT)) {
            strbuf_add(&sb, ":%s", a->port);
        }
        strbuf_add(&sb, *export_name ? "/" : "");
    }
    percent_encode(&sb, export_name);
    if (a->path) {
        strbuf_add(&sb, "?socket=");
        percent_encode(&sb, a->path);
    }
    return sb.text;
}
