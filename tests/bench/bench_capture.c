/* bench_capture.c -- makes a capture of much federation, and measures programs that read it
 *
 *   bench_capture [-flows N] [-bytes B] [-open K] [-seed S] [-tls DIR] [FILE]
 *   bench_capture -measure RESULT COMMAND [ARGUMENT ...]
 *
 *   FILE     a pcap (Ethernet, microseconds); standard output if absent
 *   N        connections in all (200,000)
 *   B        bytes of the file (1 GiB); what the beginnings of N connections leave is stanzas
 *   K        connections that are open at the same time (2,000)
 *   DIR      captures of TLS handshakes (tests/analyze/tls): they are played again
 *   RESULT   a line is added to this file: seconds of processor time, KiB of memory at most
 *
 * The same options give the same bytes.  An edge and its gateway federate with PARTNERS domains:
 *
 *   dead       SYN and RST, or SYNs without an answer
 *   verify     a dialback question on plain text
 *   dialback   plain text, then stanzas
 *   starttls   plain text, <proceed/>, a handshake of TLS 1.2 or 1.3 from DIR, then records
 *   direct     the handshake from the first byte; from the gateway, to port 23456, too
 *
 * A connection is a list of lines (who says what), and stanzas before the last few of them.  Each
 * turn a random one of the open connections says one line: segments of at most MSS bytes, sometimes
 * exchanged, an acknowledgement, sometimes the last segment again.  Partners, stanzas and records
 * are made once and repeated: what is measured is the reader.
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1      /* wait4: memory of one child */
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARTNERS      64            /* domains */
#define ITEMS         32            /* stanzas of a partner and a direction, that are repeated */
#define RECORDS       1024          /* the same of TLS */
#define LINES_MAX     64            /* of a talk */
#define TALKS_MAX     64            /* from captures */
#define MSS           1448
#define OPTIONS       12            /* bytes of TCP options: time stamps */
#define OUT_SIZE      (1 << 20)
#define CAPTURE_MAX   (1 << 20)     /* bytes of a file in DIR */
#define TURN_NS       1000000       /* between two turns, at most */
#define START_S       1800000000u   /* the handshakes of DIR were made then */
#define REPEAT_ONE_IN 200           /* lines after which a segment is sent again */
#define SWAP_ONE_IN   200           /* lines of which two segments are exchanged */

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct bytes {
    const unsigned char *at;
    size_t               len;
};

/* Who says what.  Everything is made once and stays. */
struct talk {
    struct { struct bytes text; int side; } line[LINES_MAX];
    unsigned lines;
    unsigned tail;                  /* lines that come after the stanzas */
    bool     traffic;               /* there are stanzas */
};

struct partner {
    unsigned char address[16], own[16];   /* own: the edge's address of the same family */
    bool          six;
    struct talk   dialback[2], verify[2], starttls[2];   /* 0: the partner opens it */
    struct bytes  stanza[2][ITEMS];       /* 0: from the partner */
};

struct conversation {
    unsigned char        address[2][16];  /* 0: who opens it */
    bool                 six;
    uint16_t             port[2];
    uint32_t             seq[2];
    uint16_t             id[2];
    const struct talk   *first, *second;  /* second: may be NULL */
    const struct bytes  *item[2];         /* what each side says as traffic */
    unsigned             items;
    unsigned             at;              /* step */
    uint64_t             left;            /* bytes of traffic still to be said */
    struct bytes         last;            /* segment that may be sent again */
    uint32_t             last_seq;
    int                  last_side;
    enum { TALKS, REFUSED, SILENT } kind;
};

static unsigned char  out[OUT_SIZE];
static size_t         out_len;
static int            out_fd = 1;
static uint64_t       written;
static uint64_t       now_ns;
static uint64_t       state = 1;
static struct partner partners[PARTNERS];
static struct talk    tls[TALKS_MAX];
static unsigned       tls_count;
static struct bytes   records[RECORDS];
static struct conversation *open_ones;
static uint64_t       started;

static void
die(const char *what)
{
    fprintf(stderr, "bench_capture: %s%s%s\n", what, errno != 0 ? ": " : "",
        errno != 0 ? strerror(errno) : "");
    exit(2);
}

static void *
memory(size_t n)
{
    void *p = calloc(1, n);
    if (p == NULL)
        die("memory");
    return p;
}

