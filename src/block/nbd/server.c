/* The NBD server: exports, clients, listening. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/nbd/proto.h"
#include "block/nbd/server_internal.h"
#include "loop/clock.h"
#include "loop/loop.h"

enum { MOST_CLIENTS = 256, HANDSHAKE_SECONDS = 10 };

struct nbd_server *nbd_server_new(struct block_graph *g, const char *tls_creds)
{
    struct nbd_server *s = alloc_zero(sizeof(*s));
    s->graph = g;
    s->tls_creds = alloc_text(tls_creds);
    s->limit = MOST_CLIENTS;
    return s;
}

struct nbd_export *nbd_server_find(struct nbd_server *s, const char *name)
{
    struct nbd_export *e = s->exports;
    while (e && strcmp(e->name, name)) {
        e = e->next;
    }
    return e;
}

static void export_add_context(struct nbd_export *e, enum nbd_context_kind kind, char *name)
{
    e->context[e->contexts++] = (struct nbd_context){kind, name};
}

static int export_add_bitmaps(struct nbd_export *e, const char *const *names, struct err *err)
{
    for (; names && *names; names++) {
        struct block_bitmap *m = block_bitmaps(e->b);
        while (m && strcmp(m->name, *names)) {
            m = m->next;
        }
        if (!m || m->inconsistent) {
            return err_set(err, ENOENT, "'%s' has no %sbitmap '%s'", block_filename(e->b),
                           m ? "consistent " : "", *names);
        }
        if (e->contexts == NBD_MAX_CONTEXTS) {
            return err_set(err, E2BIG, "at most %u bitmaps can be exported", NBD_MAX_CONTEXTS - 2);
        }
        export_add_context(e, CONTEXT_BITMAP, alloc_printf(NBD_META_BITMAP "%s", *names));
    }
    return 0;
}

static void export_free(struct nbd_export *e)
{
    for (unsigned i = 0; i < e->contexts; i++) {
        free(e->context[i].name);
    }
    block_close(e->b);
    free(e->name);
    free(e->description);
    free(e);
}

int nbd_server_export(struct nbd_server *s, struct block *b, const struct nbd_export_opts *o,
                      struct err *err)
{
    if (strlen(o->name) > NBD_MAX_NAME || nbd_server_find(s, o->name)) {
        return err_set(err, EINVAL, "the export's name '%.40s' %s", o->name,
                       nbd_server_find(s, o->name) ? "is taken" : "is too long");
    }
    struct nbd_export *e = alloc_zero(sizeof(*e));
    e->server = s;
    e->b = block_ref(b);
    e->name = alloc_text(o->name);
    e->description = alloc_text(o->description);
    bool writable = o->writable && !block_readonly(b);
    e->flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_SEND_DF | NBD_SEND_CACHE;
    e->flags |= writable ? NBD_SEND_TRIM | NBD_SEND_ZEROES | NBD_SEND_FAST_ZERO : NBD_READ_ONLY;
    e->flags |= o->multi_conn ? NBD_MULTI_CONN : 0;
    export_add_context(e, CONTEXT_ALLOCATION, alloc_text(NBD_META_ALLOCATION));
    if (o->allocation_depth) {
        export_add_context(e, CONTEXT_DEPTH, alloc_text(NBD_META_DEPTH));
    }
    int ret = export_add_bitmaps(e, o->bitmaps, err);
    if (ret) {
        export_free(e);
        return ret;
    }
    e->next = s->exports;
    s->exports = e;
    return 0;
}

void nbd_server_limit(struct nbd_server *s, unsigned clients)
{
    s->limit = clients && clients < MOST_CLIENTS ? clients : MOST_CLIENTS;
}

void nbd_server_on_leave(struct nbd_server *s, void (*fn)(void *, unsigned), void *opaque)
{
    s->on_leave = fn;
    s->opaque = opaque;
}

unsigned nbd_server_clients(const struct nbd_server *s)
{
    return s->count;
}

/* ---- Clients ---- */

