/*
 * What a disk's device does when the image fails, and who uses the image: beside the backend
 * "drive" of the same name, as the backend "drive-policy".
 */
#ifndef DEV_VIRTIO_DRIVE_POLICY_H
#define DEV_VIRTIO_DRIVE_POLICY_H

#include <stdbool.h>

enum on_error { ON_ERROR_REPORT, ON_ERROR_IGNORE, ON_ERROR_ENOSPC, ON_ERROR_STOP };
/* By number; what is read and written: -drive's rerror and werror. */
extern const char *const on_error_names[]; /* NULL-terminated */

struct drive_policy {
    enum on_error read, write;
    bool used, shared; /* by a device; which lets others write, too */
};

#endif
