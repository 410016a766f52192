/* xmpp.c -- streams by their content, on any port
 *
 * A flow is XMPP when its initiator begins with an XML stream header, or with a TLS ClientHello
 * (what is inside shows then, if there are keys).  Each side has one tokenizer, the very same as in
 * the proxy, so that a server's refusal and our verdict rest on the same reading.
 *
 *   bytes --> PLAIN --<proceed/>--> TLS (tls.c) --keys--> PLAIN again, inside
 *     \-----> TLS from the first byte ---------------------^
 *      \----> OTHER: not ours, nothing more is looked at
 *
 * After a gap in plain text a tokenizer cannot go on: the side is given up, the rest is only
 * counted.  Tokenizers exist only while there is XML to read, so that an encrypted flow without
 * keys costs nothing.
 */
#include "xmpp.h"
#include "pool.h"

#include <arpa/inet.h>

#define XMPP_HEADER_MAX   16384          /* bytes of a stream header that is read */
#define XMPP_ELEMENT_MAX  (1u << 20)     /* bytes of an element that is read */
#define XMPP_PAUSE        (10 * SECOND)  /* a silence that is noted */
#define XMPP_INSIDE_MAX   4              /* our own walks inside each other: two are enough */
#define XMPP_FIRST_EVENTS 16             /* events and bytes of their texts that an attempt has */
#define XMPP_FIRST_TEXTS  1024           /* room for from the start */

#define NS_STREAMS "http://etherx.jabber.org/streams"
#define NS_DIALBACK "jabber:server:dialback"

struct xmpp_side {
    struct xe_xml  xml;
    bool           broken;    /* gap or bad XML: not read any more */
    bool           begun;     /* something was read, an XML declaration if there is no header yet */
    unsigned char *rest;      /* owned: an unfinished element */
    size_t         rest_len;
    size_t         rest_cap;
};

/* Where the record layer of one side is: only lengths are of interest here. */
struct xmpp_records {
    uint8_t  head[5];
    uint8_t  have;            /* bytes of head */
    uint32_t left;            /* bytes of the record that are still to come */
    bool     lost;            /* no longer known after a gap */
    uint64_t frame;           /* of the last record */
    int64_t  time_ns;
};

struct xmpp {
    struct attempt            *attempt;   /* borrowed */
    struct tls_keys           *keys;      /* borrowed; may be NULL */
    struct tls_certs          *certs;     /* borrowed */
    const struct xmpp_events  *events;    /* borrowed; may be NULL */
    void                      *user;
    struct xmpp_side          *side[2];   /* owned; NULL: none needed now */
    struct tls_session        *tls;       /* owned */
    struct xmpp_records        records[2];
    bool                       flip;      /* sides were exchanged since: TLS has the old ones */
    bool                       expected;  /* the port is one of federation */
    bool                       inside;    /* what the tokenizers read was decrypted */
    bool                       decided;   /* the content is known */
    bool                       certain;   /* who is the initiator */
    bool                       unwanted;  /* no federation */
    bool                       proceeded_now;
    bool                       line_over; /* of attempt.wrong_line: what follows is another line */
};

static struct pool side_pool = { sizeof(struct xmpp_side), NULL, NULL };
static struct pool xmpp_pool = { sizeof(struct xmpp), NULL, NULL };

/* An event in the making, with room for its texts. */
struct xmpp_news {
    struct event e;
    char         from[128], to[128], what[96], text[160];
};

static const struct xe_xml_limits xmpp_limits = { .header = XMPP_HEADER_MAX,
    .element = XMPP_ELEMENT_MAX };

/* Before the first XML of a stream that began before the capture did. */
static const char xmpp_frame[] =
    "<stream:stream xmlns='jabber:server' xmlns:stream='" NS_STREAMS "' "
    "xmlns:db='" NS_DIALBACK "'>";

static struct xe_span
xmpp_span(const char *at, size_t len)
{
    return (struct xe_span){ at, len };
}

static bool
xmpp_is(struct xe_span s, const char *word)
{
    return s.at != NULL && s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
}

/* As much of a text as there is room for, entities resolved. */
static size_t
xmpp_copy_start(char *to, size_t room, struct xe_span s)
{
    size_t n = 0;
    while (s.len > 0) {
        const char *end = *s.at == '&' ? memchr(s.at, ';', s.len) : NULL;
        size_t unit = end == NULL ? 1 : (size_t)(end - s.at) + 1;
        size_t got = xe_xml_unescape(xmpp_span(s.at, unit), to + n, room - n);
        if (got == SIZE_MAX)
            break;
        n += got;
        s = xmpp_span(s.at + unit, s.len - unit);
    }
    return n;
}

/* Nothing in it is written otherwise than it is meant, as in nearly all that is sent. */
static bool
xmpp_is_literal(struct xe_span s)
{
    return s.len == 0
        || (memchr(s.at, '&', s.len) == NULL && memchr(s.at, '\n', s.len) == NULL
        && memchr(s.at, '\r', s.len) == NULL && memchr(s.at, '\t', s.len) == NULL);
}

/* Copy text as received into a field, entities resolved, cut where it does not fit. */
static void
xmpp_copy(char *to, size_t size, struct xe_span s)
{
    size_t n = s.at == NULL ? 0 : s.len;
    if (n >= size || !xmpp_is_literal(s))
        n = xe_xml_unescape(s, to, size - 1);
    else if (n > 0)
        memcpy(to, s.at, n);
    if (n == SIZE_MAX)
        n = xmpp_copy_start(to, size - 1, s);
    to[n] = '\0';
}

/* Copy text of our own, cut where it does not fit. */
static void
xmpp_put(char *to, size_t size, const char *from)
{
    size_t n = strlen(from);
    n = n < size ? n : size - 1;
    memcpy(to, from, n);
    to[n] = '\0';
}

static void
xmpp_word(char *list, size_t size, const char *word)
{
    size_t len = strlen(list);
    if (len + strlen(word) + 2 > size)
        return;
    snprintf(list + len, size - len, "%s%s", len > 0 ? " " : "", word);
}

/* ---- events ---- */

const char *
event_word(enum event_kind k)
{
    static const char *const words[] = {
        [EVENT_TCP_SYN] = "tcp-syn",
        [EVENT_TCP_OPEN] = "tcp-open",
        [EVENT_TCP_REFUSED] = "tcp-refused",
        [EVENT_TCP_FIN] = "tcp-fin",
        [EVENT_TCP_RST] = "tcp-rst",
        [EVENT_ICMP] = "icmp",
        [EVENT_GAP] = "gap",
        [EVENT_TLS_HELLO] = "tls-client-hello",
        [EVENT_TLS_SERVER] = "tls-server-hello",
        [EVENT_TLS_CERT] = "tls-certificate",
        [EVENT_TLS_UP] = "tls-established",
        [EVENT_TLS_ALERT] = "tls-alert",
        [EVENT_TLS_DATA] = "tls-data",
        [EVENT_HEADER] = "stream-header",
        [EVENT_FEATURES] = "features",
        [EVENT_ELEMENT] = "element",
        [EVENT_STANZA] = "stanza",
        [EVENT_STREAM_ERROR] = "stream-error",
        [EVENT_STREAM_END] = "stream-end",
        [EVENT_XML_BAD] = "xml-bad",
        [EVENT_DNS] = "dns",
        [EVENT_PROXY] = "proxy-header",
    };
    return words[k];
}

static char xmpp_nothing[1] = "";

/* An attempt with room for what most attempts need: 200,000 of them should not be millions of
 * allocations. */
struct xmpp_attempt {
    struct attempt a;                      /* first: attempt_free is given its address */
    size_t         used;                   /* bytes of texts */
    struct event   events[XMPP_FIRST_EVENTS];
    char           texts[XMPP_FIRST_TEXTS];
};

static struct pool attempt_pool = { sizeof(struct xmpp_attempt), NULL, NULL };

static struct xmpp_attempt *
xmpp_attempt(struct attempt *a)
{
    return (struct xmpp_attempt *)(void *)a;
}

