/* A triple fault resets the machine (Intel SDM Vol. 3A 6.15, interrupt 8); run with -no-reboot. */
#include "rt.h"

CASE(triple_fault)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) none = {0, 0};
    put_string("ok triple_fault\nreset\n");
    while (!(inb(0x3fd) & 0x40)) {
    }
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
}
