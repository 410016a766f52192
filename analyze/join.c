/* join.c -- which connection of the capture a line of a log is about, and which were seen twice
 *
 * Attempts are found by either end: two lists of them, one in order of the callers, one in order of
 * the called.  Who wrote the line is the other end; when his address is not the one that the line
 * names, there may be a translation between him and the capture: his port must be the same then.
 */
#include "join.h"

/* ---- seen twice ---- */

/* A translation changes addresses, ports and check sums, in general nothing else.  A balancer opens
 * a connection of its own: then only what is inside is the same. */

#define JOIN_SYN_NS SECOND   /* between two sights of a SYN: 32 bits prove nothing by themselves */

static bool
join_ends_equal(const struct attempt *a, const struct attempt *b, int side)
{
    const struct flow_side *s = &a->flow.side[side], *t = &b->flow.side[side];
    return s->port == t->port && address_equal(&s->address, &t->address);
}

/* The randoms of both sides.  Who sends a ClientHello again gets another ServerHello. */
static bool
join_same_tls(const struct tls_view *a, const struct tls_view *b)
{
    return a->server_hello && b->server_hello && a->random[0] != 0 && a->random[1] != 0
        && a->random[0] == b->random[0] && a->random[1] == b->random[1];
}

static bool
join_words_differ(const char *a, const char *b)
{
    return a[0] != '\0' && b[0] != '\0' && strcmp(a, b) != 0;
}

/* What was said is not known to differ; of either, a part may not be in the capture. */
static bool
join_may_be_same(const struct attempt *a, const struct attempt *b)
{
    bool whole = !a->flow.midstream && !b->flow.midstream;
    int i;
    if (join_words_differ(a->id, b->id) || join_words_differ(a->from, b->from))
        return false;
    for (i = 0; i < 2; i++) {
        const struct flow_side *s = &a->flow.side[i], *t = &b->flow.side[i];
        uint32_t x = a->tls.random[i], y = b->tls.random[i];
        if ((x != 0 && y != 0 && x != y)
            || (whole && s->lost == 0 && t->lost == 0 && s->bytes != t->bytes))
            return false;
    }
    return true;
}

static bool
join_same_syn(const struct flow *f, const struct flow *g, int side)
{
    return f->side[side].syns > 0 && g->side[side].syns > 0
        && f->side[side].syn_seq == g->side[side].syn_seq;
}

/* Of what had begun before the capture, the sequence numbers at its end; and one end is the same.
 * Of a side that is only seen to be acknowledged it may be that of its FIN. */
static bool
join_same_end(const struct attempt *a, const struct attempt *b)
{
    int side;
    for (side = 0; side < 2; side++) {
        uint32_t end = a->flow.side[side].end_seq, other = b->flow.side[side].end_seq;
        if (end == 0 || other == 0 || end - other + 1 > 2)
            return false;
    }
    return join_ends_equal(a, b, 0) || join_ends_equal(a, b, 1);
}

/* Nobody answered, or with a reset: the SYN is all there is, and one end has to be the same. */
static bool
join_same_call(const struct attempt *a, const struct attempt *b)
{
    const struct flow *f = &a->flow, *g = &b->flow;
    int64_t apart = f->first_ns - g->first_ns;
    return !f->established && !g->established && f->side[1].syns == 0 && g->side[1].syns == 0
        && join_same_syn(f, g, 0) && apart <= JOIN_SYN_NS && apart >= -JOIN_SYN_NS
        && f->side[0].syns == g->side[0].syns && f->side[1].port == g->side[1].port
        && (join_ends_equal(a, b, 0) || join_ends_equal(a, b, 1));
}

/* A balancer calls on behalf of somebody, and says of whom. */
static bool
join_is_behind(const struct attempt *behind, const struct attempt *before)
{
    const struct proxy_header *p = &behind->proxy;
    const struct flow_side *s = before->flow.side;
    return p->address[0].family != 0 && p->port[0] == s[0].port && p->port[1] == s[1].port
        && address_equal(&p->address[0], &s[0].address)
        && address_equal(&p->address[1], &s[1].address);
}

const char *
join_same(const struct attempt *a, const struct attempt *b)
{
    const struct flow *f = &a->flow, *g = &b->flow;
    int64_t apart = f->first_ns - g->first_ns;
    if (apart > LOG_CLOCK_NS || apart < -LOG_CLOCK_NS
        || (join_ends_equal(a, b, 0) && join_ends_equal(a, b, 1)))
        return NULL;
    if (join_same_tls(&a->tls, &b->tls))
        return "the same randoms of TLS";
    if (((join_same_syn(f, g, 0) && join_same_syn(f, g, 1)) || join_same_end(a, b))
        && join_may_be_same(a, b))
        return "the same sequence numbers";
    if (join_is_behind(a, b) || join_is_behind(b, a))
        return "the PROXY header of a balancer";
    return join_same_call(a, b) ? "the same SYN" : NULL;
}

