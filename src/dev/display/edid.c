/*
 * EDID of a monitor that shows everything: VESA Enhanced EDID Standard release A2 (1.4). Its
 * preferred timing has blanking as in CVT with reduced blanking, 60 Hz.
 *
 * Does not do: extension blocks; so nothing larger than 4095 dots can be preferred.
 */
#include "dev/display/edid.h"

#include <string.h>

#include "base/bits.h"
#include "base/endian.h"

enum {
    E_ID = 8,
    E_PRODUCT = 10,
    E_SERIAL = 12,
    E_YEAR = 17,
    E_VERSION = 18,
    E_INPUT = 20,
    E_SIZE_CM = 21,
    E_GAMMA = 23,
    E_FEATURES = 24,
    E_CHROMA = 25,
    E_ESTABLISHED = 35,
    E_STANDARD = 38,
    E_DESCRIPTORS = 54,
    DESCRIPTOR = 18,
    STANDARD_COUNT = 8,
    DIGITAL_8_BITS = 0xa0,
    PREFERRED_IS_NATIVE = 0x06, /* also: sRGB */
    D_RANGE = 0xfd,
    D_NAME = 0xfc,
    D_DUMMY = 0x10,
    DPI = 96,
    H_BLANK = 160,
    H_FRONT = 48,
    H_SYNC = 32,
    V_BLANK = 35,
    V_FRONT = 3,
    V_SYNC = 6,
};

static const char monitor_name[13] = "Lodge\n       ";

/* sRGB's primaries and white, 3.7. */
static const uint8_t chroma[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};

/* 3.9: columns / 8 - 31; shape (0: 16:10, 1: 4:3, 2: 5:4, 3: 16:9) and rate - 60. */
static const uint8_t standard[STANDARD_COUNT][2] = {
    {0xd1, 0xc0}, /* 1920 x 1080 */
    {0xb3, 0x00}, /* 1680 x 1050 */
    {0xa9, 0xc0}, /* 1600 x 900 */
    {0xa9, 0x40}, /* 1600 x 1200 */
    {0x81, 0x80}, /* 1280 x 1024 */
    {0x81, 0xc0}, /* 1280 x 720 */
    {0x81, 0x00}, /* 1280 x 800 */
    {0x95, 0x00}, /* 1440 x 900 */
};

static unsigned millimetres(unsigned dots)
{
    return dots * 254 / (DPI * 10);
}

/* Low bits of two twelve-bit numbers, then the high ones in one byte. */
static void put_pair(uint8_t *at, unsigned a, unsigned b)
{
    at[0] = a & 0xff;
    at[1] = b & 0xff;
    at[2] = (uint8_t)((a >> 8 & 15) << 4 | (b >> 8 & 15));
}

static void put_timing(uint8_t *d, unsigned width, unsigned height)
{
    unsigned clock = (width + H_BLANK) * (height + V_BLANK) / 1000 * 60 / 10; /* of 10 kHz */
    store_le16(d, (uint16_t)(clock > 0xffff ? 0xffff : clock));
    put_pair(d + 2, width, H_BLANK);
    put_pair(d + 5, height, V_BLANK);
    d[8] = H_FRONT;
    d[9] = H_SYNC;
    d[10] = V_FRONT << 4 | V_SYNC;
    put_pair(d + 12, millimetres(width), millimetres(height));
    d[17] = 0x1a; /* separate syncs, horizontal positive */
}

static void put_text(uint8_t *d, uint8_t tag, const char text[13])
{
    d[3] = tag;
    memcpy(d + 5, text, 13);
}

static void put_range(uint8_t *d)
{
    static const uint8_t range[13] = {50,  125, 30,  160, 255, 0x01, '\n',
                                      ' ', ' ', ' ', ' ', ' ', ' '};
    d[3] = D_RANGE;
    memcpy(d + 5, range, sizeof(range));
}

void edid_make(uint8_t edid[EDID_SIZE], unsigned width, unsigned height)
{
    static const uint8_t header[8] = {0, 255, 255, 255, 255, 255, 255, 0};
    uint8_t sum = 0;
    memset(edid, 0, EDID_SIZE);
    memcpy(edid, header, sizeof(header));
    store_be16(edid + E_ID, ('L' - '@') << 10 | ('D' - '@') << 5 | ('G' - '@'));
    store_le16(edid + E_PRODUCT, 1);
    edid[E_YEAR] = 2024 - 1990;
    edid[E_VERSION] = 1;
    edid[E_VERSION + 1] = 4;
    edid[E_INPUT] = DIGITAL_8_BITS;
    edid[E_SIZE_CM] = (uint8_t)(millimetres(width) / 10);
    edid[E_SIZE_CM + 1] = (uint8_t)(millimetres(height) / 10);
    edid[E_GAMMA] = 220 - 100;
    edid[E_FEATURES] = PREFERRED_IS_NATIVE;
    memcpy(edid + E_CHROMA, chroma, sizeof(chroma));
    edid[E_ESTABLISHED] = 0x21;     /* 640 x 480 and 800 x 600 at 60 Hz */
    edid[E_ESTABLISHED + 1] = 0x08; /* 1024 x 768 at 60 Hz */
    memcpy(edid + E_STANDARD, standard, sizeof(standard));
    put_timing(edid + E_DESCRIPTORS, width, height);
    put_range(edid + E_DESCRIPTORS + DESCRIPTOR);
    put_text(edid + E_DESCRIPTORS + 2 * DESCRIPTOR, D_NAME, monitor_name);
    edid[E_DESCRIPTORS + 3 * DESCRIPTOR + 3] = D_DUMMY;
    for (unsigned i = 0; i < EDID_SIZE - 1; i++) {
        sum += edid[i];
    }
    edid[EDID_SIZE - 1] = (uint8_t)-sum;
}
