/*
 * Compares the decoder with `objdump -d` over a whole file: every length must agree, and the
 * mnemonics where both name an instruction the same way. Instructions that are #UD here by design
 * (EVEX, VMX and the like) are counted and skipped.
 *
 * usage: objdump_test [FILE [MODE]]; without FILE: what X86_OBJDUMP_FILE names (a vmlinux, say).
 */
#include "base/bits.h"
#include "isa/x86/disas.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 40 /* disagreements printed */

/* What the decoder refuses on purpose; by the first characters of objdump's mnemonic. */
static const char *const not_here[] = {
    "vmcall",   "vmlaunch",  "vmresume", "vmxoff",    "vmxon",     "vmptrld",   "vmptrst",
    "vmclear",  "vmread",    "vmwrite",  "vmfunc",    "vmrun",     "vmmcall",   "vmload",
    "vmsave",   "stgi",      "clgi",     "skinit",    "invlpga",   "invept",    "invvpid",
    "encls",    "enclu",     "tdcall",   "seamcall",  "pconfig",   "rstorssp",  "saveprevssp",
    "setssbsy", "clrssbsy",  "incssp",   "wrss",      "wruss",     "ptwrite",   "tpause",
    "umwait",   "umonitor",  "enqcmd",   "xsusldtrk", "xresldtrk", "senduipi",  "clui",
    "stui",     "testui",    "uiret",    "tdpb",      "tile",      "ldtilecfg", "sttilecfg",
    "getsec",   "vpdpb",     "vpdpw",    "ts",        "wrmsrlist", "rdmsrlist", "wrmsrns",
    "femms",    "pvalidate", "psmash",   "rmp",       "vmgexit",   "clzero",    "mcommit",
    "rdpru",    "monitorx",  "mwaitx",   "tlbsync",   "invlpgb",   "snp",       "llwpcb",
    "slwpcb",   ".byte",
};

struct counts {
    unsigned total, evex, skipped, wrong_len, other_name, prefix_only;
};

static bool starts_with_any(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strncmp(s, list[i], strlen(list[i])) == 0) {
            return true;
        }
    }
    return false;
}

static unsigned parse_bytes(const char *hex, uint8_t *code, const char **rest)
{
    unsigned n = 0;
    unsigned byte;
    while (n < 16 && hex[0] > ' ' && hex[2] == ' ' && sscanf(hex, "%2x", &byte) == 1) {
        code[n++] = byte;
        hex += 3;
    }
    *rest = hex + strspn(hex, " \t");
    return n;
}

static bool is_evex(const uint8_t *code, unsigned n, unsigned mode)
{
    for (unsigned i = 0; i < n; i++) {
        if (code[i] == 0x62) {
            return mode == 8 || (i + 1 < n && code[i + 1] >= 0xc0);
        }
        if (!strchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3", code[i])) {
            return false;
        }
    }
    return false;
}

/* Words objdump puts before the mnemonic. */
static const char *const noise[] = {"lock ",     "rep ",    "repz ",    "repnz ", "cs ",
                                    "ds ",       "es ",     "ss ",      "fs ",    "gs ",
                                    "data16 ",   "addr32 ", "notrack ", "bnd ",   "xacquire ",
                                    "xrelease ", "rex",     "addr16 ",  "data32 "};

static const char *skip_noise(const char *s)
{
    while (starts_with_any(s, noise, ARRAY_LEN(noise))) {
        const char *space = strchr(s, ' ');
        if (!space) {
            return "";
        }
        s = space + strspn(space, " ");
    }
    return s;
}

/* objdump's spelling: what to cut from the end, and pairs of names for one thing. */
static bool same_name(const char *theirs, size_t n, const char *ours)
{
    static const char *const pairs[][2] = {
        {"movabs", "mov"},        {"xchg", "nop"},
        {"iretd", "iret"},        {"iretq", "iret"},
        {"xlatb", "xlat"},        {"fwait", "fwait"},
        {"retf", "ret"},          {"prefetch", "prefetchw"},
        {"int1", "int1"},         {"cmpltss", "cmpss"},
        {"movsb", "movs"},        {"leave", "leave"},
        {"sysretd", "sysret"},    {"sysretq", "sysret"},
        {"sysexitd", "sysexit"},  {"sysexitq", "sysexit"},
        {"xsave64", "xsave"},     {"lea", "lea"},
        {"fldcw", "fldcw"},       {"swapgs", "swapgs"},
        {"retfq", "ret"},         {"retfd", "ret"},
        {"cldemote", "nop"},      {"pushfq", "pushf"},
        {"popfq", "popf"},        {"reservednop", "nop"},
        {"rdsspq", "nop"},        {"rdsspd", "nop"},
        {"movsxd", "movsxd"},     {"vmovq", "vmovd"},
        {"movq", "movd"},         {"bnd", "nop"},
        {"bndmov", "nop"},        {"fxsave64", "fxsave"},
        {"fxrstor64", "fxrstor"}, {"xrstor64", "xrstor"},
        {"xsaves64", "xsaves"},   {"xrstors64", "xrstors"},
        {"xsavec64", "xsavec"},   {"xsaveopt64", "xsaveopt"},
        {"ret", "ret"},
    };
    size_t len = strlen(ours);
    if (n == len && memcmp(theirs, ours, n) == 0) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (strlen(pairs[i][0]) == n && memcmp(theirs, pairs[i][0], n) == 0 &&
            strcmp(pairs[i][1], ours) == 0) {
            return true;
        }
    }
    /* cmpps with its predicate in the name; pclmulqdq likewise */
    return (strncmp(theirs, "cmp", 3) == 0 && strncmp(ours, "cmp", 3) == 0) ||
           (strncmp(theirs, "vcmp", 4) == 0 && strncmp(ours, "vcmp", 4) == 0) ||
           (strncmp(theirs, "pclmul", 6) == 0 && strncmp(ours, "pclmul", 6) == 0) ||
           (strncmp(theirs, "vpclmul", 7) == 0 && strncmp(ours, "vpclmul", 7) == 0);
}

