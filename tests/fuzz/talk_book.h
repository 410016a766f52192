/* talk_book.h -- what was proven on which connection, and what may therefore go where
 *
 * Kept beside the instance and without asking it: from the certificates that we showed, from what
 * we said, and from what it said.  Where it is not exact it believes too much, never too little;
 * who is deaf does not hear what to believe, and is left out.
 *
 *   a domain is proven      on an accepted connection, by a certificate that is good for it or by
 *                           `valid` from the address of its authoritative server, about the stream
 *                           identifier of this connection, before the stanza was said
 *   a server is proven      on a dialled connection: it has the address of the domain, and has said
 *                           <success/> with a good certificate, or that our key is `valid`
 *   a trunk is proven       by the certificate of a gateway or an edge of ours
 *
 * Every stanza that we say gets a mark.  Wherever a mark comes out, it was proven that it may, and
 * it comes out once, and not when it was said after the instance had ended the stream. */
#ifndef TALK_BOOK_H
#define TALK_BOOK_H

#define BOOK_MARKS  512
#define BOOK_PROOFS 64

/* What is believed in one world, beside the addresses that all have. */
struct book_rules {
    bool gateway;
    bool needs_tls;        /* nothing counts without */
    bool dialback;         /* counts at all */
    const char *echo;      /* a domain that the instance answers for; NULL: none */
};

struct book_peer {
    bool        trunk_port;       /* connected to 23456 */
    bool        pilot;            /* a trunk of the runner's, up from the beginning */
    char        cert[16];         /* what we showed in a handshake that was completed */
    char        id[STREAM_ID_MAX];   /* of the stream that the instance has accepted */
    char        local[XE_DOMAIN_MAX];   /* of its last header there */
    char        remote[XE_DOMAIN_MAX];
    char        asked_id[STREAM_ID_MAX];   /* in its last dialback question */
    struct buf  said;             /* by us */
    size_t      read;             /* of it */
    bool        success;          /* said by whoever has accepted the stream */
    bool        failed;           /* the instance has said a stream error */
    bool        closed;           /* and its end tag: no byte comes any more */
    unsigned    depth;            /* of what it says */
    size_t      looked;           /* at so much of it */
};

/* Somebody has said so about a pair: the authoritative server about our caller, the instance on an
 * accepted connection, or a server that it has dialled about its key. */
enum book_word { BOOK_VERIFIED, BOOK_GRANTED, BOOK_ACCEPTED };

struct book_proof {
    enum book_word word;
    size_t         peer;
    unsigned       step;
    char           remote[XE_DOMAIN_MAX];
    char           local[XE_DOMAIN_MAX];
};

struct book_mark {
    size_t   peer;                /* who has said it */
    unsigned step;
    bool     late;                /* after a stream error */
    bool     out;                 /* it has come out */
    size_t   at;                  /* there */
    bool     answered;            /* and was acknowledged */
};

static struct {
    struct book_rules rules;
    unsigned          step;
    struct book_peer  peers[TALK_PEERS];
    struct book_proof proofs[BOOK_PROOFS];
    size_t            nproofs;
    struct book_mark  marks[BOOK_MARKS];
    size_t            nmarks;
    unsigned long     came_out;   /* in all inputs */
} book;

/* ---- tags ---- */

/* Where the tag at text.at[0] ends, behind its '>'; 0: not here. */
static size_t
book_tag_end(struct xe_span text)
{
    char quote = 0;
    size_t i;
    for (i = 1; i < text.len; i++) {
        char c = text.at[i];
        if (quote != 0)
            quote = c == quote ? 0 : quote;
        else if (c == '\'' || c == '"')
            quote = c;
        else if (c == '>')
            return i + 1;
    }
    return 0;
}

static bool
book_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct xe_span
book_skip_space(struct xe_span s)
{
    while (s.len > 0 && book_is_space(s.at[0]))
        s = span_skip(s, 1);
    return s;
}

/* The name of a tag, with its prefix, and with the slash of an end tag. */
static struct xe_span
book_tag_name(struct xe_span tag)
{
    size_t n = 1;
    while (n < tag.len && !book_is_space(tag.at[n]) && tag.at[n] != '>'
        && (tag.at[n] != '/' || n == 1))
        n++;
    return span_make(tag.at + 1, n - 1);
}

