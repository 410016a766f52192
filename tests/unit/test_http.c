/* test_http.c -- [HTTP]: what is a question, and with which status others are refused */
#include "cut/HTTP.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define END "\r\n\r\n"
#define HOST "\r\nHost: a"

static void
a_request_is_read_or_refused_with_its_status(void **state)
{
    static const struct { int status; const char *text; const char *path; } cases[] = {
        { 200, "GET /metrics HTTP/1.1" HOST END, "/metrics" },
        { 200, "GET /health HTTP/1.0" END, "/health" },
        { 200, "GET /health HTTP/1.0\n\n", "/health" },
        { 200, "\r\nGET / HTTP/1.0" END, "/" },
        { 200, "GET /a?b=c HTTP/1.0" END, "/a" },
        { 200, "GET http://10.0.0.5:9269/health?x HTTP/1.1" HOST END, "/health" },
        { 200, "HEAD /metrics HTTP/1.1" HOST END, "/metrics" },
        { 200, "GET / HTTP/1.1\r\nX-Y:\r\nhOST: \t a" END, "/" },
        { 405, "POST /metrics HTTP/1.1" HOST END, NULL },
        { 405, "DELETE / HTTP/1.0" END, NULL },
        { 405, "get / HTTP/1.0" END, NULL },          /* methods have case */
        { 505, "GET / HTTP/2.0" END, NULL },
        { 505, "PRI * HTTP/2.0" END, NULL },
        { 400, "GET / HTTP/1.1" END, NULL },          /* no host */
        { 400, "GET / HTTP/1.1" HOST HOST END, NULL },
        { 400, "GET /" END, NULL },                   /* HTTP/0.9 */
        { 400, "GET  / HTTP/1.0" END, NULL },
        { 400, "GET / HTTP/1.0 " END, NULL },
        { 400, "GET / http/1.0" END, NULL },
        { 400, "GET /a\tb HTTP/1.0" END, NULL },
        { 400, "GET /\x80 HTTP/1.0" END, NULL },
        { 400, "GET * HTTP/1.0" END, NULL },
        { 400, "GET http://a HTTP/1.0" END, NULL },   /* its path is empty */
        { 400, "GET ftp://a/ HTTP/1.0" END, NULL },
        { 400, " GET / HTTP/1.0" END, NULL },
        { 400, "G(T / HTTP/1.0" END, NULL },
        { 400, "GET / HTTP/1.0\r\nno field" END, NULL },
        { 400, "GET / HTTP/1.0\r\nA : b" END, NULL },
        { 400, "GET / HTTP/1.0\r\n: b" END, NULL },
        { 400, "GET / HTTP/1.0\r\nA: b\r\n c" END, NULL },   /* folded */
        { 400, "GET / HTTP/1.0\r\nA: b\rc" END, NULL },
        { 400, "GET / HTTP/1.0\r\nA: \x01" END, NULL },
        { 400, "\r\n\r\n", NULL },
        { 400, "<stream:stream xmlns='jabber:server'>" END, NULL },
        { 400, "\x16\x03\x01\x01\n\n", NULL } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_request r;
        struct xe_span text = span_of(cases[i].text);
        assert_true(http_is_whole(text));
        if (http_read_request(text, &r) != cases[i].status)
            fail_msg("expected %d of: %s", cases[i].status, cases[i].text);
        if (cases[i].path != NULL)
            assert_true(span_is(r.path, cases[i].path));
    }
}

static void
it_is_whole_with_its_empty_line(void **state)
{
    static const char text[] = "\r\nGET / HTTP/1.0\r\nA: b\r\n\r\n";
    size_t i;
    (void)state;
    for (i = 0; i < sizeof text - 1; i++)
        assert_false(http_is_whole(span_make(text, i)));
    assert_true(http_is_whole(span_of(text)));
}

static void
what_is_wanted_is_seen(void **state)
{
    struct http_request r;
    (void)state;
    assert_int_equal(http_read_request(span_of("HEAD / HTTP/1.1" HOST "\r\naccept:  x/y;q=1 "
        END), &r), 200);
    assert_true(r.head && r.chunked && span_is(r.accept, "x/y;q=1"));
    assert_int_equal(http_read_request(span_of("GET / HTTP/1.0" END), &r), 200);
    assert_true(!r.head && !r.chunked && r.accept.at == NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read_or_refused_with_its_status),
        cmocka_unit_test(it_is_whole_with_its_empty_line),
        cmocka_unit_test(what_is_wanted_is_seen)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
