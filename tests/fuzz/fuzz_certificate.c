/* fuzz_certificate.c -- [TLS] [AUTH] fed with the certificate of any peer
 *
 * The input is a certificate in DER.  What is taken from it for people and for the log is clean,
 * and nobody is named by it whose name is not in it. */
#include "cut/AUTH.c"

#include "fuzz_main.h"

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

static void
check_certificate(const mbedtls_x509_crt *crt)
{
    struct tls_facts *f = tls_facts_make(crt, 0, NULL);
    size_t i;
    must(f != NULL, "there are facts");
    must(f->dns_count + f->srv_id_count + f->xmpp_addr_count <= TLS_NAMES_MAX, "not too many");
    check_names(f, f->dns, f->dns_count, true);
    check_names(f, f->srv_id, f->srv_id_count, true);
    check_names(f, f->xmpp_addr, f->xmpp_addr_count, false);
    must(strlen(f->subject) < TLS_DN_MAX && strlen(f->not_after) < 32, "texts have their ceilings");
    for (i = 0; f->subject[i] != '\0'; i++)
        must((unsigned char)f->subject[i] >= ' ', "a subject has no control characters");
    check_stranger(f, crt);
    tls_chain_notes(crt);
    free(f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    if (size <= 16384 && mbedtls_x509_crt_parse_der(&crt, data, size) == 0)
        check_certificate(&crt);
    mbedtls_x509_crt_free(&crt);
    return 0;
}
