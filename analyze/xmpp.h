/* xmpp.h -- streams by their content, on any port: one struct attempt for each connection
 *
 *   in         xmpp_push, the bytes of both sides of a flow in order; TLS is inside (tls.h)
 *   out        the struct attempt, filled in as it goes on; xmpp_events tell as it happens
 *   borrowed   the attempt until xmpp_close; it outlives the flow and is the caller's
 *   bounds     of an attempt 96 events, 32 dialback questions and 40 record lengths: 5 KB, 75 KB at
 *              worst; of a side 1 MB for one element
 */
#ifndef XMPPEDGE_ANALYZE_XMPP_H
#define XMPPEDGE_ANALYZE_XMPP_H

#include "flow.h"
#include "tls.h"

/* ---- what happened, in words of the protocol ---- */

enum event_kind {
    EVENT_TCP_SYN,        /* a connection attempt; again for each retry */
    EVENT_TCP_OPEN,
    EVENT_TCP_REFUSED,
    EVENT_TCP_FIN,
    EVENT_TCP_RST,
    EVENT_ICMP,
    EVENT_GAP,
    EVENT_TLS_HELLO,
    EVENT_TLS_SERVER,
    EVENT_TLS_CERT,
    EVENT_TLS_UP,
    EVENT_TLS_ALERT,
    EVENT_TLS_DATA,       /* encrypted, no keys: first record only */
    EVENT_HEADER,
    EVENT_FEATURES,
    EVENT_ELEMENT,        /* any other of the negotiation: `element` says which */
    EVENT_STANZA,         /* first of each kind and direction; the rest is counted */
    EVENT_STREAM_ERROR,
    EVENT_STREAM_END,
    EVENT_XML_BAD,
    EVENT_DNS,
    EVENT_PROXY           /* a load balancer's header in front of the stream */
};

const char *event_word(enum event_kind k);   /* "tcp-syn"; static */

/* One thing that happened.  Texts of recorded events belong to the attempt. */
struct event {
    enum event_kind      kind;
    enum xe_element_kind element;    /* EVENT_ELEMENT, EVENT_STANZA */
    int                  side;
    uint64_t             frame;
    int64_t              time_ns;
    const char          *from, *to;  /* addresses in the element or header; 127 bytes at most */
    const char          *what;       /* type, condition, mechanism, alert, features ...; 95 */
    const char          *text;       /* words of the other side; 159 */
};

enum dialback_answer { DIALBACK_UNANSWERED, DIALBACK_VALID, DIALBACK_INVALID, DIALBACK_ERROR };

/* One dialback question (XEP-0220 2): a key to be accepted, or one to be verified. */
struct dialback {
    bool                 verify;         /* db:verify; else db:result */
    uint8_t              side;           /* that asked */
    enum dialback_answer answer;
    char                 from[128], to[128];
    char                 id[80];         /* of the stream that it is about, or this one: result */
    char                 condition[64];  /* of an error */
    uint64_t             answered_frame;
    int64_t              answered_ns;
};

/* A TLS record, opened or not: without keys the lengths are all there is.  In TLS 1.3 the encrypted
 * part of the handshake is among them. */
struct record_seen {
    int64_t  time_ns;
    uint64_t frame;
    uint16_t length;   /* bytes on the wire, without the five of the header */
    uint8_t  type;     /* 21 alert, 23 application data */
    uint8_t  side;
};

/* What a load balancer writes in front of a connection (PROXY protocol, version 1 or 2): whose it
 * is in truth.  Addresses may be missing: a health check, or a socket of another kind. */
struct proxy_header {
    uint8_t        version;    /* 0: there is none */
    struct address address[2]; /* of the caller, and where he called; family 0: not told */
    uint16_t       port[2];
};

/* ---- all that is known of one connection ---- */

#define ATTEMPT_EVENTS_MAX    96   /* the first ones ... */
#define ATTEMPT_EVENTS_LAST   16   /* ... and the last of a long stream, not its middle */
#define ATTEMPT_DIALBACKS_MAX 32
#define ATTEMPT_RECORDS_MAX   40

enum attempt_content { CONTENT_NONE, CONTENT_XMPP, CONTENT_TLS, CONTENT_OTHER };

struct verdict;   /* of the next stage */

