/* capture.c -- files, standard input and interfaces become frames in order of time
 *
 *      file a --pcap----> libpcap ---+
 *      file b --pcapng--> ng_... ----+--> the earliest next frame --> ev->frame
 *      eth0   --live----> libpcap ---+
 *
 * pcap files and live capture are libpcap's.  pcapng is read here: libpcap refuses a file whose
 * interfaces differ in link type or snaplen, and an edge has two interfaces.  What this reader
 * knows of pcapng: several sections of either byte order, interface names and time resolution,
 * enhanced, simple and old packet blocks, direction flags, drop counters, decryption secrets.
 * Unknown blocks are skipped by their length.
 *
 * Each source holds one frame ready, borrowed from its own buffer; the earliest of them goes down.
 * A damaged source ends where the damage is, a remark says so, and the others go on.
 *
 * Frames that the filter leaves out are counted: numbers are those that Wireshark shows for the
 * file, or for the merged files.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
/* libpcap's header uses the old names of unsigned types. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#include "analyze.h"

#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- ceilings -------------------------------------------------------------------------------- */

enum {
    CAPTURE_SOURCES_MAX    = 64,             /* files and interfaces of one run: open files */
    CAPTURE_INTERFACES_MAX = 4096,           /* of all files; each costs about 250 bytes */
    CAPTURE_LEGS_MAX       = 256,            /* interface indices told apart in cooked captures */
    CAPTURE_READ_SIZE      = 256 * 1024,     /* one read(); fits the second level cache */
    CAPTURE_BLOCK_MAX      = 16 * 1024 * 1024, /* pcapng block; Wireshark's limit too */
    CAPTURE_SNAPLEN        = 262144,         /* libpcap's largest */
    CAPTURE_STORE          = 128 * 1024,     /* bytes of a batch of frames; fits the cache */
    CAPTURE_LIVE_BUFFER    = 16 * 1024 * 1024, /* of the kernel: half a second at 250 Mbit/s */
    CAPTURE_LIVE_WAIT_MS   = 250
};

/* LINKTYPE_* values of which the reader itself must know something. */
enum { LINK_ETHERNET = 1, LINK_RAW = 101, LINK_SLL = 113, LINK_SLL2 = 276 };

#define SECOND_NS INT64_C(1000000000)

/* ---- structs --------------------------------------------------------------------------------- */

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
    struct bpf_program program;          /* owned when has_program */
    bool               has_program;
    bool               unfit;            /* the filter cannot be expressed for this link */
};

struct ng {
    int                  fd;             /* owned */
    bool                 eof;
    bool                 swap;           /* the section has the other byte order */
    bool                 section;        /* a section header has been read */
    unsigned char       *buf;            /* owned */
    size_t               cap, start, end;
    struct ng_interface *interfaces;     /* owned; of this section */
    size_t               count, room;
};

enum source_result { SOURCE_FRAME, SOURCE_NOTHING, SOURCE_END };

struct source {
    struct capture_file info;            /* info.name is owned here */
    pcap_t             *pcap;            /* owned; PCAP and LIVE */
    struct ng           ng;              /* PCAPNG */
    uint32_t            leg;             /* PCAP and LIVE: its interface */
    struct bpf_program  program;         /* owned when has_program; PCAP */
    bool                has_program;
    bool                done;
    bool                back_told;       /* time stamps go backwards: told */
    bool                ready;           /* next is valid */
    bool                passes;          /* next passes the filter */
    struct frame        next;
    uint64_t            live_drops;      /* LIVE: told so far */
};

struct capture {
    const struct capture_events *ev;     /* borrowed */
    void                        *user;
    char                        *filter; /* owned; empty: none */
    int                          snaplen;
    bool                         promiscuous;
    bool                         live;   /* at least one source is an interface */
    uint64_t                     number; /* of the last frame */
    volatile sig_atomic_t        stop;
    struct source               *sources[CAPTURE_SOURCES_MAX];   /* owned */
    size_t                       source_count;
    struct leg                 **legs;   /* owned, each too: addresses are given away */
    size_t                       leg_count, leg_room;
    size_t                       cooked_count;
    struct frame                 batch[CAPTURE_BATCH];   /* what goes down next */
    size_t                       batch_count;
    unsigned char               *store;  /* owned; bytes of the batch */
    size_t                       stored;
};

