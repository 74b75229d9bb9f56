/* Inside of the local APIC: lapic.c (state, delivery), lapic_reg.c (registers), lapic_timer.c. */
#ifndef DEV_IRQCHIP_LAPIC_INTERNAL_H
#define DEV_IRQCHIP_LAPIC_INTERNAL_H

#include <pthread.h>

#include "core/irq_ctrl.h"
#include "dev/irqchip/lapic.h"
#include "loop/clock.h"

#define LAPIC_MAX 64

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_MASKED (1u << 16)
#define SVR_ENABLE (1u << 8)
#define SVR_NO_EOI_BROADCAST (1u << 12)
#define ESR_SEND_ILLEGAL (1u << 5)
#define ESR_RECV_ILLEGAL (1u << 6)
#define ESR_ILLEGAL_REG (1u << 7)
#define BASE_BSP (1u << 8)
#define BASE_X2 (1u << 10)
#define BASE_ENABLE (1u << 11)

enum lapic_timer_mode { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_RESERVED };

/*
 * Registers are written by the owning vcpu's thread. Others read those marked atomic when they
 * look for a destination, and set bits of IRR, TMR and ESR. Timer fields: by `lock`.
 */
struct lapic {
    struct irq_ctrl ic;
    struct lapic_bus *bus;
    struct vcpu *vcpu;
    uint32_t initial_id;
    _Atomic uint64_t base;
    _Atomic uint32_t id, ldr, dfr, svr, tpr, ppr;
    _Atomic uint32_t irr[8], isr[8], tmr[8];
    _Atomic uint32_t esr_seen; /* collected; shown after a write to ESR */
    uint32_t esr;
    _Atomic uint32_t lvt[LVT_COUNT];
    uint64_t icr;
    _Atomic bool lint0; /* the PIC's output */
    pthread_mutex_t lock;
    struct timer timer;
    bool armed;
    uint32_t initial, divide;
    uint64_t start_ns;
    uint64_t deadline; /* guest TSC; 0: not armed */
    int64_t tsc_offset;
};

struct lapic_bus {
    struct clock *clock;
    unsigned count;
    struct lapic *apic[LAPIC_MAX];
    int (*inta)(void *);
    void *pic;
    void (*eoi)(void *, uint8_t);
    void *eoi_opaque;
};

extern const struct irq_ctrl_type lapic_ctrl_type;

static inline bool lapic_x2(const struct lapic *l)
{
    return (l->base & (BASE_ENABLE | BASE_X2)) == (BASE_ENABLE | BASE_X2);
}

/* lapic.c */
void lapic_raise(struct lapic *l, uint8_t vector, bool level);
void lapic_error(struct lapic *l, uint32_t bit);
void lapic_update_ppr(struct lapic *l);
void lapic_eoi(struct lapic *l);
void lapic_reset(struct irq_ctrl *ic, bool init);
void lapic_send_icr(struct lapic *l, uint64_t icr);

/* lapic_reg.c: `reg` is the register number, MMIO offset / 16. False: no such register. */
bool lapic_reg_read(struct lapic *l, unsigned reg, uint64_t *val);
bool lapic_reg_write(struct lapic *l, unsigned reg, uint64_t val);
bool lapic_msr_read(struct irq_ctrl *ic, uint32_t msr, uint64_t *val);
bool lapic_msr_write(struct irq_ctrl *ic, uint32_t msr, uint64_t val);

/* lapic_timer.c */
void lapic_timer_due(void *opaque);
void lapic_timer_reset(struct lapic *l);
void lapic_timer_loaded(struct lapic *l); /* arms it as its fields say */
void lapic_timer_set_lvt(struct lapic *l, uint32_t val);
void lapic_timer_set_initial(struct lapic *l, uint32_t val);
void lapic_timer_set_divide(struct lapic *l, uint32_t val);
uint32_t lapic_timer_current(struct lapic *l);
uint64_t lapic_timer_get_deadline(struct lapic *l);
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc);
void lapic_timer_set_offset(struct irq_ctrl *ic, int64_t offset);

#endif
