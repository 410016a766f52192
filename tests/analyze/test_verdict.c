/* test_verdict.c -- xmpp.c, dns.c and verdict.c without a capture
 *
 * A connection is a text: lines "> bytes" and "< bytes" are what caller and called say, "+ SECONDS"
 * lets time pass. The rows of the table are: how the connection began and ended, what was said,
 * what is expected of it.
 */
#include "../../analyze/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000000000LL

static void
check(bool ok, const char *name, const char *what, const char *got)
{
    if (!ok)
        fail_msg("%s: %s, got %s", name, what, got);
}

/* ---- making flows ---- */

static struct address
addr(unsigned a, unsigned b, unsigned c, unsigned d)
{
    struct address x;
    memset(&x, 0, sizeof x);
    x.family = 4;
    x.bytes[0] = (unsigned char)a;
    x.bytes[1] = (unsigned char)b;
    x.bytes[2] = (unsigned char)c;
    x.bytes[3] = (unsigned char)d;
    return x;
}

#define EDGE  addr(203, 0, 113, 10)
#define INNER addr(10, 0, 0, 5)
#define GATE  addr(10, 0, 0, 7)
#define PEER  addr(198, 51, 100, 20)

static struct flow
flow_between(struct address from, struct address to, uint16_t port)
{
    static uint64_t number;
    struct flow f;
    memset(&f, 0, sizeof f);
    f.number = ++number;
    f.side[0].address = from;
    f.side[1].address = to;
    f.side[0].port = 40000;
    f.side[1].port = port;
    f.first_frame = f.syn_frame = number * 100;
    f.synack_frame = number * 100 + 1;
    f.first_ns = SECOND * 1000;
    f.last_ns = f.first_ns + SECOND / 10;
    f.synack_ns = f.first_ns + 1000;
    f.established = true;
    f.side[0].syns = f.side[1].syns = 1;
    f.side[0].packets = f.side[1].packets = 4;
    f.evidence = EVIDENCE_SYN;
    f.end = FLOW_FIN;
    return f;
}

/* Says `talk` on a new connection; `step` bytes at a time, 0: whole lines. */
static struct attempt *
talk_on(struct flow *f, const char *talk, size_t step)
{
    struct attempt *a = attempt_new(f);
    struct xmpp *x = xmpp_open(a, true, NULL, NULL, NULL, NULL);
    int64_t now = f->first_ns + 2000;
    uint64_t frame = f->first_frame + 2;
    while (*talk != '\0') {
        size_t n = strcspn(talk, "\n");
        int side = talk[0] == '<';
        size_t i;
        if (talk[0] == '+') {
            now += SECOND * strtol(talk + 1, NULL, 10);
        } else {
            for (i = 2; i < n; i += step == 0 ? n : step) {
                size_t part = step == 0 || n - i < step ? n - i : step;
                unsigned char *copy =
                    malloc(part); /* of its own, so that a sanitizer sees the end */
                memcpy(copy, talk + i, part);
                xmpp_push(x, side, copy, part, frame, now);
                free(copy);
            }
            f->side[side].bytes += n - 2;
            now += 1000000;
            frame++;
        }
        talk += n + (talk[n] == '\n');
    }
    xmpp_close(x);
    if (now > f->last_ns)
        f->last_ns = now;
    a->flow = *f;
    return a;
}

static struct verdict_options
edge_options(void)
{
    struct verdict_options o;
    memset(&o, 0, sizeof o);
    o.external[0] = EDGE;
    o.internal[0] = INNER;
    o.nexternal = o.ninternal = 1;
    o.external_known = o.internal_known = KNOWN_OPTION;
    return o;
}

/* ---- streams ---- */
#define HEAD(from, to) "<?xml version='1.0'?><stream:stream xmlns='jabber:server' " \
    "xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' " \
    "version='1.0' from='" from "' to='" to "'"
#define CALL   "> " HEAD("a.example", "b.example") ">\n"
#define ANSWER "< " HEAD("b.example", "a.example") " id='x1'>"
#define DIALBACK "<dialback xmlns='urn:xmpp:features:dialback'/>"
#define TLS "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
#define TLS_MUST "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
#define FEATURES(what) "<stream:features>" what "</stream:features>\n"
#define KEY    "> <db:result from='a.example' to='b.example'>0123</db:result>\n"
#define VALID  "< <db:result from='b.example' to='a.example' type='valid'/>\n"
#define NOTE   "> <message from='u@a.example' to='v@b.example'><body>secret</body></message>\n"
#define BYE    "> </stream:stream>\n< </stream:stream>\n"
#define ERROR(side, condition, text)                                                               \
    side " <stream:error><" condition " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"             \
         "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>" text                                 \
         "</text></stream:error></stream:stream>\n"
#define SASL_FAIL(text)                                                                            \
    "< <failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>" text             \
    "</text></failure>\n"
#define AUTH "> <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>\n"

