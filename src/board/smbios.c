/*
 * SMBIOS 2.8 (DMTF DSP0134): types 0 BIOS, 1 system, 3 chassis, 4 processor, 16 memory array, 17
 * memory device, 19 mapped address, 32 boot, 127 end. The maker is the name under which virtual
 * machines of this kind are known to guests. Does not do: other types, -smbios.
 */
#include "board/smbios.h"

#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "base/strbuf.h"
#include "dev/firmware/aml.h"
#include "dev/firmware/fw_cfg.h"

#define MAKER "QEMU"

enum {
    HEADER = 4,
    HANDLE_BIOS = 0x0000,
    HANDLE_SYSTEM = 0x0100,
    HANDLE_CHASSIS = 0x0300,
    HANDLE_CPU = 0x0400,
    HANDLE_MEMORY = 0x1000,
    HANDLE_DIMM = 0x1100,
    HANDLE_RANGE = 0x1300,
    HANDLE_BOOT = 0x2000,
    HANDLE_END = 0x7f00,
    UNKNOWN = 2,
    DIMM_MAX = 1 << 14, /* MiB of one device */
};

struct tables {
    struct strbuf sb;
    unsigned count;
    size_t largest;
};

/* One structure: `body` of `len` bytes behind the header, then its strings, NULL-terminated list.
 */
static void put(struct tables *t, uint8_t type, uint16_t handle, const uint8_t *body, size_t len,
                const char *const *texts)
{
    uint8_t head[HEADER] = {type, (uint8_t)(HEADER + len)};
    size_t before = t->sb.len;
    store_le16(head + 2, handle);
    strbuf_add_bytes(&t->sb, head, HEADER);
    strbuf_add_bytes(&t->sb, body, len);
    for (size_t i = 0; texts && texts[i]; i++) {
        strbuf_add_bytes(&t->sb, texts[i], strlen(texts[i]) + 1);
    }
    strbuf_add_bytes(&t->sb, "\0", texts ? 1 : 2);
    t->count++;
    t->largest = t->sb.len - before > t->largest ? t->sb.len - before : t->largest;
}

static void put_bios(struct tables *t)
{
    uint8_t b[0x18 - HEADER] = {1, 2, 0, 0xe8, 3, 0};
    b[0x12 - HEADER - 8] |= 8; /* characteristics: not supported */
    b[0x13 - HEADER] = 0x14;   /* virtual machine, targeted content distribution */
    memset(b + 0x14 - HEADER, 0xff, 4);
    put(t, 0, HANDLE_BIOS, b, sizeof(b), (const char *const[]){MAKER, "1.0", "04/01/2014", NULL});
}

/* 7.2.1: the first three fields of a UUID are little-endian. */
static void put_system(struct tables *t, const struct smbios_info *info)
{
    uint8_t b[0x1b - HEADER] = {1, 2, 3};
    uint8_t *u = b + 8 - HEADER;
    if (info->uuid) {
        memcpy(u, info->uuid, 16);
        store_le32(u, load_be32(info->uuid));
        store_le16(u + 4, load_be16(info->uuid + 4));
        store_le16(u + 6, load_be16(info->uuid + 6));
    }
    b[0x18 - HEADER] = 6; /* wake-up: power switch */
    put(t, 1, HANDLE_SYSTEM, b, sizeof(b),
        (const char *const[]){MAKER, info->product, info->version, NULL});
}

static void put_chassis(struct tables *t, const struct smbios_info *info)
{
    uint8_t b[0x16 - HEADER] = {1, 1, 2, 0, 0, 3, 3, 3, UNKNOWN};
    put(t, 3, HANDLE_CHASSIS, b, sizeof(b), (const char *const[]){MAKER, info->version, NULL});
}

static void put_cpu(struct tables *t, const struct smbios_info *info, unsigned n)
{
    uint8_t b[0x2a - HEADER] = {1, 3, 1, 2};
    char socket[16];
    snprintf(socket, sizeof(socket), "CPU %u", n);
    b[0x10 - HEADER] = 3;                /* version: third text */
    store_le16(b + 0x14 - HEADER, 2000); /* MHz */
    store_le16(b + 0x16 - HEADER, 2000);
    b[0x18 - HEADER] = 0x41;            /* populated, enabled */
    b[0x19 - HEADER] = 1;               /* other socket */
    memset(b + 0x1a - HEADER, 0xff, 6); /* no cache handles */
    b[0x23 - HEADER] = b[0x24 - HEADER] = (uint8_t)info->cores;
    b[0x25 - HEADER] = (uint8_t)(info->cores * info->threads);
    store_le16(b + (0x26 - HEADER), UNKNOWN);
    store_le16(b + (0x28 - HEADER), 1);
    put(t, 4, (uint16_t)(HANDLE_CPU + n), b, sizeof(b),
        (const char *const[]){socket, MAKER, info->version, NULL});
}