/* The same without a prefix. */
static bool
book_tag_is(struct xe_span tag, const char *name)
{
    struct xe_span s = book_tag_name(tag);
    size_t colon = span_find(s, ':');
    return span_is(colon < s.len ? span_skip(s, colon + 1) : s, name);
}

/* The value of an attribute as it is written; at NULL: it has none. */
static struct xe_span
book_attr(struct xe_span tag, const char *name)
{
    struct xe_span s = span_skip(tag, 1 + book_tag_name(tag).len);
    for (;;) {
        struct xe_span found;
        size_t n;
        s = book_skip_space(s);
        for (n = 0; n < s.len && s.at[n] != '=' && !book_is_space(s.at[n]); n++)
            continue;
        found = span_make(s.at, n);
        s = book_skip_space(span_skip(s, n));
        if (s.len < 2 || s.at[0] != '=')
            return span_make(NULL, 0);
        s = book_skip_space(span_skip(s, 1));
        if (s.len == 0 || (s.at[0] != '\'' && s.at[0] != '"'))
            return span_make(NULL, 0);
        n = span_find(span_skip(s, 1), s.at[0]);
        if (span_is(found, name))
            return span_make(s.at + 1, n);
        s = span_skip(s, n + 2 < s.len ? n + 2 : s.len);
    }
}

/* The domain of an address in an attribute; "" when there is none. */
static void
book_domain(struct xe_span tag, const char *name, char out[XE_DOMAIN_MAX])
{
    char text[3 * 1024];
    struct xe_span domain = s2s_address_domain(book_attr(tag, name), text, sizeof text);
    size_t len = 0;
    if (domain.at == NULL || !jid_address_normal(domain, out, &len))
        len = 0;
    out[len] = '\0';
}

/* ---- who is who ---- */