static const struct stream_case {
    const char  *name;
    const char  *talk;
    enum outcome outcome;
    enum cause   cause;
    enum reach   reach;
} streams[] = {
    { "works", CALL ANSWER FEATURES(DIALBACK) KEY VALID NOTE BYE, OUTCOME_WORKED, CAUSE_NONE,
        REACH_STANZAS },
    { "host unknown", CALL ANSWER "\n" ERROR("<", "host-unknown", ""), OUTCOME_FAILED,
        CAUSE_HOST_UNKNOWN, REACH_STREAM },
    { "host gone", CALL ANSWER "\n" ERROR("<", "host-gone", ""), OUTCOME_FAILED, CAUSE_HOST_UNKNOWN,
        REACH_STREAM },
    { "no TLS offered",
        CALL ANSWER FEATURES(DIALBACK) "> " TLS "\n" ERROR("<", "unsupported-stanza-type", ""),
        OUTCOME_FAILED, CAUSE_TLS_NOT_OFFERED, REACH_STREAM },
    { "TLS failure",
        CALL ANSWER FEATURES(TLS) "> " TLS "\n"
        "< <failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\n",
        OUTCOME_FAILED, CAUSE_TLS_REFUSED, REACH_STREAM },
    { "TLS required",
        CALL ANSWER FEATURES(TLS_MUST DIALBACK)
            KEY ERROR("<", "policy-violation", "Use of STARTTLS required"),
        OUTCOME_FAILED, CAUSE_TLS_REQUIRED, REACH_STREAM },
    { "TLS required, silence", CALL ANSWER FEATURES(TLS_MUST DIALBACK) KEY "+ 30\n" BYE,
        OUTCOME_FAILED, CAUSE_TLS_REQUIRED, REACH_STREAM },
    { "caller leaves, no TLS", CALL ANSWER FEATURES(DIALBACK) "> </stream:stream>\n",
        OUTCOME_FAILED, CAUSE_TLS_NOT_OFFERED, REACH_STREAM },
    { "dialback invalid",
        CALL ANSWER FEATURES(DIALBACK) KEY
        "< <db:result from='b.example' to='a.example' type='invalid'/>\n",
        OUTCOME_FAILED, CAUSE_DIALBACK_INVALID, REACH_STREAM },
    { "dialback error",
        CALL ANSWER FEATURES(DIALBACK) KEY
        "< <db:result from='b.example' to='a.example' type='error'>"
        "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "</error></db:result>\n" BYE,
        OUTCOME_FAILED, CAUSE_DIALBACK_ERROR, REACH_STREAM },
    { "dialback unanswered", CALL ANSWER FEATURES(DIALBACK) KEY "+ 60\n" BYE, OUTCOME_FAILED,
        CAUSE_DIALBACK_TIMEOUT, REACH_STREAM },
    { "remote connection failed",
        CALL ANSWER FEATURES(DIALBACK) KEY ERROR("<", "remote-connection-failed", ""),
        OUTCOME_FAILED, CAUSE_DIALBACK_UNREACHABLE, REACH_STREAM },
    { "SASL expired", CALL ANSWER FEATURES("") AUTH SASL_FAIL("certificate has expired"),
        OUTCOME_FAILED, CAUSE_CERT_EXPIRED, REACH_STREAM },
    { "SASL other", CALL ANSWER FEATURES("") AUTH SASL_FAIL("no"), OUTCOME_FAILED,
        CAUSE_SASL_REFUSED, REACH_STREAM },
    { "SASL crash", CALL ANSWER FEATURES("") AUTH "< </stream:stream>\n", OUTCOME_FAILED,
        CAUSE_CRASH, REACH_STREAM },
    { "SASL setback",
        CALL ANSWER FEATURES(DIALBACK) AUTH SASL_FAIL("self signed certificate") KEY VALID NOTE BYE,
        OUTCOME_WORKED, CAUSE_NONE, REACH_STANZAS },
    { "wrong namespace",
        "> <stream:stream xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>\n" ANSWER
        "\n" ERROR("<", "invalid-namespace", ""),
        OUTCOME_FAILED, CAUSE_BAD_NAMESPACE, REACH_STREAM },
    { "web server", CALL "< HTTP/1.1 400 Bad Request\n", OUTCOME_FAILED, CAUSE_NOT_XMPP,
        REACH_TCP },
    { "silent", CALL "+ 90\n" ERROR(">", "connection-timeout", ""), OUTCOME_FAILED,
        CAUSE_SILENT_PEER, REACH_TCP },
    { "malformed",
        CALL ANSWER FEATURES(DIALBACK) KEY VALID
        "> <message><body></message>\n" ERROR("<", "not-well-formed", ""),
        OUTCOME_FAILED, CAUSE_XML_MALFORMED, REACH_AUTH },
    { "too big",
        CALL ANSWER FEATURES(DIALBACK)
            KEY VALID NOTE ERROR("<", "policy-violation", "XML stanza is too big"),
        OUTCOME_FAILED, CAUSE_TOO_BIG, REACH_STANZAS },
    { "idle end",
        CALL ANSWER FEATURES(DIALBACK) KEY VALID NOTE
        "+ 600\n" ERROR("<", "connection-timeout", "Idle connection"),
        OUTCOME_WORKED, CAUSE_NONE, REACH_STANZAS },
    { "shutdown", CALL ANSWER FEATURES(DIALBACK) KEY VALID ERROR("<", "system-shutdown", ""),
        OUTCOME_WORKED, CAUSE_NONE, REACH_AUTH },
    { "limit", CALL ANSWER "\n" ERROR("<", "resource-constraint", ""), OUTCOME_FAILED, CAUSE_LIMIT,
        REACH_STREAM },
    { "verify only",
        CALL ANSWER FEATURES(DIALBACK)
        "> <db:verify from='a.example' to='b.example' id='q'>1</db:verify>\n"
        "< <db:verify from='b.example' to='a.example' id='q' type='invalid'/>\n" BYE,
        OUTCOME_WORKED, CAUSE_NONE, REACH_AUTH },
};

