/* log.c -- lines of xmppedge's log become entries: which connection, when, and why it ended
 *
 *   log_push()     cuts into lines; log_take() finds the time in one, whatever stands before it
 *   log_fields()   key=value, or an object of JSON: the same fields, into one struct
 *   log_judge()    which kind of line it is, by its event: log_rows[] names those that are read
 *
 * Whoever wants ten gigabytes searched wants it fast: a line that does not have the word of an
 * event is gone after one look.
 */
#include "log.h"

#include <stddef.h>

#define LOG_PREFIX_MAX 256   /* bytes before the time: of syslog, of the journal */

struct log_reader {
    const struct log_events *ev;      /* borrowed */
    void                    *user;
    struct log_counts        counts;
    size_t                   len;
    bool                     skip;    /* the rest of a line that is too long */
    char                     line[LOG_LINE_MAX];
};

/* ---- events ---- */

static const struct log_row {
    const char   *event;
    enum log_kind kind;
    enum log_way  way;
} log_rows[] = {
    { "s2s-in-closed", LOG_CLOSED, LOG_WAY_IN },
    { "s2s-out-closed", LOG_CLOSED, LOG_WAY_OUT },
    { "s2s-verify-closed", LOG_CLOSED, LOG_WAY_OUT },
    { "s2s-target-failed", LOG_CLOSED, LOG_WAY_OUT },
    { "trunk-down", LOG_CLOSED, LOG_WAY_UNKNOWN },
    { "connection-refused", LOG_CLOSED, LOG_WAY_IN },
    { "s2s-in-refused", LOG_REFUSED, LOG_WAY_IN },
    { "s2s-out-sasl-refused", LOG_REFUSED, LOG_WAY_OUT },
    { "pair-joined", LOG_PAIRED, LOG_WAY_UNKNOWN }
};

static const struct log_row *
log_row(struct xe_span event)
{
    size_t i;
    for (i = 0; i < sizeof log_rows / sizeof *log_rows; i++)
        if (text_is(event, log_rows[i].event))
            return &log_rows[i];
    return NULL;
}

/* ---- the time ---- */

static bool
log_digits(const char *at, size_t n, int *out)
{
    *out = 0;
    for (; n > 0; n--, at++) {
        if (*at < '0' || *at > '9')
            return false;
        *out = *out * 10 + (*at - '0');
    }
    return true;
}

/* "2026-11-22T03:14:15.926Z": how many bytes it takes; 0: this is none. */
static size_t
log_stamp(struct xe_span s, int64_t *ns)
{
    int year, month, day, hour, minute, second, digit;
    int64_t part = 0, unit = SECOND;
    size_t at = 19;
    if (s.len < 21 || s.at[4] != '-' || s.at[7] != '-' || s.at[10] != 'T' || s.at[13] != ':'
        || s.at[16] != ':' || !log_digits(s.at, 4, &year) || !log_digits(s.at + 5, 2, &month)
        || !log_digits(s.at + 8, 2, &day) || !log_digits(s.at + 11, 2, &hour)
        || !log_digits(s.at + 14, 2, &minute) || !log_digits(s.at + 17, 2, &second))
        return 0;
    if (s.at[at] == '.')
        for (at++; at < s.len && unit > 1 && log_digits(s.at + at, 1, &digit); at++)
            part += (unit /= 10) * digit;
    if (at >= s.len || s.at[at] != 'Z' || year < 1970 || year > 2199 || month < 1 || month > 12
        || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return 0;
    *ns = xe_date_seconds(&(struct xe_date){ year, month, day, hour, minute, second }) * SECOND
        + part;
    return at + 1;
}

/* ---- values ---- */

static struct xe_span
log_skip(struct xe_span s, size_t n)
{
    n = n < s.len ? n : s.len;
    return (struct xe_span){ s.at + n, s.len - n };
}

/* A code point in UTF-8, as far as there is room. */
static void
log_put_code(char *out, size_t size, size_t *n, unsigned code)
{
    char bytes[3];
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : 3, i;
    static const unsigned char first[] = { 0, 0, 0xC0, 0xE0 };
    for (i = len; i-- > 1; code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3F));
    bytes[0] = (char)(first[len] | code);
    if (code == 0 || *n + len >= size)
        return;
    memcpy(out + *n, bytes, len);
    *n += len;
}

