#include "isa/x86/decode.h"

#include "base/bits.h"
#include "base/strbuf.h"
#include "base/unit_test.h"
#include "isa/x86/disas.h"
#include "isa/x86/randinsn.h"
#include <stdio.h>
#include <string.h>

struct sample {
    unsigned mode;
    const char *bytes;
    const char *text; /* NULL: #UD */
};

static unsigned parse(const char *hex, uint8_t *code)
{
    unsigned n = 0;
    unsigned byte;
    int used;
    while (sscanf(hex, "%2x%n", &byte, &used) == 1) {
        code[n++] = byte;
        hex += used;
    }
    return n;
}

static const struct sample samples[] = {
    /* operand size, immediates */
    {8, "83c0ff", "add eax, 0xffffffff"},
    {8, "6683c0ff", "add ax, 0xffff"},
    {8, "4883c0ff", "add rax, 0xffffffffffffffff"},
    {4, "6683c0ff", "add ax, 0xffff"},
    {2, "83c0ff", "add ax, 0xffff"},
    {2, "6683c0ff", "add eax, 0xffffffff"},
    {8, "48c7c0ffffffff", "mov rax, 0xffffffffffffffff"},
    {8, "48b88877665544332211", "mov rax, 0x1122334455667788"},
    {8, "66b83412", "mov ax, 0x1234"},
    {8, "b4ff", "mov ah, 0xff"},
    {8, "40b4ff", "mov spl, 0xff"},
    {8, "c8341205", "enter 0x1234, 0x5"},
    {8, "69c044332211", "imul eax, eax, 0x11223344"},
    {8, "6aff", "push 0xffffffffffffffff"},
    {8, "666aff", "push 0xffff"},
    {4, "6aff", "push 0xffffffff"},
    /* byte registers with and without REX */
    {8, "88e0", "mov al, ah"},
    {8, "4088e0", "mov al, spl"},
    {8, "4488e0", "mov al, r12b"},
    /* addressing */
    {8, "8b0500010000", "mov eax, dword [rip+0x100]"},
    {8, "678b0500010000", "mov eax, dword [eip+0x100]"},
    {4, "8b0500010000", "mov eax, dword [0x100]"},
    {8, "8b042500010080", "mov eax, dword [0xffffffff80000100]"},
    {8, "428b04e0", "mov eax, dword [rax+r12*8]"},
    {8, "8b0424", "mov eax, dword [rsp]"},
    {8, "418b0424", "mov eax, dword [r12]"},
    {8, "418b4500", "mov eax, dword [r13]"},
    {8, "8b44e080", "mov eax, dword [rax-0x80]"},
    {2, "8b00", "mov ax, word [bx+si]"},
    {2, "8b46fe", "mov ax, word [bp-0x2]"},
    {2, "8b063412", "mov ax, word [0x1234]"},
    {2, "678b0424", "mov ax, word [esp]"},
    {4, "678b07", "mov eax, dword [bx]"},
    {8, "648b00", "mov eax, dword fs:[rax]"},
    {8, "3e8b00", "mov eax, dword [rax]"},
    {8, "64263e8b00", "mov eax, dword fs:[rax]"},
    {4, "3e8b00", "mov eax, dword ds:[eax]"},
    {8, "a18877665544332211", "mov eax, dword ds:[0x1122334455667788]"},
    {8, "67a144332211", "mov eax, dword ds:[0x11223344]"},
    {2, "a13412", "mov ax, word ds:[0x1234]"},
    {8, "8d00", "lea eax, [rax]"},
    {8, "8dc0", NULL},
    /* REX counts only directly before the opcode */
    {8, "4866050001", "add ax, 0x100"},
    {8, "66480500010000", "add rax, 0x100"},
    {4, "48", "dec eax"},
    /* nop, pause, xchg */
    {8, "90", "nop"},
    {8, "f390", "pause"},
    {8, "4190", "xchg r8d, eax"},
    {8, "f34190", "xchg r8d, eax"},
    {8, "4890", "nop"},
    {8, "f30f1efa", "endbr64"},
    {8, "f30f1efb", "endbr32"},
    {8, "0f1f4000", "nop dword [rax]"},
    /* 64-bit defaults; near branches ignore 66 */
    {8, "50", "push rax"},
    {8, "6650", "push ax"},
    {8, "4150", "push r8"},
    {8, "66e800000000", "call 0x6"},
    {8, "66ebfe", "jmp 0x1"},
    {4, "66e80000", "call 0x4"},
    {4, "e8fbffffff", "call 0x0"},
    {8, "ffd0", "call rax"},
    {8, "66ffd0", "call rax"},
    {8, "c3", "ret"},
    {8, "e300", "jrcxz 0x2"},
    {8, "67e300", "jecxz 0x3"},
    {2, "e300", "jcxz 0x2"},
    {4, "67e300", "jcxz 0x3"},
    {4, "9a443322116655", "call 0x5566:0x11223344"},
    {8, "9a443322116655", NULL},
    {8, "48ff28", "jmp tbyte [rax]"},
    {8, "ff28", "jmp fword [rax]"},
    {8, "ffe8", NULL},
    /* only in some modes */
    {8, "06", NULL},
    {4, "06", "push es"},
    {8, "60", NULL},
    {8, "d6", NULL},
    {4, "d6", "salc"},
    {8, "63c8", "movsxd ecx, eax"},
    {8, "4863c8", "movsxd rcx, eax"},
    {4, "63c8", "arpl ax, cx"},
    {8, "8200ff", NULL},
    {4, "8200ff", "add byte [eax], 0xff"},
    {8, "0f01f8", "swapgs"},
    {4, "0f01f8", NULL},
    /* les, lds, bound against VEX and EVEX */
    {4, "c400", "les eax, fword [eax]"},
    {4, "c500", "lds eax, fword [eax]"},
    {4, "6200", "bound eax, qword [eax]"},
    {4, "62c0", NULL},
    {8, "6200", NULL},
    {4, "c5f858c1", "vaddps xmm0, xmm0, xmm1"},
    {2, "c5f858c1", "vaddps xmm0, xmm0, xmm1"},
    /* lock */
    {8, "f00100", "lock add dword [rax], eax"},
    {8, "f001c0", NULL},
    {8, "f03900", NULL},
    {8, "f00300", NULL},
    {8, "f00fc708", "lock cmpxchg8b qword [rax]"},
    {8, "f0480fc708", "lock cmpxchg16b xmmword [rax]"},
    {8, "f08700", "lock xchg dword [rax], eax"},
    /* mandatory prefixes */
    {8, "0f58c1", "addps xmm0, xmm1"},
    {8, "660f58c1", "addpd xmm0, xmm1"},
    {8, "f30f58c1", "addss xmm0, xmm1"},
    {8, "66f20f58c1", "addsd xmm0, xmm1"},
    {8, "f2f30f58c1", "addss xmm0, xmm1"},
    {8, "f30fb8c1", "popcnt eax, ecx"},
    {8, "66f30fb8c1", "popcnt ax, cx"},
    {8, "0fb8c1", NULL},
    {8, "f30fbcc1", "tzcnt eax, ecx"},
    {8, "f20fbcc1", "bsf eax, ecx"},
    {8, "66f20f38f1c1", "crc32 eax, cx"},
    {8, "f2480f38f0c1", "crc32 rax, cl"},
    {8, "660f38f108", "movbe word [rax], cx"},
    {8, "660f38f6c1", "adcx eax, ecx"},
    {8, "f30f10c1", "movss xmm0, xmm1"},
    {8, "f30f1000", "movss xmm0, dword [rax]"},
    {8, "c5fa1000", "vmovss xmm0, dword [rax]"},
    {8, "c5f21000", NULL},
    {8, "c5f210c1", "vmovss xmm0, xmm1, xmm1"},
    {8, "66480f6ec0", "movq xmm0, rax"},
    {8, "0f380000", "pshufb mm0, qword [rax]"},
    {8, "0fc6c1ee", "shufps xmm0, xmm1, 0xee"},
    {8, "0f12c1", "movhlps xmm0, xmm1"},
    {8, "0f1201", "movlps xmm0, qword [rcx]"},
    {8, "0fc708", "cmpxchg8b qword [rax]"},
    {8, "0fc7f0", "rdrand eax"},
    {8, "f30fc7f8", "rdpid rax"},
    {8, "0fc7c8", NULL},
    /* VEX */
    {8, "c5fc58c1", "vaddps ymm0, ymm0, ymm1"},
    {8, "66c5fc58c1", NULL},
    {8, "f3c5fc58c1", NULL},
    {8, "f0c5fc58c1", NULL},
    {8, "40c5fc58c1", NULL},
    {8, "c5fc28c1", "vmovaps ymm0, ymm1"},
    {8, "c5f428c1", NULL},
    {8, "c4417c28c1", "vmovaps ymm8, ymm9"},
    {8, "c4e27518c1", NULL},
    {8, "c4e27d18c1", "vbroadcastss ymm0, xmm1"},
    {8, "c4e2fd18c1", NULL},
    {8, "c4e27518c1", NULL},
    {8, "c4e3fd00c11b", "vpermq ymm0, ymm1, 0x1b"},
    {8, "c4e3f900c11b", NULL},
    {8, "c5fd6ec0", NULL},
    {8, "c5f96ec0", "vmovd xmm0, eax"},
    {8, "c4e1f96ec0", "vmovq xmm0, rax"},
    {4, "c4e1f96ec0", "vmovd xmm0, eax"},
    {8, "c4e3694ac140", "vblendvps xmm0, xmm2, xmm1, xmm4"},
    {8, "c4e278f2c1", "andn eax, eax, ecx"},
    {8, "c4e2f8f3c9", "blsr rax, rcx"},
    {8, "c4e37bf0c105", "rorx eax, ecx, 0x5"},
    {8, "c4e2fdb8c1", "vfmadd231pd ymm0, ymm0, ymm1"},
    {8, "c4e26d900488", "vpgatherdd ymm0, dword [rax+vmm1*4], ymm2"},
    {8, "c4e27d900488", NULL}, /* destination is the mask */
    {8, "c4e26d9000", NULL},   /* no SIB */
    {8, "c5f877", "vzeroupper"},
    {8, "c5fc77", "vzeroall"},
    {8, "c4e079dbc1", NULL}, /* map 0 */
    /* control, debug and segment registers */
    {8, "0f20c0", "mov rax, cr0"},
    {8, "0f2000", "mov rax, cr0"},
    {8, "440f20c0", "mov rax, cr8"},
    {8, "0f20c8", NULL},
    {8, "0f23f8", "mov dr7, rax"},
    {8, "440f23f8", NULL},
    {4, "0f22d8", "mov cr3, eax"},
    {8, "8ec8", NULL},
    {8, "8cc8", "mov eax, cs"},
    {8, "488cc8", "mov rax, cs"},
    {8, "8c08", "mov word [rax], cs"},
    {8, "8ed0", "mov ss, ax"},
    {8, "8ef8", NULL},
    {8, "0f0118", "lidt tbyte [rax]"},
    {4, "0f0118", "lidt fword [eax]"},
    /* strings, in and out */
    {8, "f3a4", "rep movs byte es:[rdi], byte ds:[rsi]"},
    {8, "f348ab", "rep stos qword es:[rdi], rax"},
    {8, "64f2ae", "repne scas al, byte es:[rdi]"},
    {8, "64a5", "movs dword es:[rdi], dword fs:[rsi]"},
    {8, "48ed", "in eax, dx"},
    {8, "66ed", "in ax, dx"},
    {8, "e6ff", "out 0xff, al"},
    /* x87 */
    {8, "d8c1", "fadd st(0), st(1)"},
    {8, "dcc1", "fadd st(1), st(0)"},
    {8, "dee1", "fsubrp st(1), st(0)"},
    {8, "d9c0", "fld st(0)"},
    {8, "db28", "fld tbyte [rax]"},
    {8, "d9d0", "fnop"},
    {8, "d9d1", NULL},
    {8, "d9e8", "fld1"},
    {8, "dfe0", "fnstsw ax"},
    {8, "dded", "fucomp st(0), st(5)"},
    {8, "9b", "fwait"},
    /* aliases */
    {8, "c0f001", "shl al, 0x1"},
    {8, "f6c8ff", "test al, 0xff"},
    {8, "d1f8", "sar eax, 0x1"},
    {8, "0f0d08", "prefetchw byte [rax]"},
    {8, "0fff00", "ud0 eax, dword [rax]"},
    {8, "0f0b", "ud2"},
    {8, "c7f800000000", "xbegin 0x6"},
    /* nothing there */
    {8, "0f04", NULL},
    {8, "0f0f00", NULL},
    {8, "8fc8", NULL},
    {8, "0f01c1", NULL}, /* vmcall */
    {8, "fef8", NULL},
    {8, "ffff", NULL},
};

