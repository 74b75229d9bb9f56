/* One function per kind of packet. An empty answer means "not supported". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "core/isa.h"
#include "gdb/internal.h"

static struct vcpu *cur(struct gdb *g)
{
    return g->m->vcpu[g->cur];
}

static bool has_registers(struct gdb *g)
{
    return cur(g)->isa->gdb_read && cur(g)->isa->gdb_target;
}

/* ---- Registers ---- */

static void read_all(struct gdb *g, const char *p, size_t len)
{
    struct strbuf sb = {0};
    uint8_t buf[64];
    unsigned bytes;
    for (unsigned n = 0; has_registers(g) && (bytes = cur(g)->isa->gdb_read(cur(g), n, buf)); n++) {
        gdb_add_hex(&sb, buf, bytes);
    }
    gdb_send(g, strbuf_text(&sb));
    strbuf_free(&sb);
}

static void write_all(struct gdb *g, const char *p, size_t len)
{
    uint8_t buf[64];
    unsigned n = 0, bytes = 1;
    while (len > 1 && bytes) {
        size_t have = len / 2 < sizeof(buf) ? len / 2 : sizeof(buf);
        bytes = gdb_unhex(p, buf, have) ? cur(g)->isa->gdb_write(cur(g), n++, buf, have) : 0;
        p += 2 * bytes;
        len -= 2 * bytes;
    }
    gdb_send(g, len ? "E01" : "OK");
}

static void read_one(struct gdb *g, const char *p, size_t len)
{
    struct strbuf sb = {0};
    uint8_t buf[64];
    uint64_t n;
    unsigned bytes =
        gdb_number(&p, &n) && n < 4096 ? cur(g)->isa->gdb_read(cur(g), (unsigned)n, buf) : 0;
    gdb_add_hex(&sb, buf, bytes);
    gdb_send(g, bytes ? strbuf_text(&sb) : "E01");
    strbuf_free(&sb);
}

static void write_one(struct gdb *g, const char *p, size_t len)
{
    uint8_t buf[64];
    uint64_t n;
    bool ok = gdb_number(&p, &n) && *p == '=' && n < 4096;
    size_t have = ok ? strlen(p + 1) / 2 : 0;
    ok = ok && have <= sizeof(buf) && gdb_unhex(p + 1, buf, have) &&
         cur(g)->isa->gdb_write(cur(g), (unsigned)n, buf, have);
    gdb_send(g, ok ? "OK" : "E01");
}

/* ---- Memory ---- */

static bool address_length(const char **p, uint64_t *addr, uint64_t *len)
{
    return gdb_number(p, addr) && *(*p)++ == ',' && gdb_number(p, len) && *len <= GDB_PACKET / 2;
}

static void read_memory(struct gdb *g, const char *p, size_t len)
{
    uint64_t addr, n;
    uint8_t buf[GDB_PACKET / 2];
    struct strbuf sb = {0};
    if (!address_length(&p, &addr, &n)) {
        gdb_send(g, "E01");
        return;
    }
    while (n && !gdb_memory(g, addr, buf, n, false)) {
        n /= 2; /* as much as there is */
    }
    gdb_add_hex(&sb, buf, n);
    gdb_send(g, n ? strbuf_text(&sb) : "E0e");
    strbuf_free(&sb);
}

static void write_hex(struct gdb *g, const char *p, size_t len)
{
    uint64_t addr, n;
    uint8_t buf[GDB_PACKET / 2];
    bool ok = address_length(&p, &addr, &n) && *p++ == ':' && gdb_unhex(p, buf, n);
    gdb_send(g, ok && gdb_memory(g, addr, buf, n, true) ? "OK" : "E0e");
}

static void write_binary(struct gdb *g, const char *p, size_t len)
{
    uint64_t addr, n;
    const char *end = p + len;
    bool ok = address_length(&p, &addr, &n) && *p++ == ':' && (uint64_t)(end - p) == n;
    gdb_send(g, ok && gdb_memory(g, addr, (uint8_t *)(uintptr_t)p, n, true) ? "OK" : "E0e");
}

/* ---- Threads ---- */

static bool thread_of(struct gdb *g, const char *p, unsigned *index)
{
    uint64_t n = 0;
    if (*p == '-') {
        *index = g->cur;
        return true;
    }
    bool ok = gdb_number(&p, &n) && n <= g->m->vcpu_count;
    *index = n ? (unsigned)n - 1 : g->cur;
    return ok;
}

static void set_thread(struct gdb *g, const char *p, size_t len)
{
    unsigned i;
    bool ok = len && thread_of(g, p + 1, &i);
    if (ok) {
        g->cur = i;
    }
    gdb_send(g, ok ? "OK" : "E01");
}

static void thread_alive(struct gdb *g, const char *p, size_t len)
{
    unsigned i;
    gdb_send(g, thread_of(g, p, &i) ? "OK" : "E01");
}

static void thread_list(struct gdb *g, const char *p)
{
    struct strbuf sb = {0};
    for (unsigned i = 0; i < g->m->vcpu_count; i++) {
        strbuf_add(&sb, "%s%x", i ? "," : "m", i + 1);
    }
    gdb_send(g, strbuf_text(&sb));
    strbuf_free(&sb);
}

