#!/usr/bin/env python3
"""The monitor, by clients of its own.  usage: monitor_test.py LODGE CASE LODGE-IMG

Machines: board pc with firmware only, or a boot sector that prints scan codes or reads a CD.
Status 77: no firmware."""
import os
import pty
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

LODGE, CASE, LODGE_IMG = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3]
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
BIOS = "/usr/share/seabios/bios-256k.bin"
# cli; print 'R'; for ever: wait for a byte of the keyboard, print it in hexadecimal and a blank
SCANCODES = bytes.fromhex("fa b052 e82600" "e464 a801 74fa e460 88c4 c0e804 e80e00 88e0 240f e80700 b020 e80a00 ebe2"
                          "3c0a 7202 0407 0430 baf803 ee c3")


def sector(code=SCANCODES):
    return code + bytes(510 - len(code)) + b"\x55\xaa" + bytes((2 << 20) - 512)


def read_until(fd, wanted, limit=30):
    """Bytes up to one of the wanted ones."""
    return read_match(fd, b"|".join(map(re.escape, wanted)), limit)


def read_match(fd, wanted, limit=30):
    """Bytes up to a match of a pattern."""
    got, end = b"", time.monotonic() + limit * PATIENCE
    while not re.search(wanted, got):
        ready = select.select([fd], [], [], max(0, end - time.monotonic()))[0]
        assert ready, f"nothing more after {got[-2000:]!r}, wanted {wanted}"
        try:
            more = os.read(fd, 65536)
        except OSError:
            more = b""
        assert more, f"the end after {got[-2000:]!r}, wanted {wanted}"
        got += more
    return got


class Machine:
    """A lodge with a monitor on a socket."""

    def __init__(self, *args, name="lodge", monitor=True, code=SCANCODES):
        self.dir = tempfile.TemporaryDirectory()
        self.path = self.dir.name + "/mon"
        program = self.dir.name + "/" + name
        os.symlink(LODGE, program)
        with open(self.dir.name + "/disk", "wb") as f:
            f.write(sector(code))
        args = [a.replace("{dir}", self.dir.name) for a in args]
        if monitor:
            args += ["-monitor", f"unix:{self.path},server=on,wait=off"]
        self.proc = subprocess.Popen([program, "-display", "none", *args], stdin=subprocess.DEVNULL)
        self.prompt = b"(qemu) " if name.startswith("qemu") else b"(lodge) "
        self.sock = self.connect(self.path) if monitor else None
        if monitor:
            self.hello = read_until(self.sock.fileno(), [self.prompt]).decode()

    def connect(self, path):
        for _ in range(int(100 * PATIENCE)):
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(path)
                return s
            except OSError:
                s.close()
                assert self.proc.poll() is None, "it has ended"
                time.sleep(0.1)
        raise AssertionError("no socket " + path)

    def ask(self, command):
        self.sock.sendall(command.encode() + b"\n")
        text = read_until(self.sock.fileno(), [b"\n" + self.prompt]).decode()
        answer = text.split("\r\n", 1)[1][:-len(self.prompt)]
        return answer.replace("\r", "").removesuffix("\n")

    def wait_for(self, command, pattern, limit=30):
        end = time.monotonic() + limit * PATIENCE
        while not re.search(pattern, self.ask(command)):
            assert time.monotonic() < end, f"'{command}' never says {pattern}: {self.ask(command)}"
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()
        if self.sock:
            self.sock.close()
        self.dir.cleanup()


def reads(path, wanted, limit=60):
    """Waits for what a guest writes to its serial port."""
    end = time.monotonic() + limit * PATIENCE
    while not re.search(wanted, open(path, errors="replace").read()):
        assert time.monotonic() < end, f"no {wanted} in {open(path, errors='replace').read()!r}"
        time.sleep(0.1)


PC = ["-M", "pc", "-m", "64M"]


def want(text, *patterns):
    for p in patterns:
        assert re.search(p, text, re.M), f"no '{p}' in:\n{text}"


