/* tls.h -- what can be seen of TLS, and what keys open
 *
 *   in         tls_push, the bytes of both sides of a connection in order; tls_keys_add, a key log
 *   out        tls_events, and struct tls_view: all that is known so far
 *   borrowed   texts of a view until tls_close, certificates until the last cert_drop
 *   bounds     of a session 128 KB for one message of a handshake, nothing once that is over and
 *              there are no keys; 100,000 sessions of a key log (35 MB), further ones are not kept
 *
 * Memory that is out ends the program with a message.  RFC 5246, RFC 8446.
 */
#ifndef XMPPEDGE_ANALYZE_TLS_H
#define XMPPEDGE_ANALYZE_TLS_H

#include "base.h"

/* ---- certificates: each is kept once for all sessions ---- */

/* The leaf of a chain.  What is in it is text of strangers, here only printable ASCII. */
struct cert {
    char                 subject[160], issuer[160];
    char                 names[512];   /* dNSName, SRV-ID, xmppAddr; ", " between */
    int64_t              not_before, not_after;   /* seconds since 1970; both inclusive */
    bool                 readable;     /* false: only fingerprint and der are good */
    bool                 self_signed;  /* issuer and subject have one name and one key identifier */
    bool                 eku_server, eku_client;  /* true when the extension is absent */
    char                 fingerprint[65];   /* SHA-256 of the leaf, lower case */
    unsigned             chain_length; /* certificates in the message, the leaf included */
    const unsigned char *der;          /* the leaf, inside chain */
    size_t               der_len;
    unsigned char       *chain;        /* owned: three bytes of length and the DER of each */
    size_t               chain_len;
    unsigned             holders;      /* who has it: cert_keep, cert_drop */
};

/* One for the run; may be freed when kept certificates are still around. */
struct tls_certs;
struct tls_certs *tls_certs_new(void);
void tls_certs_free(struct tls_certs *c);

const struct cert *cert_keep(const struct cert *c);   /* one more holder; NULL gives NULL */
void cert_drop(const struct cert *c);                 /* one less; NULL is allowed */

/* RFC 9525, RFC 6120 13.7: a dNSName, with a wildcard as whole left-most label, the SRV-ID
 * _xmpp-server, or xmppAddr names the domain; never the CN. */
bool cert_names_domain(const struct cert *c, const char *domain);
bool cert_expired_at(const struct cert *c, int64_t time_ns);
bool cert_early_at(const struct cert *c, int64_t time_ns);   /* not valid yet */

enum cert_trust {
    CERT_TRUST_UNKNOWN,     /* no authorities given, or it uses what cannot be checked here */
    CERT_TRUST_YES,
    CERT_TRUST_NO,          /* no path to an authority, or a wrong signature or constraint */
    CERT_TRUST_CHAIN_TIME   /* a path, but an authority on it is not valid at that time */
};

/* Authorities of a file, PEM or DER; NULL: it cannot be read. */
struct cert_anchors;
struct cert_anchors *cert_anchors_read(const char *path);
void cert_anchors_free(struct cert_anchors *a);

/* The time of the leaf itself is not judged; a may be NULL. */
enum cert_trust cert_trust(const struct cert *c, struct cert_anchors *a, int64_t time_ns);

/* ---- keys: secrets of a key log, by client random ---- */

/* One for the run; outlives every session. */
struct tls_keys;
struct tls_keys *tls_keys_new(void);
void tls_keys_free(struct tls_keys *k);

/* Lines in the format of NSS, in pieces of any size; tls_keys_end: the last line has no end. */
void tls_keys_add(struct tls_keys *k, const char *text, size_t len);
void tls_keys_end(struct tls_keys *k);

/* More may come: live sessions wait a while for theirs. */
void tls_keys_more(struct tls_keys *k, bool expected);

/* How many sessions of the log were met here, and how many not. */
void tls_keys_count(const struct tls_keys *k, size_t *used, size_t *unused);

/* ---- sessions ---- */

