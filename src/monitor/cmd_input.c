/*
 * sendkey and the mouse. Keys have the names published for QEMU (QKeyCode); the display takes
 * Linux's numbers. Keys wait for each other, so that several commands at once come out as typed.
 */
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/machine.h"
#include "display/display.h"
#include "monitor/internal.h"

enum { HOLD_MS = 100, HOLD_MAX_MS = 60000, KEYS_AT_ONCE = 16 };

struct key_name {
    const char *name;
    uint16_t code;
};

static const struct key_name key_names[] = {
    {"shift", KEY_LEFTSHIFT},
    {"shift_r", KEY_RIGHTSHIFT},
    {"alt", KEY_LEFTALT},
    {"alt_r", KEY_RIGHTALT},
    {"ctrl", KEY_LEFTCTRL},
    {"ctrl_r", KEY_RIGHTCTRL},
    {"meta_l", KEY_LEFTMETA},
    {"meta_r", KEY_RIGHTMETA},
    {"menu", KEY_COMPOSE},
    {"compose", KEY_COMPOSE},
    {"esc", KEY_ESC},
    {"1", KEY_1},
    {"2", KEY_2},
    {"3", KEY_3},
    {"4", KEY_4},
    {"5", KEY_5},
    {"6", KEY_6},
    {"7", KEY_7},
    {"8", KEY_8},
    {"9", KEY_9},
    {"0", KEY_0},
    {"minus", KEY_MINUS},
    {"equal", KEY_EQUAL},
    {"backspace", KEY_BACKSPACE},
    {"tab", KEY_TAB},
    {"q", KEY_Q},
    {"w", KEY_W},
    {"e", KEY_E},
    {"r", KEY_R},
    {"t", KEY_T},
    {"y", KEY_Y},
    {"u", KEY_U},
    {"i", KEY_I},
    {"o", KEY_O},
    {"p", KEY_P},
    {"bracket_left", KEY_LEFTBRACE},
    {"bracket_right", KEY_RIGHTBRACE},
    {"ret", KEY_ENTER},
    {"a", KEY_A},
    {"s", KEY_S},
    {"d", KEY_D},
    {"f", KEY_F},
    {"g", KEY_G},
    {"h", KEY_H},
    {"j", KEY_J},
    {"k", KEY_K},
    {"l", KEY_L},
    {"semicolon", KEY_SEMICOLON},
    {"apostrophe", KEY_APOSTROPHE},
    {"grave_accent", KEY_GRAVE},
    {"backslash", KEY_BACKSLASH},
    {"z", KEY_Z},
    {"x", KEY_X},
    {"c", KEY_C},
    {"v", KEY_V},
    {"b", KEY_B},
    {"n", KEY_N},
    {"m", KEY_M},
    {"comma", KEY_COMMA},
    {"dot", KEY_DOT},
    {"slash", KEY_SLASH},
    {"asterisk", KEY_KPASTERISK},
    {"spc", KEY_SPACE},
    {"caps_lock", KEY_CAPSLOCK},
    {"f1", KEY_F1},
    {"f2", KEY_F2},
    {"f3", KEY_F3},
    {"f4", KEY_F4},
    {"f5", KEY_F5},
    {"f6", KEY_F6},
    {"f7", KEY_F7},
    {"f8", KEY_F8},
    {"f9", KEY_F9},
    {"f10", KEY_F10},
    {"f11", KEY_F11},
    {"f12", KEY_F12},
    {"num_lock", KEY_NUMLOCK},
    {"scroll_lock", KEY_SCROLLLOCK},
    {"kp_divide", KEY_KPSLASH},
    {"kp_multiply", KEY_KPASTERISK},
    {"kp_subtract", KEY_KPMINUS},
    {"kp_add", KEY_KPPLUS},
    {"kp_enter", KEY_KPENTER},
    {"kp_decimal", KEY_KPDOT},
    {"kp_0", KEY_KP0},
    {"kp_1", KEY_KP1},
    {"kp_2", KEY_KP2},
    {"kp_3", KEY_KP3},
    {"kp_4", KEY_KP4},
    {"kp_5", KEY_KP5},
    {"kp_6", KEY_KP6},
    {"kp_7", KEY_KP7},
    {"kp_8", KEY_KP8},
    {"kp_9", KEY_KP9},
    {"sysrq", KEY_SYSRQ},
    {"print", KEY_SYSRQ},
    {"less", KEY_102ND},
    {"home", KEY_HOME},
    {"pgup", KEY_PAGEUP},
    {"pgdn", KEY_PAGEDOWN},
    {"end", KEY_END},
    {"left", KEY_LEFT},
    {"up", KEY_UP},
    {"down", KEY_DOWN},
    {"right", KEY_RIGHT},
    {"insert", KEY_INSERT},
    {"delete", KEY_DELETE},
    {"pause", KEY_PAUSE},
    {"ro", KEY_RO},
    {"hiragana", KEY_HIRAGANA},
    {"henkan", KEY_HENKAN},
    {"muhenkan", KEY_MUHENKAN},
    {"yen", KEY_YEN},
    {"power", KEY_POWER},
    {"sleep", KEY_SLEEP},
    {"wake", KEY_WAKEUP},
    {"audionext", KEY_NEXTSONG},
    {"audioprev", KEY_PREVIOUSSONG},
    {"audiostop", KEY_STOPCD},
    {"audioplay", KEY_PLAYPAUSE},
    {"audiomute", KEY_MUTE},
    {"volumeup", KEY_VOLUMEUP},
    {"volumedown", KEY_VOLUMEDOWN},
    {"find", KEY_FIND},
    {"undo", KEY_UNDO},
    {"copy", KEY_COPY},
    {"open", KEY_OPEN},
    {"paste", KEY_PASTE},
    {"cut", KEY_CUT},
    {"stop", KEY_STOP},
    {"again", KEY_AGAIN},
    {"props", KEY_PROPS},
    {"front", KEY_FRONT},
    {"help", KEY_HELP},
};

