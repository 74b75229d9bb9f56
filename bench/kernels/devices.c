/*
 * Accesses to devices of the board microvm, by /dev/mem and ports: a virtio transport's first
 * register is read, the I/O APIC's select register and the serial line's scratch register are
 * written and read. In the guest only.
 */
#include "kernels.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define VIRTIO 0xfeb00000
#define IOAPIC 0xfec00000
#define SCRATCH 0x3ff

static volatile uint32_t *registers(off_t at)
{
    mknod("/mem", S_IFCHR | 0600, makedev(1, 1));
    int fd = open("/mem", O_RDWR | O_SYNC);
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
    if (p == MAP_FAILED) {
        abort();
    }
    close(fd);
    return p;
}

static uint64_t mmio_read(unsigned long n)
{
    volatile uint32_t *virtio = registers(VIRTIO);
    uint64_t sum = 0;
    while (n--) {
        sum += virtio[0];
    }
    return sum;
}

static uint64_t mmio_write(unsigned long n)
{
    volatile uint32_t *ioapic = registers(IOAPIC);
    uint32_t before = ioapic[0];
    while (n--) {
        ioapic[0] = n & 15;
    }
    uint64_t sum = ioapic[0];
    ioapic[0] = before;
    return sum;
}

static uint64_t port(unsigned long n)
{
    uint64_t sum = 0;
    if (iopl(3)) {
        abort();
    }
    while (n--) {
        outb(n & 0xff, SCRATCH);
        sum = mix(sum, inb(SCRATCH));
    }
    return sum;
}

const struct kernel device_kernels[] = {
    {"mmio-read", "devices", mmio_read, 2000000, NEEDS_MICROVM},
    {"mmio-write", "devices", mmio_write, 2000000, NEEDS_MICROVM},
    {"port-io", "devices", port, 1000000, NEEDS_MICROVM},
    {0}};