/* Did the client prove itself with a certificate? */
enum tls_client_proof {
    PROOF_UNKNOWN,        /* the handshake was not wholly seen, or the server did not go on yet */
    PROOF_NOT_ASKED,      /* no CertificateRequest (TLS 1.2, or decrypted), or a resumption */
    PROOF_EMPTY,          /* asked, and an empty list sent */
    PROOF_PROVEN,         /* certificate, CertificateVerify and completion seen */
    PROOF_INFERRED,       /* TLS 1.3 without keys: by the lengths of the client's last flight */
    PROOF_INFERRED_NONE   /* the same: no certificate */
};

/* What is known of the TLS of one connection. */
struct tls_view {
    bool        client_hello, server_hello;
    /* both Finished seen or inferred; in TLS 1.3 also that the server went on after the client's:
     * only then has it judged the client's certificate */
    bool        established;
    bool        resumed;
    bool        decrypted;           /* keys fit: at least one record was opened */
    bool        keys_would_help;     /* there is content that a key log would open */
    bool        early_data;          /* the client offers 0-RTT */
    bool        close_notify[2];
    bool        encrypted_alert[2];  /* the last record of this side is an alert, closed to us */
    uint8_t     client_side;         /* that sent the ClientHello; usually 0 */
    uint16_t    offered;             /* highest version that the client offers: 0x0303, 0x0304 */
    uint16_t    version;             /* chosen; 0: not seen */
    uint16_t    cipher;              /* IANA number; 0: not seen */
    int16_t     alert_side;          /* that sent a fatal alert which can be read; -1: none */
    int16_t     alert;               /* its description, see xe_alert_name() */
    enum tls_client_proof proof;
    const char *proof_how;           /* what proof rests on; static */
    const char *cipher_name;         /* static */
    const char *why_closed;          /* the content cannot be read: "no keys" ...; static */
    const char *sni;                 /* printable ASCII */
    const char *alpn;                /* chosen if visible, else offered, "," between */
    const struct cert *server, *client;   /* borrowed; NULL: not visible */
    uint32_t    random[2];           /* four bytes of those of client and server; 0: not seen */
    uint64_t    alert_frame;
    uint64_t    hello_frame, server_hello_frame;
    uint64_t    finished_frame;      /* of the last Finished */
    int64_t     hello_ns, finished_ns;
    uint64_t    app_records[2];      /* in TLS 1.3 without keys session tickets count too */
    uint64_t    app_bytes[2];
};

/* In TLS 1.3 plaintext of the client may come before `established`. */
struct tls_events {
    void (*plaintext)(void *user, int side, const unsigned char *at, size_t len, uint64_t frame,
        int64_t time_ns);
    void (*hello)(void *user, const struct tls_view *v);    /* ClientHello is complete */
    void (*established)(void *user, const struct tls_view *v);
    void (*alert)(void *user, int side, int level, int description, uint64_t frame,
        int64_t time_ns);
    /* this is no TLS any more: cannot go on */
    void (*broken)(void *user, int side, const char *what, uint64_t frame);
    void (*server)(void *user, const struct tls_view *v);   /* ServerHello is complete */
    void (*certificate)(void *user, int side, const struct cert *c, uint64_t frame,
        int64_t time_ns);
    /* first application record of a side that cannot be read */
    void (*encrypted)(void *user, int side, uint64_t frame, int64_t time_ns);
    /* plaintext is missing here, more follows */
    void (*lost)(void *user, int side, uint64_t frame);
};

/* Six bytes tell that a ClientHello record starts here. */
bool tls_begins(const unsigned char *at, size_t len);

struct tls_session;

/* All are borrowed until tls_close; only keys may be NULL. */
struct tls_session *tls_open(struct tls_keys *keys, struct tls_certs *certs,
    const struct tls_events *ev, void *user);
void tls_push(struct tls_session *s, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns);
void tls_gap(struct tls_session *s, int side, uint64_t missing);   /* bytes */
const struct tls_view *tls_seen(const struct tls_session *s);
void tls_end(struct tls_session *s);     /* no more bytes: last events; tls_seen is still good */
void tls_close(struct tls_session *s);   /* tls_end if not done, and frees; NULL is allowed */

/* For speed only: it is pushed next, and its memory is fetched. */
void tls_expect(const struct tls_session *s);

const char *tls_version_name(unsigned version);        /* "TLS 1.3"; static */
const char *tls_proof_word(enum tls_client_proof p);   /* "proven"; static */

#endif
