/* fuzz_talk.c -- negotiations of an edge and of a gateway, in both directions, led by anybody
 *
 * The input is a transcript as in tests/talk, of which what the peers do is played and what is
 * expected is not.  Its `config` line chooses a world: an instance that stands from the beginning,
 * is played with, and must have nothing left of it afterwards.  FUZZ_WORLD=NAME: always this one;
 * FUZZ_SHOW=1: what is done, and what the instance says and logs.
 * Names and numbers that the instance has drawn are remembered without being asked for:
 *
 *   $sid     the stream that it has accepted last        $asked   in its last dialback question
 *
 * The mutator puts lines together anew: those of others, its own, other speakers, other words.
 * What must never be stands in talk_book.h. */
#define XMPPEDGE_NO_THREADS
#define TALK_NO_MAIN
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1

#include "fuzz_main.h"
#include "fuzz_curves.h"
#include "../talk/talk.c"
#include "talk_book.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t na, const uint8_t *b, size_t nb,
    uint8_t *out, size_t max, unsigned seed);

#define LINES_MAX 80
#define QUIET_MS  700000   /* after which every wait of the instance is over */
#define RETRY_MS  45000    /* and every pause before a trunk is dialled again */

/* ---- the instances ---- */

static struct world {
    const char       *name;
    const char       *settings;
    struct book_rules rules;
    struct xmppedge  *edge;
} worlds[] = {
    { "edge", "log=info echo=echo.example",
        { .dialback = true, .echo = "echo.example" }, NULL },
    { "strict", "log=info tls=required sasl=required dialback=false",
        { .needs_tls = true }, NULL },
    { "small", "log=info connections=8 dialbacks=2 source-dialbacks=2 waiting-dialbacks=2 "
        "trunk-window=2 total-pairs=3 pairs=2 queue-stanzas=3 queue-bytes=10000 stanza-bytes=10000 "
        "trunk-window-bytes=10000 partner-dialbacks=2",
        { .dialback = true }, NULL },
    { "numbers", "log=info trunk=numbers trunk-window=3 queue-stanzas=6",
        { .dialback = true }, NULL },
    { "gateway", "log=info role=gateway", { .gateway = true, .dialback = true }, NULL },
    { "link", "log=info role=gateway trunk=none", { .gateway = true, .dialback = true }, NULL }
};

#define WORLDS (sizeof worlds / sizeof *worlds)

static struct world *world;   /* this one is played with */

static void
remove_world(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", talk.dir);
    if (system(command) != 0)
        fprintf(stderr, "fuzz_talk: %s stays\n", talk.dir);
}

static void
hang_up_all(void)
{
    size_t i;
    for (i = 0; i < talk.npeers; i++) {
        talk_hang_up(&talk.peers[i]);
        buf_free(&talk.peers[i].got);
        buf_free(&talk.peers[i].raw);
        xe_xml_free(&talk.peers[i].xml);
    }
    talk.npeers = 0;
    talk.on = talk.trunk = NULL;
}

static void
open_world(struct world *w)
{
    buf_clear(&talk.settings);
    buf_puts(&talk.settings, w->settings);
    if (!talk_open_instance())
        fprintf(stderr, "%.*s\n", (int)buf_len(&talk.error), talk.error.bytes);
    must(talk.edge != NULL, "there is an instance");
    w->edge = talk.edge;
    hang_up_all();
}

static void
open_worlds(void)
{
    char title[256];
    size_t i;
    signal(SIGPIPE, SIG_IGN);
    snprintf(talk.dir, sizeof talk.dir, "build/tests/talk.XXXXXX");
    must(mkdtemp(talk.dir) != NULL && talk_make_certificates(), "there are certificates");
    atexit(remove_world);
    talk.settings.max = talk.error.max = 65536;
    must(talk_load("tests/talk/words", title, sizeof title), "there are words");
    must(talk_open_tls(), "there is TLS");
    for (i = 0; i < WORLDS; i++)
        open_world(&worlds[i]);
}

static struct world *
find_world(const char *name)
{
    size_t i;
    for (i = 0; i < WORLDS; i++)
        if (strcmp(worlds[i].name, name) == 0)
            return &worlds[i];
    return &worlds[0];
}

static bool
has_word(struct xe_span text, const char *word)
{
    return book_has(text, word);
}

