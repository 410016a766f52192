/* verdict.c -- from what happened to what it means
 *
 *   attempt --> verdict_attempt()       how far, and why not further: this connection alone
 *                     |
 *               judge_list()            kept until the end, if there is room; judge_dns() adds
 *                     |                 names that were looked for in vain
 *               judge_join()            the two connections of a dialback question
 *                     |
 *               judge_row()             which row of the port table, and in which direction
 *               judge_rules()           which of its rules are broken
 *               judge_story()           one sentence, and judge_remedy(): what is to be done
 *                     |
 *               judge_count_row()       the counts of the row
 *               judge_count_partner()   the counts of the pair of domains
 *                     |
 *               judge_rule_row()        what is thought of a row --> struct report
 *
 * Beside them judge_inside() looks at all connections, XMPP or not: the edge calls nothing inside.
 *
 * The first ATTEMPTS_LISTED_MAX attempts are kept until the end, so that they can be joined with
 * later ones; half of the places are for failed ones only, and of either half three quarters for
 * those that are asked for.  What comes after them is placed and counted at once and forgotten.
 *
 * Rules of judging.  What a side said (a stream error, an alert, a refused key) is a fact, with or
 * without loss.  What a side did not say is a cause only when nothing is missing from the capture;
 * otherwise the outcome is not known.  Inside TLS without keys only lengths, times and who closed
 * first are facts: what rests on them is called inferred.  Rules about addresses are broken for
 * certain only when the addresses were given; with inferred ones they are suspected, and the row
 * says that it cannot be told.
 */
#include "verdict.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>

#define TRUNK_PORT 23456
#define DNS_PORT 53

#define VERDICT_SILENCE (5 * SECOND)   /* a peer that says nothing for so long is silent */
#define VERDICT_AT_END (SECOND / 10)   /* what is said so near to the end is a farewell */
#define VERDICT_IDLE (50 * SECOND)     /* silence that a middlebox may take for the end */
#define VERDICT_SYNS 3                 /* unanswered SYNs that are a time-out, however short */
#define VERDICT_STALLED 3              /* retransmissions of a side that does not get through */
#define VERDICT_FULL_SIZE 1000         /* bytes of content that fill a packet */

#define JUDGE_PARTNERS (2 * REPORT_PARTNERS_MAX)   /* places of the table, a power of two */
#define JUDGE_ADDRESSES 1024                       /* addresses that inference looks at */
#define JUDGE_RECENT 256                           /* failures that dialback may have waited for */
#define JUDGE_LOOKUP (10 * SECOND)                 /* questions further apart are several */

/* ---- one attempt ---- */

/* Who has to change something: a side of the flow, or no side in particular.  In tables it may be
 * whoever spoke, or whom it was said to. */
enum { NOBODY = -1, CALLER, CALLED, SPEAKER, LISTENER };

static int
fault_side(int fault, int speaker)
{
    if (fault == SPEAKER)
        return speaker;
    return fault == LISTENER ? !speaker : fault;
}

/* Why an attempt ended as it did. */
struct reason {
    enum cause cause;
    int fault;      /* CALLER, CALLED, NOBODY */
    bool said;      /* by a side: loss does not touch it */
};

/* A side said it. */
static struct reason
reason_said(enum cause c, int fault)
{
    return (struct reason){ c, fault, true };
}

/* It follows from what was seen, and from what was not. */
static struct reason
reason_seen(enum cause c, int fault)
{
    return (struct reason){ c, fault, false };
}

static struct reason
reason_none(void)
{
    return reason_seen(CAUSE_NONE, NOBODY);
}

static struct reason
reason_unknown(void)
{
    return reason_seen(CAUSE_CAPTURE_SHORT, NOBODY);
}

/* What is found out about one attempt while it is judged. */
struct finding {
    struct attempt *a;              /* borrowed */
    struct verdict *v;              /* borrowed; that of a */
    struct cert_anchors *anchors;   /* borrowed; NULL: chains are not judged */
    bool lossy;                     /* bytes or a whole direction are missing */
    uint64_t stanzas;
};

static struct verdict *
verdict_new(struct attempt *a)
{
    struct verdict *v = memory_try(calloc(1, sizeof *v));
    a->verdict = v;
    if (v == NULL)
        return NULL;
    v->method = v->remedy = v->forward = v->ended_where = v->twin_why = "";
    v->fault = v->said_by = v->closer = v->teller = NOBODY;
    return v;
}

static void
verdict_proof(struct verdict *v, const char *what, uint64_t frame, int64_t time_ns)
{
    if (frame == 0 || v->nproofs == PROOFS_MAX)
        return;
    v->proofs[v->nproofs++] = (struct proof){ frame, time_ns, what };
}

static void
verdict_words(struct verdict *v, int side, const char *condition, const char *text)
{
    v->said_by = side;
    if (text[0] != '\0' && condition[0] != '\0')
        snprintf(v->words, sizeof v->words, "%.60s: %.90s", condition, text);
    else
        snprintf(v->words, sizeof v->words, "%.63s%.90s", condition, text);
}

/* ---- what a side says ---- */

/* Case does not count. */
static bool
verdict_says(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (; *text != '\0'; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == word[i])
            i++;
        if (i == n)
            return true;
    }
    return false;
}

/* What a word in a text tells.  The last row of a table has no word: it is for all other texts. */
struct word_row {
    const char *word;
    enum cause cause;
};

static enum cause
verdict_word_cause(const struct word_row *row, const char *text)
{
    while (row->word != NULL && !verdict_says(text, row->word))
        row++;
    return row->cause;
}

/* Free text about a certificate or about TLS, as OpenSSL, GnuTLS, Prosody and ejabberd put it. */
static const struct word_row verdict_texts[] = {
    { "not yet valid", CAUSE_CERT_NOT_YET },
    { "expired", CAUSE_CERT_EXPIRED },
    { "revoked", CAUSE_CERT_REVOKED },
    { "purpose", CAUSE_CERT_PURPOSE },
    { "valid for this name", CAUSE_CERT_NAME },
    { "valid for its domain", CAUSE_CERT_NAME },
    { "host name mismatch", CAUSE_CERT_NAME },
    { "hostname", CAUSE_CERT_NAME },
    { "does not match", CAUSE_CERT_NAME },
    { "self signed", CAUSE_CERT_UNTRUSTED },
    { "self-signed", CAUSE_CERT_UNTRUSTED },
    { "issuer", CAUSE_CERT_UNTRUSTED },
    { "unknown ca", CAUSE_CERT_UNTRUSTED },
    { "trusted", CAUSE_CERT_UNTRUSTED },
    { "no certificate", CAUSE_CERT_MISSING },
    { "certificate is required", CAUSE_CERT_MISSING },
    { "starttls", CAUSE_TLS_REQUIRED },
    { "encryption", CAUSE_TLS_REQUIRED },
    { "encrypted", CAUSE_TLS_REQUIRED },
    { "certificate", CAUSE_CERT_INVALID },
    { "domain is blocked", CAUSE_BLOCKED },
    { NULL, CAUSE_NONE }
};

/* policy-violation, when it is about a stanza. */
static const struct word_row verdict_sizes[] = {
    { "too-big", CAUSE_TOO_BIG },
    { "header is too large", CAUSE_POLICY },
    { "too big", CAUSE_TOO_BIG },
    { "too large", CAUSE_TOO_BIG },
    { "size limit", CAUSE_TOO_BIG },
    { NULL, CAUSE_NONE }
};

/* XEP-0220 2.5: an error says why a key was not looked at. */
static const struct word_row verdict_dialbacks[] = {
    { "remote-connection-failed", CAUSE_DIALBACK_UNREACHABLE },
    { "remote-server-not-found", CAUSE_DIALBACK_UNREACHABLE },
    { "remote-server-timeout", CAUSE_DIALBACK_UNREACHABLE },
    { "policy-violation", CAUSE_TLS_REQUIRED },   /* if it is; verdict_dialback_cause() */
    { NULL, CAUSE_DIALBACK_ERROR }
};

/* RFC 6120 4.9.3: what a stream error means by itself, and whose fault it is. */
enum {
    ORDERLY = 1,   /* ends a stream that has done its work */
    VAGUE = 2      /* before the stream is ready: what was not seen may tell more */
};

struct condition_row {
    const char *word;
    enum cause cause;
    int fault;
    unsigned flags;
};

static const struct condition_row verdict_conditions[] = {
    { "host-unknown", CAUSE_HOST_UNKNOWN, CALLED, 0 },
    { "host-gone", CAUSE_HOST_UNKNOWN, CALLED, 0 },
    { "not-well-formed", CAUSE_XML_MALFORMED, LISTENER, 0 },
    { "xml-not-well-formed", CAUSE_XML_MALFORMED, LISTENER, 0 },
    { "invalid-xml", CAUSE_XML_MALFORMED, LISTENER, 0 },
    { "bad-format", CAUSE_XML_MALFORMED, LISTENER, 0 },
    { "bad-namespace-prefix", CAUSE_XML_MALFORMED, LISTENER, 0 },
    { "restricted-xml", CAUSE_XML_RESTRICTED, LISTENER, 0 },
    { "unsupported-encoding", CAUSE_XML_RESTRICTED, LISTENER, 0 },
    { "unsupported-stanza-type", CAUSE_BAD_ELEMENT, LISTENER, VAGUE },
    { "unsupported-feature", CAUSE_BAD_ELEMENT, LISTENER, VAGUE },
    { "improper-addressing", CAUSE_BAD_ADDRESS, LISTENER, 0 },
    { "invalid-from", CAUSE_INVALID_FROM, LISTENER, 0 },
    { "invalid-id", CAUSE_DIALBACK_INVALID, LISTENER, 0 },
    { "invalid-namespace", CAUSE_BAD_NAMESPACE, LISTENER, 0 },
    { "unsupported-version", CAUSE_BAD_VERSION, LISTENER, 0 },
    { "not-authorized", CAUSE_NOT_AUTHORIZED, LISTENER, 0 },
    { "policy-violation", CAUSE_POLICY, LISTENER, 0 },
    { "resource-constraint", CAUSE_LIMIT, SPEAKER, 0 },
    { "remote-connection-failed", CAUSE_DIALBACK_UNREACHABLE, CALLER, 0 },
    { "connection-timeout", CAUSE_SETUP_TIMEOUT, LISTENER, ORDERLY },
    { "system-shutdown", CAUSE_SHUTDOWN, SPEAKER, ORDERLY | VAGUE },
    { "conflict", CAUSE_STREAM_ERROR, SPEAKER, ORDERLY },
    { "reset", CAUSE_STREAM_ERROR, SPEAKER, ORDERLY },
    { "see-other-host", CAUSE_STREAM_ERROR, SPEAKER, ORDERLY },
    { NULL, CAUSE_STREAM_ERROR, SPEAKER, 0 }
};

static const struct condition_row *
verdict_condition(const char *word)
{
    const struct condition_row *row = verdict_conditions;
    while (row->word != NULL && strcmp(word, row->word) != 0)
        row++;
    return row;
}

static bool
verdict_is_orderly(const char *condition)
{
    return (verdict_condition(condition)->flags & ORDERLY) != 0;
}

/* What an alert means by itself; one about a certificate is about that of the other side. */
struct alert_row {
    enum xe_alert alert;   /* XE_ALERT_NONE: all others */
    enum cause cause;
    int fault;
};

static const struct alert_row verdict_alerts[] = {
    { XE_ALERT_NO_CERTIFICATE, CAUSE_CERT_MISSING, LISTENER },
    { XE_ALERT_BAD_CERTIFICATE, CAUSE_CERT_INVALID, LISTENER },
    { XE_ALERT_UNSUPPORTED_CERTIFICATE, CAUSE_CERT_PURPOSE, LISTENER },
    { XE_ALERT_CERTIFICATE_REVOKED, CAUSE_CERT_REVOKED, LISTENER },
    { XE_ALERT_CERTIFICATE_EXPIRED, CAUSE_CERT_EXPIRED, LISTENER },
    { XE_ALERT_CERTIFICATE_UNKNOWN, CAUSE_CERT_INVALID, LISTENER },
    { XE_ALERT_UNKNOWN_CA, CAUSE_CERT_UNTRUSTED, LISTENER },
    { XE_ALERT_ACCESS_DENIED, CAUSE_NOT_AUTHORIZED, NOBODY },
    { XE_ALERT_PROTOCOL_VERSION, CAUSE_TLS_VERSION, NOBODY },
    { XE_ALERT_INSUFFICIENT_SECURITY, CAUSE_TLS_NO_CIPHER, NOBODY },
    { XE_ALERT_UNRECOGNIZED_NAME, CAUSE_HOST_UNKNOWN, CALLED },
    { XE_ALERT_CERTIFICATE_REQUIRED, CAUSE_CERT_MISSING, LISTENER },
    { XE_ALERT_NONE, CAUSE_TLS_FAILED, NOBODY }
};

static const struct alert_row *
verdict_alert_row(int alert)
{
    const struct alert_row *row = verdict_alerts;
    while (row->alert != XE_ALERT_NONE && (int)row->alert != alert)
        row++;
    return row;
}

/* ---- certificates that are visible ---- */

/* What is wrong with the certificate of a side at the time of the connection. */
static enum cause
verdict_cert_cause(const struct finding *f, int side)
{
    const struct attempt *a = f->a;
    bool client = side == a->tls.client_side;
    const struct cert *c = attempt_cert(a, side);
    const char *domain = attempt_domain(a, side);
    int64_t now = a->flow.first_ns;
    enum cert_trust trust;
    if (c == NULL)
        return CAUSE_NONE;
    if (!c->readable)
        return CAUSE_CERT_INVALID;
    if (cert_expired_at(c, now))
        return CAUSE_CERT_EXPIRED;
    if (cert_early_at(c, now))
        return CAUSE_CERT_NOT_YET;
    if (domain[0] != '\0' && !cert_names_domain(c, domain))
        return CAUSE_CERT_NAME;
    trust = f->anchors != NULL ? cert_trust(c, f->anchors, now) : CERT_TRUST_UNKNOWN;
    if (trust == CERT_TRUST_NO || (c->self_signed && trust != CERT_TRUST_YES))
        return CAUSE_CERT_UNTRUSTED;
    if (client ? !c->eku_client : !c->eku_server)
        return CAUSE_CERT_PURPOSE;
    return CAUSE_NONE;
}

/* ---- how far it got ---- */

static const struct dialback *
verdict_dialback(const struct attempt *a, bool verify, enum dialback_answer answer)
{
    unsigned i;
    for (i = 0; i < a->ndialbacks; i++)
        if (a->dialbacks[i].verify == verify && a->dialbacks[i].answer == answer)
            return &a->dialbacks[i];
    return NULL;
}

static bool
verdict_verified(const struct attempt *a)
{
    return verdict_dialback(a, true, DIALBACK_VALID) != NULL
        || verdict_dialback(a, true, DIALBACK_INVALID) != NULL
        || verdict_dialback(a, true, DIALBACK_ERROR) != NULL;
}

static bool
verdict_asked(const struct attempt *a, bool verify)
{
    unsigned i;
    for (i = 0; i < a->ndialbacks; i++)
        if (a->dialbacks[i].verify == verify)
            return true;
    return false;
}

/* In TLS 1.3 the server judges the client after the last message of the handshake: it must have
 * gone on. */
static bool
verdict_tls_is_up(const struct attempt *a)
{
    unsigned i;
    if (!a->tls.established || a->tls.version < 0x0304)
        return a->tls.established;
    for (i = 0; i < a->nevents && a->events[i].kind != EVENT_TLS_UP && !a->tls.decrypted; i++)
        if (a->events[i].kind == EVENT_GAP)
            return false;   /* lengths tell nothing then */
    return a->last_content_ns[!a->tls.client_side] >= a->tls.finished_ns;
}

static bool
verdict_has_tls(const struct attempt *a)
{
    return a->content == CONTENT_TLS || a->starttls;
}

static const char *
verdict_method(const struct attempt *a, bool verify_only)
{
    if (a->trunk)
        return "trunk";
    if (a->sasl_success)
        return "EXTERNAL";
    if (verdict_dialback(a, false, DIALBACK_VALID) != NULL)
        return "dialback";
    return verify_only ? "verify" : "";
}

static void
verdict_reach(struct finding *f)
{
    const struct attempt *a = f->a;
    struct verdict *v = f->v;
    bool headers = a->headers[0] > 0 && a->headers[1] > 0;
    bool plain_headers = a->plain_headers[0] > 0 && a->plain_headers[1] > 0;
    bool auth = a->sasl_success || verdict_dialback(a, false, DIALBACK_VALID) != NULL
        || (a->trunk && f->stanzas > 0);
    v->verify_only = verdict_asked(a, true) && !verdict_asked(a, false) && f->stanzas == 0;
    v->method = verdict_method(a, v->verify_only);
    v->reached = REACH_NAME;
    if (a->flow.side[0].packets > 0 || a->flow.side[1].packets > 0)
        v->reached = REACH_SYN;
    if (a->flow.established
        || (a->flow.midstream && a->flow.side[0].bytes + a->flow.side[1].bytes > 0))
        v->reached = REACH_TCP;
    if (headers || plain_headers)
        v->reached = REACH_HEADER;
    if (verdict_tls_is_up(a))
        v->reached = REACH_TLS;
    if (headers && !(verdict_has_tls(a) && !a->tls.decrypted))
        v->reached = REACH_STREAM;
    if (auth || (v->verify_only && verdict_verified(a)))
        v->reached = REACH_AUTH;
    if (f->stanzas > 0 && (auth || a->flow.midstream || f->lossy))
        v->reached = REACH_STANZAS;
}

/* ---- how it ended ---- */

/* When a side ended the connection: its FIN, RST or last alert, whichever came first. */
struct bye {
    uint64_t frame;      /* UINT64_MAX: it did not */
    int64_t time_ns;
};

static void
verdict_bye_at(struct bye *b, uint64_t frame, int64_t time_ns)
{
    if (frame != 0 && frame < b->frame)
        *b = (struct bye){ frame, time_ns };
}

/* Of TLS 1.3 only the last record of a side may be taken for an alert. */
static struct bye
verdict_bye(const struct attempt *a, int side)
{
    const struct flow_side *s = &a->flow.side[side];
    struct bye b = { UINT64_MAX, INT64_MAX };
    verdict_bye_at(&b, s->fin_frame, s->fin_ns);
    verdict_bye_at(&b, s->rst_frame, s->rst_ns);
    if (a->tls.close_notify[side] || a->tls.encrypted_alert[side] || a->tls.alert_side == side)
        verdict_bye_at(&b, a->bye_frame[side], a->bye_ns[side]);
    return b;
}

