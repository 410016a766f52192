/* test_xml.c -- [XML]: the tokenizer and the writer
 *
 * Every input is read whole, byte by byte and cut at every position, and always stands right before
 * a page that cannot be read.  The events must be the same.
 */
#include "cut/XML.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include "guard.h"

#define NS_STREAMS "xmlns:stream='http://etherx.jabber.org/streams'"
#define HEADER "<stream:stream xmlns='jabber:server' " NS_STREAMS ">"
#define HEADER_LANG "<?xml version='1.0'?><stream:stream xmlns='jabber:server' " NS_STREAMS \
    " xmlns:db='jabber:server:dialback' xml:lang='en' to='a.example' from='b.example'>"
#define HEADER_COMPONENT "<stream:stream xmlns='jabber:component:accept' " NS_STREAMS ">"

static const struct xe_xml_limits limits = { 8192, 1 << 18, 64, 64, 0, 0 };

static bool comments;   /* do the tokenizers allow them? */

/* ---- events as text ---- */

static void
show_span(struct buf *b, const char *name, struct xe_span s)
{
    buf_puts(b, name);
    if (s.at == NULL)
        buf_puts(b, "(none)");
    buf_put(b, s);
}

static void
show(struct buf *b, enum xe_xml_result r, const struct xe_xml *x, const struct xe_xml_event *e)
{
    static const char *const names[] = { "more", "header", "element", "close", "bad" };
    unsigned i;
    buf_puts(b, names[r]);
    if (r == XE_XML_BAD) {
        buf_putc(b, ' ');
        buf_puts(b, xe_why(x->why)->word);
    }
    if (r == XE_XML_ELEMENT && e->why != XE_WHY_NONE) {
        buf_puts(b, " past ");
        buf_puts(b, xe_why(e->why)->word);
    }
    if (r == XE_XML_HEADER || r == XE_XML_ELEMENT || r == XE_XML_CLOSE) {
        show_span(b, " name=", e->name);
        show_span(b, " ns=", e->ns);
        show_span(b, " raw=", e->raw);
        show_span(b, " inner=", e->inner);
        buf_puts(b, " flags=");
        buf_putu(b, e->flags);
        for (i = 0; i < e->nattrs; i++) {
            show_span(b, " @", e->attrs[i].prefix);
            show_span(b, ":", e->attrs[i].name);
            show_span(b, "=", e->attrs[i].value);
            buf_putc(b, e->attrs[i].quote);
        }
    }
    buf_putc(b, '\n');
}

/* Feed input[0..n) in pieces: up to `cut`, then `step` bytes at a time.  Everything that is said
 * goes to `told`; the writer's output for each element too. */
static void
feed(const struct guard *g, const char *input, size_t n, size_t cut, size_t step,
    const struct xe_xml_limits *l, struct buf *told)
{
    struct xe_xml x;
    struct xe_xml_event e;
    struct buf out = { 0 };
    enum xe_xml_result r = XE_XML_MORE;
    size_t from = 0;
    size_t to = cut;
    xe_xml_init(&x, l);
    x.comments = comments;
    for (;;) {
        const char *at = guard_put(g, input + from, to - from);
        size_t used = 12345678;
        memset(&e, 0x55, offsetof(struct xe_xml_event, attrs[2]));
        r = xe_xml_next(&x, at, to - from, &used, &e);
        assert_true(used <= to - from);
        if (r != XE_XML_MORE)
            show(told, r, &x, &e);
        if (r == XE_XML_ELEMENT && e.why == XE_WHY_NONE && xmlout_stanza(&out, &x, &e)) {
            show_span(told, "out=", buf_span(&out));
            buf_putc(told, '\n');
            buf_clear(&out);
        }
        from += used;
        if (r == XE_XML_BAD)
            break;
        if (r == XE_XML_MORE) {
            if (to == n)
                break;
            to = n - to < step ? n : to + step;
        }
    }
    if (r == XE_XML_BAD) {
        size_t used;
        assert_int_equal(xe_xml_next(&x, input, n, &used, &e), XE_XML_BAD);
    }
    buf_puts(told, "white=");
    buf_putu(told, r == XE_XML_BAD ? 0 : x.whitespace);
    buf_putc(told, '\n');
    buf_free(&out);
    xe_xml_free(&x);
}

/* The events of `input`, checked in all ways of cutting it.  The caller frees the result. */
static struct buf
events_limited(const char *input, size_t n, const struct xe_xml_limits *l)
{
    static struct guard g;
    struct buf whole = { 0 };
    struct buf other = { 0 };
    size_t cut;
    if (g.base == NULL)
        g = guard_make();
    feed(&g, input, n, n, 1, l, &whole);
    for (cut = 0; cut < n; cut++) {
        feed(&g, input, n, cut, n, l, &other);
        if (!span_eq(buf_span(&whole), buf_span(&other)))
            fail_msg("cut at %zu of %s\nwhole: %s\ncut: %s", cut, input, buf_text(&whole),
                buf_text(&other));
        buf_clear(&other);
    }
    feed(&g, input, n, 0, 1, l, &other);
    if (!span_eq(buf_span(&whole), buf_span(&other)))
        fail_msg("byte by byte %s\nwhole: %s\nbytes: %s", input, buf_text(&whole),
            buf_text(&other));
    buf_free(&other);
    return whole;
}

/* The same for a long input, cut at fewer positions. */
static struct buf
events_few(const char *input, size_t n, const struct xe_xml_limits *l)
{
    static struct guard g;
    struct buf whole = { 0 };
    struct buf other = { 0 };
    size_t cut;
    if (g.base == NULL)
        g = guard_make();
    feed(&g, input, n, n, 1, l, &whole);
    for (cut = 0; cut < n; cut += 1 + n / 50) {
        feed(&g, input, n, cut, cut % 3 == 0 ? n : 1 + cut % 11, l, &other);
        if (!span_eq(buf_span(&whole), buf_span(&other)))
            fail_msg("cut at %zu\nwhole: %.2000s\ncut: %.2000s", cut, buf_text(&whole),
                buf_text(&other));
        buf_clear(&other);
    }
    buf_free(&other);
    return whole;
}

static struct buf
events(const char *input)
{
    return events_limited(input, strlen(input), &limits);
}

