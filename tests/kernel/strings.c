/*
 * REP and string instructions, and accesses over two pages (Intel SDM Vol. 2 REP, MOVS, STOS, LODS,
 * CMPS, SCAS; Vol. 3A 6.5 on what a fault leaves): each REP against a loop of the instruction
 * without the prefix, from the same state, at random places around page ends.
 */
#include "page.h"

enum { ROUNDS = 1200, AREA = 4 }; /* pages at FREE_VA: 0, 1, 2 of their own, 3: page 1 again */
#define VA(n) (FREE_VA + (n)*4096ul)

/* All of the pages as one array. */
static uint8_t *bytes(void)
{
    uint8_t *p = data_page[0];
    __asm__("" : "+r"(p));
    return p;
}

/* ---- REP and the loop that it stands for ---- */

struct regs {
    word ax, cx, si, di, flags;
};
struct regs regs;

/* RDI: the instruction to call, which jumps to `strings_done`. */
__asm__(".text\n"
        "strings_enter: push %rbx\n push %rbp\n mov %rdi, %rbx\n"
        " mov regs+32(%rip), %rax\n push %rax\n popf\n mov regs(%rip), %rax\n"
        " mov regs+8(%rip), %rcx\n mov regs+16(%rip), %rsi\n mov regs+24(%rip), %rdi\n jmp *%rbx\n"
        "strings_done: mov %rax, regs(%rip)\n mov %rcx, regs+8(%rip)\n mov %rsi, regs+16(%rip)\n"
        " mov %rdi, regs+24(%rip)\n pushf\n pop regs+32(%rip)\n cld\n pop %rbp\n pop %rbx\n ret\n");
extern const char strings_enter[];

#define KIND(name, insn)                                                                           \
    extern const char rep_##name[], repne_##name[], loop_##name[], loope_##name[],                 \
        loopne_##name[];                                                                           \
    __asm__(".text\nrep_" #name ": rep " insn "\n jmp strings_done\n"                              \
            "repne_" #name ": repne " insn "\n jmp strings_done\n"                                 \
            "loop_" #name ": jrcxz 2f\n 1: " insn "\n lea -1(%rcx), %rcx\n jrcxz 2f\n jmp 1b\n"    \
            " 2: jmp strings_done\n"                                                               \
            "loope_" #name ": jrcxz 2f\n 1: " insn "\n lea -1(%rcx), %rcx\n jne 2f\n jrcxz 2f\n"   \
            " jmp 1b\n 2: jmp strings_done\n"                                                      \
            "loopne_" #name ": jrcxz 2f\n 1: " insn "\n lea -1(%rcx), %rcx\n je 2f\n jrcxz 2f\n"   \
            " jmp 1b\n 2: jmp strings_done\n");
