/* Stopping, going on, single steps, breakpoints and watchpoints. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "core/isa.h"
#include "gdb/internal.h"
#include "loop/loop.h"

enum { SIGNAL_INT = 2, SIGNAL_TRAP = 5 };

void gdb_stop_reply(struct gdb *g, struct vcpu *v, unsigned signal)
{
    char text[64];
    size_t n = (size_t)snprintf(text, sizeof(text), "T%02xthread:%x;", signal, v->index + 1);
    if (v->debug.reason == DEBUG_WATCH) {
        static const char *const kind[8] = {
            [RT_WRITE] = "watch", [RT_READ] = "rwatch", [RT_READ | RT_WRITE] = "awatch"};
        snprintf(text + n, sizeof(text) - n, "%s:%llx;", kind[v->debug.hit.access & 3],
                 (unsigned long long)v->debug.hit.addr);
    }
    gdb_send(g, text);
}

/* A vcpu that has stopped for a reason not yet told. */
static struct vcpu *unreported(struct gdb *g)
{
    for (unsigned i = 0; i < g->m->vcpu_count; i++) {
        if (g->m->vcpu[i]->debug.reason != DEBUG_NONE) {
            return g->m->vcpu[i];
        }
    }
    return NULL;
}

static void clear_orders(struct gdb *g)
{
    for (unsigned i = 0; i < g->m->vcpu_count; i++) {
        struct vcpu_debug *d = &g->m->vcpu[i]->debug;
        d->step = d->hold = d->past = false;
    }
}

/* Other vcpus at a breakpoint come to it again; what else they stopped for is told next. */
static void report(struct gdb *g, struct vcpu *v)
{
    g->waiting = false;
    g->cur = v->index;
    g->reported = v;
    gdb_stop_reply(g, v, SIGNAL_TRAP);
    v->debug.reason = DEBUG_NONE;
    for (unsigned i = 0; i < g->m->vcpu_count; i++) {
        struct vcpu_debug *d = &g->m->vcpu[i]->debug;
        d->reason = d->reason == DEBUG_BREAK ? DEBUG_NONE : d->reason;
    }
}

static void stopped(void *opaque)
{
    struct gdb *g = opaque;
    machine_pause(g->m);
    struct vcpu *v = unreported(g);
    if (!g->attached || !v) { /* nobody is there any more */
        clear_orders(g);
        machine_resume(g->m);
    } else if (g->waiting) {
        report(g, v);
        clear_orders(g);
    }
}

void gdb_on_stopped(void *opaque, struct vcpu *v)
{
    struct gdb *g = opaque;
    loop_post(g->m->loop, stopped, g);
}

void gdb_interrupt(struct gdb *g)
{
    machine_pause(g->m);
    if (!g->waiting) {
        return;
    }
    struct vcpu *v = unreported(g);
    if (v) {
        report(g, v);
    } else {
        g->waiting = false;
        g->reported = NULL;
        gdb_stop_reply(g, g->m->vcpu[g->cur], SIGNAL_INT);
    }
    clear_orders(g);
}

void gdb_resume(struct gdb *g)
{
    struct vcpu *v = unreported(g);
    g->waiting = true;
    if (v) {
        report(g, v);
        clear_orders(g);
        return;
    }
    if (g->reported) {
        g->reported->debug.past = true;
        g->reported->debug.past_pc = g->reported->env->pc;
    }
    g->reported = NULL;
    machine_resume(g->m);
}

void gdb_continue(struct gdb *g, bool step)
{
    clear_orders(g);
    g->m->vcpu[g->cur]->debug.step = step;
    gdb_resume(g);
}

/* "vCont;ACTION[:THREAD]...": the first action that names a vcpu is its own; none: it stays. */
void gdb_vcont(struct gdb *g, const char *p)
{
    bool done[MACHINE_MAX_VCPUS] = {false};
    clear_orders(g);
    while (*p == ';') {
        char action = p[1];
        uint64_t thread = 0;
        p += 2;
        p += strspn(p, "0123456789abcdef"); /* a signal, without meaning here */
        bool one = *p == ':' && p[1] != '-';
        p += *p == ':';
        p += *p == '-';
        gdb_number(&p, &thread);
        for (unsigned i = 0; i < g->m->vcpu_count; i++) {
            if (!done[i] && (!one || thread == 0 || thread == i + 1)) {
                done[i] = true;
                g->m->vcpu[i]->debug.step = action == 's' || action == 'S';
            }
        }
    }
    for (unsigned i = 0; i < g->m->vcpu_count; i++) {
        g->m->vcpu[i]->debug.hold = !done[i];
    }
    gdb_resume(g);
}

static struct debug_point *find(struct gdb *g, const struct debug_point *want)
{
    for (unsigned i = 0; i < DEBUG_POINTS; i++) {
        struct debug_point *p = &g->debug.points[i];
        if (p->access == want->access &&
            (!want->access || (p->addr == want->addr && p->len == want->len))) {
            return p;
        }
    }
    return NULL;
}

/* "TYPE,ADDRESS,KIND" */
void gdb_point(struct gdb *g, const char *p, bool set)
{
    static const uint8_t access[5] = {RT_EXEC, RT_EXEC, RT_WRITE, RT_READ, RT_READ | RT_WRITE};
    unsigned type = (unsigned)(*p++ - '0');
    uint64_t addr, kind;
    if (type > 4 || !g->m->cpus->debug_changed) {
        gdb_send(g, "");
        return;
    }
    if (*p++ != ',' || !gdb_number(&p, &addr) || *p++ != ',' || !gdb_number(&p, &kind)) {
        gdb_send(g, "E01");
        return;
    }
    struct debug_point want = {
        .addr = addr, .len = type < 2 || !kind ? 1 : (uint32_t)kind, .access = access[type]};
    struct debug_point none = {0}, *have = find(g, &want);
    if (set && !have) {
        have = find(g, &none);
        if (!have) {
            gdb_send(g, "E0c");
            return;
        }
        *have = want;
    } else if (!set && have) {
        *have = none;
    }
    g->m->cpus->debug_changed(g->m);
    gdb_send(g, "OK");
}

void gdb_detach(struct gdb *g)
{
    machine_pause(g->m);
    memset(g->debug.points, 0, sizeof(g->debug.points));
    if (g->m->cpus->debug_changed) {
        g->m->cpus->debug_changed(g->m);
    }
    for (unsigned i = 0; i < g->m->vcpu_count; i++) {
        g->m->vcpu[i]->debug.reason = DEBUG_NONE;
    }
    clear_orders(g);
    g->attached = g->waiting = false;
    g->reported = NULL;
    machine_resume(g->m);
}
