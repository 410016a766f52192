/* test_xml_expat.c -- [XML] against libexpat, over documents made by a grammar and then damaged
 *
 * Four promises.  What the tokenizer passes (and does not mark as unbound), expat accepts, with
 * the separators of Prosody, ejabberd and jabberd2.  What xmlout_stanza() writes, expat accepts on
 * a fresh stream.  And it reads the same there: expanded names, attributes and text, but for
 * jabber:client, which becomes jabber:server in the content chain, and xml:lang, which comes from
 * the header.  What expat accepts never ends the stream, however low the limits: each element is
 * told, to be forwarded or returned; only what RFC 6120 11.1 forbids is not.
 *
 * The number of documents is the first argument (20,000 by default), the seed the second: the same
 * documents every time.
 */
#include "cut/XML.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <expat.h>
#include "guard.h"

#define FRESH "<stream:stream xmlns='jabber:server' " \
    "xmlns:stream='http://etherx.jabber.org/streams'>"
#define SEP '\001'

static unsigned long documents = 20000;
static uint64_t seed = 1;
static struct guard guard;

/* ---- documents ---- */

/* xorshift64*: the same numbers everywhere */
static unsigned
dice(unsigned sides)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (unsigned)((seed * 0x2545f4914f6cdd1dull) >> 33) % sides;
}

#define PICK(list) list[dice(sizeof list / sizeof *list)]

#define STREAMS "'http://etherx.jabber.org/streams'"

static const char *const headers[] = {
    ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream=" STREAMS
        " xmlns:db='jabber:server:dialback' xml:lang='en' to='a' from='b'>"),
    ("<stream:stream xmlns='jabber:server' xmlns:stream=" STREAMS ">"),
    ("<stream:stream xmlns='jabber:client' xmlns:stream=" STREAMS
        " xmlns:p=\"urn:it's\" xml:lang=\"d'e\">"),
    ("<stream xmlns=" STREAMS " xmlns:s='jabber:server' xmlns:p='urn:h'>"),
    ("<s:stream xmlns:s=" STREAMS " xmlns:p='jabber:server' xmlns:q='urn:h'>"),
    ("<x:stream xmlns:x=" STREAMS " xmlns='urn:odd&amp;x' xmlns:p='a b'>"),
};
static const char *const prefixes[] = { "", "", "", "", "", "", "p:", "p:", "q:", "s:", "db:",
    "stream:", "xml:", "u:", "xmlns:" };
static const char *const names[] = { "message", "iq", "presence", "body", "x", "y", "forwarded",
    "a", "\xc3\xa9", "_.-9", "message" };
static const char *const uris[] = { "jabber:server", "jabber:client", "jabber:client", "urn:a",
    "urn:b", "", "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/", "a b",
    "urn:&amp;", "u|v", "it's", "jabber:serve&#114;", "urn:\xc3\xa9", "urn:a\n" };
static const char *const good_uris[] = { "jabber:server", "jabber:client", "urn:a", "urn:b", "it's",
    "urn:xmpp:forward:0" };
static const char *const attrs[] = { "to", "from", "id", "type", "xml:lang", "a", "b", "p:a", "q:a",
    "s:a", "u:a", "xml:space", "db:a" };
static const char *const values[] = { "a@b.example", "", "x", "1", "&lt;&amp;&#x41;", "\xc3\xa9",
    "a>b", "\t\n ", "]]>", "{", "&quot;&apos;" };
static const char *const texts[] = { "hello", " ", "\n", "&amp;", "&#65;&#x20AC;", "\xe2\x82\xac",
    "]", "<![CDATA[x]]>", "<![CDATA[<&]]]>]]>", "<![CDATA[]]>", "]]&gt;", "'\"", "\r\n",
    "a long text that has more than eight bytes and some more of them", "\xf0\x9f\x98\x80" };
static const char *const rare[] = { "<!-- c -->", "<?pi?>", "&nbsp;", "]]>", "<", "&", "\x01",
    "\xff", "<!DOCTYPE a>", "\xed\xa0\x80", "\xef\xbf\xbf", "<![CDATA[", "</", "/>" };

