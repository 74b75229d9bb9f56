#!/usr/bin/env python3
"""Other systems that boot from firmware on a PC: boot loaders, memory tests, UEFI's shell.

usage: systems.py LODGE GUESTDIR CASE

Screens in text mode are read from the screen's memory by the monitor, others as a VNC client sees them. Status 77:
something the case needs is not installed; the text says what."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [f"{HERE}/../display"]
import rfb

LODGE, GUEST, CASE = (*(os.path.abspath(a) for a in sys.argv[1:3]), sys.argv[3])
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
EXTRA = os.environ.get("LODGE_ACCEL", "")
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
RESCUE = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
COLUMNS, ROWS = 80, 25


def need(*paths):
    missing = [p for p in paths if not (os.path.exists(p) or shutil.which(p))]
    if missing:
        print(f"no {', '.join(missing)} here")
        sys.exit(77)


class Machine:
    def __init__(self, folder, args):
        self.mon, self.vnc, self.log = (f"{folder}/{n}" for n in ("mon", "vnc", "serial"))
        self.proc = subprocess.Popen(
            [LODGE, *(["-accel", "jit," + EXTRA] if EXTRA else []), "-display", "none", "-vnc", f"unix:{self.vnc}",
             "-serial", f"file:{self.log}", "-monitor", f"unix:{self.mon},server=on,wait=off", *args],
            stdin=subprocess.DEVNULL)
        self.wait(lambda: os.path.exists(self.mon) and os.path.exists(self.vnc), "monitor", 20)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30 * PATIENCE)
        self.sock.connect(self.mon)
        self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.proc.kill()
        self.proc.wait()

    def answer(self):
        text = b""
        while not text.endswith(b"(lodge) "):
            part = self.sock.recv(65536)
            assert part, "the monitor is gone"
            text += part
        return text.decode("utf-8", "replace")

    def monitor(self, command):
        self.sock.sendall(command.encode() + b"\n")
        return self.answer()

    def screen(self):
        """The text screen's characters."""
        said = self.monitor(f"xp /{COLUMNS * ROWS}hx 0xb8000")
        cells = [int(w, 16) & 0xFF for line in re.findall(r"(?m)^[0-9a-f]+:(.*)$", said.replace("\r", ""))
                 for w in re.findall(r"0x([0-9a-f]+)", line)]
        text = "".join(chr(c) if 32 <= c < 127 else " " for c in cells)
        return "\n".join(text[i:i + COLUMNS].rstrip() for i in range(0, len(text), COLUMNS))

    def serial(self):
        with open(self.log, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def type(self, text):
        names = {" ": "spc", "\n": "ret", "-": "minus", ".": "dot"}
        for c in text:
            self.monitor(f"sendkey {names.get(c, c)}")
            time.sleep(0.15)

    def wait(self, ready, what, seconds, say=lambda: ""):
        end = time.monotonic() + seconds * PATIENCE
        while not ready():
            assert self.proc.poll() is None, f"the process ended with {self.proc.returncode} before: {what}"
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{say()}"
            time.sleep(0.3)

    def wait_screen(self, pattern, seconds):
        self.wait(lambda: re.search(pattern, self.screen()), f"'{pattern}' on the screen", seconds, self.screen)

    def wait_serial(self, pattern, seconds):
        self.wait(lambda: re.search(pattern, self.serial()), f"'{pattern}' on the serial port", seconds,
                  lambda: self.serial()[-1500:])

    def ends(self, seconds):
        status = self.proc.wait(seconds * PATIENCE)
        assert status == 0, f"status {status}"


def uefi(folder):
    need(*OVMF)
    shutil.copy(OVMF[1], f"{folder}/vars.fd")
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF[0]}",
            "-drive", f"if=pflash,format=raw,file={folder}/vars.fd"]


