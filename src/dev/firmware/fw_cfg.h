/* Firmware configuration: how a board tells firmware and kernels what it is made of. */
#ifndef DEV_FIRMWARE_FW_CFG_H
#define DEV_FIRMWARE_FW_CFG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mem.h"

struct err;
struct fw_cfg;

/* Items with fixed numbers; the rest are files. */
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
    FW_CFG_E820 = 0x8003,
};

#define FW_CFG_NAME_MAX 55

struct fw_cfg *fw_cfg_new(struct mem_map *mem);
void fw_cfg_free(struct fw_cfg *f);
void fw_cfg_reset(struct fw_cfg *f);
/* Ports 510h, 511h and the DMA address at 514h. */
void fw_cfg_map(struct fw_cfg *f, struct mem_map *io);

/* The bytes are copied. What is there already under the key or name is replaced. */
void fw_cfg_add(struct fw_cfg *f, unsigned key, const void *bytes, size_t len);
void fw_cfg_add_u16(struct fw_cfg *f, unsigned key, uint16_t v);
void fw_cfg_add_u32(struct fw_cfg *f, unsigned key, uint32_t v);
void fw_cfg_add_u64(struct fw_cfg *f, unsigned key, uint64_t v);
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *bytes, size_t len,
                    struct err *err);
/* A file that the guest may write by DMA; `written` is called on a vcpu's thread, with a copy. */
int fw_cfg_add_writable(struct fw_cfg *f, const char *name, size_t len,
                        void (*written)(void *opaque, const void *bytes, size_t len), void *opaque,
                        struct err *err);

/* Called each time the guest turns to the file, before it reads; may add files again, with as many
 * bytes. On a vcpu's thread. */
void fw_cfg_on_select(struct fw_cfg *f, const char *name, void (*selected)(void *), void *opaque);

extern const struct field_set fw_cfg_fields; /* struct fw_cfg */

#endif
