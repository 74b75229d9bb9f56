/* Scatter lists: see ata_sg.h. Each entry is read from guest memory once, when it is come to. */
#include "dev/ata/ata_sg.h"

#include <errno.h>

/* Makes the entry at hand one with bytes left. */
static int sg_next(struct ata_sg *sg)
{
    while (!sg->len) {
        if (sg->last || sg->index >= sg->count) {
            return -ENOBUFS;
        }
        if (!sg->entry(sg, sg->index, &sg->gpa, &sg->len, &sg->last)) {
            return -EFAULT;
        }
        sg->index++;
    }
    return 0;
}

static void sg_advance(struct ata_sg *sg, uint32_t n)
{
    sg->gpa += n;
    sg->len -= n;
}

int ata_sg_copy(struct ata_sg *sg, uint8_t *buf, uint64_t len, bool to_guest, uint64_t *done)
{
    while (len) {
        int ret = sg_next(sg);
        if (ret) {
            return ret;
        }
        uint32_t n = len < sg->len ? (uint32_t)len : sg->len;
        if (to_guest ? !gmem_write(sg->mem, sg->gpa, buf, n)
                     : !gmem_read(sg->mem, sg->gpa, buf, n)) {
            return -EFAULT;
        }
        sg_advance(sg, n);
        buf += n;
        len -= n;
        *done += n;
    }
    return 0;
}

bool ata_sg_map(struct ata_sg *sg, uint64_t len, struct ata_sg_spans *spans)
{
    spans->n = 0;
    while (len) {
        if (spans->n == SG_SPANS || sg_next(sg)) {
            return false;
        }
        struct gmem_span *s = &spans->span[spans->n];
        if (!gmem_span(sg->mem, sg->gpa, len < sg->len ? len : sg->len, s)) {
            return false;
        }
        spans->iov[spans->n++] = (struct iovec){s->host, s->len};
        sg_advance(sg, (uint32_t)s->len);
        len -= s->len;
    }
    return true;
}

void ata_sg_wrote(const struct ata_sg_spans *spans)
{
    for (unsigned i = 0; i < spans->n; i++) {
        gmem_wrote(&spans->span[i]);
    }
}

bool ata_sg_ended(const struct ata_sg *sg)
{
    return !sg->len && (sg->last || sg->index >= sg->count);
}
