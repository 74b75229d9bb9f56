/* What becomes of the machine at certain events: -action and -watchdog-action. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "vmm/option_table.h"

/* Which of the words; -EINVAL with a sentence: none. */
static int pick(const char *option, const char *arg, const char *const *words, size_t count,
                struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(arg, words[i])) {
            return (int)i;
        }
    }
    return err_set(err, EINVAL, "%s: there is no '%s'; the nearest is '%s'", option, arg,
                   near_pick(arg, words, count));
}

int option_watchdog_action(struct options *o, const char *arg, struct err *err)
{
    int n = pick("-watchdog-action", arg, watchdog_action_names, WATCHDOG_ACTIONS, err);
    o->config.watchdog = n < 0 ? o->config.watchdog : (enum watchdog_action)n;
    return n < 0 ? n : 0;
}

static int action_one(struct options *o, const char *event, const char *what, struct err *err)
{
    static const char *const events[] = {"panic", "reboot", "shutdown", "watchdog"};
    static const char *const panics[] = {"shutdown"};
    static const char *const reboots[] = {"reset", "shutdown"};
    static const char *const shutdowns[] = {"poweroff", "pause"};
    int e = pick("-action", event, events, ARRAY_LEN(events), err);
    int n = e == 0   ? pick("-action panic", what, panics, ARRAY_LEN(panics), err)
            : e == 1 ? pick("-action reboot", what, reboots, ARRAY_LEN(reboots), err)
            : e == 2 ? pick("-action shutdown", what, shutdowns, ARRAY_LEN(shutdowns), err)
            : e == 3 ? option_watchdog_action(o, what, err)
                     : e;
    o->config.no_reboot = e == 1 && n >= 0 ? n == 1 : o->config.no_reboot;
    o->config.no_shutdown = e == 2 && n >= 0 ? n == 1 : o->config.no_shutdown;
    return n < 0 ? n : 0;
}

int option_action(struct options *o, const char *arg, struct err *err)
{
    struct keyval kv = {0};
    int ret = keyval_parse(&kv, arg, NULL, err);
    for (size_t i = 0; !ret && i < kv.count; i++) {
        ret = action_one(o, kv.pairs[i].key, kv.pairs[i].value, err);
    }
    keyval_free(&kv);
    return ret;
}
