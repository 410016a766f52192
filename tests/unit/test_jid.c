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
        { "xn--bcher-kva.example", "xn--bcher-kva.example" }, { "a-b.c--d.e", "a-b.c--d.e" },
        { "_srv.example", "_srv.example" }, { "192.0.2.1", "192.0.2.1" }, { "123", "123" },
        { "[2001:DB8::1]", "[2001:db8::1]" }, { "[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]" },
        { A63 ".org", A63 ".org" }, { A63 "." A63 "." A63 "." A10 A10 A10 A10 A10 A10 "a",
          A63 "." A63 "." A63 "." A10 A10 A10 A10 A10 A10 "a" },
        { "b\xc3\xbc" "cher.Example", "b\xc3\xbc" "cher.example" },
        { "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84",
          "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84" },
        { "\xf0\x9f\x98\x80.example", "\xf0\x9f\x98\x80.example" },
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
        cmocka_unit_test(a_nul_byte_is_no_part_of_a_domain),
        cmocka_unit_test(addresses_are_split_at_the_first_slash_and_the_first_at),
        cmocka_unit_test(parts_have_at_most_1023_bytes),
        cmocka_unit_test(the_domain_of_an_attribute_value_has_its_references_resolved),
    };
    guard = guard_make();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
