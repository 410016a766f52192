/* test_tls.c -- [TLS]: handshakes, certificates good and bad, and what is kept of them.
 *
 * The certificates are made by the openssl command in a temporary directory when the test starts.
 *
 * With the argument `idle` it prints the heap bytes of one idle session instead (build without
 * sanitizers).
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Between TLS, the socket and the heap: lets a test cut every transfer into pieces. */
static size_t test_piece;          /* most bytes of one send() or recv(); 0: no limit */
static unsigned test_refuse;       /* of so many sends one is refused with EAGAIN; 0: none */
static unsigned test_allocations;  /* of the code under test, so far */
static unsigned test_fails_at;     /* the one that fails; 0: none */
static void *heap_malloc(size_t n);
static void *heap_calloc(size_t n, size_t size);
static ssize_t test_send(int fd, const void *at, size_t n, int flags);
static ssize_t test_recv(int fd, void *at, size_t n, int flags);
#define send test_send
#define malloc heap_malloc
#define calloc heap_calloc
#define recv test_recv
#ifndef XMPPEDGE_NO_THREADS
#include <pthread.h>
static int test_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
#define pthread_create test_thread
#endif
#include "cut/TLS.c"
#undef pthread_create
#undef send
#undef malloc
#undef calloc
#undef recv

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static unsigned test_sends;
static size_t test_received;

#ifndef XMPPEDGE_NO_THREADS
static size_t test_no_threads;   /* so many attempts fail */
static size_t test_told;

static int
test_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user)
{
    if (test_no_threads == 0)
        return pthread_create(thread, attributes, run, user);
    test_no_threads--;
    return EAGAIN;
}
#endif

static void *
heap_malloc(size_t n)
{
    return ++test_allocations == test_fails_at ? NULL : malloc(n);
}

static void *
heap_calloc(size_t n, size_t size)
{
    return ++test_allocations == test_fails_at ? NULL : calloc(n, size);
}

static ssize_t
test_send(int fd, const void *at, size_t n, int flags)
{
    if (test_refuse > 0 && ++test_sends % test_refuse == 0) {
        errno = EAGAIN;
        return -1;
    }
    return send(fd, at, test_piece > 0 && n > test_piece ? test_piece : n, flags);
}

static ssize_t
test_recv(int fd, void *at, size_t n, int flags)
{
    ssize_t got = recv(fd, at, test_piece > 0 && n > test_piece ? test_piece : n, flags);
    test_received += got > 0 ? (size_t)got : 0;
    return got;
}

/* ---- certificates ---- */

static const char make_certificates[] =
    "set -e\n"
    "cat > ca.cnf <<X\n"
    "[ca]\ndefault_ca=d\n[d]\ndatabase=\\${ENV::DB}/index\nserial=\\${ENV::DB}/serial\n"
    "crlnumber=\\${ENV::DB}/crlnumber\nnew_certs_dir=\\${ENV::DB}\ndefault_md=sha256\npolicy=p\n"
    "unique_subject=no\nemail_in_dn=no\n[p]\ncommonName=supplied\norganizationName=optional\n"
    "X\n"
    "ca() {\n"   /* name [extension] */
    "  mkdir db-$1; : > db-$1/index; echo 1000 > db-$1/serial; echo 01 > db-$1/crlnumber\n"
    "  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \\\n"
    "    -keyout $1.key -out $1.crt -days 3650 -subj /O=Test/CN=$1 \\\n"
    "    -addext basicConstraints=critical,CA:TRUE \\\n"
    "    -addext keyUsage=critical,keyCertSign,cRLSign ${2:+-addext \"$2\"}\n"
    "}\n"
    "sign() {\n"   /* name ca cn extensions [start end] */
    "  export DB=db-$2\n"
    "  printf '%b\\n' \"$4\" > $1.ext\n"
    "  openssl req -new -key $1.key -subj \"/CN=$3\" -out $1.csr\n"
    "  openssl ca -batch -notext -config ca.cnf -cert $2.crt -keyfile $2.key -in $1.csr \\\n"
    "    -out $1.crt -extfile $1.ext \\\n"
    "    -startdate ${5:-20200101000000Z} -enddate ${6:-20480101000000Z}\n"
    "}\n"
    "leaf() {\n"   /* name ca cn san eku [start end] */
    "  [ -f $1.key ] || openssl ecparam -name prime256v1 -genkey -noout -out $1.key\n"
    "  san=; [ -z \"$4\" ] || san=\"\\nsubjectAltName=$4\"\n"
    "  sign $1 $2 $3 \"basicConstraints=CA:FALSE\\nkeyUsage=digitalSignature\\n"
        "extendedKeyUsage=$5$san\" $6 $7\n"
    "}\n"
    "both=serverAuth,clientAuth\n"
    "addr='otherName:1.3.6.1.5.5.7.8.5;UTF8:'\n"
    "srv='otherName:1.3.6.1.5.5.7.8.7;IA5:'\n"
    "ca ca; ca stranger-ca\n"
    "leaf near ca near.example DNS:near.example $both\n"
    "leaf second ca second.example DNS:second.example $both\n"
    "leaf far ca far.example \"DNS:far.example,DNS:*.far.example,${srv}_xmpp-server.far.example,"
        "email:a@far.example,${srv}_imap.far.example,${addr}far.example,IP:192.0.2.1\" $both\n"
    "leaf nosan ca nosan.example '' $both\n"
    "leaf serveronly ca serveronly.example DNS:serveronly.example serverAuth\n"
    "leaf clientonly ca clientonly.example DNS:clientonly.example clientAuth\n"
    "leaf codesign ca codesign.example DNS:codesign.example codeSigning\n"
    "leaf expired ca expired.example DNS:expired.example $both 20200101000000Z 20200201000000Z\n"
    "leaf future ca future.example DNS:future.example $both 20450101000000Z 20460101000000Z\n"
    "leaf revoked ca revoked.example DNS:revoked.example $both\n"
    "leaf stranger stranger-ca stranger.example DNS:stranger.example $both\n"
    "leaf strange-expired stranger-ca x.example DNS:x.example serverAuth 20200101000000Z "
        "20200201000000Z\n"
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \\\n"
    "  -keyout self.key -out self.crt -days 800 -subj /CN=self.example \\\n"
    "  -addext subjectAltName=DNS:self.example\n"
    "openssl genrsa -out rsa.key 2048; leaf rsa ca rsa.example DNS:rsa.example $both\n"
    "openssl genrsa -out weak.key 1024; leaf weak ca weak.example DNS:weak.example $both\n"
    "openssl ecparam -name secp384r1 -genkey -noout -out p384.key\n"
    "leaf p384 ca p384.example DNS:p384.example $both\n"
    "openssl ecparam -name prime256v1 -genkey -noout -out inter.key\n"
    "sign inter ca Intermediate 'basicConstraints=critical,CA:TRUE\\nkeyUsage=keyCertSign'\n"
    "mkdir db-inter; : > db-inter/index; echo 1000 > db-inter/serial\n"
    "leaf deep inter deep.example DNS:deep.example $both\n"
    "cat deep.crt inter.crt > deep-chain.crt; cat inter.crt deep.crt > deep-wrong-order.crt\n"
    "many=DNS:n0.example; i=1\n"
    "while [ $i -lt 300 ]; do many=$many,DNS:n$i.example; i=$((i+1)); done\n"
    "leaf many ca many.example $many $both\n"
    "export DB=db-ca\n"
    "openssl ca -config ca.cnf -cert ca.crt -keyfile ca.key -revoke revoked.crt\n"
    "openssl ca -config ca.cnf -cert ca.crt -keyfile ca.key -gencrl -crldays 3650 -out ca.crl\n"
    "openssl ca -config ca.cnf -cert ca.crt -keyfile ca.key -gencrl \\\n"
    "  -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z -out stale.crl\n"
    "{ echo '-----BEGIN CERTIFICATE-----'; echo bm90IGEgY2VydGlmaWNhdGU=;\n"
    "  echo '-----END CERTIFICATE-----'; cat ca.crt stranger-ca.crt; } > bundle.crt\n"
    "openssl pkey -in near.key -aes128 -passout pass:x -out locked.key\n"
    "openssl ec -in near.key -aes128 -passout pass:x -out locked-old.key\n"
    "cat near.key near.crt > both.pem\n"
    "echo nothing > empty.crt\n"
    /* who vouches for whom: two companies whose authorities have the same name, an intermediate one
     * that others have as well, and one that has only its name */
    "ca fab-ca; mkdir twin; (cd twin; cp ../ca.cnf .; ca fab-ca)\n"
    "cp -r twin/db-fab-ca db-twin-ca\n"
    "mv twin/fab-ca.crt twin-ca.crt; mv twin/fab-ca.key twin-ca.key\n"
    "leaf fab fab-ca fab.example DNS:fab.example $both\n"
    "leaf twin twin-ca fab.example DNS:fab.example $both\n"
    "cat ca.crt fab-ca.crt > ca-and-fab.crt\n"
    "openssl ecparam -name prime256v1 -genkey -noout -out fake.key\n"
    "sign fake stranger-ca Intermediate "
        "'basicConstraints=critical,CA:TRUE\\nkeyUsage=keyCertSign'\n"
    "cp -r db-inter db-fake; leaf forged fake forged.example DNS:forged.example $both\n"
    "cat inter.crt >> forged.crt\n"
    "ca narrow-ca 'nameConstraints=critical,permitted;DNS:inside.example'\n"
    "leaf inside narrow-ca inside.example DNS:inside.example $both\n"
    "leaf outside narrow-ca outside.example DNS:outside.example $both\n"
    "cat inside.crt narrow-ca.crt > inside-chain.crt; cp inside.key inside-chain.key\n"
    "cat ca.crt narrow-ca.crt > ca-and-narrow.crt\n"
    "openssl req -x509 -key self.key -out self-again.crt -days 800 -subj /CN=self.example \\\n"
    "  -addext subjectAltName=DNS:self.example\n"
    "cp self.key self-again.key\n"
    "pin() { openssl x509 -in $1.crt -noout -pubkey | openssl pkey -pubin -outform der \\\n"
    "  | openssl dgst -sha256 -binary >$1.hash; }\n"
    "pin self; pin far; pin expired; pin strange-expired; pin fab\n";

static char dir[] = "/tmp/test_tls.XXXXXX";
static char home[1024];
static struct tls_shared *shared;
static char err[TLS_ERROR_MAX];
static const struct tls_options plain_options;

static int
make_everything(void **state)
{
    FILE *script;
    (void)state;
    if (getcwd(home, sizeof home) == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0)
        return -1;
    script = fopen("make.sh", "w");
    if (script == NULL || fputs(make_certificates, script) < 0 || fclose(script) != 0)
        return -1;
    if (system("sh make.sh >make.log 2>&1") != 0) {
        if (system("tail -20 make.log >&2") != 0)
            return -1;
        return -1;
    }
    shared = tls_shared_open(err);
    return shared == NULL ? -1 : 0;
}

static int
remove_everything(void **state)
{
    char command[64];
    (void)state;
    tls_shared_close(shared);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return chdir(home) != 0 || system(command) != 0 ? -1 : 0;
}

static struct tls_identity *
identity(const char *name)
{
    char chain[64];
    char key[64];
    struct tls_identity *id;
    snprintf(chain, sizeof chain, "%s.crt", name);
    snprintf(key, sizeof key, "%s.key", name);
    if (strcmp(name, "deep") == 0)
        snprintf(chain, sizeof chain, "deep-chain.crt");
    id = tls_identity_load(shared, chain, key, err);
    if (id == NULL)
        fail_msg("%s", err);
    return id;
}

/* ---- a pair of sessions ---- */

struct pair {
    struct tls_trust    *trust;
    struct tls_profile  *profile[2];   /* client, server */
    struct tls_identity *id[2];
    struct tls          *tls[2];
    int                  fd[2];
    enum tls_result      result[2];
    unsigned             again[2];     /* TLS_AGAIN answers */
    const char          *sni;
    const char          *crl;
    const char          *ca;
    const char *const   *alpn[2];
    struct tls_trust    *other[4];     /* by which both judge as well */
    struct tls_options   options[2];
    struct tls_identity *second;       /* shown by the server to who asks for second.example */
};

static void
pair_step(struct pair *p, int side)
{
    if (p->result[side] == TLS_DONE || p->result[side] >= TLS_CLOSED)
        return;
    p->result[side] = tls_handshake(p->tls[side]);
    if (p->result[side] == TLS_AGAIN)
        p->again[side]++;
}

static bool
pair_is_settled(const struct pair *p)
{
    return (p->result[0] == TLS_DONE || p->result[0] >= TLS_CLOSED)
        && (p->result[1] == TLS_DONE || p->result[1] >= TLS_CLOSED);
}