/* xorshift64*; reproducible, that is all. */
static uint64_t
chance(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

static uint32_t
below(uint32_t n)
{
    return (uint32_t)((chance() >> 32) * n >> 32);
}

/* ---- the file ---- */

static void
out_flush(void)
{
    for (size_t at = 0; at < out_len; ) {
        ssize_t n = write(out_fd, out + at, out_len - at);
        if (n < 0 && errno != EINTR)
            die("write");
        at += n < 0 ? 0 : (size_t)n;
    }
    out_len = 0;
}

static unsigned char *
out_room(size_t n)
{
    if (out_len + n > OUT_SIZE)
        out_flush();
    unsigned char *at = out + out_len;
    out_len += n;
    written += n;
    return at;
}

static void
put16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)(v >> 8);
    p[1] = (unsigned char)v;
}

static void
put32(unsigned char *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xFFFF);
}

/* Fields of the file itself, in the order of this machine. */
static void
out_header(void)
{
    static const uint32_t words[6] = { 0xA1B2C3D4, 0, 0, 0, 65535, 1 };
    static const uint16_t version[2] = { 2, 4 };
    unsigned char *p = out_room(sizeof words);
    memcpy(p, words, sizeof words);
    memcpy(p + 4, version, sizeof version);
}

/* ---- segments ---- */

/* RFC 1071, four bytes at a time. */
static uint64_t
sum(const unsigned char *p, size_t n)
{
    uint64_t s = 0;
    for (; n >= 4; p += 4, n -= 4) {
        uint32_t x;
        memcpy(&x, p, 4);
        s += x;
    }
    unsigned char rest[4] = { 0, 0, 0, 0 };
    uint32_t x;
    memcpy(rest, p, n);
    memcpy(&x, rest, 4);
    return s + x;
}

static void
put_checksum(unsigned char *at, uint64_t s)
{
    while (s > 0xFFFF)
        s = (s & 0xFFFF) + (s >> 16);
    uint16_t v = (uint16_t)~s;
    memcpy(at, &v, 2);
}

/* Writes the IP header at p and returns the sum of what TCP wants of it. */
static uint64_t
put_ip(unsigned char *p, struct conversation *c, int side, size_t len)
{
    unsigned char rest[4] = { 0, 6, (unsigned char)(len >> 8), (unsigned char)len };
    size_t size = c->six ? 16 : 4;
    if (c->six) {
        put32(p, 0x60000000);
        put16(p + 4, (unsigned)len);
        p[6] = 6;
        p[7] = 60;
        memcpy(p + 8, c->address[side], 16);
        memcpy(p + 24, c->address[1 - side], 16);
    } else {
        put16(p, 0x4500);
        put16(p + 2, (unsigned)(20 + len));
        put16(p + 4, c->id[side] = (uint16_t)(c->id[side] == 0xFFFF ? 1 : c->id[side] + 1));
        put32(p + 6, 0x40003C06);
        put16(p + 10, 0);
        memcpy(p + 12, c->address[side], 4);
        memcpy(p + 16, c->address[1 - side], 4);
        put_checksum(p + 10, sum(p, 20));
    }
    return sum(c->address[side], size) + sum(c->address[1 - side], size) + sum(rest, 4);
}

