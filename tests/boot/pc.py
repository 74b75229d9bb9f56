#!/usr/bin/env python3
"""Boards pc and q35 from firmware: one GRUB image as CD and as disk of each kind.

usage: pc.py LODGE GUESTDIR CASE LODGE-IMG LODGE-IO LODGE-NBD

CASE is BOARD-FIRMWARE-DEVICE ("q35-uefi-ahci"), or one of the other cases below. The image is made by
grub-mkrescue: a CD, a disk with an MBR, and a UEFI system partition in one. Each boot's kernel must find
its disk, say nothing in anger, and power off by ACPI. Status 77: no guest files or no GRUB."""
import base64
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

from boot import GUEST, LODGE, PATIENCE, accel

SCRIPT = "echo BEGIN; cat /proc/cmdline /proc/interrupts /proc/iomem /proc/ioports; dmesg; echo END; poweroff -f"
CONFIG = """serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
menuentry "Linux" {
  linux /boot/vmlinuz console=ttyS0 quiet lodge.run=%s
  initrd /boot/initrd.gz
}
"""
DEVICES = {
    "cd": ["-cdrom", "{iso}"],
    "ide": ["-drive", "file={iso},format=raw,if=ide,snapshot=on"],
    "ahci": ["-drive", "file={iso},format=raw,if=none,id=d,snapshot=on", "-device", "ide-hd,drive=d,bus=ide.0"],
    "virtio": ["-drive", "file={iso},format=raw,if=virtio,snapshot=on"],
    "legacy": ["-drive", "file={iso},format=raw,if=none,id=d,snapshot=on", "-device",
               "virtio-blk-pci,drive=d,disable-modern=on,disable-legacy=off"],
    "scsi": ["-drive", "file={iso},format=raw,if=none,id=d,snapshot=on", "-device", "virtio-scsi-pci",
             "-device", "scsi-hd,drive=d,bootindex=1"],
    "nvme": ["-drive", "file={iso},format=raw,if=none,id=d,snapshot=on", "-device",
             "nvme,drive=d,serial=test,bootindex=1"],
    "rootport": ["-drive", "file={iso},format=raw,if=none,id=d,snapshot=on", "-device",
                 "pcie-root-port,id=rp1,chassis=1,slot=1", "-device", "virtio-blk-pci,bus=rp1,drive=d,bootindex=1"],
    "bridge": ["-drive", "file={iso},format=raw,if=none,id=d,snapshot=on", "-device", "pci-bridge,id=pb,chassis_nr=1",
               "-device", "virtio-blk-pci,bus=pb,drive=d,bootindex=1"],
}
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
# What a guest's kernel may complain of that is not ours.
QUIET = re.compile(r"report a bug|invalidation|tsc: |RETBleed|Spectre|TAA|MMIO Stale|Speculative|ioapic_retrigger|firmware bug: TSC_DEADLINE")


def make_iso(folder):
    for f in ("vmlinuz", "initrd.gz"):
        if not os.path.exists(f"{GUEST}/{f}"):
            sys.exit(77)
    if not (shutil.which("grub-mkrescue") and shutil.which("xorriso") and shutil.which("mformat")):
        print("no grub-mkrescue, xorriso or mtools here")
        sys.exit(77)
    grub = f"{folder}/tree/boot/grub"
    os.makedirs(grub)
    for f in ("vmlinuz", "initrd.gz"):
        shutil.copy(f"{GUEST}/{f}", f"{folder}/tree/boot/{f}")
    with open(f"{grub}/grub.cfg", "w") as f:
        f.write(CONFIG % base64.b64encode(SCRIPT.encode()).decode())
    iso = f"{folder}/grub.iso"
    p = subprocess.run(["grub-mkrescue", "-o", iso, f"{folder}/tree"], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    return iso


def run(args, seconds=60, status=0):
    p = subprocess.run([LODGE, *accel(), "-display", "none", "-m", "256", *args], stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=seconds * PATIENCE)
    out = p.stdout.decode("utf-8", "replace").replace("\r", "")
    assert p.returncode == status, f"status {p.returncode}: {p.stderr.decode()[-500:]}{out[-1500:]}"
    return out


def linux_ran(out):
    m = re.search(r"BEGIN\n(.*)\nEND", out, re.S)
    assert m, "the guest did not come to its end:\n" + out[-1500:]
    body = m[1]
    bad = [l for l in body.splitlines() if re.search(r"error|warn|fail|bug|unable|invalid", l, re.I)
           and not re.search(r"ACPI: Early table|early console|fail to add MMCONFIG|RAS: Corr|efifb|error handling", l, re.I)
           and not QUIET.search(l)]
    assert not bad, "the kernel complains:\n" + "\n".join(bad[:10])
    return body


def boots(folder, board, firmware, device):
    iso = make_iso(folder)
    args = ["-M", board, "-smp", "2", "-serial", "stdio", *[a.format(iso=iso) for a in DEVICES[device]]]
    if firmware == "uefi":
        if not all(map(os.path.exists, OVMF)):
            print("no OVMF here")
            sys.exit(77)
        variables = f"{folder}/vars.fd"
        shutil.copy(OVMF[1], variables)
        args += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF[0]}", "-drive",
                 f"if=pflash,format=raw,file={variables}"]
    body = linux_ran(run(args, 120))
    assert ("efi" in body.lower()) == (firmware == "uefi") or firmware == "bios", "firmware"
    if firmware == "uefi":
        with open(variables, "rb") as a, open(OVMF[1], "rb") as b:
            assert a.read() != b.read(), "no variable was kept"


