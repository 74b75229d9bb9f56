"""Soak checks of disk images that go on where the last run ended: totals are kept in the work folder."""
import json
import os
import re
import subprocess
import sys
import time

from soak_base import Fail, last_line

GROUPS = ("qcow2", "backing", "crypt", "other")


class Totals:
    """Counts of all runs so far, in totals.json; deleting it starts again."""

    def __init__(self, s, **first):
        self.file = s.path("totals.json")
        self.now = dict(first)
        if os.path.exists(self.file):
            with open(self.file) as f:
                self.now.update(json.load(f))

    def save(self):
        with open(self.file + ".new", "w") as f:
            json.dump(self.now, f, indent=1, sort_keys=True)
        os.replace(self.file + ".new", self.file)


def until(s):
    return time.monotonic() + 60 * (s.args.minutes or 10)


def tool(s, name):
    path = os.path.join(s.args.build, name)
    if not os.path.exists(path):
        raise Fail(f"no {path}: build first")
    return path


def images(s):
    """tests/block/matrix.py with ever new seeds, each group in a process of its own, two at a time."""
    s.need("qemu-img", "qemu-io")
    img, io = tool(s, "lodge-img"), tool(s, "lodge-io")
    totals, end, bad, before = Totals(s, seed=100000, operations=0, wrong=0), until(s), [], 0
    before = totals.now["operations"]
    while time.monotonic() < end:
        seed, running = totals.now["seed"], []
        for pair in (GROUPS[:2], GROUPS[2:]):
            running = [(g, subprocess.Popen(
                [sys.executable, "tests/block/matrix.py", img, io, "--group", g, "--seed", str(seed), "--sequences",
                 "5", "--longer", "100", "--keep", s.path("failed")], stdout=open(s.path(f"{g}-{seed}.log"), "wb"),
                stderr=subprocess.STDOUT)) for g in pair]
            for group, p in running:
                bad += taken(s, totals, group, seed, p.wait())
        totals.now["seed"] = seed + 5
        totals.save()
    text = (f"{totals.now['operations']} operations in all, {totals.now['operations'] - before} in this run, "
            f"next seed {totals.now['seed']}, {totals.now['wrong']} sequences wrong in all")
    if bad:
        raise Fail(f"{text}; see {', '.join(bad[:5])}")
    return text


def taken(s, totals, group, seed, status):
    """Adds one process's counts; its log stays if something was wrong."""
    log = s.path(f"{group}-{seed}.log")
    text = open(log, errors="replace").read()
    m = re.search(r"matrix: (\d+) operations, (\d+) sequences wrong", text)
    totals.now["operations"] += int(m[1]) if m else 0
    totals.now["wrong"] += int(m[2]) if m else 1
    if status == 0 and m:
        os.unlink(log)
        return []
    return [log]


def powercut(s):
    """tests/block/powercut with ever new seeds."""
    program = tool(s, "tests/block/powercut")
    totals, end = Totals(s, seed=100000, cuts=0, workloads=0), until(s)
    before = totals.now["cuts"]
    while time.monotonic() < end:
        seed = totals.now["seed"]
        status, out = s.run([program, str(seed), "50", "200"], f"{seed}.log", timeout=1200, cwd=s.work)
        totals.now["seed"] = seed + 50
        if status:
            totals.save()
            raise Fail(f"status {status}, see {s.path(f'{seed}.log')}: {last_line(out)}; "
                       f"{totals.now['cuts']} cuts before it")
        os.unlink(s.path(f"{seed}.log"))
        totals.now["cuts"] += 10000
        totals.now["workloads"] += 50
        totals.save()
    return (f"{totals.now['cuts']} cuts of {totals.now['workloads']} workloads in all, "
            f"{totals.now['cuts'] - before} in this run, next seed {totals.now['seed']}")
