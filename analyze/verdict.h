/* verdict.h -- what it all means: how far attempts got, why not further, which rules were broken
 *
 *   in         judge_push, attempts whose flow has closed, in any order; judge_remark
 *   out        judge_end: one struct report
 *   borrowed   dns and the options until judge_free; the report until then, too
 *   bounds     2,000 attempts with details, 4,096 pairs of domains, 64 violations of a kind; what
 *              comes after them is only counted
 */
#ifndef XMPPEDGE_ANALYZE_VERDICT_H
#define XMPPEDGE_ANALYZE_VERDICT_H

#include "dns.h"
#include "xmpp.h"

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

#endif
