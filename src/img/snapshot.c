/* snapshot: lists, makes, applies and deletes the snapshots inside an image. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/strbuf.h"
#include "img/img.h"

enum snapshot_action { SNAPSHOT_LIST, SNAPSHOT_CREATE, SNAPSHOT_APPLY, SNAPSHOT_DELETE };

static int snapshot_action(const struct img *img, enum snapshot_action *action, const char **name,
                           struct err *err)
{
    static const char *const names[] = {"list", "create", "apply", "delete"};
    unsigned count = 0;
    *action = SNAPSHOT_LIST;
    for (unsigned i = 0; i < 4; i++) {
        if (args_has(&img->args, names[i])) {
            *action = (enum snapshot_action)i;
            *name = args_text(&img->args, names[i]);
            count++;
        }
    }
    return count <= 1 ? 0 : err_set(err, EINVAL, "-l, -a, -c and -d exclude each other");
}

static int snapshot_create(struct block *b, const char *name, struct err *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct block_snapshot s = {
        .name = (char *)name,
        .date_sec = (uint32_t)now.tv_sec,
        .date_nsec = (uint32_t)now.tv_nsec,
        .icount = UINT64_MAX,
        .disk_size = block_size(b),
    };
    return block_snapshot_create(b, &s, err);
}

static int snapshot_list(struct block *b, struct err *err)
{
    struct strbuf sb = {NULL};
    int ret = img_snapshot_list(b, &sb, true, err);
    printf("%s", strbuf_text(&sb));
    strbuf_free(&sb);
    return ret;
}

static int snapshot_do(struct block *b, enum snapshot_action action, const char *name,
                       struct err *err)
{
    static const char *const verbs[] = {"list", "create", "apply", "delete"};
    int ret = action == SNAPSHOT_LIST     ? snapshot_list(b, err)
              : action == SNAPSHOT_CREATE ? snapshot_create(b, name, err)
              : action == SNAPSHOT_APPLY  ? block_snapshot_apply(b, name, err)
                                          : block_snapshot_delete(b, name, err);
    return ret && name ? err_prefix(err, ret, "Could not %s snapshot '%s'", verbs[action], name)
                       : ret;
}

static int snapshot_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    enum snapshot_action action;
    const char *name = NULL;
    int ret = img_operands(img, 1, "one image", err);
    ret = ret ? ret : snapshot_action(img, &action, &name, err);
    if (ret) {
        return ret;
    }
    unsigned flags = BLOCK_NO_BACKING | BLOCK_UNMAP;
    flags |= action == SNAPSHOT_LIST ? BLOCK_NO_IO : BLOCK_RDWR | BLOCK_RESIZE;
    if (action != SNAPSHOT_LIST && args_has(a, "force-share")) {
        return err_set(err, EINVAL, "-U is for reading only: it goes with -l");
    }
    struct block *b = img_open(img, a->operands[0], args_text(a, "format"), NULL, flags, err);
    if (!b) {
        return -EINVAL;
    }
    img_hold(NULL);
    ret = snapshot_do(b, action, name, err);
    ret = img_close(b, ret, err);
    img_release(false);
    return ret;
}

static const struct arg_row snapshot_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_SHARE,
    ARG_QUIET,
    ARG_NO_BACKING,
    {"list", 'l', NULL, "list them (what is done without another option)"},
    {"apply", 'a', "SNAPSHOT", "the disk becomes what it was"},
    {"create", 'c', "SNAPSHOT", "keep the disk as it is under this name"},
    {"delete", 'd', "SNAPSHOT", "delete it"},
    ARG_END,
};

const struct img_command cmd_snapshot = {
    .name = "snapshot",
    .summary = "snapshots inside an image",
    .operands = "FILENAME",
    .rows = snapshot_rows,
    .run = snapshot_run,
};