static char *
xmpp_texts_get(struct attempt *a, size_t len)
{
    struct xmpp_attempt *mine = xmpp_attempt(a);
    if (len > sizeof mine->texts - mine->used)
        return memory_try(malloc(len));
    mine->used += len;
    return mine->texts + mine->used - len;
}

/* The texts of a recorded event are one piece, which begins with `from`. */
static void
xmpp_event_free(struct attempt *a, struct event *e)
{
    const struct xmpp_attempt *mine = xmpp_attempt(a);
    bool inside = (uintptr_t)e->from - (uintptr_t)mine->texts < sizeof mine->texts;
    if (e->from != xmpp_nothing && !inside)
        free((char *)(uintptr_t)e->from);
}

static bool
xmpp_event_copy(struct attempt *a, struct event *to, const struct event *e)
{
    const char *const from[4] = { e->from, e->to, e->what, e->text };
    const char **const parts[4] = { &to->from, &to->to, &to->what, &to->text };
    size_t len[4];
    size_t all = 0;
    char *at;
    int i;
    *to = *e;
    for (i = 0; i < 4; i++)
        all += (len[i] = from[i] == NULL ? 0 : strlen(from[i])) + 1;
    if (all == 4) {
        to->from = to->to = to->what = to->text = xmpp_nothing;
        return true;
    }
    at = xmpp_texts_get(a, all);
    if (at == NULL)
        return false;
    for (i = 0; i < 4; i++) {
        if (len[i] > 0)
            memcpy(at, from[i], len[i]);
        at[len[i]] = '\0';
        *parts[i] = at;
        at += len[i] + 1;
    }
    return true;
}

static bool
xmpp_event_room(struct attempt *a)
{
    unsigned cap = a->cap_events * 2;
    bool inside = a->events == xmpp_attempt(a)->events;
    struct event *events;
    if (a->nevents < a->cap_events)
        return true;
    events = memory_try(realloc(inside ? NULL : a->events, cap * sizeof *events));
    if (events == NULL)
        return false;
    if (inside)
        memcpy(events, a->events, a->nevents * sizeof *events);
    a->events = events;
    a->cap_events = cap;
    return true;
}

void
attempt_event(struct attempt *a, const struct event *e)
{
    struct event copy;
    if (!xmpp_event_copy(a, &copy, e)) {
        a->events_left_out++;
        return;
    }
    if (a->nevents == ATTEMPT_EVENTS_MAX) {
        unsigned keep = ATTEMPT_EVENTS_MAX - ATTEMPT_EVENTS_LAST;
        xmpp_event_free(a, &a->events[keep]);
        memmove(&a->events[keep], &a->events[keep + 1],
            (ATTEMPT_EVENTS_LAST - 1) * sizeof *a->events);
        a->events_left_out++;
        a->nevents--;
    }
    if (!xmpp_event_room(a)) {
        xmpp_event_free(a, &copy);
        a->events_left_out++;
        return;
    }
    a->events[a->nevents++] = copy;
}

struct attempt *
attempt_new(const struct flow *f)
{
    struct xmpp_attempt *mine = memory_try(pool_get(&attempt_pool));
    struct attempt *a = mine == NULL ? NULL : &mine->a;
    if (a == NULL)
        return NULL;
    memset(a, 0, sizeof *a);
    mine->used = 0;
    a->events = mine->events;
    a->cap_events = XMPP_FIRST_EVENTS;
    a->flow = *f;
    a->flow.user = NULL;
    a->error_side = a->xml_bad_side = -1;
    a->service = REMARK_COUNT;
    a->tls.alert_side = -1;
    a->tls.sni = a->tls.alpn = a->tls.cipher_name = a->tls.why_closed = a->tls.proof_how = "";
    return a;
}

void
attempt_free(struct attempt *a)
{
    unsigned i;
    if (a == NULL)
        return;
    for (i = 0; i < a->nevents; i++)
        xmpp_event_free(a, &a->events[i]);
    if (a->events != xmpp_attempt(a)->events)
        free(a->events);
    free(a->dialbacks);
    cert_drop(a->tls.server);
    cert_drop(a->tls.client);
    pool_put(&attempt_pool, a);
}

const char *
attempt_domain(const struct attempt *a, int side)
{
    return side == 0 ? a->from : a->to;
}

const struct cert *
attempt_cert(const struct attempt *a, int side)
{
    return side == a->tls.client_side ? a->tls.client : a->tls.server;
}

uint64_t
attempt_stanzas(const struct attempt *a)
{
    uint64_t n = 0;
    int i;
    for (i = 0; i < 3; i++)
        n += a->stanzas[0][i] + a->stanzas[1][i];
    return n;
}

static struct event *
xmpp_news(struct xmpp_news *n, enum event_kind kind, int side, uint64_t frame, int64_t time_ns)
{
    n->e = (struct event){ kind, XE_KIND_UNKNOWN, side, frame, time_ns, n->from, n->to, n->what,
        n->text };
    n->from[0] = n->to[0] = n->what[0] = n->text[0] = '\0';
    return &n->e;
}

static void
xmpp_tell(struct xmpp *x, const struct event *e)
{
    attempt_event(x->attempt, e);
    if (x->events != NULL && x->events->event != NULL)
        x->events->event(x->user, x->attempt, e);
}

/* ---- who is who ---- */

#define XMPP_SWAP(type, array)                                                                     \
    do {                                                                                           \
        type swap = (array)[0];                                                                    \
        (array)[0] = (array)[1];                                                                   \
        (array)[1] = swap;                                                                         \
    } while (0)

void
xmpp_turn(struct xmpp *x)
{
    struct attempt *a = x->attempt;
    char name[sizeof a->from];
    unsigned i;
    XMPP_SWAP(struct xmpp_side *, x->side);
    XMPP_SWAP(struct xmpp_records, x->records);
    XMPP_SWAP(struct flow_side, a->flow.side);
    XMPP_SWAP(unsigned, a->headers);
    XMPP_SWAP(unsigned, a->plain_headers);
    XMPP_SWAP(bool, a->stream_end);
    XMPP_SWAP(int64_t, a->stream_end_ns);
    XMPP_SWAP(int64_t, a->last_content_ns);
    XMPP_SWAP(uint64_t, a->bye_frame);
    XMPP_SWAP(int64_t, a->bye_ns);
    a->pause_side = !a->pause_side;
    XMPP_SWAP(uint64_t, a->stanza_errors);
    for (i = 0; i < 3; i++) {
        uint64_t n = a->stanzas[0][i];
        a->stanzas[0][i] = a->stanzas[1][i];
        a->stanzas[1][i] = n;
    }
    for (i = 0; i < a->nevents; i++)
        a->events[i].side = !a->events[i].side;
    for (i = 0; i < a->ndialbacks; i++)
        a->dialbacks[i].side = !a->dialbacks[i].side;
    for (i = 0; i < a->nrecords && i < ATTEMPT_RECORDS_MAX; i++)
        a->records[i].side = !a->records[i].side;
    memcpy(name, a->from, sizeof name);
    memcpy(a->from, a->to, sizeof name);
    memcpy(a->to, name, sizeof name);
    a->wrong_side = !a->wrong_side;
    a->error_side = a->error_side < 0 ? -1 : !a->error_side;
    a->xml_bad_side = a->xml_bad_side < 0 ? -1 : !a->xml_bad_side;
    if (x->tls != NULL)
        x->flip = !x->flip;
}

/* The content shows who opened the connection.  True: the sides have been exchanged. */
static bool
xmpp_opened_by(struct xmpp *x, int side)
{
    if (x->certain)
        return false;
    x->certain = true;
    if (x->events == NULL || x->events->initiator == NULL || !x->events->initiator(x->user, side))
        return false;
    xmpp_turn(x);
    return true;
}

/* ---- small trees: only names and texts of direct children are ever needed ---- */

/* A tokenizer that has read a header of ours, so that it goes on with elements. */
static bool
xmpp_begin_inside(struct xe_xml *xml)
{
    struct xe_xml_event e;
    size_t used;
    xe_xml_init(xml, &xmpp_limits);
    return memory_suffices(
        xe_xml_next(xml, xmpp_frame, sizeof xmpp_frame - 1, &used, &e) == XE_XML_HEADER);
}