/* What a side says after the other one has ended is its reaction, and no cause. */
static bool
verdict_is_reaction(const struct attempt *a, int side, uint64_t frame)
{
    return verdict_bye(a, !side).frame < frame;
}

/* A stream error, but none that answers the end of the other side. */
static bool
verdict_error_counts(const struct attempt *a)
{
    return a->error_side >= 0 && !verdict_is_reaction(a, a->error_side, a->error_frame);
}

/* Which side ended the connection: its FIN, RST, alert or stream end came first. */
static int
verdict_closer(const struct attempt *a)
{
    uint64_t first[2] = { verdict_bye(a, 0).frame, verdict_bye(a, 1).frame };
    int polite = a->stream_end[1];
    if (a->stream_end[0] != a->stream_end[1])
        return verdict_bye(a, !polite).time_ns < a->stream_end_ns[polite] ? !polite : polite;
    if (a->stream_end[0] && a->stream_end_ns[0] != a->stream_end_ns[1])
        return a->stream_end_ns[1] < a->stream_end_ns[0];
    if (first[0] == first[1])
        return NOBODY;
    return first[1] < first[0];
}

static bool
verdict_ended(const struct attempt *a)
{
    return a->flow.end == FLOW_FIN || a->flow.end == FLOW_RST || a->flow.side[0].fin
        || a->flow.side[1].fin;
}

/* Until when it is known that nothing more came: a connection that is open at the end was silent
 * from its last packet to the end of the capture. */
static int64_t
verdict_until(const struct attempt *a)
{
    bool open = a->flow.end == FLOW_CAPTURE_END || a->flow.end == FLOW_IDLE
        || a->flow.end == FLOW_OPEN;
    return open && a->seen_until_ns > a->flow.last_ns ? a->seen_until_ns : a->flow.last_ns;
}

/* For how long the last to speak has waited in vain. */
static int64_t
verdict_waited(const struct attempt *a)
{
    const int64_t *said = a->last_content_ns;
    return verdict_until(a) - (said[0] > said[1] ? said[0] : said[1]);
}

/* ---- inside TLS without keys: lengths and times ---- */

/* <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/> */
#define GUESS_SUCCESS 51
/* the least of <auth mechanism='EXTERNAL'/> with its namespace and content */
#define GUESS_AUTH 75
/* the least of <db:verify/> with its addresses, id and key */
#define GUESS_KEY 100
/* </stream:stream> */
#define GUESS_CLOSE 16
/* the most of a dialback question, and the least of its answer */
#define GUESS_KEY_MAX 600
#define GUESS_ANSWER 50
/* the least of a stanza; what is shorter keeps alive or acknowledges */
#define GUESS_STANZA 40

/* The conversation as its lengths show it. */
struct guess {
    unsigned said[2];       /* records of content of each side, the last farewell not counted */
    unsigned all[2];
    bool success;           /* a record as long as <success/> answers one as long as <auth/> */
    unsigned after;         /* records of the initiator after it */
    unsigned questions;     /* records of the initiator that are long enough for a dialback key */
    bool pending;           /* the latest one is, and has not been answered */
    unsigned stanzas;       /* records of the initiator that cannot be dialback, nor headers */
    unsigned stanzas_after; /* the same after <success/> */
    bool close[2];          /* the last record of the side is as long as </stream:stream> */
    int64_t final_ns[2];
    int64_t first_ns;
};

/* How a conversation is read from its lengths. */
struct reading {
    const struct attempt *a;    /* borrowed */
    unsigned overhead;          /* of a record */
    unsigned listed;
    bool padded[2];             /* TLS 1.3: filled up to 16 bytes, as Mbed TLS does */
    int64_t client_ns;          /* first encrypted record of the client */
    unsigned finished;          /* index of the client's Finished; UINT_MAX: none has its length */
};

/* What encryption adds to a record; 0: cannot be said. */
static unsigned
verdict_overhead(const struct tls_view *t)
{
    if (t->version >= 0x0304)
        return 17;
    if (strstr(t->cipher_name, "CCM-8") != NULL || strstr(t->cipher_name, "CCM_8") != NULL)
        return 16;
    if (strstr(t->cipher_name, "GCM") != NULL || strstr(t->cipher_name, "CCM") != NULL)
        return 24;
    return strstr(t->cipher_name, "CHACHA") != NULL ? 16 : 0;
}

/* A record of this length may hold n bytes of content. */
static bool
verdict_may_hold(const struct reading *r, const struct record_seen *record, unsigned n)
{
    if (r->padded[record->side])
        return record->length == 16 * ((n + 16) / 16) + 16;
    return record->length == n + r->overhead;
}

static struct reading
verdict_read(const struct attempt *a)
{
    struct reading r = { a, verdict_overhead(&a->tls), 0, { true, true }, INT64_MIN, UINT_MAX };
    unsigned hash = strstr(a->tls.cipher_name, "SHA384") != NULL ? 48 : 32;
    unsigned i;
    r.listed = a->nrecords < ATTEMPT_RECORDS_MAX ? a->nrecords : ATTEMPT_RECORDS_MAX;
    for (i = 0; i < r.listed; i++)
        if (a->records[i].length % 16 != 0 || a->tls.version < 0x0304)
            r.padded[a->records[i].side] = false;
    for (i = r.listed; i-- > 0; ) {
        if (a->records[i].side != a->tls.client_side)
            continue;
        r.client_ns = a->records[i].time_ns;
        if (verdict_may_hold(&r, &a->records[i], 4 + hash)
            && a->records[i].time_ns <= a->tls.finished_ns)
            r.finished = i;
    }
    return r;
}

/* In TLS 1.3 the first encrypted records of both sides are the handshake: those of the server
 * before the client says anything, and those of the client up to its Finished. */
static bool
verdict_is_handshake(const struct reading *r, unsigned i, bool *client_spoke)
{
    const struct record_seen *record = &r->a->records[i];
    if (r->a->tls.version < 0x0304)
        return false;
    if (record->side != r->a->tls.client_side)
        return !*client_spoke || record->time_ns < r->client_ns;
    *client_spoke = true;
    return r->finished != UINT_MAX ? i <= r->finished : record->frame <= r->a->tls.finished_frame;
}

static void
verdict_guess_counts(struct guess *g)
{
    g->stanzas++;
    g->stanzas_after += g->success && g->after > 1;   /* the first one is a header */
    g->pending = false;
}

/* A dialback question has a certain length and is answered on the spot; what goes on without an
 * answer, or has another length, is none.  The first two records are a header, and a key or so. */
static void
verdict_guess_stanza(struct guess *g, const struct reading *r, const struct record_seen *record)
{
    unsigned n = record->length > r->overhead ? record->length - r->overhead : 0;
    if (record->side == CALLED) {
        g->pending &= n < GUESS_ANSWER;
        return;
    }
    if (g->pending)
        verdict_guess_counts(g);
    if (g->all[CALLER] <= 2 || n < GUESS_STANZA)
        return;
    if (n >= GUESS_KEY && n <= GUESS_KEY_MAX)
        g->pending = true;
    else
        verdict_guess_counts(g);
}

/* `before`: bytes of content that the caller's last record may have had. */
static void
verdict_guess_record(struct guess *g, const struct reading *r, const struct record_seen *record,
    unsigned before)
{
    int side = record->side;
    if (side == CALLER && g->all[CALLER] > 0 && record->length >= r->overhead + GUESS_KEY)
        g->questions++;
    g->all[side]++;
    if (r->a->flow.last_ns - record->time_ns > VERDICT_AT_END)
        g->said[side]++;
    if (g->success && side == CALLER)
        g->after++;
    verdict_guess_stanza(g, r, record);
    if (side == CALLED && verdict_may_hold(r, record, GUESS_SUCCESS) && before > GUESS_AUTH)
        g->success = true;
    g->close[side] = verdict_may_hold(r, record, GUESS_CLOSE);
    g->final_ns[side] = record->time_ns;
    if (g->first_ns == 0)
        g->first_ns = record->time_ns;
}

static bool
verdict_is_content(const struct reading *r, unsigned i, bool *client_spoke)
{
    const struct record_seen *record = &r->a->records[i];
    bool alert = r->a->tls.version >= 0x0304 && verdict_may_hold(r, record, 2);
    return record->type == 23 && !verdict_is_handshake(r, i, client_spoke) && !alert;
}

static struct guess
verdict_guess(const struct attempt *a)
{
    struct guess g;
    struct reading r = verdict_read(a);
    bool client_spoke = false;
    unsigned before = 0, i;
    memset(&g, 0, sizeof g);
    for (i = 0; i < r.listed; i++) {
        const struct record_seen *record = &a->records[i];
        if (!verdict_is_content(&r, i, &client_spoke))
            continue;
        verdict_guess_record(&g, &r, record, before);
        if (record->side == CALLER)
            before = record->length > r.overhead ? record->length - r.overhead : 0;
    }
    for (i = 0; i < 2 && a->nrecords > r.listed; i++) {
        g.said[i] += a->nrecords - r.listed;
        g.all[i] += a->nrecords - r.listed;
        g.after += g.success ? 1u : 0u;
        g.stanzas++;
        g.stanzas_after++;
    }
    return g;
}

/* After which step it ended, as far as the records of the caller tell. */
static const char *
verdict_where(const struct guess *g, int closer)
{
    unsigned steps = g->all[CALLER];
    if (steps > 0 && g->close[CALLER])
        steps--;   /* its good-bye */
    if (steps > 1 && closer == CALLER)
        steps--;   /* and why */
    if (steps == 0)
        return ", right after the TLS handshake";
    return steps == 1 ? ", after the stream headers" : ", while the caller authenticated itself";
}

/* A dialback question looks like this: a header, a key, both answered, and the caller says
 * good-bye.  So does a refused key; judge_guessed_question() tells them apart by what else was
 * going on. */
static bool
verdict_may_be_question(const struct guess *g)
{
    bool answered_first = g->close[1] && g->final_ns[1] < g->final_ns[0];
    return g->close[0] && g->all[0] > g->said[0] && g->all[0] >= 3 && g->all[1] >= 2
        && !answered_first;
}

/* One side ended it at once.  In TLS 1.2 the certificates are visible: a bad one of the other side
 * is the likely reason. */
static struct reason
verdict_refused_inside(const struct finding *f, const struct guess *g)
{
    const struct attempt *a = f->a;
    int closer = verdict_closer(a);
    enum cause c = CAUSE_NONE;
    if (closer >= 0 && g->all[0] <= 2)
        c = verdict_cert_cause(f, !closer);
    if (closer == CALLED && g->all[0] <= 2 && a->tls.proof == PROOF_EMPTY)
        c = CAUSE_CERT_MISSING;
    if (c == CAUSE_NONE || c == CAUSE_CERT_PURPOSE
        || (c == CAUSE_CERT_UNTRUSTED && !attempt_cert(a, !closer)->self_signed))
        return reason_seen(CAUSE_REFUSED_INSIDE, NOBODY);
    return reason_seen(c, !closer);
}

/* Records of the caller between <success/> and the first stanza: a header, and on a trunk what is
 * settled there. */
static unsigned
verdict_prelude(const struct attempt *a)
{
    bool trunk = strcmp(a->alpn, "xmppedge") == 0 || a->flow.side[1].port == TRUNK_PORT;
    return trunk ? 4 : 2;
}

/* ---- before TLS and XML ---- */

static enum cause
verdict_icmp_cause(enum icmp_error e)
{
    switch (e) {
    case ICMP_PORT:
        return CAUSE_TCP_REFUSED;
    case ICMP_PROHIBITED:
        return CAUSE_TCP_PROHIBITED;
    case ICMP_TOO_BIG:
        return CAUSE_PATH_MTU;
    case ICMP_NONE:
    case ICMP_HOST:
    case ICMP_NET:
    case ICMP_TTL:
        break;
    }
    return CAUSE_TCP_UNREACHABLE;
}

/* The caller did more than call: the answers are only not in the capture. */
static bool
verdict_is_one_sided(const struct flow *flow)
{
    const struct flow_side *caller = &flow->side[CALLER];
    unsigned copies = (flow->remarks & 1u << REMARK_DUPLICATE) != 0 ? 2 : 1;
    return (flow->remarks & 1u << REMARK_ONE_SIDED) != 0 || caller->bytes > 0 || caller->fin
        || caller->packets > copies * (caller->syns + (caller->rst ? 1u : 0u));
}

/* The connection did not come about. */
static struct reason
verdict_tcp(const struct finding *f)
{
    const struct flow *flow = &f->a->flow;
    uint32_t syns = flow->side[CALLER].syns;
    if (flow->end == FLOW_REFUSED)
        return reason_said(CAUSE_TCP_REFUSED, CALLED);
    if (flow->icmp != ICMP_NONE) {
        snprintf(f->v->words, sizeof f->v->words, "ICMP error from %s",
            ENDPOINT(&flow->icmp_reporter, 0));
        return reason_said(verdict_icmp_cause(flow->icmp), CALLED);
    }
    if (verdict_is_one_sided(flow) || flow->midstream || syns == 0 || flow->synack_frame != 0)
        return reason_unknown();
    /* who gets no answer tries again */
    if ((flow->end == FLOW_UNANSWERED && syns > 1) || syns >= VERDICT_SYNS)
        return reason_said(CAUSE_TCP_TIMEOUT, CALLED);
    return reason_unknown();
}

/* A side sends full packets again and again, and they do not arrive: path MTU. */
static int
verdict_stalled(const struct attempt *a)
{
    int i;
    for (i = 0; i < 2; i++)
        if (a->flow.side[i].retransmitted >= VERDICT_STALLED
            && a->flow.side[i].bytes >= VERDICT_FULL_SIZE)
            return i;
    return NOBODY;
}

/* Established, and at least one side has said nothing. */
static struct reason
verdict_silence(const struct finding *f)
{
    const struct attempt *a = f->a;
    const struct flow_side *called = &a->flow.side[CALLED];
    bool ended = verdict_ended(a);
    int64_t waited = verdict_until(a) - a->flow.first_ns;
    if (a->flow.icmp == ICMP_TOO_BIG)
        return reason_said(CAUSE_PATH_MTU, NOBODY);
    if (verdict_stalled(a) == CALLER && !ended)
        return reason_seen(CAUSE_PATH_MTU, NOBODY);
    if (a->last_content_ns[0] == 0 && a->last_content_ns[1] == 0 && !ended
        && waited <= VERDICT_SILENCE)
        return reason_unknown();
    if (a->last_content_ns[0] == 0 && a->last_content_ns[1] == 0)
        return reason_seen(CAUSE_CALLER_SILENT, CALLER);
    if (called->rst_frame != 0 && waited < VERDICT_SILENCE)
        return reason_seen(CAUSE_PEER_LOST, CALLED);
    if (called->fin_frame != 0 && verdict_closer(a) == CALLED)
        return reason_seen(CAUSE_CRASH, CALLED);
    if (ended || waited >= VERDICT_SILENCE)
        return reason_seen(CAUSE_SILENT_PEER, CALLED);
    return reason_unknown();
}

/* ---- the TLS handshake ---- */

/* An alert counts unless the other side had gone already: OpenSSL complains of a missing
 * close_notify. */
static bool
verdict_alert_counts(const struct attempt *a)
{
    return a->tls.alert_side >= 0 && a->tls.alert != XE_ALERT_CLOSE_NOTIFY
        && a->tls.alert != XE_ALERT_USER_CANCELED
        && !verdict_is_reaction(a, a->tls.alert_side, a->tls.alert_frame);
}

/* The side that ended with an alert that cannot be read, and was the first to end; else NOBODY. */
static int
verdict_hidden_alert_side(const struct attempt *a)
{
    int i;
    for (i = 0; i < 2 && a->tls.server_hello; i++)
        if (a->tls.encrypted_alert[i] && !verdict_is_reaction(a, i, a->bye_frame[i]))
            return i;
    return NOBODY;
}

/* The alert that says it: handshake_failure stands for no certificate where one is needed, and
 * for nothing in common. */
static int
verdict_alert_meant(const struct finding *f)
{
    const struct tls_view *t = &f->a->tls;
    if (t->alert != XE_ALERT_HANDSHAKE_FAILURE)
        return t->alert;
    if (t->proof == PROOF_EMPTY && t->alert_side != t->client_side)
        return XE_ALERT_CERTIFICATE_REQUIRED;
    return t->server_hello || f->lossy ? t->alert : XE_ALERT_INSUFFICIENT_SECURITY;
}

static struct reason
verdict_alert(struct finding *f)
{
    const struct tls_view *t = &f->a->tls;
    const struct alert_row *row = verdict_alert_row(verdict_alert_meant(f));
    int fault = fault_side(row->fault, t->alert_side);
    enum cause better = CAUSE_NONE;
    if (row->cause == CAUSE_CERT_INVALID)
        better = verdict_cert_cause(f, fault);
    snprintf(f->v->words, sizeof f->v->words, "TLS alert %.60s", xe_alert_name(t->alert));
    f->v->said_by = t->alert_side;
    verdict_proof(f->v, "TLS alert", t->alert_frame, 0);
    return (struct reason){ better != CAUSE_NONE ? better : row->cause, fault,
        cause_is_cert(row->cause) || !t->established };
}

/* TLS 1.3: all that is judged in encrypted flights is the certificate of the other side. */
static struct reason
verdict_hidden_alert(struct finding *f, int side)
{
    f->v->cause_inferred = true;
    verdict_words(f->v, side, "an encrypted TLS alert", "");
    return reason_seen(CAUSE_CERT_INVALID, !side);
}

/* How long nothing was said before the first end. */
static int64_t
verdict_stall(const struct attempt *a)
{
    struct bye caller = verdict_bye(a, CALLER), called = verdict_bye(a, CALLED);
    struct bye end = caller.frame < called.frame ? caller : called;
    int64_t last_ns = a->flow.first_ns;
    unsigned i;
    for (i = 0; i < a->nevents; i++) {
        const struct event *e = &a->events[i];
        if (e->kind > EVENT_GAP && e->kind != EVENT_DNS && e->frame < end.frame
            && e->time_ns > last_ns)
            last_ns = e->time_ns;
    }
    for (i = 0; i < a->nrecords && i < ATTEMPT_RECORDS_MAX; i++)
        if (a->records[i].frame < end.frame && a->records[i].time_ns > last_ns)
            last_ns = a->records[i].time_ns;
    return end.frame == UINT64_MAX ? 0 : end.time_ns - last_ns;
}

