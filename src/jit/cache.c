/*
 * Translations of one vCPU: finding, making, and dropping them when their bytes change.
 *
 * C1: a block is in its hash chain and in the list of every RAM page it has bytes in, or it is dead
 *     and in the zombie list; zombies are freed at a safepoint, never while code may run in them.
 * C2: the vCPU's bit in ram->code_pages[] is set before the bytes of the page are read for
 *     translation, and with more than one vCPU all others have passed a safepoint in between.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "core/machine.h"
#include "jit/internal.h"
#include "jit/lockstep.h"
#include "jit/trace.h"

#define MAX_INSNS 64

unsigned jit_hash(uint64_t pc, uint32_t mode, ram_off_t off)
{
    uint64_t h = (pc ^ off << 1 ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - JIT_HASH_BITS));
}

static ram_off_t page_of(ram_off_t off)
{
    return off & ~(ram_off_t)(RT_PAGE_SIZE - 1);
}

static struct ram *ram_at(const struct jit_vcpu *jv, ram_off_t off)
{
    return ram_set_find(&jv->jm->m->ram, off);
}

/* Announces that this vCPU is about to have translations of a page (C2). */
static void claim_page(struct jit_vcpu *jv, struct ram *ram, ram_off_t off)
{
    _Atomic uint8_t *byte = &ram->code_pages[(off - ram->base) >> RT_PAGE_BITS];
    uint8_t bit = (uint8_t)(1u << jv->v->index);
    if (atomic_load(byte) & bit) {
        return;
    }
    if (jv->jm->count == 1) {
        atomic_store(byte, bit);
    } else {
        jit_exclusive_begin(jv);
        atomic_fetch_or(byte, bit);
        for (unsigned i = 0; i < jv->jm->count; i++) {
            if (jv->jm->cpu[i] != jv) {
                jit_post_mail(jv->jm->cpu[i], (struct jit_mail){.off = page_of(off)});
            }
        }
        jit_exclusive_end(jv);
    }
    jit_tlb_protect(jv, page_of(off));
}

/* Both halves of a crossing instruction can be one page of RAM, mapped twice. */
static bool in_two_pages(const struct jit_block *b)
{
    return b->off2 != RAM_OFF_NONE && b->off2 != page_of(b->off);
}

/* Bits of the 64-byte granules from byte `first` to byte `last` of a page. */
static uint64_t mask_granules(unsigned first, unsigned last)
{
    return ~0ull << (first >> 6) & ~0ull >> (63 - (last >> 6));
}

/* Which of a block's lists is that of this page. */
static unsigned list_of(const struct jit_block *b, ram_off_t page)
{
    return page_of(b->off) == page ? 0 : 1;
}

static void link_page(struct jit_vcpu *jv, struct jit_block *b, unsigned which)
{
    ram_off_t off = which ? b->off2 : b->off;
    struct jit_block **head = &jv->pages[off >> RT_PAGE_BITS];
    b->page_next[which] = *head;
    b->page_prev[which] = head;
    if (*head) {
        (*head)->page_prev[list_of(*head, page_of(off))] = &b->page_next[which];
    }
    *head = b;
    unsigned first = (unsigned)(off & (RT_PAGE_SIZE - 1)), end = first + b->bytes - 1u;
    if (b->off2 != RAM_OFF_NONE) { /* one instruction over two pages */
        first = which || !in_two_pages(b) ? 0 : first;
        end = RT_PAGE_SIZE - 1;
    }
    jv->granules[off >> RT_PAGE_BITS] |= mask_granules(first, end);
}

bool jit_write_misses_code(const struct jit_vcpu *jv, const struct ram *ram, ram_off_t off,
                           unsigned size)
{
    unsigned at = (unsigned)(off & (RT_PAGE_SIZE - 1));
    unsigned who = atomic_load(&ram->code_pages[(off - ram->base) >> RT_PAGE_BITS]);
    return (who & ~(1u << jv->v->index)) == 0 &&
           !(jv->granules[off >> RT_PAGE_BITS] & mask_granules(at, at + size - 1));
}

