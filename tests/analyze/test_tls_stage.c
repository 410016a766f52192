/* test_tls_stage.c -- tls.c against real captures and captures made with openssl
 *
 * Needs the captures next to this file (tls/, made by tls/make.py) and, if they are there, the real
 * ones: TLS_CAPTURES=... TLS_REAL=... ./test_tls_stage
 */
#include "../../analyze/tls.c"

#include "tls_test_reader.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

/* What a session told; texts grow. */
struct log {
    struct pile words;       /* every event but plaintext, one a line */
    struct pile plain[2];
    struct pile alerts[2];   /* numbers, a blank after each */
    unsigned    lost;
};

static const struct log silent;

static void
log_line(struct log *l, const char *format, ...)
{
    char line[2048];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    pile_put(&l->words, (const unsigned char *)line,
        n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void
log_free(struct log *l)
{
    pile_free(&l->words);
    for (int i = 0; i < 2; i++) {
        pile_free(&l->plain[i]);
        pile_free(&l->alerts[i]);
    }
    l->lost = 0;
}

static void
on_plaintext(void *user, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    (void)frame;
    (void)time_ns;
    size_t blank = 0;
    while (blank < len && at[blank] == ' ')
        blank++;
    if (blank < len)                 /* the transcripts leave out whitespace keepalives */
        pile_put(&((struct log *)user)->plain[side], at, len);
    log_line(user, "plain %d %zu\n", side, len);
}

static void
on_hello(void *user, const struct tls_view *v)
{
    log_line(user, "hello %s %s %04x\n", v->sni, v->alpn, (unsigned)v->offered);
}

static void
on_server(void *user, const struct tls_view *v)
{
    log_line(user, "server %04x %s\n", (unsigned)v->version, v->cipher_name);
}

static void
on_certificate(void *user, int side, const struct cert *c, uint64_t frame, int64_t time_ns)
{
    (void)frame;
    (void)time_ns;
    log_line(user, "certificate %d %s %s %s %u\n", side, c->subject, c->names, c->fingerprint,
        c->chain_length);
}

static void
on_established(void *user, const struct tls_view *v)
{
    log_line(user, "established %s %s\n", tls_proof_word(v->proof), v->proof_how);
}

static void
on_alert(void *user, int side, int level, int description, uint64_t frame, int64_t time_ns)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%d ", description);
    (void)frame;
    (void)time_ns;
    pile_put(&((struct log *)user)->alerts[side], (const unsigned char *)text, (size_t)n);
    log_line(user, "alert %d %d %s\n", side, level, xe_alert_name(description));
}

static void
on_broken(void *user, int side, const char *what, uint64_t frame)
{
    (void)frame;
    log_line(user, "broken %d %s\n", side, what);
}

static void
on_encrypted(void *user, int side, uint64_t frame, int64_t time_ns)
{
    (void)frame;
    (void)time_ns;
    log_line(user, "encrypted %d\n", side);
}

static void
on_lost(void *user, int side, uint64_t frame)
{
    (void)frame;
    (void)side;
    ((struct log *)user)->lost++;
}

static const struct tls_events events = { on_plaintext, on_hello, on_established, on_alert,
    on_broken, on_server, on_certificate, on_encrypted, on_lost };

static const char *
captures(void)
{
    const char *dir = getenv("TLS_CAPTURES");
    return dir != NULL ? dir : "tests/analyze/tls";
}

static struct tls_keys *
keys_load(const char *dir, const char *name, size_t piece)
{
    char path[512];
    char buf[1024];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s.keys", dir, name);
    f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    struct tls_keys *k = tls_keys_new();
    for (size_t n; (n = fread(buf, 1, piece, f)) > 0;)
        tls_keys_add(k, buf, n);
    tls_keys_end(k);
    fclose(f);
    return k;
}

/* Pushes a flow, cut into pieces of at most `piece` bytes. */
static void
feed(struct tls_session *s, const struct test_flow *f, size_t piece)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct test_segment *g = &f->segment[i];
        for (size_t at = 0; at < g->len; at += piece)
            tls_push(s, g->side, g->at + at, g->len - at < piece ? g->len - at : piece, g->frame,
                g->time_ns);
    }
}

static struct test_capture
capture_load(const char *dir, const char *name)
{
    char path[512];
    struct test_capture c;
    snprintf(path, sizeof path, "%s/%s.pcap", dir, name);
    if (!test_capture_read(&c, path))
        fail_msg("cannot read %s", path);
    return c;
}

static struct test_flow *
capture_flow(struct test_capture *c, size_t which)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->flow[i].tls && which-- == 0)
            return &c->flow[i];
    fail_msg("no such flow");
    return NULL;
}

/* ---- captures made with openssl ---- */

struct scene {
    const char           *name;
    size_t                flow;
    uint16_t              version, cipher;
    enum tls_client_proof with, without;     /* keys */
    bool                  resumed, established;
    int                   alert_side, alert; /* with keys */
    const char           *said[2];           /* NULL: not to be opened */
};

#define HELLO { "hello from client\n", "hello from server\n" }

