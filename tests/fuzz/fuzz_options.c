/*
 * The command line, option lists and their values. Input: a byte that says which; then text, in
 * which 0x01 divides words of a command line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/keyval.h"
#include "base/log.h"
#include "isa/x86/model.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/options.h"

static void command_line(char *text)
{
    char *argv[64] = {"lodge"};
    int argc = 1;
    struct options o = {0};
    struct err err;
    for (char *word = strtok(text, "\x01"); word && argc < 63; word = strtok(NULL, "\x01")) {
        argv[argc++] = word;
    }
    options_parse(&o, argc, argv, &err);
    options_free(&o);
    log_mask = LOG_ALWAYS;
}

static void list(const char *text, bool first)
{
    struct keyval kv = {0};
    struct err err;
    bool on;
    uint64_t v;
    if (!keyval_parse(&kv, text, first ? "first" : NULL, &err)) {
        for (size_t i = 0; i < kv.count; i++) {
            value_bool("fuzz", kv.pairs[i].value, &on, &err);
            value_u64("fuzz", kv.pairs[i].value, UINT64_MAX, &v, &err);
            value_size("fuzz", kv.pairs[i].value, 1 << 20, &v, &err);
            keyval_get(&kv, kv.pairs[i].key);
        }
        keyval_wants_help(&kv);
        keyval_remove(&kv, "first");
    }
    keyval_free(&kv);
}

static void model(const char *text)
{
    struct err err;
    free(x86_model_new(text, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[1024];
    if (size < 1 || size >= sizeof(text)) {
        return 0;
    }
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % 4) {
    case 0: command_line(text); break;
    case 1: list(text, true); break;
    case 2: list(text, false); break;
    default: model(text); break;
    }
    return 0;
}
