/* fuzz_certificate.c -- [CERT] [TLS] [AUTH] fed with the certificates of any peer
 *
 * An input begins with
 *
 *     0x16    records of a handshake, which cert_flight sees before mbed TLS does.  However they
 *             are cut it says the same, and what it lets through is cheap: mbed TLS, asked for each
 *             certificate, finds no key beyond the ceilings
 *     'P'     a way from a peer to an authority: certificates, each with two bytes of length before
 *             it.  All signatures are good.  mbed TLS looks for the way, and what is let through is
 *             held against a second reading of constraints and purposes, made with its parsers
 *     else    one certificate.  What mbed TLS and we both read must be the same, what is taken from
 *             it for people and for the log is clean, and nobody is named by it whose name is not
 *             in it
 */
#include "cut/AUTH.c"

#include "fuzz_main.h"

/* In the place of mbed TLS's own, where that is a shared library: what lies behind a signature is
 * what is tried here. */
int
mbedtls_pk_verify_ext(mbedtls_pk_type_t type, const void *options, mbedtls_pk_context *key,
    mbedtls_md_type_t digest, const unsigned char *hash, size_t hash_len,
    const unsigned char *signature, size_t signature_len)
{
    (void)type;
    (void)options;
    (void)key;
    (void)digest;
    (void)hash;
    (void)hash_len;
    (void)signature;
    (void)signature_len;
    return 0;
}

/* ---- keys ---- */

static bool
key_is_cheap(const mbedtls_pk_context *key)
{
    size_t bits = mbedtls_pk_get_bitlen(key);
    mbedtls_mpi exponent;
    bool cheap = bits == 256 || bits == 384 || bits == 521;
    if (!mbedtls_pk_can_do(key, MBEDTLS_PK_RSA))
        return cheap;
    mbedtls_mpi_init(&exponent);
    cheap = bits <= 4096
        && mbedtls_rsa_export(mbedtls_pk_rsa(*key), NULL, NULL, NULL, NULL, &exponent) == 0
        && mbedtls_mpi_bitlen(&exponent) <= 32;
    mbedtls_mpi_free(&exponent);
    return cheap;
}

/* ---- one certificate ---- */

static void
check_names(const struct tls_facts *f, const struct xe_span *names, size_t count, bool ascii)
{
    size_t i;
    for (i = 0; i < count; i++) {
        must(tls_name_is_clean(names[i], ascii), "a name is clean");
        peer_is_named(f, names[i]);
    }
}

/* Nobody can be what no name of the certificate contains. */
static void
check_stranger(const struct tls_facts *f, const mbedtls_x509_crt *crt)
{
    static const char domain[] = "far.example";
    size_t i;
    bool written = false;
    for (i = 0; i + 7 < crt->raw.len; i++)
        written = written || strncasecmp((const char *)crt->raw.p + i, "example", 7) == 0;
    must(written || !peer_is_named(f, span_of(domain)), "a name is not made up");
}

static bool
has_dns_name(const mbedtls_x509_crt *crt, struct xe_span name)
{
    const mbedtls_x509_sequence *s;
    for (s = &crt->subject_alt_names; s != NULL; s = s->next)
        if (s->buf.tag == CERT_DNS_NAME
            && span_eq(name, span_make((const char *)s->buf.p, s->buf.len)))
            return true;
    return false;
}

static void
check_facts(const mbedtls_x509_crt *crt)
{
    struct tls_facts *f = tls_facts_make(crt, 0, NULL);
    size_t i;
    must(f != NULL, "there are facts");
    must(f->dns_count + f->srv_id_count + f->xmpp_addr_count <= TLS_NAMES_MAX, "not too many");
    check_names(f, f->dns, f->dns_count, true);
    check_names(f, f->srv_id, f->srv_id_count, true);
    check_names(f, f->xmpp_addr, f->xmpp_addr_count, false);
    for (i = 0; i < f->dns_count; i++)
        must(has_dns_name(crt, f->dns[i]), "mbed TLS reads this name too");
    must(strlen(f->subject) < TLS_DN_MAX && strlen(f->not_after) < 32, "texts have their ceilings");
    for (i = 0; f->subject[i] != '\0'; i++)
        must((unsigned char)f->subject[i] >= ' ', "a subject has no control characters");
    check_stranger(f, crt);
    tls_chain_notes(crt);
    free(f);
}

