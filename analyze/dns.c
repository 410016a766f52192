/* dns.c -- what was asked of name servers, and what they said
 *
 * Federation begins with DNS (RFC 6120 3.2): SRV for _xmpps-server._tcp and _xmpp-server._tcp, then
 * A and AAAA of the targets, or of the domain itself when there is no SRV record.  Only these
 * questions are kept; an address question is one of them when its name is a domain or a target that
 * the same client has asked SRV records for.
 *
 * The parser (RFC 1035 4) checks bounds at every step; compression pointers must lead backwards, so
 * that it always ends.  What makes no sense is ignored: this stage judges nothing.
 */
#include "dns.h"

#define DNS_INDEX_SIZE (4 * DNS_FACTS_MAX)   /* places of the hash table, a power of two */
#define DNS_RECORDS_MAX 64                   /* read of one message */
#define DNS_TOLD_SIZE (16 * DNS_FACTS_MAX)    /* bits for told addresses, a power of two */
#define DNS_WANTED_MAX  256  /* latest questions among which an address question is looked for */

#define DNS_APART (10 * SECOND)  /* who asks after such a pause asks anew */

#define TYPE_A     1
#define TYPE_CNAME 5
#define TYPE_AAAA  28
#define TYPE_SRV   33

struct dns {
    struct dns_fact *facts;              /* owned */
    size_t           nfacts;
    uint64_t         left_out;
    uint16_t         index[DNS_INDEX_SIZE]; /* number of a fact + 1; 0: free */
    unsigned char    told[DNS_TOLD_SIZE / 8];   /* a bit for each address of an answer */
};

/* A message that is being read. */
struct dns_message {
    const unsigned char *at;
    size_t               len;
    size_t               next;   /* first byte that is not read yet */
    bool                 bad;
    bool                 cut;    /* its flag says so: the rest comes over TCP */
};

/* ---- bytes ---- */

static unsigned
dns_get8(struct dns_message *m)
{
    if (m->next >= m->len) {
        m->bad = true;
        return 0;
    }
    return m->at[m->next++];
}

static unsigned
dns_get16(struct dns_message *m)
{
    unsigned high = dns_get8(m);
    return high << 8 | dns_get8(m);
}

static void
dns_skip(struct dns_message *m, size_t n)
{
    if (n > m->len - m->next)
        m->bad = true;
    else
        m->next += n;
}

/* One character of a name as it is compared and shown. */
static char
dns_letter(unsigned c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c + 32);
    return c > ' ' && c < 127 && c != '.' ? (char)c : '?';
}

/* A label; false when it does not fit or the message ends. */
static bool
dns_label(struct dns_message *m, size_t at, unsigned n, char *out, size_t size, size_t *len)
{
    unsigned i;
    if (n > m->len - at || *len + n + 2 > size)
        return false;
    if (*len > 0)
        out[(*len)++] = '.';
    for (i = 0; i < n; i++)
        out[(*len)++] = dns_letter(m->at[at + i]);
    return true;
}

/* RFC 1035 4.1.4.  A name that is longer than the room for it is no name of a server: bad. */
static void
dns_name(struct dns_message *m, char *out, size_t size)
{
    size_t at = m->next;
    size_t least = at;   /* pointers must go before it: this cannot go round in circles */
    size_t len = 0;
    bool jumped = false;
    while (!m->bad) {
        unsigned n = at < m->len ? m->at[at] : 0;
        bool pointer = (n & 0xc0) == 0xc0;
        m->bad = at >= m->len || (!pointer && n > 63) || (pointer && at + 1 >= m->len);
        if (m->bad)
            break;
        if (!jumped)
            m->next = at + 1 + (pointer ? 1 : n);
        if (n == 0)
            break;
        if (pointer) {
            at = (size_t)(n & 0x3f) << 8 | m->at[at + 1];
            m->bad = at >= least;
            least = at;
            jumped = true;
        } else {
            m->bad = !dns_label(m, at + 1, n, out, size, &len);
            at += 1 + n;
        }
    }
    if (len == 0 && size > 1)
        out[len++] = '.';
    out[len] = '\0';
}