/* The TLS handshake was begun and not finished. */
static struct reason
verdict_handshake(struct finding *f)
{
    const struct attempt *a = f->a;
    bool ended = verdict_ended(a);
    if (verdict_alert_counts(a))
        return verdict_alert(f);
    if (a->flow.icmp == ICMP_TOO_BIG)
        return reason_said(CAUSE_PATH_MTU, NOBODY);
    if (verdict_stalled(a) >= 0 && !ended)
        return reason_seen(CAUSE_PATH_MTU, NOBODY);
    if (verdict_hidden_alert_side(a) >= 0)
        return verdict_hidden_alert(f, verdict_hidden_alert_side(a));
    if (!ended && verdict_waited(a) <= VERDICT_SILENCE)
        return reason_unknown();
    if (!ended || verdict_stall(a) > VERDICT_SILENCE)
        return reason_seen(CAUSE_SETUP_TIMEOUT, NOBODY);
    if (a->tls.version >= 0x0304 && a->tls.finished_frame != 0)
        return reason_seen(CAUSE_REFUSED_INSIDE, NOBODY);   /* the caller's Finished, and the end */
    if (a->flow.end == FLOW_RST && !a->tls.server_hello)
        return reason_seen(CAUSE_PEER_LOST, NOBODY);
    return reason_seen(CAUSE_TLS_FAILED, NOBODY);
}

/* ---- the step that was due ---- */

/* A key for which there is no answer. */
static bool
verdict_is_unanswered(const struct attempt *a)
{
    return verdict_dialback(a, false, DIALBACK_UNANSWERED) != NULL;
}

/* STARTTLS was asked for and not granted. */
static enum cause
verdict_starttls_cause(const struct attempt *a)
{
    return a->features_seen && !a->starttls_offered ? CAUSE_TLS_NOT_OFFERED : CAUSE_TLS_REFUSED;
}

/* policy-violation is about TLS when the features had said that it is required. */
static enum cause
verdict_dialback_cause(const struct attempt *a, const struct dialback *d)
{
    enum cause c = verdict_word_cause(verdict_dialbacks, d->condition);
    if (c == CAUSE_TLS_REQUIRED && (verdict_has_tls(a) || !a->starttls_required))
        return CAUSE_DIALBACK_ERROR;
    return c;
}

static struct reason
verdict_dialback_error(struct finding *f, const struct dialback *d)
{
    enum cause c = verdict_dialback_cause(f->a, d);
    verdict_words(f->v, !d->side, d->condition, "");
    verdict_proof(f->v, "dialback answer", d->answered_frame, d->answered_ns);
    return reason_said(c, c == CAUSE_DIALBACK_ERROR ? NOBODY : d->side);
}

/* The caller has seen what is offered, and left. */
static struct reason
verdict_left(const struct finding *f)
{
    const struct attempt *a = f->a;
    bool tls = verdict_has_tls(a);
    enum cause cert = tls ? verdict_cert_cause(f, CALLED) : CAUSE_NONE;
    if (cert != CAUSE_NONE)
        return reason_seen(cert, CALLED);
    if (!tls && !a->starttls_offered)
        return reason_seen(CAUSE_TLS_NOT_OFFERED, CALLED);
    if (tls && !a->external_offered && !a->dialback_offered)
        return reason_seen(CAUSE_NO_METHOD, CALLED);
    return reason_seen(CAUSE_SETUP_TIMEOUT, NOBODY);
}

/* The step that was due when somebody gave up, or when the capture ended. */
static struct reason
verdict_pending(struct finding *f)
{
    const struct attempt *a = f->a;
    const struct dialback *error = verdict_dialback(a, false, DIALBACK_ERROR);
    bool tls = verdict_has_tls(a);
    int closer = verdict_closer(a);
    if (verdict_is_unanswered(a) && !tls && a->starttls_required)
        return reason_said(CAUSE_TLS_REQUIRED, CALLER);
    if (error != NULL)
        return verdict_dialback_error(f, error);
    if (verdict_is_unanswered(a) || (verdict_asked(a, true) && !verdict_verified(a)))
        return reason_seen(CAUSE_DIALBACK_TIMEOUT, CALLED);
    if (a->starttls_asked && !a->proceeded && !tls)
        return (struct reason){ verdict_starttls_cause(a), CALLED, a->tls_failure };
    if (a->sasl_failure)
        return reason_said(CAUSE_SASL_REFUSED, CALLER);
    if (a->auth_sent && closer == CALLED)
        return reason_seen(CAUSE_CRASH, CALLED);
    if (a->headers[0] > 0 && a->headers[1] == 0)
        return reason_seen(closer == CALLED ? CAUSE_CRASH : CAUSE_SILENT_PEER, CALLED);
    if (a->features_seen && closer == CALLER)
        return verdict_left(f);
    return reason_seen(CAUSE_SETUP_TIMEOUT, NOBODY);
}

/* ---- stream errors ---- */

/* SASL refused, and what the words and the certificate of the caller say about it. */
static enum cause
verdict_sasl_cause(const struct finding *f)
{
    enum cause c = verdict_word_cause(verdict_texts, f->a->sasl_text);
    if (c == CAUSE_NONE || c == CAUSE_CERT_INVALID) {
        enum cause cert = verdict_cert_cause(f, CALLER);
        c = cert != CAUSE_NONE ? cert : c;
    }
    return c == CAUSE_NONE ? CAUSE_SASL_REFUSED : c;
}

/* not-authorized and policy-violation say little: what happened before them says more. */
static struct reason
verdict_refused(struct finding *f)
{
    const struct attempt *a = f->a;
    enum cause text = verdict_word_cause(verdict_texts, a->error_text), size, cert;
    int other = !a->error_side;
    if (text == CAUSE_TLS_REQUIRED && a->starttls_asked)
        text = CAUSE_NONE;   /* it is about something else that has to do with TLS */
    if (verdict_dialback(a, false, DIALBACK_INVALID) != NULL)
        return reason_said(CAUSE_DIALBACK_INVALID, CALLER);
    if (text == CAUSE_TLS_REQUIRED && a->error_side == CALLER && !a->starttls_offered)
        return reason_said(CAUSE_TLS_NOT_OFFERED, CALLED);
    if (text == CAUSE_BLOCKED)
        return reason_said(text, a->error_side);
    if (text != CAUSE_NONE && text != CAUSE_CERT_INVALID)
        return reason_said(text, text == CAUSE_TLS_REQUIRED ? CALLER : other);
    if (a->sasl_failure) {
        verdict_words(f->v, CALLED, a->sasl_condition, a->sasl_text);
        return reason_said(verdict_sasl_cause(f), CALLER);
    }
    if ((size = verdict_word_cause(verdict_sizes, a->error_text)) != CAUSE_NONE)
        return reason_said(size, other);
    if (!verdict_has_tls(a) && a->starttls_required && !a->starttls_asked && other == CALLER)
        return reason_said(CAUSE_TLS_REQUIRED, CALLER);
    if (f->v->reached < REACH_AUTH && (cert = verdict_cert_cause(f, other)) != CAUSE_NONE)
        return reason_seen(cert, other);
    return reason_said(text != CAUSE_NONE ? text : verdict_condition(a->error)->cause, other);
}

/* The server gave up because the other side was silent, or while a key was looked at. */
static bool
verdict_gave_up(const struct attempt *a)
{
    return verdict_waited(a) > VERDICT_SILENCE
        || a->error_ns - a->last_content_ns[!a->error_side] > VERDICT_SILENCE
        || verdict_is_unanswered(a);
}

static struct reason
verdict_error(struct finding *f)
{
    const struct attempt *a = f->a;
    const struct condition_row *row = verdict_condition(a->error);
    struct reason r;
    verdict_words(f->v, a->error_side, a->error, a->error_text);
    verdict_proof(f->v, "stream error", a->error_frame, a->error_ns);
    if (row->cause == CAUSE_SETUP_TIMEOUT) {
        r = verdict_pending(f);
        r.said |= r.cause == CAUSE_SETUP_TIMEOUT;
        return r;
    }
    if (row->cause == CAUSE_SHUTDOWN && verdict_gave_up(a))
        return verdict_pending(f);
    if (row->cause == CAUSE_NOT_AUTHORIZED || row->cause == CAUSE_POLICY)
        return verdict_refused(f);
    if (row->cause == CAUSE_BAD_ELEMENT && a->starttls_asked && !a->proceeded
        && a->error_side == CALLED)
        return reason_said(verdict_starttls_cause(a), CALLED);
    r.cause = row->cause;
    r.fault = fault_side(row->fault, a->error_side);
    if (r.cause == CAUSE_BAD_NAMESPACE && !a->wrong_namespace
        && a->headers[r.fault] + a->plain_headers[r.fault] > 0)
        r.fault = a->error_side;   /* the header was right: who refuses it serves something else */
    r.said = f->v->reached >= REACH_AUTH || (row->flags & VAGUE) == 0;
    return r;
}

/* ---- what is no stream ---- */

/* The first line that was said, and what it is if that is known; bytes that are none of text as
 * \xNN. */
static void
verdict_line(struct verdict *v, const struct attempt *a, int side)
{
    const struct stranger_row *row = cause_stranger(a->wrong_line, a->wrong_len);
    char line[4 * sizeof a->wrong_line + 1] = "";
    size_t i, n = 0;
    for (i = 0; i < a->wrong_len; i++) {
        unsigned char c = a->wrong_line[i];
        n += (size_t)snprintf(line + n, sizeof line - n, c >= 32 && c < 127 ? "%c" : "\\x%02x", c);
    }
    while (n > 0 && line[n - 1] == ' ')
        line[--n] = '\0';
    verdict_words(v, side, row != NULL ? row->name : "", line);
}

/* The header of a load balancer was the last that the called server wanted to hear. */
static bool
verdict_is_proxy_refused(const struct attempt *a)
{
    bool answered = a->headers[1] + a->plain_headers[1] > 0 || a->tls.server_hello;
    return a->proxy.version != 0 && !answered && (verdict_ended(a) || a->error_side == CALLED);
}

/* ---- readable streams ---- */

static enum cause
verdict_xml_cause(enum xe_why why)
{
    if (why == XE_WHY_XML_RESTRICTED || why == XE_WHY_XML_ENCODING)
        return CAUSE_XML_RESTRICTED;
    if (why == XE_WHY_STANZA_TOO_BIG || why == XE_WHY_HEADER_TOO_BIG)
        return CAUSE_TOO_BIG;
    return CAUSE_XML_MALFORMED;
}

/* It ended, or nothing more came, without a word about why. */
static struct reason
verdict_broken_off(struct finding *f, bool waited)
{
    const struct attempt *a = f->a;
    struct reason r = verdict_pending(f);
    bool cut = a->flow.end == FLOW_RST && !a->flow.side[0].fin && !a->flow.side[1].fin;
    if (r.cause == CAUSE_SETUP_TIMEOUT && !waited)
        return reason_seen(cut ? CAUSE_PEER_LOST : CAUSE_CRASH, verdict_closer(a));
    return r;
}

/* XML was read, and nobody is authenticated. */
static struct reason
verdict_stream(struct finding *f)
{
    const struct attempt *a = f->a;
    const struct dialback *invalid = verdict_dialback(a, false, DIALBACK_INVALID);
    bool waited = verdict_waited(a) > VERDICT_SILENCE, ended = verdict_ended(a);
    bool open = !waited && !ended && !a->stream_end[0] && !a->stream_end[1];
    if (a->not_stream) {
        verdict_line(f->v, a, a->wrong_side);
        return reason_seen(CAUSE_NOT_XMPP, a->wrong_side);   /* what came before may be lost */
    }
    if (verdict_error_counts(a) && !(a->wrong_namespace && verdict_is_orderly(a->error)))
        return verdict_error(f);
    if (a->wrong_namespace) {
        verdict_words(f->v, a->wrong_side, a->namespace, "");
        return reason_said(CAUSE_BAD_NAMESPACE, a->wrong_side);
    }
    if (open && a->xml_bad_side < 0)
        return reason_unknown();   /* another step may follow a failed one */
    if (invalid != NULL) {
        verdict_proof(f->v, "dialback answer", invalid->answered_frame, invalid->answered_ns);
        return reason_said(CAUSE_DIALBACK_INVALID, invalid->side);
    }
    if (a->sasl_failure && !verdict_is_unanswered(a)) {
        verdict_words(f->v, CALLED, a->sasl_condition, a->sasl_text);
        return reason_seen(verdict_sasl_cause(f), CALLER);   /* dialback may have followed */
    }
    if (a->xml_bad_side >= 0 && !a->xml_borne)
        return reason_seen(verdict_xml_cause(a->xml_why), a->xml_bad_side);
    return ended || waited ? verdict_broken_off(f, waited) : reason_unknown();
}

/* Nobody said that this is the end. */
static bool
verdict_is_bare(const struct attempt *a)
{
    int i;
    for (i = 0; i < 2; i++)
        if (a->stream_end[i] || a->flow.side[i].fin || a->tls.close_notify[i]
            || a->tls.encrypted_alert[i])
            return false;
    return a->error_side < 0;
}

/* Authenticated: only a bad end can make it a failure. */
static struct reason
verdict_end(struct finding *f)
{
    const struct attempt *a = f->a;
    const struct flow_side *s = a->flow.side;
    int64_t quiet = a->pause_ns > verdict_waited(a) ? a->pause_ns : verdict_waited(a);
    bool stalled = s[0].retransmitted >= 5 || s[1].retransmitted >= 5;
    bool cut = a->flow.end == FLOW_RST;
    if (verdict_error_counts(a) && !verdict_is_orderly(a->error))
        return verdict_error(f);
    if (f->lossy || !verdict_is_bare(a) || !(cut || stalled))
        return reason_none();
    if (quiet > VERDICT_IDLE)
        return reason_seen(CAUSE_IDLE_CUT, NOBODY);
    return cut ? reason_seen(CAUSE_PEER_LOST, NOBODY) : reason_none();
}

/* The handshake is done, the rest cannot be read. */
static struct reason
verdict_inside(struct finding *f)
{
    const struct attempt *a = f->a;
    struct verdict *v = f->v;
    struct guess g = verdict_guess(a);
    bool talked = g.said[0] >= 3 && g.said[1] >= 1;
    v->reach_inferred = true;
    if (g.success || (talked && a->flow.last_ns - g.first_ns > SECOND)) {
        bool trunk = verdict_prelude(a) > 2;
        bool stanzas = trunk ? g.after >= verdict_prelude(a)
            : !f->lossy && (g.success ? g.stanzas_after : g.stanzas) > 0;
        v->reached = stanzas ? REACH_STANZAS : REACH_AUTH;
        v->method = g.success ? "EXTERNAL" : "EXTERNAL or dialback";
        return verdict_end(f);
    }
    v->cause_inferred = true;
    v->verify_only = verdict_ended(a) && verdict_may_be_question(&g);
    v->asks_much = g.questions > 1;   /* a refused key is one */
    if (v->verify_only || !verdict_ended(a))
        return reason_unknown();
    v->ended_where = verdict_where(&g, verdict_closer(a));
    return verdict_refused_inside(f, &g);
}

/* The packet of the first element of a kind. */
static void
verdict_proof_element(struct finding *f, enum xe_element_kind kind, const char *what)
{
    unsigned i;
    for (i = 0; i < f->a->nevents; i++) {
        const struct event *e = &f->a->events[i];
        if (e->kind == EVENT_ELEMENT && e->element == kind) {
            verdict_proof(f->v, what, e->frame, e->time_ns);
            return;
        }
    }
}

static void
verdict_proof_certificate(struct finding *f, int side)
{
    unsigned i;
    for (i = 0; i < f->a->nevents; i++) {
        const struct event *e = &f->a->events[i];
        if (e->kind == EVENT_TLS_CERT && e->side == side)
            verdict_proof(f->v, "certificate", e->frame, e->time_ns);
    }
}

/* A certificate that is over, or not valid yet, and was got around. */
static void
verdict_setback_cert(struct finding *f)
{
    int side;
    for (side = 0; side < 2 && f->v->setback == CAUSE_NONE; side++) {
        enum cause c = verdict_cert_cause(f, side);
        if (c != CAUSE_CERT_EXPIRED && c != CAUSE_CERT_NOT_YET)
            continue;
        f->v->setback = c;
        f->v->fault = side;
        verdict_proof_certificate(f, side);
    }
}

/* A step that failed, although the stream came to work in the end; or an administrator has ended
 * it, who had nothing against how it worked. */
static void
verdict_setback(struct finding *f)
{
    const struct attempt *a = f->a;
    struct verdict *v = f->v;
    const struct dialback *error = verdict_dialback(a, false, DIALBACK_ERROR);
    if (v->reached < REACH_AUTH)
        return;
    if (v->cause == CAUSE_BLOCKED) {
        v->cause = CAUSE_NONE;
        v->setback = CAUSE_BLOCKED;
    } else if (a->sasl_failure) {
        v->setback = verdict_sasl_cause(f);
        v->fault = CALLER;
        verdict_proof_element(f, XE_KIND_SASL_FAILURE, "SASL failure");
        if (v->words[0] == '\0')
            verdict_words(v, CALLED, a->sasl_condition, a->sasl_text);
    } else if (verdict_dialback(a, false, DIALBACK_INVALID) != NULL) {
        v->setback = CAUSE_DIALBACK_INVALID;
    } else if (error != NULL) {
        v->setback = verdict_dialback_cause(a, error);
    } else if (a->xml_bad_side >= 0 && !f->lossy && a->error_side < 0) {
        /* the other side is not as strict as we are */
        v->setback = verdict_xml_cause(a->xml_why);
    } else if (v->cause == CAUSE_NONE) {
        verdict_setback_cert(f);
    }
}

/* The called server gave up before the caller had said anything. */
static bool
verdict_waited_for_caller(const struct attempt *a)
{
    return a->error_side == CALLED && strcmp(a->error, "connection-timeout") == 0
        && a->headers[0] + a->plain_headers[0] == 0
        && (a->last_content_ns[0] == 0 || a->last_content_ns[0] > a->error_ns);
}

/* ---- older than the capture ---- */

/* The least that encryption adds to a record of any version, and the length of an alert of 1.3. */
#define OLDER_OVERHEAD 17
#define OLDER_ALERT 19

/* What a header has with its namespaces and names; a server answers it at once. */
#define OLDER_HEADER 150
#define OLDER_HEADER_MAX 400
#define OLDER_ANSWER (2 * SECOND)

/* What a caller says at once in TLS 1.3: Certificate, CertificateVerify, Finished, and the header.
 * Finished is as short as what acknowledges, and has one of two lengths (RFC 8446 4.4.4). */
#define OLDER_FLIGHT 4
#define OLDER_FINISHED(length) ((length) == 53 || (length) == 69)