/* Prefixes that are declared somewhere around, a bit for each. */
static const char letters[] = "pqs";

static unsigned
scope_of(const char *header)
{
    unsigned scope = 0;
    unsigned i;
    for (i = 0; i < 3; i++) {
        char text[] = "xmlns:?=";
        text[6] = letters[i];
        scope |= strstr(header, text) != NULL ? 1u << i : 0;
    }
    return scope;
}

/* Declare prefix number `which`, 3 for the default. */
static void
make_declaration(struct buf *b, unsigned which, bool wild)
{
    const char *uri = wild ? PICK(uris) : PICK(good_uris);
    const char *quote = strchr(uri, '\'') != NULL || dice(4) == 0 ? "\"" : "'";
    buf_puts(b, " xmlns");
    if (which < 3) {
        buf_putc(b, ':');
        buf_putc(b, letters[which]);
    }
    buf_puts(b, dice(8) == 0 ? " = " : "=");
    buf_puts(b, quote);
    buf_puts(b, uri);
    buf_puts(b, quote);
}

static void
make_attribute(struct buf *b, const char *name)
{
    const char *quote = dice(3) == 0 ? "\"" : "'";
    buf_puts(b, dice(8) == 0 ? "\n " : " ");
    buf_puts(b, name);
    buf_puts(b, dice(8) == 0 ? " = " : "=");
    buf_puts(b, quote);
    buf_puts(b, PICK(values));
    buf_puts(b, quote);
}

/* Make an element.  A tame one uses prefixes that are in scope and each attribute once. */
static void
make_element(struct buf *b, int depth, bool wild, unsigned scope)
{
    char prefix[16] = "";
    const char *name = dice(10) != 0 && depth == 0 ? names[dice(3)] : wild ? PICK(names)
        : names[dice(8)];
    unsigned declared = 0;
    unsigned n;
    for (n = 0; n < 4; n++)
        declared |= dice(depth == 0 ? 4 : 7) == 0 ? 1u << n : 0;
    scope |= declared & 7;
    n = dice(9);
    if (wild && dice(4) == 0)
        strcpy(prefix, PICK(prefixes));
    else if (n < 3 && (scope >> n & 1) != 0)
        prefix[0] = letters[n], prefix[1] = ':';
    buf_puts(b, "<");
    buf_puts(b, prefix);
    buf_puts(b, name);
    for (n = 0; n < 4; n++)
        if ((declared >> n & 1) != 0)
            make_declaration(b, n, wild && dice(3) == 0);
    if (wild && dice(4) == 0)
        make_attribute(b, PICK(attrs));
    for (n = dice(7); n < 7; n += 1 + dice(5))
        make_attribute(b, attrs[n]);
    if ((scope & 1) != 0 && dice(5) == 0)
        make_attribute(b, "p:z");
    if ((scope & 4) != 0 && dice(5) == 0)
        make_attribute(b, "s:y");
    if (dice(4) == 0) {
        buf_puts(b, dice(3) == 0 ? " />" : "/>");
        return;
    }
    buf_puts(b, ">");
    for (n = dice(4); n > 0; n--) {
        if (depth < 5 && dice(2) == 0)
            make_element(b, depth + 1, wild, scope);
        else if (wild && dice(60) == 0)
            buf_puts(b, PICK(rare));
        else
            buf_puts(b, PICK(texts));
    }
    buf_puts(b, "</");
    buf_puts(b, prefix);
    buf_puts(b, name);
    buf_puts(b, dice(8) == 0 ? " >" : ">");
}

/* Damage a few bytes. */
static void
damage(struct buf *b)
{
    static const char bytes[] = "<>&'\"/=: ]![-;#x\0\x80\xc3\xef\t\nap1";
    unsigned n = 1 + dice(3);
    while (n-- > 0 && buf_len(b) > 1) {
        size_t at = dice((unsigned)buf_len(b));
        char *p = b->bytes + b->head + at;
        size_t left = buf_len(b) - at;
        size_t len = 1 + dice(8);
        switch (dice(4)) {
        case 0:
            *p = bytes[dice(sizeof bytes - 1)];
            break;
        case 1:                                             /* take some out */
            len = len < left ? len : left;
            memmove(p, p + len, left - len);
            b->tail -= len;
            break;
        case 2:                                             /* double some */
            len = len < left ? len : left;
            if (buf_room(b, len) != NULL) {
                p = b->bytes + b->head + at;
                memmove(p + len, p, left);
                b->tail += len;
            }
            break;
        case 3:
            *p = (char)dice(256);
            break;
        }
    }
}

