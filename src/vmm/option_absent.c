/* Published options that have nothing behind them here: each gets its sentence. */
#include <stddef.h>
#include <string.h>

#include "vmm/option_table.h"

static const struct {
    const char *name, *why;
} absent[] = {
    {"acpitable", "tables are the board's own"},
    {"add-fd", "descriptors are not handed over"},
    {"async-teardown", "memory is given back by the host's kernel"},
    {"audio", "there is no sound card"},
    {"audio-help", "there is no sound card"},
    {"audiodev", "there is no sound card"},
    {"chroot", "use a service manager"},
    {"dtb", "no machine here has a device tree"},
    {"dump-vmstate", "there is no migration yet"},
    {"echr", "the escape character is Ctrl-A"},
    {"enable-kvm", "there is no KVM yet, the JIT runs everywhere; leave it out"},
    {"fsdev", "there is no file sharing"},
    {"icount", "the guest's time is the host's"},
    {"incoming", "there is no migration yet"},
    {"iscsi", "there is no iSCSI"},
    {"loadvm", "the state of a running machine cannot be saved yet"},
    {"mem-path", "guest memory is anonymous"},
    {"mtdblock", "there is no such card"},
    {"netdev", "there is no network card yet"},
    {"only-migratable", "there is no migration yet"},
    {"option-rom", "ROMs come with their devices"},
    {"plugin", "there are no plugins"},
    {"preconfig", "options are all there is to configure by"},
    {"qmp", "there is no QMP yet; -monitor is there"},
    {"qmp-pretty", "there is no QMP yet; -monitor is there"},
    {"readconfig", "there are no configuration files"},
    {"runas", "use a service manager"},
    {"sandbox", "there is no filter of system calls yet"},
    {"sd", "there is no SD card"},
    {"set", "give the option where the thing is made"},
    {"singlestep", "use -accel jit,tier=0"},
    {"smbios", "tables are the board's own"},
    {"spice", "there is no SPICE; use -vnc"},
    {"tpmdev", "there is no TPM"},
    {"trace", "use -d"},
    {"usb", "there is no USB yet"},
    {"usbdevice", "there is no USB yet"},
    {"virtfs", "there is no file sharing"},
    {"xen-attach", "there is no Xen"},
    {"xen-domid", "there is no Xen"},
    {"xen-domid-restrict", "there is no Xen"},
};

const char *option_absent(const char *name)
{
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        if (!strcmp(absent[i].name, name)) {
            return absent[i].why;
        }
    }
    return NULL;
}
