/* A VGA that is a virtio GPU as well. */
#ifndef DEV_VIRTIO_VIRTIO_VGA_H
#define DEV_VIRTIO_VIRTIO_VGA_H

extern const struct dev_type virtio_vga_type; /* "virtio-vga" */

#endif
