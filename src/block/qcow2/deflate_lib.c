/* Raw deflate by libdeflate. */
#include <libdeflate.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "block/qcow2/deflate.h"

enum { LEVEL = 6 };

struct deflate {
    struct libdeflate_compressor *c;
    struct libdeflate_decompressor *d;
};

struct deflate *deflate_new(void)
{
    return alloc_zero(sizeof(struct deflate));
}

void deflate_free(struct deflate *d)
{
    if (d) {
        libdeflate_free_compressor(d->c);
        libdeflate_free_decompressor(d->d);
        free(d);
    }
}

int deflate_compress(struct deflate *d, const void *in, size_t len, void *out, size_t room)
{
    d->c = d->c ? d->c : libdeflate_alloc_compressor(LEVEL);
    return d->c ? (int)libdeflate_deflate_compress(d->c, in, len, out, room) : 0;
}

bool deflate_decompress(struct deflate *d, const void *in, size_t in_len, void *out, size_t len)
{
    size_t used, got;
    d->d = d->d ? d->d : libdeflate_alloc_decompressor();
    return d->d &&
           libdeflate_deflate_decompress_ex(d->d, in, in_len, out, len, &used, &got) ==
               LIBDEFLATE_SUCCESS &&
           got == len;
}
