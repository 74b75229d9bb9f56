/*
 * Names and options of block nodes as they come from a command line: "json:{...}", names with a
 * protocol, dotted options. Input: one string for each line: the name, then key=value.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_block.h"

enum { MAX_TEXT = 4096 };

static struct fuzz_block fb;

/* What would leave the process, or wait as long as a limit of a byte in a second says: it is not
 * tried. */
static bool goes_out(const char *text)
{
    static const char *const words[] = {"nbd", "http",  "ftp",   "log", "/",
                                        "\\",  "debug", "trace", "bps", "iops"};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcasestr(text, words[i])) {
            return true;
        }
    }
    return false;
}

/* "@" stands for the file there is. */
static char *with_name(const char *text, size_t len)
{
    char *out = calloc(1, len * sizeof(fb.name) + 1), *at = out;
    for (size_t i = 0; i < len; i++) {
        const char *piece = text[i] == '@' ? fb.name : (char[]){text[i], 0};
        size_t n = strlen(piece);
        memcpy(at, piece, n);
        at += n;
    }
    return out;
}

static void open_with(char *text)
{
    struct err err;
    struct keyval opts = {0};
    char *save, *name = strtok_r(text, "\n", &save), byte;
    for (char *line; name && (line = strtok_r(NULL, "\n", &save));) {
        char *eq = strchr(line, '=');
        if (eq) {
            *eq = 0;
            keyval_add(&opts, line, eq + 1);
        }
    }
    struct block *b = name ? block_open_name(fb.g, name, NULL, &opts, 0, &err) : NULL;
    if (b) {
        struct block_info info;
        block_pread(b, 0, &byte, block_size(b) ? 1 : 0);
        if (!block_get_info(b, &info, &err)) {
            block_info_free(&info);
        }
    }
    block_close(b);
    keyval_free(&opts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_block_open(&fb);
    if (ftruncate(fb.fd, 65536) || size > MAX_TEXT || memchr(data, 0, size)) {
        return 0;
    }
    AUTO_FREE char *plain = calloc(1, size + 1);
    memcpy(plain, data, size);
    if (!goes_out(plain)) {
        AUTO_FREE char *text = with_name(plain, size);
        open_with(text);
    }
    return 0;
}
