/* The kernel's NBD client, by its ioctls (linux/nbd.h). */
#include "nbd/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/err.h"

enum { BLOCK_BYTES = 512 };

struct nbd_device {
    int fd;
    pthread_t thread;
};

/* The kernel does its requests on this thread until somebody disconnects. */
static void *device_main(void *opaque)
{
    struct nbd_device *d = opaque;
    ioctl(d->fd, NBD_DO_IT);
    ioctl(d->fd, NBD_CLEAR_QUE);
    ioctl(d->fd, NBD_CLEAR_SOCK);
    return NULL;
}

static int device_set_up(int fd, int sock, uint64_t size, bool readonly)
{
    unsigned long flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
                          (readonly ? NBD_FLAG_READ_ONLY : NBD_FLAG_SEND_TRIM);
    return ioctl(fd, NBD_SET_BLKSIZE, BLOCK_BYTES) ||
                   ioctl(fd, NBD_SET_SIZE_BLOCKS, size / BLOCK_BYTES) ||
                   ioctl(fd, NBD_SET_FLAGS, flags) || ioctl(fd, NBD_SET_SOCK, sock)
               ? -errno
               : 0;
}

struct nbd_device *nbd_device_connect(const char *path, uint64_t size, bool readonly, int *fd,
                                      struct err *err)
{
    int pair[2];
    struct nbd_device *d = alloc_zero(sizeof(*d));
    d->fd = open(path, O_RDWR | O_CLOEXEC);
    if (d->fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        err_set(err, errno, "cannot open the device '%s': %s (is the module 'nbd' loaded?)", path,
                strerror(errno));
        cleanup_close(&d->fd);
        free(d);
        return NULL;
    }
    int ret = device_set_up(d->fd, pair[0], size, readonly);
    ret = ret ? ret : -pthread_create(&d->thread, NULL, device_main, d);
    close(pair[0]);
    if (ret) {
        err_set(err, -ret, "cannot connect the device '%s': %s", path, strerror(-ret));
        close(pair[1]);
        close(d->fd);
        free(d);
        return NULL;
    }
    *fd = pair[1];
    return d;
}

void nbd_device_wait(struct nbd_device *d)
{
    ioctl(d->fd, NBD_DISCONNECT);
    pthread_join(d->thread, NULL);
    close(d->fd);
    free(d);
}

int nbd_device_disconnect(const char *path, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, NBD_CLEAR_QUE) || ioctl(fd, NBD_DISCONNECT) ||
        ioctl(fd, NBD_CLEAR_SOCK)) {
        return err_set(err, errno, "cannot disconnect '%s': %s", path, strerror(errno));
    }
    return 0;
}