/* ---- news ------------------------------------------------------------------------------------ */

static void
capture_tell(struct capture *c, enum remark r, const struct source *s, const char *what)
{
    if (c->ev->remark == NULL) {
        return;
    }
    char detail[320];
    snprintf(detail, sizeof detail, "%.120s: %.180s", s->info.name, what);
    c->ev->remark(c->user, r, c->number, detail);
}

static void
capture_tell_drops(struct capture *c, uint32_t leg, uint64_t n)
{
    if (n == 0) {
        return;
    }
    c->legs[leg]->info.drops += n;
    if (c->ev->drops != NULL) {
        c->ev->drops(c->user, leg, n);
    }
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
    if (c->stop) {
        return SOURCE_END;     /* we ended it ourselves in the middle of a read */
    }
    s->info.cut = true;
    capture_tell(c, REMARK_FILE_CUT, s, what);
    return SOURCE_END;
}

/* ---- interfaces ------------------------------------------------------------------------------ */

/* A new interface; CAPTURE_INTERFACES_MAX when there is no room for it. */
static uint32_t
capture_leg_add(struct capture *c, uint32_t file, int link, uint32_t snaplen)
{
    if (c->leg_count == CAPTURE_INTERFACES_MAX) {
        return CAPTURE_INTERFACES_MAX;
    }
    if (c->leg_count == c->leg_room) {
        size_t room = c->leg_room == 0 ? 8 : c->leg_room * 2;
        struct leg **legs = realloc(c->legs, room * sizeof *legs);
        if (legs == NULL) {
            return CAPTURE_INTERFACES_MAX;
        }
        c->legs = legs;
        c->leg_room = room;
    }
    struct leg *leg = calloc(1, sizeof *leg);
    if (leg == NULL) {
        return CAPTURE_INTERFACES_MAX;
    }
    leg->info.file = file;
    leg->info.link = link;
    leg->info.snaplen = snaplen;
    leg->parent = (uint32_t)c->leg_count;
    c->legs[c->leg_count] = leg;
    return (uint32_t)c->leg_count++;
}

/* The interface that a frame of a cooked capture names by its index (LINKTYPE_LINUX_SLL2: four
 * bytes in network order at offset 4).  "any" on an edge is two legs, and this is what separates
 * them. */
static uint32_t
capture_leg_cooked(struct capture *c, uint32_t parent, uint32_t ifindex)
{
    for (size_t i = parent + 1; i < c->leg_count; i++) {
        if (c->legs[i]->parent == parent && c->legs[i]->ifindex == ifindex) {
            return (uint32_t)i;
        }
    }
    if (c->cooked_count == CAPTURE_LEGS_MAX) {
        return parent;
    }
    const struct capture_interface *above = &c->legs[parent]->info;
    uint32_t at = capture_leg_add(c, above->file, above->link, above->snaplen);
    if (at == CAPTURE_INTERFACES_MAX) {
        return parent;
    }
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
    if (f->direction != 0) {
        return;
    }
    /* packet type: 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent by us */
    int type = 3;
    if (f->link == LINK_SLL && f->captured >= 2) {
        type = f->bytes[0] << 8 | f->bytes[1];
    } else if (f->link == LINK_SLL2 && f->captured >= 20) {
        type = f->bytes[10];
    }
    f->direction = type == 4 ? 2 : type < 3 ? 1 : 0;
}

/* ---- filter ---------------------------------------------------------------------------------- */

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
    if (!ok) {
        snprintf(why, why_size, "%s", pcap_geterr(dead));
    }
    pcap_close(dead);
    return ok;
}

static bool
filter_passes(const struct bpf_program *program, const struct frame *f)
{
    struct pcap_pkthdr h;
    memset(&h, 0, sizeof h);
    h.caplen = (bpf_u_int32)f->captured;
    h.len = (bpf_u_int32)f->length;
    return pcap_offline_filter(program, &h, f->bytes) != 0;
}

/* A filter that no common link layer understands is a mistake of whoever typed it: better said
 * at once than per file. */
static bool
filter_check(const char *filter, char *why, size_t why_size)
{
    struct bpf_program program;
    if (!filter_compile(filter, LINK_ETHERNET, &program, why, why_size)
        && !filter_compile(filter, LINK_SLL, &program, why, why_size)) {
        return false;
    }
    pcap_freecode(&program);
    return true;
}

