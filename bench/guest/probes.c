/*
 * Disk reads, timer latency and scaling over processors, for bench/machine.py; marks as in
 * bench/emulators.py.
 *
 *   probes [-w] [-d] [-f FILE] [-n THREADS] NAME ...
 *
 * -w waits for a line after each "MARK begin"; -d reads FILE past the page cache; -n is for
 * scale-*. The words after the checksum are CPU microseconds and, of latency-*, the median and the
 * 99th percentile in nanoseconds by this machine's clock.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "../kernels/cpu.h"

enum { BLOCK = 4096, READS = 12000, SLEEPS = 1500, MAX_THREADS = 8, PIECES = 64 };

struct options {
    const char *file;
    int direct;
    unsigned threads;
};

struct job {
    uint64_t (*run)(struct job *);
    int fd;
    unsigned number, count;
    uint64_t blocks, sum;
    volatile uint64_t *shared;
    int *pieces; /* left, of all threads' work; NULL: each thread runs once */
};

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Random reads of one block each. */
static uint64_t read_blocks(struct job *j)
{
    uint64_t x = 0x9e3779b97f4a7c15u + j->number, sum = 0;
    void *buffer;
    if (posix_memalign(&buffer, BLOCK, BLOCK)) {
        fail("memory");
    }
    for (unsigned i = 0; i < j->count; i++) {
        if (pread(j->fd, buffer, BLOCK, (off_t)(next_random(&x) % j->blocks) * BLOCK) != BLOCK) {
            fail("read");
        }
        sum += *(uint64_t *)buffer;
    }
    free(buffer);
    return sum;
}

/* Integer work in a table of 32 KiB, nothing shared. */
static uint64_t integer(struct job *unused)
{
    (void)unused;
    uint32_t table[8192];
    uint64_t x = 88172645463325252u, sum = 0;
    memset(table, 0, sizeof(table));
    for (unsigned i = 0; i < 4000000; i++) {
        uint32_t *p = &table[next_random(&x) % 8192];
        *p += (uint32_t)(x >> 32) + i;
        sum = (sum ^ *p) * 31 + (*p > sum ? 1 : 7);
    }
    return sum;
}

/* Some work of its own, then a counter that all share. */
static uint64_t atomics(struct job *j)
{
    uint64_t x = 88172645463325252u;
    for (unsigned i = 0; i < 200000; i++) {
        for (int k = 0; k < 8; k++) {
            next_random(&x);
        }
        __atomic_fetch_add(j->shared, 1, __ATOMIC_SEQ_CST);
    }
    return x;
}

/* Maps, touches and unmaps memory of the process that all share: other processors' TLBs must forget
 * it. */
static uint64_t mappings(struct job *unused)
{
    (void)unused;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 100; i++) {
        char *p = mmap(0, 4 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            fail("mmap");
        }
        for (int k = 0; k < 4; k++) {
            p[k * BLOCK] = (char)i;
            sum += (unsigned char)p[k * BLOCK];
        }
        munmap(p, 4 * BLOCK);
    }
    return sum;
}

static void *start(void *argument)
{
    struct job *j = argument;
    if (!j->pieces) {
        j->sum = j->run(j);
    }
    while (j->pieces && __atomic_fetch_sub(j->pieces, 1, __ATOMIC_SEQ_CST) > 0) {
        j->sum += j->run(j);
    }
    return 0;
}

/* N threads; the sum of their sums. They do PIECES pieces for each of them, who comes first, so
 * that a thread whose processor is away does not hold up the end; or one run each. */
static uint64_t in_threads(struct job job, unsigned threads, int each)
{
    struct job jobs[MAX_THREADS];
    pthread_t ids[MAX_THREADS];
    volatile uint64_t shared = 0;
    int pieces = (int)threads * PIECES;
    uint64_t sum = 0;
    for (unsigned i = 0; i < threads; i++) {
        jobs[i] = job;
        jobs[i].number = i;
        jobs[i].shared = &shared;
        jobs[i].pieces = each ? NULL : &pieces;
        if (pthread_create(&ids[i], 0, start, &jobs[i])) {
            fail("thread");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], 0);
        sum += jobs[i].sum;
    }
    return sum + shared;
}

