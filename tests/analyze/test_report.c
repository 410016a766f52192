/* test_report.c -- the report stage alone: a report made by hand, and what comes out of it
 *
 * Whatever the texts of the capture are, text has lines of at most 80 columns (ladders 100) without
 * control characters, every JSON line is one valid object, and HTML has only the markup of html.c.
 */
#include "../../analyze/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_NS 1780308000123456789LL    /* 2026-06-01T10:00:00.123456789Z */
#define MS       1000000LL

/* ---- a report made by hand ---- */

struct fixture {
    struct report            r;
    struct capture_file      files[2];
    struct capture_interface interfaces[1];
    struct attempt          *attempts[ATTEMPTS_LISTED_MAX];
    struct dns_fact          dns[2];
    struct report_violation  violations[2];
    struct report_partner    partners[3];
    struct cert              cert;
    const char              *text;          /* that is put everywhere */
};

static struct address
address4(unsigned a, unsigned b, unsigned c, unsigned d)
{
    struct address out = { { 0 }, 4 };
    out.bytes[0] = (unsigned char)a;
    out.bytes[1] = (unsigned char)b;
    out.bytes[2] = (unsigned char)c;
    out.bytes[3] = (unsigned char)d;
    return out;
}

static struct address
address_of(const char *text)
{
    struct address out = { { 0 }, 4 };
    unsigned part[8] = { 0 };
    unsigned i;
    int n;
    if (sscanf(text, "%u.%u.%u.%u", &part[0], &part[1], &part[2], &part[3]) == 4)
        return address4(part[0], part[1], part[2], part[3]);
    out.family = 6;
    n = sscanf(text, "%x:%x:%x:%x:%x:%x:%x:%x", &part[0], &part[1], &part[2], &part[3], &part[4],
        &part[5], &part[6], &part[7]);
    if (n < 8) {   /* head::tail, as the vectors need it: 2607:f8b0:400c:c03::1a */
        unsigned last = 0;
        assert_int_equal(sscanf(strstr(text, "::") + 2, "%x", &last), 1);
        part[7] = last;
    }
    for (i = 0; i < 8; i++) {
        out.bytes[2 * i] = (unsigned char)(part[i] >> 8);
        out.bytes[2 * i + 1] = (unsigned char)(part[i] & 255);
    }
    return out;
}

static void
say(struct attempt *a, enum event_kind kind, enum xe_element_kind element, int side,
    int64_t after_ms, const char *from, const char *to, const char *what, const char *text)
{
    struct event e = { kind, element, side, 10 + a->nevents, a->flow.first_ns + after_ms * MS, from,
        to, what, text };
    attempt_event(a, &e);
}

static struct attempt *
attempt_make(uint64_t number, const char *from, const char *to, enum outcome outcome,
    enum cause cause)
{
    struct flow f;
    struct attempt *a;
    memset(&f, 0, sizeof f);
    f.number = number;
    f.side[0].address = address4(192, 0, 2, 1);
    f.side[1].address = address4(198, 51, 100, 7);
    f.side[0].port = (uint16_t)(40000 + number % 20000);
    f.side[1].port = 5269;
    f.first_frame = 7 * number;
    f.first_ns = START_NS + (int64_t)number * 1000 * MS;
    f.last_ns = f.first_ns + 5065 * MS;
    f.established = true;
    f.end = FLOW_FIN;
    a = attempt_new(&f);
    assert_non_null(a);
    a->verdict = calloc(1, sizeof *a->verdict);
    assert_non_null(a->verdict);
    a->is_xmpp = true;
    a->content = CONTENT_XMPP;
    snprintf(a->from, sizeof a->from, "%.127s", from);
    snprintf(a->to, sizeof a->to, "%.127s", to);
    snprintf(a->id, sizeof a->id, "%.79s", "stream-4711");
    a->verdict->row = ROW_OUT;
    a->verdict->direction = DIRECTION_OUT;
    a->verdict->outcome = outcome;
    a->verdict->cause = cause;
    a->verdict->fault = cause == CAUSE_NONE ? -1 : 1;
    a->verdict->reached = outcome == OUTCOME_WORKED ? REACH_STANZAS : REACH_TLS;
    a->verdict->method = outcome == OUTCOME_WORKED ? "EXTERNAL" : "";
    a->verdict->ended_where = "";
    a->verdict->closer = a->verdict->teller = -1;
    a->verdict->remedy = cause_row(cause)->remedy;
    a->verdict->forward = cause_row(cause)->forward;
    a->verdict->proofs[0] = (struct proof){ 7 * number, f.first_ns, "SYN" };
    a->verdict->nproofs = 1;
    snprintf(a->verdict->story, sizeof a->verdict->story, "%.60s called %.60s: %.100s", from, to,
        cause_row(cause)->what);
    return a;
}

