/*
 * The hostvec table against the decoder: a random vector or x87 instruction, encoded again from its
 * id as ir/hostvec.h describes, must decode to the same operands.
 */
#include "ir/hostvec.h"

#include "base/strbuf.h"
#include "base/unit_test.h"
#include "isa/x86/disas.h"
#include "isa/x86/randinsn.h"
#include <string.h>

struct encoding {
    uint8_t code[16];
    unsigned len;
};

static void put(struct encoding *e, unsigned byte)
{
    e->code[e->len++] = byte;
}

static const uint8_t prefixes[4] = {0, 0x66, 0xf3, 0xf2};

/* Prefixes to ModRM; rxb: high bits of the register numbers. */
static struct encoding encode(const struct x86_insn *in, const struct hostvec_info *info,
                              unsigned rxb)
{
    struct encoding e = {.len = 0};
    unsigned w = info->w == HV_W_OPERAND ? in->rex_w : info->w;
    if (in->addrsize == 4) {
        put(&e, 0x67);
    }
    if (in->vex) {
        unsigned vvvv = info->flags & HVF_VVVV ? in->vvvv : 0;
        put(&e, 0xc4);
        put(&e, (rxb ^ 7) << 5 | info->map);
        put(&e, w << 7 | (vvvv ^ 15) << 3 | in->vex_l << 2 | info->pp);
    } else {
        if (info->pp) {
            put(&e, prefixes[info->pp]);
        }
        if (w && info->w == HV_W_OPERAND) {
            rxb |= 8;
        }
        if (rxb) {
            put(&e, 0x40 | rxb);
        }
        if (info->map) {
            put(&e, 0x0f);
        }
        if (info->map > 1) {
            put(&e, info->map == 2 ? 0x38 : 0x3a);
        }
    }
    put(&e, info->opcode);
    unsigned reg = info->ext == HV_NO_FIELD ? (in->modrm >> 3 & 7) : info->ext;
    unsigned rm = info->rm == HV_NO_FIELD ? (in->modrm & 7) : info->rm;
    if (in->has_modrm) {
        put(&e, (in->modrm & 0xc0) | reg << 3 | rm);
    }
    return e;
}

/* Bytes behind the ModRM byte of the original. */
static unsigned tail_of(const uint8_t *code, const struct x86_insn *in, const uint8_t **tail)
{
    unsigned imm = 0;
    for (unsigned i = 0; i < in->nopnd; i++) {
        imm |= in->opnd[i].kind == X86_OPND_IMM;
    }
    imm |= strncmp(x86_op_name(in->op), "vblendvp", 8) == 0 || in->op == X86_VPBLENDVB;
    unsigned n = imm;
    if (x86_insn_is_mem(in)) {
        unsigned mod = in->modrm >> 6;
        bool sib = (in->modrm & 7) == 4;
        bool disp32 = mod == 2 || (mod == 0 && ((in->modrm & 7) == 5 || in->base == X86_REG_NONE));
        n += sib + (mod == 1 ? 1 : disp32 ? 4 : 0);
    }
    *tail = code + in->len - n;
    return n;
}

static bool wants_vec(const void *arg, unsigned form)
{
    return x86_form_hostvec(form) != HV_NONE;
}

static void table_encodes_what_was_decoded(void **state)
{
    struct x86_random_opts opts = {.mode = 8, .want = wants_vec};
    uint64_t rng = 3;
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t code[16];
        struct x86_insn in, again;
        int len = x86_random_insn(&rng, &opts, code);
        assert_true(len > 0);
        assert_int_equal(x86_decode(&in, code, len, 8), X86_DECODE_OK);
        const struct hostvec_info *info = &hostvec_info[x86_form_hostvec(in.form)];
        assert_string_equal(info->name, x86_op_name(in.op));
        in.seg = X86_SEG_NONE;
        struct strbuf want = {0}, got = {0};
        x86_disas(&want, &in, 0);
        /* struct x86_insn does not tell R X B one by one: one of the eight must fit */
        bool ok = false;
        for (unsigned k = 0; k < 8 && !ok; k++) {
            const uint8_t *tail;
            struct encoding e = encode(&in, info, k);
            unsigned n = tail_of(code, &in, &tail);
            memcpy(e.code + e.len, tail, n);
            e.len += n;
            strbuf_clear(&got);
            ok = x86_decode(&again, e.code, e.len, 8) == X86_DECODE_OK && again.len == e.len;
            if (ok) {
                x86_disas(&got, &again, 0);
                ok = strcmp(strbuf_text(&got), strbuf_text(&want)) == 0;
            }
        }
        if (!ok) {
            fail_msg("\"%s\" became \"%s\"", strbuf_text(&want), strbuf_text(&got));
        }
        strbuf_free(&want);
        strbuf_free(&got);
    }
}

/* The operands the table claims are those of the form. */
static void kinds_agree_with_operands(void **state)
{
    struct x86_random_opts opts = {.mode = 8, .want = wants_vec};
    uint64_t rng = 4;
    for (unsigned i = 0; i < 50000; i++) {
        uint8_t code[16];
        struct x86_insn in;
        int len = x86_random_insn(&rng, &opts, code);
        assert_int_equal(x86_decode(&in, code, len, 8), X86_DECODE_OK);
        const struct hostvec_info *info = &hostvec_info[x86_form_hostvec(in.form)];
        unsigned flags = x86_form_flags(in.form);
        assert_true(info->flags & (in.vex ? in.vex_l ? HVF_VEX256 : HVF_VEX128 : HVF_LEGACY));
        if (in.has_modrm) {
            assert_true(info->flags & (x86_insn_is_mem(&in) ? HVF_RM_MEM : HVF_RM_REG));
        }
        assert_int_equal(!!(flags & X86_FORM_X87), !!(info->flags & HVF_X87));
        assert_int_equal(!!(flags & X86_FORM_MMX), !!(info->flags & HVF_MMX));
        if (flags & X86_FORM_ALIGN) {
            assert_true(info->flags & (in.vex ? HVF_VALIGN : HVF_ALIGN));
        }
        for (unsigned k = 0; k < in.nopnd; k++) {
            const struct x86_opnd *o = &in.opnd[k];
            if (o->kind == X86_OPND_MEM && info->mem_size[in.vex_l] && !(flags & X86_FORM_X87)) {
                assert_int_equal(o->size, info->mem_size[in.vex_l]);
            }
            if (o->kind == X86_OPND_GPR && in.op != X86_FNSTSW_AX) {
                assert_true(info->flags & (HVF_INT_IN | HVF_INT_OUT));
                assert_int_equal(!!(info->flags & HVF_INT_OUT), k == 0);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_encodes_what_was_decoded),
        cmocka_unit_test(kinds_agree_with_operands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
