/* test_jid.c -- [JID]: addresses and the normal form of domains */
#include "cut/XML.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include "guard.h"

static struct guard guard;

static struct xe_span
guarded(const char *text)
{
    return span_make(guard_put(&guard, text, strlen(text)), strlen(text));
}

#define A10 "aaaaaaaaaa"
#define A63 A10 A10 A10 A10 A10 A10 "aaa"

static void
domains_have_one_normal_form(void **state)
{
    static const struct { const char *in; const char *out; } rows[] = {   /* out NULL: refused */
        { "example.org", "example.org" }, { "EXAMPLE.Org", "example.org" },
        { "example.org.", "example.org" }, { "localhost", "localhost" }, { "a", "a" },
        { "a-b.c--d.e", "a-b.c--d.e" },
        { "ab--c.example", NULL }, { "xn--", NULL }, { "xn--.example", NULL },
        { "_srv.example", "_srv.example" }, { "192.0.2.1", "192.0.2.1" }, { "123", "123" },
        { "[2001:DB8::1]", "[2001:db8::1]" }, { "[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]" },
        { A63 ".org", A63 ".org" }, { A63 "." A63 "." A63 "." A10 A10 A10 A10 A10 A10 "a",
          A63 "." A63 "." A63 "." A10 A10 A10 A10 A10 A10 "a" },
        { "", NULL }, { ".", NULL }, { "..", NULL }, { ".a", NULL }, { "a..b", NULL },
        { "a..", NULL }, { "-a.b", NULL }, { "a-.b", NULL }, { "a.b-", NULL }, { "a.-", NULL },
        { "a b", NULL }, { " a", NULL }, { "a ", NULL }, { "a\tb", NULL }, { "a\nb", NULL },
        { "a@b", NULL }, { "a/b", NULL }, { "a:b", NULL }, { "a&b", NULL }, { "a<b", NULL },
        { "a'b", NULL }, { "a\"b", NULL }, { "a%b", NULL }, { "a*b", NULL }, { "*.b", NULL },
        { "a\x7f", NULL }, { "a\x01", NULL }, { "a\\b", NULL }, { "a=b", NULL }, { "a,b", NULL },
        { A63 "a.org", NULL }, { A63 "." A63 "." A63 "." A10 A10 A10 A10 A10 A10 "aa", NULL },
        { "a\xc2\xa0", NULL }, { "a\xc2\x85", NULL }, { "a\xc2\xad" "b", NULL },
        { "a\xe2\x80\x8b" "b", NULL }, { "a\xe3\x80\x82" "b", NULL }, { "a\xef\xbc\x8e" "b", NULL },
        { "a\xef\xbd\xa1" "b", NULL }, { "a\xe2\x80\xae" "b", NULL }, { "a\xef\xbb\xbf", NULL },
        { "a\xff", NULL }, { "a\xc3", NULL }, { "a\xc0\xae" "b", NULL }, { "\xed\xa0\x80", NULL },
        { "\xef\xbf\xbf", NULL }, { "\xf4\x8f\xbf\xbf", NULL }, { "\xee\x80\x80", NULL },
        { "[]", NULL }, { "[::1", NULL }, { "::1", NULL }, { "[::1].", NULL }, { "[::1]a", NULL },
        { "[::g]", NULL }, { "[a[b]]", NULL }, { "[fe80::1%eth0]", NULL },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[XE_DOMAIN_MAX];
        size_t len = 77;
        bool ok = xe_jid_domain_normal(guarded(rows[i].in), out, &len);
        if (ok != (rows[i].out != NULL) || strcmp(out, ok ? rows[i].out : "") != 0
            || len != strlen(out))
            fail_msg("%s: got %d '%s'", rows[i].in, ok, out);
        if (ok) {                                   /* the normal form is its own normal form */
            char again[XE_DOMAIN_MAX];
            assert_true(xe_jid_domain_normal(span_make(out, len), again, &len));
            assert_string_equal(out, again);
        }
    }
}

/* ---- domains that look alike ---- */

#define BUECHER "b\xc3\xbc" "cher"
#define FULLWIDTH(a) "\xef\xbd" a
#define CYRILLIC_A "\xd0\xb0"

/* Whether a domain is one, and is another than `than`, or the same if `out` is. */
static void
expect_normal(const char *in, const char *out)
{
    char normal[XE_DOMAIN_MAX];
    size_t len;
    bool ok = xe_jid_domain_normal(guarded(in), normal, &len);
#ifndef XMPPEDGE_IDN2
    assert_false(ok);
    (void)out;
    if (strstr(in, "xn--") == in || (unsigned char)in[0] >= 0x80)
        assert_int_equal(jid_why(span_of(in), XE_WHY_NONE), XE_WHY_DOMAIN_NOT_ASCII);
#else
    if (ok != (out != NULL) || strcmp(normal, ok ? out : "") != 0)
        fail_msg("%s: got %d '%s'", in, ok, normal);
#endif
}