static const struct scene scenes[] = {
    { "12-gcm128-mutual", 0, TLS12, 0xc02f, PROOF_PROVEN, PROOF_PROVEN, false, true, -1, -1,
        HELLO },
    { "12-gcm256-notasked", 0, TLS12, 0xc02c, PROOF_NOT_ASKED, PROOF_NOT_ASKED, false, true, -1,
        -1, HELLO },
    { "12-chacha-empty", 0, TLS12, 0xcca8, PROOF_EMPTY, PROOF_EMPTY, false, true, -1, -1, HELLO },
    { "12-ccm-mutual", 0, TLS12, 0xc0ac, PROOF_PROVEN, PROOF_PROVEN, false, true, -1, -1, HELLO },
    { "12-ccm8-mutual", 0, TLS12, 0xc0af, PROOF_PROVEN, PROOF_PROVEN, false, true, -1, -1, HELLO },
    { "12-cbc-mutual", 0, TLS12, 0xc027, PROOF_PROVEN, PROOF_PROVEN, false, true, -1, -1,
        { NULL, NULL } },
    { "12-resume-ticket", 0, TLS12, 0xc030, PROOF_PROVEN, PROOF_PROVEN, false, true, -1, -1,
        HELLO },
    { "12-resume-ticket", 1, TLS12, 0xc030, PROOF_NOT_ASKED, PROOF_NOT_ASKED, true, true, -1,
        -1, HELLO },
    { "12-resume-id", 1, TLS12, 0xc030, PROOF_NOT_ASKED, PROOF_NOT_ASKED, true, true, -1, -1,
        HELLO },
    { "12-renegotiate", 0, TLS12, 0xc02f, PROOF_PROVEN, PROOF_PROVEN, false, true, -1, -1,
        { "before\nafter\n", "answer\n" } },
    { "12-required-missing", 0, TLS12, 0xc030, PROOF_EMPTY, PROOF_EMPTY, false, false, 1, 40,
        { "", "" } },
    { "12-server-untrusted", 0, TLS12, 0xc030, PROOF_UNKNOWN, PROOF_UNKNOWN, false, false, 0,
        48, { NULL, NULL } },
    { "12-version-refused", 0, 0, 0, PROOF_UNKNOWN, PROOF_UNKNOWN, false, false, 1, 70, { NULL,
        NULL } },
    { "13-gcm128-mutual", 0, TLS13, 0x1301, PROOF_PROVEN, PROOF_INFERRED, false, true, -1, -1,
        HELLO },
    { "13-gcm256-ec-mutual", 0, TLS13, 0x1302, PROOF_PROVEN, PROOF_INFERRED, false, true, -1,
        -1, HELLO },
    { "13-ed25519-mutual", 0, TLS13, 0x1302, PROOF_PROVEN, PROOF_INFERRED, false, true, -1, -1,
        HELLO },
    { "13-chacha-empty", 0, TLS13, 0x1303, PROOF_EMPTY, PROOF_INFERRED_NONE, false, true, -1,
        -1, HELLO },
    { "13-ccm8-notasked", 0, TLS13, 0x1305, PROOF_NOT_ASKED, PROOF_INFERRED_NONE, false, true,
        -1, -1, HELLO },
    { "13-keyupdate", 0, TLS13, 0x1302, PROOF_PROVEN, PROOF_INFERRED, false, true, -1, -1,
        { "one\ntwo\nfour\nsix\n", "three\nfive\n" } },
    { "13-retry", 0, TLS13, 0x1302, PROOF_PROVEN, PROOF_INFERRED, false, true, -1, -1, HELLO },
    { "13-resume", 1, TLS13, 0x1302, PROOF_NOT_ASKED, PROOF_NOT_ASKED, true, true, -1, -1, HELLO },
    { "13-early", 1, TLS13, 0x1302, PROOF_NOT_ASKED, PROOF_NOT_ASKED, true, true, -1, -1, HELLO },
    { "13-later-auth", 0, TLS13, 0x1302, PROOF_PROVEN, PROOF_INFERRED_NONE, false, true, -1, -1,
        { "before\nafter\n", "answer\n" } },
    { "13-padded-notasked", 0, TLS13, 0x1302, PROOF_NOT_ASKED, PROOF_UNKNOWN, false, true, -1,
        -1, HELLO },
    { "13-required-missing", 0, TLS13, 0x1302, PROOF_EMPTY, PROOF_INFERRED_NONE, false, false,
        1, 116, { "", "" } },
    { "13-server-untrusted", 0, TLS13, 0x1302, PROOF_UNKNOWN, PROOF_UNKNOWN, false, false, 0,
        48, { "", "" } },
};

static void
scene_check(const struct scene *c, const struct tls_view *v, const struct log *l, bool keys)
{
    assert_int_equal(v->version, c->version);
    assert_int_equal(v->cipher, c->cipher);
    assert_int_equal(v->proof, keys ? c->with : c->without);
    assert_int_equal(v->resumed, c->resumed);
    assert_int_equal(v->established, c->established);
    assert_string_equal(v->sni, "sni.example");
    assert_string_equal(v->alpn, "xmpp-server");
    assert_int_equal(v->early_data, strcmp(c->name, "13-early") == 0);
    if (keys) {
        assert_int_equal(v->alert_side, c->alert_side);
        assert_int_equal(v->alert, c->alert);
    }
    if (c->established)
        assert_true(v->finished_frame > v->server_hello_frame);
    for (int side = 0; side < 2; side++) {
        const char *want = keys && c->said[side] != NULL ? c->said[side] : "";
        assert_int_equal(l->plain[side].len, strlen(want));
        if (want[0] != '\0')
            assert_memory_equal(l->plain[side].at, want, strlen(want));
    }
    assert_int_equal(v->decrypted, keys && c->said[0] != NULL);
    if (!keys && c->established)
        assert_int_equal(v->keys_would_help, c->said[0] != NULL);
}

