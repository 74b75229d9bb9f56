#include "isa/x86/string_bulk.h"

#include <string.h>

#include "base/unit_test.h"

#define ROOM 512
#define TRIES 60000

static uint64_t rng = 1;

static unsigned below(unsigned n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % n;
}

static unsigned any_size(void)
{
    return 1u << below(4);
}

/* Few different bytes, so that elements are often equal. */
static void any_bytes(uint8_t *p)
{
    unsigned kinds = 1 + below(3);
    for (unsigned i = 0; i < ROOM; i++) {
        p[i] = (uint8_t)(below(kinds) * 0x7f + (below(40) == 0));
    }
}

static void copies(void **state)
{
    uint8_t want[ROOM], got[ROOM];
    for (unsigned k = 0; k < TRIES; k++) {
        unsigned size = any_size(), n = 1 + below(25), down = below(2);
        unsigned from = 100 + below(64), to = below(2) ? from - 20 + below(40) : 100 + below(200);
        for (unsigned i = 0; i < ROOM; i++) {
            want[i] = got[i] = (uint8_t)below(256);
        }
        for (unsigned i = 0; i < n; i++) {
            unsigned at = (down ? n - 1 - i : i) * size;
            memmove(want + to + at, want + from + at, size);
        }
        bulk_copy(got + to, got + from, size, n, down);
        assert_memory_equal(want, got, ROOM);
    }
}

static void fills(void **state)
{
    uint8_t want[ROOM], got[ROOM];
    for (unsigned k = 0; k < TRIES; k++) {
        unsigned size = any_size(), n = 1 + below(ROOM / size / 2), to = below(100);
        uint64_t v = below(2) ? 0x0101010101010101u * below(256) : rng;
        memset(want, 0xee, ROOM);
        memset(got, 0xee, ROOM);
        for (unsigned i = 0; i < n; i++) {
            memcpy(want + to + i * size, &v, size);
        }
        bulk_fill(got + to, v, size, n);
        assert_memory_equal(want, got, ROOM);
    }
}

static uint64_t scan_slowly(const struct bulk_scan *s, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = (s->down ? n - 1 - i : i) * s->size;
        const uint8_t *a = s->a ? s->a + at : (const uint8_t *)&s->v;
        if ((memcmp(a, s->b + at, s->size) == 0) == s->equal) {
            return i + 1;
        }
    }
    return n;
}

static void scans(void **state)
{
    uint8_t a[ROOM], b[ROOM];
    for (unsigned k = 0; k < TRIES; k++) {
        struct bulk_scan s = {.size = any_size(), .down = below(2), .equal = below(2)};
        uint64_t n = 1 + below(below(2) ? 8 : ROOM / s.size - 16);
        any_bytes(a);
        any_bytes(b);
        s.a = below(2) ? a + below(8) : NULL;
        s.b = b + below(8);
        if (s.a && below(2)) {
            memcpy(b, a, ROOM);
            s.b = b + (s.a - a);
            b[below(ROOM)] ^= (uint8_t)below(256);
        } else if (below(2)) {
            memset(b, a[0], ROOM);
            b[below(ROOM)] ^= (uint8_t)below(256);
        }
        memcpy(&s.v, below(2) ? a : b, 8);
        assert_int_equal(bulk_scan(&s, n), scan_slowly(&s, n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),
        cmocka_unit_test(fills),
        cmocka_unit_test(scans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
