/*
 * What firmware learns of the machine: CMOS bytes as PC firmware has them since the AT, and fw_cfg
 * (specification: QEMU, docs/specs/fw_cfg). Sizes of memory, processors, order of boot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "board/pc_base.h"
#include "board/smbios.h"
#include "core/numa.h"
#include "dev/display/ramfb.h"
#include "dev/firmware/firmware.h"
#include "dev/firmware/fw_cfg.h"
#include "dev/floppy/isa_fdc.h"
#include "dev/timer/cmos_rtc.h"

enum {
    CMOS_FLOPPY = 0x10,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_MEMORY = 0x15,  /* KiB, 16 bits */
    CMOS_EXT_MEMORY = 0x17,   /* KiB above 1 MiB */
    CMOS_EXT_MEMORY_2 = 0x30, /* the same */
    CMOS_MEMORY_16M = 0x34,   /* 64 KiB above 16 MiB */
    CMOS_BOOT_3 = 0x38,       /* third device in the high half; bit 0: floppies unsigned */
    CMOS_BOOT_1 = 0x3d,       /* first device low, second high */
    CMOS_MEMORY_4G = 0x5b,    /* 64 KiB above 4 GiB, 24 bits */
    CMOS_CPUS = 0x5f,         /* number less one */
    EQUIPMENT_FLOPPY = 1,     /* bit 6: two of them */
    EQUIPMENT_FPU = 2,
    EQUIPMENT_MOUSE = 4,
    E820_RAM = 1,
    E820_RESERVED = 2,
};

static void cmos_put(struct pc_base *b, unsigned at, uint32_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        rtc_set_cmos(b->x86.rtc, at + i, v >> 8 * i & 0xff);
    }
}

static uint32_t at_most(uint64_t v, uint32_t max)
{
    return v < max ? (uint32_t)v : max;
}

static void pc_cmos_memory(struct pc_base *b)
{
    uint64_t low = b->x86.low_ram;
    uint32_t ext = at_most((low - (1 << 20)) >> 10, 65535);
    cmos_put(b, CMOS_BASE_MEMORY, 640, 2);
    cmos_put(b, CMOS_EXT_MEMORY, ext, 2);
    cmos_put(b, CMOS_EXT_MEMORY_2, ext, 2);
    cmos_put(b, CMOS_MEMORY_16M, low > 16 << 20 ? at_most((low - (16 << 20)) >> 16, 65535) : 0, 2);
    cmos_put(b, CMOS_MEMORY_4G, at_most(b->x86.high_ram >> 16, 0xffffff), 3);
}

/* "cdn": floppy a, disk c, CD d, network n, in the firmware's numbers. */
static uint32_t pc_boot_nibbles(const char *order)
{
    static const char letters[] = "acdn";
    uint32_t v = 0;
    for (unsigned i = 0; order && order[i] && i < 3; i++) {
        const char *at = strchr(letters, order[i]);
        v |= at ? (uint32_t)(at - letters + 1) << 4 * i : 0;
    }
    return v;
}

/* Types of both drives, and their number in the equipment byte. */
static uint32_t pc_cmos_floppies(struct pc_base *b)
{
    unsigned a = isa_fdc_cmos_type(b->x86.machine, 0),
             second = isa_fdc_cmos_type(b->x86.machine, 1);
    cmos_put(b, CMOS_FLOPPY, a << 4 | second, 1);
    return a || second ? EQUIPMENT_FLOPPY | (a && second ? 1 << 6 : 0) : 0;
}

static void pc_cmos(struct pc_base *b)
{
    const struct machine_config *c = &b->x86.machine->config;
    const char *order = c->boot_once && !b->started ? c->boot_once : c->boot_order;
    uint32_t boot = pc_boot_nibbles(order ? order : "cad");
    b->started = true;
    pc_cmos_memory(b);
    cmos_put(b, CMOS_EQUIPMENT, EQUIPMENT_FPU | EQUIPMENT_MOUSE | pc_cmos_floppies(b), 1);
    cmos_put(b, CMOS_BOOT_1, boot & 0xff, 1);
    cmos_put(b, CMOS_BOOT_3, (boot >> 4 & 0xf0) | 1, 1);
    cmos_put(b, CMOS_CPUS, c->vcpus - 1, 1);
}

static void e820_add(struct strbuf *sb, uint64_t start, uint64_t len, uint32_t type)
{
    uint8_t e[20];
    store_le64(e, start);
    store_le64(e + 8, len);
    store_le32(e + 16, type);
    strbuf_add_bytes(sb, e, sizeof(e));
}

static int pc_add_e820(struct pc_base *b, struct err *err)
{
    struct strbuf sb = {0};
    e820_add(&sb, 0, b->x86.low_ram, E820_RAM);
    if (b->x86.high_ram) {
        e820_add(&sb, X86_BOARD_HIGH_RAM, b->x86.high_ram, E820_RAM);
    }
    int ret = fw_cfg_add_file(b->fw_cfg, "etc/e820", sb.text, sb.len, err);
    strbuf_free(&sb);
    return ret;
}

/* Firmware's names of what to start, a line each: a kernel before all. */
static int pc_add_boot_order(struct pc_base *b, struct err *err)
{
    const struct machine_config *c = &b->x86.machine->config;
    struct strbuf sb = {0};
    if (c->kernel) {
        strbuf_add(&sb, "/rom@" PC_KERNEL_ROM "\n/rom@" PC_PVH_ROM "\n/rom@" PC_MULTIBOOT_ROM "\n");
    }
    if (c->boot_order_devices) {
        strbuf_add(&sb, "%s", c->boot_order_devices);
    }
    int ret = sb.len ? fw_cfg_add_file(b->fw_cfg, "bootorder", sb.text, sb.len + 1, err) : 0;
    strbuf_free(&sb);
    return ret;
}