static void
scene_run(const struct scene *c, bool with_keys, size_t piece)
{
    struct test_capture capture = capture_load(captures(), c->name);
    struct tls_keys *keys =
        with_keys ? keys_load(captures(), c->name, piece < 1000 ? piece : 1000) : NULL;
    struct tls_certs *certs = tls_certs_new();
    struct log log = silent;
    struct tls_session *s = tls_open(keys, certs, &events, &log);
    feed(s, capture_flow(&capture, c->flow), piece);
    tls_end(s);
    if (getenv("TLS_SHOW") != NULL)
        print_message("%s %s\n%.*s", c->name, with_keys ? "keys" : "", (int)log.words.len,
            (char *)log.words.at);
    scene_check(c, tls_seen(s), &log, with_keys);
    if (!with_keys && c->established) {
        assert_null(s->setup);
        assert_null(s->lane[0].work);
        assert_null(s->lane[1].work);
    }
    tls_close(s);
    tls_keys_free(keys);
    tls_certs_free(certs);
    test_capture_free(&capture);
    log_free(&log);
}

static void
every_scene_is_seen_with_and_without_keys(void **state)
{
    static const size_t pieces[] = { 100000, 1, 2, 3, 7, 64 };
    (void)state;
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        for (size_t j = 0; j < sizeof pieces / sizeof pieces[0]; j++) {
            scene_run(&scenes[i], false, pieces[j]);
            scene_run(&scenes[i], true, pieces[j]);
        }
}

/* The events of a whole flow, a segment cut in two at `cut`, a position in the flow (0: no cut). */
static void
flow_cut(const struct test_flow *f, struct tls_keys *keys, struct tls_certs *certs, size_t cut,
    struct log *log)
{
    struct tls_session *s = tls_open(keys, certs, &events, log);
    size_t at = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct test_segment *g = &f->segment[i];
        const size_t part = cut > at && cut < at + g->len ? cut - at : g->len;
        tls_push(s, g->side, g->at, part, g->frame, g->time_ns);
        if (part < g->len)
            tls_push(s, g->side, g->at + part, g->len - part, g->frame, g->time_ns);
        at += g->len;
    }
    tls_end(s);
    log_line(log, "end %s %s\n", tls_proof_word(tls_seen(s)->proof), tls_seen(s)->proof_how);
    tls_close(s);
}

static void
segments_may_be_cut_anywhere(void **state)
{
    static const char *const names[] = { "12-gcm128-mutual", "12-chacha-empty",
        "13-gcm256-ec-mutual", "13-keyupdate" };
    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct test_capture capture = capture_load(captures(), names[n]);
        struct test_flow *f = capture_flow(&capture, 0);
        struct tls_certs *certs = tls_certs_new();
        size_t total = 0;
        for (size_t i = 0; i < f->count; i++)
            total += f->segment[i].len;
        for (int with = 0; with < 2; with++) {
            struct tls_keys *keys = with ? keys_load(captures(), names[n], 1000) : NULL;
            struct log want = silent;
            flow_cut(f, keys, certs, 0, &want);
            for (size_t cut = 1; cut < total; cut++) {
                struct log got = silent;
                flow_cut(f, keys, certs, cut, &got);
                assert_int_equal(got.words.len, want.words.len);
                assert_memory_equal(got.words.at, want.words.at, want.words.len);
                log_free(&got);
            }
            log_free(&want);
            tls_keys_free(keys);
        }
        tls_certs_free(certs);
        test_capture_free(&capture);
    }
}

/* ---- real captures ---- */

enum { REAL_NAME_MAX = 300 };

static const char *
real(void)
{
    const char *dir = getenv("TLS_REAL");
    return dir != NULL ? dir : "../shared/captures/real";
}

