/* dns.h -- what was asked of name servers in the same capture, and what they said
 *
 *   in         dns_push, one message, of UDP or without its length of TCP
 *   out        dns_facts, and two questions: who looked for whom, who announces what
 *   borrowed   facts until the next dns_push
 *   bounds     4,096 questions, the rest is only counted: 7 MB at worst
 */
#ifndef XMPPEDGE_ANALYZE_DNS_H
#define XMPPEDGE_ANALYZE_DNS_H

#include "packet.h"

#define DNS_FACTS_MAX   4096
#define DNS_TARGETS_MAX 8

enum dns_type { DNS_SRV, DNS_A, DNS_AAAA };

enum dns_result {
    DNS_UNANSWERED,
    DNS_FOUND,
    DNS_EMPTY,
    DNS_NXDOMAIN,
    DNS_SERVFAIL,
    DNS_REFUSED,
    DNS_OTHER_ERROR,
    DNS_CUT   /* the answer is not whole in the capture */
};

const char *dns_type_word(enum dns_type t);       /* "SRV"; static */
const char *dns_result_word(enum dns_result r);   /* "found"; static */

/* One SRV record, or one address. */
struct dns_target {
    char           host[128];   /* SRV: the target, "." says that there is no service */
    uint16_t       port, priority, weight;
    struct address address;     /* A, AAAA */
};

/* What is wrong with the target of an SRV record (RFC 2782). */
enum dns_target_fault {
    DNS_TARGET_GOOD,
    DNS_TARGET_NONE,      /* "." says that there is no service */
    DNS_TARGET_ADDRESS,   /* an IP address: a name is needed */
    DNS_TARGET_NO_PORT    /* port 0, to which nobody can connect */
};
enum dns_target_fault dns_target_fault(const struct dns_target *t);

/* One question, asked once or more often, and its last answer.  When it is asked again after a
 * while, and the answer is of another kind, that is another fact: each has its own time. */
struct dns_fact {
    struct address    client, server;
    enum dns_type     type;
    enum dns_result   result;
    char              name[160];     /* as asked, lower case */
    char              domain[128];   /* the XMPP domain it was asked for; "": not known */
    char              service[16];   /* "xmpp-server", "xmpps-server"; "" for addresses */
    char              alias[128];    /* where a CNAME leads */
    struct dns_target targets[DNS_TARGETS_MAX];
    unsigned          ntargets;
    unsigned          asked, answered;
    uint64_t          query_frame;   /* of the first question */
    uint64_t          answer_frame;  /* of the last answer */
    int64_t           query_ns, answer_ns;
    int64_t           first_ns;      /* the first word, whichever that is */
    int64_t           settled_ns;    /* the last word when it was asked for the first time */
    int64_t           last_ns;       /* the last word of all */
    uint16_t          earlier;       /* number of the fact about the same question before it, + 1 */
    /* asked once more, without an answer so far */
    unsigned          again;         /* questions; 0: it was not */
    uint64_t          again_frame;
    int64_t           again_ns, again_last_ns;   /* of the first and the latest of them */
};

struct dns;

struct dns *dns_new(void);
void dns_free(struct dns *d);

/* What makes no sense is ignored. */
void dns_push(struct dns *d, const struct address *source, const struct address *target,
    bool from_server, const unsigned char *at, size_t len, uint64_t frame, int64_t time_ns);

/* No more messages: what was asked again in vain becomes a fact. */
void dns_end(struct dns *d);

/* All that are kept, in order of the first question. */
const struct dns_fact *dns_facts(const struct dns *d, size_t *n);
uint64_t dns_left_out(const struct dns *d);   /* questions over the ceiling */

/* The question by which `client` found address:port before it called; NULL: not in the capture. */
const struct dns_fact *dns_find(const struct dns *d, const struct address *client,
    const struct address *target, uint16_t port, int64_t before_ns);

/* An SRV record leads to address:port, whoever asked; or one of `domain` leads to this port of a
 * host whose address is not in the capture. */
bool dns_announces(const struct dns *d, const char *domain, const struct address *target,
    uint16_t port);

#endif
