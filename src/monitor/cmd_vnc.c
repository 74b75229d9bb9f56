/* The VNC server's password: set_password, expire_password, change vnc password. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "display/vnc.h"
#include "monitor/internal.h"

static struct vnc *vnc_find(struct monitor *mon, struct err *err)
{
    struct vnc *v = mon->control->vnc ? mon->control->vnc(mon->opaque) : NULL;
    if (!v) {
        err_set(err, ENODEV, "there is no VNC server; start one with -vnc");
    }
    return v;
}

static int check_protocol(const char *protocol, struct err *err)
{
    if (!strcmp(protocol, "spice")) {
        return err_set(err, ENOTSUP, "there is no SPICE; the protocol is 'vnc'");
    }
    return strcmp(protocol, "vnc")
               ? err_set(err, EINVAL, "there is no protocol '%s'; it is 'vnc'", protocol)
               : 0;
}

static int set_password(struct monitor *mon, const char *password, struct err *err)
{
    struct vnc *v = vnc_find(mon, err);
    return v ? vnc_set_password(v, password, err) : -ENODEV;
}

/* Clients that are in stay in. */
int cmd_set_password(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *protocol = args_need(a, 0, "protocol", err);
    const char *password = protocol ? args_need(a, 1, "password", err) : NULL;
    const char *connected = args_word(a, 2);
    if (!password || check_protocol(protocol, err)) {
        return -EINVAL;
    }
    if (connected && strcmp(connected, "keep")) {
        return err_set(err, ENOTSUP, "action-if-connected: '%s' is not supported, only 'keep'",
                       connected);
    }
    return set_password(mon, password, err);
}

/* "now", "never", "+SECONDS", or seconds since 1970. */
static int parse_time(const char *text, int64_t *when, struct err *err)
{
    char *end;
    int64_t now = time(NULL);
    if (!strcmp(text, "now") || !strcmp(text, "never")) {
        *when = text[2] == 'w' ? now : INT64_MAX;
        return 0;
    }
    const char *digits = text + (*text == '+');
    errno = 0;
    long long v = strtoll(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end || errno || (*text == '+' && v > INT64_MAX - now)) {
        return err_set(err, EINVAL, "'%s' is none of now, never, +SECONDS, seconds since 1970",
                       text);
    }
    *when = *text == '+' ? now + v : v;
    return 0;
}

int cmd_expire_password(struct monitor *mon, struct command_args *a, struct err *err)
{
    int64_t when = 0;
    const char *protocol = args_need(a, 0, "protocol", err);
    const char *text = protocol ? args_need(a, 1, "time", err) : NULL;
    if (!text || check_protocol(protocol, err) || parse_time(text, &when, err)) {
        return -EINVAL;
    }
    struct vnc *v = vnc_find(mon, err);
    return v ? vnc_expire_password(v, when, err) : -ENODEV;
}

int cmd_change_vnc(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *what = args_word(a, 1), *password = args_word(a, 2);
    if (!what || (strcmp(what, "password") && strcmp(what, "passwd"))) {
        return err_set(err, EINVAL, "'password' is expected after 'vnc'");
    }
    if (password) {
        return set_password(mon, password, err);
    }
    if (!vnc_find(mon, err)) {
        return -ENODEV;
    }
    monitor_ask(mon, "Password: ", set_password);
    return 0;
}
