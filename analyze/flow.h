/* flow.h -- segments become TCP connections: who opened them, their bytes in order, how they ended
 *
 *   in         flow_push, packets in order of time
 *   out        flow_events: opened, then data and gaps of each side in order, then closed
 *   borrowed   a flow from opened to closed, content during the call
 *   bounds     250,000 open connections, then the one that was quiet longest is given up; 32 MB of
 *              bytes that came too early, 1 MB of one direction, then they become a gap
 *
 * Linear in the number of packets, whatever comes; time-outs are in packet time.
 */
#ifndef XMPPEDGE_ANALYZE_FLOW_H
#define XMPPEDGE_ANALYZE_FLOW_H

#include "packet.h"

/* How it is known who opened the connection, best first. */
enum evidence { EVIDENCE_SYN, EVIDENCE_SYNACK, EVIDENCE_CONTENT, EVIDENCE_PORT, EVIDENCE_NONE };

enum flow_end {
    FLOW_OPEN,
    FLOW_FIN,
    FLOW_RST,
    FLOW_REFUSED,
    FLOW_UNANSWERED,
    FLOW_ICMP,
    FLOW_IDLE,
    FLOW_CAPTURE_END,
    FLOW_EVICTED
};

const char *flow_evidence_word(enum evidence e);   /* "syn"; static */
const char *flow_end_word(enum flow_end e);        /* "fin"; static */

struct flow_side {
    struct address address;
    uint16_t       port;
    uint64_t       bytes;           /* of content, retransmissions once */
    uint64_t       packets;
    uint64_t       retransmitted;   /* packets */
    uint64_t       lost;            /* bytes missing in the capture */
    uint32_t       syns;            /* SYN or SYN+ACK seen, retries included */
    uint32_t       syn_seq;         /* sequence number of the latest; when there was one */
    uint32_t       end_seq;         /* at the end: the one behind its content; 0: not known */
    int64_t        first_ns;
    int64_t        last_ns;
    bool           fin, rst;
    uint64_t       fin_frame;       /* of the first one */
    uint64_t       rst_frame;
    int64_t        fin_ns, rst_ns;
    uint8_t        ttl;             /* of the last packet that is no reset; 0: there was none */
    uint8_t        rst_ttl;         /* of the first reset */
};

struct flow {
    uint64_t         number;        /* from 1 in order of appearance */
    struct flow_side side[2];
    enum evidence    evidence;
    bool             midstream;
    bool             established;   /* three-way handshake seen, or data both ways */
    uint32_t         interface;     /* of the first packet */
    uint64_t         first_frame;
    uint64_t         syn_frame, synack_frame;
    int64_t          first_ns, last_ns;
    int64_t          synack_ns;
    enum flow_end    end;
    enum icmp_error  icmp;
    uint64_t         icmp_frame;
    int64_t          icmp_ns;
    struct address   icmp_reporter;
    uint32_t         remarks;       /* 1 << enum remark */
    void            *user;          /* of the next stage; NULL at first */
};

struct flow_events {
    void (*opened)(void *user, struct flow *f);
    /* frame and time are those of the segment that completed it */
    void (*data)(void *user, struct flow *f, int side, const unsigned char *at, size_t len,
        uint64_t frame, int64_t time_ns);
    /* bytes that are not in the capture; what comes next is behind them */
    void (*gap)(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame,
        int64_t time_ns);
    void (*closed)(void *user, struct flow *f);   /* the last call */
    void (*remark)(void *user, enum remark r, uint64_t frame_number, const char *detail);
    /* better evidence came late: the sides have been exchanged.  Not called for what
     * flow_hint_initiator does: its caller knows */
    void (*turned)(void *user, struct flow *f);
    /* for speed only: packets of flows with these users come next, CAPTURE_BATCH at most */
    void (*soon)(void *user, void *const *users, size_t n);
};

/* Zero is the default of every field. */
struct flow_options {
    uint32_t flows_max;          /* open connections; 0: 250,000 */
    size_t   pending_max;        /* bytes out of order, all connections; 0: 32 MB */
    size_t   pending_side_max;   /* the same of one direction; 0: 1 MB */
    int64_t  idle_ns;            /* an open connection without packets ends; 0: an hour */
    int64_t  unanswered_ns;      /* a SYN without an answer ends; 0: three minutes */
    int64_t  linger_ns;          /* a closed one waits for late packets; 0: five seconds */
    uint64_t seed[2];            /* key of the hash table; 0: from /dev/urandom */
};

struct flow_table;

/* o may be NULL. */
struct flow_table *flow_new(const struct flow_options *o, const struct flow_events *ev, void *user);
void flow_free(struct flow_table *t);   /* calls no events */

/* Takes a TCP segment or an ICMP error; anything else is ignored. */
void flow_push(struct flow_table *t, const struct packet *p);

/* For speed only: these packets come next, CAPTURE_BATCH at most, and their memory is fetched. */
void flow_expect(struct flow_table *t, const struct packet *packets, size_t n);

/* Live: time passes and nothing comes; time-outs fire.  Not needed for files. */
void flow_tick(struct flow_table *t, int64_t now_ns);

/* End of the capture: closes all flows, in order of their numbers. */
void flow_end(struct flow_table *t);

/* A later stage has too much on its hands: the connection that was quiet longest ends now, as when
 * flows_max is reached.  False: there is none.  Not to be called from an event. */
bool flow_shed(struct flow_table *t);

/* A later stage knows from the content that `side` opened the connection.  This is believed when
 * the handshake is not in the capture.  True: f->side[] has been exchanged now, and later events
 * name the new sides. */
bool flow_hint_initiator(struct flow *f, int side);

/* A later stage does not want the content: no more data and gaps, nothing is kept for it. */
void flow_mute(struct flow *f);

struct flow_counts {
    uint64_t flows;                   /* opened in all */
    uint32_t open, open_most;         /* now, and the most there were */
    size_t   pending, pending_most;   /* bytes waiting out of order */
};

struct flow_counts flow_count(const struct flow_table *t);

#endif
