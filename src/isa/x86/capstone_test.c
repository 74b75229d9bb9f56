/*
 * Compares lengths with capstone on random bytes and on random instructions, in all three modes.
 * Where the two disagree the manual decided; what is left are errors and limits of capstone 4,
 * listed in `known` below with the reason.
 *
 * usage: capstone_test [COUNT [SEED]]
 */
#include "base/bits.h"
#include "isa/x86/capstone_side.h"
#include "isa/x86/disas.h"
#include "isa/x86/randinsn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sides {
    const uint8_t *code;
    unsigned mode;
    bool ours_ok, theirs_ok;
    const struct x86_insn *ours;
    const struct their_insn *theirs;
};

struct known {
    const char *why;
    bool (*applies)(const struct sides *s);
};

/* Position of the first byte that is no legacy prefix or REX. */
static unsigned opcode_at(const struct sides *s)
{
    unsigned i = 0;
    while (i < 14 && (memchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3", s->code[i], 11) ||
                      (s->mode == 8 && (s->code[i] & 0xf0) == 0x40))) {
        i++;
    }
    return i;
}

static bool has_prefix(const struct sides *s, const char *which)
{
    for (; *which; which++) {
        if (memchr(s->code, *which, opcode_at(s))) {
            return true;
        }
    }
    return false;
}

