#!/usr/bin/env python3
"""Options, help and manuals.  usage: options_test.py LODGE-IMG LODGE-IO MANDIR"""
import os
import re
import sys

from imgtest import IMG, IO, main, run

MAN = os.path.abspath(sys.argv[3])
COMMANDS = 'amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot'.split()


def options(text):
    return set(re.findall(r'^  (?:-., |    )--([a-z-]+)', text, re.M))


def manual():
    text = open(os.path.join(MAN, 'lodge-img.1')).read().replace('\\-', '-')
    for c in COMMANDS:
        assert re.search(r'^\.Ss ' + c + '$', text, re.M), c
        for o in options(run(IMG, c, '--help').stdout):
            assert '-' + o in text, (c, o)
    text = open(os.path.join(MAN, 'lodge-io.1')).read().replace('\\-', '-')
    for o in options(run(IO, '--help').stdout):
        assert '-' + o in text, o


def helps():
    out = run(IMG, '--help').stdout
    for c in COMMANDS:
        assert re.search(r'^  ' + c + ' ', out, re.M), c
        assert run(IMG, c, '-h').stdout == run(IMG, c, '--help').stdout
    assert 'version' in run(IMG, '--version').stdout and 'version' in run(IO, '-V').stdout


def refused():
    for args, word in ((('inof',), 'info'), (('info', '--outptu', 'x'), 'output'), (('create', '-f', 'qcwo2', 'x', '1M'), 'qcow2'),
                       (('convert', '-t', 'unsaef', 'a', 'b'), 'unsafe'), (('--versino',), '--version'), ((), 'help')):
        err = run(IMG, *args, status=1).stderr
        assert err.startswith('lodge-img: ') and word in err and err.count('\n') == 1, (args, err)
    for c in COMMANDS:
        assert run(IMG, c, status=2 if c == 'compare' else 1).stderr.startswith('lodge-img: ')


def names():
    os.symlink(IMG, 'qemu-img')
    assert run('./qemu-img', 'info', 'none', status=1).stderr.startswith('qemu-img: ')


def shared():
    """A node that one writes is not what another relies on, also with something in between."""
    run(IMG, 'create', '-q', '-f', 'qcow2', 'a.qcow2', '1M')
    node = 'file.filename=a.qcow2,file.node-name=f'
    plain, between = 'driver=qcow2,' + node, 'driver=qcow2,file.driver=raw,file.' + node.replace(',', ',file.')
    for image, more, status in ((plain, '', 1), (between, '', 1), (plain, ',read-only=on', 0),
                                (between, ',backing.force-share=on', 0)):
        for below in ('backing.driver=qcow2,backing.file=f', 'backing.driver=qcow2,backing.file.driver=raw,backing.file.file=f'):
            if 'read-only' not in more and 'file.file=f' in below and not status:
                continue  # the raw node in between does not share by itself
            ro = ('-r',) if 'read-only' in more else ()
            p = run(IO, '--image-opts', *ro, '-c', 'read 0 4k', f'{image},{below}{more}', status=status)
            assert not status or "Permission conflict on node 'f'" in p.stderr, p.stderr
    data = 'driver=qcow2,file.filename=d.qcow2,data-file=f,backing.driver=qcow2,backing.file.filename=a.qcow2,backing.file.node-name=f'
    run(IMG, 'create', '-q', '-f', 'qcow2', '-o', 'data_file=d.raw', 'd.qcow2', '1M')
    run(IO, '--image-opts', '-c', 'read 0 4k', data, status=1)


main(manual, helps, refused, names, shared)
