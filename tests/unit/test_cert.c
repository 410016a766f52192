/* test_cert.c -- [CERT]: certificates read by us, their keys, chains and handshakes.
 *
 * Certificates are written here byte by byte, without signatures: what is tested never looks at
 * one.  Each table is a family, and the last test tells how many were tried.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1

#include "cut/CERT.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static unsigned tried;

/* ---- a writer ---- */

struct der {
    unsigned char at[40000];
    size_t        len;
};

/* Wrap what was written since `from` into an element. */
static void
wrap(struct der *d, size_t from, int tag)
{
    unsigned char head[4] = { (unsigned char)tag };
    size_t len = d->len - from;
    size_t n = 2;
    if (len < 0x80) {
        head[1] = (unsigned char)len;
    } else {
        head[1] = 0x82;
        head[2] = (unsigned char)(len >> 8);
        head[3] = (unsigned char)len;
        n = 4;
    }
    assert_true(d->len + n <= sizeof d->at);
    memmove(d->at + from + n, d->at + from, len);
    memcpy(d->at + from, head, n);
    d->len += n;
}

static void
put(struct der *d, int tag, const void *bytes, size_t n)
{
    size_t from = d->len;
    memcpy(d->at + d->len, bytes, n);
    d->len += n;
    wrap(d, from, tag);
}

/* "tag,text" and so on: names as in subtrees and SAN.  D dNSName, S SRVName, X xmppAddr, E email,
 * U URI, N directory, I and M IPv4 with mask, O another otherName. */
static void
put_name(struct der *d, struct xe_span word)
{
    static const unsigned char address[8] = { 192, 0, 2, 1, 0, 0, 0, 0 };
    static const unsigned char half[8] = { 192, 0, 2, 0, 255, 255, 255, 0 };
    size_t from = d->len;
    char kind = word.at[0];
    struct xe_span text = span_skip(word, word.len > 1 ? 2 : 1);
    switch (kind) {
    case 'S':
    case 'X':
    case 'O':
        put(d, 6, kind == 'S' ? "\x2b\x06\x01\x05\x05\x07\x08\x07" : kind == 'X'
            ? "\x2b\x06\x01\x05\x05\x07\x08\x05" : "\x2b\x06\x01\x05\x05\x07\x08\x09", 8);
        put(d, kind == 'S' ? 22 : 12, text.at, text.len);
        {
            size_t value = from + 10;
            wrap(d, value, 0xa0);
        }
        wrap(d, from, 0xa0);
        break;
    case 'N':
        put(d, 6, "\x55\x04\x0a", 3);
        put(d, 12, text.at, text.len);
        wrap(d, from, 0x30);
        wrap(d, from, 0x31);
        wrap(d, from, 0x30);
        wrap(d, from, 0xa4);
        break;
    case 'I':   /* a name: an address */
        put(d, 0x87, address, 4);
        break;
    case 'A':   /* a constraint: everything */
        put(d, 0x87, "\0\0\0\0\0\0\0\0", 8);
        break;
    case 'M':   /* a constraint: the network of I */
        put(d, 0x87, half, 8);
        break;
    default:
        put(d, kind == 'D' ? 0x82 : kind == 'E' ? 0x81 : 0x86, text.at, text.len);
        break;
    }
}

/* Names with spaces between, each in an element of its own if `subtrees`. */
static void
put_names(struct der *d, const char *names, bool subtrees)
{
    while (*names != '\0') {
        size_t from = d->len;
        size_t len = strcspn(names, " ");
        put_name(d, span_make(names, len));
        if (subtrees)
            wrap(d, from, 0x30);
        names += len + strspn(names + len, " ");
    }
}

static void
wrap_extension(struct der *d, size_t from, int id, bool critical)
{
    unsigned char oid[] = { 0x55, 0x1d, (unsigned char)id };
    struct der content;
    content.len = d->len - from;
    memcpy(content.at, d->at + from, content.len);
    d->len = from;
    put(d, 6, oid, 3);
    if (critical)
        put(d, 1, "\xff", 1);
    put(d, 4, content.at, content.len);
    wrap(d, from, 0x30);
}

/* What a certificate of a family says. */
struct spec {
    const char *subject;     /* NULL: by its place in the chain */
    const char *issuer;
    const char *names;       /* SAN; NULL: none */
    const char *permitted;   /* NULL: none */
    const char *excluded;
    const char *purposes;    /* of s, c, a(ny), e(mail); NULL: no extension */
    const char *org;         /* organization of the subject */
    int         authority;   /* 1: CA, 2: CA false, 3: nothing is said */
    int         path_len;    /* less 1; 0: none */
    size_t      rsa;         /* bits of the modulus; 0: a curve */
    size_t      exponent;    /* bits */
    const char *curve;       /* NULL: P-256 */
    bool        critical;
    bool        empty;       /* constraints without any */
    bool        broken;      /* constraints that cannot be read */
};

static void
put_common_name(struct der *d, const char *name, const char *org)
{
    size_t from = d->len;
    size_t one = d->len;
    if (org != NULL) {
        put(d, 6, "\x55\x04\x0a", 3);
        put(d, 19, org, strlen(org));   /* PrintableString where constraints say UTF8String */
        wrap(d, one, 0x30);
        wrap(d, one, 0x31);
    }
    one = d->len;
    put(d, 6, "\x55\x04\x03", 3);
    put(d, 12, name, strlen(name));
    wrap(d, one, 0x30);
    wrap(d, one, 0x31);
    wrap(d, from, 0x30);
}

