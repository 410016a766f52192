/* verdict.h -- what it all means: how far attempts got, why not further, which rules were broken
 *
 *   in         judge_push, attempts whose flow has closed, in any order; judge_flow, all flows that
 *              have closed; judge_remark; judge_log, what a node itself wrote of an attempt
 *   out        judge_end: one struct report
 *   borrowed   dns and the options until judge_free; the report until then, too
 *   bounds     2,000 attempts with details, 4,096 pairs of domains, 64 violations of a kind; what
 *              comes after them is only counted
 */
#ifndef XMPPEDGE_ANALYZE_VERDICT_H
#define XMPPEDGE_ANALYZE_VERDICT_H

#include "dns.h"
#include "inside.h"
#include "join.h"

/* Why an attempt failed, in the order of a connection. */
enum cause {
    CAUSE_NONE,
    /* before TCP */
    CAUSE_DNS_NOT_FOUND, CAUSE_DNS_NO_SERVICE, CAUSE_DNS_FAILED, CAUSE_SRV_ADDRESS,
    CAUSE_SRV_ALIAS, CAUSE_SRV_NO_ADDRESS, CAUSE_SRV_NO_PORT,
    /* TCP */
    CAUSE_TCP_REFUSED, CAUSE_TCP_TIMEOUT, CAUSE_TCP_PROHIBITED, CAUSE_TCP_UNREACHABLE,
    CAUSE_PATH_MTU, CAUSE_PEER_LOST, CAUSE_MIDDLEBOX_RESET, CAUSE_IDLE_CUT,
    /* streams */
    CAUSE_SILENT_PEER, CAUSE_CALLER_SILENT, CAUSE_NOT_XMPP, CAUSE_BAD_NAMESPACE, CAUSE_BAD_VERSION,
    CAUSE_HOST_UNKNOWN, CAUSE_XML_MALFORMED, CAUSE_XML_RESTRICTED, CAUSE_BAD_ELEMENT,
    CAUSE_BAD_ADDRESS, CAUSE_INVALID_FROM, CAUSE_NOT_AUTHORIZED, CAUSE_POLICY, CAUSE_BLOCKED,
    CAUSE_LIMIT, CAUSE_TOO_BIG, CAUSE_SHUTDOWN, CAUSE_SETUP_TIMEOUT, CAUSE_STREAM_ERROR,
    CAUSE_CRASH,
    /* TLS */
    CAUSE_TLS_REQUIRED, CAUSE_TLS_NOT_OFFERED, CAUSE_TLS_REFUSED, CAUSE_TLS_VERSION,
    CAUSE_TLS_NO_CIPHER, CAUSE_TLS_FAILED, CAUSE_CERT_MISSING, CAUSE_CERT_EXPIRED,
    CAUSE_CERT_NOT_YET, CAUSE_CERT_NAME, CAUSE_CERT_UNTRUSTED, CAUSE_CERT_PURPOSE,
    CAUSE_CERT_REVOKED, CAUSE_CERT_INVALID, CAUSE_REFUSED_INSIDE,
    /* authentication */
    CAUSE_SASL_REFUSED, CAUSE_NO_METHOD, CAUSE_DIALBACK_INVALID, CAUSE_DIALBACK_ERROR,
    CAUSE_DIALBACK_TIMEOUT, CAUSE_DIALBACK_UNREACHABLE,
    /* not known */
    CAUSE_CAPTURE_SHORT,
    CAUSE_COUNT
};

/* What is said of a cause; static. */
struct cause_row {
    const char *word;      /* stable: scripts match it; that of the proxy where the reason is one */
    const char *what;      /* what happened */
    const char *remedy;    /* what our administrator can do */
    const char *forward;   /* what the partner is told who is at fault; "": it is not his */
};
const struct cause_row *cause_row(enum cause c);

/* It is about a certificate: that of the side at fault. */
bool cause_is_cert(enum cause c);

/* What the partner is told when it is we who refuse something of his; NULL: the same. */
const char *cause_refusal(enum cause c);

/* Another protocol that was met where a stream should be, known by how its first line begins. */
struct stranger_row {
    const char *begins;
    uint8_t     len;        /* bytes of it */
    const char *name;       /* "HTTP"; static */
    const char *remedy;     /* "": that of CAUSE_NOT_XMPP */
};
/* NULL: none that is known. */
const struct stranger_row *cause_stranger(const unsigned char *at, size_t len);

