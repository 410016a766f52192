/* tls.c -- what can be seen of TLS, and what keys open
 *
 * One session per flow, fed with the bytes of both sides in order.  Three layers, from the bottom:
 *
 *      bytes --> record (lane_)  --> message (message_, hello_, ...) --> struct tls_view and events
 *                  |  ^
 *                  v  | opener_: AEAD with a key from the key log
 *
 * A record whose content is of no use is skipped by its length without being copied: a session
 * without keys costs next to nothing once the handshake is over, and its buffers are gone by then.
 *
 * What is visible without keys differs.  TLS 1.2 shows the whole handshake up to ChangeCipherSpec:
 * the certificates of both sides are seen and mutual TLS is a fact.  TLS 1.3 shows the two hellos
 * only; what follows are records of type 23, and only their lengths speak (flight_).  With keys
 * both are equal.
 *
 * The rule for TLS 1.3 without keys.  After the ServerHello everything that the client sends is
 * its last flight, then data.  Every encrypted record is its content, one byte of type, and the
 * tag (16 bytes).  Finished is four bytes and a hash, so 53 bytes with SHA-256 and 69 with SHA-384:
 *
 *      first record is  Finished                     no certificate was asked for
 *                       19 bytes                     an alert: the client refuses the server
 *                       25 bytes, then Finished      asked, and an empty Certificate
 *                       8 bytes more than Finished   the same in one record
 *                       at least FLIGHT_CERT_MIN     Certificate, CertificateVerify, Finished, in
 *                                                    one record or several: mutual TLS
 *                       anything else                cannot tell; multiples of 128 look padded
 *
 * It is believed when the server then goes on with something that is not as long as an alert.
 * Limits: a client that pads its records in an unusual way deceives it, 0-RTT data hides the
 * flight (then nothing is said), and a certificate sent later, inside the session, is not noticed.
 *
 * Certificates are read by a small DER reader of our own: a library that verifies refuses what it
 * cannot verify (Ed25519, unknown critical extensions), but an observer must show what was sent.
 *
 * Everything here comes from strangers.  Bytes are read through read_*, which say when there are
 * no more.
 */
#include "tls.h"
#include "pool.h"

#include <mbedtls/cipher.h>
#include <mbedtls/md.h>
#include <mbedtls/x509_crt.h>

#include <strings.h>

/* ---- ceilings ---- */

enum {
    RECORD_HEAD = 5,
    RECORD_MAX = 16384 + 2048,       /* RFC 5246 6.2.3; TLS 1.3 allows less */
    MESSAGE_MAX = 128 * 1024,        /* a handshake message; longer ones are passed over */
    CHAIN_MAX = 64 * 1024,           /* bytes of a certificate chain that are kept */
    CHAIN_COUNT_MAX = 16,            /* certificates of it */
    CERT_SETS = 256,                 /* certificates kept once: sets of CERT_WAYS */
    CERT_WAYS = 4,
    SECRET_MAX = 48,                 /* SHA-384 */
    RANDOM_LEN = 32,
    RANDOM_CORE = 8,   /* from here four bytes are random whatever the version (RFC 8446 4.1.3) */
    KEYS_MAX = 100000,               /* sessions of a key log: 35 MB */
    KEYS_PROBES = 64,                /* a table that is made to collide loses keys, not time */
    KEY_LINE_MAX = 512,              /* the longest known label and two values need 250 */
    FLIGHT_RECORDS_MAX = 8,          /* of the client's last flight */
    FLIGHT_CERT_MIN = 160,           /* shorter than any Certificate with its two followers */
    PADDING_STEP = 128,              /* contents of a multiple of this length look padded */
    HOLD_MAX = 64 * 1024,            /* bytes a live session waits with for its keys */
    SEEK_TRIES_MAX = 2048,           /* sequence numbers tried after a gap */
    TRIAL_RECORDS_MAX = 64,          /* records before the ones that a key fits */
    SNI_MAX = 255,
    ALPN_MAX = 63
};

#define HOLD_NS (2 * SECOND)   /* and how long, in packet time */

/* ---- bytes that are read, bytes that are kept ---- */

/* What is left to read; borrowed. */
struct reader {
    const unsigned char *at;
    size_t               left;
};

/* Bytes that are collected. */
struct pile {
    unsigned char *at;   /* owned */
    size_t         len;
    size_t         cap;
};

/* From a pool, of zeros. */
static void *
memory_take(struct pool *p)
{
    return memset(memory_or_exit(pool_get(p)), 0, p->size);
}

static void
pile_put(struct pile *p, const unsigned char *at, size_t len)
{
    p->at = memory_room(p->at, &p->cap, p->len + len);
    if (len > 0)
        memcpy(p->at + p->len, at, len);
    p->len += len;
}

static void
pile_free(struct pile *p)
{
    free(p->at);
    *p = (struct pile){ NULL, 0, 0 };
}

/* Takes `len` bytes as a part of their own. */
static bool
read_part(struct reader *in, size_t len, struct reader *part)
{
    if (in->left < len)
        return false;
    part->at = in->at;
    part->left = len;
    in->at += len;
    in->left -= len;
    return true;
}

/* Big-endian number of one to four bytes. */
static bool
read_number(struct reader *in, size_t len, uint32_t *out)
{
    struct reader part;
    if (!read_part(in, len, &part))
        return false;
    uint32_t n = 0;
    for (size_t i = 0; i < len; i++)
        n = n << 8 | part.at[i];
    *out = n;
    return true;
}

/* The vector of RFC 8446 3.4: a length of `width` bytes, then as many bytes. */
static bool
read_vector(struct reader *in, size_t width, struct reader *part)
{
    uint32_t len;
    return read_number(in, width, &len) && read_part(in, len, part);
}

static bool
reader_is(const struct reader *r, const void *at, size_t len)
{
    return r->left == len && memcmp(r->at, at, len) == 0;
}

/* Text with a ceiling, of strangers' bytes: what is not printable ASCII becomes '?'. */
struct line {
    char  *at;    /* borrowed, always ends in NUL */
    size_t cap;
    size_t len;
};

static struct line
line_on(char *at, size_t cap)
{
    at[0] = '\0';
    return (struct line){ at, cap, 0 };
}

static void
line_add(struct line *l, const void *bytes, size_t len)
{
    const unsigned char *from = bytes;
    for (size_t i = 0; i < len && l->len + 1 < l->cap; i++)
        l->at[l->len++] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
    l->at[l->len] = '\0';
}

/* The value of an attribute of a name (RFC 4514 2.4): no part of it looks like the next one. */
static void
line_add_value(struct line *l, const struct reader *value)
{
    size_t i;
    for (i = 0; i < value->left; i++) {
        if (memchr(",;+<>\"\\", value->at[i], 7) != NULL)
            line_add(l, "\\", 1);
        line_add(l, value->at + i, 1);
    }
}

/* One name of several behind one another: no part of it looks like the next one. */
static void
line_add_name(struct line *l, const struct reader *name)
{
    size_t before = l->len, i;
    line_add(l, name->at, name->left);
    for (i = before; i < l->len; i++)
        if (strchr(" ,;+=\"\\", l->at[i]) != NULL)
            l->at[i] = '?';
}

static void
line_add_text(struct line *l, const char *text)
{
    line_add(l, text, strlen(text));
}

static char *
line_keep(const struct line *l)
{
    char *copy = memory_get(l->len + 1);
    memcpy(copy, l->at, l->len + 1);
    return copy;
}

/* ---- words ---- */

enum { TLS10 = 0x0301, TLS12 = 0x0303, TLS13 = 0x0304 };

const char *
tls_version_name(unsigned version)
{
    switch (version) {
    case 0x0300: return "SSL 3.0";
    case TLS10:  return "TLS 1.0";
    case 0x0302: return "TLS 1.1";
    case TLS12:  return "TLS 1.2";
    case TLS13:  return "TLS 1.3";
    case 0:      return "";
    default:     return "unknown version";
    }
}

const char *
tls_proof_word(enum tls_client_proof p)
{
    switch (p) {
    case PROOF_UNKNOWN:       return "unknown";
    case PROOF_NOT_ASKED:     return "not-asked";
    case PROOF_EMPTY:         return "empty";
    case PROOF_PROVEN:        return "proven";
    case PROOF_INFERRED:      return "inferred";
    case PROOF_INFERRED_NONE: return "inferred-none";
    }
    return "unknown";
}

/* How a cipher suite protects records.  Order matters: up to SEAL_CHACHA they can be opened. */
enum seal { SEAL_GCM_128, SEAL_GCM_256, SEAL_CCM_128, SEAL_CCM_256, SEAL_CCM8_128, SEAL_CCM8_256,
    SEAL_CHACHA, SEAL_CBC, SEAL_OTHER };

struct suite {
    uint16_t    number;   /* IANA */
    uint8_t     seal;     /* enum seal */
    uint8_t     hash;     /* bytes of the hash of PRF or HKDF */
    const char *name;
};

#define SUITES(X) \
    X(0x1301, GCM_128,  32, "TLS_AES_128_GCM_SHA256") \
    X(0x1302, GCM_256,  48, "TLS_AES_256_GCM_SHA384") \
    X(0x1303, CHACHA,   32, "TLS_CHACHA20_POLY1305_SHA256") \
    X(0x1304, CCM_128,  32, "TLS_AES_128_CCM_SHA256") \
    X(0x1305, CCM8_128, 32, "TLS_AES_128_CCM_8_SHA256") \
    X(0xc02b, GCM_128,  32, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256") \
    X(0xc02c, GCM_256,  48, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384") \
    X(0xc02f, GCM_128,  32, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256") \
    X(0xc030, GCM_256,  48, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384") \
    X(0xc02d, GCM_128,  32, "TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256") \
    X(0xc02e, GCM_256,  48, "TLS_ECDH_ECDSA_WITH_AES_256_GCM_SHA384") \
    X(0xc031, GCM_128,  32, "TLS_ECDH_RSA_WITH_AES_128_GCM_SHA256") \
    X(0xc032, GCM_256,  48, "TLS_ECDH_RSA_WITH_AES_256_GCM_SHA384") \
    X(0x009c, GCM_128,  32, "TLS_RSA_WITH_AES_128_GCM_SHA256") \
    X(0x009d, GCM_256,  48, "TLS_RSA_WITH_AES_256_GCM_SHA384") \
    X(0x009e, GCM_128,  32, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256") \
    X(0x009f, GCM_256,  48, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384") \
    X(0x00a2, GCM_128,  32, "TLS_DHE_DSS_WITH_AES_128_GCM_SHA256") \
    X(0x00a3, GCM_256,  48, "TLS_DHE_DSS_WITH_AES_256_GCM_SHA384") \
    X(0x00a6, GCM_128,  32, "TLS_DH_anon_WITH_AES_128_GCM_SHA256") \
    X(0x00a7, GCM_256,  48, "TLS_DH_anon_WITH_AES_256_GCM_SHA384") \
    X(0x00a8, GCM_128,  32, "TLS_PSK_WITH_AES_128_GCM_SHA256") \
    X(0x00a9, GCM_256,  48, "TLS_PSK_WITH_AES_256_GCM_SHA384") \
    X(0x00aa, GCM_128,  32, "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256") \
    X(0x00ab, GCM_256,  48, "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384") \
    X(0xd001, GCM_128,  32, "TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256") \
    X(0xd002, GCM_256,  48, "TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384") \
    X(0xcca8, CHACHA,   32, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256") \
    X(0xcca9, CHACHA,   32, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256") \
    X(0xccaa, CHACHA,   32, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256") \
    X(0xccab, CHACHA,   32, "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256") \
    X(0xccac, CHACHA,   32, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256") \
    X(0xccad, CHACHA,   32, "TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256") \
    X(0xc09c, CCM_128,  32, "TLS_RSA_WITH_AES_128_CCM") \
    X(0xc09d, CCM_256,  32, "TLS_RSA_WITH_AES_256_CCM") \
    X(0xc09e, CCM_128,  32, "TLS_DHE_RSA_WITH_AES_128_CCM") \
    X(0xc09f, CCM_256,  32, "TLS_DHE_RSA_WITH_AES_256_CCM") \
    X(0xc0a0, CCM8_128, 32, "TLS_RSA_WITH_AES_128_CCM_8") \
    X(0xc0a1, CCM8_256, 32, "TLS_RSA_WITH_AES_256_CCM_8") \
    X(0xc0a2, CCM8_128, 32, "TLS_DHE_RSA_WITH_AES_128_CCM_8") \
    X(0xc0a3, CCM8_256, 32, "TLS_DHE_RSA_WITH_AES_256_CCM_8") \
    X(0xc0ac, CCM_128,  32, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM") \
    X(0xc0ad, CCM_256,  32, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM") \
    X(0xc0ae, CCM8_128, 32, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8") \
    X(0xc0af, CCM8_256, 32, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8") \
    X(0xc009, CBC,      32, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA") \
    X(0xc00a, CBC,      32, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA") \
    X(0xc013, CBC,      32, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA") \
    X(0xc014, CBC,      32, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA") \
    X(0xc023, CBC,      32, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256") \
    X(0xc024, CBC,      48, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384") \
    X(0xc027, CBC,      32, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256") \
    X(0xc028, CBC,      48, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384") \
    X(0x002f, CBC,      32, "TLS_RSA_WITH_AES_128_CBC_SHA") \
    X(0x0035, CBC,      32, "TLS_RSA_WITH_AES_256_CBC_SHA") \
    X(0x003c, CBC,      32, "TLS_RSA_WITH_AES_128_CBC_SHA256") \
    X(0x003d, CBC,      32, "TLS_RSA_WITH_AES_256_CBC_SHA256") \
    X(0x0033, CBC,      32, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA") \
    X(0x0039, CBC,      32, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA") \
    X(0x0067, CBC,      32, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256") \
    X(0x006b, CBC,      32, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256") \
    X(0x000a, CBC,      32, "TLS_RSA_WITH_3DES_EDE_CBC_SHA") \
    X(0x0016, CBC,      32, "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA") \
    X(0xc008, CBC,      32, "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA") \
    X(0xc012, CBC,      32, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA") \
    X(0x0041, CBC,      32, "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA") \
    X(0x0084, CBC,      32, "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA") \
    X(0x0045, CBC,      32, "TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA") \
    X(0x0088, CBC,      32, "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA") \
    X(0x0004, OTHER,    32, "TLS_RSA_WITH_RC4_128_MD5") \
    X(0x0005, OTHER,    32, "TLS_RSA_WITH_RC4_128_SHA") \
    X(0xc007, OTHER,    32, "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA") \
    X(0xc011, OTHER,    32, "TLS_ECDHE_RSA_WITH_RC4_128_SHA") \
    X(0x0000, OTHER,    32, "TLS_NULL_WITH_NULL_NULL")

/* NULL: not in the table. */
static const struct suite *
suite_find(unsigned number)
{
    static const struct suite table[] = {
#define X(number, seal, hash, name) { number, SEAL_##seal, hash, name },
        SUITES(X)
#undef X
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].number == number)
            return &table[i];
    return NULL;
}

