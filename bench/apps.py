#!/usr/bin/env python3
"""Measures Debian's applications under Lodge and QEMU's TCG, as run.py does kernels: same guest, alternately,
by process CPU time; natively the same programs in a chroot of the same root file system.

usage: apps.py [--rounds N] [--only NAME,...] [--work DIR] [--mirror URL] [--lodge FILE] [--qemu FILE]
               [--guest DIR] [--json FILE] [--markdown FILE]

The root file system is made once (mmdebstrap, mke2fs; e2fsprogs and a mirror needed) and kept in
--work. The disk is read-only; inputs and outputs are on a tmpfs, and programs are read once before
anything is measured. Outputs are checksummed: all three must agree. chroot needs root, or user namespaces.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

import emulators
import figures
import inputs
from emulators import Emulator

HERE = emulators.HERE
sys.path.insert(0, f"{HERE}/../tools")
import debian_root  # noqa: E402

RAM_MIB = 1024
BESIDE = ("processes",)  # a group that is not in the mean of all
PACKAGES = "gcc,libc6-dev,perl,python3,gzip,bzip2,xz-utils,zstd,openssl,sqlite3"
# The initramfs of tools/guest.py runs this; /bench is in what make_initrd adds to it.
SCRIPT = """mkdir /n && mount -t ext4 -o ro /dev/vda /n && mount -t tmpfs -o size=90% tmp /n/tmp \
&& mount -t proc proc /n/proc && mount -o bind /dev /n/dev && mv /bench /n/tmp/bench \
&& chroot /n /bin/bash /tmp/bench/apps.sh -w """


def make_root(work, mirror):
    """root.img, and the same files in root/ for the native runs."""
    image, root = f"{work}/root.img", f"{work}/root"
    os.makedirs(work, exist_ok=True)
    if not os.path.exists(image):
        print("making the root file system, some minutes", file=sys.stderr)
        with open(f"{work}/mmdebstrap.log", "w") as log:
            subprocess.run(debian_root.command(f"{image}.part", PACKAGES, "1500M", mirror=mirror), check=True,
                           stdout=log, stderr=log)
        os.rename(f"{image}.part", image)
    if not os.path.exists(root):
        os.makedirs(f"{root}.part", exist_ok=True)
        subprocess.run(["debugfs", "-R", f"rdump / {root}.part", image], check=True, capture_output=True)
        os.makedirs(f"{root}.part/tmp", exist_ok=True)
        os.rename(f"{root}.part", root)
    return image, root


class Apps:
    def __init__(self, args, work):
        self.image, self.root = make_root(args.work, args.mirror)
        files = inputs.make(f"{args.work}/inputs")
        files.update({name: f"{HERE}/guest/{name}" for name in sorted(os.listdir(f"{HERE}/guest"))
                      if not name.endswith(".c")})
        self.initrd = f"{work}/initrd"
        emulators.make_initrd(args.guest, {f"bench/{name}": path for name, path in files.items()}, self.initrd)
        shutil.rmtree(f"{self.root}/bench", ignore_errors=True)
        os.makedirs(f"{self.root}/bench")
        for name, path in files.items():
            shutil.copy(path, f"{self.root}/bench/{name}")
        self.names = args.only.replace(",", " ")
        self.disk = ["-drive", f"if=none,id=d,format=raw,readonly=on,file={self.image}",
                     "-device", "virtio-blk-device,drive=d"]
        self.group_of = dict(reversed(l.split()) for l in self.script("-l").splitlines())

    def script(self, options):
        """Runs apps.sh natively, in the chroot, on a tmpfs as in the guest."""
        inside = (f'mount --bind /dev {self.root}/dev; mount -t proc proc {self.root}/proc; '
                  f'mount -t tmpfs tmp {self.root}/tmp; cp -r {self.root}/bench {self.root}/tmp/bench; '
                  f'exec chroot {self.root} /bin/bash /tmp/bench/apps.sh {options}')
        user = ["--map-root-user"] if os.geteuid() else []
        return subprocess.run(["unshare", "--mount", *user, "sh", "-c", inside], stdin=subprocess.DEVNULL, check=True,
                              capture_output=True, text=True).stdout

    def round(self, pair, turn):
        results = {"native": emulators.native_marks(self.script(self.names)), "lodge": {}, "qemu": {}}
        for name, marks in emulators.alternate(pair, SCRIPT + self.names, self.initrd, self.disk, turn):
            for who, mark in marks.items():
                results[who][name] = mark
        return results


def markdown(result):
    return "\n".join(figures.markdown_rows("application", result["apps"]) + [""]
                     + figures.markdown_groups(result["groups"])) + "\n"


def measure(args, work):
    apps = Apps(args, work)
    pair = [Emulator("lodge", args.lodge, args, ram_mib=RAM_MIB), Emulator("qemu", args.qemu, args, ram_mib=RAM_MIB)]
    rounds = []
    for r in range(args.rounds):
        print(f"round {r + 1} of {args.rounds}", file=sys.stderr)
        rounds.append(apps.round(pair, r))
    rows = figures.rows(apps.group_of, rounds)
    return {"about": emulators.versions(args, RAM_MIB), "apps": rows, "groups": figures.groups(rows, BESIDE)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    emulators.add_arguments(parser, timeout=900)
    parser.add_argument("--work", default=os.path.normpath(f"{HERE}/../build-bench"), help="for the root file system")
    parser.add_argument("--mirror", help="of Debian, else that of apt")
    args = emulators.parse(parser, rounds=3)
    with tempfile.TemporaryDirectory() as work:
        result = measure(args, work)
    figures.write(result, markdown(result), args)
    figures.end(figures.wrong(result["apps"]))


if __name__ == "__main__":
    main()
