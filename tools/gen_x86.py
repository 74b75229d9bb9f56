#!/usr/bin/env python3
"""Generates the x86 instruction enums and decode tables from src/isa/x86/insn.decode.

usage: gen_x86.py header|tables TABLE OUTPUT
"""
import sys

import hostvec
import x86table
from x86table import FIXED, MODES, SIZES


def ident(prefix, name):
    return f'{prefix}_{name.upper()}' if name else f'{prefix}_NONE'


def names_in_order(values):
    return list(dict.fromkeys(values))


def enum(out, tag, entries, last):
    out.append(f'enum {tag} {{')
    out += [f'    {e},' for e in entries]
    out.append(f'    {last},')
    out.append('};\n')


def features(forms):
    return sorted({f.feature for f in forms if f.feature})


def operand_codes(forms):
    return names_in_order(o for f in forms for o in f.operands)


def gen_header(forms, out):
    ops = names_in_order(f.name for f in forms)
    out.append('#ifndef ISA_X86_INSN_GEN_H\n#define ISA_X86_INSN_GEN_H\n')
    out.append('/* Instructions, in the order of insn.decode; conditions keep theirs (X86_JO + cc). */')
    enum(out, 'x86_op', ['X86_INVALID'] + [ident('X86', n) for n in ops], 'X86_OP_COUNT')
    out.append('/* CPUID features that rows ask for. VEX vector rows need AVX as well. */')
    enum(out, 'x86_feature', ['X86_FEATURE_NONE'] + [ident('X86_FEATURE', n) for n in features(forms)],
         'X86_FEATURE_COUNT')
    out.append(f'#define X86_FORM_COUNT {len(forms)}\n')
    out.append('#endif')


SIZE_ROWS = [(o, w, l, m) for o in (2, 4, 8) for w in (0, 1) for l in (0, 1) for m in (0, 1)]


def size_of(code, opsize, w, l, m64):
    vec = 32 if l else 16
    return {'': 0, 'b': 1, 'bs': opsize, 'w': 2, 'd': 4, 'q': 8, 'dq': 16, 'x': vec, 'xh': vec // 2,
            'xq': vec // 4, 'xo': vec // 8, 'v': opsize, 'z': 2 if opsize == 2 else 4,
            'y': 8 if w and m64 else 4, 'r': 8 if m64 else 4, 'ad': 0, 'a': 2 * opsize,
            'p': 2 + opsize, 's': 10 if m64 else 6, 'env': 14 if opsize == 2 else 28,
            'st': 94 if opsize == 2 else 108, 't': 10}[code]


FIXED_PARTS = {
    'AL': ('GPR', 'b', 0), 'CL': ('GPR', 'b', 1), 'AX': ('GPR', 'w', 0), 'DX': ('GPR', 'w', 2),
    'rAX': ('GPR', 'v', 0), 'eAX': ('GPR', 'z', 0), 'ES': ('SEG', 'w', 0), 'CS': ('SEG', 'w', 1),
    'SS': ('SEG', 'w', 2), 'DS': ('SEG', 'w', 3), 'FS': ('SEG', 'w', 4), 'GS': ('SEG', 'w', 5),
    'ST0': ('ST', 't', 0), 'STi': ('STI', 't', 0), 'XMM0': ('XMM', 'dq', 0), '1': ('ONE', 'b', 0)}


def code_parts(code):
    """How a code is decoded, its size code, and a fixed register number."""
    if code in FIXED:
        return FIXED_PARTS[code]
    return code[0], code[1:], 0


def code_ident(code):
    return 'X86_CODE_' + {'1': 'one'}.get(code, code)


def opt(value):
    return 'X86_ANY' if value is None else str(value)


