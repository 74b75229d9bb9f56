#!/usr/bin/env python3
"""Debian 12 on boards pc and q35: GRUB, kernel and systemd from a disk, to a login.

usage: debian.py LODGE IMAGE CASE LODGE-IMG

IMAGE is made by tools/debian_image.py. CASE is BOARD-FIRMWARE-DEVICE ("q35-uefi-nvme"): logs in on the screen by a
VNC client's keys, and on the serial port; works on the disk and compares checksums; the kernel's log has no error;
powers off; the file system is clean afterwards. Or one of the other cases below. Status 77: no image."""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [f"{HERE}/../../tools", f"{HERE}/../display"]
import rfb
from soak_base import Console, Fail, last_line

LODGE, IMAGE, CASE, LODGE_IMG = (*(os.path.abspath(a) for a in sys.argv[1:3]), sys.argv[3], os.path.abspath(sys.argv[4]))
PATIENCE = float(os.environ.get("LODGE_PATIENCE", 1))
EXTRA = os.environ.get("LODGE_ACCEL", "")
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
SHIFT, ENTER, SHIFTED = 0xFFE1, 0xFF0D, set('>L')
DEVICES = {
    "ide": ["-device", "ide-hd,bus={ide},drive={id}{boot}"],
    "ahci": ["-device", "ide-hd,bus={ahci},drive={id}{boot}"],
    "virtio": ["-device", "virtio-blk-pci,drive={id}{boot}"],
    "scsi": ["-device", "virtio-scsi-pci,id=vs-{id}", "-device", "scsi-hd,bus=vs-{id}.0,drive={id}{boot}"],
    "nvme": ["-device", "nvme,serial={id},drive={id}{boot}"],
}
ADAPTERS = {("pc", "ahci"): ["-device", "ich9-ahci,id=sata"], ("q35", "ide"): ["-device", "piix3-ide,id=pata"]}
# What a kernel may say at these levels that is not ours.
QUIET = re.compile(r"Spectre|RETBleed|MDS|TAA|MMIO Stale|Speculative|tsc: |report a bug|Retbleed|SRBDS|L1TF|"
                   r"CONFIG_IMA_DISABLE_HTABLE|fail to add MMCONFIG|APIC calibration not consistent|Power-on or device reset occurred")
# Files of random bytes, copied, compared with their checksums after all caches are dropped, several at a time.
WORK = """work() { cd "$1" && mkdir w && cd w && for i in 1 2 3; do (
  for n in 1 2 3 4; do head -c $((n * 700001)) /dev/urandom >f$i.$n; done; cp -r . ../c$i; sha256sum f$i.* >../s$i ) &
done; wait; sync; cd ..; rm -r c2; mkdir many; for i in $(seq 300); do echo $i >many/$i; done; sync; }
check() { cd "$1"; for i in 1 2 3; do (cd w; sha256sum --quiet -c ../s$i) || echo WORK-BAD; done
  for i in $(seq 300); do [ "$(cat many/$i)" = $i ] || echo WORK-BAD; done; rm -r w c1 c3 many s1 s2 s3; sync; }
"""


def disk(board, device, name, boot=""):
    """Options for a drive with this id on a device of this kind, its adapter made once."""
    places = {"ide": "ide.0" if board == "pc" else "pata.0", "ahci": "sata.0" if board == "pc" else "ide.0"}
    return ADAPTERS.get((board, device), []) + [a.format(id=name, boot=boot, **places) for a in DEVICES[device]]


class Guest(Console):
    def __init__(self, folder, args):
        self.vnc = f"{folder}/vnc"
        argv = [LODGE, *(["-accel", "jit," + EXTRA] if EXTRA else []), "-m", "512", "-smp", "2", "-display", "none",
                "-vnc", f"unix:{self.vnc}", "-serial", "stdio", "-monitor", f"unix:{folder}/mon,server=on,wait=off", *args]
        super().__init__(argv, f"{folder}/console.log", PATIENCE)

    def login(self):
        self.wait("lodge login: ", 300)
        self.type("root")
        self.wait("Password: ", 60)
        self.type("lodge")
        self.wait("# ", 60)
        self.type("exec sh")
        self.wait("# ", 60)
        self.run("stty -echo; dmesg -n 1")

    def run(self, command, seconds=120):
        """A line of shell; what it printed."""
        self.type(f"{command}; echo RAN-$?-")
        text = self.wait(r"RAN-\d+-", seconds)
        assert text.endswith("RAN-0-"), f"in the guest failed: {command}:\n{text[-1500:]}"
        self.wait("# ", 60)
        return text.rsplit("RAN-", 1)[0]

    def script(self, text, seconds=300):
        for line in text.splitlines():
            self.type(line)
        return self.run("true", seconds)


def login_on_screen(con):
    """By keys of a VNC client on tty1; the shell there writes a file that the serial line reads."""
    client = rfb.Client(con.vnc)
    before = client.picture()
    for word in "root", "lodge", "tty >/run/where; clear; printf Lodge-42":
        for c in word:
            client.key(SHIFT, c in SHIFTED)
            client.press(ord(c))
        client.press(ENTER)
        time.sleep(1.5 * PATIENCE)
    for _ in range(40):
        if "/dev/tty1" in con.run("cat /run/where 2>/dev/null || true") and "Lodge-42" in con.run("cat /dev/vcs1"):
            break
        time.sleep(1)
    else:
        raise AssertionError("no login on the screen:\n" + con.run("tr -s ' ' ' ' </dev/vcs1"))
    assert client.picture()[2] != before[2], "the picture does not change"
    return client


