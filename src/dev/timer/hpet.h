/* High precision event timer. */
#ifndef DEV_TIMER_HPET_H
#define DEV_TIMER_HPET_H

#include "core/irq.h"
#include "core/mem.h"

#define HPET_BASE 0xfed00000ull
#define HPET_SIZE 0x400
#define HPET_ID 0x8086a201u /* the low half of the capabilities */

enum { HPET_TIMERS = 3, HPET_LEGACY_PIT = 0, HPET_LEGACY_RTC = 1 };

struct clock;
struct hpet;

/* `gsi`: 24 lines, of which `routes` says which ones timers may have (a bit each; line 2 is gsi[0],
 * as the I/O APIC has it). */
struct hpet *hpet_new(struct clock *clock, struct irq_pin *gsi, uint32_t routes);
void hpet_free(struct hpet *h);
void hpet_reset(struct hpet *h);
void hpet_map(struct hpet *h, struct mem_map *mem);

/* Where the PIT and the clock are to be connected: their way to lines 0 and 8, which legacy
 * replacement closes. */
struct irq_pin *hpet_legacy_pin(struct hpet *h, unsigned which);
/* Told, with the lock held, whether the PIT's way is open. */
void hpet_on_legacy(struct hpet *h, void (*open)(void *opaque, bool on), void *opaque);

extern const struct field_set hpet_fields; /* struct hpet */

#endif
