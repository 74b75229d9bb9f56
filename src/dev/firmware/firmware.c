/* Finding and reading firmware images. */
#include "dev/firmware/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "core/machine.h"

static const char *const folders[] = {
    "/usr/share/seabios",   "/usr/share/qemu",          "/usr/share/OVMF",        "/usr/share/ovmf",
    "/usr/share/edk2/ovmf", "/usr/share/qemu-firmware", "/usr/local/share/lodge",
};

/* Which Debian package has a file, for the sentence. */
static const struct {
    const char *prefix, *package;
} packages[] = {
    {"bios", "seabios"}, {"vgabios", "seabios"}, {"OVMF", "ovmf"}, {"", "qemu-system-data"}};

static const char *firmware_package(const char *name)
{
    size_t i = 0;
    while (strncmp(name, packages[i].prefix, strlen(packages[i].prefix))) {
        i++;
    }
    return packages[i].package;
}

static int firmware_open(const struct machine *m, const char *name, struct err *err)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 || strchr(name, '/')) {
        return fd >= 0 ? fd : err_set(err, errno, "firmware '%s': %s", name, strerror(errno));
    }
    for (size_t i = 0; fd < 0 && i <= ARRAY_LEN(folders); i++) {
        const char *folder = i ? folders[i - 1] : m->config.firmware_dir;
        char path[512];
        if (folder && (size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) < sizeof(path)) {
            fd = open(path, O_RDONLY | O_CLOEXEC);
        }
    }
    return fd >= 0 ? fd
                   : err_set(err, ENOENT,
                             "firmware '%s' is not installed; it is in Debian's package '%s' "
                             "(or name its folder with -L)",
                             name, firmware_package(name));
}

int firmware_read(const struct machine *m, const char *name, size_t max, struct firmware_file *f,
                  struct err *err)
{
    struct stat st;
    AUTO_CLOSE int fd = firmware_open(m, name, err);
    if (fd < 0) {
        return fd;
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 1 || (uint64_t)st.st_size > max) {
        return err_set(err, EINVAL, "firmware '%s' is not a file of 1 to %zu bytes", name, max);
    }
    f->len = (size_t)st.st_size;
    f->bytes = alloc_zero(f->len);
    if (pread(fd, f->bytes, f->len, 0) != (ssize_t)f->len) {
        free(f->bytes);
        f->bytes = NULL;
        return err_set(err, EIO, "firmware '%s' cannot be read whole", name);
    }
    return 0;
}