/* All that is seen is something as long as a header, and there was no time for an answer. */
static bool
verdict_may_be_header(const struct attempt *a)
{
    const struct record_seen *r = &a->records[0];
    return a->nrecords == 1 && r->side == CALLER && r->length >= OLDER_OVERHEAD + OLDER_HEADER
        && r->length <= OLDER_OVERHEAD + OLDER_HEADER_MAX
        && a->seen_until_ns - r->time_ns < OLDER_ANSWER;
}

/* What is seen of it may be the end of a negotiation: the caller says as much as a header has, and
 * is answered at once with as much as features have.  Nothing in a negotiation is as short as what
 * acknowledges, but <success/>, after which it is over, too, and Finished. */
static bool
verdict_may_negotiate(const struct attempt *a)
{
    unsigned n = a->nrecords < ATTEMPT_RECORDS_MAX ? a->nrecords : ATTEMPT_RECORDS_MAX, i;
    unsigned said[2] = { 0, 0 };
    for (i = 0; i < n; i++) {
        const struct record_seen *r = &a->records[i];
        said[r->side]++;
        if (r->length < OLDER_OVERHEAD + GUESS_SUCCESS + 8
            && (i >= OLDER_FLIGHT || said[CALLED] > 0 || !OLDER_FINISHED(r->length)))
            return false;
    }
    if (n == 0 || (said[0] > 3 && said[1] > 3)
        || a->records[n - 1].time_ns - a->records[0].time_ns > 2 * VERDICT_SILENCE)
        return n == 0;
    if (verdict_may_be_header(a))
        return true;
    for (i = 0; i < n && i <= OLDER_FLIGHT; i++)
        if (a->records[i].side == CALLED && a->records[i].length >= OLDER_OVERHEAD + 2 * GUESS_KEY
            && a->records[i].time_ns - a->records[0].time_ns <= VERDICT_SILENCE)
            return true;
    return false;
}

/* The last record of a side is no alert, as far as lengths tell. */
static bool
verdict_goes_on(const struct attempt *a)
{
    unsigned n = a->nrecords < ATTEMPT_RECORDS_MAX ? a->nrecords : ATTEMPT_RECORDS_MAX, i;
    bool alert[2] = { false, false };
    for (i = 0; i < n; i++)
        alert[a->records[i].side] =
            a->records[i].type != 23 || a->records[i].length == OLDER_ALERT;
    return n > 0 && !alert[0] && !alert[1];
}

/* A session without its handshake, which carries content that the other side takes: it has been in
 * use since before the capture began. */
static bool
verdict_is_in_use(const struct attempt *a)
{
    const struct flow *f = &a->flow;
    bool open = f->end == FLOW_CAPTURE_END || f->end == FLOW_IDLE || f->end == FLOW_OPEN;
    return f->midstream && open && a->content == CONTENT_TLS && !a->tls.client_hello
        && !a->tls.server_hello && f->side[0].packets > 0 && f->side[1].packets > 0
        && !verdict_ended(a) && verdict_goes_on(a) && !verdict_may_negotiate(a);
}

/* ---- the whole attempt ---- */

static struct reason
verdict_choose(struct finding *f)
{
    const struct attempt *a = f->a;
    bool spoke[2] = { a->last_content_ns[0] != 0, a->last_content_ns[1] != 0 };
    bool tls = verdict_has_tls(a), up = verdict_tls_is_up(a), open = a->tls.decrypted;
    if (verdict_is_in_use(a)) {
        f->v->reached = REACH_AUTH;
        f->v->reach_inferred = true;
        return reason_none();
    }
    if (f->v->reached >= REACH_AUTH)
        return verdict_end(f);
    if (verdict_is_proxy_refused(a)) {
        verdict_line(f->v, a, CALLER);
        return reason_seen(CAUSE_NOT_XMPP, CALLER);
    }
    if (!a->flow.established && !(spoke[0] && spoke[1]))
        return verdict_tcp(f);
    if (verdict_waited_for_caller(a))
        return reason_seen(CAUSE_CALLER_SILENT, CALLER);
    if (!spoke[0] || !spoke[1])
        return a->error_side >= 0 || a->not_stream ? verdict_stream(f) : verdict_silence(f);
    if (!tls)
        return verdict_stream(f);
    if (!up && !open && a->error_side < 0)
        return verdict_handshake(f);
    if (verdict_alert_counts(a))
        return verdict_alert(f);
    if (!open)
        return verdict_inside(f);
    if (!up && a->headers[1] == 0 && (a->tls.encrypted_alert[1] || !verdict_ended(a)))
        return verdict_handshake(f);
    return verdict_stream(f);
}

/* TTLs of one path differ by that much at most. */
#define VERDICT_HOPS 3

static bool
verdict_is_near(unsigned a, unsigned b)
{
    return a > b ? a - b <= VERDICT_HOPS : b - a <= VERDICT_HOPS;
}

/* The connection ended with a reset that came from neither side: it has travelled another way than
 * what they sent. */
static int
verdict_foreign_reset(const struct attempt *a)
{
    const struct flow_side *s = a->flow.side;
    int i, first = s[0].rst_frame == 0
        || (s[1].rst_frame != 0 && s[1].rst_frame < s[0].rst_frame);
    for (i = 0; i < 2; i++)
        if (s[i].ttl == 0 || verdict_is_near(s[first].rst_ttl, s[i].ttl))
            return NOBODY;
    return s[first].rst_frame != 0 && s[0].fin_frame == 0 && s[1].fin_frame == 0 ? first : NOBODY;
}

/* Who cut a connection off is not always who seems to have done it. */
static struct reason
verdict_cut(const struct attempt *a, struct reason r)
{
    bool wordless = r.cause == CAUSE_PEER_LOST || r.cause == CAUSE_CRASH
        || r.cause == CAUSE_TLS_FAILED || r.cause == CAUSE_SILENT_PEER
        || r.cause == CAUSE_REFUSED_INSIDE || (r.cause == CAUSE_TLS_REFUSED && !a->tls_failure);
    if (!wordless || a->flow.end != FLOW_RST || verdict_foreign_reset(a) < 0)
        return r;
    return reason_seen(CAUSE_MIDDLEBOX_RESET, NOBODY);
}

/* What rests on silence cannot be told when the capture may be at fault. */
static void
verdict_certainty(struct finding *f, bool said)
{
    struct verdict *v = f->v;
    if (v->cause != CAUSE_NONE && f->lossy && !said)
        v->cause = CAUSE_CAPTURE_SHORT;
    if (v->cause == CAUSE_CAPTURE_SHORT || v->cause == CAUSE_CALLER_SILENT) {
        v->outcome = OUTCOME_UNKNOWN;
        v->fault = NOBODY;
    } else {
        v->outcome = v->cause == CAUSE_NONE ? OUTCOME_WORKED : OUTCOME_FAILED;
    }
    v->older = f->a->flow.midstream && v->outcome == OUTCOME_WORKED;
    v->keys_would_help = f->a->tls.keys_would_help && !f->a->tls.decrypted
        && (v->outcome != OUTCOME_WORKED || v->reach_inferred);
}

static void
verdict_proofs(struct verdict *v, const struct attempt *a)
{
    const struct flow *f = &a->flow;
    verdict_proof(v, "SYN", f->syn_frame, f->first_ns);
    if (v->reached < REACH_HEADER)
        verdict_proof(v, "SYN+ACK", f->synack_frame, f->synack_ns);
    verdict_proof(v, "ICMP error", f->icmp_frame, f->icmp_ns);
    if (v->cause == CAUSE_NONE)
        return;
    verdict_proof(v, "RST of the caller", f->side[CALLER].rst_frame, f->side[CALLER].rst_ns);
    verdict_proof(v, "FIN of the caller", f->side[CALLER].fin_frame, f->side[CALLER].fin_ns);
    verdict_proof(v, "RST of the called", f->side[CALLED].rst_frame, f->side[CALLED].rst_ns);
    verdict_proof(v, "FIN of the called", f->side[CALLED].fin_frame, f->side[CALLED].fin_ns);
}

/* Times of proofs that only know their frame. */
static void
verdict_proof_times(struct verdict *v, const struct attempt *a)
{
    unsigned i, k;
    for (i = 0; i < v->nproofs; i++)
        for (k = 0; k < a->nevents; k++)
            if (a->events[k].frame == v->proofs[i].frame && a->events[k].time_ns != 0)
                v->proofs[i].time_ns = a->events[k].time_ns;
}

/* Bytes or a whole direction are missing. */
static bool
verdict_is_lossy(const struct attempt *a)
{
    const uint32_t missing = 1u << REMARK_GAP | 1u << REMARK_ONE_SIDED | 1u << REMARK_MIDSTREAM;
    const struct flow *f = &a->flow;
    return f->side[0].lost > 0 || f->side[1].lost > 0 || f->midstream || f->end == FLOW_EVICTED
        || (f->established && (f->side[0].packets == 0 || f->side[1].packets == 0))
        || ((f->remarks | a->remarks) & missing) != 0;
}

/* Everything that one attempt tells by itself.  False: no memory. */
static bool
verdict_attempt(struct attempt *a, struct cert_anchors *anchors)
{
    struct finding f = { a, verdict_new(a), anchors, verdict_is_lossy(a), attempt_stanzas(a) };
    struct reason r;
    if (f.v == NULL)
        return false;
    verdict_reach(&f);
    r = verdict_cut(a, verdict_choose(&f));
    f.v->closer = verdict_closer(a);
    f.v->cause = r.cause;
    f.v->fault = r.fault;
    verdict_setback(&f);
    verdict_certainty(&f, r.said);
    verdict_proofs(f.v, a);
    verdict_proof_times(f.v, a);
    return true;
}

/* ---- what the log of a side says ---- */

/* A reason that tells what was noticed, not why: who has the words of the other side knows more. */
static bool
verdict_is_general(enum xe_why why)
{
    return why == XE_WHY_PEER_CLOSED || why == XE_WHY_PEER_LOST || why == XE_WHY_PEER_ERROR
        || why == XE_WHY_TLS_FAILED || why == XE_WHY_ATTEMPT_TIMEOUT || why == XE_WHY_SETUP_TIMEOUT
        || why == XE_WHY_DIALBACK_TIMEOUT || why == XE_WHY_SASL_REFUSED;
}

/* The end of a connection that has done its work. */
static bool
verdict_is_calm(enum xe_why why)
{
    return why == XE_WHY_NONE || why == XE_WHY_DONE || why == XE_WHY_PEER_CLOSED
        || why == XE_WHY_IDLE || (why >= XE_WHY_SEE_OTHER_HOST && why <= XE_WHY_REPLACED);
}

/* Words of the proxy that are no causes of their own, by how they begin, or by the whole. */
static const struct word_row verdict_whys[] = {
    { "cert-untrusted", CAUSE_CERT_UNTRUSTED },
    { "cert-pin", CAUSE_CERT_UNTRUSTED },
    { "cert-", CAUSE_CERT_INVALID },
    { "header-too-big", CAUSE_POLICY },
    { "xml-limit", CAUSE_POLICY },
    { "limit-preauth", CAUSE_POLICY },
    { "limit-tls-bytes", CAUSE_POLICY },
    { "-too-big", CAUSE_TOO_BIG },
    { "endless", CAUSE_TOO_BIG },
    { "limit", CAUSE_LIMIT },
    { "attempt-timeout", CAUSE_SETUP_TIMEOUT },
    { "-timeout", CAUSE_PEER_LOST },
    { "unacknowledged", CAUSE_PEER_LOST },
    { "inner-", CAUSE_DIALBACK_UNREACHABLE },
    { "dialback-off", CAUSE_NO_METHOD },
    { "bind-failed", CAUSE_TCP_UNREACHABLE },
    { "trunk-protocol", CAUSE_STREAM_ERROR },
    { "gateway-unknown", CAUSE_NOT_AUTHORIZED },
    { "out-of-memory", CAUSE_LIMIT },
    { "internal", CAUSE_CRASH },
    { NULL, CAUSE_NONE }
};

/* The cause of a reason in a log: the same word, or what its stream error would mean. */
static struct reason
verdict_why(enum xe_why why, int teller)
{
    const struct xe_why_row *row = xe_why(why);
    const struct condition_row *said = verdict_condition(row->stream);
    int k = CAUSE_NONE + 1;
    enum cause c;
    while (k < CAUSE_COUNT && strcmp(cause_row((enum cause)k)->word, row->word) != 0)
        k++;
    c = k < CAUSE_COUNT ? (enum cause)k : verdict_word_cause(verdict_whys, row->word);
    if (c == CAUSE_NONE && row->stream[0] != '\0')
        c = said->cause;
    if (c == CAUSE_NONE || cause_is_cert(c))
        return reason_said(c, !teller);
    if (c == CAUSE_BLOCKED)
        return reason_said(c, teller);
    if (c == CAUSE_TLS_REQUIRED || c == CAUSE_DIALBACK_INVALID || c == CAUSE_DIALBACK_UNREACHABLE)
        return reason_said(c, CALLER);
    if (c == CAUSE_TLS_NOT_OFFERED || c == CAUSE_TLS_REFUSED || c == CAUSE_NO_METHOD)
        return reason_said(c, CALLED);
    return reason_said(c, row->stream[0] != '\0' ? fault_side(said->fault, teller) : NOBODY);
}

/* By the state in which it ended: who logs `accepted` knows of no proof. */
static bool
verdict_log_worked(const struct log_entry *e)
{
    return strcmp(e->state, "open") == 0 || strcmp(e->state, "ready") == 0
        || strcmp(e->state, "up") == 0
        || (strcmp(e->state, "verifying") == 0 && e->why == XE_WHY_DONE);
}

/* Who knows more: a reason, or what was only noticed; of two of a kind who was called. */
static int
verdict_teller(const struct verdict *v)
{
    const struct log_said *caller = v->said[CALLER], *called = v->said[CALLED];
    if (caller == NULL || called == NULL)
        return caller != NULL ? CALLER : called != NULL ? CALLED : NOBODY;
    return verdict_is_general(called->entry.why) && !verdict_is_general(caller->entry.why)
        && !verdict_is_calm(caller->entry.why) ? CALLER : CALLED;
}

/* What the capture shows that the log does not say, or says otherwise. */
static void
verdict_against(struct verdict *v, const char *how)
{
    snprintf(v->against, sizeof v->against, "%s: %.90s%s%.90s", how, cause_row(v->cause)->what,
        v->words[0] != '\0' ? "; it shows: " : "", v->words);
}

/* A log says that it worked: what was only inferred from the capture does not stand against it. */
static void
verdict_heed_success(struct verdict *v)
{
    if (v->outcome == OUTCOME_WORKED || (v->outcome == OUTCOME_FAILED && !v->cause_inferred))
        return;
    v->outcome = OUTCOME_WORKED;
    v->cause = CAUSE_NONE;
    v->cause_inferred = v->keys_would_help = false;
    v->fault = NOBODY;
    v->from_log = true;
    if (v->reached < REACH_AUTH)
        v->reached = REACH_AUTH;
}

/* It was ended in the middle of its work, by who tells of it: no failure, and to be told. */
static void
verdict_heed_block(struct verdict *v, enum xe_why why)
{
    if (why != XE_WHY_BLOCKED || v->outcome != OUTCOME_WORKED)
        return;
    v->setback = CAUSE_BLOCKED;
    v->fault = v->teller;
}

/* The reason of the log in place of what was found without it.  Of what its owner said on the wire
 * it is the reason, and nothing else. */
static void
verdict_heed_reason(struct verdict *v, struct reason r, bool certain)
{
    bool differs = v->outcome == OUTCOME_FAILED && !v->cause_inferred && v->cause != r.cause
        && v->said_by != v->teller;
    if (differs)
        verdict_against(v, "the capture shows otherwise");
    if (v->cause != r.cause || v->cause_inferred)
        v->fault = r.fault;
    v->outcome = OUTCOME_FAILED;
    v->cause = r.cause;
    v->cause_inferred = !certain;
    v->keys_would_help = false;
    v->from_log = true;
}

/* A key was not accepted: what failed before there was a connection is the call back to the server
 * that knows it. */
static bool
verdict_is_call_back(const struct log_entry *e)
{
    return e->kind == LOG_REFUSED && e->way == LOG_WAY_IN && e->why >= XE_WHY_DNS_NOT_FOUND
        && e->why <= XE_WHY_BIND;
}

/* The certificate that the other side showed, when he left without a word; else the reason. */
static struct reason
verdict_log_reason(const struct log_entry *e, int teller, bool *certain)
{
    enum xe_why cert = xe_why_find((struct xe_span){ e->cert, strlen(e->cert) });
    struct reason r = verdict_why(e->why, teller);
    *certain = true;
    if (verdict_is_call_back(e))
        return reason_said(CAUSE_DIALBACK_UNREACHABLE, CALLER);
    if (e->why != XE_WHY_PEER_CLOSED || cert == XE_WHY_COUNT || verdict_log_worked(e))
        return r;
    *certain = false;
    return verdict_why(cert, teller);
}

/* The log decides, but where it only noticed an end whose reason stands in the capture. */
static void
verdict_heed(struct attempt *a)
{
    struct verdict *v = a->verdict;
    const struct log_entry *e;
    bool proven = v->outcome == OUTCOME_FAILED && !v->cause_inferred;
    bool certain;
    struct reason r;
    v->teller = verdict_teller(v);
    if (v->teller == NOBODY)
        return;
    e = &v->said[v->teller]->entry;
    if (e->why == XE_WHY_COUNT)
        return;
    if (verdict_log_worked(e) && (verdict_is_calm(e->why) || e->why == XE_WHY_BLOCKED)) {
        verdict_heed_success(v);
        verdict_heed_block(v, e->why);
        return;
    }
    r = verdict_log_reason(e, v->teller, &certain);
    if (r.cause == CAUSE_NONE || (e->kind == LOG_REFUSED && v->outcome == OUTCOME_WORKED))
        return;
    if (verdict_is_general(e->why) && (proven || v->cause == CAUSE_CALLER_SILENT)) {
        if (v->cause != r.cause)
            verdict_against(v, "the capture knows more than the log");
        return;
    }
    verdict_heed_reason(v, r, certain);
}

/* ---- all attempts ---- */

/* What an address was seen to do: the grounds for inference. */
struct judge_address {
    struct address address;
    uint32_t called, calls;   /* on 5269 and 5270: responder, initiator */
    uint32_t inner_called;    /* on 23456, established */
    uint32_t inner_calls;     /* the same, of an initiator: a gateway */
    uint32_t translated;      /* of connections that were seen with another address, too */
};

/* A failed attempt that somebody else may have waited for. */
struct judge_recent {
    struct address source;
    char to[128];
    int64_t first_ns, last_ns;
    uint64_t flow;
};

/* A dialback question and where it was asked. */
struct judge_question {
    const struct dialback *d;
    struct attempt *a;
};