def paused():
    with Machine(*PC, "-S", "-smp", "2", "-name", "guest=tom", "-serial", "null",
                 "-drive", "file={dir}/disk,format=raw") as m:
        want(m.hello, r"^Lodge \d+\.\d+\.\d+ monitor - type 'help' for more information")
        assert m.ask("info status") == "VM status: paused (prelaunch)"
        assert m.ask("info name") == "tom"
        want(m.ask("info version"), r"^\d+\.\d+\.\d+")
        want(m.ask("info uuid"), "^00000000-0000-")
        want(m.ask("info block"), r"^ide0-hd0 \(#\w+\): \S+/disk \(raw\)", r"^ide1-cd0: \[not inserted\]")
        want(m.ask("info pci"), r"^  Bus  0, device   1, function 1:\n    IDE controller: PCI device 8086:7010")
        want(m.ask("info cpus"), r"^\* CPU #0", r"^  CPU #1")
        want(m.ask("info registers -a"), r"^CPU#0\n", r"^CPU#1\n", "rip=000000000000fff0")
        want(m.ask("info qtree"), "bus: ide.0", 'dev: ide-hd, id ""', 'drive = "ide0-hd0"')
        want(m.ask("info mtree -f"), r"0000000000000000-000000000009ffff \(prio 0, ram\): ram")
        want(m.ask("info chardev"), "^serial0: filename=null", "compat_monitor0: filename=unix:")
        assert m.ask("xp/2xb 0xfffffff0").startswith("00000000fffffff0: 0xea 0x5b")
        want(m.ask("xp/1i 0xffff0"), r"jmp 0xf000:0xe05b")
        want(m.ask("x/1xw 0xffff0"), r"^00000000000ffff0: 0x00e05bea$")
        assert m.ask("print $rip + 0x10") == "0x10000" and m.ask("p/d 3*(2+1)") == "9"
        want(m.ask("xp 0xfee00000"), "Cannot access memory")
        want(m.ask("help"), "^system_reset  -- ", r"^stop\|s  -- ")
        want(m.ask("balloon 64"), "No balloon device has been activated")
        want(m.ask("info balloon"), "No balloon device has been activated")
        want(m.ask("info vm-generation-id"), "VM Generation ID device not found")
        want(m.ask("watchdog_action paus"), "the nearest is 'pause'")
        assert m.ask("watchdog_action none") == ""
        assert m.ask("bogus") == "unknown command: 'bogus'"
        assert m.ask("info bogus") == "unknown command: 'info bogus'"
        want(m.ask("stop now"), "extraneous characters")
        want(m.ask("sendkey nokey"), "invalid parameter: nokey")
        want(m.ask("x" * 9000), "^unknown command: 'x")
        m.sock.sendall(b"sta\x15info stat\t\n")
        want(read_until(m.sock.fileno(), [b"VM status: paused (prelaunch)\r\n(lodge) "]).decode(), "status")
        # The next client finds a fresh monitor.
        m.sock.close()
        m.sock = m.connect(m.path)
        want(read_until(m.sock.fileno(), [m.prompt]).decode(), "monitor - type")
        m.sock.sendall(b"quit\n")
        assert m.proc.wait(20 * PATIENCE) == 0


def published():
    with Machine(*PC, "-S", "-serial", "none", name="qemu-system-x86_64") as m:
        assert m.hello.startswith("QEMU ") and m.hello.endswith("(qemu) ")
        assert m.ask("info status") == "VM status: paused (prelaunch)"


