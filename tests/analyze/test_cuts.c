/* test_cuts.c -- where segments end means nothing: the same conversation, cut everywhere
 *
 * Conversations (plain, STARTTLS and direct TLS 1.2 and 1.3 with their keys and without, DNS over
 * TCP) go through all stages from TCP up: as they are, in pieces of a few bytes, and cut in two at
 * every single byte, the two parts in order and the other way round.  All that is known of them in
 * the end has to be the same: events, frames, TLS and counts.
 */
#define main analyze_main
#include "../../analyze/analyze.c"
#undef main

#include "lower.h"

#include <setjmp.h>
#include <cmocka.h>

#define FIXTURES "tests/analyze/tls/"

enum { SEGMENTS_MAX = 64, PORT_MAX = 3 };

struct segment {
    int           side;
    unsigned      flags;
    unsigned char at[1500];
    size_t        len;
    uint64_t      frame;
    int64_t       time_ns;
};

struct conversation {
    struct segment segment[SEGMENTS_MAX];
    size_t         count;
    size_t         total;       /* bytes of content */
    uint16_t       port;        /* of the responder */
    const char    *keys;        /* path; NULL: none */
};

/* How it is replayed; zero: as it is. */
struct replay {
    size_t step;                /* pieces of so many bytes; 0: whole segments */
    size_t cut;                 /* the segment with this byte of the conversation is cut there */
    bool   swapped;             /* the second part of that one comes first */
};

static struct conversation talk;
static struct transcript *heard;

static void
talk_add(struct conversation *c, int side, unsigned flags, const void *at, size_t len)
{
    struct segment *s = &c->segment[c->count++];
    assert_true(c->count <= SEGMENTS_MAX && len <= sizeof s->at);
    s->side = side;
    s->flags = flags;
    memcpy(s->at, at, len);
    s->len = len;
    s->frame = c->count;
    s->time_ns = 1000000000000 + (int64_t)c->count * 1000000;
    c->total += len;
}

static void
talk_begin(struct conversation *c, uint16_t port)
{
    memset(c, 0, sizeof *c);
    c->port = port;
    talk_add(c, 0, TCP_SYN, "", 0);
    talk_add(c, 1, TCP_SYN | TCP_ACK, "", 0);
    talk_add(c, 0, TCP_ACK, "", 0);
}

static void
talk_end(struct conversation *c)
{
    talk_add(c, 0, TCP_FIN | TCP_ACK, "", 0);
    talk_add(c, 1, TCP_FIN | TCP_ACK, "", 0);
    talk_add(c, 0, TCP_ACK, "", 0);
}

/* ---- captures of this folder ---- */

static void
read_packet(void *user, const struct packet *p)
{
    struct conversation *c = user;
    if (c->port == 0)
        c->port = p->target_port;
    talk_add(c, p->source_port == c->port, p->flags, p->payload, p->captured);
}

static void
read_frame(void *user, const struct frame *f)
{
    packet_push(*(struct packet_reader **)user, f);
}

static void
talk_read(struct conversation *c, const char *name, uint16_t port, bool with_keys)
{
    static const struct capture_events frames = { .frame = read_frame };
    static const struct packet_events packets = { .packet = read_packet };
    static char keys[100];
    char path[100];
    char why[200];
    memset(c, 0, sizeof *c);
    struct packet_reader *r = packet_new(&packets, c);
    struct capture_options o = { .filter = NULL };
    struct capture *capture = capture_new(&o, &frames, &r, why, sizeof why);
    snprintf(path, sizeof path, FIXTURES "%s.pcap", name);
    assert_true(capture_add_file(capture, path, why, sizeof why));
    while (capture_push(capture, 100) != CAPTURE_DONE) {
    }
    capture_free(capture);
    packet_free(r);
    assert_true(c->count > 10);
    c->port = port != 0 ? port : c->port;
    snprintf(keys, sizeof keys, FIXTURES "%s.keys", name);
    c->keys = with_keys ? keys : NULL;
}

/* ---- replaying ---- */