/* ---- pcapng: bytes --------------------------------------------------------------------------- */

static uint16_t
ng_u16(const struct ng *n, const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    unsigned w = v;
    return (uint16_t)(n->swap ? w >> 8 | (w << 8 & 0xFF00) : w);
}

static uint32_t
ng_u32(const struct ng *n, const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    if (n->swap) {
        v = v >> 24 | (v >> 8 & 0xFF00) | (v << 8 & 0xFF0000) | v << 24;
    }
    return v;
}

static uint64_t
ng_u64(const struct ng *n, const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    if (n->swap) {
        v = (uint64_t)ng_u32(n, p) << 32 | ng_u32(n, p + 4);
    }
    return v;
}

/* Makes room for `need` bytes from start on. */
static bool
ng_room(struct ng *n, size_t need)
{
    if (n->cap - n->start >= need) {
        return true;
    }
    size_t have = n->end - n->start;
    if (have > 0) {
        memmove(n->buf, n->buf + n->start, have);
    }
    n->start = 0;
    n->end = have;
    if (n->cap >= need) {
        return true;
    }
    size_t cap = need + CAPTURE_READ_SIZE;
    unsigned char *buf = realloc(n->buf, cap);
    if (buf == NULL) {
        return false;
    }
    n->buf = buf;
    n->cap = cap;
    return true;
}

/* At least `need` bytes in the buffer; false at the end of the file.  A pipe gives what it has:
 * frames are not held back until a block is full. */
static bool
ng_need(struct capture *c, struct ng *n, size_t need)
{
    while (n->end - n->start < need) {
        if (n->eof || !ng_room(n, need)) {
            return false;
        }
        ssize_t got = read(n->fd, n->buf + n->end, n->cap - n->end);
        if (got < 0 && errno == EINTR && !c->stop) {
            continue;
        }
        if (got <= 0) {
            n->eof = true;
            return false;
        }
        n->end += (size_t)got;
    }
    return true;
}

/* ---- pcapng: options ------------------------------------------------------------------------- */

struct ng_option {
    uint16_t             code;
    uint16_t             len;
    const unsigned char *at;
};

/* The next option of a block; false at the end of them, or where they make no sense. */
static bool
ng_option_next(const struct ng *n, const unsigned char **at, const unsigned char *end,
    struct ng_option *o)
{
    if (end - *at < 4) {
        return false;
    }
    o->code = ng_u16(n, *at);
    o->len = ng_u16(n, *at + 2);
    o->at = *at + 4;
    size_t padded = ((size_t)o->len + 3) & ~(size_t)3;
    if (o->code == 0 || (size_t)(end - o->at) < o->len) {
        return false;
    }
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

/* if_tsresol: a negative power of ten, or of two when the highest bit is set. */
static void
ng_resolution(struct ng_interface *i, unsigned char code)
{
    unsigned power = code & 0x7F;
    bool two = (code & 0x80) != 0;
    uint64_t units = 1;
    unsigned most = two ? 62 : 18;     /* more does not fit, and nobody has it */
    for (unsigned k = 0; k < power && k < most; k++) {
        units *= two ? 2 : 10;
    }
    i->units = units;
    i->scale = (uint64_t)SECOND_NS % units == 0 ? (uint64_t)SECOND_NS / units : 0;
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
        long double part = (long double)rest * (long double)SECOND_NS / (long double)i->units;
        ns = s < ceiling / (uint64_t)SECOND_NS ? s * (uint64_t)SECOND_NS + (uint64_t)part : ceiling;
    }
    /* between 1970 and 2116, so that differences of times never overflow */
    int64_t time_ns = (int64_t)ns + i->offset_s * SECOND_NS;
    return time_ns < 0 ? 0 : time_ns > INT64_MAX / 2 ? INT64_MAX / 2 : time_ns;
}

/* ---- pcapng: blocks -------------------------------------------------------------------------- */

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
    for (size_t i = 0; i < n->count; i++) {
        if (n->interfaces[i].has_program) {
            pcap_freecode(&n->interfaces[i].program);
        }
    }
    n->count = 0;
}

