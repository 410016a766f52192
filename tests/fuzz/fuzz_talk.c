/* fuzz_talk.c -- negotiations of an edge, in both directions and on its trunk, led by anybody
 *
 * The input is a transcript as in tests/talk, of which what the peers do is played and what is
 * expected is not.  Each is played against the same instance, which must have nothing left of it
 * afterwards.  The mutator puts lines together anew, those of other transcripts and its own.
 *
 * Nobody is authorised without a proof.  Proofs are a certificate that is trusted, the word `valid`
 * in a connection that the instance has made, and a key that the instance gave away.  While there
 * is none in a transcript, no pair is proven, no connection is ready for stanzas, and no trunk is
 * up but ours. */
#define XMPPEDGE_NO_THREADS
#define TALK_NO_MAIN
#include "../talk/talk.c"

#include "fuzz_main.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t na, const uint8_t *b, size_t nb,
    uint8_t *out, size_t max, unsigned seed);

#define LINES_MAX 60
#define QUIET_MS  700000   /* after which every wait of the instance is over */

static bool has_proof;     /* this transcript */

/* ---- the instance ---- */

static void
remove_world(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", talk.dir);
    if (system(command) != 0)
        fprintf(stderr, "fuzz_talk: %s stays\n", talk.dir);
}

static void
open_world(void)
{
    char title[256];
    signal(SIGPIPE, SIG_IGN);
    snprintf(talk.dir, sizeof talk.dir, "/tmp/talk.XXXXXX");
    must(mkdtemp(talk.dir) != NULL && talk_make_certificates(), "there are certificates");
    atexit(remove_world);
    talk.settings.max = talk.error.max = 65536;
    must(talk_load("tests/talk/words", title, sizeof title), "there are words");
    buf_puts(&talk.settings, " log=error");
    must(talk_open_tls() && talk_open_instance(), "there is an instance");
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

static bool
is_empty(void)
{
    return list_empty(&talk.edge->s2s.all) && list_empty(&talk.edge->trunks.all)
        && talk.edge->route.memory == 0;
}

/* Everybody hangs up, and time passes; what waited comes back to its senders meanwhile, which takes
 * connections that nobody answers. */
static void
clear_world(void)
{
    unsigned rounds = 0;
    talk.refuse = talk.silent = 0;
    talk.hold_acks = false;
    talk.nnames = 0;
    do {
        hang_up_all();
        talk.ahead_ms += QUIET_MS;
        must(talk_rest(NULL), "the instance comes to rest");
    } while (++rounds < 10 && (rounds < 2 || !is_empty()));
    must(is_empty(), "nothing is left");
    hang_up_all();
    buf_clear(&talk.log);
    talk.log_seen = 0;
}

/* ---- what must never be ---- */

static void
check_nobody_is_proven(void)
{
    const struct list_node *n, *m;
    for (n = talk.edge->s2s.all.next; n != &talk.edge->s2s.all; n = n->next) {
        const struct s2s *s = MAP_OWNER(n, const struct s2s, node);
        must(s->kind != S2S_OUT || s->state != S2S_READY, "no server is authorised unproven");
        for (m = s->pairs.next; m != &s->pairs; m = m->next)
            must(!MAP_OWNER(m, const struct s2s_pair, node)->open, "no pair is open unproven");
    }
    for (n = talk.edge->trunks.all.next; n != &talk.edge->trunks.all; n = n->next) {
        const struct trunk *t = MAP_OWNER(n, const struct trunk, node);
        must(t->state != TRUNK_UP || t->stream.conn == NULL || t->stream.conn->tls == NULL,
            "no trunk is up unproven");
    }
}

static bool
has_word(struct xe_span text, const char *word)
{
    size_t len = strlen(word), i;
    for (i = 0; i + len <= text.len; i++)
        if (strncasecmp(text.at + i, word, len) == 0)
            return true;
    return false;
}

/* Whether this step may prove something: rather too often. */
static bool
is_proof(const struct talk_step *s)
{
    struct xe_span text = buf_span(&s->text);
    bool dialled = talk.on != NULL && talk.on->target[0] != '\0';
    if (strcmp(s->verb, "tls") == 0 || strcmp(s->verb, "no-tls") == 0)
        return dialled || (has_word(text, "cert=") && !has_word(text, "cert=self")
            && !has_word(text, "cert=alien") && !has_word(text, "cert=wrong")
            && !has_word(text, "cert=none") && !has_word(text, "cert=expired"));
    return strcmp(s->verb, "trunk-up") == 0 || has_word(text, "$key")
        || (dialled && (has_word(text, "valid") || has_word(text, "&") || has_word(text, "<suc")
            || has_word(text, "\\") || text.len < 8));
}

/* ---- a transcript ---- */

static bool
may_play(const char *verb)
{
    static const char *const verbs[] = { "them", "us", "open", "open-trunk", "dialled", "on", "tls",
        "no-tls", "hangup", "deaf", "inside", "trunk", "trunk-down", "hold-acks", "acks", "wait",
        "refuse", "silent" };
    size_t i;
    for (i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verb, verbs[i]) == 0)
            return true;
    return false;
}

static bool
needs_nobody(const char *verb)
{
    static const char *const verbs[] = { "open", "open-trunk", "dialled", "on", "wait", "refuse",
        "silent", "hold-acks", "them" };
    size_t i;
    for (i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verb, verbs[i]) == 0)
            return true;
    return false;
}

