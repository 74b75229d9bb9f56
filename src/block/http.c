/*
 * Protocols "http", "https", "ftp", "ftps": images on servers, read-only. Requests of whole blocks
 * (readahead, 256 KiB) are done by libcurl on worker threads; the blocks last used are kept. The
 * library is loaded when such an image is opened.
 *
 * The server is not trusted: an answer with another part of the file than asked for is an error,
 * and so is one from a file that has another length by now. It may send us elsewhere, but not from
 * https to something weaker.
 */
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/driver.h"
#include "loop/co.h"

enum { HANDLES = 4, KEPT = 16, MAX_READAHEAD = 16 << 20 };

struct curl_fns {
    __typeof__(curl_easy_init) *init;
    __typeof__(curl_easy_cleanup) *cleanup;
    __typeof__(curl_easy_perform) *perform;
    __typeof__(curl_easy_setopt) *setopt;
    __typeof__(curl_easy_getinfo) *getinfo;
    __typeof__(curl_easy_strerror) *text;
    __typeof__(curl_global_init) *global_init;
};

/* Part of the image, whole or being fetched. */
struct piece {
    uint8_t *bytes;
    uint64_t at, used; /* number of the block plus one, 0: none; when it was last used */
    bool fetching;
    unsigned users;
    int ret;
    struct co_queue waiting;
};

struct http {
    struct curl_fns f;
    void *library;
    struct block *b;
    char *url, *cookie, *user, *password;
    uint64_t readahead, timeout, clock;
    bool verify, web; /* web: http, not ftp */
    CURL *handle[HANDLES];
    bool busy[HANDLES];
    struct co_queue handle_free;
    struct piece piece[KEPT];
    struct co_queue piece_free;
};

static int http_load(struct http *h, struct err *err)
{
    static const struct {
        size_t off;
        const char *name;
    } names[] = {
        {offsetof(struct curl_fns, init), "curl_easy_init"},
        {offsetof(struct curl_fns, cleanup), "curl_easy_cleanup"},
        {offsetof(struct curl_fns, perform), "curl_easy_perform"},
        {offsetof(struct curl_fns, setopt), "curl_easy_setopt"},
        {offsetof(struct curl_fns, getinfo), "curl_easy_getinfo"},
        {offsetof(struct curl_fns, text), "curl_easy_strerror"},
        {offsetof(struct curl_fns, global_init), "curl_global_init"},
    };
    static const char *const libraries[] = {"libcurl-gnutls.so.4", "libcurl.so.4",
                                            "libcurl-nss.so.4"};
    for (size_t i = 0; !h->library && i < ARRAY_LEN(libraries); i++) {
        h->library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (!h->library) {
        return err_set(err, ENOTSUP,
                       "images on servers need the library curl (Debian: libcurl3-gnutls): %s",
                       dlerror());
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        void *at = dlsym(h->library, names[i].name);
        if (!at) {
            return err_set(err, ENOTSUP, "the library curl has no %s", names[i].name);
        }
        memcpy((char *)&h->f + names[i].off, &at, sizeof(at));
    }
    h->f.global_init(CURL_GLOBAL_ALL);
    return 0;
}

/* ---- Fetching: on worker threads ---- */

struct fetch {
    struct http *h;
    CURL *c;
    uint64_t off, len, got;
    uint8_t *to; /* NULL: only the header */
    bool ranges; /* the header says that parts can be had */
    /* Content-Range of the last answer, of those that redirections give */
    bool has_part;
    uint64_t first, last, whole;
    CURLcode code;
    long status;
    int64_t size;
};

static size_t on_data(char *at, size_t one, size_t n, void *opaque)
{
    struct fetch *f = opaque;
    size_t len = one * n;
    if (!f->to || len > f->len - f->got) {
        return 0; /* more than was asked for: stop */
    }
    memcpy(f->to + f->got, at, len);
    f->got += len;
    return len;
}

/* "bytes FIRST-LAST/WHOLE"; a whole that it does not know ("*") is taken for the one we do. */
static void header_part(struct fetch *f, const char *value)
{
    unsigned long long first, last, whole = f->h->b->size;
    char star = 0;
    int n = sscanf(value, " bytes %19llu-%19llu/%c", &first, &last, &star);
    f->has_part = n == 3 && (star == '*' || sscanf(strchr(value, '/') + 1, "%19llu", &whole) == 1);
    f->first = first;
    f->last = last;
    f->whole = whole;
}

static size_t on_header(char *at, size_t one, size_t n, void *opaque)
{
    static const char status[] = "HTTP/", ranges[] = "accept-ranges:", part[] = "content-range:";
    struct fetch *f = opaque;
    size_t len = one * n;
    char line[128] = {0}; /* what we look for is shorter */
    memcpy(line, at, len < sizeof(line) ? len : sizeof(line) - 1);
    if (!strncasecmp(line, status, sizeof(status) - 1)) { /* another answer begins */
        f->ranges = f->has_part = false;
    } else if (!strncasecmp(line, ranges, sizeof(ranges) - 1)) {
        f->ranges = strstr(line, "bytes");
    } else if (!strncasecmp(line, part, sizeof(part) - 1)) {
        header_part(f, line + sizeof(part) - 1);
    }
    return len;
}

/* It is what was asked for. Servers may always send all, which is right if we want all. */
static bool fetch_is_right(const struct fetch *f)
{
    uint64_t size = f->h->b->size;
    if (f->code || f->got != f->len) {
        return false;
    }
    if (!f->h->web || (f->status == 200 && !f->off && f->len == size)) {
        return true;
    }
    return f->status == 206 && f->has_part && f->first == f->off &&
           f->last == f->off + f->len - 1 && f->whole == size;
}

static int fetch_work(void *opaque)
{
    struct fetch *f = opaque;
    const struct curl_fns *x = &f->h->f;
    char range[48];
    curl_off_t size = -1;
    snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)f->off,
             (unsigned long long)(f->off + f->len - 1));
    x->setopt(f->c, CURLOPT_NOBODY, (long)!f->to);
    if (f->to) {
        x->setopt(f->c, CURLOPT_HTTPGET, 1L);
        x->setopt(f->c, CURLOPT_RANGE, range);
    }
    x->setopt(f->c, CURLOPT_WRITEDATA, f);
    x->setopt(f->c, CURLOPT_HEADERDATA, f);
    f->code = x->perform(f->c);
    x->getinfo(f->c, CURLINFO_RESPONSE_CODE, &f->status);
    x->getinfo(f->c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
    f->size = size;
    return 0;
}