/* What NAME.txt says went from one port to another inside TLS, and the alerts. */
static bool
transcript_read(const char *name, unsigned from, unsigned to, struct pile *plain,
    struct pile *alerts)
{
    char path[512];
    char arrow[64];
    char *line = NULL;
    size_t cap = 0;
    snprintf(path, sizeof path, "%s/%s.txt", real(), name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    while (getline(&line, &cap, f) > 0) {
        unsigned a, b;
        char x[16], y[16];
        char *body = strstr(line, "] ");
        if (body == NULL || sscanf(body, "] %15[a-z]:%u -> %15[a-z]:%u", x, &a, y, &b) != 4
            || a != from || b != to)
            continue;
        for (char *alert = body; (alert = strstr(alert, "TLS-ALERT ")) != NULL; alert += 10) {
            int n = snprintf(arrow, sizeof arrow, "%d ", atoi(alert + 10));
            pile_put(alerts, (const unsigned char *)arrow, (size_t)n);
        }
        unsigned long len;
        char *tls = strstr(body, " TLS ");
        if (tls == NULL || sscanf(tls, " TLS %lu bytes:", &len) != 1)
            continue;
        pile_put(plain, (const unsigned char *)strstr(tls, "bytes: ") + 7, len);
    }
    free(line);
    fclose(f);
    return true;
}

static void
real_compare(const struct pile *got, const struct pile *want, const char *name, const char *what)
{
    /* transcripts of idle sessions leave out what followed a keepalive, not by our fault */
    if (strncmp(name, "A07", 3) == 0 && strcmp(what, "plaintext") == 0 && got->len > want->len)
        return;
    if (got->len != want->len || (want->len > 0 && memcmp(got->at, want->at, want->len) != 0))
        fail_msg("%s: %s: %zu bytes instead of %zu", name, what, got->len, want->len);
}

static unsigned
real_run(const char *name, size_t piece)
{
    struct test_capture capture = capture_load(real(), name);
    struct tls_keys *keys = keys_load(real(), name, 1000);
    struct tls_certs *certs = tls_certs_new();
    unsigned flows = 0;
    for (size_t i = 0; i < capture.count; i++) {
        struct test_flow *f = &capture.flow[i];
        if (!f->tls)
            continue;
        struct log log = silent;
        struct log want = silent;
        struct tls_session *s = tls_open(keys, certs, &events, &log);
        feed(s, f, piece);
        tls_end(s);
        for (int side = 0; side < 2; side++) {
            assert_true(transcript_read(name, f->port[side], f->port[1 - side], &want.plain[side],
                &want.alerts[side]));
            real_compare(&log.plain[side], &want.plain[side], name, "plaintext");
            real_compare(&log.alerts[side], &want.alerts[side], name, "alerts");
        }
        assert_true(tls_seen(s)->decrypted);
        tls_close(s);
        log_free(&log);
        log_free(&want);
        flows++;
    }
    tls_keys_free(keys);
    tls_certs_free(certs);
    test_capture_free(&capture);
    return flows;
}

/* The name of the next capture with keys; false: there is none. */
static bool
real_next(DIR *d, char name[REAL_NAME_MAX])
{
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char *dot = strrchr(e->d_name, '.');
        if (dot != NULL && strcmp(dot, ".keys") == 0) {
            snprintf(name, REAL_NAME_MAX, "%.*s", (int)(dot - e->d_name), e->d_name);
            return true;
        }
    }
    return false;
}

static void
captures_of_real_servers_open_with_their_keys(void **state)
{
    DIR *d = opendir(real());
    char name[REAL_NAME_MAX];
    unsigned files = 0;
    unsigned flows = 0;
    (void)state;
    if (d == NULL)
        skip();
    while (real_next(d, name)) {
        flows += real_run(name, 100000);
        (void)real_run(name, 1);
        (void)real_run(name, 13);
        files++;
    }
    closedir(d);
    print_message("# %u real captures with keys, %u TLS connections\n", files, flows);
    assert_true(flows > 0);
}

/* Every real session whose handshake went well with keys: the inference without keys agrees. */
static void
inference_agrees_with_what_keys_show(void **state)
{
    DIR *d = opendir(real());
    char name[REAL_NAME_MAX];
    unsigned agreed = 0;
    (void)state;
    if (d == NULL)
        skip();
    while (real_next(d, name)) {
        struct test_capture capture = capture_load(real(), name);
        struct tls_keys *keys = keys_load(real(), name, 1000);
        struct tls_certs *certs = tls_certs_new();
        for (size_t i = 0; i < capture.count; i++) {
            if (!capture.flow[i].tls)
                continue;
            struct log log = silent;
            struct tls_session *with = tls_open(keys, certs, &events, &log);
            struct tls_session *without = tls_open(NULL, certs, &events, &log);
            feed(with, &capture.flow[i], 100000);
            feed(without, &capture.flow[i], 100000);
            tls_end(with);
            tls_end(without);
            const struct tls_view *a = tls_seen(with);
            const struct tls_view *b = tls_seen(without);
            assert_int_equal(a->established, b->established);
            assert_int_equal(a->finished_frame, b->finished_frame);
            assert_int_equal(a->cipher, b->cipher);
            if (a->proof == PROOF_PROVEN)
                assert_true(b->proof == PROOF_INFERRED || b->version == TLS12);
            else if (a->proof == PROOF_EMPTY || (a->proof == PROOF_NOT_ASKED && !a->resumed))
                assert_true(b->proof == PROOF_INFERRED_NONE || b->version == TLS12);
            else
                assert_int_equal(a->proof, b->proof);
            agreed++;
            tls_close(with);
            tls_close(without);
            log_free(&log);
        }
        tls_keys_free(keys);
        tls_certs_free(certs);
        test_capture_free(&capture);
    }
    closedir(d);
    print_message("# %u sessions: what is inferred is what keys prove\n", agreed);
}

/* ---- gaps, waiting, keys ---- */

/* Leaves out segment `skip` of the flow. */
static void
feed_without(struct tls_session *s, const struct test_flow *f, size_t skip)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct test_segment *g = &f->segment[i];
        if (i == skip)
            tls_gap(s, g->side, g->len);
        else
            tls_push(s, g->side, g->at, g->len, g->frame, g->time_ns);
    }
}