def running():
    serial = "{dir}/serial"
    with Machine(*PC, "-serial", "file:" + serial, "-drive", "file={dir}/disk,format=raw") as m:
        path = m.dir.name + "/serial"

        reads(path, "R")
        assert m.ask("info status") == "VM status: running"
        m.ask("sendkey a")
        reads(path, "1E 9E")
        m.ask("sendkey ctrl-alt-delete 20")
        reads(path, "1D 38 E0 53 E0 D3 B8 9D")
        m.ask("sendkey h"), m.ask("sendkey i")
        reads(path, "23 A3 17 97")
        m.ask("stop")
        assert m.ask("info status") == "VM status: paused"
        m.ask("sendkey b 10")
        time.sleep(0.3)
        assert "30" not in open(path).read()
        m.ask("cont")
        reads(path, "30 B0")
        want(m.ask("info irq"), "IRQ statistics for ioapic", r"IRQ statistics for isa-i8259:\n *0: \d+")
        want(m.ask("info mem"), "^PG disabled")
        want(m.ask("info tlb"), "^PG disabled")
        want(m.ask("info jit"), "^CPU #0", r"blocks +\d+")
        want(m.ask("info registers"), "cs=0000")
        want(m.ask("gdbserver unix:" + m.dir.name + "/gdb"), "Waiting for gdb connection on device 'unix:")
        m.connect(m.dir.name + "/gdb").close()
        assert m.ask("gdbserver none") == "Disabled gdbserver"
        m.ask("system_reset")
        reads(path, "R[^R]*R")


# READ(10) of block 0 of the CD over and over, by PIO: prints its first byte, or '!' for an error, at each change.
# Source: drive 0 of the secondary channel, byte count limit 2048, PACKET, the CDB, 2048 bytes to 8000h.
WATCH_CD = bytes.fromhex(
    "fa31c08ed88ec08ed0bc0070b052e86700ba7601b0a0eeba710130c0eeba7401ee42b008eeba7701b0a0eee83b00a8087427be7e7cba7001b906"
    "00adefe2fce82700a8087413bf0080ba7001b90004f36de81500a00080eb02b0213a067d7c74b0a27d7ce81100eba8ba7701b91400ece2fdeca8"
    "8075fbc3baf803eec300280000000000000001000000")


def media():
    """Machine and guest see each other's view of the tray; the drive has nothing at first."""
    with Machine(*PC, "-serial", "file:{dir}/serial", "-drive", "file={dir}/disk,format=raw", code=WATCH_CD) as m:
        path = m.dir.name + "/serial"
        for letter in "AB":
            with open(f"{m.dir.name}/{letter}.iso", "wb") as f:
                f.write(letter.encode() * 65536)
        reads(path, "R!")
        assert m.ask(f"change ide1-cd0 {m.dir.name}/A.iso raw") == ""
        want(m.ask("info block ide1-cd0"), r"A\.iso \(raw, read-only\)", "tray closed")
        reads(path, "R!A")
        want(m.ask("change ide1-cd0 /nonexistent"), "^Error: .*nonexistent")
        want(m.ask("change ide0-hd0 /nonexistent"), "^Error: Device 'ide0-hd0' is not removable")
        reads(path, "A$")
        assert m.ask("eject ide1-cd0") == ""
        want(m.ask("info block ide1-cd0"), "not inserted", "tray open")
        reads(path, "A!$")
        assert m.ask(f"change ide1-cd0 {m.dir.name}/B.iso") == ""
        reads(path, "A!B")
        for _ in range(10):  # under the guest's hands
            assert m.ask(f"change ide1-cd0 {m.dir.name}/A.iso") == ""
            assert m.ask(f"change ide1-cd0 {m.dir.name}/B.iso") == ""
        reads(path, "B$")


# Writes 1 to 800h, one after the other, to sectors 1 to 16 of the first disk by INT 13h, number n to sector
# (n mod 16) + 1, where it first looks for n - 16; then prints 'E', or '?' if that was not there, '!' for an error.
NUMBERS = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfcbf0080b90001f3abb052e84c00ff060080bb0082b80102e82900a1008083e81076083b060082b03f7513bb0080"
    "b80103e81000813e0080000872d2b045e81900f4ebfd8a0e008080e10f80c102b500ba8000cd13b02172e5c3baf803eec3")


def image(*args):
    subprocess.run([LODGE_IMG, *args], check=True, stdout=subprocess.DEVNULL)


