/* talk.c -- negotiations as transcripts: who says what, what must happen
 *
 *   cc -std=c99 -O1 -g -fsanitize=address,undefined -o talk talk.c \
 *      -lmbedtls -lmbedx509 -lmbedcrypto -lmxml -lcares
 *   ./talk [-j N] [-s N] [-v] FILE.talk ... | DIRECTORY   (TAP on standard output)
 *
 * -j N transcripts at a time (2); -s N cuts at every Nth position only; -v prints what happened.
 *
 * A transcript is played against a whole running instance (xe_open() of a configuration that is
 * made from its `config` lines).  Nothing touches the network and nothing waits: accepted
 * connections are socket pairs, connect() is answered here with another pair, and the clock stands
 * still until the transcript says `wait`.  A run is one thread and one process, stopping at rest.
 *
 * Each transcript is played
 *
 *   whole           each `them` line is one write
 *   byte by byte    the instance comes to rest after every single byte
 *   joined          neighbouring `them` lines of a connection are one write
 *   cut             for every position of every line: two writes with a rest in between
 *
 * and must each time meet its expectations, say the same bytes on every connection and write the
 * same log lines (a trace is compared).  For the cuts the process is copied (fork) just before the
 * line and the copy's sockets are replaced by fresh pairs, so a cut costs the rest of the
 * transcript and nothing before it.  A cut of what comes before a TLS handshake is followed up to
 * that handshake; stream headers, and what stands before a line `here`, are cut at every tenth
 * position, each transcript at others: many share them.  `config cuts=deep` lifts both;
 * `config cuts=none` is for the rare case where it matters what arrives together.  TLS is real:
 * certificates come from the openssl command.
 *
 * Format.  One step a line, the verb first; a line that begins with white space continues the one
 * before; # begins a comment; the first comment is the title.  Texts know
 *
 *   {name a b}   a text of a `let name ...` line, here or in the file `words`; %1 %2 are arguments
 *   {repeat n x} x, n times
 *   $name        in an expectation: remember, or compare with what is remembered; in a text: insert
 *   $key(r,o,i)  the dialback key of XEP-0185 for receiving and originating server and stream id
 *   *            in an expectation: anything, as little as possible; at its end everything
 *   \n \r \t \s \xHH \\ \* \$ \{ \%
 *
 * Steps: see talk_verbs at the end of this file.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <time.h>

/* Between the instance and the system: where it connects to, where it binds to, what time it is. */
static int talk_connect(int fd, const struct sockaddr *to, socklen_t len);
static int talk_bind(int fd, const struct sockaddr *to, socklen_t len);
static int talk_clock(clockid_t which, struct timespec *out);
#define connect(fd, to, len) talk_connect(fd, to, len)
#define bind(fd, to, len) talk_bind(fd, to, len)
#define clock_gettime(which, out) talk_clock(which, out)
#define ares_gethostbyname_file talk_hosts   /* declared by ares.h, under this name */
#define ares_free_hostent talk_hosts_free
#include "cut/CONTROL.c"
#undef connect
#undef bind
#undef clock_gettime
#undef ares_gethostbyname_file
#undef ares_free_hostent

#include <dirent.h>
#include <stdarg.h>
#include <sys/wait.h>

#define TALK_PEERS    32      /* connections in one transcript */
#define TALK_STEPS    400
#define TALK_LETS     200
#define TALK_NAMES    40      /* remembered values */
#define TALK_TURNS    200000  /* turns after which the instance is said not to come to rest */
#define TALK_SOON_MS  2       /* a timer that is due so soon means `next turn` */
#define TALK_STAR     '\1'    /* in a compiled pattern */
#define TALK_CAPTURE  '\2'    /* and a byte with the number of the name */

enum talk_mode { TALK_WHOLE, TALK_BYTES, TALK_JOINED, TALK_CUTS };

/* Our end of one connection of the instance. */
struct talk_peer {
    char        name[24];     /* in the transcript; "" until it is claimed */
    char        target[32];   /* where the instance dialled to; "" when it accepted */
    char        source[32];   /* and the address it was bound to */
    int         fd;           /* ours; -1 once we have hung up */
    int         theirs;       /* number of the instance's end */
    bool        eof;          /* the instance has ended it */
    struct tls *tls;
    struct buf  got;          /* all that the instance has said, decrypted */
    size_t      seen;         /* of it: met by expectations */
    bool        pilot;        /* a trunk that is up and acknowledges by itself */
    struct xe_xml xml;        /* pilot: reads what comes */
    struct buf  raw;          /* pilot: not read yet */
    unsigned    stanzas;      /* pilot: received */
    unsigned    acked;        /* pilot: of ours, acknowledged */
    bool        deaf;         /* we do not read any more */
};

struct talk_step {
    unsigned    line;
    char        verb[16];
    struct buf  text;
};

struct talk_let {
    char        name[32];
    struct buf  text;
};

struct talk_name {
    char        name[24];
    char        value[160];
};

/* The state of one transcript: one process plays one. */
static struct {
    struct xmppedge   *edge;
    char               dir[64];        /* certificates, secret, configuration */
    char               config_file[96];
    struct tls_shared *tls;
    struct tls_trust  *trust[2];       /* public, internal */
    int64_t            ahead_ms;       /* of the moment at which the clock was stopped */
    struct timespec    start;
    struct talk_step   steps[TALK_STEPS];
    size_t             nsteps;
    struct talk_let    lets[TALK_LETS];
    size_t             nlets;
    struct talk_name   names[TALK_NAMES];
    size_t             nnames;
    struct talk_peer   peers[TALK_PEERS];
    size_t             npeers;
    size_t             bystanders;     /* of them: there before the transcript, and not its own */
    struct talk_peer  *on;             /* the current connection */
    struct talk_peer  *trunk;          /* the current pilot */
    char               bound[32];      /* of the last bind() */
    unsigned           refuse;         /* so many connects fail */
    int                refuse_errno;   /* in this way */
    unsigned           silent;         /* so many are never answered */
    struct buf         log;            /* lines of the instance */
    size_t             log_seen;
    struct buf         settings;       /* of the config lines */
    bool               hold_acks;
    bool               numbers;        /* pilots number the stanzas of pairs, and settle them */
    bool               deep;
    enum talk_mode     mode;
    bool               after_cut;      /* this is a copy */
    struct buf         error;
    struct buf         reference;      /* the trace of the whole run */
    unsigned           cuts;           /* positions tried */
    size_t             here;           /* step at which this transcript's own matter begins */
    unsigned           turn;           /* which positions of what is shared are cut */
} talk;

/* Told before the instance runs and after it; NULL: nobody wants to know. */
static void (*talk_runs)(bool runs);

static bool talk_verbose;
static size_t talk_stride = 1;

/* ---- between the instance and the system ---- */

