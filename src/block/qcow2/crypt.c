/*
 * Encryption of the data of images (spec "Data encryption"): LUKS with its header in clusters of
 * the image, initial vectors by host offset; and the AES of old images, by guest offset. Tables and
 * headers are never encrypted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "block/cipher.h"
#include "block/qcow2/internal.h"

enum { WORTH_A_THREAD = 16 << 10 };

/* ---- Data ---- */

struct crypt_work {
    const struct cipher *cipher;
    uint64_t off;
    void *buf;
    size_t len;
};

static int crypt_do_encrypt(void *opaque)
{
    struct crypt_work *w = opaque;
    return cipher_encrypt(w->cipher, w->off, w->buf, w->len);
}

static int crypt_do_decrypt(void *opaque)
{
    struct crypt_work *w = opaque;
    return cipher_decrypt(w->cipher, w->off, w->buf, w->len);
}

static int crypt_run(struct qcow2 *s, int (*fn)(void *), uint64_t guest, uint64_t host, void *buf,
                     size_t len)
{
    if (!s->cipher) {
        return -EACCES;
    }
    struct crypt_work w = {s->cipher, s->crypt == QCOW2_CRYPT_LUKS ? host : guest, buf, len};
    return len >= WORTH_A_THREAD ? co_compute(fn, &w) : fn(&w);
}

int qcow2_encrypt(struct qcow2 *s, uint64_t guest, uint64_t host, void *buf, size_t len)
{
    return crypt_run(s, crypt_do_encrypt, guest, host, buf, len);
}

int qcow2_decrypt(struct qcow2 *s, uint64_t guest, uint64_t host, void *buf, size_t len)
{
    return crypt_run(s, crypt_do_decrypt, guest, host, buf, len);
}

/* ---- The LUKS header ---- */

static int luks_at(struct qcow2 *s, uint64_t off, size_t len)
{
    return off > s->crypt_len || len > s->crypt_len - off ? -EIO : 0;
}

static int luks_read(void *opaque, uint64_t off, void *buf, size_t len)
{
    struct qcow2 *s = opaque;
    int ret = luks_at(s, off, len);
    return ret ? ret : qcow2_file_read(s, s->crypt_off + off, buf, len);
}

static int luks_write(void *opaque, uint64_t off, const void *buf, size_t len)
{
    struct qcow2 *s = opaque;
    int ret = luks_at(s, off, len);
    return ret ? ret : block_pwrite(s->b->file, s->crypt_off + off, buf, len, 0);
}

void qcow2_luks_io(struct qcow2 *s, struct luks_io *io)
{
    *io = (struct luks_io){luks_read, luks_write, s};
}

/* ---- Opening ---- */

static int crypt_check_format(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    const char *want = keyval_get(opts, "encrypt.format");
    const char *is = s->crypt == QCOW2_CRYPT_LUKS ? "luks" : "aes";
    if (!want || !strcmp(want, is)) {
        return 0;
    }
    return err_set(err, EINVAL, "'%s' is encrypted with '%s', not '%s' as encrypt.format says",
                   s->b->filename, is, want);
}

int qcow2_crypt_open(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    if (!s->crypt) {
        return keyval_get(opts, "encrypt.format")
                   ? err_set(err, EINVAL, "'%s' is not encrypted, but encrypt.format is given",
                             s->b->filename)
                   : 0;
    }
    s->b->encrypted = true;
    const char *id = keyval_get(opts, "encrypt.key-secret");
    bool look = s->b->flags & (BLOCK_NO_IO | BLOCK_CHECK);
    uint8_t *secret = NULL;
    size_t len = 0;
    int ret = crypt_check_format(s, opts, err);
    if (!ret && !id && !look) {
        ret = err_set(err, EINVAL, "'%s' is encrypted: encrypt.key-secret must name its secret",
                      s->b->filename);
    }
    if (!ret && id && !(s->b->flags & BLOCK_NO_IO)) {
        ret = block_get_secret(s->b->graph, id, &secret, &len, err);
    }
    if (ret) {
        return ret;
    }
    s->o.key_secret = alloc_text(id);
    if (s->crypt == QCOW2_CRYPT_LUKS) {
        struct luks_io io;
        qcow2_luks_io(s, &io);
        s->cipher = luks_open(&io, secret, len, err);
    } else if (secret) {
        s->cipher = cipher_old_aes(secret, len, err);
    }
    bool failed = !s->cipher && (s->crypt == QCOW2_CRYPT_LUKS || secret);
    free(secret);
    return failed ? err_prefix(err, -EINVAL, "cannot unlock '%s'", s->b->filename) : 0;
}