struct judge {
    struct verdict_options o;
    const struct dns *dns;          /* borrowed; may be NULL */
    struct inside *inside;          /* owned */
    struct report report;
    struct attempt **listed;        /* owned */
    size_t nlisted;
    bool placed;                    /* addresses are decided */
    struct judge_address addresses[JUDGE_ADDRESSES];
    size_t naddresses;
    struct judge_recent recent[JUDGE_RECENT];
    size_t nrecent;                 /* in all; the place is the remainder */
    uint16_t partner_index[JUDGE_PARTNERS];   /* number of a partner + 1 */
    unsigned violations_listed[VIOLATION_COUNT];
    uint64_t inner_ours;            /* connections on row 3 of which one end is surely the edge */
    uint64_t mtls_unknown;          /* working connections on row 3 */
    uint64_t mtls_older;            /* of them, in use since before the capture began */
    bool mtls_demanded;             /* inferred from what the configuration demands */
    struct report_log logs[REPORT_LOGS_MAX];
};

/* Adds strings, up to a null pointer, to a text that has room for `size`; the rest is cut. */
static void
judge_add(char *text, size_t size, ...)
{
    size_t len = strlen(text);
    const char *s;
    va_list list;
    va_start(list, size);
    while ((s = va_arg(list, const char *)) != NULL) {
        size_t n = strlen(s);
        n = n < size - 1 - len ? n : size - 1 - len;
        memcpy(text + len, s, n);
        len += n;
    }
    text[len] = '\0';
    va_end(list);
}
#define ADD(text, ...) judge_add(text, sizeof (text), __VA_ARGS__, (const char *)NULL)

static bool
judge_is_in(const struct address *list, size_t n, const struct address *a)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (address_equal(&list[i], a))
            return true;
    return false;
}

static bool
judge_is_external(const struct judge *j, const struct address *a)
{
    return judge_is_in(j->report.external, j->report.nexternal, a);
}

static bool
judge_is_internal(const struct judge *j, const struct address *a)
{
    return judge_is_in(j->report.internal, j->report.ninternal, a);
}

static bool
judge_is_partner_port(const struct judge *j, uint16_t port)
{
    return port == j->report.external_port || port == 5269;
}

/* ---- addresses that nobody has told ---- */

static struct judge_address *
judge_address(struct judge *j, const struct address *a)
{
    size_t i;
    for (i = 0; i < j->naddresses; i++)
        if (address_equal(&j->addresses[i].address, a))
            return &j->addresses[i];
    if (j->naddresses == JUDGE_ADDRESSES)
        return NULL;
    j->addresses[i] = (struct judge_address){ .address = *a };
    j->naddresses++;
    return &j->addresses[i];
}

static void
judge_count(uint32_t *n, bool more)
{
    if (more)
        ++*n;
    else
        --*n;
}

/* One connection more, or one less that was counted twice. */
static void
judge_note_addresses(struct judge *j, const struct attempt *a, bool more)
{
    const struct flow_side *s = a->flow.side;
    struct judge_address *from, *to;
    bool inner = s[1].port == j->report.internal_port;
    if (j->placed || (!inner && !judge_is_partner_port(j, s[1].port) && s[1].port != 5270))
        return;
    /* a load balancer that calls is no edge */
    from = a->proxy.version != 0 ? NULL : judge_address(j, &s[CALLER].address);
    to = judge_address(j, &s[CALLED].address);
    if (from != NULL && !inner)
        judge_count(&from->calls, more);
    else if (from != NULL && a->flow.established)
        judge_count(&from->inner_calls, more);
    if (to != NULL && !inner)
        judge_count(&to->called, more);
    else if (to != NULL && a->flow.established)
        judge_count(&to->inner_called, more);
}

/* All facts of the capture; NULL: none, or nobody looks at DNS. */
static const struct dns_fact *
judge_facts(const struct judge *j, size_t *n)
{
    *n = 0;
    return j->dns == NULL ? NULL : dns_facts(j->dns, n);
}

static bool
judge_asked_dns(const struct judge *j, const struct address *a)
{
    size_t n, i;
    const struct dns_fact *facts = judge_facts(j, &n);
    for (i = 0; i < n; i++)
        if (facts[i].type == DNS_SRV && address_equal(&facts[i].client, a))
            return true;
    return false;
}

static void
judge_infer_internal(struct judge *j)
{
    struct report *r = &j->report;
    size_t i;
    for (i = 0; i < j->naddresses && r->ninternal < REPORT_ADDRESSES_MAX; i++)
        if (j->addresses[i].inner_called > 0) {
            r->internal[r->ninternal++] = j->addresses[i].address;
            r->internal_known = KNOWN_INFERRED;
        }
}

/* The edge is the address that takes part in most of the 5269 connections; among equals the one
 * that asks DNS, then the one that came first.  Before that: who captures on both sides of a
 * translation captures at his own. */
static const struct judge_address *
judge_busiest(const struct judge *j, unsigned *equals)
{
    const struct judge_address *best = NULL;
    size_t i;
    *equals = 0;
    for (i = 0; i < j->naddresses; i++) {
        const struct judge_address *a = &j->addresses[i];
        uint32_t n = a->called + a->calls;
        uint32_t most = best == NULL ? 0 : best->called + best->calls;
        bool asks = judge_asked_dns(j, &a->address);
        if (best != NULL && best->translated != a->translated) {
            if (a->translated > best->translated) {
                best = a;
                *equals = 1;
            }
            continue;
        }
        if ((n == 0 && a->translated == 0) || n < most)
            continue;
        *equals = n > most ? 1 : *equals + 1;
        if (n > most || (asks && !judge_asked_dns(j, &best->address)))
            best = a;
    }
    return best;
}

/* All addresses of the side that is translated. */
static void
judge_infer_translated(struct judge *j, const struct judge_address *best)
{
    struct report *r = &j->report;
    size_t i;
    for (i = 0; i < j->naddresses && r->nexternal < REPORT_ADDRESSES_MAX; i++)
        if (j->addresses[i].translated > 0 && &j->addresses[i] != best)
            r->external[r->nexternal++] = j->addresses[i].address;
    ADD(r->addresses_why, ENDPOINT(&best->address, 0), " is seen on both sides of a translation");
}

static void
judge_infer_external(struct judge *j)
{
    struct report *r = &j->report;
    unsigned equals;
    const struct judge_address *best = judge_busiest(j, &equals);
    unsigned long n;
    char number[24];
    if (best == NULL)
        return;
    r->external[r->nexternal++] = best->address;
    r->external_known = KNOWN_INFERRED;
    if (best->translated > 0) {
        judge_infer_translated(j, best);
        return;
    }
    n = (unsigned long)best->called + best->calls;
    snprintf(number, sizeof number, "%lu", n);
    ADD(r->addresses_why, ENDPOINT(&best->address, 0), " takes part in ",
        number, n == 1 ? " connection" : " connections", " on the partner ports");
    ADD(r->addresses_why, equals > 1 ? ", as others do" : ", more than any other address");
    if (judge_asked_dns(j, &best->address))
        ADD(r->addresses_why, "; it asks name servers for partners");
}

static void
judge_infer(struct judge *j)
{
    struct report *r = &j->report;
    if (j->placed)
        return;
    j->placed = true;
    if (r->internal_known == KNOWN_NOT)
        judge_infer_internal(j);
    if (r->external_known == KNOWN_NOT)
        judge_infer_external(j);
}

/* ---- rows, directions, rules ---- */

/* Every violation is counted; REPORT_VIOLATIONS_MAX of a kind are listed. */
static void
judge_list_violation(struct judge *j, const struct report_violation *v)
{
    struct report *r = &j->report;
    struct report_violation *list;
    if (j->violations_listed[v->kind] == REPORT_VIOLATIONS_MAX)
        return;
    list = list_grow(r->violations, r->nviolations, sizeof *list);
    if (list == NULL)
        return;
    r->violations = list;
    j->violations_listed[v->kind]++;
    list[r->nviolations++] = *v;
}

static void
judge_mark_violation(struct verdict *v, enum violation_kind kind, bool certain)
{
    if (certain)
        v->violations |= 1u << kind;
    else
        v->suspected |= 1u << kind;
}

static void
judge_violation(struct judge *j, struct attempt *a, enum violation_kind kind, bool certain,
    const char *detail)
{
    const struct flow *f = &a->flow;
    struct report_violation v = { .kind = kind,
        .row = a->verdict->row,
        .suspected = !certain,
        .flow = f->number,
        .frame = f->first_frame,
        .time_ns = f->first_ns,
        .source = f->side[CALLER].address,
        .target = f->side[CALLED].address,
        .port = f->side[CALLED].port };
    ADD(v.detail, detail);
    judge_mark_violation(a->verdict, kind, certain);
    j->report.rows[v.row].violations[kind] += certain;
    judge_list_violation(j, &v);
}

/* A load balancer has taken the call on an external address, and passes it on. */
static bool
judge_is_balanced(const struct judge *j, const struct attempt *a)
{
    return a->proxy.version != 0 && judge_is_external(j, &a->proxy.address[CALLED]);
}

/* Seen from the edge.  On the inner port its internal address says more than who calls. */
static enum direction
judge_direction(const struct judge *j, const struct attempt *a)
{
    const struct flow_side *s = a->flow.side;
    bool inner = s[CALLED].port == j->report.internal_port;
    bool to_inner = judge_is_internal(j, &s[CALLED].address);
    if (judge_is_external(j, &s[CALLED].address) || judge_is_balanced(j, a))
        return DIRECTION_IN;
    if (judge_is_external(j, &s[CALLER].address) && !(inner && to_inner))
        return DIRECTION_OUT;
    if (to_inner)
        return DIRECTION_IN;
    return judge_is_internal(j, &s[CALLER].address) ? DIRECTION_OUT : DIRECTION_UNKNOWN;
}

/* Which row; no rules yet. */
static void
judge_row(const struct judge *j, struct attempt *a)
{
    static const enum row rows[] = { ROW_OTHER, ROW_IN, ROW_OUT };   /* by direction */
    uint16_t port = a->flow.side[CALLED].port;
    struct verdict *v = a->verdict;
    v->direction = judge_direction(j, a);
    if (port == j->report.internal_port)
        v->row = ROW_INNER;
    else
        v->row = judge_is_partner_port(j, port) ? rows[v->direction] : ROW_OTHER;
}

static bool
judge_is_unproven(enum tls_client_proof p)
{
    return p == PROOF_NOT_ASKED || p == PROOF_EMPTY || p == PROOF_INFERRED_NONE;
}

/* Row 3 works: with TLS, and with a certificate of the caller. */
static void
judge_rules_mutual(struct judge *j, struct attempt *a)
{
    const struct flow *f = &a->flow;
    bool whole = f->side[0].lost == 0 && f->side[1].lost == 0 && !f->midstream;
    if (!verdict_has_tls(a))
        judge_violation(j, a, VIOLATION_NO_TLS, a->content == CONTENT_XMPP && !f->midstream, "");
    else if (judge_is_unproven(a->tls.proof))
        judge_violation(j, a, VIOLATION_NO_MTLS,
            whole && !a->tls.resumed && !a->verdict->reach_inferred, tls_proof_word(a->tls.proof));
}

static void
judge_rules_inner(struct judge *j, struct attempt *a)
{
    const struct report *r = &j->report;
    const struct address *from = &a->flow.side[CALLER].address, *to = &a->flow.side[CALLED].address;
    bool given = r->external_known != KNOWN_INFERRED;
    bool all_given = r->internal_known != KNOWN_INFERRED;
    bool ours = judge_is_internal(j, to), outside = judge_is_external(j, to);
    bool from_outside = judge_is_external(j, from);
    if (outside && !ours && a->flow.established)
        judge_violation(j, a, VIOLATION_INNER_OUTSIDE, given, "");
    if ((from_outside || judge_is_internal(j, from)) && !ours && !outside)
        judge_violation(j, a, VIOLATION_EDGE_DIALS, given && (all_given || from_outside), "");
    if (a->verdict->reached >= REACH_AUTH)
        judge_rules_mutual(j, a);
}

static void
judge_rules_partner(struct judge *j, struct attempt *a)
{
    const struct report *r = &j->report;
    const struct flow_side *s = a->flow.side;
    enum row row = a->verdict->row;
    bool told = r->external_known == KNOWN_OPTION || r->external_known == KNOWN_CONFIG;
    bool given = told && r->internal_known != KNOWN_INFERRED;
    /* what is missing may be the header of a balancer, which was called where it is permitted */
    bool served = a->flow.established && s[CALLER].bytes > 0 && !verdict_is_lossy(a);
    if (judge_is_external(j, &s[CALLER].address) || judge_is_external(j, &s[CALLED].address)
        || judge_is_balanced(j, a))
        return;
    if (r->nexternal > 0 && row == ROW_OUT)
        judge_violation(j, a, VIOLATION_OTHER_SOURCE, given, "");
    else if (r->nexternal > 0 && row != ROW_OTHER)
        judge_violation(j, a, VIOLATION_OTHER_TARGET, given && served, "");
    else if (told)
        judge_violation(j, a, VIOLATION_OTHER_SOURCE, false,
            "neither side is an address of the edge");
}

/* The port table has no row for this port.  What the edge serves is its own decision: 5269 and
 * nothing else.  Outward an SRV record may lead to any port, and the edge has to follow it (RFC
 * 6120 3.2.1, XEP-0368); when there is none in the capture, nobody knows. */
static void
judge_rules_other(struct judge *j, struct attempt *a)
{
    const struct report *r = &j->report;
    const struct flow_side *called = &a->flow.side[CALLED];
    struct verdict *v = a->verdict;
    bool given = r->external_known == KNOWN_OPTION || r->external_known == KNOWN_CONFIG;
    bool out = v->direction == DIRECTION_OUT, stranger = v->direction == DIRECTION_UNKNOWN;
    bool certain = !a->flow.midstream && !out;
    const char *detail = "";
    v->announced = j->dns != NULL && dns_announces(j->dns, a->to, &called->address, called->port);
    if (v->announced && out)
        return;
    if (a->flow.midstream)
        detail = "seen from the middle";
    else if (out)
        detail = "outward, and no SRV record in the capture announces the port";
    else if (stranger && given)
        detail = "neither side is an address of the edge";
    else if (v->announced)
        detail = "an SRV record announces the port";
    if (stranger && (given || v->announced))
        certain = false;
    judge_violation(j, a, VIOLATION_OTHER_PORT, certain, detail);
}

/* ---- the edge calls the inside ---- */

/* What is thought of a call of the edge. */
struct judge_call {
    bool        wrong;        /* maybe: see `certain` */
    bool        certain;      /* the addresses of the edge were given */
    const char *because;      /* static: what the called address is */
};

static bool
judge_is_gateway(const struct judge *j, const struct address *a)
{
    size_t i;
    for (i = 0; i < j->naddresses; i++)
        if (j->addresses[i].inner_calls > 0 && address_equal(&j->addresses[i].address, a))
            return true;
    return false;
}

/* The configuration itself leads there: a static route, or networks that it opens. */
static bool
judge_is_way(const struct judge *j, const struct address *target, uint16_t port, bool *by_name)
{
    size_t i;
    for (i = 0; i < j->o.nways; i++) {
        const struct verdict_way *w = &j->o.ways[i];
        if (w->port != 0 && w->port != port)
            continue;
        if (w->by_name)
            *by_name = true;
        else if (network_has(&w->network, target))
            return true;
    }
    return false;
}

/* An address of the list is in the same block: then that block says nothing of the inside. */
static bool
judge_shares_block(const struct address *list, size_t n, const struct address *a)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (inside_block(&list[i]) == inside_block(a))
            return true;
    return false;
}

/* An address of the list is in the same network, as networks usually are: /24, and /64. */
static bool
judge_is_neighbour(const struct address *list, size_t n, const struct address *a)
{
    size_t i;
    for (i = 0; i < n; i++) {
        struct network near = { list[i], list[i].family == 4 ? 24 : 64 };
        if (network_has(&near, a))
            return true;
    }
    return false;
}

/* What the called address is to the edge, by the best evidence that there is.  Labs play the
 * Internet at private and loopback addresses: what is in the same block as the external address may
 * be a partner. */
static struct judge_call
judge_call_target(const struct judge *j, const struct address *target, uint16_t port)
{
    const struct report *r = &j->report;
    const struct inside_block *block = inside_block(target);
    struct judge_call c = { .wrong = true };
    bool by_name = false;
    if (judge_is_internal(j, target)) {
        c.because = "its own internal address";
    } else if (judge_is_external(j, target)) {
        c.because = "its own external address";
    } else if (judge_is_gateway(j, target) && (block == NULL || !block->shared)) {
        c.because = "a gateway, which called the edge";
    } else if (judge_is_way(j, target, port, &by_name)) {
        return (struct judge_call){ .wrong = false };
    } else if (block != NULL && !judge_shares_block(r->external, r->nexternal, target)) {
        c.because = block->what;
    } else if (judge_is_neighbour(r->internal, r->ninternal, target)
        && !judge_is_neighbour(r->external, r->nexternal, target)) {
        c.because = "an address beside the internal one";
        return c;
    } else {
        return (struct judge_call){ .wrong = false };
    }
    c.certain = !by_name;
    return c;
}

/* A call to itself may be that of any program of its machine. */
static struct judge_call
judge_call(const struct judge *j, const struct address *source, const struct address *target,
    uint16_t port)
{
    const struct report *r = &j->report;
    bool out = judge_is_external(j, source), in = judge_is_internal(j, source);
    bool own = judge_is_external(j, target) || judge_is_internal(j, target);
    struct judge_call c;
    if ((!out && !in) || address_equal(source, target))
        return (struct judge_call){ .wrong = false };
    c = judge_call_target(j, target, port);
    if ((out || own) && (r->external_known == KNOWN_INFERRED || r->external_known == KNOWN_NOT))
        c.certain = false;
    if ((in || own) && (r->internal_known == KNOWN_INFERRED || r->internal_known == KNOWN_NOT))
        c.certain = false;
    return c;
}

/* An attempt is marked; judge_inside() counts and lists it among all calls. */
static void
judge_mark_call(const struct judge *j, struct attempt *a)
{
    const struct flow_side *s = a->flow.side;
    struct judge_call c = judge_call(j, &s[CALLER].address, &s[CALLED].address, s[CALLED].port);
    if (c.wrong && a->flow.evidence <= EVIDENCE_PORT)
        judge_mark_violation(a->verdict, VIOLATION_EDGE_INSIDE,
            c.certain && a->flow.evidence <= EVIDENCE_CONTENT);
}

