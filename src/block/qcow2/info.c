/* What `info` tells of an image, as published for qcow2, and changing what is below it. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "block/cipher.h"
#include "block/qcow2/internal.h"

static json_t *info_encrypt(const struct qcow2 *s)
{
    if (s->crypt == QCOW2_CRYPT_AES) {
        return json_pack("{s:s}", "format", "aes");
    }
    json_t *luks = s->cipher ? luks_info(s->cipher) : json_object(), *all = json_object(), *value;
    const char *key;
    json_object_foreach(luks, key, value)
    {
        if (!strcmp(key, "cipher-mode")) { /* the order is seen in what people read */
            json_object_set_new(all, "format", json_string("luks"));
        }
        json_object_set(all, key, value);
    }
    json_decref(luks);
    json_object_set_new(all, "format", json_string("luks"));
    return all;
}

static json_t *info_data(struct qcow2 *s)
{
    json_t *d = json_object();
    bool v3 = s->version >= 3;
    json_object_set_new(d, "compat", json_string(v3 ? "1.1" : "0.10"));
    json_object_set_new(d, "compression-type", json_string(s->compression ? "zstd" : "zlib"));
    if (v3) {
        json_object_set_new(d, "lazy-refcounts",
                            json_boolean(s->compatible & QCOW2_LAZY_REFCOUNTS));
    }
    json_t *bitmaps = qcow2_bitmaps_info(s);
    if (bitmaps) {
        json_object_set_new(d, "bitmaps", bitmaps);
    }
    json_object_set_new(d, "refcount-bits", json_integer(1 << s->refcount_order));
    if (s->crypt) {
        json_object_set_new(d, "encrypt", info_encrypt(s));
    }
    if (s->data_file_name) {
        json_object_set_new(d, "data-file", json_string(s->data_file_name));
    }
    if (s->incompatible & QCOW2_DATA_FILE) {
        json_object_set_new(d, "data-file-raw", json_boolean(s->autoclear & QCOW2_DATA_FILE_RAW));
    }
    if (v3) {
        bool corrupt = s->is_corrupt || s->incompatible & QCOW2_CORRUPT;
        json_object_set_new(d, "corrupt", json_boolean(corrupt));
        json_object_set_new(d, "extended-l2", json_boolean(s->incompatible & QCOW2_EXTL2));
    }
    return d;
}

int qcow2_info(struct block *b, struct block_info *info, struct err *err)
{
    struct qcow2 *s = b->state;
    info->cluster_size = s->cluster_size;
    info->subcluster_size = s->subcluster_size;
    info->encrypted = s->crypt;
    info->dirty = s->incompatible & QCOW2_DIRTY;
    info->corrupt = s->is_corrupt || s->incompatible & QCOW2_CORRUPT;
    info->specific = json_pack("{s:s, s:o}", "type", "qcow2", "data", info_data(s));
    return info->specific ? 0 : err_set(err, ENOMEM, "no memory to describe '%s'", b->filename);
}

int qcow2_set_backing(struct block *b, const char *name, const char *format, struct err *err)
{
    struct qcow2 *s = b->state;
    if (name && strlen(name) > 1023) {
        return err_set(err, EINVAL, "a backing file name may have 1023 bytes, this has more");
    }
    if (name && s->autoclear & QCOW2_DATA_FILE_RAW) {
        return err_set(err, EINVAL, "'%s' has data-file-raw set and so can have no backing file",
                       b->filename);
    }
    if (s->is_corrupt) {
        return err_set(err, EIO, "'%s' is corrupt", b->filename);
    }
    char *old_name = b->backing_name, *old_format = b->backing_format;
    co_lock(&s->lock);
    int ret = qcow2_barrier(s); /* what was written with the old one in mind */
    b->backing_name = name && *name ? alloc_text(name) : NULL;
    b->backing_format = b->backing_name ? alloc_text(format) : NULL;
    ret = ret ? ret : qcow2_commit_header(s);
    co_unlock(&s->lock);
    if (ret) {
        free(b->backing_name);
        free(b->backing_format);
        b->backing_name = old_name;
        b->backing_format = old_format;
        return err_set(err, -ret, "cannot write the backing file name to '%s': %s", b->filename,
                       ret == -ENOSPC ? "its header has no room for it" : strerror(-ret));
    }
    free(old_name);
    free(old_format);
    return 0;
}
