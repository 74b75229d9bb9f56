"""Checks of tools/soak that need nothing but the build and the test guest."""
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time

from soak_base import Fail, Skip, last_line

LOOP = "while True: pass"


def boots(s):
    """Boots in a row, ELF and bzImage in turn."""
    s.need_build()
    s.need_guest()
    busy = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(s.args.load)]
    passed, bad, slowest, total = {}, [], 0, 0
    try:
        for vcpus in map(int, s.args.vcpus.split(",")):
            passed[vcpus] = 0
            for n in range(s.args.count):
                case = f"boot-{('vmlinux', 'vmlinuz')[n % 2]}-{vcpus}"
                begin = time.monotonic()
                status, out = s.run([sys.executable, "tests/boot/boot.py", s.lodge, s.guest, case], f"{case}-{n}.log",
                                    env={"LODGE_PATIENCE": str(s.args.patience)})
                slowest = max(slowest, time.monotonic() - begin)
                total += 1
                passed[vcpus] += status == 0
                if status:
                    bad.append(f"{case}-{n} ({last_line(out[:200])})")
    finally:
        for p in busy:
            p.kill()
            p.wait()
    text = ", ".join(f"{n} of {s.args.count} with {v} vcpus" for v, n in passed.items())
    text += f", slowest {slowest:.1f} s, {s.args.load} busy processes beside"
    if bad:
        raise Fail(f"{text}; failed: {'; '.join(bad)}; see {s.work}")
    return text


def objdump_kernel(s):
    """The decoder's lengths and names against objdump over the kernel and the C library."""
    s.need("objdump")
    s.need_guest()
    tool = os.path.join(s.args.build, "src/isa/x86/x86_objdump_test")
    if not os.path.exists(tool):
        raise Fail(f"no {tool}: build first")
    libc = [l.split("=> ")[1].split(" ")[0] for l in
            subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True).stdout.splitlines() if "libc.so" in l]
    said, bad = [], False
    for file in [os.path.join(s.guest, "vmlinux")] + libc:
        status, out = s.run([tool, file], os.path.basename(file) + ".log", timeout=3000)
        said.append(os.path.basename(last_line(out).split(":")[0]) + ":" + last_line(out).partition(":")[2])
        bad |= status != 0
    if bad:
        raise Fail("; ".join(said) + f"; see {s.work}")
    return "; ".join(said)


def boot_argv(s, command, *more):
    run = base64.b64encode(command.encode()).decode()
    return [s.lodge, "-M", "microvm", "-m", "512M", "-kernel", f"{s.guest}/vmlinux", "-initrd", f"{s.guest}/initrd.gz",
            "-nographic", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-append",
            f"console=ttyS0 lodge.run={run}", *more]


def lockstep(s):
    """Every block of a boot on both tiers."""
    s.need_build()
    s.need_guest()
    status, out = s.run(boot_argv(s, "exit 0", "-cpu", "max", "-accel", "jit,lockstep=on"), "boot.log", timeout=1800)
    m = re.search(r"lockstep: (\d+ blocks compared .*\(([\d.]+) % compared\))", out)
    if "differs after block" in out:
        raise Fail(f"the tiers differ, see {s.path('boot.log')}")
    if status != 1 or "LODGE-END 0" not in out or not m:
        raise Fail(f"status {status}, see {s.path('boot.log')}: {last_line(out)}")
    if float(m[2]) < 99:
        raise Fail(f"too little was compared: {m[1]}")
    return m[1]


def meson_tests(s, build, wanted):
    """Names of the tests of a build for which wanted(name, command) holds."""
    out = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True, check=True).stdout
    return [t["name"] for t in json.loads(out) if wanted(t["name"], t["cmd"]) and s.args.tests in t["name"]]


def starts_lodge(cmd):
    return any(os.path.basename(word) == "lodge" for word in cmd)


def run_tests(s, build, names, log, env, patience):
    """Runs tests by meson; their records."""
    file = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(file):
        os.unlink(file)
    patience *= s.args.patience
    s.run(["meson", "test", "-C", build, "--no-rebuild", "--num-processes", "1", "--print-errorlogs",
           "--timeout-multiplier", str(patience), *names], log, env=dict(env, LODGE_PATIENCE=str(patience)))
    if not os.path.exists(file):
        raise Fail(f"meson ran no test, see {s.path(log)}")
    return [json.loads(line) for line in open(file)]


def failures(records):
    return [f"{t['name']} {t['result']}" for t in records if t["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")]


