"""Screens and keys of a whole machine by VNC, seen by a client of our own (rfb.py).

The guests are boot sectors of a few bytes; firmware and its VGA part are SeaBIOS.
usage: vnc_test.py LODGE CASE
"""
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rfb  # noqa: E402

SKIP = 77
# xor ax,ax; int 16h; mov ah,0eh; int 10h; jmp to the start
ECHO = bytes.fromhex("31c0cd16b40ecd10ebf6")
# mov ax,13h; int 10h; mov ax,a000h; mov es,ax; xor di,di; mov cx,64000; mov al,4; rep stosb; jmp $
RED = bytes.fromhex("b81300cd10b800a08ec031ffb900fab004f3aaebfe")
# mov ax,4f02h; mov bx,0115h; int 10h (800 x 600 x 24 by the banked window); mov ax,a000h; mov es,ax;
# xor di,di; mov cx,300; mov al,ffh; rep stosb; jmp $
VBE = bytes.fromhex("b8024fbb1501cd10b800a08ec031ffb92c01b0fff3aaebfe")

# mov ax,b800h; mov es,ax; inc word [es:0]; jmp to the inc
COUNT = bytes.fromhex("b800b88ec026ff060000ebf9")


class Machine:
    def __init__(self, lodge, code=b"\xeb\xfe", vnc=None, more=()):
        self.dir = tempfile.mkdtemp()
        self.path = None if vnc else os.path.join(self.dir, "vnc")
        disk = os.path.join(self.dir, "disk")
        with open(disk, "wb") as f:
            f.write((code + bytes(510))[:510] + b"\x55\xaa" + bytes(1 << 20))
        self.process = subprocess.Popen(
            [lodge, "-M", "pc", "-m", "32", "-vnc", vnc or "unix:" + self.path,
             "-drive", "if=none,id=d,format=raw,file=" + disk, "-device", "ide-hd,drive=d", *more],
            stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        end = time.time() + 20
        while self.path and not os.path.exists(self.path) and time.time() < end:
            time.sleep(0.05)
            assert self.process.poll() is None, self.process.stderr.read()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir)

    def client(self, **more):
        for _ in range(100):
            try:
                return rfb.Client(self.path, **more)
            except ConnectionRefusedError:  # the socket is there, but nobody listens yet
                time.sleep(0.05)
        raise AssertionError("nobody listens")


def lit(picture):
    data = picture[2]
    return sum(1 for i in range(0, len(data), 4) if data[i:i + 3] != b"\0\0\0")