/* ---- what expat reads, as text ---- */

struct canon {
    struct buf     out;
    bool           map;       /* put jabber:client and xml:lang right, as forwarding would */
    struct xe_span lang;      /* of the header, as text; at == NULL for none */
    int            depth;
    int            chain;     /* depth of the innermost element of the content chain */
    bool           text;      /* text is open */
};

static bool
canon_is_client(const char *name)
{
    return strncmp(name, "jabber:client\001", 14) == 0;
}

static int
compare_attrs(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
canon_start(void *user, const char *name, const char **atts)
{
    struct canon *c = user;
    const char *lang = "http://www.w3.org/XML/1998/namespace\001lang";
    bool content = canon_is_client(name) || strncmp(name, "jabber:server\001", 14) == 0;
    bool has_lang = false;
    size_t n = 0;
    size_t i;
    c->text = false;
    if (c->depth++ == 0)
        return;
    if (content && c->chain == c->depth - 2)
        c->chain++;
    buf_puts(&c->out, "\n<");
    if (c->map && canon_is_client(name) && c->chain == c->depth - 1) {
        buf_puts(&c->out, "jabber:server");
        name += 13;
    }
    buf_puts(&c->out, name);
    while (atts[n] != NULL)
        n += 2;
    qsort(atts, n / 2, 2 * sizeof *atts, compare_attrs);
    for (i = 0; i < n; i += 2)
        has_lang = has_lang || strcmp(atts[i], lang) == 0;
    for (i = 0; i < n || (!has_lang && i == n); i += 2) {
        bool add = c->map && c->depth == 2 && c->lang.at != NULL && !has_lang
            && (i == n || strcmp(atts[i], lang) > 0);
        if (add) {
            buf_puts(&c->out, "\n @");
            buf_puts(&c->out, lang);
            buf_puts(&c->out, "=");
            buf_put(&c->out, c->lang);
            has_lang = true;
        }
        if (i == n)
            break;
        buf_puts(&c->out, "\n @");
        buf_puts(&c->out, atts[i]);
        buf_puts(&c->out, "=");
        buf_puts(&c->out, atts[i + 1]);
    }
}

static void
canon_end(void *user, const char *name)
{
    struct canon *c = user;
    (void)name;
    c->text = false;
    if (--c->depth == 0)
        return;
    if (c->chain > c->depth - 1)
        c->chain = c->depth - 1;
    buf_puts(&c->out, "\n>");
}

static void
canon_text(void *user, const char *s, int len)
{
    struct canon *c = user;
    if (c->depth < 2)
        return;
    if (!c->text)
        buf_puts(&c->out, "\n'");
    c->text = true;
    buf_put(&c->out, span_make(s, (size_t)len));
}

/* Read header and element with expat; false when it does not like them. */
static bool
expat_reads(struct xe_span header, struct xe_span element, char separator, struct canon *c)
{
    XML_Parser p = XML_ParserCreateNS("UTF-8", separator);
    bool ok;
    if (c != NULL) {
        XML_SetUserData(p, c);
        XML_SetElementHandler(p, canon_start, canon_end);
        XML_SetCharacterDataHandler(p, canon_text);
    }
    ok = XML_Parse(p, header.at, (int)header.len, 0) == XML_STATUS_OK
        && XML_Parse(p, element.at, (int)element.len, 0) == XML_STATUS_OK;
    XML_ParserFree(p);
    return ok;
}

/* ---- the promises ---- */

struct tally {
    unsigned long elements, unbound, rewritten, written, bad, past, expat_takes_more;
};

static void
check_element(const struct xe_xml *x, const struct xe_xml_event *e, struct xe_span header,
    bool header_odd, struct tally *t)
{
    static const char separators[] = { SEP, '\n', '|' };
    struct buf out = { 0 };
    struct canon was = { { 0 }, true, { NULL, 0 }, 0, 0, false };
    struct canon is = { { 0 }, false, { NULL, 0 }, 0, 0, false };
    char lang[64];
    bool header_read = !header_odd
        || expat_reads(header, span_make("", 0), SEP, NULL);
    size_t i;
    t->elements++;
    t->past += e->why != XE_WHY_NONE;
    if (e->why != XE_WHY_NONE)
        return;
    if ((e->flags & XE_XML_UNBOUND) != 0) {
        t->unbound++;
        return;
    }
    if (xe_xml_stream_lang(x).at != NULL)
        was.lang = span_make(lang, xe_xml_unescape(xe_xml_stream_lang(x), lang, sizeof lang));
    if (xmlout_stanza(&out, x, e)) {
        t->written++;
        t->rewritten += (e->flags & XE_XML_REWRITE) != 0;
    }
    for (i = 0; i < sizeof separators; i++) {
        if ((i == 0 || !header_odd) && header_read
            && !expat_reads(header, e->raw, separators[i], i == 0 ? &was : NULL))
            fail_msg("passed, but expat refuses with separator %d:\n%.*s\n%.*s", separators[i],
                (int)header.len, header.at, (int)e->raw.len, e->raw.at);
        if (buf_len(&out) > 0
            && !expat_reads(span_of(FRESH), buf_span(&out), separators[i], i == 0 ? &is : NULL))
            fail_msg("written, but expat refuses with separator %d:\n%.*s\n%.*s\nwritten:\n%s",
                separators[i], (int)header.len, header.at, (int)e->raw.len, e->raw.at,
                buf_text(&out));
    }
    if (buf_len(&out) > 0 && header_read && !span_eq(buf_span(&was.out), buf_span(&is.out)))
        fail_msg("written, but not the same:\n%.*s\n%.*s\nwritten:\n%s\nwas:%s\nis:%s",
            (int)header.len, header.at, (int)e->raw.len, e->raw.at, buf_text(&out),
            buf_text(&was.out), buf_text(&is.out));
    buf_free(&out);
    buf_free(&was.out);
    buf_free(&is.out);
}

static void
count_start(void *user, const char *name, const char **atts)
{
    unsigned long *n = user;
    (void)name;
    (void)atts;
    n[0]++;
    n[1] += n[0] == 2;
}

static void
count_end(void *user, const char *name)
{
    unsigned long *n = user;
    (void)name;
    n[0]--;
}

static void
count_text(void *user, const char *s, int len)
{
    unsigned long *n = user;
    while (len-- > 0)
        n[2] += n[0] == 1 && !xml_is(*s++, XML_IS_SPACE);
}

/* Does expat take it all, and the end of the stream behind it?  n[1] counts elements, n[2] the
 * text between them, of which RFC 6120 knows nothing. */
static bool
expat_takes_all(struct xe_span doc, unsigned long n[3])
{
    XML_Parser p = XML_ParserCreateNS("UTF-8", SEP);
    struct buf end = { 0 };
    size_t i = doc.len > 1 && doc.at[1] == '?' ? span_find(doc, '>') + 1 : 0;
    bool ok;
    buf_puts(&end, "</");
    for (i++; i < doc.len && !xml_is(doc.at[i], XML_IS_SPACE); i++)
        buf_putc(&end, doc.at[i]);
    buf_putc(&end, '>');
    XML_SetUserData(p, n);
    XML_SetElementHandler(p, count_start, count_end);
    XML_SetCharacterDataHandler(p, count_text);
    ok = XML_Parse(p, doc.at, (int)doc.len, 0) == XML_STATUS_OK
        && XML_Parse(p, buf_text(&end), (int)buf_len(&end), 1) == XML_STATUS_OK;
    XML_ParserFree(p);
    buf_free(&end);
    return ok;
}

/* What ended the stream, or was not told, should have. */
static void
check_ends(struct xe_span doc, const struct xe_xml *x, enum xe_xml_result r, unsigned long told,
    struct tally *t)
{
    unsigned long n[3] = { 0, 0, 0 };
    t->bad += r == XE_XML_BAD;
    if (!expat_takes_all(doc, n) || n[2] > 0)
        return;
    t->expat_takes_more += r == XE_XML_BAD;
    if (r == XE_XML_BAD && x->why != XE_WHY_XML_RESTRICTED && x->why != XE_WHY_NOT_XMPP
        && x->why != XE_WHY_HEADER_TOO_BIG && told > 0)
        fail_msg("expat takes it, and the stream ends with %s: %.*s", xe_why(x->why)->word,
            (int)doc.len, doc.at);
    if (r == XE_XML_MORE && n[1] + 1 != told)
        fail_msg("%lu elements, %lu are told: %.*s", n[1], told - 1, (int)doc.len, doc.at);
}

/* Read a document in pieces of `step` bytes; every verdict goes into a number that has to be the
 * same for all pieces. */
static uint64_t
read_document(struct xe_span doc, size_t step, const struct xe_xml_limits *limits, struct tally *t)
{
    struct xe_xml x;
    unsigned long told = 0;
    struct xe_xml_event e;
    struct xe_span header = { NULL, 0 };
    bool odd = false;     /* the header itself has what applications disagree on; it stays here */
    enum xe_xml_result r;
    uint64_t sum = 0;
    size_t from = 0;
    size_t to = step < doc.len ? step : doc.len;
    xe_xml_init(&x, limits);
    for (;;) {
        size_t used;
        const char *at = guard_put(&guard, doc.at + from, to - from);
        r = xe_xml_next(&x, at, to - from, &used, &e);
        from += used;
        if (r == XE_XML_MORE && to < doc.len) {
            to = doc.len - to < step ? doc.len : to + step;
            continue;
        }
        sum = sum * 31 + (unsigned)r;
        told += r == XE_XML_HEADER || r == XE_XML_ELEMENT;
        if (r == XE_XML_HEADER) {
            header = span_make(doc.at, from);
            odd = (e.flags & XE_XML_UNBOUND) != 0;
        }
        if (r == XE_XML_HEADER || r == XE_XML_ELEMENT)
            sum = ((sum * 31 + e.flags) * 31 + e.raw.len) * 31 + e.inner.len * 64 + e.nattrs;
        if (r == XE_XML_ELEMENT && t != NULL)
            check_element(&x, &e, header, odd, t);
        if (r == XE_XML_BAD || r == XE_XML_MORE || r == XE_XML_CLOSE)
            break;
    }
    sum = sum * 31 + (unsigned)x.why;
    if (t != NULL)
        check_ends(doc, &x, r, told, t);
    xe_xml_free(&x);
    return sum;
}

static void
expat_accepts_what_is_passed_and_reads_what_is_written_the_same(void **state)
{
    static const struct xe_xml_limits all[] = { { 4096, 8192, 16, 16, 0, 8192 },
        { 4096, 8192, 2, 16, 0, 8192 }, { 4096, 8192, 16, 6, 0, 8192 },
        { 4096, 8192, 16, 16, 6, 8192 }, { 4096, 80, 16, 16, 0, 8192 } };
    struct tally t = { 0, 0, 0, 0, 0, 0, 0 };
    unsigned long i;
    (void)state;
    for (i = 0; i < documents; i++) {
        struct buf doc = { 0 };
        bool wild = dice(3) == 0;
        const char *header = headers[dice(4)];
        unsigned n;
        uint64_t whole;
        if (wild)
            header = PICK(headers);
        buf_puts(&doc, header);
        for (n = 1 + dice(3); n > 0; n--) {
            make_element(&doc, 0, wild, scope_of(header));
            if (dice(3) == 0)
                buf_puts(&doc, "\n");
        }
        if (dice(3) == 0)
            damage(&doc);
        n = dice(10) < 5 ? 0 : dice(5);
        whole = read_document(buf_span(&doc), buf_len(&doc), &all[n], &t);
        if (whole != read_document(buf_span(&doc), 1 + dice(3), &all[n], NULL))
            fail_msg("pieces are read in another way: %s", buf_text(&doc));
        buf_free(&doc);
    }
    printf("# %lu documents: %lu elements, %lu written, %lu of them anew, %lu unbound, %lu read "
        "past; %lu refused, of which expat would take %lu\n", documents, t.elements, t.written,
        t.rewritten, t.unbound, t.past, t.bad, t.expat_takes_more);
    assert_true(t.written > documents / 4 && t.rewritten > documents / 20
        && t.past > documents / 20);
}

/* Is nothing wrong with the document so far? */
static bool
passes(struct xe_span doc)
{
    static const struct xe_xml_limits limits = { 4096, 8192, 16, 16, 0, 0 };
    struct xe_xml x;
    struct xe_xml_event e;
    size_t used;
    bool passed;
    xe_xml_init(&x, &limits);
    x.comments = true;
    passed = xe_xml_next(&x, doc.at, doc.len, &used, &e) == XE_XML_HEADER
        && xe_xml_next(&x, doc.at + used, doc.len - used, &used, &e) != XE_XML_BAD;
    xe_xml_free(&x);
    return passed;
}

static void
comments_are_judged_as_expat_judges_them(void **state)
{
    static const char *const pieces[] = { "-", "-", "-", ">", "<", "!", "a", " ", "&", "\n",
        "\xc3\xa9", "\xff", "\x01", "]]>", "--", "<!--" };
    unsigned long passed = 0;
    unsigned long i;
    (void)state;
    for (i = 0; i < documents; i++) {
        struct buf doc = { 0 };
        struct xe_span all;
        unsigned n;
        buf_puts(&doc, FRESH "<a><!--");
        for (n = dice(6); n > 0; n--)
            buf_puts(&doc, PICK(pieces));
        buf_puts(&doc, "--></a>");
        all = buf_span(&doc);
        passed += passes(all);
        if (passes(all) != expat_reads(all, span_make("", 0), SEP, NULL))
            fail_msg("expat judges in another way: %s", buf_text(&doc));
        buf_free(&doc);
    }
    printf("# %lu comments, of which %lu may stand\n", documents, passed);
    assert_true(passed > documents / 8 && passed < documents);
}

static void
names_are_judged_as_expat_judges_them(void **state)
{
    static const char *const forms[] = { FRESH "<%s/>", FRESH "<a%s/>",
        FRESH "<a:%sb xmlns:a='u'/>", FRESH "<a b%s='1'/>" };
    static const struct xe_xml_limits limits = { 4096, 8192, 16, 16, 0, 0 };
    unsigned long passed = 0;
    uint32_t c;
    (void)state;
    for (c = 0x80; c < 0x11000; c++) {
        char bytes[8] = "";
        char text[200];
        struct xe_xml x;
        struct xe_xml_event e;
        size_t used;
        struct xe_span doc;
        bool ours;
        if (c >= 0xd800 && c < 0xe000)
            continue;
        bytes[text_put_utf8(c, bytes)] = '\0';
        snprintf(text, sizeof text, PICK(forms), bytes);
        doc = span_of(text);
        xe_xml_init(&x, &limits);
        assert_int_equal(xe_xml_next(&x, doc.at, doc.len, &used, &e), XE_XML_HEADER);
        ours = xe_xml_next(&x, doc.at + used, doc.len - used, &used, &e) == XE_XML_ELEMENT
            && (e.flags & XE_XML_UNBOUND) == 0;
        xe_xml_free(&x);
        passed += ours;
        if (ours != expat_reads(doc, span_make("", 0), SEP, NULL))
            fail_msg("expat judges in another way: %s", text);
    }
    printf("# %lu characters may stand where they are\n", passed);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expat_accepts_what_is_passed_and_reads_what_is_written_the_same),
        cmocka_unit_test(comments_are_judged_as_expat_judges_them),
        cmocka_unit_test(names_are_judged_as_expat_judges_them),
    };
    if (argc > 1)
        documents = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoul(argv[2], NULL, 10) * 2 + 1;
    guard = guard_make();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
