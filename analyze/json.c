/* json.c -- the report as JSON Lines, for other programs
 *
 * One object a line, UTF-8.  Keys are always there; what is not known is null (numbers, times) or
 * "" (texts).  Every time T is two keys: "T" in ISO 8601 with nanoseconds, UTC, and "T_epoch", the
 * same in seconds since 1970 as a number with nine digits behind the point.  Bytes that are not
 * UTF-8 are written as \xNN, in JSON "\\xNN".  Later versions add keys and values; they take none
 * away while "schema" is 1.
 *
 * {"type":"capture"}  one, first
 *     schema, program, version
 *     files[]             name, format (pcap, pcapng, live), packets, bytes, first, last, cut,
 *                         damaged
 *     interfaces[]        file (index into files), name, description, link_type, snaplen, packets,
 *                         drops
 *     packets, connections, attempts, attempts_listed, dns_messages, first, last
 *     external[], internal[]       addresses of the edge
 *     external_source, internal_source     option, configuration, inferred, not known
 *     addresses_why       grounds of the inference
 *     external_port, internal_port, keys_given, keys_used, keys_unused, keys_would_help, damaged,
 *     content_shown
 *     remarks[]           remark (word), text, count, packet (of the first), detail
 *
 * {"type":"flow"}     one for each attempt that had a connection
 *     attempt             number from 1, joins flow, event and verdict lines of this output
 *     flow                number of the TCP connection
 *     community_id        joins the connection with records of Zeek, Suricata and Arkime
 *     first, last, duration, midstream, established, interface
 *     evidence            how it is known who called: syn, synack, content, port, none
 *     end                 open, fin, rst, refused, unanswered, icmp, idle, capture-end, evicted
 *     remarks[]           words
 *     initiator{}, responder{}     address, port, domain, bytes, packets, retransmitted, lost,
 *                         first, last
 *     tls{} or null       established, version, cipher, sni, alpn, starttls, resumed, decrypted,
 *                         why_closed, client_proof, client_proof_how, alert, alert_from,
 *                         alert_packet, records_initiator, records_responder,
 *                         server_certificate{}, client_certificate{} (or null): subject, issuer,
 *                         names, not_before, not_after, self_signed, chain_length, sha256
 *     stream{}            from, to, id, features, bidi, stream_management, trunk, error,
 *                         error_text, error_from, error_packet
 *     stanzas{}           initiator{}, responder{}: message, presence, iq, errors
 *
 * {"type":"event"}    what happened in an attempt, in order
 *     attempt, flow, community_id, packet, time
 *     offset              seconds since the first packet
 *     event               tcp-syn, tcp-open, tcp-refused, tcp-fin, tcp-rst, icmp, gap,
 *                         tls-client-hello, tls-server-hello, tls-certificate, tls-established,
 *                         tls-alert, tls-data, stream-header, features, element, stanza,
 *                         stream-error, stream-end, xml-bad, dns
 *     element             of event element and stanza: starttls, auth, db-result, message ...
 *     side                initiator, responder: who sent it
 *     cover               plain, handshake, decrypted, encrypted
 *     from, to            user and resource are "***" without --show-content
 *     what, text          type, condition, mechanism, names ...; words of the other side
 *
 * {"type":"event","event":"dns-question"}     after the attempts, one for each question
 *     attempt, flow, community_id                 null
 *     packet, time, answer_packet, answer, client, server, record (SRV, A, AAAA), name, domain,
 *     service, result, alias, asked, answered
 *     targets[]           host, port, priority, weight, address
 *
 * {"type":"verdict"}  "about" says of what
 *     about "attempt"     attempt, flow, community_id, row (5269-in, 5269-out, 23456-in, other),
 *                         direction (in, out, unknown), outcome (worked, failed, cannot-tell),
 *                         reached, reached_inferred, cause, cause_inferred, setback, fault
 *                         (initiator, responder, null), story, words, said_by, remedy, forward,
 *                         method, keys_would_help, verify_only, domains_by_dns, joined (flow),
 *                         violations[], suspected[], proofs[]: packet, time, what
 *     about "row"         row, number, service, source, destination, observed, state (not seen,
 *                         works, partly, fails, unclear), ruling (conforms, violates, cannot-tell),
 *                         why, attempted, established, working, failed, unknown, stanzas,
 *                         mutual_tls_proven, mutual_tls_inferred, failed_by{} (cause: count),
 *                         violations{} (kind: count)
 *     about "violation"   kind, text, remedy, row, suspected, flow, packet, time, source,
 *                         destination, port, detail
 *     about "partner"     ours, theirs, inner, direction_known (false: `ours` is the caller, and
 *                         only `out` is used), in{}, out{}: attempts, worked, failed, unknown,
 *                         verifies, reached, reached_inferred, method, tls_version, cipher,
 *                         client_certificate, message, presence, iq, stanza_errors, last_cause,
 *                         last_words, last_failure, first, last
 *     about "cause"       kind (failed, setback), cause, what, count, row, direction, ours,
 *                         partner, first, last, first_attempt, story, words, remedy, forward
 *                         (complete sentences to send to the partner)
 *     about "summary"     worked, failed, unknown, exit_status, missing_rows, result,
 *                         attempts_left_out, partners_left_out, dns_left_out, failed_by{}
 */
