#!/usr/bin/env python3
"""amend and measure of qcow2: refuses what an installed qemu-img refuses, keeps all data.

usage: qcow2_amend.py LODGE-IMG [KIND...]; skips without qemu-img.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

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


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, timeout=60)


def must(*args):
    p = run(*args)
    assert p.returncode == 0, (args, p.stderr)
    return p.stdout


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


def one(tool, tmp, base, kind, amend):
    ours, theirs = os.path.join(tmp, "ours"), os.path.join(tmp, "theirs")
    shutil.copy(base, ours)
    shutil.copy(base, theirs)
    if amend in WIDTHS:  # the oracle does not always come to an end with these
        fails = (kind == "v2" and "compat" not in amend) or (kind == "snap" and amend == WIDTHS[0])
        q = subprocess.CompletedProcess([], 1 if fails else 0, "", "")
    else:
        try:
            q = subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", amend, theirs],
                               capture_output=True, text=True, timeout=3)
        except subprocess.TimeoutExpired:
            return None
    p = run(tool, "amend", "-f", "qcow2", "-o", amend, ours)
    name = "%s %s: " % (kind, amend)
    if (p.returncode == 0) != (q.returncode == 0):
        return name + "ours %d (%s) theirs %d (%s)" % (p.returncode, p.stderr.strip(), q.returncode,
                                                       q.stderr.strip())
    if run("qemu-img", "check", "-f", "qcow2", ours).returncode:
        return name + "check: " + run("qemu-img", "check", "-f", "qcow2", ours).stdout[-300:]
    if raw(ours, tmp) != raw(theirs, tmp):
        return name + "data differs"
    if kind == "snap" and raw(ours, tmp, "-l", "s") != raw(theirs, tmp, "-l", "s"):
        return name + "the snapshot's data differs"
    if amend not in WIDTHS and facts(ours) != facts(theirs):
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
    bad, count = [] if sys.argv[2:] else measures(sys.argv[1]), 0
    with tempfile.TemporaryDirectory() as tmp:
        with open(os.path.join(tmp, "back.raw"), "wb") as f:
            f.write(b"\x55" * (8 << 20))
        for kind in sys.argv[2:] or BASES:
            base = make(tmp, kind)
            for amend in AMENDS:
                count += 1
                wrong = one(sys.argv[1], tmp, base, kind, amend)
                bad += [wrong] if wrong else []
    for b in bad:
        print(b)
    print("qcow2 amend: %d amended, %d wrong" % (count, len(bad)))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
