/*
 * ACPI 6.4 tables: FADT (5.2.9), FACS, MADT (5.2.12), MCFG, HPET, DSDT with the host bridge, its
 * interrupt routing and the ISA devices. Files for firmware: etc/acpi/tables, etc/acpi/rsdp and the
 * linker's script etc/table-loader, by which firmware allocates memory, adds addresses and mends
 * checksums.
 */
#include "board/acpi_pc.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "board/acpi_cpus.h"
#include "board/x86_board.h"
#include "core/machine.h"
#include "core/numa.h"
#include "dev/chipset/acpi_pm.h"
#include "dev/firmware/aml.h"
#include "dev/firmware/fw_cfg.h"
#include "dev/floppy/isa_fdc.h"
#include "dev/irqchip/ioapic.h"
#include "dev/irqchip/lapic.h"
#include "dev/misc/vmgenid.h"
#include "dev/timer/hpet.h"

#define TABLES ACPI_PC_TABLES
#define RSDP "etc/acpi/rsdp"
#define GUID "etc/vmgenid_guid"

enum {
    LOADER_ALLOCATE = 1,
    LOADER_ADD_POINTER = 2,
    LOADER_ADD_CHECKSUM = 3,
    LOADER_ENTRY = 128,
    LOADER_NAME = 56,
    ZONE_HIGH = 1,
    ZONE_FSEG = 2,
    TABLE_CHECKSUM = 9,
    TABLE_LENGTH = 4,
    PCI_END = 0xfec00000, /* the I/O APIC */
    GUID_PAGE = 4096,
    GUID_OFFSET = GUID_PAGE - VMGENID_BYTES,
};

/* ---- The linker's script ---- */

static void put_u32(uint8_t *e, unsigned at, uint32_t v)
{
    store_le32(e + at, v);
}

static void loader_allocate(struct strbuf *sb, const char *file, uint32_t align, uint8_t zone)
{
    uint8_t e[LOADER_ENTRY] = {LOADER_ALLOCATE};
    memcpy(e + 4, file, strlen(file));
    put_u32(e, 4 + LOADER_NAME, align);
    e[8 + LOADER_NAME] = zone;
    strbuf_add_bytes(sb, e, sizeof(e));
}

/* In `file` at `off`, `size` bytes: adds where another file has come to lie. */
static void loader_add_pointer_to(struct strbuf *sb, const char *other, const char *file,
                                  uint32_t off, uint8_t size)
{
    uint8_t e[LOADER_ENTRY] = {LOADER_ADD_POINTER};
    memcpy(e + 4, file, strlen(file));
    memcpy(e + 4 + LOADER_NAME, other, strlen(other));
    put_u32(e, 4 + 2 * LOADER_NAME, off);
    e[8 + 2 * LOADER_NAME] = size;
    strbuf_add_bytes(sb, e, sizeof(e));
}

static void loader_add_pointer(struct strbuf *sb, const char *file, uint32_t off, uint8_t size)
{
    loader_add_pointer_to(sb, TABLES, file, off, size);
}

static void loader_add_checksum(struct strbuf *sb, const char *file, uint32_t at, uint32_t start,
                                uint32_t len)
{
    uint8_t e[LOADER_ENTRY] = {LOADER_ADD_CHECKSUM};
    memcpy(e + 4, file, strlen(file));
    put_u32(e, 4 + LOADER_NAME, at);
    put_u32(e, 8 + LOADER_NAME, start);
    put_u32(e, 12 + LOADER_NAME, len);
    strbuf_add_bytes(sb, e, sizeof(e));
}

/* ---- DSDT ---- */

static void dsdt_add_isa(struct strbuf *sb, const char *name, const char *eisa, unsigned uid,
                         unsigned port, unsigned len, unsigned second, unsigned irq)
{
    size_t dev = aml_device_begin(sb, name);
    aml_name_eisa(sb, "_HID", eisa);
    aml_name_int(sb, "_UID", uid);
    aml_name_int(sb, "_STA", 0xf);
    size_t crs = aml_crs_begin(sb);
    if (len) {
        aml_crs_io(sb, (uint16_t)port, (uint8_t)len);
    }
    if (second) {
        aml_crs_io(sb, (uint16_t)second, (uint8_t)len);
    }
    aml_crs_irq_isa(sb, irq);
    aml_crs_end(sb, crs);
    aml_end(sb, dev);
}

