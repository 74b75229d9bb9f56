"""A qcow2 file taken apart, to be broken on purpose. Specification: "Qcow2 Image File Format"."""
import struct

OFF = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62


class Qcow2File:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            self.d = bytearray(f.read())
        self.version = self.u32(4)
        self.cluster_bits = self.u32(20)
        self.cs = 1 << self.cluster_bits
        self.size = self.u64(24)
        self.l1_size, self.l1_off = self.u32(36), self.u64(40)
        self.rt_off, self.rt_clusters = self.u64(48), self.u32(56)
        self.snap_count, self.snap_off = self.u32(60), self.u64(64)
        v3 = self.version >= 3
        self.incompat = self.u64(72) if v3 else 0
        self.order = self.u32(96) if v3 else 4
        self.ext = bool(self.incompat & 16)
        self.l2_bytes = 16 if self.ext else 8

    def u64(self, at):
        return struct.unpack_from(">Q", self.d, at)[0]

    def u32(self, at):
        return struct.unpack_from(">I", self.d, at)[0]

    def put64(self, at, v):
        struct.pack_into(">Q", self.d, at, v)

    def put32(self, at, v):
        struct.pack_into(">I", self.d, at, v)

    def save(self):
        with open(self.path, "wb") as f:
            f.write(self.d)

    def l1_at(self, i):
        return self.l1_off + 8 * i

    def l2_at(self, guest, l1_off=None):
        """File offset of the L2 entry of this guest offset."""
        n = guest >> self.cluster_bits
        per = self.cs // self.l2_bytes
        table = self.u64((l1_off or self.l1_off) + 8 * (n // per)) & OFF
        assert table
        return table + self.l2_bytes * (n % per)

    def block_entries(self):
        return self.cs * 8 >> self.order

    def refblock(self, cluster):
        return self.u64(self.rt_off + 8 * (cluster // self.block_entries())) & ~0x1FF

    def refcount(self, cluster):
        bits = 1 << self.order
        i = cluster % self.block_entries()
        block = self.refblock(cluster)
        if bits >= 8:
            n = bits // 8
            return int.from_bytes(self.d[block + i * n : block + i * n + n], "big")
        b = i * bits
        return (self.d[block + b // 8] >> (b % 8)) & ((1 << bits) - 1)

    def set_refcount(self, cluster, v):
        bits = 1 << self.order
        i = cluster % self.block_entries()
        block = self.refblock(cluster)
        if bits >= 8:
            n = bits // 8
            self.d[block + i * n : block + i * n + n] = v.to_bytes(n, "big")
            return
        b = i * bits
        mask = ((1 << bits) - 1) << (b % 8)
        self.d[block + b // 8] = (self.d[block + b // 8] & ~mask) | (v << (b % 8))

    def clusters(self):
        return (len(self.d) + self.cs - 1) // self.cs

    def snapshots(self):
        """Offsets of the entries of the snapshot table."""
        at, out = self.snap_off, []
        for _ in range(self.snap_count):
            out.append(at)
            ids, names = struct.unpack_from(">HH", self.d, at + 12)
            at += 40 + self.u32(at + 36) + ids + names
            at = (at + 7) & ~7
        return out

    def extension(self, wanted):
        at = self.u32(100) if self.version >= 3 else 72
        while True:
            kind, n = self.u32(at), self.u32(at + 4)
            if kind == wanted:
                return at + 8
            if kind == 0:
                return None
            at += 8 + (n + 7 & ~7)

    def bitmap_dir(self):
        return self.u64(self.extension(0x23852875) + 16)
