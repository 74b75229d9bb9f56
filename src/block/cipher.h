/*
 * Encryption of disk images: LUKS version 1 (LUKS On-Disk Format 1.2.3) and the AES of old qcow2.
 * Sectors of 512 bytes. Encryption itself is nettle's.
 */
#ifndef BLOCK_CIPHER_H
#define BLOCK_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cipher;
struct err;
struct json_t;
struct keyval;

/* Where the LUKS header is; offsets from its start. Both return 0 or -errno. */
struct luks_io {
    int (*read)(void *opaque, uint64_t off, void *buf, size_t len);
    int (*write)(void *opaque, uint64_t off, const void *buf, size_t len);
    void *opaque;
};

/* Bytes of header and key material that luks_create() writes with these options. */
int luks_header_bytes(const struct keyval *opts, uint64_t *bytes, struct err *err);
/* opts: cipher-alg, cipher-mode, ivgen-alg, ivgen-hash-alg, hash-alg, iter-time (ms), without any
 * "encrypt." before them. */
struct cipher *luks_create(const struct luks_io *io, const struct keyval *opts,
                           const uint8_t *secret, size_t secret_len, struct err *err);
/* secret NULL: only to look at; en- and decrypting fails with -EACCES then. */
struct cipher *luks_open(const struct luks_io *io, const uint8_t *secret, size_t secret_len,
                         struct err *err);
uint64_t luks_payload(const struct cipher *c); /* byte offset of the data in a LUKS file */
/* amend: state=active|inactive, new-secret, old-secret, keyslot, iter-time; secrets are found by
 * the caller. new_secret NULL with inactive. keyslot -1: any. */
struct luks_slot_change {
    bool activate, force;
    int keyslot;
    uint64_t iter_time_ms;
    const uint8_t *new_secret, *old_secret;
    size_t new_len, old_len;
};
int luks_change_slot(struct cipher *c, const struct luks_io *io, const struct luks_slot_change *ch,
                     struct err *err);
/* The published description: {"ivgen-alg": ..., "hash-alg": ..., "uuid": ..., "slots": [...]}. */
struct json_t *luks_info(const struct cipher *c);

/* qcow2's crypt_method 1: AES-128-CBC, "plain64", the password itself is the key. */
struct cipher *cipher_old_aes(const uint8_t *secret, size_t secret_len, struct err *err);

void cipher_free(struct cipher *c);
/* `off`: byte offset that the initial vector is made from; both multiples of 512. In place. Any
 * thread. */
int cipher_encrypt(const struct cipher *c, uint64_t off, void *buf, size_t len);
int cipher_decrypt(const struct cipher *c, uint64_t off, void *buf, size_t len);

#endif
