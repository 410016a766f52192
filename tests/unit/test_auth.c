/* test_auth.c -- [AUTH]: dialback keys, SASL EXTERNAL, certificate names against domains. */
#include "cut/AUTH.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- dialback ---- */

static const struct { const char *secret, *receiving, *originating, *id, *key, *wrong; } keys[] = {
    /* XEP-0185 3 and XEP-0220, with what comes out when the HMAC key is raw bytes */
    { "s3cr3tf0rd14lb4ck", "xmpp.example.com", "example.org", "D60000229F",
        "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643", "4530485c" },
    { "s3cr3tf0rd14lb4ck", "montague.example", "capulet.example", "D60000229F",
        "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3", "aab5380e" },
    { "d14lb4ck43v3r", "capulet.example", "montague.example", "417GAF25",
        "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d", "be00cf34" } };

static void
the_published_dialback_vectors_come_out(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct dialback_secret s;
        char key[DIALBACK_KEY_LEN + 1];
        assert_true(dialback_secret_set(&s, span_of(keys[i].secret)));
        assert_true(dialback_key(&s, span_of(keys[i].receiving), span_of(keys[i].originating),
            span_of(keys[i].id), key));
        assert_string_equal(key, keys[i].key);
        assert_true(strncmp(key, keys[i].wrong, 8) != 0);
        tls_wipe(&s, sizeof s);
    }
}

/* The negative vectors of the table above are computed here, so that they prove something. */
static void
a_raw_hmac_key_would_give_the_other_values(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
        unsigned char hash[32];
        unsigned char mac[32];
        char text[128];
        char hex[65] = "";
        int n = snprintf(text, sizeof text, "%s %s %s", keys[i].receiving, keys[i].originating,
            keys[i].id);
        assert_int_equal(mbedtls_md(sha256, (const unsigned char *)keys[i].secret,
            strlen(keys[i].secret), hash), 0);
        assert_int_equal(mbedtls_md_hmac(sha256, hash, 32, (unsigned char *)text, (size_t)n, mac),
            0);
        text_hex(hex, mac, 32);
        assert_int_equal(strncmp(hex, keys[i].wrong, 8), 0);
    }
}

