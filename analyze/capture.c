/* capture.c -- files, standard input and interfaces become frames in order of time
 *
 *      file a --pcap----> plain_... -+
 *      file b --pcapng--> ng_... ----+--> the earliest next frame --> ev->frame
 *      eth0   --live----> libpcap ---+
 *
 * Live capture and unusual pcap files are libpcap's.  Ordinary pcap files are read here because
 * that is much faster: frames go down where read() has put them, without a copy.  pcapng is read
 * here: libpcap refuses a file whose interfaces differ in link type or snaplen, and an edge has two
 * interfaces.  What this reader knows of pcapng: several sections of either byte order, interface
 * names and time resolution, enhanced, simple and old packet blocks, direction flags, drop
 * counters, decryption secrets.  Unknown blocks are skipped by their length.
 *
 * Each source holds one frame ready, borrowed from its own buffer; the earliest of them goes down.
 * A damaged source ends where the damage is, a remark says so, and the others go on.
 *
 * Files that are packed come out of the program that unpacks them, through a pipe.
 *
 * Frames that the filter leaves out are counted: numbers are those that Wireshark shows for the
 * file, or for the merged files.
 */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- remarks ---- */

static const struct {
    const char *word, *text;
} remarks[] = {
    [REMARK_FILE_CUT] = { "file-cut", "the file ends in the middle of a record" },
    [REMARK_FILE_DAMAGED] = { "file-damaged",
        "the file is damaged here; what came before was read" },
    [REMARK_LINK_UNKNOWN] = { "link-unknown",
        "packets of a link layer that is not read: capture on a network interface" },
    [REMARK_UNREAD] = { "unread", "what is inside of these packets cannot be read" },
    [REMARK_SNAPLEN] = { "snaplen", "packets were cut when they were captured" },
    [REMARK_DROPS] = { "drops", "the capturing machine dropped packets" },
    [REMARK_CHECKSUM] = { "checksum", "wrong checksums (usual on the sending machine: offload)" },
    [REMARK_PACKET_BAD] = { "packet-bad", "a packet that makes no sense" },
    [REMARK_FRAGMENT_LOST] = { "fragment-lost", "an IP fragment whose other parts are missing" },
    [REMARK_GAP] = { "gap", "bytes of a connection are missing" },
    [REMARK_OVERLAP] = { "overlap", "retransmitted bytes differ from what was sent first" },
    [REMARK_MIDSTREAM] = { "midstream", "the beginning of a connection is not in the capture" },
    [REMARK_ONE_SIDED] = { "one-sided", "only one direction of a connection is in the capture" },
    [REMARK_CEILING_FLOWS] = { "ceiling-flows",
        "too many open connections: the oldest were given up" },
    [REMARK_CEILING_BYTES] = { "ceiling-bytes", "too many bytes out of order: treated as a gap" },
    [REMARK_CEILING_REPORT] = { "ceiling-report",
        "too many attempts to list: the rest is only counted" },
    [REMARK_TIME_BACK] = { "time-back", "time stamps go backwards" },
    [REMARK_DUPLICATE] = { "duplicates",
        "packets are there twice (several interfaces or VLANs, a mirror)" },
    [REMARK_KEYS_UNUSED] = { "keys-unused", "keys were given and fit none of the sessions" },
    [REMARK_CLIENT] = { "client", "XMPP of a client, no federation" },
    [REMARK_CLIENT_TLS] = { "client-tls", "XMPP of a client in TLS (ALPN), no federation" },
    [REMARK_CLIENT_WEBSOCKET] = { "client-websocket",
        "XMPP of a client over WebSocket, no federation" },
    [REMARK_CLIENT_BOSH] = { "client-bosh", "XMPP of a client over HTTP (BOSH), no federation" },
    [REMARK_CLIENT_PORT] = { "client-port",
        "a connection to port 5222 or 5223 that does not say what it is: a client, perhaps" },
    [REMARK_COMPONENT] = { "component", "XMPP of a component of a server, no federation" },
};

const char *
remark_word(enum remark r)
{
    return remarks[r].word;
}

const char *
remark_text(enum remark r)
{
    return remarks[r].text;
}

/* ---- ceilings ---- */

enum {
    CAPTURE_SOURCES_MAX    = 64,             /* files and interfaces of one run: open files */
    CAPTURE_INTERFACES_MAX = 4096,           /* of all files; each costs about 250 bytes */
    CAPTURE_LEGS_MAX       = 256,            /* interface indices told apart in cooked captures */
    CAPTURE_READ_SIZE      = 256 * 1024,     /* one read(); fits the second level cache */
    CAPTURE_READ_MIN       = 64 * 1024,      /* a read() of less is not worth its call */
    CAPTURE_BLOCK_MAX      = 16 * 1024 * 1024, /* pcapng block; Wireshark's limit too */
    CAPTURE_SNAPLEN        = 262144,         /* libpcap's largest */
    CAPTURE_STORE          = 128 * 1024,     /* bytes of a batch of libpcap's; fits the cache */
    CAPTURE_LIVE_BUFFER    = 16 * 1024 * 1024, /* of the kernel: half a second at 250 Mbit/s */
    CAPTURE_LIVE_WAIT_MS   = 250,            /* the kernel keeps a block that is not full so long */
    CAPTURE_QUIET_ENOUGH   = 2               /* so many waits without a frame: it keeps none */
};

/* LINKTYPE_* values of which the reader itself must know something. */
enum { LINK_ETHERNET = 1, LINK_RAW = 101, LINK_SLL = 113, LINK_SLL2 = 276 };

/* ---- structs ---- */

/* An interface of the run, and under it the ones that a cooked capture names by index. */
struct leg {
    struct capture_interface info;
    uint32_t                 parent;     /* index of the interface it is part of; itself: none */
    uint32_t                 ifindex;    /* SLL2 interface index, when it has a parent */
};

/* What a pcapng section says about one of its interfaces. */
struct ng_interface {
    uint32_t           leg;              /* index over all files */
    int                link;
    uint32_t           snaplen;          /* 0: no limit */
    uint64_t           units;            /* time stamp units a second */
    uint64_t           scale;            /* nanoseconds a unit; 0: not a whole number */
    int64_t            offset_s;         /* to be added to time stamps, seconds */
    uint64_t           drops_block;      /* drops told by packets so far */
    uint64_t           drops_stats;      /* drops told by statistics so far */
    struct bpf_program program;          /* owned; of zeros: none */
    bool               unfit;            /* the filter cannot be expressed for this link */
};

struct ng {
    bool                 section;        /* a section header has been read */
    struct ng_interface *interfaces;     /* owned; of this section */
    size_t               count;
};

/* Bytes of a file that is read here. */
struct intake {
    int                  fd;             /* owned */
    bool                 eof;
    bool                 swap;           /* numbers have the other byte order */
    unsigned char       *buf;            /* owned; NULL: libpcap reads */
    size_t               cap, start, end;
};

/* What the header of an ordinary pcap file says. */
struct plain {
    int64_t              scale;          /* nanoseconds a unit */
    size_t               snaplen;
};

enum source_result { SOURCE_FRAME, SOURCE_NOTHING, SOURCE_END };