/* ---- keys: secrets of a key log ---- */

#define SECRETS(X) \
    X(SECRET_MASTER,           "CLIENT_RANDOM") \
    X(SECRET_CLIENT_EARLY,     "CLIENT_EARLY_TRAFFIC_SECRET") \
    X(SECRET_CLIENT_HANDSHAKE, "CLIENT_HANDSHAKE_TRAFFIC_SECRET") \
    X(SECRET_SERVER_HANDSHAKE, "SERVER_HANDSHAKE_TRAFFIC_SECRET") \
    X(SECRET_CLIENT_DATA,      "CLIENT_TRAFFIC_SECRET_0") \
    X(SECRET_SERVER_DATA,      "SERVER_TRAFFIC_SECRET_0")

enum secret_kind {
#define X(name, label) name,
    SECRETS(X)
#undef X
    SECRET_KINDS
};

/* What a key log says of one session. */
struct secrets {
    unsigned char random[RANDOM_LEN];                   /* of the client */
    unsigned char secret[SECRET_KINDS][SECRET_MAX];
    uint8_t       len[SECRET_KINDS];                    /* bytes; 0: not known */
    bool          used;                                 /* opened a record */
};

struct tls_keys {
    struct secrets **slot;          /* owned, open addressing */
    size_t           slots;         /* a power of two */
    size_t           count;
    uint64_t         lines;         /* lines taken; tells waiting sessions that there is news */
    bool             more;          /* live: further lines are expected */
    bool             line_bad;      /* the line is too long: ignored up to its end */
    size_t           line_len;
    char             line[KEY_LINE_MAX];
    unsigned char    plain[RECORD_MAX + 16];            /* what was opened last */
};

struct tls_keys *
tls_keys_new(void)
{
    struct tls_keys *k = memory_get(sizeof *k);
    k->slots = 64;
    k->slot = memory_get(k->slots * sizeof k->slot[0]);
    return k;
}

void
tls_keys_free(struct tls_keys *k)
{
    if (k == NULL)
        return;
    for (size_t i = 0; i < k->slots; i++)
        free(k->slot[i]);
    free(k->slot);
    free(k);
}

void
tls_keys_more(struct tls_keys *k, bool expected)
{
    k->more = expected;
}

void
tls_keys_count(const struct tls_keys *k, size_t *used, size_t *unused)
{
    *used = 0;
    for (size_t i = 0; i < k->slots; i++)
        if (k->slot[i] != NULL && k->slot[i]->used)
            *used += 1;
    *unused = k->count - *used;
}

