/*
 * The program. The only place that prints error sentences and exits.
 * Also called as qemu-system-x86_64: the options are the same, the default machine is microvm.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "chardev/chardev.h"
#include "vmm/option_table.h"
#include "vmm/options.h"
#include "vmm/run.h"

#define HEAP_AT_START (96u << 10)

/* An assertion failed: the terminal must not stay raw. */
static void main_abort(int sig)
{
    chardev_restore_terminal();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* What a start takes of the heap (and the C library's first 132 KiB have), in one piece; one heap
 * for all threads: vcpus seldom allocate, and each thread's own costs it two mappings. */
static void main_heap(void)
{
#ifdef M_ARENA_MAX
    mallopt(M_ARENA_MAX, 1);
#endif
    void *first = malloc(1);
    alloc_touch(first, HEAP_AT_START);
    free(first);
}

static const char *main_name(const char *argv0)
{
    const char *slash = argv0 ? strrchr(argv0, '/') : NULL;
    return slash ? slash + 1 : argv0 ? argv0 : "lodge";
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err err = {""};
    if (argc < 1) {
        return 1;
    }
    main_heap();
    signal(SIGABRT, main_abort);
    atexit(chardev_restore_terminal);
    int ret = options_parse(&o, argc, argv, &err);
    o.program = main_name(argv[0]);
    if (!ret && o.action == OPTIONS_RUN) {
        options_warn_globals(&o);
        ret = run_machine(&o, &err);
    }
    options_free(&o);
    if (ret < 0) {
        chardev_restore_terminal();
        fprintf(stderr, "%s: %s\n", main_name(argv[0]), err.text);
        return 1;
    }
    return ret;
}