static void thread_list_end(struct gdb *g, const char *p)
{
    gdb_send(g, "l");
}

static void thread_name(struct gdb *g, const char *p)
{
    static const char *const states[] = {"running", "halted", "waits for SIPI"};
    char text[48];
    unsigned i;
    if (!thread_of(g, p, &i)) {
        gdb_send(g, "E01");
        return;
    }
    snprintf(text, sizeof(text), "CPU#%u [%s]", i, states[g->m->vcpu[i]->state]);
    gdb_send_hex(g, "", text);
}

static void current_thread(struct gdb *g, const char *p)
{
    char text[16];
    snprintf(text, sizeof(text), "QC%x", g->cur + 1);
    gdb_send(g, text);
}

/* ---- Queries ---- */

static void supported(struct gdb *g, const char *p)
{
    char text[128];
    snprintf(text, sizeof(text),
             "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+", GDB_PACKET);
    gdb_send(g, text);
}

/* "OFFSET,LENGTH" of target.xml: 'm' more follows, 'l' the last piece. */
static void features(struct gdb *g, const char *p)
{
    struct strbuf sb = {0};
    uint64_t off, len;
    if (!has_registers(g) || !gdb_number(&p, &off) || *p++ != ',' || !gdb_number(&p, &len)) {
        gdb_send(g, "E00");
        return;
    }
    cur(g)->isa->gdb_target(cur(g), &sb);
    const char *text = strbuf_text(&sb);
    size_t total = strlen(text);
    off = off < total ? off : total;
    len = len < GDB_PACKET / 2 ? len : GDB_PACKET / 2;
    bool last = total - off <= len;
    char *piece =
        alloc_printf("%c%.*s", last ? 'l' : 'm', (int)(last ? total - off : len), text + off);
    gdb_send(g, piece);
    free(piece);
    strbuf_free(&sb);
}

static void monitor(struct gdb *g, const char *p)
{
    char text[128] = "";
    size_t n = strlen(p) / 2;
    if (n >= sizeof(text) || !gdb_unhex(p, (uint8_t *)text, n)) {
        gdb_send(g, "E01");
        return;
    }
    gdb_monitor(g, text);
}

static void attached(struct gdb *g, const char *p)
{
    gdb_send(g, "1");
}

static void no_ack(struct gdb *g, const char *p)
{
    gdb_send(g, "OK");
    g->no_ack = true;
}

static void vcont_actions(struct gdb *g, const char *p)
{
    gdb_send(g, "vCont;c;C;s;S");
}

static void killed(struct gdb *g, const char *p)
{
    gdb_send(g, "OK");
    machine_ask(g->m, MACHINE_REQ_QUIT, 0);
}

static const struct {
    const char *prefix;
    void (*fn)(struct gdb *g, const char *rest);
} queries[] = {
    {"qSupported", supported},
    {"qXfer:features:read:target.xml:", features},
    {"qRcmd,", monitor},
    {"qAttached", attached},
    {"qC", current_thread},
    {"qfThreadInfo", thread_list},
    {"qsThreadInfo", thread_list_end},
    {"qThreadExtraInfo,", thread_name},
    {"QStartNoAckMode", no_ack},
    {"vCont?", vcont_actions},
    {"vCont", gdb_vcont},
    {"vKill", killed},
};

static void query(struct gdb *g, const char *p)
{
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        size_t n = strlen(queries[i].prefix);
        if (!strncmp(p, queries[i].prefix, n)) {
            queries[i].fn(g, p + n);
            return;
        }
    }
    gdb_send(g, "");
}

/* "c[ADDRESS]", "s[ADDRESS]", "CSIGNAL[;ADDRESS]" */
static void go_on(struct gdb *g, const char *p, char how)
{
    const char *at = how == 'C' || how == 'S' ? strchr(p, ';') : p;
    uint64_t pc;
    at += at && *at == ';';
    if (at && gdb_number(&at, &pc)) {
        cur(g)->env->pc = pc;
    }
    gdb_continue(g, how == 's' || how == 'S');
}

void gdb_command(struct gdb *g, const char *p, size_t len)
{
    const char *rest = p + 1;
    switch (*p) {
    case '?': gdb_stop_reply(g, cur(g), 5); break;
    case 'g': read_all(g, rest, len - 1); break;
    case 'G': write_all(g, rest, len - 1); break;
    case 'p': read_one(g, rest, len - 1); break;
    case 'P': write_one(g, rest, len - 1); break;
    case 'm': read_memory(g, rest, len - 1); break;
    case 'M': write_hex(g, rest, len - 1); break;
    case 'X': write_binary(g, rest, len - 1); break;
    case 'H': set_thread(g, rest, len - 1); break;
    case 'T': thread_alive(g, rest, len - 1); break;
    case 'Z': gdb_point(g, rest, true); break;
    case 'z': gdb_point(g, rest, false); break;
    case 'c':
    case 'C':
    case 's':
    case 'S': go_on(g, rest, *p); break;
    case 'D':
        gdb_send(g, "OK");
        gdb_detach(g);
        break;
    case 'k': machine_ask(g->m, MACHINE_REQ_QUIT, 0); break;
    case 'q':
    case 'Q':
    case 'v': query(g, p); break;
    default: gdb_send(g, ""); break;
    }
}