/* A whole negotiation with STARTTLS; t is used for everything that the capture could choose. */
static void
attempt_talk(struct attempt *a, const char *t)
{
    say(a, EVENT_TCP_SYN, XE_KIND_UNKNOWN, 0, 0, "", "", "", "");
    say(a, EVENT_TCP_OPEN, XE_KIND_UNKNOWN, 1, 1, "", "", "", "");
    say(a, EVENT_HEADER, XE_KIND_UNKNOWN, 0, 2, a->from, a->to, "", "");
    say(a, EVENT_HEADER, XE_KIND_UNKNOWN, 1, 3, a->to, a->from, t, t);
    say(a, EVENT_FEATURES, XE_KIND_UNKNOWN, 1, 3, "", "", t, "");
    say(a, EVENT_ELEMENT, XE_KIND_STARTTLS, 0, 4, "", "", "", "");
    say(a, EVENT_ELEMENT, XE_KIND_PROCEED, 1, 5, "", "", "", "");
    say(a, EVENT_TLS_HELLO, XE_KIND_UNKNOWN, 0, 6, "", t, "up to TLS 1.3", "");
    say(a, EVENT_TLS_SERVER, XE_KIND_UNKNOWN, 1, 7, "", "", "TLS 1.3", "");
    say(a, EVENT_TLS_CERT, XE_KIND_UNKNOWN, 1, 7, t, "", t, t);
    say(a, EVENT_TLS_UP, XE_KIND_UNKNOWN, 0, 8, "", "", "TLS 1.3", "");
    say(a, EVENT_GAP, XE_KIND_UNKNOWN, 1, 9, "", "", "123 bytes missing", "");
    say(a, EVENT_ELEMENT, XE_KIND_AUTH, 0, 10, "", "", "EXTERNAL", "");
    say(a, EVENT_ELEMENT, XE_KIND_SASL_FAILURE, 1, 11, "", "", t, t);
    say(a, EVENT_ELEMENT, XE_KIND_DB_RESULT, 0, 12, a->from, a->to, "", "");
    say(a, EVENT_ELEMENT, XE_KIND_DB_RESULT_ANSWER, 1, 13, a->to, a->from, "valid", t);
    say(a, EVENT_ELEMENT, XE_KIND_UNKNOWN, 1, 13, "", "", t, t);
    say(a, EVENT_STANZA, XE_KIND_MESSAGE, 0, 4000, "juliet@ours.example/balcony",
        "romeo@theirs.example", t, "");
    say(a, EVENT_STANZA, XE_KIND_MESSAGE, 1, 4001, "romeo@theirs.example",
        "juliet@ours.example/balcony", "error forbidden", "wherefore-art-thou");
    say(a, EVENT_XML_BAD, XE_KIND_UNKNOWN, 1, 4002, "", "", t, t);
    say(a, EVENT_STREAM_ERROR, XE_KIND_UNKNOWN, 1, 4003, "", "", t, t);
    say(a, EVENT_TLS_ALERT, XE_KIND_UNKNOWN, 0, 4004, "", "", t, "");
    say(a, EVENT_ICMP, XE_KIND_UNKNOWN, 1, 4005, "", "", t, t);
    say(a, EVENT_DNS, XE_KIND_UNKNOWN, 1, 4006, "", t, "SRV", t);
    say(a, EVENT_TCP_RST, XE_KIND_UNKNOWN, 1, 4007, "", "", "", "");
}

static void
fixture_tls(struct attempt *a, const struct cert *c, const char *t)
{
    a->starttls = true;
    a->tls.client_hello = a->tls.server_hello = a->tls.established = a->tls.decrypted = true;
    a->tls.version = 0x0304;
    a->tls.cipher_name = "TLS_AES_128_GCM_SHA256";
    a->tls.proof = PROOF_PROVEN;
    a->tls.server = cert_keep(c);
    a->tls_up_ns = a->flow.first_ns + 8 * MS;
    snprintf(a->sni, sizeof a->sni, "%.127s", t);
    snprintf(a->alpn, sizeof a->alpn, "%.47s", t);
    snprintf(a->features, sizeof a->features, "%.159s", t);
    snprintf(a->error, sizeof a->error, "%.63s", t);
    snprintf(a->error_text, sizeof a->error_text, "%.159s", t);
    snprintf(a->id, sizeof a->id, "%.79s", t);
    a->error_side = 1;
    a->error_frame = 30;
    a->stanzas[0][0] = 3;
    a->stanza_errors[1] = 1;
}

static void
fixture_capture(struct fixture *x, const char *t)
{
    struct report *r = &x->r;
    int k;
    x->files[0] = (struct capture_file){ t, CAPTURE_PCAPNG, 100, 5000, START_NS,
        START_NS + 60000 * MS, true, false };
    x->files[1] = (struct capture_file){ "b.pcap", CAPTURE_PCAP, 1, 1, 0, 0, false, false };
    snprintf(x->interfaces[0].name, sizeof x->interfaces[0].name, "%.63s", t);
    snprintf(x->interfaces[0].description, sizeof x->interfaces[0].description, "%.95s", t);
    r->files = x->files;
    r->nfiles = 2;
    r->interfaces = x->interfaces;
    r->ninterfaces = 1;
    r->packets = 101;
    r->flows = 12;
    r->first_ns = START_NS;
    r->last_ns = START_NS + 60000 * MS;
    for (k = 0; k < REMARK_COUNT; k++) {
        r->remarks[k] = (uint64_t)k;
        snprintf(r->remark_detail[k], sizeof r->remark_detail[k], "%.95s", t);
    }
    r->external[0] = address4(192, 0, 2, 1);
    r->nexternal = 1;
    r->external_known = KNOWN_INFERRED;
    snprintf(r->addresses_why, sizeof r->addresses_why, "%.199s", t);
    r->external_port = 5269;
    r->internal_port = 23456;
}

