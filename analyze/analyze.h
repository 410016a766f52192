/* analyze.h -- the pipeline of xmppedge-analyze on one page
 *
 *   capture.c   files, standard input, interfaces        -> struct frame
 *   packet.c    link layers, IP, TCP, UDP, ICMP          -> struct packet
 *   flow.c      TCP connections, order, gaps             -> flow_events
 *   tls.c       records, handshake, certificates, keys   -> tls_events
 *   xmpp.c      streams by content, on any port          -> struct event
 *   dns.c       answers in the same capture              -> struct event
 *   verdict.c   port table, causes                       -> struct report
 *   report.c    words and groups; text, ladders
 *   json.c      JSON Lines
 *   html.c      one page
 *   analyze.c   options, pump, exit status
 *
 * Each stage is STAGE_push(self, input) with one table of sinks, so that each can be tested alone.
 * Time is packet time only: the output is a function of the input.  Memory is bounded by open
 * flows; what outlives a flow is one struct attempt.  A stage never looks at a field of a later
 * stage.
 */
#ifndef XMPPEDGE_ANALYZE_H
#define XMPPEDGE_ANALYZE_H

#include "../xmppedge.h"

#include <stdio.h>

/* ---- remarks: what is odd about a capture; each is counted and told once, never a violation -- */

#define REMARKS(X) \
    X(REMARK_FILE_CUT,        "file-cut",         "the file ends in the middle of a record") \
    X(REMARK_FILE_DAMAGED,    "file-damaged", \
        "the file is damaged here; what came before was read") \
    X(REMARK_LINK_UNKNOWN,    "link-unknown",     "a link layer that is not known") \
    X(REMARK_SNAPLEN,         "snaplen",          "packets were cut when they were captured") \
    X(REMARK_DROPS,           "drops",            "the capturing machine dropped packets") \
    X(REMARK_CHECKSUM,        "checksum", \
        "wrong checksums (usual on the sending machine: offload)") \
    X(REMARK_PACKET_BAD,      "packet-bad",       "a packet that makes no sense") \
    X(REMARK_FRAGMENT_LOST,   "fragment-lost",    "an IP fragment whose other parts are missing") \
    X(REMARK_GAP,             "gap",              "bytes of a connection are missing") \
    X(REMARK_OVERLAP,         "overlap", \
        "retransmitted bytes differ from what was sent first") \
    X(REMARK_MIDSTREAM,       "midstream", \
        "the beginning of a connection is not in the capture") \
    X(REMARK_ONE_SIDED,       "one-sided", \
        "only one direction of a connection is in the capture") \
    X(REMARK_CEILING_FLOWS,   "ceiling-flows", \
        "too many open connections: the oldest were given up") \
    X(REMARK_CEILING_BYTES,   "ceiling-bytes",    "too many bytes out of order: treated as a gap") \
    X(REMARK_CEILING_REPORT,  "ceiling-report", \
        "too many attempts to list: the rest is only counted") \
    X(REMARK_TIME_BACK,       "time-back",        "time stamps go backwards") \
    X(REMARK_DUPLICATE,       "duplicates", \
        "packets are there twice (several interfaces or VLANs, a mirror)") \
    X(REMARK_KEYS_UNUSED,     "keys-unused",      "keys were given and fit none of the sessions")

enum remark {
#define X(name, word, text) name,
    REMARKS(X)
#undef X
    REMARK_COUNT
};

/* Word and sentence of a remark; static. */
const char *remark_word(enum remark r);
const char *remark_text(enum remark r);

/* Growing text; the program ends with a message when memory is out. */
struct text {
    char  *at;    /* owned, ends in NUL */
    size_t len;
    size_t cap;
};

/* ---- capture.c: files and interfaces --------------------------------------------------------- */

/* One captured frame.  bytes are borrowed and valid during the call. */
struct frame {
    int64_t              time_ns;   /* since 1970, UTC; 0 .. INT64_MAX/2: differences never
                                     * overflow */
    uint64_t             number;    /* from 1, over all files of the run */
    uint32_t             file;      /* index of the file */
    uint32_t             interface;  /* index over all files: two interfaces of an edge are two
                                      * indices */
    int                  link;      /* LINKTYPE_* value as in files (not the DLT_* of the
                                     * platform) */
    int                  direction; /* 0 unknown, 1 inbound, 2 outbound (pcapng flags, SLL) */
    const unsigned char *bytes;
    size_t               captured;  /* bytes there are */
    size_t               length;    /* bytes there were on the wire */
};

struct capture_events {
    void (*frame)(void *user, const struct frame *f);
    void (*keys)(void *user, const char *text, size_t len);  /* pcapng decryption secrets: NSS
                                                              * key log */
    void (*drops)(void *user, uint32_t interface, uint64_t n); /* packets the capture lost */
    void (*remark)(void *user, enum remark r, uint64_t frame_number, const char *detail);
    /* for speed only, may be NULL: these frames come next, each by frame().  Memory that they need
     * can be fetched at the same time instead of one after the other: packet_peek, flow_expect */
    void (*soon)(void *user, const struct frame *frames, size_t n);
};

enum { CAPTURE_BATCH = 32 };  /* frames that `soon` tells at most */

/* How to read.  Zero is the default of every field. */
struct capture_options {
    const char *filter;        /* borrowed during capture_new; BPF, as tcpdump; NULL: everything */
    int         snaplen;       /* live; bytes; 0: 262,144 */
    bool        promiscuous;   /* live */
    const char *write;         /* live; borrowed until capture_free; a pcap file for what is read
                                * from the one interface; NULL: none */
};

/* One interface of the run; index as in frame.interface. */
struct capture_interface {
    uint32_t file;
    char     name[64];         /* as the file or the system calls it; "" when it is not known */
    char     description[96];
    int      link;             /* LINKTYPE_* */
    uint32_t snaplen;          /* 0: no limit */
    uint64_t frames;
    uint64_t drops;
};

enum capture_format { CAPTURE_PCAP, CAPTURE_PCAPNG, CAPTURE_LIVE };

/* One file (or live interface) of the run; index as in frame.file. */
struct capture_file {
    const char         *name;      /* owned by the capture */
    enum capture_format format;
    uint64_t            frames;    /* all of them, also those that the filter left out */
    uint64_t            bytes;     /* captured */
    int64_t             first_ns, last_ns;
    bool                cut, damaged;
};

enum capture_state {
    CAPTURE_MORE,   /* go on */
    CAPTURE_QUIET,  /* live: nothing came for a while */
    CAPTURE_DONE
};

struct capture;

/* A capture without sources; NULL when the filter is wrong, and `why` says what.  ev is borrowed
 * and stays valid until capture_free; members may be NULL. */
struct capture *capture_new(const struct capture_options *o, const struct capture_events *ev,
    void *user, char *why, size_t why_size);

/* Adds a file (pcap or pcapng; "-": standard input) or a live interface.  False: it cannot be
 * opened or is no capture, and `why` says what; the capture stays usable. */
bool capture_add_file(struct capture *c, const char *path, char *why, size_t why_size);
bool capture_add_interface(struct capture *c, const char *name, char *why, size_t why_size);

/* Sends at most `budget` frames down, in order of time over all sources. */
enum capture_state capture_push(struct capture *c, unsigned budget);

/* Ends the run at the next frame; may be called from a signal handler. */
void capture_stop(struct capture *c);