static bool
book_is_one_of(const char *word, const char *const words[], size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

#define BOOK_IS_ONE_OF(word, words) book_is_one_of(word, words, sizeof words / sizeof *words)

static bool
book_is_inner(const char *domain)
{
    static const char *const inner[] = { "near.example", "also.near.example" };
    return BOOK_IS_ONE_OF(domain, inner)
        || (!book.rules.gateway && strcmp(domain, "only.near.example") == 0);
}

/* A gateway asks nobody who the partners are: its edges have. */
static bool
book_is_partner(const char *domain)
{
    static const char *const far[] = { "far.example", "two.far.example", "three.far.example",
        "other.example" };
    return BOOK_IS_ONE_OF(domain, far) || (book.rules.gateway && domain[0] != '\0'
        && !book_is_inner(domain));
}

/* Where a server of the domain is; "" when there is none. */
static const char *
book_address(const char *domain)
{
    if (book.rules.gateway)
        return book_is_inner(domain) ? "127.0.0.5:5269" : "";
    if (strcmp(domain, "other.example") == 0)
        return "127.0.0.3:5269";
    return book_is_partner(domain) ? "127.0.0.2:5269" : "";
}

static const char *
book_cert_domains(const char *cert)
{
    static const char *const domains[][2] = { { "far", " far.example " },
        { "two", " two.far.example " }, { "both", " far.example two.far.example " },
        { "wild", " two.far.example three.far.example " }, { "srv", " far.example " },
        { "xmpp", " far.example " }, { "server", " far.example " }, { "middle", " far.example " },
        { "revoked", " far.example " }, { "big", " far.example " } };
    size_t i;
    for (i = 0; i < sizeof domains / sizeof *domains; i++)
        if (strcmp(cert, domains[i][0]) == 0)
            return domains[i][1];
    return "";
}

/* Is the certificate shown there good for the domain?  Inner servers are not known by theirs. */
static bool
book_certified(size_t peer, const char *domain)
{
    char word[XE_DOMAIN_MAX + 2];
    snprintf(word, sizeof word, " %s ", domain);
    return !book.rules.gateway && domain[0] != '\0'
        && strstr(book_cert_domains(book.peers[peer].cert), word) != NULL;
}

static bool
book_has_said(enum book_word what, size_t peer, const char *remote, const char *local,
    unsigned before)
{
    size_t i;
    for (i = 0; i < book.nproofs; i++) {
        const struct book_proof *p = &book.proofs[i];
        if (p->word == what && p->peer == peer && p->step < before
            && strcmp(p->remote, remote) == 0 && strcmp(p->local, local) == 0)
            return true;
    }
    return false;
}

static void
book_add(enum book_word word, size_t peer, const char *remote, const char *local)
{
    struct book_proof *p = &book.proofs[book.nproofs];
    if (remote[0] == '\0' || local[0] == '\0'
        || book_has_said(word, peer, remote, local, UINT_MAX))
        return;
    must(book.nproofs < BOOK_PROOFS, "the book has room");
    book.nproofs++;
    p->word = word;
    p->peer = peer;
    p->step = book.step;
    snprintf(p->remote, sizeof p->remote, "%s", remote);
    snprintf(p->local, sizeof p->local, "%s", local);
}

/* A trunk of the runner's: of what it says only stanzas are kept, without a header. */
static void
book_note_pilot(size_t peer)
{
    book.peers[peer].pilot = true;
    book.peers[peer].depth = 1;
}

/* ---- what is proven ---- */

/* Is this the connection of a gateway, or on a gateway the connection to its edge? */
static bool
book_is_trunk(size_t peer)
{
    const struct book_peer *p = &book.peers[peer];
    static const char *const gateways[] = { "fe", "fe2" };
    if (p->pilot)
        return true;
    if (book.rules.gateway)
        return strcmp(talk.peers[peer].target, "127.0.0.4:23456") == 0
            && strcmp(p->cert, "edge") == 0;
    return p->trunk_port && BOOK_IS_ONE_OF(p->cert, gateways);
}

/* Is the inner domain behind this trunk?  One is behind fe2 alone. */
static bool
book_trunk_serves(size_t peer, const char *domain)
{
    bool fe2 = strcmp(book.peers[peer].cert, "fe2") == 0;
    return book_is_trunk(peer) && (book.rules.gateway ? book_is_partner(domain)
        : book_is_inner(domain) && (strcmp(domain, "only.near.example") != 0 || fe2));
}

/* May an accepted connection send from `remote` to `local` what it has said in `step`? */
static bool
book_pair_proven(size_t peer, const char *remote, const char *local, unsigned step)
{
    const struct book_peer *p = &book.peers[peer];
    bool sasl = p->success && strcmp(p->remote, remote) == 0 && strcmp(p->local, local) == 0;
    bool known = book.rules.gateway ? book_is_inner(remote) && book_is_partner(local)
        : book_is_partner(remote) && (book_is_inner(local)
            || (book.rules.echo != NULL && strcmp(local, book.rules.echo) == 0));
    if (!known || p->trunk_port || talk.peers[peer].target[0] != '\0'
        || (book.rules.needs_tls && p->cert[0] == '\0'))
        return false;
    if (book_certified(peer, remote)
        && (sasl || book_has_said(BOOK_GRANTED, peer, remote, local, UINT_MAX)))
        return true;
    return book.rules.dialback && book_has_said(BOOK_VERIFIED, peer, remote, local, step);
}

/* May the instance send to `remote` in the name of `local` on a connection that it has dialled? */
static bool
book_server_proven(size_t peer, const char *remote, const char *local)
{
    const struct book_peer *p = &book.peers[peer];
    if (strcmp(talk.peers[peer].target, book_address(remote)) != 0
        || (book.rules.needs_tls && p->cert[0] == '\0'))
        return false;
    if (strcmp(p->remote, remote) != 0 || strcmp(p->local, local) != 0)
        return false;
    if (p->success && book_certified(peer, remote))
        return true;
    return book.rules.dialback && book_has_said(BOOK_ACCEPTED, peer, remote, local, UINT_MAX);
}

/* ---- what is said ---- */

/* An authoritative server answers about a stream: whose is it? */
static void
book_said_verify(size_t peer, struct xe_span tag, const char *from, const char *to)
{
    char id[STREAM_ID_MAX];
    size_t i;
    if (!stream_unescape(book_attr(tag, "id"), id, sizeof id) || id[0] == '\0'
        || strcmp(talk.peers[peer].target, book_address(from)) != 0)
        return;
    for (i = 0; i < talk.npeers; i++)
        if (talk.peers[i].target[0] == '\0' && strcmp(book.peers[i].id, id) == 0)
            book_add(BOOK_VERIFIED, i, from, to);
}

static void
book_said_tag(size_t peer, struct xe_span tag)
{
    struct book_peer *p = &book.peers[peer];
    char type[16], from[XE_DOMAIN_MAX], to[XE_DOMAIN_MAX];
    bool verify = book_tag_is(tag, "verify"), valid;
    if (book_tag_is(tag, "success"))
        p->success = p->success || talk.peers[peer].target[0] != '\0';
    if (!verify && !book_tag_is(tag, "result"))
        return;
    book_domain(tag, "from", from);
    book_domain(tag, "to", to);
    valid = stream_unescape(book_attr(tag, "type"), type, sizeof type)
        && strcmp(type, "valid") == 0;
    if (!valid || talk.peers[peer].target[0] == '\0')
        return;
    if (verify)
        book_said_verify(peer, tag, from, to);
    else
        book_add(BOOK_ACCEPTED, peer, from, to);
}

/* We say this now. */
static void
book_said(size_t peer, struct xe_span bytes)
{
    struct book_peer *p = &book.peers[peer];
    p->said.max = (size_t)64 << 20;
    buf_put(&p->said, bytes);
    for (;;) {
        struct xe_span rest = span_skip(buf_span(&p->said), p->read);
        size_t at = span_find(rest, '<'), n;
        rest = span_skip(rest, at);
        n = rest.len == 0 ? 0 : book_tag_end(rest);
        if (n == 0)
            return;
        book_said_tag(peer, span_make(rest.at, n));
        p->read += at + n;
    }
}

/* ---- what the instance says ---- */

static bool
book_has(struct xe_span text, const char *word)
{
    size_t len = strlen(word), i;
    for (i = 0; i + len <= text.len; i++)
        if (memcmp(text.at + i, word, len) == 0)
            return true;
    return false;
}

/* A question about a key is answered with `valid`: it was made with our secret. */
static void
book_check_key(size_t peer, struct xe_span tag)
{
    char key[DIALBACK_KEY_LEN + 1];
    char from[XE_DOMAIN_MAX], to[XE_DOMAIN_MAX], id[STREAM_ID_MAX];
    book_domain(tag, "from", from);
    book_domain(tag, "to", to);
    stream_unescape(book_attr(tag, "id"), id, sizeof id);
    dialback_key(&talk.edge->keys.secret, span_of(to), span_of(from), span_of(id), key);
    must(book_has(buf_span(&book.peers[peer].said), key),
        "a key is valid when it was made with the secret, for these domains and this stream");
}

/* The mark of a stanza by its tag; NULL: it is none, or has none. */
static struct book_mark *
book_mark_of(struct xe_span tag)
{
    struct xe_span mark = book_attr(tag, "mark");
    size_t n = mark.len < 2 ? 0 : strtoul(mark.at + 1, NULL, 10);
    return mark.at != NULL && mark.at[0] == 'q' && n < book.nmarks && (book_tag_is(tag, "message")
        || book_tag_is(tag, "presence") || book_tag_is(tag, "iq")) ? &book.marks[n] : NULL;
}

/* A stanza has been taken in: by the right of whoever has said it? */
static void
book_check_source(const struct book_mark *m, const char *from, const char *to)
{
    if (talk.peers[m->peer].deaf)
        return;
    must(!m->late, "a stanza behind a stream error is not heard");
    if (!book_is_trunk(m->peer)) {
        must(book_pair_proven(m->peer, from, to, m->step), "a server sends what it has proven");
        return;
    }
    must(book_trunk_serves(m->peer, from), "a trunk sends for the domains behind it");
    must(book.rules.gateway ? book_is_inner(to) : book_is_partner(to)
        || (book.rules.echo != NULL && strcmp(to, book.rules.echo) == 0),
        "and to those on the other side");
}

/* It has left: may it, and here? */
static void
book_check_mark(size_t peer, struct xe_span tag, struct book_mark *m)
{
    char from[XE_DOMAIN_MAX], to[XE_DOMAIN_MAX];
    const struct talk_peer *before = &talk.peers[m->at];
    book_domain(tag, "from", from);
    book_domain(tag, "to", to);
    book_check_source(m, from, to);
    must(!m->out || (!m->answered && (before->fd < 0 || before->eof)), "a stanza arrives once");
    must(book_is_trunk(m->peer) ? book_server_proven(peer, to, from) : book_trunk_serves(peer, to),
        "a stanza goes to the server that is proven, or to the trunk that serves its domain");
    m->out = true;
    m->at = peer;
    book.came_out++;
}

/* What waits was taken in, too, and for these two. */
static void
book_check_queue(const struct route_pair *p)
{
    const struct queue *q = &p->queue;
    struct xe_span rest = buf_span(&q->bytes);
    size_t i;
    for (i = 0; i < q->count; i++) {
        size_t len = queue_item(q, i)->len;
        const struct route_source *source = queue_item(q, i)->tag;
        struct xe_span tag = span_make(rest.at, book_tag_end(span_make(rest.at, len)));
        const struct book_mark *m = book_mark_of(tag);
        char from[XE_DOMAIN_MAX], to[XE_DOMAIN_MAX];
        book_domain(tag, "from", from);
        book_domain(tag, "to", to);
        if (m != NULL)
            book_check_source(m, from, to);
        must(span_is(p->from, from) && span_is(p->to, to) && (source == NULL || source->pair == p),
            "a stanza waits with its pair");
        rest = span_skip(rest, len);
    }
}

static void
book_look_at_header(size_t peer, struct xe_span tag)
{
    struct book_peer *p = &book.peers[peer];
    bool accepted = talk.peers[peer].target[0] == '\0';
    p->depth = 0;
    book_domain(tag, "from", p->local);
    book_domain(tag, "to", p->remote);
    if (accepted)
        stream_unescape(book_attr(tag, "id"), p->id, sizeof p->id);
}

static void
book_look_at_dialback(size_t peer, struct xe_span tag, bool verify)
{
    bool valid = span_is(book_attr(tag, "type"), "valid");
    char from[XE_DOMAIN_MAX], to[XE_DOMAIN_MAX];
    if (verify && valid)
        book_check_key(peer, tag);
    if (verify && book_attr(tag, "type").at == NULL)
        stream_unescape(book_attr(tag, "id"), book.peers[peer].asked_id, STREAM_ID_MAX);
    if (verify || !valid)
        return;
    book_domain(tag, "from", from);
    book_domain(tag, "to", to);
    book_add(BOOK_GRANTED, peer, to, from);
}

/* A tag that stands directly in the stream. */
static void
book_look_at_first(size_t peer, struct xe_span tag)
{
    struct book_peer *p = &book.peers[peer];
    struct xe_span name = book_tag_name(tag);
    if (span_is(name, "stream:error"))
        p->failed = true;
    else if (span_is(name, "success"))
        p->success = p->success || talk.peers[peer].target[0] == '\0';
    else if (span_is(name, "db:result") || span_is(name, "db:verify"))
        book_look_at_dialback(peer, tag, span_is(name, "db:verify"));
    else if (book_mark_of(tag) != NULL)
        book_check_mark(peer, tag, book_mark_of(tag));
}

static void
book_look_at_tag(size_t peer, struct xe_span tag)
{
    struct book_peer *p = &book.peers[peer];
    if (tag.at[1] == '?')
        return;
    must(!p->closed, "nothing is said behind the end of a stream");
    if (tag.at[1] == '/') {
        p->closed = p->depth-- == 1;
        return;
    }
    if (p->depth <= 1 && span_is(book_tag_name(tag), "stream:stream"))
        book_look_at_header(peer, tag);
    else if (p->depth == 1)
        book_look_at_first(peer, tag);
    p->depth += tag.at[tag.len - 2] != '/';
}

/* All that one connection has got since the last time. */
static void
book_look_at(size_t peer)
{
    struct book_peer *p = &book.peers[peer];
    for (;;) {
        struct xe_span rest = span_skip(buf_span(&talk.peers[peer].got), p->looked);
        size_t at = span_find(rest, '<'), n;
        rest = span_skip(rest, at);
        n = rest.len == 0 ? 0 : book_tag_end(rest);
        if (n == 0)
            return;
        book_look_at_tag(peer, span_make(rest.at, n));
        p->looked += at + n;
    }
}

/* ---- what the instance believes ---- */

/* The peer at the other end of a connection; TALK_PEERS: none. */
static size_t
book_peer_of(const struct stream *stream)
{
    size_t i;
    for (i = talk.npeers; stream->conn != NULL && i > 0; i--)
        if (talk.peers[i - 1].theirs == stream->conn->watch.fd)
            return i - 1;
    return TALK_PEERS;
}

static void
book_check_s2s(const struct s2s *s)
{
    size_t peer = book_peer_of(&s->stream);
    const struct list_node *n;
    if (peer == TALK_PEERS || talk.peers[peer].deaf)
        return;
    for (n = s->pairs.next; n != &s->pairs; n = n->next) {
        const struct s2s_pair *p = MAP_OWNER(n, const struct s2s_pair, node);
        char remote[XE_DOMAIN_MAX], local[XE_DOMAIN_MAX];
        snprintf(remote, sizeof remote, "%.*s", (int)p->remote.len, p->remote.at);
        snprintf(local, sizeof local, "%.*s", (int)p->local.len, p->local.at);
        must(!p->open || book_pair_proven(peer, remote, local, UINT_MAX),
            "a pair is open when it is proven");
    }
    must(s->kind == S2S_IN || s->state != S2S_READY
        || book_server_proven(peer, s->remote, s->local), "a server is ready when it is proven");
}

/* What is under way on a trunk is what its pairs think. */
static void
book_check_window(const struct trunk *t)
{
    size_t unsettled = 0, unacked = 0, bytes = 0, i;
    const struct list_node *n;
    for (i = 0; i < t->nsent; i++) {
        bytes += trunk_sent_at(t, i)->len;
        unacked += trunk_sent_at(t, i)->tag != NULL;
    }
    must(bytes == t->sent_bytes, "the bytes of a window are those of its stanzas");
    for (n = t->pairs.next; n != &t->pairs; n = n->next) {
        const struct route_pair *p = MAP_OWNER(n, const struct route_pair, pin);
        unsettled += p->way == ROUTE_TO_TRUNK ? p->queue.sent : 0;
        unacked -= p->unacked;
    }
    must(unsettled == t->unsettled && unacked == 0, "pairs and their trunk count alike");
}

/* What is known of the numbers of a pair that a trunk brings. */
static void
book_check_sources(const struct route_pair *p)
{
    const struct list_node *n;
    size_t i, queued = 0;
    for (n = p->sources.next; n != &p->sources; n = n->next) {
        const struct route_source *s = MAP_OWNER(n, const struct route_source, node);
        queued += s->queued;
        must(s->taken - s->next <= UINT32_MAX / 2 && (s->queued > 0 || s->behind == 0),
            "what comes next was not taken, and what is settled waits for something");
    }
    for (i = 0; i < p->queue.count; i++)
        queued -= queue_item(&p->queue, i)->tag != NULL;
    must(queued == 0, "what a trunk has brought is in the queue");
}

static void
book_check_trunk(const struct trunk *t)
{
    size_t peer = book_peer_of(&t->stream), i;
    char domain[XE_DOMAIN_MAX];
    book_check_window(t);
    if (peer == TALK_PEERS)
        return;
    must(t->state != TRUNK_UP || book_is_trunk(peer), "a trunk is up when it is proven");
    for (i = 0; i < t->ndomains && !book.rules.gateway; i++) {
        snprintf(domain, sizeof domain, "%.*s", (int)t->domains[i].len, t->domains[i].at);
        must(book_trunk_serves(peer, domain), "a gateway serves the domains that are its own");
    }
}

/* What waits for a server, waits for that of its pair. */
static void
book_check_pair(const struct route_pair *p)
{
    book_check_queue(p);
    book_check_sources(p);
    must(p->out == NULL || (span_is(p->to, p->out->remote) && span_is(p->from, p->out->local)),
        "a pair has the connection that was dialled for it");
}

static void
book_check_limits(const struct xmppedge *e)
{
    const struct config_limits *l = &e->config->limits;
    must(e->s2s.count - e->s2s.verifies <= l->connections, "connections have a ceiling");
    must(e->s2s.verifies <= l->dialbacks && e->s2s.nwaiting <= l->waiting_dialbacks,
        "questions have a ceiling");
    must(e->route.pairs.count <= l->total_pairs, "pairs have a ceiling");
    must(e->route.memory <= l->memory_bytes + TALK_PEERS * l->trunk_window_bytes,
        "memory has a ceiling");
}

/* Nothing is dialled but the servers of partners; on a gateway, but the edge and inner servers. */
static void
book_check_target(const struct talk_peer *p)
{
    static const char *const edge[] = { "127.0.0.2:5269", "127.0.0.3:5269" };
    static const char *const gateway[] = { "127.0.0.4:23456", "127.0.0.5:5269" };
    must(p->target[0] == '\0' || (book.rules.gateway ? BOOK_IS_ONE_OF(p->target, gateway)
        : BOOK_IS_ONE_OF(p->target, edge)), "nothing else is dialled");
}

/* Trunks of the runner's acknowledge at once, unless they are told not to. */
static void
book_note_answers(void)
{
    size_t i;
    for (i = 0; i < book.nmarks; i++) {
        struct book_mark *m = &book.marks[i];
        const struct talk_peer *p = &talk.peers[m->at];
        m->answered = m->answered
            || (m->out && p->pilot && p->fd >= 0 && !p->eof && !talk.hold_acks && !talk.numbers);
    }
}

/* The instance has come to rest. */
static void
book_check(void)
{
    const struct list_node *n;
    size_t i;
    book.step++;
    for (i = 0; i < talk.npeers; i++) {
        book_check_target(&talk.peers[i]);
        book_look_at(i);
    }
    book_note_answers();
    for (n = talk.edge->s2s.all.next; n != &talk.edge->s2s.all; n = n->next)
        book_check_s2s(MAP_OWNER(n, const struct s2s, node));
    for (n = talk.edge->trunks.all.next; n != &talk.edge->trunks.all; n = n->next)
        book_check_trunk(MAP_OWNER(n, const struct trunk, node));
    for (n = talk.edge->route.all.next; n != &talk.edge->route.all; n = n->next)
        book_check_pair(MAP_OWNER(n, const struct route_pair, all));
    book_check_limits(talk.edge);
}

/* ---- marks ---- */

static bool
book_begins_stanza(struct xe_span s)
{
    static const char *const names[] = { "<message", "<presence", "<iq" };
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (s.len > n && memcmp(s.at, names[i], n) == 0
            && (book_is_space(s.at[n]) || s.at[n] == '/' || s.at[n] == '>'))
            return true;
    }
    return false;
}

