/* VM generation ID, for boards and the monitor. */
#ifndef DEV_MISC_VMGENID_H
#define DEV_MISC_VMGENID_H

#include <stdbool.h>
#include <stdint.h>

#define VMGENID_BYTES 16
#define VMGENID_TEXT 37 /* with the end */

struct dev_type;
struct machine;

/* As it is in the guest's memory; NULL: the machine has no such device. */
const uint8_t *vmgenid_bytes(const struct machine *m);
bool vmgenid_text(const struct machine *m, char text[VMGENID_TEXT]);

extern const struct dev_type vmgenid_type;

#endif
