"""An image under test: how both programs are called for it, and what must hold after every batch."""
import json
import os
import re
import shutil
import subprocess

READ_ONLY = ("vhdx", "qed")  # we read them, the other program makes, writes and checks them
SECRET = "secret,id=s0,data=open-sesame"


# What only the other program refuses: zeros where version 2 cannot say so without writing them, and version 2 with
# snapshots that stays as large as it is.
ONLY_THEIRS = ("Failed to zero out new clusters", "Can't resize a v2 image which has snapshots")


class Wrong(Exception):
    """The programs or the model disagree."""


class Program:
    def __init__(self, name, img, io):
        self.name, self.img, self.io = name, img, io


class Log:
    """What has been run, to be told after a failure."""

    def __init__(self):
        self.lines = []

    def add(self, args):
        self.lines.append(" ".join("'%s'" % a if re.search(r"[ ;*]", a) else a for a in args))


class Image:
    """fmt and options as create takes them; model is what a reader must see."""

    def __init__(self, fmt, path, model, secret=False):
        self.fmt, self.path, self.model, self.secret = fmt, path, model, secret
        self.below = None  # Image of the backing file
        self.snaps = {}  # name -> Model
        self.maps = {}  # name -> [enabled, granularity]
        self.data_file = None
        self.raw_data = False
        self.opts = {}

    def spec(self, path=None):
        """Arguments that name the image."""
        path = path or self.path
        if not self.secret:
            return ["-f", self.fmt, path]
        key = {"luks": "key-secret", "qcow2": "encrypt.key-secret"}[self.fmt]
        return ["--object", SECRET, "--image-opts",
                "driver=%s,file.driver=file,file.filename=%s,%s=s0" % (self.fmt, path, key)]


