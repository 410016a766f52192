/* test_policy.c -- [POLICY]: the 18 rows of the negotiation settings, as the documentation of Lync
 * Server 2013 has them, with its defects mended */
#include "cut/POLICY.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { R = POLICY_REQUIRED, O = POLICY_OPTIONAL, N = POLICY_NOT_SUPPORTED };
enum { S = POLICY_SASL_TLS, D = POLICY_TLS_DIALBACK, T = POLICY_TCP_DIALBACK };

/* The documentation, row by row: number, TLS, SASL, dialback, methods, verdict. */
static const int documented[18][6] = {
    {  1, R, R, 1, S,         POLICY_DOUBTFUL },
    {  2, R, R, 0, S,         POLICY_VALID },
    {  3, O, R, 1, S | D | T, POLICY_DOUBTFUL },
    {  4, O, R, 0, S,         POLICY_DOUBTFUL },
    {  5, N, R, 1, T,         POLICY_DOUBTFUL },
    {  6, N, R, 0, 0,         POLICY_INVALID },
    {  7, R, O, 1, S | D,     POLICY_VALID },
    {  8, R, O, 0, S,         POLICY_VALID },
    {  9, O, O, 1, S | D | T, POLICY_DOUBTFUL },
    { 10, O, O, 0, S,         POLICY_DOUBTFUL },
    { 11, N, O, 1, T,         POLICY_DOUBTFUL },
    { 12, N, O, 0, 0,         POLICY_INVALID },
    { 13, R, N, 1, D,         POLICY_VALID },
    { 14, R, N, 0, 0,         POLICY_INVALID },
    { 15, O, N, 1, D | T,     POLICY_VALID },
    { 16, O, N, 0, 0,         POLICY_INVALID },
    { 17, N, N, 1, T,         POLICY_VALID },
    { 18, N, N, 0, 0,         POLICY_INVALID },
};

static const struct policy_row *
row_of(size_t i)
{
    return policy_row((enum policy_level)documented[i][1], (enum policy_level)documented[i][2],
        documented[i][3] != 0);
}

/* Every row, also by combinations that the loop above cannot miss. */
static const struct policy_row *
row_any(unsigned i)
{
    return policy_row((enum policy_level)(i % 3), (enum policy_level)(i / 3 % 3), i / 9 == 0);
}

static void
each_of_the_18_rows_has_the_documented_number_methods_and_verdict(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < 18; i++) {
        const struct policy_row *row = row_of(i);
        assert_int_equal(row->number, documented[i][0]);
        assert_int_equal(row->methods, documented[i][4]);
        assert_int_equal(row->verdict, documented[i][5]);
    }
}

static void
a_row_carries_the_settings_it_was_asked_for(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++) {
        assert_int_equal(row_any(i)->tls, i % 3);
        assert_int_equal(row_any(i)->sasl, i / 3 % 3);
        assert_int_equal(row_any(i)->dialback, i / 9 == 0);
    }
}

static void
exactly_five_rows_are_invalid_and_they_are_those_without_a_method(void **state)
{
    unsigned i, invalid = 0;
    (void)state;
    for (i = 0; i < 18; i++) {
        assert_int_equal(row_any(i)->verdict == POLICY_INVALID, row_any(i)->methods == 0);
        invalid += row_any(i)->verdict == POLICY_INVALID ? 1 : 0;
    }
    assert_int_equal(invalid, 5);
}

static void
required_tls_never_allows_dialback_over_plain_tcp(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++)
        if (row_any(i)->tls == POLICY_REQUIRED)
            assert_int_equal(row_any(i)->methods & POLICY_TCP_DIALBACK, 0);
    assert_int_equal(policy_row(POLICY_REQUIRED, POLICY_OPTIONAL, true)->number, 7);
}

static void
nothing_over_tls_is_allowed_where_tls_is_not_supported(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++)
        if (row_any(i)->tls == POLICY_NOT_SUPPORTED)
            assert_int_equal(row_any(i)->methods & (POLICY_SASL_TLS | POLICY_TLS_DIALBACK), 0);
}

static void
dialback_that_is_off_is_in_no_row(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++)
        if (!row_any(i)->dialback)
            assert_int_equal(row_any(i)->methods & (POLICY_TCP_DIALBACK | POLICY_TLS_DIALBACK), 0);
}

static void
sasl_is_never_allowed_on_a_plain_stream(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++) {
        assert_false(policy_allows_sasl(row_any(i)->methods, false));
        assert_int_equal(policy_allows_sasl(row_any(i)->methods, true),
            (row_any(i)->methods & S) != 0);
    }
}

static void
dialback_on_a_plain_stream_needs_the_tcp_method(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++) {
        assert_int_equal(policy_allows_dialback(row_any(i)->methods, false),
            (row_any(i)->methods & T) != 0);
        assert_int_equal(policy_allows_dialback(row_any(i)->methods, true),
            (row_any(i)->methods & D) != 0);
    }
}

static void
every_row_says_why_in_a_sentence(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++)
        assert_true(strlen(row_any(i)->why) > 20);
}

static void
levels_and_verdicts_have_words(void **state)
{
    (void)state;
    assert_string_equal(policy_levels[POLICY_NOT_SUPPORTED], "not-supported");
    assert_string_equal(policy_verdicts[POLICY_DOUBTFUL], "doubtful");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_of_the_18_rows_has_the_documented_number_methods_and_verdict),
        cmocka_unit_test(a_row_carries_the_settings_it_was_asked_for),
        cmocka_unit_test(exactly_five_rows_are_invalid_and_they_are_those_without_a_method),
        cmocka_unit_test(required_tls_never_allows_dialback_over_plain_tcp),
        cmocka_unit_test(nothing_over_tls_is_allowed_where_tls_is_not_supported),
        cmocka_unit_test(dialback_that_is_off_is_in_no_row),
        cmocka_unit_test(sasl_is_never_allowed_on_a_plain_stream),
        cmocka_unit_test(dialback_on_a_plain_stream_needs_the_tcp_method),
        cmocka_unit_test(every_row_says_why_in_a_sentence),
        cmocka_unit_test(levels_and_verdicts_have_words),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
