/*
 * An NBD server: exports nodes of a graph to clients. Everything runs as coroutines on the graph's
 * loop. Clients are not trusted: what they ask is checked against the export, their memory and
 * number of requests is bounded, and one that does not get on with the handshake is dropped.
 */
#ifndef BLOCK_NBD_SERVER_H
#define BLOCK_NBD_SERVER_H

#include "block/block.h"

struct nbd_server;
struct nbd_export;

struct nbd_export_opts {
    const char *name, *description; /* "" is a name; NULL: none */
    bool writable;
    bool allocation_depth;
    const char *const *bitmaps; /* names, NULL-terminated; or NULL */
    bool multi_conn;            /* several clients see each other's flushed writes */
};

struct nbd_server *nbd_server_new(struct block_graph *g, const char *tls_creds);
void nbd_server_free(struct nbd_server *s); /* ends all connections first */
/* Takes a reference to b. */
int nbd_server_export(struct nbd_server *s, struct block *b, const struct nbd_export_opts *o,
                      struct err *err);
/* At most that many clients at a time; 0: any number up to a bound. */
void nbd_server_limit(struct nbd_server *s, unsigned clients);
/* Called after a client has gone, with how many are left. */
void nbd_server_on_leave(struct nbd_server *s, void (*fn)(void *opaque, unsigned left),
                         void *opaque);
/* Takes over listening sockets. */
void nbd_server_listen(struct nbd_server *s, const int *fds, int count);
/* Serves a connection there is already; takes the socket. */
void nbd_server_add(struct nbd_server *s, int fd);
/* The same for one that needs no handshake, as the kernel's: it gets the first export. */
int nbd_server_add_ready(struct nbd_server *s, int fd, struct err *err);
unsigned nbd_server_clients(const struct nbd_server *s);

#endif
