/*
 * Making translations: from guest code to blocks in the cache. C2 (cache.c) and C3 (checked.c) say
 * how changes of the bytes are noticed; one of them holds from before they are read.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "jit/internal.h"
#include "jit/lockstep.h"
#include "jit/trace.h"

#define MAX_INSNS 64
#define TIMED_ONE_IN 16 /* translations: reading the clock takes as long as a short one */

static bool claimed(const struct jit_vcpu *jv, const struct ram *ram, ram_off_t off)
{
    return jit_claimed(ram, off, jv->v->index);
}

/* Announces that this vCPU is about to have translations of a page (C2). Others may run meanwhile,
 * and there may be mail: what was known of pages and blocks before is to be looked at again. */
static void claim_page(struct jit_vcpu *jv, struct ram *ram, ram_off_t off)
{
    _Atomic uint8_t *byte = jit_code_byte(ram, off, jv->v->index);
    uint8_t bit = jit_code_bit(jv->v->index);
    if (claimed(jv, ram, off)) {
        return;
    }
    if (jv->jm->count == 1) {
        atomic_store(byte, bit);
    } else {
        jit_exclusive_begin(jv);
        atomic_fetch_or(byte, bit);
        for (unsigned i = 0; i < jv->jm->count; i++) {
            if (jv->jm->cpu[i] != jv) {
                jit_post_mail(jv->jm->cpu[i], (struct jit_mail){.off = jit_page_of(off)});
            }
        }
        jit_exclusive_end(jv);
    }
    jit_tlb_protect(jv, jit_page_of(off));
}

struct source {
    const struct jit_itlb *first;
    ram_off_t off, off2;
    const uint8_t *code;
    unsigned avail;
    bool checked;
    unsigned trial;
    uint64_t live;
    const uint8_t *where[2]; /* in guest RAM: the first byte, those in the second page */
};

static void unclaim_checked(struct jit_vcpu *jv, ram_off_t off)
{
    if (jit_page_checked(jv, off)) {
        jit_unclaim(jv, jit_page_of(off));
    }
}

/* Both pages of an instruction that crosses, or none and the block is to be checked. Mail that
 * comes with a claim may drop the other page's last block and with it its claim. */
static void claim_second(struct jit_vcpu *jv, struct source *s, const struct jit_itlb *next)
{
    while (!(s->checked |= jit_page_checked(jv, s->off) || jit_page_checked(jv, next->off)) &&
           !(claimed(jv, s->first->ram, s->off) && claimed(jv, next->ram, next->off))) {
        claim_page(jv, s->first->ram, s->off);
        claim_page(jv, next->ram, next->off);
        unclaim_checked(jv, s->off);
        unclaim_checked(jv, next->off);
    }
}

static struct ir_block *lift(struct jit_vcpu *jv, uint64_t pc, gva_t va, unsigned max,
                             struct source *s)
{
    struct ir_block *b = ir_buf_init(&jv->buf);
    struct tr_ctx t = {.pc = pc,
                       .mode = jv->mode,
                       .code = s->code,
                       .avail = s->avail,
                       .max_insns = max,
                       .after_store = s->checked,
                       .live = s->live,
                       .where = s->where[0],
                       .vcpu = jv->v};
    s->off2 = RAM_OFF_NONE;
    if (jv->v->isa->translate(b, &t) == TR_NEED_PAGE) {
        const struct jit_itlb *next = jit_fetch(jv, va + s->avail);
        if (!next) {
            return NULL;
        }
        claim_second(jv, s, next);
        memmove(jv->cross, s->code, s->avail); /* only now: nobody told of writes before */
        s->where[1] = next->host;
        memcpy(jv->cross + s->avail, next->host, 16);
        t.code = s->code = jv->cross;
        t.avail2 = 16;
        t.live = 0;
        t.after_store = s->checked;
        s->off2 = next->off;
        jv->v->isa->translate(b, &t);
        if (b->bytes <= s->avail) { /* all in the first page after all */
            s->off2 = RAM_OFF_NONE;
        }
    }
    if (log_at(LOG_IN_ASM | LOG_OP, pc)) {
        trace_block(jv, b, s->code);
    }
    if (log_at(LOG_OP_OPT, pc)) {
        ir_optimize(b);
        trace_optimized(jv, b);
    }
    return b;
}

