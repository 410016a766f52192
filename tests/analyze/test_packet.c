/* test_packet.c -- frames by hand, and what packet.c makes of them */
#include "lower.h"

#include <inttypes.h>
#include <setjmp.h>
#include <cmocka.h>

static struct transcript heard;
static struct bytes b;

static void
hear_packet(void *user, const struct packet *p)
{
    char source[46];
    char target[46];
    (void)user;
    address_text(&p->source, source, sizeof source);
    address_text(&p->target, target, sizeof target);
    static const char *const kinds[] = { "tcp", "udp", "icmp" };
    say(&heard, "%s %s:%u>%s:%u", kinds[p->kind], source, p->source_port, target, p->target_port);
    if (p->kind == PACKET_TCP) {
        say(&heard, " flags %u seq %" PRIu32 " '%.*s'%zu", p->flags, p->seq,
            p->captured < 20 ? (int)p->captured : 20, (const char *)p->payload, p->length);
    } else if (p->kind == PACKET_ICMP_ERROR) {
        say(&heard, " error %d seq %" PRIu32 " from %s", (int)p->icmp, p->seq,
            address_text(&p->reporter, source, sizeof source));
    } else {
        say(&heard, " '%.*s'%zu", (int)p->captured, (const char *)p->payload, p->length);
    }
    say(&heard, "\n");
}

static void
hear_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    (void)user;
    (void)detail;
    say(&heard, "remark %s at %" PRIu64 "\n", remark_word(r), frame);
}

static const struct packet_events news = { .packet = hear_packet, .remark = hear_remark };
static struct packet_reader *reader;
static uint64_t number;
static int64_t now_ns;

static int
setup(void **state)
{
    (void)state;
    memset(&heard, 0, sizeof heard);
    b.len = 0;
    b.little = false;
    number = 0;
    now_ns = 1000;
    reader = packet_new(&news, NULL);
    return reader == NULL;
}

static int
teardown(void **state)
{
    (void)state;
    packet_free(reader);
    return 0;
}

/* Pushes what was built, of which only `captured` bytes are in the capture, and forgets it. */
static void
push_cut(int link, size_t captured)
{
    struct frame f = { .time_ns = now_ns, .number = ++number, .link = link, .length = b.len,
        .captured = captured };
    f.bytes = guarded(b.at, captured);
    packet_push(reader, &f);
    b.len = 0;
}

static void
push(int link)
{
    push_cut(link, b.len);
}

static void
put_segment(const char *text)
{
    put_ipv4(&b, 6, 20 + strlen(text), 0x4000, 7);
    put_tcp(&b, TCP_ACK, 1000, 2000, text);
}

#define SEGMENT "tcp 192.0.2.1:40000>192.0.2.2:5269 flags 16 seq 1000 'hello'5\n"
#define SEGMENT6 "tcp 2001:db8::1:40000>2001:db8::2:5269 flags 16 seq 1000 'hello'5\n"

