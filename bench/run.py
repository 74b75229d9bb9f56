#!/usr/bin/env python3
"""Measures Lodge beside QEMU's TCG: the same guest under both, alternately, by process CPU time.

usage: run.py [--quick] [--gate FILE [--handicap PERCENT]] [--record FILE] [--rounds N] [--only NAME,...]
              [--lodge FILE] [--qemu FILE] [--guest DIR] [--qemu-cpu best|max|qemu64] [--json FILE] [--markdown FILE]

The guest (tools/guest.py makes it) runs the kernels of bench/kernels. At each mark the guest waits
for a line, so that the emulator stands still while its CPU clock (all threads) is read. The native
column is the same program run directly. What is compared is medians, their ratio, and geometric
means of the ratios per group; wall time is used only for exec to guest exit. --quick is less than a
minute and a half, for tests: --gate FILE compares it with a record, --record FILE writes one (gate.py).
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

import emulators
import figures
import gate
from emulators import Emulator

HERE = emulators.HERE
RAM_MIB = 512
RECORD_RUNS = 6


def build_kernels(out):
    sources = sorted(f"{HERE}/kernels/{f}" for f in os.listdir(f"{HERE}/kernels") if f.endswith(".c"))
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-static", "-ffp-contract=off", "-o", out] + sources + ["-lm"],
                   check=True)


def make_exit_elf(out):
    """A PVH kernel of one instruction's worth: writes 0 to the isa-debug-exit port 0xf4."""
    base = 0x100000
    code = b"\x31\xc0\xba\xf4\0\0\0\xee\xf4\xeb\xfd"  # xor eax,eax; mov edx,0xf4; out dx,al; hlt; jmp -1
    note = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", base + 0x200)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, base + 0x200, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, 0x1000, 0x1000, 0x1000)
    head += struct.pack("<IIQQQQQQ", 4, 4, 0x100, base + 0x100, base + 0x100, len(note), len(note), 4)
    image = bytearray(0x1000)
    image[:len(head)] = head
    image[0x100:0x100 + len(note)] = note
    image[0x200:0x200 + len(code)] = code
    open(out, "wb").write(image)


def boot(emulator, kernel, initrd):
    """CPU seconds from launch to power-off."""
    command = emulator.command(f"{emulator.guest}/{kernel}", "poweroff -f; sleep 100", initrd)
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = status
    if status != 0 or b"Power down" not in out:
        print(f"{emulator.name}: boot of {kernel} ends with status {status}: {out[-300:]}", file=sys.stderr)
        return None
    return usage.ru_utime + usage.ru_stime


def exit_ms(emulator, elf):
    """Wall time from just before posix_spawn; subprocess.run takes a millisecond for itself."""
    command = emulator.command(elf)
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=null)
    os.waitpid(pid, 0)
    return (time.perf_counter() - start) * 1000


class Kernels:
    """The kernels' program, the guest that has it, and the rounds so far."""

    def __init__(self, args, work):
        self.args, self.program, self.initrd, self.elf = args, f"{work}/kernels", f"{work}/initrd.gz", f"{work}/exit.elf"
        build_kernels(self.program)
        emulators.make_initrd(args.guest, {"kernels": self.program}, self.initrd)
        make_exit_elf(self.elf)
        out = subprocess.run([self.program, "-l"], capture_output=True, text=True).stdout
        self.group_of = dict(reversed(l.split()) for l in out.splitlines() if not l.startswith("MARK"))
        self.names = args.only.split(",") if args.only else []
        self.rounds, self.machine = [], {"boot-elf": {}, "boot-bzimage": {}, "exit-ms": {}, "memory-mib": {}}

    def under(self, emulator):
        return emulator.run(f"/kernels -w {' '.join(self.names)}", self.initrd)

    def native(self, names=None, percent=100):
        command = [self.program, "-s", str(percent), *(self.names if names is None else names)]
        out = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
        return emulators.native_marks(out)

    def note(self, what, emulator, value):
        self.machine[what].setdefault(emulator.name, []).append(value)

    def round(self, pair):
        results = {"native": self.native()}
        for e in pair[::-1] if len(self.rounds) % 2 else pair:
            results[e.name], memory = self.under(e)
            self.note("memory-mib", e, memory)
        self.rounds.append(results)

    def boots(self, pair):
        for e in pair:
            self.note("boot-elf", e, boot(e, "vmlinux", self.initrd))
            self.note("boot-bzimage", e, boot(e, "vmlinuz", self.initrd))

    def exits(self, pair, times):
        for _ in range(times):
            for e in pair:
                self.note("exit-ms", e, exit_ms(e, self.elf))