/* ---- facts ---- */

static size_t
dns_slot(const struct address *client, enum dns_type type, const char *name)
{
    uint32_t h = hash_bytes(HASH, client->bytes, sizeof client->bytes);
    h = hash_bytes(h, &type, sizeof type);
    h = hash_bytes(h, name, strlen(name));
    return (h ^ h >> 15) & (DNS_INDEX_SIZE - 1);
}

/* The bit of an address: most calls lead to one that nobody was told, and need no search. */
static size_t
dns_told_bit(const struct address *a)
{
    uint32_t h = hash_bytes(HASH, a->bytes, sizeof a->bytes);
    return (h ^ h >> 15) & (DNS_TOLD_SIZE - 1);
}

static bool
dns_may_be_told(const struct dns *d, const struct address *a)
{
    size_t bit = dns_told_bit(a);
    return (d->told[bit / 8] & 1u << bit % 8) != 0;
}

/* The place of a question in the index: its fact, or the free place where it would be. */
static uint16_t *
dns_place(struct dns *d, const struct address *client, enum dns_type type, const char *name)
{
    size_t i = dns_slot(client, type, name);
    for (; d->index[i] != 0; i = (i + 1) & (DNS_INDEX_SIZE - 1)) {
        const struct dns_fact *f = &d->facts[d->index[i] - 1];
        if (f->type == type && strcmp(f->name, name) == 0 && address_equal(&f->client, client))
            break;
    }
    return &d->index[i];
}

static const struct dns_fact *
dns_known(const struct dns *d, const struct address *client, enum dns_type type, const char *name)
{
    uint16_t n = *dns_place((struct dns *)(uintptr_t)d, client, type, name);
    return n == 0 ? NULL : &d->facts[n - 1];
}

static struct dns_fact *
dns_new_fact(struct dns *d)
{
    struct dns_fact *facts;
    if (d->nfacts == DNS_FACTS_MAX) {
        d->left_out++;
        return NULL;
    }
    facts = list_grow(d->facts, d->nfacts, sizeof *facts);
    if (facts == NULL)
        return NULL;
    d->facts = facts;
    memset(&d->facts[d->nfacts], 0, sizeof *d->facts);
    return &d->facts[d->nfacts++];
}

/* The domain behind a name of a service; "" when it is none of federation. */
static const char *
dns_service(const char *name, char *service, size_t size)
{
    static const char *const services[] = { "xmpp-server", "xmpps-server", "jabber" };
    size_t i;
    for (i = 0; i < sizeof services / sizeof *services; i++) {
        size_t len = strlen(services[i]);
        if (name[0] != '_' || strncmp(name + 1, services[i], len) != 0
            || strncmp(name + 1 + len, "._tcp.", 6) != 0)
            continue;
        if (size > len)
            memcpy(service, services[i], len + 1);
        return name + len + 7;
    }
    return "";
}

/* The domain for which a client wants the address of `name`; "" when it is not about federation. */
static const char *
dns_wanted(const struct dns *d, const struct address *client, const char *name)
{
    size_t i = d->nfacts;
    size_t end = i > DNS_WANTED_MAX ? i - DNS_WANTED_MAX : 0;
    unsigned k;
    while (i-- > end) {
        const struct dns_fact *f = &d->facts[i];
        if (f->domain[0] == '\0' || !address_equal(&f->client, client))
            continue;
        if (strcmp(f->domain, name) == 0 || strcmp(f->alias, name) == 0)
            return f->domain;
        for (k = 0; f->type == DNS_SRV && k < f->ntargets; k++)
            if (strcmp(f->targets[k].host, name) == 0)
                return f->domain;
    }
    return "";
}