static void unlink_page(struct jit_vcpu *jv, struct jit_block *b, ram_off_t page)
{
    unsigned which = list_of(b, page);
    struct jit_block *next = b->page_next[which];
    *b->page_prev[which] = next;
    if (next) {
        next->page_prev[list_of(next, page)] = b->page_prev[which];
    }
    if (!jv->pages[page >> RT_PAGE_BITS]) { /* last one: writes may be fast again */
        struct ram *ram = ram_at(jv, page);
        uint8_t bit = (uint8_t)(1u << jv->v->index);
        jv->granules[page >> RT_PAGE_BITS] = 0;
        if (atomic_fetch_and(&ram->code_pages[(page - ram->base) >> RT_PAGE_BITS], (uint8_t)~bit) &
            bit) {
            jit_tlb_unprotected(jv, page);
        }
    }
}

static void unlink_incoming(struct jit_vcpu *jv, struct jit_block *b)
{
    for (struct ir_link *l = b->incoming, *next; l; l = next) {
        next = l->next;
        if (log_at(LOG_LINK, b->pc)) {
            log_put(LOG_LINK, "cpu %u unlink %llx\n", jv->v->index, (unsigned long long)b->pc);
        }
        jv->host->unlink(jv->ctx, l);
        l->to = NULL;
        l->next = NULL;
        l->prev = NULL;
    }
    b->incoming = NULL;
}

void jit_unlink_all(struct jit_vcpu *jv, struct jit_block *b)
{
    codemem_begin_write(&jv->mem);
    unlink_incoming(jv, b);
    codemem_end_write(&jv->mem);
}

static void unlink_code(struct jit_vcpu *jv, struct jit_block *b)
{
    unlink_incoming(jv, b);
    for (unsigned i = 0; i < b->code.nlinks; i++) {
        struct ir_link *l = b->code.links[i];
        if (l->to) { /* its return sites may be returned to, and lead nowhere then */
            jv->host->unlink(jv->ctx, l);
            *l->prev = l->next;
            if (l->next) {
                l->next->prev = l->prev;
            }
            l->to = NULL;
        }
    }
    jv->host->kill(jv->ctx, &b->code, b->pc);
}

static void leave_hash(struct jit_vcpu *jv, struct jit_block *b)
{
    struct jit_block **p = &jv->hash[jit_hash(b->pc, b->mode, b->off)];
    while (*p != b) {
        p = &(*p)->hash_next;
    }
    *p = b->hash_next;
}

void jit_kill(struct jit_vcpu *jv, struct jit_block *b)
{
    leave_hash(jv, b);
    unlink_page(jv, b, page_of(b->off));
    if (in_two_pages(b)) {
        unlink_page(jv, b, b->off2);
    }
    if (b->code.entry) {
        codemem_begin_write(&jv->mem);
        unlink_code(jv, b);
        codemem_end_write(&jv->mem);
    }
    if (b->check) {
        jit_chain(jv, b);
        free(b->check); /* its code has all of it */
        b->check = NULL;
    }
    b->dead = true;
    b->hash_next = jv->zombies;
    jv->zombies = b;
}

void jit_free_block(struct jit_vcpu *jv, struct jit_block *b)
{
    free(b->ir);
    free(b->check);
    pool_give(&jv->blocks, b);
}

/* Blocks with machine code stay until their arena is used again: frames may return into them. */
void jit_free_zombies(struct jit_vcpu *jv)
{
    while (jv->zombies) {
        struct jit_block *b = jv->zombies;
        jv->zombies = b->hash_next;
        if (!b->code.entry) {
            jit_free_block(jv, b);
        }
    }
}

