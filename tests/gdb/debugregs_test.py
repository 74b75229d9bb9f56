#!/usr/bin/env python3
"""Debug registers as a guest program uses them: builds tests/guest/debugregs.c, adds it to the
initramfs, runs it.  usage: debugregs_test.py LODGE VMLINUX INITRD SOURCE

LODGE_ACCEL and LODGE_PATIENCE in the environment: as in tests/boot/boot.py."""
import base64
import os
import subprocess
import sys
import tempfile


def cpio(name, data):
    """An archive (newc) of one program."""
    def member(name, mode, data):
        name = name.encode() + b'\0'
        head = b'070701' + b''.join(b'%08X' % n for n in (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0))
        body = head + name
        body += bytes(-len(body) % 4) + data
        return body + bytes(-len(body) % 4)
    return member(name, 0o100755, data) + member('TRAILER!!!', 0, b'')


def main():
    lodge, kernel, initrd, source = sys.argv[1:5]
    if not os.path.exists(kernel):
        return 77
    with tempfile.TemporaryDirectory() as d:
        if subprocess.run(['cc', '-O1', '-static', '-o', d + '/prog', source]).returncode:
            return 77
        with open(d + '/initrd', 'wb') as f:
            data = open(initrd, 'rb').read()
            f.write(data + bytes(-len(data) % 4) + cpio('debugregs', open(d + '/prog', 'rb').read()))
        run = base64.b64encode(b'/debugregs; exit $?').decode()
        for accel in ('jit', 'jit,tier=0'):
            accel = ','.join(filter(None, (accel, os.environ.get('LODGE_ACCEL'))))
            p = subprocess.run([lodge, '-M', 'microvm', '-accel', accel, '-m', '512', '-kernel', kernel, '-initrd', d + '/initrd', '-nographic',
                                '-no-reboot', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4', '-append',
                                'console=ttyS0 quiet lodge.run=' + run],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=170 * float(os.environ.get('LODGE_PATIENCE', 1)))
            print(p.stderr)
            out = p.stdout.replace('\r', '')
            print(out.split('LODGE-BEGIN')[-1])
            if 'debug registers: all ok' not in out:
                return 1
    return 0


sys.exit(main())
