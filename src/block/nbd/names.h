/* How NBD exports are named: URIs, QEMU's older "nbd:host:port:exportname=x", options. */
#ifndef BLOCK_NBD_NAMES_H
#define BLOCK_NBD_NAMES_H

#include "base/keyval.h"
#include "block/nbd/socket.h"

struct err;

int nbd_parse_name(const char *name, struct keyval *opts, struct err *err);
int nbd_addr_from_opts(struct sock_addr *a, const struct keyval *opts, struct err *err);
char *nbd_uri(const struct sock_addr *a, const char *export_name); /* freed by the caller */

#endif