/* _FDE: which drives there are; no tape. */
static void dsdt_add_floppy(const struct acpi_pc *a, struct strbuf *sb)
{
    uint8_t fde[20] = {0};
    size_t dev = aml_device_begin(sb, "FDC0");
    aml_name_eisa(sb, "_HID", "PNP0700");
    aml_name_int(sb, "_STA", 0xf);
    for (unsigned i = 0; i < ISA_FDC_UNITS; i++) {
        fde[4 * i] = isa_fdc_cmos_type(a->x86->machine, i) != 0;
    }
    fde[16] = 2;
    aml_name_bytes(sb, "_FDE", fde, sizeof(fde));
    size_t crs = aml_crs_begin(sb);
    aml_crs_io(sb, 0x3f2, 4);
    aml_crs_io(sb, 0x3f7, 1);
    aml_crs_irq_isa(sb, 6);
    aml_crs_dma(sb, 2);
    aml_crs_end(sb, crs);
    aml_end(sb, dev);
}

static bool port_used(const struct acpi_pc *a, gpa_t port)
{
    struct mem_hit hit;
    return mem_lookup(a->x86->machine->io, port, &hit);
}

static void dsdt_add_isa_bridge(const struct acpi_pc *a, struct strbuf *sb)
{
    static const struct {
        uint16_t port;
        uint8_t irq;
    } com[] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};
    size_t dev = aml_device_begin(sb, "ISA_");
    aml_name_int(sb, "_ADR", (uint64_t)(a->isa_bridge >> 3) << 16 | (a->isa_bridge & 7));
    dsdt_add_isa(sb, "RTC_", "PNP0B00", 0, 0x70, 2, 0, 8);
    if (port_used(a, 0x60)) {
        dsdt_add_isa(sb, "KBD_", "PNP0303", 0, 0x60, 1, 0x64, 1);
        dsdt_add_isa(sb, "MOU_", "PNP0F13", 0, 0, 0, 0, 12);
    }
    if (port_used(a, 0x3f5)) {
        dsdt_add_floppy(a, sb);
    }
    for (unsigned i = 0; i < ARRAY_LEN(com); i++) {
        char name[5] = "COM1";
        name[3] = (char)('1' + i);
        if (port_used(a, com[i].port)) {
            dsdt_add_isa(sb, name, "PNP0501", i + 1, com[i].port, 8, 0, com[i].irq);
        }
    }
    aml_end(sb, dev);
}

/* _PRT: four pins of each slot, straight to interrupts. */
static void dsdt_add_routing(const struct acpi_pc *a, struct strbuf *sb)
{
    size_t prt = aml_package_begin(sb, "_PRT", 31 * 4);
    for (unsigned slot = 1; slot < 32; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            size_t e = aml_package_begin(sb, NULL, 4);
            aml_int(sb, slot << 16 | 0xffff);
            aml_int(sb, pin);
            aml_int(sb, 0);
            aml_int(sb, a->gsi(slot, pin));
            aml_end(sb, e);
        }
    }
    aml_end(sb, prt);
}

static void dsdt_add_windows(const struct acpi_pc *a, struct strbuf *sb)
{
    enum { WINDOW_64 = 35 }; /* 32 GiB, at a multiple of it */
    uint64_t high = round_up(X86_BOARD_HIGH_RAM + a->x86->high_ram, 1ull << WINDOW_64);
    size_t crs = aml_crs_begin(sb);
    aml_crs_bus_range(sb, 0, 255);
    aml_crs_io(sb, 0xcf8, 8);
    aml_crs_io_range(sb, 0, 0xcf7);
    aml_crs_io_range(sb, 0xd00, 0xffff);
    aml_crs_memory_range(sb, 0xa0000, 0xbffff);
    if (a->ecam) {
        aml_crs_memory_range(sb, a->pci_start, a->ecam - 1);
        aml_crs_memory_range(sb, a->ecam + (256 << 20), PCI_END - 1);
    } else {
        aml_crs_memory_range(sb, a->pci_start, PCI_END - 1);
    }
    aml_crs_memory_range(sb, high, high + (1ull << WINDOW_64) - 1);
    aml_crs_end(sb, crs);
}

/* What no device may be given. */
static void dsdt_add_reserved(struct strbuf *sb, uint32_t base, uint32_t len)
{
    size_t dev = aml_device_begin(sb, "MRES");
    aml_name_eisa(sb, "_HID", "PNP0C02");
    size_t crs = aml_crs_begin(sb);
    aml_crs_memory32(sb, base, len);
    aml_crs_end(sb, crs);
    aml_end(sb, dev);
}

