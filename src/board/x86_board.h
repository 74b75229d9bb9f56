/* What every x86 board contains. */
#ifndef BOARD_X86_BOARD_H
#define BOARD_X86_BOARD_H

#include "core/irq.h"
#include "dev/isa/isa_bus.h"

struct err;
struct hpet;
struct i8237_pair;
struct ioapic;
struct lapic_bus;
struct machine;
struct pic;
struct pit;
struct ram;
struct rtc;
struct strbuf;

#define X86_BOARD_HIGH_RAM 0x100000000ull
#define X86_BOARD_WINDOW 0xa0000ull /* to the first MiB: video memory and ROMs */
#define X86_BOARD_WINDOW_END 0x100000ull

struct x86_board {
    struct machine *machine;
    struct ram *ram;
    uint64_t low_ram, high_ram; /* bytes below and above 4 GiB */
    struct lapic_bus *lapics;
    struct ioapic *ioapic;
    struct pic *pic; /* NULL: none, as for the next four */
    struct pit *pit;
    struct rtc *rtc;
    struct hpet *hpet;
    struct i8237_pair *dma;
    struct irq_pin gsi[24]; /* the first 16 are the ISA lines */
    bool gsi_ready;
    struct isa_bus isa;
};

/* In this order; `machine` is set. At most `low_max` bytes lie below 4 GiB;
 * with `window` there is no RAM from a0000h to fffffh. */
int x86_board_add_ram(struct x86_board *v, uint64_t low_max, bool window, struct err *err);
void x86_board_add_irqchips(struct x86_board *v, bool with_pic);
void x86_board_add_isa(struct x86_board *v);
void x86_board_add_dma(struct x86_board *v); /* for the ISA bus */
void x86_board_add_pit(struct x86_board *v);
/* After the PIT, before the clock. `routes`: lines that timers may have. */
void x86_board_add_hpet(struct x86_board *v, uint32_t routes);
int x86_board_add_rtc(struct x86_board *v, bool wanted, struct err *err);
int x86_board_add_cpus(struct x86_board *v, struct err *err);
int x86_board_add_serial(struct x86_board *v, struct err *err); /* COM1, and one per -serial */

int x86_board_add_parallel(struct x86_board *v, struct err *err); /* one per -parallel */

void x86_board_print_irqs(struct x86_board *v, bool counts, struct strbuf *out);
void x86_board_reset(struct x86_board *v); /* the chips; not the memory */
void x86_board_fini(struct x86_board *v);

extern const struct field_set x86_board_fields; /* struct x86_board */

#endif