size_t                          capture_file_count(const struct capture *c);
const struct capture_file      *capture_file_at(const struct capture *c, size_t i);
size_t                          capture_interface_count(const struct capture *c);
const struct capture_interface *capture_interface_at(const struct capture *c, size_t i);
void                            capture_free(struct capture *c);   /* NULL is allowed */

/* ---- packet.c: addresses and segments -------------------------------------------------------- */

struct address {
    unsigned char bytes[16];   /* IPv4: the first four */
    uint8_t       family;      /* 4 or 6; 0: none */
};

enum packet_kind { PACKET_TCP, PACKET_UDP, PACKET_ICMP_ERROR };

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

/* Why a TCP connection was hurt, from an ICMP or ICMPv6 error. */
enum icmp_error { ICMP_NONE, ICMP_PORT, ICMP_HOST, ICMP_NET, ICMP_PROHIBITED, ICMP_TOO_BIG,
    ICMP_TTL };

struct packet {
    const struct frame  *frame;     /* borrowed */
    enum packet_kind     kind;
    struct address       source, target;
    uint16_t             source_port, target_port;
    uint32_t             seq, ack;
    uint16_t             window;
    uint8_t              flags;     /* TCP_* */
    uint8_t              ttl;
    const unsigned char *payload;   /* borrowed */
    size_t               captured;  /* bytes of payload there are */
    size_t               length;    /* bytes there were; >= captured */
    enum icmp_error      icmp;      /* ICMP_ERROR: source..target_port and seq are those of the
                                     * packet it is about, reporter is who says so */
    struct address       reporter;
    uint16_t             mtu;       /* ICMP_TOO_BIG: the next hop's; 0: not told */
    bool                 checksum_bad;
    uint16_t             ip_id;     /* IPv4 identification; 0: none.  A repeated frame repeats
                                     * it, a retransmission does not */
};

struct packet_events {
    void (*packet)(void *user, const struct packet *p);
    void (*remark)(void *user, enum remark r, uint64_t frame_number, const char *detail);
};

struct packet_reader;

/* ev is borrowed until packet_free.  NULL: no memory. */
struct packet_reader *packet_new(const struct packet_events *ev, void *user);

/* Takes one frame apart; calls ev->packet at most once, during the call.  IP fragments are kept
 * until they are whole. */
void packet_push(struct packet_reader *r, const struct frame *f);

/* For speed only: frame, addresses and ports of those of n frames that are ordinary TCP, nothing
 * else; returns how many of `out` were filled. */
size_t packet_peek(const struct frame *frames, size_t n, struct packet *out);

/* End of the capture: tells of fragments that never became whole. */
void packet_end(struct packet_reader *r);
void packet_free(struct packet_reader *r);   /* NULL is allowed */

/* Tools for addresses: text as in RFC 5952 (at least 46 bytes), and equality. */
const char *address_text(const struct address *a, char *out, size_t size);
bool        address_equal(const struct address *a, const struct address *b);

/* ---- flow.c: TCP connections ----------------------------------------------------------------- */

/* How it is known who opened the connection, best first. */
enum evidence { EVIDENCE_SYN, EVIDENCE_SYNACK, EVIDENCE_CONTENT, EVIDENCE_PORT, EVIDENCE_NONE };

enum flow_end { FLOW_OPEN, FLOW_FIN, FLOW_RST, FLOW_REFUSED, FLOW_UNANSWERED, FLOW_ICMP, FLOW_IDLE,
    FLOW_CAPTURE_END, FLOW_EVICTED };

struct flow_side {               /* 0: initiator, 1: responder */
    struct address address;
    uint16_t       port;
    uint64_t       bytes;        /* of content, retransmissions once */
    uint64_t       packets;
    uint64_t       retransmitted; /* packets */
    uint64_t       lost;         /* bytes missing in the capture */
    uint32_t       syns;         /* SYN or SYN+ACK seen, retries included */
    int64_t        first_ns;     /* 0: nothing seen from this side */
    int64_t        last_ns;
    bool           fin, rst;
    uint64_t       fin_frame;    /* frame numbers of the first ones; 0: none */
    uint64_t       rst_frame;
    int64_t        fin_ns, rst_ns;
};

struct flow {
    uint64_t         number;      /* from 1 in order of appearance */
    struct flow_side side[2];
    enum evidence    evidence;
    bool             midstream;
    bool             established; /* three-way handshake seen, or data both ways */
    uint32_t         interface;   /* of the first packet */
    uint64_t         first_frame;
    uint64_t         syn_frame, synack_frame;
    int64_t          first_ns, last_ns;
    int64_t          synack_ns;   /* 0: none */
    enum flow_end    end;
    enum icmp_error  icmp;
    uint64_t         icmp_frame;
    int64_t          icmp_ns;
    struct address   icmp_reporter;
    uint32_t         remarks;     /* 1 << enum remark */
    void            *user;        /* of the next stage */
};

struct flow_events {
    void (*opened)(void *user, struct flow *f);
    /* content of one side in order; frame and time are those of the segment that completed it */
    void (*data)(void *user, struct flow *f, int side, const unsigned char *at, size_t len,
        uint64_t frame, int64_t time_ns);
    void (*gap)(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame,
        int64_t time_ns);
    void (*closed)(void *user, struct flow *f);          /* last call; f is freed afterwards */
    void (*remark)(void *user, enum remark r, uint64_t frame_number, const char *detail);
    /* better evidence came late: side[0] and side[1] have been exchanged; NULL when nobody cares.
     * Not called for what flow_hint_initiator does: its caller knows */
    void (*turned)(void *user, struct flow *f);
    /* for speed only, may be NULL: packets of flows with these users come next */
    void (*soon)(void *user, void *const *users, size_t n);
};

/* Ceilings and time-outs, all in packet time.  Zero is the default of every field. */
struct flow_options {
    uint32_t flows_max;       /* open connections; 0: 250,000 */
    size_t   pending_max;     /* bytes out of order, all connections; 0: 32 MiB */
    size_t   pending_side_max;/* the same of one direction; 0: 1 MiB */
    int64_t  idle_ns;         /* an open connection without packets ends; 0: an hour */
    int64_t  unanswered_ns;   /* a SYN without an answer ends; 0: three minutes */
    int64_t  linger_ns;       /* a closed one waits for late packets; 0: five seconds */
    uint64_t seed[2];         /* key of the hash table; 0: from /dev/urandom */
};

struct flow_table;

/* ev is borrowed until flow_free; members may be NULL; o may be NULL.  NULL: no memory. */
struct flow_table *flow_new(const struct flow_options *o, const struct flow_events *ev, void *user);

/* Takes a TCP segment or an ICMP error; anything else is ignored. */
void flow_push(struct flow_table *t, const struct packet *p);

/* For speed only: packets of these connections come next, and their memory is fetched. */
void flow_expect(struct flow_table *t, const struct packet *packets, size_t n);

/* Live: time passes and nothing comes; time-outs fire.  Not needed for files. */
void flow_tick(struct flow_table *t, int64_t now_ns);

/* A later stage has too much on its hands: the connection that was quiet longest ends now, as when
 * flows_max is reached.  False: there is none.  Not to be called from an event. */
bool flow_shed(struct flow_table *t);

/* End of the capture: closes all flows, in order of their numbers. */
void flow_end(struct flow_table *t);
void flow_free(struct flow_table *t);   /* calls no events; NULL is allowed */

/* A later stage knows from the content that `side` opened the connection.  Without a handshake in
 * the capture this is believed and true is returned when the sides have been exchanged: f->side[]
 * is turned already, and later events name the new sides (the caller turns what it holds
 * itself). */
