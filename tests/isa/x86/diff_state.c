/* Random states, with a leaning towards values where instructions differ. */
#include <string.h>

#include "isa/x86/randinsn.h"
#include "tests/isa/x86/diff.h"

#define MIDDLE (DIFF_MEM + DIFF_MEM_SIZE / 2)

uint64_t diff_next(uint64_t *rng)
{
    return x86_random_next(rng);
}

unsigned diff_below(uint64_t *rng, unsigned n)
{
    return (unsigned)(diff_next(rng) >> 32) % n;
}

/* Often at an end of a range, or small. */
static uint64_t any_integer(uint64_t *rng)
{
    static const uint64_t special[] = {
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x100000000,
        0x7fffffffffffffff,
        0x8000000000000000,
        0xffffffffffffffff,
        0xffffffff80000000,
        0xffffffffffff8000,
        0x5555555555555555,
        0xaaaaaaaaaaaaaaaa,
    };
    switch (diff_below(rng, 4)) {
    case 0: return special[diff_below(rng, ARRAY_LEN(special))];
    case 1: return diff_next(rng) >> diff_below(rng, 64);
    case 2: return (uint64_t)((int64_t)diff_next(rng) >> diff_below(rng, 64));
    default: return diff_next(rng);
    }
}

/* Eight bytes of a vector: numbers of one kind. */
static uint64_t any_lane(uint64_t *rng, unsigned kind)
{
    static const uint32_t floats[] = {
        0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
        1, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x3f000000, 0x4b000001};
    static const uint64_t doubles[] = {0,
                                       1ull << 63,
                                       0x3ff0000000000000,
                                       0xbff0000000000000,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0x7ff0000000000001,
                                       1,
                                       0x800fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x43e0000000000000,
                                       0x41dfffffffc00000,
                                       0x47f0000000000000,
                                       0x3690000000000000};
    float f[2];
    double d;
    uint64_t v;
    switch (kind) {
    case 0: return any_integer(rng);
    case 1: return floats[diff_below(rng, 16)] | (uint64_t)floats[diff_below(rng, 16)] << 32;
    case 2: return doubles[diff_below(rng, 16)];
    case 3:
        f[0] = (float)(int32_t)diff_next(rng) / (float)(1u << diff_below(rng, 31));
        f[1] = (float)(int32_t)diff_next(rng) / (float)(1u << diff_below(rng, 31));
        memcpy(&v, f, 8);
        return v;
    case 4:
        d = (double)(int64_t)diff_next(rng) / (double)(1ull << diff_below(rng, 63));
        memcpy(&v, &d, 8);
        return v;
    case 5:
        return (diff_below(rng, 2) ? 0xffffffffu : 0) |
               (diff_below(rng, 2) ? 0xffffffffull << 32 : 0);
    case 6: return diff_next(rng) & 0x0f0f0f0f0f0f0f0f; /* short strings, small indexes */
    default: return diff_next(rng);
    }
}

static void any_lanes(uint64_t *rng, uint8_t *out, unsigned bytes)
{
    unsigned kind = diff_below(rng, 8);
    for (unsigned i = 0; i < bytes; i += 8) {
        uint64_t v = any_lane(rng, kind);
        memcpy(out + i, &v, bytes - i < 8 ? bytes - i : 8);
    }
}

/* A register of the x87, also in forms the processor does not make itself. */
static void any_st(uint64_t *rng, uint8_t *st)
{
    uint64_t m = diff_next(rng);
    uint16_t sign = diff_below(rng, 2) ? 0x8000 : 0, exp = 0x3fff;
    switch (diff_below(rng, 8)) {
    case 0: m = 0, exp = 0; break;
    case 1: m = 1ull << 63, exp = 0x7fff; break;
    case 2: m |= 3ull << 62, exp = 0x7fff; break;
    case 3: exp = 0; break;
    case 4: exp = (uint16_t)(diff_next(rng) & 0x7fff); break; /* perhaps an unnormal */
    case 5: m = 1ull << 63; break;
    default:
        m |= 1ull << 63;
        exp = (uint16_t)(0x3fff - 40 + diff_below(rng, 80));
        break;
    }
    exp |= sign;
    memcpy(st, &m, 8);
    memcpy(st + 8, &exp, 2);
}