static void
put_number(struct der *d, size_t bits)
{
    unsigned char bytes[2049] = { 0 };
    size_t len = (bits + 7) / 8;
    bytes[1] = (unsigned char)(1 << ((bits + 7) % 8));
    bytes[len] |= 1;
    put(d, 2, bytes, len + 1);
}

static void
put_key(struct der *d, const struct spec *s)
{
    size_t from = d->len;
    size_t one;
    put(d, 6, s->rsa > 0 ? "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" : "\x2a\x86\x48\xce\x3d\x02\x01",
        s->rsa > 0 ? 9 : 7);
    if (s->rsa > 0)
        put(d, 5, "", 0);
    else if (s->curve == NULL)
        put(d, 6, "\x2a\x86\x48\xce\x3d\x03\x01\x07", 8);
    else if (s->curve[0] != '\0')
        put(d, 6, s->curve, strlen(s->curve));
    else
        put(d, 0x30, "", 0);   /* a curve that is spelt out */
    wrap(d, from, 0x30);
    one = d->len;
    d->at[d->len++] = 0;
    if (s->rsa > 0) {
        put_number(d, s->rsa);
        put_number(d, s->exponent > 0 ? s->exponent : 17);
        wrap(d, one + 1, 0x30);
    }
    wrap(d, one, 3);
    wrap(d, from, 0x30);
}

static void
put_purposes(struct der *d, const char *purposes)
{
    size_t from = d->len;
    for (; *purposes != '\0'; purposes++) {
        char oid[] = "\x2b\x06\x01\x05\x05\x07\x03\x04";
        oid[7] = *purposes == 's' ? 1 : *purposes == 'c' ? 2 : 4;
        if (*purposes == 'a')
            put(d, 6, "\x55\x1d\x25\x00", 4);
        else
            put(d, 6, oid, 8);
    }
    wrap(d, from, 0x30);
    wrap_extension(d, from, CERT_PURPOSES, false);
}

static void
put_constraints(struct der *d, const struct spec *s)
{
    size_t from = d->len;
    size_t one = d->len;
    if (s->permitted == NULL && s->excluded == NULL && !s->empty && !s->broken)
        return;
    if (s->permitted != NULL) {
        put_names(d, s->permitted, true);
        wrap(d, one, 0xa0);
    }
    one = d->len;
    if (s->excluded != NULL) {
        put_names(d, s->excluded, true);
        wrap(d, one, 0xa1);
    }
    if (s->broken)
        d->at[d->len++] = 0x30;
    wrap(d, from, 0x30);
    wrap_extension(d, from, CERT_CONSTRAINTS, s->critical);
}

static void
put_extensions(struct der *d, const struct spec *s)
{
    size_t from = d->len;
    size_t one = d->len;
    if (s->authority == 1 || s->authority == 2) {
        if (s->authority == 1)
            put(d, 1, "\xff", 1);
        if (s->path_len > 0) {
            unsigned char n = (unsigned char)(s->path_len - 1);
            put(d, 2, &n, 1);
        }
        wrap(d, one, 0x30);
        wrap_extension(d, one, CERT_BASIC, true);
    }
    one = d->len;
    if (s->names != NULL) {
        put_names(d, s->names, false);
        wrap(d, one, 0x30);
        wrap_extension(d, one, CERT_ALT_NAMES, false);
    }
    if (s->purposes != NULL)
        put_purposes(d, s->purposes);
    put_constraints(d, s);
    if (d->len == from)
        return;
    wrap(d, from, 0x30);
    wrap(d, from, 0xa3);
}

static struct xe_span
certificate(struct der *d, const struct spec *s)
{
    d->len = 0;
    put(d, 2, "\2", 1);
    wrap(d, 0, 0xa0);
    put(d, 2, "\1", 1);
    put(d, 0x30, "", 0);
    put_common_name(d, s->issuer, NULL);
    put(d, 0x30, "", 0);
    put_common_name(d, s->subject, s->org);
    put_key(d, s);
    put_extensions(d, s);
    wrap(d, 0, 0x30);
    put(d, 0x30, "", 0);
    put(d, 3, "\0", 1);
    wrap(d, 0, 0x30);
    return span_make((const char *)d->at, d->len);
}

/* Judge a chain of specs, the peer's first.  Who has no name is called after his place. */
static unsigned
judge(struct spec *chain, size_t n, unsigned purposes)
{
    static struct der space[CERT_PATH_MAX + 1];
    static const char *const names[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10",
        "11" };
    struct xe_span der[CERT_PATH_MAX + 1];
    size_t i;
    for (i = 0; i < n; i++) {
        if (chain[i].subject == NULL)
            chain[i].subject = names[i];
        if (chain[i].issuer == NULL)
            chain[i].issuer = names[i + 1 < n ? i + 1 : i];
        if (i > 0 && chain[i].authority == 0)
            chain[i].authority = 1;
        der[i] = certificate(&space[i], &chain[i]);
    }
    tried++;
    return cert_path_judge(der, n, purposes, &cert_limits_default);
}

