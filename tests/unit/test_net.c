/* test_net.c -- [NET]: the network of an address, and what is remembered of it */
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

/* ---- the book ---- */

static struct net_source *
source(struct net_book *b, const char *text)
{
    struct sockaddr_storage a = address(text, 1);
    struct net_source *s = net_source_of(b, &a);
    assert_non_null(s);
    return s;
}

static void
prove(struct net_book *b, const char *text)
{
    net_prove(b, source(b, text), 1000);
}

static void
a_network_is_found_again_while_something_is_counted_for_it(void **state)
{
    struct net_book b = { .idle.count = 0 };
    struct net_source *s;
    size_t i;
    (void)state;
    net_book_open(&b);
    s = source(&b, "192.0.2.1");
    net_count(&b, s, NET_CONNECTIONS, 1);
    for (i = 0; i < 3 * NET_IDLE_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.%zu.%zu.1", i / 250, i % 250);
        source(&b, text);
    }
    assert_ptr_equal(source(&b, "192.0.2.1"), s);
    assert_int_equal(s->counts[NET_CONNECTIONS], 1);
    net_count(&b, s, NET_CONNECTIONS, -1);
    assert_int_equal(s->counts[NET_CONNECTIONS], 0);
    net_book_close(&b);
}

/* Each of these is a /64, in a /56 and a /48 of its own. */
static void
many_networks_do_not_fill_the_memory(void **state)
{
    struct net_book b = { .idle.count = 0 };
    size_t i;
    (void)state;
    net_book_open(&b);
    for (i = 0; i < 4 * NET_IDLE_MAX; i++) {
        char text[64];
        struct net_source *s;
        snprintf(text, sizeof text, "2001:%zx:%zx::1", i / 1000 + 1, i % 1000);
        s = source(&b, text);
        if (i % 3 == 0) {
            net_count(&b, s, NET_STRANGERS, 1);
            net_count(&b, s, NET_STRANGERS, -1);
        }
        assert_in_range(b.idle.count, 0, NET_IDLE_MAX + 3);
        assert_in_range(b.map.count, 0, 3 * (NET_IDLE_MAX + 3));
    }
    net_book_close(&b);
}

static void
many_strangers_do_not_have_a_known_network_forgotten(void **state)
{
    struct net_book b = { .idle.count = 0 };
    struct net_source *s;
    size_t i;
    (void)state;
    net_book_open(&b);
    prove(&b, "192.0.2.1");
    s = source(&b, "192.0.2.1");
    net_count(&b, s, NET_CONNECTIONS, 1);
    net_count(&b, s, NET_CONNECTIONS, -1);
    for (i = 0; i < 3 * NET_IDLE_MAX; i++) {
        char text[64];
        snprintf(text, sizeof text, "2001:%zx:%zx::1", i / 1000 + 1, i % 1000);
        source(&b, text);
    }
    assert_true(net_is_known(source(&b, "192.0.2.1"), 2000));
    assert_false(net_is_known(source(&b, "192.0.2.1"), 1000 + NET_KNOWN_MS));   /* not for ever */
    assert_false(net_is_known(source(&b, "192.0.2.2"), 2000));
    net_book_close(&b);
}

static void
known_networks_are_bounded_too(void **state)
{
    struct net_book b = { .idle.count = 0 };
    size_t i;
    (void)state;
    net_book_open(&b);
    for (i = 0; i < 2 * NET_KNOWN_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.%zu.%zu.1", i / 250, i % 250);
        prove(&b, text);
    }
    assert_in_range(b.map.count, NET_KNOWN_MAX, NET_KNOWN_MAX + 1);
    net_book_close(&b);
}

/* Newcomers, each in networks of its own, that leave again; `us` of work for each. */
static void
newcomers(struct net_book *b, size_t count, int64_t us)
{
    size_t i;
    for (i = 0; i < count; i++) {
        char text[64];
        struct net_source *s, *n;
        snprintf(text, sizeof text, "2001:%zx:%zx::1", i / 1000 + 1, i % 1000);
        s = source(b, text);
        net_count(b, s, NET_HANDSHAKES, 1);
        for (n = s; n != NULL; n = n->wider)
            n->computed.spent += us;
        net_count(b, s, NET_HANDSHAKES, -1);
    }
}

