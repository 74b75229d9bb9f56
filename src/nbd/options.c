/* lodge-nbd's command line: one table for getopt, for --help and for what each option does. */
#include "nbd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"

struct row {
    const char *name;
    int letter; /* 0: none */
    const char *arg, *help;
    int (*take)(struct nbd_options *o, const char *arg, struct err *err);
};

extern const struct row rows[];
extern const size_t row_count;

static int take_help(struct nbd_options *o, const char *arg, struct err *err)
{
    printf("Usage: %s [OPTIONS] IMAGE\n"
           "       %s -L [OPTIONS]\n"
           "       %s -d DEVICE\n"
           "Exports a disk image to NBD clients.\n\n",
           o->program, o->program, o->program);
    for (size_t i = 0; i < row_count; i++) {
        const struct row *r = &rows[i];
        char left[64];
        snprintf(left, sizeof(left), "%c%c%s --%s%s%s", r->letter ? '-' : ' ',
                 r->letter ? r->letter : ' ', r->letter ? "," : " ", r->name, r->arg ? "=" : "",
                 r->arg ? r->arg : "");
        printf("  %-32s %s\n", left, r->help);
    }
    o->action = NBD_NOTHING;
    return 0;
}

static int take_version(struct nbd_options *o, const char *arg, struct err *err)
{
    printf("%s %s\n", o->program, LODGE_VERSION);
    o->action = NBD_NOTHING;
    return 0;
}

/* Options that are just kept. */
#define KEEP(function, field)                                                                      \
    static int function(struct nbd_options *o, const char *arg, struct err *err)                   \
    {                                                                                              \
        o->field = arg;                                                                            \
        return 0;                                                                                  \
    }
#define SWITCH(function, field)                                                                    \
    static int function(struct nbd_options *o, const char *arg, struct err *err)                   \
    {                                                                                              \
        o->field = true;                                                                           \
        return 0;                                                                                  \
    }
KEEP(take_port, port)
KEEP(take_bind, bind)
KEEP(take_socket, socket)
KEEP(take_format, format)
KEEP(take_device, device)
KEEP(take_name, export_name)
KEEP(take_description, description)
KEEP(take_load, load_snapshot)
KEEP(take_creds, tls_creds)
KEEP(take_tls_host, tls_host)
KEEP(take_pid_file, pid_file)
SWITCH(take_image_opts, image_opts)
SWITCH(take_persistent, persistent)
SWITCH(take_read_only, readonly)
SWITCH(take_snapshot, snapshot)
SWITCH(take_depth, depth)
SWITCH(take_fork, fork)
SWITCH(take_verbose, verbose)
SWITCH(take_no_backing, no_backing)

static int take_list(struct nbd_options *o, const char *arg, struct err *err)
{
    o->action = NBD_LIST;
    return 0;
}

static int take_disconnect(struct nbd_options *o, const char *arg, struct err *err)
{
    o->action = NBD_DISCONNECT;
    o->device = arg;
    return 0;
}

static int take_shared(struct nbd_options *o, const char *arg, struct err *err)
{
    uint64_t n = 0;
    int ret = value_u64("--shared", arg, UINT32_MAX, &n, err);
    o->shared = (unsigned)n;
    return ret;
}

static int take_bitmap(struct nbd_options *o, const char *arg, struct err *err)
{
    if (o->bitmap_count == ARRAY_LEN(o->bitmaps) - 1) {
        return err_set(err, E2BIG, "--bitmap: too many");
    }
    o->bitmaps[o->bitmap_count++] = arg;
    return 0;
}

static int take_object(struct nbd_options *o, const char *arg, struct err *err)
{
    o->objects = alloc_resize(o->objects, o->object_count + 1, sizeof(*o->objects));
    o->objects[o->object_count] = (struct keyval){0};
    return keyval_parse(&o->objects[o->object_count++], arg, "qom-type", err);
}

static int take_cache(struct nbd_options *o, const char *arg, struct err *err)
{
    static const struct {
        const char *name;
        unsigned flags;
    } modes[] = {{"writeback", 0},
                 {"none", BLOCK_DIRECT},
                 {"off", BLOCK_DIRECT},
                 {"writethrough", BLOCK_WRITETHROUGH},
                 {"directsync", BLOCK_DIRECT | BLOCK_WRITETHROUGH},
                 {"unsafe", BLOCK_NO_FLUSH}};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (!strcmp(modes[i].name, arg)) {
            o->flags |= modes[i].flags;
            return 0;
        }
    }
    return err_set(err, EINVAL,
                   "--cache is none, writeback, writethrough, directsync or unsafe, not '%s'", arg);
}

static int take_nocache(struct nbd_options *o, const char *arg, struct err *err)
{
    return take_cache(o, "none", err);
}

static int take_aio(struct nbd_options *o, const char *arg, struct err *err)
{
    keyval_add(&o->node, "file.aio", arg);
    return 0;
}