/* ---- name constraints ---- */

static const struct { const char *permitted, *excluded, *names; bool allowed; } constraints[] = {
    /* permitted dNSName, each kind of name that we believe */
    { "D:far.example", NULL, "D:far.example", true },
    { "D:far.example", NULL, "D:a.far.example", true },
    { "D:far.example", NULL, "D:a.b.far.example", true },
    { "D:far.example", NULL, "D:FAR.Example", true },
    { "D:FAR.example", NULL, "D:far.example", true },
    { "D:far.example", NULL, "D:far.example.", true },
    { "D:far.example.", NULL, "D:far.example", true },
    { "D:far.example", NULL, "D:*.far.example", true },
    { "D:far.example", NULL, "D:bank.example", false },
    { "D:far.example", NULL, "D:xfar.example", false },
    { "D:far.example", NULL, "D:example", false },
    { "D:far.example", NULL, "D:far.example.bank.example", false },
    { "D:far.example", NULL, "D:*.example", false },
    { "D:a.far.example", NULL, "D:*.far.example", false },
    { "D:far.example", NULL, "D:far.example D:bank.example", false },
    { "D:far.example", NULL, "D:bank.example D:far.example", false },
    { "D:far.example D:bank.example", NULL, "D:bank.example", true },
    { "D:far.example D:near.example", NULL, "D:bank.example", false },
    { "D:far.example", NULL, "S:_xmpp-server.far.example", true },
    { "D:far.example", NULL, "S:_xmpp-server.a.far.example", true },
    { "D:far.example", NULL, "S:_xmpp-server.bank.example", false },
    { "D:far.example", NULL, "S:far.example", false },
    { "D:far.example", NULL, "S:_xmpp-server.", false },
    { "D:far.example", NULL, "X:far.example", true },
    { "D:far.example", NULL, "X:a.far.example", true },
    { "D:far.example", NULL, "X:FAR.example", true },
    { "D:far.example", NULL, "X:bank.example", false },
    { "D:far.example", NULL, "X:user@far.example", true },
    { "D:far.example", NULL, "X:user@bank.example", false },
    { "D:far.example", NULL, "X:far.example@bank.example", false },
    { "D:far.example", NULL, "X:bank.example/far.example", false },
    { "D:far.example", NULL, "X:bank.example/x@far.example", false },
    { "D:far.example", NULL, "X:", false },
    { "D:far.example", NULL, "D:", false },
    { "D:far.example", NULL, "D:far.example X:bank.example", false },
    { "D:far.example", NULL, "D:far.example S:_xmpp-server.bank.example", false },
    /* a dot in front: only what is below */
    { "D:.far.example", NULL, "D:a.far.example", true },
    { "D:.far.example", NULL, "D:far.example", false },
    { "D:.far.example", NULL, "D:*.far.example", true },
    { "D:.far.example", NULL, "D:xfar.example", false },
    { NULL, "D:.far.example", "D:far.example", true },
    { NULL, "D:.far.example", "D:a.far.example", false },
    { NULL, "D:.far.example", "D:*.far.example", false },
    /* empty: everything */
    { "D:", NULL, "D:bank.example", true },
    { "D:", NULL, "X:bank.example", true },
    { NULL, "D:", "D:bank.example", false },
    { NULL, "D:", "S:_xmpp-server.bank.example", false },
    { NULL, "D:", "X:bank.example", false },
    { NULL, "D:", "E:a@bank.example", true },
    { "", NULL, "D:bank.example", true },
    { NULL, "", "D:bank.example", true },
    /* excluded, each kind */
    { NULL, "D:bank.example", "D:far.example", true },
    { NULL, "D:bank.example", "D:bank.example", false },
    { NULL, "D:bank.example", "D:BANK.example.", false },
    { NULL, "D:bank.example", "D:a.bank.example", false },
    { NULL, "D:bank.example", "D:xbank.example", true },
    { NULL, "D:bank.example", "D:*.bank.example", false },
    { NULL, "D:bank.example", "D:*.example", false },
    { NULL, "D:a.bank.example", "D:*.bank.example", false },
    { NULL, "D:a.b.bank.example", "D:*.bank.example", true },
    { NULL, "D:bank.example", "S:_xmpp-server.bank.example", false },
    { NULL, "D:bank.example", "S:_xmpp-server.far.example", true },
    { NULL, "D:bank.example", "X:bank.example", false },
    { NULL, "D:bank.example", "X:user@bank.example/x", false },
    { NULL, "D:bank.example", "X:far.example", true },
    { NULL, "D:bank.example", "D:far.example X:bank.example", false },
    /* both */
    { "D:example", "D:bank.example", "D:far.example", true },
    { "D:example", "D:bank.example", "D:bank.example", false },
    { "D:bank.example", "D:bank.example", "D:bank.example", false },
    { "D:bank.example", "D:far.example", "D:near.example", false },
    /* of other types they say nothing about hosts */
    { "E:far.example", NULL, "D:bank.example", true },
    { "U:far.example", NULL, "D:bank.example", true },
    { "A", NULL, "D:bank.example", true },
    { NULL, "A", "D:bank.example", true },
    { "N:Far", NULL, NULL, false },
    { "N:Bank", NULL, "D:bank.example", true },
    { "N:BANK", NULL, "D:bank.example", true },
    { "N:Far", NULL, "D:bank.example", false },
    { NULL, "N:Bank", "D:bank.example", false },
    { NULL, "N:Far", "D:bank.example", true },
    { "N:Bank D:far.example", NULL, "D:bank.example", false },
    { "N:Bank D:bank.example", "A", "D:bank.example", true },
    { "N:Bank", NULL, "D:bank.example N:Bank", true },
    { "N:Bank", NULL, "D:bank.example N:Far", false },
    { "O:x", NULL, "D:bank.example", true },
    { "O:x", NULL, "X:bank.example", true },
    { "O:x", NULL, "O:x", false },
    { NULL, "O:x", "O:y", false },
    { "X:bank.example", NULL, "X:bank.example", false },
    { NULL, "X:far.example", "X:bank.example", false },
    { "S:_xmpp-server.bank.example", NULL, "S:_xmpp-server.bank.example", false },
    { "X:far.example", NULL, "D:bank.example", true },
    /* names of those types are held to them, or refused where we cannot tell */
    { "E:far.example", NULL, "E:a@far.example", false },
    { NULL, "E:far.example", "E:a@bank.example", false },
    { "U:far.example", NULL, "U:xmpp:far.example", false },
    { "M", NULL, "I", true },
    { "A", NULL, "I", true },
    { NULL, "M", "I", false },
    { NULL, "A", "D:bank.example I", false },
    { "D:bank.example", NULL, "D:bank.example E:a@far.example U:xmpp:far.example I", true },
    /* no names, nothing to refuse */
    { "D:far.example", NULL, NULL, true } };

