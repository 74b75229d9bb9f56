/*
 * Nodes of memory and processors, as the guest is told; the host knows nothing of them. Memory of
 * the nodes follows one another in the order of their numbers.
 */
#ifndef CORE_NUMA_H
#define CORE_NUMA_H

#include <stdint.h>

#define NUMA_MAX_NODES 64
#define NUMA_HERE 10 /* distances: ACPI 6.4, 5.2.17 */
#define NUMA_THERE 20
#define NUMA_UNREACHABLE 255

struct numa {
    unsigned nodes;
    uint64_t mem[NUMA_MAX_NODES];
    uint8_t *node_of; /* by processor's number */
    uint8_t *dist;    /* nodes * nodes, or NULL: not told */
};

#endif
