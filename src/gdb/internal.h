/* Between the files of the gdb stub. */
#ifndef GDB_INTERNAL_H
#define GDB_INTERNAL_H

#include "base/strbuf.h"
#include "core/debug.h"
#include "core/machine.h"
#include "core/vcpu.h"
#include "gdb/gdb.h"

#define GDB_PACKET 0x4000 /* longest packet taken */

enum gdb_rx_state { RX_IDLE, RX_BODY, RX_ESCAPE, RX_SUM1, RX_SUM2 };

struct gdb {
    struct machine *m;
    gdb_write_fn *write;
    void *opaque;
    struct debug debug;
    bool attached; /* a debugger talks to us */
    bool waiting;  /* it waits for a stop reply */
    bool no_ack;
    unsigned cur;          /* vcpu of register and memory commands, and of c and s */
    struct vcpu *reported; /* stopped, and told: a breakpoint at its pc is old news */
    enum gdb_rx_state rx;
    size_t len;
    uint8_t sum, want;
    struct strbuf out;
    char in[GDB_PACKET + 1]; /* ends with a zero byte */
};

/* packet.c */
void gdb_send(struct gdb *g, const char *body);
void gdb_send_bytes(struct gdb *g, const char *body, size_t len);
void gdb_send_hex(struct gdb *g, const char *prefix, const char *text);
int gdb_hex_digit(char c);
/* A hexadecimal number; *p moves past it. False: there is none. */
bool gdb_number(const char **p, uint64_t *out);
/* `n` bytes of two digits each. */
bool gdb_unhex(const char *p, uint8_t *out, size_t n);
void gdb_add_hex(struct strbuf *sb, const uint8_t *bytes, size_t n);

/* command.c: one packet. */
void gdb_command(struct gdb *g, const char *p, size_t len);

/* control.c */
void gdb_stop_reply(struct gdb *g, struct vcpu *v, unsigned signal);
void gdb_on_stopped(void *g, struct vcpu *v); /* any thread */
void gdb_interrupt(struct gdb *g);
void gdb_resume(struct gdb *g); /* as debug.step and debug.hold of the vcpus say */
void gdb_continue(struct gdb *g, bool step);
void gdb_vcont(struct gdb *g, const char *p);
void gdb_point(struct gdb *g, const char *p, bool set);
void gdb_detach(struct gdb *g); /* forgets all points; the machine goes on */

/* target.c */
bool gdb_memory(struct gdb *g, gva_t va, uint8_t *buf, size_t len, bool write);
void gdb_monitor(struct gdb *g, const char *command);

#endif
