#!/usr/bin/env python3
"""convert and dd, checked by qemu-img.  usage: convert_test.py LODGE-IMG LODGE-IO"""
import os
import shutil
import signal
import subprocess
import time

from imgtest import IMG, img, main, need_reference, ref, ref_io, run, same, sound

need_reference()


def source():
    """Data, holes, stored zeros, pieces smaller than clusters; the end is no cluster's."""
    with open('s.raw', 'wb') as f:
        f.truncate((33 << 20) + 1536)
        for at, data in ((0, b'a' * 70000), (3 << 20, os.urandom(5 << 20)), (9 << 20, bytes(1 << 20)),
                         ((12 << 20) + 512, b'b' * 512), (20 << 20, (b'c' * 4096 + bytes(4096)) * 100),
                         (33 << 20, b'd' * 1536)):
            f.seek(at)
            f.write(data)


def blocks(name):
    """Space taken, once the file system has made up its mind."""
    with open(name, 'rb') as f:
        os.fsync(f.fileno())
    return os.stat(name).st_blocks


def formats():
    source()
    for i, o in enumerate(('', 'cluster_size=512', 'cluster_size=2M', 'extended_l2=on', 'compat=0.10', 'lazy_refcounts=on',
                           'preallocation=metadata', 'refcount_bits=64')):
        for more in ((), ('-W', '-m', '16'), ('-m', '1', '-S', '64k'), ('-S', '0')):
            opts = ('-o', o) if o else ()
            img('convert', '-f', 'raw', '-O', 'qcow2', *more, *opts, 's.raw', 'q.qcow2')
            same('s.raw', 'q.qcow2')
            sound('q.qcow2')
            img('convert', *more, 'q.qcow2', 'r.raw')
            assert open('s.raw', 'rb').read() == open('r.raw', 'rb').read()
            os.unlink('r.raw')


def sparse():
    source()
    img('convert', '-f', 'raw', 's.raw', 'a.raw')
    ref('convert', '-f', 'raw', 's.raw', 'b.raw')
    a, b = blocks('a.raw'), blocks('b.raw')
    assert a <= b + 64, (a, b)
    img('convert', '-f', 'raw', '-S', '0', 's.raw', 'full.raw')
    assert blocks('full.raw') * 512 >= 33 << 20
    run(IMG, 'convert', '-S', '3', 's.raw', 'x', status=1)


def compressed():
    source()
    for o in ('compression_type=zlib', 'compression_type=zstd', 'cluster_size=4k', 'cluster_size=2M'):
        img('convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', o, 's.raw', 'c.qcow2')
        same('s.raw', 'c.qcow2')
        sound('c.qcow2')
        img('convert', 'c.qcow2', 'r.raw')
        assert open('s.raw', 'rb').read() == open('r.raw', 'rb').read()
    run(IMG, 'convert', '-c', '-f', 'raw', 's.raw', 'x.raw', status=1)
    assert not os.path.exists('x.raw')


def not_compressed():
    """What cannot hold compressed clusters says so, and nothing is left behind."""
    source()
    secret = ('--object', 'secret,id=s,data=x')
    for more, text in ((('-o', 'data_file=d.raw'), 'data file'), ((*secret, '-o', 'encrypt.format=luks,encrypt.iter-time=10,'
                       'encrypt.key-secret=s'), 'Compression and encryption'), ((*secret, '-o', 'encrypt.format=aes,encrypt.key-secret=s'),
                       'Compression and encryption')):
        assert text in run(IMG, 'convert', '-c', '-f', 'raw', '-O', 'qcow2', *more, 's.raw', 'x', status=1).stderr
        assert run('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', *more, 's.raw', 'y', status=None).returncode == 1
        assert not os.path.exists('x')
    assert 'raw' in run(IMG, 'convert', '-c', '-f', 'raw', '-O', 'raw', 's.raw', 'x', status=1).stderr