/* A section starts: its byte order and version.  NULL, or what is wrong. */
static const char *
ng_section(struct ng *n, const struct ng_block *b)
{
    if (b->len < 16) {
        return "a section header is too short";
    }
    uint16_t major = ng_u16(n, b->at + 4);
    if (major != 1) {
        return "a pcapng version that is not known";
    }
    ng_section_forget(n);
    n->section = true;
    return NULL;
}

static void
ng_interface_options(const struct ng *n, const struct ng_block *b, struct ng_interface *i,
    struct capture_interface *info)
{
    const unsigned char *at = b->at + 8;
    struct ng_option o;
    while (ng_option_next(n, &at, b->at + b->len, &o)) {
        if (o.code == 2) {
            ng_option_text(&o, info->name, sizeof info->name);
        } else if (o.code == 3) {
            ng_option_text(&o, info->description, sizeof info->description);
        } else if (o.code == 9 && o.len >= 1) {
            ng_resolution(i, o.at[0]);
        } else if (o.code == 14 && o.len >= 8) {
            uint64_t offset = ng_u64(n, o.at);
            /* a few centuries either way: more would overflow nanoseconds */
            i->offset_s = offset < UINT64_C(4000000000) ? (int64_t)offset
                : offset > UINT64_MAX - UINT64_C(4000000000)
                ? -(int64_t)(UINT64_MAX - offset) - 1 : 0;
        }
    }
}

static void
ng_interface_filter(struct capture *c, struct source *s, struct ng_interface *i)
{
    char why[PCAP_ERRBUF_SIZE];
    if (c->filter[0] == '\0') {
        return;
    }
    i->has_program = filter_compile(c->filter, i->link, &i->program, why, sizeof why);
    if (!i->has_program) {
        char what[200];
        i->unfit = true;
        snprintf(what, sizeof what, "interface %u is left out, the filter does not fit it: %.120s",
            i->leg, why);
        capture_tell(c, REMARK_LINK_UNKNOWN, s, what);
    }
}

static const char *
ng_interface(struct capture *c, struct source *s, uint32_t file, const struct ng_block *b)
{
    struct ng *n = &s->ng;
    if (b->len < 8) {
        return "an interface description is too short";
    }
    if (n->count == n->room) {
        size_t room = n->room == 0 ? 4 : n->room * 2;
        struct ng_interface *more = realloc(n->interfaces, room * sizeof *more);
        if (more == NULL) {
            return "no memory";
        }
        n->interfaces = more;
        n->room = room;
    }
    struct ng_interface *i = &n->interfaces[n->count];
    memset(i, 0, sizeof *i);
    i->link = ng_u16(n, b->at);
    i->link = i->link == 12 || i->link == 14 ? LINK_RAW : i->link;
    i->snaplen = ng_u32(n, b->at + 4);
    ng_resolution(i, 6);
    i->leg = capture_leg_add(c, file, i->link, i->snaplen);
    if (i->leg == CAPTURE_INTERFACES_MAX) {
        return "too many interfaces";
    }
    ng_interface_options(n, b, i, &c->legs[i->leg]->info);
    ng_interface_filter(c, s, i);
    n->count++;
    return NULL;
}

