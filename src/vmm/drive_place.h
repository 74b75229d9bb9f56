/* Where a -drive goes: interface, place on it, and the id that follows from both. */
#ifndef VMM_DRIVE_PLACE_H
#define VMM_DRIVE_PLACE_H

#include <stdbool.h>

struct err;
struct machine;
struct option_list;

struct drive_place {
    const char *interface; /* "ide", "virtio", "floppy", "none" */
    bool cdrom;
    unsigned index; /* on the interface */
    char id[48];    /* as given, or "ide0-hd0", "virtio0" */
};

/* Of the n-th -drive. Those without index= take the first place that no other one has. */
int drive_place(const struct machine *m, const struct option_list *drives, unsigned n,
                struct drive_place *p, struct err *err);
struct drive_defaults {
    bool cd, floppy;
};

/* Devices for those that have an interface, in order; then the board's empty CD and floppy drives
 * if they are wanted and their places are free. */
int drives_add_devices(struct machine *m, const struct option_list *drives,
                       const struct drive_defaults *defaults, struct err *err);

#endif
