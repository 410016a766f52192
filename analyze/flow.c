/* flow.c -- segments become connections: who opened them, their bytes in order, how they ended
 *
 *      packet --> hash table --> flow --> path (one direction) --> data, or a gap, in order
 *                                  |        `-- pending: what came too early
 *                                  `-- lists in order of the time when to look at it again
 *
 * A path delivers what continues it at once, straight from the packet.  What comes too early is
 * copied and waits; what is old is a retransmission.  Where two copies differ the first stays.  A
 * hole becomes a gap when the other side has acknowledged it (so it was there and the capture lost
 * it), when a ceiling is reached, or when the connection ends: bytes that are missing are never
 * passed over in silence.
 *
 * Which end opened a connection is known from the SYN, else from the SYN+ACK, else from what a
 * later stage reads in the content, else guessed from the port.  f->side[0] is the initiator; paths
 * keep their place when the sides are exchanged, and `flip` says how the two relate.
 *
 * A closed connection lingers: late packets belong to it, and a reset that was not the end
 * (somebody injected it) is taken back when the connection goes on.  After that it is remembered by
 * its hash for some minutes, so that a FIN which is repeated opens nothing.
 *
 * Nothing here looks at the clock.  A flow is looked at again once in half of its time-out, so all
 * of it is linear in the number of packets.
 */
#include "flow.h"
#include "pool.h"

/* ---- ceilings ---- */

enum {
    FLOW_MAX              = 250000,            /* open: about 120 MB, what is in them not counted */
    FLOW_LINGER_MAX       = 16384,             /* closed ones that wait for late packets */
    FLOW_PENDING_SEGMENTS = 1024,              /* of one path; a list is searched through */
    FLOW_PENDING_SIDE     = 1024 * 1024,       /* bytes; a window of that size is rare in XMPP */
    FLOW_PENDING_ALL      = 32 * 1024 * 1024,
    FLOW_BUCKETS_FIRST    = 1024,
    FLOW_TRACES           = 8192,              /* segments of which the sum is remembered */
    FLOW_GRAVES           = 65536              /* connections that are over, remembered: 512 KB */
};

#define FLOW_IDLE_NS       (3600 * SECOND)   /* keep-alives come every few minutes */
#define FLOW_UNANSWERED_NS (180 * SECOND)    /* Linux tries for 127 s */
#define FLOW_LINGER_NS     (5 * SECOND)
#define FLOW_REVIEW_NS     (SECOND / 100)    /* time-outs are not finer than this */
#define FLOW_HOLE_NS       (SECOND / 5)      /* two interfaces are not that far apart */
#define FLOW_BLIND_NS      (5 * SECOND)      /* the same when only one side is there */
#define FLOW_REPEAT_NS     (SECOND / 20)     /* a frame seen twice comes within this time */
#define FLOW_REPEAT_ID_NS  (3 * SECOND / 1000)  /* the same without an IP identification */
#define FLOW_ANSWER_NS     SECOND            /* a SYN is answered before it is repeated */
#define FLOW_SYN_RETRY_NS  (3 * SECOND)      /* a SYN is repeated after one second */
#define FLOW_GRAVE_SECONDS 1000              /* Linux repeats a FIN for 924 s at most */

/* ---- structs ---- */

/* Bytes that wait for what is before them. */
struct segment {
    struct segment *next;
    uint32_t        seq;
    uint32_t        len;           /* on the wire */
    uint32_t        captured;      /* bytes there are; the rest was cut */
    uint64_t        frame;
    int64_t         time_ns;
    unsigned char   bytes[];
};

/* One direction of a connection. */
struct path {
    uint32_t        base;          /* of the SYN, or before the first byte */
    uint32_t        next;          /* first byte that was not delivered */
    uint32_t        acked;         /* what the other side has got, by its own word */
    uint32_t        fin;           /* where the FIN stands */
    uint16_t        ip_id;         /* of the packet that last moved `next` */
    bool            based;         /* base and next are known */
    bool            acknowledged;  /* acked is known */
    bool            ended;         /* fin is known */
    uint16_t        segments;      /* that wait */
    uint32_t        waiting;       /* bytes of memory that they take */
    struct segment *pending;       /* owned, by seq, without overlap */
    struct segment *last;          /* of the pending ones */
    int64_t         moved_ns;      /* when `next` last moved */
    int64_t         hole_ns;       /* since when a hole is acknowledged; valid when hole */
    bool            hole;
};

enum flow_list { LIST_SYN, LIST_OPEN, LIST_LINGER, LIST_COUNT };

struct node {
    uint64_t       hash;
    struct node   *chain;          /* next of the bucket */
    struct flow    f;
    uint8_t        flip;
    bool           mute;
    enum flow_list list;
    uint64_t       last_frame;
    struct path    path[2];        /* side[i] sends on path[i ^ flip] */
    struct node   *before, *after; /* of its list */
    int64_t        due_ns;         /* when to look at it again */
};

struct node_list {
    struct node *first, *last;
    uint32_t     count;
};

/* A segment that was delivered, to tell a true retransmission from one with other bytes. */
struct trace {
    uint64_t path;                 /* number of the flow * 2 + index of the path; 0: none */
    uint32_t seq, len, sum;
};

/* The hash of a packet that comes soon. */
struct expected {
    uint64_t frame;
    uint64_t hash;
    uint32_t ports;
};

/* A connection that has ended: who has not heard of it repeats its FIN for minutes. */
struct grave {
    uint32_t hash;                 /* the upper half: the lower one is the place */
    uint32_t until;                /* seconds; 0: empty */
};

struct flow_table {
    const struct flow_events *ev;  /* borrowed */
    void                     *user;
    struct flow_options       limits;
    struct pool               nodes;
    struct node             **buckets;   /* owned */
    size_t                    bucket_count;  /* a power of two */
    struct node_list          lists[LIST_COUNT];
    struct flow_counts        counts;
    int64_t                   now_ns;    /* latest time seen */
    int64_t                   review_ns; /* when to look at the lists again */
    struct expected           expected[CAPTURE_BATCH];   /* what flow_expect has computed */
    size_t                    expected_count, expected_next;
    struct trace              traces[FLOW_TRACES];
    struct grave              graves[FLOW_GRAVES];
};

/* ---- words ---- */

const char *
flow_evidence_word(enum evidence e)
{
    static const char *const words[] = { "syn", "synack", "content", "port", "none" };
    return words[e];
}