/* The world that a transcript is about: by the words behind its first `config`. */
static struct world *
choose_world(struct xe_span text)
{
    const char *always = getenv("FUZZ_WORLD");
    if (always != NULL)
        return find_world(always);
    while (text.len > 0 && (text.len < 7 || memcmp(text.at, "config ", 7) != 0))
        text = span_skip(text, span_find(text, '\n') + (span_find(text, '\n') < text.len));
    text.len = span_find(text, '\n');
    if (has_word(text, "role=gateway"))
        return find_world(has_word(text, "trunk=none") ? "link" : "gateway");
    if (has_word(text, "trunk=numbers"))
        return find_world("numbers");
    if (has_word(text, "sasl=required") || has_word(text, "dialback=false"))
        return find_world("strict");
    return find_world(has_word(text, "small=") || has_word(text, "bytes=")
        || has_word(text, "dialbacks=") ? "small" : "edge");
}

static bool
is_empty(void)
{
    return list_empty(&talk.edge->s2s.all) && list_empty(&talk.edge->trunks.all)
        && talk.edge->route.memory == 0 && talk.edge->route.pairs.count == 0;
}

/* Everybody hangs up, nobody answers, and time passes. */
static void
clear_world(void)
{
    unsigned rounds = 0;
    talk.refuse = UINT_MAX;
    talk.refuse_errno = ECONNREFUSED;
    talk.silent = 0;
    talk.hold_acks = false;
    talk.nnames = 0;
    do {
        hang_up_all();
        talk.ahead_ms += QUIET_MS;
        must(talk_rest(NULL), "the instance comes to rest");
    } while (++rounds < 10 && !is_empty());
    must(is_empty(), "nothing is left");
    hang_up_all();
    buf_clear(&talk.log);
    talk.log_seen = 0;
    talk.refuse = 0;
}

/* Trunks: the runner's own, or that which a gateway dials. */
static void
begin_world(void)
{
    talk.edge = world->edge;
    talk.numbers = strcmp(world->name, "numbers") == 0;
    clear_world();
    book_begin(&world->rules);
    if (strcmp(world->name, "link") == 0) {
        talk.ahead_ms += RETRY_MS;
        must(talk_rest(NULL), "the instance comes to rest");
    } else {
        must(talk_usual_trunk(), "there is a trunk");
        book_note_pilot(0);
    }
    book_check();
}

/* ---- a transcript ---- */

static bool
is_one_of(const char *verb, const char *const verbs[], size_t n)
{
    return book_is_one_of(verb, verbs, n);
}

static bool
may_play(const char *verb)
{
    static const char *const verbs[] = { "them", "us", "open", "open-trunk", "dialled", "on", "tls",
        "no-tls", "hangup", "deaf", "inside", "trunk", "trunk-up", "trunk-down", "on-trunk",
        "hold-acks", "acks", "wait", "refuse", "silent" };
    return is_one_of(verb, verbs, sizeof verbs / sizeof *verbs);
}

static bool
needs_nobody(const char *verb)
{
    static const char *const verbs[] = { "open", "open-trunk", "dialled", "on", "wait", "refuse",
        "silent", "hold-acks", "them", "trunk-up", "on-trunk" };
    return is_one_of(verb, verbs, sizeof verbs / sizeof *verbs);
}

static bool
needs_trunk(const char *verb)
{
    static const char *const verbs[] = { "inside", "trunk", "trunk-down", "acks" };
    return is_one_of(verb, verbs, sizeof verbs / sizeof *verbs);
}

static bool
is_tls(const char *verb)
{
    return strcmp(verb, "tls") == 0 || strcmp(verb, "no-tls") == 0;
}

static size_t
count_in(struct xe_span text, char c)
{
    size_t n = 0, i;
    for (i = 0; i < text.len; i++)
        n += text.at[i] == c;
    return n;
}

/* Trunks of the runner's own are those of the configuration, and serve what all may.  A gateway
 * does not listen for any. */
static bool
may_trunk(const struct talk_step *s)
{
    struct xe_span text = buf_span(&s->text);
    if (strcmp(s->verb, "open-trunk") == 0)
        return !world->rules.gateway;
    return strcmp(s->verb, "trunk-up") != 0 || (world->rules.gateway
        ? span_is(text, "edge.near.example")
        : span_is(text, "fe.near.example") || span_is(text, "fe2.near.example"));
}

