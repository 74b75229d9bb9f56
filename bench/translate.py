#!/usr/bin/env python3
"""What a translation costs, by part, in ns and in instructions.  usage: translate.py BUILDDIR [--warm] [--functions N]

Translates pieces of the guest's kernel, of the C library and of a compiler (bench/translate.c). Instructions are counted by
callgrind, so they are the same on a busy host; ns are medians. With --functions: the N most expensive functions too.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIECE = 0x20000
PARTS = {"decode": "x86_decode", "decode and lift": "x86_translate", "emit": "t1_emit"}


def pieces():
    """FILE:OFFSET:LENGTH of what there is."""
    cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True).stdout.strip()
    wanted = [(TOP + "/guest/vmlinux", 0x200000), (TOP + "/guest/vmlinux", 0x800000),
              ("/lib/x86_64-linux-gnu/libc.so.6", 0x40000), (cc1, 0x400000)]
    return [f"{os.path.realpath(path)}:{off}:{PIECE}" for path, off in wanted if os.path.exists(path)]


def run(program, args):
    out = subprocess.run([program] + args, capture_output=True, text=True, check=True).stdout
    return dict(line.rsplit(" ", 1) for line in out.splitlines() if not line.startswith(" "))


def counted(program, args):
    """Instructions of each function, of its own and with what it calls."""
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={tmp}/out", program, "-1"] + args,
                       capture_output=True, check=True)
        tables = []
        for inclusive in "yes", "no":
            text = subprocess.run(["callgrind_annotate", "--threshold=100", f"--inclusive={inclusive}", f"{tmp}/out"],
                                  capture_output=True, text=True, check=True).stdout
            table = {}
            for m in re.finditer(r"^\s*([\d,]+) \(.*?\)\s+\S+?:(\S+)", text, re.M):
                n = int(m[1].replace(",", ""))
                table[m[2]] = max(table.get(m[2], 0), n) if inclusive == "yes" else table.get(m[2], 0) + n
            tables.append(table)
    return tables


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("build")
    ap.add_argument("--warm", action="store_true")
    ap.add_argument("--rounds", default="15")
    ap.add_argument("--functions", type=int, default=0)
    arg = ap.parse_args()
    program, args = arg.build + "/bench/translate", pieces()
    args = (["-w"] if arg.warm else []) + args
    known = run(program, ["-r", arg.rounds] + args)
    n = int(known["instructions"])
    for key in "blocks", "instructions", "ops", "hot", "cold", "data", "sum":
        print(f"{key:16} {known[key]}")
    print(f"\n{'part':16} {'ns':>8} {'instructions':>14}   for a guest instruction")
    if not shutil.which("valgrind"):
        print("no valgrind: instructions are not counted", file=sys.stderr)
        whole, own = {}, {}
    else:
        whole, own = counted(program, args)
    ns = {"decode and lift": known["lift"], "emit": known["emit"]}
    for part, function in PARTS.items():
        count = f"{whole[function] / n:14.0f}" if function in whole else " " * 14
        print(f"{part:16} {ns.get(part, ''):>8} {count}")
    total = sum(whole.get(PARTS[p], 0) for p in ns) / n
    print(f"{'all':16} {sum(map(float, ns.values())):8.1f} {total:14.0f}")
    for function, count in sorted(own.items(), key=lambda kv: -kv[1])[:arg.functions]:
        print(f"    {count / n:8.1f} {function}")


if __name__ == "__main__":
    main()
