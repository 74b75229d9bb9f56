#!/usr/bin/env python3
"""Devices of pc and q35 under Linux's drivers.  usage: devices.py LODGE GUESTDIR CASE

CASE is one of CASES. The machine is told what to do by a script on the kernel's command line and, while it runs,
by the monitor. Status 77: no guest files, or the guest's kernel has no driver for the case."""
import base64
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

LODGE, GUEST, CASE = (*(os.path.abspath(a) for a in sys.argv[1:3]), sys.argv[3])
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
EXTRA = os.environ.get("LODGE_ACCEL", "")
SKIP = "echo NO-DRIVER; exit 9"


class Machine:
    """A guest that runs `script`, with a monitor."""

    def __init__(self, script, *args, board="q35", megs=256):
        self.dir = tempfile.TemporaryDirectory()
        self.out = b""
        code = base64.b64encode(script.encode()).decode()
        args = [a.replace("{dir}", self.dir.name) for a in args]
        for f in ("vmlinuz", "initrd.gz"):
            if not os.path.exists(f"{GUEST}/{f}"):
                sys.exit(77)
        self.proc = subprocess.Popen(
            [LODGE, *(["-accel", "jit," + EXTRA] if EXTRA else []), "-M", board, "-m", str(megs), "-display", "none", "-nodefaults",
             "-serial", "stdio", "-monitor", f"unix:{self.dir.name}/mon,server=on,wait=off", "-kernel", f"{GUEST}/vmlinuz",
             "-initrd", f"{GUEST}/initrd.gz", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-append",
             f"console=ttyS0 quiet iomem=relaxed lodge.run={code}", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.mon = self.connect("mon")
        self.command("")

    def connect(self, name):
        end = time.monotonic() + 10 * PATIENCE
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(f"{self.dir.name}/{name}")
                return s
            except OSError:
                s.close()
                assert time.monotonic() < end and self.proc.poll() is None, self.fail("no socket")
                time.sleep(0.05)

    def fail(self, what):
        self.proc.kill()
        return f"{what}\n{self.out.decode('utf-8', 'replace')[-3000:]}\n{self.proc.stderr.read().decode()[-2000:]}"

    def command(self, text):
        """What the monitor answers."""
        if text:
            self.mon.sendall(text.encode() + b"\n")
        got, end = b"", time.monotonic() + 30 * PATIENCE
        while not got.endswith(b"(lodge) "):
            ready = select.select([self.mon], [], [], max(0, end - time.monotonic()))[0]
            more = self.mon.recv(65536) if ready else b""
            assert more, self.fail(f"the monitor says {got!r} and no more")
            got += more
        said = re.sub(rb"\x1b\[[KD]", b"", got).decode().replace("\r", "")
        return "\n".join(said.splitlines()[1:-1])

    def wait(self, pattern, limit=90):
        """Until the guest's console matches; the match."""
        end = time.monotonic() + limit * PATIENCE
        while True:
            m = re.search(pattern, self.text())
            if m:
                return m
            ready = select.select([self.proc.stdout], [], [], max(0, end - time.monotonic()))[0]
            more = os.read(self.proc.stdout.fileno(), 65536) if ready else b""
            assert more, self.fail(f"no '{pattern}'")
            self.out += more
            if b"NO-DRIVER" in self.out:
                self.proc.kill()
                print("the guest's kernel has no driver")
                sys.exit(77)

    def text(self):
        return self.out.decode("utf-8", "replace").replace("\r", "")

    def ends(self, status=None):
        """The guest's own status, or that of the process."""
        out, err = self.proc.communicate(timeout=90 * PATIENCE)
        self.out += out
        if b"NO-DRIVER" in self.out:
            print("the guest's kernel has no driver")
            sys.exit(77)
        want = 1 if status is None else status
        assert self.proc.returncode == want, f"status {self.proc.returncode}\n{self.text()[-3000:]}\n{err.decode()[-2000:]}"
        return self.text()

    def rss(self):
        """Mebibytes of host memory that the process uses."""
        with open(f"/proc/{self.proc.pid}/statm") as f:
            return int(f.read().split()[1]) * 4 // 1024


def packed():
    """Packed queues, split ones, and what a disk, a console and random numbers do with them."""
    script = ("[ -e /dev/vda ] || { %s; }; for d in /sys/bus/virtio/devices/*; do echo RING $(cut -c 35 $d/features); done; "
              "dd if=/dev/hwrng bs=64 count=100 2>/dev/null | wc -c; dd if=/dev/vda bs=1M 2>/dev/null | md5sum; "
              "dd if=/dev/vda bs=512 count=500 iflag=direct 2>/dev/null | dd of=/dev/vda bs=512 seek=16000 2>/dev/null; sync; "
              "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 skip=16000 count=500 2>/dev/null | md5sum; "
              "echo to-the-console > /dev/hvc0; sleep 1; exit 0") % SKIP
    for board, on in (("q35", "on"), ("pc", "on"), ("pc", "off")):
        with tempfile.TemporaryDirectory() as folder:
            data = os.urandom(16 << 20)
            with open(f"{folder}/disk", "wb") as f:
                f.write(data)
            m = Machine(script, "-drive", f"file={folder}/disk,format=raw,if=none,id=d", "-device",
                        f"virtio-blk-pci,drive=d,packed={on}", "-device", f"virtio-rng-pci,packed={on}", "-device",
                        f"virtio-serial,packed={on}", "-chardev", f"file,id=c,path={folder}/console", "-device",
                        "virtconsole,chardev=c", "-smp", "2", board=board)
            out = m.ends()
            assert re.findall(r"RING (\d)", out) == [str(int(on == "on"))] * 3, out
            assert "\n6400\n" in out, out
            sums = [subprocess.run("md5sum", input=d, capture_output=True).stdout.decode().split()[0]
                    for d in (data, data[:256000])]
            assert re.findall(r"([0-9a-f]{32})  -", out) == sums, out
            with open(f"{folder}/console") as f:
                assert "to-the-console" in f.read()
            with open(f"{folder}/disk", "rb") as f:
                assert f.read() == data[:16000 * 512] + data[:256000] + data[16000 * 512 + 256000:]


def ports():
    """Two named ports and a console, each with its own other end; what is opened and closed."""
    script = ("sleep 1; p=$(ls /sys/class/virtio-ports 2>/dev/null); [ \"$p\" ] || { %s; }; "
              "for i in $p; do echo NAME $i $(cat /sys/class/virtio-ports/$i/name 2>/dev/null); done; "
              "a=/dev/$(grep -l org.test.one /sys/class/virtio-ports/*/name | cut -d/ -f5); "
              "b=/dev/$(grep -l org.test.two /sys/class/virtio-ports/*/name | cut -d/ -f5); "
              "echo READY; head -c 300000 $a | md5sum; seq 1 20000 > $b; while [ -z \"$x\" ]; do read x < $a; echo CLOSED; sleep 0.2; done; echo GOT $x; "
              "echo CONSOLE > /dev/hvc0; sleep 1; exit 0") % SKIP
    m = Machine(script, "-chardev", "socket,id=a,path={dir}/a,server=on,wait=off", "-chardev",
                "socket,id=b,path={dir}/b,server=on,wait=off", "-chardev", "file,id=c,path={dir}/c", "-device",
                "virtio-serial-pci,id=vs,max_ports=8", "-device", "virtconsole,chardev=c,bus=vs.0", "-device",
                "virtserialport,chardev=a,name=org.test.one,bus=vs.0", "-device",
                "virtserialport,chardev=b,name=org.test.two,nr=7", board="pc")
    a, b = m.connect("a"), m.connect("b")
    m.wait("READY\n")
    data = os.urandom(300000)
    a.sendall(data)
    want = "".join(f"{i}\n" for i in range(1, 20001)).encode()
    got = b""
    b.settimeout(60 * PATIENCE)
    while len(got) < len(want):
        more = b.recv(65536)
        assert more, m.fail("the port closed")
        got += more
    assert got == want
    a.close()
    a = m.connect("a")
    a.sendall(b"again\n")
    out = m.ends()
    names = sorted(re.findall(r"NAME vport\d+p(\d+)(.*)", out))
    assert names == [("0", ""), ("1", " org.test.one"), ("7", " org.test.two")], names
    assert subprocess.run("md5sum", input=data, capture_output=True).stdout.decode().split()[0] in out, out
    assert "GOT again" in out, out
    with open(f"{m.dir.name}/c") as f:
        assert "CONSOLE" in f.read()
    for bad, says in (("virtserialport,nr=0", "nr=0 is for a virtconsole"), ("virtconsole,nr=8", "ports 0 to 7")):
        p = subprocess.run([LODGE, "-M", "pc", "-device", "virtio-serial,max_ports=8", "-device", bad], capture_output=True, text=True,
                           timeout=20)
        assert p.returncode == 1 and says in p.stderr, p.stderr


def balloon():
    """Memory goes to the host and comes back; statistics; free pages."""
    script = ("grep -q 0x0005 /sys/bus/virtio/devices/*/device && [ -e /sys/bus/virtio/drivers/virtio_balloon ] || { %s; }; "
              "head -c 150000000 /dev/urandom > /tmp/file; rm /tmp/file; echo FILLED; "
              "while true; do sleep 1; echo MEM $(grep MemTotal /proc/meminfo | tr -dc 0-9); done") % SKIP
    m = Machine(script, "-device", "virtio-balloon,free-page-reporting=on,guest-stats-polling-interval=1")
    assert m.command("info balloon").startswith("balloon: actual=256"), m.command("info balloon")
    m.wait("FILLED")
    before = m.rss()
    for _ in range(int(40 * PATIENCE)):
        if m.rss() < before - 100 or before < 200:
            break
        time.sleep(0.5)
    free = m.rss()
    m.command("balloon 128")
    end = time.monotonic() + 30 * PATIENCE
    while not m.command("info balloon").startswith("balloon: actual=128"):
        assert time.monotonic() < end, m.fail(m.command("info balloon"))
        time.sleep(0.5)
    m.wait(r"MEM \d{5}\n")
    time.sleep(2)
    says = m.command("info balloon")
    assert "stat-total-memory=" in says and "stat-free-memory=" in says, says
    small = m.rss()
    m.command("balloon 1000")
    end = time.monotonic() + 30 * PATIENCE
    while not m.command("info balloon").startswith("balloon: actual=256"):
        assert time.monotonic() < end, m.fail(m.command("info balloon"))
        time.sleep(0.5)
    print(f"host memory: {before} MiB filled, {free} freed, {small} with the balloon")
    assert free < before - 50 and small <= free, "nothing was given back"
    m.command("system_reset")
    m.wait("(?s)FILLED.*FILLED")
    m.mon.sendall(b"quit\n")
    m.ends(0)


GUID = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"


def vmgenid():
    """The guest finds the device, and the ID where ADDR says; Linux's driver takes it."""
    script = ("d=/sys/bus/acpi/devices/QEMUVGID:00; cat $d/path $d/hid; ls -d $d/physical_node*/driver 2>/dev/null; readlink $d/driver; "
              "grep -a -o VM_Gen_Counter /sys/firmware/acpi/tables/DSDT | head -1; dmesg | grep -iE 'ACPI.*(error|warn)|vmgenid'; exit 0")
    for board in "pc", "q35":
        m = Machine(script, "-device", f"vmgenid,guid={GUID}", board=board)
        m.wait("LODGE-BEGIN")
        assert m.command("info vm-generation-id") == GUID
        out = m.ends()
        assert "\\_SB_.VGEN" in out and "VM_Gen_Counter" in out, out
        assert not re.search(r"ACPI.*(error|warn)", out, re.I), out
        print(re.search(r"(?s)LODGE-BEGIN(.*)LODGE-END", out)[1])


def edu():
    """Registers, DMA, and DMA that is aimed at the device itself, by hand."""
    script = ("d=$(grep -l 0x11e8 /sys/bus/pci/devices/*/device); d=${d%/device}; [ -e $d ] || exit 3; echo 1 > $d/enable; "
              "a=$(head -1 $d/resource | cut -d' ' -f1); echo ID $(devmem $a 32); devmem $((a+4)) 32 0x12345678; "
              "echo INV $(devmem $((a+4)) 32); devmem $((a+8)) 32 10; echo FACT $(devmem $((a+8)) 32); exit 0")
    for board in "pc", "q35":
        out = Machine(script, "-device", "edu", board=board).ends()
        assert "ID 0x010000ED" in out and "INV 0xEDCBA987" in out and "FACT 0x00375F00" in out, out


CASES = {"packed": packed, "ports": ports, "balloon": balloon, "vmgenid": vmgenid, "edu": edu}

try:
    CASES[CASE]()
except AssertionError as e:
    print(e)
    sys.exit(1)
print("ok")