static void decodes_samples(void **state)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        const struct sample *s = &samples[i];
        uint8_t code[32];
        struct x86_insn insn;
        struct strbuf text = {0};
        unsigned n = parse(s->bytes, code);
        enum x86_decode_status status = x86_decode(&insn, code, n, s->mode);
        if (status == X86_DECODE_OK) {
            x86_disas(&text, &insn, 0);
        }
        if (!s->text && status != X86_DECODE_INVALID) {
            print_error("%s in mode %u: status %d, \"%s\" instead of #UD\n", s->bytes, s->mode,
                        status, strbuf_text(&text));
            wrong++;
        }
        if (s->text && (strcmp(strbuf_text(&text), s->text) != 0 || insn.len != n)) {
            print_error("%s in mode %u: status %d, length %u, \"%s\" instead of \"%s\"\n", s->bytes,
                        s->mode, status, insn.len, strbuf_text(&text), s->text);
            wrong++;
        }
        strbuf_free(&text);
    }
    assert_int_equal(wrong, 0);
}

/* Any cut-off instruction asks for more bytes, whether or not there is room behind it. */
static void short_input_asks_for_more(void **state)
{
    uint64_t rng = 1;
    struct x86_random_opts opts = {.extra_prefixes = true};
    for (unsigned i = 0; i < 30000; i++) {
        uint8_t code[16];
        struct x86_insn insn;
        opts.mode = 2u << i % 3;
        int len = x86_random_insn(&rng, &opts, code);
        assert_true(len > 0);
        for (int n = 0; n < len; n++) {
            assert_int_equal(x86_decode(&insn, code, n, opts.mode), X86_DECODE_SHORT);
        }
        assert_int_equal(x86_decode(&insn, code, len, opts.mode), X86_DECODE_OK);
        assert_int_equal(insn.len, len);
    }
}

