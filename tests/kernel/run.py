#!/usr/bin/env python3
"""Runs a test kernel and judges it by what it writes.  usage: run.py LODGE ELF MODE [--smp N] [--reset] [--device NAME] [--cpu +FEATURE]

MODE    t0 or t1 (Lodge's tiers), warm (t1, all code in the form of hot code), qemu (the installed one, TCG)
--reset the kernel ends by a triple fault, at which the emulator must leave (-no-reboot)
LODGE_ACCEL and LODGE_PATIENCE in the environment: as in tests/boot/boot.py.
Exit status 77: the emulator is missing."""
import argparse
import os
import shutil
import subprocess
import sys

DEBUG_EXIT = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4']


def command(a):
    common = ['-m', '64', '-cpu', ','.join(['max'] + a.cpu), '-smp', str(a.smp), '-nographic', '-no-reboot', '-kernel', a.elf] + DEBUG_EXIT
    common += ['-device', a.device] if a.device else []
    if a.mode == 'qemu':
        qemu = shutil.which('qemu-system-x86_64')
        return qemu and [qemu, '-M', 'microvm', '-accel', 'tcg', '-nodefaults', '-serial', 'stdio', '-monitor', 'none',
                         '-global', 'virtio-mmio.force-legacy=false'] + common
    options = ['jit', {'t0': 'tier=0', 'warm': 'form=warm'}.get(a.mode, ''), os.environ.get('LODGE_ACCEL', '')]
    return [a.lodge, '-M', 'microvm', '-accel', ','.join(o for o in options if o)] + common


def judge(text, status, reset):
    """What is wrong, or None."""
    lines = [l for l in text.replace('\r', '').split('\n') if l]
    cases = [l for l in lines if l.split(' ')[0] in ('ok', 'known', 'skip', 'FAIL')]
    for l in lines:
        if not l.startswith('ok '):
            print(l)
    if any(l.startswith(('FAIL', 'PANIC')) for l in lines):
        return 'cases failed'
    planned = next((int(l.split()[1], 16) for l in lines if l.startswith('cases ')), -1)
    if len(cases) != planned:
        return f'{len(cases)} cases ran of {planned}'
    print(f'{sum(l.startswith("ok ") for l in cases)} of {planned} cases ok')
    if reset:
        return None if lines.count('reset') == 1 and 'end' not in lines and status != 1 else f'no reset, status {status}'
    return None if status == 1 and 'end' in lines else f'status {status}'


def main():
    p = argparse.ArgumentParser()
    p.add_argument('lodge')
    p.add_argument('elf')
    p.add_argument('mode', choices=('t0', 't1', 'warm', 'qemu'))
    p.add_argument('--smp', type=int, default=1)
    p.add_argument('--reset', action='store_true')
    p.add_argument('--device')
    p.add_argument('--cpu', action='append', default=[])
    a = p.parse_args()
    cmd = command(a)
    if not cmd:
        return 77
    try:
        r = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=60 * float(os.environ.get('LODGE_PATIENCE', 1)))
    except subprocess.TimeoutExpired as e:
        print((e.stdout or b'').decode(errors='replace'))
        print('it does not end')
        return 1
    wrong = judge(r.stdout.decode(errors='replace'), r.returncode, a.reset)
    if wrong:
        print(wrong)
    return 1 if wrong else 0


sys.exit(main())
