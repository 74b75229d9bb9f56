/* Who shows the screen, as the options say. */
#ifndef VMM_VIEWERS_H
#define VMM_VIEWERS_H

struct err;
struct machine;
struct options;
struct viewers;
struct vnc;

/* NULL with a sentence. The devices are there. */
struct viewers *viewers_new(struct machine *m, const struct options *o, struct err *err);
struct vnc *viewers_vnc(const struct viewers *v); /* or NULL */
void viewers_free(struct viewers *v);             /* before the machine goes */
void viewers_leave(struct viewers *v);            /* when the process ends */

#endif
