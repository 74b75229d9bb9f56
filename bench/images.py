#!/usr/bin/env python3
"""Measures lodge-img beside qemu-img: converting, compressing, creating, looking, checking, snapshots.

usage: images.py BUILD [--rounds N] [--only NAME,...] [--work DIR] [--size MIB] [--markdown FILE] [--json FILE]

Each round runs both programs after each other, in turns first; figures are medians of wall time, of processor
time (all threads) and of peak memory. Both get the same options and cache mode; for what writes an image that is
writeback, where everything is synced at the end. qemu-img runs with its fastest options: -W and -m 8 where data
moves.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

COPY = ["-t", "writeback", "-W", "-m", "8"]


def fill_random(path, mib, every=1):
    """MiB pieces of random bytes, each `every` one; holes between."""
    rng = random.Random(1)
    with open(path, "wb") as f:
        f.truncate(mib << 20)
        for i in range(0, mib, every):
            f.seek(i << 20)
            f.write(rng.randbytes(1 << 20))


def fill_programs(path, mib):
    """What compresses as disks do: programs and libraries of this machine."""
    left = mib << 20
    with open(path, "wb") as out:
        for folder in ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/gcc", "/usr/share/doc"):
            for name in sorted(os.listdir(folder)):
                full = f"{folder}/{name}"
                if left and os.path.isfile(full) and not os.path.islink(full):
                    with open(full, "rb") as f:
                        data = f.read(left)
                    out.write(data)
                    left -= len(data)
        out.truncate(mib << 20)


class Cases:
    """name: (what it is called, arguments of the program, files to remove before)"""

    def __init__(self, work, mib):
        self.work = work
        w = work
        small = max(mib // 4, 16)
        fill_random(f"{w}/random.raw", mib)
        fill_random(f"{w}/sparse.raw", mib, 10)
        fill_programs(f"{w}/programs.raw", small)
        for name in ("random", "sparse"):
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{w}/{name}.raw", f"{w}/{name}.qcow2"],
                           check=True)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", f"{w}/programs.raw",
                        f"{w}/programs.qcow2"], check=True)
        out = f"{w}/out"
        to = ["-f", "raw", "-O", "qcow2"]
        back = ["-f", "qcow2", "-O", "raw"]
        self.all = {
            "to-qcow2": (f"raw to qcow2, random, {mib} MiB", ["convert", *COPY, *to, f"{w}/random.raw", out]),
            "to-raw": (f"qcow2 to raw, random, {mib} MiB", ["convert", *COPY, *back, f"{w}/random.qcow2", out]),
            "sparse-to-qcow2": (f"raw to qcow2, a tenth is data, {mib} MiB",
                                ["convert", *COPY, *to, f"{w}/sparse.raw", out]),
            "sparse-to-raw": (f"qcow2 to raw, a tenth is data, {mib} MiB",
                              ["convert", *COPY, *back, f"{w}/sparse.qcow2", out]),
            "zlib": (f"compressed, zlib, {small} MiB", ["convert", "-c", *COPY, *to, f"{w}/programs.raw", out]),
            "zstd": (f"compressed, zstd, {small} MiB",
                     ["convert", "-c", *COPY, *to, "-o", "compression_type=zstd", f"{w}/programs.raw", out]),
            "decompress": (f"compressed to raw, zlib, {small} MiB",
                           ["convert", *COPY, *back, f"{w}/programs.qcow2", out]),
            "compare": (f"compare raw and qcow2, {mib} MiB",
                        ["compare", "-f", "raw", "-F", "qcow2", f"{w}/random.raw", f"{w}/random.qcow2"]),
            "create": ("create, 10 GiB", ["create", "-q", "-f", "qcow2", out, "10G"]),
            "create-metadata": ("create with all tables, 10 GiB",
                                ["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", out, "10G"]),
            "info": ("info", ["info", f"{w}/random.qcow2"]),
            "check": (f"check, {mib} MiB in use", ["check", "-q", f"{w}/random.qcow2"]),
            "snapshot": ("snapshot, made and removed", None),
        }

    def commands(self, program, name):
        args = self.all[name][1]
        if args:
            return [[program, *args]]
        image = f"{self.work}/random.qcow2"
        return [[program, "snapshot", "-c", "s", image], [program, "snapshot", "-d", "s", image]]


def measure(commands, out):
    """Wall and processor seconds."""
    wall = cpu = 0
    for command in commands:
        if os.path.exists(out):
            os.unlink(out)
        begin = time.monotonic()
        pid = os.posix_spawn(command[0], command, os.environ,
                             file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
        _, status, usage = os.wait4(pid, 0)
        wall += time.monotonic() - begin
        if status:
            sys.exit(f"images.py: failed: {' '.join(command)}")
        cpu += usage.ru_utime + usage.ru_stime
    return wall, cpu


def peak_kib(commands, out):
    """Peak memory, and disk space of what was written. Once more for each, below GNU time: a child of ours would begin with our own memory as its peak."""
    peak = 0
    for command in commands:
        if os.path.exists(out):
            os.unlink(out)
        r = subprocess.run(["/usr/bin/time", "-f", "%M", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True, check=True)
        peak = max(peak, int(r.stderr.split()[-1]))
    return peak, os.stat(out).st_blocks * 512 if os.path.exists(out) else 0


def medians(runs):
    return [statistics.median(r[i] for r in runs) for i in range(2)]


def sizes(ours, theirs):
    """Of the image that was written, and how much smaller it is."""
    return f"{theirs / ours:.2f}" if ours and theirs else ""


def row(title, ours, theirs):
    return (f"| {title} | {ours[0] * 1e3:.0f} | {theirs[0] * 1e3:.0f} | **{theirs[0] / ours[0]:.2f}** | "
            f"{theirs[1] / max(ours[1], 1e-6):.2f} | {ours[2] / 1024:.1f} | {theirs[2] / 1024:.1f} | {sizes(ours[3], theirs[3])} |")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--only", default="")
    p.add_argument("--work", default="/var/tmp")
    p.add_argument("--size", type=int, default=1024)
    p.add_argument("--markdown")
    p.add_argument("--json")
    a = p.parse_args()
    lodge, qemu = f"{a.build}/lodge-img", "/usr/bin/qemu-img"
    lines = ["| what | lodge-img ms | qemu-img ms | wall: times as fast | processor time: times as little | MiB | MiB | size: times as small |",
             "|---|---|---|---|---|---|---|---|"]
    results = {}
    with tempfile.TemporaryDirectory(dir=a.work) as work:
        cases = Cases(work, a.size)
        os.sync()
        for name, (title, _) in cases.all.items():
            if a.only and name not in a.only.split(","):
                continue
            runs = {lodge: [], qemu: []}
            for i in range(a.rounds):
                for program in ((lodge, qemu) if i % 2 else (qemu, lodge)):
                    runs[program].append(measure(cases.commands(program, name), f"{work}/out"))
            ours, theirs = ([*medians(runs[p]), *peak_kib(cases.commands(p, name), f"{work}/out")]
                            for p in (lodge, qemu))
            results[name] = {"lodge": ours, "qemu": theirs}
            lines.append(row(title, ours, theirs))
            print(lines[-1], flush=True)
    for path, text in ((a.markdown, "\n".join(lines) + "\n"), (a.json, json.dumps(results, indent=1))):
        if path:
            with open(path, "w") as f:
                f.write(text)


main()