static void
every_link_layer_leads_to_the_segment(void **state)
{
    static const struct { int link; const char *header; size_t len; } rows[] = {
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x08\x00", 14 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x81\x00\x00\x05\x08\x00", 18 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x88\xA8\x00\x05\x81\x00\x00\x06\x08\x00", 22 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x88\x47\x00\x01\x00\x40\x00\x01\x01\x40", 22 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x88\x47\x00\x01\x01\x40\0\0\0\0"
             "\2\2\2\2\2\2\4\4\4\4\4\4\x08\x00", 36 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x88\x64\x11\x00\x00\x01\x00\x2F\x00\x21", 22 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x00\x35\xAA\xAA\x03\0\0\0\x08\x00", 22 },
        { 1, "\2\2\2\2\2\2\4\4\4\4\4\4\x89\x3F\0\0\0\0\0\0\x08\x00", 22 },
        { 113, "\0\4\0\1\0\6\2\2\2\2\2\2\0\0\x08\x00", 16 },
        { 276, "\x08\x00\0\0\0\0\0\3\0\1\4\6\2\2\2\2\2\2\0\0", 20 },
        { 101, "", 0 }, { 228, "", 0 }, { 12, "", 0 },
        { 0, "\2\0\0\0", 4 }, { 0, "\0\0\0\2", 4 }, { 108, "\0\0\0\2", 4 },
        { 9, "\x00\x21", 2 }, { 9, "\xFF\x03\x00\x21", 4 }, { 9, "\x21", 1 },
        { 50, "\xFF\x03\x00\x21", 4 }, { 50, "\x0F\x00\x08\x00", 4 }, { 104, "\x0F\x00\x08\x00",
            4 },
        { 51, "\x11\x00\x00\x01\x00\x2F\x00\x21", 8 },
        { 239, "\2\0\0\0\x05\x00\x0A\x00\x58\0\0\0\x31\x00\x09\x00", 16 },
        { 105, "\x08\x01\0\0\2\2\2\2\2\2\4\4\4\4\4\4\2\2\2\2\2\2\0\0\xAA\xAA\x03\0\0\0\x08\x00",
            32 },
        { 127, "\0\0\x08\0\0\0\0\0\x08\x01\0\0\2\2\2\2\2\2\4\4\4\4\4\4\2\2\2\2\2\2\0\0"
               "\xAA\xAA\x03\0\0\0\x08\x00", 40 },
        { 258, "\x0C\0\0\0\1\0\0\0\x65\0\0\0", 12 },
        { 100, "\xAA\xAA\x03\0\0\0\x08\x00", 8 },
        { 192, "\0\0\x08\0\x69\0\0\0\x08\x01\0\0\2\2\2\2\2\2\4\4\4\4\4\4\2\2\2\2\2\2\0\0"
               "\xAA\xAA\x03\0\0\0\x08\x00", 40 },
        { 163, "\x80\x21\x10\x01\0\0\0\x08\x08\x01\0\0\2\2\2\2\2\2\4\4\4\4\4\4\2\2\2\2\2\2\0\0"
               "\xAA\xAA\x03\0\0\0\x08\x00", 40 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_bytes(&b, rows[i].header, rows[i].len);
        put_segment("hello");
        heard.len = 0;
        push(rows[i].link);
        if (strcmp(heard.text, SEGMENT) != 0)
            fail_msg("row %zu, link %d: %s", i, rows[i].link, heard.text);
    }
}

static void
a_frame_cut_anywhere_does_no_harm(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < 90; cut++) {
        put_ethernet(&b, 0x8100);
        put16(&b, 5);
        put16(&b, 0x0800);
        put_segment("hello");
        heard.len = 0;
        push_cut(1, cut < b.len ? cut : b.len);
        if (cut < 14 + 4 + 40)
            assert_null(strstr(heard.text, "tcp"));
        else
            assert_non_null(strstr(heard.text, "'5\n"));
    }
}

static void
padding_of_the_link_layer_is_not_content(void **state)
{
    (void)state;
    put_ethernet(&b, 0x0800);
    put_segment("");
    put_fill(&b, 0, 6);
    push(1);
    assert_string_equal(heard.text, "tcp 192.0.2.1:40000>192.0.2.2:5269 flags 16 seq 1000 ''0\n");
}

static void
a_snaplen_leaves_the_length_on_the_wire(void **state)
{
    (void)state;
    put_segment("hello");
    push_cut(101, 42);
    assert_string_equal(heard.text, "remark snaplen at 1\n"
        "tcp 192.0.2.1:40000>192.0.2.2:5269 flags 16 seq 1000 'he'5\n");
}

static void
segmentation_offload_writes_a_length_of_zero(void **state)
{
    (void)state;
    put_segment("hello");
    patch16(&b, 2, 0);
    patch16(&b, 10, 0);
    patch16(&b, 10, sum_done(sum_add(0, b.at, 20)));
    push(101);
    assert_string_equal(heard.text, SEGMENT);
}

