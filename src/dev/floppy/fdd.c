/*
 * Floppy disk drives. Formats by the size of the image, 160 KB to 2.88 MB: ECMA-66, -70, -99, -125,
 * 147 as PCs use them, 512 bytes a sector in order. Data rates as 82077AA data sheet (290166),
 * table 2-6.
 *
 * Does not do: other sector sizes, deleted data marks, step and motor times.
 */
#include "dev/floppy/fdd.h"

#include "base/bits.h"
#include "block/block.h"
#include "state/field.h"

enum { R500 = 1 << 0, R300 = 1 << 1, R250 = 1 << 2, R1000 = 1 << 3 };

/* By size. */
static const struct fdd_geometry formats[] = {
    {320, 40, 1, 8, R300 | R250, FDD_120}, /* 160 KB */
    {360, 40, 1, 9, R300 | R250, FDD_120}, /* 180 KB */
    {640, 40, 2, 8, R300 | R250, FDD_120}, /* 320 KB */
    {720, 40, 2, 9, R300 | R250, FDD_120}, /* 360 KB */
    {1440, 80, 2, 9, R250, FDD_144},       /* 720 KB */
    {2400, 80, 2, 15, R500, FDD_120},      /* 1.2 MB */
    {2880, 80, 2, 18, R500, FDD_144},      /* 1.44 MB */
    {3360, 80, 2, 21, R500, FDD_144},      /* 1.68 MB */
    {3444, 82, 2, 21, R500, FDD_144},      /* 1.72 MB */
    {5760, 80, 2, 36, R1000, FDD_288},     /* 2.88 MB */
};

const struct fdd_geometry *fdd_geometry_of(uint64_t bytes)
{
    for (unsigned i = 0; bytes && i < ARRAY_LEN(formats); i++) {
        if (bytes <= (uint64_t)formats[i].sectors * FDD_SECTOR) {
            return &formats[i];
        }
    }
    return NULL;
}

bool fdd_fits(enum fdd_type type, const struct fdd_geometry *g)
{
    return type == g->type || (type == FDD_288 && g->type == FDD_144);
}

void fdd_set_medium(struct fdd *d, struct block *block)
{
    disk_set_block(&d->disk, block);
    d->medium = block ? fdd_geometry_of(block_size(block)) : NULL;
    d->changed = true;
}

void fdd_init(struct fdd *d, enum fdd_type type)
{
    d->medium = fdd_geometry_of(disk_size(&d->disk));
    d->type = type ? type : d->medium ? d->medium->type : FDD_288;
    d->changed = true;
    d->cylinder = 0;
}

void fdd_step_to(struct fdd *d, int cylinder)
{
    cylinder = cylinder < 0 ? 0 : cylinder > FDD_LAST_CYLINDER ? FDD_LAST_CYLINDER : cylinder;
    if (cylinder != d->cylinder) {
        d->changed = d->changed && !d->medium;
    }
    d->cylinder = (uint8_t)cylinder;
}

uint64_t fdd_offset(const struct fdd_geometry *g, uint8_t c, uint8_t h, uint8_t r)
{
    return (((uint64_t)c * g->heads + h) * g->track + r - 1) * FDD_SECTOR;
}

/* ---- State ---- */

static const struct field fdd_list[] = {
    FIELD(struct fdd, disk, FIELD_HOST),
    FIELD(struct fdd, type, FIELD_CONFIG),
    FIELD(struct fdd, medium, FIELD_HOST),
    FIELD(struct fdd, cylinder, FIELD_GUEST, .max = FDD_LAST_CYLINDER),
    FIELD(struct fdd, turn, FIELD_GUEST),
    FIELD(struct fdd, changed, FIELD_GUEST),
};

FIELD_SET_SHARED(fdd_fields, "floppy-drive", struct fdd, fdd_list, 1);