/* isb_ifdrop and isb_osdrop count from the start of the capture. */
static void
ng_statistics(struct capture *c, struct ng *n, const struct ng_block *b)
{
    if (b->len < 12 || ng_u32(n, b->at) >= n->count) {
        return;
    }
    struct ng_interface *i = &n->interfaces[ng_u32(n, b->at)];
    const unsigned char *at = b->at + 12;
    struct ng_option o;
    uint64_t drops = 0;
    while (ng_option_next(n, &at, b->at + b->len, &o)) {
        if ((o.code == 5 || o.code == 7) && o.len >= 8) {
            drops += ng_u64(n, o.at);
        }
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
ng_secrets(struct capture *c, struct ng *n, const struct ng_block *b)
{
    if (b->len < 8 || ng_u32(n, b->at) != 0x544C534B) {   /* "TLSK": NSS key log */
        return;
    }
    size_t len = ng_u32(n, b->at + 4);
    if (len <= b->len - 8 && c->ev->keys != NULL) {
        c->ev->keys(c->user, (const char *)b->at + 8, len);
    }
}

static void
ng_packet_options(struct capture *c, struct ng *n, struct ng_interface *i, struct frame *f,
    const unsigned char *at, const unsigned char *end)
{
    struct ng_option o;
    while (ng_option_next(n, &at, end, &o)) {
        if (o.code == 2 && o.len == 4) {           /* epb_flags */
            unsigned direction = ng_u32(n, o.at) & 3;
            f->direction = direction == 3 ? 0 : (int)direction;
        } else if (o.code == 4 && o.len == 8) {    /* epb_dropcount */
            ng_drops(c, i, ng_u64(n, o.at));
        }
    }
}

static const char *
ng_packet(struct capture *c, struct source *s, const struct ng_block *b)
{
    struct ng *n = &s->ng;
    if (b->len < 20) {
        return "a packet block is too short";
    }
    bool old = b->type == NG_PACKET_OLD;
    uint32_t id = old ? ng_u16(n, b->at) : ng_u32(n, b->at);
    if (id >= n->count) {
        return "a packet of an interface that was not described";
    }
    struct ng_interface *i = &n->interfaces[id];
    struct frame *f = &s->next;
    f->captured = ng_u32(n, b->at + 12);
    f->length = ng_u32(n, b->at + 16);
    if (f->captured > b->len - 20) {
        return "a packet is longer than its block";
    }
    f->time_ns = ng_time(i, ng_u32(n, b->at + 4), ng_u32(n, b->at + 8));
    f->bytes = b->at + 20;
    f->link = i->link;
    f->interface = i->leg;
    f->direction = 0;
    if (old && ng_u16(n, b->at + 2) != 0xFFFF) {
        ng_drops(c, i, ng_u16(n, b->at + 2));
    }
    size_t padded = (f->captured + 3) & ~(size_t)3;
    if (b->len - 20 > padded) {
        ng_packet_options(c, n, i, f, b->at + 20 + padded, b->at + b->len);
    }
    s->ready = true;
    s->passes = !i->unfit && (!i->has_program || filter_passes(&i->program, f));
    return NULL;
}

/* A simple packet has neither time nor interface: the section's first, and the time of the packet
 * before. */
static const char *
ng_packet_simple(struct source *s, const struct ng_block *b)
{
    struct ng *n = &s->ng;
    if (b->len < 4) {
        return "a packet block is too short";
    }
    if (n->count == 0) {
        return "a packet of an interface that was not described";
    }
    struct ng_interface *i = &n->interfaces[0];
    struct frame *f = &s->next;
    f->length = ng_u32(n, b->at);
    f->captured = b->len - 4 < f->length ? b->len - 4 : f->length;
    if (i->snaplen != 0 && f->captured > i->snaplen) {
        f->captured = i->snaplen;
    }
    f->bytes = b->at + 4;
    f->link = i->link;
    f->interface = i->leg;
    f->direction = 0;
    s->ready = true;
    s->passes = !i->unfit && (!i->has_program || filter_passes(&i->program, f));
    return NULL;
}

static const char *
ng_block_take(struct capture *c, struct source *s, const struct ng_block *b)
{
    switch (b->type) {
    case NG_SECTION:
        return ng_section(&s->ng, b);
    case NG_INTERFACE:
        return ng_interface(c, s, s->next.file, b);
    case NG_PACKET:
    case NG_PACKET_OLD:
        return ng_packet(c, s, b);
    case NG_PACKET_SIMPLE:
        return ng_packet_simple(s, b);
    case NG_STATISTICS:
        ng_statistics(c, &s->ng, b);
        return NULL;
    case NG_SECRETS:
        ng_secrets(c, &s->ng, b);
        return NULL;
    default:
        return NULL;     /* names, comments, other people's blocks */
    }
}

/* A section header is told by a type that reads the same in both byte orders; the magic after it
 * says which one. */
static bool
ng_byte_order(struct ng *n, const unsigned char *p)
{
    uint32_t magic;
    memcpy(&magic, p + 8, sizeof magic);
    if (magic != 0x1A2B3C4D && magic != 0x4D3C2B1A) {
        return false;
    }
    n->swap = magic == 0x4D3C2B1A;
    return true;
}

/* The next block; SOURCE_FRAME: b is valid until the next call. */
static enum source_result
ng_block_next(struct capture *c, struct source *s, struct ng_block *b)
{
    struct ng *n = &s->ng;
    if (!ng_need(c, n, 12)) {
        if (n->end > n->start) {
            return source_cut(c, s, "the file ends in the middle of a block");
        }
        s->done = true;
        return SOURCE_END;
    }
    b->type = ng_u32(n, n->buf + n->start);
    if (b->type == NG_SECTION && !ng_byte_order(n, n->buf + n->start)) {
        return source_damaged(c, s, "a section header without its magic number");
    }
    if (b->type != NG_SECTION && !n->section) {
        return source_damaged(c, s, "no section header");
    }
    size_t len = ng_u32(n, n->buf + n->start + 4);
    if (len < 12 || len % 4 != 0 || len > CAPTURE_BLOCK_MAX) {
        return source_damaged(c, s, "a block with an impossible length");
    }
    if (!ng_need(c, n, len)) {
        return source_cut(c, s, "the file ends in the middle of a block");
    }
    const unsigned char *p = n->buf + n->start;
    if (ng_u32(n, p + len - 4) != len) {
        return source_damaged(c, s, "a block whose two lengths differ");
    }
    b->at = p + 8;
    b->len = len - 12;
    n->start += len;
    return SOURCE_FRAME;
}

static enum source_result
ng_fetch(struct capture *c, struct source *s)
{
    struct ng_block b;
    while (!s->ready) {
        enum source_result r = ng_block_next(c, s, &b);
        if (r != SOURCE_FRAME) {
            return r;
        }
        const char *wrong = ng_block_take(c, s, &b);
        if (wrong != NULL) {
            return source_damaged(c, s, wrong);
        }
    }
    return SOURCE_FRAME;
}

/* ---- libpcap --------------------------------------------------------------------------------- */

static int64_t
pcap_time(const struct pcap_pkthdr *h)
{
    /* seconds are unsigned in the file: good until 2106, but libpcap hands on what looks
     * negative */
    int64_t s = (int64_t)(uint32_t)h->ts.tv_sec;
    int64_t ns = (int64_t)h->ts.tv_usec;
    return s * SECOND_NS + (ns < 0 ? 0 : ns >= SECOND_NS ? SECOND_NS - 1 : ns);
}

static void
pcap_tell_drops(struct capture *c, struct source *s)
{
    struct pcap_stat stat;
    if (s->info.format != CAPTURE_LIVE || pcap_stats(s->pcap, &stat) != 0) {
        return;
    }
    uint64_t drops = (uint64_t)stat.ps_drop + stat.ps_ifdrop;
    if (drops > s->live_drops) {
        capture_tell_drops(c, s->leg, drops - s->live_drops);
        s->live_drops = drops;
    }
}

static enum source_result
pcap_ended(struct capture *c, struct source *s, int result)
{
    if (result == 0) {
        return SOURCE_NOTHING;
    }
    pcap_tell_drops(c, s);
    if (result == PCAP_ERROR_BREAK) {
        s->done = true;
        return SOURCE_END;
    }
    const char *what = pcap_geterr(s->pcap);
    return strncmp(what, "truncated", 9) == 0 ? source_cut(c, s, what) : source_damaged(c, s, what);
}

static enum source_result
pcap_fetch(struct capture *c, struct source *s)
{
    struct pcap_pkthdr *h;
    const unsigned char *bytes;
    int result = pcap_next_ex(s->pcap, &h, &bytes);
    if (result != 1) {
        return pcap_ended(c, s, result);
    }
    struct frame *f = &s->next;
    f->time_ns = pcap_time(h);
    f->bytes = bytes;
    f->captured = h->caplen;
    f->length = h->len;
    f->link = c->legs[s->leg]->info.link;
    f->interface = s->leg;
    f->direction = 0;
    s->passes = !s->has_program || filter_passes(&s->program, f);
    s->ready = true;
    return SOURCE_FRAME;
}

/* ---- sources --------------------------------------------------------------------------------- */

/* Makes the next frame of a source ready. */
static enum source_result
source_fetch(struct capture *c, struct source *s)
{
    if (s->ready) {
        return SOURCE_FRAME;
    }
    if (s->done) {
        return SOURCE_END;
    }
    int64_t before = s->next.time_ns;
    enum source_result r = s->info.format == CAPTURE_PCAPNG ? ng_fetch(c, s) : pcap_fetch(c, s);
    if (r != SOURCE_FRAME) {
        return r;
    }
    struct frame *f = &s->next;
    f->length = f->length < f->captured ? f->captured : f->length;
    if (f->link == LINK_SLL || f->link == LINK_SLL2) {
        capture_cooked(c, f);
    }
    if (s->info.frames > 0 && f->time_ns < before && !s->back_told) {
        s->back_told = true;
        capture_tell(c, REMARK_TIME_BACK, s, "a frame is older than the one before");
    }
    return SOURCE_FRAME;
}

static void
source_free(struct source *s)
{
    if (s == NULL) {
        return;
    }
    if (s->has_program) {
        pcap_freecode(&s->program);
    }
    if (s->pcap != NULL) {
        pcap_close(s->pcap);
    }
    ng_section_forget(&s->ng);
    free(s->ng.interfaces);
    free(s->ng.buf);
    if (s->ng.fd > 0) {
        close(s->ng.fd);
    }
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
    struct source *s = calloc(1, sizeof *s);
    size_t len = strlen(name);
    char *copy = malloc(len + 1);
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

/* The source joins the run. */
static void
source_join(struct capture *c, struct source *s)
{
    c->sources[c->source_count++] = s;
}

/* libpcap reads from a stream; ours has a big buffer.  The first byte has been read already to
 * see what the file is: one byte is what ungetc promises to take back, even on a pipe. */
static bool
source_open_pcap(struct capture *c, struct source *s, int fd, int first, char *why, size_t why_size)
{
    char text[PCAP_ERRBUF_SIZE] = "";
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
        snprintf(why, why_size, "%s", first == 0x1F
            ? "this is a compressed file: unpack it first (zcat FILE | xmppedge-analyze -)" : text);
        return false;
    }
    int link = link_of_dlt(pcap_datalink(s->pcap));
    int snaplen = pcap_snapshot(s->pcap);
    s->leg = capture_leg_add(c, s->next.file, link, snaplen < 0 ? 0 : (uint32_t)snaplen);
    if (s->leg == CAPTURE_INTERFACES_MAX) {
        snprintf(why, why_size, "too many interfaces");
        return false;
    }
    if (c->filter[0] != '\0') {
        s->has_program = filter_compile(c->filter, link, &s->program, why, why_size);
        return s->has_program;
    }
    return true;
}

static bool
source_open_pcapng(struct source *s, int fd, int first, char *why, size_t why_size)
{
    s->info.format = CAPTURE_PCAPNG;
    s->ng.fd = fd;
    s->ng.cap = CAPTURE_READ_SIZE;
    s->ng.buf = malloc(s->ng.cap);
    if (s->ng.buf == NULL) {
        snprintf(why, why_size, "no memory");
        return false;
    }
    s->ng.buf[0] = (unsigned char)first;
    s->ng.end = 1;
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

bool
capture_add_file(struct capture *c, const char *path, char *why, size_t why_size)
{
    struct source *s = source_new(c, path, why, why_size);
    if (s == NULL) {
        return false;
    }
    /* a copy of standard input, so that closing is the same for all */
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY);
    if (fd < 0) {
        snprintf(why, why_size, "%s", strerror(errno));
        source_free(s);
        return false;
    }
    errno = 0;
    int first = source_first_byte(fd);
    bool ok = false;
    if (first < 0) {
        snprintf(why, why_size, "%s", errno != 0 ? strerror(errno) : "the file is empty");
        close(fd);
    } else if (first == 0x0A) {
        ok = source_open_pcapng(s, fd, first, why, why_size);
    } else {
        ok = source_open_pcap(c, s, fd, first, why, why_size);
    }
    if (!ok) {
        source_free(s);
        return false;
    }
    source_join(c, s);
    return true;
}

/* Everything between pcap_create and a stream of frames. */
static bool
source_live_start(const struct capture *c, struct source *s, char *why, size_t why_size)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    pcap_set_snaplen(s->pcap, c->snaplen);
    pcap_set_promisc(s->pcap, c->promiscuous);
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

bool
capture_add_interface(struct capture *c, const char *name, char *why, size_t why_size)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    struct source *s = source_new(c, name, why, why_size);
    if (s == NULL) {
        return false;
    }
    s->info.format = CAPTURE_LIVE;
    s->pcap = pcap_create(name, text);
    if (s->pcap == NULL) {
        snprintf(why, why_size, "%s", text);
        source_free(s);
        return false;
    }
    if (!source_live_start(c, s, why, why_size)) {
        source_free(s);
        return false;
    }
    s->leg = capture_leg_add(c, s->next.file, link_of_dlt(pcap_datalink(s->pcap)),
        (uint32_t)c->snaplen);
    if (s->leg == CAPTURE_INTERFACES_MAX) {
        snprintf(why, why_size, "too many interfaces");
        source_free(s);
        return false;
    }
    snprintf(c->legs[s->leg]->info.name, sizeof c->legs[s->leg]->info.name, "%s", name);
    c->live = true;
    source_join(c, s);
    return true;
}

/* ---- the run --------------------------------------------------------------------------------- */

struct capture *
capture_new(const struct capture_options *o, const struct capture_events *ev, void *user, char *why,
    size_t why_size)
{
    static const struct capture_options nothing;
    o = o == NULL ? &nothing : o;
    if (o->filter != NULL && !filter_check(o->filter, why, why_size)) {
        return NULL;
    }
    struct capture *c = calloc(1, sizeof *c);
    size_t len = o->filter == NULL ? 0 : strlen(o->filter);
    char *filter = malloc(len + 1);
    unsigned char *store = malloc(CAPTURE_STORE);
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
    c->promiscuous = o->promiscuous;
    return c;
}

void
capture_free(struct capture *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->source_count; i++) {
        source_free(c->sources[i]);
    }
    for (size_t i = 0; i < c->leg_count; i++) {
        free(c->legs[i]);
    }
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
        if (r == SOURCE_END) {
            continue;
        }
        *over = false;
        if (r == SOURCE_FRAME && (best == NULL || s->next.time_ns < best->next.time_ns)) {
            best = s;
        }
    }
    return best;
}