static void
what_was_not_seen_is_never_proven(void **state)
{
    static const char *const names[] = { "12-gcm128-mutual", "13-gcm128-mutual",
        "12-chacha-empty" };
    (void)state;
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        struct test_capture capture = capture_load(captures(), names[n]);
        struct test_flow *f = capture_flow(&capture, 0);
        struct tls_keys *keys = keys_load(captures(), names[n], 1000);
        struct tls_certs *certs = tls_certs_new();
        for (size_t skip = 0; skip < f->count; skip++) {
            struct log log = silent;
            struct tls_session *s = tls_open(keys, certs, &events, &log);
            feed_without(s, f, skip);
            tls_end(s);
            /* whatever else: a certificate is never called proven when a part was not seen */
            if (f->segment[skip].frame <= tls_seen(s)->finished_frame
                && tls_seen(s)->proof == PROOF_PROVEN)
                assert_true(f->segment[skip].side == 1);
            tls_close(s);
            log_free(&log);
            s = tls_open(NULL, certs, &events, &log);
            feed_without(s, f, skip);
            tls_close(s);
            log_free(&log);
        }
        tls_keys_free(keys);
        tls_certs_free(certs);
        test_capture_free(&capture);
    }
}

/* A segment of data is missing: the ones after it are still opened, and the loss is told. */
static void
after_a_gap_in_data_reading_goes_on(void **state)
{
    struct test_capture capture = capture_load(captures(), "13-large");
    struct test_flow *f = capture_flow(&capture, 0);
    struct tls_keys *keys = keys_load(captures(), "13-large", 1000);
    struct tls_certs *certs = tls_certs_new();
    (void)state;
    for (size_t skip = 0; skip < f->count; skip++) {
        if (f->segment[skip].frame < 17 || f->segment[skip].frame > 30)
            continue;
        struct log log = silent;
        struct tls_session *s = tls_open(keys, certs, &events, &log);
        feed_without(s, f, skip);
        assert_int_equal(log.lost, 1);
        assert_true(log.plain[0].len >= 48001 - 2 * 8192 && log.plain[0].len < 48001);
        assert_int_equal(log.plain[1].len, 48001);
        assert_string_equal(tls_seen(s)->why_closed, "");
        tls_close(s);
        log_free(&log);
    }
    tls_keys_free(keys);
    tls_certs_free(certs);
    test_capture_free(&capture);
}

/* The records after the ServerHello wait behind a gap until the client has had its say. */
static void
what_waited_behind_a_gap_is_no_answer_to_the_client(void **state)
{
    (void)state;
    struct test_capture capture = capture_load(captures(), "13-required-missing");
    const struct test_flow *f = capture_flow(&capture, 0);
    struct tls_certs *certs = tls_certs_new();
    struct log log = silent;
    struct tls_session *s = tls_open(NULL, certs, &events, &log);
    const struct test_segment *flight = NULL;
    size_t hello = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct test_segment *g = &f->segment[i];
        if (g->side == 1 && flight == NULL) {
            flight = g;
            hello = RECORD_HEAD + ((size_t)g->at[3] << 8 | g->at[4]);
            tls_push(s, 1, g->at, hello, g->frame, g->time_ns);
        } else if (g->side == 0) {
            tls_push(s, g->side, g->at, g->len, g->frame, g->time_ns);
        }
    }
    assert_non_null(flight);
    assert_true(tls_seen(s)->finished_frame > flight->frame);
    tls_push(s, 1, flight->at + hello, flight->len - hello, flight->frame, flight->time_ns);
    assert_false(tls_seen(s)->established);
    tls_close(s);
    log_free(&log);
    tls_certs_free(certs);
    test_capture_free(&capture);
}

/* The key log comes only after `late` segments. */
static void
keys_may_come_late(void **state)
{
    static const char *const names[] = { "12-gcm128-mutual", "13-gcm128-mutual" };
    (void)state;
    for (size_t n = 0; n < 2; n++) {
        struct test_capture capture = capture_load(captures(), names[n]);
        struct test_flow *f = capture_flow(&capture, 0);
        struct tls_certs *certs = tls_certs_new();
        for (size_t late = 0; late < f->count; late++) {
            struct tls_keys *keys = tls_keys_new();
            struct log log = silent;
            struct tls_session *s = tls_open(keys, certs, &events, &log);
            char path[512];
            char text[4096];
            tls_keys_more(keys, true);
            for (size_t i = 0; i < f->count; i++) {
                if (i == late) {
                    snprintf(path, sizeof path, "%s/%s.keys", captures(), names[n]);
                    FILE *file = fopen(path, "rb");
                    assert_non_null(file);
                    tls_keys_add(keys, text, fread(text, 1, sizeof text, file));
                    fclose(file);
                }
                tls_push(s, f->segment[i].side, f->segment[i].at, f->segment[i].len,
                    f->segment[i].frame, f->segment[i].time_ns);
            }
            tls_end(s);
            assert_int_equal(log.plain[0].len, 18);
            assert_int_equal(log.plain[1].len, 18);
            assert_int_equal(tls_seen(s)->proof, PROOF_PROVEN);
            tls_close(s);
            log_free(&log);
            tls_keys_free(keys);
        }
        tls_certs_free(certs);
        test_capture_free(&capture);
    }
}