/* FNV-1a: the random of a client is all the randomness that is needed. */
static size_t
keys_hash(const unsigned char *random)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < RANDOM_LEN; i++)
        h = (h ^ random[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

/* The slot of `random`, or the free one where it belongs; NULL when neither is near. */
static struct secrets **
keys_slot(const struct tls_keys *k, const unsigned char *random)
{
    size_t at = keys_hash(random);
    for (size_t i = 0; i < KEYS_PROBES; i++) {
        struct secrets **slot = &k->slot[(at + i) & (k->slots - 1)];
        if (*slot == NULL || memcmp((*slot)->random, random, RANDOM_LEN) == 0)
            return slot;
    }
    return NULL;
}

static struct secrets *
keys_find(const struct tls_keys *k, const unsigned char *random)
{
    struct secrets **slot = k == NULL ? NULL : keys_slot(k, random);
    return slot == NULL ? NULL : *slot;
}

static void
keys_grow(struct tls_keys *k)
{
    struct secrets **old = k->slot;
    size_t slots = k->slots;
    k->slots *= 2;
    k->slot = memory_get(k->slots * sizeof k->slot[0]);
    for (size_t i = 0; i < slots; i++) {
        if (old[i] == NULL)
            continue;
        struct secrets **slot = keys_slot(k, old[i]->random);
        if (slot != NULL) {
            *slot = old[i];
        } else {
            free(old[i]);
            k->count--;
        }
    }
    free(old);
}

static struct secrets *
keys_make(struct tls_keys *k, const unsigned char *random)
{
    struct secrets **slot = keys_slot(k, random);
    if (slot != NULL && *slot != NULL)
        return *slot;
    if (slot == NULL || k->count >= KEYS_MAX)
        return NULL;
    struct secrets *s = memory_get(sizeof *s);
    memcpy(s->random, random, RANDOM_LEN);
    *slot = s;
    k->count++;
    return s;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Reads hexadecimal digits; returns the bytes they make, 0 when they make none or too many. */
static size_t
hex_read(const char *text, size_t digits, unsigned char *out, size_t max)
{
    if (digits % 2 != 0 || digits / 2 > max)
        return 0;
    for (size_t i = 0; i < digits / 2; i++) {
        int high = hex_digit(text[2 * i]);
        int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return digits / 2;
}

static int
keys_label(const char *at, size_t len)
{
    static const char *const labels[] = {
#define X(name, label) label,
        SECRETS(X)
#undef X
    };
    for (int i = 0; i < SECRET_KINDS; i++)
        if (strlen(labels[i]) == len && memcmp(labels[i], at, len) == 0)
            return i;
    return -1;
}

/* One line: label, random, secret.  Comments, other labels and nonsense are passed over in silence,
 * as every reader of this format does. */
static void
keys_line(struct tls_keys *k, const char *line)
{
    size_t label = strcspn(line, " ");
    const char *random = line + label + strspn(line + label, " ");
    size_t random_len = strcspn(random, " ");
    const char *secret = random + random_len + strspn(random + random_len, " ");
    int kind = keys_label(line, label);
    unsigned char name[RANDOM_LEN];
    unsigned char value[SECRET_MAX];
    size_t len = hex_read(secret, strcspn(secret, " \t\r"), value, sizeof value);
    if (kind < 0 || len == 0 || hex_read(random, random_len, name, sizeof name) != RANDOM_LEN)
        return;
    struct secrets *s = keys_make(k, name);
    if (s == NULL)
        return;
    memcpy(s->secret[kind], value, len);
    s->len[kind] = (uint8_t)len;
    k->lines++;
    if (k->count * 2 > k->slots)
        keys_grow(k);
}

void
tls_keys_end(struct tls_keys *k)
{
    k->line[k->line_len] = '\0';
    if (!k->line_bad && k->line_len > 0)
        keys_line(k, k->line);
    k->line_len = 0;
    k->line_bad = false;
}

void
tls_keys_add(struct tls_keys *k, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n' || text[i] == '\r')
            tls_keys_end(k);
        else if (k->line_len + 1 < sizeof k->line && text[i] != '\0')
            k->line[k->line_len++] = text[i];
        else
            k->line_bad = true;
    }
}

/* ---- opener: one direction of a connection and the key that opens its records ---- */

struct opener {
    mbedtls_cipher_context_t cipher;
    const struct suite      *suite;
    bool                     v13;
    uint64_t                 seq;                  /* of the next record */
    unsigned char            iv[12];
    unsigned char            secret[SECRET_MAX];   /* TLS 1.3: for KeyUpdate */
};

static const mbedtls_md_info_t *
hash_info(size_t hash_len)
{
    return mbedtls_md_info_from_type(hash_len == 48 ? MBEDTLS_MD_SHA384 : MBEDTLS_MD_SHA256);
}

static bool
hmac(size_t hash_len, const unsigned char *key, size_t key_len, const unsigned char *at, size_t len,
    unsigned char *out)
{
    return memory_suffices(
        mbedtls_md_hmac(hash_info(hash_len), key, key_len, at, len, out) == 0);
}

/* RFC 8446 7.1.  What is asked for is never longer than one block of HKDF-Expand. */
static bool
hkdf_expand_label(size_t hash_len, const unsigned char *secret, const char *label,
    unsigned char *out, size_t len)
{
    unsigned char info[64];
    unsigned char block[64];
    size_t label_len = strlen(label);
    info[0] = 0;
    info[1] = (unsigned char)len;
    info[2] = (unsigned char)(6 + label_len);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_len);
    info[9 + label_len] = 0;
    info[10 + label_len] = 1;
    if (len > hash_len || !hmac(hash_len, secret, hash_len, info, 11 + label_len, block))
        return false;
    memcpy(out, block, len);
    return true;
}

/* RFC 5246 5: the PRF with the label "key expansion" and the two randoms as seed. */
static bool
prf_key_block(size_t hash_len, const unsigned char *master, const unsigned char *server_random,
    const unsigned char *client_random, unsigned char *out, size_t len)
{
    unsigned char a[64 + 13 + 2 * RANDOM_LEN];   /* A(i), then the seed */
    unsigned char block[64];
    unsigned char *seed = a + hash_len;
    const size_t seed_len = 13 + 2 * RANDOM_LEN;
    memcpy(seed, "key expansion", 13);
    memcpy(seed + 13, server_random, RANDOM_LEN);
    memcpy(seed + 13 + RANDOM_LEN, client_random, RANDOM_LEN);
    if (!hmac(hash_len, master, 48, seed, seed_len, block))
        return false;
    for (size_t done = 0; done < len; done += hash_len) {
        memcpy(a, block, hash_len);
        if (!hmac(hash_len, master, 48, a, hash_len + seed_len, block))
            return false;
        memcpy(out + done, block, len - done < hash_len ? len - done : hash_len);
        if (!hmac(hash_len, master, 48, a, hash_len, block))
            return false;
    }
    return true;
}

static size_t
seal_key_len(unsigned seal)
{
    return seal == SEAL_GCM_128 || seal == SEAL_CCM_128 || seal == SEAL_CCM8_128 ? 16 : 32;
}

static size_t
seal_tag_len(unsigned seal)
{
    return seal == SEAL_CCM8_128 || seal == SEAL_CCM8_256 ? 8 : 16;
}

/* Bytes of the nonce that travel with a TLS 1.2 record: RFC 5288 3, RFC 6655 3; RFC 7905: none. */
static size_t
seal_explicit_len(unsigned seal)
{
    return seal == SEAL_CHACHA ? 0 : 8;
}

static mbedtls_cipher_type_t
seal_cipher(unsigned seal)
{
    switch (seal) {
    case SEAL_GCM_128:  return MBEDTLS_CIPHER_AES_128_GCM;
    case SEAL_GCM_256:  return MBEDTLS_CIPHER_AES_256_GCM;
    case SEAL_CCM_128:
    case SEAL_CCM8_128: return MBEDTLS_CIPHER_AES_128_CCM;
    case SEAL_CCM_256:
    case SEAL_CCM8_256: return MBEDTLS_CIPHER_AES_256_CCM;
    case SEAL_CHACHA:   return MBEDTLS_CIPHER_CHACHA20_POLY1305;
    default:            return MBEDTLS_CIPHER_NONE;
    }
}

static void
opener_free(struct opener *o)
{
    if (o == NULL)
        return;
    mbedtls_cipher_free(&o->cipher);
    free(o);
}

/* NULL: the suite cannot be opened here. */
static struct opener *
opener_new(const struct suite *suite, bool v13, const unsigned char *key)
{
    struct opener *o = memory_get(sizeof *o);
    o->suite = suite;
    o->v13 = v13;
    mbedtls_cipher_init(&o->cipher);
    const mbedtls_cipher_info_t *info = mbedtls_cipher_info_from_type(seal_cipher(suite->seal));
    if (info != NULL && memory_suffices(mbedtls_cipher_setup(&o->cipher, info) == 0)
        && memory_suffices(mbedtls_cipher_setkey(&o->cipher, key,
            (int)(8 * seal_key_len(suite->seal)), MBEDTLS_DECRYPT) == 0))
        return o;
    opener_free(o);
    return NULL;
}

/* RFC 8446 7.3 */
static struct opener *
opener_of_secret(const struct suite *suite, const unsigned char *secret)
{
    unsigned char key[32];
    unsigned char iv[12];
    if (!hkdf_expand_label(suite->hash, secret, "key", key, seal_key_len(suite->seal))
        || !hkdf_expand_label(suite->hash, secret, "iv", iv, sizeof iv))
        return NULL;
    struct opener *o = opener_new(suite, true, key);
    if (o == NULL)
        return NULL;
    memcpy(o->iv, iv, sizeof iv);
    memcpy(o->secret, secret, suite->hash);
    return o;
}

/* RFC 5246 6.3: client key, server key, client iv, server iv; no MAC keys with AEAD. */
static struct opener *
opener_of_master(const struct suite *suite, const unsigned char *master,
    const unsigned char *server_random, const unsigned char *client_random, bool of_client)
{
    unsigned char block[2 * 32 + 2 * 12 + 64];
    const size_t key_len = seal_key_len(suite->seal);
    const size_t iv_len = 12 - seal_explicit_len(suite->seal);
    if (!prf_key_block(suite->hash, master, server_random, client_random, block,
        2 * key_len + 2 * iv_len))
        return NULL;
    struct opener *o = opener_new(suite, false, block + (of_client ? 0 : key_len));
    if (o != NULL)
        memcpy(o->iv, block + 2 * key_len + (of_client ? 0 : iv_len), iv_len);
    return o;
}

/* Opens one record with sequence number `seq` into `out`; false: not with this key or number. */
static bool
opener_try(struct opener *o, uint64_t seq, const unsigned char *head, const unsigned char *body,
    size_t len, unsigned char *out, size_t *out_len)
{
    const unsigned seal = o->suite->seal;
    const size_t tag = seal_tag_len(seal);
    const size_t carried = o->v13 ? 0 : seal_explicit_len(seal);
    unsigned char extra[13];
    unsigned char nonce[12];
    if (len < carried + tag || len > RECORD_MAX)
        return false;
    const size_t plain = len - carried - tag;
    memcpy(nonce, o->iv, sizeof nonce);
    for (size_t i = 0; i < 8; i++) {
        extra[i] = (unsigned char)(seq >> (56 - 8 * i));
        nonce[4 + i] = carried > 0 ? body[i] : nonce[4 + i] ^ extra[i];
    }
    memcpy(extra + 8, head, 3);
    extra[11] = (unsigned char)(plain >> 8);
    extra[12] = (unsigned char)plain;
    return mbedtls_cipher_auth_decrypt_ext(&o->cipher, nonce, sizeof nonce, o->v13 ? head : extra,
        o->v13 ? RECORD_HEAD : sizeof extra, body + carried, len - carried, out,
        RECORD_MAX + 16, out_len, tag) == 0;
}

/* ---- cert: what a certificate says ---- */

enum {
    DER_INTEGER = 0x02,
    DER_OCTETS = 0x04,
    DER_OID = 0x06,
    DER_UTC_TIME = 0x17,
    DER_TIME = 0x18,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
    DER_CONTEXT_0 = 0xa0,
    DER_CONTEXT_3 = 0xa3,
    DER_SAN_OTHER = 0xa0,
    DER_SAN_DNS = 0x82,
    DER_KEY_ID = 0x80
};

/* One value: its tag and its content. */
static bool
der_any(struct reader *in, uint32_t *tag, struct reader *content)
{
    uint32_t len;
    if (!read_number(in, 1, tag) || !read_number(in, 1, &len))
        return false;
    if (len >= 0x80 && (len == 0x80 || len > 0x84 || !read_number(in, len - 0x80, &len)))
        return false;
    return read_part(in, len, content);
}

static bool
der_get(struct reader *in, uint32_t tag, struct reader *content)
{
    struct reader rest = *in;
    uint32_t found;
    if (!der_any(&rest, &found, content) || found != tag)
        return false;
    *in = rest;
    return true;
}

/* The whole value as it stands, head included. */
static bool
der_whole(struct reader *in, uint32_t tag, struct reader *whole)
{
    struct reader before = *in;
    struct reader content;
    if (!der_get(in, tag, &content))
        return false;
    whole->at = before.at;
    whole->left = before.left - in->left;
    return true;
}

/* RFC 5280 4.1.2.5: YYMMDDHHMMSSZ before 2050, YYYYMMDDHHMMSSZ after. */
static bool
der_time(struct reader *in, int64_t *out)
{
    struct reader text;
    uint32_t tag;
    int n[7] = { 0 };
    if (!der_any(in, &tag, &text) || (tag != DER_UTC_TIME && tag != DER_TIME))
        return false;
    const size_t year_digits = tag == DER_TIME ? 4 : 2;
    if (text.left != year_digits + 11 || text.at[text.left - 1] != 'Z')
        return false;
    for (size_t i = 0; i + 1 < text.left; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        size_t part = i < year_digits ? 0 : (i - year_digits) / 2 + 1;
        n[part] = n[part] * 10 + (text.at[i] - '0');
    }
    if (tag == DER_UTC_TIME)
        n[0] += n[0] < 50 ? 2000 : 1900;
    if (n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 || n[4] > 59 || n[5] > 60)
        return false;
    *out = xe_date_seconds(&(struct xe_date){ n[0], n[1], n[2], n[3], n[4], n[5] });
    return true;
}

static const char *
name_attribute(const struct reader *oid)
{
    static const struct {
        const char *oid;
        size_t      len;
        const char *word;
    } table[] = {
        { "\x55\x04\x03", 3, "CN=" }, { "\x55\x04\x06", 3, "C=" }, { "\x55\x04\x07", 3, "L=" },
        { "\x55\x04\x08", 3, "ST=" }, { "\x55\x04\x0a", 3, "O=" }, { "\x55\x04\x0b", 3, "OU=" },
        { "\x55\x04\x05", 3, "serialNumber=" },
        { "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01", 9, "emailAddress=" },
        { "\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19", 10, "DC=" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (reader_is(oid, table[i].oid, table[i].len))
            return table[i].word;
    return "?=";
}

/* A distinguished name for people: "C=CH, O=Example, CN=example.org". */
static bool
name_text(struct reader name, char *out, size_t cap)
{
    struct line l = line_on(out, cap);
    struct reader set, pair, oid, value;
    uint32_t tag;
    while (name.left > 0) {
        if (!der_get(&name, DER_SET, &set))
            return false;
        while (set.left > 0) {
            if (!der_get(&set, DER_SEQUENCE, &pair) || !der_get(&pair, DER_OID, &oid)
                || !der_any(&pair, &tag, &value))
                return false;
            if (l.len > 0)
                line_add_text(&l, ", ");
            line_add_text(&l, name_attribute(&oid));
            line_add_value(&l, &value);
        }
    }
    return true;
}

/* A name of the subjectAltName extension that concerns XMPP. */
enum san_kind { SAN_DNS, SAN_SRV, SAN_XMPP, SAN_OTHER };

/* OIDs below id-on (1.3.6.1.5.5.7.8): xmppAddr 5 (RFC 6120 13.7.1.4), dnsSRV 7 (RFC 4985). */
static bool
san_next(struct reader *in, enum san_kind *kind, struct reader *value)
{
    static const unsigned char on_xmpp[] = { 0x2b, 6, 1, 5, 5, 7, 8, 5 };
    static const unsigned char on_srv[] = { 0x2b, 6, 1, 5, 5, 7, 8, 7 };
    struct reader content, oid, explicit;
    uint32_t tag;
    *kind = SAN_OTHER;
    if (!der_any(in, &tag, &content))
        return false;
    *value = content;
    if (tag == DER_SAN_DNS)
        *kind = SAN_DNS;
    if (tag != DER_SAN_OTHER || !der_get(&content, DER_OID, &oid)
        || !der_get(&content, DER_CONTEXT_0, &explicit) || !der_any(&explicit, &tag, value))
        return true;
    if (reader_is(&oid, on_xmpp, sizeof on_xmpp))
        *kind = SAN_XMPP;
    if (reader_is(&oid, on_srv, sizeof on_srv))
        *kind = SAN_SRV;
    return true;
}

static void
san_text(struct reader names, char *out, size_t cap)
{
    struct line l = line_on(out, cap);
    struct reader value;
    enum san_kind kind;
    while (names.left > 0 && san_next(&names, &kind, &value)) {
        if (kind == SAN_OTHER)
            continue;
        if (l.len > 0)
            line_add_text(&l, ", ");
        if (kind == SAN_XMPP)
            line_add_text(&l, "xmpp:");
        line_add_name(&l, &value);
    }
}

/* The parts of a certificate that are looked at. */
struct cert_parts {
    struct reader issuer, subject;         /* with their heads */
    int64_t       not_before, not_after;
    struct reader san, eku, subject_key, authority_key;   /* at == NULL: absent */
};

/* RFC 5280 4.2: the values of the extensions we know, each below its OCTET STRING. */
static void
cert_extension(struct cert_parts *p, const struct reader *oid, struct reader value)
{
    struct reader content;
    if (oid->left != 3 || oid->at[0] != 0x55 || oid->at[1] != 0x1d)
        return;
    switch (oid->at[2]) {
    case 17:
        if (der_get(&value, DER_SEQUENCE, &content))
            p->san = content;
        break;
    case 37:
        if (der_get(&value, DER_SEQUENCE, &content))
            p->eku = content;
        break;
    case 14:
        if (der_get(&value, DER_OCTETS, &content))
            p->subject_key = content;
        break;
    case 35:
        if (der_get(&value, DER_SEQUENCE, &content))
            (void)der_get(&content, DER_KEY_ID, &p->authority_key);
        break;
    default:
        break;
    }
}

static bool
cert_extensions(struct cert_parts *p, struct reader in)
{
    struct reader list, extension, oid, value;
    uint32_t tag;
    if (!der_get(&in, DER_SEQUENCE, &list))
        return false;
    while (list.left > 0) {
        if (!der_get(&list, DER_SEQUENCE, &extension) || !der_get(&extension, DER_OID, &oid))
            return false;
        if (!der_any(&extension, &tag, &value))
            return false;
        if (tag != DER_OCTETS && !der_get(&extension, DER_OCTETS, &value))   /* tag was: critical */
            return false;
        cert_extension(p, &oid, value);
    }
    return true;
}

/* RFC 5280 4.1 */
static bool
cert_take_apart(struct cert_parts *p, struct reader der)
{
    struct reader whole, tbs, skip, validity;
    uint32_t tag;
    memset(p, 0, sizeof *p);
    if (!der_get(&der, DER_SEQUENCE, &whole) || !der_get(&whole, DER_SEQUENCE, &tbs))
        return false;
    (void)der_get(&tbs, DER_CONTEXT_0, &skip);   /* version; absent in version 1 */
    if (!der_get(&tbs, DER_INTEGER, &skip) || !der_get(&tbs, DER_SEQUENCE, &skip)
        || !der_whole(&tbs, DER_SEQUENCE, &p->issuer) || !der_get(&tbs, DER_SEQUENCE, &validity)
        || !der_time(&validity, &p->not_before) || !der_time(&validity, &p->not_after)
        || !der_whole(&tbs, DER_SEQUENCE, &p->subject) || !der_get(&tbs, DER_SEQUENCE, &skip))
        return false;
    while (tbs.left > 0) {
        if (!der_any(&tbs, &tag, &skip) || (tag == DER_CONTEXT_3 && !cert_extensions(p, skip)))
            return false;
    }
    return true;
}

/* RFC 5280 4.2.1.12: what the key may be used for; everything when it does not say. */
static void
cert_usage(struct cert *c, struct reader eku)
{
    static const unsigned char any[] = { 0x55, 0x1d, 0x25, 0 };
    static const unsigned char server[] = { 0x2b, 6, 1, 5, 5, 7, 3, 1 };
    static const unsigned char client[] = { 0x2b, 6, 1, 5, 5, 7, 3, 2 };
    struct reader oid;
    bool all = eku.at == NULL;
    c->eku_server = all;
    c->eku_client = all;
    while (eku.left > 0 && der_get(&eku, DER_OID, &oid)) {
        all = reader_is(&oid, any, sizeof any);
        c->eku_server = c->eku_server || all || reader_is(&oid, server, sizeof server);
        c->eku_client = c->eku_client || all || reader_is(&oid, client, sizeof client);
    }
}

static void
cert_read(struct cert *c)
{
    struct cert_parts p;
    struct reader dn, body;
    if (!cert_take_apart(&p, (struct reader){ c->der, c->der_len }))
        return;
    c->readable = true;
    c->not_before = p.not_before;
    c->not_after = p.not_after;
    dn = p.subject;
    if (der_get(&dn, DER_SEQUENCE, &body))
        c->readable = name_text(body, c->subject, sizeof c->subject) && c->readable;
    dn = p.issuer;
    if (der_get(&dn, DER_SEQUENCE, &body))
        c->readable = name_text(body, c->issuer, sizeof c->issuer) && c->readable;
    san_text(p.san, c->names, sizeof c->names);
    cert_usage(c, p.eku);
    c->self_signed = reader_is(&p.subject, p.issuer.at, p.issuer.left)
        && (p.authority_key.at == NULL || p.subject_key.at == NULL
            || reader_is(&p.subject_key, p.authority_key.at, p.authority_key.left));
}

const struct cert *
cert_keep(const struct cert *c)
{
    if (c != NULL)
        ((struct cert *)(uintptr_t)c)->holders++;
    return c;
}

void
cert_drop(const struct cert *c)
{
    struct cert *mine = (struct cert *)(uintptr_t)c;
    if (mine == NULL || --mine->holders > 0)
        return;
    free(mine->chain);
    free(mine);
}

/* Case does not count. */
static bool
name_is(const unsigned char *at, size_t len, const char *domain, size_t domain_len)
{
    return len == domain_len && len > 0 && strncasecmp((const char *)at, domain, len) == 0;
}

/* RFC 9525 6.3: a wildcard is the whole left-most label and stands for exactly one label. */
static bool
name_matches(struct reader name, const char *domain, size_t len)
{
    if (name.left > 1 && name.at[name.left - 1] == '.')
        name.left--;
    if (name.left < 3 || name.at[0] != '*' || name.at[1] != '.')
        return name_is(name.at, name.left, domain, len);
    size_t label = strcspn(domain, ".");
    return label > 0 && label < len
        && name_is(name.at + 1, name.left - 1, domain + label, len - label);
}

bool
cert_names_domain(const struct cert *c, const char *domain)
{
    static const char srv[] = "_xmpp-server.";
    struct cert_parts p;
    struct reader value;
    enum san_kind kind;
    size_t len = strlen(domain);
    if (len > 1 && domain[len - 1] == '.')
        len--;
    if (c == NULL || len == 0 || !cert_take_apart(&p, (struct reader){ c->der, c->der_len }))
        return false;
    while (p.san.left > 0 && san_next(&p.san, &kind, &value)) {
        if (kind == SAN_DNS && name_matches(value, domain, len))
            return true;
        if (kind == SAN_XMPP && name_is(value.at, value.left, domain, len))
            return true;
        if (kind == SAN_SRV && value.left > sizeof srv - 1
            && name_is(value.at, sizeof srv - 1, srv, sizeof srv - 1)
            && name_is(value.at + sizeof srv - 1, value.left - (sizeof srv - 1), domain, len))
            return true;
    }
    return false;
}

static int64_t
seconds_of(int64_t time_ns)
{
    int64_t seconds = time_ns / SECOND;
    return time_ns % SECOND < 0 ? seconds - 1 : seconds;
}

bool
cert_expired_at(const struct cert *c, int64_t time_ns)
{
    return c->readable && seconds_of(time_ns) > c->not_after;
}

bool
cert_early_at(const struct cert *c, int64_t time_ns)
{
    return c->readable && seconds_of(time_ns) < c->not_before;
}

/* ---- certs: each certificate once ---- */

/* A cache: the set is chosen by a hash of the chain, and inside a set what nobody holds makes room.
 * Few partners send their few certificates again and again: a handshake must not cost a SHA-256. */
struct tls_certs {
    const struct cert *kept[CERT_SETS][CERT_WAYS];   /* each held once by us */
    struct pile        chain;                        /* of the message that is looked at */
};

struct tls_certs *
tls_certs_new(void)
{
    return memory_get(sizeof(struct tls_certs));
}

void
tls_certs_free(struct tls_certs *certs)
{
    if (certs == NULL)
        return;
    for (size_t i = 0; i < CERT_SETS; i++)
        for (size_t j = 0; j < CERT_WAYS; j++)
            cert_drop(certs->kept[i][j]);
    pile_free(&certs->chain);
    free(certs);
}

/* Collects the certificates of a message; `extended`: as in TLS 1.3, each with extensions. */
static bool
chain_collect(struct reader list, bool extended, struct pile *chain, unsigned *count)
{
    struct reader der, skip;
    *count = 0;
    while (list.left > 0) {
        struct reader before = list;
        if (!read_vector(&list, 3, &der) || der.left == 0)
            return *count > 0;
        if (*count < CHAIN_COUNT_MAX && chain->len + der.left + 3 <= CHAIN_MAX)
            pile_put(chain, before.at, der.left + 3);
        else if (*count == 0)
            return false;
        *count += 1;
        if (extended && !read_vector(&list, 2, &skip))
            return true;
    }
    return *count > 0;
}

/* The last bytes do not count: a signature tells certificates apart before them. */
static const struct cert **
certs_set(struct tls_certs *certs)
{
    const struct pile *chain = &certs->chain;
    uint64_t h = chain->len;
    for (size_t i = 0; i + sizeof h <= chain->len; i += sizeof h) {
        uint64_t x;
        memcpy(&x, chain->at + i, sizeof x);
        h = (h ^ x) * UINT64_C(0x9FB21C651E98DF25);
        h ^= h >> 32;
    }
    return certs->kept[h % CERT_SETS];
}

/* A certificate of its own from the chain that was collected. */
static struct cert *
cert_new(const struct pile *chain, unsigned count)
{
    unsigned char hash[32];
    struct pile copy = { NULL, 0, 0 };
    struct cert *c = memory_get(sizeof *c);
    pile_put(&copy, chain->at, chain->len);
    c->holders = 1;
    c->chain = copy.at;
    c->chain_len = copy.len;
    c->chain_length = count;
    c->der = copy.at + 3;
    c->der_len = (size_t)copy.at[0] << 16 | (size_t)copy.at[1] << 8 | copy.at[2];
    if (!memory_suffices(mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), c->der,
        c->der_len, hash) == 0))
        memset(hash, 0, sizeof hash);
    for (size_t i = 0; i < sizeof hash; i++)
        snprintf(c->fingerprint + 2 * i, 3, "%02x", (unsigned)hash[i]);
    cert_read(c);
    return c;
}

/* The certificate of a list; held for the caller.  NULL: the list is empty or broken. */
static const struct cert *
certs_take(struct tls_certs *certs, struct reader list, bool extended)
{
    struct pile *chain = &certs->chain;
    unsigned count;
    chain->len = 0;
    if (!chain_collect(list, extended, chain, &count))
        return NULL;
    const struct cert **set = certs_set(certs);
    const struct cert **room = NULL;
    for (size_t i = 0; i < CERT_WAYS; i++) {
        if (set[i] != NULL && set[i]->chain_len == chain->len
            && memcmp(set[i]->chain, chain->at, chain->len) == 0)
            return cert_keep(set[i]);
        if (room == NULL && (set[i] == NULL || set[i]->holders == 1))
            room = &set[i];
    }
    const struct cert *fresh = cert_new(chain, count);
    if (room != NULL) {
        cert_drop(*room);
        *room = cert_keep(fresh);
    }
    return fresh;
}

/* ---- trust: a chain against authorities ---- */

struct cert_anchors {
    mbedtls_x509_crt list;
};

/* The library does not tell a certificate that is bad from memory that is out: what has failed is
 * done once more, when there is some. */
#define TRUST_TRIES 2

struct cert_anchors *
cert_anchors_read(const char *path)
{
    struct cert_anchors *a = memory_get(sizeof *a);
    int code, tries = 0;
    do {
        mbedtls_x509_crt_free(&a->list);
        mbedtls_x509_crt_init(&a->list);
        code = mbedtls_x509_crt_parse_file(&a->list, path);
    } while (code != 0 && ++tries < TRUST_TRIES && memory_is_there());
    if (code >= 0 && a->list.raw.len > 0)
        return a;
    cert_anchors_free(a);
    return NULL;
}

void
cert_anchors_free(struct cert_anchors *a)
{
    if (a == NULL)
        return;
    mbedtls_x509_crt_free(&a->list);
    free(a);
}

/* What the check of a chain carries along. */
struct trust_check {
    int64_t seconds;     /* packet time */
    bool    time_bad;    /* an authority was not valid then */
};

static int64_t
x509_seconds(const mbedtls_x509_time *t)
{
    return xe_date_seconds(
        &(struct xe_date){ t->year, t->mon, t->day, t->hour, t->min, t->sec });
}

/* The library judges by the clock of this machine; we judge by the time of the packet. */
static int
trust_each(void *user, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct trust_check *check = user;
    *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE
        | MBEDTLS_X509_BADCRL_EXPIRED | MBEDTLS_X509_BADCRL_FUTURE);
    if (depth > 0 && (check->seconds > x509_seconds(&crt->valid_to)
        || check->seconds < x509_seconds(&crt->valid_from)))
        check->time_bad = true;
    return 0;
}

static enum cert_trust
trust_chain(const struct cert *c, struct cert_anchors *a, int64_t time_ns)
{
    struct trust_check check = { seconds_of(time_ns), false };
    struct reader in = { c->chain, c->chain_len };
    struct reader der;
    mbedtls_x509_crt chain;
    uint32_t flags = 0;
    mbedtls_x509_crt_init(&chain);
    for (bool leaf = true; in.left > 0 && read_vector(&in, 3, &der); leaf = false) {
        /* an intermediate that cannot be read may not be needed */
        if (mbedtls_x509_crt_parse_der(&chain, der.at, der.left) != 0 && leaf) {
            mbedtls_x509_crt_free(&chain);
            return CERT_TRUST_UNKNOWN;
        }
    }
    int bad = mbedtls_x509_crt_verify_with_profile(&chain, &a->list, NULL,
        &mbedtls_x509_crt_profile_default, NULL, &flags, trust_each, &check);
    mbedtls_x509_crt_free(&chain);
    if (bad != 0)
        return CERT_TRUST_NO;
    return check.time_bad ? CERT_TRUST_CHAIN_TIME : CERT_TRUST_YES;
}

enum cert_trust
cert_trust(const struct cert *c, struct cert_anchors *a, int64_t time_ns)
{
    enum cert_trust trust = CERT_TRUST_UNKNOWN;
    int tries = 0;
    if (a == NULL)
        return trust;
    do
        trust = trust_chain(c, a, time_ns);
    while ((trust == CERT_TRUST_NO || trust == CERT_TRUST_UNKNOWN) && ++tries < TRUST_TRIES
        && memory_is_there());
    return trust == CERT_TRUST_NO && tries < TRUST_TRIES ? CERT_TRUST_UNKNOWN : trust;
}

/* ---- session: one TLS connection ---- */

/* What only a side needs whose bytes are looked into. */
struct work {
    struct pile    record;         /* a record that came in pieces */
    struct pile    message;        /* a handshake message that came in pieces */
    uint32_t       message_skip;   /* bytes of a message over the ceiling still to come */
    struct opener *opener;         /* owned; NULL: this side is plain or cannot be read */
    uint32_t       seek;           /* sequence numbers that may have been lost in a gap */
    uint32_t       trials;         /* records that may not open: they are from before this key */
};

/* One side of the connection. */
struct lane {
    struct work *work;             /* owned; NULL when nothing is collected */
    uint32_t     left;             /* bytes of the record still to come */
    uint8_t      head[RECORD_HEAD];
    uint8_t      head_len;         /* bytes of it that are there */
    bool         wanted;           /* the content of this record is collected */
    bool         sealed;           /* TLS 1.2: ChangeCipherSpec has passed */
    bool         finished;         /* Finished has passed, or is inferred */
    bool         lost;             /* after a gap: a record is looked for */
    bool         told;             /* `encrypted` was said */
    bool         blind;            /* `broken` was said of this side */
};

/* How far the last flight of a TLS 1.3 client is understood from lengths: see the top. */
enum flight { FLIGHT_NONE, FLIGHT_EMPTY, FLIGHT_CERT, FLIGHT_DONE_PLAIN, FLIGHT_DONE_EMPTY,
    FLIGHT_DONE_CERT, FLIGHT_CANNOT };

/* What is needed until the handshake is over. */
struct setup {
    unsigned char client_random[RANDOM_LEN];
    unsigned char server_random[RANDOM_LEN];
    bool          asked;           /* CertificateRequest */
    bool          list_seen;       /* Certificate of the client ... */
    bool          list_empty;      /* ... without one */
    bool          list_packed;     /* ... compressed: CompressedCertificate */
    bool          verified;        /* CertificateVerify of the client */
    bool          server_done;     /* ServerHelloDone; TLS 1.3: the server's Finished, opened */
    bool          client_done;     /* TLS 1.3: its Finished was opened, no need of lengths */
    bool          gap;             /* bytes of the handshake are missing */
    uint8_t       later_finished;  /* Finished messages of it, TLS 1.2 */
    bool          later;           /* a second handshake in an established session */
    enum flight   flight;
    uint32_t      flight_records;
    uint64_t      flight_extra;    /* bytes of records that are data if the flight was one record */
};

/* Bytes that wait for their keys: pieces, each a struct piece and its bytes. */
struct hold {
    struct pile bytes;
    int64_t     since_ns;
    uint64_t    lines;             /* of the key log when it was asked last */
};

struct piece {
    uint64_t frame;
    int64_t  time_ns;
    size_t   len;
    int      side;
};

struct tls_session {
    struct tls_view          view;
    struct lane              lane[2];
    struct tls_keys         *keys;     /* borrowed; NULL: none */
    struct tls_certs        *certs;    /* borrowed */
    const struct tls_events *events;   /* borrowed */
    void                    *user;
    struct setup            *setup;    /* owned; NULL: handshake over */
    struct hold             *hold;     /* owned; NULL: not waiting */
    uint64_t                 frame;    /* of the bytes that are looked at */
    int64_t                  time_ns;
    bool                     over;     /* this is no TLS */
    bool                     ended;
};

/* Every connection needs these, and for a short time. */
static struct pool session_pool = { sizeof(struct tls_session), NULL, NULL };
static struct pool setup_pool = { sizeof(struct setup), NULL, NULL };
static struct pool work_pool = { sizeof(struct work), NULL, NULL };

static const struct suite *
session_suite(const struct tls_session *s)
{
    return suite_find(s->view.cipher);
}

static int
session_server_side(const struct tls_session *s)
{
    return 1 - s->view.client_side;
}

static bool
session_is_13(const struct tls_session *s)
{
    return s->view.server_hello && s->view.version >= TLS13;
}

static struct setup *
session_setup(struct tls_session *s)
{
    if (s->setup == NULL) {
        s->setup = memory_take(&setup_pool);
        s->setup->later = s->view.established;
    }
    return s->setup;
}

static struct work *
lane_work(struct lane *lane)
{
    if (lane->work == NULL)
        lane->work = memory_take(&work_pool);
    return lane->work;
}

static void
lane_work_free(struct lane *lane)
{
    if (lane->work == NULL)
        return;
    pile_free(&lane->work->record);
    pile_free(&lane->work->message);
    opener_free(lane->work->opener);
    pool_put(&work_pool, lane->work);
    lane->work = NULL;
}

/* Gives back what the rest of the session does not need. */
static void
session_trim(struct tls_session *s)
{
    if (s->setup != NULL && s->view.established && !s->setup->later) {
        pool_put(&setup_pool, s->setup);
        s->setup = NULL;
    }
    for (int side = 0; side < 2; side++) {
        struct work *w = s->lane[side].work;
        if (w == NULL || w->record.len > 0 || w->message.len > 0)
            continue;
        pile_free(&w->message);
        if (w->opener == NULL && w->message_skip == 0)
            lane_work_free(&s->lane[side]);
    }
}

static void
session_broken(struct tls_session *s, int side, const char *what)
{
    if (s->lane[side].blind)
        return;
    s->lane[side].blind = true;
    if (s->events->broken != NULL)
        s->events->broken(s->user, side, what, s->frame);
}

/* Bytes of this side cannot be read any more, though there were keys. */
static void
lane_close(struct tls_session *s, int side, const char *what)
{
    struct work *w = s->lane[side].work;
    if (w != NULL) {
        opener_free(w->opener);
        w->opener = NULL;
        w->seek = 0;
        w->message.len = 0;
        w->message_skip = 0;
    }
    s->view.why_closed = what;
    session_broken(s, side, what);
}

static void
session_establish(struct tls_session *s)
{
    if (s->view.established)
        return;
    s->view.established = true;
    if (s->events->established != NULL)
        s->events->established(s->user, &s->view);
}

/* ---- proof: did the client show a certificate? ---- */

static void
proof_set(struct tls_session *s, enum tls_client_proof proof, const char *how)
{
    s->view.proof = proof;
    s->view.proof_how = how;
}

/* From messages that were seen, plain or opened. */
static void
proof_from_messages(struct tls_session *s)
{
    const struct setup *u = s->setup;
    if (u == NULL || u->gap)
        proof_set(s, PROOF_UNKNOWN, "bytes of the handshake are missing");
    else if (s->view.resumed)
        proof_set(s, PROOF_NOT_ASKED, "resumed: what was proven in the first session still counts");
    else if (!u->server_done)
        proof_set(s, PROOF_UNKNOWN, "the messages of the server were not seen");
    else if (!u->asked)
        proof_set(s, PROOF_NOT_ASKED, "no CertificateRequest in the handshake");
    else if (!u->list_seen || u->list_empty)
        proof_set(s, PROOF_EMPTY, "an empty Certificate in the handshake");
    else if (!u->verified)
        proof_set(s, PROOF_UNKNOWN, "a Certificate without CertificateVerify");
    else if (u->list_packed)
        proof_set(s, PROOF_PROVEN,
            "CompressedCertificate (not decoded) and CertificateVerify in the handshake");
    else
        proof_set(s, PROOF_PROVEN, "Certificate and CertificateVerify in the handshake");
}

/* From lengths. */
static void
proof_from_flight(struct tls_session *s)
{
    switch (s->setup->flight) {
    case FLIGHT_DONE_PLAIN:
        proof_set(s, PROOF_INFERRED_NONE,
            "record lengths: the client's last flight is Finished alone");
        break;
    case FLIGHT_DONE_EMPTY:
        proof_set(s, PROOF_INFERRED_NONE, "record lengths: an empty Certificate, then Finished");
        break;
    case FLIGHT_DONE_CERT:
        proof_set(s, PROOF_INFERRED,
            "record lengths: more than Finished in the client's last flight");
        break;
    case FLIGHT_NONE:
    case FLIGHT_EMPTY:
    case FLIGHT_CERT:
    case FLIGHT_CANNOT:
        proof_set(s, PROOF_UNKNOWN,
            s->view.early_data ? "0-RTT data hides the client's last flight"
                : "the record lengths fit no known flight");
        break;
    }
}

/* A TLS 1.3 handshake, from what there is: messages are better than lengths. */
static void
proof_settle(struct tls_session *s)
{
    const struct setup *u = s->setup;
    if (u == NULL || u->gap || u->client_done || u->flight == FLIGHT_NONE || s->view.resumed)
        proof_from_messages(s);
    else
        proof_from_flight(s);
}

/* The handshake has failed, or nobody knows: a certificate that was sent proves nothing then. */
static void
proof_unfinished(struct tls_session *s)
{
    const struct setup *u = s->setup;
    if (u == NULL || u->gap || s->view.resumed)
        return;
    if (u->list_seen && u->list_empty)
        proof_from_messages(s);
    else if (u->list_seen)
        proof_set(s, PROOF_UNKNOWN,
            "a certificate was sent, but the server has not gone on after it");
    else if (u->flight != FLIGHT_NONE && !u->client_done)
        proof_from_flight(s);
    if (u->flight == FLIGHT_CERT || s->view.proof == PROOF_INFERRED)
        proof_set(s, PROOF_UNKNOWN,
            "record lengths: a certificate was sent, but the server has not gone on after it");
}

static void
finished_note(struct tls_session *s)
{
    s->view.finished_frame = s->frame;
    s->view.finished_ns = s->time_ns;
}

/* RFC 8446 4.4.2: a server that does not like the certificate says so after the client's Finished.
 * When it goes on with anything but an alert it has accepted.  What waited behind a gap may be read
 * after that Finished and is older: it is still the server's own flight. */
static void
server_went_on(struct tls_session *s)
{
    struct setup *u = s->setup;
    if (u == NULL || s->view.established || s->frame < s->view.finished_frame)
        return;
    if (u->flight == FLIGHT_CERT) {
        u->flight = FLIGHT_DONE_CERT;
        s->view.app_records[s->view.client_side] += u->flight_records - 1;
        s->view.app_bytes[s->view.client_side] += u->flight_extra;
    }
    if (u->flight == FLIGHT_EMPTY)
        u->flight = FLIGHT_CANNOT;
    if (u->flight == FLIGHT_NONE && !s->lane[s->view.client_side].finished)
        return;
    proof_settle(s);
    session_establish(s);
}

/* A Finished message, seen or (TLS 1.2) recognised by its place. */
static void
lane_finished(struct tls_session *s, int side)
{
    struct lane *lane = &s->lane[side];
    lane->finished = true;
    if (session_is_13(s)) {
        if (side == s->view.client_side)
            finished_note(s);
        if (s->setup != NULL && side == s->view.client_side)
            s->setup->client_done = true;
        else if (s->setup != NULL)
            s->setup->server_done = true;
        return;
    }
    if (!s->lane[1 - side].finished || s->view.established)
        return;
    finished_note(s);
    proof_from_messages(s);
    session_establish(s);
}

/* What a Finished ends. */
static enum flight
flight_done(enum flight before)
{
    if (before == FLIGHT_CERT)
        return FLIGHT_DONE_CERT;
    return before == FLIGHT_EMPTY ? FLIGHT_DONE_EMPTY : FLIGHT_DONE_PLAIN;
}

/* A record of a client whose last flight is known only by its lengths.  True: it is part of it. */
static bool
flight_record(struct tls_session *s, size_t len)
{
    struct setup *u = session_setup(s);
    const struct suite *suite = session_suite(s);
    if (u->flight >= FLIGHT_DONE_PLAIN)
        return false;
    finished_note(s);
    if (suite == NULL || s->view.early_data || u->gap) {
        u->flight = FLIGHT_CANNOT;
        return true;
    }
    const size_t over = 1 + seal_tag_len(suite->seal);
    const size_t finished = 4u + suite->hash + over;
    if (len == finished)
        u->flight = flight_done(u->flight);
    else if (u->flight_records == 0 && len == finished + 8)
        u->flight = FLIGHT_DONE_EMPTY;
    else if (u->flight_records == 0 && len == 8 + over)
        u->flight = FLIGHT_EMPTY;
    else if (u->flight_records == 0 && len >= FLIGHT_CERT_MIN
        && (len + 1 - over) % PADDING_STEP != 0)
        u->flight = FLIGHT_CERT;
    else if (u->flight != FLIGHT_CERT || u->flight_records >= FLIGHT_RECORDS_MAX)
        u->flight = u->flight == FLIGHT_CERT ? FLIGHT_DONE_CERT : FLIGHT_CANNOT;
    if (u->flight_records++ > 0)
        u->flight_extra += len - (len < over ? len : over);
    if (u->flight >= FLIGHT_DONE_PLAIN)
        s->lane[s->view.client_side].finished = true;
    return true;
}

/* ---- key_: which key opens what comes next ---- */

/* Why nothing can be opened even with a key log; NULL: it can. */
static const char *
key_obstacle(const struct tls_session *s)
{
    const struct suite *suite = session_suite(s);
    if (!s->view.server_hello || !s->view.client_hello)
        return "the beginning of the handshake was not seen";
    if (s->view.version != TLS12 && s->view.version != TLS13)
        return "a version of TLS that is too old";
    if (suite == NULL)
        return "a cipher suite that is not known here";
    if (suite->seal == SEAL_CBC)
        return "a CBC cipher suite: recognised, not opened";
    if (suite->seal == SEAL_OTHER)
        return "a cipher suite that is not opened here";
    return NULL;
}

static const struct secrets *
key_secrets(const struct tls_session *s)
{
    if (s->setup == NULL || key_obstacle(s) != NULL)
        return NULL;
    return keys_find(s->keys, s->setup->client_random);
}

static void
key_install(struct tls_session *s, int side, struct opener *o)
{
    struct work *w = lane_work(&s->lane[side]);
    opener_free(w->opener);
    w->opener = o;
    w->trials = 0;
}

/* TLS 1.3: from now on this side uses the secret `kind`.  False: it is not in the key log. */
static bool
key_secret_use(struct tls_session *s, int side, enum secret_kind kind)
{
    const struct secrets *known = key_secrets(s);
    const struct suite *suite = session_suite(s);
    struct opener *o = NULL;
    if (known != NULL && known->len[kind] == suite->hash)
        o = opener_of_secret(suite, known->secret[kind]);
    key_install(s, side, o);
    return o != NULL;
}

/* TLS 1.3, at the ServerHello.  A log without the handshake's secrets still opens the data: records
 * before it simply do not fit. */
static void
key_handshake_begin(struct tls_session *s)
{
    static const enum secret_kind kinds[2][2] = {
        { SECRET_CLIENT_HANDSHAKE, SECRET_CLIENT_DATA },
        { SECRET_SERVER_HANDSHAKE, SECRET_SERVER_DATA }
    };
    for (int i = 0; i < 2; i++) {
        const int side = i == 0 ? s->view.client_side : session_server_side(s);
        const bool early = i == 0 && s->view.early_data;
        const bool first = key_secret_use(s, side, kinds[i][0]);
        if ((first && early) || (!first && key_secret_use(s, side, kinds[i][1])))
            s->lane[side].work->trials = TRIAL_RECORDS_MAX;
    }
}

static void
key_data_begin(struct tls_session *s, int side)
{
    (void)key_secret_use(s, side,
        side == s->view.client_side ? SECRET_CLIENT_DATA : SECRET_SERVER_DATA);
}

/* RFC 8446 7.2 */
static void
key_update(struct tls_session *s, int side)
{
    const struct opener *old = s->lane[side].work == NULL ? NULL : s->lane[side].work->opener;
    unsigned char next[SECRET_MAX];
    if (old == NULL || !old->v13
        || !hkdf_expand_label(old->suite->hash, old->secret, "traffic upd", next, old->suite->hash))
        return;
    key_install(s, side, opener_of_secret(old->suite, next));
}

/* TLS 1.2, at ChangeCipherSpec. */
static void
key_master_use(struct tls_session *s, int side)
{
    const struct secrets *known = key_secrets(s);
    if (known == NULL || known->len[SECRET_MASTER] != 48) {
        if (s->lane[side].work != NULL)
            key_install(s, side, NULL);
        return;
    }
    key_install(s, side, opener_of_master(session_suite(s), known->secret[SECRET_MASTER],
        s->setup->server_random, s->setup->client_random, side == s->view.client_side));
}

static void
key_mark_used(struct tls_session *s)
{
    s->view.decrypted = true;
    if (s->setup == NULL)
        return;
    struct secrets *known = keys_find(s->keys, s->setup->client_random);
    if (known != NULL)
        known->used = true;
}

/* ---- hold_: a live capture may be faster than its key log ---- */

/* Is everything there that this session needs? */
static bool
hold_keys_there(const struct tls_session *s)
{
    const struct secrets *known = key_secrets(s);
    if (known == NULL)
        return key_obstacle(s) != NULL;
    if (!session_is_13(s))
        return known->len[SECRET_MASTER] > 0;
    return known->len[SECRET_CLIENT_HANDSHAKE] > 0 && known->len[SECRET_SERVER_HANDSHAKE] > 0
        && known->len[SECRET_CLIENT_DATA] > 0 && known->len[SECRET_SERVER_DATA] > 0;
}

static void
hold_begin(struct tls_session *s)
{
    if (s->keys == NULL || !s->keys->more || hold_keys_there(s))
        return;
    s->hold = memory_get(sizeof *s->hold);
    s->hold->since_ns = s->time_ns;
    s->hold->lines = s->keys->lines;
}

static void
hold_add(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    struct piece piece = { s->frame, s->time_ns, len, side };
    unsigned char head[sizeof piece];
    memcpy(head, &piece, sizeof piece);
    pile_put(&s->hold->bytes, head, sizeof head);
    pile_put(&s->hold->bytes, at, len);
}

/* ---- hello_: the two messages that are always plain ---- */

enum { EXT_SNI = 0, EXT_ALPN = 16, EXT_PSK = 41, EXT_EARLY_DATA = 42, EXT_VERSIONS = 43 };

static const char *
text_replace(const char *old, const struct line *l)
{
    if (old[0] != '\0')
        free((char *)(uintptr_t)old);
    return l->len == 0 ? "" : line_keep(l);
}

/* RFC 6066 3: the first name of type host_name. */
static void
hello_sni(struct tls_session *s, struct reader in)
{
    struct reader list, name;
    uint32_t type;
    char text[SNI_MAX + 1];
    struct line l = line_on(text, sizeof text);
    if (!read_vector(&in, 2, &list))
        return;
    while (read_number(&list, 1, &type) && read_vector(&list, 2, &name)) {
        if (type != 0)
            continue;
        line_add(&l, name.at, name.left);
        break;
    }
    s->view.sni = text_replace(s->view.sni, &l);
}

/* RFC 7301 3.1: what is offered, or the one that was chosen. */
static void
hello_alpn(struct tls_session *s, struct reader in)
{
    struct reader list, name;
    char text[ALPN_MAX + 1];
    struct line l = line_on(text, sizeof text);
    if (!read_vector(&in, 2, &list))
        return;
    while (read_vector(&list, 1, &name)) {
        if (l.len > 0)
            line_add_text(&l, ",");
        line_add(&l, name.at, name.left);
    }
    s->view.alpn = text_replace(s->view.alpn, &l);
}

/* RFC 8446 4.2.1; values of the form 0x?a?a are sent to keep us honest (RFC 8701). */
static void
hello_versions(struct tls_session *s, struct reader in)
{
    struct reader list;
    uint32_t version;
    if (!read_vector(&in, 1, &list))
        return;
    s->view.offered = 0;
    while (read_number(&list, 2, &version))
        if ((version & 0x0f0f) != 0x0a0a && version > s->view.offered && version <= 0x03ff)
            s->view.offered = (uint16_t)version;
}

static void
hello_client_extension(struct tls_session *s, uint32_t type, struct reader value)
{
    switch (type) {
    case EXT_SNI:        hello_sni(s, value); break;
    case EXT_ALPN:       hello_alpn(s, value); break;
    case EXT_VERSIONS:   hello_versions(s, value); break;
    case EXT_EARLY_DATA: s->view.early_data = true; break;
    default:             break;
    }
}

/* RFC 8446 4.1.2, RFC 5246 7.4.1.2 */
static void
hello_client(struct tls_session *s, int side, struct reader in)
{
    struct reader random, skip, list, value;
    uint32_t version, type;
    if ((s->view.client_hello && side != s->view.client_side) || !read_number(&in, 2, &version)
        || !read_part(&in, RANDOM_LEN, &random) || !read_vector(&in, 1, &skip)
        || !read_vector(&in, 2, &skip) || !read_vector(&in, 1, &skip))
        return;
    const bool again = s->view.client_hello;
    struct setup *u = session_setup(s);
    if (u->later)
        *u = (struct setup){ .later = true };
    memcpy(u->client_random, random.at, RANDOM_LEN);
    memcpy(&s->view.random[0], random.at + RANDOM_CORE, sizeof s->view.random[0]);
    s->view.client_hello = true;
    s->view.client_side = (uint8_t)side;
    s->view.offered = (uint16_t)version;
    s->view.early_data = false;
    if (read_vector(&in, 2, &list))
        while (read_number(&list, 2, &type) && read_vector(&list, 2, &value))
            hello_client_extension(s, type, value);
    if (again)
        return;
    s->view.hello_frame = s->frame;
    s->view.hello_ns = s->time_ns;
    if (s->events->hello != NULL)
        s->events->hello(s->user, &s->view);
}

/* RFC 8446 4.1.3: this random says HelloRetryRequest. */
static bool
hello_is_retry(const struct reader *random)
{
    static const unsigned char retry[RANDOM_LEN] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11,
        0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c,
        0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
    return reader_is(random, retry, sizeof retry);
}

static void
hello_server_extensions(struct tls_session *s, struct reader in, uint32_t *version)
{
    struct reader list, value;
    uint32_t type;
    if (!read_vector(&in, 2, &list))
        return;
    while (read_number(&list, 2, &type) && read_vector(&list, 2, &value)) {
        if (type == EXT_VERSIONS)
            (void)read_number(&value, 2, version);
        else if (type == EXT_ALPN)
            hello_alpn(s, value);
        else if (type == EXT_PSK)
            s->view.resumed = true;
    }
}

static void
hello_server(struct tls_session *s, int side, struct reader in)
{
    struct reader random, skip;
    uint32_t version, cipher, packing;
    if ((s->view.client_hello && side == s->view.client_side) || !read_number(&in, 2, &version)
        || !read_part(&in, RANDOM_LEN, &random) || !read_vector(&in, 1, &skip)
        || !read_number(&in, 2, &cipher) || !read_number(&in, 1, &packing))
        return;
    hello_server_extensions(s, in, &version);
    if (hello_is_retry(&random)) {
        s->view.resumed = false;
        return;
    }
    const struct suite *suite = suite_find(cipher);
    const bool again = s->view.server_hello;
    memcpy(session_setup(s)->server_random, random.at, RANDOM_LEN);
    memcpy(&s->view.random[1], random.at + RANDOM_CORE, sizeof s->view.random[1]);
    s->view.client_side = (uint8_t)(1 - side);
    s->view.server_hello = true;
    s->view.version = (uint16_t)version;
    s->view.cipher = (uint16_t)cipher;
    s->view.cipher_name = suite == NULL ? "" : suite->name;
    if (again)
        return;
    s->view.server_hello_frame = s->frame;
    if (s->events->server != NULL)
        s->events->server(s->user, &s->view);
    hold_begin(s);
    if (s->hold == NULL && session_is_13(s))
        key_handshake_begin(s);
}

/* ---- message_: the handshake ---- */

enum {
    HELLO_CLIENT = 1,
    HELLO_SERVER = 2,
    ENCRYPTED_EXTENSIONS = 8,
    CERTIFICATE = 11,
    CERTIFICATE_REQUEST = 13,
    SERVER_HELLO_DONE = 14,
    CERTIFICATE_VERIFY = 15,
    FINISHED = 20,
    KEY_UPDATE = 24,
    COMPRESSED_CERTIFICATE = 25
};

/* RFC 5246 7.4.2; RFC 8446 4.4.2 puts a context before the list. */
static void
message_certificate(struct tls_session *s, int side, struct reader in)
{
    struct setup *u = session_setup(s);
    const bool v13 = session_is_13(s);
    const bool of_client = side == s->view.client_side;
    const struct cert **place = of_client ? &s->view.client : &s->view.server;
    struct reader context, list;
    if ((v13 && !read_vector(&in, 1, &context)) || !read_vector(&in, 3, &list))
        return;
    if (of_client) {
        u->list_seen = true;
        u->list_empty = list.left == 0;
    }
    const struct cert *c = certs_take(s->certs, list, v13);
    if (c == NULL)
        return;
    cert_drop(*place);
    *place = c;
    if (s->events->certificate != NULL)
        s->events->certificate(s->user, side, c, s->frame, s->time_ns);
}

static void
message_finished(struct tls_session *s, int side)
{
    const bool first = !s->lane[side].finished;
    if (first)
        lane_finished(s, side);
    if (first && session_is_13(s))
        key_data_begin(s, side);
    if (first || s->setup == NULL || !s->setup->later)
        return;
    if (!session_is_13(s) && ++s->setup->later_finished < 2)
        return;
    /* the end of a renegotiation, or of post-handshake authentication (RFC 8446 4.6.2) */
    if (s->setup->asked) {
        s->setup->server_done = true;
        proof_from_messages(s);
    }
    s->setup->later = false;
}

static void
message_extensions(struct tls_session *s, struct reader in)
{
    struct reader list, value;
    uint32_t type;
    if (!read_vector(&in, 2, &list))
        return;
    while (read_number(&list, 2, &type) && read_vector(&list, 2, &value))
        if (type == EXT_ALPN)
            hello_alpn(s, value);
}

static void
message_take(struct tls_session *s, int side, unsigned type, const unsigned char *at, size_t len)
{
    const bool of_client = s->view.client_hello && side == s->view.client_side;
    struct reader in = { at, len };
    switch (type) {
    case HELLO_CLIENT:
        hello_client(s, side, in);
        break;
    case HELLO_SERVER:
        hello_server(s, side, in);
        break;
    case ENCRYPTED_EXTENSIONS:
        message_extensions(s, in);
        break;
    case CERTIFICATE:
        message_certificate(s, side, in);
        break;
    case COMPRESSED_CERTIFICATE:
        session_setup(s)->list_packed = of_client;
        if (of_client)
            session_setup(s)->list_seen = true;
        break;
    case CERTIFICATE_REQUEST:
        session_setup(s)->asked = true;
        break;
    case SERVER_HELLO_DONE:
        session_setup(s)->server_done = true;
        break;
    case CERTIFICATE_VERIFY:
        if (of_client)
            session_setup(s)->verified = true;
        break;
    case FINISHED:
        message_finished(s, side);
        break;
    case KEY_UPDATE:
        key_update(s, side);
        break;
    default:
        break;
    }
}

static uint32_t
message_len(const unsigned char *at)
{
    return (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Adds bytes to the message that is being collected; returns how many were taken. */
static size_t
message_collect(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    struct work *w = s->lane[side].work;
    struct pile *m = &w->message;
    const size_t goal = m->len < 4 ? 4 : 4 + (size_t)message_len(m->at);
    const size_t part = len < goal - m->len ? len : goal - m->len;
    pile_put(m, at, part);
    if (m->len < 4)
        return part;
    const size_t total = 4 + (size_t)message_len(m->at);
    if (total > MESSAGE_MAX) {
        w->message_skip = (uint32_t)(total - m->len);
        session_setup(s)->gap = true;
        m->len = 0;
    } else if (m->len == total) {
        m->len = 0;
        message_take(s, side, m->at[0], m->at + 4, total - 4);
    }
    return part;
}

/* Handshake bytes of one record: several messages, or part of one. */
static void
message_feed(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    struct work *w = lane_work(&s->lane[side]);
    while (len > 0) {
        size_t part;
        if (w->message_skip > 0) {
            part = len < w->message_skip ? len : w->message_skip;
            w->message_skip -= (uint32_t)part;
        } else if (w->message.len == 0 && len >= 4 && message_len(at) <= len - 4) {
            part = 4 + (size_t)message_len(at);
            message_take(s, side, at[0], at + 4, part - 4);
        } else {
            part = message_collect(s, side, at, len);
        }
        at += part;
        len -= part;
    }
}

/* ---- record_: one record ---- */

enum { CHANGE_CIPHER_SPEC = 20, ALERT = 21, HANDSHAKE = 22, APPLICATION = 23, HEARTBEAT = 24 };

static void
record_alert(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    if (len != 2)
        return;
    const int level = at[0];
    const int description = at[1];
    if (description == XE_ALERT_CLOSE_NOTIFY) {
        s->view.close_notify[side] = true;
    } else if (description == XE_ALERT_NO_CERTIFICATE && level == 1) {
        session_setup(s)->list_seen = true;    /* SSL 3.0's way to send an empty list */
        s->setup->list_empty = true;
    } else if (description != XE_ALERT_USER_CANCELED && description != XE_ALERT_NO_RENEGOTIATION
        && (level == 2 || session_is_13(s)) && s->view.alert_side < 0) {
        s->view.alert_side = (int16_t)side;
        s->view.alert = (int16_t)description;
        s->view.alert_frame = s->frame;
    }
    if (s->events->alert != NULL)
        s->events->alert(s->user, side, level, description, s->frame, s->time_ns);
}

static void
record_change_cipher(struct tls_session *s, int side)
{
    if (!s->view.server_hello || session_is_13(s))
        return;                      /* TLS 1.3: only there to please middleboxes */
    s->lane[side].sealed = true;
    if (side != s->view.client_side && s->setup != NULL && !s->setup->server_done
        && !s->setup->gap && !s->setup->later)
        s->view.resumed = true;      /* the server finishes first, without having sent its part */
    key_master_use(s, side);
}

/* TLS 1.2 with a hole in the handshake: when both sides send data it must have gone well. */
static void
record_data_shows(struct tls_session *s)
{
    if (s->view.established || !s->view.server_hello || session_is_13(s)
        || s->view.app_records[0] == 0 || s->view.app_records[1] == 0)
        return;
    proof_from_messages(s);
    session_establish(s);
}

static void
record_data(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    s->view.app_records[side]++;
    s->view.app_bytes[side] += len;
    record_data_shows(s);
    if (len > 0 && s->events->plaintext != NULL)
        s->events->plaintext(s->user, side, at, len, s->frame, s->time_ns);
}

/* The content of a record that was plain or has been opened. */
static void
record_content(struct tls_session *s, int side, unsigned type, const unsigned char *at, size_t len)
{
    switch (type) {
    case CHANGE_CIPHER_SPEC:
        record_change_cipher(s, side);
        break;
    case ALERT:
        record_alert(s, side, at, len);
        break;
    case HANDSHAKE:
        message_feed(s, side, at, len);
        break;
    case APPLICATION:
        record_data(s, side, at, len);
        break;
    default:
        break;
    }
}

/* A record that stays closed: what its type and length say. */
static void
record_closed_13(struct tls_session *s, int side, size_t len)
{
    const struct suite *suite = session_suite(s);
    const size_t over = suite == NULL ? 17 : 1 + seal_tag_len(suite->seal);
    s->view.encrypted_alert[side] = len == over + 2;
    if (s->view.encrypted_alert[side])
        return;
    if (side == s->view.client_side && !s->lane[side].finished && !s->view.established) {
        if (flight_record(s, len))
            return;
    } else if (side != s->view.client_side && !s->view.established) {
        server_went_on(s);
        if (!s->view.established)
            return;
    }
    s->view.app_records[side]++;
    s->view.app_bytes[side] += len > over ? len - over : 0;
}

static void
record_closed_12(struct tls_session *s, int side, unsigned type, size_t len)
{
    const struct suite *suite = session_suite(s);
    s->view.encrypted_alert[side] = type == ALERT;
    if (type == HANDSHAKE && !s->lane[side].finished)
        lane_finished(s, side);
    if (type != APPLICATION)
        return;
    size_t over = 0;
    if (suite != NULL && suite->seal <= SEAL_CHACHA)
        over = seal_tag_len(suite->seal) + seal_explicit_len(suite->seal);
    s->view.app_records[side]++;
    s->view.app_bytes[side] += len > over ? len - over : 0;
    record_data_shows(s);
}

static void
record_closed(struct tls_session *s, int side, unsigned type, size_t len)
{
    const uint64_t before = s->view.app_records[side];
    if (session_is_13(s))
        record_closed_13(s, side, len);
    else if (s->view.server_hello || !s->view.early_data)
        record_closed_12(s, side, type, len);
    if (s->view.why_closed[0] == '\0' && !s->view.decrypted
        && (s->view.server_hello || !s->view.client_hello)) {
        const char *obstacle = key_obstacle(s);
        s->view.why_closed = obstacle != NULL ? obstacle : "no keys";
        s->view.keys_would_help = obstacle == NULL;
    }
    if (s->view.app_records[side] == before || s->lane[side].told)
        return;
    s->lane[side].told = true;
    if (s->events->encrypted != NULL)
        s->events->encrypted(s->user, side, s->frame, s->time_ns);
}

/* The sequence number is known, unless a gap has swallowed some records. */
static bool
record_try(struct tls_session *s, struct work *w, const unsigned char *head,
    const unsigned char *body, size_t len, size_t *plain)
{
    for (uint64_t i = 0; i <= w->seek; i++) {
        if (!opener_try(w->opener, w->opener->seq + i, head, body, len, s->keys->plain, plain))
            continue;
        w->opener->seq += i + 1;
        w->seek = 0;
        w->trials = 0;
        return true;
    }
    return false;
}

/* After a gap in a handshake of TLS 1.3 the data's key may be in use already. */
static bool
record_try_next(struct tls_session *s, int side, const unsigned char *head,
    const unsigned char *body, size_t len, size_t *plain)
{
    struct work *w = s->lane[side].work;
    if (!session_is_13(s) || s->lane[side].finished || w->seek == 0)
        return false;
    key_data_begin(s, side);
    if (w->opener == NULL || !record_try(s, w, head, body, len, plain))
        return false;
    s->lane[side].finished = true;
    return true;
}

/* RFC 8446 5.4: zeros at the end are padding, what is before them is the type. */
static void
record_opened(struct tls_session *s, int side, unsigned type, size_t len)
{
    const unsigned char *plain = s->keys->plain;
    s->view.encrypted_alert[side] = false;
    key_mark_used(s);
    if (session_is_13(s)) {
        while (len > 0 && plain[len - 1] == 0)
            len--;
        if (len == 0)
            return;
        type = plain[--len];
        if (type != ALERT && side != s->view.client_side)
            server_went_on(s);
        if (type == APPLICATION && !s->lane[side].finished) {
            /* a log without the handshake's secrets */
            s->lane[side].finished = true;
            if (side == s->view.client_side)
                finished_note(s);
        }
    }
    record_content(s, side, type, plain, len);
}

static void
record_sealed(struct tls_session *s, int side, const unsigned char *head, const unsigned char *body,
    size_t len)
{
    struct work *w = s->lane[side].work;
    size_t plain;
    if (w == NULL || w->opener == NULL || body == NULL) {
        record_closed(s, side, head[0], len);
        return;
    }
    if (record_try(s, w, head, body, len, &plain)
        || record_try_next(s, side, head, body, len, &plain)) {
        record_opened(s, side, head[0], plain);
        return;
    }
    if (w->trials > 0)
        w->trials--;
    else
        lane_close(s, side,
            w->seek > 0 ? "bytes are missing: what follows cannot be opened"
                : "a record does not open with the keys that were given");
    record_closed(s, side, head[0], len);
}

/* Is the record protected?  In TLS 1.3 its type says so, before that the ChangeCipherSpec. */
static bool
record_is_sealed(const struct tls_session *s, int side)
{
    const struct lane *lane = &s->lane[side];
    return lane->head[0] == APPLICATION || (lane->sealed && !session_is_13(s));
}

static void
record_end(struct tls_session *s, int side, const unsigned char *body, size_t len)
{
    struct lane *lane = &s->lane[side];
    unsigned char head[RECORD_HEAD];
    memcpy(head, lane->head, sizeof head);
    lane->head_len = 0;
    if (record_is_sealed(s, side))
        record_sealed(s, side, head, body, len);
    else if (head[0] == HANDSHAKE && session_is_13(s))
        return;                      /* RFC 8446: nothing is plain after the ServerHello */
    else if (body != NULL)
        record_content(s, side, head[0], body, len);
}

/* ---- lane_: records out of bytes ---- */

static bool
lane_head_good(const unsigned char *head)
{
    return head[0] >= CHANGE_CIPHER_SPEC && head[0] <= HEARTBEAT && head[1] == 3 && head[2] <= 4
        && ((size_t)head[3] << 8 | head[4]) <= RECORD_MAX;
}

static const char *
lane_head_what(const unsigned char *head)
{
    if (head[0] == '<' || head[0] == ' ')
        return "not TLS: text that looks like XML";
    if (memcmp(head, "HTTP/", 5) == 0)
        return "not TLS: an HTTP answer";
    if ((head[0] & 0x80) != 0 && head[2] == 1 && head[3] <= 3)
        return "a hello of SSL 2, which nobody should use";
    return "not a TLS record";
}

/* A head is complete: will its content be looked at? */
static void
lane_head_done(struct tls_session *s, int side)
{
    struct lane *lane = &s->lane[side];
    lane->left = (uint32_t)lane->head[3] << 8 | lane->head[4];
    if (record_is_sealed(s, side)) {
        if (!session_is_13(s) && !lane->sealed && s->view.server_hello) {
            lane->sealed = true;     /* ChangeCipherSpec was lost in a gap */
            key_master_use(s, side);
        }
        lane->wanted = lane->work != NULL && lane->work->opener != NULL;
    } else {
        lane->wanted = lane->head[0] != HEARTBEAT;
    }
}

/* Takes bytes of the content; returns how many. */
static size_t
lane_body(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    struct lane *lane = &s->lane[side];
    const size_t total = (size_t)lane->head[3] << 8 | lane->head[4];
    const size_t part = len < lane->left ? len : lane->left;
    const bool whole = part == total;
    lane->left -= (uint32_t)part;
    if (lane->wanted && !whole) {
        struct pile *p = &lane_work(lane)->record;
        pile_put(p, at, part);
        if (lane->left > 0)
            return part;
        struct pile record = *p;
        *p = (struct pile){ NULL, 0, 0 };
        record_end(s, side, record.at, record.len);
        record.len = 0;
        if (lane->work != NULL && lane->work->record.at == NULL && lane->work->opener != NULL)
            lane->work->record = record;     /* there will be more */
        else
            pile_free(&record);
    } else if (lane->left == 0) {
        record_end(s, side, lane->wanted ? at : NULL, total);
    }
    return part;
}

/* After a gap: how many bytes to pass over until something that looks like a record, followed by
 * another one or by the end of what there is. */
static size_t
lane_find(struct lane *lane, const unsigned char *at, size_t len)
{
    for (size_t i = 0; i + RECORD_HEAD <= len; i++) {
        const unsigned char *head = at + i;
        const size_t body = (size_t)head[3] << 8 | head[4];
        if (!lane_head_good(head) || head[2] == 0 || body == 0)
            continue;
        const size_t next = i + RECORD_HEAD + body;
        if (next == len || (next + RECORD_HEAD <= len && lane_head_good(at + next))
            || (i == 0 && next > len && head[0] == APPLICATION)) {
            lane->lost = false;
            return i;
        }
    }
    return len;
}

static void
lane_push(struct tls_session *s, int side, const unsigned char *at, size_t len)
{
    struct lane *lane = &s->lane[side];
    while (len > 0 && !s->over) {
        size_t part;
        if (s->hold != NULL) {
            hold_add(s, side, at, len);
            return;
        }
        if (lane->lost) {
            part = lane_find(lane, at, len);
        } else if (lane->head_len < RECORD_HEAD) {
            part = (size_t)RECORD_HEAD - lane->head_len;
            part = len < part ? len : part;
            memcpy(lane->head + lane->head_len, at, part);
            lane->head_len = (uint8_t)(lane->head_len + part);
            if (lane->head_len == RECORD_HEAD && !lane_head_good(lane->head)) {
                s->over = true;
                lane_close(s, side, lane_head_what(lane->head));
            } else if (lane->head_len == RECORD_HEAD) {
                lane_head_done(s, side);
                if (lane->left == 0)
                    (void)lane_body(s, side, at, 0);
            }
        } else {
            part = lane_body(s, side, at, len);
        }
        at += part;
        len -= part;
    }
}

/* Goes on with what has waited, with or without keys. */
static void
hold_release(struct tls_session *s)
{
    struct pile bytes = s->hold->bytes;
    struct piece piece;
    free(s->hold);
    s->hold = NULL;
    if (session_is_13(s))
        key_handshake_begin(s);
    for (size_t at = 0; at + sizeof piece <= bytes.len; at += sizeof piece + piece.len) {
        memcpy(&piece, bytes.at + at, sizeof piece);
        s->frame = piece.frame;
        s->time_ns = piece.time_ns;
        lane_push(s, piece.side, bytes.at + at + sizeof piece, piece.len);
    }
    pile_free(&bytes);
}

/* Waits no longer than the ceilings allow. */
static bool
hold_is_over(struct tls_session *s)
{
    const bool news = s->keys->lines != s->hold->lines;
    s->hold->lines = s->keys->lines;
    return (news && hold_keys_there(s)) || s->hold->bytes.len > HOLD_MAX
        || s->time_ns - s->hold->since_ns > HOLD_NS || s->time_ns < s->hold->since_ns;
}

/* ---- tls_: the outside ---- */

bool
tls_begins(const unsigned char *at, size_t len)
{
    return len >= 6 && lane_head_good(at) && at[0] == HANDSHAKE && at[5] == HELLO_CLIENT;
}

struct tls_session *
tls_open(struct tls_keys *keys, struct tls_certs *certs, const struct tls_events *ev, void *user)
{
    struct tls_session *s = memory_take(&session_pool);
    s->keys = keys;
    s->certs = certs;
    s->events = ev;
    s->user = user;
    s->view.alert_side = -1;
    s->view.alert = -1;
    s->view.sni = "";
    s->view.alpn = "";
    s->view.cipher_name = "";
    s->view.proof_how = "";
    s->view.why_closed = "";
    return s;
}

void
tls_push(struct tls_session *s, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    if (s->over || len == 0)
        return;
    s->frame = frame;
    s->time_ns = time_ns;
    if (s->hold != NULL && hold_is_over(s)) {
        hold_release(s);
        s->frame = frame;
        s->time_ns = time_ns;
    }
    lane_push(s, side, at, len);
    session_trim(s);
}

void
tls_gap(struct tls_session *s, int side, uint64_t missing)
{
    struct lane *lane = &s->lane[side];
    if (s->over || missing == 0)
        return;
    if (s->hold != NULL)
        hold_release(s);
    if (!lane->lost && lane->head_len == RECORD_HEAD && !lane->wanted && missing <= lane->left) {
        lane->left -= (uint32_t)missing;
        if (lane->left == 0)
            record_end(s, side, NULL, (size_t)lane->head[3] << 8 | lane->head[4]);
        return;
    }
    lane->head_len = 0;
    lane->left = 0;
    lane->lost = true;
    if (!s->view.established)
        session_setup(s)->gap = true;
    if (lane->work == NULL)
        return;
    lane->work->record.len = 0;
    lane->work->message.len = 0;
    lane->work->message_skip = 0;
    if (lane->work->opener == NULL)
        return;
    const uint64_t records = missing / (RECORD_HEAD + 17) + 2;
    lane->work->seek = records > SEEK_TRIES_MAX ? SEEK_TRIES_MAX : (uint32_t)records;
    if (s->events->lost != NULL)
        s->events->lost(s->user, side, s->frame);
}

const struct tls_view *
tls_seen(const struct tls_session *s)
{
    return &s->view;
}

void
tls_expect(const struct tls_session *s)
{
    const unsigned char *bytes = (const unsigned char *)s;
    volatile unsigned char seen;
    for (size_t at = 0; at < sizeof *s; at += POOL_LINE)
        seen = bytes[at];
    (void)seen;
}

/* A TLS 1.3 server that stayed silent after the client's Finished, but did not refuse. */
void
tls_end(struct tls_session *s)
{
    if (s->ended)
        return;
    s->ended = true;
    if (s->hold != NULL)
        hold_release(s);
    const int server = session_server_side(s);
    if (!s->view.established)
        proof_unfinished(s);
    if (session_is_13(s) && !s->view.established && s->lane[s->view.client_side].finished
        && s->view.alert_side < 0 && !s->view.encrypted_alert[server]) {
        if (s->setup != NULL && !s->setup->list_seen && s->setup->flight != FLIGHT_DONE_CERT)
            proof_settle(s);
        session_establish(s);
    }
    session_trim(s);
}

void
tls_close(struct tls_session *s)
{
    if (s == NULL)
        return;
    tls_end(s);
    for (int side = 0; side < 2; side++)
        lane_work_free(&s->lane[side]);
    struct line none = { NULL, 0, 0 };
    s->view.sni = text_replace(s->view.sni, &none);
    s->view.alpn = text_replace(s->view.alpn, &none);
    cert_drop(s->view.server);
    cert_drop(s->view.client);
    pool_put(&setup_pool, s->setup);
    pool_put(&session_pool, s);
}