bool flow_hint_initiator(struct flow *f, int side);

/* A later stage does not want the content: no more data and gap events, nothing is kept for it. */
void flow_mute(struct flow *f);

/* Open connections now, the most there were, and bytes waiting out of order. */
struct flow_counts {
    uint64_t flows;           /* opened in all */
    uint32_t open, open_most;
    size_t   pending, pending_most;
};
struct flow_counts flow_count(const struct flow_table *t);

/* Words for reports: "syn", "fin" ...; static. */
const char *flow_evidence_word(enum evidence e);
const char *flow_end_word(enum flow_end e);

/* ---- tls.c: what can be seen of TLS, and what keys open -------------------------------------- */

enum tls_client_proof {          /* did the client prove itself with a certificate? */
    PROOF_UNKNOWN,               /* handshake not (wholly) seen, or not (yet) accepted by the
                                  * server */
    PROOF_NOT_ASKED,             /* no CertificateRequest (TLS 1.2, or decrypted), or a
                                  * resumption */
    PROOF_EMPTY,                 /* asked, and an empty list sent */
    PROOF_PROVEN,                /* certificate, CertificateVerify, completion seen */
    PROOF_INFERRED,              /* TLS 1.3 without keys: from the lengths of the client's last
                                  * flight */
    PROOF_INFERRED_NONE          /* the same: no certificate */
};

struct cert {  /* the leaf of a chain, judged at packet time; shared, see cert_keep */
    char     subject[160], issuer[160];
    char     names[512];         /* dNSName, SRV-ID, xmppAddr; ", " between; only printable ASCII */
    int64_t  not_before, not_after;   /* seconds since 1970; both inclusive */
    bool     readable;           /* false: the DER makes no sense; only fingerprint and der are
                                  * good */
    bool     self_signed;        /* issuer and subject are the same, and so are the key
                                  * identifiers */
    bool     eku_server, eku_client;  /* true when the extension is absent */
    char     fingerprint[65];    /* SHA-256 of the leaf, lower case */
    unsigned chain_length;       /* certificates in the message, the leaf included */
    const unsigned char *der;    /* the leaf, inside chain; for name checks */
    size_t   der_len;
    unsigned char *chain;        /* owned: three bytes of length and the DER of each, leaf first */
    size_t   chain_len;
    unsigned holders;            /* who has it: cert_keep, cert_drop */
};

struct tls_view {  /* what is known of the TLS of one flow; texts live as long as the session */
    bool      client_hello, server_hello;
    bool      established;       /* both Finished seen or inferred, and in TLS 1.3 the server
                                  * went on after the client's (only then has it judged the
                                  * client's certificate) */
    bool      resumed;
    bool      decrypted;         /* keys fit: at least one record was opened */
    bool      keys_would_help;   /* there is content that a key log would open */
    bool      retried;           /* a HelloRetryRequest came first */
    bool      early_data;        /* the client offers 0-RTT */
    bool      close_notify[2];
    bool      encrypted_alert[2];  /* the last record of this side is an alert whose content
                                    * cannot be read; TLS 1.3: told from its length */
    uint8_t   client_side;       /* side that sent the ClientHello; usually 0 */
    uint16_t  offered;           /* highest version that the client offers: 0x0303, 0x0304 */
    uint16_t  version;           /* chosen; 0: not seen */
    uint16_t  cipher;            /* IANA number; 0: not seen */
    int16_t   alert_side;        /* -1: none; side that sent a visible (or decrypted) fatal alert */
    int16_t   alert;             /* its description; words: xe_alert_name() */
    enum tls_client_proof proof;
    const char *proof_how;       /* static: what proof rests on; "" */
    const char *cipher_name;     /* static; "" */
    const char *why_closed;      /* static: why the content cannot be read: "no keys", "CBC
                                  * cipher suite" ...; "" */
    const char *sni;             /* "": none; only printable ASCII */
    const char *alpn;            /* chosen if visible, else offered, "," between; "" */
    const struct cert *server, *client;  /* borrowed, cert_keep to have it longer; NULL: not
                                          * visible */
    uint64_t  alert_frame;
    /* finished: the last Finished; 0: none */
    uint64_t  hello_frame, server_hello_frame, finished_frame;
    int64_t   hello_ns, finished_ns;
    uint64_t  app_records[2], app_bytes[2];  /* without keys in TLS 1.3 session tickets count too */
};

/* Every member may be NULL.  In TLS 1.3 plaintext of the client may come before `established`. */
struct tls_events {
    void (*plaintext)(void *user, int side, const unsigned char *at, size_t len, uint64_t frame,
        int64_t time_ns);
    void (*hello)(void *user, const struct tls_view *v);        /* ClientHello is complete */
    void (*established)(void *user, const struct tls_view *v);
    void (*alert)(void *user, int side, int level, int description, uint64_t frame,
        int64_t time_ns);
    /* no TLS any more: cannot go on */
    void (*broken)(void *user, int side, const char *what, uint64_t frame);
    void (*server)(void *user, const struct tls_view *v);       /* ServerHello is complete */
    void (*certificate)(void *user, int side, const struct cert *c, uint64_t frame,
        int64_t time_ns);
    /* first application record of a side that cannot be read */
    void (*encrypted)(void *user, int side, uint64_t frame, int64_t time_ns);
    void (*lost)(void *user, int side, uint64_t frame);  /* plaintext is missing here, more
                                                          * follows */
};

/* Secrets of a key log, by client random.  One for the run; outlives every session. */
struct tls_keys;
struct tls_keys *tls_keys_new(void);
void tls_keys_free(struct tls_keys *k);
/* NSS key log, in pieces of any size; the last line of a file may lack its end. */
void tls_keys_add(struct tls_keys *k, const char *text, size_t len);
void tls_keys_end(struct tls_keys *k);
/* Live: sessions wait a while for their keys. */
void tls_keys_more(struct tls_keys *k, bool expected);
/* Of sessions, not lines. */
void tls_keys_count(const struct tls_keys *k, size_t *used, size_t *unused);

/* Certificates seen, each kept once.  One for the run; may be freed when kept certificates are
 * still around. */
struct tls_certs;
struct tls_certs *tls_certs_new(void);
void tls_certs_free(struct tls_certs *c);
const struct cert *cert_keep(const struct cert *c);   /* NULL gives NULL */
void cert_drop(const struct cert *c);

/* RFC 9525 and RFC 6120 13.7: dNSName with a wildcard as whole left-most label, SRV-ID
 * _xmpp-server, xmppAddr; never CN. */
bool cert_names_domain(const struct cert *c, const char *domain);
bool cert_expired_at(const struct cert *c, int64_t time_ns);
bool cert_early_at(const struct cert *c, int64_t time_ns);   /* not valid yet */

enum cert_trust {
    CERT_TRUST_UNKNOWN,      /* no authorities given, or the certificate uses what cannot be
                              * checked here */
    CERT_TRUST_YES,
    CERT_TRUST_NO,           /* no path to one of the authorities, or a signature or constraint
                              * is wrong */
    CERT_TRUST_CHAIN_TIME    /* a path, but an authority on it is not valid at that time */
};

struct cert_anchors;
struct cert_anchors *cert_anchors_read(const char *path);  /* PEM or DER; NULL: cannot be read */
void cert_anchors_free(struct cert_anchors *a);
/* leaf's time is not judged */
enum cert_trust cert_trust(const struct cert *c, struct cert_anchors *a, int64_t time_ns);

