/* What the exerciser prints and reads: numbers, reports, dumps. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/strbuf.h"
#include "img/io.h"

int io_number(const char *text, uint64_t *out)
{
    struct err err;
    int ret = img_size("", text, out, &err);
    if (ret) {
        printf(ret == -ERANGE || ret == -EFBIG
                   ? "Parsing error: argument too large -- %s\n"
                   : "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- "
                     "%s\n",
               text);
    }
    return ret ? -EINVAL : 0;
}

int io_length(const char *text, uint64_t *out)
{
    int ret = io_number(text, out);
    if (!ret && *out > IO_REQUEST_MAX) {
        printf("length cannot exceed %llu, given %s\n", IO_REQUEST_MAX, text);
        return -EINVAL;
    }
    return ret;
}

int io_pattern(const struct io_call *c, uint8_t *byte)
{
    char *end;
    const char *text = c->value['P'];
    if (!text) {
        return 0;
    }
    unsigned long v = strtoul(text, &end, 0);
    if (end == text || *end || v > 255 || strchr(text, '-')) {
        printf("%s is not a valid pattern byte\n", text);
        return -EINVAL;
    }
    *byte = (uint8_t)v;
    return 0;
}

void io_size_text(struct strbuf *sb, double bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    char text[64];
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1024;
        unit++;
    }
    int n = snprintf(text, sizeof(text), "%.*f", unit ? 3 : 6, bytes);
    const char *zeros = unit ? ".000" : ".000000";
    size_t cut = strlen(zeros);
    if (n > (int)cut && !strcmp(text + n - cut, zeros)) {
        text[n - (int)cut] = 0;
    }
    strbuf_add(sb, "%s %s", text, units[unit]);
}

long long io_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void io_time_text(struct strbuf *sb, long long ns, bool full)
{
    unsigned secs = (unsigned)(ns / 1000000000), cents = (unsigned)(ns / 10000000 % 100);
    if (full || secs >= 60) {
        strbuf_add(sb, "%u:%02u:%02u.%02u", secs / 3600, secs / 60 % 60, secs % 60, cents);
    } else {
        strbuf_add(sb, "%02u.%02u sec", secs, cents);
    }
}

void io_report(const char *what, long long ns, uint64_t off, uint64_t len, unsigned ops,
               bool machine)
{
    struct strbuf size = {NULL}, rate = {NULL}, took = {NULL};
    double secs = (double)(ns > 0 ? ns : 1) / 1e9;
    io_size_text(&size, (double)len);
    io_size_text(&rate, (double)len / secs);
    io_time_text(&took, ns, machine);
    if (machine) {
        printf("%llu,%u,%s,%.3f,%.3f\n", (unsigned long long)len, ops, strbuf_text(&took),
               (double)len / secs, ops / secs);
    } else {
        printf("%s %llu/%llu bytes at offset %llu\n", what, (unsigned long long)len,
               (unsigned long long)len, (unsigned long long)off);
        printf("%s, %u ops; %s (%s/sec and %.4f ops/sec)\n", strbuf_text(&size), ops,
               strbuf_text(&took), strbuf_text(&rate), ops / secs);
    }
    strbuf_free(&size);
    strbuf_free(&rate);
    strbuf_free(&took);
}

void io_dump(const uint8_t *buf, uint64_t off, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += 16) {
        uint64_t n = len - at < 16 ? len - at : 16;
        printf("%08llx:  ", (unsigned long long)(off + at));
        for (uint64_t i = 0; i < n; i++) {
            printf("%02x ", buf[at + i]);
        }
        printf(" ");
        for (uint64_t i = 0; i < n; i++) {
            uint8_t ch = buf[at + i];
            printf("%c", ch < 128 && isalnum(ch) ? ch : '.');
        }
        printf("\n");
    }
}