/* printf '3BF96D32a secret of two' | sha1sum; without secret and id, that of nothing. */
static void
a_component_proves_that_it_knows_the_secret(void **state)
{
    char out[COMPONENT_HANDSHAKE_LEN + 1];
    static const char much[CONFIG_SECRET_MAX + 1];
    (void)state;
    assert_true(component_handshake(span_of("3BF96D32"), span_of("a secret of two"), out));
    assert_string_equal(out, "69ca2399f6a0c1118e22f52a6c4b7fa401056be3");
    assert_true(component_handshake(span_of(""), span_of(""), out));
    assert_string_equal(out, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_false(component_handshake(span_make(much, STREAM_ID_MAX),
        span_make(much, sizeof much), out));
    assert_string_equal(out, "");
}

static void
only_the_exact_dialback_key_is_good(void **state)
{
    const struct xe_span receiving = span_of(keys[0].receiving);
    const struct xe_span originating = span_of(keys[0].originating);
    const struct xe_span id = span_of(keys[0].id);
    struct dialback_secret s;
    char key[80];
    size_t i;
    (void)state;
    assert_true(dialback_secret_set(&s, span_of(keys[0].secret)));
    snprintf(key, sizeof key, "%s", keys[0].key);
    assert_true(dialback_check(&s, receiving, originating, id, span_of(key)));
    assert_false(dialback_check(&s, originating, receiving, id, span_of(key)));
    assert_false(dialback_check(&s, receiving, originating, span_of("D60000229E"), span_of(key)));
    assert_false(dialback_check(&s, receiving, originating, id, span_make(key, 63)));
    assert_false(dialback_check(&s, receiving, originating, id, span_of("")));
    assert_false(dialback_check(&s, receiving, originating, id, span_make(NULL, 0)));
    for (i = 0; i < 64; i++) {
        char was = key[i];
        key[i] = was == '0' ? '1' : '0';
        assert_false(dialback_check(&s, receiving, originating, id, span_of(key)));
        key[i] = was;
    }
    snprintf(key, sizeof key, "%s0", keys[0].key);
    assert_false(dialback_check(&s, receiving, originating, id, span_of(key)));
    snprintf(key, sizeof key, " \n%s\t ", keys[0].key);
    assert_true(dialback_check(&s, receiving, originating, id, span_of(key)));
    assert_true(dialback_secret_set(&s, span_of("another")));
    assert_false(dialback_check(&s, receiving, originating, id, span_of(keys[0].key)));
}

static void
an_empty_secret_is_still_a_key(void **state)
{
    struct dialback_secret s;
    char key[DIALBACK_KEY_LEN + 1];
    (void)state;
    assert_true(dialback_secret_set(&s, span_of("")));
    assert_memory_equal(s.key, "e3b0c44298fc1c149afbf4c8996fb924", 32);
    assert_true(dialback_key(&s, span_of("a"), span_of("b"), span_make(NULL, 0), key));
    assert_int_equal(strlen(key), 64);
}

/* ---- SASL EXTERNAL ---- */

static void
the_claimed_domain_is_encoded_as_in_xep_0178(void **state)
{
    char text[SASL_TEXT_MAX];
    char longest[JID_PART_MAX + 2];
    char back[JID_PART_MAX + 1];
    (void)state;
    assert_true(sasl_external_encode(span_of("conference.example.org"), text, sizeof text));
    assert_string_equal(text, "Y29uZmVyZW5jZS5leGFtcGxlLm9yZw==");
    assert_true(sasl_external_encode(span_of("abc"), text, 5));
    assert_string_equal(text, "YWJj");
    assert_false(sasl_external_encode(span_of("abc"), text, 4));
    assert_string_equal(text, "");
    memset(longest, 'a', sizeof longest);
    assert_true(sasl_external_encode(span_make(longest, JID_PART_MAX), text, sizeof text));
    assert_true(sasl_external_decode(span_of(text), back, sizeof back));
    assert_true(span_eq(span_of(back), span_make(longest, JID_PART_MAX)));
    assert_false(sasl_external_encode(span_make(longest, JID_PART_MAX + 1), text, sizeof text));
    assert_string_equal(text, "");
}

static void
authorization_identities_are_decoded_or_refused(void **state)
{
    static const struct { const char *text; bool good; const char *authzid; } rows[] = {
        { "", true, "" }, { "=", true, "" },
        { "Y29uZmVyZW5jZS5leGFtcGxlLm9yZw==", true, "conference.example.org" },
        { "YQ==", true, "a" }, { "YWI=", true, "ab" }, { "YWJj", true, "abc" },
        { "==", false, "" }, { "YQ", false, "" }, { "YQ=", false, "" }, { "YWJj=", false, "" },
        { "YQ==YQ==", false, "" }, { "Y Q=", false, "" }, { "YWJj\n", false, "" },
        { "YW\nJ", false, "" },
        { "far.example", false, "" }, { "YWJ*", false, "" }, { "====", false, "" },
        { "YQBi", false, "" }, { "AAAA", false, "" }, { "Y===", false, "" },
        { "=YWJ", false, "" }, { "\xc3\xbc\xc3\xbc", false, "" } };
    char authzid[JID_PART_MAX + 1];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool good = sasl_external_decode(span_of(rows[i].text), authzid, sizeof authzid);
        if (good != rows[i].good || strcmp(authzid, rows[i].authzid) != 0)
            fail_msg("\"%s\": %d \"%s\"", rows[i].text, good, authzid);
    }
}

static void
an_authorization_identity_beyond_the_limit_is_refused(void **state)
{
    char text[2000];
    char authzid[2048];
    (void)state;
    memset(text, 'Q', sizeof text);
    assert_false(sasl_external_decode(span_make(text, 2000), authzid, sizeof authzid));
    assert_string_equal(authzid, "");
    assert_false(sasl_external_decode(span_make(text, 1368), authzid, sizeof authzid));
    assert_true(sasl_external_decode(span_make(text, 1364), authzid, sizeof authzid));
    assert_int_equal(strlen(authzid), JID_PART_MAX);
    assert_true(sasl_external_decode(span_make(text, 1364), authzid, JID_PART_MAX + 1));
    assert_false(sasl_external_decode(span_make(text, 1364), authzid, JID_PART_MAX));
    assert_false(sasl_external_decode(span_make(text, 8), authzid, 6));
    assert_true(sasl_external_decode(span_make(text, 8), authzid, 7));
}

/* ---- names ---- */

