/*
 * PS/2 mouse: IBM PS/2 Hardware Interface Technical Reference (1990), mouse; wheel and five buttons
 * as Microsoft's IntelliMouse has them (identified by three sample rates in a row).
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "dev/input/ps2.h"
#include "state/field.h"

enum {
    ACK = 0xfa,
    RESEND = 0xfe,
    SELF_TEST_OK = 0xaa,
    CMD_SCALING_1 = 0xe6,
    CMD_SCALING_2 = 0xe7,
    CMD_RESOLUTION = 0xe8,
    CMD_STATUS = 0xe9,
    CMD_STREAM = 0xea,
    CMD_READ = 0xeb,
    CMD_UNWRAP = 0xec,
    CMD_WRAP = 0xee,
    CMD_REMOTE = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULT = 0xf6,
    CMD_RESET = 0xff,
    ALWAYS = 0x08, /* in the first byte of a packet */
    PACKETS = 16,  /* that may wait; more motion is added up */
    MOST = 16384,  /* motion that is added up */
    WHEEL_MOST = 127,
};

static void mouse_say(struct ps2_mouse *m, uint8_t byte)
{
    ps2_queue_put(&m->queue, &byte, 1);
}

static int bounded(int v, int most)
{
    return v > most ? most : v < -most - 1 ? -most - 1 : v;
}

/* One packet of what has come together; the rest stays for the next. */
static void mouse_packet(struct ps2_mouse *m)
{
    int dx = bounded(m->dx, 255), dy = bounded(m->dy, 255), dz = bounded(m->dz, 7);
    uint8_t p[4] = {(uint8_t)(ALWAYS | (m->held & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)),
                    (uint8_t)dx, (uint8_t)dy, (uint8_t)(m->id == 4 ? dz & 15 : dz)};
    m->dx -= dx;
    m->dy -= dy;
    m->dz -= dz;
    ps2_queue_put(&m->queue, p, m->id ? 4 : 3);
}

static void mouse_report(struct ps2_mouse *m)
{
    if (!m->enabled || m->remote) {
        return;
    }
    while ((m->dx || m->dy || m->dz) && m->queue.count < PACKETS * 4) {
        mouse_packet(m);
    }
    m->port.filled(m->port.opaque);
}

static void mouse_move(void *opaque, int dx, int dy)
{
    struct ps2_mouse *m = opaque;
    AUTO_LOCK(m->port.lock);
    m->dx = bounded(m->dx + bounded(dx, 8192), MOST);
    m->dy = bounded(m->dy - bounded(dy, 8192), MOST); /* up is positive here */
    mouse_report(m);
}

static void mouse_buttons(void *opaque, unsigned held)
{
    struct ps2_mouse *m = opaque;
    AUTO_LOCK(m->port.lock);
    m->dz += (held & INPUT_WHEEL_DOWN ? 1 : 0) - (held & INPUT_WHEEL_UP ? 1 : 0);
    m->dz = bounded(m->dz, WHEEL_MOST);
    bool changed = (held & 7) != m->held;
    m->held = held & 7;
    if (m->enabled && !m->remote && changed && m->queue.count < PACKETS * 4) {
        mouse_packet(m);
    }
    mouse_report(m);
}

/* ---- Commands ---- */

static void mouse_defaults(struct ps2_mouse *m)
{
    m->command = 0;
    m->resolution = 2;
    m->rate = 100;
    m->enabled = m->remote = m->wrap = m->scaling = false;
    m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    mouse_defaults(m);
    m->queue.count = 0;
    m->id = 0;
    memset(m->rates, 0, sizeof(m->rates));
}

static void mouse_set_rate(struct ps2_mouse *m, uint8_t rate)
{
    m->rate = rate;
    m->rates[0] = m->rates[1];
    m->rates[1] = m->rates[2];
    m->rates[2] = rate;
    if (m->rates[0] == 200 && m->rates[2] == 80) {
        m->id = m->rates[1] == 100 ? 3 : m->rates[1] == 200 && m->id ? 4 : m->id;
    }
}

static void mouse_status(struct ps2_mouse *m)
{
    mouse_say(m, ACK);
    mouse_say(m,
              (uint8_t)((m->remote ? 0x40 : 0) | (m->enabled ? 0x20 : 0) | (m->scaling ? 0x10 : 0) |
                        (m->held & 1 ? 4 : 0) | (m->held & 2 ? 1 : 0) | (m->held & 4 ? 2 : 0)));
    mouse_say(m, m->resolution);
    mouse_say(m, m->rate);
}

