/*
 * Physical region pages: NVMe 1.4 4.3. A command moves at most NVME_MAX_BYTES, so that the number
 * of entries, of lists and of spans is bounded. Entries are read from guest memory once.
 */
#include <string.h>

#include "base/endian.h"
#include "block/iovs.h"
#include "dev/nvme/nvme_internal.h"

enum { PRP1 = 24, PRP2 = 32, ENTRY = 8, PER_PAGE = NVME_PAGE / ENTRY, MAX_LISTS = 4 };

/* Bytes that follow one another are one vector, also over a page's end. */
static bool prp_add(struct nvme_req *r, struct mem_map *mem, gpa_t at, uint64_t len)
{
    while (len) {
        struct gmem_span s;
        if (!gmem_span(mem, at, len, &s)) {
            return false;
        }
        struct gmem_span *last = r->spans ? &r->span[r->spans - 1] : NULL;
        if (last && last->ram == s.ram && last->host + last->len == s.host) {
            last->len += s.len;
        } else if (r->spans < NVME_MAX_SPANS) {
            r->span[r->spans++] = s;
        } else {
            return false;
        }
        at += s.len;
        len -= s.len;
    }
    return true;
}

static uint64_t page_part(uint64_t left)
{
    return left < NVME_PAGE ? left : NVME_PAGE;
}

static uint16_t prp_list(struct nvme_req *r, struct mem_map *mem, gpa_t list, uint64_t left)
{
    uint8_t entries[NVME_PAGE];
    if (list & (ENTRY - 1)) {
        return SC_PRP_OFFSET;
    }
    for (unsigned lists = 0; left && lists < MAX_LISTS; lists++) {
        unsigned room = (NVME_PAGE - (unsigned)(list & (NVME_PAGE - 1))) / ENTRY;
        uint64_t need = (left + NVME_PAGE - 1) / NVME_PAGE;
        unsigned count = need < room ? (unsigned)need : room;
        bool more = need > room; /* the last entry is where the list goes on */
        if (!gmem_read(mem, list, entries, (uint64_t)count * ENTRY)) {
            return SC_DATA_TRANSFER;
        }
        for (unsigned i = 0; i < count - more; i++) {
            gpa_t at = load_le64(entries + (size_t)i * ENTRY);
            if (at & (NVME_PAGE - 1)) {
                return SC_PRP_OFFSET;
            }
            if (!prp_add(r, mem, at, page_part(left))) {
                return SC_DATA_TRANSFER;
            }
            left -= page_part(left);
        }
        list = load_le64(entries + (size_t)(count - 1) * ENTRY);
        if (more && (list & (NVME_PAGE - 1))) {
            return SC_PRP_OFFSET;
        }
    }
    return left ? SC_INVALID_FIELD : SC_SUCCESS;
}

static uint16_t prp_walk(struct nvme_req *r, struct mem_map *mem, uint64_t len)
{
    gpa_t first = load_le64(r->cmd + PRP1), second = load_le64(r->cmd + PRP2);
    uint64_t part = NVME_PAGE - (first & (NVME_PAGE - 1));
    part = len < part ? len : part;
    if (first & 3) {
        return SC_PRP_OFFSET;
    }
    if (!prp_add(r, mem, first, part)) {
        return SC_DATA_TRANSFER;
    }
    uint64_t left = len - part;
    if (!left) {
        return SC_SUCCESS;
    }
    if (left > NVME_PAGE) {
        return prp_list(r, mem, second, left);
    }
    if (second & (NVME_PAGE - 1)) {
        return SC_PRP_OFFSET;
    }
    return prp_add(r, mem, second, left) ? SC_SUCCESS : SC_DATA_TRANSFER;
}

uint16_t nvme_map(struct nvme_req *r, uint64_t len)
{
    struct mem_map *mem = r->n->wires->dma(r->n->opaque);
    r->spans = 0;
    if (!mem) {
        return SC_DATA_TRANSFER;
    }
    if (len > NVME_MAX_BYTES) {
        return SC_INVALID_FIELD;
    }
    uint16_t status = prp_walk(r, mem, len);
    for (unsigned i = 0; i < r->spans; i++) {
        r->iov[i] = (struct iovec){r->span[i].host, r->span[i].len};
    }
    return status;
}

void nvme_wrote(struct nvme_req *r)
{
    for (unsigned i = 0; i < r->spans; i++) {
        gmem_wrote(&r->span[i]);
    }
}

uint16_t nvme_reply(struct nvme_req *r, uint32_t len)
{
    uint16_t status = nvme_map(r, len);
    if (!status) {
        struct iovs q = iovs_of(r->iov, r->spans);
        iovs_put(&q, 0, r->small, len);
        nvme_wrote(r);
    }
    return status;
}