static int pc_add_boot_files(struct pc_base *b, struct err *err)
{
    /* S3 and S4 are not offered, S5 is SLP_TYP 0. */
    static const uint8_t states[] = {128, 0, 0, 1, 2, 128};
    const struct machine_config *c = &b->x86.machine->config;
    uint8_t wait[2];
    int ret = fw_cfg_add_file(b->fw_cfg, "etc/system-states", states, sizeof(states), err);
    if (!ret && c->boot_menu) {
        fw_cfg_add_u16(b->fw_cfg, FW_CFG_BOOT_MENU, 1);
        store_le16(wait, (uint16_t)c->boot_splash_ms);
        ret =
            c->boot_splash_ms ? fw_cfg_add_file(b->fw_cfg, "etc/boot-menu-wait", wait, 2, err) : 0;
    }
    return ret ? ret : pc_add_boot_order(b, err);
}

/* -fw_cfg; the text of string= has no zero at its end. */
static int pc_add_user_file(struct pc_base *b, const struct keyval *kv, struct err *err)
{
    enum { MAX_FILE = 64 << 20 };
    const char *name = keyval_get(kv, "name"), *file = keyval_get(kv, "file"),
               *text = keyval_get(kv, "string");
    if (!file) {
        return fw_cfg_add_file(b->fw_cfg, name, text, strlen(text), err);
    }
    struct firmware_file f;
    int ret = firmware_read(b->x86.machine, file, MAX_FILE, &f, err);
    if (!ret) {
        ret = fw_cfg_add_file(b->fw_cfg, name, f.bytes, f.len, err);
        free(f.bytes);
    }
    return ret;
}

static int pc_add_user_files(struct pc_base *b, struct err *err)
{
    const struct machine_config *c = &b->x86.machine->config;
    int ret = 0;
    for (size_t i = 0; !ret && i < c->fw_cfg_count; i++) {
        ret = pc_add_user_file(b, &c->fw_cfgs[i], err);
    }
    return ret ? err_prefix(err, ret, "-fw_cfg") : 0;
}

static int pc_uuid(const char *text, uint8_t *uuid)
{
    unsigned n = 0;
    for (const char *p = text; *p && n < 16; p++) {
        unsigned byte;
        if (*p != '-' && sscanf(p, "%2x", &byte) == 1) {
            uuid[n++] = (uint8_t)byte;
            p++;
        }
    }
    return n == 16;
}

/* APIC IDs are below this. */
static unsigned pc_apic_ids(const struct machine_config *c)
{
    return topology_apic_id(&c->topology, c->topology.max - 1) + 1;
}

/* How many nodes; the node of each APIC ID; each node's memory. 64 bits each. */
static void pc_add_numa(struct pc_base *b)
{
    const struct machine_config *c = &b->x86.machine->config;
    const struct numa *numa = c->numa;
    if (!numa) {
        return;
    }
    size_t ids = pc_apic_ids(c), count = 1 + ids + numa->nodes;
    uint8_t *v = alloc_zero(count * 8);
    store_le64(v, numa->nodes);
    for (unsigned i = 0; i < c->topology.max; i++) {
        store_le64(v + 8 * (1 + topology_apic_id(&c->topology, i)), numa->node_of[i]);
    }
    for (unsigned i = 0; i < numa->nodes; i++) {
        store_le64(v + 8 * (1 + ids + i), numa->mem[i]);
    }
    fw_cfg_add(b->fw_cfg, FW_CFG_NUMA, v, count * 8);
    free(v);
}

int pc_configure(struct pc_base *b, struct err *err)
{
    const struct machine_config *c = &b->x86.machine->config;
    uint8_t uuid[16] = {0};
    pc_cmos(b);
    fw_cfg_add_u64(b->fw_cfg, FW_CFG_RAM_SIZE, c->ram_size);
    fw_cfg_add_u16(b->fw_cfg, FW_CFG_NB_CPUS, (uint16_t)c->vcpus);
    fw_cfg_add_u16(b->fw_cfg, FW_CFG_MAX_CPUS, (uint16_t)pc_apic_ids(c));
    pc_add_numa(b);
    fw_cfg_add_u16(b->fw_cfg, FW_CFG_NOGRAPHIC, !b->graphics);
    fw_cfg_add_u32(b->fw_cfg, FW_CFG_IRQ0_OVERRIDE, 1);
    if (c->uuid && pc_uuid(c->uuid, uuid)) {
        fw_cfg_add(b->fw_cfg, FW_CFG_UUID, uuid, sizeof(uuid));
    }
    const struct smbios_info info = {.product = b->product,
                                     .version = b->x86.machine->board->name,
                                     .uuid = c->uuid ? uuid : NULL,
                                     .ram_size = c->ram_size,
                                     .vcpus = c->vcpus,
                                     .cores = c->topology.dies * c->topology.cores,
                                     .threads = c->topology.threads};
    int ret = smbios_add(b->fw_cfg, &info, err);
    ret = ret ? ret : pc_add_e820(b, err);
    ret = ret ? ret : pc_add_boot_files(b, err);
    ret = ret ? ret : ramfb_add_files(b->x86.machine, b->fw_cfg, err);
    return ret ? ret : pc_add_user_files(b, err);
}
