#!/usr/bin/env python3
"""Runs the lints and meson's tests and ends with one line: N passed, N failed, N skipped.
usage: run_tests.py BUILDDIR [PATTERN]"""
import json
import os
import subprocess
import sys


def run_lints(pattern):
    results = {}
    for lint in ("layers", "sizes", "globals", "format", "fields"):
        name = f"lint/{lint}"
        if pattern in name:
            r = subprocess.run([sys.executable, "tools/lint.py", lint, sys.argv[1]])
            results[name] = {0: "OK", 77: "SKIP"}.get(r.returncode, "FAIL")
    return results


def run_meson(build, pattern):
    listing = subprocess.run(["meson", "test", "-C", build, "--list"], capture_output=True, text=True).stdout
    names = [l.split(" / ")[-1].strip() for l in listing.splitlines() if " / " in l or l.startswith(("lodge", ""))]
    names = [l.rsplit(" ", 1)[-1].replace("lodge:", "") for l in names if l and "ninja" not in l]
    wanted = [n for n in names if pattern in n] if pattern else []
    if pattern and not wanted:
        return {}
    log = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    subprocess.run(["meson", "test", "-C", build, "--print-errorlogs", "--num-processes", "2"] + wanted)
    results = {}
    if os.path.exists(log):
        for line in open(log):
            t = json.loads(line)
            results[t["name"]] = t["result"]
            if t["result"] not in ("OK", "EXPECTEDFAIL", "SKIP"):  # said again where the end of a long log is all one has
                said = (t.get("stdout", "") + t.get("stderr", "")).splitlines()
                print(f"-- {t['name']}, after {t['duration']:.0f} s:", *(l[:300] for l in said[-15:]), sep="\n")
    return results


def main():
    pattern = sys.argv[2] if len(sys.argv) > 2 else ""
    results = run_lints(pattern)
    results.update(run_meson(sys.argv[1], pattern))
    passed = sum(r in ("OK", "EXPECTEDFAIL") for r in results.values())
    skipped = sum(r == "SKIP" for r in results.values())
    failed = len(results) - passed - skipped
    for name, r in sorted(results.items()):
        if r not in ("OK", "EXPECTEDFAIL"):
            print(f"{r}: {name}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
