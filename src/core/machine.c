/* A machine from its configuration, and the requests to end or reset it. */
#include "core/machine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/device.h"
#include "core/irq_ctrl.h"
#include "core/vcpu.h"
#include "loop/loop.h"

static int machine_board_args(struct machine *m, struct err *err)
{
    char owner[64];
    snprintf(owner, sizeof(owner), "machine '%s'", m->board->name);
    const struct keyval *args = &m->config.board_args;
    for (size_t i = 0; i < args->count; i++) {
        int ret = prop_set(m->board->props, m->board_data, owner, args->pairs[i].key,
                           args->pairs[i].value, err);
        if (ret) {
            return ret;
        }
    }
    return 0;
}

struct machine *machine_new(const struct machine_config *config, struct loop *loop,
                            struct clock *clock, const struct machine_cpus *cpus)
{
    struct machine *m = alloc_zero(sizeof(*m));
    m->config = *config;
    m->loop = loop;
    m->clock = clock;
    m->cpus = cpus;
    m->board = config->board;
    if (!m->config.topology.max) {
        unsigned n = config->vcpus ? config->vcpus : 1;
        m->config.topology = (struct topology){1, 1, n, 1, n};
    }
    pthread_mutex_init(&m->lock, NULL);
    m->mem = mem_map_new("memory", 0);
    m->io = mem_map_new("io", 0x10000);
    m->board_data = alloc_zero(m->board->size);
    prop_presets(m->board->props, m->board_data);
    return m;
}

int machine_build(struct machine *m, struct err *err)
{
    int ret = machine_board_args(m, err);
    return ret ? ret : m->board->init(m, err);
}

int machine_add_vcpu(struct machine *m, struct err *err)
{
    int ret = m->cpus ? m->cpus->add(m, m->vcpu_count, err) : 0;
    m->vcpu_count += !ret;
    return ret;
}

int machine_load(struct machine *m, struct err *err)
{
    return m->board->load(m, err);
}

static void machine_free_backends(struct machine *m)
{
    while (m->backends) {
        struct backend *b = m->backends;
        m->backends = b->next;
        if (b->free) {
            b->free(b->obj);
        }
        free(b->id);
        free(b);
    }
}

void machine_leave(struct machine *m)
{
    m->cpus->leave(m);
    dev_free_all(m);
    machine_free_backends(m);
}

void machine_free(struct machine *m)
{
    if (!m) {
        return;
    }
    if (m->cpus) {
        m->cpus->free(m);
    }
    dev_free_all(m);
    if (m->board->fini) {
        m->board->fini(m);
    }
    prop_free(m->board->props, m->board_data);
    free(m->board_data);
    free(m->config.boot_order_devices);
    machine_free_backends(m);
    mem_map_free(m->mem);
    mem_map_free(m->io);
    ram_set_free(&m->ram);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void machine_pause(struct machine *m)
{
    m->cpus->park(m);
    m->state = MACHINE_PAUSED;
}

void machine_resume(struct machine *m)
{
    m->state = MACHINE_RUNNING;
    m->io_stopped = m->powered_off = m->watchdog_stopped = false;
    m->was_run = true;
    for (struct dev *d = m->devs; d; d = d->next) {
        if (d->type->resume) {
            d->type->resume(d);
        }
    }
    m->cpus->unpark(m);
}

void machine_pause_for_io(struct machine *m, const char *why)
{
    machine_pause(m);
    m->io_stopped = true;
    fprintf(stderr, "lodge: %s; the machine is paused, SIGCONT lets it try again and go on\n", why);
}

void machine_set_smram(struct machine *m, unsigned n, uint64_t start, uint64_t end)
{
    struct smram_range *r = &m->smram[n];
    if (r->start != start || r->end != end) {
        r->start = start;
        r->end = end;
        mem_map_changed(m->mem);
    }
}

/* The vcpu whose thread this is, or NULL. */
static struct vcpu *machine_own_vcpu(const struct machine *m)
{
    const struct irq_ctrl *own = irq_ctrl_current();
    for (unsigned i = 0; own && i < m->vcpu_count; i++) {
        if (m->ic[i] == own) {
            return m->vcpu[i];
        }
    }
    return NULL;
}

void machine_smi(struct machine *m, bool all)
{
    struct vcpu *own = machine_own_vcpu(m);
    for (unsigned i = 0; own && i < m->vcpu_count; i++) {
        if (all || m->vcpu[i] == own) {
            vcpu_post(m->vcpu[i], VCPU_EV_SMI, 0);
        }
    }
}

bool machine_in_smm(const struct machine *m)
{
    const struct vcpu *own = machine_own_vcpu(m);
    return own && own->smm;
}

void machine_set_a20(struct machine *m, bool on)
{
    if (atomic_exchange(&m->a20_off, !on) == on) {
        mem_map_changed(m->mem);
    }
}

void machine_ask(struct machine *m, enum machine_request request, int exit_status)
{
    AUTO_LOCK(&m->lock);
    bool reset = m->request == MACHINE_REQ_RESET || m->request == MACHINE_REQ_CRASH;
    if (m->request == MACHINE_REQ_NONE || (reset && request == MACHINE_REQ_QUIT)) {
        m->request = request;
        m->exit_status = exit_status;
    }
    loop_stop(m->loop);
}

struct backend *machine_add_backend(struct machine *m, const char *kind, const char *id, void *obj,
                                    void (*free_fn)(void *))
{
    struct backend *b = alloc_zero(sizeof(*b));
    b->kind = kind;
    b->id = alloc_text(id);
    b->obj = obj;
    b->free = free_fn;
    b->next = m->backends;
    m->backends = b;
    return b;
}

struct backend *machine_find_backend(struct machine *m, const char *kind, const char *id)
{
    for (struct backend *b = m->backends; b; b = b->next) {
        if (!strcmp(b->kind, kind) && !strcmp(b->id, id)) {
            return b;
        }
    }
    return NULL;
}
