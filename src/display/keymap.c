/*
 * Files of keyboard layouts, as the package qemu-system-data has them. A line is
 *
 *     KEYSYM NUMBER [shift] [altgr] [numlock] [addupper] [inhibit] [localstate]
 *
 * where NUMBER is a PC's scan code of set 1, with 80h added for those after E0h; "map NUMBER" and
 * comments (#) say nothing that is of use here; "include FILE" is another file of the folder.
 * addupper: the capital letter as well, with Shift. The other words are about how the viewer's
 * locks are followed, which nothing here does.
 */
#include "display/keymap.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/near.h"
#include "display/keys.h"
#include "display/keysyms.h"

enum {
    LINE = 256,
    WORDS = 10,
    MAX_ENTRIES = 8192,
    MAX_INCLUDES = 4,
    MAX_LAYOUTS = 128,
    /* Keysyms that are no characters. */
    FUNCTION_FIRST = 0xfe00,
    FUNCTION_LAST = 0xffff,
};

struct keymap_entry {
    uint32_t keysym;
    uint8_t code;
    bool shift, altgr;
};

struct keymap {
    struct keymap_entry *entry;
    unsigned count;
};

static const char *const folders[] = {"/usr/share/qemu/keymaps", "/usr/local/share/qemu/keymaps",
                                      "/usr/local/share/lodge/keymaps"};

/* ---- Reading ---- */

static void keymap_add(struct keymap *k, const struct keymap_entry *e)
{
    if (!e->keysym || !e->code || k->count == MAX_ENTRIES) {
        return;
    }
    if (!(k->count & (k->count - 1))) { /* a power of two: full */
        k->entry = alloc_resize(k->entry, k->count ? 2 * k->count : 1, sizeof(*k->entry));
    }
    k->entry[k->count++] = *e;
}

static bool has_word(char *const *word, unsigned count, const char *want)
{
    for (unsigned i = 2; i < count; i++) {
        if (!strcmp(word[i], want)) {
            return true;
        }
    }
    return false;
}

static void keymap_take(struct keymap *k, char *const *word, unsigned count)
{
    struct keymap_entry e = {.keysym = keysym_from_name(word[0]),
                             .code =
                                 (uint8_t)keys_from_scan_code((uint32_t)strtoul(word[1], NULL, 0)),
                             .shift = has_word(word, count, "shift"),
                             .altgr = has_word(word, count, "altgr")};
    keymap_add(k, &e);
    if (e.keysym >= 'a' && e.keysym <= 'z' && has_word(word, count, "addupper")) {
        e.keysym -= 'a' - 'A';
        e.shift = true;
        keymap_add(k, &e);
    }
}

static bool keymap_read(struct keymap *k, const char *folder, const char *name, unsigned depth)
{
    char path[512], line[LINE], *word[WORDS], *rest;
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path)) {
        return false;
    }
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        unsigned n = 0;
        for (char *w = strtok_r(line, " \t\r\n", &rest); w && *w != '#' && n < WORDS;
             w = strtok_r(NULL, " \t\r\n", &rest)) {
            word[n++] = w;
        }
        if (n < 2 || !strcmp(word[0], "map")) {
            continue;
        }
        if (strcmp(word[0], "include")) {
            keymap_take(k, word, n);
        } else if (depth < MAX_INCLUDES && !strchr(word[1], '/')) {
            keymap_read(k, folder, word[1], depth + 1);
        }
    }
    if (f) {
        fclose(f);
    }
    return f != NULL;
}

/* ---- Finding ---- */

/* The layout whose name is nearest, of those in a folder; false: there are none. */
static bool nearest(const char *folder, const char *language, char *name, size_t size)
{
    const char *names[MAX_LAYOUTS];
    struct dirent **list = NULL;
    int count = scandir(folder, &list, NULL, alphasort);
    unsigned n = 0;
    for (int i = 0; i < count; i++) {
        if (list[i]->d_name[0] != '.' && n < MAX_LAYOUTS) {
            names[n++] = list[i]->d_name;
        }
    }
    if (n) {
        snprintf(name, size, "%s", near_pick(language, names, n));
    }
    for (int i = 0; i < count; i++) {
        free(list[i]);
    }
    free(list);
    return n != 0;
}

static int keymap_missing(const char *language, struct err *err)
{
    char near[64];
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (nearest(folders[i], language, near, sizeof(near))) {
            return err_set(err, ENOENT,
                           "-k: there is no keyboard layout '%s' in %s; the nearest is "
                           "'%s'",
                           language, folders[i], near);
        }
    }
    return err_set(err, ENOENT,
                   "-k: keyboard layout '%s' needs the file %s/%s, which is in Debian's "
                   "package 'qemu-system-data' (or name the folder above 'keymaps' with -L)",
                   language, folders[0], language);
}

struct keymap *keymap_load(const char *language, const char *first, struct err *err)
{
    struct keymap *k = alloc_zero(sizeof(*k));
    AUTO_FREE char *own = first ? alloc_printf("%s/keymaps", first) : NULL;
    bool found = false;
    if (!*language || strchr(language, '/') || *language == '.') {
        err_set(err, EINVAL, "-k: '%s' is no name of a keyboard layout, as 'de' is one", language);
        keymap_free(k);
        return NULL;
    }
    found = own && keymap_read(k, own, language, 0);
    for (size_t i = 0; !found && i < ARRAY_LEN(folders); i++) {
        found = keymap_read(k, folders[i], language, 0);
    }
    if (!found && strcmp(language, "en-us")) {
        keymap_missing(language, err);
        keymap_free(k);
        return NULL;
    }
    return k;
}

void keymap_free(struct keymap *k)
{
    if (k) {
        free(k->entry);
        free(k);
    }
}

/* ---- Use ---- */

unsigned keymap_code(const struct keymap *k, uint32_t keysym, bool down,
                     const struct keymap_held *held)
{
    unsigned best = 0;
    if (!k || !k->count) {
        return keys_from_keysym(keysym);
    }
    for (unsigned i = 0; i < k->count; i++) {
        const struct keymap_entry *e = &k->entry[i];
        if (e->keysym != keysym) {
            continue;
        }
        if (down ? e->shift == held->shift && e->altgr == held->altgr
                 : held->key(held->opaque, e->code)) {
            return e->code;
        }
        best = best ? best : e->code;
    }
    bool function = keysym >= FUNCTION_FIRST && keysym <= FUNCTION_LAST;
    return best || !function ? best : keys_from_keysym(keysym);
}