/* Tokenizers for what is inside of elements, one for each depth.  After a whole element each is
 * where it was after its header: only after anything else it begins again. */
static struct xmpp_inside {
    struct xe_xml xml;
    bool          ready;
} xmpp_insides[XMPP_INSIDE_MAX + 1];

static unsigned xmpp_depth;

/* Walk the content of an element with a tokenizer of its own: `child` is told of each child. */
static void
xmpp_children(const struct xe_xml_event *e, void (*child)(void *user, const struct xe_xml_event *c),
    void *user)
{
    struct xmpp_inside *in = &xmpp_insides[xmpp_depth];
    struct xe_xml_event c;
    struct xe_span left = e->inner;
    size_t used;
    if (left.len == 0 || xmpp_depth == XMPP_INSIDE_MAX)
        return;
    xmpp_depth++;
    if (!in->ready) {
        xe_xml_free(&in->xml);
        in->ready = xmpp_begin_inside(&in->xml);
    }
    while (in->ready && left.len > 0) {
        in->ready = xe_xml_next(&in->xml, left.at, left.len, &used, &c) == XE_XML_ELEMENT;
        if (in->ready) {
            child(user, &c);
            left = xmpp_span(left.at + used, left.len - used);
        }
    }
    xmpp_depth--;
}

/* ---- what elements mean ---- */

static void
xmpp_mechanism(void *user, const struct xe_xml_event *c)
{
    struct attempt *a = user;
    char name[32];
    if (!xmpp_is(c->name, "mechanism"))
        return;
    xmpp_copy(name, sizeof name, c->inner);
    xmpp_word(a->features, sizeof a->features, name);
    if (strcmp(name, "EXTERNAL") == 0)
        a->external_offered = true;
}

static void
xmpp_required(void *user, const struct xe_xml_event *c)
{
    if (xmpp_is(c->name, "required"))
        *(bool *)user = true;
}

static void
xmpp_feature(void *user, const struct xe_xml_event *c)
{
    struct attempt *a = user;
    char name[32];
    if (xmpp_is(c->name, "mechanisms")) {
        xmpp_children(c, xmpp_mechanism, a);
    } else if (xmpp_is(c->name, "starttls")) {
        a->starttls_offered = true;
        xmpp_children(c, xmpp_required, &a->starttls_required);
        xmpp_word(a->features, sizeof a->features,
            a->starttls_required ? "starttls-required" : "starttls");
    } else {
        xmpp_copy(name, sizeof name, c->name);
        xmpp_word(a->features, sizeof a->features, name);
        a->dialback_offered |= strcmp(name, "dialback") == 0;
    }
}

static void
xmpp_on_features(struct xmpp *x, const struct xe_xml_event *e, struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    n->e.kind = EVENT_FEATURES;
    a->features[0] = '\0';
    a->features_seen = true;
    a->external_offered = a->dialback_offered = a->starttls_required = false;
    xmpp_children(e, xmpp_feature, a);
    xmpp_put(n->what, sizeof n->what, a->features);
}

/* The condition and the words of <stream:error/>, <failure/> and <error/>. */
struct xmpp_condition {
    char condition[64];
    char extra[64];       /* condition of an application, which comes after the other */
    char text[160];
};

static void
xmpp_condition_child(void *user, const struct xe_xml_event *c)
{
    struct xmpp_condition *to = user;
    if (xmpp_is(c->name, "text"))
        xmpp_copy(to->text, sizeof to->text, c->inner);
    else if (to->condition[0] == '\0')
        xmpp_copy(to->condition, sizeof to->condition, c->name);
    else
        xmpp_copy(to->extra, sizeof to->extra, c->name);
}

static struct xmpp_condition
xmpp_condition(const struct xe_xml_event *e)
{
    struct xmpp_condition c = { "", "", "" };
    xmpp_children(e, xmpp_condition_child, &c);
    if (c.text[0] == '\0')
        xmpp_put(c.text, sizeof c.text, c.extra);
    return c;
}

static void
xmpp_error_child(void *user, const struct xe_xml_event *c)
{
    if (xmpp_is(c->name, "error"))
        *(struct xmpp_condition *)user = xmpp_condition(c);
}

static void
xmpp_on_error(struct xmpp *x, const struct xe_xml_event *e, struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    struct xmpp_condition c = xmpp_condition(e);
    n->e.kind = EVENT_STREAM_ERROR;
    xmpp_put(n->what, sizeof n->what, c.condition);
    xmpp_put(n->text, sizeof n->text, c.text);
    if (a->error_side >= 0)
        return;
    a->error_side = n->e.side;
    a->error_frame = n->e.frame;
    a->error_ns = n->e.time_ns;
    xmpp_put(a->error, sizeof a->error, c.condition);
    xmpp_put(a->error_text, sizeof a->error_text, c.text);
}

/* ---- dialback: questions and answers on this connection (XEP-0220 2) ---- */

static struct dialback *
xmpp_dialback_new(struct attempt *a)
{
    struct dialback *list;
    unsigned n = a->ndialbacks;
    if (n == ATTEMPT_DIALBACKS_MAX)
        return NULL;
    list = list_grow(a->dialbacks, n, sizeof *list);
    if (list == NULL)
        return NULL;
    a->dialbacks = list;
    memset(&a->dialbacks[n], 0, sizeof a->dialbacks[n]);
    a->ndialbacks++;
    return &a->dialbacks[n];
}

static void
xmpp_dialback_ask(struct xmpp *x, bool verify, const struct xe_xml_event *e,
    const struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    struct dialback *d = xmpp_dialback_new(a);
    if (d == NULL)
        return;
    d->verify = verify;
    d->side = (uint8_t)n->e.side;
    xmpp_put(d->from, sizeof d->from, n->from);
    xmpp_put(d->to, sizeof d->to, n->to);
    if (verify)
        xmpp_copy(d->id, sizeof d->id, xe_xml_attr(e, "id"));
    else
        xmpp_put(d->id, sizeof d->id, a->id);
    /* headers before XMPP 1.0 may name nobody */
    if (!verify && a->from[0] == '\0' && n->e.side == 0) {
        xmpp_put(a->from, sizeof a->from, n->from);
        xmpp_put(a->to, sizeof a->to, n->to);
    }
}

static enum dialback_answer
xmpp_answer(const char *type)
{
    if (strcmp(type, "valid") == 0)
        return DIALBACK_VALID;
    return strcmp(type, "error") == 0 ? DIALBACK_ERROR : DIALBACK_INVALID;
}

/* An answer is that to the oldest open question of the other side about the same two domains. */
static void
xmpp_dialback_answer(struct xmpp *x, bool verify, const struct xe_xml_event *e, struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    struct xmpp_condition c = { "", "", "" };
    struct dialback *d;
    unsigned i;
    if (strcmp(n->what, "error") == 0) {
        xmpp_children(e, xmpp_error_child, &c);
        snprintf(n->text, sizeof n->text, "%.63s%s%.90s", c.condition,
            c.text[0] != '\0' ? ": " : "", c.text);
    }
    for (i = 0; i < a->ndialbacks; i++) {
        d = &a->dialbacks[i];
        if (d->verify != verify || d->side == n->e.side || d->answer != DIALBACK_UNANSWERED
            || strcmp(d->from, n->to) != 0 || strcmp(d->to, n->from) != 0)
            continue;
        d->answer = xmpp_answer(n->what);
        xmpp_put(d->condition, sizeof d->condition, c.condition);
        d->answered_frame = n->e.frame;
        d->answered_ns = n->e.time_ns;
        return;
    }
}

static void
xmpp_on_dialback(struct xmpp *x, enum xe_element_kind kind, const struct xe_xml_event *e,
    struct xmpp_news *n)
{
    bool verify = kind == XE_KIND_DB_VERIFY || kind == XE_KIND_DB_VERIFY_ANSWER;
    if (kind == XE_KIND_DB_VERIFY || kind == XE_KIND_DB_RESULT) {
        xmpp_dialback_ask(x, verify, e, n);
        if (verify)
            xmpp_copy(n->what, sizeof n->what, xe_xml_attr(e, "id"));
    } else {
        xmpp_copy(n->what, sizeof n->what, xe_xml_attr(e, "type"));
        xmpp_dialback_answer(x, verify, e, n);
    }
}

