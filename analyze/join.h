/* join.h -- which connection of the capture a line of a log is about, and which were seen twice
 *
 *   in         the attempts of a capture, all of them over; entries of logs
 *   out        join_find: the attempt, and which side of it wrote the line; join_same
 *   borrowed   the attempts until join_free
 *   bounds     two indexes over the attempts that are given
 *
 * A connection is known by the addresses and ports of both ends, and by the time: ports are used
 * again.  The clocks of the machine that captured and of the one that logged may differ.
 */
#ifndef XMPPEDGE_ANALYZE_JOIN_H
#define XMPPEDGE_ANALYZE_JOIN_H

#include "log.h"
#include "xmpp.h"

/* Why two attempts with other addresses are one connection, seen on both sides of a translation of
 * addresses or of a balancer; NULL: they are two.  Static. */
const char *join_same(const struct attempt *a, const struct attempt *b);

struct join;

struct join *join_new(struct attempt *const *attempts, size_t n);   /* NULL: no memory */
void join_free(struct join *j);                                     /* NULL is allowed */

struct join_hit {
    struct attempt *a;          /* borrowed */
    int             side;       /* that wrote the line */
    int64_t         apart_ns;   /* its time, seen from the end of the connection */
    /* its own address is another one in the capture (behind a translation), or the line has none */
    bool            by_peer;
};

/* The best attempt for an entry; false: it is about none of these. */
bool join_find(const struct join *j, const struct log_entry *e, struct join_hit *out);

/* The attempt between these ends that was open at this time; NULL: there is none. */
struct attempt *join_between(const struct join *j, const struct log_end *own,
    const struct log_end *peer, int64_t time_ns);

#endif
