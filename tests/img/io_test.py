#!/usr/bin/env python3
"""lodge-io against qemu-io: same lines, same status.  usage: io_test.py LODGE-IMG LODGE-IO"""
import shutil

from imgtest import IO, io, main, need_reference, ref, ref_io, run, same, sound, untimed

need_reference()

LINES = ['write 0 64k', 'read -P 0xcd 0 64k', 'read -P 1 0 64k', 'read -v 0 40', 'write -q 0 512', 'write -z 0 4k',
         'write -z -u 128k 64k', 'write -P 7 100 1000', 'writev 4k 1k 2k 3', 'readv -v 4k 16 16', 'discard 64k 64k',
         'aio_write -P 5 0 64k', 'aio_flush', 'aio_read -P 5 0 64k', 'aio_flush', 'alloc 0 1M', 'alloc 64k',
         'length', 'flush', 'read 1M 512', 'read 0 x', 'read -Z 0 1', 'read -s 0 0 1', 'read -l 9 0 1',
         'read -P 5 -s 60k -l 8k 0 64k', 'read -P 5 -s 4k -l 8k 0 64k', 'write -n 0 4k', 'write -u 0 4k', 'write -P foo 0 4k',
         'write -P 300 0 4k', 'write 1 1', 'read 0 3G', 'write -f 0 4k', 'truncate 2M', 'length', 'foo', 'read', 'nothing',
         'read 1 2 3', 'write -c 1 1', 'map']


def outputs(fmt, *more):
    for line in LINES:
        for tool in ('a', 'b'):
            shutil.copy('start.' + fmt, tool + '.' + fmt)
        a = run(IO, '-f', fmt, '-c', 'write -q 0 70k', '-c', line, 'a.' + fmt, status=None)
        b = run('qemu-io', '-f', fmt, '-c', 'write -q 0 70k', '-c', line, 'b.' + fmt, status=None)
        assert untimed(a.stdout) == untimed(b.stdout) and a.returncode == b.returncode, (line, a, b)
        same('a.' + fmt, 'b.' + fmt)


def raw():
    ref('create', '-f', 'raw', 'start.raw', '1M')
    outputs('raw')


def qcow2():
    ref('create', '-f', 'qcow2', 'start.qcow2', '1M')
    LINES.extend(['write -c 128k 64k', 'info'])
    outputs('qcow2')
    sound('a.qcow2')


def stdin():
    ref('create', '-f', 'raw', 'a.raw', '1M')
    text = 'read 0 1\nlength\n\nfoo\nwrite 0 1k'
    a, b = io('-f', 'raw', 'a.raw', stdin=text, status=1), ref_io('-f', 'raw', 'a.raw', stdin=text, status=1)
    assert untimed(a) == untimed(b).replace('qemu-io>', 'lodge-io>'), (a, b)
    assert io('-f', 'raw', '-c', 'quit', '-c', 'foo', 'a.raw') == ''


def opening():
    ref('create', '-f', 'raw', 'a.raw', '1M')
    ref('create', '-f', 'qcow2', 'a.qcow2', '2M')
    assert io('--image-opts', '-c', 'length', 'driver=raw,file.filename=a.raw') == '1 MiB\n'
    assert io('-c', 'open -o driver=qcow2,file.filename=a.qcow2', '-c', 'length', '-c', 'close', '-c', 'open a.raw',
              '-c', 'length') == '2 MiB\n1 MiB\n'
    run(IO, '-r', '-f', 'raw', '-c', 'write 0 1', 'a.raw', status=1)
    io('-f', 'raw', '-c', 'reopen -r', '-c', 'write 0 1', '-c', 'reopen -w', 'a.raw', status=1)
    io('-s', '-f', 'raw', '-c', 'write -P 8 0 1', '-c', 'read -P 8 0 1', 'a.raw')
    io('-f', 'raw', '-c', 'read -P 0 0 1', 'a.raw')
    for args in (('none',), ('-f', 'nothing', 'a.raw'), ('-t', 'nothing', 'a.raw'), ('-d', 'nothing', 'a.raw'), ('--nothing',)):
        assert run(IO, *args, status=1).stderr.startswith('lodge-io: ')
    for mode in ('none', 'writeback', 'writethrough', 'directsync', 'unsafe'):
        io('-t', mode, '-f', 'qcow2', '-c', 'write 1000 1000', '-c', 'read -P 0xcd 1000 1000', 'a.qcow2')


def many():
    ref('create', '-f', 'qcow2', 'a.qcow2', '16M')
    lines = []
    for i in range(64):
        lines += ['-c', 'aio_write -q -P %d %dk 200k' % (i + 1, i * 250)]
    io(*lines, '-c', 'aio_flush', 'a.qcow2')
    check = []
    for i in range(64):
        check += ['-c', 'read -q -P %d %dk 200k' % (i + 1, i * 250)]
    ref_io(*check, 'a.qcow2')
    sound('a.qcow2')


main(raw, qcow2, stdin, opening, many)
