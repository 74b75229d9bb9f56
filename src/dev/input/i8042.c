/*
 * Keyboard controller 8042: IBM PC/AT and PS/2 technical references. Port 60h data, 64h status and
 * commands. Does not do: test inputs, the passwords. Whoever wrote A20 last, it or port 92h, has
 * its way.
 */
#include "dev/input/i8042.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/fields.h"
#include "core/irq.h"
#include "core/machine.h"
#include "dev/input/ps2.h"

enum {
    STATUS_OBF = 0x01,
    STATUS_SYS = 0x04,
    STATUS_CMD = 0x08,
    STATUS_UNLOCKED = 0x10,
    STATUS_AUX = 0x20,
    MODE_INT_KEYBOARD = 0x01,
    MODE_INT_MOUSE = 0x02,
    MODE_SYS = 0x04,
    MODE_NO_KEYBOARD = 0x10,
    MODE_NO_MOUSE = 0x20,
    MODE_TRANSLATE = 0x40,
    OUT_RESET = 0x01, /* low: reset */
    OUT_A20 = 0x02,
    CMD_READ_MODE = 0x20,
    CMD_WRITE_MODE = 0x60,
    CMD_NO_MOUSE = 0xa7,
    CMD_MOUSE = 0xa8,
    CMD_TEST_MOUSE = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_TEST_KEYBOARD = 0xab,
    CMD_NO_KEYBOARD = 0xad,
    CMD_KEYBOARD = 0xae,
    CMD_READ_INPUT = 0xc0,
    CMD_READ_OUTPUT = 0xd0,
    CMD_WRITE_OUTPUT = 0xd1,
    CMD_SAY_KEYBOARD = 0xd2,
    CMD_SAY_MOUSE = 0xd3,
    CMD_TO_MOUSE = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_PULSE = 0xf0, /* to ff: zeros are lines to pulse */
    INPUT_PORT = 0x80 /* not locked */
};

struct i8042 {
    struct machine *machine;
    pthread_mutex_t lock; /* all below */
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    struct irq irq_keyboard, irq_mouse;
    uint8_t mode, status, out, output_port;
    uint8_t command; /* that waits for a byte at port 60h; 0: none */
    bool break_2;    /* the keyboard has sent F0 */
};

/* ---- The output buffer ---- */

static void kbc_lines(struct i8042 *c)
{
    bool full = c->status & STATUS_OBF, aux = c->status & STATUS_AUX;
    irq_set(&c->irq_keyboard, full && !aux && c->mode & MODE_INT_KEYBOARD);
    irq_set(&c->irq_mouse, full && aux && c->mode & MODE_INT_MOUSE);
}

static void kbc_say(struct i8042 *c, uint8_t byte, bool aux)
{
    c->out = byte;
    c->status = (uint8_t)((c->status & ~STATUS_AUX) | STATUS_OBF | (aux ? STATUS_AUX : 0));
    kbc_lines(c);
}

/* A byte of the keyboard as the computer gets it; false: there is none (yet). */
static bool kbc_fetch_key(struct i8042 *c, uint8_t *byte)
{
    while (ps2_queue_get(&c->keyboard.queue, byte)) {
        if (!(c->mode & MODE_TRANSLATE)) {
            return true;
        }
        if (*byte == 0xf0) {
            c->break_2 = true;
            continue;
        }
        *byte = (uint8_t)(ps2_translate(*byte) | (c->break_2 ? 0x80 : 0));
        c->break_2 = false;
        return true;
    }
    return false;
}

static void kbc_fill(struct i8042 *c)
{
    uint8_t byte;
    if (c->status & STATUS_OBF) {
        return;
    }
    if (!(c->mode & MODE_NO_KEYBOARD) && kbc_fetch_key(c, &byte)) {
        kbc_say(c, byte, false);
    } else if (!(c->mode & MODE_NO_MOUSE) && ps2_queue_get(&c->mouse.queue, &byte)) {
        kbc_say(c, byte, true);
    }
}

static void kbc_filled(void *opaque)
{
    kbc_fill(opaque);
}

/* ---- Ports ---- */

static void kbc_write_output(struct i8042 *c, uint8_t val)
{
    c->output_port = val | OUT_RESET;
    machine_set_a20(c->machine, val & OUT_A20);
    if (!(val & OUT_RESET)) {
        machine_ask(c->machine, MACHINE_REQ_RESET, 0);
    }
}

static uint8_t kbc_read_output(const struct i8042 *c)
{
    return (uint8_t)((c->output_port & ~OUT_A20) | (c->machine->a20_off ? 0 : OUT_A20));
}

static void kbc_command(struct i8042 *c, uint8_t val)
{
    c->command = 0;
    switch (val) {
    case CMD_READ_MODE: kbc_say(c, c->mode, false); break;
    case CMD_WRITE_MODE:
    case CMD_WRITE_OUTPUT:
    case CMD_SAY_KEYBOARD:
    case CMD_SAY_MOUSE:
    case CMD_TO_MOUSE: c->command = val; break;
    case CMD_NO_MOUSE: c->mode |= MODE_NO_MOUSE; break;
    case CMD_MOUSE: c->mode &= ~MODE_NO_MOUSE; break;
    case CMD_TEST_MOUSE:
    case CMD_TEST_KEYBOARD: kbc_say(c, 0, false); break;
    case CMD_SELF_TEST:
        c->status |= STATUS_SYS;
        kbc_say(c, 0x55, false);
        break;
    case CMD_NO_KEYBOARD: c->mode |= MODE_NO_KEYBOARD; break;
    case CMD_KEYBOARD: c->mode &= ~MODE_NO_KEYBOARD; break;
    case CMD_READ_INPUT: kbc_say(c, INPUT_PORT, false); break;
    case CMD_READ_OUTPUT: kbc_say(c, kbc_read_output(c), false); break;
    case CMD_A20_OFF:
    case CMD_A20_ON: machine_set_a20(c->machine, val == CMD_A20_ON); break;
    default:
        if (val >= CMD_PULSE && !(val & OUT_RESET)) {
            machine_ask(c->machine, MACHINE_REQ_RESET, 0);
        }
    }
    kbc_fill(c);
}