static void fifteen_bytes_are_the_limit(void **state)
{
    struct x86_insn insn;
    uint8_t code[64];
    memset(code, 0x66, sizeof(code));
    code[14] = 0x90;
    assert_int_equal(x86_decode(&insn, code, 15, 8), X86_DECODE_OK);
    assert_int_equal(insn.len, 15);
    assert_int_equal(x86_decode(&insn, code, 14, 8), X86_DECODE_SHORT);
    code[14] = 0x66;
    code[15] = 0x90;
    assert_int_equal(x86_decode(&insn, code, 15, 8), X86_DECODE_TOO_LONG);
    assert_int_equal(x86_decode(&insn, code, 64, 8), X86_DECODE_TOO_LONG);
    code[12] = 0x81; /* add dword [..], imm32 */
    code[13] = 0x05;
    assert_int_equal(x86_decode(&insn, code, 64, 8), X86_DECODE_TOO_LONG);
    assert_int_equal(x86_decode(&insn, code, 14, 8), X86_DECODE_SHORT);
}

static void fields_of_operands(void **state)
{
    struct x86_insn insn;
    const uint8_t gather[] = {0xc4, 0xe2, 0x6d, 0x90, 0x44, 0x88, 0x10};
    assert_int_equal(x86_decode(&insn, gather, sizeof(gather), 8), X86_DECODE_OK);
    assert_int_equal(insn.op, X86_VPGATHERDD);
    assert_int_equal(insn.base, 0);
    assert_int_equal(insn.index, 1);
    assert_int_equal(insn.scale, 2);
    assert_int_equal(insn.disp, 0x10);
    assert_int_equal(insn.opnd[1].size, 4);
    assert_int_equal(x86_form_feature(insn.form), X86_FEATURE_AVX2);
    const uint8_t push_bp[] = {0xff, 0x75, 0x08};
    assert_int_equal(x86_decode(&insn, push_bp, 3, 4), X86_DECODE_OK);
    assert_int_equal(insn.mem_seg, X86_SEG_SS);
    const uint8_t stos[] = {0x64, 0xaa};
    assert_int_equal(x86_decode(&insn, stos, 2, 8), X86_DECODE_OK);
    assert_int_equal(insn.mem_seg, X86_SEG_ES);
    assert_int_equal(insn.base, 7);
    const uint8_t jge[] = {0x7d, 0xfe};
    assert_int_equal(x86_decode(&insn, jge, 2, 8), X86_DECODE_OK);
    assert_int_equal(insn.op, X86_JO + 13);
    assert_int_equal(insn.imm, -2);
    const uint8_t paddb[] = {0x66, 0x0f, 0xfc, 0x00};
    assert_int_equal(x86_decode(&insn, paddb, 4, 8), X86_DECODE_OK);
    assert_true(x86_form_flags(insn.form) & X86_FORM_ALIGN);
    const uint8_t vpaddb[] = {0xc5, 0xfd, 0xfc, 0x00};
    assert_int_equal(x86_decode(&insn, vpaddb, 4, 8), X86_DECODE_OK);
    assert_false(x86_form_flags(insn.form) & X86_FORM_ALIGN);
    assert_int_equal(insn.opnd[2].size, 32);
    assert_int_equal(x86_form_feature(insn.form), X86_FEATURE_AVX2);
}