def wait_picture(client, wanted, what, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        picture = client.picture()
        if wanted(picture):
            return picture
        time.sleep(0.3)
    raise AssertionError("never saw " + what)


def started(client):
    return wait_picture(client, lambda p: p[:2] == (720, 400) and lit(p) > 1500, "firmware's text")


def case_text(lodge):
    with Machine(lodge) as m:
        started(m.client())


def echoes(client, press, what):
    """Twice the same: the boot sector reads keys only when firmware is done with them."""
    end, first = time.time() + 60, lit(client.picture())
    while time.time() < end:
        press()
        time.sleep(0.5)
        if lit(client.picture()) > first + 300:
            return
    raise AssertionError("never saw " + what)


def case_keys(lodge):
    with Machine(lodge, ECHO) as m:
        c = m.client(encodings=(0, rfb.DESKTOP_SIZE, rfb.EXTENDED_KEY))
        started(c)
        echoes(c, lambda: c.press(*map(ord, "lodge")), "what was typed")
        assert c.extended

        def by_place():
            for code in (0x1e, 0x30, 0x2e):
                c.scan_code(code, True)
                c.scan_code(code, False)
        echoes(c, by_place, "keys by place")
        c.pointer(10, 10)
        c.pointer(20, 30, 1)
        c.key(ord("a"), True)  # and goes with the key down
        c.close()
        m.client().picture()


SHIFT, ALTGR, SHARP, E_ACUTE, U_UMLAUT = 0xFFE1, 0xFE03, 0xDF, 0xE9, 0xFC
# Language, what is typed, and what a US keyboard's driver makes of it.
KEYMAPS = (("de", [ord("z"), ord("y"), ord("+"), SHARP, U_UMLAUT, ord("a")], "yz]-[a"),
           ("fr", [ord("a"), ord("q"), ord("z"), ord("m"), ord("&"), E_ACUTE, ord("!")], "qaw;12/"),
           ("en-us", [ord("z"), ord("a"), ord("=")], "za="))


def case_keymaps(lodge):
    """-k: what a client types is the key that it is on that keyboard; the BIOS takes it for a US one's."""
    if not os.path.exists("/usr/share/qemu/keymaps/de"):
        print("no keyboard layouts (Debian: qemu-system-data)")
        sys.exit(SKIP)
    for language, keys, same in KEYMAPS:
        with Machine(lodge, ECHO, more=["-k", language]) as m, Machine(lodge, ECHO) as us:
            c, u = m.client(), us.client()
            wait_boot(c), wait_boot(u)
            before = lit(c.picture())
            c.press(*keys)
            u.press(*map(ord, same))
            same_screens(c, u, before + 20 * len(keys), f"{language}: {same!r}")
            if language == "de":  # capital Y is let go after Shift; / is on 7 with Shift
                before = lit(c.picture())
                c.key(SHIFT, True), c.key(ord("Y"), True), c.key(SHIFT, False), c.key(ord("Y"), False)
                c.key(SHIFT, True), c.press(ord("/")), c.key(SHIFT, False)
                c.press(ord("{"), ord("x"))
                u.key(SHIFT, True), u.press(ord("Z"), ord("&")), u.key(SHIFT, False)
                u.press(ord("7"), ord("x"))
                same_screens(c, u, before + 80, "German with Shift")
    for bad, want in ("dd", "nearest is"), ("../x", "no name of"):
        p = subprocess.run([lodge, "-M", "pc", "-k", bad, "-vnc", "unix:/nonexistent/vnc"], capture_output=True, text=True)
        assert p.returncode == 1 and want in p.stderr and "-k" in p.stderr, p.stderr


def wait_boot(client):
    """Until the boot sector runs, and so the screen has been still for a while."""
    started(client)
    last, since = None, time.time()
    while time.time() < since + 3:
        now = text_rows(client.picture())
        last, since = now, since if now == last else time.time()
        time.sleep(0.3)


def same_screens(a, b, least, what):
    """Both clients come to see the same characters, with so many pixels."""
    end = time.time() + 30
    while time.time() < end:
        pictures = [c.picture() for c in (a, b)]
        if text_rows(pictures[0]) == text_rows(pictures[1]) and lit(pictures[0]) > least:
            return
        time.sleep(0.3)
    raise AssertionError(f"not the same on both screens: {what}")


def text_rows(picture):
    """The picture without the cursor, which blinks: the first lines of each row of characters."""
    width, height, data = picture
    return [data[y * width * 4:(y + 1) * width * 4] for y in range(height) if y % 16 < 13]


def case_graphics(lodge):
    with Machine(lodge, RED) as m:
        red = bytes([0, 0, 0xaa, 0])
        wait_picture(m.client(), lambda p: p == (640, 400, red * 640 * 400), "a red screen")
    with Machine(lodge, VBE) as m:
        p = wait_picture(m.client(), lambda p: p[:2] == (800, 600) and lit(p), "an SVGA picture")
        depth = 100 if lit(p) == 100 else 75
        assert p[2][:depth * 4] == bytes([255, 255, 255, 0]) * depth and lit(p) == depth, lit(p)


def case_encodings(lodge):
    for encoding in (2, 5, 6, 7, 16):
        with Machine(lodge) as m:
            c = m.client(encodings=(encoding, rfb.DESKTOP_SIZE))
            c.ask(False)
            head = c.take(16)
            assert struct.unpack(">i", head[12:])[0] == encoding, (encoding, head)


def may_enter(path, password):
    try:
        rfb.Client(path, password=password).picture()
        return True
    except PermissionError:
        return False


def command(sock, *lines):
    """What the monitor answers to the last of these; its prompt ends with a blank."""
    for line in lines:
        sock.sendall(line.encode() + b"\n")
        got = b""
        while not got.endswith((b"(lodge) ", b"Password: ")):
            got += sock.recv(65536)
    return got.decode()


def case_password(lodge):
    """Nobody comes in before the monitor has set a password, with a wrong one, or with one that has expired."""
    with tempfile.TemporaryDirectory() as d:
        path, mon = os.path.join(d, "vnc"), os.path.join(d, "mon")
        with Machine(lodge, vnc="unix:%s,password=on" % path, more=["-monitor", f"unix:{mon},server=on,wait=off"]) as m:
            while not (os.path.exists(path) and os.path.exists(mon)) and m.process.poll() is None:
                time.sleep(0.05)
            assert not may_enter(path, None) and not may_enter(path, "")
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(20)
                s.connect(mon)
                command(s, "", "set_password vnc open")
                assert may_enter(path, "open") and not may_enter(path, "opem") and not may_enter(path, None)
                said = command(s, "change vnc password", "Sesame")
                assert "Sesame" not in said and "******" in said, said
                assert may_enter(path, "Sesame") and not may_enter(path, "open")
                assert "Sesame" not in command(s, "info history")
                command(s, "expire_password vnc now")
                assert not may_enter(path, "Sesame")
                command(s, "expire_password vnc +600")
                assert may_enter(path, "Sesame")
                command(s, "expire_password vnc 1335196800")
                assert not may_enter(path, "Sesame")
                command(s, "expire_password vnc never", "change vnc password again")
                assert may_enter(path, "again")
                for bad, why in (("set_password vnc 123456789", "8 characters"), ("set_password spice x", "SPICE"),
                                 ("set_password vnc x disconnect", "keep"), ("set_password vnc", "password"),
                                 ("expire_password vnc soon", "none of"), ("expire_password vnc +99999999999999999999", "none of"),
                                 ("expire_password vnc -5", "none of"), ("change vnc :3", "'password' is expected")):
                    said = command(s, bad)
                    assert why in said, said
                assert may_enter(path, "again")
        with Machine(lodge, more=["-monitor", f"unix:{mon},server=on,wait=off"]) as m, socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(mon)
            assert "password=on" in command(s, "", "set_password vnc x")
            assert may_enter(m.path, None)


def case_ports(lodge):
    """Two machines want the same port; the second takes the next one."""
    base = 40 + os.getpid() % 500
    with Machine(lodge, vnc="127.0.0.1:%d,to=%d" % (base, base + 50)) as a:
        with Machine(lodge, vnc="127.0.0.1:%d,to=%d" % (base, base + 50)) as b:
            time.sleep(3)
            assert a.process.poll() is None and b.process.poll() is None
            found = 0
            for n in range(base, base + 50):
                try:
                    rfb.Client(("127.0.0.1", 5900 + n), timeout=5).picture()
                    found += 1
                except (ConnectionRefusedError, AssertionError, rfb.Closed):
                    pass
            assert found >= 2, found
    bad = subprocess.run([lodge, "-M", "pc", "-vnc", "nonsense"], capture_output=True, text=True,
                         timeout=20)
    assert bad.returncode == 1 and "nonsense" in bad.stderr, bad.stderr


def case_hungry(lodge):
    """A slow client that always has its next request on the way still sees changes."""
    with Machine(lodge, COUNT) as m:
        client = m.client()
        started(client)
        take, seen = client.take, set()

        def slowly(n):
            time.sleep(0.1 if n > 1000 else 0)
            return take(n)
        client.take = slowly
        client.ask(False)
        for _ in range(40):
            seen.add(hash(client.picture()[2]))
        assert len(seen) >= 20, f"{len(seen)} of 40 pictures differ"


def case_hostile(lodge):
    with Machine(lodge, ECHO) as m:
        c = m.client()
        started(c)
        deaf = m.client()  # asks for much and reads nothing
        for _ in range(50):
            deaf.ask(False)
        half = m.client()  # never finishes a message
        half.sock.sendall(b"\x06\0\0\0\x7f")
        junk = m.client()
        junk.sock.sendall(b"\xee" * 1000)
        raw = []
        for _ in range(20):  # more than may come
            s = socket.socket(socket.AF_UNIX)
            s.connect(m.path)
            raw.append(s)
        begun = time.time()
        c.sock.settimeout(40)
        c.picture()
        assert time.time() - begun < 35
        echoes(c, lambda: c.press(*map(ord, "lodge")), "what was typed, beside hostile clients")
        for _ in range(50):
            c.ask(False)
        begun = time.time()
        m.process.send_signal(signal.SIGTERM)
        m.process.wait(timeout=10)
        assert time.time() - begun < 4, "a client that reads nothing kept it from ending"
        assert not os.path.exists(m.path)


def main():
    lodge, case = sys.argv[1:3]
    if not any(os.path.exists(d + "/vgabios-stdvga.bin")
               for d in ("/usr/share/seabios", "/usr/share/qemu")):
        print("skipped: SeaBIOS is not installed")
        return SKIP
    probe = subprocess.run([lodge, "-M", "microvm", "-vnc", "nonsense"], capture_output=True,
                           text=True, timeout=20)
    if "without" in probe.stderr or "needs the library" in probe.stderr:
        print("skipped: no libvncserver")
        return SKIP
    globals()["case_" + case](lodge)
    return 0


if __name__ == "__main__":
    sys.exit(main())