def no_firmware(folder):
    """A firmware that is not installed gets a sentence that names its package."""
    p = subprocess.run([LODGE, "-M", "pc", "-bios", "bios-none.bin"], capture_output=True, text=True, timeout=20)
    assert p.returncode == 1 and "package 'seabios'" in p.stderr, p.stderr


def boot_order(folder):
    """once= counts for the first start only; without any disk firmware says so."""
    log = f"{folder}/log"
    sector = f"{folder}/sector"
    # mov al,4; out 0xf4,al: the process ends with status 9
    with open(sector, "wb") as f:
        f.write(bytes.fromhex("b004e6f4f4ebfd").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    run(["-M", "pc", "-nodefaults", "-boot", "order=c", "-hda", sector, "-device", "isa-debug-exit,iobase=0xf4",
         "-chardev", f"file,id=d,path={log}", "-device", "isa-debugcon,iobase=0x402,chardev=d"], 30, status=9)
    with open(log) as f:
        assert "Booting from Hard Disk" in f.read()


def boot_index(folder):
    """Firmware's names for one device of each kind, in the order of bootindex; two with the same one are refused."""
    log, image = f"{folder}/log", f"{folder}/image"
    with open(image, "wb") as f:
        f.write(bytes.fromhex("b004e6f4f4ebfd").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    args = ["-M", "q35", "-nodefaults", "-boot", "strict=on", "-device", "isa-debug-exit,iobase=0xf4",
            "-chardev", f"file,id=d,path={log}", "-device", "isa-debugcon,iobase=0x402,chardev=d"]
    devices = ["nvme,addr=4,serial=x,bootindex=3", "scsi-hd,scsi-id=3,lun=0,bootindex=0", "virtio-blk-pci,addr=6,bootindex=2",
               "ide-hd,bus=ide.1,bootindex=4", "virtio-blk-pci,bus=rp1,bootindex=1"]
    args += ["-device", "pcie-root-port,id=rp1,addr=3,chassis=1,slot=1", "-device", "virtio-scsi-pci,addr=5"]
    for i, device in enumerate(devices):
        args += ["-drive", f"file={image},format=raw,if=none,id=i{i},snapshot=on", "-device", f"{device},drive=i{i}"]
    run(args, 30, status=9)
    with open(log, errors="replace") as f:
        names = re.findall(r"^\d+: (\S*)", f.read(), re.M)
    assert names == ["/pci@i0cf8/scsi@5/channel@0/disk@3,0", "/pci@i0cf8/pci-bridge@3/scsi@0/disk@0,0",
                     "/pci@i0cf8/scsi@6/disk@0,0", "/pci@i0cf8/pci1b36,0010@4/namespace@1,0",
                     "/pci@i0cf8/pci8086,2922@1f,2/drive@1/disk@0", "HALT"], names
    p = subprocess.run([LODGE, *args, "-drive", f"file={image},format=raw,if=none,id=again,snapshot=on", "-device",
                        "virtio-blk-pci,drive=again,bootindex=2"], capture_output=True, text=True, timeout=20)
    assert p.returncode == 1 and "bootindex=2 is given twice" in p.stderr, p.stderr


def reset_ports(folder):
    """Each port that resets a PC ends the process under -no-reboot."""
    sector = f"{folder}/sector"
    for port, value in ((0x64, 0xFE), (0x92, 1), (0xCF9, 6)):
        code = bytes([0xBA, port & 0xFF, port >> 8, 0xB0, value, 0xEE, 0xEB, 0xFE])  # out dx,al; then it would wait
        with open(sector, "wb") as f:
            f.write(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
        for board in "pc", "q35":
            run(["-M", board, "-nodefaults", "-no-reboot", "-drive", f"file={sector},format=raw,if=virtio"], 30)


# Reads the last sector of the floppy disk in drive A by int 13h, writes it back with its first byte inverted, and ends
# the process with the byte that was there: xor ax,ax; mov ds,ax; mov es,ax; mov ax,0201h; mov bx,7e00h; mov cx,CX;
# mov dx,DX; int 13h; jc fail; mov bl,[7e00h]; not byte [7e00h]; push bx; mov ax,0301h; mov bx,7e00h; int 13h; pop ax;
# jc fail; out 0f4h,al; fail: mov al,1; out 0f4h,al
FLOPPY_SECTOR = ("31c08ed88ec0b80102bb007eb9{cx}ba{dx}cd1372188a1e007ef616007e53b80103bb007ecd13587202e6f4b001e6f4ebfe")
FLOPPIES = {160: (40, 1, 8), 180: (40, 1, 9), 320: (40, 2, 8), 360: (40, 2, 9), 720: (80, 2, 9), 1200: (80, 2, 15),
            1440: (80, 2, 18), 2880: (80, 2, 36)}


def floppies(folder):
    """Firmware starts a floppy disk of each format, whose code reads and writes its last sector."""
    image = f"{folder}/floppy"
    for kib, (cylinders, heads, track) in FLOPPIES.items():
        cx, dx = (cylinders - 1) << 8 | track, (heads - 1) << 8
        code = bytes.fromhex(FLOPPY_SECTOR.format(cx=cx.to_bytes(2, "little").hex(), dx=dx.to_bytes(2, "little").hex()))
        with open(image, "wb") as f:
            f.write((code.ljust(510, b"\0") + b"\x55\xaa").ljust(kib * 1024 - 512, b"\0") + b"\x15" + bytes(511))
        for board in ("pc", "q35") if kib in (720, 1440) else ("pc",):
            with open(image, "r+b") as f:
                f.seek(-512, 2)
                f.write(b"\x15")
            args = ["-drive", f"if=floppy,format=raw,file={image}"] if board == "pc" else [
                "-drive", f"if=none,id=f,format=raw,file={image}", "-device", "isa-fdc", "-device",
                "floppy,drive=f,bootindex=0"]
            run(["-M", board, "-nodefaults", "-boot", "order=a", *args, "-device", "isa-debug-exit,iobase=0xf4"], 30,
                status=0x15 * 2 + 1)
            with open(image, "rb") as f:
                f.seek(-512, 2)
                assert f.read(2) == b"\xea\0", f"{board}, {kib} KB: the sector was not written"


class Screen:
    """A machine whose text screen is read by its monitor."""
    def __init__(self, folder, args):
        self.path = f"{folder}/mon"
        self.process = subprocess.Popen([LODGE, *accel(), "-display", "none", "-monitor",
                                         f"unix:{self.path},server=on,wait=off", *args], stdin=subprocess.DEVNULL)

    def __enter__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.time() + 20
        while self.socket.connect_ex(self.path):
            assert time.time() < end and self.process.poll() is None, "no monitor"
            time.sleep(0.05)
        self.socket.settimeout(20)
        self.ask("help info")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.socket.close()

    def ask(self, command):
        """The command and what it says."""
        self.socket.sendall(command.encode() + b"\n")
        out = b""
        while not out.endswith(b"(lodge) ") or out.count(b"(lodge)") < 1 or command.encode() not in out:
            out += self.socket.recv(65536)
        return out.decode("utf-8", "replace")

    def text(self):
        cells = re.findall(r"0x([0-9a-f]{4})\b", self.ask("xp /2000xh 0xb8000"))
        chars = "".join(chr(int(c, 16) & 0xff) for c in cells)
        return "\n".join(chars[i:i + 80].rstrip() for i in range(0, len(chars), 80))

    def wait(self, wanted, seconds):
        end = time.time() + seconds * PATIENCE
        while time.time() < end:
            text = self.text()
            if wanted in text:
                return text
            time.sleep(0.5)
        raise AssertionError(f"no '{wanted}' on the screen:\n{text}")


RESCUE = "/usr/lib/grub-rescue/grub-rescue-floppy.img"


def floppy_grub(folder):
    """Debian's GRUB rescue floppy: its menu, and what it reads from the disk afterwards."""
    if not os.path.exists(RESCUE):
        print("no package grub-rescue-pc here")
        sys.exit(77)
    for board in "pc", "q35":
        with Screen(folder, ["-M", board, "-m", "64", "-boot", "a", "-drive",
                             f"if=floppy,format=raw,readonly=on,file={RESCUE}"]) as s:
            s.wait("Memtest86+", 40)
            s.ask("sendkey c")
            s.wait("grub>", 20)
            for key in "l", "s", "ret":
                s.ask(f"sendkey {key}")
            s.wait("(fd0)", 20)


def floppy_change(folder):
    """eject, and change to another image, between two starts."""
    image = f"{folder}/floppy"
    # mov al,N; out 0xf4,al
    with open(image, "wb") as f:
        f.write(bytes.fromhex("b007e6f4ebfe").ljust(510, b"\0") + b"\x55\xaa" + bytes(1474560 - 512))
    with Screen(folder, ["-M", "pc", "-m", "64", "-net", "none", "-boot", "a", "-device", "isa-debug-exit,iobase=0xf4"]) as s:
        assert "floppy0: [not inserted]" in s.ask("info block floppy0")
        s.wait("No bootable device", 40)
        assert "cannot" not in s.ask(f"change floppy0 {image} raw")
        assert image in s.ask("info block floppy0")
        s.ask("eject floppy0")
        assert "[not inserted]" in s.ask("info block floppy0")
        s.ask(f"change floppy0 {image} raw")
        s.ask(f"change floppy0 {image} raw")  # the same once more stays writable
        assert image in s.ask("info block floppy0") and "read-only" not in s.ask("info block floppy0")
        with open(f"{folder}/large", "wb") as f:
            f.truncate(3 << 20)
        assert "does not fit the floppy drive" in s.ask(f"change floppy0 {folder}/large raw")
        assert image in s.ask("info block floppy0")
        s.socket.sendall(b"system_reset\n")
        assert s.process.wait(40 * PATIENCE) == 15
    bad = f"{folder}/bad"
    with open(bad, "wb") as f:
        f.truncate(3 << 20)
    p = subprocess.run([LODGE, "-M", "pc", "-drive", f"if=floppy,format=raw,file={bad}"], capture_output=True, text=True,
                       timeout=20)
    assert p.returncode == 1 and "the largest has 2949120" in p.stderr, p.stderr
    p = subprocess.run([LODGE, "-M", "microvm", "-fda", image], capture_output=True, text=True, timeout=20)
    assert p.returncode == 1 and "no floppy controller" in p.stderr, p.stderr


def elf(folder):
    """An ELF kernel with its initrd by firmware's PVH ROM; after a reset it is there again."""
    for f in ("vmlinux", "initrd.gz"):
        if not os.path.exists(f"{GUEST}/{f}"):
            sys.exit(77)
    script = base64.b64encode(b"echo elf-$(uname -m); reboot -f").decode()
    for board in "pc", "q35":
        p = subprocess.Popen([LODGE, *accel(), "-M", board, "-m", "256", "-display", "none", "-serial", "stdio", "-monitor", "none",
                              "-kernel", f"{GUEST}/vmlinux", "-initrd", f"{GUEST}/initrd.gz", "-append",
                              f"console=ttyS0 quiet lodge.run={script}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        out, end = b"", time.monotonic() + 90 * PATIENCE
        try:
            while out.count(b"elf-x86_64") < 3:
                assert time.monotonic() < end and p.poll() is None, out[-1500:].decode("utf-8", "replace")
                if select.select([p.stdout], [], [], 1)[0]:
                    out += os.read(p.stdout.fileno(), 65536)
        finally:
            p.kill()
            p.wait()


# cli; mov [100800h],eax; mov [100804h],ebx; 1400h bytes from ebx to 105000h; from 100800h 5c00h bytes to COM1; then
# mov al,70h; out 70h,al; in al,71h; inc al; out 71h,al; for 1: lidt [100900h]; int3 (a reset); else mov al,4;
# out 0f4h,al: status 9
MULTIBOOT_CODE = bytes.fromhex(
    "fabf00501000a300081000891d0408100089deb900140000fcf3a4be00081000b9005c0000baf803000080c205eca82074fb80ea05ac"
    "eee2f180c205eca84074fbb070e670e471fec0e6713c017404b004e6f40f011d00091000cc")


def multiboot_kernel(path, elf):
    """One page at 1 MiB: a 32-bit ELF image that is linked to c0100000h, or an image with address fields."""
    base, virtual = 0x100000, 0xC0100000
    flags = 7 if elf else 0x10003
    head = struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    if elf:
        start = b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, virtual + 0x80, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        start += struct.pack("<8I", 1, 0, virtual, base, 0x80 + len(MULTIBOOT_CODE), 0x1000, 7, 0x1000)
        body = start.ljust(0x60, b"\0") + head
    else:
        body = head + struct.pack("<IIIII", base, base, 0, base + 0x1000, base + 0x80)
    with open(path, "wb") as f:
        f.write(body.ljust(0x80, b"\0") + MULTIBOOT_CODE)


def multiboot_check(board, dump, kernel, modules):
    """What the kernel found: registers, memory from 100808h on, from 105000h on a copy of the information."""
    def at(address, size):
        return dump[address - 0x100800 if address >= 0x100000 else 0x4800 + address - low:][:size]

    def words(address, count):
        return struct.unpack(f"<{count}I", at(address, count * 4))

    def text(address):
        return at(address, 4096).split(b"\0")[0].decode()
    magic, low = struct.unpack_from("<II", dump)
    info = low  # all of it is below 1 MiB
    assert magic == 0x2BADB002, hex(magic)
    flags, lower, upper, _, cmdline, mods_count, mods = words(info, 7)
    map_size, map_at = words(info + 44, 2)
    assert flags == 0x24D and 600 <= lower <= 640 and 250 << 10 <= upper <= 255 << 10, (hex(flags), lower, upper)
    assert text(cmdline) == f"{kernel} one=1 two" and text(words(info + 64, 1)[0]) == "lodge", text(cmdline)
    assert mods_count == len(modules), mods_count
    for i, (line, content) in enumerate(modules):
        start, end, string, _ = words(mods + i * 16, 4)
        assert start % 4096 == 0 and at(start, end - start) == content and text(string) == line, (i, start, end, text(string))
    ram, reserved = {}, 0
    for i in range(map_at, map_at + map_size, 24):
        size, start, length, kind = struct.unpack("<IQQI", at(i, 24))
        assert size == 20 and length, (size, length)
        reserved += kind == 2
        ram.update({start: length} if kind == 1 else {})
    assert ram[0] == 0x9FC00 and 250 << 20 <= ram[0x100000] <= 255 << 20 and reserved >= (1 if board == "microvm" else 2), ram


def multiboot(folder):
    """Kernels with a Multiboot header and two modules; after a reset they are there again, as new."""
    kernel, serial = f"{folder}/kernel", f"{folder}/serial"
    modules = []
    for name, line, content in (("a", "{} x=1,2 y", b"first"), ("b", "{}", bytes(range(256)) * 17)):
        with open(f"{folder}/{name}", "wb") as f:
            f.write(content)
        modules.append((line.format(f"{folder}/{name}"), content))
    initrd = ",".join(line.replace(",", ",,") for line, _ in modules)
    for board, elf in (("pc", True), ("pc", False), ("q35", True), ("q35", False), ("microvm", True), ("microvm", False)):
        multiboot_kernel(kernel, elf)
        run(["-M", board, "-kernel", kernel, "-initrd", initrd, "-append", "one=1 two", "-serial", f"file:{serial}",
             "-monitor", "none", "-device", "isa-debug-exit,iobase=0xf4"], 30, status=9)
        with open(serial, "rb") as f:
            both = f.read()
        assert len(both) > 8192 and len(both) % 2 == 0, len(both)
        for d in both[:len(both) // 2], both[len(both) // 2:]:
            multiboot_check(board, d, kernel, modules)


def hpet(folder):
    """Linux finds the HPET, has nothing to say against it, and stays with the TSC; hpet=off takes it away."""
    for f in ("vmlinuz", "initrd.gz"):
        if not os.path.exists(f"{GUEST}/{f}"):
            sys.exit(77)
    # The kernel measures the TSC for a second or so before it is one.
    script = "for i in $(seq 100); do grep -qx tsc /sys/devices/system/clocksource/clocksource0/current_clocksource && break; sleep 0.1; done; "
    script += "echo BEGIN; dmesg; cat /sys/devices/system/clocksource/*/*_clocksource; grep -i hpet /proc/iomem; echo END; poweroff -f"
    append = "console=ttyS0 quiet lodge.run=" + base64.b64encode(script.encode()).decode()
    for machine in "pc", "q35", "pc,hpet=off":
        body = linux_ran(run(["-M", machine, "-smp", "2", "-serial", "stdio", "-kernel", f"{GUEST}/vmlinuz", "-initrd",
                              f"{GUEST}/initrd.gz", "-append", append]))
        found = all(t in body for t in ("ACPI: HPET id: 0x8086a201", "3 comparators, 64-bit 100.000000 MHz", "tsc hpet acpi_pm",
                                        "fed00000-fed003ff : HPET 0"))
        assert found == ("off" not in machine), f"{machine}: {body[-1500:]}"
        assert re.search(r"^tsc$", body, re.M), "not the TSC"


def reset_sector(count):
    """Counts in two bytes of CMOS and resets by another route each time; at `count` the process ends with status 9."""
    def block(cell, op):  # of CMOS; op: what moves the byte
        return bytes([0xB0, cell, 0xE6, 0x70]) + op
    head = bytes.fromhex("fa31c08ed8") + block(0x70, bytes.fromhex("e47188c3")) + block(0x71, bytes.fromhex("e47188c7")) + b"\x43"
    head += block(0x70, bytes.fromhex("88d8e671")) + block(0x71, bytes.fromhex("88f8e671")) + b"\x81\xfb" + count.to_bytes(2, "little")
    ways = [bytes.fromhex("b0fee664ebfe"), bytes.fromhex("baf90cb006eeebfe"), bytes.fromhex("b001e692ebfe"), bytes.fromhex("b004e6f4ebfe")]
    tail = 2 + 5 + 2 + 3 + 3 + 6  # je done; mov ax, bx; and ax, 3; je; dec ax; je; dec ax; je; lidt; int3
    at = [len(head) + tail]
    for way in ways:
        at.append(at[-1] + len(way))
    code = bytearray(head)

    def je(target):
        code.extend([0x74, target - len(code) - 2])
    je(at[3])
    code += bytes.fromhex("89d883e003")
    je(at[0])
    code += b"\x48"
    je(at[1])
    code += b"\x48"
    je(at[2])
    code += b"\x0f\x01\x1e" + (0x7C00 + at[4]).to_bytes(2, "little") + b"\xcc"
    assert len(code) == at[0]
    return (bytes(code) + b"".join(ways)).ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20)


def resets(folder):
    """Resets one after another, by four routes, with a device of each kind; LODGE_RESETS of them, else 100."""
    count, sector = int(os.environ.get("LODGE_RESETS", 100)), f"{folder}/sector"
    with open(sector, "wb") as f:
        f.write(reset_sector(count))
    args = ["-device", "isa-debug-exit,iobase=0xf4", "-boot", "menu=off", "-device", "virtio-scsi-pci", "-device", "virtio-serial-pci",
            "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"]
    for i, device in enumerate(("ide-hd,bus=ide.0,bootindex=1", "virtio-blk-pci", "scsi-hd", "nvme,serial=x")):
        args += ["-drive", f"file={sector},format=raw,if=none,id=i{i},snapshot=on", "-device", f"{device},drive=i{i}"]
    for board in "pc", "q35":
        run(["-M", board, "-smp", "2", *args], 30 + count, status=9)


CASES = {"elf": elf, "multiboot": multiboot, "resets": resets, "floppies": floppies, "floppy-grub": floppy_grub, "floppy-change": floppy_change, "hpet": hpet, "reset-ports": reset_ports, "no-firmware": no_firmware, "boot-order": boot_order, "boot-index": boot_index}


def main():
    name = sys.argv[3]
    with tempfile.TemporaryDirectory() as folder:
        if name in CASES:
            CASES[name](folder)
        else:
            boots(folder, *name.split("-"))
    print("ok")


try:
    main()
except AssertionError as e:
    print(e)
    sys.exit(1)