static struct dns_fact *
dns_fact(struct dns *d, const struct address *client, const struct address *server,
    enum dns_type type, const char *name)
{
    uint16_t *place = dns_place(d, client, type, name);
    struct dns_fact *f;
    char service[16] = "";
    const char *domain;
    char keep[128];
    if (*place != 0)
        return &d->facts[*place - 1];
    domain =
        type == DNS_SRV ? dns_service(name, service, sizeof service) : dns_wanted(d, client, name);
    if (domain[0] == '\0' || strlen(domain) >= sizeof keep)
        return NULL;
    memcpy(keep, domain, strlen(domain) + 1);   /* the facts may move */
    f = dns_new_fact(d);
    if (f == NULL)
        return NULL;
    *place = (uint16_t)d->nfacts;
    f->client = *client;
    f->server = *server;
    f->type = type;
    memcpy(f->name, name, strlen(name) + 1);
    memcpy(f->domain, keep, strlen(keep) + 1);
    memcpy(f->service, service, sizeof service);
    return f;
}

/* ---- the same question at another time ---- */

/* The question begins anew: a fact of its own, with what was asked of it so far; the old one when
 * there is no room.  Facts may move. */
static struct dns_fact *
dns_part(struct dns *d, struct dns_fact *f)
{
    const size_t number = (size_t)(f - d->facts);
    struct dns_fact *g = dns_new_fact(d), *old = &d->facts[number];
    if (g == NULL)
        return old;
    g->client = old->client;
    g->server = old->server;
    g->type = old->type;
    memcpy(g->name, old->name, sizeof g->name);
    memcpy(g->domain, old->domain, sizeof g->domain);
    memcpy(g->service, old->service, sizeof g->service);
    g->earlier = (uint16_t)(number + 1);
    if (old->again > 0) {
        g->asked = old->again;
        g->query_frame = old->again_frame;
        g->query_ns = g->first_ns = old->again_ns;
        g->settled_ns = g->last_ns = old->again_last_ns;
        old->again = 0;
    }
    *dns_place(d, &g->client, g->type, g->name) = (uint16_t)d->nfacts;
    return g;
}

static bool
dns_is_apart(const struct dns_fact *f, int64_t time_ns)
{
    int64_t last_ns = f->again > 0 ? f->again_last_ns : f->last_ns;
    return last_ns != 0 && time_ns - last_ns > DNS_APART;
}

/* Something was said about it. */
static void
dns_touch(struct dns_fact *f, int64_t time_ns)
{
    if (f->last_ns == 0)
        f->first_ns = time_ns;
    if (!dns_is_apart(f, time_ns) && f->last_ns == f->settled_ns)
        f->settled_ns = time_ns;
    f->last_ns = time_ns;
}

/* The question is asked once more, after a while. */
static void
dns_asked_again(struct dns_fact *f, uint64_t frame, int64_t time_ns)
{
    if (f->again++ == 0) {
        f->again_frame = frame;
        f->again_ns = time_ns;
    }
    f->again_last_ns = time_ns;
}

static void
dns_asked(struct dns *d, struct dns_fact *f, uint64_t frame, int64_t time_ns)
{
    bool apart = dns_is_apart(f, time_ns);
    if (apart && f->again > 0 && f->answered == 0) {
        f->asked += f->again;      /* in vain, as before */
        f->again = 0;
    } else if (apart && f->again > 0) {
        f = dns_part(d, f);
    }
    if (apart || f->again > 0) {
        dns_asked_again(f, frame, time_ns);
        return;
    }
    if (f->asked++ == 0) {
        f->query_frame = frame;
        f->query_ns = time_ns;
    }
    dns_touch(f, time_ns);
}

/* The fact that an answer is about, by its kind: the one that there is, or another one. */
static struct dns_fact *
dns_answered(struct dns *d, struct dns_fact *f, enum dns_result kind, int64_t time_ns)
{
    enum dns_result before = f->result == DNS_CUT ? DNS_FOUND : f->result;
    bool known = f->asked + f->answered > 0;
    if (known && before != kind && (f->again > 0 || dns_is_apart(f, time_ns)))
        return dns_part(d, f);
    f->asked += f->again;
    f->again = 0;
    return f;
}

