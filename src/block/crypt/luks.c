/*
 * LUKS version 1 headers: LUKS On-Disk Format Specification 1.2.3. Every number of a header is
 * bounded before it is used; one that would take minutes of work is refused.
 *
 * Does not do: version 2, detached headers, ciphers nettle does not have.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/keyval.h"
#include "block/crypt/cipher_internal.h"

enum {
    HEADER_BYTES = 592,
    SLOT_BYTES = 48,
    SLOT_AT = 208,
    ALIGN_SECTORS = 8, /* of key material */
    SLOT_ACTIVE = 0x00ac71f3,
    SLOT_DEAD = 0x0000dead,
};
static const uint8_t luks_magic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};

int crypt_random(void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t piece = len - done < 256 ? len - done : 256; /* as much as is never cut short */
        ssize_t n = getrandom((char *)buf + done, piece, 0);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* ---- Reading ---- */

static int find_name(const char *const *names, const char *name, size_t len)
{
    for (int i = 0; names[i]; i++) {
        if (strlen(names[i]) == len && !strncmp(names[i], name, len)) {
            return i;
        }
    }
    return -1;
}

/* "xts-plain64", "cbc-essiv:sha256", "ecb" */
static int parse_mode(struct sector_cipher *s, const char *text, struct err *err)
{
    size_t n = strcspn(text, "-");
    int mode = find_name(cipher_mode_names, text, n);
    const char *iv = text[n] ? text + n + 1 : "";
    size_t m = strcspn(iv, ":");
    int gen = find_name(iv_gen_names, iv, m);
    if (mode < 0 || gen < 0) {
        return err_set(err, ENOTSUP, "the cipher mode '%s' is not supported", text);
    }
    s->mode = (enum cipher_mode)mode;
    s->iv = (enum iv_gen)gen;
    s->essiv_hash = s->iv == IV_ESSIV && iv[m] ? alg_hash_find(iv + m + 1, err) : NULL;
    return s->iv == IV_ESSIV && !s->essiv_hash
               ? err_set(err, ENOTSUP, "the cipher mode '%s' is not supported", text)
               : 0;
}

static int parse_slot(struct luks_slot *s, const uint8_t *at, unsigned key_bytes, struct err *err)
{
    uint32_t active = load_be32(at);
    s->active = active == SLOT_ACTIVE;
    s->iterations = load_be32(at + 4);
    memcpy(s->salt, at + 8, LUKS_SALT);
    s->key_sector = load_be32(at + 40);
    s->stripes = load_be32(at + 44);
    if (active != SLOT_ACTIVE && active != SLOT_DEAD) {
        return err_set(err, EINVAL, "a LUKS key slot is neither active nor inactive");
    }
    if (!s->key_sector || s->stripes != LUKS_STRIPES) {
        return err_set(err, EINVAL, "a LUKS key slot has an impossible place or size");
    }
    if (s->active && (!s->iterations || s->iterations > LUKS_MAX_ITERATIONS)) {
        return err_set(err, EINVAL, "a LUKS key slot wants %u iterations; at most %u are done",
                       s->iterations, LUKS_MAX_ITERATIONS);
    }
    return 0;
}

static int check_places(const struct cipher *c, struct err *err)
{
    const struct luks *l = &c->luks;
    uint64_t sectors = round_up((uint64_t)c->sectors.key_bytes * LUKS_STRIPES, 512) / LUKS_SECTOR;
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint64_t from = l->slot[i].key_sector, to = from + sectors;
        if (from < 2 || to > l->payload_sector) {
            return err_set(err, EINVAL, "LUKS key slot %u lies over header or data", i);
        }
        for (unsigned k = 0; k < i; k++) {
            uint64_t other = l->slot[k].key_sector;
            if (from < other + sectors && other < to) {
                return err_set(err, EINVAL, "LUKS key slots %u and %u overlap", k, i);
            }
        }
    }
    return 0;
}

static bool is_plain(const char *text)
{
    while (*text >= ' ' && *text <= '~') {
        text++;
    }
    return !*text;
}

