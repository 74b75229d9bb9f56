"""The two emulators of bench/, started alike; their CPU clocks read at marks that the guest prints.

A guest program prints lines, and waits for a line of ours after the first and where it says so:

    MARK begin NAME             it waits: the emulator stands still while its clock is read
    MARK end NAME SUM [...]     the work is done and this is its checksum
    MARK end NAME               the same, but it waits and then prints its checksum:
    MARK sum NAME SUM [...]

What follows SUM is the program's own (the native CPU time in microseconds, or figures).
"""
import base64
import collections
import contextlib
import gzip
import os
import platform
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def cpuinfo(key):
    with open("/proc/cpuinfo") as f:
        return [line.split(":")[1].strip() for line in f if line.startswith(key)][0]


# Both emulators pass the host's TSC through. On a loaded host the kernel's calibration of it fails under
# TCG and the boot stands still, so the kernel is told.
TSC_KHZ = int(float(cpuinfo("cpu MHz")) * 1000)
APPEND = f"console=ttyS0 quiet mitigations=off tsc_early_khz={TSC_KHZ}"

# cpu: of the emulator; wall: both in seconds; sum: what must agree; more: the words after it.
Mark = collections.namedtuple("Mark", "cpu wall sum more")


def cpu_seconds(pid):
    return time.clock_gettime((~pid << 3) | 2)  # the process's clock: all its threads, those ended too


def own_memory(pid, ram_mib):
    """Pss of everything but guest RAM, MiB. Guest RAM: one or two private mappings that are its size together."""
    sizes, pss, private = [], [], []
    for line in open(f"/proc/{pid}/smaps"):
        words = line.split()
        if words[0] == "Size:":
            sizes.append(int(words[1]))
        elif words[0] == "Pss:":
            pss.append(int(words[1]))
        elif len(words[0]) > 16 and words[1][3] in "ps":
            private.append(words[1][3] == "p")
    for first in range(len(sizes)):
        for ram in (slice(first, first + 1), slice(first, first + 2)):
            if sum(sizes[ram]) == ram_mib * 1024 and all(private[ram]):
                return (sum(pss) - sum(pss[ram])) / 1024
    return None