struct source {
    struct capture_file info;            /* info.name is owned here */
    pcap_t             *pcap;            /* owned; LIVE and unusual PCAP */
    struct intake       in;              /* PCAPNG and ordinary PCAP */
    struct plain        plain;           /* ordinary PCAP */
    struct ng           ng;              /* PCAPNG */
    uint32_t            leg;             /* PCAP and LIVE: its interface */
    struct bpf_program  program;         /* owned; of zeros: none; PCAP */
    bool                done;
    bool                back_told;       /* time stamps go backwards: told */
    bool                ready;           /* next is valid */
    bool                passes;          /* next passes the filter */
    struct frame        next;
    uint64_t            live_drops;      /* LIVE: told so far */
    pcap_dumper_t      *copy;            /* owned; LIVE; NULL: none */
    pid_t               unpacker;        /* what the file comes through; 0: nothing */
};

struct capture {
    const struct capture_events *ev;     /* borrowed */
    void                        *user;
    char                        *filter; /* owned; empty: none */
    int                          snaplen;
    const char                  *write;  /* borrowed; where a copy goes; NULL: nowhere */
    bool                         live;   /* at least one source is an interface */
    uint64_t                     number; /* of the last frame */
    volatile sig_atomic_t        stop;
    int64_t                      stopped_ns; /* when that was seen, in time of frames; 0: not yet */
    unsigned                     quiet;      /* waits since then in which nothing came */
    struct source               *sources[CAPTURE_SOURCES_MAX];   /* owned */
    size_t                       source_count;
    struct leg                 **legs;   /* owned, each too: addresses are given away */
    size_t                       leg_count;
    size_t                       cooked_count;
    struct frame                 batch[CAPTURE_BATCH];   /* what goes down next */
    size_t                       batch_count;
    bool                         crowded;    /* the batch must go before more can be read */
    unsigned char               *store;  /* owned; bytes of the batch that come from libpcap */
    size_t                       stored;
};

/* ---- news ---- */

static void
capture_tell(struct capture *c, enum remark r, const struct source *s, const char *what)
{
    if (c->ev->remark == NULL)
        return;
    char detail[320];
    snprintf(detail, sizeof detail, "%.120s: %.180s", s->info.name, what);
    c->ev->remark(c->user, r, c->number, detail);
}

static void
capture_tell_drops(struct capture *c, uint32_t leg, uint64_t n)
{
    if (n == 0)
        return;
    c->legs[leg]->info.drops += n;
    if (c->ev->drops != NULL)
        c->ev->drops(c->user, leg, n);
}

/* The source ends here; what came before counts. */
static enum source_result
source_damaged(struct capture *c, struct source *s, const char *what)
{
    s->info.damaged = true;
    s->done = true;
    capture_tell(c, REMARK_FILE_DAMAGED, s, what);
    return SOURCE_END;
}

static enum source_result
source_cut(struct capture *c, struct source *s, const char *what)
{
    s->done = true;
    if (c->stop)
        return SOURCE_END;     /* we ended it ourselves in the middle of a read */
    s->info.cut = true;
    capture_tell(c, REMARK_FILE_CUT, s, what);
    return SOURCE_END;
}

/* ---- interfaces ---- */

/* A new interface; CAPTURE_INTERFACES_MAX when there is no room for it. */
static uint32_t
capture_leg_add(struct capture *c, uint32_t file, int link, uint32_t snaplen)
{
    if (c->leg_count == CAPTURE_INTERFACES_MAX)
        return CAPTURE_INTERFACES_MAX;
    struct leg **legs = list_grow(c->legs, c->leg_count, sizeof *legs);
    if (legs == NULL)
        return CAPTURE_INTERFACES_MAX;
    c->legs = legs;
    struct leg *leg = memory_try(calloc(1, sizeof *leg));
    if (leg == NULL)
        return CAPTURE_INTERFACES_MAX;
    leg->info.file = file;
    leg->info.link = link;
    leg->info.snaplen = snaplen;
    leg->parent = (uint32_t)c->leg_count;
    c->legs[c->leg_count] = leg;
    return (uint32_t)c->leg_count++;
}

/* The interface that a frame of a cooked capture names by its index (LINKTYPE_LINUX_SLL2: four
 * bytes in network order at offset 4).  This separates the two legs that "any" is on an edge. */
static uint32_t
capture_leg_cooked(struct capture *c, uint32_t parent, uint32_t ifindex)
{
    for (size_t i = parent + 1; i < c->leg_count; i++) {
        if (c->legs[i]->parent == parent && c->legs[i]->ifindex == ifindex)
            return (uint32_t)i;
    }
    if (c->cooked_count == CAPTURE_LEGS_MAX)
        return parent;
    const struct capture_interface *above = &c->legs[parent]->info;
    uint32_t at = capture_leg_add(c, above->file, above->link, above->snaplen);
    if (at == CAPTURE_INTERFACES_MAX)
        return parent;
    c->cooked_count++;
    c->legs[at]->parent = parent;
    c->legs[at]->ifindex = ifindex;
    snprintf(c->legs[at]->info.name, sizeof c->legs[at]->info.name, "%.40s%sindex %u", above->name,
        above->name[0] == '\0' ? "" : ", ", ifindex);
    return at;
}

/* Direction and interface as the pseudo header of a cooked capture tells them. */
static void
capture_cooked(struct capture *c, struct frame *f)
{
    if (f->link == LINK_SLL2 && f->captured >= 20) {
        const unsigned char *p = f->bytes;
        uint32_t ifindex = (uint32_t)p[4] << 24 | (uint32_t)p[5] << 16 | (uint32_t)p[6] << 8 | p[7];
        f->interface = capture_leg_cooked(c, f->interface, ifindex);
    }
    if (f->direction != 0)
        return;
    /* packet type: 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent by us */
    int type = 3;
    if (f->link == LINK_SLL && f->captured >= 2)
        type = f->bytes[0] << 8 | f->bytes[1];
    else if (f->link == LINK_SLL2 && f->captured >= 20)
        type = f->bytes[10];
    f->direction = type == 4 ? 2 : type < 3 ? 1 : 0;
}

/* ---- filter ---- */

/* The platform's number of a link layer in files, where they differ, and back. */
static int
link_of_dlt(int dlt)
{
    return dlt == DLT_RAW || dlt == 12 || dlt == 14 ? LINK_RAW : dlt;
}

static int
link_to_dlt(int link)
{
    return link == LINK_RAW ? DLT_RAW : link;
}

/* Compiles for one link layer; false: why says what. */
static bool
filter_compile(const char *filter, int link, struct bpf_program *out, char *why, size_t why_size)
{
    pcap_t *dead = pcap_open_dead(link_to_dlt(link), CAPTURE_SNAPLEN);
    if (dead == NULL) {
        snprintf(why, why_size, "no memory");
        return false;
    }
    bool ok = pcap_compile(dead, out, filter, 1, PCAP_NETMASK_UNKNOWN) == 0;
    if (!ok)
        snprintf(why, why_size, "%s", pcap_geterr(dead));
    pcap_close(dead);
    return ok;
}

static bool
filter_passes(const struct bpf_program *program, const struct frame *f)
{
    struct pcap_pkthdr h;
    if (program->bf_insns == NULL)
        return true;
    memset(&h, 0, sizeof h);
    h.caplen = (bpf_u_int32)f->captured;
    h.len = (bpf_u_int32)f->length;
    return pcap_offline_filter(program, &h, f->bytes) != 0;
}

