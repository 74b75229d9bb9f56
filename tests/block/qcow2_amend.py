#!/usr/bin/env python3
"""amend and measure of qcow2: refuses what an installed qemu-img refuses, keeps all data.

usage: qcow2_amend.py LODGE-IMG [PART/PARTS] [KIND...]; skips without qemu-img.
PART/PARTS, such as 1/4, is every fourth case from the first on.
"""
import filecmp
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qcow2_tools import must, run  # noqa: E402

BASES = {
    "plain": ("", False), "v2": ("compat=0.10", False), "rc1": ("refcount_bits=1", False),
    "ext": ("extended_l2=on", False), "lazy": ("lazy_refcounts=on", False),
    "zeros": ("", False), "backed": ("", True), "snap": ("", True), "small": ("cluster_size=512", True),
    "full": ("preallocation=full", False),
}
AMENDS = [
    "compat=0.10", "compat=1.1", "compat=0.9", "compat=v3,lazy_refcounts=on", "lazy_refcounts=on",
    "lazy_refcounts=off", "lazy_refcounts=on,compat=0.10", "refcount_bits=1", "refcount_bits=2",
    "refcount_bits=8", "refcount_bits=64", "refcount_bits=3", "refcount_bits=128",
    "compat=0.10,refcount_bits=16", "compat=1.1,refcount_bits=32", "size=5M", "size=9M", "size=20M",
    "size=5000001", "data_file=x", "data_file_raw=on", "backing_file=none.raw", "backing_fmt=raw",
    "cluster_size=4096", "compression_type=zstd", "encrypt.state=active", "foo=1",
    "compat=0.10,size=12M", "encrypt.keyslot=1",
]

WIDTHS = ["refcount_bits=1", "refcount_bits=2", "refcount_bits=8", "refcount_bits=64",
          "compat=1.1,refcount_bits=32"]


def make(tmp, kind):
    path, (opts, backed) = os.path.join(tmp, kind), BASES[kind]
    args = ["-o", opts] if opts else []
    if backed:
        args += ["-b", os.path.join(tmp, "back.raw"), "-F", "raw"]
    must("qemu-img", "create", "-q", "-f", "qcow2", *args, path, "8M")
    zeros = [] if kind == "v2" else ["-c", "write -z 0 64k", "-c", "write -z -u 2M 100k"]
    must("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 200k", "-c", "write -P 2 4M 1M", *zeros,
         *([] if kind == "full" else ["-c", "write -c -P 3 6M 64k"]), path)
    if kind == "snap":
        must("qemu-img", "snapshot", "-c", "s", path)
        must("qemu-io", "-f", "qcow2", "-c", "write -P 7 4M 10k", "-c", "write -z 7M 100k", path)
    return path


def raw(path, tmp, *more):
    out = os.path.join(tmp, "out.raw")
    must("qemu-img", "convert", "-f", "qcow2", *more, "-O", "raw", path, out)
    with open(out, "rb") as f:
        return f.read()


def facts(path):
    j = json.loads(must("qemu-img", "info", "--output=json", path))
    d = j["format-specific"]["data"]
    return (j["virtual-size"], d["compat"], d.get("refcount-bits"), d.get("lazy-refcounts"))


class Base:
    """An image to amend, and what it holds."""

    def __init__(self, tmp, kind):
        self.kind, self.path = kind, make(tmp, kind)
        self.raw = raw(self.path, tmp)
        self.snap = raw(self.path, tmp, "-l", "s") if kind == "snap" else None

    def fails(self, width):
        """What the other program would say to another width; it does not always come to an end."""
        narrow = width in WIDTHS[:2]
        return ((self.kind == "v2" and "compat" not in width) or (self.kind == "snap" and width == WIDTHS[0])
                or (self.kind == "small" and narrow))  # there 64 compressed clusters share one of the file


def theirs_amended(base, amend, path):
    """Its status; None if it did not come to an end."""
    if amend in WIDTHS:
        return int(base.fails(amend))
    shutil.copy(base.path, path)
    try:
        return subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", amend, path], capture_output=True,
                              timeout=10).returncode
    except subprocess.TimeoutExpired:
        return None


def same_data(have, want):
    n = min(len(have), len(want))
    return have[:n] == want[:n] and not any(have[n:])


def one(tool, tmp, base, amend):
    ours, theirs = os.path.join(tmp, "ours"), os.path.join(tmp, "theirs")
    shutil.copy(base.path, ours)
    status = theirs_amended(base, amend, theirs)
    if status is None:
        return None
    p = run(tool, "amend", "-f", "qcow2", "-o", amend, ours)
    name = "%s %s: " % (base.kind, amend)
    if amend == "lazy_refcounts=on,compat=0.10":  # qemu-img says yes and leaves them off: we say no
        return None if p.returncode else name + "accepted"
    if (p.returncode == 0) != (status == 0):
        return name + "ours %d (%s) theirs %d" % (p.returncode, p.stderr.strip(), status)
    check = run("qemu-img", "check", "-f", "qcow2", ours)
    if check.returncode:
        return name + "check: " + check.stdout[-300:]
    if status and filecmp.cmp(ours, base.path, shallow=False):
        return None  # refused, and nothing has happened
    if not same_data(raw(ours, tmp), base.raw):
        return name + "data differs"
    if base.snap:
        there = raw(ours, tmp, "-l", "s")
        short = min(len(there), len(base.snap))  # qemu-img reads no more than the disk has now
        if there[:short] != base.snap[:short]:
            return name + "the snapshot's data differs"
    if amend not in WIDTHS and not status and facts(ours) != facts(theirs):
        return name + "%s, theirs %s" % (facts(ours), facts(theirs))
    return None


def measures(tool):
    """Without an image: sizes alone."""
    rnd, bad = random.Random(5), []
    for cluster in ("512", "4k", "64k", "2M"):
        for bits in ("1", "16", "64"):
            for size in (0, 512, 1 << 20, (1 << 30) + 512, 1 << 36, rnd.randrange(1 << 29) * 512):
                args = ("measure", "--output=json", "-O", "qcow2", "--size", str(size), "-o",
                        "cluster_size=%s,refcount_bits=%s" % (cluster, bits))
                p, q = run("qemu-img", *args), run(tool, *args)
                if p.returncode != q.returncode or (p.stdout and
                                                    json.loads(p.stdout) != json.loads(q.stdout)):
                    bad.append("%s: %s, theirs %s" % (args, q.stdout, p.stdout))
    return bad


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        sys.exit(77)
    kinds = sys.argv[2:]
    part, parts = map(int, kinds.pop(0).split("/")) if kinds and "/" in kinds[0] else (1, 1)
    bad, count = measures(sys.argv[1]) if not kinds and part == 1 else [], 0
    with tempfile.TemporaryDirectory() as tmp:
        with open(os.path.join(tmp, "back.raw"), "wb") as f:
            f.write(b"\x55" * (8 << 20))
        for base in [Base(tmp, kind) for kind in kinds or BASES]:
            for amend in AMENDS:
                count += 1
                wrong = one(sys.argv[1], tmp, base, amend) if count % parts == part % parts else None
                bad += [wrong] if wrong else []
    for b in bad:
        print(b)
    print("qcow2 amend: %d amended, %d wrong" % (count // parts, len(bad)))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
