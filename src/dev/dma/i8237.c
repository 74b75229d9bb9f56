/*
 * Two 8237A DMA controllers as in the PC/AT: Intel 8237A data sheet (231466), page registers and
 * cascade as in the 82371SB (290550, 4.2). Channels 0 to 3 move bytes within 64 KiB, 5 to 7 words
 * within 128 KiB; the page register has the rest of the address.
 *
 * A device moves as much as it has at one call; what is moved is bounded by its buffer and by the
 * channel's count. Nothing but RAM is reached.
 *
 * Does not do: memory to memory, transfers by the request register (its bits are kept and shown),
 * rotating priority, timing (compressed, extended write), the EISA registers above 400h. The mask
 * of the cascade holds nothing up: not all firmware opens it.
 */
#include "dev/dma/i8237.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "state/field.h"

enum {
    R_COMMAND = 8, /* read: status */
    R_REQUEST,
    R_MASK_ONE,
    R_MODE,
    R_CLEAR_POINTER, /* the byte pointer flip-flop */
    R_MASTER_CLEAR,  /* read: temporary register */
    R_CLEAR_MASK,
    R_MASK_ALL,
    COMMAND_DISABLE = 4,
    MODE_TRANSFER = 0x0c,
    MODE_VERIFY = 0,
    MODE_WRITE = 4, /* to memory */
    MODE_READ = 8,
    MODE_AUTO = 0x10,
    MODE_DOWN = 0x20,
    MODE_SELECT = 0xc0,
    MODE_CASCADE = 0xc0,
    CASCADE_CHANNEL = 4,
    PAGES = 16,
};

struct channel {
    uint16_t base_address, base_count, address, count;
    uint8_t mode;
    void (*ready)(void *);
    void *opaque;
};

struct controller {
    struct i8237_pair *pair;
    unsigned first;                               /* channel */
    uint8_t command, mask, request, wanted, done; /* a bit a channel; wanted: DREQ */
    bool high;                                    /* the byte pointer */
    struct channel channel[4];
};

struct i8237_pair {
    pthread_mutex_t lock;
    struct mem_map *mem;
    struct controller controller[2];
    uint8_t page[PAGES];
};

/* Page registers of the channels, from 80h; that of channel 4 is for refresh. */
static const uint8_t page_of[I8237_CHANNELS] = {7, 3, 1, 2, 15, 11, 9, 10};

/* ---- Registers ---- */

static void channel_write(struct controller *c, unsigned off, uint8_t val)
{
    struct channel *ch = &c->channel[off >> 1 & 3];
    uint16_t *base = off & 1 ? &ch->base_count : &ch->base_address;
    *base = c->high ? (uint16_t)(val << 8 | (*base & 0xff)) : (uint16_t)((*base & 0xff00) | val);
    c->high = !c->high;
    if (off & 1) {
        ch->count = ch->base_count;
    } else {
        ch->address = ch->base_address;
    }
}

static uint8_t channel_read(struct controller *c, unsigned off)
{
    const struct channel *ch = &c->channel[off >> 1 & 3];
    uint16_t val = off & 1 ? ch->count : ch->address;
    c->high = !c->high;
    return (uint8_t)(c->high ? val : val >> 8);
}

static void controller_clear(struct controller *c)
{
    c->command = c->request = c->done = 0;
    c->mask = 0xf;
    c->high = false;
}

static uint8_t with_bit(uint8_t bits, uint8_t val)
{
    uint8_t bit = (uint8_t)(1u << (val & 3));
    return (uint8_t)(val & 4 ? bits | bit : bits & ~bit);
}

static void register_write(struct controller *c, unsigned reg, uint8_t val)
{
    switch (reg) {
    case R_COMMAND: c->command = val; break;
    case R_REQUEST: c->request = with_bit(c->request, val); break;
    case R_MASK_ONE: c->mask = with_bit(c->mask, val); break;
    case R_MODE: c->channel[val & 3].mode = val & 0xfc; break;
    case R_CLEAR_POINTER: c->high = false; break;
    case R_MASTER_CLEAR: controller_clear(c); break;
    case R_CLEAR_MASK: c->mask = 0; break;
    case R_MASK_ALL: c->mask = val & 0xf; break;
    default: channel_write(c, reg, val);
    }
}

/* The status' bits of terminal counts go with the read. */
static uint8_t register_read(struct controller *c, unsigned reg)
{
    uint8_t val;
    switch (reg) {
    case R_COMMAND:
        val = (uint8_t)((c->wanted | c->request) << 4 | c->done);
        c->done = 0;
        return val;
    case R_MASTER_CLEAR: return 0;
    case R_MASK_ALL: return c->mask | 0xf0;
    default: return reg < R_COMMAND ? channel_read(c, reg) : 0xff;
    }
}

/* ---- Transfers ---- */

