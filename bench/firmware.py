#!/usr/bin/env python3
"""Measures booting from firmware beside QEMU's TCG: SeaBIOS to a boot sector, GRUB to /init from each kind of disk.

usage: firmware.py BUILD [--rounds N] [--guest DIR] [--only NAME,...] [--markdown FILE] [--json FILE]

Both programs get the same board and options and run after each other, in turns first. The guest ends the process as
soon as it is there (isa-debug-exit; for GRUB, the first command of /init's script), so a figure is a whole process:
its processor time, all threads, and its wall time. Medians, and the median of the rounds' ratios."""
import argparse
import base64
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CONFIG = """set timeout=0
menuentry "Linux" {
  linux /boot/vmlinuz console=ttyS0 quiet lodge.run=%s
  initrd /boot/initrd.gz
}
"""
DISK = ["-drive", "file={image},format=raw,if=none,id=d,snapshot=on"]
PLACES = {
    "CD, pc": ("pc", ["-cdrom", "{image}"]),
    "IDE, pc": ("pc", [*DISK, "-device", "ide-hd,drive=d"]),
    "AHCI, q35": ("q35", [*DISK, "-device", "ide-hd,drive=d,bus=ide.0"]),
    "virtio-blk, pc": ("pc", [*DISK, "-device", "virtio-blk-pci,drive=d"]),
    "virtio-blk, q35": ("q35", [*DISK, "-device", "virtio-blk-pci,drive=d"]),
    "virtio-scsi, q35": ("q35", [*DISK, "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d,bootindex=1"]),
    "NVMe, q35": ("q35", [*DISK, "-device", "nvme,drive=d,serial=x,bootindex=1"]),
}


def boot_sector(folder):
    """mov al,4; out F4h,al"""
    path = f"{folder}/sector"
    with open(path, "wb") as f:
        f.write(bytes.fromhex("b004e6f4f4ebfd").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return path


def grub_image(folder, guest):
    os.makedirs(f"{folder}/tree/boot/grub")
    for name in "vmlinuz", "initrd.gz":
        shutil.copy(f"{guest}/{name}", f"{folder}/tree/boot/{name}")
    with open(f"{folder}/tree/boot/grub/grub.cfg", "w") as f:
        f.write(CONFIG % base64.b64encode(b"debugexit 4").decode())
    subprocess.run(["grub-mkrescue", "-o", f"{folder}/grub.iso", f"{folder}/tree"], check=True, capture_output=True)
    return f"{folder}/grub.iso"


def timed(argv):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if p.returncode != 9:
        sys.exit(f"firmware.py: {' '.join(argv)}: status {p.returncode}\n{p.stderr.decode()[-1000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def measure(name, board, args, programs, rounds):
    common = ["-M", board, "-m", "256", "-nodefaults", "-vga", "std", "-display", "none", "-device",
              "isa-debug-exit,iobase=0xf4,iosize=4", *args]
    got = {p: [] for p in programs}
    for n in range(rounds):
        for p in list(programs)[::1 if n % 2 else -1]:
            got[p].append(timed([programs[p], "-accel", "tcg", *common]))
    ours, theirs = got["lodge"], got["qemu"]
    row = {"name": name}
    for i, what in enumerate(("cpu", "wall")):
        row[what] = statistics.median(r[i] for r in ours)
        row[what + "_qemu"] = statistics.median(r[i] for r in theirs)
        row[what + "_ratio"] = statistics.median(t[i] / o[i] for o, t in zip(ours, theirs))
    print(line(row), flush=True)
    return row


def line(r):
    return (f"| {r['name']} | {r['cpu']:.2f} | {r['cpu_qemu']:.2f} | **{r['cpu_ratio']:.2f}** | {r['wall']:.2f} | "
            f"{r['wall_qemu']:.2f} | **{r['wall_ratio']:.2f}** |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--guest", default="guest")
    p.add_argument("--only", default="")
    p.add_argument("--qemu", default="qemu-system-x86_64")
    p.add_argument("--markdown")
    p.add_argument("--json")
    a = p.parse_args()
    programs = {"lodge": f"{a.build}/lodge", "qemu": a.qemu}
    head = ("| boot | Lodge, CPU s | TCG, CPU s | Lodge's speed, TCG = 1 | Lodge, wall s | TCG, wall s | Lodge's speed |\n"
            "|---|---|---|---|---|---|---|")
    print(head)
    with tempfile.TemporaryDirectory() as folder:
        sector, image = boot_sector(folder), grub_image(folder, a.guest)
        rows = [(f"SeaBIOS to a boot sector, {b}", b, ["-drive", f"file={sector},format=raw"]) for b in ("pc", "q35")]
        rows += [(f"GRUB to /init, {n}", b, [x.format(image=image) for x in args]) for n, (b, args) in PLACES.items()]
        done = [measure(n, b, args, programs, a.rounds) for n, b, args in rows
                if not a.only or any(w in n for w in a.only.split(","))]
    if a.markdown:
        with open(a.markdown, "w") as f:
            f.write("\n".join([head, *map(line, done)]) + "\n")
    if a.json:
        with open(a.json, "w") as f:
            json.dump(done, f, indent=1)


main()
