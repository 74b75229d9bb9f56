/* The two interrupt controllers of the PC, as a pair. */
#ifndef DEV_IRQCHIP_PIC8259_H
#define DEV_IRQCHIP_PIC8259_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"

struct pic;
struct strbuf;

/* `out` is the pair's INTR; called with the pair's lock held. */
struct pic *pic_new(void (*out)(void *, unsigned, bool), void *opaque);
void pic_free(struct pic *pic);
void pic_print_risen(struct pic *pic, struct strbuf *out); /* interrupts by input */
void pic_reset(struct pic *pic);
void pic_set_pin(void *pic, unsigned n, bool level); /* irq_pin_fn, n from 0 to 15; any thread */
int pic_inta(void *pic);                             /* interrupt acknowledge: the vector */
void pic_map(struct pic *pic, struct mem_map *io);   /* 20h, a0h and the ELCRs at 4d0h */

extern const struct field_set pic_fields; /* struct pic */

#endif
