#!/usr/bin/env python3
"""Writes a C program of some tens of files for tools/soak stress4, and compiles it: soak_compile.py DIRECTORY.

SUMS and PROG-SUM tell what came of it: checksums of the objects and the program, and of what that prints.
Always the same program: what random numbers decide comes from a seed. All arithmetic is defined C (unsigned,
shifts within the width, no division by zero), so that the program prints the same everywhere."""
import os
import random
import subprocess
import sys

FILES = 40

HEADER = """#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef uint32_t u32;
typedef uint64_t u64;
struct node { u32 key; u64 sum; struct node *left, *right; double weight; char name[24]; };
struct ctx { u64 hash; u32 depth, words[64]; double v[64]; float f[64]; struct node *root; };
static inline u64 mix(u64 h, u64 x) { h ^= x; h *= 0xff51afd7ed558ccdu; return h ^ h >> 32; }
static inline u32 whole(double d) { return d > -1e9 && d < 1e9 ? (u32)(int32_t)d : 7; }
"""
MAKEFILE = """CFLAGS = -O2 -g
SRC := $(sort $(wildcard *.c))
OBJ := $(SRC:%.c=out/%.o)
out/prog: $(OBJ)
\t$(CC) -o $@ $(OBJ) -lm
out/%.o: %.c prog.h
\t$(CC) $(CFLAGS) -c -o $@.part $< && mv $@.part $@
"""
FIXED = """
static int NAME_less(const void *a, const void *b)
{
    const u32 *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}
static struct node *NAME_insert(struct node *at, u32 key, u64 sum)
{
    if (!at) {
        at = calloc(1, sizeof *at);
        at->key = key;
        at->sum = sum;
        at->weight = key / 3.0;
        snprintf(at->name, sizeof at->name, "NAME-%08x", key);
    } else if (key < at->key) {
        at->left = NAME_insert(at->left, key, sum + 1);
    } else if (key > at->key) {
        at->right = NAME_insert(at->right, key, sum ^ key);
    } else {
        at->sum += sum;
    }
    return at;
}
static u64 NAME_walk(struct node *at, u64 h)
{
    if (!at) return mix(h, K0u);
    h = NAME_walk(at->left, h);
    for (const char *p = at->name; *p; p++) h = h * 33 + (unsigned char)*p;
    h = NAME_walk(at->right, mix(h, at->sum + (u64)at->weight));
    free(at);
    return h;
}
static double NAME_lin(struct ctx *c)
{
    double m[8][8], r[8], d = 0;
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 8; j++) m[i][j] = c->v[(i * 8 + j) & 63] * 0x1p-40 + (i == j) * 16.0;
        r[i] = c->f[i] + i;
    }
    for (int k = 0; k < 8; k++)
        for (int i = k + 1; i < 8; i++) {
            double q = m[i][k] / m[k][k];
            for (int j = k; j < 8; j++) m[i][j] -= q * m[k][j];
            r[i] -= q * r[k];
        }
    for (int i = 7; i >= 0; i--) {
        for (int j = i + 1; j < 8; j++) r[i] -= m[i][j] * r[j];
        r[i] /= m[i][i];
        d += r[i] * (i + 1);
    }
    return d;
}
u64 NAME(struct ctx *c, u32 n)
{
    u32 a[96];
    char text[512] = "";
    for (u32 i = 0; i < 96; i++) a[i] = NAME_t[i & 63] * (i + n) ^ c->words[i & 63];
    qsort(a, 96, sizeof a[0], NAME_less);
    for (u32 i = 0; i < 96; i++) c->root = NAME_insert(c->root, a[i] % 9973, i);
    c->hash = NAME_walk(c->root, c->hash);
    c->root = NULL;
    for (u32 i = 0; i < 24; i++) {
        char word[20];
        snprintf(word, sizeof word, "%x.%u ", a[i * 4], a[i] % K1u);
        strcat(text, word);
    }
    for (char *p = strtok(text, " ."); p; p = strtok(NULL, " .")) c->hash = mix(c->hash, strtoul(p, NULL, 16));
    for (int i = 0; i < 64; i++) c->v[i] = (double)(a[i] % 4096) * K2, c->f[i] = (float)(a[i + 32] & 0xffff) / 7;
    double d = NAME_lin(c);
    u64 bits;
    memcpy(&bits, &d, 8);
    c->hash = mix(c->hash, bits);
CALLS    return c->hash;
}
"""


