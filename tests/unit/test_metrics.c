/* test_metrics.c -- [METRICS]: what stands in a label, and when a certificate is told */
#include "cut/METRICS.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void
a_label_ends_where_it_should(void **state)
{
    static const struct { const char *value, *told; } cases[] = { { "a.example", "a.example" },
        { "", "" }, { "a\"b", "a\\\"b" }, { "\\", "\\\\" }, { "a\nb\x7f\r", "a?b??" },
        { "b\xc3\xbc" "cher", "b\xc3\xbc" "cher" }, { "\xc3", "?" }, { "\xe2\x80\xae", "?" } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out = { 0 };
        metrics_put_value(&out, span_of(cases[i].value));
        assert_string_equal(buf_text(&out), cases[i].told);
        buf_free(&out);
    }
}

static void
a_certificate_is_told_on_five_days_and_on_each_that_is_too_late(void **state)
{
    int64_t days;
    int told = 0, lines = 0;
    (void)state;
    assert_int_equal(metrics_stage(31), 0);
    for (days = 100; days > 0; days--) {
        lines += metrics_stage(days) > told;
        if (metrics_stage(days) > told)
            assert_true(days == 30 || days == 14 || days == 7 || days == 3 || days == 1);
        told = metrics_stage(days);
    }
    assert_int_equal(lines, 5);
    for (days = 0; days >= -METRICS_LATE_DAYS; days--) {
        assert_true(metrics_stage(days) > told);
        told = metrics_stage(days);
    }
    assert_int_equal(metrics_stage(-METRICS_LATE_DAYS - 1), told);
    assert_int_equal(metrics_stage(INT64_MIN / METRICS_DAY), told);
}

static void
days_count_from_the_one_that_has_begun(void **state)
{
    char text[METRICS_END_MAX];
    int64_t now = (int64_t)time(NULL);
    (void)state;
    assert_int_equal(metrics_days(now + 9 * METRICS_DAY - 100), 9);
    assert_int_equal(metrics_days(now + 100), 1);
    assert_int_equal(metrics_days(now - 100), 0);
    assert_int_equal(metrics_days(now - METRICS_DAY - 100), -1);
    assert_string_equal(metrics_end_text(now + 9 * METRICS_DAY - 100, text), "expires in 9 days");
    assert_string_equal(metrics_end_text(now + 100, text), "expires in 1 day");
    assert_string_equal(metrics_end_text(now - 100, text), "expired today");
    assert_string_equal(metrics_end_text(now - 664 * METRICS_DAY - 100, text),
        "expired 664 days ago");
}

static void
openmetrics_is_told_to_who_names_it(void **state)
{
    (void)state;
    assert_true(metrics_wants_open(span_of("application/OpenMetrics-text;version=1.0.0,*/*")));
    assert_true(metrics_wants_open(span_of("text/plain, application/openmetrics-text")));
    assert_false(metrics_wants_open(span_of("text/plain, application/openmetrics")));
    assert_false(metrics_wants_open(span_make(NULL, 0)));
}

/* What is known of a place, and of none. */
static struct sockaddr_storage there;
static const struct config edge = { .role = CONFIG_EDGE, .path = "/etc/xmppedge/edge.xml" };
static const struct config gateway = { .role = CONFIG_GATEWAY };

static void
no_remedy_has_a_word_for_what_is_known(void **state)
{
    static const char *const words[] = { "DOMAIN", "ADDRESS", "PORT", "FILE", ROUTE_OTHER };
    struct route_place place = { CONFIG_HOP_PARTNER, span_of("a.example"), &there };
    char text[ROUTE_REMEDY_MAX];
    unsigned why, i;
    (void)state;
    ((struct sockaddr_in *)(void *)&there)->sin_family = AF_INET;
    ((struct sockaddr_in *)(void *)&there)->sin_port = htons(5269);
    for (why = 0; why < XE_WHY_COUNT; why++)
        for (i = 0; i < sizeof words / sizeof *words; i++)
            assert_null(strstr(route_remedy(&edge, &place, (enum xe_why)why, text), words[i]));
    assert_string_equal(route_remedy(&edge, &place, XE_WHY_REFUSED, text), "Check that the server "
        "runs and listens at 0.0.0.0:5269, and that no firewall rejects us: xmppedge ports "
        "/etc/xmppedge/edge.xml.");
    assert_string_equal(route_remedy(&edge, &place, XE_WHY_PEER_LOST, text), "Look for a restart "
        "of the partner's server (a.example), or a firewall in between that cuts idle "
        "connections.");
}

static void
what_is_not_known_is_no_word_to_be_replaced(void **state)
{
    struct route_place place = { CONFIG_HOP_INNER, span_make(NULL, 0), NULL };
    char text[ROUTE_REMEDY_MAX];
    unsigned why;
    (void)state;
    for (why = 0; why < XE_WHY_COUNT; why++) {
        route_remedy(&gateway, &place, (enum xe_why)why, text);
        assert_null(strstr(text, "DOMAIN"));
        assert_null(strstr(text, "ADDRESS"));
    }
    assert_string_equal(route_remedy(&gateway, &place, XE_WHY_UNREACHABLE, text), "Check the route "
        "to its address from this machine with ip route get, and the rules of the firewall.");
    assert_non_null(strstr(route_remedy(&gateway, &place, XE_WHY_REFUSED, text), "ports FILE."));
}

static void
the_other_node_of_a_trunk_is_called_what_it_is(void **state)
{
    struct route_place place = { CONFIG_HOP_TRUNK, span_of("edge01"), NULL };
    char text[ROUTE_WORDS_MAX], todo[ROUTE_REMEDY_MAX];
    (void)state;
    assert_string_equal(route_words(&gateway, CONFIG_HOP_TRUNK, XE_WHY_CERT_NAME, text),
        "the certificate of our own edge is not valid for its domain");
    assert_string_equal(route_words(&edge, CONFIG_HOP_TRUNK, XE_WHY_PEER_LOST, text),
        "the connection to our own gateway was lost");
    assert_string_equal(route_words(&edge, CONFIG_HOP_TRUNK, XE_WHY_TLS_FAILED, text),
        "our own gateway: the TLS handshake failed");
    assert_string_equal(route_words(&edge, CONFIG_HOP_TRUNK, XE_WHY_NO_TRUNK, text),
        "the two nodes of this border are not connected");
    assert_string_equal(route_remedy(&gateway, &place, XE_WHY_PEER_CLOSED, todo), "Look into the "
        "log of our own edge (edge01) if this comes again and again; once in a while it is "
        "normal.");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_label_ends_where_it_should),
        cmocka_unit_test(no_remedy_has_a_word_for_what_is_known),
        cmocka_unit_test(what_is_not_known_is_no_word_to_be_replaced),
        cmocka_unit_test(the_other_node_of_a_trunk_is_called_what_it_is),
        cmocka_unit_test(a_certificate_is_told_on_five_days_and_on_each_that_is_too_late),
        cmocka_unit_test(days_count_from_the_one_that_has_begun),
        cmocka_unit_test(openmetrics_is_told_to_who_names_it)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