static void
send_segment(struct conversation *c, int side, unsigned flags, uint32_t seq, struct bytes text)
{
    size_t ip = c->six ? 40 : 20;
    size_t header = 20 + OPTIONS;
    size_t all = 14 + ip + header + text.len;
    unsigned char *p = out_room(16 + all);
    uint32_t times[4] = { (uint32_t)(START_S + now_ns / 1000000000),
        (uint32_t)(now_ns % 1000000000 / 1000), (uint32_t)all, (uint32_t)all };
    memcpy(p, times, 16);
    memcpy(p + 16, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
    put16(p + 28, c->six ? 0x86DD : 0x0800);
    uint64_t s = put_ip(p + 30, c, side, header + text.len);
    unsigned char *t = p + 30 + ip;
    put16(t, c->port[side]);
    put16(t + 2, c->port[1 - side]);
    put32(t + 4, seq);
    put32(t + 8, (flags & ACK) != 0 ? c->seq[1 - side] : 0);
    put16(t + 12, (unsigned)(header / 4) << 12 | flags);
    put16(t + 14, 502);
    put32(t + 16, 0);
    put32(t + 20, 0x0101080A);
    put32(t + 24, (uint32_t)(now_ns / 1000000) + (uint32_t)side * 77777);
    put32(t + 28, (uint32_t)(now_ns / 1000000) + (uint32_t)(1 - side) * 77777);
    if (text.len > 0)
        memcpy(t + header, text.at, text.len);
    put_checksum(t + 16, s + sum(t, header + text.len));
    now_ns += 10000;
}

static void
send_flags(struct conversation *c, int side, unsigned flags)
{
    send_segment(c, side, flags, c->seq[side], (struct bytes){ NULL, 0 });
    c->seq[side] += (flags & (SYN | FIN)) != 0 ? 1 : 0;
}

/* One line in segments. */
static void
send_text(struct conversation *c, int side, struct bytes text)
{
    struct bytes part[2];
    unsigned held = 0;
    uint32_t seq[2] = { 0, 0 };
    uint32_t next = c->seq[side];
    while (text.len > 0) {
        size_t n = text.len < MSS ? text.len : MSS;
        part[held] = (struct bytes){ text.at, n };
        seq[held++] = next;
        next += (uint32_t)n;
        text.at += n;
        text.len -= n;
        if (held < 2 && text.len > 0)
            continue;
        unsigned swap = held == 2 && below(SWAP_ONE_IN) == 0;
        for (unsigned i = 0; i < held; i++)
            send_segment(c, side, text.len == 0 ? PSH | ACK : ACK, seq[i ^ swap], part[i ^ swap]);
        c->last = part[held - 1];
        c->last_seq = seq[held - 1];
        c->last_side = side;
        held = 0;
    }
    c->seq[side] = next;
}

/* ---- talks ---- */

static struct bytes
keep(const char *text)
{
    size_t len = strlen(text);
    unsigned char *p = memory(len);
    memcpy(p, text, len);
    return (struct bytes){ p, len };
}

static void
say(struct talk *t, int side, struct bytes text)
{
    if (t->lines < LINES_MAX) {
        t->line[t->lines].text = text;
        t->line[t->lines++].side = side;
    }
}

static void
say_header(struct talk *t, int side, const char *from, const char *to, const char *features)
{
    char text[1024];
    snprintf(text, sizeof text, "<?xml version='1.0'?><stream:stream xmlns='jabber:server' "
        "xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' "
        "from='%s' to='%s' version='1.0' xml:lang='en'%s>%s", from, to,
        side == 1 ? " id='7f3c1a52-90bb-4d0e-9c61-2f60ab6c8d11'" : "", features);
    say(t, side, keep(text));
}

static void
say_format(struct talk *t, int side, const char *format, const char *from, const char *to)
{
    char text[1024];
    snprintf(text, sizeof text, format, from, to);
    say(t, side, keep(text));
}

#define KEY "f3c2a1d4e5b60718293a4b5c6d7e8f90f3c2a1d4e5b60718293a4b5c6d7e8f90"

static void
make_talks(struct partner *p, int way, const char *from, const char *to)
{
    static const char dialback[] = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'>"
        "<errors/></dialback></stream:features>";
    static const char starttls[] = "<stream:features><starttls "
        "xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
    struct talk *t = &p->dialback[way];
    say_header(t, 0, from, to, "");
    say_header(t, 1, to, from, dialback);
    say_format(t, 0, "<db:result from='%s' to='%s'>" KEY "</db:result>", from, to);
    say_format(t, 1, "<db:result from='%s' to='%s' type='valid'/>", to, from);
    say_format(t, 0, "</stream:stream>", "", "");
    say_format(t, 1, "</stream:stream>", "", "");
    t->tail = 2;
    t->traffic = true;
    t = &p->verify[way];
    say_header(t, 0, from, to, "");
    say_header(t, 1, to, from, dialback);
    say_format(t, 0, "<db:verify from='%s' to='%s' id='a81b'>" KEY "</db:verify>", from, to);
    say_format(t, 1, "<db:verify from='%s' to='%s' id='a81b' type='valid'/>", to, from);
    say_format(t, 0, "</stream:stream>", "", "");
    say_format(t, 1, "</stream:stream>", "", "");
    t = &p->starttls[way];
    say_header(t, 0, from, to, "");
    say_header(t, 1, to, from, starttls);
    say_format(t, 0, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "", "");
    say_format(t, 1, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "", "");
}

/* Stanzas of 200 to 1500 bytes, up to three in one line; some are not messages. */
static struct bytes
make_stanzas(const char *from, const char *to)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog and then sleeps ";
    char text[3 * 1600];
    size_t len = 0;
    for (uint32_t n = 1 + below(3); n > 0; n--) {
        uint32_t size = 200 + below(1301);
        size_t start = len;
        bool iq = below(4) == 0;
        len += (size_t)snprintf(text + len, sizeof text - len, iq
            ? "<iq from='juliet@%s/balcony' to='romeo@%s' type='get' id='%08x'>"
            "<query xmlns='jabber:iq:version'>"
            : "<message from='juliet@%s/balcony' to='romeo@%s' type='chat' id='%08x'>"
            "<active xmlns='http://jabber.org/protocol/chatstates'/><body>", from, to,
            (unsigned)chance());
        const char *end = iq ? "</query></iq>" : "</body></message>";
        while (len - start + strlen(end) < size) {
            text[len] = words[len % (sizeof words - 1)];
            len++;
        }
        len += (size_t)snprintf(text + len, sizeof text - len, "%s", end);
    }
    text[len] = '\0';
    return keep(text);
}

