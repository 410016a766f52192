/* report.c -- the report as text for a terminal, and what all three reports share
 *
 *   struct report ---> words, times, groups (report.h) --+--> report_text   this file
 *                                                        +--> report_json   json.c
 *                                                        `--> report_html   html.c
 *
 * The reader is an administrator at night.  The text answers in this order: which rows of the port
 * table were used and did they work; who federated with whom and how far did it get; why did
 * something fail, what is to be done and what can be sent to the partner; only then the single
 * attempts.  The report is a function of its input: it asks neither clock nor locale.  All times
 * are UTC.
 *
 * Everything that comes from the network may be hostile.  On its way out it becomes valid,
 * printable UTF-8: text and HTML show the rest as \xNN (a byte) or \u{NNNN} (a character that
 * cannot be seen or turns the direction of text).  Without --show-content user parts of addresses
 * and the texts of stanza errors are left out; bodies, keys and the content of SASL never come as
 * far as this file.
 */
#include "report.h"

#include <mbedtls/base64.h>
#include <mbedtls/md.h>

#include <strings.h>

unsigned
utf8_columns(uint32_t c)
{
    static const uint32_t wide[][2] = { { 0x1100, 0x115f }, { 0x2e80, 0xa4cf }, { 0xac00, 0xd7a3 },
        { 0xf900, 0xfaff }, { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0xffe0, 0xffe6 },
        { 0x1f300, 0x1faff }, { 0x20000, 0x3fffd } };
    static const uint32_t none[][2] = { { 0x300, 0x36f }, { 0x483, 0x489 }, { 0x591, 0x5bd },
        { 0x610, 0x61a }, { 0x64b, 0x65f }, { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff },
        { 0x20d0, 0x20ff }, { 0xfe20, 0xfe2f } };
    size_t i;
    for (i = 0; i < sizeof none / sizeof *none; i++)
        if (c >= none[i][0] && c <= none[i][1])
            return 0;
    for (i = 0; i < sizeof wide / sizeof *wide; i++)
        if (c >= wide[i][0] && c <= wide[i][1])
            return 2;
    return 1;
}

/* ---- text ---- */

void
text_clean(struct text *t, const char *from)
{
    const char *end = from + strlen(from);
    uint32_t c;
    int n;
    /* 0: it was cut, not damaged */
    for (; from < end && (n = xe_utf8(from, end, &c)) != 0; from += n > 0 ? n : 1) {
        char odd[16];
        if (n > 0 && xe_is_visible(c)) {
            text_put(t, from, (size_t)n);
            continue;
        }
        if (n < 0)
            snprintf(odd, sizeof odd, "\\x%02x", (unsigned)(unsigned char)*from);
        else
            snprintf(odd, sizeof odd, c < 0x80 ? "\\x%02lx" : "\\u{%lx}", (unsigned long)c);
        TEXT(t, odd);
    }
}

const char *
number_text(uint64_t n, struct number *out)
{
    out->at[0] = '\0';
    snprintf(out->at, sizeof out->at, "%llu", (unsigned long long)n);
    return out->at;
}

void
text_count(struct text *t, uint64_t n, const char *one, const char *many)
{
    TEXT(t, NUMBER(n), " ", n == 1 ? one : many);
}

/* ---- times ---- */

/* A number of so many digits; returns where to go on. */
static char *
stamp_digits(char *at, int64_t n, int digits)
{
    int i;
    for (i = digits; i-- > 0; n /= 10)
        at[i] = (char)('0' + n % 10);
    return at + digits;
}

/* Three numbers and what is between them. */
static char *
stamp_three(char *at, int64_t first, int digits, int second, int third, char between)
{
    at = stamp_digits(at, first, digits);
    *at++ = between;
    at = stamp_digits(at, second, 2);
    *at++ = between;
    return stamp_digits(at, third, 2);
}

/* Of a year with four digits. */
static const char *
stamp_write(int64_t seconds, int64_t ns, enum stamp s, char out[STAMP_MAX])
{
    struct xe_date d;
    char *at = out;
    xe_date_of(seconds, &d);
    if (s != STAMP_SHORT) {
        at = stamp_three(at, d.year, 4, d.month, d.day, '-');
        *at++ = s == STAMP_ISO ? 'T' : ' ';
    }
    at = stamp_three(at, d.hour, 2, d.minute, d.second, ':');
    *at++ = '.';
    at = s == STAMP_ISO ? stamp_digits(at, ns, 9) : stamp_digits(at, ns / 1000000, 3);
    snprintf(at, STAMP_MAX - (size_t)(at - out), "%s",
        s == STAMP_ISO ? "Z" : s == STAMP_LONG ? " UTC" : "");
    return out;
}

const char *
stamp_text(int64_t time_ns, enum stamp s, char out[STAMP_MAX])
{
    int64_t since = time_ns < 0 ? 0 : time_ns;
    return stamp_write(since / SECOND, since % SECOND, s, out);
}

enum stamp
stamp_of(const struct report *r)
{
    const int64_t day = 86400 * SECOND;
    return r->first_ns / day == r->last_ns / day ? STAMP_SHORT : STAMP_LONG;
}

const char *
stamp_offset(int64_t from_ns, int64_t to_ns, char out[STAMP_MAX])
{
    int64_t d = to_ns - from_ns;
    char sign = d < 0 ? '-' : '+';
    d = d < 0 ? -d : d;
    snprintf(out, STAMP_MAX, "%c%lld.%06lld", sign, (long long)(d / SECOND),
        (long long)(d % SECOND / 1000));
    return out;
}

const char *
stamp_length(int64_t ns, char out[STAMP_MAX])
{
    long long s = (long long)(ns / SECOND);
    if (ns < SECOND)
        snprintf(out, STAMP_MAX, "%lld ms", (long long)(ns / 1000000));
    else if (s < 60)
        snprintf(out, STAMP_MAX, "%lld.%lld s", s, (long long)(ns % SECOND / 100000000));
    else if (s < 3600)
        snprintf(out, STAMP_MAX, "%lld min %lld s", s / 60, s % 60);
    else
        snprintf(out, STAMP_MAX, "%lld h %lld min", s / 3600, s % 3600 / 60);
    return out;
}

/* ---- names ---- */

/* The only place of this stage that knows the library.  RFC 4648 4: 28 characters and a NUL. */
static bool
community_sha1(const unsigned char *at, size_t len, unsigned char out[29])
{
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(MBEDTLS_MD_SHA1);
    unsigned char sha[20];
    size_t written;
    return info != NULL && mbedtls_md(info, at, len, sha) == 0
        && mbedtls_base64_encode(out, 29, &written, sha, sizeof sha) == 0;
}

/* https://github.com/corelight/community-id-spec: seed, smaller end, larger end, protocol, 0, both
 * ports of them. */
const char *
community_id(const struct address *a, uint16_t a_port, const struct address *b, uint16_t b_port,
    uint8_t protocol, char out[COMMUNITY_MAX])
{
    size_t len = a->family == 4 ? 4 : 16, n = 2;
    unsigned char bytes[2 + 32 + 6] = { 0, 0 };
    int order = memcmp(a->bytes, b->bytes, len);
    out[0] = '\0';
    if (a->family == 0 || a->family != b->family)
        return out;
    if (order > 0 || (order == 0 && a_port > b_port))
        return community_id(b, b_port, a, a_port, protocol, out);
    memcpy(bytes + n, a->bytes, len);
    memcpy(bytes + n + len, b->bytes, len);
    n += 2 * len;
    bytes[n++] = protocol;
    bytes[n++] = 0;
    bytes[n++] = (unsigned char)(a_port >> 8);
    bytes[n++] = (unsigned char)(a_port & 255);
    bytes[n++] = (unsigned char)(b_port >> 8);
    bytes[n++] = (unsigned char)(b_port & 255);
    if (community_sha1(bytes, n, (unsigned char *)out + 2))
        memcpy(out, "1:", 2);
    return out;
}

const char *
community_of(const struct flow *f, char out[COMMUNITY_MAX])
{
    out[0] = '\0';
    if (f->number == 0)
        return out;
    return community_id(&f->side[0].address, f->side[0].port, &f->side[1].address, f->side[1].port,
        6, out);
}

bool
attempt_has_number(const struct attempt *a)
{
    return a->flow.number != 0;
}

/* ---- what is asked for ---- */

bool
choice_takes(const struct choice *c, const struct attempt *a)
{
    bool named = c->partner == NULL;
    int side;
    for (side = 0; side < 2 && !named; side++)
        named = strcasecmp(attempt_domain(a, side), c->partner) == 0
            || strcasecmp(ENDPOINT(&a->flow.side[side].address, 0), c->partner) == 0;
    return named && (c->flow == 0 || a->flow.number == c->flow)
        && (!c->failed || a->verdict->outcome == OUTCOME_FAILED);
}

bool
choice_takes_partner(const struct choice *c, const struct report_partner *q)
{
    bool named = c->partner == NULL || strcasecmp(q->ours, c->partner) == 0
        || strcasecmp(q->theirs, c->partner) == 0;
    return named && c->flow == 0 && (!c->failed || q->in.failed + q->out.failed > 0);
}

size_t
choice_attempts(const struct report *r)
{
    size_t n = 0, i;
    for (i = 0; i < r->nattempts; i++)
        n += choice_takes(&r->choice, r->attempts[i]);
    return n;
}

size_t
choice_partners(const struct report *r)
{
    size_t n = 0, i;
    for (i = 0; i < r->npartners; i++)
        n += choice_takes_partner(&r->choice, &r->partners[i]);
    return n;
}

/* ---- rows ---- */

const enum row report_rows[ROW_COUNT] = { ROW_IN, ROW_OUT, ROW_INNER, ROW_OTHER };

enum row_state
row_state(const struct report_row *row)
{
    if (!row->observed)
        return ROW_STATE_UNSEEN;
    if (row->working > 0)
        return row->failed > 0 ? ROW_STATE_PARTLY : ROW_STATE_WORKS;
    return row->failed > 0 ? ROW_STATE_FAILS : ROW_STATE_UNCLEAR;
}

const char *
row_state_word(enum row_state s)
{
    static const char *const words[] = { "not seen", "works", "partly", "fails", "unclear" };
    return words[s];
}

static void
text_addresses(struct text *t, const struct address *list, size_t n, size_t max)
{
    size_t i;
    for (i = 0; i < n && i < max; i++)
        TEXT(t, i > 0 ? ", " : "", ENDPOINT(&list[i], 0));
    TEXT(t, n > max ? ", ..." : n == 0 ? "not known" : "");
}

