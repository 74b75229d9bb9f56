/*
 * Signals. While nothing is being changed they end the program at once; between img_hold() and
 * img_release() the first one is only noted, so that images are closed in order and unfinished
 * ones deleted. What a handler touches has to be static: it gets no argument.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "img/img.h"

/* So long may closing take; then the program ends as at a second signal. */
#define CLOSE_SECONDS 10

static volatile sig_atomic_t signal_held, signal_came, signal_report;
static char *volatile signal_remove;

static void signal_end(int sig)
{
    if (signal_held && !signal_came) {
        signal_came = sig;
        alarm(CLOSE_SECONDS);
        return;
    }
    if (signal_remove) {
        unlink(signal_remove);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

static void signal_note(int sig)
{
    signal_report = 1;
}

void img_signals_init(void)
{
    struct sigaction end = {.sa_handler = signal_end, .sa_flags = SA_NODEFER};
    struct sigaction note = {.sa_handler = signal_note, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGHUP, &end, NULL);
    sigaction(SIGALRM, &end, NULL);
    sigaction(SIGUSR1, &note, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void img_hold(const char *remove)
{
    signal_held = 1;
    if (remove) {
        img_release(false);
        signal_remove = alloc_text(remove);
        signal_held = 1;
    }
}

void img_release(bool failed)
{
    char *name = signal_remove;
    if (name && failed) {
        unlink(name);
    }
    signal_remove = NULL;
    free(name);
    signal_held = 0;
}

bool img_stopped(void)
{
    return signal_came != 0;
}

int img_stop_error(struct err *err)
{
    return err_set(err, EINTR, "stopped by a signal");
}

bool img_report_wanted(void)
{
    bool wanted = signal_report;
    signal_report = 0;
    return wanted;
}
