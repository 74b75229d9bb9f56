#!/usr/bin/env python3
"""Measures Lodge beside QEMU's TCG: the same guest under both, alternately, by process CPU time.

usage: run.py [--quick] [--rounds N] [--only NAME,...] [--lodge FILE] [--qemu FILE] [--guest DIR]
              [--qemu-cpu best|max|qemu64] [--json FILE] [--markdown FILE] [--gate FILE]

The guest (tools/guest.py makes it) runs the kernels of bench/kernels. At each mark the guest waits
for a line, so that the emulator stands still while its CPU clock (all threads) is read. The native
column is the same program run directly. What is compared is medians, their ratio, and geometric
means of the ratios per group; wall time is used only for exec to guest exit. --gate fails when a
group's geometric mean is more than 10 % under that of a stored result.
"""
import argparse
import base64
import gzip
import json
import math
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RAM_MIB = 512
# Both emulators pass the host's TSC through. On a loaded host the kernel's calibration of it fails under
# TCG and the boot stands still, so the kernel is told.
TSC_KHZ = int(float([l for l in open("/proc/cpuinfo") if l.startswith("cpu MHz")][0].split(":")[1]) * 1000)
APPEND = f"console=ttyS0 quiet mitigations=off tsc_early_khz={TSC_KHZ}"
QUICK = ["sha256", "hash", "interp-switch", "virtual", "memcpy-8m", "strlen", "nbody", "x87", "saxpy-sse",
         "getppid", "page-fault", "fork-exec", "jit-rewrite"]


def build_kernels(out):
    sources = sorted(f"{HERE}/kernels/{f}" for f in os.listdir(f"{HERE}/kernels") if f.endswith(".c"))
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-static", "-ffp-contract=off", "-o", out] + sources + ["-lm"],
                   check=True)


def cpio_entry(name, mode, data):
    head = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    text = b"070701" + b"".join(b"%08x" % n for n in head) + name.encode() + b"\0"
    return text + b"\0" * (-len(text) % 4) + data + b"\0" * (-len(data) % 4)


def make_initrd(guest, kernels, out):
    """The test guest's initramfs with the kernels after it (the kernel unpacks one after the other)."""
    more = cpio_entry("kernels", 0o100755, open(kernels, "rb").read()) + cpio_entry("TRAILER!!!", 0, b"")
    data = open(f"{guest}/initrd.gz", "rb").read()
    open(out, "wb").write(data + b"\0" * (-len(data) % 4) + gzip.compress(more, 1))


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


def cpu_seconds(pid):
    return time.clock_gettime((~pid << 3) | 2)  # the process's clock: all its threads, those ended too


def own_memory(pid):
    """Pss of everything but guest RAM, MiB."""
    total, ram, size = 0, 0, 0
    for line in open(f"/proc/{pid}/smaps"):
        if line.startswith("Size:"):
            size = int(line.split()[1])
        elif line.startswith("Pss:"):
            pss = int(line.split()[1])
            total += pss
            ram += pss if size == RAM_MIB * 1024 else 0
    return (total - ram) / 1024 if ram else None


