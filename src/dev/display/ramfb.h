/* A frame buffer in guest memory that firmware sets up. */
#ifndef DEV_DISPLAY_RAMFB_H
#define DEV_DISPLAY_RAMFB_H

struct err;
struct fw_cfg;
struct machine;

extern const struct dev_type ramfb_type; /* "ramfb" */

/* For boards with fw_cfg, at each start: the files of the machine's ramfb, if it has one. */
int ramfb_add_files(const struct machine *m, struct fw_cfg *f, struct err *err);

#endif
