/* The memory balloon, for the monitor: loop thread. */
#ifndef DEV_VIRTIO_VIRTIO_BALLOON_H
#define DEV_VIRTIO_VIRTIO_BALLOON_H

#include <stdint.h>

struct machine;
struct strbuf;
struct virtio_balloon;

/* The machine's, or NULL. */
struct virtio_balloon *virtio_balloon_find(struct machine *m);
/* How many bytes the guest should go down to, or up. */
void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t bytes);
uint64_t virtio_balloon_actual(struct virtio_balloon *b);
/* What the guest last told of its memory, a line each; nothing if it did not. */
void virtio_balloon_print_stats(struct virtio_balloon *b, struct strbuf *out);

#endif
