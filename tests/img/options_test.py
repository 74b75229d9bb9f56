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


main(manual, helps, refused, names)
