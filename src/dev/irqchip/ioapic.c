/*
 * I/O APIC: Intel 82093AA data sheet, with the EOI register of version 20h parts (Intel ICH
 * data sheets, "I/O APIC: EOI register").
 *
 * Does not do: the ID as a filter (the bus is the system bus), delivery status (always idle),
 * pin polarity (lines are logical: high means asserted).
 *
 * A level pin that is asserted is sent once and sets remote IRR; the EOI of its vector clears
 * that and sends it again if the pin is still asserted.
 */
#include "dev/irqchip/ioapic.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "dev/irqchip/lapic.h"
#include "state/field.h"

#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL (1ull << 15)
#define RTE_MASKED (1ull << 16)
#define RTE_WRITABLE 0xff0000000001afffull

struct ioapic {
    pthread_mutex_t lock; /* all below; held while sending, which takes no lock */
    uint32_t id, select;
    uint64_t rte[IOAPIC_PINS];
    uint32_t level;              /* one bit per pin */
    uint64_t risen[IOAPIC_PINS]; /* how often, since the process began */
    bool (*send)(void *, const struct apic_msg *);
    void *opaque;
};

static void ioapic_send(struct ioapic *io, unsigned n)
{
    uint64_t rte = io->rte[n];
    struct apic_msg m = {.dest = (uint32_t)(rte >> 56),
                         .logical = rte & 1 << 11,
                         .level = rte & RTE_LEVEL,
                         .mode = (uint8_t)bits_get(rte, 10, 8),
                         .vector = (uint8_t)rte};
    if (rte & RTE_LEVEL) {
        io->rte[n] |= RTE_REMOTE_IRR;
    }
    io->send(io->opaque, &m);
}

/* Sends a level pin that wants to be heard. */
static void ioapic_try_level(struct ioapic *io, unsigned n)
{
    uint64_t rte = io->rte[n];
    if ((rte & RTE_LEVEL) && !(rte & (RTE_MASKED | RTE_REMOTE_IRR)) && (io->level >> n & 1)) {
        ioapic_send(io, n);
    }
}

void ioapic_set_pin(void *opaque, unsigned n, bool level)
{
    struct ioapic *io = opaque;
    AUTO_LOCK(&io->lock);
    bool rise = level && !(io->level >> n & 1);
    io->risen[n] += rise;
    io->level = (io->level & ~(1u << n)) | (uint32_t)level << n;
    if (io->rte[n] & RTE_LEVEL) {
        ioapic_try_level(io, n);
    } else if (rise && !(io->rte[n] & RTE_MASKED)) {
        ioapic_send(io, n);
    }
}

void ioapic_eoi(void *opaque, uint8_t vector)
{
    struct ioapic *io = opaque;
    AUTO_LOCK(&io->lock);
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        if ((uint8_t)io->rte[n] == vector && (io->rte[n] & RTE_REMOTE_IRR)) {
            io->rte[n] &= ~RTE_REMOTE_IRR;
            ioapic_try_level(io, n);
        }
    }
}

static void ioapic_write_rte(struct ioapic *io, unsigned n, bool high, uint32_t val)
{
    uint64_t old = io->rte[n];
    uint64_t want = high ? (old & 0xffffffff) | (uint64_t)val << 32 : (old & ~0xffffffffull) | val;
    uint64_t rte = (want & RTE_WRITABLE) | (want & RTE_MASKED) | (old & RTE_REMOTE_IRR);
    if (!(rte & RTE_LEVEL)) {
        rte &= ~RTE_REMOTE_IRR;
    }
    io->rte[n] = rte;
    ioapic_try_level(io, n);
}

static uint32_t ioapic_reg_read(const struct ioapic *io)
{
    unsigned n = (io->select - 0x10) / 2;
    switch (io->select) {
    case 0:
    case 2: /* arbitration ID */ return io->id << 24;
    case 1: return (IOAPIC_PINS - 1) << 16 | 0x20;
    default:
        if (io->select < 0x10 || n >= IOAPIC_PINS) {
            return 0;
        }
        return (uint32_t)(io->rte[n] >> (io->select & 1) * 32);
    }
}

static void ioapic_reg_write(struct ioapic *io, uint32_t val)
{
    unsigned n = (io->select - 0x10) / 2;
    if (io->select == 0) {
        io->id = val >> 24 & 0xf;
    } else if (io->select >= 0x10 && n < IOAPIC_PINS) {
        ioapic_write_rte(io, n, io->select & 1, val);
    }
}

static enum mem_result ioapic_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct ioapic *io = dev;
    AUTO_LOCK(&io->lock);
    *val = off == 0 ? io->select : off == 0x10 ? ioapic_reg_read(io) : 0;
    return MEM_OK;
}

static enum mem_result ioapic_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ioapic *io = dev;
    if (off == 0x40) {
        ioapic_eoi(io, (uint8_t)val);
        return MEM_OK;
    }
    AUTO_LOCK(&io->lock);
    if (off == 0) {
        io->select = (uint8_t)val;
    } else if (off == 0x10) {
        ioapic_reg_write(io, (uint32_t)val);
    }
    return MEM_OK;
}

const struct mmio ioapic_mmio = {ioapic_read, ioapic_write, 4, 4};

struct ioapic *ioapic_new(uint32_t id, bool (*send)(void *, const struct apic_msg *), void *opaque)
{
    struct ioapic *io = alloc_zero(sizeof(*io));
    pthread_mutex_init(&io->lock, NULL);
    io->id = id;
    io->send = send;
    io->opaque = opaque;
    ioapic_reset(io);
    return io;
}

void ioapic_free(struct ioapic *io)
{
    if (io) {
        pthread_mutex_destroy(&io->lock);
        free(io);
    }
}

void ioapic_reset(struct ioapic *io)
{
    AUTO_LOCK(&io->lock);
    io->select = 0;
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        io->rte[n] = RTE_MASKED;
    }
}

void ioapic_print(struct ioapic *io, struct strbuf *out)
{
    AUTO_LOCK(&io->lock);
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        if (io->rte[n] != RTE_MASKED || (io->level >> n & 1)) {
            strbuf_add(out, "ioapic pin %u: %016llx%s\n", n, (unsigned long long)io->rte[n],
                       io->level >> n & 1 ? " high" : "");
        }
    }
}

void ioapic_print_risen(struct ioapic *io, struct strbuf *out)
{
    AUTO_LOCK(&io->lock);
    strbuf_add(out, "IRQ statistics for ioapic:\n");
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        if (io->risen[n]) {
            strbuf_add(out, "%2u: %llu\n", n, (unsigned long long)io->risen[n]);
        }
    }
}

/* ---- State ---- */

static const struct field ioapic_list[] = {
    FIELD(struct ioapic, lock, FIELD_HOST),
    FIELD(struct ioapic, id, FIELD_GUEST, .max = 15),
    FIELD(struct ioapic, select, FIELD_GUEST, .max = 255),
    FIELD_ARRAY(struct ioapic, rte, FIELD_GUEST),
    FIELD(struct ioapic, level, FIELD_GUEST),
    FIELD(struct ioapic, risen, FIELD_HOST),
    FIELD(struct ioapic, send, FIELD_HOST),
    FIELD(struct ioapic, opaque, FIELD_HOST),
};

FIELD_SET_SHARED(ioapic_fields, "ioapic", struct ioapic, ioapic_list, 1);
