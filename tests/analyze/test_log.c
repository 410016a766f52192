/* test_log.c -- lines of the log of a node, and which connection each is about */
#include "../../analyze/join.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct log_entry seen[8];
static size_t nseen;

static void
note_entry(void *user, const struct log_entry *e)
{
    (void)user;
    if (nseen < sizeof seen / sizeof *seen)
        seen[nseen] = *e;
    nseen++;
}

/* Reads a text in pieces of a size. */
static struct log_counts
read_log(const char *text, size_t piece)
{
    static const struct log_events events = { note_entry };
    struct log_reader *r = log_new(&events, NULL);
    struct log_counts counts;
    size_t len = strlen(text);
    assert_non_null(r);
    nseen = 0;
    while (len > 0) {
        size_t n = len < piece ? len : piece;
        log_push(r, text, n);
        text += n;
        len -= n;
    }
    log_finish(r);
    counts = log_count(r);
    log_free(r);
    return counts;
}

#define STAMP "2026-11-26T12:40:17.945Z"
#define STAMP_NS INT64_C(1795696817945000000)
#define INSIDE " warn  s2s-in-closed dir=in local=corp.example remote=far.example " \
    "peer=203.0.113.1:50522 via=203.0.113.10:5269 state=accepted hop=partner why=cert-expired"
#define OBJECT "{\"time\":\"" STAMP "\",\"level\":\"warn\",\"event\":\"s2s-in-closed\"," \
    "\"dir\":\"in\",\"local\":\"corp.example\",\"remote\":\"far.example\"," \
    "\"peer\":\"203.0.113.1:50522\"," \
    "\"via\":\"203.0.113.10:5269\",\"state\":\"accepted\",\"hop\":\"partner\"," \
    "\"why\":\"cert-expired\"}"

static void
expect_end(const char *address, uint16_t port, const struct log_end *end)
{
    char text[46];
    assert_string_equal(address_text(&end->address, text, sizeof text), address);
    assert_int_equal(end->port, port);
}

static void
a_line_is_read_in_both_forms_and_behind_what_a_journal_puts_before_it(void **state)
{
    static const char *const lines[] = {
        STAMP INSIDE "\n",
        STAMP INSIDE,
        OBJECT "\n",
        "Nov 26 12:40:17 edge01 xmppedge[2744]: " STAMP INSIDE "\n",
        "2026-11-26T12:40:18+0100 edge01 xmppedge[27]: " STAMP INSIDE "\r\n",
        "<12>1 edge01 - - - " OBJECT "\n" };
    size_t i, piece;
    (void)state;
    for (i = 0; i < sizeof lines / sizeof *lines; i++)
        for (piece = 1; piece < 400; piece += 37) {
            struct log_counts c = read_log(lines[i], piece);
            assert_int_equal(c.lines, 1);
            assert_int_equal(nseen, 1);
            assert_int_equal(seen[0].time_ns, STAMP_NS);
            assert_int_equal(seen[0].kind, LOG_CLOSED);
            assert_int_equal(seen[0].way, LOG_WAY_IN);
            assert_int_equal(seen[0].why, XE_WHY_CERT_EXPIRED);
            assert_string_equal(seen[0].event, "s2s-in-closed");
            assert_string_equal(seen[0].state, "accepted");
            assert_string_equal(seen[0].local, "corp.example");
            assert_string_equal(seen[0].remote, "far.example");
            expect_end("203.0.113.1", 50522, &seen[0].peer);
            expect_end("203.0.113.10", 5269, &seen[0].own);
        }
}

