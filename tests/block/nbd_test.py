#!/usr/bin/env python3
"""NBD: lodge-nbd with clients of others and our own, our clients with servers of others.

usage: nbd_test.py LODGE-NBD LODGE-IMG LODGE-IO MANDIR [CASE...]
"""
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

NBD, IMG, IO, MAN = map(os.path.abspath, sys.argv[1:5])
M = 1 << 20
SKIP = 77


def run(*args, status=0, timeout=60, stdin=''):
    p = subprocess.run(args, input=stdin, capture_output=True, text=True, timeout=timeout)
    assert status is None or p.returncode == status, (args, p.returncode, p.stdout, p.stderr)
    return p


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, 'nothing happened'
        time.sleep(0.02)


@contextlib.contextmanager
def server(*args, sock='s.sock', program=NBD, end=signal.SIGTERM, persistent=True):
    p = subprocess.Popen([program, *(['-t'] if persistent else []), '-k', os.path.abspath(sock), *args],
                         stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: os.path.exists(sock) or p.poll() is not None)
        assert p.poll() is None, p.stderr.read()
        yield p
    finally:
        if p.poll() is None:
            p.send_signal(end)
        status = p.wait(20)
        said = p.stderr.read()
        p.stderr.close()
    if program == NBD:
        assert status == 0 and not said, (status, said)
        assert not os.path.exists(sock)


def uri(name='', sock='s.sock'):
    return f'nbd+unix:///{name}?socket={os.path.abspath(sock)}'


def io(name, *commands, program=IO, status=0, opts=()):
    out = run(program, *opts, *[a for c in commands for a in ('-c', c)], name, status=status).stdout
    return re.sub(r'ops; .*', 'ops', out)


def make(name='d.qcow2', *opts, size='16M'):
    run('qemu-img', 'create', '-q', '-f', 'qcow2', *opts, name, size)
    return name


def untimed(*args):
    return run(*args).stdout


# ---- our server ----

def clients_of_others():
    make()
    with server('-f', 'qcow2', 'd.qcow2', '-e', '4'):
        io(uri(), 'write -P 1 0 1M', 'write -P 2 1000001 333', 'write -z 3M 1M', 'discard 5M 1M', 'flush',
           program='qemu-io', opts=['-f', 'raw'])
        io(uri(), 'read -P 2 1000001 333', 'read -P 1 0 1000001', 'read -P 0 2M 14M', program='qemu-io',
           opts=['-f', 'raw'])
        io(uri(), 'read -P 2 1000001 333', 'write -P 3 15M 1M', 'read -P 0 2M 13M', opts=['-f', 'raw'])
        assert run('nbdinfo', '--size', uri()).stdout.strip() == str(16 * M)
        run('nbdcopy', uri(), 'copy.raw')
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', uri(), 'ours.raw')
        run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri(), 'theirs.raw')
    run('qemu-img', 'convert', 'd.qcow2', 'direct.raw')
    for name in 'copy', 'ours', 'theirs':
        run('cmp', name + '.raw', 'direct.raw')
    run('qemu-img', 'check', 'd.qcow2')
    with server('-f', 'qcow2', make('e.qcow2')):
        run('nbdcopy', 'direct.raw', uri())
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'direct.raw', 'e.qcow2')


