/* ACPI machine language and tables, as far as boards need them. */
#ifndef DEV_FIRMWARE_AML_H
#define DEV_FIRMWARE_AML_H

#include "base/strbuf.h"
#include "base/types.h"

/* Blocks nest: each *_begin gives the mark that its aml_end takes. */
size_t aml_scope_begin(struct strbuf *sb, const char *path);  /* "_SB_" with or without '\' */
size_t aml_device_begin(struct strbuf *sb, const char *name); /* four characters */
void aml_end(struct strbuf *sb, size_t mark);

void aml_name_int(struct strbuf *sb, const char *name, uint64_t value);
void aml_name_text(struct strbuf *sb, const char *name, const char *text);
void aml_name_eisa(struct strbuf *sb, const char *name, const char *id); /* "PNP0501" */
/* Name(name, Package(count) {...}), or a package as an element (name NULL); elements follow. */
size_t aml_package_begin(struct strbuf *sb, const char *name, unsigned count);
void aml_int(struct strbuf *sb, uint64_t v);
/* Name(name, Package(){...}) */
void aml_name_ints(struct strbuf *sb, const char *name, const uint8_t *values, unsigned count);

/* Name(name, Buffer(){...}) */
void aml_name_bytes(struct strbuf *sb, const char *name, const uint8_t *bytes, unsigned count);

/* _CRS: a buffer of resource descriptors. */
size_t aml_crs_begin(struct strbuf *sb);
void aml_crs_end(struct strbuf *sb, size_t mark);
void aml_crs_io(struct strbuf *sb, uint16_t base, uint8_t len);
void aml_crs_memory32(struct strbuf *sb, uint32_t base, uint32_t len);
/* What a bridge passes on: buses, ports, memory from `first` to `last`. */
void aml_crs_bus_range(struct strbuf *sb, uint16_t first, uint16_t last);
void aml_crs_io_range(struct strbuf *sb, uint16_t first, uint16_t last);
void aml_crs_memory_range(struct strbuf *sb, uint64_t first, uint64_t last);
void aml_crs_irq_isa(struct strbuf *sb, unsigned line);        /* edge, active high */
void aml_crs_dma(struct strbuf *sb, unsigned channel);         /* 8 bits, compatible timing */
void aml_crs_irq(struct strbuf *sb, uint32_t gsi, bool level); /* active high, exclusive */

/* A table: header with signature and revision, then its body; end patches length and checksum. */
size_t acpi_table_begin(struct strbuf *sb, const char *signature, uint8_t revision);
void acpi_table_end(struct strbuf *sb, size_t mark);
uint8_t acpi_checksum(const void *bytes, size_t len);

void aml_u8(struct strbuf *sb, uint8_t v);
void aml_u16(struct strbuf *sb, uint16_t v);
void aml_u32(struct strbuf *sb, uint32_t v);
void aml_u64(struct strbuf *sb, uint64_t v);

#endif
