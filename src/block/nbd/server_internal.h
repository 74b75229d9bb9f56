/* The NBD server, inside. */
#ifndef BLOCK_NBD_SERVER_INTERNAL_H
#define BLOCK_NBD_SERVER_INTERNAL_H

#include "block/driver.h"
#include "block/nbd/channel.h"
#include "block/nbd/server.h"
#include "loop/co.h"

enum { NBD_MAX_CONTEXTS = 32, NBD_MAX_FLYING = 16 };
/* Of one client's requests in flight. */
#define NBD_MAX_MEMORY (64u << 20)

enum nbd_context_kind { CONTEXT_ALLOCATION, CONTEXT_DEPTH, CONTEXT_BITMAP };

struct nbd_context {
    enum nbd_context_kind kind;
    char *name; /* as on the wire */
};

struct nbd_export {
    struct nbd_server *server;
    struct block *b;
    char *name, *description;
    uint16_t flags;
    struct nbd_context context[NBD_MAX_CONTEXTS];
    unsigned contexts;
    struct nbd_export *next;
};

struct nbd_server_client {
    struct nbd_server *s;
    struct channel ch;
    struct nbd_export *export; /* chosen */
    bool structured, no_zeroes, tls;
    uint32_t selected;              /* contexts, bit by bit */
    struct nbd_export *selected_of; /* whose; another export has others */
    uint64_t since_ns;              /* of the handshake; 0: it is over */
    struct co_lock send;
    unsigned flying;
    uint64_t memory;
    struct co_queue room; /* for requests and memory */
    struct nbd_server_client *next;
};

struct nbd_server {
    struct block_graph *graph;
    struct nbd_export *exports;
    struct nbd_server_client *clients;
    unsigned count, limit;
    char *tls_creds;
    int listening[8];
    int listeners;
    bool watching, stopping;
    void (*on_leave)(void *opaque, unsigned left);
    void *opaque;
};

struct nbd_export *nbd_server_find(struct nbd_server *s, const char *name);
/* The handshake; 0: an export is chosen. */
int nbd_server_negotiate(struct nbd_server_client *c);
/* Requests until the client leaves. */
void nbd_server_transmit(struct nbd_server_client *c);

#endif
