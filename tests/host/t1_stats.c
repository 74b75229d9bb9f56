/*
 * What T1 makes of real code: lifts and translates a range of a file as 64-bit code, block after
 * block, and reports time, size, and which ops are not lowered.
 *
 * usage: t1_stats FILE OFFSET LENGTH [ROUNDS]
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "core/isa.h"
#include "core/vcpu.h"
#include "ir/host.h"
#include "ir/hostvec.h"
#include "isa/x86/cpu.h"
#include "jit/codemem.h"

/* What the ISA would ask of an accelerator: never, as nothing runs. */
#include "core/tlb_ops.h"
void tlb_flush_nonglobal(struct vcpu *v)
{
}
void tlb_flush(struct vcpu *v)
{
}
void tlb_flush_page(struct vcpu *v, gva_t va)
{
}
void tlb_switch(struct vcpu *v, unsigned asid, bool keep)
{
}
void tlb_flush_asid(struct vcpu *v, unsigned asid)
{
}
void tlb_flush_asid_page(struct vcpu *v, unsigned asid, gva_t va)
{
}
void tlb_debug_changed(struct vcpu *v)
{
}
void tlb_code_changed(struct vcpu *v)
{
}
bool vmem_read(struct vcpu *v, gva_t va, unsigned idx, unsigned size, void *val)
{
    return false;
}
bool vmem_write(struct vcpu *v, gva_t va, unsigned idx, unsigned size, const void *val)
{
    return false;
}
int vmem_span(struct vcpu *v, gva_t va, unsigned idx, unsigned len, unsigned access, void **host)
{
    return -1;
}
bool pmem_read64(struct vcpu *v, gpa_t gpa, uint64_t *val)
{
    return false;
}
bool pmem_read32(struct vcpu *v, gpa_t gpa, uint32_t *val)
{
    return false;
}
bool pmem_replace(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t old, uint64_t val)
{
    return false;
}

struct stats {
    unsigned long blocks, insns, lowered, guest_bytes, hot, cold, ops, steps;
    unsigned long step_op[IR_OPCODES], step_vec[HV_COUNT], step_flags[IR_FLAGS_KINDS];
    double lift, opt, emit;
};

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* Counts the ops of the first instruction that was not lowered. */
static void note_step(struct stats *st, const struct ir_block *b, unsigned ninsns, bool show)
{
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
    if (show) {
        struct strbuf sb = {0};
        struct ir_block part = *b;
        part.op += from;
        part.nops = (uint16_t)(to - from);
        ir_print(&sb, &part);
        printf("(numbers from %u)%s\n", from, strbuf_text(&sb));
        strbuf_free(&sb);
    }
}

int main(int argc, char **argv)
{
    assert(argc >= 4);
    size_t off = strtoull(argv[2], NULL, 0), len = strtoull(argv[3], NULL, 0);
    unsigned rounds = argc > 4 ? (unsigned)atoi(argv[4]) : 1;
    unsigned show = getenv("SHOW") ? (unsigned)atoi(getenv("SHOW")) : 0;
    int fd = open(argv[1], O_RDONLY);
    struct stat sb;
    assert(fd >= 0 && fstat(fd, &sb) == 0);
    const uint8_t *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    struct codemem cm;
    struct err err;
    assert(codemem_open(&cm, 16 * CODEMEM_ARENA, &err) == 0);
    const struct ir_host *host = ir_host_native();
    struct ir_host_config cfg = {
        .guest = isa_x86.guest, .code_lo = cm.rx, .code_hi = cm.rx + cm.size};
    struct ir_host_ctx *ctx = host->open(&cfg, &cm.cur, &err);
    codemem_keep(&cm);
    struct ir_buf *buf = calloc(1, sizeof(*buf));
    struct ir_block *b = ir_buf_init(buf);
    struct stats *st = calloc(1, sizeof(*st));
    struct vcpu vcpu = {.isa = &isa_x86, .env = calloc(1, isa_x86.env_size)};
    assert(isa_x86.cpu_init(&vcpu, "max", &err) == 0);
    uint32_t mode = MODE_CS64 | MODE_FLAT | MODE_PE | MODE_LMA | MODE_SSE | MODE_AVX |
                    MODE_FSGSBASE | MODE_MMU_KERNEL;
    for (unsigned r = 0; r < rounds; r++) {
        uint64_t base = 0xffffffff81000000ull;
        size_t at = off;
        while (at < off + len) {
            unsigned avail = (unsigned)(RT_PAGE_SIZE - (at & (RT_PAGE_SIZE - 1)));
            struct tr_ctx tc = {.pc = base + at,
                                .mode = mode,
                                .code = p + at,
                                .avail = avail,
                                .max_insns = 64,
                                .vcpu = &vcpu};
            double t0 = now();
            enum tr_end end = isa_x86.translate(b, &tc);
            if (end == TR_NEED_PAGE) {
                tc.avail2 = 16;
                end = isa_x86.translate(b, &tc);
            }
            double t1 = now();
            unsigned bytes = b->bytes;
            ir_optimize(b);
            double t2 = now();
            if (!codemem_has_room(&cm)) {
                codemem_advance(&cm);
            }
            struct ir_code code = {.form = IR_FORM_FIRST};
            assert(host->emit(ctx, b, &cm.cur, &code));
            double t3 = now();
            st->lift += t1 - t0, st->opt += t2 - t1, st->emit += t3 - t2;
            st->blocks++, st->insns += b->ninsns, st->lowered += code.ninsns, st->ops += b->nops;
            st->guest_bytes += bytes, st->hot += code.hot_size, st->cold += code.cold_size;
            if (code.ninsns < b->ninsns) {
                note_step(st, b, code.ninsns, show && show-- > 0);
            }
            at += bytes ? bytes : 1;
        }
    }
    double n = (double)st->insns;
    printf("%lu blocks, %lu instructions, %.2f ops each; %lu blocks cut short\n", st->blocks,
           st->insns, (double)st->ops / n, st->steps);
    printf("hot %.1f, cold %.1f host bytes a guest byte; lift %.0f, optimize %.0f, emit %.0f ns an "
           "instruction\n",
           (double)st->hot / (double)st->guest_bytes, (double)st->cold / (double)st->guest_bytes,
           st->lift / n * 1e9, st->opt / n * 1e9, st->emit / n * 1e9);
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
    return 0;
}
