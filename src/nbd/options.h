/* lodge-nbd's command line. */
#ifndef NBD_OPTIONS_H
#define NBD_OPTIONS_H

#include "base/keyval.h"
#include "block/block.h"

enum nbd_action { NBD_SERVE, NBD_LIST, NBD_DISCONNECT, NBD_NOTHING };

struct nbd_options {
    const char *program;
    enum nbd_action action;
    const char *image, *format, *socket, *bind, *port, *device, *export_name, *description;
    const char *load_snapshot, *tls_creds, *tls_host, *pid_file;
    const char *bitmaps[16];
    unsigned bitmap_count;
    struct keyval *objects;
    unsigned object_count;
    struct keyval node; /* further options of the image */
    unsigned flags;     /* enum block_open_flags */
    unsigned shared;
    bool image_opts, persistent, readonly, snapshot, depth, fork, verbose, no_backing;
};

int nbd_options_parse(struct nbd_options *o, int argc, char **argv, struct err *err);
void nbd_options_free(struct nbd_options *o);

#endif