/* ---- lines of a log ---- */

struct join {
    struct attempt **by[2];   /* owned; in order of the end of this side, then of time */
    size_t           n;
};

static int
join_order_end(const struct flow_side *s, const struct log_end *e)
{
    int order = s->port != e->port ? (s->port < e->port ? -1 : 1) : 0;
    if (order == 0)
        order = s->address.family != e->address.family
            ? (s->address.family < e->address.family ? -1 : 1)
            : memcmp(s->address.bytes, e->address.bytes, sizeof s->address.bytes);
    return order;
}

static int
join_order(const void *l, const void *r, int side)
{
    const struct flow *a = &(*(struct attempt *const *)l)->flow;
    const struct flow *b = &(*(struct attempt *const *)r)->flow;
    const struct log_end end = { b->side[side].address, b->side[side].port };
    int order = join_order_end(&a->side[side], &end);
    if (order == 0)
        order = a->first_ns != b->first_ns ? (a->first_ns < b->first_ns ? -1 : 1)
            : (a->number > b->number) - (a->number < b->number);
    return order;
}

static int
join_order_callers(const void *l, const void *r)
{
    return join_order(l, r, 0);
}

static int
join_order_called(const void *l, const void *r)
{
    return join_order(l, r, 1);
}

struct join *
join_new(struct attempt *const *attempts, size_t n)
{
    struct join *j = memory_try(calloc(1, sizeof *j));
    int side;
    for (side = 0; side < 2 && j != NULL; side++) {
        j->by[side] = memory_try(malloc((n + 1) * sizeof *j->by[side]));
        if (j->by[side] == NULL) {
            join_free(j);
            return NULL;
        }
        if (n > 0)
            memcpy(j->by[side], attempts, n * sizeof *j->by[side]);
        j->n = n;
        qsort(j->by[side], n, sizeof *j->by[side],
            side == 0 ? join_order_callers : join_order_called);
    }
    return j;
}

void
join_free(struct join *j)
{
    if (j == NULL)
        return;
    free(j->by[0]);
    free(j->by[1]);
    free(j);
}

/* The first attempt of which this side is not before the end. */
static size_t
join_first(const struct join *j, int side, const struct log_end *e)
{
    size_t low = 0, high = j->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (join_order_end(&j->by[side][middle]->flow.side[side], e) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How the line's own end fits: 2 it is the same, 1 it may be, 0 it is not. */
static int
join_fits(const struct flow *f, int side, const struct log_end *own, enum log_way way)
{
    if (own->address.family == 0)   /* nobody answered our call, or he was not let in */
        return way == LOG_WAY_IN || !f->established;
    if (f->side[side].port != own->port)
        return 0;
    return address_equal(&f->side[side].address, &own->address) ? 2 : 1;
}

static int64_t
join_distance(int64_t ns)
{
    return ns < 0 ? -ns : ns;
}

/* The better one of two for one line; `fits` of the best so far. */
static void
join_try(struct attempt *a, int side, const struct log_entry *e, int *fits, struct join_hit *out)
{
    int now = join_fits(&a->flow, side, &e->own, e->way);
    int64_t apart = e->time_ns - a->flow.last_ns;
    if (now == 0 || now < *fits || e->time_ns < a->flow.first_ns - LOG_CLOCK_NS
        || apart > LOG_CLOCK_NS
        || (now == *fits && join_distance(apart) >= join_distance(out->apart_ns)))
        return;
    *fits = now;
    *out = (struct join_hit){ a, side, apart, now == 1 };
}

bool
join_find(const struct join *j, const struct log_entry *e, struct join_hit *out)
{
    int fits = 0, peer;
    for (peer = 0; peer < 2; peer++) {
        size_t i = join_first(j, peer, &e->peer);
        if ((e->way == LOG_WAY_IN && peer == 1) || (e->way == LOG_WAY_OUT && peer == 0))
            continue;
        for (; i < j->n && join_order_end(&j->by[peer][i]->flow.side[peer], &e->peer) == 0; i++)
            join_try(j->by[peer][i], !peer, e, &fits, out);
    }
    return fits > 0;
}

struct attempt *
join_between(const struct join *j, const struct log_end *own, const struct log_end *peer,
    int64_t time_ns)
{
    int side;
    for (side = 0; side < 2; side++) {
        size_t i = join_first(j, side, own);
        for (; i < j->n && join_order_end(&j->by[side][i]->flow.side[side], own) == 0; i++) {
            struct attempt *a = j->by[side][i];
            if (join_order_end(&a->flow.side[!side], peer) == 0
                && time_ns >= a->flow.first_ns - LOG_CLOCK_NS
                && time_ns <= a->flow.last_ns + LOG_CLOCK_NS)
                return a;
        }
    }
    return NULL;
}
