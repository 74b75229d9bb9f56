/* I/O commands: NVMe 1.4 clause 6. Reads and writes move straight between the image and the
 * guest's memory; Compare passes a bounded buffer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "block/block.h"
#include "dev/nvme/nvme_internal.h"

enum {
    NSID = 4,
    CDW10 = 40,
    CDW11 = 44,
    CDW12 = 48,
    CDW12_FUA = 1 << 30,
    CDW12_DEAC = 1 << 25,
    DSM_DEALLOCATE = 4,
    RANGE_BYTES = 16,
    COMPARE_BYTES = 64 << 10,
};

static uint32_t cdw(const struct nvme_req *r, unsigned at)
{
    return load_le32(r->cmd + at);
}

static uint16_t status_of(int ret, bool write)
{
    switch (-ret) {
    case 0: return SC_SUCCESS;
    case EROFS: return SC_PROTECTED;
    case ENOSPC: return SC_CAPACITY;
    case ENOMEM: return SC_INTERNAL;
    default: return write ? SC_WRITE_FAULT : SC_READ_ERROR;
    }
}

/* ---- Ranges ---- */

static bool range_ok(const struct nvme *n, uint64_t lba, uint64_t count)
{
    uint64_t all = disk_size(&n->disk) / NVME_LBA;
    return lba <= all && count <= all - lba;
}

/* Start and number of blocks (0's based) of most commands. */
static uint16_t take_range(struct nvme_req *r, bool write)
{
    uint64_t lba = load_le64(r->cmd + CDW10), count = (cdw(r, CDW12) & 0xffff) + 1;
    if (!range_ok(r->n, lba, count)) {
        return SC_LBA_RANGE;
    }
    if (write && disk_readonly(&r->n->disk)) {
        return SC_PROTECTED;
    }
    r->off = lba * NVME_LBA;
    r->len = count * NVME_LBA;
    return SC_SUCCESS;
}

static uint16_t take_data(struct nvme_req *r, bool write)
{
    uint16_t status = take_range(r, write);
    return status ? status : nvme_map(r, r->len);
}

/* ---- Jobs ---- */

uint16_t nvme_flush_work(struct nvme_req *r)
{
    return status_of(disk_io(&r->n->disk, DISK_FLUSH, 0, 0, NULL, 0), true);
}

static unsigned write_flags(const struct nvme_req *r)
{
    bool fua = cdw(r, CDW12) & CDW12_FUA;
    return fua || !__atomic_load_n(&r->n->feature[6], __ATOMIC_RELAXED) ? BLOCK_FUA : 0;
}

static uint16_t write_work(struct nvme_req *r)
{
    struct iovs q = iovs_of(r->iov, r->spans);
    return status_of(disk_io(&r->n->disk, DISK_WRITE, r->off, r->len, &q, write_flags(r)), true);
}

static uint16_t read_work(struct nvme_req *r)
{
    struct iovs q = iovs_of(r->iov, r->spans);
    int ret = disk_io(&r->n->disk, DISK_READ, r->off, r->len, &q, 0);
    nvme_wrote(r);
    return status_of(ret, false);
}

static uint16_t zero_work(struct nvme_req *r)
{
    unsigned flags = (cdw(r, CDW12) & CDW12_DEAC ? BLOCK_MAY_UNMAP : 0) | write_flags(r);
    return status_of(disk_io(&r->n->disk, DISK_ZERO, r->off, r->len, NULL, flags), true);
}

static uint16_t compare_work(struct nvme_req *r)
{
    struct iovs q = iovs_of(r->iov, r->spans);
    uint8_t *ours = block_alloc(COMPARE_BYTES), *theirs = block_alloc(COMPARE_BYTES);
    uint16_t status = ours && theirs ? SC_SUCCESS : SC_INTERNAL;
    for (uint64_t at = 0; !status && at < r->len; at += COMPARE_BYTES) {
        uint64_t left = r->len - at;
        uint32_t n = left < COMPARE_BYTES ? (uint32_t)left : COMPARE_BYTES;
        status = status_of(disk_read(&r->n->disk, r->off + at, ours, n), false);
        iovs_get(&q, at, theirs, n);
        status = !status && memcmp(ours, theirs, n) ? SC_COMPARE : status;
    }
    free(ours);
    free(theirs);
    return status;
}