const char *
flow_end_word(enum flow_end e)
{
    static const char *const words[] = { "open", "fin", "rst", "refused", "unanswered", "icmp",
        "idle", "capture-end", "evicted" };
    return words[e];
}

/* ---- sequence numbers ---- */

/* How far b is behind a; negative when it is ahead.  RFC 9293 3.4: arithmetic modulo 2^32. */
static int32_t
seq_minus(uint32_t a, uint32_t b)
{
    uint32_t d = a - b;
    return d <= INT32_MAX ? (int32_t)d : -(int32_t)(UINT32_MAX - d) - 1;
}

static int16_t
id_minus(uint16_t a, uint16_t b)
{
    uint16_t d = (uint16_t)(a - b);
    return d <= INT16_MAX ? (int16_t)d : (int16_t)(-(int)(0xFFFF - d) - 1);
}

/* ---- hash ---- */

static uint64_t
hash_turn(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

struct sip {
    uint64_t a, b, c, d;
};

static inline struct sip
hash_round(struct sip v)
{
    v.a += v.b;
    v.b = hash_turn(v.b, 13) ^ v.a;
    v.a = hash_turn(v.a, 32);
    v.c += v.d;
    v.d = hash_turn(v.d, 16) ^ v.c;
    v.a += v.d;
    v.d = hash_turn(v.d, 21) ^ v.a;
    v.c += v.b;
    v.b = hash_turn(v.b, 17) ^ v.c;
    v.c = hash_turn(v.c, 32);
    return v;
}

/* SipHash with one round a word and three at the end: whoever writes a capture must not be able to
 * choose where its connections fall. */
static uint64_t
hash_words(const uint64_t seed[2], const uint64_t *words, size_t n)
{
    struct sip v = { seed[0] ^ UINT64_C(0x736F6D6570736575), seed[1] ^ UINT64_C(0x646F72616E646F6D),
        seed[0] ^ UINT64_C(0x6C7967656E657261), seed[1] ^ UINT64_C(0x7465646279746573) };
    for (size_t i = 0; i < n; i++) {
        v.d ^= words[i];
        v = hash_round(v);
        v.a ^= words[i];
    }
    v.c ^= 0xFF;
    v = hash_round(hash_round(hash_round(v)));
    return v.a ^ v.b ^ v.c ^ v.d;
}

/* An address as two numbers: compared and hashed without calls. */
struct halves {
    uint64_t a, b;
};

static inline struct halves
halves_of(const struct address *a)
{
    struct halves h;
    memcpy(&h.a, a->bytes, 8);
    memcpy(&h.b, a->bytes + 8, 8);
    return h;
}

/* The same for both directions: the smaller end goes first. */
static uint64_t
hash_ends(const uint64_t seed[2], const struct packet *p)
{
    struct halves from = halves_of(&p->source);
    struct halves to = halves_of(&p->target);
    bool swap = from.a > to.a;
    if (from.a == to.a)
        swap = from.b != to.b ? from.b > to.b : p->source_port > p->target_port;
    struct halves one = swap ? to : from;
    struct halves two = swap ? from : to;
    uint64_t ports = swap ? (uint64_t)p->target_port << 16 | p->source_port
        : (uint64_t)p->source_port << 16 | p->target_port;
    uint64_t words[5] = { ports | (uint64_t)p->source.family << 32, one.a, two.a, one.b, two.b };
    if (p->source.family == 4) {
        /* four bytes each: both fit into one word, whichever half the byte order puts them in */
        words[1] ^= two.a << 32 ^ two.a >> 32;
        return hash_words(seed, words, 2);
    }
    return hash_words(seed, words, 5);
}

/* ---- table ---- */

static bool
side_is(const struct flow_side *s, const struct address *a, uint16_t port)
{
    struct halves x = halves_of(&s->address);
    struct halves y = halves_of(a);
    return s->port == port && x.a == y.a && x.b == y.b && s->address.family == a->family;
}

/* The connection of a packet and which side sent it. */
static struct node *
table_find(const struct flow_table *t, const struct packet *p, uint64_t hash, int *side)
{
    for (struct node *n = t->buckets[hash & (t->bucket_count - 1)]; n != NULL; n = n->chain) {
        if (n->hash != hash)
            continue;
        for (int i = 0; i < 2; i++) {
            if (side_is(&n->f.side[i], &p->source, p->source_port)
                && side_is(&n->f.side[1 - i], &p->target, p->target_port)) {
                *side = i;
                return n;
            }
        }
    }
    return NULL;
}

/* Twice as many buckets; when there is no memory the chains grow longer instead. */
static void
table_grow(struct flow_table *t)
{
    size_t count = t->bucket_count * 2;
    struct node **buckets = calloc(count, sizeof *buckets);
    if (buckets == NULL)
        return;
    for (size_t i = 0; i < t->bucket_count; i++) {
        struct node *n = t->buckets[i];
        while (n != NULL) {
            struct node *chain = n->chain;
            n->chain = buckets[n->hash & (count - 1)];
            buckets[n->hash & (count - 1)] = n;
            n = chain;
        }
    }
    free(t->buckets);
    t->buckets = buckets;
    t->bucket_count = count;
}

/* A node of a flow. */
static struct node *
node_of(struct flow *f)
{
    return (struct node *)(void *)((char *)f - offsetof(struct node, f));
}

/* A node of zeros; NULL: no memory. */
static struct node *
node_new(struct flow_table *t)
{
    struct node *n = memory_try(pool_get(&t->nodes));
    if (n != NULL)
        memset(n, 0, sizeof *n);
    return n;
}

static void
table_unlink(struct flow_table *t, struct node *n)
{
    struct node **at = &t->buckets[n->hash & (t->bucket_count - 1)];
    while (*at != n)
        at = &(*at)->chain;
    *at = n->chain;
}

static void
list_leave(struct flow_table *t, struct node *n)
{
    struct node_list *l = &t->lists[n->list];
    *(n->before == NULL ? &l->first : &n->before->after) = n->after;
    *(n->after == NULL ? &l->last : &n->after->before) = n->before;
    l->count--;
}

static void
list_join(struct flow_table *t, struct node *n, enum flow_list which, int64_t due_ns)
{
    struct node_list *l = &t->lists[which];
    n->list = which;
    n->due_ns = due_ns;
    n->after = NULL;
    n->before = l->last;
    *(l->last == NULL ? &l->first : &l->last->after) = n;
    l->last = n;
    l->count++;
}

/* ---- news ---- */

static void
flow_tell(struct flow_table *t, struct node *n, enum remark r, uint64_t frame)
{
    static const char *const details[REMARK_COUNT] = {
        [REMARK_SNAPLEN] = "bytes were cut when they were captured",
        [REMARK_GAP] = "bytes of a connection are not in the capture",
        [REMARK_OVERLAP] = "retransmitted bytes are different",
        [REMARK_MIDSTREAM] = "the beginning was not captured",
        [REMARK_ONE_SIDED] = "only one direction was captured",
        [REMARK_CEILING_FLOWS] = "too many open connections",
        [REMARK_CEILING_BYTES] = "too many bytes out of order",
        [REMARK_DUPLICATE] = "a packet is there twice",
    };
    n->f.remarks |= UINT32_C(1) << r;
    if (t->ev->remark != NULL)
        t->ev->remark(t->user, r, frame, details[r]);
}

/* Where content comes from: the packet or segment that is being looked at. */
struct origin {
    uint64_t frame;
    int64_t  time_ns;
};

static void
path_tell_data(struct flow_table *t, struct node *n, int path, const unsigned char *at, size_t len,
    struct origin from)
{
    if (len == 0)
        return;
    int side = path ^ n->flip;
    n->f.side[side].bytes += len;
    n->path[path].next += (uint32_t)len;
    if (!n->mute && t->ev->data != NULL)
        t->ev->data(t->user, &n->f, side, at, len, from.frame, from.time_ns);
}

static void
path_tell_gap(struct flow_table *t, struct node *n, int path, uint32_t missing, struct origin from,
    enum remark r)
{
    if (missing == 0)
        return;
    int side = path ^ n->flip;
    n->f.side[side].lost += missing;
    n->path[path].next += missing;
    flow_tell(t, n, r, from.frame);
    if (!n->mute && t->ev->gap != NULL)
        t->ev->gap(t->user, &n->f, side, missing, from.frame, from.time_ns);
}

/* ---- sides ---- */

static void
flow_turn(struct flow *f)
{
    struct node *n = node_of(f);
    struct flow_side other = f->side[0];
    f->side[0] = f->side[1];
    f->side[1] = other;
    n->flip ^= 1;
}

bool
flow_hint_initiator(struct flow *f, int side)
{
    if (f->evidence <= EVIDENCE_CONTENT)
        return false;
    f->evidence = EVIDENCE_CONTENT;
    if (side == 0)
        return false;
    flow_turn(f);
    return true;
}

void
flow_mute(struct flow *f)
{
    struct node *n = node_of(f);
    n->mute = true;
}

/* How much a port looks like one that a server listens on.  23456 comes last: it is an ordinary
 * ephemeral port on many systems. */
static int
port_rank(uint16_t port)
{
    switch (port) {
    case 5269:
        return 4;
    case 5270: case 5222: case 5223:
        return 3;
    case 23456:
        return 1;
    default:
        return port > 0 && port < 1024 ? 2 : 0;
    }
}

/* Better evidence than there was: `side` opened the connection. */
static void
flow_evidence(struct flow_table *t, struct node *n, int side, enum evidence e)
{
    if (n->f.evidence <= e)
        return;
    n->f.evidence = e;
    if (side == 1) {
        flow_turn(&n->f);
        if (t->ev->turned != NULL)
            t->ev->turned(t->user, &n->f);
    }
}

/* ---- pending segments ---- */

static size_t
segment_size(const struct segment *s)
{
    return sizeof *s + s->captured;
}

static void
path_pending_drop(struct flow_table *t, struct path *q)
{
    struct segment *s = q->pending;
    q->pending = s->next;
    if (q->pending == NULL)
        q->last = NULL;
    q->segments--;
    q->waiting -= (uint32_t)segment_size(s);
    t->counts.pending -= segment_size(s);
    free(s);
}

static void
path_pending_clear(struct flow_table *t, struct path *q)
{
    while (q->pending != NULL)
        path_pending_drop(t, q);
}

/* Delivers what is pending and continues the path. */
static void
path_drain(struct flow_table *t, struct node *n, int path)
{
    struct path *q = &n->path[path];
    while (q->pending != NULL && seq_minus(q->pending->seq, q->next) <= 0) {
        struct segment *s = q->pending;
        struct origin from = { s->frame, s->time_ns };
        uint32_t old = q->next - s->seq;
        uint32_t have = s->captured > old ? s->captured - old : 0;
        if (old < s->len) {
            path_tell_data(t, n, path, s->bytes + old, have, from);
            path_tell_gap(t, n, path, s->len - old - have, from, REMARK_SNAPLEN);
        }
        path_pending_drop(t, q);
    }
}

/* A piece of content on its way into a path. */
struct piece {
    uint32_t             seq, len, captured;
    const unsigned char *at;
    struct origin        from;
};

static void
piece_skip(struct piece *c, uint32_t n)
{
    c->seq += n;
    c->len -= n;
    c->at += n < c->captured ? n : c->captured;
    c->captured -= n < c->captured ? n : c->captured;
}

/* Places a piece before `*link`; false: no memory. */
static bool
path_pending_put(struct flow_table *t, struct path *q, struct segment **link, const struct piece *c,
    uint32_t len)
{
    uint32_t captured = len < c->captured ? len : c->captured;
    struct segment *s = memory_try(malloc(sizeof *s + captured));
    if (s == NULL)
        return false;
    s->seq = c->seq;
    s->len = len;
    s->captured = captured;
    s->frame = c->from.frame;
    s->time_ns = c->from.time_ns;
    if (captured > 0)
        memcpy(s->bytes, c->at, captured);
    s->next = *link;
    *link = s;
    if (s->next == NULL)
        q->last = s;
    q->segments++;
    q->waiting += (uint32_t)segment_size(s);
    t->counts.pending += segment_size(s);
    if (t->counts.pending > t->counts.pending_most)
        t->counts.pending_most = t->counts.pending;
    return true;
}

/* The bytes that a piece and a pending segment both have are the same. */
static bool
piece_agrees(const struct piece *c, const struct segment *s)
{
    uint32_t in_piece = seq_minus(s->seq, c->seq) > 0 ? s->seq - c->seq : 0;
    uint32_t in_segment = seq_minus(c->seq, s->seq) > 0 ? c->seq - s->seq : 0;
    if (in_piece >= c->captured || in_segment >= s->captured)
        return true;
    uint32_t len = c->captured - in_piece;
    len = len < s->captured - in_segment ? len : s->captured - in_segment;
    return memcmp(c->at + in_piece, s->bytes + in_segment, len) == 0;
}

/* Lays a piece among the pending segments.  Where it overlaps, what came first stays. */
static bool
path_pending_add(struct flow_table *t, struct node *n, struct path *q, struct piece c)
{
    struct segment **link = &q->pending;
    bool news = false;
    if (q->last != NULL && seq_minus(c.seq, q->last->seq + q->last->len) >= 0)
        link = &q->last->next;
    while (*link != NULL && c.len > 0) {
        struct segment *s = *link;
        if (seq_minus(c.seq + c.len, s->seq) <= 0)
            break;
        if (seq_minus(c.seq, s->seq + s->len) < 0) {
            if (!piece_agrees(&c, s))
                flow_tell(t, n, REMARK_OVERLAP, c.from.frame);
            if (seq_minus(c.seq, s->seq) < 0) {
                uint32_t before = s->seq - c.seq;
                if (!path_pending_put(t, q, link, &c, before))
                    return false;
                news = true;
                piece_skip(&c, before);
            }
            uint32_t covered = s->seq + s->len - c.seq;
            piece_skip(&c, covered < c.len ? covered : c.len);
        }
        link = &s->next;
    }
    if (c.len > 0)
        return path_pending_put(t, q, link, &c, c.len);
    if (!news)
        n->f.side[(int)(q - n->path) ^ n->flip].retransmitted++;
    return true;
}

/* ---- retransmissions ---- */

static struct trace *
trace_at(struct flow_table *t, uint64_t path, uint32_t seq)
{
    uint64_t h = (path * UINT64_C(0x9E3779B97F4A7C15)) ^ (seq * UINT64_C(0xD6E8FEB86659FD93));
    return &t->traces[h >> 40 & (FLOW_TRACES - 1)];
}

/* Remembers what was delivered, when it is a whole segment. */
static void
path_trace(struct flow_table *t, const struct node *n, int path, const struct packet *p)
{
    uint64_t id = n->f.number * 2 + (uint64_t)path;
    uint32_t seq = p->seq + ((p->flags & TCP_SYN) != 0 ? 1u : 0);
    *trace_at(t, id, seq) = (struct trace){ id, seq, (uint32_t)p->length, p->sum };
}

/* Content that has been delivered already comes again: by the sender, or because the capture has
 * the frame twice?  A sender that repeats itself gives its packet a new identification. */
static void
path_old(struct flow_table *t, struct node *n, int path, const struct piece *c,
    const struct packet *p)
{
    struct path *q = &n->path[path];
    uint64_t id = n->f.number * 2 + (uint64_t)path;
    const struct trace *at = trace_at(t, id, c->seq);
    if (at->path == id && at->seq == c->seq && at->len == c->len && c->captured == c->len
        && at->sum != p->sum)
        flow_tell(t, n, REMARK_OVERLAP, c->from.frame);
    int64_t since = c->from.time_ns - q->moved_ns;
    bool twice = p->ip_id == 0 ? since < FLOW_REPEAT_ID_NS
        : since < FLOW_REPEAT_NS && id_minus(p->ip_id, q->ip_id) <= 0;
    if (twice)
        flow_tell(t, n, REMARK_DUPLICATE, c->from.frame);
    else
        n->f.side[path ^ n->flip].retransmitted++;
}

/* ---- holes ---- */

/* What is missing before `until` is lost; what waits behind it is delivered. */
static void
path_give_up(struct flow_table *t, struct node *n, int path, uint32_t until, struct origin from,
    enum remark r)
{
    struct path *q = &n->path[path];
    while (seq_minus(until, q->next) > 0) {
        uint32_t missing = until - q->next;
        if (q->pending != NULL && seq_minus(q->pending->seq, until) < 0)
            missing = q->pending->seq - q->next;
        path_tell_gap(t, n, path, missing, from, r);
        path_drain(t, n, path);
    }
    q->hole = false;
}

/* Where the content of a path ends that the other side has, as far as it says. */
static uint32_t
path_acked(const struct path *q)
{
    if (q->ended && seq_minus(q->acked, q->fin) > 0)
        return q->fin;                     /* the FIN takes a number of its own */
    return q->acked;
}

/* Looks at a hole after each packet of the connection. */
static void
path_settle(struct flow_table *t, struct node *n, int path, struct origin from)
{
    struct path *q = &n->path[path];
    bool acked = q->based && q->acknowledged && seq_minus(path_acked(q), q->next) > 0;
    bool blind = q->pending != NULL && n->f.side[1 - (path ^ n->flip)].packets == 0;
    if (!acked && !blind) {
        q->hole = false;
        return;
    }
    if (!q->hole) {
        q->hole = true;
        q->hole_ns = from.time_ns;
    }
    if (from.time_ns - q->hole_ns >= (acked ? FLOW_HOLE_NS : FLOW_BLIND_NS))
        path_give_up(t, n, path, acked ? path_acked(q) : q->pending->seq, from, REMARK_GAP);
}

/* The connection ends: no more waiting. */
static void
path_finish(struct flow_table *t, struct node *n, int path, struct origin from)
{
    struct path *q = &n->path[path];
    if (!q->based)
        return;
    while (q->pending != NULL) {
        path_give_up(t, n, path, q->pending->seq, from, REMARK_GAP);
        path_drain(t, n, path);
    }
    if (q->ended && seq_minus(q->fin, q->next) > 0)
        path_give_up(t, n, path, q->fin, from, REMARK_GAP);
    else if (q->acknowledged && seq_minus(path_acked(q), q->next) > 0)
        path_give_up(t, n, path, path_acked(q), from, REMARK_GAP);
}

/* ---- content ---- */

/* Content that continues the path is on its way down. */
static void
path_continue(struct flow_table *t, struct node *n, int path, struct piece c,
    const struct packet *p)
{
    struct path *q = &n->path[path];
    if (c.len == p->length && c.captured == c.len && !n->mute)
        path_trace(t, n, path, p);
    q->moved_ns = c.from.time_ns;
    q->ip_id = p->ip_id;
    path_tell_data(t, n, path, c.at, c.captured, c.from);
    path_tell_gap(t, n, path, c.len - c.captured, c.from, REMARK_SNAPLEN);
    path_drain(t, n, path);
}

/* Content that came too early, or that meets what did. */
static void
path_wait(struct flow_table *t, struct node *n, int path, struct piece c)
{
    struct path *q = &n->path[path];
    bool full = q->segments >= FLOW_PENDING_SEGMENTS || q->waiting >= t->limits.pending_side_max
        || t->counts.pending >= t->limits.pending_max;
    if (n->mute) {                         /* nobody wants it: only the position counts */
        q->next = c.seq + c.len;
        n->f.side[path ^ n->flip].bytes += c.len;
        return;
    }
    if (!full && path_pending_add(t, n, q, c)) {
        path_drain(t, n, path);
        return;
    }
    /* room is made by giving up the first hole; what just came is placed behind it */
    uint32_t until = c.seq;
    if (q->pending != NULL && seq_minus(q->pending->seq, c.seq) < 0)
        until = q->pending->seq;
    path_give_up(t, n, path, until, c.from, REMARK_CEILING_BYTES);
    uint32_t old = seq_minus(q->next, c.seq) > 0 ? q->next - c.seq : 0;
    if (old >= c.len)
        return;
    piece_skip(&c, old);
    if (!path_pending_add(t, n, q, c))     /* no memory at all: a gap later on */
        return;
    path_drain(t, n, path);
}

static void
path_take(struct flow_table *t, struct node *n, int path, const struct packet *p)
{
    struct path *q = &n->path[path];
    struct piece c = { p->seq + ((p->flags & TCP_SYN) != 0 ? 1u : 0), (uint32_t)p->length,
        (uint32_t)p->captured, p->payload, { p->frame->number, p->frame->time_ns } };
    if (!q->based) {
        q->based = true;
        q->base = c.seq - 1;
        q->next = c.seq;
    }
    int32_t ahead = seq_minus(c.seq, q->next);
    if (ahead == -1 && c.len == 1)
        return;                            /* keep-alive, RFC 9293 3.8.4: an old byte */
    if (seq_minus(c.seq + c.len, q->next) <= 0) {
        path_old(t, n, path, &c, p);
        return;
    }
    if (ahead < 0) {
        n->f.side[path ^ n->flip].retransmitted++;
        piece_skip(&c, q->next - c.seq);
    }
    if (ahead > 0 || (q->pending != NULL && seq_minus(c.seq + c.len, q->pending->seq) > 0))
        path_wait(t, n, path, c);
    else
        path_continue(t, n, path, c, p);
}

/* ---- ends ---- */

static uint32_t
flow_seconds(const struct flow_table *t)
{
    return (uint32_t)(t->now_ns / SECOND);
}

static void
flow_bury(struct flow_table *t, const struct node *n)
{
    t->graves[n->hash & (FLOW_GRAVES - 1)] =
        (struct grave){ (uint32_t)(n->hash >> 32), flow_seconds(t) + FLOW_GRAVE_SECONDS };
}

/* An echo of a connection that is over: no beginning and no content, or a FIN once more. */
static bool
flow_is_echo(const struct flow_table *t, const struct packet *p, uint64_t hash)
{
    const struct grave *g = &t->graves[hash & (FLOW_GRAVES - 1)];
    return g->until > flow_seconds(t) && g->hash == (uint32_t)(hash >> 32)
        && (p->flags & TCP_SYN) == 0 && (p->length == 0 || (p->flags & TCP_FIN) != 0);
}

/* The last word on a connection, and its memory. */
static void
flow_close(struct flow_table *t, struct node *n, enum flow_end end)
{
    struct flow *f = &n->f;
    struct origin from = { n->last_frame, f->last_ns };
    for (int side = 0; side < 2; side++) {
        path_finish(t, n, side ^ n->flip, from);
        f->side[side].end_seq = n->path[side ^ n->flip].next;
    }
    f->end = end;
    bool both = f->side[0].packets > 0 && f->side[1].packets > 0;
    bool spoken = f->side[0].bytes + f->side[1].bytes > 0 || f->established || f->synack_frame != 0;
    if (!both && spoken)
        flow_tell(t, n, REMARK_ONE_SIDED, f->first_frame);
    if (t->ev->closed != NULL)
        t->ev->closed(t->user, f);
    path_pending_clear(t, &n->path[0]);
    path_pending_clear(t, &n->path[1]);
    if (n->list == LIST_LINGER)
        flow_bury(t, n);
    table_unlink(t, n);
    list_leave(t, n);
    t->counts.open--;
    pool_put(&t->nodes, n);
}

/* A SYN to which nobody has said anything. */
static bool
flow_is_unanswered(const struct flow *f)
{
    return f->evidence == EVIDENCE_SYN && f->synack_frame == 0 && f->side[1].packets == 0
        && f->side[0].bytes == 0;             /* who sends content has been answered */
}

/* Why a connection without FIN or RST is over, when `end` is all there is to say. */
static enum flow_end
flow_quiet_end(const struct flow_table *t, const struct node *n, enum flow_end end)
{
    const struct flow *f = &n->f;
    if (n->list == LIST_LINGER)
        return f->end;
    if (!flow_is_unanswered(f))
        return end;
    if (f->icmp != ICMP_NONE && f->icmp != ICMP_TOO_BIG)
        return FLOW_ICMP;
    if (end == FLOW_EVICTED)
        return end;
    /* the end of a capture says nothing about a SYN that was just sent */
    bool waited = f->side[0].syns > 1 || t->now_ns - f->first_ns >= FLOW_SYN_RETRY_NS;
    return end != FLOW_CAPTURE_END || waited ? FLOW_UNANSWERED : end;
}

/* FIN or RST: from now on only late packets are expected. */
static void
flow_linger(struct flow_table *t, struct node *n, enum flow_end end)
{
    n->f.end = end;
    if (n->list != LIST_LINGER) {
        list_leave(t, n);
        list_join(t, n, LIST_LINGER, t->now_ns + t->limits.linger_ns);
    }
    if (t->lists[LIST_LINGER].count > FLOW_LINGER_MAX) {
        struct node *oldest = t->lists[LIST_LINGER].first;
        flow_close(t, oldest, oldest->f.end);
    }
}

/* It was not the end after all: the side that seems to have sent a reset goes on.  (What the
 * other side sends was on its way.) */
static void
flow_revive(struct flow_table *t, struct node *n, int side)
{
    if (n->list == LIST_LINGER && n->f.end != FLOW_FIN && n->f.side[side].rst) {
        n->f.end = FLOW_OPEN;
        n->f.side[0].rst = n->f.side[1].rst = false;
        list_leave(t, n);
        list_join(t, n, LIST_OPEN, t->now_ns + t->limits.idle_ns / 2);
    }
}

/* Looks at the connections whose time has come.  What is on the list of SYNs may have been
 * answered since. */
static void
flow_review_list(struct flow_table *t, enum flow_list which)
{
    struct node *n;
    while ((n = t->lists[which].first) != NULL && n->due_ns <= t->now_ns) {
        bool syn = flow_is_unanswered(&n->f);
        int64_t timeout_ns = syn ? t->limits.unanswered_ns : t->limits.idle_ns;
        if (which == LIST_LINGER) {
            flow_close(t, n, n->f.end);
        } else if (t->now_ns - n->f.last_ns >= timeout_ns) {
            flow_close(t, n, flow_quiet_end(t, n, FLOW_IDLE));
        } else {
            list_leave(t, n);
            list_join(t, n, syn ? LIST_SYN : LIST_OPEN, t->now_ns + timeout_ns / 2);
        }
    }
}

void
flow_tick(struct flow_table *t, int64_t now_ns)
{
    if (now_ns > t->now_ns)
        t->now_ns = now_ns;
    if (t->now_ns < t->review_ns)
        return;
    t->review_ns = t->now_ns + FLOW_REVIEW_NS;
    for (int i = 0; i < LIST_COUNT; i++)
        flow_review_list(t, (enum flow_list)i);
}

/* Those on the list of SYNs that were answered since leave it. */
static void
flow_sort_syns(struct flow_table *t)
{
    struct node *n;
    while ((n = t->lists[LIST_SYN].first) != NULL && !flow_is_unanswered(&n->f)) {
        list_leave(t, n);
        list_join(t, n, LIST_OPEN, t->now_ns + t->limits.idle_ns / 2);
    }
}

/* Who has to go: closed ones first, then those that nobody answers, if there was time for an
 * answer, then the one that was quiet longest. */
static struct node *
flow_least_missed(const struct flow_table *t)
{
    struct node *closed = t->lists[LIST_LINGER].first;
    struct node *syn = t->lists[LIST_SYN].first;
    struct node *open = t->lists[LIST_OPEN].first;
    if (closed != NULL)
        return closed;
    if (syn != NULL && (open == NULL || t->now_ns - syn->f.last_ns >= FLOW_ANSWER_NS))
        return syn;
    return open;
}

/* Room for one more connection. */
static void
flow_evict(struct flow_table *t)
{
    flow_sort_syns(t);
    struct node *n = flow_least_missed(t);
    if (n == NULL)
        return;
    if (n != t->lists[LIST_LINGER].first)
        flow_tell(t, n, REMARK_CEILING_FLOWS, n->last_frame);
    flow_close(t, n, flow_quiet_end(t, n, FLOW_EVICTED));
}

/* ---- beginnings ---- */

/* Whether the sender of a first packet opened the connection, and how that is known. */
static bool
flow_guess(const struct packet *p, enum evidence *e)
{
    if ((p->flags & TCP_SYN) != 0) {
        *e = (p->flags & TCP_ACK) != 0 ? EVIDENCE_SYNACK : EVIDENCE_SYN;
        return *e == EVIDENCE_SYN;
    }
    int source = port_rank(p->source_port);
    int target = port_rank(p->target_port);
    *e = source != target ? EVIDENCE_PORT : EVIDENCE_NONE;
    return source <= target;
}

static struct node *
flow_open(struct flow_table *t, const struct packet *p, uint64_t hash, int *side)
{
    if (t->counts.open >= t->limits.flows_max)
        flow_evict(t);
    if (t->counts.open >= t->bucket_count / 4)
        table_grow(t);
    struct node *n = node_new(t);
    if (n == NULL)
        return NULL;
    struct flow *f = &n->f;
    *side = flow_guess(p, &f->evidence) ? 0 : 1;
    f->side[*side].address = p->source;
    f->side[*side].port = p->source_port;
    f->side[1 - *side].address = p->target;
    f->side[1 - *side].port = p->target_port;
    f->number = ++t->counts.flows;
    f->interface = p->frame->interface;
    f->first_frame = p->frame->number;
    f->first_ns = f->last_ns = p->frame->time_ns;
    f->midstream = f->evidence > EVIDENCE_SYNACK;
    n->hash = hash;
    n->chain = t->buckets[hash & (t->bucket_count - 1)];
    t->buckets[hash & (t->bucket_count - 1)] = n;
    bool syn = f->evidence == EVIDENCE_SYN;
    list_join(t, n, syn ? LIST_SYN : LIST_OPEN,
        t->now_ns + (syn ? t->limits.unanswered_ns : t->limits.idle_ns) / 2);
    if (++t->counts.open > t->counts.open_most)
        t->counts.open_most = t->counts.open;
    int path = *side;                      /* whoever hears of it may turn the sides at once */
    if (t->ev->opened != NULL)
        t->ev->opened(t->user, f);
    *side = path ^ n->flip;
    if (f->midstream)
        flow_tell(t, n, REMARK_MIDSTREAM, f->first_frame);
    return n;
}

/* A SYN that cannot belong to the connection that has these ports: they are used again. */
static bool
flow_is_reuse(const struct node *n, int side, const struct packet *p)
{
    const struct flow *f = &n->f;
    const struct path *q = &n->path[side ^ n->flip];
    if ((p->flags & (TCP_SYN | TCP_RST)) != TCP_SYN)
        return false;
    bool other = q->based && p->seq != q->base;
    if ((p->flags & TCP_ACK) != 0)
        return other && n->list == LIST_LINGER && f->end == FLOW_FIN;
    if (f->side[0].fin || f->side[1].fin || f->side[0].rst || f->side[1].rst) {
        /* the reset may answer the first of two SYNs that are there in the wrong order */
        return other || q->based;
    }
    return other;
}

/* ---- handshake ---- */

static void
path_start(struct path *q, uint32_t seq)
{
    q->based = true;
    q->base = seq;
    q->next = seq + 1;
}

/* Returns the side that the packet comes from, for sides may turn. */
static int
flow_take_syn(struct flow_table *t, struct node *n, int side, const struct packet *p)
{
    struct flow *f = &n->f;
    int path = side ^ n->flip;
    struct path *q = &n->path[path];
    bool answer = (p->flags & TCP_ACK) != 0;
    if (answer)
        flow_evidence(t, n, 1 - side, EVIDENCE_SYNACK);
    else
        flow_evidence(t, n, side, EVIDENCE_SYN);
    side = path ^ n->flip;
    struct flow_side *s = &f->side[side];
    bool twice = q->based && q->base == p->seq && s->syns > 0 && p->ip_id == q->ip_id
        && p->frame->time_ns - q->moved_ns
            < (p->ip_id == 0 ? FLOW_REPEAT_ID_NS : FLOW_REPEAT_NS);
    if (twice) {
        flow_tell(t, n, REMARK_DUPLICATE, p->frame->number);
        return side;
    }
    s->syns++;
    s->syn_seq = p->seq;
    if (!q->based || s->bytes == 0) {
        path_start(q, p->seq);
        while (q->pending != NULL && seq_minus(q->pending->seq, q->next) < 0)
            path_pending_drop(t, q);       /* of another beginning */
        q->ip_id = p->ip_id;
        q->moved_ns = p->frame->time_ns;
    }
    if (answer && side == 1) {
        f->synack_frame = f->synack_frame == 0 ? p->frame->number : f->synack_frame;
        f->synack_ns = f->synack_ns == 0 ? p->frame->time_ns : f->synack_ns;
        struct path *o = &n->path[1 - path];
        if (!o->based)                     /* the SYN was not captured: this says where it began */
            path_start(o, p->ack - 1);
        flow_revive(t, n, 1);
    } else if (!answer && side == 0 && f->syn_frame == 0) {
        f->syn_frame = p->frame->number;
    }
    return side;
}

static void
flow_take_ack(struct node *n, int side, const struct packet *p)
{
    struct flow *f = &n->f;
    struct path *o = &n->path[1 - (side ^ n->flip)];
    if ((p->flags & TCP_SYN) == 0 && side == 0 && f->evidence <= EVIDENCE_SYNACK) {
        f->established = true;
        if (!o->based && f->side[1].packets == 0)
            path_start(o, p->ack - 1);     /* the SYN+ACK was not captured */
    }
    if (!o->based)
        return;
    /* a window is less than 2^30 (RFC 7323 2.2): more acknowledges nothing of this connection */
    uint32_t known = o->acknowledged ? o->acked : o->next;
    int32_t more = seq_minus(p->ack, known);
    if ((more > 0 || !o->acknowledged) && more < 0x40000000 && seq_minus(p->ack, o->base) > 0) {
        o->acked = p->ack;
        o->acknowledged = true;
    }
}

static void
flow_take_fin(struct node *n, int side, const struct packet *p)
{
    struct flow_side *s = &n->f.side[side];
    struct path *q = &n->path[side ^ n->flip];
    if (!s->fin) {
        s->fin = true;
        s->fin_frame = p->frame->number;
        s->fin_ns = p->frame->time_ns;
    }
    if (!q->based)
        path_start(q, p->seq - 1);
    if (!q->ended) {
        q->ended = true;
        q->fin = p->seq + (uint32_t)p->length + ((p->flags & TCP_SYN) != 0 ? 1u : 0);
    }
}

static void
flow_take_rst(struct flow_table *t, struct node *n, int side, const struct packet *p)
{
    struct flow *f = &n->f;
    f->side[side].rst = true;
    if (f->side[side].rst_frame == 0) {
        f->side[side].rst_frame = p->frame->number;
        f->side[side].rst_ns = p->frame->time_ns;
        f->side[side].rst_ttl = p->ttl;
    }
    if (n->list == LIST_LINGER)
        return;                            /* what ended it first counts */
    bool refused = side == 1 && f->syn_frame != 0 && f->synack_frame == 0 && f->side[1].bytes == 0;
    flow_linger(t, n, refused ? FLOW_REFUSED : FLOW_RST);
}

/* ---- segments ---- */

static void
flow_count_packet(struct node *n, int side, const struct packet *p)
{
    struct flow_side *s = &n->f.side[side];
    int64_t now = p->frame->time_ns;
    s->packets++;
    if ((p->flags & TCP_RST) == 0)
        s->ttl = p->ttl;
    if (s->packets == 1)
        s->first_ns = now;
    s->last_ns = now > s->last_ns ? now : s->last_ns;
    n->f.last_ns = now > n->f.last_ns ? now : n->f.last_ns;
    n->last_frame = p->frame->number;
}

/* After a FIN of both sides, or of the only one that is in the capture. */
static bool
flow_is_finished(const struct flow *f)
{
    bool zero = f->side[0].fin || f->side[0].packets == 0;
    bool one = f->side[1].fin || f->side[1].packets == 0;
    return zero && one && (f->side[0].fin || f->side[1].fin);
}

static void
flow_take(struct flow_table *t, struct node *n, int side, const struct packet *p)
{
    struct flow *f = &n->f;
    struct origin from = { p->frame->number, p->frame->time_ns };
    int path = side ^ n->flip;
    bool reset = (p->flags & TCP_RST) != 0;
    flow_count_packet(n, side, p);
    if ((p->flags & TCP_SYN) != 0 && !reset)
        side = flow_take_syn(t, n, side, p);
    if ((p->flags & TCP_ACK) != 0 && !reset)
        flow_take_ack(n, side, p);
    if (p->length > 0 && !reset) {
        uint32_t before = n->path[path].next;
        path_take(t, n, path, p);
        side = path ^ n->flip;             /* a later stage may have turned the sides */
        if (before != n->path[path].next)
            flow_revive(t, n, side);
        f->established = f->established || (f->side[0].bytes > 0 && f->side[1].bytes > 0);
    }
    if ((p->flags & TCP_FIN) != 0 && !reset)
        flow_take_fin(n, side, p);
    path_settle(t, n, 0, from);
    path_settle(t, n, 1, from);
    side = path ^ n->flip;
    if (reset)
        flow_take_rst(t, n, side, p);
    else if (n->list != LIST_LINGER && flow_is_finished(f))
        flow_linger(t, n, FLOW_FIN);
}

static void
flow_take_icmp(struct flow_table *t, const struct packet *p)
{
    int side;
    struct node *n = table_find(t, p, hash_ends(t->limits.seed, p), &side);
    if (n == NULL)
        return;
    struct flow *f = &n->f;
    if (f->icmp == ICMP_NONE || f->icmp == ICMP_TOO_BIG) {
        f->icmp = p->icmp;
        f->icmp_frame = p->frame->number;
        f->icmp_ns = p->frame->time_ns;
        f->icmp_reporter = p->reporter;
    }
}

/* ---- the stage ---- */

/* A key that cannot be known before. */
static void
flow_seed(uint64_t seed[2])
{
    FILE *in = fopen("/dev/urandom", "rb");
    if (in == NULL)
        return;                            /* a chroot: unkeyed is better than not at all */
    setvbuf(in, NULL, _IONBF, 0);
    if (fread(seed, sizeof seed[0], 2, in) != 2)
        seed[0] ^= 1;
    fclose(in);
}

struct flow_table *
flow_new(const struct flow_options *o, const struct flow_events *ev, void *user)
{
    struct flow_table *t = memory_try(calloc(1, sizeof *t));
    struct node **buckets = memory_try(calloc(FLOW_BUCKETS_FIRST, sizeof *buckets));
    if (t == NULL || buckets == NULL) {
        free(t);
        free(buckets);
        return NULL;
    }
    t->ev = ev;
    t->user = user;
    t->buckets = buckets;
    t->bucket_count = FLOW_BUCKETS_FIRST;
    t->nodes.size = sizeof(struct node);
    t->now_ns = t->review_ns = INT64_MIN;
    struct flow_options *l = &t->limits;
    if (o != NULL)
        *l = *o;
    l->flows_max = l->flows_max == 0 ? FLOW_MAX : l->flows_max;
    l->pending_max = l->pending_max == 0 ? FLOW_PENDING_ALL : l->pending_max;
    l->pending_side_max = l->pending_side_max == 0 ? FLOW_PENDING_SIDE : l->pending_side_max;
    l->idle_ns = l->idle_ns == 0 ? FLOW_IDLE_NS : l->idle_ns;
    l->unanswered_ns = l->unanswered_ns == 0 ? FLOW_UNANSWERED_NS : l->unanswered_ns;
    l->linger_ns = l->linger_ns == 0 ? FLOW_LINGER_NS : l->linger_ns;
    if (l->seed[0] == 0 && l->seed[1] == 0)
        flow_seed(l->seed);
    return t;
}

/* The hash of a packet, which flow_expect may have computed already. */
static uint64_t
flow_hash(struct flow_table *t, const struct packet *p)
{
    uint32_t ports = (uint32_t)p->source_port << 16 | p->target_port;
    while (t->expected_next < t->expected_count) {
        const struct expected *e = &t->expected[t->expected_next];
        if (e->frame > p->frame->number)
            break;
        t->expected_next++;
        if (e->frame == p->frame->number && e->ports == ports)
            return e->hash;
    }
    return hash_ends(t->limits.seed, p);
}

void
flow_push(struct flow_table *t, const struct packet *p)
{
    flow_tick(t, p->frame->time_ns);
    if (p->kind == PACKET_ICMP_ERROR) {
        flow_take_icmp(t, p);
        return;
    }
    if (p->kind != PACKET_TCP)
        return;
    int side = 0;
    uint64_t hash = flow_hash(t, p);
    struct node *n = table_find(t, p, hash, &side);
    if (n != NULL && flow_is_reuse(n, side, p)) {
        flow_close(t, n, flow_quiet_end(t, n, FLOW_IDLE));
        n = NULL;
    }
    if (n == NULL && !flow_is_echo(t, p, hash))
        n = flow_open(t, p, hash, &side);
    if (n != NULL)
        flow_take(t, n, side, p);
}

/* Memory answers after a hundred times as long as the cache, but it answers many at once: three
 * passes of loads that do not wait for each other, first the buckets, then the nodes, then what
 * the next stage has hung on them. */
void
flow_expect(struct flow_table *t, const struct packet *packets, size_t n)
{
    struct node **buckets[CAPTURE_BATCH];
    struct node *nodes[CAPTURE_BATCH];
    volatile unsigned char seen;
    n = n < CAPTURE_BATCH ? n : CAPTURE_BATCH;
    t->expected_count = n;
    t->expected_next = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = hash_ends(t->limits.seed, &packets[i]);
        uint32_t ports = (uint32_t)packets[i].source_port << 16 | packets[i].target_port;
        t->expected[i] = (struct expected){ packets[i].frame->number, hash, ports };
        buckets[i] = &t->buckets[hash & (t->bucket_count - 1)];
    }
    for (size_t i = 0; i < n; i++)
        nodes[i] = *buckets[i];
    for (size_t i = 0; i < n; i++) {
        if (nodes[i] != NULL) {
            const unsigned char *line = (const unsigned char *)nodes[i];
            for (size_t at = 0; at < offsetof(struct node, before); at += POOL_LINE)
                seen = line[at];
        }
    }
    void *users[CAPTURE_BATCH];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (nodes[i] != NULL && nodes[i]->f.user != NULL)
            users[count++] = nodes[i]->f.user;
    }
    (void)seen;
    if (t->ev->soon != NULL)
        t->ev->soon(t->user, users, count);
}

