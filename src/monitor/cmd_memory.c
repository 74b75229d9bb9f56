/* x, xp and print: values in memory, registers, arithmetic. No device is read: that changes them.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/err.h"
#include "core/isa.h"
#include "core/machine.h"
#include "core/vcpu.h"
#include "monitor/internal.h"

enum {
    PAGE = 4096,
    LINE_BYTES = 16,
    INSN_MAX = 16,
    MMU_INDEX = 2, /* a kernel that may touch user pages: ir/rt.h */
};

/* ---- Registers ---- */

/* Their names and numbers are those of the target description for debuggers. */
static bool reg_number(struct vcpu *v, const char *name, unsigned *number)
{
    struct strbuf xml = {0};
    AUTO_FREE char *want = alloc_printf("<reg name=\"%s\"", name);
    v->isa->gdb_target(v, &xml);
    bool found = false;
    *number = 0;
    for (const char *p = strstr(strbuf_text(&xml), "<reg "); p && !found;
         p = strstr(p + 1, "<reg ")) {
        found = !strncmp(p, want, strlen(want));
        *number += !found;
    }
    strbuf_free(&xml);
    return found;
}

/* "eax" is the low half of "rax", and so on. */
static bool reg_find(struct vcpu *v, const char *name, unsigned *number, uint64_t *mask)
{
    *mask = UINT64_MAX;
    if (!strcmp(name, "pc")) {
        return reg_find(v, "rip", number, mask);
    }
    if (reg_number(v, name, number)) {
        return true;
    }
    char wide[8];
    if (*name != 'e' || strlen(name) != 3) {
        return false;
    }
    snprintf(wide, sizeof(wide), "r%s", name + 1);
    *mask = UINT32_MAX;
    return reg_number(v, wide, number);
}

/* parse_expr()'s; the vcpus are held. */
static bool reg_value(void *opaque, const char *name, uint64_t *val)
{
    struct monitor *mon = opaque;
    struct err err;
    struct vcpu *v = monitor_vcpu(mon, &err);
    uint8_t bytes[64] = {0};
    unsigned number;
    uint64_t mask;
    if (!v || !v->isa->gdb_target || !reg_find(v, name, &number, &mask)) {
        return false;
    }
    unsigned len = v->isa->gdb_read(v, number, bytes);
    *val = load_le64(bytes) & mask;
    return len > 0;
}

/* ---- Memory ---- */

/* What a device has at an address, as a vcpu would read it; the screen's memory, for one. */
static bool read_device(struct monitor *mon, uint64_t addr, uint8_t *buf, size_t len)
{
    uint64_t value;
    bool ok = (len == 1 || len == 2 || len == 4 || len == 8) &&
              mem_read(mon->machine->mem, addr, (unsigned)len, &value) == MEM_OK;
    if (ok) {
        uint8_t bytes[8];
        store_le64(bytes, value);
        memcpy(buf, bytes, len);
    }
    return ok;
}

/* RAM and ROM, at physical addresses devices too; false: there is nothing. */
static bool read_memory(struct monitor *mon, bool phys, uint64_t addr, uint8_t *buf, size_t len)
{
    struct err err;
    struct vcpu *v = phys ? NULL : monitor_vcpu(mon, &err);
    bool ok = true;
    if (phys) {
        return gmem_read(mon->machine->mem, addr, buf, len) || read_device(mon, addr, buf, len);
    }
    if (!v) {
        return false;
    }
    struct rt_fault keep = v->env->fault;
    while (ok && len) {
        size_t n = PAGE - (addr & (PAGE - 1));
        struct walk_result w;
        n = n < len ? n : len;
        ok = v->isa->walk(v, addr, 0, MMU_INDEX, &w) && gmem_read(mon->machine->mem, w.gpa, buf, n);
        addr += n, buf += n, len -= n;
    }
    v->env->fault = keep;
    return ok;
}

/* ---- Values ---- */

static void put_char(struct monitor *mon, uint8_t c)
{
    static const char named[][2] = {
        {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}, {'\\', '\\'}, {'\'', '\''}};
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        if (c == (uint8_t)named[i][0]) {
            monitor_put(mon, "'\\%c'", named[i][1]);
            return;
        }
    }
    monitor_put(mon, isprint(c) ? "'%c'" : "'\\x%02x'", c);
}

static uint64_t cut(uint64_t v, unsigned size)
{
    return size < 8 ? v & ((1ull << size * 8) - 1) : v;
}

static int64_t cut_signed(uint64_t v, unsigned size)
{
    unsigned shift = 64 - size * 8;
    return (int64_t)(v << shift) >> shift;
}

