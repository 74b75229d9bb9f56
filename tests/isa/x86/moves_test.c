/*
 * Code that moves (ir_host.move()) is what it would be if it had been made there: blocks of this
 * program and of the libraries it uses are made for one address, moved twice, and compared with the
 * same blocks made for the other one, byte for byte.
 *
 * usage: moves_test [COUNT [SEED]]
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "core/isa.h"
#include "core/vcpu.h"
#include "ir/host.h"
#include "isa/x86/cpu.h"
#include "isa/x86/helpers.h"
#include "jit/codemem.h"

enum { RANGES = 32, ROOM = 1 << 16 };
#define USER (MODE_CS64 | MODE_FLAT | MODE_PE | MODE_LMA | MODE_SSE | MODE_AVX | MODE_FSGSBASE | 1u)

struct code {
    struct ir_code code;
    uint8_t hot[ROOM], cold[ROOM], links[ROOM], sites[ROOM];
};

struct test {
    struct {
        const uint8_t *code;
        size_t len;
    } range[RANGES];
    unsigned nranges;
    uint64_t rng;
    struct vcpu vcpu;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct codemem cm;
    struct ir_codebuf start;
    struct ir_buf buf;
    struct code want, moved;
    unsigned long made, can;
};

static uint64_t rnd(struct test *t)
{
    t->rng = t->rng * 6364136223846793005ull + 1442695040888963407ull;
    return t->rng >> 20;
}

/* What of this process can be run. */
static void find_code(struct test *t)
{
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && t->nranges < RANGES && fgets(line, sizeof(line), f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx r-xp", &from, &to) == 2 && strstr(line, "r-xp") &&
            strchr(line, '/') && to - from > 2 * RT_PAGE_SIZE) {
            t->range[t->nranges].code = (const uint8_t *)from;
            t->range[t->nranges++].len = to - from;
        }
    }
    if (f) {
        fclose(f);
    }
}

static void keep(struct code *out, const struct ir_code *c)
{
    assert(c->hot_size <= ROOM && c->cold_size <= ROOM);
    out->code = *c;
    memcpy(out->hot, c->hot, c->hot_size);
    memcpy(out->cold, c->cold, c->cold_size);
    memcpy(out->links, c->links, c->nlinks * sizeof(struct ir_link));
    memcpy(out->sites, c->sites, c->nsites * 4u);
}

/* The block at `at` as it would be at `pc`, always in the same place. */
static struct ir_code make(struct test *t, const uint8_t *at, uint64_t pc, enum ir_form form)
{
    struct ir_block *b = ir_buf_init(&t->buf);
    struct tr_ctx tc = {.pc = pc,
                        .mode = USER,
                        .code = at,
                        .avail = (unsigned)(RT_PAGE_SIZE - (pc & (RT_PAGE_SIZE - 1))),
                        .max_insns = 64,
                        .vcpu = &t->vcpu};
    struct ir_code c = {.form = form};
    if (isa_x86.translate(b, &tc) == TR_DONE) {
        t->cm.cur = t->start;
        assert(t->host->emit(t->ctx, b, &t->cm.cur, &c));
    }
    return c;
}

static bool same(const struct code *a, const struct code *b)
{
    const struct ir_code *x = &a->code, *y = &b->code;
    return x->hot_size == y->hot_size && x->cold_size == y->cold_size && x->nlinks == y->nlinks &&
           x->nsites == y->nsites && x->pc == y->pc && x->flags_dead == y->flags_dead &&
           !memcmp(a->hot, b->hot, x->hot_size) && !memcmp(a->cold, b->cold, x->cold_size) &&
           !memcmp(a->links, b->links, x->nlinks * sizeof(struct ir_link)) &&
           !memcmp(a->sites, b->sites, x->nsites * 4u);
}

static void show(const struct test *t, const char *what, const struct code *c)
{
    struct strbuf sb = {0};
    t->host->disas(&sb, c->hot, c->code.hot_size, 0);
    strbuf_add(&sb, "cold:\n");
    t->host->disas(&sb, c->cold, c->code.cold_size, 0);
    printf("%s, pc %llx:\n%s\n", what, (unsigned long long)c->code.pc, strbuf_text(&sb));
    strbuf_free(&sb);
}

/* Addresses as programs and libraries have them: pages of the lower half, beyond 4 GiB. */
static uint64_t page_at(struct test *t)
{
    return ((rnd(t) & 0x7fffffffffffull) | 1ull << 34) & ~(uint64_t)(RT_PAGE_SIZE - 1);
}

static bool one(struct test *t)
{
    unsigned r = (unsigned)(rnd(t) % t->nranges);
    const uint8_t *at = t->range[r].code + rnd(t) % (t->range[r].len - RT_PAGE_SIZE - 16);
    uint64_t in_page = (uintptr_t)at & (RT_PAGE_SIZE - 1);
    uint64_t from = page_at(t), between = page_at(t), to = page_at(t);
    enum ir_form form = rnd(t) & 1 ? IR_FORM_LOOP : IR_FORM_FIRST;
    struct ir_code c = make(t, at, to + in_page, form);
    if (!c.entry) {
        return true; /* crosses its page */
    }
    keep(&t->want, &c);
    c = make(t, at, from + in_page, form);
    t->made++;
    if (!c.can_move) {
        return true;
    }
    t->can++;
    t->host->move(t->ctx, &c, between - from);
    t->host->move(t->ctx, &c, to - between);
    keep(&t->moved, &c);
    if (!same(&t->want, &t->moved)) {
        show(t, "made there", &t->want);
        show(t, "moved there", &t->moved);
        return false;
    }
    return true;
}

static void set_up(struct test *t)
{
    struct err err;
    assert(codemem_open(&t->cm, 2 * CODEMEM_ARENA, &err) == 0);
    struct ir_host_config cfg = {
        .guest = isa_x86.guest, .code_lo = t->cm.rx, .code_hi = t->cm.rx + t->cm.size};
    t->ctx = t->host->open(&cfg, &t->cm.cur, &err);
    assert(t->ctx);
    codemem_keep(&t->cm);
    t->start = t->cm.cur;
    t->vcpu = (struct vcpu){.isa = &isa_x86, .env = calloc(1, isa_x86.env_size)};
    assert(t->vcpu.env && isa_x86.cpu_init(&t->vcpu, "max", &err) == 0);
    find_code(t);
    assert(t->nranges);
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
    struct test *t = calloc(1, sizeof(*t));
    assert(t);
    t->rng = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    t->host = ir_host_native();
    if (!t->host) {
        return 77;
    }
    set_up(t);
    codemem_begin_write(&t->cm);
    unsigned bad = 0;
    for (unsigned long n = 0; n < count && bad < 3; n++) {
        bad += !one(t);
    }
    printf("%lu blocks, %lu can move\n", t->made, t->can);
    bad += t->can < t->made / 100 * 95; /* or what moves is not worth it */
    isa_x86.cpu_fini(&t->vcpu);
    free(t->vcpu.env);
    t->host->close(t->ctx);
    codemem_close(&t->cm);
    free(t);
    return bad != 0;
}
