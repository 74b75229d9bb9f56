/*
 * Bulk work for string instructions, eight bytes and more at a time (Intel SDM Vol. 2, MOVS STOS
 * CMPS SCAS).
 */
#include "isa/x86/string_bulk.h"

#include <string.h>

#include "base/bits.h"

#define BLOCK 64 /* bytes in one go */

/* Any alignment; the compiler makes of it what the host has. */
typedef uint64_t pair __attribute__((vector_size(16), aligned(1), may_alias));

static uint64_t repeat(uint64_t v, unsigned size)
{
    static const uint64_t ones[9] = {
        [1] = 0x0101010101010101, [2] = 0x0001000100010001, [4] = 0x0000000100000001, [8] = 1};
    return (v & mask_low(size * 8)) * ones[size];
}

void bulk_fill(uint8_t *to, uint64_t v, unsigned size, uint64_t n)
{
    uint64_t word = repeat(v, size), bytes = n * size;
    pair two = {word, word};
    if (bytes > 1024 && word == repeat(v, 1)) {
        memset(to, (int)(v & 0xff), bytes);
        return;
    }
    for (; bytes >= BLOCK; bytes -= BLOCK, to += BLOCK) {
        pair *p = (pair *)(void *)to;
        p[0] = p[1] = p[2] = p[3] = two;
    }
    for (; bytes >= 8; bytes -= 8, to += 8) {
        memcpy(to, &word, 8);
    }
    if (bytes) {
        memcpy(to, &word, bytes);
    }
}

/* The destination begins `d` bytes behind the source: what lies between them repeats. */
static void spread_up(uint8_t *to, uint64_t d, uint64_t bytes)
{
    const uint8_t *from = to - d;
    for (uint64_t done = 0, k; done < bytes; done += k) {
        k = d + done < bytes - done ? d + done : bytes - done;
        memcpy(to + done, from, k);
    }
}

static void spread_down(uint8_t *to, uint64_t d, uint64_t bytes)
{
    const uint8_t *end = to + bytes + d; /* of the source */
    for (uint64_t left = bytes, k; left; left -= k) {
        uint64_t have = d + (bytes - left);
        k = have < left ? have : left;
        memcpy(to + left - k, end - k, k);
    }
}

static void copy_each(uint8_t *to, const uint8_t *from, unsigned size, uint64_t n, bool down)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = 0, at = (down ? n - 1 - i : i) * size;
        memcpy(&v, from + at, size);
        memcpy(to + at, &v, size);
    }
}

void bulk_copy(uint8_t *to, const uint8_t *from, unsigned size, uint64_t n, bool down)
{
    uint64_t bytes = n * size;
    /* how far the destination is ahead, in the direction of the copy */
    uint64_t d = down ? (uint64_t)(uintptr_t)from - (uintptr_t)to
                      : (uint64_t)(uintptr_t)to - (uintptr_t)from;
    if (d == 0 || d >= bytes) {
        memmove(to, from, bytes);
    } else if (d < size) { /* an element overlaps itself */
        copy_each(to, from, size, n, down);
    } else if (down) {
        spread_down(to, d, bytes);
    } else {
        spread_up(to, d, bytes);
    }
}

struct scan {
    const uint8_t *a, *b;
    uint64_t a_mask; /* of offsets in a */
    uint64_t low;    /* all bits of each element but its highest */
    uint64_t flip;
};

static uint64_t word_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* The highest bit of each element that stops the scan; x: where the two words differ. */
static uint64_t stops(const struct scan *s, uint64_t x)
{
    return ((((x & s->low) + s->low) | x) ^ s->flip) & ~s->low;
}

static uint64_t stops_at(const struct scan *s, uint64_t i)
{
    return stops(s, word_at(s->a + (i & s->a_mask)) ^ word_at(s->b + i));
}

static bool block_stops(const struct scan *s, uint64_t i)
{
    const pair *a = (const pair *)(const void *)(s->a + (i & s->a_mask));
    const pair *b = (const pair *)(const void *)(s->b + i);
    pair low = {s->low, s->low}, flip = {s->flip, s->flip}, any = {0};
    for (unsigned k = 0; k < BLOCK / sizeof(pair); k++) {
        pair x = a[k] ^ b[k];
        any |= (((x & low) + low) | x) ^ flip;
    }
    any &= ~low;
    return any[0] | any[1];
}

static uint64_t element_at(const uint8_t *p, unsigned size)
{
    uint16_t half;
    uint32_t word;
    switch (size) {
    case 1: return *p;
    case 2: memcpy(&half, p, 2); return half;
    default: memcpy(&word, p, 4); return word;
    }
}

/* For elements that do not fill a word. */
static bool one_stops(const struct scan *s, uint64_t i, unsigned size, bool equal)
{
    uint64_t a = element_at(s->a + (i & s->a_mask), size);
    return (a == element_at(s->b + i, size)) == equal;
}

static uint64_t scan_up(const struct scan *s, const struct bulk_scan *k, uint64_t bytes)
{
    uint64_t i = 0, t;
    while (bytes - i >= BLOCK && !block_stops(s, i)) {
        i += BLOCK;
    }
    for (; bytes - i >= 8; i += 8) {
        if ((t = stops_at(s, i))) {
            return i / k->size + (unsigned)__builtin_ctzll(t) / 8 / k->size + 1;
        }
    }
    for (; i < bytes; i += k->size) {
        if (one_stops(s, i, k->size, k->equal)) {
            return i / k->size + 1;
        }
    }
    return bytes / k->size;
}

static uint64_t scan_down(const struct scan *s, const struct bulk_scan *k, uint64_t bytes)
{
    uint64_t i = bytes, t; /* what lies below is not done */
    while (i >= BLOCK && !block_stops(s, i - BLOCK)) {
        i -= BLOCK;
    }
    for (; i >= 8; i -= 8) {
        if ((t = stops_at(s, i - 8))) {
            return (bytes - i) / k->size + (unsigned)__builtin_clzll(t) / 8 / k->size + 1;
        }
    }
    for (; i; i -= k->size) {
        if (one_stops(s, i - k->size, k->size, k->equal)) {
            return (bytes - i) / k->size + 1;
        }
    }
    return bytes / k->size;
}

uint64_t bulk_scan(const struct bulk_scan *k, uint64_t n)
{
    struct scan s = {.a = k->a, .b = k->b, .a_mask = ~0ull, .flip = k->equal ? ~0ull : 0};
    s.low = repeat(mask_low(k->size * 8 - 1), k->size);
    uint64_t v = repeat(k->v, k->size);
    pair same[BLOCK / sizeof(pair)] = {{v, v}, {v, v}, {v, v}, {v, v}};
    if (!k->a) {
        s.a = (const uint8_t *)same;
        s.a_mask = 0;
    }
    return k->down ? scan_down(&s, k, n * k->size) : scan_up(&s, k, n * k->size);
}