/* Time goes forward, and not beyond numbers. */
static bool
may_wait(const struct talk_step *s)
{
    struct xe_span text = buf_span(&s->text);
    return strcmp(s->verb, "wait") != 0
        || (text.len > 0 && text.len <= 6 && text.at[0] >= '0' && text.at[0] <= '9');
}

/* Is there somebody to do it, and room for what comes of it? */
static bool
can_play(const struct talk_step *s)
{
    struct talk_peer *p = needs_trunk(s->verb) ? talk.trunk : talk.on;
    if (needs_trunk(s->verb) ? p == NULL || p->fd < 0 || !p->pilot
        : p == NULL && !needs_nobody(s->verb))
        return false;
    if (is_tls(s->verb) && (p->fd < 0 || p->tls != NULL))
        return false;
    if (talk.npeers > TALK_PEERS - 8
        || talk.nnames + count_in(buf_span(&s->text), '$') > TALK_NAMES)
        return false;
    return p == NULL || p->tls == NULL || p->tls->writing == 0 || strcmp(s->verb, "them") != 0;
}

/* A value that a transcript can insert with $NAME. */
static void
remember(const char *name, const char *value)
{
    struct talk_name *n;
    if (value[0] == '\0' || (talk.nnames == TALK_NAMES && talk_name_get(span_of(name)) == NULL))
        return;
    n = talk_name_get(span_of(name));
    snprintf(n->value, sizeof n->value, "%s", value);
}

static void
remember_ids(void)
{
    size_t i;
    for (i = 0; i < talk.npeers; i++) {
        if (talk.peers[i].target[0] == '\0')
            remember("sid", book.peers[i].id);
        remember("asked", book.peers[i].asked_id);
    }
}

/* What is going to be said, by whom: with marks, and into the book. */
static void
prepare_saying(struct talk_step *s)
{
    bool inside = strcmp(s->verb, "inside") == 0;
    struct talk_peer *p = inside ? talk.trunk : talk.on;
    size_t peer = p == NULL ? talk.npeers : (size_t)(p - talk.peers);
    struct buf bytes = { .max = 0 };
    if (!inside && strcmp(s->verb, "them") != 0)
        return;
    book_mark_all(&s->text, peer);
    talk_compile(buf_span(&s->text), false, &bytes);
    book_said(peer, buf_span(&bytes));
    buf_free(&bytes);
}

/* The certificate of a step `tls` that has come to its end; `no-tls` may have come to another. */
static void
note_certificate(const struct talk_step *s)
{
    struct book_peer *p = &book.peers[talk.on - talk.peers];
    struct xe_span rest = buf_span(&s->text), cert;
    snprintf(p->cert, sizeof p->cert, "%s", talk.on->target[0] != '\0' ? "far" : "none");
    while (rest.len > 0)
        if (talk_setting_is(talk_word(&rest), "cert", &cert))
            snprintf(p->cert, sizeof p->cert, "%.*s", (int)cert.len, cert.at);
    talk.on->eof = false;
}

static void
note_trunk(const struct talk_step *s, size_t before)
{
    size_t i;
    for (i = before; i < talk.npeers; i++) {
        if (talk.peers[i].pilot)
            book_note_pilot(i);
        book.peers[i].trunk_port = strcmp(s->verb, "open-trunk") == 0
            && talk.peers[i].target[0] == '\0';
    }
}

static void
show_step(const struct talk_step *s)
{
    size_t i;
    if (getenv("FUZZ_SHOW") == NULL)
        return;
    fprintf(stderr, "%s %s\n", s->verb, talk_show(buf_span(&s->text)));
    for (i = 0; i < talk.npeers; i++) {
        const struct talk_peer *p = &talk.peers[i];
        struct xe_span fresh = span_skip(buf_span(&p->got), book.peers[i].looked);
        if (fresh.len > 0)
            fprintf(stderr, "  %u %s %s: %s\n", (unsigned)i, p->name, p->target, talk_show(fresh));
    }
    fprintf(stderr, "%.*s", (int)buf_len(&talk.log), buf_text(&talk.log));
    buf_clear(&talk.log);
}

