"""Inputs of the applications suite, the same in every run: text, lines, a C program; and an RSA key.

All but the key come from a seed; the key is made once and kept (signing takes as long with any).
"""
import os
import random
import subprocess

TEXT_BYTES, LINES, FUNCTIONS = 4 << 20, 600000, 12


def text(rng, size):
    """Lines of made-up words, common ones often (the n-th about 1/n of the times), so that they compress as prose."""
    letters = "eeeeeeeeeeeetttttttttaaaaaaaaooooooooiiiiiiinnnnnnnsssssshhhhhhrrrrrrddddllluuccmmwwffggyyppbbvk"
    words = ["".join(rng.choices(letters, k=rng.randint(1, 11))) for _ in range(20000)]
    weights, total = [], 0.0
    for n in range(len(words)):
        total += 1 / (n + 2)
        weights.append(total)
    parts, length = [], 0
    while length < size:
        line = " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(4, 16)))
        parts.append(line)
        length += len(line) + 1
    return "\n".join(parts) + "\n"


def lines(rng, count):
    return "".join(f"{rng.getrandbits(48):012x} {rng.randint(0, 9999):04d} {rng.randint(0, 999)}\n" for _ in range(count))


# One of each is written for every number: what C programs are mostly made of.
TEMPLATE = """
struct node{n} {{
    struct node{n} *next, *child[{fan}];
    unsigned key, count;
    double weight;
    char name[{name}];
}};

static struct node{n} *find{n}(struct node{n} *list, unsigned key)
{{
    for (; list; list = list->next) {{
        if (list->key == key) {{
            return list;
        }}
        for (int i = 0; i < {fan}; i++) {{
            struct node{n} *c = list->child[i];
            if (c && (c->key ^ key) % {prime}u == {n}u % {prime}u) {{
                return c;
            }}
        }}
    }}
    return 0;
}}

static int lex{n}(const char *s, struct node{n} *out)
{{
    unsigned depth = 0, value = {n}u;
    while (*s) {{
        switch (*s) {{
{cases}
        case '(': case '[':
            depth++;
            break;
        case ')': case ']':
            if (depth-- == 0) {{
                return -1;
            }}
            break;
        default:
            value = value * {prime}u + (unsigned char)*s;
        }}
        s++;
    }}
    out->key = value;
    out->weight += (double)value / {prime}.0;
    return (int)depth;
}}

double smooth{n}(double *v, int n, struct node{n} *list)
{{
    double sum = 0;
    for (int i = 1; i + 1 < n; i++) {{
        v[i] = v[i - 1] * {a}e-3 + v[i] * {b}e-3 + v[i + 1];
        sum += v[i] > {a} ? v[i] : -v[i];
    }}
    struct node{n} *found = find{n}(list, (unsigned)n);
    if (found && lex{n}(found->name, found) >= 0) {{
        memcpy(found->name, list->name, sizeof(found->name) / 2);
        sum += found->weight;
    }}
    return sum{call};
}}
"""


def program(rng, count):
    """C of some thousand lines, for cc1 to optimize."""
    parts = ["#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"]
    for n in range(count):
        cases = "\n".join(f"        case '{c}':\n            value {rng.choice(['+=', '^=', '-=', '*='])} "
                          f"{rng.randint(1, 9999)}u; depth {rng.choice(['|', '^'])}= value >> {rng.randint(1, 31)};\n"
                          f"            break;" for c in rng.sample("abcdefghijklmnopqrstuvwxyz", 12))
        call = f" + smooth{n - 1}(v, n / 2, (struct node{n - 1} *)list->next)" if n else ""
        parts.append(TEMPLATE.format(n=n, fan=rng.randint(2, 9), name=rng.randint(8, 64), cases=cases, call=call,
                                     prime=rng.choice([31, 101, 8191, 65599]), a=rng.randint(1, 999),
                                     b=rng.randint(1, 999)))
    return "".join(parts)


def make(folder):
    """Writes what is not there yet; {name: path} of all."""
    makers = {"text": lambda: text(random.Random(1), TEXT_BYTES), "lines": lambda: lines(random.Random(2), LINES),
              "program.c": lambda: program(random.Random(3), FUNCTIONS)}
    os.makedirs(folder, exist_ok=True)
    for name, maker in makers.items():
        if not os.path.exists(f"{folder}/{name}"):
            with open(f"{folder}/{name}", "w") as f:
                f.write(maker())
    if not os.path.exists(f"{folder}/rsa.pem"):
        subprocess.run(["openssl", "genrsa", "-out", f"{folder}/rsa.pem", "8192"], check=True, capture_output=True)
    return {name: f"{folder}/{name}" for name in [*makers, "rsa.pem"]}