static bool channel_open(const struct i8237_pair *p, unsigned n)
{
    const struct controller *c = &p->controller[n >> 2];
    return !(c->command & COMMAND_DISABLE) && !(c->mask >> (n & 3) & 1) &&
           (c->channel[n & 3].mode & MODE_SELECT) != MODE_CASCADE;
}

/* Those whose device waits and could go on. */
static unsigned channels_ready(const struct i8237_pair *p)
{
    unsigned ready = 0;
    for (unsigned n = 0; n < I8237_CHANNELS; n++) {
        const struct controller *c = &p->controller[n >> 2];
        if (c->wanted >> (n & 3) & 1 && c->channel[n & 3].ready && channel_open(p, n)) {
            ready |= 1u << n;
        }
    }
    return ready;
}

static void channels_tell(struct i8237_pair *p, unsigned ready)
{
    for (unsigned n = 0; n < I8237_CHANNELS; n++) {
        if (ready >> n & 1) {
            const struct channel *ch = &p->controller[n >> 2].channel[n & 3];
            ch->ready(ch->opaque);
        }
    }
}

/* A piece without a wrap. In units of the channel (bytes, or words with `shift` 1). */
static uint32_t channel_piece(const struct channel *ch, uint32_t most)
{
    uint32_t room = ch->mode & MODE_DOWN ? 1 : 0x10000u - ch->address, left = ch->count + 1u;
    room = room < left ? room : left;
    return room < most ? room : most;
}

static void channel_move(struct i8237_pair *p, gpa_t at, uint8_t *buf, uint32_t len, bool in,
                         bool verify)
{
    if (in && !verify) {
        gmem_write(p->mem, at, buf, len);
    } else if (!in && (verify || !gmem_read(p->mem, at, buf, len))) {
        memset(buf, 0xff, len);
    }
}

/* True: terminal count. */
static bool channel_step(struct controller *c, unsigned n, uint32_t units)
{
    struct channel *ch = &c->channel[n];
    bool end = units == ch->count + 1u;
    ch->address = (uint16_t)(ch->mode & MODE_DOWN ? ch->address - units : ch->address + units);
    ch->count = (uint16_t)(ch->count - units);
    if (end) {
        c->done |= (uint8_t)(1u << n);
        c->request &= (uint8_t) ~(1u << n);
        if (ch->mode & MODE_AUTO) {
            ch->address = ch->base_address;
            ch->count = ch->base_count;
        } else {
            c->mask |= (uint8_t)(1u << n);
        }
    }
    return end;
}

static uint32_t i8237_move(struct i8237_pair *p, unsigned n, uint8_t *buf, uint32_t len, bool in,
                           bool *tc)
{
    AUTO_LOCK(&p->lock);
    struct controller *c = &p->controller[n >> 2 & 1];
    struct channel *ch = &c->channel[n & 3];
    unsigned shift = n >= 4;
    uint8_t way = ch->mode & MODE_TRANSFER;
    uint32_t done = 0;
    *tc = false;
    if (n == CASCADE_CHANNEL || n >= I8237_CHANNELS || !channel_open(p, n) ||
        (way != MODE_VERIFY && way != (in ? MODE_WRITE : MODE_READ))) {
        return 0;
    }
    gpa_t page = (gpa_t)(p->page[page_of[n]] & (shift ? 0xfe : 0xff)) << 16;
    while (!*tc && (len - done) >> shift) {
        uint32_t units = channel_piece(ch, (len - done) >> shift);
        channel_move(p, page + ((gpa_t)ch->address << shift), buf + done, units << shift, in,
                     way == MODE_VERIFY);
        done += units << shift;
        *tc = channel_step(c, n & 3, units);
    }
    return done;
}

uint32_t i8237_to_memory(struct i8237_pair *p, unsigned channel, const void *buf, uint32_t len,
                         bool *tc)
{
    return i8237_move(p, channel, (uint8_t *)buf, len, true, tc); /* only read from */
}

uint32_t i8237_from_memory(struct i8237_pair *p, unsigned channel, void *buf, uint32_t len,
                           bool *tc)
{
    return i8237_move(p, channel, buf, len, false, tc);
}

void i8237_request(struct i8237_pair *p, unsigned channel, bool on)
{
    AUTO_LOCK(&p->lock);
    struct controller *c = &p->controller[channel >> 2 & 1];
    uint8_t bit = (uint8_t)(1u << (channel & 3));
    c->wanted = (uint8_t)(on ? c->wanted | bit : c->wanted & ~bit);
}

bool i8237_connect(struct i8237_pair *p, unsigned channel, void (*ready)(void *), void *opaque)
{
    AUTO_LOCK(&p->lock);
    if (channel >= I8237_CHANNELS || channel == CASCADE_CHANNEL) {
        return false;
    }
    struct channel *ch = &p->controller[channel >> 2].channel[channel & 3];
    if (ready && ch->ready) {
        return false;
    }
    ch->ready = ready;
    ch->opaque = opaque;
    return true;
}

