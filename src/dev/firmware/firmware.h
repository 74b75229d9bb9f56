/* Firmware images: where distributions put them, and which package has one that is absent. */
#ifndef DEV_FIRMWARE_FIRMWARE_H
#define DEV_FIRMWARE_FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct machine;
struct ram;

struct firmware_file {
    uint8_t *bytes; /* free() */
    size_t len;
};

/* `name` is a path, or a file's name to look for in the usual folders and in -L's. At most `max`
 * bytes. */
int firmware_read(const struct machine *m, const char *name, size_t max, struct firmware_file *f,
                  struct err *err);

#endif
