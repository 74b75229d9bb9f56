/* --list: what another server exports, printed as the published tool does. */
#include "nbd/list.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/nbd/client.h"
#include "loop/co.h"
#include "nbd/options.h"

/* By bit of the export's flags; the first says only that there are flags. */
static const char *const flag_names[] = {NULL,         "readonly", "flush",  "fua",
                                         "rotational", "trim",     "zeroes", "df",
                                         "multi",      "resize",   "cache",  "fast-zero"};

/* Names are the server's: what would move the cursor is not for terminals. */
static void print_text(const char *before, const char *text, const char *after)
{
    fputs(before, stdout);
    for (; *text; text++) {
        putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
    }
    puts(after);
}

static void print_info(const struct nbd_export_info *info)
{
    printf("  size:  %llu\n", (unsigned long long)info->size);
    if (info->flags & 1) {
        printf("  flags: 0x%x (", info->flags);
        for (unsigned i = 1; i < ARRAY_LEN(flag_names); i++) {
            if (info->flags >> i & 1) {
                printf(" %s", flag_names[i]);
            }
        }
        printf(" )\n");
    }
    if (info->min_block) {
        printf("  min block: %u\n", info->min_block);
    }
    if (info->opt_block) {
        printf("  opt block: %u\n", info->opt_block);
    }
    if (info->max_block) {
        printf("  max block: %u\n", info->max_block);
    }
}

static void print_export(const struct nbd_listed *l)
{
    print_text(" export: '", l->name, "'");
    if (*l->description) {
        print_text("  description: ", l->description, "");
    }
    if (l->has_info) {
        print_info(&l->info);
    }
    if (l->context_count) {
        printf("  available meta contexts: %u\n", l->context_count);
    }
    for (unsigned i = 0; i < l->context_count; i++) {
        print_text("   ", l->contexts[i], "");
    }
}

struct list_call {
    const struct nbd_options *o;
    struct block_graph *graph;
    struct err *err;
    int ret;
};

static int list_from(struct list_call *c, const struct sock_addr *a)
{
    const struct nbd_options *o = c->o;
    struct channel ch;
    struct nbd_listed *list;
    unsigned count;
    AUTO_FREE char *where = sock_addr_text(a);
    struct nbd_ask ask = {"",   o->tls_creds, o->tls_host ? o->tls_host : a->host,
                          NULL, c->graph,     where};
    int fd = sock_connect(a, c->err);
    int ret = fd < 0 ? fd : channel_open(&ch, fd);
    if (ret) {
        return ret;
    }
    ret = nbd_list_exports(&ch, &ask, &list, &count, c->err);
    channel_close(&ch);
    if (!ret) {
        printf("exports available: %u\n", count);
    }
    for (unsigned i = 0; !ret && i < count; i++) {
        print_export(&list[i]);
    }
    nbd_listed_free(list, count);
    return ret;
}

static void list_called(void *opaque)
{
    struct list_call *c = opaque;
    const struct nbd_options *o = c->o;
    const char *host = o->bind ? o->bind : "localhost", *port = o->port ? o->port : "10809";
    struct sock_addr a = {alloc_text(o->socket), alloc_text(o->socket ? NULL : host),
                          alloc_text(o->socket ? NULL : port)};
    c->ret = list_from(c, &a);
    sock_addr_free(&a);
}

int nbd_list(const struct nbd_options *o, struct loop *loop, struct block_graph *graph,
             struct err *err)
{
    struct list_call c = {o, graph, err, 0};
    co_run(loop, list_called, &c);
    return c.ret;
}