/* The verdict on a header and `content`: the word of the reason, or "" when nothing is wrong. */
static void
expect_verdict(const char *header, const char *content, size_t len, const char *word)
{
    struct buf input = { 0 };
    struct buf told;
    struct buf want = { 0 };
    const char *text;
    buf_puts(&input, header);
    buf_put(&input, span_make(content, len));
    told = events_limited(buf_span(&input).at, buf_len(&input), &limits);
    text = buf_text(&told);
    buf_puts(&want, "bad ");
    buf_puts(&want, word);
    buf_putc(&want, '\n');
    if (*word == '\0' ? strstr(text, "bad ") != NULL : strstr(text, buf_text(&want)) == NULL)
        fail_msg("%s: expected '%s', got\n%s", buf_text(&input), word, text);
    buf_free(&input);
    buf_free(&told);
    buf_free(&want);
}

/* ---- what is refused, and why ---- */

struct verdict {
    const char *input;
    const char *word;   /* reason, "" for none */
};

static void
headers_are_judged(void **state)
{
    static const struct verdict rows[] = {
        { HEADER, "" },
        { HEADER_LANG, "" },
        { " \r\n\t" HEADER, "" },
        { "<?xml version=\"1.0\" encoding='UTF-8' standalone='yes' ?>\n" HEADER, "" },
        { "<?xml version = '1.0' encoding = 'utf-8'?>" HEADER, "" },
        { "<?xml version='1.0' encoding='ISO-8859-1'?>" HEADER, "xml-encoding" },
        { "<?xml version='1.0' encoding='utf-16'?>" HEADER, "xml-encoding" },
        { "<?xml version='1.1'?>" HEADER, "xml-malformed" },
        { "<?xml?>" HEADER, "xml-restricted" },
        { "<?xml ?>" HEADER, "xml-malformed" },
        { "<?xml encoding='utf-8'?>" HEADER, "xml-malformed" },
        { "<?xml version='1.0' encoding='utf-8' bogus='1'?>" HEADER, "xml-malformed" },
        { "<?xml version='1.0'encoding='utf-8'?>" HEADER, "xml-malformed" },
        { "<?xml version='1.0' standalone='maybe'?>" HEADER, "xml-malformed" },
        { "<?xml version='1.0'>" HEADER, "xml-malformed" },
        { "<?xml version='1.0'?><?xml version='1.0'?>" HEADER, "xml-restricted" },
        { " <?xml version='1.0'?>" HEADER, "xml-restricted" },
        { "<?xml-stylesheet href='a'?>" HEADER, "xml-restricted" },
        { "<?php echo 1 ?>" HEADER, "xml-restricted" },
        { "<!DOCTYPE stream>" HEADER, "xml-restricted" },
        { "<!-- hello -->" HEADER, "xml-restricted" },
        { "<![CDATA[x]]>" HEADER, "xml-restricted" },
        { "\xef\xbb\xbf" HEADER, "not-xmpp" },
        { "GET / HTTP/1.1\r\n", "not-xmpp" },
        { "\x16\x03\x01", "not-xmpp" },
        { "&lt;", "not-xmpp" },
        { "</stream:stream>", "not-xmpp" },
        { "<stream:stream " NS_STREAMS "/>", "not-xmpp" },
        { "<html>", "" },                      /* a root tag is the owner's to judge */
        { "<x:y>", "" },
        { "<stream:stream a='1' a='2'>", "xml-malformed" },
        { "<stream:stream xmlns:stream='a' xmlns:stream='b'>", "xml-malformed" },
        { "<stream:stream xmlns:xmlns='a'>", "xml-malformed" },
        { "<a xmlns:a1='u' xmlns:a2='u' xmlns:a3='u' xmlns:a4='u' xmlns:a5='u' xmlns:a6='u' "
          "xmlns:a7='u' xmlns:a8='u' xmlns:a9='u' xmlns:b1='u' xmlns:b2='u' xmlns:b3='u' "
          "xmlns:b4='u' xmlns:b5='u' xmlns:b6='u' xmlns:b7='u'>", "" },
        { "<a xmlns:a1='u' xmlns:a2='u' xmlns:a3='u' xmlns:a4='u' xmlns:a5='u' xmlns:a6='u' "
          "xmlns:a7='u' xmlns:a8='u' xmlns:a9='u' xmlns:b1='u' xmlns:b2='u' xmlns:b3='u' "
          "xmlns:b4='u' xmlns:b5='u' xmlns:b6='u' xmlns:b7='u' xmlns:b8='u'>", "xml-limit" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_verdict("", rows[i].input, strlen(rows[i].input), rows[i].word);
}

static void
elements_are_judged(void **state)
{
    static const struct verdict rows[] = {
        /* fine */
        { "<a/>", "" }, { "<a></a>", "" }, { "<a ></a >", "" }, { "<a />", "" },
        { "<a\n\tb = \"1\" \r c='2'/>", "" },
        { " \r\n\t<a/>\n", "" },
        { "<a b='>'>></a>", "" }, { "<a b='\"' c=\"'\"/>", "" },
        { "<a>]]</a>", "" }, { "<a>]] ></a>", "" }, { "<a b=']]>'/>", "" },
        { "<a>&#93;]></a>", "" }, { "<a>]&#93;></a>", "" }, { "<a>]]&gt;</a>", "" },
        { "<a>&amp;&lt;&gt;&quot;&apos;&#9;&#xA;&#x10FFFF;&#xd7ff;&#xE000;&#65;</a>", "" },
        { "<a><![CDATA[]]></a>", "" }, { "<a><![CDATA[<&]]]]></a>", "" },
        { "<a><![CDATA[]]]]>></a>", "" }, { "<a><![CDATA[> ]> ]] ]]></a>", "" },
        { "<a>\x7f</a>", "" },
        { "<a>\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\xed\x9f\xbf\xee\x80\x80</a>", "" },
        { "<a b='\xc3\xa9\xf4\x8f\xbf\xbf'/>", "" },
        { "<_a.b-c1 _='1'/>", "" }, { "<a><b><c/></b></a>", "" },
        { "<u:a/>", "" }, { "<a u:b='1'/>", "" },
        { "<a xml:lang='en' xml:space='preserve'/>", "" }, { "<xml:a/>", "" },
        { "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>", "" },
        { "<a xmlns=''/>", "" }, { "<a xmlns:p='u'><p:b p:c='1' c='1'/></a>", "" },
        { "<a xmlns:p='u' xmlns:q='v' p:c='1' q:c='1'/>", "" },
        { "<\xc3\xa9l\xc3\xa9ment/>", "" }, { "<a \xce\xb1='1'/>", "" },
        /* not well-formed */
        { "x", "xml-malformed" }, { "&amp;", "xml-malformed" }, { "<a/>x", "xml-malformed" },
        { "<", "" }, { "< a/>", "xml-malformed" }, { "<1/>", "xml-malformed" },
        { "<-a/>", "xml-malformed" }, { "<.a/>", "xml-malformed" }, { "<a!/>", "xml-malformed" },
        { "<a/ >", "xml-malformed" }, { "<a / >", "xml-malformed" }, { "<a//>", "xml-malformed" },
        { "<a b/>", "xml-malformed" }, { "<a b=1/>", "xml-malformed" },
        { "<a b=/>", "xml-malformed" }, { "<a b'1'/>", "xml-malformed" },
        { "<a 'b'='1'/>", "xml-malformed" }, { "<a b='1'c='2'/>", "xml-malformed" },
        { "<a='1'/>", "xml-malformed" }, { "<a b='<'/>", "xml-malformed" },
        { "<a b='1' b='2'/>", "xml-malformed" }, { "<a b='&'/>", "xml-malformed" },
        { "<a 1b='1'/>", "xml-malformed" }, { "<a b='1' <c/>", "xml-malformed" },
        { "<a>]]></a>", "xml-malformed" }, { "<a>x]]>y</a>", "xml-malformed" },
        { "<a>]]]></a>", "xml-malformed" }, { "<a><b/>]]></a>", "xml-malformed" },
        { "<a></b>", "xml-malformed" }, { "<a></ab>", "xml-malformed" },
        { "<ab></a>", "xml-malformed" }, { "<a></ a>", "xml-malformed" },
        { "<a></a b>", "xml-malformed" }, { "<a></a/>", "xml-malformed" },
        { "<a></A>", "xml-malformed" }, { "<a><b></a></b>", "xml-malformed" },
        { "</a>", "xml-malformed" }, { "<a/></stream:strea>", "xml-malformed" },
        { "<p:a xmlns:p='u' xmlns:q='u'></q:a>", "xml-malformed" },
        { "<a>&</a>", "xml-malformed" }, { "<a>& </a>", "xml-malformed" },
        { "<a>&;</a>", "xml-malformed" }, { "<a>&lt</a>", "xml-malformed" },
        { "<a>&#;</a>", "xml-malformed" }, { "<a>&#x;</a>", "xml-malformed" },
        { "<a>&#xg;</a>", "xml-malformed" }, { "<a>&#6a;</a>", "xml-malformed" },
        { "<a>&#X41;</a>", "xml-malformed" }, { "<a>&#-1;</a>", "xml-malformed" },
        { "<a>&#0;</a>", "xml-malformed" }, { "<a>&#x1f;</a>", "xml-malformed" },
        { "<a>&#xD800;</a>", "xml-malformed" }, { "<a>&#xFFFE;</a>", "xml-malformed" },
        { "<a>&#x110000;</a>", "xml-malformed" }, { "<a>&#4294967361;</a>", "xml-malformed" },
        { "<a>&#x100000041;</a>", "xml-malformed" }, { "<a b='&#8;'/>", "xml-malformed" },
        { "<a>\x01</a>", "xml-malformed" }, { "<a>\x0c</a>", "xml-malformed" },
        { "<a b='\x1f'/>", "xml-malformed" }, { "<a><![CDATA[\x08]]></a>", "xml-malformed" },
        { "<a>\xef\xbf\xbe</a>", "xml-malformed" }, { "<a>\xef\xbf\xbf</a>", "xml-malformed" },
        { "<a\x7f/>", "xml-malformed" }, { "<a\xc3\x97/>", "xml-malformed" },
        { "<a><![CDAT[x]]></a>", "xml-malformed" }, { "<a><![cdata[x]]></a>", "xml-malformed" },
        { "<:a/>", "xml-malformed" }, { "<a:/>", "xml-malformed" }, { "<a:b:c/>", "xml-malformed" },
        { "<a:1/>", "xml-malformed" }, { "<a :b='1'/>", "xml-malformed" },
        { "<a b:='1'/>", "xml-malformed" }, { "<a xmlns:='1'/>", "xml-malformed" },
        { "<a xmlns:p=''/>", "xml-malformed" }, { "<a xmlns:xmlns='u'/>", "xml-malformed" },
        { "<a xmlns:xml='u'/>", "xml-malformed" },
        { "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", "xml-malformed" },
        { "<a xmlns='http://www.w3.org/XML/1998/namespace'/>", "xml-malformed" },
        { "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>", "xml-malformed" },
        { "<a xmlns='http://www.w3.org/2000/xmlns/'/>", "xml-malformed" },
        { "<a xmlns='u' xmlns='v'/>", "xml-malformed" },
        { "<a xmlns:p='u' xmlns:q='u' p:c='1' q:c='1'/>", "xml-malformed" },
        { "<a xmlns:p='u v' xmlns:q='u\nv' p:c='1' q:c='1'/>", "xml-malformed" },
        { "<a xmlns:p='u&#98;v' xmlns:q='ubv' p:c='1' q:c='1'/>", "xml-malformed" },
        { "<a p:c='1' p:c='1'/>", "xml-malformed" },
        /* forbidden */
        { "<!-- x --><a/>", "xml-restricted" }, { "<a><!-- x --></a>", "xml-restricted" },
        { "<a><?pi x?></a>", "xml-restricted" }, { "<?xml version='1.0'?><a/>", "xml-restricted" },
        { "<a><!DOCTYPE x></a>", "xml-restricted" }, { "<![CDATA[x]]>", "xml-restricted" },
        { "<!DOCTYPE a>", "xml-restricted" }, { "<!ENTITY x 'y'>", "xml-restricted" },
        { "<a>&nbsp;</a>", "xml-restricted" }, { "<a b='&foo;'/>", "xml-restricted" },
        { "<a>&LT;</a>", "xml-restricted" }, { "<a>&averyverylongentityname", "xml-restricted" },
        /* not UTF-8 */
        { "<a>\x80</a>", "xml-encoding" }, { "<a>\xc0\xaf</a>", "xml-encoding" },
        { "<a>\xc1\xbf</a>", "xml-encoding" }, { "<a>\xe0\x80\xaf</a>", "xml-encoding" },
        { "<a>\xe0\x9f\xbf</a>", "xml-encoding" }, { "<a>\xf0\x8f\xbf\xbf</a>", "xml-encoding" },
        { "<a>\xed\xa0\x80</a>", "xml-encoding" }, { "<a>\xed\xbf\xbf</a>", "xml-encoding" },
        { "<a>\xf4\x90\x80\x80</a>", "xml-encoding" },
        { "<a>\xf5\x80\x80\x80</a>", "xml-encoding" },
        { "<a>\xff</a>", "xml-encoding" }, { "<a>\xfe\xff</a>", "xml-encoding" },
        { "<a>\xc3</a>", "xml-encoding" }, { "<a>\xe2\x82</a>", "xml-encoding" },
        { "<a b='\xc3'/>", "xml-encoding" }, { "<a><![CDATA[\xc3]]></a>", "xml-encoding" },
        { "<a\xc3/>", "xml-encoding" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_verdict(HEADER, rows[i].input, strlen(rows[i].input), rows[i].word);
    expect_verdict(HEADER, "<a>\0</a>", 8, "xml-malformed");
    expect_verdict(HEADER, "<a b='\0'/>", 10, "xml-malformed");
    expect_verdict(HEADER, "<a\0/>", 5, "xml-malformed");
    expect_verdict(HEADER, "\0", 1, "xml-malformed");
}

static void
comments_are_for_files(void **state)
{
    static const struct verdict rows[] = {
        { "<!----><a/>", "" }, { "<!-- x --><a/><!--y-->", "" }, { "<!-->--><a/>", "" },
        { "<!--->--><a/>", "" }, { "<!-- a- -b --><a/>", "" }, { "<!--\r\n\t-->", "" },
        { "<a><!-- <b> & </a> ]]> -->t<!---->]]<!----></a>", "" },
        { "<a><b/><!--\xc3\xa9\xf0\x9f\x98\x80--></a>", "" }, { "<a><!-- not ended", "" },
        { "<!-- -- --><a/>", "xml-malformed" }, { "<!-- a ---><a/>", "xml-malformed" },
        { "<!----->", "xml-malformed" }, { "<a><!-- x -- y --></a>", "xml-malformed" },
        { "<!- x --><a/>", "xml-malformed" }, { "<a><!-x--></a>", "xml-malformed" },
        { "<!--\x01-->", "xml-malformed" }, { "<a><!--\xef\xbf\xbf--></a>", "xml-malformed" },
        { "<!--x-->t", "xml-malformed" }, { "<a><!--\xff--></a>", "xml-encoding" },
        { "<![CDATA[x]]>", "xml-restricted" }, { "<!DOCTYPE a>", "xml-restricted" },
        { "<a><!ENTITY a 'b'></a>", "xml-restricted" }, { "<?pi?>", "xml-restricted" },
        { "<!--x--><?xml version='1.0'?>", "xml-restricted" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        comments = true;
        expect_verdict(HEADER, rows[i].input, strlen(rows[i].input), rows[i].word);
        comments = false;
        expect_verdict(HEADER, rows[i].input, strlen(rows[i].input), "xml-restricted");
    }
    comments = true;
    expect_verdict("<?xml version='1.0'?><!--x-->\n<!--y-->" HEADER, "<a/>", 4, "");
    expect_verdict("", "<!--x--><?xml version='1.0'?>", 29, "xml-restricted");
    comments = false;
}

static void
comments_are_passed_over(void **state)
{
    struct buf told;
    (void)state;
    comments = true;
    told = events("<!--x-->" HEADER " <!-- y --> <a/><!--z--><a>1<!-- < -->2</a><!--->-->"
        "</stream:stream>");
    comments = false;
    assert_string_equal(buf_text(&told),
        "header name=stream ns=http://etherx.jabber.org/streams raw=" HEADER " inner= flags=0\n"
        "element name=a ns=jabber:server raw=<a/> inner= flags=0\nout=<a/>\n"
        "element name=a ns=jabber:server raw=<a>1<!-- < -->2</a> inner=1<!-- < -->2 flags=2\n"
        "close name= ns= raw=</stream:stream> inner= flags=0\nwhite=2\n");
    buf_free(&told);
}

/* ---- limits ---- */

static void
repeat(struct buf *b, const char *text, size_t n)
{
    while (n-- > 0)
        buf_puts(b, text);
}

static void
expect_limits(struct buf *b, const struct xe_xml_limits *l, const char *want)
{
    struct buf told = events_limited(buf_span(b).at, buf_len(b), l);
    if (strstr(buf_text(&told), want) == NULL)
        fail_msg("no '%s' in %s", want, buf_text(&told));
    buf_free(&told);
    buf_clear(b);
}

static void
the_size_of_an_element_is_limited_to_the_byte(void **state)
{
    struct xe_xml_limits l = { 200, 40, 64, 64, 0, 0 };
    struct buf b = { 0 };
    (void)state;
    buf_puts(&b, HEADER "  <a>");
    repeat(&b, "x", 33);
    buf_puts(&b, "</a>");                                  /* 40 bytes */
    expect_limits(&b, &l, "element name=a");
    buf_puts(&b, HEADER "  <a>");
    repeat(&b, "x", 34);
    buf_puts(&b, "</a>");
    expect_limits(&b, &l, "bad stanza-too-big");
    buf_puts(&b, HEADER "<a>");
    repeat(&b, "x", 300);
    expect_limits(&b, &l, "bad stanza-too-big");
    buf_puts(&b, HEADER "<a>");
    repeat(&b, "x", 36);
    buf_puts(&b, "&bad;");                                 /* the limit comes first */
    expect_limits(&b, &l, "bad stanza-too-big");
    buf_puts(&b, HEADER);
    repeat(&b, " ", 300);                                  /* not an element */
    buf_puts(&b, "<a/>");
    expect_limits(&b, &l, "element name=a");
    buf_free(&b);
}

static void
the_size_of_the_header_is_limited_with_all_before_it(void **state)
{
    struct xe_xml_limits l = { sizeof HEADER - 1, 40, 64, 64, 0, 0 };
    struct buf b = { 0 };
    (void)state;
    buf_puts(&b, HEADER);
    expect_limits(&b, &l, "header name=stream");
    buf_puts(&b, " " HEADER);
    expect_limits(&b, &l, "bad header-too-big");
    buf_puts(&b, "<?xml version='1.0'?>" HEADER);
    expect_limits(&b, &l, "bad header-too-big");
    buf_puts(&b, "<?xml version='1.0'");
    repeat(&b, " ", 200);
    expect_limits(&b, &l, "bad header-too-big");
    repeat(&b, " ", 200);
    expect_limits(&b, &l, "bad header-too-big");
    repeat(&b, " ", sizeof HEADER - 1);
    buf_puts(&b, HEADER);
    expect_limits(&b, &l, "bad header-too-big");
    buf_free(&b);
}

static void
comments_count_against_the_limit_of_what_follows_them(void **state)
{
    struct xe_xml_limits l = { sizeof HEADER - 1 + 10, 12, 64, 64, 0, 0 };
    struct buf b = { 0 };
    (void)state;
    comments = true;
    buf_puts(&b, "<!--123-->" HEADER "<!--12345--><a/>");
    expect_limits(&b, &l, "element name=a");
    buf_puts(&b, "<!--1234-->" HEADER);
    expect_limits(&b, &l, "bad header-too-big");
    buf_puts(&b, "<!---->\n<!---->" HEADER);
    expect_limits(&b, &l, "bad header-too-big");
    buf_puts(&b, HEADER "<!--123456-->");
    expect_limits(&b, &l, "bad stanza-too-big");
    comments = false;
    buf_free(&b);
}

static void
depth_attributes_and_declarations_are_limited(void **state)
{
    struct xe_xml_limits l = { 8192, 1 << 18, 3, 2, 0, 0 };
    struct buf b = { 0 };
    int i;
    (void)state;
    buf_puts(&b, HEADER "<a><b><c/></b></a>");
    expect_limits(&b, &l, "element name=a");
    buf_puts(&b, HEADER "<a><b><c><d/></c></b></a>");
    expect_limits(&b, &l, "bad xml-limit");
    buf_puts(&b, HEADER "<a x='' y=''/>");
    expect_limits(&b, &l, "element name=a");
    buf_puts(&b, HEADER "<a x='' y='' z=''/>");
    expect_limits(&b, &l, "bad xml-limit");
    buf_puts(&b, HEADER);
    for (i = 0; i < 64; i++) {
        buf_puts(&b, "<a xmlns:p");
        buf_putu(&b, (uint64_t)i);
        buf_puts(&b, "='u'>");
    }
    repeat(&b, "</a>", 64);
    expect_limits(&b, &limits, "element name=a");
    buf_puts(&b, HEADER);
    for (i = 0; i < 43; i++)
        buf_puts(&b, "<a xmlns:p='u' xmlns:q='v' xmlns:r='w' xmlns:s='x' xmlns:t='y' xmlns:u='z'>");
    expect_limits(&b, &limits, "bad xml-limit");
    l.elements = 4;
    buf_puts(&b, HEADER "<a><b/><b/><b/></a><a><b/><b/><b/></a>");
    expect_limits(&b, &l, "</a>\nwhite");
    buf_puts(&b, HEADER "<a><b/><b/><b/><b/>");
    expect_limits(&b, &l, "bad xml-limit");
    buf_free(&b);
}

/* ---- what is over a limit ---- */

/* `n` times `text`, in which '#' is the number. */
static void
count_up(struct buf *b, const char *text, unsigned n)
{
    unsigned i;
    for (i = 1; i <= n; i++) {
        size_t at = span_find(span_of(text), '#');
        buf_put(b, span_make(text, at));
        buf_putu(b, i);
        buf_puts(b, text + at + 1);
    }
}

/* The stanza is told with its addresses and `why`, and so are those before and behind it; "" for
 * why: as one that may be forwarded. */
static void
expect_past(struct buf *stanza, const char *why)
{
    static const struct xe_xml_limits l = { 8192, 20000, 0, 0, 2000, 40000 };
    struct buf b = { 0 };
    struct buf want = { 0 };
    struct buf told;
    buf_puts(&b, HEADER "<iq id='a'/>");
    buf_put(&b, buf_span(stanza));
    buf_puts(&b, " <iq id='b'/></stream:stream>");
    told = events_few(buf_span(&b).at, buf_len(&b), &l);
    buf_puts(&want, "element");
    if (*why != '\0')
        buf_puts(&want, " past ");
    buf_puts(&want, why);
    buf_puts(&want, " name=message ns=jabber:server raw=<");
    if (strstr(buf_text(&told), buf_text(&want)) == NULL
        || strstr(buf_text(&told), " @:from=a' @:to=b'") == NULL
        || strstr(buf_text(&told), " @:id=a'\n") == NULL
        || strstr(buf_text(&told), " @:id=b'\n") == NULL
        || strstr(buf_text(&told), "\nclose") == NULL)
        fail_msg("no '%s' in %.3000s of %.200s", buf_text(&want), buf_text(&told), buf_text(&b));
    buf_free(&told);
    buf_free(&want);
    buf_free(&b);
    buf_clear(stanza);
}

static void
what_is_over_a_limit_is_read_past_and_told(void **state)
{
    struct buf b = { 0 };
    (void)state;
    buf_puts(&b, "<message from='a' to='b'>");
    repeat(&b, "<d>", 999);
    repeat(&b, "</d>", 999);
    buf_puts(&b, "</message>");
    expect_past(&b, "");
    buf_puts(&b, "<message from='a' to='b'>");
    repeat(&b, "<d>", 1000);
    repeat(&b, "</d>", 1000);
    buf_puts(&b, "</message>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' to='b'><x");
    count_up(&b, " a#='1'", 1000);
    buf_puts(&b, "/></message>");
    expect_past(&b, "");
    buf_puts(&b, "<message from='a' to='b'><x");
    count_up(&b, " a#='\"/>' ", 1001);
    buf_puts(&b, "/><![CDATA[</message>]]]]]><y/></message>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' ");
    count_up(&b, " a#='1'", 1100);
    buf_puts(&b, " to = 'b'/>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' to='b'><x");
    count_up(&b, " xmlns:a#='u'", 256);
    buf_puts(&b, "/></message>");
    expect_past(&b, "");
    buf_puts(&b, "<message from='a' to='b'><x");
    count_up(&b, " xmlns:a#='u'", 257);
    buf_puts(&b, "/></message>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' to='b'>");
    repeat(&b, "&#0000000000000000000000065;", 1);
    buf_puts(&b, "</message>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' to='b'><p");
    repeat(&b, "p", 255);
    buf_puts(&b, ":x/></message>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' to='b'>");
    repeat(&b, "<x/>", 1999);
    buf_puts(&b, "</message>");
    expect_past(&b, "");
    buf_puts(&b, "<message from='a' to='b'>");
    repeat(&b, "<x/>", 2000);
    buf_puts(&b, "</message>");
    expect_past(&b, "xml-limit");
    buf_puts(&b, "<message from='a' to='b'>");
    repeat(&b, "<x> long text </x>", 1500);
    buf_puts(&b, "</message>");
    expect_past(&b, "stanza-too-big");
    buf_puts(&b, "<s:message xmlns='u' xmlns:s='jabber:server' id='");
    repeat(&b, "x", 20000);
    buf_puts(&b, "' xml:lang='en' from='a' from2='c'\nto\t=\r'b'><to='x'/></s:message>");
    expect_past(&b, "stanza-too-big");
    buf_free(&b);
}

static void
what_is_read_past_has_limits_too(void **state)
{
    struct xe_xml_limits l = { 8192, 100, 0, 0, 0, 200 };
    struct buf b = { 0 };
    (void)state;
    buf_puts(&b, HEADER "<iq id='1'>");
    repeat(&b, "x", 184);
    buf_puts(&b, "</iq>");                                 /* 200 bytes */
    expect_limits(&b, &l, "element past stanza-too-big name=iq ns=jabber:server raw=<iq id='1'/> "
        "inner= flags=0 @:id=1'\nwhite=0");
    buf_puts(&b, HEADER "<iq id='1'>");
    repeat(&b, "x", 185);
    buf_puts(&b, "</iq>");
    expect_limits(&b, &l, "@:id=1'\nbad stanza-endless");
    buf_puts(&b, HEADER "<iq a='");
    repeat(&b, "x", 300);
    expect_limits(&b, &l, "bad stanza-endless");
    buf_puts(&b, HEADER "<iq>");
    repeat(&b, "x", 100);
    buf_puts(&b, "<!-- -->");
    expect_limits(&b, &l, "element past stanza-too-big name=iq ns=jabber:server raw=<iq/> inner= "
        "flags=0\nbad xml-restricted");
    buf_puts(&b, HEADER "<iq>");
    repeat(&b, "x", 100);
    buf_puts(&b, "<?pi?>");
    expect_limits(&b, &l, "\nbad xml-restricted");
    buf_puts(&b, HEADER "<iq id='1' id='2' x='");
    repeat(&b, "x", 100);
    buf_puts(&b, "'/>");
    expect_limits(&b, &l, "bad xml-malformed");
    buf_puts(&b, HEADER "<");
    repeat(&b, "x", 150);
    buf_puts(&b, "/><a/>");
    expect_limits(&b, &l, "element name=a");
    buf_puts(&b, HEADER "</stream:stream");
    repeat(&b, " ", 150);
    expect_limits(&b, &l, "bad stanza-too-big");
    buf_free(&b);
}

/* ---- events ---- */

static void
events_tell_name_namespace_content_and_attributes(void **state)
{
    struct buf told = events(HEADER_LANG " <message from='a' to=\"b'c\" xml:lang = 'de'"
        " xmlns:p='urn:p' p:x='1'><body>hi</body></message>\n<db:result/><iq xmlns='urn:q'/>"
        "<u:x/></stream:stream> whatever");
    (void)state;
    assert_string_equal(buf_text(&told),
        "header name=stream ns=http://etherx.jabber.org/streams raw=<stream:stream "
        "xmlns='jabber:server' " NS_STREAMS " xmlns:db='jabber:server:dialback' xml:lang='en' "
        "to='a.example' from='b.example'> inner= flags=0 @xml:lang=en' @:to=a.example' "
        "@:from=b.example'\n"
        "element name=message ns=jabber:server raw=<message from='a' to=\"b'c\" xml:lang = 'de'"
        " xmlns:p='urn:p' p:x='1'><body>hi</body></message> inner=<body>hi</body> flags=0"
        " @:from=a' @:to=b'c\" @xml:lang=de' @p:x=1'\n"
        "out=<message from='a' to=\"b'c\" xml:lang='de' p:x='1' xmlns:p='urn:p'><body>hi</body>"
        "</message>\n"
        "element name=result ns=jabber:server:dialback raw=<db:result/> inner= flags=262145\n"
        "element name=iq ns=urn:q raw=<iq xmlns='urn:q'/> inner= flags=0\n"
        "element name=x ns=(none) raw=<u:x/> inner= flags=2\n"
        "close name= ns= raw=</stream:stream> inner= flags=0\nwhite=2\n");
    buf_free(&told);
}

static void
accessors_find_attributes_and_what_the_header_said(void **state)
{
    struct xe_xml x;
    struct xe_xml_event e;
    size_t used;
    static const char in[] = HEADER_LANG "<iq id='1' p:to='no' xml:lang='fr'/>";
    (void)state;
    xe_xml_init(&x, &limits);
    assert_null(xe_xml_stream_lang(&x).at);
    assert_int_equal(xe_xml_next(&x, in, sizeof in - 1, &used, &e), XE_XML_HEADER);
    assert_true(span_is(xe_xml_stream_lang(&x), "en"));
    assert_true(span_is(xe_xml_stream_ns(&x, ""), "jabber:server"));
    assert_true(span_is(xe_xml_stream_ns(&x, "db"), "jabber:server:dialback"));
    assert_null(xe_xml_stream_ns(&x, "sm").at);
    assert_int_equal(xe_xml_next(&x, in + used, sizeof in - 1 - used, &used, &e), XE_XML_ELEMENT);
    assert_true(span_is(xe_xml_attr(&e, "id"), "1"));
    assert_null(xe_xml_attr(&e, "to").at);
    assert_true(span_is(xe_xml_lang(&e), "fr"));
    xe_xml_restart(&x);
    assert_null(xe_xml_stream_lang(&x).at);
    assert_int_equal(xe_xml_next(&x, in, sizeof in - 1, &used, &e), XE_XML_HEADER);
    xe_xml_free(&x);
}

static void
a_large_element_costs_linear_time_byte_by_byte(void **state)
{
    struct xe_xml x;
    struct xe_xml_event e;
    struct buf b = { 0 };
    size_t used;
    size_t from = sizeof HEADER - 1;
    size_t n;
    clock_t start = clock();
    (void)state;
    buf_puts(&b, HEADER "<iq a='");
    repeat(&b, "0123456789abcdef", 16000);
    buf_puts(&b, "'/>");
    xe_xml_init(&x, &limits);
    assert_int_equal(xe_xml_next(&x, buf_span(&b).at, from, &used, &e), XE_XML_HEADER);
    for (n = from + 1; n < buf_len(&b); n++)
        assert_int_equal(xe_xml_next(&x, buf_span(&b).at + from, n - from, &used, &e), XE_XML_MORE);
    assert_int_equal(xe_xml_next(&x, buf_span(&b).at + from, n - from, &used, &e), XE_XML_ELEMENT);
    assert_true(clock() - start < 2 * CLOCKS_PER_SEC);
    xe_xml_free(&x);
    buf_free(&b);
}

/* ---- the writer ---- */

static void
stanzas_are_written_for_another_stream(void **state)
{
    static const struct { const char *header; const char *in; const char *out; } rows[] = {
        { HEADER, "<message/>", "<message/>" },
        { HEADER, "<message></message>", "<message/>" },
        { HEADER, "<message type='chat' foo='1' id='7' to='t' from='f'><body>x</body></message >",
          "<message from='f' to='t' id='7' type='chat' foo='1'><body>x</body></message>" },
        { HEADER_LANG, "<iq id='1'/>", "<iq id='1' xml:lang='en'/>" },
        { HEADER_LANG, "<iq xml:lang='' id='1'/>", "<iq id='1' xml:lang=''/>" },
        { HEADER, "<iq  id = \"1'\"\n/>", "<iq id=\"1'\"/>" },
        { HEADER, "<iq xmlns='jabber:server'><a/></iq>", "<iq><a/></iq>" },
        { HEADER, "<iq xmlns='jabber:client'><a/></iq>", "<iq><a/></iq>" },
        { HEADER, "<s:iq xmlns:s='jabber:server'><a/></s:iq>",
          "<iq xmlns:s='jabber:server'><a/></iq>" },
        { HEADER, "<s:iq xmlns:s='jabber:server'><s:a b='1'><c/></s:a></s:iq>",
          "<iq xmlns:s='jabber:server'><a b='1'><c/></a></iq>" },
        { HEADER_LANG, "<message><db:x/></message>",
          "<message xml:lang='en' xmlns:db='jabber:server:dialback'><db:x/></message>" },
        { HEADER_LANG, "<message xmlns:db='other'><db:x/></message>",
          "<message xml:lang='en' xmlns:db='other'><db:x/></message>" },
        /* of another stream's content nothing is said: there it may be a component's */
        { HEADER, "<message><body xmlns='jabber:server'>x</body></message>",
          "<message><body>x</body></message>" },
        { HEADER_COMPONENT, "<iq xmlns='jabber:component:accept'><a/></iq>", "<iq><a/></iq>" },
        { HEADER_COMPONENT, "<iq><a xmlns='jabber:component:accept'/>"
          "<b xmlns='jabber:client'/></iq>", "<iq><a/><b/></iq>" },
        { HEADER_COMPONENT, "<c:iq xmlns:c='jabber:component:accept'><c:a/></c:iq>",
          "<iq xmlns:c='jabber:component:accept'><a/></iq>" },
        { HEADER_COMPONENT, "<iq><p:f xmlns:p='urn:f'><body/></p:f></iq>",
          "<iq><p:f xmlns:p='urn:f'><body xmlns='jabber:component:accept'/></p:f></iq>" },
        { HEADER_COMPONENT, "<iq><f xmlns='urn:f'><iq xmlns='jabber:component:accept'/></f></iq>",
          "<iq><f xmlns='urn:f'><iq xmlns='jabber:component:accept'/></f></iq>" },
        { HEADER, "<iq><a xmlns='jabber:component:accept'/></iq>",
          "<iq><a xmlns='jabber:component:accept'/></iq>" },
        { HEADER, "<message><body xmlns='jabber:client'>x</body></message>",
          "<message><body>x</body></message>" },
        { HEADER, "<message><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>",
          "<message><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>" },
        { HEADER, "<message xmlns='jabber:client'><f xmlns='urn:f'><message xmlns='jabber:client'>"
                  "<body/></message></f><body/></message>",
          "<message><f xmlns='urn:f'><message xmlns='jabber:client'><body/></message></f><body/>"
          "</message>" },
        { HEADER, "<message xmlns='jabber:client'><p:f xmlns:p='urn:f'><body/></p:f></message>",
          "<message><p:f xmlns:p='urn:f'><body xmlns='jabber:client'/></p:f></message>" },
        { HEADER, "<s:message xmlns:s='jabber:server' xmlns='urn:u'><x><y/></x><s:b/></s:message>",
          "<message xmlns:s='jabber:server'><x xmlns='urn:u'><y/></x><b/></message>" },
        { "<stream xmlns='http://etherx.jabber.org/streams' xmlns:s='jabber:server'>",
          "<s:message><x/><s:b>t</s:b></s:message>",
          "<message xmlns:s='jabber:server'><x xmlns='http://etherx.jabber.org/streams'/>"
          "<b>t</b></message>" },
        { HEADER, "<message><body>a<![CDATA[<b>&]]]]>c</body></message>",
          "<message><body>a&lt;b&gt;&amp;&#93;&#93;c</body></message>" },
        { HEADER, "<message><body><![CDATA[]]]>]></body></message>",
          "<message><body>&#93;]></body></message>" },
        { HEADER, "<message><x xmlns=''><![CDATA[x]]><y/></x></message>",
          "<message><x xmlns=''>x<y/></x></message>" },
        { HEADER, "<message>\n<a  b = '1' ><![CDATA[x]]></a ></message>",
          "<message>\n<a b='1'>x</a></message>" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf in = { 0 };
        struct buf told;
        const char *out;
        buf_puts(&in, rows[i].header);
        buf_puts(&in, rows[i].in);
        told = events(buf_text(&in));
        out = strstr(buf_text(&told), "\nout=");
        if (out == NULL || strncmp(out + 5, rows[i].out, strlen(rows[i].out)) != 0
            || strncmp(out + 5 + strlen(rows[i].out), "\nwhite=0", 8) != 0)
            fail_msg("%s\nexpected %s\ngot %s", rows[i].in, rows[i].out, buf_text(&told));
        buf_free(&in);
        buf_free(&told);
    }
}

static void
names_that_parsers_disagree_on_are_never_written(void **state)
{
    static const char *const rows[] = {
        "<u:message/>", "<message><u:x/></message>", "<message u:x='1'/>",
        "<message><a><b u:x='1'/></a></message>", "<message><\xe2\xb0\x80/></message>",
        "<message \xcc\x80='1'/>", "<message><x xmlns:\xcc\x80='u'/></message>",
        "<message \xf0\x90\x80\x80='1'/>", "<message xmlns:p='a|b'/>",
        "<message xmlns='jabber:serve&#114;'/>", "<message><x xmlns='urn:&#10;'/></message>",
        "<message><x xmlns='urn:&#x7c;'/></message>", "<message xmlns:p='jabber:&#99;lient'/>",
        "<message><x xmlns:p='urn:x'/><p:y/></message>", "<message><xmlns:x/></message>",
        "<message><x xmlns='http://www.w3.org/XML/1998/namespac&#101;'/></message>",
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf in = { 0 };
        struct buf told;
        buf_puts(&in, HEADER);
        buf_puts(&in, rows[i]);
        told = events(buf_text(&in));
        if (strstr(buf_text(&told), "element") == NULL || strstr(buf_text(&told), "out=") != NULL)
            fail_msg("%s: %s", rows[i], buf_text(&told));
        buf_free(&in);
        buf_free(&told);
    }
}

static void
names_that_xml_allows_are_written_as_they_are(void **state)
{
    static const char *const rows[] = {
        "<message><\xc3\xa9l\xcc\x80/></message>", "<message \xe4\xb8\xad='1'/>",
        "<message><x xmlns='urn:\xc3\xbc'/></message>", "<message><x xmlns='a b'/></message>",
        "<message><x xmlns='urn:\n'/></message>", "<message><x xmlns='urn:{a}^`\\\"'/></message>",
        "<message><x xmlns='http://a.example/?a=1&amp;b=2'/></message>",
        "<message><x xmlns:p='u&amp;v' xmlns:q='u&amp;w' p:a='1' q:a='1'/></message>",
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf in = { 0 };
        struct buf told;
        char out[200];
        snprintf(out, sizeof out, "out=%s\n", rows[i]);
        buf_puts(&in, HEADER);
        buf_puts(&in, rows[i]);
        told = events(buf_text(&in));
        if (strstr(buf_text(&told), out) == NULL)
            fail_msg("%s: %s", rows[i], buf_text(&told));
        buf_free(&in);
        buf_free(&told);
    }
}

static void
a_stanza_that_does_not_fit_leaves_the_output_as_it_was(void **state)
{
    static const char in[] = HEADER "<message><body>a<![CDATA[<<<<<<<<<<<<<<]]></body></message>";
    struct xe_xml x;
    struct xe_xml_event e;
    struct buf out = { 0 };
    size_t used;
    size_t room;
    (void)state;
    xe_xml_init(&x, &limits);
    assert_int_equal(xe_xml_next(&x, in, sizeof in - 1, &used, &e), XE_XML_HEADER);
    assert_int_equal(xe_xml_next(&x, in + used, sizeof in - 1 - used, &used, &e), XE_XML_ELEMENT);
    for (room = 1; room < 89; room++) {
        out.max = 3 + room;
        assert_true(buf_puts(&out, "abc"));
        assert_false(xmlout_stanza(&out, &x, &e));
        assert_false(out.failed);
        assert_true(span_is(buf_span(&out), "abc"));
        buf_clear(&out);
    }
    out.max = 200;
    assert_true(xmlout_stanza(&out, &x, &e));
    assert_string_equal(buf_text(&out), "<message><body>a&lt;&lt;&lt;&lt;&lt;&lt;&lt;&lt;&lt;&lt;"
        "&lt;&lt;&lt;&lt;</body></message>");
    xe_xml_free(&x);
    buf_free(&out);
}

static void
text_is_escaped_and_what_is_no_xml_is_replaced(void **state)
{
    struct buf out = { 0 };
    (void)state;
    assert_true(xmlout_text(&out, span_of("a<b>&\"'\n\r\xc3\xa9\x01\xff\xc3")));
    assert_string_equal(buf_text(&out), "a&lt;b&gt;&amp;&quot;&apos;\n&#13;\xc3\xa9\xef\xbf\xbd"
        "\xef\xbf\xbd\xef\xbf\xbd");
    buf_clear(&out);
    assert_true(xmlout_attr(&out, "x", span_of("a'\t\n")));
    assert_string_equal(buf_text(&out), " x='a&apos;&#9;&#10;'");
    buf_clear(&out);
    assert_true(xmlout_attr(&out, "x", span_make(NULL, 0)));
    assert_string_equal(buf_text(&out), " x=''");
    buf_free(&out);
}

static void
references_are_resolved_and_white_space_normalised(void **state)
{
    char out[32];
    size_t n = xe_xml_unescape(span_of("a&amp;&lt;&#x20ac;&#10;\r\n\tb\r"), out, sizeof out);
    (void)state;
    assert_int_equal(n, 11);
    assert_memory_equal(out, "a&<\xe2\x82\xac\n  b ", n);
    assert_true(xe_xml_unescape(span_of("abcd"), out, 3) == SIZE_MAX);
    assert_int_equal(xe_xml_unescape(span_of(""), out, 0), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_judged),
        cmocka_unit_test(elements_are_judged),
        cmocka_unit_test(comments_are_for_files),
        cmocka_unit_test(comments_are_passed_over),
        cmocka_unit_test(the_size_of_an_element_is_limited_to_the_byte),
        cmocka_unit_test(the_size_of_the_header_is_limited_with_all_before_it),
        cmocka_unit_test(comments_count_against_the_limit_of_what_follows_them),
        cmocka_unit_test(depth_attributes_and_declarations_are_limited),
        cmocka_unit_test(what_is_over_a_limit_is_read_past_and_told),
        cmocka_unit_test(what_is_read_past_has_limits_too),
        cmocka_unit_test(events_tell_name_namespace_content_and_attributes),
        cmocka_unit_test(accessors_find_attributes_and_what_the_header_said),
        cmocka_unit_test(a_large_element_costs_linear_time_byte_by_byte),
        cmocka_unit_test(stanzas_are_written_for_another_stream),
        cmocka_unit_test(names_that_parsers_disagree_on_are_never_written),
        cmocka_unit_test(names_that_xml_allows_are_written_as_they_are),
        cmocka_unit_test(a_stanza_that_does_not_fit_leaves_the_output_as_it_was),
        cmocka_unit_test(text_is_escaped_and_what_is_no_xml_is_replaced),
        cmocka_unit_test(references_are_resolved_and_white_space_normalised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