static void
values_are_what_was_written_whatever_they_hold(void **state)
{
    (void)state;
    read_log(STAMP " warn  s2s-out-closed detail=\"a \\\"quoted\\\" why=\\u0041\\n\" "
        "peer=[2001:db8::1]:5269 via=[::ffff:192.0.2.1]:4711 state=tls why=a-new-word "
        "cert=cert-name\n", 1000);
    assert_int_equal(nseen, 1);
    assert_string_equal(seen[0].detail, "a \"quoted\" why=A\n");
    assert_int_equal(seen[0].why, XE_WHY_COUNT);
    assert_string_equal(seen[0].word, "a-new-word");
    assert_string_equal(seen[0].cert, "cert-name");
    expect_end("2001:db8::1", 5269, &seen[0].peer);
    expect_end("192.0.2.1", 4711, &seen[0].own);
    read_log(STAMP " info  pair-joined from=a.example to=b.example s2s_local=192.0.2.1:1 "
        "s2s_peer=192.0.2.2:2 trunk_local=10.0.0.1:3 trunk_peer=10.0.0.2:4 trunk=fe\n", 1000);
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].kind, LOG_PAIRED);
    expect_end("10.0.0.2", 4, &seen[0].trunk_peer);
}

static void
what_names_no_connection_is_counted_and_what_is_no_line_is_passed_over(void **state)
{
    static char text[3 * LOG_LINE_MAX];
    struct log_counts c;
    (void)state;
    c = read_log(STAMP " info  ready version=1\n\nrubbish\n"
        STAMP " warn  s2s-out-closed dir=out why=dns-failed\n"
        STAMP " warn  s2s-out-closed peer=?:0 why=none\n"
        "2026-13-41T12:40:17.945Z" INSIDE "\n", 7);
    assert_int_equal(nseen, 0);
    assert_int_equal(c.lines, 3);
    assert_int_equal(c.others, 2);
    memset(text, 'x', sizeof text);   /* too long, and then one that is not */
    snprintf(text + LOG_LINE_MAX + 1, sizeof text - LOG_LINE_MAX - 1, "\n%s\n", STAMP INSIDE);
    c = read_log(text, 1000);
    assert_int_equal(nseen, 1);
    assert_int_equal(c.others, 1);
}

/* ---- which connection ---- */

static struct log_end
end_of(const char *address, uint16_t port)
{
    struct log_end e = { { { 0 }, 4 }, port };
    assert_int_equal(inet_pton(AF_INET, address, e.address.bytes), 1);
    return e;
}

static struct attempt
attempt_of(const char *caller, uint16_t from, const char *called, uint16_t to, int64_t second)
{
    struct attempt a = { .flow = { .established = true, .first_ns = second * SECOND,
        .last_ns = (second + 1) * SECOND } };
    a.flow.side[0].address = end_of(caller, from).address;
    a.flow.side[0].port = from;
    a.flow.side[1].address = end_of(called, to).address;
    a.flow.side[1].port = to;
    return a;
}

/* The index of the attempt that is found, or -1; *side: who wrote the line. */
static int
find(const struct join *j, const struct attempt *all, enum log_way way, struct log_end own,
    struct log_end peer, int64_t second, int *side)
{
    struct log_entry e = { .way = way, .own = own, .peer = peer, .time_ns = second * SECOND };
    struct join_hit hit;
    if (!join_find(j, &e, &hit))
        return -1;
    *side = hit.side;
    return (int)(hit.a - all);
}

