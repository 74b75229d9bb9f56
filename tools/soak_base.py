"""What the checks of tools/soak share: verdicts, folders, running programs, a console to talk to."""
import os
import re
import select
import shutil
import subprocess
import time


class Fail(Exception):
    """The check ran and something is wrong."""


class Skip(Exception):
    """The check cannot run here; the text says what it lacks."""


# What a healthy kernel does not say.
COMPLAINTS = ("Call Trace", "BUG:", "WARNING:", "Oops", "unstable", "rcu_sched detected", "rcu: INFO", "soft lockup",
              "hung_task", "blocked for more than", "MCE", "segfault", "general protection", "invalid opcode",
              "Unable to calibrate")


def complaints(text):
    return [line.strip() for line in text.splitlines() if any(c in line for c in COMPLAINTS)]


class Soak:
    """One check's folders and options."""

    def __init__(self, name, args):
        self.name, self.args = name, args
        self.work = os.path.join(args.work, name)
        self.lodge = os.path.join(args.build, "lodge")
        self.guest = args.guest
        os.makedirs(self.work, exist_ok=True)

    def path(self, *names):
        return os.path.join(self.work, *names)

    def need(self, *tools):
        for tool in tools:
            if not shutil.which(tool):
                raise Skip(f"no {tool} here")

    def need_guest(self):
        for name in ("vmlinux", "vmlinuz", "initrd.gz"):
            if not os.path.exists(os.path.join(self.guest, name)):
                raise Skip("no guest files; tools/guest.py makes them")

    def need_build(self):
        if not os.path.exists(self.lodge):
            raise Fail(f"no {self.lodge}: build first, or give --build")

    def run(self, argv, log, timeout=None, env=None, cwd=None):
        """Runs a program, its output in a file of the work folder; status ('timeout' for a hang) and output."""
        file = self.path(log)
        with open(file, "wb") as f:
            try:
                status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, cwd=cwd,
                                        timeout=timeout and timeout * self.args.patience,
                                        env=dict(os.environ, **(env or {}))).returncode
            except subprocess.TimeoutExpired:
                status = "timeout"
        return status, open(file, "rb").read().decode("utf-8", "replace")

    def must(self, argv, log, **kw):
        status, out = self.run(argv, log, **kw)
        if status != 0:
            raise Fail(f"{os.path.basename(argv[0])}: status {status}, see {self.path(log)}: {last_line(out)}")
        return out

    def setup(self, build, compiler, *options):
        """A build directory of the check's own, up to date."""
        build = self.path(build)
        if not os.path.exists(os.path.join(build, "build.ninja")):
            self.must(["meson", "setup", build, "--buildtype=debugoptimized", *options], "setup.log",
                      env={"CC": compiler})
        self.must(["ninja", "-C", build, "-j1"], "build.log")
        return build


def last_line(text):
    lines = [l for l in text.splitlines() if l.strip()]
    return lines[-1] if lines else ""


class Console:
    """A lodge whose serial line we read and type on; all of it goes to a log file as well."""

    def __init__(self, argv, log, patience):
        self.log, self.patience = open(log, "wb"), patience
        self.said = self.all = b""
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        self.log.close()

    def more(self, seconds):
        """What came within so many seconds, at least a little; nothing when the program has ended."""
        if not select.select([self.proc.stdout], [], [], seconds)[0]:
            return None
        data = os.read(self.proc.stdout.fileno(), 65536)
        self.log.write(data)
        self.log.flush()
        self.said += data
        self.all += data
        return data

    def wait(self, pattern, timeout):
        """Waits for a pattern; the text up to its end."""
        end = time.monotonic() + timeout * self.patience
        while True:
            m = re.search(pattern.encode(), self.said)
            if m:
                text, self.said = self.said[:m.end()], self.said[m.end():]
                return text.decode("utf-8", "replace").replace("\r", "")
            left = end - time.monotonic()
            if left <= 0 or self.more(min(left, 5)) == b"":
                why = "no" if left <= 0 else "the program ended before"
                raise Fail(f"{why} '{pattern}' on the serial line (see {self.log.name}): "
                           + last_line(self.all.decode("utf-8", "replace")))

    def type(self, line):
        self.proc.stdin.write(line.encode() + b"\n")
        self.proc.stdin.flush()

    def end(self, timeout):
        """Reads until the program ends; its status."""
        end = time.monotonic() + timeout * self.patience
        while time.monotonic() < end and self.more(1) != b"":
            pass
        try:
            return self.proc.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "timeout"
