/*
 * The run loop of a vCPU's thread, and the accelerator's face to the machine.
 *
 *   find block -> run it (tier 0: interpreter, tier 1: generated code) -> why did it come back?
 *     JUMP, LINK   find the next block (and link it)
 *     FAULT        the ISA delivers it
 *     POLL         somebody set the exit word: safepoint, events
 *     STEP         one instruction by the interpreter
 *     STOP         a helper wants the loop to look around (halt, interrupt shadow, mode change)
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "core/irq_ctrl.h"
#include "core/machine.h"
#include "core/tlb_ops.h"
#include "jit/internal.h"
#include "jit/jit.h"
#include "jit/lockstep.h"
#include "jit/trace.h"

/* An access that misses its line so often in this time is better off with the table: a miss that
 * the soft TLB answers costs some 10 ns. */
enum { SCATTER_MISSES = 500, SCATTER_MS = 4 };

void jit_deliver(struct jit_vcpu *jv)
{
    jv->stats.faults++;
    if (log_on(LOG_INT)) {
        const struct rt_fault *f = &jv->v->env->fault;
        log_put(LOG_INT, "cpu %u fault kind %u vector %u error %x addr %llx pc %llx\n",
                jv->v->index, f->kind, f->vector, f->error, (unsigned long long)f->addr,
                (unsigned long long)jv->v->env->pc);
    }
    jv->v->isa->deliver(jv->v);
}

bool jit_step(struct jit_vcpu *jv)
{
    struct rt_env *env = jv->v->env;
    jv->stats.steps++;
    const struct ir_block *b = jit_lift_step(jv, env->pc);
    jv->stepping = true;
    enum rt_exit why = b ? ir_interp(env, b) : RT_EXIT_FAULT;
    jv->stepping = false;
    env->code_changed = false;
    if (why == RT_EXIT_STOP) {
        atomic_store(&env->exit, 1);
    } else if (why == RT_EXIT_FAULT) {
        jit_deliver(jv);
    } else {
        jit_direct_learn(jv, b);
    }
    jv->direct_site = 0;
    return why != RT_EXIT_FAULT;
}

enum rt_exit jit_enter_code(struct jit_vcpu *jv, const void *entry)
{
    struct rt_env *env = jv->v->env;
    enum rt_exit why = jv->host->enter(jv->ctx, env, entry);
    if (env->site) {
        struct jit_block *b = jit_block_at(jv, env->site);
        jv->plain_site = env->site;
        why = jv->host->settle(jv->ctx, env, &b->code, why);
        why = jit_direct_left(jv, jv->plain_site, why);
        if (why == RT_EXIT_SCATTER) {
            jit_hints_count(jv, b);
            why = RT_EXIT_STEP;
        } else if (why == RT_EXIT_SHARED) {
            jit_hints_shared(jv, b, env->pc);
            why = RT_EXIT_STEP;
        } else if (why == RT_EXIT_PLAIN && jv->lockstep) {
            why = RT_EXIT_STEP;
        }
    }
    return why;
}

static enum rt_exit run_block(struct jit_vcpu *jv, struct jit_block *b)
{
    if (log_at(LOG_EXEC, b->pc)) {
        trace_exec(jv, b);
    }
    if (inject(&jv->inject, INJECT_EXIT)) {
        atomic_store(&jv->v->env->exit, 1);
    }
    if (jv->lockstep) {
        return lockstep_run(jv->lockstep, b);
    }
    if (b->code.entry) {
        jv->stats.enters++;
        jv->in_code = true;
        enum rt_exit left = jit_enter_code(jv, b->code.entry);
        jv->in_code = false;
        jv->stats.exits[left]++;
        return left;
    }
    jv->in_code = true;
    enum rt_exit why = ir_interp(jv->v->env, b->ir);
    jv->in_code = false;
    jv->v->env->code_changed = false;
    return why;
}

