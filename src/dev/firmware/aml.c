/*
 * ACPI tables and AML: ACPI 6.4 chapters 5.2.6 (table header), 6.4 (resource descriptors),
 * 20.2 (AML grammar).
 */
#include "dev/firmware/aml.h"

#include <assert.h>
#include <string.h>

#include "base/endian.h"

enum {
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
    PKG_LEN = 4, /* bytes of every package length we write */
};

void aml_u8(struct strbuf *sb, uint8_t v)
{
    strbuf_add_bytes(sb, &v, 1);
}

void aml_u16(struct strbuf *sb, uint16_t v)
{
    uint8_t b[2];
    store_le16(b, v);
    strbuf_add_bytes(sb, b, sizeof(b));
}

void aml_u32(struct strbuf *sb, uint32_t v)
{
    uint8_t b[4];
    store_le32(b, v);
    strbuf_add_bytes(sb, b, sizeof(b));
}

void aml_u64(struct strbuf *sb, uint64_t v)
{
    uint8_t b[8];
    store_le64(b, v);
    strbuf_add_bytes(sb, b, sizeof(b));
}

static void aml_path(struct strbuf *sb, const char *path)
{
    if (*path == '\\') {
        aml_u8(sb, '\\');
        path++;
    }
    assert(strlen(path) == 4);
    strbuf_add_bytes(sb, path, 4);
}

/* 20.2.4: two bits of count, four of length, then three more bytes; it counts itself. */
static size_t pkg_begin(struct strbuf *sb)
{
    static const uint8_t room[PKG_LEN];
    strbuf_add_bytes(sb, room, PKG_LEN);
    return sb->len - PKG_LEN;
}

void aml_end(struct strbuf *sb, size_t mark)
{
    size_t len = sb->len - mark;
    assert(len < 1 << 28);
    uint8_t *p = (uint8_t *)sb->text + mark;
    p[0] = (uint8_t)(0xc0 | (len & 0xf));
    p[1] = (uint8_t)(len >> 4);
    p[2] = (uint8_t)(len >> 12);
    p[3] = (uint8_t)(len >> 20);
}

size_t aml_scope_begin(struct strbuf *sb, const char *path)
{
    aml_u8(sb, OP_SCOPE);
    size_t mark = pkg_begin(sb);
    aml_path(sb, path);
    return mark;
}

size_t aml_device_begin(struct strbuf *sb, const char *name)
{
    aml_u8(sb, OP_EXT);
    aml_u8(sb, OP_EXT_DEVICE);
    size_t mark = pkg_begin(sb);
    aml_path(sb, name);
    return mark;
}

void aml_int(struct strbuf *sb, uint64_t v)
{
    if (v <= 1) {
        aml_u8(sb, (uint8_t)v); /* ZeroOp, OneOp */
    } else if (v <= 0xff) {
        aml_u8(sb, OP_BYTE);
        aml_u8(sb, (uint8_t)v);
    } else if (v <= 0xffff) {
        aml_u8(sb, OP_WORD);
        aml_u16(sb, (uint16_t)v);
    } else if (v <= 0xffffffff) {
        aml_u8(sb, OP_DWORD);
        aml_u32(sb, (uint32_t)v);
    } else {
        aml_u8(sb, OP_QWORD);
        aml_u64(sb, v);
    }
}

static void aml_name(struct strbuf *sb, const char *name)
{
    aml_u8(sb, OP_NAME);
    aml_path(sb, name);
}

void aml_name_int(struct strbuf *sb, const char *name, uint64_t value)
{
    aml_name(sb, name);
    aml_int(sb, value);
}

