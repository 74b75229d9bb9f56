/*
 * Local APIC: Intel SDM Vol. 3A chapter 11, xAPIC and x2APIC modes. This file: priorities,
 * acceptance, acknowledge, messages between APICs.
 *
 * Does not do: relocation of the register page (IA32_APIC_BASE keeps any address, the registers
 * stay at fee00000h), focus processor, remote read, thermal and performance LVT sources,
 * rotation among equals in lowest-priority arbitration.
 *
 * An interrupt moves IRR -> ISR -> gone: lapic_raise() sets IRR, lapic_ack() moves it to ISR,
 * lapic_eoi() ends it. PPR follows from TPR and ISR and is kept up to date by their writers,
 * all of which are the owner's thread; so lapic_pending() is a few loads.
 */
#include "dev/irqchip/lapic.h"

#include <assert.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "dev/irqchip/lapic_internal.h"
#include "state/field.h"

static int bitmap_highest(const _Atomic uint32_t map[8])
{
    for (int i = 7; i >= 0; i--) {
        uint32_t word = map[i];
        if (word) {
            return i * 32 + 31 - __builtin_clz(word);
        }
    }
    return -1;
}

static void bitmap_set(_Atomic uint32_t map[8], unsigned n)
{
    map[n / 32] |= 1u << n % 32;
}

static void bitmap_clear(_Atomic uint32_t map[8], unsigned n)
{
    map[n / 32] &= ~(1u << n % 32);
}

static bool bitmap_test(const _Atomic uint32_t map[8], unsigned n)
{
    return map[n / 32] >> n % 32 & 1;
}

/* Intel SDM Vol. 3A 11.8.3.1 */
void lapic_update_ppr(struct lapic *l)
{
    int isrv = bitmap_highest(l->isr);
    uint32_t isr_class = isrv < 0 ? 0 : (uint32_t)isrv & 0xf0;
    uint32_t tpr = l->tpr;
    l->ppr = (tpr & 0xf0) >= isr_class ? tpr : isr_class;
}

static void lapic_post(struct lapic *l, unsigned events, unsigned arg)
{
    if (l->vcpu) {
        vcpu_post(l->vcpu, events, arg);
    }
}

void lapic_raise(struct lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        lapic_error(l, ESR_RECV_ILLEGAL);
        return;
    }
    if (level) {
        bitmap_set(l->tmr, vector);
    } else {
        bitmap_clear(l->tmr, vector);
    }
    bitmap_set(l->irr, vector);
    lapic_post(l, VCPU_EV_INTR, 0);
}

void lapic_error(struct lapic *l, uint32_t bit)
{
    uint32_t lvt = l->lvt[LVT_ERROR];
    l->esr_seen |= bit;
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16) {
        lapic_raise(l, lvt & 0xff, false);
    }
}

/* Whether the PIC's output reaches the processor: by LINT0 as ExtINT, or past an APIC that is
 * off (Intel SDM Vol. 3A 11.4.3). */
static bool lapic_extint(const struct lapic *l)
{
    if (!l->lint0) {
        return false;
    }
    uint32_t lvt = l->lvt[LVT_LINT0];
    return !(l->base & BASE_ENABLE) || (!(lvt & LVT_MASKED) && (lvt >> 8 & 7) == APIC_EXTINT);
}

static bool lapic_on(const struct lapic *l)
{
    return (l->base & BASE_ENABLE) && (l->svr & SVR_ENABLE);
}

static bool lapic_pending(struct irq_ctrl *ic)
{
    const struct lapic *l = container_of(ic, struct lapic, ic);
    if (lapic_on(l)) {
        int irrv = bitmap_highest(l->irr);
        if (irrv >= 0 && ((uint32_t)irrv & 0xf0) > (l->ppr & 0xf0)) {
            return true;
        }
    }
    return lapic_extint(l);
}

static int lapic_ack(struct irq_ctrl *ic)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    if (lapic_on(l)) {
        int irrv = bitmap_highest(l->irr);
        if (irrv >= 0 && ((uint32_t)irrv & 0xf0) > (l->ppr & 0xf0)) {
            bitmap_clear(l->irr, (unsigned)irrv);
            bitmap_set(l->isr, (unsigned)irrv);
            lapic_update_ppr(l);
            return irrv;
        }
    }
    if (lapic_extint(l) && l->bus->inta) {
        return l->bus->inta(l->bus->pic);
    }
    return -1;
}

static void lapic_recheck(struct lapic *l)
{
    lapic_update_ppr(l);
    if (lapic_pending(&l->ic)) {
        lapic_post(l, VCPU_EV_INTR, 0);
    }
}