static void dsdt_add_hpet(struct strbuf *sb)
{
    size_t dev = aml_device_begin(sb, "HPET");
    aml_name_eisa(sb, "_HID", "PNP0103");
    aml_name_int(sb, "_UID", 0);
    aml_name_int(sb, "_STA", 0xf);
    size_t crs = aml_crs_begin(sb);
    aml_crs_memory32(sb, HPET_BASE, HPET_SIZE);
    aml_crs_end(sb, crs);
    aml_end(sb, dev);
}

/*
 * The generation ID's device. ADDR gives where the ID lies, in two halves: firmware adds the page
 * to the offset. The ID is at the page's end, where it cannot be taken for a table.
 */
static size_t dsdt_add_vmgenid(struct strbuf *sb)
{
    enum { DWORD_PREFIX = 0x0c };
    size_t dev = aml_device_begin(sb, "VGEN");
    aml_name_text(sb, "_HID", "QEMUVGID");
    aml_name_text(sb, "_CID", "VM_Gen_Counter");
    aml_name_text(sb, "_DDN", "VM_Gen_Counter");
    size_t addr = aml_package_begin(sb, "ADDR", 2);
    aml_u8(sb, DWORD_PREFIX);
    size_t at = sb->len;
    aml_u32(sb, GUID_OFFSET);
    aml_int(sb, 0);
    aml_end(sb, addr);
    aml_end(sb, dev);
    return at;
}

/* Returns where the address of the generation ID is to be mended; 0: there is none. */
static size_t build_dsdt(const struct acpi_pc *a, struct strbuf *sb)
{
    static const uint8_t s5[] = {0, 0, 0, 0};
    size_t table = acpi_table_begin(sb, "DSDT", 1);
    size_t scope = aml_scope_begin(sb, "\\_SB_");
    size_t pci = aml_device_begin(sb, "PCI0");
    aml_name_eisa(sb, "_HID", a->ecam ? "PNP0A08" : "PNP0A03");
    if (a->ecam) {
        aml_name_eisa(sb, "_CID", "PNP0A03");
    }
    aml_name_int(sb, "_ADR", 0);
    aml_name_int(sb, "_UID", 0);
    dsdt_add_windows(a, sb);
    dsdt_add_routing(a, sb);
    dsdt_add_isa_bridge(a, sb);
    aml_end(sb, pci);
    if (a->ecam) {
        dsdt_add_reserved(sb, (uint32_t)a->ecam, 256 << 20);
    }
    size_t vmgenid = vmgenid_bytes(a->x86->machine) ? dsdt_add_vmgenid(sb) : 0;
    if (a->x86->hpet) {
        dsdt_add_hpet(sb);
    }
    aml_end(sb, scope);
    aml_name_ints(sb, "_S5_", s5, sizeof(s5));
    acpi_table_end(sb, table);
    return vmgenid;
}

/* ---- The other tables ---- */

static void gas_io(uint8_t *at, uint8_t bits, uint64_t port)
{
    at[0] = 1; /* system I/O */
    at[1] = bits;
    at[3] = bits == 8 ? 1 : bits == 16 ? 2 : 3;
    store_le64(at + 4, port);
}

/* FACS first: 64 bytes at a multiple of 64. */
static void build_facs(struct strbuf *sb)
{
    uint8_t facs[64] = "FACS";
    put_u32(facs, 4, sizeof(facs));
    strbuf_add_bytes(sb, facs, sizeof(facs));
}