static uint64_t disk(const struct options *o, unsigned threads)
{
    struct job job = {.run = read_blocks, .count = READS / threads};
    job.fd = open(o->file, O_RDONLY | (o->direct ? O_DIRECT : 0));
    off_t size = job.fd < 0 ? -1 : lseek(job.fd, 0, SEEK_END);
    if (size < BLOCK) {
        fail(o->file);
    }
    job.blocks = (uint64_t)size / BLOCK;
    uint64_t sum = in_threads(job, threads, 1);
    close(job.fd);
    return sum;
}

/* The process beside the sleeper: a loop, or a loop of system calls. */
static pid_t start_busy(int system_calls)
{
    pid_t pid = fork();
    if (pid == 0) {
        static char buffer[16384];
        int fd = open("/dev/zero", O_RDONLY);
        for (volatile unsigned long n = 0;; n++) {
            if (system_calls && read(fd, buffer, sizeof(buffer)) < 0) {
                _exit(1);
            }
        }
    }
    return pid;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* How much later than asked a process of high priority wakes while another is busy on the same
 * processor. */
static void latency(int system_calls, int64_t late[SLEEPS])
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    pid_t busy = start_busy(system_calls);
    struct sched_param priority = {.sched_priority = 50};
    sched_setscheduler(0, SCHED_FIFO, &priority);
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < SLEEPS; i++) {
        int64_t at = now_ns() + 200000 + (int64_t)(next_random(&x) % 1000000);
        struct timespec t = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0);
        late[i] = now_ns() - at;
    }
    kill(busy, SIGKILL);
    waitpid(busy, 0, 0);
    priority.sched_priority = 0;
    sched_setscheduler(0, SCHED_OTHER, &priority);
    qsort(late, SLEEPS, sizeof(late[0]), compare);
}

static uint64_t run(const char *name, const struct options *o, int64_t late[SLEEPS])
{
    if (!strcmp(name, "disk-1") || !strcmp(name, "disk-8")) {
        return disk(o, name[5] == '1' ? 1 : 8);
    }
    if (!strncmp(name, "latency-", 8)) {
        latency(!strcmp(name, "latency-calls"), late);
        return 0;
    }
    struct job job = {.run = !strcmp(name, "scale-integer")   ? integer
                             : !strcmp(name, "scale-atomics") ? atomics
                                                              : mappings};
    return in_threads(job, o->threads, 0);
}

static void measure(const char *name, const struct options *o, int wait)
{
    static int64_t late[SLEEPS];
    char c = 0;
    printf("MARK begin %s\n", name);
    fflush(stdout);
    while (wait && c != '\n' && read(0, &c, 1) == 1) {
    }
    long before = cpu_us();
    int64_t begin = now_ns();
    uint64_t sum = run(name, o, late);
    int64_t wall = now_ns() - begin;
    printf("MARK end %s %016lx %ld %ld", name, (unsigned long)sum, cpu_us() - before, (long)wall);
    if (!strncmp(name, "latency-", 8)) {
        printf(" %ld %ld", (long)late[SLEEPS / 2], (long)late[SLEEPS * 99 / 100]);
    }
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct options o = {.threads = 1};
    int wait = 0, option;
    while ((option = getopt(argc, argv, "wdf:n:")) != -1) {
        wait |= option == 'w';
        o.direct |= option == 'd';
        o.file = option == 'f' ? optarg : o.file;
        o.threads = option == 'n' ? (unsigned)atoi(optarg) : o.threads;
    }
    if (o.threads < 1 || o.threads > MAX_THREADS) {
        fail("threads");
    }
    struct termios t;
    if (tcgetattr(0, &t) == 0) {
        t.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSANOW, &t);
    }
    for (; optind < argc; optind++) {
        measure(argv[optind], &o, wait);
    }
    puts("MARK done");
    return 0;
}
