"""The arithmetic of bench/: rows, means, the gate's verdicts, and that the plot is XML."""
import os
import random
import sys
import unittest
import xml.dom.minidom

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
import emulators  # noqa: E402
import figures  # noqa: E402
import gate  # noqa: E402
import plot  # noqa: E402

SPEEDS = {"a": ("integer", 2.0), "b": ("integer", 8.0), "c": ("system", 3.0)}


def table(slower=1.0, jitter=0.0, seed=1):
    """What a run of six passes would give whose lodge takes so much longer."""
    rng = random.Random(seed)
    rounds = []
    for _ in range(6):
        noise = {n: 1 + rng.uniform(-jitter, jitter) for n in SPEEDS}
        rounds.append({"lodge": {n: emulators.Mark(noise[n] * slower, 1, "5", []) for n in SPEEDS},
                       "qemu": {n: emulators.Mark(v, 1, "5", []) for n, (_, v) in SPEEDS.items()}})
    return figures.rows({n: g for n, (g, _) in SPEEDS.items()}, rounds)


def record(noise=0.01, host=None):
    groups = {g: {"speed": s, "noise": noise} for g, s in {"integer": 4.0, "system": 3.0, "all": 48 ** (1 / 3)}.items()}
    return {"about": {"host": host or emulators.host()}, "groups": groups}


class Figures(unittest.TestCase):
    def test_means(self):
        groups = figures.groups(table())
        self.assertAlmostEqual(groups["integer"]["speed"], 4.0)
        self.assertAlmostEqual(groups["all"]["speed"], 48 ** (1 / 3))
        self.assertIsNone(groups["integer"]["lodge/native"])

    def test_checksums(self):
        rounds = [{"native": {"a": emulators.Mark(1, 1, "5", [])}, "lodge": {"a": emulators.Mark(1, 1, "6", [])},
                   "qemu": {"a": emulators.Mark(2, 1, "5", [])}}]
        self.assertEqual(figures.wrong(figures.rows({"a": "x"}, rounds)), ["a"])

    def test_missing(self):
        rounds = [{"lodge": {"a": emulators.Mark(1, 1, "5", [])}, "qemu": {}}]
        self.assertEqual(figures.wrong(figures.rows({"a": "x"}, rounds)), ["a"])


class Gate(unittest.TestCase):
    def test_same_passes(self):
        self.assertEqual(gate.fallen(table(jitter=0.02), record(), 1, False), {})

    def test_slower_falls(self):
        self.assertEqual(set(gate.fallen(table(1.15, 0.02), record(), 2, True)), {"integer", "system", "all"})

    def test_noise_is_no_fall(self):
        self.assertEqual(gate.fallen(table(1.15), record(noise=0.1), 1, True), {})
        self.assertEqual(gate.fallen(table(1.08, jitter=0.3), record(), 1, True), {})

    def test_elsewhere(self):
        self.assertEqual(gate.fallen(table(1.15), record(host="another, 2 CPUs"), 2, True), {})
        self.assertTrue(gate.fallen(table(1.7), record(host="another, 2 CPUs"), 2, True))

    def test_a_group_that_is_gone_has_fallen(self):
        rows = {n: r for n, r in table().items() if r["group"] == "system"}
        self.assertIn("integer", gate.fallen(rows, record(), 2, True))


class Plot(unittest.TestCase):
    def test_xml(self):
        groups = {"integer": {"a<b": 2.0, "c": 0.6}, "system": {"d": 30.0}}
        for every in (False, True):
            xml.dom.minidom.parseString(plot.draw(groups, every))


unittest.main()