static void
fixture_found(struct fixture *x, const char *t)
{
    const char *theirs[] = { "theirs.example", t, "" };
    struct report *r = &x->r;
    size_t i;
    x->dns[0] = (struct dns_fact){ .client = address4(192, 0, 2, 1),
        .type = DNS_SRV,
        .result = DNS_FOUND,
        .ntargets = 1,
        .query_frame = 1,
        .query_ns = START_NS,
        .answer_frame = 2,
        .answer_ns = START_NS + MS };
    snprintf(x->dns[0].name, sizeof x->dns[0].name, "%.159s", t);
    snprintf(x->dns[0].domain, sizeof x->dns[0].domain, "%.127s", t);
    snprintf(x->dns[0].alias, sizeof x->dns[0].alias, "%.127s", t);
    snprintf(x->dns[0].targets[0].host, sizeof x->dns[0].targets[0].host, "%.127s", t);
    x->dns[1] = x->dns[0];
    x->dns[1].type = DNS_AAAA;
    x->dns[1].targets[0].address = address_of("2607:f8b0:400c:c03::1a");
    r->dns = x->dns;
    r->ndns = 2;
    x->violations[0] = (struct report_violation){ VIOLATION_PLAIN, ROW_OUT, false, 1, 7, START_NS,
        address4(192, 0, 2, 1), address4(198, 51, 100, 7), 5269, "" };
    x->violations[1] = x->violations[0];
    x->violations[1].suspected = true;
    snprintf(x->violations[1].detail, sizeof x->violations[1].detail, "%.159s", t);
    r->violations = x->violations;
    r->nviolations = 2;
    for (i = 0; i < 3; i++) {
        struct report_partner *q = &x->partners[i];
        q->in.method = q->out.method = q->in.cipher = q->out.cipher = "";
        snprintf(q->ours, sizeof q->ours, "%.127s", i == 1 ? t : "ours.example");
        snprintf(q->theirs, sizeof q->theirs, "%.127s", theirs[i]);
        q->kind = i == 2 ? PAIR_INNER : PAIR_PARTNER;
        q->out = (struct report_way){ .attempts = 2,
            .worked = 1,
            .failed = 1,
            .reached = REACH_AUTH,
            .reach_inferred = true,
            .method = "EXTERNAL or dialback",
            .cipher = "",
            .tls_version = 0x0304,
            .last_cause = CAUSE_CERT_EXPIRED,
            .last_failure_ns = START_NS };
        snprintf(q->out.last_words, sizeof q->out.last_words, "%.159s", t);
        q->in.attempts = i;
    }
    r->partners = x->partners;
    r->npartners = 3;
}

/* Works, fails twice in the same way, fails for want of a name, is not known; t stands wherever the
 * capture may choose. */
static struct fixture *
fixture_new(const char *t)
{
    struct fixture *x = calloc(1, sizeof *x);
    struct report *r;
    struct attempt *dns;
    size_t i;
    assert_non_null(x);
    x->text = t;
    r = &x->r;
    fixture_capture(x, t);
    fixture_found(x, t);
    snprintf(x->cert.subject, sizeof x->cert.subject, "%.159s", t);
    snprintf(x->cert.issuer, sizeof x->cert.issuer, "%.159s", t);
    snprintf(x->cert.names, sizeof x->cert.names, "%.500s", t);
    x->cert.readable = true;
    x->cert.not_after = 253402300799LL;     /* the year 9999 */
    x->cert.holders = 100;                  /* never freed */
    x->attempts[0] = attempt_make(1, "ours.example", "theirs.example", OUTCOME_WORKED, CAUSE_NONE);
    x->attempts[1] = attempt_make(2, "ours.example", t, OUTCOME_FAILED, CAUSE_CERT_EXPIRED);
    x->attempts[2] = attempt_make(3, "ours.example", t, OUTCOME_FAILED, CAUSE_CERT_EXPIRED);
    x->attempts[3] = attempt_make(4, t, "ours.example", OUTCOME_UNKNOWN, CAUSE_CAPTURE_SHORT);
    x->attempts[0]->verdict->setback = CAUSE_SASL_REFUSED;
    dns = x->attempts[4] = attempt_make(0, "", t, OUTCOME_FAILED, CAUSE_DNS_NOT_FOUND);
    dns->verdict->row = ROW_OTHER;
    dns->verdict->reached = REACH_NAME;
    dns->verdict->direction = DIRECTION_UNKNOWN;
    for (i = 0; i < 4; i++) {
        fixture_tls(x->attempts[i], &x->cert, t);
        attempt_talk(x->attempts[i], t);
        snprintf(x->attempts[i]->verdict->words, sizeof x->attempts[i]->verdict->words,
            "%.159s", t);
    }
    say(dns, EVENT_DNS, XE_KIND_UNKNOWN, 0, 0, "", t, "SRV", "?");
    r->attempts = x->attempts;
    r->nattempts = 5;
    r->flows_xmpp = 4;
    r->worked = 1;
    r->failed = 3;
    r->unknown = 1;
    r->failed_by[CAUSE_CERT_EXPIRED] = 7;   /* five more than are listed */
    r->failed_by[CAUSE_DNS_NOT_FOUND] = 1;
    r->rows[ROW_OUT] = (struct report_row){ .observed = true,
        .attempted = 4,
        .established = 4,
        .working = 1,
        .failed = 2,
        .unknown = 1,
        .ruling = RULING_VIOLATES,
        .why = "stanzas crossed the network without encryption" };
    r->rows[ROW_OUT].failed_by[CAUSE_CERT_EXPIRED] = 2;
    r->exit_code = 1;
    return x;
}

static void
fixture_free(struct fixture *x)
{
    size_t i;
    for (i = 0; i < x->r.nattempts; i++) {
        free(x->attempts[i]->verdict);
        attempt_free(x->attempts[i]);
    }
    free(x);
}

