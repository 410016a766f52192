/* bench_edge.c -- what the edge costs: processor time a stanza, memory an idle stream, and what
 * strangers who begin TLS handshakes cost everybody else
 *
 *   bench_edge EDGE DIR [-n stanzas] [-c ciphersuite] [-m bulk|single|paced] [-s bytes]
 *              [-t seconds] [-k key] [what ...]
 *
 *   EDGE   the program; DIR has edge.xml and the certificates (run.sh makes it)
 *   what   any of xml in out calls relays mem flood; all of them if absent
 *   -t     how long each row of the flood is measured
 *   -k     only this key in the flood: p256, rsa2048, rsa4096
 *
 * A real edge runs between two ends that this process plays: a partner (EXTERNAL, TLS from the
 * first byte) and a gateway on the trunk.  Stanzas go through in both directions, and the processor
 * time of the edge's process is read before and after.  The yardstick, in the same run: mbed TLS
 * alone decrypts the same stanzas in the same records from memory and encrypts them to memory, in
 * records of the size that the edge has sent, with the ciphersuite that the edge has chosen.
 *
 * System calls are those that strace counts, which makes the edge slower and lets it gather more.
 * The other relays, where they are installed, are HAProxy and stunnel: they decrypt and encrypt the
 * same stanzas between the same ends, and neither read nor check nor keep them.
 *
 * The flood: a process with N connections at a time, each from an address of its own, that says
 * ClientHello, waits for the server's whole answer and hangs up.  It computes nothing, which is the
 * cheapest for it; the edge signs for each.  With the bomb it goes on to present certificates that
 * are dear to verify (bomb.py); in TLS 1.3 it has to compute for that, because they are encrypted.
 * Beside it one stanza at a time goes from the partner to the gateway, every 10 ms, and a partner
 * opens a second stream.  Strangers have processors of their own: here the flood has the lowest
 * priority, so that what is measured is what the edge does.
 *
 * The ends gather what they send and receive into large system calls, so that they are faster than
 * the edge and it never waits.
 */
#define XMPPEDGE_LANGUAGE_ONLY
#include "../../xmppedge.c"

#include <arpa/inet.h>
#include <fcntl.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#define WITH_RNG , mbedtls_ctr_drbg_random, &rng
#define STATE MBEDTLS_PRIVATE(state)
#else
#define WITH_RNG
#define STATE state
#endif

#define PARTNER_PORT  25269      /* 127.0.7.1: where the edge finds the partner */
#define EXTERNAL_PORT 25269      /* 127.0.7.2: the edge, row 1 */
#define TRUNK_PORT    23456      /* 127.0.7.3: the edge, row 3 */
#define RELAY_PORT    25269      /* 127.0.7.4: another relay, which leads to the partner */
#define RECORD        16384      /* bytes of plaintext in a full record */
#define RAW           (256 << 10) /* ciphertext that an end gathers */
#define TEXT_MAX      (64 << 10) /* answers in the negotiation */
#define OUT_WINDOW    900        /* stanzas under way to the partner: the edge's queue holds 1000 */
#define ACK_STANZAS   62         /* of the 500 of a pair that a gateway lets be under way */
#define ACK_US        20000      /* and so long it waits for others */
#define STREAMS       1000       /* idle ones, for the memory */
#define LEFT_S        70         /* after that what they left has been given back */
#define FLOOD_MAX     128        /* connections at a time */
#define FLOOD_ANSWER  16384      /* bytes of a server's answer */
#define FLOOD_PACE_US 10000      /* between two stanzas that are timed */
#define SAMPLES_MAX   20000
#define TURN_MS       10000      /* nothing for so long: something is wrong */

#define NS "xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'"

static mbedtls_entropy_context  entropy;
static mbedtls_ctr_drbg_context rng;
static mbedtls_x509_crt         authorities;
static const char              *dir;
static int                      suites[2];   /* forced, or { 0 } */

static void
die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void
must(int code, const char *what)
{
    char text[160];
    if (code == 0)
        return;
    mbedtls_strerror(code, text, sizeof text);
    die("%s: %s", what, text);
}

/* ---- clocks and memory ---- */

static double
clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Processor time of a process, user and system. */
static double
cpu_us(pid_t pid)
{
    clockid_t clock;
    if (clock_getcpuclockid(pid, &clock) != 0)
        die("no processor clock of process %ld", (long)pid);
    return clock_us(clock);
}

/* KiB of /proc/PID/smaps_rollup. */
static long
memory_kib(pid_t pid, const char *what)
{
    char line[256];
    long kib = -1;
    FILE *f;
    snprintf(line, sizeof line, "/proc/%ld/smaps_rollup", (long)pid);
    f = fopen(line, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, what, strlen(what)) == 0)
            kib = atol(line + strlen(what));
    if (f != NULL)
        fclose(f);
    return kib;
}

/* ---- one end of a TLS connection ---- */

struct credentials {
    mbedtls_x509_crt   chain;
    mbedtls_pk_context key;
    mbedtls_ssl_config conf;
};

struct end {
    mbedtls_ssl_context ssl;
    int                 fd;         /* -1: memory only */
    unsigned char      *in;         /* ciphertext received, RAW bytes */
    size_t              in_at;
    size_t              in_len;
    unsigned char      *out;        /* ciphertext to be sent, RAW bytes */
    size_t              out_at;
    size_t              out_len;
    uint64_t            records;    /* received */
    char               *text;       /* plaintext of the negotiation */
    size_t              text_len;
    size_t              matched;    /* bytes of "</message>" seen at the end of what was counted */
    uint64_t            stanzas;    /* counted */
    uint64_t            sent;       /* stanzas */
    bool                settles;    /* the edge wants to know what is delivered */
    uint64_t            told;       /* stanzas that are acknowledged */
    double              told_us;    /* until when all were, CLOCK_MONOTONIC */
    double              came_us;    /* when the last bytes came, CLOCK_REALTIME */
};

