/* PS/2 keyboard and mouse: bytes both ways; what they are plugged into hears of bytes to fetch. */
#ifndef DEV_INPUT_PS2_H
#define DEV_INPUT_PS2_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "display/display.h"

#define PS2_QUEUE 256

/* Answers come before events that wait; what does not fit is lost, as on a real line. */
struct ps2_queue {
    uint8_t bytes[PS2_QUEUE];
    unsigned first, count;
};

bool ps2_queue_put(struct ps2_queue *q, const uint8_t *bytes, unsigned n); /* all or nothing */
bool ps2_queue_get(struct ps2_queue *q, uint8_t *byte);

/* All calls but the sinks' with the controller's lock held; the sinks take it. */
struct ps2_port {
    pthread_mutex_t *lock;
    void (*filled)(void *opaque); /* there are bytes; the lock is held */
    void *opaque;
};

struct ps2_keyboard {
    struct ps2_port port;
    struct ps2_queue queue;
    struct input_sink sink;
    uint8_t command; /* that waits for its argument; 0: none */
    uint8_t set;     /* of scan codes: 1 or 2 */
    uint8_t last;    /* byte, for resend */
    bool enabled;
};

void ps2_keyboard_init(struct ps2_keyboard *k, const struct ps2_port *port);
void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);

struct ps2_mouse {
    struct ps2_port port;
    struct ps2_queue queue;
    struct input_sink sink;
    uint8_t command;
    uint8_t rates[3]; /* the last three: how a driver asks for more buttons */
    uint8_t id;       /* 0, 3 with a wheel, 4 with five buttons */
    uint8_t resolution, rate;
    bool enabled, remote, wrap, scaling;
    unsigned held;
    int dx, dy, dz;
};

void ps2_mouse_init(struct ps2_mouse *m, const struct ps2_port *port);
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);

/* Set 2 to set 1, as the controller translates. */
uint8_t ps2_translate(uint8_t set2);

extern const struct field_set ps2_queue_fields; /* struct ps2_queue */

extern const struct field_set ps2_keyboard_fields; /* struct ps2_keyboard */

extern const struct field_set ps2_mouse_fields; /* struct ps2_mouse */

#endif