/* ---- output as a text ---- */

enum form { FORM_TEXT, FORM_LADDER, FORM_COLOUR, FORM_JSON, FORM_HTML, FORM_COUNT };

static char *
written(const struct report *r, enum form form, size_t *len)
{
    FILE *f = tmpfile();
    char *out;
    long size;
    struct paper paper = { form == FORM_COLOUR, form == FORM_LADDER, 0 };
    int result;
    assert_non_null(f);
    result = form == FORM_JSON ? report_json(r, f) : form == FORM_HTML ? report_html(r, f)
        : report_text(r, f, &paper);
    assert_int_equal(result, 0);
    size = ftell(f);
    assert_true(size > 0);
    out = malloc((size_t)size + 1);
    assert_non_null(out);
    rewind(f);
    assert_int_equal(fread(out, 1, (size_t)size, f), size);
    out[size] = '\0';
    assert_int_equal(strlen(out), size);
    fclose(f);
    *len = (size_t)size;
    return out;
}

static bool
report_contains(const struct report *r, enum form form, const char *what)
{
    size_t len;
    char *out = written(r, form, &len);
    bool found = strstr(out, what) != NULL;
    free(out);
    return found;
}

/* ---- validators ---- */

/* The text is long and these are asked at every byte of it: unlike the functions of string.h, they
 * look no further than they need, also under a sanitizer that checks the whole of every string. */
static bool
begins(const char *s, const char *with)
{
    while (*with != '\0' && *s == *with) {
        s++;
        with++;
    }
    return *with == '\0';
}

static const char *
find(const char *s, char c)
{
    while (*s != '\0' && *s != c)
        s++;
    return *s == '\0' ? NULL : s;
}

static size_t
digits(const char *s)
{
    size_t n = 0;
    while (s[n] >= '0' && s[n] <= '9')
        n++;
    return n;
}

/* Valid UTF-8 without controls (but for line ends and, with colour, ESC) and without invisible
 * characters. */
static void
check_utf8(const char *s, bool colour)
{
    const char *end = s + strlen(s);
    uint32_t c;
    int n;
    for (; s < end; s += n) {
        n = xe_utf8(s, end, &c);
        assert_true(n > 0);
        bool plain = c >= ' ' && c <= '~';   /* nearly all of them: do not ask the tables */
        assert_true(plain || xe_is_visible(c) || c == '\n' || (colour && c == 27));
    }
}

static void
check_columns(const char *s, size_t most)
{
    const char *end = s + strlen(s);
    size_t columns = 0;
    uint32_t c;
    int n;
    for (; s < end; s += n) {
        n = xe_utf8(s, end, &c);
        assert_true(n > 0);
        columns = c == '\n' ? 0 : columns + (c < 127 ? 1 : utf8_columns(c));
        assert_true(columns <= most);
    }
}

/* RFC 8259, one value; returns what follows. */
static const char *
json_value(const char *s, unsigned depth)
{
    assert_true(depth < 20);
    if (*s == '{' || *s == '[') {
        char end = *s == '{' ? '}' : ']';
        bool object = *s == '{';
        s++;
        while (*s != end) {
            if (object) {
                assert_int_equal(*s, '"');
                s = json_value(s, depth + 1);
                assert_int_equal(*s++, ':');
            }
            s = json_value(s, depth + 1);
            assert_true(*s == ',' || *s == end);
            if (*s == ',') {
                s++;
                assert_int_not_equal(*s, end);
            }
        }
        return s + 1;
    }
    if (*s == '"') {
        for (s++; *s != '"'; s++) {
            assert_true((unsigned char)*s >= 0x20);
            if (*s == '\\') {
                s++;
                assert_true(strchr("\"\\/bfnrtu", *s) != NULL && *s != '\0');
                if (*s == 'u') {
                    for (unsigned i = 0; i < 4; i++)
                        assert_non_null(strchr("0123456789abcdefABCDEF", *++s));
                }
            }
        }
        return s + 1;
    }
    if (begins(s, "true") || begins(s, "null"))
        return s + 4;
    if (begins(s, "false"))
        return s + 5;
    s += *s == '-';
    assert_true(digits(s) > 0);
    s += digits(s);
    if (*s == '.') {
        assert_true(digits(s + 1) > 0);
        s += 1 + digits(s + 1);
    }
    return s;
}

static unsigned
check_json(const char *s)
{
    unsigned lines = 0;
    check_utf8(s, false);
    while (*s != '\0') {
        assert_true(begins(s, "{\"type\":\"capture\"")
            || begins(s, "{\"type\":\"flow\"")
            || begins(s, "{\"type\":\"event\"")
            || begins(s, "{\"type\":\"verdict\""));
        s = json_value(s, 0);
        assert_int_equal(*s++, '\n');
        lines++;
    }
    return lines;
}

