/* Vital product data: INQUIRY with EVPD. SPC-4 7.8, SBC-3 6.6. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/scsi/scsi_internal.h"

enum { MAX_UNMAP_BLOCKS = 1 << 21, MAX_UNMAP_RANGES = 255 };

/* 80: unit serial number */
static unsigned vpd_serial(struct scsi_lu *lu, uint8_t *b)
{
    const char *serial = lu->serial ? lu->serial : "";
    size_t n = strnlen(serial, 36);
    memcpy(b, serial, n);
    return (unsigned)n;
}

static unsigned vpd_designator(uint8_t *b, uint8_t code_set, uint8_t type, unsigned len)
{
    b[0] = code_set;
    b[1] = type;
    b[3] = (uint8_t)len;
    return 4 + len;
}

/* 83: identification: vendor and serial as text; the NAA name if there is one */
static unsigned vpd_identification(struct scsi_lu *lu, uint8_t *b)
{
    unsigned len = 0;
    if (lu->serial && *lu->serial) {
        char text[48];
        int n = snprintf(text, sizeof(text), "%-8.8s%.36s", lu->vendor ? lu->vendor : "LODGE",
                         lu->serial);
        memcpy(b + 4, text, (size_t)n);
        len += vpd_designator(b, 2, 1, (unsigned)n);
    }
    if (lu->wwn) {
        store_be64(b + len + 4, lu->wwn);
        len += vpd_designator(b + len, 1, 3, 8);
    }
    return len;
}

/* B0: block limits */
static unsigned vpd_limits(struct scsi_lu *lu, uint8_t *b)
{
    b[1] = 0; /* no COMPARE AND WRITE */
    store_be16(b + 2, (uint16_t)(1u << lu->physical_exp));
    store_be32(b + 16, MAX_UNMAP_BLOCKS);
    store_be32(b + 20, MAX_UNMAP_RANGES);
    store_be32(b + 24, 1u << lu->physical_exp);
    store_be64(b + 32, MAX_UNMAP_BLOCKS); /* WRITE SAME */
    return 60;
}

/* B1: block device characteristics */
static unsigned vpd_characteristics(struct scsi_lu *lu, uint8_t *b)
{
    store_be16(b, lu->rotation_rate);
    return 60;
}

/* B2: logical block provisioning: UNMAP, WRITE SAME (16) and (10) unmap; thin */
static unsigned vpd_provisioning(struct scsi_lu *lu, uint8_t *b)
{
    b[1] = 0xe0;
    b[2] = 2;
    return 4;
}

static unsigned vpd_list(struct scsi_lu *lu, uint8_t *b);

struct vpd {
    uint8_t code;
    bool disk_only;
    unsigned (*put)(struct scsi_lu *, uint8_t *);
};

static const struct vpd vpds[] = {
    {0x00, false, vpd_list},  {0x80, false, vpd_serial},         {0x83, false, vpd_identification},
    {0xb0, true, vpd_limits}, {0xb1, true, vpd_characteristics}, {0xb2, true, vpd_provisioning},
};

static bool vpd_has(const struct scsi_lu *lu, const struct vpd *v)
{
    return !(v->disk_only && lu->type->device_type) && (v->code != 0x80 || lu->serial);
}

static unsigned vpd_list(struct scsi_lu *lu, uint8_t *b)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(vpds); i++) {
        if (vpd_has(lu, &vpds[i])) {
            b[n++] = vpds[i].code;
        }
    }
    return n;
}

unsigned scsi_vpd_page(struct scsi_lu *lu, uint8_t page, uint8_t *buf)
{
    for (unsigned i = 0; i < ARRAY_LEN(vpds); i++) {
        if (vpds[i].code == page && vpd_has(lu, &vpds[i])) {
            unsigned len = vpds[i].put(lu, buf + 4);
            buf[0] = lu->type->device_type;
            buf[1] = page;
            store_be16(buf + 2, (uint16_t)len);
            return 4 + len;
        }
    }
    return 0;
}