static void
a_line_is_about_the_connection_of_its_ends_and_its_time(void **state)
{
    struct attempt all[] = {
        attempt_of("203.0.113.1", 50000, "203.0.113.10", 5269, 1000),
        attempt_of("203.0.113.1", 50000, "203.0.113.10", 5269, 1100),   /* the port comes again */
        attempt_of("203.0.113.10", 40000, "198.51.100.20", 5269, 1000),
        attempt_of("203.0.113.10", 40001, "198.51.100.20", 5269, 1010),
        attempt_of("10.1.0.20", 36000, "10.0.0.5", 23456, 1000) };
    struct attempt *list[sizeof all / sizeof *all];
    struct log_end none = { { { 0 }, 0 }, 0 };
    struct log_end edge = end_of("203.0.113.10", 5269), far = end_of("203.0.113.1", 50000);
    struct log_end partner = end_of("198.51.100.20", 5269);
    struct log_end inner = end_of("10.0.0.5", 23456), gateway = end_of("10.1.0.20", 36000);
    struct join *j;
    size_t i;
    int side = -1;
    (void)state;
    for (i = 0; i < sizeof all / sizeof *all; i++)
        list[i] = &all[i];
    all[3].flow.established = false;
    j = join_new(list, sizeof all / sizeof *all);
    assert_non_null(j);
#define FIND(way, own, peer, second) find(j, all, way, own, peer, second, &side)
    assert_int_equal(FIND(LOG_WAY_IN, edge, far, 1001), 0);
    assert_int_equal(side, 1);
    assert_int_equal(FIND(LOG_WAY_IN, edge, far, 1090), 1);
    /* its own address is another one in the capture */
    assert_int_equal(FIND(LOG_WAY_IN, end_of("10.0.0.9", 5269), far, 1001), 0);
    assert_int_equal(FIND(LOG_WAY_IN, end_of("10.0.0.9", 5270), far, 1001), -1);
    /* as far as clocks may differ, and farther */
    assert_int_equal(FIND(LOG_WAY_IN, edge, far, 881), 0);
    assert_int_equal(FIND(LOG_WAY_IN, edge, far, 879), -1);
    assert_int_equal(FIND(LOG_WAY_IN, edge, far, 1222), -1);
    /* the other way round nobody called */
    assert_int_equal(FIND(LOG_WAY_OUT, edge, far, 1001), -1);
    assert_int_equal(FIND(LOG_WAY_OUT, end_of("203.0.113.10", 40000), partner, 1001), 2);
    assert_int_equal(side, 0);
    /* nobody answered, so the line has no end of its own */
    assert_int_equal(FIND(LOG_WAY_OUT, none, partner, 1000), 3);
    /* somebody was not let in */
    assert_int_equal(FIND(LOG_WAY_IN, none, far, 1001), 0);
    /* the trunk, from both of its nodes */
    assert_int_equal(FIND(LOG_WAY_UNKNOWN, inner, gateway, 1001), 4);
    assert_int_equal(side, 1);
    assert_int_equal(FIND(LOG_WAY_UNKNOWN, gateway, inner, 1001), 4);
    assert_int_equal(side, 0);
    assert_ptr_equal(join_between(j, &inner, &gateway, 1000 * SECOND), &all[4]);
    assert_ptr_equal(join_between(j, &gateway, &inner, 1000 * SECOND), &all[4]);
    assert_null(join_between(j, &inner, &gateway, 2000 * SECOND));
    join_free(j);
}

/* ---- seen twice ---- */

/* A connection as it is seen inside, and outside of a translation of the caller. */
static void
see_twice(struct attempt seen_as[2])
{
    int i;
    seen_as[0] = attempt_of("192.0.2.14", 59278, "192.0.2.12", 5269, 1000);
    seen_as[1] = attempt_of("203.0.113.5", 20302, "192.0.2.12", 5269, 1000);
    for (i = 0; i < 2; i++) {
        struct flow *f = &seen_as[i].flow;
        f->side[0].syns = f->side[1].syns = 1;
        f->side[0].syn_seq = 4711;
        f->side[1].syn_seq = 4712;
        f->side[0].bytes = f->side[1].bytes = 100;
        snprintf(seen_as[i].id, sizeof seen_as[i].id, "stream-1");
        seen_as[i].tls.client_hello = seen_as[i].tls.server_hello = true;
        seen_as[i].tls.random[0] = 17;
        seen_as[i].tls.random[1] = 18;
    }
}

static void
what_a_translation_of_addresses_leaves_is_the_same_connection(void **state)
{
    struct attempt a[2];
    (void)state;
    see_twice(a);
    assert_non_null(join_same(&a[0], &a[1]));
    a[1].flow.side[0].syn_seq = 1;   /* a firewall that makes its own, or a balancer */
    assert_string_equal(join_same(&a[0], &a[1]), "the same randoms of TLS");
    see_twice(a);
    memset(&a[0].tls, 0, sizeof a[0].tls);
    memset(&a[1].tls, 0, sizeof a[1].tls);
    assert_string_equal(join_same(&a[0], &a[1]), "the same sequence numbers");
    see_twice(a);
    a[0].flow.established = a[1].flow.established = false;
    a[0].flow.side[1].syns = a[1].flow.side[1].syns = 0;
    memset(&a[0].tls, 0, sizeof a[0].tls);
    memset(&a[1].tls, 0, sizeof a[1].tls);
    assert_string_equal(join_same(&a[0], &a[1]), "the same SYN");
}