void
dns_end(struct dns *d)
{
    size_t n = d->nfacts, i;
    for (i = 0; i < n; i++) {
        struct dns_fact *f = &d->facts[i];
        if (f->again > 0 && f->answered > 0)
            dns_part(d, f);
        else
            f->asked += f->again;
        d->facts[i].again = 0;
    }
}

/* ---- records ---- */

static void
dns_add_srv(struct dns_fact *f, struct dns_message *m)
{
    struct dns_target t;
    memset(&t, 0, sizeof t);
    t.priority = (uint16_t)dns_get16(m);
    t.weight = (uint16_t)dns_get16(m);
    t.port = (uint16_t)dns_get16(m);
    dns_name(m, t.host, sizeof t.host);
    if (!m->bad && f->ntargets < DNS_TARGETS_MAX)
        f->targets[f->ntargets++] = t;
}

static void
dns_add_address(struct dns *d, struct dns_fact *f, struct dns_message *m, size_t len)
{
    struct dns_target t;
    size_t bit;
    unsigned i;
    memset(&t, 0, sizeof t);
    if (len != (f->type == DNS_A ? 4u : 16u))
        return;
    for (i = 0; i < len; i++)
        t.address.bytes[i] = (unsigned char)dns_get8(m);
    t.address.family = f->type == DNS_A ? 4 : 6;
    for (i = 0; i < f->ntargets; i++)
        if (address_equal(&f->targets[i].address, &t.address))
            return;
    if (m->bad || f->ntargets == DNS_TARGETS_MAX)
        return;
    f->targets[f->ntargets++] = t;
    bit = dns_told_bit(&t.address);
    d->told[bit / 8] = (unsigned char)(d->told[bit / 8] | 1u << bit % 8);
}

static enum dns_type
dns_type_of(unsigned type)
{
    if (type == TYPE_SRV)
        return DNS_SRV;
    return type == TYPE_A ? DNS_A : DNS_AAAA;
}

/* A record behind the question: of the answer, or an address that the server gives unasked. */
static void
dns_record(struct dns *d, struct dns_fact **asked, struct dns_message *m, bool answer,
    uint64_t frame, int64_t time_ns)
{
    const size_t number = (size_t)(*asked - d->facts);
    const struct address client = (*asked)->client, server = (*asked)->server;   /* facts move */
    struct dns_fact *f;
    char name[160];
    unsigned type, len;
    size_t end;
    dns_name(m, name, sizeof name);
    type = dns_get16(m);
    dns_skip(m, 6);
    len = dns_get16(m);
    end = m->next + len;
    if (m->bad || end > m->len) {
        m->bad = true;
        return;
    }
    if (answer && type == TYPE_CNAME) {
        dns_name(m, (*asked)->alias, sizeof (*asked)->alias);
    } else if (answer && (type == TYPE_SRV || type == TYPE_A || type == TYPE_AAAA)) {
        if (dns_type_of(type) == (*asked)->type && type == TYPE_SRV)
            dns_add_srv(*asked, m);
        else if (dns_type_of(type) == (*asked)->type)
            dns_add_address(d, *asked, m, len);
    } else if (type == TYPE_A || type == TYPE_AAAA) {
        f = dns_fact(d, &client, &server, dns_type_of(type), name);
        if (f != NULL) {
            f = dns_answered(d, f, DNS_FOUND, time_ns);
            dns_add_address(d, f, m, len);
            f->result = DNS_FOUND;
            f->answer_frame = frame;
            f->answer_ns = time_ns;
            dns_touch(f, time_ns);
        }
        *asked = &d->facts[number];
    }
    m->next = end;
}

