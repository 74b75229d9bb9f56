#!/usr/bin/env python3
"""Makes a Debian 12 disk that boots by itself: GRUB for BIOS and for UEFI, a kernel, a login.

usage: debian_image.py IMAGE [--mirror URL] [--size MIB]

By mmdebstrap, mke2fs, grub-mkimage, sfdisk and mtools: no loop device, and no root where user namespaces work.
The disk has three partitions (GPT): GRUB for BIOS, the EFI system partition, the root file system with the label
"root". Root's password is "lodge"; the host is called "lodge". A login waits on the screen and on the first serial
port. An image that is already there is kept."""
import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import debian_root

PACKAGES = "linux-image-amd64,initramfs-tools,systemd-sysv,udev,kmod,procps,util-linux,login,dbus"
# What no machine of ours has use for: half the time would go into it.
LEFT_OUT = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*",
            *(f"/lib/modules/*/kernel/{d}/*" for d in (
                "sound", "drivers/media", "drivers/net/wireless", "drivers/net/ethernet", "drivers/infiniband",
                "drivers/staging", "drivers/iio", "drivers/gpu/drm/amd", "drivers/gpu/drm/i915", "drivers/gpu/drm/nouveau",
                "drivers/gpu/drm/radeon", "drivers/isdn", "drivers/hwmon", "drivers/mtd", "fs/ocfs2", "fs/xfs", "fs/btrfs"))]
MIB = 1 << 20
BIOS_AT, EFI_AT, ROOT_AT, EFI_MIB = 1, 2, 18, 16  # MiB
GRUB = "/usr/lib/grub"
MODULES = ("part_gpt part_msdos ext2 fat normal linux echo serial terminal configfile search search_label test ls cat "
           "sleep reboot halt minicmd gzio").split()
FIRST = "search --no-floppy --label root --set=root\nset prefix=($root)/boot/grub\nconfigfile ($root)/boot/grub/grub.cfg\n"
MENU = """serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry "Debian" {
  linux /vmlinuz root=LABEL=root ro quiet console=tty0 console=ttyS0,115200
  initrd /initrd.img
}
"""
HOOKS = ['echo root:lodge | chroot "$1" chpasswd', 'echo lodge >"$1/etc/hostname"',
         'echo "127.0.0.1 localhost lodge" >"$1/etc/hosts"',
         'echo "LABEL=root / ext4 defaults 0 1" >"$1/etc/fstab"',
         'echo LANG=C >"$1/etc/default/locale"',
         # What asks the network or tidies up at night is of no use here.
         'chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service',
         'mkdir -p "$1/boot/grub" && cp {menu} "$1/boot/grub/grub.cfg"']


def run(*argv, **more):
    p = subprocess.run(argv, capture_output=True, text=True, **more)
    if p.returncode:
        sys.exit(f"debian_image.py: {argv[0]} failed: {p.stderr[-2000:]}")
    return p.stdout


def need():
    missing = [t for t in ("mmdebstrap", "mke2fs", "grub-mkimage", "sfdisk", "mformat", "mcopy") if not shutil.which(t)]
    if missing:
        sys.exit(f"debian_image.py: no {', '.join(missing)} here; packages mmdebstrap e2fsprogs grub-common fdisk mtools")


def put(image, at, data):
    with open(image, "r+b") as f:
        f.seek(at)
        f.write(data)


def bios(image, work):
    """GRUB's first sector, which loads its second, which loads the rest: both name the sector that comes next."""
    core = f"{work}/core.img"
    run("grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "/boot/grub", "-c", f"{work}/first", "biosdisk", "vga_text",
        *MODULES)
    with open(core, "rb") as f:
        data = bytearray(f.read())
    with open(f"{GRUB}/i386-pc/boot.img", "rb") as f:
        boot = bytearray(f.read(440)) # then the disk's signature and partitions
    lba = BIOS_AT * MIB // 512
    assert len(data) <= MIB
    struct.pack_into("<Q", boot, 0x5C, lba)
    struct.pack_into("<Q", data, 0x1F4, lba + 1)
    put(image, 0, boot)
    put(image, lba * 512, data)


def efi(image, work):
    run("grub-mkimage", "-O", "x86_64-efi", "-o", f"{work}/bootx64.efi", "-p", "/boot/grub", "-c", f"{work}/first",
        "efi_gop", "all_video", *MODULES)
    at = f"{image}@@{EFI_AT}M"
    run("mformat", "-i", at, "-v", "EFI", "-T", str(EFI_MIB * MIB // 512), "-h", "16", "-s", "63", "::")
    run("mmd", "-i", at, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", at, f"{work}/bootx64.efi", "::/EFI/BOOT/BOOTX64.EFI")


def partitions(image):
    run("sfdisk", "-q", image, input=f"label: gpt\n"
        f"start={BIOS_AT}MiB, size={EFI_AT - BIOS_AT}MiB, type=21686148-6449-6E6F-744E-656564454649\n"
        f"start={EFI_AT}MiB, size={EFI_MIB}MiB, type=U\nstart={ROOT_AT}MiB, type=L\n")


def make(image, size, mirror):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(image))) as work:
        for name, text in ("first", FIRST), ("menu", MENU):
            with open(f"{work}/{name}", "w") as f:
                f.write(text)
        hooks = ["--dpkgopt=force-unsafe-io", *("--dpkgopt=path-exclude=" + p for p in LEFT_OUT)]
        hooks += ["--customize-hook=" + h.replace("{menu}", f"{work}/menu") for h in HOOKS]
        root, disk = f"{work}/root", f"{work}/disk"
        run(*debian_root.command(root, PACKAGES, f"{size - ROOT_AT - 1}M", hooks, mirror))
        run("truncate", "-s", f"{size}M", disk)
        partitions(disk)
        run("dd", f"if={root}", f"of={disk}", "bs=1M", f"seek={ROOT_AT}", "conv=notrunc,sparse", "status=none")
        os.unlink(root)
        bios(disk, work)
        efi(disk, work)
        os.rename(disk, image)


def main():
    p = argparse.ArgumentParser(prog="debian_image.py", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("image", metavar="IMAGE")
    p.add_argument("--mirror", metavar="URL", help="Debian mirror (default: as this host's apt has)")
    p.add_argument("--size", type=int, default=2048, metavar="MIB", help="of the disk (default: 2048)")
    a = p.parse_args()
    need()
    if not os.path.exists(a.image):
        make(a.image, a.size, a.mirror)


main()