/* The same remedy where nothing was said that one could read. */
const char *cause_unsaid(enum cause c);

/* A side ended it without a word that can be read: the reason stands in its log. */
bool cause_is_wordless(enum cause c);
/* The partner is asked why: of no use when it was our side that ended it. */
bool cause_asks_why(enum cause c);
/* What our administrator can do about it; ours: it was our side that ended it first. */
const char *cause_wordless(enum cause c, bool ours);

/* What the partner is told whose server does not want to hear of servers. */
const char *cause_refuses_servers(void);

/* How far an attempt got; each includes the ones before it. */
enum reach {
    REACH_NOTHING,
    REACH_NAME,      /* DNS only */
    REACH_SYN,       /* a connection was asked for */
    REACH_TCP,       /* and stood */
    REACH_HEADER,    /* both stream headers, plain */
    REACH_TLS,       /* TLS handshake done */
    REACH_STREAM,    /* both stream headers where they belong: inside TLS, if there is TLS */
    REACH_AUTH,      /* SASL success, a valid dialback key, or a dialback answer given */
    REACH_STANZAS
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

enum violation_kind {
    VIOLATION_EDGE_INSIDE,
    VIOLATION_EDGE_DIALS,
    VIOLATION_INNER_OUTSIDE,
    VIOLATION_NO_MTLS,
    VIOLATION_NO_TLS,
    VIOLATION_OTHER_SOURCE,
    VIOLATION_OTHER_TARGET,
    VIOLATION_OTHER_PORT,
    VIOLATION_PLAIN,
    VIOLATION_COUNT
};
const char *violation_word(enum violation_kind v);
const char *violation_text(enum violation_kind v);
const char *violation_remedy(enum violation_kind v);   /* why it matters, and what to do */

/* Where in the capture something can be looked up. */
struct proof {
    uint64_t    frame;       /* 0: no entry */
    int64_t     time_ns;
    const char *what;        /* static: "SYN", "stream error" ... */
};

#define PROOFS_MAX 6

/* What the log of a side says of an attempt. */
struct log_said {
    struct log_entry entry;
    const char      *file;       /* borrowed; its name, which judge_log fills in */
    int64_t          apart_ns;   /* its time, seen from the last packet of the connection */
    bool             by_peer;    /* join.h: its own address is another one in the capture */
};

/* What is thought of one attempt. */
struct verdict {
    enum row       row;
    enum direction direction;
    enum outcome   outcome;
    enum reach     reached;
    bool           reach_inferred;  /* from record lengths, without keys */
    bool           cause_inferred;  /* the same for the cause */
    bool           older;           /* in use since before the capture began */
    bool           from_log;        /* the outcome and the cause are those of said[teller] */
    enum cause     cause;           /* of OUTCOME_FAILED, or why the outcome is unknown */
    /* a step that failed (EXTERNAL refused, dialback accepted), or the block that ended its work */
    enum cause     setback;
    int            fault;           /* side that has to change something; -1: none or unknown */
    int            closer;          /* side that ended it first; -1: none or unknown */
    const char    *ended_where;     /* static; inside TLS: after what, as lengths tell; "" */
    char           story[512];      /* one sentence: what happened, with names and numbers */
    int            said_by;         /* side whose words they are; -1: somebody else's */
    char           words[160];      /* text of a stream or SASL error, name of an alert */
    bool           theirs;          /* the side at fault is known, and it is the partner */
    const char    *remedy;          /* static; for our administrator */
    const char    *forward;         /* static; to be sent to the partner */
    /* static: "EXTERNAL", "dialback", "verify", "trunk", "EXTERNAL or dialback" (no keys), "" */
    const char    *method;
    bool           keys_would_help;
    bool           announced;       /* the called port is no row's, and an SRV record leads to it */
    bool           asks_much;       /* without keys: more than one question and answer */
    bool           verify_only;     /* only a dialback question was asked; may be inferred */
    bool           domains_by_dns;  /* attempt.to comes from DNS, or from SNI, not from a header */
    size_t         partner;         /* place in report.partners, from 1; 0: they were too many */
    uint64_t       joined;          /* number of the flow of the other half of a dialback; 0 */
    struct log_end leg[2];          /* of the trunk by which its stanzas go, ours first; port 0 */
    uint64_t       leg_flow;        /* number of that connection; 0: it is not in the capture */
    struct flow     *twin;          /* owned; the same connection with other addresses; NULL */
    const char      *twin_why;      /* static; why it is the same; "" */
    struct log_said *said[2];       /* owned; by the side that wrote it; NULL: nothing */
    int            teller;          /* whose word counts, or is told beside; -1: nobody's */
    char           against[256];    /* what the capture says against it, or knows better; "" */
    struct proof   proofs[PROOFS_MAX];
    unsigned       nproofs;
    uint32_t       violations;      /* 1 << enum violation_kind */
    uint32_t       suspected;       /* the same, if the inferred addresses are right */
};

/* One row of the port table. */
struct report_row {
    bool        observed;
    uint64_t    attempted;       /* connections asked for */
    uint64_t    established;     /* the TCP connection stood */
    uint64_t    working;         /* authenticated, or dialback questions answered */
    uint64_t    older;           /* of them: in use since before the capture began */
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
    bool                suspected;  /* if the inferred addresses are right: one cannot tell */
    uint64_t            flow, frame;
    int64_t             time_ns;
    struct address      source, target;
    uint16_t            port;
    char                detail[160];
};

/* What a pair of domains is to each other. */
enum pairing {
    PAIR_PARTNER,     /* a domain of ours and one of a partner */
    PAIR_INNER,       /* on row 3: the gateway or inner server, and whom it calls */
    PAIR_UNPLACED     /* neither is known to be the edge: the caller's domain, the called one */
};

/* One direction between a domain of ours and one of a partner. */
struct report_way {
    uint64_t     attempts, worked, failed, unknown, verifies;
    enum reach   reached;         /* the best */
    bool         older;           /* of the best attempt: in use before the capture began */
    bool         reach_inferred;
    const char  *method;          /* of the best attempt; static */
    uint16_t     tls_version;     /* of the best attempt; 0: none */
    const char  *cipher;          /* static; "" */
    bool         client_cert;     /* the caller proved itself with one, seen or inferred */
    uint64_t     stanzas[3];      /* message, presence, iq; on connections of this way */
    uint64_t     stanza_errors;
    enum cause   last_cause;      /* of the last failure */
    int64_t      last_failure_ns; /* 0: none */
    int64_t      first_ns, last_ns;
    char         last_words[160];
};

#define REPORT_PARTNERS_MAX 4096
struct report_partner {
    /* a domain; an address when none is known; "": that of the edge, of which no name is known */
    char              ours[128], theirs[128];
    enum pairing      kind;
    struct report_way in, out;    /* PAIR_INNER: `in` is from the gateway; UNPLACED: `out` only */
};

/* One log that was given. */
#define REPORT_LOGS_MAX 16
struct report_log {
    const char       *name;            /* borrowed */
    struct log_counts counts;
    uint64_t          joined;          /* lines that are about a connection of the capture */
    uint64_t          decided;         /* attempts whose cause they are */
    int64_t           least_ns, most_ns;   /* of the joined ones: their times, seen from the end */
};

/* Where an address that the port table needs comes from. */
enum known { KNOWN_NOT, KNOWN_OPTION, KNOWN_CONFIG, KNOWN_INFERRED };
const char *known_word(enum known k);  /* "not known", "option", "configuration", "inferred" */

#define REPORT_ADDRESSES_MAX 16
#define ATTEMPTS_LISTED_MAX 2000   /* with details; half of the places are for failed ones only */

/* What of a report is asked for; zero: all of it. */
struct choice {
    const char *partner;     /* a domain, or an address; NULL: any */
    uint64_t    flow;        /* number of a connection; 0: any */
    bool        failed;      /* only attempts that failed */
    bool        all;         /* however many there are; else text and page are short */
};

struct report {
    /* what is printed; the caller fills this in */
    struct choice                   choice;
    /* the capture; the caller fills this in */
    const struct capture_file      *files;      /* borrowed */
    size_t                          nfiles;
    const struct capture_interface *interfaces;
    size_t                          ninterfaces;
    uint64_t                        packets;     /* analysed */
    uint64_t                        flows;       /* TCP connections, of any kind */
    uint64_t                        twins;       /* of these, seen for the second time */
    uint64_t                        flows_xmpp;  /* attempts, listed or not */
    uint64_t                        dns_messages;
    int64_t                         first_ns, last_ns;
    uint64_t                        remarks[REMARK_COUNT];
    uint64_t                        remark_frame[REMARK_COUNT];       /* of the first one */
    char                            remark_detail[REMARK_COUNT][160]; /* of the first one */
    bool                            damaged;
    size_t                          keys_used, keys_unused;
    bool                            keys_given;
    bool                            keys_would_help;
    const struct report_log        *logs;        /* borrowed */
    size_t                          nlogs;
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
    FILE                           *unlisted;    /* borrowed: their lines of JSON; may be NULL */
    uint64_t                        worked, failed, unknown;          /* over all attempts */
    uint64_t                        failed_by[CAUSE_COUNT];
    const struct dns_fact          *dns;
    size_t                          ndns;
    uint64_t                        dns_left_out;
    bool                            show_content;
    int                             exit_code;
    char                            missing_rows[64];  /* required, and not observed */
};

/* Where the configuration itself leads the edge. */
struct verdict_way {
    struct network network;
    uint16_t       port;      /* 0: any */
    bool           by_name;   /* of a host, whose address nobody knows here */
    char           domain[128];   /* of the partner whose static route this is; "": of none */
};

/* What is told before the end; the attempt is borrowed during the call. */
struct judge_events {
    /* a connection has ended: what can be said of it so far; DNS and others may tell more later */
    void (*ended)(void *user, const struct attempt *a);
    /* one over the ceiling of the list: all is said that will ever be, and it is forgotten */
    void (*unlisted)(void *user, const struct attempt *a);
    /* is it asked for?  Those that are have places kept for them; NULL: all are */
    bool (*wanted)(void *user, const struct attempt *a);
};

/* What verdict.c needs to know; borrowed texts and arrays, valid for its life. */
struct verdict_options {
    struct address         external[REPORT_ADDRESSES_MAX], internal[REPORT_ADDRESSES_MAX];
    size_t                 nexternal, ninternal;
    enum known             external_known, internal_known;
    uint16_t               external_port, internal_port;   /* 0: 5269, 23456 */
    const struct verdict_way *ways;
    size_t                 nways;
    /* names in the configuration; "": none, or several */
    char                   edge_name[128], domain_name[128], gateway_name[128];
    struct cert_anchors   *anchors;       /* NULL: chains are not judged */
    const struct judge_events *events;    /* NULL: nobody listens */
    void                  *user;
    unsigned               required;      /* 1 << enum row */
    bool                   keys_given;
    bool                   show_content;
};

struct judge;

/* NULL: no memory */
struct judge *judge_new(const struct verdict_options *o, const struct dns *dns);
/* Takes over an attempt whose flow has closed. */
void judge_push(struct judge *j, struct attempt *a);
/* Any flow that has closed; xmpp: its attempt is pushed besides. */
void judge_flow(struct judge *j, const struct flow *f, bool xmpp);
/* Of any stage; the first of each kind is kept with its detail (NULL: none), the others
 * are counted. */
void judge_remark(struct judge *j, enum remark r, uint64_t frame, const char *detail);
/* When all are pushed: those that are kept, borrowed until judge_end. */
struct attempt *const *judge_attempts(const struct judge *j, size_t *n);
/* A log: its name (borrowed until judge_free); what it has of one of these attempts, in its own
 * words, with how far its time is from the last packet, and whose log it is; its end.  False: one
 * log too many. */
bool judge_log_begin(struct judge *j, const char *name);
void judge_log(struct judge *j, struct attempt *a, int side, const struct log_said *said);
void judge_log_end(struct judge *j, struct log_counts counts);
/* A log names the trunk by which the stanzas of an attempt go (NULL: it is not in the capture). */
void judge_leg(struct attempt *a, const struct log_entry *e, const struct attempt *trunk);
/* End of the capture.  The report is borrowed until judge_free; the caller fills in what it knows
 * of the capture before it prints. */
struct report *judge_end(struct judge *j);
void judge_free(struct judge *j);              /* NULL is allowed */

#endif