struct tls_session;
/* A ClientHello record starts here; 6 bytes tell. */
bool tls_begins(const unsigned char *at, size_t len);
/* keys may be NULL; ev is borrowed. */
struct tls_session *tls_open(struct tls_keys *keys, struct tls_certs *certs,
    const struct tls_events *ev, void *user);
void tls_push(struct tls_session *s, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns);
void tls_gap(struct tls_session *s, int side, uint64_t missing);
const struct tls_view *tls_seen(const struct tls_session *s);   /* borrowed until tls_close */
/* for speed only: is pushed next */
void tls_expect(const struct tls_session *s);
void tls_end(struct tls_session *s);     /* no more bytes: last events; tls_seen still good */
void tls_close(struct tls_session *s);   /* tls_end if not done, and frees; NULL is fine */

const char *tls_version_name(unsigned version);         /* "TLS 1.3"; static */
const char *tls_proof_word(enum tls_client_proof p);    /* "proven", "inferred" ...; static */

/* ---- xmpp.c and dns.c: what happened, in words of the protocol ------------------------------- */

#define EVENTS(X) \
    X(EVENT_TCP_SYN,        "tcp-syn")         /* a connection attempt; again for each retry */ \
    X(EVENT_TCP_OPEN,       "tcp-open") \
    X(EVENT_TCP_REFUSED,    "tcp-refused") \
    X(EVENT_TCP_FIN,        "tcp-fin") \
    X(EVENT_TCP_RST,        "tcp-rst") \
    X(EVENT_ICMP,           "icmp") \
    X(EVENT_GAP,            "gap") \
    X(EVENT_TLS_HELLO,      "tls-client-hello") \
    X(EVENT_TLS_SERVER,     "tls-server-hello") \
    X(EVENT_TLS_CERT,       "tls-certificate") \
    X(EVENT_TLS_UP,         "tls-established") \
    X(EVENT_TLS_ALERT,      "tls-alert") \
    X(EVENT_TLS_DATA,       "tls-data")        /* encrypted, no keys: first record only */ \
    X(EVENT_HEADER,         "stream-header") \
    X(EVENT_FEATURES,       "features") \
    X(EVENT_ELEMENT,        "element")         /* any other of the negotiation: kind says which */ \
    X(EVENT_STANZA,         "stanza")          /* first of each kind and direction; the rest is \
                                                * counted */ \
    X(EVENT_STREAM_ERROR,   "stream-error") \
    X(EVENT_STREAM_END,     "stream-end") \
    X(EVENT_XML_BAD,        "xml-bad") \
    X(EVENT_DNS,            "dns")

enum event_kind {
#define X(name, word) name,
    EVENTS(X)
#undef X
    EVENT_COUNT
};

/* One thing that happened.  Texts are short, "" when they do not apply, never NULL; those of
 * recorded events belong to the attempt. */
struct event {
    enum event_kind       kind;
    enum xe_element_kind  element;    /* EVENT_ELEMENT, EVENT_STANZA */
    int                   side;       /* of the flow: 0 initiator */
    uint64_t              frame;
    int64_t               time_ns;
    const char           *from, *to;  /* addresses in the element or header; at most 127 bytes */
    const char           *what;       /* type of an answer, condition, mechanism, alert name,
                                       * features list ...; 95 */
    const char           *text;       /* words of the other side; 159 */
};


/* Everything that is known of one connection and of what was said on it: what verdict.c judges and
 * report.c prints.  Made when the flow opens, complete when it closes; outlives the flow. */
#define ATTEMPT_EVENTS_MAX 96   /* events kept of one attempt: the first ones, and the last 16 */

enum attempt_content { CONTENT_NONE, CONTENT_XMPP, CONTENT_TLS, CONTENT_OTHER };

enum dialback_answer { DIALBACK_UNANSWERED, DIALBACK_VALID, DIALBACK_INVALID, DIALBACK_ERROR };

/* One dialback question on a connection (XEP-0220 2): a key to be accepted, or one to be
 * verified. */
#define ATTEMPT_DIALBACKS_MAX 32
struct dialback {
    bool                 verify;        /* db:verify; else db:result */
    uint8_t              side;          /* that asked */
    enum dialback_answer answer;
    char                 from[128], to[128];
    char                 id[80];        /* verify: of the stream that it is about; result: of
                                         * this stream */
    char                 condition[64]; /* of an error */
    uint64_t             asked_frame, answered_frame;
    int64_t              asked_ns, answered_ns;
};

/* A TLS record, opened or not: without keys the lengths are all there is.  In TLS 1.3 the encrypted
 * part of the handshake is among them. */
#define ATTEMPT_RECORDS_MAX 40
struct record_seen {
    int64_t  time_ns;
    uint64_t frame;
    uint16_t length;   /* on the wire, without the header of five bytes */
    uint8_t  type;     /* 21 alert, 23 application data */
    uint8_t  side;
};

struct verdict;

struct attempt {
    struct flow           flow;        /* a copy, brought up to date when the flow closes; user
                                        * is NULL */
    enum attempt_content  content;     /* first content seen; TLS: from the first byte */
    bool                  show_content; /* bodies may be kept; set by analyze.c */
    bool                  is_xmpp;     /* stream headers seen, or ALPN xmpp-server, or the port
                                        * says so */
    bool                  by_port;     /* only the port says so */
    bool                  starttls;    /* TLS was negotiated inside a stream */
    struct tls_view       tls;         /* client_hello false: no TLS.  sni and alpn point into
                                        * this struct */
    char                  sni[128], alpn[48];
    int64_t               tls_up_ns;   /* 0: handshake not complete */
    struct record_seen    records[ATTEMPT_RECORDS_MAX]; /* the first encrypted ones */
    unsigned              nrecords;    /* may be more than there are in the list */
    uint16_t              last_record[2];  /* length of the last application record of each side */
    /* of the stream headers (latest) */
    char                  from[128];   /* the initiator's domain */
    char                  to[128];     /* the responder's */
    char                  id[80];      /* of the responder's latest header: what dialback keys
                                        * are made for */
    unsigned              headers[2];  /* since TLS began, if it did */
    unsigned              plain_headers[2];  /* before */
    bool                  version_1[2];
    bool                  wrong_namespace, not_stream;
    uint8_t               wrong_side;  /* that sent the wrong header */
    char                  namespace[64];     /* wrong one */
    /* negotiation */
    char                  features[160];     /* words of the latest features: "starttls-required
                                              * EXTERNAL dialback bidi" */
    bool                  features_seen;     /* since TLS began, if it did */
    bool                  starttls_offered, starttls_required, starttls_asked, proceeded,
        tls_failure;
    bool                  external_offered, dialback_offered;    /* in the latest features */
    bool                  auth_sent, sasl_success, sasl_failure;
    char                  sasl_condition[64], sasl_text[160];
    struct dialback      *dialbacks;         /* owned; in order */
    unsigned              ndialbacks;
    bool                  bidi, sm;
    bool                  trunk;             /* urn:xmppedge:trunk:0 seen */
    /* end */
    int                   error_side;        /* stream error: -1 none, side that sent it first */
    char                  error[64], error_text[160];
    uint64_t              error_frame;
    int64_t               error_ns;
    bool                  stream_end[2];
    int64_t               stream_end_ns[2];
    int                   xml_bad_side;      /* -1 none */
    enum xe_why           xml_why;
    /* traffic */
    uint64_t              stanzas[2][3];     /* message, presence, iq */
    uint64_t              stanza_errors[2];
    uint64_t              plain_stanzas;     /* seen without TLS on the wire */
    int64_t               last_content_ns[2];
    int64_t               pause_ns;          /* silence before the last words; 0 when they were
                                              * answered */
    uint8_t               pause_side;        /* that spoke after it */
    int64_t               seen_until_ns;     /* of the capture, when the flow closed; 0: not told */
    struct event         *events;            /* owned */
    unsigned              nevents, cap_events, events_left_out;
    unsigned              remarks;           /* 1 << enum remark */
    struct verdict       *verdict;           /* owned; filled in by verdict.c, never NULL in a
                                              * report */
    struct attempt       *next;              /* of verdict.c */
};