#include "report.h"

struct json {
    FILE *to;
    bool  comma;     /* something stands before in this object or list */
};

/* RFC 8259 7.  Valid UTF-8 whatever comes in; characters that cannot be seen are escaped. */
static void
json_quoted(struct json *j, const char *s)
{
    const char *end = s + strlen(s);
    uint32_t c = 0;
    int n;
    fputc('"', j->to);
    /* 0: it was cut, not damaged */
    for (; s < end && (n = xe_utf8(s, end, &c)) != 0; s += n > 0 ? n : 1) {
        if (n < 0)
            fprintf(j->to, "\\\\x%02x", (unsigned)(unsigned char)*s);
        else if (c == '"' || c == '\\')
            fprintf(j->to, "\\%c", (char)c);
        else if (xe_is_visible(c))
            fwrite(s, 1, (size_t)n, j->to);
        else if (c < 0x10000)
            fprintf(j->to, "\\u%04lx", (unsigned long)c);
        else
            fprintf(j->to, "\\u%04lx\\u%04lx", 0xd7c0 + ((unsigned long)c >> 10),
                0xdc00 | ((unsigned long)c & 0x3ff));
    }
    fputc('"', j->to);
}

static void
json_key(struct json *j, const char *key)
{
    if (j->comma)
        fputc(',', j->to);
    j->comma = true;
    if (key != NULL)
        fprintf(j->to, "\"%s\":", key);
}

static void
json_open(struct json *j, const char *key, char bracket)
{
    json_key(j, key);
    fputc(bracket, j->to);
    j->comma = false;
}

static void
json_close(struct json *j, char bracket)
{
    fputc(bracket, j->to);
    j->comma = true;
}

static void
json_text(struct json *j, const char *key, const char *s)
{
    json_key(j, key);
    json_quoted(j, s);
}

static void
json_number(struct json *j, const char *key, uint64_t n)
{
    json_key(j, key);
    fprintf(j->to, "%llu", (unsigned long long)n);
}

static void
json_null(struct json *j, const char *key)
{
    json_key(j, key);
    fputs("null", j->to);
}

/* 0 stands for "none". */
static void
json_number_or_null(struct json *j, const char *key, uint64_t n)
{
    if (n == 0)
        json_null(j, key);
    else
        json_number(j, key, n);
}

static void
json_bool(struct json *j, const char *key, bool yes)
{
    json_key(j, key);
    fputs(yes ? "true" : "false", j->to);
}