static int parse_names(struct cipher *c, const uint8_t *h, struct err *err)
{
    struct luks *l = &c->luks;
    struct sector_cipher *s = &c->sectors;
    char name[33] = {0};
    memcpy(name, h + 8, 32);
    memcpy(l->mode_text, h + 40, 32);
    memcpy(l->hash_name, h + 72, 32);
    memcpy(l->uuid, h + 168, 40);
    s->key_bytes = load_be32(h + 108);
    if (!is_plain(name) || !is_plain(l->mode_text) || !is_plain(l->hash_name) ||
        !is_plain(l->uuid)) {
        return err_set(err, EINVAL, "the LUKS header has names that are no text");
    }
    l->hash = alg_hash_find(l->hash_name, err);
    int ret = l->hash ? parse_mode(s, l->mode_text, err) : -EINVAL;
    if (ret) {
        return ret;
    }
    if (s->mode == MODE_XTS && s->key_bytes % 2) {
        return err_set(err, EINVAL, "LUKS: an odd key length for xts");
    }
    s->alg = alg_cipher_luks(name, s->mode == MODE_XTS ? s->key_bytes / 2 : s->key_bytes);
    if (!s->alg) {
        return err_set(err, ENOTSUP, "the LUKS cipher '%s' with %u bytes of key is not supported",
                       name, s->key_bytes);
    }
    return sector_cipher_check(s, err);
}

static int parse_header(struct cipher *c, const uint8_t *h, struct err *err)
{
    struct luks *l = &c->luks;
    if (memcmp(h, luks_magic, 6)) {
        return err_set(err, EINVAL, "Volume is not in LUKS format");
    }
    if (load_be16(h + 6) != 1) {
        return err_set(err, ENOTSUP, "LUKS version %u is not supported", load_be16(h + 6));
    }
    int ret = parse_names(c, h, err);
    l->payload_sector = load_be32(h + 104);
    memcpy(l->digest, h + 112, LUKS_DIGEST);
    memcpy(l->digest_salt, h + 132, LUKS_SALT);
    l->digest_iterations = load_be32(h + 164);
    if (!ret && (!l->digest_iterations || l->digest_iterations > LUKS_MAX_ITERATIONS)) {
        ret = err_set(err, EINVAL, "the LUKS header wants %u iterations", l->digest_iterations);
    }
    for (unsigned i = 0; !ret && i < LUKS_SLOTS; i++) {
        ret = parse_slot(&l->slot[i], h + SLOT_AT + SLOT_BYTES * i, c->sectors.key_bytes, err);
    }
    return ret ? ret : check_places(c, err);
}

struct cipher *luks_open(const struct luks_io *io, const uint8_t *secret, size_t secret_len,
                         struct err *err)
{
    uint8_t h[HEADER_BYTES];
    int slot, ret = io->read(io->opaque, 0, h, sizeof(h));
    if (ret) {
        err_set(err, -ret, "cannot read the LUKS header: %s", strerror(-ret));
        return NULL;
    }
    struct cipher *c = alloc_zero(sizeof(*c));
    ret = parse_header(c, h, err);
    if (!ret && secret) {
        ret = luks_try_slots(c, io, secret, secret_len, &slot, err);
    }
    if (ret) {
        cipher_free(c);
        return NULL;
    }
    if (secret) {
        sector_cipher_set_key(&c->sectors, c->luks.master_key);
    }
    return c;
}

uint64_t luks_payload(const struct cipher *c)
{
    return (uint64_t)c->luks.payload_sector * LUKS_SECTOR;
}

/* ---- Writing ---- */

int luks_write_header(const struct cipher *c, const struct luks_io *io)
{
    uint8_t h[2 * LUKS_SECTOR] = {0};
    const struct luks *l = &c->luks;
    memcpy(h, luks_magic, 6);
    store_be16(h + 6, 1);
    strcpy((char *)h + 8, c->sectors.alg->luks);
    memcpy(h + 40, l->mode_text, strlen(l->mode_text));
    memcpy(h + 72, l->hash_name, strlen(l->hash_name));
    store_be32(h + 104, l->payload_sector);
    store_be32(h + 108, c->sectors.key_bytes);
    memcpy(h + 112, l->digest, LUKS_DIGEST);
    memcpy(h + 132, l->digest_salt, LUKS_SALT);
    store_be32(h + 164, l->digest_iterations);
    memcpy(h + 168, l->uuid, 40);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint8_t *at = h + SLOT_AT + SLOT_BYTES * i;
        store_be32(at, l->slot[i].active ? SLOT_ACTIVE : SLOT_DEAD);
        store_be32(at + 4, l->slot[i].iterations);
        memcpy(at + 8, l->slot[i].salt, LUKS_SALT);
        store_be32(at + 40, l->slot[i].key_sector);
        store_be32(at + 44, l->slot[i].stripes);
    }
    return io->write(io->opaque, 0, h, HEADER_BYTES);
}

