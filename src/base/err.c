/* Error sentences. Does no printing: only main() shows them. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

/* What comes out of images and from servers does not get to a terminal as it is: a sentence is one
 * line without control characters. */
static void err_clean(struct err *err)
{
    for (char *at = err->text; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    err_clean(err);
    return -code;
}

int err_prefix(struct err *err, int ret, const char *fmt, ...)
{
    struct err old = *err;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->text)) {
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %.*s",
                 (int)(sizeof(old.text) - 1), old.text);
    }
    err_clean(err);
    return ret;
}
