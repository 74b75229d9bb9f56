/* Hosts without a counter we read: the monotonic clock, in nanoseconds. */
#include "loop/clock.h"
#include "loop/tsc.h"

uint64_t tsc_host_read(void)
{
    return clock_now_ns();
}

uint64_t tsc_host_hz(void)
{
    return NS_PER_SEC;
}
