/* test_reach.c -- [REACH]: where what came from the network may lead */
#include "cut/REACH.c"

#include <sys/resource.h>
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

/* ---- a family: the edges of every reserved block, in every form ---- */

/* Said again as first and last address, from the registries of IANA (2025-10) and RFC 4291, and in
 * no way made of the table. */
static const struct { const char *first, *last; } reserved_v4[] = {
    { "0.0.0.0", "0.255.255.255" }, { "0.0.0.0", "0.0.0.0" },
    { "10.0.0.0", "10.255.255.255" }, { "100.64.0.0", "100.127.255.255" },
    { "127.0.0.0", "127.255.255.255" }, { "169.254.0.0", "169.254.255.255" },
    { "172.16.0.0", "172.31.255.255" }, { "192.0.0.0", "192.0.0.255" },
    { "192.0.0.0", "192.0.0.7" }, { "192.0.0.8", "192.0.0.8" }, { "192.0.0.9", "192.0.0.9" },
    { "192.0.0.10", "192.0.0.10" }, { "192.0.0.170", "192.0.0.171" },
    { "192.0.2.0", "192.0.2.255" }, { "192.31.196.0", "192.31.196.255" },
    { "192.52.193.0", "192.52.193.255" }, { "192.88.99.0", "192.88.99.255" },
    { "192.88.99.2", "192.88.99.2" }, { "192.168.0.0", "192.168.255.255" },
    { "192.175.48.0", "192.175.48.255" }, { "198.18.0.0", "198.19.255.255" },
    { "198.51.100.0", "198.51.100.255" }, { "203.0.113.0", "203.0.113.255" },
    { "224.0.0.0", "239.255.255.255" }, { "240.0.0.0", "255.255.255.255" },
    { "255.255.255.255", "255.255.255.255" } };
