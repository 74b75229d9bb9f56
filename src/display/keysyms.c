/*
 * Names of keysyms, as files of keyboard layouts have them: X11 protocol, appendix A, and the
 * vendors' keys of X11's XF86keysym.h. A name of one character is that of ASCII; U and digits are a
 * character of Unicode.
 */
#include "display/keysyms.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* Sorted by name, as strcmp() does. */
static const struct keysym {
    const char *name;
    uint32_t number;
} keysyms[] = {
    /* clang-format off */
    {"AE", 0xc6}, {"Aacute", 0xc1}, {"Acircumflex", 0xc2}, {"Adiaeresis", 0xc4}, {"Agrave", 0xc0},
    {"Alt_L", 0xffe9}, {"Alt_R", 0xffea}, {"Amacron", 0x3c0}, {"Aogonek", 0x1a1},
    {"Arabic_0", 0x1000660}, {"Arabic_1", 0x1000661}, {"Arabic_2", 0x1000662},
    {"Arabic_3", 0x1000663}, {"Arabic_4", 0x1000664}, {"Arabic_5", 0x1000665},
    {"Arabic_6", 0x1000666}, {"Arabic_7", 0x1000667}, {"Arabic_8", 0x1000668},
    {"Arabic_9", 0x1000669}, {"Arabic_ain", 0x5d9}, {"Arabic_alef", 0x5c7},
    {"Arabic_alefmaksura", 0x5e9}, {"Arabic_beh", 0x5c8}, {"Arabic_comma", 0x5ac},
    {"Arabic_dad", 0x5d6}, {"Arabic_dal", 0x5cf}, {"Arabic_damma", 0x5ef},
    {"Arabic_dammatan", 0x5ec}, {"Arabic_fatha", 0x5ee}, {"Arabic_fathatan", 0x5eb},
    {"Arabic_feh", 0x5e1}, {"Arabic_gaf", 0x10006af}, {"Arabic_ghain", 0x5da},
    {"Arabic_ha", 0x5e7}, {"Arabic_hah", 0x5cd}, {"Arabic_hamza", 0x5c1},
    {"Arabic_hamzaonalef", 0x5c3}, {"Arabic_hamzaonwaw", 0x5c4}, {"Arabic_hamzaonyeh", 0x5c6},
    {"Arabic_hamzaunderalef", 0x5c5}, {"Arabic_jeem", 0x5cc}, {"Arabic_jeh", 0x1000698},
    {"Arabic_kaf", 0x5e3}, {"Arabic_kasra", 0x5f0}, {"Arabic_kasratan", 0x5ed},
    {"Arabic_khah", 0x5ce}, {"Arabic_lam", 0x5e4}, {"Arabic_maddaonalef", 0x5c2},
    {"Arabic_meem", 0x5e5}, {"Arabic_noon", 0x5e6}, {"Arabic_peh", 0x100067e},
    {"Arabic_percent", 0x100066a}, {"Arabic_qaf", 0x5e2}, {"Arabic_question_mark", 0x5bf},
    {"Arabic_ra", 0x5d1}, {"Arabic_sad", 0x5d5}, {"Arabic_seen", 0x5d3},
    {"Arabic_semicolon", 0x5bb}, {"Arabic_shadda", 0x5f1}, {"Arabic_sheen", 0x5d4},
    {"Arabic_sukun", 0x5f2}, {"Arabic_superscript_alef", 0x1000670}, {"Arabic_tah", 0x5d7},
    {"Arabic_tatweel", 0x5e0}, {"Arabic_tcheh", 0x1000686}, {"Arabic_teh", 0x5ca},
    {"Arabic_tehmarbuta", 0x5c9}, {"Arabic_thal", 0x5d0}, {"Arabic_theh", 0x5cb},
    {"Arabic_veh", 0x10006a4}, {"Arabic_waw", 0x5e8}, {"Arabic_yeh", 0x5ea}, {"Arabic_zah", 0x5d8},
    {"Arabic_zain", 0x5d2}, {"Aring", 0xc5}, {"BackSpace", 0xff08}, {"Cacute", 0x1c6},
    {"Cancel", 0xff69}, {"Caps_Lock", 0xffe5}, {"Ccaron", 0x1c8}, {"Ccedilla", 0xc7},
    {"Control_L", 0xffe3}, {"Control_R", 0xffe4}, {"Cyrillic_A", 0x6e1}, {"Cyrillic_BE", 0x6e2},
    {"Cyrillic_CHE", 0x6fe}, {"Cyrillic_DE", 0x6e4}, {"Cyrillic_DZHE", 0x6bf},
    {"Cyrillic_E", 0x6fc}, {"Cyrillic_EF", 0x6e6}, {"Cyrillic_EL", 0x6ec}, {"Cyrillic_EM", 0x6ed},
    {"Cyrillic_EN", 0x6ee}, {"Cyrillic_ER", 0x6f2}, {"Cyrillic_ES", 0x6f3},
    {"Cyrillic_GHE", 0x6e7}, {"Cyrillic_HA", 0x6e8}, {"Cyrillic_HARDSIGN", 0x6ff},
    {"Cyrillic_I", 0x6e9}, {"Cyrillic_IE", 0x6e5}, {"Cyrillic_IO", 0x6b3}, {"Cyrillic_JE", 0x6b8},
    {"Cyrillic_KA", 0x6eb}, {"Cyrillic_LJE", 0x6b9}, {"Cyrillic_NJE", 0x6ba},
    {"Cyrillic_O", 0x6ef}, {"Cyrillic_PE", 0x6f0}, {"Cyrillic_SHA", 0x6fb},
    {"Cyrillic_SHCHA", 0x6fd}, {"Cyrillic_SHORTI", 0x6ea}, {"Cyrillic_SOFTSIGN", 0x6f8},
    {"Cyrillic_TE", 0x6f4}, {"Cyrillic_TSE", 0x6e3}, {"Cyrillic_U", 0x6f5}, {"Cyrillic_VE", 0x6f7},
    {"Cyrillic_YA", 0x6f1}, {"Cyrillic_YERU", 0x6f9}, {"Cyrillic_YU", 0x6e0},
    {"Cyrillic_ZE", 0x6fa}, {"Cyrillic_ZHE", 0x6f6}, {"Cyrillic_a", 0x6c1}, {"Cyrillic_be", 0x6c2},
    {"Cyrillic_che", 0x6de}, {"Cyrillic_de", 0x6c4}, {"Cyrillic_dzhe", 0x6af},
    {"Cyrillic_e", 0x6dc}, {"Cyrillic_ef", 0x6c6}, {"Cyrillic_el", 0x6cc}, {"Cyrillic_em", 0x6cd},
    {"Cyrillic_en", 0x6ce}, {"Cyrillic_er", 0x6d2}, {"Cyrillic_es", 0x6d3},
    {"Cyrillic_ghe", 0x6c7}, {"Cyrillic_ha", 0x6c8}, {"Cyrillic_hardsign", 0x6df},
    {"Cyrillic_i", 0x6c9}, {"Cyrillic_ie", 0x6c5}, {"Cyrillic_io", 0x6a3}, {"Cyrillic_je", 0x6a8},
    {"Cyrillic_ka", 0x6cb}, {"Cyrillic_lje", 0x6a9}, {"Cyrillic_nje", 0x6aa},
    {"Cyrillic_o", 0x6cf}, {"Cyrillic_pe", 0x6d0}, {"Cyrillic_sha", 0x6db},
    {"Cyrillic_shcha", 0x6dd}, {"Cyrillic_shorti", 0x6ca}, {"Cyrillic_softsign", 0x6d8},
    {"Cyrillic_te", 0x6d4}, {"Cyrillic_tse", 0x6c3}, {"Cyrillic_u", 0x6d5}, {"Cyrillic_ve", 0x6d7},
    {"Cyrillic_ya", 0x6d1}, {"Cyrillic_yeru", 0x6d9}, {"Cyrillic_yu", 0x6c0},
    {"Cyrillic_ze", 0x6da}, {"Cyrillic_zhe", 0x6d6}, {"Delete", 0xffff}, {"Down", 0xff54},
    {"Dstroke", 0x1d0}, {"ENG", 0x3bd}, {"ETH", 0xd0}, {"EZH", 0x10001b7}, {"Eabovedot", 0x3cc},
    {"Eacute", 0xc9}, {"Egrave", 0xc8}, {"Eisu_toggle", 0xff30}, {"Emacron", 0x3aa},
    {"End", 0xff57}, {"Eogonek", 0x1ca}, {"Escape", 0xff1b}, {"EuroSign", 0x20ac},
    {"Execute", 0xff62}, {"F1", 0xffbe}, {"F10", 0xffc7}, {"F11", 0xffc8}, {"F12", 0xffc9},
    {"F2", 0xffbf}, {"F3", 0xffc0}, {"F4", 0xffc1}, {"F5", 0xffc2}, {"F6", 0xffc3}, {"F7", 0xffc4},
    {"F8", 0xffc5}, {"F9", 0xffc6}, {"Find", 0xff68}, {"Gbreve", 0x2ab}, {"Gcedilla", 0x3ab},
    {"Greek_OMEGA", 0x7d9}, {"Greek_PI", 0x7d0}, {"Greek_mu", 0x7ec}, {"Greek_pi", 0x7f0},
    {"Help", 0xff6a}, {"Henkan_Mode", 0xff23}, {"Hiragana", 0xff25}, {"Hiragana_Katakana", 0xff27},
    {"Home", 0xff50}, {"Hstroke", 0x2a1}, {"ISO_Left_Tab", 0xfe20}, {"ISO_Level3_Latch", 0xfe04},
    {"ISO_Level3_Shift", 0xfe03}, {"Iabovedot", 0x2a9}, {"Iacute", 0xcd}, {"Icircumflex", 0xce},
    {"Idiaeresis", 0xcf}, {"Igrave", 0xcc}, {"Imacron", 0x3cf}, {"Insert", 0xff63},
    {"Iogonek", 0x3c7}, {"KP_0", 0xffb0}, {"KP_1", 0xffb1}, {"KP_2", 0xffb2}, {"KP_3", 0xffb3},
    {"KP_4", 0xffb4}, {"KP_5", 0xffb5}, {"KP_6", 0xffb6}, {"KP_7", 0xffb7}, {"KP_8", 0xffb8},
    {"KP_9", 0xffb9}, {"KP_Add", 0xffab}, {"KP_Begin", 0xff9d}, {"KP_Decimal", 0xffae},
    {"KP_Delete", 0xff9f}, {"KP_Divide", 0xffaf}, {"KP_Down", 0xff99}, {"KP_End", 0xff9c},
    {"KP_Enter", 0xff8d}, {"KP_Equal", 0xffbd}, {"KP_Home", 0xff95}, {"KP_Insert", 0xff9e},
    {"KP_Left", 0xff96}, {"KP_Multiply", 0xffaa}, {"KP_Next", 0xff9b}, {"KP_Prior", 0xff9a},
    {"KP_Right", 0xff98}, {"KP_Separator", 0xffac}, {"KP_Subtract", 0xffad}, {"KP_Up", 0xff97},
    {"Kcedilla", 0x3d3}, {"Lcedilla", 0x3a6}, {"Left", 0xff51}, {"Linefeed", 0xff0a},
    {"Lstroke", 0x1a3}, {"Macedonia_DSE", 0x6b5}, {"Macedonia_GJE", 0x6b2},
    {"Macedonia_KJE", 0x6bc}, {"Macedonia_dse", 0x6a5}, {"Macedonia_gje", 0x6a2},
    {"Macedonia_kje", 0x6ac}, {"Menu", 0xff67}, {"Meta_L", 0xffe7}, {"Meta_R", 0xffe8},
    {"Mode_switch", 0xff7e}, {"Muhenkan", 0xff22}, {"Multi_key", 0xff20}, {"Nacute", 0x1d1},
    {"Ncedilla", 0x3d1}, {"Next", 0xff56}, {"Ntilde", 0xd1}, {"Num_Lock", 0xff7f}, {"OE", 0x13bc},
    {"Oacute", 0xd3}, {"Ocircumflex", 0xd4}, {"Odiaeresis", 0xd6}, {"Odoubleacute", 0x1d5},
    {"Ograve", 0xd2}, {"Omacron", 0x3d2}, {"Ooblique", 0xd8}, {"Oslash", 0xd8},
    {"Page_Down", 0xff56}, {"Page_Up", 0xff55}, {"Pause", 0xff13}, {"Print", 0xff61},
    {"Prior", 0xff55}, {"Rcedilla", 0x3a3}, {"Redo", 0xff66}, {"Return", 0xff0d},
    {"Right", 0xff53}, {"SCHWA", 0x100018f}, {"Sacute", 0x1a6}, {"Scaron", 0x1a9},
    {"Scedilla", 0x1aa}, {"Scroll_Lock", 0xff14}, {"Shift_L", 0xffe1}, {"Shift_R", 0xffe2},
    {"SunFront", 0x1005ff71}, {"SunProps", 0x1005ff70}, {"Super_L", 0xffeb}, {"Super_R", 0xffec},
    {"Sys_Req", 0xff15}, {"THORN", 0xde}, {"Tab", 0xff09}, {"Thai_baht", 0xddf},
    {"Thai_bobaimai", 0xdba}, {"Thai_chochan", 0xda8}, {"Thai_chochang", 0xdaa},
    {"Thai_choching", 0xda9}, {"Thai_chochoe", 0xdac}, {"Thai_dochada", 0xdae},
    {"Thai_dodek", 0xdb4}, {"Thai_fofa", 0xdbd}, {"Thai_fofan", 0xdbf}, {"Thai_hohip", 0xdcb},
    {"Thai_honokhuk", 0xdce}, {"Thai_khokhai", 0xda2}, {"Thai_khokhon", 0xda5},
    {"Thai_khokhuat", 0xda3}, {"Thai_khokhwai", 0xda4}, {"Thai_khorakhang", 0xda6},
    {"Thai_kokai", 0xda1}, {"Thai_lakkhangyao", 0xde5}, {"Thai_lekchet", 0xdf7},
    {"Thai_lekha", 0xdf5}, {"Thai_lekhok", 0xdf6}, {"Thai_lekkao", 0xdf9}, {"Thai_leknung", 0xdf1},
    {"Thai_lekpaet", 0xdf8}, {"Thai_leksam", 0xdf3}, {"Thai_leksi", 0xdf4},
    {"Thai_leksong", 0xdf2}, {"Thai_leksun", 0xdf0}, {"Thai_lochula", 0xdcc},
    {"Thai_loling", 0xdc5}, {"Thai_lu", 0xdc6}, {"Thai_maichattawa", 0xdeb}, {"Thai_maiek", 0xde8},
    {"Thai_maihanakat", 0xdd1}, {"Thai_maitaikhu", 0xde7}, {"Thai_maitho", 0xde9},
    {"Thai_maitri", 0xdea}, {"Thai_maiyamok", 0xde6}, {"Thai_moma", 0xdc1}, {"Thai_ngongu", 0xda7},
    {"Thai_nikhahit", 0xded}, {"Thai_nonen", 0xdb3}, {"Thai_nonu", 0xdb9}, {"Thai_oang", 0xdcd},
    {"Thai_paiyannoi", 0xdcf}, {"Thai_phinthu", 0xdda}, {"Thai_phophan", 0xdbe},
    {"Thai_phophung", 0xdbc}, {"Thai_phosamphao", 0xdc0}, {"Thai_popla", 0xdbb},
    {"Thai_rorua", 0xdc3}, {"Thai_ru", 0xdc4}, {"Thai_saraa", 0xdd0}, {"Thai_saraaa", 0xdd2},
    {"Thai_saraae", 0xde1}, {"Thai_saraaimaimalai", 0xde4}, {"Thai_saraaimaimuan", 0xde3},
    {"Thai_saraam", 0xdd3}, {"Thai_sarae", 0xde0}, {"Thai_sarai", 0xdd4}, {"Thai_saraii", 0xdd5},
    {"Thai_sarao", 0xde2}, {"Thai_sarau", 0xdd8}, {"Thai_saraue", 0xdd6}, {"Thai_sarauee", 0xdd7},
    {"Thai_sarauu", 0xdd9}, {"Thai_sorusi", 0xdc9}, {"Thai_sosala", 0xdc8}, {"Thai_soso", 0xdab},
    {"Thai_sosua", 0xdca}, {"Thai_thanthakhat", 0xdec}, {"Thai_thonangmontho", 0xdb1},
    {"Thai_thophuthao", 0xdb2}, {"Thai_thothahan", 0xdb7}, {"Thai_thothan", 0xdb0},
    {"Thai_thothong", 0xdb8}, {"Thai_thothung", 0xdb6}, {"Thai_topatak", 0xdaf},
    {"Thai_totao", 0xdb5}, {"Thai_wowaen", 0xdc7}, {"Thai_yoyak", 0xdc2}, {"Thai_yoying", 0xdad},
    {"Tslash", 0x3ac}, {"Uacute", 0xda}, {"Ucircumflex", 0xdb}, {"Udiaeresis", 0xdc},
    {"Udoubleacute", 0x1db}, {"Ugrave", 0xd9}, {"Umacron", 0x3de}, {"Undo", 0xff65},
    {"Uogonek", 0x3d9}, {"Up", 0xff52}, {"VoidSymbol", 0xffffff},
    {"XF86AudioLowerVolume", 0x1008ff11}, {"XF86AudioMedia", 0x1008ff32},
    {"XF86AudioMute", 0x1008ff12}, {"XF86AudioNext", 0x1008ff17}, {"XF86AudioPause", 0x1008ff31},
    {"XF86AudioPlay", 0x1008ff14}, {"XF86AudioPrev", 0x1008ff16},
    {"XF86AudioRaiseVolume", 0x1008ff13}, {"XF86AudioStop", 0x1008ff15}, {"XF86Back", 0x1008ff26},
    {"XF86Calculator", 0x1008ff1d}, {"XF86Copy", 0x1008ff57}, {"XF86Cut", 0x1008ff58},
    {"XF86Eject", 0x1008ff2c}, {"XF86Favorites", 0x1008ff30}, {"XF86Forward", 0x1008ff27},
    {"XF86HomePage", 0x1008ff18}, {"XF86Mail", 0x1008ff19}, {"XF86MenuKB", 0x1008ff65},
    {"XF86MyComputer", 0x1008ff33}, {"XF86Open", 0x1008ff6b}, {"XF86Paste", 0x1008ff6d},
    {"XF86PowerOff", 0x1008ff2a}, {"XF86Reload", 0x1008ff73}, {"XF86Sleep", 0x1008ff2f},
    {"XF86WakeUp", 0x1008ff2b}, {"Zabovedot", 0x1af}, {"Zacute", 0x1ac}, {"Zcaron", 0x1ae},
    {"Zenkaku_Hankaku", 0xff2a}, {"aacute", 0xe1}, {"abovedot", 0x1ff}, {"acircumflex", 0xe2},
    {"acute", 0xb4}, {"adiaeresis", 0xe4}, {"ae", 0xe6}, {"agrave", 0xe0}, {"amacron", 0x3e0},
    {"ampersand", 0x26}, {"aogonek", 0x1b1}, {"apostrophe", 0x27}, {"approxeq", 0x1002248},
    {"aring", 0xe5}, {"asciicircum", 0x5e}, {"asciitilde", 0x7e}, {"asterisk", 0x2a}, {"at", 0x40},
    {"backslash", 0x5c}, {"bar", 0x7c}, {"braceleft", 0x7b}, {"braceright", 0x7d},
    {"bracketleft", 0x5b}, {"bracketright", 0x5d}, {"breve", 0x1a2}, {"brokenbar", 0xa6},
    {"cacute", 0x1e6}, {"caron", 0x1b7}, {"ccaron", 0x1e8}, {"ccedilla", 0xe7}, {"cedilla", 0xb8},
    {"cent", 0xa2}, {"colon", 0x3a}, {"comma", 0x2c}, {"copyright", 0xa9}, {"currency", 0xa4},
    {"dead_abovedot", 0xfe56}, {"dead_abovering", 0xfe58}, {"dead_acute", 0xfe51},
    {"dead_belowcomma", 0xfe6e}, {"dead_belowdot", 0xfe60}, {"dead_belowmacron", 0xfe68},
    {"dead_breve", 0xfe55}, {"dead_caron", 0xfe5a}, {"dead_cedilla", 0xfe5b},
    {"dead_circumflex", 0xfe52}, {"dead_diaeresis", 0xfe57}, {"dead_doubleacute", 0xfe59},
    {"dead_grave", 0xfe50}, {"dead_hook", 0xfe61}, {"dead_horn", 0xfe62}, {"dead_macron", 0xfe54},
    {"dead_ogonek", 0xfe5c}, {"dead_stroke", 0xfe63}, {"dead_tilde", 0xfe53}, {"degree", 0xb0},
    {"diaeresis", 0xa8}, {"division", 0xf7}, {"dollar", 0x24}, {"doubleacute", 0x1bd},
    {"doublelowquotemark", 0xafe}, {"downarrow", 0x8fe}, {"dstroke", 0x1f0}, {"eabovedot", 0x3ec},
    {"eacute", 0xe9}, {"ecaron", 0x1ec}, {"egrave", 0xe8}, {"ellipsis", 0xaae}, {"emacron", 0x3ba},
    {"emdash", 0xaa9}, {"endash", 0xaaa}, {"eng", 0x3bf}, {"eogonek", 0x1ea}, {"equal", 0x3d},
    {"eth", 0xf0}, {"exclam", 0x21}, {"exclamdown", 0xa1}, {"ezh", 0x1000292},
    {"fiveeighths", 0xac5}, {"gbreve", 0x2bb}, {"gcedilla", 0x3bb}, {"grave", 0x60},
    {"greater", 0x3e}, {"greaterthanequal", 0x8be}, {"guillemotleft", 0xab},
    {"guillemotright", 0xbb}, {"horizconnector", 0x8a3}, {"hstroke", 0x2b1}, {"hyphen", 0xad},
    {"iacute", 0xed}, {"icircumflex", 0xee}, {"idiaeresis", 0xef}, {"idotless", 0x2b9},
    {"igrave", 0xec}, {"imacron", 0x3ef}, {"infinity", 0x8c2}, {"iogonek", 0x3e7},
    {"kcedilla", 0x3f3}, {"kra", 0x3a2}, {"lcedilla", 0x3b6}, {"leftarrow", 0x8fb},
    {"leftdoublequotemark", 0xad2}, {"leftsinglequotemark", 0xad0}, {"less", 0x3c},
    {"lessthanequal", 0x8bc}, {"logicaland", 0x8de}, {"logicalor", 0x8df}, {"lstroke", 0x1b3},
    {"macron", 0xaf}, {"masculine", 0xba}, {"minus", 0x2d}, {"mu", 0xb5}, {"multiply", 0xd7},
    {"nacute", 0x1f1}, {"ncedilla", 0x3f1}, {"nobreakspace", 0xa0}, {"notequal", 0x8bd},
    {"notsign", 0xac}, {"ntilde", 0xf1}, {"numbersign", 0x23}, {"numerosign", 0x6b0},
    {"oacute", 0xf3}, {"ocircumflex", 0xf4}, {"odiaeresis", 0xf6}, {"odoubleacute", 0x1f5},
    {"oe", 0x13bd}, {"ogonek", 0x1b2}, {"ograve", 0xf2}, {"omacron", 0x3f2}, {"oneeighth", 0xac3},
    {"onehalf", 0xbd}, {"onequarter", 0xbc}, {"onesuperior", 0xb9}, {"ordfeminine", 0xaa},
    {"oslash", 0xf8}, {"paragraph", 0xb6}, {"parenleft", 0x28}, {"parenright", 0x29},
    {"percent", 0x25}, {"period", 0x2e}, {"periodcentered", 0xb7}, {"permille", 0xad5},
    {"plus", 0x2b}, {"plusminus", 0xb1}, {"question", 0x3f}, {"questiondown", 0xbf},
    {"quotedbl", 0x22}, {"rcaron", 0x1f8}, {"rcedilla", 0x3b3}, {"registered", 0xae},
    {"rightarrow", 0x8fd}, {"rightdoublequotemark", 0xad3}, {"rightsinglequotemark", 0xad1},
    {"sacute", 0x1b6}, {"scaron", 0x1b9}, {"scedilla", 0x1ba}, {"schwa", 0x1000259},
    {"section", 0xa7}, {"semicolon", 0x3b}, {"seveneighths", 0xac6}, {"singlelowquotemark", 0xafd},
    {"slash", 0x2f}, {"space", 0x20}, {"ssharp", 0xdf}, {"sterling", 0xa3}, {"thorn", 0xfe},
    {"threeeighths", 0xac4}, {"threequarters", 0xbe}, {"threesuperior", 0xb3},
    {"trademark", 0xac9}, {"tslash", 0x3bc}, {"twosuperior", 0xb2}, {"uacute", 0xfa},
    {"ucircumflex", 0xfb}, {"udiaeresis", 0xfc}, {"udoubleacute", 0x1fb}, {"ugrave", 0xf9},
    {"umacron", 0x3fe}, {"underscore", 0x5f}, {"uogonek", 0x3f9}, {"uparrow", 0x8fc},
    {"uring", 0x1f9}, {"yacute", 0xfd}, {"ydiaeresis", 0xff}, {"yen", 0xa5}, {"zabovedot", 0x1bf},
    {"zacute", 0x1bc}, {"zcaron", 0x1be},
    /* clang-format on */
};

enum { UNICODE = 0x1000000, UNICODE_LAST = 0x10ffff, LATIN_1_LAST = 0xff };

static int keysym_compare(const void *name, const void *at)
{
    return strcmp(name, ((const struct keysym *)at)->name);
}

/* Latin 1's characters are keysyms themselves. */
static uint32_t from_unicode(unsigned long c)
{
    return c > UNICODE_LAST ? 0 : c <= LATIN_1_LAST ? (uint32_t)c : (uint32_t)c + UNICODE;
}

uint32_t keysym_from_name(const char *name)
{
    char *end;
    if (name[0] > ' ' && name[0] < 0x7f && !name[1]) {
        return (uint32_t)name[0];
    }
    const struct keysym *k =
        bsearch(name, keysyms, ARRAY_LEN(keysyms), sizeof(keysyms[0]), keysym_compare);
    if (k) {
        return k->number;
    }
    if (!strncmp(name, "0x", 2)) {
        unsigned long v = strtoul(name, &end, 16);
        return *end || v > UINT32_MAX ? 0 : (uint32_t)v;
    }
    unsigned long c = name[0] == 'U' ? strtoul(name + 1, &end, 16) : 0;
    return c && !*end ? from_unicode(c) : 0;
}
