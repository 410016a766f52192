/* capture.h -- files, standard input and interfaces become frames in order of time
 *
 *   in         capture_add_file, capture_add_interface: 64 sources at most, then capture_push again
 *              and again until CAPTURE_DONE
 *   out        capture_events, frames in order of time over all sources
 *   borrowed   a frame and its bytes during the call
 *   bounds     a buffer of 320 KB a file, 16 MB where a block of pcapng is so long; nothing grows
 *              with the length of the capture
 */
#ifndef XMPPEDGE_ANALYZE_CAPTURE_H
#define XMPPEDGE_ANALYZE_CAPTURE_H

#include "base.h"

/* What is odd about a capture, found by any stage.  Each kind is counted and told once; it is never
 * a violation.  Words and sentences are in capture.c. */
enum remark {
    REMARK_FILE_CUT,
    REMARK_FILE_DAMAGED,
    REMARK_LINK_UNKNOWN,
    REMARK_UNREAD,
    REMARK_SNAPLEN,
    REMARK_DROPS,
    REMARK_CHECKSUM,
    REMARK_PACKET_BAD,
    REMARK_FRAGMENT_LOST,
    REMARK_GAP,
    REMARK_OVERLAP,
    REMARK_MIDSTREAM,
    REMARK_ONE_SIDED,
    REMARK_CEILING_FLOWS,
    REMARK_CEILING_BYTES,
    REMARK_CEILING_REPORT,
    REMARK_TIME_BACK,
    REMARK_DUPLICATE,
    REMARK_KEYS_UNUSED,
    /* connections of XMPP that are no federation; they are counted and nothing else */
    REMARK_CLIENT,
    REMARK_CLIENT_TLS,
    REMARK_CLIENT_WEBSOCKET,
    REMARK_CLIENT_BOSH,
    REMARK_CLIENT_PORT,
    REMARK_COMPONENT,
    REMARK_COUNT
};

const char *remark_word(enum remark r);   /* "file-cut"; static */
const char *remark_text(enum remark r);   /* a sentence; static */

struct frame {
    int64_t              time_ns;     /* 0 to INT64_MAX / 2, so that differences never overflow */
    uint64_t             number;      /* from 1, over all files of the run */
    uint32_t             file;        /* index of capture_file_at */
    uint32_t             interface;   /* index of capture_interface_at: an edge has two */
    int                  link;        /* LINKTYPE_* as in files, not DLT_* of the platform */
    int                  direction;   /* 0 unknown, 1 inbound, 2 outbound (pcapng flags, SLL) */
    const unsigned char *bytes;       /* borrowed */
    size_t               captured;    /* bytes there are */
    size_t               length;      /* bytes there were on the wire */
};

enum { CAPTURE_BATCH = 32 };   /* frames that `soon` tells at most */

struct capture_events {
    void (*frame)(void *user, const struct frame *f);
    /* secrets of a pcapng block, in the format of NSS */
    void (*keys)(void *user, const char *text, size_t len);
    /* n packets that the capturing machine lost */
    void (*drops)(void *user, uint32_t interface, uint64_t n);
    void (*remark)(void *user, enum remark r, uint64_t frame_number, const char *detail);
    /* for speed only: frame() comes next for each of these; memory that they need can be fetched at
     * the same time instead of one after the other (packet_peek, flow_expect) */
    void (*soon)(void *user, const struct frame *frames, size_t n);
};

/* How to read.  Zero is the default of every field. */
struct capture_options {
    const char *filter;        /* borrowed during capture_new; as tcpdump's; NULL: everything */
    int         snaplen;       /* live; bytes of a packet; 0: 262,144 */
    const char *write;         /* live, one interface: a pcap file to make; NULL: none; borrowed */
};

enum capture_format { CAPTURE_PCAP, CAPTURE_PCAPNG, CAPTURE_LIVE };

/* One file or live interface that was added. */
struct capture_file {
    const char         *name;   /* owned by the capture */
    enum capture_format format;
    uint64_t            frames; /* all of them, also those that the filter left out */
    uint64_t            bytes;  /* captured */
    int64_t             first_ns, last_ns;
    bool                cut, damaged;
};

/* One interface that a file or the system names. */
struct capture_interface {
    uint32_t file;              /* index of capture_file_at */
    char     name[64];
    char     description[96];
    int      link;              /* LINKTYPE_* */
    uint32_t snaplen;           /* bytes; 0: no limit */
    uint64_t frames;
    uint64_t drops;
};

struct capture;

/* A capture without sources; o may be NULL.  NULL: a wrong filter, or no memory; `why` says it. */
struct capture *capture_new(const struct capture_options *o, const struct capture_events *ev,
    void *user, char *why, size_t why_size);
void capture_free(struct capture *c);

/* Adds a pcap or pcapng file ("-": standard input), or an interface.  False: it cannot be opened or
 * is no capture, `why` says what; the capture stays usable. */
bool capture_add_file(struct capture *c, const char *path, char *why, size_t why_size);
bool capture_add_interface(struct capture *c, const char *name, char *why, size_t why_size);

enum capture_state {
    CAPTURE_MORE,    /* go on */
    CAPTURE_QUIET,   /* live: nothing came for a quarter of a second */
    CAPTURE_DONE
};

/* Sends `budget` frames down at most. */
enum capture_state capture_push(struct capture *c, unsigned budget);

/* Ends the run: files at the next frame, interfaces with the last that they have seen by then.  May
 * be called from a signal handler. */
void capture_stop(struct capture *c);

/* What was read so far: borrowed until capture_free, i below the count. */
size_t capture_file_count(const struct capture *c);
const struct capture_file *capture_file_at(const struct capture *c, size_t i);
size_t capture_interface_count(const struct capture *c);
const struct capture_interface *capture_interface_at(const struct capture *c, size_t i);

#endif
