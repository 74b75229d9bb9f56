/* Raw deflate with an object that is used again: libdeflate's or zlib's, whichever is built in. */
#ifndef BLOCK_QCOW2_DEFLATE_H
#define BLOCK_QCOW2_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

struct deflate;

struct deflate *deflate_new(void); /* NULL without memory */
void deflate_free(struct deflate *d);
/* Bytes; 0: does not fit in `room`. */
int deflate_compress(struct deflate *d, const void *in, size_t len, void *out, size_t room);
/* Exactly len bytes came out and the stream ended. */
bool deflate_decompress(struct deflate *d, const void *in, size_t in_len, void *out, size_t len);

#endif
