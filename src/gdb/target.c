/* What a debugger sees of the guest besides registers: memory, and a few commands. */
#include <string.h>

#include "core/isa.h"
#include "gdb/internal.h"

#define DEBUG_MMU_INDEX 2 /* a kernel that may touch user pages: ir/rt.h */
#define PAGE 4096u

/* RAM and ROM only: reading a device would change it. */
static bool phys(struct gdb *g, gpa_t gpa, uint8_t *buf, size_t len, bool write)
{
    return write ? gmem_write(g->m->mem, gpa, buf, len) : gmem_read(g->m->mem, gpa, buf, len);
}

bool gdb_memory(struct gdb *g, gva_t va, uint8_t *buf, size_t len, bool write)
{
    struct vcpu *v = g->m->vcpu[g->cur];
    struct rt_fault keep = v->env->fault;
    bool ok = true;
    while (ok && len) {
        size_t n = PAGE - (va & (PAGE - 1));
        struct walk_result w;
        n = n < len ? n : len;
        ok = v->isa->walk(v, va, 0, DEBUG_MMU_INDEX, &w) && phys(g, w.gpa, buf, n, write);
        va += n, buf += n, len -= n;
    }
    v->env->fault = keep;
    return ok;
}

static void monitor_registers(struct gdb *g)
{
    struct vcpu *v = g->m->vcpu[g->cur];
    struct strbuf sb = {0};
    v->isa->dump(v, &sb);
    gdb_send_hex(g, "", strbuf_text(&sb));
    strbuf_free(&sb);
}

void gdb_monitor(struct gdb *g, const char *command)
{
    if (!strcmp(command, "info registers")) {
        monitor_registers(g);
    } else if (!strcmp(command, "system_reset") || !strcmp(command, "reset")) {
        machine_ask(g->m, MACHINE_REQ_RESET, 0);
        gdb_send(g, "OK");
    } else if (!strcmp(command, "quit")) {
        gdb_send(g, "OK");
        machine_ask(g->m, MACHINE_REQ_QUIT, 0);
    } else if (!strcmp(command, "info status")) {
        gdb_send_hex(g, "", g->m->state == MACHINE_RUNNING ? "running\n" : "paused\n");
    } else if (!strcmp(command, "help")) {
        gdb_send_hex(g, "", "info registers, info status, system_reset, quit\n");
    } else {
        gdb_send_hex(g, "", "unknown; 'monitor help' lists the commands\n");
    }
}
