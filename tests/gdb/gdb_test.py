#!/usr/bin/env python3
"""The gdb stub, by a client of its own and, where there is one, by gdb itself.

usage: gdb_test.py LODGE [VMLINUX INITRD]

LODGE_ACCEL in the environment has options of the accelerator to add, LODGE_PATIENCE a factor for time limits.
Without a kernel a few bytes of machine code serve as guest, and the tests that need Linux are left
out.
"""
import base64
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from rsp import Rsp

PATIENCE = float(os.environ.get('LODGE_PATIENCE', 1))


def accel(*options):
    every = ','.join(('jit', *options, *filter(None, [os.environ.get('LODGE_ACCEL')])))
    return ['-accel', every]


RIP, FLAGS, RAX, RBX, RSP, FCTRL = 16, 17, 0, 1, 7, 32


def small_kernel(code, entry=0x200000):
    """An ELF file with a PVH note: 32-bit code at `entry`."""
    note = struct.pack('<III4sI', 4, 4, 18, b'Xen\0', entry)
    at = 64 + 2 * 56
    head = b'\x7fELF\2\1\1' + bytes(9) + struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack('<IIQQQQQQ', 1, 7, at + len(note), entry, entry, len(code), 0x2000, 0)
    notes = struct.pack('<IIQQQQQQ', 4, 4, at, 0, 0, len(note), len(note), 4)
    return head + load + notes + note + code


class Guest:
    """A running lodge with its stub on a socket."""

    def __init__(self, lodge, *args, paused=True):
        self.dir = tempfile.TemporaryDirectory()
        self.path = self.dir.name + '/gdb'
        self.serial = self.dir.name + '/serial'
        if '-accel' not in args:
            args = (*args, *accel())
        argv = [lodge, '-M', 'microvm', '-display', 'none', '-serial', 'file:' + self.serial, '-no-reboot',
                '-gdb', 'unix:' + self.path, *args]
        self.proc = subprocess.Popen(argv + (['-S'] if paused else []), stdin=subprocess.DEVNULL)

    def __enter__(self):
        self.rsp = Rsp(self.path)
        assert 'qXfer:features:read+' in self.rsp.ask('qSupported:multiprocess+')
        return self

    def __exit__(self, *exc):
        self.proc.terminate()
        self.proc.wait(20 * PATIENCE)
        self.dir.cleanup()


def own_guest(lodge, code, *args):
    with tempfile.NamedTemporaryFile(suffix='.elf', delete=False) as f:
        f.write(small_kernel(code))
    return Guest(lodge, '-m', '64', '-kernel', f.name, *args)


# mov ebx, 0x201000; xor eax, eax; L: inc eax; mov [ebx], eax; push eax; pop ecx; mov edx, [ebx+4];
# cmp eax, 1000000; jne L; hlt
LOOP = bytes.fromhex('bb00102000 31c0 40 8903 50 59 8b5304 3d40420f00 75f1 f4'.replace(' ', ''))
START = 0x200000
INC, STORE, PUSH, LOAD, CMP = START + 7, START + 8, START + 10, START + 12, START + 15


def expect(r, rip, rax):
    have = (r.reg(RIP), r.reg(RAX))
    assert have == (rip, rax), (hex(have[0]), have[1])


def test_registers_and_memory(lodge):
    with own_guest(lodge, LOOP) as g:
        r = g.rsp
        assert r.ask('?').startswith('T05'), 'stopped at the start'
        xml = r.ask('qXfer:features:read:target.xml:0,4000')
        assert xml[0] == 'l' and 'org.gnu.gdb.i386.core' in xml and 'name="rip"' in xml
        first = r.ask('qXfer:features:read:target.xml:0,100')
        assert first == 'm' + xml[1:0x101]
        sizes = [int(b) for b in re.findall(r'bitsize="(\d+)"', xml)]
        assert len(r.ask('g')) == sum(sizes) // 4, 'all registers'
        assert r.reg(RIP) == START and r.reg(FCTRL) == 0x37f
        assert r.read(START, len(LOOP)) == LOOP
        r.set_reg(RAX, 0x1122334455667788)
        assert r.reg(RAX) == 0x1122334455667788
        everything = r.ask('g')
        r.ok('G' + everything)
        assert r.ask('g') == everything
        r.ok('M201100,4:deadbeef')
        r.ok(b'X201104,3:\x01}\x03\x02')
        assert r.read(0x201100, 7) == bytes.fromhex('deadbeef012302')[:5] + b'\x23\x02'
        assert r.ask('mfffffff0000,4').startswith('E'), 'no memory there'
        assert 'rip' in bytes.fromhex(r.ask('qRcmd,' + b'info registers'.hex())).decode().lower()
        assert r.ask('vNothing') == '' and r.ask('qNothing') == ''


