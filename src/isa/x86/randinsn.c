#include "isa/x86/randinsn.h"

#include "base/bits.h"
#include "isa/x86/table.h"
#include <string.h>

#define TRIES 200       /* per form */
#define FORM_TRIES 4000 /* until a wanted one shows up */

enum { B_BIT = 1, X_BIT = 2, R_BIT = 4, W_BIT = 8 };

struct writer {
    uint8_t code[64];
    unsigned len;
};

uint64_t x86_random_next(uint64_t *rng)
{
    uint64_t z = *rng += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static unsigned below(uint64_t *rng, unsigned n)
{
    return (x86_random_next(rng) >> 32) % n;
}

static bool one_in(uint64_t *rng, unsigned n)
{
    return below(rng, n) == 0;
}

static void put(struct writer *w, unsigned byte)
{
    w->code[w->len++] = byte;
}

static unsigned pick(uint64_t *rng, uint8_t wanted, unsigned n)
{
    return wanted == X86_ANY ? below(rng, n) : wanted;
}

/* One of the set bits of a non-empty mask. */
static unsigned pick_bit(uint64_t *rng, unsigned mask)
{
    unsigned n = below(rng, __builtin_popcount(mask));
    while (n--) {
        mask &= mask - 1;
    }
    return __builtin_ctz(mask);
}

/* Immediates: often an end of the range. */
static void put_imm(struct writer *w, uint64_t *rng)
{
    static const uint8_t ends[] = {0, 1, 0x7f, 0x80, 0xff};
    bool end = one_in(rng, 3);
    uint8_t fill = ends[below(rng, ARRAY_LEN(ends))];
    for (unsigned i = 0; i < 16; i++) {
        put(w, end ? fill : below(rng, 256));
    }
}

static void put_disp(struct writer *w, int32_t disp, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        put(w, disp >> 8 * i & 0xff);
    }
}

/* r/m of 16-bit addressing for BX BP SI DI without index. */
static const int8_t rm16[8] = {-1, -1, -1, 7, -1, 6, 4, 5};

/* An index register from the allowed ones, or 4, which is none. */
static unsigned pick_index(uint64_t *rng, const struct x86_random_opts *opts)
{
    unsigned indexes = opts->indexes & (opts->mode == 8 ? 0xffef : 0xef);
    return indexes && one_in(rng, 2) ? pick_bit(rng, indexes) : 4;
}

/* ModRM with a base from the allowed ones. `xb` receives REX.X and B; REX.X of vsib forms stays as
 * it is. False: no base is possible. */
static bool put_based(struct writer *w, uint64_t *rng, const struct x86_random_opts *opts,
                      unsigned reg, bool vsib, uint8_t *xb)
{
    unsigned bases = opts->bases & (opts->mode == 8 ? 0xffff : opts->mode == 4 ? 0xff : 0xe8);
    if (!bases) {
        return false;
    }
    unsigned base = pick_bit(rng, bases);
    int32_t disp = opts->disp_min;
    if (opts->disp_max > opts->disp_min) {
        disp += (uint32_t)x86_random_next(rng) % ((uint32_t)opts->disp_max - opts->disp_min + 1);
    }
    bool small = disp == (int8_t)disp && one_in(rng, 2);
    unsigned mod = small ? 1 : 2;
    *xb = base >= 8;
    if (opts->mode == 2) {
        put(w, mod << 6 | reg << 3 | rm16[base]);
        put_disp(w, disp, small ? 1 : 2);
        return !vsib;
    }
    bool sib = vsib || (base & 7) == 4 || one_in(rng, 4);
    put(w, mod << 6 | reg << 3 | (sib ? 4 : base & 7));
    if (sib) {
        unsigned scale = below(rng, 4), index = vsib ? below(rng, 8) : pick_index(rng, opts);
        put(w, scale << 6 | (index & 7) << 3 | (base & 7));
        *xb |= index >= 8 ? X_BIT : 0;
    }
    put_disp(w, disp, small ? 1 : 4);
    return true;
}

/* Everything from the ModRM byte on. `rex` loses the bits the choice does not allow. */
static bool put_operands(struct writer *w, uint64_t *rng, const struct x86_random_opts *opts,
                         const struct x86_form *form, uint8_t *rex)
{
    const struct x86_select *sel = &form->sel;
    if (form->flags & X86_FORM_MODRM) {
        unsigned mod = pick(rng, sel->mod, 2);
        unsigned reg = pick(rng, sel->reg, 8);
        bool vsib = form->flags & X86_FORM_VSIB;
        if (mod == 1 || form->flags & X86_FORM_MODANY) {
            put(w, 0xc0 | reg << 3 | pick(rng, sel->rm, 8));
        } else if (opts->bases) {
            uint8_t xb = 0;
            if (!put_based(w, rng, opts, reg, vsib, &xb)) {
                return false;
            }
            *rex = (*rex & ~(B_BIT | (vsib ? 0 : X_BIT))) | xb;
        } else {
            put(w, below(rng, 3) << 6 | reg << 3 | (vsib ? 4 : pick(rng, sel->rm, 8)));
        }
    }
    put_imm(w, rng);
    return true;
}

static const uint8_t simd[4] = {0, 0x66, 0xf3, 0xf2};
static const uint8_t harmless[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0x66, 0xf2, 0xf3};

