/*
 * How processors are arranged: sockets of dies of cores of threads, and which APIC ID follows from
 * a processor's number. Each level has as many bits of the ID as its count needs (Intel SDM Vol. 3A
 * 8.9.1), so IDs have gaps where a count is no power of two.
 */
#ifndef CORE_TOPOLOGY_H
#define CORE_TOPOLOGY_H

#include <stdint.h>

/* All from 1 up; their product is `max`, of which the first ones are there. */
struct topology {
    unsigned sockets, dies, cores, threads, max;
};

/* Where a processor is, each level counted within the one above. */
struct topology_place {
    unsigned socket, die, core, thread;
};

static inline unsigned topology_bits(unsigned count)
{
    return count < 2 ? 0 : 32 - (unsigned)__builtin_clz(count - 1);
}

/* Bits of the ID below that of the core, the die, the socket. */
static inline unsigned topology_core_shift(const struct topology *t)
{
    return topology_bits(t->threads);
}

static inline unsigned topology_die_shift(const struct topology *t)
{
    return topology_core_shift(t) + topology_bits(t->cores);
}

static inline unsigned topology_socket_shift(const struct topology *t)
{
    return topology_die_shift(t) + topology_bits(t->dies);
}

static inline struct topology_place topology_place(const struct topology *t, unsigned n)
{
    unsigned core = n / t->threads, die = core / t->cores;
    return (struct topology_place){die / t->dies, die % t->dies, core % t->cores, n % t->threads};
}

static inline uint32_t topology_apic_id(const struct topology *t, unsigned n)
{
    struct topology_place p = topology_place(t, n);
    return p.socket << topology_socket_shift(t) | p.die << topology_die_shift(t) |
           p.core << topology_core_shift(t) | p.thread;
}

#endif