static const struct {
    const char *dns, *srv, *xmpp, *domain;
    bool good;
    const char *reason;
} names[] = {
    { "far.example", NULL, NULL, "far.example", true, "the same" },
    { "FAR.Example", NULL, NULL, "far.eXample", true, "case of ASCII does not count" },
    { "far.example.", NULL, NULL, "far.example", true, "the root dot does not count" },
    { "far.example", NULL, NULL, "far.example.", true, "nor in the domain" },
    { "far.example", NULL, NULL, "xfar.example", false, "longer at the front" },
    { "far.example", NULL, NULL, "far.example.org", false, "longer at the end" },
    { "far.example", NULL, NULL, "far.exampl", false, "shorter" },
    { "far.example", NULL, NULL, "", false, "no domain" },
    { "far.example", NULL, NULL, ".", false, "only a dot" },
    { ".", NULL, NULL, ".", false, "a dot is nobody" },
    { "far.example", NULL, NULL, "chat.far.example", false, "a subdomain is somebody else" },
    { "*.far.example", NULL, NULL, "chat.far.example", true, "one label" },
    { "*.FAR.example", NULL, NULL, "Chat.far.EXAMPLE", true, "one label, any case" },
    { "*.far.example", NULL, NULL, "far.example", false, "a wildcard is not empty" },
    { "*.far.example", NULL, NULL, ".far.example", false, "nor an empty label" },
    { "*.far.example", NULL, NULL, "a.b.far.example", false, "nor two labels" },
    { "*.far.example", NULL, NULL, "chatfar.example", false, "the dot counts" },
    { "c*.far.example", NULL, NULL, "chat.far.example", false, "only a whole label" },
    { "*t.far.example", NULL, NULL, "chat.far.example", false, "only a whole label" },
    { "chat.*.example", NULL, NULL, "chat.far.example", false, "only the left-most" },
    { "*.*.example", NULL, NULL, "chat.far.example", false, "only one" },
    { "*.example", NULL, NULL, "far.example", false, "nobody owns a top-level domain" },
    { "*.example.", NULL, NULL, "far.example", false, "with a dot neither" },
    { "*", NULL, NULL, "example", false, "a lone star" },
    { "*.", NULL, NULL, "example.", false, "a star and a dot" },
    { "*.far.example", NULL, NULL, "*.far.example", true, "a star is a label like any other here" },
#ifdef XMPPEDGE_IDN2
    { "xn--bcher-kva.example", NULL, NULL, "b\xc3\xbc" "cher.example", true, "A-labels" },
    { "XN--BCHER-KVA.example", NULL, NULL, "xn--bcher-kva.example", true, "A-labels, any case" },
    { "*.xn--bcher-kva.example", NULL, NULL, "a.b\xc3\xbc" "cher.example", true, "and a star" },
    { NULL, "_xmpp-server.xn--bcher-kva.example", NULL, "b\xc3\xbc" "cher.example", true,
        "A-labels in SRV-ID" },
    { NULL, NULL, "xn--bcher-kva.example", "b\xc3\xbc" "cher.example", true, "and in xmppAddr" },
    { NULL, NULL, "b\xc3\xbc" "cher.example", "xn--bcher-kva.example", true, "either way" },
    { NULL, NULL, "stra\xc3\x9f" "e.example", "strasse.example", false, "sharp s is not ss" },
    { NULL, NULL, "f\xef\xbd\x81r.example", "far.example", false, "fullwidth is no letter" },
    { NULL, NULL, "f\xd0\xb0r.example", "far.example", false, "Cyrillic is another letter" },
#endif
    { NULL, "_xmpp-server.far.example", NULL, "far.example", true, "SRV-ID" },
    { NULL, "_XMPP-Server.Far.example", NULL, "far.example", true, "SRV-ID, any case" },
    { NULL, "_xmpp-client.far.example", NULL, "far.example", false, "another service" },
    { NULL, "_xmpp-server.far.example", NULL, "chat.far.example", false, "another domain" },
    { NULL, "_xmpp-server.*.example", NULL, "far.example", false, "no wildcard in SRV-ID" },
    { NULL, "_xmpp-server.*.far.example", NULL, "a.far.example", false, "no wildcard in SRV-ID" },
    { NULL, "_xmpp-server", NULL, "", false, "SRV-ID without domain" },
    { NULL, "far.example", NULL, "far.example", false, "SRV-ID without service" },
    { "_xmpp-server.far.example", NULL, NULL, "far.example", false, "a service is no host" },
    { NULL, NULL, "far.example", "far.example", true, "xmppAddr" },
    { NULL, NULL, "Far.Example", "far.example", true, "xmppAddr, any case" },
    { NULL, NULL, "romeo@far.example", "far.example", false, "somebody at the domain" },
    { NULL, NULL, "far.example/x", "far.example", false, "a resource" },
    { NULL, NULL, "romeo@far.example", "romeo@far.example", false, "never an address" },
    { NULL, NULL, "*.far.example", "chat.far.example", false, "no wildcard in xmppAddr" },
    { "other.example", "_xmpp-server.more.example", "far.example", "far.example", true,
        "any of them" },
    { NULL, NULL, NULL, "far.example", false, "no names at all: never the common name" } };

