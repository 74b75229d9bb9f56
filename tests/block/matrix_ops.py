"""What the image programs do with an image, and what that does to the model."""
import os

from matrix_cases import backing_image, qcow2_options, zero_fill
from matrix_image import READ_ONLY, Image, Wrong
from matrix_io import new_size

KB, MB = 1 << 10, 1 << 20


def snapshot(bench, image):
    rnd, program = bench.rnd, bench.either()
    kind = rnd.randrange(4)
    if kind <= 1 or not image.snaps:
        bench.names += 1
        name = "s%d" % bench.names
        if len(image.snaps) < 4 and bench.attempt(image, program, "snapshot", "-c", name):
            image.snaps[name] = image.model.copy()
        return
    name = rnd.choice(sorted(image.snaps))
    if kind == 2:
        if bench.attempt(image, program, "snapshot", "-d", name):
            del image.snaps[name]
    elif bench.attempt(image, program, "snapshot", "-a", name):
        image.model = image.snaps[name].copy()


def resize(bench, image):
    program = bench.either()
    size = new_size(bench, image, program)
    shrink = ["--shrink"] if size < image.model.size else []
    mode = bench.rnd.choice(("off", "off", "metadata", "falloc", "full")) if not shrink else "off"
    if image.fmt not in ("qcow2", "raw", "luks"):
        mode = "off"
    if image.fmt in ("raw", "luks") and mode == "metadata":
        mode = "off"
    if image.fmt == "qcow2" and mode != "off":
        # The other program takes freed clusters with their old contents, and allows it with a backing file.
        mode, program = ("off" if image.below else mode), bench.ours
    args = [*shrink, "-q", *([] if mode == "off" else ["--preallocation=" + mode])]
    if bench.attempt(image, program, "resize", *args, after=[str(size)]):
        old = image.model.size
        image.model.resize(size)
        if image.fmt == "luks":
            zero_fill(bench, image, old)


def bitmap(bench, image):
    rnd, program = bench.rnd, bench.either()
    names = sorted(image.maps)
    kind = rnd.choice(("add", "add", "remove", "clear", "enable", "disable", "merge"))
    if kind == "add" or not names:
        bench.names += 1
        name, on = "b%d" % bench.names, rnd.random() < 0.6
        grain = rnd.choice((512, 4 * KB, 64 * KB, MB))
        args = ["--add", "-g", str(grain), *([] if on else ["--disable"])]
        if len(names) < 4 and bench.attempt(image, program, "bitmap", *args, after=[name]):
            image.maps[name] = [on, grain]
        return
    name = rnd.choice(names)
    args = ["--" + kind] if kind != "merge" else ["--merge", rnd.choice(names)]
    if bench.attempt(image, program, "bitmap", *args, after=[name]):
        if kind == "remove":
            del image.maps[name]
        elif kind in ("enable", "disable"):
            image.maps[name][0] = kind == "enable"


def amend(bench, image):
    rnd = bench.rnd
    kind = rnd.randrange(4)
    data = bench.info(image)["format-specific"]["data"]
    if kind == 0 and data["compat"] == "1.1" and not image.snaps:
        # Ours alone: the other one does not always come to an end.
        bench.count += 1
        bench.must(bench.ours.img, "amend", "-o", "refcount_bits=%d" % rnd.choice((1, 2, 8, 16, 32, 64)),
                   *image.spec())
        return
    if kind == 1 and data.get("refcount-bits", 16) == 16 and not image.maps:  # ours refuses, the other loses them
        options = "compat=" + rnd.choice(("0.10", "1.1"))
    else:
        options = "lazy_refcounts=" + rnd.choice(("on", "off"))
    # The other program looks for compressed clusters on the disk alone, and loses what snapshots have of them.
    if options == "compat=0.10" and image.snaps and image.opts.get("compression_type") == "zstd":
        options = "lazy_refcounts=on"
    if bench.attempt(image, bench.either(), "amend", "-q", "-o", options) and "compat" in options:
        image.opts["compat"] = options[7:]


