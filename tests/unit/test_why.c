/* test_why.c -- [WHY]: the one list of endings */
#include "cut/WHY.c"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct xe_why_row *
row_at(unsigned i)
{
    return xe_why((enum xe_why)i);
}

static void
every_reason_says_what_to_do(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < XE_WHY_COUNT; i++) {
        const char *remedy = row_at(i)->remedy;
        size_t len = strlen(remedy);
        if (len < 20 || len > XE_REMEDY_MAX || !isupper((unsigned char)remedy[0])
            || remedy[len - 1] != '.')
            fail_msg("%s: not one sentence of its length: %s", row_at(i)->word, remedy);
    }
}

/* A sender reads it with who it is about, in 256 bytes (ROUTE_WORDS_MAX). */
static void
no_text_is_longer_than_a_sender_reads(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < XE_WHY_COUNT; i++)
        assert_in_range(strlen(row_at(i)->text), 5, 150);
}

static void
no_two_reasons_say_the_same(void **state)
{
    unsigned i, j;
    (void)state;
    for (i = 0; i < XE_WHY_COUNT; i++)
        for (j = 0; j < i; j++)
            if (strcmp(row_at(i)->remedy, row_at(j)->remedy) == 0
                || strcmp(row_at(i)->text, row_at(j)->text) == 0
                || strcmp(row_at(i)->word, row_at(j)->word) == 0)
                fail_msg("%s and %s cannot be told apart", row_at(i)->word, row_at(j)->word);
}

static void
a_reason_is_found_by_its_word(void **state)
{
    unsigned i;
    (void)state;
    for (i = 0; i < XE_WHY_COUNT; i++)
        assert_int_equal(xe_why_find(span_of(row_at(i)->word)), i);
    assert_int_equal(xe_why_find(span_of("tcp-refuse")), XE_WHY_COUNT);
    assert_int_equal(xe_why_find(span_of("tcp-refused ")), XE_WHY_COUNT);
    assert_int_equal(xe_why_find(span_of("")), XE_WHY_COUNT);
    assert_int_equal(xe_why_find(span_make("tcp-refusedly", 11)), XE_WHY_REFUSED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reason_says_what_to_do),
        cmocka_unit_test(no_text_is_longer_than_a_sender_reads),
        cmocka_unit_test(no_two_reasons_say_the_same),
        cmocka_unit_test(a_reason_is_found_by_its_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