/* Generated code left through a direct link that may be made now. */
static struct jit_block *link_next(struct jit_vcpu *jv)
{
    struct rt_env *env = jv->v->env;
    struct ir_link *l = (struct ir_link *)(uintptr_t)env->link_site;
    struct jit_block *from = l->from;
    unsigned arena = jv->mem.arena;
    struct jit_block *found = jit_find(jv, env->pc), *to = found ? jit_head(jv, found) : NULL;
    if (jv->mem.arena != arena) {
        return found; /* `from` and its links may be gone */
    }
    if (!to || !to->code.entry || from->dead || from->mode != to->mode || (l->to && l->to != to) ||
        l->pc != env->pc || log_on(LOG_EXEC)) {
        return found;
    }
    if (inject(&jv->inject, INJECT_LINK)) {
        jit_unlink_all(jv, to);
        return found;
    }
    if (to->off2 != RAM_OFF_NONE && !l->cross_page) {
        return found; /* its second page may be mapped anew, and only links across pages notice */
    }
    jit_link(jv, l, to);
    return found;
}

static uint64_t coarse_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Counts of look-ups that missed are of the last few milliseconds. */
static void forget_scatter(struct jit_vcpu *jv, uint64_t now_ms)
{
    if (now_ms - jv->scatter_since >= SCATTER_MS) {
        jv->scatter_since = now_ms;
        jit_hints_tick(jv);
        for (unsigned i = 0; i < RT_SCATTER; i++) {
            jv->v->env->scatter[i] = SCATTER_MISSES;
        }
    }
}

/* The next time generated code goes there by itself. Not into a block with a second page, which may
 * be mapped anew, nor one that compares its bytes: others have the same key. */
static void cache_plain(struct jit_vcpu *jv, const struct jit_block *b)
{
    struct rt_env *env = jv->v->env;
    if (b->code.entry && b->off2 == RAM_OFF_NONE && !b->check && !b->special && !log_on(LOG_EXEC)) {
        env->plain[jv->plain_site >> 3 & (RT_PLAINS - 1)] =
            (struct rt_plain){jv->plain_site, b->code.entry};
    }
}

static void cache_jump(struct jit_vcpu *jv, struct jit_block *b)
{
    struct rt_env *env = jv->v->env;
    struct rt_jump_entry *e = rt_jump_slot(env, b->pc);
    e->key = b->pc ^ env->jump_salt;
    e->code = (void *)(uintptr_t)jit_head(jv, b)->code.entry;
}

/* False: the thread ends. Sleeps while the vCPU is halted. */
static bool look_around(struct jit_vcpu *jv)
{
    struct vcpu *v = jv->v;
    for (;;) {
        atomic_store(&v->env->exit, 0);
        jit_safepoint(jv);
        jit_free_zombies(jv);
        uint64_t now = coarse_ms();
        forget_scatter(jv, now);
        jit_cool(jv, now);
        if (jv->stop) {
            return false;
        }
        if (jv->watches) {
            jit_watch_late(jv);
        }
        if (v->debug.step && v->state == VCPU_RUNNING) {
            return true; /* without taking an interrupt */
        }
        if (v->isa->events(v)) {
            return true;
        }
        jit_leave_run(jv);
        vcpu_sleep(v);
        jit_enter_run(jv);
    }
}

/* Nothing wants in: then the next block may run whole, the first poll is behind an instruction. */
static bool quiet(struct jit_vcpu *jv)
{
    struct vcpu *v = jv->v;
    return !atomic_load(&v->env->exit) && !atomic_load(&v->events) &&
           !(v->ic && irq_ctrl_pending(v->ic));
}

/* Instructions in a row that may each hold the interrupts behind them: the guest must not shut
 * everybody out. */
enum { MAX_HELD = 4 };

