/* Packets: framing, checksums, acknowledgements, and the stub's life. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "gdb/internal.h"

struct gdb *gdb_new(struct machine *m, gdb_write_fn *write, void *opaque)
{
    struct gdb *g = alloc_zero(sizeof(*g));
    g->m = m;
    g->write = write;
    g->opaque = opaque;
    g->debug.stopped = gdb_on_stopped;
    g->debug.opaque = g;
    m->debug = &g->debug;
    return g;
}

void gdb_free(struct gdb *g)
{
    if (g) {
        strbuf_free(&g->out);
        free(g);
    }
}

int gdb_hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool gdb_number(const char **p, uint64_t *out)
{
    const char *start = *p;
    *out = 0;
    for (int d; (d = gdb_hex_digit(**p)) >= 0; ++*p) {
        *out = *out << 4 | (unsigned)d;
    }
    return *p != start;
}

bool gdb_unhex(const char *p, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int hi = gdb_hex_digit(p[2 * i]), lo = hi < 0 ? -1 : gdb_hex_digit(p[2 * i + 1]);
        if (lo < 0) {
            return false;
        }
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

void gdb_add_hex(struct strbuf *sb, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        strbuf_add(sb, "%02x", bytes[i]);
    }
}

/* '}' and the byte xor 0x20 stand for bytes with a meaning of their own. */
void gdb_send_bytes(struct gdb *g, const char *body, size_t len)
{
    char *packet = alloc_zero(2 * len + 8);
    size_t n = 0;
    uint8_t sum = 0;
    packet[n++] = '$';
    for (size_t i = 0; i < len; i++) {
        char c = body[i];
        if (c == '$' || c == '#' || c == '}' || c == '*') {
            packet[n++] = '}';
            sum = (uint8_t)(sum + '}');
            c ^= 0x20;
        }
        packet[n++] = c;
        sum = (uint8_t)(sum + (uint8_t)c);
    }
    n += (size_t)snprintf(packet + n, 4, "#%02x", sum);
    g->write(g->opaque, packet, n);
    free(packet);
}

void gdb_send(struct gdb *g, const char *body)
{
    gdb_send_bytes(g, body, strlen(body));
}

void gdb_send_hex(struct gdb *g, const char *prefix, const char *text)
{
    struct strbuf sb = {0};
    strbuf_add(&sb, "%s", prefix);
    gdb_add_hex(&sb, (const uint8_t *)text, strlen(text));
    gdb_send(g, strbuf_text(&sb));
    strbuf_free(&sb);
}

static void packet_done(struct gdb *g)
{
    bool good = g->sum == g->want && g->len <= GDB_PACKET;
    if (!g->no_ack) {
        g->write(g->opaque, good ? "+" : "-", 1);
    }
    g->rx = RX_IDLE;
    if (good) {
        g->in[g->len] = 0;
        gdb_command(g, g->in, g->len);
    }
}

static void rx_idle(struct gdb *g, uint8_t c)
{
    if (c == 3) {
        gdb_interrupt(g);
    } else if (c == '$') {
        g->rx = RX_BODY;
        g->len = 0;
        g->sum = 0;
    }
}

static void rx_body(struct gdb *g, uint8_t c)
{
    if (c == '#' && g->rx == RX_BODY) {
        g->rx = RX_SUM1;
        return;
    }
    g->sum = (uint8_t)(g->sum + c);
    if (c == '}' && g->rx == RX_BODY) {
        g->rx = RX_ESCAPE;
        return;
    }
    if (g->len < GDB_PACKET) {
        g->in[g->len] = (char)(g->rx == RX_ESCAPE ? c ^ 0x20 : c);
    }
    g->len += g->len <= GDB_PACKET;
    g->rx = RX_BODY;
}

static void rx_byte(struct gdb *g, uint8_t c)
{
    switch (g->rx) {
    case RX_IDLE: rx_idle(g, c); break;
    case RX_BODY:
    case RX_ESCAPE: rx_body(g, c); break;
    case RX_SUM1:
        g->want = (uint8_t)(gdb_hex_digit((char)c) << 4);
        g->rx = RX_SUM2;
        break;
    case RX_SUM2:
        g->want = (uint8_t)(g->want | (gdb_hex_digit((char)c) & 15));
        packet_done(g);
        break;
    }
}

static void attach(struct gdb *g)
{
    g->attached = true;
    g->no_ack = g->waiting = false;
    g->rx = RX_IDLE;
    g->cur = 0;
    machine_pause(g->m);
}

void gdb_rx(struct gdb *g, const uint8_t *buf, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!g->attached && buf[i] == '$') { /* not the '+' behind a detach */
            attach(g);
        }
        if (g->attached) {
            rx_byte(g, buf[i]);
        }
    }
}

void gdb_closed(struct gdb *g)
{
    if (g->attached) {
        gdb_detach(g);
    }
}

void gdb_exited(struct gdb *g, int status)
{
    char text[8];
    snprintf(text, sizeof(text), "W%02x", status & 0xff);
    if (g->attached && g->waiting) {
        gdb_send(g, text);
    }
}