/* A key log without the handshake's secrets opens the data all the same. */
static void
some_of_the_keys_open_some_of_it(void **state)
{
    struct test_capture capture = capture_load(captures(), "13-gcm128-mutual");
    struct tls_keys *keys = keys_load(captures(), "13-gcm128-mutual", 1000);
    struct tls_certs *certs = tls_certs_new();
    struct log log = silent;
    (void)state;
    for (size_t i = 0; i < keys->slots; i++)
        if (keys->slot[i] != NULL) {
            keys->slot[i]->len[SECRET_CLIENT_HANDSHAKE] = 0;
            keys->slot[i]->len[SECRET_SERVER_HANDSHAKE] = 0;
        }
    struct tls_session *s = tls_open(keys, certs, &events, &log);
    feed(s, capture_flow(&capture, 0), 100000);
    assert_int_equal(log.plain[0].len, 18);
    assert_int_equal(log.plain[1].len, 18);
    assert_int_equal(tls_seen(s)->proof, PROOF_INFERRED);
    tls_close(s);
    log_free(&log);
    tls_keys_free(keys);
    tls_certs_free(certs);
    test_capture_free(&capture);
}

static void
wrong_keys_open_nothing(void **state)
{
    struct test_capture capture = capture_load(captures(), "13-gcm128-mutual");
    struct tls_keys *keys = keys_load(captures(), "13-gcm128-mutual", 1000);
    struct tls_certs *certs = tls_certs_new();
    struct log log = silent;
    (void)state;
    for (size_t i = 0; i < keys->slots; i++)
        if (keys->slot[i] != NULL)
            memset(keys->slot[i]->secret, 7, sizeof keys->slot[i]->secret);
    struct tls_session *s = tls_open(keys, certs, &events, &log);
    feed(s, capture_flow(&capture, 0), 100000);
    assert_int_equal(log.plain[0].len + log.plain[1].len, 0);
    assert_false(tls_seen(s)->decrypted);
    assert_string_equal(tls_seen(s)->why_closed,
        "a record does not open with the keys that were given");
    assert_int_equal(tls_seen(s)->proof, PROOF_INFERRED);
    tls_close(s);
    log_free(&log);
    tls_keys_free(keys);
    tls_certs_free(certs);
    test_capture_free(&capture);
}

static void
key_logs_are_read_in_pieces(void **state)
{
    static const char text[] =
        "# comment\r\n"
        "CLIENT_RANDOM 00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF "
        "000102030405060708090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f\n"
        "EXPORTER_SECRET 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff 0011\n"
        "CLIENT_RANDOM 0011 0022\nCLIENT_RANDOM\n\nCLIENT_RANDOM zz yy\n"
        "SERVER_TRAFFIC_SECRET_0 0f112233445566778899aabbccddeeff00112233445566778899aabbccddeeff "
        "3c661bb75991f7fd52f0327f52ae70066d349d0d0ee34af762ef9cdc2646c31c";
    (void)state;
    for (size_t piece = 1; piece < sizeof text; piece += 5) {
        struct tls_keys *k = tls_keys_new();
        size_t used, unused;
        for (size_t at = 0; at < sizeof text - 1; at += piece)
            tls_keys_add(k, text + at, sizeof text - 1 - at < piece ? sizeof text - 1 - at : piece);
        tls_keys_end(k);
        tls_keys_count(k, &used, &unused);
        assert_int_equal(used, 0);
        assert_int_equal(unused, 2);
        tls_keys_free(k);
    }
    struct tls_keys *k = tls_keys_new();
    for (unsigned i = 0; i < 2000; i++) {
        char line[200];
        int n = snprintf(line, sizeof line,
            "CLIENT_TRAFFIC_SECRET_0 %064x 3c661bb75991f7fd52f0327f52ae7006\n", i);
        tls_keys_add(k, line, (size_t)n);
    }
    assert_int_equal(k->count, 2000);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned char random[RANDOM_LEN] = { 0 };
        random[30] = (unsigned char)(i >> 8);
        random[31] = (unsigned char)i;
        assert_non_null(keys_find(k, random));
    }
    tls_keys_free(k);
}

/* ---- certificates ---- */

/* The certificate of a side in a capture; held. */
static const struct cert *
cert_of(struct tls_certs *certs, const char *dir, const char *name, int side)
{
    struct test_capture capture = capture_load(dir, name);
    struct tls_keys *keys = keys_load(dir, name, 1000);
    struct log log = silent;
    struct tls_session *s = tls_open(keys, certs, &events, &log);
    feed(s, capture_flow(&capture, 0), 100000);
    const struct cert *c =
        cert_keep(side == tls_seen(s)->client_side ? tls_seen(s)->client : tls_seen(s)->server);
    tls_close(s);
    tls_keys_free(keys);
    test_capture_free(&capture);
    log_free(&log);
    assert_non_null(c);
    return c;
}