static void kbc_data(struct i8042 *c, uint8_t val)
{
    uint8_t command = c->command;
    c->command = 0;
    switch (command) {
    case 0:
        c->mode &= ~MODE_NO_KEYBOARD; /* writing to it switches it on */
        ps2_keyboard_write(&c->keyboard, val);
        break;
    case CMD_WRITE_MODE:
        c->mode = val;
        c->status = (uint8_t)((c->status & ~STATUS_SYS) | (val & MODE_SYS));
        kbc_lines(c);
        break;
    case CMD_WRITE_OUTPUT: kbc_write_output(c, val); break;
    case CMD_SAY_KEYBOARD: kbc_say(c, val, false); break;
    case CMD_SAY_MOUSE: kbc_say(c, val, true); break;
    case CMD_TO_MOUSE: ps2_mouse_write(&c->mouse, val); break;
    }
    kbc_fill(c);
}

static enum mem_result kbc_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct i8042 *c = opaque;
    AUTO_LOCK(&c->lock);
    if (off) {
        *val = c->status | STATUS_UNLOCKED;
        return MEM_OK;
    }
    *val = c->out;
    c->status &= ~STATUS_OBF;
    kbc_lines(c);
    kbc_fill(c);
    return MEM_OK;
}

static enum mem_result kbc_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct i8042 *c = opaque;
    AUTO_LOCK(&c->lock);
    if (off) {
        c->status |= STATUS_CMD;
        kbc_command(c, (uint8_t)val);
    } else {
        c->status &= ~STATUS_CMD;
        kbc_data(c, (uint8_t)val);
    }
    return MEM_OK;
}

/* Two regions with one set of functions: `off` 0 is data. */
static enum mem_result kbc_status_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    return kbc_read(opaque, 4, size, val);
}

static enum mem_result kbc_command_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return kbc_write(opaque, 4, size, val);
}

static const struct mmio kbc_data_port = {kbc_read, kbc_write, 1, 1};
static const struct mmio kbc_command_port = {kbc_status_read, kbc_command_write, 1, 1};

void i8042_reset(struct i8042 *c)
{
    AUTO_LOCK(&c->lock);
    c->mode = MODE_INT_KEYBOARD | MODE_INT_MOUSE;
    c->status = STATUS_CMD;
    c->output_port = OUT_RESET | OUT_A20;
    c->command = 0;
    c->break_2 = false;
    ps2_keyboard_reset(&c->keyboard);
    ps2_mouse_reset(&c->mouse);
    kbc_lines(c);
}

struct i8042 *i8042_new(struct machine *m, struct irq_pin *keyboard, struct irq_pin *mouse)
{
    struct i8042 *c = alloc_zero(sizeof(*c));
    const struct ps2_port port = {&c->lock, kbc_filled, c};
    c->machine = m;
    pthread_mutex_init(&c->lock, NULL);
    irq_connect(&c->irq_keyboard, keyboard);
    irq_connect(&c->irq_mouse, mouse);
    ps2_keyboard_init(&c->keyboard, &port);
    ps2_mouse_init(&c->mouse, &port);
    if (m->display) {
        display_add_sink(m->display, &c->keyboard.sink);
        display_add_sink(m->display, &c->mouse.sink);
    }
    mem_map_add_mmio(m->io, 0x60, 1, &kbc_data_port, c);
    mem_map_add_mmio(m->io, 0x64, 1, &kbc_command_port, c);
    return c;
}

void i8042_free(struct i8042 *c)
{
    if (!c) {
        return;
    }
    if (c->machine->display) {
        display_remove_sink(c->machine->display, &c->keyboard.sink);
        display_remove_sink(c->machine->display, &c->mouse.sink);
    }
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- State ---- */

static const struct field i8042_list[] = {
    FIELD(struct i8042, machine, FIELD_HOST),
    FIELD(struct i8042, lock, FIELD_HOST),
    FIELD(struct i8042, keyboard, FIELD_GUEST, .sub = &ps2_keyboard_fields),
    FIELD(struct i8042, mouse, FIELD_GUEST, .sub = &ps2_mouse_fields),
    FIELD(struct i8042, irq_keyboard, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct i8042, irq_mouse, FIELD_GUEST, .sub = &irq_fields),
    FIELD(struct i8042, mode, FIELD_GUEST),
    FIELD(struct i8042, status, FIELD_GUEST),
    FIELD(struct i8042, out, FIELD_GUEST),
    FIELD(struct i8042, output_port, FIELD_GUEST),
    FIELD(struct i8042, command, FIELD_GUEST),
    FIELD(struct i8042, break_2, FIELD_GUEST),
};

FIELD_SET_SHARED(i8042_fields, "i8042", struct i8042, i8042_list, 1);
