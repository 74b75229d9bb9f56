"""One call of lodge-io or qemu-io with many commands, and what they do to the model."""
from matrix_image import READ_ONLY, Wrong

KB, MB = 1 << 10, 1 << 20


class Batch:
    def __init__(self, bench, image, program, longer=1):
        self.bench, self.image, self.rnd, self.program = bench, image, bench.rnd, program
        self.commands, self.compressed = [], []  # compressed: (place in commands, off, len, pattern)
        self.model = image.model
        self.cluster = image.opts.get("cluster_size", 64 * KB)
        self.longer = longer

    def range(self):
        """Small or large, aligned to clusters, sectors or nothing."""
        rnd, size = self.rnd, self.model.size
        unit = rnd.choice((1, 512, 512, 4096, self.cluster, self.cluster))
        off = rnd.randrange(size) // unit * unit
        most = rnd.choice((512, 4096, self.cluster, 3 * self.cluster, 300 * KB))
        length = max(1, rnd.randrange(1, min(most, 2 * MB) + 1) // unit) * unit
        return off, min(length, size - off)

    def add(self, *words):
        self.commands.append(" ".join(str(w) for w in words))
        self.bench.count += 1

    def pattern(self):
        return self.rnd.randrange(1, 256)

    # ---- Commands ----

    def write(self):
        (off, length), p = self.range(), self.pattern()
        self.add("write -q%s -P" % self.rnd.choice(("", "", " -f")), p, off, length)
        self.model.write(off, bytes([p]) * length)
        if self.rnd.random() < 0.2:
            self.add("read -q -P", p, off, length)

    def zero(self):
        off, length = self.range()
        self.add("write -q -z" + self.rnd.choice((" -u", "")), off, length)
        self.model.write(off, bytes(length))
        if self.rnd.random() < 0.2:
            self.add("read -q -P 0", off, length)

    def discard(self):
        if self.image.fmt == "luks":  # noise would come of it
            return self.write()
        off, length = self.range()
        off = off // 512 * 512
        length = min((length + 511) // 512 * 512, self.model.size - off)
        self.add("discard -q", off, length)
        self.model.discard(off, length, self.image.below and self.image.below.model.data)
        return None

    def flush(self):
        self.add("flush")

    def compress(self):
        """A whole cluster, or what the image has of the last. May be refused where data lies."""
        if self.image.fmt != "qcow2" or self.image.secret or self.image.data_file:
            return self.write()
        # With refcounts of one bit qemu-img loses clusters when what it packed shares one.
        if self.program is self.bench.theirs and self.image.opts.get("refcount_bits") == 1:
            return self.write()
        if self.longer > 1 and self.rnd.randrange(self.longer):  # one ends the batch
            return self.write()
        off = self.rnd.randrange(self.model.size) // self.cluster * self.cluster
        length, p = min(self.cluster, self.model.size - off), self.pattern()
        self.add("write -c -P", p, off, length)
        self.compressed.append((off, length, p, self.model.copy()))
        return None

    def together(self):
        """Requests at the same time, next to each other."""
        off, length = self.range()
        end = off + length
        for _ in range(self.rnd.randrange(2, 7)):
            if off >= end:
                break
            n, p = min(self.rnd.randrange(1, max(2, length // 2)), end - off), self.pattern()
            # Beside unaligned zeros that are written at the same time the other program may lose bytes.
            if self.rnd.random() < 0.2 and self.program is not self.bench.theirs:
                p = 0
                self.add("aio_write -q -z", off, n)
            else:
                self.add("aio_write -q -P", p, off, n)
            self.model.write(off, bytes([p]) * n)
            off += n
        self.commands.append("aio_flush")

    def resize(self):
        image = self.image
        if image.fmt not in ("qcow2", "raw") or image.snaps or image.maps or image.raw_data:
            return self.write()
        if image.below and self.program is self.bench.theirs:  # it cannot zero in version 2
            return self.write()
        size = new_size(self.bench, image, self.program)
        self.add("truncate", size)
        self.model.resize(size)
        return None

    # ---- All ----

    def draw(self, n):
        kinds = [self.write] * 9 + [self.zero] * 3 + [self.discard] * 3 + [self.compress] * 2 + [self.flush]
        kinds += [self.together] * 2 + [self.resize]
        if self.image.fmt in READ_ONLY:  # the other program's zeros in qed end in an assertion
            kinds = [self.write, self.flush]
        while len(self.commands) < n and not self.compressed:
            self.rnd.choice(kinds)()

    def run(self):
        """Compressed writes end a batch: only then it is known what the others worked on."""
        args = ["-d", "unmap"]
        for c in self.commands:
            args += ["-c", c]
        spec = self.image.spec()
        said = self.bench.run(self.program.io, *args, *spec)
        lines = [l for l in said.stdout.splitlines() if l and " ops; " not in l]
        done = [l for l in lines if l.startswith("wrote")]
        refused = [l for l in lines if l.startswith("write failed")] if self.compressed else []
        if len(done) + len(refused) != len(self.compressed) or len(lines) != len(self.compressed):
            raise Wrong("%s says: %s" % (self.program.io, "; ".join(lines)[:500]))
        for off, length, p, _ in self.compressed if done else []:
            self.model.write(off, bytes([p]) * length)


def new_size(bench, image, program):
    """Where to; the other program leaves what it cuts off in the last cluster, and shows it when it grows again."""
    rnd, size, cluster = bench.rnd, image.model.size, image.opts.get("cluster_size", 65536)
    if rnd.random() < 0.4 and size > 128 * KB:
        unit = cluster if program is bench.theirs and image.fmt == "qcow2" else 512
        return max(512, min(size, (rnd.randrange(size // 2, size) + unit - 1) // unit * unit))
    most = 8 * MB if cluster > 4096 else 4 * MB
    return max(size, min(most, size + rnd.randrange(1, 1024) * 512))