static void
names_of_certificates_are_compared_as_they_should(void **state)
{
    struct tls_certs *certs = tls_certs_new();
    const struct cert *c = cert_of(certs, captures(), "12-gcm128-mutual", 1);
    (void)state;
    assert_string_equal(c->subject, "O=Test, CN=cn.rsa.example");
    assert_string_equal(c->issuer, "CN=Test CA");
    assert_string_equal(c->names,
        "rsa.example, *.rsa.example, xmpp:x.rsa.example, _xmpp-server.s.rsa.example");
    assert_true(cert_names_domain(c, "rsa.example"));
    assert_true(cert_names_domain(c, "RSA.example."));
    assert_true(cert_names_domain(c, "any.rsa.example"));
    assert_false(cert_names_domain(c, "more.any.rsa.example"));
    assert_false(cert_names_domain(c, ".rsa.example"));
    assert_true(cert_names_domain(c, "x.rsa.example"));
    assert_true(cert_names_domain(c, "s.rsa.example"));
    assert_false(cert_names_domain(c, "_xmpp-server.q.rsa.example"));
    assert_false(cert_names_domain(c, "other.example"));
    assert_false(cert_names_domain(c, "example"));
    assert_false(cert_names_domain(c, ""));
    assert_false(cert_names_domain(NULL, "rsa.example"));
    assert_true(c->readable && c->eku_server && c->eku_client && !c->self_signed);
    assert_int_equal(c->chain_length, 2);
    assert_int_equal(strlen(c->fingerprint), 64);
    assert_false(cert_expired_at(c, c->not_after * 1000000000));
    assert_true(cert_expired_at(c, (c->not_after + 1) * 1000000000));
    assert_true(cert_early_at(c, c->not_before * 1000000000 - 1));
    assert_false(cert_early_at(c, c->not_before * 1000000000));
    const struct cert *again = cert_of(certs, captures(), "12-gcm128-mutual", 1);
    assert_ptr_equal(c, again);
    tls_certs_free(certs);
    cert_drop(again);
    assert_int_equal(c->holders, 1);
    cert_drop(c);
}

static void
chains_are_judged(void **state)
{
    struct tls_certs *certs = tls_certs_new();
    const struct cert *rsa = cert_of(certs, captures(), "12-gcm128-mutual", 1);
    const struct cert *ec = cert_of(certs, captures(), "13-gcm256-ec-mutual", 0);
    const struct cert *ed = cert_of(certs, captures(), "13-ed25519-mutual", 0);
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/ca.pem", captures());
    struct cert_anchors *ca = cert_anchors_read(path);
    assert_non_null(ca);
    const int64_t now = (rsa->not_before + 100) * 1000000000;
    assert_int_equal(cert_trust(rsa, ca, now), CERT_TRUST_YES);
    assert_int_equal(cert_trust(ec, ca, now), CERT_TRUST_YES);
    assert_int_equal(cert_trust(ed, ca, now), CERT_TRUST_UNKNOWN);
    assert_string_equal(ed->subject, "O=Test, CN=cn.ed.example");
    assert_true(cert_names_domain(ed, "ed.example"));
    assert_int_equal(cert_trust(rsa, NULL, now), CERT_TRUST_UNKNOWN);
    assert_int_equal(cert_trust(rsa, ca, now + (int64_t)20 * 365 * 86400 * 1000000000),
        CERT_TRUST_CHAIN_TIME);
    snprintf(path, sizeof path, "%s/12-gcm128-mutual.keys", captures());
    assert_null(cert_anchors_read(path));
    cert_anchors_free(ca);
    cert_drop(rsa);
    cert_drop(ec);
    cert_drop(ed);
    tls_certs_free(certs);
}

static void
real_certificates_are_judged(void **state)
{
    static const char bad[] = "A05b-expired-cert-prosody012-secure_auth";
    struct tls_certs *certs = tls_certs_new();
    DIR *d = opendir(real());
    (void)state;
    if (d == NULL) {
        tls_certs_free(certs);
        skip();
    }
    closedir(d);
    const struct cert *server = cert_of(certs, real(), bad, 1);
    const struct cert *client = cert_of(certs, real(), bad, 0);
    struct test_capture capture = capture_load(real(), bad);
    const int64_t now = capture_flow(&capture, 0)->segment[0].time_ns;
    assert_true(cert_expired_at(server, now) != cert_expired_at(client, now));
    test_capture_free(&capture);
    cert_drop(server);
    cert_drop(client);
    client = cert_of(certs, real(), "A05c4-serverauth-only-cert-ejabberd2301", 0);
    server = cert_of(certs, real(), "A05c4-serverauth-only-cert-ejabberd2301", 1);
    assert_true(client->eku_client != server->eku_client);
    cert_drop(client);
    cert_drop(server);
    client = cert_of(certs, real(), "A02a-prosody012-prosody012-starttls-dialback-selfsigned", 0);
    assert_true(client->self_signed);
    cert_drop(client);
    tls_certs_free(certs);
}

/* A certificate cut anywhere, or with any one byte changed, is read without harm. */
static void
damaged_certificates_are_unreadable(void **state)
{
    struct tls_certs *certs = tls_certs_new();
    const struct cert *c = cert_of(certs, captures(), "12-gcm128-mutual", 1);
    struct cert copy;
    (void)state;
    for (size_t i = 0; i < c->der_len; i++) {
        unsigned char *der = memory_get(c->der_len);
        memcpy(der, c->der, c->der_len);
        der[i] ^= (unsigned char)(1u << (i % 8));
        memset(&copy, 0, sizeof copy);
        copy.der = der;
        copy.der_len = c->der_len;
        cert_read(&copy);
        (void)cert_names_domain(&copy, "rsa.example");
        free(der);
        der = memory_get(i);
        memcpy(der, c->der, i);
        copy.der = der;
        copy.der_len = i;
        memset(copy.subject, 0, sizeof copy.subject);
        copy.readable = false;
        cert_read(&copy);
        assert_false(copy.readable);
        free(der);
    }
    cert_drop(c);
    tls_certs_free(certs);
}