/* ---- xmpp.c ---------------------------------------------------------------------------------- */

struct xmpp;

struct xmpp_events {
    /* something happened; recorded in the attempt already */
    void (*event)(void *user, struct attempt *a, const struct event *e);
    /* the content shows that `side` opened the connection; true: the sides of the flow have been
     * exchanged now */
    bool (*initiator)(void *user, int side);
    /* a key log has been read, or one is expected */
    bool (*has_keys)(void *user);
};

struct attempt *attempt_new(const struct flow *f);    /* NULL: no memory */
void attempt_free(struct attempt *a);                 /* NULL is allowed */
/* Record an event (of any stage); it is copied. */
void attempt_event(struct attempt *a, const struct event *e);

/* Follow one flow.  `a` is borrowed and filled in; `keys` may be NULL; `expected`: the port is one
 * of federation, so that everything on it is of interest.  NULL when memory is out. */
struct xmpp *xmpp_open(struct attempt *a, bool expected, struct tls_keys *keys,
    struct tls_certs *certs, const struct xmpp_events *events, void *user);
/* False: this is no federation traffic, nothing more is wanted. */
bool xmpp_push(struct xmpp *x, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns);
void xmpp_gap(struct xmpp *x, int side, uint64_t missing, uint64_t frame, int64_t time_ns);
/* The sides of the flow have been exchanged. */
void xmpp_turn(struct xmpp *x);
/* For speed only: these are pushed next, CAPTURE_BATCH at most, and their memory is fetched. */
void xmpp_expect(struct xmpp *const *x, size_t n);
/* The flow has closed: a->tls becomes final. */
void xmpp_close(struct xmpp *x);

/* ---- dns.c: name service answers of the same capture ----------------------------------------- */

#define DNS_FACTS_MAX 4096     /* questions kept; the rest is only counted */

enum dns_type { DNS_SRV, DNS_A, DNS_AAAA };
enum dns_result { DNS_UNANSWERED, DNS_FOUND, DNS_EMPTY, DNS_NXDOMAIN, DNS_SERVFAIL, DNS_REFUSED,
    DNS_OTHER_ERROR, DNS_CUT };   /* CUT: the answer is not whole in the capture */

#define DNS_TARGETS_MAX 8

struct dns_target {            /* of one SRV record, or one address */
    char           host[128];  /* SRV: the target, "." says that there is no service; A: "" */
    uint16_t       port, priority, weight;
    struct address address;    /* A, AAAA */
};

/* One question, asked once or more often, and its last answer. */
struct dns_fact {
    struct address    client, server;
    enum dns_type     type;
    enum dns_result   result;
    char              name[160];      /* as asked, lower case */
    char              domain[128];    /* the XMPP domain it was asked for; "" when that is not
                                       * known */
    char              service[16];    /* "xmpp-server", "xmpps-server"; "" for addresses */
    char              alias[128];     /* where a CNAME leads; "" */
    struct dns_target targets[DNS_TARGETS_MAX];
    unsigned          ntargets;
    unsigned          asked, answered;
    uint64_t          query_frame, answer_frame;  /* first question, last answer; 0: not in the
                                                   * capture */
    int64_t           query_ns, answer_ns;
};

const char *dns_type_word(enum dns_type t);       /* "SRV", "A", "AAAA" */
const char *dns_result_word(enum dns_result r);   /* "found", "nxdomain" ... */

struct dns;

struct dns *dns_new(void);                        /* NULL: no memory */
/* One message without its TCP length; anything that makes no sense is ignored. */
void dns_push(struct dns *d, const struct address *source, const struct address *target,
    bool from_server, const unsigned char *at, size_t len, uint64_t frame, int64_t time_ns);
/* in order of the first question */
const struct dns_fact *dns_facts(const struct dns *d, size_t *n);
uint64_t dns_left_out(const struct dns *d);       /* questions over the ceiling */
/* The domain for which `client` looked before it called address:port; NULL when the capture does
 * not tell. */
const struct dns_fact *dns_find(const struct dns *d, const struct address *client,
    const struct address *target, uint16_t port, int64_t before_ns);
/* An SRV record leads to address:port, whoever asked; or one of `domain` leads to this port of a
 * host whose address is not in the capture. */
bool dns_announces(const struct dns *d, const char *domain, const struct address *target,
    uint16_t port);
void dns_free(struct dns *d);                     /* NULL is allowed */

/* ---- verdict.c: what it all means ------------------------------------------------------------ */

/* Why an attempt failed.  Columns: id; word (stable; those of the proxy's reasons where the reason
 * is the same); what happened; what our administrator can do; what to tell the partner ("" when it
 * is not his). */
