#!/bin/bash
# Runs applications and marks their beginning and end (bench/emulators.py has the marks).
#   apps.sh [-w] [NAME ...]      apps.sh -l
# -w waits for a line at each mark. Every application is a function app_NAME that writes to stdout; what it
# needs is made before its mark. Inputs are beside this script, on a tmpfs. The last word of a mark is
# the CPU time in microseconds, as the kernel counts it: right natively, not in an emulator.
export LC_ALL=C PATH=/usr/bin:/bin:/usr/sbin:/sbin PYTHONHASHSEED=0 HOME=/ TIMEFORMAT='%U %S'
cd "$(dirname "$0")" || exit 1

app_gzip() { gzip -8 -n -c text; }
app_bzip2() { head -c 3000000 text | bzip2 -c; }
app_xz() { head -c 700000 text | xz -6 -T1 -c; }
app_zstd() { zstd -9 --single-thread -q -c text; }
prep_gunzip() { [ -f text.gz ] || for _ in 1 2 3 4 5 6; do gzip -1 -n -c text; done >text.gz; }
app_gunzip() { gzip -d -c text.gz | tail -c 1000; }
prep_unxz() { [ -f text.xz ] || for _ in 1 2 3 4 5 6; do head -c 1500000 text | xz -0 -c; done >text.xz; }
app_unxz() { xz -d -c text.xz | tail -c 1000; }
app_perl() { perl words.pl text; }
app_python3() { python3 -I work.py; }
app_cc1-first() { gcc -O2 -S -o - program.c; }
app_cc1-second() { gcc -O2 -S -o - program.c; }
app_sort() { sort --parallel=1 -S 100M lines; }
app_sqlite3() { sqlite3 :memory: <work.sql; }
app_bash() { bash words.sh; }
prep_sha512() { [ -f big ] || for _ in $(seq "${1:-30}"); do cat text; done >big; }
app_sha512() { openssl dgst -sha512 -r big; }
prep_aes() { prep_sha512; }
app_aes() { openssl enc -aes-256-cbc -K 0123456789abcdef -iv 0123456789abcdef -in big 2>/dev/null | tail -c 1000; }
app_rsa() { for _ in 1 2 3 4; do openssl dgst -sha256 -sign rsa.pem -hex words.pl; done; }
# Many short processes, as in scripts that configure and build: each one has its programs and libraries
# at other addresses than the one before.
app_exec-ls() { for _ in {1..60}; do ls -a /usr; done | tail -5; }
app_exec-perl() { for i in {1..30}; do perl -e 'print $ARGV[0] * 2, "\n"' "$i"; done; }
app_pipes() { for i in {1..20}; do sed -n "${i}p" words.pl | tr a-z A-Z | sort | cut -c1-20; done; }

groups='compress gzip,compress bzip2,compress xz,compress zstd,compress gunzip,compress unxz
interpreters perl,interpreters python3,interpreters bash,compiler cc1-first,compiler cc1-second
data sort,data sqlite3,crypto sha512,crypto aes,crypto rsa
processes exec-ls,processes exec-perl,processes pipes'
groups=${groups//,/$'\n'}

pause() { [ -z "$wait" ] || read -r _; }

run() {
    local name=$1 used status
    ! declare -F "prep_$name" >/dev/null || "prep_$name"
    echo "MARK begin $name"
    pause
    used=$({ time "app_$name" >out 2>err; } 2>&1)
    status=$?
    echo "MARK end $name"
    pause
    if [ $status = 0 ] && [ -s out ]; then
        set -- $(sha256sum out | cut -c-16) $used
        echo "MARK sum $name $1 $(echo "$2 $3" | awk '{ printf "%d", ($1 + $2) * 1000000 }')"
    else
        echo "MARK sum $name failed-$status 0 $(tail -c 200 err | tr '\n' ' ')"
    fi
    rm -f out err
}

wait=
if [ "${1:-}" = -l ]; then
    echo "$groups"
    exit
fi
if [ "${1:-}" = -w ]; then
    shift
    wait=yes
    stty -echo
fi
# What they run and read comes from the page cache: this is not about the disk.
cat $(command -v gzip bzip2 xz zstd perl python3 gcc sort sqlite3 openssl awk ls sed tr cut tail) /usr/lib/gcc/x86_64-linux-gnu/*/cc1 \
    /usr/lib/x86_64-linux-gnu/lib{c,crypto,ssl,sqlite3,mpfr,gmp,isl,lzma}.so.* >/dev/null 2>&1
for name in ${*:-$(echo "$groups" | cut -d' ' -f2)}; do
    run "$name"
done
echo MARK done