static void
dates_are_read(void **state)
{
    static const char dates[] = "\x17\x0d" "700101000000Z\x18\x0f" "20380119031408Z\x18\x0f"
        "20000229235959Z";
    struct reader r = { (const unsigned char *)dates, sizeof dates - 1 };
    int64_t t;
    (void)state;
    assert_true(der_time(&r, &t));
    assert_true(t == 0);
    assert_true(der_time(&r, &t));
    assert_true(t == 2147483648);
    assert_true(der_time(&r, &t));
    assert_true(t == 951868799);
    assert_false(der_time(&r, &t));
}

/* ---- what is not TLS, size, speed ---- */

static void
what_is_not_tls_is_named(void **state)
{
    static const struct {
        const char *bytes;
        const char *what;
    } table[] = {
        { "<?xml version='1.0'?>", "not TLS: text that looks like XML" },
        { "HTTP/1.1 400 Bad Request", "not TLS: an HTTP answer" },
        { "\x80\x2e\x01\x03\x01", "a hello of SSL 2, which nobody should use" },
        { "\x16\x03\x01\xff\xff....", "not a TLS record" },
    };
    struct tls_certs *certs = tls_certs_new();
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct log log = silent;
        struct tls_session *s = tls_open(NULL, certs, &events, &log);
        char want[100];
        tls_push(s, 1, (const unsigned char *)table[i].bytes, strlen(table[i].bytes), 1, 1);
        tls_push(s, 0, (const unsigned char *)"more", 4, 2, 2);
        snprintf(want, sizeof want, "broken 1 %s\n", table[i].what);
        assert_int_equal(log.words.len, strlen(want));
        assert_memory_equal(log.words.at, want, strlen(want));
        assert_string_equal(tls_seen(s)->why_closed, table[i].what);
        tls_close(s);
        log_free(&log);
    }
    assert_true(tls_begins((const unsigned char *)"\x16\x03\x01\x02\x00\x01", 6));
    assert_false(tls_begins((const unsigned char *)"\x16\x03\x01\x02\x00\x02", 6));
    assert_false(tls_begins((const unsigned char *)"\x16\x03\x01\x02\x00", 5));
    tls_certs_free(certs);
}

static double
seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
sessions_are_small_and_fast(void **state)
{
    static unsigned char record[16 * 1448];
    struct test_capture capture = capture_load(captures(), "13-gcm128-mutual");
    struct tls_certs *certs = tls_certs_new();
    struct tls_events none = { 0 };
    struct tls_session *s = tls_open(NULL, certs, &none, NULL);
    (void)state;
    feed(s, capture_flow(&capture, 0), 100000);
    assert_true(sizeof *s < 300);
    assert_null(s->setup);
    assert_null(s->lane[0].work);
    const double begin = seconds_now();
    const uint64_t total = 200000;
    const size_t body =
        sizeof record - RECORD_HEAD > RECORD_MAX ? 16384 : sizeof record - RECORD_HEAD;
    memcpy(record, "\x17\x03\x03", 3);
    record[3] = (unsigned char)(body >> 8);
    record[4] = (unsigned char)body;
    for (uint64_t i = 0; i < total; i++)
        for (size_t at = 0; at < body + RECORD_HEAD; at += 1448)
            tls_push(s, 0, record + at,
                body + RECORD_HEAD - at < 1448 ? body + RECORD_HEAD - at : 1448, i, 1);
    const double spent = seconds_now() - begin;
    assert_true(tls_seen(s)->app_records[0] >= total);
    print_message("# session %zu bytes; without keys %.0f MB/s in segments of 1448\n", sizeof *s,
        (double)total * (double)body / spent / 1e6);
    tls_close(s);
    tls_certs_free(certs);
    test_capture_free(&capture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_logs_are_read_in_pieces),
        cmocka_unit_test(dates_are_read),
        cmocka_unit_test(every_scene_is_seen_with_and_without_keys),
        cmocka_unit_test(segments_may_be_cut_anywhere),
        cmocka_unit_test(captures_of_real_servers_open_with_their_keys),
        cmocka_unit_test(inference_agrees_with_what_keys_show),
        cmocka_unit_test(what_was_not_seen_is_never_proven),
        cmocka_unit_test(after_a_gap_in_data_reading_goes_on),
        cmocka_unit_test(what_waited_behind_a_gap_is_no_answer_to_the_client),
        cmocka_unit_test(keys_may_come_late),
        cmocka_unit_test(some_of_the_keys_open_some_of_it),
        cmocka_unit_test(wrong_keys_open_nothing),
        cmocka_unit_test(names_of_certificates_are_compared_as_they_should),
        cmocka_unit_test(chains_are_judged),
        cmocka_unit_test(real_certificates_are_judged),
        cmocka_unit_test(damaged_certificates_are_unreadable),
        cmocka_unit_test(what_is_not_tls_is_named),
        cmocka_unit_test(sessions_are_small_and_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
