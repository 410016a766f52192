/* base.c -- memory and text that grow; when memory is out the program says so */
#include "base.h"

#include <stdarg.h>

/* ---- memory ---- */

void *
memory_or_exit(void *at)
{
    if (at == NULL) {
        fputs("xmppedge-analyze: out of memory\n", stderr);
        exit(2);
    }
    return at;
}

static bool was_short;

bool
memory_suffices(bool good)
{
    was_short |= !good;
    return good;
}

void *
memory_try(void *at)
{
    memory_suffices(at != NULL);
    return at;
}

bool
memory_is_there(void)
{
    void *volatile at = memory_try(malloc(4096));   /* or the compiler knows that there is some */
    free(at);
    return at != NULL;
}

bool
memory_was_short(void)
{
    return was_short;
}

void *
memory_get(size_t len)
{
    return memory_or_exit(calloc(1, len == 0 ? 1 : len));
}

void *
memory_room(void *at, size_t *cap, size_t need)
{
    size_t more = *cap < 256 ? 256 : *cap;
    if (need <= *cap)
        return at;
    while (more < need)
        more *= 2;
    *cap = more;
    return memory_or_exit(realloc(at, more));
}

void *
list_grow(void *list, size_t n, size_t size)
{
    if ((n & (n - 1)) != 0)
        return list;   /* it grows at powers of two */
    return memory_try(realloc(list, (n == 0 ? 1 : 2 * n) * size));
}

/* ---- numbers ---- */

uint32_t
hash_bytes(uint32_t h, const void *at, size_t n)
{
    const unsigned char *byte = at;
    while (n-- > 0)
        h = (h ^ *byte++) * 16777619u;
    return h;
}

/* ---- text ---- */

void
text_clear(struct text *t)
{
    t->len = 0;
    text_put(t, "", 0);
}

void
text_put(struct text *t, const char *at, size_t len)
{
    t->at = memory_room(t->at, &t->cap, t->len + len + 1);
    if (len > 0)
        memcpy(t->at + t->len, at, len);
    t->len += len;
    t->at[t->len] = '\0';
}

void
text_join(struct text *t, ...)
{
    const char *s;
    va_list list;
    va_start(list, t);
    while ((s = va_arg(list, const char *)) != NULL)
        text_put(t, s, strlen(s));
    va_end(list);
}

void
text_free(struct text *t)
{
    free(t->at);
    memset(t, 0, sizeof *t);
}

size_t
text_wrap(FILE *to, size_t column, size_t indent, size_t width, const char *s)
{
    for (; column < indent; column++)
        fputc(' ', to);
    while (*s != '\0') {
        size_t len = strcspn(s, " ");
        if (column > indent && column + 1 + len > width) {
            fprintf(to, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', to);
            column++;
        }
        fwrite(s, 1, len, to);
        column += len;
        s += len;
        s += strspn(s, " ");
    }
    return column;
}

bool
text_is(struct xe_span s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
}