static void
many_strangers_do_not_have_debts_forgotten(void **state)
{
    struct net_book b = { .idle.count = 0 };
    struct net_source *s;
    (void)state;
    net_book_open(&b);
    s = source(&b, "192.0.2.1");
    net_count(&b, s, NET_HANDSHAKES, 1);
    s->computed.spent = 5000;
    net_count(&b, s, NET_HANDSHAKES, -1);
    newcomers(&b, 3 * NET_IDLE_MAX, 0);
    assert_int_equal(source(&b, "192.0.2.1")->computed.spent, 5000);
    net_book_close(&b);
}

static void
who_is_known_outlives_many_that_owe_something(void **state)
{
    struct net_book b = { .idle.count = 0 };
    (void)state;
    net_book_open(&b);
    prove(&b, "192.0.2.1");
    newcomers(&b, 3 * NET_OWING_MAX, 5000);
    assert_true(net_is_known(source(&b, "192.0.2.1"), 2000));
    assert_in_range(b.map.count, NET_OWING_MAX, 3 * (NET_OWING_MAX + 3));
    net_book_close(&b);
}

static void
what_is_owed_is_paid_back_in_time(void **state)
{
    struct net_meter m = { .spent = 5000, .last = 1000 };
    (void)state;
    assert_int_equal(net_owed(&m, 1000, 100), 5000);
    assert_int_equal(net_owed(&m, 1010, 100), 4000);
    m.spent += 500;
    assert_int_equal(net_owed(&m, 1050, 100), 500);
    assert_int_equal(net_owed(&m, 9000, 100), 0);
}

static void
wider_networks_have_wider_shares(void **state)
{
    static const struct { size_t subnets, homes, each; size_t load; } rows[] = {
        { 1, 1, 0, 0 }, { 1, 1, 1, 1 }, { 1, 1, 9, 9 },
        { 2, 1, 9, 9 },      /* two subnets of a /56: as much as one may have */
        { 3, 1, 2, 3 },      /* three: half of the /56 is more than what each has */
        { 16, 1, 1, 8 }, { 1, 4, 5, 5 }, { 1, 8, 5, 10 }, { 2, 8, 5, 20 },
    };
    size_t i, j, k, n;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net_book b = { .idle.count = 0 };
        net_book_open(&b);
        for (j = 0; j < rows[i].homes; j++)
            for (k = 0; k < rows[i].subnets; k++)
                for (n = 0; n < rows[i].each; n++) {
                    char text[64];
                    snprintf(text, sizeof text, "2001:db8:1:%zx%02zx::1", j, k);
                    net_count(&b, source(&b, text), NET_STRANGERS, 1);
                }
        assert_int_equal(net_load(source(&b, "2001:db8:1::1"), NET_STRANGERS), rows[i].load);
        assert_int_equal(net_load(source(&b, "2001:db8:1::1"), NET_CONNECTIONS), 0);
        assert_int_equal(net_load(source(&b, "2001:db8:2::1"), NET_STRANGERS), 0);
        net_book_close(&b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_has_a_text),
        cmocka_unit_test(neighbours_are_told_apart_where_they_should_be),
        cmocka_unit_test(a_wider_network_is_another_key_than_a_narrower_one),
        cmocka_unit_test(what_has_no_address_is_one_network),
        cmocka_unit_test(a_network_is_found_again_while_something_is_counted_for_it),
        cmocka_unit_test(many_networks_do_not_fill_the_memory),
        cmocka_unit_test(many_strangers_do_not_have_a_known_network_forgotten),
        cmocka_unit_test(known_networks_are_bounded_too),
        cmocka_unit_test(many_strangers_do_not_have_debts_forgotten),
        cmocka_unit_test(who_is_known_outlives_many_that_owe_something),
        cmocka_unit_test(what_is_owed_is_paid_back_in_time),
        cmocka_unit_test(wider_networks_have_wider_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