static bool open_source(struct jit_vcpu *jv, gva_t va, struct source *s)
{
    s->first = jit_fetch(jv, va);
    if (!s->first) {
        return false;
    }
    unsigned in_page = va & (RT_PAGE_SIZE - 1);
    s->off = s->first->off + in_page;
    s->code = s->first->host + in_page;
    s->avail = RT_PAGE_SIZE - in_page;
    s->checked = false;
    s->trial = 0;
    s->live = 0;
    s->where[0] = s->code;
    return true;
}

/* CPU time of this thread: other load on the host does not count. */
static uint64_t clock_thread_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What a reading of the clock adds to what is measured: on some hosts more than a short block's
 * translation takes. */
static uint64_t clock_cost_ns(void)
{
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t start = clock_thread_ns(), n = clock_thread_ns() - start;
        best = n < best ? n : best;
    }
    return best;
}

/* The block just made took from `start` on, and stands for others. */
static void count_time(struct jit_vcpu *jv, uint64_t start)
{
    uint64_t took = clock_thread_ns() - start;
    if (!jv->clock_cost) {
        jv->clock_cost = clock_cost_ns();
    }
    jv->stats.translate_ns += TIMED_ONE_IN * (took > jv->clock_cost ? took - jv->clock_cost : 0);
}

static void verify(const struct ir_block *ir)
{
    struct err err;
    if (ir_verify(ir, &err)) {
        struct strbuf sb = {0};
        ir_print(&sb, ir);
        log_put(LOG_ALWAYS, "internal: %s\n%s", err.text, strbuf_text(&sb));
        abort();
    }
}

/* Makes sure that changes of the bytes are noticed from now on: they are copied (C3), or C2. */
static void begin_source(struct jit_vcpu *jv, uint64_t pc, struct source *s)
{
    if (!jit_page_checked(jv, s->off)) {
        claim_page(jv, s->first->ram, s->off);
        if (!jit_page_checked(jv, s->off)) {
            return;
        }
        jit_unclaim(jv, jit_page_of(s->off)); /* there was mail */
    }
    s->checked = true;
    jit_page_changed(jv, s->off);
    s->avail = s->avail < sizeof(jv->snapshot) ? s->avail : sizeof(jv->snapshot);
    memcpy(jv->snapshot, s->code, s->avail);
    s->code = jv->snapshot;
    s->live = jit_live_bytes(jv, pc, s->off, s->code, s->avail);
    s->trial = s->live ? 0 : jit_trial(jv, pc, s->off);
}

/* What the block compares at its entry. */
static void add_check(struct jit_block *b, struct ir_block *ir, const struct source *s)
{
    struct jit_check *c = alloc_zero(sizeof(*c));
    bool one = b->off2 == RAM_OFF_NONE;
    memcpy(c->was, s->code, b->bytes);
    c->imms = ir->imms;
    c->self = (struct ir_self){.at = {s->where[0], one ? NULL : s->where[1]},
                               .n = {one ? b->bytes : s->avail, one ? 0 : b->bytes - s->avail},
                               .was = c->was,
                               .live = ir->live};
    b->check = c;
    ir->check = &c->self;
}

/* Tier 1 finds out by itself what is not needed. */
static bool for_tier0(const struct jit_vcpu *jv, const struct jit_block *b)
{
    return !b->code.entry || jv->lockstep;
}

void jit_promote(struct jit_vcpu *jv, struct jit_block *b)
{
    jit_make_room(jv);
    jit_emit(jv, b, b->ir, jit_first_form(jv, b->pc));
    if (for_tier0(jv, b)) {
        ir_optimize(b->ir);
    }
    jit_leave_hash(jv, b);
    jit_enter_hash(jv, b);
    if (!b->code.entry) {
        return;
    }
    jit_chain(jv, b);
    if (!jv->lockstep) {
        free(b->ir);
        b->ir = NULL;
    }
}

