/*
 * The image tool: lodge-img, also called as qemu-img, whose commands and options it takes. Only
 * this file prints error sentences and ends the program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/near.h"
#include "img/img.h"
#include "loop/co.h"
#include "loop/loop.h"

#define COMMANDS_MAX 32
#define EXIT_STOPPED 130

const struct img_command *const img_commands[] = {
    &cmd_amend,   &cmd_bench,  &cmd_bitmap,   &cmd_check, &cmd_commit, &cmd_compare,
    &cmd_convert, &cmd_create, &cmd_dd,       &cmd_info,  &cmd_map,    &cmd_measure,
    &cmd_rebase,  &cmd_resize, &cmd_snapshot, NULL,
};

static const struct arg_row main_rows[] = {
    {"help", 'h', NULL, "show this; after a command: its options"},
    {"version", 'V', NULL, "show the version"},
    {"trace", 'T', "PATTERN", "accepted, without effect"},
    ARG_END,
};

static void print_version(const struct img *img)
{
    printf("%s version %s\n", img->program, LODGE_VERSION);
}

static void print_formats(void)
{
    const char **names = block_format_names();
    printf("\nSupported formats:");
    for (size_t i = 0; names && names[i]; i++) {
        printf(" %s", names[i]);
    }
    printf("\n");
    free(names);
}

static void print_help(const struct img *img)
{
    print_version(img);
    printf("usage: %s [OPTIONS] COMMAND [COMMAND OPTIONS]\n\nOptions:\n", img->program);
    args_print(stdout, main_rows);
    printf("\nCommands (each with --help):\n");
    for (size_t i = 0; img_commands[i]; i++) {
        printf("  %-10s %s\n", img_commands[i]->name, img_commands[i]->summary);
    }
    print_formats();
}

static void print_command_help(const struct img *img)
{
    printf("usage: %s %s [OPTIONS] %s\n%s\n\nOptions:\n", img->program, img->command->name,
           img->command->operands, img->command->summary);
    args_print(stdout, img->command->rows);
    print_formats();
}

static int find_command(struct img *img, const char *name, struct err *err)
{
    const char *names[COMMANDS_MAX];
    size_t n = 0;
    for (; img_commands[n]; n++) {
        names[n] = img_commands[n]->name;
        if (!strcmp(name, names[n])) {
            img->command = img_commands[n];
            return 0;
        }
    }
    return err_set(err, EINVAL, "there is no command '%s'; the nearest is '%s'", name,
                   near_pick(name, names, n));
}

/* Options that mean the same everywhere. */
static int take_common(struct img *img, struct err *err)
{
    img->quiet = args_has(&img->args, "quiet");
    if (args_has(&img->args, "no-backing")) {
        block_graph_refuse_backing(img->graph);
    }
    for (size_t i = 0; i < img->args.count; i++) {
        if (strcmp(img->args.given[i].row->name, "object") != 0) {
            continue;
        }
        struct keyval kv = {NULL};
        int ret = keyval_parse(&kv, img->args.given[i].value, "qom-type", err);
        ret = ret ? ret : block_add_object(img->graph, &kv, err);
        keyval_free(&kv);
        if (ret) {
            return err_prefix(err, ret, "--object");
        }
    }
    return 0;
}

struct main_run {
    struct img *img;
    struct err *err;
    int ret;
};

static void main_co(void *opaque)
{
    struct main_run *r = opaque;
    r->ret = r->img->command->run(r->img, r->err);
}

static int run_command(struct img *img, struct err *err)
{
    img->loop = loop_new(err);
    if (!img->loop) {
        return -ENOMEM;
    }
    img->graph = block_graph_new(img->loop);
    struct main_run r = {.img = img, .err = err};
    r.ret = take_common(img, err);
    if (!r.ret) {
        co_run(img->loop, main_co, &r);
    }
    block_graph_free(img->graph);
    loop_free(img->loop);
    return r.ret;
}

/* Runs what argv[0] names. */
static int command_main(struct img *img, int argc, char **argv, struct err *err)
{
    int ret = find_command(img, argv[0], err);
    char *last = NULL;
    if (ret) {
        return ret;
    }
    /* "resize IMAGE -1G": not an option. */
    if (img->command->signed_operand && argc > 1 && argv[argc - 1][0] == '-' &&
        strchr("0123456789", argv[argc - 1][1]) && argv[argc - 1][1]) {
        last = argv[--argc];
    }
    ret = args_parse(&img->args, img->command->rows, argc, argv, err);
    if (!ret && last) {
        img->args.operands[img->args.operand_count++] = last;
    }
    if (!ret && args_has(&img->args, "help")) {
        print_command_help(img);
    } else if (!ret) {
        ret = run_command(img, err);
    }
    args_free(&img->args);
    return ret;
}

/* How many words come before the command; -1: nothing is left to do. */
static int main_options(struct img *img, int argc, char **argv, struct err *err)
{
    int at = 1;
    while (at < argc && argv[at][0] == '-') {
        const char *w = argv[at++];
        bool trace = !strncmp(w, "-T", 2) || !strncmp(w, "--trace", 7);
        if (!strcmp(w, "-h") || !strcmp(w, "--help")) {
            print_help(img);
            return -1;
        }
        if (!strcmp(w, "-V") || !strcmp(w, "--version")) {
            print_version(img);
            return -1;
        }
        if (!trace) {
            static const char *const names[] = {"--help", "--version", "--trace"};
            err_set(err, EINVAL, "unknown option '%s'; the nearest is '%s'", w,
                    near_pick(w, names, 3));
            return 0;
        }
        at += !strcmp(w, "-T") || !strcmp(w, "--trace");
    }
    if (at >= argc) {
        err_set(err, EINVAL, "which command? '%s --help' lists them", img->program);
        return 0;
    }
    return at;
}

static int main_finish(const struct img *img, int ret, const struct err *err)
{
    if (ret == -EINTR && img_stopped()) {
        img_error(img, err);
        return EXIT_STOPPED;
    }
    if (ret < 0) {
        img_error(img, err);
        return 1;
    }
    if (fflush(stdout) && !ret) {
        return 1;
    }
    return ret;
}

int main(int argc, char **argv)
{
    struct img img = {.program = "lodge-img"};
    struct err err = {""};
    if (argc > 0 && argv[0]) {
        const char *slash = strrchr(argv[0], '/');
        img.program = slash ? slash + 1 : argv[0];
    }
    img_signals_init();
    int at = main_options(&img, argc, argv, &err);
    if (at < 0) {
        return 0;
    }
    int ret = at ? command_main(&img, argc - at, argv + at, &err) : -EINVAL;
    return main_finish(&img, ret, &err);
}
