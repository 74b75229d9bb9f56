#!/usr/bin/env python3
"""Options of the program, from outside.  usage: options_test.py LODGE MANPAGE

LODGE_ACCEL in the environment has options of the accelerator to add where a guest runs."""
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

LODGE = sys.argv[1]
ACCEL = ['-accel', 'jit,' + os.environ['LODGE_ACCEL']] if os.environ.get('LODGE_ACCEL') else []


def run(*args, status=0):
    """The machine is microvm if no other is named."""
    machine = [] if '-M' in args or '-machine' in args else ['-M', 'microvm']
    p = subprocess.run([LODGE, *machine, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert p.returncode == status, (args, p.returncode, p.stdout, p.stderr)
    return p.stdout if status == 0 else p.stderr


def kernel(directory, code):
    """An ELF file with a PVH note: 32-bit code at 2 MiB."""
    entry = 0x200000
    note = struct.pack('<III4sI', 4, 4, 18, b'Xen\0', entry)
    at = 64 + 2 * 56
    head = b'\x7fELF\2\1\1' + bytes(9) + struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack('<IIQQQQQQ', 1, 7, at + len(note), entry, entry, len(code), 0x1000, 0)
    notes = struct.pack('<IIQQQQQQ', 4, 4, at, 0, 0, len(note), len(note), 4)
    path = directory + '/kernel'
    with open(path, 'wb') as f:
        f.write(head + load + notes + note + code)
    return path


HALT = b'\xfa\xf4\xeb\xfd'
EXIT = bytes.fromhex('b003 e6f4 faf4'.replace(' ', ''))  # out 0xf4, 3: status 7


def screens():
    for args, words in ((('-vga', 'cirrus'), "'cirrus' is not supported"), (('-vga', 'virtoi'), "nearest is 'virtio'"),
                        (('-device', 'virtio-gpu-pci,max_outputs=2'), 'max_outputs=2 is not supported'),
                        (('-device', 'virtio-vga,xres=5000'), 'from 64 to 4095'),
                        (('-device', 'virtio-vga,disable-legacy=off'), 'no legacy interface'),
                        (('-device', 'VGA,vgamem_mb=513'), 'to 512 MiB'), (('-device', 'VGA,vgamem_mb=0'), 'from 1 MiB'),
                        (('-device', 'ramfb', '-device', 'ramfb'), 'one already'),
                        (('-k', 'no/such'), 'no name of a keyboard layout'), (('-k', ''), '-k')):
        out = run('-M', 'pc', '-display', 'none', '-vga', 'none', *args, status=1)
        assert words in out and out.count('\n') == 1, (args, out)
    assert 'needs firmware' in run('-device', 'ramfb', status=1)
    assert 'virtio' in run('-vga', 'help')


def helps():
    wanted = {'-cpu': ('qemu64', 'max', 'x86-64-v3'), '-M': ('microvm',), '-machine': ('microvm',),
              '-device': ('virtio-blk-device', 'isa-debug-exit'), '-accel': ('jit', 'tcg'), '-d': ('in_asm', 'int'),
              '-chardev': ('socket',), '-display': ('none',)}
    for option, words in wanted.items():
        out = run(option, 'help')
        for w in words:
            assert w in out, (option, w, out)
    assert 'drive' in run('-device', 'virtio-blk-device,help')
    assert 'pit' in run('-M', 'microvm,help')
    assert 'tier' in run('-accel', 'tcg,help')
    out = run('-help')
    for word in ('-kernel', '-gdb', '-S', '-smp', '-drive'):
        assert word in out
    out = run('-device', 'virtio-serial,help')
    assert 'max_ports' in out and 'packed' in out
    assert 'also called virtio-balloon' in run('-device', 'help')
    assert 'version' in run('-version').lower() and run('--version') == run('-version')


def manual():
    text = open(sys.argv[2]).read()
    for name in re.findall(r'^-(\S+)', run('-help'), re.M):
        assert '.It Fl %s' % name in text, 'the manual does not have -' + name


def refusals(k):
    for args, words in (
            (['-kernle', 'x'], ('-kernle', '-kernel')),
            (['-cpu', 'mx', '-kernel', k], ("'mx'", "'max'")),
            (['-cpu', 'max,+avx3', '-kernel', k], ('avx3', "'avx'")),
            (['-M', 'microvn'], ("'microvm'",)),
            (['-M', 'microvm,pitt=on', '-kernel', k], ('pitt', "'pit'")),
            (['-accel', 'kvm'], ("'kvm'",)),
            (['-accel', 'jit,teir=0', '-kernel', k], ('teir', 'tier')),
            (['-device', 'virtio-blk-devic'], ("'virtio-blk-device'",)),
            (['-device', 'virtio-blk-device,driv=d', '-kernel', k], ('driv', "'drive'")),
            (['-drive', 'fil=x', '-kernel', k], ('fil', "'file'")),
            (['-d', 'in_asn'], ("'in_asm'",)),
            (['-rtc', 'bas=utc', '-kernel', k], ("'base'",)),
            (['-smp', 'cpu=2'], ("'cpus'",)),
            (['-m', '0'], ('-m',)), (['-m', '12x'], ('-m',)),
            (['-uuid', '1234'], ('-uuid', '1234')),
            (['-pidfile', '/no/such/place', '-kernel', k], ('-pidfile', '/no/such/place')),
            (['-D', '/no/such/place', '-kernel', k], ('/no/such/place',)),
            (['-watchdog-action', 'rset', '-kernel', k], ('rset', "'reset'")),
            (['-action', 'watchdg=pause', '-kernel', k], ('watchdg', "'watchdog'")),
            (['-action', 'reboot=poweroff', '-kernel', k], ('poweroff',)),
            (['-M', 'pc', '-device', 'vmgenid,guid=7'], ("'7'", 'auto')),
            (['-M', 'q35', '-global', 'ICH9-LPC.disable_s3=0'], ('disable_s3', 'sleep')),
            (['-M', 'q35', '-global', 'ICH9-LPC.norebot=on'], ('norebot', "'noreboot'")),
            (['-M', 'pc', '-global', 'driver=cfi.pflash01,value=on'], ('-global', 'property=')),
            (['-global', 'isa-debug-exit.ioport=1', '-kernel', k, '-device', 'isa-debug-exit'], ('ioport', "'iobase'")),
            (['-kernel'], ('-kernel', 'FILE')),
            (['-append', 'x'], ('-kernel',)),
            (['disk.img'], ('-drive',))):
        err = run(*args, status=1)
        assert err.count('\n') == 1, err
        for w in words:
            assert w in err, (args, w, err)


def exit_status(k, d):
    log = d + '/log'
    p = run(*ACCEL, '-kernel', k, '-display', 'none', '-device', 'isa-debug-exit,iobase=0xf4,iosize=1', '-name', 'guest=x',
            '-uuid', '12345678-1234-1234-1234-123456789abc', '-d', 'in_asm', '-D', log, status=7)
    p2 = run(*ACCEL, '-kernel', k, '-display', 'none', '-device', 'isa-debug-exit', '-global', 'isa-debug-exit.iobase=0xf4',
             '-global', 'driver=isa-debug-exit,property=iosize,value=1', '-global', 'isa-debug.iobase=1', status=7)
    assert "no device 'isa-debug'" in p2, p2
    assert 'IN:' not in p and 'IN:' in open(log).read()


def paused(k, d):
    """-S: nothing runs; -pidfile is there meanwhile; a signal ends it."""
    pid = d + '/pid'
    p = subprocess.Popen([LODGE, *ACCEL, '-M', 'microvm', '-S', '-kernel', k, '-display', 'none', '-pidfile', pid, '-device',
                          'isa-debug-exit,iobase=0xf4,iosize=1'], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(100):
        if os.path.exists(pid) and open(pid).read().strip():
            break
        time.sleep(0.05)
    assert int(open(pid).read()) == p.pid
    time.sleep(0.5)
    assert p.poll() is None, 'paused'
    p.send_signal(signal.SIGTERM)
    assert p.wait(20) == 0 and b'signal' in p.stderr.read()
    assert not os.path.exists(pid)


def main():
    with tempfile.TemporaryDirectory() as d:
        helps()
        manual()
        screens()
        k = kernel(d, EXIT)
        refusals(k)
        exit_status(k, d)
        paused(k, d)
    print('ok')


main()