static struct attempt *
copy_judged(struct judge *j, struct attempt *a)
{
    struct report *r;
    judge_push(j, a);
    r = judge_end(j);
    return r->nattempts > 0 ? r->attempts[r->nattempts - 1] : NULL;
}

static void
what_was_said_names_the_cause(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    size_t i;
    for (i = 0; i < sizeof streams / sizeof *streams; i++) {
        const struct stream_case *c = &streams[i];
        struct flow f = flow_between(PEER, EDGE, 5269);
        struct judge *j = judge_new(&o, NULL);
        struct attempt *a = copy_judged(j, talk_on(&f, c->talk, 0));
        check(a->verdict->outcome == c->outcome, c->name, outcome_word(c->outcome),
            outcome_word(a->verdict->outcome));
        check(a->verdict->cause == c->cause, c->name, cause_row(c->cause)->word,
            cause_row(a->verdict->cause)->word);
        check(a->verdict->reached == c->reach, c->name, reach_word(c->reach),
            reach_word(a->verdict->reached));
        check(a->verdict->row == ROW_IN, c->name, "row in", row_word(a->verdict->row));
        check(a->verdict->story[0] != '\0', c->name, "a story", "none");
        judge_free(j);
    }
}

/* Segments split anywhere give the same events. */
static void
text_in_pieces_gives_the_same_events(void **state)
{
    (void)state;
    size_t i, step;
    unsigned k;
    for (i = 0; i < sizeof streams / sizeof *streams; i++)
        for (step = 1; step < 9; step += 1 + step / 4) {
            struct flow f = flow_between(PEER, EDGE, 5269), g = f;
            struct attempt *a = talk_on(&f, streams[i].talk, 0),
                *b = talk_on(&g, streams[i].talk, step);
            bool same = a->nevents == b->nevents;
            for (k = 0; same && k < a->nevents; k++)
                same = a->events[k].kind == b->events[k].kind
                    && a->events[k].element == b->events[k].element
                    && a->events[k].side == b->events[k].side
                    && strcmp(a->events[k].what, b->events[k].what) == 0
                    && strcmp(a->events[k].from, b->events[k].from) == 0
                    && strcmp(a->events[k].text, b->events[k].text) == 0;
            check(same, streams[i].name, "the same events when split", "others");
            attempt_free(a);
            attempt_free(b);
        }
}

/* Whatever is missing: the truth or "cannot tell", never another failure; loss breaks no rule. */
static void
missing_bytes_invent_no_cause(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    size_t i;
    for (i = 0; i < sizeof streams / sizeof *streams; i++) {
        struct flow f = flow_between(PEER, EDGE, 5269);
        struct judge *j = judge_new(&o, NULL);
        struct attempt *a = talk_on(&f, streams[i].talk, 0);
        a->flow.side[0].lost = 10;
        a = copy_judged(j, a);
        check(a->verdict->cause == streams[i].cause || a->verdict->outcome == OUTCOME_UNKNOWN,
            streams[i].name, "no other cause under loss", cause_row(a->verdict->cause)->word);
        judge_free(j);
    }
}

/* ---- TCP ---- */

static struct attempt *
judged_tcp(struct judge *j, enum flow_end end, enum icmp_error icmp, unsigned syns,
    bool established)
{
    struct flow f = flow_between(EDGE, PEER, 5269);
    struct attempt *a;
    f.end = end;
    f.icmp = icmp;
    f.icmp_frame = icmp != ICMP_NONE ? 7 : 0;
    f.established = established;
    f.side[0].syns = syns;
    f.side[0].packets = established ? syns + 1 : syns;
    f.side[1].packets = established || end == FLOW_REFUSED ? 1 : 0;
    if (!established)
        f.synack_frame = 0;
    a = attempt_new(&f);
    a->is_xmpp = a->by_port = true;
    return copy_judged(j, a);
}

static void
the_end_of_tcp_names_the_cause(void **state)
{
    (void)state;
    static const struct {
        const char     *name;
        enum flow_end   end;
        enum icmp_error icmp;
        unsigned        syns;
        bool            established;
        enum cause      cause;
    } cases[] = {
        { "refused", FLOW_REFUSED, ICMP_NONE, 1, false, CAUSE_TCP_REFUSED },
        { "filtered", FLOW_UNANSWERED, ICMP_NONE, 6, false, CAUSE_TCP_TIMEOUT },
        { "filtered, capture ends", FLOW_CAPTURE_END, ICMP_NONE, 5, false, CAUSE_TCP_TIMEOUT },
        { "one SYN at the end", FLOW_CAPTURE_END, ICMP_NONE, 1, false, CAUSE_CAPTURE_SHORT },
        { "prohibited", FLOW_ICMP, ICMP_PROHIBITED, 1, false, CAUSE_TCP_PROHIBITED },
        { "no route", FLOW_ICMP, ICMP_HOST, 1, false, CAUSE_TCP_UNREACHABLE },
        { "port unreachable", FLOW_ICMP, ICMP_PORT, 1, false, CAUSE_TCP_REFUSED },
        { "health check", FLOW_FIN, ICMP_NONE, 1, true, CAUSE_CALLER_SILENT },
    };
    struct verdict_options o = edge_options();
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct judge *j = judge_new(&o, NULL);
        struct attempt *a =
            judged_tcp(j, cases[i].end, cases[i].icmp, cases[i].syns, cases[i].established);
        check(a->verdict->cause == cases[i].cause, cases[i].name, cause_row(cases[i].cause)->word,
            cause_row(a->verdict->cause)->word);
        check(a->verdict->row == ROW_OUT, cases[i].name, "row out", row_word(a->verdict->row));
        judge_free(j);
    }
}

