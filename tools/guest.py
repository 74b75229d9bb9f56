#!/usr/bin/env python3
"""Makes the test guest: Debian's cloud kernel (as bzImage and as the ELF inside it) and a busybox
root as initramfs.  usage: guest.py OUTDIR

The kernel comes as a Debian package (apt-get download); nothing is installed. Files already there
are kept. The initramfs runs the shell, or a command given on the kernel's command line as
lodge.run=BASE64, whose exit status it writes to the isa-debug-exit port 0xf4.
"""
import glob
import gzip
import os
import shutil
import struct
import subprocess
import sys
import tempfile

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=${TERM:-linux}
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /tmp /root
mount -t devpts pts /dev/pts
for m in $(cat /modules.list 2>/dev/null); do insmod /modules/$m 2>/dev/null; done
run=$(sed -n 's/.*lodge\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ -n "$run" ]; then
    echo "$run" | base64 -d > /tmp/run
    echo LODGE-BEGIN
    sh /tmp/run
    status=$?
    echo LODGE-END $status
    debugexit $status
    poweroff -f
fi
if grep -q lodge.root /proc/cmdline; then
    mkdir -p /newroot
    init=$(sed -n 's/.*lodge\.init=\([^ ]*\).*/\1/p' /proc/cmdline)
    mount -t ext4 /dev/vda /newroot && exec switch_root /newroot ${init:-/sbin/init}
    echo "the root file system on /dev/vda did not mount"
fi
echo
echo "This is Debian's kernel under Lodge. poweroff -f ends it; Ctrl-A x quits the emulator."
exec setsid cttyhack sh
"""

# In order of loading; what is built in or absent is left out.
MODULES = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "virtio_console", "rng-core",
           "virtio-rng", "scsi_common", "scsi_mod", "cdrom", "sd_mod", "sr_mod", "virtio_scsi",
           "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "crc16", "libcrc32c",
           "crc32c_generic", "mbcache", "jbd2", "ext4", "virtio_balloon", "watchdog", "iTCO_vendor_support",
           "intel_pmc_bxt", "mfd-core", "lpc_ich", "i6300esb", "iTCO_wdt"]


def download_kernel(work):
    out = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], check=True,
                         capture_output=True, text=True).stdout
    package = [l.split()[-1] for l in out.splitlines() if "Depends:" in l][0]
    subprocess.run(["apt-get", "download", "-q", package], cwd=work, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["dpkg", "-x", glob.glob(work + "/*.deb")[0], work + "/root"], check=True)
    return work + "/root"


def extract_elf(bzimage):
    """The ELF kernel inside a bzImage (Linux boot protocol: payload_offset, payload_length)."""
    data = open(bzimage, "rb").read()
    setup = (data[0x1f1] or 4) + 1
    offset, length = struct.unpack_from("<II", data, 0x248)
    payload = data[setup * 512 + offset:][:length - 4]
    tool = {b"\x02\x21": ["lz4", "-d"], b"\xfd7": ["xz", "-d"], b"\x1f\x8b": ["gzip", "-d"],
            b"\x28\xb5": ["zstd", "-d"]}[payload[:2]]
    return subprocess.run(tool + ["-c"], input=payload, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


def make_initramfs(path, root):
    with tempfile.TemporaryDirectory() as d:
        for sub in ("bin", "proc", "sys", "dev", "modules"):
            os.mkdir(f"{d}/{sub}")
        shutil.copy("/bin/busybox", f"{d}/bin/busybox")
        source = os.path.join(os.path.dirname(__file__), "../tests/guest/debugexit.c")
        subprocess.run(["gcc", "-O2", "-static", "-nostdlib", "-fno-stack-protector", "-fno-pie", "-no-pie",
                        "-o", f"{d}/bin/debugexit", source], check=True)
        loaded = []
        for name in MODULES:
            found = [f for f in glob.glob(f"{root}/lib/modules/*/kernel/**/*.ko", recursive=True)
                     if os.path.basename(f)[:-3].replace("-", "_") == name.replace("-", "_")]
            if found:
                shutil.copy(found[0], f"{d}/modules/")
                loaded.append(os.path.basename(found[0]))
        open(f"{d}/modules.list", "w").write("\n".join(loaded) + "\n")
        open(f"{d}/init", "w").write(INIT)
        os.chmod(f"{d}/init", 0o755)
        names = subprocess.run(["find", "."], cwd=d, check=True, capture_output=True).stdout
        cpio = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=d, input=names, check=True,
                              capture_output=True).stdout
        with gzip.open(path, "wb", 6) as f:
            f.write(cpio)


def main():
    out = os.path.abspath(sys.argv[1])
    files = [f"{out}/{n}" for n in ("vmlinuz", "vmlinux", "initrd.gz")]
    if all(os.path.exists(f) for f in files):
        return
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        root = download_kernel(work)
        shutil.copy(glob.glob(root + "/boot/vmlinuz-*")[0], files[0])
        open(files[1], "wb").write(extract_elf(files[0]))
        make_initramfs(files[2], root)


main()
