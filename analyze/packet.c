/* packet.c -- one frame becomes at most one TCP segment, UDP datagram or ICMP error
 *
 *      link layer table --> Ethernet, cooked, null, PPP, NFLOG, raw ...
 *          by type      --> VLAN tags, provider bridges, MPLS, NSH, MACsec, PPPoE, LLC/SNAP
 *          IPv4, IPv6   --> extension headers, fragments (kept until whole), GRE, ERSPAN, IP in IP
 *          TCP, UDP, ICMP
 *          by UDP port  --> VXLAN, Geneve, GTP-U, L2TP and other tunnels, from the top again
 *
 * A walk holds what is left of a frame: bytes that were captured and bytes that were on the wire.
 * Every layer first makes sure that its header is there, reads it and steps over it.  What makes no
 * sense is told in a remark and the frame is done with: nothing here stops an analysis.  What can
 * carry connections and cannot be read, because it is encrypted, is counted by its name.
 *
 * On the capturing machine itself the network card does part of the work later: a total length of
 * zero (segmentation offload), segments above 64 KB and checksums that are not there yet are
 * ordinary.  Checksums are verified until it is evident that they are left to the card.
 */
#include "packet.h"

#include <arpa/inet.h>

/* ---- ceilings ---- */

enum {
    PACKET_LAYERS_MAX      = 24,      /* headers above each other: endless labels and tunnels end */
    PACKET_EXTENSIONS_MAX  = 12,      /* IPv6 extension headers: RFC 8200 needs six */
    PACKET_FRAGMENTS_MAX   = 128,     /* datagrams that wait for fragments: 9 MB at worst */
    PACKET_DATAGRAM_MAX    = 65536,
    PACKET_FRAGMENT_BLOCKS = PACKET_DATAGRAM_MAX / 8,
    PACKET_CHECKSUMS_WRONG = 64,      /* so many wrong ones: offload, no need to look at more */
    PACKET_UNREAD_MAX      = 32       /* names in this file of what is not read, and some more */
};

#define PACKET_FRAGMENT_WAIT_NS (30 * SECOND)   /* RFC 8200 4.5 says 60 s, Linux 30 s */
#define PACKET_FRAGMENT_DONE_NS (SECOND / 20)   /* repeated frames of a datagram come soon */

/* LINKTYPE_* that are named twice, and the port that is no tunnel's. */
enum { LINK_ETHERNET = 1, LINK_WLAN = 105, PORT_DNS = 53 };

/* ---- structs ---- */

enum datagram_state { DATAGRAM_FREE, DATAGRAM_OPEN, DATAGRAM_DONE };

/* An IP datagram that arrives in pieces. */
struct datagram {
    enum datagram_state state;
    struct address      source, target;
    uint32_t            id;
    uint8_t             protocol;      /* IPv6: of the first fragment */
    bool                unfit;         /* a piece was cut by the snaplen: never whole */
    bool                walked;        /* a walk is inside of it */
    int64_t             time_ns;       /* of the first piece; DONE: of the last */
    uint64_t            frame;         /* number of the first piece */
    unsigned char      *bytes;         /* owned */
    size_t              cap;
    size_t              total;         /* 0: the last piece is not there yet */
    size_t              blocks_have;   /* of eight bytes */
    unsigned char       blocks[PACKET_FRAGMENT_BLOCKS / 8];   /* one bit each */
};

struct packet_reader {
    const struct packet_events *ev;    /* borrowed */
    void                       *user;
    unsigned                    checksums_wrong;
    struct datagram            *datagrams;   /* owned, PACKET_FRAGMENTS_MAX; NULL until needed */
    struct packet_unread        unread[PACKET_UNREAD_MAX];
    size_t                      unread_count;
};

/* What is left of one frame, and what is known so far. */
struct walk {
    struct packet_reader *r;
    struct packet         p;
    const unsigned char  *at;
    size_t                captured;    /* bytes from `at` on */
    size_t                length;      /* the same on the wire; >= captured */
    unsigned              layers;
    bool                  header_bad;  /* the checksum of the IPv4 header is wrong */
    bool                  pieced;      /* it has been inside of a datagram of fragments */
};

/* ---- bytes ---- */