static void
push_part(struct pump *p, const struct conversation *c, const struct segment *s,
    const uint32_t next[2], size_t from, size_t to)
{
    static const struct address ends[2] = { { { 192, 0, 2, 1 }, 4 }, { { 192, 0, 2, 2 }, 4 } };
    static uint16_t id;
    const uint16_t ports[2] = { 40000, c->port };
    struct frame f = { .number = s->frame, .time_ns = s->time_ns };
    struct packet packet = { .frame = &f,
        .kind = PACKET_TCP,
        .source = ends[s->side],
        .target = ends[!s->side],
        .source_port = ports[s->side],
        .target_port = ports[!s->side],
        .seq = next[s->side] + (uint32_t)from,
        .ack = (s->flags & TCP_ACK) != 0 ? next[!s->side] : 0,
        .flags = (uint8_t)s->flags,
        .captured = to - from,
        .length = to - from };
    packet.ip_id = ++id != 0 ? id : ++id;
    packet.payload = guarded(s->at + from, to - from);
    pump_packet(p, &packet);
}

static void
push_segment(struct pump *p, const struct conversation *c, const struct segment *s,
    const uint32_t next[2], size_t before, const struct replay *how)
{
    if (how->cut > before && how->cut < before + s->len) {
        size_t cut = how->cut - before;
        push_part(p, c, s, next, how->swapped ? cut : 0, how->swapped ? s->len : cut);
        push_part(p, c, s, next, how->swapped ? 0 : cut, how->swapped ? cut : s->len);
        return;
    }
    size_t step = how->step != 0 ? how->step : s->len;
    size_t from = 0;
    do {
        size_t to = s->len - from < step ? s->len : from + step;
        push_part(p, c, s, next, from, to);
        from = to;
    } while (from < s->len);
}

static void
push_all(struct pump *p, const struct conversation *c, const struct replay *how)
{
    uint32_t next[2] = { 1000, 0xFFFFFF00 };     /* the responder's numbers wrap */
    size_t before = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct segment *s = &c->segment[i];
        push_segment(p, c, s, next, before, how);
        next[s->side] += (uint32_t)s->len + ((s->flags & (TCP_SYN | TCP_FIN)) != 0 ? 1u : 0);
        before += s->len;
    }
}

/* ---- what is known in the end ---- */

static void
say_tls(struct transcript *t, const struct attempt *a)
{
    const struct tls_view *v = &a->tls;
    say(t, "tls %d%d%d%d%d%d %04x %04x alert %d %d proof %s %s closed %s sni %s alpn %s\n",
        v->client_hello, v->server_hello, v->established, v->decrypted, v->close_notify[0],
        v->close_notify[1], (unsigned)v->version, (unsigned)v->cipher, v->alert_side, v->alert,
        tls_proof_word(v->proof), v->proof_how, v->why_closed, a->sni, a->alpn);
    say(t, "hello %llu %llu finished %llu records %llu %llu bytes %llu %llu\n",
        (unsigned long long)v->hello_frame, (unsigned long long)v->server_hello_frame,
        (unsigned long long)v->finished_frame, (unsigned long long)v->app_records[0],
        (unsigned long long)v->app_records[1], (unsigned long long)v->app_bytes[0],
        (unsigned long long)v->app_bytes[1]);
    for (unsigned i = 0; i < a->nrecords && i < ATTEMPT_RECORDS_MAX; i++)
        say(t, "record %u side %u length %u frame %llu\n", a->records[i].type, a->records[i].side,
            a->records[i].length, (unsigned long long)a->records[i].frame);
}