static bool theirs_is_one_of(const struct sides *s, const char *const *names, size_t n)
{
    const char *name = s->theirs->name;
    static const char *const noise[] = {"lock ", "rep ", "repne ", "repz "};
    for (size_t i = 0; i < ARRAY_LEN(noise); i++) {
        if (strncmp(name, noise[i], strlen(noise[i])) == 0) {
            name += strlen(noise[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (s->theirs_ok && strncmp(name, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Not in our table on purpose. */
static bool not_here(const struct sides *s)
{
    static const char *const names[] = {
        "vm",       "getsec", "femms",    "inv",      "skinit",   "stgi",        "clgi",
        "bnd",      "encl",   "xstore",   "xcrypt",   "montmul",  "xsha",        "clzero",
        "monitorx", "mwaitx", "clrssbsy", "setssbsy", "rstorssp", "saveprevssp", "incssp",
        "wrss",     "wruss",  "ptwrite",  "pswap",    "pf",       "pavgusb",     "pi2f",
        "pmulhrw",  "k",      "extrq",    "insertq",  "movntsd",  "movntss",     "pcommit",
        "rdssp",    "swapgs",
    };
    unsigned at = opcode_at(s);
    return !s->ours_ok && (theirs_is_one_of(s, names, ARRAY_LEN(names)) || s->code[at] == 0x8f ||
                           s->code[at] == 0x62);
}

/* SDM Vol. 2 notation NP; a processor of 2022 gives #UD for f3 0f fc, f2 0f 28, 66 0f 38 c8. */
static bool unwanted_prefix(const struct sides *s)
{
    return !s->ours_ok && s->theirs_ok && has_prefix(s, "\x66\xf2\xf3") &&
           s->code[opcode_at(s)] == 0x0f;
}

/* It takes 66 in 16-bit code for an operand size only, never for part of the opcode. */
static bool mode16_66(const struct sides *s)
{
    return s->ours_ok && s->mode == 2 && (!s->theirs_ok || s->theirs->len != s->ours->len) &&
           s->ours->map > 0 && (has_prefix(s, "\x66") || s->ours->simd_prefix);
}

/* Instructions younger than capstone 4, or hints it has no name for. */
static bool unknown_there(const struct sides *s)
{
    static const uint16_t ops[] = {
        X86_NOP,       X86_PREFETCHW,     X86_PREFETCHWT1,      X86_UD0,       X86_UD1,
        X86_GF2P8MULB, X86_GF2P8AFFINEQB, X86_GF2P8AFFINEINVQB, X86_MOVDIR64B, X86_MOVDIRI,
        X86_RDPKRU,    X86_WRPKRU,        X86_SERIALIZE,        X86_WBNOINVD,  X86_RDPID,
        X86_ENDBR32,   X86_ENDBR64,       X86_CLFLUSHOPT,       X86_CLWB,      X86_POPCNT,
        X86_SALC,
    };
    for (size_t i = 0; s->ours_ok && i < ARRAY_LEN(ops); i++) {
        if (s->ours->op == ops[i]) {
            return true;
        }
    }
    unsigned op = s->ours->op;
    return s->ours_ok && s->ours->vex_l &&
           ((op >= X86_AESENC && op <= X86_AESDECLAST) || op == X86_PCLMULQDQ);
}

/* mov to cs, from sreg 6 and 7, cr1, cr5 and so on, dr8 and above: #UD. */
static bool bad_special_register(const struct sides *s)
{
    unsigned at = opcode_at(s);
    return !s->ours_ok && s->theirs_ok &&
           (s->code[at] == 0x8e || s->code[at] == 0x8c ||
            (s->code[at] == 0x0f && s->code[at + 1] >= 0x20 && s->code[at + 1] <= 0x23));
}

/* Wrong W, L or vvvv, a gather without SIB or with one register twice; also AMD's FMA4. */
static bool vex_rules(const struct sides *s)
{
    unsigned at = opcode_at(s);
    return !s->ours_ok && s->theirs_ok && (s->code[at] & 0xfe) == 0xc4;
}

static bool lock_rules(const struct sides *s)
{
    return !s->ours_ok && s->theirs_ok && has_prefix(s, "\xf0");
}

/* Intel's processors ignore 66 at near branches in 64-bit mode, AMD's do not. */
static bool near_branch_66(const struct sides *s)
{
    return s->ours_ok && s->mode == 8 && s->ours->p66 &&
           (x86_form_flags(s->ours->form) & X86_FORM_F64);
}

/* The last of f2 and f3 wins over 66. */
static bool prefix_pairs(const struct sides *s)
{
    return s->ours_ok && !s->theirs_ok && s->ours->p66 && s->ours->rep;
}

static bool ignored_fields(const struct sides *s)
{
    unsigned op = s->ours->op;
    return s->ours_ok &&
           (op == X86_LFENCE || op == X86_MFENCE || op == X86_SFENCE ||
            (op == X86_MOV && s->ours->rex && s->ours->opnd[0].kind == X86_OPND_SEG) ||
            (op == X86_MOV && s->ours->rex && s->ours->opnd[1].kind == X86_OPND_SEG));
}

/* Plain errors: vbroadcasti128 unknown; 67 taken as an operand size by ret imm16. */
static bool plain_errors(const struct sides *s)
{
    return s->ours_ok &&
           (s->ours->op == X86_VBROADCASTI128 || (s->ours->op == X86_RET && has_prefix(s, "\x67")));
}

static const struct known known[] = {
    {"not in our table on purpose", not_here},
    {"takes a prefix that makes it #UD", unwanted_prefix},
    {"no mandatory prefix in 16-bit code", mode16_66},
    {"does not know the instruction", unknown_there},
    {"takes a register that does not exist", bad_special_register},
    {"takes a VEX prefix that makes it #UD", vex_rules},
    {"takes a lock prefix that makes it #UD", lock_rules},
    {"follows AMD for 66 at near branches", near_branch_66},
    {"does not know 66 together with f2 or f3", prefix_pairs},
    {"insists on fields that are ignored", ignored_fields},
    {"errors", plain_errors},
};

static bool expected(const struct sides *s, unsigned *hits)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].applies(s)) {
            hits[i]++;
            return true;
        }
    }
    return false;
}

static void print(const struct sides *s)
{
    struct strbuf text = {0};
    for (unsigned i = 0; i < 15; i++) {
        strbuf_add(&text, "%02x", s->code[i]);
    }
    strbuf_add(&text, " mode %u: ours %u ", s->mode, s->ours_ok ? s->ours->len : 0);
    if (s->ours_ok) {
        x86_disas(&text, s->ours, 0);
    }
    if (s->theirs_ok) {
        strbuf_add(&text, " | theirs %u %s", s->theirs->len, s->theirs->text);
    } else {
        strbuf_add(&text, " | theirs none");
    }
    printf("%s\n", strbuf_text(&text));
    strbuf_free(&text);
}

static void random_bytes(uint64_t *rng, unsigned mode, uint8_t code[16])
{
    uint64_t lo = x86_random_next(rng);
    uint64_t hi = x86_random_next(rng);
    memcpy(code, &lo, 8);
    memcpy(code + 8, &hi, 8);
    struct x86_random_opts opts = {.mode = mode, .extra_prefixes = true};
    switch (x86_random_next(rng) >> 60) {
    case 0: code[0] = 0x0f; break;
    case 1: code[0] = 0xc5; break;
    case 2:
        code[0] = 0xc4;
        code[1] = (code[1] & 0xe0) | (code[2] % 3 + 1);
        break;
    case 3:
        code[0] = 0x66;
        code[1] = 0x0f;
        code[2] = code[2] & 1 ? 0x38 : 0x3a;
        break;
    case 4: code[0] = 0xd8 + code[0] % 8; break;
    case 5:
        code[0] = 0xf3;
        code[1] = 0x0f;
        break;
    case 6:
    case 7:
    case 8: x86_random_insn(rng, &opts, code); break;
    }
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? atoi(argv[1]) : 300000;
    uint64_t rng = argc > 2 ? atoi(argv[2]) : 1;
    unsigned hits[ARRAY_LEN(known)] = {0};
    unsigned wrong = 0, same = 0;
    for (unsigned i = 0; i < count; i++) {
        struct x86_insn ours;
        struct their_insn theirs;
        uint8_t code[16];
        struct sides s = {.code = code, .mode = 2u << i % 3, .ours = &ours, .theirs = &theirs};
        random_bytes(&rng, s.mode, code);
        s.ours_ok = x86_decode(&ours, code, 15, s.mode) == X86_DECODE_OK;
        s.theirs_ok = capstone_decode(&theirs, code, 15, s.mode);
        if (s.ours_ok == s.theirs_ok && (!s.ours_ok || ours.len == theirs.len)) {
            same++;
        } else if (!expected(&s, hits)) {
            wrong++;
            if (wrong <= 60 || argc > 3) {
                print(&s);
            }
        }
    }
    printf("%u of %u agree, %u unexplained\n", same, count, wrong);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        printf("%8u known: %s\n", hits[i], known[i].why);
    }
    return wrong > 0;
}