static void
constraints_hold_for_each_kind_of_name_at_each_depth(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < sizeof constraints / sizeof constraints[0]; i++) {
        size_t at;
        for (at = 1; at < 5; at++) {
            int critical;
            for (critical = 0; critical < 2; critical++) {
                struct spec chain[5] = { { .names = constraints[i].names, .org = "Bank" } };
                unsigned bad;
                size_t other;
                for (other = 1; other < 5; other++)   /* those between may be named as they want */
                    chain[other].org = "Bank";
                chain[at].permitted = constraints[i].permitted;
                chain[at].excluded = constraints[i].excluded;
                chain[at].critical = critical == 1;
                bad = judge(chain, 5, CERT_FOR_SERVERS);
                if (bad != (constraints[i].allowed ? 0u : CERT_BAD_NAMES))
                    fail_msg("row %u, depth %u: %u", (unsigned)i, (unsigned)at, bad);
            }
        }
    }
}

static void
constraints_of_two_authorities_hold_both(void **state)
{
    static const struct { const char *upper, *lower, *name; bool allowed; } rows[] = {
        { "D:example", "D:far.example", "D:far.example", true },
        { "D:example", "D:far.example", "D:bank.example", false },
        { "D:far.example", "D:example", "D:bank.example", false },
        { "D:far.example", "D:bank.example", "D:bank.example", false },
        { "D:far.example", "D:bank.example", "D:far.example", false } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spec chain[4] = { { .names = rows[i].name }, { .permitted = rows[i].lower },
            { .permitted = rows[i].upper } };
        assert_int_equal(judge(chain, 4, CERT_FOR_SERVERS),
            rows[i].allowed ? 0 : CERT_BAD_NAMES);
    }
}

static void
a_certificate_is_not_held_to_its_own_constraints_nor_an_authority_that_renews_itself(void **state)
{
    struct spec own[2] = { { .names = "D:bank.example", .permitted = "D:far.example" } };
    struct spec renewed[4] = { { .names = "D:far.example" },
        { .subject = "ca", .issuer = "ca", .names = "D:bank.example" },
        { .subject = "ca", .issuer = "ca", .permitted = "D:far.example" } };
    struct spec leaf[2] = { { .subject = "x", .issuer = "x", .names = "D:bank.example" },
        { .permitted = "D:far.example" } };
    (void)state;
    assert_int_equal(judge(own, 2, CERT_FOR_SERVERS), 0);
    assert_int_equal(judge(renewed, 4, CERT_FOR_SERVERS), 0);
    renewed[1].issuer = "another";
    assert_int_equal(judge(renewed, 4, CERT_FOR_SERVERS), CERT_BAD_NAMES);
    assert_int_equal(judge(leaf, 2, CERT_FOR_SERVERS), CERT_BAD_NAMES);
}

static void
constraints_that_are_empty_let_everything_through_and_broken_ones_nothing(void **state)
{
    struct spec empty[2] = { { .names = "D:bank.example" }, { .empty = true } };
    struct spec broken[2] = { { .names = "D:bank.example" }, { .broken = true } };
    (void)state;
    assert_int_equal(judge(empty, 2, CERT_FOR_SERVERS), 0);
    assert_int_equal(judge(broken, 2, CERT_FOR_SERVERS), CERT_BAD_NAMES);
}

