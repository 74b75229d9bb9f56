/* Progress on the terminal: "    (12.34/100%)", written over itself, or a line at SIGUSR1. */
#ifndef IMG_PROGRESS_H
#define IMG_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;
    double last, step, now;
};

void progress_start(struct progress *p, bool shown, double step);
void progress_set(struct progress *p, uint64_t done, uint64_t all);
void progress_end(struct progress *p, bool complete);

#endif
