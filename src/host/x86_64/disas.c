/* Host code as text, for -d out_asm: by capstone where the program was built with it. */
#include <stdint.h>

#include "base/strbuf.h"
#include "host/x86_64/ctx.h"

#ifdef HAVE_CAPSTONE
#include <capstone/capstone.h>

static size_t disas_some(struct strbuf *sb, const uint8_t *code, size_t n, uint64_t at)
{
    csh handle;
    cs_insn *insn;
    size_t done = 0;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) {
        return 0;
    }
    size_t count = cs_disasm(handle, code, n, at, 0, &insn);
    for (size_t i = 0; i < count; i++) {
        strbuf_add(sb, "  %llx: %s %s\n", (unsigned long long)insn[i].address, insn[i].mnemonic,
                   insn[i].op_str);
        done += insn[i].size;
    }
    if (count) {
        cs_free(insn, count);
    }
    cs_close(&handle);
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
