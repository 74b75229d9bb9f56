/* The PC's two DMA controllers. Devices reach their channel by the ISA bus: isa_bus.h. */
#ifndef DEV_DMA_I8237_H
#define DEV_DMA_I8237_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"

struct i8237_pair;

enum { I8237_CHANNELS = 8 }; /* 4 is the cascade */

/* `mem` is where transfers go. */
struct i8237_pair *i8237_new(struct mem_map *mem);
void i8237_free(struct i8237_pair *p);
void i8237_reset(struct i8237_pair *p);
void i8237_map(struct i8237_pair *p, struct mem_map *io);

/* Who is told that a channel may have become ready while it was requested; no lock is held. NULL:
 * nobody any more. False: there is no such channel, or it has somebody. */
bool i8237_connect(struct i8237_pair *p, unsigned channel, void (*ready)(void *), void *opaque);

/* The device's DREQ. */
void i8237_request(struct i8237_pair *p, unsigned channel, bool on);

/*
 * The device is acknowledged: moves up to `len` bytes and says how many (words on channels 5 to 7:
 * an even number). *tc: the count has come to its end, then no more follows in this call. 0 when
 * the channel is masked, switched off, or programmed for the other direction. Where guest memory is
 * not RAM, writes vanish and reads give ones.
 */
uint32_t i8237_to_memory(struct i8237_pair *p, unsigned channel, const void *buf, uint32_t len,
                         bool *tc);
uint32_t i8237_from_memory(struct i8237_pair *p, unsigned channel, void *buf, uint32_t len,
                           bool *tc);

extern const struct field_set i8237_fields; /* struct i8237_pair */

#endif
