/* Random x86 instructions on the host and on the engines: options, counting, reports. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/strbuf.h"
#include "isa/x86/model.h"
#include "isa/x86/randinsn.h"
#include "isa/x86/table.h"
#include "tests/isa/x86/diff.h"

struct run {
    uint64_t count, seed, rng;
    unsigned seconds, each, mode, max_failures, form, block;
    const char *only, *resume, *engine;
    bool quiet, tiers, unmasked, align;
    uint64_t done[X86_FORM_COUNT], faulted[X86_FORM_COUNT], failed[X86_FORM_COUNT];
    uint64_t total, blocks, failures, before; /* before: instructions of earlier runs (--resume) */
    unsigned forms[X86_FORM_COUNT], nforms;
    unsigned integer[X86_FORM_COUNT], other[X86_FORM_COUNT];
    struct diff_host *host; /* NULL: T0 is the reference */
    struct diff_guest *guest;
    struct diff_blocks blocks_of;
    struct diff_case c, least, smaller;
    struct diff_state want, got;
};

static void usage(void)
{
    puts("usage: x86_diff [--count N] [--seconds N] [--each N] [--seed N] [--mode 32|64] [--only "
         "NAME]\n"
         "                [--engine NAME] [--resume FILE] [--max-failures N] [--quiet]\n"
         "                [--block N] [--unmasked] [--align] [--tiers]\n"
         "  --count N    that many instructions (default 200000)\n"
         "  --seconds N  stop after N seconds\n"
         "  --each N     every form N times, in turn, instead of --count\n"
         "  --only NAME  forms of this instruction alone; --form N this row of the table\n"
         "  --block N    blocks of 2 to N instructions (at most 16) instead of single ones\n"
         "  --unmasked   floating-point instructions with unmasked exceptions\n"
         "  --align      with alignment checks\n"
         "  --tiers      without the host: t0 is what the others are compared with\n"
         "  --resume F   adds counts to those in F and goes on with the sequence where it stopped");
}

