/* Encoder: forms against their bytes, which an assembler and the manual's tables agree on. */
#include "base/unit_test.h"
#include "host/x86_64/enc.h"

#include <stdio.h>
#include <string.h>

static uint8_t code[64];
static struct enc e;

static void start(void)
{
    memset(code, 0xcc, sizeof(code));
    e.p = code;
}

static void expect(const char *hex)
{
    char got[sizeof(code) * 3 + 1] = "";
    for (uint8_t *p = code; p < e.p; p++) {
        snprintf(got + strlen(got), 4, "%s%02x", p == code ? "" : " ", *p);
    }
    assert_string_equal(got, hex);
    start();
}

static void addressing(void **state)
{
    start();
    x_mov_r_rm(&e, IR_I64, X_RAX, x_m(X_RBX, 0));
    expect("48 8b 03");
    x_mov_r_rm(&e, IR_I32, X_R9, x_m(X_RBP, 0));
    expect("44 8b 4d 00");
    x_mov_r_rm(&e, IR_I32, X_RAX, x_m(X_R13, 0));
    expect("41 8b 45 00");
    x_mov_r_rm(&e, IR_I64, X_RCX, x_m(X_R12, 8));
    expect("49 8b 4c 24 08");
    x_mov_r_rm(&e, IR_I64, X_RCX, x_m(X_RSP, 0x1234));
    expect("48 8b 8c 24 34 12 00 00");
    x_mov_r_rm(&e, IR_I32, X_RDX, x_mx(X_RSI, X_R12, 3, -4));
    expect("42 8b 54 e6 fc");
    x_lea(&e, IR_I64, X_RDX, x_mx(X_NONE, X_RDI, 2, 16));
    expect("48 8d 14 bd 10 00 00 00");
    x_mov_r_rm(&e, IR_I32, X_RAX, x_m(X_NONE, 0x1000));
    expect("8b 04 25 00 10 00 00");
}

static void widths(void **state)
{
    start();
    x_mov_rm_r(&e, IR_I8, x_m(X_RAX, 0), X_RSI);
    expect("40 88 30");
    x_mov_rm_r(&e, IR_I8, x_m(X_RAX, 0), X_RBX);
    expect("88 18");
    x_alu_r_rm(&e, X_ADD, IR_I16, X_RCX, x_r(X_R8));
    expect("66 41 03 c8");
    x_alu_rm_i(&e, X_CMP, IR_I8, x_r(X_RDI), 5);
    expect("40 80 ff 05");
    x_alu_rm_i(&e, X_AND, IR_I64, x_r(X_R15), 0x1000);
    expect("49 81 e7 00 10 00 00");
    x_alu_rm_i(&e, X_SUB, IR_I64, x_r(X_RSP), 8);
    expect("48 83 ec 08");
    x_test_rm_i(&e, IR_I16, x_r(X_RBX), 0x1234);
    expect("66 f7 c3 34 12");
    x_movzx(&e, IR_I8, X_R10, x_r(X_RSI));
    expect("44 0f b6 d6");
    x_movzx_high(&e, X_RAX, X_RBX);
    expect("0f b6 c7");
    x_movsx(&e, IR_I64, IR_I32, X_RAX, x_r(X_RCX));
    expect("48 63 c1");
    x_mov_r_i64(&e, X_R11, 0x123456789abcdef0);
    expect("49 bb f0 de bc 9a 78 56 34 12");
    x_mov_r_i64(&e, X_RAX, 0xffffffff80000000);
    expect("48 c7 c0 00 00 00 80");
    x_mov_r_i64(&e, X_R9, 7);
    expect("41 b9 07 00 00 00");
}

static void others(void **state)
{
    start();
    x_shift_rm_i(&e, X_SAR, IR_I64, x_r(X_R14), 5);
    expect("49 c1 fe 05");
    x_shift_rm_cl(&e, X_ROL, IR_I8, x_r(X_RDX));
    expect("d2 c2");
    x_mulx(&e, IR_I64, X_R11, X_R14, x_r(X_R13));
    expect("c4 42 8b f6 dd");
    x_rorx(&e, IR_I64, X_R11, x_r(X_R13), 8);
    expect("c4 43 fb f0 dd 08");
    x_shlx(&e, X_SHL, IR_I32, X_RAX, x_r(X_RCX), X_RBX);
    expect("c4 e2 61 f7 c1");
    x_setcc_rm(&e, IR_CC_L, x_r(X_R11));
    expect("41 0f 9c c3");
    x_cmov_r_rm(&e, IR_CC_NE, IR_I64, X_RAX, x_r(X_R9));
    expect("49 0f 45 c1");
    x_lock(&e);
    x_cmpxchg_rm_r(&e, IR_I32, x_m(X_R11, 0), X_R14);
    expect("f0 45 0f b1 33");
    x_xadd_rm_r(&e, IR_I8, x_m(X_R14, 0), X_RAX);
    expect("41 0f c0 06");
    x_popcnt(&e, IR_I64, X_RAX, x_r(X_RDI));
    expect("f3 48 0f b8 c7");
    x_crc32(&e, IR_I8, X_RAX, x_r(X_RSI));
    expect("f2 40 0f 38 f0 c6");
    x_adx(&e, false, IR_I64, X_R11, x_r(X_R13));
    expect("66 4d 0f 38 f6 dd");
    x_adx(&e, true, IR_I32, X_RAX, x_m(X_RDI, 0));
    expect("f3 0f 38 f6 07");
    x_push_i32(&e, 0x12345678);
    expect("68 78 56 34 12");
    x_jmp_rm(&e, x_mx(X_R15, X_R14, 0, 0x100));
    expect("43 ff a4 37 00 01 00 00");
    x_unary_rm(&e, X_DIV, IR_I64, x_r(X_R11));
    expect("49 f7 f3");
    x_imul_r_rm_i(&e, IR_I64, X_RBX, x_r(X_RBX), 1000);
    expect("48 69 db e8 03 00 00");
    x_bt_rm_i(&e, IR_I32, x_m(X_R15, -114), 8);
    expect("41 0f ba 67 8e 08");
}

static void vectors(void **state)
{
    start();
    x_vec_rm(&e, &(struct x_vec){.pp = 1, .map = 1, .opcode = 0xef, .reg = 9}, x_r(10));
    expect("66 45 0f ef ca");
    x_vec_rm(&e, &(struct x_vec){.map = 1, .opcode = 0x10, .vex = true, .l = true, .reg = 12},
             x_m(X_R15, 0x100));
    expect("c4 41 7c 10 a7 00 01 00 00");
    x_vec_rm(&e,
             &(struct x_vec){.pp = 1, .map = 1, .opcode = 0xfe, .vex = true, .reg = 1, .vvvv = 2},
             x_r(3));
    expect("c5 e9 fe cb");
    x_vec_rm(&e, &(struct x_vec){.pp = 3, .map = 1, .opcode = 0x2a, .w = true, .reg = 0},
             x_r(X_R11));
    expect("f2 49 0f 2a c3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addressing),
        cmocka_unit_test(widths),
        cmocka_unit_test(others),
        cmocka_unit_test(vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
