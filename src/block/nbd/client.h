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
    uint32_t min_block, max_block;
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
/* Asks what there is: calls fn for each. For lists. */
int nbd_list_exports(struct channel *ch, const struct nbd_ask *ask,
                     void (*fn)(void *opaque, const char *name, const char *description,
                                const struct nbd_export_info *info),
                     void *opaque, struct err *err);

#endif