static bool
ends_as(struct xe_span ours, const mbedtls_x509_buf *theirs)
{
    return (const unsigned char *)ours.at + ours.len == theirs->p + theirs->len
        && ours.len < theirs->len;
}

static bool
is_for(const mbedtls_x509_crt *crt, const char *oid)
{
    return mbedtls_x509_crt_check_extended_key_usage(crt, oid, 8) == 0;
}

static bool
is_known(const mbedtls_x509_crt *crt, int extension)
{
    return (crt->TLS_FIELD(ext_types) & extension) != 0;
}

/* Where we read more than mbed TLS, or something else, one of us is wrong. */
static void
check_reading(const mbedtls_x509_crt *crt)
{
    struct cert c[2];
    struct xe_span value;
    bool critical;
    if (!cert_read(span_make((const char *)crt->raw.p, crt->raw.len), &c[1]))
        return;
    must(ends_as(c[1].subject, &crt->subject_raw), "the same subject");
    must(ends_as(c[1].issuer, &crt->issuer_raw), "the same issuer");
    must(ends_as(c[1].key, &crt->pk_raw), "the same key");
    switch ((int)cert_key_why(&c[1], &cert_limits_default)) {
    case XE_WHY_NONE:
        must(mbedtls_pk_get_bitlen(&crt->pk) >= 256, "a good key is not short");
        must(key_is_cheap(&crt->pk), "a good key is cheap");
        break;
    case XE_WHY_CERT_WEAK:
        must(mbedtls_pk_get_bitlen(&crt->pk) <= 2048, "a weak key is short");   /* in whole bytes */
        must(key_is_cheap(&crt->pk), "a weak key is cheap");
        break;
    }
    must(cert_extension(&c[1], CERT_ALT_NAMES, &value, &critical)
        == is_known(crt, MBEDTLS_X509_EXT_SUBJECT_ALT_NAME), "there are names, or none");
    must(cert_extension(&c[1], CERT_BASIC, &value, &critical)
        == is_known(crt, MBEDTLS_X509_EXT_BASIC_CONSTRAINTS), "it says what it may sign, or not");
    must((cert_purposes(&c[1]) & CERT_FOR_SERVERS) == 0
        || is_for(crt, MBEDTLS_OID_SERVER_AUTH), "it is for servers");
    must((cert_purposes(&c[1]) & CERT_FOR_CLIENTS) == 0
        || is_for(crt, MBEDTLS_OID_CLIENT_AUTH), "it is for clients");
    c[0] = c[1];
    must(!cert_may_sign(c, 1, 3) || crt->TLS_FIELD(ca_istrue), "it is an authority");
}

static void
try_certificate(const uint8_t *data, size_t size)
{
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    if (mbedtls_x509_crt_parse_der(&crt, data, size) == 0) {
        check_facts(&crt);
        check_reading(&crt);
    }
    mbedtls_x509_crt_free(&crt);
}

/* ---- a handshake ---- */

static enum xe_why
flight_why(const uint8_t *at, size_t len, size_t piece)
{
    const struct cert_limits *l = &cert_limits_default;
    struct cert_flight f = { .over = false };
    enum xe_why why = XE_WHY_NONE;
    while (len > 0 && why == XE_WHY_NONE) {
        size_t some = len < piece ? len : piece;
        char *copy = malloc(some);
        must(copy != NULL, "memory");
        memcpy(copy, at, some);
        why = cert_flight_take(&f, (unsigned char *)copy, some, l);
        must(f.chain == NULL || f.chain_got <= l->bytes_max, "a chain has its ceiling");
        free(copy);
        at += some;
        len -= some;
    }
    cert_flight_free(&f);
    return why;
}

/* The handshake messages of all records, one after the other. */
static size_t
messages_join(const uint8_t *at, size_t len, uint8_t *out)
{
    size_t n = 0;
    while (len > 5) {
        size_t body = (size_t)at[3] << 8 | at[4];
        size_t some = body < len - 5 ? body : len - 5;
        if (at[0] == 22)
            memcpy(out + n, at + 5, some);
        n += at[0] == 22 ? some : 0;
        at += 5 + some;
        len -= 5 + some;
    }
    return n;
}

