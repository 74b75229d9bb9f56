/* Aborting allocations. */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *alloc_check(void *p)
{
    if (!p) {
        abort();
    }
    return p;
}

void *alloc_zero(size_t size)
{
    return alloc_check(calloc(1, size ? size : 1));
}

void *alloc_array(size_t count, size_t size)
{
    return alloc_check(calloc(count ? count : 1, size ? size : 1));
}

void *alloc_resize(void *old, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        abort();
    }
    return alloc_check(realloc(old, total ? total : 1));
}

void alloc_touch(void *at, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    uintptr_t in_page = (uintptr_t)at & 4095;
    madvise((char *)at - in_page, size + in_page, MADV_POPULATE_WRITE);
#endif
}

char *alloc_text(const char *text)
{
    return text ? alloc_check(strdup(text)) : NULL;
}

char *alloc_printf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        abort();
    }
    va_end(ap);
    return text;
}
