/* inside.h -- who called whom, XMPP or not, and which addresses are not of the Internet
 *
 *   in         inside_push, a connection that has closed
 *   out        inside_calls: one for each caller, called address and port; inside_block
 *   borrowed   calls until the next inside_push
 *   bounds     4,096 calls, half of them for addresses that are not of the Internet only; what
 *              comes after them is only counted
 */
#ifndef XMPPEDGE_ANALYZE_INSIDE_H
#define XMPPEDGE_ANALYZE_INSIDE_H

#include "flow.h"

/* Addresses that begin alike. */
struct network {
    struct address address;
    unsigned       bits;      /* that count: at most 32, or 128 */
};

/* "10.0.0.0/8", or an address alone.  False: it is neither. */
bool network_read(const char *text, struct network *out);
bool network_has(const struct network *n, const struct address *a);

/* Where addresses are that no partner on the Internet can have; static. */
struct inside_block {
    struct network network;
    const char    *what;      /* "a private address" */
    bool           shared;    /* by all programs of a machine: an address there is nobody's */
};

/* NULL: it may be of the Internet.  An IPv4 address that is carried in one of IPv6 (NAT64, 6to4)
 * counts as what it is. */
const struct inside_block *inside_block(const struct address *a);

#define INSIDE_CALLS_MAX 4096

struct inside_call {
    struct address source, target;
    uint16_t       port;
    uint64_t       count;        /* connections that were asked for */
    uint64_t       established;
    uint64_t       others;       /* of all, those in which nobody saw XMPP */
    uint64_t       others_established;
    bool           sure;         /* who is the caller; of one of them at least */
    uint64_t       flow, frame;  /* of the first */
    int64_t        time_ns;
};

struct inside;

struct inside *inside_new(void);   /* NULL: no memory */
void inside_free(struct inside *i);

/* xmpp: it is an attempt besides.  Anything else is ignored where no handshake says who began. */
void inside_push(struct inside *i, const struct flow *f, bool xmpp);

/* In order of appearance. */
const struct inside_call *inside_calls(const struct inside *i, size_t *n);
/* Connections over the ceiling, to addresses that are not of the Internet. */
uint64_t inside_left_out(const struct inside *i);

#endif