#define CAUSES(X) \
    X(CAUSE_NONE, "none", "nothing failed", "", "") \
    /* before TCP */ \
    X(CAUSE_DNS_NOT_FOUND, "dns-not-found", "the domain does not exist or has no server records", \
        "check the spelling of the domain and that the resolver of the edge sees the public " \
        "name space", \
        "publish an SRV record _xmpp-server._tcp or an address record for your domain") \
    X(CAUSE_DNS_NO_SERVICE, "dns-no-service", \
        "the domain announces that it offers no XMPP service", \
        "nothing can be done here: the partner has switched XMPP off for this domain", \
        "your SRV record has the target '.', which says that you offer no XMPP; correct it if " \
        "you do") \
    X(CAUSE_DNS_FAILED, "dns-failed", \
        "the name servers did not answer, or answered with an error", \
        "check the resolver of the edge and that port 53 (UDP and TCP) is open to it", \
        "check the name servers of your domain: they time out or fail") \
    /* TCP */ \
    X(CAUSE_TCP_REFUSED, "tcp-refused", "the connection was refused", \
        "nothing listens there: start the service, or correct the SRV record if it is ours", \
        "your server refuses connections on this port: start it, or correct your SRV record") \
    X(CAUSE_TCP_TIMEOUT, "tcp-timeout", \
        "no answer came: the connection is filtered, or the host is down", \
        "let the firewalls on our side pass this row of the port table", \
        "your firewall drops connections to this port, or the host is down: let our edge pass") \
    X(CAUSE_TCP_PROHIBITED, "tcp-prohibited", \
        "a router or firewall prohibits the connection and says so", \
        "the address that sent the ICMP error is the filter: permit this row of the port table " \
        "there", \
        "the named router on your side prohibits the connection: permit it there") \
    X(CAUSE_TCP_UNREACHABLE, "tcp-unreachable", "there is no route to the server", \
        "check the routing of the edge, and IPv6 if this is an IPv6 address", \
        "the address in your DNS records cannot be reached: check routing and records") \
    X(CAUSE_PATH_MTU, "path-mtu", \
        "large packets do not get through: path MTU discovery is broken", \
        "permit ICMP 'fragmentation needed' (IPv6: 'packet too big'), or clamp the MSS on the " \
        "tunnel or VPN", \
        "large packets are lost on the path to you: permit ICMP 'fragmentation needed'") \
    X(CAUSE_PEER_LOST, "peer-lost", "the connection was cut", \
        "look into the logs of both servers at this time, and at firewalls that reset " \
        "connections", \
        "the connection was cut on your side at this time: what does your server's log say?") \
    X(CAUSE_IDLE_CUT, "idle-cut", "something on the path forgot the idle connection", \
        "set keepalives of the edge below the idle time-out of the firewall, or raise that " \
        "time-out", \
        "a firewall forgets idle connections: use shorter keepalives") \
    /* streams */ \
    X(CAUSE_SILENT_PEER, "silent-peer", \
        "the server accepted the connection and then said nothing", \
        "check that an XMPP server (no load balancer without one behind it) listens there", \
        "your server accepts connections and stays silent: it hangs, or a load balancer has " \
        "nothing behind it") \
    X(CAUSE_CALLER_SILENT, "caller-silent", \
        "the caller opened the connection and then said nothing", \
        "a health check or port scan does this; if it is the gateway, look into its log", \
        "your server opens connections and says nothing") \
    X(CAUSE_NOT_XMPP, "not-xmpp", "what was said is no XMPP stream", \
        "another program calls, or listens, on this port", \
        "something else than XMPP is spoken on your side") \
    X(CAUSE_BAD_NAMESPACE, "bad-namespace", \
        "the stream header does not name the server-to-server namespace", \
        "a client connection (5222) was pointed at the server port, or the other way round", \
        "your server opens the stream with the wrong namespace: jabber:server is needed") \
    X(CAUSE_BAD_VERSION, "bad-version", "the XMPP version was not accepted", \
        "the partner's software is too old, or the version attribute is missing", \
        "your server announces a version that is not accepted") \
    X(CAUSE_HOST_UNKNOWN, "host-unknown", "the domain is not served there", \
        "check that the domain is configured on the called server, and where its SRV record " \
        "points", \
        "your DNS records lead to a server that does not serve this domain") \
    X(CAUSE_XML_MALFORMED, "xml-malformed", "what was sent is not well-formed XML", \
        "the sender's software is at fault; the log of the other side may show what it was", \
        "your server sends XML that is not well-formed") \
    X(CAUSE_XML_RESTRICTED, "xml-restricted", \
        "forbidden XML: a comment, processing instruction or entity", \
        "the sender's software is at fault", "your server sent XML that RFC 6120 forbids") \
    X(CAUSE_BAD_ELEMENT, "bad-element", \
        "an element was sent that the other side does not support", \
        "compare the software and the settings of both sides", \
        "your server sends an element that ours does not support") \
    X(CAUSE_BAD_ADDRESS, "bad-address", "a stanza or header had no proper address", \
        "the sender's software is at fault", "your server sends elements with wrong addresses") \
    X(CAUSE_INVALID_FROM, "invalid-from", \
        "a sender domain was used that is not authorised on the stream", \
        "check that the sending server is configured for this domain", \
        "your server sends from a domain for which it has not authenticated") \
    X(CAUSE_NOT_AUTHORIZED, "not-authorized", "the other side does not accept who we are", \
        "check certificate and DNS of the refused side; the words of the other side may say more", \
        "your server does not authorise ours: which rule refuses it?") \
    X(CAUSE_POLICY, "policy-violation", "the other side's policy forbids it", \
        "read its words; often encryption is required, or the domain is on no list of allowed " \
        "partners", \
        "your server's policy refuses ours: please permit our domain") \
    X(CAUSE_LIMIT, "limit-connections", "the other side has no room for another connection", \
        "raise the limit of connections for this partner, or find out why so many are open", \
        "your server has no resources for our connection") \
    X(CAUSE_TOO_BIG, "stanza-too-big", "a stanza was larger than the other side takes", \
        "set the stanza limit of the edge to the smaller of both sides", \
        "your server closes the stream when a stanza is too large: bounce it instead, or raise " \
        "the limit") \
    X(CAUSE_SHUTDOWN, "shutdown", "the server was shut down before the stream was ready", \
        "try again when the server runs", "your server was shutting down at this time") \
    X(CAUSE_SETUP_TIMEOUT, "setup-timeout", "the stream was not ready in time", \
        "find the last step before the silence in the details: the side that owes the next one " \
        "is at fault", \
        "the negotiation between our servers stops in the middle: what does your log say?") \
    X(CAUSE_STREAM_ERROR, "peer-stream-error", "the other server ended the stream with an error", \
        "read its condition and words", "your server ended the stream with this error") \
    X(CAUSE_CRASH, "crash-in-negotiation", \
        "a side dropped the stream in the middle of the negotiation without a reason", \
        "look into the log of that server for a crash at this time; ejabberd up to 24.12 " \
        "crashes on certificates with an xmppAddr name", \
        "your server drops our stream without an error in the middle of the negotiation: " \
        "please look for a crash") \
    /* TLS */ \
    X(CAUSE_TLS_REQUIRED, "tls-required", "TLS is required and the caller did not use it", \
        "enable TLS on the calling server", \
        "your server does not start TLS although ours requires it") \
    X(CAUSE_TLS_NOT_OFFERED, "tls-not-offered", \
        "the caller needs TLS and the other server does not offer it", \
        "allow plain connections with this partner, or wait until the partner has TLS", \
        "your server does not offer STARTTLS: please enable it") \
    X(CAUSE_TLS_REFUSED, "tls-refused", "the server offered TLS and then refused to start it", \
        "check the certificate and key of the refusing server", \
        "your server offers STARTTLS and then refuses it: check its certificate and key") \
    X(CAUSE_TLS_VERSION, "tls-version", "the two sides have no TLS version in common", \
        "permit TLS 1.2 and 1.3 on both sides", "your server needs TLS 1.2 or newer") \
    X(CAUSE_TLS_NO_CIPHER, "tls-no-common-cipher", "the two sides have no cipher suite in common", \
        "compare the cipher lists and the key types of the certificates (RSA, ECDSA) of both " \
        "sides", \
        "your server shares no cipher suite with ours: permit AES-GCM with ECDHE") \
    X(CAUSE_TLS_FAILED, "tls-failed", "the TLS handshake failed", \
        "the alert says why; look into the log of the side that sent it", \
        "the TLS handshake between our servers fails like this: what does your log say?") \
    X(CAUSE_CERT_MISSING, "cert-missing", "a certificate is required and none was sent", \
        "give the calling server a certificate and let it present it", \
        "your server presents no certificate when it calls") \
    X(CAUSE_CERT_EXPIRED, "cert-expired", "a certificate has expired", \
        "renew the certificate", "the certificate of your server has expired: please renew it") \
    X(CAUSE_CERT_NOT_YET, "cert-not-yet-valid", "a certificate is not valid yet", \
        "check the clocks of both sides", \
        "the certificate of your server is not valid yet: check clocks") \
    X(CAUSE_CERT_NAME, "cert-name", "a certificate is not valid for the domain", \
        "get a certificate that names the XMPP domain (not the host) as dNSName", \
        "your certificate does not name your XMPP domain: please get one that does") \
    X(CAUSE_CERT_UNTRUSTED, "cert-untrusted", "a certificate is not from a trusted authority", \
        "use a certificate of a public authority and send the intermediate ones too, or trust " \
        "the issuer", \
        "your certificate is not from an authority that we trust, or intermediate certificates " \
        "are missing") \
    X(CAUSE_CERT_PURPOSE, "cert-purpose", \
        "a certificate may not be used by a client (extended key usage)", \
        "get a certificate with clientAuth, or let the called server ignore that usage (RFC " \
        "6120 needs no more)", \
        "public authorities no longer issue clientAuth: please let your server accept " \
        "serverAuth only") \
    X(CAUSE_CERT_REVOKED, "cert-revoked", "a certificate has been revoked", \
        "get a new certificate", "the certificate of your server has been revoked") \
    X(CAUSE_CERT_INVALID, "cert-invalid", "a certificate is not acceptable", \
        "compare the certificate with what the other side demands (names, dates, chain, usage, " \
        "key)", \
        "our server does not accept your certificate: which one do you use?") \
    X(CAUSE_REFUSED_INSIDE, "refused-inside-tls", \
        "one side ended the stream inside TLS before it was ready", \
        "give the key log of one server (--keys) to see the words; usual reasons are the " \
        "certificate or the domain", \
        "a stream between our servers ends right after the TLS handshake: what does your log " \
        "say?") \
    /* authentication */ \
    X(CAUSE_SASL_REFUSED, "sasl-refused", "SASL EXTERNAL was refused", \
        "the certificate of the caller is not accepted; the words of the other side say why", \
        "your server refuses SASL EXTERNAL from ours: which rule fails?") \
    X(CAUSE_NO_METHOD, "no-auth-method", \
        "no way to authenticate was offered that the caller may use", \
        "allow dialback with this partner, or get a certificate that the partner accepts", \
        "your server offers neither SASL EXTERNAL nor dialback to ours") \
    X(CAUSE_DIALBACK_INVALID, "dialback-invalid", "dialback failed: the key was not valid", \
        "the name server record of the calling domain leads to another server, or servers of " \
        "one domain have different dialback secrets", \
        "your authoritative server does not know the key that your server sent: same secret on " \
        "all of them?") \
    X(CAUSE_DIALBACK_ERROR, "dialback-error", \
        "dialback failed: the other server answered with an error", \
        "the condition says why", \
        "dialback between our servers ends with this error: what does your log say?") \
    X(CAUSE_DIALBACK_TIMEOUT, "dialback-timeout", "dialback was not answered", \
        "the called server could not ask the authoritative one: check SRV record and port 5269 " \
        "of the calling domain", \
        "your server never answers our dialback key: can it reach our server on port 5269?") \
    X(CAUSE_DIALBACK_UNREACHABLE, "dialback-unreachable", \
        "dialback failed: the authoritative server could not be asked", \
        "make port 5269 of the calling domain reachable from the called server (row 1 of the " \
        "port table)", \
        "our server could not reach yours to verify your key: check your SRV record and port " \
        "5269") \
    /* not known */ \
    X(CAUSE_CAPTURE_SHORT, "capture-short", "the capture does not show how it ended", \
        "capture longer, on both sides of the edge, with full packets (snaplen 0)", "")

