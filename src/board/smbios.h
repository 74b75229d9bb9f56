/* SMBIOS tables: what the machine says of itself. */
#ifndef BOARD_SMBIOS_H
#define BOARD_SMBIOS_H

#include <stdint.h>

struct err;
struct fw_cfg;

struct smbios_info {
    const char *product, *version;  /* of the system: the board's name, its version */
    const uint8_t *uuid;            /* 16 bytes as written, or NULL */
    uint64_t ram_size;              /* bytes */
    unsigned vcpus, cores, threads; /* cores of a socket, threads of a core */
};

/* Files etc/smbios/smbios-anchor and etc/smbios/smbios-tables, for firmware to place. */
int smbios_add(struct fw_cfg *f, const struct smbios_info *info, struct err *err);

#endif