/* In columns, so that rows of memory stand below each other. */
static void put_item(struct monitor *mon, char letter, unsigned size, uint64_t v)
{
    static const int octal[] = {[1] = 3, [2] = 6, [4] = 11, [8] = 22};
    static const int decimal[] = {[1] = 3, [2] = 5, [4] = 10, [8] = 20};
    switch (letter) {
    case 'o': monitor_put(mon, "0%0*" PRIo64, octal[size], cut(v, size)); break;
    case 'u': monitor_put(mon, "%*" PRIu64, decimal[size], cut(v, size)); break;
    case 'd': monitor_put(mon, "%*" PRId64, decimal[size], cut_signed(v, size)); break;
    case 'c': put_char(mon, (uint8_t)v); break;
    default: monitor_put(mon, "0x%0*" PRIx64, (int)size * 2, cut(v, size)); break;
    }
}

static void dump_items(struct monitor *mon, bool phys, uint64_t addr, const struct parse_format *f)
{
    unsigned per_line = LINE_BYTES / f->size;
    for (unsigned i = 0; i < f->count; i++) {
        uint8_t bytes[8] = {0};
        if (i % per_line == 0) {
            monitor_put(mon, "%s%016" PRIx64 ":", i ? "\n" : "", addr);
        }
        if (!read_memory(mon, phys, addr, bytes, f->size)) {
            monitor_put(mon, " Cannot access memory");
            break;
        }
        monitor_put(mon, " ");
        put_item(mon, f->letter, f->size, load_le64(bytes));
        addr += f->size;
    }
    monitor_put(mon, "\n");
}

/* What can be read from `addr`, at most one instruction. */
static size_t read_code(struct monitor *mon, bool phys, uint64_t addr, uint8_t *code)
{
    size_t n = 0;
    while (n < INSN_MAX && read_memory(mon, phys, addr + n, code + n, 1)) {
        n++;
    }
    return n;
}

static int dump_code(struct monitor *mon, bool phys, uint64_t addr, unsigned count, struct err *err)
{
    struct vcpu *v = monitor_vcpu(mon, err);
    if (!v || !v->isa->disas) {
        return v ? err_set(err, ENOTSUP, "there is no disassembler") : -ENOENT;
    }
    for (unsigned i = 0; i < count; i++) {
        uint8_t code[INSN_MAX] = {0};
        struct strbuf sb = {0};
        size_t n = read_code(mon, phys, addr, code);
        int len = n ? v->isa->disas(&sb, code, n, addr, v->isa->mode(v)) : 0;
        monitor_put(mon, "0x%08" PRIx64 ":  %s\n", addr,
                    len > 0 ? strbuf_text(&sb) : "Cannot access memory");
        strbuf_free(&sb);
        if (len <= 0) {
            break;
        }
        addr += (unsigned)len;
    }
    return 0;
}

static int dump(struct monitor *mon, bool phys, struct command_args *a, struct err *err)
{
    struct parse_format f = {.count = 1, .size = 0, .letter = 'x'};
    uint64_t addr = 0;
    int ret = parse_format(a->format, &f, err);
    f.size = f.letter == 'c' ? 1 : f.size ? f.size : 4;
    monitor_hold(mon);
    ret = ret ? ret : parse_expr(a->rest, reg_value, mon, &addr, err);
    if (!ret && f.letter == 'i') {
        ret = dump_code(mon, phys, addr, f.count, err);
    } else if (!ret) {
        dump_items(mon, phys, addr, &f);
    }
    monitor_release(mon);
    return ret;
}

int cmd_x(struct monitor *mon, struct command_args *a, struct err *err)
{
    return dump(mon, false, a, err);
}

int cmd_xp(struct monitor *mon, struct command_args *a, struct err *err)
{
    return dump(mon, true, a, err);
}

int cmd_print(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct parse_format f = {.count = 1, .size = 8, .letter = 'x'};
    uint64_t val;
    int ret = parse_format(a->format, &f, err);
    monitor_hold(mon);
    ret = ret ? ret : parse_expr(a->rest, reg_value, mon, &val, err);
    monitor_release(mon);
    if (ret) {
        return ret;
    }
    switch (f.letter) {
    case 'o': monitor_put(mon, "%#" PRIo64 "\n", val); break;
    case 'u': monitor_put(mon, "%" PRIu64 "\n", val); break;
    case 'd': monitor_put(mon, "%" PRId64 "\n", (int64_t)val); break;
    case 'c':
        put_char(mon, (uint8_t)val);
        monitor_put(mon, "\n");
        break;
    default: monitor_put(mon, "%#" PRIx64 "\n", val); break;
    }
    return 0;
}