static void
a_huge_segment_is_one_packet(void **state)
{
    static char text[70001];
    (void)state;
    memset(text, 'x', 70000);
    put_ipv4(&b, 6, 0, 0, 7);
    patch16(&b, 2, 0);
    put_tcp(&b, TCP_ACK, 1000, 2000, text);
    push(101);
    assert_non_null(strstr(heard.text, "xxx'70000"));
}

static void
wrong_checksums_are_remarked_and_then_taken_for_offload(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        put_segment("hello");
        b.at[b.len - 1] ^= 1;
        push(101);
    }
    assert_non_null(strstr(heard.text, "remark checksum at 1\n"
        "tcp 192.0.2.1:40000>192.0.2.2:5269 flags 16 seq 1000 'helln'5\n"));
    assert_non_null(strstr(heard.text, "remark checksum at 64\n"));
    assert_null(strstr(heard.text, "remark checksum at 65\n"));
}

static void
headers_that_make_no_sense_are_remarked(void **state)
{
    static const struct { size_t at; unsigned char value; } rows[] = {
        { 0, 0x44 },          /* header of 16 bytes */
        { 0, 0x4F },          /* options beyond the packet */
        { 0, 0x25 },          /* version 2 */
        { 3, 10 },            /* total length below the header's */
        { 32, 0x40 },         /* TCP header of 16 bytes */
        { 32, 0xF0 },         /* TCP header longer than the segment */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        heard.len = 0;
        put_segment("");
        b.at[rows[i].at] = rows[i].value;
        push(101);
        assert_null(strstr(heard.text, "tcp"));
        assert_non_null(strstr(heard.text, "remark packet-bad"));
    }
}

static void
ipv6_extension_headers_are_stepped_over(void **state)
{
    (void)state;
    put_ipv6(&b, 0, 8 + 16 + 8 + 12 + 25);
    put_bytes(&b, "\x2B\0\1\4\0\0\0\0", 8);                       /* hop by hop, then routing */
    put_bytes(&b, "\x3C\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);      /* routing, then destination */
    put_bytes(&b, "\x33\0\1\4\0\0\0\0", 8);                       /* destination, then AH */
    put_bytes(&b, "\x06\1\0\0\0\0\0\0\0\0\0\0", 12);
    put_tcp(&b, TCP_ACK, 1000, 2000, "hello");
    push(101);
    assert_string_equal(heard.text, "remark checksum at 1\n" SEGMENT6);
}

static void
endless_headers_come_to_an_end(void **state)
{
    (void)state;
    put_ipv6(&b, 60, 8 * 1000);
    for (int i = 0; i < 1000; i++)
        put_bytes(&b, "\x3C\0\1\4\0\0\0\0", 8);
    push(101);
    put_ethernet(&b, 0x8847);
    put_fill(&b, 0, 4000);
    push(1);
    for (int i = 0; i < 400; i++)
        put_ipv4(&b, 4, (size_t)(399 - i) * 20, 0, 1);
    push(101);
    assert_string_equal(heard.text,
        "remark packet-bad at 1\nremark packet-bad at 2\nremark packet-bad at 3\n");
}

/* A datagram of "hello" in a segment, its bytes from..to as a fragment. */
static void
put_fragment(size_t from, size_t to, bool more, unsigned id)
{
    static struct bytes whole;
    whole.len = 0;
    put_tcp(&whole, TCP_ACK, 1000, 2000, "hello");
    put_ipv4(&b, 6, to - from, (unsigned)(from / 8) | (more ? 0x2000u : 0), id);
    put_bytes(&b, whole.at + from, to - from);
}

static void
fragments_are_put_together_in_any_order(void **state)
{
    static const unsigned char orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 },
        { 2, 0, 1 }, { 2, 1, 0 } };
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        heard.len = 0;
        for (unsigned k = 0; k < 3; k++) {
            unsigned part = orders[i][k];
            put_fragment(part * 8, part == 2 ? 25 : part * 8 + 8, part != 2, 100 + i);
            assert_int_equal(heard.len, 0);
            push(101);
        }
        assert_string_equal(heard.text, SEGMENT);
    }
}

