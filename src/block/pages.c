/* Pages of tables, the ones used last. */
#include "block/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "block/block.h"

void pages_free(struct pages *p)
{
    for (unsigned i = 0; i < PAGES_KEPT; i++) {
        free(p->kept[i].bytes);
    }
}

static struct page *page_find(struct pages *p, uint64_t number)
{
    for (unsigned i = 0; i < PAGES_KEPT; i++) {
        if (p->kept[i].used && p->kept[i].number == number) {
            return &p->kept[i];
        }
    }
    return NULL;
}

static int page_load(struct pages *p, uint64_t number, struct page **out)
{
    struct page *oldest = &p->kept[0];
    for (unsigned i = 1; i < PAGES_KEPT; i++) {
        oldest = p->kept[i].used < oldest->used ? &p->kept[i] : oldest;
    }
    oldest->used = 0;
    oldest->bytes = oldest->bytes ? oldest->bytes : malloc(PAGE_BYTES);
    if (!oldest->bytes) {
        return -ENOMEM;
    }
    uint64_t at = number * PAGE_BYTES, size = block_size(p->file);
    size_t there = at >= size ? 0 : size - at < PAGE_BYTES ? size - at : PAGE_BYTES;
    memset(oldest->bytes + there, 0, PAGE_BYTES - there);
    oldest->number = number;
    *out = oldest;
    return there ? block_pread(p->file, at, oldest->bytes, there) : 0;
}

int pages_read(struct pages *p, uint64_t off, void *buf, unsigned len)
{
    int ret = 0;
    co_lock(&p->lock);
    for (unsigned done = 0; !ret && done < len;) {
        unsigned skip = (unsigned)((off + done) % PAGE_BYTES), n = PAGE_BYTES - skip;
        uint64_t number = (off + done) / PAGE_BYTES;
        struct page *page = page_find(p, number);
        n = n < len - done ? n : len - done;
        ret = page ? 0 : page_load(p, number, &page);
        if (!ret) {
            page->used = ++p->clock;
            memcpy((uint8_t *)buf + done, page->bytes + skip, n);
        }
        done += n;
    }
    co_unlock(&p->lock);
    return ret;
}

int pages_write(struct pages *p, uint64_t off, const void *buf, unsigned len)
{
    co_lock(&p->lock);
    int ret = block_pwrite(p->file, off, buf, len, 0);
    for (unsigned done = 0; !ret && done < len; done++) {
        struct page *page = page_find(p, (off + done) / PAGE_BYTES);
        if (page) {
            page->bytes[(off + done) % PAGE_BYTES] = ((const uint8_t *)buf)[done];
        }
    }
    co_unlock(&p->lock);
    return ret;
}

int pages_le32(struct pages *p, uint64_t off, uint32_t *val)
{
    uint8_t raw[4] = {0};
    int ret = pages_read(p, off, raw, 4);
    *val = load_le32(raw);
    return ret;
}

int pages_le64(struct pages *p, uint64_t off, uint64_t *val)
{
    uint8_t raw[8] = {0};
    int ret = pages_read(p, off, raw, 8);
    *val = load_le64(raw);
    return ret;
}

int pages_be32(struct pages *p, uint64_t off, uint32_t *val)
{
    uint8_t raw[4] = {0};
    int ret = pages_read(p, off, raw, 4);
    *val = load_be32(raw);
    return ret;
}
