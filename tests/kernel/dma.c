/*
 * Code that a device writes: virtio-rng (virtio 1.2, 4.2 and 5.4) fills immediates of functions
 * that run again and again. The processor must run what lies in memory when the device says that it
 * is done; DMA is coherent and needs no more than a jump (Intel SDM Vol. 3A 11.6).
 */
#include "page.h"

enum { SLOTS = 24 };
static uint8_t code[2 * 4096] __attribute__((aligned(4096)));
static volatile uint32_t *regs;
static struct {
    struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } desc[8];
    struct {
        uint16_t flags, idx, ring[8], event;
    } avail;
    struct {
        uint16_t flags, idx;
        struct {
            uint32_t id, len;
        } ring[8];
        uint16_t event;
    } used __attribute__((aligned(16)));
} queue __attribute__((aligned(4096)));

static volatile uint32_t *reg(unsigned off)
{
    return &regs[off / 4];
}

static bool find_device(void)
{
    reset_tables();
    for (unsigned page = 0; page < SLOTS * 0x200 / 4096; page++) {
        map(FREE_VA + page * 4096, 0xfeb00000 + page * 4096, 1, PTE_ALL);
    }
    for (unsigned n = 0; n < SLOTS; n++) {
        regs = (volatile uint32_t *)(FREE_VA + n * 0x200);
        if (*reg(0) == 0x74726976 && *reg(4) == 2 && *reg(8) == 4) {
            return true;
        }
    }
    return false;
}

static bool start_device(void)
{
    if (!find_device()) {
        skip("no virtio-rng");
        return false;
    }
    *reg(0x70) = 0;
    memset(&queue, 0, sizeof(queue));
    *reg(0x70) = 3; /* acknowledge, driver */
    *reg(0x24) = 1;
    *reg(0x20) = 1;  /* VIRTIO_F_VERSION_1 */
    *reg(0x70) = 11; /* features */
    *reg(0x30) = 0;
    *reg(0x38) = 8;
    *reg(0x80) = (uint32_t)(word)queue.desc;
    *reg(0x90) = (uint32_t)(word)&queue.avail;
    *reg(0xa0) = (uint32_t)(word)&queue.used;
    *reg(0x44) = 1;
    *reg(0x70) = 15;
    return true;
}

static bool fill(void *to, uint32_t len)
{
    volatile uint16_t *used = &queue.used.idx;
    uint16_t was = *used;
    queue.desc[0].addr = (word)to;
    queue.desc[0].len = len;
    queue.desc[0].flags = 2; /* the device writes */
    queue.avail.ring[queue.avail.idx % 8] = 0;
    __asm__ volatile("" ::: "memory");
    ++*(volatile uint16_t *)&queue.avail.idx;
    *reg(0x50) = 0;
    for (unsigned i = 0; i < 100000000 && *used == was; i++) {
        __asm__ volatile("pause" ::: "memory");
    }
    return *used != was;
}

static uint32_t call(const void *at)
{
    word r;
    __asm__ volatile("call *%1"
                     : "=a"(r)
                     : "r"(at)
                     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    return (uint32_t)r;
}

static void immediate(uint8_t *p, unsigned times)
{
    p[0] = 0xb8; /* mov $?, %eax; ret */
    p[5] = 0xc3;
    for (unsigned i = 0; i < times; i++) {
        if (!fill(p + 1, 4)) {
            check("the device answers", false);
            return;
        }
        uint32_t v;
        memcpy(&v, p + 1, 4);
        check_eq("value", call(p), v);
    }
}
CASE(cold_page)
{
    if (start_device()) {
        immediate(code, 20);
    }
}
/* First the processor writes until the page is one that is not protected any more. */
CASE(hot_page)
{
    if (!start_device()) {
        return;
    }
    uint8_t *p = code + 4096;
    for (unsigned i = 0; i < 150; i++) {
        p[0x800] = 0xb8, p[0x805] = 0xc3;
        memcpy(p + 0x801, &i, 4);
        check_eq("own value", call(p + 0x800), i);
    }
    immediate(p + 0x800, 200);
    immediate(p, 200);
}
/* The operation and its operand come from the device. */
CASE(opcodes)
{
    if (!start_device()) {
        return;
    }
    uint8_t *p = code + 4096, seed;
    for (unsigned i = 0; i < 300; i++) {
        if (!fill(&seed, 1)) {
            check("the device answers", false);
            return;
        }
        p[0] = 0xb8, p[1] = 100, p[2] = p[3] = p[4] = 0;
        p[5] = 0x83, p[6] = seed & 1 ? 0xe8 : 0xc0, p[7] = seed >> 1, p[8] = 0xc3;
        uint32_t k = (uint32_t)(int8_t)p[7];
        check_eq("value", call(p), seed & 1 ? 100 - k : 100 + k);
    }
}
