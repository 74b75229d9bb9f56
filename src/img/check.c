/* check: is the metadata of an image consistent? The exit status tells: 0 yes, 1 it could not be
 * found out, 2 it is corrupt, 3 it only wastes space, 63 the format has no checks. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img/img.h"

enum { CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_NONE = 63 };

struct check {
    struct img *img;
    struct block *b;
    struct check_report r;
    bool json;
    unsigned repair;
};

static void check_say(void *opaque, const char *text)
{
    const struct check *c = opaque;
    if (!c->img->quiet) {
        fprintf(c->json ? stderr : stdout, "%s\n", text);
    }
}

static void check_add(json_t *j, const char *key, uint64_t value, bool always)
{
    if (value || always) {
        json_object_set_new(j, key, json_integer((json_int_t)value));
    }
}

static void check_print_json(const struct check *c)
{
    const struct check_report *r = &c->r;
    json_t *j = json_object();
    json_object_set_new(j, "filename", json_string(c->img->args.operands[0]));
    json_object_set_new(j, "format", json_string(block_format(c->b)));
    check_add(j, "check-errors", r->check_errors, true);
    check_add(j, "image-end-offset", r->image_end, false);
    check_add(j, "corruptions", r->corruptions, false);
    check_add(j, "leaks", r->leaks, false);
    check_add(j, "corruptions-fixed", r->corruptions_fixed, false);
    check_add(j, "leaks-fixed", r->leaks_fixed, false);
    check_add(j, "total-clusters", r->total_clusters, false);
    check_add(j, "allocated-clusters", r->allocated, false);
    check_add(j, "fragmented-clusters", r->fragmented, false);
    check_add(j, "compressed-clusters", r->compressed, false);
    img_print_json(j);
    json_decref(j);
}

static void check_print_findings(const struct check_report *r)
{
    if (!(r->corruptions || r->leaks || r->check_errors)) {
        printf("No errors were found on the image.\n");
        return;
    }
    if (r->corruptions) {
        printf("\n%llu errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               (unsigned long long)r->corruptions);
    }
    if (r->leaks) {
        printf("\n%llu leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               (unsigned long long)r->leaks);
    }
    if (r->check_errors) {
        printf("\n%llu internal errors have occurred during the check.\n",
               (unsigned long long)r->check_errors);
    }
}

static void check_print(const struct check *c)
{
    const struct check_report *r = &c->r;
    check_print_findings(r);
    if (r->total_clusters && r->allocated) {
        double all = (double)r->total_clusters, used = (double)r->allocated;
        printf("%llu/%llu = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
               (unsigned long long)r->allocated, (unsigned long long)r->total_clusters,
               used * 100.0 / all, (double)r->fragmented * 100.0 / used,
               (double)r->compressed * 100.0 / used);
    }
    if (r->image_end) {
        printf("Image end offset: %llu\n", (unsigned long long)r->image_end);
    }
}

/* After a repair: what is left is counted anew. */
static int check_again(struct check *c, struct err *err)
{
    struct check_report first = c->r;
    if (!c->json && !c->img->quiet) {
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %llu leaked clusters\n    %llu corruptions\n\n"
               "Double checking the fixed image now...\n",
               (unsigned long long)first.leaks_fixed, (unsigned long long)first.corruptions_fixed);
    }
    c->r = (struct check_report){.say = first.say, .opaque = first.opaque};
    int ret = block_check(c->b, 0, &c->r, err);
    c->r.leaks_fixed = first.leaks_fixed;
    c->r.corruptions_fixed = first.corruptions_fixed;
    return ret;
}

static int check_image(struct check *c, struct err *err)
{
    c->r = (struct check_report){.say = check_say, .opaque = c};
    int ret = block_check(c->b, c->repair, &c->r, err);
    if (ret == -ENOTSUP) {
        err_set(err, ENOTSUP, "This image format does not support checks: '%s' is %s",
                c->img->args.operands[0], block_format(c->b));
        img_error(c->img, err);
        return CHECK_NONE;
    }
    if (!ret && (c->r.leaks_fixed || c->r.corruptions_fixed)) {
        ret = check_again(c, err);
    }
    if (ret) {
        return ret;
    }
    if (c->json) {
        check_print_json(c);
    } else if (!c->img->quiet) {
        check_print(c);
    }
    if (c->r.check_errors) {
        return CHECK_FAILED;
    }
    return c->r.corruptions ? CHECK_CORRUPT : c->r.leaks ? CHECK_LEAKS : 0;
}

static int check_options(struct check *c, struct err *err)
{
    const char *repair = args_text(&c->img->args, "repair");
    int ret = img_operands(c->img, 1, "one image", err);
    ret = ret ? ret : img_wants_json(c->img, &c->json, err);
    if (!ret && repair && strcmp(repair, "leaks") != 0 && strcmp(repair, "all") != 0) {
        ret = err_set(err, EINVAL, "-r must be 'leaks' or 'all', not '%s'", repair);
    }
    c->repair = !repair ? 0 : !strcmp(repair, "all") ? REPAIR_LEAKS | REPAIR_ERRORS : REPAIR_LEAKS;
    return ret;
}

static int check_run(struct img *img, struct err *err)
{
    const struct args *a = &img->args;
    struct check c = {.img = img};
    int ret = check_options(&c, err);
    if (ret) {
        return ret;
    }
    unsigned flags = BLOCK_CHECK | BLOCK_NO_BACKING | (c.repair ? BLOCK_RDWR | BLOCK_RESIZE : 0);
    c.b = img_open(img, a->operands[0], args_text(a, "format"), args_text(a, "src-cache"), flags,
                   err);
    if (!c.b) {
        return -EINVAL;
    }
    img_hold(NULL);
    ret = check_image(&c, err);
    int closed = img_close(c.b, ret < 0 ? ret : 0, err);
    img_release(false);
    return closed ? closed : ret;
}

static const struct arg_row check_rows[] = {
    ARG_HELP,
    ARG_OBJECT,
    ARG_IMAGE_OPTS,
    ARG_FORMAT,
    ARG_OUTPUT,
    ARG_SRC_CACHE,
    ARG_SHARE,
    ARG_QUIET,
    ARG_NO_BACKING,
    {"repair", 'r', "WHAT", "leaks: give wasted space back; all: also repair errors"},
    ARG_END,
};

const struct img_command cmd_check = {
    .name = "check",
    .summary = "look for errors in an image, and repair them",
    .operands = "FILENAME",
    .rows = check_rows,
    .run = check_run,
};