/* Both forms of a time; "": it is not known. */
static void
json_moment(struct json *j, const char *key, const char *stamp, int64_t seconds, int64_t ns)
{
    char epoch[64];
    snprintf(epoch, sizeof epoch, "%s_epoch", key);
    if (stamp[0] == '\0') {
        json_null(j, key);
        json_null(j, epoch);
        return;
    }
    json_text(j, key, stamp);
    json_key(j, epoch);
    fprintf(j->to, "%lld.%09lld", (long long)seconds, (long long)ns);
}

static void
json_time(struct json *j, const char *key, int64_t ns)
{
    json_moment(j, key, ns <= 0 ? "" : STAMP(ns, STAMP_ISO), ns / SECOND, ns % SECOND);
}

static void
json_time_seconds(struct json *j, const char *key, int64_t seconds)
{
    char stamp[STAMP_MAX];
    json_moment(j, key, stamp_seconds(seconds, stamp), seconds, 0);
}

static void
json_seconds(struct json *j, const char *key, int64_t ns)
{
    bool minus = ns < 0;
    ns = minus ? -ns : ns;
    json_key(j, key);
    fprintf(j->to, "%s%lld.%09lld", minus ? "-" : "", (long long)(ns / SECOND),
        (long long)(ns % SECOND));
}

static void
json_address(struct json *j, const char *key, const struct address *a)
{
    json_text(j, key, ENDPOINT(a, 0));
}

static void
json_begin(struct json *j, const char *type)
{
    j->comma = false;
    fputc('{', j->to);
    json_text(j, "type", type);
}

static void
json_end(struct json *j)
{
    fputs("}\n", j->to);
}

/* What joins the lines of one attempt. */
static void
json_attempt_key(struct json *j, const struct attempt *a, size_t number)
{
    char community[COMMUNITY_MAX];
    json_number(j, "attempt", number);
    json_number_or_null(j, "flow", a->flow.number);
    if (community_of(&a->flow, community)[0] != '\0')
        json_text(j, "community_id", community);
    else
        json_null(j, "community_id");
}

static const char *
side_word(int side)
{
    return side == 0 ? "initiator" : "responder";
}

static void
json_side(struct json *j, const char *key, int side)
{
    if (side == 0 || side == 1)
        json_text(j, key, side_word(side));
    else
        json_null(j, key);
}

/* ---- capture ---- */