static void
say_attempt(struct transcript *t, const struct attempt *a)
{
    say(t, "from %s to %s id %s features %s headers %u %u plain %u %u xmpp %d bad %d\n", a->from,
        a->to, a->id, a->features, a->headers[0], a->headers[1], a->plain_headers[0],
        a->plain_headers[1], a->is_xmpp, a->xml_bad_side);
    say(t, "error %d %s '%s' auth %d success %d failure %d\n", a->error_side, a->error,
        a->error_text, a->auth_sent, a->sasl_success, a->sasl_failure);
    for (int i = 0; i < 2; i++)
        say(t, "side %d: %llu bytes, stanzas %llu %llu %llu, end %d\n", i,
            (unsigned long long)a->flow.side[i].bytes, (unsigned long long)a->stanzas[i][0],
            (unsigned long long)a->stanzas[i][1], (unsigned long long)a->stanzas[i][2],
            a->stream_end[i]);
    for (unsigned i = 0; i < a->ndialbacks; i++)
        say(t, "dialback %d side %d answer %d %s %s %s at %llu\n", a->dialbacks[i].verify,
            a->dialbacks[i].side, (int)a->dialbacks[i].answer, a->dialbacks[i].from,
            a->dialbacks[i].to, a->dialbacks[i].id,
            (unsigned long long)a->dialbacks[i].answered_frame);
    for (unsigned i = 0; i < a->nevents; i++) {
        const struct event *e = &a->events[i];
        say(t, "event %d %d side %d frame %llu at %lld '%s' '%s' '%s' '%s'\n", (int)e->kind,
            (int)e->element, e->side, (unsigned long long)e->frame, (long long)e->time_ns, e->from,
            e->to, e->what, e->text);
    }
    if (a->tls.client_hello)
        say_tls(t, a);
}

static void
say_dns(struct transcript *t, const struct pump *p)
{
    size_t n;
    const struct dns_fact *f = dns_facts(p->dns, &n);
    say(t, "dns %llu messages\n", (unsigned long long)p->dns_messages);
    for (size_t i = 0; i < n; i++)
        say(t, "%s %s %s for %s, %u targets, asked %u answered %u, frames %llu %llu\n",
            dns_type_word(f[i].type), f[i].name, dns_result_word(f[i].result), f[i].domain,
            f[i].ntargets, f[i].asked, f[i].answered, (unsigned long long)f[i].query_frame,
            (unsigned long long)f[i].answer_frame);
}

static void
push_keys(struct pump *p, const char *path)
{
    char text[4096];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    pump_keys(p, text, fread(text, 1, sizeof text, f));
    fclose(f);
}

/* Instead of judging it, which is much more work than reading it. */
static void
hear_closed(void *user, struct flow *f)
{
    struct watch *w = f->user;
    (void)user;
    if (w == NULL)
        return;
    xmpp_close(w->xmpp);
    w->xmpp = NULL;
    if (w->attempt != NULL) {
        w->attempt->flow = *f;
        say_attempt(heard, w->attempt);
    }
    pump_drop(w);
    f->user = NULL;
}

static void
hear_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    (void)user;
    say(heard, "remark %s at %llu: %s\n", remark_word(r), (unsigned long long)frame, detail);
}

static void
replay(struct transcript *t, const struct conversation *c, const struct replay *how)
{
    static const struct flow_events news = { pump_opened, pump_data, pump_gap, hear_closed,
        hear_remark, pump_turned };
    static struct options o;
    struct pump p;
    memset(&p, 0, sizeof p);
    p.o = &o;
    p.dns = dns_new();
    p.keys = tls_keys_new();
    p.certs = tls_certs_new();
    p.flows = flow_new(NULL, &news, &p);
    heard = t;
    t->len = 0;
    t->text[0] = '\0';
    if (c->keys != NULL)
        push_keys(&p, c->keys);
    push_all(&p, c, how);
    flow_end(p.flows);
    say_dns(t, &p);
    run_free(&p);
}

static void
must_be_same(const struct transcript *got, const struct transcript *want, const struct replay *how)
{
    if (got->len == want->len && memcmp(got->text, want->text, want->len) == 0)
        return;
    size_t i = 0;
    while (i < want->len && got->text[i] == want->text[i])
        i++;
    while (i > 0 && want->text[i - 1] != '\n')
        i--;
    fail_msg("step %zu cut %zu%s: wanted\n%.300s\ngot\n%.300s", how->step, how->cut,
        how->swapped ? " swapped" : "", want->text + i, got->text + i);
}

/* Everything there is of `talk`; `what` must be in it.  Every so many cuts the parts are
 * swapped too. */