/* What was let through: mbed TLS reads each as it would in a handshake. */
static void
check_chain(const uint8_t *at, size_t len)
{
    size_t count = 0;
    must(len >= 3 && len <= 16384, "a chain has its ceiling");
    for (at += 3, len -= 3; len > 0; count++) {
        size_t n = len < 3 ? 0 : (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        mbedtls_x509_crt crt;
        must(len >= 3 && n <= len - 3, "a chain is well formed");
        mbedtls_x509_crt_init(&crt);
        if (mbedtls_x509_crt_parse_der(&crt, at + 3, n) == 0)
            must(key_is_cheap(&crt.pk), "no key is expensive");
        mbedtls_x509_crt_free(&crt);
        at += 3 + n;
        len -= 3 + n;
    }
    must(count <= 5, "a chain is not long");
}

static void
try_flight(const uint8_t *data, size_t size)
{
    uint8_t *all = malloc(size);
    enum xe_why why = flight_why(data, size, size);
    size_t n = messages_join(data, size, all);
    size_t at = 0;
    must(flight_why(data, size, 1) == why && flight_why(data, size, 7) == why,
        "pieces make no difference");
    while (why == XE_WHY_NONE && n - at >= 4 && all[at] != 14 && all[at] != 16) {
        size_t len = (size_t)all[at + 1] << 16 | (size_t)all[at + 2] << 8 | all[at + 3];
        if (len > n - at - 4)
            break;
        if (all[at] == 11) {
            check_chain(all + at + 4, len);
            break;
        }
        at += 4 + len;
    }
    free(all);
}

/* ---- a way to an authority ---- */

/* A name about which there are no two opinions. */
static bool
is_plain(struct xe_span s)
{
    size_t i;
    for (i = 0; i < s.len; i++)
        if (strchr("abcdefghijklmnopqrstuvwxyz.", s.at[i]) == NULL || s.at[i] == '\0')
            return false;
    return s.len > 0 && s.at[0] != '.' && s.at[s.len - 1] != '.';
}

static bool
is_below(struct xe_span name, struct xe_span base)
{
    return name.len >= base.len && span_eq(span_skip(name, name.len - base.len), base)
        && (name.len == base.len || name.at[name.len - base.len - 1] == '.');
}

static bool
open_tag(unsigned char **at, unsigned char **end, int tag)
{
    size_t len;
    if (mbedtls_asn1_get_tag(at, *end, &len, tag) != 0)
        return false;
    *end = *at + len;
    return true;
}

/* The constraints of an authority, by mbed TLS's reader. */
static bool
constraints_find(const mbedtls_x509_crt *crt, unsigned char **at, unsigned char **end)
{
    unsigned char *p = crt->v3_ext.p;
    unsigned char *all = p == NULL ? NULL : p + crt->v3_ext.len;
    if (p == NULL || !open_tag(&p, &all, CERT_SEQUENCE))
        return false;
    while (p < all) {
        unsigned char *one = all;
        unsigned char *oid;
        int critical;
        if (!open_tag(&p, &one, CERT_SEQUENCE))
            return false;
        *at = p;
        *end = oid = one;
        p = one;
        if (!open_tag(at, &oid, CERT_OID))
            return false;
        if (oid - *at != 3 || memcmp(*at, "\x55\x1d\x1e", 3) != 0)
            continue;
        *at = oid;
        (void)mbedtls_asn1_get_bool(at, *end, &critical);
        return open_tag(at, end, CERT_OCTETS) && open_tag(at, end, CERT_SEQUENCE);
    }
    return false;
}

/* What the dNSNames of one list say of a name, if they are plain. */
static void
check_list(unsigned char *at, unsigned char *end, bool excluded, struct xe_span name)
{
    bool inside = false;
    bool related = false;
    while (at < end) {
        unsigned char *one = end;
        struct xe_span base;
        if (!open_tag(&at, &one, CERT_SEQUENCE))
            return;
        unsigned char *next = one;
        if (open_tag(&at, &one, CERT_DNS_NAME)) {
            base = span_make((const char *)at, (size_t)(one - at));
            related = true;
            inside = inside || (is_plain(base) ? is_below(name, base) : !excluded);
        }
        at = next;
    }
    must(excluded ? !inside : inside || !related, "a name is one that the authority may vouch for");
}

static void
check_constraints(const mbedtls_x509_crt *authority, struct xe_span name)
{
    unsigned char *at, *end, *list;
    if (!is_plain(name) || !constraints_find(authority, &at, &end))
        return;
    list = end;
    if (open_tag(&at, &list, CERT_PERMITTED)) {
        check_list(at, list, false, name);
        at = list;
    }
    list = end;
    if (open_tag(&at, &list, CERT_EXCLUDED))
        check_list(at, list, true, name);
}

/* A way with which nothing is wrong.  `purposes`: what the peer is asked for. */
static void
check_good_path(const mbedtls_x509_crt **crt, size_t n, unsigned purposes)
{
    size_t i;
    bool servers = (purposes & CERT_FOR_SERVERS) != 0;
    bool clients = (purposes & CERT_FOR_CLIENTS) != 0;
    for (i = 0; i < n; i++) {
        const mbedtls_x509_sequence *s;
        servers = servers && is_for(crt[i], MBEDTLS_OID_SERVER_AUTH);
        clients = clients && is_for(crt[i], MBEDTLS_OID_CLIENT_AUTH);
        must(key_is_cheap(&crt[i]->pk), "no key is expensive");
        must(i == 0 || crt[i]->TLS_FIELD(ca_istrue) || (i == n - 1 && crt[i]->v3_ext.p == NULL),
            "authorities sign");
        for (s = &crt[0]->subject_alt_names; i > 0 && s != NULL; s = s->next)
            if (s->buf.tag == CERT_DNS_NAME)
                check_constraints(crt[i], span_make((const char *)s->buf.p, s->buf.len));
    }
    must(servers || clients, "every certificate is for it");
}

static void
judge_path(const mbedtls_x509_crt **crt, size_t n)
{
    static const struct cert_limits strict = { 4096, 4096, 17, 256, 5, 16384 };
    struct xe_span der[CERT_PATH_MAX + 1];
    unsigned purposes;
    size_t i;
    for (i = 0; i < n; i++)
        der[i] = span_make((const char *)crt[i]->raw.p, crt[i]->raw.len);
    for (purposes = 1; purposes <= 3; purposes++) {
        unsigned bad = cert_path_judge(der, n, purposes, &cert_limits_default);
        must((cert_path_judge(der, n, purposes, &strict) & bad) == bad, "less is not more");
        if (bad == 0)
            check_good_path(crt, n, purposes);
    }
}

/* The last of the list is the authority that is trusted, and mbed TLS looks for the way. */
static void
verify_path(mbedtls_x509_crt *chain, const mbedtls_x509_crt *anchor)
{
    struct tls_trust trust = { .refs = 1 };
    struct tls_path path;
    mbedtls_x509_crt_init(&trust.authorities);
    mbedtls_x509_crl_init(&trust.revoked);
    if (tls_certificates_copy(&trust.authorities, anchor)) {
        (void)tls_trust_verify(&trust, &trust, chain, &path);
        if (path.trusted && path.len <= CERT_PATH_MAX
            && tls_path_bits(&path, CERT_FOR_SERVERS, &cert_limits_default) == 0)
            check_good_path(path.crt, path.len, CERT_FOR_SERVERS);
    }
    mbedtls_x509_crt_free(&trust.authorities);
}

static void
try_path(const uint8_t *data, size_t size)
{
    const mbedtls_x509_crt *crt[CERT_PATH_MAX + 1];
    mbedtls_x509_crt chain;
    mbedtls_x509_crt *one;
    size_t n = 0;
    mbedtls_x509_crt_init(&chain);
    while (size >= 2) {
        size_t len = (size_t)data[0] << 8 | data[1];
        if (len > size - 2)
            break;
        (void)tls_certificate_read(&chain, data + 2, len, true);
        data += 2 + len;
        size -= 2 + len;
    }
    for (one = &chain; one != NULL && one->raw.p != NULL && n <= CERT_PATH_MAX; one = one->next)
        crt[n++] = one;
    if (n > 1) {
        judge_path(crt, n);
        verify_path(&chain, crt[n - 1]);
    }
    mbedtls_x509_crt_free(&chain);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 32768)
        return 0;
    if (data[0] == CERT_HANDSHAKE)
        try_flight(data, size);
    else if (data[0] == 'P')
        try_path(data + 1, size - 1);
    else
        try_certificate(data, size);
    return 0;
}