static void
json_files(struct json *j, const struct report *r)
{
    static const char *const formats[] = { "pcap", "pcapng", "live" };
    size_t i;
    json_open(j, "files", '[');
    for (i = 0; i < r->nfiles; i++) {
        const struct capture_file *f = &r->files[i];
        json_open(j, NULL, '{');
        json_text(j, "name", f->name);
        json_text(j, "format", formats[f->format]);
        json_number(j, "packets", f->frames);
        json_number(j, "bytes", f->bytes);
        json_time(j, "first", f->first_ns);
        json_time(j, "last", f->last_ns);
        json_bool(j, "cut", f->cut);
        json_bool(j, "damaged", f->damaged);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void
json_interfaces(struct json *j, const struct report *r)
{
    size_t i;
    json_open(j, "interfaces", '[');
    for (i = 0; i < r->ninterfaces; i++) {
        const struct capture_interface *f = &r->interfaces[i];
        json_open(j, NULL, '{');
        json_number(j, "file", f->file);
        json_text(j, "name", f->name);
        json_text(j, "description", f->description);
        json_number(j, "link_type", (uint64_t)f->link);
        json_number(j, "snaplen", f->snaplen);
        json_number(j, "packets", f->frames);
        json_number(j, "drops", f->drops);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void
json_addresses(struct json *j, const char *key, const struct address *list, size_t n)
{
    size_t i;
    json_open(j, key, '[');
    for (i = 0; i < n; i++)
        json_address(j, NULL, &list[i]);
    json_close(j, ']');
}

static void
json_remarks(struct json *j, const struct report *r)
{
    int k;
    json_open(j, "remarks", '[');
    for (k = 0; k < REMARK_COUNT; k++) {
        if (r->remarks[k] == 0)
            continue;
        json_open(j, NULL, '{');
        json_text(j, "remark", remark_word((enum remark)k));
        json_text(j, "text", remark_text((enum remark)k));
        json_number(j, "count", r->remarks[k]);
        json_number_or_null(j, "packet", r->remark_frame[k]);
        json_text(j, "detail", r->remark_detail[k]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void
json_capture(struct json *j, const struct report *r)
{
    json_begin(j, "capture");
    json_number(j, "schema", 1);
    json_text(j, "program", "xmppedge-analyze");
    json_text(j, "version", XE_VERSION);
    json_files(j, r);
    json_interfaces(j, r);
    json_number(j, "packets", r->packets);
    json_number(j, "connections", r->flows);
    json_number(j, "attempts", r->flows_xmpp);
    json_number(j, "attempts_listed", r->nattempts);
    json_number(j, "dns_messages", r->dns_messages);
    json_time(j, "first", r->first_ns);
    json_time(j, "last", r->last_ns);
    json_addresses(j, "external", r->external, r->nexternal);
    json_text(j, "external_source", known_word(r->external_known));
    json_addresses(j, "internal", r->internal, r->ninternal);
    json_text(j, "internal_source", known_word(r->internal_known));
    json_text(j, "addresses_why", r->addresses_why);
    json_number(j, "external_port", r->external_port);
    json_number(j, "internal_port", r->internal_port);
    json_bool(j, "keys_given", r->keys_given);
    json_number(j, "keys_used", r->keys_used);
    json_number(j, "keys_unused", r->keys_unused);
    json_bool(j, "keys_would_help", r->keys_would_help);
    json_bool(j, "damaged", r->damaged);
    json_bool(j, "content_shown", r->show_content);
    json_remarks(j, r);
    json_end(j);
}

/* ---- flow ---- */

static void
json_flow_side(struct json *j, const struct attempt *a, int side)
{
    const struct flow_side *s = &a->flow.side[side];
    json_open(j, side_word(side), '{');
    json_address(j, "address", &s->address);
    json_number(j, "port", s->port);
    json_text(j, "domain", attempt_domain(a, side));
    json_number(j, "bytes", s->bytes);
    json_number(j, "packets", s->packets);
    json_number(j, "retransmitted", s->retransmitted);
    json_number(j, "lost", s->lost);
    json_time(j, "first", s->first_ns);
    json_time(j, "last", s->last_ns);
    json_close(j, '}');
}

static void
json_certificate(struct json *j, const char *key, const struct cert *c)
{
    if (c == NULL) {
        json_null(j, key);
        return;
    }
    json_open(j, key, '{');
    json_text(j, "subject", c->subject);
    json_text(j, "issuer", c->issuer);
    json_text(j, "names", c->names);
    json_time_seconds(j, "not_before", c->not_before);
    json_time_seconds(j, "not_after", c->not_after);
    json_bool(j, "self_signed", c->self_signed);
    json_number(j, "chain_length", c->chain_length);
    json_text(j, "sha256", c->fingerprint);
    json_close(j, '}');
}

static void
json_tls(struct json *j, const struct attempt *a)
{
    const struct tls_view *v = &a->tls;
    if (!v->client_hello && a->content != CONTENT_TLS) {
        json_null(j, "tls");
        return;
    }
    json_open(j, "tls", '{');
    json_bool(j, "established", v->established);
    json_text(j, "version", v->version == 0 ? "" : tls_version_name(v->version));
    json_text(j, "cipher", v->cipher_name);
    json_text(j, "sni", a->sni);
    json_text(j, "alpn", a->alpn);
    json_bool(j, "starttls", a->starttls);
    json_bool(j, "resumed", v->resumed);
    json_bool(j, "decrypted", v->decrypted);
    json_text(j, "why_closed", v->why_closed);
    json_text(j, "client_proof", tls_proof_word(v->proof));
    json_text(j, "client_proof_how", v->proof_how);
    json_text(j, "alert", v->alert_side < 0 ? "" : xe_alert_name(v->alert));
    json_side(j, "alert_from", v->alert_side);
    json_number_or_null(j, "alert_packet", v->alert_frame);
    json_number(j, "records_initiator", v->app_records[0]);
    json_number(j, "records_responder", v->app_records[1]);
    json_certificate(j, "server_certificate", v->server);
    json_certificate(j, "client_certificate", v->client);
    json_close(j, '}');
}

static void
json_stream(struct json *j, const struct attempt *a)
{
    json_open(j, "stream", '{');
    json_text(j, "from", a->from);
    json_text(j, "to", a->to);
    json_text(j, "id", a->id);
    json_text(j, "features", a->features);
    json_bool(j, "bidi", a->bidi);
    json_bool(j, "stream_management", a->sm);
    json_bool(j, "trunk", a->trunk);
    json_text(j, "error", a->error);
    json_text(j, "error_text", a->error_text);
    json_side(j, "error_from", a->error_side);
    json_number_or_null(j, "error_packet", a->error_frame);
    json_close(j, '}');
}

static void
json_kinds(struct json *j, const uint64_t stanzas[3])
{
    json_number(j, "message", stanzas[0]);
    json_number(j, "presence", stanzas[1]);
    json_number(j, "iq", stanzas[2]);
}

static void
json_stanzas(struct json *j, const struct attempt *a)
{
    int side;
    json_open(j, "stanzas", '{');
    for (side = 0; side < 2; side++) {
        json_open(j, side_word(side), '{');
        json_kinds(j, a->stanzas[side]);
        json_number(j, "errors", a->stanza_errors[side]);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void
json_flow(struct json *j, const struct report *r, size_t i)
{
    const struct attempt *a = r->attempts[i];
    const struct flow *f = &a->flow;
    int k;
    json_begin(j, "flow");
    json_attempt_key(j, a, i + 1);
    json_time(j, "first", f->first_ns);
    json_time(j, "last", f->last_ns);
    json_seconds(j, "duration", f->last_ns - f->first_ns);
    json_text(j, "evidence", flow_evidence_word(f->evidence));
    json_bool(j, "midstream", f->midstream);
    json_bool(j, "established", f->established);
    json_text(j, "end", flow_end_word(f->end));
    json_number(j, "interface", f->interface);
    json_open(j, "remarks", '[');
    for (k = 0; k < REMARK_COUNT; k++)
        if (((a->remarks | f->remarks) & 1u << k) != 0)
            json_text(j, NULL, remark_word((enum remark)k));
    json_close(j, ']');
    json_flow_side(j, a, 0);
    json_flow_side(j, a, 1);
    json_tls(j, a);
    json_stream(j, a);
    json_stanzas(j, a);
    json_end(j);
}

/* ---- event ---- */

static void
json_jid(struct json *j, const char *key, const char *jid, bool show, struct text *room)
{
    text_clear(room);
    text_jid(room, jid, show);
    json_text(j, key, room->at);
}

static void
json_events(struct json *j, const struct report *r, size_t i)
{
    const struct attempt *a = r->attempts[i];
    struct ladder l = ladder_begin(a);
    struct text room = { NULL, 0, 0 };
    struct rung g;
    while (ladder_next(&l, &g)) {
        const struct event *e = g.e;
        bool element = e->kind == EVENT_ELEMENT || e->kind == EVENT_STANZA;
        bool show = r->show_content || e->kind != EVENT_STANZA;
        json_begin(j, "event");
        json_attempt_key(j, a, i + 1);
        json_number_or_null(j, "packet", e->frame);
        json_time(j, "time", e->time_ns);
        json_seconds(j, "offset", e->time_ns - a->flow.first_ns);
        json_text(j, "event", event_word(e->kind));
        json_text(j, "element", element ? xe_element_kind_name(e->element) : "");
        json_text(j, "side", side_word(e->side));
        json_text(j, "cover", cover_word(g.cover));
        json_jid(j, "from", e->from, r->show_content || e->kind == EVENT_TLS_CERT, &room);
        json_jid(j, "to", e->to, r->show_content, &room);
        json_text(j, "what", e->what);
        json_text(j, "text", show ? e->text : "");
        json_end(j);
    }
    text_free(&room);
}

static void
json_targets(struct json *j, const struct dns_fact *f)
{
    unsigned i;
    json_open(j, "targets", '[');
    for (i = 0; i < f->ntargets; i++) {
        json_open(j, NULL, '{');
        json_text(j, "host", f->targets[i].host);
        json_number(j, "port", f->targets[i].port);
        json_number(j, "priority", f->targets[i].priority);
        json_number(j, "weight", f->targets[i].weight);
        json_address(j, "address", &f->targets[i].address);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void
json_dns(struct json *j, const struct dns_fact *f)
{
    json_begin(j, "event");
    json_null(j, "attempt");
    json_null(j, "flow");
    json_null(j, "community_id");
    json_text(j, "event", "dns-question");
    json_number_or_null(j, "packet", f->query_frame);
    json_time(j, "time", f->query_ns);
    json_number_or_null(j, "answer_packet", f->answer_frame);
    json_time(j, "answer", f->answer_ns);
    json_address(j, "client", &f->client);
    json_address(j, "server", &f->server);
    json_text(j, "record", dns_type_word(f->type));
    json_text(j, "name", f->name);
    json_text(j, "domain", f->domain);
    json_text(j, "service", f->service);
    json_text(j, "result", dns_result_word(f->result));
    json_text(j, "alias", f->alias);
    json_number(j, "asked", f->asked);
    json_number(j, "answered", f->answered);
    json_targets(j, f);
    json_end(j);
}

/* ---- verdict ---- */

static void
json_verdict_begin(struct json *j, const char *about)
{
    json_begin(j, "verdict");
    json_text(j, "about", about);
}

static void
json_violation_list(struct json *j, const char *key, uint32_t bits)
{
    int k;
    json_open(j, key, '[');
    for (k = 0; k < VIOLATION_COUNT; k++)
        if ((bits & 1u << k) != 0)
            json_text(j, NULL, violation_word((enum violation_kind)k));
    json_close(j, ']');
}

static void
json_cause(struct json *j, const char *key, enum cause c)
{
    json_text(j, key, c == CAUSE_NONE ? "" : cause_row(c)->word);
}

static void
json_proofs(struct json *j, const struct verdict *v)
{
    unsigned i;
    json_open(j, "proofs", '[');
    for (i = 0; i < v->nproofs; i++) {
        json_open(j, NULL, '{');
        json_number_or_null(j, "packet", v->proofs[i].frame);
        json_time(j, "time", v->proofs[i].time_ns);
        json_text(j, "what", v->proofs[i].what);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void
json_attempt(struct json *j, const struct report *r, size_t i)
{
    const struct attempt *a = r->attempts[i];
    const struct verdict *v = a->verdict;
    json_verdict_begin(j, "attempt");
    json_attempt_key(j, a, i + 1);
    json_text(j, "row", row_word(v->row));
    json_text(j, "direction", direction_word(v->direction));
    json_text(j, "outcome", outcome_word(v->outcome));
    json_text(j, "reached", reach_word(v->reached));
    json_bool(j, "reached_inferred", v->reach_inferred);
    json_cause(j, "cause", v->cause);
    json_bool(j, "cause_inferred", v->cause_inferred);
    json_cause(j, "setback", v->setback);
    json_side(j, "fault", v->fault);
    json_text(j, "story", v->story);
    json_text(j, "words", v->words);
    json_side(j, "said_by", v->said_by);
    json_text(j, "remedy", v->remedy);
    json_text(j, "forward", v->forward);
    json_text(j, "method", v->method);
    json_bool(j, "keys_would_help", v->keys_would_help);
    json_bool(j, "verify_only", v->verify_only);
    json_bool(j, "domains_by_dns", v->domains_by_dns);
    json_number_or_null(j, "joined", v->joined);
    json_violation_list(j, "violations", v->violations);
    json_violation_list(j, "suspected", v->suspected);
    json_proofs(j, v);
    json_end(j);
}

static void
json_failed_by(struct json *j, const uint64_t failed_by[CAUSE_COUNT])
{
    int c;
    json_open(j, "failed_by", '{');
    for (c = 0; c < CAUSE_COUNT; c++)
        if (failed_by[c] > 0)
            json_number(j, cause_row((enum cause)c)->word, failed_by[c]);
    json_close(j, '}');
}

static void
json_row(struct json *j, const struct report *r, enum row row, struct text *room)
{
    const struct report_row *w = &r->rows[row];
    struct row_face f = row_face(r, row, room);
    int k;
    json_verdict_begin(j, "row");
    json_text(j, "row", row_word(row));
    json_number_or_null(j, "number", (uint64_t)row);
    json_text(j, "service", f.service);
    json_text(j, "source", f.source);
    json_text(j, "destination", f.target);
    json_bool(j, "observed", w->observed);
    json_text(j, "state", row_state_word(row_state(w)));
    json_text(j, "ruling", ruling_word(w->ruling));
    json_text(j, "why", w->why);
    json_number(j, "attempted", w->attempted);
    json_number(j, "established", w->established);
    json_number(j, "working", w->working);
    json_number(j, "failed", w->failed);
    json_number(j, "unknown", w->unknown);
    json_number(j, "stanzas", w->stanzas);
    json_number(j, "mutual_tls_proven", w->mtls_proven);
    json_number(j, "mutual_tls_inferred", w->mtls_inferred);
    json_failed_by(j, w->failed_by);
    json_open(j, "violations", '{');
    for (k = 0; k < VIOLATION_COUNT; k++)
        if (w->violations[k] > 0)
            json_number(j, violation_word((enum violation_kind)k), w->violations[k]);
    json_close(j, '}');
    json_end(j);
}

static void
json_violation(struct json *j, const struct report_violation *v)
{
    json_verdict_begin(j, "violation");
    json_text(j, "kind", violation_word(v->kind));
    json_text(j, "text", violation_text(v->kind));
    json_text(j, "remedy", violation_remedy(v->kind));
    json_text(j, "row", row_word(v->row));
    json_bool(j, "suspected", v->suspected);
    json_number_or_null(j, "flow", v->flow);
    json_number_or_null(j, "packet", v->frame);
    json_time(j, "time", v->time_ns);
    json_address(j, "source", &v->source);
    json_address(j, "destination", &v->target);
    json_number(j, "port", v->port);
    json_text(j, "detail", v->detail);
    json_end(j);
}

static void
json_way(struct json *j, const char *key, const struct report_way *w)
{
    json_open(j, key, '{');
    json_number(j, "attempts", w->attempts);
    json_number(j, "worked", w->worked);
    json_number(j, "failed", w->failed);
    json_number(j, "unknown", w->unknown);
    json_number(j, "verifies", w->verifies);
    json_text(j, "reached", reach_word(w->reached));
    json_bool(j, "reached_inferred", w->reach_inferred);
    json_text(j, "method", w->method);
    json_text(j, "tls_version", w->tls_version == 0 ? "" : tls_version_name(w->tls_version));
    json_text(j, "cipher", w->cipher);
    json_bool(j, "client_certificate", w->client_cert);
    json_kinds(j, w->stanzas);
    json_number(j, "stanza_errors", w->stanza_errors);
    json_cause(j, "last_cause", w->last_cause);
    json_text(j, "last_words", w->last_words);
    json_time(j, "last_failure", w->last_failure_ns);
    json_time(j, "first", w->first_ns);
    json_time(j, "last", w->last_ns);
    json_close(j, '}');
}

static void
json_partner(struct json *j, const struct report_partner *q)
{
    json_verdict_begin(j, "partner");
    json_text(j, "ours", q->ours);
    json_text(j, "theirs", q->theirs);
    json_bool(j, "inner", q->kind == PAIR_INNER);
    json_bool(j, "direction_known", q->kind != PAIR_UNPLACED);
    json_way(j, "in", &q->in);
    json_way(j, "out", &q->out);
    json_end(j);
}

static void
json_group(struct json *j, const struct group *g, const char *kind, struct text *room)
{
    const struct attempt *a = g->first;
    const struct verdict *v = a->verdict;
    const char *partner = group_partner(g);
    json_verdict_begin(j, "cause");
    json_text(j, "kind", kind);
    json_cause(j, "cause", g->cause);
    json_text(j, "what", cause_row(g->cause)->what);
    json_number(j, "count", g->count);
    json_text(j, "row", row_word(v->row));
    json_text(j, "direction", direction_word(v->direction));
    json_text(j, "ours", partner == a->to ? a->from : a->to);
    json_text(j, "partner", partner);
    json_time(j, "first", a->flow.first_ns);
    json_time(j, "last", g->last->flow.first_ns);
    json_number(j, "first_attempt", g->index + 1);
    json_text(j, "story", v->story);
    json_text(j, "words", v->words);
    json_text(j, "remedy", v->remedy);
    group_forward(room, g);
    json_text(j, "forward", room->at);
    json_end(j);
}

static void
json_groups(struct json *j, const struct report *r, enum group_kind kind, struct text *room)
{
    size_t n = 0, i;
    struct group *list = report_groups(r, kind, &n);
    for (i = 0; i < n; i++)
        json_group(j, &list[i], kind == GROUP_FAILED ? "failed" : "setback", room);
    free(list);
}

static void
json_summary(struct json *j, const struct report *r, struct text *room)
{
    json_verdict_begin(j, "summary");
    json_number(j, "worked", r->worked);
    json_number(j, "failed", r->failed);
    json_number(j, "unknown", r->unknown);
    json_number(j, "exit_status", (uint64_t)r->exit_code);
    json_text(j, "missing_rows", r->missing_rows);
    report_result(room, r);
    json_text(j, "result", room->at);
    json_number(j, "attempts_left_out", r->attempts_left_out);
    json_number(j, "partners_left_out", r->partners_left_out);
    json_number(j, "dns_left_out", r->dns_left_out);
    json_failed_by(j, r->failed_by);
    json_end(j);
}

int
report_json(const struct report *r, FILE *to)
{
    struct json j = { to, false };
    struct text room = { NULL, 0, 0 };
    size_t i;
    json_capture(&j, r);
    for (i = 0; i < r->nattempts; i++) {
        if (attempt_has_number(r->attempts[i]))
            json_flow(&j, r, i);
        json_events(&j, r, i);
        json_attempt(&j, r, i);
    }
    for (i = 0; i < r->ndns; i++)
        json_dns(&j, &r->dns[i]);
    for (i = 0; i < ROW_COUNT; i++)
        json_row(&j, r, report_rows[i], &room);
    for (i = 0; i < r->nviolations; i++)
        json_violation(&j, &r->violations[i]);
    for (i = 0; i < r->npartners; i++)
        json_partner(&j, &r->partners[i]);
    json_groups(&j, r, GROUP_FAILED, &room);
    json_groups(&j, r, GROUP_SETBACK, &room);
    json_summary(&j, r, &room);
    text_free(&room);
    return fflush(to) != 0 || ferror(to) != 0 ? -1 : 0;
}
