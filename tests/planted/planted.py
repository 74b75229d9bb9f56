#!/usr/bin/env python3
"""Plants the faults of faults.txt into a copy of the tree, one at a time, and sees whether the
differential tests find them.

usage: planted.py [--check] [--only TEXT] [--keep DIR] [--quick]

--check       only looks whether every old text is in its file exactly once
--only TEXT   faults whose line contains TEXT
--keep DIR    works in DIR and leaves it (else in a temporary directory)
--quick       the next fault as soon as one test has found this one

The exit status is 1 if a fault is not found, or does not apply, or the tests fail without one.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDER = "src/host/x86_64"
DIFF, T1, LOOPS = "tests/isa/x86/x86_diff", "tests/host/t1_test", "tests/host/t1_loops"
MOVES = "tests/isa/x86/moves_test"
BULK = "src/isa/x86/x86_string_bulk_test"
OTHERS = [BULK, MOVES, "lodge", "tests/kernel/kernel-strings", "tests/kernel/kernel-segments",
          "tests/kernel/kernel-moves", "tests/kernel/kernel-accesses"]
LIMIT = 120  # seconds a test may take: what hangs is found
TESTS = {
    "single": [DIFF, "--count", "150000", "--quiet", "--max-failures", "1"],
    "block": [DIFF, "--block", "12", "--count", "600000", "--quiet", "--max-failures", "1"],
    "block32": [DIFF, "--block", "12", "--mode", "32", "--tiers", "--count", "300000", "--quiet",
                "--max-failures", "1"],
    "t1": [T1, "1", "20000"],
    "loops": [LOOPS],
    "t1-trouble": [T1, "1", "10000", "12", "3"],
}
ISA_TESTS = {  # of faults in src/isa/x86: the host is what they are held against
    "unmasked": [DIFF, "--unmasked", "--count", "300000", "--quiet", "--max-failures", "1"],
    "aligned": [DIFF, "--align", "--count", "150000", "--quiet", "--max-failures", "1"],
}
KERNELS = {  # of what only kernels do
    "kernel-strings": ["../tests/kernel/run.py", "./lodge", "tests/kernel/kernel-strings", "t1",
                       "--device=virtio-rng-device"],
    "kernel-segments": ["../tests/kernel/run.py", "./lodge", "tests/kernel/kernel-segments", "t1"],
    "kernel-accesses": ["../tests/kernel/run.py", "./lodge", "tests/kernel/kernel-accesses", "t1",
                        "--device=virtio-rng-device"],
    "kernel-moves": ["../tests/kernel/run.py", "./lodge", "tests/kernel/kernel-moves", "t1"],
}
MOVE_TESTS = {"moves": [MOVES]}  # of what code has of its own address
STRING_TESTS = {
    "bulk": [BULK],
    **{op: [DIFF, "--only", op, "--count", "30000", "--quiet", "--max-failures", "1"]
       for op in ("movs", "stos", "lods", "cmps", "scas")},
    **KERNELS,
}


def tests_of(file, what):
    if what.endswith("(moves)"):
        return MOVE_TESTS | KERNELS
    if "string" in file:
        return STRING_TESTS | ISA_TESTS
    if file.startswith("jit/"):
        return KERNELS
    if file in ("cross.c", "stubs_mem.c"):
        return TESTS | KERNELS
    return ISA_TESTS if "/" in file else TESTS


class Fault:
    def __init__(self, file, what):
        self.path, self.what = f"src/{file}" if "/" in file else f"{FOLDER}/{file}", what
        self.tests = tests_of(file, what)
        self.old, self.new = [], []

    def __str__(self):
        return f"{os.path.basename(self.path)}: {self.what}"

    def planted(self, text):
        """The file's text with the fault, or None."""
        old = "\n".join(self.old)
        return text.replace(old, "\n".join(self.new)) if old and text.count(old) == 1 else None


def read_faults():
    faults = []
    for line in open(f"{HERE}/faults.txt"):
        line = line.rstrip("\n")
        head = re.match(r"@ (\S+): (.+)", line)
        if head:
            faults.append(Fault(*head.groups()))
        elif line.startswith("- ") and faults:
            faults[-1].old.append(line[2:])
        elif line.startswith("+ ") and faults:
            faults[-1].new.append(line[2:])
    return faults


def read(path):
    with open(path) as f:
        return f.read()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def check(faults):
    bad = [f for f in faults if f.planted(read(f"{ROOT}/{f.path}")) is None or f.old == f.new]
    for f in bad:
        print(f"does not apply: {f}")
    print(f"{len(faults)} faults, {len(bad)} do not apply")
    return bad


def copy_tree(to):
    """Only what is tracked: nothing of builds or of the guest's files."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.split("\0"):
        if name and os.path.exists(f"{ROOT}/{name}"):
            os.makedirs(os.path.dirname(f"{to}/{name}"), exist_ok=True)
            shutil.copy(f"{ROOT}/{name}", f"{to}/{name}")
    if not os.path.exists(f"{to}/build"):
        subprocess.run(["meson", "setup", "build", "--buildtype=debugoptimized"], cwd=to, check=True,
                       stdout=subprocess.DEVNULL)


def build(tree):
    r = subprocess.run(["ninja", "-j1", "-C", "build", DIFF, T1, LOOPS] + OTHERS, cwd=tree, capture_output=True, text=True)
    if r.returncode:
        print(r.stdout[-2000:])
    return r.returncode == 0


def finds(tree, command):
    try:
        python = [sys.executable] if command[0].endswith(".py") else []
        r = subprocess.run(python + [f"{tree}/build/{command[0]}"] + command[1:], cwd=f"{tree}/build", timeout=LIMIT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return True
    return r.returncode not in (0, 77)


def run_tests(tree, tests, quick):
    found = []
    for name, command in tests.items():
        if finds(tree, command):
            found.append(name)
            if quick:
                break
    return found


def try_fault(tree, fault, quick):
    path = f"{tree}/{fault.path}"
    clean = read(path)
    text = fault.planted(clean)
    if text is None:
        return None
    write(path, text)
    try:
        return run_tests(tree, fault.tests, quick) if build(tree) else None
    finally:
        write(path, clean)


def run(faults, tree, quick):
    copy_tree(tree)
    used = {name: command for f in faults for name, command in f.tests.items()}
    if not build(tree) or run_tests(tree, used, True):
        print("the tests fail without a fault")
        return 1
    bad = 0
    for n, fault in enumerate(faults, 1):
        start = time.time()
        found = try_fault(tree, fault, quick)
        said = "DOES NOT BUILD" if found is None else "found by " + " ".join(found) if found else "NOT FOUND"
        bad += not found
        print(f"{n:2}/{len(faults)} {said}: {fault} ({time.time() - start:.0f} s)", flush=True)
    print(f"{len(faults)} faults, {len(faults) - bad} found, {bad} not found")
    return 1 if bad else 0


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--check", action="store_true")
    p.add_argument("--only", default="")
    p.add_argument("--keep")
    p.add_argument("--quick", action="store_true")
    args = p.parse_args()
    faults = [f for f in read_faults() if args.only in str(f)]
    bad = check(faults)
    if bad or args.check:
        return 1 if bad else 0
    if args.keep:
        return run(faults, args.keep, args.quick)
    with tempfile.TemporaryDirectory() as tree:
        return run(faults, tree, args.quick)


sys.exit(main())