/* ---- SASL, stanzas, everything else ---- */

static void
xmpp_on_sasl(struct xmpp *x, enum xe_element_kind kind, const struct xe_xml_event *e,
    struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    struct xmpp_condition c;
    if (kind == XE_KIND_AUTH) {
        a->auth_sent = true;
        xmpp_copy(n->what, sizeof n->what, xe_xml_attr(e, "mechanism"));
    } else if (kind == XE_KIND_SUCCESS) {
        a->sasl_success = true;
    } else {
        c = xmpp_condition(e);
        a->sasl_failure = true;
        xmpp_put(a->sasl_condition, sizeof a->sasl_condition, c.condition);
        xmpp_put(a->sasl_text, sizeof a->sasl_text, c.text);
        xmpp_put(n->what, sizeof n->what, c.condition);
        xmpp_put(n->text, sizeof n->text, c.text);
    }
}

static void
xmpp_addresses(const struct xe_xml_event *e, struct xmpp_news *n)
{
    xmpp_copy(n->from, sizeof n->from, xe_xml_attr(e, "from"));
    xmpp_copy(n->to, sizeof n->to, xe_xml_attr(e, "to"));
}

static void
xmpp_body_child(void *user, const struct xe_xml_event *c)
{
    if (xmpp_is(c->name, "body"))
        xmpp_copy(user, sizeof ((struct xmpp_news *)0)->text, c->inner);
}

/* Stanzas are counted; the first of each kind and direction and some errors become events. */
static void
xmpp_on_stanza(struct xmpp *x, int side, enum xe_element_kind kind, const struct xe_xml_event *e,
    struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    int row = kind == XE_KIND_MESSAGE ? 0 : kind == XE_KIND_PRESENCE ? 1 : 2;
    bool error = xmpp_is(xe_xml_attr(e, "type"), "error");
    struct xmpp_condition c = { "", "", "" };
    a->stanzas[side][row]++;
    a->plain_stanzas += !x->inside;
    a->stanza_errors[side] += error;
    if (a->stanzas[side][row] > 1 && !(error && a->stanza_errors[side] <= 4))
        return;
    n->e.kind = EVENT_STANZA;
    n->e.element = kind;
    xmpp_addresses(e, n);
    if (error) {
        xmpp_children(e, xmpp_error_child, &c);
        snprintf(n->what, sizeof n->what, "error %s", c.condition);
        xmpp_put(n->text, sizeof n->text, c.text);
    } else {
        xmpp_copy(n->what, sizeof n->what, xe_xml_attr(e, "type"));
        if (a->show_content)
            xmpp_children(e, xmpp_body_child, n->text);
    }
    xmpp_tell(x, &n->e);
}

/* Elements that say something about the connection.  False: not worth an event. */
static bool
xmpp_on_negotiation(struct xmpp *x, enum xe_element_kind kind, const struct xe_xml_event *e,
    struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    bool known = a->sm;
    if (kind == XE_KIND_FEATURES) {
        xmpp_on_features(x, e, n);
    } else if (kind == XE_KIND_STREAM_ERROR) {
        xmpp_on_error(x, e, n);
    } else if (kind == XE_KIND_STARTTLS) {
        a->starttls_asked = true;
    } else if (kind == XE_KIND_PROCEED) {
        a->proceeded = x->proceeded_now = true;
    } else if (kind == XE_KIND_TLS_FAILURE) {
        a->tls_failure = true;
    } else if (kind == XE_KIND_AUTH || kind == XE_KIND_SUCCESS || kind == XE_KIND_SASL_FAILURE) {
        xmpp_on_sasl(x, kind, e, n);
    } else if (kind == XE_KIND_DB_RESULT || kind == XE_KIND_DB_VERIFY
        || kind == XE_KIND_DB_RESULT_ANSWER || kind == XE_KIND_DB_VERIFY_ANSWER) {
        xmpp_on_dialback(x, kind, e, n);
    } else if (kind == XE_KIND_TRUNK) {
        a->trunk = true;
    } else if (kind == XE_KIND_BIDI) {
        a->bidi = true;
    } else if (kind == XE_KIND_SM_R || kind == XE_KIND_SM_A) {
        a->sm = true;
        return !known;
    } else if (kind == XE_KIND_UNKNOWN) {
        xmpp_copy(n->what, sizeof n->what, e->name);
        return !a->trunk;   /* acknowledgements of the trunk would be many */
    }
    return true;
}

static void
xmpp_on_element(struct xmpp *x, int side, const struct xe_xml_event *e, struct xmpp_news *n)
{
    enum xe_element_kind kind = xe_element_kind(e);
    if (kind == XE_KIND_MESSAGE || kind == XE_KIND_PRESENCE || kind == XE_KIND_IQ) {
        xmpp_on_stanza(x, side, kind, e, n);
        return;
    }
    n->e.kind = EVENT_ELEMENT;
    n->e.element = kind;
    if (x->attempt->xml_bad_side == !side)
        x->attempt->xml_borne |= kind != XE_KIND_FEATURES && kind != XE_KIND_STREAM_ERROR;
    xmpp_addresses(e, n);
    if (xmpp_on_negotiation(x, kind, e, n))
        xmpp_tell(x, &n->e);
}

/* ---- what is no stream ---- */

/* The first line of it, for the report. */
static void
xmpp_line(struct xmpp *x, const unsigned char *at, size_t len)
{
    struct attempt *a = x->attempt;
    size_t i;
    for (i = 0; i < len && !x->line_over; i++) {
        x->line_over = a->wrong_len > 0 && (at[i] == '\n' || at[i] == '\r');
        if (!x->line_over)
            a->wrong_line[a->wrong_len++] = at[i];
        x->line_over |= a->wrong_len == sizeof a->wrong_line;
    }
}

static void
xmpp_is_stranger(struct xmpp *x, int side)
{
    struct attempt *a = x->attempt;
    a->not_stream = true;
    a->wrong_side = (uint8_t)side;
    a->wrong_len = 0;
    x->line_over = false;
}

/* ---- stream headers ---- */

static void
xmpp_wrong(struct attempt *a, int side, struct xe_span ns, bool stream)
{
    if (a->wrong_namespace || a->not_stream)
        return;
    a->wrong_side = (uint8_t)side;
    a->wrong_namespace = stream;
    a->not_stream = !stream;
    xmpp_copy(a->namespace, sizeof a->namespace, ns);
}

/* Client connections and components (XEP-0114) speak XMPP, too; they are no federation. */
static enum remark
xmpp_service(struct xe_span ns)
{
    if (xmpp_is(ns, "jabber:client"))
        return REMARK_CLIENT;
    return xmpp_is(ns, "jabber:component:accept") || xmpp_is(ns, "jabber:component:connect")
        ? REMARK_COMPONENT : REMARK_COUNT;
}

static void
xmpp_header_kind(struct xmpp *x, int side, const struct xe_xml_event *e, struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    struct xe_span content = xe_xml_stream_ns(&x->side[side]->xml, "");
    bool stream = xmpp_is(e->ns, NS_STREAMS) && xmpp_is(e->name, "stream");
    if (stream && xmpp_is(content, "jabber:server")) {
        a->is_xmpp = true;
        a->by_port = false;
        return;
    }
    if (!x->expected)
        a->service = xmpp_service(content);
    if (!x->expected && (!xmpp_is(e->name, "stream") || a->service != REMARK_COUNT))
        x->unwanted = true;
    else if (xmpp_is(e->name, "stream"))
        a->is_xmpp = true;
    xmpp_wrong(a, side, stream ? content : e->ns, xmpp_is(e->name, "stream"));
    if (a->not_stream) {
        xmpp_line(x, (const unsigned char *)e->raw.at, e->raw.len);
        x->line_over = true;
    }
    xmpp_copy(n->text, sizeof n->text, stream ? content : e->ns);
}