def test_steps_and_breakpoints(lodge):
    with own_guest(lodge, LOOP) as g:
        r = g.rsp
        assert r.ask('QStartNoAckMode') == 'OK'
        r.ack = False
        at = []
        for _ in range(4):
            assert r.ask('s').startswith('T05')
            at.append(r.reg(RIP))
        assert at == [START + 5, INC, STORE, PUSH], [hex(a) for a in at]
        r.ok('Z0,%x,1' % PUSH)
        for n in (2, 3, 4):
            assert r.ask('c').startswith('T05thread:1')
            expect(r, PUSH, n)
        r.ok('z0,%x,1' % PUSH)
        r.ok('Z1,%x,1' % CMP)
        assert r.ask('vCont;c').startswith('T05')
        expect(r, CMP, 4)
        r.set_reg(RAX, 999999)
        r.ok('z1,%x,1' % CMP)
        r.send('c')
        time.sleep(0.3)
        assert r.interrupt().startswith('T02'), 'Ctrl-C'
        assert r.read(r.reg(RIP) - 1, 1) == b'\xf4', 'halted'
        r.ok('D')


def test_code_changes_are_seen(lodge):
    """Jumps in the middle of hot, linked code stop at a breakpoint set late."""
    with own_guest(lodge, LOOP) as g:
        r = g.rsp
        r.send('c')
        time.sleep(0.02)
        assert r.interrupt().startswith('T0')
        r.set_reg(RAX, 0)
        r.set_reg(RIP, INC)
        r.ok('Z0,%x,1' % LOAD)
        assert r.ask('c').startswith('T05') and r.reg(RIP) == LOAD
        assert r.ask('c').startswith('T05') and r.reg(RIP) == LOAD
        r.ok('z0,%x,1' % LOAD)
        r.ok('M%x,1:90' % INC)
        r.ok('Z0,%x,1' % CMP)
        r.ask('c')
        n = r.reg(RAX)
        r.ask('c')
        assert r.reg(RAX) == n, 'the increment is a NOP now'


def test_watchpoints(lodge):
    with own_guest(lodge, LOOP) as g:
        r = g.rsp
        r.ok('Z2,201000,4')
        for n in (1, 2, 3):
            stop = r.ask('c')
            assert stop.startswith('T05') and 'watch:201000;' in stop, stop
            expect(r, PUSH, n)
        r.ok('z2,201000,4')
        r.ok('Z4,201006,1')
        stop = r.ask('c')
        assert 'awatch:201006;' in stop and r.reg(RIP) == CMP, stop
        r.ok('z4,201006,1')
        r.ok('Z3,201004,4')
        stop = r.ask('c')
        assert 'rwatch:201004;' in stop and r.reg(RIP) == CMP, stop
        r.ok('z3,201004,4')
        r.set_reg(RAX, 999000)
        r.ok('Z2,201008,8')
        r.send('c')
        time.sleep(0.2)
        r.interrupt()
        assert r.reg(RAX) == 1000000, 'nothing more to stop for'


def test_options(lodge):
    for args in (['-gdb', 'tcp:'], ['-gdb', 'nonsense'], ['-gdb', 'chardev:none']):
        with tempfile.NamedTemporaryFile(suffix='.elf') as f:
            f.write(small_kernel(LOOP))
            f.flush()
            p = subprocess.run([lodge, '-M', 'microvm', '-kernel', f.name, '-display', 'none', *args], capture_output=True, timeout=20)
            assert p.returncode == 1 and b'-gdb' in p.stderr, p.stderr


# ---- Linux ----

def run_option(command):
    return 'console=ttyS0 nokaslr lodge.run=' + base64.b64encode(command.encode()).decode()