static void
more_comparisons_than_a_ceiling_count_against_the_chain(void **state)
{
    static char names[5001];
    struct spec chain[2] = { { .names = names }, { .excluded = names } };
    size_t i;
    (void)state;
    for (i = 0; i < 1000; i++)
        memcpy(names + i * 5, "D:no ", 5);
    names[4999] = '\0';
    chain[0].names = "D:bank.example";
    assert_int_equal(judge(chain, 2, CERT_FOR_SERVERS), 0);
    memcpy(names, "D:yz ", 5);
    for (i = 1; i < 1000; i++)
        memcpy(names + i * 5, "D:yz ", 5);
    names[4999] = '\0';
    chain[0].names = "D:a D:b D:c D:d D:e D:f D:g D:h D:i D:j D:k D:l D:m D:n D:o D:p D:q D:r D:s "
        "D:t D:u";
    assert_int_equal(judge(chain, 2, CERT_FOR_SERVERS), CERT_BAD_NAMES);
}

/* ---- purposes ---- */

/* For each purpose at each of three depths: good when something is left of them all. */
static void
purposes_are_nested(void **state)
{
    static const char *const kinds[] = { NULL, "s", "c", "sc", "a", "e", "es", "ea", "" };
    static const unsigned left[] = { 3, 1, 2, 3, 3, 0, 1, 3, 0 };
    const size_t n = sizeof kinds / sizeof kinds[0];
    size_t i;
    (void)state;
    for (i = 0; i < n * n * n; i++) {
        unsigned want;
        for (want = 1; want <= 3; want += 2) {
            struct spec chain[3] = { { .names = "D:far.example", .purposes = kinds[i % n] },
                { .purposes = kinds[i / n % n] }, { .purposes = kinds[i / n / n] } };
            unsigned all = left[i % n] & left[i / n % n] & left[i / n / n] & want;
            unsigned bad = judge(chain, 3, want);
            if (bad != (all != 0 ? 0u : CERT_BAD_PURPOSE))
                fail_msg("%u wanting %u: %u", (unsigned)i, want, bad);
        }
    }
}

/* ---- path lengths ---- */

static void
a_path_length_is_kept_at_each_depth(void **state)
{
    size_t n;
    (void)state;
    for (n = 2; n <= CERT_PATH_MAX; n++) {
        size_t at;
        for (at = 1; at < n; at++) {
            int len;
            for (len = 0; len < 6; len++) {
                struct spec chain[CERT_PATH_MAX] = { { .names = "D:far.example" } };
                chain[at].path_len = len + 1;
                assert_int_equal(judge(chain, n, CERT_FOR_SERVERS),
                    (int)at - 1 <= len ? 0 : CERT_BAD_PATH);
            }
        }
    }
}

static void
who_says_that_it_is_no_authority_or_nothing_is_none(void **state)
{
    size_t at;
    int says;
    (void)state;
    for (at = 1; at < 4; at++)
        for (says = 2; says <= 3; says++) {
            struct spec chain[4] = { { .names = "D:far.example" }, { .purposes = "a" },
                { .purposes = "a" }, { .purposes = "a" } };
            chain[at].authority = says;
            assert_int_equal(judge(chain, 4, CERT_FOR_SERVERS), CERT_BAD_PATH);
        }
}

static void
an_authority_that_renews_itself_does_not_count_and_one_without_extensions_is_trusted(void **state)
{
    struct spec renewed[4] = { { .names = "D:far.example" },
        { .subject = "ca", .issuer = "ca" }, { .subject = "ca", .issuer = "ca", .path_len = 1 } };
    struct spec old[2] = { { .names = "D:far.example" }, { .authority = 3 } };
    struct spec many[CERT_PATH_MAX + 1] = { { .names = "D:far.example" } };
    struct spec alone[1] = { { .names = "D:far.example", .authority = 2 } };
    (void)state;
    assert_int_equal(judge(renewed, 4, CERT_FOR_SERVERS), 0);
    assert_int_equal(judge(old, 2, CERT_FOR_SERVERS), 0);
    assert_int_equal(judge(many, CERT_PATH_MAX, CERT_FOR_SERVERS), 0);
    assert_int_equal(judge(many, CERT_PATH_MAX + 1, CERT_FOR_SERVERS), CERT_BAD_PATH);
    assert_int_equal(judge(alone, 1, CERT_FOR_SERVERS), 0);
}

/* What stands behind an extension that cannot be read might forbid something. */
static void
extensions_that_cannot_be_read_are_not_absent(void **state)
{
    static const struct { const char *bytes; size_t len; bool good; } rows[] = {
        { "", 0, true },
        { "\x30\x07\x06\x03\x55\x1d\x1e\x04\x00", 9, true },
        { "\x30\x0a\x06\x03\x55\x1d\x1e\x01\x01\xff\x04\x00", 12, true },
        { "\x30\x05\x06\x03\x55\x1d\x1e", 7, false },
        { "\x30\x09\x06\x03\x55\x1d\x1e\x04\x00\x05\x00", 11, false },
        { "\x30\x07\x04\x03\x55\x1d\x1e\x04\x00", 9, false },
        { "\x31\x07\x06\x03\x55\x1d\x1e\x04\x00", 9, false },
        { "\x30\x84\x00\x00\x00\x07\x06\x03\x55\x1d\x1e\x04\x00", 13, false },
        { "\x30\x08\x06\x03\x55\x1d\x1e\x04\x00", 9, false } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++, tried++)
        if (cert_extensions_are_readable(span_make(rows[i].bytes, rows[i].len)) != rows[i].good)
            fail_msg("row %zu", i);
}

