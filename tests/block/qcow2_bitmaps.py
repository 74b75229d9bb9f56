#!/usr/bin/env python3
"""Persistent dirty bitmaps, kept in turn by us and by installed qemu-img and qemu-io.

usage: qcow2_bitmaps.py LODGE-IMG [SEED [STEPS]]; skips without qemu-img.
"""
import json
import os
import random
import shutil
import struct
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qcow2_file import OFF, Qcow2File  # noqa: E402
from qcow2_tools import Failed, must, run  # noqa: E402

MB = 1 << 20
KINDS = {"plain": ("", 16 * MB), "small": ("cluster_size=512", 16 * MB),
         "odd": ("", 10 * MB + 512 * 7), "ext": ("extended_l2=on,cluster_size=16k", 16 * MB)}


def stored(path):
    """name -> (granularity, auto, in_use, set of dirty bits), as the file says."""
    q = Qcow2File(path)
    out, ext = {}, q.extension(0x23852875)
    if ext is None:
        return out
    assert struct.unpack_from(">Q", q.d, 88)[0] & 1, "the autoclear bit is not set"
    at = q.u64(ext + 16)
    for _ in range(q.u32(ext)):
        table, size, flags = q.u64(at), q.u32(at + 8), q.u32(at + 12)
        bits, names, extra = q.d[at + 17], struct.unpack_from(">H", q.d, at + 18)[0], q.u32(at + 20)
        name = bytes(q.d[at + 24 + extra : at + 24 + extra + names]).decode()
        data = b""
        for i in range(size):
            e = q.u64(table + 8 * i)
            data += bytes(q.d[e & OFF : (e & OFF) + q.cs]) if e & OFF else (
                b"\xff" if e & 1 else b"\0") * q.cs
        n = (q.size + (1 << bits) - 1) >> bits
        dirty = {i for i in range(len(data) * 8) if data[i // 8] >> (i % 8) & 1} \
            if any(data) else set()
        if len([i for i in dirty if i >= n]) and size * q.cs * 8 != n and not all(
                i < (n + q.cs * 8 - 1) // (q.cs * 8) * q.cs * 8 for i in dirty):
            raise Failed("bits behind the end")
        out[name] = (1 << bits, bool(flags & 2), bool(flags & 1), {i for i in dirty if i < n})
        at += (24 + extra + names + 7) & ~7
    return out


class Image:
    def __init__(self, tool, path, opts, size, rnd):
        self.tool, self.path, self.rnd, self.size = tool, path, rnd, size
        must("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", opts] if opts else []), path,
             str(size))
        self.maps, self.names = {}, 0  # name -> [granularity, enabled, set]

    def either(self):
        return self.rnd.choice(["qemu-img", self.tool])

    def add(self):
        self.names += 1
        name, g = "map%d" % self.names, self.rnd.choice([512, 4096, 65536, 1 << 20])
        on = self.rnd.random() < 0.7
        must(self.either(), "bitmap", "--add", *([] if on else ["--disable"]), "-g", str(g), "-f",
             "qcow2", self.path, name)
        self.maps[name] = [g, on, set()]

    def some(self):
        return self.rnd.choice(sorted(self.maps)) if self.maps else None

    def change(self):
        name, op = self.some(), self.rnd.choice(["remove", "clear", "enable", "disable"])
        if not name:
            return
        must(self.either(), "bitmap", "--" + op, "-f", "qcow2", self.path, name)
        if op == "remove":
            del self.maps[name]
        elif op == "clear":
            self.maps[name][2] = set()
        else:
            self.maps[name][1] = op == "enable"

    def merge(self):
        a, b = self.some(), self.some()
        if not a or a == b:
            return
        must(self.either(), "bitmap", "--merge", a, "-f", "qcow2", self.path, b)
        ga, gb = self.maps[a][0], self.maps[b][0]
        for i in self.maps[a][2]:
            end = min((i + 1) * ga, self.size)
            self.maps[b][2] |= set(range(i * ga // gb, (end - 1) // gb + 1))

    def write(self):
        off = self.rnd.randrange(0, self.size // 512) * 512
        n = min(self.rnd.choice([512, 8192, 500 * 1024]), self.size - off)
        if self.rnd.random() < 0.1:
            off, n = 0, self.size
        must("qemu-io", "-f", "qcow2", "-c", "write -P 3 %d %d" % (off, n), self.path)
        for g, on, dirty in self.maps.values():
            if on:
                dirty |= set(range(off // g, (off + n - 1) // g + 1))

    def check(self):
        for tool in ("qemu-img", self.tool):
            p = run(tool, "check", "-f", "qcow2", self.path)
            if p.returncode != 0:
                raise Failed("%s check: %s%s" % (tool, p.stdout[-600:], p.stderr[-600:]))
        want = {k: (g, on, False, d) for k, (g, on, d) in self.maps.items()}
        have = stored(self.path)
        if have != want:
            for k in sorted(set(have) | set(want)):
                h, w = have.get(k), want.get(k)
                if h != w:
                    raise Failed("bitmap %s: %s, want %s" % (
                        k, h and h[:3] + (len(h[3]),), w and w[:3] + (len(w[3]),)))


def random_ops(tool, kind, seed, steps, tmp):
    rnd = random.Random(seed)
    opts, size = KINDS[kind]
    im, log = Image(tool, os.path.join(tmp, kind), opts, size, rnd), []
    try:
        for _ in range(steps):
            op = rnd.choice([im.write, im.write, im.add, im.change, im.merge])
            log.append(op.__name__)
            op()
            im.check()
    except Failed as e:
        print("%s seed %d after %s: %s" % (kind, seed, " ".join(log), e))
        return 1
    return 0


def expect(what, ok):
    if not ok:
        print("wrong: " + what)
    return 0 if ok else 1


def inconsistent(tool, tmp):
    """Found in use: listed so, only to be removed. Without the autoclear bit: gone."""
    path, bad = os.path.join(tmp, "inc"), 0
    must("qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
    must(tool, "bitmap", "--add", "-f", "qcow2", path, "a")
    must(tool, "bitmap", "--add", "-f", "qcow2", path, "b")
    q = Qcow2File(path)
    q.d[q.bitmap_dir() + 15] |= 1
    q.save()
    for op in ("clear", "enable", "disable", "add"):
        bad += expect(op + " of an inconsistent one",
                      run(tool, "bitmap", "--" + op, "-f", "qcow2", path, "a").returncode == 1)
    must(tool, "bitmap", "--clear", "-f", "qcow2", path, "b")
    bad += expect("in use stays", stored(path)["a"][2])
    j = json.loads(must("qemu-img", "info", "--output=json", path))
    flags = {m["name"]: m["flags"] for m in j["format-specific"]["data"]["bitmaps"]}
    bad += expect("flags %s" % flags, flags == {"a": ["in-use", "auto"], "b": ["auto"]})
    must(tool, "bitmap", "--remove", "-f", "qcow2", path, "a")
    bad += expect("removed", set(stored(path)) == {"b"})
    must("qemu-img", "check", path)
    q = Qcow2File(path)
    q.put64(88, 0)
    q.save()
    bad += expect("stale", run(tool, "bitmap", "--clear", "-f", "qcow2", path, "b").returncode == 1)
    must(tool, "bitmap", "--add", "-f", "qcow2", path, "b")
    bad += expect("new one", set(stored(path)) == {"b"})
    return bad


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        sys.exit(77)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        failed += inconsistent(sys.argv[1], tmp)
        for kind in KINDS:
            failed += random_ops(sys.argv[1], kind, seed, steps, tmp)
    print("qcow2 bitmaps: %d wrong" % failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
