/* A build without VNC. */
#include <errno.h>
#include <stddef.h>

#include "base/err.h"
#include "display/vnc.h"

struct vnc *vnc_new(struct display *d, struct loop *loop, const char *name,
                    const struct keymap *keymap, const struct keyval *options, struct err *err)
{
    err_set(err, ENOTSUP, "-vnc: this program was built without libvncserver");
    return NULL;
}

void vnc_free(struct vnc *v)
{
}

void vnc_leave(struct vnc *v)
{
}

int vnc_set_password(struct vnc *v, const char *password, struct err *err)
{
    return err_set(err, ENOTSUP, "vnc: this program was built without libvncserver");
}

int vnc_expire_password(struct vnc *v, int64_t when, struct err *err)
{
    return vnc_set_password(v, NULL, err);
}