static void run(struct jit_vcpu *jv)
{
    struct rt_env *env = jv->v->env;
    enum rt_exit why = RT_EXIT_POLL;
    unsigned held = 0;
    for (;;) {
        bool stop = why == RT_EXIT_STOP;
        if (env->hold_irq && jv->v->state != VCPU_RUNNING) { /* STI long ago, then HLT */
            env->hold_irq = false;
        } else if (env->hold_irq && quiet(jv)) {
            env->hold_irq = stop = false;
        } else if (env->hold_irq) { /* the instruction behind STI or MOV SS, and nothing more */
            env->hold_irq = false;
            jv->stats.steps_held++;
            jit_debug_step(jv, true);
            atomic_store(&env->exit, 1);
            why = RT_EXIT_JUMP;
            if (env->hold_irq && ++held < MAX_HELD) { /* MOV SS behind STI */
                continue;
            }
            held = 0;
            env->hold_irq = false;
            stop = true;
        }
        if ((stop || atomic_load_explicit(&env->exit, memory_order_relaxed)) && !env->hold_irq) {
            if (!look_around(jv)) {
                return;
            }
            why = RT_EXIT_JUMP; /* an interrupt may have moved pc: no link is to be made */
        }
        if (jv->v->debug.step) {
            jit_debug_step(jv, false);
            why = RT_EXIT_JUMP;
            continue;
        }
        struct jit_block *b = why == RT_EXIT_PLAIN                   ? jit_find_plain(jv, env->pc)
                              : why == RT_EXIT_LINK && !jv->lockstep ? link_next(jv)
                                                                     : jit_find(jv, env->pc);
        if (!b) {
            jit_deliver(jv);
            why = RT_EXIT_JUMP;
            continue;
        }
        if (why == RT_EXIT_PLAIN) {
            cache_plain(jv, b);
        }
        if (b->special) {
            jit_debug_step(jv, false);
            why = RT_EXIT_JUMP;
            continue;
        }
        if (b->trial && --b->trial == 0 && jv->tier) {
            jit_promote(jv, b);
        }
        if (b->code.entry && why == RT_EXIT_JUMP && !jv->lockstep && !log_on(LOG_EXEC)) {
            cache_jump(jv, b);
        }
        why = run_block(jv, b);
        if (why == RT_EXIT_FAULT && env->fault.kind == RT_FAULT_STEP) {
            jit_debug_step(jv, false);
        } else if (why == RT_EXIT_FAULT) {
            jit_deliver(jv);
        } else if (why == RT_EXIT_STEP) {
            jit_step(jv);
        }
    }
}

void *jit_thread(void *opaque)
{
    struct jit_vcpu *jv = opaque;
    struct err err;
    if (jv->v->ic) {
        irq_ctrl_enter(jv->v->ic);
    }
    if (jv->ctx && jv->host->attach(jv->ctx, jv->v->env, &err)) {
        log_put(LOG_ALWAYS, "vcpu %u: %s; interpreting\n", jv->v->index, err.text);
        jv->tier = 0;
    }
    jv->v->env->ret_sp = jv->v->env->ret_sp_base[jv->returns_idx]; /* known since attach() */
    jit_enter_run(jv);
    run(jv);
    jit_leave_run(jv);
    if (jv->ctx) {
        jv->host->detach(jv->ctx);
    }
    return NULL;
}

/* ---- The accelerator ---- */

static struct jit_machine *machine_of(struct machine *m)
{
    return m->cpus_data;
}

static struct jit_machine *new_machine(struct machine *m, const struct isa *isa,
                                       const struct jit_options *opt)
{
    struct jit_machine *jm = alloc_zero(sizeof(*jm));
    jm->m = m;
    jm->isa = isa;
    jm->opt = *opt;
    if (opt->perfmap) {
        trace_perfmap_open(jm);
    }
    pthread_mutex_init(&jm->lock, NULL);
    pthread_cond_init(&jm->changed, NULL);
    jm->parked = true;
    mem_map_on_change(m->mem, jit_map_changed, jm);
    return jm;
}

