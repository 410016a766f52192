/* test_reach.c -- [REACH]: where what came from the network may lead */
#include "cut/REACH.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void
a_network_is_read_and_written(void **state)
{
    static const struct { const char *text, *again; unsigned bits; } rows[] = {
        { "10.0.0.0/8", "10.0.0.0/8", 104 }, { "0.0.0.0/0", "0.0.0.0/0", 96 },
        { "192.0.2.1", "192.0.2.1", 128 }, { "192.0.2.1/32", "192.0.2.1", 128 },
        { "fd00::/8", "fd00::/8", 8 }, { "::/0", "::/0", 0 }, { "::1", "::1", 128 },
        { "2001:DB8::/32", "2001:db8::/32", 32 }, { "::ffff:10.0.0.0/104", "10.0.0.0/8", 104 } };
    struct reach_net n;
    char text[REACH_TEXT_MAX];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(reach_net_parse(span_of(rows[i].text), &n), REACH_GOOD);
        assert_int_equal(n.bits, rows[i].bits);
        assert_string_equal(reach_net_text(&n, text), rows[i].again);
    }
}

static void
what_is_no_network_is_told_apart(void **state)
{
    static const struct { const char *text; enum reach_fault fault; } rows[] = {
        { "", REACH_NO_ADDRESS }, { "/8", REACH_NO_ADDRESS }, { "10", REACH_NO_ADDRESS },
        { "10.0.0.0.0/8", REACH_NO_ADDRESS }, { "10.0.0.256", REACH_NO_ADDRESS },
        { "[::1]", REACH_NO_ADDRESS }, { "fe80::1%lo", REACH_NO_ADDRESS },
        { "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa", REACH_NO_ADDRESS },
        { "10.0.0.0/33", REACH_NO_PREFIX }, { "10.0.0.0/", REACH_NO_PREFIX },
        { "10.0.0.0/+8", REACH_NO_PREFIX }, { "10.0.0.0/4294967304", REACH_NO_PREFIX },
        { "::/129", REACH_NO_PREFIX }, { "10.0.0.1/31", REACH_HOST_BITS },
        { "10.0.0.1/0", REACH_HOST_BITS }, { "::1/127", REACH_HOST_BITS } };
    struct reach_net n;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(reach_net_parse(span_of(rows[i].text), &n), rows[i].fault);
}

static void
every_row_of_the_table_is_a_network_and_is_there_once(void **state)
{
    size_t i, j;
    (void)state;
    for (i = 0; i < REACH_BLOCKS; i++) {
        struct reach_net n;
        assert_int_equal(reach_net_parse(span_of(reach_blocks[i].net), &n), REACH_GOOD);
        for (j = 0; j < i; j++)
            assert_string_not_equal(reach_blocks[i].net, reach_blocks[j].net);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_is_read_and_written),
        cmocka_unit_test(what_is_no_network_is_told_apart),
        cmocka_unit_test(every_row_of_the_table_is_a_network_and_is_there_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
