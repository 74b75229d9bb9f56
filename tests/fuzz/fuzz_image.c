/*
 * Disk images of one format (FUZZ_FORMAT): whatever is in the file, opening, looking, reading,
 * checking, writing, repairing must end in good order. Input: the file's size, then pieces with
 * their offsets, so that images with holes stay small.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_block.h"

enum { MAX_FILE = 64 << 20, LOOK = 64 << 10, PIECE = 64 << 10, STEPS = 128 };

static struct fuzz_block fb;
static uint8_t buf[PIECE];

/* ---- The file ---- */

static void put_pieces(int fd, const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    uint32_t bytes = fuzz_u32(&in);
    if (ftruncate(fd, 0) || ftruncate(fd, bytes % (MAX_FILE + 1))) {
        abort();
    }
    while (in.p < in.end) {
        uint32_t at = fuzz_u32(&in) % MAX_FILE, n = fuzz_u16(&in);
        size_t left = (size_t)(in.end - in.p);
        n = n < left ? n : (uint32_t)left;
        if (pwrite(fd, in.p, n, at) != (ssize_t)n) {
            abort();
        }
        in.p += n;
    }
}

static void fix_sum(int fd, off_t at, size_t n, size_t field, uint32_t (*sum)(uint8_t *, size_t))
{
    uint8_t *p = calloc(1, n);
    if (at >= 0 && p && pread(fd, p, n, at) == (ssize_t)n) {
        memset(p + field, 0, 4);
        store_le32(p + field, sum(p, n));
        if (pwrite(fd, p + field, 4, at + (off_t)field) != 4) {
            abort();
        }
    }
    free(p);
}

static uint32_t sum_vpc(uint8_t *p, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += p[i];
    }
    return __builtin_bswap32(~sum);
}

static uint32_t sum_vhdx(uint8_t *p, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
    }
    return ~crc;
}

/* A guess never makes a checksum right; numbers of iterations are work by design. */
static void make_plausible(int fd)
{
    uint8_t few[4] = {0, 0, 0, 4};
    off_t size = lseek(fd, 0, SEEK_END);
    if (!strcmp(FUZZ_FORMAT, "vpc")) {
        fix_sum(fd, 0, 512, 64, sum_vpc);
        fix_sum(fd, size - 512, 512, 64, sum_vpc);
    } else if (!strcmp(FUZZ_FORMAT, "vhdx")) {
        fix_sum(fd, 64 << 10, 4096, 4, sum_vhdx);
        fix_sum(fd, 192 << 10, 64 << 10, 4, sum_vhdx);
    } else if (!strcmp(FUZZ_FORMAT, "luks") && size >= 592) {
        for (off_t at = 164; at < 592; at = at == 164 ? 212 : at + 48) {
            if (pwrite(fd, few, 4, at) != 4) {
                abort();
            }
        }
    }
}

static void make_file(const uint8_t *data, size_t size)
{
    put_pieces(fb.fd, data, size);
    make_plausible(fb.fd);
}

/* ---- What is done to it ---- */

static struct block *open_it(unsigned flags)
{
    struct err err;
    struct keyval opts = {0};
    if (!strcmp(FUZZ_FORMAT, "luks") && !(flags & BLOCK_NO_IO)) {
        keyval_add(&opts, "key-secret", "s");
    }
    flags |= BLOCK_NO_FLUSH; /* the host need not keep it */
    struct block *b = block_open_name(fb.g, fb.name, FUZZ_FORMAT, &opts, flags, &err);
    keyval_free(&opts);
    return b;
}

static void read_run(struct block *b, uint64_t from, uint64_t to)
{
    while (from < to) {
        size_t n = to - from < PIECE ? to - from : PIECE;
        block_pread(b, from, buf, n);
        from += n;
    }
}

static void read_ends(struct block *b)
{
    uint64_t size = block_size(b), head = size < LOOK ? size : LOOK;
    read_run(b, 0, head);
    read_run(b, size - head > head ? size - head : head, size);
}

