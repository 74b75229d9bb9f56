/* The NBD client, inside. */
#ifndef BLOCK_NBD_CLIENT_H
#define BLOCK_NBD_CLIENT_H

#include "block/driver.h"
#include "block/nbd/channel.h"
#include "block/nbd/socket.h"
#include "loop/co.h"

/* What the server said of the export. */
struct nbd_export_info {
    uint64_t size;
    uint16_t flags;
    uint32_t min_block, opt_block, max_block; /* 0: the server did not say */
    bool structured, has_status;
    uint32_t status_id; /* of base:allocation, or of the bitmap that was asked for */
};

struct nbd_ask {
    const char *export_name, *tls_creds, *tls_host;
    const char *bitmap; /* instead of base:allocation; NULL */
    struct block_graph *graph;
    const char *where; /* for sentences */
};

/* Agrees with the server on one export; in a coroutine. */
int nbd_negotiate(struct channel *ch, const struct nbd_ask *ask, struct nbd_export_info *info,
                  struct err *err);
/* One export in a list. */
struct nbd_listed {
    char *name, *description;
    bool has_info; /* the server was ready to tell more: */
    struct nbd_export_info info;
    char **contexts;
    unsigned context_count;
};
/* Asks what there is, and of each what it is. *list is freed with nbd_listed_free(). */
int nbd_list_exports(struct channel *ch, const struct nbd_ask *ask, struct nbd_listed **list,
                     unsigned *count, struct err *err);
void nbd_listed_free(struct nbd_listed *list, unsigned count);

#endif