static void
ipv6_fragments_are_put_together(void **state)
{
    static struct bytes whole;
    (void)state;
    whole.len = 0;
    put_tcp(&whole, TCP_ACK, 1000, 2000, "hello");
    put_ipv6(&b, 44, 8 + 9);
    put_bytes(&b, "\x06\0\x00\x10\0\0\0\x09", 8);
    put_bytes(&b, whole.at + 16, 9);
    push(101);
    put_ipv6(&b, 44, 8 + 16);
    put_bytes(&b, "\x06\0\x00\x01\0\0\0\x09", 8);
    put_bytes(&b, whole.at, 16);
    push(101);
    put_ipv6(&b, 44, 8 + 25);                     /* atomic: RFC 6946 */
    put_bytes(&b, "\x06\0\x00\x00\0\0\0\x09", 8);
    put_bytes(&b, whole.at, 25);
    push(101);
    assert_string_equal(heard.text,
        "remark checksum at 2\n" SEGMENT6 "remark checksum at 3\n" SEGMENT6);
}

static void
overlapping_fragments_keep_what_came_first(void **state)
{
    (void)state;
    put_fragment(0, 24, true, 9);
    push(101);
    put_fragment(16, 25, false, 9);
    b.at[20] ^= 0xFF;                             /* would change the checksum field */
    push(101);
    assert_string_equal(heard.text, SEGMENT);
}

static void
incomplete_datagrams_are_remarked_at_the_end(void **state)
{
    (void)state;
    put_fragment(8, 16, true, 9);
    push(101);
    packet_end(reader);
    assert_string_equal(heard.text, "remark fragment-lost at 1\n");
}

static void
many_incomplete_datagrams_push_out_the_oldest(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        put_fragment(8, 16, true, i);
        now_ns += 1000;
        push(101);
    }
    assert_int_equal(heard.len > 0, 1);
    assert_non_null(strstr(heard.text, "remark fragment-lost at 1\n"));
    assert_non_null(strstr(heard.text, "remark fragment-lost at 872\n"));
    assert_null(strstr(heard.text, "remark fragment-lost at 873\n"));
}

static void
impossible_fragments_are_remarked(void **state)
{
    (void)state;
    put_ipv4(&b, 6, 7, 0x2000, 1);                /* not a multiple of eight, and more to come */
    put_fill(&b, 0, 7);
    push(101);
    put_ipv4(&b, 6, 16, 0x1FFF, 1);               /* ends beyond 65,535 */
    put_fill(&b, 0, 16);
    push(101);
    assert_string_equal(heard.text, "remark packet-bad at 1\nremark packet-bad at 2\n");
}

/* An ICMP error about a segment of 192.0.2.1. */
static void
put_icmp(unsigned type, unsigned code, unsigned mtu)
{
    put_ipv4(&b, 1, 8 + 28, 0, 3);
    put8(&b, type);
    put8(&b, code);
    put_fill(&b, 0, 4);
    put16(&b, mtu);
    put_ipv4(&b, 6, 20, 0x4000, 7);
    put16(&b, 40000);
    put16(&b, 5269);
    put32(&b, 1000);
}

static void
icmp_errors_name_the_connection(void **state)
{
    (void)state;
    put_icmp(3, 3, 0);
    push(101);
    put_icmp(3, 4, 1400);
    push(101);
    put_icmp(3, 13, 0);
    push(101);
    put_icmp(11, 0, 0);
    push(101);
    put_icmp(8, 0, 0);                            /* an echo request is no error */
    push(101);
#define ABOUT "icmp 192.0.2.1:40000>192.0.2.2:5269 error "
    assert_string_equal(heard.text, ABOUT "1 seq 1000 from 192.0.2.1\n"
        ABOUT "5 seq 1000 from 192.0.2.1\n" ABOUT "4 seq 1000 from 192.0.2.1\n"
        ABOUT "6 seq 1000 from 192.0.2.1\n");
}

