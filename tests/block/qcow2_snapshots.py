#!/usr/bin/env python3
"""Internal snapshots, made, applied and deleted in turn by us and by an installed qemu-img.

usage: qcow2_snapshots.py LODGE-IMG [SEED [STEPS]]; skips without qemu-img.
"""
import os
import random
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qcow2_tools import Failed, must, run  # noqa: E402

MB = 1 << 20
KINDS = {
    "plain": "", "v2": "compat=0.10", "small": "cluster_size=512", "rc64": "refcount_bits=64",
    "rc8": "refcount_bits=8", "ext": "extended_l2=on,cluster_size=16k", "c4k": "cluster_size=4k",
    "lazy": "lazy_refcounts=on",
}


class Disk:
    def __init__(self, tool, path, opts, rnd):
        self.tool, self.path, self.rnd = tool, path, rnd
        self.size = 2 * MB
        must("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", opts] if opts else []), path,
             str(self.size))
        self.data = bytearray(self.size)
        self.snaps = {}
        self.names = 0

    def either(self):
        return self.rnd.choice(["qemu-img", self.tool])

    def write(self):
        off = self.rnd.randrange(0, self.size // 512) * 512
        n = min(self.rnd.choice([512, 4096, 65536, 300 * 1024]), self.size - off)
        kind = self.rnd.choice(["write -P", "write -P", "write -z", "discard", "write -c -P"])
        value = self.rnd.randrange(1, 255)
        if kind == "write -c -P":
            off, n = off // 65536 * 65536, 65536
            n = min(n, self.size - off)
        if kind == "discard":  # what it leaves is not said: write zeros instead
            kind, value = "write -z -u", 0
        if kind == "write -z":
            value = 0
        text = "%s %s %d %d" % (kind, value, off, n) if kind.endswith("P") else "%s %d %d" % (
            kind, off, n)
        out = must("qemu-io", "-f", "qcow2", "-c", text, self.path)
        if "wrote" in out:
            self.data[off : off + n] = bytes([value]) * n

    def create(self):
        self.names += 1
        name = "s%d" % self.names
        must(self.either(), "snapshot", "-c", name, self.path)
        self.snaps[name] = bytes(self.data)

    def apply(self):
        if self.snaps:
            name = self.rnd.choice(sorted(self.snaps))
            must(self.either(), "snapshot", "-a", name, self.path)
            self.data = bytearray(self.snaps[name])
            self.size = len(self.data)

    def delete(self):
        if self.snaps:
            name = self.rnd.choice(sorted(self.snaps))
            must(self.either(), "snapshot", "-d", name, self.path)
            del self.snaps[name]

    def resize(self):
        if self.rnd.random() < 0.5 and not self.path.endswith("v2"):
            size = self.rnd.choice([1, 2, 3, 4]) * MB
            must("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", self.path, str(size))
            self.data = (self.data + bytes(size))[:size]
            self.size = size

    def check(self):
        for tool in ("qemu-img", self.tool):
            p = run(tool, "check", "-f", "qcow2", self.path)
            if p.returncode != 0:
                raise Failed("%s check: %s%s" % (tool, p.stdout[-600:], p.stderr[-600:]))

    def compare(self, wanted, *which):
        raw = self.path + ".raw"
        must("qemu-img", "convert", "-f", "qcow2", *which, "-O", "raw", self.path, raw)
        with open(raw, "rb") as f:
            have = f.read()
            n = min(len(have), len(wanted)) if which else len(wanted)  # shown with today's size
            if have[:n] != bytes(wanted[:n]):
                raise Failed("data differs" + str(which))

    def compare_all(self):
        self.compare(self.data)
        for name, data in self.snaps.items():
            self.compare(data, "-l", "snapshot.name=" + name)


def one(tool, kind, opts, seed, steps, tmp):
    rnd = random.Random(seed)
    d = Disk(tool, os.path.join(tmp, kind), opts, rnd)
    log = []
    try:
        for _ in range(steps):
            op = rnd.choice([d.write, d.write, d.write, d.create, d.apply, d.delete, d.resize])
            log.append(op.__name__)
            op()
            d.check()
            d.compare(d.data)
        d.compare_all()
    except Failed as e:
        print("%s seed %d after %s: %s" % (kind, seed, " ".join(log), e))
        return 1
    return 0


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        sys.exit(77)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 25
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for kind, opts in KINDS.items():
            failed += one(sys.argv[1], kind, opts, seed, steps, tmp)
    print("qcow2 snapshots: %d kinds, %d wrong" % (len(KINDS), failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