static void
a_reset_after_silence_is_an_idle_cut(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    struct flow f = flow_between(EDGE, PEER, 5269);
    struct judge *j = judge_new(&o, NULL);
    struct attempt *a;
    f.end = FLOW_RST;
    a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY VALID NOTE, 0);
    a->flow.last_ns += 400 * SECOND;
    a = copy_judged(j, a);
    check(a->verdict->cause == CAUSE_IDLE_CUT, "idle cut", "idle-cut",
        cause_row(a->verdict->cause)->word);
    check(a->verdict->reached == REACH_STANZAS, "idle cut", "stanzas",
        reach_word(a->verdict->reached));
    judge_free(j);
}

static void
long_segments_that_vanish_are_a_path_mtu(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    struct flow f = flow_between(EDGE, PEER, 5269);
    struct judge *j = judge_new(&o, NULL);
    struct attempt *a;
    f.end = FLOW_CAPTURE_END;
    a = talk_on(&f, CALL, 0);
    a->flow.side[0].retransmitted = 5;
    a->flow.side[0].bytes = 1400;
    a->flow.last_ns += 30 * SECOND;
    a = copy_judged(j, a);
    check(a->verdict->cause == CAUSE_PATH_MTU, "path mtu", "path-mtu",
        cause_row(a->verdict->cause)->word);
    judge_free(j);
}

/* ---- TLS as it is seen ---- */

static struct attempt *
tls_attempt(struct flow *f, int alert, int alert_side, bool server_hello)
{
    struct attempt *a = attempt_new(f);
    a->is_xmpp = true;
    a->content = CONTENT_TLS;
    a->tls.client_hello = true;
    a->tls.server_hello = server_hello;
    a->tls.version = server_hello ? 0x0303 : 0;
    a->tls.alert_side = (int16_t)alert_side;
    a->tls.alert = (int16_t)alert;
    a->tls.alert_frame = 9;
    a->last_content_ns[0] = a->last_content_ns[1] = f->last_ns;
    return a;
}

static void
alerts_name_the_cause_and_who_is_at_fault(void **state)
{
    (void)state;
    static const struct {
        int        alert, side, fault;
        bool       server_hello;
        enum cause cause;
    } cases[] = {
        { 40, 1, -1, false, CAUSE_TLS_NO_CIPHER },
        { 40, 1, -1, true, CAUSE_TLS_FAILED },
        { 70, 1, -1, false, CAUSE_TLS_VERSION },
        { 71, 1, -1, false, CAUSE_TLS_NO_CIPHER },
        { 116, 1, 0, true, CAUSE_CERT_MISSING },
        { 48, 1, 0, true, CAUSE_CERT_UNTRUSTED },
        { 48, 0, 1, true, CAUSE_CERT_UNTRUSTED },
        { 45, 0, 1, true, CAUSE_CERT_EXPIRED },
        { 44, 0, 1, true, CAUSE_CERT_REVOKED },
        { 42, 0, 1, true, CAUSE_CERT_INVALID },
        { 112, 1, 1, false, CAUSE_HOST_UNKNOWN },
    };
    struct verdict_options o = edge_options();
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow f = flow_between(EDGE, PEER, 5269);
        struct judge *j = judge_new(&o, NULL);
        struct attempt *a =
            copy_judged(j, tls_attempt(&f, cases[i].alert, cases[i].side, cases[i].server_hello));
        check(a->verdict->cause == cases[i].cause, xe_alert_name(cases[i].alert),
            cause_row(cases[i].cause)->word, cause_row(a->verdict->cause)->word);
        check(a->verdict->fault == cases[i].fault, xe_alert_name(cases[i].alert),
            "the side at fault", "another");
        judge_free(j);
    }
}

/* ---- the port table ---- */

static struct report *
ruled(struct judge *j, struct attempt *a)
{
    judge_flow(j, &a->flow, true);
    judge_push(j, a);
    return judge_end(j);
}

static void
mutual(struct attempt *a, enum tls_client_proof proof)
{
    a->starttls = true;
    a->tls.client_hello = a->tls.server_hello = a->tls.established = a->tls.decrypted = true;
    a->tls.version = 0x0303;
    a->tls.proof = proof;
    a->plain_stanzas = 0;
}

