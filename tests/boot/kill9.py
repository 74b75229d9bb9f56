#!/usr/bin/env python3
"""A guest writes numbered records with fsync, and lodge is killed at random moments.

usage: kill9.py LODGE LODGE-IMG GUESTDIR [KILLS [SEED]]

Each record is one sector somewhere on a qcow2 disk; its number comes on the serial line once fsync has returned.
After each SIGKILL the image must have no corruption and every record that was acknowledged, of this boot and of
those before. Status 77: no guest files."""
import base64
import json
import os
import random
import re
import select
import subprocess
import sys
import tempfile
import time

LODGE, IMG, GUEST = sys.argv[1:4]
KILLS = int(sys.argv[4]) if len(sys.argv) > 4 else 3
SEED = int(sys.argv[5]) if len(sys.argv) > 5 else int(time.time())
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
SLOTS, STEP, EACH = 65536, 7919, 4000  # sectors, how records are spread, records of one boot at most
DISKS = ("cluster_size=4k", "cluster_size=64k", "cluster_size=512", "cluster_size=64k,extended_l2=on",
         "cluster_size=4k,lazy_refcounts=on", "cluster_size=4k,refcount_bits=1")
# Four writers at a time, so that allocations meet.
SCRIPT = """
one() {
    i=$1
    while :; do
        printf '%%-511s\\n' "record $i" | dd of=/dev/vda bs=512 seek=$((i * %d %% %d)) conv=notrunc,fsync 2>/dev/null &&
            echo "ACK $i."
        i=$((i + 4))
    done
}
for k in 0 1 2 3; do one $((%d + k)) & done
wait
"""


def slot(i):
    return i * STEP % SLOTS


def run_guest(disk, cache, first, rnd):
    """Boots, lets it write for a while, kills it; the numbers it acknowledged."""
    code = base64.b64encode((SCRIPT % (STEP, SLOTS, first)).encode()).decode()
    p = subprocess.Popen(
        [LODGE, "-M", "microvm", "-m", "256M", "-kernel", f"{GUEST}/vmlinux", "-initrd", f"{GUEST}/initrd.gz",
         "-nographic", "-no-reboot", "-append", f"console=ttyS0 quiet lodge.run={code}",
         "-drive", f"if=none,id=d,format=qcow2,file={disk},cache={cache}", "-device", "virtio-blk-device,drive=d"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, wanted, begun, end = b"", rnd.randrange(1, 60), None, time.monotonic() + 60 * PATIENCE
    try:
        while said.count(b"ACK ") < wanted and time.monotonic() < end:
            if select.select([p.stdout], [], [], 0.2)[0]:
                more = os.read(p.stdout.fileno(), 65536)
                assert more, "lodge ended: " + said[-1000:].decode("utf-8", "replace")
                said += more
            if begun is None and b"ACK " in said:
                begun = time.monotonic()
            if begun and time.monotonic() - begun > 4:
                break
        time.sleep(rnd.random() * 0.05)
    finally:
        p.kill()
        said += p.stdout.read()
        p.wait()
    numbers = [int(n) for n in re.findall(rb"ACK (\d+)\.", said)]
    assert numbers, "no record was acknowledged:\n" + said[-2000:].decode("utf-8", "replace")
    return numbers


def check_image(disk, repair):
    p = subprocess.run([IMG, "check", "--output=json", *(["-r", "all"] if repair else []), "-f", "qcow2", disk],
                       capture_output=True, text=True)
    assert p.returncode in (0, 3), f"check: status {p.returncode}: {p.stdout}{p.stderr}"
    found = json.loads(p.stdout)
    assert not found.get("corruptions") and not found["check-errors"], found


def check_records(disk, raw, numbers):
    subprocess.run([IMG, "convert", "-f", "qcow2", "-O", "raw", disk, raw], check=True)
    with open(raw, "rb") as f:
        for n in numbers:
            f.seek(slot(n) * 512)
            have, want = f.read(512), b"%-511s\n" % (b"record %d" % n)
            assert have == want, f"record {n} was acknowledged, its sector holds {have[:40]!r}"


def main():
    rnd, acknowledged, first, text = random.Random(SEED), [], 1, ""
    for name in ("vmlinux", "initrd.gz"):
        if not os.path.exists(f"{GUEST}/{name}"):
            sys.exit(77)
    with tempfile.TemporaryDirectory() as d:
        disk = f"{d}/disk.qcow2"
        options = rnd.choice(DISKS)
        subprocess.run([IMG, "create", "-q", "-f", "qcow2", "-o", options, disk, str(SLOTS * 512)], check=True)
        for kill in range(KILLS):
            cache = rnd.choice(("writeback", "none"))
            numbers = run_guest(disk, cache, first, rnd)
            acknowledged += numbers
            text = f"seed {SEED}, {options}, kill {kill + 1}, cache={cache}"
            try:
                check_image(disk, "lazy" in options)
                check_records(disk, f"{d}/raw", acknowledged)
            except AssertionError as e:
                raise AssertionError(f"{text}: {e}") from None
            first += EACH
    print(f"kill9: {KILLS} kills, {len(acknowledged)} acknowledged records, all there (seed {SEED}, {options})")


try:
    main()
except AssertionError as e:
    print(e)
    sys.exit(1)
