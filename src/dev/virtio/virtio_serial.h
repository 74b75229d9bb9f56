/* Inside of the console device with ports. */
#ifndef DEV_VIRTIO_VIRTIO_SERIAL_H
#define DEV_VIRTIO_VIRTIO_SERIAL_H

#include "dev/virtio/virtio.h"

#define VSER_MAX_PORTS 31

struct chardev;
struct vser;

/* Control messages that wait for a buffer, in the order in which they are told. */
enum vser_due {
    VSER_DUE_ADD = 1 << 0,
    VSER_DUE_CONSOLE = 1 << 1,
    VSER_DUE_NAME = 1 << 2,
    VSER_DUE_OPEN = 1 << 3,
};

/* A port, which is a device on the bus of a struct vser. */
struct vser_port {
    struct dev dev;
    char *chardev_id, *name; /* options */
    uint32_t nr;             /* UINT32_MAX before it has one */
    bool console;
    struct chardev *chardev; /* NULL: output vanishes */
    struct vser *serial;
    /* By the serial device's lock. */
    bool host_open, guest_open;
    bool rx_stopped; /* the chardev waits for room */
    unsigned due;    /* enum vser_due */
    /* What the chardev gave and the guest had no room for. */
    unsigned rest_at, rest_len;
    uint8_t rest[1024];
    /* What the guest gave and the chardev had no room for, from `held_at`. */
    bool held;
    uint64_t held_at;
    struct vq_elem elem;
};

struct vser {
    struct dev dev;
    struct virtio v;
    struct bus ports;
    uint32_t max_ports;   /* options */
    bool emergency_write; /* options */
    char bus_id[48];
    struct vser_port *port[VSER_MAX_PORTS];
};

/* virtio_serial_port.c; the lock is held. */
void vser_port_tx(struct vser_port *p);    /* the guest has sent, or the chardev has room */
void vser_port_flush(struct vser_port *p); /* the guest has room, or has opened the port */
void vser_port_reset(struct vser_port *p);
void vser_port_emergency(struct vser_port *p, uint8_t byte);

/* virtio_serial.c; the lock is held. */
bool vser_multiport(const struct vser *s);
struct vq *vser_port_queue(struct vser_port *p, bool tx);
bool vser_guest_listens(const struct vser_port *p);
void vser_tell(struct vser *s, struct vser_port *p, unsigned due);

extern const struct bus_type vser_bus_type;

#endif
