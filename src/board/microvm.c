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
#include "dev/irqchip/ioapic.h"
#include "dev/irqchip/lapic.h"
#include "dev/irqchip/pic8259.h"
#include "dev/misc/acpi_power.h"
#include "dev/misc/reset_ports.h"
#include "dev/serial/isa_serial.h"
#include "dev/timer/acpi_pm_timer.h"
#include "dev/timer/cmos_rtc.h"
#include "dev/timer/pit8254.h"

static const char *const on_off_auto[] = {"on", "off", "auto", NULL};

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
    return v->rtc != NULL;
}

/* With ACPI the transports have lines of their own; else those that a PIC has too. */
unsigned microvm_virtio_gsi(const struct microvm *v, unsigned n)
{
    return wanted(v->acpi_opt) ? MICROVM_VIRTIO_GSI + n : MICROVM_VIRTIO_ISA_LINE + n;
}

bool microvm_virtio_used(const struct microvm *v, unsigned n)
{
    return v->virtio[n].vdev != NULL;
}

static int microvm_add_ram(struct microvm *v, struct err *err)
{
    struct machine *m = v->machine;
    uint64_t size = m->config.ram_size;
    if (size < 1 << 20 || size & 0xfff) {
        return err_set(err, EINVAL, "-m: guest memory must be at least 1 MiB, in whole pages");
    }
    v->ram = ram_set_add(&m->ram, "ram", size, err);
    if (!v->ram) {
        return -ENOMEM;
    }
    v->low_ram = size < MICROVM_LOW_RAM_MAX ? size : MICROVM_LOW_RAM_MAX;
    v->high_ram = size - v->low_ram;
    mem_map_add_ram(m->mem, 0, v->ram, 0, v->low_ram);
    if (v->high_ram) {
        mem_map_add_ram(m->mem, MICROVM_HIGH_RAM, v->ram, v->low_ram, v->high_ram);
    }
    return 0;
}

static bool microvm_send(void *bus, const struct apic_msg *msg)
{
    return lapic_bus_send(bus, msg);
}

static void microvm_add_irqchips(struct microvm *v)
{
    struct machine *m = v->machine;
    v->lapics = lapic_bus_new(m->clock);
    mem_map_add_mmio(m->mem, LAPIC_BASE, LAPIC_SIZE, &lapic_mmio, v->lapics);
    v->ioapic = ioapic_new(0, microvm_send, v->lapics);
    mem_map_add_mmio(m->mem, IOAPIC_BASE, IOAPIC_SIZE, &ioapic_mmio, v->ioapic);
    lapic_bus_set_eoi(v->lapics, ioapic_eoi, v->ioapic);
    if (wanted(v->pic_opt)) {
        v->pic = pic_new(lapic_bus_lint0, v->lapics);
        pic_map(v->pic, m->io);
        lapic_bus_set_pic(v->lapics, pic_inta, v->pic);
    }
    for (unsigned i = 0; i < ARRAY_LEN(v->gsi); i++) {
        irq_pin_init(&v->gsi[i]);
        if (i != 2) {
            irq_pin_add(&v->gsi[i], ioapic_set_pin, v->ioapic, i ? i : 2);
        }
        if (v->pic && i < 16 && i != 2) {
            irq_pin_add(&v->gsi[i], pic_set_pin, v->pic, i);
        }
    }
    v->gsi_ready = true;
}

static int microvm_add_cpus(struct microvm *v, struct err *err)
{
    struct machine *m = v->machine;
    for (unsigned i = 0; i < m->config.vcpus; i++) {
        struct lapic *l = lapic_new(v->lapics, i);
        m->ic[i] = lapic_ctrl(l);
        int ret = machine_add_vcpu(m, err);
        if (ret) {
            return ret;
        }
        lapic_set_vcpu(l, m->vcpu[i]);
    }
    return 0;
}

/* One port for each -serial, COM1 in any case. */
static int microvm_add_serial(struct microvm *v, struct err *err)
{
    for (unsigned i = 0; i < 4; i++) {
        char id[16];
        snprintf(id, sizeof(id), "serial%u", i);
        struct backend *b = machine_find_backend(v->machine, "chardev", id);
        struct keyval args = {0};
        if (b) {
            keyval_add(&args, "chardev", id);
        } else if (i) {
            break;
        }
        struct dev *d = dev_new(v->machine, &isa_serial_type, &args, err);
        keyval_free(&args);
        if (!d) {
            return -EINVAL;
        }
    }
    return 0;
}

