/*
 * A pair of 8259A interrupt controllers as in a PC: Intel 8259A data sheet; edge/level control
 * registers of the ICH data sheets ("ELCR1").
 *
 * Does not do: 8080 mode, buffered mode, special fully nested mode, other cascade wiring.
 */
#include "dev/irqchip/pic8259.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "state/field.h"

struct chip {
    struct pic *pic;
    bool slave;
    uint8_t level; /* input lines */
    uint8_t irr, imr, isr, elcr, elcr_mask;
    uint8_t base;   /* ICW2 */
    uint8_t lowest; /* input with the lowest priority */
    uint8_t icw;    /* which initialisation word comes next; 0: none */
    bool icw4, single, level_mode, aeoi, rotate_aeoi, special_mask, poll, read_isr;
};

struct pic {
    pthread_mutex_t lock;
    struct chip chip[2]; /* master, slave */
    bool out_level;
    uint64_t risen[16]; /* how often, since the process began */
    void (*out)(void *, unsigned, bool);
    void *opaque;
};

/* Distance from the highest priority input: 0 is highest; 8 if the mask is empty. */
static unsigned chip_rank(const struct chip *c, uint8_t mask)
{
    for (unsigned rank = 0; rank < 8; rank++) {
        if (mask >> ((c->lowest + 1 + rank) & 7) & 1) {
            return rank;
        }
    }
    return 8;
}

/* The input to be served, or -1. */
static int chip_pending(const struct chip *c)
{
    uint8_t asking = c->irr & ~c->imr;
    unsigned rank = chip_rank(c, asking);
    uint8_t busy = c->special_mask ? c->isr & ~c->imr : c->isr;
    if (rank == 8 || rank >= chip_rank(c, busy)) {
        return -1;
    }
    return (int)((c->lowest + 1 + rank) & 7);
}

static void chip_set(struct chip *c, unsigned n, bool level)
{
    uint8_t bit = (uint8_t)(1u << n);
    bool by_level = c->level_mode || (c->elcr & bit);
    if (level && (by_level || !(c->level & bit))) {
        c->irr |= bit;
    } else if (!level) {
        c->irr &= (uint8_t)~bit; /* an edge request must stay high until acknowledged */
    }
    c->level = (uint8_t)(level ? c->level | bit : c->level & ~bit);
}

static void pic_update(struct pic *pic)
{
    chip_set(&pic->chip[0], 2, chip_pending(&pic->chip[1]) >= 0);
    bool out = chip_pending(&pic->chip[0]) >= 0;
    if (out != pic->out_level) {
        pic->out_level = out;
        pic->out(pic->opaque, 0, out);
    }
}

void pic_set_pin(void *opaque, unsigned n, bool level)
{
    struct pic *pic = opaque;
    AUTO_LOCK(&pic->lock);
    pic->risen[n] += level && !(pic->chip[n / 8].level >> n % 8 & 1);
    chip_set(&pic->chip[n / 8], n % 8, level);
    pic_update(pic);
}

void pic_print_risen(struct pic *pic, struct strbuf *out)
{
    AUTO_LOCK(&pic->lock);
    strbuf_add(out, "IRQ statistics for isa-i8259:\n");
    for (unsigned n = 0; n < ARRAY_LEN(pic->risen); n++) {
        if (pic->risen[n]) {
            strbuf_add(out, "%2u: %llu\n", n, (unsigned long long)pic->risen[n]);
        }
    }
}

/* Acknowledge of one chip: its input number; 7 if nothing asks any more (spurious). */
static unsigned chip_inta(struct chip *c)
{
    int n = chip_pending(c);
    if (n < 0) {
        return 7;
    }
    uint8_t bit = (uint8_t)(1u << n);
    if (!(c->level_mode || (c->elcr & bit))) {
        c->irr &= (uint8_t)~bit;
    }
    if (!c->aeoi) {
        c->isr |= bit;
    } else if (c->rotate_aeoi) {
        c->lowest = (uint8_t)n;
    }
    return (unsigned)n;
}