class Bench:
    """Both programs, a folder, and the log of one sequence."""

    def __init__(self, ours, theirs, folder, rnd):
        self.ours, self.theirs, self.dir, self.rnd = ours, theirs, folder, rnd
        self.log, self.count, self.names = Log(), 0, 0

    def path(self, name):
        return os.path.join(self.dir, name)

    def fresh(self, ext="img"):
        self.names += 1
        return self.path("%d.%s" % (self.names, ext))

    def either(self):
        return self.rnd.choice((self.ours, self.theirs))

    def other(self, program):
        return self.theirs if program is self.ours else self.ours

    def run(self, *args, quiet=False):
        if not quiet:
            self.log.add(args)
        try:
            p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, cwd=self.dir)
        except subprocess.TimeoutExpired:
            raise Wrong("hangs: " + " ".join(args)) from None
        p.stdout = p.stdout.decode("utf-8", "replace")
        if p.returncode < 0:
            raise Wrong("died of signal %d: %s" % (-p.returncode, " ".join(args)))
        return p

    def must(self, *args, quiet=False):
        p = self.run(*args, quiet=quiet)
        if p.returncode:
            raise Wrong("%s: status %d: %s" % (" ".join(args), p.returncode, p.stdout.strip()[-600:]))
        return p.stdout

    # ---- What must hold ----

    def contents(self, program, image, *more):
        out = self.path("contents.raw")
        if os.path.exists(out):
            os.unlink(out)
        self.must(program.img, "convert", *more, *image.spec(), "-O", "raw", out, quiet=True)
        with open(out, "rb") as f:
            return f.read()

    def verify(self, image):
        for program in (self.theirs, self.ours):
            wrong = image.model.settle(self.contents(program, image))
            if wrong:
                raise Wrong("%s reads: %s" % (program.name, wrong))
        if image.fmt not in READ_ONLY:
            self.same(image, "check", statuses=(0, 63))
        self.same(image, "info")
        if image.fmt != "vhdx":  # the other program calls all of it data
            self.same(image, "map")
        if image.snaps:
            self.verify_snapshot(image, self.rnd.choice(sorted(image.snaps)))
        if image.raw_data:
            self.verify_data_file(image)
        self.verify_names(image)

    def verify_snapshot(self, image, name):
        program = self.either()
        if image.snaps[name].size != image.model.size:
            program = self.ours  # the other program shows it in the size that the image has now
        wrong = image.snaps[name].settle(self.contents(program, image, "-l", "snapshot.name=" + name))
        if wrong:
            raise Wrong("snapshot %s: %s" % (name, wrong))

    def verify_data_file(self, image):
        with open(image.data_file, "rb") as f:
            wrong = image.model.settle(f.read(image.model.size))
        if wrong:
            raise Wrong("the data file as a raw image: " + wrong)

    def verify_names(self, image):
        info = self.info(image)
        if image.fmt != "qcow2":
            return
        snaps = sorted(s["name"] for s in info.get("snapshots", []))
        maps = {m["name"]: "auto" in m["flags"] for m in info["format-specific"]["data"].get("bitmaps", [])}
        if snaps != sorted(image.snaps):
            raise Wrong("snapshots %s, expected %s" % (snaps, sorted(image.snaps)))
        if maps != {n: m[0] for n, m in image.maps.items()}:
            raise Wrong("bitmaps %s, expected %s" % (maps, image.maps))

    def info(self, image):
        return json.loads(self.must(self.ours.img, "info", "--output=json", *image.spec(), quiet=True))

    def same(self, image, command, statuses=(0,)):
        """JSON of both is equal in what both publish, and good."""
        said = []
        for program in (self.theirs, self.ours):
            p = self.run(program.img, command, "--output=json", *image.spec(), quiet=True)
            if p.returncode not in statuses:
                raise Wrong("%s %s: status %d: %s" % (program.name, command, p.returncode, p.stdout[-600:]))
            said.append((p.returncode, json.loads(p.stdout) if p.returncode == 0 else None))
            if image.secret and command == "info":
                said[-1][1].pop("filename", None)  # the other program shows the options in it
        if said[0][0] != said[1][0]:
            raise Wrong("%s: status %d, theirs %d" % (command, said[1][0], said[0][0]))
        if command == "map":
            said = [(status, plain_map(m)) for status, m in said]
        where = differs(said[0][1], said[1][1])
        if where:
            raise Wrong("%s: theirs and ours: %s" % (command, where))

    # ---- Both accept or both refuse ----

    def spec(self, image, command, path=None):
        """The other program's snapshot command guesses the format."""
        return [path or image.path] if command == "snapshot" and not image.secret else image.spec(path)

    def attempt(self, image, program, command, *args, after=()):
        """Runs a command on the image; False if both programs refuse it. `after` follows the image's name."""
        p = self.run(program.img, command, *args, *self.spec(image, command), *after)
        self.count += 1
        if p.returncode == 0:
            return True
        if program is self.theirs and image.fmt == "qcow2":  # it leaks what it had begun
            mend = self.ours if image.maps else program  # which may lose snapshots when there are bitmaps
            self.run(mend.img, "check", "-q", "-r", "leaks", *image.spec())
        copy = self.path("refused.img")
        shutil.copy(image.path, copy)
        second = self.other(program)
        q = self.run(second.img, command, *args, *self.spec(image, command, copy), *after)
        if q.returncode == 0 and not (program is self.theirs and any(t in p.stdout for t in ONLY_THEIRS)):
            raise Wrong("%s refuses, %s does not: %s %s: %s" % (
                program.name, second.name, command, " ".join((*args, *after)), p.stdout.strip()[-300:]))
        return False


def plain_map(entries):
    """Runs of what both mean: holes in the file under allocated data do not count, nor where zeros lie."""
    out = []
    for e in entries:
        data = e["data"]
        off = e["offset"] - e["start"] if data and "offset" in e else None
        kind = (e["depth"] if e["present"] else None, data, data or e["zero"], off)
        if out and out[-1][2] == kind and out[-1][0] + out[-1][1] == e["start"]:
            out[-1][1] += e["length"]
        else:
            out.append([e["start"], e["length"], kind])
    return out


def differs(a, b, at=""):
    """Where two JSON values that both publish differ, or None."""
    if isinstance(a, dict) and isinstance(b, dict):
        for k in sorted(set(a) & set(b)):
            where = differs(a[k], b[k], at + "/" + k)
            if where:
                return where
        return None
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        for i, (x, y) in enumerate(zip(a, b)):
            where = differs(x, y, "%s/%d" % (at, i))
            if where:
                return "%s (%s, %s)" % (where, x, y)
        return None if len(a) == len(b) else "%s: %d and %d of them" % (at, len(a), len(b))
    return None if a == b else "%s: %s, %s" % (at, str(a)[:400], str(b)[:400])
