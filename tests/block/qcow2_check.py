#!/usr/bin/env python3
"""Broken qcow2 images: what check counts, and that repairing makes them whole.

usage: qcow2_check.py LODGE-IMG [PART/PARTS] [NAME...]; oracle is an installed qemu-img, without one it skips.
PART/PARTS, such as 1/4, is every fourth case from the first on.
"""
import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qcow2_file import COMPRESSED, COPIED, OFF, Qcow2File  # noqa: E402
from qcow2_tools import Failed, must, run  # noqa: E402

KEYS = ("corruptions", "leaks", "check-errors", "image-end-offset", "total-clusters",
        "allocated-clusters", "fragmented-clusters", "compressed-clusters")
MB = 1 << 20


def io(path, *commands):
    args = ["qemu-io", "-f", "qcow2"]
    for c in commands:
        args += ["-c", c]
    must(*args, path)


def make(path, kind):
    """Base images. All have data at 0..1M, 2M (zero), compressed at 4M."""
    opts = {"plain": "", "v2": "compat=0.10", "small": "cluster_size=512", "big": "cluster_size=2M",
            "rc1": "refcount_bits=1", "rc64": "refcount_bits=64", "ext": "extended_l2=on",
            "snap": "", "bitmap": "", "lazy": "lazy_refcounts=on"}[kind]
    size = "16M" if kind in ("small",) else "64M"
    must("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", opts] if opts else []), path, size)
    io(path, "write -P 1 0 1M", "write -P 2 8M 200k")
    if kind != "v2":
        io(path, "write -z 0 64k", "write -z 2M 1M")
    if kind != "big":
        io(path, "write -c -P 3 4M 64k", "write -c -P 4 5M 64k")
    if kind == "snap":
        must("qemu-img", "snapshot", "-c", "one", path)
        io(path, "write -P 5 512k 100k")
        must("qemu-img", "snapshot", "-c", "two", path)
        io(path, "write -P 6 9M 100k")
    if kind == "bitmap":
        must("qemu-img", "bitmap", "--add", path, "b")
        io(path, "write -P 5 512k 100k")


# ---- Ways to break them; what does not apply changes nothing. ----

def data(q, guest=256 * 1024):
    return q.u64(q.l2_at(guest)) & OFF


def leak(q):
    q.d += bytes(q.cs)
    if q.clusters() > q.block_entries():
        return
    q.set_refcount(q.clusters() - 1, 1)


def refcount_zero(q):
    q.set_refcount(data(q) >> q.cluster_bits, 0)


def refcount_two(q):
    if q.order < 1:
        return
    q.set_refcount(data(q) >> q.cluster_bits, 2)


def l2_table_refcount_zero(q):
    q.set_refcount((q.u64(q.l1_at(0)) & OFF) >> q.cluster_bits, 0)


def header_refcount_zero(q):
    q.set_refcount(0, 0)


def l2_not_copied(q):
    at = q.l2_at(256 * 1024)
    q.put64(at, q.u64(at) & ~COPIED)


def l1_not_copied(q):
    q.put64(q.l1_at(0), q.u64(q.l1_at(0)) & ~COPIED)


def l2_misaligned(q):
    if q.cs == 512:
        return
    at = q.l2_at(256 * 1024)
    q.put64(at, q.u64(at) + 512)


def l2_outside(q):
    at = q.l2_at(256 * 1024)
    q.put64(at, COPIED | (q.clusters() + 1000) * q.cs)


def l2_at_end(q):
    at = q.l2_at(256 * 1024)
    q.put64(at, COPIED | q.clusters() * q.cs)


def l2_far_outside(q):
    at = q.l2_at(256 * 1024)
    q.put64(at, COPIED | (OFF & ~(q.cs - 1)))


def l2_reserved(q):
    at = q.l2_at(256 * 1024)
    q.put64(at, q.u64(at) | 1 << 57 | 4)


def l2_zeroed(q):
    q.put64(q.l2_at(256 * 1024), 0)


def l2_twice(q):
    q.put64(q.l2_at(256 * 1024), q.u64(q.l2_at(512 * 1024)))


def l2_to_header(q):
    """Offset 0 with COPIED."""
    q.put64(q.l2_at(256 * 1024), COPIED)


def l2_to_l1(q):
    q.put64(q.l2_at(256 * 1024), COPIED | q.l1_off)