static void put_legacy_prefixes(struct writer *w, uint64_t *rng, const struct x86_random_opts *opts,
                                const struct x86_form *form)
{
    const struct x86_select *sel = &form->sel;
    if (opts->extra_prefixes && !opts->bases && one_in(rng, 4)) {
        put(w, harmless[below(rng, ARRAY_LEN(harmless))]);
    }
    if (sel->asize != X86_ANY && one_in(rng, 2)) {
        put(w, 0x67);
    }
    if (sel->prefix == 15) {
        if (one_in(rng, 4)) {
            put(w, 0x66);
        }
    } else {
        unsigned prefix = simd[pick_bit(rng, sel->prefix)];
        if (prefix) {
            put(w, prefix);
        }
        if (opts->extra_prefixes && prefix != 0x66 && one_in(rng, 8)) {
            put(w, 0x66);
        }
    }
    if (form->flags & X86_FORM_LOCK && opts->extra_prefixes && one_in(rng, 8)) {
        put(w, 0xf0);
    }
}

static void put_legacy_opcode(struct writer *w, uint64_t *rng, const struct x86_form *form,
                              unsigned mode, uint8_t rex)
{
    const struct x86_select *sel = &form->sel;
    if (mode == 8 && (rex || one_in(rng, 4))) {
        put(w, 0x40 | rex);
    }
    if (sel->map > 0) {
        put(w, 0x0f);
    }
    if (sel->map > 1) {
        put(w, sel->map == 2 ? 0x38 : 0x3a);
    }
    put(w, sel->opcode | (sel->low ? below(rng, 8) : 0));
}

static void put_vex(struct writer *w, uint64_t *rng, const struct x86_form *form, unsigned mode,
                    uint8_t rex)
{
    const struct x86_select *sel = &form->sel;
    unsigned vvvv = form->flags & X86_FORM_VVVV ? below(rng, mode == 8 ? 16 : 8) : 0;
    unsigned last = (vvvv ^ 15) << 3 | pick(rng, sel->l, 2) << 2 | pick_bit(rng, sel->prefix);
    if (mode != 8) {
        rex &= W_BIT;
    }
    if (sel->map == 1 && !(rex & ~R_BIT) && one_in(rng, 2)) {
        put(w, 0xc5);
        put(w, (rex & R_BIT ? 0 : 0x80) | last);
    } else {
        put(w, 0xc4);
        put(w, ((rex & 7) ^ 7) << 5 | sel->map);
        put(w, (rex & W_BIT ? 0x80 : 0) | last);
    }
    put(w, sel->opcode);
}

static uint8_t random_rex(uint64_t *rng, const struct x86_form *form, unsigned mode)
{
    uint8_t rex = one_in(rng, 2) ? below(rng, 8) : 0;
    if (form->sel.rexb != X86_ANY) {
        rex = (rex & ~B_BIT) | form->sel.rexb;
    }
    if (form->sel.w == X86_ANY ? one_in(rng, 3) : form->sel.w) {
        rex |= W_BIT;
    }
    return mode == 8 || form->flags & X86_FORM_VEX ? rex : 0;
}

/* One attempt; the decoder has the last word. */
static int attempt(uint64_t *rng, const struct x86_random_opts *opts, unsigned number,
                   uint8_t buf[16])
{
    const struct x86_form *form = &x86_forms[number];
    struct writer head = {0};
    struct writer tail = {0};
    uint8_t rex = random_rex(rng, form, opts->mode);
    if (!put_operands(&tail, rng, opts, form, &rex)) {
        return 0;
    }
    if (form->flags & X86_FORM_VEX) {
        put_vex(&head, rng, form, opts->mode, rex);
    } else {
        put_legacy_prefixes(&head, rng, opts, form);
        put_legacy_opcode(&head, rng, form, opts->mode, rex);
    }
    memcpy(head.code + head.len, tail.code, tail.len);
    struct x86_insn insn;
    if (x86_decode(&insn, head.code, head.len + tail.len, opts->mode) != X86_DECODE_OK ||
        insn.form != number) {
        return 0;
    }
    if (opts->bases && insn.seg != X86_SEG_NONE) {
        return 0;
    }
    memcpy(buf, head.code, 16);
    return insn.len;
}

int x86_random_of_form(uint64_t *rng, const struct x86_random_opts *opts, unsigned form,
                       uint8_t buf[16])
{
    uint8_t mode64 = x86_forms[form].sel.mode64;
    if (mode64 != X86_ANY && mode64 != (opts->mode == 8)) {
        return 0;
    }
    for (unsigned i = 0; i < TRIES; i++) {
        int len = attempt(rng, opts, form, buf);
        if (len) {
            return len;
        }
    }
    return 0;
}

int x86_random_insn(uint64_t *rng, const struct x86_random_opts *opts, uint8_t buf[16])
{
    for (unsigned i = 0; i < FORM_TRIES; i++) {
        unsigned form = below(rng, X86_FORM_COUNT);
        if (opts->want && !opts->want(opts->arg, form)) {
            continue;
        }
        int len = x86_random_of_form(rng, opts, form, buf);
        if (len) {
            return len;
        }
    }
    return 0;
}
