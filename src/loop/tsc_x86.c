/*
 * The time-stamp counter of x86 hosts. Its frequency comes from CPUID leaf 15h (Intel SDM
 * Vol. 3B 19.7.3) if the processor states its crystal, else from two readings of counter and
 * monotonic clock a short time apart.
 */
#include <cpuid.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

#include "loop/clock.h"
#include "loop/tsc.h"

static uint64_t host_hz; /* written once */

uint64_t tsc_host_read(void)
{
    return __rdtsc();
}

static uint64_t hz_from_cpuid(void)
{
    unsigned a, b, c, d;
    if (__get_cpuid_max(0, NULL) < 0x15) {
        return 0;
    }
    __cpuid(0x15, a, b, c, d);
    return a && b && c ? muldiv64(c, b, a) : 0;
}

struct tsc_sample {
    uint64_t ns, tsc, width;
};

/* The tightest of a few readings of both. */
static struct tsc_sample sample_best(void)
{
    struct tsc_sample best = {.width = UINT64_MAX};
    for (int i = 0; i < 12; i++) {
        uint64_t before = __rdtsc();
        uint64_t ns = clock_now_ns();
        uint64_t after = __rdtsc();
        if (after - before < best.width) {
            best = (struct tsc_sample){ns, before + (after - before) / 2, after - before};
        }
    }
    return best;
}

static uint64_t hz_measured(void)
{
    struct tsc_sample a = sample_best();
    struct timespec wait = {0, 2000000};
    nanosleep(&wait, NULL);
    struct tsc_sample b = sample_best();
    uint64_t hz = muldiv64(b.tsc - a.tsc, NS_PER_SEC, b.ns - a.ns);
    return (hz + 50000) / 100000 * 100000; /* real ones are round numbers of 100 kHz */
}

static void hz_find(void)
{
    host_hz = hz_from_cpuid();
    if (!host_hz) {
        host_hz = hz_measured();
    }
}

uint64_t tsc_host_hz(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, hz_find);
    return host_hz;
}
