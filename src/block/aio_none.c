/* Without liburing. */
#include <errno.h>
#include <stddef.h>

#include "block/aio_internal.h"

struct uring *uring_new(struct loop *loop)
{
    return NULL;
}

void uring_free(struct uring *u)
{
}

ssize_t uring_do(struct uring *u, const struct aio_req *r)
{
    return -ENOSYS;
}
