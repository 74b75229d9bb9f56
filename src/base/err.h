/*
 * One sentence for the person at the keyboard: what was being done to which object.
 * A function that can fail for a user's reason takes a last argument `struct err *`
 * (never NULL), fills it and returns -errno. Callers add context, never reprint.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

struct err {
    char text[512];
};

/* Sets the sentence; returns -code so that `return err_set(err, EINVAL, ...)` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the sentence already there; returns `ret` unchanged. */
int err_prefix(struct err *err, int ret, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
