/* Keyboard layouts: the file's words, keys that several lines have, what is missing. */
#include "display/keymap.h"

#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/unit_test.h"
#include "display/keysyms.h"

static const char layout[] = "# a comment\n"
                             "map 0x407\n"
                             "include common\n"
                             "z 0x15 addupper\n"
                             "less 0x56\n"
                             "less 0x33 shift\n"
                             "braceleft 0x08 shift altgr\n"
                             "braceleft 0x1a altgr localstate\n"
                             "EuroSign 0x12 altgr\n"
                             "U2022 0x1e altgr\n"
                             "0x0100abcd 0x1f\n"
                             "KP_Enter 0x9c\n"
                             "backslash 0x73\n"
                             "VoidSymbol 0x0\n"
                             "nothing_of_the_kind 0x10\n"
                             "x 0xfff\n"
                             "y\n";

struct rig {
    char dir[32], folder[48];
    struct keymap *k;
    unsigned held;
};

static void put(const struct rig *r, const char *name, const char *text)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/%s", r->folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    char command[96];
    snprintf(r->dir, sizeof(r->dir), "/tmp/keymap-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->folder, sizeof(r->folder), "%s/keymaps", r->dir);
    snprintf(command, sizeof(command), "mkdir %s", r->folder);
    assert_int_equal(system(command), 0);
    put(r, "xx", layout);
    put(r, "common", "include common\na 0x10\n");
    r->k = keymap_load("xx", r->dir, &err);
    assert_non_null(r->k);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    char command[96];
    keymap_free(r->k);
    snprintf(command, sizeof(command), "rm -r %s", r->dir);
    assert_int_equal(system(command), 0);
    free(r);
    return 0;
}

static bool holds(const void *opaque, unsigned code)
{
    return code == ((const struct rig *)opaque)->held;
}

static unsigned press(const struct rig *r, const char *name, bool shift, bool altgr)
{
    const struct keymap_held held = {shift, altgr, holds, r};
    return keymap_code(r->k, keysym_from_name(name), true, &held);
}

static unsigned let_go(struct rig *r, const char *name, unsigned held_key)
{
    const struct keymap_held held = {false, false, holds, r};
    r->held = held_key;
    return keymap_code(r->k, keysym_from_name(name), false, &held);
}

static void names(void **state)
{
    assert_int_equal(keysym_from_name("a"), 'a');
    assert_int_equal(keysym_from_name("A"), 'A');
    assert_int_equal(keysym_from_name("ssharp"), 0xdf);
    assert_int_equal(keysym_from_name("zcaron"), 0x1be);
    assert_int_equal(keysym_from_name("Aacute"), 0xc1);
    assert_int_equal(keysym_from_name("EuroSign"), 0x20ac);
    assert_int_equal(keysym_from_name("KP_Enter"), 0xff8d);
    assert_int_equal(keysym_from_name("U20BA"), 0x10020ba);
    assert_int_equal(keysym_from_name("U00E4"), 0xe4);
    assert_int_equal(keysym_from_name("U110000"), 0);
    assert_int_equal(keysym_from_name("Uhu"), 0);
    assert_int_equal(keysym_from_name("0x1000123"), 0x1000123);
    assert_int_equal(keysym_from_name(""), 0);
}

static void lines(void **state)
{
    const struct rig *r = *state;
    assert_int_equal(press(r, "z", false, false), KEY_Y);
    assert_int_equal(press(r, "Z", true, false), KEY_Y);
    assert_int_equal(press(r, "a", false, false), KEY_Q);
    assert_int_equal(press(r, "EuroSign", false, true), KEY_E);
    assert_int_equal(press(r, "U2022", false, true), KEY_A);
    assert_int_equal(press(r, "0x0100abcd", false, false), KEY_S);
    assert_int_equal(press(r, "KP_Enter", false, false), KEY_KPENTER);
    assert_int_equal(press(r, "backslash", false, false), KEY_RO);
    assert_int_equal(press(r, "x", false, false), 0); /* not there: no US key in its place */
    assert_int_equal(press(r, "y", false, false), 0);
    assert_int_equal(press(r, "F5", false, false), KEY_F5); /* but no character */
    assert_int_equal(keymap_code(NULL, 'z', true, NULL), KEY_Z);
}

static void one_of_several(void **state)
{
    struct rig *r = *state;
    assert_int_equal(press(r, "less", false, false), KEY_102ND);
    assert_int_equal(press(r, "less", true, false), KEY_COMMA);
    assert_int_equal(press(r, "less", true, true), KEY_102ND); /* none fits: the first */
    assert_int_equal(press(r, "braceleft", false, true), KEY_LEFTBRACE);
    assert_int_equal(press(r, "braceleft", true, true), KEY_7);
    assert_int_equal(let_go(r, "less", KEY_COMMA), KEY_COMMA);
    assert_int_equal(let_go(r, "less", KEY_102ND), KEY_102ND);
    assert_int_equal(let_go(r, "less", 0), KEY_102ND);
}

static void missing(void **state)
{
    static const char *const bad[] = {"", ".", "../xx", "no-such-layout"};
    const struct rig *r = *state;
    struct err err;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(keymap_load(bad[i], r->dir, &err));
        assert_non_null(strstr(err.text, "-k"));
    }
    struct keymap *us = keymap_load("en-us", NULL, &err); /* needs no file */
    assert_non_null(us);
    keymap_free(us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test_setup_teardown(lines, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(one_of_several, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(missing, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
