/*
 * PS/2 keyboard: IBM PS/2 Hardware Interface Technical Reference (1990), keyboard. Scan code sets 1
 * and 2. Does not do: set 3, typematic repeat (the host's keyboard repeats).
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "dev/input/ps2.h"
#include "display/keys.h"
#include "state/field.h"

enum {
    ACK = 0xfa,
    SELF_TEST_OK = 0xaa,
    RESEND = 0xfe,
    ECHO = 0xee,
    BREAK_2 = 0xf0, /* before a code of set 2 */
    BREAK_1 = 0x80, /* in a code of set 1 */
    EXTENDED = 0xe0,
    CMD_LEDS = 0xed,
    CMD_ECHO = 0xee,
    CMD_SET = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULT = 0xf6,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
};

/* ---- Codes ---- */

/* By set 1, which is Linux's numbering up to KEY_F12. */
static const uint8_t set2_of[] = {
    0,    0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
    0x13, 0,    0,    0x51, 0,    0,    0,    0,    0,    0x64, 0,    0x67, 0,    0x6a, 0x6d,
};

uint8_t ps2_translate(uint8_t set2)
{
    for (unsigned i = 1; i < ARRAY_LEN(set2_of); i++) {
        if (set2 && set2_of[i] == set2) {
            return (uint8_t)i;
        }
    }
    return set2;
}

/* `code` as keys_to_scan_code() has it. */
static unsigned key_bytes(const struct ps2_keyboard *k, unsigned code, bool down, uint8_t *out)
{
    unsigned n = 0;
    uint8_t set1 = code & 0x7f;
    if (code & 0x80) {
        out[n++] = EXTENDED;
    }
    if (k->set == 1) {
        out[n++] = set1 | (down ? 0 : BREAK_1);
        return n;
    }
    if (!down) {
        out[n++] = BREAK_2;
    }
    out[n++] = set2_of[set1];
    return n;
}

/* Pause is one sequence when it goes down and none when it comes up. */
static unsigned pause_bytes(const struct ps2_keyboard *k, bool down, uint8_t *out)
{
    static const uint8_t set1[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    static const uint8_t set2[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
    unsigned n = !down ? 0 : k->set == 1 ? sizeof(set1) : sizeof(set2);
    memcpy(out, k->set == 1 ? set1 : set2, n);
    return n;
}

/* ---- Events ---- */

bool ps2_queue_put(struct ps2_queue *q, const uint8_t *bytes, unsigned n)
{
    if (n > PS2_QUEUE - q->count) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        q->bytes[(q->first + q->count++) % PS2_QUEUE] = bytes[i];
    }
    return true;
}

bool ps2_queue_get(struct ps2_queue *q, uint8_t *byte)
{
    if (!q->count) {
        return false;
    }
    *byte = q->bytes[q->first];
    q->first = (q->first + 1) % PS2_QUEUE;
    q->count--;
    return true;
}

static void keyboard_key(void *opaque, unsigned code, bool down)
{
    struct ps2_keyboard *k = opaque;
    uint8_t bytes[8];
    unsigned scan = keys_to_scan_code(code);
    AUTO_LOCK(k->port.lock);
    if (!k->enabled || !scan) {
        return;
    }
    unsigned n = code == KEY_PAUSE ? pause_bytes(k, down, bytes) : key_bytes(k, scan, down, bytes);
    if (n && ps2_queue_put(&k->queue, bytes, n)) {
        k->port.filled(k->port.opaque);
    }
}

/* ---- Commands ---- */

static void keyboard_say(struct ps2_keyboard *k, uint8_t byte)
{
    k->last = byte;
    ps2_queue_put(&k->queue, &byte, 1);
}

static void keyboard_defaults(struct ps2_keyboard *k)
{
    k->queue.count = 0;
    k->command = 0;
    k->set = 2;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    keyboard_defaults(k);
    k->enabled = true;
}

static void keyboard_argument(struct ps2_keyboard *k, uint8_t byte)
{
    uint8_t command = k->command;
    k->command = 0;
    keyboard_say(k, ACK);
    if (command == CMD_SET && !byte) {
        keyboard_say(k, k->set);
    } else if (command == CMD_SET && byte <= 2) {
        k->set = byte;
    }
}

static void keyboard_command(struct ps2_keyboard *k, uint8_t byte)
{
    switch (byte) {
    case CMD_ECHO: keyboard_say(k, ECHO); return;
    case CMD_RESEND: keyboard_say(k, k->last); return;
    case CMD_LEDS:
    case CMD_SET:
    case CMD_RATE: k->command = byte; break;
    case CMD_ID:
        keyboard_say(k, ACK);
        keyboard_say(k, 0xab);
        keyboard_say(k, 0x83);
        return;
    case CMD_ENABLE: k->enabled = true; break;
    case CMD_DISABLE:
    case CMD_DEFAULT:
        keyboard_defaults(k);
        k->enabled = byte == CMD_DEFAULT;
        break;
    case CMD_RESET:
        ps2_keyboard_reset(k);
        keyboard_say(k, ACK);
        keyboard_say(k, SELF_TEST_OK);
        return;
    default: keyboard_say(k, RESEND); return;
    }
    keyboard_say(k, ACK);
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
    /* A command in place of an argument is a command. */
    if (k->command && byte < CMD_LEDS) {
        keyboard_argument(k, byte);
    } else {
        k->command = 0;
        keyboard_command(k, byte);
    }
    k->port.filled(k->port.opaque);
}

void ps2_keyboard_init(struct ps2_keyboard *k, const struct ps2_port *port)
{
    k->port = *port;
    k->sink = (struct input_sink){.key = keyboard_key, .opaque = k};
    ps2_keyboard_reset(k);
}

/* ---- State ---- */

static const struct field ps2_queue_list[] = {
    FIELD_ARRAY(struct ps2_queue, bytes, FIELD_GUEST),
    FIELD(struct ps2_queue, first, FIELD_GUEST, .max = PS2_QUEUE - 1),
    FIELD(struct ps2_queue, count, FIELD_GUEST, .max = PS2_QUEUE),
};

FIELD_SET_SHARED(ps2_queue_fields, "ps2-queue", struct ps2_queue, ps2_queue_list, 1);

static const struct field ps2_keyboard_list[] = {
    FIELD(struct ps2_keyboard, port, FIELD_HOST),
    FIELD(struct ps2_keyboard, queue, FIELD_GUEST, .sub = &ps2_queue_fields),
    FIELD(struct ps2_keyboard, sink, FIELD_HOST),
    FIELD(struct ps2_keyboard, command, FIELD_GUEST),
    FIELD(struct ps2_keyboard, set, FIELD_GUEST, .min = 1, .max = 2),
    FIELD(struct ps2_keyboard, last, FIELD_GUEST),
    FIELD(struct ps2_keyboard, enabled, FIELD_GUEST),
};

FIELD_SET_SHARED(ps2_keyboard_fields, "ps2-keyboard", struct ps2_keyboard, ps2_keyboard_list, 1);