/* The next frame of a source has its bytes: where it is from, and does it pass? */
static void
source_found(struct source *s, uint32_t leg, int link, const struct bpf_program *program)
{
    s->next.interface = leg;
    s->next.link = link;
    s->next.direction = 0;
    s->passes = filter_passes(program, &s->next);
    s->ready = true;
}

/* A filter that no common link layer understands is a mistake of whoever typed it: better said
 * at once than per file. */
static bool
filter_check(const char *filter, char *why, size_t why_size)
{
    struct bpf_program program;
    if (!filter_compile(filter, LINK_ETHERNET, &program, why, why_size)
        && !filter_compile(filter, LINK_SLL, &program, why, why_size))
        return false;
    pcap_freecode(&program);
    return true;
}

/* ---- bytes of files ---- */

static uint16_t
in_u16(const struct intake *in, const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    unsigned w = v;
    return (uint16_t)(in->swap ? w >> 8 | (w << 8 & 0xFF00) : w);
}

static uint32_t
in_u32(const struct intake *in, const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    if (in->swap)
        v = v >> 24 | (v >> 8 & 0xFF00) | (v << 8 & 0xFF0000) | v << 24;
    return v;
}

static uint64_t
in_u64(const struct intake *in, const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    if (in->swap)
        v = (uint64_t)in_u32(in, p) << 32 | in_u32(in, p + 4);
    return v;
}

static bool
in_open(struct intake *in, int fd, int first)
{
    in->fd = fd;
    in->cap = CAPTURE_READ_SIZE + CAPTURE_READ_MIN;
    in->buf = memory_try(malloc(in->cap));
    if (in->buf == NULL)
        return false;
    in->buf[0] = (unsigned char)first;
    in->end = 1;
    return true;
}

/* Makes room for `need` bytes from start on, and for a read() that is worth it.  Frames of the
 * batch lie in the buffer: before it is moved they must have gone down. */
static bool
in_room(struct capture *c, struct intake *in, size_t need)
{
    if (in->cap - in->start >= need && in->cap - in->end >= CAPTURE_READ_MIN)
        return true;
    if (c->batch_count > 0) {
        c->crowded = true;
        return false;
    }
    size_t have = in->end - in->start;
    if (have > 0)
        memmove(in->buf, in->buf + in->start, have);
    in->start = 0;
    in->end = have;
    if (in->cap >= need && in->cap - in->end >= CAPTURE_READ_MIN)
        return true;
    size_t cap = need + CAPTURE_READ_SIZE;
    unsigned char *buf = memory_try(realloc(in->buf, cap));
    if (buf == NULL)
        return false;
    in->buf = buf;
    in->cap = cap;
    return true;
}

/* At least `need` bytes in the buffer; false at the end of the file, or when the batch must go
 * first.  A pipe gives what it has: frames are not held back until a block is full. */
static bool
in_need(struct capture *c, struct intake *in, size_t need)
{
    while (in->end - in->start < need) {
        if (in->eof || !in_room(c, in, need))
            return false;
        ssize_t got = read(in->fd, in->buf + in->end, in->cap - in->end);
        if (got < 0 && errno == EINTR && !c->stop)
            continue;
        if (got <= 0) {
            in->eof = true;
            return false;
        }
        in->end += (size_t)got;
    }
    return true;
}

/* ---- pcapng: options ---- */

struct ng_option {
    uint16_t             code;
    uint16_t             len;
    const unsigned char *at;
};

/* The next option of a block; false at the end of them, or where they make no sense. */
static bool
ng_option_next(const struct intake *in, const unsigned char **at, const unsigned char *end,
    struct ng_option *o)
{
    if (end - *at < 4)
        return false;
    o->code = in_u16(in, *at);
    o->len = in_u16(in, *at + 2);
    o->at = *at + 4;
    size_t padded = ((size_t)o->len + 3) & ~(size_t)3;
    if (o->code == 0 || (size_t)(end - o->at) < o->len)
        return false;
    *at = (size_t)(end - o->at) < padded ? end : o->at + padded;
    return true;
}

static void
ng_option_text(const struct ng_option *o, char *out, size_t size)
{
    size_t len = 0;
    while (len < o->len && len + 1 < size && o->at[len] != 0) {
        out[len] = o->at[len] < 0x20 || o->at[len] == 0x7F ? '?' : (char)o->at[len];
        len++;
    }
    out[len] = '\0';
}

/* if_tsoffset: a few centuries either way; more would overflow nanoseconds. */
static void
ng_offset(struct ng_interface *i, uint64_t seconds)
{
    const uint64_t most = UINT64_C(4000000000);
    i->offset_s = 0;
    if (seconds < most)
        i->offset_s = (int64_t)seconds;
    else if (seconds > UINT64_MAX - most)
        i->offset_s = -(int64_t)(UINT64_MAX - seconds) - 1;
}

/* if_tsresol: a negative power of ten, or of two when the highest bit is set. */
static void
ng_resolution(struct ng_interface *i, unsigned char code)
{
    unsigned power = code & 0x7F;
    bool two = (code & 0x80) != 0;
    uint64_t units = 1;
    unsigned most = two ? 62 : 18;     /* more does not fit, and nobody has it */
    for (unsigned k = 0; k < power && k < most; k++)
        units *= two ? 2 : 10;
    i->units = units;
    i->scale = (uint64_t)SECOND % units == 0 ? (uint64_t)SECOND / units : 0;
}

static int64_t
ng_time(const struct ng_interface *i, uint32_t high, uint32_t low)
{
    uint64_t ts = (uint64_t)high << 32 | low;
    uint64_t ceiling = (uint64_t)INT64_MAX / 2;
    uint64_t ns;
    if (i->scale != 0) {
        ns = ts < ceiling / i->scale ? ts * i->scale : ceiling;
    } else {
        uint64_t s = ts / i->units;
        uint64_t rest = ts % i->units;
        long double part = (long double)rest * (long double)SECOND / (long double)i->units;
        ns = s < ceiling / (uint64_t)SECOND ? s * (uint64_t)SECOND + (uint64_t)part : ceiling;
    }
    /* between 1970 and 2116, so that differences of times never overflow */
    int64_t time_ns = (int64_t)ns + i->offset_s * SECOND;
    return time_ns < 0 ? 0 : time_ns > INT64_MAX / 2 ? INT64_MAX / 2 : time_ns;
}

/* ---- pcapng: blocks ---- */

enum {
    NG_SECTION = 0x0A0D0D0A, NG_INTERFACE = 1, NG_PACKET_OLD = 2, NG_PACKET_SIMPLE = 3,
    NG_STATISTICS = 5, NG_PACKET = 6, NG_SECRETS = 10
};

struct ng_block {
    uint32_t             type;
    const unsigned char *at;    /* body, without the frame of lengths */
    size_t               len;
};

static void
ng_section_forget(struct ng *n)
{
    for (size_t i = 0; i < n->count; i++)
        pcap_freecode(&n->interfaces[i].program);
    n->count = 0;
}

/* A section starts: its byte order and version.  NULL, or what is wrong. */
static const char *
ng_section(struct source *s, const struct ng_block *b)
{
    if (b->len < 16)
        return "a section header is too short";
    uint16_t major = in_u16(&s->in, b->at + 4);
    if (major != 1)
        return "a pcapng version that is not known";
    ng_section_forget(&s->ng);
    s->ng.section = true;
    return NULL;
}

