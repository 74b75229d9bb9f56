#!/usr/bin/env python3
"""One whole-machine test.  usage: boot.py LODGE GUESTDIR CASE

CASE is one of CASES, or boot-KERNEL-VCPUS (boot-vmlinuz-4).  The environment may have LODGE_ACCEL,
options of the accelerator to add to every run (inject=tlb), and LODGE_PATIENCE, a factor for time limits.

Exit status 0 passed, 1 failed, 77 skipped (no guest files: tools/guest.py makes them)."""
import base64
import os
import re
import select
import subprocess
import sys
import tempfile
import time

LODGE, GUEST, CASE = (*(os.path.abspath(a) for a in sys.argv[1:3]), sys.argv[3])
EXTRA = os.environ.get("LODGE_ACCEL", "")
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))


def accel(options=""):
    """-accel with the options a case wants and those of the environment."""
    every = ",".join(o for o in ("jit", options, EXTRA) if o)
    return ["-accel", every] if every != "jit" else []


def tell_injections(text):
    """Counts of the fault injector go to our own output, where tools/soak adds them up."""
    for line in re.findall(r"(?m)^.*injected on vcpu.*$", text):
        print(line)


def lodge(args, timeout=120, stdin=b""):
    """Status and output; a hang is status 'timeout'. The machine is microvm if no other is named."""
    machine = [] if "-M" in args else ["-M", "microvm"]
    try:
        r = subprocess.run([LODGE] + accel() + machine + args, input=stdin, capture_output=True, timeout=timeout * PATIENCE)
        tell_injections(r.stderr.decode("utf-8", "replace"))
        return r.returncode, (r.stdout + r.stderr).decode("utf-8", "replace")
    except subprocess.TimeoutExpired as e:
        return "timeout", ((e.stdout or b"") + (e.stderr or b"")).decode("utf-8", "replace")


def linux(command, kernel="vmlinux", more=(), timeout=120, append=""):
    """Boots the kernel, runs a command in it; the command's status and what it printed."""
    code = base64.b64encode(command.encode()).decode()
    status, out = lodge(["-M", "microvm", "-m", "512M", "-kernel", f"{GUEST}/{kernel}",
                         "-initrd", f"{GUEST}/initrd.gz", "-nographic", "-no-reboot",
                         "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
                         "-append", f"console=ttyS0 {append} lodge.run={code}"] + list(more), timeout)
    assert status != "timeout", "hangs:\n" + out[-3000:]
    assert "LODGE-BEGIN" in out, f"status {status}, no command run:\n" + out[-3000:]
    # The kernel's own lines come in between, anywhere.
    said = re.sub(r"\[ *\d+\.\d{6}\] .*\n", "", out.replace("\r", ""))
    parts = said.split("LODGE-BEGIN\n", 1)
    assert len(parts) == 2, f"status {status}, the first line is broken:\n" + out[-3000:]
    body = parts[1].split("LODGE-END", 1)[0]
    assert status & 1, f"status {status}\n" + out[-3000:]
    return status >> 1, body, out


def clean(out):
    """What a healthy kernel does not say."""
    for bad in ("Call Trace", "BUG:", "WARNING:", "Oops", "unstable", "rcu_sched detected", "soft lockup",
                "MCE", "Unable to calibrate"):
        assert bad not in out, f"kernel says '{bad}':\n" + out[-6000:]


def boots(**kw):
    status, body, out = linux("uname -m; exit 7", **kw)
    assert (status, body) == (7, "x86_64\n"), (status, body)
    clean(out)


def poweroff():
    status, out = lodge(["-m", "512M", "-kernel", f"{GUEST}/vmlinuz", "-initrd", f"{GUEST}/initrd.gz",
                         "-nographic", "-append", "console=ttyS0 lodge.run=" +
                         base64.b64encode(b"poweroff -f; sleep 100").decode()])
    assert status == 0 and "Power down" in out, (status, out[-2000:])


def smp(n, kernel="vmlinux"):
    status, body, out = linux(f"grep -c ^processor /proc/cpuinfo; for i in 1 2 3 4 5 6 7 8; do "
                              "(j=0; while [ $j -lt 2000 ]; do j=$((j+1)); done; echo done) & done; wait",
                              kernel=kernel, more=["-smp", str(n), "-cpu", "max"])
    assert status == 0 and body == f"{n}\n" + "done\n" * 8, (status, body)
    clean(out)


def shell_work():
    """Processes, pipes, files, floating point of awk, checksums known beforehand."""
    status, body, out = linux(
        "seq 1 2000 | awk '{s += $1 * 1.5} END {print s}'; seq 1 5000 | sha256sum | cut -c1-16; "
        "seq 1 5000 | gzip | gunzip | md5sum | cut -c1-16; "
        "i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done; echo $i", more=["-cpu", "max"])
    assert status == 0, (status, body)
    want = ["3001500"]
    for tool in ("sha256sum", "md5sum"):
        want.append(subprocess.run(f"seq 1 5000 | {tool} | cut -c1-16", shell=True, capture_output=True,
                                   text=True).stdout.strip())
    assert body.split() == want + ["50"], body
    clean(out)