static void
xmpp_on_header(struct xmpp *x, int side, const struct xe_xml_event *e, struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    struct xe_span id = xe_xml_attr(e, "id");
    if (xmpp_opened_by(x, id.at != NULL && id.len > 0 ? !side : side))
        n->e.side = side = !side;
    n->e.kind = EVENT_HEADER;
    a->headers[side]++;
    xmpp_header_kind(x, side, e, n);
    xmpp_addresses(e, n);
    xmpp_copy(n->what, sizeof n->what, id);
    if (n->from[0] != '\0')
        xmpp_put(side == 0 ? a->from : a->to, sizeof a->from, n->from);
    if (n->to[0] != '\0' && (side == 0 || a->from[0] == '\0'))
        xmpp_put(side == 0 ? a->to : a->from, sizeof a->to, n->to);
    if (side == 1)
        xmpp_put(a->id, sizeof a->id, n->what);
    xmpp_tell(x, &n->e);
}

/* Nothing has been read of this side, neither in plain text nor inside TLS. */
static bool
xmpp_is_fresh(const struct attempt *a, int side)
{
    return a->headers[side] + a->plain_headers[side] == 0;
}

static void
xmpp_on_bad(struct xmpp *x, struct xmpp_side *s, int side, struct xmpp_news *n)
{
    struct attempt *a = x->attempt;
    bool told = s->xml.comments && s->xml.why == XE_WHY_XML_RESTRICTED;
    s->broken = true;
    if (told || !memory_suffices(s->xml.why != XE_WHY_OUT_OF_MEMORY))
        return;      /* ours, and no fault of the peer's */
    n->e.kind = EVENT_XML_BAD;
    xmpp_put(n->what, sizeof n->what, xe_why(s->xml.why)->word);
    if (a->xml_bad_side < 0) {
        a->xml_bad_side = side;
        a->xml_why = s->xml.why;
    }
    xmpp_tell(x, &n->e);
}

/* ---- reading XML ---- */

static struct xmpp_side *
xmpp_side_open(struct xmpp *x, int side)
{
    struct xmpp_side *s = x->side[side];
    if (s != NULL || (s = memory_try(pool_get(&side_pool))) == NULL)
        return s;
    xe_xml_init(&s->xml, &xmpp_limits);         /* which knows best what of it must be cleared */
    s->broken = s->begun = false;
    s->rest = NULL;
    s->rest_len = s->rest_cap = 0;
    return x->side[side] = s;
}

static void
xmpp_side_close(struct xmpp *x, int side)
{
    struct xmpp_side *s = x->side[side];
    if (s == NULL)
        return;
    xe_xml_free(&s->xml);
    free(s->rest);
    pool_put(&side_pool, s);
    x->side[side] = NULL;
}

static void
xmpp_keep(struct xmpp_side *s, const unsigned char *at, size_t len)
{
    s->rest = memory_room(s->rest, &s->rest_cap, s->rest_len + len);
    memcpy(s->rest + s->rest_len, at, len);
    s->rest_len += len;
}

static size_t
xmpp_blank(const unsigned char *at, size_t len)
{
    size_t n = 0;
    while (n < len && (at[n] == ' ' || at[n] == '\n' || at[n] == '\r' || at[n] == '\t'))
        n++;
    return n;
}

/* A header after SASL or TLS begins a new stream on the same side (RFC 6120 4.3.3): the tokenizer
 * would call it an element.  It is recognised by its first bytes. */
static bool
xmpp_is_restart(const unsigned char *at, size_t len)
{
    size_t blank = xmpp_blank(at, len);
    at += blank;
    len -= blank;
    return (len >= 5 && memcmp(at, "<?xml", 5) == 0)
        || (len >= 14 && memcmp(at, "<stream:stream", 14) == 0);
}

/* The same, of a piece that is too short to tell. */
static bool
xmpp_may_restart(const unsigned char *at, size_t len)
{
    size_t blank = xmpp_blank(at, len);
    at += blank;
    len -= blank;
    return len > 0 && ((len < 5 && memcmp(at, "<?xml", len) == 0)
        || (len < 14 && memcmp(at, "<stream:stream", len) == 0));
}

/* Some refuse without a header of their own (RFC 6120 4.9.1.2 wants one first). */
#define XMPP_BARE_ERROR "<stream:error"

/* Bytes before the first element: blanks, and a declaration if it is whole. */
static size_t
xmpp_prolog(const unsigned char *at, size_t len)
{
    size_t n = xmpp_blank(at, len);
    const unsigned char *end = memchr(at + n, '>', len - n);
    if (len - n < 5 || memcmp(at + n, "<?xml", 5) != 0 || end == NULL)
        return n;
    n = (size_t)(end - at) + 1;
    return n + xmpp_blank(at + n, len - n);
}

/* <!DOCTYPE html>.  Behind an XML declaration a document type is that of a stream. */
static bool
xmpp_is_document(const struct xmpp_side *s, const unsigned char *at, size_t len)
{
    size_t n = xmpp_blank(at, len);
    return !s->begun && len - n >= 2 && at[n] == '<' && at[n + 1] == '!';
}

/* The first word of a side is a stream error, or may become one; then `*more` is set. */
static bool
xmpp_is_bare_error(const unsigned char *at, size_t len, bool *more)
{
    const size_t whole = sizeof XMPP_BARE_ERROR - 1;
    size_t prolog = xmpp_prolog(at, len), n = len - prolog < whole ? len - prolog : whole;
    bool same = memcmp(at + prolog, XMPP_BARE_ERROR, n) == 0;
    *more = same && n < whole;
    return same && n == whole;
}

/* What is no start tag stands where the header should be.  True: this is understood now, `*used`
 * bytes may be left out; *used SIZE_MAX: more is needed. */
static bool
xmpp_headless(struct xmpp_side *s, const unsigned char *at, size_t len, size_t *used)
{
    bool more;
    *used = SIZE_MAX;
    if (!xmpp_is_bare_error(at, len, &more))
        return more;
    *used = xmpp_prolog(at, len);
    xe_xml_free(&s->xml);
    return xmpp_begin_inside(&s->xml);
}

/* A comment is forbidden (RFC 6120 11.1) and has been told of; what follows it is read. */
static bool
xmpp_past_comment(const struct xmpp *x, struct xmpp_side *s)
{
    int side = x->side[1] == s;
    if (s->xml.why != XE_WHY_XML_RESTRICTED || s->xml.comments
        || (x->attempt->headers[side] == 0 && !x->attempt->flow.midstream))
        return false;
    xe_xml_free(&s->xml);
    s->broken = !xmpp_begin_inside(&s->xml);
    s->xml.comments = true;
    return true;
}

static void
xmpp_on_close(struct xmpp *x, int side, struct xmpp_news *n)
{
    n->e.kind = EVENT_STREAM_END;
    if (!x->attempt->stream_end[side])
        x->attempt->stream_end_ns[side] = n->e.time_ns;
    x->attempt->stream_end[side] = true;
    xmpp_tell(x, &n->e);
}

/* One step of a side's tokenizer; the bytes used, or SIZE_MAX when it needs more. */
static size_t
xmpp_step(struct xmpp *x, struct xmpp_side *s, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    int side = x->side[1] == s;
    struct xe_xml_event e;
    struct xmpp_news n;
    enum xe_xml_result got;
    size_t used = 0;
    xmpp_news(&n, EVENT_XML_BAD, side, frame, time_ns);
    if (s->xml.at == 0 && x->attempt->headers[side] > 0) {
        if (xmpp_may_restart(at, len))
            return SIZE_MAX;
        if (xmpp_is_restart(at, len))
            xe_xml_restart(&s->xml);
    }
    if (s->xml.at == 0 && s->xml.stream == NULL && xmpp_headless(s, at, len, &used))
        return used;
    got = xe_xml_next(&s->xml, (const char *)at, len, &used, &e);
    if (got != XE_XML_MORE && got != XE_XML_BAD && x->events != NULL && x->events->said != NULL)
        x->events->said(x->user, x->attempt, side, got, &e, frame, time_ns);
    switch (got) {
    case XE_XML_MORE:
        s->begun |= used > xmpp_blank(at, used);
        return used > 0 ? used : SIZE_MAX;
    case XE_XML_HEADER:
        xmpp_on_header(x, side, &e, &n);
        return used;
    case XE_XML_ELEMENT:
        xmpp_on_element(x, side, &e, &n);
        return used;
    case XE_XML_CLOSE:
        if (!x->attempt->stream_end[side])
            xmpp_on_close(x, side, &n);
        return used > 0 ? used : len;
    case XE_XML_BAD:
        break;
    }
    if (xmpp_is_fresh(x->attempt, side) && xmpp_is_document(s, at, len)) {
        xmpp_is_stranger(x, side);
        xmpp_line(x, at, len);
    }
    xmpp_on_bad(x, s, side, &n);
    return xmpp_past_comment(x, s) ? 0 : len;
}