static void
the_port_table_is_judged(void **state)
{
    (void)state;
    static const char talk[] = CALL ANSWER FEATURES(DIALBACK) KEY VALID NOTE BYE;
    static const struct {
        const char *name;
        unsigned from, to; /* 0 edge outside, 1 edge inside, 2 gateway, 3 partner, 4 another */
        uint16_t    port;
        int         proof;        /* -1: plain */
        bool        given;
        uint32_t    violations;
        enum row    row;
        enum ruling ruling;
    } cases[] = {
        { "row 1", 3, 0, 5269, PROOF_PROVEN, true, 0, ROW_IN, RULING_CONFORMS },
        { "row 2", 0, 3, 5269, PROOF_EMPTY, true, 0, ROW_OUT, RULING_CONFORMS },
        { "row 3", 2, 1, 23456, PROOF_PROVEN, true, 0, ROW_INNER, RULING_CONFORMS },
        { "row 3, inferred proof", 2, 1, 23456, PROOF_INFERRED, true, 0, ROW_INNER,
            RULING_CONFORMS },
        { "row 3, unknown proof", 2, 1, 23456, PROOF_UNKNOWN, true, 0, ROW_INNER,
            RULING_CANNOT_TELL },
        { "row 3, no certificate", 2, 1, 23456, PROOF_EMPTY, true, 1u << VIOLATION_NO_MTLS,
            ROW_INNER, RULING_VIOLATES },
        { "row 3, plain", 2, 1, 23456, -1, true, 1u << VIOLATION_NO_TLS, ROW_INNER,
            RULING_VIOLATES },
        { "edge dials", 1, 2, 23456, PROOF_PROVEN, true,
            1u << VIOLATION_EDGE_DIALS | 1u << VIOLATION_EDGE_INSIDE, ROW_INNER, RULING_VIOLATES },
        { "edge calls the LAN", 0, 2, 5269, PROOF_PROVEN, true, 1u << VIOLATION_EDGE_INSIDE,
            ROW_OUT, RULING_VIOLATES },
        { "edge calls itself", 0, 1, 23456, PROOF_PROVEN, true, 1u << VIOLATION_EDGE_INSIDE,
            ROW_INNER, RULING_VIOLATES },
        { "edge dials, inferred", 1, 2, 23456, PROOF_PROVEN, false, 0, ROW_INNER, RULING_CONFORMS },
        { "23456 outside", 3, 0, 23456, PROOF_PROVEN, true, 1u << VIOLATION_INNER_OUTSIDE,
            ROW_INNER, RULING_VIOLATES },
        { "other source", 1, 3, 5269, PROOF_PROVEN, true, 1u << VIOLATION_OTHER_SOURCE, ROW_OUT,
            RULING_VIOLATES },
        { "other target", 3, 1, 5269, PROOF_PROVEN, true, 1u << VIOLATION_OTHER_TARGET, ROW_IN,
            RULING_VIOLATES },
        { "strangers", 4, 3, 5269, PROOF_PROVEN, true, 0, ROW_OTHER, RULING_CANNOT_TELL },
        { "plain", 3, 0, 5269, -1, true, 1u << VIOLATION_PLAIN, ROW_IN, RULING_VIOLATES },
        { "other port", 3, 0, 5270, PROOF_PROVEN, true, 1u << VIOLATION_OTHER_PORT, ROW_OTHER,
            RULING_VIOLATES },
        { "other port, outward", 0, 3, 5270, PROOF_PROVEN, true, 0, ROW_OTHER,
            RULING_CANNOT_TELL },
        { "inferred", 3, 0, 5269, PROOF_PROVEN, false, 0, ROW_IN, RULING_CONFORMS },
    };
    const struct address who[] = { EDGE, INNER, GATE, PEER, addr(192, 0, 2, 99) };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct verdict_options o = edge_options();
        struct flow f = flow_between(who[cases[i].from], who[cases[i].to], cases[i].port);
        struct attempt *a = talk_on(&f, talk, 0);
        struct judge *j;
        struct report *r;
        if (!cases[i].given)
            o.nexternal = o.ninternal = 0;
        if (cases[i].proof >= 0)
            mutual(a, (enum tls_client_proof)cases[i].proof);
        j = judge_new(&o, NULL);
        r = ruled(j, a);
        if (!cases[i].given
            && cases[i].row == ROW_IN) /* caller and called are alike to the program */
            check(a->verdict->row == ROW_IN || a->verdict->row == ROW_OUT, cases[i].name,
                "a partner row", row_word(a->verdict->row));
        else
            check(a->verdict->row == cases[i].row, cases[i].name, row_word(cases[i].row),
                row_word(a->verdict->row));
        check(a->verdict->violations == cases[i].violations, cases[i].name, "its violations",
            "others");
        check(r->rows[a->verdict->row].ruling == cases[i].ruling, cases[i].name,
            ruling_word(cases[i].ruling), r->rows[a->verdict->row].why);
        judge_free(j);
    }
}

static void
a_required_row_decides_the_exit_status(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    struct flow f = flow_between(PEER, EDGE, 5269);
    struct attempt *a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY VALID NOTE BYE, 0);
    struct judge *j;
    struct report *r;
    mutual(a, PROOF_PROVEN);
    o.required = 1u << ROW_IN;
    j = judge_new(&o, NULL);
    r = ruled(j, a);
    check(r->exit_code == 0, "exit", "0 with the required row", "another");
    judge_free(j);
    o.required = 1u << ROW_INNER;
    j = judge_new(&o, NULL);
    r = judge_end(j);
    check(r->exit_code == 4, "exit", "4 without the required row", "another");
    check(strcmp(r->missing_rows, "23456-in") == 0, "exit", "the row", r->missing_rows);
    judge_free(j);
}

/* ---- dialback on two connections ---- */

static void
both_connections_of_a_dialback_are_joined(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    struct flow f = flow_between(EDGE, PEER, 5269), g = flow_between(PEER, EDGE, 5269);
    struct judge *j = judge_new(&o, NULL);
    struct attempt *a, *b;
    a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY VALID NOTE BYE, 0);
    b = talk_on(&g,
        "> " HEAD("b.example", "a.example") ">\n"
        "< " HEAD("a.example", "b.example") " id='y'>" FEATURES(DIALBACK)
        "> <db:verify from='b.example' to='a.example' id='x1'>0123</db:verify>\n"
        "< <db:verify from='a.example' to='b.example' id='x1' type='valid'/>\n" BYE,
        0);
    judge_push(j, b);
    judge_push(j, a);
    judge_end(j);
    check(a->verdict->joined == b->flow.number && b->verdict->joined == a->flow.number, "join",
        "each other", "others");
    judge_free(j);
}

