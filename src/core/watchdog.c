/* Watchdogs: what is done when one expires. */
#include "core/watchdog.h"

#include "base/log.h"
#include "core/machine.h"
#include "core/vcpu_event.h"
#include "loop/loop.h"

const char *const watchdog_action_names[WATCHDOG_ACTIONS + 1] = {
    "reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi", NULL};

static void press_power_button(struct machine *m)
{
    if (m->board->power_button) {
        m->board->power_button(m);
    }
}

static void inject_nmi(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (m->vcpu[i]) {
            vcpu_post(m->vcpu[i], VCPU_EV_NMI, 0);
        }
    }
}

static void watchdog_act(void *opaque)
{
    struct machine *m = opaque;
    switch (m->config.watchdog) {
    case WATCHDOG_RESET: machine_ask(m, MACHINE_REQ_RESET, 0); break;
    case WATCHDOG_SHUTDOWN: press_power_button(m); break;
    case WATCHDOG_POWEROFF: machine_ask(m, MACHINE_REQ_QUIT, 0); break;
    case WATCHDOG_PAUSE:
        if (m->state == MACHINE_RUNNING) {
            machine_pause(m);
            m->watchdog_stopped = true;
        }
        break;
    case WATCHDOG_DEBUG: log_put(LOG_ALWAYS, "watchdog: timer fired\n"); break;
    case WATCHDOG_INJECT_NMI: inject_nmi(m); break;
    case WATCHDOG_NONE:
    case WATCHDOG_ACTIONS: break;
    }
}

bool watchdog_waits(const struct machine *m)
{
    return m->state == MACHINE_PAUSED;
}

void watchdog_expired(struct machine *m)
{
    loop_post(m->loop, watchdog_act, m);
}
