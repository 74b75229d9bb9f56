/* The host's time-stamp counter, or its stand-in where the host has none to read. */
#ifndef LOOP_TSC_H
#define LOOP_TSC_H

#include <stdint.h>

uint64_t tsc_host_read(void);
uint64_t tsc_host_hz(void); /* the first call may take two milliseconds */

#endif
