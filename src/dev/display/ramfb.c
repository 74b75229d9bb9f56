/*
 * Frame buffer in guest memory: firmware writes where and what it is into the fw_cfg file
 * "etc/ramfb", which has six big-endian numbers: address (64 bits), DRM's code of the format,
 * flags, width, height, bytes from line to line (32 bits each; 0: as many as a line has).
 * SeaBIOS gets a VGA BIOS that does so, as the file "vgaroms/vgabios-ramfb.bin".
 *
 * A refresh reads the lines from RAM and compares them with the surface, so no write is followed.
 * Lines that are no RAM are black. Does not do: formats of other than 32 bits a pixel.
 */
#include "dev/display/ramfb.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/device.h"
#include "core/machine.h"
#include "dev/firmware/firmware.h"
#include "dev/firmware/fw_cfg.h"
#include "display/display.h"
#include "state/field.h"

enum {
    CONFIG_SIZE = 28,
    FOURCC = 8,
    WIDTH = 16,
    HEIGHT = 20,
    STRIDE = 24,
    PIXEL = 4,
    ROM_MAX = 1 << 20,
    FIRST_WIDTH = 640,
    FIRST_HEIGHT = 480,
    RGB = 0xffffff,
};

#define CODE(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (d) << 24)
#define ROM_NAME "vgabios-ramfb.bin"

/* What is shown; width 0: nothing. */
struct ramfb_picture {
    gpa_t addr;
    uint32_t width, height, stride;
    bool swapped; /* red is in the low byte */
};

struct ramfb {
    struct dev dev;
    pthread_mutex_t lock;
    bool inited;
    struct ramfb_picture picture;
    struct display_source source;     /* by the display's lock */
    uint32_t line[DISPLAY_MAX_WIDTH]; /* too */
};

/* ---- From the guest ---- */

static bool parse(const uint8_t *c, struct ramfb_picture *p)
{
    uint32_t code = load_be32(c + FOURCC);
    *p = (struct ramfb_picture){
        load_be64(c), load_be32(c + WIDTH), load_be32(c + HEIGHT), load_be32(c + STRIDE),
        code == CODE('X', 'B', '2', '4') || code == CODE('A', 'B', '2', '4')};
    bool known = p->swapped || code == CODE('X', 'R', '2', '4') || code == CODE('A', 'R', '2', '4');
    if (!known || !p->width || !p->height || p->width > DISPLAY_MAX_WIDTH ||
        p->height > DISPLAY_MAX_HEIGHT) {
        return false;
    }
    p->stride = p->stride ? p->stride : p->width * PIXEL;
    uint64_t end;
    return p->stride >= p->width * PIXEL && add_ok(p->addr, (uint64_t)p->stride * p->height, &end);
}

/* On a vcpu's thread. */
static void ramfb_written(void *opaque, const void *bytes, size_t len)
{
    struct ramfb *r = opaque;
    struct ramfb_picture p;
    bool ok = parse(bytes, &p);
    AUTO_LOCK(&r->lock);
    r->picture = ok ? p : (struct ramfb_picture){0};
    if (!ok) {
        log_guest(&r->dev.rate, "ramfb", "this is no picture: %u by %u, format %#x\n", p.width,
                  p.height, load_be32((const uint8_t *)bytes + FOURCC));
    }
}

/* ---- The screen ---- */

static void read_line(struct ramfb *r, const struct ramfb_picture *p, unsigned y, unsigned width)
{
    uint32_t *line = r->line;
    gpa_t at = p->addr + (uint64_t)y * p->stride;
    if (!p->width || !gmem_read(r->dev.machine->mem, at, line, (uint64_t)width * PIXEL)) {
        memset(line, 0, width * sizeof(*line));
        return;
    }
    for (unsigned x = 0; x < width; x++) {
        uint32_t v = le32toh(line[x]);
        line[x] = (p->swapped ? __builtin_bswap32(v) >> 8 : v) & RGB;
    }
}

/* Where nothing is shown the surface keeps its size. */
static bool fit(struct display_source *s, const struct ramfb_picture *p)
{
    const struct surface *is = &s->surface;
    unsigned width = p->width ? p->width : is->pixels ? is->width : FIRST_WIDTH;
    unsigned height = p->width ? p->height : is->pixels ? is->height : FIRST_HEIGHT;
    return (is->pixels && is->width == width && is->height == height) ||
           display_resize(s, width, height);
}

