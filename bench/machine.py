#!/usr/bin/env python3
"""Measures what is not a program's speed, Lodge beside QEMU's TCG: disk reads, timer latency, more vcpus.

usage: machine.py [--rounds N] [--only NAME,...] [--lodge FILE] [--qemu FILE] [--guest DIR] [--json FILE]
                  [--markdown FILE]

guest/probes.c is what runs in the guest and, natively, on the host. Disk: reads of 4 KiB at random
places of a raw image that the host has in its page cache, past the guest's page cache; CPU time of
the emulator, and wall time. Latency: how late a sleeper of high priority wakes while another process is
busy on the same vcpu. Scale: N threads on N vcpus share N times the work of one, in pieces; wall time for the
work of one, and CPU time: where wall time grows and CPU time does not, the host had no processor to give, or
vcpus slept.
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile

import emulators
import figures
from emulators import Emulator

HERE = emulators.HERE
RAM_MIB = 512
DISK_MIB = 64
READS = 12000  # as in guest/probes.c
ONE_CPU = ["disk-1", "disk-8", "latency-loop", "latency-calls"]
SCALE = ["scale-integer", "scale-atomics", "scale-mappings"]
VCPUS = [1, 2, 4]


def per_read(seconds):
    return seconds * 1e6 / READS if seconds else None


# name: what it is called in the table, the probe, the value (less is better)
MEASURES = {
    "disk-1-cpu": ("4 KiB random read, one at a time, CPU us", "disk-1", lambda m: per_read(m.cpu)),
    "disk-1-wall": ("the same, wall us", "disk-1", lambda m: per_read(m.wall)),
    "disk-8-cpu": ("4 KiB random read, eight at a time, CPU us", "disk-8", lambda m: per_read(m.cpu)),
    "disk-8-wall": ("the same, wall us", "disk-8", lambda m: per_read(m.wall)),
    "latency-loop-p50": ("timer to process beside a loop, median, us", "latency-loop", lambda m: int(m.more[2]) / 1e3),
    "latency-loop-p99": ("the same, 99th percentile, us", "latency-loop", lambda m: int(m.more[3]) / 1e3),
    "latency-calls-p50": ("timer to process beside system calls, median, us", "latency-calls",
                          lambda m: int(m.more[2]) / 1e3),
    "latency-calls-p99": ("the same, 99th percentile, us", "latency-calls", lambda m: int(m.more[3]) / 1e3),
}


def build_probes(out):
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-pthread", "-o", out,
                    f"{HERE}/guest/probes.c"], check=True)


class Probes:
    def __init__(self, args, work):
        self.program, self.initrd, self.image = f"{work}/probes", f"{work}/initrd", f"{work}/disk"
        build_probes(self.program)
        emulators.make_initrd(args.guest, {"probes": self.program}, self.initrd)
        with open(self.image, "wb") as f:
            f.write(random.Random(1).randbytes(DISK_MIB << 20))
        self.only = args.only.split(",") if args.only else ONE_CPU + SCALE
        self.disk = ["-drive", f"if=none,id=d,format=raw,readonly=on,file={self.image}",
                     "-device", "virtio-blk-device,drive=d"]

    def names(self, vcpus):
        return " ".join(n for n in (ONE_CPU + SCALE if vcpus == 1 else SCALE) if n in self.only)

    def native(self, vcpus):
        command = [self.program, "-f", self.image, "-n", str(vcpus), *self.names(vcpus).split()]
        out = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
        return {n: m._replace(wall=int(m.more[1]) / 1e9) for n, m in emulators.native_marks(out).items()}

    def under(self, emulator, vcpus):
        script = f"/probes -w -d -f /dev/vda -n {vcpus} {self.names(vcpus)}"
        return emulator.run(script, self.initrd, [*self.disk, "-smp", str(vcpus)])[0]

    def round(self, pair, turn):
        """{vcpus: {who: results}}"""
        result = {}
        for vcpus in VCPUS[::-1] if turn % 2 else VCPUS:
            if self.names(vcpus):
                result[vcpus] = {"native": self.native(vcpus)}
                for e in pair:
                    result[vcpus][e.name] = self.under(e, vcpus)
        return result


def summary(rounds):
    """The machine's rows, and per kind of work and number of vcpus wall and CPU seconds for one thread's work."""
    one = [r[1] for r in rounds if 1 in r]
    machine = {name: figures.row(probe, title, one, lambda m, value=value: value(m) if m and m.more else None)
               for name, (title, probe, value) in MEASURES.items() if any(probe in r["lodge"] for r in one)}
    scale, cpu = {}, {}
    for probe in SCALE:
        for vcpus in VCPUS:
            there = [r[vcpus] for r in rounds if vcpus in r and probe in r[vcpus]["lodge"]]
            if there:
                name = f"{probe[6:]}-{vcpus}"
                scale[name] = figures.row(probe, probe[6:], there,
                                          lambda m, n=vcpus: m.wall / n if m and m.wall else None)
                cpu[name] = figures.row(probe, probe[6:], there, lambda m, n=vcpus: m.cpu / n if m and m.cpu else None)
    return {"machine": machine, "scale": scale, "scale cpu": cpu}


def scaling(scale, name, who):
    """Throughput relative to one vcpu."""
    return figures.quotient(scale[name.split("-")[0] + "-1"][who], scale[name][who])


def markdown(result):
    num, machine, scale = figures.num, result["machine"], result["scale"]

    def marked(r):
        return figures.bold(r["speed"]) + ("" if r["same"] else " WRONG CHECKSUM")

    lines = [[r["group"], *(num(r[w], "{:.1f}") for w in figures.WHO), marked(r)] for r in machine.values()]
    text = figures.table(["machine", "native", "Lodge", "TCG", "TCG / Lodge"], lines) + [""]
    lines = [[name.split("-")[0], name.split("-")[1], *(num(r[w]) for w in figures.WHO),
              *(num(scaling(scale, name, w), "{:.2f}") for w in figures.WHO), marked(r)] for name, r in scale.items()]
    text += figures.table(["work", "vcpus, threads", "native s", "Lodge s", "TCG s", "native scales", "Lodge scales",
                           "TCG scales", "Lodge's throughput, TCG = 1"], lines) + [""]
    cpu = result["scale cpu"]
    lines = [[name.split("-")[0], name.split("-")[1], *(num(r[w]) for w in figures.WHO),
              *(num(scaling(cpu, name, w), "{:.2f}") for w in figures.WHO)] for name, r in cpu.items()]
    text += figures.table(["work", "vcpus, threads", "native CPU s", "Lodge CPU s", "TCG CPU s",
                           "native: CPU of one / this", "Lodge", "TCG"], lines)
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    emulators.add_arguments(parser, timeout=400)
    args = emulators.parse(parser, rounds=5)
    with tempfile.TemporaryDirectory() as work:
        probes = Probes(args, work)
        pair = [Emulator("lodge", args.lodge, args), Emulator("qemu", args.qemu, args)]
        rounds = []
        for r in range(args.rounds):
            print(f"round {r + 1} of {args.rounds}", file=sys.stderr)
            rounds.append(probes.round(pair[::-1] if r % 2 else pair, r // 2))
    result = {"about": dict(emulators.versions(args, RAM_MIB), vcpus=VCPUS, load=os.getloadavg()), **summary(rounds)}
    figures.write(result, markdown(result), args)
    figures.end(figures.wrong({**result["machine"], **result["scale"]}))


if __name__ == "__main__":
    main()