/* ---- Creating ---- */

/* "encrypt.x" as "x", for the cipher. */
static void crypt_opts(const struct keyval *opts, struct keyval *out)
{
    for (size_t i = 0; i < opts->count; i++) {
        const char *key = opts->pairs[i].key;
        if (!strncmp(key, "encrypt.", 8) && strcmp(key, "encrypt.format") &&
            strcmp(key, "encrypt.key-secret")) {
            keyval_add(out, key + 8, opts->pairs[i].value);
        }
    }
}

/* Room in the image, all zero, then the header in it. */
static int crypt_create_luks(struct qcow2 *s, const struct keyval *opts, const uint8_t *secret,
                             size_t len, struct err *err)
{
    struct keyval own = {0};
    uint64_t bytes, off;
    crypt_opts(opts, &own);
    int ret = luks_header_bytes(&own, &bytes, err);
    if (!ret) {
        uint64_t clusters = (bytes + s->cluster_size - 1) >> s->cluster_bits;
        ret = qcow2_alloc(s, clusters, &off);
        ret = ret ? ret : block_zero(s->b->file, off, clusters << s->cluster_bits, 0);
        if (ret) {
            err_set(err, -ret, "no room for the encryption header of '%s'", s->b->filename);
        }
    }
    if (!ret) {
        struct luks_io io;
        s->crypt_off = off;
        s->crypt_len = bytes;
        qcow2_luks_io(s, &io);
        s->cipher = luks_create(&io, &own, secret, len, err);
        ret = s->cipher ? 0 : -EINVAL;
    }
    keyval_free(&own);
    return ret;
}

int qcow2_crypt_create(struct qcow2 *s, const struct keyval *opts, struct err *err)
{
    const char *format = keyval_get(opts, "encrypt.format");
    const char *id = keyval_get(opts, "encrypt.key-secret");
    if (!format) {
        return id ? err_set(err, EINVAL, "encrypt.key-secret needs encrypt.format") : 0;
    }
    if (strcmp(format, "luks") && strcmp(format, "aes")) {
        return err_set(err, EINVAL, "encrypt.format is luks or aes, not '%s'", format);
    }
    if (!id) {
        return err_set(err, EINVAL, "Parameter 'encrypt.key-secret' is required for cipher");
    }
    uint8_t *secret;
    size_t len;
    int ret = block_get_secret(s->b->graph, id, &secret, &len, err);
    if (ret) {
        return ret;
    }
    if (!strcmp(format, "luks")) {
        ret = crypt_create_luks(s, opts, secret, len, err);
        s->crypt = QCOW2_CRYPT_LUKS;
    } else {
        s->cipher = cipher_old_aes(secret, len, err);
        ret = s->cipher ? 0 : -EINVAL;
        s->crypt = QCOW2_CRYPT_AES;
    }
    free(secret);
    if (!ret) {
        ret = qcow2_barrier(s);
        ret = ret ? ret : block_flush(s->b->file);
        ret = ret ? ret : qcow2_write_header(s);
        if (ret) {
            err_set(err, -ret, "cannot write the header of '%s'", s->b->filename);
        }
    }
    return ret;
}