static void check(struct counts *c, const uint8_t *code, unsigned n, const char *text,
                  unsigned mode);

/* objdump takes FWAIT for a prefix, and FWAIT FNINIT for FINIT (SDM Vol. 2A FINIT and its kin). */
static void check_wait(struct counts *c, const uint8_t *code, unsigned n, const char *name,
                       unsigned mode)
{
    static const char *const waits[] = {"finit", "fclex", "fstcw", "fstsw", "fstenv", "fsave"};
    char second[128];
    snprintf(second, sizeof(second), "%s%s",
             starts_with_any(name, waits, ARRAY_LEN(waits)) ? "fn" : "f", name + 1);
    check(c, code, 1, "fwait\n", mode);
    check(c, code + 1, n - 1, second, mode);
}

static void check(struct counts *c, const uint8_t *code, unsigned n, const char *text,
                  unsigned mode)
{
    struct x86_insn insn;
    const char *name = skip_noise(text);
    if (code[0] == 0x9b && n > 1 && name[0] == 'f') {
        check_wait(c, code, n, name, mode);
        return;
    }
    size_t name_len = strcspn(name, " \t\n");
    c->total++;
    if (name_len == 0) {
        c->prefix_only++;
        return;
    }
    if (is_evex(code, n, mode) || name[0] == 'k') { /* AVX-512 and its mask registers */
        c->evex++;
        return;
    }
    enum x86_decode_status status = x86_decode(&insn, code, n, mode);
    if (status != X86_DECODE_OK && name[0] == '(') {
        c->skipped++;
        return;
    }
    if (status == X86_DECODE_INVALID && starts_with_any(name, not_here, ARRAY_LEN(not_here))) {
        c->skipped++;
        return;
    }
    struct strbuf ours = {0};
    if (status == X86_DECODE_OK) {
        x86_disas_mnemonic(&ours, &insn);
    }
    bool len_ok = status == X86_DECODE_OK && insn.len == n;
    if (!len_ok) {
        c->wrong_len++;
    } else if (!same_name(name, name_len, strbuf_text(&ours))) {
        c->other_name++;
    } else {
        strbuf_free(&ours);
        return;
    }
    if (c->wrong_len + c->other_name <= SHOWN) {
        printf("  status %d length %u, not %u: %s | %s", status, insn.len, n, strbuf_text(&ours),
               text);
    }
    strbuf_free(&ours);
}

int main(int argc, char **argv)
{
    const char *file = argc > 1 ? argv[1] : getenv("X86_OBJDUMP_FILE");
    if (!file) {
        return 77; /* nothing to compare with: skipped */
    }
    unsigned mode = argc > 2 ? atoi(argv[2]) : 8;
    const char *machine = mode == 8 ? "i386:x86-64" : mode == 4 ? "i386" : "i8086";
    char command[4096];
    snprintf(command, sizeof(command),
             "objdump -d -m %s -M intel,intel64 --insn-width=16 --no-addresses '%s' 2>/dev/null",
             machine, file);
    FILE *f = popen(command, "r");
    if (!f) {
        return 77;
    }
    struct counts c = {0};
    char line[1024];
    while (fgets(line, sizeof(line), f)) {
        uint8_t code[16];
        const char *text;
        unsigned n = line[0] == '\t' ? parse_bytes(line + 1, code, &text) : 0;
        if (n > 0) {
            check(&c, code, n, text, mode);
        }
    }
    pclose(f);
    printf("%s: %u instructions, %u lengths differ, %u names differ; not compared: %u AVX-512, "
           "%u not in the table, %u lone prefixes\n",
           file, c.total, c.wrong_len, c.other_name, c.evex, c.skipped, c.prefix_only);
    return c.total == 0 ? 77 : c.wrong_len + c.other_name > 0;
}