def ends():
    """After the last client without -t, at signals, and not before."""
    make()
    with server('-f', 'qcow2', 'd.qcow2', persistent=False) as p:
        io(uri(), 'read 0 1M', opts=['-f', 'raw'])
        assert p.wait(10) == 0
    for sig in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        with server('-f', 'qcow2', 'd.qcow2', end=sig):
            io(uri(), 'write -P 5 0 1M', opts=['-f', 'raw'])
    io('d.qcow2', 'read -P 5 0 1M', program='qemu-io')
    # A client that is killed does no harm.
    with server('-f', 'qcow2', 'd.qcow2', '-e', '2') as p:
        for _ in range(3):
            c = subprocess.Popen([IO, '-f', 'raw', uri()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            c.stdin.write(b'aio_write 0 8M\n' * 8)
            c.stdin.flush()
            time.sleep(0.05)
            c.kill()
            c.wait()
        io(uri(), 'read 0 1M', opts=['-f', 'raw'])
        assert p.poll() is None


def many_clients():
    make()
    with server('-f', 'qcow2', 'd.qcow2', '-e', '3'):
        held = [subprocess.Popen([IO, '-f', 'raw', uri()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for _ in range(3)]
        for i, c in enumerate(held):
            c.stdin.write(f'write -P {i + 1} {i}M 1M\nflush\n')
            c.stdin.flush()
        for c in held:
            assert 'wrote' in c.stdout.readline()
        # A fourth waits until one goes.
        late = subprocess.Popen([IO, '-f', 'raw', '-c', 'read -P 2 1M 1M', uri()], stdout=subprocess.DEVNULL)
        time.sleep(0.3)
        assert late.poll() is None
        for c in held:
            c.communicate('quit\n', timeout=20)
        assert late.wait(20) == 0


def kinds_of_exports():
    make()
    io('d.qcow2', 'write -P 1 0 1M', program='qemu-io')
    run('qemu-img', 'snapshot', '-c', 'snap', 'd.qcow2')
    io('d.qcow2', 'write -P 2 0 1M', program='qemu-io')
    with server('-r', '-f', 'qcow2', 'd.qcow2'):
        io(uri(), 'write 0 512', opts=['-f', 'raw'], status=1)
        io(uri(), 'read -P 2 0 1M', opts=['-f', 'raw', '-r'])
    for which in 'snap', '1', 'snapshot.name=snap', 'snapshot.id=1':
        with server('-f', 'qcow2', '-l', which, 'd.qcow2'):
            io(uri(), 'read -P 1 0 1M', program='qemu-io', opts=['-f', 'raw', '-r'])
    with open('d.qcow2', 'rb') as f:
        before = f.read()
    with server('-s', '-f', 'qcow2', 'd.qcow2'):
        io(uri(), 'write -P 7 0 2M', 'read -P 7 0 2M', program='qemu-io', opts=['-f', 'raw'])
    with open('d.qcow2', 'rb') as f:
        assert f.read() == before
    with server('--image-opts', 'driver=raw,offset=4096,size=8192,file.filename=d.qcow2', '-r'):
        assert run('nbdinfo', '--size', uri()).stdout.strip() == '8192'
    assert 'snap2' in run(NBD, '-t', '-k', os.path.abspath('n'), '-l', 'snap2', 'd.qcow2', status=1).stderr


def lists():
    make()
    run('qemu-img', 'bitmap', '--add', 'd.qcow2', 'b0')
    for more in [], ['-r', '-A', '-B', 'b0', '-D', 'What it is'], ['-x', 'name', '-e', '5']:
        with server('-f', 'qcow2', *more, 'd.qcow2'):
            args = '-L', '-k', os.path.abspath('s.sock')
            ours, theirs = run(NBD, *args).stdout, run('qemu-nbd', *args).stdout
            assert ours == theirs, (ours, theirs)
        with server('-f', 'qcow2', *more, 'd.qcow2', program='qemu-nbd'):
            theirs_of_theirs = run(NBD, *args).stdout
            assert theirs_of_theirs == run('qemu-nbd', *args).stdout
        without_block = [re.sub(r'  opt block.*\n', '', x) for x in (ours, theirs_of_theirs)]
        assert without_block[0] == without_block[1], without_block
    with server('-f', 'qcow2', '-x', 'right', 'd.qcow2'):
        assert 'wrong' in run(IO, '-f', 'raw', '-c', 'read 0 1', uri('wrong'), status=1).stderr
        io(uri('right'), 'read 0 1', opts=['-f', 'raw'])
    assert not run(NBD, '-L', '-k', '/nowhere/s', status=1).stdout


def block_status():
    make('base.qcow2')
    io('base.qcow2', 'write 0 1M', 'write -z 1M 1M', program='qemu-io')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'd.qcow2')
    run('qemu-img', 'bitmap', '--add', 'd.qcow2', 'b0')
    io('d.qcow2', 'write 4M 1M', 'discard 8M 1M', 'write 15M 64k', program='qemu-io')
    maps = {}
    for program in 'qemu-nbd', NBD:
        with server('-r', '-e', '4', '-f', 'qcow2', '-A', '-B', 'b0', 'd.qcow2', program=program):
            got = []
            for context in 'base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:b0':
                j = json.loads(run('nbdinfo', '--json', '--map=' + context, uri()).stdout)
                got.append([(e['offset'], e['length'], e['type']) for e in j])
            for tool in IMG, 'qemu-img':
                j = json.loads(run(tool, 'map', '--output=json', '-f', 'raw', uri()).stdout)
                got.append([(e['start'], e['length'], e['zero'], e['data']) for e in j])
                j = json.loads(run(tool, 'map', '--output=json', '--image-opts', 'driver=nbd,server.type=unix,'
                                   f'server.path={os.path.abspath("s.sock")},x-dirty-bitmap=qemu:dirty-bitmap:b0').stdout)
                got.append([(e['start'], e['length'], e['zero'], e['data']) for e in j])
            maps[program] = got
    assert maps[NBD] == maps['qemu-nbd'], maps


def background():
    make()
    sock = os.path.abspath('f.sock')
    run(NBD, '--fork', '-t', '--pid-file=pid', '-k', sock, '-f', 'qcow2', 'd.qcow2')
    io(uri(sock='f.sock'), 'write -P 3 0 1M', opts=['-f', 'raw'])
    with open('pid') as f:
        pid = int(f.read())
    os.kill(pid, signal.SIGTERM)
    until(lambda: not os.path.exists(sock))
    until(lambda: subprocess.run(['qemu-io', '-c', 'read -P 3 0 1M', 'd.qcow2'], capture_output=True).returncode == 0)
    assert run(NBD, '--fork', '-k', sock, 'none.qcow2', status=1).stderr.count('\n') == 1
    os.symlink(NBD, 'qemu-nbd')
    assert run('./qemu-nbd', '-k', sock, 'none', status=1).stderr.startswith('qemu-nbd: ')
    assert run('./qemu-nbd', '--version').stdout.startswith('qemu-nbd ')


def odd_sizes():
    with open('odd', 'wb') as f:
        f.write(b'q' * 100001)
    with server('-f', 'raw', 'odd'):
        size = int(run('nbdinfo', '--size', uri()).stdout)
        assert size in (100001, 100352), size
        io(uri(), 'read -P 113 0 100001', 'write -P 114 99999 2', opts=['-f', 'raw'])
        io(uri(), 'read -P 114 99999 2', 'read -P 113 1 99998', program='qemu-io', opts=['-f', 'raw'])
    with server('-f', 'raw', 'odd', program='qemu-nbd'):
        io(uri(), 'read -P 114 99999 2', 'write -P 115 7 3', 'read -P 115 7 3', opts=['-f', 'raw'])


# ---- our client ----

def names():
    make()
    path = os.path.abspath('s.sock')
    with server('-f', 'qcow2', '-x', 'ex', '-e', '3', 'd.qcow2', program='qemu-nbd'):
        forms = [uri('ex'), f'nbd:unix:{path}:exportname=ex',
                 'json:' + json.dumps({'driver': 'nbd', 'export': 'ex', 'server': {'type': 'unix', 'path': path}}),
                 'json:' + json.dumps({'driver': 'raw', 'file': {'driver': 'nbd', 'export': 'ex', 'path': path}})]
        for i, name in enumerate(forms):
            io(name, f'write -P {i + 1} {i}M 1M', f'read -P {i + 1} {i}M 1M')
        io(f'driver=nbd,server.type=unix,server.path={path},export=ex', 'read -P 1 0 1M', opts=['--image-opts'])
        for args in ['info', '--output=json', forms[0]], ['map', '-f', 'raw', forms[0]]:
            a, b = run(IMG, *args).stdout, run('qemu-img', *args).stdout
            assert a == b or json.loads(a) == json.loads(b), (a, b)
        run(IMG, 'compare', '-f', 'raw', '-F', 'raw', forms[0], forms[1])
    # qcow2 in an export, which has to have the room: it cannot grow.
    os.truncate('d.qcow2', 20 * M)
    with server('-f', 'raw', 'd.qcow2', '-e', '2', program='qemu-nbd'):
        io(uri(), 'write -P 9 12M 1M', opts=['-f', 'qcow2'])
    io('d.qcow2', 'read -P 9 12M 1M', program='qemu-io')
    run('qemu-img', 'check', 'd.qcow2')


def tcp():
    make()
    for program in NBD, 'qemu-nbd':
        p = None
        for port in range(20000 + os.getpid() % 20000, 65000, 777):
            p = subprocess.Popen([program, '-t', '-b', '127.0.0.1', '-p', str(port), '-f', 'qcow2', 'd.qcow2'],
                                 stderr=subprocess.PIPE)
            listed = lambda: subprocess.run([NBD, '-L', '-b', '127.0.0.1', '-p', str(port)],
                                            capture_output=True).returncode == 0
            until(lambda: p.poll() is not None or listed())
            if p.poll() is None:
                break
        try:
            for name in f'nbd://127.0.0.1:{port}', f'nbd:127.0.0.1:{port}', f'nbd://localhost:{port}/':
                io(name, 'write -P 5 1M 1M', 'read -P 5 1M 1M', opts=['-f', 'raw'])
        finally:
            p.terminate()
            p.wait(20)
            p.stderr.close()


def comes_back():
    """reconnect-delay: requests wait while the server is away."""
    make()
    path = os.path.abspath('s.sock')
    opts = f'driver=nbd,server.type=unix,server.path={path},reconnect-delay=20'
    with server('-f', 'qcow2', 'd.qcow2', program='qemu-nbd') as p:
        c = subprocess.Popen([IO, '--image-opts', opts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        c.stdin.write('write -P 1 0 64k\n')
        c.stdin.flush()
        assert 'wrote' in c.stdout.readline()
        p.kill()
        p.wait()
    if os.path.exists('s.sock'):
        os.remove('s.sock')
    c.stdin.write('write -P 2 64k 64k\n')
    c.stdin.flush()
    time.sleep(0.5)
    with server('-f', 'qcow2', 'd.qcow2', program='qemu-nbd'):
        out = c.communicate('read -P 2 64k 64k\nquit\n', timeout=30)[0]
        assert c.returncode == 0 and 'error' not in out and 'failed' not in out, out


# ---- TLS ----

def certificates(folder):
    os.mkdir(folder)
    def ssl(*args):
        run('openssl', *args)
    def path(name):
        return os.path.join(folder, name)
    ssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', path('ca-key.pem'), '-out', path('ca-cert.pem'),
        '-subj', '/CN=test ca', '-days', '2', '-addext', 'keyUsage=critical,keyCertSign,cRLSign')
    for who, use in ('server', 'serverAuth'), ('client', 'clientAuth'):
        with open(path('ext'), 'w') as f:
            f.write(f'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n'
                    f'extendedKeyUsage={use}\nsubjectAltName=DNS:localhost,DNS:disk.test\n')
        ssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', path(f'{who}-key.pem'), '-out', path('csr'),
            '-subj', f'/CN={who}')
        ssl('x509', '-req', '-in', path('csr'), '-CA', path('ca-cert.pem'), '-CAkey', path('ca-key.pem'),
            '-CAcreateserial', '-out', path(f'{who}-cert.pem'), '-days', '2', '-extfile', path('ext'))


def tls():
    make()
    certificates('pki')
    os.mkdir('psk')
    with open('psk/keys.psk', 'w') as f:
        f.write('qemu:' + '5a' * 32 + '\n')
    path = os.path.abspath('s.sock')
    base = f'driver=nbd,server.type=unix,server.path={path}'
    for kind, folder in ('x509', 'pki'), ('psk', 'psk'):
        def creds(end):
            return ['--object', f'tls-creds-{kind},id=t,dir={os.path.abspath(folder)},endpoint={end}']
        host = ',tls-hostname=localhost' if kind == 'x509' else ''
        for program in NBD, 'qemu-nbd':
            with server(*creds('server'), '--tls-creds', 't', '-f', 'qcow2', '-e', '3', 'd.qcow2', program=program):
                for client in IO, 'qemu-io':
                    io(f'{base},tls-creds=t{host}', 'write -P 4 0 3M', 'read -P 4 0 3M', program=client,
                       opts=[*creds('client'), '--image-opts'])
                    io(base, 'read 0 512', program=client, opts=['--image-opts'], status=1)
                args = [*creds('client'), '--tls-creds', 't', '-L', '-k', path]
                args += ['--tls-hostname', 'localhost'] if host else []
                assert run(NBD, *args).stdout == run('qemu-nbd', *args).stdout
                if host:
                    for client in IO, 'qemu-io':
                        io(f'{base},tls-creds=t,tls-hostname=wrong.test', 'read 0 512', program=client,
                           opts=[*creds('client'), '--image-opts'], status=1)
        with server('-f', 'qcow2', 'd.qcow2'):
            io(f'{base},tls-creds=t{host}', 'read 0 512', opts=[*creds('client'), '--image-opts'], status=1)


# ---- http ----

# Where a server would like us to look.
REDIRECTIONS = {'to a file': 'file:///etc/passwd', 'to ftp': 'ftp://127.0.0.1:1/disk', 'to itself': '/disk',
                'nowhere': ''}


class Ranges(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self, body):
        data = self.server.data
        m = re.match(r'bytes=(\d+)-(\d*)$', self.headers.get('Range', ''))
        if self.path != '/disk':
            self.send_response(404)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        first, last = (int(m[1]), int(m[2] or len(data) - 1)) if m else (0, len(data) - 1)
        last = min(last, len(data) - 1)
        part = data[first:last + 1]
        lie = self.server.lie if m or not body else None
        if lie in REDIRECTIONS:
            self.send_response(302)
            self.send_header('Location', REDIRECTIONS[lie])
            self.send_header('Accept-Ranges', 'bytes')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        self.send_response(200 if lie == 'all of it' and body else 206 if m else 200)
        shown = {'other place': f'bytes {first + 512}-{last + 512}/{len(data)}',
                 'other length': f'bytes {first}-{last}/{len(data) + 512}', 'nonsense': 'bytes 18446744073709551617--1/x',
                 'longer': 'bytes ' + '9' * 9999, 'unknown length': f'bytes {first}-{last}/*'}
        if m and lie not in ('all of it', 'no place'):
            self.send_header('Content-Range', shown.get(lie, f'bytes {first}-{last}/{len(data)}'))
        part = data if lie == 'all of it' else part[:-1] if lie == 'less' else part + b'x' if lie == 'more' else part
        self.send_header('Accept-Ranges', 'none' if lie == 'no parts' else 'bytes')
        self.send_header('Content-Length', '-1' if lie == 'no length' else str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def log_message(self, *args):
        pass


def http_protocol():
    make()
    io('d.qcow2', 'write -P 1 0 1M', 'write -P 2 5M 1M', program='qemu-io')
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Ranges)
    with open('d.qcow2', 'rb') as f:
        s.data = f.read()
    s.lie = None
    s.handle_error = lambda *args: None  # clients leave when they have heard enough
    threading.Thread(target=s.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{s.server_address[1]}'
    try:
        run(IMG, 'convert', '-O', 'raw', url + '/disk', 'copy.raw')
        io(url + '/disk', 'read -P 2 5M 1M', 'read -P 0 8M 1M', opts=['-r', '-f', 'qcow2'])
        assert run(IMG, 'info', url + '/nothing', status=1).stderr.count('\n') == 1
        run(IMG, 'create', '-q', '-f', 'qcow2', '-b', url + '/disk', '-F', 'qcow2', 'over.qcow2')
        io('over.qcow2', 'write -P 3 0 64k', 'read -P 1 64k 960k')
        s.lie = 'unknown length'
        io(url + '/disk', 'read -P 2 5M 1M', opts=['-r', '-f', 'qcow2'])
        for s.lie in ('all of it', 'other place', 'other length', 'no place', 'nonsense', 'longer', 'less', 'more',
                      'no parts', 'no length', *REDIRECTIONS):
            p = run(IMG, 'convert', '-f', 'raw', '-O', 'raw', url + '/disk', 'lie.raw', status=1)
            assert p.stderr.count('\n') == 1, (s.lie, p.stderr)
        s.data, s.lie = b'abcd' * 1024, 'all of it'  # which is what is asked for
        run(IMG, 'convert', '-f', 'raw', '-O', 'raw', url + '/disk', 'small.raw')
        with open('small.raw', 'rb') as f:
            assert f.read() == s.data
        run(IMG, 'info', '--image-opts', 'driver=http,url=file:///etc/passwd', status=1)
    finally:
        s.shutdown()
        s.server_close()
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'copy.raw', 'd.qcow2')


def manual():
    with open(os.path.join(MAN, 'lodge-nbd.1')) as f:
        text = f.read()
    listed = re.findall(r'^  (?:-(.),|   ) --([a-z-]+)', run(NBD, '--help').stdout, re.M)
    assert len(listed) > 25
    for letter, name in listed:
        item = r'^\.It ' + (f'Fl {letter} .*' if letter else '') + f'Fl -{name}( |$)'
        assert re.search(item, text, re.M), name
    assert len(re.findall(r'^\.It Fl', text, re.M)) == len(listed)
    assert run(NBD, '--persistant', 'x', status=1).stderr.count('\n') == 1


CASES = [clients_of_others, ends, many_clients, kinds_of_exports, lists, block_status, background, odd_sizes, names, tcp,
         comes_back, tls, http_protocol, manual]


def main():
    for tool in 'qemu-nbd', 'qemu-io', 'nbdinfo', 'nbdcopy', 'openssl':
        if not shutil.which(tool):
            print(tool, 'is not here to compare with')
            sys.exit(SKIP)
    for case in CASES:
        if sys.argv[5:] and case.__name__ not in sys.argv[5:]:
            continue
        with tempfile.TemporaryDirectory(prefix='lodge-nbd-') as d:
            os.chdir(d)
            try:
                case()
            finally:
                os.chdir('/')
        print('ok', case.__name__, flush=True)


main()
