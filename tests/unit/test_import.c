/* test_import.c -- [IMPORT]: texts with partners that another program has written */
#include "cut/IMPORT.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* What `import` makes of a text that begins with its first byte. */
static struct buf
imported(const char *text)
{
    struct buf out = { 0 }, errors = { 0 };
    char path[] = "/tmp/test_import.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_true(import_run(path, &out, &errors));
    assert_int_equal(buf_len(&errors), 0);
    unlink(path);
    buf_free(&errors);
    return out;
}

static void
assert_imports(const char *text, const char *partners)
{
    struct buf out = imported(text);
    const char *body = strstr(buf_text(&out), "<partners>\n");
    assert_non_null(body);
    assert_string_equal(body + strlen("<partners>\n"), partners);
    buf_free(&out);
}

static void
the_first_byte_of_a_text_may_be_that_of_a_name(void **state)
{
    static const char wanted[] = "  <partner domain=\"a.example\"/>\n</partners>\n";
    (void)state;
    assert_imports("Domain : a.example\n", wanted);
    assert_imports("Domain,Identity\na.example,a.example\n", wanted);
    assert_imports("\"Domain\",\"Identity\"\na.example,a.example\n", wanted);
}

static void
a_name_that_comes_again_is_a_partner_or_a_remark(void **state)
{
    (void)state;
    assert_imports("Identity : a.example\nDomain : a.example\nTlsNegotiation : Required\n"
        "Identity : b.example\nDomain : b.example\nTlsNegotiation : Optional\n",
        "  <partner domain=\"a.example\" tls=\"required\"/>\n"
        "  <partner domain=\"b.example\" tls=\"optional\"/>\n</partners>\n");
    assert_imports("Domain : a.example\nTlsNegotiation : Required\ntlsnegotiation : Optional\n",
        "  <!-- a.example: tlsnegotiation stands there twice, and Optional is left out -->\n"
        "  <partner domain=\"a.example\" tls=\"required\"/>\n</partners>\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_byte_of_a_text_may_be_that_of_a_name),
        cmocka_unit_test(a_name_that_comes_again_is_a_partner_or_a_remark)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