static int microvm_add_rtc(struct microvm *v, struct err *err)
{
    int64_t base;
    int ret = rtc_base_from_args(&v->machine->config.rtc_args, &base, err);
    if (ret || !wanted(v->rtc_opt)) {
        return ret;
    }
    v->rtc = rtc_new(v->machine->clock, base);
    irq_connect(rtc_irq(v->rtc), &v->gsi[8]);
    rtc_map(v->rtc, v->machine->io);
    return 0;
}

static void microvm_add_virtio(struct microvm *v)
{
    struct machine *m = v->machine;
    for (unsigned i = 0; i < MICROVM_VIRTIO_COUNT; i++) {
        struct virtio_mmio *t = &v->virtio[i];
        virtio_mmio_init(t, i, m->mem);
        irq_connect(&t->irq, &v->gsi[microvm_virtio_gsi(v, i)]);
        mem_map_add_mmio(m->mem, MICROVM_VIRTIO_BASE + i * MICROVM_VIRTIO_STRIDE, VIRTIO_MMIO_SIZE,
                         &virtio_mmio_regs, t);
        bus_add(m, &t->bus);
    }
}

static int microvm_init(struct machine *m, struct err *err)
{
    struct microvm *v = m->board_data;
    v->machine = m;
    int ret = microvm_add_ram(v, err);
    if (ret) {
        return ret;
    }
    microvm_add_irqchips(v);
    v->isa = (struct isa_bus){
        .bus = {&isa_bus_type, "isa.0", &v->isa, NULL}, .io = m->io, .pins = v->gsi};
    bus_add(m, &v->isa.bus);
    microvm_add_virtio(v);
    if (wanted(v->pit_opt)) {
        v->pit = pit_new(m->clock);
        irq_connect(pit_irq(v->pit), &v->gsi[0]);
        pit_map(v->pit, m->io);
    }
    ret = microvm_add_rtc(v, err);
    if (ret) {
        return ret;
    }
    reset_ports_map(m);
    acpi_pm_timer_map(m);
    mem_map_add_mmio(m->mem, MICROVM_POWER_BASE, ACPI_POWER_SIZE, &acpi_power_mmio, m);
    ret = microvm_add_cpus(v, err);
    if (!ret && v->isa_serial) {
        ret = microvm_add_serial(v, err);
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
    microvm_add_range(l, 0x100000, v->low_ram, X86_RANGE_RAM);
    microvm_add_range(l, MICROVM_HIGH_RAM, MICROVM_HIGH_RAM + v->high_ram, X86_RANGE_RAM);
}

static void microvm_reset_chips(struct microvm *v)
{
    ram_clear(v->ram);
    lapic_reset_all(v->lapics);
    ioapic_reset(v->ioapic);
    for (unsigned i = 0; i < MICROVM_VIRTIO_COUNT; i++) {
        virtio_mmio_reset(&v->virtio[i]);
    }
    if (v->pic) {
        pic_reset(v->pic);
    }
    if (v->pit) {
        pit_reset(v->pit);
    }
    if (v->rtc) {
        rtc_reset(v->rtc);
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
        !gmem_write(v->machine->mem, MICROVM_ACPI_TABLES, sb.text, sb.len)) {
        ret = err_set(err, ENOMEM, "no room for the ACPI tables");
    }
    strbuf_free(&sb);
    *rsdp = MICROVM_ACPI_TABLES;
    return ret;
}

/* Without ACPI the kernel learns of the transports from its command line. */
static void microvm_cmdline(const struct microvm *v, struct strbuf *out)
{
    const char *append = v->machine->config.append;
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
    if (!m->config.kernel) {
        return err_set(err, EINVAL, "machine 'microvm' has no firmware: it needs -kernel FILE");
    }
    struct strbuf cmdline = {0};
    microvm_cmdline(v, &cmdline);
    struct x86_load l = {.mem = m->mem,
                         .kernel = m->config.kernel,
                         .initrd = m->config.initrd,
                         .cmdline = strbuf_text(&cmdline),
                         .low_ram_end = v->low_ram,
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
    rtc_free(v->rtc);
    pit_free(v->pit);
    pic_free(v->pic);
    ioapic_free(v->ioapic);
    lapic_bus_free(v->lapics);
    for (unsigned i = 0; v->gsi_ready && i < ARRAY_LEN(v->gsi); i++) {
        irq_pin_fini(&v->gsi[i]);
    }
}

const struct board_type board_microvm = {
    .name = "microvm",
    .summary = "small PC without PCI, for direct kernel boot",
    .default_cpu = "qemu64",
    .default_ram = 128 << 20,
    .max_vcpus = MACHINE_MAX_VCPUS,
    .props = microvm_props,
    .size = sizeof(struct microvm),
    .init = microvm_init,
    .load = microvm_load,
    .fini = microvm_fini,
};
