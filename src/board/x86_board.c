/* The parts of every x86 board: memory, interrupt controllers, processors, timers, serial ports. */
#include "board/x86_board.h"

#include <errno.h>
#include <stdio.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/machine.h"
#include "dev/dma/i8237.h"
#include "dev/irqchip/ioapic.h"
#include "dev/irqchip/lapic.h"
#include "dev/irqchip/pic8259.h"
#include "dev/misc/isa_parallel.h"
#include "dev/serial/isa_serial.h"
#include "dev/timer/cmos_rtc.h"
#include "dev/timer/hpet.h"
#include "dev/timer/pit8254.h"
#include "state/field.h"

int x86_board_add_ram(struct x86_board *v, uint64_t low_max, bool window, struct err *err)
{
    struct machine *m = v->machine;
    uint64_t size = m->config.ram_size;
    if (size < 2 << 20 || size & 0xfff) {
        return err_set(err, EINVAL, "-m: guest memory must be at least 2 MiB, in whole pages");
    }
    v->ram = ram_set_add(&m->ram, "ram", size, err);
    if (!v->ram) {
        return -ENOMEM;
    }
    v->low_ram = size < low_max ? size : low_max;
    v->high_ram = size - v->low_ram;
    mem_map_begin(m->mem);
    if (window) {
        mem_map_add_ram(m->mem, 0, v->ram, 0, X86_BOARD_WINDOW);
        mem_map_add_ram(m->mem, X86_BOARD_WINDOW_END, v->ram, X86_BOARD_WINDOW_END,
                        v->low_ram - X86_BOARD_WINDOW_END);
    } else {
        mem_map_add_ram(m->mem, 0, v->ram, 0, v->low_ram);
    }
    if (v->high_ram) {
        mem_map_add_ram(m->mem, X86_BOARD_HIGH_RAM, v->ram, v->low_ram, v->high_ram);
    }
    mem_map_commit(m->mem);
    return 0;
}

static bool x86_board_send(void *bus, const struct apic_msg *msg)
{
    return lapic_bus_send(bus, msg);
}