class Writer:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def value(self, deep):
        r = self.r
        if deep <= 0:
            return r.choice(["a", "b", "x", "y", "i", f"{r.getrandbits(r.choice([4, 8, 16, 32]))}u",
                             f"NAME_t[(a + {r.randrange(64)}) & 63]", "c->words[(x ^ i) & 63]", "(u32)c->hash",
                             "whole(c->v[y & 63])", "c->depth"])
        one, two = self.value(deep - 1), self.value(deep - r.choice([1, 2]))
        k = r.randrange(1, 31)
        return r.choice([f"({one} + {two})", f"({one} - {two})", f"({one} * {two})", f"({one} ^ {two})",
                         f"({one} & {two})", f"({one} | {two})", f"({one} << {k} | {one} >> {32 - k})",
                         f"({one} / ({two} | 1u))", f"({one} % ({two} | {r.randrange(1, 99)}u))",
                         f"({one} < {two} ? {two} : {one})", f"(u32)((u64){one} * {two} >> {k})",
                         f"({one} >> ({two} & 31))", f"(u32)__builtin_popcount({one})", f"__builtin_bswap32({one})",
                         f"({one} == {two} || {two} > {k}u)", f"~{one}"])

    def block(self, deep, pad):
        r, text = self.r, ""
        for _ in range(r.randrange(2, 5)):
            kind = r.randrange(9) if deep else r.randrange(5)
            to = r.choice(["x", "y", "x", "y", "c->words[(x + y) & 63]"])
            if kind < 3:
                text += f"{pad}{to} {r.choice(['=', '+=', '^=', '-=', '*='])} {self.value(r.choice([1, 2, 3]))};\n"
            elif kind == 3:
                text += f"{pad}c->hash = mix(c->hash, {self.value(2)});\n"
            elif kind == 4:
                text += f"{pad}c->v[x & 63] += (double){self.value(1)} * {r.random():.6f};\n"
            elif kind == 5:
                text += f"{pad}if ({self.value(2)} {r.choice(['<', '>', '!=', '=='])} {self.value(2)}) {{\n" \
                    f"{self.block(deep - 1, pad + '    ')}{pad}}} else {{\n{self.block(deep - 1, pad + '    ')}{pad}}}\n"
            elif kind == 6:
                text += f"{pad}for (i = 0; i < {r.randrange(3, 9)}; i++) {{\n{self.block(0, pad + '    ')}" \
                    f"{pad}    if (x == y) break;\n{pad}}}\n"
            elif kind == 7:
                arms = "".join(f"{pad}case {n}:\n{self.block(deep - 1, pad + '    ')}"
                               f"{pad}    {r.choice(['break', 'break', '/* falls through */'])};\n"
                               for n in sorted(r.sample(range(16), r.randrange(3, 9))))
                text += f"{pad}switch ({self.value(1)} & 15) {{\n{arms}{pad}default: y++;\n{pad}}}\n"
            elif r.random() < 0.3:
                value = f"c->{r.choice(['words', 'f'])}[63 - j] {r.choice('+*')} (float)j"
                to, value = r.choice([("words", f"whole({value})"), ("f", value), ("v", value)])
                text += f"{pad}for (int j = 0; j < 64; j++) c->{to}[j] {r.choice(['+=', '-=', '='])} {value};\n"
            else:
                text += f"{pad}for (int j = 0; j < 64; j++) c->words[j] {r.choice(['+=', '^=', '-='])} " \
                    f"NAME_t[j] {r.choice(['+', '^', '*'])} {r.choice(['x', 'y', 'a'])};\n"
        return text

    def file(self, name, functions):
        r = self.r
        table = ",\n    ".join(", ".join(f"0x{r.getrandbits(32):08x}u" for _ in range(8)) for _ in range(8))
        text, calls = f'#include "prog.h"\nstatic const u32 NAME_t[64] = {{\n    {table},\n}};\n', ""
        for n in range(functions):
            text += f"{r.choice(['static ', 'static ', ''])}u32 NAME_{n}(struct ctx *c, u32 a, u32 b)\n{{\n" \
                f"    u32 i = 0, x = a ^ {r.getrandbits(32)}u, y = b;\n{self.block(3, '    ')}" \
                f"    c->hash = mix(c->hash, (u64)x << 32 | y);\n    return x - y + i;\n}}\n"
            calls += f"    c->depth = NAME_{n}(c, n + {n}, (u32)c->hash);\n"
        text += FIXED.replace("CALLS", calls)
        for key, value in (("K0", r.getrandbits(31)), ("K1", r.randrange(100, 9000)), ("K2", f"{r.random():.9f}")):
            text = text.replace(key, str(value))
        return text.replace("NAME", name)


def main():
    where = sys.argv[1]
    names = [f"f{n:02}" for n in range(FILES)]
    files = {f"{name}.c": Writer(name).file(name, 1 + n % 4) for n, name in enumerate(names)}
    files["prog.h"], files["Makefile"] = HEADER, MAKEFILE
    files["main.c"] = '#include "prog.h"\n' + "".join(f"u64 {n}(struct ctx *c, u32 n);\n" for n in names) + \
        "int main(void)\n{\n    static struct ctx c;\n    for (u32 n = 0; n < 20; n++) {\n" + \
        "".join(f"        {n}(&c, n);\n" for n in names) + \
        '        printf("%016llx\\n", (unsigned long long)c.hash);\n    }\n    return 0;\n}\n'
    os.makedirs(os.path.join(where, "out"), exist_ok=True)
    for name, text in files.items():
        with open(os.path.join(where, name), "w") as f:
            f.write(text)
    subprocess.run("make && sha256sum out/* >SUMS && ./out/prog | sha256sum >PROG-SUM", shell=True, check=True, cwd=where)


main()