def choose_cpu(args, kernels):
    """The CPU model with which QEMU is faster over the kernels that both can run."""
    if args.qemu_cpu != "best":
        return args.qemu_cpu, None
    times = {cpu: kernels.under(Emulator("qemu", args.qemu, args, cpu))[0] for cpu in ("max", "qemu64")}
    shared = [k for k in times["qemu64"] if k in times["max"]]
    ratio = figures.geometric([times["qemu64"][k].cpu / times["max"][k].cpu for k in shared])
    return ("max" if ratio >= 1 else "qemu64"), ratio


def measure(args, work):
    kernels = Kernels(args, work)
    cpu, cpu_ratio = choose_cpu(args, kernels)
    pair = [Emulator("lodge", args.lodge, args), Emulator("qemu", args.qemu, args, cpu)]
    for r in range(args.rounds):
        print(f"round {r + 1} of {args.rounds}", file=sys.stderr)
        kernels.round(pair)
        if not args.only:
            kernels.boots(pair * 2)
    if not args.only:
        kernels.exits(pair, 50)
    return summary(kernels, {"qemu cpu": cpu, "qemu64/max time": cpu_ratio})


def summary(kernels, about):
    rows = figures.rows(kernels.group_of, kernels.rounds)
    machine = {}
    for what, values in kernels.machine.items():
        row = {who: figures.median(v) for who, v in values.items()}
        if row:
            machine[what] = dict(row, speed=figures.quotient(row.get("qemu"), row.get("lodge")))
    return {"about": about, "kernels": rows, "groups": figures.groups(rows), "machine": machine}


TITLES = {"boot-elf": "boot to power-off, ELF kernel, CPU s", "boot-bzimage": "the same, bzImage, CPU s",
          "exit-ms": "exec to the guest's exit, wall ms", "memory-mib": "own memory at init, MiB"}


def markdown(result):
    lines = figures.markdown_rows("kernel", result["kernels"]) + [""] + figures.markdown_groups(result["groups"])
    machine = [[TITLES[what], figures.num(m.get("lodge"), "{:.2f}"), figures.num(m.get("qemu"), "{:.2f}"),
                figures.bold(m["speed"])] for what, m in result["machine"].items()]
    return "\n".join(lines + [""] + figures.table(["machine", "Lodge", "TCG", "TCG / Lodge"], machine)) + "\n"


def quick(args, work):
    """Measures a few kernels and does what --gate and --record ask; the result, and sentences about what fell."""
    kernels = Kernels(args, work)
    pair = [Emulator("lodge", args.lodge, args), Emulator("qemu", args.qemu, args, args.qemu_cpu)]
    native = {n: m for percent, names in gate.PARTS.items() for n, m in kernels.native(names, percent).items()}
    about, rounds = emulators.versions(args, RAM_MIB), []

    def table(measured):
        return figures.rows(kernels.group_of, [dict(r, native=native) for r in measured])

    def attempt():
        rounds.extend(gate.passes(pair, kernels.initrd, 1 + args.handicap / 100))
        return table(rounds)

    bad = []
    if args.record:
        tables = [table(gate.passes(pair, kernels.initrd)) for _ in range(RECORD_RUNS)]
        with open(args.record, "w") as f:
            f.write(json.dumps(gate.record(tables, about), indent=1) + "\n")
        rows = tables[-1]
    elif args.gate:
        rows, bad = gate.check(attempt, args.gate)
    else:
        rows = attempt()
    return {"about": about, "kernels": rows, "groups": figures.groups(rows), "machine": {}}, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    emulators.add_arguments(parser, timeout=1200)  # TCG: two minutes for jit-rewrite and jit-toggle
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--qemu-cpu", default="max")
    parser.add_argument("--gate")
    parser.add_argument("--record")
    parser.add_argument("--handicap", type=float, default=0, help="count so many percent more for Lodge: tries the gate")
    args = emulators.parse(parser, rounds=5)
    bad = []
    with tempfile.TemporaryDirectory() as work:
        if args.quick or args.gate or args.record:
            result, bad = quick(args, work)
        else:
            result = measure(args, work)
            result["about"].update(emulators.versions(args, RAM_MIB))
    figures.write(result, markdown(result), args)
    if bad:
        sys.exit("fallen: " + "; ".join(bad))
    figures.end(figures.wrong(result["kernels"]))


if __name__ == "__main__":
    main()
