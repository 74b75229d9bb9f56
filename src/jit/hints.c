/*
 * Which way of finding its page suits an access of a warm block: through the line of its base
 * register, or by the soft TLB. A line costs least while the register stays on a page, and five
 * times as much when it does not; the soft TLB is always in between, and its result is late.
 *
 * An access whose line misses often leaves with RT_EXIT_SCATTER. Then all accesses of the block are
 * counted for a while, how often they run and how often they miss; what that says is kept by pc.
 *
 * A group with loads and stores is checked for both at once. Where its page often can only be read
 * (RT_EXIT_SHARED), loads and stores are checked apart from then on.
 */
#include <string.h>

#include "core/vcpu.h"
#include "jit/internal.h"

enum {
    RUNS = 256,    /* that say something */
    PART = 4,      /* of the runs miss: the line is no help */
    LAST_TICK = 16 /* counting ends */
};

static struct jit_known *known(const struct jit_vcpu *jv, uint64_t pc)
{
    unsigned n = (unsigned)(pc * 0x9e3779b97f4a7c15ull >> 40) % JIT_KNOWN;
    return (struct jit_known *)&jv->known[n];
}

/* The entry of the block at pc, which may have been another one's. */
static struct ir_hints *own(struct jit_vcpu *jv, uint64_t pc)
{
    struct jit_known *k = known(jv, pc);
    if (k->pc != pc) {
        *k = (struct jit_known){.pc = pc};
    }
    return &k->hints;
}

const struct ir_hints *jit_hints(const struct jit_vcpu *jv, uint64_t pc)
{
    const struct jit_known *k = known(jv, pc);
    return pc && k->pc == pc ? &k->hints : NULL;
}

const struct ir_hints *jit_hints_emit(struct jit_vcpu *jv, struct jit_block *b, enum ir_form form)
{
    struct ir_hints *h = (struct ir_hints *)jit_hints(jv, b->pc);
    if (!h || !h->probe) {
        return h;
    }
    struct jit_probe *p = &jv->probe[h->probe - 1];
    if (p->b || (form != IR_FORM_WARM && form != IR_FORM_LOOP)) { /* somebody was faster */
        h->probe = 0;
    } else {
        *p = (struct jit_probe){.b = b};
    }
    return h;
}

/* What the counts say; false: nothing yet. */
static bool judge(const struct rt_probe *p, struct ir_hints *h)
{
    bool any = false;
    for (unsigned bit = 0; bit < 64; bit++) {
        if (p[bit].runs >= RUNS) {
            bool often = p[bit].misses > p[bit].runs / PART;
            h->scattered |= (uint64_t)often << bit;
            h->settled |= (uint64_t)!often << bit;
            any |= p[bit].misses != 0;
        }
    }
    return any;
}

static void end(struct jit_vcpu *jv, unsigned n)
{
    struct jit_probe *p = &jv->probe[n];
    struct jit_block *b = p->b;
    struct ir_hints *h = own(jv, b->pc), now = *h;
    bool done = judge(jv->v->env->probe[n], &now);
    if (!done && ++p->ticks < LAST_TICK) {
        return;
    }
    if (!done) {
        now.settled = ~0ull;
    }
    now.probe = 0;
    *h = now;
    jit_kill(jv, b); /* and p->b with it */
}

void jit_hints_count(struct jit_vcpu *jv, struct jit_block *b)
{
    jv->stats.scattered++;
    if (b->dead) {
        return;
    }
    for (unsigned n = 0; n < RT_PROBES; n++) {
        if (jv->probe[n].b == b) {
            end(jv, n);
            return;
        }
    }
    for (unsigned n = 0; n < RT_PROBES; n++) {
        if (jv->probe[n].b) {
            continue;
        }
        own(jv, b->pc)->probe = (uint8_t)(n + 1);
        memset(jv->v->env->probe[n], 0, sizeof(jv->v->env->probe[n]));
        jit_kill(jv, b);
        return;
    }
}

/* The access at pc leads a group with stores, and its page often could only be read. */
void jit_hints_shared(struct jit_vcpu *jv, struct jit_block *b, uint64_t pc)
{
    jv->stats.scattered++;
    if (!b->dead) {
        own(jv, b->pc)->shared |= 1ull << ((pc - b->pc) & 63);
        jit_kill(jv, b);
    }
}

void jit_hints_move(struct jit_vcpu *jv, const struct jit_block *b, uint64_t by)
{
    const struct ir_hints *h = jit_hints(jv, b->pc);
    if (h) {
        struct ir_hints was = *h;
        *own(jv, b->pc) = (struct ir_hints){0};
        *own(jv, b->pc + by) = was;
    }
}

void jit_hints_tick(struct jit_vcpu *jv)
{
    for (unsigned n = 0; n < RT_PROBES; n++) {
        if (jv->probe[n].b) {
            end(jv, n);
        }
    }
}

void jit_hints_dead(struct jit_vcpu *jv, const struct jit_block *b)
{
    for (unsigned n = 0; n < RT_PROBES; n++) {
        if (jv->probe[n].b == b) {
            jv->probe[n].b = NULL;
        }
    }
}