static void
ng_interface_options(const struct intake *in, const struct ng_block *b, struct ng_interface *i,
    struct capture_interface *info)
{
    const unsigned char *at = b->at + 8;
    struct ng_option o;
    while (ng_option_next(in, &at, b->at + b->len, &o)) {
        if (o.code == 2)
            ng_option_text(&o, info->name, sizeof info->name);
        else if (o.code == 3)
            ng_option_text(&o, info->description, sizeof info->description);
        else if (o.code == 9 && o.len >= 1)
            ng_resolution(i, o.at[0]);
        else if (o.code == 14 && o.len >= 8)
            ng_offset(i, in_u64(in, o.at));
    }
}

static void
ng_interface_filter(struct capture *c, struct source *s, struct ng_interface *i)
{
    char why[PCAP_ERRBUF_SIZE];
    if (c->filter[0] == '\0')
        return;
    i->unfit = !filter_compile(c->filter, i->link, &i->program, why, sizeof why);
    if (i->unfit) {
        char what[200];
        snprintf(what, sizeof what, "interface %u is left out, the filter does not fit it: %.120s",
            i->leg, why);
        capture_tell(c, REMARK_LINK_UNKNOWN, s, what);
    }
}

static const char *
ng_interface(struct capture *c, struct source *s, uint32_t file, const struct ng_block *b)
{
    const struct intake *in = &s->in;
    struct ng *n = &s->ng;
    if (b->len < 8)
        return "an interface description is too short";
    struct ng_interface *more = list_grow(n->interfaces, n->count, sizeof *more);
    if (more == NULL)
        return "no memory";
    n->interfaces = more;
    struct ng_interface *i = &n->interfaces[n->count];
    memset(i, 0, sizeof *i);
    i->link = link_of_dlt(in_u16(in, b->at));   /* 12 and 14 stand in files, too */
    i->snaplen = in_u32(in, b->at + 4);
    ng_resolution(i, 6);
    i->leg = capture_leg_add(c, file, i->link, i->snaplen);
    if (i->leg == CAPTURE_INTERFACES_MAX)
        return "too many interfaces";
    ng_interface_options(in, b, i, &c->legs[i->leg]->info);
    ng_interface_filter(c, s, i);
    n->count++;
    return NULL;
}

/* isb_ifdrop and isb_osdrop count from the start of the capture. */
static void
ng_statistics(struct capture *c, struct source *s, const struct ng_block *b)
{
    const struct intake *in = &s->in;
    struct ng *n = &s->ng;
    if (b->len < 12 || in_u32(in, b->at) >= n->count)
        return;
    struct ng_interface *i = &n->interfaces[in_u32(in, b->at)];
    const unsigned char *at = b->at + 12;
    struct ng_option o;
    uint64_t drops = 0;
    while (ng_option_next(in, &at, b->at + b->len, &o)) {
        if ((o.code == 5 || o.code == 7) && o.len >= 8)
            drops += in_u64(in, o.at);
    }
    /* packets may have told the same drops one by one: only what is more is news */
    uint64_t told = i->drops_block > i->drops_stats ? i->drops_block : i->drops_stats;
    i->drops_stats = drops > i->drops_stats ? drops : i->drops_stats;
    capture_tell_drops(c, i->leg, drops > told ? drops - told : 0);
}

static void
ng_drops(struct capture *c, struct ng_interface *i, uint64_t n)
{
    uint64_t told = i->drops_block > i->drops_stats ? i->drops_block : i->drops_stats;
    i->drops_block += n;
    capture_tell_drops(c, i->leg, i->drops_block > told ? i->drops_block - told : 0);
}

static void
ng_secrets(struct capture *c, const struct intake *in, const struct ng_block *b)
{
    if (b->len < 8 || in_u32(in, b->at) != 0x544C534B)     /* "TLSK": NSS key log */
        return;
    size_t len = in_u32(in, b->at + 4);
    if (len <= b->len - 8 && c->ev->keys != NULL)
        c->ev->keys(c->user, (const char *)b->at + 8, len);
}

static void
ng_packet_options(struct capture *c, const struct intake *in, struct ng_interface *i,
    struct frame *f, const unsigned char *at, const unsigned char *end)
{
    struct ng_option o;
    while (ng_option_next(in, &at, end, &o)) {
        if (o.code == 2 && o.len == 4) {           /* epb_flags */
            unsigned direction = in_u32(in, o.at) & 3;
            f->direction = direction == 3 ? 0 : (int)direction;
        } else if (o.code == 4 && o.len == 8) {    /* epb_dropcount */
            ng_drops(c, i, in_u64(in, o.at));
        }
    }
}

/* The next frame has its bytes and is of this interface. */
static void
ng_found(struct source *s, const struct ng_interface *i)
{
    source_found(s, i->leg, i->link, &i->program);
    s->passes = s->passes && !i->unfit;
}

static const char *
ng_packet(struct capture *c, struct source *s, const struct ng_block *b)
{
    const struct intake *in = &s->in;
    struct ng *n = &s->ng;
    if (b->len < 20)
        return "a packet block is too short";
    bool old = b->type == NG_PACKET_OLD;
    uint32_t id = old ? in_u16(in, b->at) : in_u32(in, b->at);
    if (id >= n->count)
        return "a packet of an interface that was not described";
    struct ng_interface *i = &n->interfaces[id];
    struct frame *f = &s->next;
    f->captured = in_u32(in, b->at + 12);
    f->length = in_u32(in, b->at + 16);
    if (f->captured > b->len - 20)
        return "a packet is longer than its block";
    f->time_ns = ng_time(i, in_u32(in, b->at + 4), in_u32(in, b->at + 8));
    f->bytes = b->at + 20;
    ng_found(s, i);
    if (old && in_u16(in, b->at + 2) != 0xFFFF)
        ng_drops(c, i, in_u16(in, b->at + 2));
    size_t padded = (f->captured + 3) & ~(size_t)3;
    if (b->len - 20 > padded)
        ng_packet_options(c, in, i, f, b->at + 20 + padded, b->at + b->len);
    return NULL;
}

/* A simple packet names neither time nor interface: those of the packet before, and the first. */
static const char *
ng_packet_simple(struct source *s, const struct ng_block *b)
{
    struct ng *n = &s->ng;
    if (b->len < 4)
        return "a packet block is too short";
    if (n->count == 0)
        return "a packet of an interface that was not described";
    struct ng_interface *i = &n->interfaces[0];
    struct frame *f = &s->next;
    f->length = in_u32(&s->in, b->at);
    f->captured = b->len - 4 < f->length ? b->len - 4 : f->length;
    if (i->snaplen != 0 && f->captured > i->snaplen)
        f->captured = i->snaplen;
    f->bytes = b->at + 4;
    ng_found(s, i);
    return NULL;
}

static const char *
ng_block_take(struct capture *c, struct source *s, const struct ng_block *b)
{
    switch (b->type) {
    case NG_SECTION:
        return ng_section(s, b);
    case NG_INTERFACE:
        return ng_interface(c, s, s->next.file, b);
    case NG_PACKET:
    case NG_PACKET_OLD:
        return ng_packet(c, s, b);
    case NG_PACKET_SIMPLE:
        return ng_packet_simple(s, b);
    case NG_STATISTICS:
        ng_statistics(c, s, b);
        return NULL;
    case NG_SECRETS:
        ng_secrets(c, &s->in, b);
        return NULL;
    default:
        return NULL;     /* names, comments, other people's blocks */
    }
}

