/*
 * Compressed clusters (spec "Compressed Clusters Descriptor"): raw deflate and zstd, in memory.
 * What comes out is exactly one cluster and never more memory than that. Deflate is libdeflate's
 * where there is one; what that refuses - streams that go on behind the cluster - zlib gets to see.
 * Deflate is decoded in one go, so any window is fine; other readers do the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "block/qcow2/deflate.h"
#include "block/qcow2/internal.h"

/* Level 1: 1.7 times as fast as 3 for a twentieth more bytes (docs/decisions/025). */
enum { ZSTD_LEVEL = 1, ZSTD_WINDOW_LOG = 22 };

/* Made when first used, used again afterwards: making one costs more than a cluster. */
struct qcow2_codec {
    struct deflate *deflate;
    ZSTD_CCtx *zc;
    ZSTD_DCtx *zd;
    struct qcow2_codec *next;
};

void qcow2_codec_init(struct qcow2 *s)
{
    pthread_mutex_init(&s->codec_lock, NULL);
}

struct qcow2_codec *qcow2_codec_take(struct qcow2 *s)
{
    AUTO_LOCK(&s->codec_lock);
    struct qcow2_codec *c = s->codecs;
    if (!c) {
        return alloc_zero(sizeof(*c));
    }
    s->codecs = c->next;
    return c;
}

void qcow2_codec_give(struct qcow2 *s, struct qcow2_codec *c)
{
    AUTO_LOCK(&s->codec_lock);
    c->next = s->codecs;
    s->codecs = c;
}

void *qcow2_buffer_take(struct qcow2 *s)
{
    return s->buffer_count ? s->buffers[--s->buffer_count] : block_alloc(s->cluster_size * 2ull);
}

void qcow2_buffer_give(struct qcow2 *s, void *buf)
{
    if (buf && s->buffer_count < QCOW2_BUFFERS) {
        s->buffers[s->buffer_count++] = buf;
    } else {
        free(buf);
    }
}

void qcow2_codec_free_all(struct qcow2 *s)
{
    while (s->codecs) {
        struct qcow2_codec *c = s->codecs;
        s->codecs = c->next;
        deflate_free(c->deflate);
        ZSTD_freeCCtx(c->zc);
        ZSTD_freeDCtx(c->zd);
        free(c);
    }
    while (s->buffer_count) {
        free(s->buffers[--s->buffer_count]);
    }
    pthread_mutex_destroy(&s->codec_lock);
}

static int zstd_compress(struct qcow2_codec *c, const void *in, size_t len, void *out, size_t room)
{
    c->zc = c->zc ? c->zc : ZSTD_createCCtx();
    if (!c->zc) {
        return -ENOMEM;
    }
    size_t n = ZSTD_compressCCtx(c->zc, out, room, in, len, ZSTD_LEVEL);
    return ZSTD_isError(n) ? 0 : (int)n;
}

/* By the stream interface: whatever follows the frame does not matter. */
static int zstd_decompress(struct qcow2_codec *c, const void *in, size_t in_len, void *out,
                           size_t len)
{
    if (!c->zd) {
        c->zd = ZSTD_createDCtx();
        if (!c->zd ||
            ZSTD_isError(ZSTD_DCtx_setParameter(c->zd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG))) {
            return -ENOMEM;
        }
    }
    ZSTD_DCtx_reset(c->zd, ZSTD_reset_session_only);
    ZSTD_inBuffer i = {in, in_len, 0};
    ZSTD_outBuffer o = {out, len, 0};
    while (o.pos < len) {
        size_t was_in = i.pos, was_out = o.pos;
        size_t n = ZSTD_decompressStream(c->zd, &o, &i);
        if (ZSTD_isError(n) || (i.pos == was_in && o.pos == was_out)) {
            return -EIO;
        }
    }
    return 0;
}

int qcow2_compress(struct qcow2_codec *c, unsigned type, const void *in, size_t len, void *out,
                   size_t room)
{
    if (type == 1) {
        return zstd_compress(c, in, len, out, room);
    }
    c->deflate = c->deflate ? c->deflate : deflate_new();
    return c->deflate ? deflate_compress(c->deflate, in, len, out, room) : -ENOMEM;
}

/* Decodes what there is; a stream that has not ended at the end of the cluster is fine. */
static int zlib_decompress(const void *in, size_t in_len, void *out, size_t len)
{
    z_stream z = {
        .next_in = (void *)in, .avail_in = (uInt)in_len, .next_out = out, .avail_out = (uInt)len};
    if (inflateInit2(&z, -15) != Z_OK) {
        return -ENOMEM;
    }
    int ret = inflate(&z, Z_FINISH);
    bool whole = (ret == Z_STREAM_END || ret == Z_BUF_ERROR || ret == Z_OK) && !z.avail_out;
    inflateEnd(&z);
    return whole ? 0 : -EIO;
}

int qcow2_decompress(struct qcow2_codec *c, unsigned type, const void *in, size_t in_len, void *out,
                     size_t len)
{
    if (type == 1) {
        return zstd_decompress(c, in, in_len, out, len);
    }
    c->deflate = c->deflate ? c->deflate : deflate_new();
    if (c->deflate && deflate_decompress(c->deflate, in, in_len, out, len)) {
        return 0;
    }
    return zlib_decompress(in, in_len, out, len);
}
