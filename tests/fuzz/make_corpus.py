#!/usr/bin/env python3
"""Seeds for the fuzz targets of the block layer: small images and conversations, as the targets
read them. make_corpus.py LODGE_IMG CORPUS [QEMU_IMG]"""
import os, struct, subprocess, sys, tempfile

img, out = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
qemu = sys.argv[3] if len(sys.argv) > 3 else None


def run(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def pack(data):
    """The file's size, then pieces: offset, length, bytes. Holes are left out."""
    res, at = struct.pack('<I', len(data)), 0
    while at < len(data):
        piece = data[at:at + 64]
        if not any(piece):
            at += 64
            continue
        end = at
        while end < len(data) and any(data[end:end + 64]) and end - at < 0xff00:
            end += 64
        end = min(end, len(data))
        res += struct.pack('<IH', at, end - at) + data[at:end]
        at = end
    return res


def save(target, name, data):
    os.makedirs(os.path.join(out, target), exist_ok=True)
    with open(os.path.join(out, target, name), 'wb') as f:
        f.write(data)


def image(target, name, path):
    with open(path, 'rb') as f:
        save('image_' + target, name, pack(f.read()))


def create(fmt, path, size, **opts):
    o = ','.join('%s=%s' % kv for kv in opts.items())
    run(img, 'create', '-q', '-f', fmt, *(['-o', o] if o else []), path, str(size))


def some_raw(path, size):
    with open(path, 'wb') as f:
        f.truncate(size)
        f.write(b'hello, disk ' * 100)
        f.seek(size // 2)
        f.write(b'\xa5' * 700)


def qcow2_seeds():
    create('qcow2', 'plain', 100000, cluster_size=512)
    image('qcow2', 'empty', 'plain')
    run(img, 'convert', '-O', 'qcow2', '-o', 'cluster_size=512', 'raw', 'data')
    image('qcow2', 'data', 'data')
    run(img, 'snapshot', '-c', 'one', 'data')
    run(img, 'snapshot', '-c', 'two', 'data')
    image('qcow2', 'snapshots', 'data')
    run(img, 'bitmap', '--add', '-g', '512', 'data', 'marks')
    run(img, 'bitmap', '--add', '-g', '1024', 'data', 'more')
    image('qcow2', 'bitmaps', 'data')
    for kind in 'zlib', 'zstd':
        run(img, 'convert', '-c', '-O', 'qcow2', '-o',
            'cluster_size=4k,compression_type=' + kind, 'raw', 'packed')
        image('qcow2', kind, 'packed')
    create('qcow2', 'old', 60000, cluster_size=512, compat='0.10')
    image('qcow2', 'old', 'old')
    create('qcow2', 'extended', 60000, cluster_size='16k', extended_l2='on')
    image('qcow2', 'extended', 'extended')
    create('qcow2', 'lazy', 60000, cluster_size=512, lazy_refcounts='on', refcount_bits=64)
    with open('lazy', 'r+b') as f:
        f.seek(79)
        f.write(b'\1')  # dirty
    image('qcow2', 'dirty', 'lazy')


def qed():
    head = struct.pack('<4sIIIQQQQQII', b'QED\0', 4096, 1, 1, 0, 0, 0, 4096, 1 << 20, 0, 0)
    return (head.ljust(4096, b'\0') + struct.pack('<Q', 8192).ljust(4096, b'\0') +
            struct.pack('<QQQQ', 12288, 1, 0, 12288).ljust(4096, b'\0') + b'data' * 1024)


def other_seeds():
    for fmt, name, opts in (('vmdk', 'sparse', {}), ('vmdk', 'stream', {'subformat': 'streamOptimized'}),
                            ('vdi', 'dynamic', {}), ('vpc', 'dynamic', {}),
                            ('vpc', 'fixed', {'subformat': 'fixed'})):
        o = ','.join('%s=%s' % kv for kv in opts.items())
        run(img, 'convert', '-O', fmt, *(['-o', o] if o else []), 'raw', 'other')
        image(fmt, name, 'other')
    save('image_vmdk', 'text', pack(b'# Disk DescriptorFile\nversion=1\nCID=0000abcd\n'
         b'parentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\nRW 10 ZERO\n'
         b'RW 1 FLAT "5" 0\nRW 1 SPARSE "5"\nparentFileNameHint="x"\n'))
    save('image_qed', 'made', pack(qed()))
    if qemu:
        run(qemu, 'convert', '-O', 'vhdx', 'raw', 'other')
        image('vhdx', 'made', 'other')
    with open('raw', 'rb') as f:
        save('image_raw', 'data', pack(f.read()))
    with open('secret', 'w') as f:
        f.write('secret')
    run(img, 'create', '-q', '--object', 'secret,id=s,file=secret', '-f', 'luks', '-o',
        'key-secret=s,iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain', 'crypt', '4096')
    with open('crypt', 'rb') as f:
        head = f.read(1024)
    save('image_luks', 'header', struct.pack('<I', os.path.getsize('crypt')) +
         struct.pack('<IH', 0, len(head)) + head)


def option_seeds():
    for i, text in enumerate((
            'json:{"driver":"raw","offset":512,"size":1024,"file":{"driver":"file","filename":"@"}}',
            'json:{"driver":"qcow2","file.filename":"@","l2-cache-size":"1M","overlap-check":"all"}',
            'json:{"driver":"throttle","limits":{"bps-total":1000000},"file":{"filename":"@"}}',
            '@\ndriver=raw\noffset=1k\nsize=1k\nread-only=on\ncache.direct=off\nfile.locking=off',
            '@\ndriver=copy-on-read\nfile.driver=raw\nfile.file.driver=file\nfile.file.filename=@',
            'file:@\ndetect-zeroes=unmap\ndiscard=unmap\nforce-share=on\nnode-name=a')):
        save('block_opts', 'text%u' % i, text.encode())


def option(n, data=b''):
    return b'IHAVEOPT' + struct.pack('>II', n, len(data)) + data


def request(cmd, cookie, off, length, flags=0, data=b''):
    return struct.pack('>IHHQQI', 0x25609513, flags, cmd, cookie, off, length) + data


def server_seeds():
    """What clients say."""
    go = option(7, struct.pack('>I', 1) + b'x' + struct.pack('>HHH', 2, 1, 3))
    meta = option(10, struct.pack('>I', 1) + b'x' + struct.pack('>I', 3) + b''.join(
        struct.pack('>I', len(q)) + q
        for q in (b'base:allocation', b'qemu:allocation-depth', b'qemu:dirty-bitmap:marks')))
    work = (request(1, 1, 512, 1024, 1, b'w' * 1024) + request(0, 2, 0, 4096) +
            request(7, 3, 0, 100000) + request(6, 4, 0, 8192, 2) + request(4, 5, 0, 4096) +
            request(3, 6, 0, 0) + request(0, 7, 0, 200000, 4) + request(2, 8, 0, 0))
    save('nbd_server', 'structured', struct.pack('>I', 3) + option(8) + meta + go + work)
    save('nbd_server', 'simple', struct.pack('>I', 3) + option(3) + go + work)
    save('nbd_server', 'name', struct.pack('>I', 1) + option(1, b'x') + work)
    save('nbd_server', 'list', struct.pack('>I', 3) + option(3) + option(9, meta[16:]) +
         option(6, go[16:]) + option(5) + option(2))


def reply(opt, kind, data=b''):
    return struct.pack('>QIII', 0x0003e889045565a9, opt, kind, len(data)) + data


def chunk(cookie, kind, data=b'', flags=1):
    return struct.pack('>IHHQI', 0x668e33ef, flags, kind, cookie, len(data)) + data


def talk(name, bitmap, hello, answers):
    save('nbd_client', name, struct.pack('<BH', bitmap, len(hello)) + hello + answers)


def client_seeds():
    """What servers say. Cookies are counted: call n in slot i has 16 * n + i."""
    hello = b'NBDMAGICIHAVEOPT' + struct.pack('>H', 3)
    info = (reply(7, 3, struct.pack('>HQH', 0, 65536, 0x5ed)) +
            reply(7, 3, struct.pack('>HIII', 3, 1, 4096, 1 << 20)) + reply(7, 1))
    data = bytes(range(256)) * 4
    new = hello + reply(8, 1) + reply(10, 4, struct.pack('>I', 5) + b'base:allocation') + reply(10, 1) + info
    answers = b''
    for n in range(3):
        c = 16 * n + n
        answers += chunk(c, 1, struct.pack('>Q', 512 * n) + data[:512], 0)
        answers += chunk(c, 2, struct.pack('>QI', 512 * n + 512, 512), 1)
    for n in range(3, 6):
        c = 16 * n + n - 3
        answers += chunk(c, 5, struct.pack(">III", 5, 4096, 3))
    for n in range(6, 9):
        answers += chunk(16 * n + n - 6, 0)
    answers += chunk(16 * 9, 0x8001, struct.pack('>IH', 5, 0))
    talk('structured', 0, new, answers)
    marks = hello + reply(8, 1) + reply(10, 4, struct.pack('>I', 5) + b'qemu:dirty-bitmap:marks') + reply(10, 1)
    talk('bitmap', 1, marks + info, answers)
    simple = b''
    for n in range(3):
        simple += struct.pack('>IIQ', 0x67446698, 0, 17 * n) + data
    for n in range(3, 9):
        simple += struct.pack('>IIQ', 0x67446698, n % 2 * 5, 16 * n + n % 3)
    talk('simple', 0, hello + reply(8, 1 << 31 | 1) + info, simple)
    talk('name', 0, hello + reply(8, 1 << 31 | 1) + reply(7, 1 << 31 | 1) +
         struct.pack('>QH', 65536, 0x1ed), simple)
    talk('old', 0, b'NBDMAGIC' + struct.pack('>QQIH', 0x00420281861253, 65536, 0, 1) + bytes(122), simple)


with tempfile.TemporaryDirectory() as tmp:
    os.chdir(tmp)
    some_raw('raw', 40000)
    qcow2_seeds()
    other_seeds()
option_seeds()
server_seeds()
client_seeds()
