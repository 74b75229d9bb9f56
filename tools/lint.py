#!/usr/bin/env python3
"""House rules that a compiler does not know.  usage: lint.py layers|sizes|globals|format|fields BUILDDIR

layers   includes follow docs/layers.md; every header compiles alone
sizes    no file over 1500 lines, no function over 120 (unless marked "lint: flat table")
globals  no mutable data at file scope outside the allow-list below
fields   each member of a struct with a table of its state (state/field.h) is in the table
format   clang-format 14 would change nothing (another version: not checked, and said so)
"""
import glob
import os
import re
import subprocess
import sys

# symbol: why it may be mutable and global
GLOBALS = {
    "log_mask": "tested on hot paths",
    "term": "the terminal's settings, restored however the process ends",
    "irq_ctrl_here": "thread-local: the interrupt controller of the vCPU whose thread this is",
    "co_current": "thread-local: the coroutine that runs on this thread",
}
GLOBAL_FILES = {
    "log.c": "the log is the process's", "signals.c": "signal handlers are the process's",
    "tsc_x86.c": "the host's TSC frequency, measured once",
    "caps.c": "the host processor's CPUID leaves, read once",
}
MAX_FILE, MAX_FUNCTION = 1500, 120


def sources():
    return sorted(glob.glob("src/**/*.[ch]", recursive=True))


def folder(path):
    return os.path.dirname(os.path.relpath(path, "src"))


def rules():
    table = {}
    for line in open("docs/layers.md"):
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "folder" and not cells[0].startswith("-"):
            table[cells[0]] = cells[1].split()
    return table


def matches(name, pattern):
    return pattern == "*" or name == pattern or (pattern.endswith("/*") and name.startswith(pattern[:-1]))


def check_includes():
    table, bad = rules(), []
    for path in sources():
        own = folder(path)
        row = [v for k, v in table.items() if matches(own, k)]
        if not row:
            bad.append(f"{path}: folder {own} has no row in docs/layers.md")
            continue
        if path.endswith("_test.c"):
            continue
        for n, line in enumerate(open(path), 1):
            m = re.match(r'#include "([^"]+)"', line)
            if m:
                other = os.path.dirname(m.group(1))
                if other != own and not any(matches(other, p) for p in row[0]):
                    bad.append(f"{path}:{n}: {own} may not include {other}")
    return bad


def check_headers(build):
    bad = []
    for path in sources():
        if path.endswith(".h"):
            r = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only", "-Isrc", f"-I{build}/src",
                                "-x", "c", "-include", path[4:], "/dev/null"], capture_output=True, text=True)
            if r.returncode:
                bad.append(f"{path} does not compile alone:\n{r.stderr[:400]}")
    return bad


def layers(build):
    return check_includes() + check_headers(build)


def functions(lines):
    """(name, first line, length) of functions: a brace alone in column 0 opens, another closes."""
    start = name = None
    for n, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = n
        elif line.startswith("}") and start:
            yield name, start, n - start
            start = None
        elif re.match(r"[a-zA-Z].*\(", line) and not start:
            m = re.search(r"(\w+)\(", line)
            name = m.group(1) if m else None


def sizes(build):
    bad = []
    for path in sources() + sorted(glob.glob("tools/*.py")):
        lines = open(path).read().splitlines()
        if len(lines) > MAX_FILE:
            bad.append(f"{path}: {len(lines)} lines, at most {MAX_FILE}")
        if path.endswith(".c"):
            for name, first, length in functions(lines):
                flat = any("lint: flat table" in l for l in lines[max(0, first - 4):first])
                if length > MAX_FUNCTION and not flat:
                    bad.append(f"{path}:{first}: {name} has {length} lines, at most {MAX_FUNCTION}")
    return bad


