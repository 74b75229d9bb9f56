"""Encrypted images, ours and the published tools' in turns: qcow2 with LUKS and the old AES, and
the luks format. What one writes the other reads; key slots, info and measure are the same."""
import json
import os
import random
import shutil
import subprocess
import time

import imgtest as t
from imgtest import IMG, IO, img, io, ref, ref_io, run, untimed

SECRETS = ['--object', 'secret,id=s0,data=grün-geheim', '--object', 'secret,id=s1,data=second']
TOOLS = {'ours': (IMG, IO), 'theirs': ('qemu-img', 'qemu-io')}
M = 1 << 20


def opts(path, driver, secret='s0', more=''):
    key = 'encrypt.key-secret' if driver == 'qcow2' else 'key-secret'
    return f'driver={driver},file.filename={path},{key}={secret}{more}'


def make(tool, path, driver, more='', size='8M', status=0):
    prefix = 'encrypt.' if driver == 'qcow2' else ''
    key = f'{prefix}key-secret=s0' + more
    return run(TOOLS[tool][0], 'create', '-q', *SECRETS, '-f', driver, '-o', key, path, size, status=status)


def exercise(tool, image, *commands, status=0):
    args = [a for c in commands for a in ('-c', c)]
    return untimed(run(TOOLS[tool][1], *SECRETS, '--image-opts', *args, image, status=status).stdout)


def content(tool, image):
    run(TOOLS[tool][0], 'convert', *SECRETS, '--image-opts', '-O', 'raw', image, 'out.raw')
    with open('out.raw', 'rb') as f:
        return f.read()


def kinds():
    yield 'qcow2', ',encrypt.format=aes'
    yield 'qcow2', ',encrypt.format=luks,encrypt.iter-time=10'
    yield 'qcow2', ',encrypt.format=luks,encrypt.iter-time=10,extended_l2=on,cluster_size=16k'
    yield 'qcow2', ',encrypt.format=luks,encrypt.iter-time=10,cluster_size=512,compat=0.10'
    yield 'qcow2', (',encrypt.format=luks,encrypt.iter-time=10,encrypt.cipher-alg=aes-128,'
                    'encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256,'
                    'encrypt.hash-alg=sha1')
    yield 'luks', ',iter-time=10'
    yield 'luks', ',iter-time=10,cipher-alg=serpent-256,hash-alg=sha512'
    yield 'luks', ',iter-time=10,cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain64'