def l2_to_itself(q):
    q.put64(q.l2_at(256 * 1024), q.u64(q.l1_at(0)))


def l2_to_refblock(q):
    q.put64(q.l2_at(256 * 1024), COPIED | q.refblock(0))


def l1_misaligned(q):
    if q.cs == 512:
        return
    q.put64(q.l1_at(0), q.u64(q.l1_at(0)) + 512)


def l1_outside(q):
    q.put64(q.l1_at(0), COPIED | (q.clusters() + 1000) * q.cs)


def l1_reserved(q):
    q.put64(q.l1_at(0), q.u64(q.l1_at(0)) | 1 << 57 | 4)


def l1_zeroed(q):
    q.put64(q.l1_at(0), 0)


def reftable_misaligned(q):
    if q.cs == 512:
        return
    q.put64(q.rt_off, q.u64(q.rt_off) + 512)


def reftable_outside(q):
    q.put64(q.rt_off, (q.clusters() + 1000) * q.cs)


def reftable_reserved(q):
    q.put64(q.rt_off, q.u64(q.rt_off) | 4)


def reftable_zeroed(q):
    q.put64(q.rt_off, 0)


def reftable_twice(q):
    at = q.rt_off + 8 * (1 if q.cs != 512 else 60)
    if q.u64(at):
        return
    q.put64(at, q.u64(q.rt_off))


def reftable_to_data(q):
    q.put64(q.rt_off, data(q))