static uint16_t
get_u16(const unsigned char *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t
get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void
packet_tell(const struct walk *w, enum remark r, const char *what)
{
    if (w->r->ev->remark != NULL)
        w->r->ev->remark(w->r->user, r, w->p.frame->number, what);
}

/* The header of `n` bytes is there; if not, that is told. */
static bool
walk_has(const struct walk *w, size_t n, const char *what)
{
    if (w->captured >= n)
        return true;
    packet_tell(w, w->length >= n ? REMARK_SNAPLEN : REMARK_PACKET_BAD, what);
    return false;
}

/* Steps over n bytes that are there. */
static void
walk_skip(struct walk *w, size_t n)
{
    w->at += n;
    w->captured -= n;
    w->length -= n;
}

/* Nothing counts after n bytes: padding of the link layer. */
static void
walk_trim(struct walk *w, size_t n)
{
    if (n < w->length) {
        w->length = n;
        w->captured = w->captured < n ? w->captured : n;
    }
}

/* One more header; false when there are too many. */
static bool
walk_deeper(struct walk *w)
{
    if (++w->layers <= PACKET_LAYERS_MAX)
        return true;
    packet_tell(w, REMARK_PACKET_BAD, "too many headers above each other");
    return false;
}

/* Something that may carry connections is here and cannot be read.  A name is static. */
static void
packet_unread(const struct walk *w, const char *what)
{
    struct packet_reader *r = w->r;
    size_t i = 0;
    while (i < r->unread_count && strcmp(r->unread[i].what, what) != 0)
        i++;
    if (i == PACKET_UNREAD_MAX)
        return;
    if (i == r->unread_count)
        r->unread[r->unread_count++] = (struct packet_unread){ what, 0, w->p.frame->number };
    r->unread[i].packets++;
}

/* ---- checksums ---- */

/* Sum of 16-bit words in the byte order of this machine: RFC 1071 says that the order does not
 * matter for the comparison, and wider words may be added as long as the carries come back in.
 * Two sums, for one would wait for its carry. */
static inline uint64_t
sum_bytes(const unsigned char *p, size_t n)
{
    uint64_t a = 0;
    uint64_t b = 0;
    for (; n >= 16; p += 16, n -= 16) {
        uint64_t x;
        uint64_t y;
        memcpy(&x, p, 8);
        memcpy(&y, p + 8, 8);
        a += x;
        a += a < x;                        /* the carry comes back in */
        b += y;
        b += b < y;
    }
    /* from here on nothing can carry any more */
    a = (a & 0xFFFFFFFF) + (a >> 32) + (b & 0xFFFFFFFF) + (b >> 32);
    for (; n >= 4; p += 4, n -= 4) {
        uint32_t x;
        memcpy(&x, p, 4);
        a += x;
    }
    if (n > 0) {
        unsigned char last[4] = { p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0 };
        uint32_t x;
        memcpy(&x, last, 4);
        a += x;
    }
    return a;
}

uint32_t
packet_sum(const unsigned char *at, size_t len)
{
    uint64_t sum = sum_bytes(at, len);
    return (uint32_t)((sum & 0xFFFFFFFF) + (sum >> 32));
}

/* Right when everything with the checksum in it adds up to all ones. */
static bool
sum_right(uint64_t sum)
{
    while (sum > 0xFFFF)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return sum == 0xFFFF;
}

static uint64_t
sum_pseudo_header(const struct packet *p, size_t len, uint8_t protocol)
{
    unsigned char rest[8] = { (unsigned char)(len >> 24), (unsigned char)(len >> 16),
        (unsigned char)(len >> 8), (unsigned char)len, 0, 0, 0, protocol };
    uint32_t words[4];
    memcpy(&words[0], p->source.bytes, 4);
    memcpy(&words[1], p->target.bytes, 4);
    memcpy(&words[2], rest, 8);
    uint64_t sum = (uint64_t)words[0] + words[1] + words[2] + words[3];
    if (p->source.family != 4)
        sum += sum_bytes(p->source.bytes + 4, 12) + sum_bytes(p->target.bytes + 4, 12);
    return sum;
}

/* Verifies the checksum of a TCP segment that is there as a whole.  Its content is added up once,
 * for the next stage, too, which asks whether a segment that comes again is the same. */
static void
packet_verify(struct walk *w, size_t header)
{
    bool wrong = w->header_bad;
    bool whole = w->captured == w->length;
    if (whole)
        w->p.sum = packet_sum(w->at + header, w->length - header);
    if (w->r->checksums_wrong >= PACKET_CHECKSUMS_WRONG)
        return;
    if (!wrong && whole) {
        wrong = !sum_right(sum_pseudo_header(&w->p, w->length, 6) + sum_bytes(w->at, header)
            + w->p.sum);
    }
    if (wrong) {
        w->r->checksums_wrong++;
        packet_tell(w, REMARK_CHECKSUM, w->header_bad ? "the checksum of an IPv4 header is wrong"
            : "the checksum of a TCP segment is wrong");
    }
}

/* Layers contain each other in circles (a tunnel in IP carries Ethernet): the one place where
 * something is used above its definition.  walk_deeper() counts each turn. */
static void packet_ethernet(struct walk *w);
static void packet_type(struct walk *w, unsigned type);
static void packet_mpls(struct walk *w);
static void packet_pppoe(struct walk *w);
static void packet_ip(struct walk *w);
static void packet_ppp(struct walk *w);
static void packet_protocol(struct walk *w, uint8_t protocol);
static bool packet_tunnel(struct walk *w);
static void link_any(struct walk *w, int link);

/* ---- TCP and UDP ---- */

static void
packet_send(struct walk *w, enum packet_kind kind)
{
    w->p.kind = kind;
    if (w->r->ev->packet != NULL)
        w->r->ev->packet(w->r->user, &w->p);
}

static void
packet_payload(struct walk *w)
{
    w->p.payload = w->at;
    w->p.captured = w->captured;
    w->p.length = w->length;
    if (w->captured < w->length)
        packet_tell(w, REMARK_SNAPLEN, "the end of a packet was not captured");
}

static void
packet_tcp(struct walk *w)
{
    if (!walk_has(w, 20, "a TCP header is cut"))
        return;
    const unsigned char *h = w->at;
    size_t header = (size_t)(h[12] >> 4) * 4;
    if (header < 20 || header > w->length) {
        packet_tell(w, REMARK_PACKET_BAD, "a TCP header with an impossible length");
        return;
    }
    packet_verify(w, header);
    w->p.source_port = get_u16(h);
    w->p.target_port = get_u16(h + 2);
    w->p.seq = get_u32(h + 4);
    w->p.ack = get_u32(h + 8);
    w->p.flags = h[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK);
    if (header > w->captured) {            /* the snaplen ends in the options */
        w->length -= header;
        w->at += w->captured;
        w->captured = 0;
    } else {
        walk_skip(w, header);
    }
    packet_payload(w);
    packet_send(w, PACKET_TCP);
}

static void
packet_udp(struct walk *w)
{
    if (!walk_has(w, 8, "a UDP header is cut"))
        return;
    const unsigned char *h = w->at;
    size_t len = get_u16(h + 4);
    if (len != 0 && len < 8) {
        packet_tell(w, REMARK_PACKET_BAD, "a UDP length of less than its header");
        return;
    }
    w->p.source_port = get_u16(h);
    w->p.target_port = get_u16(h + 2);
    if (len != 0)                          /* 0: segmentation offload, or a jumbogram */
        walk_trim(w, len);
    walk_skip(w, 8);
    if (packet_tunnel(w))
        return;
    w->p.payload = w->at;
    w->p.captured = w->captured;
    w->p.length = w->length;
    packet_send(w, PACKET_UDP);
}

/* ---- ICMP ---- */

/* RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1 */
static enum icmp_error
icmp_meaning(unsigned type, unsigned code)
{
    if (type == 11)
        return ICMP_TTL;
    if (type != 3)
        return ICMP_NONE;
    switch (code) {
    case 0: case 6: case 11:
        return ICMP_NET;
    case 2: case 3:
        return ICMP_PORT;
    case 4:
        return ICMP_TOO_BIG;
    case 9: case 10: case 13: case 14: case 15:
        return ICMP_PROHIBITED;
    default:
        return ICMP_HOST;
    }
}

/* RFC 4443 3 */
static enum icmp_error
icmp6_meaning(unsigned type, unsigned code)
{
    if (type == 2)
        return ICMP_TOO_BIG;
    if (type == 3)
        return ICMP_TTL;
    if (type != 1)
        return ICMP_NONE;
    switch (code) {
    case 0:
        return ICMP_NET;
    case 3:
        return ICMP_HOST;
    case 4:
        return ICMP_PORT;
    case 1: case 5: case 6:
        return ICMP_PROHIBITED;
    default:
        return ICMP_HOST;
    }
}

static void
address_set(struct address *a, const unsigned char *p, uint8_t family)
{
    memset(a->bytes, 0, sizeof a->bytes);
    memcpy(a->bytes, p, family == 4 ? 4 : 16);
    a->family = family;
}

/* The packet inside an ICMP error: addresses, then at least the first eight bytes of TCP.
 * False: it is about something else. */
static bool
icmp_inner(struct walk *w)
{
    const unsigned char *h = w->at;
    size_t skip;
    if (w->captured >= 28 && h[0] >> 4 == 4) {
        skip = (size_t)(h[0] & 15) * 4;
        if (skip < 20 || h[9] != 6 || (get_u16(h + 6) & 0x1FFF) != 0)
            return false;
        address_set(&w->p.source, h + 12, 4);
        address_set(&w->p.target, h + 16, 4);
    } else if (w->captured >= 48 && h[0] >> 4 == 6 && h[6] == 6) {
        skip = 40;
        address_set(&w->p.source, h + 8, 6);
        address_set(&w->p.target, h + 24, 6);
    } else {
        return false;
    }
    if (w->captured < skip + 8)
        return false;
    w->p.source_port = get_u16(h + skip);
    w->p.target_port = get_u16(h + skip + 2);
    w->p.seq = get_u32(h + skip + 4);
    return true;
}

static void
packet_icmp(struct walk *w, bool six)
{
    if (w->captured < 8)
        return;     /* not an error, or too little of it to tell */
    const unsigned char *h = w->at;
    w->p.icmp = six ? icmp6_meaning(h[0], h[1]) : icmp_meaning(h[0], h[1]);
    if (w->p.icmp == ICMP_NONE)
        return;
    w->p.reporter = w->p.source;
    w->p.ip_id = 0;
    walk_skip(w, 8);
    if (icmp_inner(w))
        packet_send(w, PACKET_ICMP_ERROR);
}

/* ---- fragments ---- */

bool
address_equal(const struct address *a, const struct address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static void
datagram_lost(struct packet_reader *r, struct datagram *d)
{
    if (d->state == DATAGRAM_OPEN && r->ev->remark != NULL) {
        r->ev->remark(r->user, REMARK_FRAGMENT_LOST, d->frame, d->unfit
            ? "an IP datagram cannot be put together: its fragments were cut"
            : "an IP datagram is not complete");
    }
    free(d->bytes);
    d->bytes = NULL;
    d->cap = 0;
    d->state = DATAGRAM_FREE;
}

/* The place of the datagram that this fragment belongs to; a new one pushes out the oldest.
 * NULL: no memory, or a repetition of a datagram that is done with. */
static struct datagram *
datagram_find(struct walk *w, uint32_t id, uint8_t protocol)
{
    struct packet_reader *r = w->r;
    int64_t now = w->p.frame->time_ns;
    if (r->datagrams == NULL) {
        r->datagrams = memory_try(calloc(PACKET_FRAGMENTS_MAX, sizeof *r->datagrams));
        if (r->datagrams == NULL)
            return NULL;
    }
    struct datagram *oldest = &r->datagrams[0];
    for (size_t i = 0; i < PACKET_FRAGMENTS_MAX; i++) {
        struct datagram *d = &r->datagrams[i];
        if (d->state != DATAGRAM_FREE && d->id == id && address_equal(&d->source, &w->p.source)
            && address_equal(&d->target, &w->p.target)
            && (d->source.family == 6 || d->protocol == protocol)) {
            int64_t wait = d->state == DATAGRAM_DONE ? PACKET_FRAGMENT_DONE_NS
                : PACKET_FRAGMENT_WAIT_NS;
            if (now - d->time_ns <= wait)
                return d->state == DATAGRAM_DONE ? NULL : d;
            oldest = d;      /* an identification that is used again */
            break;
        }
        if (!d->walked && (oldest->walked || (oldest->state != DATAGRAM_FREE
            && (d->state == DATAGRAM_FREE || d->time_ns < oldest->time_ns))))
            oldest = d;
    }
    datagram_lost(r, oldest);
    memset(oldest, 0, sizeof *oldest);
    oldest->state = DATAGRAM_OPEN;
    oldest->source = w->p.source;
    oldest->target = w->p.target;
    oldest->id = id;
    oldest->protocol = protocol;
    oldest->time_ns = now;
    oldest->frame = w->p.frame->number;
    return oldest;
}

static bool
datagram_room(struct datagram *d, size_t need)
{
    if (need <= d->cap)
        return true;
    size_t cap = d->cap == 0 ? 4096 : d->cap;
    while (cap < need)
        cap *= 2;
    unsigned char *bytes = memory_try(realloc(d->bytes, cap));
    if (bytes == NULL)
        return false;
    d->bytes = bytes;
    d->cap = cap;
    return true;
}

/* Lays a piece into its datagram.  Where pieces overlap, what came first stays. */
static void
datagram_lay(struct datagram *d, size_t offset, const unsigned char *at, size_t len)
{
    for (size_t done = 0; done < len; done += 8) {
        size_t block = (offset + done) / 8;
        unsigned char bit = (unsigned char)(1u << block % 8);
        if ((d->blocks[block / 8] & bit) == 0) {
            d->blocks[block / 8] |= bit;
            d->blocks_have++;
            memcpy(d->bytes + offset + done, at + done, len - done < 8 ? len - done : 8);
        }
    }
}

/* Takes the payload of a fragment; true: the datagram is whole, and the walk goes on with it. */
static bool
packet_fragment(struct walk *w, uint32_t id, uint8_t *protocol, size_t offset, bool more)
{
    size_t end = offset + w->length;
    if (w->length == 0 || end > PACKET_DATAGRAM_MAX - 8 || (more && w->length % 8 != 0)) {
        packet_tell(w, REMARK_PACKET_BAD, "an IP fragment with an impossible length");
        return false;
    }
    struct datagram *d = datagram_find(w, id, *protocol);
    if (d == NULL)
        return false;
    if (w->captured < w->length)
        d->unfit = true;
    if (d->unfit || !datagram_room(d, end + 8) || (d->total != 0 && end > d->total))
        return false;
    if (offset == 0)
        d->protocol = *protocol;
    datagram_lay(d, offset, w->at, w->length);
    if (!more && d->total == 0)
        d->total = end;
    w->p.piece = d->frame;
    if (d->total == 0 || d->blocks_have < (d->total + 7) / 8) {
        if (w->r->ev->piece != NULL)
            w->r->ev->piece(w->r->user, w->p.frame, d->frame);
        return false;
    }
    d->state = DATAGRAM_DONE;
    d->walked = w->pieced = true;
    d->time_ns = w->p.frame->time_ns;
    *protocol = d->protocol;
    w->at = d->bytes;
    w->captured = w->length = d->total;
    return true;
}

/* ---- IP ---- */

/* A header of `n` bytes, of which only the length matters here; false: it is cut. */
static bool
packet_step(struct walk *w, size_t n, const char *what)
{
    if (!walk_has(w, n, what))
        return false;
    walk_skip(w, n);
    return true;
}

/* What a switch mirrors, type II (version 1) or III: the frame, in type III also bare IP. */
static void
packet_erspan(struct walk *w, bool three)
{
    size_t header = three ? 12 : 8;
    if (!walk_has(w, header, "an ERSPAN header is cut"))
        return;
    bool ip = three && (w->at[10] >> 2 & 0x1F) == 2;
    if (three && (w->at[11] & 1) != 0)
        header += 8;                       /* its optional platform specific part */
    if (!packet_step(w, header, "an ERSPAN header is cut"))
        return;
    if (ip)
        packet_ip(w);
    else
        packet_ethernet(w);
}

/* RFC 2784 and 2890, RFC 2637 (version 1, PPTP).  Type I of ERSPAN has no header of its own, and
 * no sequence number tells it. */
static void
packet_gre(struct walk *w)
{
    if (!walk_has(w, 4, "a GRE header is cut"))
        return;
    unsigned flags = get_u16(w->at);
    unsigned type = get_u16(w->at + 2);
    bool numbered = (flags & 0x1000) != 0;
    size_t header = 4 + ((flags & 0x8000) != 0 ? 4u : 0) + ((flags & 0x2000) != 0 ? 4u : 0)
        + (numbered ? 4u : 0);
    if ((flags & 7) == 1 && (flags & 0x0080) != 0)
        header += 4;                       /* acknowledgement number */
    if (!packet_step(w, header, "a GRE header is cut"))
        return;
    if (type == 0x22EB || (type == 0x88BE && numbered))
        packet_erspan(w, type == 0x22EB);
    else if (type == 0x88BE)
        packet_ethernet(w);
    else if (type == 0x880B)
        packet_ppp(w);
    else
        packet_type(w, type);
}

/* RFC 4302: in IPv6 one of the extension headers. */
static void
packet_authenticated(struct walk *w)
{
    if (!walk_has(w, 12, "an AH header is cut") || !walk_deeper(w))
        return;
    uint8_t next = w->at[0];
    if (packet_step(w, ((size_t)w->at[1] + 2) * 4, "an AH header is cut"))
        packet_protocol(w, next);
}

/* What else carries packets; anything other is not what this program is about. */
static void
packet_unread_protocol(const struct walk *w, uint8_t protocol)
{
    if (protocol == 50)
        packet_unread(w, "IPsec (ESP)");
    else if (protocol == 108)
        packet_unread(w, "IP compression");
    else if (protocol == 115)
        packet_unread(w, "L2TP version 3");
}

static void
packet_protocol(struct walk *w, uint8_t protocol)
{
    switch (protocol) {
    case 6:
        packet_tcp(w);
        break;
    case 17:
        packet_udp(w);
        break;
    case 1:
        packet_icmp(w, false);
        break;
    case 58:
        packet_icmp(w, true);
        break;
    case 4: case 41: case 94:              /* IP in IP: RFC 2003, RFC 4213, an old one */
        if (walk_deeper(w))
            packet_ip(w);
        break;
    case 47:
        if (walk_deeper(w))
            packet_gre(w);
        break;
    case 51:
        packet_authenticated(w);
        break;
    case 97:                               /* RFC 3378 */
        if (packet_step(w, 2, "an EtherIP header is cut"))
            packet_ethernet(w);
        break;
    case 137:                              /* RFC 4023 */
        packet_mpls(w);
        break;
    case 143:                              /* RFC 8986 */
        packet_ethernet(w);
        break;
    default:
        packet_unread_protocol(w, protocol);
        break;
    }
}

static void
packet_ipv4(struct walk *w)
{
    if (!walk_has(w, 20, "an IPv4 header is cut"))
        return;
    const unsigned char *h = w->at;
    size_t header = (size_t)(h[0] & 15) * 4;
    size_t total = get_u16(h + 2);
    if (header < 20 || (total != 0 && total < header)) {
        packet_tell(w, REMARK_PACKET_BAD, "an IPv4 header with an impossible length");
        return;
    }
    if (!walk_has(w, header, "the options of an IPv4 header are cut"))
        return;
    if (total > w->length)
        packet_tell(w, REMARK_PACKET_BAD, "an IPv4 packet that is longer than its frame");
    else if (total != 0)                 /* 0: segmentation offload, all of the frame */
        walk_trim(w, total);
    w->header_bad = !sum_right(sum_bytes(h, header));
    address_set(&w->p.source, h + 12, 4);
    address_set(&w->p.target, h + 16, 4);
    w->p.ip_id = get_u16(h + 4);
    w->p.ttl = h[8];
    uint8_t protocol = h[9];
    unsigned fragment = get_u16(h + 6);
    walk_skip(w, header);
    if ((fragment & 0x3FFF) != 0
        && !packet_fragment(w, w->p.ip_id, &protocol, (size_t)(fragment & 0x1FFF) * 8,
            (fragment & 0x2000) != 0))
        return;
    packet_protocol(w, protocol);
}

/* Steps over one extension header; false: the packet ends here. */
static bool
packet_extension(struct walk *w, uint8_t *next)
{
    if (!walk_has(w, 8, "an IPv6 extension header is cut"))
        return false;
    const unsigned char *h = w->at;
    uint8_t kind = *next;
    *next = h[0];
    if (kind == 44) {                      /* fragment */
        unsigned offset = get_u16(h + 2);
        uint32_t id = get_u32(h + 4);
        walk_skip(w, 8);
        return (offset & 0xFFF9) == 0
            || packet_fragment(w, id, next, offset & 0xFFF8, (offset & 1) != 0);
    }
    size_t len = kind == 51 ? ((size_t)h[1] + 2) * 4 : ((size_t)h[1] + 1) * 8;
    return packet_step(w, len, "an IPv6 extension header is cut");
}

static bool
packet_is_extension(uint8_t next)
{
    return next == 0 || next == 43 || next == 44 || next == 51 || next == 60 || next == 135
        || next == 139 || next == 140;
}

static void
packet_ipv6(struct walk *w)
{
    if (!walk_has(w, 40, "an IPv6 header is cut"))
        return;
    const unsigned char *h = w->at;
    size_t payload = get_u16(h + 4);
    uint8_t next = h[6];
    address_set(&w->p.source, h + 8, 6);
    address_set(&w->p.target, h + 24, 6);
    w->p.ip_id = 0;
    w->p.ttl = h[7];
    w->header_bad = false;
    walk_skip(w, 40);
    if (payload > w->length)
        packet_tell(w, REMARK_PACKET_BAD, "an IPv6 packet that is longer than its frame");
    else if (payload != 0)               /* 0: a jumbogram or segmentation offload */
        walk_trim(w, payload);
    for (unsigned i = 0; packet_is_extension(next); i++) {
        if (i == PACKET_EXTENSIONS_MAX) {
            packet_tell(w, REMARK_PACKET_BAD, "too many IPv6 extension headers");
            return;
        }
        if (!packet_extension(w, &next))
            return;
    }
    packet_protocol(w, next);
}

/* What the first four bits say counts, not what the layer below says. */
static void
packet_ip(struct walk *w)
{
    if (!walk_has(w, 1, "an empty packet"))
        return;
    unsigned version = w->at[0] >> 4;
    if (version == 4)
        packet_ipv4(w);
    else if (version == 6)
        packet_ipv6(w);
    else
        packet_tell(w, REMARK_PACKET_BAD, "neither IPv4 nor IPv6 where IP should be");
}

/* ---- between link layer and IP ---- */

/* Steps over a tag of which the last two bytes are the next type. */
static bool
packet_tag(struct walk *w, size_t size, unsigned *type)
{
    if (!walk_has(w, size, "a VLAN tag is cut") || !walk_deeper(w))
        return false;
    *type = get_u16(w->at + size - 2);
    walk_skip(w, size);
    return true;
}

/* 802.2: only SNAP with an Ethernet type in it carries IP. */
static void
packet_llc(struct walk *w, size_t len)
{
    walk_trim(w, len);
    if (w->captured < 8 || w->at[0] != 0xAA || w->at[1] != 0xAA)
        return;
    unsigned type = get_u16(w->at + 6);
    walk_skip(w, 8);
    if (type > 1500)
        packet_type(w, type);
}

/* 802.1ah: the frame of a customer behind the tag of a service. */
static void
packet_provider(struct walk *w)
{
    if (packet_step(w, 4, "an 802.1ah tag is cut"))
        packet_ethernet(w);
}

/* The numbers that NSH and VXLAN-GPE have for what comes next (RFC 8300 2.2). */
static void
packet_next(struct walk *w, unsigned next)
{
    switch (next) {
    case 1: case 2:
        if (walk_deeper(w))
            packet_ip(w);
        break;
    case 3:
        packet_ethernet(w);
        break;
    case 4:
        packet_type(w, 0x894F);
        break;
    case 5:
        packet_mpls(w);
        break;
    default:
        break;
    }
}

/* RFC 8300 2: the header tells its length in words of four bytes. */
static void
packet_nsh(struct walk *w)
{
    if (!walk_has(w, 8, "an NSH header is cut") || !walk_deeper(w))
        return;
    size_t header = (size_t)(w->at[1] & 0x3F) * 4;
    unsigned next = w->at[3];
    if (header < 8)
        packet_tell(w, REMARK_PACKET_BAD, "an NSH header with an impossible length");
    else if (packet_step(w, header, "an NSH header is cut"))
        packet_next(w, next);
}

/* 802.1AE: what is only signed can be read. */
static bool
packet_secured(struct walk *w, unsigned *type)
{
    if (!walk_has(w, 6, "a MACsec tag is cut"))
        return false;
    if ((w->at[0] & 0x0C) == 0)
        return packet_tag(w, (w->at[0] & 0x20) != 0 ? 16 : 8, type);
    packet_unread(w, "MACsec");
    return false;
}

/* By Ethernet type. */
static void
packet_type(struct walk *w, unsigned type)
{
    for (;;) {
        switch (type) {
        case 0x0800: case 0x86DD:
            packet_ip(w);
            return;
        case 0x8100: case 0x88A8: case 0x9100: case 0x9200:     /* 802.1Q, 802.1ad, older ones */
            if (!packet_tag(w, 4, &type))
                return;
            break;
        case 0x893F:                                            /* 802.1BR */
            if (!packet_tag(w, 8, &type))
                return;
            break;
        case 0x8926:                                            /* VN-Tag */
            if (!packet_tag(w, 6, &type))
                return;
            break;
        case 0x8847: case 0x8848:
            packet_mpls(w);
            return;
        case 0x8864:
            packet_pppoe(w);
            return;
        case 0x6558:
            packet_ethernet(w);
            return;
        case 0x88E7:
            packet_provider(w);
            return;
        case 0x894F:
            packet_nsh(w);
            return;
        case 0x88E5:
            if (!packet_secured(w, &type))
                return;
            break;
        default:
            if (type <= 1500)
                packet_llc(w, type);
            return;
        }
    }
}

static void
packet_ethernet(struct walk *w)
{
    if (!walk_has(w, 14, "an Ethernet header is cut") || !walk_deeper(w))
        return;
    unsigned type = get_u16(w->at + 12);
    walk_skip(w, 14);
    packet_type(w, type);
}

/* RFC 3032: labels until the one with the bottom bit.  What comes then is not named; IP is told
 * by its first four bits, and a control word of zeros means Ethernet (RFC 4448), which other bits
 * mean, too. */
static void
packet_mpls(struct walk *w)
{
    bool bottom = false;
    while (!bottom) {
        if (!walk_has(w, 4, "an MPLS label is cut") || !walk_deeper(w))
            return;
        bottom = (w->at[2] & 1) != 0;
        walk_skip(w, 4);
    }
    unsigned first = w->captured > 0 ? w->at[0] >> 4 : 4;
    if (first == 4 || first == 6)
        packet_ip(w);
    else if (first != 0 || packet_step(w, 4, "a control word is cut"))
        packet_ethernet(w);
}

/* RFC 1661 2, RFC 1662 3: address and control may be left out, and half of the protocol. */
static void
packet_ppp(struct walk *w)
{
    if (w->captured >= 2 && w->at[0] == 0xFF && w->at[1] == 0x03)
        walk_skip(w, 2);
    if (!walk_has(w, 2, "a PPP header is cut"))
        return;
    bool one = (w->at[0] & 1) != 0;
    unsigned protocol = one ? w->at[0] : get_u16(w->at);
    walk_skip(w, one ? 1 : 2);
    if (protocol == 0x0021 || protocol == 0x0057)
        packet_ip(w);
    else if (protocol == 0x0281 || protocol == 0x0283)
        packet_mpls(w);
    else if (protocol == 0x00FD || protocol == 0x0053)
        packet_unread(w, "PPP that is compressed or encrypted");
}

/* RFC 2516 */
static void
packet_pppoe(struct walk *w)
{
    if (!walk_has(w, 6, "a PPPoE header is cut") || !walk_deeper(w))
        return;
    unsigned code = w->at[1];
    size_t len = get_u16(w->at + 4);
    walk_skip(w, 6);
    if (code == 0) {                       /* a session, not its discovery */
        walk_trim(w, len);
        packet_ppp(w);
    }
}

/* ---- tunnels in UDP ---- */

/* Each looks at the content of a datagram to its port.  False: it is something else, which is
 * handed on as it is. */

/* RFC 7348: "the network identifier is valid". */
static bool
tunnel_vxlan(struct walk *w)
{
    if (w->captured <= 8 + 14 || (w->at[0] & 0x78) != 0x08)
        return false;
    walk_skip(w, 8);
    packet_ethernet(w);
    return true;
}

/* draft-ietf-nvo3-vxlan-gpe-13 3: the same, and a bit that says what comes next. */
static bool
tunnel_vxlan_gpe(struct walk *w)
{
    if (w->captured <= 8 || (w->at[0] & 0x38) != 0x08)
        return false;
    unsigned next = (w->at[0] & 0x04) != 0 ? w->at[3] : 3;
    walk_skip(w, 8);
    packet_next(w, next);
    return true;
}

/* RFC 8926 3.4: version 0, options of up to 252 bytes. */
static bool
tunnel_geneve(struct walk *w)
{
    if (w->captured <= 8 || w->at[0] >> 6 != 0)
        return false;
    unsigned type = get_u16(w->at + 2);
    if (packet_step(w, 8 + (size_t)(w->at[0] & 0x3F) * 4, "a Geneve header is cut"))
        packet_type(w, type);
    return true;
}

/* 3GPP TS 29.281 5: version 1, a packet of a user; extension headers name their successor. */
static bool
tunnel_gtp(struct walk *w)
{
    static const char cut[] = "a GTP header is cut";
    if (w->captured <= 8 || (w->at[0] & 0xF0) != 0x30 || w->at[1] != 255)
        return false;
    unsigned flags = w->at[0] & 7;
    walk_trim(w, 8 + (size_t)get_u16(w->at + 2));
    if (!packet_step(w, flags == 0 ? 8 : 12, cut))
        return true;
    while ((flags & 4) != 0 && w->at[-1] != 0) {
        if (!walk_has(w, 4, cut) || !walk_deeper(w)
            || !packet_step(w, w->at[0] == 0 ? 4 : (size_t)w->at[0] * 4, cut))
            return true;
    }
    unsigned first = w->captured > 0 ? w->at[0] >> 4 : 0;
    if (first == 4 || first == 6)
        packet_ip(w);
    else
        packet_ethernet(w);
    return true;
}

/* RFC 8086 */
static bool
tunnel_gre(struct walk *w)
{
    if (w->captured <= 4 || (w->at[1] & 7) != 0)
        return false;
    packet_gre(w);
    return true;
}

/* RFC 7510 */
static bool
tunnel_mpls(struct walk *w)
{
    packet_mpls(w);
    return true;
}

/* RFC 2661 3.1: a data message, with PPP in it.  Version 3 says nowhere how long its header is. */
static bool
tunnel_l2tp(struct walk *w)
{
    if (w->captured < 8 || (w->at[0] & 0x80) != 0)
        return false;
    unsigned flags = get_u16(w->at);
    if ((flags & 15) == 3)
        packet_unread(w, "L2TP version 3");
    if ((flags & 15) != 2)
        return (flags & 15) == 3;
    size_t header = 6 + ((flags & 0x4000) != 0 ? 2u : 0) + ((flags & 0x0800) != 0 ? 4u : 0);
    bool offset = (flags & 0x0200) != 0;
    if (!packet_step(w, header, "an L2TP header is cut"))
        return true;
    if (!offset || (walk_has(w, 2, "an L2TP header is cut")
        && packet_step(w, 2 + (size_t)get_u16(w->at), "an L2TP header is cut")))
        packet_ppp(w);
    return true;
}

/* TaZmen Sniffer Protocol: what routers of MikroTik and access points mirror, after tags. */
static bool
tunnel_tzsp(struct walk *w)
{
    static const char cut[] = "a TZSP header is cut";
    if (w->captured <= 4 || w->at[0] != 1 || w->at[1] > 1)
        return false;
    unsigned type = get_u16(w->at + 2);
    walk_skip(w, 4);
    while (w->captured > 0 && w->at[0] != 1) {        /* 1: the last, 0: padding */
        size_t n = 1;
        if (w->at[0] != 0) {
            if (!walk_has(w, 2, cut))
                return true;
            n = 2 + (size_t)w->at[1];
        }
        if (!packet_step(w, n, cut))
            return true;
    }
    if (packet_step(w, 1, cut) && (type == 1 || type == 18))
        link_any(w, type == 1 ? LINK_ETHERNET : LINK_WLAN);
    return true;
}

/* RFC 4380 5.1.1: IPv6, and before it how its sender is known and where it came from. */
static bool
tunnel_teredo(struct walk *w)
{
    size_t at = 0;
    if (w->captured > 4 && get_u16(w->at) == 1)
        at = 13 + (size_t)w->at[2] + w->at[3];
    if (w->captured > at + 8 && get_u16(w->at + at) == 0)
        at += 8;
    if (w->captured < at + 40 || w->at[at] >> 4 != 6)
        return false;
    walk_skip(w, at);
    packet_ip(w);
    return true;
}

/* draft-ietf-intarea-gue-09 2.1, 4: a header with a protocol number, or bare IP. */
static bool
tunnel_gue(struct walk *w)
{
    unsigned version = w->captured > 4 ? w->at[0] >> 6 : 3;
    if (version > 1 || (version == 0 && (w->at[0] & 0x20) != 0))
        return false;
    uint8_t next = w->at[1];
    if (version == 1)
        packet_ip(w);
    else if (packet_step(w, 4 + (size_t)(w->at[0] & 0x1F) * 4, "a GUE header is cut"))
        packet_protocol(w, next);
    return true;
}

/* RFC 9300 5.1 */
static bool
tunnel_lisp(struct walk *w)
{
    if (w->captured <= 8)
        return false;
    walk_skip(w, 8);
    packet_ip(w);
    return true;
}

/* RFC 3948 2.2: four zeros are a negotiation, one byte keeps the port open. */
static bool
tunnel_esp(struct walk *w)
{
    if (w->captured > 8 && get_u32(w->at) != 0)
        packet_unread(w, "IPsec (ESP in UDP)");
    return false;
}

/* Its message of type 4 is data, and of a multiple of 16 bytes. */
static bool
tunnel_wireguard(struct walk *w)
{
    if (w->length > 32 && w->length % 16 == 0 && w->captured >= 4 && w->at[0] == 4)
        packet_unread(w, "WireGuard");
    return false;
}

/* Its operation codes 6 and 9 are data. */
static bool
tunnel_openvpn(struct walk *w)
{
    unsigned operation = w->captured > 16 ? w->at[0] >> 3 : 0;
    if (operation == 6 || operation == 9)
        packet_unread(w, "OpenVPN");
    return false;
}

static bool
tunnel_dtls(struct walk *w)
{
    if (w->captured > 13 && w->at[0] == 23)           /* application data */
        packet_unread(w, "a tunnel in DTLS");
    return false;
}

static bool
tunnel_capwap(struct walk *w)
{
    if (w->captured > 8)
        packet_unread(w, "CAPWAP");
    return false;
}

struct tunnel {
    uint16_t port;
    bool     either;                       /* answers come from it, and carry packets, too */
    bool   (*take)(struct walk *w);
};

static const struct tunnel tunnels[] = {
    { 4789,  false, tunnel_vxlan },
    { 8472,  false, tunnel_vxlan },        /* Linux, where nobody sets the port */
    { 4790,  false, tunnel_vxlan_gpe },
    { 6081,  false, tunnel_geneve },
    { 2152,  false, tunnel_gtp },
    { 4754,  false, tunnel_gre },
    { 6635,  false, tunnel_mpls },
    { 1701,  true,  tunnel_l2tp },
    { 37008, false, tunnel_tzsp },
    { 3544,  true,  tunnel_teredo },
    { 6080,  false, tunnel_gue },
    { 4341,  false, tunnel_lisp },
    { 4500,  true,  tunnel_esp },
    { 51820, true,  tunnel_wireguard },
    { 41641, true,  tunnel_wireguard },    /* Tailscale */
    { 1194,  true,  tunnel_openvpn },
    { 4755,  false, tunnel_dtls },
    { 5247,  true,  tunnel_capwap }
};

/* A question of DNS may come from any port: what goes to a name server or from it is none. */
static bool
packet_tunnel(struct walk *w)
{
    uint16_t source = w->p.source_port;
    uint16_t target = w->p.target_port;
    if (source == PORT_DNS || target == PORT_DNS)
        return false;
    for (size_t i = 0; i < sizeof tunnels / sizeof tunnels[0]; i++) {
        const struct tunnel *t = &tunnels[i];
        if (target == t->port || (t->either && source == t->port))
            return walk_deeper(w) && t->take(w);
    }
    return false;
}

/* ---- link layers ---- */

/* The cooked header of Linux; its protocol field is an Ethernet type unless the device is none. */
static void
link_sll(struct walk *w)
{
    if (walk_has(w, 16, "a cooked header is cut")) {
        unsigned type = get_u16(w->at + 14);
        walk_skip(w, 16);
        if (type == 4)
            packet_llc(w, w->length);
        else if (type > 1500)
            packet_type(w, type);
    }
}

static void
link_sll2(struct walk *w)
{
    if (walk_has(w, 20, "a cooked header is cut")) {
        unsigned type = get_u16(w->at);
        walk_skip(w, 20);
        if (type == 4)
            packet_llc(w, w->length);
        else if (type > 1500)
            packet_type(w, type);
    }
}

/* Four bytes of address family in the order of whoever captured.  The numbers for IPv6 differ among
 * systems; the packet itself tells. */
static void
link_null(struct walk *w)
{
    if (walk_has(w, 4, "a loopback header is cut")) {
        const unsigned char *h = w->at;
        bool small = (h[0] | h[1] | h[2]) == 0 || (h[1] | h[2] | h[3]) == 0;
        unsigned family = (unsigned)h[0] | h[3];
        walk_skip(w, 4);
        bool six = family == 10 || family == 24 || family == 28 || family == 30;
        if (small && (family == 2 || six))
            packet_ip(w);
    }
}

/* OpenBSD's encapsulated packets: family, security association, flags. */
static void
link_enc(struct walk *w)
{
    if (packet_step(w, 12, "a header of the enc interface is cut"))
        packet_ip(w);
}

static void
link_cisco_hdlc(struct walk *w)
{
    if (walk_has(w, 4, "an HDLC header is cut")) {
        unsigned type = get_u16(w->at + 2);
        walk_skip(w, 4);
        if (type > 1500)
            packet_type(w, type);
    }
}

/* PPP over HDLC, or Cisco's HDLC under the same number. */
static void
link_ppp_serial(struct walk *w)
{
    if (w->captured >= 4 && (w->at[0] == 0x0F || w->at[0] == 0x8F))
        link_cisco_hdlc(w);
    else
        packet_ppp(w);
}

/* A list of attributes after four bytes; the one of type 9 is the packet.  Lengths are in the
 * order of whoever captured. */
static void
link_nflog(struct walk *w)
{
    if (!walk_has(w, 4, "an NFLOG header is cut") || w->at[1] != 0)
        return;
    walk_skip(w, 4);
    while (w->captured >= 4) {
        uint16_t len;
        uint16_t type;
        memcpy(&len, w->at, 2);
        memcpy(&type, w->at + 2, 2);
        if (len < 4 || (type & 0x7FFF) > 255) {
            len = (uint16_t)(len >> 8 | len << 8);
            type = (uint16_t)(type >> 8 | type << 8);
        }
        if (len < 4)
            break;
        if ((type & 0x7FFF) == 9) {
            walk_trim(w, len);
            walk_skip(w, 4);
            packet_ip(w);
            return;
        }
        size_t padded = ((size_t)len + 3) & ~(size_t)3;
        if (padded > w->captured)
            break;
        walk_skip(w, padded);
    }
    packet_tell(w, w->captured < w->length ? REMARK_SNAPLEN : REMARK_PACKET_BAD,
        "an NFLOG record without a packet");
}

/* Apple's: a header that names the link layer of what follows, in little-endian. */
static void
link_pktap(struct walk *w)
{
    if (!walk_has(w, 12, "a PKTAP header is cut") || !walk_deeper(w))
        return;
    size_t header = (size_t)w->at[0] | (size_t)w->at[1] << 8;
    int link = w->at[8] | w->at[9] << 8;
    if (header < 12 || (w->at[2] | w->at[3] | w->at[10] | w->at[11]) != 0) {
        packet_tell(w, REMARK_PACKET_BAD, "a PKTAP header that makes no sense");
        return;
    }
    if (packet_step(w, header, "a PKTAP header is cut"))
        link_any(w, link);
}

/* 802.11: data frames that are not encrypted. */
static void
link_wlan(struct walk *w)
{
    if (w->captured < 24 || (w->at[0] & 0x4C) != 0x08)
        return;
    if ((w->at[1] & 0x40) != 0) {
        packet_unread(w, "802.11 that is encrypted");
        return;
    }
    size_t header = 24;
    header += (w->at[1] & 3) == 3 ? 6 : 0;            /* four addresses */
    header += (w->at[0] & 0x80) != 0 ? 2 : 0;         /* quality of service */
    if (packet_step(w, header, "a WLAN header is cut"))
        packet_llc(w, w->length);
}

/* A header whose length, of at least `least` bytes, stands in its second two. */
static bool
link_step(struct walk *w, size_t least, const char *cut)
{
    size_t header;
    if (!walk_has(w, least, cut))
        return false;
    header = (size_t)w->at[2] | (size_t)w->at[3] << 8;
    if (header < least)
        packet_tell(w, REMARK_PACKET_BAD, "a link header that makes no sense");
    return header >= least && packet_step(w, header, cut);
}

static void
link_radiotap(struct walk *w)
{
    if (link_step(w, 4, "a radiotap header is cut"))
        link_wlan(w);
}

/* Before 802.11, too: PPI in little-endian, AVS, and the one of Prism cards, of a fixed length. */
static void
link_ppi(struct walk *w)
{
    static const char cut[] = "a PPI header is cut";
    if (walk_has(w, 8, cut) && walk_deeper(w)) {
        int link = w->at[4] | w->at[5] << 8;
        if (link_step(w, 8, cut))
            link_any(w, link);
    }
}

static void
link_avs(struct walk *w)
{
    static const char cut[] = "an AVS header is cut";
    if (!walk_has(w, 8, cut))
        return;
    if (get_u32(w->at + 4) < 8)
        packet_tell(w, REMARK_PACKET_BAD, "an AVS header that makes no sense");
    else if (packet_step(w, get_u32(w->at + 4), cut))
        link_wlan(w);
}

static void
link_prism(struct walk *w)
{
    if (w->captured >= 8 && get_u32(w->at) >> 16 == 0x8021)
        link_avs(w);
    else if (packet_step(w, 144, "a Prism header is cut"))
        link_wlan(w);
}

/* RFC 2684 */
static void
link_atm(struct walk *w)
{
    packet_llc(w, w->length);
}

struct link_layer {
    int    link;                           /* LINKTYPE_* */
    void (*take)(struct walk *w);
};

static const struct link_layer link_layers[] = {
    { LINK_ETHERNET, packet_ethernet },
    { 113, link_sll },
    { 276, link_sll2 },
    { 101, packet_ip },                    /* RAW; 12 and 14 are what systems write by mistake */
    { 12,  packet_ip },
    { 14,  packet_ip },
    { 228, packet_ip },
    { 229, packet_ip },
    { 0,   link_null },
    { 108, link_null },
    { 9,   packet_ppp },
    { 50,  link_ppp_serial },
    { 51,  packet_pppoe },
    { 104, link_cisco_hdlc },
    { LINK_WLAN, link_wlan },
    { 109, link_enc },
    { 127, link_radiotap },
    { 163, link_avs },
    { 119, link_prism },
    { 192, link_ppi },
    { 100, link_atm },
    { 239, link_nflog },
    { 258, link_pktap }
};

/* What has nothing of TCP in it, or nothing that is read here. */
static const struct { int first, last; const char *what; } link_names[] = {
    { 6,   6,   "Token Ring" },
    { 8,   8,   "SLIP" },
    { 10,  10,  "FDDI" },
    { 107, 107, "Frame Relay" },
    { 123, 123, "ATM" },
    { 143, 143, "DOCSIS" },
    { 147, 162, "a private format" },
    { 186, 186, "USB" }, { 189, 189, "USB" }, { 220, 220, "USB" }, { 249, 249, "USB" },
    { 266, 266, "USB" }, { 288, 288, "USB" }, { 293, 295, "USB" },
    { 187, 187, "Bluetooth" }, { 201, 201, "Bluetooth" }, { 251, 251, "Bluetooth" },
    { 254, 256, "Bluetooth" }, { 272, 272, "Bluetooth" },
    { 195, 195, "802.15.4" }, { 215, 215, "802.15.4" }, { 230, 230, "802.15.4" },
    { 283, 283, "802.15.4" },
    { 190, 190, "a CAN bus" }, { 227, 227, "a CAN bus" },
    { 197, 197, "ERF" },
    { 231, 231, "D-Bus" },
    { 252, 252, "what Wireshark exported of upper layers" },
    { 253, 253, "Netlink" }
};

static void
link_unknown(const struct walk *w, int link)
{
    const char *name = "link layer";
    for (size_t i = 0; i < sizeof link_names / sizeof link_names[0]; i++) {
        if (link >= link_names[i].first && link <= link_names[i].last)
            name = link_names[i].what;
    }
    char what[64];
    snprintf(what, sizeof what, "%s, link type %d", name, link);
    packet_tell(w, REMARK_LINK_UNKNOWN, what);
}

static void
link_any(struct walk *w, int link)
{
    for (size_t i = 0; i < sizeof link_layers / sizeof link_layers[0]; i++) {
        if (link_layers[i].link == link) {
            link_layers[i].take(w);
            return;
        }
    }
    link_unknown(w, link);
}

/* ---- the stage ---- */

struct packet_reader *
packet_new(const struct packet_events *ev, void *user)
{
    struct packet_reader *r = memory_try(calloc(1, sizeof *r));
    if (r != NULL) {
        r->ev = ev;
        r->user = user;
    }
    return r;
}

void
packet_push(struct packet_reader *r, const struct frame *f)
{
    struct walk w;
    memset(&w, 0, sizeof w);
    w.r = r;
    w.p.frame = f;
    w.at = f->bytes;
    w.captured = f->captured;
    w.length = f->length < f->captured ? f->captured : f->length;
    link_any(&w, f->link);
    for (size_t i = 0; w.pieced && i < PACKET_FRAGMENTS_MAX; i++)
        r->datagrams[i].walked = false;
}

const struct packet_unread *
packet_unread_at(const struct packet_reader *r, size_t i)
{
    return i < r->unread_count ? &r->unread[i] : NULL;
}

/* Where IP starts in an ordinary frame; false: this one is not.  Whatever is taken for ordinary
 * here must come out of packet_push with the same ends. */
static bool
peek_link(const struct frame *f, size_t *at)
{
    const unsigned char *p = f->bytes;
    size_t type = 0;
    switch (f->link) {
    case 1:
        type = f->captured > 18 && get_u16(p + 12) == 0x8100 ? 16 : 12;
        *at = type + 2;
        break;
    case 113:
        type = 14;
        *at = 16;
        break;
    case 276:
        *at = 20;
        break;
    case 101: case 228: case 229:
        *at = 0;
        return true;
    default:
        return false;
    }
    return f->captured >= *at
        && (get_u16(p + type) == 0x0800 || get_u16(p + type) == 0x86DD);
}

static bool
peek_one(const struct frame *f, struct packet *out)
{
    size_t at;
    size_t ports;
    if (!peek_link(f, &at))
        return false;
    const unsigned char *p = f->bytes + at;
    if (f->captured >= at + 24 && p[0] >> 4 == 4 && p[9] == 6 && (get_u16(p + 6) & 0x3FFF) == 0) {
        address_set(&out->source, p + 12, 4);
        address_set(&out->target, p + 16, 4);
        ports = at + (size_t)(p[0] & 15) * 4;
    } else if (f->captured >= at + 44 && p[0] >> 4 == 6 && p[6] == 6) {
        address_set(&out->source, p + 8, 6);
        address_set(&out->target, p + 24, 6);
        ports = at + 40;
    } else {
        return false;
    }
    if (f->captured < ports + 4)
        return false;
    out->source_port = get_u16(f->bytes + ports);
    out->target_port = get_u16(f->bytes + ports + 2);
    return true;
}

size_t
packet_peek(const struct frame *frames, size_t n, struct packet *out)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        out[count].frame = &frames[i];
        count += peek_one(&frames[i], &out[count]) ? 1 : 0;
    }
    return count;
}

