/* Without gnutls. */
#include <errno.h>

#include "base/err.h"
#include "block/nbd/tls.h"

int tls_start_client(struct channel *ch, struct block_graph *g, const char *creds, const char *host,
                     struct err *err)
{
    return err_set(err, ENOTSUP, "TLS is not built in (gnutls)");
}

int tls_start_server(struct channel *ch, struct block_graph *g, const char *creds, struct err *err)
{
    return err_set(err, ENOTSUP, "TLS is not built in (gnutls)");
}
