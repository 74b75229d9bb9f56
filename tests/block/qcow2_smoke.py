#!/usr/bin/env python3
"""qcow2 by two programs: images of many kinds, created, written, zeroed, discarded, compressed and
resized by ours and the installed qemu-img/qemu-io in turns; both must read what a model says and
`check` must find nothing.

usage: qcow2_smoke.py LODGE-IMG LODGE-IO [ROUNDS [SEED]]
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile

SIZE = 8 << 20
SECTOR = 512


def run(*args, check=True):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, text=True)
    if check and p.returncode:
        raise SystemExit(f"{' '.join(args)[:3000]}\n{p.stdout[-2000:]}\nstatus {p.returncode}")
    return p.stdout


class Image:
    def __init__(self, rng, folder, img, io):
        self.rng, self.dir, self.img, self.io = rng, folder, img, io
        self.path = os.path.join(folder, "t.qcow2")
        self.size = SIZE + rng.choice([0, SECTOR, 40 * SECTOR, 3 * 65536 + SECTOR])
        self.model = bytearray(self.size)
        self.log = []

    def create(self):
        rng = self.rng
        opts = [f"cluster_size={rng.choice([512, 1024, 4096, 16384, 65536, 65536, 65536, 262144, 2097152])}"]
        self.cluster = int(opts[0].split("=")[1])
        self.v3 = rng.random() < 0.85
        opts.append("compat=" + ("1.1" if self.v3 else "0.10"))
        self.data_file = False
        self.backing = None
        if self.v3:
            opts.append(f"refcount_bits={rng.choice([1, 2, 4, 8, 16, 16, 32, 64])}")
            if self.cluster >= 16384 and rng.random() < 0.4:
                opts.append("extended_l2=on")
            if rng.random() < 0.3:
                opts.append("lazy_refcounts=on")
            if rng.random() < 0.3:
                opts.append("compression_type=zstd")
            if rng.random() < 0.15:
                self.data_file = True
                opts.append(f"data_file={self.dir}/data.raw")
                if rng.random() < 0.5:
                    opts.append("data_file_raw=on")
        if "data_file_raw=on" not in opts and rng.random() < 0.4:
            self.make_backing()
        if not self.backing or "extended_l2=on" in opts and rng.random() < 0.3:
            opts.append("preallocation=" + rng.choice(["off", "off", "off", "metadata", "falloc", "full"]))
        self.opts = ",".join(opts)
        tool = rng.choice([self.img, "qemu-img"])
        args = [tool, "create", "-q", "-f", "qcow2", "-o", self.opts]
        if self.backing:
            args += ["-b", self.backing, "-F", self.backing_fmt]
        run(*args, self.path, str(self.size))
        self.log.append(" ".join(args))
        self.check()

    def make_backing(self):
        self.backing = os.path.join(self.dir, "base.img")
        self.backing_fmt = self.rng.choice(["raw", "qcow2"])
        n = self.rng.choice([self.size, self.size // 2 & ~511, self.size + 65536])
        data = self.rng.randbytes(n)
        raw = os.path.join(self.dir, "base.raw")
        with open(raw, "wb") as f:
            f.write(data)
        if self.backing_fmt == "raw":
            os.rename(raw, self.backing)
        else:
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, self.backing)
        m = min(n, self.size)
        self.model[:m] = data[:m]

    def span(self, align=1, most=300000):
        rng = self.rng
        off = rng.randrange(self.size) // align * align
        n = rng.choice([1, 100, SECTOR, 4096, 5000, 65536, 100000, most])
        n = max(align, n // align * align)
        n = min(n, (self.size - off) // align * align)
        return off, n

    def op(self, ours):
        rng, model = self.rng, self.model
        kind = rng.choice(["write"] * 5 + ["zero", "zero", "zunmap", "discard", "compressed", "read", "flush"])
        if kind == "write":
            off, n = self.span()
            p = rng.randrange(1, 256)
            model[off:off + n] = bytes([p]) * n
            return f"write -P {p} {off} {n}" if n else None
        if kind in ("zero", "zunmap"):
            off, n = self.span(rng.choice([1, SECTOR, 4096]), 2000000)
            model[off:off + n] = bytes(n)
            return f"write -z {'-u ' if kind == 'zunmap' else ''}{off} {n}" if n else None
        if kind == "discard":
            if self.backing and not self.v3 or "data_file_raw" in self.opts:
                return None
            off, n = self.span(max(self.cluster, SECTOR), 2000000)
            if self.backing and not self.v3:
                return None
            if not n:
                return None
            model[off:off + n] = bytes(n)
            return f"discard {off} {n}"
        if kind == "compressed":
            if self.data_file:
                return None
            if not ours and rng.random() < 0.7:
                return None
            c = self.cluster
            off = rng.randrange(self.size // c) * c if self.size >= c else 0
            if off + c > self.size:
                return None
            p = rng.randrange(1, 256)
            n = c
            if not ours and any(model[off:off + n]):
                return None
            if not ours:
                return None  # refuses clusters that are allocated
            n = c * min(rng.choice([1, 1, 4]), (self.size - off) // c)
            model[off:off + n] = bytes([p]) * n
            return f"write -c -P {p} {off} {n}"
        if kind == "read":
            off, n = self.span()
            return f"read {off} {n}" if n else None
        return "flush"

    def batch(self):
        ours = self.rng.random() < 0.6
        cmds = [c for c in (self.op(ours) for _ in range(self.rng.randrange(1, 25))) if c]
        tool = self.io if ours else "qemu-io"
        args = [tool, "-f", "qcow2", "-d", "unmap"]
        if ours and self.rng.random() < 0.3:
            args = [tool, "--image-opts"]
        for c in cmds:
            args += ["-c", c]
        path = self.path
        if "--image-opts" in args:
            path = f"driver=qcow2,file.driver=file,file.filename={self.path},discard=unmap,l2-cache-size=1,refcount-cache-size=1"
        self.log.append(f"{tool}: {cmds}")
        out = self.run(*args, path)
        if "failed" in out.lower() or "error" in out.lower():
            self.fail(out)
        self.check()
        self.compare()

    def resize(self):
        ours = self.rng.random() < 0.7 or (self.backing and not self.v3)
        new = max(65536, self.size + self.rng.choice([-1, 1]) * self.rng.randrange(1, 3000) * SECTOR)
        mode = "off"
        if new > self.size and not self.backing and self.rng.random() < 0.4:
            mode = self.rng.choice(["metadata", "falloc", "full"])
        if ours:
            args = [self.io, "-f", "qcow2", "-c", f"truncate -m {mode} {new}", self.path]
        else:
            args = ["qemu-img", "resize", "-q", "-f", "qcow2", f"--preallocation={mode}"]
            args += (["--shrink"] if new < self.size else []) + [self.path, str(new)]
        self.log.append(" ".join(args))
        out = self.run(*args)
        if out.strip():
            self.fail(out)
        if new < self.size:
            del self.model[new:]
        else:
            self.model += bytes(new - self.size)
        self.size = new
        self.check()
        self.compare()

    def fail(self, text):
        keep = tempfile.mkdtemp(prefix="qcow2-smoke-")
        shutil.copytree(self.dir, keep, dirs_exist_ok=True)
        raise SystemExit("\n".join(self.log) + f"\nopts: {self.opts}\n{text}\nkept in {keep}")

    def run(self, *args):
        p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, text=True)
        if p.returncode:
            self.fail(f"status {p.returncode}: {p.stdout[-2000:]}")
        return p.stdout

    def check(self):
        for tool in ("qemu-img", self.img):
            out = run(tool, "check", "-f", "qcow2", self.path, check=False)
            if "No errors were found" not in out:
                self.fail(f"{tool} check: {out[-1500:]}")

    def compare(self):
        raw = os.path.join(self.dir, "out.raw")
        for tool in ("qemu-img", self.img):
            run(tool, "convert", "-f", "qcow2", "-O", "raw", self.path, raw)
            with open(raw, "rb") as f:
                got = f.read()
            if got != self.model:
                n = min(len(got), len(self.model))
                at = next((i for i in range(n) if got[i] != self.model[i]), n)
                self.fail(f"{tool} reads something else at {at} ({at:#x}); sizes {len(got)} {len(self.model)}")


def encrypted_space(img, folder):
    """Space ahead of data in an encrypted image reads as zeros, however it came there."""
    name, raw = os.path.join(folder, "e.qcow2"), os.path.join(folder, "e.raw")
    secret = ("--object", "secret,id=s0,data=x")
    opened = (*secret, "--image-opts", f"driver=qcow2,file.filename={name},encrypt.key-secret=s0")
    kinds = ("compat=0.10", "compat=1.1", "extended_l2=on", f"data_file={folder}/e.data")
    for kind in kinds:
        for how in ("metadata", "full"):
            opts = f"encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10,preallocation={how},{kind}"
            run(img, "create", "-q", *secret, "-f", "qcow2", "-o", opts, name, "1M")
            run(img, "resize", "-q", "--preallocation=" + how, *opened, "2M")
            for tool in (img, "qemu-img"):
                run(tool, "convert", *opened, "-O", "raw", raw)
                with open(raw, "rb") as f:
                    if f.read() != bytes(2 << 20):
                        raise SystemExit(f"{tool}: {kind}, preallocation={how}: an encrypted image is not all zeros")


def main():
    img, io = (os.path.abspath(p) for p in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    if not shutil.which("qemu-io"):
        print("no qemu-io to compare with")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        encrypted_space(img, folder)
    for i in range(rounds):
        print(f"round {i}, seed {seed + i}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            t = Image(random.Random(seed + i), folder, img, io)
            t.create()
            for _ in range(6):
                t.resize() if t.rng.random() < 0.2 else t.batch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