static void parse(struct run *r, int argc, char **argv)
{
    static const struct option options[] = {{"count", 1, 0, 'c'},
                                            {"seconds", 1, 0, 't'},
                                            {"each", 1, 0, 'e'},
                                            {"seed", 1, 0, 's'},
                                            {"mode", 1, 0, 'm'},
                                            {"only", 1, 0, 'o'},
                                            {"form", 1, 0, 'n'},
                                            {"engine", 1, 0, 'g'},
                                            {"resume", 1, 0, 'r'},
                                            {"max-failures", 1, 0, 'f'},
                                            {"block", 1, 0, 'b'},
                                            {"tiers", 0, 0, 'i'},
                                            {"unmasked", 0, 0, 'u'},
                                            {"align", 0, 0, 'a'},
                                            {"quiet", 0, 0, 'q'},
                                            {"help", 0, 0, 'h'},
                                            {0}};
    for (int k; (k = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (k) {
        case 'c': r->count = strtoull(optarg, NULL, 0); break;
        case 't': r->seconds = (unsigned)atoi(optarg); break;
        case 'e': r->each = (unsigned)atoi(optarg); break;
        case 's': r->seed = strtoull(optarg, NULL, 0); break;
        case 'm': r->mode = atoi(optarg) == 32 ? 4 : 8; break;
        case 'o': r->only = optarg; break;
        case 'n': r->form = (unsigned)atoi(optarg); break;
        case 'g': r->engine = optarg; break;
        case 'r': r->resume = optarg; break;
        case 'f': r->max_failures = (unsigned)atoi(optarg); break;
        case 'b': r->block = (unsigned)atoi(optarg); break;
        case 'i': r->tiers = true; break;
        case 'a': r->align = true; break;
        case 'u': r->unmasked = true; break;
        case 'q': r->quiet = true; break;
        default: usage(); exit(k == 'h' ? 0 : 2);
        }
    }
    if (r->block && (r->block < 2 || r->block > DIFF_MAX_BLOCK)) {
        usage();
        exit(2);
    }
}

static bool floats(unsigned form)
{
    return x86_form_flags(form) & (X86_FORM_VEC | X86_FORM_MMX | X86_FORM_X87);
}

static void split_forms(struct run *r)
{
    struct diff_blocks *d = &r->blocks_of;
    *d = (struct diff_blocks){.guest = r->guest,
                              .integer = r->integer,
                              .other = r->other,
                              .mode = r->mode,
                              .max = r->block};
    for (unsigned i = 0; i < r->nforms; i++) {
        unsigned f = r->forms[i];
        if (floats(f)) {
            r->other[d->nothers++] = f;
        } else {
            r->integer[d->nintegers++] = f;
        }
    }
}

static void choose_forms(struct run *r)
{
    const struct x86_model *m = diff_guest_cpu(r->guest)->model;
    for (unsigned f = 0; f < X86_FORM_COUNT; f++) {
        uint64_t rng = f;
        bool named = !r->only || strcmp(r->only, x86_op_name(x86_forms[f].op)) == 0;
        named = named && (r->form == X86_FORM_COUNT || r->form == f);
        named = named && (!r->unmasked || floats(f));
        if (named && diff_wants_form(m, f) && diff_make_insn(&r->c, &rng, f, r->mode)) {
            r->forms[r->nforms++] = f;
        }
    }
    if (r->nforms == 0) {
        fprintf(stderr, "no such form\n");
        exit(2);
    }
    split_forms(r);
}

static bool single(const struct diff_case *c)
{
    return c->in.pc != DIFF_BLOCK;
}

/* What an engine is compared by: the last instruction's rules and the flags that are defined. */
static bool same(struct run *r, const struct diff_case *c, struct strbuf *text)
{
    const struct diff_case *rules = single(c) ? c : &r->blocks_of.last;
    uint64_t defined = single(c) ? diff_defined_flags(c) : DIFF_FLAGS & ~r->blocks_of.undefined;
    if (r->want.fault != DIFF_NO_FAULT) { /* engine rule 15 lets older flags be stale then */
        defined = c->n > 1 ? DIFF_FLAGS & ~(uint64_t)FLAG_ALL : DIFF_FLAGS;
    }
    return diff_same(rules, defined, &r->want, &r->got, text);
}

static void reference(struct run *r, const struct diff_case *c)
{
    diff_guest_case(r->guest, c);
    if (r->host) {
        diff_host_run(r->host, c, &r->want);
    } else {
        diff_guest_run(r->guest, &diff_engines[0], c, &r->want);
    }
}

/* Runs the case on an engine; false with the differences. */
static bool agrees(struct run *r, const struct diff_engine *e, const struct diff_case *c,
                   struct strbuf *text)
{
    diff_guest_run(r->guest, e, c, &r->got);
    return same(r, c, text);
}

/* Makes the block the one that is compared (its last instruction's rules) and runs the reference.
 */
static void again(struct run *r, const struct diff_case *c)
{
    if (!single(c)) {
        diff_drop(&r->blocks_of, c, c->n, &r->smaller);
    }
    reference(r, c);
}

/* r->least: the block without all that can be dropped while it fails, from its end on. */
static void shrink(struct run *r, const struct diff_engine *e)
{
    struct diff_case *c = &r->least;
    for (unsigned k = c->n; k-- > 0 && c->n > 1;) {
        struct strbuf text = {0};
        if (k < c->n && diff_drop(&r->blocks_of, c, k, &r->smaller)) {
            reference(r, &r->smaller);
            if (!agrees(r, e, &r->smaller, &text)) {
                *c = r->smaller;
                k = c->n;
            }
        }
        strbuf_free(&text);
    }
}

static void report(struct run *r, const struct diff_engine *e, uint64_t seed, struct strbuf *first)
{
    struct strbuf out = {0}, text = {0};
    r->least = r->c;
    if (single(&r->c)) {
        strbuf_add(&out, "MISMATCH %s: --mode %u%s%s --form %u --seed 0x%llx --count 1\n", e->name,
                   r->mode * 8, r->unmasked ? " --unmasked" : "", r->align ? " --align" : "",
                   r->c.insn.form, (unsigned long long)seed);
    } else {
        strbuf_add(&out, "MISMATCH %s: --mode %u --block %u --seed 0x%llx --count 1\n", e->name,
                   r->mode * 8, r->block, (unsigned long long)seed);
        shrink(r, e);
    }
    again(r, &r->least);
    if (agrees(r, e, &r->least, &text)) {
        strbuf_add(&out, "it does not repeat; what was seen:\n");
        strbuf_add_bytes(&text, strbuf_text(first), first->len);
    }
    diff_print_case(&r->least, &out);
    strbuf_add_bytes(&out, strbuf_text(&text), text.len);
    ir_print(&out, diff_guest_block(r->guest));
    puts(strbuf_text(&out));
    strbuf_free(&out);
    strbuf_free(&text);
    again(r, &r->c);
}

/* The case on the reference and all engines. */
static void compare(struct run *r, uint64_t seed)
{
    unsigned form = r->c.step[r->c.n - 1].insn.form;
    reference(r, &r->c);
    r->blocks++;
    r->total += r->c.n;
    for (unsigned i = 0; i < r->c.n; i++) {
        r->done[r->c.step[i].insn.form]++;
    }
    r->faulted[form] += r->want.fault != DIFF_NO_FAULT;
    for (unsigned i = r->host ? 0 : 1; i < diff_engine_count; i++) {
        struct strbuf text = {0};
        if (r->engine && strcmp(r->engine, diff_engines[i].name)) {
            continue;
        }
        if (!agrees(r, &diff_engines[i], &r->c, &text)) {
            r->failures++;
            if (r->failed[form]++ < 2) {
                report(r, &diff_engines[i], seed, &text);
            }
        }
        strbuf_free(&text);
    }
}

/* One instruction of a form. */
static void one(struct run *r, unsigned form)
{
    uint64_t seed = r->rng;
    r->c.unmasked = r->unmasked;
    r->c.align = r->align;
    if (diff_make_insn(&r->c, &r->rng, form, r->mode)) {
        diff_make_state(&r->c, &r->rng);
        compare(r, seed);
    }
}

static void one_block(struct run *r)
{
    uint64_t seed = r->rng;
    if (diff_make_block(&r->blocks_of, &r->c, &r->rng)) {
        compare(r, seed);
    }
}

static bool over(const struct run *r, time_t start)
{
    if (r->seconds && time(NULL) - start >= (time_t)r->seconds) {
        return true;
    }
    return r->max_failures && r->failures >= r->max_failures;
}

static void loop(struct run *r)
{
    time_t start = time(NULL);
    for (unsigned k = 0; !r->block && k < r->each; k++) {
        for (unsigned i = 0; i < r->nforms && !over(r, start); i++) {
            one(r, r->forms[i]);
        }
    }
    while (r->block && r->total < r->count && !over(r, start)) {
        one_block(r);
    }
    while (!r->block && !r->each && r->total < r->count && !over(r, start)) {
        uint64_t pick = ~r->rng; /* not part of the sequence that is printed */
        one(r, r->forms[x86_random_next(&pick) % r->nforms]);
    }
}

/* A line with the totals and the sequence's state, then "form number: count" for each form. */
static void load_counts(struct run *r)
{
    FILE *f = r->resume ? fopen(r->resume, "r") : NULL;
    unsigned long long total, rng, n;
    unsigned line;
    if (!f) {
        return;
    }
    if (fscanf(f, "total %llu sequence %llx\n", &total, &rng) == 2) {
        r->before = total;
        r->rng = rng;
    }
    while (fscanf(f, "%u %llu\n", &line, &n) == 2) {
        if (line < X86_FORM_COUNT) {
            r->done[line] = n;
        }
    }
    fclose(f);
}

static void save_counts(const struct run *r)
{
    FILE *f = r->resume ? fopen(r->resume, "w") : NULL;
    if (!f) {
        return;
    }
    fprintf(f, "total %llu sequence %llx\n", (unsigned long long)(r->before + r->total),
            (unsigned long long)r->rng);
    for (unsigned i = 0; i < r->nforms; i++) {
        fprintf(f, "%u %llu\n", r->forms[i], (unsigned long long)r->done[r->forms[i]]);
    }
    fclose(f);
}

static void summary(const struct run *r)
{
    uint64_t least = UINT64_MAX, faults = 0;
    unsigned always = 0;
    char name[64];
    for (unsigned i = 0; i < r->nforms; i++) {
        unsigned f = r->forms[i];
        least = r->done[f] < least ? r->done[f] : least;
        faults += r->faulted[f];
        if (r->faulted[f] == r->done[f] && r->done[f] > 20) {
            always++;
            x86_form_name(f, name, sizeof(name));
            if (!r->quiet) {
                printf("always faults: %s (line %u)\n", name, x86_form_line(f));
            }
        }
        if (r->failed[f]) {
            x86_form_name(f, name, sizeof(name));
            printf("FAILED %s (line %u): %llu of %llu\n", name, x86_form_line(f),
                   (unsigned long long)r->failed[f], (unsigned long long)r->done[f]);
        }
    }
    if (r->block) {
        printf("%llu blocks; ", (unsigned long long)r->blocks);
    }
    printf("%llu instructions (%llu with earlier runs), %llu faults, %u forms (%u of them only "
           "fault), each at least "
           "%llu times, %s: %llu mismatches\n",
           (unsigned long long)r->total, (unsigned long long)(r->before + r->total),
           (unsigned long long)faults, r->nforms, always, (unsigned long long)least,
           r->host ? "host, t0, t1" : "t1 against t0, no host", (unsigned long long)r->failures);
}

int main(int argc, char **argv)
{
    static struct run one; /* static: what it points to is no leak when the program ends */
    struct run *r = &one;
    r->count = 200000;
    r->mode = 8;
    r->form = X86_FORM_COUNT;
    r->seed = 1;
    parse(r, argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    r->rng = r->seed;
    load_counts(r);
    printf("seed 0x%llx, %u-bit code\n", (unsigned long long)r->rng, r->mode * 8);
    diff_map_window();
    r->guest = diff_guest_open(r->mode); /* its handlers come first */
    if (!r->tiers) {
        r->host = diff_host_open();
    }
    if (r->host && !diff_host_can(r->host, r->mode)) {
        printf("SKIP: this kernel runs no %u-bit code (no segment for it); --tiers compares the "
               "engines with each other\n",
               r->mode * 8);
        return 77;
    }
    choose_forms(r);
    loop(r);
    save_counts(r);
    summary(r);
    return r->failures != 0;
}
