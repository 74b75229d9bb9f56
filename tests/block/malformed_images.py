"""Images that are wrong on purpose: good small ones of every format, then each field out of its
range, loops, overlaps, sizes that nobody has, ends that are missing, data that unpacks to too much.

cases(img, folder) yields (name, format, path, options): one at a time, in files that are written over."""
import os
import struct
import subprocess
import zlib

BE, LE = '>', '<'


def run(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def read(path):
    with open(path, 'rb') as f:
        return bytearray(f.read())


def values(bits):
    top = (1 << bits) - 1
    out = {0, 1, top, top - 1, 1 << (bits - 1), 513 & top}
    if bits == 64:
        out |= {1 << 40, (1 << 63) - 512}
    return sorted(out)


CODE = {8: 'B', 16: 'H', 32: 'I', 64: 'Q'}


def put(data, at, bits, value, order):
    struct.pack_into(order + CODE[bits], data, at, value)


def each_value(base, fields, order, fix=lambda d: d):
    """Every field, each with every bad value."""
    for name, at, bits in fields:
        for value in values(bits):
            data = bytearray(base)
            if at + bits // 8 <= len(data):
                put(data, at, bits, value, order)
                yield '%s=%#x' % (name, value), fix(data)


def truncations(base, places):
    for at in sorted(set(p for p in places if 0 <= p < len(base))):
        yield 'cut at %u' % at, bytearray(base[:at])


# ---- qcow2 ----

QCOW2 = [('magic', 0, 32), ('version', 4, 32), ('backing_off', 8, 64), ('backing_len', 16, 32),
         ('cluster_bits', 20, 32), ('size', 24, 64), ('crypt', 32, 32), ('l1_size', 36, 32),
         ('l1_off', 40, 64), ('ref_off', 48, 64), ('ref_clusters', 56, 32), ('snapshots', 60, 32),
         ('snap_off', 64, 64), ('incompatible', 72, 64), ('compatible', 80, 64), ('autoclear', 88, 64),
         ('ref_order', 96, 32), ('header_len', 100, 32), ('compression', 104, 8),
         ('ext_type', 112, 32), ('ext_len', 116, 32)]


def qcow2_base(img, folder):
    path, raw = os.path.join(folder, 'base'), os.path.join(folder, 'raw')
    with open(raw, 'wb') as f:
        f.truncate(1 << 20)
        f.write(b'some data ' * 1000)
    run(img, 'convert', '-O', 'qcow2', '-o', 'cluster_size=512', raw, path)
    run(img, 'snapshot', '-c', 'one', path)
    run(img, 'snapshot', '-c', 'two', path)
    run(img, 'bitmap', '--add', '-g', '512', path, 'marks')
    return read(path)


def get(data, at, code):
    return struct.unpack_from(code, data, at)[0]


def qcow2_ext(data, kind):
    at = get(data, 100, '>I')
    while at + 8 <= len(data):
        t, n = struct.unpack_from('>II', data, at)
        if t in (0, kind):
            return at + 8 if t else None
        at += 8 + (n + 7) // 8 * 8
    return None


def qcow2_tables(base):
    """Fields of the tables, found in a good image."""
    l1, ref, snap = get(base, 40, '>Q'), get(base, 48, '>Q'), get(base, 64, '>Q')
    block, l2 = get(base, ref, '>Q'), get(base, l1, '>Q') & ((1 << 56) - 512)
    ext = qcow2_ext(base, 0x23852875)
    fields = [('l1[0]', l1, 64), ('l1[1]', l1 + 8, 64), ('l2[0]', l2, 64), ('l2[1]', l2 + 8, 64),
              ('reftable[0]', ref, 64), ('reftable[1]', ref + 8, 64), ('refblock[0]', block, 16),
              ('refblock[9]', block + 18, 16),
              ('snap.l1', snap, 64), ('snap.l1_size', snap + 8, 32), ('snap.id_len', snap + 12, 16),
              ('snap.name_len', snap + 14, 16), ('snap.vm', snap + 32, 32), ('snap.extra', snap + 36, 32),
              ('snap.vm64', snap + 40, 64), ('snap.disk', snap + 48, 64),
              ('bitmaps', ext, 32), ('bitmap_dir_size', ext + 8, 64), ('bitmap_dir', ext + 16, 64)]
    d = get(base, ext + 16, '>Q')
    fields += [('bitmap.table', d, 64), ('bitmap.table_size', d + 8, 32), ('bitmap.flags', d + 12, 32),
               ('bitmap.type', d + 16, 8), ('bitmap.granularity', d + 17, 8),
               ('bitmap.name_len', d + 18, 16), ('bitmap.extra', d + 20, 32)]
    return fields, l1, l2, ref, block, snap, ext, d


def qcow2_special(base):
    fields, l1, l2, ref, block, snap, ext, directory = qcow2_tables(base)
    copied = 1 << 63

    def with_entry(*entries):
        data = bytearray(base)
        for at, value in entries:
            put(data, at, 64, value, BE)
        return data

    yield 'L1 entry is the L1 table', with_entry((l1, l1 | copied))
    yield 'L2 entry is the L2 table', with_entry((l2, l2 | copied))
    yield 'L2 entry is the header', with_entry((l2, 512 * 0 | copied | 1))
    yield 'all L1 entries one L2', with_entry(*((l1 + 8 * i, l2 | copied) for i in range(8)))
    yield 'clusters overlap', with_entry(*((l2 + 8 * i, get(base, l2, '>Q')) for i in range(64)))
    yield 'refblock is the reftable', with_entry((ref, ref))
    yield 'reftable is the L1 table', with_entry((48, l1))
    yield 'snapshot L1 is the snapshot table', with_entry((snap, snap))
    yield 'bitmap table is its directory', with_entry((directory, directory))
    yield 'refcounts behind the end', with_entry((48, 1 << 40))
    data = bytearray(base)
    put(data, 60, 32, 0xffffffff, BE)
    yield '2^32 snapshots', data
    for size in (1 << 63, (1 << 63) - 512, 1 << 60, 1 << 56):
        for l1_size in (1, 1 << 22, 1 << 25, 0xffffffff):
            data = bytearray(base)
            put(data, 24, 64, size, BE)
            put(data, 36, 32, l1_size, BE)
            yield 'size %#x with l1_size %#x' % (size, l1_size), data
    data = bytearray(base)
    put(data, directory + 8, 32, 0x7fffffff, BE)
    put(data, directory + 17, 8, 9, BE)
    put(data, 24, 64, 1 << 60, BE)
    yield 'bitmap of 2^60 bytes', data
    yield from truncations(base, [0, 1, 71, 72, 103, 104, 111, 112, 120, l1, l1 + 8, l2, l2 + 9, ref,
                                  ref + 8, block, block + 100, snap, snap + 39, snap + 57, directory,
                                  directory + 23, directory + 30, len(base) - 1, len(base) - 512])


def qcow2_backing(base, name, fmt=b''):
    """The name goes behind everything else, into the header's cluster where there is room."""
    data = bytearray(base)
    data[112:512] = bytes(400)
    put(data, 88, 64, 0, BE)  # no bitmaps: their extension is gone
    at = 112
    if fmt:
        struct.pack_into('>II', data, at, 0xe2792aca, len(fmt))
        data[at + 8:at + 8 + len(fmt)] = fmt
        at += 8 + (len(fmt) + 7) // 8 * 8
    at += 8
    data[at:at + len(name)] = name
    put(data, 8, 64, at, BE)
    put(data, 16, 32, len(name), BE)
    return data


def bomb(kind, n):
    if kind == 'zlib':
        c = zlib.compressobj(9, zlib.DEFLATED, -12)
        return c.compress(bytes(n)) + c.flush()
    # zstd: one frame of blocks that repeat a byte (RFC 8878 section 3.1.1)
    out = b'\x28\xb5\x2f\xfd' + b'\x00' + b'\x58'
    while n > 0:
        part = min(n, 128 << 10)
        n -= part
        out += struct.pack('<I', part << 3 | 2 | (n <= 0))[:3] + b'\0'
    return out


def qcow2_bombs(img, folder):
    for kind in 'zlib', 'zstd':
        path, raw = os.path.join(folder, 'base'), os.path.join(folder, 'raw')
        run(img, 'convert', '-c', '-O', 'qcow2', '-o', 'cluster_size=64k,compression_type=' + kind, raw, path)
        base = read(path)
        l2 = get(base, get(base, 40, '>Q'), '>Q') & ((1 << 56) - 512)
        entry = get(base, l2, '>Q')
        if not entry >> 62 & 1:
            continue
        at = entry & ((1 << 54) - 1)
        for n in (65537, 1 << 20, 1 << 26):
            data, packed = bytearray(base), bomb(kind, n)[:60000]
            data[at:at + len(packed)] = packed
            put(data, l2, 64, 1 << 62 | 127 << 54 | at, BE)
            yield '%s cluster of %u bytes' % (kind, n), data
        for name, junk in (('zeros', bytes(512)), ('ones', b'\xff' * 512), ('noise', os.urandom(512))):
            data = bytearray(base)
            data[at:at + 512] = junk
            yield '%s cluster of %s' % (kind, name), data


# ---- others ----

def vmdk_fields():
    return [('magic', 0, 32), ('version', 4, 32), ('flags', 8, 32), ('capacity', 12, 64), ('grain', 20, 64),
            ('desc', 28, 64), ('desc_size', 36, 64), ('gtes', 44, 32), ('rgd', 48, 64), ('gd', 56, 64),
            ('overhead', 64, 64), ('unclean', 72, 8), ('compression', 77, 16)]


def vmdk_cases(img, folder):
    raw, path = os.path.join(folder, 'raw'), os.path.join(folder, 'base')
    for sub in 'monolithicSparse', 'streamOptimized':
        run(img, 'convert', '-O', 'vmdk', '-o', 'subformat=' + sub, raw, path)
        base = read(path)
        yield from ((sub + ' ' + n, d) for n, d in each_value(base, vmdk_fields(), LE))
        gd = get(base, 56, '<Q') * 512
        gt = get(base, gd, '<I') * 512
        grain = get(base, gt, '<I') * 512
        fields = [('gd[0]', gd, 32), ('gt[0]', gt, 32), ('gt[1]', gt + 4, 32)]
        fields += [('marker.size', grain + 8, 32)] if sub == 'streamOptimized' else []
        yield from ((sub + ' ' + n, d) for n, d in each_value(base, fields, LE))
        data = bytearray(base)
        for i in range(128):
            put(data, gt + 4 * i, 32, gd // 512, LE)
        yield sub + ' grains are the directory', data
        yield from ((sub + ' ' + n, d) for n, d in
                    truncations(base, [0, 4, 79, 511, 512, 700, gd, gd + 2, gt, gt + 3, grain, grain + 11]))
        if sub == 'streamOptimized':
            for n in 65537, 1 << 20, 1 << 26:
                data, packed = bytearray(base), zlib.compress(bytes(n), 9)
                data[grain + 12:grain + 12 + len(packed)] = packed
                put(data, grain + 8, 32, len(packed), LE)
                yield '%s grain of %u bytes' % (sub, n), data
    head = b'# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=%s\ncreateType="%s"\n'
    for lines in (b'RW 1 FLAT "x.vmdk" 0\n', b'RW 9223372036854775807 ZERO\n', b'RW -1 ZERO\n',
                  b'RW 18446744073709551616 ZERO\n', b'RW 1 ZERO\n' * 400, b'RW 4611686018427387904 ZERO\n' * 4,
                  b'RW 1 SPARSE "x.vmdk"\n', b'RW 100 FLAT "/etc/hostname" 0\n', b'RW 1 FLAT "x.vmdk" -1\n',
                  b'RW 8 FLAT "x.vmdk" 9223372036854775807\n', b'RW 1 FLAT "nbd://localhost/x" 0\n',
                  b'RW 1 FLAT "json:{}" 0\n', b'RW 1 FLAT "' + b'a' * 5000 + b'" 0\n', b'RW 1 FLAT "\x1b[31m" 0\n',
                  b'RW 99999999 SPARSE "base"\n', b'RW 1 FLAT "fifo" 0\n', b'RW 1 FLAT "." 0\n', b'',
                  b'RW 4294967296 SPARSE "base"\n' * 200):
        yield 'descriptor ' + repr(lines[:50]), bytearray(head % (b'ffffffff', b'monolithicFlat') + lines)
    yield 'parent is itself', bytearray(head % (b'00000001', b'x') + b'RW 8 ZERO\nparentFileNameHint="x.vmdk"\n')


def vdi_cases(img, folder):
    raw, path = os.path.join(folder, 'raw'), os.path.join(folder, 'base')
    run(img, 'convert', '-O', 'vdi', raw, path)
    base = read(path)
    fields = [('signature', 0x40, 32), ('version', 0x44, 32), ('header_size', 0x48, 32), ('type', 0x4c, 32),
              ('map', 0x154, 32), ('data', 0x158, 32), ('sector', 0x168, 32), ('size', 0x170, 64),
              ('block', 0x178, 32), ('extra', 0x17c, 32), ('blocks', 0x180, 32), ('allocated', 0x184, 32),
              ('link', 0x1a8, 64), ('parent', 0x1b8, 64), ('map[0]', 512, 32)]
    yield from each_value(base, fields, LE)
    for n in (1 << 20, 0x3fffffff // 4, 0x3fffffff, 0xffffffff):
        data = bytearray(base)
        put(data, 0x180, 32, n, LE)
        put(data, 0x170, 64, n << 20, LE)
        yield '%#x blocks' % n, data
    yield from truncations(base, [0, 64, 0x183, 511, 512, 514, 1024, len(base) - 1])


def vpc_sum(data, at, n, field):
    if at < 0 or at + n > len(data):
        return
    put(data, at + field, 32, 0, BE)
    put(data, at + field, 32, ~sum(data[at:at + n]) & 0xffffffff, BE)


def vpc_fix(data):
    vpc_sum(data, 0, 512, 64)
    vpc_sum(data, 512, 1024, 36)
    vpc_sum(data, len(data) - 512, 512, 64)
    return data


def vpc_cases(img, folder):
    raw, path = os.path.join(folder, 'raw'), os.path.join(folder, 'base')
    run(img, 'convert', '-O', 'vpc', raw, path)
    base = read(path)
    footer = [('cookie', 0, 64), ('features', 8, 32), ('version', 12, 32), ('offset', 16, 64), ('creator', 28, 32),
              ('original', 40, 64), ('current', 48, 64), ('cylinders', 56, 16), ('heads', 58, 8),
              ('sectors', 59, 8), ('type', 60, 32)]
    header = [('h.cookie', 512, 64), ('h.next', 520, 64), ('bat', 528, 64), ('h.version', 536, 32),
              ('entries', 540, 32), ('block', 544, 32), ('bat[0]', 1536, 32)]
    yield from each_value(base, footer + header, BE, vpc_fix)
    yield from each_value(base, [('checksum', 64, 32)], BE)
    trusted = bytearray(base)
    trusted[28:32] = b'win '
    yield from (('win ' + n, d) for n, d in each_value(trusted, [('current', 48, 64), ('entries', 540, 32)], BE, vpc_fix))
    run(img, 'convert', '-O', 'vpc', '-o', 'subformat=fixed', raw, path)
    fixed = read(path)
    end = len(fixed) - 512
    yield from (('fixed ' + n, d) for n, d in each_value(fixed, [(n, end + at, b) for n, at, b in footer], BE, vpc_fix))
    yield from truncations(base, [0, 511, 512, 1535, 1536, 1538, 2048, len(base) - 1])
    yield from truncations(fixed, [511, 512, end, end + 511])


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return ~crc & 0xffffffff


def crc_table():
    out = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
        out.append(i)
    return out


CRC_TABLE = crc_table()
GUIDS = {'bat': '6677c22d23f600429d64115e9bfd4a08', 'meta': '06a27c8b90479a4bb8fe575f050f886e',
         'file': '3767a1ca36fa434db3b633f0aa44e76b', 'size': '2442a52f1bcd7648b2115dbed83bf4b8',
         'sector': '1dbf41816fa9094 7ba47f233a8faab5f'.replace(' ', '')}
MB = 1 << 20
VHDX_HEAD, VHDX_REGIONS = 64 << 10, 192 << 10


def vhdx_fix(data):
    put(data, VHDX_HEAD + 4, 32, 0, LE)
    put(data, VHDX_HEAD + 4, 32, crc32c(data[VHDX_HEAD:VHDX_HEAD + 4096]), LE)
    put(data, VHDX_REGIONS + 4, 32, 0, LE)
    put(data, VHDX_REGIONS + 4, 32, crc32c(data[VHDX_REGIONS:VHDX_REGIONS + 65536]), LE)
    return data


def vhdx_base():
    d = bytearray(5 * MB)
    d[0:8] = b'vhdxfile'
    d[VHDX_HEAD:VHDX_HEAD + 4] = b'head'
    struct.pack_into('<HH', d, VHDX_HEAD + 64, 0, 1)
    d[VHDX_REGIONS:VHDX_REGIONS + 4] = b'regi'
    put(d, VHDX_REGIONS + 8, 32, 2, LE)
    for i, (kind, off) in enumerate((('bat', 2 * MB), ('meta', MB))):
        at = VHDX_REGIONS + 16 + 32 * i
        d[at:at + 16] = bytes.fromhex(GUIDS[kind])
        struct.pack_into('<QII', d, at + 16, off, MB, 1)
    d[MB:MB + 8] = b'metadata'
    put(d, MB + 10, 16, 3, LE)
    for i, (kind, value) in enumerate((('file', struct.pack('<II', MB, 0)), ('size', struct.pack('<Q', 8 * MB)),
                                       ('sector', struct.pack('<I', 512)))):
        at, place = MB + 32 + 32 * i, 65536 + 16 * i
        d[at:at + 16] = bytes.fromhex(GUIDS[kind])
        struct.pack_into('<III', d, at + 16, place, len(value), 4)
        d[MB + place:MB + place + len(value)] = value
    put(d, 2 * MB, 64, 4 * MB | 6, LE)
    return vhdx_fix(d)


def vhdx_cases(img, folder):
    base = vhdx_base()
    yield 'good', bytearray(base)
    sealed = [('h.signature', VHDX_HEAD, 32), ('h.version', VHDX_HEAD + 66, 16), ('h.log_guid', VHDX_HEAD + 48, 64),
              ('h.log_len', VHDX_HEAD + 68, 32), ('regions', VHDX_REGIONS + 8, 32),
              ('bat.off', VHDX_REGIONS + 32, 64), ('bat.len', VHDX_REGIONS + 40, 32),
              ('bat.required', VHDX_REGIONS + 44, 32), ('meta.off', VHDX_REGIONS + 64, 64),
              ('meta.len', VHDX_REGIONS + 72, 32)]
    yield from each_value(base, sealed, LE, vhdx_fix)
    plain = [('signature', 0, 64), ('h.crc', VHDX_HEAD + 4, 32), ('r.crc', VHDX_REGIONS + 4, 32), ('m.magic', MB, 64),
             ('items', MB + 10, 16), ('item.off', MB + 48, 32), ('item.len', MB + 52, 32), ('block', MB + 65536, 32),
             ('flags', MB + 65540, 32), ('size', MB + 65552, 64), ('sector', MB + 65568, 32), ('bat[0]', 2 * MB, 64),
             ('bat[1]', 2 * MB + 8, 64)]
    yield from each_value(base, plain, LE)
    data = bytearray(base)
    put(data, VHDX_REGIONS + 40, 32, 0xfff00000, LE)
    put(data, MB + 65552, 64, 64 << 40, LE)
    yield 'disk of 64 TiB', vhdx_fix(data)
    yield from truncations(base, [0, 8, VHDX_HEAD, VHDX_HEAD + 4095, VHDX_REGIONS, VHDX_REGIONS + 70, MB, MB + 40,
                                  MB + 65540, 2 * MB, 2 * MB + 4, 4 * MB])


def qed_base():
    head = struct.pack('<4sIIIQQQQQII', b'QED\0', 4096, 1, 1, 0, 0, 0, 4096, 1 << 20, 0, 0)
    return bytearray(head.ljust(4096, b'\0') + struct.pack('<Q', 8192).ljust(4096, b'\0') +
                     struct.pack('<QQ', 12288, 1).ljust(4096, b'\0') + b'data' * 1024)


def qed_cases(img, folder):
    base = qed_base()
    fields = [('magic', 0, 32), ('cluster', 4, 32), ('table', 8, 32), ('header', 12, 32), ('features', 16, 64),
              ('compat', 24, 64), ('autoclear', 32, 64), ('l1', 40, 64), ('size', 48, 64), ('name_off', 56, 32),
              ('name_len', 60, 32), ('l1[0]', 4096, 64), ('l1[1]', 4104, 64), ('l2[0]', 8192, 64), ('l2[1]', 8200, 64)]
    yield from each_value(base, fields, LE)
    named = bytearray(base)
    put(named, 16, 64, 1, LE)
    named[64:70] = b'x.qed\0'
    put(named, 56, 32, 64, LE)
    put(named, 60, 32, 5, LE)
    yield 'backing file is itself', named
    yield from (('named ' + n, d) for n, d in each_value(named, fields[9:11], LE))
    for size in (1 << 30, (1 << 30) + 512, (1 << 30) - 512):
        data = bytearray(base)
        put(data, 48, 64, size, LE)
        yield 'size at the end of the tables %#x' % size, data
    for places in ((4096, 4096), (8192, 8192), (4096, 8192)):
        data = bytearray(base)
        for i in range(512):
            put(data, places[0] + 8 * i, 64, places[1], LE)
        yield 'tables at %#x all point to %#x' % places, data
    for cluster, tables in ((1 << 26, 1), (1 << 20, 16), (1 << 26, 16)):
        data = bytearray(base)
        put(data, 4, 32, cluster, LE)
        put(data, 8, 32, tables, LE)
        put(data, 48, 64, 1 << 62, LE)
        put(data, 40, 64, cluster, LE)
        yield 'clusters of %#x, %u in a table' % (cluster, tables), data
    yield from truncations(base, [0, 63, 64, 4096, 4100, 8192, 8195, 12288, 12289])


def luks_cases(img, folder):
    path, secret = os.path.join(folder, 'base'), os.path.join(folder, 'secret')
    with open(secret, 'w') as f:
        f.write('secret')
    run(img, 'create', '-q', '--object', 'secret,id=s,file=' + secret, '-f', 'luks', '-o', 'key-secret=s,iter-time=10',
        path, '4096')
    base = read(path)
    fields = [('magic', 0, 32), ('version', 6, 16), ('payload', 104, 32), ('key_bytes', 108, 32),
              ('iterations', 164, 32)]
    for s in 0, 1, 7:
        at = 208 + 48 * s
        fields += [('slot%u.active' % s, at, 32), ('slot%u.iterations' % s, at + 4, 32),
                   ('slot%u.place' % s, at + 40, 32), ('slot%u.stripes' % s, at + 44, 32)]
    for name, data in each_value(base, fields, BE):
        # Some iterations are work that an image may ask for; what is refused is what is tested.
        work = [get(data, 164, '>I')] + [get(data, 208 + 48 * s + 4, '>I') for s in range(8)]
        if not any(1 << 20 < w <= 50000000 for w in work):
            yield name, data
    for name, at in (('cipher', 8), ('mode', 40), ('hash', 72)):
        for text in b'', b'x' * 32, b'aes\0xts', b'\xff' * 32, b'xts-', b'cbc-essiv:', b'cbc-essiv:' + b'y' * 22, b'ecb':
            data = bytearray(base)
            data[at:at + 32] = text.ljust(32, b'\0')
            yield '%s %r' % (name, text), data
    yield from truncations(base, [0, 6, 207, 591, 592, 4096, 5000, 1 << 20, len(base) - 1])


OTHERS = {'vmdk': vmdk_cases, 'vdi': vdi_cases, 'vpc': vpc_cases, 'vhdx': vhdx_cases, 'qed': qed_cases,
          'luks': luks_cases}


def qcow2_cases(img, folder):
    base = qcow2_base(img, folder)
    yield 'good', base
    yield from each_value(base, QCOW2, BE)
    yield from each_value(base, qcow2_tables(base)[0], BE)
    yield from qcow2_special(base)
    for name, fmt in ((b'x.qcow2', b''), (b'x.qcow2', b'qcow2'), (b'x.qcow2', b'raw'), (b'nothing', b'qcow2'),
                      (b'b.qcow2', b'qcow2'), (b'x' * 200, b''), (b'json:{"driver":"qcow2"}', b''),
                      (b'json:' + b'{"a":' * 30, b''), (b'\x1b[31mred\n', b''), (b'fifo', b'raw'), (b'.', b''),
                      (b'x.qcow2', b'no such format'), (b'nbd:', b''), (b'x.qcow2', b'blkdebug')):
        yield 'backing file %r as %r' % (name[:30], fmt), qcow2_backing(base, name, fmt)
    yield from qcow2_bombs(img, folder)
    # The other half of a loop over two files.
    with open(os.path.join(folder, 'b.qcow2'), 'wb') as f:
        f.write(qcow2_backing(base, b'x.qcow2', b'qcow2'))
    yield 'a loop over two files', qcow2_backing(base, b'b.qcow2', b'qcow2')


def sparse_cases(folder):
    """Long files that are holes: what is in memory must not follow the length."""
    def sparse(data, places, length):
        def write(path):
            with open(path, 'wb') as f:
                f.write(data)
                for at, more in places:
                    f.seek(at)
                    f.write(more)
                f.truncate(length)
        return write
    vdi = bytearray(512)
    for at, bits, v in ((0x40, 32, 0xbeda107f), (0x44, 32, 0x10001), (0x154, 32, 512), (0x158, 32, 1 << 30),
                        (0x168, 32, 512), (0x170, 64, 0xf000000 << 20), (0x178, 32, 1 << 20), (0x180, 32, 0xf000000)):
        put(vdi, at, bits, v, LE)
    yield 'map of 1 GiB', 'vdi', sparse(vdi, [], 1 << 30)
    yield 'map of 1 GiB with data', 'vdi', sparse(vdi, [], 2 << 30)
    vhdx = vhdx_base()
    put(vhdx, VHDX_REGIONS + 40, 32, 1 << 30, LE)
    put(vhdx, MB + 65552, 64, 64 << 40, LE)
    yield 'disk of 64 TiB', 'vhdx', sparse(vhdx_fix(vhdx), [], 2 << 30)
    vpc = bytearray(1536)
    vpc[0:8], vpc[28:32], vpc[512:520] = b'conectix', b'win ', b'cxsparse'
    for at, bits, v in ((16, 64, 512), (48, 64, 512 * 0x7ffffff), (60, 32, 3), (528, 64, 1536), (540, 32, 0x7ffffff),
                        (544, 32, 512)):
        put(vpc, at, bits, v, BE)
    yield 'table of 512 MiB', 'vpc', sparse(vpc_fix(vpc), [], 1 << 30)
    qed = qed_base()
    for at, bits, v in ((4, 32, 1 << 20), (8, 32, 16), (40, 64, 1 << 20), (48, 64, 1 << 62)):
        put(qed, at, bits, v, LE)
    entries = struct.pack('<Q', 32 << 20) * 9
    yield 'tables of 16 MiB', 'qed', sparse(qed[:64], [(1 << 20, entries)], 1 << 30)
    vmdk = bytearray(512)
    for at, bits, v in ((0, 32, 0x564d444b), (4, 32, 1), (8, 32, 3), (12, 64, (16 << 20) * 512 * 8), (20, 64, 8),
                        (44, 32, 512), (48, 64, 1), (56, 64, 1)):
        put(vmdk, at, bits, v, LE)
    yield 'directory of 64 MiB', 'vmdk', sparse(vmdk, [], 1 << 30)


def cases(img, folder):
    os.mkfifo(os.path.join(folder, 'fifo'))
    for fmt, make in [('qcow2', qcow2_cases), *OTHERS.items()]:
        path = os.path.join(folder, 'x.' + fmt)
        for name, data in make(img, folder):
            with open(path, 'wb') as f:
                f.write(data)
            yield name, fmt, path
    for name, fmt, write in sparse_cases(folder):
        path = os.path.join(folder, 'x.' + fmt)
        write(path)
        yield name, fmt, path
