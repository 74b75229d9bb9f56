/*
 * Key slots: the master key, spread over 4000 stripes so that losing a few bytes of a medium loses
 * it, encrypted with a key made from a password. LUKS On-Disk Format 1.2.3, sections 2.4 and 3.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "block/crypt/cipher_internal.h"
#include "loop/co.h"

enum { MIN_ITERATIONS = 1000 };

/* ---- Spreading ---- */

static void diffuse(const struct nettle_hash *h, uint8_t *buf, size_t len)
{
    uint8_t digest[ALG_MAX_DIGEST];
    AUTO_FREE void *ctx = alloc_zero(h->context_size);
    uint32_t i = 0;
    for (size_t at = 0; at < len; at += h->digest_size, i++) {
        size_t n = len - at < h->digest_size ? len - at : h->digest_size;
        uint8_t number[4];
        store_be32(number, i);
        h->init(ctx);
        h->update(ctx, 4, number);
        h->update(ctx, n, buf + at);
        h->digest(ctx, h->digest_size, digest);
        memcpy(buf + at, digest, n);
    }
}

static void xor_into(uint8_t *to, const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[i] ^= from[i];
    }
}

static void af_merge(const struct nettle_hash *h, const uint8_t *stripes, uint32_t count,
                     size_t len, uint8_t *key)
{
    memset(key, 0, len);
    for (uint32_t i = 0; i < count; i++) {
        xor_into(key, stripes + i * len, len);
        if (i + 1 < count) {
            diffuse(h, key, len);
        }
    }
}

static int af_split(const struct nettle_hash *h, const uint8_t *key, uint32_t count, size_t len,
                    uint8_t *stripes)
{
    uint8_t d[ALG_MAX_KEY] = {0};
    uint8_t *last = stripes + (count - 1) * len;
    int ret = crypt_random(stripes, (count - 1) * len);
    for (uint32_t i = 0; !ret && i + 1 < count; i++) {
        xor_into(d, stripes + i * len, len);
        diffuse(h, d, len);
    }
    memcpy(last, key, len);
    xor_into(last, d, len);
    explicit_bzero(d, sizeof(d));
    return ret;
}

/* ---- Keys from passwords ---- */

struct derive {
    const struct nettle_hash *hash;
    const uint8_t *secret, *salt;
    size_t secret_len, out_len;
    uint32_t iterations;
    uint64_t speed;
    uint8_t *out;
};

static int derive_work(void *opaque)
{
    struct derive *d = opaque;
    if (d->iterations) {
        alg_pbkdf2(d->hash, d->secret, d->secret_len, d->salt, LUKS_SALT, d->iterations, d->out,
                   d->out_len);
    } else {
        d->speed = alg_pbkdf2_speed(d->hash, d->out_len);
    }
    return 0;
}

static void derive(const struct cipher *c, const uint8_t *secret, size_t len, const uint8_t *salt,
                   uint32_t iterations, uint8_t *out, size_t out_len)
{
    struct derive d = {c->luks.hash, secret, salt, len, out_len, iterations, 0, out};
    co_compute(derive_work, &d);
}

static uint32_t iterations_for(const struct cipher *c, size_t out_len, uint64_t ms)
{
    struct derive d = {.hash = c->luks.hash, .out_len = out_len};
    co_compute(derive_work, &d);
    unsigned __int128 n = (unsigned __int128)d.speed * ms / 1000;
    return n < MIN_ITERATIONS        ? MIN_ITERATIONS
           : n > LUKS_MAX_ITERATIONS ? LUKS_MAX_ITERATIONS
                                     : (uint32_t)n;
}

static void slot_cipher(const struct cipher *c, const uint8_t *key, struct sector_cipher *s)
{
    *s = c->sectors;
    s->enc = s->dec = s->tweak = s->essiv = NULL;
    sector_cipher_set_key(s, key);
}

static size_t slot_bytes(const struct cipher *c, const struct luks_slot *s)
{
    return ((size_t)c->sectors.key_bytes * s->stripes + LUKS_SECTOR - 1) & ~(size_t)511;
}

static void key_digest(const struct cipher *c, const uint8_t *key, uint8_t *digest)
{
    derive(c, key, c->sectors.key_bytes, c->luks.digest_salt, c->luks.digest_iterations, digest,
           LUKS_DIGEST);
}

/* 1: it opens the slot. */
static int try_slot(struct cipher *c, const struct luks_io *io, const struct luks_slot *s,
                    const uint8_t *secret, size_t len, uint8_t *master)
{
    uint8_t key[ALG_MAX_KEY], digest[LUKS_DIGEST];
    size_t bytes = slot_bytes(c, s);
    AUTO_FREE uint8_t *material = calloc(1, bytes);
    struct sector_cipher sc;
    int ret = material
                  ? io->read(io->opaque, (uint64_t)s->key_sector * LUKS_SECTOR, material, bytes)
                  : -ENOMEM;
    if (ret) {
        return ret;
    }
    derive(c, secret, len, s->salt, s->iterations, key, c->sectors.key_bytes);
    slot_cipher(c, key, &sc);
    sector_cipher_run(&sc, 0, material, bytes, false);
    af_merge(c->luks.hash, material, s->stripes, c->sectors.key_bytes, master);
    key_digest(c, master, digest);
    sector_cipher_free(&sc);
    explicit_bzero(key, sizeof(key));
    explicit_bzero(material, bytes);
    return !memcmp(digest, c->luks.digest, LUKS_DIGEST);
}

