/*
 * Several vCPUs: exclusive sections, parking, mail.
 *
 * A vCPU "runs" between jit_enter_run and jit_leave_run. An exclusive section begins when the
 * caller is the only one that counts as running; the others wait at their next safepoint. A
 * vCPU that waits counts as not running, so two that want exclusiveness do not wait for each other.
 * Parking ends only at safepoints: a vCPU that wants an exclusive section gets it first.
 *
 * Locks: jm->lock, then nothing; mail_lock, then nothing.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/strbuf.h"
#include "core/machine.h"
#include "core/tlb_ops.h"
#include "jit/internal.h"
#include "jit/jit.h"
#include "jit/lockstep.h"

static bool must_wait(const struct jit_vcpu *jv)
{
    return jv->jm->exclusive || jv->jm->parked || jv->v->debug.hold;
}

void jit_enter_run(struct jit_vcpu *jv)
{
    struct jit_machine *jm = jv->jm;
    pthread_mutex_lock(&jm->lock);
    while (must_wait(jv) && !jv->stop) {
        pthread_cond_wait(&jm->changed, &jm->lock);
    }
    jm->running++;
    pthread_mutex_unlock(&jm->lock);
    jit_debug_enter(jv);
}

void jit_leave_run(struct jit_vcpu *jv)
{
    struct jit_machine *jm = jv->jm;
    jit_debug_leave(jv);
    pthread_mutex_lock(&jm->lock);
    jm->running--;
    pthread_cond_broadcast(&jm->changed);
    pthread_mutex_unlock(&jm->lock);
}

void jit_safepoint(struct jit_vcpu *jv)
{
    struct jit_machine *jm = jv->jm;
    pthread_mutex_lock(&jm->lock);
    bool wait = must_wait(jv);
    pthread_mutex_unlock(&jm->lock);
    if (wait) {
        jit_leave_run(jv);
        jit_enter_run(jv);
    }
    if (atomic_exchange(&jv->map_changed, false)) {
        tlb_flush(jv->v);
    }
    jit_read_mail(jv);
}

/* Guest addresses mean other memory now. Any thread; each vcpu hears of it before its next block.
 */
void jit_map_changed(void *opaque)
{
    struct jit_machine *jm = opaque;
    for (unsigned i = 0; i < jm->count; i++) {
        atomic_store(&jm->cpu[i]->map_changed, true);
        vcpu_post(jm->cpu[i]->v, VCPU_EV_WORK, 0);
    }
}

static void kick_others(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < jv->jm->count; i++) {
        if (jv->jm->cpu[i] != jv) {
            atomic_store(&jv->jm->cpu[i]->v->env->exit, 1);
        }
    }
}

void jit_exclusive_begin(struct jit_vcpu *jv)
{
    struct jit_machine *jm = jv->jm;
    pthread_mutex_lock(&jm->lock);
    jm->running--;
    jm->entering++; /* not parked: its instruction is not done */
    pthread_cond_broadcast(&jm->changed);
    while (jm->exclusive) {
        pthread_cond_wait(&jm->changed, &jm->lock);
    }
    jm->exclusive = true;
    while (jm->running) {
        kick_others(jv);
        pthread_cond_wait(&jm->changed, &jm->lock);
    }
    jm->running++;
    jm->entering--;
    pthread_mutex_unlock(&jm->lock);
    jit_read_mail(jv); /* of exclusive sections that came first: pages that have code now */
}

void jit_exclusive_end(struct jit_vcpu *jv)
{
    struct jit_machine *jm = jv->jm;
    pthread_mutex_lock(&jm->lock);
    jm->exclusive = false;
    pthread_cond_broadcast(&jm->changed);
    pthread_mutex_unlock(&jm->lock);
}

/* What a vCPU says at the end. */
void jit_report(struct jit_vcpu *jv)
{
    const struct jit_options *o = &jv->jm->opt;
    inject_report(&jv->inject, jv->v->index);
    if (o->stats) {
        jit_stats_print(&jv->stats, o, jv->v->index, jv->v->env->insns);
    }
}

void jit_info(struct machine *m, struct strbuf *out)
{
    const struct jit_machine *jm = m->cpus_data;
    for (unsigned i = 0; i < jm->count; i++) {
        strbuf_add(out, "CPU #%u\n", i);
        jit_stats_show(&jm->cpu[i]->stats, out);
    }
}

void jit_leave(struct machine *m)
{
    struct jit_machine *jm = m->cpus_data;
    jit_park(m);
    for (unsigned i = 0; i < jm->count; i++) {
        jit_report(jm->cpu[i]);
        lockstep_free(jm->cpu[i]->lockstep); /* it tells, too */
        jm->cpu[i]->lockstep = NULL;
    }
}

void jit_post_mail(struct jit_vcpu *to, struct jit_mail mail)
{
    pthread_mutex_lock(&to->mail_lock);
    if (to->mail_count == to->mail_room) {
        to->mail_room = to->mail_room ? to->mail_room * 2 : 64;
        to->mail = realloc(to->mail, to->mail_room * sizeof(*to->mail));
        if (!to->mail) {
            abort();
        }
    }
    to->mail[to->mail_count++] = mail;
    pthread_mutex_unlock(&to->mail_lock);
    vcpu_post(to->v, VCPU_EV_WORK, 0);
}

void jit_read_mail(struct jit_vcpu *jv)
{
    if (!(atomic_fetch_and(&jv->v->events, ~(unsigned)VCPU_EV_WORK) & VCPU_EV_WORK)) {
        return;
    }
    pthread_mutex_lock(&jv->mail_lock);
    struct jit_mail *mail = jv->mail;
    size_t n = jv->mail_count;
    jv->mail = NULL;
    jv->mail_count = jv->mail_room = 0;
    pthread_mutex_unlock(&jv->mail_lock);
    for (size_t i = 0; i < n; i++) {
        if (mail[i].len) {
            jit_invalidate(jv, mail[i].off, mail[i].len);
        } else {
            jit_tlb_protect(jv, mail[i].off);
        }
    }
    free(mail);
}
