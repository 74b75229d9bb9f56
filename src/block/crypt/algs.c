/* Ciphers and hashes: nettle's, under the names images use. */
#include "block/crypt/algs.h"

#include <errno.h>
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/near.h"

static const struct alg_cipher ciphers[] = {
    {"aes-128", "aes", 16, &nettle_aes128},
    {"aes-192", "aes", 24, &nettle_aes192},
    {"aes-256", "aes", 32, &nettle_aes256},
    {"cast5-128", "cast5", 16, &nettle_cast128},
    {"serpent-128", "serpent", 16, &nettle_serpent128},
    {"serpent-192", "serpent", 24, &nettle_serpent192},
    {"serpent-256", "serpent", 32, &nettle_serpent256},
    {"twofish-128", "twofish", 16, &nettle_twofish128},
    {"twofish-192", "twofish", 24, &nettle_twofish192},
    {"twofish-256", "twofish", 32, &nettle_twofish256},
};

static const struct {
    const char *name;
    const struct nettle_hash *nettle;
} hashes[] = {
    {"md5", &nettle_md5},
    {"sha1", &nettle_sha1},
    {"sha224", &nettle_sha224},
    {"sha256", &nettle_sha256},
    {"sha384", &nettle_sha384},
    {"sha512", &nettle_sha512},
    {"ripemd160", &nettle_ripemd160},
};

const char *const cipher_mode_names[] = {"ecb", "cbc", "xts", "ctr", NULL};
const char *const iv_gen_names[] = {"", "plain", "plain64", "essiv", NULL};

const struct alg_cipher *alg_cipher_find(const char *name, struct err *err)
{
    const char *names[ARRAY_LEN(ciphers)];
    for (size_t i = 0; i < ARRAY_LEN(ciphers); i++) {
        names[i] = ciphers[i].name;
        if (!strcmp(names[i], name)) {
            return &ciphers[i];
        }
    }
    err_set(err, EINVAL, "there is no cipher '%s'; the nearest is '%s'", name,
            near_pick(name, names, ARRAY_LEN(names)));
    return NULL;
}

const struct alg_cipher *alg_cipher_luks(const char *luks, unsigned key_bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(ciphers); i++) {
        if (!strcmp(ciphers[i].luks, luks) && ciphers[i].key_bytes == key_bytes) {
            return &ciphers[i];
        }
    }
    return NULL;
}

const struct nettle_hash *alg_hash_find(const char *name, struct err *err)
{
    const char *names[ARRAY_LEN(hashes)];
    for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
        names[i] = hashes[i].name;
        if (!strcmp(names[i], name)) {
            return hashes[i].nettle;
        }
    }
    err_set(err, EINVAL, "there is no hash '%s'; the nearest is '%s'", name,
            near_pick(name, names, ARRAY_LEN(names)));
    return NULL;
}

struct hmac {
    const struct nettle_hash *h;
    void *outer, *inner, *state;
};

static void mac_update(void *opaque, size_t len, const uint8_t *data)
{
    struct hmac *m = opaque;
    hmac_update(m->state, m->h, len, data);
}

static void mac_digest(void *opaque, size_t len, uint8_t *out)
{
    struct hmac *m = opaque;
    hmac_digest(m->outer, m->inner, m->state, m->h, len, out);
}

void alg_pbkdf2(const struct nettle_hash *h, const uint8_t *secret, size_t secret_len,
                const uint8_t *salt, size_t salt_len, uint32_t iterations, uint8_t *out,
                size_t out_len)
{
    AUTO_FREE uint8_t *ctx = alloc_zero(3 * (size_t)h->context_size);
    struct hmac m = {h, ctx, ctx + h->context_size, ctx + 2 * (size_t)h->context_size};
    hmac_set_key(m.outer, m.inner, m.state, h, secret_len, secret);
    pbkdf2(&m, mac_update, mac_digest, h->digest_size, iterations, salt_len, salt, out_len, out);
    explicit_bzero(ctx, 3 * (size_t)h->context_size);
}

static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t alg_pbkdf2_speed(const struct nettle_hash *h, size_t out_len)
{
    uint8_t out[ALG_MAX_KEY], salt[32] = {0};
    uint32_t n = 1 << 13;
    for (;;) {
        uint64_t begin = thread_ns();
        alg_pbkdf2(h, salt, 8, salt, 32, n, out, out_len);
        uint64_t ns = thread_ns() - begin;
        if (ns > 30000000 || n > 1u << 28) {
            return (uint64_t)((double)n * 1e9 / (double)(ns ? ns : 1));
        }
        n *= 2;
    }
}
