"""A Debian 12 root file system as a disk image, by mmdebstrap and mke2fs: no loop device, and no root
where user namespaces work. tools/soak (debian-root, stress4) and bench/apps.py make theirs with it."""


def command(image, packages, size, hooks=(), mirror=None):
    """The command that writes IMAGE; packages as mmdebstrap's --include takes them."""
    last = [f'--customize-hook=truncate -s {size} "{image}"',
            # A plain bind mount leaves out /proc, /sys and /dev, which are mounted in there.
            '--customize-hook=mkdir -p "$1.plain" && mount --bind "$1" "$1.plain"',
            f'--customize-hook=mke2fs -q -F -t ext4 -L root -d "$1.plain" "{image}"',
            '--customize-hook=umount "$1.plain" && rmdir "$1.plain"']
    return ["mmdebstrap", "--variant=minbase", f"--include={packages}", "--format=null", *hooks, *last,
            "bookworm", "-", *([mirror] if mirror else [])]