static int take_discard(struct nbd_options *o, const char *arg, struct err *err)
{
    keyval_add(&o->node, "discard", arg);
    return 0;
}

static int take_zeroes(struct nbd_options *o, const char *arg, struct err *err)
{
    keyval_add(&o->node, "detect-zeroes", arg);
    return 0;
}

static int take_nothing(struct nbd_options *o, const char *arg, struct err *err)
{
    return 0;
}

const struct row rows[] = {
    {"help", 'h', NULL, "print this and exit", take_help},
    {"version", 'V', NULL, "print the version and exit", take_version},
    {"port", 'p', "PORT", "TCP port, preset 10809", take_port},
    {"bind", 'b', "ADDRESS", "address to listen on, preset 0.0.0.0", take_bind},
    {"socket", 'k', "PATH", "listen on a unix socket instead", take_socket},
    {"shared", 'e', "NUM", "clients at a time, preset 1; 0: any number", take_shared},
    {"persistent", 't', NULL, "go on when the last client has left", take_persistent},
    {"export-name", 'x', "NAME", "name of the export, preset \"\"", take_name},
    {"description", 'D', "TEXT", "description of the export", take_description},
    {"format", 'f', "FORMAT", "format of the image; preset: look", take_format},
    {"image-opts", 0, NULL, "IMAGE is a list of options", take_image_opts},
    {"read-only", 'r', NULL, "clients may only read", take_read_only},
    {"snapshot", 's', NULL, "writes go to a temporary file", take_snapshot},
    {"load-snapshot", 'l', "SNAPSHOT", "export an internal snapshot, by id or name (read-only)",
     take_load},
    {"allocation-depth", 'A', NULL, "tell clients from which layer data comes", take_depth},
    {"bitmap", 'B', "NAME", "tell clients of a dirty bitmap", take_bitmap},
    {"cache", 0, "MODE", "none, writeback, writethrough, directsync, unsafe", take_cache},
    {"nocache", 'n', NULL, "same as --cache=none", take_nocache},
    {"aio", 0, "MODE", "threads, native, io_uring", take_aio},
    {"discard", 0, "MODE", "ignore, unmap", take_discard},
    {"detect-zeroes", 0, "MODE", "off, on, unmap", take_zeroes},
    {"no-backing", 0, NULL, "refuse images that name other files", take_no_backing},
    {"connect", 'c', "DEVICE", "connect a kernel device (/dev/nbd0)", take_device},
    {"disconnect", 'd', "DEVICE", "disconnect a kernel device", take_disconnect},
    {"list", 'L', NULL, "list what a server exports", take_list},
    {"object", 0, "TYPE,id=ID,...", "a secret or TLS credentials", take_object},
    {"tls-creds", 0, "ID", "TLS with these credentials", take_creds},
    {"tls-hostname", 0, "NAME", "with -L: the name in the certificate", take_tls_host},
    {"fork", 0, NULL, "go to the background when clients can connect", take_fork},
    {"pid-file", 0, "PATH", "write the process id there", take_pid_file},
    {"trace", 'T', "PATTERN", "accepted", take_nothing},
    {"verbose", 'v', NULL, "say what happens", take_verbose},
};
const size_t row_count = ARRAY_LEN(rows);

int nbd_options_parse(struct nbd_options *o, int argc, char **argv, struct err *err)
{
    struct option longs[ARRAY_LEN(rows) + 1] = {0};
    char shorts[2 * ARRAY_LEN(rows) + 2] = ":";
    for (size_t i = 0; i < row_count; i++) {
        longs[i] = (struct option){rows[i].name, rows[i].arg ? required_argument : no_argument,
                                   NULL, 256 + (int)i};
        if (rows[i].letter) {
            char text[3] = {(char)rows[i].letter, rows[i].arg ? ':' : 0};
            strcat(shorts, text);
        }
    }
    int ret = 0, c;
    optind = 1;
    opterr = 0;
    while (!ret && o->action != NBD_NOTHING &&
           (c = getopt_long(argc, argv, shorts, longs, NULL)) >= 0) {
        size_t i = c >= 256 ? (size_t)c - 256 : 0;
        while (c < 256 && i < row_count && rows[i].letter != c) {
            i++;
        }
        if (i == row_count) {
            return err_set(err, EINVAL,
                           c == ':' ? "'%s' needs an argument; see --help"
                                    : "there is no option '%s'; see --help",
                           argv[optind - 1]);
        }
        ret = rows[i].take(o, optarg, err);
    }
    if (ret || o->action != NBD_SERVE) {
        return ret;
    }
    if (argc - optind != 1) {
        return err_set(err, EINVAL,
                       argc > optind ? "only one image can be exported, not also '%s'"
                                     : "which image? See --help",
                       argv[argc - 1]);
    }
    o->image = argv[optind];
    return 0;
}

void nbd_options_free(struct nbd_options *o)
{
    for (unsigned i = 0; i < o->object_count; i++) {
        keyval_free(&o->objects[i]);
    }
    free(o->objects);
    keyval_free(&o->node);
}
