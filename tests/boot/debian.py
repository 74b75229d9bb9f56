#!/usr/bin/env python3
"""Debian 12 on boards pc and q35: GRUB, kernel and systemd from a disk, to a login.

usage: debian.py LODGE IMAGE CASE LODGE-IMG

IMAGE is made by tools/debian_image.py. CASE is BOARD-FIRMWARE-DEVICE ("q35-uefi-nvme"): logs in on the screen by a
VNC client's keys, and on the serial port; works on the disk and compares checksums; the kernel's log has no error;
powers off; the file system is clean afterwards. Or one of the other cases below. Status 77: no image."""
import os
import re
import shutil
import socket
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
OVMF = {"uefi": "/usr/share/OVMF/OVMF_CODE_4M.fd", "smm": "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"}
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
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
                   r"CONFIG_IMA_DISABLE_HTABLE|fail to add MMCONFIG|APIC calibration not consistent|hrtimer: interrupt took|hpet: Lost|colour frame buffer|Power-on or device reset occurred|"
                   r"drm_plane_enable_fb_damage_clips|vdb: partition table beyond EOD")
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
    def __init__(self, folder, args, tcp=False):
        self.vnc, self.mon, vnc = f"{folder}/vnc", f"{folder}/mon", f"unix:{folder}/vnc"
        if tcp:
            with socket.socket() as s:  # a port that is free now
                s.bind(("127.0.0.1", 0))
                self.vnc = s.getsockname()
            vnc = f"127.0.0.1:{self.vnc[1] - 5900}"
        argv = [LODGE, *(["-accel", "jit," + EXTRA] if EXTRA else []), "-m", "512", "-smp", "2", "-display", "none",
                "-vnc", vnc, "-serial", "stdio", "-monitor", f"unix:{self.mon},server=on,wait=off", *args]
        super().__init__(argv, f"{folder}/console.log", PATIENCE)

    def wait_for(self, ready, what, seconds):
        end = time.monotonic() + seconds * PATIENCE
        while not ready():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.5)

    def monitor(self, command):
        """A monitor command's answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30 * PATIENCE)
            s.connect(self.mon)
            text = b""
            for line in None, command:
                if line:
                    s.sendall(line.encode() + b"\n")
                    text = b""
                while not text.endswith(b"(lodge) "):
                    text += s.recv(65536)
        return text.decode("utf-8", "replace")

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
    if firmware in OVMF:
        shutil.copy(OVMF_VARS, f"{folder}/vars.fd")
        args += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF[firmware]}",
                 "-drive", f"if=pflash,format=raw,file={folder}/vars.fd"]
    if firmware == "smm":
        args += ["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]
    return image, args


def boots(folder, board, firmware, device):
    image, args = machine(folder, board, firmware, device)
    with Guest(folder, args) as con:
        con.login()
        assert ("yes" in con.run("[ -d /sys/firmware/efi ] && echo yes || echo no")) == (firmware in OVMF)
        login_on_screen(con)
        con.script(WORK + "mkdir -p /var/t; (work /var/t); echo 3 >/proc/sys/vm/drop_caches")
        assert "WORK-BAD" not in con.run("(check /var/t)", 300)
        if firmware in OVMF:  # a variable: kept in flash memory, by code in system management mode if there is that
            name = "/sys/firmware/efi/efivars/Lodge-77fa9abd-0359-4d32-bd60-28f4e78f784b"
            con.run("mount -t efivarfs none /sys/firmware/efi/efivars 2>/dev/null || true; printf '\\7\\0\\0\\0kept' >" + name)
            con.type("reboot")
            con.login()
            assert "kept" in con.run(f"cat {name}"), "a variable of UEFI is gone"
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


def iso(folder, name):
    os.makedirs(f"{folder}/{name}.d")
    with open(f"{folder}/{name}.d/which", "w") as f:
        f.write(f"disc-{name}\n" + name * 300000)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", name, "-o", f"{folder}/{name}.iso", f"{folder}/{name}.d"],
                   check=True, capture_output=True)
    return f"{folder}/{name}.iso"


# CDROM_LOCKDOOR first. The kernel refuses while anybody else, udev, has the drive open.
EJECT = ("n=0; until perl -e 'sysopen(F, \"/dev/sr0\", 2048) or die; ioctl(F, 0x5329, 0); ioctl(F, %s, 0) or die $!'; "
         "do n=$((n + 1)); [ $n -lt 9 ] || break; sleep 1; done; [ $n -lt 9 ]")


def media(folder):
    """A CD is read, ejected and changed by the guest and by the monitor, on IDE and on AHCI."""
    first, second = iso(folder, "A"), iso(folder, "B")
    for board in "pc", "q35":
        _, args = machine(folder, board, "bios", "virtio")
        with Guest(folder, [*args, "-drive", f"file={first},format=raw,media=cdrom,id=cd"]) as con:
            con.login()
            # udev has the drive for itself while it looks at a new disc.
            mount = "for i in 1 2 3 4 5 6 7 8; do mount -o ro /dev/sr0 /media && break; sleep 1; done"
            read = f"{mount}; head -1 /media/which; sha256sum </media/which; umount /media"
            assert "disc-A" in con.run(read)
            con.run("echo 0 >/proc/sys/dev/cdrom/autoclose")  # whoever looks at it would close the tray
            con.run(f"{mount}; mountpoint -q /media")
            assert "locked" in con.monitor("eject cd"), "a mounted disc came out"
            # The drive's button was pressed: udev unlocks the drive and opens the tray.
            con.wait_for(lambda: "tray open" in con.monitor("info block").lower(), "the tray open", 60)
            con.run("umount /media 2>/dev/null || ! mountpoint -q /media")  # systemd may have been first
            con.monitor(f"change cd {second} raw")
            assert "disc-B" in con.run(read), con.run("dmesg | tail")
            con.run(EJECT % "0x5309")  # CDROMEJECT
            assert "tray open" in con.monitor("info block").lower(), con.monitor("info block")
            con.run(EJECT % "0x5319")  # CDROMCLOSETRAY
            assert "disc-B" in con.run(read)
            con.monitor("eject cd")
            con.wait_for(lambda: re.search("tray open|not inserted.*\n.*: cd\r?\n", con.monitor("info block").lower()),
                         "the disc out", 60)
            con.run("! dd if=/dev/sr0 of=/dev/null bs=2k count=1 2>/dev/null")
            con.monitor(f"change cd {first} raw")
            assert "disc-A" in con.run(read)
            power_off(con)


# Another mode by the kernel's DRM interface, a picture of two halves in it, until the file /run/over is there.
MODESET = r"""
sub io { my ($n, $b) = @_; ioctl(D, $n, $b) or die sprintf("%x: %s", $n, $!); return $b }
my ($w, $h) = @ARGV; open(D, "+<", "/dev/dri/card0") or die;
my $r = io(0xC04064A0, pack("Q4L8", (0) x 12)); my @r = unpack("Q4L8", $r);
my ($fb, $crtc, $con, $enc) = map { "\0" x (4 * ($_ || 1)) } @r[4 .. 7];
io(0xC04064A0, pack("PPPPL8", $fb, $crtc, $con, $enc, @r[4 .. 11]));
my ($hh, $ww, undef, undef, $handle, $pitch, $size) = unpack("L6Q", io(0xC02064B2, pack("L6Q", $h, $w, 32, 0, 0, 0, 0)));
my ($id) = unpack("L", io(0xC01C64AE, pack("L7", 0, $w, $h, $pitch, 32, 24, $handle)));
my (undef, undef, $at) = unpack("LLQ", io(0xC01064B3, pack("LLQ", $handle, 0, 0)));
my $mode = pack("LS10L3A32", 65000, $w, $w + 24, $w + 160, $w + 320, 0, $h, $h + 3, $h + 9, $h + 38, 0, 60, 10, 64, "test");
my $c = pack("L", unpack("L", $con));
io(0xC06864A2, pack("PL7a68", $c, 1, unpack("L", $crtc), $id, 0, 0, 0, 1, $mode));
my $line = ("\xff\0\0\0" x ($w / 2)) . ("\0\0\xff\0" x ($w / 2));
my $m = syscall(9, 0, $size, 3, 1, fileno(D), $at); die if $m == -1;
my $all = $line x $h; open(P, ">", "/run/picture"); print P $all; close P; open(P, "<", "/run/picture");
for (my $n = 0; $n < length($all);) { my $r = syscall(0, fileno(P), $m + $n, length($all) - $n); die $! if $r <= 0; $n += $r }
my $clip = pack("S4", 0, 0, $w, $h); ioctl(D, 0xC01864B1, my $d = pack("L4P", $id, 0, 0, 1, $clip)); # where it is wanted
if ($ARGV[2]) { # a cursor: a green square, then moved
  my (undef, undef, undef, undef, $h2, undef, $size2) = unpack("L6Q", io(0xC02064B2, pack("L6Q", 64, 64, 32, 0, 0, 0, 0)));
  my (undef, undef, $at2) = unpack("LLQ", io(0xC01064B3, pack("LLQ", $h2, 0, 0)));
  my $m2 = syscall(9, 0, $size2, 3, 1, fileno(D), $at2); die if $m2 == -1;
  open(P, ">", "/run/picture"); print P "\0\xff\0\xff" x 4096; close P; open(P, "<", "/run/picture");
  die $! if syscall(0, fileno(P), $m2, 16384) != 16384;
  io(0xC01C64A3, pack("L7", 3, unpack("L", $crtc), 300, 20, 64, 64, $h2));
  io(0xC01C64A3, pack("L7", 2, unpack("L", $crtc), 100, 50, 0, 0, 0));
}
$| = 1; print "MODE-SET\n"; sleep 1 until -e "/run/over";
"""


def snapshot(con, folder):
    """Width and height as a client of others, vncsnapshot, has them, and the picture's file."""
    shot = f"{folder}/shot.jpg"
    subprocess.run(["vncsnapshot", "-quiet", "-quality", "100", f"127.0.0.1:{con.vnc[1] - 5900}", shot], check=True,
                   capture_output=True, timeout=60 * PATIENCE)
    with open(shot, "rb") as f:
        data = f.read()
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):  # to the frame header
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    height, width = struct.unpack_from(">HH", data, at + 5)
    return width, height