static void
play_step(size_t at)
{
    const struct talk_step *s = &talk.steps[at];
    bool trunk = strcmp(s->verb, "inside") == 0 || strcmp(s->verb, "trunk") == 0
        || strcmp(s->verb, "trunk-down") == 0 || strcmp(s->verb, "acks") == 0;
    bool tls = strcmp(s->verb, "tls") == 0 || strcmp(s->verb, "no-tls") == 0;
    size_t i;
    if (trunk ? talk.trunk == NULL || talk.trunk->fd < 0
        : talk.on == NULL && !needs_nobody(s->verb))
        return;
    if (tls && (talk.on->fd < 0 || talk.on->tls != NULL))
        return;
    if (talk.npeers > TALK_PEERS - 8 || (talk.on != NULL && talk.on->tls != NULL
            && talk.on->tls->writing > 0 && strcmp(s->verb, "them") == 0))
        return;   /* no room, or what was said last is still being said */
    has_proof = has_proof || is_proof(s);
    for (i = 0; i < sizeof talk_verbs / sizeof *talk_verbs; i++)
        if (strcmp(s->verb, talk_verbs[i].name) == 0)
            break;
    if (!talk_verbs[i].run(at) && strcmp(s->verb, "dialled") == 0)
        talk.on = NULL;
    must(talk_rest(s), "the instance comes to rest, and its counts are true");
    if (!has_proof)
        check_nobody_is_proven();
}

/* Texts that do not exist would end the program; times and repetitions have ceilings here. */
static bool
is_sane(struct xe_span text)
{
    size_t i;
    for (i = 0; i < text.len; i++) {
        size_t end = text.at[i] == '{' ? talk_brace_end(text, i) : 0;
        struct xe_span rest = span_make(text.at + i + 1, end > 0 ? end - i - 1 : 0);
        if (end > 0 && talk_let_find(talk_word(&rest)) == NULL)
            return false;
        i += text.at[i] == '\\';
    }
    return memchr(text.at, '\0', text.len) == NULL && text.len < 4096;
}

static void
read_line(struct xe_span line)
{
    struct talk_step *s = &talk.steps[talk.nsteps];
    struct xe_span verb = talk_word(&line);
    if (talk.nsteps == LINES_MAX || verb.len == 0 || verb.len >= sizeof s->verb || !is_sane(line))
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
    if (talk.edge == NULL)
        open_world();
    clear_world();
    must(talk_usual_trunk(), "there is a trunk");
    has_proof = false;
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

static const char *const phrases[] = { "them {hello}\n", "them {starttls}\n", "them {end}\n",
    "tls cert=alien\n", "tls cert=self\n", "tls\n", "open second 127.0.0.3\n", "on first\n",
    "on second\n", "dialled out\n", "open-trunk gateway\n", "tls cert=alien\n",
    "them {header other.example near.example}\n", "them {header far.example also.near.example}\n",
    "them {result far.example near.example abc}\n", "them {auth ZmFyLmV4YW1wbGU=}\n",
    "them {auth =}\n", "them {success}\n", "them {proceed}\n", "them {far-accepts v1}\n",
    "them {verify-is far.example near.example $id valid}\n",
    "them {verify-is far.example near.example $id invalid}\n",
    "them {result-is far.example near.example valid}\n",
    "them {result-is far.example near.example invalid}\n",
    "them {verify near.example far.example $id abc}\n",
    "them {verify far.example near.example o1 abc}\n",
    "them <message from='a@far.example' to='b@near.example'/>\n",
    "inside <message from='b@near.example' to='a@far.example'/>\n",
    "inside <message from='b@near.example' to='a@other.example'/>\n",
    "us {hello-back}\n", "us {hello-again}\n", "us {dials-far}\n", "wait 5\n", "wait 100\n",
    "hangup\n", "refuse 1\n", "silent 1\n", "trunk-down\n", "hold-acks\n", "acks\n",
    "them <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    "<mechanism>EXTERNAL</mechanism></mechanisms></stream:features>\n",
    "them <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    "</stream:features>\n", "them {serves-both}\n", "them {enable}\n", "them {trunk-hello}\n",
    "them {auth ZmUubmVhci5leGFtcGxl}\n", "them <a xmlns='urn:xmpp:sm:3' h='1'/>\n" };

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

static size_t
insert(uint8_t *data, size_t size, size_t max, size_t at, const void *what, size_t len)
{
    if (size + len > max)
        return size;
    memmove(data + at + len, data + at, size - at);
    memcpy(data + at, what, len);
    return size + len;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static uint8_t line[4096];
    size_t at, end, to;
    const char *phrase;
    dice = seed;
    at = some_line(data, size);
    end = line_end(data, size, at);
    phrase = phrases[draw(sizeof phrases / sizeof *phrases)];
    switch (draw(6)) {
    case 0:      /* one goes */
        memmove(data + at, data + end, size - end);
        return size - (end - at);
    case 1:      /* one is said twice, here or there */
        if (end - at > sizeof line)
            return size;
        memcpy(line, data + at, end - at);
        to = some_line(data, size);
        return insert(data, size, max, to, line, end - at);
    case 2:      /* bytes of it change */
        if (end - at > sizeof line / 2)
            return size;
        memcpy(line, data + at, end - at);
        to = LLVMFuzzerMutate(line, end - at, sizeof line);
        memmove(data + at, data + end, size - end);
        return insert(data, size - (end - at), max, at, line, to);
    default:     /* one comes */
        return insert(data, size, max, at, phrase, strlen(phrase));
    }
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
