/* Real-time clock and CMOS memory of the PC. */
#ifndef DEV_TIMER_CMOS_RTC_H
#define DEV_TIMER_CMOS_RTC_H

#include <stdint.h>

#include "core/irq.h"
#include "core/mem.h"

struct clock;
struct err;
struct keyval;
struct rtc;

/* The time the clock shows at the start, in seconds as timegm() counts: from -rtc's options. */
int rtc_base_from_args(const struct keyval *args, int64_t *base_s, struct err *err);

struct rtc *rtc_new(struct clock *clock, int64_t base_s);
void rtc_free(struct rtc *rtc);
void rtc_reset(struct rtc *rtc);
struct irq *rtc_irq(struct rtc *rtc);
void rtc_map(struct rtc *rtc, struct mem_map *io); /* 70h and 71h */
/* CMOS bytes that firmware conventions give a meaning, 0eh and up. */
void rtc_set_cmos(struct rtc *rtc, unsigned index, uint8_t value);

extern const struct field_set rtc_fields; /* struct rtc */

#endif