#define KINDS(name)                                                                                \
    KIND(name##b, #name "b")                                                                       \
    KIND(name##w, #name "w") KIND(name##l, #name "l") KIND(name##q, #name "q")
KINDS(movs)
KINDS(stos)
KINDS(lods)
KINDS(cmps)
KINDS(scas)

static const struct kind {
    const char *rep, *loop;
    unsigned size;
} kinds[] = {
#define PLAIN(n, s)                                                                                \
    {                                                                                              \
        rep_##n, loop_##n, s                                                                       \
    }
#define COMPARE(n, s)                                                                              \
    {rep_##n, loope_##n, s},                                                                       \
    {                                                                                              \
        repne_##n, loopne_##n, s                                                                   \
    }
    PLAIN(movsb, 1),   PLAIN(movsw, 2),   PLAIN(movsl, 4),   PLAIN(movsq, 8),   PLAIN(stosb, 1),
    PLAIN(stosw, 2),   PLAIN(stosl, 4),   PLAIN(stosq, 8),   PLAIN(lodsb, 1),   PLAIN(lodsw, 2),
    PLAIN(lodsl, 4),   PLAIN(lodsq, 8),   COMPARE(cmpsb, 1), COMPARE(cmpsw, 2), COMPARE(cmpsl, 4),
    COMPARE(cmpsq, 8), COMPARE(scasb, 1), COMPARE(scasw, 2), COMPARE(scasl, 4), COMPARE(scasq, 8),
};
enum { NKINDS = sizeof(kinds) / sizeof(kinds[0]) };

struct outcome {
    struct regs r;
    unsigned vector;
    word error, cr2;
};
static uint8_t start[3 * 4096] __attribute__((aligned(8))),
    left[3 * 4096] __attribute__((aligned(8)));

static struct outcome outcome_of(const char *code, const struct regs *in)
{
    struct outcome o;
    memcpy(bytes(), start, sizeof(start));
    regs = *in;
    o.vector = run(strings_enter, (word)code, 0);
    o.r = regs;
    o.error = o.cr2 = 0;
    if (o.vector != NONE) {
        const struct frame *f = last();
        o.r = (struct regs){f->ax, f->cx, f->si, f->di, f->flags & ~(word)F_RF};
        o.error = f->error;
        o.cr2 = traps[0].cr2;
        __asm__ volatile("cld");
    }
    return o;
}

static void any_memory(void)
{
    uint64_t *words = (uint64_t *)start, pattern = below(2) ? 0 : rng;
    bool alike = below(3);
    for (unsigned i = 0; i < sizeof(start) / 8; i++) {
        words[i] = pattern;
        pattern += alike ? 0 : 0x9e3779b97f4a7c15ull;
    }
    for (unsigned i = below(8); alike && i-- > 0;) {
        start[below(sizeof(start))] ^= (uint8_t)below(256);
    }
}

/* Around the ends of pages, also of the last one, behind which is nothing. */
static word any_place(void)
{
    unsigned page = 1 + below(AREA);
    return below(4) ? VA(page) - 160 + below(320) : VA(below(AREA)) + below(4096);
}

static void any_regs(struct regs *in)
{
    in->si = any_place();
    in->di = below(3) ? any_place() : in->si - 40 + below(80);
    in->cx = below(10) ? below(40) : below(1500);
    in->ax = below(2) ? *(uint64_t *)(void *)(start + 8 * below(100)) : rng;
    in->flags = 2 | (below(2) ? F_DF : 0) | (below(2) ? 0x8d5 : 0);
}

static bool same_memory(void)
{
    const uint64_t *a = (const uint64_t *)bytes(), *b = (const uint64_t *)left;
    uint64_t differ = 0;
    for (unsigned i = 0; i < sizeof(left) / 8; i++) {
        differ |= a[i] ^ b[i];
    }
    return !differ;
}

static bool compare(unsigned k, const struct regs *in)
{
    struct outcome want = outcome_of(kinds[k].loop, in), got;
    memcpy(left, bytes(), sizeof(left));
    got = outcome_of(kinds[k].rep, in);
    bool same = got.vector == want.vector && got.r.ax == want.r.ax && got.r.cx == want.r.cx &&
                got.r.si == want.r.si && got.r.di == want.r.di && got.cr2 == want.cr2 &&
                got.error == want.error;
    same = same && (want.vector != NONE || got.r.flags == want.r.flags);
    same = same && same_memory();
    if (!same) {
        check_eq("kind", k, ~0u);
        check_eq("vector", got.vector, want.vector);
        check_eq("cr2", got.cr2, want.cr2);
        check_eq("rax", got.r.ax, want.r.ax);
        check_eq("rcx", got.r.cx, want.r.cx);
        check_eq("rsi", got.r.si, want.r.si);
        check_eq("rdi", got.r.di, want.r.di);
        check_eq("flags", got.r.flags, want.r.flags);
        check("memory", false);
    }
    return same;
}

static void pages_here(bool last)
{
    reset_tables();
    for (unsigned i = 0; i < 3; i++) {
        map(VA(i), data_pa(i), 1, PTE_ALL);
    }
    if (last) {
        map(VA(3), data_pa(1), 1, PTE_ALL);
    }
}

/* Kinds from..to, at random. */
static void compare_kinds(unsigned from, unsigned to)
{
    struct regs in;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 300 == 0) {
            pages_here(i % 600 == 0);
        }
        any_memory();
        any_regs(&in);
        if (!compare(from + below(to - from), &in)) {
            return;
        }
    }
}
CASE(rep_movs)
{
    compare_kinds(0, 4);
}
CASE(rep_stos_lods)
{
    compare_kinds(4, 12);
}
CASE(rep_cmps)
{
    compare_kinds(12, 20);
}
CASE(rep_scas)
{
    compare_kinds(20, NKINDS);
}

/* The second page of a destination is read-only, or has code. */
CASE(rep_read_only)
{
    struct regs in;
    set_cr0(CR0_WP, true);
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        if (i == 0) {
            pages_here(true);
            map(VA(2), data_pa(2), 1, PTE_P);
        }
        any_memory();
        any_regs(&in);
        if (!compare(below(NKINDS), &in)) {
            break;
        }
    }
    set_cr0(CR0_WP, false);
}