void jit_invalidate(struct jit_vcpu *jv, ram_off_t off, uint64_t len)
{
    ram_off_t last = off + len - 1;
    for (ram_off_t page = page_of(off); page <= last; page += RT_PAGE_SIZE) {
        uint64_t dropped = jv->stats.invalidated;
        for (struct jit_block *b = jv->pages[page >> RT_PAGE_BITS], *next; b; b = next) {
            next = b->page_next[list_of(b, page)];
            bool first = page_of(b->off) == page;
            unsigned in_first = RT_PAGE_SIZE - (b->off & (RT_PAGE_SIZE - 1));
            ram_off_t lo = first ? b->off : b->off2;
            unsigned n = b->off2 == RAM_OFF_NONE ? b->bytes
                         : first                 ? in_first
                                                 : b->bytes - in_first;
            bool folded = b->off2 != RAM_OFF_NONE && !in_two_pages(b);
            if (!b->check && (folded || (lo <= last && off <= lo + n - 1))) {
                jv->stats.invalidated++;
                jv->v->env->code_changed = true;
                if (log_at(LOG_SMC, b->pc)) {
                    log_put(LOG_SMC, "cpu %u write to %llx drops block %llx\n", jv->v->index,
                            (unsigned long long)off, (unsigned long long)b->pc);
                }
                jit_kill(jv, b);
            }
        }
        jit_heat(jv, page, jv->stats.invalidated != dropped);
    }
}

void jit_wrote_code(struct jit_vcpu *jv, struct ram *ram, ram_off_t off, uint64_t len)
{
    for (ram_off_t page = page_of(off); page < off + len; page += RT_PAGE_SIZE) {
        unsigned who = atomic_load(&ram->code_pages[(page - ram->base) >> RT_PAGE_BITS]);
        for (unsigned i = 0; i < jv->jm->count; i++) {
            if (i != jv->v->index && (who >> i & 1)) {
                jit_post_mail(jv->jm->cpu[i], (struct jit_mail){.off = off, .len = len});
            }
        }
        if (who >> jv->v->index & 1) {
            jit_invalidate(jv, off, len);
        }
    }
}

/* Any thread. */
void jit_dma_wrote(void *opaque, ram_off_t off, uint64_t len)
{
    struct jit_machine *jm = opaque;
    for (unsigned i = 0; i < jm->count; i++) {
        jit_post_mail(jm->cpu[i], (struct jit_mail){.off = off, .len = len});
    }
}

void jit_drop_all(struct jit_vcpu *jv)
{
    for (unsigned i = 0; jv->stats.blocks && i < ARRAY_LEN(jv->hash); i++) {
        while (jv->hash[i]) {
            jit_kill(jv, jv->hash[i]);
        }
    }
    jit_free_zombies(jv);
}

void jit_drop_breaks(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < ARRAY_LEN(jv->hash); i++) {
        for (struct jit_block *b = jv->hash[i], *next; b; b = next) {
            next = b->hash_next;
            if (b->cut || b->special || jit_has_break(jv, b)) {
                jit_kill(jv, b);
            }
        }
    }
}

