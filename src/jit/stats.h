/* Counters of a vCPU: plain increments in C code, never in generated code. */
#ifndef JIT_STATS_H
#define JIT_STATS_H

#include "ir/ir.h"
#include "ir/rt.h"

struct jit_options;
struct strbuf;

/* clang-format never settles on a layout for this list. */
/* clang-format off */
#define JIT_STATS(X)                                                                       \
    X(blocks) X(emitted) X(guest_insns) X(guest_bytes) X(hot_bytes) X(cold_bytes)          \
    X(translate_ns)                                                                        \
    X(enters) X(links) X(links_stale) X(links_early) X(faults) X(steps) X(steps_held) X(slow_device) X(direct) \
    X(slow_code) X(slow_cross) X(walks) X(refills) X(flushes) X(flushes_nonglobal)         \
    X(switches) X(switches_kept) X(flushes_page) X(flushes_code) X(flushes_survived) X(invalidated) X(evicted) \
    X(translated_again) X(moved) X(slow_reads) X(slow_writes) X(warmed) X(scattered)               \
    X(checked_pages) X(cooled_pages) X(checked_blocks) X(live_blocks) X(mismatches)
/* clang-format on */

struct jit_stats {
#define X(name) uint64_t name;
    JIT_STATS(X)
#undef X
    uint64_t exits[RT_EXIT_LINK + 1]; /* from generated code, by reason */
    uint64_t unlowered[IR_OPCODES];   /* blocks cut before an instruction, by its op */
};

/* What is not zero, a line each. */
void jit_stats_show(const struct jit_stats *, struct strbuf *out);
/* One line of JSON, to the log or appended to stats_path. */
void jit_stats_print(const struct jit_stats *, const struct jit_options *, unsigned vcpu,
                     uint64_t interpreted);

#endif
