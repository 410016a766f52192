/* test_inside.c -- which addresses are inside, and which connections are one call */
#include "../../analyze/inside.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct address
address_of(const char *text)
{
    struct network n;
    if (!network_read(text, &n))
        fail_msg("%s is no address", text);
    return n.address;
}

static void
the_inside_is_told_from_the_internet_at_both_ends_of_each_block(void **state)
{
    static const struct { const char *address, *what; } rows[] = {
        { "9.255.255.255", NULL }, { "10.0.0.0", "a private address" },
        { "10.255.255.255", "a private address" }, { "11.0.0.0", NULL },
        { "100.63.255.255", NULL }, { "100.64.0.0", "an address shared with a provider" },
        { "100.127.255.255", "an address shared with a provider" }, { "100.128.0.0", NULL },
        { "126.255.255.255", NULL }, { "127.0.0.0", "a loopback address" },
        { "127.255.255.255", "a loopback address" }, { "128.0.0.0", NULL },
        { "169.253.255.255", NULL }, { "169.254.169.254", "a link-local address" },
        { "169.255.0.0", NULL }, { "172.15.255.255", NULL }, { "172.16.0.0", "a private address" },
        { "172.31.255.255", "a private address" }, { "172.32.0.0", NULL },
        { "192.167.255.255", NULL }, { "192.168.0.0", "a private address" },
        { "192.168.255.255", "a private address" }, { "192.169.0.0", NULL },
        { "192.0.2.1", NULL }, { "203.0.113.1", NULL },   /* a LAN has neither */
        { "::", NULL }, { "::1", "a loopback address" }, { "::2", NULL },
        { "fbff::", NULL }, { "fc00::", "a private address" },
        { "fdff:ffff::1", "a private address" }, { "fe00::", NULL },
        { "fe80::1", "a link-local address" }, { "febf::1", "a link-local address" },
        { "fec0::1", "a site-local address" }, { "feff::1", "a site-local address" },
        { "ff02::1", NULL }, { "2600::1", NULL },
        { "64:ff9b::10.1.2.3", "a private address" }, { "64:ff9b::8.8.8.8", NULL },
        { "64:ff9b::127.0.0.1", "a loopback address" }, { "64:ff9b:0:0:1::a00:1", NULL },
        { "2002:a00:1::1", "a private address" }, { "2002:808:808::1", NULL },
        { "2002:a9fe:a9fe::", "a link-local address" } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct address a = address_of(rows[i].address);
        const struct inside_block *block = inside_block(&a);
        if ((block == NULL) != (rows[i].what == NULL)
            || (block != NULL && strcmp(block->what, rows[i].what) != 0))
            fail_msg("%s is %s", rows[i].address, block == NULL ? "of the Internet" : block->what);
    }
}

static void
networks_are_read_as_they_are_written(void **state)
{
    static const char *const bad[] = { "", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/8x", "10.0.0/8",
        "fd00::/129", "relay.example", "10.0.0.0/-1" };
    struct network n;
    struct address a = address_of("10.7.255.1"), b = address_of("10.8.0.0"), c = address_of("::1");
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        if (network_read(bad[i], &n))
            fail_msg("%s was read", bad[i]);
    assert_true(network_read("10.0.0.0/13", &n));
    assert_true(network_has(&n, &a));
    assert_false(network_has(&n, &b));
    assert_false(network_has(&n, &c));
    assert_true(network_read("::/0", &n));
    assert_true(network_has(&n, &c));
    assert_false(network_has(&n, &a));
}

static void
connections_between_the_same_are_one_call_if_it_is_sure_who_began(void **state)
{
    struct inside *in = inside_new();
    struct flow f = { .number = 1, .first_frame = 7, .evidence = EVIDENCE_SYN };
    const struct inside_call *calls;
    size_t n;
    (void)state;
    assert_non_null(in);
    f.side[0].address = address_of("203.0.113.10");
    f.side[1].address = address_of("10.1.0.21");
    f.side[1].port = 22;
    inside_push(in, &f, false);
    f.number = 2;
    f.established = true;
    f.side[0].port = 40000;   /* of no interest */
    inside_push(in, &f, true);
    f.side[1].port = 23;
    inside_push(in, &f, false);
    f.evidence = EVIDENCE_PORT;
    inside_push(in, &f, false);
    f.side[1].port = 24;
    inside_push(in, &f, true);
    calls = inside_calls(in, &n);
    assert_int_equal(n, 3);
    assert_int_equal(calls[0].count, 2);
    assert_int_equal(calls[0].established, 1);
    assert_int_equal(calls[0].others, 1);
    assert_int_equal(calls[0].others_established, 0);
    assert_int_equal(calls[0].flow, 1);
    assert_int_equal(calls[0].frame, 7);
    assert_true(calls[0].sure);
    assert_int_equal(calls[1].count, 1);
    assert_false(calls[2].sure);
    inside_free(in);
}

/* However many partners there are, there is room for what no partner is. */
static void
the_ceiling_keeps_room_for_the_inside(void **state)
{
    struct inside *in = inside_new();
    struct flow f = { .number = 1, .evidence = EVIDENCE_SYN };
    size_t i, n;
    (void)state;
    assert_non_null(in);
    f.side[0].address = address_of("203.0.113.10");
    f.side[1].address = address_of("198.51.100.0");
    for (i = 0; i < 2 * INSIDE_CALLS_MAX; i++) {
        f.side[1].port = (uint16_t)i;
        inside_push(in, &f, false);
    }
    inside_calls(in, &n);
    assert_int_equal(n, INSIDE_CALLS_MAX / 2);
    f.side[1].address = address_of("10.1.0.21");
    for (i = 0; i < INSIDE_CALLS_MAX; i++) {
        f.side[1].port = (uint16_t)i;
        inside_push(in, &f, false);
    }
    inside_calls(in, &n);
    assert_int_equal(n, INSIDE_CALLS_MAX);
    assert_int_equal(inside_left_out(in), INSIDE_CALLS_MAX / 2);
    inside_free(in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_inside_is_told_from_the_internet_at_both_ends_of_each_block),
        cmocka_unit_test(networks_are_read_as_they_are_written),
        cmocka_unit_test(connections_between_the_same_are_one_call_if_it_is_sure_who_began),
        cmocka_unit_test(the_ceiling_keeps_room_for_the_inside),
    };
    return cmocka_run_group_tests_name("inside", tests, NULL, NULL);
}