def globals_(build):
    bad = []
    for archive in glob.glob(f"{build}/src/**/*.a", recursive=True):
        out = subprocess.run(["nm", "-A", "--defined-only", archive], capture_output=True, text=True).stdout
        for line in out.splitlines():
            parts = line.split()
            where, kind, symbol = parts[0], parts[-2], parts[-1]
            if kind not in "dDbBC" or symbol.startswith((".", "__")) or "@" in symbol:
                continue
            name = re.sub(r"\.\d+$", "", symbol)
            file = where.split(":")[1].replace(".o", "").split("_")[-1] if ":" in where else ""
            if name not in GLOBALS and not any(f in where for f in GLOBAL_FILES):
                if not is_relro(archive, symbol):
                    bad.append(f"{os.path.basename(archive)} {where.split(':')[1]}: mutable global '{name}'")
    return bad


def is_relro(archive, symbol):
    """Constant tables with pointers land in .data.rel.ro and are listed as 'd'."""
    out = subprocess.run(["objdump", "-t", archive], capture_output=True, text=True).stdout
    return any(l.endswith(" " + symbol) and ".data.rel.ro" in l for l in out.splitlines())


def format_(build):
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True).stdout
    if " 14." not in version:
        print(f"not checked: clang-format 14 decides the layout, here is {version.strip() or 'none'}")
        sys.exit(77)
    files = [f for d in ("src", "tests", "bench") for f in glob.glob(f"{d}/**/*.[ch]", recursive=True)]
    r = subprocess.run(["clang-format", "--dry-run", "-Werror"] + sorted(files), capture_output=True, text=True)
    return sorted({line.split(":")[0] + ": run clang-format -i" for line in r.stderr.splitlines()
                   if "error:" in line})


def without_comments(text):
    return re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", " ", text, flags=re.S))


def split_outside(text, mark):
    """Split at `mark` where no bracket is open."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "({[") - (c in ")}]")
        if c == mark and not depth:
            parts.append(part)
            part = ""
        else:
            part += c
    return parts + [part]


def members(body):
    """Names of the members that the text between a struct's braces declares."""
    for declaration in split_outside(body, ";"):
        declaration = re.sub(r"\{.*\}", " anonymous ", declaration, flags=re.S)
        for declarator in split_outside(declaration, ","):
            m = re.search(r"\(\s*\*\s*(\w+)[^()]*\)\s*\(", declarator) or \
                re.search(r"(\w+)\s*(\[[^]]*\]\s*)*$", declarator.strip())
            if m:
                yield m.group(1)


def structs(text):
    for m in re.finditer(r"^(?:static )?struct (\w+) \{\n(.*?)^\}", text, re.M | re.S):
        yield m.group(1), list(members(m.group(2)))


def fields(build):
    """By names in the source, as clang-format leaves it; a struct of a file hides one of a header."""
    bad, shared = [], {}
    texts = {path: without_comments(open(path).read()) for path in sources() if not path.endswith("_test.c")}
    for path, text in texts.items():
        if path.endswith(".h"):
            shared.update(structs(text))
    for path, text in texts.items():
        own = dict(shared, **dict(structs(text)))
        for m in re.finditer(r"^FIELD_SET(?:_SHARED)?\(\s*\w+,\s*\"[^\"]*\",\s*struct (\w+),\s*(\w+),", text, re.M):
            name, table = m.groups()
            rows = re.search(r"struct field " + table + r"\[\] = \{(.*?)^\};", text, re.M | re.S)
            claimed = set(re.findall(r"FIELD\w*\(\s*struct " + name + r",\s*(\w+)", rows.group(1) if rows else ""))
            if name not in own:
                bad.append(f"{path}: struct {name} has a table and is not to be found")
            bad += [f"{path}: {table} does not say what {member} of struct {name} is"
                    for member in own.get(name, []) if member not in claimed]
    return bad


def main():
    bad = {"layers": layers, "sizes": sizes, "globals": globals_, "format": format_, "fields": fields}[sys.argv[1]](sys.argv[2])
    for line in bad:
        print(line)
    print(f"lint {sys.argv[1]}: {len(bad)} finding(s)")
    return 1 if bad else 0


sys.exit(main())