CASE(count_zero)
{
    reset_tables();
    for (unsigned k = 0; k < NKINDS; k++) {
        struct regs in = {7, 0, VA(0), VA(1), 2 | F_ZF};
        struct outcome o = outcome_of(kinds[k].rep, &in);
        check_eq("vector", o.vector, NONE);
        check_eq("rcx", o.r.cx, 0);
        check_eq("rsi", o.r.si, VA(0));
        check_eq("rdi", o.r.di, VA(1));
        check_eq("flags", o.r.flags, 2 | F_ZF);
    }
}

/* ---- Single steps, watched bytes, code, devices ---- */

CODE(step_code, "push $0x102; popf", "rep stosb", "push $2; popf")
CASE(single_steps)
{
    pages_here(true);
    resume = 1 << DB;
    __asm__ volatile("mov $5, %%ecx; call step_code"
                     :
                     : "D"(VA(0)), "a"(1)
                     : "rcx", "memory", "cc");
    /* one behind POPF's successor for each iteration, and what follows */
    unsigned at_rep = 0;
    for (unsigned i = 0; i < ntraps && i < MAX_TRAPS; i++) {
        at_rep += traps[i].f.vector == DB && traps[i].f.ip == (word)step_code_at;
    }
    resume = 0;
    CHECK(at_rep >= 4);
    ntraps = 0;
}

CODE(watch_code, "mov $100, %ecx; mov $9, %eax", "rep stosb", "")
CASE(watched_byte)
{
    pages_here(true);
    *(volatile uint8_t *)VA(0) = 0;
    resume = 1 << DB;
    write_dr0(VA(0) + 50);
    write_dr7(0x400 | 1 << 16 | 2);
    run(watch_code, VA(0), 0);
    write_dr7(0x400);
    resume = 0;
    check_eq("traps", ntraps, 1);
    check_eq("rcx", traps[0].f.cx, 49);
    check_eq("rdi", traps[0].f.di, VA(0) + 51);
    check_eq("last byte", data_page[0][99], 9);
    run(watch_code, VA(0) + 200, 0);
}

/* The watched byte is on the page and is not touched. */
CODE(watch_scan, "mov $1000, %ecx; mov $9, %eax", "repne scasb", "")
static bool go_past(struct frame *f)
{
    f->flags |= F_RF;
    return true;
}
CASE(watched_beside)
{
    pages_here(true);
    memset(data_page[0], 0, 4096);
    data_page[0][50] = 9;
    write_dr0(VA(0) + 500);
    write_dr7(0x400 | 3 << 16 | 2);
    resume = 1 << DB;
    run(watch_scan, VA(0), 0);
    unsigned at_scan = ntraps;
    run(watch_code, VA(0), 0);
    unsigned at_store = ntraps;
    write_dr1((word)watch_scan_at); /* then the scan is run alone */
    write_dr7(0x400 | 3 << 16 | 2 | 8);
    trap_hook = go_past;
    run(watch_scan, VA(0), 0);
    trap_hook = NULL;
    resume = 0;
    write_dr7(0x400);
    check_eq("breakpoint", ntraps, 1);
    check_eq("scan", at_scan, 0);
    check_eq("store", at_store, 0);
}

static unsigned call_at(word va)
{
    unsigned v;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(va) : "memory", "cc");
    return v;
}