static void
credentials_load(struct credentials *c, const char *name, bool server)
{
    char path[512];
    mbedtls_x509_crt_init(&c->chain);
    mbedtls_pk_init(&c->key);
    mbedtls_ssl_config_init(&c->conf);
    snprintf(path, sizeof path, "%s/%s.pem", dir, name);
    must(mbedtls_x509_crt_parse_file(&c->chain, path), path);
    snprintf(path, sizeof path, "%s/%s.key", dir, name);
    must(mbedtls_pk_parse_keyfile(&c->key, path, NULL WITH_RNG), path);
    must(mbedtls_ssl_config_defaults(&c->conf,
        server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT), "TLS configuration");
    mbedtls_ssl_conf_rng(&c->conf, mbedtls_ctr_drbg_random, &rng);
    mbedtls_ssl_conf_authmode(&c->conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    mbedtls_ssl_conf_ca_chain(&c->conf, &authorities, NULL);
    if (suites[0] != 0)
        mbedtls_ssl_conf_ciphersuites(&c->conf, suites);
    must(mbedtls_ssl_conf_own_cert(&c->conf, &c->chain, &c->key), "own certificate");
}

static int
end_put(void *user, const unsigned char *from, size_t n)
{
    struct end *e = user;
    size_t room = RAW - e->out_len;
    if (room == 0)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    n = n < room ? n : room;
    memcpy(e->out + e->out_len, from, n);
    e->out_len += n;
    return (int)n;
}

static int
end_get(void *user, unsigned char *to, size_t n)
{
    struct end *e = user;
    size_t have = e->in_len - e->in_at;
    if (have == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    if (n == 5)
        e->records++;   /* mbed TLS asks for the head of a record */
    n = n < have ? n : have;
    memcpy(to, e->in + e->in_at, n);
    e->in_at += n;
    return (int)n;
}

static struct end *
end_new(struct credentials *c, int fd, const char *sni)
{
    struct end *e = calloc(1, sizeof *e);
    int on = 1;
    e->fd = fd;
    e->in = malloc(RAW);
    e->out = malloc(RAW);
    e->text = calloc(1, TEXT_MAX);
    mbedtls_ssl_init(&e->ssl);
    must(mbedtls_ssl_setup(&e->ssl, &c->conf), "TLS session");
    mbedtls_ssl_set_hostname(&e->ssl, sni);
    mbedtls_ssl_set_bio(&e->ssl, e, end_put, end_get, NULL);
    if (fd >= 0) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return e;
}

/* The descriptor stays open. */
static void
end_free(struct end *e)
{
    mbedtls_ssl_free(&e->ssl);
    free(e->in);
    free(e->out);
    free(e->text);
    free(e);
}

/* The system says when bytes have come, which may be long before this process runs again. */
static ssize_t
end_recv(struct end *e)
{
    union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(struct timespec))]; } extra;
    struct iovec to = { e->in, RAW };
    struct msghdr m;
    struct cmsghdr *c;
    ssize_t n;
    memset(&m, 0, sizeof m);
    m.msg_iov = &to;
    m.msg_iovlen = 1;
    m.msg_control = &extra;
    m.msg_controllen = sizeof extra;
    n = recvmsg(e->fd, &m, 0);
    for (c = CMSG_FIRSTHDR(&m); n > 0 && c != NULL; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            e->came_us = (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
        }
    return n;
}