def write_model(tool, image, model, rng, sparse):
    """Requests of all kinds and sizes, and what should be there afterwards."""
    commands = []
    for _ in range(25):
        length = rng.choice([512, 4096, 65536, 66048, 512 * rng.randrange(1, 4000)])
        off = 512 * rng.randrange((len(model) - length) // 512)
        what = rng.choice(['write', 'write', 'write', 'zero', 'discard' if sparse else 'write', 'odd'])
        byte = rng.randrange(1, 256)
        if what == 'odd':
            off, length = off + 100, min(length + 77, len(model) - off - 100)
            what = 'write'
        commands.append({'write': f'write -P {byte} {off} {length}', 'zero': f'write -z {off} {length}',
                         'discard': f'write -z -u {off} {length}'}[what])
        model[off:off + length] = bytes([byte if what == 'write' else 0]) * length
    exercise(tool, image, *commands)


def turns():
    rng = random.Random(7)
    for driver, more in kinds():
        for maker in TOOLS:
            path = 'a.' + driver
            make(maker, path, driver, more)
            model = bytearray(8 * M)
            image = opts(path, driver)
            if driver == 'luks':
                exercise('theirs', image, 'write -z 0 8M')
            for tool in ('ours', 'theirs'):
                write_model(tool, image, model, rng, driver == 'qcow2')
                for reader in TOOLS:
                    assert content(reader, image) == model, (driver, more, maker, tool, reader)
            if driver == 'qcow2':
                for tool in TOOLS:
                    run(TOOLS[tool][0], 'check', '-q', *SECRETS, '--image-opts', image)
            os.remove(path)


def wrong_keys():
    for driver, more in list(kinds())[1:7:4]:
        for maker in TOOLS:
            make(maker, 'a', driver, more)
            for image in opts('a', driver, 's1'), opts('a', driver, 'none'), f'driver={driver},file.filename=a':
                for tool in TOOLS:
                    exercise(tool, image, 'read 0 512', status=1)
            # To look at it no key is needed.
            t.both('info', '--output=json', 'a')
            t.both('info', 'a')
            exercise('ours', opts('a', driver) + (',encrypt.format=aes' if driver == 'qcow2' else ',x=1'),
                     'read 0 512', status=1)
            os.remove('a')
    make('ours', 'a', 'qcow2', ',encrypt.format=aes')
    t.both('info', '--output=json', 'a')
    t.both('info', 'a')
    os.remove('a')


def secrets_on_lines():
    with open('key', 'w') as f:
        f.write('Z2VoZWlt')  # geheim
    given = ['--object', 'secret,id=s0,file=key,format=base64']
    run(IMG, 'create', '-q', *given, '-f', 'luks', '-o', 'key-secret=s0,iter-time=10', 'a', '1M')
    ref_io('--object', 'secret,id=s0,data=geheim', '--image-opts', '-c', 'read 0 1M', opts('a', 'luks'))
    io(*given, '--image-opts', '-c', 'write -P 7 0 1M', opts('a', 'luks'))
    # As JSON, and with the options of the lines for images.
    name = 'json:' + json.dumps({'driver': 'luks', 'key-secret': 's0', 'file': {'driver': 'file', 'filename': 'a'}})
    out = untimed(io(*given, '-c', 'read -P 7 0 1M', name))
    assert out == untimed(ref_io(*given, '-c', 'read -P 7 0 1M', name)), out


def created_alike():
    """What is refused by one is refused by the other, and sizes of headers are the same."""
    for more in ('cipher-alg=aes-128,cipher-mode=xts,ivgen-alg=essiv', 'cipher-alg=aes-256,cipher-mode=ecb',
                 'cipher-alg=serpent-128,cipher-mode=ctr', 'cipher-alg=twofish-256,cipher-mode=cbc,ivgen-alg=plain',
                 'cipher-alg=cast5-128,cipher-mode=cbc', 'cipher-alg=cast5-128', 'cipher-alg=nonsense',
                 'hash-alg=ripemd160', 'hash-alg=nonsense', 'cipher-mode=nonsense', 'ivgen-alg=nonsense',
                 'cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha512'):
        a = make('ours', 'a', 'luks', ',iter-time=10,' + more, '64k', status=None)
        b = make('theirs', 'b', 'luks', ',iter-time=10,' + more, '64k', status=None)
        assert a.returncode == b.returncode, (more, a.stderr, b.stderr)
        if a.returncode == 0:
            exercise('ours', opts('b', 'luks'), 'write -P 5 0 64k')
            exercise('theirs', opts('b', 'luks'), 'read -P 5 0 64k')
            exercise('ours', opts('b', 'luks'), 'read -P 5 0 64k')
            assert os.path.getsize('a') == os.path.getsize('b'), more
        for name in 'ab':
            if os.path.exists(name):
                os.remove(name)


def measured():
    for driver, more in kinds():
        if 'cluster_size=512' in more:
            continue  # ours also counts the refcounts of the encryption header
        prefix = 'encrypt.' if driver == 'qcow2' else ''
        out = f'{prefix}key-secret=s0{more}'
        for size in ('0', '1G'):
            for kind in ('json',):
                args = ['measure', '--output=' + kind, *SECRETS, '-O', driver, '-o', out, '--size', size]
                t.both(*args)
        with open('src', 'wb') as f:
            f.write(b'x' * M)
            f.truncate(5 * M)
        t.both('measure', '--output=json', *SECRETS, '-O', driver, '-o', out, '-f', 'raw', 'src')
        make('theirs', 'a', driver, more)
        exercise('ours', opts('a', driver), 'write 1M 1M')
        t.both('measure', '--output=json', *SECRETS, '--image-opts', '-O', 'qcow2', opts('a', driver))
        t.both('map', '--output=json', *SECRETS, '--image-opts', opts('a', driver))
        os.remove('a')


def copied():
    """Into and out of encrypted images, also with preallocation and from one kind to another."""
    rng = random.Random(3)
    data = bytearray(rng.randbytes(6 * M))
    data[M:3 * M] = bytes(2 * M)
    with open('src', 'wb') as f:
        f.write(data)
    for driver, more in kinds():
        prefix = 'encrypt.' if driver == 'qcow2' else ''
        for tool in TOOLS:
            run(TOOLS[tool][0], 'convert', *SECRETS, '-O', driver, '-f', 'raw', '-o',
                f'{prefix}key-secret=s0{more}', 'src', 'a')
            for reader in TOOLS:
                assert content(reader, opts('a', driver)) == data, (driver, more, tool, reader)
            run(IMG, 'compare', *SECRETS, '--image-opts', opts('a', driver), 'driver=raw,file.filename=src')
            os.remove('a')
    for prealloc in ('metadata', 'falloc', 'full'):
        make('ours', 'a', 'qcow2', f',encrypt.format=luks,encrypt.iter-time=10,preallocation={prealloc}', '2M')
        exercise('ours', opts('a', 'qcow2'), 'write -P 9 64k 64k')
        for tool in TOOLS:
            exercise(tool, opts('a', 'qcow2'), 'read -P 9 64k 64k')
        os.remove('a')


def backed():
    with open('base', 'wb') as f:
        f.write(b'b' * 4 * M)
    for more in (',encrypt.format=aes', ',encrypt.format=luks,encrypt.iter-time=10'):
        for tool in TOOLS:
            make(tool, 'a', 'qcow2', more + ',backing_file=base,backing_fmt=raw', '4M')
            model = bytearray(b'b' * 4 * M)
            rng = random.Random(9)
            for writer in ('ours', 'theirs'):
                write_model(writer, opts('a', 'qcow2'), model, rng, False)
                for reader in TOOLS:
                    assert content(reader, opts('a', 'qcow2')) == model, (more, tool, reader)
            # A snapshot inside shares clusters: what is copied is encrypted anew.
            run(TOOLS[tool][0], 'snapshot', '-q', '-c', 'one', *SECRETS, '--image-opts', opts('a', 'qcow2'))
            before = bytes(model)
            write_model('ours', opts('a', 'qcow2'), model, rng, False)
            assert content('theirs', opts('a', 'qcow2')) == model
            run(IMG, 'snapshot', '-q', '-a', 'one', *SECRETS, '--image-opts', opts('a', 'qcow2'))
            assert content('theirs', opts('a', 'qcow2')) == before
            img('resize', '-q', *SECRETS, '--image-opts', opts('a', 'qcow2'), '5M')
            assert content('theirs', opts('a', 'qcow2')) == before + bytes(M)
            os.remove('a')


def amend(tool, image, *sets, status=0, more=()):
    return run(TOOLS[tool][0], 'amend', '-q', *SECRETS, *more, '--image-opts', '-o', ','.join(sets), image,
               status=status)


def slots(path, driver):
    a = json.loads(t.both('info', '--output=json', path))['format-specific']['data']
    return [s['active'] for s in (a['encrypt'] if driver == 'qcow2' else a)['slots']]


def key_slots():
    for driver, more in ('qcow2', ',encrypt.format=luks,encrypt.iter-time=10'), ('luks', ',iter-time=10'):
        p = 'encrypt.' if driver == 'qcow2' else ''
        for tool in TOOLS:
            make(tool, 'a', driver, more, '1M')
            exercise(tool, opts('a', driver), 'write -P 3 0 1M')
            amend('ours', opts('a', driver), p + 'state=active', p + 'new-secret=s1', p + 'iter-time=10')
            assert slots('a', driver) == [True, True] + [False] * 6
            amend('theirs', opts('a', driver), p + 'state=active', p + 'new-secret=s1', p + 'keyslot=5',
                  p + 'iter-time=10')
            for user in TOOLS:
                exercise(user, opts('a', driver, 's1'), 'read -P 3 0 1M')
            # An active slot is not overwritten without force, the last not erased.
            for user in TOOLS:
                amend(user, opts('a', driver), p + 'state=active', p + 'new-secret=s1', p + 'keyslot=1',
                      status=1)
            amend('ours', opts('a', driver), p + 'state=inactive', p + 'keyslot=1')
            assert slots('a', driver) == [True] + [False] * 4 + [True] + [False] * 2
            amend('ours', opts('a', driver, 's1'), p + 'state=inactive', p + 'old-secret=s0')
            assert slots('a', driver) == [False] * 5 + [True] + [False] * 2
            for user in TOOLS:
                exercise(user, opts('a', driver), 'read 0 512', status=1)
                exercise(user, opts('a', driver, 's1'), 'read -P 3 0 1M')
                amend(user, opts('a', driver, 's1'), p + 'state=inactive', p + 'keyslot=5', status=1)
                amend(user, opts('a', driver, 's1'), p + 'state=inactive', p + 'old-secret=s1', status=1)
                amend(user, opts('a', driver, 's1'), p + 'state=nonsense', p + 'old-secret=s1', status=1)
                amend(user, opts('a', driver, 's1'), p + 'state=active', status=1)
                amend(user, opts('a', driver, 's1'), p + 'state=active', p + 'new-secret=s0', p + 'keyslot=9',
                      status=1)
            amend('ours', opts('a', driver, 's1'), p + 'state=active', p + 'new-secret=s0', p + 'keyslot=5',
                  p + 'iter-time=10', more=['--force'])
            for user in TOOLS:
                exercise(user, opts('a', driver), 'read -P 3 0 1M')
            amend('ours', opts('a', driver), p + 'state=inactive', p + 'keyslot=5', more=['--force'])
            for user in TOOLS:
                exercise(user, opts('a', driver), 'read 0 512', status=1)
            os.remove('a')


def cryptsetup():
    if not shutil.which('cryptsetup'):
        return
    make('ours', 'a', 'luks', ',iter-time=10', '1M')
    run('cryptsetup', 'isLuks', 'a')
    p = subprocess.run(['cryptsetup', 'luksOpen', '--test-passphrase', '--key-file', '-', 'a'],
                       input='grün-geheim'.encode(), capture_output=True, timeout=60)
    assert p.returncode == 0, p


def hostile():
    """Headers with any byte changed are refused or work, nothing else."""
    make('theirs', 'a', 'luks', ',iter-time=10', '64k')
    with open('a', 'rb') as f:
        good = f.read()
    rng = random.Random(1)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(592)
            bad[at] = rng.choice([0, 255, rng.randrange(256)])
        with open('b', 'wb') as f:
            f.write(bad)
        p = run(IO, *SECRETS, '--image-opts', '-c', 'read 0 64k', opts('b', 'luks'), status=None)
        assert p.returncode in (0, 1), (p, bytes(bad[:592]))

    with open('b', 'wb') as f:  # two slots, the second of which would take minutes; no password for either
        f.write(good[:208 + 48] + bytes.fromhex('00ac71f3') + (50000000).to_bytes(4, 'big') + good[208 + 56:])
    before = time.monotonic()
    wrong = run(IO, *SECRETS, '--image-opts', '-c', 'read 0 64k', opts('b', 'luks', 's1'), status=1).stderr
    assert 'number 1' in wrong and time.monotonic() - before < 60, wrong
    run(IO, *SECRETS, '--image-opts', '-c', 'read 0 64k', opts('b', 'luks'))


t.need_reference()
import sys
only=sys.argv[3:]
t.main(*[f for f in (turns, wrong_keys, secrets_on_lines, created_alike, measured, copied, backed, key_slots, cryptsetup, hostile) if not only or f.__name__ in only])