def refblock_garbage(q):
    b = q.refblock(0)
    q.d[b : b + q.cs] = bytes(range(256)) * (q.cs // 256)


def compressed_copied(q):
    at = q.l2_at(4 * MB)
    if not q.u64(at) & COMPRESSED:
        return
    q.put64(at, q.u64(at) | COPIED)


def compressed_outside(q):
    at = q.l2_at(4 * MB)
    if not q.u64(at) & COMPRESSED:
        return
    q.put64(at, q.u64(at) + 4096 * q.cs)


def zero_misaligned(q):
    if q.version < 3 or q.ext or q.cs == 512:
        return
    q.put64(q.l2_at(256 * 1024), 1 | (data(q) + 512))


def zero_alloc(q):
    if q.version < 3 or q.ext:
        return
    q.put64(q.l2_at(256 * 1024), q.u64(q.l2_at(256 * 1024)) | 1)


def cut(q):
    del q.d[len(q.d) // 2 // q.cs * q.cs + 512 :]


def junk_behind(q):
    q.d += b"junk" * 100000


def dirty(q):
    if q.version < 3:
        return
    q.put64(72, q.incompat | 1)


def corrupt_mark(q):
    if q.version < 3:
        return
    q.put64(72, q.incompat | 2)


def subclusters_both(q):
    if not q.ext:
        return
    at = q.l2_at(256 * 1024)
    q.put64(at + 8, q.u64(at + 8) | 3 << 32)


def subclusters_without_cluster(q):
    if not q.ext:
        return
    q.put64(q.l2_at(40 * MB - q.cs) + 8, 3)


def snap_l1_misaligned(q):
    if not q.snap_count:
        return
    q.put64(q.snapshots()[0], q.u64(q.snapshots()[0]) + 512)


def snap_l1_outside(q):
    if not q.snap_count:
        return
    q.put64(q.snapshots()[0], (q.clusters() + 77) * q.cs)


def snap_l1_same(q):
    if not q.snap_count:
        return
    q.put64(q.snapshots()[0], q.u64(q.snapshots()[1]))


def snap_l2_entry(q):
    if not q.snap_count:
        return
    at = q.l2_at(512 * 1024, q.u64(q.snapshots()[0]))
    q.put64(at, 0)


def snap_short_extra(q):
    """As old programs wrote it: version 3, but without extra data."""
    if q.snap_count != 2:
        return
    at = q.snapshots()[1]
    q.put32(at + 36, 0)
    tail = bytes(q.d[at + 40 + 24 : at + 40 + 24 + 16])
    q.d[at + 40 : at + 40 + 16] = tail


def bitmap_table_outside(q):
    if q.version < 3 or not q.extension(0x23852875):
        return
    q.put64(q.bitmap_dir(), (q.clusters() + 5) * q.cs)


def bitmap_data_outside(q):
    if q.version < 3 or not q.extension(0x23852875):
        return
    q.put64(q.u64(q.bitmap_dir()), (q.clusters() + 5) * q.cs)


def bitmap_data_reserved(q):
    if q.version < 3 or not q.extension(0x23852875):
        return
    at = q.u64(q.bitmap_dir())
    q.put64(at, q.u64(at) | 1 << 60)


def nothing(q):
    pass


BREAKS = [v for v in list(globals().values()) if callable(v) and hasattr(v, "__code__")
          and v.__code__.co_argcount == 1 and v.__code__.co_varnames[0] == "q"]
# Where counts may differ from the oracle's.
DIFFERS = {
    "l1_misaligned",  # it reads the table all the same, we do not believe what is there
    "reftable_misaligned",  # it fails to read each count, we take them for zero
    "snap.cut",  # nor entries of a snapshot table that is not there
    "rc1.l2_to_refblock", "rc1.reftable_twice",  # it counts to 1 there, we to 2
}
# A count too high is a leak to us, whatever COPIED says: one reference is all there is, so that a write in place
# hurts nobody. Making and deleting snapshots pass through such states, and after a power cut there an image must
# not be called corrupt. The other program counts each such COPIED as one corruption.
HIGH_COUNTS = {"refcount_two", "reftable_to_data", "refblock_garbage"}


def same_figures(theirs, ours, brk):
    if brk.__name__ not in HIGH_COUNTS or "failed" in theirs or "failed" in ours:
        return theirs == ours
    return ours["corruptions"] <= theirs["corruptions"] and all(
        theirs[k] == ours[k] for k in KEYS if k != "corruptions")


def figures(tool, path, *more):
    p = run(tool, "check", "-f", "qcow2", "--output=json", *more, path)
    try:
        j = json.loads(p.stdout)
    except ValueError:
        return {"rc": p.returncode, "failed": p.stderr.strip()[:200] or "no output"}
    out = {k: j.get(k, 0) for k in KEYS}
    out["rc"] = p.returncode
    return out


def one(tool, base, name, brk, tmp):
    path = os.path.join(tmp, "t.qcow2")
    shutil.copy(base, path)
    q = Qcow2File(path)
    try:
        brk(q)
    except (AssertionError, Failed):
        return None
    if not changed(q, path) and brk is not nothing:
        return None  # does not apply to this kind
    q.save()
    theirs, ours = figures("qemu-img", path), figures(tool, path)
    bad = []
    differs = name in DIFFERS or brk.__name__ in DIFFERS or "failed" in theirs
    if not differs and not same_figures(theirs, ours, brk):
        bad.append("count: " + " ".join(
            "%s %s/%s" % (k, theirs.get(k), ours.get(k)) for k in sorted(set(theirs) | set(ours))
            if theirs.get(k) != ours.get(k)))
    ref = os.path.join(tmp, "ref.qcow2")
    shutil.copy(path, ref)
    run("qemu-img", "check", "-q", "-f", "qcow2", "-r", "all", ref)
    run(tool, "check", "-q", "-f", "qcow2", "-r", "all", path)
    ref_left, left = figures("qemu-img", ref), figures("qemu-img", path)
    mine = figures(tool, path)
    if left["rc"] not in (0, ref_left["rc"]):
        bad.append("repair: %s (theirs %s)" % (left, ref_left))
    if "failed" in left:
        return bad
    if left.get("corruptions") != mine.get("corruptions") or left.get("leaks") != mine.get("leaks"):
        bad.append("after repair: theirs sees %s ours %s" % (left, mine))
    return bad


def changed(q, path):
    with open(path, "rb") as f:
        return f.read() != bytes(q.d)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        sys.exit(77)
    tool, only, failed, count, drawn = sys.argv[1], sys.argv[2:], 0, 0, 0
    part, parts = map(int, only.pop(0).split("/")) if only and "/" in only[0] else (1, 1)
    with tempfile.TemporaryDirectory() as tmp:
        for kind in ("plain", "v2", "small", "big", "rc1", "rc64", "ext", "snap", "bitmap", "lazy"):
            base = os.path.join(tmp, kind)
            make(base, kind)
            for brk in BREAKS:
                name = kind + "." + brk.__name__
                if only and not any(o in name for o in only):
                    continue
                drawn += 1
                if drawn % parts != part % parts:
                    continue
                bad = one(tool, base, name, brk, tmp)
                if bad is None:
                    continue
                count += 1
                failed += bool(bad)
                for b in bad:
                    print(name + ": " + b)
    print("qcow2 check: %d broken images, %d wrong" % (count, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