/* Read XML of one side.  Returns how much of `len` was used before <proceed/> made the rest TLS. */
static size_t
xmpp_read(struct xmpp *x, struct xmpp_side *s, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    const unsigned char *from = at;
    size_t have = len;
    size_t done = 0;
    size_t n;
    if (s == NULL || s->broken)
        return len;
    if (s->rest_len > 0) {
        xmpp_keep(s, at, len);
        from = s->rest;
        have = s->rest_len;
    }
    while (done < have && !s->broken && !x->proceeded_now
        && (n = xmpp_step(x, s, from + done, have - done, frame, time_ns)) != SIZE_MAX)
        done += n;
    n = have - done;
    if (x->proceeded_now || s->broken) {
        s->rest_len = 0;
        return len - (x->proceeded_now && n < len ? n : 0);
    }
    if (from == s->rest) {
        memmove(s->rest, s->rest + done, n);
        s->rest_len = n;
    } else if (n > 0) {
        xmpp_keep(s, from + done, n);
    }
    return len;
}

/* The capture began later than the stream: elements come without a header. */
static void
xmpp_join(struct xmpp *x, int side, const unsigned char *at, size_t len)
{
    struct xmpp_side *s = x->side[side];
    if (s != NULL || !x->attempt->flow.midstream || xmpp_is_restart(at, len))
        return;
    s = xmpp_side_open(x, side);
    if (s == NULL)
        return;
    if (at[xmpp_blank(at, len)] != '<' || !xmpp_begin_inside(&s->xml))
        s->broken = true;
}

/* ---- TLS ---- */

static void
xmpp_tls_plaintext(void *user, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct xmpp *x = user;
    side ^= x->flip;
    x->inside = true;
    x->attempt->last_content_ns[side] = time_ns;
    xmpp_read(x, xmpp_side_open(x, side), at, len, frame, time_ns);
    x->proceeded_now = false;   /* there is no second STARTTLS */
}

static void
xmpp_tls_lost(void *user, int side, uint64_t frame)
{
    struct xmpp *x = user;
    struct xmpp_side *s = xmpp_side_open(x, side ^ x->flip);
    (void)frame;
    if (s != NULL)
        s->broken = true;
}

/* There are keys, so that the content may show what this is. */
static bool
xmpp_may_open(const struct xmpp *x)
{
    return x->keys != NULL && x->events != NULL && x->events->has_keys != NULL
        && x->events->has_keys(x->user);
}

static void
xmpp_tls_hello(void *user, const struct tls_view *v)
{
    struct xmpp *x = user;
    struct attempt *a = x->attempt;
    int side = v->client_side ^ x->flip;
    bool named = strstr(v->alpn, "xmpp-server") != NULL || strcmp(v->alpn, "xmppedge") == 0;
    struct xmpp_news n;
    xmpp_news(&n, EVENT_TLS_HELLO, side, v->hello_frame, v->hello_ns);
    if (!a->starttls && xmpp_opened_by(x, side))
        n.e.side = !side;
    xmpp_put(n.to, sizeof n.to, v->sni);
    snprintf(n.what, sizeof n.what, "up to %s%s%.60s", tls_version_name(v->offered),
        v->alpn[0] != '\0' ? " ALPN " : "", v->alpn);
    xmpp_put(a->sni, sizeof a->sni, v->sni);
    xmpp_put(a->alpn, sizeof a->alpn, v->alpn);
    if (named) {
        a->is_xmpp = true;
        a->by_port = false;
    } else if (!x->expected && !a->starttls && (v->alpn[0] != '\0' || !xmpp_may_open(x))) {
        x->unwanted = true;     /* the web, most likely */
        if (strstr(v->alpn, "xmpp-client") != NULL)
            a->service = REMARK_CLIENT_TLS;
    }
    xmpp_tell(x, &n.e);
}

static void
xmpp_tls_server(void *user, const struct tls_view *v)
{
    struct xmpp *x = user;
    struct attempt *a = x->attempt;
    struct xmpp_news n;
    xmpp_news(&n, EVENT_TLS_SERVER, !(v->client_side ^ x->flip), v->server_hello_frame,
        a->last_content_ns[1]);
    snprintf(n.what, sizeof n.what, "%s %s", tls_version_name(v->version), v->cipher_name);
    xmpp_tell(x, &n.e);
}

static void
xmpp_tls_certificate(void *user, int side, const struct cert *c, uint64_t frame, int64_t time_ns)
{
    struct xmpp *x = user;
    struct xmpp_news n;
    xmpp_news(&n, EVENT_TLS_CERT, side ^ x->flip, frame, time_ns);
    xmpp_put(n.from, sizeof n.from, c->subject);
    xmpp_put(n.what, sizeof n.what, c->names);
    snprintf(n.text, sizeof n.text, "%s%.140s", c->self_signed ? "self-signed" : "issuer ",
        c->self_signed ? "" : c->issuer);
    xmpp_tell(x, &n.e);
}

static void
xmpp_tls_up(void *user, const struct tls_view *v)
{
    struct xmpp *x = user;
    struct xmpp_news n;
    xmpp_news(&n, EVENT_TLS_UP, !(v->client_side ^ x->flip), v->finished_frame, v->finished_ns);
    snprintf(n.what, sizeof n.what, "%s %s%s", tls_version_name(v->version), v->cipher_name,
        v->resumed ? " resumed" : "");
    x->attempt->tls_up_ns = v->finished_ns;
    xmpp_tell(x, &n.e);
}

static void
xmpp_tls_alert(void *user, int side, int level, int description, uint64_t frame, int64_t time_ns)
{
    struct xmpp *x = user;
    struct xmpp_news n;
    x->attempt->bye_frame[side ^ x->flip] = frame;
    x->attempt->bye_ns[side ^ x->flip] = time_ns;
    xmpp_news(&n, EVENT_TLS_ALERT, side ^ x->flip, frame, time_ns);
    snprintf(n.what, sizeof n.what, "%s (%d)%s", xe_alert_name(description), description,
        level == 2 ? " fatal" : "");
    xmpp_tell(x, &n.e);
}

static void
xmpp_tls_broken(void *user, int side, const char *what, uint64_t frame)
{
    struct xmpp *x = user;
    struct xmpp_news n;
    xmpp_news(&n, EVENT_GAP, side ^ x->flip, frame, x->attempt->last_content_ns[side ^ x->flip]);
    xmpp_put(n.what, sizeof n.what, what);
    xmpp_tell(x, &n.e);
}

static void
xmpp_tls_encrypted(void *user, int side, uint64_t frame, int64_t time_ns)
{
    struct xmpp *x = user;
    struct xmpp_news n;
    xmpp_news(&n, EVENT_TLS_DATA, side ^ x->flip, frame, time_ns);
    xmpp_tell(x, &n.e);
}

static void
xmpp_start_tls(struct xmpp *x)
{
    static const struct tls_events events = { xmpp_tls_plaintext, xmpp_tls_hello, xmpp_tls_up,
        xmpp_tls_alert, xmpp_tls_broken, xmpp_tls_server, xmpp_tls_certificate, xmpp_tls_encrypted,
        xmpp_tls_lost };
    struct attempt *a = x->attempt;
    int i;
    for (i = 0; i < 2; i++) {
        xmpp_side_close(x, i);
        a->plain_headers[i] = a->headers[i];
        a->headers[i] = 0;
    }
    a->features_seen = a->external_offered = a->dialback_offered = false;
    x->proceeded_now = false;
    x->tls = tls_open(x->keys, x->certs, &events, x);
}