/* Texts that are not static go to `room`. */
struct row_face
row_face(const struct report *r, enum row row, struct text *room)
{
    struct row_face f = { "XMPP", "any", "any", "" };
    bool inner = row == ROW_INNER;
    size_t name, n = inner ? r->ninternal : r->nexternal;
    if (row == ROW_OTHER)
        return (struct row_face){ "XMPP elsewhere", "", "", "" };
    text_clear(room);
    TEXT(room, inner ? "XMPP/MTLS/" : "XMPP/TCP/",
        NUMBER(inner ? r->internal_port : r->external_port));
    text_put(room, "", 1);
    name = room->len;
    if (n == 0)
        TEXT(room, inner ? "edge internal" : "edge external");
    else
        text_addresses(room, inner ? r->internal : r->external, n, 2);
    f.service = room->at;
    f.way = row == ROW_OUT ? "out" : "in";
    if (row == ROW_OUT)
        f.source = room->at + name;
    else
        f.target = room->at + name;
    return f;
}

/* The first listed attempt of a row that did (or did not) fail. */
static const struct attempt *
row_witness(const struct report *r, enum row row, bool failed)
{
    size_t i;
    for (i = 0; i < r->nattempts; i++) {
        const struct verdict *v = r->attempts[i]->verdict;
        if (v->row == row && attempt_has_number(r->attempts[i])
            && (v->outcome == OUTCOME_FAILED) == failed)
            return r->attempts[i];
    }
    return NULL;
}

static void
row_witness_words(struct text *t, const char *which, const struct attempt *a)
{
    if (a != NULL)
        TEXT(t, "; ", which, " packet ", NUMBER(a->flow.first_frame), " at ",
            STAMP(a->flow.first_ns, STAMP_SHORT));
}

/* "2 tcp-refused, 1 cert-expired" */
static void
text_causes(struct text *t, const uint64_t failed_by[CAUSE_COUNT])
{
    bool more = false;
    int c;
    for (c = 0; c < CAUSE_COUNT; c++)
        if (failed_by[c] > 0) {
            TEXT(t, more ? ", " : "", NUMBER(failed_by[c]), " ",
                cause_row((enum cause)c)->word);
            more = true;
        }
}

void
row_says(struct text *t, const struct report *r, enum row row)
{
    static const char *const rulings[] = { "conforms", "violates the port table", "cannot tell" };
    const struct report_row *w = &r->rows[row];
    if (!w->observed) {
        SET(t, w->why);
        return;
    }
    SET(t, rulings[w->ruling]);
    if (w->why[0] != '\0')
        TEXT(t, w->ruling == RULING_CONFORMS ? ", " : ": ", w->why);
    row_witness_words(t, "first", row_witness(r, row, false));
    if (w->failed > 0) {
        TEXT(t, "; failed: ");
        text_causes(t, w->failed_by);
        row_witness_words(t, "first failure", row_witness(r, row, true));
    }
    if (row == ROW_INNER && w->working > 0)
        TEXT(t, "; client certificate proven on ", NUMBER(w->mtls_proven), ", inferred on ",
            NUMBER(w->mtls_inferred), " of ", NUMBER(w->working), " working connections");
}

static void
row_result(struct text *t, const struct report_row *w, enum row row)
{
    static const char *const places[] = { "XMPP elsewhere ", "Row 1 (in) ", "Row 2 (out) ",
        "Row 3 (in) " };
    static const char *const states[] = { "was not seen", "works", "works in part",
        "does not work", "is unclear" };
    TEXT(t, t->len > 0 ? " " : "", places[row], states[row_state(w)]);
    if (w->failed > 0)
        TEXT(t, ": ", NUMBER(w->failed), " of ", NUMBER(w->attempted), " failed");
    else if (w->observed && w->older == w->attempted)
        TEXT(t, ", ", NUMBER(w->older), " in use since before the capture began");
    else if (w->observed)
        TEXT(t, ", ", NUMBER(w->attempted), " tried");
    if (w->observed && w->failed == 0 && w->older > 0 && w->older < w->attempted)
        TEXT(t, ", ", NUMBER(w->older), " of them in use since before the capture began");
    TEXT(t, w->ruling == RULING_VIOLATES ? ", and violates the port table." : ".");
}

void
report_result(struct text *t, const struct report *r)
{
    uint64_t inside = 0, names = r->failed;
    size_t k;
    text_clear(t);
    for (k = 0; k < ROW_COUNT; k++) {
        inside += r->rows[k].violations[VIOLATION_EDGE_INSIDE];
        names -= r->rows[k].failed;
    }
    if (inside > 0) {
        TEXT(t, "The edge called the inside, which it may never do: ");
        text_count(t, inside, "connection. ", "connections. ");
    }
    if (r->flows_xmpp == 0 && r->failed == 0)
        TEXT(t, "No XMPP federation was found in this capture.");
    else
        for (k = 0; k < ROW_COUNT; k++)
            if (report_rows[k] != ROW_OTHER || r->rows[ROW_OTHER].observed)
                row_result(t, &r->rows[report_rows[k]], report_rows[k]);
    if (names > 0) {
        TEXT(t, " ");
        text_count(t, names, "look-up of a partner failed.", "look-ups of partners failed.");
    }
}

/* Every connection of federation is older than the capture. */
static bool
report_is_late(const struct report *r)
{
    uint64_t older = 0;
    int k;
    for (k = 0; k < ROW_COUNT; k++)
        older += r->rows[k].older;
    return older > 0 && older == r->flows_xmpp;
}

/* Which address is the edge is not certain. */
static bool
report_is_guess(const struct report *r)
{
    return r->external_known == KNOWN_INFERRED || r->external_known == KNOWN_NOT
        || r->internal_known == KNOWN_INFERRED;
}

static void
report_advise_addresses(struct text *t, const struct report *r)
{
    TEXT(t, r->external_known == KNOWN_NOT ? "Which address is the edge is not known"
        : "The addresses of the edge are inferred");
    if (r->addresses_why[0] != '\0')
        TEXT(t, " (", r->addresses_why, ")");
    TEXT(t, "; --external and --internal (or -c FILE) make it certain.");
}

/* Most of the capture is this. */
static bool
report_is_mostly(const struct report *r, enum remark k)
{
    return r->remarks[k] > r->packets / 2;
}

void
report_advice(struct text *t, const struct report *r, size_t which)
{
    text_clear(t);
    if (r->missing_rows[0] != '\0' && which-- == 0)
        TEXT(t, "Required and not observed: ", r->missing_rows, ".");
    else if (report_is_guess(r) && r->flows_xmpp > 0 && which-- == 0)
        report_advise_addresses(t, r);
    else if (report_is_late(r) && which-- == 0)
        TEXT(t, "All connections are older than the capture: they are in use, and how they were "
            "negotiated cannot be seen. To see that, capture while one is opened anew.");
    else if (r->keys_would_help && which-- == 0)
        TEXT(t, "Some content is inside TLS and could not be read; a key log of one of the servers "
            "(--keys FILE) opens it.");
    else if (r->keys_given && r->keys_used == 0 && which-- == 0)
        TEXT(t, "The keys that were given fit none of the TLS sessions.");
    else if (report_is_mostly(r, REMARK_UNREAD) && which-- == 0)
        TEXT(t, "Most packets could not be read: ", r->remark_detail[REMARK_UNREAD],
            ". Capture where the tunnel ends, on its own interface, or on the wired side.");
    else if (report_is_mostly(r, REMARK_LINK_UNKNOWN) && which-- == 0)
        TEXT(t, "Most packets could not be read: ", r->remark_detail[REMARK_LINK_UNKNOWN],
            ". Capture on a network interface, of an edge or of a gateway.");
    else if (r->damaged && which-- == 0)
        TEXT(t, "A file is damaged or could not be opened: what could be read was analysed.");
}

/* ---- attempts in words ---- */

void
attempt_title(struct text *t, const struct attempt *a)
{
    int side;
    text_clear(t);
    if (!attempt_has_number(a)) {
        TEXT(t, ENDPOINT(&a->flow.side[0].address, 0), " looked for ");
        text_clean(t, a->to);
        return;
    }
    for (side = 0; side < 2; side++) {
        const struct flow_side *s = &a->flow.side[side];
        bool named = attempt_domain(a, side)[0] != '\0';
        TEXT(t, side > 0 ? " -> " : "");
        text_clean(t, attempt_domain(a, side));
        TEXT(t, named ? " (" : "", ENDPOINT(&s->address, s->port), named ? ")" : "");
    }
}

static const char *
row_place(enum row row)
{
    static const char *const places[] = { "-", "1", "2", "3" };
    return places[row];
}

/* "row 1", "no row of the port table", "name service" */
static void
text_place(struct text *t, const struct attempt *a)
{
    enum row row = a->verdict->row;
    if (!attempt_has_number(a))
        TEXT(t, "name service");
    else if (row == ROW_OTHER)
        TEXT(t, "no row of the port table");
    else
        TEXT(t, "row ", row_place(row));
}

void
attempt_line(struct text *t, const struct attempt *a, enum stamp s, bool placed)
{
    const struct verdict *v = a->verdict;
    struct text title = { NULL, 0, 0 };
    attempt_title(&title, a);
    SET(t, STAMP(a->flow.first_ns, s), " ", title.at, placed ? ", " : "");
    if (placed)
        text_place(t, a);
    TEXT(t, ": ",
        v->outcome == OUTCOME_UNKNOWN ? "not known how it ended" : outcome_word(v->outcome));
    if (v->cause != CAUSE_NONE && v->outcome == OUTCOME_FAILED)
        TEXT(t, ", ", cause_row(v->cause)->word, verdict_rests_on(v));
    else if (v->setback != CAUSE_NONE)
        TEXT(t, v->setback == CAUSE_BLOCKED ? " until " : " after ", cause_row(v->setback)->word);
    text_free(&title);
}

static void
attempt_tls_facts(struct text *t, const struct attempt *a)
{
    const struct tls_view *v = &a->tls;
    if (!v->client_hello && a->content != CONTENT_TLS) {
        if (a->flow.established && a->content == CONTENT_XMPP)
            TEXT(t, "no TLS; ");
        return;
    }
    if (!v->client_hello && !v->server_hello) {
        TEXT(t, "TLS from before the capture began", v->why_closed[0] != '\0' ? "; " : "");
        return;
    }
    if (!v->server_hello)
        TEXT(t, "TLS begun");
    else
        TEXT(t, tls_version_name(v->version), " ", v->cipher_name,
            v->established ? "" : ", handshake not complete");
    TEXT(t, a->starttls ? " after STARTTLS" : " from the first byte",
        v->resumed ? ", resumed" : "");
    if (v->proof != PROOF_UNKNOWN)
        TEXT(t, ", client certificate: ", tls_proof_word(v->proof));
    if (v->decrypted)
        TEXT(t, ", read with keys");
    else if (v->why_closed[0] != '\0')
        TEXT(t, ", not readable (", v->why_closed, ")");
    TEXT(t, "; ");
}

/* "; seen again as 203.0.113.5:20302 -> 192.0.2.12:5269, packet 12 on (the same ...)" */
static void
attempt_twin(struct text *t, const struct verdict *v)
{
    const struct flow *f = v->twin;
    if (f != NULL)
        TEXT(t, "; seen again as ", ENDPOINT(&f->side[0].address, f->side[0].port), " -> ",
            ENDPOINT(&f->side[1].address, f->side[1].port), ", packet ", NUMBER(f->first_frame),
            " on (", v->twin_why, ")");
}

