/* test_net.c -- [NET]: the network of an address */
#include "cut/NET.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct sockaddr_storage
address(const char *text, uint16_t port)
{
    struct sockaddr_storage a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a;
    memset(&a, 0, sizeof a);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return a;
    }
    memset(&a, 0, sizeof a);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
    return a;
}

static void
a_network_has_a_text(void **state)
{
    static const struct { const char *address; enum net_width width; const char *text; } rows[] = {
        { "192.0.2.1", NET_SUBNET, "192.0.2.1" },
        { "192.0.2.1", NET_SITE, "192.0.2.1" },
        { "0.0.0.0", NET_SUBNET, "0.0.0.0" },
        { "255.255.255.255", NET_HOME, "255.255.255.255" },
        { "::ffff:192.0.2.1", NET_SUBNET, "192.0.2.1" },
        { "::ffff:192.0.2.1", NET_SITE, "192.0.2.1" },
        { "2001:db8:1:2:3:4:5:6", NET_SUBNET, "2001:db8:1:2::/64" },
        { "2001:db8:1:2:3:4:5:6", NET_HOME, "2001:db8:1::/56" },
        { "2001:db8:1:ff02::6", NET_HOME, "2001:db8:1:ff00::/56" },
        { "2001:db8:1:ff02::6", NET_SITE, "2001:db8:1::/48" },
        { "::1", NET_SUBNET, "::/64" },
        { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NET_SUBNET, "ffff:ffff:ffff:ffff::/64" },
    };
    char text[NET_TEXT_MAX];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sockaddr_storage a = address(rows[i].address, 5269);
        struct net n = net_of(&a, rows[i].width);
        assert_string_equal(net_text(&n, text), rows[i].text);
    }
}

static void
neighbours_are_told_apart_where_they_should_be(void **state)
{
    static const struct { const char *a, *b; enum net_width width; bool same; } rows[] = {
        { "192.0.2.1", "192.0.2.1", NET_SUBNET, true },
        { "192.0.2.1", "192.0.2.2", NET_SITE, false },
        { "192.0.2.1", "::ffff:192.0.2.1", NET_SUBNET, true },
        { "2001:db8::1", "2001:db8::ffff:0:0:1", NET_SUBNET, true },
        { "2001:db8::1", "2001:db8:0:1::1", NET_SUBNET, false },
        { "2001:db8::1", "2001:db8:0:1::1", NET_HOME, true },
        { "2001:db8::1", "2001:db8:0:100::1", NET_HOME, false },
        { "2001:db8::1", "2001:db8:0:100::1", NET_SITE, true },
        { "2001:db8::1", "2001:db8:1::1", NET_SITE, false },
        { "192.0.2.1", "c000:201::", NET_SUBNET, false },   /* the same bytes */
        { "0.0.0.0", "::", NET_SITE, false },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sockaddr_storage a = address(rows[i].a, 1);
        struct sockaddr_storage b = address(rows[i].b, 65535);
        struct net of_a = net_of(&a, rows[i].width);
        struct net of_b = net_of(&b, rows[i].width);
        assert_int_equal(span_eq(net_key(&of_a), net_key(&of_b)), rows[i].same);
    }
}

static void
a_wider_network_is_another_key_than_a_narrower_one(void **state)
{
    struct sockaddr_storage a = address("2001:db8::1", 0);
    struct net subnet = net_of(&a, NET_SUBNET);
    struct net home = net_of(&a, NET_HOME);
    struct net site = net_of(&a, NET_SITE);
    (void)state;
    assert_false(span_eq(net_key(&subnet), net_key(&home)));
    assert_false(span_eq(net_key(&home), net_key(&site)));
}

static void
what_has_no_address_is_one_network(void **state)
{
    struct sockaddr_storage a;
    struct net n;
    char text[NET_TEXT_MAX];
    (void)state;
    memset(&a, 0xff, sizeof a);
    a.ss_family = AF_UNIX;
    n = net_of(&a, NET_SUBNET);
    assert_int_equal(n.bits, 0);
    assert_string_equal(net_text(&n, text), "?");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_has_a_text),
        cmocka_unit_test(neighbours_are_told_apart_where_they_should_be),
        cmocka_unit_test(a_wider_network_is_another_key_than_a_narrower_one),
        cmocka_unit_test(what_has_no_address_is_one_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