int pic_inta(void *opaque)
{
    struct pic *pic = opaque;
    AUTO_LOCK(&pic->lock);
    bool real = chip_pending(&pic->chip[0]) >= 0;
    unsigned n = chip_inta(&pic->chip[0]);
    int vector = pic->chip[0].base + (int)n;
    if (real && n == 2) {
        vector = pic->chip[1].base + (int)chip_inta(&pic->chip[1]);
    }
    /* The slave's line drops and may rise again: an edge for the master. */
    chip_set(&pic->chip[0], 2, false);
    pic_update(pic);
    return vector;
}

static void chip_write_icw1(struct chip *c, uint8_t val)
{
    c->imr = c->isr = 0;
    c->irr = 0;
    c->level &= 0; /* edge sensing starts anew; inputs that stay high need a new edge */
    c->lowest = 7;
    c->icw = 2;
    c->icw4 = val & 1;
    c->single = val & 2;
    c->level_mode = val & 8;
    c->aeoi = c->rotate_aeoi = c->special_mask = c->poll = c->read_isr = false;
}

static void chip_end_of_interrupt(struct chip *c, uint8_t val)
{
    bool specific = val & 0x40;
    unsigned n = specific ? val & 7 : (c->lowest + 1 + chip_rank(c, c->isr)) & 7;
    if (specific || c->isr) {
        c->isr &= (uint8_t) ~(1u << n);
        if (val & 0x80) {
            c->lowest = (uint8_t)n;
        }
    }
}

static void chip_write_ocw2(struct chip *c, uint8_t val)
{
    switch (val >> 5) {
    case 0: /* clear, set rotation in automatic EOI mode */
    case 4: c->rotate_aeoi = val & 0x80; break;
    case 1:
    case 3:
    case 5:
    case 7: chip_end_of_interrupt(c, val); break;
    case 6: c->lowest = val & 7; break;
    }
}

static void chip_write_ocw3(struct chip *c, uint8_t val)
{
    if (val & 0x40) {
        c->special_mask = val & 0x20;
    }
    c->poll = val & 4;
    if (val & 2) {
        c->read_isr = val & 1;
    }
}

static void chip_write_data(struct chip *c, uint8_t val)
{
    switch (c->icw) {
    case 2:
        c->base = val & 0xf8;
        c->icw = c->single ? (c->icw4 ? 4 : 0) : 3;
        break;
    case 3: c->icw = c->icw4 ? 4 : 0; break;
    case 4:
        c->aeoi = val & 2;
        c->icw = 0;
        break;
    default: c->imr = val;
    }
}

static enum mem_result chip_write(void *dev, uint64_t off, unsigned size, uint64_t v)
{
    struct chip *c = dev;
    uint8_t val = (uint8_t)v;
    AUTO_LOCK(&c->pic->lock);
    if (off) {
        chip_write_data(c, val);
    } else if (val & 0x10) {
        chip_write_icw1(c, val);
    } else if (val & 8) {
        chip_write_ocw3(c, val);
    } else {
        chip_write_ocw2(c, val);
    }
    pic_update(c->pic);
    return MEM_OK;
}

static uint8_t chip_read_poll(struct chip *c)
{
    bool asks = chip_pending(c) >= 0;
    unsigned n = chip_inta(c);
    c->poll = false;
    pic_update(c->pic);
    return asks ? (uint8_t)(0x80 | n) : 0;
}

static enum mem_result chip_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct chip *c = dev;
    AUTO_LOCK(&c->pic->lock);
    if (c->poll) {
        *val = chip_read_poll(c);
    } else if (off) {
        *val = c->imr;
    } else {
        *val = c->read_isr ? c->isr : c->irr;
    }
    return MEM_OK;
}

