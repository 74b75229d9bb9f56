/* What the PC's host bridges do with the memory from a0000h to fffffh. */
#ifndef DEV_CHIPSET_PAM_H
#define DEV_CHIPSET_PAM_H

#include "core/mem.h"

struct machine;

#define PAM_SEGMENTS 13
#define PAM_REGISTERS 7

/* Attributes of a segment, and of nibbles of the registers. */
enum { PAM_READ = 1, PAM_WRITE = 2 };

struct pam_segment {
    struct pam *pam;
    struct mem_node *ram, *rom, *write_only;
    gpa_t start;
    uint64_t len;
};

struct pam {
    struct machine *machine;
    struct ram *ram; /* holds the guest's first MiB at offset 0 */
    struct pam_segment seg[PAM_SEGMENTS];
    struct mem_node *smram; /* RAM behind the VGA window */
};

/* Before any vcpu runs. The nodes lie in the memory map's root, over the PCI container. */
void pam_init(struct pam *p, struct machine *m, struct ram *ram);
void pam_smm_sees(struct pam *p, bool on); /* the same, for system management mode */

/* The register SMRAM of both chips (290549 3.2.20, 316966 5.1.30). */
enum {
    SMRAM_D_OPEN = 0x40,
    SMRAM_D_CLS = 0x20,
    SMRAM_D_LCK = 0x10,
    SMRAM_G_SMRAME = 0x08,
    SMRAM_C_BASE_SEG = 0x02,
    SMRAM_WRITABLE = SMRAM_D_OPEN | SMRAM_D_CLS | SMRAM_D_LCK | SMRAM_G_SMRAME,
};

/* `regs`: PAM0 and what follows; `smm`: there is system management mode. */
void pam_update(struct pam *p, const uint8_t *regs, uint8_t smram, bool smm);

#endif
