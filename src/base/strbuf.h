/* Growing text buffer. Always NUL-terminated once something was added; aborts without memory. */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stddef.h>

struct strbuf {
    char *text; /* NULL while empty */
    size_t len, room;
};

void strbuf_add(struct strbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_add_bytes(struct strbuf *sb, const void *bytes, size_t len);
void strbuf_clear(struct strbuf *sb); /* keeps the memory */
void strbuf_free(struct strbuf *sb);
const char *strbuf_text(const struct strbuf *sb); /* "" while empty */

#endif