static void
pair_prepare(struct pair *p, const char *client, const char *server)
{
    int side;
    size_t i;
    p->trust = tls_trust_load(p->ca == NULL ? "ca.crt" : p->ca, p->crl, err);
    assert_non_null(p->trust);
    p->id[0] = client == NULL ? NULL : identity(client);
    p->id[1] = server == NULL ? NULL : identity(server);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->fd), 0);
    for (side = 0; side < 2; side++) {
        fcntl(p->fd[side], F_SETFL, O_NONBLOCK);
        p->profile[side] = tls_profile_new(shared, side == 1, &p->options[side], p->trust,
            p->alpn[side], err);
        if (p->profile[side] == NULL)
            fail_msg("%s", err);
        if (side == 1 && p->second != NULL)
            assert_true(tls_profile_serve(p->profile[1], span_of("second.example"), p->second));
        for (i = 0; i < sizeof p->other / sizeof p->other[0] && p->other[i] != NULL; i++)
            assert_true(tls_profile_judge_by(p->profile[side], p->other[i]));
        p->tls[side] = tls_new(p->profile[side], p->id[side], side == 0 ? p->sni : NULL,
            p->fd[side]);
        assert_non_null(p->tls[side]);
        p->result[side] = TLS_WANT_READ;
    }
    /* sessions, and what holds the other, keep what they need (a reload drops its references) */
    for (side = 0; side < 2; side++) {
        tls_profile_release(p->profile[side]);
        tls_identity_release(p->id[side]);
    }
    tls_trust_release(p->trust);
}

static void
pair_open(struct pair *p, const char *client, const char *server)
{
    int turn;
    pair_prepare(p, client, server);
    for (turn = 0; turn < 100000 && !pair_is_settled(p); turn++) {
        pair_step(p, turn % 2);
        if (p->result[turn % 2] >= TLS_CLOSED && p->fd[turn % 2] >= 0) {
            close(p->fd[turn % 2]);
            p->fd[turn % 2] = -1;
        }
    }
    assert_true(pair_is_settled(p));
}

static void
pair_close(struct pair *p)
{
    int side;
    for (side = 0; side < 2; side++) {
        tls_free(p->tls[side]);
        if (p->fd[side] >= 0)
            close(p->fd[side]);
    }
}

static void
assert_up(struct pair *p)
{
    int side;
    for (side = 0; side < 2; side++)
        if (p->result[side] != TLS_DONE)
            fail_msg("side %d: %d %s", side, (int)p->result[side], tls_facts(p->tls[side])->error);
}

/* Write on one side, read on the other. */
static void
assert_carries(struct pair *p, int from, const char *text)
{
    char in[256];
    size_t put;
    size_t got;
    assert_int_equal(tls_write(p->tls[from], text, strlen(text), &put), TLS_DONE);
    assert_int_equal(put, strlen(text));
    assert_int_equal(tls_read(p->tls[1 - from], in, sizeof in, &got), TLS_WANT_READ);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(in, text, got);
}

static void
a_handshake_runs_over_a_socket_pair_and_both_sides_see_a_certificate(void **state)
{
    struct pair p = { .sni = "far.example", .options = { { .prefer = TLS_AES },
        { .prefer = TLS_AES } } };
    const struct tls_facts *f;
    (void)state;
    pair_open(&p, "near", "far");
    assert_up(&p);
    f = tls_facts(p.tls[0]);
    assert_string_equal(f->version, TLS_HAS_13 ? "TLSv1.3" : "TLSv1.2");
    assert_non_null(strstr(f->ciphersuite, "GCM"));
    assert_true(f->certificate);
    assert_int_equal(f->chain, 0);
    assert_int_equal(tls_why(f, NULL), XE_WHY_NONE);
    assert_string_equal(f->subject, "CN=far.example");
    assert_string_equal(f->not_after, "2048-01-01T00:00:00Z");
    assert_string_equal(f->sni, "far.example");
    assert_null(f->alpn);
    assert_null(f->error);
    assert_int_equal(f->alert, XE_ALERT_NONE);
    f = tls_facts(p.tls[1]);
    assert_string_equal(f->sni, "far.example");
    assert_string_equal(f->subject, "CN=near.example");
    assert_int_equal(tls_why(f, NULL), XE_WHY_NONE);
    assert_carries(&p, 0, "<stream:stream>");
    assert_carries(&p, 1, "<stream:stream id='1'>");
    assert_carries(&p, 0, "<a/>");
    pair_close(&p);
}

static void
names_of_all_three_kinds_are_found_and_others_are_not(void **state)
{
    struct pair p = { 0 };
    const struct tls_facts *f;
    (void)state;
    pair_open(&p, "near", "far");
    assert_up(&p);
    f = tls_facts(p.tls[0]);
    assert_int_equal(f->dns_count, 2);
    assert_true(span_is(f->dns[0], "far.example"));
    assert_true(span_is(f->dns[1], "*.far.example"));
    assert_int_equal(f->srv_id_count, 2);
    assert_true(span_is(f->srv_id[0], "_xmpp-server.far.example"));
    assert_true(span_is(f->srv_id[1], "_imap.far.example"));
    assert_int_equal(f->xmpp_addr_count, 1);
    assert_true(span_is(f->xmpp_addr[0], "far.example"));
    assert_null(f->sni);
    pair_close(&p);
}

static void
an_identity_tells_its_own_names(void **state)
{
    struct tls_identity *id = identity("expired");
    (void)state;
    assert_int_equal(tls_identity_facts(id)->dns_count, 1);
    assert_true(span_is(tls_identity_facts(id)->dns[0], "expired.example"));
    assert_int_equal(tls_identity_facts(id)->chain, TLS_CHAIN_EXPIRED);
    tls_identity_release(id);
}

static void
names_beyond_the_ceiling_are_left_out_and_that_is_told(void **state)
{
    struct tls_identity *id = identity("many");
    const struct tls_facts *f = tls_identity_facts(id);
    (void)state;
    assert_int_equal(f->dns_count, TLS_NAMES_MAX);
    assert_true(span_is(f->dns[255], "n255.example"));
    assert_int_equal(f->chain, TLS_CHAIN_NAMES_CUT);
    assert_int_equal(tls_why(f, NULL), XE_WHY_NONE);
    tls_identity_release(id);
}

/* The verdict is the same whether the certificate comes from a server or from a client. */
static void
the_verdict_on_a_certificate_does_not_end_the_handshake(void **state)
{
    static const struct {
        const char *name;
        const char *crl;
        unsigned client_sees;   /* TLS_CHAIN_* when the server shows it */
        unsigned server_sees;   /* when the client shows it */
        enum xe_why client_why, server_why;
    } rows[] = {
        { "near", NULL, 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "near", "ca.crl", 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "nosan", NULL, 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "rsa", NULL, 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "p384", NULL, 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "deep", NULL, 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "expired", NULL, TLS_CHAIN_EXPIRED, TLS_CHAIN_EXPIRED, XE_WHY_CERT_EXPIRED,
            XE_WHY_CERT_EXPIRED },
        { "future", NULL, TLS_CHAIN_NOT_YET, TLS_CHAIN_NOT_YET, XE_WHY_CERT_NOT_YET,
            XE_WHY_CERT_NOT_YET },
        { "revoked", "ca.crl", TLS_CHAIN_REVOKED, TLS_CHAIN_REVOKED, XE_WHY_CERT_REVOKED,
            XE_WHY_CERT_REVOKED },
        { "revoked", NULL, 0, 0, XE_WHY_NONE, XE_WHY_NONE },
        { "stranger", NULL, TLS_CHAIN_UNTRUSTED, TLS_CHAIN_UNTRUSTED, XE_WHY_CERT_UNTRUSTED,
            XE_WHY_CERT_UNTRUSTED },
        { "self", NULL, TLS_CHAIN_UNTRUSTED | TLS_CHAIN_SELF_SIGNED,
            TLS_CHAIN_UNTRUSTED | TLS_CHAIN_SELF_SIGNED, XE_WHY_CERT_UNTRUSTED,
            XE_WHY_CERT_UNTRUSTED },
        { "serveronly", NULL, TLS_CHAIN_EKU_SERVER_ONLY, TLS_CHAIN_EKU_SERVER_ONLY, XE_WHY_NONE,
            XE_WHY_NONE },
        { "near", "stale.crl", TLS_CHAIN_CRL, TLS_CHAIN_CRL, XE_WHY_CERT_INVALID,
            XE_WHY_CERT_INVALID },
        { "strange-expired", NULL,
            TLS_CHAIN_UNTRUSTED | TLS_CHAIN_EXPIRED | TLS_CHAIN_EKU_SERVER_ONLY,
            TLS_CHAIN_UNTRUSTED | TLS_CHAIN_EXPIRED | TLS_CHAIN_EKU_SERVER_ONLY,
            XE_WHY_CERT_UNTRUSTED, XE_WHY_CERT_UNTRUSTED } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pair p = { .crl = rows[i].crl, .sni = "anything.example" };
        const struct tls_facts *client;
        const struct tls_facts *server;
        pair_open(&p, rows[i].name, rows[i].name);
        if (p.result[0] != TLS_DONE || p.result[1] != TLS_DONE)
            fail_msg("%s: %s; %s", rows[i].name, tls_facts(p.tls[0])->error,
                tls_facts(p.tls[1])->error);
        client = tls_facts(p.tls[0]);
        server = tls_facts(p.tls[1]);
        if (client->chain != rows[i].client_sees || server->chain != rows[i].server_sees
            || tls_why(client, NULL) != rows[i].client_why
            || tls_why(server, NULL) != rows[i].server_why)
            fail_msg("%s: client sees %#x %s, server sees %#x %s", rows[i].name,
                (unsigned)client->chain, xe_why(tls_why(client, NULL))->word,
                (unsigned)server->chain, xe_why(tls_why(server, NULL))->word);
        assert_carries(&p, 0, "x");
        pair_close(&p);
    }
}

/* (In TLS 1.3 such a key cannot even sign.) */
static void
a_key_that_is_too_short_is_not_acceptable(void **state)
{
    struct pair p = { .options = { { .ciphersuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
        { 0 } } };
    (void)state;
    pair_open(&p, "weak", "near");
    assert_up(&p);
    assert_int_equal(tls_facts(p.tls[1])->chain, TLS_CHAIN_WEAK);
    assert_int_equal(tls_why(tls_facts(p.tls[1]), NULL), XE_WHY_CERT_WEAK);
    pair_close(&p);
}

static void
a_client_may_show_a_certificate_for_clients_but_not_one_for_neither_use(void **state)
{
    struct pair p = { 0 };
    struct pair q = { 0 };
    (void)state;
    pair_open(&p, "clientonly", "far");
    assert_up(&p);
    assert_int_equal(tls_facts(p.tls[1])->chain, 0);
    assert_int_equal(tls_why(tls_facts(p.tls[1]), NULL), XE_WHY_NONE);
    pair_close(&p);
    pair_open(&q, "codesign", "far");
    assert_up(&q);
    assert_int_equal(tls_facts(q.tls[1])->chain, TLS_CHAIN_USAGE);
    assert_int_equal(tls_why(tls_facts(q.tls[1]), NULL), XE_WHY_CERT_PURPOSE);
    pair_close(&q);
}

/* mbed TLS does not show such a certificate as a server; the operator should hear it beforehand. */
static void
an_identity_that_cannot_serve_is_marked(void **state)
{
    static const struct { const char *name; unsigned chain; } rows[] = {
        { "near", 0 }, { "clientonly", TLS_CHAIN_USAGE }, { "codesign", TLS_CHAIN_USAGE },
        { "serveronly", TLS_CHAIN_EKU_SERVER_ONLY }, { "future", TLS_CHAIN_NOT_YET } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tls_identity *id = identity(rows[i].name);
        assert_int_equal(tls_identity_facts(id)->chain, rows[i].chain);
        tls_identity_release(id);
    }
}

/* ---- with another implementation ---- */

/* Start `openssl s_server` on a socket in the file system and connect to it. */
static pid_t
openssl_server(const char *const *options, int *fd)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    const char *argv[24] = { "openssl", "s_server", "-unix", "server.sock", "-quiet", "-unlink" };
    size_t n = 6;
    int tries;
    pid_t pid;
    while (*options != NULL)
        argv[n++] = *options++;
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execvp("openssl", (char *const *)(void *)argv);
        _exit(127);
    }
    snprintf(to.sun_path, sizeof to.sun_path, "server.sock");
    *fd = socket(AF_UNIX, SOCK_STREAM, 0);
    for (tries = 0; tries < 500; tries++) {
        struct timespec pause = { 0, 10000000 };
        if (connect(*fd, (struct sockaddr *)&to, sizeof to) == 0)
            break;
        nanosleep(&pause, NULL);
    }
    fcntl(*fd, F_SETFL, O_NONBLOCK);
    return pid;
}

/* Repeat a call until it neither wants to compute nor to wait. */
static enum tls_result
settle(struct tls *t, int fd)
{
    enum tls_result r;
    while ((r = tls_handshake(t)) == TLS_AGAIN || r == TLS_WANT_READ || r == TLS_WANT_WRITE) {
        struct pollfd p = { fd, r == TLS_WANT_WRITE ? POLLOUT : POLLIN, 0 };
        if (r != TLS_AGAIN && poll(&p, 1, 5000) != 1)
            break;
    }
    return r;
}

/* What openssl says with -rev: every line reversed. */
static void
assert_reverses(struct tls *t, int fd)
{
    char in[64];
    size_t put;
    size_t have = 0;
    assert_int_equal(tls_write(t, "stanza\n", 7, &put), TLS_DONE);
    while (have < 7) {
        struct pollfd p = { fd, POLLIN, 0 };
        size_t got;
        enum tls_result r = tls_read(t, in + have, sizeof in - have, &got);
        have += got;
        if (r != TLS_WANT_READ || (have < 7 && poll(&p, 1, 5000) != 1))
            break;
    }
    assert_int_equal(have, 7);
    assert_memory_equal(in, "aznats\n", 7);
}

