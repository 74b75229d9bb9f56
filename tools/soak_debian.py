"""Checks of tools/soak with whole Debian systems: a root file system on a disk, the installer."""
import glob
import os
import re
import time
import zlib

import debian_root
from soak_base import Console, Fail, complaints

PACKAGES = "systemd-sysv,udev,python3,perl,gcc,libc6-dev,dpkg,apt,openssl,stress-ng,procps,ca-certificates"
HERE = os.path.dirname(os.path.abspath(__file__))


def make_root(s, image, packages=PACKAGES, more=()):
    hooks = ['--customize-hook=echo root:lodge | chroot "$1" chpasswd',
             '--customize-hook=echo lodge >"$1/etc/hostname"',
             '--customize-hook=echo "/dev/vda / ext4 defaults 0 1" >"$1/etc/fstab"', *more]
    s.must(debian_root.command(image + ".part", packages, "4G", hooks, s.args.mirror), "mmdebstrap.log", timeout=3600)
    os.rename(image + ".part", image)


def copy_of(s, image, script):
    """A disk to write to, with today's script in it."""
    disk = s.path("disk.img")
    s.must(["cp", "--sparse=always", image, disk], "cp.log")
    s.run(["debugfs", "-w", "-R", f"rm /root/{script}", disk], "debugfs.log")
    s.must(["debugfs", "-w", "-R", f"write {HERE}/{script} /root/{script}", disk], "debugfs.log")
    return disk


def machine(s, disk, vcpus, ram):
    return [s.lodge, "-M", "microvm", "-cpu", "max", "-smp", vcpus, "-m", ram, "-kernel", f"{s.guest}/vmlinux",
            "-initrd", f"{s.guest}/initrd.gz", "-nographic", "-no-reboot",
            "-drive", f"if=none,id=d,format=raw,file={disk}", "-device", "virtio-blk-device,drive=d",
            "-device", "virtio-rng-device", "-append", "console=ttyS0 lodge.root"]


def login(con):
    con.wait("login: ", 300)
    con.type("root")
    con.wait("[Pp]assword: ", 60)
    con.type("lodge")
    con.wait("# ", 60)


def commands(con, s):
    """Logs in and runs soak_guest.sh; what it said of each step."""
    login(con)
    con.type(f"sh /root/soak_guest.sh {s.args.stress}")
    text = con.wait("SOAK-END", 1200 + 20 * s.args.stress)
    con.wait("# ", 60)
    return re.findall(r"(?m)^SOAK (ok|FAILED) (\S+) (\d+)(.*)$", text)


def root(s):
    """A Debian root file system with systemd, on a virtio disk."""
    s.need("mmdebstrap", "mke2fs")
    s.need_build()
    s.need_guest()
    image = s.path("root.img")
    if not os.path.exists(image):
        make_root(s, image)
    disk = copy_of(s, image, "soak_guest.sh")
    argv = machine(s, disk, "2", "2G")
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


# A kernel that says this will not get far.
LOST = ("panic", "BUG:", "Oops", "rcu: INFO", "soft lockup", "blocked for more than")


def stress_image(s):
    """A root file system with a program to compile, and what the host's processor made of it. The name tells by
    which soak_compile.py."""
    program = f"{HERE}/soak_compile.py"
    with open(program, "rb") as f:
        image = s.path(f"root-{zlib.crc32(f.read()):08x}.img")
    if not os.path.exists(image):
        make_root(s, image, PACKAGES + ",make", [f'--customize-hook=copy-in "{program}" /root',
                                                '--customize-hook=chroot "$1" python3 /root/soak_compile.py /root/compile'])
    return image