static void
u_labels_and_a_labels_are_one_domain(void **state)
{
    static const char *const rows[][3] = {   /* U-label, A-label, and so again */
        { BUECHER ".example", "xn--bcher-kva.example", BUECHER ".example" },
        { "B\xc3\xbc" "CHER.Example.", "xn--bcher-kva.example", BUECHER ".example" },
        { "XN--Bcher-KVA.EXAMPLE", "xn--bcher-kva.example", BUECHER ".example" },
        { "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84",
          "xn--e1afmkfd.xn--p1ai",
          "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84" },
        { CYRILLIC_A "pple.example", "xn--pple-43d.example", CYRILLIC_A "pple.example" },
        { "\xe4\xbe\x8b\xe3\x81\x88.jp", "xn--r8jz45g.jp", "\xe4\xbe\x8b\xe3\x81\x88.jp" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_normal(rows[i][0], rows[i][1]);
        expect_normal(rows[i][1], rows[i][1]);
#ifdef XMPPEDGE_IDN2
        struct jid_forms forms;
        assert_true(span_is(jid_unicode(span_of(rows[i][1]), &forms), rows[i][2]));
        assert_int_equal(jid_why(span_of(rows[i][1]), XE_WHY_NONE), XE_WHY_DOMAIN_A_LABEL);
        assert_int_equal(jid_why(span_of(rows[i][2]), XE_WHY_NONE), XE_WHY_NONE);
#endif
    }
}

static void
what_looks_like_another_domain_is_refused(void **state)
{
    static const char *const rows[] = {
        "stra\xc3\x9f" "e.example", "xn--strae-oqa.example",              /* sharp s */
        "\xce\xb1\xcf\x82.example", "xn--mxa8a.example",                 /* final sigma */
        "a\xe2\x80\x8c" "b.example", "a\xe2\x80\x8d" "b.example",        /* joiners */
        "\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8d\xe0\xa4\xb7.example",  /* RFC 5892 A.2 */
        "a\xe2\x80\x8b" "b.example", "a\xc2\xad" "b.example", "a\xef\xbb\xbf.example",
        FULLWIDTH("\x81") "bc.example", "\xef\xbc\xa1" "bc.example",    /* fullwidth */
        "\xef\xac\x81" "n.example", "\xe2\x84\xaa.example",              /* ligature, Kelvin */
        "\xc3\x9c" "ber.example", "\xd0\x90.example",                    /* upper case */
        "bu\xcc\x88" "cher.example", "\xcc\x88" "a.example",             /* not NFC; a mark leads */
        "A\xcc\x8a.example",
        "corp\xe3\x80\x82" "example", "corp\xef\xbc\x8e" "example",        /* dots */
        "corp\xef\xbd\xa1" "example",
        "corp\xe2\x80\xa4" "example", "a\xe2\x80\xae" "b.example",
        "\xf0\x9f\x98\x80.example", "\xe2\x98\x83.example",           /* symbols */
        "a\xc2\xb7" "b.example", "\xe3\x83\xbb.example",                /* CONTEXTO */
        "\xd7\x90" "a.example", "0\xd7\x90.example",                     /* bidi rule */
        "\xd9\xa0\xdb\xb0.example", "\xcd\xb8.example",     /* mixed digits; unassigned */
        "ab--\xc3\xbc.example", "-\xc3\xbc.example", "\xc3\xbc-.example", "a_\xc3\xbc.example",
        "xn--a.example", "xn--abc-.example", "xn--99999999.example",
        "xn--a-ecp.ru", "xn--0.pt", "xn--\xc3\xbc.example", "xn--bcher-kv.example",
        "xn--ber-goa.example.xn--", "\xef\xbd\x98n--bcher-kva.example",
        "xn--xn--bcher-kva-.example",
        "xn--strasse-.example", "xn--example-.com",
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_normal(rows[i], NULL);
}

#ifdef XMPPEDGE_IDN2

/* Every character: whoever is let through is what its A-label says, and no two share one. */
static void
every_character_comes_back_from_its_a_label(void **state)
{
    uint32_t c;
    unsigned taken = 0;
    (void)state;
    for (c = 0x80; c < 0x110000; c++) {
        char text[16] = "a";
        char normal[XE_DOMAIN_MAX];
        struct jid_forms forms;
        size_t len;
        size_t n = 1 + text_put_utf8(c, text + 1);
        if (c >= 0xd800 && c < 0xe000)
            continue;
        text[n++] = 'b';
        if (!xe_jid_domain_normal(span_make(text, n), normal, &len))
            continue;
        taken++;
        if (!span_eq(jid_unicode(span_make(normal, len), &forms), span_make(text, n)))
            fail_msg("U+%04X does not come back", (unsigned)c);
    }
    assert_true(taken > 90000);
}

#endif

static void
a_nul_byte_is_no_part_of_a_domain(void **state)
{
    char out[XE_DOMAIN_MAX];
    size_t len;
    (void)state;
    assert_false(xe_jid_domain_normal(span_make("a.org\0.b", 8), out, &len));
    assert_false(xe_jid_domain_normal(span_make("\0", 1), out, &len));
    assert_false(xe_jid_domain_normal(span_make(NULL, 0), out, &len));
}

static void
addresses_are_split_at_the_first_slash_and_the_first_at(void **state)
{
    static const struct { const char *in; const char *local, *domain, *resource; } rows[] = {
        { "a.b", NULL, "a.b", NULL },
        { "j@a.b", "j", "a.b", NULL },
        { "j@a.b/r", "j", "a.b", "r" },
        { "a.b/r", NULL, "a.b", "r" },
        { "a.b/j@c/d", NULL, "a.b", "j@c/d" },
        { "j@a.b/@", "j", "a.b", "@" },
        { "j@a.b./r", "j", "a.b", "r" },
        { "j\xc3\xa9@a/r s", "j\xc3\xa9", "a", "r s" },
        { "", NULL, NULL, NULL }, { "@a", NULL, NULL, NULL }, { "j@", NULL, NULL, NULL },
        { "a/", NULL, NULL, NULL }, { "/r", NULL, NULL, NULL }, { "j@/r", NULL, NULL, NULL },
        { "j@k@a", NULL, NULL, NULL }, { "j k@a", NULL, NULL, NULL }, { "j<@a", NULL, NULL, NULL },
        { "j'@a", NULL, NULL, NULL }, { "j\"@a", NULL, NULL, NULL }, { "j&@a", NULL, NULL, NULL },
        { "j:@a", NULL, NULL, NULL }, { "j\x7f@a", NULL, NULL, NULL }, { ".", NULL, NULL, NULL },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct xe_jid jid;
        bool ok = xe_jid_split(guarded(rows[i].in), &jid);
        if (ok != (rows[i].domain != NULL))
            fail_msg("%s: %d", rows[i].in, ok);
        if (!ok)
            continue;
        assert_true(span_is(jid.domain, rows[i].domain));
        assert_true(rows[i].local == NULL ? jid.local.at == NULL
            : span_is(jid.local, rows[i].local));
        assert_true(rows[i].resource == NULL ? jid.resource.at == NULL
            : span_is(jid.resource, rows[i].resource));
    }
}

static void
parts_have_at_most_1023_bytes(void **state)
{
    char text[2100];
    struct xe_jid jid;
    (void)state;
    memset(text, 'a', sizeof text);
    assert_true(xe_jid_split(span_make(text, 1023), &jid));
    assert_false(xe_jid_split(span_make(text, 1024), &jid));
    text[1023] = '@';
    assert_true(xe_jid_split(span_make(text, 1030), &jid));
    text[1023] = 'a';
    text[1024] = '@';
    assert_false(xe_jid_split(span_make(text, 1030), &jid));
    text[1024] = 'a';
    text[1] = '/';
    assert_true(xe_jid_split(span_make(text, 1025), &jid));
    assert_false(xe_jid_split(span_make(text, 1026), &jid));
}

static void
the_domain_of_an_attribute_value_has_its_references_resolved(void **state)
{
    static const struct { const char *in; const char *out; } rows[] = {
        { "j@Example.org/r", "example.org" }, { "example&#46;org", "example.org" },
        { "&#x6a;@EX&#65;MPLE/&amp;", "example" }, { "j@example/a&amp;b", "example" },
        { "a&amp;b@example", NULL }, { "a b", NULL }, { "", NULL }, { "a&#10;b", NULL },
    };
    size_t i;
    char out[XE_DOMAIN_MAX];
    size_t len;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool ok = xe_xml_domain(guarded(rows[i].in), out, &len);
        if (ok != (rows[i].out != NULL) || strcmp(out, ok ? rows[i].out : "") != 0)
            fail_msg("%s: got %d '%s'", rows[i].in, ok, out);
    }
    assert_false(xe_xml_domain(span_make(NULL, 0), out, &len));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domains_have_one_normal_form),
        cmocka_unit_test(u_labels_and_a_labels_are_one_domain),
        cmocka_unit_test(what_looks_like_another_domain_is_refused),
#ifdef XMPPEDGE_IDN2
        cmocka_unit_test(every_character_comes_back_from_its_a_label),
#endif
        cmocka_unit_test(a_nul_byte_is_no_part_of_a_domain),
        cmocka_unit_test(addresses_are_split_at_the_first_slash_and_the_first_at),
        cmocka_unit_test(parts_have_at_most_1023_bytes),
        cmocka_unit_test(the_domain_of_an_attribute_value_has_its_references_resolved),
    };
    guard = guard_make();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
