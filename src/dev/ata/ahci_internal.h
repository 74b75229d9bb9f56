/* Between the files of AHCI. The adapter's lock is held in all of these. */
#ifndef DEV_ATA_AHCI_INTERNAL_H
#define DEV_ATA_AHCI_INTERNAL_H

#include "dev/ata/ahci.h"

enum {
    IS_DHRS = 1 << 0, /* PxIS */
    IS_PSS = 1 << 1,
    IS_SDBS = 1 << 3,
    IS_PCS = 1 << 6,
    IS_PRCS = 1 << 22,
    IS_OFS = 1 << 24,
    IS_HBFS = 1 << 29,
    IS_TFES = 1 << 30,
    CMD_ST = 1 << 0, /* PxCMD */
    CMD_CLO = 1 << 3,
    CMD_FRE = 1 << 4,
    CMD_FR = 1 << 14,
    CMD_CR = 1 << 15,
    TFD_NONE = 0x7f,
    SERR_N = 1 << 16,
    SERR_X = 1 << 26,
};

/* ahci.c */
void ahci_update_irq(struct ahci_port *p); /* after PxIS or PxIE changed */
bool ahci_mem_write(struct ahci *h, gpa_t at, const void *buf, unsigned len);
void ahci_port_settled(struct ahci_port *p); /* nothing of it flies any more */

/* ahci_port.c */
uint32_t ahci_port_read(struct ahci_port *p, unsigned off);
void ahci_port_write(struct ahci_port *p, unsigned off, uint32_t val);
void ahci_port_reset(struct ahci_port *p); /* registers, and COMRESET */
void ahci_port_finish_reset(struct ahci_port *p, bool power);

/* ahci_command.c */
void ahci_kick(struct ahci_port *p);    /* fetches and starts what it can */
void ahci_give_up(struct ahci_port *p); /* whatever flies is dead */
void ahci_port_free(struct ahci_port *p);

/* ahci_fis.c: into the received FIS area, if it is on */
void ahci_post_d2h(struct ahci_port *p, const struct ata_tf *tf, bool interrupt);
void ahci_post_pio_setup(struct ahci_port *p, const struct ata_req *req);
void ahci_post_set_bits(struct ahci_port *p, const struct ata_tf *tf, uint32_t done);
void ahci_parse_fis(const uint8_t *fis, struct ata_tf *tf);
enum { FIS_H2D = 0x27, FIS_BYTES = 64, FIS_COMMAND = 0x80, FIS_SRST = 4 };

#endif
