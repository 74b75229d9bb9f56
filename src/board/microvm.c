/*
 * microvm: a small PC without PCI, for direct kernel boot.
 *
 * Memory: RAM from 0 up to 3 GiB, the rest from 4 GiB; fea00000 ACPI registers, feb00000
 * virtio-mmio transports, fec00000 I/O APIC, fee00000 local APICs.
 * Interrupts: ISA lines to the PIC and the I/O APIC (line 0, the PIT's, to I/O APIC pin 2);
 * virtio transports from GSI 16.
 *
 * Does not do: firmware (-kernel is needed), fw_cfg, PCI, USB.
 */
#include "board/microvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "board/load_x86.h"
#include "board/microvm_acpi.h"
#include "dev/misc/acpi_power.h"
#include "dev/misc/reset_ports.h"
#include "dev/timer/acpi_pm_timer.h"
#include "state/field.h"

static const char *const on_off_auto[] = {"on", "off", "auto", NULL};

/* ---- State ---- */

static const struct field microvm_list[] = {
    FIELD(struct microvm, pit_opt, FIELD_HOST),
    FIELD(struct microvm, pic_opt, FIELD_HOST),
    FIELD(struct microvm, rtc_opt, FIELD_HOST),
    FIELD(struct microvm, acpi_opt, FIELD_HOST),
    FIELD(struct microvm, isa_serial, FIELD_CONFIG),
    FIELD(struct microvm, auto_cmdline, FIELD_HOST),
    FIELD(struct microvm, option_roms, FIELD_HOST),
    FIELD(struct microvm, x86, FIELD_GUEST, .sub = &x86_board_fields),
    FIELD_ARRAY(struct microvm, virtio, FIELD_GUEST, .sub = &virtio_mmio_fields),
    FIELD(struct microvm, loaded, FIELD_HOST),
};

FIELD_SET(microvm_fields, "microvm", struct microvm, microvm_list, 1);

static const struct prop microvm_props[] = {
    {"pit", PROP_TEXT, offsetof(struct microvm, pit_opt), "auto", "8254 timer", on_off_auto},
    {"pic", PROP_TEXT, offsetof(struct microvm, pic_opt), "auto", "8259 interrupt controllers",
     on_off_auto},
    {"rtc", PROP_TEXT, offsetof(struct microvm, rtc_opt), "auto", "MC146818 clock", on_off_auto},
    {"acpi", PROP_TEXT, offsetof(struct microvm, acpi_opt), "auto", "ACPI tables", on_off_auto},
    {"isa-serial", PROP_BOOL, offsetof(struct microvm, isa_serial), "on", "serial port COM1"},
    {"auto-kernel-cmdline", PROP_BOOL, offsetof(struct microvm, auto_cmdline), "on",
     "name the virtio devices on the kernel's command line when there is no ACPI"},
    {"x-option-roms", PROP_BOOL, offsetof(struct microvm, option_roms), "on", "no effect"},
    {0},
};

static bool wanted(const char *opt)
{
    return strcmp(opt, "off") != 0;
}

bool microvm_has_rtc(const struct microvm *v)
{
    return v->x86.rtc != NULL;
}

/* With ACPI the transports have lines of their own; else those that a PIC has too. */
unsigned microvm_virtio_gsi(const struct microvm *v, unsigned n)
{
    return wanted(v->acpi_opt) ? MICROVM_VIRTIO_GSI + n : MICROVM_VIRTIO_ISA_LINE + n;
}

bool microvm_virtio_used(const struct microvm *v, unsigned n)
{
    return v->virtio[n].bus.vdev != NULL;
}

static void microvm_add_virtio(struct microvm *v)
{
    struct machine *m = v->x86.machine;
    for (unsigned i = 0; i < MICROVM_VIRTIO_COUNT; i++) {
        struct virtio_mmio *t = &v->virtio[i];
        virtio_mmio_init(t, i, m->mem);
        irq_connect(&t->irq, &v->x86.gsi[microvm_virtio_gsi(v, i)]);
        mem_map_add_mmio(m->mem, MICROVM_VIRTIO_BASE + i * MICROVM_VIRTIO_STRIDE, VIRTIO_MMIO_SIZE,
                         &virtio_mmio_regs, t);
        bus_add(m, &t->bus.bus);
    }
}

static int microvm_init(struct machine *m, struct err *err)
{
    struct microvm *v = m->board_data;
    v->x86.machine = m;
    if (m->config.numa) {
        return err_set(err, EINVAL, "-numa: machine 'microvm' has one node; use -M q35");
    }
    int ret = x86_board_add_ram(&v->x86, MICROVM_LOW_RAM_MAX, false, err);
    if (ret) {
        return ret;
    }
    x86_board_add_irqchips(&v->x86, wanted(v->pic_opt));
    x86_board_add_isa(&v->x86);
    microvm_add_virtio(v);
    if (wanted(v->pit_opt)) {
        x86_board_add_pit(&v->x86);
    }
    ret = x86_board_add_rtc(&v->x86, wanted(v->rtc_opt), err);
    if (ret) {
        return ret;
    }
    reset_ports_map(m);
    acpi_pm_timer_map(m);
    mem_map_add_mmio(m->mem, MICROVM_POWER_BASE, ACPI_POWER_SIZE, &acpi_power_mmio, m);
    ret = x86_board_add_cpus(&v->x86, err);
    if (!ret && v->isa_serial) {
        ret = x86_board_add_serial(&v->x86, err);
    }
    return ret;
}

