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

/* The year begins in March, so that the day that is not always there is its last. */
int64_t
days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1, m = (month + 9) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

/* Back from days_of: 400 years have 146,097 days, of which the last one is 29 February. */
void
date_of(int64_t seconds, struct date *out)
{
    int64_t days = seconds / 86400, rest = seconds % 86400, era, year, month;
    days += 719468 - (rest < 0);
    rest += rest < 0 ? 86400 : 0;
    era = (days < 0 ? days - 146096 : days) / 146097;
    days -= 146097 * era;
    year = (days - days / 1460 + days / 36524 - days / 146096) / 365;
    days -= 365 * year + year / 4 - year / 100;
    month = (5 * days + 2) / 153;
    out->year = 400 * era + year + (month >= 10);
    out->month = (int)(month < 10 ? month + 3 : month - 9);
    out->day = (int)(days - (153 * month + 2) / 5 + 1);
    out->hour = (int)(rest / 3600);
    out->minute = (int)(rest / 60 % 60);
    out->second = (int)(rest % 60);
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