/* Move what the system takes and has. */
static void
end_pump(struct end *e)
{
    ssize_t n;
    if (e->out_at < e->out_len) {
        n = send(e->fd, e->out + e->out_at, e->out_len - e->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            die("the edge has closed a connection: %s", strerror(errno));
        e->out_at += n > 0 ? (size_t)n : 0;
        if (e->out_at == e->out_len)
            e->out_at = e->out_len = 0;
    }
    if (e->in_at == e->in_len) {
        n = end_recv(e);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            die("the edge has closed a connection: %.2000s", e->text);
        e->in_at = 0;
        e->in_len = n > 0 ? (size_t)n : 0;
    }
}

/* Wait until one of the ends can go on. */
static void
ends_wait(struct end *const *ends, size_t n)
{
    struct pollfd fds[4];
    size_t i;
    for (i = 0; i < n; i++) {
        fds[i].fd = ends[i]->fd;
        fds[i].events = (short)(POLLIN | (ends[i]->out_len > 0 ? POLLOUT : 0));
    }
    if (poll(fds, (nfds_t)n, TURN_MS) == 0)
        die("nothing has moved for %d s; the last words were: %.2000s", TURN_MS / 1000,
            ends[0]->text);
}

static void
end_say(struct end *e, const char *text)
{
    if (mbedtls_ssl_write(&e->ssl, (const unsigned char *)text, strlen(text)) != (int)strlen(text))
        die("cannot send: %s", text);
    end_pump(e);
}

/* Wait for a word of the negotiation; it and all before it are taken. */
static void
end_expect(struct end *e, const char *word)
{
    char *found;
    while ((found = strstr(e->text, word)) == NULL) {
        int n = mbedtls_ssl_read(&e->ssl, (unsigned char *)e->text + e->text_len,
            TEXT_MAX - 1 - e->text_len);
        if (n > 0) {
            e->text_len += (size_t)n;
            e->text[e->text_len] = '\0';
            continue;
        }
        if (n != MBEDTLS_ERR_SSL_WANT_READ)
            die("no %s but %.2000s (-0x%x)", word, e->text, (unsigned)-n);
        if (e->in_at == e->in_len) {
            ends_wait(&e, 1);
            end_pump(e);
        }
    }
    found += strlen(word);
    e->text_len -= (size_t)(found - e->text);
    memmove(e->text, found, e->text_len + 1);
}

static void
end_handshake(struct end *e)
{
    int code;
    while ((code = mbedtls_ssl_handshake(&e->ssl)) != 0) {
        if (code != MBEDTLS_ERR_SSL_WANT_READ)
            must(code, "TLS handshake");
        end_pump(e);
        if (e->in_at == e->in_len) {
            ends_wait(&e, 1);
            end_pump(e);
        }
    }
    end_pump(e);
}

/* ---- the two ends of the edge ---- */

static struct sockaddr_in
address(const char *ip, int port)
{
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static int
dial(const char *ip, int port)
{
    struct sockaddr_in to = address(ip, port);
    int tries;
    for (tries = 0; tries < 100; tries++) {
        struct timespec pause = { 0, 20000000 };
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
            return fd;
        close(fd);
        nanosleep(&pause, NULL);
    }
    die("cannot connect to %s:%d", ip, port);
    return -1;
}

static void
end_external(struct end *e, const char *header)
{
    end_say(e, header);
    end_expect(e, "</stream:features>");
    end_say(e, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
    end_expect(e, "<success");
    end_say(e, header);
    end_expect(e, "</stream:features>");
}

static struct end *
partner_connect(struct credentials *c)
{
    struct end *e = end_new(c, dial("127.0.7.2", EXTERNAL_PORT), "corp.example");
    end_handshake(e);
    end_external(e, "<stream:stream from='fab.example' to='corp.example' " NS ">");
    return e;
}

static struct end *
gateway_connect(struct credentials *c)
{
    struct end *e = end_new(c, dial("127.0.7.3", TRUNK_PORT), "edge.corp.example");
    end_handshake(e);
    end_external(e, "<stream:stream from='fe.corp.example' to='edge.corp.example' " NS ">");
    end_say(e, "<trunk xmlns='urn:xmppedge:trunk:0' pair-bytes='524288' "
        "pair-stanzas='500' node='bench'><domain>corp.example</domain></trunk>");
    end_expect(e, "<trunk");
    end_expect(e, "max-bytes");   /* an attribute of the answer; its `node` stands behind that */
    e->settles = strstr(e->text, " node=") != NULL;
    end_say(e, "<enable xmlns='urn:xmpp:sm:3'/>");
    end_expect(e, "<enabled xmlns='urn:xmpp:sm:3'/>");
    return e;
}

static int
partner_listen(void)
{
    struct sockaddr_in at = address("127.0.7.1", PARTNER_PORT);
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4) != 0)
        die("cannot listen on 127.0.7.1:%d: %s", PARTNER_PORT, strerror(errno));
    return fd;
}

/* The edge dials the partner. */
static struct end *
partner_accept(struct credentials *c, int listener)
{
    static const char header[] =
        "<stream:stream from='fab.example' to='corp.example' id='x' " NS ">";
    struct end *e = end_new(c, accept(listener, NULL, NULL), NULL);
    end_handshake(e);
    end_expect(e, "version='1.0'>");
    end_say(e, header);
    end_say(e, "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
        "<mechanism>EXTERNAL</mechanism></mechanisms></stream:features>");
    end_expect(e, "</auth>");
    end_say(e, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    end_expect(e, "version='1.0'>");
    end_say(e, header);
    end_say(e, "<stream:features/>");
    return e;
}

static pid_t edge_pid;   /* 0: none runs */

static void
edge_stop(void)
{
    if (edge_pid == 0)
        return;
    kill(edge_pid, SIGKILL);   /* an orderly end would wait for our acknowledgements */
    waitpid(edge_pid, NULL, 0);
    edge_pid = 0;
}

static void
edge_start_as(const char *program, const char *name)
{
    char config[512];
    char log[512];
    pid_t pid;
    snprintf(config, sizeof config, "%s/%s.xml", dir, name);
    snprintf(log, sizeof log, "%s/edge.log", dir);
    pid = fork();
    if (pid != 0) {
        edge_pid = pid;
        return;
    }
    if (freopen(log, "a", stderr) == NULL)
        _exit(1);
    execl(program, program, "run", config, (char *)NULL);
    _exit(127);
}

static void
edge_start(const char *program)
{
    edge_start_as(program, "edge");
}

/* ---- stanzas ---- */

/* A chat message of `size` bytes, as clients send them. */
static size_t
stanza_make(char *out, size_t size, bool inwards, unsigned n)
{
    static const char words[] =
        "But, soft! what light through yonder window breaks? It is the east, ";
    const char *from = inwards ? "romeo@fab.example/balcony" : "juliet@corp.example/chamber";
    const char *to = inwards ? "juliet@corp.example" : "romeo@fab.example";
    static const char end[] =
        "</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";
    size_t at = (size_t)sprintf(out,
        "<message type='chat' from='%s' to='%s' id='m%08x'><body>", from, to, n);
    while (at + sizeof end - 1 < size) {
        out[at] = words[at % (sizeof words - 1)];
        at++;
    }
    memcpy(out + at, end, sizeof end);
    return at + sizeof end - 1;
}

/* Count the ends of messages. */
static void
end_count(struct end *e, const char *p, size_t n)
{
    static const char word[] = "</message>";
    const char *last = p + n;
    while (p < last) {
        if (e->matched == 0 && (p = memchr(p, '<', (size_t)(last - p))) == NULL)
            return;
        if (*p == word[e->matched])
            e->matched++;
        else
            e->matched = *p == '<';
        p++;
        if (e->matched == sizeof word - 1) {
            e->stanzas++;
            e->matched = 0;
        }
    }
}

enum mode {
    BULK,      /* full records, as fast as the socket takes them */
    SINGLE,    /* one stanza a record, as fast as the socket takes them */
    PACED      /* one stanza at a time: the next is sent when it has arrived */
};

static const char *const mode_names[] = { "bulk", "single", "paced" };

/* What one run is about. */
struct job {
    bool        inwards;    /* partner to trunk, or trunk to partner */
    enum mode   mode;
    size_t      size;       /* bytes of a stanza */
    uint64_t    count;      /* stanzas */
};

struct result {
    double      edge_us;    /* processor time a stanza */
    double      bare_us;    /* mbed TLS alone */
    double      wall_us;
    double      ratio;
    size_t      record;     /* mean bytes of plaintext in a record that the edge has sent */
};

/* What is sent again and again: stanzas, cut into records. */
struct load {
    char        text[64 << 10];
    size_t      len;
    size_t      stanzas;
    size_t      cuts[1024]; /* ends of records */
    size_t      ncuts;
};

static void
load_make(struct load *l, const struct job *job)
{
    size_t most = job->mode == PACED ? 1 : sizeof l->text;
    size_t at;
    l->len = l->stanzas = l->ncuts = 0;
    while (l->len + job->size <= sizeof l->text - 8 && l->stanzas < most) {
        l->len += stanza_make(l->text + l->len, job->size, job->inwards, (unsigned)l->stanzas++);
        if (job->mode != BULK)
            l->cuts[l->ncuts++] = l->len;
    }
    for (at = RECORD; job->mode == BULK && at < l->len + RECORD; at += RECORD)
        l->cuts[l->ncuts++] = at < l->len ? at : l->len;
}

/* Encrypt as much of the load as there is room for. */
static void
end_send_load(struct end *e, const struct load *l, size_t *at, size_t *cut)
{
    while (e->out_len + RECORD + 256 < RAW && *cut < l->ncuts) {
        int n = mbedtls_ssl_write(&e->ssl, (const unsigned char *)l->text + *at,
            l->cuts[*cut] - *at);
        if (n <= 0)
            must(n, "sending stanzas");
        *at += (size_t)n;
        if (*at == l->cuts[*cut])
            ++*cut;
    }
}

/* Decrypt what has come; true when it was anything. */
static bool
end_receive(struct end *e)
{
    static char plain[RECORD];
    bool any = false;
    int n;
    while ((n = mbedtls_ssl_read(&e->ssl, (unsigned char *)plain, sizeof plain)) > 0) {
        end_count(e, plain, (size_t)n);
        any = true;
    }
    if (n != MBEDTLS_ERR_SSL_WANT_READ)
        must(n, "receiving stanzas");
    return any;
}

/* All that has come has arrived and is delivered. */
static void
end_acknowledge(struct end *gateway)
{
    char text[240];
    int len = snprintf(text, sizeof text, "<a xmlns='urn:xmpp:sm:3' h='%lu'/>",
        (unsigned long)(gateway->stanzas & 0xffffffff));
    if (gateway->settles)
        snprintf(text + len, sizeof text - (size_t)len, "<settled xmlns='urn:xmppedge:trunk:0' "
            "from='fab.example' to='corp.example' more='%lu'/>",
            (unsigned long)(gateway->stanzas - gateway->told));
    gateway->told = gateway->stanzas;
    gateway->told_us = clock_us(CLOCK_MONOTONIC);
    end_say(gateway, text);
}

/* Does a gateway like the edge acknowledge now?  One that says what is delivered waits until it is
 * an eighth of what may be under way, or for 20 ms (trunk_ack_may_wait()); those before did not. */
static bool
end_acknowledges(struct end *gateway)
{
    uint64_t fresh = gateway->stanzas - gateway->told;
    double now = clock_us(CLOCK_MONOTONIC);
    if (fresh == 0)
        gateway->told_us = now;
    return fresh > 0 && gateway->out_len + 512 < RAW && (!gateway->settles || fresh >= ACK_STANZAS
        || now - gateway->told_us >= ACK_US);
}

/* Send and count until all has arrived.  `from` and `to` are the partner and the gateway, or the
 * other way round. */
static void
run_stanzas(const struct job *job, struct end *from, struct end *to, const struct load *load)
{
    struct end *ends[2] = { from, to };
    uint64_t first = to->stanzas;
    uint64_t last = from->sent + job->count;
    size_t at = 0;
    size_t cut = load->ncuts;
    while (to->stanzas - first < job->count) {
        bool moved = false;
        uint64_t under_way = from->sent - to->stanzas;
        if (cut == load->ncuts && from->sent < last
            && (job->mode == PACED ? under_way == 0
                : job->inwards || under_way + load->stanzas <= OUT_WINDOW)) {
            at = cut = 0;
            from->sent += load->stanzas;
        }
        end_send_load(from, load, &at, &cut);
        end_pump(from);
        end_pump(to);
        moved = end_receive(to) || moved;
        end_receive(from);
        if (job->inwards && end_acknowledges(to))
            end_acknowledge(to);
        if (!moved && to->in_at == to->in_len && (cut == load->ncuts || from->out_len > 0))
            ends_wait(ends, 2);
    }
    if (job->inwards && to->stanzas != to->told)
        end_acknowledge(to);   /* nothing more comes for a while */
}

/* ---- the yardstick: mbed TLS alone ---- */

/* A session in memory: what one end has written, the other one can read. */
static void
bare_carry(struct end *from, struct end *to)
{
    memcpy(to->in, from->out, from->out_len);
    to->in_at = 0;
    to->in_len = from->out_len;
    from->out_len = 0;
}

/* All steps that are possible now; true at the end.  `longest` is in us of processor time. */
static bool
bare_shake(struct end *e, double *longest)
{
    while (e->ssl.STATE != MBEDTLS_SSL_HANDSHAKE_OVER) {
        double start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
        int code = mbedtls_ssl_handshake_step(&e->ssl);
        double took = clock_us(CLOCK_PROCESS_CPUTIME_ID) - start;
        *longest = took > *longest ? took : *longest;
        if (code == MBEDTLS_ERR_SSL_WANT_READ)
            return false;
        must(code, "TLS handshake in memory");
    }
    return true;
}

/* Microseconds of the server's longest step. */
static double
bare_connect(struct end *client, struct end *server)
{
    double others = 0;
    double longest = 0;
    bool over;
    do {
        over = bare_shake(client, &others);
        bare_carry(client, server);
        over = bare_shake(server, &longest) && over;
        bare_carry(server, client);
    } while (!over);
    return longest;
}

struct bare {
    struct end *client;   /* makes the records that are decrypted */
    struct end *in;       /* decrypts */
    struct end *out;      /* encrypts */
    struct end *sink;
};

static struct bare
bare_open(struct credentials *client, struct credentials *server)
{
    struct bare b;
    b.client = end_new(client, -1, NULL);
    b.in = end_new(server, -1, NULL);
    b.sink = end_new(client, -1, NULL);
    b.out = end_new(server, -1, NULL);
    bare_connect(b.client, b.in);
    bare_connect(b.sink, b.out);
    return b;
}

/* Processor time in us to decrypt the load once and to encrypt it in records of `record` bytes. */
static double
bare_round(struct bare *b, const struct load *load, size_t record)
{
    static char plain[sizeof load->text + RECORD];
    size_t got = 0;
    size_t at = 0;
    size_t cut = 0;
    double start;
    int n;
    end_send_load(b->client, load, &at, &cut);
    memcpy(b->in->in, b->client->out, b->client->out_len);
    b->in->in_at = 0;
    b->in->in_len = b->client->out_len;
    b->client->out_len = 0;
    start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    while ((n = mbedtls_ssl_read(&b->in->ssl, (unsigned char *)plain + got,
            sizeof plain - got)) > 0)
        got += (size_t)n;
    for (at = 0; at < got; at += (size_t)n) {
        b->out->out_len = 0;
        n = mbedtls_ssl_write(&b->out->ssl, (const unsigned char *)plain + at,
            got - at < record ? got - at : record);
        if (n <= 0)
            must(n, "encrypting");
    }
    return clock_us(CLOCK_PROCESS_CPUTIME_ID) - start;
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The middle of some numbers, which are sorted by this. */
static double
median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* Microseconds a stanza.  A second process does the same meanwhile: beside the edge, this program
 * keeps a processor busy, and processors share caches, clock rate and often their cores. */
static double
bare_measure(struct bare *b, const struct load *load, size_t record)
{
    enum { ROUNDS = 60 };
    static double times[ROUNDS];
    pid_t parent = getpid();
    pid_t child;
    int i;
    fflush(stdout);
    child = fork();
    while (child == 0 && getppid() == parent)
        bare_round(b, load, record);
    if (child == 0)
        _exit(0);
    for (i = 0; i < ROUNDS; i++)
        times[i] = bare_round(b, load, record);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return median(times, ROUNDS) / (double)load->stanzas;
}

/* ---- the measurements ---- */

struct bench {
    const char        *program;
    uint64_t           count;      /* stanzas of a run */
    const char        *mode;       /* only this one; NULL: both */
    size_t             size;       /* only this one; 0: both */
    double             seconds;    /* of a row of the flood */
    const char        *key;        /* only this one in the flood; NULL: all */
    struct credentials partner;
    struct credentials partner_server;
    struct credentials gateway;
    struct credentials bomb;
    struct bare        bare;
};

/* Mean bytes of plaintext in the records that the edge has sent. */
static size_t
record_size(const struct job *job, uint64_t stanzas, uint64_t records)
{
    size_t mean = (size_t)(stanzas * job->size / (records > 0 ? records : 1));
    return mean < RECORD ? mean : RECORD;
}

/* In slices, each followed by one of the yardstick, so that what else the machine does meanwhile
 * meets both; the middle slice counts. */
static struct result
measure(struct bench *b, struct end *partner, struct end *gateway, const struct job *job)
{
    enum { SLICES = 15 };
    static struct load load;
    struct end *from = job->inwards ? partner : gateway;
    struct end *to = job->inwards ? gateway : partner;
    struct job slice = *job;
    double edge[SLICES];
    double bare[SLICES];
    double ratio[SLICES];
    double wall[SLICES];
    struct result r;
    int i;
    load_make(&load, job);
    slice.count = job->count / SLICES;
    run_stanzas(&slice, from, to, &load);   /* to warm up */
    for (i = 0; i < SLICES; i++) {
        uint64_t records = to->records;
        uint64_t stanzas = to->stanzas;
        wall[i] = clock_us(CLOCK_MONOTONIC);
        edge[i] = cpu_us(edge_pid);
        run_stanzas(&slice, from, to, &load);
        stanzas = to->stanzas - stanzas;
        edge[i] = (cpu_us(edge_pid) - edge[i]) / (double)stanzas;
        wall[i] = (clock_us(CLOCK_MONOTONIC) - wall[i]) / (double)stanzas;
        r.record = record_size(job, stanzas, to->records - records);
        bare[i] = bare_measure(&b->bare, &load, r.record);
        ratio[i] = edge[i] / bare[i];
    }
    r.edge_us = median(edge, SLICES);
    r.bare_us = median(bare, SLICES);
    r.wall_us = median(wall, SLICES);
    r.ratio = median(ratio, SLICES);
    return r;
}

/* An edge between its two ends. */
struct border {
    int         listener;
    struct end *partner;
    struct end *gateway;
};

static struct border
border_open(struct bench *b, bool inwards)
{
    struct border o;
    char stanza[512];
    o.listener = partner_listen();
    edge_start(b->program);
    o.gateway = gateway_connect(&b->gateway);
    if (inwards) {
        o.partner = partner_connect(&b->partner);
        return o;
    }
    stanza_make(stanza, 300, false, 0);
    end_say(o.gateway, stanza);
    o.partner = partner_accept(&b->partner_server, o.listener);
    end_expect(o.partner, "</message>");
    return o;
}

static void
border_close(struct border *o)
{
    edge_stop();
    close(o->gateway->fd);
    close(o->partner->fd);
    close(o->listener);
    end_free(o->gateway);
    end_free(o->partner);
}

/* The jobs of a table: three ways to send, two sizes; false when the command line leaves it out. */
static bool
job_of(const struct bench *b, bool inwards, size_t i, struct job *job)
{
    static const size_t sizes[] = { 300, 1000 };
    enum mode mode = (enum mode)(i % 3);
    *job = (struct job){ inwards, mode, sizes[i / 3], mode == PACED ? b->count / 15 : b->count };
    return (b->mode == NULL || strcmp(b->mode, mode_names[mode]) == 0)
        && (b->size == 0 || b->size == job->size);
}

static void
bench_rows(struct bench *b, const char *name, struct end *partner, struct end *gateway,
    bool inwards)
{
    struct job job;
    size_t i;
    for (i = 0; i < 6; i++) {
        struct result r;
        if (!job_of(b, inwards, i, &job))
            continue;
        r = measure(b, partner, gateway, &job);
        printf("%-8s %-6s %5lu %10.2f %10.2f %7.2f %8lu %9.0f %5.0f%%  %s\n", name,
            mode_names[job.mode], (unsigned long)job.size, r.edge_us, r.bare_us, r.ratio,
            (unsigned long)r.record, 1e6 / r.wall_us, 100 * r.edge_us / r.wall_us,
            mbedtls_ssl_get_ciphersuite(&partner->ssl));
        fflush(stdout);
    }
}

static void
bench_direction(struct bench *b, bool inwards)
{
    struct border o = border_open(b, inwards);
    bench_rows(b, inwards ? "inward" : "outward", o.partner, o.gateway, inwards);
    border_close(&o);
}

/* ---- other relays ---- */

/* A program that is found in PATH becomes the process that is measured; the last of the arguments
 * is a file in our folder. */
static bool
relay_start(const char *program, const char *option, const char *file)
{
    char path[512];
    int fd = open("/dev/null", O_WRONLY);
    int status;
    snprintf(path, sizeof path, "command -v %s >/dev/null", program);
    if (fd < 0 || system(path) != 0) {
        close(fd);
        return false;
    }
    snprintf(path, sizeof path, "%s/%s", dir, file);
    edge_pid = fork();
    if (edge_pid == 0) {
        dup2(fd, 1);
        dup2(fd, 2);
        execlp(program, program, option[0] == '\0' ? path : option, option[0] == '\0' ? NULL : path,
            (char *)NULL);
        _exit(127);
    }
    close(fd);
    usleep(500000);
    if (waitpid(edge_pid, &status, WNOHANG) != 0)
        die("%s has ended: %s", program, path);
    return true;
}

static void
bench_relay(struct bench *b, const char *program, const char *option, const char *file)
{
    int listener = partner_listen();
    struct end *from;
    struct end *to;
    if (!relay_start(program, option, file)) {
        printf("%-8s is not installed\n", program);
        close(listener);
        return;
    }
    from = end_new(&b->partner, dial("127.0.7.4", RELAY_PORT), "corp.example");
    end_handshake(from);
    end_say(from, " ");   /* stunnel dials when it has something to say */
    to = end_new(&b->partner_server, accept(listener, NULL, NULL), NULL);
    end_handshake(to);
    bench_rows(b, program, from, to, true);
    edge_stop();
    close(from->fd);
    close(to->fd);
    close(listener);
    end_free(from);
    end_free(to);
}

/* ---- system calls ---- */

/* strace counts those of the edge from now on; 0: it is not there. */
static pid_t
calls_begin(const char *path)
{
    char target[20];
    pid_t pid;
    int status;
    snprintf(target, sizeof target, "%d", (int)edge_pid);
    pid = fork();
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(127);
        execlp("strace", "strace", "-f", "-q", "-c", "-o", path, "-p", target, (char *)NULL);
        _exit(127);
    }
    sleep(1);   /* until it is attached */
    return waitpid(pid, &status, WNOHANG) == 0 ? pid : 0;
}

/* How many there were: the last line but for the word `total` has them in front of the errors. */
static unsigned long
calls_end(pid_t pid, const char *path)
{
    FILE *f;
    char line[256];
    unsigned long calls = 0;
    kill(pid, SIGINT);
    waitpid(pid, NULL, 0);
    f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strstr(line, " total") != NULL)
            sscanf(line, "%*s %*s %*s %lu", &calls);
    if (f != NULL)
        fclose(f);
    return calls;
}

static void
bench_calls(struct bench *b, bool inwards)
{
    static struct load load;
    struct border o = border_open(b, inwards);
    struct job job;
    char path[512];
    size_t i;
    snprintf(path, sizeof path, "%s/calls", dir);
    for (i = 0; i < 3; i++) {
        uint64_t first;
        pid_t pid;
        if (!job_of(b, inwards, i, &job))
            continue;
        job.count = job.mode == PACED ? 2000 : 20000;
        load_make(&load, &job);
        pid = calls_begin(path);
        if (pid == 0) {
            printf("strace is not installed, or may not look\n");
            break;
        }
        first = inwards ? o.gateway->stanzas : o.partner->stanzas;
        run_stanzas(&job, inwards ? o.partner : o.gateway, inwards ? o.gateway : o.partner, &load);
        printf("%-8s %-6s %5lu bytes: %.2f system calls a stanza\n", inwards ? "inward" : "outward",
            mode_names[job.mode], (unsigned long)job.size, (double)calls_end(pid, path)
                / (double)((inwards ? o.gateway : o.partner)->stanzas - first));
        fflush(stdout);
    }
    border_close(&o);
}

/* The tokenizer and the writer by themselves. */
static void
bench_xml(size_t size)
{
    static const char header[] = "<stream:stream from='fab.example' to='corp.example' " NS ">";
    static struct load load;
    static struct xe_xml xml;
    static struct xe_xml_event event;
    struct xe_xml_limits limits = { 8192, 262144, 64, 64, 0, 0 };
    struct job job = { true, true, size, 0 };
    struct buf out = { .max = 1 << 20 };
    double start;
    size_t used;
    size_t at;
    int i;
    load_make(&load, &job);
    xe_xml_init(&xml, &limits);
    xe_xml_next(&xml, header, sizeof header - 1, &used, &event);
    start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    for (i = 0; i < 1000; i++) {
        buf_clear(&out);
        for (at = 0; at < load.len; at += used) {
            if (xe_xml_next(&xml, load.text + at, load.len - at, &used, &event) != XE_XML_ELEMENT)
                die("the tokenizer refuses a stanza");
            if (!xmlout_stanza(&out, &xml, &event))
                die("the writer refuses a stanza");
        }
    }
    printf("tokenizer and writer, %4lu bytes: %6.0f ns a stanza\n", (unsigned long)size,
        (clock_us(CLOCK_PROCESS_CPUTIME_ID) - start) * 1000 / 1000 / (double)load.stanzas);
    buf_free(&out);
    xe_xml_free(&xml);
}

/* Server sessions of mbed TLS alone in a process of their own, KiB of each. */
static double
bare_memory(struct bench *b)
{
    int pipes[2];
    int links[2];
    double kib = 0;
    pid_t child;
    int i;
    if (pipe(pipes) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, links) != 0)
        die("no pipe");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        static mbedtls_ssl_context ssl[STREAMS];
        struct end *bio = end_new(&b->partner_server, links[0], NULL);
        long before = 0;
        close(links[1]);
        for (i = 0; i < STREAMS; i++) {
            int code;
            if (i == 10)
                before = memory_kib(getpid(), "Pss:");
            mbedtls_ssl_init(&ssl[i]);
            must(mbedtls_ssl_setup(&ssl[i], &b->partner_server.conf), "TLS session");
            mbedtls_ssl_set_bio(&ssl[i], bio, end_put, end_get, NULL);
            while ((code = mbedtls_ssl_handshake(&ssl[i])) != 0) {
                if (code != MBEDTLS_ERR_SSL_WANT_READ)
                    must(code, "TLS handshake");
                end_pump(bio);
                if (bio->in_at == bio->in_len) {
                    ends_wait(&bio, 1);
                    end_pump(bio);
                }
            }
            end_pump(bio);
        }
        kib = (double)(memory_kib(getpid(), "Pss:") - before) / (STREAMS - 10);
        _exit(write(pipes[1], &kib, sizeof kib) == sizeof kib ? 0 : 1);
    }
    close(links[0]);
    for (i = 0; i < STREAMS; i++) {
        struct end *client = end_new(&b->partner, links[1], NULL);
        end_handshake(client);
        end_free(client);
    }
    if (read(pipes[0], &kib, sizeof kib) != sizeof kib)
        die("the process with the sessions has failed");
    waitpid(child, NULL, 0);
    return kib;
}

