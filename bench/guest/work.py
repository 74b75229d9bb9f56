"""Everyday Python: classes, dicts, strings, JSON, regular expressions, big numbers, generators."""
import hashlib
import heapq
import json
import re


class Node:
    def __init__(self, name):
        self.name, self.edges = name, []

    def link(self, other, cost):
        self.edges.append((cost, other))


def shortest(count):
    nodes = [Node(i) for i in range(count)]
    for i in range(count):
        for j in range(1, 6):
            nodes[i].link(nodes[(i * j + 7 * j) % count], (i * 31 + j * 17) % 101 + 1)
    best, heap = {0: 0}, [(0, 0)]
    while heap:
        cost, i = heapq.heappop(heap)
        if cost > best[i]:
            continue
        for step, other in nodes[i].edges:
            if cost + step < best.get(other.name, 1 << 30):
                best[other.name] = cost + step
                heapq.heappush(heap, (cost + step, other.name))
    return sum(best.values()), len(best)


def texts(count):
    words, total = {}, 0
    with open("text") as f:
        for _, line in zip(range(count), f):
            for w in line.split():
                words[w] = words.get(w, 0) + 1
            total += len(re.sub(r"(\w+)e (\w+)", r"\2 \1", line).upper().replace("A", "--"))
    data = json.loads(json.dumps({w: [n, {"length": len(w)}] for w, n in words.items()}, sort_keys=True))
    return total, sum(n * d["length"] for n, d in data.values())


def queens(n, row=0, columns=0, left=0, right=0):
    if row == n:
        return 1
    found, free = 0, ~(columns | left | right) & ((1 << n) - 1)
    while free:
        bit = free & -free
        free ^= bit
        found += queens(n, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)
    return found


def primes():
    n = 2
    while True:
        if all(n % d for d in range(2, int(n ** 0.5) + 1)):
            yield n
        n += 1


def numbers():
    p = next(x for i, x in enumerate(primes()) if i == 1500)
    return p, hashlib.md5(hex(3 ** 40000 // 7 ** 6000).encode()).hexdigest(), sum(i * 0.5 for i in range(100000))


print(shortest(8000), texts(5000), queens(7), numbers())