static void
cut_everywhere(const char *what, size_t swap_stride)
{
    static const size_t steps[] = { 1, 2, 3, 5, 17, 100 };
    static struct transcript want, got;
    struct replay how = { 0 };
    replay(&want, &talk, &how);
    if (strstr(want.text, what) == NULL)
        fail_msg("'%s' is not in\n%s", what, want.text);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        how.step = steps[i];
        replay(&got, &talk, &how);
        must_be_same(&got, &want, &how);
    }
    how.step = 0;
    for (how.cut = 1; how.cut < talk.total; how.cut++) {
        how.swapped = false;
        replay(&got, &talk, &how);
        must_be_same(&got, &want, &how);
        if (how.cut % swap_stride != 0)
            continue;
        how.swapped = true;
        replay(&got, &talk, &how);
        must_be_same(&got, &want, &how);
    }
}

/* ---- the conversations ---- */

#define BARE(from, to, more) "<stream:stream xmlns='jabber:server' " \
    "xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' " \
    "version='1.0' from='" from "' to='" to "'" more ">"
#define HEAD(from, to, more) "<?xml version='1.0'?>" BARE(from, to, more)

/* "> bytes" and "< bytes", a line each. */
static void
talk_lines(struct conversation *c, uint16_t port, const char *lines)
{
    talk_begin(c, port);
    for (; *lines != '\0'; lines += strcspn(lines, "\n") + 1)
        talk_add(c, lines[0] == '<', TCP_PSH | TCP_ACK, lines + 2, strcspn(lines, "\n") - 2);
    talk_end(c);
}

static const char dialback[] =
    "> " HEAD("a.example", "b.example", "") "\n"
    "< " HEAD("b.example", "a.example", " id='x1'") "\n"
    "< <stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>\n"
    "> <db:result from='a.example' to='b.example'>0123</db:result>\n"
    "< <db:result from='b.example' to='a.example' type='valid'/>\n"
    "> <message from='u@a.example' to='v@b.example'><body>&lt;\xC3\xA4</body></message>\n"
    ">  \n"
    "> <presence from='u@a.example' to='v@b.example'/><iq from='a.example' to='b.example' id='1' "
    "type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>\n"
    "> </stream:stream>\n"
    "< </stream:stream>\n";

static const char refusal[] = "> " HEAD("a.example", "b.example",
    "") "\n"
        "< " HEAD("b.example", "a.example",
    " id='x1'") "<stream:error><host-unknown "
                        "xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>"
                        "nobody of this name</text></stream:error></stream:stream>\n";

static void
plain_dialback_may_be_cut_anywhere(void **state)
{
    (void)state;
    talk_lines(&talk, 5269, dialback);
    cut_everywhere("end 1\ndialback 0 side 0 answer 1 a.example b.example x1 at 8\n", 1);
}

static void
a_plain_stream_is_found_on_any_port_wherever_it_is_cut(void **state)
{
    (void)state;
    talk_lines(&talk, 7777, dialback);
    cut_everywhere("from a.example to b.example id x1", 1);
}

static void
a_refusal_may_be_cut_anywhere(void **state)
{
    (void)state;
    talk_lines(&talk, 5269, refusal);
    cut_everywhere("error 1 host-unknown 'nobody of this name'", 1);
}

static void
what_is_no_xmpp_may_be_cut_anywhere(void **state)
{
    (void)state;
    talk_lines(&talk, 5269,
        "> " HEAD("a.example", "b.example", "") "\n< HTTP/1.1 400 Bad Request\n");
    cut_everywhere("error -1", 1);
    talk_lines(&talk, 5269, "> " HEAD("a.example", "b.example", "") "\n< \x15\x03\x01\n");
    cut_everywhere("error -1", 1);
    talk_lines(&talk, 7777, "> GET / HTTP/1.1\n< HTTP/1.1 200 OK\n> <html>\n");
    cut_everywhere("dns 0 messages", 1);
}

