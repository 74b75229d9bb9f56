#!/usr/bin/env python3
"""Programs in place of firmware, for what only a whole PC can show.  usage: rom.py LODGE CASE

Each is a ROM of 64 KiB that says what it saw at the debug console. LODGE_ACCEL and
LODGE_PATIENCE in the environment: as in boot.py."""
import os
import subprocess
import sys
import tempfile
import time

LODGE, CASE = os.path.abspath(sys.argv[1]), sys.argv[2]
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
ENTRY = 0xE000


def start(machine, code, folder):
    rom = bytearray(64 << 10)
    rom[ENTRY:ENTRY + len(code)] = code
    rom[ENTRY + 0x200:ENTRY + 0x216] = bytes.fromhex("0000000000000000 ffff00000092cf00 0f0000e20f00")
    rom[0xFFF0:0xFFF5] = bytes.fromhex("ea00e000f0")  # ljmp $0xf000, $0xe000
    with open(f"{folder}/rom", "wb") as f:
        f.write(rom)
    accel = ["-accel", "jit," + os.environ["LODGE_ACCEL"]] if os.environ.get("LODGE_ACCEL") else []
    return subprocess.Popen([LODGE, "-M", machine, *accel, "-bios", f"{folder}/rom", "-display", "none", "-no-reboot",
                             "-m", "16", "-chardev", "stdio,id=d", "-device", "isa-debugcon,chardev=d",
                             "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def code_of(text):
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))


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
    with tempfile.TemporaryDirectory() as folder:
        proc = start(machine, code_of(code), folder)
        said = proc.communicate(timeout=60 * PATIENCE)[0]
    assert said == b"ABF" and proc.returncode == 33, (machine, said, proc.returncode)


# cli; DS and ES reach all of 4 GiB, by way of protected mode; print 'S'
FLAT = "fa 2e660f011610e2 0f20c0 0c01 0f22c0 bb0800 8edb 8ec3 24fe 0f22c0 b053 e6e9"


def must_end(name, code):
    """While the program runs, the machine listens to who runs it."""
    with tempfile.TemporaryDirectory() as folder:
        proc = start("pc", code_of(FLAT + code + "f4 ebfd"), folder)
        try:
            assert proc.stdout.read(1) == b"S", name
            time.sleep(0.5)
            proc.terminate()
            proc.wait(timeout=30 * PATIENCE)
        except subprocess.TimeoutExpired:
            sys.exit(f"{name}: it does not end")
        finally:
            proc.kill()


def storm():
    """A local APIC whose timer has a period of a nanosecond."""
    must_end("timer", """
        66bb0000e0fe                                # ebx = the local APIC
        6766c783f0000000ff010000                    # SVR: on
        6766c783e00300000b000000                    # divide by one
        6766c7832003000041000300                    # LVT timer: periodic, masked
        6766c7838003000001000000                    # initial count: 1
        """)


# String instructions that have 2^32 - 1 turns to do, and loops of what is slow for us.
ENDLESS = {
    "bytes to a port":
        "ba80006631f666b9ffffffff67f36e",
    "double words to PCI configuration":
        "bafc0c6631f666b9ffffffff6766f36f",
    "bytes of fw_cfg":
        "ba110566bf0000100066b9ffffffff67f36c",
    "from the local APIC to the I/O APIC":
        "66be0000e0fe66bf0000c0fe66b9ffffffff6766f3a5",
    "to where nothing is":
        "66bf000000d066b9ffffffff6766f3ab",
    "a search through all addresses":
        "6631ff66b9ffffffffb07767f2ae",
    "interrupts to itself":
        "66bb0000e0fe6766c783f0000000ff0100006766c7830003000055400400ebf2",
    "A20 up and down":
        "e4923402e692ebf8",
    "PAM to and fro":
        "66b858000080baf80c66efbafd0c3430eeebfb",
}


def endless():
    for name, code in ENDLESS.items():
        must_end(name, code)


CASES = {"pam-pc": lambda: pam("pc"), "pam-q35": lambda: pam("q35"), "storm": storm, "endless": endless}
CASES[CASE]()
print("ok")