/* What it is, who led the edge there, and how far it got. */
static void
judge_call_detail(const struct judge *j, const struct inside_call *c, const char *because,
    char *out, size_t size)
{
    const struct dns_fact *f = j->dns == NULL ? NULL
        : dns_find(j->dns, &c->source, &c->target, c->port, c->time_ns);
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)c->count);
    judge_add(out, size, because, c->established == 0 ? ", in vain" : "", (const char *)NULL);
    if (c->count > 1)
        judge_add(out, size, ", ", number, " times", (const char *)NULL);
    if (f == NULL)
        return;
    snprintf(number, sizeof number, "%llu", (unsigned long long)f->answer_frame);
    judge_add(out, size, "; DNS of ", f->domain, " led there, packet ", number, (const char *)NULL);
}

static enum row
judge_call_row(const struct judge *j, uint16_t port)
{
    if (port == j->report.internal_port)
        return ROW_INNER;
    return judge_is_partner_port(j, port) ? ROW_OUT : ROW_OTHER;
}

/* All calls of the edge towards the inside, whatever was said. */
static void
judge_inside(struct judge *j)
{
    size_t n, i;
    const struct inside_call *calls = inside_calls(j->inside, &n);
    if (inside_left_out(j->inside) > 0)
        judge_remark(j, REMARK_CEILING_REPORT, 0, "calls to addresses not of the Internet");
    for (i = 0; i < n; i++) {
        const struct inside_call *call = &calls[i];
        struct judge_call c = judge_call(j, &call->source, &call->target, call->port);
        bool certain = c.certain && call->sure;
        struct report_violation v = { .kind = VIOLATION_EDGE_INSIDE,
            .row = judge_call_row(j, call->port),
            .suspected = !certain,
            .flow = call->flow,
            .frame = call->frame,
            .time_ns = call->time_ns,
            .source = call->source,
            .target = call->target,
            .port = call->port };
        struct report_row *row = &j->report.rows[v.row];
        if (!c.wrong)
            continue;
        row->observed = true;
        row->attempted += call->others;
        row->established += call->others_established;
        row->violations[VIOLATION_EDGE_INSIDE] += certain ? call->count : 0;
        judge_call_detail(j, call, c.because, v.detail, sizeof v.detail);
        judge_list_violation(j, &v);
    }
}

static void
judge_rules(struct judge *j, struct attempt *a)
{
    uint16_t port = a->flow.side[CALLED].port;
    const struct verdict *v = a->verdict;
    judge_mark_call(j, a);
    if (port == j->report.internal_port) {
        judge_rules_inner(j, a);
        return;
    }
    if (judge_is_partner_port(j, port))
        judge_rules_partner(j, a);
    else if (v->reached >= REACH_HEADER && !a->by_port)
        judge_rules_other(j, a);
    if (a->plain_stanzas > 0 && (v->reached >= REACH_AUTH || a->flow.midstream))
        judge_violation(j, a, VIOLATION_PLAIN, true, "");
}

/* Name the partner when no header did. */
static void
judge_names(const struct judge *j, struct attempt *a)
{
    const struct flow_side *s = a->flow.side;
    const struct dns_fact *f = NULL;
    if (a->to[0] != '\0')
        return;
    if (a->sni[0] == '\0' && j->dns != NULL)
        f = dns_find(j->dns, &s[CALLER].address, &s[CALLED].address, s[CALLED].port,
            a->flow.first_ns);
    if (a->sni[0] == '\0' && f == NULL)
        return;
    ADD(a->to, f != NULL ? f->domain : a->sni);
    a->verdict->domains_by_dns = true;
    if (f != NULL && a->verdict->cause != CAUSE_NONE)
        verdict_proof(a->verdict, "DNS answer", f->answer_frame, f->answer_ns);
}

/* ---- stories and remedies ---- */

/* "pa.example (192.0.2.1:4711)" */
static void
judge_endpoint(const struct attempt *a, int side, char *out, size_t size)
{
    const struct flow_side *s = &a->flow.side[side];
    const char *name = attempt_domain(a, side);
    char end[ENDPOINT_MAX];
    endpoint_text(&s->address, s->port, end);
    if (s->port == 0 || name[0] == '\0')
        snprintf(out, size, "%s", end);
    else
        snprintf(out, size, "%.60s (%s)", name, end);
}

/* Something that one side did, and that the sentence of the cause does not say of whom. */
static bool
verdict_is_act(enum cause c)
{
    return c == CAUSE_PEER_LOST || c == CAUSE_NOT_XMPP || c == CAUSE_BAD_NAMESPACE
        || (c >= CAUSE_XML_MALFORMED && c <= CAUSE_INVALID_FROM) || c == CAUSE_TOO_BIG
        || c == CAUSE_CRASH;
}

/* The name of a side, or what it is. */
static const char *
judge_side(const struct attempt *a, int side)
{
    const char *name = attempt_domain(a, side);
    if (name[0] != '\0')
        return name;
    return side == CALLER ? "the caller" : "the called server";
}

/* "; its TTL is 251, and that of all else is 64 and 60" */
static void
judge_aside_reset(struct attempt *a)
{
    const struct flow_side *s = a->flow.side;
    char text[96];
    snprintf(text, sizeof text, "; its TTL is %u, and that of all else is %u and %u",
        (unsigned)s[verdict_foreign_reset(a)].rst_ttl, (unsigned)s[CALLER].ttl,
        (unsigned)s[CALLED].ttl);
    ADD(a->verdict->story, text);
}

/* "; corp.example ended it first" */
static void
judge_aside_closer(struct attempt *a)
{
    char cut[61];
    snprintf(cut, sizeof cut, "%.60s", judge_side(a, a->verdict->closer));
    ADD(a->verdict->story, "; ", cut, " ended it first", a->verdict->ended_where);
}

/* " (that of pb.example)", for certificates; " (by pb.example)"; " (inferred)". */
static void
judge_aside(struct attempt *a, enum cause c)
{
    struct verdict *v = a->verdict;
    const char *name = v->fault == NOBODY ? "" : attempt_domain(a, v->fault);
    char cut[61];
    snprintf(cut, sizeof cut, "%.60s", name);
    if (cut[0] != '\0' && cause_is_cert(c))
        ADD(v->story, " (that of ", cut, ")");
    else if (cut[0] != '\0' && verdict_is_act(c))
        ADD(v->story, " (by ", cut, ")");
    if (v->cause_inferred)
        ADD(v->story, " (inferred)");
    if (c == CAUSE_MIDDLEBOX_RESET)
        judge_aside_reset(a);
    else if (cause_is_wordless(c) && v->fault == NOBODY && v->closer >= 0)
        judge_aside_closer(a);
}

static void
judge_success(struct attempt *a)
{
    struct verdict *v = a->verdict;
    ADD(v->story, v->older ? ": in use since before the capture began" : ": worked");
    if (v->method[0] != '\0')
        ADD(v->story, " with ", v->method);
    if (v->reach_inferred)
        ADD(v->story, " (inferred)");
    if (v->setback == CAUSE_NONE)
        return;
    ADD(v->story, v->setback == CAUSE_BLOCKED ? ", and was ended: " : ", but one step failed: ",
        cause_row(v->setback)->what);
    judge_aside(a, v->setback);
}

static void
judge_story(struct attempt *a)
{
    struct verdict *v = a->verdict;
    const char *what = cause_row(v->cause)->what;
    char from[132], to[132];
    judge_endpoint(a, CALLER, from, sizeof from);
    judge_endpoint(a, CALLED, to, sizeof to);
    if (v->reached == REACH_NAME) {
        ADD(v->story, from, " looked for ", a->to, ": ", what);
        return;
    }
    ADD(v->story, from, " called ", to);
    switch (v->outcome) {
    case OUTCOME_WORKED:
        judge_success(a);
        break;
    case OUTCOME_FAILED:
        ADD(v->story, ": ", what);
        judge_aside(a, v->cause);
        break;
    case OUTCOME_UNKNOWN:
        if (a->flow.midstream) {
            ADD(v->story, " before the capture began; ", what);
            break;
        }
        ADD(v->story, " and got as far as '", reach_word(v->reached), "'; ",
            v->keys_would_help ? "the rest is inside TLS" : what);
        break;
    }
}

/* What is to be done about a protocol that is known, or else what is to be done at all. */
static const char *
judge_stranger(const struct attempt *a, const char *otherwise)
{
    const struct stranger_row *row = cause_stranger(a->wrong_line, a->wrong_len);
    return row == NULL || row->remedy[0] == '\0' ? otherwise : row->remedy;
}

/* Whoever ended it without a word knows why, and his log does. */
static void
judge_remedy_wordless(struct verdict *v)
{
    bool ours = (v->direction == DIRECTION_OUT) == (v->closer == CALLER);
    if (v->closer < 0 || v->direction == DIRECTION_UNKNOWN)
        return;
    v->remedy = cause_wordless(v->cause, ours || v->row == ROW_INNER);
    v->forward = ours || v->row == ROW_INNER ? "" : cause_row(v->cause)->forward;
}

/* Our side ended it, with a word or without: a partner knows no more about it than we do. */
static bool
judge_is_ours(const struct verdict *v)
{
    int who = v->said_by != NOBODY ? v->said_by : v->closer;
    return v->direction != DIRECTION_UNKNOWN && who != NOBODY
        && (v->direction == DIRECTION_OUT) == (who == CALLER);
}

/* The side at fault decides who gets which wording. */
static void
judge_remedy(struct attempt *a)
{
    struct verdict *v = a->verdict;
    enum cause c = v->cause != CAUSE_NONE ? v->cause : v->setback;
    const struct cause_row *row = cause_row(c);
    bool known = v->direction != DIRECTION_UNKNOWN && v->fault >= 0;
    bool ours = known && (v->direction == DIRECTION_OUT) == (v->fault == 0);
    const char *refusal = cause_refusal(c);
    v->remedy = v->words[0] == '\0' ? cause_unsaid(c) : row->remedy;
    if (c == CAUSE_NOT_XMPP)
        v->remedy = judge_stranger(a, row->remedy);
    v->theirs = known && !ours && v->row != ROW_INNER;
    if (v->row == ROW_INNER || (ours && refusal == NULL) || a->proxy.version != 0
        || (v->fault == NOBODY && cause_asks_why(c) && judge_is_ours(v)))
        v->forward = "";
    else if (c == CAUSE_BAD_NAMESPACE && v->fault == a->error_side)
        v->forward = cause_refuses_servers();
    else
        v->forward = refusal != NULL && v->theirs ? refusal : row->forward;
    if (v->outcome == OUTCOME_FAILED && cause_is_wordless(c) && v->words[0] == '\0'
        && v->teller == NOBODY)
        judge_remedy_wordless(v);
}

/* ---- counting ---- */

static size_t
judge_partner_slot(const char *ours, const char *theirs, enum pairing kind)
{
    uint32_t h = 2166136261u + (uint32_t)kind;
    for (; *ours != '\0'; ours++)
        h = (h ^ (unsigned char)*ours) * 16777619u;
    h = (h ^ '|') * 16777619u;
    for (; *theirs != '\0'; theirs++)
        h = (h ^ (unsigned char)*theirs) * 16777619u;
    return (h ^ h >> 15) & (JUDGE_PARTNERS - 1);
}

static struct report_partner *
judge_partner(struct judge *j, const char *ours, const char *theirs, enum pairing kind)
{
    struct report *r = &j->report;
    size_t i = judge_partner_slot(ours, theirs, kind);
    struct report_partner *p;
    for (; j->partner_index[i] != 0; i = (i + 1) & (JUDGE_PARTNERS - 1)) {
        p = &r->partners[j->partner_index[i] - 1];
        if (p->kind == kind && strcmp(p->ours, ours) == 0 && strcmp(p->theirs, theirs) == 0)
            return p;
    }
    if (r->npartners == REPORT_PARTNERS_MAX) {
        r->partners_left_out++;
        return NULL;
    }
    p = list_grow(r->partners, r->npartners, sizeof *p);
    if (p == NULL)
        return NULL;
    r->partners = p;
    p = &r->partners[r->npartners++];
    memset(p, 0, sizeof *p);
    p->in.method = p->out.method = p->in.cipher = p->out.cipher = "";
    ADD(p->ours, ours);
    ADD(p->theirs, theirs);
    p->kind = kind;
    j->partner_index[i] = (uint16_t)r->npartners;
    return p;
}

/* The best attempt says how far one gets. */
static void
judge_way_best(struct report_way *w, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    w->reached = v->reached;
    w->reach_inferred = v->reach_inferred;
    w->older = v->older;
    w->method = v->method;
    w->tls_version = a->tls.established || a->tls.decrypted ? a->tls.version : 0;
    w->cipher = w->tls_version != 0 ? a->tls.cipher_name : "";
    w->client_cert = a->tls.proof == PROOF_PROVEN || a->tls.proof == PROOF_INFERRED;
}

static void
judge_way(struct report_way *w, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    w->attempts++;
    w->worked += v->outcome == OUTCOME_WORKED;
    w->failed += v->outcome == OUTCOME_FAILED;
    w->unknown += v->outcome == OUTCOME_UNKNOWN;
    w->verifies += v->verify_only;
    if (w->first_ns == 0 || a->flow.first_ns < w->first_ns)
        w->first_ns = a->flow.first_ns;
    if (a->flow.last_ns > w->last_ns)
        w->last_ns = a->flow.last_ns;
    if (v->reached >= w->reached)
        judge_way_best(w, a);
    if (v->outcome == OUTCOME_FAILED && a->flow.last_ns >= w->last_failure_ns) {
        w->last_cause = v->cause;
        w->last_failure_ns = a->flow.last_ns;
        memcpy(w->last_words, v->words, sizeof w->last_words);
    }
}

static enum pairing
judge_pairing(const struct verdict *v)
{
    if (v->row == ROW_INNER)
        return PAIR_INNER;
    return v->direction == DIRECTION_UNKNOWN ? PAIR_UNPLACED : PAIR_PARTNER;
}

/* The domain of ours for which a partner was looked up is not asked for; others may tell. */
static const char *
judge_seeker(const struct judge *j, const char *partner)
{
    size_t i;
    for (i = 0; i < j->nlisted; i++) {
        const struct attempt *a = j->listed[i];
        if (a->from[0] != '\0' && strcmp(a->to, partner) == 0)
            return a->from;
        if (a->to[0] != '\0' && strcmp(a->from, partner) == 0)
            return a->to;
    }
    return "";
}

/* The name of a side of the edge, or of a gateway, as the configuration has it. */
static const char *
judge_own_name(const struct judge *j, const struct attempt *a, bool edge)
{
    if (a->verdict->row != ROW_INNER)
        return j->o.domain_name;
    return edge ? j->o.edge_name : j->o.gateway_name;
}

/* The partner to whose static route an address belongs. */
static const char *
judge_route_name(const struct judge *j, const struct flow_side *s)
{
    size_t i;
    for (i = 0; i < j->o.nways; i++) {
        const struct verdict_way *w = &j->o.ways[i];
        if (w->domain[0] != '\0' && !w->by_name && network_has(&w->network, &s->address)
            && (w->port == 0 || w->port == s->port))
            return w->domain;
    }
    return "";
}

/* Who is on a side, by the best name that there is. */
static void
judge_party(const struct judge *j, const struct attempt *a, int side, char out[128])
{
    const struct flow_side *s = &a->flow.side[side];
    bool edge = judge_is_external(j, &s->address) || judge_is_internal(j, &s->address);
    const char *name = attempt_domain(a, side);
    if (name[0] == '\0' && a->verdict->reached == REACH_NAME)
        name = judge_seeker(j, a->to);
    if (name[0] == '\0' && (edge || a->verdict->row == ROW_INNER))
        name = judge_own_name(j, a, edge);
    else if (name[0] == '\0')
        name = judge_route_name(j, s);
    out[0] = '\0';
    judge_add(out, 128, name[0] != '\0' || edge ? name : ENDPOINT(&s->address, 0), (char *)NULL);
}

static void
judge_count_partner(struct judge *j, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    bool in = v->direction == DIRECTION_IN;
    int our = v->row == ROW_INNER ? CALLER : in;   /* inside is who calls */
    struct report_partner *p;
    char ours[128], theirs[128];
    struct report_way *way;
    int side, i;
    judge_party(j, a, our, ours);
    judge_party(j, a, !our, theirs);
    p = judge_partner(j, ours, theirs, judge_pairing(v));
    if (p == NULL)
        return;
    a->verdict->partner = (size_t)(p - j->report.partners) + 1;
    way = in ? &p->in : &p->out;
    judge_way(way, a);
    for (side = 0; side < 2; side++) {
        for (i = 0; i < 3; i++)
            way->stanzas[i] += a->stanzas[side][i];
        way->stanza_errors += a->stanza_errors[side];
    }
}

/* Who is at work on the inner address that a configuration of the edge names has shown a
 * certificate: the edge lets nobody in without one. */
static bool
judge_is_demanded(const struct judge *j, const struct verdict *v)
{
    return v->older && j->report.internal_known == KNOWN_CONFIG && v->direction == DIRECTION_IN;
}

static void
judge_count_row(struct judge *j, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    struct report_row *row = &j->report.rows[v->row];
    bool proven = a->tls.proof == PROOF_PROVEN, inferred = a->tls.proof == PROOF_INFERRED;
    bool unknown = !proven && !inferred && v->row == ROW_INNER, demanded;
    if (v->reached == REACH_NAME)
        return;
    row->observed = true;
    row->attempted++;
    row->established += v->reached >= REACH_TCP;
    row->working += v->reached >= REACH_AUTH;
    row->older += v->older;
    row->announced += v->announced && v->direction == DIRECTION_OUT;
    j->inner_ours += v->row == ROW_INNER && v->direction != DIRECTION_UNKNOWN;
    row->failed += v->outcome == OUTCOME_FAILED;
    row->unknown += v->outcome == OUTCOME_UNKNOWN;
    row->failed_by[v->cause] += v->outcome == OUTCOME_FAILED;
    row->stanzas += attempt_stanzas(a);
    if (v->reached < REACH_AUTH)
        return;
    demanded = unknown && judge_is_demanded(j, v);
    row->mtls_proven += proven;
    row->mtls_inferred += inferred || demanded;
    j->mtls_demanded |= demanded;
    j->mtls_unknown += unknown && !demanded;
    j->mtls_older += unknown && !demanded && v->older;
}

/* The other side went, or stayed, without a word. */
static bool
verdict_is_wordless(enum cause c)
{
    return c == CAUSE_PEER_LOST || c == CAUSE_CRASH || c == CAUSE_SILENT_PEER
        || c == CAUSE_NOT_XMPP;
}

