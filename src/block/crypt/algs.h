/* Ciphers and hashes by LUKS's names for them and by QEMU's. */
#ifndef BLOCK_CRYPT_ALGS_H
#define BLOCK_CRYPT_ALGS_H

#include <nettle/nettle-meta.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

struct alg_cipher {
    const char *name; /* QEMU's: "aes-256" */
    const char *luks; /* "aes" */
    unsigned key_bytes;
    const struct nettle_cipher *nettle;
};

enum cipher_mode { MODE_ECB, MODE_CBC, MODE_XTS, MODE_CTR };
enum iv_gen { IV_NONE, IV_PLAIN, IV_PLAIN64, IV_ESSIV };
extern const char *const cipher_mode_names[], *const iv_gen_names[]; /* by number */

/* NULL with a sentence. */
const struct alg_cipher *alg_cipher_find(const char *name, struct err *err);
const struct alg_cipher *alg_cipher_luks(const char *luks, unsigned key_bytes);
const struct nettle_hash *alg_hash_find(const char *name, struct err *err);

/* RFC 8018 5.2 with HMAC of that hash. */
void alg_pbkdf2(const struct nettle_hash *h, const uint8_t *secret, size_t secret_len,
                const uint8_t *salt, size_t salt_len, uint32_t iterations, uint8_t *out,
                size_t out_len);
/* Iterations of it in a second of processor time. */
uint64_t alg_pbkdf2_speed(const struct nettle_hash *h, size_t out_len);

#define ALG_MAX_DIGEST 64
#define ALG_MAX_KEY 64

#endif