static void
play_step(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    size_t before = talk.npeers, i;
    if (!can_play(s) || !may_trunk(s) || !may_wait(s))
        return;
    prepare_saying(s);
    for (i = 0; i < sizeof talk_verbs / sizeof *talk_verbs; i++)
        if (strcmp(s->verb, talk_verbs[i].name) == 0)
            break;
    if (!talk_verbs[i].run(at) && strcmp(s->verb, "dialled") == 0)
        talk.on = NULL;
    note_trunk(s, before);
    if (is_tls(s->verb) && talk.on->tls != NULL)
        note_certificate(s);
    must(talk_rest(s), "the instance comes to rest, and its counts are true");
    show_step(s);
    book_check();
    remember_ids();
}

/* Texts that do not exist would end the program, and what stands for a star or a name in a pattern
 * is not written. */
static bool
is_sane(struct xe_span text, bool pattern)
{
    size_t i;
    for (i = 0; i < text.len; i++) {
        size_t end = text.at[i] == '{' ? talk_brace_end(text, i) : 0;
        struct xe_span rest = span_make(text.at + i + 1, end > 0 ? end - i - 1 : 0);
        if (end > 0 && talk_let_find(talk_word(&rest)) == NULL)
            return false;
        if (text.at[i] == '\0' || (pattern && (unsigned char)text.at[i] < ' '))
            return false;
        i += text.at[i] == '\\';
    }
    return text.len < 4096 && (!pattern || !has_word(text, "\\x"));
}

static void
read_line(struct xe_span line)
{
    struct talk_step *s = &talk.steps[talk.nsteps];
    struct xe_span verb = talk_word(&line);
    bool pattern = span_is(verb, "us") || span_is(verb, "trunk");
    if (talk.nsteps == LINES_MAX || verb.len == 0 || verb.len >= sizeof s->verb
        || !is_sane(line, pattern))
        return;
    memset(s, 0, sizeof *s);
    s->text.max = (size_t)1 << 20;
    snprintf(s->verb, sizeof s->verb, "%.*s", (int)verb.len, verb.at);
    if (!may_play(s->verb))
        return;
    talk_expand(line, &s->text);
    talk.nsteps++;
}