static void
icmpv6_errors_name_the_connection(void **state)
{
    (void)state;
    put_ipv6(&b, 58, 8 + 48);
    put_bytes(&b, "\2\0\0\0\0\0\x05\x00", 8);
    put_ipv6(&b, 6, 20);
    put16(&b, 40000);
    put16(&b, 5269);
    put32(&b, 1000);
    push(101);
    assert_string_equal(heard.text,
        "icmp 2001:db8::1:40000>2001:db8::2:5269 error 5 seq 1000 from 2001:db8::1\n");
}

/* A protocol of IP in 192.0.2.1 to 192.0.2.2, or a datagram to this port, as far as the segment. */
struct tunnel {
    unsigned    protocol, port;
    const char *header;
    size_t      len;
};

#define ETHERNET_14 "\2\2\2\2\2\2\4\4\4\4\4\4\x08\x00"

static void
put_tunnel(const struct tunnel *t, size_t payload)
{
    bool udp = t->port != 0;
    put_ipv4(&b, udp ? 17 : t->protocol, (udp ? 8 : 0) + t->len + payload, 0, 1);
    if (udp) {
        put16(&b, 50000);
        put16(&b, t->port);
        put16(&b, (unsigned)(8 + t->len + payload));
        put16(&b, 0);
    }
    put_bytes(&b, t->header, t->len);
}

static void
tunnels_are_looked_into(void **state)
{
    static const struct tunnel rows[] = {
        { 4, 0, "", 0 }, { 94, 0, "", 0 },                              /* IP in IP */
        { 47, 0, "\0\0\x08\x00", 4 },                                   /* GRE */
        { 47, 0, "\x20\0\x08\x00\0\0\0\7", 8 },                         /* with a key */
        { 47, 0, "\xB0\0\x08\x00\0\0\0\0\0\0\0\7\0\0\0\1", 16 },        /* and all others */
        { 47, 0, "\x20\0\x65\x58\0\0\1\0" ETHERNET_14, 22 },          /* NVGRE */
        { 47, 0, "\x30\x81\x88\x0B\0\x31\0\7\0\0\0\1\0\0\0\0\xFF\x03\0\x21", 20 }, /* PPTP */
        { 47, 0, "\0\0\x88\xBE" ETHERNET_14, 18 },                      /* ERSPAN I, II, III */
        { 47, 0, "\x10\0\x88\xBE\0\0\0\1\x10\0\0\0\0\0\0\0" ETHERNET_14, 30 },
        { 47, 0, "\x10\0\x22\xEB\0\0\0\1\x20\0\0\0\0\0\0\0\0\0\0\0" ETHERNET_14, 34 },
        { 47, 0, "\x10\0\x22\xEB\0\0\0\1\x20\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0"
            ETHERNET_14, 42 },
        { 47, 0, "\x10\0\x22\xEB\0\0\0\1\x20\0\0\0\0\0\0\0\0\0\x08\0", 20 },
        { 51, 0, "\4\4\0\0\0\0\0\7\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", 24 }, /* AH */
        { 97, 0, "\x30\0" ETHERNET_14, 16 },                            /* EtherIP */
        { 137, 0, "\0\1\0\x40\0\1\1\x40", 8 },                          /* MPLS */
        { 143, 0, ETHERNET_14, 14 },                                    /* Ethernet */
        { 0, 4789, "\x08\0\0\0\0\0\1\0" ETHERNET_14, 22 },               /* VXLAN */
        { 0, 8472, "\x88\0\0\0\0\0\1\0" ETHERNET_14, 22 },
        { 0, 4790, "\x0C\0\0\1\0\0\1\0", 8 },                           /* VXLAN-GPE, then NSH */
        { 0, 4790, "\x0C\0\0\3\0\0\1\0" ETHERNET_14, 22 },
        { 0, 4790, "\x0C\0\0\4\0\0\1\0\x0F\xC2\2\1\0\0\1\xFF", 16 },
        { 0, 6081, "\0\0\x65\x58\0\0\7\0" ETHERNET_14, 22 },            /* Geneve */
        { 0, 6081, "\2\0\x08\x00\0\0\7\0\1\2\x80\1\0\0\0\0", 16 },
        { 0, 2152, "\x30\xFF\0\x2D\0\0\0\7", 8 },                      /* GTP-U */
        { 0, 2152, "\x32\xFF\0\x31\0\0\0\7\0\1\0\x85", 12 },
        { 0, 2152, "\x34\xFF\0\x39\0\0\0\7\0\0\0\x85\1\0\1\x85\1\0\2\0", 20 },
        { 0, 2152, "\x30\xFF\0\x3B\0\0\0\7" ETHERNET_14, 22 },
        { 0, 4754, "\x20\0\x08\x00\0\0\0\7", 8 },                      /* GRE */
        { 0, 6635, "\0\1\1\x40", 4 },                                   /* MPLS */
        { 0, 6635, "\0\1\1\x40\x32\2\2\2\2\2\4\4\4\4\4\4\x08\x00", 18 },
        { 0, 1701, "\0\2\0\1\0\2\xFF\x03\0\x21", 10 },                /* L2TP */
        { 0, 1701, "\x4A\2\0\x3F\0\1\0\2\0\1\0\1\0\2\0\0\0\x21", 18 },
        { 0, 37008, "\1\0\0\1\0\x0A\1\7\1" ETHERNET_14, 23 },           /* TZSP */
        { 0, 6080, "\1\4\0\0\0\0\0\0", 8 }, { 0, 6080, "", 0 },        /* GUE */
        { 0, 4341, "\0\0\0\0\0\0\0\1", 8 }                              /* LISP */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_tunnel(&rows[i], 45);
        put_segment("hello");
        heard.len = 0;
        push(101);
        if (strcmp(heard.text, SEGMENT) != 0)
            fail_msg("row %zu, protocol %u, port %u: %s", i, rows[i].protocol, rows[i].port,
                heard.text);
        for (size_t cut = 0; cut < 20 + 8 + rows[i].len; cut++) {
            put_tunnel(&rows[i], 45);
            put_segment("hello");
            push_cut(101, cut);
        }
    }
}

