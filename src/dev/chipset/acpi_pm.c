/*
 * ACPI 6.4 4.8.3: fixed hardware as PIIX4 and ICH9 have it. Byte 0 PM1_STS, 2 PM1_EN, 4 PM1_CNT,
 * 8 PM_TMR. Sleep states but soft off are not offered.
 * Writing ACPI's enable value to the SMI command port acts at once, before an SMI.
 */
#include "dev/chipset/acpi_pm.h"

#include "base/cleanup.h"
#include "core/fields.h"
#include "core/machine.h"
#include "dev/timer/acpi_pm_timer.h"

enum {
    PM1_STS = 0,
    PM1_EN = 2,
    PM1_CNT = 4,
    PM_TMR = 8,
    TMR_STS = 1 << 0,
    GBL_STS = 1 << 5,
    PWRBTN_STS = 1 << 8,
    RTC_STS = 1 << 10,
    WAK_STS = 1 << 15,
    STS_BITS = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS | WAK_STS,
    EN_BITS = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS,
    SCI_EN = 1 << 0,
    SLP_TYP_SHIFT = 10,
    SLP_EN = 1 << 13,
    TIMER_HALF = 1 << 23, /* TMR_STS is set whenever bit 23 changes */
};

/* The lock is held. */
static void pm_update(struct acpi_pm *pm)
{
    unsigned half = pm->gpe_len / 2;
    bool gpe = false;
    for (unsigned i = 0; i < half; i++) {
        gpe |= (pm->gpe[i] & pm->gpe[half + i]) != 0;
    }
    irq_set(&pm->sci, pm->pm1_cnt & SCI_EN && (pm->pm1_sts & pm->pm1_en || gpe));
    if (pm->pm1_en & TMR_STS && !(pm->pm1_sts & TMR_STS)) {
        uint32_t now = acpi_pm_timer_value(pm->machine->clock);
        uint64_t ticks = TIMER_HALF - (now & (TIMER_HALF - 1));
        timer_set(&pm->overflow,
                  clock_ns(pm->machine->clock) + muldiv64(ticks + 1, NS_PER_SEC, ACPI_PM_TIMER_HZ));
    } else {
        timer_unset(&pm->overflow);
    }
}

static void pm_overflow(void *opaque)
{
    struct acpi_pm *pm = opaque;
    AUTO_LOCK(&pm->lock);
    pm->pm1_sts |= TMR_STS;
    pm_update(pm);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
    AUTO_LOCK(&pm->lock);
    pm->pm1_sts |= PWRBTN_STS;
    pm_update(pm);
}

static void pm_write_control(struct acpi_pm *pm, uint16_t v)
{
    pm->pm1_cnt = v & ~SLP_EN;
    if (v & SLP_EN && (v >> SLP_TYP_SHIFT & 7) == pm->s5_type) {
        machine_ask(pm->machine, MACHINE_REQ_POWEROFF, 0);
    }
}

static enum mem_result pm_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct acpi_pm *pm = opaque;
    AUTO_LOCK(&pm->lock);
    uint64_t regs = pm->pm1_sts | (uint64_t)pm->pm1_en << 16 | (uint64_t)pm->pm1_cnt << 32;
    if (off < PM_TMR) {
        *val = regs >> 8 * off;
    } else {
        *val = off < PM_TMR + 4 ? acpi_pm_timer_value(pm->machine->clock) >> 8 * (off - PM_TMR) : 0;
    }
    return MEM_OK;
}

/* A byte of a 16-bit register: Linux writes them whole, firmware not always. */
static uint16_t merged(uint16_t old, uint64_t off, unsigned size, uint64_t val)
{
    if (size > 1) {
        return (uint16_t)val;
    }
    return off & 1 ? (old & 0xff) | (uint16_t)((val & 0xff) << 8) : (old & 0xff00) | (val & 0xff);
}

