#!/usr/bin/env python3
"""Lists the forms of the x86 instruction table, and which of them a translator handles.

usage: x86_coverage.py [--missing] TABLE [LIFTED...]

LIFTED files are C sources of the translator: an instruction counts as written when its
X86_NAME occurs in one of them. Without any, all forms are listed.
"""
import argparse
import collections
import re

import x86table


def written_names(paths):
    names = set()
    for path in paths:
        with open(path, encoding='utf-8') as f:
            names |= {n.lower() for n in re.findall(r'\bX86_([A-Z][A-Z0-9_]*)', f.read())}
    return names


def describe(form):
    where = f'{"vex " if form.vex else ""}{"one-byte 0f 0f38 0f3a".split()[form.map]}'
    return (f'{form.line:5} {where:9} {form.opcode:02x}  {form.name:18} '
            f'{",".join(form.operands):18} {form.feature or "-"}')


def main():
    args = argparse.ArgumentParser()
    args.add_argument('--missing', action='store_true', help='only what is not written')
    args.add_argument('table')
    args.add_argument('lifted', nargs='*')
    args = args.parse_args()
    forms = x86table.read(args.table)
    written = written_names(args.lifted)
    totals = collections.defaultdict(lambda: [0, 0])
    for form in forms:
        done = form.name in written
        group = totals[form.feature or 'base']
        group[0] += 1
        group[1] += done
        if not (args.missing and done):
            mark = '' if not args.lifted else 'written' if done else 'MISSING'
            print(f'{describe(form):64} {mark}'.rstrip())
    for feature, (count, done) in sorted(totals.items()):
        print(f'# {feature:12} {count:5} forms' + (f', {done} written' if args.lifted else ''))


if __name__ == '__main__':
    main()