static void
bench_memory(struct bench *b)
{
    static int fds[STREAMS + 20];
    long before = 0;
    long heap = 0;
    double start;
    int i;
    edge_start(b->program);
    start = cpu_us(edge_pid);
    for (i = 0; i < STREAMS + 10; i++) {
        struct end *e;
        if (i == 10) {
            before = memory_kib(edge_pid, "Pss:");
            heap = memory_kib(edge_pid, "Private_Dirty:");
            start = cpu_us(edge_pid);
        }
        e = partner_connect(&b->partner);
        fds[i] = e->fd;
        end_free(e);
    }
    printf("idle authenticated stream, edge:         %6.1f KiB (%.1f private), %.2f ms to set up\n",
        (double)(memory_kib(edge_pid, "Pss:") - before) / STREAMS,
        (double)(memory_kib(edge_pid, "Private_Dirty:") - heap) / STREAMS,
        (cpu_us(edge_pid) - start) / 1000 / STREAMS);
    for (i = 0; i < STREAMS + 10; i++)
        close(fds[i]);
    for (i = 0; i < LEFT_S && (i < 3 || memory_kib(edge_pid, "Private_Dirty:") - heap > 8192); i++)
        sleep(1);
    printf("%d streams have left, edge:            %6.1f KiB are still there after %d s\n", STREAMS,
        (double)(memory_kib(edge_pid, "Private_Dirty:") - heap), i);
    edge_stop();
    printf("server session of mbed TLS %-8s alone: %6.1f KiB\n", MBEDTLS_VERSION_STRING,
        bare_memory(b));
}