def rebase(bench, image):
    """Safe: what is read stays. Unsafe: onto a file that has the same contents."""
    rnd = bench.rnd
    if image.snaps:  # they would change their contents
        return resize(bench, image)
    if rnd.random() < 0.4 and image.below:
        below = Image(rnd.choice(("raw", "qcow2")), bench.fresh("base"), image.below.model.copy())
        bench.must(bench.either().img, "convert", *image.below.spec()[:-1], "-O", below.fmt, image.below.path, below.path)
        bench.count += 1
        args = ["-u", "-b", below.path, "-F", below.fmt]
    elif rnd.random() < 0.3 and image.below:
        below, args = None, ["-b", ""]
    else:
        below = backing_image(bench, 4 * MB)
        args = ["-b", below.path, "-F", below.fmt]
    program = bench.either()
    if image.opts.get("compat") == "0.10":  # the other program does not write zeros where nothing was allocated
        program = bench.ours
    if bench.attempt(image, program, "rebase", "-q", *args):
        image.below = below
    return None


def commit(bench, image):
    if image.snaps or not image.below:
        return snapshot(bench, image)
    below, keep = image.below, bench.rnd.random() < 0.4
    if not bench.attempt(image, bench.either(), "commit", "-q", *(["-d"] if keep else [])):
        return None
    below.model.resize(max(below.model.size, image.model.size))
    n = image.model.size
    below.model.data[:n] = image.model.data
    below.model.loose = dict(image.model.loose)
    seen = bench.contents(bench.either(), below)
    wrong = below.model.settle(seen)
    if wrong:
        raise Wrong("the backing file after commit: " + wrong)
    return bench.same(below, "check", statuses=(0, 63))


TARGETS = (("raw", {}), ("vmdk", {"subformat": "monolithicSparse"}), ("vmdk", {"subformat": "streamOptimized"}),
           ("vmdk", {"subformat": "monolithicFlat"}), ("vdi", {}), ("vpc", {"force_size": "on"}),
           ("vpc", {"subformat": "fixed", "force_size": "on"}), ("qcow2", None), ("qcow2", None),
           ("vhdx", {}), ("qed", {}))


def convert_to(bench, image, fmt, options):
    rnd = bench.rnd
    target = Image(fmt, bench.fresh(fmt), image.model.copy())
    target.opts = qcow2_options(rnd) if options is None else dict(options)
    program = bench.theirs if fmt in READ_ONLY else bench.either()
    args = ["-c"] if fmt == "qcow2" and rnd.random() < 0.4 else []
    # qed of the other program ends in an assertion when writes that allocate meet (allocating_acb == NULL).
    alone = args or fmt == "qed"
    args += rnd.choice(([], [], ["-S", "0"], ["-S", "4k"], [] if alone else ["-W", "-m", "4"]))
    opts = ",".join("%s=%s" % kv for kv in target.opts.items())
    bench.count += 1
    bench.must(program.img, "convert", *args, *image.spec()[:-1], *([] if image.secret else [image.path]), "-O", fmt,
               *(["-o", opts] if opts else []), *([image.spec()[-1]] if image.secret else []), target.path)
    bench.verify(target)
    return target


def convert(bench, image):
    """To another format and back; the image is the new one from then on."""
    fmt, options = bench.rnd.choice(TARGETS)
    if fmt == "vhdx" and image.model.size % MB:
        fmt, options = "raw", {}
    between = convert_to(bench, image, fmt, options)
    last = convert_to(bench, between, "qcow2", None)
    for old in (image, between):
        os.unlink(old.path)
    return last


def repair(bench, image):
    """Nothing is broken, nothing may change. (The other program loses all snapshots when there are bitmaps.)"""
    bench.count += 1
    program = bench.ours if image.snaps and image.maps else bench.either()
    bench.must(program.img, "check", "-q", "-r", "all", *image.spec())


QCOW2 = [snapshot] * 4 + [resize] * 3 + [bitmap] * 4 + [amend] * 2 + [rebase] * 2 + [commit] * 2 + [repair, convert]
BACKED = [snapshot] * 2 + [resize] * 2 + [bitmap] * 2 + [amend] + [rebase] * 4 + [commit] * 4 + [repair, convert]
OTHER = [resize, convert]


def one(bench, image):
    """The image to go on with."""
    if image.fmt == "qcow2":
        op = bench.rnd.choice(BACKED if image.below else QCOW2)
    elif bench.rnd.random() < 0.3:
        op = bench.rnd.choice(OTHER)
    else:
        return image
    if image.fmt in READ_ONLY and op is resize:
        return image
    new = op(bench, image)
    return new if isinstance(new, Image) else image