static void
ipv6_goes_through_ipv4_and_the_other_way(void **state)
{
    static const struct tunnel six = { 41, 0, "", 0 };
    static const struct tunnel teredo = { 0, 3544,
        "\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\1\2\3\4\5\6", 21 };
    (void)state;
    put_tunnel(&six, 40 + 25);
    put_ipv6(&b, 6, 25);
    put_tcp(&b, TCP_ACK, 1000, 2000, "hello");
    push(101);
    put_tunnel(&teredo, 40 + 25);
    put_ipv6(&b, 6, 25);
    put_tcp(&b, TCP_ACK, 1000, 2000, "hello");
    push(101);
    put_ipv6(&b, 4, 45);
    put_segment("hello");
    push(101);
    assert_string_equal(heard.text, "remark checksum at 1\n" SEGMENT6
        "remark checksum at 2\n" SEGMENT6 SEGMENT);
}

static void
frames_in_frames_are_looked_into(void **state)
{
    static const struct { const char *header; size_t len; } rows[] = {
        { "\2\2\2\2\2\2\4\4\4\4\4\4\x88\xA8\0\5\x88\xE7\0\0\0\7" ETHERNET_14, 36 }, /* PBB */
        { "\2\2\2\2\2\2\4\4\4\4\4\4\x88\xE5\0\0\0\0\0\1\x08\x00", 22 },  /* signed by MACsec */
        { "\2\2\2\2\2\2\4\4\4\4\4\4\x88\xE5\x20\0\0\0\0\1\0\0\0\0\0\0\0\0\x08\x00", 30 },
        { "\2\2\2\2\2\2\4\4\4\4\4\4\x89\x4F\0\2\2\1\0\0\1\xFF", 22 }     /* NSH */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_bytes(&b, rows[i].header, rows[i].len);
        put_segment("hello");
        heard.len = 0;
        push(1);
        if (strcmp(heard.text, SEGMENT) != 0)
            fail_msg("row %zu: %s", i, heard.text);
    }
}