static void microvm_add_range(struct x86_load *l, uint64_t start, uint64_t end, uint32_t type)
{
    if (end > start) {
        l->map[l->map_count++] = (struct x86_range){start, end - start, type};
    }
}

/* The last KiB of the first 640 is where a PC has its extended BIOS data. */
static void microvm_memory_map(const struct microvm *v, struct x86_load *l)
{
    microvm_add_range(l, 0, 0x9fc00, X86_RANGE_RAM);
    microvm_add_range(l, 0x9fc00, 0xa0000, X86_RANGE_RESERVED);
    microvm_add_range(l, MICROVM_ACPI_TABLES, 0x100000, X86_RANGE_RESERVED);
    microvm_add_range(l, 0x100000, v->x86.low_ram, X86_RANGE_RAM);
    microvm_add_range(l, X86_BOARD_HIGH_RAM, X86_BOARD_HIGH_RAM + v->x86.high_ram, X86_RANGE_RAM);
}

static void microvm_reset_chips(struct microvm *v)
{
    ram_clear(v->x86.ram);
    x86_board_reset(&v->x86);
    for (unsigned i = 0; i < MICROVM_VIRTIO_COUNT; i++) {
        virtio_mmio_reset(&v->virtio[i]);
    }
}

/* Tables go to the end of the first MiB; `rsdp` stays 0 without ACPI. */
static int microvm_put_acpi(struct microvm *v, uint64_t *rsdp, struct err *err)
{
    struct strbuf sb = {0};
    int ret = 0;
    if (!wanted(v->acpi_opt)) {
        return 0;
    }
    microvm_build_acpi(v, MICROVM_ACPI_TABLES, &sb);
    if (sb.len > MICROVM_ACPI_TABLES_SIZE ||
        !gmem_write(v->x86.machine->mem, MICROVM_ACPI_TABLES, sb.text, sb.len)) {
        ret = err_set(err, ENOMEM, "no room for the ACPI tables");
    }
    strbuf_free(&sb);
    *rsdp = MICROVM_ACPI_TABLES;
    return ret;
}

/* Without ACPI the kernel learns of the transports from its command line. */
static void microvm_cmdline(const struct microvm *v, struct strbuf *out)
{
    const char *append = v->x86.machine->config.append;
    strbuf_add(out, "%s", append ? append : "");
    if (wanted(v->acpi_opt) || !v->auto_cmdline) {
        return;
    }
    for (unsigned i = 0; i < MICROVM_VIRTIO_COUNT; i++) {
        if (microvm_virtio_used(v, i)) {
            strbuf_add(out, " virtio_mmio.device=512@0x%llx:%u",
                       MICROVM_VIRTIO_BASE + i * MICROVM_VIRTIO_STRIDE, microvm_virtio_gsi(v, i));
        }
    }
}

static int microvm_load(struct machine *m, struct err *err)
{
    struct microvm *v = m->board_data;
    if (v->loaded) {
        microvm_reset_chips(v);
    }
    v->loaded = true;
    memset(&m->boot, 0, sizeof(m->boot));
    if (m->config.firmware) {
        return err_set(err, EINVAL, "-bios: machine 'microvm' has no firmware; use -kernel FILE");
    }
    if (!m->config.kernel) {
        return err_set(err, EINVAL, "machine 'microvm' has no firmware: it needs -kernel FILE");
    }
    struct strbuf cmdline = {0};
    microvm_cmdline(v, &cmdline);
    struct x86_load l = {.mem = m->mem,
                         .kernel = m->config.kernel,
                         .initrd = m->config.initrd,
                         .cmdline = strbuf_text(&cmdline),
                         .low_ram_end = v->x86.low_ram,
                         .boot = &m->boot};
    microvm_memory_map(v, &l);
    int ret = microvm_put_acpi(v, &l.rsdp, err);
    ret = ret ? ret : x86_load_kernel(&l, err);
    strbuf_free(&cmdline);
    return ret;
}

static void microvm_fini(struct machine *m)
{
    struct microvm *v = m->board_data;
    x86_board_fini(&v->x86);
}

static void microvm_print_irqs(struct machine *m, bool counts, struct strbuf *out)
{
    x86_board_print_irqs(&((struct microvm *)m->board_data)->x86, counts, out);
}

const struct board_type board_microvm = {
    .name = "microvm",
    .summary = "small PC without PCI, for direct kernel boot",
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .max_vcpus = MACHINE_MAX_VCPUS,
    .props = microvm_props,
    .size = sizeof(struct microvm),
    .state = &microvm_fields,
    .init = microvm_init,
    .load = microvm_load,
    .fini = microvm_fini,
    .print_irqs = microvm_print_irqs,
};
