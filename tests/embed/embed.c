/* embed.c -- a foreign program with a main loop of its own, and the proxy in it
 *
 * It knows xmppedge.h and nothing else, and is linked with xmppedge.c -DXMPPEDGE_NO_MAIN.  One
 * poll() loop drives two instances, an edge and a gateway, and sockets of the program itself, which
 * plays a partner: without TLS, proving its domain by dialback.  It pings through the gateway, and
 * as the program around it has a say in what passes.
 *
 *   this program                        edge                   gateway
 *     ask  -- header, db:result ------> external
 *     answer <-- header, db:verify ---- (asks whether the key is ours)
 *     ask  -- iq get -----------------> . . . . . trunk . . . > echo domain
 *     answer <-- header, db:result ---- external
 *     answer <-- iq result ------------ . . . . . trunk . . . <
 *
 * Then a faulty configuration is refused while running, a good one taken, and both are stopped.
 * Prints TAP.
 */
#define _POSIX_C_SOURCE 200809L

#include "../../xmppedge.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INSTANCES 2
#define ANSWERS   8       /* connections that the edge may open to us */
#define WAIT_MS   15000   /* for anything that has to happen */

struct pipe {             /* one connection of ours */
    int    fd;            /* -1: not open */
    char   in[16384];     /* what it brought, ends in NUL */
    size_t len;
    bool   greeted;       /* we have sent our header */
    bool   judged;        /* we have answered its dialback question */
};

struct program {
    struct xmppedge *instances[INSTANCES];   /* edge, gateway; NULL when stopped */
    int              listener;               /* where the edge finds our domain */
    struct pipe      ask;                    /* we opened it */
    struct pipe      answers[ANSWERS];       /* the edge opened them */
    char             dir[64];                /* configuration and certificates */
    char             gateway[1024];          /* configuration of the gateway */
    char             net[24];                /* "127.77.3", our corner of the loopback network */
    int              tests;
    bool             failed;
    bool             warned;                 /* the edge has told of a warning, in opening */
    bool             ready;                  /* and that it is ready, later */
    unsigned         seen[2];                /* stanzas shown to us: outward, inward */
    unsigned         bounces;                /* lines of the log about those that we refused */
    unsigned         pings;                  /* that we have asked an instance for */
    unsigned         answered;               /* and that have ended: */
    enum xe_why      why;                    /* why the last one did, */
    char             words[1024];            /* and in words */
    unsigned         lines;                  /* of its log */
    char             odd[256];               /* of them, the last that is not as it should be */
};

/* A predicate of the loop: what is being waited for. */
typedef bool reached(struct program *p);

static void
report(struct program *p, bool ok, const char *what)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++p->tests, what);
    fflush(stdout);
    p->failed = p->failed || !ok;
}

static long long
now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A line of the edge's log. */
static void
edge_logged(void *user, int priority, const char *line, size_t len)
{
    struct program *p = user;
    p->lines++;
    p->warned = p->warned || (priority == 4 && strstr(line, " config-warning ") != NULL);
    p->ready = p->ready || (priority == 6 && strstr(line, " ready ") != NULL);
    p->bounces += strstr(line, " bounce ") != NULL && strstr(line, " why=filtered") != NULL;
    if (strlen(line) != len || len == 0 || line[len - 1] != '\n')
        snprintf(p->odd, sizeof p->odd, "%s", line);
}

static bool
span_has(struct xe_span s, const char *text)
{
    size_t len = strlen(text);
    for (; s.len >= len; s.at++, s.len--)
        if (memcmp(s.at, text, len) == 0)
            return true;
    return false;
}

/* The edge asks about each stanza: no word of what is secret, and with a reason that is none. */
static enum xe_why
judge(void *user, const struct xe_stanza *s)
{
    struct program *p = user;
    struct xe_span id = xe_xml_attr(s->event, "id");
    const char *far = "far.example";
    struct xe_span partner = s->inward ? s->from : s->to;
    if (partner.len != strlen(far) || memcmp(partner.at, far, partner.len) != 0)
        return XE_WHY_NONE;
    p->seen[s->inward]++;
    if (s->kind != XE_KIND_MESSAGE || !span_has(s->event->inner, "secret"))
        return XE_WHY_NONE;
    return span_has(id, "odd") ? (enum xe_why)(XE_WHY_COUNT + 7) : XE_WHY_FILTERED;
}

