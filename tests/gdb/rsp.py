"""A small client of the GDB Remote Serial Protocol: what the tests need of it."""
import os
import socket
import time


class Rsp:
    def __init__(self, path, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX)
        timeout *= float(os.environ.get('LODGE_PATIENCE', 1))
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.sock.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.sock.settimeout(timeout)
        self.buf = b''
        self.ack = True

    def _byte(self):
        if not self.buf:
            self.buf = self.sock.recv(65536)
            if not self.buf:
                raise EOFError('the stub has gone')
        c, self.buf = self.buf[:1], self.buf[1:]
        return c

    def send(self, body):
        body = body if isinstance(body, bytes) else body.encode('latin1')
        self.sock.sendall(b'$' + body + b'#%02x' % (sum(body) & 255))

    def receive(self):
        while self._byte() != b'$':
            pass
        body, total = bytearray(), 0
        while True:
            c = self._byte()
            if c == b'#':
                break
            total += c[0]
            if c == b'}':
                c = self._byte()
                total += c[0]
                c = bytes([c[0] ^ 0x20])
            body += c
        want = int(self._byte() + self._byte(), 16)
        assert want == total & 255, 'checksum of an answer'
        if self.ack:
            self.sock.sendall(b'+')
        return body.decode('latin1')

    def ask(self, body):
        self.send(body)
        return self.receive()

    def ok(self, body):
        answer = self.ask(body)
        assert answer == 'OK', (body, answer)

    def interrupt(self):
        self.sock.sendall(b'\x03')
        return self.receive()

    def read(self, addr, n):
        answer = self.ask('m%x,%x' % (addr, n))
        assert not answer.startswith('E'), (hex(addr), answer)
        return bytes.fromhex(answer)

    def reg(self, n):
        return int.from_bytes(bytes.fromhex(self.ask('p%x' % n)), 'little')

    def set_reg(self, n, value, size=8):
        self.ok('P%x=%s' % (n, value.to_bytes(size, 'little').hex()))
