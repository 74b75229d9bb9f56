/*
 * Blocks by pc, mode word and RAM offset. The table grows with their number: a look-up touches
 * little more memory than the block it finds.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/err.h"
#include "core/vcpu.h"
#include "jit/internal.h"

enum { BITS_FIRST = 15, BITS_MOST = 20 };

unsigned jit_hash(uint64_t pc, uint32_t mode, ram_off_t off)
{
    uint64_t h = (pc ^ off << 1 ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> 32);
}

struct jit_block **jit_bucket(const struct jit_vcpu *jv, uint64_t pc, uint32_t mode, ram_off_t off)
{
    return &jv->hash[jit_hash(pc, mode, off) >> (32 - jv->hash_bits)];
}

static struct jit_block **bucket_of(const struct jit_vcpu *jv, const struct jit_block *b)
{
    return jit_bucket(jv, b->pc, b->mode, b->off);
}

static struct jit_block **new_table(unsigned bits)
{
    void *p = mmap(NULL, sizeof(struct jit_block *) << bits, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void free_table(struct jit_block **table, unsigned bits)
{
    munmap(table, sizeof(*table) << bits);
}

int jit_hash_open(struct jit_vcpu *jv, struct err *err)
{
    jv->hash_bits = BITS_FIRST;
    jv->hash = new_table(BITS_FIRST);
    return jv->hash ? 0 : err_set(err, ENOMEM, "vcpu %u: no memory for its blocks", jv->v->index);
}

void jit_hash_close(struct jit_vcpu *jv)
{
    free_table(jv->hash, jv->hash_bits);
}

/* Each chain becomes two, in the same order. Without memory the table stays as it is. */
static void grow(struct jit_vcpu *jv)
{
    struct jit_block **old = jv->hash, **table = new_table(jv->hash_bits + 1);
    if (!table) {
        return;
    }
    jv->hash = table;
    jv->hash_bits++;
    for (unsigned i = 0; i < jit_buckets(jv) / 2; i++) {
        struct jit_block **end[2] = {&table[2 * i], &table[2 * i + 1]};
        for (struct jit_block *b = old[i], *next; b; b = next) {
            next = b->hash_next;
            b->hash_next = NULL;
            unsigned odd = (bucket_of(jv, b) - table) & 1;
            *end[odd] = b;
            end[odd] = &b->hash_next;
        }
    }
    free_table(old, jv->hash_bits - 1);
}

/* Behind those of its key, so that the first one stays what links lead to; on trial: in front. */
void jit_enter_hash(struct jit_vcpu *jv, struct jit_block *b)
{
    if (++jv->hash_count > jit_buckets(jv) / 2 * 3 && jv->hash_bits < BITS_MOST) {
        grow(jv);
    }
    struct jit_block **at = bucket_of(jv, b);
    if (b->check) {
        jit_drop_versions(jv, b);
        for (struct jit_block **p = at; *p && !b->trial; p = &(*p)->hash_next) {
            at = jit_same_key(*p, b) ? &(*p)->hash_next : at;
        }
    }
    b->hash_next = *at;
    *at = b;
}

void jit_leave_hash(struct jit_vcpu *jv, struct jit_block *b)
{
    struct jit_block **p = bucket_of(jv, b);
    while (*p != b) {
        p = &(*p)->hash_next;
    }
    *p = b->hash_next;
    jv->hash_count--;
}
