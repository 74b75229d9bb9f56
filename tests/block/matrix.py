#!/usr/bin/env python3
"""Lodge's image tools and the installed qemu-img and qemu-io in turns on the same images.

usage: matrix.py LODGE-IMG LODGE-IO [--group NAME] [--seed N] [--sequences N | --ops N | --seconds N] [--keep DIR]
                 [--longer N]

A sequence draws an image of some format and options from its seed and then works on it: a batch of reads,
writes, zeros, discards and flushes by one program, an operation on the image by one of them; after that both
must read what a flat model has, find no error, and say the same about the image. Modules: matrix_cases draws
images, matrix_io the batches, matrix_ops the operations, matrix_image compares. The seeds start at --seed;
the last line tells how many operations there were and the seed to go on from. Status 77: no qemu-img here.
"""
import argparse
import os
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import matrix_cases  # noqa: E402
import matrix_ops  # noqa: E402
from matrix_image import READ_ONLY, Bench, Program, Wrong  # noqa: E402
from matrix_io import Batch  # noqa: E402

BATCHES = 5


def batch(bench, image, longer):
    b = Batch(bench, image, bench.theirs if image.fmt in READ_ONLY else bench.either(), longer)
    b.draw(bench.rnd.randrange(8, 26) * longer)
    b.run()


def sequence(ours, theirs, group, seed, keep, longer):
    """Number of operations; None and a report if something was wrong."""
    rnd = random.Random("%s %d" % (group, seed))
    folder = tempfile.mkdtemp(prefix="matrix-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    bench = Bench(ours, theirs, folder, rnd)
    try:
        image = matrix_cases.DRAW[group](bench)
        for _ in range(BATCHES):
            batch(bench, image, longer)
            image = matrix_ops.one(bench, image)
            bench.verify(image)
    except Wrong as e:
        print("matrix: --group %s --seed %d --longer %d: %s" % (group, seed, longer, e))
        print("\n".join("    " + line.replace(folder + "/", "") for line in bench.log.lines), flush=True)
        if keep:
            shutil.copytree(folder, os.path.join(keep, "%s-%d" % (group, seed)), dirs_exist_ok=True)
        return None
    finally:
        shutil.rmtree(folder)
    return bench.count


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("img")
    p.add_argument("io")
    p.add_argument("--group", choices=matrix_cases.GROUPS)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--sequences", type=int)
    p.add_argument("--ops", type=int)
    p.add_argument("--seconds", type=float)
    p.add_argument("--longer", type=int, default=1, metavar="N", help="N times as many requests in a batch")
    p.add_argument("--keep", metavar="DIR", help="keep the files of what fails")
    a = p.parse_args()
    if not (a.sequences or a.ops or a.seconds):
        a.sequences = 1
    return a


def main():
    a = arguments()
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        sys.exit(77)
    ours = Program("ours", os.path.abspath(a.img), os.path.abspath(a.io))
    theirs = Program("theirs", "qemu-img", "qemu-io")
    begin, done, failed, n = time.monotonic(), 0, 0, 0
    groups = [a.group] if a.group else matrix_cases.GROUPS
    while ((a.sequences is None or n < a.sequences) and (a.ops is None or done < a.ops)
           and (a.seconds is None or time.monotonic() - begin < a.seconds)):
        for group in groups:
            count = sequence(ours, theirs, group, a.seed + n, a.keep, a.longer)
            done += count or 0
            failed += count is None
        n += 1
    print("matrix: %d operations, %d sequences wrong, next seed %d" % (done, failed, a.seed + n))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
