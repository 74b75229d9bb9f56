"""The quick measurement, and the gate that a change must pass: it is not slower beside TCG than what is recorded.

One guest of each emulator is booted and both run the kernels, a part of the usual work, several times over; each
kernel runs under one, then the other, while the first waits at its mark, so that a ratio comes from two stretches of
CPU time next to each other and what else the host does goes into both. The first pass, which translates, is left out.

Noise is the spread of this run's passes and of the runs of which the record was made. A group whose geometric mean
is under 95 % of the recorded one by more than once the noise is suspect; then all is measured again in new guests
and both count. If the mean of both is still under 95 %, by more than twice the noise (three times for a single
group; both count half), the group has fallen.
"""
import json
import math
import statistics
import sys

import emulators
import figures

# Kernels and the percentage of their usual work: some 10 to 30 ms under Lodge.
PARTS = {4: ["sha256", "quicksort", "hash", "interp-switch", "indirect", "virtual", "chase-l1", "memcpy-64", "getppid",
             "page-fault", "signal"], 15: ["nbody", "convert", "int8-sse2"], 0.2: ["jit-append"]}
PASSES = 8
# On another processor ratios differ; there only what no processor explains is a fall.
TOLERANCE, TOLERANCE_ELSEWHERE = 0.05, 0.35


def passes(pair, initrd, handicap=1.0):
    """Rounds as figures.py has them, of both emulators in turn; lodge's time is multiplied to try the gate."""
    once = "; ".join(f"/kernels -w -s {percent} {' '.join(names)} || exit" for percent, names in PARTS.items())
    script = f"for i in {' '.join('.' * PASSES)}; do {once}; done"
    rounds = [{}]
    for name, marks in emulators.alternate(pair, script, initrd):
        if name in rounds[-1].get(pair[0].name, {}):
            rounds.append({})
        for who, mark in marks.items():
            factor = handicap if who == "lodge" else 1
            rounds[-1].setdefault(who, {})[name] = mark._replace(cpu=mark.cpu and mark.cpu * factor)
    return rounds[1:]


def noise(table, group):
    """Standard error of a group's mean of logarithms, from the spread of its passes."""
    members = [r["rounds"] for r in table.values() if group in (r["group"], "all")]
    means = [statistics.mean(map(math.log, turn)) for turn in zip(*members)]
    return 1.25 * statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0


def fallen(table, record, runs, strict):
    """{group: sentence} of groups that are slower than recorded, by more than the noise of so many runs allows."""
    elsewhere = record["about"]["host"].split(",")[0] != emulators.host().split(",")[0]
    tolerance = TOLERANCE_ELSEWHERE if elsewhere else TOLERANCE
    bad = {}
    for group, then in record["groups"].items():
        now = figures.groups(table).get(group, {}).get("speed")
        spread = math.hypot(noise(table, group), then["noise"] / math.sqrt(runs))
        line = f"{group}: {now or 0:.2f} times TCG, recorded {then['speed']:.2f}, noise {100 * spread:.1f} %"
        print(line, file=sys.stderr)
        times = 1 if not strict else 2 if group == "all" else 3
        if not now or math.log(now / then["speed"]) < math.log(1 - tolerance) - times * spread:
            bad[group] = line
    return bad


def check(attempt, path):
    """Measures, once more when a group is suspect; the table, and sentences about groups that have fallen."""
    with open(path) as f:
        record = json.load(f)
    table = attempt()
    suspect = fallen(table, record, 1, strict=False)
    if not suspect:
        return table, []
    print("once more: " + "; ".join(suspect.values()), file=sys.stderr)
    table = attempt()
    return table, list(fallen(table, record, 2, strict=True).values())


def record(tables, about):
    """What --gate compares with: medians of several measurements and the spread between them."""
    speeds = [{group: g["speed"] for group, g in figures.groups(t).items()} for t in tables]
    groups = {group: {"speed": statistics.median(s[group] for s in speeds),
                      "noise": statistics.stdev(math.log(s[group]) for s in speeds)} for group in speeds[0]}
    return {"about": dict(about, parts=PARTS, passes=PASSES, runs=len(tables)), "groups": groups,
            "kernels": {name: {"group": r["group"], "speed": statistics.median(t[name]["speed"] for t in tables)}
                        for name, r in tables[0].items()}}