static void
what_began_before_the_capture_is_the_same_if_it_ends_in_the_same_place(void **state)
{
    struct attempt a[2];
    int i;
    (void)state;
    see_twice(a);
    for (i = 0; i < 2; i++) {
        struct flow *f = &a[i].flow;
        f->midstream = true;
        f->side[0].syns = f->side[1].syns = 0;
        f->side[0].end_seq = 9000;
        f->side[1].end_seq = 9001 + (uint32_t)i;   /* of one its FIN is acknowledged, not seen */
        f->side[1].bytes += (uint64_t)i;
        memset(&a[i].tls, 0, sizeof a[i].tls);
    }
    a[1].id[0] = '\0';
    assert_string_equal(join_same(&a[0], &a[1]), "the same sequence numbers");
    snprintf(a[1].id, sizeof a[1].id, "stream-2");
    assert_null(join_same(&a[0], &a[1]));
    a[1].id[0] = '\0';
    a[1].flow.side[1].end_seq = 9003;
    assert_null(join_same(&a[0], &a[1]));
    a[0].flow.side[1].end_seq = a[1].flow.side[1].end_seq = 0;   /* nothing of it was seen */
    assert_null(join_same(&a[0], &a[1]));
}

static void
what_is_only_alike_is_not_the_same(void **state)
{
    struct attempt a[2];
    (void)state;
    see_twice(a);
    a[1].tls.random[1] = 19;   /* somebody sends a ClientHello that he has recorded */
    a[1].flow.side[0].syn_seq = 1;
    assert_null(join_same(&a[0], &a[1]));
    a[1].flow.side[0].syn_seq = 4711;   /* and by chance the numbers are the same, too */
    assert_null(join_same(&a[0], &a[1]));
    see_twice(a);
    a[1].flow.first_ns += LOG_CLOCK_NS + 1;   /* recorded, and played again as a whole */
    assert_null(join_same(&a[0], &a[1]));
    see_twice(a);
    memset(&a[0].tls, 0, sizeof a[0].tls);
    memset(&a[1].tls, 0, sizeof a[1].tls);
    snprintf(a[1].id, sizeof a[1].id, "stream-2");
    assert_null(join_same(&a[0], &a[1]));
    snprintf(a[1].id, sizeof a[1].id, "stream-1");
    a[1].flow.side[1].bytes++;
    assert_null(join_same(&a[0], &a[1]));
    see_twice(a);
    a[1].flow.side[0] = a[0].flow.side[0];   /* the same ports again: that is for flow.c to know */
    assert_null(join_same(&a[0], &a[1]));
    see_twice(a);
    a[0].flow.established = a[1].flow.established = false;
    a[0].flow.side[1].syns = a[1].flow.side[1].syns = 0;
    memset(&a[0].tls, 0, sizeof a[0].tls);
    memset(&a[1].tls, 0, sizeof a[1].tls);
    a[1].flow.side[1].address = end_of("198.51.100.20", 5269).address;   /* neither end is common */
    assert_null(join_same(&a[0], &a[1]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_read_in_both_forms_and_behind_what_a_journal_puts_before_it),
        cmocka_unit_test(values_are_what_was_written_whatever_they_hold),
        cmocka_unit_test(what_names_no_connection_is_counted_and_what_is_no_line_is_passed_over),
        cmocka_unit_test(a_line_is_about_the_connection_of_its_ends_and_its_time),
        cmocka_unit_test(what_a_translation_of_addresses_leaves_is_the_same_connection),
        cmocka_unit_test(what_began_before_the_capture_is_the_same_if_it_ends_in_the_same_place),
        cmocka_unit_test(what_is_only_alike_is_not_the_same),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
