/*
 * Reads and writes of a disk past the page cache, timed: disks FILE. For each kind of access it
 * waits for a line, works, and prints "DISK NAME BYTES NS SUM".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 16, MAX_BYTES = 256 << 10 };

struct kind {
    const char *name;
    int write, depth;
    uint32_t bytes, count;
    int random;
};

static const struct kind kinds[] = {
    {"read-4k-1", 0, 1, 4096, 8000, 1},      {"read-4k-16", 0, 16, 4096, 16000, 1},
    {"write-4k-1", 1, 1, 4096, 8000, 1},     {"write-4k-16", 1, 16, 4096, 16000, 1},
    {"read-256k", 0, 1, 256 << 10, 1024, 0}, {"write-256k", 1, 1, 256 << 10, 1024, 0},
};

struct job {
    const struct kind *k;
    int fd, number;
    uint64_t blocks, sum;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *work(void *arg)
{
    struct job *j = arg;
    const struct kind *k = j->k;
    uint64_t *buf, r = 12345 + (uint64_t)j->number;
    if (posix_memalign((void **)&buf, 4096, k->bytes)) {
        fail("memory");
    }
    memset(buf, 0x5a, k->bytes);
    for (uint32_t i = 0; i < k->count / (uint32_t)k->depth; i++) {
        r = r * 6364136223846793005u + 1442695040888963407u;
        uint64_t at = (k->random ? (r >> 20) % j->blocks : i % j->blocks) * k->bytes;
        buf[0] = k->write ? at : 0;
        ssize_t n = k->write ? pwrite(j->fd, buf, k->bytes, (off_t)at)
                             : pread(j->fd, buf, k->bytes, (off_t)at);
        if (n != (ssize_t)k->bytes) {
            fail(k->name);
        }
        j->sum += buf[0] + buf[k->bytes / 8 - 1];
    }
    free(buf);
    return NULL;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char **argv)
{
    struct termios t;
    char line[16];
    int fd = open(argv[1], O_RDWR | O_DIRECT);
    off_t size = lseek(fd, 0, SEEK_END);
    if (fd < 0 || size < MAX_BYTES) {
        fail(argv[1]);
    }
    if (tcgetattr(0, &t) == 0) {
        t.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSANOW, &t);
    }
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        const struct kind *k = &kinds[i];
        struct job jobs[MAX_DEPTH];
        pthread_t ids[MAX_DEPTH];
        uint64_t sum = 0;
        if (i == 0) { /* once before, so that what is timed finds its code translated */
            struct kind warm = *k;
            warm.count /= 4;
            work(&(struct job){&warm, fd, 99, (uint64_t)size / k->bytes, 0});
        }
        printf("WAIT %s\n", k->name);
        fflush(stdout);
        if (!fgets(line, sizeof(line), stdin)) {
            return 1;
        }
        int64_t begin = now_ns();
        for (int n = 0; n < k->depth; n++) {
            jobs[n] = (struct job){k, fd, n, (uint64_t)size / k->bytes, 0};
            if (pthread_create(&ids[n], NULL, work, &jobs[n])) {
                fail("thread");
            }
        }
        for (int n = 0; n < k->depth; n++) {
            pthread_join(ids[n], NULL);
            sum += jobs[n].sum;
        }
        if (k->write && fsync(fd)) {
            fail("fsync");
        }
        printf("DISK %s %llu %lld %llx\n", k->name, (unsigned long long)k->bytes * k->count,
               (long long)(now_ns() - begin), (unsigned long long)sum);
        fflush(stdout);
    }
    puts("DISK done");
    return 0;
}
