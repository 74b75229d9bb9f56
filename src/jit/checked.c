/*
 * Checked pages: pages whose code changes often, or that are written often beside it.
 *
 * Such a page is not protected: to this vCPU's bit in ram->code_pages[] it has no translations, so
 * stores to it, anybody's, run at full speed and nobody is told. Instead its blocks look at their
 * own bytes: each has a copy of the bytes it was made from and compares it with guest RAM at every
 * entry. Bytes of immediates that changed before are not compared but read when they are used.
 *
 * C3: a block of a checked page (b->check) is translated from a copy, never from guest RAM, and
 *     runs guest instructions only after a compare of RAM with that copy at its entry: links, the
 *     jump cache and the run loop all lead to the entry, and return sites (behind a call) lead to
 *     the entry of the next block. It ends behind every instruction that stores, so that what it
 *     changes in itself is seen by its next instruction. So stores of this vCPU are seen by
 *     the next instruction, those of others and of devices at the next block.
 * C4: blocks of one key (pc, mode, RAM offsets) stand next to one another in their hash chain and
 *     a check that fails leads to the next of them: code that goes back and forth between a few
 *     versions is not translated again. Everything comes in by the first one.
 *
 * C5: a place where two versions did not match has code that comes and goes: the next one runs in
 *     tier 0 first (b->trial) and gets tier 1 code when it has stayed for a while. There is one of
 *     these of a key, in front of those with code and in nobody's way.
 *
 * A page whose code was not translated for a while is protected again: what runs there then is as
 * fast as other code.
 *
 * A page becomes checked between blocks only: a block that was made while writes were noticed must
 * not go on when they are not.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "jit/internal.h"

/* Values of jv->heat[]; below them it counts. */
#define HEAT_CHANGED 0xffff /* checked, and code was translated since the last look */
#define HEAT_CHECKED 0xfffe
#define COOL_MS 50 /* a page whose code did not change for so long is protected again */
#define HEAT_LIMIT 1024
#define VERSIONS 4   /* blocks of one key */
#define TRIAL_FROM 2 /* versions with code; the next one is on trial */
#define TRIAL 8      /* its runs in tier 0 */

bool jit_page_checked(const struct jit_vcpu *jv, ram_off_t off)
{
    return jv->heat[off >> RT_PAGE_BITS] >= HEAT_CHECKED;
}

void jit_page_changed(struct jit_vcpu *jv, ram_off_t off)
{
    jv->heat[off >> RT_PAGE_BITS] = HEAT_CHANGED;
}

/* All blocks of a page; `checked`: those that are, too. */
static void kill_page(struct jit_vcpu *jv, ram_off_t page, bool checked)
{
    for (struct jit_block *b = jv->pages[page >> RT_PAGE_BITS], *next; b; b = next) {
        next = b->page_next[jit_page_of(b->off) == page ? 0 : 1];
        if (checked || !b->check) {
            jit_kill(jv, b);
        }
    }
}

static void note_page(struct jit_vcpu *jv, ram_off_t page)
{
    if (jv->checked_count == jv->checked_room) {
        jv->checked_room = jv->checked_room ? jv->checked_room * 2 : 64;
        jv->checked = alloc_resize(jv->checked, jv->checked_room, sizeof(*jv->checked));
    }
    jv->checked[jv->checked_count++] = page;
}

static void begin_checks(struct jit_vcpu *jv, ram_off_t off)
{
    ram_off_t page = jit_page_of(off);
    jv->stats.checked_pages++;
    log_put(LOG_SMC, "cpu %u page %llx is checked\n", jv->v->index, (unsigned long long)page);
    kill_page(jv, page, false);
    jit_unclaim(jv, page); /* blocks that begin or end in another page may be left */
    jit_page_changed(jv, off);
    note_page(jv, page);
    jv->v->env->code_changed = true;
}

/*
 * What a slow write counts. A kernel that patches itself does so once, all over its pages, and its
 * code should run unchecked for ever after; user mode that writes beside its code is a compiler.
 */
static unsigned weight(const struct jit_vcpu *jv, bool hit)
{
    return (hit ? 16 : 1) * (jit_is_user(jv->mode & 3) ? 16 : 1);
}

bool jit_heat(struct jit_vcpu *jv, ram_off_t off, bool hit)
{
    uint16_t *heat = &jv->heat[off >> RT_PAGE_BITS];
    if (*heat >= HEAT_CHECKED || (!hit && !jv->pages[off >> RT_PAGE_BITS])) {
        return false;
    }
    *heat = (uint16_t)(*heat + weight(jv, hit));
    if (*heat < HEAT_LIMIT) {
        return false;
    }
    begin_checks(jv, off);
    return true;
}