static void
openssl_is_understood_with_its_tickets_and_versions(void **state)
{
    static const struct { const char *chain, *key, *extra; unsigned sees; bool both; } rows[] = {
        { "far.crt", "far.key", "-tls1_2", 0, true },
        { "rsa.crt", "rsa.key", "-tls1_2", 0, true },
        { "far.crt", "far.key", "-no_comp", 0, true },
        /* -cert shows only the first of a file */
        { "deep-chain.crt", "deep.key", "-no_ticket", TLS_CHAIN_UNTRUSTED, true },
        { "rsa.crt", "rsa.key", "-no_ticket", 0, true },
        { "clientonly.crt", "clientonly.key", "-no_ticket", TLS_CHAIN_USAGE, true },
        { "far.crt", "far.key", "-tls1_1", 0, false } };
    struct tls_trust *trust = tls_trust_load("ca.crt", NULL, err);
    struct tls_profile *profile = tls_profile_new(shared, false, &plain_options, trust, NULL, err);
    struct tls_identity *near = identity("near");
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const options[] = { "-cert", rows[i].chain, "-key", rows[i].key, rows[i].extra,
            "-rev", "-verify", "5", "-CAfile", "ca.crt", NULL };
        int fd;
        pid_t pid = openssl_server(options, &fd);
        struct tls *t = tls_new(profile, near, "far.example", fd);
        enum tls_result r = settle(t, fd);
        if ((r == TLS_DONE) != rows[i].both)
            fail_msg("%s %s: %d %s", rows[i].chain, rows[i].extra, (int)r, tls_facts(t)->error);
        if (r == TLS_DONE) {
            if (tls_facts(t)->chain != rows[i].sees)
                fail_msg("%s: sees %#x", rows[i].chain, (unsigned)tls_facts(t)->chain);
            assert_reverses(t, fd);
            assert_reverses(t, fd);
            assert_int_equal(tls_close_notify(t), TLS_DONE);
        } else {
            assert_non_null(tls_facts(t)->error);
        }
        tls_free(t);
        close(fd);
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    }
    tls_profile_release(profile);
    tls_trust_release(trust);
    tls_identity_release(near);
}

static void
critical_constraints_of_an_authority_are_loaded_and_obeyed(void **state)
{
    static const char *const files[] = { "narrow-ca.crt", "ca-and-narrow.crt" };
    struct tls_identity *inside = identity("inside");
    struct tls_identity *outside = identity("outside");
    size_t i;
    (void)state;
    for (i = 0; i < 2; i++) {
        struct tls_trust *trust = tls_trust_load(files[i], NULL, err);
        mbedtls_x509_crt copy;
        mbedtls_x509_crt_init(&copy);
        assert_non_null(trust);
        assert_int_equal(trust->loaded, i + 1);
        assert_true(tls_certificates_copy(&copy, &trust->authorities));
        assert_int_equal(tls_trust_verdict(trust, inside), 0);
        assert_int_equal(tls_trust_verdict(trust, outside), TLS_CHAIN_NAMES);
        mbedtls_x509_crt_free(&copy);
        tls_trust_release(trust);
    }
    tls_identity_release(inside);
    tls_identity_release(outside);
}

static void
an_own_chain_with_a_critical_constraint_is_loaded(void **state)
{
    struct tls_identity *chained = identity("inside-chain");
    struct tls_identity *leaf = identity("inside");
    mbedtls_x509_crt copy;
    (void)state;
    mbedtls_x509_crt_init(&copy);
    assert_non_null(chained->chain.next);
    assert_true(tls_identity_constrains(chained));
    assert_false(tls_identity_constrains(leaf));
    assert_true(tls_certificates_copy(&copy, &chained->chain));
    mbedtls_x509_crt_free(&copy);
    tls_identity_release(chained);
    tls_identity_release(leaf);
}

static void
openssl_clients_of_both_versions_are_served(void **state)
{
    static const struct { const char *chain, *extra; unsigned sees; } rows[] = {
        { "near.crt", "-tls1_2", 0 }, { "rsa.crt", "-tls1_2", 0 }, { "near.crt", "-no_ticket", 0 },
        { "rsa.crt", "-no_ticket", 0 },
        { "serveronly.crt", "-no_ticket", TLS_CHAIN_EKU_SERVER_ONLY },
        { "self.crt", "-tls1_2", TLS_CHAIN_UNTRUSTED | TLS_CHAIN_SELF_SIGNED } };
    struct tls_trust *trust = tls_trust_load("ca.crt", NULL, err);
    struct tls_profile *profile = tls_profile_new(shared, true, &plain_options, trust, NULL, err);
    struct tls_identity *ids[2] = { identity("far"), identity("rsa") };
    struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "client.sock" };
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    size_t i;
    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 1), 0);
    for (i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const char *chain = rows[i / 2].chain;
        char command[256];
        char in[64];
        size_t got = 0;
        enum tls_result r;
        struct tls *t;
        FILE *client;
        int fd;
        snprintf(command, sizeof command, "(echo hello; sleep 0.3) | openssl s_client "
            "-unix client.sock -servername far.example -quiet %s -cert %s -key %.*s.key "
            ">/dev/null 2>&1",
            rows[i / 2].extra, chain, (int)strcspn(chain, "."), chain);
        client = popen(command, "w");
        fd = accept(listener, NULL, NULL);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        t = tls_new(profile, ids[i % 2], NULL, fd);
        r = settle(t, fd);
        if (r != TLS_DONE || tls_facts(t)->chain != rows[i / 2].sees)
            fail_msg("%s %s: %d %#x %s", chain, rows[i / 2].extra, (int)r,
                (unsigned)tls_facts(t)->chain, tls_facts(t)->error);
        assert_string_equal(tls_facts(t)->sni, "far.example");
        while (got == 0 && (r = tls_read(t, in, sizeof in, &got)) == TLS_WANT_READ && got == 0) {
            struct pollfd p = { fd, POLLIN, 0 };
            if (poll(&p, 1, 5000) != 1)
                break;
        }
        assert_int_equal(got, 6);
        assert_memory_equal(in, "hello\n", 6);
        tls_close_notify(t);
        tls_free(t);
        close(fd);
        pclose(client);
    }
    close(listener);
    tls_profile_release(profile);
    tls_trust_release(trust);
    tls_identity_release(ids[0]);
    tls_identity_release(ids[1]);
}

static void
a_client_without_certificate_is_let_in_and_told_apart(void **state)
{
    struct pair p = { 0 };
    (void)state;
    pair_open(&p, NULL, "far");
    assert_up(&p);
    assert_false(tls_facts(p.tls[1])->certificate);
    assert_null(tls_facts(p.tls[1])->subject);
    assert_int_equal(tls_why(tls_facts(p.tls[1]), NULL), XE_WHY_CERT_MISSING);
    assert_int_equal(tls_why(tls_facts(p.tls[0]), NULL), XE_WHY_NONE);
    assert_carries(&p, 0, "x");
    pair_close(&p);
}

static void
without_trust_every_chain_is_untrusted(void **state)
{
    struct tls_profile *profile = tls_profile_new(shared, false, &plain_options, NULL, NULL, err);
    struct pair p = { 0 };
    (void)state;
    pair_prepare(&p, NULL, "far");
    tls_free(p.tls[0]);
    p.tls[0] = tls_new(profile, NULL, NULL, p.fd[0]);
    tls_profile_release(profile);
    while (!pair_is_settled(&p)) {
        pair_step(&p, 0);
        pair_step(&p, 1);
    }
    assert_up(&p);
    assert_int_equal(tls_why(tls_facts(p.tls[0]), NULL), XE_WHY_CERT_UNTRUSTED);
    pair_close(&p);
}

static void
a_self_signed_certificate_among_the_authorities_is_trusted(void **state)
{
    struct pair p = { .ca = "self.crt" };
    (void)state;
    pair_open(&p, NULL, "self");
    assert_up(&p);
    assert_int_equal(tls_facts(p.tls[0])->chain, TLS_CHAIN_SELF_SIGNED);
    assert_int_equal(tls_why(tls_facts(p.tls[0]), NULL), XE_WHY_NONE);
    pair_close(&p);
}

static void
the_server_name_selects_the_certificate(void **state)
{
    static const struct { const char *sni, *subject; } rows[] = {
        { "second.example", "CN=second.example" }, { "far.example", "CN=far.example" },
        { "unknown.example", "CN=far.example" }, { NULL, "CN=far.example" } };
    struct tls_identity *second = identity("second");
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pair p = { .sni = rows[i].sni, .second = second };
        pair_open(&p, "near", "far");
        assert_up(&p);
        assert_string_equal(tls_facts(p.tls[0])->subject, rows[i].subject);
        assert_string_equal(tls_facts(p.tls[1])->subject, "CN=near.example");
        if (rows[i].sni == NULL)
            assert_null(tls_facts(p.tls[1])->sni);
        else
            assert_string_equal(tls_facts(p.tls[1])->sni, rows[i].sni);
        pair_close(&p);
    }
    tls_identity_release(second);
}

static void
one_profile_serves_several_identities(void **state)
{
    struct tls_identity *ids[3] = { identity("near"), identity("second"), NULL };
    struct tls_profile *profile;
    size_t i;
    (void)state;
    profile = tls_profile_new(shared, false, &plain_options, NULL, NULL, err);
    for (i = 0; i < 6; i++) {
        struct pair p = { 0 };
        pair_prepare(&p, NULL, "far");
        tls_free(p.tls[0]);
        p.tls[0] = tls_new(profile, ids[i % 3], NULL, p.fd[0]);
        while (!pair_is_settled(&p)) {
            pair_step(&p, 0);
            pair_step(&p, 1);
        }
        assert_up(&p);
        if (i % 3 == 2)
            assert_false(tls_facts(p.tls[1])->certificate);
        else
            assert_string_equal(tls_facts(p.tls[1])->subject,
                i % 3 == 0 ? "CN=near.example" : "CN=second.example");
        pair_close(&p);
    }
    tls_profile_release(profile);
    tls_identity_release(ids[0]);
    tls_identity_release(ids[1]);
}

static void
alpn_is_agreed_upon_when_both_name_it(void **state)
{
    static const char *const server[] = { "xmpp-server", NULL };
    static const char *const other[] = { "xmpp-client", "xmpp-server", NULL };
    static const char *const alien[] = { "h2", NULL };
    struct pair both = { .alpn = { other, server } };
    struct pair one = { .alpn = { NULL, server } };
    struct pair none = { .alpn = { alien, server } };
    (void)state;
    pair_open(&both, NULL, "far");
    assert_up(&both);
    assert_string_equal(tls_facts(both.tls[0])->alpn, "xmpp-server");
    assert_string_equal(tls_facts(both.tls[1])->alpn, "xmpp-server");
    pair_close(&both);
    pair_open(&one, NULL, "far");
    assert_up(&one);
    assert_null(tls_facts(one.tls[1])->alpn);
    pair_close(&one);
    pair_open(&none, NULL, "far");
    assert_int_equal(none.result[0], TLS_FAILED);
    assert_int_equal(none.result[1], TLS_FAILED);
    assert_int_equal(tls_facts(none.tls[0])->alert, XE_ALERT_NO_APPLICATION_PROTOCOL);
    assert_string_equal(tls_facts(none.tls[0])->error,
        "the other side sent the TLS alert no_application_protocol (120)");
    pair_close(&none);
}