/* ---- the flood ---- */

/* What the flooding process and this one share. */
struct flood {
    pid_t               pid;        /* 0: none */
    volatile uint64_t  *answers;    /* whole answers of the edge */
    unsigned char       hello[2048];
    size_t              hello_len;
    size_t              answer_len; /* bytes of a whole answer */
    struct credentials *bomb;       /* to be presented, or NULL */
};

/* One connection of the flood. */
struct flooder {
    size_t      got;    /* bytes of the answer */
    struct end *end;    /* with the bomb: it has to understand what it hears */
    bool        thrown;
};

/* The first words of a client. */
static void
flood_hello(struct flood *f, struct credentials *c)
{
    struct end *e = end_new(c, -1, "corp.example");
    if (mbedtls_ssl_handshake(&e->ssl) != MBEDTLS_ERR_SSL_WANT_READ || e->out_len == 0
        || e->out_len > sizeof f->hello)
        die("no ClientHello");
    f->hello_len = e->out_len;
    memcpy(f->hello, e->out, e->out_len);
    end_free(e);
}

/* How long the answer is: all that comes until nothing more does. */
static void
flood_answer(struct flood *f)
{
    struct pollfd p = { .fd = dial("127.0.7.2", EXTERNAL_PORT), .events = POLLIN };
    static char waste[FLOOD_ANSWER];
    ssize_t n;
    if (send(p.fd, f->hello, f->hello_len, MSG_NOSIGNAL) != (ssize_t)f->hello_len)
        die("cannot say hello");
    f->answer_len = 0;
    while (poll(&p, 1, 1000) > 0 && (n = recv(p.fd, waste, sizeof waste, 0)) > 0)
        f->answer_len += (size_t)n;
    if (f->answer_len < 200)
        die("the edge does not answer a ClientHello");
    close(p.fd);
}