static void handle_set(struct http *h, CURL *c)
{
    const char *own = h->b->type->name;
    h->f.setopt(c, CURLOPT_URL, h->url);
    h->f.setopt(c, CURLOPT_PROTOCOLS_STR, own);
    h->f.setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, !strcmp(own, "http") ? "http,https" : own);
    h->f.setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    h->f.setopt(c, CURLOPT_MAXREDIRS, 10L);
    h->f.setopt(c, CURLOPT_FAILONERROR, 1L);
    h->f.setopt(c, CURLOPT_NOSIGNAL, 1L);
    h->f.setopt(c, CURLOPT_TIMEOUT, (long)h->timeout);
    h->f.setopt(c, CURLOPT_SSL_VERIFYPEER, (long)h->verify);
    h->f.setopt(c, CURLOPT_SSL_VERIFYHOST, h->verify ? 2L : 0L);
    h->f.setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    h->f.setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    if (h->cookie) {
        h->f.setopt(c, CURLOPT_COOKIE, h->cookie);
    }
    if (h->user) {
        h->f.setopt(c, CURLOPT_USERNAME, h->user);
    }
    if (h->password) {
        h->f.setopt(c, CURLOPT_PASSWORD, h->password);
    }
}

static int handle_take(struct http *h)
{
    for (;;) {
        for (int i = 0; i < HANDLES; i++) {
            if (!h->busy[i]) {
                h->busy[i] = true;
                if (!h->handle[i]) {
                    h->handle[i] = h->f.init(); /* NULL: the calls on it will fail */
                    handle_set(h, h->handle[i]);
                }
                return i;
            }
        }
        co_queue_wait(&h->handle_free);
    }
}

static void fetch_do(struct http *h, struct fetch *f)
{
    int i = handle_take(h);
    f->h = h;
    f->c = h->handle[i];
    co_offload(fetch_work, f);
    h->busy[i] = false;
    co_queue_next(&h->handle_free);
}