/* mov eax, imm; ret, whose immediate strings write. */
CASE(code_written)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    uint8_t *p = (uint8_t *)VA(1);
    pages_here(true);
    memcpy(p, code, sizeof(code));
    for (unsigned i = 1; i < 400; i++) {
        uint32_t imm = i * 0x01010101u;
        void *to = i & 1 ? p + 1 : p + 4;
        word n = 4;
        if (i & 1) {
            __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(i) : "memory");
        } else {
            __asm__ volatile("std; rep stosb; cld" : "+D"(to), "+c"(n) : "a"(i) : "memory");
        }
        check_eq("value", call_at(VA(1)), imm & 0xff ? (i & 0xff) * 0x01010101u : 0);
    }
}

#define VIRTIO 0xfeb00000ul
CASE(devices)
{
    uint32_t got[4] = {0};
    pages_here(true);
    map(VA(4), VIRTIO, 1, PTE_P | PTE_W);
    for (unsigned i = 0; i < 300; i++) {
        const void *from = (const void *)VA(4);
        void *to = got;
        word n = 4;
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        check_eq("magic", got[0], 0x74726976);
        check_eq("left", n, 0);
        for (unsigned k = 0; k < 4; k++) {
            check_eq("register", got[k], ((volatile uint32_t *)VA(4))[k]);
        }
        from = (const void *)VA(4), to = got, n = 4;
        __asm__ volatile("repe cmpsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory", "cc");
        check_eq("equal", (word)from, VA(4) + 16);
    }
}

/* mov eax, [rdi + disp8]; ret: an instruction that leaves for the interpreter each time, changed.
 */
CASE(device_code_changes)
{
    uint8_t *p = (uint8_t *)VA(1);
    pages_here(true);
    map(VA(4), VIRTIO, 1, PTE_P | PTE_W);
    memcpy(p, "\x8b\x47\x00\xc3", 4);
    for (unsigned i = 0; i < 200; i++) {
        uint32_t v;
        p[2] = (uint8_t)((i >> 3 & 3) * 4);
        __asm__ volatile("call *%1" : "=a"(v) : "r"(p), "D"(VA(4)) : "memory", "cc");
        check_eq("register", v, ((volatile uint32_t *)VA(4))[i >> 3 & 3]);
    }
}

/* A page that was a device's is RAM, and a device's again. */
CASE(device_remapped)
{
    reset_tables();
    memset(data_page[0], 0x5a, 4096);
    for (unsigned i = 0; i < 50; i++) {
        map(VA(0), VIRTIO, 1, PTE_P | PTE_W);
        check_eq("device", *(volatile uint32_t *)VA(0), 0x74726976);
        check_eq("device", *(volatile uint32_t *)VA(0), 0x74726976);
        *entry(VA(0), 1) = data_pa(0) | PTE_ALL;
        if (i & 1) {
            invlpg(VA(0));
        } else {
            flush_all();
        }
        check_eq("RAM", *(volatile uint32_t *)VA(0), 0x5a5a5a5a);
    }
}

/* ---- Stores and loads over two pages ---- */

#define STORE(name, insn) CODE(store_##name, "", insn, "")
STORE(w, "mov %si, (%rdi)")
STORE(l, "mov %esi, (%rdi)")
STORE(q, "mov %rsi, (%rdi)")
STORE(r9, "mov %rsi, %r9; mov %r9, (%rdi)")
STORE(imm, "movq $-0x12345678, (%rdi)")
STORE(immw, "movw $0x1234, (%rdi)")
STORE(x, "movq %rsi, %xmm9; movlhps %xmm9, %xmm9; movups %xmm9, (%rdi)")
STORE(dqu, "movq %rsi, %xmm3; movlhps %xmm3, %xmm3; movdqu %xmm3, (%rdi)")
STORE(sd, "movq %rsi, %xmm2; movsd %xmm2, (%rdi)")
STORE(ss, "movq %rsi, %xmm2; movss %xmm2, (%rdi)")
STORE(mq, "movq %rsi, %xmm12; movq %xmm12, (%rdi)")
STORE(y, "vmovq %rsi, %xmm12; vmovddup %xmm12, %xmm12; vinsertf128 $1, %xmm12, %ymm12, %ymm12;"
         "vmovups %ymm12, (%rdi)")