/* Only tags and attributes of html.c, closed where they must be; quotes balanced inside tags. */
static void
check_html(const char *s)
{
    static const char *const tags[] = { "!DOCTYPE", "a", "body", "blockquote", "code", "dd",
        "details", "div", "dl", "dt", "h1", "h2", "h3", "head", "html", "i", "input", "label",
        "meta", "p", "path", "script", "small", "span", "style", "summary", "svg", "table",
        "tbody", "td", "th", "thead", "title", "tr", "wbr" };
    const char *style = strstr(s, "<style>"), *style_end = strstr(s, "</style>");
    const char *script = strstr(s, "<script>"), *script_end = strstr(s, "</script>");
    int open = 0;
    check_utf8(s, false);
    assert_non_null(style);
    for (; (s = find(s, '<')) != NULL; s++) {
        size_t n, i;
        bool end = s[1] == '/';
        const char *stop = find(s, '>');
        assert_non_null(stop);
        if ((s > style && s < style_end) || (s > script && s < script_end))
            continue;
        for (n = 0; s[1 + end + n] != ' ' && s[1 + end + n] != '>'; n++)
            ;
        for (i = 0; i < sizeof tags / sizeof *tags; i++)
            if (strlen(tags[i]) == n && memcmp(s + 1 + end, tags[i], n) == 0)
                break;
        assert_true(i < sizeof tags / sizeof *tags);
        assert_null(memchr(s + 1, '<', (size_t)(stop - s - 1)));
        assert_true(memcmp(s, "<td", 3) != 0 || memchr(s, '\\', (size_t)(stop - s)) == NULL);
        if (begins(s + 1 + end, "details") || begins(s + 1 + end, "div")
            || begins(s + 1 + end, "table") || begins(s + 1 + end, "dl")
            || begins(s + 1 + end, "summary"))
            open += end ? -1 : 1;
        assert_true(open >= 0);
    }
    assert_int_equal(open, 0);
}

static void
check_all(const struct report *r)
{
    int form;
    for (form = 0; form < FORM_COUNT; form++) {
        size_t len;
        char *out = written(r, (enum form)form, &len);
        if (form == FORM_JSON)
            check_json(out);
        else if (form == FORM_HTML)
            check_html(out);
        else
            check_utf8(out, form == FORM_COLOUR);
        if (form == FORM_TEXT || form == FORM_LADDER)
            check_columns(out, form == FORM_TEXT ? 80 : 100);
        free(out);
    }
}

/* ---- tests ---- */

/* github.com/corelight/community-id-spec, baseline_deflt.json: TCP, UDP and SCTP, both ways */
static void
community_ids_are_those_of_the_specification(void **state)
{
    static const struct {
        uint8_t     protocol;
        const char *source, *target;
        uint16_t    source_port, target_port;
        const char *id;
    } vectors[] = {
        { 6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 63943, 25,
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=" },
        { 6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg=" },
        { 17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ=" },
        { 132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=" },
    };
    struct address none = { { 0 }, 0 };
    char out[COMMUNITY_MAX];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct address a = address_of(vectors[i].source), b = address_of(vectors[i].target);
        uint16_t p = vectors[i].source_port, q = vectors[i].target_port;
        assert_string_equal(community_id(&a, p, &b, q, vectors[i].protocol, out), vectors[i].id);
        assert_string_equal(community_id(&b, q, &a, p, vectors[i].protocol, out), vectors[i].id);
        assert_string_equal(community_id(&a, p, &none, q, vectors[i].protocol, out), "");
    }
}

static void
odd_characters_are_escaped(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "", "" },
        { "pa.example", "pa.example" },
        { "m\xc3\xbcller.example", "m\xc3\xbcller.example" },
        { "\xe4\xbe\x8b.example", "\xe4\xbe\x8b.example" },
        { "a\tb\nc\x1b[31m", "a\\x09b\\x0ac\\x1b[31m" },
        { "a\xff" "b", "a\\xffb" },
        { "\xc0\xaf", "\\xc0\\xaf" },                       /* overlong */
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },              /* surrogate */
        { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },     /* over U+10FFFF */
        { "cut\xe4\xbe", "cut" },                           /* cut at the end */
        { "cut\xe4\xbex", "cut\\xe4\\xbex" },               /* damaged in the middle */
        { "\xe2\x80\xae" "abc", "\\u{202e}abc" },           /* right to left override */
        { "a\xe2\x80\x8b" "b", "a\\u{200b}b" },             /* zero width space */
        { "\xc2\x9b" "31m", "\\u{9b}31m" },                 /* C1 CSI */
        { "\x7f", "\\x7f" },
    };
    struct text t = { NULL, 0, 0 };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        text_clear(&t);
        text_clean(&t, rows[i].in);
        assert_string_equal(t.at, rows[i].out);
    }
    text_free(&t);
}

static void
times_are_written_in_utc(void **state)
{
    char out[STAMP_MAX];
    (void)state;
    assert_string_equal(stamp_text(START_NS, STAMP_ISO, out), "2026-06-01T10:00:00.123456789Z");
    assert_string_equal(stamp_text(START_NS, STAMP_LONG, out), "2026-06-01 10:00:00.123 UTC");
    assert_string_equal(stamp_text(START_NS, STAMP_SHORT, out), "10:00:00.123");
    assert_string_equal(stamp_text(0, STAMP_ISO, out), "1970-01-01T00:00:00.000000000Z");
    assert_string_equal(stamp_offset(START_NS, START_NS + 4123456, out), "+0.004123");
    assert_string_equal(stamp_offset(START_NS, START_NS - 1500 * MS, out), "-1.500000");
    assert_string_equal(stamp_length(40 * MS, out), "40 ms");
    assert_string_equal(stamp_length(5065 * MS, out), "5.0 s");
    assert_string_equal(stamp_length(200000 * MS, out), "3 min 20 s");
    assert_string_equal(stamp_length(7500000 * MS, out), "2 h 5 min");
    stamp_text(INT64_MAX, STAMP_LONG, out);
}