/* RFC 1035 4.1.1 */
static enum dns_result
dns_error(unsigned rcode)
{
    switch (rcode) {
    case 2:
        return DNS_SERVFAIL;
    case 3:
        return DNS_NXDOMAIN;
    case 5:
        return DNS_REFUSED;
    default:
        return DNS_OTHER_ERROR;
    }
}

static void
dns_answer(struct dns *d, struct dns_fact *f, struct dns_message *m, unsigned rcode,
    const unsigned counts[3], uint64_t frame, int64_t time_ns)
{
    unsigned i, all = counts[0] + counts[1] + counts[2];
    enum dns_result kind = counts[0] > 0 ? DNS_FOUND : DNS_EMPTY;
    f = dns_answered(d, f, rcode != 0 ? dns_error(rcode) : kind, time_ns);
    dns_touch(f, time_ns);
    f->answered++;
    f->answer_frame = frame;
    f->answer_ns = time_ns;
    if (rcode == 0)
        f->ntargets = 0;
    for (i = 0; i < all && i < DNS_RECORDS_MAX && !m->bad; i++)
        dns_record(d, &f, m, i < counts[0], frame, time_ns);
    if (rcode != 0)
        f->result = dns_error(rcode);
    else if (f->ntargets > 0)
        f->result = DNS_FOUND;
    else
        f->result = m->bad || m->cut ? DNS_CUT : DNS_EMPTY;
}

/* ---- the stage ---- */

struct dns *
dns_new(void)
{
    return memory_try(calloc(1, sizeof(struct dns)));
}

void
dns_push(struct dns *d, const struct address *source, const struct address *target,
    bool from_server, const unsigned char *at, size_t len, uint64_t frame, int64_t time_ns)
{
    struct dns_message m = { at, len, 0, false, false };
    struct dns_fact *f;
    char name[160];
    unsigned flags, type, questions;
    unsigned counts[3];
    dns_skip(&m, 2);
    flags = dns_get16(&m);
    m.cut = (flags & 0x0200) != 0;
    questions = dns_get16(&m);
    counts[0] = dns_get16(&m);
    counts[1] = dns_get16(&m);
    counts[2] = dns_get16(&m);
    if (m.bad || questions != 1 || (flags & 0x7800) != 0 || ((flags & 0x8000) != 0) != from_server)
        return;
    dns_name(&m, name, sizeof name);
    type = dns_get16(&m);
    dns_skip(&m, 2);
    if (m.bad || (type != TYPE_SRV && type != TYPE_A && type != TYPE_AAAA))
        return;
    f = dns_fact(d, from_server ? target : source, from_server ? source : target,
        dns_type_of(type), name);
    if (f == NULL)
        return;
    if (from_server)
        dns_answer(d, f, &m, flags & 15, counts, frame, time_ns);
    else
        dns_asked(d, f, frame, time_ns);
}

const struct dns_fact *
dns_facts(const struct dns *d, size_t *n)
{
    *n = d->nfacts;
    return d->facts;
}

uint64_t
dns_left_out(const struct dns *d)
{
    return d->left_out;
}

static bool
dns_has_address(const struct dns_fact *f, const struct address *a)
{
    unsigned i;
    for (i = 0; i < f->ntargets; i++)
        if (address_equal(&f->targets[i].address, a))
            return true;
    return false;
}

static bool
dns_leads_to(const struct dns *d, const struct address *client, const char *host,
    const struct address *target)
{
    const struct dns_fact *f = dns_known(d, client, target->family == 4 ? DNS_A : DNS_AAAA, host);
    for (; f != NULL; f = f->earlier == 0 ? NULL : &d->facts[f->earlier - 1])
        if (dns_has_address(f, target))
            return true;
    return false;
}

static bool
dns_fact_leads_to(const struct dns *d, const struct dns_fact *f, const struct address *target,
    uint16_t port)
{
    unsigned i;
    if (f->type != DNS_SRV)
        return port == 5269 && strcmp(f->name, f->domain) == 0
            && dns_leads_to(d, &f->client, f->name, target);
    for (i = 0; i < f->ntargets; i++)
        if (f->targets[i].port == port && dns_leads_to(d, &f->client, f->targets[i].host, target))
            return true;
    return false;
}

