/*
 * How much code memory a vCPU uses: CODEMEM_FIRST arenas, and more of its reserve while an eighth
 * of what it translates or more is what it dropped before. What was dropped is remembered as bits
 * by hash.
 */
#include <string.h>

#include "jit/internal.h"

static uint8_t *byte_of(struct jit_limit *l, const struct jit_block *b, uint8_t *bit)
{
    uint64_t h = (b->pc ^ b->off << 7 ^ (uint64_t)b->mode << 40) * 0x9e3779b97f4a7c15ull;
    *bit = (uint8_t)(1u << (h >> 32 & 7));
    return &l->dropped[(h >> 35) % sizeof(l->dropped)];
}

void jit_limit_dropped(struct jit_vcpu *jv, const struct jit_block *b)
{
    uint8_t bit, *byte = byte_of(&jv->limit, b, &bit);
    *byte |= bit;
    jv->limit.any = true;
}

void jit_limit_made(struct jit_vcpu *jv, const struct jit_block *b)
{
    struct jit_limit *l = &jv->limit;
    l->made++;
    if (l->any) {
        uint8_t bit, *byte = byte_of(l, b, &bit);
        l->back += (*byte & bit) != 0;
        *byte &= (uint8_t)~bit;
    }
}

/* An arena is full: which one is next? */
void jit_limit_plan(struct jit_vcpu *jv)
{
    struct jit_limit *l = &jv->limit;
    jv->stats.translated_again += l->back;
    if (l->back * 16 > l->made) {
        codemem_grow(&jv->mem);
    }
    if (codemem_next(&jv->mem) == 0) { /* bits are of one round only */
        memset(l->dropped, 0, sizeof(l->dropped));
    }
    l->made = l->back = 0;
}