static void ramfb_update(void *opaque, bool all)
{
    struct ramfb *r = opaque;
    struct display_source *s = &r->source;
    pthread_mutex_lock(&r->lock);
    const struct ramfb_picture p = r->picture;
    pthread_mutex_unlock(&r->lock);
    if (!fit(s, &p)) {
        return;
    }
    for (unsigned y = 0; y < s->surface.height; y++) {
        read_line(r, &p, y, s->surface.width);
        display_put_line(s, r->line, y);
    }
    if (all) {
        display_dirty(s, 0, 0, s->surface.width, s->surface.height);
    }
}

static const struct display_source_type ramfb_source = {.update = ramfb_update};

/* ---- Life ---- */

static struct ramfb *ramfb_find(struct dev *d)
{
    while (d && d->type != &ramfb_type) {
        d = d->next;
    }
    return d ? container_of(d, struct ramfb, dev) : NULL;
}

int ramfb_add_files(const struct machine *m, struct fw_cfg *f, struct err *err)
{
    struct ramfb *r = ramfb_find(m->devs);
    struct firmware_file rom = {0};
    if (!r) {
        return 0;
    }
    int ret = firmware_read(m, ROM_NAME, ROM_MAX, &rom, err);
    ret = ret ? ret : fw_cfg_add_file(f, "vgaroms/" ROM_NAME, rom.bytes, rom.len, err);
    free(rom.bytes);
    return ret ? ret : fw_cfg_add_writable(f, "etc/ramfb", CONFIG_SIZE, ramfb_written, r, err);
}

static int ramfb_init(struct dev *dev, struct err *err)
{
    struct ramfb *r = container_of(dev, struct ramfb, dev);
    if (ramfb_find(dev->next)) {
        return err_set(err, EEXIST, "ramfb: there is one already, and a machine has one");
    }
    if (!dev->machine->board->pci) {
        return err_set(err, EINVAL, "ramfb: needs firmware; use machine 'pc' or 'q35'");
    }
    pthread_mutex_init(&r->lock, NULL);
    r->inited = true;
    if (dev->machine->display) {
        display_add_source(dev->machine->display, &r->source, &ramfb_source, r);
    }
    return 0;
}

static void ramfb_reset(struct dev *dev, enum dev_reset how)
{
    struct ramfb *r = container_of(dev, struct ramfb, dev);
    AUTO_LOCK(&r->lock);
    r->picture = (struct ramfb_picture){0};
}

static void ramfb_fini(struct dev *dev)
{
    struct ramfb *r = container_of(dev, struct ramfb, dev);
    if (r->source.type) {
        display_remove_source(dev->machine->display, &r->source);
    }
    if (r->inited) {
        pthread_mutex_destroy(&r->lock);
    }
}

static const struct field picture_list[] = {
    FIELD(struct ramfb_picture, addr, FIELD_GUEST),
    FIELD(struct ramfb_picture, width, FIELD_GUEST, .max = DISPLAY_MAX_WIDTH),
    FIELD(struct ramfb_picture, height, FIELD_GUEST, .max = DISPLAY_MAX_HEIGHT),
    FIELD(struct ramfb_picture, stride, FIELD_GUEST),
    FIELD(struct ramfb_picture, swapped, FIELD_GUEST),
};

FIELD_SET(picture_fields, "ramfb-picture", struct ramfb_picture, picture_list, 1);

static const struct field ramfb_list[] = {
    FIELD(struct ramfb, dev, FIELD_HOST),
    FIELD(struct ramfb, lock, FIELD_HOST),
    FIELD(struct ramfb, inited, FIELD_HOST),
    FIELD(struct ramfb, picture, FIELD_GUEST, .sub = &picture_fields),
    FIELD(struct ramfb, source, FIELD_HOST),
    FIELD(struct ramfb, line, FIELD_HOST),
};

static int ramfb_loaded(void *obj, struct err *err)
{
    const struct ramfb_picture *p = &((struct ramfb *)obj)->picture;
    uint64_t end;
    if (p->width && (!p->height || p->stride < p->width * PIXEL ||
                     !add_ok(p->addr, (uint64_t)p->stride * p->height, &end))) {
        return err_set(err, EINVAL, "ramfb: a picture of %u by %u with lines of %u bytes", p->width,
                       p->height, p->stride);
    }
    return 0;
}

FIELD_SET(ramfb_fields, "ramfb", struct ramfb, ramfb_list, 1, .loaded = ramfb_loaded);

const struct dev_type ramfb_type = {
    .name = "ramfb",
    .summary = "frame buffer in guest memory, set up by firmware",
    .spec = "ramfb",
    .size = sizeof(struct ramfb),
    .state = &ramfb_fields,
    .init = ramfb_init,
    .reset = ramfb_reset,
    .fini = ramfb_fini,
};
