/* test_flow.c -- segments by hand, and what flow.c makes of them */
#include "lower.h"

#include <inttypes.h>
#include <setjmp.h>
#include <cmocka.h>

static struct transcript heard;
static struct flow_table *table;
static uint64_t number;
static uint16_t ip_id;
static struct flow seen;          /* the last one that was closed */
static int hint;                  /* side to be named at the first data; -1: none */
static bool mute;

static void
hear_opened(void *user, struct flow *f)
{
    (void)user;
    say(&heard, "open %" PRIu64 " %s %u\n", f->number, flow_evidence_word(f->evidence),
        f->side[0].port);
    if (mute)
        flow_mute(f);
}

static void
hear_data(void *user, struct flow *f, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    (void)user;
    (void)time_ns;
    bool turned = hint >= 0 && flow_hint_initiator(f, hint);
    hint = -1;
    say(&heard, "data %d %.*s at %" PRIu64 "\n", turned ? 1 - side : side, (int)len,
        (const char *)at, frame);
}

static void
hear_gap(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame, int64_t time_ns)
{
    (void)user;
    (void)f;
    (void)time_ns;
    say(&heard, "gap %d %" PRIu64 " at %" PRIu64 "\n", side, missing, frame);
}

static void
hear_closed(void *user, struct flow *f)
{
    (void)user;
    say(&heard, "closed %" PRIu64 " %s\n", f->number, flow_end_word(f->end));
    seen = *f;
}

static void
hear_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    (void)user;
    (void)detail;
    say(&heard, "remark %s at %" PRIu64 "\n", remark_word(r), frame);
}

static void
hear_turned(void *user, struct flow *f)
{
    (void)user;
    say(&heard, "turned %" PRIu64 " %u\n", f->number, f->side[0].port);
}

static const struct flow_events news = { hear_opened, hear_data, hear_gap, hear_closed, hear_remark,
    hear_turned };

static void
start(const struct flow_options *o)
{
    flow_free(table);
    memset(&heard, 0, sizeof heard);
    memset(&seen, 0, sizeof seen);
    number = 0;
    ip_id = 1;
    hint = -1;
    mute = false;
    table = flow_new(o, &news, NULL);
    assert_non_null(table);
}

static int
setup(void **state)
{
    (void)state;
    start(NULL);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    flow_free(table);
    table = NULL;
    return 0;
}

/* ---- sending ---- */

#define S  TCP_SYN
#define SA (TCP_SYN | TCP_ACK)
#define A  TCP_ACK
#define FA (TCP_FIN | TCP_ACK)
#define RA (TCP_RST | TCP_ACK)

static struct packet next;        /* what send() starts from; tests set what is unusual */
static struct frame next_frame;

/* From the client (40000) or the server (5269); sequence numbers of the client start at 1000,
 * those of the server at 5000. */
static void
send_ports(int64_t ms, int from, uint16_t client, unsigned flags, uint32_t seq, uint32_t ack,
    const char *text)
{
    struct packet p = next;
    struct frame f = next_frame;
    f.number = ++number;
    f.time_ns = ms * 1000000;
    p.frame = &f;
    p.kind = PACKET_TCP;
    p.source = (struct address){ { 192, 0, 2, (unsigned char)(1 + from) }, 4 };
    p.target = (struct address){ { 192, 0, 2, (unsigned char)(2 - from) }, 4 };
    p.source_port = from == 0 ? client : 5269;
    p.target_port = from == 0 ? 5269 : client;
    p.flags = (uint8_t)flags;
    p.seq = seq;
    p.ack = ack;
    p.ip_id = p.ip_id != 0 ? p.ip_id : ip_id++;
    size_t len = strlen(text);
    p.payload = guarded(text, p.captured != 0 ? p.captured : len);
    p.captured = p.captured != 0 ? p.captured : len;
    p.length = len;
    p.sum = packet_sum(p.payload, p.captured);
    flow_push(table, &p);
    memset(&next, 0, sizeof next);
    memset(&next_frame, 0, sizeof next_frame);
}