/* One more connection of the flood; -1 when there is none to be had now. */
static int
flood_dial(size_t number)
{
    struct sockaddr_in to = address("127.0.7.2", EXTERNAL_PORT);
    struct linger reset = { 1, 0 };
    struct sockaddr_in from;
    char ip[32];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    snprintf(ip, sizeof ip, "127.0.8.%u", (unsigned)number + 1);
    from = address(ip, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);   /* no ports wait for the end */
    if (bind(fd, (struct sockaddr *)&from, sizeof from) == 0
        && (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS))
        return fd;
    close(fd);
    return -1;
}

/* What the connection has to do now; false when it is over. */
static bool
flood_turn(struct flood *f, struct pollfd *p, struct flooder *one)
{
    static char waste[FLOOD_ANSWER];
    ssize_t n;
    if (p->revents & POLLOUT) {
        p->events = POLLIN;
        return send(p->fd, f->hello, f->hello_len, MSG_NOSIGNAL) == (ssize_t)f->hello_len;
    }
    if (p->revents == 0)
        return true;
    n = recv(p->fd, waste, sizeof waste, 0);
    one->got += n > 0 ? (size_t)n : 0;
    if (one->got + 16 >= f->answer_len)   /* signatures differ by some bytes */
        ++*f->answers;
    return n > 0 && one->got + 16 < f->answer_len;
}

/* Handshake steps up to the certificate.  0: it is written; or an error of mbed TLS. */
static int
bomb_throw(struct end *e)
{
    for (;;) {
        bool last = e->ssl.STATE == MBEDTLS_SSL_CLIENT_CERTIFICATE;
        int code = mbedtls_ssl_handshake_step(&e->ssl);
        if (code != 0 || (last && e->ssl.STATE != MBEDTLS_SSL_CLIENT_CERTIFICATE))
            return code;
    }
}

/* The same with the bomb.  Once it is thrown nothing more is said: the edge has the last word. */
static bool
bomb_turn(struct flood *f, struct pollfd *p, struct flooder *one)
{
    struct end *e = one->end;
    ssize_t n = 0;
    int code;
    if (p->revents == 0)
        return true;
    if (!(p->revents & POLLOUT) && (n = recv(p->fd, e->in, RAW, 0)) <= 0) {
        *f->answers += one->thrown;
        return false;
    }
    p->events = POLLIN;
    if (one->thrown)
        return true;
    e->in_at = 0;
    e->in_len = (size_t)n;
    code = bomb_throw(e);
    one->thrown = code == 0;
    n = send(p->fd, e->out, e->out_len, MSG_NOSIGNAL);
    if (n != (ssize_t)e->out_len || (code != 0 && code != MBEDTLS_ERR_SSL_WANT_READ))
        return false;
    e->out_len = 0;
    return !one->thrown || shutdown(p->fd, SHUT_WR) == 0;
}