static enum mem_result elcr_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct pic *pic = dev;
    AUTO_LOCK(&pic->lock);
    *val = pic->chip[off & 1].elcr;
    return MEM_OK;
}

static enum mem_result elcr_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pic *pic = dev;
    AUTO_LOCK(&pic->lock);
    struct chip *c = &pic->chip[off & 1];
    c->elcr = (uint8_t)val & c->elcr_mask;
    return MEM_OK;
}

static const struct mmio chip_ports = {chip_read, chip_write, 1, 1};
static const struct mmio elcr_ports = {elcr_read, elcr_write, 1, 1};

void pic_map(struct pic *pic, struct mem_map *io)
{
    mem_map_add_mmio(io, 0x20, 2, &chip_ports, &pic->chip[0]);
    mem_map_add_mmio(io, 0xa0, 2, &chip_ports, &pic->chip[1]);
    mem_map_add_mmio(io, 0x4d0, 2, &elcr_ports, pic);
}

struct pic *pic_new(void (*out)(void *, unsigned, bool), void *opaque)
{
    struct pic *pic = alloc_zero(sizeof(*pic));
    pthread_mutex_init(&pic->lock, NULL);
    pic->out = out;
    pic->opaque = opaque;
    pic_reset(pic);
    return pic;
}

void pic_free(struct pic *pic)
{
    if (pic) {
        pthread_mutex_destroy(&pic->lock);
        free(pic);
    }
}

void pic_reset(struct pic *pic)
{
    AUTO_LOCK(&pic->lock);
    for (unsigned i = 0; i < 2; i++) {
        struct chip *c = &pic->chip[i];
        uint8_t level = c->level;
        memset(c, 0, sizeof(*c));
        c->pic = pic;
        c->slave = i;
        c->level = level;
        c->lowest = 7;
        c->imr = 0xff;                  /* until a guest initialises it */
        c->elcr_mask = i ? 0xde : 0xf8; /* timer, keyboard, cascade, RTC, FPU are edges */
    }
    pic_update(pic);
}

/* ---- State ---- */

static const struct field chip_list[] = {
    FIELD(struct chip, pic, FIELD_HOST),
    FIELD(struct chip, slave, FIELD_CONFIG),
    FIELD(struct chip, level, FIELD_GUEST),
    FIELD(struct chip, irr, FIELD_GUEST),
    FIELD(struct chip, imr, FIELD_GUEST),
    FIELD(struct chip, isr, FIELD_GUEST),
    FIELD(struct chip, elcr, FIELD_GUEST),
    FIELD(struct chip, elcr_mask, FIELD_CONFIG),
    FIELD(struct chip, base, FIELD_GUEST),
    FIELD(struct chip, lowest, FIELD_GUEST, .max = 7),
    FIELD(struct chip, icw, FIELD_GUEST, .max = 4),
    FIELD(struct chip, icw4, FIELD_GUEST),
    FIELD(struct chip, single, FIELD_GUEST),
    FIELD(struct chip, level_mode, FIELD_GUEST),
    FIELD(struct chip, aeoi, FIELD_GUEST),
    FIELD(struct chip, rotate_aeoi, FIELD_GUEST),
    FIELD(struct chip, special_mask, FIELD_GUEST),
    FIELD(struct chip, poll, FIELD_GUEST),
    FIELD(struct chip, read_isr, FIELD_GUEST),
};

FIELD_SET(chip_fields, "i8259", struct chip, chip_list, 1);

static const struct field pic_list[] = {
    FIELD(struct pic, lock, FIELD_HOST),
    FIELD_ARRAY(struct pic, chip, FIELD_GUEST, .sub = &chip_fields),
    FIELD(struct pic, risen, FIELD_HOST),
    FIELD(struct pic, out_level, FIELD_GUEST),
    FIELD(struct pic, out, FIELD_HOST),
    FIELD(struct pic, opaque, FIELD_HOST),
};

FIELD_SET_SHARED(pic_fields, "pic", struct pic, pic_list, 1);
