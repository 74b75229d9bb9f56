/* What the controller says of itself: Identify (NVMe 1.4 5.15) and Get Log Page (5.14). */
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "dev/nvme/nvme_internal.h"

enum {
    CDW10 = 40,
    CDW11 = 44,
    CDW12 = 48,
    NSID = 4,
    LOG_ERRORS = 1,
    LOG_HEALTH = 2,
    LOG_FIRMWARE = 3,
    LOG_BYTES = 512,
    LOG_ERROR_BYTES = 64,
    KELVIN_30_C = 303,
};

static void put_text(uint8_t *at, const char *text, unsigned width)
{
    size_t n = strnlen(text, width);
    memset(at, ' ', width);
    memcpy(at, text, n);
}

/* ---- Identify ---- */

static void identify_controller(const struct nvme *n, uint8_t *b)
{
    store_le16(b + 0, NVME_VENDOR);
    store_le16(b + 2, 0x1af4);
    put_text(b + 4, n->serial, 20);
    put_text(b + 24, "Lodge NVMe", 40);
    put_text(b + 64, "1.0", 8);
    b[72] = 6; /* recommended arbitration burst */
    b[77] = NVME_MDTS;
    store_le32(b + 80, NVME_VERSION);
    b[111] = 1; /* an I/O controller */
    b[258] = 3; /* aborts at a time, less one */
    b[259] = NVME_AERS - 1;
    b[260] = 3; /* one firmware slot, read only */
    store_le16(b + 266, 0x157);
    store_le16(b + 268, 0x175);
    b[512] = 0x66;
    b[513] = 0x44;
    store_le32(b + 516, 1);    /* namespaces */
    store_le16(b + 520, 0x0d); /* Compare, Dataset Management, Write Zeroes */
    b[525] = 7;                /* a volatile cache; Flush for all namespaces */
    snprintf((char *)b + 768, 256, "nqn.2014.08.org.nvmexpress:%04x%04x%-20.20s%-40s", NVME_VENDOR,
             0x1af4, n->serial, "Lodge NVMe");
    store_le16(b + 2048, 2500); /* the power state: 25 W */
    store_le32(b + 2048 + 4, 16);
    store_le32(b + 2048 + 8, 4);
}

static void identify_namespace(const struct nvme *n, uint8_t *b)
{
    uint64_t blocks = disk_size(&n->disk) / NVME_LBA;
    store_le64(b + 0, blocks);
    store_le64(b + 8, blocks);
    store_le64(b + 16, blocks);
    b[99] = disk_readonly(&n->disk); /* NSATTR: write protected */
    b[128 + 2] = 9;                  /* format 0: 512 bytes, no metadata */
}

/* The same for the same serial number at every start: RFC 4122's shape, version 4. */
static void make_uuid(const char *serial, uint8_t *uuid)
{
    uint64_t h[2] = {0xcbf29ce484222325, 0x84222325cbf29ce4};
    for (const char *p = serial; *p; p++) {
        for (unsigned i = 0; i < 2; i++) {
            h[i] = (h[i] ^ (uint8_t)*p) * 0x100000001b3;
        }
    }
    store_be64(uuid, h[0]);
    store_be64(uuid + 8, h[1]);
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

static void identify_descriptors(const struct nvme *n, uint8_t *b)
{
    b[0] = 3; /* a UUID */
    b[1] = 16;
    make_uuid(n->serial, b + 4);
}

uint16_t nvme_identify(struct nvme_req *r)
{
    const struct nvme *n = r->n;
    uint32_t nsid = load_le32(r->cmd + NSID);
    uint8_t *b = r->small;
    memset(b, 0, NVME_PAGE);
    switch (load_le32(r->cmd + CDW10) & 0xff) {
    case 0:
        if (!nsid || (nsid > 1 && nsid != UINT32_MAX)) {
            return SC_INVALID_NAMESPACE;
        }
        identify_namespace(n, b);
        break;
    case 1: identify_controller(n, b); break;
    case 2:
        if (nsid >= UINT32_MAX - 1) {
            return SC_INVALID_NAMESPACE;
        }
        store_le32(b, nsid ? 0 : 1);
        break;
    case 3:
        if (nsid != 1) {
            return SC_INVALID_NAMESPACE;
        }
        identify_descriptors(n, b);
        break;
    default: return SC_INVALID_FIELD;
    }
    return nvme_reply(r, NVME_PAGE);
}

/* ---- Logs ---- */

/* 5.14.1.2 */
static void log_health(const struct nvme *n, uint8_t *b)
{
    store_le16(b + 1, KELVIN_30_C);
    b[3] = 100; /* spare */
    b[4] = 10;
    store_le64(b + 32, n->read_units / 1000 + (n->read_units % 1000 != 0));
    store_le64(b + 48, n->written_units / 1000 + (n->written_units % 1000 != 0));
    store_le64(b + 64, n->reads);
    store_le64(b + 80, n->writes);
}

static void log_firmware(uint8_t *b)
{
    b[0] = 1; /* active slot */
    put_text(b + 8, "1.0", 8);
}

uint16_t nvme_get_log(struct nvme_req *r)
{
    uint32_t dw10 = load_le32(r->cmd + CDW10);
    uint64_t words = (dw10 >> 16) + ((uint64_t)(load_le32(r->cmd + CDW11) & 0xffff) << 16) + 1;
    uint64_t skip = load_le64(r->cmd + CDW12), len = LOG_BYTES;
    uint8_t *b = r->small;
    memset(b, 0, LOG_BYTES);
    switch (dw10 & 0xff) {
    case LOG_ERRORS: len = LOG_ERROR_BYTES; break;
    case LOG_HEALTH: log_health(r->n, b); break;
    case LOG_FIRMWARE: log_firmware(b); break;
    default: return SC_BAD_LOG;
    }
    if (skip >= len || (skip & 3)) {
        return SC_INVALID_FIELD;
    }
    len -= skip;
    len = words * 4 < len ? words * 4 : len;
    memmove(b, b + skip, len);
    return nvme_reply(r, (uint32_t)len);
}