static void
flood_begin(struct flood *f, size_t number, struct pollfd *p, struct flooder *one)
{
    *p = (struct pollfd){ .fd = flood_dial(number), .events = POLLOUT };
    one->got = 0;
    one->thrown = false;
    if (f->bomb == NULL)
        return;
    if (one->end == NULL) {
        one->end = end_new(f->bomb, -1, "corp.example");
        return;
    }
    mbedtls_ssl_session_reset(&one->end->ssl);
    one->end->in_at = one->end->in_len = one->end->out_len = 0;
}

/* To everybody, at once. */
static void
flood_give_way(void)
{
    enum { IDLE = 5 };   /* SCHED_IDLE of Linux */
    struct sched_param none;
    memset(&none, 0, sizeof none);
    if (sched_setscheduler(0, IDLE, &none) != 0)
        (void)setpriority(PRIO_PROCESS, 0, 19);
}

static void
flood_run(struct flood *f, size_t n)
{
    static struct pollfd fds[FLOOD_MAX];
    static struct flooder all[FLOOD_MAX];
    size_t i;
    flood_give_way();
    for (i = 0; i < n; i++)
        fds[i].fd = -1;
    for (;;) {
        for (i = 0; i < n; i++)
            if (fds[i].fd < 0)
                flood_begin(f, i, &fds[i], &all[i]);
        if (poll(fds, (nfds_t)n, 100) < 0)
            _exit(1);
        for (i = 0; i < n; i++) {
            if (fds[i].fd < 0
                || (f->bomb != NULL ? bomb_turn : flood_turn)(f, &fds[i], &all[i]))
                continue;
            close(fds[i].fd);
            fds[i].fd = -1;
        }
    }
}

static struct flood the_flood;   /* ended with the program */

static void
flood_stop(void)
{
    if (the_flood.pid == 0)
        return;
    kill(the_flood.pid, SIGKILL);
    waitpid(the_flood.pid, NULL, 0);
    the_flood.pid = 0;
}

static void
flood_start(size_t n)
{
    pid_t pid;
    *the_flood.answers = 0;
    if (n == 0)
        return;
    pid = fork();
    if (pid == 0)
        flood_run(&the_flood, n);
    the_flood.pid = pid;
}

/* Milliseconds from a stanza of the partner to the edge's last byte of it to the gateway. */
static double
flood_sample(struct end *partner, struct end *gateway, unsigned number)
{
    static char stanza[TEXT_MAX];
    struct end *ends[2] = { gateway, partner };
    size_t len = stanza_make(stanza, 300, true, number);
    uint64_t before = gateway->stanzas;
    double start = clock_us(CLOCK_REALTIME);
    stanza[len] = '\0';
    end_say(partner, stanza);
    while (gateway->stanzas == before) {
        ends_wait(ends, 1);
        end_pump(gateway);
        end_receive(gateway);
    }
    end_acknowledge(gateway);
    end_pump(gateway);
    return (gateway->came_us - start) / 1000;
}

/* An aim, and the rows in which it holds. */
struct aim {
    const char *text;
    const char *unit;
    unsigned    rows;
    unsigned    held;
    double      worst;
};

static void
aim_note(struct aim *a, double value, double ceiling)
{
    a->rows++;
    a->held += value <= ceiling;
    a->worst = value > a->worst ? value : a->worst;
}

static struct aim aims[] = {
    { "with threads, p99 within twice that of the quiet row", " times", 0, 0, 0 },
    { "with threads, p99 below 5 ms", " ms", 0, 0, 0 },
    { "without threads, p99 below twice the longest step", " steps", 0, 0, 0 },
    { "without threads, p99 below twice the usual step", " steps", 0, 0, 0 },
    { "a partner reconnects within 2 s", " ms", 0, 0, 0 }
};

/* The edge of some rows. */
struct flooded {
    const char *key;
    int         threads;
    double      quiet_ms;   /* p99 of the quiet row */
    double      step_ms;    /* of a handshake the longest step, usually */
    double      longest_ms; /* and at worst */
    struct end *partner;
    struct end *gateway;
    struct credentials server;
};

static void
flood_aims(const struct flooded *on, double p99, double reconnect)
{
    if (on->threads > 0) {
        aim_note(&aims[0], p99 / on->quiet_ms, 2);
        aim_note(&aims[1], p99, 5);
    } else {
        aim_note(&aims[2], p99 / on->longest_ms, 2);
        aim_note(&aims[3], p99 / on->step_ms, 2);
    }
    aim_note(&aims[4], reconnect, 2000);
}

/* What nothing can interrupt: the longest step of a handshake with the edge's key, in ms of
 * processor time.  Taken beside the flood, which costs each step its caches and half its core. */
static void
flood_steps(struct bench *b, struct flooded *on)
{
    enum { TIMES = 100 };
    double us[TIMES];
    int i;
    for (i = 0; i < TIMES; i++) {
        struct end *client = end_new(&b->partner, -1, "corp.example");
        struct end *server = end_new(&on->server, -1, NULL);
        us[i] = bare_connect(client, server);
        end_free(client);
        end_free(server);
    }
    on->step_ms = median(us, TIMES) / 1000;
    on->longest_ms = us[TIMES - 1] / 1000;
}

/* Milliseconds until a second stream of the partner stands. */
static double
flood_reconnect(struct bench *b)
{
    double start = clock_us(CLOCK_MONOTONIC);
    struct end *second = partner_connect(&b->partner);
    double ms = (clock_us(CLOCK_MONOTONIC) - start) / 1000;
    close(second->fd);
    end_free(second);
    return ms;
}

/* One row: what the flood of N does to a stanza, and to a partner who connects. */
static void
flood_row(struct bench *b, struct flooded *on, size_t n, bool bomb)
{
    static double ms[SAMPLES_MAX];
    double end, cpu, p99, reconnect;
    size_t count = 0;
    uint64_t answers;
    the_flood.bomb = bomb ? &b->bomb : NULL;
    flood_start(n);
    usleep(300000);
    *the_flood.answers = 0;
    cpu = cpu_us(edge_pid);
    end = clock_us(CLOCK_MONOTONIC) + b->seconds * 1e6;
    while (count < SAMPLES_MAX && clock_us(CLOCK_MONOTONIC) < end) {
        ms[count] = flood_sample(on->partner, on->gateway, (unsigned)count);
        count++;
        usleep(FLOOD_PACE_US);
    }
    answers = *the_flood.answers;
    cpu = cpu_us(edge_pid) - cpu;
    reconnect = flood_reconnect(b);
    flood_steps(b, on);
    flood_stop();
    qsort(ms, count, sizeof *ms, compare);
    p99 = ms[count * 99 / 100];
    printf("%-8s %7d %6lu %5s %8.2f %8.2f %8.2f %8.2f %8.2f %10.0f %7.1f %12.1f\n", on->key,
        on->threads, (unsigned long)n, n == 0 ? "" : bomb ? "yes" : "no", ms[count / 2], p99,
        ms[count - 1], on->step_ms, on->longest_ms, (double)answers / b->seconds,
        answers == 0 ? 0 : cpu / 1000 / (double)answers, reconnect);
    fflush(stdout);
    if (n == 0)
        on->quiet_ms = p99;
    else
        flood_aims(on, p99, reconnect);
    usleep(200000);
}