def halves(con, width, height):
    """The picture is blue on the left and red on the right, as our own client has it."""
    w, h, pixels = rfb.Client(con.vnc).picture()
    row = pixels[(h // 2) * w * 4:][:w * 4]
    return ((w, h) == (width, height) and row[40:43] == b"\xff\0\0" and row[-44:-41] == b"\0\0\xff")


def mode_disk(folder):
    """MODESET as a disk, which the guest finds as /dev/vdb."""
    with open(f"{folder}/mode.pl", "w") as f:
        f.write(MODESET.ljust(8192))
    return ["-drive", f"file={folder}/mode.pl,format=raw,if=virtio,readonly=on"]


def change_mode(con, width, height, cursor=""):
    """Until /run/over is there."""
    con.run(f"rm -f /run/over; perl /run/mode.pl {width} {height} {cursor} >/run/said 2>&1 & "
            "for i in $(seq 30); do grep -q MODE-SET /run/said && break; sleep 1; done; cat /run/said; grep -q MODE-SET /run/said")
    con.wait_for(lambda: halves(con, width, height), f"a picture of {width} by {height}", 30)


def resolution(folder):
    """Linux changes the mode; the screen's new size and picture reach VNC clients, also one of others."""
    if not shutil.which("vncsnapshot"):
        print("no vncsnapshot here")
        sys.exit(77)
    _, args = machine(folder, "q35", "bios", "virtio")
    with Guest(folder, [*args, *mode_disk(folder)], tcp=True) as con:
        con.login()
        before = snapshot(con, folder)
        con.run("systemctl stop getty@tty1; dd if=/dev/vdb of=/run/mode.pl status=none")
        for width, height in (800, 600), (1600, 900), (640, 480):
            change_mode(con, width, height)
            got = snapshot(con, folder)
            assert got == (width, height), f"{got} instead of {(width, height)}"
            con.run("touch /run/over; wait")
        con.wait_for(lambda: snapshot(con, folder) == before, "the console's picture again", 30)
        power_off(con)


def green(picture):
    """Left, top, right, bottom of what is pure green."""
    width, _, pixels = picture
    at = [m.start() // 4 for m in re.finditer(b"\0\xff\0\0", pixels) if m.start() % 4 == 0]
    columns, rows = [i % width for i in at], [i // width for i in at]
    return (min(columns), rows[0], max(columns), rows[-1]) if at else None


def gpu(folder, board, firmware, screen):
    """Linux's driver of the virtio GPU: its console, modes, a size the viewer wants, another boot."""
    _, args = machine(folder, board, firmware, "virtio")
    with Guest(folder, [*args, *mode_disk(folder), *screen]) as con:
        con.login()
        assert re.search(r"virtio\d", con.run("ls /sys/bus/virtio/drivers/virtio_gpu")), con.run("lsmod")
        assert "1280x800" in con.run("head -1 /sys/class/drm/card0-Virtual-1/modes")
        assert con.run("wc -c </sys/class/drm/card0-Virtual-1/edid").split()[-1] == "128"
        client = login_on_screen(con)
        assert client.picture()[:2] == (1280, 800), client.picture()[:2]
        con.run("systemctl stop getty@tty1; printf '\\033[2J\\033[H\\033[?25l' >/dev/tty1; dd if=/dev/vdb of=/run/mode.pl status=none")
        con.wait_for(lambda: not client.lit(), "a black screen", 20)
        con.run("printf @@@@@@@@@@@@@@@@ >/dev/tty1")
        con.wait_for(lambda: client.lit(), "characters on it", 20)
        one = client.lit()
        con.run("printf '\\n@@@@@@@@@@@@@@@@' >/dev/tty1")
        con.wait_for(lambda: client.lit() == 2 * one, "twice as many characters", 20)
        client.close()  # one that does not read for long is cut off
        for width, height in (800, 600), (1920, 1080), (640, 480):
            change_mode(con, width, height, "cursor")
            con.wait_for(lambda: green(rfb.Client(con.vnc).picture()) == (100, 50, 163, 113), "the cursor where it was moved to", 20)
            con.run("touch /run/over; wait")
        con.wait_for(lambda: rfb.Client(con.vnc).lit() == 2 * one, "the console again", 30)
        assert rfb.Client(con.vnc).picture()[:2] == (1280, 800)
        wanting = rfb.Client(con.vnc, encodings=(0, rfb.EXTENDED_DESKTOP_SIZE))
        wanting.picture()
        wanting.want_size(1000, 700)
        con.wait_for(lambda: wanting.picture() and "1000x700" in con.run("head -1 /sys/class/drm/card0-Virtual-1/modes"), "another first mode", 20)
        wanting.picture()
        assert wanting.size_result == 4, wanting.size_result
        log_is_clean(con)
        con.type("reboot")
        con.login()
        assert login_on_screen(con).lit()
        log_is_clean(con)
        power_off(con)


def gpu_vga(folder):
    gpu(folder, "q35", "bios", ["-vga", "virtio"])


def gpu_uefi(folder):
    gpu(folder, "pc", "uefi", ["-vga", "none", "-device", "virtio-gpu-pci,packed=on"])


# Feeds the dog for longer than its patience, then no more.
FEED = ("perl -e 'open(W, \">\", \"/dev/watchdog\") or die $!; my $t = pack(\"i\", 4); ioctl(W, 0xC0045706, $t) or die $!; "
        "for (1 .. 8) { syswrite(W, \"x\"); sleep 1 } print \"F\", \"ED\\n\"; sleep 600' & true")


def watchdog(folder, board, module, name, args):
    """Linux's driver feeds it; it bites when it is not fed: a pause, an NMI, a reset, the end."""
    _, more = machine(folder, board, "bios", "virtio")
    with Guest(folder, [*more, *args]) as con:
        for action in "pause", "inject-nmi", "reset", "poweroff":
            con.login()
            con.run(f"modprobe {module}; for i in $(seq 20); do [ -e /dev/watchdog0 ] && break; sleep 1; done")
            assert name in con.run("cat /sys/class/watchdog/watchdog0/identity")
            con.monitor(f"watchdog_action {action}")
            con.type(FEED)
            con.wait("FED", 120)
            if action == "pause":
                con.wait_for(lambda: "paused (watchdog)" in con.monitor("info status"), "a pause", 60)
                con.monitor("system_reset")
                con.monitor("cont")
            elif action == "inject-nmi":
                con.wait_for(lambda: "NMI" in con.run("dmesg"), "an NMI in the kernel's log", 60)
                con.monitor("system_reset")
        assert con.end(60) == 0


def i6300esb(folder):
    watchdog(folder, "pc", "i6300esb", "i6300ESB", ["-device", "i6300esb"])


def itco(folder):
    watchdog(folder, "q35", "iTCO_wdt", "iTCO", ["-global", "ICH9-LPC.noreboot=on"])


CASES = {"i6300esb": i6300esb, "itco": itco, "disks": disks, "media": media, "resolution": resolution, "virtio-vga": gpu_vga, "virtio-gpu": gpu_uefi}


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
            sys.stdout.flush()
            log = f"{folder}/console.log"
            if os.path.exists(log):
                with open(log, "rb") as f:
                    print(f.read()[-2500:].decode("utf-8", "replace"))
            sys.exit(1)
    print("ok")


main()