static void
a_version_or_ciphersuite_that_does_not_match_fails_with_a_reason(void **state)
{
    struct pair p = { .options = { { .ciphersuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
        { .ciphersuites = "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384" } } };
    (void)state;
    pair_open(&p, NULL, "far");
    assert_int_equal(p.result[0], TLS_FAILED);
    assert_int_equal(p.result[1], TLS_FAILED);
    assert_int_equal(tls_facts(p.tls[0])->alert, XE_ALERT_HANDSHAKE_FAILURE);
    assert_non_null(strstr(tls_facts(p.tls[0])->error, "TLS alert handshake_failure (40)"));
    assert_non_null(tls_facts(p.tls[1])->error);
    assert_int_equal(tls_facts(p.tls[1])->alert, XE_ALERT_NONE);
    assert_false(tls_facts(p.tls[1])->certificate);
    assert_int_equal(tls_handshake(p.tls[1]), TLS_FAILED);
    pair_close(&p);
}

static void
the_configured_ciphersuite_is_used(void **state)
{
    struct pair p = { .options = { { .ciphersuites =
        " TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_CHACHA20_POLY1305_SHA256 " }, { 0 } } };
    struct pair old = { .options = { { .ciphersuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
        { 0 } } };
    (void)state;
    pair_open(&p, NULL, "far");
    assert_up(&p);
    assert_string_equal(tls_facts(p.tls[0])->ciphersuite,
        TLS_HAS_13 ? "TLS1-3-CHACHA20-POLY1305-SHA256"
        : "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256");
    pair_close(&p);
    pair_open(&old, NULL, "far");
    assert_up(&old);
    assert_string_equal(tls_facts(old.tls[1])->version, "TLSv1.2");
    assert_string_equal(tls_facts(old.tls[1])->ciphersuite,
        "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256");
    pair_close(&old);
}

static void
the_default_ciphersuites_are_aead_with_forward_secrecy(void **state)
{
    struct tls_profile *p = tls_profile_new(shared, true, &plain_options, NULL, NULL, err);
    size_t i;
    (void)state;
    assert_non_null(p);
    for (i = 0; p->suites[i] != 0; i++) {
        const char *name = mbedtls_ssl_get_ciphersuite_name(p->suites[i]);
        assert_true(strncmp(name, "TLS-ECDHE-", 10) == 0 || strncmp(name, "TLS1-3-", 7) == 0);
        assert_true(strstr(name, "GCM") != NULL || strstr(name, "CHACHA20") != NULL);
        assert_null(strstr(name, "PSK"));
    }
    assert_true(i >= 6);
    tls_profile_release(p);
}

/* Where a cipher stands among the suites: the place of its first, and of its last. */
static void
find_cipher(const struct tls_profile *p, const char *word, size_t *first, size_t *last)
{
    size_t i;
    *first = SIZE_MAX;
    for (i = 0; p->suites[i] != 0; i++) {
        if (strstr(mbedtls_ssl_get_ciphersuite_name(p->suites[i]), word) == NULL)
            continue;
        *first = *first == SIZE_MAX ? i : *first;
        *last = i;
    }
    assert_int_not_equal(*first, SIZE_MAX);
}

static void
the_preferred_cipher_comes_first_and_of_aes_the_longer_key(void **state)
{
    size_t first[3];
    size_t last[3];
    int prefer;
    (void)state;
    for (prefer = TLS_AES; prefer <= TLS_CHACHA; prefer++) {
        struct tls_options options = { .prefer = (enum tls_prefer)prefer };
        struct tls_profile *p = tls_profile_new(shared, true, &options, NULL, NULL, err);
        assert_non_null(p);
        find_cipher(p, "-AES-", &first[TLS_AES], &last[TLS_AES]);
        find_cipher(p, "-CHACHA20-", &first[TLS_CHACHA], &last[TLS_CHACHA]);
        assert_int_equal(first[prefer], 0);
        assert_int_equal(first[TLS_AES + TLS_CHACHA - prefer], last[prefer] + 1);
        find_cipher(p, "ECDSA-WITH-AES-256-", &first[0], &last[0]);
        find_cipher(p, "ECDSA-WITH-AES-128-", &first[1], &last[1]);
        assert_true(last[0] < first[1]);
        tls_profile_release(p);
    }
}

static void
the_preferred_cipher_is_what_two_sides_agree_on(void **state)
{
    int prefer;
    (void)state;
    for (prefer = TLS_AES; prefer <= TLS_CHACHA; prefer++) {
        struct pair p = { .options = { { .prefer = (enum tls_prefer)prefer },
            { .prefer = (enum tls_prefer)prefer } } };
        pair_open(&p, NULL, "far");
        assert_up(&p);
        assert_non_null(strstr(tls_facts(p.tls[1])->ciphersuite,
            prefer == TLS_AES ? "-AES-256-GCM-" : "-CHACHA20-POLY1305-"));
        pair_close(&p);
    }
}

static void
what_costs_less_by_a_margin_is_preferred(void **state)
{
    static const struct { struct tls_paces paces; enum tls_prefer prefer; } rows[] = {
        { { 100, 90 }, TLS_CHACHA }, { { 100, 94 }, TLS_CHACHA }, { { 100, 95 }, TLS_AES },
        { { 100, 100 }, TLS_AES }, { { 90, 100 }, TLS_AES },
        { { 100, 0 }, TLS_AES }, { { 0, 100 }, TLS_CHACHA }, { { 0, 0 }, TLS_AES } };
    struct buf out = { .max = 200 };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(tls_paces_prefer(&rows[i].paces), rows[i].prefer);
    tls_paces_put(&out, &(struct tls_paces){ 200, 100 });
    assert_string_equal(buf_text(&out),
        "prefers ChaCha20-Poly1305 (327 MB/s) to AES-GCM (163 MB/s)");
    buf_clear(&out);
    tls_paces_put(&out, &(struct tls_paces){ 100, 0 });
    assert_string_equal(buf_text(&out), "prefers AES-GCM (327 MB/s)");
    buf_free(&out);
}

/* Both are here, and neither is free; what is measured stays so. */
static void
ciphers_are_measured_once(void **state)
{
    struct tls_paces before = *tls_paces();
    (void)state;
    assert_true(before.aes > 1);
    assert_true(before.chacha > 1);
    assert_int_equal(tls_pace_measure(MBEDTLS_CIPHER_NONE), 0);
    assert_memory_equal(tls_paces(), &before, sizeof before);
}

static void
bad_options_are_refused_in_words(void **state)
{
    static const struct { struct tls_options o; const char *text; } rows[] = {
        { { .ciphersuites = "RUBBISH" }, "unknown ciphersuite \"RUBBISH\"" },
        { { .ciphersuites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, X" },
            "unknown ciphersuite \"X\"" },
        { { .ciphersuites = "" }, "no ciphersuite is left for the permitted TLS versions" },
        { { .keylog_file = "/nowhere/keys" },
            "key log /nowhere/keys: No such file or directory" } };
    struct tls_options modern = { .only_13 = true };
    struct tls_profile *p;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_null(tls_profile_new(shared, true, &rows[i].o, NULL, NULL, err));
        assert_string_equal(err, rows[i].text);
    }
    p = tls_profile_new(shared, true, &modern, NULL, NULL, err);
    if (!TLS_HAS_13)
        assert_string_equal(err, "this build of mbed TLS has no TLS 1.3");
    else
        assert_non_null(p);
    tls_profile_release(p);
}

static void
files_that_do_not_do_are_refused_in_words(void **state)
{
    (void)state;
    assert_null(tls_identity_load(shared, "none.crt", "near.key", err));
    assert_string_equal(err, "certificate none.crt: No such file or directory");
    assert_null(tls_identity_load(shared, "near.crt", "none.key", err));
    assert_string_equal(err, "private key none.key: No such file or directory");
    assert_null(tls_identity_load(shared, "near.crt", "far.key", err));
    assert_string_equal(err, "the private key far.key does not belong to the certificate near.crt");
    assert_null(tls_identity_load(shared, "deep-wrong-order.crt", "deep.key", err));
    assert_string_equal(err,
        "the certificate of the private key deep.key must come first in deep-wrong-order.crt");
    assert_null(tls_identity_load(shared, "empty.crt", "near.key", err));
    assert_non_null(strstr(err, "certificate empty.crt: "));
    assert_null(tls_identity_load(shared, "near.crt", "near.crt", err));
    assert_string_equal(err,
        "private key near.crt: this is a certificate: are chain and key swapped?");
    assert_null(tls_identity_load(shared, "near.key", "near.crt", err));
    assert_string_equal(err,
        "certificate near.key: this is a private key: are chain and key swapped?");
    assert_null(tls_identity_load(shared, "bundle.crt", "near.key", err));
    assert_int_equal(strncmp(err, "certificate bundle.crt: ", 24), 0);
    assert_null(tls_trust_load("none.crt", NULL, err));
    assert_string_equal(err, "authorities none.crt: No such file or directory");
    assert_null(tls_trust_load("empty.crt", NULL, err));
    assert_non_null(strstr(err, "authorities empty.crt: "));
    assert_null(tls_trust_load("ca.crt", "none.crl", err));
    assert_string_equal(err, "revocation list none.crl: No such file or directory");
    assert_null(tls_trust_load("ca.crt", "empty.crt", err));
    assert_non_null(strstr(err, "revocation list empty.crt: "));
}

static void
keys_with_a_password_and_keys_beside_their_certificate(void **state)
{
    struct tls_identity *id = tls_identity_load(shared, "both.pem", "both.pem", err);
    (void)state;
    assert_non_null(id);
    tls_identity_release(id);
    assert_null(tls_identity_load(shared, "near.crt", "locked.key", err));
    assert_string_equal(err,
        "private key locked.key: encrypted private keys are not supported; remove the password");
    assert_null(tls_identity_load(shared, "near.crt", "locked-old.key", err));
    assert_string_equal(err, "private key locked-old.key: encrypted private keys are not "
        "supported; remove the password");
}

static void
our_own_chain_is_judged_by_a_trust(void **state)
{
    static const struct { const char *name, *ca, *crl; unsigned bits; } cases[] = {
        { "near", "ca.crt", NULL, 0 }, { "near", "bundle.crt", NULL, 0 },
        { "serveronly", "ca.crt", NULL, 0 }, { "near", "ca.crt", "ca.crl", 0 },
        { "near", "stranger-ca.crt", NULL, TLS_CHAIN_UNTRUSTED },
        { "self", "ca.crt", NULL, TLS_CHAIN_UNTRUSTED },
        { "expired", "ca.crt", NULL, TLS_CHAIN_EXPIRED },
        { "revoked", "ca.crt", "ca.crl", TLS_CHAIN_REVOKED },
        { "near", "ca.crt", "stale.crl", TLS_CHAIN_CRL } };
    char crt[64], key[64];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tls_identity *id;
        struct tls_trust *trust = tls_trust_load(cases[i].ca, cases[i].crl, err);
        snprintf(crt, sizeof crt, "%s.crt", cases[i].name);
        snprintf(key, sizeof key, "%s.key", cases[i].name);
        id = tls_identity_load(shared, crt, key, err);
        assert_non_null(trust);
        assert_non_null(id);
        assert_int_equal(tls_trust_verdict(trust, id), cases[i].bits);
        tls_identity_release(id);
        tls_trust_release(trust);
    }
}

static void
a_bundle_with_unreadable_entries_is_used(void **state)
{
    struct tls_trust *t = tls_trust_load("bundle.crt", NULL, err);
    (void)state;
    assert_non_null(t);
    assert_int_equal(t->loaded, 2);
    tls_trust_release(t);
}

static void
close_notify_and_a_cut_connection_are_told_apart(void **state)
{
    char in[64];
    size_t got;
    size_t put;
    struct pair p = { 0 };
    struct pair q = { 0 };
    (void)state;
    pair_open(&p, NULL, "far");
    assert_int_equal(tls_write(p.tls[0], "last words", 10, &put), TLS_DONE);
    assert_int_equal(tls_close_notify(p.tls[0]), TLS_DONE);
    assert_int_equal(tls_close_notify(p.tls[0]), TLS_DONE);
    assert_int_equal(tls_read(p.tls[1], in, sizeof in, &got), TLS_CLOSED);
    assert_int_equal(got, 10);
    assert_int_equal(tls_read(p.tls[1], in, sizeof in, &got), TLS_CLOSED);
    assert_int_equal(got, 0);
    assert_null(tls_facts(p.tls[1])->error);
    pair_close(&p);
    pair_open(&q, NULL, "far");
    assert_int_equal(tls_write(q.tls[0], "last words", 10, &put), TLS_DONE);
    close(q.fd[0]);
    q.fd[0] = -1;
    assert_int_equal(tls_read(q.tls[1], in, sizeof in, &got), TLS_LOST);
    assert_int_equal(got, 10);
    assert_int_equal(tls_read(q.tls[1], in, sizeof in, &got), TLS_LOST);
    assert_int_equal(tls_write(q.tls[1], "x", 1, &put), TLS_LOST);
    assert_int_equal(tls_close_notify(q.tls[1]), TLS_DONE);
    assert_string_equal(tls_facts(q.tls[1])->error,
        "the connection was lost without a TLS close_notify");
    pair_close(&q);
}

/* Whoever writes to a peer that is gone finds out, and can still read why it went. */
static void
an_alert_is_read_behind_a_reset(void **state)
{
    char in[64];
    size_t got;
    size_t put;
    struct pair p = { 0 };
    (void)state;
    pair_open(&p, NULL, "far");
    assert_int_equal(tls_write(p.tls[1], "last words", 10, &put), TLS_DONE);
    assert_int_equal(mbedtls_ssl_send_alert_message(&p.tls[1]->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
        XE_ALERT_CERTIFICATE_EXPIRED), 0);
    close(p.fd[1]);
    p.fd[1] = -1;
    assert_int_equal(tls_write(p.tls[0], "x", 1, &put), TLS_LOST);
    assert_int_equal(tls_write(p.tls[0], "x", 1, &put), TLS_LOST);
    assert_int_equal(tls_close_notify(p.tls[0]), TLS_DONE);
    assert_int_equal(tls_read(p.tls[0], in, sizeof in, &got), TLS_FAILED);
    assert_int_equal(got, 10);
    assert_int_equal(tls_facts(p.tls[0])->alert, XE_ALERT_CERTIFICATE_EXPIRED);
    pair_close(&p);
}

/* The same while a handshake goes on: up to TLS 1.2 the alert is in the clear. */
static void
an_alert_is_read_behind_a_reset_in_a_handshake(void **state)
{
    static const char alert[] = "\x15\x03\x03\x00\x02\x02\x2a";
    struct pair p = { 0 };
    (void)state;
    pair_prepare(&p, NULL, "far");
    assert_int_equal(write(p.fd[1], alert, 7), 7);
    close(p.fd[1]);
    p.fd[1] = -1;
    while ((p.result[0] = tls_handshake(p.tls[0])) == TLS_AGAIN)
        continue;
    assert_int_equal(p.result[0], TLS_FAILED);
    assert_int_equal(tls_facts(p.tls[0])->alert, XE_ALERT_BAD_CERTIFICATE);
    assert_string_equal(tls_facts(p.tls[0])->error,
        "the other side sent the TLS alert bad_certificate (42)");
    pair_close(&p);
}

static void
a_connection_lost_during_the_handshake_is_told(void **state)
{
    struct pair p = { .sni = "far.example" };
    int side;
    (void)state;
    pair_prepare(&p, NULL, "far");
    /* a ClientHello goes out and is answered, then the client is gone */
    for (side = 0; side < 2; side++) {
        while ((p.result[side] = tls_handshake(p.tls[side])) == TLS_AGAIN)
            continue;
        assert_int_equal(p.result[side], TLS_WANT_READ);
    }
    close(p.fd[0]);
    p.fd[0] = -1;
    while ((p.result[1] = tls_handshake(p.tls[1])) == TLS_AGAIN)
        continue;
    assert_int_equal(p.result[1], TLS_LOST);
    assert_string_equal(tls_facts(p.tls[1])->error,
        "the connection was lost during the TLS handshake");
    assert_string_equal(tls_facts(p.tls[1])->sni, "far.example");
    pair_close(&p);
}

static void
plain_text_instead_of_tls_fails_with_a_reason(void **state)
{
    struct pair p = { 0 };
    (void)state;
    pair_prepare(&p, NULL, "far");
    assert_int_equal(write(p.fd[0], "<stream:stream to='far.example'>", 32), 32);
    assert_int_equal(tls_handshake(p.tls[1]), TLS_FAILED);
    assert_non_null(strstr(tls_facts(p.tls[1])->error, "-0x"));
    assert_int_equal(tls_handshake(p.tls[1]), TLS_FAILED);
    pair_close(&p);
}

static void
damaged_records_end_the_session(void **state)
{
    struct pair p = { 0 };
    char in[64];
    unsigned char record[64];
    size_t got;
    size_t put;
    ssize_t n;
    (void)state;
    pair_open(&p, NULL, "far");
    assert_int_equal(tls_write(p.tls[0], "abc", 3, &put), TLS_DONE);
    n = read(p.fd[1], record, sizeof record);
    assert_true(n > 10);
    record[n - 1] ^= 1;
    assert_int_equal(write(p.fd[0], record, (size_t)n), n);
    assert_int_equal(tls_read(p.tls[1], in, sizeof in, &got), TLS_FAILED);
    assert_int_equal(got, 0);
    assert_non_null(tls_facts(p.tls[1])->error);
    assert_int_equal(tls_write(p.tls[1], "x", 1, &put), TLS_FAILED);
    pair_close(&p);
}

/* Both directions at once, patterns that show a lost or doubled byte. */
static void
assert_bulk(struct pair *p, size_t total, size_t chunk)
{
    size_t sent[2] = { 0, 0 };
    size_t seen[2] = { 0, 0 };
    size_t retry[2] = { 0, 0 };
    char *out = malloc(chunk);
    char in[5000];
    unsigned long turn = 0;
    while ((seen[0] < total || seen[1] < total) && ++turn < 100000000) {
        int side = (int)(turn % 2);
        size_t left = total - sent[side] < chunk ? total - sent[side] : chunk;
        size_t put = 0;
        size_t got = 0;
        size_t i;
        enum tls_result r;
        /* after WANT_WRITE the same bytes come again, often with more behind them */
        if (retry[side] > 0 && turn % 3 == 0)
            left = retry[side];
        for (i = 0; i < left; i++)
            out[i] = (char)((sent[side] + i) * 31 + (sent[side] + i) / 251);
        if (left > 0) {
            r = tls_write(p->tls[side], out, left, &put);
            assert_true(r == TLS_DONE || r == TLS_WANT_WRITE);
            assert_true(r == TLS_DONE ? put > 0 && put <= left : put == 0);
            retry[side] = r == TLS_DONE ? 0 : retry[side] > 0 ? retry[side] : left;
            sent[side] += put;
        }
        r = tls_read(p->tls[side], in, 1 + turn % sizeof in, &got);
        assert_true(r == TLS_DONE || r == TLS_WANT_READ);
        if (r == TLS_WANT_READ)
            assert_int_equal(mbedtls_ssl_get_bytes_avail(&p->tls[side]->ssl), 0);
        for (i = 0; i < got; i++)
            if (in[i] != (char)((seen[side] + i) * 31 + (seen[side] + i) / 251))
                fail_msg("byte %zu of side %d is wrong", seen[side] + i, side);
        seen[side] += got;
    }
    assert_int_equal(seen[0], total);
    assert_int_equal(seen[1], total);
    free(out);
}

static void
big_transfers_arrive_whole_through_small_socket_buffers(void **state)
{
    struct pair p = { 0 };
    int small = 1;   /* the system rounds it up to its minimum */
    int side;
    (void)state;
    pair_prepare(&p, "near", "far");
    for (side = 0; side < 2; side++) {
        setsockopt(p.fd[side], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        setsockopt(p.fd[side], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    while (!pair_is_settled(&p)) {
        pair_step(&p, 0);
        pair_step(&p, 1);
    }
    assert_up(&p);
    assert_bulk(&p, 3000000, 40000);
    pair_close(&p);
}

static void
one_byte_at_a_time_with_refusals_arrives_whole(void **state)
{
    struct pair p = { .sni = "far.example" };
    (void)state;
    test_piece = 1;
    test_refuse = 3;
    pair_open(&p, "near", "far");
    assert_up(&p);
    assert_bulk(&p, 40000, 20000);
    while (tls_close_notify(p.tls[0]) == TLS_WANT_WRITE)
        continue;
    test_piece = 0;
    test_refuse = 0;
    {
        char in[8];
        size_t got;
        assert_int_equal(tls_read(p.tls[1], in, sizeof in, &got), TLS_CLOSED);
    }
    pair_close(&p);
}

static void
close_notify_behind_an_unfinished_record_is_sent_after_it(void **state)
{
    struct pair p = { 0 };
    char out[100];
    char in[200];
    size_t put;
    size_t got;
    (void)state;
    memset(out, 'x', sizeof out);
    pair_open(&p, NULL, "far");
    test_refuse = 1;
    assert_int_equal(tls_write(p.tls[0], out, sizeof out, &put), TLS_WANT_WRITE);
    assert_int_equal(tls_close_notify(p.tls[0]), TLS_WANT_WRITE);
    test_refuse = 0;
    assert_int_equal(tls_close_notify(p.tls[0]), TLS_DONE);
    assert_int_equal(tls_read(p.tls[1], in, sizeof in, &got), TLS_CLOSED);
    assert_int_equal(got, sizeof out);
    pair_close(&p);
}

static void
a_handshake_yields_between_its_expensive_steps(void **state)
{
    struct pair p = { 0 };
    (void)state;
    pair_open(&p, "rsa", "rsa");
    assert_up(&p);
    assert_true(p.again[0] + p.again[1] > 0);
    pair_close(&p);
}

static void
pending_tells_what_the_descriptor_does_not_show(void **state)
{
    struct pair p = { 0 };
    char in[64];
    size_t put;
    size_t got;
    (void)state;
    pair_open(&p, NULL, "far");
    assert_int_equal(tls_write(p.tls[0], "0123456789", 10, &put), TLS_DONE);
    assert_int_equal(tls_read(p.tls[1], in, 4, &got), TLS_DONE);
    assert_int_equal(got, 4);
    assert_int_equal(mbedtls_ssl_get_bytes_avail(&p.tls[1]->ssl), 6);
    assert_int_equal(tls_read(p.tls[1], in, 64, &got), TLS_WANT_READ);
    assert_int_equal(got, 6);
    assert_int_equal(mbedtls_ssl_get_bytes_avail(&p.tls[1]->ssl), 0);
    pair_close(&p);
}

static size_t
count_lines(const char *file, const char *label, size_t secret)
{
    FILE *f = fopen(file, "r");
    char line[512];
    size_t count = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, label, strlen(label)) == 0 && line[strlen(label)] == ' ') {
            assert_int_equal(strlen(line), strlen(label) + 1 + 64 + 1 + 2 * secret + 1);
            count++;
        }
    fclose(f);
    return count;
}

static void
the_key_log_has_the_lines_wireshark_wants(void **state)
{
    struct pair p = { .options = { { .keylog_file = "keys" }, { 0 } } };
    struct pair old = { .options = { { .keylog_file = "keys12",
        .ciphersuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" }, { 0 } } };
    struct stat st;
    (void)state;
    pair_open(&old, NULL, "far");
    assert_up(&old);
    pair_close(&old);
    assert_int_equal(count_lines("keys12", "CLIENT_RANDOM", 48), 1);
    pair_open(&p, NULL, "far");
    assert_up(&p);
    if (TLS_HAS_13) {
        size_t n = strstr(tls_facts(p.tls[0])->ciphersuite, "SHA384") != NULL ? 48 : 32;
        assert_int_equal(count_lines("keys", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", n), 1);
        assert_int_equal(count_lines("keys", "SERVER_HANDSHAKE_TRAFFIC_SECRET", n), 1);
        assert_int_equal(count_lines("keys", "CLIENT_TRAFFIC_SECRET_0", n), 1);
        assert_int_equal(count_lines("keys", "SERVER_TRAFFIC_SECRET_0", n), 1);
    } else {
        assert_int_equal(count_lines("keys", "CLIENT_RANDOM", 48), 1);
    }
    pair_close(&p);
    assert_int_equal(stat("keys", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* ---- who vouches for whom ---- */

static struct tls_trust *
store(const char *ca, const char *crl)
{
    struct tls_trust *trust = tls_trust_load(ca, crl, err);
    if (trust == NULL)
        fail_msg("%s", err);
    return trust;
}

static void
read_pin(const char *name, unsigned char pin[TLS_HASH_LEN])
{
    char file[64];
    FILE *in;
    snprintf(file, sizeof file, "%s.hash", name);
    in = fopen(file, "rb");
    assert_non_null(in);
    assert_int_equal(fread(pin, 1, TLS_HASH_LEN, in), TLS_HASH_LEN);
    fclose(in);
}

/* Whoever is client or server: what each sees of the other's `name` under the rule. */
static void
assert_rule(const char *name, struct tls_trust *const other[4], const struct tls_rule *rule,
    enum xe_why why)
{
    struct pair p = { .other = { other[0], other[1], other[2], other[3] } };
    int side;
    pair_open(&p, name, name);
    assert_up(&p);
    for (side = 0; side < 2; side++)
        if (tls_why(tls_facts(p.tls[side]), rule) != why)
            fail_msg("%s, side %d: %s instead of %s", name, side,
                xe_why(tls_why(tls_facts(p.tls[side]), rule))->word, xe_why(why)->word);
    assert_carries(&p, 0, "x");
    pair_close(&p);
}

static void
each_domain_is_vouched_for_by_its_own_store(void **state)
{
    enum { COMMON, FAB, TWIN, INTER };
    struct tls_trust *stores[] = { store("ca.crt", NULL), store("fab-ca.crt", NULL),
        store("twin-ca.crt", NULL), store("inter.crt", NULL) };
    static const struct { const char *name; int by; enum xe_why why; } rows[] = {
        { "far", COMMON, XE_WHY_NONE }, { "far", FAB, XE_WHY_CERT_NOT_FOR_PARTNER },
        { "far", INTER, XE_WHY_CERT_NOT_FOR_PARTNER },
        { "fab", COMMON, XE_WHY_CERT_UNTRUSTED }, { "fab", FAB, XE_WHY_NONE },
        { "fab", TWIN, XE_WHY_CERT_NOT_FOR_PARTNER }, { "twin", TWIN, XE_WHY_NONE },
        { "twin", FAB, XE_WHY_CERT_NOT_FOR_PARTNER }, { "twin", COMMON, XE_WHY_CERT_UNTRUSTED },
        { "deep", COMMON, XE_WHY_NONE }, { "deep", INTER, XE_WHY_NONE },
        { "deep", FAB, XE_WHY_CERT_NOT_FOR_PARTNER },
        { "forged", COMMON, XE_WHY_CERT_UNTRUSTED }, { "forged", INTER, XE_WHY_CERT_UNTRUSTED },
        { "stranger", COMMON, XE_WHY_CERT_UNTRUSTED }, { "stranger", FAB, XE_WHY_CERT_UNTRUSTED },
        { "expired", COMMON, XE_WHY_CERT_EXPIRED },
        { "expired", TWIN, XE_WHY_CERT_NOT_FOR_PARTNER } };
    struct tls_trust *const others[4] = { stores[FAB], stores[TWIN], stores[INTER], NULL };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tls_rule rule = { .trust = stores[rows[i].by], .own = rows[i].by != COMMON };
        assert_rule(rows[i].name, others, &rule, rows[i].why);
    }
    for (i = 0; i < sizeof stores / sizeof stores[0]; i++)
        tls_trust_release(stores[i]);
}

/* What a session has learnt outlives the stores that it was learnt by. */
static void
after_a_reload_a_store_vouches_that_holds_the_same_authority(void **state)
{
    static const struct { const char *ca, *crl; enum xe_why why; } rows[] = {
        { "ca.crt", NULL, XE_WHY_NONE }, { "ca-and-fab.crt", NULL, XE_WHY_NONE },
        { "fab-ca.crt", NULL, XE_WHY_CERT_UNTRUSTED },
        { "twin-ca.crt", NULL, XE_WHY_CERT_UNTRUSTED },
        { "ca.crt", "ca.crl", XE_WHY_CERT_UNTRUSTED },   /* nobody has looked at that list */
        { "inter.crt", NULL, XE_WHY_CERT_UNTRUSTED } };
    struct pair p = { 0 };
    struct pair q = { .crl = "ca.crl" };
    size_t i;
    (void)state;
    pair_open(&p, "deep", "far");
    pair_open(&q, "far", "far");
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tls_rule rule = { .trust = store(rows[i].ca, rows[i].crl) };
        assert_int_equal(tls_why(tls_facts(p.tls[0]), &rule), rows[i].why);
        assert_int_equal(tls_why(tls_facts(p.tls[1]), &rule), rows[i].why);
        if (rows[i].crl != NULL)
            assert_int_equal(tls_why(tls_facts(q.tls[0]), &rule), XE_WHY_NONE);
        tls_trust_release((struct tls_trust *)(uintptr_t)rule.trust);
    }
    pair_close(&p);
    pair_close(&q);
}

static void
a_pin_takes_the_place_of_the_common_authorities_and_is_needed_beside_own_ones(void **state)
{
    struct tls_trust *common = store("ca.crt", NULL);
    struct tls_trust *fab = store("fab-ca.crt", NULL);
    struct tls_trust *const others[4] = { fab, NULL, NULL, NULL };
    const struct {
        const char *name, *pin, *pin_2;
        struct tls_trust *own;
        enum xe_why why;
    } rows[] = {
        { "self", "self", NULL, NULL, XE_WHY_NONE },
        { "self-again", "self", NULL, NULL, XE_WHY_NONE },   /* another certificate, the same key */
        { "self", "far", "self", NULL, XE_WHY_NONE },
        { "self", "far", NULL, NULL, XE_WHY_CERT_PIN },
        { "far", "far", NULL, NULL, XE_WHY_NONE },
        { "far", "self", NULL, NULL, XE_WHY_CERT_PIN },
        { "fab", "fab", NULL, NULL, XE_WHY_NONE },
        { "expired", "expired", NULL, NULL, XE_WHY_CERT_EXPIRED },
        { "strange-expired", "strange-expired", NULL, NULL, XE_WHY_CERT_EXPIRED },
        { "fab", "fab", NULL, fab, XE_WHY_NONE },
        { "fab", "far", NULL, fab, XE_WHY_CERT_PIN },
        { "far", "far", NULL, fab, XE_WHY_CERT_NOT_FOR_PARTNER },
        { "self", "self", NULL, fab, XE_WHY_CERT_UNTRUSTED } };
    unsigned char pins[2][TLS_HASH_LEN];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tls_rule rule = { .trust = rows[i].own != NULL ? rows[i].own : common,
            .own = rows[i].own != NULL, .pins = (const unsigned char (*)[TLS_HASH_LEN])pins,
            .pins_count = rows[i].pin_2 != NULL ? 2 : 1 };
        read_pin(rows[i].pin, pins[0]);
        if (rows[i].pin_2 != NULL)
            read_pin(rows[i].pin_2, pins[1]);
        assert_rule(rows[i].name, others, &rule, rows[i].why);
    }
    tls_trust_release(common);
    tls_trust_release(fab);
}

static void
a_certificate_revoked_by_the_common_lists_is_no_good_with_a_pin(void **state)
{
    struct pair p = { .crl = "ca.crl" };
    struct tls_rule rule = { .trust = store("ca.crt", "ca.crl"), .pins_count = 1 };
    unsigned char pin[1][TLS_HASH_LEN];
    (void)state;
    pair_open(&p, "revoked", "far");
    memcpy(pin[0], tls_facts(p.tls[1])->key, TLS_HASH_LEN);
    rule.pins = (const unsigned char (*)[TLS_HASH_LEN])pin;
    assert_int_equal(tls_why(tls_facts(p.tls[1]), &rule), XE_WHY_CERT_REVOKED);
    pair_close(&p);
    tls_trust_release((struct tls_trust *)(uintptr_t)rule.trust);
}

static void
pins_are_read_in_base64_and_in_hexadecimal_and_nothing_else(void **state)
{
    static const char base64[] = "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    static const char *const good[] = { base64,
        "sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "sha256:000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F" };
    static const char *const bad[] = { "", "sha256:", "sha256", "sha1:AAECAwQFBgcICQoLDA0ODxAREhM=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",
        "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIA==",
        "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka-xwdHh8=",
        "sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g",
        "sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1",
        "sha256:00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15" };
    unsigned char pin[TLS_HASH_LEN];
    char text[TLS_PIN_MAX];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(tls_pin_parse(span_of(good[i]), pin));
        assert_string_equal(tls_pin_text(pin, text), base64);
    }
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (tls_pin_parse(span_of(bad[i]), pin))
            fail_msg("read: %s", bad[i]);
}

static void
random_bytes_are_others_each_time(void **state)
{
    static unsigned char a[1000], b[1000];
    (void)state;
    assert_true(tls_random(shared, a, sizeof a));
    assert_true(tls_random(shared, b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a + 900, b + 900, 100);
}

static void
an_impossible_server_name_is_refused_before_connecting(void **state)
{
    struct tls_profile *p = tls_profile_new(shared, false, &plain_options, NULL, NULL, err);
    char name[400];
    (void)state;
    memset(name, 'a', sizeof name);
    name[399] = '\0';
    assert_null(tls_new(p, NULL, name, -1));
    tls_profile_release(p);
}

static void
the_calendar_is_counted_in_seconds(void **state)
{
    static const struct { mbedtls_x509_time when; int64_t seconds; } cases[] = {
        { { 1970, 1, 1, 0, 0, 0 }, 0 },
        { { 2000, 2, 29, 0, 0, 0 }, INT64_C(951782400) },
        { { 2024, 2, 28, 23, 59, 59 }, INT64_C(1709164799) },
        { { 2026, 12, 31, 23, 59, 59 }, INT64_C(1798761599) },
        { { 2100, 3, 1, 0, 0, 0 }, INT64_C(4107542400) },
        { { 9999, 12, 31, 23, 59, 59 }, INT64_C(253402300799) },
        { { 1950, 1, 1, 0, 0, 0 }, INT64_C(-631152000) } };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(tls_time_seconds(&cases[i].when) == cases[i].seconds);
}

static void
chain_bits_are_words_in_the_log(void **state)
{
    char out[128];
    (void)state;
    assert_string_equal(tls_chain_text(0, out), "");
    assert_string_equal(tls_chain_text(TLS_CHAIN_UNTRUSTED | TLS_CHAIN_SELF_SIGNED, out),
        "untrusted,self-signed");
    assert_string_equal(tls_chain_text(0xfff, out), "expired,not-yet-valid,untrusted,revoked,"
        "weak,usage,crl,other,names,self-signed,eku-server-only,names-cut");
}

/* Everything from loading to the end of a handshake, its n-th allocation failing, for every n. */
static bool
runs_with_one_failure(unsigned fails_at)
{
    struct tls_trust *trust = NULL;
    struct tls_profile *profile[2] = { NULL, NULL };
    struct tls_identity *id[2] = { NULL, NULL };
    struct pair p = { .fd = { -1, -1 }, .result = { TLS_WANT_READ, TLS_WANT_READ } };
    bool good;
    int side;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p.fd), 0);
    test_allocations = 0;
    test_fails_at = fails_at;
    trust = tls_trust_load("ca.crt", NULL, err);
    id[0] = tls_identity_load(shared, "near.crt", "near.key", err);
    id[1] = tls_identity_load(shared, "far.crt", "far.key", err);
    for (side = 0; side < 2; side++) {
        fcntl(p.fd[side], F_SETFL, O_NONBLOCK);
        profile[side] = tls_profile_new(shared, side == 1, &plain_options, trust, NULL, err);
        if (profile[side] != NULL)
            p.tls[side] = tls_new(profile[side], id[side], side == 0 ? "far.example" : NULL,
                p.fd[side]);
    }
    good = trust != NULL && id[0] != NULL && id[1] != NULL && p.tls[0] != NULL && p.tls[1] != NULL;
    while (good && !pair_is_settled(&p)) {
        pair_step(&p, 0);
        pair_step(&p, 1);
        good = p.result[0] < TLS_CLOSED && p.result[1] < TLS_CLOSED;
    }
    for (side = 0; side < 2; side++)
        if (p.tls[side] != NULL && p.result[side] >= TLS_CLOSED)
            assert_int_equal(tls_handshake(p.tls[side]), p.result[side]);
    test_fails_at = 0;
    pair_close(&p);
    for (side = 0; side < 2; side++) {
        tls_profile_release(profile[side]);
        tls_identity_release(id[side]);
    }
    tls_trust_release(trust);
    return good;
}

static void
running_out_of_memory_at_any_point_is_survived(void **state)
{
    unsigned n = 1;
    (void)state;
    while (!runs_with_one_failure(n))
        n++;
    assert_true(n > 10 && n == test_allocations + 1);
}

static void
an_odd_server_name_counts_as_none(void **state)
{
    struct pair p = { .sni = "b\xc3\xbc" "cher.example" };
    (void)state;
    pair_open(&p, NULL, "far");
    assert_up(&p);
    assert_null(tls_facts(p.tls[1])->sni);
    assert_string_equal(tls_facts(p.tls[0])->subject, "CN=far.example");
    pair_close(&p);
}

/* ---- names in hostile certificates ---- */

/* The raw SAN parser over every truncation and every single damaged byte of real extensions. */
static void
damaged_name_lists_are_survived(void **state)
{
    struct tls_identity *id = identity("far");
    size_t len = id->chain.v3_ext.len;
    size_t cut;
    (void)state;
    for (cut = 0; cut <= len; cut++) {
        unsigned char *copy = malloc(cut + 1);   /* exact: the sanitizer sees a step beyond */
        unsigned char *exact = realloc(copy, cut > 0 ? cut : 1);
        struct xe_span names[8];
        mbedtls_x509_crt crt;
        bool more = false;
        int kind;
        memcpy(exact, id->chain.v3_ext.p, cut);
        mbedtls_x509_crt_init(&crt);
        crt.v3_ext.p = exact;
        crt.v3_ext.len = cut;
        for (kind = 0; kind < TLS_NAME_KINDS; kind++)
            tls_names_of(&crt, (enum tls_name_kind)kind, names, 8, &more);
        if (cut == len) {
            size_t at;
            int value;
            for (at = 0; at < cut; at++)
                for (value = 0; value < 256; value++) {
                    unsigned char was = exact[at];
                    exact[at] = (unsigned char)value;
                    for (kind = 0; kind < TLS_NAME_KINDS; kind++)
                        tls_names_of(&crt, (enum tls_name_kind)kind, names, 8, &more);
                    exact[at] = was;
                }
        }
        free(exact);
    }
    tls_identity_release(id);
}

static void
names_with_nul_or_blanks_are_not_taken(void **state)
{
    (void)state;
    assert_true(tls_name_is_clean(span_of("far.example"), true));
    assert_false(tls_name_is_clean(span_make("far.example\0.evil", 17), true));
    assert_false(tls_name_is_clean(span_of("far example"), true));
    assert_false(tls_name_is_clean(span_of("b\xc3\xbc" "cher.example"), true));
    assert_true(tls_name_is_clean(span_of("b\xc3\xbc" "cher.example"), false));
    assert_false(tls_name_is_clean(span_of(""), true));
}

/* ---- memory ---- */

static size_t
heap_in_use(void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    return mallinfo2().uordblks;
#else
    return 0;
#endif
}

static int
print_idle_bytes(void)
{
    enum { PAIRS = 100 };
    static struct pair p[PAIRS];
    struct tls_trust *trust;
    struct tls_profile *profile[2];
    struct tls_identity *id[2];
    size_t before = 0, between, after;
    int i, side;
    if (make_everything(NULL) != 0)
        return 1;
    trust = tls_trust_load("ca.crt", NULL, err);
    id[0] = tls_identity_load(shared, "near.crt", "near.key", err);
    id[1] = tls_identity_load(shared, "far.crt", "far.key", err);
    for (side = 0; side < 2; side++)
        profile[side] = tls_profile_new(shared, side == 1, &plain_options, trust, NULL, err);
    for (i = -1; i < PAIRS; i++) {   /* the first one warms up what is shared */
        struct pair *q = &p[i < 0 ? 0 : i];
        if (i == 0)
            pair_close(q);
        if (i <= 0)
            before = heap_in_use();
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, q->fd) != 0)
            return 1;
        for (side = 0; side < 2; side++) {
            fcntl(q->fd[side], F_SETFL, O_NONBLOCK);
            q->tls[side] = tls_new(profile[side], id[side], side == 0 ? "far.example" : NULL,
                q->fd[side]);
            q->result[side] = TLS_WANT_READ;
        }
        while (!pair_is_settled(q)) {
            pair_step(q, 0);
            pair_step(q, 1);
        }
    }
    after = heap_in_use();
    for (i = 0; i < PAIRS; i++) {
        tls_free(p[i].tls[1]);
        p[i].tls[1] = NULL;
    }
    between = heap_in_use();
    printf("heap bytes of an idle session: %zu client, %zu server (struct tls %zu, "
        "mbedtls_ssl_context %zu)\n",
        (between - before) / PAIRS, (after - between) / PAIRS, sizeof(struct tls),
        sizeof(mbedtls_ssl_context));
    for (i = 0; i < PAIRS; i++)
        pair_close(&p[i]);
    printf("left over: %zu\n", heap_in_use() - before);
    for (side = 0; side < 2; side++) {
        tls_profile_release(profile[side]);
        tls_identity_release(id[side]);
    }
    tls_trust_release(trust);
    return remove_everything(NULL);
}

/* ---- peers that warn without end ---- */

static char warnings[2000000];
static size_t warnings_len;

static int
gather_warning(void *user, const unsigned char *from, size_t n)
{
    (void)user;
    assert_true(warnings_len + n <= sizeof warnings);
    memcpy(warnings + warnings_len, from, n);
    warnings_len += n;
    return (int)n;
}

/* A copy of this process that sends what was gathered, as fast as it is taken. */
static pid_t
send_warnings(const int fd[2])
{
    pid_t pid = fork();
    size_t at = 0;
    ssize_t n;
    if (pid != 0)
        return pid;
    close(fd[1]);
    fcntl(fd[0], F_SETFL, 0);
    while (at < warnings_len && (n = write(fd[0], warnings + at, warnings_len - at)) > 0)
        at += (size_t)n;
    _exit(0);
}

static void
warnings_without_end_do_not_hold_a_handshake(void **state)
{
    /* of TLS 1.2: in 1.3 a warning in the clear is no record, and ends the handshake by itself */
    struct pair p = { .options = { { .ciphersuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
        { .ciphersuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" } } };
    unsigned calls;
    pid_t pid;
    (void)state;
    pair_prepare(&p, NULL, "far");
    while (p.result[0] != TLS_WANT_READ || p.tls[0]->lane == NULL)
        pair_step(&p, 0);   /* ClientHello */
    for (warnings_len = 0; warnings_len + 7 <= sizeof warnings;)   /* user_canceled */
        gather_warning(NULL, (const unsigned char *)"\x15\x03\x03\x00\x02\x01\x5a", 7);
    pid = send_warnings(p.fd);
    for (calls = 0; calls < 40 && p.result[1] < TLS_CLOSED; calls++) {
        usleep(5000);
        test_received = 0;
        p.result[1] = tls_handshake(p.tls[1]);
        assert_int_not_equal(p.result[1], TLS_DONE);
        assert_true(test_received <= TLS_AHEAD_MAX);
    }
    assert_int_equal(p.result[1], TLS_FAILED);
    assert_int_equal(tls_failed_why(p.tls[1]), XE_WHY_TLS_BYTES);
    pair_close(&p);
    waitpid(pid, NULL, 0);
}

static void
warnings_without_end_do_not_hold_a_reader(void **state)
{
    static const size_t sizes[] = { 100, TLS_RECORD_MAX, 98304 };
    static char plain[98304];
    enum tls_result result = TLS_WANT_READ;
    struct pair p = { 0 };
    size_t total = 0;
    unsigned calls;
    pid_t pid;
    (void)state;
    pair_open(&p, NULL, "far");
    assert_up(&p);
    mbedtls_ssl_set_bio(&p.tls[0]->ssl, NULL, gather_warning, NULL, NULL);
    for (warnings_len = 0; warnings_len + 100 <= sizeof warnings;)
        assert_int_equal(mbedtls_ssl_send_alert_message(&p.tls[0]->ssl,
            MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_USER_CANCELED), 0);
    pid = send_warnings(p.fd);
    for (calls = 0; calls < 20 && result == TLS_WANT_READ; calls++) {
        size_t got;
        usleep(5000);
        test_received = 0;
        result = tls_read(p.tls[1], plain, sizes[calls % 3], &got);
        assert_int_equal(got, 0);
        assert_true(test_received <= TLS_AHEAD_MAX);
        total += test_received;
    }
    assert_int_equal(result, TLS_FAILED);
    assert_int_equal(tls_failed_why(p.tls[1]), XE_WHY_TLS_BYTES);
    assert_true(total <= TLS_BARREN_MAX + TLS_AHEAD_MAX);
    pair_close(&p);
    waitpid(pid, NULL, 0);
}

/* As many as are too many in a row, with data between them. */
static void
warnings_among_data_end_nothing(void **state)
{
    static char plain[98304];
    struct pair p = { 0 };
    size_t total = 0, sent = 0;
    (void)state;
    pair_open(&p, NULL, "far");
    assert_up(&p);
    for (; sent < 2 * TLS_BARREN_MAX / 29; sent++) {
        size_t put, got;
        assert_int_equal(tls_write(p.tls[0], "a", 1, &put), TLS_DONE);
        assert_int_equal(mbedtls_ssl_send_alert_message(&p.tls[0]->ssl,
            MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_USER_CANCELED), 0);
        assert_int_equal(tls_read(p.tls[1], plain, sizeof plain, &got), TLS_WANT_READ);
        total += got;
    }
    assert_int_equal(total, sent);
    pair_close(&p);
}

/* mbed TLS lets the caller wait after this warning, although more has been read ahead. */
static void
a_refused_renegotiation_among_data_loses_none_of_it(void **state)
{
    static char plain[98304];
    struct pair p = { 0 };
    size_t total = 0;
    unsigned i;
    (void)state;
    pair_open(&p, NULL, "far");
    assert_up(&p);
    for (i = 0; i < 9; i++) {
        size_t put;
        assert_int_equal(tls_write(p.tls[0], "abc", 3, &put), TLS_DONE);
        assert_int_equal(mbedtls_ssl_send_alert_message(&p.tls[0]->ssl,
            MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_NO_RENEGOTIATION), 0);
    }
    for (i = 0; i < 40 && total < 27; i++) {
        size_t got;
        assert_int_equal(tls_read(p.tls[1], plain, sizeof plain, &got), TLS_WANT_READ);
        total += got;
    }
    assert_int_equal(total, 27);
    pair_close(&p);
}

/* ---- handshakes that are lent ---- */

#define LENT_MAX 40

/* Sessions that are lent, in the order in which they come back. */
struct lent {
    struct tls_shared  *shared;
    struct loop         loop;
    struct net_book     nets;
    struct tls_profile *profile[2];
    struct tls         *tls[LENT_MAX];
    int                 far[LENT_MAX];   /* the other end of its descriptor */
    size_t              count;
    size_t              order[LENT_MAX];
    enum tls_result     result[LENT_MAX];
    size_t              back;            /* that have come back */
};

static void
lent_came_back(struct tls *t, enum tls_result result, void *user)
{
    struct lent *l = user;
    size_t i;
    for (i = 0; l->tls[i] != t; i++)
        continue;
    l->result[i] = result;
    l->order[l->back++] = i;
}

static void
lent_open(struct lent *l, size_t threads, size_t waiting)
{
    struct tls_limits limits = { .threads = threads, .waiting = waiting, .rate_us = 100,
        .burst_us = 100000 };
    struct tls_trust *trust = tls_trust_load("ca.crt", NULL, err);
    *l = (struct lent){ .shared = tls_shared_open(err) };
    assert_true(loop_open(&l->loop));
    net_book_open(&l->nets);
    assert_true(tls_lend_open(l->shared, &l->loop, &l->nets));
    tls_lend_limits(l->shared, &limits);
    l->profile[0] = tls_profile_new(l->shared, false, &plain_options, trust, NULL, err);
    l->profile[1] = tls_profile_new(l->shared, true, &plain_options, trust, NULL, err);
    tls_trust_release(trust);
}

static void
lent_close(struct lent *l)
{
    size_t i;
    for (i = 0; i < l->count; i++) {
        if (l->tls[i] != NULL)
            tls_drop(l->tls[i]);
        if (l->far[i] >= 0)
            close(l->far[i]);
    }
    tls_profile_release(l->profile[0]);
    tls_profile_release(l->profile[1]);
    tls_lend_close(l->shared);
    net_book_close(&l->nets);
    loop_close(&l->loop);
    tls_shared_close(l->shared);
}

static struct sockaddr_storage
address_of(const char *text)
{
    struct sockaddr_storage a;
    memset(&a, 0, sizeof a);
    a.ss_family = strchr(text, ':') == NULL ? AF_INET : AF_INET6;
    inet_pton(a.ss_family, text, a.ss_family == AF_INET
        ? (void *)&((struct sockaddr_in *)(void *)&a)->sin_addr
        : (void *)&((struct sockaddr_in6 *)(void *)&a)->sin6_addr);
    return a;
}

/* A session of a server, whose client has said nothing yet; its number. */
static size_t
lent_add(struct lent *l)
{
    struct tls_identity *far = identity("far");
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    l->tls[l->count] = tls_new(l->profile[1], far, NULL, fd[0]);
    l->far[l->count] = fd[1];
    tls_identity_release(far);
    return l->count++;
}

static void
lend(struct lent *l, size_t number, const char *from)
{
    struct sockaddr_storage peer = address_of(from);
    tls_lend(l->tls[number], &peer, lent_came_back, l);
}

/* What the network of an address owes; of IPv6 the one of this width. */
static struct net_meter *
computed_for(struct lent *l, const char *address, enum net_width width)
{
    struct sockaddr_storage a = address_of(address);
    struct net_source *s = net_source_of(&l->nets, &a);
    while (s->net.bits > 32 && s->net.bits > (unsigned)width)
        s = s->wider;
    s->computed.last = loop_now(&l->loop);
    return &s->computed;
}

static void
know(struct lent *l, const char *address)
{
    struct sockaddr_storage a = address_of(address);
    net_prove(&l->nets, net_source_of(&l->nets, &a), loop_now(&l->loop));
}

static void
turns(struct lent *l, size_t until)
{
    unsigned i;
    for (i = 0; i < 2000 && l->back < until; i++)
        loop_step(&l->loop, 5);
    assert_int_equal(l->back, until);
}

static void
what_is_ours_goes_first_then_who_is_known_then_what_was_begun_then_who_took_least(void **state)
{
    static const size_t right[] = { 4, 3, 2, 1, 0 };
    struct lent l;
    size_t i;
    (void)state;
    lent_open(&l, 0, 100);
    for (i = 0; i < 5; i++)
        lent_add(&l);
    lend(&l, 2, "192.0.2.3");
    turns(&l, 1);
    l.back = 0;
    know(&l, "192.0.2.4");
    computed_for(&l, "192.0.2.1", NET_SUBNET)->spent = 90000;
    computed_for(&l, "192.0.2.2", NET_SUBNET)->spent = 80000;
    l.tls[4]->favoured = true;
    lend(&l, 0, "192.0.2.1");
    lend(&l, 1, "192.0.2.2");
    lend(&l, 2, "192.0.2.3");
    lend(&l, 3, "192.0.2.4");
    lend(&l, 4, "192.0.2.5");
    turns(&l, 5);
    for (i = 0; i < 5; i++)
        assert_int_equal(l.order[i], right[i]);
    lent_close(&l);
}

/* Sixteen networks that are known come back with every answer, and there is somebody new. */
static void
in_a_crowd_of_known_networks_one_turn_of_a_few_is_for_somebody_new(void **state)
{
    enum { KNOWN = 16 };
    char text[KNOWN + 1][32];
    struct lent l;
    size_t i, n = 0, mine = 0;
    (void)state;
    lent_open(&l, 0, 100);
    for (i = 0; i <= KNOWN; i++) {
        snprintf(text[i], sizeof text[i], "192.0.2.%zu", i + 1);
        if (i < KNOWN)
            know(&l, text[i]);
        lend(&l, lent_add(&l), text[i]);
    }
    computed_for(&l, text[KNOWN], NET_SUBNET)->spent = 90000;   /* he has cost most, too */
    for (; n < 10 * TLS_TURN_OTHERS; n++) {
        l.back = 0;
        turns(&l, 1);
        mine += l.order[0] == KNOWN;
        lend(&l, l.order[0], text[l.order[0]]);
    }
    assert_int_equal(mine, 10);
    lent_close(&l);
}

static void
what_is_ours_has_a_budget_too(void **state)
{
    struct lent l;
    (void)state;
    lent_open(&l, 0, 100);
    computed_for(&l, "192.0.2.1", NET_SUBNET)->spent = 160000;
    lend(&l, lent_add(&l), "192.0.2.1");
    l.tls[0]->favoured = true;
    lend(&l, lent_add(&l), "192.0.2.2");
    turns(&l, 1);
    assert_int_equal(l.order[0], 1);
    turns(&l, 2);
    lent_close(&l);
}

static void
who_is_in_debt_waits_until_it_is_paid_back(void **state)
{
    struct lent l;
    (void)state;
    lent_open(&l, 0, 100);
    computed_for(&l, "192.0.2.1", NET_SUBNET)->spent = 160000;   /* 600 ms too much */
    lend(&l, lent_add(&l), "192.0.2.1");
    lend(&l, lent_add(&l), "192.0.2.2");
    lend(&l, lent_add(&l), "192.0.2.1");
    turns(&l, 1);
    assert_int_equal(l.order[0], 1);
    turns(&l, 3);
    assert_true(computed_for(&l, "192.0.2.1", NET_SUBNET)->spent <= 100000);
    lent_close(&l);
}

static void
a_site_of_ipv6_owes_for_all_its_networks(void **state)
{
    struct lent l;
    (void)state;
    lent_open(&l, 0, 100);
    computed_for(&l, "2001:db8:1::", NET_SITE)->spent = 16 * 100000 + 20000;
    lend(&l, lent_add(&l), "2001:db8:1:2::3");
    lend(&l, lent_add(&l), "2001:db8:2:2::3");
    turns(&l, 1);
    assert_int_equal(l.order[0], 1);
    turns(&l, 2);
    lent_close(&l);
}

static void
of_too_many_that_wait_the_least_urgent_is_told_so(void **state)
{
    char alert[16];
    struct lent l;
    (void)state;
    lent_open(&l, 0, 2);
    computed_for(&l, "192.0.2.2", NET_SUBNET)->spent = 1000000;
    lend(&l, lent_add(&l), "192.0.2.1");
    lend(&l, lent_add(&l), "192.0.2.2");
    assert_int_equal(l.back, 0);
    lend(&l, lent_add(&l), "192.0.2.3");
    assert_int_equal(l.back, 1);
    assert_int_equal(l.order[0], 1);
    assert_int_equal(l.result[1], TLS_FAILED);
    assert_int_equal(l.tls[1]->why, XE_WHY_HANDSHAKES);
    assert_int_equal(read(l.far[1], alert, sizeof alert), 7);
    assert_memory_equal(alert, "\x15\x03\x03\x00\x02\x02\x50", 7);
    turns(&l, 3);
    lent_close(&l);
}

static void
a_handshake_counts_for_its_network_until_it_is_over(void **state)
{
    struct sockaddr_storage a = address_of("2001:db8:1:2::3");
    struct net_source *from;
    struct lent l;
    (void)state;
    lent_open(&l, 0, 100);
    from = net_source_of(&l.nets, &a);
    lend(&l, lent_add(&l), "2001:db8:1:2::3");
    turns(&l, 1);
    l.back = 0;
    lend(&l, 0, "2001:db8:1:2::3");   /* once, however often it has to wait */
    turns(&l, 1);
    assert_int_equal(from->counts[NET_HANDSHAKES], 1);
    assert_int_equal(from->wider->wider->counts[NET_HANDSHAKES], 1);
    assert_int_equal(from->wider->wider->computed.spent, from->computed.spent);
    close(l.far[0]);
    l.far[0] = -1;
    computed_for(&l, "2001:db8:1:2::3", NET_SUBNET)->spent = 90000;
    lend(&l, 0, "2001:db8:1:2::3");
    turns(&l, 2);
    assert_int_equal(l.result[0], TLS_LOST);
    assert_int_equal(from->counts[NET_HANDSHAKES], 0);
    assert_ptr_equal(from->shelf, &l.nets.owing);
    lent_close(&l);
}

/* Both ends of pairs, all lent. */
static void
lend_pairs(struct lent *l, size_t pairs)
{
    size_t i;
    for (i = 0; i < pairs; i++) {
        size_t n = lent_add(l);
        struct tls_identity *near = identity("near");
        fcntl(l->far[n], F_SETFL, O_NONBLOCK);
        l->tls[n + 1] = tls_new(l->profile[0], near, "far.example", l->far[n]);
        l->far[n] = l->far[n + 1] = -1;
        l->count++;
        tls_identity_release(near);
        lend(l, n, "192.0.2.1");
        lend(l, n + 1, "192.0.2.2");
    }
}

/* Go on until all have ended; the number of those that are up. */
static size_t
finish_pairs(struct lent *l)
{
    size_t up = 0;
    size_t open = l->count;
    time_t end = time(NULL) + 30;
    while (open > 0 && time(NULL) < end) {
        size_t k;
        loop_step(&l->loop, 1);
        for (k = 0, up = open = 0; k < l->count; k++) {
            bool again = l->result[k] == TLS_WANT_READ || l->result[k] == TLS_WANT_WRITE;
            up += l->tls[k] != NULL && !tls_is_lent(l->tls[k]) && l->result[k] == TLS_DONE;
            open += l->tls[k] != NULL && (tls_is_lent(l->tls[k]) || again);
            if (l->tls[k] != NULL && !tls_is_lent(l->tls[k]) && again) {
                l->back = 0;
                lend(l, k, k % 2 == 0 ? "192.0.2.1" : "192.0.2.2");
            }
        }
    }
    return up;
}

static void
threads_complete_what_is_lent_to_them(void **state)
{
    struct lent l;
    size_t i;
    (void)state;
    lent_open(&l, 3, 100);
    l.shared->limits.burst_us = INT64_MAX / 1000;
    lend_pairs(&l, 10);
    assert_int_equal(finish_pairs(&l), 20);
    for (i = 0; i < 20; i++) {
        assert_string_equal(tls_facts(l.tls[i])->subject,
            i % 2 == 0 ? "CN=near.example" : "CN=far.example");
        assert_int_equal(tls_facts(l.tls[i])->chain, 0);
#if TLS_THREADS
        assert_true(l.tls[i]->lane->index >= 1 && l.tls[i]->lane->index <= 3);
#endif
    }
    lent_close(&l);
}

static void
sessions_that_are_dropped_while_they_are_computed_are_freed_when_they_come_back(void **state)
{
    struct lent l;
    size_t i;
    (void)state;
    for (i = 0; i < 20; i++) {
        size_t k;
        lent_open(&l, 2, 100);
        lend_pairs(&l, 6);
        loop_step(&l.loop, i % 4 == 0 ? 0 : (int)(i % 4));
        for (k = i % 2; k < l.count; k += 2) {
            tls_drop(l.tls[k]);
            l.tls[k] = NULL;
        }
        if (i % 3 == 0)
            finish_pairs(&l);
        lent_close(&l);   /* and the others now */
    }
}

/* In the child: what was being computed is gone, and it can compute for itself. */
static int
go_on_after_fork(struct lent *l)
{
    struct lent fresh;
    bool good;
    finish_pairs(l);
    lent_close(l);
    lent_open(&fresh, 2, 100);
    fresh.shared->limits.burst_us = INT64_MAX / 1000;
    lend_pairs(&fresh, 2);
    good = finish_pairs(&fresh) == 4;
    lent_close(&fresh);
    return good ? 0 : 1;
}

/* The allocator of a sanitizer may have been locked by a thread that the child does not have; the
 * system's takes care of that.  So a child that stands still may be tried again. */
static void
after_a_fork_the_child_goes_on_without_what_was_being_computed(void **state)
{
    struct lent l;
    int status = 0;
    int tries;
    (void)state;
    lent_open(&l, 2, 100);
    l.shared->limits.burst_us = INT64_MAX / 1000;
    lend_pairs(&l, 4);
    for (tries = 0; tries < 5; tries++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(15);
            _exit(go_on_after_fork(&l));
        }
        waitpid(pid, &status, 0);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM)
            break;
    }
    assert_int_equal(status, 0);
    lent_close(&l);
}

static void
a_lower_number_of_threads_ends_no_handshake(void **state)
{
    struct tls_limits fewer = { .threads = 0, .waiting = 100, .rate_us = 1000,
        .burst_us = INT64_MAX / 1000 };
    struct lent l;
    (void)state;
    lent_open(&l, 3, 100);
    l.shared->limits.burst_us = INT64_MAX / 1000;
    lend_pairs(&l, 5);
    loop_step(&l.loop, 5);
    tls_lend_limits(l.shared, &fewer);
    lend_pairs(&l, 5);
    assert_int_equal(finish_pairs(&l), 20);
    lent_close(&l);
}

#if TLS_THREADS
static void
told(void *user, size_t have, int error)
{
    (void)user;
    test_told++;
    assert_int_equal(have, 0);
    assert_int_equal(error, EAGAIN);
}

static void
a_thread_that_cannot_be_had_is_told_and_tried_again_later(void **state)
{
    struct lent l;
    (void)state;
    lent_open(&l, 2, 100);
    l.shared->limits.burst_us = INT64_MAX / 1000;
    l.shared->no_thread = told;
    test_no_threads = 1;
    test_told = 0;
    lend_pairs(&l, 2);
    assert_int_equal(finish_pairs(&l), 4);
    assert_int_equal(test_told, 1);
    assert_int_equal(l.tls[0]->lane->index, 0);   /* the loop has computed them */
    assert_int_equal(l.shared->limits.threads, 2);
    l.shared->again = loop_now(&l.loop);
    lend_pairs(&l, 2);
    assert_int_equal(finish_pairs(&l), 8);
    assert_int_equal(test_told, 1);
    assert_int_not_equal(l.tls[4]->lane->index, 0);
    lent_close(&l);
}
#endif

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handshake_runs_over_a_socket_pair_and_both_sides_see_a_certificate),
        cmocka_unit_test(names_of_all_three_kinds_are_found_and_others_are_not),
        cmocka_unit_test(an_identity_tells_its_own_names),
        cmocka_unit_test(names_beyond_the_ceiling_are_left_out_and_that_is_told),
        cmocka_unit_test(the_verdict_on_a_certificate_does_not_end_the_handshake),
        cmocka_unit_test(a_key_that_is_too_short_is_not_acceptable),
        cmocka_unit_test(a_client_may_show_a_certificate_for_clients_but_not_one_for_neither_use),
        cmocka_unit_test(an_identity_that_cannot_serve_is_marked),
        cmocka_unit_test(openssl_is_understood_with_its_tickets_and_versions),
        cmocka_unit_test(critical_constraints_of_an_authority_are_loaded_and_obeyed),
        cmocka_unit_test(an_own_chain_with_a_critical_constraint_is_loaded),
        cmocka_unit_test(openssl_clients_of_both_versions_are_served),
        cmocka_unit_test(a_client_without_certificate_is_let_in_and_told_apart),
        cmocka_unit_test(without_trust_every_chain_is_untrusted),
        cmocka_unit_test(a_self_signed_certificate_among_the_authorities_is_trusted),
        cmocka_unit_test(the_server_name_selects_the_certificate),
        cmocka_unit_test(one_profile_serves_several_identities),
        cmocka_unit_test(alpn_is_agreed_upon_when_both_name_it),
        cmocka_unit_test(a_version_or_ciphersuite_that_does_not_match_fails_with_a_reason),
        cmocka_unit_test(the_configured_ciphersuite_is_used),
        cmocka_unit_test(the_default_ciphersuites_are_aead_with_forward_secrecy),
        cmocka_unit_test(the_preferred_cipher_comes_first_and_of_aes_the_longer_key),
        cmocka_unit_test(the_preferred_cipher_is_what_two_sides_agree_on),
        cmocka_unit_test(what_costs_less_by_a_margin_is_preferred),
        cmocka_unit_test(ciphers_are_measured_once),
        cmocka_unit_test(bad_options_are_refused_in_words),
        cmocka_unit_test(files_that_do_not_do_are_refused_in_words),
        cmocka_unit_test(keys_with_a_password_and_keys_beside_their_certificate),
        cmocka_unit_test(our_own_chain_is_judged_by_a_trust),
        cmocka_unit_test(a_bundle_with_unreadable_entries_is_used),
        cmocka_unit_test(close_notify_and_a_cut_connection_are_told_apart),
        cmocka_unit_test(an_alert_is_read_behind_a_reset),
        cmocka_unit_test(an_alert_is_read_behind_a_reset_in_a_handshake),
        cmocka_unit_test(a_connection_lost_during_the_handshake_is_told),
        cmocka_unit_test(plain_text_instead_of_tls_fails_with_a_reason),
        cmocka_unit_test(damaged_records_end_the_session),
        cmocka_unit_test(big_transfers_arrive_whole_through_small_socket_buffers),
        cmocka_unit_test(one_byte_at_a_time_with_refusals_arrives_whole),
        cmocka_unit_test(close_notify_behind_an_unfinished_record_is_sent_after_it),
        cmocka_unit_test(a_handshake_yields_between_its_expensive_steps),
        cmocka_unit_test(pending_tells_what_the_descriptor_does_not_show),
        cmocka_unit_test(the_key_log_has_the_lines_wireshark_wants),
        cmocka_unit_test(each_domain_is_vouched_for_by_its_own_store),
        cmocka_unit_test(after_a_reload_a_store_vouches_that_holds_the_same_authority),
        cmocka_unit_test(
            a_pin_takes_the_place_of_the_common_authorities_and_is_needed_beside_own_ones),
        cmocka_unit_test(a_certificate_revoked_by_the_common_lists_is_no_good_with_a_pin),
        cmocka_unit_test(pins_are_read_in_base64_and_in_hexadecimal_and_nothing_else),
        cmocka_unit_test(random_bytes_are_others_each_time),
        cmocka_unit_test(an_impossible_server_name_is_refused_before_connecting),
        cmocka_unit_test(the_calendar_is_counted_in_seconds),
        cmocka_unit_test(chain_bits_are_words_in_the_log),
        cmocka_unit_test(running_out_of_memory_at_any_point_is_survived),
        cmocka_unit_test(an_odd_server_name_counts_as_none),
        cmocka_unit_test(damaged_name_lists_are_survived),
        cmocka_unit_test(names_with_nul_or_blanks_are_not_taken),
        cmocka_unit_test(warnings_without_end_do_not_hold_a_handshake),
        cmocka_unit_test(warnings_without_end_do_not_hold_a_reader),
        cmocka_unit_test(warnings_among_data_end_nothing),
        cmocka_unit_test(a_refused_renegotiation_among_data_loses_none_of_it),
        cmocka_unit_test(
            what_is_ours_goes_first_then_who_is_known_then_what_was_begun_then_who_took_least),
        cmocka_unit_test(in_a_crowd_of_known_networks_one_turn_of_a_few_is_for_somebody_new),
        cmocka_unit_test(what_is_ours_has_a_budget_too),
        cmocka_unit_test(who_is_in_debt_waits_until_it_is_paid_back),
        cmocka_unit_test(a_site_of_ipv6_owes_for_all_its_networks),
        cmocka_unit_test(of_too_many_that_wait_the_least_urgent_is_told_so),
        cmocka_unit_test(a_handshake_counts_for_its_network_until_it_is_over),
        cmocka_unit_test(threads_complete_what_is_lent_to_them),
        cmocka_unit_test(
            sessions_that_are_dropped_while_they_are_computed_are_freed_when_they_come_back),
        cmocka_unit_test(after_a_fork_the_child_goes_on_without_what_was_being_computed),
        cmocka_unit_test(a_lower_number_of_threads_ends_no_handshake),
#if TLS_THREADS
        cmocka_unit_test(a_thread_that_cannot_be_had_is_told_and_tried_again_later),
#endif
    };
    if (argc > 1 && strcmp(argv[1], "idle") == 0)
        return print_idle_bytes();
    return cmocka_run_group_tests_name("tls", tests, make_everything, remove_everything);
}
