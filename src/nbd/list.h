/* --list: what another server exports. */
#ifndef NBD_LIST_H
#define NBD_LIST_H

struct block_graph;
struct err;
struct loop;
struct nbd_options;

int nbd_list(const struct nbd_options *o, struct loop *loop, struct block_graph *graph,
             struct err *err);

#endif