/* ---- Pieces ---- */

static struct piece *piece_find(struct http *h, uint64_t n)
{
    for (unsigned i = 0; i < KEPT; i++) {
        if (h->piece[i].at == n + 1) {
            return &h->piece[i];
        }
    }
    return NULL;
}

/* The one that nobody has used for longest. */
static struct piece *piece_replace(struct http *h)
{
    struct piece *best = NULL;
    for (unsigned i = 0; i < KEPT; i++) {
        struct piece *p = &h->piece[i];
        if (!p->users && (!best || p->used < best->used)) {
            best = p;
        }
    }
    return best;
}

static void piece_fetch(struct http *h, struct piece *p, uint64_t n)
{
    uint64_t off = n * h->readahead, left = h->b->size - off;
    p->at = n + 1;
    p->fetching = true;
    p->bytes = p->bytes ? p->bytes : block_alloc(h->readahead);
    struct fetch f = {.off = off, .len = left < h->readahead ? left : h->readahead, .to = p->bytes};
    if (p->bytes) {
        fetch_do(h, &f);
    }
    p->ret = !p->bytes ? -ENOMEM : fetch_is_right(&f) ? 0 : -EIO;
    p->fetching = false;
    co_queue_all(&p->waiting);
}

static int http_piece(struct http *h, uint64_t n, struct piece **out)
{
    struct piece *p;
    while (!(p = piece_find(h, n)) && !(p = piece_replace(h))) {
        co_queue_wait(&h->piece_free);
    }
    p->users++;
    p->used = ++h->clock;
    if (p->at != n + 1) {
        piece_fetch(h, p, n);
    }
    while (p->fetching) {
        co_queue_wait(&p->waiting);
    }
    *out = p;
    return p->ret;
}

static void piece_done(struct http *h, struct piece *p)
{
    p->users--;
    if (p->ret && !p->users) {
        p->at = 0; /* the next one tries again */
    }
    co_queue_next(&h->piece_free);
}

static int http_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    struct http *h = b->state;
    int ret = 0;
    for (uint64_t done = 0; !ret && done < q->len;) {
        uint64_t n = (off + done) / h->readahead, skip = (off + done) % h->readahead;
        uint64_t len = h->readahead - skip < q->len - done ? h->readahead - skip : q->len - done;
        struct piece *p;
        ret = http_piece(h, n, &p);
        if (!ret) {
            iovs_put(q, done, p->bytes + skip, len);
        }
        piece_done(h, p);
        done += len;
    }
    return ret;
}

/* ---- Life ---- */

