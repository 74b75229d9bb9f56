/*
 * Fault injector: makes rare paths common, at a rate, with a seed, the same every time for one
 * vCPU. The guest must not notice any of it.
 */
#ifndef JIT_INJECT_H
#define JIT_INJECT_H

#include "jit/options.h"

/*
 * tlb:   soft TLB fills forget all entries of their table, or are not made
 * link:  direct links are not made, or all links to a block are broken again
 * evict: an arena of code memory is evicted (use tb-size= too)
 * exit:  the exit word is set for no reason
 * cross: an access to plain RAM is treated as one that crosses pages
 * move:  a page has translations for one address at a time
 */
struct inject {
    unsigned classes, rate;
    uint64_t rng;
    uint64_t count[INJECT_CLASSES];
};

const char *inject_name(unsigned class);
void inject_init(struct inject *, const struct jit_options *, unsigned vcpu);
bool inject_draw(struct inject *, enum jit_inject class);

static inline bool inject(struct inject *in, enum jit_inject class)
{
    return __builtin_expect(in->classes >> class & 1, 0) && inject_draw(in, class);
}
/* One line with the number of injections per class; nothing when none is on. */
void inject_report(const struct inject *, unsigned vcpu);

#endif