/* Row 3 is TLS by definition: who speaks anything else there is cut off without a word. */
static void
judge_plain_inside(const struct judge *j, struct attempt *a)
{
    struct verdict *v = a->verdict;
    bool plain = !verdict_has_tls(a) && a->content == CONTENT_XMPP && a->headers[0] > 0;
    bool answered = a->plain_headers[1] > 0 || a->headers[1] > 0;
    if (a->flow.side[CALLED].port != j->report.internal_port || !plain || answered
        || v->outcome != OUTCOME_FAILED || !verdict_is_wordless(v->cause))
        return;
    v->cause = CAUSE_TLS_REQUIRED;
    v->fault = CALLER;
}

/* The last steps for an attempt of which everything is known; `told`: it will be read about. */
static void
judge_finish(struct judge *j, struct attempt *a, bool told)
{
    struct report *r = &j->report;
    struct verdict *v = a->verdict;
    if (v->reached != REACH_NAME) {
        judge_plain_inside(j, a);
        judge_row(j, a);
        judge_rules(j, a);
    }
    if (told) {
        judge_story(a);
        judge_remedy(a);
    }
    judge_count_row(j, a);
    judge_count_partner(j, a);
    r->flows_xmpp += v->reached != REACH_NAME;
    r->worked += v->outcome == OUTCOME_WORKED;
    r->failed += v->outcome == OUTCOME_FAILED;
    r->unknown += v->outcome == OUTCOME_UNKNOWN;
    r->failed_by[v->cause] += v->outcome == OUTCOME_FAILED;
    r->keys_would_help |= v->keys_would_help;
}

/* ---- dialback: two connections, one question (XEP-0220 2.1) ---- */

static void
judge_note_failure(struct judge *j, const struct attempt *a)
{
    struct judge_recent *r;
    if (a->verdict->outcome != OUTCOME_FAILED || a->verdict->reached >= REACH_AUTH
        || verdict_asked(a, false))
        return;   /* with a key of its own it got through, and was refused for that */
    r = &j->recent[j->nrecent++ % JUDGE_RECENT];
    r->source = a->flow.side[0].address;
    r->first_ns = a->flow.first_ns;
    r->last_ns = a->flow.last_ns;
    r->flow = a->flow.number;
    memcpy(r->to, a->to, sizeof r->to);
}

/* A key without an answer: had the asked server tried in vain to reach the authoritative one
 * meanwhile? */
static void
judge_unreachable(const struct judge *j, struct attempt *a)
{
    struct verdict *v = a->verdict;
    size_t i, n = j->nrecent < JUDGE_RECENT ? j->nrecent : JUDGE_RECENT;
    if (v->cause != CAUSE_DIALBACK_TIMEOUT || v->outcome != OUTCOME_FAILED)
        return;
    for (i = 0; i < n; i++) {
        const struct judge_recent *r = &j->recent[i];
        if (r->flow == a->flow.number || !address_equal(&r->source, &a->flow.side[1].address)
            || r->first_ns > a->flow.last_ns || r->last_ns < a->flow.first_ns
            || (r->to[0] != '\0' && a->from[0] != '\0' && strcmp(r->to, a->from) != 0))
            continue;
        v->cause = CAUSE_DIALBACK_UNREACHABLE;
        v->fault = 0;
        v->joined = r->flow;
        return;
    }
}

static int
judge_question_order(const void *l, const void *r)
{
    const struct judge_question *a = l, *b = r;
    return strcmp(a->d->id, b->d->id);
}

/* The keys that are about a stream with an id, in its order; the caller frees them. */
static struct judge_question *
judge_keys(const struct judge *j, size_t *n)
{
    struct judge_question *keys = NULL, *room;
    size_t i;
    unsigned k;
    *n = 0;
    for (i = 0; i < j->nlisted; i++)
        for (k = 0; k < j->listed[i]->ndialbacks; k++) {
            const struct dialback *d = &j->listed[i]->dialbacks[k];
            if (d->verify || d->id[0] == '\0' || (room = list_grow(keys, *n, sizeof *keys)) == NULL)
                continue;
            keys = room;
            keys[(*n)++] = (struct judge_question){ d, j->listed[i] };
        }
    if (*n > 0)
        qsort(keys, *n, sizeof *keys, judge_question_order);
    return keys;
}

/* The question v and the keys that it may be about. */
static void
judge_join_one(const struct judge_question *v, struct judge_question *keys, size_t n)
{
    const struct judge_question *hit = bsearch(v, keys, n, sizeof *keys, judge_question_order);
    if (hit == NULL)
        return;
    while (hit > keys && strcmp(hit[-1].d->id, v->d->id) == 0)
        hit--;
    for (; hit < keys + n && strcmp(hit->d->id, v->d->id) == 0; hit++)
        if (strcmp(hit->d->from, v->d->to) == 0 && strcmp(hit->d->to, v->d->from) == 0
            && hit->a != v->a) {
            if (v->a->verdict->joined == 0 || v->a->verdict->verify_only)
                v->a->verdict->joined = hit->a->flow.number;
            hit->a->verdict->joined = v->a->flow.number;
        }
}

static bool
judge_is_between(const struct attempt *a, const struct address *from, const struct address *to)
{
    return address_equal(&a->flow.side[CALLER].address, from)
        && address_equal(&a->flow.side[CALLED].address, to);
}

/* The asked server was calling meanwhile: between the same addresses, or, as it may dial from
 * another one than it listens on, between the same domains. */
static bool
judge_is_call_back(const struct attempt *call, const struct attempt *question)
{
    const struct flow *f = &call->flow, *q = &question->flow;
    bool addresses = judge_is_between(call, &q->side[CALLED].address, &q->side[CALLER].address);
    bool names = call->from[0] != '\0' && strcmp(call->from, question->to) == 0
        && call->to[0] != '\0' && strcmp(call->to, question->from) == 0;
    return (addresses || names) && f->first_ns <= q->first_ns
        && (f->last_ns >= q->last_ns || f->end == FLOW_CAPTURE_END);
}

/* A call between the two of which the capture has not all, or which was refused in the same way. */
static bool
judge_may_miss_call(const struct judge *j, const struct attempt *a)
{
    const struct address *from = &a->flow.side[CALLER].address, *to = &a->flow.side[CALLED].address;
    size_t i;
    for (i = 0; i < j->nlisted; i++) {
        const struct attempt *b = j->listed[i];
        if (b != a && verdict_is_lossy(b)
            && (judge_is_between(b, from, to) || judge_is_between(b, to, from)))
            return true;
    }
    return false;
}

/* Inside TLS without keys: what may be a dialback question is one when the asked server called. */
static void
judge_guessed_question(const struct judge *j, struct attempt *a)
{
    struct verdict *v = a->verdict;
    size_t i;
    if (!v->verify_only || !v->reach_inferred || v->outcome != OUTCOME_UNKNOWN)
        return;
    for (i = 0; i < j->nlisted; i++) {
        if (!judge_is_call_back(j->listed[i], a))
            continue;
        v->outcome = OUTCOME_WORKED;
        v->cause = CAUSE_NONE;
        v->cause_inferred = false;
        v->reached = REACH_AUTH;
        v->method = "verify";
        v->joined = j->listed[i]->flow.number;
        return;
    }
    if (v->asks_much || verdict_is_lossy(a) || judge_may_miss_call(j, a))
        return;
    v->verify_only = false;
    v->outcome = OUTCOME_FAILED;
    v->cause = CAUSE_REFUSED_INSIDE;
}

static void
judge_join(struct judge *j)
{
    size_t n, i;
    struct judge_question *keys = judge_keys(j, &n);
    unsigned k;
    for (i = 0; i < j->nlisted && n > 0; i++)
        for (k = 0; k < j->listed[i]->ndialbacks; k++) {
            struct judge_question v = { &j->listed[i]->dialbacks[k], j->listed[i] };
            if (v.d->verify && v.d->id[0] != '\0')
                judge_join_one(&v, keys, n);
        }
    free(keys);
    for (i = 0; i < j->nlisted; i++) {
        judge_unreachable(j, j->listed[i]);
        judge_guessed_question(j, j->listed[i]);
    }
}

static void
judge_drop(struct attempt *a)
{
    if (a->verdict != NULL) {
        free(a->verdict->said[CALLER]);
        free(a->verdict->said[CALLED]);
        free(a->verdict->twin);
    }
    free(a->verdict);
    attempt_free(a);
}

static size_t
judge_places(const struct judge *j, const struct attempt *a)
{
    const struct judge_events *ev = j->o.events;
    bool failed = a->verdict->outcome == OUTCOME_FAILED;
    bool wanted = ev == NULL || ev->wanted == NULL || ev->wanted(j->o.user, a);
    size_t places = failed ? ATTEMPTS_LISTED_MAX : ATTEMPTS_LISTED_MAX / 2;
    return wanted ? places : places / 4;
}

/* Keep it until the end, if there is room. */
static bool
judge_list(struct judge *j, struct attempt *a)
{
    struct attempt **listed;
    if (j->nlisted >= judge_places(j, a))
        return false;
    listed = list_grow(j->listed, j->nlisted, sizeof(struct attempt *));
    if (listed == NULL)
        return false;
    j->listed = listed;
    j->listed[j->nlisted++] = a;
    return true;
}

/* ---- connections that were seen twice ---- */

/* Which of the two is told about: the one that names both ends, with an address that was given,
 * whole, readable, then the first.  True: b. */
static bool
judge_is_better_twin(const struct judge *j, const struct attempt *a, const struct attempt *b)
{
    const struct flow_side *s = a->flow.side, *t = b->flow.side;
    bool a_given = false, b_given = false;
    int i;
    if (a->proxy.version != b->proxy.version)
        return b->proxy.version != 0;
    for (i = 0; i < 2; i++) {
        a_given |= judge_is_external(j, &s[i].address) || judge_is_internal(j, &s[i].address);
        b_given |= judge_is_external(j, &t[i].address) || judge_is_internal(j, &t[i].address);
    }
    if (a_given != b_given)
        return b_given;
    if (verdict_is_lossy(a) != verdict_is_lossy(b))
        return verdict_is_lossy(a);
    if (s[0].lost + s[1].lost != t[0].lost + t[1].lost)
        return t[0].lost + t[1].lost < s[0].lost + s[1].lost;
    if (a->tls.decrypted != b->tls.decrypted)
        return b->tls.decrypted;
    return b->flow.first_ns < a->flow.first_ns;
}

/* The side that has two addresses is where the translation is. */
static void
judge_note_translated(struct judge *j, const struct attempt *a, const struct attempt *b)
{
    bool same[2];
    int i, side;
    for (i = 0; i < 2; i++)
        same[i] = address_equal(&a->flow.side[i].address, &b->flow.side[i].address);
    if (same[0] == same[1])
        return;
    side = same[0] ? 1 : 0;
    for (i = 0; i < 2; i++) {
        const struct attempt *of = i == 0 ? a : b;
        struct judge_address *known = judge_address(j, &of->flow.side[side].address);
        if (known != NULL)
            known->translated++;
    }
}

/* Nobody names a connection that is not told about. */
static void
judge_rename(struct judge *j, uint64_t gone, uint64_t kept)
{
    size_t i;
    for (i = 0; i < j->nlisted; i++)
        if (j->listed[i] != NULL && j->listed[i]->verdict->leg_flow == gone)
            j->listed[i]->verdict->leg_flow = kept;
    for (i = 0; i < JUDGE_RECENT; i++)
        if (j->recent[i].flow == gone)
            j->recent[i].flow = kept;
}

/* One is kept, with the addresses of the other, and what logs say of either. */
static void
judge_merge(struct judge *j, struct attempt *kept, struct attempt *gone, const char *why)
{
    struct verdict *v = kept->verdict, *w = gone->verdict;
    struct flow *twin = memory_try(malloc(sizeof *twin));
    int i;
    judge_note_translated(j, kept, gone);
    judge_note_addresses(j, gone, false);
    if (twin != NULL)
        *twin = gone->flow;
    free(v->twin);
    v->twin = twin;
    v->twin_why = twin == NULL ? "" : why;
    for (i = 0; i < 2; i++)
        if (v->said[i] == NULL) {
            v->said[i] = w->said[i];
            w->said[i] = NULL;
        }
    if (v->leg[0].port == 0) {
        memcpy(v->leg, w->leg, sizeof v->leg);
        v->leg_flow = w->leg_flow;
    }
    judge_rename(j, gone->flow.number, kept->flow.number);
    j->report.twins++;
    judge_drop(gone);
}

/* Of all listed attempts; the ceiling of the list is that of the work. */
static void
judge_twins(struct judge *j)
{
    size_t i, k, n = 0;
    const char *why;
    for (i = 0; i < j->nlisted; i++) {
        struct attempt *a = j->listed[i];
        for (k = i + 1; a != NULL && k < j->nlisted; k++) {
            struct attempt *b = j->listed[k];
            if (b == NULL || (why = join_same(a, b)) == NULL)
                continue;
            j->listed[k] = NULL;
            if (judge_is_better_twin(j, a, b)) {
                judge_merge(j, b, a, why);
                a = b;
            } else {
                judge_merge(j, a, b, why);
            }
        }
        if (a != NULL)
            j->listed[n++] = a;
    }
    j->nlisted = n;
}

/* ---- names that were looked for, and no connection followed ---- */

/* Everything that was asked for one domain by one client at one time. */
struct judge_lookup {
    const struct dns_fact **facts;   /* in order of time; borrowed */
    size_t nfacts;
    const struct dns_fact *worst;    /* that says why there is no address */
    const struct dns_fact *srv;      /* SRV records that there are; NULL: none */
    bool addresses;                  /* there is one to call */
    bool service;                    /* SRV records with a target to go to */
    bool denied;                     /* an answer says that there are no SRV records */
    bool none;                       /* a target "." */
    bool failed, asked_srv, asked_address, alias;
    enum dns_target_fault fault;     /* of a target that is there */
    int64_t first_ns, last_ns;
};

static int
judge_wish_order(const struct dns_fact *a, const struct dns_fact *b)
{
    int order = memcmp(&a->client, &b->client, sizeof a->client);
    return order != 0 ? order : strcmp(a->domain, b->domain);
}

/* Those of one client for one domain together, in order of time: answers to questions that are
 * asked side by side come in any order, and a fact is made when its answer comes. */
static int
judge_fact_order(const void *l, const void *r)
{
    const struct dns_fact *a = *(const struct dns_fact *const *)l;
    const struct dns_fact *b = *(const struct dns_fact *const *)r;
    int order = judge_wish_order(a, b);
    if (order != 0)
        return order;
    if (a->first_ns != b->first_ns)
        return a->first_ns < b->first_ns ? -1 : 1;
    return a < b ? -1 : a > b;
}

static void
judge_lookup_srv(struct judge_lookup *l, const struct dns_fact *f)
{
    unsigned i;
    if (f->type != DNS_SRV || f->result != DNS_FOUND)
        return;
    for (i = 0; i < f->ntargets; i++) {
        enum dns_target_fault fault = dns_target_fault(&f->targets[i]);
        l->service |= fault == DNS_TARGET_GOOD;
        l->none |= fault == DNS_TARGET_NONE;
        if (fault != DNS_TARGET_NONE)
            l->srv = f;
        if (fault != DNS_TARGET_GOOD && fault != DNS_TARGET_NONE)
            l->fault = fault;
    }
}

/* A name that the domain itself, or a good target of its records has. */
static bool
judge_is_goal(const struct judge_lookup *l, const struct dns_fact *f)
{
    unsigned i;
    for (i = 0; l->srv != NULL && i < l->srv->ntargets; i++)
        if (dns_target_fault(&l->srv->targets[i]) == DNS_TARGET_GOOD
            && strcmp(l->srv->targets[i].host, f->name) == 0)
            return true;
    return strcmp(f->name, f->domain) == 0;
}

static void
judge_lookup_fact(struct judge_lookup *l, const struct dns_fact *f)
{
    bool found = f->result == DNS_FOUND || f->result == DNS_CUT;
    bool absent = f->result == DNS_NXDOMAIN || f->result == DNS_EMPTY;
    bool address = f->type != DNS_SRV;
    l->asked_address |= address;
    l->asked_srv |= !address;
    l->denied |= !address && absent;
    l->addresses |= f->result == DNS_CUT;
    l->alias |= address && !found && f->alias[0] != '\0';
    if (!found && (!absent || !l->failed))
        l->worst = f;
    l->failed |= !found && !absent;
    if (f->settled_ns > l->last_ns)
        l->last_ns = f->settled_ns;
}

/* There is an address to go to, asked for now, or known since before and until later. */
static bool
judge_is_answered(const struct judge_lookup *l, const struct dns_fact *f)
{
    bool found = f->result == DNS_FOUND || f->result == DNS_CUT;
    bool holds = f->first_ns >= l->first_ns || f->last_ns >= l->first_ns;
    return f->type != DNS_SRV && found && holds && judge_is_goal(l, f);
}

/* The questions from wish[begin] on, as long as they follow each other.  What is before them was
 * known, and still holds: who has the records does not always ask again. */
static struct judge_lookup
judge_lookup(const struct dns_fact **wish, size_t begin, size_t n)
{
    struct judge_lookup l;
    size_t i;
    memset(&l, 0, sizeof l);
    l.facts = wish + begin;
    l.first_ns = l.last_ns = wish[begin]->first_ns;
    for (i = begin; i < n && wish[i]->first_ns - l.last_ns <= JUDGE_LOOKUP; i++)
        judge_lookup_fact(&l, wish[i]);
    l.nfacts = i - begin;
    n = i;
    for (i = l.denied ? begin : 0; i < n; i++)
        judge_lookup_srv(&l, wish[i]);
    for (i = 0; i < n; i++)
        l.addresses |= judge_is_answered(&l, wish[i]);
    return l;
}

static bool
judge_calls(const struct judge *j, const struct address *who)
{
    size_t i;
    for (i = 0; i < j->nlisted; i++)
        if (address_equal(&j->listed[i]->flow.side[0].address, who))
            return true;
    return false;
}

/* A connection to nobody knows whom, right after the question, may be the one: the answer is only
 * not in the capture.  Who never calls asks on behalf of another address. */
static bool
judge_has_called(const struct judge *j, const struct judge_lookup *l)
{
    const struct address *client = &l->facts[0]->client;
    const char *domain = l->facts[0]->domain;
    bool calls = judge_calls(j, client);
    int64_t until_ns = l->last_ns + VERDICT_SILENCE;
    size_t i;
    for (i = 0; i < j->nlisted; i++) {
        const struct attempt *a = j->listed[i];
        int64_t at = a->flow.first_ns;
        bool may_be = a->to[0] == '\0' && at >= l->last_ns && at < until_ns;
        bool named = strcmp(a->to, domain) == 0 && at >= l->first_ns && at < until_ns;
        if ((may_be || named)
            && (calls ? address_equal(&a->flow.side[0].address, client)
            : !address_equal(&a->flow.side[1].address, client)))
            return true;
    }
    for (i = 0; i < j->report.npartners; i++) {   /* of attempts that are not listed */
        const struct report_way *w = &j->report.partners[i].out;
        if (strcmp(j->report.partners[i].theirs, domain) == 0 && w->first_ns < until_ns
            && w->last_ns >= l->first_ns)
            return true;
    }
    return false;
}