static void
send(int64_t ms, int from, unsigned flags, uint32_t seq, uint32_t ack, const char *text)
{
    send_ports(ms, from, 40000, flags, seq, ack, text);
}

static void
handshake(void)
{
    send(0, 0, S, 1000, 0, "");
    send(1, 1, SA, 5000, 1001, "");
    send(2, 0, A, 1001, 5001, "");
}

static void
expect(const char *text)
{
    assert_string_equal(heard.text, text);
}

#define OPEN "open 1 syn 40000\n"

/* ---- beginnings ---- */

static void
a_whole_connection_is_told_in_order(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1001, 5001, "hello");
    send(4, 1, A, 5001, 1006, "world");
    send(5, 0, FA, 1006, 5006, "");
    send(6, 1, FA, 5006, 1007, "");
    send(7, 0, A, 1007, 5007, "");
    flow_end(table);
    expect(OPEN "data 0 hello at 4\ndata 1 world at 5\nclosed 1 fin\n");
    assert_true(seen.established);
    assert_int_equal(seen.synack_ns, 1000000);
    assert_int_equal(seen.side[1].fin_frame, 7);
    assert_int_equal(seen.side[0].packets, 5);
    assert_int_equal(seen.remarks, 0);
}

static void
a_synack_names_the_other_side(void **state)
{
    (void)state;
    send(1, 1, SA, 5000, 1001, "");
    send(2, 0, A, 1001, 5001, "hi");
    flow_end(table);
    expect("open 1 synack 40000\ndata 0 hi at 2\nclosed 1 capture-end\n");
    assert_false(seen.midstream);
}

static void
a_synack_before_its_syn_turns_nothing(void **state)
{
    (void)state;
    send(1, 1, SA, 5000, 1001, "");
    send(1, 0, S, 1000, 0, "");
    send(2, 0, A, 1001, 5001, "hi");
    flow_end(table);
    expect("open 1 synack 40000\ndata 0 hi at 3\nclosed 1 capture-end\n");
    assert_int_equal(seen.evidence, EVIDENCE_SYN);
}

static void
without_a_handshake_the_port_is_evidence(void **state)
{
    (void)state;
    send(1, 1, A, 5001, 1001, "hi");
    flow_end(table);
    expect(
        "open 1 port 40000\nremark midstream at 1\ndata 1 hi at 1\nremark one-sided at 1\n"
        "closed 1 capture-end\n");
    assert_true(seen.midstream);
}

static void
content_corrects_the_port(void **state)
{
    (void)state;
    hint = 1;
    send(1, 1, A, 5001, 1001, "<?xml");
    send(2, 0, A, 1001, 5006, "yes");
    flow_end(table);
    expect(
        "open 1 port 40000\nremark midstream at 1\ndata 0 <?xml at 1\ndata 1 yes at 2\n"
        "closed 1 capture-end\n");
    assert_int_equal(seen.evidence, EVIDENCE_CONTENT);
    assert_int_equal(seen.side[0].port, 5269);
    assert_int_equal(seen.side[0].bytes, 5);
    assert_int_equal(seen.side[1].bytes, 3);
}

static void
content_does_not_correct_a_handshake(void **state)
{
    (void)state;
    handshake();
    hint = 1;
    send(3, 0, A, 1001, 5001, "a");
    assert_non_null(strstr(heard.text, "data 0 a"));
}

static void
a_late_syn_turns_a_wrong_guess(void **state)
{
    (void)state;
    send(1, 1, A, 1001, 5001, "b");        /* 5269 is the client here, and its SYN comes late */
    send(1, 1, S, 1000, 0, "");
    flow_end(table);
    assert_non_null(strstr(heard.text, "turned 1 5269\n"));
    assert_int_equal(seen.side[0].bytes, 1);
}

static void
content_in_a_syn_is_delivered(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "early");
    send(1, 1, SA, 5000, 1006, "");
    send(2, 0, A, 1006, 5001, "late");
    expect(OPEN "data 0 early at 1\ndata 0 late at 3\n");
}