/* When a fact was known, of what was said up to then; later when it was not. */
static int64_t
dns_known_ns(const struct dns_fact *f, int64_t before_ns)
{
    return f->answer_ns != 0 && f->answer_ns <= before_ns ? f->answer_ns : f->query_ns;
}

/* A server may call from another address than it asks from; what this one asked counts first. */
const struct dns_fact *
dns_find(const struct dns *d, const struct address *client, const struct address *target,
    uint16_t port, int64_t before_ns)
{
    const struct dns_fact *best[2] = { NULL, NULL };   /* of others, of its own */
    size_t n = dns_may_be_told(d, target) ? d->nfacts : 0, i;
    for (i = 0; i < n; i++) {
        const struct dns_fact *f = &d->facts[i];
        bool own = address_equal(&f->client, client);
        int64_t at = dns_known_ns(f, before_ns);
        if (at <= before_ns
            && (best[own] == NULL || at >= dns_known_ns(best[own], before_ns))
            && dns_fact_leads_to(d, f, target, port))
            best[own] = f;
    }
    return best[1] != NULL ? best[1] : best[0];
}

/* Somebody has been told an address of this kind for the host. */
static bool
dns_is_resolved(const struct dns *d, const char *host, uint8_t family)
{
    size_t i;
    for (i = 0; i < d->nfacts; i++)
        if (d->facts[i].type == (family == 4 ? DNS_A : DNS_AAAA) && d->facts[i].ntargets > 0
            && strcmp(d->facts[i].name, host) == 0)
            return true;
    return false;
}

/* host NULL: of `domain`, to any host that has no address in the capture. */
static bool
dns_has_srv(const struct dns *d, const char *host, const char *domain, uint8_t family,
    uint16_t port)
{
    size_t i;
    unsigned k;
    for (i = 0; i < d->nfacts; i++) {
        const struct dns_fact *f = &d->facts[i];
        if (f->type != DNS_SRV || (host == NULL && strcmp(f->domain, domain) != 0))
            continue;
        for (k = 0; k < f->ntargets; k++) {
            const struct dns_target *t = &f->targets[k];
            if (t->port != port)
                continue;
            if (host != NULL ? strcmp(t->host, host) == 0 : !dns_is_resolved(d, t->host, family))
                return true;
        }
    }
    return false;
}

bool
dns_announces(const struct dns *d, const char *domain, const struct address *target, uint16_t port)
{
    size_t n = dns_may_be_told(d, target) ? d->nfacts : 0, i;
    for (i = 0; i < n; i++)
        if (d->facts[i].type != DNS_SRV && dns_has_address(&d->facts[i], target)
            && dns_has_srv(d, d->facts[i].name, "", target->family, port))
            return true;
    return domain[0] != '\0' && dns_has_srv(d, NULL, domain, target->family, port);
}

void
dns_free(struct dns *d)
{
    if (d == NULL)
        return;
    free(d->facts);
    free(d);
}

enum dns_target_fault
dns_target_fault(const struct dns_target *t)
{
    struct address address;
    if (strcmp(t->host, ".") == 0)
        return DNS_TARGET_NONE;
    if (address_read(t->host, &address))
        return DNS_TARGET_ADDRESS;
    return t->port == 0 ? DNS_TARGET_NO_PORT : DNS_TARGET_GOOD;
}

const char *
dns_type_word(enum dns_type t)
{
    static const char *const words[] = { "SRV", "A", "AAAA" };
    return words[t];
}

const char *
dns_result_word(enum dns_result r)
{
    static const char *const words[] = { "unanswered", "found", "empty", "nxdomain", "servfail",
        "refused", "error", "cut" };
    return words[r];
}
