/*
 * Real-time clock: Motorola MC146818 data sheet, as in a PC/AT with 128 bytes of CMOS memory
 * (century in byte 32h).
 *
 * Time is kept as what it was at one moment of the machine's clock; nothing ticks unless the guest
 * asked for periodic, alarm or update interrupts. The update-in-progress bit is up in the last 244
 * us of each second, as on the chip.
 *
 * Does not do: daylight saving (DSE), square wave output, dividers other than "32768 Hz runs"
 * and "held in reset"; the time of day while SET is on stands still as the chip's does.
 */
#include "dev/timer/cmos_rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/keyval.h"
#include "base/near.h"
#include "core/fields.h"
#include "loop/clock.h"

enum {
    R_SEC = 0,
    R_SEC_ALARM = 1,
    R_MIN = 2,
    R_MIN_ALARM = 3,
    R_HOUR = 4,
    R_HOUR_ALARM = 5,
    R_WDAY = 6,
    R_MDAY = 7,
    R_MON = 8,
    R_YEAR = 9,
    R_A = 10,
    R_B = 11,
    R_C = 12,
    R_D = 13,
    R_CENTURY = 0x32,
    A_UIP = 0x80,
    A_DV = 0x70,
    A_DV_RUN = 0x20,
    B_SET = 0x80,
    B_PIE = 0x40,
    B_AIE = 0x20,
    B_UIE = 0x10,
    B_DM = 4,
    B_24H = 2,
    C_IRQF = 0x80,
    C_PF = 0x40,
    C_AF = 0x20,
    C_UF = 0x10,
    D_VRT = 0x80,
};

#define UIP_NS 244000u
#define RTC_FAR_S 1000000000000ll /* more than a year of 25755, which registers can hold */

struct rtc {
    pthread_mutex_t lock;
    struct clock *clock;
    struct irq irq;
    uint8_t cmos[128], index;
    int64_t set_s; /* the time shown when the clock stood at `set_ns` */
    uint64_t set_ns;
    struct timer second, periodic;
    uint64_t periodic_at; /* when the last period ended */
};

/* ---- Time ---- */

static uint64_t rtc_since_set(const struct rtc *r)
{
    return clock_ns(r->clock) - r->set_ns;
}

/* From now to the next change of the seconds. */
static uint64_t rtc_left_ns(const struct rtc *r)
{
    return NS_PER_SEC - rtc_since_set(r) % NS_PER_SEC;
}

static void rtc_set_time(struct rtc *r, int64_t s)
{
    r->set_s = s;
    r->set_ns = clock_ns(r->clock);
}

static bool rtc_runs(const struct rtc *r)
{
    return (r->cmos[R_A] & A_DV) == A_DV_RUN && !(r->cmos[R_B] & B_SET);
}

static uint8_t rtc_encode(const struct rtc *r, int v)
{
    return (uint8_t)(r->cmos[R_B] & B_DM ? v : v / 10 << 4 | v % 10);
}

static int rtc_decode(const struct rtc *r, uint8_t v)
{
    return r->cmos[R_B] & B_DM ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *r, int hour)
{
    if (r->cmos[R_B] & B_24H) {
        return rtc_encode(r, hour);
    }
    int h12 = hour % 12 ? hour % 12 : 12;
    return (uint8_t)(rtc_encode(r, h12) | (hour >= 12 ? 0x80 : 0));
}

static int rtc_decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->cmos[R_B] & B_24H) {
        return rtc_decode(r, v);
    }
    return rtc_decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Brings the time registers up to date. */
static void rtc_fill(struct rtc *r)
{
    struct tm tm;
    time_t s = (time_t)(r->set_s + (int64_t)(rtc_since_set(r) / NS_PER_SEC));
    if (!rtc_runs(r) || !gmtime_r(&s, &tm)) {
        return;
    }
    int year = tm.tm_year + 1900;
    r->cmos[R_SEC] = rtc_encode(r, tm.tm_sec);
    r->cmos[R_MIN] = rtc_encode(r, tm.tm_min);
    r->cmos[R_HOUR] = rtc_encode_hour(r, tm.tm_hour);
    r->cmos[R_WDAY] = rtc_encode(r, tm.tm_wday + 1);
    r->cmos[R_MDAY] = rtc_encode(r, tm.tm_mday);
    r->cmos[R_MON] = rtc_encode(r, tm.tm_mon + 1);
    r->cmos[R_YEAR] = rtc_encode(r, year % 100);
    r->cmos[R_CENTURY] = rtc_encode(r, year / 100 % 100);
}

/* The guest set the time: what the registers say is now, at the start of a second. */
static void rtc_take(struct rtc *r)
{
    struct tm tm = {
        .tm_sec = rtc_decode(r, r->cmos[R_SEC]),
        .tm_min = rtc_decode(r, r->cmos[R_MIN]),
        .tm_hour = rtc_decode_hour(r, r->cmos[R_HOUR]),
        .tm_mday = rtc_decode(r, r->cmos[R_MDAY]),
        .tm_mon = rtc_decode(r, r->cmos[R_MON]) - 1,
        .tm_year = rtc_decode(r, r->cmos[R_YEAR]) + rtc_decode(r, r->cmos[R_CENTURY]) * 100 - 1900,
    };
    rtc_set_time(r, timegm(&tm));
}