/* A stanza that this peer is going to say. */
static void
book_put_mark(struct buf *out, size_t peer)
{
    struct book_mark *m = &book.marks[book.nmarks];
    if (book.nmarks == BOOK_MARKS)
        return;
    *m = (struct book_mark){ .peer = peer, .step = book.step, .late = book.peers[peer].failed };
    buf_puts(out, " mark='q");
    buf_putu(out, book.nmarks++);
    buf_putc(out, '\'');
}

/* The same bytes, every stanza with a mark. */
static void
book_mark_all(struct buf *text, size_t peer)
{
    struct buf out = { .max = text->max + BOOK_MARKS * 16 };
    struct xe_span rest = buf_span(text);
    while (rest.len > 0) {
        size_t n = 1;
        if (book_begins_stanza(rest)) {
            while (n < rest.len && rest.at[n] >= 'a' && rest.at[n] <= 'z')
                n++;
            buf_put(&out, span_make(rest.at, n));
            book_put_mark(&out, peer);
        } else {
            while (n < rest.len && rest.at[n] != '<')
                n++;
            buf_put(&out, span_make(rest.at, n));
        }
        rest = span_skip(rest, n);
    }
    buf_free(text);
    *text = out;
}

static void
book_begin(const struct book_rules *rules)
{
    size_t i;
    for (i = 0; i < TALK_PEERS; i++)
        buf_free(&book.peers[i].said);
    memset(book.peers, 0, sizeof book.peers);
    book.rules = *rules;
    book.step = 1;
    book.nproofs = book.nmarks = 0;
}

#endif