static void mouse_command(struct ps2_mouse *m, uint8_t byte)
{
    switch (byte) {
    case CMD_SCALING_1: m->scaling = false; break;
    case CMD_SCALING_2: m->scaling = true; break;
    case CMD_RESOLUTION:
    case CMD_RATE: m->command = byte; break;
    case CMD_STATUS: mouse_status(m); return;
    case CMD_STREAM: m->remote = false; break;
    case CMD_REMOTE: m->remote = true; break;
    case CMD_WRAP: m->wrap = true; break;
    case CMD_UNWRAP: break;
    case CMD_READ:
        mouse_say(m, ACK);
        mouse_packet(m);
        return;
    case CMD_ID:
        mouse_say(m, ACK);
        mouse_say(m, m->id);
        return;
    case CMD_ENABLE: m->enabled = true; break;
    case CMD_DISABLE: m->enabled = false; break;
    case CMD_DEFAULT: mouse_defaults(m); break;
    case CMD_RESET:
        ps2_mouse_reset(m);
        mouse_say(m, ACK);
        mouse_say(m, SELF_TEST_OK);
        mouse_say(m, 0);
        return;
    default: mouse_say(m, RESEND); return;
    }
    mouse_say(m, ACK);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
    if (m->wrap && byte != CMD_RESET && byte != CMD_UNWRAP) {
        mouse_say(m, byte);
    } else if (m->wrap && byte == CMD_UNWRAP) {
        m->wrap = false;
        mouse_say(m, ACK);
    } else if (m->command) {
        if (m->command == CMD_RATE) {
            mouse_set_rate(m, byte);
        } else {
            m->resolution = byte & 3;
        }
        m->command = 0;
        mouse_say(m, ACK);
    } else {
        mouse_command(m, byte);
    }
    m->port.filled(m->port.opaque);
}

void ps2_mouse_init(struct ps2_mouse *m, const struct ps2_port *port)
{
    m->port = *port;
    m->sink = (struct input_sink){.move = mouse_move, .buttons = mouse_buttons, .opaque = m};
    ps2_mouse_reset(m);
}

/* ---- State ---- */

static const struct field ps2_mouse_list[] = {
    FIELD(struct ps2_mouse, port, FIELD_HOST),
    FIELD(struct ps2_mouse, queue, FIELD_GUEST, .sub = &ps2_queue_fields),
    FIELD(struct ps2_mouse, sink, FIELD_HOST),
    FIELD(struct ps2_mouse, command, FIELD_GUEST),
    FIELD_ARRAY(struct ps2_mouse, rates, FIELD_GUEST),
    FIELD(struct ps2_mouse, id, FIELD_GUEST, .max = 4),
    FIELD(struct ps2_mouse, resolution, FIELD_GUEST, .max = 3),
    FIELD(struct ps2_mouse, rate, FIELD_GUEST),
    FIELD(struct ps2_mouse, enabled, FIELD_GUEST),
    FIELD(struct ps2_mouse, remote, FIELD_GUEST),
    FIELD(struct ps2_mouse, wrap, FIELD_GUEST),
    FIELD(struct ps2_mouse, scaling, FIELD_GUEST),
    FIELD(struct ps2_mouse, held, FIELD_GUEST, .max = 7),
    FIELD(struct ps2_mouse, dx, FIELD_GUEST),
    FIELD(struct ps2_mouse, dy, FIELD_GUEST),
    FIELD(struct ps2_mouse, dz, FIELD_GUEST),
};

static int ps2_mouse_loaded(void *obj, struct err *err)
{
    const struct ps2_mouse *m = obj;
    if (bounded(m->dx, MOST) != m->dx || bounded(m->dy, MOST) != m->dy ||
        bounded(m->dz, WHEEL_MOST) != m->dz) {
        return err_set(err, EINVAL, "state of ps2-mouse: it has moved too far");
    }
    return 0;
}

FIELD_SET_SHARED(ps2_mouse_fields, "ps2-mouse", struct ps2_mouse, ps2_mouse_list, 1,
                 .loaded = ps2_mouse_loaded);
