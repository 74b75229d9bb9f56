/* CPU time of this process and of its children that ended, in microseconds. */
#ifndef BENCH_CPU_H
#define BENCH_CPU_H

#include <sys/resource.h>

static inline long cpu_us(void)
{
    long sum = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        struct rusage r;
        getrusage(who, &r);
        sum += (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + r.ru_utime.tv_usec +
               r.ru_stime.tv_usec;
    }
    return sum;
}

#endif