static void
make_partner(struct partner *p, unsigned n)
{
    char name[64];
    snprintf(name, sizeof name, "xmpp.partner%02u.example", n);
    p->six = n % 8 == 7;
    if (p->six) {
        memcpy(p->address, "\x20\x01\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0", 15);
        memcpy(p->own, "\x20\x01\x0d\xb8\0\2\0\0\0\0\0\0\0\0\0\1", 16);
        p->address[15] = (unsigned char)(n + 1);
    } else {
        memcpy(p->address, "\xC6\x33\x64", 3);      /* 198.51.100.0/24 */
        p->address[3] = (unsigned char)(n + 1);
        memcpy(p->own, "\xC0\0\2\x0A", 4);          /* 192.0.2.10 */
    }
    make_talks(p, 0, name, "corp.example");
    make_talks(p, 1, "corp.example", name);
    for (int i = 0; i < ITEMS; i++) {
        p->stanza[0][i] = make_stanzas(name, "corp.example");
        p->stanza[1][i] = make_stanzas("corp.example", name);
    }
}

/* Application records of 200 to 1500 bytes, up to three in one line. */
static struct bytes
make_records(void)
{
    uint32_t size[3];
    uint32_t n = 1 + below(3);
    size_t all = 0;
    for (uint32_t i = 0; i < n; i++)
        all += size[i] = 200 + below(1301);
    unsigned char *p = memory(all);
    struct bytes b = { p, all };
    for (uint32_t i = 0; i < n; i++) {
        memcpy(p, "\x17\3\3", 3);
        put16(p + 3, size[i] - 5);
        for (uint32_t k = 5; k < size[i]; k++)
            p[k] = (unsigned char)chance();
        p += size[i];
    }
    return b;
}

/* ---- handshakes from captures ---- */

static uint32_t
little32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Ethernet, IPv4, TCP without loss, as make.py writes it; each SYN begins a talk. */
static void
read_frame(const unsigned char *p, size_t len, bool good)
{
    if (len < 54)
        die("a capture of handshakes has a short frame");
    const unsigned char *t = p + 14 + (size_t)(p[14] & 15) * 4;
    size_t all = 14 + ((size_t)p[16] << 8 | p[17]);
    const unsigned char *text = t + (size_t)(t[12] >> 4) * 4;
    int side = (t[0] << 8 | t[1]) == 5270;
    if ((t[13] & (SYN | ACK)) == SYN) {
        if (tls_count == TALKS_MAX)
            die("too many handshakes");
        tls[tls_count].traffic = good;
        tls[tls_count++].tail = good ? 2 : 0;
    }
    size_t n = all <= len && text < p + all ? (size_t)(p + all - text) : 0;
    if (n > 0 && tls_count > 0) {
        unsigned char *copy = memory(n);
        memcpy(copy, text, n);
        say(&tls[tls_count - 1], side, (struct bytes){ copy, n });
    }
}

static void
read_capture(const char *folder, const char *name, bool good)
{
    static unsigned char file[CAPTURE_MAX];
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.pcap", folder, name);
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        die(path);
    size_t len = fread(file, 1, sizeof file, in);
    fclose(in);
    for (size_t at = 24; at + 16 <= len; ) {
        size_t n = little32(file + at + 8);
        at += 16;
        if (n > len - at)
            break;
        read_frame(file + at, n, good);
        at += n;
    }
}

/* Those of TLS 1.2 come first; `good` of each come before the refused ones. */
static struct { unsigned from, good, all; } versions[2];

