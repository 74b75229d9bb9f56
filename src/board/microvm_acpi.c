/*
 * ACPI tables of the microvm board: hardware-reduced ACPI 6.4 (sections 5.2.5 RSDP, 5.2.8 XSDT,
 * 5.2.9 FADT, 5.2.12 MADT). What the guest must find: processors, I/O APIC, power registers,
 * the serial port, the clock, and the virtio-mmio transports in use.
 */
#include "board/microvm_acpi.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "board/acpi_cpus.h"
#include "dev/firmware/aml.h"
#include "dev/irqchip/ioapic.h"
#include "dev/irqchip/lapic.h"
#include "dev/misc/acpi_power.h"
#include "dev/timer/acpi_pm_timer.h"

static void dsdt_add_isa(struct strbuf *sb, const char *name, const char *eisa, unsigned uid,
                         uint16_t port, uint8_t len, unsigned irq)
{
    size_t dev = aml_device_begin(sb, name);
    aml_name_eisa(sb, "_HID", eisa);
    aml_name_int(sb, "_UID", uid);
    aml_name_int(sb, "_STA", 0xf);
    size_t crs = aml_crs_begin(sb);
    aml_crs_io(sb, port, len);
    aml_crs_irq(sb, irq, false);
    aml_crs_end(sb, crs);
    aml_end(sb, dev);
}

static void dsdt_add_virtio(struct strbuf *sb, unsigned n, unsigned gsi)
{
    char name[5];
    snprintf(name, sizeof(name), "VR%02u", n % 100);
    size_t dev = aml_device_begin(sb, name);
    aml_name_text(sb, "_HID", "LNRO0005");
    aml_name_int(sb, "_UID", n);
    aml_name_int(sb, "_CCA", 1);
    size_t crs = aml_crs_begin(sb);
    aml_crs_memory32(sb, (uint32_t)(MICROVM_VIRTIO_BASE + n * MICROVM_VIRTIO_STRIDE),
                     MICROVM_VIRTIO_STRIDE);
    aml_crs_irq(sb, gsi, true);
    aml_crs_end(sb, crs);
    aml_end(sb, dev);
}

static void build_dsdt(const struct microvm *v, struct strbuf *sb)
{
    static const uint8_t s5[] = {ACPI_POWER_S5, 0, 0, 0};
    size_t table = acpi_table_begin(sb, "DSDT", 2);
    size_t scope = aml_scope_begin(sb, "\\_SB_");
    if (v->isa_serial) {
        dsdt_add_isa(sb, "COM1", "PNP0501", 1, 0x3f8, 8, 4);
    }
    if (microvm_has_rtc(v)) {
        dsdt_add_isa(sb, "RTC_", "PNP0B00", 0, 0x70, 2, 8);
    }
    for (unsigned i = 0; i < MICROVM_VIRTIO_COUNT; i++) {
        if (microvm_virtio_used(v, i)) {
            dsdt_add_virtio(sb, i, microvm_virtio_gsi(v, i));
        }
    }
    aml_end(sb, scope);
    aml_name_ints(sb, "_S5_", s5, sizeof(s5));
    acpi_table_end(sb, table);
}

static void put_gas(uint8_t *at, uint64_t addr)
{
    at[0] = 0; /* system memory */
    at[1] = 8; /* bits */
    at[3] = 1; /* byte access */
    store_le64(at + 4, addr);
}

