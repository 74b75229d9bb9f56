"""What the tests of the image tools share: running them and the published ones side by side."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

IMG, IO = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SKIP = 77


def need_reference():
    if not shutil.which('qemu-img') or not shutil.which('qemu-io'):
        print('qemu-img and qemu-io are not here to compare with')
        sys.exit(SKIP)


def workdir():
    d = tempfile.TemporaryDirectory(prefix='lodge-img-')
    os.chdir(d.name)
    return d


def run(program, *args, status=0, stdin='', env=None):
    """Status, output and errors; status None: any."""
    for _ in range(100):
        p = subprocess.run([program, *args], input=stdin, capture_output=True, text=True, timeout=120, env=env)
        if 'Unable to get accurate CPU usage' not in p.stderr:  # a busy host: the published tool gives up
            break
        time.sleep(0.02)
    assert status is None or p.returncode == status, (program, args, p.returncode, p.stdout, p.stderr)
    return p


def img(*args, status=0):
    return run(IMG, *args, status=status).stdout


def io(*args, status=0, stdin=''):
    return run(IO, *args, status=status, stdin=stdin).stdout


def ref(*args, status=0):
    return run('qemu-img', *args, status=status).stdout


def ref_io(*args, status=0, stdin=''):
    return run('qemu-io', *args, status=status, stdin=stdin).stdout


def both(*args):
    """Output and status have to be the same; JSON is compared by its fields."""
    a, b = run(IMG, *args, status=None), run('qemu-img', *args, status=None)
    assert a.returncode == b.returncode, (args, a, b)
    if '--output=json' in args and a.stdout.strip():
        assert json.loads(a.stdout) == json.loads(b.stdout), (args, a.stdout, b.stdout)
    assert '--output=json' in args or a.stdout == b.stdout, (args, a.stdout, b.stdout)
    return a.stdout


def untimed(text):
    """Reports of the exerciser without what is measured."""
    return re.sub(r'ops; .*', 'ops', text)


def same(a, b, *more):
    ref('compare', *more, a, b)
    img('compare', *more, a, b)


def sound(*names):
    for n in names:
        ref('check', n)
        img('check', n)


def main(*tests):
    for t in tests:
        with workdir():
            t()
        os.chdir('/')
    print('ok')
