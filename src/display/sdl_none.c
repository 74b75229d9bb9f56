/* A build without windows. */
#include <errno.h>
#include <stddef.h>

#include "base/err.h"
#include "display/sdl.h"

struct sdl *sdl_new(struct display *d, const struct sdl_options *o, const struct keyval *args,
                    struct err *err)
{
    err_set(err, ENOTSUP, "-display sdl: this program was built without SDL2");
    return NULL;
}

void sdl_free(struct sdl *s)
{
}
