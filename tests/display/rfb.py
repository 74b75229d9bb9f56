"""A small RFB 3.8 client (RFC 6143): raw pictures, keys, pointer, VNC authentication's refusal."""
import socket
import struct
import subprocess

DESKTOP_SIZE = -223
EXTENDED_KEY = -258
EXTENDED_DESKTOP_SIZE = -308


class Closed(Exception):
    pass


class Client:
    def __init__(self, address, encodings=(0, DESKTOP_SIZE), timeout=20, password=None):
        self.password = password
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.extended = False
        self.sized = False  # a size has come
        self.size_result = None  # of the last want_size()
        self._hello()
        self.sock.sendall(struct.pack(">BxH%di" % len(encodings), 2, len(encodings), *encodings))

    def take(self, n):
        data = bytearray()
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise Closed()
            data += part
        return bytes(data)

    def _hello(self):
        assert self.take(12) == b"RFB 003.008\n"
        self.sock.sendall(b"RFB 003.008\n")
        kinds = self.take(self.take(1)[0])
        assert kinds, "refused"
        self.kinds = kinds
        self.sock.sendall(b"\x01" if 1 in kinds else b"\x02")
        if 1 not in kinds:
            self._authenticate()
        if self.take(4) != bytes(4):
            raise PermissionError()
        assert 1 in kinds or self.password is not None, "let in without a password"
        self.sock.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.format = self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0]).decode()
        bpp, _, big, true, *rest = struct.unpack(">BBBBHHHBBBxxx", self.format)
        assert (bpp, big, bool(true)) == (32, 0, True) and rest[3:] == [16, 8, 0], self.format
        self.pixels = bytearray(self.width * self.height * 4)

    def _authenticate(self):
        """VNC authentication, RFC 6143 7.2.2: DES with the bits of the key's bytes the other way round."""
        challenge = self.take(16)
        key = (self.password or "").encode()[:8].ljust(8, b"\0")
        key = bytes(int(f"{b:08b}"[::-1], 2) for b in key)
        answer = subprocess.run(["openssl", "enc", "-des-ecb", "-nopad", "-K", key.hex(), "-provider", "legacy",
                                 "-provider", "default"], input=challenge, capture_output=True).stdout
        self.sock.sendall(answer.ljust(16, b"\0"))

    def ask(self, incremental=True):
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def _raw(self, x, y, w, h):
        data = self.take(w * h * 4)
        for line in range(h):
            at = ((y + line) * self.width + x) * 4
            self.pixels[at:at + w * 4] = data[line * w * 4:(line + 1) * w * 4]

    def update(self):
        """One message; the number of rectangles of picture in it."""
        kind = self.take(1)[0]
        if kind != 0:
            assert kind == 3, kind  # cut text; a bell has nothing after it
            self.take(3)
            self.take(struct.unpack(">I", self.take(4))[0])
            return 0
        count, drawn = struct.unpack(">xH", self.take(3))[0], 0
        for _ in range(count):
            x, y, w, h, encoding = struct.unpack(">HHHHi", self.take(12))
            self.sized |= encoding in (DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE)
            if encoding == EXTENDED_DESKTOP_SIZE:
                self.take(3 + 16 * self.take(1)[0])
                if x == 1:  # our own request
                    self.size_result = y
            if encoding == DESKTOP_SIZE or (encoding == EXTENDED_DESKTOP_SIZE and not y):
                self.width, self.height = w, h
                self.pixels = bytearray(w * h * 4)
            elif encoding == EXTENDED_KEY:
                self.extended = True
            elif encoding == EXTENDED_DESKTOP_SIZE:
                pass
            else:
                assert encoding == 0, encoding
                self._raw(x, y, w, h)
                drawn += 1
        return drawn

    def picture(self):
        """The whole screen now: (width, height, bytes of blue, green, red, 0)."""
        self.sized = False
        while True:
            self.ask(self.sized)  # a size may be all the answer to the first; everything is still to come
            size = self.width, self.height
            drawn, self.sized = 0, False
            while not drawn and not self.sized:
                drawn = self.update()
            if drawn and size == (self.width, self.height):
                return self.width, self.height, bytes(self.pixels)

    def lit(self):
        """How many pixels of the picture now are not black."""
        pixels = self.picture()[2]
        return len(pixels) // 4 - sum(not v for v in struct.unpack(f"<{len(pixels) // 4}I", pixels))

    def key(self, keysym, down):
        self.sock.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def press(self, *keysyms):
        for k in keysyms:
            self.key(k, True)
            self.key(k, False)

    def scan_code(self, code, down):
        self.sock.sendall(struct.pack(">BBHII", 255, 0, down, 0, code))

    def pointer(self, x, y, buttons=0):
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def want_size(self, width, height):
        """Asks for another size; the encoding must have been named."""
        self.sock.sendall(struct.pack(">BxHHBx IHHHHI", 251, width, height, 1, 0, 0, 0, width, height, 0))

    def close(self):
        self.sock.close()


def write_ppm(path, picture):
    width, height, data = picture
    rgb = bytearray(width * height * 3)
    rgb[0::3], rgb[1::3], rgb[2::3] = data[2::4], data[1::4], data[0::4]
    with open(path, "wb") as f:
        f.write(b"P6\n%d %d\n255\n" % (width, height) + rgb)
