#include "jit/inject.h"

#include "base/log.h"
#include "base/strbuf.h"

const char *inject_name(unsigned class)
{
    static const char *const names[INJECT_CLASSES] = {"tlb",  "link",  "evict",
                                                      "exit", "cross", "move"};
    return names[class];
}

void inject_init(struct inject *in, const struct jit_options *o, unsigned vcpu)
{
    *in = (struct inject){.classes = o->inject,
                          .rate = o->inject_rate,
                          .rng = (o->inject_seed + vcpu) * 0x9e3779b97f4a7c15ull | 1};
}

bool inject_draw(struct inject *in, enum jit_inject class)
{
    in->rng ^= in->rng << 13;
    in->rng ^= in->rng >> 7;
    in->rng ^= in->rng << 17;
    /* Evictions drop so much that they come less often. */
    uint64_t rate = class == INJECT_EVICT ? in->rate * 64ull : in->rate;
    bool hit = (in->rng * 0x2545f4914f6cdd1dull >> 32) % rate == 0;
    in->count[class] += hit;
    return hit;
}

void inject_report(const struct inject *in, unsigned vcpu)
{
    struct strbuf sb = {0};
    if (!in->classes) {
        return;
    }
    for (unsigned k = 0; k < INJECT_CLASSES; k++) {
        if (in->classes >> k & 1) {
            strbuf_add(&sb, " %s %llu", inject_name(k), (unsigned long long)in->count[k]);
        }
    }
    log_put(LOG_ALWAYS, "injected on vcpu %u:%s\n", vcpu, strbuf_text(&sb));
    strbuf_free(&sb);
}
