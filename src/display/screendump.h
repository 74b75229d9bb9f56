/* The screen as a picture in a file. */
#ifndef DISPLAY_SCREENDUMP_H
#define DISPLAY_SCREENDUMP_H

struct display;
struct err;

enum screendump_format { SCREENDUMP_PPM, SCREENDUMP_PNG };

/* Refreshes once. The loop's thread. */
int display_screendump(struct display *d, const char *path, enum screendump_format format,
                       struct err *err);

#endif
