/* log.h -- the log of an edge or a gateway: how connections ended, by who took part in them
 *
 *   in         log_push, the bytes of a log in either format (text, JSON), in pieces of any size
 *   out        log_events: one entry for each line that names a connection and why it ended, or the
 *              two connections of a pair; all other lines are only counted
 *   borrowed   an entry during the call
 *   bounds     one line of 8 KB; longer ones, which xmppedge never writes, are passed over
 *
 * A log is input of strangers like a capture.  What stands before the time of a line (of syslog, of
 * the journal) is passed over.
 */
#ifndef XMPPEDGE_ANALYZE_LOG_H
#define XMPPEDGE_ANALYZE_LOG_H

#include "packet.h"

#define LOG_LINE_MAX  8192
#define LOG_WORD_MAX  32
#define LOG_NAME_MAX  128
#define LOG_WORDS_MAX 160

/* How far the clocks of the machine that logged and of the one that captured may be apart.  A port
 * comes again after a minute at least (RFC 9293 3.6.1: twice the MSL), and mostly after many. */
#define LOG_CLOCK_NS (120 * SECOND)

/* An end of a connection. */
struct log_end {
    struct address address;   /* family 0: the line does not name it */
    uint16_t       port;      /* 0: nor this */
};

enum log_kind {
    LOG_CLOSED,    /* the connection is over, for the reason `why` */
    LOG_REFUSED,   /* something was refused on it, and it may go on */
    LOG_PAIRED     /* the pair from, to goes by these two connections */
};

/* Who had called, as far as the line says it. */
enum log_way { LOG_WAY_UNKNOWN, LOG_WAY_IN, LOG_WAY_OUT };

struct log_entry {
    enum log_kind  kind;
    enum log_way   way;                     /* IN: the peer called */
    int64_t        time_ns;                 /* by the clock of the machine that wrote it */
    char           event[LOG_WORD_MAX];     /* "s2s-in-closed" */
    char           state[LOG_WORD_MAX];     /* "features" */
    char           hop[LOG_WORD_MAX];       /* "partner", "node" ... */
    enum xe_why    why;                     /* XE_WHY_COUNT: a word that is not known here */
    char           word[LOG_WORD_MAX];      /* of the reason */
    char           cert[LOG_WORD_MAX];      /* reason against what the peer showed; "good", "" */
    char           detail[LOG_WORDS_MAX];
    char           local[LOG_NAME_MAX];     /* domains; PAIRED: from and to */
    char           remote[LOG_NAME_MAX];
    struct log_end own, peer;               /* of the machine that wrote it, and the other one */
    struct log_end trunk_own, trunk_peer;   /* PAIRED */
};

struct log_events {
    void (*entry)(void *user, const struct log_entry *e);
};

struct log_counts {
    uint64_t lines;      /* that a node has written */
    uint64_t others;     /* not read: too long, or of somebody else */
    uint64_t entries;
    int64_t  first_ns, last_ns;   /* of lines; 0: none */
};

struct log_reader;

struct log_reader *log_new(const struct log_events *ev, void *user);   /* NULL: no memory */
void log_free(struct log_reader *r);                                   /* NULL is allowed */

void log_push(struct log_reader *r, const char *at, size_t len);
/* The file is over: its last line may have no end.  Another one may follow. */
void log_finish(struct log_reader *r);
struct log_counts log_count(const struct log_reader *r);

#endif