def odd():
    for n in (1, 511, 513, 4097, 65537, (2 << 20) + 1):
        open('o.raw', 'wb').write(os.urandom(n))
        img('convert', '-f', 'raw', '-O', 'qcow2', 'o.raw', 'o.qcow2')
        same('o.raw', 'o.qcow2')
        img('convert', 'o.qcow2', 'p.raw')
        data = open('p.raw', 'rb').read()
        assert data == open('o.raw', 'rb').read() + bytes(-n % 512)
    open('empty.raw', 'wb').close()
    img('convert', '-f', 'raw', '-O', 'qcow2', 'empty.raw', 'e.qcow2')
    sound('e.qcow2')


def several():
    for n, name in ((100 << 10, 'a'), (513, 'b'), (3 << 20, 'c')):
        open(name, 'wb').write(os.urandom(n))
    for tool in (img, ref):
        tool('convert', '-f', 'raw', '-O', 'qcow2', 'a', 'b', 'c', tool.__name__)
    same('img', 'ref')


def backing():
    source()
    ref('convert', '-f', 'raw', '-O', 'qcow2', 's.raw', 'base.qcow2')
    ref('create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2', '40M')
    ref_io('-c', 'write -P 1 1M 100k', '-c', 'write -z 4M 1M', '-c', 'write 39M 1M', 'top.qcow2')
    for tool in (img, ref):
        tool('convert', '-O', 'qcow2', '-B', 'base.qcow2', '-F', 'qcow2', 'top.qcow2', tool.__name__)
        same('top.qcow2', tool.__name__)
    sound('img')
    # A cluster with the backing file's end in it is copied.
    assert blocks('img') <= blocks('ref') + 2 * 128, (blocks('img'), blocks('ref'))
    run(IMG, 'convert', '-O', 'qcow2', '-B', 'base.qcow2', 'top.qcow2', 'x', status=1)


def existing():
    source()
    open('t.raw', 'wb').write(b'\xff' * (34 << 20))
    img('convert', '-n', '-f', 'raw', '-O', 'raw', 's.raw', 't.raw')
    data = open('s.raw', 'rb').read()
    assert open('t.raw', 'rb').read() == data + b'\xff' * ((34 << 20) - len(data))
    img('create', '-q', '-f', 'qcow2', 't.qcow2', '40M')
    img('convert', '-n', '--target-is-zero', '-f', 'raw', '-O', 'qcow2', 's.raw', 't.qcow2')
    same('s.raw', 't.qcow2')
    img('convert', '-n', '-f', 'raw', '--target-image-opts', 's.raw', 'driver=qcow2,file.filename=t.qcow2')
    same('s.raw', 't.qcow2')
    img('create', '-q', '-f', 'raw', 'small.raw', '1M')
    run(IMG, 'convert', '-n', '-f', 'raw', 's.raw', 'small.raw', status=1)
    assert os.path.exists('small.raw')


def snapshot():
    ref('create', '-f', 'qcow2', 'a.qcow2', '4M')
    ref_io('-c', 'write -P 1 0 1M', 'a.qcow2')
    ref('convert', 'a.qcow2', 'then.raw')
    ref('snapshot', '-c', 'then', 'a.qcow2')
    ref_io('-c', 'write -P 2 0 2M', 'a.qcow2')
    for param in ('then', '1', 'snapshot.name=then', 'snapshot.id=1'):
        img('convert', '-l', param, 'a.qcow2', 's.raw')
        same('then.raw', 's.raw')
    run(IMG, 'convert', '-l', 'nothing', 'a.qcow2', 'x', status=1)


def bitmaps():
    ref('create', '-f', 'qcow2', 'a.qcow2', '4M')
    ref('bitmap', '--add', 'a.qcow2', 'one')
    ref_io('-c', 'write 1M 1M', 'a.qcow2')
    img('convert', '--bitmaps', '-O', 'qcow2', 'a.qcow2', 'b.qcow2')
    assert 'name: one' in ref('info', 'b.qcow2')
    sound('b.qcow2')


