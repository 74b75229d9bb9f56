/* Raw deflate by zlib. Decompressing is left to who does without an object. */
#include <stdlib.h>
#include <zlib.h>

#include "base/alloc.h"
#include "block/qcow2/deflate.h"

struct deflate {
    z_stream z;
};

struct deflate *deflate_new(void)
{
    struct deflate *d = alloc_zero(sizeof(*d));
    if (deflateInit2(&d->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        free(d);
        return NULL;
    }
    return d;
}

void deflate_free(struct deflate *d)
{
    if (d) {
        deflateEnd(&d->z);
        free(d);
    }
}

int deflate_compress(struct deflate *d, const void *in, size_t len, void *out, size_t room)
{
    deflateReset(&d->z);
    d->z.next_in = (void *)in;
    d->z.avail_in = (uInt)len;
    d->z.next_out = out;
    d->z.avail_out = (uInt)room;
    return deflate(&d->z, Z_FINISH) == Z_STREAM_END ? (int)(room - d->z.avail_out) : 0;
}

bool deflate_decompress(struct deflate *d, const void *in, size_t in_len, void *out, size_t len)
{
    return false;
}