/* ---- a load balancer in front ---- */

/* https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, 2.1 and 2.2 */
#define PROXY_LINE_MAX 107     /* bytes of version 1, its end of line included */
#define PROXY_FIXED    16      /* bytes of version 2 before the addresses */
#define PROXY_MAX      2048    /* bytes of version 2 that are waited for */

static const unsigned char proxy_line[6] = "PROXY ";
static const unsigned char proxy_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static bool
proxy_may_be(const unsigned char *at, size_t len, const unsigned char *word, size_t size)
{
    return memcmp(at, word, len < size ? len : size) == 0;
}

/* Bytes of the header that begins here; 0: it is none; SIZE_MAX: more is needed to know. */
static size_t
proxy_length(const unsigned char *at, size_t len)
{
    size_t i;
    if (proxy_may_be(at, len, proxy_signature, sizeof proxy_signature)) {
        size_t all = len < PROXY_FIXED ? 0 : PROXY_FIXED + ((size_t)at[14] << 8 | at[15]);
        if (len >= PROXY_FIXED && (at[12] >> 4 != 2 || all > PROXY_MAX))
            return 0;
        return len < PROXY_FIXED || len < all ? SIZE_MAX : all;
    }
    if (!proxy_may_be(at, len, proxy_line, sizeof proxy_line))
        return 0;
    for (i = 1; i < len && i < PROXY_LINE_MAX; i++)
        if (at[i - 1] == '\r' && at[i] == '\n')
            return i + 1;
    return len < PROXY_LINE_MAX ? SIZE_MAX : 0;
}

/* "PROXY TCP4 198.51.100.7 192.0.2.12 33000 5269\r\n" */
static void
proxy_read_line(struct proxy_header *p, const unsigned char *at, size_t len)
{
    char line[PROXY_LINE_MAX + 1], kind[8], host[2][46];
    unsigned port[2];
    int i;
    memcpy(line, at, len);
    line[len] = '\0';
    p->version = 1;
    if (sscanf(line, "PROXY %7s %45s %45s %5u %5u", kind, host[0], host[1], &port[0], &port[1]) != 5
        || strncmp(kind, "TCP", 3) != 0)
        return;
    for (i = 0; i < 2; i++) {
        bool old = strcmp(kind, "TCP4") == 0;
        if (inet_pton(old ? AF_INET : AF_INET6, host[i], p->address[i].bytes) == 1)
            p->address[i].family = old ? 4 : 6;
        p->port[i] = (uint16_t)port[i];
    }
}

static void
proxy_read_bytes(struct proxy_header *p, const unsigned char *at, size_t len)
{
    size_t size = at[13] == 0x11 ? 4 : 16, i;
    p->version = 2;
    if ((at[12] & 15) != 1 || (at[13] != 0x11 && at[13] != 0x21)
        || len < PROXY_FIXED + 2 * size + 4)
        return;
    at += PROXY_FIXED;
    for (i = 0; i < 2; i++) {
        memcpy(p->address[i].bytes, at + i * size, size);
        p->address[i].family = size == 4 ? 4 : 6;
        p->port[i] = (uint16_t)(at[2 * size + 2 * i] << 8 | at[2 * size + 2 * i + 1]);
    }
}

static void
xmpp_on_proxy(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct attempt *a = x->attempt;
    struct proxy_header *p = &a->proxy;
    struct xmpp_news n;
    if (xmpp_opened_by(x, side))
        side = !side;
    xmpp_news(&n, EVENT_PROXY, side, frame, time_ns);
    if (at[0] == proxy_line[0])
        proxy_read_line(p, at, len);
    else
        proxy_read_bytes(p, at, len);
    xmpp_line(x, at, len);
    snprintf(n.what, sizeof n.what, "version %u", (unsigned)p->version);
    if (p->address[0].family != 0)
        snprintf(n.text, sizeof n.text, "%s to %s", ENDPOINT(&p->address[0], p->port[0]),
            ENDPOINT(&p->address[1], p->port[1]));
    xmpp_tell(x, &n.e);
}

/* ---- lengths of records ---- */

static void
xmpp_record(struct xmpp *x, int side, uint64_t frame, int64_t time_ns)
{
    struct attempt *a = x->attempt;
    struct xmpp_records *r = &x->records[side];
    uint16_t len = (uint16_t)(r->head[3] << 8 | r->head[4]);
    uint16_t version = tls_seen(x->tls)->version;
    r->frame = frame;
    r->time_ns = time_ns;
    /* of a session that is older than the capture there are only records */
    if ((version < 0x0304 && a->tls_up_ns == 0 && !(version == 0 && a->flow.midstream))
        || (r->head[0] != 21 && r->head[0] != 23))
        return;
    if (a->nrecords < ATTEMPT_RECORDS_MAX)
        a->records[a->nrecords] =
            (struct record_seen){ time_ns, frame, len, r->head[0], (uint8_t)side };
    a->nrecords++;
}

static void
xmpp_records(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct xmpp_records *r = &x->records[side];
    while (len > 0 && !r->lost) {
        size_t n = r->left < len ? r->left : len;
        r->left -= (uint32_t)n;
        at += n;
        len -= n;
        for (; len > 0 && r->left == 0 && r->have < 5; len--)
            r->head[r->have++] = *at++;
        if (r->left > 0 || r->have < 5)
            continue;
        r->lost = r->head[1] != 3 || r->head[0] < 20 || r->head[0] > 24;
        r->left = (uint32_t)(r->head[3] << 8 | r->head[4]);
        r->have = 0;
        if (!r->lost)
            xmpp_record(x, side, frame, time_ns);
    }
}

static void
xmpp_push_tls(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    if (x->tls == NULL || len == 0)
        return;
    tls_push(x->tls, side ^ x->flip, at, len, frame, time_ns);
    xmpp_records(x, side, at, len, frame, time_ns);
}

/* ---- the stage ---- */

struct xmpp *
xmpp_open(struct attempt *a, bool expected, struct tls_keys *keys, struct tls_certs *certs,
    const struct xmpp_events *events, void *user)
{
    struct xmpp *x = memory_try(pool_get(&xmpp_pool));
    if (x == NULL)
        return NULL;
    memset(x, 0, sizeof *x);
    x->attempt = a;
    x->expected = expected;
    x->keys = keys;
    x->certs = certs;
    x->events = events;
    x->user = user;
    a->is_xmpp = a->by_port = expected;
    return x;
}

/* The called server talks first: some other service greets. */
static bool
xmpp_is_banner(const struct attempt *a, int side)
{
    return side == 1 && a->flow.evidence <= EVIDENCE_SYNACK && a->last_content_ns[0] == 0;
}

/* Somebody speaks after a long silence, and who was silent has not answered yet. */
static void
xmpp_note_pause(struct attempt *a, int side, int64_t time_ns)
{
    const int64_t *said = a->last_content_ns;
    int64_t last = said[0] > said[1] ? said[0] : said[1];
    if (last != 0 && time_ns - last > XMPP_PAUSE) {
        a->pause_ns = time_ns - last;
        a->pause_side = (uint8_t)side;
    } else if (side != a->pause_side) {
        a->pause_ns = 0;
    }
}

/* The first byte decides, whichever side it is from. */
static void
xmpp_decide(struct xmpp *x, int side, const unsigned char *at, size_t len)
{
    struct attempt *a = x->attempt;
    size_t blank = xmpp_blank(at, len);
    if (blank == len || (x->side[side] != NULL && x->side[side]->broken))
        return;     /* nothing yet; or a banner goes on */
    x->decided = true;
    if (at[blank] == '<') {
        a->content = CONTENT_XMPP;
    } else if (at[blank] == 0x16
        || (a->flow.midstream && at[0] >= 20 && at[0] <= 23 && len > 1 && at[1] == 3)) {
        a->content = CONTENT_TLS;
        xmpp_start_tls(x);
    } else {
        x->unwanted = !x->expected;
        if (!a->flow.midstream && (a->remarks & 1u << REMARK_GAP) == 0)
            xmpp_is_stranger(x, side);
        if (xmpp_is_banner(a, side) && xmpp_side_open(x, side) != NULL) {
            x->side[side]->broken = true;
            x->decided = false;     /* what the caller says then is of interest still */
        } else {
            a->content = CONTENT_OTHER;
        }
    }
}