/* Each form can be produced in one of the modes, and a constrained base is kept. */
static void random_covers_all_forms(void **state)
{
    uint64_t rng = 2;
    struct x86_random_opts opts = {.bases = 1 << 3 | 1 << 14, .disp_min = -64, .disp_max = 4095};
    for (unsigned form = 0; form < X86_FORM_COUNT; form++) {
        uint8_t code[16];
        struct x86_insn insn;
        int len = 0;
        for (opts.mode = 8; len == 0 && opts.mode >= 2; opts.mode /= 2) {
            len = x86_random_of_form(&rng, &opts, form, code);
            if (len) {
                assert_int_equal(x86_decode(&insn, code, len, opts.mode), X86_DECODE_OK);
                break;
            }
        }
        char name[64];
        x86_form_name(form, name, sizeof(name));
        if (len == 0) {
            fail_msg("line %u, %s: never produced", x86_form_line(form), name);
        }
        assert_int_equal(insn.form, form);
        if (x86_insn_is_mem(&insn)) {
            assert_true(insn.base == 3 || insn.base == 14);
            assert_in_range(insn.disp + 64, 0, 4095 + 64);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_samples),
        cmocka_unit_test(short_input_asks_for_more),
        cmocka_unit_test(fifteen_bytes_are_the_limit),
        cmocka_unit_test(fields_of_operands),
        cmocka_unit_test(random_covers_all_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
