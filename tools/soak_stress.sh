#!/bin/sh
# What tools/soak stress4 runs inside the guest: soak_stress.sh SECONDS PATIENCE.
# At the same time: two lanes of stress-ng, which go through the list below in opposite directions, so that
# every pass has other pairs, and make -j4 over and over. One line for each thing that ended:
#   SOAK stress ok|absent|FAILED NAME OPS SECONDS        SOAK compile ok|FAILED ROUND OBJECTS SECONDS
# Absent: stress-ng says that this kernel or processor has not what it takes. What went before FAILED says why.
seconds=$1 patience=$2
export LC_ALL=C
end=$(($(date +%s) + seconds))
work=$(mktemp -d -p /dev/shm) # files of stressors: no load for the host's disk
chmod 1777 "$work"

# Left out: what fills memory until something dies (bigheap, brk, stack), what is only load for the disk or
# wants devices, modules or another network, what changes the machine (cpu-online, memhotplug, reboot, swap);
# resched, which in 0.15.06 does not wait for its processes when a second SIGALRM interrupts waitpid(): on a slow
# machine they count on and the counter is "corrupted" by one, on the host as well.
stressors='cpu vm:vm-bytes:64M cache matrix matrix-3d fp fp-error vecmath vecfp vecwide vecshuf fork exec
mmap:mmap-bytes:64M mremap:mremap-bytes:64M mprotect madvise mincore munmap mmapfixed mmapaddr mmapmany pagemove pipe
pipeherd ring-pipe switch futex mutex sem sem-sysv mq msg signal sigq sigchld sigfd sigfpe sigio sigpending sigpipe
sigrt sigsegv sigsuspend sigtrap sigabrt signest bad-altstack timer timerfd itimer hrtimers nanosleep clock hash qsort
mergesort heapsort radixsort shellsort bsearch lsearch tsearch hsearch tree list skiplist judy str wcs memcpy zlib
crypt malloc:malloc-bytes:64M shm shm-sysv fault clone:clone-max:64 pthread:pthread-max:64 vfork spawn daemon
zombie:zombie-max:64 wait exit-group poll epoll eventfd fifo sock sockpair sockfd udp sendfile splice tee vm-splice
vm-rw:vm-rw-bytes:16M vm-addr vm-segv atomic dekker peterson lockbus cacheline membarrier rseq context longjmp goto
branch funccall funcret icache opcode nop regs schedpolicy stream memrate:memrate-bytes:32M
memthrash tlb-shootdown mcontend misaligned x86cpuid x86syscall vdso tsc usersyscall userfaultfd:userfaultfd-bytes:16M
sysbadaddr get set ptrace pty prctl pkey personality seccomp session kcmp pidfd memfd:memfd-bytes:32M mlock remap rmap
getrandom zero null dentry dir rename flock lockf getdent symlink randlist sparsematrix jpeg'

before_end() { [ "$(date +%s)" -lt "$end" ]; }

stress() { # lane, entry of the list
    name=${2%%:*} begin=$(date +%s) out=$work/out$1 more= as=
    case $2 in *:*) more=$(echo "$2" | sed 's/[^:]*:\([^:]*\):\(.*\)/--\1 \2/') ;; esac
    [ "$name" != exec ] || as="setpriv --reuid 65534 --regid 65534 --clear-groups" # it refuses to run as root
    timeout -k 9 $(((each * 10 + 120) * patience)) $as stress-ng --verify --"$name" 2 $more --timeout "${each}s" \
        --metrics-brief --temp-path "$work" >"$out" 2>&1
    status=$?
    ops=$(awk -v name="$name" '/metrc/ && $4 == name && !n { n = $5 } END { printf "%d", n }' "$out")
    case $status in
    0)
        verdict=ok
        if grep -q 'No stress workers invoked' "$out"; then verdict=absent; fi
        ;;
    3 | 4) verdict=absent ;;
    *)
        if grep -q "unrecognized option '--$name'" "$out"; then
            verdict=absent
        else
            verdict=FAILED
            tail -n 30 "$out"
            echo "stress-ng --$name: status $status"
        fi
        ;;
    esac
    echo "SOAK stress $verdict $name $ops $(($(date +%s) - begin))"
}

lane() { # lane, entries
    n=$1
    shift
    while :; do
        for entry; do
            before_end || return
            stress "$n" "$entry"
        done
    done
}

bad() { # round, what is wrong; the files stay on the disk
    mkdir -p "/root/bad/$1"
    cp -r make.log check.log out "/root/bad/$1/"
    grep -v '^cc ' make.log | tail -n 20
    grep -v ': OK$' check.log | head -n 20
    echo "compile, round $1: $2 (/root/bad/$1 on the disk)"
    verdict=FAILED
}

# Objects and program must be those of SUMS, which the host's processor made with this compiler.
compile() {
    cd /root/compile || exit 1
    round=0 # with more of the processors than one of so many processes would get
    while before_end; do
        round=$((round + 1)) begin=$(date +%s) verdict=ok
        rm -f out/* && : >check.log
        timeout $((end - begin)) nice -n -5 make -k -j4 >make.log 2>&1
        status=$?
        if [ $status != 0 ] && [ $status != 124 ]; then
            bad $round "make: status $status"
        elif [ -n "$(find out -name '*.o')" ]; then
            sha256sum --ignore-missing -c SUMS >check.log 2>&1 || bad $round "other files than on the host"
        fi
        if [ $status = 0 ]; then
            [ "$(./out/prog | sha256sum)" = "$(cat PROG-SUM)" ] || bad $round "the program prints something else"
        fi
        echo "SOAK compile $verdict $round $(find out -name '*.o' | wc -l) $(($(date +%s) - begin))"
    done
}

# Stressors kill their own processes in every way; what dies by itself is found without the kernel's word.
echo 0 >/proc/sys/debug/exception-trace
set -- $stressors
each=$((seconds / $#))
[ $each -ge 3 ] || each=3
[ $each -le 20 ] || each=20
back=
for entry; do back="$entry $back"; done
compile &
lane 1 "$@" &
lane 2 $back &
wait
rm -rf "$work"
systemctl list-units --failed --no-legend --plain | sed 's/^/SOAK unit FAILED /'
dmesg -k -l emerg,alert,crit,err | grep -v 'PCI: Fatal: No config space access' | sed 's/^/SOAK dmesg FAILED /'
echo SOAK-"END"
