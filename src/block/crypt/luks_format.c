/*
 * Format "luks": an encrypted image. A LUKS header, then sectors encrypted by their number.
 *
 * Does not do: detached headers.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/cipher.h"
#include "block/driver.h"
#include "loop/co.h"

enum { PIECE = 1 << 20, SECTOR = 512, OFFLOAD_FROM = 16 << 10 };

struct luks_image {
    struct cipher *cipher;
    uint64_t payload;
};

static int io_read(void *opaque, uint64_t off, void *buf, size_t len)
{
    return block_pread(opaque, off, buf, len);
}

static int io_write(void *opaque, uint64_t off, const void *buf, size_t len)
{
    return block_pwrite(opaque, off, buf, len, 0);
}

static struct luks_io luks_io_of(struct block *file)
{
    return (struct luks_io){io_read, io_write, file};
}

static int luks_probe(const uint8_t *head, size_t n, const char *name)
{
    return n >= 8 && !memcmp(head, "LUKS\xba\xbe\x00\x01", 8) ? 100 : 0;
}

static int luks_image_open(struct block *b, const struct keyval *opts, struct err *err)
{
    struct luks_image *l = b->state;
    const char *id = keyval_get(opts, "key-secret");
    AUTO_FREE uint8_t *secret = NULL;
    size_t len = 0;
    if (!id && !(b->flags & BLOCK_NO_IO)) {
        return err_set(err, EINVAL,
                       "Parameter 'key-secret' is required for cipher ('%s' is "
                       "encrypted: add --object secret,id=ID,file=... and "
                       "key-secret=ID)",
                       b->filename);
    }
    int ret = id ? block_get_secret(b->graph, id, &secret, &len, err) : 0;
    if (ret) {
        return ret;
    }
    struct luks_io io = luks_io_of(b->file);
    l->cipher = luks_open(&io, secret, len, err);
    if (!l->cipher) {
        return err_prefix(err, -EINVAL, "'%s'", b->filename);
    }
    l->payload = luks_payload(l->cipher);
    uint64_t all = block_size(b->file);
    if (l->payload > all) {
        cipher_free(l->cipher);
        return err_set(err, EINVAL, "'%s' ends before its data begins", b->filename);
    }
    b->size = round_down(all - l->payload, SECTOR);
    b->align = SECTOR;
    b->encrypted = true;
    return 0;
}

static int luks_image_close(struct block *b)
{
    cipher_free(((struct luks_image *)b->state)->cipher);
    return 0;
}

/* ---- Data ---- */

struct crypt_job {
    const struct cipher *c;
    uint64_t off;
    void *buf;
    size_t len;
    bool encrypt;
};

static int crypt_work(void *opaque)
{
    struct crypt_job *j = opaque;
    return j->encrypt ? cipher_encrypt(j->c, j->off, j->buf, j->len)
                      : cipher_decrypt(j->c, j->off, j->buf, j->len);
}

static int crypt_piece(const struct luks_image *l, uint64_t off, void *buf, size_t len,
                       bool encrypt)
{
    struct crypt_job j = {l->cipher, off, buf, len, encrypt};
    return len >= OFFLOAD_FROM ? co_compute(crypt_work, &j) : crypt_work(&j);
}

static int luks_preadv(struct block *b, uint64_t off, const struct iovs *q)
{
    struct luks_image *l = b->state;
    AUTO_FREE uint8_t *buf = block_alloc(q->len < PIECE ? q->len : PIECE);
    int ret = buf ? 0 : -ENOMEM;
    for (uint64_t done = 0; !ret && done < q->len; done += PIECE) {
        size_t n = q->len - done < PIECE ? q->len - done : PIECE;
        ret = block_pread(b->file, l->payload + off + done, buf, n);
        ret = ret ? ret : crypt_piece(l, off + done, buf, n, false);
        if (!ret) {
            iovs_put(q, done, buf, n);
        }
    }
    return ret;
}

static int luks_pwritev(struct block *b, uint64_t off, const struct iovs *q, unsigned flags)
{
    struct luks_image *l = b->state;
    AUTO_FREE uint8_t *buf = block_alloc(q->len < PIECE ? q->len : PIECE);
    int ret = buf ? 0 : -ENOMEM;
    for (uint64_t done = 0; !ret && done < q->len; done += PIECE) {
        size_t n = q->len - done < PIECE ? q->len - done : PIECE;
        iovs_get(q, done, buf, n);
        ret = crypt_piece(l, off + done, buf, n, true);
        ret = ret ? ret : block_pwrite(b->file, l->payload + off + done, buf, n, 0);
    }
    return ret;
}

static int luks_extent(struct block *b, uint64_t off, uint64_t len, struct block_extent *e)
{
    *e = (struct block_extent){len, EXTENT_DATA | EXTENT_ALLOCATED, 0, NULL, 0};
    return 0; /* a hole below is no zeros here */
}

static int luks_truncate(struct block *b, uint64_t size, enum block_prealloc prealloc,
                         struct err *err)
{
    struct luks_image *l = b->state;
    if (size > BLOCK_MAX_SIZE - l->payload) {
        return err_set(err, EFBIG, "The requested file size is too large");
    }
    int ret = block_truncate(b->file, size + l->payload, prealloc, err);
    b->size = ret ? b->size : size;
    return ret;
}

static int luks_image_info(struct block *b, struct block_info *info, struct err *err)
{
    struct luks_image *l = b->state;
    info->specific = json_pack("{s:s, s:o}", "type", "luks", "data", luks_info(l->cipher));
    return 0;
}

