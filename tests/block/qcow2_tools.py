"""What the tests of qcow2 beside the installed tools share: running programs."""
import subprocess


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, timeout=60)


class Failed(Exception):
    pass


def must(*args):
    p = run(*args)
    if p.returncode != 0:
        raise Failed("%s: %s%s" % (" ".join(args), p.stdout, p.stderr))
    return p.stdout
