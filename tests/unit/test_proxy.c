/* test_proxy.c -- [PROXY]: headers of both versions, whole and cut */
#include "cut/PROXY.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define TEXT(t)  t, sizeof t - 1
#define SIGN     "\r\n\r\n\0\r\nQUIT\n"
#define V4       "\300\0\2\1" "\313\0\161\12" "\234\100" "\24\225"
#define V6       "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\7" \
                 "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1" "\234\100" "\24\225"
#define MOST     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static const struct {
    const char       *text;
    size_t            len;
    enum proxy_result result;
    const char       *from;   /* or a word of what is wrong */
} cases[] = {
    /* version 1 */
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 40000 5269\r\n"), PROXY_NAMED, "192.0.2.1:40000" },
    { TEXT("PROXY TCP6 2001:db8::7 2001:db8::1 40000 5269\r\n"), PROXY_NAMED,
        "[2001:db8::7]:40000" },
    { TEXT("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), PROXY_NAMED, "0.0.0.0:0" },
    { TEXT("PROXY TCP6 " MOST " " MOST " 65535 65535\r\n"), PROXY_NAMED,
        "[" MOST "]:65535" },
    { TEXT("PROXY UNKNOWN\r\n"), PROXY_OWN, "" },
    { TEXT("PROXY UNKNOWN " MOST " " MOST " 65535 65535\r\n"), PROXY_OWN, "" },
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 40000 5269\n"), PROXY_BAD, "wrong end" },
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 40000\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 40000 5269 \r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4  192.0.2.1 203.0.113.10 40000 5269\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 40000 65536\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 -1 5269\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4 192.0.2.1 203.0.113.10 40000 0005269\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4 2001:db8::7 2001:db8::1 40000 5269\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP6 192.0.2.1 203.0.113.10 40000 5269\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP4 192.0.2.1\0 203.0.113.10 40000 5269\r\n"), PROXY_BAD, "addresses" },
    { TEXT("PROXY TCP5 192.0.2.1 203.0.113.10 40000 5269\r\n"), PROXY_BAD, "not TCP" },
    { TEXT("PROXY UNIX /a/path /another/path 0 0\r\n"), PROXY_BAD, "not TCP" },
    { TEXT("PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaa"), PROXY_BAD, "without an end" },
    /* version 2 */
    { TEXT(SIGN "\41\21\0\14" V4), PROXY_NAMED, "192.0.2.1:40000" },
    { TEXT(SIGN "\41\21\0\23" V4 "\2\0\4host"), PROXY_NAMED, "192.0.2.1:40000" },
    { TEXT(SIGN "\41\41\0\44" V6), PROXY_NAMED, "[2001:db8::7]:40000" },
    { TEXT(SIGN "\41\41\0\47" V6 "\4\0\0"), PROXY_NAMED, "[2001:db8::7]:40000" },
    { TEXT(SIGN "\40\0\0\0"), PROXY_OWN, "" },
    { TEXT(SIGN "\40\21\0\14" V4), PROXY_OWN, "" },
    { TEXT(SIGN "\41\0\0\0"), PROXY_BAD, "not TCP" },
    { TEXT(SIGN "\41\22\0\14" V4), PROXY_BAD, "not TCP" },
    { TEXT(SIGN "\41\61\0\0"), PROXY_BAD, "not TCP" },
    { TEXT(SIGN "\41\21\0\13" "\300\0\2\1" "\313\0\161\12" "\234\100" "\24"), PROXY_BAD,
        "too short" },
    { TEXT(SIGN "\41\41\0\14" V4), PROXY_BAD, "too short" },
    { TEXT(SIGN "\21\21\0\14"), PROXY_BAD, "version" },
    { TEXT(SIGN "\42\21\0\14"), PROXY_BAD, "command" },
    { TEXT(SIGN "\41\21\10\0"), PROXY_BAD, "too long" },
    { TEXT(SIGN "\41\21\377\377"), PROXY_BAD, "too long" },
    /* neither */
    { TEXT("<"), PROXY_BAD, "without a PROXY" },
    { TEXT("PROXY\t"), PROXY_BAD, "without a PROXY" },
    { TEXT("\r\n\r\n\0\r\nQUIT\r"), PROXY_BAD, "without a PROXY" },
    { TEXT("\26\3\1"), PROXY_BAD, "without a PROXY" }
};

static void
is_as_expected(size_t i, enum proxy_result result, const struct proxy_header *h)
{
    char text[CONN_TEXT_MAX];
    if (result != cases[i].result)
        fail_msg("case %u: %d, expected %d", (unsigned)i, (int)result, (int)cases[i].result);
    if (result == PROXY_NAMED)
        assert_string_equal(conn_address_text(&h->from, text), cases[i].from);
    if (result == PROXY_BAD && strstr(h->what, cases[i].from) == NULL)
        fail_msg("case %u: %s", (unsigned)i, h->what);
}

static void
a_header_names_the_peer_or_is_refused(void **state)
{
    struct proxy_header h;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++)
        is_as_expected(i, proxy_read(span_make(cases[i].text, cases[i].len), &h), &h);
}

/* As it is read: never more than is known to belong to it, and never less than a byte. */
static void
nothing_behind_a_header_is_asked_for(void **state)
{
    struct proxy_header h;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum proxy_result result;
        size_t have = 0;
        while ((result = proxy_read(span_make(cases[i].text, have), &h)) == PROXY_MORE) {
            assert_true(h.want > 0);
            if (cases[i].result != PROXY_BAD)
                assert_true(have + h.want <= cases[i].len);
            have += have + h.want <= cases[i].len ? h.want : 1;
            assert_true(have <= cases[i].len);
        }
        is_as_expected(i, result, &h);
        if (result != PROXY_BAD)
            assert_int_equal(have, cases[i].len);
    }
}

static void
a_header_that_is_cut_is_awaited(void **state)
{
    struct proxy_header h;
    size_t i, n;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++)
        for (n = 0; cases[i].result != PROXY_BAD && n < cases[i].len; n++) {
            assert_int_equal(proxy_read(span_make(cases[i].text, n), &h), PROXY_MORE);
            assert_in_range(h.want, 1, cases[i].len - n);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_names_the_peer_or_is_refused),
        cmocka_unit_test(nothing_behind_a_header_is_asked_for),
        cmocka_unit_test(a_header_that_is_cut_is_awaited)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
