/* Options about screens. */
#ifndef VMM_OPTION_DISPLAY_H
#define VMM_OPTION_DISPLAY_H

struct err;
struct options;

int option_take_keymap(struct options *o, const char *arg, struct err *err);
int option_take_vga(struct options *o, const char *arg, struct err *err);
int option_take_display(struct options *o, const char *arg, struct err *err);
int option_take_vnc(struct options *o, const char *arg, struct err *err);
int option_take_full_screen(struct options *o, const char *arg, struct err *err);

#endif
