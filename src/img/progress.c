/* Progress on the terminal. */
#include "img/progress.h"

#include <stdio.h>

#include "img/img.h"

static void progress_print(const struct progress *p)
{
    printf("    (%3.2f/100%%)\r", p->now);
    fflush(stdout);
}

void progress_start(struct progress *p, bool shown, double step)
{
    *p = (struct progress){.shown = shown, .step = step};
    if (shown) {
        progress_print(p);
    }
}

void progress_set(struct progress *p, uint64_t done, uint64_t all)
{
    p->now = all ? 100.0 * (double)done / (double)all : 100.0;
    if (p->shown && p->now >= p->last + p->step) {
        p->last = p->now;
        progress_print(p);
    }
    if (img_report_wanted() && !p->shown) {
        fprintf(stderr, "    (%3.2f/100%%)\n", p->now);
    }
}

void progress_end(struct progress *p, bool complete)
{
    if (p->shown && complete) {
        p->now = 100.0;
        progress_print(p);
    }
    if (p->shown) {
        printf("\n");
        fflush(stdout);
    }
    p->shown = false;
}
