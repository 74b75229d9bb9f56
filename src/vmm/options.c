/* Parsing the command line by the table in option_table.c. */
#include "vmm/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/near.h"
#include "board/boards.h"
#include "vmm/option_table.h"

static const struct option_row *option_find(const char *name)
{
    for (const struct option_row *r = option_rows; r->name; r++) {
        if (!strcmp(r->name, name)) {
            return r;
        }
    }
    return NULL;
}

static int option_unknown(const char *arg, const char *name, struct err *err)
{
    const char *names[160], *why = option_absent(name);
    size_t n = 0;
    if (why) {
        return err_set(err, EINVAL, "option '-%s' is not supported: %s", name, why);
    }
    for (const struct option_row *r = option_rows; r->name && n < 160; r++) {
        names[n++] = r->name;
    }
    return err_set(err, EINVAL, "unknown option '%s'; the nearest is '-%s'", arg,
                   near_pick(name, names, n));
}

/* One option and, if it takes one, its argument; `*i` moves past them. */
static int options_take(struct options *o, int argc, char **argv, int *i, struct err *err)
{
    const char *text = argv[(*i)++];
    if (text[0] != '-' || !text[1]) {
        return err_set(err, EINVAL, "unexpected argument '%s': disk images are given with -drive",
                       text);
    }
    const char *name = text + (text[1] == '-' ? 2 : 1);
    const struct option_row *row = option_find(name);
    if (!row) {
        return option_unknown(text, name, err);
    }
    const char *arg = NULL;
    if (row->arg) {
        if (*i >= argc) {
            return err_set(err, EINVAL, "option '-%s' needs an argument: -%s %s", name, name,
                           row->arg);
        }
        arg = argv[(*i)++];
    }
    return row->take(o, arg, err);
}

int options_parse(struct options *o, int argc, char **argv, struct err *err)
{
    int i = 1;
    o->program = argv[0];
    o->accel = "jit";
    o->config.board = boards[0];
    o->config.vcpus = 1;
    while (i < argc && o->action == OPTIONS_RUN) {
        int ret = options_take(o, argc, argv, &i, err);
        if (ret) {
            return ret;
        }
    }
    o->config.fw_cfgs = o->fw_cfgs.items;
    o->config.fw_cfg_count = o->fw_cfgs.count;
    o->config.globals = o->globals.items;
    o->config.global_count = o->globals.count;
    if (!o->config.ram_size) {
        o->config.ram_size = o->config.board->default_ram;
    }
    return o->action == OPTIONS_RUN ? options_finish_cpus(o, err) : 0;
}

static void option_list_free(struct option_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        keyval_free(&l->items[i]);
    }
    free(l->items);
}

void options_free(struct options *o)
{
    keyval_free(&o->config.board_args);
    keyval_free(&o->config.rtc_args);
    keyval_free(&o->boot_args);
    options_free_cpus(o);
    option_list_free(&o->numas);
    option_list_free(&o->numa_mems);
    option_list_free(&o->chardevs);
    option_list_free(&o->drives);
    option_list_free(&o->blockdevs);
    option_list_free(&o->objects);
    option_list_free(&o->devices);
    option_list_free(&o->fw_cfgs);
    option_list_free(&o->globals);
    keyval_free(&o->window);
    keyval_free(&o->vnc);
    free(o->serials.items);
    free(o->parallels.items);
    free(o->monitors.items);
    option_list_free(&o->mons);
}
