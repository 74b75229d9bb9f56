/* A file from which a guest's memory is filled: every read is bounded by its size. */
#ifndef BOARD_LOAD_FILE_H
#define BOARD_LOAD_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mem.h"

struct err;

struct load_file {
    const char *what; /* "kernel", "initial ramdisk": for sentences */
    const char *path;
    int fd;
    uint64_t size;
};

int load_file_open(struct load_file *f, const char *what, const char *path, struct err *err);
void load_file_close(struct load_file *f);
/* Fails with "... is truncated" when the range leaves the file. */
int load_file_read(const struct load_file *f, uint64_t off, void *buf, uint64_t len,
                   struct err *err);
int load_file_to_guest(const struct load_file *f, uint64_t off, struct mem_map *mem, gpa_t gpa,
                       uint64_t len, struct err *err);

#endif