/* Certificates name times that 32 bits do not hold. */
static void
dates_are_those_of_the_calendar_before_1970_and_after_2038(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } rows[] = {
        { INT64_C(-62162035200), "0000-03-01T00:00:00.000000000Z" },
        { INT64_C(-2208988800), "1900-01-01T00:00:00.000000000Z" },
        { INT64_C(-2203891201), "1900-02-28T23:59:59.000000000Z" },
        { INT64_C(-2203891200), "1900-03-01T00:00:00.000000000Z" },   /* no leap year */
        { -1, "1969-12-31T23:59:59.000000000Z" },
        { 0, "1970-01-01T00:00:00.000000000Z" },
        { INT64_C(951782400), "2000-02-29T00:00:00.000000000Z" },
        { INT64_C(2147483647), "2038-01-19T03:14:07.000000000Z" },
        { INT64_C(2147483648), "2038-01-19T03:14:08.000000000Z" },
        { INT64_C(4107542400), "2100-03-01T00:00:00.000000000Z" },
        { INT64_C(253402300799), "9999-12-31T23:59:59.000000000Z" },
        { INT64_C(253402300800), "" },
        { INT64_MIN, "" }, { INT64_MAX, "" },
    };
    char out[STAMP_MAX];
    const struct xe_date first = { .year = 1, .month = 1, .day = 1 };
    struct xe_date d;
    int64_t moment;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(stamp_seconds(rows[i].seconds, out), rows[i].text);
    for (moment = xe_date_seconds(&first); d.year < 2500; moment += 86399) {
        xe_date_of(moment, &d);
        assert_int_equal(xe_date_seconds(&d), moment);
    }
    assert_string_equal(stamp_text(INT64_C(4102444800) * SECOND, STAMP_LONG, out),
        "2100-01-01 00:00:00.000 UTC");
}

/* What is wrong, then where, then with whom. */
static void
failures_come_first_then_rows_then_partners(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    size_t len;
    char *out = written(&x->r, FORM_TEXT, &len);
    const char *rows = strstr(out, "PORT TABLE"), *partners = strstr(out, "PARTNERS"),
        *failures = strstr(out, "FAILURES"), *details = strstr(out, "DETAILS");
    (void)state;
    assert_non_null(strstr(out, "Row 2 (out) works in part: 2 of 4 failed, and"));
    assert_non_null(strstr(out, "Row 3 (in) was not seen."));
    assert_true(failures != NULL && rows > failures && partners > rows && details > partners);
    assert_non_null(strstr(out, "XMPP/MTLS/23456"));
    assert_non_null(strstr(out, "WORKED, BUT"));
    assert_non_null(strstr(out, "counted, not listed: 5 cert-expired"));
    free(out);
    fixture_free(x);
}

/* One entry for the same failure; the sentence for the partner is complete. */
static void
failures_of_the_same_cause_are_one_group(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    struct text t = { NULL, 0, 0 };
    struct group *list;
    size_t n;
    (void)state;
    list = report_groups(&x->r, GROUP_FAILED, &n);
    assert_int_equal(n, 2);
    assert_int_equal(list[0].count, 2);
    assert_int_equal(list[0].cause, CAUSE_CERT_EXPIRED);
    assert_string_equal(group_partner(&list[0]), "partner.example");
    group_forward(&t, &list[0]);
    assert_string_equal(t.at, "The certificate of your server has expired: please renew it. Seen "
        "at 2026-06-01 10:00:02.123 UTC: "
        "ours.example (192.0.2.1:40002) -> partner.example "
        "(198.51.100.7:5269), a certificate has expired; "
        "ours.example said \"partner.example\"; "
        "stream id partner.example; 2 times until "
        "2026-06-01 10:00:03.123 UTC.");
    free(list);
    list = report_groups(&x->r, GROUP_SETBACK, &n);
    assert_int_equal(n, 1);
    assert_int_equal(list[0].cause, CAUSE_SASL_REFUSED);
    free(list);
    text_free(&t);
    fixture_free(x);
}

static void
a_ladder_shows_who_said_what(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    size_t len, i;
    char *out = written(&x->r, FORM_LADDER, &len);
    static const char *const lines[] = {
        "   +0.000000      10  |-- SYN -------",
        "-------- SYN, ACK --|\n",
        "   +0.006000      17  :-- TLS ClientHello  for partner.example, up to TLS 1.3 ---",
        " gap: 123 bytes missing (from the responder, packet 21) ",
        "   +0.010000      22  #-- <auth/> EXTERNAL ------",
        "#-- <message/> partner.example  ***@ours.example/*** to ***@theirs",
        " 3.9 s later ",
    };
    const char *line;
    (void)state;
    for (i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strstr(out, lines[i]) == NULL)
            print_error("not there: %s\n", lines[i]);
        assert_non_null(strstr(out, lines[i]));
    }
    for (line = strstr(out, "\n   +0."); line != NULL; line = strstr(line + 1, "\n   +0."))
        assert_int_equal(strcspn(line + 1, "\n"), 100);
    free(out);
    fixture_free(x);
}

/* The long middle of a stream is left out, and that is told. */
static void
what_is_left_out_is_counted(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    int i;
    (void)state;
    for (i = 0; i < 200; i++)
        say(x->attempts[0], EVENT_HEADER, XE_KIND_UNKNOWN, i & 1, 5000 + i, "", "", "", "");
    assert_int_equal(x->attempts[0]->nevents, ATTEMPT_EVENTS_MAX);
    assert_true(report_contains(&x->r, FORM_LADDER, " 129 events left out "));
    assert_true(report_contains(&x->r, FORM_HTML, "129 events left out"));
    fixture_free(x);
}

