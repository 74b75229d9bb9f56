"""Checks of tools/soak with whole Debian systems: a root file system on a disk, the installer."""
import glob
import os
import re

import debian_root
from soak_base import Console, Fail, complaints

PACKAGES = "systemd-sysv,udev,python3,perl,gcc,libc6-dev,dpkg,apt,openssl,stress-ng,procps,ca-certificates"
HERE = os.path.dirname(os.path.abspath(__file__))


def make_root(s, image):
    hooks = [f'--customize-hook=copy-in "{HERE}/soak_guest.sh" /root',
             '--customize-hook=echo root:lodge | chroot "$1" chpasswd',
             '--customize-hook=echo lodge >"$1/etc/hostname"',
             '--customize-hook=echo "/dev/vda / ext4 defaults 0 1" >"$1/etc/fstab"']
    s.must(debian_root.command(image + ".part", PACKAGES, "4G", hooks, s.args.mirror), "mmdebstrap.log", timeout=3600)
    os.rename(image + ".part", image)


def commands(con, s):
    """Logs in and runs soak_guest.sh; what it said of each step."""
    con.wait("login: ", 300)
    con.type("root")
    con.wait("[Pp]assword: ", 60)
    con.type("lodge")
    con.wait("# ", 60)
    con.type(f"sh /root/soak_guest.sh {s.args.stress}")
    text = con.wait("SOAK-END", 1200 + 20 * s.args.stress)
    con.wait("# ", 60)
    return re.findall(r"(?m)^SOAK (ok|FAILED) (\S+) (\d+)(.*)$", text)


def root(s):
    """A Debian root file system with systemd, on a virtio disk."""
    s.need("mmdebstrap", "mke2fs")
    s.need_build()
    s.need_guest()
    image, disk = s.path("root.img"), s.path("disk.img")
    if not os.path.exists(image):
        make_root(s, image)
    s.must(["cp", "--sparse=always", image, disk], "cp.log")
    s.must(["debugfs", "-w", "-R", "rm /root/soak_guest.sh", disk], "debugfs.log")
    s.must(["debugfs", "-w", "-R", f"write {HERE}/soak_guest.sh /root/soak_guest.sh", disk], "debugfs.log")
    argv = [s.lodge, "-M", "microvm", "-cpu", "max", "-smp", "2", "-m", "2G", "-kernel", f"{s.guest}/vmlinux",
            "-initrd", f"{s.guest}/initrd.gz", "-nographic", "-no-reboot",
            "-drive", f"if=none,id=d,format=raw,file={disk}", "-device", "virtio-blk-device,drive=d",
            "-device", "virtio-rng-device", "-append", "console=ttyS0 lodge.root"]
    with Console(argv, s.path("console.log"), s.args.patience) as con:
        steps = commands(con, s)
        con.type("poweroff")
        status = con.end(180)
        said = con.all.decode("utf-8", "replace")
    wrong = [name + rest for verdict, name, _, rest in steps if verdict != "ok"]
    wrong += complaints(said)[:3]
    if status != 0 or "Power down" not in said:
        wrong.append(f"power-off: status {status}")
    text = f"{len(steps)} steps: " + " ".join(f"{name} {seconds} s," for _, name, seconds, _ in steps)
    if wrong or not steps:
        raise Fail(f"{'; '.join(wrong) or 'no step ran'}; see {s.path('console.log')}")
    os.unlink(disk)
    return text + f" power-off status {status}"


def netboot(s):
    """Debian's installer up to its first question."""
    s.need("apt-get", "dpkg")
    s.need_build()
    package = "debian-installer-12-netboot-amd64"
    if not glob.glob(s.path("*.deb")):
        s.must(["apt-get", "download", "-q", package], "download.log", cwd=s.work, timeout=600)
        s.must(["dpkg", "-x", glob.glob(s.path("*.deb"))[0], s.path("root")], "unpack.log")
    found = glob.glob(s.path("root/**/text/**/initrd.gz"), recursive=True)
    if not found:
        raise Fail(f"no initrd.gz in {package}")
    here = os.path.dirname(found[0])
    argv = [s.lodge, "-M", "microvm", "-cpu", "max", "-m", "1G", "-kernel", f"{here}/linux", "-initrd",
            f"{here}/initrd.gz", "-nographic", "-no-reboot", "-append", "console=ttyS0"]
    with Console(argv, s.path("console.log"), s.args.patience) as con:
        con.wait("Select a language", 300)
        con.proc.stdin.write(b"\x01x")
        con.proc.stdin.flush()
        status = con.end(30)
        said = con.all.decode("utf-8", "replace")
    bad = complaints(said)
    if bad or status != 0:
        raise Fail(f"status {status}; {'; '.join(bad[:3])}; see {s.path('console.log')}")
    return "'Select a language'"