def holds(path, sector, value):
    with open(path, "rb") as f:
        f.seek(sector * 512)
        got = f.read(512)
    assert got == value.to_bytes(2, "little") + bytes(510), f"{path}, sector {sector}: {got[:8]!r}, not {value}"


def commit():
    """An overlay of a running guest, over and over: no write may be lost."""
    with tempfile.TemporaryDirectory() as folder:
        base, top, small, middle, third = (f"{folder}/{name}" for name in ("base", "top", "small", "middle", "third"))
        with open(base, "wb") as f:
            f.write(sector(NUMBERS))
        image("create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, top)
        image("create", "-q", "-f", "qcow2", small, "1M")
        image("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", small, middle, "2M")
        image("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", middle, third)
        image("bench", "-q", "-w", "-c", "1", "-s", "4096", "-o", "1M", "--pattern", "7", "-f", "qcow2", third)
        with Machine(*PC, "-serial", "file:{dir}/serial", "-drive", f"file={top},format=qcow2",
                     "-blockdev", f"qcow2,node-name=third,file.driver=file,file.filename={third}",
                     "-drive", "file={dir}/disk,format=raw,if=none,id=plain",
                     "-device", "virtio-blk-pci,drive=third") as m:
            serial = m.dir.name + "/serial"
            reads(serial, "R")
            count, end = 0, time.monotonic() + 100 * PATIENCE
            while "E" not in open(serial).read():
                answer = m.ask("commit all")
                assert answer == "", answer
                count += 1
                time.sleep(0.005)
                assert m.ask("info status") == "VM status: running"
                said = open(serial).read()
                assert said in ("R", "RE") and time.monotonic() < end, f"after {count} commits the guest says {said}"
            assert m.ask("commit ide0-hd0") == ""
            for n in range(16):
                holds(base, n + 1, 0x800 - (16 - n) % 16)
            assert count > 1, f"only {count} commits while the guest wrote"
            want(m.ask("info block ide0-hd0"), "Backing file:     " + base)
            want(m.ask("commit plain"), "^Error: Device 'plain' has no backing file")
            want(m.ask("commit nothing"), "^Error: Device 'nothing' not found")
            want(m.ask("commit ide1-cd0"), "^Error: Device 'ide1-cd0' has no medium")
            want(m.ask("commit"), "device")
            # Another process relies on the base: the image stays as it is, and goes on.
            m.ask("stop")
            with Machine(*PC, "-S", "-serial", "none", "-drive", f"file={base},format=raw,snapshot=on") as other:
                want(m.ask("commit ide0-hd0"), "^Error: Device 'ide0-hd0': .*lock")
            answer = m.ask("commit ide0-hd0")
            assert answer == "", answer
            assert m.ask("info status") == "VM status: paused"
        with Machine(*PC, "-snapshot", "-serial", "file:{dir}/serial", "-drive", "file={dir}/disk,format=raw",
                     code=NUMBERS) as m:
            reads(m.dir.name + "/serial", "^RE$")
            holds(m.dir.name + "/disk", 1, 0)
            answer = m.ask("commit all")
            assert answer == "", answer
            holds(m.dir.name + "/disk", 1, 0x800)
        image("check", "-q", "-f", "qcow2", middle)
        image("compare", "-q", "-f", "qcow2", "-F", "qcow2", third, middle)


def screen():
    with Machine(*PC, "-S", "-vga", "std", "-serial", "none") as m:
        for form, head in (("ppm", b"P6"), ("png", b"\x89PNG")):
            answer = m.ask(f"screendump {m.dir.name}/s.{form} -f {form}")
            assert answer == "", answer
            with open(f"{m.dir.name}/s.{form}", "rb") as f:
                assert f.read(len(head)) == head
        want(m.ask("screendump /tmp/x -f jpg"), "Error: .*ppm or png")


def ports():
    """A parallel port, and the guest's report of a panic, which switches the machine off."""
    # al = 'L': out 378h; strobe; out 505h, 1
    code = bytes.fromhex("b04c ba7803 ee ba7a03 b00d ee b00c ee ba0505 b001 ee f4ebfd")
    with Machine(*PC, "-S", "-serial", "none", "-drive", "file={dir}/disk,format=raw", "-parallel", "file:{dir}/lp",
                 "-device", "pvpanic", "-device", "pvpanic-pci", code=code) as m:
        want(m.ask("info pci"), "PCI device 1b36:0011")
        m.sock.sendall(b"cont\n")
        assert m.proc.wait(60 * PATIENCE) == 0
        with open(m.dir.name + "/lp") as f:
            assert f.read().endswith("L")


def mux():
    """Ctrl-A c on a terminal, whose serial port is behind it."""
    with tempfile.TemporaryDirectory() as folder:
        disk = folder + "/disk"
        with open(disk, "wb") as f:
            f.write(sector())
        pid, fd = pty.fork()
        if not pid:
            os.execv(LODGE, [LODGE, *PC, "-nographic", "-drive", f"file={disk},format=raw"])
        try:
            read_until(fd, [b"R"], 60)
            os.write(fd, b"\x01c")
            read_until(fd, [b"monitor - type 'help' for more information\r\r\n(lodge) ",
                            b"monitor - type 'help' for more information\r\n(lodge) "])
            os.write(fd, b"info status\r")
            read_until(fd, [b"VM status: running"])
            os.write(fd, b"\x1b[A\r")
            read_until(fd, [b"VM status: running"])
            os.write(fd, b"sendkey a\r\x01c")
            read_match(fd, rb"1[^0-9A-Z]*E[^0-9A-Z]*9[^0-9A-Z]*E")  # the monitor's prompt may come in between
            os.write(fd, b"\x01c")
            read_until(fd, [b"(lodge) "])
            os.write(fd, b"\x01x")
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        finally:
            os.close(fd)


def shared():
    """Two monitors and a serial port on one socket; a ring buffer; a telnet client; pipes."""
    with Machine(*PC, "-S", "-chardev", "socket,id=m,path={dir}/m,server=on,wait=off,mux=on", "-serial", "chardev:m",
                 "-mon", "chardev=m", "-mon", "chardev=m,mode=readline",
                 "-chardev", "ringbuf,id=ring,size=16,logfile={dir}/log", "-device", "isa-debugcon,chardev=ring") as m:
        s = m.connect(m.dir.name + "/m")
        s.sendall(b"\x01cinfo name\n")
        read_until(s.fileno(), [b"(lodge) info name"])
        s.sendall(b"\x01cinfo status\n")
        read_until(s.fileno(), [b"prelaunch"])
        assert m.ask("ringbuf_read ring 10") == ""
        assert m.ask('ringbuf_write ring "0123456789 hello\\n"') == ""
        assert m.ask("ringbuf_read ring 100") == "123456789 hello\n"
        want(m.ask("ringbuf_read m 10"), "no ring buffer")
        want(m.ask("info chardev"), "^ring: filename=ringbuf")


def telnet():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Machine(*PC, "-S", "-monitor", f"telnet:127.0.0.1:{port},server=on,wait=off", "-serial", "none") as m:
        s = socket.create_connection(("127.0.0.1", port))
        assert read_until(s.fileno(), [b"(lodge) "]).startswith(b"\xff\xfb\x01\xff\xfb\x03")
        s.sendall(b"\xff\xfd\x01info \xff\xfa\x18\x00x\xff\xf0status\r\0")
        read_until(s.fileno(), [b"VM status: paused"])


CASES = {f.__name__: f for f in (paused, published, running, media, commit, screen, ports, mux, shared, telnet)}

if __name__ == "__main__":
    if not os.path.exists(BIOS):
        sys.exit(77)
    try:
        CASES[CASE]()
    except AssertionError as e:
        print(e)
        sys.exit(1)
    print("ok")
