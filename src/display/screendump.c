/*
 * Pictures of the screen: PPM (netpbm "P6") and PNG (W3C PNG second edition: true colour, eight
 * bits, no filter, one IDAT).
 */
#include "display/screendump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "display/display.h"

enum { PNG_COLOUR = 2, PNG_HEADER = 13, PNG_LEVEL = 6 };

struct dump {
    FILE *f;
    enum screendump_format format;
    int ret; /* 0 or -errno */
};

/* A line as bytes red, green, blue. */
static void put_line(const struct surface *s, unsigned y, uint8_t *to)
{
    const uint32_t *from = s->pixels + y * s->stride;
    for (unsigned x = 0; x < s->width; x++, to += 3) {
        to[0] = from[x] >> 16 & 0xff;
        to[1] = from[x] >> 8 & 0xff;
        to[2] = from[x] & 0xff;
    }
}

/* All lines, each after `before` bytes of zero. */
static uint8_t *dump_bytes(const struct surface *s, size_t before, size_t *len)
{
    size_t line = before + (size_t)s->width * 3;
    uint8_t *bytes = calloc(s->height, line);
    *len = s->height * line;
    for (unsigned y = 0; bytes && y < s->height; y++) {
        put_line(s, y, bytes + y * line + before);
    }
    return bytes;
}

static void png_chunk(FILE *f, const char type[4], const uint8_t *data, size_t len)
{
    uint8_t word[4];
    uLong crc = crc32(crc32(0, (const Bytef *)type, 4), len ? data : (const Bytef *)"", (uInt)len);
    store_be32(word, (uint32_t)len);
    fwrite(word, 1, 4, f);
    fwrite(type, 1, 4, f);
    fwrite(data, 1, len, f);
    store_be32(word, (uint32_t)crc);
    fwrite(word, 1, 4, f);
}

static int dump_png(FILE *f, const struct surface *s)
{
    size_t len;
    AUTO_FREE uint8_t *bytes = dump_bytes(s, 1, &len); /* each line's filter: none */
    uLongf packed_len = compressBound(len);
    AUTO_FREE uint8_t *packed = malloc(packed_len);
    uint8_t header[PNG_HEADER] = {[8] = 8, [9] = PNG_COLOUR};
    if (!bytes || !packed || compress2(packed, &packed_len, bytes, len, PNG_LEVEL) != Z_OK) {
        return -ENOMEM;
    }
    store_be32(header, s->width);
    store_be32(header + 4, s->height);
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, f);
    png_chunk(f, "IHDR", header, sizeof(header));
    png_chunk(f, "IDAT", packed, packed_len);
    png_chunk(f, "IEND", header, 0);
    return 0;
}

static int dump_ppm(FILE *f, const struct surface *s)
{
    size_t len;
    AUTO_FREE uint8_t *bytes = dump_bytes(s, 0, &len);
    if (!bytes) {
        return -ENOMEM;
    }
    fprintf(f, "P6\n%u %u\n255\n", s->width, s->height);
    fwrite(bytes, 1, len, f);
    return 0;
}

static void dump_use(void *opaque, const struct surface *s)
{
    struct dump *d = opaque;
    if (!s) {
        d->ret = -ENODEV;
        return;
    }
    d->ret = d->format == SCREENDUMP_PNG ? dump_png(d->f, s) : dump_ppm(d->f, s);
    if (!d->ret && ferror(d->f)) {
        d->ret = -EIO;
    }
}

int display_screendump(struct display *display, const char *path, enum screendump_format format,
                       struct err *err)
{
    struct dump d = {.f = fopen(path, "we"), .format = format};
    if (!d.f) {
        return err_set(err, errno, "screendump: cannot write '%s': %s", path, strerror(errno));
    }
    display_look(display, dump_use, &d);
    if (fclose(d.f) && !d.ret) {
        d.ret = -errno;
    }
    if (d.ret == -ENODEV) {
        return err_set(err, ENODEV, "screendump: the machine has no screen; add -device VGA");
    }
    return d.ret ? err_set(err, -d.ret, "screendump: cannot write '%s': %s", path, strerror(-d.ret))
                 : 0;
}