void
packet_end(struct packet_reader *r)
{
    if (r->datagrams != NULL) {
        for (size_t i = 0; i < PACKET_FRAGMENTS_MAX; i++)
            datagram_lost(r, &r->datagrams[i]);
    }
}

void
packet_free(struct packet_reader *r)
{
    if (r == NULL)
        return;
    if (r->datagrams != NULL) {
        for (size_t i = 0; i < PACKET_FRAGMENTS_MAX; i++)
            free(r->datagrams[i].bytes);
    }
    free(r->datagrams);
    free(r);
}

/* ---- addresses as text ---- */

/* Start and length of the longest run of zero groups, of at least two (RFC 5952 4.2). */
static size_t
address_zeros(const unsigned char *p, size_t *len)
{
    size_t best = 8;
    *len = 1;
    for (size_t i = 0; i < 8; i++) {
        size_t run = 0;
        while (i + run < 8 && get_u16(p + 2 * (i + run)) == 0)
            run++;
        if (run > *len) {
            best = i;
            *len = run;
        }
    }
    return best;
}

static void
address_text6(const unsigned char *p, char *out, size_t size)
{
    size_t zeros;
    size_t from = address_zeros(p, &zeros);
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < 8 && len < size; i++) {
        if (i == from) {
            len += (size_t)snprintf(out + len, size - len, "::");
            i += zeros - 1;
            continue;
        }
        bool colon = i > 0 && i != from + zeros;
        len += (size_t)snprintf(out + len, size - len, "%s%x", colon ? ":" : "",
            (unsigned)get_u16(p + 2 * i));
    }
}