void diff_any_x87(uint64_t *rng, uint8_t *fx)
{
    memset(fx, 0, DIFF_FX);
    uint16_t cw = (uint16_t)(0x7f | (diff_next(rng) & 0xf00)),
             sw = (uint16_t)(diff_next(rng) & 0x7f7f);
    if (cw >> 8 == 1) {
        cw |= 0x300; /* a reserved precision */
    }
    memcpy(fx, &cw, 2);
    memcpy(fx + 2, &sw, 2);
    fx[4] = diff_below(rng, 3) ? 0xff : (uint8_t)diff_next(rng);
    for (unsigned i = 0; i < 8; i++) {
        any_st(rng, fx + 32 + i * 16);
    }
}

static unsigned any_exceptions(uint64_t *rng)
{
    switch (diff_below(rng, 4)) {
    case 0: return FP_ALL;
    case 1: return 1u << diff_below(rng, 6);
    case 2: return 0;
    default: return diff_next(rng) & FP_ALL;
    }
}

void diff_unmask(struct diff_state *s, uint64_t *rng)
{
    uint16_t cw, sw;
    s->mxcsr &= ~(any_exceptions(rng) << MXCSR_MASK_SHIFT);
    memcpy(&cw, s->fx, 2);
    memcpy(&sw, s->fx + 2, 2);
    cw = (uint16_t)(cw & ~any_exceptions(rng));
    if (diff_below(rng, 16)) {
        sw &= (uint16_t)(cw | ~FP_ALL);
    }
    if (sw & ~cw & FP_ALL) {
        sw |= FSW_ES | FSW_B;
    }
    memcpy(s->fx, &cw, 2);
    memcpy(s->fx + 2, &sw, 2);
}

static uint64_t any_pointer(uint64_t *rng)
{
    if (diff_below(rng, 24) == 0) { /* so that some accesses leave the window */
        return (diff_below(rng, 2) ? DIFF_MEM : DIFF_MEM + DIFF_MEM_SIZE) + diff_below(rng, 128) -
               64;
    }
    uint64_t p = MIDDLE - 1500 + diff_below(rng, 3000);
    return diff_below(rng, 2) ? p & ~63ull : p;
}

/* One KiB of random lanes, and each further one the same, rotated by another distance. */
static void any_memory(uint64_t *rng, uint8_t *mem)
{
    const unsigned part = 1024, turn = 136;
    for (unsigned i = 0; i < part; i += 64) {
        any_lanes(rng, mem + i, 64);
    }
    for (unsigned i = 1; i < DIFF_MEM_SIZE / part; i++) {
        memcpy(mem + i * part, mem + i * turn, part - i * turn);
        memcpy(mem + (i + 1) * part - i * turn, mem, i * turn);
    }
}

void diff_any_state(struct diff_state *s, uint64_t *rng, unsigned mode)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = DIFF_BASES >> i & 1 ? any_pointer(rng) : any_integer(rng);
        if (mode != 8) {
            s->gpr[i] = i < 8 ? (uint32_t)s->gpr[i] : 0;
        }
    }
    s->pc = DIFF_CODE;
    s->flags = (diff_next(rng) & FLAG_ALL) | (diff_below(rng, 4) ? 0 : RF_DF);
    s->mxcsr =
        0x1f80 | (diff_next(rng) & 0x603f) | (diff_below(rng, 4) ? 0 : diff_next(rng) & 0x8040);
    s->fault = DIFF_NO_FAULT;
    diff_any_x87(rng, s->fx);
    for (unsigned i = 0; i < (mode == 8 ? 16u : 8u); i++) {
        any_lanes(rng, s->vec[i], 32);
    }
    any_memory(rng, s->mem);
}
