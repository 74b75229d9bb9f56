#!/usr/bin/env python3
"""Measures a guest's disk under Lodge's JIT beside QEMU's TCG: raw and qcow2, 4 KiB at random, 256 KiB in a row.

usage: disks.py [--rounds N] [--lodge FILE] [--qemu FILE] [--guest DIR] [--work DIR] [--markdown FILE] [--json FILE]

Both emulators boot the same guest with the same virtio disk; for each kind of access one works while the other
waits, in turns first. Wall time and CPU time of the emulator; medians. cache=writeback, the image in the host's page cache (or
where --work is).
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

import emulators
from emulators import Emulator

DISK_MIB = 256
FORMATS = ["raw", "qcow2"]


class Guest:
    """One boot, stopped at the next kind of access."""

    def __init__(self, emulator, initrd, image, fmt):
        more = ["-drive", f"if=none,id=d,format={fmt},cache=writeback,discard=unmap,file={image}",
                "-device", "virtio-blk-device,drive=d"]
        command = emulator.command(f"{emulator.args.guest}/vmlinux", "/disks /dev/vda", initrd, more)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.name, self.waits = emulator.name, self.lines()

    def lines(self):
        for line in self.process.stdout:
            words = line.decode(errors="replace").split()
            if words[:1] == ["WAIT"] or words[:1] == ["DISK"]:
                yield words
        sys.exit(f"disks.py: {self.name} ended early")

    def ready(self):
        words = next(self.waits)
        return None if words[1] == "done" else words[1]

    def work(self):
        before = emulators.cpu_seconds(self.process.pid)
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        _, name, _, ns, checksum = next(self.waits)
        return int(ns) / 1e9, emulators.cpu_seconds(self.process.pid) - before, checksum

    def end(self):
        self.process.kill()
        self.process.wait()


def make_images(work, fmt, who):
    """A disk half full."""
    image = f"{work}/{who}.{fmt}"
    with open(f"{work}/raw.tmp", "wb") as f:
        f.write(random.Random(2).randbytes(DISK_MIB << 19))
        f.truncate(DISK_MIB << 20)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", fmt, f"{work}/raw.tmp", image], check=True)
    return image


def round_of(pair, initrd, work, fmt, turn):
    guests = [Guest(e, initrd, make_images(work, fmt, e.name), fmt) for e in pair]
    results = {}
    try:
        while True:
            names = [g.ready() for g in guests]
            if names[0] is None:
                return results
            order = guests[::-1] if turn % 2 else guests
            done = {g.name: g.work() for g in order}
            results[names[0]] = done
            if len({d[2] for d in done.values()}) != 1:
                sys.exit(f"disks.py: {names[0]} on {fmt}: the guests read different data")
    finally:
        for g in guests:
            g.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    emulators.add_arguments(parser, timeout=300)
    parser.add_argument("--work", default="/var/tmp")
    args = emulators.parse(parser, rounds=5)
    pair = [Emulator("lodge", args.lodge, args), Emulator("qemu", args.qemu, args)]
    for e in pair:
        e.args = args
    lines = ["| disk | access | Lodge ms | TCG ms | wall: times as fast | processor time: times as little |",
             "|---|---|---|---|---|---|"]
    result = {}
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", f"{work}/disks",
                        f"{emulators.HERE}/guest/disks.c"], check=True)
        emulators.make_initrd(args.guest, {"disks": f"{work}/disks"}, f"{work}/initrd")
        for fmt in FORMATS:
            rounds = [round_of(pair, f"{work}/initrd", work, fmt, i) for i in range(args.rounds)]
            for name in rounds[0]:
                med = {e.name: [statistics.median(r[name][e.name][i] for r in rounds) for i in (0, 1)] for e in pair}
                ours, theirs = med["lodge"], med["qemu"]
                result[f"{fmt} {name}"] = med
                lines.append(f"| {fmt} | {name} | {ours[0] * 1e3:.0f} | {theirs[0] * 1e3:.0f} | "
                             f"**{theirs[0] / ours[0]:.2f}** | {theirs[1] / max(ours[1], 1e-3):.2f} |")
                print(lines[-1], flush=True)
    for path, text in ((args.markdown, "\n".join(lines) + "\n"), (args.json, json.dumps(result, indent=1))):
        if path:
            with open(path, "w") as f:
                f.write(text)


main()