/* As "%u" would, but there are some for each connection; returns their end. */
static char *
address_number(char *out, unsigned n)
{
    char digits[10];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    while (count > 0)
        *out++ = digits[--count];
    return out;
}

bool
address_read(const char *text, struct address *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, out->bytes) == 1)
        out->family = 4;
    else if (inet_pton(AF_INET6, text, out->bytes) == 1)
        out->family = 6;
    return out->family != 0;
}

const char *
address_text(const struct address *a, char *out, size_t size)
{
    char *at = out;
    if (a->family == 6) {
        address_text6(a->bytes, out, size);
        return out;
    }
    for (size_t i = 0; i < 4 && a->family == 4; i++) {
        if (i > 0)
            *at++ = '.';
        at = address_number(at, a->bytes[i]);
    }
    *at = '\0';
    return out;
}

const char *
endpoint_text(const struct address *a, uint16_t port, char out[ENDPOINT_MAX])
{
    bool six = port != 0 && a->family == 6;
    char *at = out;
    if (six)
        *at++ = '[';
    address_text(a, at, ENDPOINT_MAX - 8);
    at += strlen(at);
    if (six)
        *at++ = ']';
    if (port != 0) {
        *at++ = ':';
        at = address_number(at, port);
    }
    *at = '\0';
    return out;
}