static const char *opt(const struct keyval *opts, const char *name, const char *preset)
{
    const char *val = opts ? keyval_get(opts, name) : NULL;
    return val ? val : preset;
}

/* What the options ask for: cipher, mode, hash and the places of slots and data. */
static int plan(struct cipher *c, const struct keyval *opts, struct err *err)
{
    struct sector_cipher *s = &c->sectors;
    struct luks *l = &c->luks;
    const char *mode = opt(opts, "cipher-mode", "xts"), *hash = opt(opts, "hash-alg", "sha256");
    const char *iv = opt(opts, "ivgen-alg", "plain64"),
               *iv_hash = opt(opts, "ivgen-hash-alg", strcmp(iv, "essiv") ? NULL : "sha256");
    s->alg = alg_cipher_find(opt(opts, "cipher-alg", "aes-256"), err);
    l->hash = s->alg ? alg_hash_find(hash, err) : NULL;
    if (!l->hash) {
        return -EINVAL;
    }
    snprintf(l->hash_name, sizeof(l->hash_name), "%s", hash);
    snprintf(l->mode_text, sizeof(l->mode_text), "%s%s%s%s%s", mode, *iv ? "-" : "", iv,
             iv_hash && !strcmp(iv, "essiv") ? ":" : "",
             iv_hash && !strcmp(iv, "essiv") ? iv_hash : "");
    int ret = parse_mode(s, l->mode_text, err);
    ret = ret ? ret : sector_cipher_check(s, err);
    s->key_bytes = s->alg->key_bytes * (s->mode == MODE_XTS ? 2 : 1);
    uint32_t each = (uint32_t)round_up(
        round_up((uint64_t)s->key_bytes * LUKS_STRIPES, LUKS_SECTOR) / LUKS_SECTOR, ALIGN_SECTORS);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        l->slot[i].key_sector = ALIGN_SECTORS + i * each;
        l->slot[i].stripes = LUKS_STRIPES;
    }
    l->payload_sector = ALIGN_SECTORS + LUKS_SLOTS * each;
    return ret;
}

int luks_header_bytes(const struct keyval *opts, uint64_t *bytes, struct err *err)
{
    struct cipher c = {0};
    int ret = plan(&c, opts, err);
    *bytes = luks_payload(&c);
    return ret;
}

static int make_uuid(char *uuid)
{
    uint8_t r[16];
    int ret = crypt_random(r, sizeof(r));
    r[6] = (r[6] & 0x0f) | 0x40;
    r[8] = (r[8] & 0x3f) | 0x80;
    for (int i = 0; i < 16; i++) {
        uuid += sprintf(uuid, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", r[i]);
    }
    return ret;
}

struct cipher *luks_create(const struct luks_io *io, const struct keyval *opts,
                           const uint8_t *secret, size_t secret_len, struct err *err)
{
    struct cipher *c = alloc_zero(sizeof(*c));
    uint64_t ms = 2000;
    const char *time = opt(opts, "iter-time", NULL);
    int ret = plan(c, opts, err);
    ret = !ret && time ? value_u64("iter-time", time, 1000000, &ms, err) : ret;
    if (!ret) {
        ret = crypt_random(c->luks.master_key, c->sectors.key_bytes);
        ret = ret ? ret : make_uuid(c->luks.uuid);
        ret = ret ? ret : luks_make_digest(c, ms / 8);
        ret = ret ? err_set(err, -ret, "cannot make keys: %s", strerror(-ret)) : 0;
    }
    ret = ret ? ret : luks_fill_slot(c, io, 0, secret, secret_len, ms, err);
    if (!ret) {
        ret = luks_write_header(c, io);
        ret = ret ? err_set(err, -ret, "cannot write the LUKS header: %s", strerror(-ret)) : 0;
    }
    if (ret) {
        cipher_free(c);
        return NULL;
    }
    c->luks.unlocked = true;
    sector_cipher_set_key(&c->sectors, c->luks.master_key);
    return c;
}

/* ---- Changing slots ---- */

static unsigned active_slots(const struct cipher *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        n += c->luks.slot[i].active;
    }
    return n;
}

