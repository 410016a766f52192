/* fuzz_tls.c -- tls.c fed with anything
 *
 *     clang -fsanitize=fuzzer,address,undefined -DFUZZ_LIBFUZZER fuzz_tls.c ...
 *     cc fuzz_tls.c ...; ./fuzz_tls [-n COUNT] FILE ...
 *     cc -DFUZZ_MAKE fuzz_tls.c ... -lpcap; ./make NAME.pcap NAME.keys OUT         makes an input
 *
 * An input is: two bytes of length and as much key log, then steps: one byte (bit 0: side, bit 1:
 * gap, bit 2: key log), two bytes of length, and as many bytes.  Records are "opened" by leaving
 * out the tag, so that the fuzzer reaches what lies behind the encryption; a tag that ends in 0xff
 * does not open.  In a corpus made from a capture the sealed records hold their plaintext.
 */
#include "../../analyze/base.h"

#include <mbedtls/cipher.h>

#ifdef FUZZ_MAKE
static unsigned char opened[20000];
static size_t        opened_len;
#endif

static int
fuzz_open(mbedtls_cipher_context_t *ctx, const unsigned char *iv, size_t iv_len,
    const unsigned char *ad, size_t ad_len, const unsigned char *input, size_t input_len,
    unsigned char *output, size_t output_len, size_t *done, size_t tag)
{
#ifdef FUZZ_MAKE
    int bad = mbedtls_cipher_auth_decrypt_ext(ctx, iv, iv_len, ad, ad_len, input, input_len,
        output, output_len, done, tag);
    opened_len = bad == 0 ? *done : opened_len;
    if (bad == 0)
        memcpy(opened, output, *done);
    return bad;
#else
    (void)ctx;
    (void)iv;
    (void)iv_len;
    (void)ad;
    (void)ad_len;
    if (input_len < tag || output_len < input_len || input[input_len - 1] == 0xff)
        return -1;
    memcpy(output, input, input_len - tag);
    *done = input_len - tag;
    return 0;
#endif
}

#define mbedtls_cipher_auth_decrypt_ext fuzz_open
#include "../../analyze/tls.c"

#include "../fuzz/fuzz_main.h"

static void
on_plaintext(void *user, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    unsigned *sum = user;
    (void)side;
    (void)frame;
    (void)time_ns;
    for (size_t i = 0; i < len; i++)
        *sum += at[i];
}

static void
on_view(void *user, const struct tls_view *v)
{
    unsigned *sum = user;
    *sum += (unsigned)strlen(v->sni) + (unsigned)strlen(v->alpn) + (unsigned)strlen(v->proof_how);
}

static void
on_certificate(void *user, int side, const struct cert *c, uint64_t frame, int64_t time_ns)
{
    unsigned *sum = user;
    (void)side;
    (void)frame;
    *sum += (unsigned)strlen(c->names) + (unsigned)strlen(c->subject) + (unsigned)strlen(c->issuer);
    *sum += cert_names_domain(c, "a.example") ? 1u : 0u;
    *sum += cert_expired_at(c, time_ns) || cert_early_at(c, time_ns) ? 1u : 0u;
}

static void
on_alert(void *user, int side, int level, int description, uint64_t frame, int64_t time_ns)
{
    (void)user;
    (void)side;
    (void)level;
    (void)frame;
    (void)time_ns;
    (void)xe_alert_name(description);
}

static const struct tls_events events = { on_plaintext, on_view, on_view, on_alert, NULL, on_view,
    on_certificate, NULL, NULL };

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct reader in = { at, len };
    struct reader part;
    struct tls_keys *keys = tls_keys_new();
    struct tls_certs *certs = tls_certs_new();
    unsigned sum = 0;
    uint32_t what;
    uint64_t frame = 0;
    if (read_vector(&in, 2, &part)) {
        tls_keys_add(keys, (const char *)part.at, part.left);
        tls_keys_end(keys);
        tls_keys_more(keys, part.left % 2 == 1);
    }
    struct tls_session *s = tls_open(keys, certs, &events, &sum);
    while (read_number(&in, 1, &what) && read_vector(&in, 2, &part)) {
        /* a copy of its own, so that reading past its end is seen */
        unsigned char *copy = memory_get(part.left);
        memcpy(copy, part.at, part.left);
        frame++;
        if ((what & 4) != 0)
            tls_keys_add(keys, (const char *)copy, part.left);
        else if ((what & 2) != 0)
            tls_gap(s, (int)(what & 1), part.left);
        else
            tls_push(s, (int)(what & 1), copy, part.left, frame, (int64_t)frame * 1000000);
        free(copy);
    }
    tls_end(s);
    on_view(&sum, tls_seen(s));
    tls_close(s);
    tls_certs_free(certs);
    tls_keys_free(keys);
    return 0;
}

#ifdef FUZZ_MAKE

#include "tls_test_reader.h"

static void
step_write(FILE *out, int what, const unsigned char *head, size_t head_len, const unsigned char *at,
    size_t len, size_t zeros)
{
    size_t total = head_len + len + zeros;
    fputc(what, out);
    fputc((int)(total >> 8), out);
    fputc((int)(total & 255), out);
    fwrite(head, 1, head_len, out);
    fwrite(at, 1, len, out);
    while (zeros-- > 0)
        fputc(0, out);
}

/* One record: as it is, or its plaintext in the place of what is sealed. */
static void
record_write(FILE *out, struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    unsigned char head[13] = { 0 };
    opened_len = sizeof opened;
    tls_push(s, side, at, len, 1, 1);
    if (opened_len == sizeof opened) {
        step_write(out, side, at, 0, at, len, 0);
        return;
    }
    const struct suite *suite = session_suite(s);
    const size_t tag = seal_tag_len(suite->seal);
    const size_t carried = session_is_13(s) ? 0 : seal_explicit_len(suite->seal);
    const size_t total = carried + opened_len + tag;
    memcpy(head, at, 3);
    head[3] = (unsigned char)(total >> 8);
    head[4] = (unsigned char)total;
    step_write(out, side, head, 5 + carried, opened, opened_len, tag);
}

int
main(int argc, char **argv)
{
    static const struct tls_events none = { 0 };
    struct test_capture capture;
    struct pile stream[2] = { { 0 }, { 0 } };
    char text[8192];
    if (argc != 4 || !test_capture_read(&capture, argv[1]))
        return 2;
    FILE *f = fopen(argv[2], "rb");
    size_t n = f == NULL ? 0 : fread(text, 1, sizeof text, f);
    FILE *out = fopen(argv[3], "wb");
    struct tls_keys *keys = tls_keys_new();
    tls_keys_add(keys, text, n);
    tls_keys_end(keys);
    fputc((int)(n >> 8), out);
    fputc((int)(n & 255), out);
    fwrite(text, 1, n, out);
    struct tls_session *s = tls_open(keys, tls_certs_new(), &none, NULL);
    struct test_flow *flow = capture.flow;
    while (!flow->tls)
        flow++;
    for (size_t i = 0; i < flow->count; i++) {
        struct pile *p = &stream[flow->segment[i].side];
        pile_put(p, flow->segment[i].at, flow->segment[i].len);
        for (size_t len; p->len >= 5 && p->len >= (len = 5 + ((size_t)p->at[3] << 8 | p->at[4]));) {
            record_write(out, s, flow->segment[i].side, p->at, len);
            memmove(p->at, p->at + len, p->len - len);
            p->len -= len;
        }
    }
    fclose(out);
    return 0;
}

#endif