/* ---- keys ---- */

static const struct { struct spec spec; enum xe_why why; } keys[] = {
    { { .rsa = 512 }, XE_WHY_CERT_WEAK },
    { { .rsa = 1024 }, XE_WHY_CERT_WEAK },
    { { .rsa = 2047 }, XE_WHY_CERT_WEAK },
    { { .rsa = 2048 }, XE_WHY_NONE },
    { { .rsa = 3072 }, XE_WHY_NONE },
    { { .rsa = 4095 }, XE_WHY_NONE },
    { { .rsa = 4096 }, XE_WHY_NONE },
    { { .rsa = 4097 }, XE_WHY_CERT_KEY_SIZE },
    { { .rsa = 8192 }, XE_WHY_CERT_KEY_SIZE },
    { { .rsa = 16384 }, XE_WHY_CERT_KEY_SIZE },
    { { .rsa = 2048, .exponent = 2 }, XE_WHY_NONE },
    { { .rsa = 2048, .exponent = 32 }, XE_WHY_NONE },
    { { .rsa = 2048, .exponent = 33 }, XE_WHY_CERT_KEY_EXPONENT },
    { { .rsa = 2048, .exponent = 64 }, XE_WHY_CERT_KEY_EXPONENT },
    { { .rsa = 2048, .exponent = 2048 }, XE_WHY_CERT_KEY_EXPONENT },
    { { .rsa = 4096, .exponent = 4096 }, XE_WHY_CERT_KEY_EXPONENT },
    { { .rsa = 8192, .exponent = 8192 }, XE_WHY_CERT_KEY_SIZE },
    { { .rsa = 1024, .exponent = 1024 }, XE_WHY_CERT_KEY_EXPONENT },
    { { .curve = "\x2a\x86\x48\xce\x3d\x03\x01\x07" }, XE_WHY_NONE },       /* P-256 */
    { { .curve = "\x2b\x81\x04\x00\x22" + 0 }, XE_WHY_CERT_KEY_KIND },      /* cut at the NUL */
    { { .curve = "\x2b\x81\x04" }, XE_WHY_CERT_KEY_KIND },
    { { .curve = "\x2a\x86\x48\xce\x3d\x03\x01\x01" }, XE_WHY_CERT_KEY_KIND },   /* P-192 */
    { { .curve = "\x2b\x24\x03\x03\x02\x08\x01\x01\x07" }, XE_WHY_CERT_KEY_KIND }, /* brainpool */
    { { .curve = "" }, XE_WHY_CERT_KEY_KIND } };

static void
keys_beyond_the_ceilings_are_named(void **state)
{
    static struct der space;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct spec spec = keys[i].spec;
        struct spec chain[3] = { { .names = "D:far.example" } };
        struct xe_span der;
        struct cert c;
        size_t at;
        spec.subject = spec.issuer = "x";
        der = certificate(&space, &spec);
        assert_true(cert_read(der, &c));
        if (cert_key_why(&c, &cert_limits_default) != keys[i].why)
            fail_msg("row %u", (unsigned)i);
        assert_int_equal(cert_cost_why(der, 1, &cert_limits_default),
            keys[i].why == XE_WHY_CERT_WEAK ? XE_WHY_NONE : keys[i].why);
        tried++;
        for (at = 0; at < 3; at++) {
            struct spec before = chain[at];
            chain[at].rsa = spec.rsa;
            chain[at].exponent = spec.exponent;
            chain[at].curve = spec.curve;
            assert_int_equal(judge(chain, 3, CERT_FOR_SERVERS),
                keys[i].why == XE_WHY_NONE ? 0 : CERT_BAD_KEY);
            chain[at] = before;
        }
    }
}

static void
larger_curves_have_a_ceiling_of_their_own(void **state)
{
    const struct xe_span p384 = { "\x2b\x81\x04\x00\x22", 5 };
    const struct xe_span p521 = { "\x2b\x81\x04\x00\x23", 5 };
    struct cert_limits l = cert_limits_default;
    (void)state;
    assert_int_equal(cert_curve_why(p384, &l), XE_WHY_NONE);
    assert_int_equal(cert_curve_why(p521, &l), XE_WHY_NONE);
    l.curve_max = 384;
    assert_int_equal(cert_curve_why(p384, &l), XE_WHY_NONE);
    assert_int_equal(cert_curve_why(p521, &l), XE_WHY_CERT_KEY_SIZE);
    l.curve_max = 256;
    assert_int_equal(cert_curve_why(p384, &l), XE_WHY_CERT_KEY_SIZE);
    tried += 5;
}

/* ---- handshakes ---- */

/* A flight of TLS 1.2: a hello, a Certificate, and the message that ends it.  Records have at most
 * `record` bytes. */