/* What stands behind a backslash; returns the bytes that it takes. */
static size_t
log_escape(struct xe_span s, char *out, size_t size, size_t *n)
{
    static const char names[] = "bfnrt", codes[] = "\b\f\n\r\t";
    const char *name = memchr(names, s.at[0], sizeof names - 1);
    char hex[5] = "";
    char *end;
    if (s.at[0] != 'u' || s.len < 5) {
        log_put_code(out, size, n, (unsigned char)(name != NULL ? codes[name - names] : s.at[0]));
        return 1;
    }
    memcpy(hex, s.at + 1, 4);
    log_put_code(out, size, n, (unsigned)strtoul(hex, &end, 16));
    return 5;
}

/* A string of JSON, behind its quotation mark; the rest of the line. */
static struct xe_span
log_string(struct xe_span s, char *out, size_t size)
{
    size_t n = 0;
    while (s.len > 0 && s.at[0] != '"') {
        if (s.at[0] == '\\' && s.len > 1) {
            s = log_skip(s, 1);
            s = log_skip(s, log_escape(s, out, size, &n));
            continue;
        }
        if (n + 1 < size)
            out[n++] = s.at[0];
        s = log_skip(s, 1);
    }
    out[n] = '\0';
    return log_skip(s, 1);
}

/* A value of either form, up to the blank, comma or bracket behind it. */
static struct xe_span
log_value(struct xe_span s, char *out, size_t size)
{
    size_t n = 0;
    if (s.len > 0 && s.at[0] == '"')
        return log_string(log_skip(s, 1), out, size);
    for (; s.len > 0 && strchr(" ,}\r", s.at[0]) == NULL; s = log_skip(s, 1))
        if (n + 1 < size)
            out[n++] = s.at[0];
    out[n] = '\0';
    return s;
}

/* An IPv4 address that stands in one of IPv6 is what it is. */
static void
log_host(char *host, struct address *out)
{
    static const unsigned char mapped[12] = { [10] = 0xFF, [11] = 0xFF };
    host[strcspn(host, "%")] = '\0';
    if (address_read(host, out) && out->family == 6
        && memcmp(out->bytes, mapped, sizeof mapped) == 0) {
        memmove(out->bytes, out->bytes + 12, 4);
        memset(out->bytes + 4, 0, 12);
        out->family = 4;
    }
}

/* "192.0.2.1:5269", "[2001:db8::1]:5269", an address alone. */
static struct log_end
log_endpoint(const char *text)
{
    struct log_end e = { { { 0 }, 0 }, 0 };
    char host[LOG_NAME_MAX];
    char *port;
    int number;
    snprintf(host, sizeof host, "%.127s", text[0] == '[' ? text + 1 : text);
    port = strrchr(host, ':');
    if (text[0] == '[' && port != NULL && port > host && port[-1] == ']')
        port[-1] = '\0';
    else if (port != NULL && strchr(host, ':') == port)
        *port = '\0';
    else
        port = NULL;
    if (text[0] == '[')
        host[strcspn(host, "]")] = '\0';
    log_host(host, &e.address);
    if (port != NULL && e.address.family != 0 && strlen(port + 1) <= 5
        && log_digits(port + 1, strlen(port + 1), &number) && number <= 65535)
        e.port = (uint16_t)number;
    return e;
}

/* ---- fields ---- */

/* Where a field goes: as text, or as an end of a connection. */
static const struct log_field {
    const char *key;
    size_t      at, size;   /* in struct log_entry; size 0: an end */
} log_fields_known[] = {
#define LOG_TEXT(key, member) { key, offsetof(struct log_entry, member), \
    sizeof ((struct log_entry *)NULL)->member }