/* Both legs and the yardstick shall use the ciphersuite that the edge prefers. */
static void
agree_on_suite(struct bench *b)
{
    struct end *e;
    edge_start(b->program);
    e = partner_connect(&b->partner);
    suites[0] = mbedtls_ssl_get_ciphersuite_id(mbedtls_ssl_get_ciphersuite(&e->ssl));
    close(e->fd);
    end_free(e);
    edge_stop();
}

static void
load_credentials(struct bench *b)
{
    credentials_load(&b->partner, "fab.example", false);
    credentials_load(&b->partner_server, "fab.example", true);
    credentials_load(&b->gateway, "fe.corp.example", false);
}

/* Nobody asks whether the key is that of the certificate, until it has to sign. */
static void
load_bomb(struct bench *b)
{
    char path[512];
    credentials_load(&b->bomb, "fab.example", false);
    mbedtls_x509_crt_free(&b->bomb.chain);
    mbedtls_x509_crt_init(&b->bomb.chain);
    snprintf(path, sizeof path, "%s/bomb.pem", dir);
    must(mbedtls_x509_crt_parse_file(&b->bomb.chain, path), path);
    mbedtls_ssl_conf_authmode(&b->bomb.conf, MBEDTLS_SSL_VERIFY_NONE);
}

/* The edge's key once more, with the curve that it prefers. */
static void
load_key(struct credentials *c, const char *key)
{
    credentials_load(c, key, true);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static const uint16_t groups[] = { MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, 0 };
    mbedtls_ssl_conf_groups(&c->conf, groups);
#else
    static const mbedtls_ecp_group_id groups[] = { MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_NONE };
    mbedtls_ssl_conf_curves(&c->conf, groups);
#endif
}

/* All rows of one edge. */
static void
flood_rows(struct bench *b, struct flooded *on)
{
    static const size_t floods[] = { 8, 32, 128 };
    char name[64];
    int yes = 1;
    size_t i;
    snprintf(name, sizeof name, "flood-%s-%d", on->key, on->threads);
    edge_start_as(b->program, name);
    on->gateway = gateway_connect(&b->gateway);
    if (setsockopt(on->gateway->fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes) != 0)
        die("no times of arrival: %s", strerror(errno));
    on->partner = partner_connect(&b->partner);
    flood_hello(&the_flood, &b->partner);
    flood_answer(&the_flood);
    flood_row(b, on, 0, false);
    for (i = 0; i < 2 * sizeof floods / sizeof floods[0]; i++)
        flood_row(b, on, floods[i / 2], i % 2 == 1);
    close(on->partner->fd);
    close(on->gateway->fd);
    end_free(on->partner);
    end_free(on->gateway);
    edge_stop();
}

static void
bench_flood(struct bench *b)
{
    static const char *const keys[] = { "p256", "rsa2048", "rsa4096" };
    size_t i;
    suites[0] = 0;   /* each key has its own */
    load_credentials(b);
    load_bomb(b);
    the_flood.answers = mmap(NULL, sizeof *the_flood.answers, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("mbed TLS %s; the flood and both ends share the processors with the edge\n",
        MBEDTLS_VERSION_STRING);
    printf("%-8s %7s %6s %5s %8s %8s %8s %8s %8s %10s %7s %12s\n", "key", "threads", "flood",
        "bomb", "p50 ms", "p99 ms", "max ms", "step ms", "longest", "answers/s", "cpu ms",
        "reconnect ms");
    for (i = 0; i < 2 * sizeof keys / sizeof keys[0]; i++) {
        struct flooded on = { .key = keys[i / 2], .threads = i % 2 == 0 ? 2 : 0 };
        if (b->key != NULL && strcmp(b->key, on.key) != 0)
            continue;
        load_key(&on.server, on.key);
        flood_rows(b, &on);
    }
    for (i = 0; i < sizeof aims / sizeof aims[0]; i++)
        printf("%s: in %u of %u rows, at worst %.1f%s\n", aims[i].text, aims[i].held,
            aims[i].rows, aims[i].worst, aims[i].unit);
}

static bool
wanted(int argc, char **argv, int first, const char *what)
{
    int i;
    for (i = first; i < argc; i++)
        if (strcmp(argv[i], what) == 0)
            return true;
    return first >= argc;
}

int
main(int argc, char **argv)
{
    static struct bench b = { .count = 300000, .seconds = 4 };
    char path[512];
    int i = 3;
    if (argc < 3)
        die("usage: bench_edge EDGE DIR [-n stanzas] [-c ciphersuite] [what ...]");
    b.program = argv[1];
    dir = argv[2];
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (argv[i][1] == 'n')
            b.count = strtoull(argv[i + 1], NULL, 10);
        else if (argv[i][1] == 's')
            b.size = strtoul(argv[i + 1], NULL, 10);
        else if (argv[i][1] == 'm')
            b.mode = argv[i + 1];
        else if (argv[i][1] == 't')
            b.seconds = atof(argv[i + 1]);
        else if (argv[i][1] == 'k')
            b.key = argv[i + 1];
        else
            suites[0] = mbedtls_ssl_get_ciphersuite_id(argv[i + 1]);
    }
    signal(SIGPIPE, SIG_IGN);
    atexit(edge_stop);
    atexit(flood_stop);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    psa_crypto_init();
#endif
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&rng);
    must(mbedtls_ctr_drbg_seed(&rng, mbedtls_entropy_func, &entropy, NULL, 0), "random numbers");
    mbedtls_x509_crt_init(&authorities);
    snprintf(path, sizeof path, "%s/public.pem", dir);
    must(mbedtls_x509_crt_parse_file(&authorities, path), path);
    snprintf(path, sizeof path, "%s/internal.pem", dir);
    must(mbedtls_x509_crt_parse_file(&authorities, path), path);
    load_credentials(&b);
    if (suites[0] == 0) {
        agree_on_suite(&b);
        load_credentials(&b);
    }
    if (wanted(argc, argv, i, "xml")) {
        bench_xml(300);
        bench_xml(1000);
    }
    if (wanted(argc, argv, i, "in") || wanted(argc, argv, i, "out")
        || wanted(argc, argv, i, "relays")) {
        b.bare = bare_open(&b.partner, &b.partner_server);
        printf("%-8s %-6s %5s %10s %10s %7s %8s %9s %6s  %s\n", "", "mode", "bytes", "edge us",
            "alone us",
            "ratio", "record", "stanzas/s", "busy", "ciphersuite");
    }
    if (wanted(argc, argv, i, "in"))
        bench_direction(&b, true);
    if (wanted(argc, argv, i, "out"))
        bench_direction(&b, false);
    if (wanted(argc, argv, i, "relays")) {
        bench_relay(&b, "haproxy", "-f", "haproxy.cfg");
        bench_relay(&b, "stunnel", "", "stunnel.conf");
    }
    if (wanted(argc, argv, i, "calls")) {
        bench_calls(&b, true);
        bench_calls(&b, false);
    }
    if (wanted(argc, argv, i, "mem"))
        bench_memory(&b);
    if (wanted(argc, argv, i, "flood"))
        bench_flood(&b);
    return 0;
}