static void
colours_are_only_those_of_the_report(void **state)
{
    struct fixture *x = fixture_new("\x1b[41mred\x1b[0m");
    (void)state;
    assert_false(report_contains(&x->r, FORM_TEXT, "\x1b"));
    assert_false(report_contains(&x->r, FORM_LADDER, "\x1b"));
    assert_true(report_contains(&x->r, FORM_COLOUR, "\x1b[1;31m"));
    assert_false(report_contains(&x->r, FORM_COLOUR, "\x1b[41m"));
    fixture_free(x);
}

static void
secrets_are_not_written(void **state)
{
    static const char *const secrets[] = { "juliet", "romeo", "balcony", "wherefore" };
    struct fixture *x = fixture_new("partner.example");
    size_t i;
    int form;
    (void)state;
    for (form = 0; form < FORM_COUNT; form++)
        for (i = 0; i < sizeof secrets / sizeof *secrets; i++)
            assert_false(report_contains(&x->r, (enum form)form, secrets[i]));
    assert_true(report_contains(&x->r, FORM_JSON, "\"from\":\"***@ours.example/***\""));
    x->r.show_content = true;
    assert_true(report_contains(&x->r, FORM_LADDER, "juliet@ours.example/balcony"));
    assert_true(report_contains(&x->r, FORM_HTML, "wherefore-art-thou"));
    assert_true(report_contains(&x->r, FORM_JSON, "\"from\":\"juliet@ours.example/balcony\""));
    fixture_free(x);
}

static void
json_has_the_promised_members(void **state)
{
    static const char *const parts[] = {
        "{\"type\":\"capture\",\"schema\":1,\"program\":\"xmppedge-analyze\"",
        "\"first\":\"2026-06-01T10:00:00.123456789Z\",\"first_epoch\":1780308000.123456789",
        "{\"type\":\"flow\",\"attempt\":1,\"flow\":1,\"community_id\":\"1:",
        "{\"type\":\"event\",\"attempt\":1,\"flow\":1,\"community_id\":\"1:",
        "\"event\":\"tcp-syn\",\"element\":\"\",\"side\":\"initiator\",\"cover\":\"plain\"",
        "\"event\":\"element\",\"element\":\"auth\",\"side\":\"initiator\",\"cover\":\"decrypted\"",
        "{\"type\":\"event\",\"attempt\":5,\"flow\":null,\"community_id\":null,",
        "{\"type\":\"verdict\",\"about\":\"attempt\",\"attempt\":2,\"flow\":2,",
        "\"row\":\"5269-out\",\"direction\":\"out\",\"outcome\":\"failed\",\"reached\":\"tls\"",
        "{\"type\":\"verdict\",\"about\":\"row\",\"row\":\"5269-in\",\"number\":1,",
        "{\"type\":\"verdict\",\"about\":\"violation\",\"kind\":\"plain-stanzas\"",
        "{\"type\":\"verdict\",\"about\":\"partner\",\"ours\":\"ours.example\"",
        "{\"type\":\"verdict\",\"about\":\"cause\",\"kind\":\"failed\",\"cause\":\"cert-expired\"",
        "{\"type\":\"verdict\",\"about\":\"summary\",\"worked\":1,\"failed\":3",
        "\"not_after\":\"9999-12-31T23:59:59.000000000Z\"",
        "\"not_after_epoch\":253402300799.000000000",
        "\"event\":\"dns-question\"",
    };
    struct fixture *x = fixture_new("partner.example");
    size_t len, i;
    char *out = written(&x->r, FORM_JSON, &len);
    (void)state;
    check_json(out);
    for (i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strstr(out, parts[i]) == NULL)
            print_error("not there: %s\n", parts[i]);
        assert_non_null(strstr(out, parts[i]));
    }
    assert_null(strstr(out, "{\"type\":\"flow\",\"attempt\":5"));
    free(out);
    fixture_free(x);
}

static void
json_escapes_what_it_must(void **state)
{
    struct fixture *x = fixture_new("q\" b\\ n\n \xff \xe2\x80\xa8 \xf3\xa0\x80\x81 \xc3\xbc");
    (void)state;
    assert_true(report_contains(&x->r, FORM_JSON,
        "q\\\" b\\\\ n\\u000a \\\\xff \\u2028 \\udb40\\udc01 \xc3\xbc\""));
    check_all(&x->r);
    fixture_free(x);
}

/* What may come from a network that wants to be markup, a terminal sequence, a second line. */
static void
hostile_texts_do_not_leave_their_place(void **state)
{
    static const char *const texts[] = { "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>", "'onmouseover='x", "</td></tr></table><style>*{}",
        "&lt;b&gt;", "<!-- -->", "]]>", "javascript:alert(1)", "\x1b]0;title\x07", "\r\nFAKE line",
        "\xe2\x80\xae"
        "drowssap",
        "\xff\xfe\xfd", "{\"type\":\"capture\"}\n", "%s%n%n%n", "\\", "\\u0000",
        "a\x01"
        "b\x02",
        "\xf0\x9f\x92\xa9", "</style>", "</summary></details>", "\xef\xbb\xbf",
        "\xe4\xbe\x8b\xe4\xbe\x8b\xe4\xbe\x8b\xe4\xbe\x8b\xe4\xbe\x8b\xe4\xbe\x8b\xe4\xbe\x8b" };
    static const char *const never[] = { "<script>alert", "<img", "<style>*", "<!--", "<b>" };
    size_t i, k;
    (void)state;
    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fixture *x = fixture_new(texts[i]);
        check_all(&x->r);
        for (k = 0; k < sizeof never / sizeof *never; k++)
            assert_false(report_contains(&x->r, FORM_HTML, never[k]));
        x->r.show_content = true;
        check_all(&x->r);
        fixture_free(x);
    }
}