static void
the_last_synack_gives_the_base(void **state)
{
    (void)state;
    send(0, 1, SA, 5000, 1001, "");
    send(9000, 1, SA, 7000, 1001, "");
    send(9001, 0, A, 1001, 7001, "");
    send(9002, 1, A, 7001, 1001, "x");
    expect("open 1 synack 40000\ndata 1 x at 4\n");
}

static void
a_lost_synack_leaves_its_base_in_the_ack(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "");
    send(2, 0, A, 1001, 5001, "");
    send(3, 1, A, 5003, 1001, "cd");       /* "ab" was not captured */
    send(4, 0, A, 1001, 5005, "");
    send(900, 0, A, 1001, 5005, "");
    expect(OPEN "remark gap at 5\ngap 1 2 at 5\ndata 1 cd at 3\n");
}

/* ---- order ---- */

static void
what_waits_before_a_new_base_is_forgotten(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "");
    send(1, 0, A, 1011, 5001, "from another beginning");
    send(2, 0, S | A, 1020, 5001, "");
    send(3, 0, A, 1021, 5001, "hello");
    send(4, 1, A, 5001, 1026, "");
    flow_end(table);
    assert_int_equal(seen.side[0].bytes + seen.side[1].bytes, 5);
    assert_int_equal(seen.side[0].lost + seen.side[1].lost, 0);
}

static void
segments_are_put_in_order(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1003, 5001, "cd");
    send(4, 0, A, 1005, 5001, "ef");
    send(5, 0, A, 1001, 5001, "ab");
    expect(OPEN "data 0 ab at 6\ndata 0 cd at 4\ndata 0 ef at 5\n");
}

static void
sequence_numbers_wrap(void **state)
{
    (void)state;
    send(0, 0, S, 0xFFFFFFFD, 0, "");
    send(1, 1, SA, 0xFFFFFFFF, 0xFFFFFFFE, "");
    send(2, 0, A, 0xFFFFFFFE, 0, "");
    send(3, 0, A, 2, 0, "ef");
    send(4, 0, A, 0xFFFFFFFE, 0, "abcd");
    send(5, 1, A, 0, 4, "yz");
    expect(OPEN "data 0 abcd at 5\ndata 0 ef at 4\ndata 1 yz at 6\n");
}

static void
retransmissions_are_counted_and_not_repeated(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1001, 5001, "hello");
    send(300, 0, A, 1001, 5001, "hello");
    send(301, 0, A, 1004, 5001, "lo you");
    flow_end(table);
    expect(OPEN "data 0 hello at 4\ndata 0  you at 6\nclosed 1 capture-end\n");
    assert_int_equal(seen.side[0].retransmitted, 2);
    assert_int_equal(seen.side[0].bytes, 9);
}

static void
a_frame_that_is_there_twice_is_no_retransmission(void **state)
{
    (void)state;
    handshake();
    for (int i = 0; i < 3; i++) {
        next.ip_id = 77;
        send(3, 0, A, 1001, 5001, "hello");
    }
    flow_end(table);
    expect(OPEN
        "data 0 hello at 4\nremark duplicates at 5\nremark duplicates at 6\n"
        "closed 1 capture-end\n");
    assert_int_equal(seen.side[0].retransmitted, 0);
}

static void
other_bytes_the_second_time_are_remarked_and_dropped(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1001, 5001, "hello");
    send(300, 0, A, 1001, 5001, "HELLO");
    send(301, 0, A, 1008, 5001, "world");  /* behind a hole of two */
    send(302, 0, A, 1006, 5001, "..WORLD!");
    flow_end(table);
    expect(OPEN
        "data 0 hello at 4\nremark overlap at 5\nremark overlap at 7\ndata 0 .. at 7\n"
        "data 0 world at 6\n"
        "data 0 ! at 7\nclosed 1 capture-end\n");
}

static void
keep_alives_are_not_content(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1001, 5001, "ab");
    send(60000, 0, A, 1002, 5001, "x");    /* one garbage byte in front, RFC 9293 3.8.4 */
    send(60001, 0, A, 1002, 5001, "");
    send(60002, 0, A, 1003, 5001, "c");
    flow_end(table);
    expect(OPEN "data 0 ab at 4\ndata 0 c at 7\nclosed 1 capture-end\n");
    assert_int_equal(seen.side[0].retransmitted, 0);
}

