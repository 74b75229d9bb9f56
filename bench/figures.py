"""What the programs of bench/ make of their rounds: medians, ratios, geometric means, tables.

A round is {"native": results, "lodge": results, "qemu": results}, results is {name: Mark}
(bench/emulators.py). A row's speed is TCG's time over Lodge's: Lodge's speed with TCG = 1.
"""
import json
import math
import statistics
import sys

WHO = ("native", "lodge", "qemu")


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def geometric(values):
    values = [v for v in values if v]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def quotient(a, b):
    return a / b if a and b else None


def row(name, group, rounds, value):
    """Medians of one measure, and whether all who ran it printed the same."""
    marks = {who: [r[who][name] for r in rounds if name in r.get(who, {})] for who in WHO}
    result = {"group": group}
    for who in WHO:
        result[who] = median([value(m) for m in marks[who]])
    sums = {m.sum for ms in marks.values() for m in ms}
    pairs = [(value(r["lodge"].get(name)), value(r["qemu"].get(name))) for r in rounds if "lodge" in r and "qemu" in r]
    result["same"] = len(sums) == 1
    result["speed"] = quotient(result["qemu"], result["lodge"])
    result["rounds"] = [quotient(q, l) for l, q in pairs]
    return result


def cpu(mark):
    return mark.cpu if mark else None


def rows(group_of, rounds, value=cpu):
    """{name: row} of what at least one emulator ran."""
    return {name: row(name, group, rounds, value) for name, group in group_of.items()
            if any(name in r.get(who, {}) for r in rounds for who in ("lodge", "qemu"))}


def groups(table, beside=()):
    """Geometric means of each group, and of the speeds of all but the groups `beside`."""
    result = {}
    for group in dict.fromkeys(r["group"] for r in table.values()):
        members = [r for r in table.values() if r["group"] == group]
        result[group] = {"speed": geometric([r["speed"] for r in members]),
                         "lodge/native": geometric([quotient(r["lodge"], r["native"]) for r in members]),
                         "qemu/native": geometric([quotient(r["qemu"], r["native"]) for r in members])}
    result["all"] = {"speed": geometric([r["speed"] for r in table.values() if r["group"] not in beside])}
    return result


def num(v, form="{:.3f}"):
    return form.format(v) if v is not None else "-"


def bold(v):
    return num(v, "**{:.2f}**")


def table(header, lines):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] + \
           ["| " + " | ".join(cells) + " |" for cells in lines]


def markdown_rows(what, data):
    lines = []
    for name, r in data.items():
        ratios = (num(quotient(r[w], r["native"]), "{:.1f}") for w in ("lodge", "qemu"))
        lines.append([name, r["group"], *(num(r[w]) for w in WHO), *ratios,
                      bold(r["speed"]) + ("" if r["same"] else " WRONG CHECKSUM")])
    return table([what, "group", "native s", "Lodge s", "TCG s", "Lodge / native", "TCG / native",
                  "Lodge's speed, TCG = 1"], lines)


def markdown_groups(data):
    lines = [[group, num(g.get("lodge/native"), "{:.1f}"), num(g.get("qemu/native"), "{:.1f}"), bold(g["speed"])]
             for group, g in data.items()]
    return table(["geometric mean", "Lodge / native", "TCG / native", "Lodge's speed, TCG = 1"], lines)


def write(result, text, args):
    """The table to stdout, and both forms to where --json and --markdown say."""
    print(text)
    for path, data in ((args.json, json.dumps(result, indent=1) + "\n"), (args.markdown, text)):
        if path:
            with open(path, "w") as f:
                f.write(data)


def wrong(data):
    """Rows without a speed, or whose checksums differ."""
    return [n for n, r in data.items() if not r["same"] or r["speed"] is None]


def end(bad):
    if bad:
        sys.exit("wrong or missing: " + ", ".join(bad))