STORE(vx, "vmovq %rsi, %xmm11; vmovddup %xmm11, %xmm11; vmovdqu %xmm11, (%rdi)")
STORE(push, "xchg %rdi, %rsp; add $8, %rsp; push %rsi; mov %rdi, %rsp")
STORE(add, "addq $0, (%rdi); lock xchg %rsi, (%rdi)")
static const struct {
    const char *code;
    unsigned size;
} stores[] = {{store_w, 2},    {store_l, 4},   {store_q, 8},    {store_r9, 8},  {store_imm, 8},
              {store_immw, 2}, {store_x, 16},  {store_dqu, 16}, {store_sd, 8},  {store_ss, 4},
              {store_mq, 8},   {store_add, 8}, {store_y, 32},   {store_vx, 16}, {store_push, 8}};
enum { NSTORES = sizeof(stores) / sizeof(stores[0]) };

static void value_of(unsigned k, word v, uint8_t out[32])
{
    v = stores[k].code == store_imm    ? (word)-0x12345678l
        : stores[k].code == store_immw ? 0x1234
                                       : v;
    for (unsigned i = 0; i < 32; i += 8) {
        memcpy(out + i, &v, 8);
    }
}

/* Around the end of the first page. */
static uint8_t byte_near(unsigned i)
{
    return bytes()[4064 + i];
}

static void store_once(unsigned k, unsigned left, bool faults)
{
    uint8_t want[32];
    word v = rng * 77;
    value_of(k, v, want);
    memset(bytes() + 4064, 0xee, 64);
    unsigned vector = run(stores[k].code, VA(1) - left, v);
    check_eq("vector", vector, faults ? PF : NONE);
    if (faults) {
        check_eq("cr2", traps[0].cr2, VA(1));
    }
    for (unsigned i = 0; i < 64; i++) {
        bool in = !faults && i >= 32 - left && i < 32 - left + stores[k].size;
        check_eq("byte", byte_near(i), in ? want[i - (32 - left)] : 0xee);
    }
}

static void stores_with(uint64_t flags, bool faults)
{
    bool avx = cpu_has(1, 2, 28);
    write_cr4(read_cr4() | 1 << 9); /* OSFXSR */
    if (avx) {
        write_cr4(read_cr4() | 1 << 18); /* OSXSAVE */
        __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
    }
    pages_here(true);
    map(VA(1), data_pa(1), 1, flags);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned k = below(faults ? NSTORES - 1 : NSTORES); /* a fault pushes, too */
        bool vex = stores[k].code == store_y || stores[k].code == store_vx;
        if ((vex && !avx) || (faults && on_qemu && stores[k].size > 8)) {
            continue; /* TCG stores the first half before it faults on the second */
        }
        store_once(k, 1 + below(stores[k].size - 1), faults);
        below(2);
    }
}
CASE(store_over_two)
{
    stores_with(PTE_ALL, false);
}
CASE(store_second_absent)
{
    stores_with(0, true);
}
CASE(store_second_read_only)
{
    set_cr0(CR0_WP, true);
    stores_with(PTE_P, true);
    set_cr0(CR0_WP, false);
}

/* The second page's code, whose immediate is the store's last byte. */
CASE(store_into_code)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    pages_here(true);
    for (unsigned i = 0; i < 600; i++) {
        if (i % 100 == 0) {
            memcpy((void *)VA(1), code, sizeof(code));
        }
        run(store_l, VA(1) - 2, 0x00b80000 | (word)(i & 0xff) << 24);
        check_eq("value", call_at(VA(1)), i & 0xff);
    }
}

CODE(load_q, "", "mov (%rdi), %rax", "")
CASE(load_over_two)
{
    pages_here(true);
    for (unsigned i = 0; i < 3000; i++) {
        word v = rng * 33, got;
        unsigned off = 1 + below(7);
        memcpy(bytes() + 4096 - off, &v, 8);
        got = *(volatile word *)(VA(1) - off);
        check_eq("value", got, v);
        below(2);
    }
    map(VA(1), 0, 1, 0);
    for (unsigned i = 0; i < 300; i++) {
        check_eq("vector", run(load_q, VA(1) - 1, 0), PF);
        check_eq("cr2", traps[0].cr2, VA(1));
    }
}
