/* The kernel's NBD client: /dev/nbdN. */
#ifndef NBD_DEVICE_H
#define NBD_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

struct err;

struct nbd_device;
/* Gives the device our end of a connection that is past its handshake; *fd is the other end. */
struct nbd_device *nbd_device_connect(const char *path, uint64_t size, bool readonly, int *fd,
                                      struct err *err);
void nbd_device_wait(struct nbd_device *d); /* until it is disconnected */
int nbd_device_disconnect(const char *path, struct err *err);

#endif