static void build_fadt(const struct microvm *v, struct strbuf *sb, uint64_t dsdt)
{
    enum {
        SIZE = 276,
        PM_TMR_BLK = 76,
        PM_TMR_LEN = 91,
        BOOT_ARCH = 109,
        FLAGS = 112,
        RESET_REG = 116,
        RESET_VALUE = 128,
        MINOR = 131,
        X_DSDT = 140,
        X_PM_TMR_BLK = 208,
        SLEEP_CONTROL = 244,
        SLEEP_STATUS = 256,
        FL_WBINVD = 1,
        FL_PWR_BUTTON = 1 << 4,
        FL_SLP_BUTTON = 1 << 5,
        FL_RESET_REG = 1 << 10,
        FL_HW_REDUCED = 1 << 20,
        BA_LEGACY = 1,
        BA_NO_VGA = 4,
        BA_NO_RTC = 1 << 5,
    };
    uint8_t body[SIZE] = {0};
    size_t table = acpi_table_begin(sb, "FACP", 6);
    store_le16(body + BOOT_ARCH, BA_LEGACY | BA_NO_VGA | (microvm_has_rtc(v) ? 0 : BA_NO_RTC));
    store_le32(body + FLAGS,
               FL_WBINVD | FL_PWR_BUTTON | FL_SLP_BUTTON | FL_RESET_REG | FL_HW_REDUCED);
    store_le32(body + PM_TMR_BLK, ACPI_PM_TIMER_PORT);
    body[PM_TMR_LEN] = 4;
    body[X_PM_TMR_BLK] = 1; /* system I/O, 32 bits wide */
    body[X_PM_TMR_BLK + 1] = 32;
    body[X_PM_TMR_BLK + 3] = 3;
    store_le64(body + X_PM_TMR_BLK + 4, ACPI_PM_TIMER_PORT);
    put_gas(body + RESET_REG, MICROVM_POWER_BASE + ACPI_POWER_RESET);
    body[RESET_VALUE] = ACPI_POWER_RESET_VALUE;
    body[MINOR] = 4;
    store_le64(body + X_DSDT, dsdt);
    put_gas(body + SLEEP_CONTROL, MICROVM_POWER_BASE + ACPI_POWER_SLEEP_CONTROL);
    put_gas(body + SLEEP_STATUS, MICROVM_POWER_BASE + ACPI_POWER_SLEEP_STATUS);
    strbuf_add_bytes(sb, body + 36, SIZE - 36);
    acpi_table_end(sb, table);
}

static void build_madt(const struct microvm *v, struct strbuf *sb)
{
    size_t table = acpi_table_begin(sb, "APIC", 5);
    aml_u32(sb, LAPIC_BASE);
    aml_u32(sb, v->x86.pic ? 1 : 0); /* PCAT_COMPAT: a PIC to switch off */
    acpi_madt_add_cpus(sb, v->x86.machine);
    aml_u16(sb, 12 << 8 | 1); /* I/O APIC: ID, address, first GSI */
    aml_u16(sb, 0);
    aml_u32(sb, IOAPIC_BASE);
    aml_u32(sb, 0);
    aml_u16(sb, 10 << 8 | 2); /* override: ISA line 0 is GSI 2 */
    aml_u16(sb, 0);
    aml_u32(sb, 2);
    aml_u16(sb, 0);
    aml_u16(sb, 6 << 8 | 4); /* NMI: LINT1 of all */
    aml_u8(sb, 0xff);
    aml_u16(sb, 0);
    aml_u8(sb, 1);
    acpi_table_end(sb, table);
}

void microvm_build_acpi(const struct microvm *v, uint64_t base, struct strbuf *sb)
{
    uint8_t rsdp[36] = "RSD PTR ";
    strbuf_add_bytes(sb, rsdp, sizeof(rsdp)); /* patched below */
    while (sb->len & 15) {
        aml_u8(sb, 0);
    }
    uint64_t dsdt = base + sb->len;
    build_dsdt(v, sb);
    uint64_t fadt = base + round_up(sb->len, 16);
    build_fadt(v, sb, dsdt);
    uint64_t madt = base + round_up(sb->len, 16);
    build_madt(v, sb);
    size_t xsdt = acpi_table_begin(sb, "XSDT", 1);
    aml_u64(sb, fadt);
    aml_u64(sb, madt);
    acpi_table_end(sb, xsdt);

    memcpy(rsdp + 9, "LODGE ", 6);
    rsdp[15] = 2;
    store_le32(rsdp + 20, sizeof(rsdp));
    store_le64(rsdp + 24, base + xsdt);
    rsdp[8] = acpi_checksum(rsdp, 20);
    rsdp[32] = acpi_checksum(rsdp, sizeof(rsdp));
    memcpy(sb->text, rsdp, sizeof(rsdp));
}