static int add_key(struct cipher *c, const struct luks_io *io, const struct luks_slot_change *ch,
                   struct err *err)
{
    int slot = ch->keyslot;
    for (int i = 0; slot < 0 && i < LUKS_SLOTS; i++) {
        slot = c->luks.slot[i].active ? -1 : i;
    }
    if (!ch->new_secret) {
        return err_set(err, EINVAL, "'new-secret' is required to activate a keyslot");
    }
    if (slot < 0) {
        return err_set(err, ENOSPC, "Can't add a keyslot - all keyslots are in use");
    }
    if (c->luks.slot[slot].active && !ch->force) {
        return err_set(err, EEXIST,
                       "Refusing to overwrite active keyslot %d - please erase it first", slot);
    }
    if (!c->luks.unlocked) {
        return err_set(err, EACCES, "adding a key needs a password that opens the image");
    }
    int ret = luks_fill_slot(c, io, (unsigned)slot, ch->new_secret, ch->new_len,
                             ch->iter_time_ms ? ch->iter_time_ms : 2000, err);
    int wrote = ret ? 0 : luks_write_header(c, io);
    return wrote ? err_set(err, -wrote, "cannot write the LUKS header: %s", strerror(-wrote)) : ret;
}

static int erase_keys(struct cipher *c, const struct luks_io *io, const struct luks_slot_change *ch,
                      struct err *err)
{
    int slot = ch->keyslot;
    if (slot < 0 && !ch->old_secret) {
        return err_set(err, EINVAL,
                       "To erase keyslot(s), either explicit keyslot index or the "
                       "password currently contained in them must be given");
    }
    if (ch->new_secret) {
        return err_set(err, EINVAL, "'new-secret' must not be given when erasing keyslots");
    }
    if (ch->old_secret) {
        int found, ret = luks_try_slots(c, io, ch->old_secret, ch->old_len, &found, err);
        if (ret || (slot >= 0 && slot != found)) {
            return ret ? ret : err_set(err, EPERM, "the password is not the one of slot %d", slot);
        }
        slot = found;
    }
    if (!c->luks.slot[slot].active) {
        return 0;
    }
    if (active_slots(c) == 1 && !ch->force) {
        return err_set(err, EPERM,
                       "Attempt to erase the only active keyslot %d which will erase all "
                       "the data in the image irreversibly - refusing operation",
                       slot);
    }
    return luks_erase_slot(c, io, (unsigned)slot, err);
}

int luks_change_slot(struct cipher *c, const struct luks_io *io, const struct luks_slot_change *ch,
                     struct err *err)
{
    if (ch->keyslot >= LUKS_SLOTS) {
        return err_set(err, EINVAL, "Invalid slot %d specified, must be between 0 and %d",
                       ch->keyslot, LUKS_SLOTS - 1);
    }
    return ch->activate ? add_key(c, io, ch, err) : erase_keys(c, io, ch, err);
}

/* ---- Describing ---- */

json_t *luks_info(const struct cipher *c)
{
    const struct luks *l = &c->luks;
    json_t *slots = json_array();
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const struct luks_slot *s = &l->slot[i];
        json_t *j = json_object();
        json_object_set_new(j, "active", json_boolean(s->active));
        if (s->active) {
            json_object_set_new(j, "iters", json_integer(s->iterations));
        }
        json_object_set_new(j, "key-offset", json_integer((json_int_t)s->key_sector * LUKS_SECTOR));
        if (s->active) {
            json_object_set_new(j, "stripes", json_integer(s->stripes));
        }
        json_array_append_new(slots, j);
    }
    json_t *j = json_object();
    json_object_set_new(j, "ivgen-alg",
                        json_string(iv_gen_names[c->sectors.iv ? c->sectors.iv : IV_PLAIN64]));
    json_object_set_new(j, "hash-alg", json_string(l->hash_name));
    json_object_set_new(j, "cipher-alg", json_string(c->sectors.alg->name));
    json_object_set_new(j, "uuid", json_string(l->uuid));
    if (c->sectors.iv == IV_ESSIV) {
        json_object_set_new(j, "ivgen-hash-alg", json_string(c->sectors.essiv_hash->name));
    }
    json_object_set_new(j, "cipher-mode", json_string(cipher_mode_names[c->sectors.mode]));
    json_object_set_new(j, "slots", slots);
    json_object_set_new(j, "payload-offset", json_integer((json_int_t)luks_payload(c)));
    json_object_set_new(j, "master-key-iters", json_integer(l->digest_iterations));
    return j;
}
