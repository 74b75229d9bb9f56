/* TLS on channels. */
#ifndef BLOCK_NBD_TLS_H
#define BLOCK_NBD_TLS_H

struct block_graph;
struct channel;
struct err;

/* `creds`: id of a tls-creds-* object of the graph. `host`: the name in the server's certificate.
 * The handshake is done when they return; in a coroutine. */
int tls_start_client(struct channel *ch, struct block_graph *g, const char *creds, const char *host,
                     struct err *err);
int tls_start_server(struct channel *ch, struct block_graph *g, const char *creds, struct err *err);

#endif