static enum mem_result pm_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct acpi_pm *pm = opaque;
    AUTO_LOCK(&pm->lock);
    switch (off & ~1ull) {
    case PM1_STS: pm->pm1_sts &= ~(merged(0, off, size, val) & STS_BITS); break;
    case PM1_EN: pm->pm1_en = merged(pm->pm1_en, off, size, val) & EN_BITS; break;
    case PM1_CNT: pm_write_control(pm, merged(pm->pm1_cnt, off, size, val)); break;
    default: return MEM_OK;
    }
    if (size == 4 && !off) {
        pm->pm1_en = val >> 16 & EN_BITS;
    }
    pm_update(pm);
    return MEM_OK;
}

const struct mmio acpi_pm_block = {pm_read, pm_write, 1, 4};

static enum mem_result gpe_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct acpi_pm *pm = opaque;
    AUTO_LOCK(&pm->lock);
    *val = off < pm->gpe_len ? pm->gpe[off] : 0;
    return MEM_OK;
}

static enum mem_result gpe_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct acpi_pm *pm = opaque;
    AUTO_LOCK(&pm->lock);
    if (off < pm->gpe_len / 2) {
        pm->gpe[off] &= ~val;
    } else if (off < pm->gpe_len) {
        pm->gpe[off] = (uint8_t)val;
    }
    pm_update(pm);
    return MEM_OK;
}

const struct mmio acpi_pm_gpe = {gpe_read, gpe_write, 1, 1};

static enum mem_result apm_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct acpi_pm *pm = opaque;
    AUTO_LOCK(&pm->lock);
    *val = pm->apm[off & 1];
    return MEM_OK;
}

static void apm_set(struct acpi_pm *pm, uint64_t off, uint64_t val)
{
    AUTO_LOCK(&pm->lock);
    pm->apm[off & 1] = (uint8_t)val;
    if (!off && val == ACPI_PM_ENABLE) {
        pm->pm1_cnt |= SCI_EN;
    } else if (!off && val == ACPI_PM_DISABLE) {
        pm->pm1_cnt &= ~SCI_EN;
    }
    pm_update(pm);
}

static enum mem_result apm_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct acpi_pm *pm = opaque;
    apm_set(pm, off, val);
    if (!off && pm->smi) {
        pm->smi(pm->smi_opaque);
    }
    return MEM_OK;
}

const struct mmio acpi_pm_apm = {apm_read, apm_write, 1, 1};

void acpi_pm_init(struct acpi_pm *pm, struct machine *m, unsigned s5_type, unsigned gpe_len)
{
    pm->machine = m;
    pm->gpe_len = gpe_len;
    pm->s5_type = s5_type;
    pthread_mutex_init(&pm->lock, NULL);
    timer_init(&pm->overflow, m->clock, pm_overflow, pm);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    AUTO_LOCK(&pm->lock);
    pm->pm1_sts = pm->pm1_en = pm->pm1_cnt = 0;
    for (unsigned i = 0; i < pm->gpe_len; i++) {
        pm->gpe[i] = 0;
    }
    pm->apm[0] = pm->apm[1] = 0;
    pm_update(pm);
}

void acpi_pm_fini(struct acpi_pm *pm)
{
    if (pm->machine) {
        timer_unset(&pm->overflow);
        pthread_mutex_destroy(&pm->lock);
    }
}

/* ---- State ---- */

static const struct field acpi_pm_list[] = {
    FIELD(struct acpi_pm, machine, FIELD_HOST),
    FIELD(struct acpi_pm, lock, FIELD_HOST),
    FIELD(struct acpi_pm, pm1_sts, FIELD_GUEST),
    FIELD(struct acpi_pm, pm1_en, FIELD_GUEST),
    FIELD(struct acpi_pm, pm1_cnt, FIELD_GUEST),
    FIELD_ARRAY(struct acpi_pm, gpe, FIELD_GUEST),
    FIELD(struct acpi_pm, gpe_len, FIELD_CONFIG),
    FIELD_ARRAY(struct acpi_pm, apm, FIELD_GUEST),
    FIELD(struct acpi_pm, s5_type, FIELD_CONFIG),
    FIELD(struct acpi_pm, sci, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct acpi_pm, overflow, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct acpi_pm, smi, FIELD_HOST),
    FIELD(struct acpi_pm, smi_opaque, FIELD_HOST),
};

FIELD_SET_SHARED(acpi_pm_fields, "acpi-pm", struct acpi_pm, acpi_pm_list, 1);