static size_t build_fadt(const struct acpi_pc *a, struct strbuf *sb, uint32_t facs, uint32_t dsdt)
{
    enum {
        SIZE = 244,
        FIRMWARE_CTRL = 36,
        DSDT = 40,
        SCI_INT = 46,
        SMI_CMD = 48,
        ACPI_ENABLE = 52,
        ACPI_DISABLE = 53,
        PM1A_EVT_BLK = 56,
        PM1A_CNT_BLK = 64,
        PM_TMR_BLK = 76,
        GPE0_BLK = 80,
        PM1_EVT_LEN = 88,
        PM1_CNT_LEN = 89,
        PM_TMR_LEN = 91,
        GPE0_BLK_LEN = 92,
        P_LVL2_LAT = 96,
        P_LVL3_LAT = 98,
        CENTURY = 108,
        BOOT_ARCH = 109,
        FLAGS = 112,
        RESET_REG = 116,
        RESET_VALUE = 128,
        X_PM1A_EVT = 148,
        X_PM1A_CNT = 172,
        X_PM_TMR = 208,
        X_GPE0 = 220,
        FL_WBINVD = 1,
        FL_PROC_C1 = 1 << 2,
        FL_SLP_BUTTON = 1 << 5,
        FL_RESET_REG = 1 << 10,
        BA_LEGACY_8042 = 3,
    };
    uint8_t t[SIZE] = {0};
    size_t at = acpi_table_begin(sb, "FACP", 3);
    put_u32(t, FIRMWARE_CTRL, facs);
    put_u32(t, DSDT, dsdt);
    store_le16(t + SCI_INT, a->sci);
    put_u32(t, SMI_CMD, ACPI_PM_SMI_CMD);
    t[ACPI_ENABLE] = ACPI_PM_ENABLE;
    t[ACPI_DISABLE] = ACPI_PM_DISABLE;
    put_u32(t, PM1A_EVT_BLK, a->pm_base);
    put_u32(t, PM1A_CNT_BLK, a->pm_base + 4u);
    put_u32(t, PM_TMR_BLK, a->pm_base + 8u);
    put_u32(t, GPE0_BLK, a->gpe_port);
    t[PM1_EVT_LEN] = 4;
    t[PM1_CNT_LEN] = 2;
    t[PM_TMR_LEN] = 4;
    t[GPE0_BLK_LEN] = a->gpe_len;
    store_le16(t + P_LVL2_LAT, 0xfff); /* no C2, no C3 */
    store_le16(t + P_LVL3_LAT, 0xfff);
    t[CENTURY] = 0x32;
    store_le16(t + BOOT_ARCH, BA_LEGACY_8042);
    put_u32(t, FLAGS, FL_WBINVD | FL_PROC_C1 | FL_SLP_BUTTON | FL_RESET_REG);
    gas_io(t + RESET_REG, 8, 0xcf9);
    t[RESET_VALUE] = 0x0f;
    gas_io(t + X_PM1A_EVT, 32, a->pm_base);
    gas_io(t + X_PM1A_CNT, 16, a->pm_base + 4u);
    gas_io(t + X_PM_TMR, 32, a->pm_base + 8u);
    gas_io(t + X_GPE0, (uint8_t)(a->gpe_len * 8), a->gpe_port);
    strbuf_add_bytes(sb, t + 36, SIZE - 36);
    acpi_table_end(sb, at);
    return at;
}

static void madt_add_override(struct strbuf *sb, uint8_t line, uint32_t gsi, uint16_t flags)
{
    aml_u16(sb, 10 << 8 | 2);
    aml_u8(sb, 0);
    aml_u8(sb, line);
    aml_u32(sb, gsi);
    aml_u16(sb, flags);
}

static size_t build_madt(const struct acpi_pc *a, struct strbuf *sb)
{
    enum { LEVEL_HIGH = 0xd };
    static const uint8_t level_lines[] = {5, 9, 10, 11};
    size_t at = acpi_table_begin(sb, "APIC", 3);
    aml_u32(sb, LAPIC_BASE);
    aml_u32(sb, 1); /* PCAT_COMPAT: PICs to switch off */
    acpi_madt_add_cpus(sb, a->x86->machine);
    aml_u16(sb, 12 << 8 | 1); /* I/O APIC: ID, address, first GSI */
    aml_u16(sb, 0);
    aml_u32(sb, IOAPIC_BASE);
    aml_u32(sb, 0);
    madt_add_override(sb, 0, 2, 0);
    for (unsigned i = 0; i < ARRAY_LEN(level_lines); i++) {
        madt_add_override(sb, level_lines[i], level_lines[i], LEVEL_HIGH);
    }
    aml_u16(sb, 6 << 8 | 4); /* NMI: LINT1 of all */
    aml_u8(sb, 0xff);
    aml_u16(sb, 0);
    aml_u8(sb, 1);
    acpi_table_end(sb, at);
    return at;
}

static size_t build_mcfg(const struct acpi_pc *a, struct strbuf *sb)
{
    size_t at = acpi_table_begin(sb, "MCFG", 1);
    aml_u64(sb, 0);
    aml_u64(sb, a->ecam);
    aml_u32(sb, 0xffu << 24); /* segment 0, buses 0 to 255 */
    aml_u32(sb, 0);
    acpi_table_end(sb, at);
    return at;
}