/* A line that begins with white space continues the one before. */
static void
read_transcript(const uint8_t *data, size_t size)
{
    struct buf line = { .max = (size_t)1 << 20 };
    struct xe_span rest = span_make((const char *)data, size);
    while (rest.len > 0) {
        size_t n = span_find(rest, '\n');
        struct xe_span part = span_make(rest.at, n);
        if (n > 0 && rest.at[0] != ' ' && buf_len(&line) > 0) {
            read_line(buf_span(&line));
            buf_clear(&line);
        }
        while (part.len > 0 && part.at[0] == ' ')
            part = span_skip(part, 1);
        if (part.len > 0 && part.at[0] != '#')
            buf_put(&line, part);
        rest = span_skip(rest, n + (n < rest.len));
    }
    if (buf_len(&line) > 0)
        read_line(buf_span(&line));
    buf_free(&line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at;
    if (size > 16384)
        return 0;
    if (worlds[0].edge == NULL)
        open_worlds();
    world = choose_world(span_make((const char *)data, size));
    begin_world();
    read_transcript(data, size);
    for (at = 0; at < talk.nsteps; at++)
        play_step(at);
    for (at = 0; at < talk.nsteps; at++)
        buf_free(&talk.steps[at].text);
    talk.nsteps = 0;
    clear_world();
    return 0;
}

#ifdef FUZZ_LIBFUZZER

/* ---- lines put together anew ---- */

/* What may be said and done; and whole ways to a proof, to reach what comes after them. */
static const char *const phrases[] = {
    "them {hello}\n", "them {starttls}\n", "them {end}\n", "tls cert=far\n", "tls cert=two\n",
    "tls cert=wild\n", "tls cert=alien\n", "tls cert=self\n", "tls cert=fe\n", "tls cert=fe2\n",
    "tls cert=stranger\n", "tls cert=edge\n", "tls\n", "open second 127.0.0.3\n", "open\n",
    "on first\n", "on second\n", "on gateway\n", "on edge\n", "on out\n", "on verify\n",
    "dialled out\n", "dialled verify\n", "dialled edge\n", "open-trunk gateway\n",
    "trunk-up fe2.near.example\n", "trunk-up fe.near.example\n", "trunk-up edge.near.example\n",
    "on-trunk fe.near.example\n", "on-trunk fe2.near.example\n", "trunk-down\n", "hold-acks\n",
    "acks\n", "hangup\n", "deaf\n", "refuse 1\n", "silent 1\n", "wait 5\n", "wait 100\n",
    "them {header other.example near.example}\n", "them {header far.example also.near.example}\n",
    "them {header near.example far.example}\n", "them {header two.far.example near.example}\n",
    "them {result far.example near.example abc}\n", "them {result near.example far.example abc}\n",
    "them {result other.example near.example abc}\n", "them {auth ZmFyLmV4YW1wbGU=}\n",
    "them {auth =}\n", "them {auth dHdvLmZhci5leGFtcGxl}\n", "them {success}\n",
    "them {failure not-authorized}\n", "them {proceed}\n", "them {far-accepts v1}\n",
    "them {far-accepts v1}<stream:features/>\n", "them {accepts near.example far.example n1}\n",
    "them {accepts near.example far.example n1}<stream:features/>\n",
    "them {verify-is far.example near.example $asked valid}\n",
    "them {verify-is near.example far.example $asked valid}\n",
    "them {verify-is far.example near.example $asked invalid}\n",
    "them {verify-is far.example near.example $sid valid}\n",
    "them {result-is far.example near.example valid}\n",
    "them {result-is near.example far.example valid}\n",
    "them {result-is far.example near.example invalid}\n",
    "them {verify far.example near.example v1 $key(far.example,near.example,v1)}\n",
    "them {verify near.example far.example n1 $key(near.example,far.example,n1)}\n",
    "them {verify near.example far.example $sid abc}\n",
    "them <message from='a@far.example' to='b@near.example'/>\n",
    "them <message from='b@near.example' to='a@far.example'/>\n",
    "them <iq type='get' from='a@far.example' to='b@near.example' id='1'/>\n",
    "inside <message from='b@near.example' to='a@far.example'/>\n",
    "inside <message from='b@near.example' to='a@other.example'/>\n",
    "inside <message from='a@far.example' to='b@near.example'/>\n",
    "inside <presence from='a@other.example' to='b@also.near.example'/>\n",
    "inside {r}\n", "inside {a 1}\n", "inside {drain}\n", "inside {drained}\n", "inside {end}\n",
    "them {r}\n", "them {a 1}\n", "them {drain}\n", "them {drained}\n",
    "inside {pair near.example far.example 0}\n", "inside {pair near.example far.example 2}\n",
    "inside {settled far.example near.example 1}\n", "trunk-up fe.near.example#2\n",
    "inside {settled-more far.example near.example 1}\n",
    "inside {pause far.example near.example}\n",
    "them {pair near.example far.example 1}\n", "them {settled near.example far.example 1}\n",
    "them <stream:features>{f-external}</stream:features>\n",
    "them <stream:features>{f-starttls}</stream:features>\n", "them <stream:features/>\n",
    "them {serves-both}\n", "them {serves only.near.example}\n", "them {enable}\n",
    "them {enabled}\n", "them {f-sasl}\n", "them {f-trunk}\n", "them {trunk-hello}\n",
    "them {header fe2.near.example edge.near.example}\n", "them {auth ZmUubmVhci5leGFtcGxl}\n",
    "them {accepts edge.near.example fe.near.example t1}{f-sasl}\n",
    "them {accepts edge.near.example fe.near.example t2}{f-trunk}\n",
    "them <trunk xmlns='urn:xmppedge:trunk:0' max-bytes='10000' idle-seconds='60'/>\n",
    "them <trunk xmlns='urn:xmppedge:trunk:0' max-bytes='10000' idle-seconds='60' node='x'/>\n",
    "open far 127.0.0.2\nthem {hello}\nthem {result far.example near.example abc}\n"
    "dialled verify\nthem {far-accepts v1}<stream:features/>\n"
    "them {verify-is far.example near.example $asked valid}\non far\n",
    "open other 127.0.0.3\nthem {header other.example near.example}\n"
    "them {result other.example near.example abc}\ndialled verify2\n"
    "them {accepts other.example near.example v2}<stream:features/>\n"
    "them {verify-is other.example near.example $asked valid}\non other\n",
    "open back\nthem {header near.example far.example}\n"
    "them {result near.example far.example abc}\ndialled verify\n"
    "them {accepts near.example far.example n2}<stream:features/>\n"
    "them {verify-is near.example far.example $asked valid}\non back\n",
    "open sure\nthem {hello}\nthem {starttls}\ntls cert=far\nthem {hello}\n"
    "them {auth =}\nthem {hello}\n",
    "open sure\nthem {hello}\nthem {starttls}\ntls cert=both\nthem {hello}\n"
    "them {result far.example near.example abc}{result two.far.example near.example abc}\n",
    "open direct\ntls cert=wild\nthem {header two.far.example near.example}\nthem {auth =}\n",
    "dialled out\nthem {far-accepts v1}<stream:features/>\n"
    "them {result-is far.example near.example valid}\n",
    "dialled out\nthem {far-accepts v1}<stream:features>{f-starttls}</stream:features>\n"
    "them {proceed}\ntls cert=far\nthem {far-accepts v2}<stream:features>{f-external}"
    "</stream:features>\nthem {success}\nthem {far-accepts v3}<stream:features/>\n",
    "dialled inner\nthem {accepts near.example far.example n1}<stream:features/>\n"
    "them {result-is near.example far.example valid}\n",
    "open-trunk gateway\ntls cert=fe\nthem {trunk-hello}\nthem {auth =}\nthem {trunk-hello}\n"
    "them {serves-both}\nthem {enable}\n",
    "open-trunk gateway\ntls cert=fe2\nthem {header fe2.near.example edge.near.example}\n"
    "them {auth =}\nthem {header fe2.near.example edge.near.example}\n"
    "them {serves only.near.example}\nthem {enable}\n",
    "dialled edge\ntls cert=edge\nthem {accepts edge.near.example fe.near.example t1}{f-sasl}\n"
    "them {success}\nthem {accepts edge.near.example fe.near.example t2}{f-trunk}\n"
    "them <trunk xmlns='urn:xmppedge:trunk:0' max-bytes='10000' idle-seconds='60'/>\n"
    "them {enabled}\n" };

/* Words of which one may stand in the place of another. */
static const char *const words[] = { "far.example", "two.far.example", "three.far.example",
    "other.example", "near.example", "also.near.example", "only.near.example", "echo.example",
    "stranger.example", "elsewhere.example", "edge.near.example", "fe.near.example",
    "fe2.near.example", "FAR.example", "far.example.", "", NULL,
    "$asked", "$sid", "$id", "$id2", "v1", "n1", "abc", "$key(far.example,near.example,v1)",
    "$key(near.example,far.example,n1)", "$key(near.example,far.example,$sid)", NULL,
    "valid", "invalid", "error", "get", "set", "result", "unavailable", NULL,
    "cert=far", "cert=two", "cert=both", "cert=wild", "cert=srv", "cert=self", "cert=alien",
    "cert=wrong", "cert=none", "cert=expired", "cert=thief", "cert=middle", "cert=constrained",
    "cert=mailer", "cert=server", "cert=fe", "cert=fe2", "cert=edge", "cert=stranger", "cert=near",
    NULL, "message", "presence", "iq", NULL, "from=", "to=", "id=", "type=", NULL,
    "them ", "inside ", NULL, "open ", "open-trunk ", "on ", "dialled ", "on-trunk ", NULL,
    "first", "second", "far", "out", "verify", "gateway", "edge", "inner", "back", "other", NULL,
    "{hello}", "{starttls}", "{end}", "{success}", "{proceed}", "{enable}", "{enabled}", "{drain}",
    "{drained}", "{r}", "{trunk-hello}", "{serves-both}", "{f-sasl}", "{f-trunk}", NULL,
    "config tls=optional", "config dialback=false", "config dialbacks=2", "config role=gateway",
    "config role=gateway trunk=none", NULL };

#define WORDS   (sizeof words / sizeof *words)
#define PHRASES (sizeof phrases / sizeof *phrases)

static uint64_t dice;

static size_t
draw(size_t n)
{
    dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407;
    return n == 0 ? 0 : (size_t)(dice >> 33) % n;
}

/* The place where some line begins. */
static size_t
some_line(const uint8_t *data, size_t size)
{
    size_t at = draw(size + 1);
    while (at > 0 && data[at - 1] != '\n')
        at--;
    return at;
}

static size_t
line_end(const uint8_t *data, size_t size, size_t at)
{
    while (at < size && data[at] != '\n')
        at++;
    return at < size ? at + 1 : size;
}

/* Put bytes in the place of `gone` others; the new size. */
static size_t
replace(uint8_t *data, size_t size, size_t max, size_t at, size_t gone, const void *what,
    size_t len)
{
    if (size - gone + len > max)
        return size;
    memmove(data + at + len, data + at + gone, size - at - gone);
    memcpy(data + at, what, len);
    return size - gone + len;
}

/* The longest word that stands here, or WORDS. */
static size_t
word_at(const uint8_t *data, size_t size, size_t at)
{
    size_t best = WORDS, len = 0, i;
    for (i = 0; i < WORDS; i++) {
        size_t n = words[i] == NULL ? 0 : strlen(words[i]);
        if (n > len && n <= size - at && memcmp(data + at, words[i], n) == 0) {
            best = i;
            len = n;
        }
    }
    return best;
}

/* Another word of the same kind. */
static size_t
change_word(uint8_t *data, size_t size, size_t max)
{
    size_t start = draw(size), i, word = WORDS, first, last;
    for (i = 0; i < size && word == WORDS; i++) {
        word = word_at(data, size, (start + i) % size);
        start = word == WORDS ? start : (start + i) % size;
    }
    if (word == WORDS)
        return size;
    for (first = word; first > 0 && words[first - 1] != NULL; first--)
        continue;
    for (last = word; words[last] != NULL; last++)
        continue;
    i = first + draw(last - first);
    return replace(data, size, max, start, strlen(words[word]), words[i], strlen(words[i]));
}

/* A line, or two, go elsewhere, or are said there too. */
static size_t
move_lines(uint8_t *data, size_t size, size_t max, bool stay)
{
    static uint8_t lines[4096];
    size_t at = some_line(data, size);
    size_t end = line_end(data, size, at);
    size_t n;
    if (draw(3) == 0)
        end = line_end(data, size, end);
    n = end - at;
    if (n > sizeof lines)
        return size;
    memcpy(lines, data + at, n);
    if (!stay)
        size = replace(data, size, max, at, n, "", 0);
    return replace(data, size, max, some_line(data, size), 0, lines, n);
}

/* Bytes of a line change. */
static size_t
change_bytes(uint8_t *data, size_t size, size_t max)
{
    static uint8_t line[4096];
    size_t at = some_line(data, size);
    size_t n = line_end(data, size, at) - at;
    if (n > sizeof line / 2)
        return size;
    memcpy(line, data + at, n);
    return replace(data, size, max, at, n, line, LLVMFuzzerMutate(line, n, sizeof line));
}

static size_t
mutate_once(uint8_t *data, size_t size, size_t max)
{
    size_t at = some_line(data, size);
    const char *phrase = phrases[draw(PHRASES)];
    switch (size == 0 ? 9 : draw(12)) {
    case 0:
    case 1:
        return replace(data, size, max, at, line_end(data, size, at) - at, "", 0);
    case 2:
        return move_lines(data, size, max, true);
    case 3:
    case 4:
        return move_lines(data, size, max, false);
    case 5:
        return change_bytes(data, size, max);
    case 6:
    case 7:
    case 8:
        return change_word(data, size, max);
    default:
        return replace(data, size, max, at, 0, phrase, strlen(phrase));
    }
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size_t times;
    dice = seed;
    for (times = 1 + draw(3); times > 0; times--)
        size = mutate_once(data, size, max);
    return size;
}

/* The beginning of one transcript, the end of another. */
size_t
LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, uint8_t *out,
    size_t max, unsigned seed)
{
    size_t head, tail;
    dice = seed;
    head = some_line(a, na);
    tail = some_line(b, nb);
    head = head < max ? head : max;
    memcpy(out, a, head);
    nb = nb - tail < max - head ? nb - tail : max - head;
    memcpy(out + head, b + tail, nb);
    return head + nb;
}

#endif