static size_t
flight(unsigned char *out, struct spec *chain, size_t n, size_t record, bool hello_done)
{
    static unsigned char messages[200000];
    static struct der space;
    static const unsigned char hello[] = { 1, 0, 0, 3, 11, 11, 11 };
    size_t len = sizeof hello + 4 + 3;
    size_t at = 0;
    size_t total;
    size_t i;
    memcpy(messages, hello, sizeof hello);
    for (i = 0; i < n; i++) {
        struct xe_span der;
        chain[i].subject = chain[i].issuer = "x";
        der = certificate(&space, &chain[i]);
        messages[len] = 0;
        messages[len + 1] = (unsigned char)(der.len >> 8);
        messages[len + 2] = (unsigned char)der.len;
        memcpy(messages + len + 3, der.at, der.len);
        len += 3 + der.len;
    }
    total = len - sizeof hello - 4;
    messages[7] = CERT_CERTIFICATE;
    messages[8] = (unsigned char)(total >> 16);
    messages[9] = (unsigned char)(total >> 8);
    messages[10] = (unsigned char)total;
    messages[11] = (unsigned char)((total - 3) >> 16);
    messages[12] = (unsigned char)((total - 3) >> 8);
    messages[13] = (unsigned char)(total - 3);
    messages[len++] = hello_done ? CERT_HELLO_DONE : CERT_KEY_EXCHANGE;
    memset(messages + len, 0, 3);
    len += 3;
    total = 0;
    while (at < len) {
        size_t some = len - at < record ? len - at : record;
        const unsigned char head[] = { 22, 3, 3, (unsigned char)(some >> 8), (unsigned char)some };
        memcpy(out + total, head, 5);
        memcpy(out + total + 5, messages + at, some);
        total += 5 + some;
        at += some;
    }
    return total;
}

/* What a flight comes to when it arrives in pieces; *seen: bytes until then. */
static enum xe_why
take(const unsigned char *at, size_t n, size_t piece, size_t *seen)
{
    struct cert_flight f = { .over = false };
    enum xe_why why = XE_WHY_NONE;
    tried++;
    for (*seen = 0; *seen < n && why == XE_WHY_NONE; *seen += piece < n - *seen ? piece : n - *seen)
        why = cert_flight_take(
            &f, at + *seen, piece < n - *seen ? piece : n - *seen, &cert_limits_default);
    cert_flight_free(&f);
    return why;
}

static const struct { struct spec spec; size_t n; enum xe_why why; } flights[] = {
    { { .names = "D:far.example" }, 0, XE_WHY_NONE },
    { { .names = "D:far.example" }, 1, XE_WHY_NONE },
    { { .names = "D:far.example" }, 5, XE_WHY_NONE },
    { { .names = "D:far.example" }, 6, XE_WHY_CERT_CHAIN_LENGTH },
    { { .names = "D:far.example" }, 20, XE_WHY_CERT_CHAIN_LENGTH },
    { { .rsa = 1024 }, 1, XE_WHY_NONE },
    { { .rsa = 4096 }, 4, XE_WHY_NONE },
    { { .rsa = 8192 }, 1, XE_WHY_CERT_KEY_SIZE },
    { { .rsa = 8192, .exponent = 8192 }, 4, XE_WHY_CERT_KEY_SIZE },
    { { .rsa = 4096, .exponent = 4096 }, 4, XE_WHY_CERT_KEY_EXPONENT },
    { { .rsa = 2048, .exponent = 33 }, 1, XE_WHY_CERT_KEY_EXPONENT },
    { { .curve = "" }, 2, XE_WHY_CERT_KEY_KIND },
    { { .rsa = 16384, .exponent = 16384 }, 5, XE_WHY_CERT_CHAIN_BYTES },
    { { .rsa = 4096, .exponent = 4096 }, 20, XE_WHY_CERT_CHAIN_BYTES } };

static void
a_chain_is_judged_however_its_bytes_are_cut(void **state)
{
    static const size_t sizes[] = { 1, 2, 3, 5, 7, 64, 1000, 16384 };
    static unsigned char bytes[1000000];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof flights / sizeof flights[0]; i++) {
        size_t k;
        for (k = 0; k < 2 * 64; k++) {
            struct spec chain[20];
            size_t piece = sizes[k % 8];
            size_t record = sizes[k / 8 % 8];
            size_t seen;
            size_t n;
            for (n = 0; n < 20; n++)
                chain[n] = flights[i].spec;
            n = flight(bytes, chain, flights[i].n, record, k / 64 == 1);
            if (take(bytes, n, piece, &seen) != flights[i].why)
                fail_msg("row %u, pieces of %u, records of %u", (unsigned)i, (unsigned)piece,
                    (unsigned)record);
            if (flights[i].why != XE_WHY_NONE)
                assert_true(seen <= n);
        }
    }
}

/* What is wrong is told before the last byte of the message has been handed on: mbed TLS computes
 * when it has the whole. */
static void
the_last_certificate_of_a_chain_is_looked_at_before_the_message_is_complete_for_others(void **state)
{
    static unsigned char bytes[100000];
    struct spec chain[4] = { { .rsa = 2048 }, { .rsa = 2048 }, { .rsa = 2048 },
        { .rsa = 4096, .exponent = 4096 } };
    size_t n = flight(bytes, chain, 4, 16384, false);
    size_t seen;
    (void)state;
    assert_int_equal(take(bytes, n, 1, &seen), XE_WHY_CERT_KEY_EXPONENT);
    assert_int_equal(seen, n - 4);   /* the byte that completes it is the one refused */
}