/* Texts of random bytes, of all lengths up to the longest. */
static void
random_texts_do_not_leave_their_place(void **state)
{
    uint32_t seed = 12345;
    int round;
    (void)state;
    for (round = 0; round < 60; round++) {
        char bytes[600];
        size_t n = 0, len = (size_t)round * 10;
        struct fixture *x;
        while (n < len) {
            seed = seed * 1664525u + 1013904223u;
            bytes[n++] = (char)(1 + (seed >> 24) % 255);
        }
        bytes[n] = '\0';
        x = fixture_new(bytes);
        check_all(&x->r);
        fixture_free(x);
    }
}

static void
an_empty_report_says_so(void **state)
{
    struct report r;
    (void)state;
    memset(&r, 0, sizeof r);
    r.external_port = 5269;
    r.internal_port = 23456;
    check_all(&r);
    assert_true(report_contains(&r, FORM_TEXT, "No XMPP federation was found in this capture."));
    assert_true(report_contains(&r, FORM_HTML, "No XMPP federation was found in this capture."));
}

/* The most there can be: the page stays readable, in size too; failures keep their ladders. */
static void
the_most_there_can_be_stays_readable(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    size_t i, len;
    int k;
    char *out;
    (void)state;
    for (i = 5; i < ATTEMPTS_LISTED_MAX; i++) {
        char to[64];
        bool failed = i % 2 == 0;
        struct attempt *a;
        snprintf(to, sizeof to, "partner-%lu.example", (unsigned long)(i % 700));
        a = attempt_make(i, "ours.example", to, failed ? OUTCOME_FAILED : OUTCOME_WORKED,
            failed ? CAUSE_TLS_FAILED : CAUSE_NONE);
        fixture_tls(a, &x->cert, to);
        for (k = 0; k < ATTEMPT_EVENTS_MAX; k++)
            say(a, EVENT_HEADER, XE_KIND_UNKNOWN, k & 1, k, "ours.example", to, "0123456789abcdef",
                "");
        x->attempts[i] = a;
    }
    x->r.nattempts = ATTEMPTS_LISTED_MAX;
    x->r.attempts_left_out = 12345;
    out = written(&x->r, FORM_HTML, &len);
    assert_true(len < 500 * 1000);
    check_html(out);
    assert_non_null(strstr(out, "The ladder is left out"));
    assert_non_null(strstr(out, " more attempts, left out to keep this page small"));
    free(out);
    x->r.choice.all = true;
    out = written(&x->r, FORM_HTML, &len);
    assert_true(len > 5 * 1000 * 1000 && len < 40 * 1000 * 1000);
    check_html(out);
    assert_non_null(strstr(out, "12345 attempts over a ceiling are not listed; --json"));
    free(out);
    out = written(&x->r, FORM_TEXT, &len);
    check_columns(out, 80);
    assert_true(len < 2 * 1000 * 1000);
    free(out);
    x->r.choice.all = false;
    out = written(&x->r, FORM_JSON, &len);
    assert_true(check_json(out) > 190000);
    free(out);
    out = written(&x->r, FORM_TEXT, &len);
    check_columns(out, 80);
    assert_true(len < 20 * 1000);
    free(out);
    fixture_free(x);
}

static void
writing_twice_gives_the_same(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    int form;
    (void)state;
    for (form = 0; form < FORM_COUNT; form++) {
        size_t n, m;
        char *a = written(&x->r, (enum form)form, &n), *b = written(&x->r, (enum form)form, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        free(a);
        free(b);
    }
    fixture_free(x);
}

static void
a_full_disk_is_told(void **state)
{
    struct fixture *x = fixture_new("partner.example");
    FILE *full = fopen("/dev/full", "w");
    (void)state;
    if (full == NULL) {
        fixture_free(x);
        skip();
    }
    assert_int_equal(report_text(&x->r, full, &(struct paper){ .ladder = true }), -1);
    assert_int_equal(report_json(&x->r, full), -1);
    assert_int_equal(report_html(&x->r, full), -1);
    fclose(full);
    fixture_free(x);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(community_ids_are_those_of_the_specification),
        cmocka_unit_test(odd_characters_are_escaped),
        cmocka_unit_test(times_are_written_in_utc),
        cmocka_unit_test(dates_are_those_of_the_calendar_before_1970_and_after_2038),
        cmocka_unit_test(failures_come_first_then_rows_then_partners),
        cmocka_unit_test(failures_of_the_same_cause_are_one_group),
        cmocka_unit_test(a_ladder_shows_who_said_what),
        cmocka_unit_test(what_is_left_out_is_counted),
        cmocka_unit_test(colours_are_only_those_of_the_report),
        cmocka_unit_test(secrets_are_not_written),
        cmocka_unit_test(json_has_the_promised_members),
        cmocka_unit_test(json_escapes_what_it_must),
        cmocka_unit_test(hostile_texts_do_not_leave_their_place),
        cmocka_unit_test(random_texts_do_not_leave_their_place),
        cmocka_unit_test(an_empty_report_says_so),
        cmocka_unit_test(the_most_there_can_be_stays_readable),
        cmocka_unit_test(writing_twice_gives_the_same),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