void x86_board_add_irqchips(struct x86_board *v, bool with_pic)
{
    struct machine *m = v->machine;
    v->lapics = lapic_bus_new(m->clock);
    mem_map_add_mmio(m->mem, LAPIC_BASE, LAPIC_SIZE, &lapic_mmio, v->lapics);
    v->ioapic = ioapic_new(0, x86_board_send, v->lapics);
    mem_map_add_mmio(m->mem, IOAPIC_BASE, IOAPIC_SIZE, &ioapic_mmio, v->ioapic);
    lapic_bus_set_eoi(v->lapics, ioapic_eoi, v->ioapic);
    if (with_pic) {
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

int x86_board_add_cpus(struct x86_board *v, struct err *err)
{
    struct machine *m = v->machine;
    for (unsigned i = 0; i < m->config.vcpus; i++) {
        struct lapic *l = lapic_new(v->lapics, topology_apic_id(&m->config.topology, i));
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
int x86_board_add_serial(struct x86_board *v, struct err *err)
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

int x86_board_add_parallel(struct x86_board *v, struct err *err)
{
    for (unsigned i = 0; i < 3; i++) {
        char id[16], index[4];
        snprintf(id, sizeof(id), "parallel%u", i);
        snprintf(index, sizeof(index), "%u", i);
        if (!machine_find_backend(v->machine, "chardev", id)) {
            continue;
        }
        struct keyval args = {0};
        keyval_add(&args, "chardev", id);
        keyval_add(&args, "index", index);
        struct dev *d = dev_new(v->machine, &isa_parallel_type, &args, err);
        keyval_free(&args);
        if (!d) {
            return -EINVAL;
        }
    }
    return 0;
}

int x86_board_add_rtc(struct x86_board *v, bool wanted, struct err *err)
{
    int64_t base;
    int ret = rtc_base_from_args(&v->machine->config.rtc_args, &base, err);
    if (ret || !wanted) {
        return ret;
    }
    v->rtc = rtc_new(v->machine->clock, base);
    irq_connect(rtc_irq(v->rtc), v->hpet ? hpet_legacy_pin(v->hpet, HPET_LEGACY_RTC) : &v->gsi[8]);
    rtc_map(v->rtc, v->machine->io);
    return 0;
}

void x86_board_add_isa(struct x86_board *v)
{
    struct machine *m = v->machine;
    v->isa = (struct isa_bus){.bus = {.type = &isa_bus_type, .id = "isa.0", .owner = &v->isa},
                              .io = m->io,
                              .pins = v->gsi};
    bus_add(m, &v->isa.bus);
}

void x86_board_add_pit(struct x86_board *v)
{
    v->pit = pit_new(v->machine->clock);
    irq_connect(pit_irq(v->pit), &v->gsi[0]);
    pit_map(v->pit, v->machine->io);
}

void x86_board_add_dma(struct x86_board *v)
{
    v->dma = i8237_new(v->machine->mem);
    i8237_map(v->dma, v->machine->io);
    v->isa.dma = v->dma;
}

static void x86_board_pit_line(void *opaque, bool open)
{
    pit_want_line(opaque, open);
}

void x86_board_add_hpet(struct x86_board *v, uint32_t routes)
{
    v->hpet = hpet_new(v->machine->clock, v->gsi, routes);
    irq_connect(pit_irq(v->pit), hpet_legacy_pin(v->hpet, HPET_LEGACY_PIT));
    hpet_on_legacy(v->hpet, x86_board_pit_line, v->pit);
    hpet_map(v->hpet, v->machine->mem);
}

void x86_board_print_irqs(struct x86_board *v, bool counts, struct strbuf *out)
{
    if (!counts) {
        ioapic_print(v->ioapic, out);
        return;
    }
    ioapic_print_risen(v->ioapic, out);
    if (v->pic) {
        pic_print_risen(v->pic, out);
    }
}

void x86_board_reset(struct x86_board *v)
{
    machine_set_a20(v->machine, true);
    lapic_reset_all(v->lapics);
    ioapic_reset(v->ioapic);
    if (v->pic) {
        pic_reset(v->pic);
    }
    if (v->dma) {
        i8237_reset(v->dma);
    }
    if (v->hpet) {
        hpet_reset(v->hpet);
    }
    if (v->pit) {
        pit_reset(v->pit);
    }
    if (v->rtc) {
        rtc_reset(v->rtc);
    }
}

void x86_board_fini(struct x86_board *v)
{
    rtc_free(v->rtc);
    pit_free(v->pit);
    hpet_free(v->hpet);
    i8237_free(v->dma);
    pic_free(v->pic);
    ioapic_free(v->ioapic);
    lapic_bus_free(v->lapics);
    for (unsigned i = 0; v->gsi_ready && i < ARRAY_LEN(v->gsi); i++) {
        irq_pin_fini(&v->gsi[i]);
    }
}

/* ---- State ---- */

static const struct field x86_board_list[] = {
    FIELD(struct x86_board, machine, FIELD_HOST),
    FIELD(struct x86_board, ram, FIELD_HOST),
    FIELD(struct x86_board, low_ram, FIELD_CONFIG),
    FIELD(struct x86_board, high_ram, FIELD_CONFIG),
    FIELD_ONE(struct x86_board, lapics, lapic_bus_fields),
    FIELD_ONE(struct x86_board, ioapic, ioapic_fields),
    FIELD_ONE(struct x86_board, pic, pic_fields),
    FIELD_ONE(struct x86_board, pit, pit_fields),
    FIELD_ONE(struct x86_board, rtc, rtc_fields),
    FIELD_ONE(struct x86_board, hpet, hpet_fields),
    FIELD_ONE(struct x86_board, dma, i8237_fields),
    FIELD(struct x86_board, gsi, FIELD_DERIVED),
    FIELD(struct x86_board, gsi_ready, FIELD_HOST),
    FIELD(struct x86_board, isa, FIELD_HOST),
};

FIELD_SET_SHARED(x86_board_fields, "x86-board", struct x86_board, x86_board_list, 1);