/* The asked server cannot reach the authoritative one. */
static void
a_dialback_that_cannot_call_back_is_explained(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    struct flow f = flow_between(EDGE, PEER, 5269), g = flow_between(PEER, EDGE, 5269);
    struct judge *j = judge_new(&o, NULL);
    struct attempt *a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY "+ 60\n" BYE, 0), *b;
    g.established = false;
    g.synack_frame = 0;
    g.side[0].syns = 5;
    g.side[0].packets = 5;
    g.side[1].packets = 0;
    g.end = FLOW_UNANSWERED;
    b = attempt_new(&g);
    b->is_xmpp = true;
    judge_push(j, b);
    judge_push(j, a);
    judge_end(j);
    check(a->verdict->cause == CAUSE_DIALBACK_UNREACHABLE, "unreachable", "dialback-unreachable",
        cause_row(a->verdict->cause)->word);
    check(a->verdict->joined == g.number, "unreachable", "joined", "not");
    judge_free(j);
}

/* The peer's key was not confirmed, and our log alone knows why: of what failed before there was a
 * connection it is the call back that failed, whichever way it did. */
static void
a_log_that_cannot_call_back_is_understood(void **state)
{
    static const struct {
        enum log_kind kind;
        enum log_way way;
        enum xe_why why;
        enum cause cause;
        int fault;
    } cases[] = {
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_DNS_NOT_FOUND, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_DNS_FAILED, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_DNS_TARGET, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_ADDRESS_REFUSED, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_PORT_REFUSED, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_OTHER_FAMILY, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_BIND, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_REFUSED, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_CONNECT_TIMEOUT, CAUSE_DIALBACK_UNREACHABLE, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_DIALBACK_INVALID, CAUSE_DIALBACK_INVALID, 0 },
        { LOG_REFUSED, LOG_WAY_IN, XE_WHY_CERT_EXPIRED, CAUSE_CERT_EXPIRED, 0 },
        { LOG_CLOSED, LOG_WAY_OUT, XE_WHY_REFUSED, CAUSE_TCP_REFUSED, -1 },
    };
    struct verdict_options o = edge_options();
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool in = cases[i].way == LOG_WAY_IN;
        struct flow f = in ? flow_between(PEER, EDGE, 5269) : flow_between(EDGE, PEER, 5269);
        struct judge *j = judge_new(&o, NULL);
        struct attempt *a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY "+ 60\n" BYE, 0);
        struct log_said said;
        memset(&said, 0, sizeof said);
        said.entry.kind = cases[i].kind;
        said.entry.way = cases[i].way;
        said.entry.why = cases[i].why;
        judge_push(j, a);
        assert_true(judge_log_begin(j, "edge.log"));
        judge_log(j, a, in ? 1 : 0, &said);
        judge_end(j);
        check(a->verdict->cause == cases[i].cause, xe_why(cases[i].why)->word,
            cause_row(cases[i].cause)->word, cause_row(a->verdict->cause)->word);
        check(a->verdict->from_log, xe_why(cases[i].why)->word, "from the log", "not");
        check(a->verdict->fault == cases[i].fault, xe_why(cases[i].why)->word, "who has to act",
            "another");
        judge_free(j);
    }
}

/* What is more than we take of a stranger is no lack of room. */
static void
only_a_limit_of_connections_is_told_as_one(void **state)
{
    static const struct {
        enum xe_why why;
        enum cause cause;
    } cases[] = {
        { XE_WHY_CONN_LIMIT, CAUSE_LIMIT }, { XE_WHY_SOURCE_RATE, CAUSE_LIMIT },
        { XE_WHY_PAIR_LIMIT, CAUSE_LIMIT }, { XE_WHY_PREAUTH_BYTES, CAUSE_POLICY },
        { XE_WHY_PREAUTH_ELEMENTS, CAUSE_POLICY }, { XE_WHY_TLS_BYTES, CAUSE_POLICY },
        { XE_WHY_XML_LIMIT, CAUSE_POLICY }, { XE_WHY_HEADER_TOO_BIG, CAUSE_POLICY },
        { XE_WHY_STANZA_TOO_BIG, CAUSE_TOO_BIG }, { XE_WHY_STANZA_ENDLESS, CAUSE_TOO_BIG },
    };
    struct verdict_options o = edge_options();
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flow f = flow_between(PEER, EDGE, 5269);
        struct judge *j = judge_new(&o, NULL);
        struct attempt *a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) "+ 60\n" BYE, 0);
        struct log_said said;
        memset(&said, 0, sizeof said);
        said.entry.kind = LOG_CLOSED;
        said.entry.way = LOG_WAY_IN;
        said.entry.why = cases[i].why;
        judge_push(j, a);
        assert_true(judge_log_begin(j, "edge.log"));
        judge_log(j, a, 1, &said);
        judge_end(j);
        check(a->verdict->cause == cases[i].cause, xe_why(cases[i].why)->word,
            cause_row(cases[i].cause)->word, cause_row(a->verdict->cause)->word);
        judge_free(j);
    }
}