static int
node_compare(const void *a, const void *b)
{
    const struct node *const *x = a;
    const struct node *const *y = b;
    return (*x)->f.number < (*y)->f.number ? -1 : (*x)->f.number > (*y)->f.number;
}

bool
flow_shed(struct flow_table *t)
{
    uint64_t before = t->counts.open;
    flow_evict(t);
    return t->counts.open < before;
}

void
flow_end(struct flow_table *t)
{
    size_t count = 0;
    struct node **all = memory_try(malloc(((size_t)t->counts.open + 1) * sizeof *all));
    for (int i = 0; all != NULL && i < LIST_COUNT; i++) {
        for (struct node *n = t->lists[i].first; n != NULL; n = n->after)
            all[count++] = n;
    }
    if (count > 0)
        qsort(all, count, sizeof *all, node_compare);
    for (size_t i = 0; i < count; i++)
        flow_close(t, all[i], flow_quiet_end(t, all[i], FLOW_CAPTURE_END));
    free(all);
    for (int i = 0; i < LIST_COUNT; i++) {   /* no memory for the order: any order */
        while (t->lists[i].first != NULL) {
            struct node *n = t->lists[i].first;
            flow_close(t, n, flow_quiet_end(t, n, FLOW_CAPTURE_END));
        }
    }
}

void
flow_free(struct flow_table *t)
{
    if (t == NULL)
        return;
    for (int i = 0; i < LIST_COUNT; i++) {
        struct node *n = t->lists[i].first;
        while (n != NULL) {
            struct node *after = n->after;
            path_pending_clear(t, &n->path[0]);
            path_pending_clear(t, &n->path[1]);
            pool_put(&t->nodes, n);
            n = after;
        }
    }
    pool_free(&t->nodes);
    free(t->buckets);
    free(t);
}

struct flow_counts
flow_count(const struct flow_table *t)
{
    return t->counts;
}
