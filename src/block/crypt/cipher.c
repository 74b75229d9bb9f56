/* Encryption of sectors: cipher, mode, initial vector. Contexts do not change after the keys are
 * set, so that several threads can use one. */
#include "block/crypt/cipher_internal.h"

#include <errno.h>
#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/xts.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"

enum { SECTOR = 512, MAX_BLOCK = 16 };

static void set_essiv(struct sector_cipher *s, const uint8_t *key)
{
    uint8_t digest[ALG_MAX_DIGEST];
    AUTO_FREE void *ctx = alloc_zero(s->essiv_hash->context_size);
    s->essiv_hash->init(ctx);
    s->essiv_hash->update(ctx, s->key_bytes, key);
    s->essiv_hash->digest(ctx, s->essiv_hash->digest_size, digest);
    s->essiv = alloc_zero(s->essiv_cipher->context_size);
    s->essiv_cipher->set_encrypt_key(s->essiv, digest);
    explicit_bzero(digest, sizeof(digest));
}

void sector_cipher_set_key(struct sector_cipher *s, const uint8_t *key)
{
    const struct nettle_cipher *n = s->alg->nettle;
    s->enc = alloc_zero(n->context_size);
    s->dec = alloc_zero(n->context_size);
    n->set_encrypt_key(s->enc, key);
    n->set_decrypt_key(s->dec, key);
    if (s->mode == MODE_XTS) {
        s->tweak = alloc_zero(n->context_size);
        n->set_encrypt_key(s->tweak, key + s->alg->key_bytes);
    }
    if (s->iv == IV_ESSIV) {
        set_essiv(s, key);
    }
}

static void free_key(void *ctx, size_t len)
{
    if (ctx) {
        explicit_bzero(ctx, len);
        free(ctx);
    }
}

void sector_cipher_free(struct sector_cipher *s)
{
    size_t n = s->alg ? s->alg->nettle->context_size : 0;
    free_key(s->enc, n);
    free_key(s->dec, n);
    free_key(s->tweak, n);
    free_key(s->essiv, s->essiv_cipher ? s->essiv_cipher->context_size : 0);
    s->enc = s->dec = s->tweak = s->essiv = NULL;
}

int sector_cipher_check(struct sector_cipher *s, struct err *err)
{
    unsigned block = s->alg->nettle->block_size;
    if (s->mode == MODE_XTS && block != 16) {
        return err_set(err, EINVAL, "the mode xts needs a cipher with blocks of 16 bytes, not %s",
                       s->alg->name);
    }
    if (s->mode != MODE_ECB && s->iv == IV_NONE) {
        return err_set(err, EINVAL, "the mode %s needs an ivgen-alg", cipher_mode_names[s->mode]);
    }
    if (s->iv != IV_ESSIV) {
        return 0;
    }
    if (!s->essiv_hash) {
        return err_set(err, EINVAL, "essiv needs an ivgen-hash-alg");
    }
    s->essiv_cipher = NULL;
    const struct alg_cipher *e = alg_cipher_luks(s->alg->luks, s->essiv_hash->digest_size);
    if (!e || e->nettle->block_size != block) {
        return err_set(err, EINVAL, "there is no %s with keys as long as %s's digests",
                       s->alg->luks, s->essiv_hash->name);
    }
    s->essiv_cipher = e->nettle;
    return 0;
}

static void make_iv(const struct sector_cipher *s, uint64_t sector, uint8_t *iv)
{
    memset(iv, 0, MAX_BLOCK);
    store_le64(iv, s->iv == IV_PLAIN ? (uint32_t)sector : sector);
    if (s->iv == IV_ESSIV) {
        s->essiv_cipher->encrypt(s->essiv, s->alg->nettle->block_size, iv, iv);
    }
}

static void one_sector(const struct sector_cipher *s, uint64_t sector, uint8_t *at, bool encrypt)
{
    const struct nettle_cipher *n = s->alg->nettle;
    uint8_t iv[MAX_BLOCK];
    make_iv(s, sector, iv);
    if (s->mode == MODE_XTS && encrypt) {
        xts_encrypt_message(s->enc, s->tweak, n->encrypt, iv, SECTOR, at, at);
    } else if (s->mode == MODE_XTS) {
        xts_decrypt_message(s->dec, s->tweak, n->decrypt, n->encrypt, iv, SECTOR, at, at);
    } else if (s->mode == MODE_CBC && encrypt) {
        cbc_encrypt(s->enc, n->encrypt, n->block_size, iv, SECTOR, at, at);
    } else if (s->mode == MODE_CBC) {
        cbc_decrypt(s->dec, n->decrypt, n->block_size, iv, SECTOR, at, at);
    } else if (s->mode == MODE_CTR) {
        ctr_crypt(s->enc, n->encrypt, n->block_size, iv, SECTOR, at, at);
    } else if (encrypt) {
        n->encrypt(s->enc, SECTOR, at, at);
    } else {
        n->decrypt(s->dec, SECTOR, at, at);
    }
}

int sector_cipher_run(const struct sector_cipher *s, uint64_t sector, void *buf, size_t len,
                      bool encrypt)
{
    if (!s->enc) {
        return -EACCES; /* opened without a password */
    }
    for (size_t at = 0; at < len; at += SECTOR) {
        one_sector(s, sector++, (uint8_t *)buf + at, encrypt);
    }
    return 0;
}

/* ---- What users of cipher.h see ---- */

int cipher_encrypt(const struct cipher *c, uint64_t off, void *buf, size_t len)
{
    return sector_cipher_run(&c->sectors, off / SECTOR, buf, len, true);
}

int cipher_decrypt(const struct cipher *c, uint64_t off, void *buf, size_t len)
{
    return sector_cipher_run(&c->sectors, off / SECTOR, buf, len, false);
}

void cipher_free(struct cipher *c)
{
    if (c) {
        sector_cipher_free(&c->sectors);
        explicit_bzero(c->luks.master_key, sizeof(c->luks.master_key));
        free(c);
    }
}

/* The password is the key, with zeros behind it. */
struct cipher *cipher_old_aes(const uint8_t *secret, size_t secret_len, struct err *err)
{
    uint8_t key[16] = {0};
    struct cipher *c = alloc_zero(sizeof(*c));
    memcpy(key, secret, secret_len < sizeof(key) ? secret_len : sizeof(key));
    c->sectors.alg = alg_cipher_find("aes-128", err);
    c->sectors.mode = MODE_CBC;
    c->sectors.iv = IV_PLAIN64;
    c->sectors.key_bytes = sizeof(key);
    sector_cipher_set_key(&c->sectors, key);
    explicit_bzero(key, sizeof(key));
    return c;
}
