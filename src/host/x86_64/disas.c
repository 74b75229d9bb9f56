/*
 * Host code as text, for -d out_asm: by capstone where the program was built with it. The library
 * is opened when it is first wanted: its tables would cost every start seven milliseconds.
 */
#include <stdint.h>

#include "base/strbuf.h"
#include "host/x86_64/ctx.h"

#ifdef HAVE_CAPSTONE
#include <capstone/capstone.h>
#include <dlfcn.h>
#include <string.h>

struct capstone {
    cs_err (*open)(cs_arch, cs_mode, csh *);
    cs_err (*close)(csh *);
    size_t (*disasm)(csh, const uint8_t *, size_t, uint64_t, size_t, cs_insn **);
    void (*free)(cs_insn *, size_t);
};

static bool get(void *lib, const char *name, void *fn)
{
    void *sym = dlsym(lib, name);
    memcpy(fn, &sym, sizeof(sym));
    return sym;
}

static bool load(struct capstone *c)
{
    char name[32];
    snprintf(name, sizeof(name), "libcapstone.so.%d", CS_API_MAJOR);
    void *lib = dlopen(name, RTLD_NOW); /* stays open: dlopen finds it again */
    return lib && get(lib, "cs_open", &c->open) && get(lib, "cs_close", &c->close) &&
           get(lib, "cs_disasm", &c->disasm) && get(lib, "cs_free", &c->free);
}

static size_t disas_some(struct strbuf *sb, const uint8_t *code, size_t n, uint64_t at)
{
    struct capstone c;
    csh handle;
    cs_insn *insn;
    size_t done = 0;
    if (!load(&c) || c.open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) {
        return 0;
    }
    size_t count = c.disasm(handle, code, n, at, 0, &insn);
    for (size_t i = 0; i < count; i++) {
        strbuf_add(sb, "  %llx: %s %s\n", (unsigned long long)insn[i].address, insn[i].mnemonic,
                   insn[i].op_str);
        done += insn[i].size;
    }
    if (count) {
        c.free(insn, count);
    }
    c.close(&handle);
    return done;
}
#else
static size_t disas_some(struct strbuf *sb, const uint8_t *code, size_t n, uint64_t at)
{
    return 0;
}
#endif

/* What is no code (records of links) is shown as bytes, eight at a time. */
void host_disas(struct strbuf *sb, const uint8_t *code, size_t n, uint64_t at)
{
    for (size_t off = 0; off < n;) {
        size_t done = disas_some(sb, code + off, n - off, at + off);
        if (done == 0) {
            strbuf_add(sb, "  %llx: .byte", (unsigned long long)(at + off));
            for (; done < 8 && off + done < n; done++) {
                strbuf_add(sb, " %02x", code[off + done]);
            }
            strbuf_add(sb, "\n");
        }
        off += done;
    }
}