static const struct { const char *first, *last; } reserved_v6[] = {
    { "::", "::" }, { "::1", "::1" }, { "::", "::ffff:ffff" },
    { "::ffff:0:0", "::ffff:ffff:ffff" }, { "::ffff:0:0:0", "::ffff:0:ffff:ffff" },
    { "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff" },
    { "100::", "100::ffff:ffff:ffff:ffff" }, { "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff" },
    { "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff" }, { "2001:1::1", "2001:1::1" },
    { "2001:1::2", "2001:1::2" }, { "2001:1::3", "2001:1::3" },
    { "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff" },
    { "2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff" },
    { "2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff" },
    { "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    /* all but global unicast (IANA, IPv6 address space) */
    { "::", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "64:ff9b::1:0:0", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    { "4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" } };

#define COUNT(list) (sizeof (list) / sizeof *(list))

static const struct reach nothing_opened;
static struct {
    unsigned asked, refused;
} family;

static void
bytes_of(const char *text, unsigned char out[16])
{
    assert_int_equal(inet_pton(strchr(text, ':') != NULL ? AF_INET6 : AF_INET, text, out), 1);
}

/* The next address, or the one before; false at the end of all. */
static bool
step(unsigned char *at, size_t len, int by)
{
    while (len-- > 0) {
        unsigned char was = at[len];
        at[len] = (unsigned char)(was + by);
        if (was != (by > 0 ? 0xff : 0))
            return true;
    }
    return false;
}

static bool
is_reserved_v4(const unsigned char at[4])
{
    unsigned char first[16], last[16];
    size_t i;
    for (i = 0; i < COUNT(reserved_v4); i++) {
        bytes_of(reserved_v4[i].first, first);
        bytes_of(reserved_v4[i].last, last);
        if (memcmp(first, at, 4) <= 0 && memcmp(at, last, 4) <= 0)
            return true;
    }
    return false;
}

static bool
is_reserved_v6(const unsigned char at[16])
{
    unsigned char first[16], last[16];
    size_t i;
    for (i = 0; i < COUNT(reserved_v6); i++) {
        bytes_of(reserved_v6[i].first, first);
        bytes_of(reserved_v6[i].last, last);
        if (memcmp(first, at, 16) <= 0 && memcmp(at, last, 16) <= 0)
            return true;
    }
    bytes_of("64:ff9b::", first);   /* what carries an IPv4 address is what that is */
    if (memcmp(first, at, 12) == 0)
        return is_reserved_v4(at + 12);
    bytes_of("2002::", first);
    return memcmp(first, at, 2) == 0 && is_reserved_v4(at + 2);
}

static enum xe_why
ask(const struct reach *r, int family_is, const unsigned char *bytes, unsigned port,
    unsigned given)
{
    struct sockaddr_storage to;
    const char *what;
    enum xe_why why;
    memset(&to, 0, sizeof to);
    if (family_is == AF_INET) {
        ((struct sockaddr_in *)(void *)&to)->sin_port = htons((uint16_t)port);
        memcpy(&((struct sockaddr_in *)(void *)&to)->sin_addr, bytes, 4);
    } else {
        ((struct sockaddr_in6 *)(void *)&to)->sin6_port = htons((uint16_t)port);
        memcpy(&((struct sockaddr_in6 *)(void *)&to)->sin6_addr, bytes, 16);
    }
    to.ss_family = (sa_family_t)family_is;
    why = reach_why(r, &to, given, &what);
    assert_int_equal(why != XE_WHY_NONE, what != NULL);
    return why;
}

static enum xe_why
ask_text(const struct reach *r, const char *address)
{
    unsigned char bytes[16];
    bytes_of(address, bytes);
    return ask(r, strchr(address, ':') != NULL ? AF_INET6 : AF_INET, bytes, 5269, 0);
}

static void
expect(int family_is, const unsigned char *bytes, bool is_refused)
{
    char text[INET6_ADDRSTRLEN];
    enum xe_why why = ask(&nothing_opened, family_is, bytes, 5269, 0);
    if ((why == XE_WHY_ADDRESS_REFUSED) != is_refused)
        fail_msg("%s: %s", inet_ntop(family_is, bytes, text, sizeof text), xe_why(why)->word);
    family.asked++;
    family.refused += is_refused;
}

/* One address of IPv4 in every form that carries one. */
static void
expect_in_all_forms(const unsigned char v4[4])
{
    static const struct { const char *prefix; unsigned at; bool never; } forms[] = {
        { "::", 12, true }, { "::ffff:0:0", 12, true }, { "::ffff:0:0:0", 12, true },
        { "64:ff9b::", 12, false }, { "64:ff9b:1::", 12, true }, { "2002::", 2, false },
        { "2002:0:0:1::1", 2, false }, { "2001::", 4, true }, { "2001::", 12, true },
        { "fe80::5efe:0:0", 12, true } };
    unsigned char v6[16];
    size_t i;
    expect(AF_INET, v4, is_reserved_v4(v4));
    for (i = 0; i < COUNT(forms); i++) {
        bytes_of(forms[i].prefix, v6);
        memcpy(v6 + forms[i].at, v4, 4);
        expect(AF_INET6, v6, forms[i].never || is_reserved_v4(v4));
        assert_int_equal(is_reserved_v6(v6), forms[i].never || is_reserved_v4(v4));
    }
}

static void
the_edges_of_every_block_of_ipv4_in_every_form(void **state)
{
    unsigned char at[16];
    size_t i;
    (void)state;
    family.asked = family.refused = 0;
    for (i = 0; i < COUNT(reserved_v4); i++) {
        bytes_of(reserved_v4[i].first, at);
        expect_in_all_forms(at);
        if (step(at, 4, -1))
            expect_in_all_forms(at);
        bytes_of(reserved_v4[i].last, at);
        expect_in_all_forms(at);
        if (step(at, 4, 1))
            expect_in_all_forms(at);
    }
    print_message("# %u addresses, of them %u refused\n", family.asked, family.refused);
}

static void
the_edges_of_every_block_of_ipv6(void **state)
{
    static const char *const carriers[] = { "2000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "64:ff9b::", "64:ff9b::ffff:ffff", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff" };
    unsigned char at[16];
    size_t i;
    int by;
    (void)state;
    family.asked = family.refused = 0;
    for (i = 0; i < COUNT(reserved_v6); i++)
        for (by = -1; by <= 1; by += 2) {
            bytes_of(by < 0 ? reserved_v6[i].first : reserved_v6[i].last, at);
            expect(AF_INET6, at, true);
            if (step(at, 16, by))
                expect(AF_INET6, at, is_reserved_v6(at));
        }
    for (i = 0; i < COUNT(carriers); i++)
        for (by = -1; by <= 1; by += 2) {
            bytes_of(carriers[i], at);
            expect(AF_INET6, at, is_reserved_v6(at));
            if (step(at, 16, by))
                expect(AF_INET6, at, is_reserved_v6(at));
        }
    print_message("# %u addresses, of them %u refused\n", family.asked, family.refused);
}

/* Every /16 of IPv4, and of IPv6, by an address in its middle. */
static void
a_walk_through_all_addresses(void **state)
{
    unsigned char at[16];
    unsigned i;
    (void)state;
    family.asked = family.refused = 0;
    for (i = 0; i < 65536; i++) {
        memset(at, 0x55, sizeof at);
        at[0] = (unsigned char)(i >> 8);
        at[1] = (unsigned char)i;
        expect(AF_INET, at, is_reserved_v4(at));
        expect(AF_INET6, at, is_reserved_v6(at));
    }
    print_message("# %u addresses, of them %u refused\n", family.asked, family.refused);
}

/* ---- what the configuration opens, and what is ours ---- */

#define LIST_MAX 8

static struct reach_net opened_nets[LIST_MAX];
static struct reach_own own_nets[LIST_MAX];
static struct reach_list opened_list;

/* A node with these networks, and these of its own; spaces between. */
static struct reach
node(const char *opened, const char *own)
{
    struct reach r = { { NULL, &opened_list }, own_nets, 0 };
    opened_list = (struct reach_list){ opened_nets, 0 };
    for (; *opened != '\0'; opened += strspn(opened, " ")) {
        size_t len = strcspn(opened, " ");
        assert_int_equal(reach_net_parse(span_make(opened, len),
            &opened_nets[opened_list.count++]), REACH_GOOD);
        opened += len;
    }
    for (; *own != '\0'; own += strspn(own, " ")) {
        size_t len = strcspn(own, " ");
        own_nets[r.nown].what = "ours";
        assert_int_equal(reach_net_parse(span_make(own, len), &own_nets[r.nown++].net),
            REACH_GOOD);
        own += len;
    }
    return r;
}

static void
the_narrowest_network_decides(void **state)
{
    static const struct { const char *opened, *own, *address; bool may; } rows[] = {
        { "", "", "8.8.8.8", true },
        { "", "", "2a00::1", true },
        { "", "", "10.1.2.3", false },
        { "10.0.0.0/8", "", "10.1.2.3", true },
        { "10.1.0.0/16", "", "10.1.2.3", true },
        { "10.2.0.0/16", "", "10.1.2.3", false },
        { "10.0.0.0/7", "", "10.1.2.3", false },
        { "0.0.0.0/0", "", "10.1.2.3", false },
        { "0.0.0.0/0", "", "127.0.0.1", false },
        { "0.0.0.0/0", "", "8.8.8.8", true },
        { "::/0", "", "::1", false },
        { "::/0", "", "fe80::1", false },
        { "::/0", "", "fd00::1", false },
        { "::/0", "", "10.1.2.3", false },
        { "127.0.0.0/8 ::1", "", "127.0.0.1", true },
        { "127.0.0.0/8 ::1", "", "::1", true },
        { "127.0.0.0/8 ::1", "", "::2", false },
        { "fd00::/8", "", "fd12::1", true },
        { "fd00::/8", "", "fc12::1", false },
        /* an address of ours, and the network of our inside */
        { "", "8.8.8.8", "8.8.8.8", false },
        { "8.8.8.0/24", "8.8.8.8", "8.8.8.8", false },
        { "8.8.8.8", "8.8.8.8", "8.8.8.8", true },
        { "", "8.8.8.0/24", "8.8.8.9", false },
        { "8.8.8.0/24", "8.8.8.0/24", "8.8.8.9", true },
        { "10.0.0.0/8", "10.1.2.0/24 10.1.2.3", "10.1.3.3", true },
        { "10.0.0.0/8", "10.1.2.0/24 10.1.2.3", "10.1.2.4", false },
        { "10.1.2.0/24", "10.1.2.0/24 10.1.2.3", "10.1.2.4", true },
        { "10.1.2.0/24", "10.1.2.0/24 10.1.2.3", "10.1.2.3", false },
        { "", "2a00:1::/64", "2a00:1::9", false },
        { "", "2a00:1::/64", "2a00:1:0:1::9", true },
        /* an address within another: both are asked about */
        { "", "8.8.8.8", "64:ff9b::8.8.8.8", false },
        { "", "8.8.8.8", "2002:808:808::1", false },
        { "", "64:ff9b::8.8.8.8", "64:ff9b::8.8.8.8", false },
        { "10.0.0.0/8", "", "64:ff9b::10.1.2.3", true },
        { "64:ff9b::/96", "", "64:ff9b::10.1.2.3", false },
        { "2002::/16", "", "2002:a01:203::1", false },
        { "64:ff9b:1::/48", "", "64:ff9b:1::8.8.8.8", true },
        { "64:ff9b:1::/48", "", "64:ff9b:1::10.1.2.3", false },
        { "64:ff9b:1::/48 10.0.0.0/8", "", "64:ff9b:1::10.1.2.3", true },
        { "127.0.0.0/8", "", "::ffff:127.0.0.1", false },
        { "::ffff:0:0/96", "", "::ffff:8.8.8.8", false },
        { "::ffff:8.8.8.8", "", "::ffff:8.8.8.8", false } };
    size_t i;
    (void)state;
    for (i = 0; i < COUNT(rows); i++) {
        struct reach r = node(rows[i].opened, rows[i].own);
        if ((ask_text(&r, rows[i].address) == XE_WHY_NONE) != rows[i].may)
            fail_msg("opened \"%s\", ours \"%s\": %s", rows[i].opened, rows[i].own,
                rows[i].address);
    }
}

static void
what_is_open_to_one_and_to_all_are_two_lists(void **state)
{
    struct reach r = node("10.0.0.0/8", "");
    struct reach_net net;
    struct reach_list all = { &net, 1 };
    (void)state;
    reach_net_parse(span_of("192.168.0.0/16"), &net);
    assert_int_equal(ask_text(&r, "192.168.1.1"), XE_WHY_ADDRESS_REFUSED);
    r.opened[0] = &all;
    assert_int_equal(ask_text(&r, "192.168.1.1"), XE_WHY_NONE);
    assert_int_equal(ask_text(&r, "10.1.1.1"), XE_WHY_NONE);
    r.opened[1] = NULL;
    assert_int_equal(ask_text(&r, "10.1.1.1"), XE_WHY_ADDRESS_REFUSED);
}

static void
what_the_configuration_has_given_is_not_asked_about(void **state)
{
    static const unsigned char inside[4] = { 10, 0, 0, 1 }, outside[4] = { 8, 8, 8, 8 };
    const unsigned both = REACH_ADDRESS_GIVEN | REACH_PORT_GIVEN;
    const struct reach *r = &nothing_opened;
    (void)state;
    assert_int_equal(ask(r, AF_INET, inside, 22, 0), XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ask(r, AF_INET, inside, 22, REACH_PORT_GIVEN), XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ask(r, AF_INET, inside, 22, REACH_ADDRESS_GIVEN), XE_WHY_PORT_REFUSED);
    assert_int_equal(ask(r, AF_INET, inside, 22, both), XE_WHY_NONE);
    assert_int_equal(ask(r, AF_INET, outside, 22, 0), XE_WHY_PORT_REFUSED);
    assert_int_equal(ask(r, AF_INET, outside, 22, REACH_PORT_GIVEN), XE_WHY_NONE);
    assert_int_equal(ask(r, AF_INET, outside, 5269, 0), XE_WHY_NONE);
}

/* The table of the Fetch standard, said again, as ranges. */
static void
ports_of_other_protocols_are_refused_and_no_others(void **state)
{
    static const unsigned bad[][2] = { { 0, 1 }, { 7, 7 }, { 9, 9 }, { 11, 11 }, { 13, 13 },
        { 15, 15 }, { 17, 17 }, { 19, 23 }, { 25, 25 }, { 37, 37 }, { 42, 43 }, { 53, 53 },
        { 69, 69 }, { 77, 77 }, { 79, 79 }, { 87, 87 }, { 95, 95 }, { 101, 104 }, { 109, 111 },
        { 113, 113 }, { 115, 115 }, { 117, 117 }, { 119, 119 }, { 123, 123 }, { 135, 135 },
        { 137, 137 }, { 139, 139 }, { 143, 143 }, { 161, 161 }, { 179, 179 }, { 389, 389 },
        { 427, 427 }, { 465, 465 }, { 512, 515 }, { 526, 526 }, { 530, 532 }, { 540, 540 },
        { 548, 548 }, { 554, 554 }, { 556, 556 }, { 563, 563 }, { 587, 587 }, { 601, 601 },
        { 636, 636 }, { 989, 990 }, { 993, 993 }, { 995, 995 }, { 1719, 1720 }, { 1723, 1723 },
        { 2049, 2049 }, { 3659, 3659 }, { 4045, 4045 }, { 4190, 4190 }, { 5060, 5061 },
        { 6000, 6000 }, { 6566, 6566 }, { 6665, 6669 }, { 6679, 6679 }, { 6697, 6697 },
        { 10080, 10080 } };
    static const unsigned char v4[4] = { 8, 8, 8, 8 };
    static const unsigned char v6[16] = { 0x2a };
    unsigned port, count = 0;
    size_t range = 0;
    (void)state;
    for (port = 0; port < 65536; port++) {
        bool is_bad;
        range += range < COUNT(bad) && port > bad[range][1];
        is_bad = range < COUNT(bad) && port >= bad[range][0];
        count += is_bad;
        assert_int_equal(ask(&nothing_opened, AF_INET, v4, port, 0) == XE_WHY_PORT_REFUSED, is_bad);
        assert_int_equal(ask(&nothing_opened, AF_INET6, v6, port, 0) == XE_WHY_PORT_REFUSED,
            is_bad);
    }
    assert_int_equal(count, 83);
}

/* ---- this machine ---- */

static struct sockaddr_storage
host(const char *text)
{
    struct sockaddr_storage a;
    memset(&a, 0, sizeof a);
    a.ss_family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    bytes_of(text, a.ss_family == AF_INET6
        ? ((struct sockaddr_in6 *)(void *)&a)->sin6_addr.s6_addr
        : (unsigned char *)&((struct sockaddr_in *)(void *)&a)->sin_addr);
    return a;
}

/* Of a node that has these addresses inside and outside; "": none. */
static bool
read_machine(struct reach_machine *m, int64_t now, const char *inside, const char *one,
    const char *other)
{
    struct sockaddr_storage at[3];
    const struct sockaddr *own[4] = { (const struct sockaddr *)&at[0] };
    size_t n = 1;
    memset(at, 0, sizeof at);
    if (*inside != '\0')
        at[0] = host(inside);
    at[n] = host(one);
    own[n] = (const struct sockaddr *)&at[n];
    n++;
    if (*other != '\0') {
        at[n] = host(other);
        own[n] = (const struct sockaddr *)&at[n];
    }
    return reach_machine_read(m, now, own);
}

static void
the_addresses_of_this_machine_and_of_the_configuration_are_ours(void **state)
{
    struct reach_machine m = { 0 };
    struct reach r = node("127.0.0.0/8", "");
    (void)state;
    assert_true(read_machine(&m, 5000, "2a00::5", "8.8.8.8", "2a00::8"));
    r.own = m.own;
    r.nown = m.nown;
    assert_int_equal(ask_text(&r, "8.8.8.8"), XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ask_text(&r, "2a00::8"), XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ask_text(&r, "2a00::5"), XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ask_text(&r, "8.8.4.4"), XE_WHY_NONE);
    assert_int_equal(ask_text(&r, "127.0.0.9"), XE_WHY_NONE);
#if REACH_IFADDRS
    assert_int_equal(ask_text(&r, "127.0.0.1"), XE_WHY_ADDRESS_REFUSED);   /* that of loopback */
#endif
    reach_machine_free(&m);
}

static void
what_is_ours_is_read_again_after_a_while(void **state)
{
    struct reach_machine m = { 0 };
    struct reach r = { .own = NULL };
    (void)state;
    assert_true(read_machine(&m, 5000, "", "8.8.8.8", ""));
    assert_true(read_machine(&m, 5000 + REACH_READ_MS - 1, "", "8.8.4.4", ""));
    r.own = m.own;
    r.nown = m.nown;
    assert_int_equal(ask_text(&r, "8.8.4.4"), XE_WHY_NONE);
    assert_true(read_machine(&m, 5000 + REACH_READ_MS, "", "8.8.4.4", ""));
    r.own = m.own;
    r.nown = m.nown;
    assert_int_equal(ask_text(&r, "8.8.4.4"), XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ask_text(&r, "8.8.8.8"), XE_WHY_NONE);
    reach_machine_free(&m);
}

#if REACH_IFADDRS
static void
without_a_descriptor_to_ask_with_nothing_is_read_and_soon_asked_again(void **state)
{
    struct reach_machine m = { 0 };
    struct rlimit before, none;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_false(read_machine(&m, 5000, "127.0.0.1", "8.8.8.8", ""));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(read_machine(&m, 5001, "127.0.0.1", "8.8.8.8", ""));
    reach_machine_free(&m);
}

static void
the_network_of_the_internal_interface_is_ours(void **state)
{
    struct reach_machine m = { 0 };
    struct reach r = node("126.0.0.0/7", "");
    size_t i, inside = 0;
    (void)state;
    assert_true(read_machine(&m, 0, "127.0.0.1", "8.8.8.8", ""));
    for (i = 0; i < m.nown; i++)
        inside += strcmp(m.own[i].what, "the internal network") == 0 && m.own[i].net.bits == 104;
    assert_int_equal(inside, 1);   /* 127.0.0.0/8 */
    r.own = m.own;
    r.nown = m.nown;
    assert_int_equal(ask_text(&r, "127.0.0.9"), XE_WHY_ADDRESS_REFUSED);
    reach_machine_free(&m);
}

static void
a_netmask_is_a_prefix(void **state)
{
    static const struct { const char *mask; unsigned bits; } rows[] = { { "255.255.255.0", 120 },
        { "255.0.0.0", 104 }, { "255.255.255.255", 128 }, { "255.255.240.0", 116 },
        { "0.0.0.0", 128 }, { "ffff:ffff:ffff:ffff::", 64 }, { "::", 128 }, { "fe00::", 7 } };
    size_t i;
    (void)state;
    for (i = 0; i < COUNT(rows); i++) {
        struct sockaddr_storage mask = host(rows[i].mask);
        assert_int_equal(reach_mask_bits(mask.ss_family, (struct sockaddr *)&mask), rows[i].bits);
    }
    assert_int_equal(reach_mask_bits(AF_INET, NULL), 128);
}
#endif

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_is_read_and_written),
        cmocka_unit_test(what_is_no_network_is_told_apart),
        cmocka_unit_test(every_row_of_the_table_is_a_network_and_is_there_once),
        cmocka_unit_test(the_edges_of_every_block_of_ipv4_in_every_form),
        cmocka_unit_test(the_edges_of_every_block_of_ipv6),
        cmocka_unit_test(a_walk_through_all_addresses),
        cmocka_unit_test(the_narrowest_network_decides),
        cmocka_unit_test(what_is_open_to_one_and_to_all_are_two_lists),
        cmocka_unit_test(what_the_configuration_has_given_is_not_asked_about),
        cmocka_unit_test(ports_of_other_protocols_are_refused_and_no_others),
        cmocka_unit_test(the_addresses_of_this_machine_and_of_the_configuration_are_ours),
        cmocka_unit_test(what_is_ours_is_read_again_after_a_while),
#if REACH_IFADDRS
        cmocka_unit_test(without_a_descriptor_to_ask_with_nothing_is_read_and_soon_asked_again),
        cmocka_unit_test(the_network_of_the_internal_interface_is_ours),
        cmocka_unit_test(a_netmask_is_a_prefix),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