enum cause {
#define X(name, word, what, remedy, forward) name,
    CAUSES(X)
#undef X
    CAUSE_COUNT
};

struct cause_row {
    const char *word, *what, *remedy, *forward;   /* static, never NULL */
};
const struct cause_row *cause_row(enum cause c);

/* How far an attempt got; each includes the ones before it. */
#define REACHES(X) \
    X(REACH_NOTHING,  "nothing") \
    X(REACH_NAME,     "name")          /* DNS only */ \
    X(REACH_SYN,      "syn")           /* a connection was asked for */ \
    X(REACH_TCP,      "tcp")           /* and stood */ \
    X(REACH_HEADER,   "header")        /* both stream headers, plain */ \
    X(REACH_TLS,      "tls")           /* TLS handshake done */ \
    X(REACH_STREAM,   "stream")        /* both stream headers where they belong (inside TLS, if \
                                        * there is TLS) */ \
    X(REACH_AUTH,     "authenticated")  /* SASL success, a valid dialback key, or a dialback \
                                         * answer given */ \
    X(REACH_STANZAS,  "stanzas")

enum reach {
#define X(name, word) name,
    REACHES(X)
#undef X
    REACH_COUNT
};
const char *reach_word(enum reach r);

/* rows 1 to 3 of the port table; 0: none of them */
enum row { ROW_OTHER, ROW_IN, ROW_OUT, ROW_INNER, ROW_COUNT };
enum ruling { RULING_CONFORMS, RULING_VIOLATES, RULING_CANNOT_TELL };
enum outcome { OUTCOME_WORKED, OUTCOME_FAILED, OUTCOME_UNKNOWN };
enum direction { DIRECTION_UNKNOWN, DIRECTION_IN, DIRECTION_OUT };   /* seen from the edge */

const char *row_word(enum row r);              /* "5269-in", "5269-out", "23456-in", "other" */
const char *ruling_word(enum ruling r);        /* "conforms", "violates", "cannot-tell" */
const char *outcome_word(enum outcome o);      /* "worked", "failed", "cannot-tell" */
const char *direction_word(enum direction d);  /* "in", "out", "unknown" */

#define VIOLATIONS(X) \
    X(VIOLATION_EDGE_DIALS,   "edge-opened-23456", \
        "the edge opened a connection to port 23456: only gateways may") \
    X(VIOLATION_INNER_OUTSIDE, "23456-on-external", \
        "port 23456 was reached on the external address") \
    X(VIOLATION_NO_MTLS,      "23456-without-mutual-tls", \
        "a connection to 23456 worked without a client certificate") \
    X(VIOLATION_NO_TLS,       "23456-without-tls",   "XMPP was spoken on 23456 without TLS") \
    X(VIOLATION_OTHER_SOURCE, "5269-from-other-address", \
        "an outgoing 5269 connection did not leave from the external address") \
    X(VIOLATION_OTHER_TARGET, "5269-on-other-address", \
        "an incoming 5269 connection was served on another address than the external one") \
    X(VIOLATION_OTHER_PORT,   "xmpp-on-unlisted-port", \
        "XMPP was spoken on a port that is not in the port table") \
    X(VIOLATION_PLAIN,        "plain-stanzas", \
        "stanzas crossed the network without encryption")

enum violation_kind {
#define X(name, word, what) name,
    VIOLATIONS(X)
#undef X
    VIOLATION_COUNT
};
const char *violation_word(enum violation_kind v);
const char *violation_text(enum violation_kind v);

/* Where in the capture something can be looked up. */
struct proof {
    uint64_t    frame;       /* 0: no entry */
    int64_t     time_ns;
    const char *what;        /* static: "SYN", "stream error" ... */
};

#define PROOFS_MAX 6

/* What is thought of one attempt.  Texts are whole sentences or single words, "" when they do not
 * apply. */