def log_is_clean(con):
    said = con.run("dmesg --level=emerg,alert,crit,err,warn")
    bad = [l for l in said.replace("\r", "").splitlines() if l.strip() and not QUIET.search(l)]
    assert not bad, "the kernel complains:\n" + "\n".join(bad[:20])


def power_off(con):
    con.type("poweroff")
    status = con.end(120)
    assert status == 0, f"status {status} at the end"


def root_is_clean(folder, image):
    """The root file system, as the last partition, is unmounted and whole."""
    raw, part = f"{folder}/raw", f"{folder}/part"
    subprocess.run([LODGE_IMG, "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True)
    with open(raw, "rb") as f:
        f.seek(1024 + 2 * 128)
        first, last = struct.unpack_from("<QQ", f.read(128), 32)
    subprocess.run(["dd", f"if={raw}", f"of={part}", "bs=1M", f"skip={first // 2048}", f"count={(last - first) // 2048 + 1}",
                    "conv=sparse", "status=none"], check=True)
    os.unlink(raw)
    p = subprocess.run(["e2fsck", "-fn", part], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr


def overlay(folder):
    image = f"{folder}/disk.qcow2"
    subprocess.run([LODGE_IMG, "create", "-q", "-f", "qcow2", "-b", IMAGE, "-F", "raw", image], check=True)
    return image


def machine(folder, board, firmware, device):
    image = overlay(folder)
    args = ["-M", board, "-drive", f"file={image},format=qcow2,if=none,id=d0",
            *disk(board, device, "d0", ",bootindex=1")]
    if firmware == "uefi":
        shutil.copy(OVMF[1], f"{folder}/vars.fd")
        args += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF[0]}",
                 "-drive", f"if=pflash,format=raw,file={folder}/vars.fd"]
    return image, args


def boots(folder, board, firmware, device):
    image, args = machine(folder, board, firmware, device)
    with Guest(folder, args) as con:
        con.login()
        assert ("yes" in con.run("[ -d /sys/firmware/efi ] && echo yes || echo no")) == (firmware == "uefi")
        login_on_screen(con)
        con.script(WORK + "mkdir -p /var/t; (work /var/t); echo 3 >/proc/sys/vm/drop_caches")
        assert "WORK-BAD" not in con.run("(check /var/t)", 300)
        log_is_clean(con)
        power_off(con)
    root_is_clean(folder, image)


def disks(folder):
    """One machine with a second disk on each kind of adapter; all work at the same time, and keep it over a restart."""
    _, args = machine(folder, "q35", "bios", "virtio")
    kinds = list(DEVICES)
    for kind in kinds:
        subprocess.run([LODGE_IMG, "create", "-q", "-f", "qcow2", f"{folder}/{kind}", "192M"], check=True)
        args += ["-drive", f"file={folder}/{kind},format=qcow2,if=none,id={kind},cache=none,discard=unmap",
                 *disk("q35", kind, kind, ",bootindex=%d" % (kinds.index(kind) + 2))]
    with Guest(folder, args) as con:
        con.login()
        names = con.run("lsblk -dnbo NAME,SIZE | awk '$2==201326592 {print $1}'").split()
        assert len(names) == len(kinds), con.run("lsblk")
        con.script(WORK)
        con.run(f"for d in {' '.join(names)}; do mkfs.ext4 -q -F /dev/$d && mkdir -p /mnt/$d && mount /dev/$d /mnt/$d; done", 200)
        con.script(f"for d in {' '.join(names)}; do (work /mnt/$d) & done; wait; echo 3 >/proc/sys/vm/drop_caches", 900)
        con.run("umount /mnt/*; sync; mount | grep -c /mnt || true")
        log_is_clean(con)
        con.type("reboot")
        con.login()
        con.script(WORK)
        said = con.run(f"for d in {' '.join(names)}; do mkdir -p /mnt/$d; fsck.ext4 -fn /dev/$d >/dev/null || echo WORK-BAD; mount /dev/$d /mnt/$d; done", 200)
        said += con.run(f"for d in {' '.join(names)}; do (check /mnt/$d) & done; wait; fstrim -a; umount /mnt/*", 900)
        assert "WORK-BAD" not in said, said
        log_is_clean(con)
        power_off(con)


CASES = {"disks": disks}


def main():
    if not os.path.exists(IMAGE):
        print("no image; tools/debian_image.py makes it")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if CASE in CASES:
                CASES[CASE](folder)
            else:
                boots(folder, *CASE.split("-"))
        except (Fail, AssertionError) as e:
            print(e)
            log = f"{folder}/console.log"
            if os.path.exists(log):
                with open(log, "rb") as f:
                    print(f.read()[-2500:].decode("utf-8", "replace"))
            sys.exit(1)
    print("ok")


main()
