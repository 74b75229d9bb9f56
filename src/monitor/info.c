/* info: what is known of the machine, its processors and its character devices. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/keyval.h"
#include "chardev/chardev.h"
#include "core/isa.h"
#include "core/machine.h"
#include "core/vcpu.h"
#include "dev/irqchip/lapic.h"
#include "monitor/internal.h"

static const char *state_name(const struct machine *m)
{
    if (m->state == MACHINE_RUNNING) {
        return "running";
    }
    return m->powered_off        ? "paused (shutdown)"
           : m->io_stopped       ? "paused (io-error)"
           : m->watchdog_stopped ? "paused (watchdog)"
           : m->was_run          ? "paused"
                                 : "paused (prelaunch)";
}

int info_status(struct monitor *mon, struct command_args *a, struct err *err)
{
    monitor_put(mon, "VM status: %s\n", state_name(mon->machine));
    return 0;
}

int info_version(struct monitor *mon, struct command_args *a, struct err *err)
{
    monitor_put(mon, "%s\n", mon->control->version);
    return 0;
}

/* -name guest=NAME,... */
int info_name(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct keyval kv = {0};
    const char *text = mon->machine->config.name;
    int ret = text ? keyval_parse(&kv, text, "guest", err) : 0;
    const char *name = ret ? NULL : keyval_get(&kv, "guest");
    if (name) {
        monitor_put(mon, "%s\n", name);
    }
    keyval_free(&kv);
    return ret;
}

int info_uuid(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *uuid = mon->machine->config.uuid;
    monitor_put(mon, "%s\n", uuid ? uuid : "00000000-0000-0000-0000-000000000000");
    return 0;
}

int info_history(struct monitor *mon, struct command_args *a, struct err *err)
{
    for (size_t i = 0; i < mon->line.history_count; i++) {
        monitor_put(mon, "%zu: '%s'\n", i, mon->line.history[i]);
    }
    return 0;
}

/* ---- Processors ---- */

int info_cpus(struct monitor *mon, struct command_args *a, struct err *err)
{
    static const char *const names[] = {
        [VCPU_RUNNING] = "running", [VCPU_HALTED] = "halted", [VCPU_WAIT_SIPI] = "not started"};
    const struct machine *m = mon->machine;
    monitor_hold(mon);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (m->vcpu[i]) {
            monitor_put(mon, "%c CPU #%u: %s\n", i == mon->cpu ? '*' : ' ', i,
                        names[m->vcpu[i]->state]);
        }
    }
    monitor_release(mon);
    return 0;
}

static void show_registers(struct monitor *mon, const struct vcpu *v)
{
    struct strbuf sb = {0};
    v->isa->dump(v, &sb);
    monitor_put(mon, "\nCPU#%u\n%s", v->index, strbuf_text(&sb));
    strbuf_free(&sb);
}

int info_registers(struct monitor *mon, struct command_args *a, struct err *err)
{
    const struct machine *m = mon->machine;
    bool all = args_flag(a, "-a");
    long long n = mon->cpu;
    int ret = args_word(a, 0) ? args_number(a, 0, "vcpu", &n, err) : 0;
    if (!ret && (n < 0 || n >= m->vcpu_count || !m->vcpu[n])) {
        ret = err_set(err, EINVAL, "CPU#%lld not available", n);
    }
    if (ret) {
        return ret;
    }
    monitor_hold(mon);
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (m->vcpu[i] && (all || i == n)) {
            show_registers(mon, m->vcpu[i]);
        }
    }
    monitor_release(mon);
    return 0;
}

int info_jit(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct machine *m = mon->machine;
    struct strbuf sb = {0};
    if (!m->cpus || !m->cpus->info) {
        return err_set(err, ENOTSUP, "the accelerator keeps no statistics");
    }
    monitor_hold(mon);
    m->cpus->info(m, &sb);
    monitor_release(mon);
    monitor_put(mon, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
    return 0;
}

/* ---- Interrupt controllers ---- */

static int show_irqs(struct monitor *mon, bool counts, struct err *err)
{
    struct machine *m = mon->machine;
    struct strbuf sb = {0};
    if (!m->board->print_irqs) {
        return err_set(err, ENOTSUP, "machine '%s' shows none", m->board->name);
    }
    m->board->print_irqs(m, counts, &sb);
    monitor_put(mon, "%s", sb.len ? strbuf_text(&sb) : "no interrupt line is in use\n");
    strbuf_free(&sb);
    return 0;
}

int info_pic(struct monitor *mon, struct command_args *a, struct err *err)
{
    return show_irqs(mon, false, err);
}

int info_irq(struct monitor *mon, struct command_args *a, struct err *err)
{
    return show_irqs(mon, true, err);
}

static int show_maps(struct monitor *mon, bool ranges, struct err *err)
{
    struct strbuf sb = {0};
    monitor_hold(mon);
    struct vcpu *v = monitor_vcpu(mon, err);
    bool on = v && v->isa->print_maps && v->isa->print_maps(v, ranges, &sb);
    monitor_release(mon);
    if (v) {
        monitor_put(mon, "%s", on ? strbuf_text(&sb) : "PG disabled\n");
    }
    strbuf_free(&sb);
    return v ? 0 : -ENOENT;
}

int info_mem(struct monitor *mon, struct command_args *a, struct err *err)
{
    return show_maps(mon, true, err);
}

int info_tlb(struct monitor *mon, struct command_args *a, struct err *err)
{
    return show_maps(mon, false, err);
}

int info_lapic(struct monitor *mon, struct command_args *a, struct err *err)
{
    const struct machine *m = mon->machine;
    struct strbuf sb = {0};
    long long n = mon->cpu;
    int ret = args_word(a, 0) ? args_number(a, 0, "apic-id", &n, err) : 0;
    const struct lapic *l = !ret && n >= 0 && n < m->vcpu_count ? lapic_of(m->ic[n]) : NULL;
    if (!l) {
        return ret ? ret : err_set(err, ENOENT, "there is no local APIC %lld", n);
    }
    lapic_print(l, &sb);
    monitor_put(mon, "%s", strbuf_text(&sb));
    strbuf_free(&sb);
    return 0;
}

/* ---- Character devices ---- */

int info_chardev(struct monitor *mon, struct command_args *a, struct err *err)
{
    for (const struct backend *b = mon->machine->backends; b; b = b->next) {
        const struct chardev *c = b->obj;
        if (!strcmp(b->kind, "chardev")) {
            monitor_put(mon, "%s: filename=%s\n", b->id, c->filename ? c->filename : c->type->name);
        }
    }
    return 0;
}
