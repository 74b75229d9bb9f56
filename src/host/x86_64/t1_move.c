/*
 * Blocks whose guest code is mapped elsewhere next (a library in another process): what their code
 * has of its own address is noted when it is made, and changed in place when they move. Moves are
 * by whole pages, so an address keeps its place in its page.
 */
#include "host/x86_64/t1.h"

#include "base/bits.h"

/* The last `size` bytes that were emitted. */
static void note(struct t1 *t, const struct enc *e, unsigned size, uint16_t entry)
{
    bool cold = e == &t->cold;
    ptrdiff_t at = e->p - size - t->base[cold];
    if (!t->b->moves) {
        return;
    }
    if (t->nmoves == MAX_MOVES || at >= MOVE_COLD) {
        t->stays = true;
        return;
    }
    t->move[t->nmoves++] = (struct t1_move){(uint16_t)(at | (cold ? MOVE_COLD : 0)), entry};
}

void t1_mov_pc(struct t1 *t, struct enc *e, unsigned reg, uint64_t k)
{
    const uint8_t *from = e->p;
    x_mov_r_i64(e, reg, k);
    if (e->p - from == 10) {
        note(t, e, 8, MOVE_NUMBER);
    } else {
        t->stays = true;
    }
}

/* The constant v, whose number is k, as wide as is wanted. */
void t1_mov_number(struct t1 *t, unsigned reg, enum ir_type w, ir_ref v, uint64_t k)
{
    if (t1_moves(t, v) && w == IR_I64) {
        t1_mov_pc(t, &t->hot, reg, k);
        return;
    }
    t->stays |= t1_moves(t, v);
    x_mov_r_i64(&t->hot, reg, w == IR_I64 ? k : k & mask_low(ir_type_bits(w)));
}

void t1_moves_number(struct t1 *t, const struct enc *e)
{
    note(t, e, 8, MOVE_NUMBER);
}

void t1_moves_entry(struct t1 *t, const struct enc *e, size_t entry)
{
    note(t, e, 4, (uint16_t)entry);
}

static void add64(uint8_t *p, uint64_t by)
{
    uint64_t v;
    memcpy(&v, p, 8);
    v += by;
    memcpy(p, &v, 8);
}

static void move_entry(uint8_t *p, struct t1_move *m, uint64_t by)
{
    uint16_t to = (uint16_t)((m->entry + (by >> RT_PAGE_BITS)) & (RT_TLB_SIZE - 1));
    int32_t disp;
    memcpy(&disp, p, 4);
    disp += (to - m->entry) * (int32_t)sizeof(struct rt_tlb_entry);
    memcpy(p, &disp, 4);
    m->entry = to;
}

void block_move(struct ir_host_ctx *c, struct ir_code *code, uint64_t by)
{
    (void)c;
    uintptr_t sites = (uintptr_t)code->sites;
    struct t1_move *moves = (void *)(sites + T1_SITES_BYTES(code->nsites));
    for (unsigned i = 0; i < code->nmoves; i++) {
        struct t1_move *m = &moves[i];
        uint8_t *p = (m->at & MOVE_COLD ? code->cold : code->hot) + (m->at & ~MOVE_COLD);
        if (m->entry == MOVE_NUMBER) {
            add64(p, by);
        } else {
            move_entry(p, m, by);
        }
    }
    for (unsigned i = 0; i < code->nlinks; i++) {
        code->links[i].pc += by;
    }
    code->pc += by;
}