static void
a_header_that_is_shorter_than_itself_leads_nowhere(void **state)
{
    static const struct { int link; const char *header; size_t len; } rows[] = {
        { 192, "\0\0\4\0\x65\0\0\0", 8 },
        { 163, "\x80\x21\x10\x01\0\0\0\4", 8 },
        { 127, "\0\0\2\0", 4 }
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char wanted[48];
        heard.len = 0;
        put_bytes(&b, rows[i].header, rows[i].len);
        put_segment("hello");
        push(rows[i].link);
        snprintf(wanted, sizeof wanted, "remark packet-bad at %zu\n", i + 1);
        if (strcmp(heard.text, wanted) != 0)
            fail_msg("row %zu: %s", i, heard.text);
    }
}

static void
what_cannot_be_read_is_counted_by_its_name(void **state)
{
    static const struct { struct tunnel t; const char *what; } rows[] = {
        { { 50, 0, "\0\0\0\7\0\0\0\1", 8 }, "IPsec (ESP)" },
        { { 108, 0, "\6\0\0\2", 4 }, "IP compression" },
        { { 115, 0, "\0\0\0\7", 4 }, "L2TP version 3" },
        { { 0, 4500, "\0\0\0\7\0\0\0\1", 8 }, "IPsec (ESP in UDP)" },
        { { 0, 51820, "\4\0\0\0\0\0\0\7\0\0\0\0\0\0\0\1\0\0\0", 19 }, "WireGuard" },
        { { 0, 1194, "\x48\0\0\7", 4 }, "OpenVPN" },
        { { 0, 4755, "\x17\xFE\xFD\0", 4 }, "a tunnel in DTLS" },
        { { 0, 5247, "\0\x10\2\0", 4 }, "CAPWAP" },
        { { 47, 0, "\x30\x01\x88\x0B\0\x31\0\7\0\0\0\1\0\xFD", 14 },
            "PPP that is compressed or encrypted" }
    };
    size_t n = sizeof rows / sizeof *rows;
    (void)state;
    for (size_t i = 0; i < 2 * n; i++) {
        put_tunnel(&rows[i % n].t, 45);
        put_segment("hello");
        push(101);
    }
    for (size_t i = 0; i < n; i++) {
        const struct packet_unread *u = packet_unread_at(reader, i);
        assert_non_null(u);
        assert_string_equal(u->what, rows[i].what);
        assert_int_equal(u->packets, 2);
        assert_int_equal(u->frame, i + 1);
    }
    assert_null(packet_unread_at(reader, n));
    assert_null(strstr(heard.text, "tcp"));
}

static void
a_question_from_the_port_of_a_tunnel_is_a_question(void **state)
{
    (void)state;
    put_ipv4(&b, 17, 8 + 30, 0, 1);
    put_bytes(&b, "\x00\x35\x12\xB5\x00\x26\0\0\x08\x00", 10);
    put_fill(&b, 'a', 28);
    push(101);
    assert_memory_equal(heard.text, "udp 192.0.2.1:53>192.0.2.2:4789", 31);
}

/* The bytes of the datagram that a walk is inside of must not go while it is. */
static void
fragments_inside_of_fragments_do_no_harm(void **state)
{
    unsigned char inner[28];
    (void)state;
    for (unsigned id = 1; id < 200; id++) {
        put_fragment(0, 8, true, 1000 + id);
        memcpy(inner, b.at, sizeof inner);
        b.len = 0;
        put_ipv4(&b, 4, 24, 0x2000, id);
        put_bytes(&b, inner, 24);
        push(101);
        put_ipv4(&b, 4, 4, 3, id);
        put_bytes(&b, inner + 24, 4);
        push(101);
    }
    assert_null(strstr(heard.text, "packet-bad"));
    assert_non_null(strstr(heard.text, "fragment-lost"));
}

static void
udp_is_handed_on(void **state)
{
    (void)state;
    put_ipv4(&b, 17, 8 + 3, 0, 1);
    put_bytes(&b, "\x00\x35\x12\x34\x00\x0B\0\0abc", 11);
    push(101);
    assert_string_equal(heard.text, "udp 192.0.2.1:53>192.0.2.2:4660 'abc'3\n");
}