/* A call in vain that was seen on both sides of a translation. */
static void
nothing_names_a_connection_that_is_told_about_as_another(void **state)
{
    (void)state;
    struct verdict_options o = edge_options();
    struct flow f = flow_between(EDGE, PEER, 5269), seen[2];
    struct judge *j = judge_new(&o, NULL);
    struct attempt *a, *b[2];
    struct log_entry line;
    int i;
    memset(&line, 0, sizeof line);
    for (i = 0; i < 2; i++) {
        seen[i] = flow_between(PEER, i == 0 ? addr(192, 168, 7, 7) : EDGE, 5269);
        seen[i].established = false;
        seen[i].synack_frame = 0;
        seen[i].side[0].syns = seen[i].side[0].packets = 5;
        seen[i].side[1].syns = seen[i].side[1].packets = 0;
        seen[i].end = FLOW_UNANSWERED;
        b[i] = attempt_new(&seen[i]);
        b[i]->is_xmpp = true;
        judge_push(j, b[i]);
    }
    a = talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY "+ 60\n" BYE, 0);
    judge_push(j, a);
    judge_leg(a, &line, b[0]);
    check(judge_end(j)->twins == 1, "twins", "one", "another number");
    check(a->verdict->joined == seen[1].number, "joined", "the one that is kept", "another");
    check(a->verdict->leg_flow == seen[1].number, "leg", "the one that is kept", "another");
    judge_free(j);
}

/* ---- DNS ---- */

/* A message: header, question, and one record of raw data with the name of the question. */
static size_t
dns_message(unsigned char *out, const char *name, unsigned type, bool answer, unsigned rcode,
    const unsigned char *data, size_t len)
{
    size_t n = 12;
    memset(out, 0, 12);
    out[1] = 7;
    out[2] = answer ? 0x81 : 1;
    out[3] = (unsigned char)rcode;
    out[5] = 1;
    out[7] = data != NULL;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        out[n++] = (unsigned char)label;
        memcpy(out + n, name, label);
        n += label;
        name += label + (name[label] == '.');
    }
    out[n++] = 0;
    out[n++] = 0;
    out[n++] = (unsigned char)type;
    out[n++] = 0;
    out[n++] = 1;
    if (data == NULL)
        return n;
    memcpy(out + n,
        (unsigned char[]){
            0xc0, 12, 0, (unsigned char)type, 0, 1, 0, 0, 0, 60, 0, (unsigned char)len }, 12);
    memcpy(out + n + 12, data, len);
    return n + 12 + len;
}

/* The question, or with an rcode its answer. */
static void
say(struct dns *d, int64_t ns, const char *name, unsigned type, int rcode,
    const unsigned char *data, size_t len)
{
    unsigned char bytes[256];
    struct address client = EDGE, server = addr(192, 0, 2, 53);
    bool answer = rcode >= 0;
    size_t n = dns_message(bytes, name, type, answer, answer ? (unsigned)rcode : 0, data, len);
    dns_push(d, answer ? &server : &client, answer ? &client : &server, answer, bytes, n,
        answer ? 2 : 1, ns);
}

static void
ask(struct dns *d, const char *name, unsigned type, int rcode, const unsigned char *data,
    size_t len)
{
    say(d, 900 * SECOND, name, type, -1, NULL, 0);
    if (rcode >= 0)
        say(d, 900 * SECOND + 1000, name, type, rcode, data, len);
}

static const unsigned char srv_target[] = { 0, 5, 0, 0, 0x14, 0x95, 1, 'h', 7, 'e', 'x', 'a', 'm',
    'p', 'l', 'e', 0 };
static const unsigned char srv_none[] = { 0, 0, 0, 0, 0, 0, 0 };
static const unsigned char a_peer[] = { 198, 51, 100, 20 };

static void
answers_of_dns_name_the_cause(void **state)
{
    (void)state;
    static const struct {
        const char          *name;
        int                  srv, a;          /* rcode; -1 unanswered, -2 not asked */
        const unsigned char *data;
        size_t               len;
        const unsigned char *address;
        enum cause           cause;
    } cases[] = {
        { "nxdomain", 3, 3, NULL, 0, NULL, CAUSE_DNS_NOT_FOUND },
        { "no service", 0, -2, srv_none, sizeof srv_none, NULL, CAUSE_DNS_NO_SERVICE },
        { "servfail", 2, -2, NULL, 0, NULL, CAUSE_DNS_FAILED },
        { "unanswered", -1, -1, NULL, 0, NULL, CAUSE_DNS_FAILED },
        { "target without address", 0, 3, srv_target, sizeof srv_target, NULL,
            CAUSE_SRV_NO_ADDRESS },
        { "found, nobody called", 0, 0, srv_target, sizeof srv_target, a_peer, CAUSE_NONE },
    };
    struct verdict_options o = edge_options();
    size_t i;
    int k;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dns *d = dns_new();
        struct judge *j = judge_new(&o, d);
        struct flow f = flow_between(PEER, EDGE, 5269);   /* so that time goes on */
        struct report *r;
        enum cause got;
        for (k = 0; k < (cases[i].srv == -1 ? 3 : 1); k++)   /* one answer may just not be there */
            ask(d, "_xmpp-server._tcp.b.example", 33, cases[i].srv, cases[i].data, cases[i].len);
        if (cases[i].a != -2)
            ask(d, cases[i].data == srv_target ? "h.example" : "b.example", 1, cases[i].a,
                cases[i].address, cases[i].address != NULL ? 4 : 0);
        judge_push(j, talk_on(&f, CALL ANSWER FEATURES(DIALBACK) KEY VALID BYE, 0));
        r = judge_end(j);
        got = r->nattempts == 2 ? r->attempts[0]->verdict->cause : CAUSE_NONE;
        check(got == cases[i].cause, cases[i].name, cause_row(cases[i].cause)->word,
            cause_row(got)->word);
        judge_free(j);
        dns_free(d);
    }
}

