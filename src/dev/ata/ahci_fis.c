/* Frame information structures: Serial ATA 3.x 10.5, and where AHCI 1.3.1 4.2.1 puts them. */
#include "base/endian.h"
#include "dev/ata/ahci_internal.h"

enum {
    FIS_D2H = 0x34,
    FIS_PIO_SETUP = 0x5f,
    FIS_SET_BITS = 0xa1,
    FIS_IRQ = 0x40,
    FIS_TO_HOST = 0x20,
    AT_PIO_SETUP = 0x20,
    AT_D2H = 0x40,
    AT_SET_BITS = 0x58,
};

void ahci_parse_fis(const uint8_t *fis, struct ata_tf *tf)
{
    *tf = (struct ata_tf){
        .command = fis[2],
        .feature = (uint16_t)(fis[3] | fis[11] << 8),
        .lba = (load_le32(fis + 4) & 0xffffff) | (uint64_t)(load_le32(fis + 8) & 0xffffff) << 24,
        .device = fis[7],
        .count = load_le16(fis + 12),
    };
}

/* Bytes 2 to 13 are the same in all that carry a task file. */
static void put_task_file(uint8_t *fis, const struct ata_tf *tf)
{
    store_le32(fis + 4, (uint32_t)(tf->lba & 0xffffff));
    store_le32(fis + 8, (uint32_t)(tf->lba >> 24 & 0xffffff));
    fis[2] = tf->status;
    fis[3] = tf->error;
    fis[7] = tf->device;
    store_le16(fis + 12, tf->count);
}

/* Memory that is not there is the guest's affair. */
static void post(struct ahci_port *p, unsigned at, const uint8_t *fis, unsigned len)
{
    if (p->cmd & CMD_FRE) {
        ahci_mem_write(p->hba, p->fb + at, fis, len);
    }
}

void ahci_post_d2h(struct ahci_port *p, const struct ata_tf *tf, bool interrupt)
{
    uint8_t fis[20] = {FIS_D2H, interrupt ? FIS_IRQ : 0};
    put_task_file(fis, tf);
    post(p, AT_D2H, fis, sizeof(fis));
}

void ahci_post_pio_setup(struct ahci_port *p, const struct ata_req *req)
{
    uint8_t fis[20] = {FIS_PIO_SETUP, FIS_IRQ | FIS_TO_HOST};
    put_task_file(fis, &req->tf);
    fis[2] = ATA_DRDY | ATA_DSC | ATA_DRQ;
    fis[15] = req->tf.status;
    store_le16(fis + 16, (uint16_t)(req->moved < req->block ? req->moved : req->block));
    post(p, AT_PIO_SETUP, fis, sizeof(fis));
}

void ahci_post_set_bits(struct ahci_port *p, const struct ata_tf *tf, uint32_t done)
{
    uint8_t fis[8] = {FIS_SET_BITS, FIS_IRQ, tf->status & 0x77, tf->error};
    store_le32(fis + 4, done);
    post(p, AT_SET_BITS, fis, sizeof(fis));
}