static void
an_unknown_link_layer_is_remarked(void **state)
{
    (void)state;
    put_fill(&b, 0, 60);
    push(160);
    assert_string_equal(heard.text, "remark link-unknown at 1\n");
    put_bytes(&b, "\x08\x41\0\0", 4);         /* 802.11, protected */
    put_fill(&b, 2, 40);
    push(105);
    assert_string_equal(packet_unread_at(reader, 0)->what, "802.11 that is encrypted");
}

static void
peeking_sees_the_same_ends(void **state)
{
    struct packet out[2];
    struct frame f[2] = { { .link = 1 }, { .link = 101 } };
    (void)state;
    put_ethernet(&b, 0x0800);
    put_segment("hello");
    f[0].bytes = guarded(b.at, b.len);
    f[0].captured = f[0].length = b.len;
    assert_int_equal(packet_peek(f, 2, out), 1);  /* the other one is empty */
    assert_int_equal(out[0].source_port, 40000);
    assert_int_equal(out[0].target_port, 5269);
    assert_int_equal(out[0].target.bytes[3], 2);
    for (size_t cut = 0; cut < b.len; cut++) {
        f[0].bytes = guarded(b.at, cut);
        f[0].captured = cut;
        packet_peek(f, 1, out);
    }
}

static void
addresses_are_written_as_rfc_5952_says(void **state)
{
    static const struct { const char *bytes; const char *text; } rows[] = {
        { "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "::" },
        { "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", "::1" },
        { "\x20\1\x0D\xB8\0\0\0\1\0\0\0\0\0\0\0\0", "2001:db8:0:1::" },
        { "\x20\1\x0D\xB8\0\0\0\1\0\1\0\1\0\1\0\1", "2001:db8:0:1:1:1:1:1" },
        { "\x20\1\0\0\0\0\0\1\0\0\0\0\0\0\0\1", "2001:0:0:1::1" },
        { "\xFE\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x0A", "fe80::a" },
    };
    char out[46];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct address a = { .family = 6 };
        memcpy(a.bytes, rows[i].bytes, 16);
        assert_string_equal(address_text(&a, out, sizeof out), rows[i].text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_link_layer_leads_to_the_segment), TEST(a_frame_cut_anywhere_does_no_harm),
        TEST(padding_of_the_link_layer_is_not_content),
        TEST(a_snaplen_leaves_the_length_on_the_wire),
        TEST(segmentation_offload_writes_a_length_of_zero), TEST(a_huge_segment_is_one_packet),
        TEST(wrong_checksums_are_remarked_and_then_taken_for_offload),
        TEST(headers_that_make_no_sense_are_remarked),
        TEST(ipv6_extension_headers_are_stepped_over),
        TEST(endless_headers_come_to_an_end), TEST(fragments_are_put_together_in_any_order),
        TEST(ipv6_fragments_are_put_together), TEST(overlapping_fragments_keep_what_came_first),
        TEST(incomplete_datagrams_are_remarked_at_the_end),
        TEST(many_incomplete_datagrams_push_out_the_oldest),
        TEST(impossible_fragments_are_remarked),
        TEST(icmp_errors_name_the_connection), TEST(icmpv6_errors_name_the_connection),
        TEST(tunnels_are_looked_into), TEST(ipv6_goes_through_ipv4_and_the_other_way),
        TEST(frames_in_frames_are_looked_into), TEST(what_cannot_be_read_is_counted_by_its_name),
        TEST(a_header_that_is_shorter_than_itself_leads_nowhere),
        TEST(a_question_from_the_port_of_a_tunnel_is_a_question),
        TEST(fragments_inside_of_fragments_do_no_harm), TEST(udp_is_handed_on),
        TEST(an_unknown_link_layer_is_remarked),
        TEST(peeking_sees_the_same_ends), TEST(addresses_are_written_as_rfc_5952_says)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