#define LOG_END(key, member) { key, offsetof(struct log_entry, member), 0 }
    LOG_TEXT("state", state), LOG_TEXT("hop", hop),
    LOG_TEXT("why", word), LOG_TEXT("cert", cert), LOG_TEXT("detail", detail),
    LOG_TEXT("local", local), LOG_TEXT("from", local), LOG_TEXT("remote", remote),
    LOG_TEXT("claims", remote), LOG_TEXT("name", remote), LOG_TEXT("to", remote),
    LOG_END("peer", peer), LOG_END("via", own), LOG_END("s2s_local", own),
    LOG_END("s2s_peer", peer), LOG_END("trunk_local", trunk_own), LOG_END("trunk_peer", trunk_peer)
#undef LOG_TEXT
#undef LOG_END
};

static struct xe_span
log_field(struct log_entry *e, struct xe_span key, struct xe_span value)
{
    char text[LOG_WORDS_MAX] = "";
    char *place = (char *)e;
    size_t i;
    value = log_value(value, text, sizeof text);
    for (i = 0; i < sizeof log_fields_known / sizeof *log_fields_known; i++) {
        const struct log_field *f = &log_fields_known[i];
        struct log_end end;
        if (!text_is(key, f->key))
            continue;
        if (f->size > 0) {
            snprintf(place + f->at, f->size, "%.*s", (int)f->size - 1, text);
        } else {
            end = log_endpoint(text);
            memcpy(place + f->at, &end, sizeof end);
        }
    }
    return value;
}

/* All fields of a line: what is no key and value is passed over. */
static void
log_fields(struct log_entry *e, struct xe_span s, bool json)
{
    while (s.len > 0) {
        struct xe_span key = s;
        size_t n = 0;
        if (json && s.at[0] == '"')
            key = s = log_skip(s, 1);
        while (n < s.len && ((s.at[n] >= 'a' && s.at[n] <= 'z') || s.at[n] == '_'
            || (n > 0 && s.at[n] >= '0' && s.at[n] <= '9')))
            n++;
        key.len = n;
        s = log_skip(s, n);
        if (n > 0 && !json && s.len > 0 && s.at[0] == '=')
            s = log_field(e, key, log_skip(s, 1));
        else if (n > 0 && json && s.len > 1 && s.at[0] == '"' && s.at[1] == ':')
            s = log_field(e, key, log_skip(s, 2));
        else
            s = log_skip(s, 1);
    }
}

/* ---- lines ---- */

/* The line is one of those that are read, and says enough. */
static bool
log_judge(struct log_entry *e, const struct log_row *row)
{
    e->kind = row->kind;
    e->way = row->way;
    e->why = xe_why_find((struct xe_span){ e->word, strlen(e->word) });
    if (e->kind == LOG_PAIRED)
        return e->own.port != 0 && e->peer.port != 0 && e->trunk_own.port != 0
            && e->trunk_peer.port != 0;
    return e->peer.address.family != 0 && e->peer.port != 0 && e->word[0] != '\0';
}

/* The event of a line of text: the word behind the level.  *rest is what follows it. */
static struct xe_span
log_event(struct xe_span *rest)
{
    struct xe_span event = *rest;
    size_t i;
    for (i = 0; i < 2; i++) {
        while (rest->len > 0 && rest->at[0] == ' ')
            *rest = log_skip(*rest, 1);
        event = *rest;
        while (rest->len > 0 && rest->at[0] != ' ')
            *rest = log_skip(*rest, 1);
    }
    event.len -= rest->len;
    return event;
}

/* That of an object of JSON.  Quotation marks inside of a value have a backslash before them, so
 * that this key is one. */
