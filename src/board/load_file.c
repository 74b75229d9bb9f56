/* Bounded reads from a kernel or ramdisk. */
#include "board/load_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"

int load_file_open(struct load_file *f, const char *what, const char *path, struct err *err)
{
    struct stat st;
    *f = (struct load_file){what, path, open(path, O_RDONLY | O_CLOEXEC), 0};
    if (f->fd < 0 || fstat(f->fd, &st)) {
        int ret = err_set(err, errno, "cannot open the %s '%s': %s", what, path, strerror(errno));
        load_file_close(f);
        return ret;
    }
    if (!S_ISREG(st.st_mode) || !st.st_size) {
        load_file_close(f);
        return err_set(err, EINVAL, "the %s '%s' is %s", what, path,
                       S_ISREG(st.st_mode) ? "empty" : "not a regular file");
    }
    f->size = (uint64_t)st.st_size;
    return 0;
}

void load_file_close(struct load_file *f)
{
    cleanup_close(&f->fd);
    f->fd = -1;
}

static int load_truncated(const struct load_file *f, struct err *err)
{
    return err_set(err, EINVAL,
                   "the %s '%s' is truncated or damaged: it refers to bytes past its end", f->what,
                   f->path);
}

int load_file_read(const struct load_file *f, uint64_t off, void *buf, uint64_t len,
                   struct err *err)
{
    if (off > f->size || len > f->size - off) {
        return load_truncated(f, err);
    }
    for (uint64_t done = 0; done < len;) {
        ssize_t n = pread(f->fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_set(err, errno, "cannot read the %s '%s': %s", f->what, f->path,
                           strerror(errno));
        }
        if (n == 0) {
            return load_truncated(f, err);
        }
        done += (uint64_t)n;
    }
    return 0;
}

int load_file_to_guest(const struct load_file *f, uint64_t off, struct mem_map *mem, gpa_t gpa,
                       uint64_t len, struct err *err)
{
    struct gmem_span span;
    for (uint64_t done = 0; done < len; done += span.len) {
        uint64_t at;
        if (!add_ok(gpa, done, &at) || !gmem_span(mem, at, len - done, &span)) {
            return err_set(err, ENOMEM,
                           "the %s '%s' does not fit: guest address %llx is not RAM (see -m)",
                           f->what, f->path, (unsigned long long)(gpa + done));
        }
        int ret = load_file_read(f, off + done, span.host, span.len, err);
        if (ret) {
            return ret;
        }
        gmem_wrote(&span);
    }
    return 0;
}