/* ---- Making ---- */

static int luks_secret(struct block_graph *g, const struct keyval *opts, const char *key,
                       uint8_t **secret, size_t *len, struct err *err)
{
    const char *id = keyval_get(opts, key);
    return id ? block_get_secret(g, id, secret, len, err)
              : err_set(err, EINVAL, "Parameter '%s' is required for cipher", key);
}

static int luks_image_create(const struct block_new *n, struct err *err)
{
    AUTO_FREE uint8_t *secret = NULL;
    size_t len = 0;
    uint64_t header = 0;
    enum block_prealloc prealloc;
    int ret = block_opt_prealloc(n->opts, &prealloc, err);
    ret = ret ? ret : luks_secret(n->graph, n->opts, "key-secret", &secret, &len, err);
    ret = ret ? ret : luks_header_bytes(n->opts, &header, err);
    if (!ret && n->size > BLOCK_MAX_SIZE - header) {
        ret = err_set(err, EFBIG, "The requested file size is too large");
    }
    ret = ret ? ret : block_truncate(n->file, header + n->size, prealloc, err);
    if (ret) {
        return ret;
    }
    struct luks_io io = luks_io_of(n->file);
    struct cipher *c = luks_create(&io, n->opts, secret, len, err);
    cipher_free(c);
    return c ? 0 : -EINVAL;
}

static int luks_measure(const struct keyval *opts, struct block *from, struct block_measure *m,
                        struct err *err)
{
    uint64_t size = from ? block_size(from) : 0, header = 0;
    int ret = from ? 0 : block_opt_size(opts, "size", &size, err);
    ret = ret ? ret : luks_header_bytes(opts, &header, err);
    m->required = m->fully_allocated = round_up(size, SECTOR) + header;
    return ret;
}

static int luks_amend(struct block *b, const struct keyval *opts, bool force,
                      void (*progress)(void *, uint64_t, uint64_t), void *opaque, struct err *err)
{
    struct luks_image *l = b->state;
    const char *state = keyval_get(opts, "state"), *slot = keyval_get(opts, "keyslot");
    AUTO_FREE uint8_t *new_secret = NULL, *old_secret = NULL;
    struct luks_slot_change ch = {.force = force, .keyslot = -1};
    uint64_t n = 0;
    if (!state || (strcmp(state, "active") && strcmp(state, "inactive"))) {
        return err_set(err, EINVAL, "Parameter 'state' is required: active or inactive");
    }
    ch.activate = !strcmp(state, "active");
    int ret = slot ? value_u64("keyslot", slot, 7, &n, err) : 0;
    ch.keyslot = slot ? (int)n : -1;
    const char *time = keyval_get(opts, "iter-time");
    ret = !ret && time ? value_u64("iter-time", time, 1000000, &ch.iter_time_ms, err) : ret;
    if (!ret && (ch.activate || keyval_get(opts, "new-secret"))) {
        ret = luks_secret(b->graph, opts, "new-secret", &new_secret, &ch.new_len, err);
    }
    if (!ret && keyval_get(opts, "old-secret")) {
        ret = luks_secret(b->graph, opts, "old-secret", &old_secret, &ch.old_len, err);
    }
    ch.new_secret = new_secret;
    ch.old_secret = old_secret;
    struct luks_io io = luks_io_of(b->file);
    return ret ? ret : luks_change_slot(l->cipher, &io, &ch, err);
}

static const struct block_opt luks_open_opts[] = {
    {"key-secret", "str", "ID of the secret that provides the keyslot key", NULL},
    {0},
};

static const struct block_opt luks_create_opts[] = {
    {"size", "size", "Virtual disk size", NULL},
    {"key-secret", "str", "ID of the secret that provides the keyslot key", NULL},
    {"cipher-alg", "str", "Name of encryption cipher algorithm", NULL},
    {"cipher-mode", "str", "Name of encryption cipher mode", NULL},
    {"ivgen-alg", "str", "Name of IV generator algorithm", NULL},
    {"ivgen-hash-alg", "str", "Name of IV generator hash algorithm", NULL},
    {"hash-alg", "str", "Name of encryption hash algorithm", NULL},
    {"iter-time", "num", "Time to spend in PBKDF in milliseconds", NULL},
    {"preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)", NULL},
    {0},
};

static const struct block_opt luks_amend_opts[] = {
    {"state", "str", "Select new state of affected keyslots (active/inactive)", NULL},
    {"keyslot", "num", "Select a single keyslot to modify explicitly", NULL},
    {"old-secret", "str", "Select all keyslots that match this password", NULL},
    {"new-secret", "str", "New secret to set in the matching keyslots", NULL},
    {"iter-time", "num", "Time to spend in PBKDF in milliseconds", NULL},
    {0},
};

const struct block_type luks_type = {
    .name = "luks",
    .summary = "LUKS version 1 encryption",
    .spec = "luks1",
    .size = sizeof(struct luks_image),
    .open_opts = luks_open_opts,
    .create_opts = luks_create_opts,
    .amend_opts = luks_amend_opts,
    .probe = luks_probe,
    .open = luks_image_open,
    .close = luks_image_close,
    .preadv = luks_preadv,
    .pwritev = luks_pwritev,
    .extent = luks_extent,
    .truncate = luks_truncate,
    .create = luks_image_create,
    .info = luks_image_info,
    .amend = luks_amend,
    .measure = luks_measure,
};
