/* The commands, and help about them. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "monitor/internal.h"

#define ALL ~0u

/* In the alphabet's order, as they are listed. */
const struct monitor_command monitor_commands[] = {
    {"balloon", "target", "request VM to change its memory allocation (in MB)", 1, cmd_balloon},
    {"block_resize", "device size", "resize a block image", 2, cmd_block_resize},
    {"change", "device filename [format]", "change a removable medium, or 'vnc password'", 3,
     cmd_change},
    {"commit", "device|all",
     "commit changes to the disk images (if -snapshot is used) or backing files", 1, cmd_commit},
    {"cont|c", "", "resume emulation", 0, cmd_cont},
    {"cpu", "index", "set the default CPU", 1, cmd_cpu},
    {"eject", "[-f] device", "eject a removable medium (use -f to force it)", 2, cmd_eject},
    {"expire_password", "protocol time", "set vnc password expire-time", 2, cmd_expire_password},
    {"gdbserver", "[device]",
     "start gdbserver on given device (default 'tcp::1234'), stop with 'none'", 1, cmd_gdbserver},
    {"help|?", "[cmd]", "show the help", 2, cmd_help},
    {"info", "[subcommand]", "show various information about the system state", ALL, cmd_info},
    {"mouse_button", "state", "change mouse button state (1=L, 2=M, 4=R)", 1, cmd_mouse_button},
    {"mouse_move", "dx dy [dz]", "send mouse move events", 3, cmd_mouse_move},
    {"nmi", "", "inject an NMI", 0, cmd_nmi},
    {"print|p", "/fmt expr", "print expression value (use $reg for CPU register access)", ALL,
     cmd_print},
    {"quit|q", "", "quit the emulator", 0, cmd_quit},
    {"ringbuf_read", "device size", "read from a ring buffer character device", 2,
     cmd_ringbuf_read},
    {"ringbuf_write", "device data", "write to a ring buffer character device", 2,
     cmd_ringbuf_write},
    {"screendump", "filename [-f format] [device [head]]", "save screen into a file", 5,
     cmd_screendump},
    {"sendkey", "keys [hold_ms]",
     "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)", 2, cmd_sendkey},
    {"set_password", "protocol password [action-if-connected]", "set vnc password", 3,
     cmd_set_password},
    {"stop|s", "", "stop emulation", 0, cmd_stop},
    {"system_powerdown", "", "send system power down event", 0, cmd_powerdown},
    {"system_reset", "", "reset the system", 0, cmd_reset},
    {"watchdog_action", "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
     "change watchdog action", 1, cmd_watchdog_action},
    {"x", "/fmt addr", "virtual memory dump starting at 'addr'", ALL, cmd_x},
    {"xp", "/fmt addr", "physical memory dump starting at 'addr'", ALL, cmd_xp},
    {0},
};

const struct monitor_command monitor_infos[] = {
    {"balloon", "", "show balloon information", 0, info_balloon},
    {"block", "[-n] [-v] [device]", "show info of one block device or all block devices", 3,
     info_block},
    {"chardev", "", "show the character devices", 0, info_chardev},
    {"cpus", "", "show infos for each CPU", 0, info_cpus},
    {"history", "", "show the command line history", 0, info_history},
    {"irq", "", "show the interrupts statistics", 0, info_irq},
    {"jit", "", "show dynamic compiler info", 0, info_jit},
    {"lapic", "[apic-id]", "show local apic state", 1, info_lapic},
    {"mem", "", "show the active virtual memory mappings", 0, info_mem},
    {"mtree", "[-f]", "show the flat view of memory and ports", 1, info_mtree},
    {"name", "", "show the current VM name", 0, info_name},
    {"pci", "", "show PCI info", 0, info_pci},
    {"pic", "", "show PIC state", 0, info_pic},
    {"qtree", "", "show device tree", 0, info_qtree},
    {"registers", "[-a|vcpu]", "show the cpu registers", 1, info_registers},
    {"status", "", "show the current VM status (running|paused)", 0, info_status},
    {"tlb", "", "show virtual to physical memory mappings", 0, info_tlb},
    {"uuid", "", "show the current VM UUID", 0, info_uuid},
    {"version", "", "show the version of the emulator", 0, info_version},
    {"vm-generation-id", "", "Show Virtual Machine Generation ID", 0, info_vmgenid},
    {0},
};

static void help_line(struct monitor *mon, const char *before, const struct monitor_command *c)
{
    monitor_put(mon, "%s%s %s -- %s\n", before, c->name, c->args, c->help);
}

static int help_of(struct monitor *mon, const struct monitor_command *list, const char *before,
                   const char *name, struct err *err)
{
    bool found = !name;
    for (const struct monitor_command *c = list; c->name; c++) {
        if (!name || command_is(c, name)) {
            help_line(mon, before, c);
            found = true;
        }
    }
    return found ? 0 : err_set(err, ENOENT, "there is no command '%s%s'", before, name);
}

int cmd_help(struct monitor *mon, struct command_args *a, struct err *err)
{
    const char *name = args_word(a, 0);
    if (name && !strcmp(name, "info")) {
        return help_of(mon, monitor_infos, "info ", args_word(a, 1), err);
    }
    return help_of(mon, monitor_commands, "", name, err);
}

int cmd_info(struct monitor *mon, struct command_args *a, struct err *err)
{
    struct command_args sub = {.rest = a->rest};
    int ret = words_split(&sub.words, a->rest, err);
    const char *name = ret ? NULL : args_word(&sub, 0);
    const struct monitor_command *c = monitor_infos;
    while (name && c->name && !command_is(c, name)) {
        c++;
    }
    if (!ret && !name) {
        ret = help_of(mon, monitor_infos, "info ", NULL, err);
    } else if (!ret && !c->name) {
        monitor_put(mon, "unknown command: 'info %s'\n", name);
    } else if (!ret && sub.words.count - 1 > c->most) {
        ret = err_set(err, EINVAL, "info %s: extraneous characters at the end of line", c->name);
    } else if (!ret) {
        sub.words.count--;
        memmove(&sub.words.word[0], &sub.words.word[1],
                sub.words.count * sizeof(sub.words.word[0]));
        ret = c->run(mon, &sub, err);
    }
    words_free(&sub.words);
    return ret;
}