def gen_tables(forms, out):
    tree = x86table.Tree(forms)
    codes = operand_codes(forms)
    ops = names_in_order(f.name for f in forms)
    out.append('#include "ir/hostvec.h"\n#include "isa/x86/table.h"\n')
    out.append('enum {')
    out += [f'    {code_ident(c)},' for c in codes]
    out.append('};\n')
    out.append('const struct x86_code x86_codes[] = {')
    for c in codes:
        how, size, reg = code_parts(c)
        out.append(f'    [{code_ident(c)}] = {{"{c}", X86_HOW_{how}, {SIZES.index(size)}, {reg}}},')
    out.append('};\n')
    out.append('/* Row: ((operand size 2 4 8) * 2 + W) * 2 + L) * 2 + 64-bit mode. */')
    out.append(f'const uint8_t x86_sizes[][X86_SIZES_ROOM] = {{')
    out.append(f'    /* {" ".join(s or "-" for s in SIZES)} */')
    for row in SIZE_ROWS:
        out.append('    {' + ', '.join(str(size_of(s, *row)) for s in SIZES) + '},')
    out.append('};\n')
    out.append('const struct x86_form x86_forms[X86_FORM_COUNT] = {')
    for i, f in enumerate(forms):
        flags = ' | '.join('X86_FORM_' + n for n in f.flags()) or '0'
        operands = ', '.join(code_ident(c) for c in f.operands) or '0'
        out.append(f'    [{i}] = {{{ident("X86", f.name)}, {flags}, '
                   f'{ident("X86_FEATURE", f.feature)},')
        out.append(f'            {len(f.operands)}, {{{operands}}},')
        span = 'X86_LOW3' if f.opcode_span == 8 else '0'
        out.append(f'            {{{f.map}, 0x{f.opcode:02x}, {span}, 0x{f.prefix:x}, {opt(f.mod)}, '
                   f'{opt(f.reg)}, {opt(f.rm)}, {opt(f.mode)}, {opt(f.osize)}, {opt(f.asize)}, '
                   f'{opt(f.rexb)}, {opt(f.l)}, {opt(f.w)}, {f.line}}}}},')
    out.append('};\n')
    out.append('/* Kind of node, then where each answer leads; see Tree in tools/x86table.py. */')
    out.append('const uint16_t x86_tree[] = {')
    row = ''
    for place, (kind, value) in enumerate(tree.words):
        if kind:
            if row:
                out.append(row)
            row = f'    /* {place} */ ' + ('0,' if value == 0 else f'X86_NODE_{kind},')
        else:
            row += f' {entry(value)},'
    out.append(row)
    out.append('};\n')
    out.append('/* First by map: one-byte, 0f, 0f38, 0f3a, then VEX maps 1 to 3; then by opcode. */')
    out.append('const uint16_t x86_roots[7][256] = {')
    for root in tree.roots:
        out.append('    {')
        for i in range(0, 256, 8):
            out.append('        ' + ' '.join(f'{entry(v)},' for v in root[i:i + 8]) + f' /* {i:02x} */')
        out.append('    },')
    out.append('};\n')
    ids, index = hostvec.collect(forms)
    out.append('/* enum hostvec_op of vector and x87 forms. */')
    out.append('const uint16_t x86_form_hostvecs[X86_FORM_COUNT] = {')
    out += [f'    [{i}] = {ids[v - 1].ident},' for i, v in enumerate(index) if v]
    out.append('};\n')
    strings(out, 'x86_op_names', 'X86_OP_COUNT', ['(invalid)'] + ops)
    strings(out, 'x86_feature_names', 'X86_FEATURE_COUNT', ['-'] + features(forms))


def entry(value):
    return f'L({value & 0x7fff})' if value & x86table.LEAF else str(value)


def strings(out, name, count, values):
    if max(map(len, values)) >= 20:
        raise x86table.TableError(f'{name}: a name is longer than X86_NAME allows')
    out.append(f'const char {name}[{count}][X86_NAME] = {{')
    for i in range(0, len(values), 8):
        out.append('    ' + ' '.join(f'"{v}",' for v in values[i:i + 8]))
    out.append('};\n')


def main():
    what, table, output = sys.argv[1:]
    try:
        forms = x86table.read(table)
        out = ['/* Generated by tools/gen_x86.py from src/isa/x86/insn.decode. */']
        {'header': gen_header, 'tables': gen_tables}[what](forms, out)
    except x86table.TableError as e:
        sys.exit(str(e))
    text = '\n'.join(out).rstrip() + '\n'
    if what == 'tables':
        text = text.replace('enum {', '#define L(form) (X86_LEAF | (form))\n\nenum {', 1)
    with open(output, 'w', encoding='ascii') as f:
        f.write(text)


if __name__ == '__main__':
    main()
