/* Encryption of disk images, inside. */
#ifndef BLOCK_CRYPT_CIPHER_INTERNAL_H
#define BLOCK_CRYPT_CIPHER_INTERNAL_H

#include "block/cipher.h"
#include "block/crypt/algs.h"

struct sector_cipher {
    const struct alg_cipher *alg;
    enum cipher_mode mode;
    enum iv_gen iv;
    const struct nettle_hash *essiv_hash;
    const struct nettle_cipher *essiv_cipher;
    unsigned key_bytes; /* twice the cipher's for xts */
    void *enc, *dec;    /* contexts; NULL: no key */
    void *tweak, *essiv;
};

/* Whether these go together; finds essiv's cipher. */
int sector_cipher_check(struct sector_cipher *s, struct err *err);
void sector_cipher_set_key(struct sector_cipher *s, const uint8_t *key);
void sector_cipher_free(struct sector_cipher *s);
int sector_cipher_run(const struct sector_cipher *s, uint64_t sector, void *buf, size_t len,
                      bool encrypt);

enum { LUKS_SLOTS = 8, LUKS_STRIPES = 4000, LUKS_SALT = 32, LUKS_DIGEST = 20, LUKS_SECTOR = 512 };

/* More would take minutes: nobody's password needs that, and a hostile header might. */
#define LUKS_MAX_ITERATIONS 50000000u
/* Over all slots that are tried, in hashes of the key's length: tools make slots that need two
 * seconds, at most some 10 million of them; this is a minute or so. */
#define LUKS_MAX_WORK 100000000u

struct luks_slot {
    bool active;
    uint32_t iterations, key_sector, stripes;
    uint8_t salt[LUKS_SALT];
};

/* The header: LUKS On-Disk Format 1.2.3, "phdr". */
struct luks {
    const struct nettle_hash *hash;
    uint32_t payload_sector, digest_iterations;
    uint8_t digest[LUKS_DIGEST], digest_salt[LUKS_SALT];
    char uuid[41], hash_name[33], mode_text[33];
    struct luks_slot slot[LUKS_SLOTS];
    uint8_t master_key[ALG_MAX_KEY];
    bool unlocked;
};

struct cipher {
    struct sector_cipher sectors;
    struct luks luks; /* without a hash: it is not LUKS */
};

/* ---- luks_slots.c ---- */
int luks_try_slots(struct cipher *c, const struct luks_io *io, const uint8_t *secret, size_t len,
                   int *slot, struct err *err);
int luks_fill_slot(struct cipher *c, const struct luks_io *io, unsigned slot, const uint8_t *secret,
                   size_t len, uint64_t ms, struct err *err);
int luks_erase_slot(struct cipher *c, const struct luks_io *io, unsigned slot, struct err *err);

int luks_make_digest(struct cipher *c, uint64_t ms);

/* ---- luks.c ---- */
int luks_write_header(const struct cipher *c, const struct luks_io *io);
int crypt_random(void *buf, size_t len); /* 0 or -errno */

#endif