static void accept_ready(void *opaque, int fd, unsigned events);

static void server_accepting(struct nbd_server *s, bool on)
{
    for (int i = 0; i < s->listeners; i++) {
        loop_watch(block_graph_loop(s->graph), s->listening[i], on ? LOOP_IN : 0, accept_ready, s);
    }
}

static void client_leave(struct nbd_server_client *c)
{
    struct nbd_server *s = c->s;
    struct nbd_server_client **at = &s->clients;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    channel_close(&c->ch);
    bool chose = c->export;
    free(c);
    s->count--;
    if (!s->stopping) {
        server_accepting(s, true);
        if (s->on_leave && chose) {
            s->on_leave(s->opaque, s->count);
        }
    }
}

static void client_main(void *opaque)
{
    struct nbd_server_client *c = opaque;
    int ret = c->export ? 0 : nbd_server_negotiate(c);
    c->since_ns = 0;
    if (!ret) {
        nbd_server_transmit(c);
    }
    client_leave(c);
}

/* One for all handshakes. */
static void watchdog(void *opaque)
{
    struct nbd_server *s = opaque;
    bool any = true;
    while (any) {
        co_sleep_ns(NS_PER_SEC / 4);
        any = false;
        uint64_t now = clock_now_ns();
        for (struct nbd_server_client *c = s->clients; c; c = c->next) {
            any |= c->since_ns;
            if (c->since_ns && now - c->since_ns > HANDSHAKE_SECONDS * NS_PER_SEC) {
                channel_shut(&c->ch);
            }
        }
    }
    s->watching = false;
}

static struct nbd_server_client *client_new(struct nbd_server *s, int fd)
{
    struct nbd_server_client *c = alloc_zero(sizeof(*c));
    c->s = s;
    if (channel_open(&c->ch, fd)) {
        free(c);
        return NULL;
    }
    c->next = s->clients;
    s->clients = c;
    s->count++;
    if (s->count >= s->limit) {
        server_accepting(s, false); /* others wait in the socket's own queue */
    }
    return c;
}

void nbd_server_add(struct nbd_server *s, int fd)
{
    struct loop *loop = block_graph_loop(s->graph);
    struct nbd_server_client *c = client_new(s, fd);
    if (!c) {
        return;
    }
    c->since_ns = clock_now_ns();
    if (!s->watching) {
        s->watching = true;
        co_start(loop, watchdog, s);
    }
    co_start(loop, client_main, c);
}

int nbd_server_add_ready(struct nbd_server *s, int fd, struct err *err)
{
    struct nbd_server_client *c = client_new(s, fd);
    if (!c) {
        return err_set(err, EMFILE, "no descriptor for the connection");
    }
    c->export = s->exports;
    co_start(block_graph_loop(s->graph), client_main, c);
    return 0;
}

static void accept_ready(void *opaque, int fd, unsigned events)
{
    struct nbd_server *s = opaque;
    while (s->count < s->limit) {
        int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (conn < 0) {
            return;
        }
        nbd_server_add(s, conn);
    }
}

void nbd_server_listen(struct nbd_server *s, const int *fds, int count)
{
    for (int i = 0; i < count && s->listeners < 8; i++) {
        s->listening[s->listeners++] = fds[i];
    }
    server_accepting(s, true);
}

void nbd_server_free(struct nbd_server *s)
{
    struct loop *loop = block_graph_loop(s->graph);
    s->stopping = true;
    for (int i = 0; i < s->listeners; i++) {
        loop_unwatch(loop, s->listening[i]);
        close(s->listening[i]);
    }
    for (struct nbd_server_client *c = s->clients; c; c = c->next) {
        channel_shut(&c->ch);
    }
    while (s->clients || s->watching) {
        loop_step(loop, true);
    }
    while (s->exports) {
        struct nbd_export *e = s->exports;
        s->exports = e->next;
        export_free(e);
    }
    free(s->tls_creds);
    free(s);
}