static void
lists_whose_lengths_disagree_cannot_be_read(void **state)
{
    static unsigned char bytes[100000];
    struct spec chain[2] = { { .names = "D:far.example" }, { .names = "D:far.example" } };
    size_t n = flight(bytes, chain, 2, 16384, false);
    size_t at;
    size_t seen;
    (void)state;
    for (at = 16; at < 22; at++) {   /* length of the list, of the first certificate */
        bytes[at] ^= 1;
        assert_int_equal(take(bytes, n, 16384, &seen), XE_WHY_CERT_MALFORMED);
        bytes[at] ^= 1;
    }
    assert_int_equal(take(bytes, n, 16384, &seen), XE_WHY_NONE);
}

/* An early change of cipher, or data, does not blind us: what follows is still looked at. */
static void
records_of_other_types_are_passed_over(void **state)
{
    static unsigned char bytes[100000];
    static const unsigned char others[] = { 20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 2, 9, 9,
        21, 3, 3, 0, 0 };
    struct spec chain[1] = { { .rsa = 8192, .exponent = 8192 } };
    size_t n;
    size_t seen;
    (void)state;
    memcpy(bytes, others, sizeof others);
    n = sizeof others + flight(bytes + sizeof others, chain, 1, 500, false);
    assert_int_equal(take(bytes, n, 7, &seen), XE_WHY_CERT_KEY_SIZE);
}

static void
nothing_behind_the_end_of_the_flight_is_looked_at(void **state)
{
    static unsigned char bytes[100000];
    struct spec none[1] = { { .rsa = 2048 } };
    struct spec bomb[1] = { { .rsa = 8192, .exponent = 8192 } };
    size_t n = flight(bytes, none, 0, 500, true);
    size_t seen;
    (void)state;
    n += flight(bytes + n, bomb, 1, 500, true);
    assert_int_equal(take(bytes, n, 500, &seen), XE_WHY_NONE);
}

/* Any bytes: no crash, and a certificate that was changed is at most refused. */
static void
bytes_that_are_changed_or_cut_anywhere_are_read_within_their_bounds(void **state)
{
    static struct der space;
    struct spec spec = { .subject = "x", .issuer = "y", .names = "D:far.example X:far.example",
        .permitted = "D:far.example N:Far A O:x", .excluded = "D:bank.example", .authority = 1,
        .path_len = 1, .purposes = "sc", .rsa = 2048 };
    struct xe_span der = certificate(&space, &spec);
    size_t at;
    (void)state;
    for (at = 0; at < der.len; at++) {
        char *copy = malloc(der.len);
        struct xe_span path[2];
        int flip;
        assert_non_null(copy);
        for (flip = 0; flip < 256; flip += at < 64 ? 1 : 37) {
            memcpy(copy, der.at, der.len);
            copy[at] = (char)flip;
            path[0] = path[1] = span_make(copy, der.len);
            (void)cert_path_judge(path, 2, CERT_FOR_SERVERS, &cert_limits_default);
            tried++;
        }
        free(copy);
        copy = malloc(at + 1);
        assert_non_null(copy);
        memcpy(copy, der.at, at);
        path[0] = path[1] = span_make(copy, at);
        assert_int_equal(cert_cost_why(path[0], 1, &cert_limits_default) == XE_WHY_NONE,
            false);
        (void)cert_path_judge(path, 2, CERT_FOR_SERVERS, &cert_limits_default);
        tried++;
        free(copy);
    }
}

static void
how_many_were_tried_is_told(void **state)
{
    (void)state;
    print_message("%u certificates, chains and flights\n", tried);
    assert_true(tried > 5000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constraints_hold_for_each_kind_of_name_at_each_depth),
        cmocka_unit_test(constraints_of_two_authorities_hold_both),
        cmocka_unit_test(
            a_certificate_is_not_held_to_its_own_constraints_nor_an_authority_that_renews_itself),
        cmocka_unit_test(constraints_that_are_empty_let_everything_through_and_broken_ones_nothing),
        cmocka_unit_test(more_comparisons_than_a_ceiling_count_against_the_chain),
        cmocka_unit_test(purposes_are_nested),
        cmocka_unit_test(a_path_length_is_kept_at_each_depth),
        cmocka_unit_test(who_says_that_it_is_no_authority_or_nothing_is_none),
        cmocka_unit_test(extensions_that_cannot_be_read_are_not_absent),
        cmocka_unit_test(
            an_authority_that_renews_itself_does_not_count_and_one_without_extensions_is_trusted),
        cmocka_unit_test(keys_beyond_the_ceilings_are_named),
        cmocka_unit_test(larger_curves_have_a_ceiling_of_their_own),
        cmocka_unit_test(a_chain_is_judged_however_its_bytes_are_cut),
        cmocka_unit_test(
            the_last_certificate_of_a_chain_is_looked_at_before_the_message_is_complete_for_others),
        cmocka_unit_test(lists_whose_lengths_disagree_cannot_be_read),
        cmocka_unit_test(records_of_other_types_are_passed_over),
        cmocka_unit_test(nothing_behind_the_end_of_the_flight_is_looked_at),
        cmocka_unit_test(bytes_that_are_changed_or_cut_anywhere_are_read_within_their_bounds),
        cmocka_unit_test(how_many_were_tried_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