class Emulator:
    def __init__(self, name, binary, cpu, guest, work):
        self.name, self.binary, self.cpu, self.guest, self.work = name, binary, cpu, guest, work

    def command(self, kernel, script, more=()):
        args = [self.binary, "-accel", "tcg", "-M", "microvm", "-cpu", self.cpu, "-m", f"{RAM_MIB}M",
                "-kernel", kernel, "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        if self.name == "lodge":
            args = [a for i, a in enumerate(args) if a != "-monitor" and args[i - 1] != "-monitor"]
        if script is not None:
            args += ["-initrd", f"{self.work}/initrd.gz",
                     "-append", APPEND + " lodge.run=" + base64.b64encode(script.encode()).decode()]
        return args + list(more)

    def boot(self, kernel):
        """CPU seconds from launch to power-off."""
        p = subprocess.Popen(self.command(f"{self.guest}/{kernel}", "poweroff -f; sleep 100"),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out = p.stdout.read()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = status
        if status != 0 or b"Power down" not in out:
            print(f"{self.name}: boot of {kernel} ends with status {status}: {out[-300:]}", file=sys.stderr)
            return None
        return usage.ru_utime + usage.ru_stime

    def exit_ms(self):
        start = time.perf_counter()
        subprocess.run(self.command(f"{self.work}/exit.elf", None), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
        return (time.perf_counter() - start) * 1000

    def kernels(self, names, timeout):
        """For each kernel (CPU seconds, checksum), and own memory at the first mark."""
        script = f"/kernels -w {' '.join(names)} && poweroff -f; sleep 100"
        return follow(self.command(f"{self.guest}/vmlinux", script), timeout)


def follow(command, timeout):
    """Runs a guest with kernels -w in it, answering its marks."""
    p = subprocess.Popen(["timeout", "--foreground", str(timeout)] + command, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    results, memory, pid, start, running, log = {}, None, None, 0, None, []
    for line in p.stdout:
        log.append(line.decode("utf-8", "replace").strip())
        words = line.decode("utf-8", "replace").split()
        if words[:2] == ["MARK", "begin"]:
            if pid is None:
                pid = int(open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()[0])
                memory = own_memory(pid)
            time.sleep(0.02)
            running, start = words[2], cpu_seconds(pid)
            p.stdin.write(b"\n")
            p.stdin.flush()
        elif words[:2] == ["MARK", "end"]:
            results[words[2]] = (cpu_seconds(pid) - start, words[3])
            print(f"  {words[2]} {results[words[2]][0]:.3f}", file=sys.stderr)
            running = None
    status = p.wait()
    if status or running:
        print(f"{os.path.basename(command[0])}: status {status} in {running}: {log[-4:]}", file=sys.stderr)
        if running:
            results[running] = (None, "hangs" if status == 124 else "fails")
    return results, memory


def native(kernels, names):
    out = subprocess.run([kernels] + names, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    lines = [l.split() for l in out.stdout.splitlines() if l.startswith("MARK end")]
    return {w[2]: (int(w[4]) / 1e6, w[3]) for w in lines}


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def geometric(values):
    values = [v for v in values if v]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def choose_cpu(args, work, names):
    """The CPU model with which QEMU is faster over the kernels that both can run."""
    if args.qemu_cpu != "best":
        return args.qemu_cpu, None
    times = {}
    for cpu in ("max", "qemu64"):
        times[cpu] = Emulator("qemu", args.qemu, cpu, args.guest, work).kernels(names, args.timeout)[0]
    shared = [k for k in times["qemu64"] if times["max"].get(k)]
    ratio = geometric([times["qemu64"][k][0] / times["max"][k][0] for k in shared])
    return ("max" if ratio >= 1 else "qemu64"), ratio


def measure(args, work):
    kernels = f"{work}/kernels"
    build_kernels(kernels)
    make_initrd(args.guest, kernels, f"{work}/initrd.gz")
    make_exit_elf(f"{work}/exit.elf")
    group_of = dict(reversed(l.split()) for l in
                    subprocess.run([kernels, "-l"], capture_output=True, text=True).stdout.splitlines()
                    if not l.startswith("MARK"))
    names = args.only.split(",") if args.only else QUICK if args.quick else []
    cpu, cpu_ratio = choose_cpu(args, work, names)
    pair = [Emulator("lodge", args.lodge, "max", args.guest, work), Emulator("qemu", args.qemu, cpu, args.guest, work)]
    runs = {"native": [], "lodge": [], "qemu": []}
    machine = {"boot-elf": {}, "boot-bzimage": {}, "exit-ms": {}, "memory-mib": {}}

    def note(what, emulator, value):
        machine[what].setdefault(emulator.name, []).append(value)

    for r in range(args.rounds):
        print(f"round {r + 1} of {args.rounds}", file=sys.stderr)
        runs["native"].append(native(kernels, names))
        for e in pair[::-1] if r % 2 else pair:
            results, memory = e.kernels(names, args.timeout)
            runs[e.name].append(results)
            note("memory-mib", e, memory)
        for e in pair * (1 if args.quick else 2) if not args.only else []:
            note("boot-elf", e, e.boot("vmlinux"))
            note("boot-bzimage", e, e.boot("vmlinuz"))
    for _ in range(0 if args.only else 10 if args.quick else 50):
        for e in pair:
            note("exit-ms", e, e.exit_ms())
    return summary(runs, machine, group_of, {"qemu cpu": cpu, "qemu64/max time": cpu_ratio})


def summary(runs, machine, group_of, about):
    result = {"about": about, "kernels": {}, "groups": {}, "machine": {}}
    for name, group in group_of.items():
        row = {"group": group}
        sums = set()
        for who, rounds in runs.items():
            row[who] = median([r[name][0] for r in rounds if name in r])
            sums |= {r[name][1] for r in rounds if name in r}
        if any(name in r for r in runs["lodge"] + runs["qemu"]):
            row["same"] = len(sums) == 1
            row["speed"] = row["qemu"] / row["lodge"] if row["qemu"] and row["lodge"] else None
            result["kernels"][name] = row
    for group in dict.fromkeys(group_of.values()):
        rows = [k for k in result["kernels"].values() if k["group"] == group]
        result["groups"][group] = {
            "speed": geometric([k["speed"] for k in rows]),
            "lodge/native": geometric([k["lodge"] / k["native"] for k in rows if k["lodge"] and k["native"]]),
            "qemu/native": geometric([k["qemu"] / k["native"] for k in rows if k["qemu"] and k["native"]])}
    result["groups"]["all"] = {"speed": geometric([k["speed"] for k in result["kernels"].values()])}
    for what, values in machine.items():
        row = {who: median(v) for who, v in values.items()}
        if row.get("lodge") and row.get("qemu"):
            row["speed"] = row["qemu"] / row["lodge"]
        if row:
            result["machine"][what] = row
    return result


def markdown(result):
    def num(v, form="{:.3f}"):
        return form.format(v) if v is not None else "-"

    lines = ["| kernel | group | native s | Lodge s | TCG s | Lodge / native | TCG / native | Lodge's speed, TCG = 1 |",
             "|---|---|---|---|---|---|---|---|"]
    for name, k in result["kernels"].items():
        base = k["native"]
        lodge, tcg = (k[w] / base if k[w] and base else None for w in ("lodge", "qemu"))
        lines.append(f"| {name} | {k['group']} | {num(base)} | {num(k['lodge'])} | {num(k['qemu'])} | "
                     f"{num(lodge, '{:.1f}')} | {num(tcg, '{:.1f}')} | {num(k['speed'], '**{:.2f}**')}"
                     f"{'' if k['same'] else ' WRONG CHECKSUM'} |")
    lines += ["", "| geometric mean | Lodge / native | TCG / native | Lodge's speed, TCG = 1 |", "|---|---|---|---|"]
    for group, g in result["groups"].items():
        lines.append(f"| {group} | {num(g.get('lodge/native'), '{:.1f}')} | {num(g.get('qemu/native'), '{:.1f}')} | "
                     f"{num(g['speed'], '**{:.2f}**')} |")
    lines += ["", "| machine | Lodge | TCG | TCG / Lodge |", "|---|---|---|---|"]
    titles = {"boot-elf": "boot to power-off, ELF kernel, CPU s", "boot-bzimage": "the same, bzImage, CPU s",
              "exit-ms": "exec to the guest's exit, wall ms", "memory-mib": "own memory at init, MiB"}
    for what, m in result["machine"].items():
        lines.append(f"| {titles[what]} | {num(m.get('lodge'), '{:.2f}')} | {num(m.get('qemu'), '{:.2f}')} | "
                     f"{num(m.get('speed'), '**{:.2f}**')} |")
    return "\n".join(lines) + "\n"


def versions(args):
    def first_line(command):
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]

    cpu = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    return {"lodge": first_line([args.lodge, "-version"]), "qemu": first_line([args.qemu, "-version"]),
            "host": f"{cpu[0] if cpu else '?'}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            "gcc": first_line(["gcc", "--version"]), "rounds": args.rounds, "ram MiB": RAM_MIB, "append": APPEND}


def gate(result, stored):
    """Groups whose mean fell against the stored result, over the kernels both have."""
    bad = []
    for group in result["groups"]:
        both = [(k["speed"], stored["kernels"][n]["speed"]) for n, k in result["kernels"].items()
                if n in stored["kernels"] and group in (k["group"], "all") and k["speed"]
                and stored["kernels"][n]["speed"]]
        now, then = geometric([b[0] for b in both]), geometric([b[1] for b in both])
        if both and now < 0.9 * then:
            bad.append(f"{group}: {now:.2f}, was {then:.2f}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--lodge", default=f"{HERE}/../build/lodge")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--qemu-cpu", default="max")
    parser.add_argument("--guest", default=f"{HERE}/../guest")
    parser.add_argument("--timeout", type=int, default=400)
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--gate")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 5)
    if not os.path.exists(f"{args.guest}/initrd.gz"):
        sys.exit("no guest: run tools/guest.py first")
    with tempfile.TemporaryDirectory() as work:
        result = measure(args, work)
    result["about"].update(versions(args))
    text = markdown(result)
    print(text)
    for path, data in ((args.json, json.dumps(result, indent=1) + "\n"), (args.markdown, text)):
        if path:
            open(path, "w").write(data)
    wrong = [n for n, k in result["kernels"].items() if not k["same"] or k["speed"] is None]
    fallen = gate(result, json.load(open(args.gate))) if args.gate else []
    if wrong or fallen:
        sys.exit("wrong or missing: " + ", ".join(wrong) if wrong else "fallen: " + "; ".join(fallen))


main()
