#!/usr/bin/env python3
"""Commands that change an image, checked by qemu-img.  usage: change_test.py LODGE-IMG LODGE-IO"""
import json
import os

from imgtest import IMG, img, main, need_reference, ref, ref_io, run, same, sound

need_reference()


def chain():
    """base.qcow2 under mid.qcow2 under top.qcow2, each with data of its own."""
    ref('create', '-f', 'qcow2', 'base.qcow2', '8M')
    ref_io('-c', 'write -P 1 0 3M', 'base.qcow2')
    ref('create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2', '10M')
    ref_io('-c', 'write -P 2 1M 1M', '-c', 'write -P 2 9M 100k', 'mid.qcow2')
    ref('create', '-f', 'qcow2', '-o', 'cluster_size=4k', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2', '12M')
    ref_io('-c', 'write -P 3 1500k 1M', '-c', 'write -z 0 64k', '-c', 'write -P 3 11M 5k', 'top.qcow2')
    ref('convert', 'top.qcow2', 'want.raw')


def create():
    assert img('create', '-f', 'raw', 'a.raw', '1M') == ref('create', '-f', 'raw', 'a.raw', '1M')
    for args in (('a.qcow2', '1G'), ('-o', 'cluster_size=4k,size=3M', 'a.qcow2'), ('-o', 'compat=0.10', 'a.qcow2', '1M'),
                 ('-b', 'a.raw', '-F', 'raw', 'a.qcow2'), ('-u', '-b', 'none', '-F', 'raw', 'a.qcow2', '5M')):
        a, b = img('create', '-f', 'qcow2', *args), ref('create', '-f', 'qcow2', *args)
        assert sorted(a.split()) == sorted(b.split()), (a, b)
    for args in (('x',), ('-f', 'nothing', 'x', '1M'), ('-o', 'nothing=1', 'x', '1M'), ('x', '1M', '2M'), ('x', '1Q'),
                 ('-f', 'qcow2', '-b', 'none', '-F', 'raw', 'x'), ('-f', 'qcow2', '-b', 'a.raw', 'x')):
        assert run(IMG, 'create', *args, status=1).stderr.startswith('lodge-img: ')
        assert not os.path.exists('x')


def resize():
    chain()
    for size, now in (('20M', 20), ('+4M', 24)):
        assert img('resize', 'top.qcow2', size) == 'Image resized.\n'
        assert json.loads(ref('info', '--output=json', 'top.qcow2'))['virtual-size'] == now << 20
    run(IMG, 'resize', 'top.qcow2', '-12M', status=1)
    img('resize', '-q', '--shrink', 'top.qcow2', '-12M')
    same('top.qcow2', 'want.raw')
    sound('top.qcow2')
    ref('create', '-f', 'raw', 'a.raw', '1M')
    img('resize', '-f', 'raw', '--preallocation=full', 'a.raw', '2M')
    assert os.stat('a.raw').st_size == 2 << 20 and os.stat('a.raw').st_blocks >= 2048


def commit():
    chain()
    assert img('commit', 'top.qcow2') == 'Image committed.\n'
    same('mid.qcow2', 'want.raw')
    same('top.qcow2', 'want.raw')
    sound('top.qcow2', 'mid.qcow2', 'base.qcow2')
    assert not any(e['depth'] == 0 and e['data'] for e in json.loads(ref('map', '--output=json', 'top.qcow2')))


def commit_base():
    chain()
    img('commit', '-q', '-b', 'base.qcow2', 'top.qcow2')
    same('base.qcow2', 'want.raw')
    same('top.qcow2', 'want.raw')
    sound('base.qcow2', 'top.qcow2')
    run(IMG, 'commit', '-b', 'nothing', 'top.qcow2', status=1)
    run(IMG, 'commit', 'base.qcow2', status=1)


def commit_keep():
    chain()
    def own():
        return [e for e in json.loads(ref('map', '--output=json', 'top.qcow2')) if e['depth'] == 0 and e['present']]
    before = own()
    img('commit', '-d', 'top.qcow2')
    same('mid.qcow2', 'want.raw')
    assert own() == before


def rebase():
    chain()
    ref('create', '-f', 'raw', 'other.raw', '5M')
    ref_io('-f', 'raw', '-c', 'write -P 1 0 2M', '-c', 'write -P 9 4M 1M', 'other.raw')
    for args in (('-b', 'base.qcow2', '-F', 'qcow2'), ('-b', 'other.raw', '-F', 'raw'), ('-b', 'mid.qcow2', '-F', 'qcow2'),
                 ('-b', '')):
        img('rebase', *args, 'top.qcow2')
        same('top.qcow2', 'want.raw')
        sound('top.qcow2')
    assert 'backing' not in ref('info', 'top.qcow2')
    img('rebase', '-u', '-b', 'nothing.raw', '-F', 'raw', 'top.qcow2')
    assert 'backing file: nothing.raw' in ref('info', 'top.qcow2')
    run(IMG, 'rebase', 'top.qcow2', status=1)


def snapshots():
    chain()
    img('snapshot', '-c', 'one', 'top.qcow2')
    ref_io('-c', 'write -P 7 0 4M', 'top.qcow2')
    img('snapshot', '-c', 'two', 'top.qcow2')
    sound('top.qcow2')
    img('snapshot', '-a', 'one', 'top.qcow2')
    same('top.qcow2', 'want.raw')
    img('snapshot', '-d', '2', 'top.qcow2')
    img('snapshot', '-d', 'one', 'top.qcow2')
    same('top.qcow2', 'want.raw')
    sound('top.qcow2')
    assert ref('snapshot', '-l', 'top.qcow2') == ''
    run(IMG, 'snapshot', '-a', 'nothing', 'top.qcow2', status=1)
    run(IMG, 'snapshot', '-a', 'one', '-d', 'one', 'top.qcow2', status=1)


def bitmaps():
    ref('create', '-f', 'qcow2', 'a.qcow2', '4M')
    img('bitmap', '--add', '-g', '4k', 'a.qcow2', 'one')
    ref_io('-c', 'write 1M 1M', 'a.qcow2')
    img('bitmap', '--add', '--merge', 'one', '--disable', 'a.qcow2', 'two')
    info = json.loads(ref('info', '--output=json', 'a.qcow2'))['format-specific']['data']['bitmaps']
    assert {(b['name'], b['granularity'], tuple(b['flags'])) for b in info} == \
        {('one', 4096, ('auto',)), ('two', 65536, ())}, info
    sound('a.qcow2')
    img('bitmap', '--remove', 'a.qcow2', 'one')
    run(IMG, 'bitmap', '--clear', 'a.qcow2', 'one', status=1)
    run(IMG, 'bitmap', 'a.qcow2', 'two', status=1)


def amend():
    chain()
    img('amend', '-o', 'lazy_refcounts=on', 'top.qcow2')
    assert 'lazy refcounts: true' in ref('info', 'top.qcow2')
    img('amend', '-o', 'compat=0.10', 'mid.qcow2')
    assert 'compat: 0.10' in ref('info', 'mid.qcow2')
    same('top.qcow2', 'want.raw')
    run(IMG, 'amend', '-o', 'cluster_size=4k', 'mid.qcow2', status=1)
    run(IMG, 'amend', 'mid.qcow2', status=1)


def rebase_version2():
    """Zeros that version 2 cannot mark are written: what lies below must not show."""
    ref('create', '-q', '-f', 'raw', 'below', '1M')
    ref_io('-f', 'raw', '-c', 'write -q -P 7 0 1M', 'below')
    ref('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'top', '1M')
    img('rebase', '-b', 'below', '-F', 'raw', '-f', 'qcow2', 'top')
    assert 'failed' not in ref_io('-f', 'qcow2', '-c', 'read -q -P 0 0 1M', 'top')
    sound('top')


def grown_after_others():
    """What another program left behind the end of a shrunk image does not show when it grows."""
    ref('create', '-q', '-f', 'qcow2', 'shrunk', '1M')
    ref_io('-f', 'qcow2', '-c', 'write -q -P 9 0 1M', '-c', 'truncate 520192', 'shrunk')
    img('resize', '-q', 'shrunk', '1M')
    assert 'failed' not in ref_io('-f', 'qcow2', '-c', 'read -q -P 0 520192 1k', 'shrunk')
    sound('shrunk')


def refused():
    chain()
    err = run(IMG, 'convert', '--no-backing', 'top.qcow2', 'x.raw', status=1).stderr
    assert err.startswith('lodge-img: ') and not os.path.exists('x.raw')
    img('info', '--no-backing', 'base.qcow2')


main(create, resize, commit, commit_base, commit_keep, rebase, snapshots, bitmaps, amend, rebase_version2, grown_after_others, refused)