void jit_cool(struct jit_vcpu *jv, uint64_t now_ms)
{
    size_t kept = 0;
    if (!jv->checked_count || now_ms < jv->cool_at) {
        return;
    }
    jv->cool_at = now_ms + COOL_MS;
    for (size_t i = 0; i < jv->checked_count; i++) {
        ram_off_t page = jv->checked[i];
        if (jv->heat[page >> RT_PAGE_BITS]-- == HEAT_CHANGED) {
            jv->checked[kept++] = page;
            continue;
        }
        kill_page(jv, page, true);
        jv->heat[page >> RT_PAGE_BITS] = 0;
        jv->stats.cooled_pages++;
    }
    jv->checked_count = kept;
}

bool jit_same_key(const struct jit_block *a, const struct jit_block *b)
{
    return a->pc == b->pc && a->mode == b->mode && a->off == b->off && a->off2 == b->off2 &&
           a->plain == b->plain;
}

static bool same_bytes(const uint8_t *at, const uint8_t *was, unsigned n, uint64_t live)
{
    if (!live) {
        return memcmp(at, was, n) == 0;
    }
    for (unsigned i = 0; i < n; i++) {
        if (at[i] != was[i] && !(live >> i & 1)) {
            return false;
        }
    }
    return true;
}

bool jit_matches(const struct jit_block *b)
{
    const struct ir_self *s = &b->check->self;
    return same_bytes(s->at[0], s->was, s->n[0], s->live) &&
           (!s->n[1] || same_bytes(s->at[1], s->was + s->n[0], s->n[1], 0));
}

static bool in_chain(const struct jit_block *x, const struct jit_block *b)
{
    return x->check && x->code.entry && jit_same_key(x, b);
}

struct jit_block *jit_head(const struct jit_vcpu *jv, struct jit_block *b)
{
    struct jit_block *x = b->check ? *jit_bucket(jv, b->pc, b->mode, b->off) : b;
    while (x != b && !in_chain(x, b)) {
        x = x->hash_next;
    }
    return x;
}

void jit_chain(struct jit_vcpu *jv, const struct jit_block *b)
{
    const struct jit_block *last = NULL;
    if (!jv->host) {
        return;
    }
    codemem_begin_write(&jv->mem);
    for (struct jit_block *x = *jit_bucket(jv, b->pc, b->mode, b->off); x; x = x->hash_next) {
        if (in_chain(x, b)) {
            if (last) {
                jv->host->chain(jv->ctx, &last->code, &x->code);
            }
            last = x;
        }
    }
    if (last) {
        jv->host->chain(jv->ctx, &last->code, NULL);
    }
    codemem_end_write(&jv->mem);
}

/* Bytes in which `now` differs from what x was made from; all if that cannot be told. */
static uint64_t difference(const struct jit_block *x, const uint8_t *now, unsigned avail)
{
    uint64_t diff = 0;
    if (x->bytes > avail) {
        return ~0ull;
    }
    for (unsigned i = 0; i < x->bytes; i++) {
        diff |= (uint64_t)(x->check->was[i] != now[i]) << i;
    }
    return diff;
}

uint64_t jit_live_bytes(const struct jit_vcpu *jv, uint64_t pc, ram_off_t off, const uint8_t *now,
                        unsigned avail)
{
    for (struct jit_block *x = *jit_bucket(jv, pc, jv->mode, off); x; x = x->hash_next) {
        if (x->check && x->pc == pc && x->mode == jv->mode && x->off == off &&
            x->off2 == RAM_OFF_NONE && !(difference(x, now, avail) & ~x->check->imms)) {
            return difference(x, now, avail) | x->check->self.live;
        }
    }
    return 0;
}

unsigned jit_trial(const struct jit_vcpu *jv, uint64_t pc, ram_off_t off)
{
    unsigned n = 0;
    for (struct jit_block *x = *jit_bucket(jv, pc, jv->mode, off); x; x = x->hash_next) {
        n += x->check && x->code.entry && x->pc == pc && x->mode == jv->mode && x->off == off;
    }
    return jv->tier && n >= TRIAL_FROM ? TRIAL : 0;
}

/* Does b stand for x too? */
static bool covers(const struct jit_block *b, const struct jit_block *x)
{
    return b->bytes == x->bytes &&
           !(difference(x, b->check->was, b->bytes) & ~b->check->self.live) &&
           !(x->check->self.live & ~b->check->self.live);
}

void jit_drop_versions(struct jit_vcpu *jv, const struct jit_block *b)
{
    unsigned n = 0;
    struct jit_block *oldest = NULL;
    for (struct jit_block *x = *jit_bucket(jv, b->pc, b->mode, b->off), *next; x; x = next) {
        next = x->hash_next;
        if (x->check && jit_same_key(x, b)) {
            if (x->trial || (b->check->self.live && covers(b, x))) {
                jit_kill(jv, x);
                continue;
            }
            oldest = oldest ? oldest : x;
            n++;
        }
    }
    if (n >= VERSIONS && !b->trial) {
        jit_kill(jv, oldest);
    }
}
