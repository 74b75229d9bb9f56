/* Interval timer of the PC with the speaker port that gates its third counter. */
#ifndef DEV_TIMER_PIT8254_H
#define DEV_TIMER_PIT8254_H

#include <stdbool.h>
#include <stdint.h>

#include "core/irq.h"
#include "core/mem.h"

#define PIT_HZ 1193182ull

struct clock;
struct pit;

struct pit *pit_new(struct clock *clock);
void pit_free(struct pit *pit);
void pit_reset(struct pit *pit);
struct irq *pit_irq(struct pit *pit);              /* OUT of counter 0 */
void pit_map(struct pit *pit, struct mem_map *io); /* 40h to 43h and 61h */

/* Whether anybody hears counter 0; preset: yes. */
void pit_want_line(struct pit *pit, bool wanted);

extern const struct field_set pit_fields; /* struct pit */

#endif