static void
read_captures(const char *folder)
{
    static const char *const names[2][2][8] = {
        { { "12-gcm128-mutual", "12-gcm256-notasked", "12-ccm8-mutual", "12-chacha-empty",
            "12-cbc-mutual", "12-resume-ticket", NULL }, { "12-required-missing", NULL } },
        { { "13-gcm128-mutual", "13-gcm256-ec-mutual", "13-ccm8-notasked", "13-chacha-empty",
            "13-ed25519-mutual", "13-resume", NULL }, { "13-server-untrusted", NULL } } };
    for (int v = 0; v < 2; v++) {
        versions[v].from = tls_count;
        for (int bad = 0; bad < 2; bad++) {
            for (int i = 0; names[v][bad][i] != NULL; i++)
                read_capture(folder, names[v][bad][i], bad == 0);
            *(bad == 0 ? &versions[v].good : &versions[v].all) = tls_count - versions[v].from;
        }
    }
}

/* ---- conversations ---- */

static uint64_t
talk_size(const struct talk *t)
{
    uint64_t n = 0;
    for (unsigned i = 0; t != NULL && i < t->lines; i++)
        n += t->line[i].text.len + (16 + 14 + 20 + 20 + OPTIONS) * 3 / 2;
    return n;
}

static const struct talk *
pick_handshake(int version)
{
    unsigned k = below(30) == 0 ? below(versions[version].all) : below(versions[version].good);
    return &tls[versions[version].from + k];
}

static void
pick_ends(struct conversation *c, const struct partner *p, int way, bool inner)
{
    c->six = p->six && !inner;
    if (inner) {                                     /* the gateway calls the edge */
        memcpy(c->address[0], "\x0A\0\1\x14", 4);
        memcpy(c->address[1], "\x0A\0\0\x0A", 4);
    } else {
        memcpy(c->address[way], p->address, 16);
        memcpy(c->address[1 - way], p->own, 16);
    }
    c->port[0] = (uint16_t)(10000 + started % 50000);
    c->port[1] = inner ? 23456 : 5269;
    for (int i = 0; i < 2; i++) {
        c->seq[i] = (uint32_t)chance();
        c->id[i] = (uint16_t)(1 + below(60000));
    }
}

/* What a new connection is about. */
static void
pick_talk(struct conversation *c, const struct partner *p, int way, uint32_t dice)
{
    c->item[0] = c->item[1] = records;
    c->items = RECORDS;
    if (dice < 5) {
        c->kind = dice < 3 ? REFUSED : SILENT;
    } else if (dice < 15) {
        c->first = &p->verify[way];
    } else if (dice < 40) {
        c->first = &p->dialback[way];
        c->item[0] = p->stanza[way];
        c->item[1] = p->stanza[1 - way];
        c->items = ITEMS;
    } else if (dice < 85) {
        c->first = &p->starttls[way];
        c->second = pick_handshake(dice < 62);
    } else {
        c->first = pick_handshake(dice < 92);
        c->port[1] = c->port[1] == 5269 ? 5270 : c->port[1];
    }
}

/* Most connections say little and some say much; `share` is the mean of all bytes of one. */
static void
start(struct conversation *c, double share)
{
    uint32_t dice = below(100);
    bool inner = dice >= 96;
    int way = (int)below(2);
    const struct partner *p = &partners[below(PARTNERS)];
    memset(c, 0, sizeof *c);
    pick_ends(c, p, way, inner);
    pick_talk(c, p, way, dice);
    started++;
    const struct talk *t = c->second != NULL ? c->second : c->first;
    if (c->kind != TALKS || !t->traffic)
        return;
    double mean = (share - (double)talk_size(c->first) - (double)talk_size(c->second)) * 1.2;
    double want = below(5) == 0 ? mean * 4 : mean / 4;
    c->left = want > 0 ? (uint64_t)want : 0;
}

static bool
dead_step(struct conversation *c)
{
    uint32_t seq = c->seq[0];
    send_flags(c, 0, SYN);
    if (c->kind == REFUSED) {
        send_flags(c, 1, RST | ACK);
        return false;
    }
    c->seq[0] = seq;
    return ++c->at < 5;
}

/* The next line of the two talks; false: there is none. */
static bool
talk_line(const struct conversation *c, unsigned n, struct bytes *text, int *side, bool *tail)
{
    const struct talk *t = c->first;
    if (n >= t->lines && c->second != NULL) {
        n -= t->lines;
        t = c->second;
    }
    *tail = t->traffic && n + t->tail == t->lines;
    if (n >= t->lines)
        return false;
    *text = t->line[n].text;
    *side = t->line[n].side;
    return true;
}