static void put_memory(struct tables *t, const struct smbios_info *info)
{
    uint64_t mb = info->ram_size >> 20, kb = info->ram_size >> 10;
    unsigned dimms = (unsigned)((mb + DIMM_MAX - 1) / DIMM_MAX);
    uint8_t a[0x17 - HEADER] = {1, 3, 6}; /* other place, system memory, multi-bit ECC */
    store_le32(a + 7 - HEADER, kb < 0x80000000u ? (uint32_t)kb : 0x80000000u);
    store_le16(a + 0x0b - HEADER, 0xfffe);
    store_le16(a + 0x0d - HEADER, (uint16_t)dimms);
    store_le64(a + 0x0f - HEADER, kb < 0x80000000u ? 0 : info->ram_size);
    put(t, 16, HANDLE_MEMORY, a, sizeof(a), NULL);
    for (unsigned i = 0; i < dimms; i++) {
        uint64_t part = mb - (uint64_t)i * DIMM_MAX;
        uint8_t d[0x28 - HEADER] = {0};
        char place[16];
        snprintf(place, sizeof(place), "DIMM %u", i);
        store_le16(d, HANDLE_MEMORY);
        store_le16(d + 2, 0xfffe);
        memset(d + 4, 0xff, 4); /* widths unknown */
        store_le16(d + 8, (uint16_t)(part < DIMM_MAX ? part : DIMM_MAX));
        d[0x0e - HEADER] = 9; /* DIMM */
        d[0x10 - HEADER] = 1; /* locator: first text */
        d[0x12 - HEADER] = 7; /* RAM */
        d[0x13 - HEADER] = 2;
        d[0x17 - HEADER] = 2; /* maker */
        put(t, 17, (uint16_t)(HANDLE_DIMM + i), d, sizeof(d),
            (const char *const[]){place, MAKER, NULL});
    }
    uint8_t r[0x1f - HEADER] = {0};
    store_le32(r + 4, kb - 1 < 0xffffffff ? (uint32_t)(kb - 1) : 0xffffffff);
    store_le16(r + 8, HANDLE_MEMORY);
    r[10] = (uint8_t)dimms;
    put(t, 19, HANDLE_RANGE, r, sizeof(r), NULL);
}

/* 5.2.1: the entry point; firmware fills in the address and mends the sums. */
static void make_anchor(const struct tables *t, uint8_t *a)
{
    memcpy(a, "_SM_", 4);
    a[5] = 0x1f;
    a[6] = 2;
    a[7] = 8;
    store_le16(a + 8, (uint16_t)t->largest);
    memcpy(a + 16, "_DMI_", 5);
    store_le16(a + 22, (uint16_t)t->sb.len);
    store_le16(a + 28, (uint16_t)t->count);
    a[30] = 0x28;
    a[21] = acpi_checksum(a + 16, 15);
    a[4] = acpi_checksum(a, 31);
}

int smbios_add(struct fw_cfg *f, const struct smbios_info *info, struct err *err)
{
    static const uint8_t boot[7] = {0};
    struct tables t = {.count = 0};
    put_bios(&t);
    put_system(&t, info);
    put_chassis(&t, info);
    unsigned per_socket = info->cores * info->threads;
    for (unsigned i = 0; i * per_socket < info->vcpus; i++) {
        put_cpu(&t, info, i);
    }
    put_memory(&t, info);
    put(&t, 32, HANDLE_BOOT, boot, sizeof(boot), NULL);
    put(&t, 127, HANDLE_END, NULL, 0, NULL);
    uint8_t anchor[31] = {0};
    make_anchor(&t, anchor);
    int ret = fw_cfg_add_file(f, "etc/smbios/smbios-tables", t.sb.text, t.sb.len, err);
    ret = ret ? ret : fw_cfg_add_file(f, "etc/smbios/smbios-anchor", anchor, sizeof(anchor), err);
    strbuf_free(&t.sb);
    return ret;
}
