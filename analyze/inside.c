/* inside.c -- who called whom, XMPP or not, and which addresses are not of the Internet
 *
 * Calls are found again by a hash table without deletion, of twice as many places as there can be
 * calls.  Whether a call is right is for verdict.c to say: here nobody knows the edge.
 */
#include "inside.h"

#define INSIDE_PLACES (2 * INSIDE_CALLS_MAX)   /* a power of two */

struct inside {
    struct inside_call calls[INSIDE_CALLS_MAX];
    size_t             ncalls;
    size_t             nglobal;                /* of these, to addresses of the Internet */
    uint64_t           left_out;
    uint16_t           index[INSIDE_PLACES];   /* number of a call + 1 */
};

/* ---- networks ---- */

bool
network_read(const char *text, struct network *out)
{
    char address[64];
    size_t len = strcspn(text, "/");
    char *end = NULL;
    unsigned long bits;
    memset(out, 0, sizeof *out);
    if (len >= sizeof address)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!address_read(address, &out->address))
        return false;
    out->bits = out->address.family == 4 ? 32 : 128;
    if (text[len] == '\0')
        return true;
    bits = strtoul(text + len + 1, &end, 10);
    if (text[len + 1] < '0' || text[len + 1] > '9' || *end != '\0' || bits > out->bits)
        return false;
    out->bits = (unsigned)bits;
    return true;
}

bool
network_has(const struct network *n, const struct address *a)
{
    unsigned whole = n->bits / 8, rest = n->bits % 8;
    return n->address.family == a->family && memcmp(n->address.bytes, a->bytes, whole) == 0
        && (rest == 0 || (n->address.bytes[whole] ^ a->bytes[whole]) >> (8 - rest) == 0);
}

/* RFC 1122, 1918, 3879, 3927, 4193, 4291, 6598.  What is reserved, or for documentation, no LAN
 * has either. */
static const struct inside_block inside_blocks[] = {
    { { { { 127 }, 4 }, 8 }, "a loopback address", true },
    { { { { 10 }, 4 }, 8 }, "a private address", false },
    { { { { 172, 16 }, 4 }, 12 }, "a private address", false },
    { { { { 192, 168 }, 4 }, 16 }, "a private address", false },
    { { { { 100, 64 }, 4 }, 10 }, "an address shared with a provider", false },
    { { { { 169, 254 }, 4 }, 16 }, "a link-local address", false },
    { { { { [15] = 1 }, 6 }, 128 }, "a loopback address", true },
    { { { { 0xfc }, 6 }, 7 }, "a private address", false },
    { { { { 0xfe, 0x80 }, 6 }, 10 }, "a link-local address", false },
    { { { { 0xfe, 0xc0 }, 6 }, 10 }, "a site-local address", false }
};

/* NAT64 and 6to4 (RFC 6052 2.1, RFC 3056 2): where an IPv4 address stands in one of IPv6. */
static const struct {
    struct network network;
    size_t         at;
} inside_carriers[] = { { { { { 0, 0x64, 0xff, 0x9b }, 6 }, 96 }, 12 },
    { { { { 0x20, 0x02 }, 6 }, 16 }, 2 } };

static struct address
inside_carried(const struct address *a)
{
    struct address v4 = { { 0 }, 4 };
    size_t i;
    for (i = 0; i < sizeof inside_carriers / sizeof *inside_carriers; i++)
        if (network_has(&inside_carriers[i].network, a)) {
            memcpy(v4.bytes, a->bytes + inside_carriers[i].at, 4);
            return v4;
        }
    return *a;
}

const struct inside_block *
inside_block(const struct address *a)
{
    struct address is = inside_carried(a);
    size_t i;
    for (i = 0; i < sizeof inside_blocks / sizeof *inside_blocks; i++)
        if (network_has(&inside_blocks[i].network, &is))
            return &inside_blocks[i];
    return NULL;
}

/* ---- calls ---- */

static size_t
inside_place(const struct flow *f)
{
    uint32_t h = 2166136261u ^ f->side[1].port;
    size_t side, i;
    for (side = 0; side < 2; side++)
        for (i = 0; i < sizeof f->side[side].address.bytes; i++)
            h = (h ^ f->side[side].address.bytes[i]) * 16777619u;
    return (h ^ h >> 15) & (INSIDE_PLACES - 1);
}

/* The call that a flow is one of; NULL: there is no room for it. */
static struct inside_call *
inside_call(struct inside *i, const struct flow *f)
{
    const struct flow_side *to = &f->side[1];
    size_t at = inside_place(f);
    struct inside_call *c;
    bool global;
    for (; i->index[at] != 0; at = (at + 1) & (INSIDE_PLACES - 1)) {
        c = &i->calls[i->index[at] - 1];
        if (c->port == to->port && address_equal(&c->source, &f->side[0].address)
            && address_equal(&c->target, &to->address))
            return c;
    }
    global = inside_block(&to->address) == NULL;
    if (i->ncalls == INSIDE_CALLS_MAX || (global && i->nglobal == INSIDE_CALLS_MAX / 2))
        return NULL;
    c = &i->calls[i->ncalls++];
    i->nglobal += global;
    i->index[at] = (uint16_t)i->ncalls;
    *c = (struct inside_call){ .source = f->side[0].address,
        .target = to->address,
        .port = to->port,
        .flow = f->number,
        .frame = f->first_frame,
        .time_ns = f->first_ns };
    return c;
}

struct inside *
inside_new(void)
{
    return memory_try(calloc(1, sizeof(struct inside)));
}

void
inside_free(struct inside *i)
{
    free(i);
}

void
inside_push(struct inside *i, const struct flow *f, bool xmpp)
{
    struct inside_call *c;
    if (f->evidence > (xmpp ? EVIDENCE_PORT : EVIDENCE_SYNACK))
        return;
    c = inside_call(i, f);
    if (c == NULL) {
        i->left_out += inside_block(&f->side[1].address) != NULL;
        return;
    }
    c->count++;
    c->sure |= f->evidence <= EVIDENCE_CONTENT;
    c->established += f->established;
    c->others += !xmpp;
    c->others_established += !xmpp && f->established;
}

const struct inside_call *
inside_calls(const struct inside *i, size_t *n)
{
    *n = i->ncalls;
    return i->calls;
}

uint64_t
inside_left_out(const struct inside *i)
{
    return i->left_out;
}
