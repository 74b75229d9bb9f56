/* The virtio GPU as a PCI device with a VGA sees it. */
#ifndef DEV_VIRTIO_VIRTIO_GPU_H
#define DEV_VIRTIO_VIRTIO_GPU_H

#include <stdbool.h>

struct display_source;
struct virtio;

/* Who draws while no driver has: as a source's update(). */
struct virtio_gpu_behind {
    void (*draw)(void *opaque, struct display_source *s, bool all);
    void *opaque;
};

/* Before the machine runs; `v` is a virtio GPU. */
void virtio_gpu_set_behind(struct virtio *v, const struct virtio_gpu_behind *behind);

#endif
