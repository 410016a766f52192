/* test_roff.c -- [ROFF]: text as pages of a manual have it */
#include "cut/ROFF.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void
nothing_in_a_text_is_a_request(void **state)
{
    static const struct { const char *text, *page; } rows[] = {
        { "one line", "one line\n" },
        { "", "\n" },
        { "  two   words ", "two words\n" },
        { "--json", "\\-\\-json\n" },
        { ".TH is text", "\\&.TH is text\n" },
        { "'tis too", "\\&'tis too\n" },
        { "a.b it's", "a.b it's\n" },
        { "\\fB", "\\efB\n" }
    };
    char page[64];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(xe_roff_text(rows[i].text, page, sizeof page), strlen(rows[i].page));
        assert_string_equal(page, rows[i].page);
    }
}

static void
a_long_text_is_broken_between_words(void **state)
{
    char text[400], page[XE_ROFF_SIZE(400)];
    const char *line = page;
    size_t i, len;
    (void)state;
    for (i = 0; i < sizeof text - 1; i++)
        text[i] = i % 7 == 0 ? ' ' : i % 7 == 2 ? '-' : '.';
    text[i] = '\0';
    assert_int_not_equal(xe_roff_text(text, page, sizeof page), SIZE_MAX);
    for (; *line != '\0'; line += len + 1) {
        len = strcspn(line, "\n");
        assert_in_range(len, 1, ROFF_LINE);
        assert_memory_equal(line, "\\&.", 2);
    }
}

static void
a_text_that_has_no_room_is_not_written(void **state)
{
    char page[XE_ROFF_SIZE(3)];
    size_t size;
    (void)state;
    for (size = 0; size < 7; size++)
        assert_int_equal(xe_roff_text("-.-", page, size), SIZE_MAX);
    assert_int_not_equal(xe_roff_text("-.-", page, sizeof page), SIZE_MAX);
    assert_int_not_equal(xe_roff_text(".", page, XE_ROFF_SIZE(1)), SIZE_MAX);
    assert_int_not_equal(xe_roff_text("", page, XE_ROFF_SIZE(0)), SIZE_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_in_a_text_is_a_request),
        cmocka_unit_test(a_long_text_is_broken_between_words),
        cmocka_unit_test(a_text_that_has_no_room_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
