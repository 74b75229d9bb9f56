#!/usr/bin/env python3
"""Programs in place of firmware, for what only a whole PC can show.  usage: rom.py LODGE CASE

Each is a ROM of 64 KiB that says what it saw at the debug console and ends by isa-debug-exit. LODGE_ACCEL and
LODGE_PATIENCE in the environment: as in boot.py."""
import os
import subprocess
import sys
import tempfile

LODGE, CASE = os.path.abspath(sys.argv[1]), sys.argv[2]
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
ENTRY = 0xE000


def run(machine, code):
    """What the program says, and how it ends."""
    rom = bytearray(64 << 10)
    rom[ENTRY:ENTRY + len(code)] = code
    rom[0xFFF0:0xFFF5] = bytes.fromhex("ea00e000f0")  # ljmp $0xf000, $0xe000
    with tempfile.NamedTemporaryFile() as f:
        f.write(rom)
        f.flush()
        accel = ["-accel", "jit," + os.environ["LODGE_ACCEL"]] if os.environ.get("LODGE_ACCEL") else []
        r = subprocess.run([LODGE, "-M", machine, *accel, "-bios", f.name, "-display", "none", "-no-reboot", "-m", "16",
                            "-chardev", "stdio,id=d", "-device", "isa-debugcon,chardev=d",
                            "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60 * PATIENCE)
    return r.stdout, r.returncode


def pam(machine):
    """Code in RAM at c8000h runs until it is translated; then it is changed while reads of it go to the bus
    (programmable attribute map, 290549 3.2.18). It must not run as it was."""
    register, port = ("58", "ff") if machine == "pc" else ("90", "fe")
    code = f"""
        fa 31c0 8ed0 bc0070                         # cli; stack at 7000h
        66b8{register}000080 baf80c 66ef            # CONFIG_ADDRESS: PAM2, or PAM3 on the 440FX
        be{port}0c 89f2 b003 ee                     # c8000h to cbfffh: reads and writes to RAM
        b800c8 8ec0 2666c7060000b041cb00            # es = c800h; mov $'A', %al; lret
        b9d007 9a000000c8 e2f9 88c3                 # 2000 times; bl = 'A'
        89f2 b002 ee                                # writes only
        26c606010042 268a3e0100                     # now it is mov $'B', %al; bh = what the bus has there
        b003 ee 9a000000c8                          # both; once more
        bae900 86c3 ee 88d8 ee                      # print 'A', then what it gave now
        b046 fec7 7402 b03f ee                      # 'F' if the bus had ffh, else '?'
        b010 e6f4 f4 ebfd"""
    said, status = run(machine, bytes.fromhex("".join(line.split("#")[0] for line in code.splitlines())))
    assert said == b"ABF" and status == 33, (machine, said, status)


CASES = {"pam-pc": lambda: pam("pc"), "pam-q35": lambda: pam("q35")}
CASES[CASE]()
print("ok")