static void
repeat_sometimes(struct conversation *c)
{
    if (c->last.len > 0 && below(REPEAT_ONE_IN) == 0)
        send_segment(c, c->last_side, PSH | ACK, c->last_seq, c->last);
}

static void
talk_step(struct conversation *c)
{
    struct bytes text = { NULL, 0 };
    int side = 0;
    bool tail = false;
    talk_line(c, c->at - 3, &text, &side, &tail);
    repeat_sometimes(c);
    if (tail && c->left > 0) {
        side = (int)below(2);
        text = c->item[side][below(c->items)];
        uint64_t wire = text.len + 150;
        c->left -= wire < c->left ? wire : c->left;
    } else {
        c->at++;
    }
    send_text(c, side, text);
    if (text.len > MSS || below(2) == 0)
        send_flags(c, 1 - side, ACK);
}

/* One turn of a connection; false: it is over. */
static bool
step(struct conversation *c)
{
    struct bytes text;
    int side;
    bool tail;
    if (c->kind != TALKS)
        return dead_step(c);
    if (c->at == 0) {
        send_flags(c, 0, SYN);
        c->at++;
    } else if (c->at == 1) {
        send_flags(c, 1, SYN | ACK);
        c->at++;
    } else if (c->at == 2) {
        send_flags(c, 0, ACK);
        c->at++;
    } else if (talk_line(c, c->at - 3, &text, &side, &tail)) {
        talk_step(c);
    } else {
        send_flags(c, 0, FIN | ACK);
        send_flags(c, 1, FIN | ACK);
        send_flags(c, 0, ACK);
        return false;
    }
    return true;
}

/* What is still to be written for the open ones, about. */
static uint64_t
promised(uint32_t count)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        n += open_ones[i].left;
    return n;
}

static void
play(uint64_t flows, uint64_t bytes, uint32_t most)
{
    uint32_t count = 0;
    uint64_t ahead = 0;
    while (count > 0 || started < flows) {
        if (count < most && started < flows) {
            ahead = started % 256 == 0 ? promised(count) : ahead;
            uint64_t rest = bytes > written + ahead ? bytes - written - ahead : 0;
            start(&open_ones[count], (double)rest / (double)(flows - started));
            ahead += open_ones[count].left;
            count++;
            if (count < most && started < flows && started <= most)
                continue;
        }
        uint32_t i = below(count);
        now_ns += below(TURN_NS);
        if (!step(&open_ones[i]))
            open_ones[i] = open_ones[--count];
    }
}

/* ---- measuring ---- */

static double
seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static int
measure(const char *result, char **command)
{
    struct rusage used;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        execvp(command[0], command);
        die(command[0]);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child)
        die("a child");
    FILE *to = fopen(result, "a");
    if (to == NULL)
        die(result);
    fprintf(to, "%.3f %ld\n", seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
    fclose(to);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int
main(int argc, char **argv)
{
    uint64_t flows = 200000;
    uint64_t bytes = UINT64_C(1) << 30;
    uint32_t most = 2000;
    const char *folder = "tests/analyze/tls";
    int i = 1;
    if (argc > 3 && strcmp(argv[1], "-measure") == 0)
        return measure(argv[2], argv + 3);
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "-flows") == 0)
            flows = n;
        else if (strcmp(argv[i], "-bytes") == 0)
            bytes = n;
        else if (strcmp(argv[i], "-open") == 0)
            most = n > 0 && n < 1000000 ? (uint32_t)n : most;
        else if (strcmp(argv[i], "-seed") == 0)
            state = n != 0 ? n : 1;
        else if (strcmp(argv[i], "-tls") == 0)
            folder = argv[i + 1];
        else
            die("usage: bench_capture [-flows N] [-bytes B] [-open K] [-seed S] [-tls DIR] [FILE]");
    }
    if (i < argc && (out_fd = open(argv[i], O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0)
        die(argv[i]);
    open_ones = memory(most * sizeof *open_ones);
    read_captures(folder);
    for (unsigned n = 0; n < PARTNERS; n++)
        make_partner(&partners[n], n);
    for (unsigned n = 0; n < RECORDS; n++)
        records[n] = make_records();
    out_header();
    play(flows, bytes, most);
    out_flush();
    return 0;
}
