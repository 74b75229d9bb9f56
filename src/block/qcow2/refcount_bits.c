/*
 * Entries of refcount blocks (spec "Host cluster management"): 1, 2, 4, 8, 16, 32 or 64 bits,
 * big-endian; below a byte the first entry is in the lowest bits.
 */
#include "base/bits.h"
#include "base/endian.h"
#include "block/qcow2/internal.h"

uint64_t qcow2_count_load(const void *block, unsigned order, uint64_t i)
{
    const uint8_t *b = block;
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned shift = (unsigned)(i << order) & 7;
        return b[i << order >> 3] >> shift & mask_low(1u << order);
    }
    case 3: return b[i];
    case 4: return load_be16(b + i * 2);
    case 5: return load_be32(b + i * 4);
    default: return load_be64(b + i * 8);
    }
}

void qcow2_count_store(void *block, unsigned order, uint64_t i, uint64_t count)
{
    uint8_t *b = block;
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned shift = (unsigned)(i << order) & 7;
        uint8_t *at = b + (i << order >> 3), mask = (uint8_t)(mask_low(1u << order) << shift);
        *at = (uint8_t)((*at & ~mask) | (count << shift & mask));
        break;
    }
    case 3: b[i] = (uint8_t)count; break;
    case 4: store_be16(b + i * 2, (uint16_t)count); break;
    case 5: store_be32(b + i * 4, (uint32_t)count); break;
    default: store_be64(b + i * 8, count); break;
    }
}

uint64_t qcow2_count_find(const void *block, unsigned order, uint64_t i, uint64_t end, bool used)
{
    const uint8_t *b = block;
    unsigned in_word = 64u >> order; /* entries */
    while (i < end) {
        /* Whole words at once while they are all free. */
        if (used && !(i & (in_word - 1)) && end - i >= in_word) {
            uint64_t w;
            memcpy(&w, b + (i << order >> 3), 8);
            if (!w) {
                i += in_word;
                continue;
            }
        }
        if (!qcow2_count_load(b, order, i) != used) {
            return i;
        }
        i++;
    }
    return end;
}
