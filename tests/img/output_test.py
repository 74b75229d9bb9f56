#!/usr/bin/env python3
"""What lodge-img prints of an image, against qemu-img.  usage: output_test.py LODGE-IMG LODGE-IO"""
from imgtest import both, img, main, need_reference, ref, ref_io, run, IMG

need_reference()


def show(name, commands=('info', 'map', 'check')):
    for c in commands:
        both(c, name)
        both(c, '--output=json', name)
    both('snapshot', '-l', name)
    both('measure', '-O', 'qcow2', name)
    both('measure', '-O', 'raw', '--output=json', name)


def raw():
    ref('create', '-f', 'raw', 'a.raw', '5M')
    show('a.raw')
    ref_io('-f', 'raw', '-c', 'write 0 64k', '-c', 'write 3M 8k', 'a.raw')
    show('a.raw')
    for more in (('--start-offset=32k',), ('--start-offset=32k', '--max-length=3M'), ('--max-length=1',)):
        both('map', '--output=json', *more, 'a.raw')


def chain():
    ref('create', '-f', 'qcow2', '-o', 'cluster_size=4k', 'a.qcow2', '10M')
    ref_io('-c', 'write 0 64k', '-c', 'write -z 64k 64k', '-c', 'write -P 3 1M 8k', 'a.qcow2')
    ref('create', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'b.qcow2', '12M')
    ref_io('-c', 'write -P 9 8k 4k', '-c', 'write 11M 64k', 'b.qcow2')
    show('b.qcow2')
    both('info', '--backing-chain', 'b.qcow2')
    both('info', '--backing-chain', '--output=json', 'b.qcow2')
    ref('snapshot', '-c', 'first', 'b.qcow2')
    ref('snapshot', '-c', 'a name that is longer than its column', 'b.qcow2')
    show('b.qcow2')


def kinds():
    for i, o in enumerate(('compat=0.10', 'extended_l2=on', 'lazy_refcounts=on,cluster_size=512', 'refcount_bits=1',
                           'compression_type=zstd', 'cluster_size=2M')):
        name = '%d.qcow2' % i
        ref('create', '-f', 'qcow2', '-o', o, name, '20M')
        ref_io('-c', 'write 1M 100k', name)
        show(name)


def bitmaps():
    ref('create', '-f', 'qcow2', 'a.qcow2', '1M')
    ref('bitmap', '--add', 'a.qcow2', 'one')
    ref('bitmap', '--add', '--disable', '-g', '4k', 'a.qcow2', 'two')
    show('a.qcow2')


def compare():
    ref('create', '-f', 'raw', 'a.raw', '1M')
    ref('create', '-f', 'qcow2', 'b.qcow2', '1M')
    ref('create', '-f', 'raw', 'c.raw', '3M')
    ref_io('-f', 'raw', '-c', 'write 70k 1k', 'a.raw')
    for a in ('a.raw', 'b.qcow2', 'c.raw'):
        for b in ('a.raw', 'b.qcow2', 'c.raw', 'none'):
            for more in ((), ('-q',)):
                both('compare', *more, a, b)
    both('compare', '-s', 'a.raw', 'c.raw')
    both('compare', '-s', 'a.raw', 'a.raw')
    ref_io('-f', 'raw', '-c', 'write -P 1 2M 1k', 'c.raw')
    both('compare', 'b.qcow2', 'c.raw')
    assert run(IMG, 'compare', 'a.raw', 'none', status=2).stderr.startswith('lodge-img: ')


def measure():
    for size in ('0', '1', '1G', '1.5T', '100k'):
        both('measure', '--size', size, '-O', 'qcow2')
        both('measure', '--size', size, '-O', 'raw', '--output=json')
    for o in ('cluster_size=512', 'extended_l2=on', 'preallocation=full', 'refcount_bits=64'):
        both('measure', '--size', '1G', '-O', 'qcow2', '-o', o)


def broken():
    ref('create', '-f', 'qcow2', 'a.qcow2', '1M')
    ref_io('-c', 'write 0 256k', 'a.qcow2')
    with open('a.qcow2', 'r+b') as f:  # the refcount of a cluster of data
        f.seek(0x20000 + 2 * 7)
        f.write(b'\0\0')
    for output in ('human', 'json'):
        a = run(IMG, 'check', '--output=' + output, 'a.qcow2', status=2)
        b = run('qemu-img', 'check', '--output=' + output, 'a.qcow2', status=2)
        assert a.stdout.splitlines()[-4:] == b.stdout.splitlines()[-4:] or output == 'json', (a, b)
    img('check', '-r', 'all', 'a.qcow2')
    ref('check', 'a.qcow2')


def preallocated():
    """Clusters ahead of their data are holes of the file, which are looked for only if there are many."""
    for p in ('off', 'metadata', 'falloc', 'full'):
        for o in ('cluster_size=64k', 'cluster_size=4k', 'cluster_size=2M', 'extended_l2=on,cluster_size=128k'):
            for w in ('write -P 3 1M 300k', 'write 0 7M', 'write -z 2M 3M', 'discard 1M 2M', 'write -P 0 3333k 77k'):
                ref('create', '-q', '-f', 'qcow2', '-o', f'preallocation={p},{o}', 'p.qcow2', '8M')
                ref_io('-d', 'unmap', '-c', w, '-c', 'write -P 7 5M 2k', '-c', 'discard 6M 1M', 'p.qcow2')
                both('map', '--output=json', 'p.qcow2')
                both('measure', '-O', 'qcow2', 'p.qcow2')
    img('convert', '-O', 'raw', 'p.qcow2', 'p.raw')
    both('compare', 'p.qcow2', 'p.raw')


main(raw, chain, kinds, preallocated, bitmaps, compare, measure, broken)