/* The frame of a source joins the batch, with a copy of its bytes: the source reuses its buffer. */
static void
capture_take(struct capture *c, struct source *s)
{
    struct frame *f = &s->next;
    s->ready = false;
    s->info.frames++;
    s->info.bytes += f->captured;
    s->info.last_ns = f->time_ns;
    if (s->info.frames == 1) {
        s->info.first_ns = f->time_ns;
    }
    f->number = ++c->number;
    if (!s->passes) {
        return;
    }
    c->legs[f->interface]->info.frames++;
    c->batch[c->batch_count] = *f;
    if (f->captured <= CAPTURE_STORE - c->stored) {   /* else it is alone and goes down at once */
        memcpy(c->store + c->stored, f->bytes, f->captured);
        c->batch[c->batch_count].bytes = c->store + c->stored;
        c->stored += f->captured;
    }
    c->batch_count++;
}

/* Collects frames while there are any; true: the run is over. */
static bool
capture_fill(struct capture *c, unsigned budget)
{
    c->batch_count = 0;
    c->stored = 0;
    for (; budget > 0 && c->batch_count < CAPTURE_BATCH; budget--) {
        bool over = false;
        struct source *s = c->stop ? NULL : capture_earliest(c, &over);
        if (s == NULL) {
            return over || c->stop;
        }
        if (s->passes && s->next.captured > CAPTURE_STORE - c->stored && c->batch_count > 0) {
            return false;
        }
        capture_take(c, s);
        if (c->stored == 0 && c->batch_count == 1 && s->next.captured > 0) {
            return false;             /* too big for the store: the source still holds it */
        }
    }
    return false;
}

static void
capture_send(struct capture *c)
{
    if (c->ev->soon != NULL && c->batch_count > 1) {
        c->ev->soon(c->user, c->batch, c->batch_count);
    }
    for (size_t i = 0; i < c->batch_count && c->ev->frame != NULL; i++) {
        c->ev->frame(c->user, &c->batch[i]);
    }
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
        if (fd >= 0) {
            fds[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
        }
    }
    poll(fds, count, CAPTURE_LIVE_WAIT_MS);
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
            for (size_t i = 0; i < c->source_count; i++) {
                pcap_tell_drops(c, c->sources[i]);
            }
            return CAPTURE_DONE;
        }
        if (c->number == before) {
            capture_wait(c);
            return CAPTURE_QUIET;
        }
    }
    return CAPTURE_MORE;
}

/* ---- what is known of the run ---------------------------------------------------------------- */

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
