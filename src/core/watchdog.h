/* What happens when a watchdog of the guest expires: one choice for the machine (-action). */
#ifndef CORE_WATCHDOG_H
#define CORE_WATCHDOG_H

#include <stdbool.h>

struct machine;

enum watchdog_action {
    WATCHDOG_RESET,
    WATCHDOG_SHUTDOWN, /* the power button is pressed */
    WATCHDOG_POWEROFF, /* the process ends */
    WATCHDOG_PAUSE,
    WATCHDOG_DEBUG, /* a message, nothing else */
    WATCHDOG_NONE,
    WATCHDOG_INJECT_NMI,
    WATCHDOG_ACTIONS,
};

extern const char *const watchdog_action_names[WATCHDOG_ACTIONS + 1]; /* ends with NULL */

/* Loop thread. The machine is stopped, by a person or a debugger: a watchdog that runs out then
 * begins anew, as time goes on and the guest could not feed it. */
bool watchdog_waits(const struct machine *m);
/* Any thread, any device lock held: it is done later, on the machine's loop. */
void watchdog_expired(struct machine *m);

#endif
