/*
 * Runs kernels and marks their beginning and end, for bench/run.py.
 *
 *   kernels [-w] [-s PERCENT] [NAME ...]    kernels -l
 *
 * -w waits for a line on stdin after each "MARK begin", so that the reader can look at the
 * emulator's clock while the guest stands still. -s scales the amount of work. "MARK end" gives the
 * checksum and the CPU time of the program and its children in microseconds, as its own kernel
 * counts it: right natively, not in an emulator.
 */
#include "cpu.h"
#include "kernels.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const struct kernel *const groups[] = {integer_kernels, call_kernels,  memory_kernels,
                                              float_kernels,   simd_kernels,  system_kernels,
                                              string_kernels,  device_kernels};

static int in_microvm(void)
{
    char line[4096] = "";
    FILE *f = fopen("/proc/cmdline", "r");
    size_t n = f ? fread(line, 1, sizeof(line) - 1, f) : 0;
    line[n] = 0;
    if (f) {
        fclose(f);
    }
    return strstr(line, "lodge.run=") != NULL;
}

static int can_run(const struct kernel *k)
{
    switch (k->needs) {
    case NEEDS_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case NEEDS_MICROVM: return in_microvm();
    default: return 1;
    }
}

static void wait_for_line(void)
{
    char c = 0;
    while (c != '\n' && read(0, &c, 1) == 1) {
    }
}

static void run(const struct kernel *k, int wait, double percent)
{
    unsigned long n = (unsigned long)((double)k->n * percent / 100 + 0.5);
    printf("MARK begin %s\n", k->name);
    fflush(stdout);
    if (wait) {
        wait_for_line();
    }
    long start = cpu_us();
    uint64_t sum = k->run(n ? n : 1);
    printf("MARK end %s %016lx %ld\n", k->name, (unsigned long)sum, cpu_us() - start);
    fflush(stdout);
}

static int wanted(const struct kernel *k, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], k->name) || !strcmp(argv[i], k->group)) {
            return 1;
        }
    }
    return argc == 0;
}

static void no_echo(void)
{
    struct termios t;
    if (tcgetattr(0, &t) == 0) {
        t.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSANOW, &t);
    }
}

int main(int argc, char **argv)
{
    int wait = 0, list = 0, option;
    double percent = 100;
    if (argc == 2 && !strcmp(argv[1], "nothing")) {
        return 0;
    }
    while ((option = getopt(argc, argv, "wls:")) != -1) {
        wait |= option == 'w';
        list |= option == 'l';
        percent = option == 's' ? atof(optarg) : percent;
    }
    no_echo();
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        for (const struct kernel *k = groups[g]; k->name; k++) {
            if (list) {
                printf("%s %s\n", k->group, k->name);
            } else if (can_run(k) && wanted(k, argc - optind, argv + optind)) {
                run(k, wait, percent);
            }
        }
    }
    puts("MARK done");
    return 0;
}