/* ---- Interrupts ---- */

static void rtc_update_irq(struct rtc *r)
{
    if (r->cmos[R_C] & r->cmos[R_B] & (C_PF | C_AF | C_UF)) {
        r->cmos[R_C] |= C_IRQF;
    }
    irq_set(&r->irq, r->cmos[R_C] & C_IRQF);
}

static bool alarm_field(const struct rtc *r, unsigned alarm, unsigned now)
{
    return (r->cmos[alarm] & 0xc0) == 0xc0 || r->cmos[alarm] == r->cmos[now];
}

/* Once a second while somebody wants to know. */
static void rtc_arm_second(struct rtc *r)
{
    if (!rtc_runs(r) || !(r->cmos[R_B] & (B_AIE | B_UIE))) {
        timer_unset(&r->second);
        return;
    }
    timer_set(&r->second, clock_ns(r->clock) + rtc_left_ns(r));
}

static void rtc_second(void *opaque)
{
    struct rtc *r = opaque;
    AUTO_LOCK(&r->lock);
    rtc_fill(r);
    r->cmos[R_C] |= C_UF;
    if (alarm_field(r, R_SEC_ALARM, R_SEC) && alarm_field(r, R_MIN_ALARM, R_MIN) &&
        alarm_field(r, R_HOUR_ALARM, R_HOUR)) {
        r->cmos[R_C] |= C_AF;
    }
    rtc_update_irq(r);
    rtc_arm_second(r);
}

/* Rate select: 32768 >> (n - 1) Hz, but 1 and 2 stand for 8 and 9. */
static uint64_t periodic_ns(const struct rtc *r)
{
    unsigned n = r->cmos[R_A] & 15;
    if (!n || !(r->cmos[R_B] & B_PIE) || (r->cmos[R_A] & A_DV) != A_DV_RUN) {
        return 0;
    }
    n = n <= 2 ? n + 7 : n;
    return muldiv64(1ull << (n - 1), NS_PER_SEC, 32768);
}

static void rtc_arm_periodic(struct rtc *r)
{
    uint64_t period = periodic_ns(r);
    if (!period) {
        timer_unset(&r->periodic);
        return;
    }
    timer_set(&r->periodic, r->periodic_at + period);
}

static void rtc_periodic(void *opaque)
{
    struct rtc *r = opaque;
    AUTO_LOCK(&r->lock);
    uint64_t period = periodic_ns(r), now = clock_ns(r->clock);
    if (!period) {
        return;
    }
    uint64_t late = (now - r->periodic_at) / period;
    r->periodic_at += period * (late ? late : 1);
    r->cmos[R_C] |= C_PF;
    rtc_update_irq(r);
    rtc_arm_periodic(r);
}

/* ---- Registers ---- */

static void rtc_write_b(struct rtc *r, uint8_t val)
{
    uint8_t old = r->cmos[R_B];
    rtc_fill(r);
    if (val & B_SET) {
        val &= (uint8_t)~B_UIE;
    }
    r->cmos[R_B] = val;
    if ((old & B_SET) && !(val & B_SET)) {
        rtc_take(r);
    }
    if ((val & B_PIE) && !(old & B_PIE)) {
        r->periodic_at = clock_ns(r->clock);
    }
    rtc_update_irq(r);
}

static void rtc_write_reg(struct rtc *r, unsigned n, uint8_t val)
{
    bool ran = rtc_runs(r);
    switch (n) {
    case R_A:
        rtc_fill(r);
        r->cmos[R_A] = val & 0x7f;
        if (rtc_runs(r) && !ran) {
            rtc_take(r);
        }
        r->periodic_at = clock_ns(r->clock);
        break;
    case R_B: rtc_write_b(r, val); break;
    case R_C:
    case R_D: return;
    default:
        rtc_fill(r);
        r->cmos[n] = val;
        bool time_reg = n == R_SEC || n == R_MIN || n == R_HOUR || (n >= R_WDAY && n <= R_YEAR) ||
                        n == R_CENTURY;
        if (time_reg && rtc_runs(r)) {
            rtc_take(r);
        }
    }
    rtc_arm_second(r);
    rtc_arm_periodic(r);
}

static uint8_t rtc_read_reg(struct rtc *r, unsigned n)
{
    uint8_t val;
    switch (n) {
    case R_A: return r->cmos[R_A] | (rtc_runs(r) && rtc_left_ns(r) <= UIP_NS ? A_UIP : 0);
    case R_C:
        val = r->cmos[R_C];
        r->cmos[R_C] = 0;
        rtc_update_irq(r);
        return val;
    case R_D: return D_VRT;
    default: rtc_fill(r); return r->cmos[n];
    }
}

