/* Without the ciphers: every call says so. Weak, so that the real ones win where they are linked.
 */
#include <errno.h>

#include "base/err.h"
#include "block/cipher.h"

#define WEAK __attribute__((weak))

WEAK int luks_header_bytes(const struct keyval *opts, uint64_t *bytes, struct err *err)
{
    *bytes = 0;
    return err_set(err, ENOTSUP, "this build has no encryption of disk images");
}

WEAK struct cipher *luks_create(const struct luks_io *io, const struct keyval *opts,
                                const uint8_t *secret, size_t secret_len, struct err *err)
{
    err_set(err, ENOTSUP, "this build has no encryption of disk images");
    return NULL;
}

WEAK struct cipher *luks_open(const struct luks_io *io, const uint8_t *secret, size_t secret_len,
                              struct err *err)
{
    err_set(err, ENOTSUP, "this build has no encryption of disk images");
    return NULL;
}

WEAK struct cipher *cipher_old_aes(const uint8_t *secret, size_t secret_len, struct err *err)
{
    err_set(err, ENOTSUP, "this build has no encryption of disk images");
    return NULL;
}

WEAK int luks_change_slot(struct cipher *c, const struct luks_io *io,
                          const struct luks_slot_change *ch, struct err *err)
{
    return err_set(err, ENOTSUP, "this build has no encryption of disk images");
}

WEAK struct json_t *luks_info(const struct cipher *c)
{
    return NULL;
}

WEAK void cipher_free(struct cipher *c)
{
}

WEAK int cipher_encrypt(const struct cipher *c, uint64_t off, void *buf, size_t len)
{
    return -ENOTSUP;
}

WEAK int cipher_decrypt(const struct cipher *c, uint64_t off, void *buf, size_t len)
{
    return -ENOTSUP;
}