/* ---- gaps ---- */

static void
an_acknowledged_hole_becomes_a_gap_after_a_while(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1004, 5001, "def");
    send(4, 1, A, 5001, 1007, "");
    expect(OPEN);
    send(500, 1, A, 5001, 1007, "");
    expect(OPEN "remark gap at 6\ngap 0 3 at 6\ndata 0 def at 4\n");
    send(501, 0, A, 1001, 5001, "abc");    /* too late */
    flow_end(table);
    assert_int_equal(seen.side[0].lost, 3);
    assert_int_equal(seen.side[0].bytes, 3);
}

static void
a_hole_that_nobody_acknowledged_waits_for_the_retransmission(void **state)
{
    (void)state;
    handshake();
    send(3, 0, A, 1004, 5001, "def");
    send(4, 1, A, 5001, 1001, "");
    send(30000, 1, A, 5001, 1001, "");
    send(30001, 0, A, 1001, 5001, "abc");
    expect(OPEN "data 0 abc at 7\ndata 0 def at 4\n");
}

static void
with_one_side_only_a_hole_becomes_a_gap_too(void **state)
{
    (void)state;
    send(1, 0, A, 1001, 5001, "a");
    send(2, 0, A, 1004, 5001, "d");
    send(6000, 0, A, 1005, 5001, "e");
    send(12000, 0, A, 1006, 5001, "f");
    flow_end(table);
    expect(
        "open 1 port 40000\nremark midstream at 1\ndata 0 a at 1\nremark gap at 3\ngap 0 2 at 3\n"
        "data 0 d at 2\ndata 0 e at 3\ndata 0 f at 4\nremark one-sided at 1\n"
        "closed 1 capture-end\n");
}

static void
bytes_missing_before_a_fin_are_a_gap(void **state)
{
    (void)state;
    handshake();
    send(3, 0, FA, 1011, 5001, "");
    send(4, 1, FA, 5001, 1012, "");
    flow_end(table);
    expect(OPEN "remark gap at 5\ngap 0 10 at 5\nclosed 1 fin\n");
}

static void
a_cut_payload_is_a_gap_of_its_own(void **state)
{
    (void)state;
    handshake();
    next.captured = 2;
    send(3, 0, A, 1001, 5001, "hello");
    send(4, 0, A, 1006, 5001, "you");
    expect(OPEN "data 0 he at 4\nremark snaplen at 4\ngap 0 3 at 4\ndata 0 you at 5\n");
}

static void
a_cut_payload_may_wait_too(void **state)
{
    (void)state;
    handshake();
    next.captured = 1;
    send(3, 0, A, 1003, 5001, "cde");
    send(4, 0, A, 1001, 5001, "ab");
    expect(OPEN "data 0 ab at 5\ndata 0 c at 4\nremark snaplen at 4\ngap 0 2 at 4\n");
}

static void
too_many_bytes_out_of_order_are_a_gap(void **state)
{
    struct flow_options o = { .pending_side_max = 200 };
    (void)state;
    start(&o);
    handshake();
    for (uint32_t i = 0; i < 20; i++)
        send(3, 0, A, 1101 + i * 10, 5001, "0123456789");
    flow_end(table);
    assert_non_null(strstr(heard.text, "remark ceiling-bytes at "));
    assert_non_null(strstr(heard.text, "gap 0 100 at "));
    assert_int_equal(seen.side[0].bytes, 200);
    assert_int_equal(seen.side[0].lost, 100);
}

static void
memory_out_of_order_has_one_ceiling_for_all(void **state)
{
    struct flow_options o = { .pending_max = 4000 };
    (void)state;
    start(&o);
    for (uint16_t i = 0; i < 500; i++) {
        send_ports(1, 0, (uint16_t)(1024 + i), A, 1001, 5001, "a");
        send_ports(2, 0, (uint16_t)(1024 + i), A, 1012, 5001, "0123456789");
    }
    assert_true(flow_count(table).pending_most < 5000);
    assert_int_equal(flow_count(table).open, 500);
    flow_end(table);
    assert_int_equal(flow_count(table).pending, 0);
    assert_int_equal(flow_count(table).open, 0);
}