/* Without the XML declaration, and with blanks between elements. */
static void
a_stream_that_begins_again_may_be_cut_anywhere(void **state)
{
    static const char lines[] =
        "> " BARE("a.example", "b.example", "") "\n"
        "< " BARE("b.example", "a.example", " id='x1'") "<stream:features>"
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>"
        "</mechanisms></stream:features> \n"
        "> <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth> \n"
        "<  <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\n"
        "> " BARE("a.example", "b.example", "") "\n"
        "< " BARE("b.example", "a.example", " id='x2'") "<stream:features/>\n"
        "> <message from='u@a.example' to='v@b.example'/></stream:stream>\n";
    (void)state;
    talk_lines(&talk, 5269, lines);
    cut_everywhere("from a.example to b.example id x2", 1);
}

static void
starttls_may_be_cut_anywhere(void **state)
{
    (void)state;
    talk_read(&talk, "xmpp-starttls-12", 0, true);
    cut_everywhere("auth 1 success 1 failure 0", 5);
    talk_read(&talk, "xmpp-starttls-13", 0, true);
    cut_everywhere("auth 1 success 1 failure 0", 5);
}

static void
direct_tls_may_be_cut_anywhere(void **state)
{
    (void)state;
    talk_read(&talk, "xmpp-direct-12", 0, true);
    cut_everywhere("auth 1 success 1 failure 0", 5);
    talk_read(&talk, "xmpp-direct-13", 0, true);
    cut_everywhere("auth 1 success 1 failure 0", 5);
}

static void
tls_without_keys_may_be_cut_anywhere(void **state)
{
    (void)state;
    talk_read(&talk, "xmpp-starttls-12", 0, false);
    cut_everywhere("proof proven", 5);
    talk_read(&talk, "xmpp-direct-13", 7777, false);
    cut_everywhere("alpn xmpp-server", 5);
}

static void
dns_over_tcp_may_be_cut_anywhere(void **state)
{
    static const unsigned char question[] = "\0\7\1\0\0\1\0\0\0\0\0\0"
        "\x0c_xmpp-server\4_tcp\1b\7example\0\0\x21\0\1";
    static const unsigned char answer[] = "\0\7\x81\x80\0\1\0\1\0\0\0\0"
        "\x0c_xmpp-server\4_tcp\1b\7example\0\0\x21\0\1"
        "\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x11\0\5\0\0\x14\x95\1h\7example\0";
    unsigned char bytes[300];
    (void)state;
    talk_begin(&talk, 53);
    for (unsigned i = 0; i < 2; i++) { /* two questions on one connection, in one segment each */
        bytes[0] = 0;
        bytes[1] = sizeof question - 1;
        memcpy(bytes + 2, question, sizeof question - 1);
        talk_add(&talk, 0, TCP_PSH | TCP_ACK, bytes, sizeof question + 1);
        bytes[1] = sizeof answer - 1;
        memcpy(bytes + 2, answer, sizeof answer - 1);
        memcpy(bytes + sizeof answer + 1, bytes, sizeof answer + 1);
        talk_add(&talk, 1, TCP_PSH | TCP_ACK, bytes, (sizeof answer + 1) * (1 + i));
    }
    talk_end(&talk);
    cut_everywhere("SRV _xmpp-server._tcp.b.example found for b.example, 1 targets, asked 2 "
        "answered 3, frames 4 7", 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_dialback_may_be_cut_anywhere),
        cmocka_unit_test(a_plain_stream_is_found_on_any_port_wherever_it_is_cut),
        cmocka_unit_test(a_refusal_may_be_cut_anywhere),
        cmocka_unit_test(what_is_no_xmpp_may_be_cut_anywhere),
        cmocka_unit_test(a_stream_that_begins_again_may_be_cut_anywhere),
        cmocka_unit_test(starttls_may_be_cut_anywhere),
        cmocka_unit_test(direct_tls_may_be_cut_anywhere),
        cmocka_unit_test(tls_without_keys_may_be_cut_anywhere),
        cmocka_unit_test(dns_over_tcp_may_be_cut_anywhere),
    };
    return cmocka_run_group_tests_name("cuts", tests, NULL, NULL);
}