static int
talk_clock(clockid_t which, struct timespec *out)
{
    int64_t ns;
    if (which != CLOCK_MONOTONIC || talk.start.tv_sec == 0)
        return clock_gettime(which, out);
    ns = talk.start.tv_nsec + talk.ahead_ms % 1000 * 1000000;
    out->tv_sec = talk.start.tv_sec + (time_t)(talk.ahead_ms / 1000 + ns / 1000000000);
    out->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

static void
talk_unblock(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static bool
talk_is_ip(const struct sockaddr *a)
{
    return a->sa_family == AF_INET || a->sa_family == AF_INET6;
}

static int
talk_bind(int fd, const struct sockaddr *to, socklen_t len)
{
    struct sockaddr_storage at;
    char text[80];
    if (!talk_is_ip(to))
        return bind(fd, to, len);
    memset(&at, 0, sizeof at);
    memcpy(&at, to, len);
    snprintf(talk.bound, sizeof talk.bound, "%.31s", conn_address_text(&at, text));
    return 0;
}

/* What the instance has said there and no expectation has met. */
static struct xe_span
talk_unseen(const struct talk_peer *p)
{
    return span_skip(buf_span(&p->got), p->seen);
}

static struct talk_peer *
talk_peer_new(int ours, int theirs)
{
    struct talk_peer *p = &talk.peers[talk.npeers];
    if (talk.npeers == TALK_PEERS) {
        fprintf(stderr, "talk: too many connections\n");
        exit(99);
    }
    talk.npeers++;
    memset(p, 0, sizeof *p);
    p->fd = ours;
    p->theirs = theirs;
    p->got.max = p->raw.max = (size_t)64 << 20;
    return p;
}

/* A descriptor that never becomes writable, in the place of `fd`. */
static void
talk_make_silent(int fd)
{
    static char waste[4096];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return;
    talk_unblock(pair[0]);
    while (send(pair[0], waste, sizeof waste, MSG_NOSIGNAL) > 0)
        continue;
    dup2(pair[0], fd);
    close(pair[0]);   /* the other end stays open until the process ends */
}

static int
talk_connect(int fd, const struct sockaddr *to, socklen_t len)
{
    struct sockaddr_storage at;
    struct talk_peer *p;
    char text[80];
    int pair[2];
    if (!talk_is_ip(to))
        return connect(fd, to, len);
    if (talk.refuse > 0) {
        talk.refuse--;
        errno = talk.refuse_errno;
        return -1;
    }
    if (talk.silent > 0) {
        talk.silent--;
        talk_make_silent(fd);
        errno = EINPROGRESS;
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return -1;
    talk_unblock(pair[0]);
    talk_unblock(pair[1]);
    dup2(pair[0], fd);
    close(pair[0]);
    memset(&at, 0, sizeof at);
    memcpy(&at, to, len);
    p = talk_peer_new(pair[1], fd);
    snprintf(p->target, sizeof p->target, "%.31s", conn_address_text(&at, text));
    snprintf(p->source, sizeof p->source, "%.31s", talk.bound);
    return 0;
}

static void
talk_log_line(void *user, int priority, const char *line, size_t len)
{
    (void)user;
    (void)priority;
    buf_put(&talk.log, span_make(line, len));
}

/* ---- failing ---- */

static bool
talk_fail(const struct talk_step *s, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_clear(&talk.error);
    if (s != NULL) {
        buf_puts(&talk.error, "line ");
        buf_putu(&talk.error, s->line);
        buf_puts(&talk.error, ": ");
    }
    buf_puts(&talk.error, text);
    return false;
}

/* Bytes made readable; valid until the next but one call. */
static const char *
talk_show(struct xe_span s)
{
    static char out[2][1600];
    static unsigned turn;
    char *text = out[turn++ % 2];
    size_t n = 0;
    size_t i;
    for (i = 0; i < s.len && n < 1500; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c == TALK_STAR)
            text[n++] = '*';
        else if (c == TALK_CAPTURE && i + 1 < s.len)
            n += (size_t)snprintf(text + n, 32, "$%s", talk.names[(unsigned char)s.at[++i]].name);
        else if (c < 0x20 || c > 0x7e)
            n += (size_t)snprintf(text + n, 8, "\\x%02x", c);
        else
            text[n++] = (char)c;
    }
    snprintf(text + n, 8, "%s", i < s.len ? "..." : "");
    return text;
}

/* ---- the loop ---- */

static void
talk_enter(bool runs)
{
    if (talk_runs != NULL)
        talk_runs(runs);
}

static bool
talk_busy(void)
{
    struct loop *l = &talk.edge->loop;
    if (loop_timeout(l) == 0 || talk.edge->tls->nrunning > 0)
        return true;
#if LOOP_EPOLL
    {
        struct pollfd p = { .fd = l->epoll_fd, .events = POLLIN };
        return poll(&p, 1, 0) > 0;
    }
#else
    return poll(l->polled, (nfds_t)l->npolled, 0) > 0;
#endif
}

/* One turn.  A handshake beside the loop is waited for. */
static bool
talk_turn(void)
{
    bool ok;
    talk_enter(true);
    ok = loop_step(&talk.edge->loop, talk.edge->tls->nrunning > 0 ? 1 : 0);
    talk_enter(false);
    return ok;
}

static void
talk_pilot_say(struct talk_peer *p)
{
    char text[80];
    snprintf(text, sizeof text, "<a xmlns='urn:xmpp:sm:3' h='%u'/>", p->stanzas);
    if (p->fd >= 0 && send(p->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        p->eof = true;
}

/* A trunk of the runner's own: count and acknowledge; only what the transcript may want is kept. */
static void
talk_pilot_read(struct talk_peer *p)
{
    static struct xe_xml_event e;
    unsigned before = p->stanzas;
    bool asked = false;
    size_t used;
    enum xe_xml_result r;
    while ((r = xe_xml_next(&p->xml, buf_at(&p->raw), buf_len(&p->raw), &used, &e))
        == XE_XML_ELEMENT) {
        enum xe_element_kind kind = xe_element_kind(&e);
        if (kind == XE_KIND_SM_A)
            p->acked = (unsigned)strtoul(xe_xml_attr(&e, "h").at, NULL, 10);
        else if (kind == XE_KIND_SM_R)
            asked = true;
        else
            buf_put(&p->got, e.raw);
        p->stanzas += kind == XE_KIND_MESSAGE || kind == XE_KIND_PRESENCE || kind == XE_KIND_IQ;
        buf_skip(&p->raw, used);
    }
    if (r == XE_XML_CLOSE)
        buf_puts(&p->got, "</stream:stream>");
    if (r == XE_XML_BAD)
        buf_puts(&p->got, "(not XML)");
    buf_skip(&p->raw, used);
    if (asked || (p->stanzas != before && !talk.hold_acks))
        talk_pilot_say(p);
}

/* Take in what the instance has said on one connection; true when there was something. */
static bool
talk_read(struct talk_peer *p)
{
    static char bytes[65536];
    struct buf *to = p->pilot ? &p->raw : &p->got;
    size_t got = 0;
    ssize_t n;
    if (p->fd < 0 || p->eof || p->deaf)
        return false;
    if (p->tls != NULL) {
        enum tls_result r = tls_read(p->tls, bytes, sizeof bytes, &got);
        p->eof = r == TLS_CLOSED || r == TLS_LOST || r == TLS_FAILED;
    } else {
        /* a ClientHello waits for the step `tls`, also when its thread sends it just now */
        n = recv(p->fd, bytes, 1, MSG_PEEK);
        if ((n < 0 && errno == EAGAIN) || (n == 1 && bytes[0] == CONN_TLS_FIRST))
            return false;
        n = recv(p->fd, bytes, sizeof bytes, 0);
        p->eof = n == 0 || (n < 0 && errno != EAGAIN);
        got = n > 0 ? (size_t)n : 0;
    }
    if (got > 0)
        buf_put(to, span_make(bytes, got));
    if (p->pilot && got > 0)
        talk_pilot_read(p);
    return got > 0 || p->eof;
}

/* Is the connection counted for the domain that is dialled, or for one that is proven there? */
static bool
talk_counted_for_right(const struct s2s *s)
{
    const struct list_node *n;
    if (s->kind != S2S_IN)
        return s->peer == s2s_peer_find(s->service, span_of(s->remote));
    for (n = s->pairs.next; n != &s->pairs; n = n->next) {
        const struct s2s_pair *p = MAP_OWNER(n, const struct s2s_pair, node);
        if (p->open && s->peer == s2s_peer_find(s->service, p->remote))
            return true;
    }
    return false;
}

/* What is counted where it begins and ends is what a walk finds. */
static bool
talk_counts_are_true(const struct xmppedge *e)
{
    const struct list_node *n, *m;
    size_t accepted = 0, verifies = 0, counted = 0, pinned = 0, outward = 0;
    for (n = e->s2s.all.next; n != &e->s2s.all; n = n->next) {
        const struct s2s *s = MAP_OWNER(n, const struct s2s, node);
        size_t same[2] = { 0, 0 };
        accepted += s->kind == S2S_IN;
        verifies += s->kind == S2S_VERIFY;
        if (s->kind == S2S_IN && s->state != S2S_OPEN)
            continue;
        for (m = e->s2s.all.next; m != &e->s2s.all; m = m->next) {
            const struct s2s *other = MAP_OWNER(m, const struct s2s, node);
            same[other->kind == S2S_VERIFY] += other->peer == s->peer;
        }
        if (s->peer == NULL || !talk_counted_for_right(s) || s->peer->proven != same[0]
            || s->peer->verifies != same[1])
            return false;
        counted++;
    }
    for (n = e->trunks.all.next; n != &e->trunks.all; n = n->next) {
        const struct trunk *t = MAP_OWNER(n, const struct trunk, node);
        for (m = t->pairs.next; m != &t->pairs; m = m->next, pinned++)
            if (MAP_OWNER(m, const struct route_pair, pin)->trunk != t)
                return false;
    }
    for (n = e->route.all.next; n != &e->route.all; n = n->next) {
        const struct route_pair *p = MAP_OWNER(n, const struct route_pair, all);
        pinned -= p->trunk != NULL;
        outward += p->way == ROUTE_TO_S2S ? queue_unsent(&p->queue) : 0;
    }
    return accepted == e->s2s.accepted && verifies == e->s2s.verifies
        && counted >= e->s2s.peers.count && pinned == 0 && outward == e->route.outward;
}

/* Turn the loop until the instance rests and all that it said is read. */
static bool
talk_rest(const struct talk_step *s)
{
    unsigned turns;
    for (turns = 0; turns < TALK_TURNS; turns++) {
        bool moved = false;
        size_t i;
        for (i = 0; i < talk.npeers; i++)
            moved = talk_read(&talk.peers[i]) || moved;
        if (!moved && !talk_busy()) {
            int soon = loop_timeout(&talk.edge->loop);
            if (soon < 0 || soon > TALK_SOON_MS)
                return talk_counts_are_true(talk.edge) || talk_fail(s, "a count is wrong");
            talk.ahead_ms += soon;
        }
        if (!talk_turn())
            return talk_fail(s, "the loop has ended");
    }
    return talk_fail(s, "the instance does not come to rest");
}

/* ---- copies ---- */

#if LOOP_EPOLL
/* What the epoll instance watches, as the system tells it; a new one, of this process alone, takes
 * over from it. */
static void
talk_renew_epoll(struct loop *l)
{
    struct { int fd; struct epoll_event e; } all[LOOP_EVENTS_MAX];
    size_t n = 0;
    char line[256];
    int fresh;
    FILE *f;
    snprintf(line, sizeof line, "/proc/self/fdinfo/%d", l->epoll_fd);
    f = fopen(line, "r");
    while (f != NULL && n < LOOP_EVENTS_MAX && fgets(line, sizeof line, f) != NULL) {
        unsigned events;
        unsigned long long data;
        memset(&all[n], 0, sizeof all[n]);
        if (sscanf(line, "tfd: %d events: %x data: %llx", &all[n].fd, &events, &data) != 3)
            continue;
        all[n].e.events = events & (EPOLLIN | EPOLLOUT);
        all[n++].e.data.ptr = (void *)(uintptr_t)data;
    }
    if (f != NULL)
        fclose(f);
    fresh = epoll_create1(EPOLL_CLOEXEC);
    dup2(fresh, l->epoll_fd);
    close(fresh);
    while (n > 0) {
        n--;
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, all[n].fd, &all[n].e);
    }
}
#else
static void
talk_renew_epoll(struct loop *l)
{
    (void)l;
}
#endif

/* Our end of the connection on the instance's descriptor; NULL when we hung up. */
static struct talk_peer *
talk_peer_of(int theirs)
{
    size_t i;
    for (i = talk.npeers; i > 0; i--)
        if (talk.peers[i - 1].theirs == theirs)
            return talk.peers[i - 1].fd >= 0 ? &talk.peers[i - 1] : NULL;
    return NULL;
}

/* What is under way from an end of a connection, into the other end of its successor. */
static void
talk_carry(int reads, int writes)
{
    static char bytes[65536];
    ssize_t n = recv(reads, bytes, sizeof bytes, MSG_PEEK);
    if (n > 0 && send(writes, bytes, (size_t)n, MSG_NOSIGNAL) != n)
        _exit(3);
}

/* A pair of our own in the place of a connection of the instance that is shared. */
static void
talk_unshare_end(int theirs, bool ended)
{
    struct talk_peer *p = theirs < 0 ? NULL : talk_peer_of(theirs);
    int pair[2];
    if (p == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return;
    talk_unblock(pair[0]);
    talk_unblock(pair[1]);
    talk_carry(p->fd, pair[0]);
    talk_carry(theirs, pair[1]);
    dup2(pair[0], theirs);
    dup2(pair[1], p->fd);
    close(pair[0]);
    close(pair[1]);
    if (ended)
        shutdown(theirs, SHUT_WR);
}

/* After fork() the sockets are shared with the original. */
static void
talk_unshare(void)
{
    struct xmppedge *e = talk.edge;
    struct list_node *n;
    for (n = e->wire.all.next; n != &e->wire.all; n = n->next) {
        struct conn *c = MAP_OWNER(n, struct conn, node);
        talk_unshare_end(c->watch.fd, c->state == CONN_LINGER);
    }
    for (n = e->proxies.waiting.next; n != &e->proxies.waiting; n = n->next)
        talk_unshare_end(MAP_OWNER(n, struct proxy_wait, node)->watch.fd, false);
    talk_renew_epoll(&e->loop);
}

/* ---- texts ---- */

static const struct talk_let *
talk_let_find(struct xe_span name)
{
    size_t i;
    for (i = talk.nlets; i > 0; i--)
        if (span_is(name, talk.lets[i - 1].name))
            return &talk.lets[i - 1];
    return NULL;
}

static struct xe_span
talk_word(struct xe_span *text)
{
    size_t n = 0;
    struct xe_span word;
    while (text->len > 0 && text->at[0] == ' ')
        *text = span_make(text->at + 1, text->len - 1);
    while (n < text->len && text->at[n] != ' ')
        n++;
    word = span_make(text->at, n);
    *text = span_make(text->at + n, text->len - n);
    while (text->len > 0 && text->at[0] == ' ')
        *text = span_make(text->at + 1, text->len - 1);
    return word;
}

static size_t
talk_brace_end(struct xe_span text, size_t at)
{
    unsigned depth = 0;
    for (; at < text.len; at++) {
        if (text.at[at] == '\\')
            at++;
        else if (text.at[at] == '{')
            depth++;
        else if (text.at[at] == '}' && --depth == 0)
            return at;
    }
    return 0;
}

/* The next argument: a word, in which what stands in braces is one piece. */
static struct xe_span
talk_argument(struct xe_span *text)
{
    size_t n = 0;
    struct xe_span word;
    while (n < text->len && text->at[n] != ' ')
        n = text->at[n] == '{' && talk_brace_end(*text, n) > 0 ? talk_brace_end(*text, n) + 1
            : n + 1;
    word = span_make(text->at, n);
    *text = span_make(text->at + n, text->len - n);
    while (text->len > 0 && text->at[0] == ' ')
        *text = span_make(text->at + 1, text->len - 1);
    return word;
}

/* %1 to %9 become the arguments. */
static void
talk_substitute(struct xe_span text, struct xe_span rest, struct buf *out)
{
    struct xe_span args[9];
    size_t i;
    for (i = 0; i < 9; i++)
        args[i] = talk_argument(&rest);
    for (i = 0; i < text.len; i++) {
        if (text.at[i] == '\\' && i + 1 < text.len)
            buf_put(out, span_make(text.at + i++, 2));
        else if (text.at[i] == '%' && i + 1 < text.len
            && text.at[i + 1] >= '1' && text.at[i + 1] <= '9')
            buf_put(out, args[text.at[++i] - '1']);
        else
            buf_putc(out, text.at[i]);
    }
}

/* Put texts of `let` lines in the place of {name arguments}; everything else stays as it is. */
static void
talk_expand(struct xe_span text, struct buf *out)
{
    size_t i;
    for (i = 0; i < text.len; i++) {
        size_t end = text.at[i] == '{' ? talk_brace_end(text, i) : 0;
        struct xe_span rest = span_make(text.at + i + 1, end > 0 ? end - i - 1 : 0);
        struct xe_span name = end > 0 ? talk_word(&rest) : rest;
        const struct talk_let *let = talk_let_find(name);
        unsigned long n = 1;
        if (end == 0) {
            buf_put(out, span_make(text.at + i, 1));
            if (text.at[i] == '\\' && i + 1 < text.len)
                buf_put(out, span_make(text.at + ++i, 1));
        } else if (span_is(name, "repeat")) {
            for (n = strtoul(rest.at, NULL, 10), talk_word(&rest); n > 0; n--)
                talk_expand(rest, out);
            i = end;
        } else if (let != NULL) {
            struct buf body = { .max = (size_t)1 << 20 };
            talk_substitute(span_make(let->text.bytes, let->text.tail), rest, &body);
            talk_expand(buf_span(&body), out);
            buf_free(&body);
            i = end;
        } else {
            fprintf(stderr, "talk: there is no text {%.*s}\n", (int)name.len, name.at);
            exit(99);
        }
    }
}

static struct talk_name *
talk_name_get(struct xe_span name)
{
    size_t i;
    struct talk_name *fresh = &talk.names[talk.nnames];
    for (i = 0; i < talk.nnames; i++)
        if (span_is(name, talk.names[i].name))
            return &talk.names[i];
    if (talk.nnames == TALK_NAMES)
        exit(99);
    talk.nnames++;
    snprintf(fresh->name, sizeof fresh->name, "%.*s", (int)name.len, name.at);
    fresh->value[0] = '\0';
    return fresh;
}

static bool
talk_is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* $key(receiving,originating,id) */
static size_t
talk_put_key(struct xe_span text, struct buf *out)
{
    size_t end = span_find(text, ')');
    struct xe_span part[3];
    struct xe_span rest = span_make(text.at + 5, end - 5);
    char key[DIALBACK_KEY_LEN + 1];
    size_t i;
    for (i = 0; i < 3; i++) {
        size_t comma = span_find(rest, ',');
        part[i] = span_make(rest.at, comma);
        rest = comma < rest.len ? span_make(rest.at + comma + 1, rest.len - comma - 1)
            : span_make("", 0);
        if (part[i].len > 0 && part[i].at[0] == '$')
            part[i] = span_of(talk_name_get(span_make(part[i].at + 1, part[i].len - 1))->value);
    }
    dialback_key(&talk.edge->keys.secret, part[0], part[1], part[2], key);
    buf_puts(out, key);
    return end;
}

/* $name or $key(...) at text.at; the bytes used. */
static size_t
talk_put_name(struct xe_span text, bool pattern, struct buf *out)
{
    struct talk_name *name;
    size_t n = 1;
    if (text.len > 5 && memcmp(text.at, "$key(", 5) == 0)
        return talk_put_key(text, out) + 1;
    while (n < text.len && talk_is_name(text.at[n]))
        n++;
    name = talk_name_get(span_make(text.at + 1, n - 1));
    if (name->value[0] != '\0' || !pattern) {
        buf_puts(out, name->value);
    } else {
        buf_putc(out, TALK_CAPTURE);
        buf_putc(out, (char)(name - talk.names));
    }
    return n;
}

/* The bytes, or the pattern, that a text stands for. */
static void
talk_compile(struct xe_span text, bool pattern, struct buf *out)
{
    size_t i = 0;
    out->max = (size_t)16 << 20;
    buf_clear(out);
    while (i < text.len) {
        char c = text.at[i];
        char hex[3] = "";
        if (c == '\\' && i + 1 < text.len) {
            c = text.at[i + 1];
            if (c == 'x' && i + 3 < text.len) {
                memcpy(hex, text.at + i + 2, 2);
                i += 2;
            }
            buf_putc(out, c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c == 's' ? ' '
                : c == 'x' ? (char)strtoul(hex, NULL, 16) : c);
            i += 2;
        } else if (c == '$') {
            i += talk_put_name(span_make(text.at + i, text.len - i), pattern, out);
        } else {
            buf_putc(out, c == '*' && pattern ? TALK_STAR : c);
            i++;
        }
    }
}

/* Does `text` begin with the pattern?  The shortest way counts.  The bytes met; SIZE_MAX: no. */
static size_t
talk_match(struct xe_span pattern, struct xe_span text)
{
    size_t i = 0;
    size_t p = 0;
    while (p < pattern.len && pattern.at[p] != TALK_STAR && pattern.at[p] != TALK_CAPTURE) {
        if (i == text.len || text.at[i] != pattern.at[p])
            return SIZE_MAX;
        i++;
        p++;
    }
    if (p == pattern.len)
        return i;
    {
        bool capture = pattern.at[p] == TALK_CAPTURE;
        struct talk_name *name = capture ? &talk.names[(unsigned char)pattern.at[p + 1]] : NULL;
        struct xe_span rest = span_make(pattern.at + p + 1 + capture,
            pattern.len - p - 1 - capture);
        size_t n;
        if (!capture && rest.len == 0)
            return text.len;
        for (n = capture; i + n <= text.len; n++) {
            size_t more = talk_match(rest, span_make(text.at + i + n, text.len - i - n));
            if (capture && (text.at[i + n - 1] == '\'' || text.at[i + n - 1] == '<'
                    || n >= sizeof name->value))
                return SIZE_MAX;
            if (more == SIZE_MAX)
                continue;
            if (capture)
                snprintf(name->value, sizeof name->value, "%.*s", (int)n, text.at + i);
            return i + n + more;
        }
    }
    return SIZE_MAX;
}

/* ---- the trace: what is to be the same however the bytes came ---- */

/* Append `s` with remembered values as their names. */
static void
talk_trace_put(struct buf *out, struct xe_span s)
{
    size_t i = 0;
    while (i < s.len) {
        size_t k;
        for (k = 0; k < talk.nnames; k++) {
            size_t n = strlen(talk.names[k].value);
            if (n >= 8 && n <= s.len - i && memcmp(s.at + i, talk.names[k].value, n) == 0)
                break;
        }
        if (k < talk.nnames) {
            buf_putc(out, '$');
            buf_puts(out, talk.names[k].name);
            i += strlen(talk.names[k].value);
        } else {
            buf_putc(out, s.at[i++]);
        }
    }
}

/* Acknowledgements may come together or one by one: only the last counts. */
static void
talk_trace_peer(struct buf *out, const struct talk_peer *p)
{
    static const char ack[] = "<a xmlns='urn:xmpp:sm:3' h='";
    struct xe_span s = span_make(p->got.bytes, p->got.tail);
    struct xe_span last = span_make("", 0);
    while (s.len > 0) {
        size_t n = 1;
        if (s.len > sizeof ack && memcmp(s.at, ack, sizeof ack - 1) == 0) {
            n = span_find(s, '>') + 1;
            last = span_make(s.at, n);
        } else {
            while (n < s.len && s.at[n] != '<')
                n++;
            talk_trace_put(out, span_make(s.at, n));
        }
        s = span_make(s.at + n, s.len - n);
    }
    buf_put(out, last);
}

static void
talk_trace(struct buf *out)
{
    struct xe_span log = span_make(talk.log.bytes, talk.log.tail);
    size_t i;
    out->max = (size_t)64 << 20;
    for (i = 0; i < talk.npeers; i++) {
        buf_puts(out, "connection ");
        buf_puts(out, talk.peers[i].name);
        buf_putc(out, '\n');
        talk_trace_peer(out, &talk.peers[i]);
        buf_puts(out, talk.peers[i].eof ? "\n(end)\n" : "\n");
    }
    while (log.len > 0) {
        size_t n = span_find(log, '\n');
        size_t skip = span_find(log, ' ');   /* the time */
        talk_trace_put(out, span_make(log.at + skip, n - skip));
        buf_putc(out, '\n');
        log = span_make(log.at + n + 1, log.len - n - 1);
    }
}

static bool
talk_trace_same(void)
{
    struct buf mine = { .max = 0 };
    size_t i = 0;
    size_t from;
    struct xe_span a;
    struct xe_span b;
    talk_trace(&mine);
    a = buf_span(&talk.reference);
    b = buf_span(&mine);
    if (span_eq(a, b)) {
        buf_free(&mine);
        return true;
    }
    while (i < a.len && i < b.len && a.at[i] == b.at[i])
        i++;
    for (from = i; from > 0 && a.at[from - 1] != '\n'; from--)
        continue;
    from = i - from > 300 ? i - 300 : from;
    talk_fail(NULL, "not the same as the whole run:\n  whole: %s\n  now:   %s",
        talk_show(span_make(a.at + from, a.len - from < 500 ? a.len - from : 500)),
        talk_show(span_make(b.at + from, b.len - from < 500 ? b.len - from : 500)));
    buf_free(&mine);
    return false;
}

/* ---- saying ---- */

/* Write without regard to the instance's state: it may have had enough. */
static bool
talk_write(const struct talk_step *s, struct talk_peer *p, struct xe_span bytes)
{
    unsigned tries = 0;
    if (p->fd < 0)
        return talk_fail(s, "we have hung up");
    while (bytes.len > 0 && tries < 1000) {
        size_t put = 0;
        if (p->tls != NULL) {
            enum tls_result r = tls_write(p->tls, bytes.at, bytes.len, &put);
            if (r != TLS_DONE && r != TLS_WANT_WRITE)
                return true;
        } else {
            ssize_t n = send(p->fd, bytes.at, bytes.len, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return true;
            put = n > 0 ? (size_t)n : 0;
        }
        bytes = span_make(bytes.at + put, bytes.len - put);
        if (bytes.len > 0 && !talk_rest(s))
            return false;
        tries = put > 0 ? 0 : tries + 1;
    }
    return bytes.len == 0 || talk_fail(s, "the instance does not read");
}

/* One by one; very long texts in larger pieces behind their first bytes. */
static bool
talk_write_bytes(const struct talk_step *s, struct talk_peer *p, struct xe_span bytes)
{
    size_t done = 0;
    while (done < bytes.len) {
        size_t n = done < 6000 || bytes.len - done < 300 ? 1 : 97;
        if (!talk_write(s, p, span_make(bytes.at + done, n)) || !talk_rest(s))
            return false;
        done += n;
    }
    return true;
}

static bool talk_play(size_t from);

/* In a copy: say the line in two parts, play the rest, tell the result through the pipe. */
static void
talk_cut_copy(size_t at, struct talk_peer *p, struct xe_span bytes, size_t cut, int fd)
{
    const struct talk_step *s = &talk.steps[at];
    bool ok;
    talk_unshare();
    talk.mode = TALK_WHOLE;
    talk.after_cut = true;
    ok = talk_write(s, p, span_make(bytes.at, cut)) && talk_rest(s)
        && talk_write(s, p, span_make(bytes.at + cut, bytes.len - cut)) && talk_rest(s)
        && talk_play(at + 1);
    if (!ok && write(fd, talk.error.bytes, buf_len(&talk.error)) < 0)
        _exit(2);
    _exit(ok ? 0 : 1);
}

static bool
talk_cut(size_t at, struct talk_peer *p, struct xe_span bytes, size_t cut)
{
    char text[4096];
    size_t len = 0;
    ssize_t n;
    int status = 0;
    int fds[2];
    pid_t pid;
    if (pipe(fds) != 0)
        return talk_fail(&talk.steps[at], "pipe: %s", strerror(errno));
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        talk_cut_copy(at, p, bytes, cut, fds[1]);
    }
    close(fds[1]);
    while (len < sizeof text - 1 && (n = read(fds[0], text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(fds[0]);
    waitpid(pid, &status, 0);
    talk.cuts++;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    return talk_fail(NULL, "line %u cut at %u of %u, before %s:\n  %s", talk.steps[at].line,
        (unsigned)cut, (unsigned)bytes.len,
        talk_show(span_make(bytes.at + cut, bytes.len - cut < 20 ? bytes.len - cut : 20)),
        len > 0 ? text : "the copy crashed");
}

/* Every position; of very long texts the two ends and some between.  What many transcripts share,
 * the stream header and all before `here`, is cut at every tenth at most, each one at others. */
static bool
talk_cut_all(size_t at, struct talk_peer *p, struct xe_span bytes)
{
    bool shared = !talk.deep
        && (at < talk.here || (bytes.len > 100 && memcmp(bytes.at, "<?xml", 5) == 0));
    size_t step = shared && talk_stride < 10 ? 10 : talk_stride;
    size_t cut;
    for (cut = 1 + (step > 1 ? talk.turn++ % step : 0); cut < bytes.len; cut += step) {
        if (!talk_cut(at, p, bytes, cut))
            return false;
        if (!shared)
            step = bytes.len < 600 || cut < 150 || bytes.len - cut <= 150 ? talk_stride
                : 97 + bytes.len / 40;
    }
    return true;
}

static bool
talk_say(size_t at, struct talk_peer *p)
{
    static struct buf joined;
    struct talk_step *s = &talk.steps[at];
    struct buf bytes = { .max = 0 };
    bool ok = true;
    if (p == NULL)
        return talk_fail(s, "there is no connection");
    talk_compile(buf_span(&s->text), false, &bytes);
    switch (talk.mode) {
    case TALK_JOINED:
        joined.max = (size_t)64 << 20;
        buf_put(&joined, buf_span(&bytes));
        if (at + 1 < talk.nsteps && strcmp(talk.steps[at + 1].verb, s->verb) == 0)
            break;
        ok = talk_write(s, p, buf_span(&joined)) && talk_rest(s);
        buf_free(&joined);
        break;
    case TALK_BYTES:
        ok = talk_write_bytes(s, p, buf_span(&bytes));
        break;
    case TALK_CUTS:
        if (!talk_cut_all(at, p, buf_span(&bytes))) {
            ok = false;
            break;
        }
        ok = talk_write(s, p, buf_span(&bytes)) && talk_rest(s);
        break;
    case TALK_WHOLE:
        ok = talk_write(s, p, buf_span(&bytes)) && talk_rest(s);
        break;
    }
    buf_free(&bytes);
    return ok;
}

/* ---- steps: each is a function of its line ---- */

static bool
talk_open_named(const struct talk_step *s, bool trunk)
{
    struct xe_span rest = buf_span(&s->text);
    struct xe_span name = talk_word(&rest);
    struct sockaddr_storage from;
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&from;
    char text[40];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return talk_fail(s, "socketpair: %s", strerror(errno));
    talk_unblock(pair[0]);
    talk_unblock(pair[1]);
    memset(&from, 0, sizeof from);
    in->sin_family = AF_INET;
    in->sin_port = htons(40000);
    snprintf(text, sizeof text, "%.*s", (int)rest.len, rest.at == NULL ? "" : rest.at);
    inet_pton(AF_INET, rest.len > 0 ? text : talk.edge->config->role == CONFIG_EDGE ? "127.0.0.2"
        : "127.0.0.5", &in->sin_addr);
    talk.on = talk_peer_new(pair[1], pair[0]);
    snprintf(talk.on->name, sizeof talk.on->name, "%.*s", (int)name.len,
        name.len == 0 ? "" : name.at);
    if (name.len == 0)
        snprintf(talk.on->name, sizeof talk.on->name, "first");
    talk_enter(true);
    if (trunk)
        edge_trunk_accepted(talk.edge, pair[0], &from);
    else
        edge_s2s_accepted(talk.edge, pair[0], &from);
    talk_enter(false);
    return talk_rest(s);
}

/* open [NAME] [ADDRESS]: somebody connects to 5269. */
static bool
talk_do_open(size_t at)
{
    return talk_open_named(&talk.steps[at], false);
}

/* open-trunk [NAME]: somebody connects to 23456. */
static bool
talk_do_open_trunk(size_t at)
{
    return talk_open_named(&talk.steps[at], true);
}

/* ask NAME QUESTION: what `xmppedge ping` and its like ask; the answer is what is said there. */
static bool
talk_do_ask(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    struct xe_span question = buf_span(&s->text);
    struct xe_span name = talk_word(&question);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return talk_fail(s, "socketpair: %s", strerror(errno));
    talk_unblock(pair[0]);
    talk_unblock(pair[1]);
    talk.on = talk_peer_new(pair[1], pair[0]);
    snprintf(talk.on->name, sizeof talk.on->name, "%.*s", (int)name.len, name.at);
    talk_enter(true);
    control_accepted(talk.edge->control, pair[0], NULL);
    talk_enter(false);
    if (write(pair[1], question.at, question.len) != (ssize_t)question.len
        || write(pair[1], "\n", 1) != 1)
        return talk_fail(s, "the question cannot be written");
    return talk_rest(s);
}

static struct talk_peer *
talk_find_peer(struct xe_span name)
{
    size_t i;
    for (i = talk.npeers; i > 0; i--)
        if (span_is(name, talk.peers[i - 1].name))
            return &talk.peers[i - 1];
    return NULL;
}

/* dialled NAME [ADDRESS:PORT [from ADDRESS]]: the instance has connected to us; that is the current
 * connection now. */
static bool
talk_do_dialled(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    struct xe_span rest = buf_span(&s->text);
    struct xe_span name = talk_word(&rest);
    struct xe_span target = talk_word(&rest);
    size_t i;
    talk_word(&rest);
    for (i = 0; i < talk.npeers; i++) {
        struct talk_peer *p = &talk.peers[i];
        if (p->name[0] != '\0')
            continue;
        snprintf(p->name, sizeof p->name, "%.*s", (int)name.len, name.at);
        talk.on = p;
        if (target.len > 0 && !span_is(target, p->target))
            return talk_fail(s, "the instance has connected to %s", p->target);
        if (rest.len > 0 && strncmp(p->source, rest.at, rest.len) != 0)
            return talk_fail(s, "the instance has connected from %s", p->source);
        return true;
    }
    return talk_fail(s, "the instance has not connected");
}

/* on NAME: the connection that the next lines are about. */
static bool
talk_do_on(size_t at)
{
    talk.on = talk_find_peer(buf_span(&talk.steps[at].text));
    return talk.on != NULL || talk_fail(&talk.steps[at], "there is no such connection");
}

/* them TEXT: we say this.  Opens a connection when there is none. */
static bool
talk_do_them(size_t at)
{
    struct talk_step nothing = { .line = talk.steps[at].line };
    if (talk.npeers == talk.bystanders + (talk.trunk != NULL) && talk.on == NULL
        && !talk_open_named(&nothing, false))
        return false;
    return talk_say(at, talk.on);
}

static bool
talk_expect(const struct talk_step *s, struct talk_peer *p)
{
    struct buf pattern = { .max = 0 };
    struct xe_span got;
    size_t n;
    if (p == NULL)
        return talk_fail(s, "there is no connection");
    talk_compile(buf_span(&s->text), true, &pattern);
    got = talk_unseen(p);
    n = talk_match(buf_span(&pattern), got);
    if (n == SIZE_MAX)
        talk_fail(s, "on %s\n  expected: %s\n  found:    %s%s", p->name,
            talk_show(buf_span(&pattern)), talk_show(got), p->eof ? " (end)" : "");
    else
        p->seen += n;
    buf_free(&pattern);
    return n != SIZE_MAX;
}

/* us PATTERN: the instance has said this next. */
static bool
talk_do_us(size_t at)
{
    return talk_expect(&talk.steps[at], talk.on);
}

/* inside TEXT: this comes out of the current trunk. */
static bool
talk_do_inside(size_t at)
{
    return talk_say(at, talk.trunk);
}

/* trunk PATTERN: the instance has sent this through the trunk. */
static bool
talk_do_trunk(size_t at)
{
    return talk_expect(&talk.steps[at], talk.trunk);
}

/* closed: the instance has ended the connection, and said nothing that is not expected. */
static bool
talk_do_closed(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    struct talk_peer *p = talk.on;
    if (p->seen < p->got.tail)
        return talk_fail(s, "on %s, not expected: %s", p->name,
            talk_show(talk_unseen(p)));
    return p->eof || talk_fail(s, "%s is still open", p->name);
}

/* alive: it has not, and nothing unexpected was said. */
static bool
talk_do_alive(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    struct talk_peer *p = talk.on;
    if (p->seen < p->got.tail)
        return talk_fail(s, "on %s, not expected: %s", p->name,
            talk_show(talk_unseen(p)));
    return !p->eof || talk_fail(s, "%s has ended", p->name);
}

static void
talk_hang_up(struct talk_peer *p)
{
    if (p->fd < 0)
        return;
    if (p->tls != NULL)
        tls_free(p->tls);
    p->tls = NULL;
    close(p->fd);
    p->fd = -1;
}

/* hangup: we close without a word. */
static bool
talk_do_hangup(size_t at)
{
    talk_hang_up(talk.on);
    return talk_rest(&talk.steps[at]);
}

/* deaf: we do not read any more what the instance says on the current connection. */
static bool
talk_do_deaf(size_t at)
{
    (void)at;
    talk.on->deaf = true;
    return true;
}

/* listen: we read again, also what was said meanwhile. */
static bool
talk_do_listen(size_t at)
{
    talk.on->deaf = false;
    return talk_rest(&talk.steps[at]);
}

/* trunk-down: the same for the current trunk. */
static bool
talk_do_trunk_down(size_t at)
{
    talk_hang_up(talk.trunk);
    return talk_rest(&talk.steps[at]);
}

/* wait TIME: the clock goes on. */
static bool
talk_do_wait(size_t at)
{
    char *unit;
    long n = strtol(buf_text(&talk.steps[at].text), &unit, 10);
    talk.ahead_ms += strcmp(unit, "ms") == 0 ? n : n * 1000;
    return talk_rest(&talk.steps[at]);
}

/* refuse N [ERROR]: the next N connections of the instance are refused, or fail in another way. */
static bool
talk_do_refuse(size_t at)
{
    static const struct { const char *word; int error; } errors[] = {
        { "", ECONNREFUSED }, { " no-route", EHOSTUNREACH }, { " no-source", EADDRNOTAVAIL } };
    char *word;
    size_t i;
    talk.refuse = (unsigned)strtoul(buf_text(&talk.steps[at].text), &word, 10);
    for (i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (strcmp(word, errors[i].word) == 0) {
            talk.refuse_errno = errors[i].error;
            return true;
        }
    }
    return talk_fail(&talk.steps[at], "refuse knows no-route and no-source, not%s", word);
}

/* silent N: they are never answered. */
static bool
talk_do_silent(size_t at)
{
    talk.silent = (unsigned)strtoul(buf_text(&talk.steps[at].text), NULL, 10);
    return true;
}

/* hold-acks: trunks do not acknowledge any more.  acks: they do again. */
static bool
talk_do_hold_acks(size_t at)
{
    (void)at;
    talk.hold_acks = true;
    return true;
}

static bool
talk_do_acks(size_t at)
{
    talk.hold_acks = false;
    talk_pilot_say(talk.trunk);
    return talk_rest(&talk.steps[at]);
}

static bool
talk_line_has(struct xe_span line, struct xe_span field)
{
    size_t i;
    for (i = 0; i + field.len <= line.len; i++)
        if (memcmp(line.at + i, field.at, field.len) == 0 && i > 0 && line.at[i - 1] == ' '
            && (i + field.len == line.len || line.at[i + field.len] == ' '))
            return true;
    return false;
}

static bool
talk_line_has_all(struct xe_span line, struct xe_span words)
{
    while (words.len > 0)
        if (!talk_line_has(line, talk_word(&words)))
            return false;
    return true;
}

/* The next line of the log with all these fields. */
static bool
talk_log_find(const struct talk_step *s, const char *first)
{
    struct xe_span log = span_skip(buf_span(&talk.log), talk.log_seen);
    while (log.len > 0) {
        size_t n = span_find(log, '\n');
        struct xe_span line = span_make(log.at, n);
        bool all = first == NULL ? talk_line_has_all(line, buf_span(&s->text))
            : talk_line_has(line, span_of(first));
        log = span_make(log.at + n + 1, log.len - n - 1);
        if (all) {
            talk.log_seen = talk.log.tail - log.len;
            return true;
        }
    }
    return talk_fail(s, "no such line in the log since the last one asked for:\n%s",
        talk_show(span_skip(buf_span(&talk.log), talk.log_seen)));
}

/* log WORDS: a line with all these words follows in the log. */
static bool
talk_do_log(size_t at)
{
    return talk_log_find(&talk.steps[at], NULL);
}

/* why WORD: an ending or a refusal with this reason follows in the log. */
static bool
talk_do_why(size_t at)
{
    char field[64];
    snprintf(field, sizeof field, "why=%s", buf_text(&talk.steps[at].text));
    return talk_log_find(&talk.steps[at], field);
}

/* quiet WORDS: no line of the whole log has all these words. */
static bool
talk_do_quiet(size_t at)
{
    size_t seen = talk.log_seen;
    bool found;
    talk.log_seen = 0;
    found = talk_log_find(&talk.steps[at], NULL);
    talk.log_seen = seen;
    return !found || talk_fail(&talk.steps[at], "there is such a line in the log");
}

/* The objects of a JSON text, a line of " key=value" for each. */
static void
talk_put_fields(struct buf *out, struct xe_span json)
{
    bool quoted = false;
    size_t i;
    for (i = 0; i < json.len; i++) {
        char c = json.at[i];
        if (c == '"' && (i == 0 || json.at[i - 1] != '\\'))
            quoted = !quoted;
        else if (quoted)
            buf_putc(out, c);
        else
            buf_putc(out, c == ':' ? '=' : c == ',' ? ' ' : c == '{' || c == '}' ? '\n' : c);
        if (c == '{')
            buf_putc(out, ' ');
    }
}

/* status WORDS: an object of the status has all these words. */
static bool
talk_do_status(size_t at)
{
    struct buf out = { .max = CONTROL_PIECE };
    struct xe_span text;
    size_t len;
    char *json;
    bool found = false;
    if (!talk_turn())   /* what time is it? */
        return false;
    json = xe_status(talk.edge, &len);
    talk_put_fields(&out, span_make(json, len));
    text = buf_span(&out);
    while (text.len > 0 && !found) {
        size_t n = span_find(text, '\n');
        found = talk_line_has_all(span_make(text.at, n), buf_span(&talk.steps[at].text));
        text = span_skip(text, n + (n < text.len));
    }
    found = found || talk_fail(&talk.steps[at], "no such object in the status:\n%s",
        talk_show(buf_span(&out)));
    free(json);
    buf_free(&out);
    return found;
}

/* ---- TLS ---- */

static struct tls_identity *
talk_identity(const struct talk_step *s, struct xe_span kind)
{
    char chain[160];
    char key[160];
    char err[TLS_ERROR_MAX];
    struct tls_identity *id;
    if (span_is(kind, "none"))
        return NULL;
    snprintf(chain, sizeof chain, "%s/%.*s.pem", talk.dir, (int)kind.len, kind.at);
    snprintf(key, sizeof key, "%s/key", talk.dir);
    id = tls_identity_load(talk.tls, chain, key, err);
    if (id == NULL)
        talk_fail(s, "%s", err);
    return id;
}

/* The handshake; true when our side has completed it. */
static bool
talk_handshake(const struct talk_step *s, struct talk_peer *p)
{
    unsigned turns;
    enum tls_result r = TLS_AGAIN;
    /* a thread is nicer than all others: while it computes a turn is 1 ms, and many may pass */
    for (turns = 0; turns < 60000; turns += talk.edge->tls->nrunning > 0 ? 1 : 30) {
        if (r != TLS_DONE)
            r = tls_handshake(p->tls);
        if (r == TLS_CLOSED || r == TLS_LOST || r == TLS_FAILED)
            return false;
        if (r == TLS_DONE && !talk_busy())
            return talk_rest(s);
        talk_turn();
    }
    return false;
}

/* cert=KIND sni=NAME alpn=NAME */
static bool
talk_begin_tls(const struct talk_step *s, struct talk_peer *p, const char *suites, bool *done)
{
    static const char *const xmpp[] = { "xmpp-server", NULL };
    static const char *const other[] = { "http/1.1", NULL };
    struct xe_span rest = buf_span(&s->text);
    struct xe_span kind = span_of(p->target[0] != '\0' ? "far" : "none");
    struct tls_options options = { .ciphersuites = suites };
    const char *const *alpn = NULL;
    char sni[256] = "";
    char err[TLS_ERROR_MAX];
    struct tls_profile *profile;
    struct tls_identity *id;
    bool server = p->target[0] != '\0';
    while (rest.len > 0) {
        struct xe_span word = talk_word(&rest);
        size_t eq = span_find(word, '=');
        struct xe_span value = span_make(word.at + eq + 1, word.len - eq - 1);
        if (span_is(span_make(word.at, eq), "cert"))
            kind = value;
        else if (span_is(span_make(word.at, eq), "sni"))
            snprintf(sni, sizeof sni, "%.*s", (int)value.len, value.at);
        else if (span_is(span_make(word.at, eq), "alpn"))
            alpn = span_is(value, "xmpp-server") ? xmpp : other;
        else
            return talk_fail(s, "unknown word");
    }
    buf_clear(&talk.error);
    id = talk_identity(s, kind);
    if (buf_len(&talk.error) > 0)
        return false;
    profile = tls_profile_new(talk.tls, server, &options, talk.trust[0], alpn, err);
    p->tls = profile == NULL ? NULL
        : tls_new(profile, id, server || sni[0] == '\0' ? NULL : sni, p->fd);
    tls_profile_release(profile);
    tls_identity_release(id);
    if (p->tls == NULL)
        return talk_fail(s, "no TLS session");
    *done = talk_handshake(s, p);
    return true;
}

/* tls [cert=KIND] [sni=NAME] [alpn=NAME]: a handshake; we are the client of a connection that was
 * accepted and the server of one that was dialled. */
static bool
talk_do_tls(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    bool done = false;
    if (!talk_begin_tls(s, talk.on, NULL, &done))
        return false;
    return done || talk_fail(s, "the handshake has failed: %s",
        tls_facts(talk.on->tls)->error == NULL ? "?" : tls_facts(talk.on->tls)->error);
}

/* no-tls ...: the same, but it must fail.  In TLS 1.2: in 1.3 a client is through before the server
 * has seen its certificate. */
static bool
talk_do_no_tls(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    static const char only_12[] = "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384";
    bool done = false;
    if (!talk_begin_tls(s, talk.on, only_12, &done))
        return false;
    talk_rest(s);
    talk.on->eof = true;
    return !done || talk_fail(s, "the handshake has not failed");
}

/* shows DOMAIN: the certificate of the instance names it. */
static bool
talk_do_shows(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    return (talk.on->tls != NULL && peer_is_named(tls_facts(talk.on->tls), buf_span(&s->text)))
        || talk_fail(s, "it does not");
}

/* asks NAME: in the handshake the instance has asked for this server name. */
static bool
talk_do_asks(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    const char *sni = talk.on->tls == NULL ? NULL : tls_facts(talk.on->tls)->sni;
    return (sni != NULL && span_is(buf_span(&s->text), sni))
        || talk_fail(s, "it has asked for %s", sni == NULL ? "nothing" : sni);
}

/* ---- trunks of our own ---- */

static void
talk_trunk_header(struct stream *stream, const struct xe_xml_event *e)
{
    (void)stream;
    (void)e;
}

static void
talk_trunk_element(struct stream *stream, const struct xe_xml_event *e)
{
    trunk_up_element((struct trunk *)(void *)stream, e);
}

static bool
talk_trunk_make(const char *name, const char *domains)
{
    static const struct stream_events events = { .header = talk_trunk_header,
        .element = talk_trunk_element, .drained = trunk_drained, .ended = trunk_stream_ended };
    static const char header[] = "<stream:stream xmlns='jabber:server' "
        "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    static struct xe_xml_event e;
    struct xe_xml_limits limits = { .header = 4096, .element = (size_t)16 << 20 };
    struct trunk_service *v = &talk.edge->trunks;
    struct trunk *t = trunk_new(v);
    struct xe_span rest = span_of(domains);
    struct map plain = { .seed = { 0, 0 } };
    struct talk_peer *p;
    size_t used;
    int pair[2];
    if (t == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return false;
    talk_unblock(pair[0]);
    talk_unblock(pair[1]);
    p = talk_peer_new(pair[1], pair[0]);
    p->pilot = true;
    snprintf(p->name, sizeof p->name, "%s", name);
    xe_xml_init(&p->xml, &limits);
    xe_xml_next(&p->xml, header, sizeof header - 1, &used, &e);
    talk.trunk = p;
    snprintf(t->name, sizeof t->name, "%.*s", (int)strcspn(name, "#"), name);
    t->process = talk.numbers ? map_hash(&plain, span_of(name)) | 1 : 0;
    t->invitations = t->servers = talk.numbers;
    while (rest.len > 0)
        trunk_add_domain(t, talk_word(&rest));
    if (!stream_start(&t->stream, v->shared, pair[0], false, &events)
        || send(pair[1], header, sizeof header - 1, MSG_NOSIGNAL) < 0 || !talk_rest(NULL))
        return false;
    t->authenticated = true;
    stream_trust(&t->stream, NULL);
    t->stream.header_sent = true;
    trunk_enter(t, TRUNK_UP);
    v->events->up(v->user, t);
    return talk_rest(NULL);
}

/* The one that most transcripts have. */
static bool
talk_usual_trunk(void)
{
    return talk_trunk_make(talk.edge->config->role == CONFIG_EDGE ? "fe.near.example"
        : "edge.near.example", "near.example also.near.example")
        || talk_fail(NULL, "no trunk");
}

/* trunk-up NAME DOMAINS: a trunk comes up and acknowledges what it gets. */
static bool
talk_do_trunk_up(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    struct xe_span rest = buf_span(&s->text);
    struct xe_span name = talk_word(&rest);
    char gateway[64];
    char domains[256];
    snprintf(gateway, sizeof gateway, "%.*s", (int)name.len, name.at);
    snprintf(domains, sizeof domains, "%.*s", (int)rest.len, rest.len == 0 ? "" : rest.at);
    return talk_trunk_make(gateway, domains[0] != '\0' ? domains : "near.example also.near.example")
        || talk_fail(s, "no trunk");
}

/* on-trunk NAME: the trunk that the next lines are about. */
static bool
talk_do_on_trunk(size_t at)
{
    talk.trunk = talk_find_peer(buf_span(&talk.steps[at].text));
    return talk.trunk != NULL || talk_fail(&talk.steps[at], "there is no such trunk");
}

/* ---- the instance ---- */

static bool
talk_setting_is(struct xe_span word, const char *name, struct xe_span *value)
{
    size_t eq = span_find(word, '=');
    if (eq == word.len || !span_is(span_make(word.at, eq), name))
        return false;
    *value = span_make(word.at + eq + 1, word.len - eq - 1);
    return true;
}

/* The value of a config word; "" when it is not there. */
static struct xe_span
talk_setting(const char *name)
{
    struct xe_span rest = buf_span(&talk.settings);
    struct xe_span value;
    struct xe_span found = span_make("", 0);
    while (rest.len > 0)
        if (talk_setting_is(talk_word(&rest), name, &value))
            found = value;
    return found;
}

/* The hosts file.  hosts=N: servers.example has so many addresses from 127.0.0.2 on. */
int
talk_hosts(ares_channel channel, const char *name, int family, struct hostent **found)
{
    static unsigned char bytes[8][4];
    static char *list[9];
    static struct hostent host;
    size_t n = strtoul(talk_setting("hosts").len > 0 ? talk_setting("hosts").at : "0", NULL, 10);
    size_t i;
    (void)channel;
    if (family != AF_INET || strcmp(name, "servers.example") != 0 || n == 0 || n > 8)
        return ARES_ENOTFOUND;
    for (i = 0; i < n; i++) {
        bytes[i][0] = 127;
        bytes[i][3] = (unsigned char)(2 + i);
        list[i] = (char *)bytes[i];
    }
    list[n] = NULL;
    host.h_addr_list = list;
    *found = &host;
    return ARES_SUCCESS;
}

void
talk_hosts_free(struct hostent *host)
{
    (void)host;
}

static void
talk_put_setting(FILE *f, const char *name, const char *normal)
{
    struct xe_span value = talk_setting(name);
    if (value.len > 0)
        fprintf(f, " %s=\"%.*s\"", name, (int)value.len, value.at);
    else if (normal != NULL)
        fprintf(f, " %s=\"%s\"", name, normal);
}

/* pin=NAME: the key NAME alone, of `key`, which all certificates have, and `other`. */
static void
talk_put_pins(FILE *f)
{
    struct xe_span pin = talk_setting("pin");
    char text[128];
    FILE *in;
    if (pin.len == 0)
        return;
    snprintf(text, sizeof text, "%s/%.*s.pin", talk.dir, (int)pin.len, pin.at);
    in = fopen(text, "r");
    if (in != NULL && fgets(text, sizeof text, in) != NULL)
        fprintf(f, " pin=\"sha256:%.*s\"", (int)strcspn(text, "\n"), text);
    if (in != NULL)
        fclose(in);
}

static void
talk_put_policy(FILE *f)
{
    talk_put_setting(f, "tls", "optional");
    talk_put_setting(f, "sasl", "optional");
    talk_put_setting(f, "dialback", "true");
}

static void
talk_put_partner(FILE *f, const char *domain, const char *proxy)
{
    fprintf(f, "  <partner domain=\"%s\" proxy=\"%s\"", domain, proxy);
    talk_put_policy(f);
    talk_put_setting(f, "keepalive", NULL);
    talk_put_setting(f, "connection-limit", NULL);
    talk_put_setting(f, "proxy-direct-tls", NULL);
    talk_put_setting(f, "networks", NULL);
    talk_put_setting(f, "bidi", NULL);
    if (strcmp(domain, "far.example") == 0)
        talk_put_pins(f);
    fprintf(f, ">");
}

/* allow=KIND,... and allow-in=, allow-out= for one direction; deny= and its sisters likewise. */
static void
talk_put_rules(FILE *f)
{
    static const char *const names[] = { "allow", "allow-in", "allow-out", "deny", "deny-in",
        "deny-out" };
    static const char *const ways[] = { "both", "in", "out" };
    size_t i, n;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        struct xe_span rest = talk_setting(names[i]);
        if (rest.len == 0)
            continue;
        fprintf(f, "<%s=\"", i < 3 ? "allow kinds" : "deny namespace");
        for (; rest.len > 0; rest = span_skip(rest, n + (n < rest.len))) {
            n = span_find(rest, ',');
            fprintf(f, "%.*s%s", (int)n, rest.at, n < rest.len ? " " : "");
        }
        fprintf(f, "\" direction=\"%s\"/>", ways[i % 3]);
    }
}

/* own=NAME: the authority NAME may vouch for far.example, and nobody else. */
static void
talk_put_trust(FILE *f)
{
    struct xe_span own = talk_setting("own");
    if (own.len > 0)
        fprintf(f, "<trust ca=\"%.*s.pem\"/>", (int)own.len, own.at);
}

static void
talk_put_edge(FILE *f)
{
    bool cert = !span_is(talk_setting("certificate"), "off");
    const char *near = cert ? "<certificate chain=\"near.pem\" key=\"key\"/>" : "";
    const char *also = cert ? "<certificate chain=\"also.pem\" key=\"key\"/>" : "";
    fprintf(f, "<xmppedge role=\"edge\" name=\"edge.near.example\">\n"
        "<external address=\"127.0.0.1\" port=\"5269\"");
    talk_put_setting(f, "balancers", NULL);
    if (span_is(talk_setting("external"), "both"))
        fprintf(f, "/>\n<external address=\"2001:db8::1\" port=\"5269\"");
    fprintf(f, "/>\n<internal address=\"127.0.0.1\" port=\"23456\"");
    talk_put_setting(f, "balancers", NULL);
    fprintf(f, ">"
        "<certificate chain=\"edge.pem\" key=\"key\"/><trust ca=\"internal.pem\"/>"
        "<gateway name=\"fe.near.example\"/><gateway name=\"fe2.near.example\"/></internal>\n"
        "<domain name=\"near.example\">%s</domain><domain name=\"also.near.example\">%s</domain>\n"
        "<domain name=\"only.near.example\" gateway=\"fe2.near.example\">%s</domain>\n"
        "<trust ca=\"public.pem\"", near, also, near);
    talk_put_setting(f, "crl", NULL);
    fprintf(f, "/><dialback secret-file=\"secret\"/>\n<partners");
    talk_put_setting(f, "default", "deny");
    fprintf(f, "><default");
    talk_put_policy(f);
    fprintf(f, "/>\n");
    talk_put_partner(f, "far.example", talk_setting("hosts").len > 0 ? "servers.example:5269"
        : span_is(talk_setting("far"), "ipv6") ? "[2001:db8::2]:5269" : "127.0.0.2:5269");
    talk_put_trust(f);
    talk_put_rules(f);
    if (talk_setting("alias").len > 0)
        fprintf(f, "<domain name=\"%.*s\"/>", (int)talk_setting("alias").len,
            talk_setting("alias").at);
    fprintf(f,
        "<domain name=\"two.far.example\"/><domain name=\"three.far.example\"/></partner>\n");
    if (!span_is(talk_setting("other"), "off")) {
        talk_put_partner(f, "other.example", "127.0.0.3:5269");
        fprintf(f, "</partner>\n");
    }
    if (span_is(talk_setting("bystander"), "on"))
        fprintf(f, "<partner domain=\"by.example\" proxy=\"127.0.0.6:5269\" tls=\"optional\" "
            "sasl=\"optional\" dialback=\"true\"/>\n");
    fprintf(f, "</partners>\n");
}

/* component=NAME,...: these partners are components of the inner server, with one secret. */
static void
talk_put_component(FILE *f)
{
    struct xe_span rest = talk_setting("component");
    if (rest.len > 0)
        fprintf(f, "<component secret-file=\"secret\">");
    while (rest.len > 0) {
        size_t n = span_find(rest, ',');
        fprintf(f, "<partner domain=\"%.*s\"/>", (int)n, rest.at);
        rest = span_skip(rest, n + (n < rest.len));
        fprintf(f, "%s", rest.len == 0 ? "</component>" : "");
    }
}

static void
talk_put_gateway(FILE *f)
{
    fprintf(f, "<xmppedge role=\"gateway\" name=\"fe.near.example\">\n"
        "<edge name=\"edge.near.example\" address=\"127.0.0.4\" port=\"23456\"/>\n"
        "<certificate chain=\"fe.pem\" key=\"key\"/><trust ca=\"internal.pem\"/>\n"
        "<listen address=\"127.0.0.1\" port=\"5269\"/><inner address=\"127.0.0.5\" port=\"5269\"");
    talk_put_setting(f, "tls", "optional");
    talk_put_setting(f, "bidi", NULL);
    fprintf(f, "><domain name=\"near.example\"/><domain name=\"also.near.example\"/>");
    talk_put_component(f);
    fprintf(f, "</inner>\n<dialback secret-file=\"secret\"/>\n");
    if (talk_setting("type").len > 0)
        fprintf(f, "<partners><partner domain=\"far.example\" type=\"%.*s\"/></partners>\n",
            (int)talk_setting("type").len, talk_setting("type").at);
}

/* What is no word of ours is the name of a limit. */
static bool
talk_write_config(void)
{
    static const char *const ours[] = { "role", "type", "trunk", "acks", "tls", "sasl", "dialback",
        "keepalive", "connection-limit", "proxy-direct-tls", "default", "certificate", "crl",
        "echo", "log", "cuts", "other", "own", "pin", "bystander", "alias",
        "networks", "bidi", "component", "hosts", "balancers", "far", "external", "allow",
        "allow-in", "allow-out", "deny", "deny-in", "deny-out" };
    struct xe_span rest = buf_span(&talk.settings);
    struct xe_span echo = talk_setting("echo");
    struct xe_span level = talk_setting("log");
    struct xe_span value;
    FILE *f = fopen(talk.config_file, "w");
    if (f == NULL)
        return false;
    if (span_is(talk_setting("role"), "gateway"))
        talk_put_gateway(f);
    else
        talk_put_edge(f);
    if (echo.len > 0)
        fprintf(f, "<echo domain=\"%.*s\"/>\n", (int)echo.len, echo.at);
    fprintf(f, "<log level=\"%.*s\" file=\"/dev/null\"/>\n", level.len > 0 ? (int)level.len : 4,
        level.len > 0 ? level.at : "info");
    fprintf(f, "<limits");
    /* a trunk of our own cannot answer when the clock makes a leap */
    if (!span_is(talk_setting("trunk"), "none") && talk_setting("trunk-ping").len == 0)
        fprintf(f, " trunk-ping=\"1h\"");
    while (rest.len > 0) {
        struct xe_span word = talk_word(&rest);
        size_t eq = span_find(word, '=');
        size_t i;
        for (i = 0; i < sizeof ours / sizeof *ours; i++)
            if (talk_setting_is(word, ours[i], &value))
                break;
        if (i == sizeof ours / sizeof *ours && eq < word.len)
            fprintf(f, " %.*s=\"%.*s\"", (int)eq, word.at, (int)(word.len - eq - 1),
                word.at + eq + 1);
    }
    fprintf(f, "/>\n</xmppedge>\n");
    return fclose(f) == 0;
}

static void
talk_watch_log(void)
{
    talk.edge->log.sink = talk_log_line;
    talk.log.max = (size_t)16 << 20;
}

static bool
talk_open_instance(void)
{
    char message[4096];
    bool trunk;
    snprintf(talk.config_file, sizeof talk.config_file, "%s/config.%ld.xml", talk.dir,
        (long)getpid());
    clock_gettime(CLOCK_MONOTONIC, &talk.start);
    if (!talk_write_config())
        return talk_fail(NULL, "cannot write the configuration");
    talk.edge = xe_open(talk.config_file, message, sizeof message);
    if (talk.edge == NULL)
        return talk_fail(NULL, "%s", message);
    talk.edge->control = control_new(talk.edge);   /* without a socket of its own */
    if (talk.edge->control == NULL)
        return talk_fail(NULL, "out of memory");
    talk.edge->on_stop = control_close;
    talk_watch_log();
    talk.hold_acks = span_is(talk_setting("acks"), "off");
    talk.deep = span_is(talk_setting("cuts"), "deep");
    talk.numbers = span_is(talk_setting("trunk"), "numbers");
    trunk = !span_is(talk_setting("trunk"), "none");
    while (trunk && !list_empty(&talk.edge->trunks.links))
        trunk_link_close(MAP_OWNER(talk.edge->trunks.links.next, struct trunk_link, node));
    return trunk ? talk_usual_trunk() : talk_rest(NULL);
}

/* stop: SIGTERM. */
static bool
talk_do_stop(size_t at)
{
    talk_enter(true);
    xe_stop(talk.edge);
    talk_enter(false);
    return talk_rest(&talk.steps[at]);
}

/* stopped: the end has come. */
static bool
talk_do_stopped(size_t at)
{
    return !xe_is_running(talk.edge) || talk_fail(&talk.steps[at], "the instance is still running");
}

/* reload WORDS: SIGHUP, with these settings added. */
static bool
talk_do_reload(size_t at)
{
    struct talk_step *s = &talk.steps[at];
    char message[4096];
    bool ok;
    buf_putc(&talk.settings, ' ');
    buf_put(&talk.settings, buf_span(&s->text));
    if (!talk_write_config())
        return talk_fail(s, "cannot write the configuration");
    talk_enter(true);
    ok = xe_reload(talk.edge, message, sizeof message);
    talk_enter(false);
    return talk_rest(s) && (ok || talk_fail(s, "not reloaded: %s", message));
}

/* ---- playing ---- */

static const struct talk_verb {
    const char *name;
    bool      (*run)(size_t at);
} talk_verbs[] = {
    /* here: no step; what comes before it is only the way to the matter of this transcript */
    { "them", talk_do_them },             /* TEXT             we say it on the current connection */
    { "us", talk_do_us },                 /* PATTERN          the instance has said it */
    { "open", talk_do_open },             /* [NAME [FROM]]    connect to 5269 */
    { "open-trunk", talk_do_open_trunk }, /* [NAME]           connect to 23456 */
    { "ask", talk_do_ask },               /* NAME QUESTION    an administrator asks it */
    { "dialled", talk_do_dialled },       /* NAME [TO [from FROM]]   it has connected to us */
    { "on", talk_do_on },                 /* NAME             choose a connection */
    { "tls", talk_do_tls },               /* [cert= sni= alpn=]      a handshake */
    { "no-tls", talk_do_no_tls },         /* [cert= sni= alpn=]      one that must fail */
    { "shows", talk_do_shows },           /* DOMAIN           its certificate names this one */
    { "asks", talk_do_asks },             /* DOMAIN           it has asked for this one (SNI) */
    { "closed", talk_do_closed },         /*                  it has ended the connection */
    { "alive", talk_do_alive },           /*                  it has not, nor said more */
    { "hangup", talk_do_hangup },         /*                  we close without a word */
    { "deaf", talk_do_deaf },             /*                  we do not read it any more */
    { "listen", talk_do_listen },         /*                  we do again */
    { "inside", talk_do_inside },         /* TEXT             comes from the current trunk */
    { "trunk", talk_do_trunk },           /* PATTERN          has left through the current trunk */
    { "trunk-up", talk_do_trunk_up },     /* NAME[#N] [DOMAINS]  one more trunk, current now */
    { "trunk-down", talk_do_trunk_down }, /*                  the current trunk breaks */
    { "on-trunk", talk_do_on_trunk },     /* NAME             choose a trunk */
    { "hold-acks", talk_do_hold_acks },   /*                  trunks do not acknowledge */
    { "acks", talk_do_acks },             /*                  they do again */
    { "wait", talk_do_wait },             /* TIME             the clock goes on */
    { "refuse", talk_do_refuse },         /* N [ERROR]        connections of it are refused */
    { "silent", talk_do_silent },         /* N                or never answered */
    { "log", talk_do_log },               /* WORDS            such a line follows in the log */
    { "why", talk_do_why },               /* WORD             so does one with this reason */
    { "quiet", talk_do_quiet },           /* WORDS            there is no such line at all */
    { "status", talk_do_status },         /* WORDS            an object of the status has them */
    { "reload", talk_do_reload },         /* WORDS            SIGHUP with changed settings */
    { "stop", talk_do_stop },             /*                  SIGTERM */
    { "stopped", talk_do_stopped }        /*                  the instance has ended */
};

/* At the end nothing may be left that nobody has asked for. */
static bool
talk_check_end(void)
{
    size_t i;
    for (i = 0; i < talk.npeers; i++) {
        struct talk_peer *p = &talk.peers[i];
        if (p->name[0] == '\0')
            return talk_fail(NULL, "the end: the instance has connected to %s unasked", p->target);
        if (p->seen < p->got.tail)
            return talk_fail(NULL, "the end: on %s, not expected: %s", p->name,
                talk_show(talk_unseen(p)));
    }
    return true;
}

static bool
talk_play(size_t from)
{
    size_t at;
    for (at = from; at < talk.nsteps; at++) {
        size_t i;
        const char *verb = talk.steps[at].verb;
        if (talk.after_cut && !talk.deep
            && (strcmp(verb, "tls") == 0 || strcmp(verb, "no-tls") == 0))
            return true;
        for (i = 0; i < sizeof talk_verbs / sizeof *talk_verbs; i++)
            if (strcmp(verb, talk_verbs[i].name) == 0)
                break;
        if (i == sizeof talk_verbs / sizeof *talk_verbs)
            return talk_fail(&talk.steps[at], "unknown step %s", verb);
        if (!talk_verbs[i].run(at))
            return false;
    }
    return talk_check_end() && (buf_len(&talk.reference) == 0 || talk_trace_same());
}

static void
talk_clean(void)
{
    size_t i;
    for (i = 0; i < talk.npeers; i++) {
        talk_hang_up(&talk.peers[i]);
        buf_free(&talk.peers[i].got);
        buf_free(&talk.peers[i].raw);
        xe_xml_free(&talk.peers[i].xml);
    }
    xe_close(talk.edge);
    talk.edge = NULL;
    for (i = 0; i < talk.nsteps; i++)
        buf_free(&talk.steps[i].text);
    for (i = 0; i < talk.nlets; i++)
        buf_free(&talk.lets[i].text);
    buf_free(&talk.log);
    buf_free(&talk.settings);
    buf_free(&talk.reference);
    tls_trust_release(talk.trust[0]);
    tls_trust_release(talk.trust[1]);
    tls_shared_close(talk.tls);
}

/* ---- reading transcripts ---- */

static void
talk_add_let(struct xe_span text)
{
    struct talk_let *let = &talk.lets[talk.nlets++];
    struct xe_span name = talk_word(&text);
    if (talk.nlets == TALK_LETS)
        exit(99);
    snprintf(let->name, sizeof let->name, "%.*s", (int)name.len, name.at);
    let->text.max = (size_t)1 << 20;
    buf_put(&let->text, text);
}

/* One line with its continuations. */
static void
talk_add_line(unsigned number, struct buf *line)
{
    struct xe_span text = buf_span(line);
    struct xe_span verb = talk_word(&text);
    struct talk_step *s;
    if (verb.len == 0)
        return;
    if (span_is(verb, "let")) {
        talk_add_let(text);
    } else if (span_is(verb, "config")) {
        buf_putc(&talk.settings, ' ');
        buf_put(&talk.settings, text);
    } else if (span_is(verb, "here")) {
        talk.here = talk.nsteps;
    } else if (talk.nsteps < TALK_STEPS) {
        s = &talk.steps[talk.nsteps++];
        s->line = number;
        s->text.max = (size_t)16 << 20;
        snprintf(s->verb, sizeof s->verb, "%.*s", (int)verb.len, verb.at);
        talk_expand(text, &s->text);
    }
}

static bool
talk_load(const char *path, char *title, size_t size)
{
    static char bytes[65536];
    struct buf line = { .max = (size_t)1 << 20 };
    unsigned number = 0;
    unsigned first = 1;
    FILE *f = fopen(path, "r");
    title[0] = '\0';
    if (f == NULL)
        return talk_fail(NULL, "%s: %s", path, strerror(errno));
    while (fgets(bytes, sizeof bytes, f) != NULL) {
        size_t n = strcspn(bytes, "\n");
        size_t blank = strspn(bytes, " \t");
        number++;
        if (bytes[0] == '#' && title[0] == '\0')
            snprintf(title, size, "%.*s", (int)n - 2 > 0 ? (int)n - 2 : 0, bytes + 2);
        if (bytes[0] == '#' || n == blank)
            continue;
        if (blank == 0) {
            talk_add_line(first, &line);
            buf_clear(&line);
            first = number;
        }
        buf_put(&line, span_make(bytes + blank, n - blank));
    }
    talk_add_line(first, &line);
    buf_free(&line);
    fclose(f);
    return true;
}

/* ---- one transcript, all ways ---- */

static bool
talk_reads_joined(void)
{
    size_t i;
    for (i = 1; i < talk.nsteps; i++)
        if ((strcmp(talk.steps[i].verb, "them") == 0 || strcmp(talk.steps[i].verb, "inside") == 0)
            && strcmp(talk.steps[i].verb, talk.steps[i - 1].verb) == 0)
            return true;
    return false;
}

/* In a copy: play it; the pipe gets the trace, or the error behind a '!'. */
static void
talk_mode_copy(enum talk_mode mode, int fd)
{
    struct buf trace = { .max = 0 };
    bool ok;
    talk_unshare();
    talk.mode = mode;
    ok = talk_play(0);
    if (ok)
        talk_trace(&trace);
    else
        buf_putc(&trace, '!');
    if (!ok)
        buf_put(&trace, buf_span(&talk.error));
    if (!ok && talk_verbose)
        buf_put(&trace, span_make(talk.log.bytes, talk.log.tail));
    while (buf_len(&trace) > 0) {
        ssize_t n = write(fd, trace.bytes + trace.head, buf_len(&trace));
        if (n <= 0)
            break;
        buf_skip(&trace, (size_t)n);
    }
    close(fd);
    buf_free(&trace);
    buf_free(&talk.error);
    talk_clean();
    exit(0);
}

/* Play one way in a copy.  `trace` receives what happened. */
static bool
talk_one_way(enum talk_mode mode, struct buf *trace)
{
    int status = 0;
    int fds[2];
    pid_t pid;
    trace->max = (size_t)64 << 20;
    if (pipe(fds) != 0)
        return talk_fail(NULL, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        talk_mode_copy(mode, fds[1]);
    }
    close(fds[1]);
    for (;;) {
        char *room = buf_room(trace, 4096);
        ssize_t n = room == NULL ? 0 : read(fds[0], room, 4096);
        if (n <= 0)
            break;
        trace->tail += (size_t)n;
    }
    close(fds[0]);
    waitpid(pid, &status, 0);
    if (buf_len(trace) > 0 && buf_at(trace)[0] == '!')
        return talk_fail(NULL, "%.*s", (int)buf_len(trace) - 1, trace->bytes + trace->head + 1);
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        || talk_fail(NULL, "the copy crashed (status %d)", status);
}

static void
talk_report(FILE *out, bool ok, const char *name, const char *way, const char *title)
{
    struct xe_span error = buf_span(&talk.error);
    fprintf(out, "%sok - %s %s: %s\n", ok ? "" : "not ", name, way, title);
    while (!ok && error.len > 0) {
        size_t n = span_find(error, '\n');
        fprintf(out, "# %.*s\n", (int)n, error.at);
        n += n < error.len;
        error = span_make(error.at + n, error.len - n);
    }
}

static bool
talk_open_tls(void)
{
    char err[TLS_ERROR_MAX];
    char path[160];
    talk.tls = tls_shared_open(err);
    snprintf(path, sizeof path, "%s/public.pem", talk.dir);
    talk.trust[0] = tls_trust_load(path, NULL, err);
    snprintf(path, sizeof path, "%s/internal.pem", talk.dir);
    talk.trust[1] = tls_trust_load(path, NULL, err);
    return (talk.tls != NULL && talk.trust[0] != NULL && talk.trust[1] != NULL)
        || talk_fail(NULL, "%s", err);
}

static void
talk_words_path(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%.*swords", slash == NULL ? 0 : (int)(slash - path) + 1, path);
}

/* The ways that must come to the same. */
static void
talk_other_ways(FILE *out, const char *name, const char *title)
{
    struct buf trace = { .max = 0 };
    char way[64];
    bool ok;
    if (span_is(talk_setting("cuts"), "none"))
        return;
    ok = talk_one_way(TALK_BYTES, &trace);
    talk_report(out, ok, name, "byte by byte", title);
    buf_free(&trace);
    if (talk_reads_joined()) {
        ok = talk_one_way(TALK_JOINED, &trace);
        talk_report(out, ok, name, "joined", title);
        buf_free(&trace);
    }
    talk.mode = TALK_CUTS;
    ok = talk_play(0);
    snprintf(way, sizeof way, "cut at %u positions", talk.cuts);
    talk_report(out, ok, name, way, title);
}

/* Play a transcript in all ways, in this process and copies of it. */
static void
talk_file(const char *path, FILE *out)
{
    const char *name = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
    char title[256];
    char words[512];
    bool ok;
    talk.settings.max = 65536;
    talk.error.max = 65536;
    talk_words_path(path, words, sizeof words);
    talk.turn = (unsigned)strtoul(name, NULL, 10);
    ok = (access(words, R_OK) != 0 || talk_load(words, title, sizeof title))
        && talk_load(path, title, sizeof title) && talk_open_tls() && talk_open_instance();
    ok = ok && talk_one_way(TALK_WHOLE, &talk.reference);
    talk_report(out, ok, name, "whole", title);
    if (ok) {
        if (talk_verbose)
            fprintf(stderr, "%s\n%.*s", name, (int)buf_len(&talk.reference), talk.reference.bytes);
        talk_other_ways(out, name, title);
    }
    buf_free(&talk.error);
    if (talk.edge != NULL)
        talk_clean();
    unlink(talk.config_file);
}

/* ---- certificates ---- */

static bool
talk_shell(const char *script)
{
    char command[16384];
    snprintf(command, sizeof command, "cd %s && { %s\n} >log 2>&1", talk.dir, script);
    return system(command) == 0;
}

/* One key serves all; what differs is who signs what for how long.
 *   partners: far two both wild expired later revoked weak wrong cn self alien thief server xmpp,
 *       and srv
 *   the instance, public: near also
 *   the trunk, internal: edge fe fe2 stranger */
static bool
talk_make_certificates(void)
{
    return talk_shell("set -e; umask 077; printf 0123456789abcdef0123456789abcdef >secret\n"
        "openssl ecparam -name prime256v1 -genkey -noout -out key\n"
        "ca() { openssl req -x509 -new -key key -out $1.pem -days 99 -subj /CN=$1 "
        "-addext basicConstraints=critical,CA:TRUE "
        "-addext keyUsage=critical,keyCertSign,cRLSign; }\n"
        "openssl req -new -key key -subj /CN=talk -out talk.csr\n"
        "leaf() { openssl x509 -req -in ${4:-talk}.csr -CA $2.pem -CAkey key -CAcreateserial "
        "-${5:-sha256} -days 90 -extfile $1.ext -out $1.pem; }\n"
        "san() { printf 'subjectAltName=%s\\n' $2 >$1.ext; leaf $1 ${3:-public} - $4; }\n"
        "ca public; ca internal\n"
        "san near DNS:near.example; san also DNS:also.near.example\n"
        "san idn DNS:xn--bcher-kva.example; "
        "san far DNS:far.example; san two DNS:two.far.example\n"
        "san both DNS:far.example,DNS:two.far.example; san wild DNS:*.far.example\n"
        "san wrong DNS:wrong.example\n"
        /* only "openssl ca" can choose both dates, in old and new versions */
        "printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\n"
        "default_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' >ca.cnf\n"
        ": >index; echo 01 >serial; echo unique_subject=no >index.attr\n"
        "ca_of() { openssl ca -batch -notext -config ca.cnf -cert public.pem "
        "-keyfile key \"$@\"; }\n"
        "printf 'subjectAltName=DNS:far.example\\n' >far.ext\n"
        "from_to() { ca_of -in talk.csr -out $1.pem -extfile far.ext -startdate $2 -enddate $3; }\n"
        "from_to expired 20250101000000Z 20250201000000Z\n"
        "from_to later 20450101000000Z 20450201000000Z\n"
        "from_to revoked 20250101000000Z 20450101000000Z; ca_of -revoke revoked.pem\n"
        "ca_of -gencrl -crldays 20 -out public.crl\n"
        "ca_of -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z "
        "-out stale.crl\n"
        "cp far.ext weak.ext; leaf weak public - talk sha1\n"
        "san alien DNS:far.example internal\n"
        /* authorities between, which may not do all; and chains that are too much: certificates for
         * keys that nobody has, which nobody needs */
        "openssl req -new -key key -subj /CN=middle -out middle.csr\n"
        "mid() { printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=keyCertSign\\n%s\\n' $2 "
        ">$1-ca.ext; leaf $1-ca public - middle; cp far.ext $1.ext; leaf $1 $1-ca; "
        "cat $1-ca.pem >>$1.pem; }\n"
        "mid middle; mid constrained 'nameConstraints=permitted;DNS:near.example'\n"
        "mid excluded 'nameConstraints=excluded;DNS:far.example'\n"
        "mid mailer extendedKeyUsage=emailProtection\n"
        "number() { printf 0x; printf '%0*d1' $(($1 / 4 - 1)) 0 | sed s/^0/8/; }\n"
        "rsa() { printf 'asn1=SEQUENCE:k\\n[k]\\na=SEQUENCE:a\\nb=BITWRAP,SEQUENCE:b\\n[a]\\n"
        "o=OID:rsaEncryption\\nn=NULL\\n[b]\\nn=INTEGER:%s\\ne=INTEGER:%s\\n' $(number $2) "
        "$(number $3) >$1.cnf; openssl asn1parse -genconf $1.cnf -noout -out $1.der; "
        "openssl pkey -pubin -inform der -in $1.der -out $1.pub; }\n"
        "with() { openssl x509 -req -in talk.csr -CA public.pem -CAkey key -CAcreateserial "
        "-days 90 -force_pubkey $1.pub -out $1.crt; cat far.pem $1.crt >$1.pem; }\n"
        "rsa bomb 8192 8184; rsa long 4096 64; with bomb; with long\n"
        "openssl ecparam -name brainpoolP256r1 -genkey -noout "
        "| openssl pkey -pubout -out kind.pub; with kind\n"
        "cat far.pem public.pem public.pem public.pem public.pem public.pem >six.pem\n"
        "{ printf 'subjectAltName=DNS:far.example'; i=0; while [ $i -lt 1000 ]; do "
        "printf ,DNS:$i.example; i=$((i + 1)); done; } >big.ext; leaf big public\n"
        /* a length in more bytes than DER allows */
        "openssl x509 -in far.pem -outform der "
        "| { printf '\\060\\204\\0\\0'; tail -c +3; } >odd.der\n"
        "{ cat far.pem; echo -----BEGIN CERTIFICATE-----; base64 odd.der; "
        "echo -----END CERTIFICATE-----; } >odd.pem\n"
        "san thief DNS:far.example,DNS:other.example internal\n"
        "pin() { openssl pkey -in $1 -pubout -outform der | openssl dgst -sha256 -r "
        "| cut -d' ' -f1 >$1.pin; }\n"
        "openssl ecparam -name prime256v1 -genkey -noout -out other; pin key; pin other\n"
        "san xmpp 'otherName:1.3.6.1.5.5.7.8.5;UTF8:far.example'\n"
        "san srv 'otherName:1.3.6.1.5.5.7.8.7;IA5:_xmpp-server.far.example'\n"
        "printf 'subjectAltName=DNS:far.example\\nextendedKeyUsage=serverAuth\\n' >server.ext\n"
        "leaf server public\n"
        "openssl req -new -key key -subj /CN=far.example -out cn.csr\n"
        "printf 'keyUsage=digitalSignature\\n' >cn.ext; leaf cn public - cn\n"
        "openssl req -x509 -new -key key -out self.pem -days 90 -subj /CN=far.example "
        "-addext subjectAltName=DNS:far.example\n"
        "san edge DNS:edge.near.example internal; san fe DNS:fe.near.example internal\n"
        "san fe2 DNS:fe2.near.example internal; san stranger DNS:stranger.example internal");
}

/* ---- many transcripts ---- */

struct talk_job {
    char  path[512];
    pid_t pid;       /* 0: not begun, -1: ended */
    int   status;
    FILE *out;
};

static int
talk_compare(const void *a, const void *b)
{
    return strcmp(((const struct talk_job *)a)->path, ((const struct talk_job *)b)->path);
}

static size_t
talk_find_jobs(const char *path, struct talk_job *jobs, size_t max)
{
    DIR *dir = opendir(path);
    struct dirent *d;
    size_t n = 0;
    if (dir == NULL) {
        snprintf(jobs[0].path, sizeof jobs[0].path, "%s", path);
        return 1;
    }
    while ((d = readdir(dir)) != NULL && n < max) {
        size_t len = strlen(d->d_name);
        if (len > 5 && strcmp(d->d_name + len - 5, ".talk") == 0)
            snprintf(jobs[n++].path, sizeof jobs[0].path, "%s/%s", path, d->d_name);
    }
    closedir(dir);
    qsort(jobs, n, sizeof *jobs, talk_compare);
    return n;
}

static void
talk_start_job(struct talk_job *job)
{
    job->out = tmpfile();
    fflush(NULL);
    job->pid = fork();
    if (job->pid == 0) {
        talk_file(job->path, job->out);
        fclose(job->out);
        exit(0);
    }
}

/* Pass on what a job has written, numbered. */
static bool
talk_print_job(struct talk_job *job, unsigned *number)
{
    static char line[65536];
    bool ok = job->status == 0;
    rewind(job->out);
    while (fgets(line, sizeof line, job->out) != NULL) {
        bool not = strncmp(line, "not ok", 6) == 0;
        ok = ok && !not;
        if (strncmp(line, "ok", 2) == 0 || not)
            printf("%s %u%s", not ? "not ok" : "ok", ++*number, line + (not ? 6 : 2));
        else
            fputs(line, stdout);
    }
    if (job->status != 0)
        printf("not ok %u - %s: the runner ended with status %d\n", ++*number, job->path,
            job->status);
    fclose(job->out);
    return ok;
}

static bool
talk_run_jobs(struct talk_job *jobs, size_t n, size_t parallel)
{
    size_t next = 0;
    size_t running = 0;
    size_t printed = 0;
    unsigned number = 0;
    bool ok = true;
    while (printed < n) {
        int status;
        pid_t pid;
        size_t i;
        while (next < n && running < parallel) {
            talk_start_job(&jobs[next++]);
            running++;
        }
        pid = wait(&status);
        for (i = 0; i < next; i++) {
            if (jobs[i].pid != pid)
                continue;
            jobs[i].pid = -1;
            jobs[i].status = status;
            running--;
        }
        while (printed < n && jobs[printed].pid == -1)
            ok = talk_print_job(&jobs[printed++], &number) && ok;
        fflush(stdout);
    }
    printf("1..%u\n", number);
    return ok;
}

#ifndef TALK_NO_MAIN

int
main(int argc, char **argv)
{
    static struct talk_job jobs[1000];
    size_t n = 0;
    size_t parallel = 2;
    char remove[96];
    bool ok;
    int i;
    signal(SIGPIPE, SIG_IGN);
    snprintf(talk.dir, sizeof talk.dir, "/tmp/talk.XXXXXX");
    if (mkdtemp(talk.dir) == NULL || !talk_make_certificates()) {
        printf("Bail out! no certificates: see %s/log\n", talk.dir);
        return 99;
    }
    for (i = 1; i < argc && n < 900; i++) {
        if (strcmp(argv[i], "-v") == 0)
            talk_verbose = true;
        else if (strcmp(argv[i], "-j") == 0 && i + 1 < argc)
            parallel = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
            talk_stride = strtoul(argv[++i], NULL, 10) > 0 ? strtoul(argv[i], NULL, 10) : 1;
        else
            n += talk_find_jobs(argv[i], jobs + n, 900 - n);
    }
    ok = talk_run_jobs(jobs, n, parallel > 0 ? parallel : 1);
    snprintf(remove, sizeof remove, "rm -rf %s", talk.dir);
    return system(remove) == 0 && ok ? 0 : 1;
}

#endif