def idle():
    """An idle guest uses next to no host CPU."""
    serial = tempfile.NamedTemporaryFile()
    p = subprocess.Popen([LODGE] + accel() + ["-M", "microvm", "-m", "256M", "-kernel", f"{GUEST}/vmlinux",
                          "-initrd", f"{GUEST}/initrd.gz", "-append", "console=ttyS0", "-display", "none", "-serial", f"file:{serial.name}"],
                         stdin=subprocess.DEVNULL)

    def cpu():
        f = open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def said():
        return open(serial.name, "rb").read().decode("utf-8", "replace")
    try:
        for _ in range(int(120 * PATIENCE)):
            time.sleep(0.5)
            if "This is Debian" in said():
                break
        time.sleep(3)
        before = cpu()
        time.sleep(5)
        used = cpu() - before
        assert "This is Debian" in said() and used < 0.25, f"{used} s of 5 s\n" + said()[-3000:]
    finally:
        p.terminate()
        assert p.wait(10 * PATIENCE) == 0


def typing():
    """Lines longer than the UART's FIFO arrive whole; Ctrl-A x quits with status 0."""
    p = subprocess.Popen([LODGE] + accel() + ["-M", "microvm", "-m", "256M", "-kernel", f"{GUEST}/vmlinux",
                          "-initrd", f"{GUEST}/initrd.gz", "-append", "console=ttyS0 quiet", "-nographic"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    said = b""

    def wait(word):
        nonlocal said
        end = time.time() + 60 * PATIENCE
        while word not in said and time.time() < end:
            if select.select([p.stdout], [], [], 0.2)[0]:
                said += os.read(p.stdout.fileno(), 65536)
        assert word in said, said[-1000:]
        said = said[said.index(word) + len(word):]
    try:
        wait(b"/ # ")
        for n in (1, 40, 300):
            p.stdin.write(b"echo " + b"x" * n + b"$((40+2))\n")
            p.stdin.flush()
            wait(b"x" * n + b"42")
        p.stdin.write(b"\x01x")
        p.stdin.flush()
        assert p.wait(10 * PATIENCE) == 0
    finally:
        p.kill()


def virtio():
    """A disk read and written, random numbers, and what was written is in the file."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"from the host\n")
        f.truncate(1 << 20)
        f.flush()
        status, body, out = linux(
            "head -c 14 /dev/vda; echo from the guest | dd of=/dev/vda bs=512 seek=1 conv=notrunc,sync 2>/dev/null; "
            "sync; blockdev --getsize64 /dev/vda; cat /sys/class/misc/hw_random/rng_current; "
            "head -c 64 /dev/hwrng | wc -c",
            more=["-drive", f"if=none,id=d,format=raw,file={f.name}", "-device", "virtio-blk-device,drive=d",
                  "-device", "virtio-rng-device"])
        assert body.splitlines() == ["from the host", "1048576", "virtio_rng.0", "64"], body
        clean(out)
        f.seek(512)
        assert f.read(14) == b"from the guest"


def refuses(data, word):
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        status, out = lodge(["-kernel", f.name, "-nographic"], timeout=20)
        assert status == 1 and f.name in out and word in out, (status, out)


def bad_kernels():
    elf = open(f"{GUEST}/vmlinux", "rb").read(1 << 20)
    bz = open(f"{GUEST}/vmlinuz", "rb").read()
    arm = bytearray(elf)
    arm[18] = 183
    for data in (b"", elf[:40], elf[:5000], bz[:600], bz[:20000], bytes(arm), os.urandom(100000)):
        refuses(data, "kernel")
    status, out = lodge(["-kernel", "/nonexistent/kernel", "-nographic"], timeout=20)
    assert status == 1 and "/nonexistent/kernel" in out, out


def bad_options():
    for args, words in ((["-kernle", "x"], ["-kernle", "-kernel"]), (["-cpu", "qemu46"], ["qemu46", "qemu64"]),
                        (["-M", "microvn"], ["microvn", "microvm"]), (["-cpu", "max,+avx9"], ["avx9", "avx"]),
                        (["-m", "1000000T"], ["memory"]), (["-smp", "99"], ["-smp"])):
        status, out = lodge(args, timeout=20)
        assert status == 1 and all(w in out for w in words) and out.count("\n") <= 2, (args, status, out)


def name_of_program():
    with tempfile.TemporaryDirectory() as d:
        os.symlink(os.path.abspath(LODGE), f"{d}/qemu-system-x86_64")
        r = subprocess.run([f"{d}/qemu-system-x86_64", "-version"], capture_output=True, text=True)
        assert r.returncode == 0 and "version" in r.stdout, r


CASES = {
    "pvh": lambda: boots(), "bzimage": lambda: boots(kernel="vmlinuz"), "poweroff": poweroff,
    "cpu-max": lambda: boots(more=["-cpu", "max"]), "cpu-v3": lambda: boots(more=["-cpu", "x86-64-v3"]),
    "interpreter": lambda: boots(more=accel("tier=0"), timeout=400),
    "smp2": lambda: smp(2), "smp4": lambda: smp(4), "shell-work": shell_work, "idle": idle, "typing": typing, "virtio": virtio,
    "bad-kernels": bad_kernels, "bad-options": bad_options, "name": name_of_program,
}


def main():
    if not os.path.exists(f"{GUEST}/initrd.gz") and CASE not in ("bad-options", "name"):
        sys.exit(77)
    try:
        if CASE.startswith("boot-"):
            smp(int(CASE.split("-")[2]), kernel=CASE.split("-")[1])
        else:
            CASES[CASE]()
    except AssertionError as e:
        print(e)
        sys.exit(1)


if __name__ == "__main__":
    main()