static struct xe_span
log_json_event(struct xe_span s)
{
    static const char key[] = "\"event\":\"";
    const char *at;
    size_t n = sizeof key - 1;
    while (s.len >= n && (at = memchr(s.at, '"', s.len - n + 1)) != NULL) {
        s = log_skip(s, (size_t)(at - s.at));
        if (memcmp(s.at, key, n) == 0) {
            s = log_skip(s, n);
            at = memchr(s.at, '"', s.len);
            return (struct xe_span){ s.at, at == NULL ? 0 : (size_t)(at - s.at) };
        }
        s = log_skip(s, 1);
    }
    return (struct xe_span){ s.at, 0 };
}

/* " warn  s2s-in-closed dir=in ...", or what follows the time of an object of JSON. */
static void
log_say(struct log_reader *r, struct xe_span rest, int64_t time_ns, bool json)
{
    struct log_entry e = { .time_ns = time_ns };
    const struct log_row *row = log_row(json ? log_json_event(rest) : log_event(&rest));
    if (row == NULL)
        return;
    log_fields(&e, rest, json);
    snprintf(e.event, sizeof e.event, "%s", row->event);
    if (!log_judge(&e, row))
        return;
    r->counts.entries++;
    if (r->ev->entry != NULL)
        r->ev->entry(r->user, &e);
}

static void
log_note_time(struct log_counts *c, int64_t ns)
{
    c->lines++;
    if (c->first_ns == 0 || ns < c->first_ns)
        c->first_ns = ns;
    if (ns > c->last_ns)
        c->last_ns = ns;
}

static void
log_take(struct log_reader *r, struct xe_span line)
{
    size_t at;
    for (at = 0; at < line.len && at < LOG_PREFIX_MAX; at++) {
        struct xe_span rest = log_skip(line, at);
        bool json = rest.at[0] == '"';
        int64_t ns;
        size_t used = rest.at[0] == '1' || rest.at[0] == '2' || json
            ? log_stamp(log_skip(rest, json), &ns) : 0;
        if (used == 0)
            continue;
        rest = log_skip(rest, used + json);
        if (rest.len == 0 || rest.at[0] != (json ? '"' : ' '))
            continue;   /* the journal has a time of its own */
        log_note_time(&r->counts, ns);
        log_say(r, log_skip(rest, 1), ns, json);
        return;
    }
    r->counts.others += line.len > 0;
}

struct log_reader *
log_new(const struct log_events *ev, void *user)
{
    struct log_reader *r = memory_try(malloc(sizeof *r));
    if (r == NULL)
        return NULL;
    memset(r, 0, offsetof(struct log_reader, line));
    r->ev = ev;
    r->user = user;
    return r;
}

void
log_free(struct log_reader *r)
{
    free(r);
}

/* A whole line, or what there was before it and it. */
static void
log_cut(struct log_reader *r, const char *at, size_t len)
{
    if (r->len == 0 && !r->skip && len <= LOG_LINE_MAX) {
        log_take(r, (struct xe_span){ at, len });
        return;
    }
    if (r->skip || len > LOG_LINE_MAX - r->len) {
        r->counts.others++;
    } else {
        memcpy(r->line + r->len, at, len);
        log_take(r, (struct xe_span){ r->line, r->len + len });
    }
    r->len = 0;
    r->skip = false;
}

void
log_push(struct log_reader *r, const char *at, size_t len)
{
    while (len > 0) {
        const char *end = memchr(at, '\n', len);
        if (end == NULL)
            break;
        log_cut(r, at, (size_t)(end - at));
        len -= (size_t)(end - at) + 1;
        at = end + 1;
    }
    r->skip |= len > LOG_LINE_MAX - r->len;
    if (len > 0 && !r->skip) {
        memcpy(r->line + r->len, at, len);
        r->len += len;
    }
}

void
log_finish(struct log_reader *r)
{
    if (r->len > 0 || r->skip)
        log_cut(r, "", 0);
}

struct log_counts
log_count(const struct log_reader *r)
{
    return r->counts;
}