static uint16_t deallocate_work(struct nvme_req *r)
{
    uint16_t status = SC_SUCCESS;
    for (uint64_t at = 0; !status && at < r->len; at += RANGE_BYTES) {
        uint64_t count = load_le32(r->small + at + 4), lba = load_le64(r->small + at + 8);
        status = count ? status_of(disk_io(&r->n->disk, DISK_DISCARD, lba * NVME_LBA,
                                           count * NVME_LBA, NULL, 0),
                                   true)
                       : status;
    }
    return status;
}

/* ---- Commands ---- */

static uint16_t start(struct nvme_req *r, uint16_t status, uint16_t (*work)(struct nvme_req *))
{
    if (status) {
        return status;
    }
    nvme_start(r, work);
    return SC_PENDING;
}

static uint16_t cmd_flush(struct nvme_req *r)
{
    return start(r, SC_SUCCESS, nvme_flush_work);
}

static uint16_t cmd_write(struct nvme_req *r)
{
    uint16_t status = take_data(r, true);
    r->n->writes += !status;
    r->n->written_units += status ? 0 : r->len / NVME_LBA;
    return start(r, status, write_work);
}

static uint16_t cmd_read(struct nvme_req *r)
{
    uint16_t status = take_data(r, false);
    r->n->reads += !status;
    r->n->read_units += status ? 0 : r->len / NVME_LBA;
    return start(r, status, read_work);
}

static uint16_t cmd_compare(struct nvme_req *r)
{
    return start(r, take_data(r, false), compare_work);
}

static uint16_t cmd_write_zeroes(struct nvme_req *r)
{
    return start(r, take_range(r, true), zero_work);
}

/* The list is looked at as a whole before anything is done. Without AD all of it is a hint. */
static uint16_t cmd_dataset(struct nvme_req *r)
{
    r->len = (uint64_t)((cdw(r, CDW10) & 0xff) + 1) * RANGE_BYTES;
    uint16_t status = nvme_map(r, r->len);
    if (status || !(cdw(r, CDW11) & DSM_DEALLOCATE)) {
        return status;
    }
    struct iovs q = iovs_of(r->iov, r->spans);
    iovs_get(&q, 0, r->small, r->len);
    for (uint64_t at = 0; at < r->len; at += RANGE_BYTES) {
        if (!range_ok(r->n, load_le64(r->small + at + 8), load_le32(r->small + at + 4))) {
            return SC_LBA_RANGE;
        }
    }
    return start(r, disk_readonly(&r->n->disk) ? SC_PROTECTED : SC_SUCCESS, deallocate_work);
}

static const struct {
    uint8_t code;
    bool all_namespaces; /* FFFFFFFFh is allowed */
    uint16_t (*fn)(struct nvme_req *);
} commands[] = {
    {0x00, true, cmd_flush},    {0x01, false, cmd_write},        {0x02, false, cmd_read},
    {0x05, false, cmd_compare}, {0x08, false, cmd_write_zeroes}, {0x09, false, cmd_dataset},
};

uint16_t nvme_io(struct nvme_req *r)
{
    uint32_t nsid = load_le32(r->cmd + NSID);
    if (r->cmd[1] & 0xc3) { /* fused, or a scatter list */
        return SC_INVALID_FIELD;
    }
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i].code == r->cmd[0]) {
            bool ok = nsid == 1 || (nsid == UINT32_MAX && commands[i].all_namespaces);
            return ok ? commands[i].fn(r) : SC_INVALID_NAMESPACE;
        }
    }
    return SC_INVALID_OPCODE;
}