/* ---- our sockets ---- */

static struct sockaddr_in
address_of(const struct program *p, int host, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    char text[40];
    snprintf(text, sizeof text, "%s.%d", p->net, host);
    a.sin_port = htons((unsigned short)port);
    inet_pton(AF_INET, text, &a.sin_addr);
    return a;
}

/* A connection to a port of ours; -1 when nobody listens there. */
static int
connect_to(const struct program *p, int host, int port)
{
    struct sockaddr_in to = address_of(p, host, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int
listen_at(const struct program *p, int host, int port)
{
    struct sockaddr_in at = address_of(p, host, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, ANSWERS) != 0)
        return -1;
    return fd;
}

static void
say(struct pipe *pipe, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (write(pipe->fd, text, strlen(text)) < 0)
        perror("# write");
}

static void
hear(struct pipe *pipe)
{
    ssize_t n = read(pipe->fd, pipe->in + pipe->len, sizeof pipe->in - 1 - pipe->len);
    if (n > 0) {
        pipe->len += (size_t)n;
        pipe->in[pipe->len] = '\0';
        return;
    }
    close(pipe->fd);
    pipe->fd = -1;
}

/* The value of the first id='...' behind `where`. */
static void
find_id(const char *where, char *id, size_t size)
{
    const char *at = strstr(where, " id='");
    size_t n = at == NULL ? 0 : strcspn(at + 5, "'");
    snprintf(id, size, "%.*s", (int)n, at == NULL ? "" : at + 5);
}

/* What the partner's server says on a connection that the edge has opened: yes to everything. */
static void
answer(struct pipe *pipe)
{
    char id[128];
    const char *verify = strstr(pipe->in, "<db:verify ");
    if (!pipe->greeted && strstr(pipe->in, "<stream:stream") != NULL) {
        pipe->greeted = true;
        say(pipe, "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' "
            "xmlns:stream='http://etherx.jabber.org/streams' id='embedded'>");
    }
    if (pipe->judged)
        return;
    if (verify != NULL && strstr(verify, "</db:verify>") != NULL) {
        pipe->judged = true;
        find_id(verify, id, sizeof id);
        say(pipe, "<db:verify from='far.example' to='corp.example' id='%s' type='valid'/>", id);
    } else if (strstr(pipe->in, "</db:result>") != NULL) {
        pipe->judged = true;
        say(pipe, "<db:result from='far.example' to='corp.example' type='valid'/>");
    }
}

static void
welcome(struct program *p)
{
    int fd = accept(p->listener, NULL, NULL);
    size_t i;
    for (i = 0; i < ANSWERS && fd >= 0; i++)
        if (p->answers[i].fd < 0) {
            memset(&p->answers[i], 0, sizeof p->answers[i]);
            p->answers[i].fd = fd;
            return;
        }
    if (fd >= 0)
        close(fd);
}

/* ---- the main loop ---- */

/* Let an instance do what is due. */
static void
step(struct program *p, size_t i)
{
    if (p->instances[i] != NULL && !xe_step(p->instances[i], 0)) {
        xe_close(p->instances[i]);
        p->instances[i] = NULL;
    }
}

/* The milliseconds that the program may sleep. */
static int
patience(struct program *p)
{
    int wait = 100;
    size_t i;
    for (i = 0; i < INSTANCES; i++) {
        int most = p->instances[i] == NULL ? -1 : xe_timeout(p->instances[i]);
        if (p->instances[i] != NULL && xe_fd(p->instances[i]) < 0)
            most = most < 0 || most > 5 ? 5 : most;   /* nothing to wait on: ask often */
        if (most >= 0 && most < wait)
            wait = most;
    }
    return wait;
}

static void
turn(struct program *p)
{
    struct pollfd fds[INSTANCES + 2 + ANSWERS];
    size_t i;
    memset(fds, 0, sizeof fds);
    for (i = 0; i < sizeof fds / sizeof *fds; i++)
        fds[i].events = POLLIN;
    for (i = 0; i < INSTANCES; i++)
        fds[i].fd = p->instances[i] == NULL ? -1 : xe_fd(p->instances[i]);
    fds[INSTANCES].fd = p->listener;
    fds[INSTANCES + 1].fd = p->ask.fd;
    for (i = 0; i < ANSWERS; i++)
        fds[INSTANCES + 2 + i].fd = p->answers[i].fd;
    poll(fds, sizeof fds / sizeof *fds, patience(p));
    for (i = 0; i < INSTANCES; i++)
        step(p, i);
    if (fds[INSTANCES].revents != 0)
        welcome(p);
    if (fds[INSTANCES + 1].revents != 0)
        hear(&p->ask);
    for (i = 0; i < ANSWERS; i++) {
        if (fds[INSTANCES + 2 + i].revents != 0)
            hear(&p->answers[i]);
        if (p->answers[i].fd >= 0)
            answer(&p->answers[i]);
    }
}

/* Turn until something has happened. */
static bool
wait_for(struct program *p, reached *it_has)
{
    long long end = now_ms() + WAIT_MS;
    while (!it_has(p) && now_ms() < end)
        turn(p);
    return it_has(p);
}

static bool
edge_greeted_us(struct program *p)
{
    return strstr(p->ask.in, "<stream:stream") != NULL;
}

static bool
edge_believed_us(struct program *p)
{
    return strstr(p->ask.in, "type='valid'") != NULL;
}

static bool
ping_was_answered(struct program *p)
{
    size_t i;
    for (i = 0; i < ANSWERS; i++) {
        const char *said = p->answers[i].in;
        if (strstr(said, "<iq ") != NULL && strstr(said, "'ping-1'") != NULL)
            return strstr(said, "'result'") != NULL;
    }
    return false;
}

/* Whether an answer of a type to the stanza with an id came to us. */
static bool
was_answered(struct program *p, const char *id, const char *with)
{
    size_t i;
    for (i = 0; i < ANSWERS; i++) {
        const char *said = strstr(p->answers[i].in, id);
        if (said != NULL)
            return strstr(said, with) != NULL;
    }
    return false;
}

static bool
the_odd_message_came_back(struct program *p)
{
    return was_answered(p, "'odd-1'", "</message>");
}

static bool
they_have_answered(struct program *p)
{
    return p->answered == p->pings;
}

static bool
all_have_stopped(struct program *p)
{
    return p->instances[0] == NULL && p->instances[1] == NULL;
}

/* ---- configuration ---- */

static void
write_file(const struct program *p, const char *name, const char *format, ...)
{
    char path[128];
    va_list args;
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    f = fopen(path, "w");
    if (f == NULL)
        return;
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    fclose(f);
}

/* The edge; `partner` is the domain that may federate. */
static void
write_edge(const struct program *p, const char *partner)
{
    write_file(p, "edge.xml",
        "<xmppedge role='edge' name='edge.corp.example'>\n"
        "  <external address='%s.2' port='5269'/>\n"
        "  <internal address='%s.3' port='23456'>\n"
        "    <certificate chain='edge.pem' key='edge.key'/><trust ca='ca.pem'/>\n"
        "    <gateway name='fe.corp.example'/>\n"
        "  </internal>\n"
        "  <domain name='corp.example'/>\n"
        "  <dialback secret-file='secret'/>\n"
        "  <partners><partner domain='%s' proxy='%s.1:5269'\n"
        "    tls='not-supported' sasl='not-supported' dialback='true'/></partners>\n"
        "  <limits drain-time='1s'/>\n"
        "  <log level='info' file='edge.log'/>\n"
        "</xmppedge>\n", p->net, p->net, partner, p->net);
}

/* The gateway has its configuration in memory; `connections` is a limit of it. */
static void
make_gateway(struct program *p, const char *connections)
{
    snprintf(p->gateway, sizeof p->gateway,
        "<xmppedge role='gateway' name='fe.corp.example'>\n"
        "  <edge name='edge.corp.example' address='%s.3' port='23456'/>\n"
        "  <certificate chain='fe.pem' key='fe.key'/><trust ca='ca.pem'/>\n"
        "  <listen address='%s.4' port='5269'/>\n"
        "  <echo domain='corp.example'/>\n"
        "  <limits drain-time='1s' connections='%s'/>\n"
        "  <log level='warn' file='log'/>\n"
        "</xmppedge>\n", p->net, p->net, connections);
}

static bool
make_directory(struct program *p)
{
    char command[1400];
    snprintf(p->dir, sizeof p->dir, "/tmp/xmppedge-embed.XXXXXX");
    if (mkdtemp(p->dir) == NULL)
        return false;
    snprintf(command, sizeof command, "cd %s && exec >openssl.log 2>&1\n"
        "ec='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'\n"
        "umask 077\n"
        "echo 0123456789abcdef0123456789abcdef >secret\n"
        "openssl req -x509 $ec -keyout ca.key -out ca.pem -days 2 -subj /CN=ca \\\n"
        "  -addext keyUsage=critical,keyCertSign || exit 1\n"
        "for name in edge fe; do\n"
        "  printf 'subjectAltName=DNS:%%s.corp.example\\n' $name >$name.ext\n"
        "  openssl req $ec -keyout $name.key -out $name.csr -subj /CN=$name &&\n"
        "  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial \\\n"
        "    -extfile $name.ext -days 2 -out $name.pem || exit 1\n"
        "done\n", p->dir);
    return system(command) == 0;
}

static void
remove_directory(const struct program *p, bool keep)
{
    char command[128];
    snprintf(command, sizeof command, keep ? "sed 's/^/# /' %s/log" : "rm -rf %s", p->dir);
    if (system(command) != 0)
        perror(command);
}

static void
open_both(struct program *p)
{
    struct xe_options options = { .user = p, .log = edge_logged };
    char path[128];
    char message[2048] = "";
    snprintf(path, sizeof path, "%s/edge.xml", p->dir);
    options.stanza = judge;
    p->instances[0] = xe_open_with(path, &options, message, sizeof message);
    report(p, p->instances[0] != NULL, "an edge is opened");
    snprintf(path, sizeof path, "%s/gateway.xml", p->dir);
    p->instances[1] = xe_open_text(p->gateway, strlen(p->gateway), path, NULL, message,
        sizeof message);
    report(p, p->instances[1] != NULL, "a gateway is opened beside it, of a text in memory");
    if (p->failed)
        printf("# %s", message);
}

/* ---- the tests ---- */

static void
faults_are_told_before_anything_is_served(struct program *p)
{
    char path[128];
    char message[2048] = "";
    bool said;
    write_file(p, "broken.xml",
        "<xmppedge role='edge' name='edge.corp.example'>\n<externl/></xmppedge>\n");
    snprintf(path, sizeof path, "%s/broken.xml", p->dir);
    said = xe_open(path, message, sizeof message) == NULL;
    said = said && strstr(message, "broken.xml:2: ") != NULL && strstr(message, "externl") != NULL;
    report(p, said, "a faulty configuration is refused with file and line");
    said = xe_open(path, message, 250) == NULL && strlen(message) < 250;
    said = said && strncmp(message + strlen(message) - 18, "\nmore is left out\n", 18) == 0;
    report(p, said, "what does not fit into the message is left out by the line");
}

static void
a_ping_crosses_both(struct program *p)
{
    p->ask.fd = connect_to(p, 2, 5269);
    report(p, p->ask.fd >= 0, "the external port is open");
    say(&p->ask, "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' "
        "xmlns:stream='http://etherx.jabber.org/streams' from='far.example' to='corp.example'>");
    report(p, wait_for(p, edge_greeted_us), "the edge answers with a stream header");
    say(&p->ask, "<db:result from='far.example' to='corp.example'>0123abcd</db:result>");
    report(p, wait_for(p, edge_believed_us), "the edge asks our server and believes us");
    say(&p->ask, "<iq type='get' id='ping-1' from='far.example' to='corp.example'>"
        "<ping xmlns='urn:xmpp:ping'/></iq>");
    report(p, wait_for(p, ping_was_answered),
        "the ping crosses edge, trunk and gateway and comes back");
}

static void
a_reload_is_all_or_nothing(struct program *p)
{
    char message[2048] = "";
    write_file(p, "edge.xml", "<xmppedge role='edge' name='edge.corp.example'>\n");
    report(p, !xe_reload(p->instances[0], message, sizeof message)
        && strstr(message, "edge.xml:") != NULL && xe_is_running(p->instances[0]),
        "a faulty configuration is refused while running");
    p->ask.len = 0;
    p->ask.in[0] = '\0';
    write_edge(p, "elsewhere.example");
    report(p, xe_reload(p->instances[0], message, sizeof message), "a good one is taken");
}

static void
a_text_is_reloaded_as_well(struct program *p)
{
    char message[2048] = "";
    make_gateway(p, "none");
    report(p, !xe_reload_text(p->instances[1], p->gateway, strlen(p->gateway), message,
            sizeof message) && strstr(message, "gateway.xml:6: ") != NULL
        && xe_reload(p->instances[1], message, sizeof message) && message[0] == '\0',
        "a faulty text is refused with its line, and the one before is kept");
    make_gateway(p, "999");
    report(p, xe_reload_text(p->instances[1], p->gateway, strlen(p->gateway), message,
        sizeof message), "a good one is taken");
}

/* The partner is not in the new configuration: its streams end, ours by a policy violation. */
static bool
we_were_thrown_out(struct program *p)
{
    return strstr(p->ask.in, "</stream:stream>") != NULL;
}

static void
a_monitor_can_be_answered(struct program *p)
{
    char message[512] = "?";
    size_t len, i;
    for (i = 0; i < INSTANCES; i++) {
        bool well = xe_health(p->instances[i], message, sizeof message);
        char *text = xe_metrics(p->instances[i], true, &len);
        report(p, well && strncmp(message, "note: our certificate for ", 26) == 0
            && text != NULL && strlen(text) == len && strcmp(text + len - 6, "# EOF\n") == 0
            && strstr(text, "\nxmppedge_healthy 1\n") != NULL,
            "a monitor hears that all is well, but for certificates of a day");
        free(text);
    }
}

/* A ping of ours has ended. */
static void
pinged(void *user, enum xe_why why, const char *words)
{
    struct program *p = user;
    p->answered++;
    p->why = why;
    snprintf(p->words, sizeof p->words, "%s", words);
}

/* Ping a domain from an instance, and wait for the end. */
static bool
ping(struct program *p, size_t i, const char *domain)
{
    if (!xe_ping(p->instances[i], domain, pinged, p))
        return false;
    p->pings++;
    return wait_for(p, they_have_answered);
}

static void
stanzas_are_filtered(struct program *p)
{
    const char *error = "<policy-violation ";
    report(p, p->seen[1] == 1 && p->seen[0] == 1,
        "the program is asked once about the ping, and once about its answer");
    say(&p->ask, "<message id='plain-1' from='a@far.example' to='b@corp.example'>"
        "<body>a secret</body></message>"
        "<message type='error' id='mute-1' from='a@far.example' to='b@corp.example'>"
        "<body>a secret</body></message>"
        "<message id='odd-1' from='a@far.example' to='b@corp.example'>"
        "<body>a secret</body></message>");
    report(p, wait_for(p, the_odd_message_came_back) && was_answered(p, "'plain-1'", error)
        && was_answered(p, "'odd-1'", error),
        "what it refuses comes back as an error, whatever reason it has given");
    report(p, p->seen[1] == 4 && p->bounces == 3,
        "each of them stands in the log, also the one that has no answer");
}

static void
an_instance_pings_for_the_program(struct program *p)
{
    unsigned ms;
    report(p, ping(p, 0, "Corp.Example.") && p->why == XE_WHY_NONE
        && sscanf(p->words, "ok %u ms", &ms) == 1, "the edge pings our domain, and says how long");
    report(p, ping(p, 0, "nowhere.example") && p->why == XE_WHY_PARTNER_UNLISTED
        && strncmp(p->words, "failed why=partner-unlisted: ", 29) == 0
        && strstr(p->words, "\nhop=node\nwhat to do: ") != NULL,
        "a ping that may not leave fails in the words of the command");
    report(p, !xe_ping(p->instances[0], "no domain", pinged, p), "what is no domain is not pinged");
}

static void
a_ping_under_way_ends_with_its_instance(struct program *p)
{
    char path[128];
    char message[2048] = "";
    struct xe_options options = { .user = p, .log = edge_logged };
    struct xmppedge *e;
    bool asked;
    snprintf(path, sizeof path, "%s/edge.xml", p->dir);
    e = xe_open_with(path, &options, message, sizeof message);
    asked = e != NULL && xe_ping(e, "far.example", pinged, p) && p->answered == 0;
    xe_close(e);
    report(p, asked && p->answered == 1 && p->why == XE_WHY_SHUTDOWN
        && strncmp(p->words, "failed why=shutdown: ", 21) == 0,
        "a ping under way ends with its instance, and the program hears of it");
    p->pings = p->answered;
}

static void
the_log_is_ours(struct program *p)
{
    char path[128];
    snprintf(path, sizeof path, "%s/edge.log", p->dir);
    report(p, p->warned && p->ready && p->odd[0] == '\0',
        "the program takes the lines of the edge's log, whole and with their priority");
    report(p, access(path, F_OK) != 0, "and the file in its configuration is not made");
}

/* An object of JSON that has all of these. */
static bool
status_has(struct program *p, size_t i, const char *const *fields)
{
    size_t len;
    char *text = xe_status(p->instances[i], &len);
    bool has = text != NULL && strlen(text) == len && text[0] == '{'
        && strcmp(text + len - 2, "}\n") == 0;
    for (; *fields != NULL && has; fields++)
        has = strstr(text, *fields) != NULL;
    free(text);
    return has;
}

static void
the_status_is_told(struct program *p)
{
    static const char *const edge[] = { "\"role\":\"edge\"", "\"state\":\"running\"",
        "\"domain\":\"far.example\"", "\"name\":\"fe.corp.example\"", NULL };
    static const char *const gateway[] = { "\"role\":\"gateway\"",
        "\"name\":\"edge.corp.example\"", NULL };
    report(p, status_has(p, 0, edge), "the edge tells its status: the partner, and the trunk");
    report(p, status_has(p, 1, gateway), "the gateway tells its own");
}

static void
both_end_in_order(struct program *p)
{
    size_t i;
    int fd;
    for (i = 0; i < INSTANCES; i++)
        xe_stop(p->instances[i]);
    report(p, !xe_health(p->instances[0], NULL, 0), "who is being stopped is not well");
    report(p, wait_for(p, all_have_stopped), "both stop when they are asked to");
    fd = connect_to(p, 2, 5269);
    report(p, fd < 0, "and the external port is closed");
    if (fd >= 0)
        close(fd);
}

static void
close_all(struct program *p)
{
    size_t i;
    for (i = 0; i < INSTANCES; i++)
        xe_close(p->instances[i]);
    for (i = 0; i < ANSWERS; i++)
        if (p->answers[i].fd >= 0)
            close(p->answers[i].fd);
    if (p->ask.fd >= 0)
        close(p->ask.fd);
    close(p->listener);
}

int
main(void)
{
    static struct program p;
    long pid = (long)getpid();
    size_t i;
    signal(SIGPIPE, SIG_IGN);   /* the program's business, not the proxy's */
    snprintf(p.net, sizeof p.net, "127.%ld.%ld", 64 + pid / 254 % 64, 1 + pid % 254);
    p.ask.fd = -1;
    for (i = 0; i < ANSWERS; i++)
        p.answers[i].fd = -1;
    p.listener = listen_at(&p, 1, 5269);
    if (p.listener < 0 || !make_directory(&p)) {
        printf("Bail out! no socket, or no certificates: see %s\n", p.dir);
        return 99;
    }
    printf("1..29\n");
    write_edge(&p, "far.example");
    make_gateway(&p, "1000");
    faults_are_told_before_anything_is_served(&p);
    a_ping_under_way_ends_with_its_instance(&p);
    open_both(&p);
    if (!p.failed) {
        a_ping_crosses_both(&p);
        stanzas_are_filtered(&p);
        an_instance_pings_for_the_program(&p);
        the_log_is_ours(&p);
        a_monitor_can_be_answered(&p);
        the_status_is_told(&p);
        a_text_is_reloaded_as_well(&p);
        a_reload_is_all_or_nothing(&p);
        report(&p, wait_for(&p, we_were_thrown_out),
            "a partner that is gone from it is disconnected");
        both_end_in_order(&p);
    }
    close_all(&p);
    remove_directory(&p, p.failed);
    return p.failed ? 1 : 0;
}
