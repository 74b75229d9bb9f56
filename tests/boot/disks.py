#!/usr/bin/env python3
"""Disks of whole machines.  usage: disks.py LODGE GUESTDIR CASE LODGE-IMG LODGE-IO LODGE-NBD

Exit status 0 passed, 1 failed, 77 skipped (no guest files)."""
import base64
import os
import signal
import subprocess
import sys
import tempfile
import time

from boot import GUEST, LODGE, PATIENCE, accel, clean, linux, lodge

IMG, IO, NBD = map(os.path.abspath, sys.argv[4:7])
M = 1 << 20
FILL = "head -c 2097152 /dev/zero | tr '\\0' Z >/tmp/z; "


def tool(*args, status=0):
    p = subprocess.run(args, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert p.returncode == status, (args, p.returncode, p.stdout, p.stderr)
    return p.stdout


def image(name="d.qcow2", size="64M", *opts):
    tool(IMG, "create", "-q", "-f", "qcow2", *opts, name, size)
    return name


def bytes_of(name):
    with open(name, "rb") as f:
        return f.read()


def writes(more, command="", **kw):
    status, body, out = linux(FILL + "dd if=/tmp/z of=/dev/vda bs=64k count=32 oflag=direct 2>/dev/null; sync; " + command,
                              more=more, **kw)
    clean(out)
    return body, out


def written(name):
    tool(IO, "-r", "-c", "read -P 90 0 2M", name)


def snapshots():
    """snapshot=on and -snapshot leave images as they are; without them they change."""
    image()
    before = bytes_of("d.qcow2")
    for more in ["-drive", "file=d.qcow2,format=qcow2,snapshot=on"], ["-snapshot", "-drive", "file=d.qcow2,format=qcow2"]:
        body, _ = writes(more, "echo 3 >/proc/sys/vm/drop_caches; head -c 1 /dev/vda")
        assert body == "Z", body
        assert bytes_of("d.qcow2") == before
    writes(["-drive", "file=d.qcow2,format=qcow2"])
    written("d.qcow2")
    tool(IMG, "check", "d.qcow2")


def chain():
    """A backing chain through -blockdev with node references, and copy-on-read."""
    with open("base.raw", "wb") as f:
        f.write(b"B" * 4 * M)
    image("d.qcow2", "4M", "-b", "base.raw", "-F", "raw")
    more = ["-blockdev", "driver=file,filename=base.raw,node-name=low,read-only=on",
            "-blockdev", '{"driver": "raw", "node-name": "base", "file": "low", "read-only": true}',
            "-blockdev", "driver=qcow2,node-name=top,file.driver=file,file.filename=d.qcow2,backing=base",
            "-device", "virtio-blk-device,drive=top"]
    status, body, out = linux("printf here | dd of=/dev/vda bs=512 seek=4 conv=notrunc,sync 2>/dev/null; sync; head -c 2052 /dev/vda | tail -c 5",
                              more=more)
    assert body == "Bhere", body
    assert bytes_of("base.raw") == b"B" * 4 * M
    tool(IO, "-r", "-c", "read -P 66 2560 1M", "d.qcow2")
    image("e.qcow2", "4M", "-b", "base.raw", "-F", "raw")
    linux("cat /dev/vda >/dev/null", more=["-drive", "file=e.qcow2,format=qcow2,copy-on-read=on"])
    tool(IMG, "rebase", "-u", "-b", "", "e.qcow2")
    tool(IO, "-r", "-c", "read -P 66 0 4M", "e.qcow2")


def throttled():
    """Limits are limits: 4 MiB at 1 MiB a second take 3 seconds and more."""
    image()
    group = ["-object", "throttle-group,id=g0,x-bps-total=1048576",
             "-blockdev", "driver=throttle,throttle-group=g0,node-name=t,file.driver=qcow2,file.file.driver=file,file.file.filename=d.qcow2",
             "-device", "virtio-blk-device,drive=t"]
    group_json = ["-object", '{"qom-type": "throttle-group", "id": "g0", "limits": {"bps-total": 1048576}}'] + group[2:]
    for more in (["-drive", "file=d.qcow2,format=qcow2,throttling.bps-total=1048576"],
                 ["-drive", "file=d.qcow2,format=qcow2,throttling.iops-total=16,throttling.iops-size=65536"],
                 ["-drive", "file=d.qcow2,format=qcow2,throttling.group=x,throttling.bps-write=1048576"], group, group_json):
        status, body, out = linux("a=$(cut -d. -f1 /proc/uptime); dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct 2>/dev/null; "
                                  "b=$(cut -d. -f1 /proc/uptime); echo $((b - a))", more=more)
        assert 2 <= int(body) <= 12 * PATIENCE, (more, body)
    for bad in "throttling.bps-total=1,throttling.bps-read=1", "throttling.bps-total=100,throttling.bps-total-max=10", "throttling.bsp-total=1":
        status, out = lodge(["-kernel", f"{GUEST}/vmlinux", "-drive", "file=d.qcow2,format=qcow2," + bad], timeout=20)
        assert status == 1 and out.count("\n") == 1, (bad, status, out)


def discards():
    """discard=unmap gives the space back, and so do zeros with detect-zeroes=unmap."""
    image("d.raw", "8M")
    for drive, command in (("discard=unmap", "blkdiscard /dev/vda"),
                           ("discard=unmap,detect-zeroes=unmap", "dd if=/dev/zero of=/dev/vda bs=64k count=128 oflag=direct 2>/dev/null")):
        with open("d.raw", "wb") as f:
            f.write(b"x" * 8 * M)
        status, body, out = linux(command + "; sync", more=["-drive", "file=d.raw,format=raw," + drive])
        if "not found" in out:
            continue
        assert bytes_of("d.raw") == bytes(8 * M), drive
        assert os.stat("d.raw").st_blocks * 512 < 2 * M, drive


def read_only():
    image()
    before = bytes_of("d.qcow2")
    status, body, out = linux("cat /sys/block/vda/ro; dd if=/dev/zero of=/dev/vda count=1 2>/dev/null || echo refused",
                              more=["-drive", "file=d.qcow2,format=qcow2,readonly=on"])
    assert body == "1\nrefused\n", body
    assert bytes_of("d.qcow2") == before


def encrypted():
    key = ["--object", "secret,id=s0,file=key"]
    with open("key", "w") as f:
        f.write("a passphrase")
    tool(IMG, "create", "-q", *key, "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10", "d.qcow2", "64M")
    writes(["-object", "secret,id=s0,file=key", "-drive", "file=d.qcow2,format=qcow2,encrypt.key-secret=s0"])
    tool(IO, *key, "--image-opts", "-r", "-c", "read -P 90 0 2M", "driver=qcow2,file.filename=d.qcow2,encrypt.key-secret=s0")
    assert b"ZZZZZZZZZZZZ" not in bytes_of("d.qcow2")
    status, out = lodge(["-kernel", f"{GUEST}/vmlinux", "-drive", "file=d.qcow2,format=qcow2"], timeout=20)
    assert status == 1 and "key-secret" in out, (status, out)


def network():
    """A disk that lodge-nbd serves."""
    image()
    sock = os.path.abspath("s")
    p = subprocess.Popen([NBD, "-t", "-k", sock, "-f", "qcow2", "d.qcow2"])
    try:
        while not os.path.exists(sock):
            time.sleep(0.02)
        writes(["-drive", f"file=nbd+unix:///?socket={sock},format=raw"])
    finally:
        p.terminate()
        assert p.wait(20) == 0
    written("d.qcow2")


def queues():
    """Several queues, used from several processors at once."""
    image()
    status, body, out = linux("ls /sys/block/vda/mq | wc -l; for i in 0 1 2 3; do dd if=/dev/vda of=/dev/null bs=64k skip=$((i * 64)) count=64 iflag=direct 2>/dev/null & done; wait; "
                              "" + FILL + "for i in 0 1 2 3; do taskset $((1 << i)) dd if=/tmp/z of=/dev/vda bs=64k seek=$((i * 8)) count=8 oflag=direct 2>/dev/null & done; wait; sync",
                              more=["-smp", "4", "-drive", "if=none,id=d,file=d.qcow2,format=qcow2",
                                    "-device", "virtio-blk-device,drive=d,num-queues=4"])
    assert body.split()[0] == "4", body
    clean(out)
    written("d.qcow2")


def sharing():
    """One writer for each node, unless all of them agree to share it."""
    image()
    node = ["-blockdev", "driver=qcow2,node-name=n,file.driver=file,file.filename=d.qcow2"]
    below = ["-blockdev", "driver=file,node-name=f,filename=d.qcow2", "-blockdev", "driver=qcow2,node-name=n,file=f"]
    device = ["-device", "virtio-blk-device,drive=n"]
    for more in node + device * 2, below + device + ["-device", "virtio-blk-device,drive=f"]:
        status, out = lodge(["-kernel", f"{GUEST}/vmlinux"] + more, timeout=20)
        assert status == 1 and "share-rw" in out and out.count("\n") == 1, (status, out)
    device[1] += ",share-rw=on"
    status, body, out = linux("ls /dev/vd[ab]", more=node + device * 2)
    assert body.split() == ["/dev/vda", "/dev/vdb"], body


def fault(policy, number=28, kind="write", once="on"):
    return ["-drive", f"driver=blkdebug,inject-error.0.iotype={kind},inject-error.0.errno={number},inject-error.0.once={once},"
            f"image.driver=qcow2,image.file.driver=file,image.file.filename=d.qcow2{policy}"]


DD = {"write": FILL + "dd if=/tmp/z of=/dev/vda bs=64k count=32 oflag=direct 2>/dev/null && echo fine || echo failed; sync",
      "read": "dd if=/dev/vda of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null && echo fine || echo failed"}


def pausing(more, kind):
    """Runs until the machine pauses, and lets it go on with SIGCONT; what the guest said."""
    code = base64.b64encode(DD[kind].encode()).decode()
    with open("serial", "wb") as serial:
        p = subprocess.Popen([LODGE] + accel() + ["-M", "microvm", "-m", "512M", "-kernel", f"{GUEST}/vmlinux", "-initrd", f"{GUEST}/initrd.gz", "-nographic",
                              "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-append", f"console=ttyS0 lodge.run={code}"] + more,
                             stdin=subprocess.DEVNULL, stdout=serial, stderr=subprocess.PIPE)
    try:
        line = p.stderr.readline().decode()
        assert "paused" in line and "virtio0" in line, line
        time.sleep(1)
        assert p.poll() is None
        said = bytes_of("serial")
        # What is read first is the partition table, before any command runs.
        assert (kind == "read" or b"LODGE-BEGIN" in said) and b"LODGE-END" not in said, said[-1500:]
        p.send_signal(signal.SIGCONT)
        p.wait(100 * PATIENCE)
        assert not p.stderr.read()
    finally:
        p.kill()
        p.wait()
        p.stderr.close()
    return bytes_of("serial").decode("utf-8", "replace")


def errors():
    """What happens when the image fails is as werror and rerror say."""
    for policy, number, kind in (("", 28, "write"), (",werror=stop", 5, "write"), (",rerror=stop", 5, "read")):
        image()
        said = pausing(fault(policy, number, kind), kind)
        assert "fine" in said.split("LODGE-BEGIN")[1] and "error" not in said.split("LODGE-BEGIN")[1], said[-2000:]
        if kind == "write":
            written("d.qcow2")
    image()
    for policy, number, kind, want in (("", 5, "write", "failed"), (",werror=report", 28, "write", "failed"), ("", 28, "read", "failed"),
                                       (",werror=ignore", 28, "write", "fine"), (",rerror=ignore", 5, "read", "fine")):
        status, body, out = linux(DD[kind], more=fault(policy, number, kind, "off"))
        assert body.split() == [want], (policy, kind, body)


CASES = {f.__name__.replace("_", "-"): f for f in (snapshots, chain, throttled, discards, read_only, encrypted, network, queues,
                                                    sharing, errors)}

if __name__ == "__main__":
    if not os.path.exists(f"{GUEST}/vmlinux"):
        print("no guest files: make them with tools/guest.py")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="lodge-disk-") as d:
        os.chdir(d)
        CASES[sys.argv[3]]()
        os.chdir("/")