struct verdict {
    enum row       row;
    enum direction direction;
    enum outcome   outcome;
    enum reach     reached;
    bool           reach_inferred;  /* from record lengths, without keys */
    bool           cause_inferred;  /* the same for the cause */
    enum cause     cause;           /* OUTCOME_FAILED; or _CAPTURE_SHORT, _CALLER_SILENT with
                                     * OUTCOME_UNKNOWN */
    enum cause     setback;         /* a step that failed although the attempt went on (EXTERNAL
                                     * refused, dialback accepted); CAUSE_NONE */
    int            fault;           /* side of the flow that has to change something; -1: neither
                                     * or unknown */
    char           story[512];      /* one sentence: what happened, with names and numbers */
    int            said_by;         /* side whose words they are; -1: somebody else's */
    char           words[160];      /* of the other side: stream error text, SASL text, alert
                                     * name */
    bool           theirs;          /* the side at fault is known, and it is the partner */
    const char    *remedy;          /* static; for our administrator */
    const char    *forward;         /* static; to be sent to the partner */
    const char    *method;          /* static: "EXTERNAL", "dialback", "verify", "trunk",
                                     * "EXTERNAL or dialback" (no keys), "" */
    bool           keys_would_help;
    bool           announced;       /* the called port is no row's, and an SRV record leads to it */
    bool           asks_much;       /* without keys: more than one question and answer */
    bool           verify_only;     /* nothing but a dialback question was asked on it (may be
                                     * inferred) */
    bool           domains_by_dns;  /* attempt.to comes from DNS, or from SNI, not from a header */
    uint64_t       joined;          /* number of the flow of the other half of a dialback; 0 */
    struct proof   proofs[PROOFS_MAX];
    unsigned       nproofs;
    uint32_t       violations;      /* 1 << enum violation_kind */
    uint32_t       suspected;       /* the same, would be true if the inferred addresses are
                                     * right */
};

/* One row of the port table. */
struct report_row {
    bool        observed;
    uint64_t    attempted;       /* connections asked for */
    uint64_t    established;     /* the TCP connection stood */
    uint64_t    working;         /* authenticated: stanzas may flow or did; dialback questions
                                  * answered */
    uint64_t    failed;          /* may have worked before */
    uint64_t    unknown;         /* not known how it ended */
    uint64_t    announced;       /* ROW_OTHER: outward, to where an SRV record leads */
    uint64_t    stanzas;
    uint64_t    failed_by[CAUSE_COUNT];
    uint64_t    violations[VIOLATION_COUNT];
    uint64_t    mtls_proven, mtls_inferred;    /* ROW_INNER */
    enum ruling ruling;
    char        why[240];        /* one sentence */
};

/* A violation as it is listed; the same kind is listed REPORT_VIOLATIONS_MAX times at most. */
#define REPORT_VIOLATIONS_MAX 64
struct report_violation {
    enum violation_kind kind;
    enum row            row;
    bool                suspected;  /* only if the inferred addresses are right: counts as cannot
                                     * tell */
    uint64_t            flow, frame;
    int64_t             time_ns;
    struct address      source, target;
    uint16_t            port;
    char                detail[160];
};

/* What a pair of domains is to each other. */
enum pairing {
    PAIR_PARTNER,     /* a domain of ours and one of a partner */
    PAIR_INNER,       /* on row 3: the edge, and the gateway or inner server */
    PAIR_UNPLACED     /* neither side is known to be the edge: the caller's domain, the called
                       * one */
};

/* One direction between a domain of ours and one of a partner. */
struct report_way {
    uint64_t     attempts, worked, failed, unknown, verifies;
    enum reach   reached;         /* the best */
    bool         reach_inferred;
    const char  *method;          /* of the best attempt; static */
    uint16_t     tls_version;     /* of the best attempt; 0: none */
    const char  *cipher;          /* static; "" */
    bool         client_cert;     /* the caller proved itself with a certificate (proven or
                                   * inferred) */
    uint64_t     stanzas[3];      /* message, presence, iq; sent in this direction, on whatever
                                   * connection */
    uint64_t     stanza_errors;
    enum cause   last_cause;      /* of the last failure */
    int64_t      last_failure_ns; /* 0: none */
    int64_t      first_ns, last_ns;
    char         last_words[160];
};

#define REPORT_PARTNERS_MAX 4096
struct report_partner {
    char              ours[128], theirs[128];  /* "" : not named */
    enum pairing      kind;
    struct report_way in, out;    /* PAIR_INNER: `in` is from the gateway; UNPLACED: `out` only */
};

/* Where an address that the port table needs comes from. */
enum known { KNOWN_NOT, KNOWN_OPTION, KNOWN_CONFIG, KNOWN_INFERRED };
const char *known_word(enum known k);  /* "not known", "option", "configuration", "inferred" */

#define REPORT_ADDRESSES_MAX 16
#define ATTEMPTS_LISTED_MAX 2000   /* attempts with details; half of the places are for failed
                                    * ones only */

struct report {
    /* the capture */
    const struct capture_file      *files;      /* borrowed; set by analyze.c, as all of the
                                                 * capture */
    size_t                          nfiles;
    const struct capture_interface *interfaces;
    size_t                          ninterfaces;
    uint64_t                        packets;     /* analysed */
    uint64_t                        flows;       /* TCP connections, of any kind */
    uint64_t                        flows_xmpp;  /* attempts, listed or not */
    uint64_t                        dns_messages;
    int64_t                         first_ns, last_ns;
    uint64_t                        remarks[REMARK_COUNT];
    uint64_t                        remark_frame[REMARK_COUNT];       /* of the first one */
    char                            remark_detail[REMARK_COUNT][96];  /* of the first one */
    bool                            damaged;
    size_t                          keys_used, keys_unused;
    bool                            keys_given;
    bool                            keys_would_help;
    /* the edge */
    struct address                  external[REPORT_ADDRESSES_MAX], internal[REPORT_ADDRESSES_MAX];
    size_t                          nexternal, ninternal;
    enum known                      external_known, internal_known;
    char                            addresses_why[200];  /* when inferred: on what grounds */
    uint16_t                        external_port, internal_port;
    /* what was found */
    struct report_row               rows[ROW_COUNT];
    struct report_violation        *violations;
    size_t                          nviolations;
    struct report_partner          *partners;    /* in order of appearance */
    size_t                          npartners;
    uint64_t                        partners_left_out;
    struct attempt                **attempts;    /* listed ones, in order of time */
    size_t                          nattempts;
    uint64_t                        attempts_left_out;
    uint64_t                        worked, failed, unknown;          /* over all attempts */
    uint64_t                        failed_by[CAUSE_COUNT];
    const struct dns_fact          *dns;
    size_t                          ndns;
    uint64_t                        dns_left_out;
    bool                            show_content;
    int                             exit_code;
    char                            missing_rows[64];  /* words of rows of --require that were
                                                        * not observed */
};

/* What verdict.c needs to know; borrowed texts and arrays, valid for its life. */
struct verdict_options {
    struct address         external[REPORT_ADDRESSES_MAX], internal[REPORT_ADDRESSES_MAX];
    size_t                 nexternal, ninternal;
    enum known             external_known, internal_known;
    uint16_t               external_port, internal_port;   /* 0: 5269, 23456 */
    struct cert_anchors   *anchors;       /* NULL: chains are not judged */
    unsigned               required;      /* 1 << enum row */
    bool                   keys_given;
    bool                   show_content;
};

struct judge;

/* NULL: no memory */
struct judge *judge_new(const struct verdict_options *o, const struct dns *dns);
/* Takes over an attempt whose flow has closed. */
void judge_push(struct judge *j, struct attempt *a);
void judge_remark(struct judge *j, enum remark r, uint64_t frame, const char *detail);
/* End of the capture.  The report is borrowed until judge_free; the caller fills in what it knows
 * of the capture before it prints. */
struct report *judge_end(struct judge *j);
void judge_free(struct judge *j);              /* NULL is allowed */

/* ---- report.c -------------------------------------------------------------------------------- */

/* All return 0, or -1 when writing failed. */
int report_text(const struct report *r, FILE *to, bool colour, bool ladder);
int report_json(const struct report *r, FILE *to);
int report_html(const struct report *r, FILE *to);

#endif
