/* Direct boot: what the kinds of kernel have in common. */
#include "board/load_x86.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "board/load_multiboot.h"

int x86_load_put(struct x86_load *l, gpa_t gpa, const void *buf, uint64_t len, struct err *err)
{
    if (!gmem_write(l->mem, gpa, buf, len)) {
        return err_set(err, ENOMEM, "too little guest memory to start a kernel (see -m)");
    }
    return 0;
}

int x86_load_cmdline(struct x86_load *l, uint64_t max, struct err *err)
{
    uint64_t len = strlen(l->cmdline);
    if (max > X86_LOAD_CMDLINE_MAX - 1) {
        max = X86_LOAD_CMDLINE_MAX - 1;
    }
    if (len > max) {
        return err_set(err, E2BIG,
                       "-append: the kernel's command line is %llu bytes, it takes at most %llu",
                       (unsigned long long)len, (unsigned long long)max);
    }
    return x86_load_put(l, X86_LOAD_CMDLINE, l->cmdline, len + 1, err);
}

int x86_load_initrd(struct x86_load *l, uint64_t limit, struct err *err)
{
    struct load_file f;
    if (!l->initrd) {
        return 0;
    }
    int ret = load_file_open(&f, "initial ramdisk", l->initrd, err);
    if (ret) {
        return ret;
    }
    uint64_t end = limit < l->low_ram_end ? limit : l->low_ram_end;
    l->initrd_size = f.size;
    l->initrd_start = f.size < end ? (end - f.size) & ~0xfffull : 0;
    bool clash = l->initrd_start < l->kernel_end && l->kernel_start < l->initrd_start + f.size;
    if (l->initrd_start < 1 << 20 || clash) {
        ret = err_set(err, ENOMEM,
                      "the initial ramdisk '%s' (%llu MiB) does not fit beside the kernel (see -m)",
                      l->initrd, (unsigned long long)(f.size >> 20));
    } else {
        ret = load_file_to_guest(&f, 0, l->mem, l->initrd_start, f.size, err);
    }
    load_file_close(&f);
    return ret;
}

static int x86_load_any(struct x86_load *l, const struct load_file *f, struct err *err)
{
    uint8_t head[0x400] = {0};
    size_t n = f->size < sizeof(head) ? (size_t)f->size : sizeof(head);
    int ret = load_file_read(f, 0, head, n, err);
    if (ret) {
        return ret;
    }
    if (x86_is_bzimage(head, n)) {
        return x86_load_bzimage(l, f, err);
    }
    ret = x86_is_multiboot(f, err);
    if (ret) {
        return ret < 0 ? ret : x86_boot_multiboot(l, f, err);
    }
    if (x86_is_elf(head, n)) {
        return x86_load_elf(l, f, err);
    }
    return err_set(err, ENOEXEC,
                   "the kernel '%s' is neither an ELF image, a bzImage nor a Multiboot kernel for "
                   "x86",
                   f->path);
}

int x86_load_kernel(struct x86_load *l, struct err *err)
{
    struct load_file f;
    int ret = load_file_open(&f, "kernel", l->kernel, err);
    if (ret) {
        return ret;
    }
    ret = x86_load_any(l, &f, err);
    load_file_close(&f);
    return ret;
}
