"""Images that a seed draws: every format, and for qcow2 the options both programs have."""
from matrix_image import READ_ONLY, SECRET, Image
from matrix_model import Model

KB, MB = 1 << 10, 1 << 20
BITS = (1, 2, 4, 8, 16, 32, 64)
GROUPS = ("qcow2", "backing", "crypt", "other")


def pick_size(rnd, most):
    kind = rnd.randrange(3)
    if kind == 0:
        return rnd.choice((1, 2, 4, 8)) * most // 8 // (64 * KB) * (64 * KB)
    return rnd.randrange(128, most // 512) * 512


def create(bench, image, program, size):
    """False if both refuse; the image is empty then or not there."""
    opts = ",".join("%s=%s" % kv for kv in image.opts.items())
    args = ["-q"] + (["--object", SECRET] if image.secret else []) + ["-f", image.fmt] + (["-o", opts] if opts else [])
    if image.below:
        args += ["-b", image.below.path, "-F", image.below.fmt]
    bench.count += 1
    bench.must(program.img, "create", *args, image.path, str(size))


def qcow2_options(rnd, extended=True):
    o = {"cluster_size": 1 << rnd.choice((9, 10, 12, 14, 15, 16, 16, 16, 17, 20, 21))}
    if rnd.random() < 0.15:
        o["compat"] = "0.10"
    else:
        o["compat"] = "1.1"
        o["refcount_bits"] = rnd.choice(BITS) if rnd.random() < 0.6 else 16
        if rnd.random() < 0.25:
            o["lazy_refcounts"] = "on"
        if extended and o["cluster_size"] >= 16 * KB and rnd.random() < 0.3:
            o["extended_l2"] = "on"
        if rnd.random() < 0.3:
            o["compression_type"] = "zstd"
    return o


def qcow2_most(opts):
    """Small clusters take longer; large ones need room."""
    return {512: 2 * MB, 1024: 4 * MB, 1 << 20: 12 * MB, 2 << 20: 20 * MB}.get(opts["cluster_size"], 6 * MB)


def qcow2_plain(bench):
    rnd = bench.rnd
    image = Image("qcow2", bench.fresh("qcow2"), None)
    image.opts = qcow2_options(rnd)
    size = pick_size(rnd, qcow2_most(image.opts))
    kind = rnd.randrange(5)
    if kind == 0:
        image.opts["preallocation"] = rnd.choice(("metadata", "falloc", "full"))
    elif kind == 1 and image.opts["compat"] == "1.1":
        image.data_file = bench.fresh("data")
        image.opts["data_file"] = image.data_file
        if rnd.random() < 0.5:
            image.opts["data_file_raw"] = "on"
            image.raw_data = True
    create(bench, image, bench.either(), size)
    image.model = Model(size)
    return image


def fill(bench, image, n=6):
    """Something to lie below."""
    commands = []
    for _ in range(n):
        off, pattern = bench.rnd.randrange(image.model.size - 1), bench.rnd.randrange(1, 256)
        length = min(bench.rnd.randrange(1, 400 * KB), image.model.size - off)
        commands += ["-c", "write -q -P %d %d %d" % (pattern, off, length)]
        image.model.write(off, bytes([pattern]) * length)
    bench.must(bench.either().io, *image.spec()[:-1], *commands, image.spec()[-1])


def backing_image(bench, most):
    rnd = bench.rnd
    below = Image(rnd.choice(("raw", "qcow2", "qcow2")), bench.fresh("base"), None)
    if below.fmt == "qcow2":
        below.opts = qcow2_options(rnd)
        most = min(most, qcow2_most(below.opts))
    size = pick_size(rnd, most)
    create(bench, below, bench.either(), size)
    below.model = Model(size)
    fill(bench, below)
    return below


def overlay(bench, below, size):
    image = Image("qcow2", bench.fresh("qcow2"), Model(size))
    image.opts, image.below = qcow2_options(bench.rnd), below
    create(bench, image, bench.either(), size)
    n = min(size, below.model.size)
    image.model.data[:n] = below.model.data[:n]
    return image


def qcow2_backing(bench):
    rnd = bench.rnd
    below = backing_image(bench, 5 * MB)
    size = rnd.choice((below.model.size, pick_size(rnd, 5 * MB), below.model.size + 512 * rnd.randrange(1, 900)))
    if rnd.random() < 0.25 and below.model.size > 256 * KB:
        size = below.model.size - 512 * rnd.randrange(1, 256)
    return overlay(bench, below, size)


def encrypted(bench):
    rnd = bench.rnd
    if rnd.random() < 0.3:
        image = Image("luks", bench.fresh("luks"), None, secret=True)
        image.opts = {"key-secret": "s0", "iter-time": 10}
        if rnd.random() < 0.5:
            image.opts.update({"cipher-alg": rnd.choice(("aes-128", "aes-256")),
                               "cipher-mode": rnd.choice(("xts", "cbc")), "ivgen-alg": rnd.choice(("plain64", "plain"))})
    else:
        image = Image("qcow2", bench.fresh("qcow2"), None, secret=True)
        image.opts = qcow2_options(rnd)
        kind = rnd.choice(("aes", "luks", "luks"))
        image.opts.update({"encrypt.format": kind, "encrypt.key-secret": "s0"})
        if kind == "luks":
            image.opts["encrypt.iter-time"] = 10
        if rnd.random() < 0.3:
            image.below = backing_image(bench, 3 * MB)
    size = pick_size(rnd, 4 * MB)
    create(bench, image, bench.theirs if image.opts.get("encrypt.format") == "aes" else bench.either(), size)
    image.model = Model(size)
    if image.fmt == "luks":
        zero_fill(bench, image, 0)
    if image.below:
        n = min(size, image.below.model.size)
        image.model.data[:n] = image.below.model.data[:n]
    return image


def zero_fill(bench, image, start):
    """What was never written to a LUKS volume is noise."""
    if image.model.size > start:
        spec = image.spec()
        bench.must(bench.either().io, "-c", "write -q -P 0 %d %d" % (start, image.model.size - start), *spec)


OTHERS = (
    ("raw", ({}, {"preallocation": "falloc"}, {"preallocation": "full"})),
    ("vmdk", ({"subformat": "monolithicSparse"}, {"subformat": "monolithicFlat"},
              {"subformat": "monolithicSparse", "zeroed_grain": "on"}, {"compat6": "on"})),
    ("vdi", ({}, {"static": "on"})),
    ("vpc", ({"force_size": "on"}, {"subformat": "fixed", "force_size": "on"})),
    ("vhdx", ({}, {"subformat": "fixed"}, {"block_size": 1 << 20})),
    ("qed", ({}, {"cluster_size": 16384, "table_size": 4})),
)


def other(bench):
    rnd = bench.rnd
    fmt, choices = rnd.choice(OTHERS)
    image = Image(fmt, bench.fresh(fmt), None)
    image.opts = dict(rnd.choice(choices))
    size = pick_size(rnd, 6 * MB)
    if fmt == "vhdx":
        size = max(1, size // MB) * MB
    create(bench, image, bench.theirs if fmt in READ_ONLY else bench.either(), size)
    image.model = Model(size)
    return image


DRAW = {"qcow2": qcow2_plain, "backing": qcow2_backing, "crypt": encrypted, "other": other}