def fat_disk(folder, files):
    """A FAT file system without partitions, of 64 MiB."""
    need("mformat", "mcopy")
    disk = f"{folder}/fat.img"
    with open(disk, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mformat", "-i", disk, "-F", "-v", "BOOT", "-T", "131072", "-h", "16", "-s", "63", "::"], check=True)
    for name, source in files.items():
        parts = name.split("/")
        for n in range(1, len(parts)):
            subprocess.run(["mmd", "-D", "s", "-i", disk, "::" + "/".join(parts[:n])], capture_output=True)
        subprocess.run(["mcopy", "-i", disk, source, "::" + name], check=True)
    return disk


def grub_rescue(folder):
    """Debian's GRUB rescue CD: its menu, and its command line by keys."""
    need(RESCUE)
    with Machine(folder, ["-M", "pc", "-m", "64", "-cdrom", RESCUE]) as m:
        m.wait_screen("GNU GRUB +version", 60)
        m.type("c")
        m.wait_screen("(?m)^grub>", 30)
        m.type("echo lodge-was-here\n")
        m.wait_screen(r"(?m)^ *lodge-was-here", 30)
        m.type("halt\n")
        m.ends(30)


def syslinux(folder):
    """SYSLINUX on a FAT disk loads Linux."""
    need("syslinux", f"{GUEST}/vmlinuz", f"{GUEST}/initrd.gz")
    config = f"{folder}/cfg"
    with open(config, "w") as f:
        f.write("SERIAL 0 115200\nDEFAULT linux\nLABEL linux\n KERNEL vmlinuz\n"
                " APPEND initrd=initrd.gz console=ttyS0 quiet lodge.run=cG93ZXJvZmYgLWY=\n")  # poweroff -f
    disk = fat_disk(folder, {"syslinux.cfg": config, "vmlinuz": f"{GUEST}/vmlinuz", "initrd.gz": f"{GUEST}/initrd.gz"})
    subprocess.run(["syslinux", "--install", disk], check=True, capture_output=True)
    with Machine(folder, ["-M", "pc", "-m", "256", "-drive", f"file={disk},format=raw"]) as m:
        m.wait_serial("SYSLINUX", 60)
        m.wait_serial("Power down|LODGE-BEGIN", 120)
        m.ends(60)


def uefi_shell(folder):
    """UEFI's shell, by the PS/2 keyboard: a variable of ours, then it powers off."""
    with Machine(folder, ["-M", "q35", "-m", "128", *uefi(folder)]) as m:
        m.wait_serial("Shell> ", 120)
        m.type("echo lodge-was-here\n")
        m.wait_serial("(?m)^.{0,20}lodge-was-here", 30)
        m.type("reset -s\n")
        m.ends(30)


def screens(folder):
    """Firmware draws on screens other than the standard VGA: UEFI's shell, SeaBIOS."""
    kinds = {"ramfb": ["-vga", "none", "-device", "ramfb"], "virtio-vga": ["-vga", "virtio"],
             "virtio-gpu": ["-vga", "none", "-device", "virtio-gpu-pci"]}
    for name, args in kinds.items():
        with Machine(folder, ["-M", "q35", "-m", "128", *args, *uefi(folder)]) as m:
            m.wait_serial("Shell> ", 120)
            client = rfb.Client(m.vnc)
            m.wait(lambda: client.lit() > 2000, f"the shell on {name}", 30)
            assert b"\0\xff\xff\0" in client.picture()[2], f"{name}: no prompt in yellow"
            m.type("cls\n")
            m.wait(lambda: client.lit() < 1000, f"an empty screen of {name}", 30)
            m.type("echo lodge-was-here-and-saw-it\n")
            m.wait(lambda: client.lit() > 1500, f"a line on {name}", 30)
            m.type("reset -s\n")
            m.ends(30)
    for name in "ramfb", "virtio-vga":
        os.mkdir(f"{folder}/{name}")
        with Machine(f"{folder}/{name}", ["-M", "pc", "-m", "64", *kinds[name]]) as m:
            client = rfb.Client(m.vnc)
            m.wait(lambda: client.lit() > 5000, f"SeaBIOS on {name}", 60)


TO_THE_END = r"Pass: +[1-9]"
MOST = r"Test #10|" + TO_THE_END


def memtest(folder, until=MOST):
    """Memtest86+ for BIOS, all tests but the last, which waits; no error."""
    need("/boot/memtest86+x64.bin")
    with Machine(folder, ["-M", "pc", "-m", "24", "-kernel", "/boot/memtest86+x64.bin"]) as m:
        m.wait_screen(until, 400)
        assert re.search(r"(?m)Errors: 0$", m.screen()), m.screen()


def memtest_efi(folder, until=MOST):
    """The same for UEFI, started by the shell; its text by the serial port, its picture by VNC."""
    need("/boot/memtest86+x64.efi")
    script = f"{folder}/startup"
    with open(script, "w") as f:
        f.write("fs0:\\memtest.efi console=ttyS0,115200\r\n")
    disk = fat_disk(folder, {"memtest.efi": "/boot/memtest86+x64.efi", "startup.nsh": script})
    with Machine(folder, ["-M", "q35", "-m", "64", "-drive", f"file={disk},format=raw,if=virtio", *uefi(folder)]) as m:
        client = rfb.Client(m.vnc)
        seen = set()

        def drawn():
            width, height, pixels = client.picture()
            blue = sum(pixels[i:i + 3] == b"\xaa\0\0" for i in range(0, len(pixels), 404))
            if blue > len(pixels) // 404 // 3:
                seen.add(hash(pixels))
            return len(seen) >= 3
        m.wait(drawn, "a blue screen that changes", 180)
        m.wait_serial(until, 500)
        errors = re.findall(r"Errors: *(\d+)", m.serial())
        assert errors and set(errors) == {"0"}, errors


def memtest_pass(folder):
    memtest(folder, TO_THE_END)


def memtest_efi_pass(folder):
    memtest_efi(folder, TO_THE_END)


CASES = {"grub-rescue": grub_rescue, "syslinux": syslinux, "uefi-shell": uefi_shell, "screens": screens, "memtest": memtest,
         "memtest-efi": memtest_efi,
         "memtest-pass": memtest_pass, "memtest-efi-pass": memtest_efi_pass}  # some three minutes longer: by hand


def main():
    with tempfile.TemporaryDirectory() as folder:
        try:
            CASES[CASE](folder)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            print(e)
            sys.exit(1)
    print("ok")


main()