/* ---- ends ---- */

static void
a_reset_answers_a_syn_that_nobody_wants(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "");
    send(1, 1, RA, 0, 1001, "");
    flow_end(table);
    expect(OPEN "closed 1 refused\n");
    assert_int_equal(seen.side[1].rst_frame, 2);
}

static void
a_reset_later_is_an_end(void **state)
{
    (void)state;
    handshake();
    send(3, 0, RA, 1001, 5001, "");
    send(4, 1, A, 5001, 1001, "on its way");
    send(9000, 1, A, 5011, 1001, "");      /* beyond the linger time: an echo */
    send(9001, 1, A, 5011, 1001, "new");   /* and something new */
    flow_end(table);
    expect(OPEN "data 1 on its way at 5\nclosed 1 rst\nopen 2 port 40000\nremark midstream at 7\n"
        "data 1 new at 7\nremark one-sided at 7\nclosed 2 capture-end\n");
}

static void
a_fin_that_is_repeated_opens_nothing(void **state)
{
    int i;
    (void)state;
    handshake();
    send(3, 0, FA, 1001, 5001, "");
    send(4, 1, FA, 5001, 1002, "");
    for (i = 1; i < 10; i++)
        send(4 + 1000 * (1 << i), 0, FA, 1001, 5001, "");
    send(4 + 1000 * (1 << 10), 0, FA, 1001, 5001, "");   /* after a quarter of an hour: who knows */
    flow_end(table);
    expect(OPEN "closed 1 fin\nopen 2 port 40000\nremark midstream at 15\nclosed 2 fin\n");
}

static void
an_injected_reset_is_taken_back(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "");
    send(1, 1, RA, 0, 1001, "");
    send(2, 1, SA, 5000, 1001, "");
    send(3, 0, A, 1001, 5001, "go");
    flow_end(table);
    expect(OPEN "data 0 go at 4\nclosed 1 capture-end\n");
    assert_true(seen.established);
}

static void
a_syn_without_an_answer_times_out(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "");
    send(1000, 0, S, 1000, 0, "");
    send(3000, 0, S, 1000, 0, "");
    flow_tick(table, INT64_C(400000000000));
    expect(OPEN "closed 1 unanswered\n");
    assert_int_equal(seen.side[0].syns, 3);
}

static void
at_the_end_of_the_capture_a_repeated_syn_is_unanswered(void **state)
{
    (void)state;
    send_ports(0, 0, 40000, S, 1000, 0, "");
    send_ports(1000, 0, 40000, S, 1000, 0, "");
    send_ports(1001, 0, 40001, S, 1000, 0, "");
    flow_end(table);
    expect(OPEN "open 2 syn 40001\nclosed 1 unanswered\nclosed 2 capture-end\n");
}

static void
an_icmp_error_explains_the_silence(void **state)
{
    struct frame f = { .number = 9, .time_ns = 5000000 };
    struct packet p = { .frame = &f, .kind = PACKET_ICMP_ERROR, .source_port = 40000,
        .target_port = 5269, .seq = 1000, .icmp = ICMP_PROHIBITED };
    (void)state;
    p.source = (struct address){ { 192, 0, 2, 1 }, 4 };
    p.target = (struct address){ { 192, 0, 2, 2 }, 4 };
    p.reporter = (struct address){ { 192, 0, 2, 254 }, 4 };
    send(0, 0, S, 1000, 0, "");
    flow_push(table, &p);
    flow_end(table);
    expect(OPEN "closed 1 icmp\n");
    assert_int_equal(seen.icmp, ICMP_PROHIBITED);
    assert_int_equal(seen.icmp_frame, 9);
    assert_int_equal(seen.icmp_reporter.bytes[3], 254);
}

