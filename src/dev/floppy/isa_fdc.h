/* Devices "isa-fdc", the controller on the ISA bus, and "floppy", a drive on it. */
#ifndef DEV_FLOPPY_ISA_FDC_H
#define DEV_FLOPPY_ISA_FDC_H

#include "core/device.h"
#include "dev/floppy/fdc.h"

#define ISA_FDC_BUS "floppy-bus.0"

enum { ISA_FDC_UNITS = 2 };

struct floppy_dev {
    struct dev dev;
    struct fdd fdd;
    char *drive_id, *type, *werror, *rerror;
    uint32_t unit, bootindex; /* bootindex UINT32_MAX: none */
    bool share, attached;
};

extern const struct dev_type isa_fdc_type, floppy_type;

/* The type of the drive in a unit of the machine's controller, as CMOS has it: 0 none, 2 1.2 MB,
 * 4 1.44 MB, 5 2.88 MB. */
unsigned isa_fdc_cmos_type(struct machine *m, unsigned unit);

/* The monitor's: loop's thread of the machine. NULL: ejects. */
void floppy_dev_change(struct floppy_dev *d, struct block *block);

#endif