static struct tls_facts
facts_of(struct xe_span *dns, struct xe_span *srv, struct xe_span *xmpp)
{
    return (struct tls_facts){ .certificate = true, .alert = -1, .subject = "CN=far.example",
        .dns = dns, .dns_count = dns->at != NULL, .srv_id = srv, .srv_id_count = srv->at != NULL,
        .xmpp_addr = xmpp, .xmpp_addr_count = xmpp->at != NULL };
}

static void
names_stand_for_domains_as_rfc_9525_says(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct xe_span dns = span_of(names[i].dns);
        struct xe_span srv = span_of(names[i].srv);
        struct xe_span xmpp = span_of(names[i].xmpp);
        struct tls_facts facts = facts_of(&dns, &srv, &xmpp);
        char normal[XE_DOMAIN_MAX];
        size_t len;
        bool is_domain = xe_jid_domain_normal(span_of(names[i].domain), normal, &len);
        enum xe_why why = peer_may_speak_for(&facts,
            is_domain ? span_make(normal, len) : span_of(names[i].domain), NULL);
        if (why != (names[i].good ? XE_WHY_NONE : XE_WHY_CERT_NAME))
            fail_msg("row %zu (%s): %s", i, names[i].reason, xe_why(why)->word);
    }
}

static void
the_chain_is_judged_before_the_name(void **state)
{
    static const struct { unsigned chain; enum xe_why why; } rows[] = {
        { 0, XE_WHY_NONE }, { TLS_CHAIN_SELF_SIGNED, XE_WHY_NONE },
        { TLS_CHAIN_EKU_SERVER_ONLY, XE_WHY_NONE }, { TLS_CHAIN_NAMES_CUT, XE_WHY_NONE },
        { TLS_CHAIN_EXPIRED, XE_WHY_CERT_EXPIRED }, { TLS_CHAIN_NOT_YET, XE_WHY_CERT_NOT_YET },
        { TLS_CHAIN_UNTRUSTED, XE_WHY_CERT_UNTRUSTED }, { TLS_CHAIN_REVOKED, XE_WHY_CERT_REVOKED },
        { TLS_CHAIN_WEAK, XE_WHY_CERT_WEAK }, { TLS_CHAIN_USAGE, XE_WHY_CERT_PURPOSE },
        { TLS_CHAIN_NAMES, XE_WHY_CERT_CONSTRAINTS },
        { TLS_CHAIN_CRL, XE_WHY_CERT_INVALID }, { TLS_CHAIN_OTHER, XE_WHY_CERT_INVALID },
        { TLS_CHAIN_EXPIRED | TLS_CHAIN_UNTRUSTED, XE_WHY_CERT_UNTRUSTED },
        { TLS_CHAIN_EXPIRED | TLS_CHAIN_REVOKED, XE_WHY_CERT_REVOKED } };
    struct xe_span dns = span_of("far.example");
    struct xe_span none = { NULL, 0 };
    struct tls_facts facts = facts_of(&dns, &none, &none);
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        facts.chain = (unsigned short)rows[i].chain;
        assert_int_equal(peer_may_speak_for(&facts, span_of("far.example"), NULL), rows[i].why);
        assert_int_equal(peer_may_speak_for(&facts, span_of("near.example"), NULL),
            rows[i].why == XE_WHY_NONE ? XE_WHY_CERT_NAME : rows[i].why);
    }
    facts.certificate = false;
    assert_int_equal(peer_may_speak_for(&facts, span_of("far.example"), NULL),
        XE_WHY_CERT_MISSING);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_dialback_vectors_come_out),
        cmocka_unit_test(a_raw_hmac_key_would_give_the_other_values),
        cmocka_unit_test(only_the_exact_dialback_key_is_good),
        cmocka_unit_test(an_empty_secret_is_still_a_key),
        cmocka_unit_test(a_component_proves_that_it_knows_the_secret),
        cmocka_unit_test(the_claimed_domain_is_encoded_as_in_xep_0178),
        cmocka_unit_test(authorization_identities_are_decoded_or_refused),
        cmocka_unit_test(an_authorization_identity_beyond_the_limit_is_refused),
        cmocka_unit_test(names_stand_for_domains_as_rfc_9525_says),
        cmocka_unit_test(the_chain_is_judged_before_the_name),
    };
    return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
