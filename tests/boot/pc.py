#!/usr/bin/env python3
"""Boards pc and q35 from firmware: one GRUB image as CD and as disk of each kind.

usage: pc.py LODGE GUESTDIR CASE LODGE-IMG LODGE-IO LODGE-NBD

CASE is BOARD-FIRMWARE-DEVICE ("q35-uefi-ahci"), or one of the other cases below. The image is made by
grub-mkrescue: a CD, a disk with an MBR, and a UEFI system partition in one. Each boot's kernel must find
its disk, say nothing in anger, and power off by ACPI. Status 77: no guest files or no GRUB."""
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile

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


CASES = {"reset-ports": reset_ports, "no-firmware": no_firmware, "boot-order": boot_order, "boot-index": boot_index}


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