/* A name, or "0x1e": a scan code of set 1, which up to 58h is Linux's number. 0: no such. */
static unsigned key_code(const char *name, size_t len)
{
    if (len > 2 && !strncmp(name, "0x", 2)) {
        unsigned long code = strtoul(name, NULL, 16);
        return code <= 0x58 ? (unsigned)code : 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(key_names); i++) {
        if (strlen(key_names[i].name) == len && !strncmp(key_names[i].name, name, len)) {
            return key_names[i].code;
        }
    }
    return 0;
}

void input_complete(const char *word, struct line_matches *m)
{
    const char *dash = strrchr(word, '-');
    size_t before = dash ? (size_t)(dash + 1 - word) : 0;
    for (size_t i = 0; i < ARRAY_LEN(key_names); i++) {
        if (!strncmp(key_names[i].name, word + before, strlen(word + before))) {
            char text[64];
            if (before + strlen(key_names[i].name) < sizeof(text)) {
                memcpy(text, word, before);
                strcpy(text + before, key_names[i].name);
                line_add_match(m, text);
            }
        }
    }
}

/* ---- What is to come ---- */

static void keys_next(void *opaque)
{
    struct monitor *mon = opaque;
    uint32_t wait = 0;
    while (mon->key_count && !wait) {
        const struct monitor_key *k = &mon->keys[mon->key_first];
        input_key(mon->machine->display, k->code, k->down);
        wait = k->wait_ms;
        mon->key_first = (mon->key_first + 1) % MONITOR_KEYS;
        mon->key_count--;
    }
    if (wait) {
        timer_set(&mon->key_timer, clock_ns(mon->machine->clock) + wait * 1000000ull);
    }
}

static void keys_push(struct monitor *mon, unsigned code, bool down, uint32_t wait_ms)
{
    mon->keys[(mon->key_first + mon->key_count++) % MONITOR_KEYS] =
        (struct monitor_key){(uint16_t)code, down, wait_ms};
}

void input_init(struct monitor *mon)
{
    timer_init(&mon->key_timer, mon->machine->clock, keys_next, mon);
}

void input_fini(struct monitor *mon)
{
    timer_unset(&mon->key_timer);
}

/* ---- Commands ---- */

static int keys_parse(const char *text, unsigned *code, unsigned *count, struct err *err)
{
    for (const char *p = text; *count < KEYS_AT_ONCE; p++) {
        size_t n = strcspn(p, "-");
        code[*count] = key_code(p, n);
        if (!code[(*count)++]) {
            return err_set(err, EINVAL, "invalid parameter: %.*s", (int)n, p);
        }
        p += n;
        if (!*p) {
            return 0;
        }
    }
    return err_set(err, EINVAL, "too many keys");
}

int cmd_sendkey(struct monitor *mon, struct command_args *a, struct err *err)
{
    unsigned code[KEYS_AT_ONCE], count = 0;
    long long hold = HOLD_MS;
    const char *text = args_need(a, 0, "keys", err);
    int ret = text ? keys_parse(text, code, &count, err) : -EINVAL;
    if (!ret && args_word(a, 1)) {
        ret = args_number(a, 1, "hold_ms", &hold, err);
    }
    if (!ret && (hold < 0 || hold > HOLD_MAX_MS)) {
        ret = err_set(err, EINVAL, "a key is held for 0 to %d ms", HOLD_MAX_MS);
    }
    if (!ret && mon->key_count + 2 * count > MONITOR_KEYS) {
        ret = err_set(err, EBUSY, "too many keys are waiting to be sent");
    }
    if (ret) {
        return ret;
    }
    bool idle = !mon->key_timer.slot && !mon->key_count;
    for (unsigned i = 0; i < count; i++) {
        keys_push(mon, code[i], true, i + 1 == count ? (uint32_t)hold : 0);
    }
    /* The next keys after a pause, too, so that a guest can tell two presses of one key apart. */
    for (unsigned i = count; i-- > 0;) {
        keys_push(mon, code[i], false, i ? 0 : (uint32_t)hold);
    }
    if (idle) {
        keys_next(mon);
    }
    return 0;
}

int cmd_mouse_move(struct monitor *mon, struct command_args *a, struct err *err)
{
    long long v[3] = {0};
    static const char *const names[] = {"dx", "dy", "dz"};
    for (unsigned i = 0; i < 2 || (i < 3 && args_word(a, 2)); i++) {
        int ret = args_number(a, i, names[i], &v[i], err);
        if (ret) {
            return ret;
        }
        v[i] = v[i] > 32767 ? 32767 : v[i] < -32767 ? -32767 : v[i];
    }
    struct display *d = mon->machine->display;
    input_move(d, (int)v[0], (int)v[1]);
    if (v[2]) {
        input_buttons(d, mon->buttons | (v[2] < 0 ? INPUT_WHEEL_UP : INPUT_WHEEL_DOWN));
        input_buttons(d, mon->buttons);
    }
    return 0;
}

int cmd_mouse_button(struct monitor *mon, struct command_args *a, struct err *err)
{
    long long state;
    int ret = args_number(a, 0, "state", &state, err);
    if (!ret) {
        mon->buttons = (state & 1 ? INPUT_LEFT : 0u) | (state & 2 ? INPUT_MIDDLE : 0u) |
                       (state & 4 ? INPUT_RIGHT : 0u);
        input_buttons(mon->machine->display, mon->buttons);
    }
    return ret;
}
