/* test_log.c -- [LOG]: what a line says can be read back, whatever bytes a stranger has sent */
#include "cut/LOG.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char line[LOG_LINE_MAX + 16];

static void
keep_line(void *user, const char *text, size_t len)
{
    (void)user;
    snprintf(line, sizeof line, "%.*s", (int)len, text);
}

/* The value that a line of this form has for one field. */
static const char *
value_of(bool json, struct xe_span value)
{
    struct log log = { .level = LOG_DEBUG, .json = json, .sink = keep_line };
    char *at;
    assert_true(log_begin(&log, LOG_INFO, "test", span_make(NULL, 0)));
    log_span(&log, "to", value);
    log_end(&log);
    buf_free(&log.line);
    at = strstr(line, json ? "\"to\":" : " to=");
    assert_non_null(at);
    at[strlen(at) - (json ? 2 : 1)] = '\0';   /* the end of the object, and of the line */
    return at + (json ? 5 : 4);
}

static void
values_are_read_back_as_they_were(void **state)
{
    static const struct { const char *in; const char *text; const char *json; } rows[] = {
        { "far.example", "far.example", "\"far.example\"" },
        { "", "\"\"", "\"\"" },
        { "b\xc3\xbc" "cher.example", "\"b\xc3\xbc" "cher.example\"",
          "\"b\xc3\xbc" "cher.example\"" },
        { "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"", "\"\xf0\x9f\x98\x80\"" },
        { "say \"a\\b\"", "\"say \\\"a\\\\b\\\"\"", "\"say \\\"a\\\\b\\\"\"" },
        { "a\nb\x7f", "\"a\\u000ab\\u007f\"", "\"a\\u000ab\\u007f\"" },
        { "to=me", "\"to=me\"", "\"to=me\"" },
        { "\xe2\x80\xae" "elpmaxe", "\"\\u202eelpmaxe\"", "\"\\u202eelpmaxe\"" },   /* backwards */
        { "\xf3\xa0\x80\x81", "\"\\udb40\\udc01\"", "\"\\udb40\\udc01\"" },
        { "\xff" "b\xc3", "\"\\ufffdb\\ufffd\"", "\"\\ufffdb\\ufffd\"" },
        { "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"", "\"\\ufffd\\ufffd\\ufffd\"" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_string_equal(value_of(false, span_of(rows[i].in)), rows[i].text);
        assert_string_equal(value_of(true, span_of(rows[i].in)), rows[i].json);
    }
}

static void
a_long_value_is_cut_between_two_characters(void **state)
{
    char long_one[2 * LOG_VALUE_MAX];
    const char *value;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof long_one; i += 2)
        memcpy(long_one + i, "\xc3\xbc", 2);
    value = value_of(true, span_make(long_one, sizeof long_one));
    assert_int_equal(strlen(value), LOG_VALUE_MAX + strlen("\"...\""));
    assert_memory_equal(value + 1, long_one, LOG_VALUE_MAX);
    assert_string_equal(value + 1 + LOG_VALUE_MAX, "...\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_back_as_they_were),
        cmocka_unit_test(a_long_value_is_cut_between_two_characters),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
