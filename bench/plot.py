#!/usr/bin/env python3
"""Draws Lodge's speed with TCG = 1 as SVG, from what run.py and apps.py write with --json.

usage: plot.py [--all] [--out FILE] JSON ...

One row per group: the bar is the geometric mean, a dot each kernel or application, with the names of
the slowest and the fastest. --all draws a row for each kernel and application instead. Colours follow
the reader's light or dark setting, on a ground of the picture's own, so that both are readable anywhere.
"""
import argparse
import json
import math
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW = 860, 150, 200, 64, 30
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a } .title { font-size: 15px; font-weight: 600 }
.ground { fill: #ffffff; stroke: #d0d7de } .grid { stroke: #d8dee4 } .one { stroke: #24292f; stroke-width: 1.5 }
.more { fill: #6ca4e8 } .less { fill: #e5795f } .dot { fill: #24292f; fill-opacity: .75 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9da7b3 } .ground { fill: #0d1117; stroke: #30363d } .grid { stroke: #262c34 }
.one { stroke: #e6edf3 } .more { fill: #3f74b8 } .less { fill: #b8523b } .dot { fill: #e6edf3 }
}
"""


class Axis:
    """Speeds on a logarithmic scale, from under the least to over the greatest, and 1 in any case."""

    def __init__(self, speeds):
        low, high = min(speeds + [0.9]), max(speeds + [2.0])
        self.low, self.high = math.log(low / 1.25), math.log(high * 1.25)

    def x(self, speed):
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(speed) - self.low) / (self.high - self.low)

    def ticks(self):
        return [t for t in TICKS if self.low <= math.log(t) <= self.high]


def load(paths):
    """{group: {name: speed}} of all files, in their order."""
    groups = {}
    for path in paths:
        with open(path) as f:
            result = json.load(f)
        for name, r in {**result.get("kernels", {}), **result.get("apps", {})}.items():
            if r["speed"]:
                groups.setdefault(r["group"], {})[name] = r["speed"]
    return groups


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def bar(axis, y, height, speed):
    x0, x1 = sorted((axis.x(1), axis.x(speed)))
    kind = "more" if speed >= 1 else "less"
    return f'<rect x="{x0:.1f}" y="{y:.1f}" width="{x1 - x0:.1f}" height="{height}" rx="2" class="{kind}"/>'


def group_row(axis, y, group, members):
    mean = math.exp(sum(map(math.log, members.values())) / len(members))
    slow, fast = min(members, key=members.get), max(members, key=members.get)
    note = f"{slow} {members[slow]:.2g}" + (f", {fast} {members[fast]:.2g}" if fast != slow else "")
    parts = [text(LEFT - 10, y + 14, f"{group} {mean:.1f}", anchor="end"), bar(axis, y, 20, mean)]
    parts += [f'<circle cx="{axis.x(v):.1f}" cy="{y + 10:.1f}" r="3" class="dot"><title>{escape(n)} {v:.2f}</title>'
              f'</circle>' for n, v in members.items()]
    return parts + [text(WIDTH - RIGHT + 12, y + 14, note, "small")]


def single_row(axis, y, group, name, speed):
    return [text(LEFT - 10, y + 12, name, anchor="end"), bar(axis, y, 14, speed),
            text(axis.x(max(speed, 1)) + 6, y + 12, f"{speed:.2f}", "small"),
            text(WIDTH - 12, y + 12, group, "small", "end")]


def draw(groups, every):
    axis = Axis([v for members in groups.values() for v in members.values()])
    rows = [(g, n, v) for g, m in groups.items() for n, v in m.items()] if every else list(groups.items())
    step = 19 if every else ROW
    bottom = TOP + step * len(rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 34}" role="img">',
             "<title>Lodge's speed beside QEMU's TCG</title>", f"<style>{STYLE}</style>",
             f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{bottom + 33}" rx="6" class="ground"/>',
             text(16, 24, "Lodge's speed, QEMU's TCG = 1 (CPU time, same guest, same run)", "title"),
             text(16, 44, "one bar each" if every else "bar: geometric mean; dots: each program; right: slowest, fastest",
                  "small")]
    for t in axis.ticks():
        parts += [f'<line x1="{axis.x(t):.1f}" x2="{axis.x(t):.1f}" y1="{TOP - 8}" y2="{bottom}" '
                  f'class="{"one" if t == 1 else "grid"}"/>', text(axis.x(t), bottom + 18, f"{t:g}x", "small", "middle")]
    for i, r in enumerate(rows):
        parts += (single_row if every else group_row)(axis, TOP + step * i, *r)
    return "\n".join(parts) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--out", default="/dev/stdout")
    parser.add_argument("json", nargs="+")
    args = parser.parse_args()
    groups = load(args.json)
    if not groups:
        parser.error("no kernels or applications in these files")
    with open(args.out, "w") as f:
        f.write(draw(groups, args.all))


if __name__ == "__main__":
    main()