static void
judge_dns_event(struct attempt *a, const struct dns_fact *f, bool answer)
{
    struct event e = { .kind = EVENT_DNS,
        .side = answer,
        .frame = answer ? f->answer_frame : f->query_frame,
        .time_ns = answer ? f->answer_ns : f->query_ns,
        .from = "",
        .to = f->name,
        .what = dns_type_word(f->type),
        .text = answer ? dns_result_word(f->result) : "?" };
    if (e.frame != 0)
        attempt_event(a, &e);
}

/* The question and its answer, as events and as a proof. */
static void
judge_dns_events(struct attempt *a, const struct dns_fact *f)
{
    judge_dns_event(a, f, false);
    judge_dns_event(a, f, true);
    if (f->answer_frame != 0)
        verdict_proof(a->verdict, "DNS answer", f->answer_frame, f->answer_ns);
    else
        verdict_proof(a->verdict, "DNS question without an answer", f->query_frame, f->query_ns);
}

/* An attempt that ended before there was a connection; NULL: no memory. */
static struct attempt *
judge_dns_attempt_new(const struct judge_lookup *l)
{
    const struct dns_fact *about = l->facts[0];
    struct flow flow;
    struct attempt *a;
    memset(&flow, 0, sizeof flow);
    flow.side[CALLER].address = about->client;
    flow.side[CALLED].address = about->server;
    flow.first_frame = about->query_frame != 0 ? about->query_frame : about->answer_frame;
    flow.first_ns = about->query_ns != 0 ? about->query_ns : about->answer_ns;
    flow.last_ns = l->last_ns;
    a = attempt_new(&flow);
    if (a == NULL)
        return NULL;
    if (verdict_new(a) == NULL) {
        attempt_free(a);
        return NULL;
    }
    ADD(a->to, about->domain);
    return a;
}

/* The records themselves come before what became of their targets. */
static enum cause
judge_lookup_cause(const struct judge_lookup *l)
{
    if (l->none && !l->service)
        return CAUSE_DNS_NO_SERVICE;
    if (!l->service && l->fault != DNS_TARGET_GOOD)
        return l->fault == DNS_TARGET_ADDRESS ? CAUSE_SRV_ADDRESS : CAUSE_SRV_NO_PORT;
    if (l->failed)
        return CAUSE_DNS_FAILED;
    if (l->service && l->asked_address)
        return l->alias ? CAUSE_SRV_ALIAS : CAUSE_SRV_NO_ADDRESS;
    return CAUSE_DNS_NOT_FOUND;
}

/* The answer that shows it: "xmpp-server record 192.0.2.12:5269", "nxdomain for A x.example". */
static void
judge_lookup_words(struct verdict *v, const struct judge_lookup *l)
{
    unsigned i;
    char port[16];
    if (v->cause != CAUSE_SRV_ADDRESS && v->cause != CAUSE_SRV_NO_PORT) {
        if (l->worst != NULL)
            ADD(v->words, dns_result_word(l->worst->result), " for ",
                dns_type_word(l->worst->type), " ", l->worst->name);
        if (v->cause == CAUSE_SRV_ALIAS && l->worst->alias[0] != '\0')
            ADD(v->words, ", an alias of ", l->worst->alias);
        return;
    }
    ADD(v->words, l->srv->service, " record ");
    for (i = 0; i < l->srv->ntargets; i++) {
        snprintf(port, sizeof port, ":%u", (unsigned)l->srv->targets[i].port);
        ADD(v->words, i > 0 ? ", " : "", l->srv->targets[i].host, port);
    }
}

static void
judge_dns_attempt(struct judge *j, const struct judge_lookup *l)
{
    struct attempt *a = judge_dns_attempt_new(l);
    struct verdict *v;
    size_t i;
    if (a == NULL)
        return;
    v = a->verdict;
    v->reached = REACH_NAME;
    v->row = ROW_OUT;
    v->direction = DIRECTION_OUT;
    v->domains_by_dns = true;
    v->outcome = OUTCOME_FAILED;
    v->fault = CALLED;
    v->cause = judge_lookup_cause(l);
    judge_lookup_words(v, l);
    for (i = 0; i < l->nfacts; i++)
        judge_dns_events(a, l->facts[i]);
    if (!judge_list(j, a)) {
        judge_finish(j, a, false);
        judge_drop(a);
    }
}

/* Who gets no answer asks again.  So many questions are no accident of the capture, unless it has
 * no answers at all (nobody is `heard`) and only one direction of the rest. */
static bool
judge_is_mute(const struct judge *j, const struct judge_lookup *l, bool heard)
{
    uint64_t asked = 0, most = 0;
    size_t i;
    for (i = 0; i < l->nfacts; i++) {
        const struct dns_fact *f = l->facts[i];
        if (f->result != DNS_UNANSWERED)
            continue;
        asked += f->asked;
        most = f->asked > most ? f->asked : most;
    }
    return most > 1 && asked >= VERDICT_SYNS
        && (heard || j->report.remarks[REMARK_ONE_SIDED] == 0);
}

/* What was asked leads nowhere, and it is certain that the answers are all there. */
static bool
judge_is_hopeless(const struct judge *j, const struct judge_lookup *l, bool heard)
{
    if (l->addresses || judge_has_called(j, l))
        return false;
    if (l->service && (l->none || (!l->failed && !l->asked_address)))
        return false;
    if (!l->asked_srv && l->srv == NULL)
        return false;   /* who knows for what the address is needed */
    return !l->failed || l->worst->result != DNS_UNANSWERED || judge_is_mute(j, l, heard);
}

/* What one client asked for one domain, look-up by look-up. */
static void
judge_wish(struct judge *j, const struct dns_fact **wish, size_t n, bool heard)
{
    size_t i;
    for (i = 0; i < n;) {
        struct judge_lookup l = judge_lookup(wish, i, n);
        if (judge_is_hopeless(j, &l, heard))
            judge_dns_attempt(j, &l);
        i += l.nfacts;
    }
}

static void
judge_dns(struct judge *j)
{
    size_t n, i, k;
    const struct dns_fact *facts = judge_facts(j, &n), **order;
    bool heard = false;
    if (n == 0 || (order = memory_try(calloc(n, sizeof *order))) == NULL)
        return;
    for (i = 0; i < n; i++) {
        order[i] = &facts[i];
        heard |= facts[i].answered > 0;
    }
    qsort(order, n, sizeof *order, judge_fact_order);
    for (i = 0; i < n; i = k) {
        for (k = i + 1; k < n && judge_wish_order(order[i], order[k]) == 0; k++)
            ;
        judge_wish(j, order + i, k - i, heard);
    }
    free(order);
}

/* ---- logs ---- */

/* A line about a connection takes the place of the one before, if it tells more: a reason, and then
 * the end to which its time is nearest. */
static bool
judge_log_tells_more(const struct log_said *was, const struct log_entry *e, int64_t apart_ns)
{
    bool reason = !verdict_is_general(e->why) && !verdict_is_calm(e->why);
    bool had = !verdict_is_general(was->entry.why) && !verdict_is_calm(was->entry.why);
    if (reason != had)
        return reason;
    return llabs((long long)apart_ns) < llabs((long long)was->apart_ns);
}

static void
judge_note_log(struct report_log *log, int64_t apart_ns)
{
    if (log->joined == 0 || apart_ns < log->least_ns)
        log->least_ns = apart_ns;
    if (log->joined == 0 || apart_ns > log->most_ns)
        log->most_ns = apart_ns;
    log->joined++;
}

struct attempt *const *
judge_attempts(const struct judge *j, size_t *n)
{
    *n = j->nlisted;
    return j->listed;
}

bool
judge_log_begin(struct judge *j, const char *name)
{
    if (j->report.nlogs == REPORT_LOGS_MAX)
        return false;
    j->logs[j->report.nlogs++] = (struct report_log){ .name = name };
    return true;
}

void
judge_log(struct judge *j, struct attempt *a, int side, const struct log_said *said)
{
    struct report_log *log = &j->logs[j->report.nlogs - 1];
    struct log_said *was = a->verdict->said[side];
    judge_note_log(log, said->apart_ns);
    if (was != NULL && !judge_log_tells_more(was, &said->entry, said->apart_ns))
        return;
    if (was == NULL && (was = memory_try(malloc(sizeof *was))) == NULL)
        return;
    *was = *said;
    was->file = log->name;
    a->verdict->said[side] = was;
}

void
judge_leg(struct attempt *a, const struct log_entry *e, const struct attempt *trunk)
{
    struct verdict *v = a->verdict;
    v->leg[0] = e->trunk_own;
    v->leg[1] = e->trunk_peer;
    v->leg_flow = trunk == NULL ? 0 : trunk->flow.number;
}

void
judge_log_end(struct judge *j, struct log_counts counts)
{
    j->logs[j->report.nlogs - 1].counts = counts;
}

/* Of every listed attempt. */
static void
judge_heed(struct judge *j)
{
    size_t i, k;
    for (i = 0; i < j->nlisted; i++) {
        struct verdict *v = j->listed[i]->verdict;
        verdict_heed(j->listed[i]);
        for (k = 0; k < j->report.nlogs && v->from_log; k++)
            j->logs[k].decided += v->said[v->teller]->file == j->logs[k].name;
    }
    j->report.logs = j->logs;
}

/* ---- rulings ---- */

static bool
judge_row_violates(const struct report_row *row, enum violation_kind *which)
{
    int k;
    for (k = 0; k < VIOLATION_COUNT; k++)
        if (row->violations[k] > 0) {
            *which = (enum violation_kind)k;
            return true;
        }
    return false;
}

static const struct report_violation *
judge_suspicion(const struct report *r, enum row row)
{
    size_t i;
    for (i = 0; i < r->nviolations; i++)
        if (r->violations[i].row == row && r->violations[i].suspected)
            return &r->violations[i];
    return NULL;
}

static enum ruling
judge_because(struct report_row *row, enum ruling r, const char *why)
{
    ADD(row->why, why);
    return r;
}

/* What began before the capture goes to the same listener as what is seen to prove itself there. */
static void
judge_older_mutual(struct judge *j)
{
    struct report_row *row = &j->report.rows[ROW_INNER];
    if (row->mtls_proven + row->mtls_inferred == 0 || j->mtls_demanded)
        return;
    row->mtls_inferred += j->mtls_older;
    j->mtls_unknown -= j->mtls_older;
}

/* What mutual TLS rests on, where it was not seen. */
static const char *
judge_mutual_ground(const struct judge *j)
{
    if (j->mtls_demanded)
        return "the configuration, which demands it";
    return j->mtls_older > 0 ? "the connections that began in the capture" : "record lengths";
}

/* Sets why it is so, too. */
static enum ruling
judge_rule_row(struct judge *j, enum row which)
{
    struct report *r = &j->report;
    struct report_row *row = &r->rows[which];
    const struct report_violation *s = judge_suspicion(r, which);
    enum known known = which == ROW_INNER ? r->internal_known : r->external_known;
    enum violation_kind v;
    if (judge_row_violates(row, &v))
        return judge_because(row, RULING_VIOLATES, violation_text(v));
    if (!row->observed)
        return judge_because(row, which == ROW_OTHER ? RULING_CONFORMS : RULING_CANNOT_TELL,
            "no connection of this row is in the capture");
    if (s != NULL) {
        ADD(row->why, "it may be that ", violation_text(s->kind));
        return judge_because(row, RULING_CANNOT_TELL,
            known == KNOWN_INFERRED ? "; give --external and --internal to know" : "");
    }
    if (which == ROW_OTHER && row->announced == row->attempted)
        return judge_because(row, RULING_CONFORMS, "outward to ports that SRV records of partners "
            "announce; let the firewall pass them");
    if (which == ROW_OTHER)
        return judge_because(row, RULING_CANNOT_TELL,
            "connections of which neither side is known to be the edge");
    if (row->working == 0)
        return judge_because(row, RULING_CANNOT_TELL, "no connection of this row got to work");
    if (which == ROW_INNER && r->ninternal > 0 && j->inner_ours == 0)
        return judge_because(row, RULING_CANNOT_TELL,
            "no connection of this row goes to the internal address that was given");
    if (which == ROW_INNER && j->mtls_unknown > 0)
        return judge_because(row, RULING_CANNOT_TELL,
            "whether the gateway proved itself with a certificate cannot be seen");
    if (known == KNOWN_INFERRED)
        ADD(row->why, "if the inferred address is that of the edge");
    if (row->older > 0)
        ADD(row->why, row->why[0] != '\0' ? "; " : "",
            row->older == row->working ? "in use since before the capture began (inferred)"
            : "some connections in use since before the capture began (inferred)");
    if (which == ROW_INNER && row->mtls_inferred > 0)
        ADD(row->why, row->why[0] != '\0' ? "; " : "", "mutual TLS inferred from ",
            judge_mutual_ground(j));
    return RULING_CONFORMS;
}

static void
judge_exit_code(struct judge *j)
{
    struct report *r = &j->report;
    bool bad = r->failed > 0;
    int k;
    for (k = 0; k < ROW_COUNT; k++) {
        bad |= r->rows[k].ruling == RULING_VIOLATES;
        if ((j->o.required & 1u << k) != 0 && !r->rows[k].observed)
            ADD(r->missing_rows, r->missing_rows[0] != '\0' ? " " : "", row_word((enum row)k));
    }
    if (r->missing_rows[0] != '\0')
        r->exit_code = 4;
    else
        r->exit_code = bad ? 1 : 0;
}

/* ---- the stage ---- */

struct judge *
judge_new(const struct verdict_options *o, const struct dns *dns)
{
    struct judge *j = memory_try(calloc(1, sizeof *j));
    struct report *r;
    if (j == NULL || (j->inside = inside_new()) == NULL) {
        free(j);
        return NULL;
    }
    j->o = *o;
    j->dns = dns;
    r = &j->report;
    memcpy(r->external, o->external, sizeof r->external);
    memcpy(r->internal, o->internal, sizeof r->internal);
    r->nexternal = o->nexternal;
    r->ninternal = o->ninternal;
    r->external_known = o->nexternal > 0 ? o->external_known : KNOWN_NOT;
    r->internal_known = o->ninternal > 0 ? o->internal_known : KNOWN_NOT;
    r->external_port = o->external_port != 0 ? o->external_port : 5269;
    r->internal_port = o->internal_port != 0 ? o->internal_port : 23456;
    r->keys_given = o->keys_given;
    r->show_content = o->show_content;
    return j;
}

/* To whom it may concern. */
static void
judge_tell(const struct judge *j, const struct attempt *a, bool unlisted)
{
    static const struct judge_events nobody;
    const struct judge_events *ev = j->o.events == NULL ? &nobody : j->o.events;
    if (unlisted && ev->unlisted != NULL)
        ev->unlisted(j->o.user, a);
    if (!unlisted && ev->ended != NULL)
        ev->ended(j->o.user, a);
}

void
judge_push(struct judge *j, struct attempt *a)
{
    if (!verdict_attempt(a, j->o.anchors)) {
        judge_drop(a);
        return;
    }
    judge_note_addresses(j, a, true);
    judge_note_failure(j, a);
    if (a->flow.last_ns > j->report.last_ns)
        j->report.last_ns = a->flow.last_ns;
    judge_row(j, a);
    judge_names(j, a);
    judge_tell(j, a, false);
    if (judge_list(j, a))
        return;
    judge_infer(j);
    judge_unreachable(j, a);
    judge_finish(j, a, j->o.events != NULL && j->o.events->unlisted != NULL);
    judge_tell(j, a, true);
    j->report.attempts_left_out++;
    if (j->report.attempts_left_out == 1)
        judge_remark(j, REMARK_CEILING_REPORT, a->flow.first_frame, "");
    judge_drop(a);
}

/* When the edge is known, only what it calls is kept.  Name servers may be anywhere. */
void
judge_flow(struct judge *j, const struct flow *f, bool xmpp)
{
    const struct address *source = &f->side[CALLER].address;
    bool known = j->o.nexternal > 0 && j->o.ninternal > 0;
    if (f->side[CALLED].port == DNS_PORT
        || (known && !judge_is_external(j, source) && !judge_is_internal(j, source)))
        return;
    inside_push(j->inside, f, xmpp);
}

void
judge_remark(struct judge *j, enum remark r, uint64_t frame, const char *detail)
{
    struct report *report = &j->report;
    if (report->remarks[r]++ > 0)
        return;
    report->remark_frame[r] = frame;
    ADD(report->remark_detail[r], detail == NULL ? "" : detail);
}

static int
judge_order(const void *l, const void *r)
{
    const struct attempt *a = *(struct attempt *const *)l, *b = *(struct attempt *const *)r;
    if (a->flow.first_ns != b->flow.first_ns)
        return a->flow.first_ns < b->flow.first_ns ? -1 : 1;
    if (a->flow.number != b->flow.number)
        return a->flow.number < b->flow.number ? -1 : 1;
    return a->flow.first_frame < b->flow.first_frame ? -1
        : a->flow.first_frame > b->flow.first_frame;   /* look-ups have no number */
}

struct report *
judge_end(struct judge *j)
{
    struct report *r = &j->report;
    size_t i;
    int k;
    judge_twins(j);
    judge_dns(j);
    if (j->nlisted > 0)
        qsort(j->listed, j->nlisted, sizeof *j->listed, judge_order);
    judge_infer(j);
    judge_inside(j);
    judge_join(j);
    judge_heed(j);
    for (i = 0; i < j->nlisted; i++)
        judge_finish(j, j->listed[i], true);
    judge_older_mutual(j);
    for (k = 0; k < ROW_COUNT; k++)
        r->rows[k].ruling = judge_rule_row(j, (enum row)k);
    judge_exit_code(j);
    r->attempts = j->listed;
    r->nattempts = j->nlisted;
    if (j->dns != NULL) {
        r->dns = dns_facts(j->dns, &r->ndns);
        r->dns_left_out = dns_left_out(j->dns);
    }
    return r;
}

void
judge_free(struct judge *j)
{
    size_t i;
    if (j == NULL)
        return;
    for (i = 0; i < j->nlisted; i++)
        judge_drop(j->listed[i]);
    free(j->listed);
    free(j->report.violations);
    free(j->report.partners);
    inside_free(j->inside);
    free(j);
}