static void
idle_connections_time_out_in_packet_time(void **state)
{
    (void)state;
    handshake();
    send_ports(3500000, 0, 40001, S, 1, 0, "");
    send_ports(5400000, 0, 40002, S, 1, 0, "");
    expect(OPEN "open 2 syn 40001\nclosed 2 unanswered\nclosed 1 idle\nopen 3 syn 40002\n");
}

static void
ports_used_again_are_a_new_connection(void **state)
{
    (void)state;
    handshake();
    send(3, 0, FA, 1001, 5001, "");
    send(4, 1, FA, 5001, 1002, "");
    send(5, 0, S, 9000, 0, "");
    send(6, 1, RA, 0, 9001, "");
    send(7, 0, S, 9500, 0, "");
    send(8, 0, S, 9900, 0, "");
    flow_end(table);
    expect(OPEN "closed 1 fin\nopen 2 syn 40000\nclosed 2 refused\nopen 3 syn 40000\n"
        "closed 3 unanswered\nopen 4 syn 40000\nclosed 4 capture-end\n");
}

static void
a_split_handshake_is_one_connection(void **state)
{
    (void)state;
    send(0, 0, S, 1000, 0, "");
    send(1, 1, A, 0, 1001, "");
    send(2, 1, S, 5000, 0, "");
    send(3, 0, SA, 1000, 5001, "");
    send(4, 1, A, 5001, 1001, "");
    send(5, 0, A, 1001, 5001, "data");
    flow_end(table);
    expect(OPEN "data 0 data at 6\nclosed 1 capture-end\n");
    assert_int_equal(seen.side[0].port, 40000);
}

static void
too_many_connections_give_up_the_oldest(void **state)
{
    struct flow_options o = { .flows_max = 2 };
    (void)state;
    start(&o);
    send_ports(0, 0, 1001, A, 1, 1, "");
    send_ports(1, 0, 1002, S, 1, 1, "");
    send_ports(1500, 0, 1003, A, 1, 1, "");   /* the one without an answer goes first */
    send_ports(1501, 0, 1004, A, 1, 1, "");
    expect(
        "open 1 port 1001\nremark midstream at 1\nopen 2 syn 1002\nremark ceiling-flows at 2\n"
        "closed 2 evicted\n"
        "open 3 port 1003\nremark midstream at 3\nremark ceiling-flows at 1\nclosed 1 evicted\n"
        "open 4 port 1004\n"
        "remark midstream at 4\n");
}

static void
a_syn_that_may_still_be_answered_does_not_go_first(void **state)
{
    struct flow_options o = { .flows_max = 2 };
    (void)state;
    start(&o);
    send_ports(0, 0, 1001, A, 1, 1, "");
    send_ports(1, 0, 1002, S, 1, 1, "");
    send_ports(2, 0, 1003, A, 1, 1, "");
    expect(
        "open 1 port 1001\nremark midstream at 1\nopen 2 syn 1002\nremark ceiling-flows at 1\n"
        "closed 1 evicted\nopen 3 port 1003\nremark midstream at 3\n");
}

static void
closed_connections_do_not_pile_up(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100000; i++) {
        uint16_t port = (uint16_t)(1024 + i % 60000);
        heard.len = 0;
        send_ports(i / 1000, 0, port, S, i, 0, "");
        send_ports(i / 1000, 1, port, RA, 0, i + 1, "");
    }
    assert_true(flow_count(table).open_most < 20000);
    assert_int_equal(flow_count(table).flows, 100000);
}

static void
a_muted_connection_keeps_its_counts_only(void **state)
{
    (void)state;
    mute = true;
    handshake();
    send(3, 0, A, 1001, 5001, "ab");
    send(4, 0, A, 1005, 5001, "ef");
    send(5, 0, FA, 1007, 5001, "");
    send(6, 1, FA, 5001, 1008, "");
    flow_end(table);
    expect(OPEN "closed 1 fin\n");
    assert_int_equal(seen.side[0].bytes, 4);
    assert_int_equal(flow_count(table).pending_most, 0);
}