/* TLS begins where XML should be: <proceed/> was missed, or all that its side has sent. */
static bool
xmpp_tls_unannounced(struct xmpp *x, int side, const unsigned char *at, size_t len)
{
    const struct xmpp_side *s = x->side[side];
    return at[0] == 0x16 && (x->attempt->starttls_asked || s == NULL || s->broken)
        && tls_begins(at, len);
}

/* The first words of the caller may be those of a load balancer, and wait until they are whole. */
static bool
xmpp_may_be_proxy(const struct xmpp *x, int side, const unsigned char *at)
{
    const struct attempt *a = x->attempt;
    const struct xmpp_side *s = x->side[side];
    if (x->decided || a->proxy.version != 0 || (side == 1 && a->flow.evidence <= EVIDENCE_SYNACK)
        || (a->remarks & 1u << REMARK_GAP) != 0)
        return false;
    return (s != NULL && s->rest_len > 0) || at[0] == proxy_line[0] || at[0] == proxy_signature[0];
}

/* What is read of a side; first: nothing came before. */
static bool
xmpp_take(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns, bool first)
{
    struct attempt *a = x->attempt;
    size_t used;
    if (!x->decided)
        xmpp_decide(x, side, at, len);
    if (a->not_stream && a->wrong_side == side && !x->line_over)
        xmpp_line(x, at, len);
    if (a->content == CONTENT_OTHER || x->unwanted || !x->decided)
        return !x->unwanted;
    if (x->tls == NULL && xmpp_tls_unannounced(x, side, at, len)) {
        a->starttls = true;
        xmpp_start_tls(x);
    }
    if (x->tls != NULL) {
        xmpp_push_tls(x, side, at, len, frame, time_ns);
        return !x->unwanted;
    }
    if (first && at[xmpp_blank(at, len) % len] != '<' && !a->flow.midstream && !a->not_stream
        && (a->remarks & 1u << REMARK_GAP) == 0) {
        xmpp_is_stranger(x, side);
        xmpp_line(x, at, len);
    }
    xmpp_join(x, side, at, len);
    used = xmpp_read(x, xmpp_side_open(x, side), at, len, frame, time_ns);
    if (x->proceeded_now) {
        a->starttls = true;
        xmpp_start_tls(x);
        xmpp_push_tls(x, side, at + used, len - used, frame, time_ns);
    }
    return !x->unwanted;
}

/* It waits until the header of the balancer is whole, or is none. */
static bool
xmpp_take_behind_proxy(struct xmpp *x, int side, const unsigned char *at, size_t len,
    uint64_t frame, int64_t time_ns)
{
    struct xmpp_side *s = xmpp_side_open(x, side);
    unsigned char *whole;
    size_t have, n;
    bool more;
    if (s == NULL)
        return true;
    xmpp_keep(s, at, len);
    have = s->rest_len;
    n = proxy_length(s->rest, have);
    if (n == SIZE_MAX)
        return true;
    whole = s->rest;
    s->rest = NULL;
    s->rest_len = s->rest_cap = 0;
    if (n > 0)
        xmpp_on_proxy(x, side, whole, n, frame, time_ns);
    side = x->side[1] == s;
    more = n == have || xmpp_take(x, side, whole + n, have - n, frame, time_ns, true);
    free(whole);
    return more;
}

bool
xmpp_push(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct attempt *a = x->attempt;
    bool first = a->last_content_ns[side] == 0;
    if (len == 0 || x->unwanted)
        return !x->unwanted;
    xmpp_note_pause(a, side, time_ns);
    a->last_content_ns[side] = time_ns;
    if (xmpp_may_be_proxy(x, side, at))
        return xmpp_take_behind_proxy(x, side, at, len, frame, time_ns);
    return xmpp_take(x, side, at, len, frame, time_ns, first);
}

void
xmpp_gap(struct xmpp *x, int side, uint64_t missing, uint64_t frame, int64_t time_ns)
{
    struct xmpp_news n;
    x->attempt->remarks |= 1u << REMARK_GAP;
    xmpp_news(&n, EVENT_GAP, side, frame, time_ns);
    snprintf(n.what, sizeof n.what, "%llu bytes missing", (unsigned long long)missing);
    xmpp_tell(x, &n.e);
    if (x->tls != NULL) {
        tls_gap(x->tls, side ^ x->flip, missing);
        if (missing < x->records[side].left)
            x->records[side].left -= (uint32_t)missing;
        else
            x->records[side].lost = true;
    } else if (xmpp_side_open(x, side) != NULL) {
        x->side[side]->broken = true;
    }
}

/* The view with the sides as they are called now, and with texts that live on. */
static void
xmpp_take_view(struct xmpp *x, const struct tls_view *v)
{
    struct attempt *a = x->attempt;
    int i;
    a->tls = *v;
    a->tls.sni = a->sni;
    a->tls.alpn = a->alpn;
    xmpp_put(a->sni, sizeof a->sni, v->sni);
    xmpp_put(a->alpn, sizeof a->alpn, v->alpn);
    a->tls.server = cert_keep(v->server);
    a->tls.client = cert_keep(v->client);
    if (x->flip) {
        a->tls.client_side ^= 1;
        a->tls.alert_side = (int16_t)(v->alert_side < 0 ? -1 : !v->alert_side);
        XMPP_SWAP(bool, a->tls.close_notify);
        XMPP_SWAP(bool, a->tls.encrypted_alert);
        XMPP_SWAP(uint64_t, a->tls.app_records);
        XMPP_SWAP(uint64_t, a->tls.app_bytes);
    }
    for (i = 0; i < 2; i++)
        if (a->tls.encrypted_alert[i]) {
            a->bye_frame[i] = x->records[i].frame;
            a->bye_ns[i] = x->records[i].time_ns;
        }
}

void
xmpp_close(struct xmpp *x)
{
    if (x == NULL)
        return;
    if (x->tls != NULL) {
        tls_end(x->tls);
        xmpp_take_view(x, tls_seen(x->tls));
        tls_close(x->tls);
    }
    xmpp_side_close(x, 0);
    xmpp_side_close(x, 1);
    pool_put(&xmpp_pool, x);
}

static unsigned char
xmpp_touch(const void *at)
{
    return *(const volatile unsigned char *)at;
}

/* What reading XML and an event look at first: an event is likely as long as there is XML. */
static void
xmpp_expect_xml(const struct xmpp *x)
{
    const struct xmpp_attempt *mine = xmpp_attempt(x->attempt);
    int i;
    for (i = 0; i < 2; i++)
        if (x->side[i] != NULL) {
            xmpp_touch(&x->side[i]->xml);
            xmpp_touch(&x->side[i]->rest);
        }
    if (mine->a.nevents < XMPP_FIRST_EVENTS && mine->used < sizeof mine->texts) {
        xmpp_touch(&mine->events[mine->a.nevents]);
        xmpp_touch(&mine->texts[mine->used]);
    }
}

void
xmpp_expect(struct xmpp *const *x, size_t n)
{
    const struct attempt *a[CAPTURE_BATCH];
    const struct tls_session *tls[CAPTURE_BATCH];
    size_t i, at;
    for (i = 0; i < n; i++) {
        a[i] = x[i]->attempt;
        tls[i] = x[i]->tls;
        for (at = POOL_LINE; at < sizeof *x[i]; at += POOL_LINE)
            xmpp_touch((const char *)x[i] + at);
    }
    for (i = 0; i < n; i++) {
        xmpp_touch(&a[i]->content);
        xmpp_touch(&a[i]->flow.midstream);
        xmpp_touch(&a[i]->last_content_ns);
        xmpp_touch(&a[i]->nevents);
        if (tls[i] != NULL)
            tls_expect(tls[i]);
    }
    for (i = 0; i < n; i++)
        if (tls[i] == NULL || a[i]->nrecords == 0)
            xmpp_expect_xml(x[i]);
}
