/*
 * The modules of a Multiboot kernel: -initrd "FILE ARGUMENTS,FILE ARGUMENTS", a comma of its own
 * written twice. Each is page aligned (Multiboot 0.6.96 §3.1.2).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/err.h"
#include "board/load_multiboot.h"

/* The text up to the next single comma, doubled ones made one; the caller frees it. */
static char *next_text(const char **list)
{
    const char *s = *list;
    char *text = alloc_zero(strlen(s) + 1);
    size_t n = 0;
    while (*s && (*s != ',' || s[1] == ',')) {
        s += *s == ',';
        text[n++] = *s++;
    }
    *list = *s ? s + 1 : NULL;
    return text;
}

static int load_module(struct x86_load *l, struct multiboot_module *m, uint64_t *at, uint64_t limit,
                       struct err *err)
{
    struct load_file f;
    size_t name_len = strcspn(m->text, " ");
    char *path = alloc_printf("%.*s", (int)name_len, m->text);
    int ret = load_file_open(&f, "module", path, err);
    if (!ret) {
        if (*at > limit || f.size > limit - *at) {
            ret = err_set(err, ENOMEM,
                          "the module '%s' (%llu MiB) does not fit behind the kernel (see -m)",
                          path, (unsigned long long)(f.size >> 20));
        } else {
            ret = load_file_to_guest(&f, 0, l->mem, *at, f.size, err);
            m->start = (uint32_t)*at;
            m->end = (uint32_t)(*at + f.size);
            *at = round_up(*at + f.size, 4096);
        }
        load_file_close(&f);
    }
    free(path);
    return ret;
}

int multiboot_load_modules(struct x86_load *l, struct multiboot *mb, uint64_t at, uint64_t limit,
                           uint64_t *end, struct err *err)
{
    const char *list = l->initrd;
    int ret = 0;
    while (!ret && list) {
        if (mb->modules == MULTIBOOT_MAX_MODULES) {
            return err_set(err, E2BIG, "-initrd: a kernel gets at most %d modules",
                           MULTIBOOT_MAX_MODULES);
        }
        struct multiboot_module *m = &mb->module[mb->modules++];
        m->text = next_text(&list);
        ret = load_module(l, m, &at, limit, err);
    }
    *end = at;
    return ret;
}

void multiboot_free(struct multiboot *mb)
{
    for (unsigned i = 0; i < mb->modules; i++) {
        free(mb->module[i].text);
    }
    mb->modules = 0;
}