/* A section header is told by a type that reads the same in both byte orders; the magic after it
 * says which one. */
static bool
ng_byte_order(struct intake *in, const unsigned char *p)
{
    uint32_t magic;
    memcpy(&magic, p + 8, sizeof magic);
    if (magic != 0x1A2B3C4D && magic != 0x4D3C2B1A)
        return false;
    in->swap = magic == 0x4D3C2B1A;
    return true;
}

/* The next block; SOURCE_FRAME: b is valid until the next call. */
static enum source_result
ng_block_next(struct capture *c, struct source *s, struct ng_block *b)
{
    struct intake *in = &s->in;
    if (!in_need(c, in, 12)) {
        if (c->crowded)
            return SOURCE_NOTHING;
        if (in->end > in->start)
            return source_cut(c, s, "the file ends in the middle of a block");
        s->done = true;
        return SOURCE_END;
    }
    b->type = in_u32(in, in->buf + in->start);
    if (b->type == NG_SECTION && !ng_byte_order(in, in->buf + in->start))
        return source_damaged(c, s, "a section header without its magic number");
    if (b->type != NG_SECTION && !s->ng.section)
        return source_damaged(c, s, "no section header");
    size_t len = in_u32(in, in->buf + in->start + 4);
    if (len < 12 || len % 4 != 0 || len > CAPTURE_BLOCK_MAX)
        return source_damaged(c, s, "a block with an impossible length");
    if (!in_need(c, in, len)) {
        return c->crowded ? SOURCE_NOTHING
            : source_cut(c, s, "the file ends in the middle of a block");
    }
    const unsigned char *p = in->buf + in->start;
    if (in_u32(in, p + len - 4) != len)
        return source_damaged(c, s, "a block whose two lengths differ");
    b->at = p + 8;
    b->len = len - 12;
    in->start += len;
    return SOURCE_FRAME;
}

static enum source_result
ng_fetch(struct capture *c, struct source *s)
{
    struct ng_block b = { 0 };
    while (!s->ready) {
        enum source_result r = ng_block_next(c, s, &b);
        if (r != SOURCE_FRAME)
            return r;
        const char *wrong = ng_block_take(c, s, &b);
        if (wrong != NULL)
            return source_damaged(c, s, wrong);
    }
    return SOURCE_FRAME;
}

/* ---- libpcap ---- */

static int64_t
pcap_time(const struct pcap_pkthdr *h)
{
    /* unsigned in the file, good until 2106: libpcap hands on what looks negative */
    int64_t s = (int64_t)(uint32_t)h->ts.tv_sec;
    int64_t ns = (int64_t)h->ts.tv_usec;
    return s * SECOND + (ns < 0 ? 0 : ns >= SECOND ? SECOND - 1 : ns);
}

static void
pcap_tell_drops(struct capture *c, struct source *s)
{
    struct pcap_stat stat;
    if (s->info.format != CAPTURE_LIVE || pcap_stats(s->pcap, &stat) != 0)
        return;
    uint64_t drops = (uint64_t)stat.ps_drop + stat.ps_ifdrop;
    if (drops > s->live_drops) {
        capture_tell_drops(c, s->leg, drops - s->live_drops);
        s->live_drops = drops;
    }
}

/* What is buffered goes to the file; a full disk is told, and ends the capture. */
static bool
pcap_copy_is_good(struct source *s)
{
    return s->copy == NULL || (pcap_dump_flush(s->copy) == 0 && !ferror(pcap_dump_file(s->copy)));
}

static enum source_result
pcap_ended(struct capture *c, struct source *s, int result)
{
    if (result == 0)
        return SOURCE_NOTHING;
    pcap_tell_drops(c, s);
    if (!pcap_copy_is_good(s))
        return source_damaged(c, s, "the copy cannot be written");
    if (result == PCAP_ERROR_BREAK) {
        s->done = true;
        return SOURCE_END;
    }
    const char *what = pcap_geterr(s->pcap);
    return strncmp(what, "truncated", 9) == 0 ? source_cut(c, s, what) : source_damaged(c, s, what);
}

/* pcap_next_ex, which also ends where the run was stopped: at a frame that is younger, or when the
 * kernel has handed over the block of frames that was open then. */
static int
pcap_next_frame(const struct capture *c, struct source *s, struct pcap_pkthdr **h,
    const unsigned char **bytes)
{
    int result = pcap_next_ex(s->pcap, h, bytes);
    bool over = result == 0 ? c->quiet >= CAPTURE_QUIET_ENOUGH
        : result == 1 && pcap_time(*h) > c->stopped_ns;
    return c->stopped_ns != 0 && over ? PCAP_ERROR_BREAK : result;
}

static enum source_result
pcap_fetch(struct capture *c, struct source *s)
{
    struct pcap_pkthdr *h;
    const unsigned char *bytes;
    int result = pcap_next_frame(c, s, &h, &bytes);
    if (result != 1)
        return pcap_ended(c, s, result);
    if (s->copy != NULL) {
        pcap_dump((unsigned char *)s->copy, h, bytes);
        if (ferror(pcap_dump_file(s->copy)))
            return source_damaged(c, s, "the copy cannot be written");
    }
    struct frame *f = &s->next;
    f->time_ns = pcap_time(h);
    f->bytes = bytes;
    f->captured = h->caplen;
    f->length = h->len;
    source_found(s, s->leg, c->legs[s->leg]->info.link, &s->program);
    return SOURCE_FRAME;
}

/* ---- ordinary pcap files ---- */

enum { PLAIN_HEADER = 24, PLAIN_RECORD = 16 };

#define PLAIN_MAGIC_MICRO UINT32_C(0xA1B2C3D4)
#define PLAIN_MAGIC_NANO  UINT32_C(0xA1B23C4D)

/* The header of the file; false: let libpcap have a look at it.  Link layers are only those that
 * every libpcap calls by the number in the file and of which it does not touch the bytes. */
static bool
plain_header(struct source *s, uint32_t *link)
{
    struct intake *in = &s->in;
    const unsigned char *p = in->buf + in->start;
    in->swap = false;
    if (in_u32(in, p) != PLAIN_MAGIC_MICRO && in_u32(in, p) != PLAIN_MAGIC_NANO)
        in->swap = true;
    uint32_t magic = in_u32(in, p);
    uint32_t snaplen = in_u32(in, p + 16);
    *link = in_u32(in, p + 20);
    bool known = *link == LINK_ETHERNET || *link == LINK_RAW || *link == LINK_SLL
        || *link == LINK_SLL2;
    s->plain.scale = magic == PLAIN_MAGIC_NANO ? 1 : 1000;
    s->plain.snaplen = snaplen == 0 || snaplen > INT32_MAX ? CAPTURE_SNAPLEN : snaplen;
    return known && (magic == PLAIN_MAGIC_MICRO || magic == PLAIN_MAGIC_NANO)
        && in_u16(in, p + 4) == 2 && in_u16(in, p + 6) == 4;
}