void lapic_eoi(struct lapic *l)
{
    int isrv = bitmap_highest(l->isr);
    if (isrv < 0) {
        return;
    }
    bitmap_clear(l->isr, (unsigned)isrv);
    if (bitmap_test(l->tmr, (unsigned)isrv) && !(l->svr & SVR_NO_EOI_BROADCAST) && l->bus->eoi) {
        l->bus->eoi(l->bus->eoi_opaque, (uint8_t)isrv);
    }
    lapic_recheck(l);
}

static uint8_t lapic_get_tpr(struct irq_ctrl *ic)
{
    return (uint8_t)container_of(ic, struct lapic, ic)->tpr;
}

static void lapic_set_tpr(struct irq_ctrl *ic, uint8_t tpr)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    l->tpr = tpr;
    lapic_recheck(l);
}

static uint64_t lapic_get_base(struct irq_ctrl *ic)
{
    return container_of(ic, struct lapic, ic)->base;
}

/* Legal transitions: Intel SDM Vol. 3A 11.12.5, figure of the x2APIC state machine. */
static bool lapic_set_base(struct irq_ctrl *ic, uint64_t base)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    uint64_t old = l->base;
    bool on = base & BASE_ENABLE, x2 = base & BASE_X2;
    bool was_on = old & BASE_ENABLE, was_x2 = old & BASE_X2;
    if ((base & 0xff) || (base & (1 << 9)) || base >> 52) {
        return false;
    }
    if ((x2 && !on) || (was_x2 && on && !x2) || (!was_on && x2)) {
        return false;
    }
    if (was_on && !on) {
        lapic_reset(ic, true);
    }
    l->base = (base & ~(uint64_t)BASE_BSP) | (old & BASE_BSP);
    if (x2 && !was_x2) {
        l->id = l->initial_id;
        l->ldr = (l->initial_id >> 4) << 16 | 1u << (l->initial_id & 15);
    }
    return true;
}

static uint32_t lapic_get_id(struct irq_ctrl *ic)
{
    return container_of(ic, struct lapic, ic)->initial_id;
}

void lapic_reset(struct irq_ctrl *ic, bool init)
{
    struct lapic *l = container_of(ic, struct lapic, ic);
    bool bsp = l->initial_id == 0;
    if (!init) {
        l->base = LAPIC_BASE | BASE_ENABLE | (bsp ? BASE_BSP : 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        l->irr[i] = 0;
        l->isr[i] = 0;
        l->tmr[i] = 0;
    }
    l->id = lapic_x2(l) ? l->initial_id : l->initial_id << 24;
    l->ldr = lapic_x2(l) ? (l->initial_id >> 4) << 16 | 1u << (l->initial_id & 15) : 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    l->tpr = 0;
    l->ppr = 0;
    l->esr = 0;
    l->esr_seen = 0;
    l->icr = 0;
    for (unsigned i = 0; i < LVT_COUNT; i++) {
        l->lvt[i] = LVT_MASKED;
    }
    if (bsp && !init) { /* what firmware leaves behind: virtual wire mode */
        l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
        l->lvt[LVT_LINT1] = APIC_NMI << 8;
    }
    lapic_timer_reset(l);
}

/* ---- Messages ---- */

/* Intel SDM Vol. 3A 11.6.2 and 11.12.9 */
static bool lapic_matches(const struct lapic *l, uint32_t dest, bool logical, bool wide)
{
    if (dest == (wide ? 0xffffffffu : 0xffu)) {
        return true;
    }
    if (!logical) {
        return dest == l->initial_id;
    }
    uint32_t ldr = l->ldr;
    if (lapic_x2(l)) {
        return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
    }
    if (l->dfr >> 28 == 0xf) {
        return ldr >> 24 & dest & 0xff;
    }
    return ldr >> 28 == (dest >> 4 & 0xf) && (ldr >> 24 & dest & 0xf);
}

static bool lapic_take(struct lapic *l, const struct apic_msg *m)
{
    switch (m->mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!lapic_on(l)) {
            return false;
        }
        lapic_raise(l, m->vector, m->level);
        return true;
    case APIC_SMI: lapic_post(l, VCPU_EV_SMI, 0); return true;
    case APIC_NMI: lapic_post(l, VCPU_EV_NMI, 0); return true;
    case APIC_INIT: lapic_post(l, VCPU_EV_INIT, 0); return true;
    case APIC_SIPI:
        clock_forbid_smooth(l->bus->clock);
        lapic_post(l, VCPU_EV_SIPI, m->vector);
        return true;
    case APIC_EXTINT: /* from an I/O APIC pin: the PIC's output, which LINT0 has too */
    default: return false;
    }
}