static void secret_free(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

static void http_free(struct http *h)
{
    for (unsigned i = 0; i < HANDLES; i++) {
        if (h->handle[i]) {
            h->f.cleanup(h->handle[i]);
        }
    }
    for (unsigned i = 0; i < KEPT; i++) {
        free(h->piece[i].bytes);
    }
    secret_free(h->cookie);
    secret_free(h->password);
    free(h->url);
    free(h->user);
}

static int http_take_secret(struct block *b, const struct keyval *opts, const char *key, char **out,
                            struct err *err)
{
    const char *id = keyval_get(opts, key);
    uint8_t *bytes;
    size_t len;
    int ret = id ? block_get_secret(b->graph, id, &bytes, &len, err) : 0;
    if (id && !ret) {
        free(*out);
        *out = (char *)bytes; /* there is a NUL behind it */
    }
    return ret;
}

static int http_take_opts(struct block *b, const struct keyval *opts, struct err *err)
{
    struct http *h = b->state;
    const char *url = keyval_get(opts, "url");
    h->b = b;
    h->web = !strncmp(b->type->name, "http", 4);
    h->verify = true;
    h->readahead = 256 << 10;
    h->timeout = 5;
    if (!url) {
        return err_set(err, EINVAL, "%s block driver requires an 'url' option", b->type->name);
    }
    size_t n = strlen(b->type->name);
    if (strncasecmp(url, b->type->name, n) || strncmp(url + n, "://", 3)) {
        return err_set(err, EINVAL, "'%s' is no name of the protocol '%s'", url, b->type->name);
    }
    h->url = alloc_text(url);
    h->cookie = alloc_text(keyval_get(opts, "cookie"));
    h->user = alloc_text(keyval_get(opts, "username"));
    int ret = block_opt_size(opts, "readahead", &h->readahead, err);
    ret = ret ? ret : block_opt_size(opts, "timeout", &h->timeout, err);
    ret = ret ? ret : block_opt_bool(opts, "sslverify", &h->verify, err);
    ret = ret ? ret : http_take_secret(b, opts, "cookie-secret", &h->cookie, err);
    ret = ret ? ret : http_take_secret(b, opts, "password-secret", &h->password, err);
    if (!ret && (!h->readahead || h->readahead % BLOCK_SECTOR || h->readahead > MAX_READAHEAD ||
                 !h->timeout || h->timeout > 10000)) {
        ret = err_set(err, EINVAL,
                      "readahead is a multiple of 512 up to 16M, timeout 1 to 10000 seconds");
    }
    return ret;
}

static int http_look(struct http *h, struct err *err)
{
    struct fetch f = {.len = 1};
    fetch_do(h, &f);
    if (f.code || (h->web && f.status != 200)) {
        return err_set(err, f.status == 404 ? ENOENT : EIO, "cannot open '%s': %s (%ld)", h->url,
                       f.code ? h->f.text(f.code) : "an answer without the file", f.status);
    }
    if (f.size < 0 || (uint64_t)f.size > BLOCK_MAX_SIZE) {
        return err_set(err, EIO, "the server of '%s' does not say how long it is", h->url);
    }
    if (h->web && !f.ranges) {
        return err_set(err, ENOTSUP,
                       "the server of '%s' does not give parts of files "
                       "(Server does not support 'range')",
                       h->url);
    }
    h->b->size = (uint64_t)f.size;
    return 0;
}

static int http_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct http *h = b->state;
    if (b->flags & BLOCK_RDWR) {
        return err_set(err, EACCES, "images on servers are read-only: open '%s' with read-only=on",
                       keyval_get(opts, "url"));
    }
    int ret = http_take_opts(b, opts, err);
    ret = ret ? ret : http_load(h, err);
    ret = ret ? ret : http_look(h, err);
    if (ret) {
        http_free(h);
        return ret;
    }
    free(b->filename);
    b->filename = alloc_text(h->url);
    return 0;
}

static int http_close(struct block *b)
{
    http_free(b->state);
    return 0;
}

static int http_parse_name(const char *name, struct keyval *opts, struct err *err)
{
    keyval_add(opts, "url", name);
    return 0;
}

static const struct block_opt http_opts[] = {
    {"url", "str", "where the image is", NULL},
    {"readahead", "size", "bytes of one request", "256K"},
    {"sslverify", "bool (on/off)", "check the server's certificate", "on"},
    {"timeout", "size", "seconds", "5"},
    {"cookie", "str", "cookie to send", NULL},
    {"cookie-secret", "str", "id of a secret with it", NULL},
    {"username", "str", "user name", NULL},
    {"password-secret", "str", "id of a secret with the password", NULL},
    {0},
};

static const char *const http_prefix[] = {"http://", NULL},
                         *const https_prefix[] = {"https://", NULL},
                         *const ftp_prefix[] = {"ftp://", NULL},
                         *const ftps_prefix[] = {"ftps://", NULL};

#define HTTP_TYPE(variable, text, prefix)                                                          \
    const struct block_type variable = {                                                           \
        .name = text,                                                                              \
        .summary = "images on servers",                                                            \
        .size = sizeof(struct http),                                                               \
        .protocol = true,                                                                          \
        .prefixes = prefix,                                                                        \
        .open_opts = http_opts,                                                                    \
        .parse_name = http_parse_name,                                                             \
        .open = http_open,                                                                         \
        .close = http_close,                                                                       \
        .preadv = http_preadv,                                                                     \
    }

HTTP_TYPE(http_type, "http", http_prefix);
HTTP_TYPE(https_type, "https", https_prefix);
HTTP_TYPE(ftp_type, "ftp", ftp_prefix);
HTTP_TYPE(ftps_type, "ftps", ftps_prefix);
