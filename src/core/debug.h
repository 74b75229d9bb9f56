/*
 * Breakpoints, watchpoints and stops: between a debugger (src/gdb), the accelerator that runs
 * into them, and an ISA's debug registers.
 *
 * Threads: a vCPU's `own` points and hits belong to its thread; everything of the debugger is
 * changed by the loop thread while the vCPUs are parked.
 */
#ifndef CORE_DEBUG_H
#define CORE_DEBUG_H

#include "base/types.h"

struct vcpu;

/* Linear addresses. `access` is RT_EXEC, or of RT_READ and RT_WRITE; 0: not in use. */
struct debug_point {
    gva_t addr;
    uint32_t len;
    uint8_t access;
};

enum debug_reason { DEBUG_NONE, DEBUG_STEP, DEBUG_BREAK, DEBUG_WATCH };

#define DEBUG_OWN 4     /* of the guest itself, per vCPU */
#define DEBUG_POINTS 64 /* of a debugger, per machine */

struct vcpu_debug {
    struct debug_point own[DEBUG_OWN]; /* the ISA sets them, then calls tlb_debug_changed() */
    unsigned own_hits;                 /* accesses to own[], bits by index */
    /* The debugger's orders for the next run: */
    bool step;        /* stop after one instruction */
    bool hold;        /* do not run at all */
    bool past;        /* do not stop for a breakpoint at the first instruction, */
    uint64_t past_pc; /* this one */
    /* Why it stopped, for the debugger to take: */
    enum debug_reason reason;
    struct debug_point hit; /* DEBUG_WATCH: which one */
    /* The host keeps x87 registers while a vCPU runs; with a debugger, a copy while it does not. */
    uint8_t fx[512];
    bool fx_changed;
};

/* machine->debug. */
struct debug {
    struct debug_point points[DEBUG_POINTS];
    /* On the vCPU's thread, when no further vCPU begins to run; `reason` is set. */
    void (*stopped)(void *opaque, struct vcpu *);
    void *opaque;
};

#endif
