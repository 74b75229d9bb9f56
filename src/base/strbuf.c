/* Growing text buffer. */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void strbuf_reserve(struct strbuf *sb, size_t more)
{
    if (sb->len + more + 1 <= sb->room) {
        return;
    }
    sb->room = (sb->len + more + 1) * 2;
    sb->text = realloc(sb->text, sb->room);
    if (!sb->text) {
        abort();
    }
}

void strbuf_add(struct strbuf *sb, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    strbuf_reserve(sb, (size_t)n);
    va_start(ap, fmt);
    vsnprintf(sb->text + sb->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    sb->len += (size_t)n;
}

void strbuf_add_bytes(struct strbuf *sb, const void *bytes, size_t len)
{
    strbuf_reserve(sb, len);
    if (len) { /* else `bytes` may be NULL */
        memcpy(sb->text + sb->len, bytes, len);
    }
    sb->len += len;
    sb->text[sb->len] = 0;
}

void strbuf_clear(struct strbuf *sb)
{
    sb->len = 0;
    if (sb->text) {
        sb->text[0] = 0;
    }
}

void strbuf_free(struct strbuf *sb)
{
    free(sb->text);
    *sb = (struct strbuf){0};
}

const char *strbuf_text(const struct strbuf *sb)
{
    return sb->text ? sb->text : "";
}