static void walk_extents(struct block *b)
{
    uint64_t size = block_size(b);
    unsigned steps = 0;
    for (uint64_t at = 0; at < size && steps < STEPS; steps++) {
        struct block_extent e;
        if (block_extent_chain(b, NULL, at, size - at, &e)) {
            at += block_granule(b);
            continue;
        }
        if (!e.len || e.len > size - at) {
            abort();
        }
        if (e.flags & EXTENT_DATA) {
            read_run(b, at, at + (e.len < 512 ? e.len : 512));
        }
        at += e.len;
    }
}

static void look_at_snapshots(struct block *b)
{
    struct err err;
    struct block_snapshot *list;
    size_t count;
    if (block_snapshots(b, &list, &count)) {
        return;
    }
    for (size_t i = 0; i < count && i < 3; i++) {
        if (!block_snapshot_view(b, list[i].id, &err)) {
            block_vmstate_read(b, 0, buf, 512);
            read_ends(b);
            walk_extents(b);
        }
    }
    block_snapshots_free(list, count);
}

static void look(unsigned flags)
{
    struct err err;
    struct block_info info;
    struct check_report r = {0};
    struct block *b = open_it(flags);
    if (!b) {
        return;
    }
    if (!block_get_info(b, &info, &err)) {
        block_info_free(&info);
    }
    if (!(flags & BLOCK_NO_IO)) {
        read_ends(b);
        walk_extents(b);
        block_check(b, 0, &r, &err);
        look_at_snapshots(b);
    }
    block_close(b);
}

static void write_at(struct block *b, uint64_t at, size_t n)
{
    if (at <= block_size(b) && n <= block_size(b) - at) {
        memset(buf, 0x5a, n);
        block_pwrite(b, at, buf, n, 0);
    }
}

static void change_snapshots(struct block *b)
{
    struct err err;
    struct block_snapshot *list, s = {.name = (char *)"new"};
    size_t count;
    if (block_snapshots(b, &list, &count)) {
        return;
    }
    block_snapshot_create(b, &s, &err);
    if (count) {
        block_snapshot_apply(b, list[0].id, &err);
        write_at(b, 0, 700);
        block_snapshot_delete(b, list[0].id, &err);
    }
    block_snapshots_free(list, count);
}

static void change_bitmaps(struct block *b)
{
    struct err err;
    struct block_bitmap *m = block_bitmaps(b);
    if (m && m->next) {
        block_bitmap_merge(b, m->name, m->next, &err);
    }
    if (m) {
        block_bitmap_change(b, BITMAP_REMOVE, m->name, 0, false, &err);
    }
}

static void change(void)
{
    struct err err;
    struct block *b = open_it(BLOCK_RDWR | BLOCK_RESIZE | BLOCK_UNMAP);
    if (!b) {
        return;
    }
    uint64_t size = block_size(b), end = size < 1024 ? 0 : size - 1024;
    write_at(b, 0, 512);
    write_at(b, 1000, 5000);
    write_at(b, end, 600);
    block_zero(b, size / 2, size / 2 < 4096 ? size / 2 : 4096, BLOCK_MAY_UNMAP);
    block_discard(b, 0, size < 8192 ? size : 8192);
    change_snapshots(b);
    change_bitmaps(b);
    block_flush(b);
    if (size < 1 << 24) {
        block_truncate(b, size + 65536, PREALLOC_OFF, &err);
        write_at(b, size, 512);
    }
    read_ends(b);
    block_close(b);
}

static void repair(void)
{
    struct err err;
    struct check_report r = {0};
    struct block *b = open_it(BLOCK_RDWR | BLOCK_CHECK);
    if (b) {
        block_check(b, REPAIR_LEAKS | REPAIR_ERRORS, &r, &err);
        block_close(b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_block_open(&fb);
    make_file(data, size);
    look(0);
    look(BLOCK_NO_IO);
    change();
    make_file(data, size);
    repair();
    look(0);
    return 0;
}
