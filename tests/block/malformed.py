#!/usr/bin/env python3
"""Malformed images: every tool ends with a status of its own and, where it could not do its work,
one sentence that names the image; soon, and in little memory.

usage: malformed.py LODGE-IMG LODGE-IO [WORD]: only cases with the word in their name"""
import os
import resource
import sys
import tempfile
import time

import malformed_images

IMG, IO = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
ONLY = sys.argv[3] if len(sys.argv) > 3 else ''
SECONDS, MEGABYTES = 4, 64  # of processor time; at most this much memory
SLOW = 10  # times, for builds with sanitizers


def sanitized():
    with open(IMG, 'rb') as f:
        return b'__asan_init' in f.read()


ASAN = sanitized()


def start(args, out, err):
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        limit = 64 << 20
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os.execv(args[0], args)
    finally:
        os._exit(127)


def run(args):
    """Status (or minus the signal), seconds of processor, megabytes, errors."""
    with tempfile.TemporaryFile() as err, open(os.devnull, 'w') as out:
        pid = start(args, out.fileno(), err.fileno())
        _, status, used = os.wait4(pid, 0)
        err.seek(0)
        code = os.waitstatus_to_exitcode(status)
        return code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, err.read().decode(errors='replace')


def commands(fmt, path):
    if fmt == 'luks':
        secret = ['--object', 'secret,id=s,data=secret']
        opts = ['--image-opts', 'driver=luks,key-secret=s,file.filename=' + path]
        return {'info': [IMG, 'info', '-f', fmt, path], 'read': [IO, *secret, *opts, '-r', '-c', 'read 0 64k']}
    return {'info': [IMG, 'info', '-f', fmt, path], 'read': [IO, '-f', fmt, '-r', '-c', 'read 0 64k', path],
            'check': [IMG, 'check', '-f', fmt, path], 'map': [IMG, 'map', '--output=json', '-f', fmt, path]}


# What check found is a status, too: 2 errors, 3 leaks; 63: the format has none.
STATUS = {'info': (0, 1), 'check': (0, 1, 2, 3, 63), 'map': (0, 1), 'read': (0, 1)}


def complaint(what, path, got):
    status, seconds, megabytes, err = got
    lines = err.strip().splitlines()
    if status not in STATUS[what]:
        return 'status %d: %s' % (status, err[-2000:])
    if seconds > SECONDS * (SLOW if ASAN else 1):
        return '%.1f seconds' % seconds
    if megabytes > MEGABYTES and not ASAN:
        return '%.0f MiB' % megabytes
    if status == 1 and what != 'check' and what != 'read' and (len(lines) != 1 or os.path.basename(path) not in err
                                                              and 'b.qcow2' not in err):
        return 'is not one sentence that names it: %r' % err
    if len(lines) > 1 or any(ord(c) < 32 for line in lines for c in line):
        return 'says more than a sentence: %r' % err
    return None


def main():
    failures = count = 0
    began, worst = time.time(), (0, 0)
    with tempfile.TemporaryDirectory(prefix='malformed-') as folder:
        os.chdir(folder)
        for name, fmt, path in malformed_images.cases(IMG, folder):
            if ONLY and ONLY not in fmt + ' ' + name:
                continue
            opens = 0
            for what, args in commands(fmt, path).items():
                if what in ('check', 'map') and opens != 0:
                    continue  # opening it failed twice: it does so here
                if what == 'map' and name.endswith('with data'):
                    continue  # every block is the same one: a list of 2^28 lines is what there is to say
                count += 1
                got = run(args)
                opens = max(opens, got[0]) if what == 'info' else opens
                worst = max(worst[0], got[1]), max(worst[1], got[2])
                wrong = complaint(what, path, got)
                if wrong:
                    failures += 1
                    print('%s: %s: %s: %s' % (fmt, name, what, wrong), flush=True)
    print('%u runs in %.0f seconds, %u wrong; most: %.2f seconds, %.0f MiB' % (count, time.time() - began, failures, *worst))
    return failures > 0


sys.exit(main())