/* The domain is gone when it is looked for once more; the answer that comes first is about the
 * question that was asked last. */
static void
questions_asked_side_by_side_are_one_look_up(void **state)
{
    (void)state;
    const char *srv = "_xmpp-server._tcp.b.example";
    struct verdict_options o = edge_options();
    struct dns *d = dns_new();
    struct judge *j = judge_new(&o, d);
    struct report *r;
    const char *got;
    ask(d, srv, 33, 0, srv_target, sizeof srv_target);
    ask(d, "b.example", 1, 0, a_peer, 4);
    say(d, 1100 * SECOND, srv, 33, -1, NULL, 0);
    say(d, 1100 * SECOND + 1000, "b.example", 1, -1, NULL, 0);
    say(d, 1100 * SECOND + 2000, "b.example", 1, 3, NULL, 0);
    say(d, 1100 * SECOND + 3000, srv, 33, 3, NULL, 0);
    dns_end(d);
    r = judge_end(j);
    got = r->nattempts != 1 ? "another number of attempts"
        : cause_row(r->attempts[0]->verdict->cause)->word;
    check(strcmp(got, "dns-not-found") == 0, "side by side", "dns-not-found", got);
    judge_free(j);
    dns_free(d);
}

static void
addresses_lead_back_to_domains(void **state)
{
    (void)state;
    struct dns *d = dns_new();
    struct address client = EDGE, peer = PEER, other = GATE;
    const struct dns_fact *f;
    ask(d, "_xmpp-server._tcp.b.example", 33, 0, srv_target, sizeof srv_target);
    ask(d, "h.example", 1, 0, a_peer, 4);
    f = dns_find(d, &client, &peer, 5269, 1000 * SECOND);
    check(f != NULL && strcmp(f->domain, "b.example") == 0, "dns_find", "b.example",
        f == NULL ? "nothing" : f->domain);
    check(dns_find(d, &client, &peer, 5270, 1000 * SECOND) == NULL, "dns_find",
        "nothing for another port", "something");
    check(dns_find(d, &other, &peer, 5269, 1000 * SECOND) == f, "dns_find",
        "what another client was told, for want of its own", "something else");
    check(dns_find(d, &client, &peer, 5269, 800 * SECOND) == NULL, "dns_find", "nothing earlier",
        "something");
    dns_free(d);
}

/* Every message cut anywhere, and with every byte wrong: a sanitizer is to be content with it. */
static void
broken_dns_messages_do_no_harm(void **state)
{
    (void)state;
    unsigned char whole[256];
    struct address client = EDGE, server = addr(192, 0, 2, 53);
    size_t i, k, n = dns_message(whole, "_xmpp-server._tcp.b.example", 33, true, 0, srv_target,
        sizeof srv_target);
    struct dns *d = dns_new();
    for (i = 0; i <= n; i++)
        for (k = 0; k < n; k++) {
            unsigned char *cut = malloc(i + 1);
            memcpy(cut, whole, i);
            if (k < i)
                cut[k] = (unsigned char)(cut[k] ^ (0xc0 | (k * 31 & 0x3f)));
            dns_push(d, &server, &client, true, cut, i, 1, SECOND);
            free(cut);
        }
    dns_free(d);
}

/* causes.c names each row of a table: one that is left out is empty. */
static void
every_cause_and_violation_has_its_words(void **state)
{
    int c, k;
    (void)state;
    for (c = 0; c < CAUSE_COUNT; c++) {
        const struct cause_row *row = cause_row((enum cause)c);
        assert_non_null(row->word);
        assert_non_null(row->what);
        assert_non_null(row->remedy);
        assert_non_null(row->forward);
        for (k = 0; k < c; k++)
            assert_string_not_equal(row->word, cause_row((enum cause)k)->word);
    }
    for (k = 0; k < VIOLATION_COUNT; k++) {
        assert_non_null(violation_word((enum violation_kind)k));
        assert_non_null(violation_text((enum violation_kind)k));
        assert_non_null(violation_remedy((enum violation_kind)k));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_said_names_the_cause),
        cmocka_unit_test(text_in_pieces_gives_the_same_events),
        cmocka_unit_test(missing_bytes_invent_no_cause),
        cmocka_unit_test(the_end_of_tcp_names_the_cause),
        cmocka_unit_test(a_reset_after_silence_is_an_idle_cut),
        cmocka_unit_test(long_segments_that_vanish_are_a_path_mtu),
        cmocka_unit_test(alerts_name_the_cause_and_who_is_at_fault),
        cmocka_unit_test(the_port_table_is_judged),
        cmocka_unit_test(a_required_row_decides_the_exit_status),
        cmocka_unit_test(both_connections_of_a_dialback_are_joined),
        cmocka_unit_test(a_dialback_that_cannot_call_back_is_explained),
        cmocka_unit_test(a_log_that_cannot_call_back_is_understood),
        cmocka_unit_test(only_a_limit_of_connections_is_told_as_one),
        cmocka_unit_test(nothing_names_a_connection_that_is_told_about_as_another),
        cmocka_unit_test(answers_of_dns_name_the_cause),
        cmocka_unit_test(questions_asked_side_by_side_are_one_look_up),
        cmocka_unit_test(addresses_lead_back_to_domains),
        cmocka_unit_test(broken_dns_messages_do_no_harm),
        cmocka_unit_test(every_cause_and_violation_has_its_words),
    };
    return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
