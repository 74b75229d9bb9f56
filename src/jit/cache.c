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

static unsigned hash_of(uint64_t pc, uint32_t mode, ram_off_t off)
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

static void link_page(struct jit_vcpu *jv, struct jit_block *b, unsigned which)
{
    ram_off_t off = which ? b->off2 : b->off;
    struct jit_block **head = &jv->pages[off >> RT_PAGE_BITS];
    b->page_next[which] = *head;
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

static struct jit_block **next_in_page(struct jit_block *b, ram_off_t page)
{
    return &b->page_next[page_of(b->off) == page ? 0 : 1];
}

static void unlink_page(struct jit_vcpu *jv, struct jit_block *b, ram_off_t page)
{
    struct jit_block **p = &jv->pages[page >> RT_PAGE_BITS];
    while (*p != b) {
        p = next_in_page(*p, page);
    }
    *p = *next_in_page(b, page);
    if (!jv->pages[page >> RT_PAGE_BITS]) { /* last one: writes may be fast again */
        struct ram *ram = ram_at(jv, page);
        jv->granules[page >> RT_PAGE_BITS] = 0;
        atomic_fetch_and(&ram->code_pages[(page - ram->base) >> RT_PAGE_BITS],
                         (uint8_t) ~(1u << jv->v->index));
        jit_tlb_unprotected(jv, page);
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

static void kill_block(struct jit_vcpu *jv, struct jit_block *b)
{
    struct jit_block **p = &jv->hash[hash_of(b->pc, b->mode, b->off)];
    while (*p != b) {
        p = &(*p)->hash_next;
    }
    *p = b->hash_next;
    unlink_page(jv, b, page_of(b->off));
    if (in_two_pages(b)) {
        unlink_page(jv, b, b->off2);
    }
    if (b->code.entry) {
        codemem_begin_write(&jv->mem);
        unlink_code(jv, b);
        codemem_end_write(&jv->mem);
    }
    b->dead = true;
    b->hash_next = jv->zombies;
    jv->zombies = b;
}

static void free_block(struct jit_vcpu *jv, struct jit_block *b)
{
    free(b->ir);
    pool_give(&jv->blocks, b);
}

/* Blocks with machine code stay until their arena is used again: frames may return into them. */
void jit_free_zombies(struct jit_vcpu *jv)
{
    while (jv->zombies) {
        struct jit_block *b = jv->zombies;
        jv->zombies = b->hash_next;
        if (!b->code.entry) {
            free_block(jv, b);
        }
    }
}

void jit_invalidate(struct jit_vcpu *jv, ram_off_t off, uint64_t len)
{
    ram_off_t last = off + len - 1;
    for (ram_off_t page = page_of(off); page <= last; page += RT_PAGE_SIZE) {
        for (struct jit_block *b = jv->pages[page >> RT_PAGE_BITS], *next; b; b = next) {
            next = *next_in_page(b, page);
            bool first = page_of(b->off) == page;
            unsigned in_first = RT_PAGE_SIZE - (b->off & (RT_PAGE_SIZE - 1));
            ram_off_t lo = first ? b->off : b->off2;
            unsigned n = b->off2 == RAM_OFF_NONE ? b->bytes
                         : first                 ? in_first
                                                 : b->bytes - in_first;
            bool folded = b->off2 != RAM_OFF_NONE && !in_two_pages(b);
            if (folded || (lo <= last && off <= lo + n - 1)) {
                jv->stats.invalidated++;
                jv->v->env->code_changed = true;
                if (log_at(LOG_SMC, b->pc)) {
                    log_put(LOG_SMC, "cpu %u write to %llx drops block %llx\n", jv->v->index,
                            (unsigned long long)off, (unsigned long long)b->pc);
                }
                kill_block(jv, b);
            }
        }
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
            kill_block(jv, jv->hash[i]);
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
                kill_block(jv, b);
            }
        }
    }
}

void jit_free_all(struct jit_vcpu *jv)
{
    bool ir = jv->lockstep || jv->stats.blocks != jv->stats.emitted; /* blocks have some */
    jit_free_zombies(jv);
    for (unsigned i = 0; ir && i < ARRAY_LEN(jv->hash); i++) {
        for (struct jit_block *b = jv->hash[i]; b; b = b->hash_next) {
            free(b->code.entry ? NULL : b->ir);
        }
    }
    for (unsigned a = 0; jv->arenas && a < jv->mem.narenas; a++) {
        for (unsigned i = 0; ir && i < jv->arenas[a].count; i++) {
            free(jv->arenas[a].block[i]->ir);
        }
        free(jv->arenas[a].block);
    }
    free(jv->arenas);
    pool_free(&jv->blocks);
}

static void forget_jumps(struct rt_env *env)
{
    for (unsigned i = 0; i < ARRAY_LEN(env->jump); i++) {
        env->jump[i] = (struct rt_jump_entry){0};
    }
}

static void free_arena(struct jit_vcpu *jv, struct jit_arena *a)
{
    for (unsigned i = 0; i < a->count; i++) {
        free_block(jv, a->block[i]);
    }
    a->count = 0;
}

/* Everything in the arena that comes next dies; its memory is then used again. */
static void evict_arena(struct jit_vcpu *jv)
{
    jit_limit_plan(jv);
    unsigned a = codemem_next(&jv->mem);
    for (unsigned i = 0; i < jv->arenas[a].count; i++) {
        struct jit_block *b = jv->arenas[a].block[i];
        if (!b->dead) {
            jit_limit_dropped(jv, b);
            kill_block(jv, b);
            jv->stats.evicted++;
        }
        struct jit_block **z = &jv->zombies;
        while (*z && *z != b) {
            z = &(*z)->hash_next;
        }
        if (*z) {
            *z = b->hash_next;
        }
    }
    free_arena(jv, &jv->arenas[a]);
    codemem_advance(&jv->mem);
    forget_jumps(jv->v->env);
    jit_forget_frames(jv);
}

struct source {
    const struct jit_itlb *first;
    ram_off_t off, off2;
    const uint8_t *code;
    unsigned avail;
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
                       .vcpu = jv->v};
    s->off2 = RAM_OFF_NONE;
    if (jv->v->isa->translate(b, &t) == TR_NEED_PAGE) {
        memcpy(jv->cross, s->code, s->avail);
        const struct jit_itlb *next = jit_fetch(jv, va + s->avail);
        if (!next) {
            return NULL;
        }
        claim_page(jv, next->ram, next->off);
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
    return true;
}

/* CPU time of this thread: other load on the host does not count. */
static uint64_t clock_thread_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static unsigned scattered_index(uint64_t pc)
{
    return (unsigned)(pc ^ pc >> 8) % JIT_SCATTERED;
}

/* What is known of the block at pc; of another one there, perhaps: it costs speed only. */
static uint64_t known_scattered(const struct jit_vcpu *jv, uint64_t pc)
{
    unsigned n = scattered_index(pc);
    return jv->scattered[n].pc == pc ? jv->scattered[n].bits : 0;
}

static void arena_add(struct jit_arena *a, struct jit_block *b)
{
    if (a->count == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->block = alloc_resize(a->block, a->room, sizeof(*a->block));
    }
    a->block[a->count++] = b;
}

/* The last block of the arena that begins at or before an address of the same kind, hot or cold. */
struct jit_block *jit_block_at(const struct jit_vcpu *jv, uint64_t host_addr)
{
    const uint8_t *at = (const uint8_t *)(uintptr_t)host_addr - jv->mem.cur.to_rx;
    const struct jit_arena *a = &jv->arenas[codemem_arena_of(&jv->mem, at)];
    unsigned lo = 0, hi = a->count;
    bool cold = (size_t)(at - jv->mem.rw) % CODEMEM_ARENA >= CODEMEM_HOT;
    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;
        const struct ir_code *c = &a->block[mid]->code;
        if ((cold ? c->cold : c->hot) <= at) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return a->block[lo];
}

/* Before the new block's pages are claimed: eviction gives back pages whose last block dies (C2).
 */
static void make_room(struct jit_vcpu *jv)
{
    if (jv->tier && (!codemem_has_room(&jv->mem) || inject(&jv->inject, INJECT_EVICT))) {
        evict_arena(jv);
    }
}

static void emit(struct jit_vcpu *jv, struct jit_block *b, const struct ir_block *ir,
                 enum ir_form form)
{
    codemem_begin_write(&jv->mem);
    b->code.form = form;
    b->code.scattered = known_scattered(jv, b->pc);
    b->code.heat = (uint16_t)(hash_of(b->pc, b->mode, b->off) % RT_HEAT);
    jv->v->env->heat[b->code.heat] = RT_HEAT_COLD;
    if (jv->host->emit(jv->ctx, ir, &jv->mem.cur, &b->code)) {
        arena_add(&jv->arenas[jv->mem.arena], b);
        jv->stats.emitted++;
        jv->stats.hot_bytes += b->code.hot_size;
        jv->stats.cold_bytes += b->code.cold_size;
        jv->stats.unlowered[b->code.stop_op] += b->code.ninsns < ir->ninsns;
        for (unsigned i = 0; i < b->code.nlinks; i++) {
            b->code.links[i]->from = b;
        }
        if (log_at(LOG_OUT_ASM, b->pc)) {
            trace_code(jv, b);
        }
        if (jv->jm->perfmap) {
            trace_perfmap_add(jv, b);
        }
    } else {
        b->code = (struct ir_code){0};
    }
    codemem_end_write(&jv->mem);
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

static struct jit_block *make(struct jit_vcpu *jv, uint64_t pc, struct source *s, gva_t va,
                              enum ir_form form)
{
    uint64_t start = jv->jm->opt.stats ? clock_thread_ns() : 0;
    make_room(jv);
    claim_page(jv, s->first->ram, s->off);
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
    jit_limit_made(jv, b);
    if (jv->tier && !b->special) {
        emit(jv, b, ir, form);
    }
    if (!b->code.entry || jv->lockstep) {
        b->ir = ir_block_copy(ir);
    }
    struct jit_block **head = &jv->hash[hash_of(pc, b->mode, b->off)];
    b->hash_next = *head;
    *head = b;
    claim_page(jv, ram_at(jv, b->off), b->off); /* again: emit() may have dropped its last block */
    link_page(jv, b, 0);
    if (in_two_pages(b)) {
        claim_page(jv, ram_at(jv, b->off2), b->off2);
        link_page(jv, b, 1);
    }
    jv->stats.blocks++;
    jv->stats.guest_insns += ir->ninsns;
    jv->stats.guest_bytes += ir->bytes;
    if (jv->jm->opt.stats) {
        jv->stats.translate_ns += clock_thread_ns() - start;
    }
    return b;
}

/* Lockstep compares single passes: no block may leave to become hot, or go round by itself. */
static enum ir_form first_form(const struct jit_vcpu *jv, uint64_t pc)
{
    enum ir_form form = jv->jm->opt.form;
    if (jv->lockstep) {
        return form == IR_FORM_PLAIN || (form == IR_FORM_FIRST && (pc & 2)) ? IR_FORM_PLAIN
                                                                            : IR_FORM_WARM;
    }
    return form == IR_FORM_FIRST && known_scattered(jv, pc) ? IR_FORM_LOOP : form;
}

static bool is_hot(const struct jit_vcpu *jv, const struct jit_block *b)
{
    return b->code.entry && b->code.form == IR_FORM_FIRST && !jv->v->env->heat[b->code.heat];
}

void jit_note_scattered(struct jit_vcpu *jv, struct jit_block *b, uint64_t pc)
{
    unsigned n = scattered_index(b->pc);
    jv->scattered[n].pc = b->pc;
    jv->scattered[n].bits = b->code.scattered | 1ull << ((pc - b->pc) & 63);
    jv->stats.scattered++;
    if (!b->dead) {
        kill_block(jv, b);
    }
}

static struct jit_block *find(struct jit_vcpu *jv, uint64_t pc, bool plain)
{
    gva_t va = jv->v->isa->fetch_address(jv->v, pc);
    struct source s;
    if (!open_source(jv, va, &s)) {
        return NULL;
    }
    for (struct jit_block *b = jv->hash[hash_of(pc, jv->mode, s.off)]; b; b = b->hash_next) {
        if (b->pc != pc || b->mode != jv->mode || b->off != s.off || b->plain != plain) {
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
        if (is_hot(jv, b)) {
            kill_block(jv, b);
            jv->stats.warmed++;
            return make(jv, pc, &s, va, IR_FORM_LOOP);
        }
        return b;
    }
    struct jit_block *b = make(jv, pc, &s, va, plain ? IR_FORM_PLAIN : first_form(jv, pc));
    if (b) {
        b->plain = plain;
    }
    return b;
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