/* Large, mostly untouched tables: zero pages until used. */
static void *big_zero(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static size_t pages_size(const struct jit_machine *jm)
{
    return ((jm->ram_end >> RT_PAGE_BITS) + 1) * sizeof(struct jit_block *);
}

static size_t granules_size(const struct jit_machine *jm)
{
    return ((jm->ram_end >> RT_PAGE_BITS) + 1) * sizeof(uint64_t);
}

static size_t heat_size(const struct jit_machine *jm)
{
    return ((jm->ram_end >> RT_PAGE_BITS) + 1) * sizeof(uint16_t);
}

/* Tables by RAM offset, once all memory is there: devices bring some, too. */
int jit_take_ram(struct machine *m, struct err *err)
{
    struct jit_machine *jm = machine_of(m);
    for (struct ram *r = m->ram.first; r; r = r->next) {
        r->code_stride = (jm->count + 7) / 8;
        r->code_pages = alloc_zero(((r->size >> RT_PAGE_BITS) + 1) * r->code_stride);
        r->code_written = jit_dma_wrote;
        r->code_opaque = jm;
        jm->ram_end = r->base + r->size;
    }
    for (unsigned i = 0; i < jm->count; i++) {
        struct jit_vcpu *jv = jm->cpu[i];
        jv->pages = big_zero(pages_size(jm));
        jv->granules = big_zero(granules_size(jm));
        jv->heat = big_zero(heat_size(jm));
        jv->homes = big_zero(pages_size(jm));
        if (!jv->pages || !jv->granules || !jv->heat || !jv->homes) {
            return err_set(err, ENOMEM, "vcpu %u: no memory for its tables", i);
        }
    }
    return 0;
}

/* Tier 1 where the host has a back end and grants executable memory; else the interpreter. */
static int open_host(struct jit_vcpu *jv, struct err *err)
{
    jv->host = ir_host_native();
    if (!jv->host) {
        jv->tier = 0;
        return 0;
    }
    int ret = codemem_open(&jv->mem, (size_t)jv->jm->opt.code_mb << 20, err);
    if (ret) {
        return ret;
    }
    jv->arenas = alloc_array(jv->mem.narenas, sizeof(*jv->arenas));
    struct ir_host_config c = {.guest =
                                   jv->lockstep ? lockstep_guest(jv->lockstep) : jv->v->isa->guest,
                               .code_lo = jv->mem.rx,
                               .code_hi = jv->mem.rx + jv->mem.size};
    codemem_begin_write(&jv->mem);
    jv->ctx = jv->host->open(&c, &jv->mem.cur, err);
    codemem_end_write(&jv->mem);
    codemem_keep(&jv->mem);
    return jv->ctx ? ir_host_signals(err) : -ENOMEM;
}

int jit_add(struct machine *m, const struct isa *isa, unsigned index, struct err *err)
{
    struct jit_options opt;
    if (!m->cpus_data) {
        int ret = jit_options_parse(&opt, m->config.accel_args, err);
        if (ret) {
            return ret;
        }
        m->cpus_data = new_machine(m, isa, &opt);
    }
    struct jit_machine *jm = machine_of(m);
    struct vcpu *v = alloc_zero(sizeof(*v));
    struct jit_vcpu *jv = big_zero(sizeof(*jv));
    v->env = big_zero(isa->env_size);
    if (!jv || !v->env) {
        return err_set(err, ENOMEM, "vcpu %u: no memory for its state", index);
    }
    vcpu_init(v, index);
    v->isa = isa;
    v->machine = m;
    v->mem = m->mem;
    v->io = m->io;
    v->ic = m->ic[index];
    v->accel = jv;
    v->env->vcpu = v;
    v->env->mem = &jit_mem_ops;
    m->vcpu[index] = v;
    jv->v = v;
    jv->jm = jm;
    alloc_touch(jv, JIT_VCPU_FRONT);
    jv->tier = jm->opt.tier;
    inject_init(&jv->inject, &jm->opt, index);
    if (jm->opt.lockstep) {
        jv->lockstep = lockstep_new(jv);
    }
    jm->cpu[jm->count++] = jv;
    pthread_mutex_init(&jv->mail_lock, NULL);
    if (getrandom(&jv->salt_secret, 8, 0) != 8) {
        jv->salt_secret = (uint64_t)(uintptr_t)jv;
    }
    jit_tlb_init(jv);
    int ret = jit_hash_open(jv, err);
    ret = ret ? ret : isa->cpu_init(v, m->config.cpu ? m->config.cpu : m->board->default_cpu, err);
    return ret ? ret : open_host(jv, err);
}

void jit_reset(struct machine *m)
{
    struct jit_machine *jm = machine_of(m);
    for (unsigned i = 0; i < jm->count; i++) {
        struct vcpu *v = jm->cpu[i]->v;
        atomic_store(&v->events, 0);
        v->env->hold_irq = false;
        v->debug.reason = DEBUG_NONE;
        v->isa->cpu_reset(v);
        jit_drop_all(jm->cpu[i]);
        atomic_store(&v->env->exit, 1);
    }
}

int jit_start(struct machine *m, struct err *err)
{
    struct jit_machine *jm = machine_of(m);
    int ret = jit_take_ram(m, err);
    for (unsigned i = 0; !ret && i < jm->count; i++) {
        struct vcpu *v = jm->cpu[i]->v;
        ret = pthread_create(&v->thread, NULL, jit_thread, jm->cpu[i]);
        if (ret) {
            return err_set(err, ret, "vcpu %u: cannot start its thread: %s", i, strerror(ret));
        }
        v->thread_started = true;
    }
    return ret;
}

static void wake_all(struct jit_machine *jm)
{
    for (unsigned i = 0; i < jm->count; i++) {
        vcpu_post(jm->cpu[i]->v, 0, 0);
    }
}

void jit_park(struct machine *m)
{
    struct jit_machine *jm = machine_of(m);
    pthread_mutex_lock(&jm->lock);
    jm->parked = true;
    while (jm->running || jm->entering) {
        wake_all(jm);
        pthread_cond_wait(&jm->changed, &jm->lock);
    }
    pthread_mutex_unlock(&jm->lock);
}

void jit_unpark(struct machine *m)
{
    struct jit_machine *jm = machine_of(m);
    pthread_mutex_lock(&jm->lock);
    jm->parked = false;
    pthread_cond_broadcast(&jm->changed);
    pthread_mutex_unlock(&jm->lock);
    wake_all(jm);
}

static void free_vcpu(struct jit_vcpu *jv)
{
    struct vcpu *v = jv->v;
    jit_free_all(jv);
    if (jv->ctx) {
        jv->host->close(jv->ctx);
        codemem_close(&jv->mem);
    }
    lockstep_free(jv->lockstep);
    jit_space_free(jv);
    jit_stepped_free(jv);
    free(jv->checked);
    free(jv->mail);
    jit_hash_close(jv);
    v->isa->cpu_fini(v);
    vcpu_fini(v);
    munmap(v->env, v->isa->env_size);
    munmap(jv->pages, pages_size(jv->jm));
    munmap(jv->granules, granules_size(jv->jm));
    munmap(jv->heat, heat_size(jv->jm));
    munmap(jv->homes, pages_size(jv->jm));
    munmap(jv, sizeof(*jv));
    free(v);
}

void jit_free(struct machine *m)
{
    struct jit_machine *jm = machine_of(m);
    if (!jm) {
        return;
    }
    for (unsigned i = 0; i < jm->count; i++) {
        jm->cpu[i]->stop = true;
    }
    jit_unpark(m);
    for (unsigned i = 0; i < jm->count; i++) {
        if (jm->cpu[i]->v->thread_started) {
            pthread_join(jm->cpu[i]->v->thread, NULL);
        }
        jit_report(jm->cpu[i]);
    }
    for (struct ram *r = m->ram.first; r; r = r->next) {
        r->code_written = NULL;
    }
    for (unsigned i = 0; i < jm->count; i++) {
        m->vcpu[jm->cpu[i]->v->index] = NULL;
        free_vcpu(jm->cpu[i]);
    }
    for (struct ram *r = m->ram.first; r; r = r->next) {
        free((void *)r->code_pages);
        r->code_pages = NULL;
    }
    jit_options_free(&jm->opt);
    if (jm->perfmap) {
        fclose(jm->perfmap);
    }
    free(jm);
    m->cpus_data = NULL;
}