/* ---- Ports ---- */

static unsigned port_register(const struct controller *c, uint64_t off)
{
    return (unsigned)(c->first ? off >> 1 : off) & 15;
}

static enum mem_result dma_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct controller *c = opaque;
    AUTO_LOCK(&c->pair->lock);
    *val = register_read(c, port_register(c, off));
    return MEM_OK;
}

/* A device that waits is told without the lock: it will come back to move its data. */
static enum mem_result dma_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct controller *c = opaque;
    struct i8237_pair *p = c->pair;
    pthread_mutex_lock(&p->lock);
    register_write(c, port_register(c, off), (uint8_t)val);
    unsigned ready = channels_ready(p);
    pthread_mutex_unlock(&p->lock);
    channels_tell(p, ready);
    return MEM_OK;
}

static enum mem_result page_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct i8237_pair *p = opaque;
    AUTO_LOCK(&p->lock);
    *val = p->page[off & (PAGES - 1)];
    return MEM_OK;
}

static enum mem_result page_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct i8237_pair *p = opaque;
    AUTO_LOCK(&p->lock);
    p->page[off & (PAGES - 1)] = (uint8_t)val;
    return MEM_OK;
}

static const struct mmio dma_ports = {dma_read, dma_write, 1, 1};
static const struct mmio page_ports = {page_read, page_write, 1, 1};

void i8237_map(struct i8237_pair *p, struct mem_map *io)
{
    mem_map_add_mmio(io, 0x00, 16, &dma_ports, &p->controller[0]);
    mem_map_add_mmio(io, 0xc0, 32, &dma_ports, &p->controller[1]);
    mem_map_add_mmio(io, 0x80, PAGES, &page_ports, p);
}

/* ---- Life ---- */

struct i8237_pair *i8237_new(struct mem_map *mem)
{
    struct i8237_pair *p = alloc_zero(sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    p->mem = mem;
    for (unsigned i = 0; i < 2; i++) {
        p->controller[i].pair = p;
        p->controller[i].first = 4 * i;
    }
    i8237_reset(p);
    return p;
}

void i8237_free(struct i8237_pair *p)
{
    if (p) {
        pthread_mutex_destroy(&p->lock);
        free(p);
    }
}

void i8237_reset(struct i8237_pair *p)
{
    AUTO_LOCK(&p->lock);
    for (unsigned i = 0; i < 2; i++) {
        controller_clear(&p->controller[i]);
        for (unsigned n = 0; n < 4; n++) {
            struct channel *ch = &p->controller[i].channel[n];
            *ch = (struct channel){.ready = ch->ready, .opaque = ch->opaque};
        }
    }
    memset(p->page, 0, sizeof(p->page));
}

/* ---- State ---- */

static const struct field channel_list[] = {
    FIELD(struct channel, base_address, FIELD_GUEST),
    FIELD(struct channel, base_count, FIELD_GUEST),
    FIELD(struct channel, address, FIELD_GUEST),
    FIELD(struct channel, count, FIELD_GUEST),
    FIELD(struct channel, mode, FIELD_GUEST),
    FIELD(struct channel, ready, FIELD_HOST),
    FIELD(struct channel, opaque, FIELD_HOST),
};

FIELD_SET(channel_fields, "i8237-channel", struct channel, channel_list, 1);

static const struct field controller_list[] = {
    FIELD(struct controller, pair, FIELD_HOST),
    FIELD(struct controller, first, FIELD_CONFIG),
    FIELD(struct controller, command, FIELD_GUEST),
    FIELD(struct controller, mask, FIELD_GUEST, .max = 15),
    FIELD(struct controller, request, FIELD_GUEST, .max = 15),
    FIELD(struct controller, wanted, FIELD_GUEST, .max = 15),
    FIELD(struct controller, done, FIELD_GUEST, .max = 15),
    FIELD(struct controller, high, FIELD_GUEST),
    FIELD_ARRAY(struct controller, channel, FIELD_GUEST, .sub = &channel_fields),
};

FIELD_SET(controller_fields, "i8237-controller", struct controller, controller_list, 1);

static const struct field i8237_list[] = {
    FIELD(struct i8237_pair, lock, FIELD_HOST),
    FIELD(struct i8237_pair, mem, FIELD_HOST),
    FIELD_ARRAY(struct i8237_pair, controller, FIELD_GUEST, .sub = &controller_fields),
    FIELD_ARRAY(struct i8237_pair, page, FIELD_GUEST),
};

FIELD_SET_SHARED(i8237_fields, "i8237", struct i8237_pair, i8237_list, 1);