static enum source_result
plain_ended(struct capture *c, struct source *s, size_t need, const char *what)
{
    char text[120];
    size_t have = s->in.end - s->in.start;
    if (c->crowded)
        return SOURCE_NOTHING;
    if (have == 0 && need == PLAIN_RECORD) {
        s->done = true;
        return SOURCE_END;
    }
    size_t head = need == PLAIN_RECORD ? 0 : PLAIN_RECORD;
    size_t wanted = need - head;
    if (wanted > s->plain.snaplen && have - head < s->plain.snaplen)
        wanted = s->plain.snaplen;             /* the words of libpcap, which reads so much first */
    snprintf(text, sizeof text, "truncated dump file; tried to read %zu %s bytes, only got %zu",
        wanted, what, have - head);
    return source_cut(c, s, text);
}

/* Microseconds and seconds as libpcap takes them from the file: seconds are unsigned, good until
 * 2106; the rest may look negative. */
static int64_t
plain_time(const struct source *s, const unsigned char *p)
{
    uint32_t rest = in_u32(&s->in, p + 4);
    int64_t ns = rest > INT32_MAX && !s->in.swap ? 0 : (int64_t)rest * s->plain.scale;
    return (int64_t)in_u32(&s->in, p) * SECOND + (ns >= SECOND ? SECOND - 1 : ns);
}

static enum source_result
plain_fetch(struct capture *c, struct source *s)
{
    struct intake *in = &s->in;
    if (!in_need(c, in, PLAIN_RECORD))
        return plain_ended(c, s, PLAIN_RECORD, "header");
    size_t captured = in_u32(in, in->buf + in->start + 8);
    if (captured > CAPTURE_SNAPLEN) {
        char text[120];
        bool over = captured > s->plain.snaplen;
        snprintf(text, sizeof text, "invalid packet capture length %zu, bigger than %s of %zu",
            captured, over ? "snaplen" : "maximum",
            over ? s->plain.snaplen : (size_t)CAPTURE_SNAPLEN);
        return source_damaged(c, s, text);
    }
    if (!in_need(c, in, PLAIN_RECORD + captured))
        return plain_ended(c, s, PLAIN_RECORD + captured, "captured");
    const unsigned char *p = in->buf + in->start;
    struct frame *f = &s->next;
    in->start += PLAIN_RECORD + captured;
    f->time_ns = plain_time(s, p);
    f->bytes = p + PLAIN_RECORD;
    f->captured = captured < s->plain.snaplen ? captured : s->plain.snaplen;
    f->length = in_u32(in, p + 12);
    source_found(s, s->leg, c->legs[s->leg]->info.link, &s->program);
    return SOURCE_FRAME;
}

/* ---- packed files ---- */

/* All of them unpack standard input with -dc. */
static const struct packer {
    const char *magic, *program;
} packers[] = {
    { "\x1F\x8B", "gzip" },
    { "\x28\xB5\x2F\xFD", "zstd" },
    { "\xFD" "7zX", "xz" },
    { "BZh", "bzip2" },
    { "\x04\x22\x4D\x18", "lz4" }
};

/* Of a file that begins so; NULL: it is not packed. */
static const char *
packer_of(const char *start, size_t len)
{
    for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++) {
        size_t n = strlen(packers[i].magic);
        if (memcmp(start, packers[i].magic, n < len ? n : len) == 0)
            return packers[i].program;
    }
    return NULL;
}

/* The program runs, and *fd is what comes out of it. */
static bool
source_unpack(struct source *s, const char *program, int *fd, char *why, size_t why_size)
{
    int way[2];
    if (lseek(*fd, 0, SEEK_SET) != 0 || pipe(way) != 0) {
        snprintf(why, why_size, "%s", strerror(errno));
        return false;
    }
    fcntl(way[0], F_SETFD, FD_CLOEXEC);
    s->unpacker = fork();
    if (s->unpacker == 0) {
        signal(SIGPIPE, SIG_DFL);          /* nobody reads any more: it ends */
        if (dup2(*fd, STDIN_FILENO) >= 0 && dup2(way[1], STDOUT_FILENO) >= 0)
            execlp(program, program, "-dc", (char *)NULL);
        _exit(127);
    }
    close(way[1]);
    if (s->unpacker < 0) {
        snprintf(why, why_size, "%s", strerror(errno));
        close(way[0]);
        return false;
    }
    close(*fd);
    *fd = way[0];
    return true;
}