/* IA-PC HPET 1.0a, 3.2.4 */
static size_t build_hpet(struct strbuf *sb)
{
    size_t at = acpi_table_begin(sb, "HPET", 1);
    aml_u32(sb, HPET_ID);
    aml_u32(sb, 0); /* address: memory */
    aml_u64(sb, HPET_BASE);
    aml_u8(sb, 0);  /* its number */
    aml_u16(sb, 0); /* the shortest period: any */
    aml_u8(sb, 0);
    acpi_table_end(sb, at);
    return at;
}

/* ---- Together ---- */

/* Firmware puts the sum of what is there into the byte, which counts as 0. */
static void link_table(struct strbuf *script, struct strbuf *tables, size_t at)
{
    uint8_t *t = (uint8_t *)tables->text + at;
    t[TABLE_CHECKSUM] = 0;
    loader_add_checksum(script, TABLES, (uint32_t)at + TABLE_CHECKSUM, (uint32_t)at,
                        load_le32(t + TABLE_LENGTH));
}

static void link_vmgenid(const struct acpi_pc *a, struct strbuf *script, size_t at)
{
    uint8_t page[GUID_PAGE] = {0};
    memcpy(page + GUID_OFFSET, vmgenid_bytes(a->x86->machine), VMGENID_BYTES);
    fw_cfg_add_file(a->fw_cfg, GUID, page, sizeof(page), NULL);
    loader_allocate(script, GUID, GUID_PAGE, ZONE_HIGH);
    loader_add_pointer_to(script, GUID, TABLES, (uint32_t)at, 4);
}

static void build_tables(const struct acpi_pc *a, struct strbuf *sb, struct strbuf *script)
{
    build_facs(sb);
    const struct numa *numa = a->x86->machine->config.numa;
    size_t dsdt = round_up(sb->len, 16), roots[7];
    size_t vmgenid = build_dsdt(a, sb);
    unsigned n = 0;
    roots[n++] = build_fadt(a, sb, 0, (uint32_t)dsdt);
    roots[n++] = build_madt(a, sb);
    if (a->ecam) {
        roots[n++] = build_mcfg(a, sb);
    }
    if (numa) {
        roots[n++] = acpi_build_srat(sb, a->x86);
    }
    if (numa && numa->dist) {
        roots[n++] = acpi_build_slit(sb, a->x86->machine);
    }
    if (a->x86->hpet) {
        roots[n++] = build_hpet(sb);
    }
    size_t rsdt = acpi_table_begin(sb, "RSDT", 1);
    for (unsigned i = 0; i < n; i++) {
        aml_u32(sb, (uint32_t)roots[i]);
    }
    acpi_table_end(sb, rsdt);

    loader_allocate(script, RSDP, 16, ZONE_FSEG);
    loader_allocate(script, TABLES, 64, ZONE_HIGH);
    loader_add_pointer(script, TABLES, (uint32_t)roots[0] + 36, 4); /* FACS, DSDT */
    loader_add_pointer(script, TABLES, (uint32_t)roots[0] + 40, 4);
    if (vmgenid) {
        link_vmgenid(a, script, vmgenid);
        link_table(script, sb, dsdt);
    }
    link_table(script, sb, roots[0]);
    for (unsigned i = 0; i < n; i++) {
        loader_add_pointer(script, TABLES, (uint32_t)rsdt + 36 + 4 * i, 4);
    }
    link_table(script, sb, rsdt);
    uint8_t rsdp[20] = "RSD PTR \0LODGE ";
    put_u32(rsdp, 16, (uint32_t)rsdt);
    loader_add_pointer(script, RSDP, 16, 4);
    loader_add_checksum(script, RSDP, 8, 0, sizeof(rsdp));
    fw_cfg_add_file(a->fw_cfg, RSDP, rsdp, sizeof(rsdp), NULL);
}

int acpi_pc_add(const struct acpi_pc *a, struct err *err)
{
    struct strbuf tables = {0}, script = {0};
    build_tables(a, &tables, &script);
    int ret = fw_cfg_add_file(a->fw_cfg, TABLES, tables.text, tables.len, err);
    ret = ret ? ret : fw_cfg_add_file(a->fw_cfg, "etc/table-loader", script.text, script.len, err);
    strbuf_free(&tables);
    strbuf_free(&script);
    return ret;
}