/* "; its stanzas go by the trunk 10.0.0.5:23456 - 10.1.0.20:36658, connection #2 (from the log)" */
static void
attempt_leg(struct text *t, const struct verdict *v)
{
    if (v->leg[0].port == 0)
        return;
    TEXT(t, "; its stanzas go by the trunk ", ENDPOINT(&v->leg[0].address, v->leg[0].port), " - ",
        ENDPOINT(&v->leg[1].address, v->leg[1].port));
    if (v->leg_flow != 0)
        TEXT(t, ", connection #", NUMBER(v->leg_flow));
    TEXT(t, " (from the log)");
}

void
attempt_facts(struct text *t, const struct attempt *a)
{
    static const char *const ends[] = { "open", "closed", "reset", "refused", "not answered",
        "given up (ICMP)", "forgotten", "open at the end of the capture",
        "given up by the analyzer" };
    const struct verdict *v = a->verdict;
    text_clear(t);
    if (!attempt_has_number(a))
        return;
    if (a->proxy.version != 0)
        TEXT(t, "through the load balancer ", ENDPOINT(&a->flow.side[0].address, 0));
    if (a->proxy.address[0].family != 0)
        TEXT(t, ", whose PROXY header says that ", ENDPOINT(&a->proxy.address[0], a->proxy.port[0]),
            " called ", ENDPOINT(&a->proxy.address[1], a->proxy.port[1]));
    TEXT(t, a->proxy.version != 0 ? "; " : "");
    attempt_tls_facts(t, a);
    TEXT(t, v->older ? "" : "reached ", v->older ? "in use" : reach_word(v->reached),
        v->reach_inferred ? " (inferred)" : "");
    if (v->method[0] != '\0')
        TEXT(t, " with ", v->method);
    TEXT(t, "; ");
    if (attempt_stanzas(a) > 0) {
        text_count(t, attempt_stanzas(a), "stanza", "stanzas");
        TEXT(t, "; ");
    }
    TEXT(t, ends[a->flow.end], " after ", LENGTH(a->flow.last_ns - a->flow.first_ns));
    attempt_twin(t, v);
    attempt_leg(t, v);
}

void
attempt_proofs(struct text *t, const struct verdict *v, enum stamp s)
{
    unsigned i;
    text_clear(t);
    for (i = 0; i < v->nproofs; i++) {
        const struct proof *p = &v->proofs[i];
        TEXT(t, i > 0 ? ", " : "", "packet ", NUMBER(p->frame), " (", p->what, ")");
        if (p->time_ns != 0)
            TEXT(t, " at ", STAMP(p->time_ns, s));
    }
}

const char *
stamp_seconds(int64_t seconds, char out[STAMP_MAX])
{
    struct xe_date d;
    xe_date_of(seconds, &d);
    out[0] = '\0';
    return d.year < 0 || d.year > 9999 ? out : stamp_write(seconds, 0, STAMP_ISO, out);
}

/* Days are enough for a reader: 2026-06-01. */
static void
text_day(struct text *t, int64_t seconds)
{
    char stamp[STAMP_MAX];
    stamp_seconds(seconds, stamp);
    if (stamp[0] == '\0')
        TEXT(t, "?");
    else
        text_put(t, stamp, 10);
}

void
attempt_certificate(struct text *t, const struct attempt *a, int side)
{
    const struct cert *c = attempt_cert(a, side);
    text_clear(t);
    if (c == NULL)
        return;
    if (!c->readable) {
        TEXT(t, "not readable, SHA-256 ", c->fingerprint);
        return;
    }
    text_clean(t, c->subject);
    TEXT(t, "; names ");
    text_clean(t, c->names[0] != '\0' ? c->names : "none");
    TEXT(t, "; ", c->self_signed ? "self-signed" : "issuer ");
    text_clean(t, c->self_signed ? "" : c->issuer);
    TEXT(t, "; valid ");
    text_day(t, c->not_before);
    TEXT(t, " to ");
    text_day(t, c->not_after);
    if (cert_expired_at(c, a->flow.first_ns))
        TEXT(t, " (EXPIRED)");
    else if (cert_early_at(c, a->flow.first_ns))
        TEXT(t, " (NOT VALID YET)");
    TEXT(t, "; SHA-256 ", c->fingerprint);
}

/* ---- groups ---- */

static enum cause
group_cause(const struct attempt *a, enum group_kind kind)
{
    const struct verdict *v = a->verdict;
    switch (kind) {
    case GROUP_FAILED:
        return v->outcome == OUTCOME_FAILED ? v->cause : CAUSE_NONE;
    case GROUP_SETBACK:
        return v->outcome == OUTCOME_FAILED ? CAUSE_NONE : v->setback;
    case GROUP_UNKNOWN:
        return v->outcome == OUTCOME_UNKNOWN ? CAUSE_CAPTURE_SHORT : CAUSE_NONE;
    }
    return CAUSE_NONE;
}

/* The side that is not ours: who is called from inside, too. */
static int
attempt_partner(const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    if (v->row == ROW_INNER || v->direction == DIRECTION_OUT)
        return 1;
    return v->direction == DIRECTION_UNKNOWN && v->fault != 0;
}

/* The same domain, or the same address when none is known. */
static bool
attempt_is_of(const struct attempt *a, const struct attempt *b, int side)
{
    const char *name = attempt_domain(a, side);
    return strcmp(name, attempt_domain(b, side)) == 0 && (name[0] != '\0'
        || address_equal(&a->flow.side[side].address, &b->flow.side[side].address));
}

/* What is the same for all of a group has the same key, and mostly no other has it: 4,096 attempts
 * in as many groups are compared by that. */
static uint32_t
group_key(const struct attempt *a, enum cause cause)
{
    uint32_t h = hash_bytes(HASH, &cause, sizeof cause);
    int side;
    for (side = 0; side < 2; side++) {
        const char *name = attempt_domain(a, side);
        h = hash_bytes(h, name, strlen(name) + 1);
        if (name[0] == '\0')
            h = hash_bytes(h, &a->flow.side[side].address, sizeof(struct address));
    }
    return h;
}

static bool
group_takes(const struct group *g, const struct attempt *a, uint32_t key, enum cause cause)
{
    const struct verdict *v = a->verdict, *w = g->first->verdict;
    return g->key == key && g->cause == cause && v->row == w->row && v->direction == w->direction
        && v->fault == w->fault && v->cause_inferred == w->cause_inferred
        && v->from_log == w->from_log
        && v->keys_would_help == w->keys_would_help && attempt_is_of(a, g->first, 0)
        && attempt_is_of(a, g->first, 1);
}

