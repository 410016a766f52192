/* fuzz_xmpp.c -- what two ends say, of any bytes, from the content of TCP up to the reports
 *
 * Input: two bytes about the connection, then steps: a byte of kind (bit 0: side; bits 1 to 3: 0 to
 * 4 content, 5 a gap, 6 time goes by, 7 a message of DNS), two bytes of length, the bytes.  It is
 * read as it is and again in pieces; what is known in the end has to be the same.  Then it is
 * judged, and a report of one form is written.
 */
#include "../../analyze/report.h"

#include "../fuzz/fuzz_main.h"

/* Broken input may be told from its first segment, and pieces of it are told otherwise.  Compared
 * are the files of the corpus, and what a fuzzer finds only for those who want to look at it. */
#if !defined FUZZ_LIBFUZZER || defined FUZZ_PIECES
#define COMPARE true
#else
#define COMPARE false
#endif

static const struct address ends[2] = { { { 192, 0, 2, 1 }, 4 }, { { 203, 0, 113, 10 }, 4 } };

static struct flow
flow_make(const uint8_t *about)
{
    static const uint16_t ports[4] = { 5269, 23456, 5270, 7777 };
    struct flow f = { .number = 1 };
    f.side[0].address = ends[(about[0] >> 2) & 1];
    f.side[1].address = ends[((about[0] >> 2) & 1) ^ 1];
    f.side[0].port = 40000;
    f.side[1].port = ports[about[0] & 3];
    f.evidence = (about[0] & 8) != 0 ? EVIDENCE_PORT : EVIDENCE_SYN;
    f.established = (about[0] & 16) == 0;
    f.syn_frame = f.first_frame = 1;
    f.synack_frame = f.established ? 2 : 0;
    f.first_ns = f.last_ns = 1000000000000;
    f.synack_ns = f.established ? f.first_ns + 1 : 0;
    f.side[0].syns = f.side[1].syns = 1;
    f.end = (enum flow_end)(FLOW_FIN + about[1] % (FLOW_EVICTED - FLOW_FIN + 1));
    f.icmp = f.end == FLOW_ICMP ? (enum icmp_error)(about[1] >> 5) : ICMP_NONE;
    f.icmp = f.icmp > ICMP_TTL ? ICMP_TTL : f.icmp;
    return f;
}

/* Pushes in pieces of `step` bytes, each of its own memory so that reading past its end is seen. */
static bool
push(struct xmpp *x, int side, const uint8_t *at, size_t len, size_t step, const struct flow *f)
{
    bool more = true;
    for (size_t from = 0; more && from < len; from += step) {
        size_t part = len - from < step ? len - from : step;
        unsigned char *copy = malloc(part);
        must(copy != NULL, "memory");
        memcpy(copy, at + from, part);
        more = xmpp_push(x, side, copy, part, f->side[0].packets + f->side[1].packets, f->last_ns);
        free(copy);
    }
    return more;
}

/* NULL: no federation, nobody wants to know more. */
static struct attempt *
read_all(const uint8_t *at, size_t len, size_t step, struct tls_certs *certs, struct dns *dns)
{
    struct flow f = flow_make(at);
    struct attempt *a = attempt_new(&f);
    struct xmpp *x = xmpp_open(a, (at[0] & 32) != 0, NULL, certs, NULL, NULL);
    must(a != NULL && x != NULL, "memory");
    at += 2;
    len -= 2;
    bool more = true;
    while (more && len >= 3) {
        size_t size = (size_t)at[1] << 8 | at[2];
        int side = at[0] & 1;
        size = size > len - 3 ? len - 3 : size;
        f.side[side].packets++;
        f.last_ns += 1000000;
        switch (at[0] >> 1 & 7) {
        case 5:
            f.side[side].lost += size + 1;
            xmpp_gap(x, side, size + 1, f.side[0].packets + f.side[1].packets, f.last_ns);
            break;
        case 6:
            f.last_ns += (int64_t)size * 1000000000;
            break;
        case 7:
            if (dns != NULL)
                dns_push(dns, &ends[side], &ends[!side], side == 1, at + 3, size, 1, f.last_ns);
            break;
        default:
            f.side[side].bytes += size;
            more = push(x, side, at + 3, size, step, &f);
            break;
        }
        at += 3 + size;
        len -= 3 + size;
    }
    xmpp_close(x);
    a->flow = f;
    a->seen_until_ns = f.last_ns;
    if (!more) {
        attempt_free(a);
        return NULL;
    }
    return a;
}

