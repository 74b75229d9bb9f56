#!/bin/sh
# What tools/soak debian-root runs inside the guest: soak_guest.sh SECONDS (of each stressor).
# One line per step: SOAK ok|FAILED NAME SECONDS. What a step said comes before the line if it failed.
stress=$1
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
cd "$work" || exit 1

step() { # name, function
    begin=$(date +%s)
    (set -eu; "$2") >out 2>&1 # not as a condition: that would switch -e off
    status=$?
    if [ $status = 0 ]; then verdict=ok; else verdict=FAILED; tail -n 30 out; fi
    echo "SOAK $verdict $1 $(($(date +%s) - begin))"
}

python() {
    cat >p.py <<'END'
import decimal, hashlib, json, math, multiprocessing, re, sqlite3, threading, zlib
def f(n):
    return sum(i * i for i in range(n))
def main():
    assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf8f01cfea")
    data = bytes(range(256)) * 4096
    assert zlib.decompress(zlib.compress(data)) == data and zlib.crc32(b"123456789") == 0xcbf43926
    assert json.loads(json.dumps({"a": [1.5, None, "é"]})) == {"a": [1.5, None, "é"]}
    assert math.isclose(math.sin(1) ** 2 + math.cos(1) ** 2, 1) and pow(3, 10**20, 97) == pow(3, 10**20 % 96, 97)
    decimal.getcontext().prec = 60
    assert str(decimal.Decimal(2).sqrt()).startswith("1.4142135623730950488016887242096980785696718753769")
    assert str(math.factorial(200))[:8] == "78865786" and (2**100000).bit_length() == 100001
    db = sqlite3.connect(":memory:")
    db.execute("create table t(n)")
    db.executemany("insert into t values(?)", ((i,) for i in range(100000)))
    assert db.execute("select sum(n) from t").fetchone() == (4999950000,)
    with multiprocessing.Pool(4) as pool:
        assert pool.map(f, [100000] * 8) == [f(100000)] * 8
    hits = []
    threads = [threading.Thread(target=lambda: hits.append(f(20000))) for _ in range(16)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert hits == [f(20000)] * 16
if __name__ == "__main__":
    main()
    print("fine")
END
    [ "$(python3 p.py)" = fine ]
}

perl_() {
    cat >p.pl <<'END'
use strict; use warnings; use POSIX (); use Digest::SHA qw(sha1_hex); use List::Util qw(sum); use Math::BigInt;
my %h = map { $_ => $_ ** 2 } 1 .. 100000;
die "sum" unless sum(values %h) == 333338333350000;
%h = (); die "sha" unless sha1_hex("abc") eq "a9993e364706816aba3e25717850c26c9cd0d89d";
die "big" unless Math::BigInt->new(3)->bpow(200) eq
    "265613988875874769338781322035779626829233452653394495974574961739092490901302182994384699044001";
my $t = "abc " x 5000; die "re" unless ($t =~ s/(b)(c)/$2$1/g) == 5000;
my @s = sort { $a <=> $b } map { ($_ * 7919) % 100003 } 0 .. 100002; die "sort" unless $s[5000] == 5000;
for (1 .. 20) { my $p = fork; if (!$p) { POSIX::_exit(3) } waitpid $p, 0; die "fork" unless $? >> 8 == 3 }
print "fine";
END
    [ "$(perl p.pl)" = fine ]
}

compiler() {
    cat >c.c <<'END'
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static void *f(void *p)
{
    double s = 0;
    for (int i = 1; i < 2000000; i++) s += 1.0 / ((double)i * i);
    *(double *)p = s;
    return 0;
}
int main(void)
{
    pthread_t t[4];
    double s[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, f, &s[i]);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    for (int i = 0; i < 4; i++) if (fabs(s[i] - M_PI * M_PI / 6) > 1e-6 || s[i] != s[0]) return 1;
    puts("fine");
    return 0;
}
END
    for flags in "-O0" "-O2" "-O3 -march=x86-64-v3" "-O2 -static" "-O2 -mfpmath=387"; do
        gcc $flags -o c c.c -lm -pthread
        [ "$(./c)" = fine ]
    done
}

package() { # version: a package with a compiled program in it
    rm -rf pkg && mkdir -p pkg/DEBIAN pkg/usr/bin
    printf 'Package: lodge-hello\nVersion: %s\nArchitecture: amd64\nMaintainer: Lodge <root@localhost>\nDescription: test\n' \
        "$1" >pkg/DEBIAN/control
    printf '#include <stdio.h>\nint main(void) { puts("hello %s"); return 0; }\n' "$1" >h.c
    gcc -O2 -o pkg/usr/bin/lodge-hello h.c
    dpkg-deb --root-owner-group -b pkg "lodge-hello_$1_amd64.deb"
}

dpkg_() {
    package 1.0
    dpkg -i lodge-hello_1.0_amd64.deb
    [ "$(lodge-hello)" = "hello 1.0" ]
    dpkg --verify lodge-hello
    dpkg --audit
}

apt_() { # a repository on disk has version 2.0
    package 2.0
    mkdir -p /srv/repo && cp lodge-hello_2.0_amd64.deb /srv/repo/
    (cd /srv/repo && dpkg-deb -f lodge-hello_2.0_amd64.deb && echo "Filename: ./lodge-hello_2.0_amd64.deb" &&
        echo "Size: $(stat -c %s lodge-hello_2.0_amd64.deb)" &&
        echo "SHA256: $(sha256sum lodge-hello_2.0_amd64.deb | cut -d' ' -f1)") >Packages
    mv Packages /srv/repo/
    echo "deb [trusted=yes] file:/srv/repo ./" >/etc/apt/soak.list
    set -- -o Dir::Etc::sourcelist=/etc/apt/soak.list -o Dir::Etc::sourceparts=-
    apt-get "$@" update
    apt-get "$@" install -y lodge-hello
    [ "$(lodge-hello)" = "hello 2.0" ]
    apt-get "$@" remove -y lodge-hello
    if command -v lodge-hello; then return 1; fi
}

openssl_() {
    [ "$(printf abc | openssl dgst -sha256 -r | cut -c1-16)" = ba7816bf8f01cfea ]
    [ "$(printf abc | openssl dgst -sha512 -r | cut -c1-16)" = ddaf35a193617aba ]
    head -c 3000000 /dev/urandom >plain
    [ "$(openssl dgst -sha256 -r plain | cut -c1-64)" = "$(sha256sum plain | cut -c1-64)" ]
    for cipher in aes-128-cbc aes-256-ctr chacha20 camellia-256-cbc aria-128-cbc; do
        openssl enc -$cipher -pbkdf2 -pass pass:x -in plain -out secret
        openssl enc -d -$cipher -pbkdf2 -pass pass:x -in secret | cmp - plain
    done
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
    for key in rsa ec; do
        openssl pkey -in $key.pem -pubout -out $key.pub
        openssl dgst -sha256 -sign $key.pem -out sig plain
        openssl dgst -sha256 -verify $key.pub -signature sig plain
    done
    openssl genpkey -algorithm ED25519 -out ed.pem
    openssl req -x509 -new -key ed.pem -subj /CN=lodge -days 9 -out cert.pem
    openssl verify -CAfile cert.pem cert.pem
    openssl prime 170141183460469231731687303715884105727 | grep 'is prime'
    openssl speed -seconds 1 -bytes 8192 -evp aes-256-gcm
    openssl speed -seconds 1 -bytes 8192 sha256
    openssl speed -seconds 1 rsa2048 ecdsap256 ecdhx25519
}

stressor() {
    case $1 in
    cpu | vm | cache | matrix | fp | vecmath) ;;
    *) return 1 ;;
    esac
    more=""
    [ "$1" != vm ] || more="--vm-bytes 256M"
    stress-ng --verify --$1 2 $more --timeout "${stress}s" --metrics-brief
}

units() {
    [ -z "$(systemctl list-units --failed --no-legend --plain)" ] || { systemctl list-units --failed; return 1; }
}

kernel_log() { # the board has no PCI, and the kernel calls that fatal
    dmesg -k -l emerg,alert,crit,err | grep -v 'PCI: Fatal: No config space access' >bad || :
    dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|unstable|lockup|segfault|general protection|MCE|calibrate TSC' >>bad || :
    [ ! -s bad ] || { cat bad; return 1; }
}

step python python
step perl perl_
step gcc compiler
step dpkg dpkg_
step apt apt_
step openssl openssl_
for name in cpu vm cache matrix fp vecmath; do
    eval "s_$name() { stressor $name; }"
    step "stress-$name" "s_$name"
done
step units units
step dmesg kernel_log
cd /
rm -rf "$work"
echo SOAK-"END"