def symbol(lodge, kernel, name):
    """By the guest's own list: distributions' kernels come without a symbol table."""
    p = subprocess.run([lodge, *accel(), '-M', 'microvm', '-m', '512', '-kernel', kernel[0], '-initrd', kernel[1], '-nographic', '-no-reboot',
                        '-append', run_option("grep ' %s$' /proc/kallsyms" % name)],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 * PATIENCE)
    print(p.stderr)
    return int(re.search(r'^([0-9a-f]{16}) \w %s' % name, p.stdout, re.M)[1], 16)


def linux(lodge, kernel, *args):
    return Guest(lodge, '-m', '512', '-kernel', kernel[0], '-initrd', kernel[1],
                 '-append', run_option('echo guest is up; sleep 100'), *args)


def test_linux(lodge, kernel, cpus):
    with linux(lodge, kernel, '-smp', str(cpus)) as g:
        r = g.rsp
        start = kernel[2]
        r.ok('Z1,%x,1' % start)
        stop = r.ask('c')
        assert stop.startswith('T05thread:1') and r.reg(RIP) == start, (stop, hex(r.reg(RIP)))
        r.ok('z1,%x,1' % start)
        before = r.reg(RIP)
        assert r.ask('s').startswith('T05') and r.reg(RIP) != before
        assert r.read(start, 4) != bytes(4)
        for _ in range(50):
            r.ask('s')
        top = r.reg(RSP)
        r.read(top, 8)
        assert r.ask('qfThreadInfo') == 'm' + ','.join('%x' % (i + 1) for i in range(cpus))
        assert r.ask('qsThreadInfo') == 'l'
        r.send('c')
        wait_for(g, 'Linux version')
        stop = r.interrupt()
        assert stop[:3] in ('T02', 'T05'), stop
        for i in range(cpus):
            r.ok('Hg%x' % (i + 1))
            r.reg(RIP)
        r.ok('D')
        wait_for(g, kernel[3])


def wait_for(g, text, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.path.exists(g.serial) and text in open(g.serial, errors='replace').read():
            return
        assert g.proc.poll() is None, 'lodge ended'
        time.sleep(0.1)
    raise AssertionError('%r did not come' % text)


GDB_SCRIPT = '''set pagination off
set confirm off
set architecture i386:x86-64
target remote {path}
hbreak *{start:#x}
continue
info registers rip
delete
stepi
x/2i $pc
info threads
watch *(int *)($rsp - 8)
continue
info registers rsp
delete
detach
quit
'''


def test_real_gdb(lodge, kernel):
    g = linux(lodge, kernel, '-smp', '2')
    try:
        while not os.path.exists(g.path):
            time.sleep(0.1)
        with tempfile.NamedTemporaryFile('w', suffix='.gdb') as f:
            f.write(GDB_SCRIPT.format(path=g.path, start=kernel[2]))
            f.flush()
            p = subprocess.run(['gdb', '-nx', '-batch', '-x', f.name], capture_output=True, text=True,
                               timeout=120 * PATIENCE)
        assert re.search(r'rip +%#x' % kernel[2], p.stdout), p.stdout + p.stderr
        assert 'Thread 1.2' in p.stdout or '  2 ' in p.stdout, p.stdout
        assert 'watchpoint' in p.stdout.lower(), p.stdout + p.stderr
        wait_for(g, kernel[3])
    finally:
        g.__exit__()


def main():
    lodge = sys.argv[1]
    tests = [test_registers_and_memory, test_steps_and_breakpoints, test_code_changes_are_seen, test_watchpoints,
             test_options]
    for t in tests:
        for options in ((), ('tier=0',)):
            t(lodge) if t is test_options else t_with(t, lodge, accel(*options))
        print('ok', t.__name__)
    if len(sys.argv) >= 4 and os.path.exists(sys.argv[2]):
        kernel = (*sys.argv[2:4], symbol(lodge, sys.argv[2:4], 'start_kernel'), 'guest is up')
        for cpus in (1, 2):
            test_linux(lodge, kernel, cpus)
            print('ok test_linux, %u vcpus' % cpus)
        if shutil.which('gdb'):
            test_real_gdb(lodge, kernel)
            print('ok test_real_gdb')


def t_with(test, lodge, options):
    """The test with an accelerator's options, by a wrapper around own_guest()."""
    global own_guest
    plain = own_guest
    own_guest = lambda path, code, *args: plain(path, code, *options, *args)
    try:
        test(lodge)
    finally:
        own_guest = plain


main()