static struct jit_block *make(struct jit_vcpu *jv, uint64_t pc, struct source *s, gva_t va,
                              enum ir_form form, bool plain)
{
    bool timed = jv->jm->opt.stats && jv->stats.blocks % TIMED_ONE_IN == 0;
    uint64_t start = timed ? clock_thread_ns() : 0;
    jit_free_zombies(jv);
    jit_make_room(jv);
    begin_source(jv, pc, s);
    s->trial = form == IR_FORM_LOOP ? 0 : s->trial; /* a hot one had its trial */
    struct ir_block *ir = lift(jv, pc, va, MAX_INSNS, s);
    if (!ir) {
        return NULL;
    }
    if (jv->lockstep) {
        ir->guest = lockstep_guest(jv->lockstep);
    }
    if (jv->jm->opt.verify) {
        verify(ir);
    }
    struct jit_block *b = pool_take(&jv->blocks, sizeof(*b));
    unsigned take = jit_debug_cut(jv, ir, va, b);
    if (take < ir->ninsns) {
        ir = lift(jv, pc, va, take, s);
    }
    b->pc = pc;
    b->mode = jv->mode;
    b->bytes = (uint16_t)ir->bytes;
    b->off = s->off;
    b->off2 = s->off2;
    b->plain = plain;
    jit_limit_made(jv, b);
    if (s->checked) {
        add_check(b, ir, s);
        b->trial = (uint8_t)s->trial;
        jv->stats.checked_blocks++;
        jv->stats.live_blocks += ir->live != 0;
    }
    if (jv->tier && !b->special && !b->trial) {
        jit_emit(jv, b, ir, form);
    }
    if (for_tier0(jv, b)) {
        if (!b->trial) { /* else it is not worth that yet */
            ir_optimize(ir);
        }
        b->ir = ir_block_copy(ir);
    }
    jit_enter_hash(jv, b);
    jit_link_pages(jv, b);
    jit_homes_made(jv, b);
    if (b->check && b->code.entry) {
        jit_chain(jv, b);
    } else if (b->code.entry) {
        jit_link_early(jv, b);
    }
    jv->stats.blocks++;
    jv->stats.guest_insns += ir->ninsns;
    jv->stats.guest_bytes += ir->bytes;
    if (timed) {
        count_time(jv, start);
    }
    return b;
}

/* A block that has run often is made again. */
static struct jit_block *warm(struct jit_vcpu *jv, struct jit_block *b, struct source *s, gva_t va)
{
    unsigned arena = jv->mem.arena;
    uint64_t pc = b->pc;
    bool plain = b->plain;
    struct jit_links links;
    jit_links_note(b, &links);
    jit_kill(jv, b);
    jv->stats.warmed++;
    struct jit_block *n = make(jv, pc, s, va, IR_FORM_LOOP, plain);
    if (n && jv->mem.arena == arena) {
        jit_links_move(jv, &links, n);
    }
    return n;
}

static struct jit_block *find(struct jit_vcpu *jv, uint64_t pc, bool plain)
{
    gva_t va = jv->v->isa->fetch_address(jv->v, pc);
    struct source s;
    if (!open_source(jv, va, &s)) {
        return NULL;
    }
    for (struct jit_block *b = *jit_bucket(jv, pc, jv->mode, s.off); b; b = b->hash_next) {
        if (b->pc != pc || b->mode != jv->mode || b->off != s.off || b->plain != plain) {
            continue;
        }
        if (b->check && !jit_matches(b)) { /* before its second page is asked for */
            jv->stats.mismatches++;
            continue;
        }
        if (b->off2 != RAM_OFF_NONE) {
            const struct jit_itlb *next = jit_fetch(jv, va + s.avail);
            if (!next) {
                return NULL;
            }
            if (next->off != b->off2) {
                continue;
            }
        }
        if (jit_is_hot(jv, b)) {
            return warm(jv, b, &s, va);
        }
        return b;
    }
    if (jit_homes_move(jv, pc, s.off)) {
        return find(jv, pc, plain);
    }
    return make(jv, pc, &s, va, plain ? IR_FORM_PLAIN : jit_first_form(jv, pc), plain);
}

struct jit_block *jit_find(struct jit_vcpu *jv, uint64_t pc)
{
    return find(jv, pc, false);
}

struct jit_block *jit_find_plain(struct jit_vcpu *jv, uint64_t pc)
{
    return find(jv, pc, true);
}

/* Not entered in the cache: for single steps. */
struct ir_block *jit_lift_one(struct jit_vcpu *jv, uint64_t pc)
{
    gva_t va = jv->v->isa->fetch_address(jv->v, pc);
    struct source s;
    if (!open_source(jv, va, &s)) {
        return NULL;
    }
    s.checked = true; /* nothing is kept, no page need be claimed */
    return lift(jv, pc, va, 1, &s);
}