static enum mem_result rtc_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct rtc *r = dev;
    AUTO_LOCK(&r->lock);
    *val = off ? rtc_read_reg(r, r->index) : 0xff;
    return MEM_OK;
}

static enum mem_result rtc_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct rtc *r = dev;
    AUTO_LOCK(&r->lock);
    if (off) {
        rtc_write_reg(r, r->index, (uint8_t)val);
    } else {
        r->index = val & 0x7f; /* bit 7 masks NMI on a PC: not modelled */
    }
    return MEM_OK;
}

static const struct mmio rtc_ports = {rtc_read, rtc_write, 1, 1};

void rtc_map(struct rtc *r, struct mem_map *io)
{
    mem_map_add_mmio(io, 0x70, 2, &rtc_ports, r);
}

/* ---- Life ---- */

struct rtc *rtc_new(struct clock *clock, int64_t base_s)
{
    struct rtc *r = alloc_zero(sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    r->clock = clock;
    rtc_set_time(r, base_s);
    timer_init(&r->second, clock, rtc_second, r);
    timer_init(&r->periodic, clock, rtc_periodic, r);
    r->cmos[R_A] = A_DV_RUN | 6;
    r->cmos[R_B] = B_24H;
    return r;
}

void rtc_free(struct rtc *r)
{
    if (r) {
        timer_unset(&r->second);
        timer_unset(&r->periodic);
        pthread_mutex_destroy(&r->lock);
        free(r);
    }
}

/* RESET clears interrupt enables and flags only; the time goes on. */
void rtc_reset(struct rtc *r)
{
    AUTO_LOCK(&r->lock);
    r->cmos[R_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE);
    r->cmos[R_C] = 0;
    rtc_update_irq(r);
    rtc_arm_second(r);
    rtc_arm_periodic(r);
}

struct irq *rtc_irq(struct rtc *r)
{
    return &r->irq;
}

void rtc_set_cmos(struct rtc *r, unsigned index, uint8_t value)
{
    r->cmos[index & 127] = value;
}

/* "2006-06-17T16:01:21" or "2006-06-17" */
static int rtc_parse_date(const char *text, int64_t *base_s, struct err *err)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end) {
        memset(&tm, 0, sizeof(tm));
        end = strptime(text, "%Y-%m-%d", &tm);
    }
    if (!end || *end) {
        return err_set(err, EINVAL,
                       "-rtc: base '%s' is none of utc, localtime, 2006-06-17T16:01:21, 2006-06-17",
                       text);
    }
    *base_s = timegm(&tm);
    return 0;
}

int rtc_base_from_args(const struct keyval *args, int64_t *base_s, struct err *err)
{
    static const char *const names[] = {"base", "clock", "driftfix"};
    for (size_t i = 0; args && i < args->count; i++) {
        const char *key = args->pairs[i].key, *val = args->pairs[i].value;
        if (!strcmp(key, "clock") && strcmp(val, "host") && strcmp(val, "rt") &&
            strcmp(val, "vm")) {
            return err_set(err, EINVAL, "-rtc: clock '%s' is none of host, rt, vm", val);
        }
        if (near_distance(key, near_pick(key, names, ARRAY_LEN(names)))) {
            return err_set(err, EINVAL, "-rtc has no option '%s'; the nearest is '%s'", key,
                           near_pick(key, names, ARRAY_LEN(names)));
        }
    }
    const char *base = args ? keyval_get(args, "base") : NULL;
    time_t now = time(NULL);
    struct tm tm;
    if (!base || !strcmp(base, "utc")) {
        *base_s = now;
        return 0;
    }
    if (!strcmp(base, "localtime")) {
        localtime_r(&now, &tm);
        *base_s = timegm(&tm);
        return 0;
    }
    return rtc_parse_date(base, base_s, err);
}

/* ---- State ---- */

static const struct field rtc_list[] = {
    FIELD(struct rtc, lock, FIELD_HOST),
    FIELD(struct rtc, clock, FIELD_HOST),
    FIELD(struct rtc, irq, FIELD_GUEST, .sub = &irq_fields),
    FIELD_ARRAY(struct rtc, cmos, FIELD_GUEST),
    FIELD(struct rtc, index, FIELD_GUEST, .max = 127),
    FIELD(struct rtc, set_s, FIELD_GUEST),
    FIELD(struct rtc, set_ns, FIELD_GUEST),
    FIELD(struct rtc, second, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct rtc, periodic, FIELD_GUEST, .sub = &timer_fields),
    FIELD(struct rtc, periodic_at, FIELD_GUEST),
};

/* Far from what could not be computed with. */
static int rtc_loaded(void *obj, struct err *err)
{
    const struct rtc *r = obj;
    uint64_t now = clock_ns(r->clock);
    if (r->set_ns > now || r->set_s < -RTC_FAR_S || r->set_s > RTC_FAR_S) {
        return err_set(err, EINVAL, "state of mc146818: no such time");
    }
    return 0;
}

FIELD_SET_SHARED(rtc_fields, "mc146818", struct rtc, rtc_list, 1, .loaded = rtc_loaded);
