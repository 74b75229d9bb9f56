/*
 * Instructions that are run alone again and again, most of them accesses to devices, are kept as
 * IR: by pc, mode word and the bytes they were made from, which are compared.
 *
 * Does not do: instructions over two pages.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "jit/internal.h"

static struct jit_stepped *slot_of(struct jit_vcpu *jv, uint64_t pc)
{
    return &jv->stepped[jit_mix(pc) % ARRAY_LEN(jv->stepped)];
}

/* The second time in a row that there is no other one in the slot. */
static void keep(struct jit_vcpu *jv, struct jit_stepped *s, const struct ir_block *b,
                 const uint8_t *code)
{
    if (s->pc != b->pc || s->mode != b->mode) {
        s->pc = b->pc;
        s->mode = b->mode;
        s->size = 0;
        return;
    }
    free(s->ir);
    s->ir = ir_block_copy(b);
    s->size = (uint8_t)b->bytes;
    memcpy(s->bytes, code, b->bytes);
}

const struct ir_block *jit_lift_step(struct jit_vcpu *jv, uint64_t pc)
{
    struct jit_stepped *s = slot_of(jv, pc);
    gva_t va = jv->v->isa->fetch_address(jv->v, pc);
    unsigned in_page = va & (RT_PAGE_SIZE - 1);
    const struct jit_itlb *it =
        in_page <= RT_PAGE_SIZE - sizeof(s->bytes) ? jit_fetch(jv, va) : NULL;
    if (it && s->size && s->pc == pc && s->mode == jv->mode &&
        memcmp(s->bytes, it->host + in_page, s->size) == 0) {
        return s->ir;
    }
    uint8_t before[sizeof(s->bytes)]; /* others may write it */
    if (it) {
        memcpy(before, it->host + in_page, sizeof(before));
    }
    const struct ir_block *b = jit_lift_one(jv, pc);
    if (b && it && b->bytes <= sizeof(before) &&
        memcmp(before, it->host + in_page, b->bytes) == 0) {
        keep(jv, s, b, before);
    }
    return b;
}

void jit_stepped_free(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < ARRAY_LEN(jv->stepped); i++) {
        free(jv->stepped[i].ir);
    }
}