def stopped():
    source()
    p = subprocess.Popen([IMG, 'convert', '-r', '1M', '-f', 'raw', 's.raw', 'new.raw'], stderr=subprocess.PIPE)
    while not os.path.exists('new.raw'):
        time.sleep(0.01)
    time.sleep(0.2)
    p.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    p.send_signal(signal.SIGINT)
    text = p.communicate(timeout=20)[1].decode()
    assert p.returncode == 130 and '/100%)' in text and 'lodge-img: ' in text, (p.returncode, text)
    assert not os.path.exists('new.raw')


def dd():
    source()
    for args in ((), ('bs=1k', 'count=5'), ('bs=1M', 'skip=3'), ('bs=4k', 'count=9', 'skip=2'), ('bs=1M', 'skip=99')):
        for tool in (img, ref):
            tool('dd', '-f', 'raw', *args, 'if=s.raw', 'of=' + tool.__name__)
        assert open('img', 'rb').read() == open('ref', 'rb').read(), args
        img('dd', '-f', 'raw', '-O', 'qcow2', *args, 'if=s.raw', 'of=q.qcow2')
        same('q.qcow2', 'ref')
    run(IMG, 'dd', 'if=s.raw', status=1)


def offload():
    """-C: the host copies raw files; else data is copied as ever, in both cases stored zeros, too."""
    source()
    data = open('s.raw', 'rb').read()
    ref('convert', '-C', '-f', 'raw', 's.raw', 'ref.raw')
    for more in ((), ('-m', '1'), ('-W', '-m', '16'), ('-t', 'none'), ('-T', 'none'), ('-t', 'writethrough')):
        img('convert', '-C', *more, '-f', 'raw', 's.raw', 'a.raw')
        assert open('a.raw', 'rb').read() == data, more
        assert abs(blocks('a.raw') - blocks('ref.raw')) <= 64, (blocks('a.raw'), blocks('ref.raw'))
        os.unlink('a.raw')
    part = 'driver=raw,offset=3M,size=10M,file.filename=s.raw'
    img('convert', '-C', '--image-opts', part, 'a.raw')
    assert open('a.raw', 'rb').read() == data[3 << 20:13 << 20]
    open('odd', 'wb').write(data[9 << 20:(13 << 20) + 77])
    img('convert', '-C', '-f', 'raw', 'odd', 's.raw', 'odd', 'a.raw')
    ref('convert', '-C', '-f', 'raw', 'odd', 's.raw', 'odd', 'b.raw')
    assert open('a.raw', 'rb').read() == open('b.raw', 'rb').read()
    open('t.raw', 'wb').write(b'\xff' * (34 << 20))
    img('convert', '-C', '-n', '-f', 'raw', '-O', 'raw', 's.raw', 't.raw')
    assert open('t.raw', 'rb').read() == data + b'\xff' * ((34 << 20) - len(data))
    img('convert', '-C', '-f', 'raw', '-O', 'qcow2', 's.raw', 'a.qcow2')
    ref('convert', '-C', '-f', 'raw', '-O', 'qcow2', 's.raw', 'b.qcow2')
    same('s.raw', 'a.qcow2')
    assert abs(blocks('a.qcow2') - blocks('b.qcow2')) <= 256, (blocks('a.qcow2'), blocks('b.qcow2'))
    img('convert', '-C', 'a.qcow2', 'a.raw')
    same('s.raw', 'a.raw')
    if shutil.which('strace'):
        p = subprocess.run(['strace', '-f', '-e', 'trace=copy_file_range', IMG, 'convert', '-C', '-f', 'raw', 's.raw',
                            'a.raw'], capture_output=True, text=True)
        assert p.returncode or 'copy_file_range(' in p.stderr, p.stderr
    for more in ('-c', '-S4k', '--salvage'):
        assert 'copy offloading' in run(IMG, 'convert', '-C', more, 's.raw', 'x', status=1).stderr


main(formats, sparse, compressed, not_compressed, odd, several, backing, existing, snapshot, bitmaps, stopped, dd, offload)