static bool lapic_bus_deliver(struct lapic_bus *bus, const struct apic_msg *m, bool wide,
                              const struct lapic *not_me)
{
    struct lapic *lowest = NULL;
    bool taken = false;
    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *l = bus->apic[i];
        if (l == not_me || !lapic_matches(l, m->dest, m->logical, wide)) {
            continue;
        }
        if (m->mode != APIC_LOWEST) {
            taken |= lapic_take(l, m);
        } else if (lapic_on(l) && (!lowest || l->ppr < lowest->ppr)) {
            lowest = l;
        }
    }
    if (lowest) {
        taken = lapic_take(lowest, m);
    }
    log_put(LOG_IRQ, "apic: message vector %02x mode %u dest %x %s%s\n", m->vector, m->mode,
            m->dest, m->logical ? "logical" : "physical", taken ? "" : ", nobody took it");
    return taken;
}

bool lapic_bus_send(struct lapic_bus *bus, const struct apic_msg *msg)
{
    return lapic_bus_deliver(bus, msg, false, NULL);
}

void lapic_bus_msi(struct lapic_bus *bus, gpa_t addr, uint32_t data)
{
    struct apic_msg m = {.dest = (uint32_t)bits_get(addr, 19, 12),
                         .logical = addr & 4,
                         .level = data & 1 << 15,
                         .mode = (uint8_t)bits_get(data, 10, 8),
                         .vector = (uint8_t)data};
    lapic_bus_deliver(bus, &m, false, NULL);
}

void lapic_bus_lint0(void *opaque, unsigned n, bool level)
{
    struct lapic_bus *bus = opaque;
    for (unsigned i = 0; i < bus->count; i++) {
        bus->apic[i]->lint0 = level;
        if (level && lapic_extint(bus->apic[i])) {
            lapic_post(bus->apic[i], VCPU_EV_INTR, 0);
        }
    }
}