/* Hashes to find out whether a password opens the slot; each is two. */
static uint64_t slot_work(const struct cipher *c, const struct luks_slot *s)
{
    size_t one = c->luks.hash->digest_size;
    return (uint64_t)s->iterations * ((c->sectors.key_bytes + one - 1) / one) +
           (uint64_t)c->luks.digest_iterations * ((LUKS_DIGEST + one - 1) / one);
}

int luks_try_slots(struct cipher *c, const struct luks_io *io, const uint8_t *secret, size_t len,
                   int *slot, struct err *err)
{
    uint8_t master[ALG_MAX_KEY];
    uint64_t work = 0;
    int ret = 0;
    *slot = -1;
    for (int i = 0; ret == 0 && i < LUKS_SLOTS; i++) {
        if (c->luks.slot[i].active) {
            work += slot_work(c, &c->luks.slot[i]);
            if (work > LUKS_MAX_WORK) {
                explicit_bzero(master, sizeof(master));
                return err_set(
                    err, EINVAL,
                    "no LUKS key slot before number %d opens, and with it they want more "
                    "than %u hashes",
                    i, LUKS_MAX_WORK);
            }
            ret = try_slot(c, io, &c->luks.slot[i], secret, len, master);
            *slot = i;
        }
    }
    if (ret == 1) {
        memcpy(c->luks.master_key, master, sizeof(master));
        c->luks.unlocked = true;
    }
    explicit_bzero(master, sizeof(master));
    return ret == 1 ? 0
           : ret    ? err_set(err, -ret, "cannot read the key slots: %s", strerror(-ret))
                    : err_set(err, EPERM, "Invalid password, cannot unlock any keyslot");
}

int luks_fill_slot(struct cipher *c, const struct luks_io *io, unsigned slot, const uint8_t *secret,
                   size_t len, uint64_t ms, struct err *err)
{
    struct luks_slot *s = &c->luks.slot[slot];
    uint8_t key[ALG_MAX_KEY];
    struct sector_cipher sc;
    size_t bytes = slot_bytes(c, s);
    AUTO_FREE uint8_t *material = calloc(1, bytes);
    s->stripes = LUKS_STRIPES;
    s->iterations = iterations_for(c, c->sectors.key_bytes, ms);
    int ret = material ? crypt_random(s->salt, LUKS_SALT) : -ENOMEM;
    ret = ret ? ret
              : af_split(c->luks.hash, c->luks.master_key, s->stripes, c->sectors.key_bytes,
                         material);
    if (!ret) {
        derive(c, secret, len, s->salt, s->iterations, key, c->sectors.key_bytes);
        slot_cipher(c, key, &sc);
        sector_cipher_run(&sc, 0, material, bytes, true);
        sector_cipher_free(&sc);
        explicit_bzero(key, sizeof(key));
        ret = io->write(io->opaque, (uint64_t)s->key_sector * LUKS_SECTOR, material, bytes);
    }
    s->active = !ret;
    return ret ? err_set(err, -ret, "cannot write key slot %u: %s", slot, strerror(-ret)) : 0;
}

/* The key material goes first: what is left then opens nothing. */
int luks_erase_slot(struct cipher *c, const struct luks_io *io, unsigned slot, struct err *err)
{
    struct luks_slot *s = &c->luks.slot[slot];
    size_t bytes = slot_bytes(c, s);
    AUTO_FREE uint8_t *noise = calloc(1, bytes);
    int ret = noise ? crypt_random(noise, bytes) : -ENOMEM;
    ret = ret ? ret : io->write(io->opaque, (uint64_t)s->key_sector * LUKS_SECTOR, noise, bytes);
    if (!ret) {
        s->active = false;
        s->iterations = 0;
        memset(s->salt, 0, LUKS_SALT);
        ret = luks_write_header(c, io);
    }
    return ret ? err_set(err, -ret, "cannot erase key slot %u: %s", slot, strerror(-ret)) : 0;
}

/* Also the digest by which a key is recognised, when a header is made. */
int luks_make_digest(struct cipher *c, uint64_t ms)
{
    c->luks.digest_iterations = iterations_for(c, LUKS_DIGEST, ms);
    int ret = crypt_random(c->luks.digest_salt, LUKS_SALT);
    if (!ret) {
        key_digest(c, c->luks.master_key, c->luks.digest);
    }
    return ret;
}