/* The caller speaks first, and not with a blank: else it is the first segment that counts. */
static bool
begins_well(const uint8_t *at, size_t len)
{
    for (at += 2, len -= 2; len >= 3;) {
        size_t size = (size_t)at[1] << 8 | at[2];
        size = size > len - 3 ? len - 3 : size;
        if ((at[0] >> 1 & 7) < 5 && size > 0)
            return (at[0] & 1) == 0 && (at[3] > ' ' || at[3] == 0x16);
        at += 3 + size;
        len -= 3 + size;
    }
    return true;
}

static bool
event_is_same(const struct event *a, const struct event *b)
{
    return a->kind == b->kind && a->element == b->element && a->side == b->side
        && a->frame == b->frame && a->time_ns == b->time_ns && strcmp(a->from, b->from) == 0
        && strcmp(a->to, b->to) == 0 && strcmp(a->what, b->what) == 0
        && strcmp(a->text, b->text) == 0;
}

static void
compare(const struct attempt *a, const struct attempt *b)
{
    must(a->is_xmpp == b->is_xmpp, "XMPP in pieces only, or only as a whole");
    if (!a->is_xmpp)
        return;
    must(a->content == b->content, "another content in pieces");
    must(a->nevents == b->nevents, "another number of events in pieces");
    for (unsigned i = 0; i < a->nevents; i++)
        must(event_is_same(&a->events[i], &b->events[i]), "other events in pieces");
    must(strcmp(a->from, b->from) == 0 && strcmp(a->to, b->to) == 0, "other domains in pieces");
    must(strcmp(a->features, b->features) == 0, "other features in pieces");
    must(a->ndialbacks == b->ndialbacks, "other dialback in pieces");
    must(memcmp(a->stanzas, b->stanzas, sizeof a->stanzas) == 0, "other stanzas in pieces");
    must(a->xml_bad_side == b->xml_bad_side && a->error_side == b->error_side, "other errors");
    must(a->nrecords == b->nrecords && a->tls.established == b->tls.established, "other TLS");
}

static void
judge(struct attempt *a, const struct dns *dns, unsigned form)
{
    static FILE *nowhere;
    struct verdict_options o = { .nexternal = 1, .external_known = KNOWN_OPTION };
    o.external[0] = ends[1];
    struct judge *j = judge_new(&o, dns);
    must(j != NULL, "memory");
    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    judge_push(j, a);
    const struct report *r = judge_end(j);
    must(form % 3 != 0 || report_text(r, nowhere, &(struct paper){ true, true, 0 }) == 0, "text");
    must(form % 3 != 1 || report_json(r, nowhere) == 0, "JSON");
    must(form % 3 != 2 || report_html(r, nowhere) == 0, "HTML");
    judge_free(j);
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    if (len < 2)
        return 0;
    struct tls_certs *certs = tls_certs_new();
    struct dns *dns = dns_new();
    struct attempt *whole = read_all(at, len, SIZE_MAX / 2, certs, dns);
    struct attempt *pieces = read_all(at, len, 1 + at[1] / 16 % 4, certs, NULL);
    /* after a gap, or where the stream makes no sense, it is where segments begin that says where a
     * record begins */
    if (COMPARE && whole != NULL && pieces != NULL && begins_well(at, len)
        && whole->flow.side[0].lost + whole->flow.side[1].lost == 0 && whole->xml_bad_side < 0
        && pieces->xml_bad_side < 0)
        compare(whole, pieces);
    attempt_free(pieces);
    if (whole != NULL && whole->is_xmpp)
        judge(whole, dns, at[len - 1]);
    else
        attempt_free(whole);
    dns_free(dns);
    tls_certs_free(certs);
    return 0;
}