def inject(s):
    """Every test that starts lodge, and the random blocks of t1_test, under each class of trouble."""
    s.need_build()
    s.need_guest()
    names = meson_tests(s, s.args.build, lambda name, cmd: starts_lodge(cmd) and not {'qemu', '--gate'} & set(cmd))
    if not names:
        raise Fail(f"no test in {s.args.build} starts lodge")
    said, bad = [], []
    for kind in s.args.classes.split(","):
        env = {"LODGE_ACCEL": f"inject={kind}:{s.args.rate}" + (",tb-size=2" if kind == "evict" else "")}
        records = run_tests(s, s.args.build, names, kind + ".log", env, 3)
        text = "".join(t.get("stdout", "") + t.get("stderr", "") for t in records)
        count = sum(int(n) for n in re.findall(rf"injected on vcpu \d+:.* {kind} (\d+)", text))
        wrong = failures(records)
        bad += [f"{kind}: {w}" for w in wrong] + ([f"{kind}: no injection"] if not count else [])
        said.append(f"{kind} {count} ({len(records) - len(wrong)} of {len(records)} tests)")
    tool = os.path.join(s.args.build, "tests/host/t1_test")
    if os.path.exists(tool):
        status, out = s.run([tool, "1", "50000", "12", "3"], "t1_test.log", timeout=600)
        m = re.search(r"injected: (\d+) not filled, (\d+) as crossing", out)
        said.append(f"t1_test {m[1]} not filled, {m[2]} as crossing" if m else "t1_test: no count")
        if status or not m or "0" in (m[1], m[2]):
            bad.append(f"t1_test status {status}")
    if bad:
        raise Fail(f"{', '.join(said)}; failed: {', '.join(bad)}; see {s.work}")
    return ", ".join(said)


def asan(s):
    """The suite with AddressSanitizer and UndefinedBehaviorSanitizer, and no leak at any end."""
    s.need("gcc", "meson", "ninja")
    build = s.setup("build", "gcc", "-Db_sanitize=address,undefined", "-Db_lundef=false")
    reports = s.path("reports")
    os.makedirs(reports, exist_ok=True)
    for f in os.listdir(reports):
        os.unlink(os.path.join(reports, f))
    env = {"ASAN_OPTIONS": f"detect_leaks=1:log_path={reports}/asan",
           "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}/ubsan"}
    if not os.path.exists(os.path.join(s.guest, "initrd.gz")):
        raise Skip("no guest files; tools/guest.py makes them")
    names = meson_tests(s, build, lambda name, cmd: True)
    records = run_tests(s, build, names, "tests.log", env, 6)
    # boot/pvh and its kin have one vcpu, smp2 and smp4 two and four.
    wrong, found = failures(records), sorted(os.listdir(reports))
    skipped = sum(t["result"] == "SKIP" for t in records)
    said = f"{len(records) - len(wrong) - skipped} of {len(records)} tests, {skipped} skipped, {len(found)} reports"
    if wrong or found:
        raise Fail(f"{said}; failed: {', '.join(wrong) or 'none'}; reports in {reports}; see {s.path('tests.log')}")
    return said


def valgrind(s):
    """Start and end, where memory is easily forgotten."""
    s.need("valgrind")
    s.need_build()
    s.need_guest()
    tool = ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite,possible"]
    kernel = ["-kernel", f"{s.guest}/vmlinux", "-display", "none"]
    bad, clean = [], 0
    for name, args, want in (("version", ["-version"], 0), ("no-kernel", ["-M", "microvm", "-nographic"], 1)):
        status, out = s.run(tool + [s.lodge] + args, name + ".log", timeout=120)
        clean += status == want
        if status != want:
            bad.append(f"{name}: status {status}")
    for name, args in (("paused", ["-S"]), ("running", [])):
        log, pid = s.path(name + ".log"), s.path(name + ".pid")
        if os.path.exists(pid):
            os.unlink(pid)
        with open(log, "wb") as f:
            p = subprocess.Popen(tool + [s.lodge, "-M", "microvm", "-smp", "2", "-pidfile", pid] + kernel + args,
                                 stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
            end = time.monotonic() + 60 * s.args.patience
            while not os.path.exists(pid) and time.monotonic() < end and p.poll() is None:
                time.sleep(0.2)
            time.sleep(3)
            p.send_signal(signal.SIGTERM)
            try:
                status = p.wait(60 * s.args.patience)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                status = "timeout"
        clean += status == 0
        if status:
            bad.append(f"{name}, SIGTERM: status {status}, {last_line(open(log, errors='replace').read())}")
    if bad:
        raise Fail(f"{'; '.join(bad)}; see {s.work}")
    return f"{clean} starts and ends clean"


def fuzz(s):
    """Every fuzz target from its corpus; what is found in a folder of its own is kept between runs."""
    s.need("clang", "meson", "ninja")
    build = s.setup("build", "clang", "-Dfuzz=true", "-Dtests=disabled")
    minutes = s.args.minutes or 10
    said, bad, seconds = [], [], int(minutes * 60)
    for target in sorted(os.listdir("tests/fuzz/corpus")):
        found = s.path("found-" + target)
        os.makedirs(found, exist_ok=True)
        status, out = s.run([f"{build}/tests/fuzz/fuzz_{target}", f"-max_total_time={seconds}", "-close_fd_mask=3",
                             "-timeout=60", "-rss_limit_mb=3000", "-print_final_stats=1", found,
                             os.path.abspath(f"tests/fuzz/corpus/{target}")], target + ".log",
                            timeout=seconds * 2 + 600, cwd=s.work)
        runs = re.search(r"number_of_executed_units:\s*(\d+)", out)
        said.append(f"{target} {runs[1] if runs else '?'} runs")
        if status:
            crash = re.findall(r"(?:crash|timeout|oom|leak)-[0-9a-f]+", out)
            bad.append(f"{target}: status {status} {' '.join(crash[:1])}")
    if bad:
        raise Fail(f"{', '.join(said)}; failed: {', '.join(bad)}; see {s.work}")
    return f"{', '.join(said)}, {minutes:g} minutes each"
