/* A floppy disk drive: its medium, where the heads are, the disk change line. */
#ifndef DEV_FLOPPY_FDD_H
#define DEV_FLOPPY_FDD_H

#include "dev/storage/disk.h"

enum { FDD_SECTOR = 512, FDD_SIZE_CODE = 2, FDD_LAST_CYLINDER = 83 };

enum fdd_type { FDD_NONE, FDD_120, FDD_144, FDD_288 }; /* 1.2 MB, 1.44 MB, 2.88 MB */

struct fdd_geometry {
    uint16_t sectors; /* all */
    uint8_t cylinders, heads, track;
    uint8_t rates; /* a bit for each data rate code that can read it */
    enum fdd_type type;
};

/* All by the controller's lock. */
struct fdd {
    struct disk disk;
    enum fdd_type type;
    const struct fdd_geometry *medium; /* NULL: none */
    uint8_t cylinder;
    uint8_t turn; /* which sector passes next */
    bool changed; /* since the last step */
};

/* The format of an image: of that size, else the smallest that has room; NULL: too large. */
const struct fdd_geometry *fdd_geometry_of(uint64_t bytes);
bool fdd_fits(enum fdd_type type, const struct fdd_geometry *g);

/* After disk_init() and disk_take(). FDD_NONE: as the medium wants it, 2.88 MB without one. */
void fdd_init(struct fdd *d, enum fdd_type type);
void fdd_set_medium(struct fdd *d, struct block *block); /* NULL: ejected; no job runs */
void fdd_step_to(struct fdd *d, int cylinder);           /* clears `changed` if it moves */
/* Its place in the image. */
uint64_t fdd_offset(const struct fdd_geometry *g, uint8_t c, uint8_t h, uint8_t r);

extern const struct field_set fdd_fields; /* struct fdd */

#endif
