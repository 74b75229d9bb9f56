#!/bin/sh
# Installs what building, testing and booting need, on Debian 12 or newer. Root or sudo.
# (qemu-system-x86: the test kernels run on it, too, and the benchmark compares with it.)
# `tools/deps.sh build`: only what the build needs.
set -eu
build="gcc meson ninja-build python3 pkg-config libcmocka-dev libcapstone-dev libjansson-dev liburing-dev nettle-dev zlib1g-dev libzstd-dev libdeflate-dev libgnutls28-dev libcurl4-gnutls-dev libvncserver-dev libsdl2-dev"
rest="clang clang-format qemu-system-x86 libclang-rt-dev binutils busybox-static cpio gzip lz4 xz-utils dpkg-dev ca-certificates qemu-utils libnbd-bin openssl seabios ovmf qemu-system-data grub-pc-bin grub-efi-amd64-bin xorriso mtools grub-rescue-pc syslinux memtest86+ vncsnapshot mmdebstrap uidmap e2fsprogs fdisk"
want="$build"
[ "${1:-all}" = build ] || want="$build $rest"
missing=""
for p in $want; do
    [ "$p" = libclang-rt-dev ] && p=libclang-rt-14-dev
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -q
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
