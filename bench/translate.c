/*
 * What a translation costs: lifts and emits ranges of files as 64-bit code, block after
 * block, and nothing is run. Reports time and size by part, which ops are not lowered, and a sum
 * over all that was emitted, which stays the same as long as the code does. bench/translate.py runs
 * it, also under callgrind.
 *
 * usage: translate [-w] [-1] [-r ROUNDS] [-s SHOWN] FILE:OFFSET:LENGTH ...
 *   -w  warm form instead of the first one
 *   -1  once, not timed
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "core/isa.h"
#include "core/vcpu.h"
#include "ir/host.h"
#include "ir/hostvec.h"
#include "isa/x86/cpu.h"
#include "isa/x86/decode.h"
#include "isa/x86/helpers.h"
#include "jit/codemem.h"

enum { MAX_FILES = 16, MAX_ROUNDS = 1000, ARENAS = 16 };
enum part { LIFT, EMIT, PARTS };

struct range {
    const uint8_t *code;
    size_t off, len;
};

struct stats {
    unsigned long blocks, insns, lowered, guest_bytes, hot, cold, data, ops, steps;
    unsigned long step_op[IR_OPCODES], step_vec[HV_COUNT], step_flags[IR_FLAGS_KINDS];
    uint64_t sum;
};

struct bench {
    struct range range[MAX_FILES];
    unsigned nranges, rounds, show;
    bool once;
    enum ir_form form;
    struct vcpu vcpu;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct ir_guest guest;
    struct ir_helper helper[X86_HELPERS];
    struct codemem cm;
    struct ir_buf buf;
    struct ir_block *b;
    struct stats st;
    double took[PARTS][MAX_ROUNDS];
};

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* Counts the ops of the first instruction that was not lowered. */
static void note_step(struct bench *bn, unsigned ninsns)
{
    struct stats *st = &bn->st;
    const struct ir_block *b = bn->b;
    unsigned n = 0, from = 0, to = b->nops;
    for (unsigned i = 0; i < b->nops; i++) {
        if (b->op[i].op == IR_insn && n++ == ninsns) {
            from = i;
        } else if (b->op[i].op == IR_insn && n == ninsns + 2) {
            to = i;
        }
    }
    st->steps++;
    for (unsigned i = from; i < to; i++) {
        st->step_op[b->op[i].op]++;
        if (b->op[i].op == IR_hostvec) {
            st->step_vec[b->vec[b->op[i].imm].id]++;
        } else if (b->op[i].op == IR_flags) {
            st->step_flags[b->op[i].aux]++;
        }
    }
    if (bn->show) {
        bn->show--;
        struct strbuf sb = {0};
        struct ir_block part = *b;
        part.op += from;
        part.nops = (uint16_t)(to - from);
        ir_print(&sb, &part);
        printf("(numbers from %u)%s\n", from, strbuf_text(&sb));
        strbuf_free(&sb);
    }
}

static uint64_t sum(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * 0x100000001b3ull;
    }
    return h;
}

static void note(struct bench *bn, const struct ir_code *code, size_t data)
{
    struct stats *st = &bn->st;
    const struct ir_block *b = bn->b;
    st->blocks++, st->insns += b->ninsns, st->lowered += code->ninsns, st->ops += b->nops;
    st->guest_bytes += b->bytes, st->hot += code->hot_size, st->cold += code->cold_size;
    st->data += data;
    st->sum = sum(sum(st->sum, code->hot, code->hot_size), code->cold, code->cold_size);
    st->sum = sum(st->sum, code->sites, code->nsites * 4u);
    if (code->ninsns < b->ninsns) {
        note_step(bn, code->ninsns);
    }
}

/* One block as far as `last`; its bytes. */
static unsigned translate(struct bench *bn, const struct range *r, size_t at, enum part last,
                          bool noted)
{
    struct ir_block *b = bn->b;
    struct tr_ctx tc = {.pc = 0xffffffff81000000ull + at,
                        .mode = MODE_CS64 | MODE_FLAT | MODE_PE | MODE_LMA | MODE_SSE | MODE_AVX |
                                MODE_FSGSBASE | MODE_MMU_KERNEL,
                        .code = r->code + at,
                        .avail = (unsigned)(RT_PAGE_SIZE - (at & (RT_PAGE_SIZE - 1))),
                        .max_insns = 64,
                        .vcpu = &bn->vcpu};
    if (isa_x86.translate(b, &tc) == TR_NEED_PAGE) {
        tc.avail2 = 16;
        isa_x86.translate(b, &tc);
    }
    if (last >= EMIT) {
        if (!codemem_has_room(&bn->cm)) {
            codemem_advance(&bn->cm);
        }
        const uint8_t *data = bn->cm.cur.data;
        struct ir_code code = {.form = bn->form};
        codemem_begin_write(&bn->cm);
        assert(bn->host->emit(bn->ctx, b, &bn->cm.cur, &code));
        codemem_end_write(&bn->cm);
        if (noted) {
            note(bn, &code, (size_t)(bn->cm.cur.data - data));
        }
    }
    return b->bytes;
}