/* A connection and what was said on it.  Made when the flow opens, complete when it closes. */
struct attempt {
    struct flow          flow;           /* a copy, the caller brings it up to date; no user */
    enum attempt_content content;        /* first content seen; TLS: from the first byte */
    bool                 show_content;   /* in: bodies may be kept */
    bool                 is_xmpp;        /* by stream headers, ALPN xmpp-server, or the port */
    bool                 by_port;        /* only the port says so */
    enum remark          service;        /* XMPP, but no federation; REMARK_COUNT: it is not told */
    /* TLS */
    bool                 starttls;       /* was negotiated inside a stream */
    struct tls_view      tls;            /* sni and alpn point into this struct */
    char                 sni[128], alpn[48];
    int64_t              tls_up_ns;      /* 0: handshake not complete */
    struct record_seen   records[ATTEMPT_RECORDS_MAX];   /* the first encrypted ones */
    unsigned             nrecords;       /* may be more than there are in the list */
    /* stream headers, the latest; `headers` counts those since TLS began, if it did */
    char                 from[128];      /* the initiator's domain */
    char                 to[128];        /* the responder's */
    char                 id[80];         /* of the responder's: dialback keys are made for it */
    unsigned             headers[2];
    unsigned             plain_headers[2];   /* before TLS */
    bool                 wrong_namespace, not_stream;
    uint8_t              wrong_side;     /* that sent the wrong header */
    char                 namespace[64];  /* the wrong one; not_stream: see wrong_line */
    unsigned char        wrong_line[80]; /* not_stream: how the first line begins, as it came */
    uint8_t              wrong_len;
    struct proxy_header  proxy;          /* of the initiator */
    /* negotiation */
    char                 features[160];  /* latest: "starttls-required EXTERNAL dialback bidi" */
    bool                 features_seen;  /* since TLS began, if it did */
    bool                 starttls_offered, starttls_required, starttls_asked;
    bool                 proceeded, tls_failure;
    bool                 external_offered, dialback_offered;   /* in the latest features */
    bool                 auth_sent, sasl_success, sasl_failure;
    char                 sasl_condition[64], sasl_text[160];
    struct dialback     *dialbacks;      /* owned; in order */
    unsigned             ndialbacks;
    bool                 bidi, sm;
    bool                 trunk;          /* urn:xmppedge:trunk:0 seen */
    /* end */
    int                  error_side;     /* that sent a stream error first; -1: none */
    char                 error[64], error_text[160];
    uint64_t             error_frame;
    int64_t              error_ns;
    bool                 stream_end[2];
    int64_t              stream_end_ns[2];
    int                  xml_bad_side;   /* -1: none */
    enum xe_why          xml_why;
    bool                 xml_borne;      /* the other side went on all the same */
    /* traffic */
    uint64_t             stanzas[2][3];  /* message, presence, iq */
    uint64_t             stanza_errors[2];
    uint64_t             plain_stanzas;  /* seen without TLS on the wire */
    int64_t              last_content_ns[2];
    uint64_t             bye_frame[2];   /* of the last TLS alert of a side; 0: none */
    int64_t              bye_ns[2];
    int64_t              pause_ns;       /* silence before the last words; 0: they were answered */
    uint8_t              pause_side;     /* that spoke after it */
    int64_t              seen_until_ns;  /* in: of the capture, when the flow closed; 0: not told */
    struct event        *events;         /* owned */
    unsigned             nevents, cap_events, events_left_out;
    unsigned             remarks;        /* 1 << enum remark */
    struct verdict      *verdict;        /* of the next stage, which owns it; NULL at first */
};

struct attempt *attempt_new(const struct flow *f);   /* NULL: no memory */
void attempt_free(struct attempt *a);                /* not its verdict; NULL is allowed */

/* The domain of a side, as headers or DNS name it; "". */
const char *attempt_domain(const struct attempt *a, int side);

/* The certificate of a side, borrowed; NULL: not visible. */
const struct cert *attempt_cert(const struct attempt *a, int side);

/* All of them, in both directions. */
uint64_t attempt_stanzas(const struct attempt *a);
/* Records an event of any stage; it is copied. */
void attempt_event(struct attempt *a, const struct event *e);

/* ---- following a flow ---- */

struct xmpp_events {
    /* something happened; recorded in the attempt already */
    void (*event)(void *user, struct attempt *a, const struct event *e);
    /* a header, element or end as it was said, with what it holds; e is borrowed */
    void (*said)(void *user, struct attempt *a, int side, enum xe_xml_result what,
        const struct xe_xml_event *e, uint64_t frame, int64_t time_ns);
    /* the content shows that `side` opened the connection; true: the sides of the flow have been
     * exchanged now */
    bool (*initiator)(void *user, int side);
    /* a key log has been read, or one is expected */
    bool (*has_keys)(void *user);
};

struct xmpp;

/* `a` is filled in; all others are borrowed until xmpp_close.  keys and events may be NULL, certs
 * only where there is no TLS.  expected: the port is one of federation, so that everything on it is
 * of interest.  NULL: no memory. */
struct xmpp *xmpp_open(struct attempt *a, bool expected, struct tls_keys *keys,
    struct tls_certs *certs, const struct xmpp_events *events, void *user);
/* The flow has closed: a->tls becomes final.  NULL is allowed. */
void xmpp_close(struct xmpp *x);

/* False: this is no federation traffic, nothing more is wanted. */
bool xmpp_push(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns);
void xmpp_gap(struct xmpp *x, int side, uint64_t missing, uint64_t frame, int64_t time_ns);
/* The sides of the flow have been exchanged. */
void xmpp_turn(struct xmpp *x);

/* For speed only: these are pushed next, CAPTURE_BATCH at most, and their memory is fetched. */
void xmpp_expect(struct xmpp *const *x, size_t n);

#endif