static void
the_order_of_the_end_does_not_depend_on_the_key(void **state)
{
    static char first[sizeof heard.text];
    (void)state;
    for (uint64_t key = 1; key < 20; key++) {
        struct flow_options o = { .seed = { key, key * 77 } };
        start(&o);
        for (uint16_t i = 0; i < 200; i++)
            send_ports(i, 0, (uint16_t)(1024 + i * 7), S, 1, 0, "");
        flow_end(table);
        if (key == 1)
            strcpy(first, heard.text);
        expect(first);
    }
}

static void
both_ends_may_be_the_same(void **state)
{
    struct frame f = { .number = 1 };
    struct packet p = { .frame = &f, .kind = PACKET_TCP, .source_port = 7, .target_port = 7,
        .flags = A, .payload = (const unsigned char *)"x", .captured = 1, .length = 1 };
    (void)state;
    flow_push(table, &p);
    p.seq = 1;
    flow_push(table, &p);
    flow_end(table);
    assert_int_equal(seen.side[0].bytes + seen.side[1].bytes, 2);
}

static void
expecting_changes_nothing(void **state)
{
    static const struct frame f = { .number = 4 };
    struct packet p[40] = { 0 };
    (void)state;
    handshake();
    for (size_t i = 0; i < 40; i++) {
        p[i].frame = &f;
        p[i].source = (struct address){ { 192, 0, 2, 1 }, 4 };
        p[i].target = (struct address){ { 192, 0, 2, 2 }, 4 };
        p[i].source_port = (uint16_t)(40000 + i);
        p[i].target_port = 5269;
    }
    flow_expect(table, p, 40);
    expect(OPEN);
    send(3, 0, A, 1001, 5001, "hello");
    expect(OPEN "data 0 hello at 4\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_connection_is_told_in_order), TEST(a_synack_names_the_other_side),
        TEST(a_synack_before_its_syn_turns_nothing), TEST(without_a_handshake_the_port_is_evidence),
        TEST(content_corrects_the_port), TEST(content_does_not_correct_a_handshake),
        TEST(a_late_syn_turns_a_wrong_guess), TEST(content_in_a_syn_is_delivered),
        TEST(the_last_synack_gives_the_base), TEST(a_lost_synack_leaves_its_base_in_the_ack),
        TEST(what_waits_before_a_new_base_is_forgotten),
        TEST(segments_are_put_in_order), TEST(sequence_numbers_wrap),
        TEST(retransmissions_are_counted_and_not_repeated),
        TEST(a_frame_that_is_there_twice_is_no_retransmission),
        TEST(other_bytes_the_second_time_are_remarked_and_dropped),
        TEST(keep_alives_are_not_content),
        TEST(an_acknowledged_hole_becomes_a_gap_after_a_while),
        TEST(a_hole_that_nobody_acknowledged_waits_for_the_retransmission),
        TEST(with_one_side_only_a_hole_becomes_a_gap_too),
        TEST(bytes_missing_before_a_fin_are_a_gap),
        TEST(a_cut_payload_is_a_gap_of_its_own), TEST(a_cut_payload_may_wait_too),
        TEST(too_many_bytes_out_of_order_are_a_gap),
        TEST(memory_out_of_order_has_one_ceiling_for_all),
        TEST(a_reset_answers_a_syn_that_nobody_wants), TEST(a_reset_later_is_an_end),
        TEST(a_fin_that_is_repeated_opens_nothing),
        TEST(an_injected_reset_is_taken_back), TEST(a_syn_without_an_answer_times_out),
        TEST(at_the_end_of_the_capture_a_repeated_syn_is_unanswered),
        TEST(an_icmp_error_explains_the_silence), TEST(idle_connections_time_out_in_packet_time),
        TEST(ports_used_again_are_a_new_connection), TEST(a_split_handshake_is_one_connection),
        TEST(too_many_connections_give_up_the_oldest),
        TEST(a_syn_that_may_still_be_answered_does_not_go_first),
        TEST(closed_connections_do_not_pile_up),
        TEST(a_muted_connection_keeps_its_counts_only),
        TEST(the_order_of_the_end_does_not_depend_on_the_key), TEST(both_ends_may_be_the_same),
        TEST(expecting_changes_nothing)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
