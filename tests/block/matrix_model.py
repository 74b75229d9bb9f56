"""What an image must hold: flat bytes, and for sectors that a discard has touched all that they may hold."""

SECTOR = 512


class Model:
    def __init__(self, size):
        self.data = bytearray(size)
        self.loose = {}  # sector -> set of contents, any of which is right

    def copy(self):
        m = Model(0)
        m.data, m.loose = bytearray(self.data), dict(self.loose)
        return m

    @property
    def size(self):
        return len(self.data)

    def write(self, off, new):
        end = off + len(new)
        if self.loose:
            for s in range(off // SECTOR, (end + SECTOR - 1) // SECTOR):
                if s in self.loose:
                    self._write_loose(s, off, new)
        self.data[off:end] = new

    def _write_loose(self, s, off, new):
        at = s * SECTOR
        a, b = max(off, at), min(off + len(new), at + SECTOR)
        if b - a == SECTOR:
            del self.loose[s]
            return
        part = new[a - off : b - off]
        self.loose[s] = {old[: a - at] + part + old[b - at :] for old in self.loose[s]}

    def discard(self, off, length, below=None):
        """A hint: the old contents, zeros, or what lies below, sector by sector."""
        for s in range(off // SECTOR, (off + length + SECTOR - 1) // SECTOR):
            at = s * SECTOR
            old = bytes(self.data[at : at + SECTOR])
            may = self.loose.get(s, {old}) | {bytes(len(old))}
            if below is not None:
                lower = bytes(below[at : at + SECTOR])
                may = may | {lower + bytes(len(old) - len(lower))}
            if len(may) > 1:
                self.loose[s] = may

    def resize(self, size):
        """What is cut off comes back as zeros."""
        if size < self.size:
            del self.data[size:]
            for s in [s for s in self.loose if s * SECTOR >= size]:
                del self.loose[s]
        else:
            self.data += bytes(size - self.size)

    def settle(self, seen):
        """Compares with what was read, which from now on is what the image holds; None or what is wrong."""
        if len(seen) != self.size:
            return "%d bytes, expected %d" % (len(seen), self.size)
        for s, may in self.loose.items():
            at = s * SECTOR
            here = bytes(seen[at : at + SECTOR])
            if here not in may:
                return "sector %d holds %s, after a discard expected one of %s" % (
                    s, show(here), ", ".join(sorted(show(m) for m in may)))
            self.data[at : at + SECTOR] = here
        self.loose = {}
        if self.data == seen:
            return None
        bad = [s for s in range((self.size + SECTOR - 1) // SECTOR)
               if self.data[s * SECTOR : s * SECTOR + SECTOR] != seen[s * SECTOR : s * SECTOR + SECTOR]]
        return "%d sectors differ, the first %d: %s, expected %s" % (
            len(bad), bad[0], show(seen[bad[0] * SECTOR :][:SECTOR]), show(self.data[bad[0] * SECTOR :][:SECTOR]))


def show(b):
    return "%02x..%02x" % (b[0], b[-1]) if b else "nothing"
