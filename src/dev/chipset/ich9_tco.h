/* TCO timer of ICH9: a watchdog. */
#ifndef DEV_CHIPSET_ICH9_TCO_H
#define DEV_CHIPSET_ICH9_TCO_H

#include <pthread.h>

#include "core/mem.h"
#include "loop/clock.h"

struct machine;

#define ICH9_TCO_PORTS 32
#define ICH9_TCO_TICK_NS 600000000ull

struct ich9_tco {
    struct machine *machine;
    pthread_mutex_t lock; /* all below */
    bool no_reboot;       /* the strap of that name */
    struct timer timer;
    uint64_t start; /* when it was reloaded; 0: it does not run */
    unsigned timeouts;
    uint16_t sts[2], cnt[2], tmr;
    uint8_t data[2], message[2], wdcnt, sw_irq;
    uint32_t gcs;
};

void ich9_tco_init(struct ich9_tco *t, struct machine *m);
void ich9_tco_reset(struct ich9_tco *t);
void ich9_tco_fini(struct ich9_tco *t);

extern const struct mmio ich9_tco_ports; /* dev: struct ich9_tco */
extern const struct mmio ich9_tco_gcs;   /* the register GCS of the root complex; dev as above */

extern const struct field_set ich9_tco_fields; /* struct ich9_tco */

#endif
