/* Kernel images: whatever bytes a file has, loading it ends with a kernel or a sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "board/load_x86.h"
#include "core/mem.h"
#include "tests/fuzz/fuzz.h"

#define RAM_SIZE (24ull << 20)

/* Files the loaders can open by name. */
static int make_file(const uint8_t *data, size_t size, char path[32])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        abort();
    }
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

/* The first byte: whether there is a ramdisk (a piece of the kernel; 8: as a Multiboot
 * kernel's two modules) and an RSDP. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ram_set set = {0};
    struct x86_boot_state boot = {0};
    struct err err;
    char path[32], initrd_path[32], modules[80];
    if (size < 2) {
        return 0;
    }
    unsigned how = data[0];
    struct ram *ram = ram_set_add(&set, "ram", RAM_SIZE, &err);
    struct mem_map *mem = mem_map_new("memory", 0);
    mem_map_add_ram(mem, 0, ram, 0, RAM_SIZE);
    int fd = make_file(data + 1, size - 1, path);
    int initrd = how & 1 ? make_file(data + 1, (size - 1) / 2 + 1, initrd_path) : -1;
    if (how & 1 && how & 8) {
        snprintf(modules, sizeof(modules), "%s a=1,,2,%s", initrd_path, initrd_path);
    } else {
        snprintf(modules, sizeof(modules), "%s", how & 1 ? initrd_path : "");
    }
    struct x86_load l = {
        .mem = mem,
        .kernel = path,
        .initrd = how & 1 ? modules : NULL,
        .cmdline = how & 4 ? "console=ttyS0 quiet" : "",
        .low_ram_end = RAM_SIZE,
        .rsdp = how & 2 ? 0xe0000 : 0,
        .boot = &boot,
        .map = {{0, 0x9fc00, X86_RANGE_RAM}, {0x100000, RAM_SIZE - 0x100000, X86_RANGE_RAM}},
        .map_count = 2,
    };
    x86_load_kernel(&l, &err);
    close(fd);
    if (initrd >= 0) {
        close(initrd);
    }
    mem_map_free(mem);
    ram_set_free(&set);
    return 0;
}