void jit_free_all(struct jit_vcpu *jv)
{
    bool ir = jv->lockstep || jv->stats.blocks != jv->stats.emitted || jv->stats.checked_blocks;
    jit_free_zombies(jv);
    for (unsigned i = 0; ir && i < ARRAY_LEN(jv->hash); i++) {
        for (struct jit_block *b = jv->hash[i]; b; b = b->hash_next) {
            if (!b->code.entry) {
                free(b->ir);
                free(b->check);
            }
        }
    }
    for (unsigned a = 0; jv->arenas && a < jv->mem.narenas; a++) {
        for (unsigned i = 0; ir && i < jv->arenas[a].count; i++) {
            free(jv->arenas[a].block[i]->ir);
            free(jv->arenas[a].block[i]->check);
        }
        free(jv->arenas[a].block);
    }
    free(jv->arenas);
    pool_free(&jv->blocks);
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
        memcpy(jv->cross, s->code, s->avail);
        const struct jit_itlb *next = jit_fetch(jv, va + s->avail);
        if (!next) {
            return NULL;
        }
        s->checked |= jit_page_checked(jv, next->off);
        if (!s->checked) {
            claim_page(jv, next->ram, next->off);
        }
        s->where[1] = next->host;
        memcpy(jv->cross + s->avail, next->host, 16);
        t.code = s->code = jv->cross;
        t.avail2 = 16;
        s->off2 = next->off;
        jv->v->isa->translate(b, &t);
        if (b->bytes <= s->avail) { /* all in the first page after all */
            s->off2 = RAM_OFF_NONE;
        }
    }
    if (log_at(LOG_IN_ASM | LOG_OP, pc)) {
        trace_block(jv, b, s->code);
    }
    if (s->trial) {
        return b; /* it is not worth that yet */
    }
    ir_optimize(b);
    if (log_at(LOG_OP_OPT, pc)) {
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
    s->checked = jit_page_checked(jv, s->off);
    if (!s->checked) {
        claim_page(jv, s->first->ram, s->off);
        return;
    }
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

/* Behind those of its key, so that the first one stays what links lead to; on trial: in front. */
static void enter_hash(struct jit_vcpu *jv, struct jit_block *b)
{
    struct jit_block **at = &jv->hash[jit_hash(b->pc, b->mode, b->off)];
    if (b->check) {
        jit_drop_versions(jv, b);
        for (struct jit_block **p = at; *p && !b->trial; p = &(*p)->hash_next) {
            at = jit_same_key(*p, b) ? &(*p)->hash_next : at;
        }
    }
    b->hash_next = *at;
    *at = b;
}

void jit_promote(struct jit_vcpu *jv, struct jit_block *b)
{
    ir_optimize(b->ir);
    jit_make_room(jv);
    jit_emit(jv, b, b->ir, jit_first_form(jv, b->pc));
    leave_hash(jv, b);
    enter_hash(jv, b);
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
    uint64_t start = jv->jm->opt.stats ? clock_thread_ns() : 0;
    jit_free_zombies(jv);
    jit_make_room(jv);
    begin_source(jv, pc, s);
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
        b->trial = (uint8_t)(form == IR_FORM_LOOP ? 0 : s->trial); /* a hot one had its trial */
        jv->stats.checked_blocks++;
        jv->stats.live_blocks += ir->live != 0;
    }
    if (jv->tier && !b->special && !b->trial) {
        jit_emit(jv, b, ir, form);
    }
    if (!b->code.entry || jv->lockstep) {
        b->ir = ir_block_copy(ir);
    }
    enter_hash(jv, b);
    link_page(jv, b, 0);
    if (in_two_pages(b)) {
        claim_page(jv, ram_at(jv, b->off2), b->off2);
        link_page(jv, b, 1);
    }
    if (b->check && b->code.entry) {
        jit_chain(jv, b);
    }
    jv->stats.blocks++;
    jv->stats.guest_insns += ir->ninsns;
    jv->stats.guest_bytes += ir->bytes;
    if (jv->jm->opt.stats) {
        jv->stats.translate_ns += clock_thread_ns() - start;
    }
    return b;
}

static struct jit_block *find(struct jit_vcpu *jv, uint64_t pc, bool plain)
{
    gva_t va = jv->v->isa->fetch_address(jv->v, pc);
    struct source s;
    if (!open_source(jv, va, &s)) {
        return NULL;
    }
    for (struct jit_block *b = jv->hash[jit_hash(pc, jv->mode, s.off)]; b; b = b->hash_next) {
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
            jit_kill(jv, b);
            jv->stats.warmed++;
            return make(jv, pc, &s, va, IR_FORM_LOOP, plain);
        }
        return b;
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
    return lift(jv, pc, va, 1, &s);
}