def stress_lines(con, s, seconds):
    """What soak_stress.sh says, line by line, until it has ended or the kernel is lost."""
    login(con)
    con.type(f"sh /root/soak_stress.sh {seconds} {max(1, round(s.args.patience))}")
    begin = time.monotonic()
    while True:
        text = con.wait(r"SOAK[ -][^\n]*\n", 600)
        lost = [c for c in complaints(text) if any(word in c for word in LOST)]
        if lost:
            con.end(30)
            raise Fail(f"after {time.monotonic() - begin:.0f} s: {lost[0]}; see {s.path('console.log')}")
        line = text[text.rindex("SOAK"):].strip()
        if line == "SOAK-END":
            return
        yield line


def stress4(s):
    """stress-ng --verify and make -j4, at the same time, on four vcpus."""
    s.need("mmdebstrap", "mke2fs", "debugfs")
    s.need_build()
    s.need_guest()
    seconds = round((s.args.minutes or 120) * 60)
    disk = copy_of(s, stress_image(s), "soak_stress.sh")
    ran, absent, wrong, ops, rounds, objects = {}, set(), [], 0, 0, 0
    with Console(machine(s, disk, "4", "3G"), s.path("console.log"), s.args.patience) as con:
        for line in stress_lines(con, s, seconds):
            m = re.fullmatch(r"SOAK (stress|compile) (ok|absent) (\S+) (\d+) \d+", line)
            if "FAILED" in line:
                wrong.append(line.replace("SOAK ", ""))
            elif not m: # a line of the kernel's came into it
                continue
            elif m[1] == "compile":
                rounds, objects = rounds + 1, objects + int(m[4])
            elif m[2] == "absent":
                absent.add(m[3])
            else:
                ran[m[3]] = ran.get(m[3], 0) + 1
                ops += int(m[4])
        con.type("poweroff")
        status = con.end(300)
        said = con.all.decode("utf-8", "replace")
    if status != 0 or "Power down" not in said:
        wrong.append(f"power-off: status {status}")
    wrong += complaints(said)[:3]
    text = f"{seconds} s: {sum(ran.values())} runs of {len(ran)} stressors, {ops} bogo ops, {len(absent)} absent; " \
        f"{rounds} rounds of make, {objects} objects"
    if wrong or not ran or not objects:
        raise Fail(f"{len(wrong)} failures: {'; '.join(wrong)[:300]}; {text}; see {s.path('console.log')}, {disk}")
    os.unlink(disk)
    return text


def installer(s, arch, *machine):
    """Debian's installer up to its first question."""
    package, root = f"debian-installer-12-netboot-{arch}", s.path("root-" + arch)
    if not os.path.exists(root):
        s.must(["apt-get", "download", "-q", package], "download.log", cwd=s.work, timeout=600)
        s.must(["dpkg", "-x", glob.glob(s.path(package + "_*.deb"))[0], root], "unpack.log")
    found = glob.glob(f"{root}/**/text/**/initrd.gz", recursive=True)
    if not found:
        raise Fail(f"no initrd.gz in {package}")
    here = os.path.dirname(found[0])
    argv = [s.lodge, *machine, "-m", "1G", "-kernel", f"{here}/linux", "-initrd", f"{here}/initrd.gz", "-nographic",
            "-no-reboot", "-append", "console=ttyS0"]
    log = s.path(f"console-{arch}.log")
    with Console(argv, log, s.args.patience) as con:
        con.wait("Select a language", 300)
        con.proc.stdin.write(b"\x01x")
        con.proc.stdin.flush()
        status = con.end(30)
        said = con.all.decode("utf-8", "replace")
    bad = complaints(said)
    if bad or status != 0:
        raise Fail(f"{arch}: status {status}; {'; '.join(bad[:3])}; see {log}")


def netboot(s):
    """The installer of both architectures: 64 bits on microvm, 32 bits from SeaBIOS on pc."""
    s.need("apt-get", "dpkg")
    s.need_build()
    installer(s, "amd64", "-M", "microvm", "-cpu", "max")
    installer(s, "i386", "-M", "pc")
    return "'Select a language', amd64 and i386"
