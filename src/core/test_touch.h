/* For tests: a device that counts how often it is read or written; `opaque` is the counter. */
#ifndef CORE_TEST_TOUCH_H
#define CORE_TEST_TOUCH_H

#include "core/mem.h"

static inline enum mem_result test_touch_read(void *opaque, uint64_t off, unsigned size,
                                              uint64_t *val)
{
    ++*(unsigned *)opaque;
    *val = 0;
    return MEM_OK;
}

static inline enum mem_result test_touch_write(void *opaque, uint64_t off, unsigned size,
                                               uint64_t val)
{
    ++*(unsigned *)opaque;
    return MEM_OK;
}

static const struct mmio test_touch = {test_touch_read, test_touch_write, 1, 8};

#endif
