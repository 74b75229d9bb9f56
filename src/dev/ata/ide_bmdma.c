/*
 * Bus master IDE: SFF-8038i (rev. 1.0), as in the PIIX (82371SB data sheet 2.7). A PRD table is a
 * row of {address, count}; it ends with the bit EOT, and does not cross a 64 KiB boundary.
 *
 * Does not do: simplex operation, timing registers (they are PCI configuration).
 */
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "dev/ata/ide_internal.h"

enum {
    BMICX = 0, /* command */
    BMISX = 2, /* status */
    BMIDTPX = 4,
    BM_CAPABLE = 0x60, /* status: drive 0, 1 can do DMA; as software left them */
    PRD_BYTES = 8,
    PRD_TABLE = 64 << 10,
};

static bool bm_entry(const struct ata_sg *sg, uint32_t index, gpa_t *gpa, uint32_t *len, bool *last)
{
    uint8_t prd[PRD_BYTES];
    if (!gmem_read(sg->mem, sg->table + (uint64_t)index * PRD_BYTES, prd, sizeof(prd))) {
        return false;
    }
    uint32_t count = load_le32(prd + 4);
    *gpa = load_le32(prd) & ~1u;
    *len = count & 0xfffe ? count & 0xfffe : 0x10000;
    *last = count >> 31;
    return true;
}

bool ide_bm_open(struct ide_channel *ch, struct ata_sg *sg)
{
    struct mem_map *mem = ch->dma(ch->opaque);
    if (!mem || !(ch->bm_command & BM_START)) {
        return false;
    }
    uint32_t room = PRD_TABLE - (ch->bm_table & (PRD_TABLE - 1));
    *sg = (struct ata_sg){
        .mem = mem, .entry = bm_entry, .table = ch->bm_table, .count = room / PRD_BYTES};
    return true;
}

static void bm_write_command(struct ide_channel *ch, uint8_t val)
{
    uint8_t changed = ch->bm_command ^ val;
    ch->bm_command = val & (BM_START | BM_TO_MEMORY);
    if ((changed & BM_START) && (val & BM_START)) {
        ch->bm_status |= BM_ACTIVE;
        ide_start_dma(ch);
    } else if (changed & BM_START) {
        ch->bm_status &= (uint8_t)~BM_ACTIVE;
        ide_stop_dma(ch);
    }
}

static uint64_t bm_read_byte(struct ide_channel *ch, unsigned off)
{
    switch (off) {
    case BMICX: return ch->bm_command;
    case BMISX: return ch->bm_status;
    case BMIDTPX:
    case BMIDTPX + 1:
    case BMIDTPX + 2:
    case BMIDTPX + 3: return ch->bm_table >> 8 * (off - BMIDTPX) & 0xff;
    default: return 0xff;
    }
}

static void bm_write_byte(struct ide_channel *ch, unsigned off, uint8_t val)
{
    unsigned shift = 8 * (off & 3);
    if (off == BMICX) {
        bm_write_command(ch, val);
    } else if (off == BMISX) { /* interrupt and error are cleared by ones */
        ch->bm_status &= (uint8_t) ~(val & (BM_INTERRUPT | BM_ERROR));
        ch->bm_status = (uint8_t)((ch->bm_status & ~BM_CAPABLE) | (val & BM_CAPABLE));
    } else if (off >= BMIDTPX) {
        ch->bm_table = (ch->bm_table & ~(0xffu << shift)) | (uint32_t)val << shift;
        ch->bm_table &= ~3u;
    }
}

static enum mem_result bm_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct ide_channel *ch = dev;
    AUTO_LOCK(&ch->lock);
    *val = 0;
    for (unsigned i = 0; i < size; i++) {
        *val |= bm_read_byte(ch, (unsigned)off + i) << 8 * i;
    }
    return MEM_OK;
}

static enum mem_result bm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ide_channel *ch = dev;
    AUTO_LOCK(&ch->lock);
    for (unsigned i = 0; i < size; i++) {
        bm_write_byte(ch, (unsigned)off + i, (uint8_t)(val >> 8 * i));
    }
    return MEM_OK;
}

const struct mmio ide_bus_master = {bm_read, bm_write, 1, 4};