/* What it ended with; 0: well, or there was none.  Nothing comes from it any more. */
static int
source_unpacked(struct source *s)
{
    int status = 0;
    if (s->unpacker > 0) {
        while (waitpid(s->unpacker, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    s->unpacker = 0;
    return status;
}

/* ---- sources ---- */

/* Makes the next frame of a source ready. */
static enum source_result
source_fetch(struct capture *c, struct source *s)
{
    if (s->ready)
        return SOURCE_FRAME;
    if (s->done)
        return SOURCE_END;
    int64_t before = s->next.time_ns;
    enum source_result r;
    if (s->pcap != NULL)
        r = pcap_fetch(c, s);
    else
        r = s->info.format == CAPTURE_PCAPNG ? ng_fetch(c, s) : plain_fetch(c, s);
    if (r == SOURCE_END && !c->stop && !s->info.damaged && !s->info.cut
        && source_unpacked(s) != 0)
        return source_damaged(c, s, "it could not be unpacked as a whole");
    if (r != SOURCE_FRAME)
        return r;
    struct frame *f = &s->next;
    f->length = f->length < f->captured ? f->captured : f->length;
    if (f->link == LINK_SLL || f->link == LINK_SLL2)
        capture_cooked(c, f);
    if (s->info.frames > 0 && f->time_ns < before && !s->back_told) {
        s->back_told = true;
        capture_tell(c, REMARK_TIME_BACK, s, "a frame is older than the one before");
    }
    return SOURCE_FRAME;
}

static void
source_free(struct source *s)
{
    if (s == NULL)
        return;
    pcap_freecode(&s->program);
    if (s->copy != NULL)
        pcap_dump_close(s->copy);
    if (s->pcap != NULL)
        pcap_close(s->pcap);
    ng_section_forget(&s->ng);
    free(s->ng.interfaces);
    if (s->in.buf != NULL) {
        free(s->in.buf);
        close(s->in.fd);
    }
    source_unpacked(s);
    free((char *)s->info.name);
    free(s);
}

/* A source with a name and nothing else; NULL: why says what. */
static struct source *
source_new(const struct capture *c, const char *name, char *why, size_t why_size)
{
    if (c->source_count == CAPTURE_SOURCES_MAX) {
        snprintf(why, why_size, "more than %d files", CAPTURE_SOURCES_MAX);
        return NULL;
    }
    struct source *s = memory_try(calloc(1, sizeof *s));
    size_t len = strlen(name);
    char *copy = memory_try(malloc(len + 1));
    if (s == NULL || copy == NULL) {
        free(s);
        free(copy);
        snprintf(why, why_size, "no memory");
        return NULL;
    }
    memcpy(copy, name, len + 1);
    s->info.name = copy;
    s->next.file = (uint32_t)c->source_count;
    return s;
}

/* The only interface of a source. */
static bool
source_leg(struct capture *c, struct source *s, int link, uint32_t snaplen, char *why,
    size_t why_size)
{
    s->leg = capture_leg_add(c, s->next.file, link, snaplen);
    if (s->leg == CAPTURE_INTERFACES_MAX)
        snprintf(why, why_size, memory_was_short() ? "no memory" : "too many interfaces");
    return s->leg != CAPTURE_INTERFACES_MAX;
}

/* The interface of a pcap file, and the filter for its link layer. */
static bool
source_open_leg(struct capture *c, struct source *s, int link, uint32_t snaplen, char *why,
    size_t why_size)
{
    return source_leg(c, s, link, snaplen, why, why_size)
        && (c->filter[0] == '\0'
            || filter_compile(c->filter, link, &s->program, why, why_size));
}

/* An ordinary pcap file is read here.  False: it is none, and stands where it stood. */
static bool
source_is_plain(struct capture *c, struct source *s, int fd, int first, uint32_t *link)
{
    if (lseek(fd, 0, SEEK_CUR) != 1 || !in_open(&s->in, fd, first))
        return false;                 /* a pipe cannot be given to libpcap afterwards */
    if (in_need(c, &s->in, PLAIN_HEADER) && plain_header(s, link)) {
        s->in.start += PLAIN_HEADER;
        return true;
    }
    free(s->in.buf);
    memset(&s->in, 0, sizeof s->in);
    lseek(fd, 1, SEEK_SET);
    return false;
}

/* Why libpcap does not take it, in better words.  A file was looked into already; of a pipe only
 * the first byte is known. */
static void
source_refuse(bool pipe, int first, char *why, size_t why_size, const char *text)
{
    const char *program = pipe ? packer_of(&(char){ (char)first }, 1) : NULL;
    if (program != NULL)
        snprintf(why, why_size, "this is a compressed file: unpack it first "
            "(%s -dc FILE | xmppedge-analyze -)", program);
    else
        snprintf(why, why_size, "%s", text);
}

/* libpcap reads from a stream; ours has a big buffer.  The first byte has been read already to
 * see what the file is: one byte is what ungetc promises to take back, even on a pipe. */
static bool
source_open_pcap(struct capture *c, struct source *s, int fd, int first, char *why, size_t why_size)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    bool pipe = lseek(fd, 0, SEEK_CUR) < 0;
    uint32_t plain;
    if (source_is_plain(c, s, fd, first, &plain))
        return source_open_leg(c, s, (int)plain, (uint32_t)s->plain.snaplen, why, why_size);
    FILE *in = fdopen(fd, "rb");
    if (in == NULL) {
        close(fd);
        snprintf(why, why_size, "%s", strerror(errno));
        return false;
    }
    setvbuf(in, NULL, _IOFBF, CAPTURE_READ_SIZE);
    ungetc(first, in);
    s->pcap = pcap_fopen_offline_with_tstamp_precision(in, PCAP_TSTAMP_PRECISION_NANO, text);
    if (s->pcap == NULL) {
        fclose(in);
        source_refuse(pipe, first, why, why_size, text);
        return false;
    }
    int link = link_of_dlt(pcap_datalink(s->pcap));
    int snaplen = pcap_snapshot(s->pcap);
    return source_open_leg(c, s, link, snaplen < 0 ? 0 : (uint32_t)snaplen, why, why_size);
}

static bool
source_open_pcapng(struct source *s, int fd, int first, char *why, size_t why_size)
{
    s->info.format = CAPTURE_PCAPNG;
    if (!in_open(&s->in, fd, first)) {
        close(fd);
        snprintf(why, why_size, "no memory");
        return false;
    }
    return true;
}

/* Reads the first byte, which tells pcapng (0x0A) from every pcap; -1: there is none. */
static int
source_first_byte(int fd)
{
    unsigned char b;
    ssize_t got;
    do {
        got = read(fd, &b, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1 ? b : -1;
}

/* The same of what is in the file, when it is packed: *fd may be another one then.  What cannot be
 * read twice is not looked into.  -1: `why` says what. */
static int
source_begin(struct source *s, int *fd, char *why, size_t why_size)
{
    char start[4];
    errno = 0;
    int first = source_first_byte(*fd);
    if (first < 0)
        snprintf(why, why_size, "%s", errno != 0 ? strerror(errno) : "the file is empty");
    if (first < 0 || pread(*fd, start, sizeof start, 0) != (ssize_t)sizeof start)
        return first;
    const char *program = packer_of(start, sizeof start);
    if (program == NULL)
        return first;
    if (!source_unpack(s, program, fd, why, why_size))
        return -1;
    first = source_first_byte(*fd);
    if (first < 0) {
        snprintf(why, why_size, source_unpacked(s) == 127 << 8
            ? "it is compressed, and %s is not installed, which would unpack it"
            : "it is compressed, and %s could not unpack it", program);
    }
    return first;
}

bool
capture_add_file(struct capture *c, const char *path, char *why, size_t why_size)
{
    struct source *s = source_new(c, path, why, why_size);
    if (s == NULL)
        return false;
    /* a copy of standard input, so that closing is the same for all */
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY);
    if (fd < 0) {
        snprintf(why, why_size, "%s", strerror(errno));
        source_free(s);
        return false;
    }
    int first = source_begin(s, &fd, why, why_size);
    bool ok = false;
    if (first < 0)
        close(fd);
    else if (first == 0x0A)
        ok = source_open_pcapng(s, fd, first, why, why_size);
    else
        ok = source_open_pcap(c, s, fd, first, why, why_size);
    if (ok)
        c->sources[c->source_count++] = s;
    else
        source_free(s);
    return ok;
}

/* Everything between pcap_create and a stream of frames. */
static bool
source_live_start(const struct capture *c, struct source *s, char *why, size_t why_size)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    pcap_set_snaplen(s->pcap, c->snaplen);
    pcap_set_promisc(s->pcap, 0);
    pcap_set_timeout(s->pcap, CAPTURE_LIVE_WAIT_MS);
    pcap_set_buffer_size(s->pcap, CAPTURE_LIVE_BUFFER);
    pcap_set_tstamp_precision(s->pcap, PCAP_TSTAMP_PRECISION_NANO);
    int status = pcap_activate(s->pcap);
    if (status < 0) {
        const char *more = pcap_geterr(s->pcap);
        snprintf(why, why_size, "%s", more[0] != '\0' ? more : pcap_statustostr(status));
        return false;
    }
    struct bpf_program program;
    if (c->filter[0] != '\0') {
        bool ok = pcap_compile(s->pcap, &program, c->filter, 1, PCAP_NETMASK_UNKNOWN) == 0;
        if (ok) {
            ok = pcap_setfilter(s->pcap, &program) == 0;
            pcap_freecode(&program);
        }
        if (!ok) {
            snprintf(why, why_size, "%s", pcap_geterr(s->pcap));
            return false;
        }
    }
    if (pcap_setnonblock(s->pcap, 1, text) != 0) {
        snprintf(why, why_size, "%s", text);
        return false;
    }
    return true;
}

/* Begin the file that receives a copy.  It holds what people said to each other: nobody else may
 * read it, and what is there already is not overwritten. */
static bool
source_copy_to(const struct capture *c, struct source *s, char *why, size_t why_size)
{
    if (c->write == NULL)
        return true;
    if (c->live) {
        snprintf(why, why_size, "only one interface can be written to a file");
        return false;
    }
    int fd = open(c->write, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (file == NULL) {
        snprintf(why, why_size, "cannot create %s: %s", c->write, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    s->copy = pcap_dump_fopen(s->pcap, file);
    if (s->copy == NULL) {
        snprintf(why, why_size, "%s", pcap_geterr(s->pcap));
        fclose(file);
        return false;
    }
    return true;
}

bool
capture_add_interface(struct capture *c, const char *name, char *why, size_t why_size)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    struct source *s = source_new(c, name, why, why_size);
    if (s == NULL)
        return false;
    s->info.format = CAPTURE_LIVE;
    s->pcap = pcap_create(name, text);
    if (s->pcap == NULL)
        snprintf(why, why_size, "%s", text);
    if (s->pcap == NULL || !source_live_start(c, s, why, why_size)
        || !source_copy_to(c, s, why, why_size)
        || !source_leg(c, s, link_of_dlt(pcap_datalink(s->pcap)), (uint32_t)c->snaplen, why,
            why_size)) {
        source_free(s);
        return false;
    }
    snprintf(c->legs[s->leg]->info.name, sizeof c->legs[s->leg]->info.name, "%s", name);
    c->live = true;
    c->sources[c->source_count++] = s;
    return true;
}

/* ---- the run ---- */

struct capture *
capture_new(const struct capture_options *o, const struct capture_events *ev, void *user, char *why,
    size_t why_size)
{
    static const struct capture_options nothing;
    o = o == NULL ? &nothing : o;
    if (o->filter != NULL && !filter_check(o->filter, why, why_size))
        return NULL;
    struct capture *c = memory_try(calloc(1, sizeof *c));
    size_t len = o->filter == NULL ? 0 : strlen(o->filter);
    char *filter = memory_try(malloc(len + 1));
    unsigned char *store = memory_try(malloc(CAPTURE_STORE));
    if (c == NULL || filter == NULL || store == NULL) {
        snprintf(why, why_size, "no memory");
        free(c);
        free(filter);
        free(store);
        return NULL;
    }
    memcpy(filter, o->filter == NULL ? "" : o->filter, len);
    filter[len] = '\0';
    c->filter = filter;
    c->store = store;
    c->ev = ev;
    c->user = user;
    c->snaplen = o->snaplen > 0 ? o->snaplen : CAPTURE_SNAPLEN;
    c->write = o->write;
    return c;
}

void
capture_free(struct capture *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->source_count; i++)
        source_free(c->sources[i]);
    for (size_t i = 0; i < c->leg_count; i++)
        free(c->legs[i]);
    free(c->legs);
    free(c->store);
    free(c->filter);
    free(c);
}

void
capture_stop(struct capture *c)
{
    c->stop = 1;
}

/* The source with the earliest frame; NULL: none has one.  All said "end" sets *over. */
static struct source *
capture_earliest(struct capture *c, bool *over)
{
    struct source *best = NULL;
    *over = true;
    for (size_t i = 0; i < c->source_count; i++) {
        struct source *s = c->sources[i];
        enum source_result r = source_fetch(c, s);
        if (r == SOURCE_END)
            continue;
        *over = false;
        if (r == SOURCE_FRAME && (best == NULL || s->next.time_ns < best->next.time_ns))
            best = s;
    }
    return best;
}

static bool
capture_fits(const struct capture *c, const struct frame *f)
{
    return f->captured <= CAPTURE_STORE - c->stored;
}

/* The frame of a source joins the batch.  Its bytes are copied when they are libpcap's, which uses
 * its buffer again. */
static void
capture_take(struct capture *c, struct source *s)
{
    struct frame *f = &s->next;
    s->ready = false;
    s->info.frames++;
    s->info.bytes += f->captured;
    s->info.last_ns = f->time_ns;
    if (s->info.frames == 1)
        s->info.first_ns = f->time_ns;
    f->number = ++c->number;
    if (!s->passes)
        return;
    c->legs[f->interface]->info.frames++;
    c->batch[c->batch_count] = *f;
    if (s->pcap != NULL && capture_fits(c, f)) {      /* else it is alone and goes down at once */
        memcpy(c->store + c->stored, f->bytes, f->captured);
        c->batch[c->batch_count].bytes = c->store + c->stored;
        c->stored += f->captured;
    }
    c->batch_count++;
}

/* Files end where they are; interfaces when all has been read that they had seen by now. */
static void
capture_wind_up(struct capture *c)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    c->stopped_ns = (int64_t)now.tv_sec * SECOND + now.tv_nsec;
    for (size_t i = 0; i < c->source_count; i++) {
        struct source *s = c->sources[i];
        if (s->info.format == CAPTURE_LIVE)
            continue;
        s->ready = false;
        s->done = true;
    }
}

/* Collects frames while there are any; true: the run is over. */
static bool
capture_fill(struct capture *c, unsigned budget)
{
    c->batch_count = 0;
    c->crowded = false;
    c->stored = 0;
    for (; budget > 0 && c->batch_count < CAPTURE_BATCH; budget--) {
        if (c->stop && c->stopped_ns == 0)
            capture_wind_up(c);
        bool over = false;
        struct source *s = capture_earliest(c, &over);
        if (s == NULL || c->crowded)
            return over;
        bool fits = s->pcap == NULL || !s->passes || capture_fits(c, &s->next);
        if (!fits && c->batch_count > 0)
            return false;
        capture_take(c, s);
        if (!fits)
            return false;             /* too big for the store: the source still holds it */
    }
    return false;
}

static void
capture_send(struct capture *c)
{
    if (c->ev->soon != NULL && c->batch_count > 1)
        c->ev->soon(c->user, c->batch, c->batch_count);
    for (size_t i = 0; i < c->batch_count && c->ev->frame != NULL; i++)
        c->ev->frame(c->user, &c->batch[i]);
}

/* Waits until one of the live sources has something, for a short while at most. */
static void
capture_wait(struct capture *c)
{
    struct pollfd fds[CAPTURE_SOURCES_MAX];
    nfds_t count = 0;
    for (size_t i = 0; i < c->source_count; i++) {
        struct source *s = c->sources[i];
        int fd = s->info.format == CAPTURE_LIVE && !s->done ? pcap_get_selectable_fd(s->pcap) : -1;
        if (fd >= 0)
            fds[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
    }
    if (poll(fds, count, CAPTURE_LIVE_WAIT_MS) == 0 && c->stopped_ns != 0)
        c->quiet++;
}

enum capture_state
capture_push(struct capture *c, unsigned budget)
{
    uint64_t until = c->number + budget;
    while (c->number < until) {
        uint64_t before = c->number;
        bool over = capture_fill(c, (unsigned)(until - c->number));
        capture_send(c);
        if (over) {
            for (size_t i = 0; i < c->source_count; i++)
                pcap_tell_drops(c, c->sources[i]);
            return CAPTURE_DONE;
        }
        if (c->number == before) {
            capture_wait(c);
            return CAPTURE_QUIET;
        }
    }
    return CAPTURE_MORE;
}

/* ---- what is known of the run ---- */

size_t
capture_file_count(const struct capture *c)
{
    return c->source_count;
}

const struct capture_file *
capture_file_at(const struct capture *c, size_t i)
{
    return i < c->source_count ? &c->sources[i]->info : NULL;
}

size_t
capture_interface_count(const struct capture *c)
{
    return c->leg_count;
}

const struct capture_interface *
capture_interface_at(const struct capture *c, size_t i)
{
    return i < c->leg_count ? &c->legs[i]->info : NULL;
}