/* Intel SDM Vol. 3A 11.6.1; destination in bits 63:32 (x2APIC) or 63:56. */
void lapic_send_icr(struct lapic *l, uint64_t icr)
{
    bool wide = lapic_x2(l);
    struct apic_msg m = {.dest = wide ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
                         .logical = icr & 1 << 11,
                         .mode = (uint8_t)bits_get(icr, 10, 8),
                         .vector = (uint8_t)icr};
    bool level = icr & 1 << 15, assert_ = icr & 1 << 14;
    if (m.mode == APIC_INIT && level && !assert_) {
        return; /* INIT level de-assert: nothing on processors since Pentium 4 */
    }
    if (m.mode <= APIC_LOWEST && m.vector < 16) {
        lapic_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    switch (bits_get(icr, 19, 18)) {
    case 0: lapic_bus_deliver(l->bus, &m, wide, NULL); break;
    case 1: /* self */ lapic_take(l, &m); break;
    case 2: /* all */
    case 3: /* all but self */
        m.dest = wide ? 0xffffffffu : 0xffu;
        lapic_bus_deliver(l->bus, &m, wide, icr & 1 << 18 ? l : NULL);
    }
}

/* ---- Life ---- */

const struct irq_ctrl_type lapic_ctrl_type = {
    .name = "lapic",
    .pending = lapic_pending,
    .ack = lapic_ack,
    .get_tpr = lapic_get_tpr,
    .set_tpr = lapic_set_tpr,
    .get_base = lapic_get_base,
    .set_base = lapic_set_base,
    .msr_read = lapic_msr_read,
    .msr_write = lapic_msr_write,
    .reset = lapic_reset,
    .id = lapic_get_id,
    .set_tsc_offset = lapic_timer_set_offset,
};

struct lapic_bus *lapic_bus_new(struct clock *clock)
{
    struct lapic_bus *bus = alloc_zero(sizeof(*bus));
    bus->clock = clock;
    return bus;
}

void lapic_bus_free(struct lapic_bus *bus)
{
    for (unsigned i = 0; bus && i < bus->count; i++) {
        timer_unset(&bus->apic[i]->timer);
        pthread_mutex_destroy(&bus->apic[i]->lock);
        free(bus->apic[i]);
    }
    free(bus);
}

void lapic_bus_set_pic(struct lapic_bus *bus, int (*inta)(void *), void *pic)
{
    bus->inta = inta;
    bus->pic = pic;
}

void lapic_bus_set_eoi(struct lapic_bus *bus, void (*eoi)(void *, uint8_t), void *opaque)
{
    bus->eoi = eoi;
    bus->eoi_opaque = opaque;
}

struct lapic *lapic_new(struct lapic_bus *bus, uint32_t id)
{
    assert(bus->count < LAPIC_MAX && id < 0xff);
    struct lapic *l = alloc_zero(sizeof(*l));
    l->ic.type = &lapic_ctrl_type;
    l->bus = bus;
    l->initial_id = id;
    pthread_mutex_init(&l->lock, NULL);
    timer_init(&l->timer, bus->clock, lapic_timer_due, l);
    bus->apic[bus->count++] = l;
    lapic_reset(&l->ic, false);
    return l;
}

void lapic_set_vcpu(struct lapic *l, struct vcpu *vcpu)
{
    l->vcpu = vcpu;
}

struct irq_ctrl *lapic_ctrl(struct lapic *l)
{
    return &l->ic;
}

struct lapic *lapic_of(struct irq_ctrl *ic)
{
    return ic && ic->type == &lapic_ctrl_type ? container_of(ic, struct lapic, ic) : NULL;
}

void lapic_reset_all(struct lapic_bus *bus)
{
    for (unsigned i = 0; i < bus->count; i++) {
        lapic_reset(&bus->apic[i]->ic, false);
    }
}

void lapic_print(const struct lapic *l, struct strbuf *out)
{
    strbuf_add(out, "lapic %u: base %llx svr %x tpr %x ppr %x ldr %x dfr %x\n", l->initial_id,
               (unsigned long long)l->base, l->svr, l->tpr, l->ppr, l->ldr, l->dfr);
    for (unsigned i = 0; i < 256; i++) {
        if (bitmap_test(l->irr, i) || bitmap_test(l->isr, i)) {
            strbuf_add(out, "  vector %02x:%s%s%s\n", i, bitmap_test(l->irr, i) ? " irr" : "",
                       bitmap_test(l->isr, i) ? " isr" : "",
                       bitmap_test(l->tmr, i) ? " level" : "");
        }
    }
}

/* ---- State ---- */

static const struct field lapic_list[] = {
    FIELD(struct lapic, ic, FIELD_HOST),         FIELD(struct lapic, bus, FIELD_HOST),
    FIELD(struct lapic, vcpu, FIELD_HOST),       FIELD(struct lapic, initial_id, FIELD_CONFIG),
    FIELD(struct lapic, base, FIELD_GUEST),      FIELD(struct lapic, id, FIELD_GUEST),
    FIELD(struct lapic, ldr, FIELD_GUEST),       FIELD(struct lapic, dfr, FIELD_GUEST),
    FIELD(struct lapic, svr, FIELD_GUEST),       FIELD(struct lapic, tpr, FIELD_GUEST, .max = 255),
    FIELD(struct lapic, ppr, FIELD_DERIVED),     FIELD_ARRAY(struct lapic, irr, FIELD_GUEST),
    FIELD_ARRAY(struct lapic, isr, FIELD_GUEST), FIELD_ARRAY(struct lapic, tmr, FIELD_GUEST),
    FIELD(struct lapic, esr_seen, FIELD_GUEST),  FIELD(struct lapic, esr, FIELD_GUEST),
    FIELD_ARRAY(struct lapic, lvt, FIELD_GUEST), FIELD(struct lapic, icr, FIELD_GUEST),
    FIELD(struct lapic, lint0, FIELD_GUEST),     FIELD(struct lapic, lock, FIELD_HOST),
    FIELD(struct lapic, timer, FIELD_DERIVED),   FIELD(struct lapic, armed, FIELD_GUEST),
    FIELD(struct lapic, initial, FIELD_GUEST),   FIELD(struct lapic, divide, FIELD_GUEST),
    FIELD(struct lapic, start_ns, FIELD_GUEST),  FIELD(struct lapic, deadline, FIELD_GUEST),
    FIELD(struct lapic, tsc_offset, FIELD_HOST),
};

static int lapic_loaded(void *obj, struct err *err)
{
    struct lapic *l = obj;
    lapic_update_ppr(l);
    lapic_timer_loaded(l);
    lapic_post(l, VCPU_EV_INTR, 0);
    return 0;
}

FIELD_SET(lapic_fields, "lapic", struct lapic, lapic_list, 1, .loaded = lapic_loaded);

static const struct field lapic_bus_list[] = {
    FIELD(struct lapic_bus, clock, FIELD_HOST),
    FIELD(struct lapic_bus, count, FIELD_CONFIG),
    FIELD_EACH_OF(struct lapic_bus, apic, count, lapic_fields),
    FIELD(struct lapic_bus, inta, FIELD_HOST),
    FIELD(struct lapic_bus, pic, FIELD_HOST),
    FIELD(struct lapic_bus, eoi, FIELD_HOST),
    FIELD(struct lapic_bus, eoi_opaque, FIELD_HOST),
};

FIELD_SET_SHARED(lapic_bus_fields, "lapic-bus", struct lapic_bus, lapic_bus_list, 1);