class Emulator:
    def __init__(self, name, binary, args, cpu="max", ram_mib=512):
        self.name, self.binary, self.cpu, self.ram_mib = name, binary, cpu, ram_mib
        self.guest, self.timeout = args.guest, args.timeout
        self.accel = args.lodge_accel if name == "lodge" else "tcg"

    def command(self, kernel, script=None, initrd=None, more=()):
        args = [self.binary, "-accel", self.accel, "-M", "microvm", "-cpu", self.cpu, "-m", f"{self.ram_mib}M",
                "-kernel", kernel, "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        if script is not None:
            args += ["-initrd", initrd,
                     "-append", APPEND + " lodge.run=" + base64.b64encode(script.encode()).decode()]
        return args + list(more)

    def session(self, script, initrd, more=()):
        command = self.command(f"{self.guest}/vmlinux", f"{script} && poweroff -f; sleep 100", initrd, more)
        return Session(command, self.timeout, self.ram_mib)

    def run(self, script, initrd, more=()):
        """Boots, runs the script, answers its marks: {name: Mark}, and own memory at the first mark."""
        with self.session(script, initrd, more) as session:
            return session.follow()


class Session:
    """One run of an emulator whose guest prints marks."""

    def __init__(self, command, timeout, ram_mib):
        self.name, self.ram_mib = os.path.basename(command[0]), ram_mib
        self.proc = subprocess.Popen(["timeout", "--foreground", str(timeout)] + command, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.results, self.pid, self.memory, self.running, self.log = {}, None, None, None, []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.terminate()
            self.proc.wait()

    def answer(self):
        self.proc.stdin.write(b"\n")
        self.proc.stdin.flush()

    def begin(self, name):
        time.sleep(0.01)
        self.running = name
        self.wall, self.cpu = time.perf_counter(), cpu_seconds(self.pid)
        self.answer()

    def end(self, name, rest):
        self.cpu, self.wall = cpu_seconds(self.pid) - self.cpu, time.perf_counter() - self.wall
        if rest:
            self.sum(name, rest)
        else:
            self.answer()

    def sum(self, name, rest):
        self.results[name] = Mark(self.cpu, self.wall, rest[0], rest[1:])
        print(f"  {self.name} {name} {self.cpu:.3f}", file=sys.stderr)
        self.running = None

    def find(self):
        self.pid = int(open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").read().split()[0])
        self.memory = own_memory(self.pid, self.ram_mib)

    def marks(self):
        """Each name at its beginning; the guest waits there until the next one is asked for."""
        for line in self.proc.stdout:
            text = line.decode("utf-8", "replace").strip()
            self.log.append(text)
            words = text.split()
            if words[:2] == ["MARK", "begin"]:
                if self.pid is None:
                    self.find()
                yield words[2]
                self.begin(words[2])
            elif words[:2] == ["MARK", "end"]:
                self.end(words[2], words[3:])
            elif words[:2] == ["MARK", "sum"]:
                self.sum(words[2], words[3:])
        self.finish()

    def follow(self):
        for _ in self.marks():
            pass
        return self.results, self.memory

    def finish(self):
        status = self.proc.wait()
        if status or self.running or not self.results:
            print(f"{self.name}: status {status} in {self.running}: {self.log[-6:]}", file=sys.stderr)
            if self.running:
                self.results[self.running] = Mark(None, None, "hangs" if status == 124 else "fails", [])


def alternate(pair, script, initrd, more=(), turn=0):
    """Boots both emulators and lets them run the script's parts in turn: (name, {emulator: Mark}) of each.

    One stands at its mark while the other works, so that what else the host does meets both."""
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(e.session(script, initrd, more)) for e in pair]
        steps = [s.marks() for s in sessions]
        names = [next(step, None) for step in steps]
        while any(names):
            turn, now = turn + 1, names[:]
            for i in (0, 1) if turn % 2 else (1, 0):
                names[i] = next(steps[i], None)
            yield now[0] or now[1], {e.name: s.results[n] for e, s, n in zip(pair, sessions, now) if n}


def native_marks(text):
    """The marks of a program that ran without -w; the word after the checksum is its CPU time in microseconds."""
    lines = [l.split() for l in text.splitlines() if l.startswith(("MARK end", "MARK sum")) and len(l.split()) > 4]
    return {w[2]: Mark(int(w[4]) / 1e6, None, w[3], w[4:]) for w in lines}


def cpio_entry(name, mode, data):
    head = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    text = b"070701" + b"".join(b"%08x" % n for n in head) + name.encode() + b"\0"
    return text + b"\0" * (-len(text) % 4) + data + b"\0" * (-len(data) % 4)


def make_initrd(guest, files, out):
    """The test guest's initramfs with files {name: path} after it (the kernel unpacks one after the other)."""
    folders = {os.path.dirname(name) for name in files} - {""}
    more = [cpio_entry(d, 0o40755, b"") for d in sorted(folders)]
    more += [cpio_entry(name, 0o100755, open(path, "rb").read()) for name, path in files.items()]
    data = open(f"{guest}/initrd.gz", "rb").read()
    with open(out, "wb") as f:
        f.write(data + b"\0" * (-len(data) % 4) + gzip.compress(b"".join(more) + cpio_entry("TRAILER!!!", 0, b""), 1))


def add_arguments(parser, timeout):
    """The options that all programs of bench/ have."""
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--lodge", default=f"{HERE}/../build/lodge")
    parser.add_argument("--lodge-accel", default="jit", help="-accel of lodge, with its options")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--guest", default=f"{HERE}/../guest")
    parser.add_argument("--timeout", type=int, default=timeout, help="seconds that one run of a guest may take")
    parser.add_argument("--json")
    parser.add_argument("--markdown")


def skip(why):
    print(f"not measured: {why}")
    sys.exit(77)  # to meson's tests: skipped


def parse(parser, rounds):
    args = parser.parse_args()
    args.rounds = args.rounds or rounds
    if not os.path.exists(f"{args.guest}/initrd.gz"):
        skip("no guest; tools/guest.py makes it")
    if not shutil.which(args.qemu):
        skip(f"no {args.qemu} to compare with; it is in Debian's package qemu-system-x86")
    return args


def host():
    return f"{cpuinfo('model name')}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def versions(args, ram_mib):
    def first_line(command):
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]

    return {"lodge": first_line([args.lodge, "-version"]), "qemu": first_line([args.qemu, "-version"]),
            "host": host(), "gcc": first_line(["gcc", "--version"]), "rounds": args.rounds, "ram MiB": ram_mib,
            "append": APPEND}
