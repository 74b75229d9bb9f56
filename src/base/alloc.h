/* Small allocations of known size: abort without memory. Sizes a guest or a file chose go
 * through calloc() and are checked. */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>

void *alloc_zero(size_t size);
void *alloc_array(size_t count, size_t size);             /* zeroed */
void *alloc_resize(void *old, size_t count, size_t size); /* new part is not zeroed */
/* Pages of new memory that will be written: one call instead of a fault for each. A hint. */
void alloc_touch(void *at, size_t size);
char *alloc_text(const char *text); /* NULL stays NULL */
char *alloc_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