static int
group_order(const void *l, const void *r)
{
    const struct group *a = l, *b = r;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

struct group *
report_groups(const struct report *r, enum group_kind kind, size_t *n)
{
    struct group *list = r->nattempts == 0 ? NULL : memory_try(calloc(r->nattempts, sizeof *list));
    size_t i, k;
    *n = 0;
    for (i = 0; list != NULL && i < r->nattempts; i++) {
        const struct attempt *a = r->attempts[i];
        enum cause cause = group_cause(a, kind);
        uint32_t key;
        if (cause == CAUSE_NONE || !choice_takes(&r->choice, a))
            continue;
        key = group_key(a, cause);
        for (k = 0; k < *n && !group_takes(&list[k], a, key, cause); k++)
            ;
        if (k == *n)
            list[(*n)++] = (struct group){ key, a, a, i, 0, cause };
        list[k].last = a;
        list[k].count++;
    }
    if (*n == 0) {
        free(list);
        return NULL;
    }
    qsort(list, *n, sizeof *list, group_order);
    return list;
}

const char *
group_partner(const struct group *g)
{
    return attempt_domain(g->first, attempt_partner(g->first));
}

void
group_whom(struct text *t, const struct group *g)
{
    const char *name = group_partner(g);
    text_clear(t);
    if (name[0] != '\0')
        text_clean(t, name);
    else
        TEXT(t, "the partner at ",
            ENDPOINT(&g->first->flow.side[attempt_partner(g->first)].address, 0));
}

void
group_when(struct text *t, const struct group *g)
{
    text_clear(t);
    if (g->count > 1)
        TEXT(t, NUMBER(g->count), " times from ");
    TEXT(t, STAMP(g->first->flow.first_ns, STAMP_LONG));
    if (g->count > 1)
        TEXT(t, " to ", STAMP(g->last->flow.first_ns, STAMP_LONG));
}

/* The name of a side, or its part. */
static const char *
attempt_side(const struct attempt *a, int side)
{
    const char *name = attempt_domain(a, side);
    if (name[0] != '\0')
        return name;
    return side == 0 ? "the caller" : "the called server";
}

void
attempt_words(struct text *t, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    text_clear(t);
    if (v->words[0] == '\0')
        return;
    if (v->said_by >= 0)
        TEXT(t, attempt_side(a, v->said_by), ": ");
    TEXT(t, v->words);
}

const char *
verdict_rests_on(const struct verdict *v)
{
    if (v->from_log)
        return v->cause_inferred ? " (from the log, inferred)" : " (from the log)";
    return v->cause_inferred ? " (inferred)" : "";
}

void
attempt_log(struct text *t, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    const struct log_said *said = v->teller < 0 ? NULL : v->said[v->teller];
    const struct log_entry *e;
    text_clear(t);
    if (said == NULL)
        return;
    e = &said->entry;
    TEXT(t, said->file, " at ", STAMP(e->time_ns, STAMP_SHORT), ": ", e->event,
        e->state[0] != '\0' ? " state=" : "", e->state, e->hop[0] != '\0' ? " hop=" : "", e->hop,
        " why=", e->word);
    if (e->why < XE_WHY_COUNT)
        TEXT(t, " (", xe_why(e->why)->text, ")");
    TEXT(t, e->cert[0] != '\0' ? "; certificate of the other side: " : "", e->cert,
        e->detail[0] != '\0' ? "; " : "", e->detail);
    if (said->by_peer)
        TEXT(t, "; joined by the other side's address and port and the time");
}

/* How far apart the clocks seem to be, and what was taken for the same. */
void
log_facts(struct text *t, const struct report_log *l)
{
    text_clear(t);
    text_clean(t, l->name);
    TEXT(t, ": ");
    text_count(t, l->counts.lines, "line", "lines");
    TEXT(t, " of xmppedge");
    if (l->counts.lines == 0) {
        TEXT(t, ": this is no log of it");
        return;
    }
    TEXT(t, ", ");
    text_count(t, l->counts.entries, "tells of a connection", "tell of connections");
    TEXT(t, ", ", NUMBER(l->joined), " joined by addresses, ports and time, the reason of ");
    text_count(t, l->decided, "attempt", "attempts");
    if (l->joined > 0)
        TEXT(t, "; its times are ", l->least_ns < 0 ? "-" : "", LENGTH(l->least_ns < 0
            ? -l->least_ns : l->least_ns), " to ", l->most_ns < 0 ? "-" : "", LENGTH(l->most_ns < 0
            ? -l->most_ns : l->most_ns), " from the ends in the capture");
    TEXT(t, "; clocks may differ by ", LENGTH(LOG_CLOCK_NS));
}

void
attempt_remedy(struct text *t, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    text_clear(t);
    if (v->theirs && cause_is_cert(v->cause != CAUSE_NONE ? v->cause : v->setback))
        TEXT(t, attempt_side(a, v->fault), " has to act: ");
    TEXT(t, v->remedy);
}

/* Words of a stranger in quotation marks, which they cannot end. */
static void
text_quoted(struct text *t, const char *s)
{
    size_t at;
    TEXT(t, "\"");
    at = t->len;
    text_clean(t, s);
    for (; at < t->len; at++)
        if (t->at[at] == '"')
            t->at[at] = '\'';
    TEXT(t, "\"");
}

/* " said ..."; "" when nothing was said. */
static void
group_forward_words(struct text *t, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    if (v->words[0] == '\0')
        return;
    TEXT(t, "; ");
    text_clean(t, v->said_by >= 0 ? attempt_side(a, v->said_by) : "what was said");
    TEXT(t, v->said_by >= 0 ? " said " : ": ");
    text_quoted(t, v->words);
}

/* A sentence of causes.c as one that stands alone. */
static void
text_sentence(struct text *t, const char *s)
{
    size_t len = strlen(s);
    size_t first = t->len;
    TEXT(t, s, strchr("?.!", s[len - 1]) != NULL ? "" : ".");
    if (s[0] >= 'a' && s[0] <= 'z')
        t->at[first] = (char)(s[0] - 'a' + 'A');
}

/* What somebody needs who has no capture: who, when, where, how often, and what was said. */
void
group_forward(struct text *t, const struct group *g)
{
    const struct attempt *a = g->first;
    struct text title = { NULL, 0, 0 };
    text_clear(t);
    if (a->verdict->forward[0] == '\0')
        return;
    text_sentence(t, a->verdict->forward);
    TEXT(t, " Seen at ", STAMP(a->flow.first_ns, STAMP_LONG), ": ");
    if (attempt_has_number(a)) {
        attempt_title(&title, a);
        TEXT(t, title.at, ", ");
    } else {
        TEXT(t, "the domain ");
        text_clean(t, a->to);
        TEXT(t, ": ");
    }
    TEXT(t, cause_row(g->cause)->what);
    group_forward_words(t, a);
    if (a->id[0] != '\0') {
        TEXT(t, "; stream id ");
        text_clean(t, a->id);
    }
    if (g->count > 1)
        TEXT(t, "; ", NUMBER(g->count), " times until ", STAMP(g->last->flow.first_ns, STAMP_LONG));
    TEXT(t, ".");
    text_free(&title);
}

/* ---- ladders ---- */

const char *
cover_word(enum cover c)
{
    static const char *const words[] = { "plain", "handshake", "decrypted", "encrypted" };
    return words[c];
}

struct ladder
ladder_begin(const struct attempt *a)
{
    struct ladder l = { a, 0, false, false };
    l.tls = a->content == CONTENT_TLS;
    return l;
}

/* What XMPP says after a ClientHello was inside TLS.  In TLS 1.3 that may come before the end of
 * the handshake. */
static enum cover
ladder_cover(struct ladder *l, const struct event *e)
{
    enum event_kind k = e->kind;
    if (k == EVENT_TLS_HELLO)
        l->tls = true;
    if (k == EVENT_TLS_UP)
        l->up = true;
    if (!l->tls || k == EVENT_DNS || k == EVENT_TCP_SYN || k == EVENT_TCP_OPEN)
        return COVER_PLAIN;
    if (k == EVENT_TLS_DATA)
        return COVER_CLOSED;
    if (k >= EVENT_HEADER && k <= EVENT_XML_BAD)
        return COVER_OPEN;
    if (!l->up)
        return COVER_HANDSHAKE;
    return l->a->tls.decrypted ? COVER_OPEN : COVER_CLOSED;
}

bool
ladder_next(struct ladder *l, struct rung *out)
{
    const struct attempt *a = l->a;
    const struct event *e;
    int64_t before;
    if (l->next == a->nevents)
        return false;
    e = &a->events[l->next];
    before = l->next == 0 ? e->time_ns : a->events[l->next - 1].time_ns;
    memset(out, 0, sizeof *out);
    out->e = e;
    out->cover = ladder_cover(l, e);
    out->arrow = e->kind != EVENT_GAP;
    if (a->nevents == ATTEMPT_EVENTS_MAX && l->next == ATTEMPT_EVENTS_MAX - ATTEMPT_EVENTS_LAST)
        out->left_out = a->events_left_out;
    if (e->time_ns - before >= LADDER_PAUSE_NS)
        out->pause_ns = e->time_ns - before;
    l->next++;
    return true;
}

void
text_jid(struct text *t, const char *jid, bool show)
{
    size_t resource = strcspn(jid, "/");
    const char *at = memchr(jid, '@', resource);
    if (show || (at == NULL && jid[resource] == '\0')) {
        TEXT(t, jid);
        return;
    }
    if (at != NULL)
        TEXT(t, "***@");
    at = at == NULL ? jid : at + 1;
    text_put(t, at, (size_t)(jid + resource - at));
    TEXT(t, jid[resource] != '\0' ? "/***" : "");
}

static void
rung_pair(struct text *t, const struct event *e, bool show)
{
    if (e->from[0] != '\0')
        text_jid(t, e->from, show);
    if (e->to[0] != '\0') {
        TEXT(t, e->from[0] != '\0' ? " to " : "to ");
        text_jid(t, e->to, show);
    }
}

static void
rung_quote(struct text *t, const char *s)
{
    if (s[0] == '\0')
        return;
    TEXT(t, t->len > 0 ? " " : "");
    text_quoted(t, s);
}

/* "key" or answer of dialback, without what is secret. */
static void
rung_dialback(struct text *what, struct text *detail, const struct event *e, bool show)
{
    enum xe_element_kind k = e->element;
    bool verify = k == XE_KIND_DB_VERIFY || k == XE_KIND_DB_VERIFY_ANSWER;
    TEXT(what, verify ? "<db:verify>" : "<db:result>");
    if (k == XE_KIND_DB_VERIFY)
        TEXT(what, " is this key good?");
    else if (k == XE_KIND_DB_RESULT)
        TEXT(what, " dialback key");
    else
        TEXT(what, " ", e->what);
    rung_pair(detail, e, show);
    if (k == XE_KIND_DB_VERIFY && e->what[0] != '\0')
        TEXT(detail, ", stream ", e->what);
}

/* Negotiation elements: how they look on the wire. */
static void
rung_element(struct text *what, struct text *detail, const struct event *e, bool show)
{
    enum xe_element_kind k = e->element;
    if (k == XE_KIND_DB_RESULT || k == XE_KIND_DB_VERIFY || k == XE_KIND_DB_RESULT_ANSWER
        || k == XE_KIND_DB_VERIFY_ANSWER) {
        rung_dialback(what, detail, e, show);
    } else {
        if (k == XE_KIND_SASL_FAILURE || k == XE_KIND_TLS_FAILURE)
            TEXT(what, "<failure/> ", k == XE_KIND_SASL_FAILURE ? "SASL" : "TLS");
        else if (k == XE_KIND_UNKNOWN)
            TEXT(what, "<", e->what, "/>");
        else
            TEXT(what, "<", xe_element_kind_name(k), "/>");
        if (k != XE_KIND_UNKNOWN && e->what[0] != '\0')
            TEXT(what, " ", e->what);
        rung_pair(detail, e, show);
    }
    rung_quote(detail, e->text);
}

bool
rung_is_bad(const struct event *e)
{
    if (e->kind == EVENT_TLS_ALERT)
        return strncmp(e->what, "close_notify", 12) != 0;
    if (e->kind == EVENT_ELEMENT)
        return e->element == XE_KIND_SASL_FAILURE || e->element == XE_KIND_TLS_FAILURE;
    return e->kind == EVENT_TCP_REFUSED || e->kind == EVENT_TCP_RST || e->kind == EVENT_ICMP
        || e->kind == EVENT_STREAM_ERROR || e->kind == EVENT_XML_BAD;
}

static void
rung_stanza(struct text *what, struct text *detail, const struct attempt *a, const struct event *e,
    bool show)
{
    int i = e->element == XE_KIND_MESSAGE ? 0 : e->element == XE_KIND_PRESENCE ? 1 : 2;
    uint64_t n = a->stanzas[e->side & 1][i];
    TEXT(what, "<", xe_element_kind_name(e->element), "/>", e->what[0] != '\0' ? " " : "", e->what);
    rung_pair(detail, e, show);
    if (n > 1 && strncmp(e->what, "error", 5) != 0)
        TEXT(detail, ", first of ", NUMBER(n));
    if (show)
        rung_quote(detail, e->text);
}

/* TCP and the capture itself. */
static void
rung_tcp(struct text *what, struct text *detail, const struct event *e)
{
    static const char *const words[] = { "SYN", "SYN, ACK", "RST: connection refused", "FIN", "RST",
        "ICMP error", "gap" };
    TEXT(what, words[e->kind], e->kind == EVENT_GAP ? ": " : "",
        e->kind == EVENT_GAP ? e->what : "");
    if (e->kind != EVENT_GAP)
        TEXT(detail, e->what);
    TEXT(detail, e->text);
}

/* What the encrypted part was, when it could not be read. */
static void
ladder_closed_words(struct text *t, const struct attempt *a, int side)
{
    text_count(t, a->tls.app_records[side], "record", "records");
    TEXT(t, ", ", NUMBER(a->tls.app_bytes[side]), " bytes",
        a->tls.why_closed[0] != '\0' ? ": " : "", a->tls.why_closed);
}

static void
rung_tls(struct text *what, struct text *detail, const struct attempt *a, const struct event *e)
{
    enum event_kind k = e->kind;
    if (k == EVENT_TLS_HELLO) {
        TEXT(what, "TLS ClientHello");
        TEXT(detail, e->to[0] != '\0' ? "for " : "", e->to, e->to[0] != '\0' ? ", " : "", e->what);
    } else if (k == EVENT_TLS_SERVER) {
        TEXT(what, "TLS ServerHello");
        TEXT(detail, e->what);
    } else if (k == EVENT_TLS_CERT) {
        TEXT(what, "TLS Certificate");
        TEXT(detail, e->from, e->what[0] != '\0' ? "; names " : "", e->what,
            e->text[0] != '\0' ? "; " : "", e->text);
    } else if (k == EVENT_TLS_UP) {
        TEXT(what, "TLS handshake complete");
        TEXT(detail, e->what);
    } else if (k == EVENT_TLS_ALERT) {
        TEXT(what, "TLS alert ", e->what);
    } else {
        TEXT(what, "encrypted");
        ladder_closed_words(detail, a, e->side & 1);
    }
}

static void
rung_stream(struct text *what, struct text *detail, const struct event *e, bool show)
{
    enum event_kind k = e->kind;
    if (k == EVENT_HEADER) {
        TEXT(what, "<stream:stream>");
        rung_pair(detail, e, show);
        if (e->what[0] != '\0')
            TEXT(detail, detail->len > 0 ? ", id " : "id ", e->what);
        if (e->text[0] != '\0')
            TEXT(detail, detail->len > 0 ? ", namespace " : "namespace ", e->text);
    } else if (k == EVENT_FEATURES) {
        TEXT(what, "<stream:features>");
        TEXT(detail, e->what[0] != '\0' ? e->what : "none");
    } else if (k == EVENT_STREAM_ERROR) {
        TEXT(what, "<stream:error> ", e->what);
        rung_quote(detail, e->text);
    } else if (k == EVENT_STREAM_END) {
        TEXT(what, "</stream:stream>");
    } else {
        TEXT(what, "bad XML: ", e->what);
        rung_quote(detail, e->text);
    }
}

void
rung_words(struct text *what, struct text *detail, const struct attempt *a, const struct rung *g,
    bool show)
{
    const struct event *e = g->e;
    text_clear(what);
    text_clear(detail);
    if (e->kind <= EVENT_GAP) {
        rung_tcp(what, detail, e);
    } else if (e->kind <= EVENT_TLS_DATA) {
        rung_tls(what, detail, a, e);
    } else if (e->kind == EVENT_ELEMENT) {
        rung_element(what, detail, e, show);
    } else if (e->kind == EVENT_STANZA) {
        rung_stanza(what, detail, a, e, show);
    } else if (e->kind == EVENT_DNS) {
        TEXT(what, "DNS ", e->side == 0 ? "question " : "answer ", e->what);
        TEXT(detail, e->to, e->side == 0 ? "" : ": ", e->side == 0 ? "" : e->text);
    } else if (e->kind == EVENT_PROXY) {
        TEXT(what, "PROXY header ", e->what);
        TEXT(detail, e->text);
    } else {
        rung_stream(what, detail, e, show);
    }
}

/* ---- text on a terminal ---- */

#define WIDTH            80      /* columns when nobody says how many; tables are as wide */
#define LABEL            9       /* columns of the labels at the top */
#define VIOLATIONS_PRINTED 3     /* of a kind */
#define SAMPLE           5       /* attempts that did not fail, in DETAILS */
#define DETAILS_FEW      20      /* attempts that are all told there */

/* Without --all a text is read from its beginning: lines by which a part has to end. */
#define FAILURES_END     80      /* causes with all there is to say */
#define GROUPS_END       100     /* the others, in a line each */
#define PARTNERS_END     140
#define UNKNOWN_END      155
#define DETAILS_END      180
#define TEXT_END         190

enum tone { TONE_PLAIN, TONE_GOOD, TONE_BAD, TONE_WARN, TONE_HEAD, TONE_DIM };

struct printer {
    FILE                *to;
    const struct paper  *paper;
    const struct report *r;
    struct text          line;     /* for one sentence */
    struct text          more;
    size_t               columns;
    size_t              *lines;    /* that were written */
};

/* May something be printed that is not needed? */
static bool
print_has_room(const struct printer *p, size_t end)
{
    return p->r->choice.all || *p->lines < end;
}

static void
print_line_end(const struct printer *p)
{
    fputc('\n', p->to);
    ++*p->lines;
}

/* A tone begins, or it ends. */
static void
print_tone(const struct printer *p, enum tone tone, bool on)
{
    static const char *const codes[] = { "", "32", "1;31", "33", "1", "2" };
    if (p->paper->colour && tone != TONE_PLAIN)
        fprintf(p->to, "\033[%sm", on ? codes[tone] : "0");
}

static void
print_toned(const struct printer *p, enum tone tone, const char *s)
{
    print_tone(p, tone, true);
    fputs(s, p->to);
    print_tone(p, tone, false);
}

static void
print_spaces(const struct printer *p, size_t n)
{
    for (; n > 0; n--)
        fputc(' ', p->to);
}

static size_t
columns_of(const char *s)
{
    const char *end = s + strlen(s);
    size_t columns = 0;
    uint32_t c;
    int n;
    for (; s < end && (n = xe_utf8(s, end, &c)) > 0; s += n)
        columns += utf8_columns(c);
    return columns;
}

/* As much of s as fits; ".." shows that something is missing.  s is clean.  Returns its columns. */
static size_t
print_cut(const struct printer *p, const char *s, size_t room)
{
    const char *end = s + strlen(s);
    size_t all = columns_of(s), columns = 0;
    size_t max = all <= room ? room : room < 2 ? 0 : room - 2;
    uint32_t c;
    int n;
    for (; s < end && (n = xe_utf8(s, end, &c)) > 0; s += n) {
        if (columns + utf8_columns(c) > max)
            break;
        fwrite(s, 1, (size_t)n, p->to);
        columns += utf8_columns(c);
    }
    if (all > room && room >= 2) {
        fputs("..", p->to);
        columns += 2;
    }
    return columns;
}

/* A word that does not fit on a line of its own is broken.  Returns the column after it. */
static size_t
print_word(const struct printer *p, const char *at, size_t len, size_t indent, size_t column)
{
    const char *end = at + len;
    uint32_t c;
    int n;
    for (; at < end && (n = xe_utf8(at, end, &c)) > 0; at += n) {
        if (column + utf8_columns(c) > p->columns) {
            print_line_end(p);
            print_spaces(p, indent);
            column = indent;
        }
        fwrite(at, 1, (size_t)n, p->to);
        column += utf8_columns(c);
    }
    return column;
}

/* A label and a text (clean) that goes on under itself; further to the right when it begins where
 * other lines do, so that no part of a stranger's text stands like a line of ours. */
static void
print_text(const struct printer *p, size_t before, enum tone tone, const char *label, size_t indent,
    const char *s)
{
    size_t column = before + columns_of(label);
    size_t again = before == indent ? indent + 4 : indent;
    bool first = true;
    print_spaces(p, before);
    print_toned(p, tone, label);
    if (column < indent) {
        print_spaces(p, indent - column);
        column = indent;
    }
    while (*s != '\0') {
        size_t len = strcspn(s, " ");
        size_t wide = 0, i = 0;
        while (i < len) {
            uint32_t c;
            int n = xe_utf8(s + i, s + len, &c);
            wide += n <= 0 ? 1 : utf8_columns(c);
            i += n <= 0 ? 1 : (size_t)n;
        }
        if (!first && column + 1 + wide > p->columns) {
            print_line_end(p);
            print_spaces(p, again);
            column = again;
        } else if (!first) {
            fputc(' ', p->to);
            column++;
        }
        column = print_word(p, s, len, again, column);
        first = false;
        s += len;
        s += strspn(s, " ");
    }
    print_line_end(p);
}

/* The same with a text that has to be made clean. */
static void
print_clean(struct printer *p, size_t before, enum tone tone, const char *label, size_t indent,
    const char *s)
{
    text_clear(&p->more);
    text_clean(&p->more, s);
    print_text(p, before, tone, label, indent, p->more.at);
}

/* "more  17 attempts over the ceiling" */
static void
print_more(struct printer *p, size_t indent, uint64_t n, const char *one, const char *many)
{
    text_clear(&p->line);
    text_count(&p->line, n, one, many);
    print_text(p, 1, TONE_WARN, "more", indent, p->line.at);
}

static void
print_heading(const struct printer *p, const char *s, const char *more)
{
    print_line_end(p);
    print_toned(p, TONE_HEAD, s);
    fprintf(p->to, "%s%s", more[0] != '\0' ? " " : "", more);
    print_line_end(p);
}

/* ---- tables ---- */

#define TABLE_COLUMNS 9

struct column {
    const char *title;
    size_t      width;
    bool        right;
};

/* One line; the cells are texts, clean.  The last column is not padded. */
static void
print_cells(const struct printer *p, const struct column *c, size_t n, size_t indent,
    const char *const *cells, const enum tone *tones)
{
    size_t i;
    print_spaces(p, indent);
    for (i = 0; i < n; i++) {
        size_t wide = columns_of(cells[i]), pad;
        if (wide > c[i].width)
            wide = c[i].width;
        pad = c[i].width - wide;
        if (c[i].right)
            print_spaces(p, pad);
        print_tone(p, tones[i], true);
        print_cut(p, cells[i], c[i].width);
        print_tone(p, tones[i], false);
        if (!c[i].right && i + 1 < n)
            print_spaces(p, pad);
        fputs(i + 1 < n ? "  " : "", p->to);
    }
    print_line_end(p);
}

static void
print_titles(const struct printer *p, const struct column *c, size_t n, size_t indent)
{
    const char *cells[TABLE_COLUMNS];
    enum tone tones[TABLE_COLUMNS];
    size_t i;
    for (i = 0; i < n; i++) {
        cells[i] = c[i].title;
        tones[i] = TONE_DIM;
    }
    print_cells(p, c, n, indent, cells, tones);
}

/* ---- the parts of the text ---- */

void
report_counts(struct text *t, const struct report *r)
{
    text_count(t, r->packets, "packet", "packets");
    TEXT(t, ", ");
    text_count(t, r->flows, "TCP connection", "TCP connections");
    TEXT(t, ", ");
    text_count(t, r->flows_xmpp, "of them federation", "of them federation");
}

static void
print_capture(struct printer *p)
{
    const struct report *r = p->r;
    struct text *t = &p->line;
    size_t i;
    text_clear(t);
    for (i = 0; i < r->nfiles && i < 3; i++) {
        TEXT(t, i > 0 ? ", " : "");
        text_clean(t, r->files[i].name);
    }
    if (r->nfiles > 3) {
        TEXT(t, " and ");
        text_count(t, r->nfiles - 3, "more file", "more files");
    }
    TEXT(t, r->nfiles > 0 ? ": " : "");
    report_counts(t, r);
    if (r->dns_messages > 0) {
        TEXT(t, ", ");
        text_count(t, r->dns_messages, "DNS message", "DNS messages");
    }
    if (r->first_ns > 0) {
        TEXT(t, "; ", STAMP(r->first_ns, STAMP_LONG), ", ");
        TEXT(t, LENGTH(r->last_ns - r->first_ns));
    }
    print_text(p, 0, TONE_HEAD, "CAPTURE", LABEL, t->at);
}

/* "192.0.2.1 (option)" */
static void
text_known(struct text *t, const struct address *list, size_t n, enum known known)
{
    text_addresses(t, list, n, REPORT_ADDRESSES_MAX);
    if (n > 0)
        TEXT(t, " (", known_word(known), ")");
}

static void
print_edge(struct printer *p)
{
    const struct report *r = p->r;
    struct text *t = &p->line;
    SET(t, "external ");
    text_known(t, r->external, r->nexternal, r->external_known);
    TEXT(t, ", internal ");
    text_known(t, r->internal, r->ninternal, r->internal_known);
    print_text(p, 0, TONE_HEAD, "EDGE", LABEL, t->at);
}

static void
print_logs(struct printer *p)
{
    size_t i;
    for (i = 0; i < p->r->nlogs; i++) {
        log_facts(&p->line, &p->r->logs[i]);
        print_text(p, 0, TONE_DIM, i == 0 ? "LOG" : "", LABEL, p->line.at);
    }
}

static void
print_result(struct printer *p)
{
    const struct report *r = p->r;
    enum tone tone = TONE_GOOD;
    size_t i;
    if (r->exit_code == 1)
        tone = TONE_BAD;
    else if (r->flows_xmpp == 0 && r->failed == 0)
        tone = TONE_WARN;
    else if (r->failed > 0 || r->exit_code != 0)
        tone = TONE_BAD;
    report_result(&p->line, r);
    print_text(p, 0, tone, "RESULT", LABEL, p->line.at);
    for (i = 0; report_advice(&p->line, r, i), p->line.len > 0; i++)
        print_clean(p, 0, TONE_WARN, "note", LABEL, p->line.at);
}

/* What is asked for; tables and sentences above are of the whole capture. */
static void
print_choice(struct printer *p)
{
    const struct choice *c = &p->r->choice;
    size_t taken = choice_attempts(p->r);
    if (c->partner == NULL && c->flow == 0 && !c->failed)
        return;
    text_clear(&p->line);
    text_count(&p->line, taken, "attempt", "attempts");
    TEXT(&p->line, c->failed ? " that failed" : "", c->partner != NULL ? ", with " : "");
    text_clean(&p->line, c->partner != NULL ? c->partner : "");
    if (c->flow != 0)
        TEXT(&p->line, ", connection #", NUMBER(c->flow));
    TEXT(&p->line, "; result and port table are of the whole capture");
    print_text(p, 0, taken > 0 ? TONE_HEAD : TONE_WARN, "CHOSEN", LABEL, p->line.at);
}

static enum tone
row_tone(enum row_state s)
{
    static const enum tone tones[] = { TONE_DIM, TONE_GOOD, TONE_WARN, TONE_BAD, TONE_WARN };
    return tones[s];
}

/* The addresses of the edge are told above the table. */
static void
print_row(struct printer *p, const struct column *c, enum row row)
{
    static const char *const ways[] = { "", "any -> external", "external -> any",
        "any -> internal" };
    const struct report_row *w = &p->r->rows[row];
    enum row_state s = row_state(w);
    const char *const cells[TABLE_COLUMNS] = { row_place(row),
        row_face(p->r, row, &p->more).service, ways[row], NUMBER(w->attempted),
        NUMBER(w->established), NUMBER(w->working), NUMBER(w->failed), NUMBER(w->unknown),
        row_state_word(s) };
    enum tone tones[TABLE_COLUMNS] = { TONE_PLAIN, TONE_PLAIN, TONE_PLAIN, TONE_PLAIN, TONE_PLAIN,
        TONE_PLAIN, w->failed > 0 ? TONE_BAD : TONE_PLAIN, TONE_PLAIN, row_tone(s) };
    print_cells(p, c, TABLE_COLUMNS, 1, cells, tones);
}

static void
print_row_says(struct printer *p, enum row row)
{
    const struct report_row *w = &p->r->rows[row];
    enum tone tone = w->ruling == RULING_VIOLATES ? TONE_BAD : row_tone(row_state(w));
    char label[16];
    snprintf(label, sizeof label, row == ROW_OTHER ? "others" : "row %s", row_place(row));
    row_says(&p->line, p->r, row);
    print_clean(p, 1, tone, label, LABEL, p->line.at);
}

static void
print_rows(struct printer *p)
{
    static const struct column c[TABLE_COLUMNS] = { { "row", 3, false },
        { "protocol/port", 15, false }, { "from -> to", 15, false }, { "tried", 5, true },
        { "TCP", 4, true }, { "ok", 4, true }, { "failed", 6, true }, { "?", 3, true },
        { "result", 8, false } };
    size_t k;
    print_heading(p, "PORT TABLE", "(?: not known how it ended)");
    print_titles(p, c, TABLE_COLUMNS, 1);
    for (k = 0; k < ROW_COUNT; k++)
        if (report_rows[k] != ROW_OTHER || p->r->rows[ROW_OTHER].observed)
            print_row(p, c, report_rows[k]);
    for (k = 0; k < ROW_COUNT; k++)
        if (p->r->rows[report_rows[k]].observed)
            print_row_says(p, report_rows[k]);
}

static void
print_violation(struct printer *p, const struct report_violation *v)
{
    struct text *t = &p->line;
    text_clear(t);
    TEXT(t, ENDPOINT(&v->source, 0), " -> ", ENDPOINT(&v->target, v->port), ", packet ",
        NUMBER(v->frame), " at ", STAMP(v->time_ns, stamp_of(p->r)), ", connection #",
        NUMBER(v->flow));
    if (v->detail[0] != '\0') {
        TEXT(t, " (");
        text_clean(t, v->detail);
        TEXT(t, ")");
    }
    print_text(p, LABEL + 2, TONE_PLAIN, "", LABEL + 2, t->at);
}

/* One kind, and where it was seen first. */
static void
print_violation_kind(struct printer *p, enum violation_kind k, bool suspected)
{
    const struct report *r = p->r;
    bool inferred = r->external_known == KNOWN_INFERRED || r->internal_known == KNOWN_INFERRED;
    uint64_t listed = 0, all = 0, shown = 0;
    size_t i;
    for (i = 0; i < r->nviolations; i++)
        listed += r->violations[i].kind == k && r->violations[i].suspected == suspected;
    for (i = 0; i < ROW_COUNT && !suspected; i++)
        all += r->rows[i].violations[k];
    all = all > listed ? all : listed;
    if (all == 0)
        return;
    SET(&p->line, violation_text(k), " (", violation_word(k), "), ");
    text_count(&p->line, all, "time", "times");
    TEXT(&p->line, suspected && inferred ? "; if the inferred addresses are right" : "");
    print_text(p, 1, suspected ? TONE_WARN : TONE_BAD, suspected ? "maybe" : "breach", LABEL,
        p->line.at);
    for (i = 0; i < r->nviolations && (shown < VIOLATIONS_PRINTED || p->r->choice.all); i++)
        if (r->violations[i].kind == k && r->violations[i].suspected == suspected) {
            print_violation(p, &r->violations[i]);
            shown++;
        }
    text_clear(&p->line);
    text_count(&p->line, all - shown, "more", "more");
    if (all > shown)
        print_text(p, LABEL, TONE_PLAIN, "", LABEL, p->line.at);
    SET(&p->line, "why it matters, what to do: ", violation_remedy(k));
    print_text(p, LABEL, TONE_PLAIN, "", LABEL, p->line.at);
}

static void
print_violations(struct printer *p)
{
    int k;
    if (p->r->nviolations > 0)
        print_heading(p, "VIOLATIONS", "");
    for (k = 0; k < VIOLATION_COUNT; k++)
        print_violation_kind(p, (enum violation_kind)k, false);
    for (k = 0; k < VIOLATION_COUNT; k++)
        print_violation_kind(p, (enum violation_kind)k, true);
}

const char *
partner_name(const struct report_partner *q, bool ours)
{
    const char *name = ours ? q->ours : q->theirs;
    return name[0] != '\0' ? name : "edge";
}

/* "pa.example - pb.example": ours first. */
static void
partner_names(struct text *t, const struct report_partner *q)
{
    text_clear(t);
    text_clean(t, partner_name(q, true));
    TEXT(t, " - ");
    text_clean(t, partner_name(q, false));
}

const char *
way_stanzas(const struct report_way *w, struct number *room)
{
    uint64_t n = w->stanzas[0] + w->stanzas[1] + w->stanzas[2];
    return n == 0 && w->reach_inferred ? "?" : number_text(n, room);
}

/* The gateway calls on row 3. */
static const char *
way_word(const struct report_partner *q, bool out)
{
    static const char *const words[3][2] = { { "in", "out" }, { "in 3", "out 3" }, { "?", "?" } };
    return words[q->kind][out];
}

/* The method as the column has room for it. */
static const char *
method_word(const struct report_way *w)
{
    if (w->method[0] == '\0')
        return "-";
    return strlen(w->method) > 8 ? "hidden" : w->method;
}

static void
print_way(struct printer *p, const struct column *c, const struct report_partner *q, bool out)
{
    const struct report_way *w = out ? &q->out : &q->in;
    char reached[32], tls[16];
    const char *const cells[TABLE_COLUMNS] = { way_word(q, out), NUMBER(w->attempts),
        NUMBER(w->worked), NUMBER(w->failed), NUMBER(w->unknown), reached, method_word(w), tls,
        STANZAS(w) };
    enum tone tones[TABLE_COLUMNS] = { TONE_PLAIN, TONE_PLAIN,
        w->worked > 0 ? TONE_GOOD : TONE_PLAIN, w->failed > 0 ? TONE_BAD : TONE_PLAIN, TONE_PLAIN,
        TONE_PLAIN, TONE_PLAIN, TONE_PLAIN, TONE_PLAIN };
    snprintf(reached, sizeof reached, "%s%s", w->older ? "in use" : reach_word(w->reached),
        w->reach_inferred ? "?" : "");
    snprintf(tls, sizeof tls, "%s", w->tls_version == 0 ? "-" : tls_version_name(w->tls_version)
        + (strncmp(tls_version_name(w->tls_version), "TLS ", 4) == 0 ? 4 : 0));
    print_cells(p, c, TABLE_COLUMNS, 3, cells, tones);
}

/* The names have a line of their own: they are as long as they like. */
static void
print_partner(struct printer *p, const struct column *c, const struct report_partner *q)
{
    partner_names(&p->more, q);
    print_text(p, 1, TONE_PLAIN, "", 1, p->more.at);
    if (q->out.attempts > 0 || q->in.attempts == 0)
        print_way(p, c, q, true);
    if (q->in.attempts > 0)
        print_way(p, c, q, false);
}

/* Those that have trouble come first. */
static void
print_partners(struct printer *p)
{
    static const struct column c[TABLE_COLUMNS] = { { "way", 5, false }, { "tried", 5, true },
        { "ok", 4, true }, { "failed", 6, true }, { "?", 3, true }, { "got to", 14, false },
        { "method", 8, false }, { "TLS", 3, false }, { "stanzas", 7, true } };
    const struct report *r = p->r;
    size_t printed = 0, taken = choice_partners(r), i;
    int pass;
    if (taken == 0)
        return;
    print_heading(p, "PARTNERS", "(ours - partner)");
    print_titles(p, c, TABLE_COLUMNS, 3);
    for (pass = 0; pass < 2; pass++)
        for (i = 0; i < r->npartners && print_has_room(p, PARTNERS_END); i++) {
            const struct report_partner *q = &r->partners[i];
            if ((q->in.failed + q->out.failed > 0) != (pass == 0)
                || !choice_takes_partner(&r->choice, q))
                continue;
            print_partner(p, c, q);
            printed++;
        }
    if (taken == printed && r->partners_left_out == 0)
        return;
    text_clear(&p->line);
    text_count(&p->line, taken - printed, "more pair of domains", "more pairs of domains");
    TEXT(&p->line, " (--all lists them)");
    if (r->partners_left_out > 0) {
        TEXT(&p->line, "; ");
        text_count(&p->line, r->partners_left_out, "attempt", "attempts");
        TEXT(&p->line, " with others over the ceiling");
    }
    print_text(p, 1, TONE_WARN, "more", LABEL, p->line.at);
}

/* ---- failures ---- */

#define GROUPS_FEW      6    /* are all printed in full */
#define GROUPS_OF_CAUSE 5    /* of many */

/* Lines of the text by which groups have to end: those in full, and all. */
struct print_ends { size_t full, last; };

static void
print_group_title(struct printer *p, const struct group *g, size_t number)
{
    const struct verdict *v = g->first->verdict;
    char label[32];
    struct text *t = &p->line;
    snprintf(label, sizeof label, "%lu", (unsigned long)number);
    group_when(&p->more, g);
    text_clear(t);
    TEXT(t, cause_row(g->cause)->word, verdict_rests_on(v), ", ");
    text_place(t, g->first);
    if (v->direction != DIRECTION_UNKNOWN)
        TEXT(t, v->direction == DIRECTION_IN ? " (in)" : " (out)");
    TEXT(t, ": ", p->more.at);
    if (attempt_has_number(g->first))
        TEXT(t, ", connection #", NUMBER(g->first->flow.number));
    print_text(p, 1, TONE_BAD, label, 5, t->at);
}

static void
print_field(struct printer *p, const char *label, enum tone tone, const char *s)
{
    if (s[0] != '\0')
        print_clean(p, 5, tone, label, 16, s);
}

/* The packets to look at, also of the other half of a dialback, and of the last one. */
static void
print_evidence(struct printer *p, const struct group *g)
{
    const struct verdict *v = g->first->verdict;
    struct text *t = &p->line;
    attempt_proofs(t, v, stamp_of(p->r));
    if (v->joined != 0)
        TEXT(t, t->len > 0 ? ", " : "", "connection #", NUMBER(v->joined),
            " (other half of the dialback)");
    if (g->count > 1)
        TEXT(t, t->len > 0 ? "; " : "", "the last one began with packet ",
            NUMBER(g->last->flow.first_frame));
    print_field(p, "evidence", TONE_DIM, t->at);
}

static void
print_forward(struct printer *p, const struct group *g)
{
    struct text label = { NULL, 0, 0 };
    bool wide;
    group_whom(&p->more, g);
    group_forward(&p->line, g);
    if (p->line.len == 0)
        return;
    SET(&label, "tell ", p->more.at);
    wide = columns_of(label.at) > 10;
    if (wide)
        print_text(p, 5, TONE_PLAIN, "", 5, label.at);
    print_field(p, wide ? "" : label.at, TONE_HEAD, p->line.at);
    text_free(&label);
}

static void
print_group(struct printer *p, const struct group *g, size_t number)
{
    print_group_title(p, g, number);
    print_field(p, "what", TONE_DIM, g->first->verdict->story);
    attempt_words(&p->line, g->first);
    print_field(p, "said", TONE_DIM, p->line.at);
    attempt_log(&p->line, g->first);
    print_field(p, "log", TONE_DIM, p->line.at);
    print_field(p, "but", TONE_DIM, g->first->verdict->against);
    print_evidence(p, g);
    attempt_remedy(&p->line, g->first);
    print_field(p, "do", TONE_HEAD, p->line.at);
    print_forward(p, g);
}

static void
print_group_unknown(struct printer *p, const struct group *g, size_t number)
{
    print_group_title(p, g, number);
    print_field(p, "what", TONE_DIM, g->first->verdict->story);
    attempt_log(&p->line, g->first);
    print_field(p, "log", TONE_DIM, p->line.at);
    attempt_proofs(&p->line, g->first->verdict, stamp_of(p->r));
    print_field(p, "evidence", TONE_DIM, p->line.at);
}

/* Failures of which no attempt is listed. */
static void
print_ungrouped(struct printer *p)
{
    const struct report *r = p->r;
    uint64_t more[CAUSE_COUNT];
    size_t i, before;
    memcpy(more, r->failed_by, sizeof more);
    for (i = 0; i < r->nattempts; i++) {
        const struct verdict *v = r->attempts[i]->verdict;
        more[v->cause] -= v->outcome == OUTCOME_FAILED && more[v->cause] > 0;
    }
    SET(&p->line, "counted, not listed: ");
    before = p->line.len;
    text_causes(&p->line, more);
    if (p->line.len > before)
        print_text(p, 1, TONE_WARN, "more", 6, p->line.at);
}

/* Another that has the cause of one that is printed in full. */
static void
print_group_short(struct printer *p, const struct group *g, size_t number)
{
    const struct attempt *a = g->first;
    char label[32];
    snprintf(label, sizeof label, "%lu", (unsigned long)number);
    group_whom(&p->more, g);
    SET(&p->line, cause_row(g->cause)->word, ", ", p->more.at, ": ");
    text_count(&p->line, g->count, "time", "times");
    TEXT(&p->line, ", at ", STAMP(a->flow.first_ns, stamp_of(p->r)));
    if (attempt_has_number(a))
        TEXT(&p->line, ", connection #", NUMBER(a->flow.number));
    print_text(p, 1, TONE_BAD, label, 5, p->line.at);
}

static void
print_group_full(struct printer *p, const struct group *g, enum group_kind kind, size_t number)
{
    if (kind == GROUP_UNKNOWN)
        print_group_unknown(p, g, number);
    else
        print_group(p, g, number);
}

/* Groups of one cause stand together, causes in the order of their first groups. */
static void
groups_gather(struct group *list, size_t n)
{
    size_t i, k, at;
    for (i = 0; i < n; i = at) {
        at = i + 1;
        for (k = at; k < n; k++) {
            struct group g = list[k];
            if (g.cause != list[i].cause)
                continue;
            memmove(&list[at + 1], &list[at], (k - at) * sizeof *list);
            list[at++] = g;
        }
    }
}

/* Those of one cause after the first, n in all; how many are left is said. */
static size_t
print_cause(struct printer *p, const struct group *list, size_t n, size_t number, size_t end)
{
    uint64_t attempts = 0;
    size_t i, printed = 0;
    for (i = 0; i < n; i++)
        if (printed < GROUPS_OF_CAUSE && print_has_room(p, end))
            print_group_short(p, &list[i], number + printed++);
        else
            attempts += list[i].count;
    if (printed == n)
        return printed;
    SET(&p->line, cause_row(list->cause)->word, ", ");
    text_count(&p->line, n - printed, "other pair of domains: ", "other pairs of domains: ");
    text_count(&p->line, attempts, "time", "times");
    TEXT(&p->line, " (--all, --partner DOMAIN)");
    print_text(p, 1, TONE_WARN, "more", 6, p->line.at);
    return printed;
}

/* The first of each cause with all there is to say; few groups are all told so. */
static void
print_groups(struct printer *p, enum group_kind kind, const char *heading,
    const struct print_ends *ends)
{
    size_t n = 0, number = 1, i, k, full;
    struct group *list = report_groups(p->r, kind, &n);
    bool everything = n <= GROUPS_FEW || p->r->choice.all;
    groups_gather(list, n);
    if (n > 0)
        print_heading(p, heading, "");
    for (i = 0; i < n && print_has_room(p, ends->full); i = k) {
        for (k = i + 1; k < n && list[k].cause == list[i].cause && !everything; k++)
            ;
        print_group_full(p, &list[i], kind, number++);
    }
    full = i;
    for (i = everything ? full : 0; i < n; i = k) {
        size_t first = i < full;     /* of this cause, told already */
        for (k = i + 1; k < n && list[k].cause == list[i].cause; k++)
            ;
        if (k > i + first)
            number += print_cause(p, list + i + first, k - i - first, number, ends->last);
    }
    if (n > 0 && kind == GROUP_FAILED)
        print_ungrouped(p);
    free(list);
}

static void
print_remarks(struct printer *p)
{
    const struct report *r = p->r;
    bool any = false;
    int k;
    for (k = 0; k < REMARK_COUNT; k++) {
        if (r->remarks[k] == 0)
            continue;
        if (!any)
            print_heading(p, "ABOUT THE CAPTURE", "");
        any = true;
        SET(&p->line, remark_text((enum remark)k), ": ");
        text_count(&p->line, r->remarks[k], "time", "times");
        if (r->remark_frame[k] != 0)
            TEXT(&p->line, ", first at packet ", NUMBER(r->remark_frame[k]));
        if (r->remark_detail[k][0] != '\0') {
            TEXT(&p->line, " (");
            text_clean(&p->line, r->remark_detail[k]);
            TEXT(&p->line, ")");
        }
        print_text(p, 1, TONE_PLAIN, remark_word((enum remark)k), 18, p->line.at);
    }
}

/* ---- ladders in text ---- */

/*      time  packet  pa.example                            pb.example
 *  +0.000000      7  |-- SYN ------------------------------------->|    | not encrypted
 *  +0.000020      8  |<-------------------------------- SYN, ACK --|
 *  +0.004100     16  :-- TLS ClientHello  for pb.example --------->:    : handshake
 *  +0.009800     20  #-- <stream:stream>  pa.example to pb.. ----->#    # inside TLS, with keys
 *  +0.009900     21  %-- encrypted  12 records, 3210 bytes ------->%    % inside TLS, closed
 */
#define LADDER_LEFT 22
#define LADDER_WIDE 76                          /* between the two lines: more room than text */
#define RUNG_WIDE (LADDER_WIDE - 6)             /* for words on an arrow */

static char
cover_line(enum cover c)
{
    static const char lines[] = { '|', ':', '#', '%' };
    return lines[c];
}

static void
print_dashes(const struct printer *p, size_t n)
{
    for (; n > 0; n--)
        fputc('-', p->to);
}

/* A remark in the middle of the ladder. */
static void
print_rung_note(const struct printer *p, char line, char fill, const char *s)
{
    size_t wide = columns_of(s) + 2 > LADDER_WIDE - 4 ? LADDER_WIDE - 4 : columns_of(s) + 2;
    size_t left = (LADDER_WIDE - wide) / 2, i;
    print_spaces(p, LADDER_LEFT);
    fputc(line, p->to);
    for (i = 0; i < left; i++)
        fputc(i % 2 == 0 ? fill : ' ', p->to);
    fputc(' ', p->to);
    print_cut(p, s, wide - 2);
    fputc(' ', p->to);
    for (i = left + wide; i < LADDER_WIDE; i++)
        fputc(i % 2 == 0 ? fill : ' ', p->to);
    fputc(line, p->to);
    print_line_end(p);
}

static enum tone
rung_tone(const struct event *e)
{
    if (rung_is_bad(e))
        return TONE_BAD;
    return e->kind == EVENT_GAP ? TONE_WARN : TONE_PLAIN;
}

/* One arrow; s is clean and begins at the side that speaks. */
static void
print_arrow(const struct printer *p, const struct event *e, const char *s)
{
    size_t wide = columns_of(s) > RUNG_WIDE ? RUNG_WIDE : columns_of(s);
    if (e->side == 0) {
        fputs("-- ", p->to);
    } else {
        fputc('<', p->to);
        print_dashes(p, RUNG_WIDE + 1 - wide);
        fputc(' ', p->to);
    }
    print_tone(p, rung_tone(e), true);
    wide = print_cut(p, s, RUNG_WIDE);
    print_tone(p, rung_tone(e), false);
    if (e->side == 0) {
        fputc(' ', p->to);
        print_dashes(p, RUNG_WIDE + 1 - wide);
        fputc('>', p->to);
    } else {
        fputs(" --", p->to);
    }
}

static void
print_rung(struct printer *p, const struct attempt *a, const struct rung *g, struct text *room)
{
    char stamp[STAMP_MAX], line = cover_line(g->cover);
    rung_words(&p->line, &p->more, a, g, p->r->show_content);
    text_clear(room);
    text_clean(room, p->line.at);
    TEXT(room, p->more.len > 0 ? "  " : "");
    text_clean(room, p->more.at);
    fprintf(p->to, "%12s %7llu  %c", stamp_offset(a->flow.first_ns, g->e->time_ns, stamp),
        (unsigned long long)g->e->frame, line);
    print_arrow(p, g->e, room->at);
    fputc(line, p->to);
    print_line_end(p);
}

/* Two texts, at the left line and at the right one. */
static void
print_ladder_ends(struct printer *p, const char *left, const char *right)
{
    size_t half = (LADDER_WIDE + 2) / 2 - 1, used;
    text_clear(&p->line);
    text_clean(&p->line, left);
    used = print_cut(p, p->line.at, half);
    text_clear(&p->line);
    text_clean(&p->line, right);
    used += columns_of(p->line.at) > half ? half : columns_of(p->line.at);
    print_spaces(p, LADDER_WIDE + 2 - used);
    print_cut(p, p->line.at, half);
    print_line_end(p);
}

static void
print_ladder_head(struct printer *p, const struct attempt *a)
{
    const struct flow_side *s = a->flow.side;
    if (a->from[0] != '\0' || a->to[0] != '\0') {
        fputs("        time  packet  ", p->to);
        print_ladder_ends(p, a->from, a->to);
    }
    print_spaces(p, LADDER_LEFT);
    print_ladder_ends(p, ENDPOINT(&s[0].address, s[0].port), ENDPOINT(&s[1].address, s[1].port));
}

/* Something that is no packet of content. */
static void
print_gap(struct printer *p, const struct attempt *a, const struct rung *g, struct text *room)
{
    rung_words(&p->line, &p->more, a, g, p->r->show_content);
    text_clear(room);
    text_clean(room, p->line.at);
    TEXT(room, " (from the ", g->e->side == 0 ? "initiator" : "responder", ", packet ",
        NUMBER(g->e->frame), ")");
    print_rung_note(p, cover_line(g->cover), '/', room->at);
}

static void
print_ladder(struct printer *p, const struct attempt *a)
{
    struct ladder l = ladder_begin(a);
    struct text room = { NULL, 0, 0 };
    struct rung g;
    print_ladder_head(p, a);
    while (ladder_next(&l, &g)) {
        if (g.left_out > 0) {
            text_clear(&room);
            text_count(&room, g.left_out, "event left out", "events left out");
            print_rung_note(p, cover_line(g.cover), '.', room.at);
        }
        if (g.pause_ns > 0) {
            SET(&room, LENGTH(g.pause_ns), " later");
            print_rung_note(p, cover_line(g.cover), ' ', room.at);
        }
        if (g.arrow)
            print_rung(p, a, &g, &room);
        else
            print_gap(p, a, &g, &room);
    }
    text_free(&room);
}

/* ---- single attempts ---- */

static void
print_attempt_title(struct printer *p, const struct attempt *a)
{
    static const enum tone tones[] = { TONE_GOOD, TONE_BAD, TONE_WARN };
    const struct verdict *v = a->verdict;
    char label[32];
    if (attempt_has_number(a))
        snprintf(label, sizeof label, "#%llu", (unsigned long long)a->flow.number);
    else
        snprintf(label, sizeof label, "DNS");
    attempt_line(&p->more, a, stamp_of(p->r), true);
    print_text(p, 1, tones[v->outcome], label, 7, p->more.at);
}

static bool
attempt_is_about_certificates(const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    enum cause c = v->outcome == OUTCOME_FAILED ? v->cause : v->setback;
    return c >= CAUSE_CERT_MISSING && c <= CAUSE_SASL_REFUSED;
}

static void
print_attempt(struct printer *p, const struct attempt *a, bool ladder)
{
    static const char *const cert[2] = { "initiator's certificate: ", "responder's certificate: " };
    char community[COMMUNITY_MAX];
    int side;
    print_attempt_title(p, a);
    attempt_facts(&p->line, a);
    if (p->line.len > 0)
        TEXT(&p->line, "; packet ", NUMBER(a->flow.first_frame), " on",
            community_of(&a->flow, community)[0] != '\0' ? "; Community ID " : "", community);
    if (p->line.len > 0)
        print_clean(p, 9, TONE_PLAIN, "", 9, p->line.at);
    for (side = 0; side < 2; side++) {
        attempt_certificate(&p->line, a, side);
        if (p->line.len > 0 && (ladder || attempt_is_about_certificates(a)))
            print_text(p, 9, TONE_DIM, cert[side], 13, p->line.at);
    }
    if (!ladder)
        return;
    print_line_end(p);
    print_ladder(p, a);
    print_line_end(p);
}

/* Which attempts are told in detail when there are many: the first of each kind of failure, and a
 * sample of the others.  NULL: no memory. */
static bool *
print_sample(const struct printer *p)
{
    const struct report *r = p->r;
    bool *chosen = memory_try(calloc(r->nattempts + 1, sizeof *chosen));
    size_t n = 0, sample = 0, taken = choice_attempts(r), i;
    struct group *list = report_groups(r, GROUP_FAILED, &n);
    for (i = 0; i < n && chosen != NULL; i++)
        chosen[list[i].index] = true;
    for (i = 0; i < r->nattempts && chosen != NULL; i++) {
        bool other = r->attempts[i]->verdict->outcome != OUTCOME_FAILED;
        if (!choice_takes(&r->choice, r->attempts[i]))
            continue;
        chosen[i] |= p->r->choice.all || taken <= DETAILS_FEW || (other && sample < SAMPLE);
        sample += other;
    }
    free(list);
    return chosen;
}

static void
print_attempts(struct printer *p)
{
    const struct report *r = p->r;
    bool *chosen = print_sample(p), ladder = p->paper->ladder;
    size_t left = 0, i;
    for (i = 0; i < r->nattempts && chosen != NULL; i++)
        if (chosen[i])
            break;
    if (chosen != NULL && i < r->nattempts)
        print_heading(p, "DETAILS",
            ladder ? "(| not encrypted, : TLS handshake, # inside TLS, % not readable)" : "");
    for (i = 0; i < r->nattempts; i++)
        if (chosen != NULL && chosen[i] && (ladder || print_has_room(p, DETAILS_END)))
            print_attempt(p, r->attempts[i], ladder);
        else
            left += choice_takes(&r->choice, r->attempts[i]);
    if (left > 0)
        print_more(p, 7, left, "attempt (--all lists it; --flow N, --partner DOMAIN choose)",
            "attempts (--all lists them; --flow N, --partner DOMAIN choose)");
    if (r->attempts_left_out > 0)
        print_more(p, 7, r->attempts_left_out,
            "attempt over the ceiling: counted above, listed by --json",
            "attempts over the ceiling: counted above, listed by --json");
    free(chosen);
}

static void
dns_targets(struct text *t, const struct dns_fact *f)
{
    unsigned i;
    for (i = 0; i < f->ntargets; i++) {
        const struct dns_target *x = &f->targets[i];
        TEXT(t, i == 0 ? ": " : ", ");
        if (f->type != DNS_SRV) {
            TEXT(t, ENDPOINT(&x->address, 0));
            continue;
        }
        text_clean(t, x->host);
        TEXT(t, ":", NUMBER(x->port));
    }
}

static void
print_dns(struct printer *p)
{
    const struct report *r = p->r;
    size_t i;
    if (r->ndns == 0 || r->choice.flow != 0 || r->choice.partner != NULL)
        return;
    print_heading(p, "NAME SERVICE", "");
    for (i = 0; i < r->ndns && print_has_room(p, TEXT_END); i++) {
        const struct dns_fact *f = &r->dns[i];
        bool answered = f->answer_frame != 0;
        SET(&p->line, dns_type_word(f->type), " ");
        text_clean(&p->line, f->name);
        TEXT(&p->line, ": ", dns_result_word(f->result));
        dns_targets(&p->line, f);
        TEXT(&p->line, "; packet ", NUMBER(answered ? f->answer_frame : f->query_frame), " at ",
            STAMP(answered ? f->answer_ns : f->query_ns, STAMP_SHORT));
        print_text(p, 1, TONE_PLAIN, "DNS", 7, p->line.at);
    }
    if (i < r->ndns || r->dns_left_out > 0)
        print_more(p, 7, r->ndns - i + r->dns_left_out, "question (--all)", "questions (--all)");
}

int
report_text(const struct report *r, FILE *to, const struct paper *paper)
{
    static const struct print_ends failures = { FAILURES_END, GROUPS_END },
        setbacks = { GROUPS_END, GROUPS_END + SAMPLE }, unknown = { UNKNOWN_END, UNKNOWN_END };
    size_t lines = 0;
    struct printer p = { .to = to, .paper = paper, .r = r, .lines = &lines };
    p.columns = paper->columns == 0 ? WIDTH : paper->columns;
    print_capture(&p);
    print_edge(&p);
    print_logs(&p);
    print_result(&p);
    print_choice(&p);
    print_violations(&p);
    print_groups(&p, GROUP_FAILED, "FAILURES", &failures);
    print_groups(&p, GROUP_SETBACK, "WORKED, BUT", &setbacks);
    print_rows(&p);
    print_partners(&p);
    print_groups(&p, GROUP_UNKNOWN, "NOT KNOWN HOW IT ENDED", &unknown);
    print_remarks(&p);
    print_attempts(&p);
    print_dns(&p);
    text_free(&p.line);
    text_free(&p.more);
    return fflush(to) != 0 || ferror(to) != 0 ? -1 : 0;
}