void aml_name_text(struct strbuf *sb, const char *name, const char *text)
{
    aml_name(sb, name);
    aml_u8(sb, OP_STRING);
    strbuf_add_bytes(sb, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of five bits, four hex digits; stored big end first. */
void aml_name_eisa(struct strbuf *sb, const char *name, const char *id)
{
    assert(strlen(id) == 7);
    unsigned v = (unsigned)(id[0] - 0x40) << 26 | (unsigned)(id[1] - 0x40) << 21 |
                 (unsigned)(id[2] - 0x40) << 16 | hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 |
                 hex_digit(id[5]) << 4 | hex_digit(id[6]);
    aml_name(sb, name);
    aml_u8(sb, OP_DWORD);
    aml_u32(sb, __builtin_bswap32(v));
}

size_t aml_package_begin(struct strbuf *sb, const char *name, unsigned count)
{
    if (name) {
        aml_name(sb, name);
    }
    aml_u8(sb, OP_PACKAGE);
    size_t mark = pkg_begin(sb);
    aml_u8(sb, (uint8_t)count);
    return mark;
}

void aml_name_ints(struct strbuf *sb, const char *name, const uint8_t *values, unsigned count)
{
    size_t mark = aml_package_begin(sb, name, count);
    for (unsigned i = 0; i < count; i++) {
        aml_int(sb, values[i]);
    }
    aml_end(sb, mark);
}

void aml_name_bytes(struct strbuf *sb, const char *name, const uint8_t *bytes, unsigned count)
{
    aml_name(sb, name);
    aml_u8(sb, OP_BUFFER);
    size_t mark = pkg_begin(sb);
    aml_int(sb, count);
    strbuf_add_bytes(sb, bytes, count);
    aml_end(sb, mark);
}

/* The buffer's size is a word constant right behind the package length. */
size_t aml_crs_begin(struct strbuf *sb)
{
    aml_name(sb, "_CRS");
    aml_u8(sb, OP_BUFFER);
    size_t mark = pkg_begin(sb);
    aml_u8(sb, OP_WORD);
    aml_u16(sb, 0);
    return mark;
}

void aml_crs_end(struct strbuf *sb, size_t mark)
{
    aml_u8(sb, 0x79); /* end tag, no checksum */
    aml_u8(sb, 0);
    size_t body = mark + PKG_LEN + 3;
    store_le16(sb->text + body - 2, (uint16_t)(sb->len - body));
    aml_end(sb, mark);
}

void aml_crs_io(struct strbuf *sb, uint16_t base, uint8_t len)
{
    aml_u8(sb, 0x47);
    aml_u8(sb, 1); /* decodes 16 bits */
    aml_u16(sb, base);
    aml_u16(sb, base);
    aml_u8(sb, 1);
    aml_u8(sb, len);
}

void aml_crs_memory32(struct strbuf *sb, uint32_t base, uint32_t len)
{
    aml_u8(sb, 0x86);
    aml_u16(sb, 9);
    aml_u8(sb, 1); /* writable */
    aml_u32(sb, base);
    aml_u32(sb, len);
}

/* ACPI 6.4 6.4.3.5: address space descriptors of 16, 32 and 64 bits. */
static void aml_crs_range(struct strbuf *sb, uint8_t kind, unsigned bytes, uint8_t type_flags,
                          uint64_t first, uint64_t last)
{
    const uint64_t fields[] = {0, first, last, 0, last - first + 1}; /* granularity ... length */
    aml_u8(sb, bytes == 2 ? 0x88 : bytes == 4 ? 0x87 : 0x8a);
    aml_u16(sb, (uint16_t)(3 + 5 * bytes));
    aml_u8(sb, kind);
    aml_u8(sb, 0x0c); /* producer, both ends fixed */
    aml_u8(sb, type_flags);
    for (unsigned i = 0; i < 5; i++) {
        for (unsigned b = 0; b < bytes; b++) {
            aml_u8(sb, fields[i] >> 8 * b & 0xff);
        }
    }
}

void aml_crs_bus_range(struct strbuf *sb, uint16_t first, uint16_t last)
{
    aml_crs_range(sb, 2, 2, 0, first, last);
}

void aml_crs_io_range(struct strbuf *sb, uint16_t first, uint16_t last)
{
    aml_crs_range(sb, 1, 2, 3, first, last); /* the entire range */
}

void aml_crs_memory_range(struct strbuf *sb, uint64_t first, uint64_t last)
{
    aml_crs_range(sb, 0, last >> 32 ? 8 : 4, 1, first, last); /* read and write */
}

void aml_crs_irq_isa(struct strbuf *sb, unsigned line)
{
    aml_u8(sb, 0x22);
    aml_u16(sb, (uint16_t)(1u << line));
}

/* 6.4.2.2 */
void aml_crs_dma(struct strbuf *sb, unsigned channel)
{
    aml_u8(sb, 0x2a);
    aml_u8(sb, (uint8_t)(1u << channel));
    aml_u8(sb, 0);
}

void aml_crs_irq(struct strbuf *sb, uint32_t gsi, bool level)
{
    aml_u8(sb, 0x89);
    aml_u16(sb, 6);
    aml_u8(sb, level ? 1 : 3); /* consumer; edge is bit 1 */
    aml_u8(sb, 1);
    aml_u32(sb, gsi);
}

uint8_t acpi_checksum(const void *bytes, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    }
    return (uint8_t)-sum;
}

size_t acpi_table_begin(struct strbuf *sb, const char *signature, uint8_t revision)
{
    while (sb->len & 15) {
        aml_u8(sb, 0);
    }
    size_t mark = sb->len;
    strbuf_add_bytes(sb, signature, 4);
    aml_u32(sb, 0);
    aml_u8(sb, revision);
    aml_u8(sb, 0);
    strbuf_add_bytes(sb, "LODGE LODGEVM ", 14); /* OEM ID (6), OEM table ID (8) */
    aml_u32(sb, 1);
    strbuf_add_bytes(sb, "LODG", 4);
    aml_u32(sb, 1);
    return mark;
}

void acpi_table_end(struct strbuf *sb, size_t mark)
{
    uint8_t *t = (uint8_t *)sb->text + mark;
    size_t len = sb->len - mark;
    store_le32(t + 4, (uint32_t)len);
    t[9] = acpi_checksum(t, len);
}