/* Bytes between functions, which nobody runs. */
static unsigned filling(const uint8_t *p)
{
    struct x86_insn in;
    bool ok = x86_decode(&in, p, 64, 8) == X86_DECODE_OK;
    return ok && (in.op == X86_NOP || in.op == X86_INT3) ? in.len : 0;
}

static void all(struct bench *bn, enum part last, bool noted)
{
    for (unsigned k = 0; k < bn->nranges; k++) {
        const struct range *r = &bn->range[k];
        for (size_t at = r->off; at < r->off + r->len;) {
            unsigned n = filling(r->code + at);
            n = n ? n : translate(bn, r, at, last, noted);
            at += n ? n : 1;
        }
    }
}

/* Every other thing it does is done more often in a round of a later part. */
static void measure(struct bench *bn)
{
    for (unsigned r = 0; r < bn->rounds; r++) {
        for (unsigned last = LIFT; last < PARTS; last++) {
            double start = now();
            all(bn, last, false);
            bn->took[last][r] = now() - start;
        }
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof(*v), by_size);
    return v[n / 2];
}

static void report(struct bench *bn)
{
    static const char *const names[PARTS] = {"lift", "emit"};
    const struct stats *st = &bn->st;
    double n = (double)st->insns, bytes = (double)st->guest_bytes, before = 0;
    printf("blocks %lu\ninstructions %lu\nops %.2f\nblocks cut short %lu\n", st->blocks, st->insns,
           (double)st->ops / n, st->steps);
    printf("hot %.2f\ncold %.2f\ndata %.2f\nsum %016llx\n", (double)st->hot / bytes,
           (double)st->cold / bytes, (double)st->data / bytes, (unsigned long long)st->sum);
    for (unsigned part = 0; part < PARTS && !bn->once; part++) {
        double ns = median(bn->took[part], bn->rounds) / n * 1e9;
        printf("%s %.1f\n", names[part], ns - before);
        before = ns;
    }
    for (unsigned i = 0; i < IR_OPCODES; i++) {
        if (st->step_op[i] * 100 > st->steps) {
            printf("%8lu cut at an instruction with %s\n", st->step_op[i], ir_op_info[i].name);
        }
    }
    for (unsigned i = 0; i < HV_COUNT; i++) {
        if (st->step_vec[i]) {
            printf("%8lu hostvec %s\n", st->step_vec[i], hostvec_info[i].name);
        }
    }
    for (unsigned i = 0; i < IR_FLAGS_KINDS; i++) {
        if (st->step_flags[i]) {
            printf("%8lu flags kind %u\n", st->step_flags[i], i);
        }
    }
}

static void take_range(struct bench *bn, char *arg)
{
    char *off = strchr(arg, ':'), *len = off ? strchr(off + 1, ':') : NULL;
    assert(off && len && bn->nranges < MAX_FILES);
    *off = 0;
    int fd = open(arg, O_RDONLY);
    struct stat sb;
    assert(fd >= 0 && fstat(fd, &sb) == 0);
    void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    assert(p != MAP_FAILED);
    bn->range[bn->nranges++] =
        (struct range){p, strtoull(off + 1, NULL, 0), strtoull(len + 1, NULL, 0)};
    close(fd);
}

/* Helpers at addresses that are the same in every build, so that the sum is. */
static void set_guest(struct bench *bn)
{
    bn->guest = *isa_x86.guest;
    for (unsigned i = 0; i < bn->guest.nhelpers; i++) {
        uint64_t at = 0x550000000000ull + i * 64;
        memcpy(&bn->helper[i].fn, &at, sizeof(at));
    }
    bn->guest.helpers = bn->helper;
}

static void set_up(struct bench *bn)
{
    struct err err;
    assert(codemem_open(&bn->cm, ARENAS * CODEMEM_ARENA, &err) == 0);
    set_guest(bn);
    struct ir_host_config cfg = {
        .guest = &bn->guest, .code_lo = bn->cm.rx, .code_hi = bn->cm.rx + bn->cm.size};
    bn->host = ir_host_native();
    bn->ctx = bn->host->open(&cfg, &bn->cm.cur, &err);
    assert(bn->ctx);
    codemem_keep(&bn->cm);
    bn->b = ir_buf_init(&bn->buf);
    bn->vcpu = (struct vcpu){.isa = &isa_x86, .env = calloc(1, isa_x86.env_size)};
    assert(isa_x86.cpu_init(&bn->vcpu, "max", &err) == 0);
}

int main(int argc, char **argv)
{
    struct bench *bn = calloc(1, sizeof(*bn));
    assert(bn);
    bn->rounds = 5;
    for (int opt; (opt = getopt(argc, argv, "w1r:s:")) != -1;) {
        switch (opt) {
        case 'w': bn->form = IR_FORM_LOOP; break;
        case '1': bn->once = true; break;
        case 'r': bn->rounds = (unsigned)atoi(optarg); break;
        case 's': bn->show = (unsigned)atoi(optarg); break;
        default: return 2;
        }
    }
    assert(bn->rounds > 0 && bn->rounds <= MAX_ROUNDS);
    for (int i = optind; i < argc; i++) {
        take_range(bn, argv[i]);
    }
    set_up(bn);
    all(bn, EMIT, true);
    if (!bn->once) {
        measure(bn);
    }
    report(bn);
    return 0;
}
