/* xmppedge.c -- the border of an XMPP organisation: server-to-server proxy and gateway
 *
 * One program, two roles.  An `edge` stands in the DMZ and speaks for the organisation's domains to
 * its federation partners; a `gateway` stands beside the inner XMPP server and speaks for the
 * partners.  Between them is one connection, opened from the inside, with certificates on both
 * sides: the trunk.
 *
 * HOW TO READ THIS FILE
 *
 * Calls go up the page, news comes down.  A function calls only what stands above it; there is not
 * one forward declaration.  What has to be told downwards goes through tables of functions that the
 * user fills in (struct conn_events, stream_events, s2s_events, trunk_events).  So from any line,
 * what it is made of is above it and who uses it is below.
 *
 * Names read section, thing, verb.  Definitions start in column one: search ^conn_close( for a
 * function, [CONN] for a section.  Each banner names the sections that its section calls, and
 * tests/check_layers.awk holds it to that.
 *
 * CONTENTS
 *
 *  Language: XMPP as data; no sockets, no clock, no log.  -DXMPPEDGE_LANGUAGE_ONLY ends here
 *   [BASE]    span_ text_ xe_   bytes that belong to somebody else, and text made of bytes
 *   [BUF]     buf_              growable bytes with a ceiling
 *   [WHY]     xe_why xe_alert_  the one list of endings, and the alerts of TLS
 *   [JID]     jid_ xe_jid_      addresses, and domains in the form in which they are compared
 *   [XML]     xml_ xmlout_ xe_xml_  XMPP's XML: the tokenizer, and stanzas for another stream
 *   [ELEM]    elem_             elements as trees
 *   [PHASE]   phase_ xe_element_ xe_phase_ xe_side_  what may be said when
 *
 *  Wire: moves bytes and resolves names; does not know that XMPP exists
 *   [MAP]     map_ list_        a hash table and a list whose links live inside their objects
 *   [NET]     net_              the network of an address: whom a stranger's doings count for
 *   [REACH]   reach_            where what came from the network may lead, and where never
 *   [LOG]     log_              one line per event
 *   [LOOP]    loop_ timer_      one thread, many sockets: readiness, timers, and work for later
 *   [DNS]     dns_          from a domain to the addresses of its server, in the order to try them
 *   [CERT]    cert_             what certificates say, read by us
 *   [TLS]     tls_              TLS sessions, certificates and what they say
 *   [CONN]    conn_ listener_ dial_ wire_  byte pipes: accepting, dialling, TLS, and their end
 *
 *  Service: server-to-server XMPP; never touches a socket
 *   [QUEUE]   queue_        stanzas that wait: for a server, for a trunk, for an acknowledgement
 *   [POLICY]  policy_           what a partner's settings allow: 18 combinations, one table
 *   [AUTH]    dialback_ sasl_ peer_  keys, SASL EXTERNAL and whose certificate it is
 *   [CONFIG]  config_           the configuration file: one table, read once, never changed
 *   [PORTS]   ports_        the port summary of one configuration, as a table and as packet filters
 *   [STREAM]  stream_           one XML stream over one connection (RFC 6120 4)
 *   [S2S]     s2s_      a server-to-server connection: who is there, proven how, for which domains
 *   [TRUNK]   trunk_            the link between an edge and a gateway on 23456
 *   [ROUTE]   route_    where a stanza goes, where it waits, and what comes back when it cannot go
 *
 *  Program: puts it together
 *   [EDGE]    edge_ xe_         one running instance: start, reload, drain, stop
 *   [CONTROL] control_ status_  the control socket of a running instance, and what it tells
 *   [AUTHORITY] authority_      certificates for the trunk, and the dialback secret
 *   [MAIN]    main_ main        commands, signals, exit codes
 *
 * THE PICTURE
 *
 *    partners, or the inner server                                              the other node
 *          |                                                                         |
 *      +---v----+       +--------+          +-----+         +-------+          +-----v----+
 *      |  CONN  | bytes | STREAM | elements | S2S | stanzas | ROUTE | stanzas  |  TRUNK   |
 *      | TCP TLS|<----->|        |<-------->|     |<------->| QUEUE |<-------->| on STREAM|
 *      +--------+       +--------+          +-----+         +-------+          | on CONN  |
 *       LOOP DNS         XML ELEM        PHASE AUTH JID      POLICY            +----------+
 *
 *      beside all of them: BASE BUF MAP LOG WHY CONFIG      around them: EDGE CONTROL MAIN
 *
 * LIFE OF A STANZA
 *
 *  From a server to the trunk:
 *   conn_read_scratch()     a TLS record is decrypted into a buffer that all connections share
 *   stream_received()       shows the bytes to the tokenizer and drops what it has used
 *   xe_xml_next()           finds one complete first-level element, still where it was received
 *   s2s_in_element()        sees by its kind that it is a stanza
 *   s2s_stanza()            are its two domains a pair that this stream has proven?
 *   route_forward()         finds the way of the pair, or bounces what no stream could carry
 *   route_put_trunk()       writes it with xmlout_stanza() straight into the window of the trunk
 *   trunk_flush()           at the end of the turn hands all that is new to conn_send()
 *   trunk_on_ack()          it has arrived and is forgotten; or route_trunk_down() takes it back
 *
 *  From the trunk to a server:
 *   trunk_on_stanza()       counts it for the acknowledgement
 *   route_trunk_stanza()    may this trunk bring this pair?
 *   route_put_s2s()         writes it into the queue of the pair
 *   route_dial()            if no connection is up: s2s_dial(), dns_find_servers(), dial_new()
 *   s2s_out_authenticate()  SASL EXTERNAL or dialback, whichever both sides allow
 *   route_s2s_ready()       the pair may send
 *   route_push_s2s()        hands the queue to conn_send()
 *   conn_write()            at the end of the turn, as many stanzas in a TLS record as are ready
 *   route_release()         it has arrived and is forgotten; or route_bounce_queue()
 *
 * WHERE IS ...
 *
 *   every way to end, in all its words      XE_WHY(X) in xmppedge.h, xe_why()
 *   every setting, default and its text     config_rows[] in [CONFIG], config_load()
 *   every other ceiling, and its reason     the limits in [BASE]
 *   what a stanza loses when it leaves      xmlout_stanza(), xmlout_content()
 *   what may be said in which state         xe_phase_next()
 *   how domains are compared                xe_jid_domain_normal()
 *   who may talk to whom                    route_admit(), route_trunk_why()
 *   what tls, sasl and dialback leave       policy_row()
 *   the certificate decision                peer_may_speak_for()
 *   who may vouch for whom                  tls_judge_next(), tls_why(), edge_load_rules()
 *   the dialback key                        dialback_key(), dialback_check()
 *   who answers a dialback question         s2s_verify_asked()
 *   how many connections                    route_room(), route_source_enter(), edge_evict()
 *   limits before authentication            stream_received(), stream_on_element()
 *   what a stanza may be                    stream_trust(), route_write(), xml_past_begin()
 *   the time limit of every state           s2s_enter(), trunk_enter(), stream_enter()
 *   who waits for whose handshake           tls_rank(), tls_is_in_debt()
 *   where a partner's server is             dns_find_servers()
 *   which addresses may be dialled          reach_why(), edge_reach()
 *   the source address of row 2             dial_socket()
 *   which trunk a pair takes                route_pin()
 *   both directions on one connection       s2s_may_carry(), s2s_turn_round(), route_turned()
 *   backpressure                            route_press(), conn_pause()
 *   what comes back undelivered             route_bounce(), route_put_error()
 *   when a failed server is tried again     route_back_off(), trunk_link_wait()
 *   what happens on SIGHUP                  xe_reload()
 *   what happens on SIGTERM                 xe_stop(), edge_drain_step()
 *   how a connection ends                   conn_close(), wire_reap()
 *   a line of the log                       log_begin(), log_end()
 *   the answers of the echo domain          route_echo()
 *   status and ping                         control_command(), status_put()
 *   the port summary                        ports_rows(), ports_print()
 *
 * WORDS
 *
 *   partner, inner domain   a domain outside; a domain of ours, behind a gateway
 *   local, remote           a domain that this node speaks for on its s2s side; the other one
 *   pair                    a from-domain and a to-domain: the unit of permission, order, limits
 *   initiating, receiving   who opened a stream, who accepted it (RFC 6120)
 *   originating, authoritative   who sends a dialback key, who is asked about it (XEP-0220)
 *   trunk, link             an edge and a gateway connected; a gateway's wish to be so
 *   turn                    one call of loop_step()
 *   why                     the reason of an ending, enum xe_why
 *
 * MEMORY
 *
 *   what               made by             owned by                   freed by
 *   struct xmppedge    xe_open()           the program                xe_close()
 *   struct config      config_load()       the instance               config_free()
 *   struct edge_keys   edge_load_keys()    the instance               edge_keys_free()
 *   tls_identity ...   tls_identity_load() counted references         with the last one
 *   struct conn        conn_new()          struct wire                wire_reap(), end of the turn
 *   struct dial        dial_new()          the s2s or link that asks  dial_free()
 *   struct dns_query   dns_find_servers()  the asker, until it is answered or dns_cancel()
 *   struct stream      with its s2s or trunk, in which it is embedded
 *   struct s2s         s2s_accept(), s2s_dial()       the service     s2s_free(), end of the turn
 *   struct s2s_pair    s2s_pair_new()      its s2s                    s2s_pair_free()
 *   struct trunk       trunk_new()         the trunk service          trunk_free(), end of the turn
 *   struct route_pair  route_pair_get()    struct route               route_pair_drop()
 *   a stanza           route_put()         exactly one queue          queue_release()
 *   an event's spans   xe_xml_next()       nobody: good until the call returns
 *
 * What is seen in an event stays where it is until the event has been handled: ends only mark, and
 * freeing happens at the end of the turn.  No global mutable state but what [MAIN] keeps for its
 * signal handler, and what [TLS] has measured once; several instances can live in one process.
 */

/* POSIX.1-2008 beside C99; -std=c99 hides it otherwise. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

/* For initgroups(), which POSIX forgot and everybody has. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

/* The only compiler extension: a part of the file leaves some helpers without users. */
#if defined(__GNUC__) && (defined(XMPPEDGE_NO_MAIN) || defined(XMPPEDGE_LANGUAGE_ONLY))
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

#include "xmppedge.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#ifdef XMPPEDGE_IDN2
#include <idn2.h>
#endif

/* ===========================================================================
 * [BASE]  span_ text_ xe_    bytes that belong to somebody else, and text made of bytes
 * calls:  (nothing)
 *
 * Two ways to hold bytes run through the whole file.  A span borrows them and never ends in NUL;
 * a buf (next section) owns them.  `char *` is for literals and for libraries that insist.
 * ======================================================================== */

/* ---- limits ---- */

/* Every ceiling of a buffer, a table or a wait, and why it is what it is.  Not here: what an
 * administrator may meet, which is <limits> or the maximum of a row in config_rows[], so that the
 * error has a line of the file; what the tokenizer refuses, which is public (xmppedge.h); and first
 * sizes, steps and intervals, which are no ceilings and stand with their section. */

/* [BUF] [JID] [XML] [ELEM]: texts, addresses and trees */
#define BUF_MAX_DEFAULT    ((size_t)1 << 20)  /* bytes: a trunk's offer may have 270 KiB */
#define JID_PART_MAX       1023   /* bytes of a part of an address: RFC 7622 3.2 to 3.4 */
#define JID_LABEL_MAX      63     /* bytes of a label of a domain: RFC 1035 2.3.4 */
#define JID_DOMAIN_MAX     253    /* bytes of a domain in either form: RFC 1035 2.3.4 */
#define XML_LEN_MAX        0xffffu  /* bytes of a name or namespace: struct xe_xml has 16 bits */
#define XML_PREFIX_MAX     0xffu  /* bytes of a prefix: and 8 bits */
#define XML_REF_MAX        16     /* bytes of a reference: &#x10FFFF; has 10 */
#define XML_PAST_TEXT_MAX  ((size_t)16 << 10)  /* bytes kept of what is read past: addresses, id */
#define XML_SIZE_MAX       ((size_t)1 << 30)  /* bytes of an element: offsets have 32 bits */
#define ELEM_BYTES_MAX     ((size_t)512 << 10)  /* bytes of a peer's tree: twice a trunk's offer */

/* [NET] [REACH] [LOG]: no flood of events fills the disk */
#define NET_TEXT_MAX       32     /* bytes of a network as text, NUL included: IPv6 takes 25 */
#define NET_IDLE_MAX       4096   /* networks remembered that have nothing: less than a MB */
#define NET_OWING_MAX      4096   /* and that owe processor time: each has cost us some */
#define NET_KNOWN_MAX      4096   /* and where a domain was proven: partners have fewer servers */
#define NET_KNOWN_MS       86400000  /* that counts for a day: who federates comes back by then */
#define REACH_TEXT_MAX     50     /* the same of any network: IPv6 takes 44 */
#define LOG_LINE_MAX       2048   /* bytes of a line: what syslog takes (RFC 5424 6.1) */
#define LOG_VALUE_MAX      512    /* bytes of a value: one must leave room for others */
#define LOG_WINDOW_MS      60000  /* lines are counted for so long */
#define LOG_BURST          20     /* lines of one event and subject in it: a pattern is seen */
#define LOG_SOURCE_BURST   100    /* the same for a stranger's network: he may host many domains */
#define LOG_EVENT_BURST    600    /* lines of one event in it: ten a second */
#define LOG_SLOTS          256    /* subjects counted apart; who has no slot shares one */
#define LOG_EVENTS         128    /* events counted apart: there are fewer */

/* [DNS]: an answer is a stranger's */
#define DNS_NAME_MAX       253    /* characters of a domain without its last dot: RFC 1035 2.3.4 */
#define DNS_SRV_MAX        16     /* SRV records used: each costs two questions more */
#define DNS_ADDRESSES_MAX  8      /* addresses of one host and family: other hosts have a turn */
#define DNS_TARGETS_MAX    32     /* addresses to try: four at a time, they outlast attempt-time */
#define DNS_ALIASES_MAX    8      /* CNAME records followed in an answer: a loop ends */
#define DNS_SERVERS_MAX    4      /* <resolver>: a silent one costs resolver-time and its tries */
#define DNS_SOCKETS_MAX    64     /* of c-ares: two for each name server, and some being closed */
#define DNS_PATIENCE_MS    1000   /* a late answer may hold up a good one so long */

/* [CERT] [TLS]: certificates and handshakes */
#define TLS_FILE_STEP      4096   /* bytes of a file that are read at a time */
#define TLS_TRUST_MAX      ((size_t)16 << 20)  /* bytes of authorities: a system has 0.3 M */
#define CERT_PATH_MAX      10     /* certificates up to the authority: mbed TLS allows 8 between */
#define CERT_COMPARE_MAX   20000  /* of names with constraints: a chain of 16 KiB has 1000 each */
#define TLS_NAMES_MAX      256    /* names taken from a certificate: public CAs stop at 100 */
#define TLS_SNI_MAX        255    /* bytes of a host name: RFC 1035 2.3.4 */
#define TLS_DN_MAX         256    /* bytes of a subject, NUL included: people read it */
#define TLS_CHAIN_MAX      128    /* bytes of the words for a chain, NUL included: all take 105 */
#define TLS_ERROR_MAX      256    /* bytes of a message, NUL included: a sentence and a path */
#define TLS_SUITES_MAX     40     /* ciphersuites offered: mbed TLS has fewer good ones */
#define TLS_ALPN_MAX       4      /* protocols offered: XMPP has one (XEP-0368) */
#define TLS_LANES_MAX      16     /* threads for handshakes: each copies keys, authorities */
#define TLS_STACK          ((size_t)256 << 10)  /* bytes of their stacks: mbed TLS takes 30 KiB */
#define TLS_BARREN_MAX     ((size_t)128 << 10)  /* bytes of which no data comes: a handshake's 80 */
#define TLS_TURN_OTHERS    4      /* of so many turns of a lane one is for who is not known */
#define TLS_KEY_MAX        8192   /* bytes of a private key in DER: RSA-8192 takes 4.7 KiB */
#define TLS_PIN_MAX        52     /* bytes of a pin as text, NUL included: sha256: and base64 */
#define TLS_MINT_NAME_MAX  64     /* bytes of a name that is certified: X.520's ub-common-name */
#define TLS_MINT_PEM_MAX   4096   /* bytes of a PEM text that is made: five times P-256's */

/* [CONN]: sockets */
#define CONN_TEXT_MAX      80     /* bytes of an address as text, NUL included: IPv6 takes 54 */
#define CONN_LINGER_MS     2000   /* wait for the peer's FIN: a reset would take our last words */
#define CONN_HASTY_MS      5000   /* for a caller's last words, of which at most 64 KiB wait */
#define CONN_MARKS         8      /* batches under way of which it is known what has arrived */
#define LISTENER_BACKLOG   256    /* connections that the system holds: some turns' worth */
#define LISTENER_PAUSE_MS  200    /* when descriptors are out: one may be free by then */
#define DIAL_PARALLEL_MAX  4      /* addresses tried at a time: a dead one holds up no good one */

/* [AUTH] [CONFIG] [PORTS]: what is read */
#define SASL_TEXT_MAX      1368   /* bytes of JID_PART_MAX in base64, NUL included */
#define CONFIG_FILE_MAX    ((size_t)16 << 20)  /* bytes of the file: CONFIG_LIST_MAX partners */
#define CONFIG_PRINT_MAX   (CONFIG_FILE_MAX * 16)  /* bytes of it with every default: ten times */
#define CONFIG_DEPTH_MAX   8      /* open elements: the table needs 4 */
#define CONFIG_LIST_MAX    100000 /* elements of one list: ten times the partners of anybody */
#define CONFIG_PATH_MAX    4096   /* bytes of the directory of the file: PATH_MAX of Linux */
#define CONFIG_SECRET_MIN  16     /* bytes of the dialback secret: 128 bits */
#define CONFIG_SECRET_MAX  4096   /* and no file that was named by mistake */
#define CONFIG_MESSAGES_MAX 200   /* errors and warnings told: more than anybody reads */
#define PORTS_RESOLVERS_MAX 8     /* read of /etc/resolv.conf: the C library asks three */
#define PORTS_LINE_MAX     512    /* bytes of its lines, NUL included: the C library's, too */

/* [STREAM] [S2S] [TRUNK]: what peers send */
#define STREAM_EARLY_MAX   64     /* open elements, and attributes, before authentication */
#define STREAM_ID_MAX      256    /* bytes of a peer's stream id, NUL included: ours have 32 */
#define STREAM_DETAIL_MAX  160    /* bytes that a peer says of an end: two lines of a terminal */
#define STREAM_OUT_MAX     ((size_t)4 << 20)  /* bytes gathered for a connection, and a stanza */
#define STREAM_LATE_MS     60000  /* a peer may finish for so long while close-time has its bytes */
#define S2S_ANSWERS_MAX    ((size_t)64 << 10)  /* bytes that a caller need not read at once */
#define S2S_ACK_MS         1000   /* an <r/> waits so long for what it asks about to be handed on */
#define S2S_ACK_EVERY      64     /* stanzas that are acknowledged without being asked */
#define S2S_MARKS_MAX      4096   /* runs of stanzas that are not: as many as 4 full queues hold */
#define S2S_TURN_MS        1000   /* a dialback question may last so long when others wait */
#define S2S_SHARE_MAX      20     /* dialback questions on a connection: some take 30 elements */
#define S2S_KEY_MAX        512    /* bytes of a dialback key, NUL included: XEP-0185 makes 64 */
#define TRUNK_DOMAINS_MAX  1000   /* inner domains of a trunk: each stanza looks through them */
#define TRUNK_STANZA_MAX   ((size_t)17 << 20)  /* bytes: most of stanza-bytes and of header-bytes */

/* [ROUTE] [EDGE] [CONTROL] [AUTHORITY]: what is remembered, and how long is waited */
#define ROUTE_PAIR_IDLE_MS 300000 /* a pair without traffic is forgotten: all has arrived */
#define ROUTE_ID_MAX       1024   /* bytes of an id that an error repeats: servers make up to 100 */
#define ROUTE_OWED_MAX     ((size_t)16 << 10)  /* bytes: an error to the longest addresses and id */
#define ROUTE_LOOK_MAX     64     /* pairs looked at for an idle one when all are taken */
#define ROUTE_LOOK_MS      2      /* what was written has arrived in a network nearby */
#define ROUTE_LOOK_LATE_MS 640    /* and is looked for so seldom when it has not */
#define ROUTE_UNREAD_MS    2000   /* acknowledgements may stand so long behind what is not read */
#define ROUTE_SETTLE_MS    100    /* between the old trunk of a pair and the new: a round trip */
#define EDGE_REFUSED_MAX   64     /* callers being told why not; more are closed without a word */
#define EDGE_SILENCE_MS    250    /* a caller may be silent so long when connections are taken */
#define EDGE_LOOK_MAX      1024   /* callers that are compared when one has to go */
#define EDGE_FILES         256    /* descriptors for trunks, dials, listeners, files */
#define EDGE_TRUNKS        16     /* connections on the internal address, besides 4 a gateway */
#define EDGE_RETURN_MS     1000   /* for what comes back to its senders at the very end */
#define CONTROL_CLIENTS    16     /* questions at a time: administrators and a monitor */
#define CONTROL_LINE_MAX   512    /* bytes of a question: a command, a domain, a short message */
#define CONTROL_ROWS       64     /* of a status in a turn: half a ms */
#define CONTROL_PIECE      ((size_t)1 << 20)   /* bytes of them: each text has its own limit */
#define CONTROL_ANSWER_MAX ((size_t)1 << 30)   /* bytes that who asks takes: 200 a row */
#define CONTROL_WAIT_S     120    /* for an answer: a ping takes what an attempt takes */
#define CONTROL_ASK_MS     5000   /* wait for a question: a program asks at once */
#define AUTHORITY_DAYS_MAX 3650   /* life of the authority: no certificate outlives it */
#define AUTHORITY_PATH_MAX 1024   /* bytes of the path of a file, NUL included */

static struct xe_span
span_make(const char *at, size_t len)
{
    return (struct xe_span){ at, len };
}

static struct xe_span
span_of(const char *text)
{
    return span_make(text, text == NULL ? 0 : strlen(text));
}

static bool
span_eq(struct xe_span a, struct xe_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static bool
span_is(struct xe_span s, const char *text)
{
    return s.at != NULL && span_eq(s, span_of(text));
}

/* One past the last byte; NULL of what is not there, to which C adds nothing, not even 0. */
static const char *
span_end(struct xe_span s)
{
    return s.at == NULL ? NULL : s.at + s.len;
}

/* What is left of `s` behind its first `n` bytes. */
static struct xe_span
span_skip(struct xe_span s, size_t n)
{
    return span_make(s.at + n, s.len - n);
}

/* Its last `n` bytes, if it has so many. */
static struct xe_span
span_last(struct xe_span s, size_t n)
{
    return n < s.len ? span_skip(s, s.len - n) : s;
}

/* First place of `c` in `s`; s.len when it is not there. */
static size_t
span_find(struct xe_span s, char c)
{
    const char *hit = s.len == 0 ? NULL : memchr(s.at, c, s.len);
    return hit == NULL ? s.len : (size_t)(hit - s.at);
}

/* The lower case of an ASCII letter; any other byte as it is. */
static char
text_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* Write `n` bytes as 2 * n hex digits, without a NUL; returns the place behind them. */
static char *
text_hex(char *out, const void *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *at = bytes;
    for (; n > 0; n--, at++) {
        *out++ = hex[*at >> 4];
        *out++ = hex[*at & 15];
    }
    return out;
}

/* The value of a hex digit in either case; 99: it is none. */
static unsigned
text_digit(char d)
{
    if (d >= '0' && d <= '9')
        return (unsigned)(d - '0');
    d = text_lower(d);
    return d >= 'a' && d <= 'f' ? (unsigned)(d - 'a' + 10) : 99;
}

/* Bytes of the character that begins with this one; -1: none does. */
static int
text_utf8_length(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return -1;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

int
xe_utf8(const char *p, const char *end, uint32_t *out)
{
    int len = text_utf8_length((unsigned char)*p);
    uint32_t c = (unsigned char)*p;
    int i;
    if (len < 0)
        return -1;
    if (len > 1)
        c &= 0x7fu >> len;
    for (i = 1; i < len; i++) {
        if (p + i == end)
            return 0;
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | ((unsigned char)p[i] & 0x3f);
    }
    *out = c;
    if (len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000)))
        return -1;
    return len == 4 && (c < 0x10000 || c > 0x10ffff) ? -1 : len;
}

/* Write `c` as UTF-8; returns the bytes used. */
static size_t
text_put_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

bool
xe_is_visible(uint32_t c)
{
    static const struct { uint32_t from, to; } hidden[] = {   /* sorted */
        { 0, 0x1f }, { 0x7f, 0xa0 }, { 0xad, 0xad }, { 0x34f, 0x34f }, { 0x61c, 0x61c },
        { 0x115f, 0x1160 }, { 0x1680, 0x1680 }, { 0x17b4, 0x17b5 }, { 0x180b, 0x180f },
        { 0x2000, 0x200f }, { 0x2028, 0x202f }, { 0x205f, 0x206f }, { 0x3000, 0x3000 },
        { 0x3164, 0x3164 }, { 0xe000, 0xf8ff }, { 0xfdd0, 0xfdef },
        { 0xfe00, 0xfe0f }, { 0xfeff, 0xfeff }, { 0xffa0, 0xffa0 }, { 0xfff0, 0xfffd },
        { 0xe0000, 0x10ffff }
    };
    size_t i;
    if ((c & 0xfffe) == 0xfffe)
        return false;
    for (i = 0; i < sizeof hidden / sizeof *hidden && c >= hidden[i].from; i++)
        if (c <= hidden[i].to)
            return false;
    return true;
}

/* ===========================================================================
 * [BUF]   buf_           growable bytes with a ceiling
 * calls:  BASE
 *
 *   bytes   .......consumed.......|======= content =======|..... room .....|
 *           0                     head                    tail             cap
 *
 * buf_put() appends, buf_skip() takes from the front.  Growth doubles, the ceiling is part of the
 * buffer, and a buffer that cannot take all takes nothing: `failed` then stays set until
 * buf_clear(), so that a text can be put together first and checked once.
 *
 * Costs: each byte is copied once on its way in, growing included once more on average; a buffer
 * keeps what it has grown to until buf_free().
 * Not done: a chain of blocks.  Whoever reads here wants one run of bytes.
 * ======================================================================== */

struct buf {
    char  *bytes;   /* owned, malloc'd, NULL while empty and never used */
    size_t head;    /* first byte of the content */
    size_t tail;    /* one past the last byte */
    size_t cap;     /* bytes allocated */
    size_t max;     /* ceiling of the content; 0 is BUF_MAX_DEFAULT */
    bool   failed;  /* something did not fit */
};

#define BUF_CAP_FIRST   256                /* bytes of the first allocation */

static size_t
buf_len(const struct buf *b)
{
    return b->tail - b->head;
}

/* The first byte of the content; never NULL, to which C adds nothing, not even 0. */
static const char *
buf_at(const struct buf *b)
{
    return b->bytes == NULL ? "" : b->bytes + b->head;
}

static struct xe_span
buf_span(const struct buf *b)
{
    return span_make(buf_at(b), buf_len(b));
}

static void
buf_free(struct buf *b)
{
    free(b->bytes);
    b->bytes = NULL;
    b->head = b->tail = b->cap = 0;
}

static void
buf_clear(struct buf *b)
{
    b->head = b->tail = 0;
    b->failed = false;
}

/* Make room for `more` bytes (not 0) at the tail and return the place; NULL when the ceiling or the
 * memory is reached.  The caller adds to b->tail what it used. */
static char *
buf_room(struct buf *b, size_t more)
{
    size_t max = b->max == 0 ? BUF_MAX_DEFAULT : b->max;
    size_t len = buf_len(b);
    if (more > max - (len < max ? len : max)) {
        b->failed = true;
        return NULL;
    }
    if (more <= b->cap - b->tail)
        return b->bytes + b->tail;
    if (b->head >= len && more <= b->cap - len && b->head > 0) {
        memcpy(b->bytes, b->bytes + b->head, len);
    } else {
        size_t cap = b->cap == 0 ? BUF_CAP_FIRST : b->cap;
        char *bytes;
        while (cap < len + more + len / 2)   /* for more than the next time, or each copies all */
            cap *= 2;
        bytes = malloc(cap);
        if (bytes == NULL) {
            b->failed = true;
            return NULL;
        }
        if (len > 0)
            memcpy(bytes, b->bytes + b->head, len);
        free(b->bytes);
        b->bytes = bytes;
        b->cap = cap;
    }
    b->head = 0;
    b->tail = len;
    return b->bytes + b->tail;
}

static bool
buf_put(struct buf *b, struct xe_span s)
{
    char *room;
    if (s.len == 0)
        return !b->failed;
    room = b->failed ? NULL : buf_room(b, s.len);
    if (room == NULL)
        return false;
    memcpy(room, s.at, s.len);
    b->tail += s.len;
    return true;
}

/* What a part could not take is missing in the whole, too. */
static void
buf_fail_with(struct buf *whole, const struct buf *part)
{
    whole->failed = whole->failed || part->failed;
}

/* Append the content of another buffer. */
static bool
buf_add(struct buf *b, const struct buf *part)
{
    buf_fail_with(b, part);
    return buf_put(b, buf_span(part));
}

static bool
buf_puts(struct buf *b, const char *text)
{
    return buf_put(b, span_of(text));
}

static bool
buf_putc(struct buf *b, char c)
{
    return buf_put(b, span_make(&c, 1));
}

static bool
buf_putu(struct buf *b, uint64_t n)
{
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return buf_put(b, span_make(digits + at, sizeof digits - at));
}

static void
buf_put_unit(struct buf *b, uint32_t unit)
{
    const unsigned char bytes[2] = { (unsigned char)(unit >> 8), (unsigned char)(unit & 255) };
    char text[6] = "\\u";
    text_hex(text + 2, bytes, sizeof bytes);
    buf_put(b, span_make(text, sizeof text));
}

/* Append the character at `p` so that it can be seen, whatever it is; its length. */
static size_t
buf_put_seen(struct buf *b, const char *p, const char *end)
{
    uint32_t c;
    int len = xe_utf8(p, end, &c);
    if (len <= 0) {
        c = 0xfffd;
        len = 1;
    }
    if (xe_is_visible(c)) {
        buf_put(b, span_make(p, (size_t)len));
    } else if (c < 0x10000) {
        buf_put_unit(b, c);
    } else {
        buf_put_unit(b, 0xd800 + ((c - 0x10000) >> 10));
        buf_put_unit(b, 0xdc00 + (c & 0x3ff));
    }
    return (size_t)len;
}

/* Append lines for a terminal: what cannot be seen in them is escaped.  All that is printed
 * goes through here as a whole, so that no caller has to think of it. */
static bool
buf_put_lines(struct buf *b, struct xe_span s)
{
    const char *p = s.at;
    const char *end = span_end(s);
    while (p < end && !b->failed)
        if (*p == '\n')
            buf_putc(b, *p++);
        else
            p += buf_put_seen(b, p, end);
    return !b->failed;
}

/* Append `s` as it stands in a string of JSON (RFC 8259 7): what is not visible is escaped, what is
 * no UTF-8 is U+FFFD.  So it ends neither the string nor the line.  When it is longer than `max`
 * bytes, "..." stands for the rest. */
static bool
buf_put_escaped(struct buf *b, struct xe_span s, size_t max)
{
    const char *p = s.at;
    const char *end = span_end(s);
    size_t before = buf_len(b);
    while (p < end && buf_len(b) - before < max && !b->failed) {
        if (*p == '"' || *p == '\\')
            buf_putc(b, '\\');
        p += buf_put_seen(b, p, end);
    }
    return buf_puts(b, p < end ? "..." : "");
}

static bool
buf_put_json(struct buf *b, struct xe_span s, size_t max)
{
    buf_putc(b, '"');
    buf_put_escaped(b, s, max);
    return buf_putc(b, '"');
}

static bool
buf_is_plain(unsigned char c)
{
    return c > 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

/* Append the value of a key=value: as it is when it is plain, or as a string of JSON.  So no value
 * looks like two fields, or like none. */
static bool
buf_put_value(struct buf *b, struct xe_span s, size_t max)
{
    size_t i;
    for (i = 0; i < s.len && buf_is_plain((unsigned char)s.at[i]); i++)
        continue;
    return i == s.len && s.len > 0 && s.len <= max ? buf_put(b, s) : buf_put_json(b, s, max);
}

/* Print pieces of text, the last is NULL, on a terminal (buf_put_lines).  False: not all of it. */
static bool
buf_print(FILE *to, const char *const *pieces)
{
    struct buf out = { .max = SIZE_MAX };
    bool whole;
    for (; *pieces != NULL; pieces++)
        buf_put_lines(&out, span_of(*pieces));
    whole = !out.failed && fwrite(buf_span(&out).at, 1, buf_len(&out), to) == buf_len(&out);
    buf_free(&out);
    return whole;
}

#define text_print(to, ...) buf_print((to), (const char *const[]){ __VA_ARGS__, NULL })

/* Take `n` bytes from the front.  An emptied buffer starts again at its beginning. */
static void
buf_skip(struct buf *b, size_t n)
{
    b->head += n;
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

/* End the content with a NUL that is not part of it, for libraries that want a C string.  The text
 * is valid until the next change; "" when it did not fit. */
static const char *
buf_text(struct buf *b)
{
    char *room = buf_room(b, 1);
    if (room == NULL)
        return "";
    *room = '\0';
    return b->bytes + b->head;
}

/* ===========================================================================
 * [WHY]   xe_why xe_alert_   the one list of endings, and the alerts of TLS
 * calls:  (nothing)
 *
 * The lists themselves are XE_WHY(X) and XE_ALERTS(X) in xmppedge.h.
 * ======================================================================== */

const struct xe_why_row *
xe_why(enum xe_why why)
{
    static const struct xe_why_row rows[XE_WHY_COUNT] = {
#define X(name, word, stream, stanza, type, text) { word, stream, stanza, type, text },
        XE_WHY(X)
#undef X
    };
    return &rows[(unsigned)why < XE_WHY_COUNT ? why : XE_WHY_INTERNAL];
}

const char *
xe_alert_name(int number)
{
    switch (number) {
#define X(name, value, word) case name: return word;
        XE_ALERTS(X)
#undef X
    }
    return "unknown";
}

/* ===========================================================================
 * [JID]   jid_ xe_jid_   addresses, and domains in the form in which they are compared
 * calls:  BASE
 *
 *   juliet@capulet.example/balcony        RFC 7622 3.1: cut at the first '/', then at the first '@'
 *   local  domain          resource
 *
 * Domains decide who may speak for whom, so there is one normal form and it is the only thing that
 * is compared, everywhere: A-labels of IDNA 2008 (RFC 5890), ASCII in lower case, no trailing dot
 * (RFC 7622 3.2), labels of 1 to 63 bytes, 253 bytes in all (RFC 1035 2.3.4).  ASCII labels are
 * letters, digits, '-' inside, and '_' (not a host name, but used).  IP literals are allowed as
 * RFC 7622 does; "[...]" is an IPv6 address.
 *
 *   as it came          bücher.example, or where it may be xn--bcher-kva.example
 *   normal              xn--bcher-kva.example   compared, DNS, certificates, SNI, log, status
 *   on streams          bücher.example          jid_unicode(), of RFC 7622 3.2.1
 *
 * Servers prepare addresses once more, most of them as IDNA 2003 did: they fold case and NFKC, and
 * make "ss" of sharp s.  What they would turn into another domain is no domain here.  Nothing but
 * ASCII letters is mapped, then: what RFC 5891 does not let a registry register is refused, and so
 * are the four characters whose meaning changed with IDNA 2008.
 *
 * U-labels need libidn2 (-DXMPPEDGE_IDN2); without it they, and "xn--", are refused.  Costs: a
 * domain in ASCII is looked at once and allocates nothing; others about 1 us a label.  No state:
 * safe from any thread.
 * ======================================================================== */

/* Normal form of a byte of a domain: itself or its lower case; 0 for a byte that needs thought. */
static const char jid_fold[256] =
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\0\0\0\0\0\0\0\0\0\0\0\0\0-.\0" "0123456789\0\0\0\0\0\0"
    "\0abcdefghijklmnopqrstuvwxyz\0\0\0\0_"
    "\0abcdefghijklmnopqrstuvwxyz\0\0\0\0";

/* An IPv6 address in brackets: its characters are checked, its sense is not. */
static bool
jid_ipv6_normal(struct xe_span in, char *out, size_t *len)
{
    size_t i;
    if (in.len < 4 || in.len > 47 || in.at[in.len - 1] != ']')
        return false;
    for (i = 0; i < in.len; i++) {
        char c = in.at[i];
        char low = c == ':' || c == '[' || c == ']' ? c : jid_fold[(unsigned char)c];
        if (low == 0 || low == '-' || low == '_' || (low >= 'g' && low <= 'z')
            || (c == '[') != (i == 0) || (c == ']') != (i == in.len - 1))
            return out[0] = '\0', false;
        out[i] = low;
    }
    out[in.len] = '\0';
    *len = in.len;
    return true;
}

/* RFC 1035 2.3.1 and 2.3.4: not empty, not too long, no '-' at an end.  RFC 5890 2.3.1: "--" at the
 * third byte is reserved, and "xn--" is not plain. */
static bool
jid_is_plain(struct xe_span label)
{
    return label.len > 0 && label.len <= JID_LABEL_MAX && label.at[0] != '-'
        && label.at[label.len - 1] != '-'
        && (label.len < 4 || label.at[2] != '-' || label.at[3] != '-');
}

/* Fold `in` into out, which has room for it; false unless all of its labels are plain ASCII. */
static bool
jid_fold_plain(struct xe_span in, char *out)
{
    size_t start = 0;
    size_t i;
    for (i = 0; i < in.len; i++) {
        out[i] = jid_fold[(unsigned char)in.at[i]];
        if (out[i] == 0)
            return false;
        if (out[i] != '.')
            continue;
        if (!jid_is_plain(span_make(out + start, i - start)))
            return false;
        start = i + 1;
    }
    return jid_is_plain(span_make(out + start, i - start));
}

/* The two forms of a domain while they are made, label by label. */
struct jid_forms {
    char   normal[XE_DOMAIN_MAX];
    size_t normal_len;
    char   unicode[XE_DOMAIN_MAX];
    size_t unicode_len;
};

static bool
jid_append(char *out, size_t *len, struct xe_span text)
{
    if (text.len > JID_DOMAIN_MAX - *len)
        return false;
    memcpy(out + *len, text.at, text.len);
    *len += text.len;
    return true;
}

static bool
jid_forms_append(struct jid_forms *f, struct xe_span normal, struct xe_span unicode)
{
    return jid_append(f->normal, &f->normal_len, normal)
        && jid_append(f->unicode, &f->unicode_len, unicode);
}

static bool
jid_is_a_label(const char *label)
{
    return strncmp(label, "xn--", 4) == 0;
}

#ifdef XMPPEDGE_IDN2

/* Whether servers that prepare a domain as IDNA 2003 did leave it alone: sharp s becomes "ss", a
 * final sigma another one, and joiners nothing (RFC 3491; RFC 5894 7.2). */
static bool
jid_is_stable(const char *label)
{
    static const char *const moved[] = { "\xc3\x9f", "\xcf\x82", "\xe2\x80\x8c",
        "\xe2\x80\x8d" };
    size_t i;
    for (i = 0; i < sizeof moved / sizeof *moved; i++)
        if (strstr(label, moved[i]) != NULL)
            return false;
    return true;
}

/* One label with U-labels' characters or "xn--", in lower case.  RFC 5891 4, as for a registration:
 * nothing is mapped, everything is checked, and an A-label has to be the one of its U-label. */
static bool
jid_forms_idna(struct jid_forms *f, const char *label)
{
    bool a_label = jid_is_a_label(label);
    char *unicode = NULL;
    uint8_t *normal = NULL;
    const char *u = label;
    bool good = true;
    if (a_label) {
        good = idn2_to_unicode_8z8z(label, &unicode, 0) == IDN2_OK;
        u = unicode;
    }
    good = good && jid_is_stable(u)
        && idn2_register_u8((const uint8_t *)u, a_label ? (const uint8_t *)label : NULL, &normal, 0)
            == IDN2_OK
        && jid_is_a_label((char *)normal) && strlen((char *)normal) <= JID_LABEL_MAX
        && jid_forms_append(f, span_of((char *)normal), span_of(u));
    idn2_free(unicode);
    idn2_free(normal);
    return good;
}

#else

static bool
jid_forms_idna(struct jid_forms *f, const char *label)
{
    (void)f;
    (void)label;
    return false;
}

#endif

/* One label: ASCII letters are folded, and if that makes it plain it is the same in both forms. */
static bool
jid_forms_label(struct jid_forms *f, struct xe_span label, bool address)
{
    char text[XE_DOMAIN_MAX];
    bool ascii = true;
    size_t i;
    for (i = 0; i < label.len; i++) {
        bool high = (unsigned char)label.at[i] >= 0x80;
        text[i] = high ? label.at[i] : jid_fold[(unsigned char)label.at[i]];
        if (text[i] == 0)
            return false;
        ascii = ascii && !high;
    }
    text[i] = '\0';
    if (ascii && jid_is_plain(span_make(text, i)))
        return jid_forms_append(f, span_make(text, i), span_make(text, i));
    if (ascii && (!jid_is_a_label(text) || address))
        return false;
    return jid_forms_idna(f, text);
}

/* Both forms of a domain; in an `address` A-labels may not stand. */
static bool
jid_forms_make(struct jid_forms *f, struct xe_span in, bool address)
{
    f->normal_len = f->unicode_len = 0;
    for (;;) {
        size_t len = span_find(in, '.');
        if (!jid_forms_label(f, span_make(in.at, len), address))
            return false;
        if (len == in.len)
            return true;
        if (!jid_forms_append(f, span_make(".", 1), span_make(".", 1)))
            return false;
        in = span_skip(in, len + 1);
    }
}

static bool
jid_domain(struct xe_span in, bool address, char out[XE_DOMAIN_MAX], size_t *len)
{
    struct jid_forms f;
    *len = 0;
    out[0] = '\0';
    if (in.len > 0 && in.at[0] == '[')
        return jid_ipv6_normal(in, out, len);
    if (in.len > 0 && in.at[in.len - 1] == '.')
        in.len--;
    if (in.len == 0 || in.len > JID_DOMAIN_MAX)
        return false;
    if (jid_fold_plain(in, out)) {
        *len = in.len;
    } else if (jid_forms_make(&f, in, address)) {
        memcpy(out, f.normal, f.normal_len);
        *len = f.normal_len;
    }
    out[*len] = '\0';
    return *len > 0;
}

bool
xe_jid_domain_normal(struct xe_span in, char out[XE_DOMAIN_MAX], size_t *len)
{
    return jid_domain(in, false, out, len);
}

/* The normal form of a domain that came in an address of XMPP, where "an A-label MUST be converted
 * to a U-label" (RFC 7622 3.2.1): the server behind us would take it for another domain. */
static bool
jid_address_normal(struct xe_span in, char out[XE_DOMAIN_MAX], size_t *len)
{
    return jid_domain(in, true, out, len);
}

/* How a domain in normal form is written on a stream; `text` holds it when it has U-labels. */
static struct xe_span
jid_unicode(struct xe_span normal, struct jid_forms *text)
{
    return normal.len <= JID_DOMAIN_MAX && !jid_fold_plain(normal, text->normal)
        && jid_forms_make(text, normal, false)
        ? span_make(text->unicode, text->unicode_len) : normal;
}

/* Why jid_address_normal() refused a domain: its characters, if it is they, or else `otherwise`. */
static enum xe_why
jid_why(struct xe_span in, enum xe_why otherwise)
{
    char normal[XE_DOMAIN_MAX];
    size_t len;
    size_t i;
    if (xe_jid_domain_normal(in, normal, &len))
        return jid_address_normal(in, normal, &len) ? otherwise : XE_WHY_DOMAIN_A_LABEL;
    for (i = 0; i < in.len && (unsigned char)in.at[i] < 0x80; i++)
        if (in.len - i >= 4 && strncasecmp(in.at + i, "xn--", 4) == 0
            && (i == 0 || in.at[i - 1] == '.'))
            break;
    if (i == in.len)
        return otherwise;
#ifdef XMPPEDGE_IDN2
    return XE_WHY_DOMAIN_DISALLOWED;
#else
    return XE_WHY_DOMAIN_NOT_ASCII;
#endif
}

/* RFC 7622 3.3.1: what no localpart may have; white space and controls besides. */
static bool
jid_is_local(struct xe_span local)
{
    static const char refused[] = "\"&'/:<>@";
    size_t i;
    for (i = 0; i < local.len; i++) {
        unsigned char c = (unsigned char)local.at[i];
        if (c <= 0x20 || c == 0x7f || (c < 0x41 && memchr(refused, c, sizeof refused - 1) != NULL))
            return false;
    }
    return local.len <= JID_PART_MAX;
}

bool
xe_jid_split(struct xe_span text, struct xe_jid *jid)
{
    size_t slash = span_find(text, '/');
    struct xe_span bare = span_make(text.at, slash);
    size_t at = span_find(bare, '@');
    jid->local = jid->resource = span_make(NULL, 0);
    jid->domain = bare;
    if (slash < text.len) {
        jid->resource = span_skip(text, slash + 1);
        if (jid->resource.len == 0 || jid->resource.len > JID_PART_MAX)
            return false;
    }
    if (at < bare.len) {
        jid->local = span_make(bare.at, at);
        jid->domain = span_skip(bare, at + 1);
        if (at == 0 || !jid_is_local(jid->local))
            return false;
    }
    if (jid->domain.len > 0 && jid->domain.at[jid->domain.len - 1] == '.')
        jid->domain.len--;
    return jid->domain.len > 0 && jid->domain.len <= JID_PART_MAX
        && jid->domain.at[jid->domain.len - 1] != '.'   /* one may be there, not two */
        && span_find(jid->domain, '@') == jid->domain.len;
}

/* ===========================================================================
 * [XML]   xml_ xmlout_ xe_xml_   XMPP's XML: the tokenizer, and stanzas for another stream
 * calls:  BASE BUF JID
 *
 * The tokenizer reads one direction of one stream and reports the stream header, complete
 * first-level elements and the end of the stream.  It accepts the XML of RFC 6120 11 and nothing
 * else, because what it passes is read again by servers with other parsers: what one of them would
 * refuse, or read in another way, must stop here.
 *
 *            xml_gap            xml_open      xml_tag                   xml_text
 *   GAP ---- '<' ----> LT ----> NAME ------> TAG -- '>' --> (header) --> GAP
 *    ^                  |                   ^   |           (element) -> TEXT <--+
 *    |                  |       ATTR -> EQ -+   +-- '/' --> SLASH        |   |   |
 *    |                  |        -> VALUE                             '<'|   +---+ CDATA, COMMENT
 *    |                  +-- '/' --> END --> END_SPACE -- '>' ------------+
 *    +------------------------------ depth is 0 again: XE_XML_ELEMENT ---+
 *
 * Between calls only offsets are kept, counted from the '<' of the unfinished element.  A state is
 * left in the middle of anything and taken up at the same byte, so the work is linear however the
 * bytes come: only an attribute is tried as a whole first (xml_attr_whole), and a reference or a
 * character that is not complete is read again.  Every decision depends on the bytes so far and
 * never on how they were cut: whole, byte by byte and cut anywhere give the same events.
 *
 * Namespaces are resolved as far as somebody needs it: names without prefix cost nothing.  Three
 * flags tell what forwarding has to do (xe_xml_event.flags).  A prefix that is declared nowhere is
 * not an error of the stream: ejabberd relays children with prefixes of its clients' streams.  The
 * stanza is marked and the stream lives.
 *
 * Two things are looked up once per element and inherited as bits of the frame: what the default
 * namespace is and whether it comes from outside of the content (header or root tag); and whether
 * the element is in the content chain, that is, it and all elements around it are in jabber:server
 * or jabber:client.  In the chain the two namespaces are the same thing (RFC 6120 4.8.3 lets every
 * stream name its own); outside, as in a forwarded message (XEP-0297), they are data.
 *
 * The writer puts an element on another jabber:server stream.  It writes the root tag; the content
 * is copied as it is, unless a flag says that it depends on the old stream or is written in a way
 * that parsers treat differently: then xmlout_content() writes it anew.
 *
 * Costs: one pass over the bytes, however they are cut; a prefix is looked for among the
 * declarations in scope, at most XE_XML_NS_MAX.  2.6 KiB each, and a copy of the header.
 * Not done: a tree of each stanza, or events within it.  Nobody here looks into a stanza.
 * ======================================================================== */

/* What a byte may be. */
enum {
    XML_IS_TEXT_STOP  = 1,  /* ends the quick run through text */
    XML_IS_VALUE_STOP = 2,  /* ends the quick run through an attribute value */
    XML_IS_NAME       = 4,  /* part of a name, colon not included */
    XML_IS_START      = 8,  /* may begin a name */
    XML_IS_SPACE      = 16, /* white space */
    XML_IS_URI        = 32  /* needs no thought in a namespace name */
};

static const unsigned char xml_class[256] = {
     3,  3,  3,  3,  3,  3,  3,  3,  3, 48, 48,  3,  3, 48,  3,  3,
     3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,
    48, 32, 34, 32, 32, 32,  3, 34, 32, 32, 32, 32, 32, 36, 36, 32,
    36, 36, 36, 36, 36, 36, 36, 36, 36, 36, 32, 32, 35, 32, 33, 32,
    32, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44,
    44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 32, 32, 32, 32, 44,
    32, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44,
    44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 44, 32,  0, 32, 32, 32,
    /* 0x80 to 0xff: parts of UTF-8 sequences, looked at one by one */
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
    35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35, 35,
};

enum xml_state {
    XML_AT_START,      /* nothing read: an XML declaration may come */
    XML_AT_DECL,       /* inside of it */
    XML_AT_GAP,        /* before the header, or between elements */
    XML_AT_LT,         /* after '<' */
    XML_AT_NAME,       /* in the name of a start tag */
    XML_AT_TAG,        /* in a start tag, after the name or an attribute */
    XML_AT_ATTR,       /* in the name of an attribute */
    XML_AT_EQ,         /* after it */
    XML_AT_QUOTE,      /* after '=' */
    XML_AT_VALUE,      /* in the value */
    XML_AT_SLASH,      /* after the '/' of an empty element */
    XML_AT_TEXT,
    XML_AT_BANG,       /* after "<!" */
    XML_AT_CDATA,
    XML_AT_COMMENT,    /* x->mark is at its '<' */
    XML_AT_END,        /* after "</" */
    XML_AT_END_SPACE,  /* after the name of an end tag */
    XML_AT_PAST,       /* in an element that is read past: x->past */
    XML_AT_CLOSED,     /* the stream has ended */
    XML_AT_BAD
};

enum xml_step {
    XML_GO,            /* x->state says what is next */
    XML_WAIT,          /* the bytes are used up */
    XML_DONE,          /* an event is complete: c->result */
    XML_FAIL
};

/* xe_xml_mark.kind; x->tag has bit 1 << kind for every kind that the tag has. */
enum { XML_ATTR_PLAIN, XML_ATTR_PREFIXED, XML_ATTR_XML, XML_ATTR_DEFAULT, XML_ATTR_DECL };
#define XML_ATTRS_WITH_NS \
    (1u << XML_ATTR_PREFIXED | 1u << XML_ATTR_DEFAULT | 1u << XML_ATTR_DECL)

/* xe_xml_binding.kind: the first two are content namespaces. */
enum {
    XML_NS_SERVER,     /* jabber:server */
    XML_NS_CLIENT,     /* jabber:client */
    XML_NS_OTHER,
    XML_NS_NONE,       /* xmlns='' or no default namespace at all */
    XML_NS_ODD,        /* a name that not all servers accept, or compare in the same way */
    XML_NS_UNBOUND,    /* a prefix that is declared nowhere */
    XML_NS_MASK   = 7,
    XML_NS_OUTER  = 8, /* in frames: the default comes from the header or the root tag */
    XML_NS_CHAIN  = 16 /* in frames: this element and all around it are content */
};

#define XML_NAME_URI    "http://www.w3.org/XML/1998/namespace"
#define XML_XMLNS_URI   "http://www.w3.org/2000/xmlns/"

/* Tables for what few elements need.  Filling them, and looking things up in them, takes no more
 * time for a byte than other bytes take, some ten times as much at the worst. */
struct xe_xml_large {
    struct xe_xml_frame   frames[XE_XML_DEPTH_MAX];
    struct xe_xml_binding ns[XE_XML_NS_MAX];
    struct xe_xml_mark    attrs[XE_XML_ATTRS_MAX];
};

/* Where one call of xe_xml_next stands. */
struct xml_cursor {
    const char          *buf;     /* first byte of the unfinished element */
    const char          *p;       /* next byte */
    const char          *end;     /* one past the last byte that may be looked at */
    struct xe_xml_event *event;   /* borrowed from the caller */
    enum xe_xml_result   result;  /* with XML_DONE */
    bool                 filled;  /* the event has the root tag */
};

static enum xml_step
xml_fail(struct xe_xml *x, enum xe_why why)
{
    x->why = why;
    x->failed = x->state;
    x->state = XML_AT_BAD;
    return XML_FAIL;
}

static uint16_t
xml_smaller(size_t a, size_t b)
{
    return (uint16_t)(a < b ? a : b);
}

/* The small tables are in use, as for nearly every element. */
static void
xml_use_small(struct xe_xml *x)
{
    free(x->large);
    x->large = NULL;
    x->frames = x->small_frames;
    x->ns = x->small_ns;
    x->attrs = x->small_attrs;
    x->depth_room = xml_smaller(x->limits.depth, XE_XML_SMALL_DEPTH);
    x->ns_room = XE_XML_STREAM_NS_MAX;
    x->attrs_room = xml_smaller(x->limits.attrs, XE_XML_SMALL_ATTRS);
}

/* A table with `n` entries is full, of which there may be `max`: go over to the large ones. */
static bool
xml_use_large(struct xe_xml *x, size_t n, size_t max)
{
    struct xe_xml_large *l = n >= max ? NULL : malloc(sizeof *l);
    if (l == NULL)
        return xml_fail(x, n >= max ? XE_WHY_XML_LIMIT : XE_WHY_OUT_OF_MEMORY), false;
    memcpy(l->frames, x->frames, x->depth * sizeof *l->frames);
    memcpy(l->ns, x->ns, x->nns * sizeof *l->ns);
    memcpy(l->attrs, x->attrs, x->nattrs * sizeof *l->attrs);
    x->frames = l->frames;
    x->ns = l->ns;
    x->attrs = l->attrs;
    x->depth_room = (uint16_t)x->limits.depth;
    x->ns_room = XE_XML_NS_MAX;
    x->attrs_room = (uint16_t)x->limits.attrs;
    x->large = l;
    x->flags |= XE_XML_LARGE;
    return true;
}

static inline uint32_t
xml_place(const struct xml_cursor *c, const char *p)
{
    return (uint32_t)(p - c->buf);
}

static inline bool
xml_is(char c, unsigned what)
{
    return (xml_class[(unsigned char)c] & what) != 0;
}

/* Is `s` the literal `text`?  Costs one comparison of lengths when it is not. */
#define XML_SAME(s, text) \
    ((s).len == sizeof (text) - 1 && memcmp((s).at, text, sizeof (text) - 1) == 0)

/* ---- characters ---- */

/* Eight bytes at a time.  Each term has the top bit of a byte set if the byte is not ASCII, is a
 * control character, or is the one looked for.  A borrow can only come from a byte that counts and
 * goes to those behind it, so the first one found is right.  Compilers make xml_word() one load. */
#define XML_ONES        ((uint64_t)0x0101010101010101)
#define XML_TOPS        ((uint64_t)0x8080808080808080)
#define XML_HAS(w, c)   (((w) ^ XML_ONES * (unsigned char)(c)) - XML_ONES)
#define XML_PLAIN(w)    ((w) | ((w) - XML_ONES * 0x20))

static inline uint64_t
xml_word(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24
        | (uint64_t)b[4] << 32 | (uint64_t)b[5] << 40 | (uint64_t)b[6] << 48
        | (uint64_t)b[7] << 56;
}

/* Which byte has the lowest top bit of `hits`, which is not 0. */
static inline size_t
xml_first(uint64_t hits)
{
    return (size_t)(((((hits & (~hits + 1)) - 1) & XML_ONES) * XML_ONES) >> 56) - 1;
}

/* First byte of text that needs thought: < & > controls and all that is not ASCII. */
static inline const char *
xml_run_text(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t w = xml_word(p);
        /* '<' and '>' differ in one bit */
        uint64_t hits = XML_TOPS
            & (XML_PLAIN(w) | XML_HAS(w, '&') | XML_HAS(w | XML_ONES * 2, '>'));
        if (hits == 0) {
            p += 8;
            continue;
        }
        p += xml_first(hits);
        if (xml_is(*p, XML_IS_TEXT_STOP))
            return p;
        p++;
    }
    while (p < end && !xml_is(*p, XML_IS_TEXT_STOP))
        p++;
    return p;
}

/* First byte of an attribute value that needs thought: both quotes, < & controls, not ASCII. */
static inline const char *
xml_run_value(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t w = xml_word(p);
        /* '&' and the apostrophe differ in one bit */
        uint64_t hits = XML_TOPS & (XML_PLAIN(w) | XML_HAS(w | XML_ONES, '\'')
            | XML_HAS(w, '"') | XML_HAS(w, '<'));
        if (hits == 0) {
            p += 8;
            continue;
        }
        p += xml_first(hits);
        if (xml_is(*p, XML_IS_VALUE_STOP))
            return p;
        p++;
    }
    while (p < end && !xml_is(*p, XML_IS_VALUE_STOP))
        p++;
    return p;
}

/* Is `c` a Char of XML 1.0?  Surrogates never get here as UTF-8, but they do as references. */
static bool
xml_is_char(uint32_t c)
{
    if (c < 0x20)
        return c == '\t' || c == '\n' || c == '\r';
    return c < 0xd800 || (c > 0xdfff && c < 0xfffe) || (c > 0xffff && c < 0x110000);
}

/* The number of a character reference, between "&#" and ';'.  False when it is none. */
static bool
xml_ref_number(struct xe_span digits, uint32_t *out)
{
    uint32_t base = digits.len > 0 && digits.at[0] == 'x' ? 16 : 10;
    size_t i = base == 16 ? 1 : 0;
    uint32_t c = 0;
    if (i == digits.len)
        return false;
    for (; i < digits.len; i++) {
        unsigned v = text_digit(digits.at[i]);
        if (v >= base)
            return false;
        c = c > 0x110000 ? c : c * base + v;
    }
    *out = c;
    return true;
}

/* The reference at p, which is '&'.  Returns its length and the character, 0 when the end comes
 * first, -1 and the reason when it is neither one of XML's five entities nor a character. */
static int
xml_ref(const char *p, const char *end, uint32_t *out, enum xe_why *why)
{
    static const struct { const char *name; uint32_t c; } entities[] = {
        { "lt", '<' }, { "gt", '>' }, { "amp", '&' }, { "quot", '"' }, { "apos", '\'' }
    };
    size_t max = end - p < XML_REF_MAX ? (size_t)(end - p) : XML_REF_MAX;
    size_t len = 1;
    struct xe_span name;
    size_t i;
    *why = XE_WHY_XML_MALFORMED;
    while (len < max && (xml_is(p[len], XML_IS_NAME) || (len == 1 && p[len] == '#')))
        len++;
    if (len == max && max < XML_REF_MAX)
        return 0;
    if (len == max) {
        *why = p[1] == '#' ? XE_WHY_XML_LIMIT : XE_WHY_XML_RESTRICTED;   /* zeros first */
        return -1;
    }
    if (p[len] != ';')
        return -1;
    name = span_make(p + 1, len - 1);
    if (name.len > 0 && name.at[0] == '#')
        return xml_ref_number(span_skip(name, 1), out) && xml_is_char(*out)
            ? (int)len + 1 : -1;
    for (i = 0; i < sizeof entities / sizeof *entities; i++)
        if (span_is(name, entities[i].name)) {
            *out = entities[i].c;
            return (int)len + 1;
        }
    if (name.len > 0 && xml_is(name.at[0], XML_IS_START))
        *why = XE_WHY_XML_RESTRICTED;
    return -1;
}

/* The usual text that is not ASCII: sequences of two and three bytes that are fine whatever their
 * trailing bytes are, with spaces between the words.  Stops at everything else. */
static const char *
xml_run_utf8(const char *p, const char *end)
{
    while (end - p >= 3) {
        unsigned char lead = (unsigned char)p[0];
        bool second = ((unsigned char)p[1] & 0xc0) == 0x80;
        if (lead >= 0xc2 && lead <= 0xdf && second)
            p += 2;
        else if (lead >= 0xe1 && lead <= 0xec && second && ((unsigned char)p[2] & 0xc0) == 0x80)
            p += 3;
        else if (lead == ' ')
            p++;
        else
            break;
    }
    return p;
}

/* Pass what stands at *p and is legal in text and values alike: a reference or UTF-8. */
static enum xml_step
xml_special(struct xe_xml *x, const char **p, const char *end)
{
    enum xe_why why = XE_WHY_XML_MALFORMED;
    uint32_t c = 0;
    int len;
    if ((unsigned char)**p >= 0x80) {
        const char *run = xml_run_utf8(*p, end);
        if (run > *p) {
            *p = run;
            return XML_GO;
        }
        len = xe_utf8(*p, end, &c);
        if (len < 0)
            return xml_fail(x, XE_WHY_XML_ENCODING);
        if (len > 0 && !xml_is_char(c))
            return xml_fail(x, why);
    } else if (**p == '&') {
        len = xml_ref(*p, end, &c, &why);
        if (len < 0)
            return xml_fail(x, why);
    } else {
        return xml_fail(x, why);
    }
    *p += len;
    return len == 0 ? XML_WAIT : XML_GO;
}

/* ---- names ---- */

/* Is `c` in one of the ranges, of which there are n and which are sorted? */
static bool
xml_in_ranges(const uint16_t (*ranges)[2], size_t n, uint32_t c)
{
    size_t from = 0;
    while (from < n) {
        size_t middle = from + (n - from) / 2;
        if (c < ranges[middle][0])
            n = middle;
        else if (c > ranges[middle][1])
            from = middle + 1;
        else
            return true;
    }
    return false;
}

/* Letters and ideographs of XML 1.0, fourth edition (appendix B), that may begin a name; and what
 * else may stand in one. */
static const uint16_t xml_name_starts[][2] = {
    {0xc0,0xd6}, {0xd8,0xf6}, {0xf8,0x131}, {0x134,0x13e}, {0x141,0x148}, {0x14a,0x17e},
    {0x180,0x1c3}, {0x1cd,0x1f0}, {0x1f4,0x1f5}, {0x1fa,0x217}, {0x250,0x2a8}, {0x2bb,0x2c1},
    {0x386,0x386}, {0x388,0x38a}, {0x38c,0x38c}, {0x38e,0x3a1}, {0x3a3,0x3ce}, {0x3d0,0x3d6},
    {0x3da,0x3da}, {0x3dc,0x3dc}, {0x3de,0x3de}, {0x3e0,0x3e0}, {0x3e2,0x3f3}, {0x401,0x40c},
    {0x40e,0x44f}, {0x451,0x45c}, {0x45e,0x481}, {0x490,0x4c4}, {0x4c7,0x4c8}, {0x4cb,0x4cc},
    {0x4d0,0x4eb}, {0x4ee,0x4f5}, {0x4f8,0x4f9}, {0x531,0x556}, {0x559,0x559}, {0x561,0x586},
    {0x5d0,0x5ea}, {0x5f0,0x5f2}, {0x621,0x63a}, {0x641,0x64a}, {0x671,0x6b7}, {0x6ba,0x6be},
    {0x6c0,0x6ce}, {0x6d0,0x6d3}, {0x6d5,0x6d5}, {0x6e5,0x6e6}, {0x905,0x939}, {0x93d,0x93d},
    {0x958,0x961}, {0x985,0x98c}, {0x98f,0x990}, {0x993,0x9a8}, {0x9aa,0x9b0}, {0x9b2,0x9b2},
    {0x9b6,0x9b9}, {0x9dc,0x9dd}, {0x9df,0x9e1}, {0x9f0,0x9f1}, {0xa05,0xa0a}, {0xa0f,0xa10},
    {0xa13,0xa28}, {0xa2a,0xa30}, {0xa32,0xa33}, {0xa35,0xa36}, {0xa38,0xa39}, {0xa59,0xa5c},
    {0xa5e,0xa5e}, {0xa72,0xa74}, {0xa85,0xa8b}, {0xa8d,0xa8d}, {0xa8f,0xa91}, {0xa93,0xaa8},
    {0xaaa,0xab0}, {0xab2,0xab3}, {0xab5,0xab9}, {0xabd,0xabd}, {0xae0,0xae0}, {0xb05,0xb0c},
    {0xb0f,0xb10}, {0xb13,0xb28}, {0xb2a,0xb30}, {0xb32,0xb33}, {0xb36,0xb39}, {0xb3d,0xb3d},
    {0xb5c,0xb5d}, {0xb5f,0xb61}, {0xb85,0xb8a}, {0xb8e,0xb90}, {0xb92,0xb95}, {0xb99,0xb9a},
    {0xb9c,0xb9c}, {0xb9e,0xb9f}, {0xba3,0xba4}, {0xba8,0xbaa}, {0xbae,0xbb5}, {0xbb7,0xbb9},
    {0xc05,0xc0c}, {0xc0e,0xc10}, {0xc12,0xc28}, {0xc2a,0xc33}, {0xc35,0xc39}, {0xc60,0xc61},
    {0xc85,0xc8c}, {0xc8e,0xc90}, {0xc92,0xca8}, {0xcaa,0xcb3}, {0xcb5,0xcb9}, {0xcde,0xcde},
    {0xce0,0xce1}, {0xd05,0xd0c}, {0xd0e,0xd10}, {0xd12,0xd28}, {0xd2a,0xd39}, {0xd60,0xd61},
    {0xe01,0xe2e}, {0xe30,0xe30}, {0xe32,0xe33}, {0xe40,0xe45}, {0xe81,0xe82}, {0xe84,0xe84},
    {0xe87,0xe88}, {0xe8a,0xe8a}, {0xe8d,0xe8d}, {0xe94,0xe97}, {0xe99,0xe9f}, {0xea1,0xea3},
    {0xea5,0xea5}, {0xea7,0xea7}, {0xeaa,0xeab}, {0xead,0xeae}, {0xeb0,0xeb0}, {0xeb2,0xeb3},
    {0xebd,0xebd}, {0xec0,0xec4}, {0xf40,0xf47}, {0xf49,0xf69}, {0x10a0,0x10c5}, {0x10d0,0x10f6},
    {0x1100,0x1100}, {0x1102,0x1103}, {0x1105,0x1107}, {0x1109,0x1109}, {0x110b,0x110c},
    {0x110e,0x1112}, {0x113c,0x113c}, {0x113e,0x113e}, {0x1140,0x1140}, {0x114c,0x114c},
    {0x114e,0x114e}, {0x1150,0x1150}, {0x1154,0x1155}, {0x1159,0x1159}, {0x115f,0x1161},
    {0x1163,0x1163}, {0x1165,0x1165}, {0x1167,0x1167}, {0x1169,0x1169}, {0x116d,0x116e},
    {0x1172,0x1173}, {0x1175,0x1175}, {0x119e,0x119e}, {0x11a8,0x11a8}, {0x11ab,0x11ab},
    {0x11ae,0x11af}, {0x11b7,0x11b8}, {0x11ba,0x11ba}, {0x11bc,0x11c2}, {0x11eb,0x11eb},
    {0x11f0,0x11f0}, {0x11f9,0x11f9}, {0x1e00,0x1e9b}, {0x1ea0,0x1ef9}, {0x1f00,0x1f15},
    {0x1f18,0x1f1d}, {0x1f20,0x1f45}, {0x1f48,0x1f4d}, {0x1f50,0x1f57}, {0x1f59,0x1f59},
    {0x1f5b,0x1f5b}, {0x1f5d,0x1f5d}, {0x1f5f,0x1f7d}, {0x1f80,0x1fb4}, {0x1fb6,0x1fbc},
    {0x1fbe,0x1fbe}, {0x1fc2,0x1fc4}, {0x1fc6,0x1fcc}, {0x1fd0,0x1fd3}, {0x1fd6,0x1fdb},
    {0x1fe0,0x1fec}, {0x1ff2,0x1ff4}, {0x1ff6,0x1ffc}, {0x2126,0x2126}, {0x212a,0x212b},
    {0x212e,0x212e}, {0x2180,0x2182}, {0x3007,0x3007}, {0x3021,0x3029}, {0x3041,0x3094},
    {0x30a1,0x30fa}, {0x3105,0x312c}, {0x4e00,0x9fa5}, {0xac00,0xd7a3}
};

static const uint16_t xml_name_others[][2] = {
    {0xb7,0xb7}, {0x2d0,0x2d1}, {0x300,0x345}, {0x360,0x361}, {0x387,0x387}, {0x483,0x486},
    {0x591,0x5a1}, {0x5a3,0x5b9}, {0x5bb,0x5bd}, {0x5bf,0x5bf}, {0x5c1,0x5c2}, {0x5c4,0x5c4},
    {0x640,0x640}, {0x64b,0x652}, {0x660,0x669}, {0x670,0x670}, {0x6d6,0x6e4}, {0x6e7,0x6e8},
    {0x6ea,0x6ed}, {0x6f0,0x6f9}, {0x901,0x903}, {0x93c,0x93c}, {0x93e,0x94d}, {0x951,0x954},
    {0x962,0x963}, {0x966,0x96f}, {0x981,0x983}, {0x9bc,0x9bc}, {0x9be,0x9c4}, {0x9c7,0x9c8},
    {0x9cb,0x9cd}, {0x9d7,0x9d7}, {0x9e2,0x9e3}, {0x9e6,0x9ef}, {0xa02,0xa02}, {0xa3c,0xa3c},
    {0xa3e,0xa42}, {0xa47,0xa48}, {0xa4b,0xa4d}, {0xa66,0xa71}, {0xa81,0xa83}, {0xabc,0xabc},
    {0xabe,0xac5}, {0xac7,0xac9}, {0xacb,0xacd}, {0xae6,0xaef}, {0xb01,0xb03}, {0xb3c,0xb3c},
    {0xb3e,0xb43}, {0xb47,0xb48}, {0xb4b,0xb4d}, {0xb56,0xb57}, {0xb66,0xb6f}, {0xb82,0xb83},
    {0xbbe,0xbc2}, {0xbc6,0xbc8}, {0xbca,0xbcd}, {0xbd7,0xbd7}, {0xbe7,0xbef}, {0xc01,0xc03},
    {0xc3e,0xc44}, {0xc46,0xc48}, {0xc4a,0xc4d}, {0xc55,0xc56}, {0xc66,0xc6f}, {0xc82,0xc83},
    {0xcbe,0xcc4}, {0xcc6,0xcc8}, {0xcca,0xccd}, {0xcd5,0xcd6}, {0xce6,0xcef}, {0xd02,0xd03},
    {0xd3e,0xd43}, {0xd46,0xd48}, {0xd4a,0xd4d}, {0xd57,0xd57}, {0xd66,0xd6f}, {0xe31,0xe31},
    {0xe34,0xe3a}, {0xe46,0xe4e}, {0xe50,0xe59}, {0xeb1,0xeb1}, {0xeb4,0xeb9}, {0xebb,0xebc},
    {0xec6,0xec6}, {0xec8,0xecd}, {0xed0,0xed9}, {0xf18,0xf19}, {0xf20,0xf29}, {0xf35,0xf35},
    {0xf37,0xf37}, {0xf39,0xf39}, {0xf3e,0xf3f}, {0xf71,0xf84}, {0xf86,0xf8b}, {0xf90,0xf95},
    {0xf97,0xf97}, {0xf99,0xfad}, {0xfb1,0xfb7}, {0xfb9,0xfb9}, {0x20d0,0x20dc}, {0x20e1,0x20e1},
    {0x3005,0x3005}, {0x302a,0x302f}, {0x3031,0x3035}, {0x3099,0x309a}, {0x309d,0x309e},
    {0x30fc,0x30fe}
};

/* May `c`, beyond ASCII, stand in a name, or begin one?  It is what expat accepts, and with it
 * Prosody, ejabberd and jabberd2. */
static bool
xml_is_old_name_char(uint32_t c, bool first)
{
    return xml_in_ranges(xml_name_starts, sizeof xml_name_starts / sizeof *xml_name_starts, c)
        || (!first
            && xml_in_ranges(xml_name_others, sizeof xml_name_others / sizeof *xml_name_others, c));
}

/* Characters beyond ASCII that names may have in XML 1.0, fifth edition.  It has more of them than
 * the fourth, and allows more at the beginning; elements that use those are not forwarded. */
static bool
xml_is_name_char(uint32_t c)
{
    static const struct { uint32_t from, to; } ranges[] = {
        { 0xb7, 0xb7 }, { 0xc0, 0xd6 }, { 0xd8, 0xf6 }, { 0xf8, 0x37d }, { 0x37f, 0x1fff },
        { 0x200c, 0x200d }, { 0x203f, 0x2040 }, { 0x2070, 0x218f }, { 0x2c00, 0x2fef },
        { 0x3001, 0xd7ff }, { 0xf900, 0xfdcf }, { 0xfdf0, 0xfffd }, { 0x10000, 0xeffff }
    };
    size_t i;
    for (i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c <= ranges[i].to)
            return c >= ranges[i].from;
    return false;
}

/* First byte that is not an ASCII character of a name, four at a time. */
static inline const char *
xml_run_name(const char *p, const char *end)
{
    for (; end - p >= 4; p += 4) {
        if (!xml_is(p[0], XML_IS_NAME))
            return p;
        if (!xml_is(p[1], XML_IS_NAME))
            return p + 1;
        if (!xml_is(p[2], XML_IS_NAME))
            return p + 2;
        if (!xml_is(p[3], XML_IS_NAME))
            return p + 3;
    }
    while (p < end && xml_is(*p, XML_IS_NAME))
        p++;
    return p;
}

/* Read on in the name that began at x->mark; XML_GO when something else stands at c->p. */
static enum xml_step
xml_name(struct xe_xml *x, struct xml_cursor *c)
{
    const char *p = c->p;
    for (;;) {
        uint32_t begin = x->colon == 0 ? x->mark : x->colon + 1;
        uint32_t code = 0;
        int len;
        p = xml_run_name(p, c->end);
        c->p = p;
        if (p == c->end)
            return XML_WAIT;
        if (*p == ':') {
            if (x->colon != 0)
                return xml_fail(x, XE_WHY_XML_MALFORMED);
            x->colon = xml_place(c, p);
            p++;
            continue;
        }
        if ((unsigned char)*p < 0x80)
            return XML_GO;
        len = xe_utf8(p, c->end, &code);
        if (len == 0)
            return XML_WAIT;
        if (len < 0)
            return xml_fail(x, XE_WHY_XML_ENCODING);
        if (!xml_is_name_char(code))
            return xml_fail(x, XE_WHY_XML_MALFORMED);
        if (!xml_is_old_name_char(code, xml_place(c, p) == begin))
            x->flags |= XE_XML_UNBOUND;
        p += len;
    }
}

/* Does a name of Namespaces in XML, without colon, begin at p and not end at once? */
static inline bool
xml_is_start(const char *p, const char *end)
{
    return p < end && (xml_is(*p, XML_IS_START) || (unsigned char)*p >= 0x80);
}

/* The name from x->mark to c->p is complete: put it down. */
static inline enum xml_step
xml_name_end(struct xe_xml *x, struct xml_cursor *c, struct xe_xml_mark *m)
{
    const char *name = c->buf + x->mark;
    size_t len = (size_t)(c->p - name);
    size_t prefix = x->colon == 0 ? 0 : x->colon - x->mark;
    if (!xml_is_start(name, c->p) || (x->colon != 0 && !xml_is_start(name + prefix + 1, c->p)))
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    if (len > XML_LEN_MAX || prefix > XML_PREFIX_MAX)
        return xml_fail(x, XE_WHY_XML_LIMIT);
    m->name = x->mark;
    m->name_len = (uint16_t)len;
    m->prefix_len = (uint8_t)prefix;
    x->colon = 0;
    return XML_GO;
}

static inline struct xe_span
xml_mark_prefix(const char *buf, const struct xe_xml_mark *m)
{
    return span_make(buf + m->name, m->prefix_len);
}

static inline struct xe_span
xml_mark_local(const char *buf, const struct xe_xml_mark *m)
{
    size_t skip = m->prefix_len == 0 ? 0 : (size_t)m->prefix_len + 1;
    return span_make(buf + m->name + skip, m->name_len - skip);
}

static inline struct xe_span
xml_mark_value(const char *buf, const struct xe_xml_mark *m)
{
    return span_make(buf + m->value, m->end - m->value);
}

/* ---- namespaces ---- */

/* The character of an attribute value as received at *p, which moves on, as a parser tells it to
 * its application (XML 1.0 2.11 and 3.3.3: the end of a line is one character, white space a
 * space).  Returns the bytes written to out. */
static size_t
xml_value_char(const char **p, const char *end, char out[4])
{
    uint32_t c = 0;
    enum xe_why why;
    int len = **p == '&' ? xml_ref(*p, end, &c, &why) : 0;
    if (len > 0) {
        *p += len;
        return text_put_utf8(c, out);
    }
    if (**p == '\r' && end - *p > 1 && (*p)[1] == '\n')
        ++*p;
    out[0] = xml_is(**p, XML_IS_SPACE) ? ' ' : **p;
    len = text_utf8_length((unsigned char)*(*p)++);
    for (c = 1; (int)c < len && *p < end; c++)
        out[c] = *(*p)++;
    return c;
}

/* In which order do two attribute values come, compared as parsers compare them? */
static int
xml_compare_values(struct xe_span a, struct xe_span b)
{
    const char *p = a.at;
    const char *q = b.at;
    if (span_eq(a, b))
        return 0;
    while (p < span_end(a) && q < span_end(b)) {
        char one[4];
        char other[4];
        size_t n = xml_value_char(&p, span_end(a), one);
        size_t m = xml_value_char(&q, span_end(b), other);
        int order = n == m ? memcmp(one, other, n) : n < m ? -1 : 1;
        if (order != 0)
            return order;
    }
    return (p < span_end(a)) - (q < span_end(b));
}

/* A namespace as a name sees it. */
struct xml_ns {
    struct xe_span uri;   /* at == NULL when the prefix is unbound */
    unsigned       kind;  /* XML_NS_* */
    unsigned       flags; /* for the event */
};

/* The kind of a namespace name that has a reference, a '|' or neither.  Names that mean something
 * here are not written with references by anybody who means well. */
static uint8_t
xml_ns_kind_slow(struct xe_span uri)
{
    static const char *const names[] = { "jabber:server", "jabber:client", XML_NAME_URI,
        XML_XMLNS_URI };
    const char *p = uri.at;
    size_t i;
    while (p < span_end(uri)) {
        char c[4];
        if (xml_value_char(&p, span_end(uri), c) == 1 && (c[0] == '|' || c[0] == '\n'))
            return XML_NS_ODD;
    }
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (xml_compare_values(uri, span_of(names[i])) == 0)
            return XML_NS_ODD;
    return XML_NS_OTHER;
}

/* expat refuses a name with the character by which its application separates the parts of names, if
 * that is none of a URI (CVE-2022-25236): jabberd2 has '|' and ejabberd the end of a line. */
static uint8_t
xml_ns_kind(struct xe_span uri)
{
    unsigned all = XML_IS_URI;
    size_t i = 0;
    if (uri.len == 0)
        return XML_NS_NONE;
    if (XML_SAME(uri, "jabber:server"))
        return XML_NS_SERVER;
    if (XML_SAME(uri, "jabber:client"))
        return XML_NS_CLIENT;
    for (; uri.len - i >= 4; i += 4)
        all &= xml_class[(unsigned char)uri.at[i]] & xml_class[(unsigned char)uri.at[i + 1]]
            & xml_class[(unsigned char)uri.at[i + 2]] & xml_class[(unsigned char)uri.at[i + 3]];
    for (; i < uri.len; i++)
        all &= xml_class[(unsigned char)uri.at[i]];
    return all == 0 ? xml_ns_kind_slow(uri) : XML_NS_OTHER;
}

/* Bring the declaration `m` into scope (Namespaces in XML 3 for what may not be declared).  The
 * default namespace of an element inside another is known to frames by its kind, not put down. */
static bool
xml_bind(struct xe_xml *x, const char *buf, const struct xe_xml_mark *m)
{
    struct xe_span prefix = m->kind == XML_ATTR_DECL ? xml_mark_local(buf, m) : span_make(buf, 0);
    struct xe_span uri = xml_mark_value(buf, m);
    struct xe_xml_binding *b;
    uint8_t kind = xml_ns_kind(uri);
    bool is_xml = XML_SAME(prefix, "xml");
    if (is_xml != XML_SAME(uri, XML_NAME_URI) || XML_SAME(uri, XML_XMLNS_URI)
        || XML_SAME(prefix, "xmlns") || (m->kind == XML_ATTR_DECL && uri.len == 0))
        return xml_fail(x, XE_WHY_XML_MALFORMED), false;
    if (is_xml)
        return true;
    if (kind == XML_NS_ODD)
        x->flags |= XE_XML_UNBOUND;
    if (m->kind == XML_ATTR_DEFAULT) {
        x->default_kind = kind;
        if (x->depth > 0)
            return true;
    }
    if (uri.len > XML_LEN_MAX || prefix.len > XML_PREFIX_MAX)
        return xml_fail(x, XE_WHY_XML_LIMIT), false;
    if (x->nns >= x->ns_room
        && !xml_use_large(x, x->nns, x->stream == NULL ? XE_XML_STREAM_NS_MAX : XE_XML_NS_MAX))
        return false;
    b = &x->ns[x->nns++];
    b->prefix = (uint32_t)(prefix.at - buf);
    b->prefix_len = (uint8_t)prefix.len;
    b->value = m->value;
    b->value_len = (uint16_t)uri.len;
    b->kind = kind;
    return true;
}

static bool
xml_bind_all(struct xe_xml *x, const char *buf)
{
    unsigned i;
    for (i = 0; i < x->nattrs; i++)
        if (x->attrs[i].kind >= XML_ATTR_DEFAULT && !xml_bind(x, buf, &x->attrs[i]))
            return false;
    return true;
}

/* Find `prefix` among `n` bindings, the last first; NULL when it is not there. */
static const struct xe_xml_binding *
xml_find(const struct xe_xml_binding *all, size_t n, const char *buf, struct xe_span prefix)
{
    while (n-- > 0)
        if (all[n].prefix_len == prefix.len
            && (prefix.len == 0 || memcmp(buf + all[n].prefix, prefix.at, prefix.len) == 0))
            return &all[n];
    return NULL;
}

/* Resolve a prefix ("" for the default namespace) with the first `n` bindings of the element and,
 * if it is not there, with the header. */
static struct xml_ns
xml_resolve(const struct xe_xml *x, size_t n, const char *buf, struct xe_span prefix)
{
    const struct xe_xml_binding *b = xml_find(x->ns, n, buf, prefix);
    unsigned flags = 0;
    if (b == NULL) {
        if (span_is(prefix, "xml"))
            return (struct xml_ns){ span_of(XML_NAME_URI), XML_NS_OTHER, 0 };
        buf = x->stream;
        b = xml_find(x->stream_ns, x->nstream, buf, prefix);
        if (b == NULL && prefix.len == 0)
            return (struct xml_ns){ span_make("", 0), XML_NS_NONE, 0 };
        if (b == NULL)
            return (struct xml_ns){ span_make(NULL, 0), XML_NS_UNBOUND, XE_XML_UNBOUND };
        if (prefix.len > 0)
            flags = XE_XML_STREAM_PREFIX | 1u << (b - x->stream_ns + XE_XML_USED_SHIFT);
    }
    if (b->kind == XML_NS_ODD)
        flags |= XE_XML_UNBOUND;
    return (struct xml_ns){ span_make(buf + b->value, b->value_len), b->kind, flags };
}

/* An attribute's name, its namespace looked up. */
struct xml_expanded {
    struct xe_span uri;
    struct xe_span local;
};

static int
xml_compare_expanded(const void *a, const void *b)
{
    const struct xml_expanded *x = a;
    const struct xml_expanded *y = b;
    int order = x->local.len == y->local.len
        ? memcmp(x->local.at, y->local.at, x->local.len) : x->local.len < y->local.len ? -1 : 1;
    return order != 0 ? order : xml_compare_values(x->uri, y->uri);
}

static bool
xml_all_differ(struct xml_expanded *names, size_t n)
{
    size_t i;
    if (n > 1)
        qsort(names, n, sizeof *names, xml_compare_expanded);
    for (i = 1; i < n; i++)
        if (xml_compare_expanded(&names[i - 1], &names[i]) == 0)
            return false;
    return true;
}

/* Resolve the prefixed attributes of a tag; no two may have the same expanded name. */
static bool
xml_resolve_attrs(struct xe_xml *x, const char *buf)
{
    struct xml_expanded names[XE_XML_ATTRS_MAX];
    size_t n = 0;
    unsigned i;
    for (i = 0; i < x->nattrs; i++) {
        const struct xe_xml_mark *m = &x->attrs[i];
        struct xml_ns ns;
        if (m->kind != XML_ATTR_PREFIXED)
            continue;
        ns = xml_resolve(x, x->nns, buf, xml_mark_prefix(buf, m));
        x->flags |= ns.flags;
        if (ns.uri.at != NULL)
            names[n++] = (struct xml_expanded){ ns.uri, xml_mark_local(buf, m) };
    }
    return xml_all_differ(names, n);
}

/* Have the attributes of a tag different names?  Few are compared as they come (xml_attr_end); each
 * of many with each other would take too long. */
static bool
xml_many_differ(const struct xe_xml *x, const char *buf)
{
    struct xml_expanded names[XE_XML_ATTRS_MAX];
    unsigned i;
    for (i = 0; i < x->nattrs; i++)
        names[i] = (struct xml_expanded){ span_make(buf, 0),
            span_make(buf + x->attrs[i].name, x->attrs[i].name_len) };
    return xml_all_differ(names, x->nattrs);
}

/* ---- events ---- */

/* Put the root tag that was just read into the event. */
static void
xml_event_root(const struct xe_xml *x, struct xml_cursor *c, struct xe_span uri)
{
    struct xe_xml_event *e = c->event;
    const struct xe_xml_mark *m = x->attrs;
    const struct xe_xml_mark *end = m + x->nattrs;
    struct xe_xml_attr *a = e->attrs;
    e->name = xml_mark_local(c->buf, &x->name);
    e->ns = uri;
    for (; m < end; m++)
        if (m->kind < XML_ATTR_DEFAULT) {
            a->prefix = xml_mark_prefix(c->buf, m);
            a->name = xml_mark_local(c->buf, m);
            a->value = xml_mark_value(c->buf, m);
            a->quote = c->buf[m->end];
            a++;
        }
    e->nattrs = (unsigned)(a - e->attrs);
    c->filled = true;
}

static struct xe_span
xml_qname_prefix(struct xe_span *name)
{
    size_t colon = span_find(*name, ':');
    struct xe_span prefix = span_make(name->at, colon < name->len ? colon : 0);
    if (colon < name->len)
        *name = span_skip(*name, colon + 1);
    return prefix;
}

/* Is this attribute a namespace declaration? */
static bool
xml_attr_declares(const struct xe_xml_attr *a)
{
    return a->prefix.len == 0 ? span_is(a->name, "xmlns") : span_is(a->prefix, "xmlns");
}

/* Read a start tag again that has passed the tokenizer: p is at '<'.  Name and attributes go to e,
 * declarations among them; the prefix of the name goes to *prefix.  Returns the place after '>'. */
static const char *
xml_split(const char *p, struct xe_xml_event *e, struct xe_span *prefix)
{
    const char *from = ++p;
    e->nattrs = 0;
    while (!xml_is(*p, XML_IS_SPACE) && *p != '/' && *p != '>')
        p++;
    e->name = span_make(from, (size_t)(p - from));
    *prefix = xml_qname_prefix(&e->name);
    for (;;) {
        struct xe_xml_attr *a = &e->attrs[e->nattrs];
        while (xml_is(*p, XML_IS_SPACE) || *p == '/')
            p++;
        if (*p == '>')
            return p + 1;
        from = p;
        while (!xml_is(*p, XML_IS_SPACE) && *p != '=')
            p++;
        a->name = span_make(from, (size_t)(p - from));
        a->prefix = xml_qname_prefix(&a->name);
        while (*p != '"' && *p != '\'')
            p++;
        a->quote = *p;
        from = ++p;
        while (*p != a->quote)
            p++;
        a->value = span_make(from, (size_t)(p - from));
        p++;
        e->nattrs++;
    }
}

/* The root tag went by in an earlier call: fetch it again, once per element. */
static void
xml_event_again(const struct xe_xml *x, struct xml_cursor *c)
{
    struct xe_xml_event *e = c->event;
    struct xe_span prefix;
    unsigned n = 0;
    unsigned i;
    xml_split(c->buf, e, &prefix);
    e->ns = xml_resolve(x, x->root_nns, c->buf, prefix).uri;
    for (i = 0; i < e->nattrs; i++)
        if (!xml_attr_declares(&e->attrs[i]))
            e->attrs[n++] = e->attrs[i];
    e->nattrs = n;
}

/* A first-level element is complete at c->p; its content ends at `inner_end`. */
static enum xml_step
xml_element_end(struct xe_xml *x, struct xml_cursor *c, const char *inner_end)
{
    struct xe_xml_event *e = c->event;
    if (!c->filled)
        xml_event_again(x, c);
    e->raw = span_make(c->buf, (size_t)(c->p - c->buf));
    e->inner = span_make(c->buf + x->inner, (size_t)(inner_end - (c->buf + x->inner)));
    e->flags = x->flags;
    e->why = XE_WHY_NONE;
    c->result = XE_XML_ELEMENT;
    x->state = XML_AT_GAP;
    return XML_DONE;
}

struct xe_span
xe_xml_attr(const struct xe_xml_event *event, const char *name)
{
    size_t len = strlen(name);
    unsigned i;
    for (i = 0; i < event->nattrs; i++) {
        const struct xe_xml_attr *a = &event->attrs[i];
        if (a->prefix.len == 0 && a->name.len == len && memcmp(a->name.at, name, len) == 0)
            return a->value;
    }
    return span_make(NULL, 0);
}

struct xe_span
xe_xml_lang(const struct xe_xml_event *event)
{
    unsigned i;
    for (i = 0; i < event->nattrs; i++) {
        const struct xe_xml_attr *a = &event->attrs[i];
        if (span_is(a->prefix, "xml") && span_is(a->name, "lang"))
            return a->value;
    }
    return span_make(NULL, 0);
}

/* ---- the header ---- */

static char *
xml_keep(char *to, const char *text, struct xe_span s)
{
    size_t len = strlen(text);
    memcpy(to, text, len);
    if (s.len > 0)
        memcpy(to + len, s.at, s.len);
    return to + len + s.len;
}

/* Keep what later elements need of the header: its name, then " xml:lang='...'", then the
 * declarations as they would be written on a tag. */
static bool
xml_header_keep(struct xe_xml *x, const struct xml_cursor *c)
{
    const struct xe_xml_mark *tag = &x->name;
    struct xe_span name = span_make(c->buf + tag->name, tag->name_len);
    struct xe_span lang = xe_xml_lang(c->event);
    size_t size = name.len + (lang.at == NULL ? 0 : lang.len + sizeof " xml:lang=''");
    char *p;
    unsigned i;
    for (i = 0; i < x->nns; i++)
        size += sizeof " xmlns:=''" + x->ns[i].prefix_len + x->ns[i].value_len;
    if (size > XE_XML_STREAM_KEPT_MAX)
        return xml_fail(x, XE_WHY_HEADER_TOO_BIG), false;
    p = x->stream = malloc(size + 1);
    if (p == NULL)
        return xml_fail(x, XE_WHY_OUT_OF_MEMORY), false;
    x->stream_name = (uint32_t)name.len;
    p = xml_keep(p, "", name);
    if (lang.at != NULL) {
        x->has_lang = true;
        p = xml_keep(p, " xml:lang=", span_make(lang.at - 1, lang.len + 2));
        x->lang_len = (uint16_t)(p - x->stream - (ptrdiff_t)name.len);
    }
    for (i = 0; i < x->nns; i++) {
        struct xe_xml_binding b = x->ns[i];
        p = xml_keep(p, b.prefix_len == 0 ? " xmlns" : " xmlns:",
            span_make(c->buf + b.prefix, b.prefix_len));
        b.prefix = (uint32_t)(p - x->stream - b.prefix_len);
        p = xml_keep(p, "=", span_make(c->buf + b.value - 1, (size_t)b.value_len + 2));
        b.value = (uint32_t)(p - x->stream - b.value_len - 1);
        x->stream_ns[i] = b;
        if (b.prefix_len == 0)
            x->stream_kind = b.kind;
    }
    x->nstream = (uint8_t)x->nns;
    x->nns = 0;
    return true;
}

static enum xml_step
xml_header_end(struct xe_xml *x, struct xml_cursor *c, bool empty)
{
    struct xe_xml_event *e = c->event;
    if (empty)
        return xml_fail(x, XE_WHY_NOT_XMPP);
    if (!xml_header_keep(x, c))
        return XML_FAIL;
    e->raw = span_make(c->buf, (size_t)(c->p - c->buf));
    e->inner = span_make(c->p, 0);
    e->flags = x->flags;
    e->why = XE_WHY_NONE;
    c->result = XE_XML_HEADER;
    x->state = XML_AT_GAP;
    return XML_DONE;
}

/* ---- start tags ---- */

/* What forwarding the element as it stands would do to its namespace: does it need to be rewritten?
 * `bits` are those of its frame, with the default namespace that it sees. */
static bool
xml_needs_rewrite(unsigned bits, unsigned kind, bool prefixed)
{
    if ((bits & XML_NS_CHAIN) != 0 && kind <= XML_NS_CLIENT)
        return prefixed || (kind == XML_NS_CLIENT && (bits & XML_NS_OUTER) == 0);
    return !prefixed && (bits & XML_NS_OUTER) != 0 && kind != XML_NS_SERVER;
}

/* The attributes of a start tag are all there: no two are the same, and each prefix is declared. */
static enum xml_step
xml_tag_attrs(struct xe_xml *x, const char *buf)
{
    if (x->nattrs > XE_XML_SMALL_ATTRS && !xml_many_differ(x, buf))
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    if ((x->tag & XML_ATTRS_WITH_NS) == 0)
        return XML_GO;
    if (!xml_bind_all(x, buf))
        return XML_FAIL;
    if ((x->tag & 1u << XML_ATTR_PREFIXED) != 0 && !xml_resolve_attrs(x, buf))
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    return XML_GO;
}

/* A start tag is complete, c->p is after its '>'. */
static enum xml_step
xml_tag_end(struct xe_xml *x, struct xml_cursor *c, bool empty)
{
    const struct xe_xml_mark *tag = &x->name;
    bool root = x->depth == 0;
    uint16_t outside = x->nns;
    unsigned bits = root
        ? x->stream_kind | (unsigned)XML_NS_OUTER | XML_NS_CHAIN : x->frames[x->depth - 1].bits;
    struct xml_ns ns = { { NULL, 0 }, 0, 0 };
    if (x->elements++ >= x->limits.elements)
        return xml_fail(x, XE_WHY_XML_LIMIT);
    if (x->depth >= x->depth_room && !xml_use_large(x, x->depth, x->limits.depth))
        return XML_FAIL;
    if (xml_tag_attrs(x, c->buf) == XML_FAIL)
        return XML_FAIL;
    if ((x->tag & 1u << XML_ATTR_DEFAULT) != 0)
        bits = (bits & XML_NS_CHAIN) | (root ? (unsigned)XML_NS_OUTER : 0) | x->default_kind;
    ns.kind = bits & XML_NS_MASK;
    if (root || tag->prefix_len > 0) {
        ns = xml_resolve(x, x->nns, c->buf, xml_mark_prefix(c->buf, tag));
        /* the name of a stanza is written without prefix */
        x->flags |= root && ns.kind <= XML_NS_CLIENT ? 0 : ns.flags;
    }
    if (root) {
        x->root_nns = x->nns;
        x->inner = xml_place(c, c->p);
        xml_event_root(x, c, ns.uri);
        if (x->stream == NULL)
            return xml_header_end(x, c, empty);
    } else if (xml_needs_rewrite(bits, ns.kind, tag->prefix_len > 0)) {
        x->flags |= ns.kind == XML_NS_ODD ? XE_XML_UNBOUND : XE_XML_REWRITE;
    }
    if (empty) {
        x->nns = outside;
        x->state = XML_AT_TEXT;
        return root ? xml_element_end(x, c, c->p) : XML_GO;
    }
    if (ns.kind > XML_NS_CLIENT)
        bits &= ~(unsigned)XML_NS_CHAIN;
    x->frames[x->depth++] = (struct xe_xml_frame){ tag->name, tag->name_len, outside,
                                                   (uint8_t)bits };
    x->state = XML_AT_TEXT;
    return XML_GO;
}

static inline uint8_t
xml_attr_kind(const char *buf, const struct xe_xml_mark *m)
{
    const char *name = buf + m->name;
    if (*name != 'x')
        return m->prefix_len == 0 ? XML_ATTR_PLAIN : XML_ATTR_PREFIXED;
    if (m->prefix_len == 0 && m->name_len == 5 && memcmp(name, "xmlns", 5) == 0)
        return XML_ATTR_DEFAULT;
    if (m->prefix_len == 0)
        return XML_ATTR_PLAIN;
    if (m->prefix_len == 5 && memcmp(name, "xmlns", 5) == 0)
        return XML_ATTR_DECL;
    return m->prefix_len == 3 && memcmp(name, "xml", 3) == 0 ? XML_ATTR_XML : XML_ATTR_PREFIXED;
}

/* Names that differ in length or first letter mostly differ in this bit. */
static inline uint32_t
xml_attr_bit(const char *name, size_t len)
{
    return (uint32_t)1 << (((unsigned char)*name + 5 * len) & 31);
}

/* The name of an attribute is complete: there may be no other with this name. */
static enum xml_step
xml_attr_end(struct xe_xml *x, struct xml_cursor *c)
{
    struct xe_xml_mark *m = &x->attrs[x->nattrs];
    const char *buf = c->buf;
    uint32_t bit;
    unsigned i;
    if (xml_name_end(x, c, m) != XML_GO)
        return XML_FAIL;
    bit = xml_attr_bit(buf + m->name, m->name_len);
    for (i = (x->seen & bit) != 0 && x->nattrs <= XE_XML_SMALL_ATTRS ? 0 : x->nattrs;
        i < x->nattrs; i++)
        if (x->attrs[i].name_len == m->name_len && buf[x->attrs[i].name] == buf[m->name]
            && memcmp(buf + x->attrs[i].name, buf + m->name, m->name_len) == 0)
            return xml_fail(x, XE_WHY_XML_MALFORMED);
    x->seen |= bit;
    m->kind = xml_attr_kind(buf, m);
    x->tag |= (uint8_t)(1u << m->kind);
    x->state = XML_AT_EQ;
    return XML_GO;
}

static enum xml_step
xml_value(struct xe_xml *x, struct xml_cursor *c)
{
    const char *p = c->p;
    for (;;) {
        enum xml_step step;
        p = xml_run_value(p, c->end);
        if (p == c->end)
            break;
        if (*p == (char)x->quote) {
            x->attrs[x->nattrs++].end = xml_place(c, p);
            x->spaced = false;
            x->state = XML_AT_TAG;
            c->p = p + 1;
            return XML_GO;
        }
        if (*p == '"' || *p == '\'') {
            p++;
            continue;
        }
        step = xml_special(x, &p, c->end);
        if (step == XML_FAIL)
            return step;
        if (step == XML_WAIT)
            break;
    }
    c->p = p;
    return XML_WAIT;
}

/* Between the name and the value of an attribute: '=' and the quote, with white space around. */
static enum xml_step
xml_equals(struct xe_xml *x, struct xml_cursor *c)
{
    for (; c->p < c->end; c->p++) {
        char ch = *c->p;
        if (xml_is(ch, XML_IS_SPACE))
            continue;
        if (x->state == XML_AT_EQ && ch == '=') {
            x->state = XML_AT_QUOTE;
        } else if (x->state == XML_AT_QUOTE && (ch == '\'' || ch == '"')) {
            x->quote = (uint8_t)ch;
            c->p++;
            x->attrs[x->nattrs].value = xml_place(c, c->p);
            x->state = XML_AT_VALUE;
            return xml_value(x, c);
        } else {
            return xml_fail(x, XE_WHY_XML_MALFORMED);
        }
    }
    return XML_WAIT;
}

static enum xml_step
xml_attr(struct xe_xml *x, struct xml_cursor *c)
{
    enum xml_step step = xml_name(x, c);
    if (step == XML_GO)
        step = xml_attr_end(x, c);
    if (step != XML_GO)
        return step;
    if (c->end - c->p < 2 || *c->p != '=' || !(c->p[1] == '\'' || c->p[1] == '"'))
        return xml_equals(x, c);
    /* the usual case of xml_equals() */
    x->quote = (uint8_t)c->p[1];
    c->p += 2;
    x->attrs[x->nattrs].value = xml_place(c, c->p);
    x->state = XML_AT_VALUE;
    return xml_value(x, c);
}

static enum xml_step
xml_slash(struct xe_xml *x, struct xml_cursor *c)
{
    if (c->p == c->end)
        return XML_WAIT;
    if (*c->p != '>')
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    c->p++;
    return xml_tag_end(x, c, true);
}

/* Read a whole attribute in one go: p is at its name.  Returns the place after it, or NULL and
 * nothing done, if there is anything unusual or the end comes first; xml_attr() looks into that.
 * An attribute is tried here once, so that nothing is read more than twice. */
static inline const char *
xml_attr_whole(struct xe_xml *x, const struct xml_cursor *c, const char *p)
{
    struct xe_xml_mark *m = &x->attrs[x->nattrs];
    const char *name = p;
    const char *value;
    size_t prefix = 0;
    uint32_t bit;
    p = xml_run_name(p, c->end);
    if (p < c->end && *p == ':') {
        prefix = (size_t)(p - name);
        if (!xml_is_start(p + 1, c->end) || prefix > XML_PREFIX_MAX)
            return NULL;
        p = xml_run_name(p + 1, c->end);
    }
    if (c->end - p < 3 || p[0] != '=' || (p[1] != '\'' && p[1] != '"') || p - name > XML_LEN_MAX)
        return NULL;
    bit = xml_attr_bit(name, (size_t)(p - name));
    value = p + 2;
    m->name_len = (uint16_t)(p - name);
    p = xml_run_value(value, c->end);
    if (p == c->end || *p != value[-1]
        || ((x->seen & bit) != 0 && x->nattrs <= XE_XML_SMALL_ATTRS))
        return NULL;
    m->name = xml_place(c, name);
    m->prefix_len = (uint8_t)prefix;
    m->value = xml_place(c, value);
    m->end = xml_place(c, p);
    m->kind = xml_attr_kind(c->buf, m);
    x->tag |= (uint8_t)(1u << m->kind);
    x->seen |= bit;
    x->nattrs++;
    return p + 1;
}

/* After the name of the tag or after an attribute. */
static enum xml_step
xml_tag(struct xe_xml *x, struct xml_cursor *c)
{
    const char *p = c->p;
    bool spaced = x->spaced;
    while (p < c->end) {
        const char *next;
        char ch = *p;
        if (xml_is(ch, XML_IS_SPACE)) {
            spaced = true;
            p++;
            continue;
        }
        if (ch == '>') {
            c->p = p + 1;
            return xml_tag_end(x, c, false);
        }
        if (ch == '/') {
            c->p = p + 1;
            x->state = XML_AT_SLASH;
            return xml_slash(x, c);
        }
        if (!spaced || !xml_is_start(p, c->end))
            return xml_fail(x, XE_WHY_XML_MALFORMED);
        if (x->nattrs >= x->attrs_room && !xml_use_large(x, x->nattrs, x->limits.attrs))
            return XML_FAIL;
        next = xml_attr_whole(x, c, p);
        if (next == NULL) {
            enum xml_step step;
            c->p = p;
            x->mark = xml_place(c, p);
            x->state = XML_AT_ATTR;
            step = xml_attr(x, c);
            if (step != XML_GO)
                return step;
            next = c->p;
        }
        p = next;
        spaced = false;
    }
    c->p = p;
    x->spaced = spaced;
    return XML_WAIT;
}

static enum xml_step
xml_tag_name(struct xe_xml *x, struct xml_cursor *c)
{
    enum xml_step step = xml_name(x, c);
    if (step != XML_GO)
        return step;
    if (xml_name_end(x, c, &x->name) != XML_GO)
        return XML_FAIL;
    x->nattrs = 0;
    x->tag = 0;
    x->seen = 0;
    x->spaced = false;
    x->state = XML_AT_TAG;
    return xml_tag(x, c);
}

/* ---- end tags and text ---- */

/* An end tag is complete, c->p is after its '>'; x->mark is at its name. */
static enum xml_step
xml_end_done(struct xe_xml *x, struct xml_cursor *c)
{
    if (x->depth == 0) {
        c->event->name = c->event->ns = span_make("", 0);
        c->event->raw = span_make(c->buf, (size_t)(c->p - c->buf));
        c->event->inner = span_make(c->p, 0);
        c->event->flags = c->event->nattrs = 0;
        c->event->why = XE_WHY_NONE;
        c->result = XE_XML_CLOSE;
        x->state = XML_AT_CLOSED;
        return XML_DONE;
    }
    x->nns = x->frames[--x->depth].nns;
    x->state = XML_AT_TEXT;
    return x->depth > 0 ? XML_GO : xml_element_end(x, c, c->buf + x->mark - 2);
}

/* After "</": exactly the name of the innermost open element, or of the header. */
static enum xml_step
xml_end(struct xe_xml *x, struct xml_cursor *c)
{
    const struct xe_xml_frame *f = &x->frames[x->depth == 0 ? 0 : x->depth - 1];
    struct xe_span name = x->depth > 0
        ? span_make(c->buf + f->name, f->name_len) : span_make(x->stream, x->stream_name);
    size_t done = xml_place(c, c->p) - x->mark;
    size_t left = name.len - done;
    size_t have = (size_t)(c->end - c->p);
    if (memcmp(c->p, name.at + done, have < left ? have : left) != 0)
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    c->p += have < left ? have : left;
    if (c->p == c->end)
        return XML_WAIT;
    if (*c->p == '>') {
        c->p++;
        return xml_end_done(x, c);
    }
    if (!xml_is(*c->p, XML_IS_SPACE))
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    x->state = XML_AT_END_SPACE;
    return XML_GO;
}

static enum xml_step
xml_end_space(struct xe_xml *x, struct xml_cursor *c)
{
    while (c->p < c->end && xml_is(*c->p, XML_IS_SPACE))
        c->p++;
    if (c->p == c->end)
        return XML_WAIT;
    if (*c->p != '>')
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    c->p++;
    return xml_end_done(x, c);
}

/* After '<'. */
static enum xml_step
xml_open(struct xe_xml *x, struct xml_cursor *c)
{
    char ch;
    if (c->p == c->end)
        return XML_WAIT;
    ch = *c->p;
    if (xml_is(ch, XML_IS_START) || (unsigned char)ch >= 0x80) {
        x->mark = xml_place(c, c->p);
        x->state = XML_AT_NAME;
        return xml_tag_name(x, c);
    }
    if (ch == '?' || (ch == '!' && x->depth == 0 && !x->comments))
        return xml_fail(x, XE_WHY_XML_RESTRICTED);
    if (ch == '!') {
        c->p++;
        x->state = XML_AT_BANG;
        return XML_GO;
    }
    if (ch != '/' || x->stream == NULL)
        return xml_fail(x, x->stream == NULL ? XE_WHY_NOT_XMPP : XE_WHY_XML_MALFORMED);
    c->p++;
    x->mark = xml_place(c, c->p);
    x->state = XML_AT_END;
    return xml_end(x, c);
}

static enum xml_step
xml_text(struct xe_xml *x, struct xml_cursor *c)
{
    const char *p = c->p;
    for (;;) {
        enum xml_step step;
        p = xml_run_text(p, c->end);
        if (p == c->end)
            break;
        if (*p == '<') {
            c->p = p + 1;
            x->state = XML_AT_LT;
            return xml_open(x, c);
        }
        if (*p == '>') {
            /* text never stands within two bytes of the start, and markup does not end in ']' */
            if (p[-1] == ']' && p[-2] == ']')
                return xml_fail(x, XE_WHY_XML_MALFORMED);
            p++;
            continue;
        }
        step = xml_special(x, &p, c->end);
        if (step == XML_FAIL)
            return step;
        if (step == XML_WAIT)
            break;
    }
    c->p = p;
    return XML_WAIT;
}

/* After "<!": within an element "[CDATA[" may follow.  A comment is forbidden on a stream (RFC 6120
 * 11.1) and may stand anywhere in a file; a document type is always forbidden. */
static enum xml_step
xml_bang(struct xe_xml *x, struct xml_cursor *c)
{
    bool comment = x->comments && c->p < c->end && *c->p == '-';
    const char *word = comment ? "--" : "[CDATA[";
    size_t len = strlen(word);
    if (c->p == c->end)
        return XML_WAIT;
    if (*c->p != *word || (!comment && x->depth == 0))
        return xml_fail(x, XE_WHY_XML_RESTRICTED);
    if ((size_t)(c->end - c->p) < len)
        return XML_WAIT;
    if (memcmp(c->p, word, len) != 0)
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    x->mark = xml_place(c, c->p - 2);
    c->p += len;
    /* nobody writes an element with a comment for another stream */
    x->flags |= comment ? XE_XML_UNBOUND : XE_XML_REWRITE;
    x->state = comment ? XML_AT_COMMENT : XML_AT_CDATA;
    return XML_GO;
}

static enum xml_step
xml_cdata(struct xe_xml *x, struct xml_cursor *c)
{
    const char *p = c->p;
    for (;;) {
        p = xml_run_text(p, c->end);
        if (p == c->end)
            break;
        if (*p == '>' && p[-1] == ']' && p[-2] == ']') {
            c->p = p + 1;
            x->state = XML_AT_TEXT;
            return XML_GO;
        }
        if (*p == '<' || *p == '&' || *p == '>') {
            p++;
        } else {
            enum xml_step step = xml_special(x, &p, c->end);
            if (step == XML_FAIL)
                return step;
            if (step == XML_WAIT)
                break;
        }
    }
    c->p = p;
    return XML_WAIT;
}

/* In a comment, which ends at the first "--": '>' has to follow (XML 1.0 2.5). */
static enum xml_step
xml_comment(struct xe_xml *x, struct xml_cursor *c)
{
    enum xml_step step = XML_GO;
    while (c->p < c->end && step == XML_GO) {
        char ch = *c->p;
        if (ch == '-' && c->end - c->p < 3)
            return XML_WAIT;
        if (ch == '-' && c->p[1] == '-') {
            if (c->p[2] != '>')
                return xml_fail(x, XE_WHY_XML_MALFORMED);
            c->p += 3;
            x->state = x->depth > 0 ? XML_AT_TEXT : XML_AT_GAP;
            return XML_GO;
        }
        if (!xml_is(ch, XML_IS_TEXT_STOP) || ch == '<' || ch == '&' || ch == '>')
            c->p++;
        else
            step = xml_special(x, &c->p, c->end);
    }
    return step == XML_GO ? XML_WAIT : step;
}

/* ---- elements that are read past ---- */

/* Where in the element the next byte is. */
enum xml_past_state {
    XML_PAST_TEXT,
    XML_PAST_LT,       /* after '<' */
    XML_PAST_BANG,     /* after "<!" and `matched` bytes of "[CDATA[" */
    XML_PAST_CDATA,    /* after `matched` bytes of "]]>" */
    XML_PAST_END,      /* in an end tag */
    XML_PAST_TAG,      /* in a start tag, outside of values */
    XML_PAST_VALUE
};

/* An element that is read once more, from its '<', as it is over a limit, and dropped.  Nothing is
 * looked for but its end: where it is, all well-formed text agrees.  What an answer needs of its
 * own start tag is written to `text`, which is then read like any other element. */
struct xe_xml_past {
    enum xml_past_state state;
    enum xe_why why;       /* which limit */
    size_t      bytes;     /* read so far */
    size_t      depth;     /* open elements */
    unsigned    matched;
    char        quote;     /* of the value */
    bool        slash;     /* the last byte of the start tag was '/' */
    bool        told;      /* the element's own start tag is complete, and told */
    bool        named;     /* and its name is */
    bool        fresh;     /* the next byte begins the name of an attribute */
    bool        keep;      /* the value is kept */
    size_t      sure;      /* bytes of text that stay, whatever the attribute at hand is */
    size_t      len;       /* bytes of text; XML_PAST_FULL: there is no room for the attribute */
    char        text[XML_PAST_TEXT_MAX];
};

#define XML_PAST_FULL  (XML_PAST_TEXT_MAX - 2)   /* "/>" has room behind it */

static void
xml_past_free(struct xe_xml *x)
{
    free(x->past);
    x->past = NULL;
}

/* Begin to read past what begins at c->buf, if it is an element and that is allowed. */
static bool
xml_past_begin(struct xe_xml *x, struct xml_cursor *c)
{
    struct xe_xml_past *k;
    if ((x->why != XE_WHY_XML_LIMIT && x->why != XE_WHY_STANZA_TOO_BIG) || x->limits.past == 0
        || x->stream == NULL || x->past != NULL || c->buf[1] == '/')
        return false;
    k = x->past = malloc(sizeof *k);
    if (k == NULL)
        return xml_fail(x, XE_WHY_OUT_OF_MEMORY), false;
    k->state = XML_PAST_TAG;
    k->why = x->why;
    k->bytes = k->len = 1;
    k->depth = k->sure = 0;
    k->slash = k->told = k->named = k->fresh = k->keep = false;
    k->text[0] = '<';
    xml_use_small(x);
    x->why = XE_WHY_NONE;
    x->state = XML_AT_PAST;
    c->p = c->buf + 1;
    return true;
}

static void
xml_past_keep(struct xe_xml_past *k, const char *bytes, size_t n)
{
    if (n >= XML_PAST_FULL - k->len) {
        k->len = XML_PAST_FULL;
    } else {
        memcpy(k->text + k->len, bytes, n);
        k->len += n;
    }
}

/* The attribute at hand is over: it stays or is forgotten. */
static void
xml_past_settle(struct xe_xml_past *k, bool stays)
{
    if (stays && k->len < XML_PAST_FULL)
        k->sure = k->len;
    k->len = k->sure;
    k->fresh = true;
}

/* Does an answer to the element need the attribute whose name was read? */
static bool
xml_past_wants(const struct xe_xml_past *k)
{
    static const char *const wanted[] = { " from", " to", " id", " type", " xmlns" };
    struct xe_span name = span_make(k->text + k->sure, k->len - k->sure);
    struct xe_span tag = span_make(k->text + 1, k->sure - 1);
    size_t prefix = span_find(tag, ':');
    size_t i;
    for (i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (span_is(name, wanted[i]))
            return true;
    return name.len == sizeof " xmlns:" - 1 + prefix
        && memcmp(name.at, " xmlns:", sizeof " xmlns:" - 1) == 0
        && memcmp(name.at + sizeof " xmlns:" - 1, tag.at, prefix) == 0;
}

/* A byte of the element's own start tag, outside of values. */
static void
xml_past_own(struct xe_xml_past *k, char ch)
{
    if (xml_is(ch, XML_IS_SPACE) || ch == '/' || ch == '>') {
        if (!k->named)
            xml_past_settle(k, true);
        k->named = k->fresh = true;
    } else if (ch == '"' || ch == '\'') {
        k->keep = xml_past_wants(k);
        xml_past_keep(k, "=", 1);
        xml_past_keep(k, &ch, 1);
    } else if (ch != '=') {
        if (k->fresh) {
            xml_past_settle(k, false);
            xml_past_keep(k, " ", 1);
        }
        xml_past_keep(k, &ch, 1);
        k->fresh = false;
    }
}

static const char *
xml_past_tag(struct xe_xml_past *k, const char *p, const char *end)
{
    while (p < end) {
        char ch = *p++;
        if (!k->told)
            xml_past_own(k, ch);
        if (ch == '>') {
            k->depth += !k->slash;
            k->state = XML_PAST_TEXT;
            return p;
        }
        k->slash = ch == '/';
        if (ch == '"' || ch == '\'') {
            k->quote = ch;
            k->state = XML_PAST_VALUE;
            return p;
        }
    }
    return p;
}

static const char *
xml_past_value(struct xe_xml_past *k, const char *p, const char *end)
{
    size_t left = (size_t)(end - p);
    size_t n = span_find(span_make(p, left), k->quote);
    if (!k->told && k->keep)
        xml_past_keep(k, p, n < left ? n + 1 : n);
    if (n == left)
        return end;
    if (!k->told)
        xml_past_settle(k, k->keep);
    k->state = XML_PAST_TAG;
    return p + n + 1;
}

static const char *
xml_past_cdata(struct xe_xml_past *k, const char *p, const char *end)
{
    while (p < end) {
        char ch = *p++;
        if (ch == '>' && k->matched == 2) {
            k->state = XML_PAST_TEXT;
            return p;
        }
        k->matched = ch != ']' ? 0 : k->matched < 2 ? k->matched + 1 : 2;
    }
    return p;
}

/* Behind the next `ch`, where the state changes; or the end. */
static const char *
xml_past_until(struct xe_xml_past *k, const char *p, const char *end, char ch,
    enum xml_past_state next)
{
    size_t left = (size_t)(end - p);
    size_t n = span_find(span_make(p, left), ch);
    if (n == left)
        return end;
    if (k->state == XML_PAST_END)
        k->depth--;
    k->state = next;
    return p + n + 1;
}

/* Some bytes more; NULL when there is what may not be on a stream, like a comment. */
static const char *
xml_past_some(struct xe_xml_past *k, const char *p, const char *end)
{
    switch (k->state) {
    case XML_PAST_TEXT:
        return xml_past_until(k, p, end, '<', XML_PAST_LT);
    case XML_PAST_LT:
        k->state = *p == '/' ? XML_PAST_END : *p == '!' ? XML_PAST_BANG : XML_PAST_TAG;
        k->matched = 0;
        k->slash = false;
        return *p == '?' ? NULL : k->state == XML_PAST_TAG ? p : p + 1;
    case XML_PAST_BANG:
        if (*p != "[CDATA["[k->matched])
            return NULL;
        if (++k->matched == sizeof "[CDATA[" - 1) {
            k->matched = 0;
            k->state = XML_PAST_CDATA;
        }
        return p + 1;
    case XML_PAST_CDATA:
        return xml_past_cdata(k, p, end);
    case XML_PAST_END:
        return xml_past_until(k, p, end, '>', XML_PAST_TEXT);
    case XML_PAST_TAG:
        return xml_past_tag(k, p, end);
    case XML_PAST_VALUE:
        break;
    }
    return xml_past_value(k, p, end);
}

/* ---- between elements ---- */

static struct xe_span
xml_skip_space(struct xe_span s)
{
    while (s.len > 0 && xml_is(*s.at, XML_IS_SPACE))
        s = span_skip(s, 1);
    return s;
}

/* Take ` name = "value"` from the front of *s; false when that is not what stands there. */
static bool
xml_decl_part(struct xe_span *s, const char *name, struct xe_span *value)
{
    struct xe_span r = xml_skip_space(*s);
    size_t len = strlen(name);
    size_t end;
    if (r.len == s->len || r.len < len || memcmp(r.at, name, len) != 0)
        return false;
    r = xml_skip_space(span_skip(r, len));
    if (r.len == 0 || *r.at != '=')
        return false;
    r = xml_skip_space(span_skip(r, 1));
    if (r.len == 0 || (*r.at != '"' && *r.at != '\''))
        return false;
    end = span_find(span_skip(r, 1), *r.at);
    if (end == r.len - 1)
        return false;
    *value = span_make(r.at + 1, end);
    *s = span_skip(r, end + 2);
    return true;
}

static bool
xml_is_utf8_name(struct xe_span s)
{
    static const char name[] = "utf-8";
    size_t i;
    for (i = 0; i < s.len && i < sizeof name - 1; i++)
        if ((s.at[i] | 0x20) != (name[i] | 0x20))
            return false;
    return s.len == sizeof name - 1;
}

/* Judge the XML declaration; `s` is what stands between "<?xml" and "?>". */
static enum xe_why
xml_decl_verdict(struct xe_span s)
{
    struct xe_span value;
    if (!xml_decl_part(&s, "version", &value) || !span_is(value, "1.0"))
        return XE_WHY_XML_MALFORMED;
    if (xml_decl_part(&s, "encoding", &value) && !xml_is_utf8_name(value))
        return XE_WHY_XML_ENCODING;
    if (xml_decl_part(&s, "standalone", &value) && !span_is(value, "yes") && !span_is(value, "no"))
        return XE_WHY_XML_MALFORMED;
    return xml_skip_space(s).len == 0 ? XE_WHY_NONE : XE_WHY_XML_MALFORMED;
}

/* The very start: an XML declaration or something else. */
static enum xml_step
xml_start(struct xe_xml *x, struct xml_cursor *c)
{
    static const char word[] = "<?xml";
    size_t have = (size_t)(c->end - c->buf);
    c->p = c->buf;
    if (have == 0 || (have == 1 && *c->buf == '<'))
        return XML_WAIT;
    if (*c->buf != '<' || c->buf[1] != '?') {
        x->state = XML_AT_GAP;
        return XML_GO;
    }
    if (have < sizeof word)
        return XML_WAIT;
    if (memcmp(c->buf, word, sizeof word - 1) != 0 || !xml_is(c->buf[5], XML_IS_SPACE))
        return xml_fail(x, XE_WHY_XML_RESTRICTED);
    c->p = c->buf + 5;
    x->state = XML_AT_DECL;
    return XML_GO;
}

static enum xml_step
xml_decl(struct xe_xml *x, struct xml_cursor *c)
{
    struct xe_span rest = span_make(c->p, (size_t)(c->end - c->p));
    size_t gt = span_find(rest, '>');
    enum xe_why why;
    c->p += gt;
    if (gt == rest.len)
        return XML_WAIT;
    if (c->p[-1] != '?')
        return xml_fail(x, XE_WHY_XML_MALFORMED);
    why = xml_decl_verdict(span_make(c->buf + 5, (size_t)(c->p - 1 - (c->buf + 5))));
    if (why != XE_WHY_NONE)
        return xml_fail(x, why);
    c->p++;
    x->state = XML_AT_GAP;
    return XML_GO;
}

/* c->p is behind the '<' of an element of the stream, or of the header. */
static void
xml_begin(struct xe_xml *x)
{
    x->flags = x->elements = x->colon = 0;
    x->nns = x->depth = 0;
    x->state = XML_AT_LT;
}

/* What is read is dropped; then white space and the next '<', which becomes the start of c->buf. */
static enum xml_step
xml_gap(struct xe_xml *x, struct xml_cursor *c)
{
    const char *p = c->p;
    while (p < c->end && xml_is(*p, XML_IS_SPACE))
        p++;
    x->whitespace += (uint64_t)(p - c->p);
    if (x->stream == NULL)
        x->before = p - c->buf > (ptrdiff_t)XML_SIZE_MAX
            ? (uint32_t)XML_SIZE_MAX : x->before + xml_place(c, p);
    c->buf = c->p = p;
    if (x->stream == NULL && x->before >= x->limits.header)
        return xml_fail(x, XE_WHY_HEADER_TOO_BIG);
    if (p == c->end)
        return XML_WAIT;
    if (*p != '<')
        return xml_fail(x, x->stream == NULL ? XE_WHY_NOT_XMPP : XE_WHY_XML_MALFORMED);
    c->p++;
    if (x->large != NULL)
        xml_use_small(x);
    if (x->past != NULL)
        xml_past_free(x);
    xml_begin(x);
    return XML_GO;
}

static enum xml_step
xml_run(struct xe_xml *x, struct xml_cursor *c)
{
    enum xml_step step = XML_GO;
    while (step == XML_GO)
        switch ((enum xml_state)x->state) {
        case XML_AT_START:     step = xml_start(x, c); break;
        case XML_AT_DECL:      step = xml_decl(x, c); break;
        case XML_AT_GAP:
        case XML_AT_PAST:      return XML_GO;
        case XML_AT_LT:        step = xml_open(x, c); break;
        case XML_AT_NAME:      step = xml_tag_name(x, c); break;
        case XML_AT_TAG:       step = xml_tag(x, c); break;
        case XML_AT_ATTR:      step = xml_attr(x, c); break;
        case XML_AT_EQ:
        case XML_AT_QUOTE:     step = xml_equals(x, c); break;
        case XML_AT_VALUE:     step = xml_value(x, c); break;
        case XML_AT_SLASH:     step = xml_slash(x, c); break;
        case XML_AT_TEXT:      step = xml_text(x, c); break;
        case XML_AT_BANG:      step = xml_bang(x, c); break;
        case XML_AT_CDATA:     step = xml_cdata(x, c); break;
        case XML_AT_COMMENT:   step = xml_comment(x, c); break;
        case XML_AT_END:       step = xml_end(x, c); break;
        case XML_AT_END_SPACE: step = xml_end_space(x, c); break;
        case XML_AT_CLOSED:    return XML_WAIT;
        case XML_AT_BAD:       return XML_FAIL;
        }
    return step;
}

/* The start tag of an element that is read past is complete: tell what was kept of it. */
static enum xml_step
xml_past_tell(struct xe_xml *x, struct xml_cursor *c)
{
    struct xe_xml_past *k = x->past;
    struct xml_cursor own = { k->text, k->text + 1, k->text + k->sure + 2, c->event, XE_XML_MORE,
        false };
    enum xml_step step;
    if (k->sure == 0)
        return xml_fail(x, XE_WHY_XML_LIMIT);   /* no name of a stanza is so long */
    memcpy(k->text + k->sure, "/>", 2);
    k->told = true;
    xml_begin(x);
    step = xml_run(x, &own);
    if (step != XML_DONE)
        return step == XML_FAIL ? step : xml_fail(x, XE_WHY_XML_MALFORMED);
    c->event->why = k->why;
    c->result = own.result;
    x->state = k->depth == 0 ? XML_AT_GAP : XML_AT_PAST;
    return step;
}

/* Read on in an element that is read past. */
static enum xml_step
xml_past(struct xe_xml *x, struct xml_cursor *c)
{
    struct xe_xml_past *k = x->past;
    size_t left = x->limits.past > k->bytes ? x->limits.past - k->bytes : 0;
    bool enough = (size_t)(c->end - c->p) <= left;
    const char *end = enough ? c->end : c->p + left;
    const char *p = c->p;
    bool stop = false;
    while (p < end && !stop) {
        p = xml_past_some(k, p, end);
        if (p == NULL)
            return xml_fail(x, XE_WHY_XML_RESTRICTED);
        stop = k->state == XML_PAST_TEXT && (k->depth == 0 || !k->told);
    }
    k->bytes += (size_t)(p - c->p);
    c->buf = c->p = p;
    if (stop && !k->told)
        return xml_past_tell(x, c);
    if (stop)
        x->state = XML_AT_GAP;
    return stop ? XML_GO : enough ? XML_WAIT : xml_fail(x, XE_WHY_STANZA_ENDLESS);
}

/* ---- the public tokenizer ---- */

/* Other limits from the next element on. */
static void
xml_limit(struct xe_xml *x, const struct xe_xml_limits *limits)
{
    struct xe_xml_limits *l = &x->limits;
    *l = *limits;
    if (l->header == 0 || l->header > XML_SIZE_MAX)
        l->header = XML_SIZE_MAX;
    if (l->element == 0 || l->element > XML_SIZE_MAX)
        l->element = XML_SIZE_MAX;
    if (l->depth == 0 || l->depth > XE_XML_DEPTH_MAX)
        l->depth = XE_XML_DEPTH_MAX;
    if (l->attrs == 0 || l->attrs > XE_XML_ATTRS_MAX)
        l->attrs = XE_XML_ATTRS_MAX;
    if (l->elements == 0)
        l->elements = UINT32_MAX;
    xml_use_small(x);
}

void
xe_xml_init(struct xe_xml *x, const struct xe_xml_limits *limits)
{
    x->stream = NULL;
    x->large = NULL;
    x->past = NULL;
    x->comments = false;
    xml_limit(x, limits);
    xe_xml_restart(x);
}

void
xe_xml_free(struct xe_xml *x)
{
    free(x->stream);
    x->stream = NULL;
    xml_past_free(x);
    xml_use_small(x);
    x->state = XML_AT_CLOSED;
}

/* The tables need no clearing: their counts say how much of them is set. */
void
xe_xml_restart(struct xe_xml *x)
{
    xe_xml_free(x);
    x->why = XE_WHY_NONE;
    x->whitespace = 0;
    x->state = XML_AT_START;
    x->stream_name = x->before = x->at = x->mark = x->colon = x->inner = x->flags = x->seen = 0;
    x->elements = 0;
    x->lang_len = 0;
    x->has_lang = x->spaced = false;
    x->quote = x->tag = x->nstream = 0;
    x->depth = x->nns = x->nattrs = x->root_nns = 0;
    x->stream_kind = XML_NS_NONE;
}

/* Bytes that what begins at c->buf may have. */
static size_t
xml_budget(const struct xe_xml *x)
{
    return x->stream == NULL ? x->limits.header - x->before : x->limits.element;
}

/* Read on to the next event, or to the end of what there is. */
static enum xml_step
xml_steps(struct xe_xml *x, struct xml_cursor *c, const char *last)
{
    enum xml_step step = XML_GO;
    while (step == XML_GO) {
        size_t max;
        c->end = last;
        if (x->state == XML_AT_GAP && (step = xml_gap(x, c)) != XML_GO)
            break;
        /* The end is cut off at the limit, so that what is found first does not depend on how much
         * has come at once. */
        max = xml_budget(x);
        if ((size_t)(last - c->buf) > max && x->state != XML_AT_PAST)
            c->end = c->buf + max;
        step = x->state == XML_AT_PAST ? xml_past(x, c) : xml_run(x, c);
    }
    if (step == XML_WAIT && c->end < last)
        step = xml_fail(x, x->stream == NULL ? XE_WHY_HEADER_TOO_BIG : XE_WHY_STANZA_TOO_BIG);
    return step;
}

enum xe_xml_result
xe_xml_next(struct xe_xml *x, const char *buf, size_t len, size_t *used,
    struct xe_xml_event *event)
{
    struct xml_cursor c = { buf, buf, buf + len, event, XE_XML_MORE, false };
    enum xml_step step;
    *used = x->state == XML_AT_CLOSED ? len : 0;
    if (x->state == XML_AT_CLOSED || x->state == XML_AT_BAD || len <= x->at)
        return x->state == XML_AT_BAD ? XE_XML_BAD : XE_XML_MORE;
    c.p += x->at;
    step = xml_steps(x, &c, buf + len);
    if (step == XML_FAIL && xml_past_begin(x, &c))
        step = xml_steps(x, &c, buf + len);
    if (step == XML_FAIL) {
        *used = (size_t)(c.buf - buf);   /* what is at fault begins here */
        return XE_XML_BAD;
    }
    x->at = step == XML_WAIT ? xml_place(&c, c.p) : 0;
    *used = (size_t)((step == XML_WAIT ? c.buf : c.p) - buf);
    return c.result;
}

struct xe_span
xe_xml_stream_lang(const struct xe_xml *x)
{
    size_t frame = sizeof " xml:lang='" - 1;
    if (x->stream == NULL || !x->has_lang)
        return span_make(NULL, 0);
    return span_make(x->stream + x->stream_name + frame, x->lang_len - frame - 1);
}

struct xe_span
xe_xml_stream_ns(const struct xe_xml *x, const char *prefix)
{
    const struct xe_xml_binding *b = xml_find(x->stream_ns, x->nstream, x->stream, span_of(prefix));
    return b == NULL ? span_make(NULL, 0) : span_make(x->stream + b->value, b->value_len);
}

/* ---- text, in and out ---- */

size_t
xe_xml_unescape(struct xe_span value, char *out, size_t max)
{
    const char *p = value.at;
    const char *end = span_end(value);
    size_t n = 0;
    while (p < end) {
        char bytes[4];
        size_t len = 1;
        uint32_t c = 0;
        enum xe_why why;
        int ref = *p == '&' ? xml_ref(p, end, &c, &why) : 0;
        if (ref > 0) {
            len = text_put_utf8(c, bytes);
            p += ref;
        } else {
            /* XML 1.0 2.11 and 3.3.3: the end of a line is one character, white space a space */
            if (*p == '\r' && end - p > 1 && p[1] == '\n')
                p++;
            bytes[0] = xml_is(*p, XML_IS_SPACE) ? ' ' : *p;
            p++;
        }
        if (len > max - n)
            return SIZE_MAX;
        memcpy(out + n, bytes, len);
        n += len;
    }
    return n;
}

bool
xe_xml_domain(struct xe_span value, char out[XE_DOMAIN_MAX], size_t *len)
{
    char text[4 * JID_PART_MAX];
    struct xe_jid jid;
    *len = 0;
    out[0] = '\0';
    if (span_find(value, '&') < value.len) {
        size_t n = xe_xml_unescape(value, text, sizeof text);
        value = n == SIZE_MAX ? span_make(NULL, 0) : span_make(text, n);
    }
    return value.at != NULL && xe_jid_split(value, &jid)
        && jid_address_normal(jid.domain, out, len);
}

/* How `c` is written, NULL for as it is.  White space is kept from being normalised where a parser
 * would do so. */
static const char *
xmlout_escape(char c, bool attr)
{
    switch (c) {
    case '&':  return "&amp;";
    case '<':  return "&lt;";
    case '>':  return "&gt;";
    case '"':  return "&quot;";
    case '\'': return "&apos;";
    case '\r': return "&#13;";
    case '\n': return attr ? "&#10;" : NULL;
    case '\t': return attr ? "&#9;" : NULL;
    }
    return NULL;
}

static bool
xmlout_escaped(struct buf *out, struct xe_span s, bool attr)
{
    const char *p = s.at;
    const char *end = span_end(s);
    const char *from = p;
    while (p < end) {
        uint32_t c = 0;
        int len = xe_utf8(p, end, &c);
        const char *as = len == 1 ? xmlout_escape(*p, attr) : NULL;
        if (len <= 0 || !xml_is_char(c)) {
            as = "\xef\xbf\xbd";
            len = 1;
        }
        if (as != NULL) {
            buf_put(out, span_make(from, (size_t)(p - from)));
            buf_puts(out, as);
            from = p + len;
        }
        p += len;
    }
    buf_put(out, span_make(from, (size_t)(p - from)));
    return !out->failed;
}

/* Append text of ours: & < > ' " escaped, U+FFFD in place of what is no legal XML. */
static bool
xmlout_text(struct buf *out, struct xe_span s)
{
    return xmlout_escaped(out, s, false);
}

/* Append ` name='value'`, escaped. */
static bool
xmlout_attr(struct buf *out, const char *name, struct xe_span value)
{
    buf_putc(out, ' ');
    buf_puts(out, name);
    buf_puts(out, "='");
    xmlout_escaped(out, value, true);
    return buf_putc(out, '\'');
}

/* ---- a stanza for another stream ---- */

static char *
xmlout_copy(char *p, struct xe_span s)
{
    memcpy(p, s.at, s.len);
    return p + s.len;
}

/* Write an attribute as it came, without white space around its '='. */
static char *
xmlout_same(char *p, const struct xe_xml_attr *a)
{
    const char *from = a->prefix.len > 0 ? a->prefix.at : a->name.at;
    const char *name_end = a->name.at + a->name.len;
    *p++ = ' ';
    if (a->value.at == name_end + 2)
        return xmlout_copy(p, span_make(from, (size_t)(a->value.at + a->value.len + 1 - from)));
    p = xmlout_copy(p, span_make(from, (size_t)(name_end - from)));
    *p++ = '=';
    return xmlout_copy(p, span_make(a->value.at - 1, a->value.len + 2));
}

/* Attributes of stanzas in the order in which we write them. */
enum { XMLOUT_FROM, XMLOUT_TO, XMLOUT_ID, XMLOUT_TYPE, XMLOUT_LANG, XMLOUT_OTHER };

static unsigned
xmlout_rank(const struct xe_xml_attr *a)
{
    if (a->prefix.len > 0)
        return XML_SAME(a->prefix, "xml") && XML_SAME(a->name, "lang") ? XMLOUT_LANG : XMLOUT_OTHER;
    if (XML_SAME(a->name, "from"))
        return XMLOUT_FROM;
    if (XML_SAME(a->name, "type"))
        return XMLOUT_TYPE;
    if (XML_SAME(a->name, "to"))
        return XMLOUT_TO;
    return XML_SAME(a->name, "id") ? XMLOUT_ID : XMLOUT_OTHER;
}

/* The attributes that are not in `slots`. */
static char *
xmlout_others(char *p, const struct xe_xml_event *e)
{
    unsigned i;
    for (i = 0; i < e->nattrs; i++)
        if (xmlout_rank(&e->attrs[i]) == XMLOUT_OTHER)
            p = xmlout_same(p, &e->attrs[i]);
    return p;
}

/* Declarations: the prefixes of the root tag itself, and those of the header that are used. */
static char *
xmlout_declarations(char *p, const struct xe_xml *x, const struct xe_xml_event *e)
{
    unsigned used = e->flags >> XE_XML_USED_SHIFT;
    unsigned i;
    for (i = 0; i < x->root_nns; i++) {
        const struct xe_xml_binding *b = &x->ns[i];
        if (b->prefix_len == 0)
            continue;
        p = xmlout_copy(p, span_of(" xmlns:"));
        p = xmlout_copy(p, span_make(e->raw.at + b->prefix, b->prefix_len));
        *p++ = '=';
        p = xmlout_copy(p, span_make(e->raw.at + b->value - 1, (size_t)b->value_len + 2));
    }
    for (i = 0; used >> i != 0; i++)
        if ((used >> i & 1) != 0) {
            const struct xe_xml_binding *b = &x->stream_ns[i];
            const char *from = x->stream + b->prefix - (sizeof " xmlns:" - 1);
            const char *to = x->stream + b->value + b->value_len + 1;
            p = xmlout_copy(p, span_make(from, (size_t)(to - from)));
        }
    return p;
}

/* Bytes that the header can add to a root tag. */
static size_t
xmlout_extra(const struct xe_xml *x, const struct xe_xml_event *e)
{
    unsigned used = e->flags >> XE_XML_USED_SHIFT;
    size_t size = x->lang_len;
    unsigned i;
    for (i = 0; used >> i != 0; i++)
        size += sizeof " xmlns:=''" + x->stream_ns[i].prefix_len + x->stream_ns[i].value_len;
    return size;
}

/* Write the root tag up to, and not including, its '>'. */
static char *
xmlout_root(char *p, const struct xe_xml *x, const struct xe_xml_event *e)
{
    const struct xe_xml_attr *slots[XMLOUT_OTHER + 1] = { NULL };
    unsigned i;
    *p++ = '<';
    p = xmlout_copy(p, e->name);
    for (i = 0; i < e->nattrs; i++)
        slots[xmlout_rank(&e->attrs[i])] = &e->attrs[i];
    for (i = 0; i < XMLOUT_OTHER; i++)
        if (slots[i] != NULL)
            p = xmlout_same(p, slots[i]);
    if (slots[XMLOUT_LANG] == NULL && x->has_lang)
        p = xmlout_copy(p, span_make(x->stream + x->stream_name, x->lang_len));
    if (slots[XMLOUT_OTHER] != NULL)
        p = xmlout_others(p, e);
    if (x->root_nns > 0 || (e->flags & XE_XML_STREAM_PREFIX) != 0)
        p = xmlout_declarations(p, x, e);
    return p;
}

/* An open element while content is rewritten. */
struct xmlout_frame {
    struct xe_span name;    /* as written */
    struct xe_span in;      /* default namespace of its content in the source */
    struct xe_span out;     /* and in what is written */
    size_t         nns;     /* declarations in scope outside of it */
    bool           chain;   /* it and all around it are content */
};

/* The rewriter: a walk over content that the tokenizer has passed. */
struct xmlout {
    struct buf                *out;    /* borrowed */
    const struct xe_xml       *x;      /* borrowed */
    const struct xe_xml_event *e;      /* borrowed: the stanza */
    struct xe_xml_event        tag;    /* the tag at hand */
    struct xe_span             names[XE_XML_NS_MAX];  /* prefixes declared inside the content */
    struct xe_span             uris[XE_XML_NS_MAX];
    size_t                     nns;
    struct xmlout_frame        frames[XE_XML_DEPTH_MAX + 1]; /* the first is the stanza */
    size_t                     depth;
};

/* Bring the declarations of a tag into scope; returns the default namespace of its content. */
static struct xe_span
xmlout_bind(struct xmlout *w, struct xe_span in)
{
    unsigned i;
    for (i = 0; i < w->tag.nattrs; i++) {
        const struct xe_xml_attr *a = &w->tag.attrs[i];
        if (!xml_attr_declares(a))
            continue;
        if (a->prefix.len == 0) {
            in = a->value;
        } else if (w->nns < XE_XML_NS_MAX) {
            w->names[w->nns] = a->name;
            w->uris[w->nns++] = a->value;
        }
    }
    return in;
}

static struct xe_span
xmlout_lookup(const struct xmlout *w, struct xe_span prefix)
{
    size_t i = w->nns;
    while (i-- > 0)
        if (span_eq(w->names[i], prefix))
            return w->uris[i];
    return xml_resolve(w->x, w->x->root_nns, w->e->raw.at, prefix).uri;
}

/* Write a start tag anew.  No default declaration is copied: one is written where the namespace
 * that an element without prefix needs is not the one it would inherit. */
static const char *
xmlout_tag(struct xmlout *w, const char *p)
{
    const struct xmlout_frame *up = &w->frames[w->depth];
    struct xmlout_frame f = { { NULL, 0 }, up->in, up->out, w->nns, false };
    struct xe_span prefix;
    unsigned i;
    p = xml_split(p, &w->tag, &prefix);
    f.in = xmlout_bind(w, up->in);
    f.chain = up->chain
        && xml_ns_kind(prefix.len > 0 ? xmlout_lookup(w, prefix) : f.in) <= XML_NS_CLIENT;
    f.name = f.chain || prefix.len == 0
        ? w->tag.name : span_make(prefix.at, prefix.len + 1 + w->tag.name.len);
    f.out = f.chain ? span_of("jabber:server") : prefix.len > 0 ? up->out : f.in;
    buf_putc(w->out, '<');
    buf_put(w->out, f.name);
    if (!span_eq(f.out, up->out)) {
        const char *quote = span_find(f.out, '\'') < f.out.len ? "\"" : "'";
        buf_puts(w->out, " xmlns=");
        buf_puts(w->out, quote);
        buf_put(w->out, f.out);
        buf_puts(w->out, quote);
    }
    for (i = 0; i < w->tag.nattrs; i++) {
        const struct xe_xml_attr *a = &w->tag.attrs[i];
        char *room;
        if (a->prefix.len == 0 && xml_attr_declares(a))
            continue;
        room = buf_room(w->out, a->prefix.len + a->name.len + a->value.len + 5);
        if (room == NULL)
            return p;
        w->out->tail += (size_t)(xmlout_same(room, a) - room);
    }
    if (p[-2] == '/') {
        buf_puts(w->out, "/>");
        w->nns = f.nns;
    } else {
        buf_putc(w->out, '>');
        w->frames[++w->depth] = f;
    }
    return p;
}

/* Write an end tag anew. */
static const char *
xmlout_end(struct xmlout *w, const char *p)
{
    buf_puts(w->out, "</");
    buf_put(w->out, w->frames[w->depth].name);
    buf_putc(w->out, '>');
    w->nns = w->frames[w->depth--].nns;
    while (*p != '>')
        p++;
    return p + 1;
}

/* Write the text of a CDATA section.  Only what must be is escaped: the rest is text already.  A
 * ']' must, because the text behind the section may begin with "]>". */
static const char *
xmlout_cdata(struct xmlout *w, const char *p)
{
    const char *from = p += sizeof "<![CDATA[" - 1;
    for (; p[0] != ']' || p[1] != ']' || p[2] != '>'; p++)
        if (*p == '<' || *p == '&' || *p == '>' || *p == ']') {
            buf_put(w->out, span_make(from, (size_t)(p - from)));
            buf_puts(w->out, *p == ']' ? "&#93;" : xmlout_escape(*p, false));
            from = p + 1;
        }
    buf_put(w->out, span_make(from, (size_t)(p - from)));
    return p + 3;
}

/* Write the content of a stanza anew. */
static void
xmlout_content(struct buf *out, const struct xe_xml *x, const struct xe_xml_event *e)
{
    const char *p = e->inner.at;
    const char *end = span_end(e->inner);
    struct xmlout w;
    w.out = out;
    w.x = x;
    w.e = e;
    w.nns = w.depth = 0;
    w.frames[0].name = e->name;
    w.frames[0].nns = 0;
    w.frames[0].in = xml_resolve(x, x->root_nns, e->raw.at, span_make("", 0)).uri;
    w.frames[0].out = span_of("jabber:server");
    w.frames[0].chain = true;
    while (p < end && !out->failed) {
        size_t text = span_find(span_make(p, (size_t)(end - p)), '<');
        buf_put(out, span_make(p, text));
        p += text;
        if (p == end)
            break;
        if (p[1] == '/')
            p = xmlout_end(&w, p);
        else
            p = p[1] == '!' ? xmlout_cdata(&w, p) : xmlout_tag(&w, p);
    }
}

/* Append a stanza as it has to read on another jabber:server stream: see the head of this section.
 * It must be the last event of x, in jabber:server or jabber:client, and not XE_XML_UNBOUND. False,
 * and `out` as it was, when it does not fit. */
static bool
xmlout_stanza(struct buf *out, const struct xe_xml *x, const struct xe_xml_event *e)
{
    bool rewrite = (e->flags & XE_XML_REWRITE) != 0;
    size_t before = buf_len(out);
    bool failed = out->failed;
    char *from;
    char *p;
    if (failed || (e->flags & XE_XML_UNBOUND) != 0 || xml_ns_kind(e->ns) > XML_NS_CLIENT)
        return false;
    /* each part is written at most as long as it was, but for what the header adds */
    from = buf_room(out, e->raw.len + xmlout_extra(x, e));
    if (from == NULL) {
        out->failed = failed;
        return false;
    }
    p = xmlout_root(from, x, e);
    if (e->inner.len == 0) {
        p = xmlout_copy(p, span_make("/>", 2));
    } else {
        *p++ = '>';
        if (rewrite) {
            out->tail += (size_t)(p - from);
            xmlout_content(out, x, e);
            from = p = buf_room(out, e->name.len + 3);
        } else {
            p = xmlout_copy(p, e->inner);
        }
        if (p != NULL) {
            p = xmlout_copy(p, span_make("</", 2));
            p = xmlout_copy(p, e->name);
            *p++ = '>';
        }
    }
    if (out->failed || p == NULL) {
        out->tail = out->head + before;
        out->failed = failed;
        return false;
    }
    out->tail += (size_t)(p - from);
    return true;
}

/* ===========================================================================
 * [ELEM]  elem_          elements as trees
 * calls:  BASE BUF XML
 *
 * Features, SASL answers, errors and trunk offers are a few hundred bytes with a structure, so they
 * are read as trees, and so is the configuration; stanzas never are.  Mini-XML makes the trees and
 * is named nowhere else.  It is a tolerant parser without namespaces, so it only ever sees what the
 * tokenizer has passed, and namespaces are resolved here, prefixes of the stream header included.
 *
 *   elem_parse() -> struct elem -- elem_first() --> struct elem -- elem_next() --> struct elem
 *
 * An element that is not there has at == NULL.  Functions that look at a tree take it and answer in
 * kind, so that a path into a tree needs one check at its end.
 *
 * Costs: the element is read a second time and allocated node by node; a namespace is looked for
 * from the element up to the root.
 * Not done: a tree of our own.  What needs one is small and rare, or read once.
 * ======================================================================== */

#include <mxml.h>

/* One element: a place in a tree.  Copied freely; the tree goes with elem_free(). */
struct elem {
    mxml_node_t         *at;  /* NULL: not there */
    const struct xe_xml *x;   /* borrowed: knows the prefixes of the header; NULL: there is none */
};

#if MXML_MAJOR_VERSION >= 4
#define ELEM_DESCEND MXML_DESCEND_ALL

/* Mini-XML 4 asks for the entities that it does not know; 4.0.0 to 4.0.4 do not know &apos;. */
static int
elem_entity(void *user, const char *name)
{
    (void)user;
    return strcmp(name, "apos") == 0 ? '\'' : -1;
}

static void
elem_quiet(void *user, const char *message)
{
    (void)user;
    (void)message;
}

static mxml_node_t *
elem_load(const char *text)
{
    mxml_options_t *options = mxmlOptionsNew();
    mxml_node_t *top;
    if (options == NULL)
        return NULL;
    mxmlOptionsSetTypeValue(options, MXML_TYPE_OPAQUE);
    mxmlOptionsSetEntityCallback(options, elem_entity, NULL);
    mxmlOptionsSetErrorCallback(options, elem_quiet, NULL);
    top = mxmlLoadString(NULL, options, text);
    mxmlOptionsDelete(options);
    return top;
}

static bool
elem_is_element(mxml_node_t *node)
{
    return mxmlGetType(node) == MXML_TYPE_ELEMENT;
}
#else
#define ELEM_DESCEND MXML_DESCEND

static void
elem_quiet(const char *message)
{
    (void)message;
}

static mxml_node_t *
elem_load(const char *text)
{
    mxml_node_t *top;
    mxmlSetErrorCallback(elem_quiet);
    top = mxmlLoadString(NULL, text, MXML_OPAQUE_CALLBACK);
    mxmlSetErrorCallback(NULL);
    return top;
}

/* Mini-XML 3 shows a CDATA section as an element named "![CDATA[...". */
static bool
elem_is_element(mxml_node_t *node)
{
    return mxmlGetType(node) == MXML_ELEMENT && mxmlGetElement(node)[0] != '!';
}
#endif

/* The first element among `node` and what follows it on the same level. */
static struct elem
elem_from(const struct xe_xml *x, mxml_node_t *node)
{
    while (node != NULL && !elem_is_element(node))
        node = mxmlGetNextSibling(node);
    return (struct elem){ node, x };
}

static struct elem
elem_first(struct elem e)
{
    return elem_from(e.x, e.at == NULL ? NULL : mxmlGetFirstChild(e.at));
}

static struct elem
elem_next(struct elem e)
{
    return elem_from(e.x, e.at == NULL ? NULL : mxmlGetNextSibling(e.at));
}

/* The element after e in the order of the document. */
static struct elem
elem_walk(struct elem e)
{
    do
        e.at = mxmlWalkNext(e.at, NULL, ELEM_DESCEND);
    while (e.at != NULL && !elem_is_element(e.at));
    return e;
}

/* Make a tree of an element that a tokenizer has passed, in an element of its own, because Mini-XML
 * 4 refuses <name/> as a document.  Not there when memory is short. */
static struct elem
elem_tree(const struct xe_xml *x, struct xe_span raw)
{
    struct buf text = { .max = raw.len + sizeof "<top></top>" };
    struct elem top = { NULL, x };
    struct elem e;
    if (buf_puts(&text, "<top>") && buf_put(&text, raw) && buf_puts(&text, "</top>"))
        top.at = elem_load(buf_text(&text));
    buf_free(&text);
    e = elem_first(top);
    if (e.at == NULL && top.at != NULL)
        mxmlDelete(top.at);
    return e;
}

/* Make a tree of the last event of x; not there when it is too large.  The tree borrows namespace
 * names from x: free it before x is restarted. */
static struct elem
elem_parse(const struct xe_xml *x, const struct xe_xml_event *event)
{
    return event->raw.len < ELEM_BYTES_MAX ? elem_tree(x, event->raw) : (struct elem){ NULL, x };
}

/* Free the tree of elem_tree() or elem_parse(). */
static void
elem_free(struct elem e)
{
    if (e.at != NULL)
        mxmlDelete(mxmlGetParent(e.at));
}

/* The name as written, prefix included. */
static const char *
elem_tag(struct elem e)
{
    return mxmlGetElement(e.at);
}

static struct xe_span
elem_name(struct elem e)
{
    struct xe_span name = e.at == NULL ? span_make(NULL, 0) : span_of(elem_tag(e));
    if (e.at != NULL)
        xml_qname_prefix(&name);
    return name;
}

/* The value of an attribute, references resolved; NULL when there is none. */
static const char *
elem_attr(struct elem e, const char *name)
{
    return e.at == NULL ? NULL : mxmlElementGetAttr(e.at, name);
}

/* The name of the i-th attribute; NULL when there are less. */
static const char *
elem_attr_name(struct elem e, uint8_t i)
{
    const char *name = NULL;
    return mxmlElementGetAttrByIndex(e.at, i, &name) == NULL ? NULL : name;
}

/* The namespace of the element; at == NULL when its prefix is not bound. */
static struct xe_span
elem_ns(struct elem e)
{
    struct xe_span name = span_of(elem_tag(e));
    struct xe_span prefix = xml_qname_prefix(&name);
    struct xe_span ns;
    char key[sizeof "xmlns:" + XML_PREFIX_MAX] = "xmlns";
    mxml_node_t *node;
    if (span_is(prefix, "xml"))
        return span_of(XML_NAME_URI);
    if (prefix.len > 0)
        snprintf(key, sizeof key, "xmlns:%.*s", (int)prefix.len, prefix.at);
    for (node = e.at; node != NULL; node = mxmlGetParent(node)) {
        const char *value = mxmlElementGetAttr(node, key);
        if (value != NULL)
            return span_of(value);
    }
    ns = xe_xml_stream_ns(e.x, prefix.len > 0 ? key + 6 : "");
    return ns.at == NULL && prefix.len == 0 ? span_make("", 0) : ns;
}

/* Is this <name xmlns='ns'>?  NULL stands for any name or namespace. */
static bool
elem_is(struct elem e, const char *name, const char *ns)
{
    return e.at != NULL && (name == NULL || span_is(elem_name(e), name))
        && (ns == NULL || span_is(elem_ns(e), ns));
}

/* The first child <name xmlns='ns'>. */
static struct elem
elem_child(struct elem e, const char *name, const char *ns)
{
    struct elem c = elem_first(e);
    while (c.at != NULL && !elem_is(c, name, ns))
        c = elem_next(c);
    return c;
}

/* Append all text directly in the element, references resolved. */
static void
elem_put_text(struct buf *out, struct elem e)
{
    mxml_node_t *node = e.at == NULL ? NULL : mxmlGetFirstChild(e.at);
    for (; node != NULL; node = mxmlGetNextSibling(node)) {
        const char *text = elem_is_element(node) ? NULL : mxmlGetCDATA(node);
        if (text == NULL && !elem_is_element(node))
            text = mxmlGetOpaque(node);
        if (text != NULL)
            buf_puts(out, text);
    }
}

/* Remember where in a text that stays the element was read from; NULL until then. */
static void
elem_set_place(struct elem e, char *place)
{
    mxmlSetUserData(e.at, place);
}

static const char *
elem_place(struct elem e)
{
    return mxmlGetUserData(e.at);
}

/* Name and version of the tree library; static. */
static const char *
elem_library_name(void)
{
#if MXML_MAJOR_VERSION >= 4
    return "Mini-XML 4";
#else
    return "Mini-XML 3";
#endif
}

/* ===========================================================================
 * [PHASE] phase_ xe_element_ xe_phase_ xe_side_   what may be said when
 * calls:  BASE XML
 *
 * An element is first put into one of the kinds of XE_KINDS; a stream is in one of the phases of
 * XE_PHASES; one table says where the two lead.  Both ends of a stream move the same machine, so a
 * capture of one stream and a running negotiation are judged by the same rows.
 *
 *   start -I header-> header -R header-> features -R features-> open <------ sasl-failure
 *                       ^                                        | starttls        |
 *     tls <- proceed - tls-asked <-------------------------------+ auth -> sasl-asked
 *      | I header -> header                                      | db:result       | success
 *                                                                v                 v
 *                  authenticated <--- db:result valid ------- dialback        sasl-done
 *                        ^                                                         | I header
 *                        +- R features - auth-features <- R header - auth-header <-+
 *
 *   any: stream error or end tag -> closing -> ended
 *
 * Without version='1.0' there are no features: dialback follows the headers at once.  A stream that
 * is authenticated may go on with dialback for more pairs (XEP-0220 2.6); a verify request is
 * answered in every phase after the headers, since servers send it on streams that are not
 * authenticated.
 *
 * Costs: a stanza is known by two or three comparisons, anything else by a walk over phase_names[].
 * ======================================================================== */

/* The namespaces of what is negotiated. */
#define PHASE_NS_STREAMS  "http://etherx.jabber.org/streams"
#define PHASE_NS_TLS      "urn:ietf:params:xml:ns:xmpp-tls"
#define PHASE_NS_SASL     "urn:ietf:params:xml:ns:xmpp-sasl"
#define PHASE_NS_DIALBACK "jabber:server:dialback"
#define PHASE_NS_SM       "urn:xmpp:sm:3"
#define PHASE_NS_TRUNK    "urn:xmppedge:trunk:0"
#define PHASE_NS_BIDI     "urn:xmpp:bidi"
#define PHASE_NS_BIDI_OFFER "urn:xmpp:features:bidi"   /* and ejabberd's other way to ask for it */

/* Elements that are known by name and namespace; stanzas are not here, they come first. */
struct phase_name {
    const char           *ns;
    const char           *name;
    enum xe_element_kind  kind;
    enum xe_element_kind  answer;  /* with a type attribute */
};

static const struct phase_name phase_names[] = {
    { PHASE_NS_STREAMS,  "features",  XE_KIND_FEATURES,     XE_KIND_FEATURES },
    { PHASE_NS_STREAMS,  "error",     XE_KIND_STREAM_ERROR, XE_KIND_STREAM_ERROR },
    { PHASE_NS_TLS,      "starttls",  XE_KIND_STARTTLS,     XE_KIND_STARTTLS },
    { PHASE_NS_TLS,      "proceed",   XE_KIND_PROCEED,      XE_KIND_PROCEED },
    { PHASE_NS_TLS,      "failure",   XE_KIND_TLS_FAILURE,  XE_KIND_TLS_FAILURE },
    { PHASE_NS_SASL,     "auth",      XE_KIND_AUTH,         XE_KIND_AUTH },
    { PHASE_NS_SASL,     "challenge", XE_KIND_CHALLENGE,    XE_KIND_CHALLENGE },
    { PHASE_NS_SASL,     "response",  XE_KIND_RESPONSE,     XE_KIND_RESPONSE },
    { PHASE_NS_SASL,     "success",   XE_KIND_SUCCESS,      XE_KIND_SUCCESS },
    { PHASE_NS_SASL,     "failure",   XE_KIND_SASL_FAILURE, XE_KIND_SASL_FAILURE },
    { PHASE_NS_SASL,     "abort",     XE_KIND_ABORT,        XE_KIND_ABORT },
    { PHASE_NS_DIALBACK, "result",    XE_KIND_DB_RESULT,    XE_KIND_DB_RESULT_ANSWER },
    { PHASE_NS_DIALBACK, "verify",    XE_KIND_DB_VERIFY,    XE_KIND_DB_VERIFY_ANSWER },
    { PHASE_NS_SM,       "enable",    XE_KIND_SM_ENABLE,    XE_KIND_SM_ENABLE },
    { PHASE_NS_SM,       "enabled",   XE_KIND_SM_ENABLED,   XE_KIND_SM_ENABLED },
    { PHASE_NS_SM,       "r",         XE_KIND_SM_R,         XE_KIND_SM_R },
    { PHASE_NS_SM,       "a",         XE_KIND_SM_A,         XE_KIND_SM_A },
    { PHASE_NS_SM,       "failed",    XE_KIND_SM_FAILED,    XE_KIND_SM_FAILED },
    { PHASE_NS_SM,       "resume",    XE_KIND_SM_RESUME,    XE_KIND_SM_RESUME },
    { PHASE_NS_SM,       "resumed",   XE_KIND_SM_RESUMED,   XE_KIND_SM_RESUMED },
    { PHASE_NS_TRUNK,    "trunk",     XE_KIND_TRUNK,        XE_KIND_TRUNK },
    { PHASE_NS_BIDI,     "bidi",      XE_KIND_BIDI,         XE_KIND_BIDI },
    { PHASE_NS_BIDI_OFFER, "bidi",    XE_KIND_BIDI,         XE_KIND_BIDI }
};

enum xe_element_kind
xe_element_kind(const struct xe_xml_event *e)
{
    size_t i;
    if (XML_SAME(e->ns, "jabber:server") || XML_SAME(e->ns, "jabber:client")) {
        if (XML_SAME(e->name, "message"))
            return XE_KIND_MESSAGE;
        if (XML_SAME(e->name, "iq"))
            return XE_KIND_IQ;
        return XML_SAME(e->name, "presence") ? XE_KIND_PRESENCE : XE_KIND_UNKNOWN;
    }
    for (i = 0; i < sizeof phase_names / sizeof *phase_names; i++)
        if (span_is(e->name, phase_names[i].name) && span_is(e->ns, phase_names[i].ns))
            return xe_xml_attr(e, "type").at == NULL ? phase_names[i].kind : phase_names[i].answer;
    return XE_KIND_UNKNOWN;
}

const char *
xe_element_kind_name(enum xe_element_kind kind)
{
    switch (kind) {
    XE_KINDS(XE_WORD)
    case XE_KIND_COUNT:
        break;
    }
    return "unknown";
}

const char *
xe_phase_name(enum xe_phase phase)
{
    switch (phase) {
    XE_PHASES(XE_WORD)
    case XE_PHASE_COUNT:
        break;
    }
    return "unknown";
}

/* Who may say it. */
enum { PHASE_BY_I = 1 << XE_SIDE_INITIATOR, PHASE_BY_R = 1 << XE_SIDE_RECEIVER, PHASE_BY_ANY = 3 };

/* Sets of phases. */
#define PHASE_IN(name)   (1u << XE_PHASE_##name)
#define PHASE_NEGOTIATE  (PHASE_IN(FEATURES) | PHASE_IN(OPEN) | PHASE_IN(DIALBACK))
#define PHASE_SPEAKING   (PHASE_NEGOTIATE | PHASE_IN(AUTHENTICATED))
#define PHASE_ALIVE      (~(PHASE_IN(START) | PHASE_IN(ENDED)))
#define PHASE_SAME       XE_PHASE_COUNT   /* as next: the phase does not change */

/* One row: in one of these phases this side may say this, and that is where it leads. */
struct phase_row {
    unsigned              phases;
    unsigned              sides;
    enum xe_element_kind  kind;
    enum xe_phase         next;     /* PHASE_SAME */
    enum xe_phase         granted;  /* next when the answer is type='valid' */
};

#define PHASE_ROW(phases, side, kind, next) \
    { phases, PHASE_BY_##side, XE_KIND_##kind, next, next }

static const struct phase_row phase_rows[] = {
    /* RFC 6120 4.2, 4.3: headers and features */
    PHASE_ROW(PHASE_IN(START) | PHASE_IN(TLS), I, HEADER, XE_PHASE_HEADER),
    PHASE_ROW(PHASE_IN(HEADER), R, HEADER, XE_PHASE_FEATURES),
    PHASE_ROW(PHASE_IN(FEATURES), R, FEATURES, XE_PHASE_OPEN),
    PHASE_ROW(PHASE_IN(SASL_DONE), I, HEADER, XE_PHASE_AUTH_HEADER),
    PHASE_ROW(PHASE_IN(AUTH_HEADER), R, HEADER, XE_PHASE_AUTH_FEATURES),
    PHASE_ROW(PHASE_IN(AUTH_FEATURES), R, FEATURES, XE_PHASE_AUTHENTICATED),
    /* RFC 6120 5.4: STARTTLS */
    PHASE_ROW(PHASE_IN(OPEN), I, STARTTLS, XE_PHASE_TLS_ASKED),
    PHASE_ROW(PHASE_IN(TLS_ASKED), R, PROCEED, XE_PHASE_TLS),
    PHASE_ROW(PHASE_IN(TLS_ASKED), R, TLS_FAILURE, XE_PHASE_CLOSING),
    /* RFC 6120 6.4: SASL; XEP-0178: after a failure dialback may follow */
    PHASE_ROW(PHASE_IN(OPEN) | PHASE_IN(DIALBACK), I, AUTH, XE_PHASE_SASL_ASKED),
    PHASE_ROW(PHASE_IN(SASL_ASKED), R, CHALLENGE, PHASE_SAME),
    PHASE_ROW(PHASE_IN(SASL_ASKED), I, RESPONSE, PHASE_SAME),
    PHASE_ROW(PHASE_IN(SASL_ASKED), I, ABORT, PHASE_SAME),
    PHASE_ROW(PHASE_IN(SASL_ASKED), R, SUCCESS, XE_PHASE_SASL_DONE),
    PHASE_ROW(PHASE_IN(SASL_ASKED), R, SASL_FAILURE, XE_PHASE_OPEN),
    /* XEP-0220: dialback */
    PHASE_ROW(PHASE_NEGOTIATE, I, DB_RESULT, XE_PHASE_DIALBACK),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), I, DB_RESULT, PHASE_SAME),
    { PHASE_IN(DIALBACK), PHASE_BY_R, XE_KIND_DB_RESULT_ANSWER, XE_PHASE_OPEN,
      XE_PHASE_AUTHENTICATED },
    PHASE_ROW(PHASE_IN(AUTHENTICATED), R, DB_RESULT_ANSWER, PHASE_SAME),
    PHASE_ROW(PHASE_SPEAKING, I, DB_VERIFY, PHASE_SAME),
    PHASE_ROW(PHASE_SPEAKING, R, DB_VERIFY_ANSWER, PHASE_SAME),
    /* RFC 6120 9.2: stanzas go one way; XEP-0288 is announced, not seen here */
    PHASE_ROW(PHASE_IN(AUTHENTICATED), I, MESSAGE, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), I, PRESENCE, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), I, IQ, PHASE_SAME),
    /* extensions */
    PHASE_ROW(PHASE_IN(OPEN), I, BIDI, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), ANY, TRUNK, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), I, SM_ENABLE, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), R, SM_ENABLED, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), ANY, SM_R, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), ANY, SM_A, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), R, SM_FAILED, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), I, SM_RESUME, PHASE_SAME),
    PHASE_ROW(PHASE_IN(AUTHENTICATED), R, SM_RESUMED, PHASE_SAME),
    /* RFC 6120 4.4, 4.9: the end */
    PHASE_ROW(PHASE_IN(CLOSING), ANY, CLOSE, XE_PHASE_ENDED),
    PHASE_ROW(PHASE_IN(CLOSING), R, HEADER, PHASE_SAME),
    PHASE_ROW(PHASE_ALIVE, ANY, STREAM_ERROR, XE_PHASE_CLOSING),
    PHASE_ROW(PHASE_ALIVE, ANY, CLOSE, XE_PHASE_CLOSING)
};

/* What is wrong with an element that no row allows. */
static struct xe_phase_step
phase_refuse(enum xe_phase phase, enum xe_side side, enum xe_element_kind kind)
{
    bool stanza = kind == XE_KIND_MESSAGE || kind == XE_KIND_PRESENCE || kind == XE_KIND_IQ;
    struct xe_phase_step step = { phase, XE_WHY_BAD_ELEMENT, "an element that has no place here" };
    if (phase == XE_PHASE_CLOSING) {
        /* what was on its way when the end was announced (RFC 6120 4.4) */
        step.why = XE_WHY_NONE;
        step.rule = "";
    } else if (phase == XE_PHASE_TLS_ASKED && side == XE_SIDE_INITIATOR) {
        step.why = XE_WHY_TLS_INJECTION;
        step.rule = "RFC 6120 5.4.3.3: nothing is sent between starttls and the handshake";
    } else if (stanza && phase == XE_PHASE_AUTHENTICATED) {
        step.rule = "RFC 6120 9.2: without XEP-0288 stanzas go from initiator to receiver only";
    } else if (stanza) {
        step.why = XE_WHY_NOT_AUTHORIZED;
        step.rule = "RFC 6120 8: stanzas are sent after authentication";
    } else if (kind == XE_KIND_DB_RESULT_ANSWER || kind == XE_KIND_DB_VERIFY_ANSWER) {
        step.why = XE_WHY_DIALBACK_INVALID;
        step.rule = "XEP-0220 2.1: a dialback answer that nobody asked for";
    } else if (phase == XE_PHASE_TLS || phase == XE_PHASE_SASL_DONE || phase == XE_PHASE_START) {
        step.rule = "RFC 6120 4.3.3: a new stream header has to come first";
    }
    return step;
}

struct xe_phase_step
xe_phase_next(enum xe_phase phase, enum xe_side side, enum xe_element_kind kind, bool valid)
{
    size_t i;
    for (i = 0; i < sizeof phase_rows / sizeof *phase_rows; i++) {
        const struct phase_row *r = &phase_rows[i];
        if (r->kind == kind && (r->sides >> side & 1) != 0 && (r->phases >> phase & 1) != 0) {
            enum xe_phase next = valid ? r->granted : r->next;
            return (struct xe_phase_step){ next == PHASE_SAME ? phase : next, XE_WHY_NONE, "" };
        }
    }
    return phase_refuse(phase, side, kind);
}

#ifndef XMPPEDGE_LANGUAGE_ONLY

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <grp.h>
#include <limits.h>
#if defined(__GLIBC__)
#include <malloc.h>   /* malloc_trim() */
#endif
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

/* ===========================================================================
 * [MAP]   map_ list_     a hash table and a list whose links live inside their objects
 * calls:  BASE
 *
 * Intrusive: the object embeds a map_node or a list_node, so that neither structure allocates per
 * object and removal needs no search.  MAP_OWNER() finds the object from its node.
 *
 * Keys come from the network, so the hash is keyed (SipHash-1-3 with a random key per map): nobody
 * outside can choose keys that collide.
 *
 * Costs: finding is one hash and about one comparison.  A full table doubles in one go and never
 * shrinks; the largest has limits.total-pairs entries.
 * Not done: open addressing, which saves the links but moves entries when one is removed.
 * ======================================================================== */

#define MAP_OWNER(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

struct map_node {
    struct map_node *next;   /* in the same bucket */
    uint64_t         hash;
    struct xe_span   key;    /* borrowed from the object */
};

struct map {
    struct map_node **buckets;  /* owned; `mask`+1 of them; NULL while empty */
    size_t            mask;
    size_t            count;
    uint64_t          seed[2];
};

struct list_node {
    struct list_node *prev, *next;   /* NULL both: not in a list */
};

/* A ring through a head node; list_init() before use. */
static void
list_init(struct list_node *head)
{
    head->prev = head->next = head;
}

static bool
list_empty(const struct list_node *head)
{
    return head->next == head;
}

static bool
list_linked(const struct list_node *n)
{
    return n->next != NULL;
}

static void
list_append(struct list_node *head, struct list_node *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

static void
list_remove(struct list_node *n)
{
    if (!list_linked(n))
        return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = NULL;
}

/* A way through a list that takes several turns, in which the list changes.  Who takes a node out
 * of such a list calls list_leave(), so that nobody stands at what is gone. */
struct list_walk {
    struct list_node *at;     /* borrowed; the next to be met, or the head */
    struct list_node *head;   /* borrowed */
    size_t            left;   /* to be met at most: who comes later does not make it longer */
    struct list_node  node;   /* in the list of those who walk there */
};

static void
list_walk_begin(struct list_walk *w, struct list_node *walks, struct list_node *head, size_t count)
{
    w->at = head->next;
    w->head = head;
    w->left = count;
    list_append(walks, &w->node);
}

/* The next node; NULL when that was the last. */
static struct list_node *
list_walk_next(struct list_walk *w)
{
    struct list_node *n = w->at;
    if (n == w->head || w->left == 0)
        return NULL;
    w->left--;
    w->at = n->next;
    return n;
}

static void
list_walk_end(struct list_walk *w)
{
    list_remove(&w->node);
}

static void
list_leave(struct list_node *walks, struct list_node *n)
{
    struct list_node *i;
    for (i = walks->next; i != walks; i = i->next) {
        struct list_walk *w = MAP_OWNER(i, struct list_walk, node);
        w->at = w->at == n ? n->next : w->at;
    }
    list_remove(n);
}

static uint64_t
map_rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void
map_sip_round(uint64_t v[4])
{
    v[0] += v[1]; v[1] = map_rotate(v[1], 13); v[1] ^= v[0]; v[0] = map_rotate(v[0], 32);
    v[2] += v[3]; v[3] = map_rotate(v[3], 16); v[3] ^= v[2];
    v[0] += v[3]; v[3] = map_rotate(v[3], 21); v[3] ^= v[0];
    v[2] += v[1]; v[1] = map_rotate(v[1], 17); v[1] ^= v[2]; v[2] = map_rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein 2012); bytes are gathered by shifts, so that neither byte order
 * nor alignment matters. */
static uint64_t
map_hash(const struct map *m, struct xe_span key)
{
    uint64_t v[4] = { m->seed[0] ^ UINT64_C(0x736f6d6570736575),
        m->seed[1] ^ UINT64_C(0x646f72616e646f6d),
        m->seed[0] ^ UINT64_C(0x6c7967656e657261), m->seed[1] ^ UINT64_C(0x7465646279746573) };
    uint64_t word = 0;
    size_t i;
    for (i = 0; i < key.len; i++) {
        word |= (uint64_t)(unsigned char)key.at[i] << (i % 8 * 8);
        if (i % 8 == 7) {
            v[3] ^= word;
            map_sip_round(v);
            v[0] ^= word;
            word = 0;
        }
    }
    word |= (uint64_t)key.len << 56;
    v[3] ^= word;
    map_sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (i = 0; i < 3; i++)
        map_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct map_node *
map_find(const struct map *m, struct xe_span key)
{
    uint64_t hash;
    struct map_node *n;
    if (m->buckets == NULL)
        return NULL;
    hash = map_hash(m, key);
    for (n = m->buckets[hash & m->mask]; n != NULL; n = n->next)
        if (n->hash == hash && span_eq(n->key, key))
            return n;
    return NULL;
}

static bool
map_grow(struct map *m)
{
    size_t mask = m->buckets == NULL ? 15 : m->mask * 2 + 1;
    struct map_node **buckets = calloc(mask + 1, sizeof *buckets);
    size_t i;
    if (buckets == NULL)
        return false;
    for (i = 0; m->buckets != NULL && i <= m->mask; i++) {
        struct map_node *n = m->buckets[i];
        while (n != NULL) {
            struct map_node *next = n->next;
            n->next = buckets[n->hash & mask];
            buckets[n->hash & mask] = n;
            n = next;
        }
    }
    free(m->buckets);
    m->buckets = buckets;
    m->mask = mask;
    return true;
}

/* Put a node whose key is not in the map yet.  False when memory is out. */
static bool
map_add(struct map *m, struct map_node *n, struct xe_span key)
{
    if ((m->buckets == NULL || m->count > m->mask) && !map_grow(m) && m->buckets == NULL)
        return false;
    n->key = key;
    n->hash = map_hash(m, key);
    n->next = m->buckets[n->hash & m->mask];
    m->buckets[n->hash & m->mask] = n;
    m->count++;
    return true;
}

static void
map_remove(struct map *m, struct map_node *n)
{
    struct map_node **at = &m->buckets[n->hash & m->mask];
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    n->next = NULL;
    m->count--;
}

static void
map_free(struct map *m)
{
    free(m->buckets);
    m->buckets = NULL;
    m->mask = m->count = 0;
}

/* ===========================================================================
 * [NET]   net_           the network of an address: whom a stranger's doings count for
 * calls:  BASE MAP
 *
 * An address of IPv4 costs something.  Of IPv6 every customer has at least a /64, many have a /56,
 * and a site has a /48 (RFC 6177): shares are by /64, and wider shares by /56 and /48.
 *
 * A network is a value: it is copied, compared by its bytes, and a key of a map (net_key).  Ports
 * do not belong to it: all connections of a host are of one network.
 *
 * The book of an instance remembers of each network how much it has of what is scarce, what it
 * owes, and whether a domain that the configuration names was proven there lately: then it is known
 * and goes before others.  What a network has counts for the wider ones around it, too: a /56 may
 * have twice as much as a /64, a /48 four times, and net_load() says it in one number.
 *
 * Costs: about 200 bytes a network, three networks for an address of IPv6; those that have nothing
 * are forgotten, the longest unused first, when they are more than NET_IDLE_MAX.  Who owes
 * something and who is known stand on shelves of their own: no crowd has them forgotten.
 * Not done: allocations of IPv4 by size.  Neighbours there are strangers to each other.
 * ======================================================================== */

enum net_width { NET_SUBNET = 64, NET_HOME = 56, NET_SITE = 48 };   /* bits, of IPv6 */
#define NET_WIDTHS  3

struct net {
    unsigned char bits;        /* of the prefix: 32 for IPv4, 48 to 64 for IPv6, 0 for neither */
    unsigned char prefix[8];   /* in network byte order, zeros behind `bits` */
};

/* Where IPv4 stands in IPv6 (RFC 4291 2.5.5.2). */
static const unsigned char net_mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* The network of an address.  `width` is for IPv6: an address of IPv4, mapped (RFC 4291 2.5.5.2) or
 * not, is a network of its own.  All that has no address, like a UNIX socket, is in one. */
static struct net
net_of(const struct sockaddr_storage *a, enum net_width width)
{
    const unsigned char *v6 =
        ((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr;
    struct net n = { 0, { 0 } };
    if (a->ss_family == AF_INET || (a->ss_family == AF_INET6 && memcmp(v6, net_mapped, 12) == 0)) {
        n.bits = 32;
        memcpy(n.prefix, a->ss_family == AF_INET6 ? (const void *)(v6 + 12)
            : &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
    } else if (a->ss_family == AF_INET6) {
        n.bits = (unsigned char)width;
        memcpy(n.prefix, v6, (size_t)width / 8);
    }
    return n;
}

/* The bytes by which a network is found in a map: borrowed, those of the value itself. */
static struct xe_span
net_key(const struct net *n)
{
    return span_make((const char *)n, sizeof *n);
}

/* For people and logs: "192.0.2.1", "2001:db8:0:1::/64", "?" for what has no address. */
static const char *
net_text(const struct net *n, char out[NET_TEXT_MAX])
{
    unsigned char address[16] = { 0 };
    memcpy(address, n->prefix, sizeof n->prefix);
    if (n->bits == 0
        || inet_ntop(n->bits == 32 ? AF_INET : AF_INET6, address, out, NET_TEXT_MAX) == NULL)
        return strcpy(out, "?");
    if (n->bits > 32)
        snprintf(out + strlen(out), NET_TEXT_MAX - strlen(out), "/%u", n->bits);
    return out;
}

/* ---- what networks have ---- */

enum net_what {
    NET_CONNECTIONS,   /* accepted: it is remembered while there are any */
    NET_STRANGERS,     /* and of them those that have proven nothing */
    NET_HANDSHAKES,    /* of TLS, that are not over, in either direction */
    NET_QUESTIONS,     /* dialback questions that are asked for it */
    NET_WAITING,       /* and those that wait for room */
    NET_PAIRS,         /* pairs of domains that are proven from it, and open */
    NET_WHATS
};

/* What is spent faster than it is paid back; the unit is its owner's. */
struct net_meter {
    int64_t spent;
    int64_t last;   /* ms, when this was so */
};

/* Networks that have nothing, the longest unused first. */
struct net_shelf {
    struct list_node list;   /* net_source.rest */
    size_t           count;
};

/* A network, and what there is of it. */
struct net_source {
    struct map_node    node;      /* in book->map; the key is `net` */
    struct list_node   rest;      /* in `shelf` */
    struct net_shelf  *shelf;     /* where it is while it has nothing; NULL: it has something */
    struct net         net;
    struct net_source *wider;     /* of IPv6: the network around it, which counts too; or NULL */
    size_t             narrower;  /* networks to which this is the wider one */
    size_t             counts[NET_WHATS];
    int64_t            known;     /* ms: until then it is; 0: it never was */
    struct net_meter   computed;  /* us of processor time */
    struct net_meter   connected; /* ms in which what it opened may be opened */
};

struct net_book {
    struct map       map;      /* the owner seeds it */
    struct net_shelf idle;
    struct net_shelf owing;    /* processor time, when they were last in use */
    struct net_shelf known;    /* where a listed domain was proven */
};

static void
net_book_open(struct net_book *b)
{
    list_init(&b->idle.list);
    list_init(&b->owing.list);
    list_init(&b->known.list);
}

/* What is owed now, when `rate` is paid back in a millisecond. */
static int64_t
net_owed(struct net_meter *m, int64_t now, int64_t rate)
{
    int64_t paid = (now - m->last) * rate;
    m->spent = paid >= m->spent ? 0 : m->spent - paid;
    m->last = now;
    return m->spent;
}

/* Whether a listed domain was proven from this network lately. */
static bool
net_is_known(const struct net_source *s, int64_t now)
{
    return s != NULL && s->known > now;
}

static bool
net_has_nothing(const struct net_source *s)
{
    size_t i;
    for (i = 0; i < NET_WHATS; i++)
        if (s->counts[i] > 0)
            return false;
    return s->narrower == 0;
}

static void
net_take(struct net_source *s)
{
    if (s->shelf == NULL)
        return;
    list_remove(&s->rest);
    s->shelf->count--;
    s->shelf = NULL;
}

/* Something has changed: put the network to those that may be forgotten, or take it from there. */
static void
net_put(struct net_book *b, struct net_source *s)
{
    net_take(s);
    if (!net_has_nothing(s))
        return;
    s->shelf = s->known > 0 ? &b->known : s->computed.spent > 0 ? &b->owing : &b->idle;
    list_append(&s->shelf->list, &s->rest);
    s->shelf->count++;
}

static void
net_forget(struct net_book *b, struct net_source *s)
{
    struct net_source *wider = s->wider;
    net_take(s);
    map_remove(&b->map, &s->node);
    free(s);
    if (wider == NULL)
        return;
    wider->narrower--;
    net_put(b, wider);
}

static void
net_trim(struct net_book *b, struct net_shelf *shelf, size_t max)
{
    while (shelf->count > max)
        net_forget(b, MAP_OWNER(shelf->list.next, struct net_source, rest));
}

static struct net_source *
net_source_new(struct net_book *b, const struct net *net, struct net_source *wider)
{
    struct net_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->net = *net;
    if (!map_add(&b->map, &s->node, net_key(&s->net))) {
        free(s);
        return NULL;
    }
    s->wider = wider;
    if (wider != NULL) {
        wider->narrower++;
        net_put(b, wider);
    }
    net_put(b, s);
    return s;
}

static struct net_source *
net_source_get(struct net_book *b, const struct sockaddr_storage *a, enum net_width width)
{
    struct net net = net_of(a, width);
    struct map_node *n = map_find(&b->map, net_key(&net));
    struct net_source *wider = NULL;
    if (n != NULL)
        return MAP_OWNER(n, struct net_source, node);
    if (net.bits > NET_SITE) {
        wider = net_source_get(b, a, width == NET_SUBNET ? NET_HOME : NET_SITE);
        if (wider == NULL)
            return NULL;
    }
    return net_source_new(b, &net, wider);
}

/* What is remembered of the network of an address; NULL when memory is out.  It stays as long as
 * something is counted for it, else until the next call.  Who owns many networks can neither fill
 * the memory nor have those forgotten that are known or owe something. */
static struct net_source *
net_source_of(struct net_book *b, const struct sockaddr_storage *a)
{
    net_trim(b, &b->idle, NET_IDLE_MAX);
    net_trim(b, &b->owing, NET_OWING_MAX);
    net_trim(b, &b->known, NET_KNOWN_MAX);
    return net_source_get(b, a, NET_SUBNET);
}

/* The network has one more of this, or with `by` -1 one less; so have those around it. */
static void
net_count(struct net_book *b, struct net_source *s, enum net_what what, int by)
{
    for (; s != NULL; s = s->wider) {
        s->counts[what] = by > 0 ? s->counts[what] + 1 : s->counts[what] - 1;
        net_put(b, s);
    }
}

/* Of the counts of a network and of those around it: what the narrowest has, or a share of what a
 * wider one has when that is more. */
static size_t
net_fold(const size_t counts[NET_WIDTHS])
{
    size_t load = 0;
    size_t i;
    for (i = 0; i < NET_WIDTHS; i++) {
        size_t share = (counts[i] + ((size_t)1 << i) - 1) >> i;
        load = share > load ? share : load;
    }
    return load;
}

/* How much the network has of this, compared with what others may have. */
static size_t
net_load(const struct net_source *s, enum net_what what)
{
    size_t counts[NET_WIDTHS] = { 0 };
    size_t i;
    for (i = 0; s != NULL; s = s->wider, i++)
        counts[i] = s->counts[what];
    return net_fold(counts);
}

/* Add one of another network to the counts, at each width in which the two are the same. */
static void
net_tally(size_t counts[NET_WIDTHS], const struct net_source *one, const struct net_source *other)
{
    size_t i;
    for (i = 0; one != NULL && other != NULL; one = one->wider, other = other->wider, i++)
        counts[i] += one == other;
}

/* A domain of the configuration has been proven here: the network is known for a while.  Any other
 * proves nothing: a stranger has as many as he likes, and a certificate for all of them. */
static void
net_prove(struct net_book *b, struct net_source *s, int64_t now)
{
    s->known = now + NET_KNOWN_MS;
    net_put(b, s);
}

static void
net_book_close(struct net_book *b)
{
    size_t i;
    for (i = 0; b->map.buckets != NULL && i <= b->map.mask; i++) {
        struct map_node *n = b->map.buckets[i];
        while (n != NULL) {
            struct map_node *next = n->next;
            free(MAP_OWNER(n, struct net_source, node));
            n = next;
        }
    }
    map_free(&b->map);
}

/* ===========================================================================
 * [REACH] reach_         where what came from the network may lead, and where never
 * calls:  BASE
 *
 * DNS is written by strangers, and a stranger has but to claim a domain for us to ask its server.
 * So what DNS says is dialled only when a partner can be there: at a global unicast address that is
 * none of ours, at a port that is no other protocol's.  What the configuration says is dialled.
 *
 * Each rule about addresses is a network.  Of those that hold an address the narrowest decides;
 * between two that are equal, what the configuration has opened.  So "10.0.0.0/8" opens private
 * addresses, but no address of this machine and not the internal network among them; "0.0.0.0/0"
 * opens nothing; and an address that carries another is judged by both.
 *
 * Costs: a decision reads the table, which takes some 5 microseconds, before connect().
 * Not done: an IPv4 address behind a NAT64 prefix of the operator's own (RFC 6052 2.2), which no
 * address shows.  The translator must know what it may not translate.
 * ======================================================================== */

#if !defined(XMPPEDGE_NO_IFADDRS) && (defined(__linux__) || defined(__APPLE__) \
    || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) \
    || defined(__DragonFly__) || defined(__sun))
#define REACH_IFADDRS 1
#include <ifaddrs.h>   /* not POSIX, and in each of these */
#else
#define REACH_IFADDRS 0
#endif

#define REACH_READ_MS 1000   /* what is ours is read again after so long, when somebody asks */

/* Addresses that begin alike.  IPv4 stands where IPv6 has it, at ::ffff:0:0/96. */
struct reach_net {
    unsigned char at[16];   /* in network byte order, zeros behind `bits` */
    unsigned      bits;     /* of the prefix, at most 128; IPv4: 96 more than it is written with */
};

/* A network of the table. */
struct reach_block {
    const char *net;
    const char *what;       /* is there, so that no partner is; NULL: one may be */
    unsigned    v4_at;      /* place of an IPv4 address in its addresses; 0: there is none */
};

/* A network of this machine. */
struct reach_own {
    struct reach_net net;
    const char      *what;  /* static */
};

/* Networks that the configuration opens. */
struct reach_list {
    struct reach_net *list;
    size_t            count;
};

/* What one node has beside the table, towards one partner. */
struct reach {
    const struct reach_list *opened[2];   /* borrowed: for all partners, for this one; NULL: none */
    const struct reach_own  *own;         /* borrowed */
    size_t                   nown;
};

/* What the configuration has said itself of a target. */
enum { REACH_ADDRESS_GIVEN = 1, REACH_PORT_GIVEN = 2 };

/* All of the registries for special purposes (RFC 6890, RFC 8190, at IANA in 2025), whether routed
 * or not: what is anycast there is a service, but no server of anybody.  And what RFC 4291, 3879
 * and 4007 say of the rest of IPv6.  2001::/23 has Teredo and ORCHID, 192.0.0.0/24 DS-Lite and
 * NAT64 discovery. */
static const struct reach_block reach_blocks[] = {
    { "0.0.0.0/0", NULL, 0 },
    { "0.0.0.0/8", "this network", 0 },
    { "10.0.0.0/8", "private", 0 },
    { "100.64.0.0/10", "shared with a provider", 0 },
    { "127.0.0.0/8", "loopback", 0 },
    { "169.254.0.0/16", "link-local", 0 },
    { "172.16.0.0/12", "private", 0 },
    { "192.0.0.0/24", "protocol assignments", 0 },
    { "192.0.2.0/24", "documentation", 0 },
    { "192.31.196.0/24", "AS112", 0 },
    { "192.52.193.0/24", "multicast tunnels", 0 },
    { "192.88.99.0/24", "6to4 relays", 0 },
    { "192.168.0.0/16", "private", 0 },
    { "192.175.48.0/24", "AS112", 0 },
    { "198.18.0.0/15", "benchmarks", 0 },
    { "198.51.100.0/24", "documentation", 0 },
    { "203.0.113.0/24", "documentation", 0 },
    { "224.0.0.0/4", "multicast", 0 },
    { "240.0.0.0/4", "reserved", 0 },
    { "255.255.255.255/32", "broadcast", 0 },
    { "::/0", "not global unicast", 0 },
    { "2000::/3", NULL, 0 },
    { "::/96", "compatible with IPv4", 0 },
    { "::/128", "unspecified", 0 },
    { "::1/128", "loopback", 0 },
    { "64:ff9b::/96", NULL, 12 },
    { "64:ff9b:1::/48", "local NAT64", 12 },
    { "100::/64", "discarded", 0 },
    { "100:0:0:1::/64", "dummy", 0 },
    { "2001::/23", "protocol assignments", 0 },
    { "2001:db8::/32", "documentation", 0 },
    { "2002::/16", NULL, 2 },
    { "2620:4f:8000::/48", "AS112", 0 },
    { "3fff::/20", "documentation", 0 },
    { "5f00::/16", "segment routing", 0 },
    { "fc00::/7", "private", 0 },
    { "fe80::/10", "link-local", 0 },
    { "fec0::/10", "site-local", 0 },
    { "ff00::/8", "multicast", 0 }
};

#define REACH_BLOCKS (sizeof reach_blocks / sizeof *reach_blocks)

/* Ports of other protocols, where what we say could be taken for a command: 0, which is none, and
 * the bad ports of the Fetch standard (https://fetch.spec.whatwg.org/#port-blocking). */
static const uint16_t reach_bad_ports[] = {
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080
};

/* ---- networks ---- */

/* The bytes of an address, 4 or 16, in its place among all addresses. */
static void
reach_place(unsigned char at[16], int family, const void *bytes)
{
    if (family == AF_INET) {
        memcpy(at, net_mapped, 12);
        memcpy(at + 12, bytes, 4);
    } else {
        memcpy(at, bytes, 16);
    }
}

static const void *
reach_bytes(int family, const struct sockaddr *a)
{
    return family == AF_INET
        ? (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr
        : &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
}

static bool
reach_net_has(const struct reach_net *n, const unsigned char at[16])
{
    unsigned whole = n->bits / 8;
    unsigned rest = n->bits % 8;
    return memcmp(n->at, at, whole) == 0
        && (rest == 0 || (n->at[whole] ^ at[whole]) >> (8 - rest) == 0);
}

/* Take away what stands behind the prefix; true when there was nothing. */
static bool
reach_net_trim(struct reach_net *n)
{
    bool clean = true;
    unsigned i;
    for (i = n->bits; i < 128; i++) {
        unsigned char bit = (unsigned char)(0x80u >> i % 8);
        clean = clean && (n->at[i / 8] & bit) == 0;
        n->at[i / 8] &= (unsigned char)~bit;
    }
    return clean;
}

/* The prefix length at the end of a network, 0 to `most`; false when it is none. */
static bool
reach_net_bits(struct xe_span text, unsigned most, unsigned *bits)
{
    size_t i;
    *bits = 0;
    for (i = 0; i < text.len && i < 4; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        *bits = *bits * 10 + (unsigned)(text.at[i] - '0');
    }
    return text.len > 0 && i == text.len && *bits <= most;
}

enum reach_fault { REACH_GOOD, REACH_NO_ADDRESS, REACH_NO_PREFIX, REACH_HOST_BITS };

/* Read "10.0.0.0/8" or "fd00::/8"; an address alone is a network of one.  After REACH_HOST_BITS the
 * network is the one that is meant. */
static enum reach_fault
reach_net_parse(struct xe_span text, struct reach_net *n)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    size_t len = span_find(text, '/');
    int family = AF_INET;
    unsigned most = 32;
    if (len >= sizeof address)
        return REACH_NO_ADDRESS;
    memcpy(address, text.at, len);
    address[len] = '\0';
    if (strchr(address, ':') != NULL) {
        family = AF_INET6;
        most = 128;
    }
    if (inet_pton(family, address, bytes) != 1)
        return REACH_NO_ADDRESS;
    n->bits = most;
    if (len < text.len && !reach_net_bits(span_skip(text, len + 1), most, &n->bits))
        return REACH_NO_PREFIX;
    n->bits += family == AF_INET ? 96 : 0;
    reach_place(n->at, family, bytes);
    return reach_net_trim(n) ? REACH_GOOD : REACH_HOST_BITS;
}

static struct reach_net
reach_block_net(const struct reach_block *b)
{
    struct reach_net n;
    enum reach_fault fault = reach_net_parse(span_of(b->net), &n);
    assert(fault == REACH_GOOD);
    (void)fault;
    return n;
}

/* As it is written: "10.0.0.0/8", and without its prefix length where that is one address. */
static const char *
reach_net_text(const struct reach_net *n, char out[REACH_TEXT_MAX])
{
    bool v4 = n->bits >= 96 && memcmp(n->at, net_mapped, 12) == 0;
    if (inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? n->at + 12 : n->at, out, REACH_TEXT_MAX) == NULL)
        return strcpy(out, "?");
    if (n->bits < 128)
        snprintf(out + strlen(out), REACH_TEXT_MAX - strlen(out), "/%u",
            v4 ? n->bits - 96 : n->bits);
    return out;
}

/* A refused block within a wider network, which does not open it; NULL: there is none. */
static const struct reach_block *
reach_net_misses(const struct reach_net *wide)
{
    size_t i;
    for (i = 0; i < REACH_BLOCKS; i++) {
        struct reach_net n = reach_block_net(&reach_blocks[i]);
        if (reach_blocks[i].what != NULL && n.bits > wide->bits && reach_net_has(wide, n.at))
            return &reach_blocks[i];
    }
    return NULL;
}

/* ---- the decision ---- */

/* Has the configuration opened the address, with a network of at least so many bits? */
static bool
reach_is_opened(const struct reach *r, const unsigned char at[16], unsigned bits)
{
    size_t i, j;
    for (i = 0; i < 2; i++)
        for (j = 0; r->opened[i] != NULL && j < r->opened[i]->count; j++)
            if (r->opened[i]->list[j].bits >= bits && reach_net_has(&r->opened[i]->list[j], at))
                return true;
    return false;
}

/* What is at an address, so that it is not dialled; NULL: nothing.  Goes round once more for an
 * IPv4 address that another carries. */
static const char *
reach_barrier(const struct reach *r, const unsigned char at[16])
{
    const struct reach_block *block = NULL;
    const char *what;
    unsigned bits = 0;
    unsigned char v4[16];
    size_t i;
    for (i = 0; i < REACH_BLOCKS; i++) {
        struct reach_net n = reach_block_net(&reach_blocks[i]);
        if (n.bits >= bits && reach_net_has(&n, at)) {
            block = &reach_blocks[i];
            bits = n.bits;
        }
    }
    assert(block != NULL);   /* ::/0 holds all */
    what = block->what;
    for (i = 0; i < r->nown; i++)
        if (r->own[i].net.bits > bits && reach_net_has(&r->own[i].net, at)) {
            what = r->own[i].what;
            bits = r->own[i].net.bits;
        }
    if (what != NULL && !reach_is_opened(r, at, bits))
        return what;
    if (block->v4_at == 0)
        return NULL;
    reach_place(v4, AF_INET, at + block->v4_at);
    return reach_barrier(r, v4);
}

static bool
reach_port_is_bad(uint16_t port)
{
    size_t i;
    for (i = 0; i < sizeof reach_bad_ports / sizeof *reach_bad_ports; i++)
        if (reach_bad_ports[i] == port)
            return true;
    return false;
}

/* May this be dialled?  XE_WHY_NONE, or why not, and in *what a word or two for what is there.  Of
 * `given` (REACH_*_GIVEN), which the configuration itself has said, nothing is asked. */
static enum xe_why
reach_why(const struct reach *r, const struct sockaddr_storage *to, unsigned given,
    const char **what)
{
    bool is_v6 = to->ss_family == AF_INET6;
    unsigned char at[16];
    uint16_t port = ntohs(is_v6 ? ((const struct sockaddr_in6 *)(const void *)to)->sin6_port
        : ((const struct sockaddr_in *)(const void *)to)->sin_port);
    reach_place(at, to->ss_family, reach_bytes(to->ss_family, (const struct sockaddr *)to));
    *what = NULL;
    if ((given & REACH_ADDRESS_GIVEN) == 0)
        *what = is_v6 && memcmp(at, net_mapped, 12) == 0 ? "IPv4 in the form of IPv6"
            : reach_barrier(r, at);
    if (*what != NULL)
        return XE_WHY_ADDRESS_REFUSED;
    if ((given & REACH_PORT_GIVEN) != 0 || !reach_port_is_bad(port))
        return XE_WHY_NONE;
    *what = "a port of another protocol";
    return XE_WHY_PORT_REFUSED;
}

/* ---- what is ours ---- */

/* The addresses of this machine, and the networks of its inside. */
struct reach_machine {
    struct reach_own *own;       /* owned */
    size_t            nown;
    int64_t           read_at;   /* ms, when they were read */
};

static void
reach_machine_free(struct reach_machine *m)
{
    free(m->own);
    *m = (struct reach_machine){ 0 };
}

/* Add the network of `bits` of 128 around an address.  False when memory is out. */
static bool
reach_machine_add(struct reach_machine *m, const struct sockaddr *a, unsigned bits,
    const char *what)
{
    struct reach_own *more;
    if (a->sa_family != AF_INET && a->sa_family != AF_INET6)
        return true;
    more = realloc(m->own, (m->nown + 1) * sizeof *more);
    if (more == NULL)
        return false;
    m->own = more;
    more += m->nown++;
    more->what = what;
    more->net.bits = bits;
    reach_place(more->net.at, a->sa_family, reach_bytes(a->sa_family, a));
    reach_net_trim(&more->net);
    return true;
}

#if REACH_IFADDRS

/* The bits of 128 that a netmask keeps; one that keeps none says nothing. */
static unsigned
reach_mask_bits(int family, const struct sockaddr *mask)
{
    unsigned first = family == AF_INET ? 96 : 0;
    unsigned bits = first;
    unsigned char at[16];
    if (mask == NULL || (family != AF_INET && family != AF_INET6))
        return 128;
    reach_place(at, family, reach_bytes(family, mask));
    while (bits < 128 && (at[bits / 8] & 0x80u >> bits % 8) != 0)
        bits++;
    return bits == first ? 128 : bits;
}

static bool
reach_same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    return a != NULL && a->sa_family == b->sa_family
        && (a->sa_family == AF_INET || a->sa_family == AF_INET6)
        && memcmp(reach_bytes(a->sa_family, a), reach_bytes(a->sa_family, b),
            a->sa_family == AF_INET ? 4 : 16) == 0;
}

static bool
reach_machine_add_interface(struct reach_machine *m, const struct ifaddrs *i, bool inside)
{
    if (i->ifa_addr == NULL)
        return true;
    return reach_machine_add(m, i->ifa_addr, 128, "an address of this machine")
        && (!inside || reach_machine_add(m, i->ifa_addr,
            reach_mask_bits(i->ifa_addr->sa_family, i->ifa_netmask), "the internal network"));
}

/* Every address of every interface, and the networks of the one that has the internal address.
 * Where the system never tells, there is what the configuration says; where it cannot now, there is
 * nothing, and nothing is dialled. */
static bool
reach_machine_look(struct reach_machine *m, const struct sockaddr *internal)
{
    struct ifaddrs *all;
    const struct ifaddrs *i, *inside;
    bool good = true;
    if (getifaddrs(&all) != 0)
        return errno != ENOMEM && errno != ENOBUFS && errno != EMFILE && errno != ENFILE;
    for (inside = all; inside != NULL; inside = inside->ifa_next)
        if (reach_same_host(inside->ifa_addr, internal))
            break;
    for (i = all; i != NULL && good; i = i->ifa_next)
        good = reach_machine_add_interface(m, i,
            inside != NULL && strcmp(i->ifa_name, inside->ifa_name) == 0);
    freeifaddrs(all);
    return good;
}

#else

static bool
reach_machine_look(struct reach_machine *m, const struct sockaddr *internal)
{
    (void)m;
    (void)internal;
    return true;
}

#endif

/* Read what is ours, unless that was done lately: the two addresses of the configuration
 * (AF_UNSPEC: there is none), and what the system tells.  False, with nothing read, when memory is
 * out.  `now` is in ms, of a clock that does not go back. */
static bool
reach_machine_read(struct reach_machine *m, int64_t now, const struct sockaddr_storage *external,
    const struct sockaddr_storage *internal)
{
    if (m->own != NULL && now - m->read_at < REACH_READ_MS)
        return true;
    reach_machine_free(m);
    m->read_at = now;
    if (reach_machine_add(m, (const struct sockaddr *)external, 128, "our own address")
        && reach_machine_add(m, (const struct sockaddr *)internal, 128, "our own address")
        && reach_machine_look(m, (const struct sockaddr *)internal))
        return true;
    reach_machine_free(m);
    return false;
}

/* ===========================================================================
 * [LOG]   log_           one line per event
 * calls:  BASE BUF MAP NET
 *
 *   2026-11-22T03:14:15.926Z warn  s2s-out-closed from=corp.example to=far.example why=tls-failed
 *
 * A line is begun with log_begin(), grows by key=value and is written by log_end().  Values that
 * hold anything but plain printable ASCII are quoted as strings of JSON, so that no byte from the
 * network can forge a line or a field.  format="json" writes the same fields as one object a line.
 *
 * The same event for the same subject is written LOG_BURST times in LOG_WINDOW_MS, and for all
 * subjects together LOG_EVENT_BURST times.  What comes on top is counted and the count is told with
 * the first line of the next window (suppressed=n): a flood of attempts cannot fill the disk.
 *
 * Of whoever can choose his domain (log_begin_about) the network that he comes from is the subject.
 * It has LOG_SOURCE_BURST lines.  Each kind of log_whom has budgets apart: strangers do not silence
 * each other, nor a partner who fails to prove who he is, nor what is told of proven partners.
 *
 * A field tells a fact.  What a peer says of itself stands in fields whose names say so (`claims`,
 * `from` and `to` of a stanza, `detail`) until it is proven; `remote` is proven, or dialled by us.
 *
 * A field that does not fit is left out as a whole, so that every line is complete in either form.
 *
 * A line that cannot be written now is lost and counted: a full disk, or a pipe that nobody reads,
 * holds up no stanza.  The next line that can be written is log-lost, with their number.
 *
 * Costs: a poll() and a write() a line.
 * Not done: gathering lines.  The last ones before a crash are those that count, and the budgets
 * above keep them few.  Rotating: a reload opens the file again.
 * ======================================================================== */

/* Bytes of one write(): a pipe that is ready has room for so many (POSIX, PIPE_BUF). */
#ifdef PIPE_BUF
#define LOG_PART ((size_t)PIPE_BUF)
#else
#define LOG_PART ((size_t)_POSIX_PIPE_BUF)
#endif

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
static const char *const log_levels[] = { "error", "warn", "info", "debug", NULL };

struct log_slot {
    uint32_t tag;          /* hash of event and subject */
    uint32_t written;      /* lines in this window */
    uint32_t suppressed;   /* lines left out */
    int64_t  window;       /* number of the window */
};

/* What may be written in a window. */
struct log_budgets {
    struct log_slot slots[LOG_SLOTS];     /* of events with their subjects */
    struct log_slot sites[LOG_SLOTS];     /* of events with the widest networks */
    struct log_slot events[LOG_EVENTS];   /* of events */
};

/* Whom a line is about: what decides who can use up whose lines. */
enum log_whom {
    LOG_PARTNER,    /* listed and proven or dialled, or we ourselves: the domain is the subject */
    LOG_RETURNING,  /* claims a listed domain, from a network where some domain was proven lately */
    LOG_CLAIMANT,   /* claims a listed domain, from elsewhere */
    LOG_UNLISTED,   /* proven, or dialled: there may be as many such domains as their owner likes */
    LOG_UNPLACED,   /* the same before it is known where it is: the domain is the subject */
    LOG_STRANGER,
    LOG_WHOMS
};

/* The same with its network, by value: it outlives the connection. */
struct log_party {
    enum log_whom whom;
    struct net    net;    /* bits 0: none, the domain is the subject */
    struct net    site;   /* the widest network around it */
};

struct log {
    enum log_level  level;      /* lines above it are not written */
    bool            json;
    int             fd;         /* where lines go; borrowed */
    void          (*sink)(void *user, const char *line, size_t len);  /* instead of fd, if set */
    void           *user;
    struct buf      line;       /* the line being made */
    struct buf      rest;       /* of one of which a part was written: the disk was full then */
    uint64_t        lost;       /* lines that could not be written, and nobody was told */
    bool            open;       /* between begin and end, and not suppressed */
    struct log_budgets budgets[LOG_WHOMS];
    struct map      keyed;      /* its seed alone: nobody outside can choose who shares a slot */
};

static bool
log_wants(const struct log *l, enum log_level level)
{
    return l != NULL && level <= l->level;
}

static void
log_put_value(struct log *l, struct xe_span value)
{
    if (l->json)
        buf_put_json(&l->line, value, LOG_VALUE_MAX);
    else
        buf_put_value(&l->line, value, LOG_VALUE_MAX);
}

static void
log_put_key(struct log *l, const char *key)
{
    buf_puts(&l->line, l->json ? ",\"" : " ");
    buf_puts(&l->line, key);
    buf_puts(&l->line, l->json ? "\":" : "=");
}

/* A field is complete.  One that did not fit goes; others, smaller ones, may still come. */
static void
log_end_field(struct log *l, size_t before)
{
    if (!l->line.failed)
        return;
    l->line.failed = false;
    l->line.tail = l->line.head + before;
}

static void
log_span(struct log *l, const char *key, struct xe_span value)
{
    size_t before = buf_len(&l->line);
    if (!l->open || value.at == NULL)
        return;
    log_put_key(l, key);
    log_put_value(l, value);
    log_end_field(l, before);
}

static void
log_text(struct log *l, const char *key, const char *value)
{
    log_span(l, key, span_of(value));
}

static void
log_int(struct log *l, const char *key, int64_t value)
{
    size_t before = buf_len(&l->line);
    if (!l->open)
        return;
    log_put_key(l, key);
    if (value < 0)
        buf_putc(&l->line, '-');
    buf_putu(&l->line, value < 0 ? (uint64_t)-(value + 1) + 1 : (uint64_t)value);
    log_end_field(l, before);
}

/* Picks a slot only: collisions merely share a budget. */
static uint32_t
log_tag(const struct log *l, const char *event, struct xe_span subject)
{
    struct map keyed = { .seed = { l->keyed.seed[0] ^ map_hash(&l->keyed, span_of(event)),
        l->keyed.seed[1] } };
    return (uint32_t)map_hash(&keyed, subject);
}

/* Take a line from the budget of a slot.  False, and counted, when there is none left.  *suppressed
 * grows by what the last window left out. */
static bool
log_slot_take(struct log_slot *slot, uint32_t tag, int64_t window, uint32_t burst,
    uint32_t *suppressed)
{
    if (slot->tag != tag || slot->window != window) {
        *suppressed += slot->tag == tag ? slot->suppressed : 0;
        *slot = (struct log_slot){ .tag = tag, .window = window };
    }
    if (slot->written >= burst) {
        slot->suppressed++;
        return false;
    }
    slot->written++;
    return true;
}

/* Whether a line of this event and subject is within its budget; *suppressed grows by what the last
 * window left out. */
static bool
log_budget(struct log *l, struct log_budgets *b, const char *event, struct xe_span subject,
    uint32_t burst, int64_t window, uint32_t *suppressed)
{
    uint32_t tag = log_tag(l, event, subject);
    uint32_t all = log_tag(l, event, span_make(NULL, 0)) % LOG_EVENTS;   /* sharing is harmless */
    return log_slot_take(&b->slots[tag % LOG_SLOTS], tag, window, burst, suppressed)
        && log_slot_take(&b->events[all], all, window, LOG_EVENT_BURST, suppressed);
}

/* The same for a network, and before for the widest network around it, which has twice as much. */
static bool
log_budget_net(struct log *l, const char *event, const struct log_party *who, int64_t window,
    uint32_t *suppressed)
{
    struct log_budgets *b = &l->budgets[who->whom];
    uint32_t burst = who->whom == LOG_CLAIMANT ? LOG_BURST : LOG_SOURCE_BURST;
    uint32_t tag = log_tag(l, event, net_key(&who->site));
    return log_slot_take(&b->sites[tag % LOG_SLOTS], tag, window, 2 * burst, suppressed)
        && log_budget(l, b, event, net_key(&who->net), burst, window, suppressed);
}

static void
log_open(struct log *l, enum log_level level, const char *event, uint32_t suppressed)
{
    struct timespec now;
    struct tm utc;
    char stamp[48];
    clock_gettime(CLOCK_REALTIME, &now);
    l->open = true;
    buf_clear(&l->line);
    l->line.max = LOG_LINE_MAX;
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    buf_puts(&l->line, l->json ? "{\"time\":\"" : "");
    buf_puts(&l->line, stamp);
    snprintf(stamp, sizeof stamp, ".%03ldZ", now.tv_nsec / 1000000);
    buf_puts(&l->line, stamp);
    if (l->json) {
        buf_puts(&l->line, "\",\"level\":\"");
        buf_puts(&l->line, log_levels[level]);
        buf_puts(&l->line, "\",\"event\":\"");
        buf_puts(&l->line, event);
        buf_putc(&l->line, '"');
    } else {
        snprintf(stamp, sizeof stamp, " %-5s ", log_levels[level]);
        buf_puts(&l->line, stamp);
        buf_puts(&l->line, event);
    }
    if (suppressed > 0)
        log_int(l, "suppressed", suppressed);
}

static int64_t
log_window(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 / LOG_WINDOW_MS;
}

/* Who comes from this network, or with NULL from none of which we know. */
static struct log_party
log_party(enum log_whom whom, const struct net_source *from)
{
    struct log_party who = { .whom = whom };
    if (from == NULL)
        return who;
    who.net = from->net;
    while (from->wider != NULL)
        from = from->wider;
    who.site = from->net;
    return who;
}

/* The same for an address. */
static struct log_party
log_party_at(enum log_whom whom, const struct sockaddr_storage *from)
{
    return (struct log_party){ whom, net_of(from, NET_SUBNET), net_of(from, NET_SITE) };
}

/* Write what there is room for, and do not wait: nobody may read the pipe or terminal.  Not with
 * O_NONBLOCK, which would hold for all who share the descriptor.  Returns how much was written. */
static size_t
log_write(const struct log *l, struct xe_span text)
{
    size_t done = 0;
    while (done < text.len) {
        struct pollfd room = { .fd = l->fd, .events = POLLOUT };
        size_t part = text.len - done < LOG_PART ? text.len - done : LOG_PART;
        ssize_t n;
        if (poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0)
            break;
        n = write(l->fd, text.at + done, part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

/* Write a whole line, behind what is left of the one before, or count it as lost. */
static void
log_put_line(struct log *l, struct xe_span line)
{
    size_t n;
    buf_skip(&l->rest, log_write(l, buf_span(&l->rest)));
    n = buf_len(&l->rest) > 0 ? 0 : log_write(l, line);
    l->lost += n == 0;
    l->rest.max = LOG_LINE_MAX + 8;
    if (n > 0 && n < line.len && !buf_put(&l->rest, span_skip(line, n)))
        l->lost++;
}

static void
log_end(struct log *l)
{
    if (l == NULL || !l->open)
        return;
    l->open = false;
    l->line.max = LOG_LINE_MAX + 8;
    l->line.failed = false;
    buf_puts(&l->line, l->json ? "}\n" : "\n");
    if (l->sink != NULL)
        l->sink(l->user, buf_at(&l->line), buf_len(&l->line));
    else
        log_put_line(l, buf_span(&l->line));
}

/* Tell how many lines were lost, as soon as that can be written. */
static void
log_tell_lost(struct log *l)
{
    uint64_t lines = l->lost;
    if (lines == 0)
        return;
    l->lost = 0;
    log_open(l, LOG_WARN, "log-lost", 0);
    log_int(l, "lines", (int64_t)lines);
    log_end(l);
    if (l->lost > 0)
        l->lost = lines;   /* this one does not count */
}

/* Begin a line.  `event` is a stable word.  `who` it is about, and if his network is not known his
 * `subject` (may be absent) count for the rate limit and are not written.  Returns false when the
 * line is not wanted: the log_*() calls that follow then do nothing. */
static bool
log_begin_about(struct log *l, enum log_level level, const char *event,
    const struct log_party *who, struct xe_span subject)
{
    uint32_t suppressed = 0;
    bool within = true;
    if (l == NULL)
        return false;
    l->open = false;
    if (!log_wants(l, level))
        return false;
    if (level != LOG_DEBUG && who->net.bits > 0)
        within = log_budget_net(l, event, who, log_window(), &suppressed);
    else if (level != LOG_DEBUG && subject.at != NULL)
        within = log_budget(l, &l->budgets[who->whom], event, subject, LOG_BURST,
            log_window(), &suppressed);
    if (!within)
        return false;
    log_tell_lost(l);
    log_open(l, level, event, suppressed);
    return true;
}

/* The same about us, or somebody whom the configuration names. */
static bool
log_begin(struct log *l, enum log_level level, const char *event, struct xe_span subject)
{
    struct log_party who = { .whom = LOG_PARTNER };
    return log_begin_about(l, level, event, &who, subject);
}

/* The same about somebody who has not even said who he is. */
static bool
log_begin_from(struct log *l, enum log_level level, const char *event,
    const struct net_source *from)
{
    struct log_party who = log_party(LOG_STRANGER, from);
    return log_begin_about(l, level, event, &who, span_of("?"));
}

/* ===========================================================================
 * [LOOP]  loop_ timer_   one thread, many sockets: readiness, timers, and work for later
 * calls:  MAP
 *
 * One call of loop_step() is one turn, and a turn always has the same order:
 *
 *     wait -> ready() of sockets -> timers -> end tasks -> soon tasks of the turn before
 *
 *   ready   sockets that can be read or written, at most LOOP_EVENTS_MAX a turn; the rest is still
 *           ready in the next one (level triggered), and nobody is served twice before everybody
 *           was served once
 *   timers  after the sockets: an answer that arrived in time wins against its time-out
 *   end     tidying up: freeing what was closed in this turn, writing out what was collected.  A
 *           task that an end task queues runs in the same phase
 *   soon    work that gives way: more to read than one turn takes, and without threads the next
 *           step of a TLS handshake.  What sockets have brought is written out by then, and they
 *           get their turn in between.  A turn spends about LOOP_SOON_MS on them; what is left
 *           keeps its place for the next turn
 *
 * Watches, timers and tasks are embedded in their owners; the loop never frees them and touches
 * none after calling it, so each may be freed by its own callback -- once removed from the loop.
 * Zero is the state of rest of all three: calloc() or `= { .fd = fd, .ready = f }` is the
 * initialisation.
 *
 * Invariants: l->ready[w->turn - 1].watch == w for every watch that still has an event to come in
 * this turn, so that removing a watch takes the event back; t->key <= t->due for every armed timer.
 *
 * epoll on Linux, poll elsewhere or with -DXMPPEDGE_POLL.  They differ in four functions.
 *
 * Costs: with epoll a turn costs what is ready and due, with poll every watch besides.  Arming or
 * putting off a timer is constant, firing and cancelling grow with the logarithm of their number.
 * Not done: several threads that move stanzas.  Nothing here needs a lock, one thread moves more
 * than an organisation has, and several edges can share a load; what computes for long is lent to
 * threads in [TLS].  Edge triggered epoll: it needs a list of who has left something unread, and
 * the kernel has one.
 * ======================================================================== */

#if defined(__linux__) && !defined(XMPPEDGE_POLL)
#define LOOP_EPOLL 1
#include <sys/epoll.h>
#else
#define LOOP_EPOLL 0
#endif

#define LOOP_EVENTS_MAX 256   /* sockets served in a turn */
#define LOOP_SOON_MS    5     /* ms of a turn after which no further soon task is begun */

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

/* Interest in one file descriptor.  The owner sets fd and ready; the rest is the loop's. */
struct loop_watch {
    int       fd;        /* borrowed; remove the watch before closing it */
    unsigned  events;    /* LOOP_READ | LOOP_WRITE that are watched; 0: not in the loop */
    void    (*ready)(struct loop_watch *w, unsigned events);  /* hangup and error come as both */
    size_t    turn;      /* place + 1 in loop.ready; 0: nothing to come in this turn */
    size_t    slot;      /* place + 1 in loop.polled (poll only) */
};

/* A moment.  The owner sets fire; the rest is the loop's.  Armed timers form a pairing heap, whose
 * nodes are the timers: arming one cannot fail. */
struct timer {
    int64_t       due;     /* ms on the clock of loop_now(): when to fire */
    int64_t       key;     /* ms; the place in the heap: due, or an earlier due since put off */
    void        (*fire)(struct timer *t);   /* called when it is not armed any more */
    struct timer *child;   /* first of the timers below this one */
    struct timer *next;    /* next of those below the same parent */
    struct timer *prev;    /* the one before, or the parent of a first child; NULL for the root */
    bool          armed;
};

/* Something to do once.  The owner sets run.  A task waits in one queue at a time. */
struct loop_task {
    void           (*run)(struct loop_task *t);
    struct list_node node;   /* in loop.soon, loop.soon_now or loop.end */
};

struct loop_ready {
    struct loop_watch *watch;   /* NULL: removed since the wait */
    unsigned           events;  /* LOOP_READ | LOOP_WRITE, LOOP_BROKEN */
};

struct loop {
    int64_t             now;         /* ms, monotonic; read once or twice a turn */
    struct timer       *first;       /* root of the heap; NULL: no timer is armed */
    struct list_node    soon;        /* loop_task of the next turn */
    struct list_node    soon_now;    /* loop_task of this turn */
    struct list_node    end;         /* loop_task of the end of this turn */
    size_t              nready;      /* used part of `ready` */
    bool                turning;     /* inside loop_step() */
    bool                firing;      /* timers are being fired */
    int                 epoll_fd;    /* owned; -1 with poll */
    struct pollfd      *polled;      /* owned; what poll() is given (poll only) */
    struct loop_watch **watches;     /* owned; who is behind polled[i] (poll only) */
    size_t              npolled;     /* used part of both */
    size_t              polled_cap;  /* allocated part of both */
    size_t              polled_next; /* where the next turn begins to look, for fairness */
    struct loop_ready   ready[LOOP_EVENTS_MAX];  /* what the last wait has found */
};

#define LOOP_BROKEN 4u   /* in loop_ready.events: hangup or error */

/* ---- the four functions that know the system call ---- */

#if LOOP_EPOLL

static bool
loop_wait_open(struct loop *l)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll_fd >= 0;
}

static void
loop_wait_close(struct loop *l)
{
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    l->epoll_fd = -1;
}

static bool
loop_wait_change(struct loop *l, struct loop_watch *w, unsigned events)
{
    struct epoll_event change;
    int how = w->events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    memset(&change, 0, sizeof change);
    change.events = (events & LOOP_READ ? EPOLLIN : 0u) | (events & LOOP_WRITE ? EPOLLOUT : 0u);
    change.data.ptr = w;
    /* a descriptor that is gone already has left the set by itself */
    return epoll_ctl(l->epoll_fd, how, w->fd, &change) == 0 || how == EPOLL_CTL_DEL;
}

/* Fill l->ready; false when the wait itself failed. */
static bool
loop_wait(struct loop *l, int wait_ms)
{
    struct epoll_event found[LOOP_EVENTS_MAX];
    int n = epoll_wait(l->epoll_fd, found, LOOP_EVENTS_MAX, wait_ms);
    int i;
    for (i = 0; i < n; i++) {
        l->ready[i].watch = found[i].data.ptr;
        l->ready[i].events = (found[i].events & EPOLLIN ? (unsigned)LOOP_READ : 0u)
            | (found[i].events & EPOLLOUT ? (unsigned)LOOP_WRITE : 0u)
            | (found[i].events & (EPOLLHUP | EPOLLERR) ? LOOP_BROKEN : 0u);
    }
    l->nready = n < 0 ? 0 : (size_t)n;
    return n >= 0 || errno == EINTR;
}

#else

static bool
loop_wait_open(struct loop *l)
{
    l->epoll_fd = -1;
    return true;
}

static void
loop_wait_close(struct loop *l)
{
    free(l->polled);
    free(l->watches);
    l->polled = NULL;
    l->watches = NULL;
    l->npolled = l->polled_cap = 0;
}

static bool
loop_wait_grow(struct loop *l)
{
    size_t cap = l->polled_cap == 0 ? 64 : l->polled_cap * 2;
    struct pollfd *polled = realloc(l->polled, cap * sizeof *polled);
    struct loop_watch **watches;
    if (polled == NULL)
        return false;
    l->polled = polled;
    watches = realloc(l->watches, cap * sizeof *watches);
    if (watches == NULL)
        return false;
    l->watches = watches;
    l->polled_cap = cap;
    return true;
}

static bool
loop_wait_change(struct loop *l, struct loop_watch *w, unsigned events)
{
    size_t last = l->npolled - 1;
    if (events == 0) {   /* the last one takes the place */
        l->polled[w->slot - 1] = l->polled[last];
        l->watches[w->slot - 1] = l->watches[last];
        l->watches[w->slot - 1]->slot = w->slot;
        l->npolled = last;
        w->slot = 0;
        return true;
    }
    if (w->slot == 0) {
        if (l->npolled == l->polled_cap && !loop_wait_grow(l))
            return false;
        l->watches[l->npolled] = w;
        l->polled[l->npolled] = (struct pollfd){ .fd = w->fd };
        w->slot = ++l->npolled;
    }
    l->polled[w->slot - 1].events
        = (short)((events & LOOP_READ ? POLLIN : 0) | (events & LOOP_WRITE ? POLLOUT : 0));
    return true;
}

static bool
loop_wait(struct loop *l, int wait_ms)
{
    int n = poll(l->polled, (nfds_t)l->npolled, wait_ms);
    size_t at = l->polled_next;
    size_t looked;
    l->nready = 0;
    for (looked = 0; n > 0 && looked < l->npolled && l->nready < LOOP_EVENTS_MAX; looked++, at++) {
        int found;
        at = at < l->npolled ? at : 0;
        found = l->polled[at].revents;
        if (found == 0)
            continue;
        l->ready[l->nready].watch = l->watches[at];
        l->ready[l->nready++].events = (found & POLLIN ? (unsigned)LOOP_READ : 0u)
            | (found & POLLOUT ? (unsigned)LOOP_WRITE : 0u)
            | (found & (POLLHUP | POLLERR | POLLNVAL) ? LOOP_BROKEN : 0u);
    }
    l->polled_next = at;   /* behind the last one served */
    return n >= 0 || errno == EINTR;
}

#endif

/* ---- watches ---- */

/* Watch for `events` from now on: adds, changes, removes (0).  Free when nothing changes.  Removing
 * takes back an event that was still to come in this turn.  False when the system refuses; nothing
 * has changed then.  Removing never fails. */
static bool
loop_watch_set(struct loop *l, struct loop_watch *w, unsigned events)
{
    if (w->events == events)
        return true;
    if (!loop_wait_change(l, w, events))
        return false;
    w->events = events;
    if (events == 0 && w->turn != 0) {
        l->ready[w->turn - 1].watch = NULL;
        w->turn = 0;
    }
    return true;
}

static void
loop_run_ready(struct loop *l)
{
    size_t i;
    for (i = 0; i < l->nready; i++)
        l->ready[i].watch->turn = i + 1;
    for (i = 0; i < l->nready; i++) {
        struct loop_watch *w = l->ready[i].watch;
        unsigned events = l->ready[i].events;
        if (w == NULL)
            continue;
        w->turn = 0;
        /* what was watched at the wait may have been narrowed by an earlier callback */
        events = events & LOOP_BROKEN ? LOOP_READ | LOOP_WRITE : events & w->events;
        if (events != 0)
            w->ready(w, events);
    }
    l->nready = 0;
}

/* ---- timers ---- */

static int64_t
loop_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986): the later of two roots becomes the
 * first child of the earlier one. */
static struct timer *
timer_join(struct timer *a, struct timer *b)
{
    struct timer *top, *below;
    if (a == NULL || b == NULL)
        return a == NULL ? b : a;
    top = b->key < a->key ? b : a;
    below = top == a ? b : a;
    below->prev = top;
    below->next = top->child;
    if (below->next != NULL)
        below->next->prev = below;
    top->child = below;
    return top;
}

/* Make one heap of the children: join them in pairs, then the pairs from the last to the first. */
static struct timer *
timer_join_children(struct timer *child)
{
    struct timer *pairs = NULL;
    struct timer *all = NULL;
    while (child != NULL) {
        struct timer *a = child;
        struct timer *b = a->next;
        child = b == NULL ? NULL : b->next;
        a->next = a->prev = NULL;
        if (b != NULL)
            b->next = b->prev = NULL;
        a = timer_join(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs != NULL) {
        struct timer *a = pairs;
        pairs = a->next;
        a->next = NULL;
        all = timer_join(all, a);
    }
    return all;
}

static bool
timer_armed(const struct timer *t)
{
    return t->armed;
}

static void
timer_insert(struct loop *l, struct timer *t)
{
    t->key = t->due;
    t->child = t->next = t->prev = NULL;
    t->armed = true;
    l->first = timer_join(l->first, t);
}

/* Cancelling a timer that is not armed does nothing. */
static void
timer_cancel(struct loop *l, struct timer *t)
{
    struct timer *below;
    if (!t->armed)
        return;
    below = timer_join_children(t->child);
    if (t->prev == NULL) {
        l->first = below;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next != NULL)
            t->next->prev = t->prev;
        l->first = timer_join(l->first, below);
    }
    t->child = t->next = t->prev = NULL;
    t->armed = false;
}

/* Arm, or move, a timer.  Putting one off only notes the new moment: the idle timer of a busy
 * stream is put off with every stanza, and costs an assignment. */
static void
timer_set(struct loop *l, struct timer *t, int64_t ms_from_now)
{
    int64_t least = l->firing ? 1 : 0;   /* a timer of 0 ms cannot hold the phase for ever */
    int64_t ms = ms_from_now < least ? least : ms_from_now;
    if (!l->turning)
        l->now = loop_clock();   /* between turns nobody else keeps the clock */
    t->due = ms > INT64_MAX - l->now ? INT64_MAX : l->now + ms;
    if (t->armed && t->due >= t->key)
        return;
    timer_cancel(l, t);
    timer_insert(l, t);
}

/* The timer that is due next; NULL for none.  Timers that were put off go where they belong. */
static struct timer *
timer_first(struct loop *l)
{
    while (l->first != NULL && l->first->key < l->first->due) {
        struct timer *t = l->first;
        timer_cancel(l, t);
        timer_insert(l, t);
    }
    return l->first;
}

static void
loop_run_timers(struct loop *l)
{
    struct timer *t;
    l->firing = true;
    while ((t = timer_first(l)) != NULL && t->due <= l->now) {
        timer_cancel(l, t);
        t->fire(t);
    }
    l->firing = false;
}

/* ---- tasks ---- */

/* Run once at the end of this turn; of the next one, between turns and for soon tasks.  Queued
 * already: no change. */
static void
loop_at_end(struct loop *l, struct loop_task *t)
{
    if (!list_linked(&t->node))
        list_append(&l->end, &t->node);
}

/* Run once in the next turn, after everything else.  Queued already: no change. */
static void
loop_soon(struct loop *l, struct loop_task *t)
{
    if (!list_linked(&t->node))
        list_append(&l->soon, &t->node);
}

/* Take a task out of whichever queue it is in; nothing happens when it is in none. */
static void
loop_task_cancel(struct loop_task *t)
{
    list_remove(&t->node);
}

static bool
loop_run_task(struct list_node *queue)
{
    struct loop_task *t;
    if (list_empty(queue))
        return false;
    t = MAP_OWNER(queue->next, struct loop_task, node);
    list_remove(&t->node);
    t->run(t);
    return true;
}

/* At least one a turn, then more as long as they are quick. */
static void
loop_run_soon(struct loop *l)
{
    int64_t until;
    if (list_empty(&l->soon_now))
        return;
    until = loop_clock() + LOOP_SOON_MS;
    while (loop_run_task(&l->soon_now) && loop_clock() < until)
        continue;
}

/* ---- the turn ---- */

static bool
loop_open(struct loop *l)
{
    memset(l, 0, sizeof *l);
    list_init(&l->soon);
    list_init(&l->soon_now);
    list_init(&l->end);
    l->now = loop_clock();
    return loop_wait_open(l);
}

/* What is still watched, armed or queued is forgotten, not called. */
static void
loop_close(struct loop *l)
{
    loop_wait_close(l);
    l->first = NULL;
}

/* Monotonic ms, as of this turn. */
static int64_t
loop_now(const struct loop *l)
{
    return l->now;
}

/* For a main program that has its own loop: this descriptor is readable when a turn has something
 * to do; -1 with poll.  The turn is also due after loop_timeout() ms. */
static int
loop_fd(const struct loop *l)
{
    return l->epoll_fd;
}

/* Ms until the next turn has something to do on its own; -1: only sockets count. */
static int
loop_timeout(struct loop *l)
{
    const struct timer *t = timer_first(l);
    int64_t ms;
    if (!list_empty(&l->soon) || !list_empty(&l->soon_now) || !list_empty(&l->end))
        return 0;
    if (t == NULL)
        return -1;
    ms = t->due - loop_clock();
    return ms <= 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

/* One turn.  Waits at most max_wait_ms for something to do (-1: as long as it takes).  A signal
 * ends the wait like an event.  False: the wait itself failed (errno), nothing was run. */
static bool
loop_step(struct loop *l, int max_wait_ms)
{
    int wait_ms = loop_timeout(l);
    assert(!l->turning);
    if (wait_ms < 0 || (max_wait_ms >= 0 && max_wait_ms < wait_ms))
        wait_ms = max_wait_ms;
    while (!list_empty(&l->soon)) {
        struct list_node *n = l->soon.next;
        list_remove(n);
        list_append(&l->soon_now, n);
    }
    if (!loop_wait(l, wait_ms))
        return false;
    l->turning = true;
    l->now = loop_clock();
    loop_run_ready(l);
    loop_run_timers(l);
    while (loop_run_task(&l->end))
        continue;
    loop_run_soon(l);
    l->turning = false;
    return true;
}

/* ===========================================================================
 * [DNS]   dns_           from a domain to the addresses of its server, in the order to try them
 * calls:  BASE BUF WHY MAP LOG LOOP
 *
 *   find_servers:   _xmpps-server._tcp  (direct TLS) --+
 *                                                      +--> one list, by  ---> AAAA and A  --> done
 *                   _xmpp-server._tcp   (STARTTLS)   --+    priority and  ^    of each host
 *                                                           weight        |
 *   find_host, find_address:  --------------------------------------------+
 *
 * What the two SRV answers mean together (RFC 6120 3.2, RFC 2782, XEP-0368):
 *
 *   records in any of them       those records, both kinds mixed as if they were one answer
 *   target "." in any, none else the domain offers no service: DNS_NO_SERVICE, and no fall-back
 *   none in both                 the domain itself, port 5269
 *   otherwise                    somebody did not answer, or not with sense: DNS_FAILED.  With a
 *                                fall-back, whoever can drop a packet could choose the server
 *
 * A question that is still open DNS_PATIENCE_MS after there is something to work with is left
 * behind: name servers that never answer one of two types are common, and the other answer must
 * not wait for them.
 *
 * A query is done exactly once, from the loop and never from within the call that asked, and not
 * at all after dns_cancel().  c-ares cannot forget a single question, so a query stays in memory
 * until all of its questions have come back (`open`), whatever its owner does.
 *
 * Names from the network never meet the hosts file: it answers for what the configuration names.
 * Each target says what of it the configuration has given; where the rest may lead is [REACH].
 *
 * This is the only section that names c-ares.  Its sockets are watched by our loop and its clock
 * is one of our timers.
 *
 * Costs: a query is 14 KiB until its last answer, one for each connection or link that asks; two
 * questions for SRV records, two for each host.
 * Not done: a cache.  The resolver next door has one and knows the times to live.  DNSSEC: its
 * proof ends at the resolver; who speaks for a domain is decided by certificates and dialback.
 * ======================================================================== */

#include <sys/select.h>   /* for <ares.h> */
#include <sys/time.h>
#include <ares.h>

#define DNS_UDP_BYTES     1232  /* largest answer by UDP (EDNS) that is never cut into fragments */
#define DNS_SERVER_PORT   5269  /* when there is no SRV record (RFC 6120 3.2.2) */

struct dns_server {
    char     address[CONN_TEXT_MAX];  /* IPv4 or IPv6, without brackets */
    unsigned port;                    /* 0: 53 */
};

struct dns_options {
    struct dns_server servers[DNS_SERVERS_MAX];
    size_t            nservers;     /* 0: those of the system */
    int               timeout_ms;   /* first wait for a name server; doubles with every try */
    int               tries;        /* questions put to each name server */
};

/* Which kinds of SRV record count. */
enum dns_tls { DNS_TLS_ANY, DNS_TLS_STARTTLS_ONLY, DNS_TLS_DIRECT_ONLY };

/* One address to try. */
struct dns_target {
    struct sockaddr_storage addr;       /* port included */
    socklen_t               addr_len;
    bool                    direct_tls; /* TLS from the first byte (XEP-0368) */
    char                    host[DNS_NAME_MAX + 1];  /* whose it is; not the name to verify */
    uint16_t                priority;   /* of its SRV record; 0 without one */
    unsigned                given;      /* by the configuration or the hosts file: REACH_*_GIVEN */
};

/* What becomes of a query.  XE_WHY_NONE comes with n > 0 targets in the order to try them, valid
 * during the call; DNS_NOT_FOUND, DNS_NO_SERVICE and DNS_FAILED come with none, as does
 * ADDRESS_REFUSED, when the configuration leads to addresses that nobody has.  The query is over
 * with this call: its handle must not be used any more. */
struct dns_events {
    void (*done)(void *user, enum xe_why why, const struct dns_target *targets, size_t n);
};

struct dns_query;

/* One SRV record. */
struct dns_srv {
    uint16_t priority;
    uint16_t weight;
    uint16_t port;
    bool     direct_tls;   /* found at _xmpps-server */
    char     host[DNS_NAME_MAX + 1];
};

enum dns_answer {
    DNS_UNASKED,
    DNS_WAITING,
    DNS_SOME,      /* usable records */
    DNS_NONE,      /* the name does not exist or has no such record */
    DNS_REFUSED,   /* target ".": decidedly not here; or addresses that nobody has */
    DNS_BROKEN     /* no answer, an error, nonsense, or too late */
};

/* The question for the SRV records of one kind. */
struct dns_service {
    struct dns_query *query;
    enum dns_answer   answer;
    bool              direct_tls;
    size_t            n;       /* records in its half of dns_query.srv */
};

/* The question for the addresses of one host and family. */
struct dns_family {
    struct dns_query *query;
    enum dns_answer   answer;
    const char       *host;    /* borrowed from the query */
    int               family;  /* AF_INET6 or AF_INET */
    bool              refused; /* some address that nobody has */
    size_t            n;
    unsigned char     bytes[DNS_ADDRESSES_MAX][16];   /* network byte order; IPv4 uses four */
};

struct dns_host {
    struct dns_family v6, v4;
    unsigned          given;   /* REACH_ADDRESS_GIVEN: by the hosts file, or as an address */
};

enum dns_stage { DNS_ASKS_SRV, DNS_ASKS_HOSTS, DNS_OVER };

struct dns_query {
    struct dns              *dns;
    struct list_node         node;      /* in dns.queries until it is over */
    const struct dns_events *events;    /* borrowed */
    void                    *user;
    struct log_party         party;     /* for whom it is asked */
    enum dns_stage           stage;
    bool                     configured;  /* the configuration names it */
    unsigned                 open;      /* questions that c-ares still holds */
    struct timer             timer;     /* go on with what is there */
    char                     domain[DNS_NAME_MAX + 1];   /* what was asked for, lower case */
    struct dns_service       services[2];
    struct dns_srv           srv[2 * DNS_SRV_MAX];       /* a half for each service, then merged */
    size_t                   nsrv;
    bool                     from_srv;  /* the list is from SRV records, not from the caller */
    struct dns_host          hosts[DNS_SRV_MAX];         /* each name once */
    size_t                   nhosts;
};

struct dns_socket {
    struct loop_watch watch;
    struct dns       *dns;
    struct list_node  node;   /* in dns.sockets */
};

struct dns {
    struct loop     *loop;       /* borrowed */
    struct log      *log;        /* borrowed, may be NULL */
    ares_channel     channel;    /* owned */
    char             servers[DNS_SERVERS_MAX * 64]; /* for the log; "" for the system's */
    struct timer     timer;      /* when c-ares wants to look at its own clock */
    struct list_node queries;
    struct list_node sockets;
    size_t           nsockets;
    uint64_t         random;     /* state of dns_random() */
};

/* ---- names ---- */

/* Copy a host name in lower case, without a dot at its end.  False for what cannot be the name of a
 * host: only letters, digits, - and _ in labels of 1 to 63; IPv4 addresses are no names. */
static bool
dns_name_copy(char out[DNS_NAME_MAX + 1], struct xe_span name)
{
    size_t label = 0;
    bool number = true;   /* the last label is all digits */
    size_t i;
    if (name.len > 0 && name.at[name.len - 1] == '.')
        name.len--;
    if (name.len > DNS_NAME_MAX)
        return false;
    for (i = 0; i < name.len; i++) {
        char c = text_lower(name.at[i]);
        if (c == '.' ? label == 0 : label == JID_LABEL_MAX)
            return false;
        if (c != '.' && c != '-' && c != '_' && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            return false;
        number = c == '.' ? true : number && c >= '0' && c <= '9';
        label = c == '.' ? 0 : label + 1;
        out[i] = c;
    }
    out[name.len] = '\0';
    return label > 0 && !number;
}

/* ---- reading an SRV answer ---- */

/* A DNS message (RFC 1035 4.1) being read.  Reading past the end sets `bad` and gives zeros. */
struct dns_message {
    const unsigned char *bytes;   /* borrowed */
    size_t               len;
    size_t               at;
    bool                 bad;
};

static unsigned
dns_message_u16(struct dns_message *m)
{
    unsigned n;
    if (m->bad || m->len - m->at < 2) {
        m->bad = true;
        return 0;
    }
    n = (unsigned)m->bytes[m->at] << 8 | m->bytes[m->at + 1];
    m->at += 2;
    return n;
}

static void
dns_message_skip(struct dns_message *m, size_t n)
{
    if (m->bad || m->len - m->at < n)
        m->bad = true;
    else
        m->at += n;
}

/* Read a name, in lower case; "" is the root.  A name that is well-formed but too strange for a
 * host is read as "?", which is equal to no name. */
static void
dns_message_name(struct dns_message *m, char out[DNS_NAME_MAX + 1])
{
    char *name = NULL;
    long used = 0;
    out[0] = '\0';
    m->bad = m->bad || m->at >= m->len
        || ares_expand_name(m->bytes + m->at, m->bytes, (int)m->len, &name, &used) != ARES_SUCCESS;
    if (m->bad)
        return;
    if (name[0] != '\0' && !dns_name_copy(out, span_of(name)))
        memcpy(out, "?", 2);
    ares_free_string(name);
    dns_message_skip(m, (size_t)used);
}

/* The content of an SRV record, put at out[*n] if it can be used.  A target of "." is refusal. */
static enum dns_answer
dns_read_srv_record(struct dns_message *m, size_t len, struct dns_srv *out, size_t *n)
{
    struct dns_srv *srv = &out[*n];
    size_t end = m->at + len;
    struct dns_srv got;
    memset(&got, 0, sizeof got);
    got.priority = (uint16_t)dns_message_u16(m);
    got.weight = (uint16_t)dns_message_u16(m);
    got.port = (uint16_t)dns_message_u16(m);
    dns_message_name(m, got.host);
    if (m->bad || m->at > end)
        return DNS_BROKEN;
    if (got.host[0] == '\0')
        return DNS_REFUSED;
    if (got.port == 0 || got.host[0] == '?')
        return DNS_BROKEN;
    if (*n == DNS_SRV_MAX)
        return DNS_SOME;
    *srv = got;
    (*n)++;
    return DNS_SOME;
}

/* The part of a resource record before its content. */
struct dns_record {
    char     owner[DNS_NAME_MAX + 1];
    unsigned type;
    unsigned class;
    size_t   len;    /* bytes of the content */
    size_t   next;   /* where the next record begins */
};

static bool
dns_message_record(struct dns_message *m, struct dns_record *r)
{
    dns_message_name(m, r->owner);
    r->type = dns_message_u16(m);
    r->class = dns_message_u16(m);
    dns_message_skip(m, 4);   /* time to live */
    r->len = dns_message_u16(m);
    if (m->bad || m->len - m->at < r->len)
        m->bad = true;
    r->next = m->at + r->len;
    return !m->bad;
}

/* Read the SRV records that a message holds for `asked` (lower case) into out[DNS_SRV_MAX].  Those
 * of other names are ignored, unless a CNAME leads to them.  Single records without sense are left
 * out; when nothing else is there, the answer is broken. */
static enum dns_answer
dns_read_srv(const unsigned char *bytes, size_t len, const char *asked, struct dns_srv *out,
    size_t *n)
{
    enum { TYPE_CNAME = 5, TYPE_SRV = 33, CLASS_IN = 1 };
    struct dns_message m = { bytes, len, 4, len < 12 };   /* behind id and flags */
    unsigned questions = dns_message_u16(&m);
    unsigned answers = dns_message_u16(&m);
    unsigned aliases = 0;
    char name[DNS_NAME_MAX + 1];
    struct dns_record r;
    enum dns_answer all = DNS_NONE;
    size_t asked_len = strlen(asked);
    *n = 0;
    if (asked_len >= sizeof name)
        return DNS_NONE;   /* RFC 1035 2.3.4: there is no name that long */
    memcpy(name, asked, asked_len + 1);
    dns_message_skip(&m, 4);
    for (; questions > 0 && !m.bad; questions--) {
        dns_message_name(&m, r.owner);
        dns_message_skip(&m, 4);
    }
    for (; answers > 0 && dns_message_record(&m, &r); answers--) {
        bool ours = r.class == CLASS_IN && strcmp(r.owner, name) == 0;
        if (ours && r.type == TYPE_CNAME) {
            dns_message_name(&m, name);
            m.bad = m.bad || name[0] == '?' || aliases++ == DNS_ALIASES_MAX;
        } else if (ours && r.type == TYPE_SRV) {
            enum dns_answer one = dns_read_srv_record(&m, r.len, out, n);
            if (all == DNS_NONE || one == DNS_SOME)
                all = one;
        }
        m.at = r.next;
    }
    if (*n > 0)
        return DNS_SOME;
    return m.bad || answers > 0 ? DNS_BROKEN : all;
}

/* ---- order ---- */

/* A number in 0..most, from 32 random bits. */
static uint32_t
dns_draw(uint32_t (*draw)(void *user), void *user, uint32_t most)
{
    return (uint32_t)((uint64_t)draw(user) * ((uint64_t)most + 1) >> 32);
}

static void
dns_swap(struct dns_srv *a, struct dns_srv *b)
{
    struct dns_srv c = *a;
    *a = *b;
    *b = c;
}

/* RFC 2782, "Weight", for records of one priority: the first is drawn with chances in proportion to
 * the weights, then the second from the rest, and so on.  Weights of 0 come first before each draw,
 * so that they have a small chance beside others; among themselves their order is random. */
static void
dns_order_weights(struct dns_srv *list, size_t n, uint32_t (*draw)(void *user), void *user)
{
    size_t i;
    for (i = 0; i + 1 < n; i++)
        dns_swap(&list[i], &list[i + dns_draw(draw, user, (uint32_t)(n - i - 1))]);
    for (; n > 1; list++, n--) {
        uint32_t sum = 0, drawn, zeros = 0;
        for (i = 0; i < n; i++) {
            sum += list[i].weight;
            if (list[i].weight == 0)
                dns_swap(&list[i], &list[zeros++]);
        }
        drawn = dns_draw(draw, user, sum);
        for (i = 0, sum = list[0].weight; sum < drawn; sum += list[i].weight)
            i++;
        dns_swap(&list[0], &list[i]);
    }
}

/* Bring SRV records into the order in which they are to be tried: lowest priority first. */
static void
dns_order(struct dns_srv *list, size_t n, uint32_t (*draw)(void *user), void *user)
{
    size_t i, j;
    for (i = 1; i < n; i++)
        for (j = i; j > 0 && list[j].priority < list[j - 1].priority; j--)
            dns_swap(&list[j], &list[j - 1]);
    for (i = 0; i < n; i = j) {
        for (j = i + 1; j < n && list[j].priority == list[i].priority; j++)
            continue;
        dns_order_weights(list + i, j - i, draw, user);
    }
}

/* SplitMix64 (Steele, Lea, Flood 2014): spreads load, guards nothing. */
static uint32_t
dns_random(void *user)
{
    struct dns *d = user;
    uint64_t x = d->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((x ^ x >> 31) >> 32);
}

/* ---- the result ---- */

/* Nobody's server, though the configuration says so: the unspecified address and multicast. */
static bool
dns_address_is_usable(int family, const unsigned char *bytes)
{
    static const unsigned char zeros[16];
    if (family == AF_INET6)
        return bytes[0] != 0xff && memcmp(bytes, zeros, 16) != 0;
    return bytes[0] != 0 && bytes[0] < 224;
}

static void
dns_target_make(struct dns_target *t, const struct dns_srv *srv, int family,
    const unsigned char *bytes, unsigned given)
{
    memset(t, 0, sizeof *t);
    if (family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&t->addr;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(srv->port);
        memcpy(&in6->sin6_addr, bytes, 16);
        t->addr_len = sizeof *in6;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)&t->addr;
        in->sin_family = AF_INET;
        in->sin_port = htons(srv->port);
        memcpy(&in->sin_addr, bytes, 4);
        t->addr_len = sizeof *in;
    }
    t->direct_tls = srv->direct_tls;
    t->priority = srv->priority;
    t->given = given;
    memcpy(t->host, srv->host, sizeof t->host);
}

/* Append unless it is there already or the list is full. */
static size_t
dns_target_add(struct dns_target *list, size_t n, const struct dns_target *t)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (list[i].direct_tls == t->direct_tls && list[i].addr_len == t->addr_len
            && memcmp(&list[i].addr, &t->addr, t->addr_len) == 0)
            return n;
    if (n < DNS_TARGETS_MAX)
        list[n++] = *t;
    return n;
}

static struct dns_host *
dns_host_find(struct dns_query *q, const char *name)
{
    size_t i;
    for (i = 0; i < q->nhosts; i++)
        if (strcmp(q->hosts[i].v6.host, name) == 0)
            return &q->hosts[i];
    return NULL;
}

/* The addresses of all hosts in the order of their records; those of one host take turns, IPv6
 * first (RFC 8305 4, XEP-0495). */
static size_t
dns_collect(struct dns_query *q, struct dns_target list[DNS_TARGETS_MAX])
{
    size_t n = 0;
    size_t i, j;
    for (i = 0; i < q->nsrv; i++) {
        const struct dns_host *host = dns_host_find(q, q->srv[i].host);
        unsigned given = q->configured ? REACH_PORT_GIVEN | host->given : 0;
        struct dns_target t;
        size_t had = n;
        for (j = 0; j < DNS_ADDRESSES_MAX && n - had < DNS_ADDRESSES_MAX; j++) {
            if (j < host->v6.n) {
                dns_target_make(&t, &q->srv[i], AF_INET6, host->v6.bytes[j], given);
                n = dns_target_add(list, n, &t);
            }
            if (j < host->v4.n && n - had < DNS_ADDRESSES_MAX) {
                dns_target_make(&t, &q->srv[i], AF_INET, host->v4.bytes[j], given);
                n = dns_target_add(list, n, &t);
            }
        }
    }
    return n;
}

/* ---- the life of a query ---- */

static void
dns_query_leave(struct dns_query *q)
{
    if (q->stage != DNS_OVER) {
        list_remove(&q->node);
        timer_cancel(q->dns->loop, &q->timer);
        q->stage = DNS_OVER;
    }
    if (q->open == 0)
        free(q);
}

/* A question came back.  True when the query still cares. */
static bool
dns_query_answered(struct dns_query *q, enum dns_answer waited)
{
    q->open--;
    if (q->stage != DNS_OVER)
        return waited == DNS_WAITING;
    dns_query_leave(q);
    return false;
}

static void
dns_query_finish(struct dns_query *q, enum xe_why why, const struct dns_target *targets, size_t n)
{
    struct log *log = q->dns->log;
    if (log_begin(log, LOG_DEBUG, "dns-done", span_of(q->domain))) {
        log_text(log, "domain", q->domain);
        log_text(log, "why", xe_why(why)->word);
        log_int(log, "srv", q->from_srv ? (int64_t)q->nsrv : 0);
        log_int(log, "targets", (int64_t)n);
        log_end(log);
    }
    q->open++;   /* the owner may close DNS from here */
    dns_query_leave(q);
    q->events->done(q->user, why, targets, n);
    q->open--;
    dns_query_leave(q);
}

/* Go on when the loop comes round if nothing is waited for, and soon if something is there. */
static void
dns_query_settle(struct dns_query *q, size_t waiting, size_t usable)
{
    if (waiting == 0)
        timer_set(q->dns->loop, &q->timer, 0);
    else if (usable > 0 && !timer_armed(&q->timer))
        timer_set(q->dns->loop, &q->timer, DNS_PATIENCE_MS);
}

/* Wake up when c-ares wants to look at its own clock.  To be called when it was given something
 * to do. */
static void
dns_clock(struct dns *d)
{
    struct timeval tv;
    if (ares_timeout(d->channel, NULL, &tv) == NULL)
        timer_cancel(d->loop, &d->timer);
    else
        timer_set(d->loop, &d->timer, (int64_t)tv.tv_sec * 1000 + tv.tv_usec / 1000 + 1);
}

/* ---- addresses ---- */

static size_t
dns_families_with(const struct dns_query *q, enum dns_answer answer)
{
    size_t n = 0;
    size_t i;
    for (i = 0; i < q->nhosts; i++)
        n += (size_t)(q->hosts[i].v6.answer == answer) + (size_t)(q->hosts[i].v4.answer == answer);
    return n;
}

static void
dns_finish_hosts(struct dns_query *q)
{
    struct dns_target targets[DNS_TARGETS_MAX];
    size_t n = dns_collect(q, targets);
    enum xe_why why = XE_WHY_NONE;
    if (n == 0)
        why = dns_families_with(q, DNS_BROKEN) + dns_families_with(q, DNS_WAITING) > 0
            ? XE_WHY_DNS_FAILED : dns_families_with(q, DNS_REFUSED) > 0 ? XE_WHY_ADDRESS_REFUSED
            : XE_WHY_DNS_NOT_FOUND;
    dns_query_finish(q, why, targets, n);
}

/* Add one address: 16 or 4 bytes, as the family has them. */
static void
dns_family_add(struct dns_family *f, const void *address)
{
    if (f->query->configured && !dns_address_is_usable(f->family, address))
        f->refused = true;
    else if (f->n < DNS_ADDRESSES_MAX)
        memcpy(f->bytes[f->n++], address, f->family == AF_INET6 ? 16 : 4);
}

/* All addresses of the answer have been added. */
static enum dns_answer
dns_family_outcome(const struct dns_family *f)
{
    return f->n > 0 ? DNS_SOME : f->refused ? DNS_REFUSED : DNS_NONE;
}

static void
dns_family_add_sockaddr(struct dns_family *f, const struct sockaddr *addr)
{
    if (addr == NULL || addr->sa_family != f->family)
        return;
    if (f->family == AF_INET6)
        dns_family_add(f, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
    else
        dns_family_add(f, &((const struct sockaddr_in *)(const void *)addr)->sin_addr);
}

/* RFC 2782: the target of an SRV record must not be an alias.  It works all the same, but somebody
 * should know. */
static void
dns_log_alias(const struct dns_family *f, const struct ares_addrinfo *found)
{
    struct dns_query *q = f->query;
    if (!q->from_srv || f->family != AF_INET || found->cnames == NULL)
        return;
    if (log_begin_about(q->dns->log, LOG_INFO, "dns-target-is-alias", &q->party,
        span_of(q->domain))) {
        log_text(q->dns->log, "domain", q->domain);
        log_text(q->dns->log, "target", f->host);
        log_text(q->dns->log, "canonical", found->cnames->name);
        log_end(q->dns->log);
    }
}

static void
dns_family_answer(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    struct dns_family *f = arg;
    struct dns_query *q = f->query;
    const struct ares_addrinfo_node *node = found == NULL ? NULL : found->nodes;
    (void)timeouts;
    if (dns_query_answered(q, f->answer)) {
        for (; status == ARES_SUCCESS && node != NULL; node = node->ai_next)
            dns_family_add_sockaddr(f, node->ai_addr);
        if (found != NULL)
            dns_log_alias(f, found);
        f->answer = status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND
            ? dns_family_outcome(f) : DNS_BROKEN;
        dns_query_settle(q, dns_families_with(q, DNS_WAITING), dns_families_with(q, DNS_SOME));
    }
    if (found != NULL)
        ares_freeaddrinfo(found);
}

static void
dns_family_ask(struct dns_family *f)
{
    struct ares_addrinfo_hints hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = f->family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = ARES_AI_NOSORT | ARES_AI_CANONNAME;
    f->query->open++;
    ares_getaddrinfo(f->query->dns->channel, f->host, NULL, &hints, dns_family_answer, f);
}

/* Look into the hosts file; true when the name is there with an address of this family. */
static bool
dns_family_look(struct dns_family *f)
{
    struct hostent *found = NULL;
    size_t i;
    if (ares_gethostbyname_file(f->query->dns->channel, f->host, f->family, &found) != ARES_SUCCESS)
        return false;
    for (i = 0; found->h_addr_list[i] != NULL; i++)
        dns_family_add(f, found->h_addr_list[i]);
    ares_free_hostent(found);
    return true;
}

/* The hosts file comes before DNS, and a name that it knows in one family is not asked for. */
static void
dns_host_look(struct dns_host *host)
{
    bool v6 = dns_family_look(&host->v6);
    bool v4 = dns_family_look(&host->v4);
    if (!v6 && !v4)
        return;
    host->given = REACH_ADDRESS_GIVEN;
    host->v6.answer = dns_family_outcome(&host->v6);
    host->v4.answer = dns_family_outcome(&host->v4);
}

static void
dns_host_add(struct dns_query *q, const char *name)
{
    struct dns_family fresh = { .query = q, .answer = DNS_WAITING, .host = name };
    struct dns_host *host;
    if (dns_host_find(q, name) != NULL)
        return;
    host = &q->hosts[q->nhosts++];
    host->v6 = host->v4 = fresh;
    host->v6.family = AF_INET6;
    host->v4.family = AF_INET;
}

static void
dns_ask_hosts(struct dns_query *q)
{
    size_t i;
    q->stage = DNS_ASKS_HOSTS;
    for (i = 0; i < q->nsrv; i++)
        dns_host_add(q, q->srv[i].host);
    for (i = 0; i < q->nhosts && q->configured; i++)
        dns_host_look(&q->hosts[i]);
    dns_query_settle(q, dns_families_with(q, DNS_WAITING), dns_families_with(q, DNS_SOME));
    for (i = 0; i < q->nhosts; i++) {
        if (q->hosts[i].v6.answer != DNS_WAITING)
            continue;
        dns_family_ask(&q->hosts[i].v6);   /* may answer at once: both wait already */
        dns_family_ask(&q->hosts[i].v4);
    }
    dns_clock(q->dns);
}

/* An IPv4 address, or an IPv6 address with or without brackets; 0 when the text is neither. */
static int
dns_literal(const char *text, unsigned char bytes[16])
{
    struct xe_span s = span_of(text);
    char bare[INET6_ADDRSTRLEN];
    memset(bytes, 0, 16);
    if (inet_pton(AF_INET, text, bytes) == 1)
        return AF_INET;
    if (s.len > 2 && s.at[0] == '[' && s.at[s.len - 1] == ']')
        s = span_make(s.at + 1, s.len - 2);
    if (s.len >= sizeof bare)
        return 0;
    memcpy(bare, s.at, s.len);
    bare[s.len] = '\0';
    return inet_pton(AF_INET6, bare, bytes) == 1 ? AF_INET6 : 0;
}

/* Ask for the one host that the caller has named, or that stands in for missing SRV records.  An
 * address needs no question (RFC 6120 3.1), only the form of an answer. */
static void
dns_ask_host(struct dns_query *q, uint16_t port, bool direct_tls)
{
    struct dns_family *f;
    unsigned char bytes[16];
    int family = dns_literal(q->domain, bytes);
    memset(&q->srv[0], 0, sizeof q->srv[0]);
    memcpy(q->srv[0].host, q->domain, sizeof q->domain);
    q->srv[0].port = port;
    q->srv[0].direct_tls = direct_tls;
    q->nsrv = 1;
    if (family == 0) {
        dns_ask_hosts(q);
        return;
    }
    q->stage = DNS_ASKS_HOSTS;
    dns_host_add(q, q->srv[0].host);
    f = family == AF_INET6 ? &q->hosts[0].v6 : &q->hosts[0].v4;
    q->hosts[0].given = REACH_ADDRESS_GIVEN;
    q->hosts[0].v6.answer = q->hosts[0].v4.answer = DNS_NONE;
    dns_family_add(f, bytes);
    f->answer = dns_family_outcome(f);
    dns_query_settle(q, 0, f->n);
}

/* ---- SRV records ---- */

static size_t
dns_services_with(const struct dns_query *q, enum dns_answer answer)
{
    return (size_t)(q->services[0].answer == answer) + (size_t)(q->services[1].answer == answer);
}

/* The name under which the records of a kind are found. */
static void
dns_service_name(const struct dns_service *s, char out[DNS_NAME_MAX + 32])
{
    snprintf(out, DNS_NAME_MAX + 32, "%s._tcp.%s", s->direct_tls ? "_xmpps-server" : "_xmpp-server",
        s->query->domain);
}

static void
dns_log_broken(const struct dns_service *s, const char *problem)
{
    struct dns_query *q = s->query;
    if (log_begin_about(q->dns->log, LOG_INFO, "dns-bad-answer", &q->party,
        span_of(q->domain))) {
        log_text(q->dns->log, "domain", q->domain);
        log_text(q->dns->log, "service", s->direct_tls ? "_xmpps-server" : "_xmpp-server");
        log_text(q->dns->log, "problem", problem);
        log_text(q->dns->log, "resolver", q->dns->servers[0] != '\0' ? q->dns->servers
            : "/etc/resolv.conf");
        log_end(q->dns->log);
    }
}

/* One service has its answer; `bytes` is the message when the status is ARES_SUCCESS. */
static void
dns_service_answer(struct dns_service *s, int status, const unsigned char *bytes, size_t len)
{
    struct dns_query *q = s->query;
    struct dns_srv *srv = &q->srv[s->direct_tls ? 0 : DNS_SRV_MAX];
    char name[DNS_NAME_MAX + 32];
    size_t i;
    if (!dns_query_answered(q, s->answer))
        return;
    dns_service_name(s, name);
    if (status == ARES_SUCCESS && bytes != NULL)
        s->answer = dns_read_srv(bytes, len, name, srv, &s->n);
    else if (status == ARES_ENODATA || status == ARES_ENOTFOUND || status == ARES_EBADNAME)
        s->answer = DNS_NONE;   /* EBADNAME: too long to exist with the service in front */
    else
        s->answer = DNS_BROKEN;
    if (s->answer == DNS_BROKEN)
        dns_log_broken(s, status == ARES_SUCCESS ? "not understood" : ares_strerror(status));
    for (i = 0; i < s->n; i++)
        srv[i].direct_tls = s->direct_tls;
    dns_query_settle(q, dns_services_with(q, DNS_WAITING), dns_services_with(q, DNS_SOME));
}

/* The one place where versions of c-ares differ: 1.28 has replaced the callback with a message by
 * one with a parsed record.  It is written back as a message, so that one reader serves both. */
#if ARES_VERSION >= 0x011c00

static void
dns_service_reply(void *arg, ares_status_t status, size_t timeouts, const ares_dns_record_t *record)
{
    unsigned char *bytes = NULL;
    size_t len = 0;
    (void)timeouts;
    if (status == ARES_SUCCESS && record != NULL)
        status = ares_dns_write(record, &bytes, &len);
    dns_service_answer(arg, (int)status, bytes, len);
    ares_free_string(bytes);
}

static void
dns_service_send(struct dns_service *s, const char *name)
{
    ares_query_dnsrec(s->query->dns->channel, name, ARES_CLASS_IN, ARES_REC_TYPE_SRV,
        dns_service_reply, s, NULL);
}

#else

static void
dns_service_reply(void *arg, int status, int timeouts, unsigned char *bytes, int len)
{
    (void)timeouts;
    dns_service_answer(arg, status, bytes, len < 0 ? 0 : (size_t)len);
}

static void
dns_service_send(struct dns_service *s, const char *name)
{
    ares_query(s->query->dns->channel, name, 1 /* IN */, 33 /* SRV */, dns_service_reply, s);
}

#endif

static void
dns_service_ask(struct dns_service *s)
{
    char name[DNS_NAME_MAX + 32];
    if (s->answer != DNS_WAITING)
        return;
    dns_service_name(s, name);
    s->query->open++;
    dns_service_send(s, name);
}

/* Put both answers into one list (XEP-0368) in the order to be tried. */
static void
dns_merge(struct dns_query *q)
{
    size_t direct = q->services[0].n;
    size_t starttls = q->services[1].n;
    memmove(&q->srv[direct], &q->srv[DNS_SRV_MAX], starttls * sizeof q->srv[0]);
    q->nsrv = direct + starttls;
    dns_order(q->srv, q->nsrv, dns_random, q->dns);
    if (q->nsrv > DNS_SRV_MAX)
        q->nsrv = DNS_SRV_MAX;
    q->from_srv = true;
}

/* The SRV answers are in, or waited for long enough: the table at the top of this section. */
static void
dns_finish_srv(struct dns_query *q)
{
    bool waiting = dns_services_with(q, DNS_WAITING) > 0;
    size_t i;
    for (i = 0; i < 2; i++)
        if (q->services[i].answer == DNS_WAITING) {
            q->services[i].answer = DNS_BROKEN;
            dns_log_broken(&q->services[i], "late");
        }
    if (dns_services_with(q, DNS_SOME) > 0) {
        dns_merge(q);
        dns_ask_hosts(q);
    } else if (waiting || dns_services_with(q, DNS_BROKEN) > 0) {
        dns_query_finish(q, XE_WHY_DNS_FAILED, NULL, 0);
    } else if (dns_services_with(q, DNS_REFUSED) > 0) {
        dns_query_finish(q, XE_WHY_DNS_NO_SERVICE, NULL, 0);
    } else if (q->services[1].answer == DNS_NONE) {
        dns_ask_host(q, DNS_SERVER_PORT, false);
    } else {   /* only direct TLS would do, and that has no port of its own */
        dns_query_finish(q, XE_WHY_DNS_NOT_FOUND, NULL, 0);
    }
}

/* ---- c-ares in our loop ---- */

static void
dns_tick(struct timer *t)
{
    struct dns *d = MAP_OWNER(t, struct dns, timer);
    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    dns_clock(d);
}

/* c-ares may close the socket in here, which frees `w`. */
static void
dns_socket_ready(struct loop_watch *w, unsigned events)
{
    struct dns *d = MAP_OWNER(w, struct dns_socket, watch)->dns;
    int fd = w->fd;
    ares_process_fd(d->channel, events & LOOP_READ ? fd : ARES_SOCKET_BAD,
        events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
    dns_clock(d);
}

static struct dns_socket *
dns_socket_find(struct dns *d, int fd)
{
    struct list_node *n;
    for (n = d->sockets.next; n != &d->sockets; n = n->next)
        if (MAP_OWNER(n, struct dns_socket, node)->watch.fd == fd)
            return MAP_OWNER(n, struct dns_socket, node);
    return NULL;
}

static struct dns_socket *
dns_socket_add(struct dns *d, int fd)
{
    struct dns_socket *s = d->nsockets < DNS_SOCKETS_MAX ? calloc(1, sizeof *s) : NULL;
    if (s == NULL)
        return NULL;
    s->dns = d;
    s->watch.fd = fd;
    s->watch.ready = dns_socket_ready;
    list_append(&d->sockets, &s->node);
    d->nsockets++;
    return s;
}

static void
dns_socket_drop(struct dns_socket *s)
{
    loop_watch_set(s->dns->loop, &s->watch, 0);
    list_remove(&s->node);
    s->dns->nsockets--;
    free(s);
}

/* c-ares tells what it wants to know about a socket; nothing any more before it closes it.  A
 * socket that cannot be watched is not heard, and its questions time out. */
static void
dns_socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
    struct dns *d = user;
    struct dns_socket *s = dns_socket_find(d, fd);
    unsigned events =
        (readable ? (unsigned)LOOP_READ : 0u) | (writable ? (unsigned)LOOP_WRITE : 0u);
    if (events == 0) {
        if (s != NULL)
            dns_socket_drop(s);
        return;
    }
    if (s == NULL)
        s = dns_socket_add(d, fd);
    if (s == NULL || !loop_watch_set(d->loop, &s->watch, events)) {
        log_begin(d->log, LOG_ERROR, "dns-socket-failed", span_of("dns"));
        log_end(d->log);
    }
}

/* ---- asking ---- */

static void
dns_query_go_on(struct timer *t)
{
    struct dns_query *q = MAP_OWNER(t, struct dns_query, timer);
    if (q->stage == DNS_ASKS_SRV)
        dns_finish_srv(q);
    else
        dns_finish_hosts(q);
}

/* NULL when memory is out.  A domain that can be none is "" in it: nothing is to be asked, and the
 * query ends by itself with DNS_NOT_FOUND.  There are as many queries as connections and links that
 * ask: their ceilings hold. */
static struct dns_query *
dns_query_new(struct dns *d, const char *domain, const struct log_party *party,
    const struct dns_events *events, void *user)
{
    struct dns_query *q = calloc(1, sizeof *q);
    unsigned char bytes[16];
    if (q == NULL)
        return NULL;
    q->dns = d;
    q->events = events;
    q->user = user;
    q->party = *party;
    q->timer.fire = dns_query_go_on;
    list_append(&d->queries, &q->node);
    if (dns_literal(domain, bytes) != 0) {
        snprintf(q->domain, sizeof q->domain, "%s", domain);
    } else if (!dns_name_copy(q->domain, span_of(domain))) {
        q->domain[0] = '\0';
        q->stage = DNS_ASKS_HOSTS;   /* of which there are none */
        dns_query_settle(q, 0, 0);
    }
    return q;
}

/* Look for the servers of an XMPP domain.  An address in place of a name has no SRV records: it is
 * answered with its port 5269.  Names are to be given as DNS knows them (A-labels).  The lines of
 * the log are those of `party`. */
static struct dns_query *
dns_find_servers(struct dns *d, const char *domain, enum dns_tls tls,
    const struct log_party *party, const struct dns_events *events, void *user)
{
    unsigned char bytes[16];
    struct dns_query *q = dns_query_new(d, domain, party, events, user);
    if (q == NULL || q->domain[0] == '\0')
        return q;
    if (dns_literal(domain, bytes) != 0) {
        dns_ask_host(q, DNS_SERVER_PORT, tls == DNS_TLS_DIRECT_ONLY);
        return q;
    }
    q->services[0] = (struct dns_service){ .query = q, .direct_tls = true,
        .answer = tls == DNS_TLS_STARTTLS_ONLY ? DNS_UNASKED : DNS_WAITING };
    q->services[1] = (struct dns_service){ .query = q,
        .answer = tls == DNS_TLS_DIRECT_ONLY ? DNS_UNASKED : DNS_WAITING };
    dns_service_ask(&q->services[0]);
    dns_service_ask(&q->services[1]);
    dns_clock(d);
    return q;
}

/* Look for the addresses of one host that somebody outside has named, for this port of it. */
static struct dns_query *
dns_find_host(struct dns *d, const char *host, uint16_t port, const struct log_party *party,
    const struct dns_events *events, void *user)
{
    struct dns_query *q = dns_query_new(d, host, party, events, user);
    if (q != NULL && q->domain[0] != '\0')
        dns_ask_host(q, port, false);
    return q;
}

/* Look for the addresses of one host: a static route, or a name in the configuration. */
static struct dns_query *
dns_find_address(struct dns *d, const char *host, uint16_t port, bool direct_tls,
    const struct dns_events *events, void *user)
{
    const struct log_party ours = { .whom = LOG_PARTNER };
    struct dns_query *q = dns_query_new(d, host, &ours, events, user);
    if (q == NULL || q->domain[0] == '\0')
        return q;
    q->configured = true;
    dns_ask_host(q, port, direct_tls);
    return q;
}

/* The owner is not interested any more: done() will not be called. */
static void
dns_cancel(struct dns_query *q)
{
    dns_query_leave(q);
}

/* ---- opening and closing ---- */

static uint64_t
dns_seed(void)
{
    uint64_t seed = 0;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, &seed, sizeof seed) != (ssize_t)sizeof seed)
            seed = 0;
        close(fd);
    }
    return seed ^ (uint64_t)loop_clock();
}

/* Hand the configured name servers to c-ares, which wants "address:port,[address]:port". */
static bool
dns_set_servers(struct dns *d, const struct dns_options *o)
{
    struct buf csv = { .max = 1024 };
    bool good = true;
    size_t i;
    for (i = 0; i < o->nservers && i < DNS_SERVERS_MAX; i++) {
        const char *address = o->servers[i].address;
        unsigned char bytes[16];
        int family = dns_literal(address, bytes);
        good = good && family != 0;
        buf_puts(&csv, i == 0 ? "" : ",");
        buf_puts(&csv, family == AF_INET6 ? "[" : "");
        buf_puts(&csv, address);
        buf_puts(&csv, family == AF_INET6 ? "]" : "");
        buf_putc(&csv, ':');
        buf_putu(&csv, o->servers[i].port == 0 ? 53 : o->servers[i].port);
    }
    if (o->nservers > 0)
        good = good && ares_set_servers_ports_csv(d->channel, buf_text(&csv)) == ARES_SUCCESS;
    snprintf(d->servers, sizeof d->servers, "%s", o->nservers > 0 ? buf_text(&csv) : "");
    buf_free(&csv);
    return good;
}

static bool
dns_open_channel(struct dns *d, const struct dns_options *o)
{
    struct ares_options options;
    char lookups[] = "b";   /* DNS only; see dns_host_look() */
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS
        | ARES_OPT_LOOKUPS | ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB;
    memset(&options, 0, sizeof options);
    /* names are complete: no search list */
    options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS;
    options.timeout = o->timeout_ms;
    options.tries = o->tries;
    options.lookups = lookups;
    options.ednspsz = DNS_UDP_BYTES;
    options.sock_state_cb = dns_socket_state;
    options.sock_state_cb_data = d;
    if (ares_init_options(&d->channel, &options, mask) != ARES_SUCCESS)
        return false;
    if (dns_set_servers(d, o))
        return true;
    ares_destroy(d->channel);
    return false;
}

/* False when memory is out or a server address makes no sense; *out is NULL then. */
static bool
dns_open(struct dns **out, struct loop *loop, const struct dns_options *o, struct log *log)
{
    struct dns *d = calloc(1, sizeof *d);
    *out = NULL;
    if (d == NULL)
        return false;
    d->loop = loop;
    d->log = log;
    d->random = dns_seed();
    d->timer.fire = dns_tick;
    list_init(&d->queries);
    list_init(&d->sockets);
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        goto fail;
    if (!dns_open_channel(d, o))
        goto fail_library;
    *out = d;
    return true;
fail_library:
    ares_library_cleanup();
fail:
    free(d);
    return false;
}

/* Queries that are still running are cancelled. */
static void
dns_close(struct dns *d)
{
    if (d == NULL)
        return;
    while (!list_empty(&d->queries))
        dns_cancel(MAP_OWNER(d->queries.next, struct dns_query, node));
    ares_destroy(d->channel);   /* gives all questions back, which frees the rest */
    while (!list_empty(&d->sockets))
        dns_socket_drop(MAP_OWNER(d->sockets.next, struct dns_socket, node));
    timer_cancel(d->loop, &d->timer);
    ares_library_cleanup();
    free(d);
}

/* Name and version of the resolver library; static. */
static const char *
dns_library_name(void)
{
    return "c-ares " ARES_VERSION_STR;
}

/* ===========================================================================
 * [CERT]  cert_          what certificates say, read by us
 * calls:  BASE JID
 *
 * Pure functions of bytes, which know nothing of mbed TLS and compute nothing.  They do two things
 * that it does not.
 *
 * Before it computes: cert_flight sees each byte of a handshake before mbed TLS does, follows
 * records and messages, and reads the Certificate message of TLS 1.2.  A key that would cost
 * seconds, or a chain that is too long, ends the handshake there, for the price of reading it.  In
 * TLS 1.3 that message is encrypted: the same rules are kept when the chain has been verified.
 *
 * After it has verified: cert_path_judge() walks the way from the authority down, and holds what
 * RFC 5280 asks for and mbed TLS does not: name constraints (4.2.1.10, 6.1.4), and purposes of
 * authorities (4.2.1.12, nested as browsers have it: who may not do it may not let others).
 *
 * What cannot be read, or judged, counts against the certificate.
 * ======================================================================== */

#define CERT_RECORD_HEAD   5     /* type, version, length: RFC 5246 6.2.1 */
#define CERT_MESSAGE_HEAD  4     /* type, length: RFC 5246 7.4 */
#define CERT_HANDSHAKE     22    /* type of a record */
#define CERT_CERTIFICATE   11    /* types of messages */
#define CERT_HELLO_DONE    14
#define CERT_KEY_EXCHANGE  16

enum cert_tag {
    CERT_BOOLEAN = 0x01, CERT_INTEGER = 0x02, CERT_BITS = 0x03, CERT_OCTETS = 0x04, CERT_OID = 0x06,
    CERT_SEQUENCE = 0x30, CERT_SET = 0x31,
    CERT_OTHER_NAME = 0xa0, CERT_DNS_NAME = 0x82, CERT_DIRECTORY_NAME = 0xa4, CERT_IP = 0x87,
    CERT_VERSION = 0xa0, CERT_EXTENSIONS = 0xa3,
    CERT_PERMITTED = 0xa0, CERT_EXCLUDED = 0xa1
};

/* Last number of 2.5.29.x. */
enum cert_extension {
    CERT_ALT_NAMES = 17, CERT_BASIC = 19, CERT_CONSTRAINTS = 30, CERT_PURPOSES = 37
};

/* Of <limits>. */
struct cert_limits {
    size_t rsa_min;        /* bits of a modulus; a shorter one costs little and proves nothing */
    size_t rsa_max;        /* and a longer one is not computed with */
    size_t exponent_max;   /* bits of a public exponent */
    size_t curve_max;      /* bits of a curve, which is P-256, P-384 or P-521 */
    size_t count_max;      /* certificates in a peer's chain */
    size_t bytes_max;      /* and of the message that brings them */
};

static const struct cert_limits cert_limits_default = { 2048, 4096, 32, 521, 5, 16384 };

/* Spans of a certificate that is somebody else's. */
struct cert {
    struct xe_span issuer;      /* content of the Name, as is the next */
    struct xe_span subject;
    struct xe_span key;         /* content of SubjectPublicKeyInfo */
    struct xe_span extensions;  /* content of Extensions; empty for none */
};

/* ---- DER ---- */

/* Take the first element off `from`.  False when there is none. */
static bool
cert_take(struct xe_span *from, int *tag, struct xe_span *content)
{
    const unsigned char *p = (const unsigned char *)from->at;
    size_t head = 2;
    size_t len;
    if (from->len < head)
        return false;
    len = p[1];
    if (len >= 0x80) {
        size_t bytes = len & 0x7f;
        if (bytes == 0 || bytes > 3 || from->len < head + bytes)
            return false;
        for (len = 0; bytes > 0; bytes--)
            len = len << 8 | p[head++];
    }
    if (len > from->len - head)
        return false;
    *tag = p[0];
    *content = span_make(from->at + head, len);
    *from = span_skip(*from, head + len);
    return true;
}

/* The same when it is a `tag`; otherwise nothing is taken. */
static bool
cert_take_tag(struct xe_span *from, enum cert_tag tag, struct xe_span *content)
{
    struct xe_span rest = *from;
    struct xe_span inside;
    int found;
    if (!cert_take(&rest, &found, &inside) || found != (int)tag)
        return false;
    *from = rest;
    *content = inside;
    return true;
}

/* Extensions ::= SEQUENCE OF SEQUENCE { id, critical BOOLEAN DEFAULT FALSE, value }.  Behind one
 * that cannot be read there may be one that forbids something. */
static bool
cert_extensions_are_readable(struct xe_span all)
{
    struct xe_span one, part;
    while (all.len > 0) {
        if (!cert_take_tag(&all, CERT_SEQUENCE, &one) || !cert_take_tag(&one, CERT_OID, &part))
            return false;
        (void)cert_take_tag(&one, CERT_BOOLEAN, &part);
        if (!cert_take_tag(&one, CERT_OCTETS, &part) || one.len > 0)
            return false;
    }
    return true;
}

static bool
cert_read(struct xe_span der, struct cert *c)
{
    struct xe_span body;
    struct xe_span part;
    int tag;
    *c = (struct cert){ .key = { NULL, 0 } };
    if (!cert_take_tag(&der, CERT_SEQUENCE, &part) || !cert_take_tag(&part, CERT_SEQUENCE, &body))
        return false;
    (void)cert_take_tag(&body, CERT_VERSION, &part);
    if (!cert_take_tag(&body, CERT_INTEGER, &part) || !cert_take_tag(&body, CERT_SEQUENCE, &part)
        || !cert_take_tag(&body, CERT_SEQUENCE, &c->issuer)
        || !cert_take_tag(&body, CERT_SEQUENCE, &part)
        || !cert_take_tag(&body, CERT_SEQUENCE, &c->subject)
        || !cert_take_tag(&body, CERT_SEQUENCE, &c->key))
        return false;
    while (body.len > 0) {
        if (!cert_take(&body, &tag, &part))
            return false;
        if (tag == CERT_EXTENSIONS)
            return cert_take_tag(&part, CERT_SEQUENCE, &c->extensions)
                && cert_extensions_are_readable(c->extensions);
    }
    return true;
}

/* The value of an extension.  False when it is absent. */
static bool
cert_extension(const struct cert *c, enum cert_extension id, struct xe_span *value, bool *critical)
{
    const char oid[] = { 0x55, 0x1d, (char)id };
    struct xe_span all = c->extensions;
    struct xe_span one;
    struct xe_span part;
    while (cert_take_tag(&all, CERT_SEQUENCE, &one)) {
        if (!cert_take_tag(&one, CERT_OID, &part) || !span_eq(part, span_make(oid, sizeof oid)))
            continue;
        *critical = cert_take_tag(&one, CERT_BOOLEAN, &part) && part.len > 0 && part.at[0] != 0;
        return cert_take_tag(&one, CERT_OCTETS, value);
    }
    return false;
}

/* ---- keys ---- */

static size_t
cert_bits(struct xe_span integer)
{
    size_t bits;
    unsigned first;
    while (integer.len > 0 && integer.at[0] == 0)
        integer = span_skip(integer, 1);
    if (integer.len == 0)
        return 0;
    bits = integer.len * 8;
    for (first = (unsigned char)integer.at[0]; first < 0x80; first <<= 1)
        bits--;
    return bits;
}

static enum xe_why
cert_rsa_why(struct xe_span key, const struct cert_limits *l)
{
    struct xe_span both;
    struct xe_span modulus;
    struct xe_span exponent;
    if (!cert_take_tag(&key, CERT_SEQUENCE, &both) || !cert_take_tag(&both, CERT_INTEGER, &modulus)
        || !cert_take_tag(&both, CERT_INTEGER, &exponent))
        return XE_WHY_CERT_MALFORMED;
    if (cert_bits(modulus) > l->rsa_max)
        return XE_WHY_CERT_KEY_SIZE;
    if (cert_bits(exponent) > l->exponent_max)
        return XE_WHY_CERT_KEY_EXPONENT;
    return cert_bits(modulus) < l->rsa_min ? XE_WHY_CERT_WEAK : XE_WHY_NONE;
}

static enum xe_why
cert_curve_why(struct xe_span oid, const struct cert_limits *l)
{
    static const struct { struct xe_span oid; size_t bits; } rows[] = {
        { { "\x2a\x86\x48\xce\x3d\x03\x01\x07", 8 }, 256 },
        { { "\x2b\x81\x04\x00\x22", 5 }, 384 }, { { "\x2b\x81\x04\x00\x23", 5 }, 521 } };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (span_eq(oid, rows[i].oid))
            return rows[i].bits > l->curve_max ? XE_WHY_CERT_KEY_SIZE : XE_WHY_NONE;
    return XE_WHY_CERT_KEY_KIND;
}

/* What is wrong with the key: NONE, WEAK, or what nothing is computed with. */
static enum xe_why
cert_key_why(const struct cert *c, const struct cert_limits *l)
{
    static const struct xe_span rsa = { "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", 9 };
    static const struct xe_span ec = { "\x2a\x86\x48\xce\x3d\x02\x01", 7 };
    struct xe_span rest = c->key;
    struct xe_span kind;
    struct xe_span oid;
    struct xe_span key;
    if (!cert_take_tag(&rest, CERT_SEQUENCE, &kind) || !cert_take_tag(&kind, CERT_OID, &oid)
        || !cert_take_tag(&rest, CERT_BITS, &key) || key.len == 0)
        return XE_WHY_CERT_MALFORMED;
    if (span_eq(oid, rsa))
        return cert_rsa_why(span_skip(key, 1), l);
    if (!span_eq(oid, ec) || !cert_take_tag(&kind, CERT_OID, &oid))
        return XE_WHY_CERT_KEY_KIND;   /* or a curve that is spelt out, to be searched for */
    return cert_curve_why(oid, l);
}

/* Why nothing is computed with the n-th certificate of a chain, from 1; NONE otherwise.  A weak key
 * is cheap: it is judged later, and its owner may still go on with dialback. */
static enum xe_why
cert_cost_why(struct xe_span der, size_t n, const struct cert_limits *l)
{
    struct cert c;
    enum xe_why why;
    if (n > l->count_max)
        return XE_WHY_CERT_CHAIN_LENGTH;
    if (!cert_read(der, &c))
        return XE_WHY_CERT_MALFORMED;
    why = cert_key_why(&c, l);
    return why == XE_WHY_CERT_WEAK ? XE_WHY_NONE : why;
}

/* ---- the Certificate message of TLS 1.2 ---- */

/* What has come of a handshake.  Zeroed it is at its beginning. */
struct cert_flight {
    unsigned char record[CERT_RECORD_HEAD];
    size_t        record_got;    /* bytes of that */
    size_t        record_left;   /* bytes of the record to come */
    unsigned char message[CERT_MESSAGE_HEAD];
    size_t        message_got;
    size_t        message_left;
    char         *chain;         /* owned; content of the Certificate message */
    size_t        chain_got;
    bool          over;          /* nothing that follows needs to be looked at */
};

static void
cert_flight_free(struct cert_flight *f)
{
    free(f->chain);
    f->chain = NULL;
    f->over = true;
}

static size_t
cert_number(const unsigned char *at, size_t bytes)
{
    size_t n = 0;
    for (; bytes > 0; bytes--)
        n = n << 8 | *at++;
    return n;
}

/* Certificate ::= a list with its length before it, of certificates with theirs: RFC 5246 7.4.2 */
static enum xe_why
cert_message_why(struct xe_span list, const struct cert_limits *l)
{
    size_t n = 0;
    if (list.len < 3 || cert_number((const unsigned char *)list.at, 3) != list.len - 3)
        return XE_WHY_CERT_MALFORMED;
    list = span_skip(list, 3);
    while (list.len > 0) {
        size_t len = list.len < 3 ? list.len : cert_number((const unsigned char *)list.at, 3);
        enum xe_why why;
        if (list.len < 3 || len > list.len - 3)
            return XE_WHY_CERT_MALFORMED;
        why = cert_cost_why(span_make(list.at + 3, len), ++n, l);
        if (why != XE_WHY_NONE)
            return why;
        list = span_skip(list, 3 + len);
    }
    return XE_WHY_NONE;
}

/* The head of a message is there.  Behind a key exchange or a "done" there is no Certificate. */
static enum xe_why
cert_flight_begin(struct cert_flight *f, const struct cert_limits *l)
{
    f->message_left = cert_number(f->message + 1, 3);
    f->over = f->message[0] == CERT_HELLO_DONE || f->message[0] == CERT_KEY_EXCHANGE;
    if (f->message[0] != CERT_CERTIFICATE)
        return XE_WHY_NONE;
    if (f->message_left > l->bytes_max)
        return XE_WHY_CERT_CHAIN_BYTES;
    f->chain = malloc(f->message_left + 1);
    return f->chain == NULL ? XE_WHY_OUT_OF_MEMORY : XE_WHY_NONE;
}

static enum xe_why
cert_flight_end(struct cert_flight *f, const struct cert_limits *l)
{
    enum xe_why why = XE_WHY_NONE;
    f->message_got = 0;
    if (f->chain == NULL)
        return why;
    why = cert_message_why(span_make(f->chain, f->chain_got), l);
    cert_flight_free(f);
    return why;
}

/* Bytes of messages, of one record or a part of it. */
static enum xe_why
cert_flight_messages(struct cert_flight *f, const unsigned char *at, size_t n,
    const struct cert_limits *l)
{
    enum xe_why why = XE_WHY_NONE;
    while (n > 0 && !f->over && why == XE_WHY_NONE) {
        size_t some = n < f->message_left ? n : f->message_left;
        if (f->message_got < CERT_MESSAGE_HEAD) {
            some = 1;
            f->message[f->message_got++] = *at;
            if (f->message_got == CERT_MESSAGE_HEAD)
                why = cert_flight_begin(f, l);
        } else {
            if (f->chain != NULL)
                memcpy(f->chain + f->chain_got, at, some);
            f->chain_got += f->chain != NULL ? some : 0;
            f->message_left -= some;
        }
        at += some;
        n -= some;
        if (why == XE_WHY_NONE && f->message_got == CERT_MESSAGE_HEAD && f->message_left == 0)
            why = cert_flight_end(f, l);
    }
    return why;
}

/* The next bytes of the peer, before mbed TLS has them.  Anything but NONE: it must not have them.
 * What is in the clear is looked at until the chain has been seen, or can come no more; records of
 * other types are passed over, as TLS 1.3 has nothing but them after the hello. */
static enum xe_why
cert_flight_take(struct cert_flight *f, const unsigned char *at, size_t n,
    const struct cert_limits *l)
{
    enum xe_why why = XE_WHY_NONE;
    while (n > 0 && !f->over && why == XE_WHY_NONE) {
        size_t some = n < f->record_left ? n : f->record_left;
        if (f->record_left == 0) {
            some = 1;
            f->record[f->record_got++] = *at;
            if (f->record_got == CERT_RECORD_HEAD) {
                f->record_left = cert_number(f->record + 3, 2);
                f->record_got = 0;
            }
        } else {
            if (f->record[0] == CERT_HANDSHAKE)
                why = cert_flight_messages(f, at, some, l);
            f->record_left -= some;
        }
        at += some;
        n -= some;
    }
    return why;
}

/* ---- name constraints: RFC 5280 4.2.1.10 ---- */

/* A name of a certificate, as constraints see it. */
struct cert_name {
    int            tag;
    struct xe_span value;
    struct xe_span host;       /* of dNSName, SRVName, xmppAddr, in normal form where it has one */
    bool           is_host;
    bool           wild;       /* "*." was before it */
    char           text[XE_DOMAIN_MAX];
};

enum cert_relation { CERT_UNRELATED, CERT_OUTSIDE, CERT_INSIDE };

static struct xe_span
cert_host_normal(struct xe_span host, char text[XE_DOMAIN_MAX])
{
    size_t len;
    if (xe_jid_domain_normal(host, text, &len))
        return span_make(text, len);
    return host;
}

static bool
cert_same_letters(struct xe_span a, struct xe_span b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.at, b.at, a.len) == 0);
}

/* Whether a host is `base` or below it.  With a dot before it only what is below: so everybody
 * takes it, though RFC 5280 has that for URIs alone.  An empty base has everything below it. */
static bool
cert_host_is_within(const struct cert_name *name, struct xe_span base, bool excluded)
{
    char text[XE_DOMAIN_MAX];
    struct xe_span host = name->host;
    bool below = base.len > 0 && base.at[0] == '.';
    size_t dot;
    base = cert_host_normal(below ? span_skip(base, 1) : base, text);
    if (base.len == 0)
        return true;
    dot = span_find(base, '.');
    if (name->wild && excluded && dot < base.len
        && cert_same_letters(host, span_skip(base, dot + 1)))
        return true;   /* one of those that the wildcard stands for */
    if (cert_same_letters(host, base))
        return !below || name->wild;
    return host.len > base.len && host.at[host.len - base.len - 1] == '.'
        && cert_same_letters(span_skip(host, host.len - base.len), base);
}

/* An address under an address and its mask. */
static bool
cert_ip_is_within(struct xe_span ip, struct xe_span base)
{
    size_t i;
    if (base.len != 2 * ip.len)
        return false;
    for (i = 0; i < ip.len; i++)
        if (((ip.at[i] ^ base.at[i]) & base.at[ip.len + i]) != 0)
            return false;
    return true;
}

/* The attributes of two RDNs are compared by their bytes, without regard to case and to which kind
 * of string they are. */
static bool
cert_same_rdn(struct xe_span a, struct xe_span b)
{
    struct xe_span x, y, part, other;
    int tag;
    while (a.len > 0 && b.len > 0) {
        if (!cert_take_tag(&a, CERT_SEQUENCE, &x) || !cert_take_tag(&b, CERT_SEQUENCE, &y)
            || !cert_take_tag(&x, CERT_OID, &part) || !cert_take_tag(&y, CERT_OID, &other)
            || !span_eq(part, other) || !cert_take(&x, &tag, &part) || !cert_take(&y, &tag, &other)
            || !cert_same_letters(part, other))
            return false;
    }
    return a.len == b.len;
}

/* Whether a directory name (content of a Name) begins with all of another. */
static bool
cert_directory_is_within(struct xe_span name, struct xe_span base)
{
    struct xe_span a, b;
    while (base.len > 0)
        if (!cert_take_tag(&base, CERT_SET, &b) || !cert_take_tag(&name, CERT_SET, &a)
            || !cert_same_rdn(a, b))
            return false;
    return true;
}

/* How a name lies to the base of a constraint of either kind. */
static enum cert_relation
cert_relate(const struct cert_name *name, int tag, struct xe_span base, bool excluded)
{
    struct xe_span a = name->value;
    struct xe_span b = base;
    struct xe_span kind;
    struct xe_span other;
    bool within = excluded;   /* what cannot be judged counts against the name */
    if (tag == CERT_DNS_NAME && name->is_host)
        within = cert_host_is_within(name, base, excluded);
    else if (tag != name->tag)
        return CERT_UNRELATED;
    else if (tag == CERT_IP)
        within = cert_ip_is_within(name->value, base);
    else if (tag == CERT_DIRECTORY_NAME && cert_take_tag(&b, CERT_SEQUENCE, &kind))
        within = cert_directory_is_within(name->value, kind);
    else if (tag == CERT_OTHER_NAME && cert_take_tag(&a, CERT_OID, &kind)
        && cert_take_tag(&b, CERT_OID, &other) && !span_eq(kind, other))
        return CERT_UNRELATED;
    return within ? CERT_INSIDE : CERT_OUTSIDE;
}

/* Whether one list of subtrees lets a name through.  *budget is of comparisons. */
static bool
cert_subtrees_allow(struct xe_span subtrees, bool excluded, const struct cert_name *name,
    size_t *budget)
{
    bool related = false;
    while (subtrees.len > 0) {
        struct xe_span one, base;
        int tag;
        if (*budget == 0 || !cert_take_tag(&subtrees, CERT_SEQUENCE, &one)
            || !cert_take(&one, &tag, &base))
            return false;
        --*budget;
        switch (cert_relate(name, tag, base, excluded)) {
        case CERT_UNRELATED:
            break;
        case CERT_OUTSIDE:
            related = true;
            break;
        case CERT_INSIDE:
            return !excluded;
        }
    }
    return excluded || !related;
}

static bool
cert_constraints_allow(struct xe_span constraints, const struct cert_name *name, size_t *budget)
{
    struct xe_span lists, subtrees;
    if (!cert_take_tag(&constraints, CERT_SEQUENCE, &lists))
        return false;
    if (cert_take_tag(&lists, CERT_PERMITTED, &subtrees)
        && !cert_subtrees_allow(subtrees, false, name, budget))
        return false;
    if (cert_take_tag(&lists, CERT_EXCLUDED, &subtrees)
        && !cert_subtrees_allow(subtrees, true, name, budget))
        return false;
    return lists.len == 0;
}

/* Types of otherName: id-on-dnsSRV (RFC 4985) is 1.3.6.1.5.5.7.8.7, id-on-xmppAddr (RFC 6120
 * 13.7.1.4) 1.3.6.1.5.5.7.8.5. */
static const struct xe_span cert_srv_name = { "\x2b\x06\x01\x05\x05\x07\x08\x07", 8 };
static const struct xe_span cert_xmpp_addr = { "\x2b\x06\x01\x05\x05\x07\x08\x05", 8 };

/* The host in an otherName that we may believe: SRVName without its service, xmppAddr (RFC 6120
 * 13.7.1.4) without what is not its domain. */
static bool
cert_other_host(struct xe_span other, struct xe_span *host)
{
    struct xe_span oid, value;
    size_t at;
    int tag;
    if (!cert_take_tag(&other, CERT_OID, &oid)
        || !(span_eq(oid, cert_srv_name) || span_eq(oid, cert_xmpp_addr)))
        return false;
    *host = span_make("", 0);
    if (!cert_take_tag(&other, CERT_OTHER_NAME, &value) || !cert_take(&value, &tag, host))
        return true;   /* nothing that can be within anything */
    if (span_eq(oid, cert_xmpp_addr))
        host->len = span_find(*host, '/');
    at = span_find(*host, span_eq(oid, cert_srv_name) ? '.' : '@');
    if (at < host->len)
        *host = span_skip(*host, at + 1);
    return true;
}

static void
cert_name_make(struct cert_name *name, int tag, struct xe_span value)
{
    name->tag = tag;
    name->value = value;
    name->host = value;
    name->is_host = tag == CERT_DNS_NAME
        || (tag == CERT_OTHER_NAME && cert_other_host(value, &name->host));
    name->wild = tag == CERT_DNS_NAME && value.len > 2 && memcmp(value.at, "*.", 2) == 0;
    if (tag == CERT_DIRECTORY_NAME)
        (void)cert_take_tag(&value, CERT_SEQUENCE, &name->value);
    if (name->wild)
        name->host = span_skip(name->host, 2);
    if (name->host.len > 1 && name->host.at[name->host.len - 1] == '.')
        name->host.len--;
    if (name->is_host)
        name->host = cert_host_normal(name->host, name->text);
}

/* Whether every name of `c` is one that an authority with these constraints may vouch for. */
static bool
cert_names_are_allowed(const struct cert *c, struct xe_span constraints, size_t *budget)
{
    struct cert_name name = { .tag = CERT_DIRECTORY_NAME, .value = c->subject };
    struct xe_span value = { NULL, 0 };
    struct xe_span names = { NULL, 0 };
    bool critical;
    int tag;
    if (c->subject.len > 0 && !cert_constraints_allow(constraints, &name, budget))
        return false;
    if (cert_extension(c, CERT_ALT_NAMES, &value, &critical)
        && !cert_take_tag(&value, CERT_SEQUENCE, &names))
        return false;
    while (names.len > 0) {
        if (!cert_take(&names, &tag, &value))
            return false;
        cert_name_make(&name, tag, value);
        if (!cert_constraints_allow(constraints, &name, budget))
            return false;
    }
    return true;
}

/* ---- the way from an authority ---- */

enum { CERT_BAD_KEY = 1, CERT_BAD_PURPOSE = 2, CERT_BAD_NAMES = 4, CERT_BAD_PATH = 8 };
enum { CERT_FOR_SERVERS = 1, CERT_FOR_CLIENTS = 2 };

/* What a certificate is for; without the extension, for anything. */
static unsigned
cert_purposes(const struct cert *c)
{
    static const struct xe_span any = { "\x55\x1d\x25\x00", 4 };
    static const struct xe_span server = { "\x2b\x06\x01\x05\x05\x07\x03\x01", 8 };
    static const struct xe_span client = { "\x2b\x06\x01\x05\x05\x07\x03\x02", 8 };
    struct xe_span value = { NULL, 0 };
    struct xe_span list = { NULL, 0 };
    struct xe_span oid;
    unsigned purposes = 0;
    bool critical;
    if (!cert_extension(c, CERT_PURPOSES, &value, &critical))
        return CERT_FOR_SERVERS | CERT_FOR_CLIENTS;
    (void)cert_take_tag(&value, CERT_SEQUENCE, &list);
    while (cert_take_tag(&list, CERT_OID, &oid)) {
        if (span_eq(oid, any) || span_eq(oid, server))
            purposes |= CERT_FOR_SERVERS;
        if (span_eq(oid, any) || span_eq(oid, client))
            purposes |= CERT_FOR_CLIENTS;
    }
    return purposes;
}

static bool
cert_is_self_issued(const struct cert *c)
{
    return span_eq(c->issuer, c->subject);
}

/* Whether path[at] may have so many authorities below it (RFC 5280 4.2.1.9).  The last may be from
 * a time before there were extensions: it is trusted because somebody says so. */
static bool
cert_may_sign(const struct cert *path, size_t at, size_t n)
{
    struct xe_span value, basic, part;
    size_t below = 0;
    size_t i;
    bool critical;
    if (at == n - 1 && path[at].extensions.len == 0)
        return true;
    if (!cert_extension(&path[at], CERT_BASIC, &value, &critical)
        || !cert_take_tag(&value, CERT_SEQUENCE, &basic)
        || !cert_take_tag(&basic, CERT_BOOLEAN, &part) || part.len == 0 || part.at[0] == 0)
        return false;
    for (i = 1; i < at; i++)
        below += cert_is_self_issued(&path[i]) ? 0 : 1;
    if (!cert_take_tag(&basic, CERT_INTEGER, &part))
        return true;
    return part.len > 8 || below <= cert_number((const unsigned char *)part.at, part.len);
}

/* Whether the constraints of path[at] hold for all below it; not for an authority's certificate for
 * itself, unless it is the last one (RFC 5280 6.1.3 (b)). */
static bool
cert_names_hold(const struct cert *path, size_t at, size_t *budget)
{
    struct xe_span constraints;
    size_t i;
    bool critical;
    if (!cert_extension(&path[at], CERT_CONSTRAINTS, &constraints, &critical))
        return true;
    for (i = 0; i < at; i++)
        if ((i == 0 || !cert_is_self_issued(&path[i]))
            && !cert_names_are_allowed(&path[i], constraints, budget))
            return false;
    return true;
}

/* Judge a way whose signatures are good: `n` certificates, the peer's first, the authority that is
 * trusted last.  `purposes`: one of these it must have.  CERT_BAD_*. */
static unsigned
cert_path_judge(const struct xe_span *der, size_t n, unsigned purposes,
    const struct cert_limits *l)
{
    struct cert path[CERT_PATH_MAX];
    size_t budget = CERT_COMPARE_MAX;
    unsigned bad = 0;
    size_t i;
    if (n > CERT_PATH_MAX)
        return CERT_BAD_PATH;
    for (i = 0; i < n; i++)
        if (!cert_read(der[i], &path[i]))
            return CERT_BAD_KEY;
    for (i = 0; i < n; i++) {
        purposes &= cert_purposes(&path[i]);
        if (cert_key_why(&path[i], l) != XE_WHY_NONE)
            bad |= CERT_BAD_KEY;
        if (i > 0 && !cert_may_sign(path, i, n))
            bad |= CERT_BAD_PATH;
        if (i > 0 && !cert_names_hold(path, i, &budget))
            bad |= CERT_BAD_NAMES;
    }
    return bad | (purposes == 0 ? CERT_BAD_PURPOSE : 0u);
}

/* ===========================================================================
 * [TLS]   tls_           TLS sessions, certificates and what they say
 * calls:  BASE BUF WHY JID MAP NET LOOP CERT
 *
 * The only place that names mbed TLS (AUTH borrows its HMAC and base64).  2.28 and 3.6 both work;
 * all that differs between them is in the block [versions] below.
 *
 *   tls_shared       entropy and random numbers, one per running instance
 *     tls_identity   a certificate chain with its private key    \
 *     tls_trust      authorities believed, revocation lists       > counted references: streams
 *     tls_profile    side, versions, ciphersuites, trust, ALPN   /  outlive a reload
 *       tls          one session on one descriptor
 *         tls_facts  what the handshake told, kept after the certificate itself is gone
 *           tls_verdict  the chain, as it looks from one authority that it leads to
 *
 * Verification never ends a handshake (authmode optional on both sides): the domain that a
 * certificate has to stand for is known only when the stream header has arrived.  The verdict on
 * the chain is kept in tls_facts.chain and becomes a reason in tls_why(); the name check is AUTH's,
 * never mbed TLS's, which would believe a common name (RFC 9525 2, 6.4.4).
 *
 * Who may vouch for whom differs from domain to domain (tls_rule), and one connection may prove
 * several.  So before a handshake ends the chain is judged against each store of the profile that
 * could have signed it, each time by itself: against all of them at once mbed TLS would end at any
 * authority, and not say that another would do as well.  What is kept is the authority at the end
 * of each way that was found.  A domain's store vouches when it holds one of them: after a reload
 * too, without the certificate, and however the stores have changed.
 *
 * In a server-to-server stream the initiating server is the TLS client.  Public authorities no
 * longer put clientAuth into certificates, so one that says only serverAuth is good in both roles
 * here (the fact TLS_CHAIN_EKU_SERVER_ONLY remains for the log).
 *
 * A handshake is what a stranger can make us compute for long, in steps that nothing interrupts: 4
 * to 30 ms for an honest one.  So it does not run where stanzas are moved.
 *
 *   tls_lend() --> WAITING --tls_feed()--> RUNNING on a lane --tls_collect()--> back()
 *
 * While a session is lent nobody else touches it or its socket; tls_drop() ends it all the same.
 * Threads are here alone: to all other sections a lent session is one more thing to hear of later.
 * They share one lock, which guards a lane's work and the list of those that come back.  Who goes
 * next is decided by the loop: see tls_rank().
 *
 * No call blocks, and a handshake returns TLS_AGAIN when it has used its share of processor time.
 *
 * Costs: an idle session is 35 KiB (`make bench`, 2.28 on x86-64), mostly mbed TLS's two record
 * buffers of 16 KiB: the peer's certificate is freed after the handshake, which costs milliseconds.
 * A thread costs its stack, and once it uses them a copy of the keys and authorities.
 * Not done: resuming sessions, tickets, renegotiation.  Streams between servers live for hours, and
 * what is not there costs no memory and has no bugs.
 * ======================================================================== */

#include <mbedtls/version.h>
#if !defined(XMPPEDGE_NO_THREADS) && defined(MBEDTLS_THREADING_C)
#define TLS_THREADS 1   /* 3.6 keeps its keys in one place of the process and must lock it */
#include <pthread.h>
#include <sys/resource.h>
#else
#define TLS_THREADS 0
#endif
#include <mbedtls/asn1.h>
#include <mbedtls/base64.h>
#include <mbedtls/cipher.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>

#define TLS_HASH_LEN     32     /* bytes of SHA-256 */
#define TLS_RECORD_MAX   16384  /* bytes of plaintext in a record: RFC 8446 5.1 */
#define TLS_AHEAD_MAX    65536  /* bytes of records taken from the system in a call */
#if defined(CLOCK_THREAD_CPUTIME_ID)
#define TLS_CLOCK        CLOCK_THREAD_CPUTIME_ID
#else
#define TLS_CLOCK        CLOCK_MONOTONIC   /* others' work counts, too */
#endif
#define TLS_THREAD_MS    10000  /* after a thread that could not be had the next try */
#define TLS_LATER_MS     20     /* until those in debt are looked at again */
#define TLS_BEGUN_US     20000  /* a handshake that was begun may have taken so much more */
#define TLS_NICE         19     /* handshake threads are so much nicer; with 10 after 2 ms only */
#define TLS_PACE_TRIES   5      /* of a cipher: the best one was disturbed by nobody */
#define TLS_PACE_RECORDS 8      /* sealed in each: 80 us of ChaCha20 with 2.28 on x86-64 */
#define TLS_PACE_RECORD  4096   /* bytes: some stanzas that leave together */
#define TLS_PACE_TIE     5      /* percent: what is not cheaper by more is not */
#define TLS_TURN_US      500    /* of a tls_handshake() before it yields; an RSA step is longer */

/* ---- [versions]: everything that differs between mbed TLS 2.28 and 3.6 ---- */

#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && MBEDTLS_VERSION_NUMBER < 0x03020000
#error "mbed TLS 3.0 and 3.1 are not supported; use 2.28 or 3.6"
#endif
#if !defined(MBEDTLS_SSL_KEEP_PEER_CERTIFICATE) || !defined(MBEDTLS_SSL_ALPN) \
    || !defined(MBEDTLS_SSL_SERVER_NAME_INDICATION) || !defined(MBEDTLS_FS_IO)
#error "mbed TLS must be built with KEEP_PEER_CERTIFICATE, ALPN, SERVER_NAME_INDICATION and FS_IO"
#endif
#if !defined(MBEDTLS_X509_CRT_WRITE_C) || !defined(MBEDTLS_PEM_WRITE_C) \
    || !defined(MBEDTLS_PK_WRITE_C) || !defined(MBEDTLS_SHA1_C) \
    || !defined(MBEDTLS_ECP_DP_SECP256R1_ENABLED)
#error "mbed TLS must be built with X509_CRT_WRITE, PEM_WRITE, PK_WRITE, SHA1 and SECP256R1"
#endif

/* The older form is deprecated where the newer one exists. */
static int
tls_set_serial(mbedtls_x509write_cert *crt, unsigned char *serial, size_t len)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
    return mbedtls_x509write_crt_set_serial_raw(crt, serial, len);
#else
    mbedtls_mpi number;
    int code;
    mbedtls_mpi_init(&number);
    code = mbedtls_mpi_read_binary(&number, serial, len);
    if (code == 0)
        code = mbedtls_x509write_crt_set_serial(crt, &number);
    mbedtls_mpi_free(&number);
    return code;
#endif
}

/* One line of the key log that Wireshark reads; a single write, so that lines of several sessions
 * never mix. */
static void
tls_keylog_put(int fd, const char *label, const unsigned char random[32],
    const unsigned char *secret, size_t len)
{
    char line[64 + 2 * 32 + 2 * MBEDTLS_MD_MAX_SIZE + 4];
    size_t at = strlen(label);
    char *end;
    if (fd < 0 || len > MBEDTLS_MD_MAX_SIZE || at > 60)
        return;
    memcpy(line, label, at);
    line[at] = ' ';
    end = text_hex(line + at + 1, random, 32);
    *end++ = ' ';
    end = text_hex(end, secret, len);
    *end++ = '\n';
    if (write(fd, line, (size_t)(end - line)) < 0)
        return;   /* a diagnosis aid: the session matters more */
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000

#include <psa/crypto.h>

#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
#define TLS_HAS_13 1
#else
#define TLS_HAS_13 0
#endif
#define TLS_FIELD(name) MBEDTLS_PRIVATE(name)
#define TLS_WITH_RNG(lane) , mbedtls_ctr_drbg_random, &(lane)->drbg

/* TLS 1.3 takes its cryptography from PSA, whose state belongs to the library and is process-wide:
 * starting it again does nothing, and it is never stopped because another instance may use it. */
static bool
tls_library_start(void)
{
    return psa_crypto_init() == PSA_SUCCESS;
}

static bool
tls_is_over(mbedtls_ssl_context *ssl)
{
    return mbedtls_ssl_is_handshake_over(ssl) != 0;
}

/* The fastest curve first: the server takes the first that both know. */
static void
tls_config_groups(mbedtls_ssl_config *conf)
{
    static const uint16_t groups[] = {
        MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
        MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
        MBEDTLS_SSL_IANA_TLS_GROUP_BP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_BP384R1,
        MBEDTLS_SSL_IANA_TLS_GROUP_BP512R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE };
    mbedtls_ssl_conf_groups(conf, groups);
}

/* RSA with PKCS#1 before RSA-PSS: a client that offers 1.3 must offer PSS, but 3.6.6 refuses it
 * (alert illegal_parameter) from a server that then chooses 1.2; most take the first they know.
 * (https://github.com/Mbed-TLS/mbedtls/issues/10668) */
static void
tls_config_signatures(mbedtls_ssl_config *conf)
{
    static const uint16_t algorithms[] = {
        MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256, MBEDTLS_TLS1_3_SIG_ECDSA_SECP384R1_SHA384,
        MBEDTLS_TLS1_3_SIG_ECDSA_SECP521R1_SHA512, MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA256,
        MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA384, MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA512,
        MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA256, MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA384,
        MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA512, MBEDTLS_TLS1_3_SIG_NONE };
    mbedtls_ssl_conf_sig_algs(conf, algorithms);
}

static void
tls_config_versions(mbedtls_ssl_config *conf, bool with_12, bool with_13)
{
    tls_config_signatures(conf);
    mbedtls_ssl_conf_min_tls_version(conf,
        with_12 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_max_tls_version(conf,
        with_13 ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
#if TLS_HAS_13
    mbedtls_ssl_conf_tls13_key_exchange_modes(conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
#endif
}

static void
tls_keylog_export(void *fd, mbedtls_ssl_key_export_type type, const unsigned char *secret,
    size_t len, const unsigned char client_random[32], const unsigned char server_random[32],
    mbedtls_tls_prf_types prf)
{
    const char *label = NULL;
    (void)server_random;
    (void)prf;
    if (type == MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET)
        label = "CLIENT_RANDOM";
#if TLS_HAS_13
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_HANDSHAKE_TRAFFIC_SECRET)
        label = "CLIENT_HANDSHAKE_TRAFFIC_SECRET";
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_HANDSHAKE_TRAFFIC_SECRET)
        label = "SERVER_HANDSHAKE_TRAFFIC_SECRET";
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET)
        label = "CLIENT_TRAFFIC_SECRET_0";
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET)
        label = "SERVER_TRAFFIC_SECRET_0";
#endif
    if (label != NULL)
        tls_keylog_put(*(int *)fd, label, client_random, secret, len);
}

/* Here the key log is set per session, in 2.28 per configuration. */
static void
tls_config_keylog(mbedtls_ssl_config *conf, int *fd)
{
    (void)conf;
    (void)fd;
}

static void
tls_session_keylog(mbedtls_ssl_context *ssl, int *fd)
{
    mbedtls_ssl_set_export_keys_cb(ssl, tls_keylog_export, fd);
}

#else /* 2.28 */

#define TLS_HAS_13 0
#define TLS_FIELD(name) name
#define TLS_WITH_RNG(shared)

static bool
tls_library_start(void)
{
    return true;
}

static bool
tls_is_over(mbedtls_ssl_context *ssl)
{
    return ssl->state == MBEDTLS_SSL_HANDSHAKE_OVER;
}

/* The fastest curve first: the server takes the first that both know.  (The library's own order
 * begins with the slowest.) */
static void
tls_config_groups(mbedtls_ssl_config *conf)
{
    static const mbedtls_ecp_group_id groups[] = {
        MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP384R1,
        MBEDTLS_ECP_DP_SECP521R1, MBEDTLS_ECP_DP_BP256R1, MBEDTLS_ECP_DP_BP384R1,
        MBEDTLS_ECP_DP_BP512R1, MBEDTLS_ECP_DP_NONE };
    mbedtls_ssl_conf_curves(conf, groups);
}

static void
tls_config_versions(mbedtls_ssl_config *conf, bool with_12, bool with_13)
{
    (void)with_12;
    (void)with_13;
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
}

#if defined(MBEDTLS_SSL_EXPORT_KEYS)
static int
tls_keylog_export(void *fd, const unsigned char *master, const unsigned char *keys, size_t maclen,
    size_t keylen, size_t ivlen, const unsigned char client_random[32],
    const unsigned char server_random[32], mbedtls_tls_prf_types prf)
{
    (void)keys;
    (void)maclen;
    (void)keylen;
    (void)ivlen;
    (void)server_random;
    (void)prf;
    tls_keylog_put(*(int *)fd, "CLIENT_RANDOM", client_random, master, 48);
    return 0;
}
#endif

static void
tls_config_keylog(mbedtls_ssl_config *conf, int *fd)
{
#if defined(MBEDTLS_SSL_EXPORT_KEYS)
    mbedtls_ssl_conf_export_keys_ext_cb(conf, tls_keylog_export, fd);
#else
    (void)conf;
    (void)fd;
#endif
}

static void
tls_session_keylog(mbedtls_ssl_context *ssl, int *fd)
{
    (void)ssl;
    (void)fd;
}

#endif /* [versions] */

/* ---- types ---- */

/* What a call did.  After CLOSED, LOST and FAILED the session is of no more use. */
enum tls_result {
    TLS_DONE,        /* did what was asked */
    TLS_AGAIN,       /* handshake: more to compute; call again when others have had their turn */
    TLS_WANT_READ,   /* nothing more until the descriptor is readable */
    TLS_WANT_WRITE,  /* nothing more until the descriptor is writable */
    TLS_CLOSED,      /* the peer said close_notify */
    TLS_LOST,        /* the connection ended without it: the end may be missing */
    TLS_FAILED       /* tls_facts()->error says why */
};

/* tls_facts.chain: the verdict on the peer's chain.  The bits below TLS_CHAIN_NOTES make it
 * unacceptable. */
enum {
    TLS_CHAIN_EXPIRED         = 1 << 0,
    TLS_CHAIN_NOT_YET         = 1 << 1,
    TLS_CHAIN_UNTRUSTED       = 1 << 2,  /* no way to a trusted authority */
    TLS_CHAIN_REVOKED         = 1 << 3,
    TLS_CHAIN_WEAK            = 1 << 4,  /* key, curve or hash not acceptable */
    TLS_CHAIN_USAGE           = 1 << 5,  /* a key usage on the way does not allow this use */
    TLS_CHAIN_CRL             = 1 << 6,  /* the revocation list is outdated or not genuine */
    TLS_CHAIN_OTHER           = 1 << 7,  /* anything else mbed TLS objects to */
    TLS_CHAIN_NAMES           = 1 << 8,  /* an authority may not vouch for these names */
    TLS_CHAIN_NOTES           = 1 << 9,
    TLS_CHAIN_SELF_SIGNED     = 1 << 9,  /* note: issuer and subject are the same */
    TLS_CHAIN_EKU_SERVER_ONLY = 1 << 10, /* note: serverAuth without clientAuth */
    TLS_CHAIN_NAMES_CUT       = 1 << 11  /* note: more than TLS_NAMES_MAX names */
};

/* A way from the peer's certificate to an authority, judged.  Hashes are SHA-256. */
struct tls_verdict {
    unsigned char  anchor[TLS_HASH_LEN];   /* of the authority, as tls_trust.anchors */
    unsigned char  revoked[TLS_HASH_LEN];  /* of the lists that were looked at, as tls_trust */
    unsigned short chain;                  /* TLS_CHAIN_*, without UNTRUSTED */
};

/* What a handshake told.  One allocation, texts behind the struct; a member is NULL where there is
 * nothing to tell.  Bytes in names and texts come from the peer: printable or UTF-8 as noted. */
struct tls_facts {
    const char     *version;      /* static: "TLSv1.2"; NULL until the handshake is over */
    const char     *ciphersuite;  /* static, in mbed TLS's spelling */
    const char     *alpn;         /* protocol agreed on; lives as long as the profile */
    const char     *sni;          /* server name asked for, printable ASCII */
    const char     *subject;      /* of the peer's certificate, for people */
    const char     *not_after;    /* its last moment, "2026-11-22T03:14:15Z" */
    const char     *error;        /* why it failed, for the log */
    struct xe_span *dns;          /* dNSName, as in the certificate, printable ASCII */
    struct xe_span *srv_id;       /* SRVName (RFC 4985), "_service.domain", printable ASCII */
    struct xe_span *xmpp_addr;    /* id-on-xmppAddr (RFC 6120 13.7.1.4), no control characters */
    unsigned short  dns_count;
    unsigned short  srv_id_count;
    unsigned short  xmpp_addr_count;
    short           alert;        /* number of the alert received, XE_ALERT_NONE for none */
    unsigned short  chain;        /* TLS_CHAIN_*, by the common trust of the profile */
    unsigned short  verdicts_count;
    const struct tls_verdict *verdicts;  /* of the session; by every trust of the profile */
    unsigned char   key[TLS_HASH_LEN];   /* SHA-256 of its SubjectPublicKeyInfo */
    bool            certificate;  /* the peer sent one */
};

/* Who may vouch for a domain: an authority in `trust`, or who has a pinned key (tls_why). */
struct tls_rule {
    const struct tls_trust *trust;  /* borrowed; NULL: no authority */
    bool                    own;    /* of this domain's partner, in place of the common one */
    const unsigned char   (*pins)[TLS_HASH_LEN];  /* borrowed; as tls_facts.key */
    size_t                  pins_count;
};

/* Which of the good ciphers comes first: what costs less here, AES-GCM, or ChaCha20-Poly1305. */
enum tls_prefer { TLS_FASTEST, TLS_AES, TLS_CHACHA };

struct tls_options {
    bool        only_13;        /* TLS 1.3 and nothing older */
    enum tls_prefer prefer;     /* without `ciphersuites` */
    const char *ciphersuites;   /* names apart by space, ',' or ':'; NULL is tls_suite_is_good() */
    const char *keylog_file;    /* NULL: none.  Whoever reads it reads all traffic */
    const struct cert_limits *ceilings;  /* copied; NULL: cert_limits_default */
};

/* What computes handshakes: the loop (the first lane) or a thread.  mbed TLS writes to more than
 * its session during a handshake: random numbers, the blinding of an RSA key, and with 2.28 a table
 * in each elliptic curve that it multiplies on, be it of a key or of an authority.  So each lane
 * has its own of all these, and a session stays with the lane that it began in. */
struct tls_lane {
    unsigned                 index;   /* 0: the loop */
    bool                     seeded;
    mbedtls_entropy_context  entropy;
    mbedtls_ctr_drbg_context drbg;
    struct tls_shared       *shared;  /* borrowed */
    struct tls              *lent;    /* the loop's: given to it, not collected yet; NULL: free */
    unsigned                 turns;   /* the loop's: how often it was given something */
#if TLS_THREADS
    bool                     started; /* the loop's: there is a thread */
    pthread_t                thread;
    pthread_cond_t           wake;
    struct tls              *work;    /* under the lock; NULL: it waits for some */
    bool                     stop;    /* under the lock */
#endif
};

/* Of <limits>. */
struct tls_limits {
    size_t  threads;    /* 0: the loop computes, a step a turn */
    size_t  waiting;    /* sessions at a time */
    int64_t rate_us;    /* of a network, for each ms */
    int64_t burst_us;   /* and at once */
};

struct tls_shared {
    struct tls_lane          lanes[1 + TLS_LANES_MAX];
    struct loop             *loop;      /* borrowed; NULL: nothing is lent */
    struct tls_limits        limits;
    size_t                   threads;   /* of limits.threads, what the system gives */
    int64_t                  again;     /* ms: then more are tried */
    void                   (*no_thread)(void *user, size_t have, int error);   /* or NULL */
    void                    *user;      /* borrowed, for no_thread */
    struct list_node         waiting;   /* struct tls, in the order in which they came */
    size_t                   nwaiting;
    size_t                   nrunning;
    struct net_book         *nets;      /* borrowed, likewise; touched by the loop alone */
    struct timer             later;     /* all who wait are in debt */
    struct loop_task         turn;      /* without threads: the next step */
    struct loop_watch        woken;     /* the reading end of `wake` */
    int                      wake;      /* owned descriptor: a lane has something for the loop */
#if TLS_THREADS
    pthread_mutex_t          lock;
    struct list_node         done;      /* under the lock: struct tls that come back */
    pid_t                    process;   /* that the threads belong to */
#endif
    /* Records read ahead, within one tls_read() only: mbed TLS asks for each in two parts, and a
     * record may be as small as a stanza. */
    size_t                   ahead_room;  /* bytes that may be read ahead; 0: none */
    size_t                   ahead_at;    /* of them taken by mbed TLS */
    size_t                   ahead_len;   /* bytes in `ahead` */
    unsigned char            ahead[TLS_AHEAD_MAX];
};

struct tls_identity {
    unsigned             refs;    /* first: see tls_hold() */
    mbedtls_x509_crt     chain;   /* own certificate first */
    mbedtls_pk_context   key;
    struct tls_facts    *facts;   /* owned; what the own certificate says */
    struct tls_identity *copies[TLS_LANES_MAX];  /* owned; of the other lanes, made on first use */
};

struct tls_trust {
    unsigned          refs;      /* first */
    mbedtls_x509_crt  authorities;
    mbedtls_x509_crl  revoked;
    bool              has_revoked;
    unsigned          loaded;    /* certificates in it */
    unsigned char   (*anchors)[TLS_HASH_LEN];  /* owned; SHA-256 of each of them */
    unsigned char     revoked_hash[TLS_HASH_LEN];  /* of all its lists; 0 for none */
    struct tls_trust *copies[TLS_LANES_MAX];  /* owned; likewise, without `revoked` */
};

/* mbed TLS keeps a client's certificate in its configuration: one of these per identity in use. */
struct tls_variant {
    struct tls_identity *identity;  /* held; NULL for none */
    mbedtls_ssl_config  *confs[1 + TLS_LANES_MAX];  /* owned; of each lane, made on first use */
    struct tls_variant  *next;
};

/* A server name of ours (RFC 6066 3) and the identity to show to who asks for it. */
struct tls_name {
    char                *domain;    /* owned; in the form of xe_jid_domain_normal(), no NUL */
    size_t               len;
    struct tls_identity *identity;  /* held */
};

struct tls_profile {
    unsigned            refs;      /* first */
    struct tls_shared  *shared;    /* borrowed, outlives everything */
    struct tls_trust   *trust;     /* held; NULL believes nobody */
    struct tls_trust  **others;    /* owned, each held: see tls_profile_judge_by() */
    size_t              nothers;
    struct tls_variant *variants;  /* owned; made on first use, few */
    struct tls_name    *names;     /* owned; of a server: see tls_profile_serve() */
    size_t              nnames;
    struct tls_identity *otherwise;  /* held; for any other name, NULL: the session's own */
    const char         *alpn[TLS_ALPN_MAX + 1];
    int                 suites[TLS_SUITES_MAX + 1];  /* 0 ends it */
    int                 keylog;    /* descriptor, -1 for none */
    struct cert_limits  ceilings;  /* of the peer's certificates */
    bool                server;
    bool                with_12;
    bool                with_13;
};

/* The way that mbed TLS has found from a certificate (0) to an authority, while it is verified. */
struct tls_path {
    const mbedtls_x509_crt *crt[CERT_PATH_MAX];  /* borrowed */
    size_t                  len;      /* 0: not begun */
    bool                    trusted;  /* each has signed the one before, the last is an authority */
};

/* Where a handshake is: with its owner, in the queue, or being computed. */
enum tls_place { TLS_HERE, TLS_WAITING, TLS_RUNNING };

/* A lent session comes back.  On TLS_WANT_* it is lent again when the descriptor is ready. */
typedef void tls_back(struct tls *t, enum tls_result result, void *user);

struct tls {
    mbedtls_ssl_context  ssl;
    struct tls_profile  *profile;  /* held */
    struct tls_variant  *variant;  /* of the profile, with our identity */
    struct tls_lane     *lane;     /* computes the handshake; NULL before its first step */
    struct tls_facts    *facts;    /* owned; NULL before the handshake is over */
    struct tls_path      path;     /* by the common trust; good until the handshake is over */
    struct cert_flight   flight;   /* of the peer, looked at before mbed TLS has it */
    enum xe_why          why;      /* of TLS_FAILED, where there is a better one than that */
    size_t               barren;   /* bytes received since the last data: in a handshake, all */
    struct tls_verdict  *verdicts; /* owned; facts->verdicts points here */
    size_t               nverdicts;
    size_t               judged;   /* of profile->others */
    char                *sni;      /* owned, moves into facts */
    char                *error;    /* owned; facts->error points here */
    size_t               writing;  /* bytes of a record that is made but not wholly sent; 0: none */
    uint64_t             sent;     /* bytes that the system has taken */
    int                  fd;       /* borrowed */
    enum tls_result      end;      /* TLS_DONE, or how the session ended */
    bool                 begun;    /* tls_begin() was called */
    bool                 chosen;   /* an identity was picked by server name */
    size_t               allowance;  /* bytes that this call into mbed TLS may still receive */
    bool                 ahead;    /* within tls_read(): records may be read ahead */
    bool                 eof;      /* the descriptor has said end of file */
    bool                 goodbye;  /* close_notify has been sent */
    /* lending: the loop's, but for `result` and `spent_us` while it is running */
    enum tls_place       place;
    struct list_node     node;     /* in shared->waiting or shared->done */
    struct net_source   *from;     /* borrowed; whom it counts for; NULL: nobody */
    tls_back            *back;
    void                *user;     /* borrowed, for back */
    enum tls_result      result;
    int64_t              spent_us; /* processor time since it was lent */
    bool                 favoured; /* of a trunk: first, within its network's budget */
    bool                 dropped;  /* to be freed when it comes back */
};

/* ---- errors ---- */

static void
tls_error_text(int code, char out[TLS_ERROR_MAX])
{
    char text[160];
    mbedtls_strerror(code, text, sizeof text);
    snprintf(out, TLS_ERROR_MAX, "%s (-0x%04x)", text, (unsigned)-code);
}

/* "what file: message", for files of the configuration. */
static void
tls_file_error(char err[TLS_ERROR_MAX], const char *what, const char *file, int code)
{
    char text[TLS_ERROR_MAX];
    tls_error_text(code, text);
    snprintf(err, TLS_ERROR_MAX, "%s %.100s: %.120s", what, file, text);
}

/* Read a whole file into a buffer.  False with errno set. */
static bool
tls_file_read(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    int keep;
    if (fd < 0)
        return false;
    for (;;) {
        char *room = buf_room(out, TLS_FILE_STEP);
        errno = room == NULL ? EFBIG : errno;
        n = room == NULL ? -1 : read(fd, room, TLS_FILE_STEP);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        out->tail += (size_t)n;
    }
    keep = errno;
    close(fd);
    errno = keep;
    return n == 0;
}

/* The same in the system's words, of errno. */
static void
tls_file_lost(char err[TLS_ERROR_MAX], const char *what, const char *file)
{
    snprintf(err, TLS_ERROR_MAX, "%s %.100s: %.100s", what, file, strerror(errno));
}

/* mbed TLS does not tell why a file cannot be read; the system does. */
static bool
tls_file_readable(char err[TLS_ERROR_MAX], const char *what, const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        tls_file_lost(err, what, file);
        return false;
    }
    close(fd);
    return true;
}

/* ---- what all share ---- */

static void
tls_shared_close(struct tls_shared *shared)
{
    size_t i;
    if (shared == NULL)
        return;
    assert(shared->loop == NULL);
    for (i = 0; i < sizeof shared->lanes / sizeof shared->lanes[0]; i++) {
        mbedtls_ctr_drbg_free(&shared->lanes[i].drbg);
        mbedtls_entropy_free(&shared->lanes[i].entropy);
    }
    free(shared);
}

/* Random numbers for a lane, before its first work.  0, or mbed TLS's error. */
static int
tls_lane_seed(struct tls_lane *lane)
{
    int code;
    if (lane->seeded)
        return 0;
    code = mbedtls_ctr_drbg_seed(&lane->drbg, mbedtls_entropy_func, &lane->entropy,
        (const unsigned char *)"xmppedge", 8);
    lane->seeded = code == 0;
    return code;
}

static struct tls_shared *
tls_shared_open(char err[TLS_ERROR_MAX])
{
    struct tls_shared *shared = calloc(1, sizeof *shared);
    unsigned i;
    int code;
    if (shared == NULL || !tls_library_start()) {
        snprintf(err, TLS_ERROR_MAX, "the TLS library cannot be started");
        free(shared);
        return NULL;
    }
    shared->woken.fd = shared->wake = -1;
    list_init(&shared->waiting);
    for (i = 0; i < sizeof shared->lanes / sizeof shared->lanes[0]; i++) {
        shared->lanes[i].index = i;
        shared->lanes[i].shared = shared;
        mbedtls_entropy_init(&shared->lanes[i].entropy);
        mbedtls_ctr_drbg_init(&shared->lanes[i].drbg);
    }
    code = tls_lane_seed(&shared->lanes[0]);
    if (code != 0) {
        tls_error_text(code, err);
        tls_shared_close(shared);
        return NULL;
    }
    return shared;
}

/* Unpredictable bytes: stream ids, hash seeds, dialback secrets. */
static bool
tls_random(struct tls_shared *shared, void *out, size_t n)
{
    assert(n <= MBEDTLS_CTR_DRBG_MAX_REQUEST);
    return mbedtls_ctr_drbg_random(&shared->lanes[0].drbg, out, n) == 0;
}

/* Overwrite a secret that is of no more use. */
static void
tls_wipe(void *bytes, size_t n)
{
    mbedtls_platform_zeroize(bytes, n);
}

/* SHA-256.  False only when the library fails. */
static bool
tls_hash(const unsigned char *at, size_t len, unsigned char hash[TLS_HASH_LEN])
{
    return mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), at, len, hash) == 0;
}

/* "mbed TLS 2.28.3" */
static const char *
tls_library_name(char out[32])
{
    mbedtls_version_get_string_full(out);
    return out;
}

/* ---- names in a certificate ---- */

enum tls_name_kind { TLS_NAME_DNS, TLS_NAME_SRV, TLS_NAME_XMPP, TLS_NAME_KINDS };

/* An extension of a certificate that mbed TLS has read, found by us. */
static bool
tls_extension_find(const mbedtls_x509_crt *crt, enum cert_extension id, struct xe_span *value,
    bool *critical)
{
    struct xe_span raw = span_make((const char *)crt->v3_ext.p, crt->v3_ext.len);
    struct cert c = { .key = { NULL, 0 } };
    return cert_take_tag(&raw, CERT_SEQUENCE, &c.extensions)
        && cert_extension(&c, id, value, critical);
}

/* Find the content of subjectAltName (2.5.29.17).  mbed TLS's own list leaves out otherName or what
 * it does not know, differently in each version; the raw extensions are always there. */
static bool
tls_san_find(const mbedtls_x509_crt *crt, struct xe_span *names)
{
    struct xe_span value;
    bool critical;
    return tls_extension_find(crt, CERT_ALT_NAMES, &value, &critical)
        && cert_take_tag(&value, CERT_SEQUENCE, names);
}

/* OtherName ::= SEQUENCE { type-id OID, value [0] EXPLICIT ANY }; true when it is of type `oid`. */
static bool
tls_other_name(struct xe_span other, struct xe_span oid, struct xe_span *text)
{
    struct xe_span part;
    int tag;
    /* SRVName is an IA5String, xmppAddr a UTF8String; some issuers mix them up */
    return cert_take_tag(&other, CERT_OID, &part) && span_eq(part, oid)
        && cert_take_tag(&other, CERT_OTHER_NAME, &part) && cert_take(&part, &tag, text)
        && (tag == MBEDTLS_ASN1_UTF8_STRING || tag == MBEDTLS_ASN1_IA5_STRING);
}

/* No control characters, no blanks; nothing beyond ASCII where `ascii`.  A NUL inside a name is an
 * old trick. */
static bool
tls_name_is_clean(struct xe_span name, bool ascii)
{
    size_t i;
    for (i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (c <= 0x20 || c == 0x7f || (ascii && c > 0x7f))
            return false;
    }
    return name.len > 0 && name.len <= JID_PART_MAX;
}

/* Whether the GeneralName with this tag and content is a name of this kind. */
static bool
tls_name_is(enum tls_name_kind kind, int tag, struct xe_span value, struct xe_span *name)
{
    bool is = tag == CERT_DNS_NAME;
    *name = value;
    if (kind != TLS_NAME_DNS)
        is = tag == CERT_OTHER_NAME
            && tls_other_name(value, kind == TLS_NAME_SRV ? cert_srv_name : cert_xmpp_addr, name);
    return is && tls_name_is_clean(*name, kind != TLS_NAME_XMPP);
}

/* The names of one kind, at most `max`; *cut when there are more.  They point into `crt`. */
static size_t
tls_names_of(const mbedtls_x509_crt *crt, enum tls_name_kind kind, struct xe_span *names,
    size_t max, bool *cut)
{
    struct xe_span all = { NULL, 0 };
    struct xe_span value, name;
    size_t count = 0;
    int tag;
    if (!tls_san_find(crt, &all))
        return 0;
    while (cert_take(&all, &tag, &value)) {
        if (!tls_name_is(kind, tag, value, &name))
            continue;
        if (count == max) {
            *cut = true;
            break;
        }
        names[count++] = name;
    }
    return count;
}

/* ---- facts ---- */

/* What facts are made of, before one exact allocation takes it all. */
struct tls_draft {
    struct xe_span names[TLS_NAMES_MAX];     /* all kinds, one after the other */
    size_t         counts[TLS_NAME_KINDS];
    size_t         names_count;
    char           subject[TLS_DN_MAX];
    char           not_after[32];
    bool           names_cut;
};

static void
tls_time_text(const mbedtls_x509_time *when, char out[32])
{
    char text[96];
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", when->year, when->mon, when->day,
        when->hour, when->min, when->sec);
    text[31] = '\0';
    memcpy(out, text, 32);
}

static void
tls_draft_make(struct tls_draft *d, const mbedtls_x509_crt *crt)
{
    int kind;
    memset(d, 0, sizeof *d);
    if (crt == NULL)
        return;
    for (kind = 0; kind < TLS_NAME_KINDS; kind++) {
        d->counts[kind] = tls_names_of(crt, (enum tls_name_kind)kind, d->names + d->names_count,
            TLS_NAMES_MAX - d->names_count, &d->names_cut);
        d->names_count += d->counts[kind];
    }
    if (mbedtls_x509_dn_gets(d->subject, sizeof d->subject, &crt->subject) < 0)
        snprintf(d->subject, sizeof d->subject, "(long)");
    tls_time_text(&crt->valid_to, d->not_after);
}

/* Copy bytes behind what is there already and end them with NUL. */
static char *
tls_facts_put(char **at, struct xe_span s)
{
    char *start = *at;
    if (s.len > 0)
        memcpy(start, s.at, s.len);
    start[s.len] = '\0';
    *at += s.len + 1;
    return start;
}

static size_t
tls_draft_bytes(const struct tls_draft *d, const char *sni)
{
    size_t bytes = sizeof(struct tls_facts) + d->names_count * sizeof d->names[0];
    size_t i;
    for (i = 0; i < d->names_count; i++)
        bytes += d->names[i].len + 1;
    return bytes + strlen(d->subject) + strlen(d->not_after) + 2
        + (sni == NULL ? 0 : strlen(sni) + 1);
}

/* Facts about a certificate (NULL: none was sent), without verdicts.  NULL when memory is out. */
static struct tls_facts *
tls_facts_make(const mbedtls_x509_crt *crt, unsigned chain, const char *sni)
{
    struct tls_draft d;
    struct tls_facts *f;
    struct xe_span *names;
    char *at;
    size_t i;
    tls_draft_make(&d, crt);
    f = malloc(tls_draft_bytes(&d, sni));
    if (f == NULL)
        return NULL;
    names = (struct xe_span *)(void *)(f + 1);
    at = (char *)(names + d.names_count);
    for (i = 0; i < d.names_count; i++)
        names[i] = span_make(tls_facts_put(&at, d.names[i]), d.names[i].len);
    *f = (struct tls_facts){ .alert = XE_ALERT_NONE, .certificate = crt != NULL,
        .dns = names, .dns_count = (unsigned short)d.counts[TLS_NAME_DNS],
        .srv_id = names + d.counts[TLS_NAME_DNS],
        .srv_id_count = (unsigned short)d.counts[TLS_NAME_SRV],
        .xmpp_addr = names + d.counts[TLS_NAME_DNS] + d.counts[TLS_NAME_SRV],
        .xmpp_addr_count = (unsigned short)d.counts[TLS_NAME_XMPP],
        .chain = (unsigned short)(chain | (d.names_cut ? TLS_CHAIN_NAMES_CUT : 0u)) };
    if (sni != NULL)
        f->sni = tls_facts_put(&at, span_of(sni));
    if (crt == NULL)
        return f;
    f->subject = tls_facts_put(&at, span_of(d.subject));
    f->not_after = tls_facts_put(&at, span_of(d.not_after));
    if (tls_hash(crt->pk_raw.p, crt->pk_raw.len, f->key))
        return f;
    free(f);
    return NULL;
}

/* Whether the extended key usage has serverAuth, or is absent. */
static bool
tls_is_for_servers(const mbedtls_x509_crt *crt)
{
    return mbedtls_x509_crt_check_extended_key_usage(crt, MBEDTLS_OID_SERVER_AUTH,
        MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) == 0;
}

/* What a certificate says about itself whoever signed it. */
static unsigned
tls_chain_notes(const mbedtls_x509_crt *crt)
{
    unsigned notes = 0;
    if (crt->issuer_raw.len == crt->subject_raw.len
        && memcmp(crt->issuer_raw.p, crt->subject_raw.p, crt->issuer_raw.len) == 0)
        notes |= TLS_CHAIN_SELF_SIGNED;
    if (tls_is_for_servers(crt)
        && mbedtls_x509_crt_check_extended_key_usage(crt, MBEDTLS_OID_CLIENT_AUTH,
            MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)) != 0)
        notes |= TLS_CHAIN_EKU_SERVER_ONLY;
    return notes;
}

/* mbed TLS's flags in our words.  Whatever is not known here counts against the certificate. */
static unsigned
tls_chain_bits(const mbedtls_x509_crt *crt, uint32_t flags)
{
    static const struct { uint32_t flags; unsigned bit; } rows[] = {
        { MBEDTLS_X509_BADCERT_EXPIRED, TLS_CHAIN_EXPIRED },
        { MBEDTLS_X509_BADCERT_FUTURE, TLS_CHAIN_NOT_YET },
        { MBEDTLS_X509_BADCERT_NOT_TRUSTED, TLS_CHAIN_UNTRUSTED },
        { MBEDTLS_X509_BADCERT_REVOKED, TLS_CHAIN_REVOKED },
        { MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY,
            TLS_CHAIN_WEAK },
        { MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE
            | MBEDTLS_X509_BADCERT_NS_CERT_TYPE, TLS_CHAIN_USAGE },
        { MBEDTLS_X509_BADCRL_NOT_TRUSTED | MBEDTLS_X509_BADCRL_EXPIRED | MBEDTLS_X509_BADCRL_FUTURE
            | MBEDTLS_X509_BADCRL_BAD_MD | MBEDTLS_X509_BADCRL_BAD_PK | MBEDTLS_X509_BADCRL_BAD_KEY,
            TLS_CHAIN_CRL } };
    unsigned bits = tls_chain_notes(crt);
    size_t i;
    flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;   /* names are AUTH's business */
    if ((bits & TLS_CHAIN_EKU_SERVER_ONLY) != 0)
        flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if ((flags & rows[i].flags) != 0)
            bits |= rows[i].bit;
        flags &= ~rows[i].flags;
    }
    return bits | (flags != 0 ? TLS_CHAIN_OTHER : 0u);
}

/* The verdict on a chain as one reason, the gravest first. */
static enum xe_why
tls_chain_why(unsigned chain)
{
    static const struct { unsigned bits; enum xe_why why; } rows[] = {
        { TLS_CHAIN_REVOKED, XE_WHY_CERT_REVOKED }, { TLS_CHAIN_UNTRUSTED, XE_WHY_CERT_UNTRUSTED },
        { TLS_CHAIN_EXPIRED, XE_WHY_CERT_EXPIRED }, { TLS_CHAIN_NOT_YET, XE_WHY_CERT_NOT_YET },
        { TLS_CHAIN_NAMES, XE_WHY_CERT_CONSTRAINTS }, { TLS_CHAIN_USAGE, XE_WHY_CERT_PURPOSE },
        { TLS_CHAIN_WEAK, XE_WHY_CERT_WEAK }, { TLS_CHAIN_NOTES - 1, XE_WHY_CERT_INVALID } };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if ((chain & rows[i].bits) != 0)
            return rows[i].why;
    return XE_WHY_NONE;
}

/* Whether a store holds the authority at the end of a way, and revokes what was looked at. */
static bool
tls_trust_holds(const struct tls_trust *trust, const struct tls_verdict *v)
{
    unsigned i;
    if (memcmp(trust->revoked_hash, v->revoked, TLS_HASH_LEN) != 0)
        return false;
    for (i = 0; i < trust->loaded; i++)
        if (memcmp(trust->anchors[i], v->anchor, TLS_HASH_LEN) == 0)
            return true;
    return false;
}

/* The peer's chain from where a store (may be NULL) stands: the best way that leads to it. */
static unsigned
tls_chain_by(const struct tls_facts *facts, const struct tls_trust *trust)
{
    unsigned chain = facts->chain | (unsigned)TLS_CHAIN_UNTRUSTED;
    size_t i;
    for (i = 0; trust != NULL && i < facts->verdicts_count; i++) {
        const struct tls_verdict *v = &facts->verdicts[i];
        if (!tls_trust_holds(trust, v))
            continue;
        chain = v->chain | (facts->chain & ~(TLS_CHAIN_NOTES - 1u));
        if (tls_chain_why(chain) == XE_WHY_NONE)
            break;
    }
    return chain;
}

static bool
tls_unhex(struct xe_span text, unsigned char *out)
{
    size_t i;
    for (i = 0; i < text.len; i++) {
        unsigned digit = text_digit(text.at[i]);
        if (digit > 15)
            return false;
        out[i / 2] = (unsigned char)((i % 2 == 0 ? 0u : (unsigned)out[i / 2] << 4) | digit);
    }
    return true;
}

/* Read "sha256:" and a hash in base64 or in hexadecimal digits.  False when it is neither. */
static bool
tls_pin_parse(struct xe_span word, unsigned char pin[TLS_HASH_LEN])
{
    static const struct xe_span prefix = { "sha256:", 7 };
    size_t len = 0;
    if (word.len <= prefix.len || memcmp(word.at, prefix.at, prefix.len) != 0)
        return false;
    word = span_skip(word, prefix.len);
    if (word.len == 2 * TLS_HASH_LEN)
        return tls_unhex(word, pin);
    return word.len == 4 * ((TLS_HASH_LEN + 2) / 3)
        && mbedtls_base64_decode(pin, TLS_HASH_LEN, &len, (const unsigned char *)word.at,
            word.len) == 0 && len == TLS_HASH_LEN;
}

/* A hash as it may stand in the configuration, "sha256:BASE64". */
static const char *
tls_pin_text(const unsigned char pin[TLS_HASH_LEN], char out[TLS_PIN_MAX])
{
    size_t len;
    memcpy(out, "sha256:", 8);
    (void)mbedtls_base64_encode((unsigned char *)out + 7, TLS_PIN_MAX - 7, &len, pin, TLS_HASH_LEN);
    return out;
}

static bool
tls_is_pinned(const struct tls_facts *facts, const struct tls_rule *rule)
{
    size_t i;
    for (i = 0; i < rule->pins_count; i++)
        if (memcmp(rule->pins[i], facts->key, TLS_HASH_LEN) == 0)
            return true;
    return false;
}

/* What keeps the certificate from being believed under a rule; without one (NULL) what the common
 * trust of the profile said counts.  A pinned key takes the place of the
 * common authorities, as with DANE-EE (RFC 7671 5.1): whoever has it could sign for himself anyway,
 * so nothing is gained by asking who did.  Beside a trust of the partner's own both are needed, as
 * with PKIX-EE.  Either way the certificate must be in date, and all else that it says holds. */
static enum xe_why
tls_why(const struct tls_facts *facts, const struct tls_rule *rule)
{
    unsigned chain;
    if (!facts->certificate)
        return XE_WHY_CERT_MISSING;
    if (rule == NULL)
        return tls_chain_why(facts->chain);
    if (rule->pins_count > 0 && !tls_is_pinned(facts, rule))
        return XE_WHY_CERT_PIN;
    chain = tls_chain_by(facts, rule->trust);
    if (rule->pins_count > 0 && !rule->own)
        chain &= ~(unsigned)TLS_CHAIN_UNTRUSTED;
    if (rule->own && (chain & TLS_CHAIN_UNTRUSTED) != 0 && facts->verdicts_count > 0)
        return XE_WHY_CERT_NOT_FOR_PARTNER;
    return tls_chain_why(chain);
}

/* The bits of a chain as words for the log, "expired,self-signed"; "" for none. */
static const char *
tls_chain_text(unsigned chain, char out[TLS_CHAIN_MAX])
{
    static const char *const words[] = { "expired", "not-yet-valid", "untrusted", "revoked", "weak",
        "usage", "crl", "other", "names", "self-signed", "eku-server-only", "names-cut" };
    size_t at = 0;
    size_t i;
    out[0] = '\0';
    for (i = 0; i < sizeof words / sizeof words[0]; i++) {
        if ((chain >> i & 1u) == 0)
            continue;
        snprintf(out + at, TLS_CHAIN_MAX - at, "%s%s", at == 0 ? "" : ",", words[i]);
        at += strlen(out + at);
    }
    return out;
}

/* ---- counted objects: the count is their first member ---- */

/* One more reference to an object (may be NULL), which is returned. */
static void *
tls_hold(void *object)
{
    if (object != NULL)
        ++*(unsigned *)object;
    return object;
}

/* One less.  True when it was the last, and the object has to go. */
static bool
tls_let_go(void *object)
{
    return object != NULL && --*(unsigned *)object == 0;
}

/* ---- identity: a certificate chain and its key ---- */

static void
tls_identity_release(struct tls_identity *id)
{
    size_t i;
    if (!tls_let_go(id))
        return;
    for (i = 0; i < TLS_LANES_MAX; i++)
        tls_identity_release(id->copies[i]);
    mbedtls_x509_crt_free(&id->chain);
    mbedtls_pk_free(&id->key);
    free(id->facts);
    free(id);
}

/* What the own certificate says.  `chain` has EXPIRED and NOT_YET as of loading, and USAGE when
 * mbed TLS would not show it as a server: worth a warning when the configuration is read.
 * peer_may_speak_for() answers whether it covers a domain. */
static const struct tls_facts *
tls_identity_facts(const struct tls_identity *id)
{
    return id->facts;
}

/* Has the chain a critical name constraint?  We read it; mbed TLS at the other end does not. */
static bool
tls_identity_constrains(const struct tls_identity *id)
{
    const mbedtls_x509_crt *crt;
    struct xe_span value;
    bool critical;
    for (crt = &id->chain; crt != NULL; crt = crt->next)
        if (tls_extension_find(crt, CERT_CONSTRAINTS, &value, &critical) && critical)
            return true;
    return false;
}

/* What the labels of a PEM file say is in it. */
enum tls_pem { TLS_PEM_CERTIFICATE = 1, TLS_PEM_KEY = 2 };

static unsigned
tls_pem_labels(const char *file)
{
    char line[128];
    unsigned labels = 0;
    FILE *in = fopen(file, "r");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, "-----BEGIN ", 11) == 0)
            labels |= strstr(line, "PRIVATE KEY-----") != NULL ? TLS_PEM_KEY
                : strstr(line, "CERTIFICATE-----") != NULL ? TLS_PEM_CERTIFICATE : 0u;
    if (in != NULL)
        fclose(in);
    return labels;
}

/* Asked by mbed TLS about an extension that it does not know.  Constraints are known to [CERT]. */
static int
tls_extension_is_known(void *user, const mbedtls_x509_crt *crt, const mbedtls_x509_buf *oid,
    int critical, const unsigned char *at, const unsigned char *end)
{
    (void)user;
    (void)crt;
    (void)critical;
    (void)at;
    (void)end;
    return oid->len == 3 && memcmp(oid->p, "\x55\x1d\x1e", 3) == 0 ? 0
        : MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE;
}

/* Add a certificate to a list; `copy`: its bytes will not stay.  0, or an error of mbed TLS.  Not
 * as in a handshake, critical name constraints are none: whoever verifies with it obeys them. */
static int
tls_certificate_read(mbedtls_x509_crt *to, const unsigned char *der, size_t len, bool copy)
{
    return mbedtls_x509_crt_parse_der_with_ext_cb(to, der, len, copy, tls_extension_is_known, NULL);
}

/* Add every certificate of a PEM text, or the one that a file in DER is.  0, or why the last one
 * that was left out cannot be read.  `len` counts the NUL at the end of a text. */
static int
tls_certificates_read(mbedtls_x509_crt *to, const unsigned char *text, size_t len)
{
    int code = 0;
    if (strstr((const char *)text, "-----BEGIN CERTIFICATE-----") == NULL)
        return tls_certificate_read(to, text, len - 1, true);
    while (len > 1) {
        mbedtls_pem_context pem;
        size_t used = 0;
        int one;
        mbedtls_pem_init(&pem);
        one = mbedtls_pem_read_buffer(&pem, "-----BEGIN CERTIFICATE-----",
            "-----END CERTIFICATE-----", text, NULL, 0, &used);
        if (one == 0)
            one = tls_certificate_read(to, pem.TLS_FIELD(buf), pem.TLS_FIELD(buflen), true);
        mbedtls_pem_free(&pem);
        if (used == 0)
            return one == MBEDTLS_ERR_PEM_NO_HEADER_FOOTER_PRESENT ? code : one;
        code = one == 0 ? code : one;
        text += used;
        len -= used;
    }
    return code;
}

/* Add those of a file.  False: it cannot be read.  *code as above. */
static bool
tls_certificates_load(mbedtls_x509_crt *to, const char *file, int *code)
{
    struct buf text = { .max = TLS_TRUST_MAX };
    bool ok = tls_file_read(file, &text) && buf_putc(&text, '\0');
    if (ok)
        *code = tls_certificates_read(to, (const unsigned char *)buf_at(&text), buf_len(&text));
    buf_free(&text);
    return ok;
}

/* Why a certificate or its key cannot be read: the usual mistakes first. */
static void
tls_identity_error(char err[TLS_ERROR_MAX], const char *what, const char *file, bool key, int code)
{
    unsigned labels = tls_pem_labels(file);
    if (labels == (key ? TLS_PEM_CERTIFICATE : TLS_PEM_KEY))
        snprintf(err, TLS_ERROR_MAX, "%s %.100s: this is a %s: are chain and key swapped?", what,
            file, key ? "certificate" : "private key");
    else if (code == MBEDTLS_ERR_PK_PASSWORD_REQUIRED)
        snprintf(err, TLS_ERROR_MAX, "%s %.100s: encrypted private keys are not supported; remove "
            "the password", what, file);
    else
        tls_file_error(err, what, file, code);
}

static bool
tls_identity_read(struct tls_shared *shared, struct tls_identity *id, const char *chain_file,
    const char *key_file, char err[TLS_ERROR_MAX])
{
    int code;
    (void)shared;   /* 2.28 needs no random numbers here */
    if (!tls_certificates_load(&id->chain, chain_file, &code)) {
        tls_file_lost(err, "certificate", chain_file);
        return false;
    }
    if (code != 0) {
        tls_identity_error(err, "certificate", chain_file, false, code);
        return false;
    }
    if (!tls_file_readable(err, "private key", key_file))
        return false;
    code = mbedtls_pk_parse_keyfile(&id->key, key_file, NULL TLS_WITH_RNG(&shared->lanes[0]));
    if (code != 0)
        tls_identity_error(err, "private key", key_file, true, code);
    return code == 0;
}

/* The key must belong to the first certificate; say so when it belongs to a later one. */
static bool
tls_identity_matches(struct tls_shared *shared, struct tls_identity *id, const char *chain_file,
    const char *key_file, char err[TLS_ERROR_MAX])
{
    mbedtls_x509_crt *crt;
    (void)shared;
    for (crt = &id->chain; crt != NULL; crt = crt->next)
        if (mbedtls_pk_check_pair(&crt->pk, &id->key TLS_WITH_RNG(&shared->lanes[0])) == 0)
            break;
    if (crt == &id->chain)
        return true;
    snprintf(err, TLS_ERROR_MAX, crt == NULL
        ? "the private key %.90s does not belong to the certificate %.90s"
        : "the certificate of the private key %.90s must come first in %.90s",
        key_file, chain_file);
    return false;
}

/* Load a PEM chain, own certificate first, and its unencrypted key.  NULL and `err` on failure. */
static struct tls_identity *
tls_identity_load(struct tls_shared *shared, const char *chain_file, const char *key_file,
    char err[TLS_ERROR_MAX])
{
    struct tls_identity *id = calloc(1, sizeof *id);
    unsigned chain;
    if (id == NULL) {
        snprintf(err, TLS_ERROR_MAX, "out of memory");
        return NULL;
    }
    id->refs = 1;
    mbedtls_x509_crt_init(&id->chain);
    mbedtls_pk_init(&id->key);
    if (!tls_identity_read(shared, id, chain_file, key_file, err)
        || !tls_identity_matches(shared, id, chain_file, key_file, err))
        goto fail;
    chain = tls_chain_notes(&id->chain);
    if (!tls_is_for_servers(&id->chain))
        chain |= TLS_CHAIN_USAGE;
    if (mbedtls_x509_time_is_past(&id->chain.valid_to))
        chain |= TLS_CHAIN_EXPIRED;
    if (mbedtls_x509_time_is_future(&id->chain.valid_from))
        chain |= TLS_CHAIN_NOT_YET;
    id->facts = tls_facts_make(&id->chain, chain, NULL);
    if (id->facts != NULL)
        return id;
    snprintf(err, TLS_ERROR_MAX, "out of memory");
fail:
    tls_identity_release(id);
    return NULL;
}

/* The certificates of `from` for another lane, which shares their bytes and nothing else. */
static bool
tls_certificates_copy(mbedtls_x509_crt *to, const mbedtls_x509_crt *from)
{
    for (; from != NULL; from = from->next)
        if (from->raw.p != NULL
            && tls_certificate_read(to, from->raw.p, from->raw.len, false) != 0)
            return false;
    return true;
}

static bool
tls_key_copy(mbedtls_pk_context *to, mbedtls_pk_context *from, struct tls_lane *lane)
{
    unsigned char der[TLS_KEY_MAX];
    int len = mbedtls_pk_write_key_der(from, der, sizeof der);
    int code = len;
    (void)lane;
    if (len > 0)   /* it is written to the end of the buffer */
        code = mbedtls_pk_parse_key(to, der + sizeof der - len, (size_t)len,
            NULL, 0 TLS_WITH_RNG(lane));
    tls_wipe(der, sizeof der);
    return len > 0 && code == 0;
}

/* The identity as this lane may use it; NULL when memory is out.  Called by the lane. */
static struct tls_identity *
tls_identity_in(struct tls_identity *id, struct tls_lane *lane)
{
    struct tls_identity *copy;
    if (id == NULL || lane->index == 0)
        return id;
    copy = id->copies[lane->index - 1];
    if (copy != NULL)
        return copy;
    copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    copy->refs = 1;
    mbedtls_x509_crt_init(&copy->chain);
    mbedtls_pk_init(&copy->key);
    if (!tls_certificates_copy(&copy->chain, &id->chain)
        || !tls_key_copy(&copy->key, &id->key, lane)) {
        tls_identity_release(copy);
        return NULL;
    }
    id->copies[lane->index - 1] = copy;
    return copy;
}

/* ---- trust: authorities and revocation lists ---- */

static void
tls_trust_release(struct tls_trust *trust)
{
    size_t i;
    if (!tls_let_go(trust))
        return;
    for (i = 0; i < TLS_LANES_MAX; i++)
        tls_trust_release(trust->copies[i]);
    mbedtls_x509_crt_free(&trust->authorities);
    mbedtls_x509_crl_free(&trust->revoked);
    free(trust->anchors);
    free(trust);
}

/* System bundles hold entries that mbed TLS does not understand: they are passed over. */
static bool
tls_trust_read(struct tls_trust *trust, const char *ca_file, char err[TLS_ERROR_MAX])
{
    const mbedtls_x509_crt *crt;
    int code;
    if (!tls_certificates_load(&trust->authorities, ca_file, &code)) {
        tls_file_lost(err, "authorities", ca_file);
        return false;
    }
    for (crt = &trust->authorities; crt != NULL; crt = crt->next)
        trust->loaded += crt->raw.p != NULL ? 1u : 0u;
    if (trust->loaded == 0)
        tls_file_error(err, "authorities", ca_file, code);
    return trust->loaded > 0;
}

/* Know the authorities and the lists by their hashes, when both are read. */
static bool
tls_trust_hash(struct tls_trust *trust)
{
    const mbedtls_x509_crt *crt;
    const mbedtls_x509_crl *crl;
    unsigned char both[2 * TLS_HASH_LEN] = { 0 };
    unsigned n = 0;
    trust->anchors = calloc(trust->loaded, sizeof *trust->anchors);
    if (trust->anchors == NULL)
        return false;
    for (crt = &trust->authorities; crt != NULL; crt = crt->next)
        if (crt->raw.p != NULL && !tls_hash(crt->raw.p, crt->raw.len, trust->anchors[n++]))
            return false;
    for (crl = &trust->revoked; trust->has_revoked && crl != NULL; crl = crl->next)
        if (crl->raw.p != NULL && (!tls_hash(crl->raw.p, crl->raw.len, both + TLS_HASH_LEN)
            || !tls_hash(both, sizeof both, both)))
            return false;
    memcpy(trust->revoked_hash, both, TLS_HASH_LEN);
    return true;
}

/* Load the authorities to believe (PEM bundle) and, where given, their revocation lists.  A list
 * that is outdated makes the certificates of its authority unacceptable (TLS_CHAIN_CRL): whoever
 * configures one wants it to count. */
static struct tls_trust *
tls_trust_load(const char *ca_file, const char *crl_file, char err[TLS_ERROR_MAX])
{
    struct tls_trust *trust = calloc(1, sizeof *trust);
    if (trust == NULL) {
        snprintf(err, TLS_ERROR_MAX, "out of memory");
        return NULL;
    }
    trust->refs = 1;
    mbedtls_x509_crt_init(&trust->authorities);
    mbedtls_x509_crl_init(&trust->revoked);
    if (!tls_trust_read(trust, ca_file, err))
        goto fail;
    if (crl_file != NULL) {
        int code;
        if (!tls_file_readable(err, "revocation list", crl_file))
            goto fail;
        code = mbedtls_x509_crl_parse_file(&trust->revoked, crl_file);
        if (code != 0) {
            tls_file_error(err, "revocation list", crl_file, code);
            goto fail;
        }
        trust->has_revoked = true;
    }
    if (tls_trust_hash(trust))
        return trust;
    snprintf(err, TLS_ERROR_MAX, "out of memory");
fail:
    tls_trust_release(trust);
    return NULL;
}

/* The authorities as this lane may use them; NULL when memory is out.  Called by the lane.  What is
 * revoked is only read, so the first lane's list serves all. */
static struct tls_trust *
tls_trust_in(struct tls_trust *trust, struct tls_lane *lane)
{
    struct tls_trust *copy;
    if (trust == NULL || lane->index == 0)
        return trust;
    copy = trust->copies[lane->index - 1];
    if (copy != NULL)
        return copy;
    copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    copy->refs = 1;
    mbedtls_x509_crt_init(&copy->authorities);
    mbedtls_x509_crl_init(&copy->revoked);
    if (!tls_certificates_copy(&copy->authorities, &trust->authorities)) {
        tls_trust_release(copy);
        return NULL;
    }
    trust->copies[lane->index - 1] = copy;
    return copy;
}

/* How many authorities of a store another one does not hold.  `first` gets the first's subject. */
static unsigned
tls_trust_alone(const struct tls_trust *trust, const struct tls_trust *other,
    char first[TLS_DN_MAX])
{
    const mbedtls_x509_crt *crt;
    unsigned count = 0;
    unsigned n = 0;
    for (crt = &trust->authorities; crt != NULL; crt = crt->next) {
        unsigned i = 0;
        if (crt->raw.p == NULL)
            continue;
        while (i < other->loaded
            && memcmp(other->anchors[i], trust->anchors[n], TLS_HASH_LEN) != 0)
            i++;
        n++;
        if (i < other->loaded)
            continue;
        if (count++ == 0 && mbedtls_x509_dn_gets(first, TLS_DN_MAX, &crt->subject) < 0)
            snprintf(first, TLS_DN_MAX, "(long)");
    }
    return count;
}

/* mbed TLS shows each certificate of the way that it has found, the authority's first. */
static int
tls_path_add(void *path, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct tls_path *p = path;
    if (p->len == 0) {
        p->len = (size_t)depth + 1;
        p->trusted = true;
    }
    if ((*flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0)
        p->trusted = false;   /* somewhere below, a signature that is not the authority's */
    if ((size_t)depth < CERT_PATH_MAX)
        p->crt[depth] = crt;
    return 0;
}

/* Judge a chain by a store and nothing else: mbed TLS's flags, and the way found.  `here` is the
 * store of the lane that computes; NULL: there was no memory for it. */
static uint32_t
tls_trust_verify(struct tls_trust *trust, struct tls_trust *here, mbedtls_x509_crt *chain,
    struct tls_path *path)
{
    mbedtls_x509_crl *revoked = trust->has_revoked ? &trust->revoked : NULL;
    uint32_t flags = 0;
    int code;
    *path = (struct tls_path){ .len = 0 };
    if (here == NULL)
        return MBEDTLS_X509_BADCERT_OTHER;
    code = mbedtls_x509_crt_verify(
        chain, &here->authorities, revoked, NULL, &flags, tls_path_add, path);
    if (code == 0 || code == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
        return flags;
    path->trusted = false;
    return MBEDTLS_X509_BADCERT_OTHER;
}

/* What mbed TLS does not look at on a way that it has found: TLS_CHAIN_*. */
static unsigned
tls_path_bits(const struct tls_path *path, unsigned purposes, const struct cert_limits *ceilings)
{
    struct xe_span der[CERT_PATH_MAX];
    unsigned bad;
    size_t i;
    if (!path->trusted)
        return 0;   /* it leads nowhere */
    for (i = 0; i < path->len && i < CERT_PATH_MAX; i++)
        der[i] = span_make((const char *)path->crt[i]->raw.p, path->crt[i]->raw.len);
    bad = cert_path_judge(der, path->len, purposes, ceilings);
    return ((bad & CERT_BAD_KEY) != 0 ? TLS_CHAIN_WEAK : 0u)
        | ((bad & CERT_BAD_PURPOSE) != 0 ? TLS_CHAIN_USAGE : 0u)
        | ((bad & CERT_BAD_NAMES) != 0 ? TLS_CHAIN_NAMES : 0u)
        | ((bad & CERT_BAD_PATH) != 0 ? TLS_CHAIN_UNTRUSTED : 0u);
}

/* What somebody with this trust finds in our own chain: TLS_CHAIN_*, without the notes. */
static unsigned
tls_trust_verdict(struct tls_trust *trust, struct tls_identity *id)
{
    struct tls_path path;
    uint32_t flags = tls_trust_verify(trust, trust, &id->chain, &path);
    return (tls_chain_bits(&id->chain, flags) & (TLS_CHAIN_NOTES - 1u))
        | tls_path_bits(&path, CERT_FOR_SERVERS, &cert_limits_default);
}

/* The first certificate of a list that some ceilings refuse, as a peer's. */
struct tls_beyond {
    enum xe_why why;                  /* NONE: there is none */
    unsigned    nth;                  /* from 1 */
    char        subject[TLS_DN_MAX];
};

/* Of a chain its number and its bytes count too. */
static void
tls_ceilings_hold(const mbedtls_x509_crt *crt, bool chain, const struct cert_limits *ceilings,
    struct tls_beyond *b)
{
    size_t bytes = 3;   /* of the message: RFC 5246 7.4.2 */
    struct cert c;
    *b = (struct tls_beyond){ .why = XE_WHY_NONE };
    for (; crt != NULL && b->why == XE_WHY_NONE; crt = crt->next) {
        if (crt->raw.p == NULL)
            continue;
        b->nth++;
        bytes += 3 + crt->raw.len;
        if (chain && b->nth > ceilings->count_max)
            b->why = XE_WHY_CERT_CHAIN_LENGTH;
        else if (chain && bytes > ceilings->bytes_max)
            b->why = XE_WHY_CERT_CHAIN_BYTES;
        else if (!cert_read(span_make((const char *)crt->raw.p, crt->raw.len), &c))
            b->why = XE_WHY_CERT_MALFORMED;
        else
            b->why = cert_key_why(&c, ceilings);
        if (mbedtls_x509_dn_gets(b->subject, TLS_DN_MAX, &crt->subject) < 0)
            snprintf(b->subject, TLS_DN_MAX, "(long)");
    }
}

static void
tls_identity_holds(const struct tls_identity *id, const struct cert_limits *ceilings,
    struct tls_beyond *b)
{
    tls_ceilings_hold(&id->chain, true, ceilings, b);
}

static void
tls_authorities_hold(const struct tls_trust *trust, const struct cert_limits *ceilings,
    struct tls_beyond *b)
{
    tls_ceilings_hold(&trust->authorities, false, ceilings, b);
}

/* Whether two names have the same parts, in any case and encoding: never stricter than mbed TLS. */
static bool
tls_same_name(const mbedtls_x509_name *a, const mbedtls_x509_name *b)
{
    for (; a != NULL && b != NULL; a = a->next, b = b->next)
        if (a->oid.len != b->oid.len || a->val.len != b->val.len
            || (a->oid.len > 0 && memcmp(a->oid.p, b->oid.p, a->oid.len) != 0)
            || (a->val.len > 0
                && strncasecmp((char *)a->val.p, (char *)b->val.p, a->val.len) != 0))
            return false;
    return a == b;
}

/* Whether a chain names an authority of the store: only then is it worth computing. */
static bool
tls_trust_is_named(const struct tls_trust *trust, const mbedtls_x509_crt *chain)
{
    const mbedtls_x509_crt *ca;
    for (; chain != NULL; chain = chain->next)
        for (ca = &trust->authorities; ca != NULL; ca = ca->next)
            if (tls_same_name(&chain->issuer, &ca->subject))
                return true;
    return false;
}

/* ---- which cipher costs less here ---- */

/* Processor time of this thread. */
static int64_t
tls_clock_us(void)
{
    struct timespec now = { 0, 0 };
    clock_gettime(TLS_CLOCK, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* What a cipher takes to seal TLS_PACE_RECORDS, at least 1 us; 0: the library does not have it. */
static int64_t
tls_pace_measure(mbedtls_cipher_type_t type)
{
    int64_t best = 0;
#if defined(MBEDTLS_CIPHER_MODE_AEAD)
    unsigned char record[TLS_PACE_RECORD + 16] = { 0 };   /* and its tag */
    static const unsigned char zero[32] = { 0 };          /* key, nonce and header */
    mbedtls_cipher_context_t cipher;
    size_t len;
    int i;
    bool ok;
    mbedtls_cipher_init(&cipher);
    ok = mbedtls_cipher_setup(&cipher, mbedtls_cipher_info_from_type(type)) == 0
        && mbedtls_cipher_setkey(&cipher, zero, mbedtls_cipher_get_key_bitlen(&cipher),
            MBEDTLS_ENCRYPT) == 0;
    for (i = 0; ok && i < TLS_PACE_TRIES; i++) {
        int64_t us = tls_clock_us();
        int n;
        for (n = 0; ok && n < TLS_PACE_RECORDS; n++)
            ok = mbedtls_cipher_auth_encrypt_ext(&cipher, zero, 12, zero, 13, record,
                TLS_PACE_RECORD, record, sizeof record, &len, 16) == 0;
        us = tls_clock_us() - us + 1;
        best = best == 0 || us < best ? us : best;
    }
    best = ok ? best : 0;
    mbedtls_cipher_free(&cipher);
#else
    (void)type;
#endif
    return best;
}

/* us as tls_pace_measure() */
struct tls_paces {
    int64_t aes;
    int64_t chacha;
};

/* Measured when it is asked for first, for a ms or two, and then the same for every instance of the
 * process: two of them that disagree would puzzle whoever reads their logs. */
static struct tls_paces tls_paces_here;

static void
tls_paces_measure(void)
{
    struct tls_paces *here = &tls_paces_here;
    here->aes = tls_pace_measure(MBEDTLS_CIPHER_AES_256_GCM);
    if (here->aes == 0)
        here->aes = tls_pace_measure(MBEDTLS_CIPHER_AES_128_GCM);
    here->chacha = tls_pace_measure(MBEDTLS_CIPHER_CHACHA20_POLY1305);
}

static const struct tls_paces *
tls_paces(void)
{
#if TLS_THREADS
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, tls_paces_measure);
#else
    static bool once;
    if (!once)
        tls_paces_measure();
    once = true;
#endif
    return &tls_paces_here;
}

/* AES when there is nothing between them: most peers have hardware for it. */
static enum tls_prefer
tls_paces_prefer(const struct tls_paces *p)
{
    if (p->aes == 0 || p->chacha == 0)
        return p->aes == 0 && p->chacha != 0 ? TLS_CHACHA : TLS_AES;
    return p->chacha * 100 < p->aes * (100 - TLS_PACE_TIE) ? TLS_CHACHA : TLS_AES;
}

static void
tls_paces_put_one(struct buf *out, const char *what, const char *name, int64_t us)
{
    buf_puts(out, what);
    buf_puts(out, name);
    if (us > 0) {
        buf_puts(out, " (");
        buf_putu(out, (uint64_t)(TLS_PACE_RECORDS * TLS_PACE_RECORD / us));
        buf_puts(out, " MB/s)");
    }
}

/* What costs less, and what it is compared with, for `--version`. */
static void
tls_paces_put(struct buf *out, const struct tls_paces *p)
{
    bool chacha = tls_paces_prefer(p) == TLS_CHACHA;
    const char *const names[] = { "AES-GCM", "ChaCha20-Poly1305" };
    int64_t us[] = { p->aes, p->chacha };
    tls_paces_put_one(out, "prefers ", names[chacha], us[chacha]);
    if (us[!chacha] > 0)
        tls_paces_put_one(out, " to ", names[!chacha], us[!chacha]);
}

/* ---- profile: what sessions have in common ---- */

/* Forward secrecy and authenticated encryption only (RFC 7590, RFC 9325 4.2): ECDHE with AES-GCM or
 * ChaCha20-Poly1305, and those of TLS 1.3.  No finite-field DHE: who speaks AEAD speaks ECDHE, at a
 * tenth of the cost. */
static bool
tls_suite_is_good(const char *name)
{
    bool secrecy = strncmp(name, "TLS-ECDHE-ECDSA-", 16) == 0
        || strncmp(name, "TLS-ECDHE-RSA-", 14) == 0 || strncmp(name, "TLS1-3-", 7) == 0;
    bool sealed = (strstr(name, "-AES-") != NULL && strstr(name, "-GCM-") != NULL)
        || strstr(name, "-CHACHA20-") != NULL;
    return secrecy && sealed;
}

/* All good ones, those of the preferred cipher first, and else in the library's order: AES-256
 * before AES-128.  (As a server mbed TLS takes the first of these that the client knows; in TLS 1.3
 * the first of the client's that is among these.) */
static void
tls_suites_default(struct tls_profile *p, enum tls_prefer prefer)
{
    const int *all = mbedtls_ssl_list_ciphersuites();
    size_t count = 0;
    int later;
    if (prefer == TLS_FASTEST)
        prefer = tls_paces_prefer(tls_paces());
    for (later = 0; later < 2; later++) {
        bool chacha = (prefer == TLS_CHACHA) == (later == 0);
        size_t i;
        for (i = 0; all[i] != 0 && count < TLS_SUITES_MAX; i++) {
            const char *name = mbedtls_ssl_get_ciphersuite_name(all[i]);
            if (tls_suite_is_good(name) && (strstr(name, "CHACHA20") != NULL) == chacha)
                p->suites[count++] = all[i];
        }
    }
}

/* A configured name, spelt as mbed TLS or IANA does: TLS1-3-AES-..., TLS_AES_128_GCM_SHA256. */
static int
tls_suite_find(struct xe_span word, bool *is_13)
{
    char name[80] = "TLS1-3-";
    bool modern = word.len > 4 && strncmp(word.at, "TLS_", 4) == 0;
    size_t at = 0;
    size_t i;
    for (i = 0; modern && i + 6 <= word.len; i++)
        modern = strncmp(word.at + i, "_WITH_", 6) != 0;
    if (modern) {
        at = 7;
        word = span_skip(word, 4);
    }
    if (word.len >= sizeof name - at)
        return 0;
    for (i = 0; i < word.len; i++)
        name[at + i] = word.at[i] == '_' ? '-' : word.at[i];
    name[at + i] = '\0';
    *is_13 = strncmp(name, "TLS1-3-", 7) == 0;
    return mbedtls_ssl_get_ciphersuite_id(name);
}

/* The configured list; also turns off a TLS version that is left without ciphersuite. */
static bool
tls_suites_parse(struct tls_profile *p, const char *list, char err[TLS_ERROR_MAX])
{
    bool any_12 = false;
    bool any_13 = false;
    size_t count = 0;
    while (list[strspn(list, " ,:\t\n")] != '\0') {
        struct xe_span word;
        bool is_13 = false;
        int id;
        list += strspn(list, " ,:\t\n");
        word = span_make(list, strcspn(list, " ,:\t\n"));
        list += word.len;
        id = tls_suite_find(word, &is_13);
        if (is_13 && !TLS_HAS_13)
            continue;   /* the same configuration must do for both libraries */
        if (id == 0 || count == TLS_SUITES_MAX) {
            snprintf(err, TLS_ERROR_MAX, id == 0 ? "unknown ciphersuite \"%.*s\""
                : "too many ciphersuites at \"%.*s\"",
                (int)(word.len < 80 ? word.len : 80), word.at);
            return false;
        }
        p->suites[count++] = id;
        any_12 = any_12 || !is_13;
        any_13 = any_13 || is_13;
    }
    p->with_12 = p->with_12 && any_12;
    p->with_13 = p->with_13 && any_13;
    if (!p->with_12 && !p->with_13)
        snprintf(err, TLS_ERROR_MAX, "no ciphersuite is left for the permitted TLS versions");
    return p->with_12 || p->with_13;
}

static bool
tls_profile_versions(struct tls_profile *p, bool only_13, char err[TLS_ERROR_MAX])
{
    if (only_13 && !TLS_HAS_13) {
        snprintf(err, TLS_ERROR_MAX, "this build of mbed TLS has no TLS 1.3");
        return false;
    }
    p->with_12 = !only_13;
    p->with_13 = TLS_HAS_13;
    return true;
}

static void
tls_conf_free(mbedtls_ssl_config *conf)
{
    if (conf != NULL)
        mbedtls_ssl_config_free(conf);
    free(conf);
}

static void
tls_variant_free(struct tls_variant *v)
{
    size_t i;
    for (i = 0; i < sizeof v->confs / sizeof v->confs[0]; i++)
        tls_conf_free(v->confs[i]);
    tls_identity_release(v->identity);
    free(v);
}

static void
tls_profile_release(struct tls_profile *p)
{
    if (!tls_let_go(p))
        return;
    while (p->variants != NULL) {
        struct tls_variant *v = p->variants;
        p->variants = v->next;
        tls_variant_free(v);
    }
    while (p->nnames > 0) {
        p->nnames--;
        free(p->names[p->nnames].domain);
        tls_identity_release(p->names[p->nnames].identity);
    }
    free(p->names);
    tls_identity_release(p->otherwise);
    tls_trust_release(p->trust);
    while (p->nothers > 0)
        tls_trust_release(p->others[--p->nothers]);
    free(p->others);
    if (p->keylog >= 0)
        close(p->keylog);
    free(p);
}

static bool
tls_profile_keylog(struct tls_profile *p, const char *file, char err[TLS_ERROR_MAX])
{
    if (file == NULL)
        return true;
    p->keylog = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (p->keylog < 0)
        snprintf(err, TLS_ERROR_MAX, "key log %.100s: %.100s", file, strerror(errno));
    return p->keylog >= 0;
}

/* What one side's sessions share.  `trust` is held (NULL: every chain is untrusted).  `alpn` is a
 * NULL-ended list of static strings, or NULL.  NULL and `err` on failure. */
static struct tls_profile *
tls_profile_new(struct tls_shared *shared, bool server, const struct tls_options *options,
    struct tls_trust *trust, const char *const *alpn, char err[TLS_ERROR_MAX])
{
    struct tls_profile *p = calloc(1, sizeof *p);
    size_t i;
    if (p == NULL) {
        snprintf(err, TLS_ERROR_MAX, "out of memory");
        return NULL;
    }
    p->refs = 1;
    p->keylog = -1;
    p->shared = shared;
    p->server = server;
    p->trust = tls_hold(trust);
    p->ceilings = options->ceilings == NULL ? cert_limits_default : *options->ceilings;
    for (i = 0; alpn != NULL && alpn[i] != NULL && i < TLS_ALPN_MAX; i++)
        p->alpn[i] = alpn[i];
    if (!tls_profile_versions(p, options->only_13, err))
        goto fail;
    if (options->ciphersuites == NULL)
        tls_suites_default(p, options->prefer);
    else if (!tls_suites_parse(p, options->ciphersuites, err))
        goto fail;
    if (!tls_profile_keylog(p, options->keylog_file, err))
        goto fail;
    return p;
fail:
    tls_profile_release(p);
    return NULL;
}

/* A server shows `identity` to clients that ask for `domain` (in normal form).  Called before the
 * first session.  False when memory is out. */
static bool
tls_profile_serve(struct tls_profile *p, struct xe_span domain, struct tls_identity *identity)
{
    struct tls_name *names = realloc(p->names, (p->nnames + 1) * sizeof *names);
    char *copy = malloc(domain.len + 1);
    if (names != NULL)
        p->names = names;
    if (names == NULL || copy == NULL) {
        free(copy);
        return false;
    }
    memcpy(copy, domain.at, domain.len);
    names[p->nnames].domain = copy;
    names[p->nnames].len = domain.len;
    names[p->nnames].identity = tls_hold(identity);
    p->nnames++;
    return true;
}

/* And `identity` to those who ask for any other name; NULL: the session's own.  Once. */
static void
tls_profile_serve_others(struct tls_profile *p, struct tls_identity *identity)
{
    p->otherwise = tls_hold(identity);
}

/* The identity for the name that a client asked for; NULL for the session's own. */
static struct tls_identity *
tls_profile_choose(const struct tls_profile *p, struct xe_span server_name)
{
    char domain[XE_DOMAIN_MAX];
    size_t len;
    size_t i;
    if (!xe_jid_domain_normal(server_name, domain, &len))
        return NULL;
    for (i = 0; i < p->nnames; i++)
        if (span_eq(span_make(domain, len), span_make(p->names[i].domain, p->names[i].len)))
            return p->names[i].identity;
    return p->otherwise;
}

/* Sessions of the profile judge the peer's chain by this store as well, which is held.  Only before
 * the first session.  False when memory is out. */
static bool
tls_profile_judge_by(struct tls_profile *p, struct tls_trust *trust)
{
    struct tls_trust **others = realloc(p->others, (p->nothers + 1) * sizeof *others);
    if (others == NULL)
        return false;
    p->others = others;
    p->others[p->nothers++] = tls_hold(trust);
    return true;
}

/* The server name of a ClientHello: remember it, and pick the certificate for it. */
static int
tls_sni_arrived(void *user, mbedtls_ssl_context *ssl, const unsigned char *name, size_t len)
{
    struct tls *t = MAP_OWNER(ssl, struct tls, ssl);
    struct xe_span text = span_make((const char *)name, len);
    struct tls_identity *id;
    (void)user;
    if (len > TLS_SNI_MAX || !tls_name_is_clean(text, true))
        return 0;   /* as if there were none */
    free(t->sni);
    t->sni = malloc(len + 1);
    if (t->sni == NULL)
        return -1;
    memcpy(t->sni, name, len);
    t->sni[len] = '\0';
    id = tls_profile_choose(t->profile, text);
    if (id == NULL || t->chosen)   /* RFC 8446 4.1.4: a second ClientHello */
        return 0;
    t->chosen = true;
    id = tls_identity_in(id, t->lane);
    return id == NULL ? -1 : mbedtls_ssl_set_hs_own_cert(ssl, &id->chain, &id->key);
}

static bool
tls_conf_trust(mbedtls_ssl_config *conf, struct tls_trust *trust, struct tls_lane *lane)
{
    struct tls_trust *here = tls_trust_in(trust, lane);
    if (here != NULL)
        mbedtls_ssl_conf_ca_chain(conf, &here->authorities,
            trust->has_revoked ? &trust->revoked : NULL);
    return (here == NULL) == (trust == NULL);
}

static bool
tls_conf_identity(mbedtls_ssl_config *conf, struct tls_identity *identity, struct tls_lane *lane)
{
    struct tls_identity *here = tls_identity_in(identity, lane);
    return identity == NULL
        || (here != NULL && mbedtls_ssl_conf_own_cert(conf, &here->chain, &here->key) == 0);
}

static bool
tls_conf_setup(mbedtls_ssl_config *conf, struct tls_profile *p, struct tls_lane *lane)
{
    if (mbedtls_ssl_config_defaults(conf, p->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
            MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0)
        return false;
    mbedtls_ssl_conf_rng(conf, mbedtls_ctr_drbg_random, &lane->drbg);
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    mbedtls_ssl_conf_ciphersuites(conf, p->suites);
    tls_config_versions(conf, p->with_12, p->with_13);
    tls_config_groups(conf);
#if defined(MBEDTLS_DHM_C)
    mbedtls_ssl_conf_dhm_min_bitlen(conf, 2048);   /* for those who configure DHE: RFC 9325 4.1 */
#endif
    if (p->keylog >= 0)
        tls_config_keylog(conf, &p->keylog);
#if defined(MBEDTLS_SSL_RENEGOTIATION)
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
#if defined(MBEDTLS_SSL_SESSION_TICKETS)
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
    if (p->server) {
        /* an empty list: hundreds of authorities would fill the handshake, and some clients send
         * nothing unless theirs is among them */
        mbedtls_ssl_conf_cert_req_ca_list(conf, MBEDTLS_SSL_CERT_REQ_CA_LIST_DISABLED);
        mbedtls_ssl_conf_sni(conf, tls_sni_arrived, NULL);
    }
    return p->alpn[0] == NULL || mbedtls_ssl_conf_alpn_protocols(conf, p->alpn) == 0;
}

/* The variant as this lane may use it; NULL when memory is out.  Called by the lane. */
static const mbedtls_ssl_config *
tls_variant_in(struct tls_variant *v, struct tls_profile *p, struct tls_lane *lane)
{
    mbedtls_ssl_config *conf = v->confs[lane->index];
    if (conf != NULL)
        return conf;
    conf = malloc(sizeof *conf);
    if (conf == NULL)
        return NULL;
    mbedtls_ssl_config_init(conf);
    if (!tls_conf_setup(conf, p, lane) || !tls_conf_trust(conf, p->trust, lane)
        || !tls_conf_identity(conf, v->identity, lane)) {
        tls_conf_free(conf);
        return NULL;
    }
    v->confs[lane->index] = conf;
    return conf;
}

static struct tls_variant *
tls_variant_for(struct tls_profile *p, struct tls_identity *mine)
{
    struct tls_variant *v;
    for (v = p->variants; v != NULL; v = v->next)
        if (v->identity == mine)
            return v;
    v = calloc(1, sizeof *v);
    if (v == NULL)
        return NULL;
    v->identity = tls_hold(mine);
    v->next = p->variants;
    p->variants = v;
    return v;
}

/* ---- session ---- */

static int
tls_send(void *user, const unsigned char *from, size_t n)
{
    struct tls *t = user;
    ssize_t sent;
    do
        sent = send(t->fd, from, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        t->sent += (uint64_t)sent;
        return (int)sent;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    return MBEDTLS_ERR_NET_CONN_RESET;
}

/* What the system has; 0 at the end.  mbed TLS passes over warnings by itself, and receives until
 * there is something else or nothing: when the allowance is used up there is nothing for now, so
 * that a peer who warns without end holds neither the loop nor a lane. */
static int
tls_receive_some(struct tls *t, unsigned char *to, size_t max)
{
    ssize_t got;
    max = max < t->allowance ? max : t->allowance;
    if (max == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    do
        got = recv(t->fd, to, max, 0);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        t->eof = true;
    if (got > 0)
        t->allowance -= (size_t)got;
    if (got >= 0)
        return (int)got;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return MBEDTLS_ERR_SSL_WANT_READ;
    return MBEDTLS_ERR_NET_CONN_RESET;
}

/* The same during a handshake: what must not be computed with is never handed on. */
static int
tls_receive_first(struct tls *t, unsigned char *to, size_t max)
{
    int got = tls_receive_some(t, to, max);
    if (got > 0 && t->why == XE_WHY_NONE)
        t->why = cert_flight_take(&t->flight, to, (size_t)got, &t->profile->ceilings);
    return t->why == XE_WHY_NONE ? got : MBEDTLS_ERR_NET_RECV_FAILED;
}

/* The next bytes of a record.  Where reading ahead is allowed one call takes all. */
static int
tls_receive_next(struct tls *t, unsigned char *to, size_t max)
{
    struct tls_shared *s = t->profile->shared;
    if (t->facts == NULL)
        return tls_receive_first(t, to, max);
    if (!t->ahead)
        return tls_receive_some(t, to, max);
    if (s->ahead_room > 0 && s->ahead_len == 0) {
        int got = tls_receive_some(t, s->ahead, s->ahead_room);
        if (got <= 0)
            return got;
        s->ahead_len = (size_t)got;
    }
    if (s->ahead_len == 0)
        return tls_receive_some(t, to, max);
    if (s->ahead_at == s->ahead_len)
        return MBEDTLS_ERR_SSL_WANT_READ;   /* what came meanwhile is for the next turn */
    max = max < s->ahead_len - s->ahead_at ? max : s->ahead_len - s->ahead_at;
    memcpy(to, s->ahead + s->ahead_at, max);
    s->ahead_at += max;
    return (int)max;
}

/* The same for mbed TLS, which passes over empty records, warnings and tickets for as long as the
 * peer sends them. */
static int
tls_receive(void *user, unsigned char *to, size_t max)
{
    struct tls *t = user;
    int got = tls_receive_next(t, to, max);
    if (got <= 0)
        return got;
    t->barren += (size_t)got;
    if (t->barren <= TLS_BARREN_MAX)
        return got;
    t->why = XE_WHY_TLS_BYTES;
    return MBEDTLS_ERR_NET_RECV_FAILED;
}

/* The session counts for its network no longer. */
static void
tls_part(struct tls *t)
{
    if (t->from != NULL)
        net_count(t->profile->shared->nets, t->from, NET_HANDSHAKES, -1);
    t->from = NULL;
}

static void
tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    assert(t->place == TLS_HERE);
    tls_part(t);
    mbedtls_ssl_free(&t->ssl);
    tls_profile_release(t->profile);
    free(t->facts);
    free(t->verdicts);
    cert_flight_free(&t->flight);
    free(t->sni);
    free(t->error);
    free(t);
}

/* A session on a connected, non-blocking descriptor, which stays the caller's.  `mine` (may be NULL
 * on a client) is the identity to show; a server's profile may know another one for the server name
 * asked for.  `sni` is the name a client asks for, NULL for none.  The profile is held.  NULL when
 * memory is out or `sni` is no possible host name. */
static struct tls *
tls_new(struct tls_profile *profile, struct tls_identity *mine, const char *sni, int fd)
{
    struct tls_variant *v = tls_variant_for(profile, mine);
    size_t len = sni == NULL ? 0 : strlen(sni);
    struct tls *t = v == NULL || len > TLS_SNI_MAX ? NULL : calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->profile = tls_hold(profile);
    t->variant = v;
    t->fd = fd;
    mbedtls_ssl_init(&t->ssl);
    t->sni = sni == NULL ? NULL : malloc(len + 1);
    if (t->sni != NULL)
        memcpy(t->sni, sni, len + 1);
    if ((sni == NULL) == (t->sni == NULL))
        return t;
    tls_free(t);
    return NULL;
}

/* Certificates that mbed TLS shows while it verifies.  What the peer has sent must be within the
 * ceilings here too, where TLS 1.3 has hidden it until now.  Then the signatures on the way have
 * been computed already; what is saved is the one over the handshake.  The budget of its network
 * bears the rest. */
static int
tls_verify_seen(void *user, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct tls *t = user;
    size_t n = 0;
    size_t bytes = 0;
    (void)tls_path_add(&t->path, crt, depth, flags);
    for (; depth == 0 && crt != NULL && t->why == XE_WHY_NONE; crt = crt->next) {
        bytes += crt->raw.len;
        t->why = bytes > t->profile->ceilings.bytes_max ? XE_WHY_CERT_CHAIN_BYTES
            : cert_cost_why(span_make((const char *)crt->raw.p, crt->raw.len), ++n,
                &t->profile->ceilings);
    }
    return t->why == XE_WHY_NONE ? 0 : MBEDTLS_ERR_X509_FATAL_ERROR;
}

/* What a session needs before its first step: 35 KiB, most of it for records. */
static int
tls_begin(struct tls *t)
{
    const mbedtls_ssl_config *conf;
    int code = tls_lane_seed(t->lane);
    t->begun = true;
    if (code != 0)
        return code;
    conf = tls_variant_in(t->variant, t->profile, t->lane);
    code = conf == NULL ? MBEDTLS_ERR_SSL_ALLOC_FAILED : mbedtls_ssl_setup(&t->ssl, conf);
    /* Without any call 3.6 takes the missing name for a mistake. */
    if (code == 0 && !t->profile->server)
        code = mbedtls_ssl_set_hostname(&t->ssl, t->sni);
    if (code == 0 && t->profile->keylog >= 0)
        tls_session_keylog(&t->ssl, &t->profile->keylog);
    mbedtls_ssl_set_bio(&t->ssl, t, tls_send, tls_receive, NULL);
    mbedtls_ssl_set_verify(&t->ssl, tls_verify_seen, t);
    return code;
}

/* What is known so far; never NULL.  Complete when tls_handshake() has said TLS_DONE. */
static const struct tls_facts *
tls_facts(const struct tls *t)
{
    static const struct tls_facts nothing = { .alert = XE_ALERT_NONE };
    return t->facts == NULL || t->place == TLS_RUNNING ? &nothing : t->facts;
}

static void
tls_explain(struct tls *t, int code)
{
    char text[TLS_ERROR_MAX];
    if (t->facts == NULL)
        t->facts = tls_facts_make(NULL, 0, t->sni);
    if (t->facts == NULL)
        return;
    if (t->end == TLS_CLOSED && tls_is_over(&t->ssl))
        return;   /* in order */
    if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
        t->facts->alert = t->ssl.TLS_FIELD(in_msg)[1];
        snprintf(text, sizeof text, "the other side sent the TLS alert %s (%d)",
            xe_alert_name(t->facts->alert), t->facts->alert);
    } else if (t->why != XE_WHY_NONE) {
        snprintf(text, sizeof text, "%s", xe_why(t->why)->text);
    } else if (t->end == TLS_LOST) {
        snprintf(text, sizeof text, "the connection was lost %s", tls_is_over(&t->ssl)
            ? "without a TLS close_notify" : "during the TLS handshake");
    } else {
        tls_error_text(code, text);
    }
    free(t->error);
    t->error = malloc(strlen(text) + 1);
    if (t->error != NULL)
        memcpy(t->error, text, strlen(text) + 1);
    t->facts->error = t->error;
}

/* A certificate or a ceiling has ended the session: tell the peer, unless mbed TLS has.  It cannot
 * read a certificate that has a critical extension unknown to it, as name constraints are, and
 * leaves no way to go on without. */
static void
tls_blame(struct tls *t, int code)
{
    if (code == MBEDTLS_ERR_X509_INVALID_EXTENSIONS + MBEDTLS_ERR_ASN1_UNEXPECTED_TAG)
        t->why = XE_WHY_CERT_CRITICAL;
    else if (code == MBEDTLS_ERR_NET_RECV_FAILED && t->why != XE_WHY_NONE)
        (void)mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
            t->why == XE_WHY_TLS_BYTES ? MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR
            : MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT);
}

/* mbed TLS's negative answer in our words; an end is remembered. */
static enum tls_result
tls_answer(struct tls *t, int code)
{
    if (code == MBEDTLS_ERR_SSL_WANT_READ)
        return TLS_WANT_READ;
    if (code == MBEDTLS_ERR_SSL_WANT_WRITE)
        return TLS_WANT_WRITE;
    if (code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        t->end = TLS_CLOSED;
    else if (code == MBEDTLS_ERR_SSL_CONN_EOF || code == MBEDTLS_ERR_NET_CONN_RESET)
        t->end = TLS_LOST;
    else
        t->end = TLS_FAILED;
    tls_blame(t, code);
    tls_explain(t, code);
    return t->end;
}

/* Keep the way to an authority that was found by a store.  Without memory it was not found. */
static void
tls_keep_verdict(struct tls *t, const struct tls_trust *trust, const struct tls_path *path,
    unsigned chain)
{
    struct tls_verdict *list;
    const mbedtls_x509_crt *anchor = NULL;
    if (path->trusted && path->len <= CERT_PATH_MAX)
        anchor = path->crt[path->len - 1];
    list = anchor == NULL ? NULL : realloc(t->verdicts, (t->nverdicts + 1) * sizeof *list);
    if (list == NULL)
        return;
    t->verdicts = list;
    list += t->nverdicts;
    list->chain = (unsigned short)chain;
    memcpy(list->revoked, trust->revoked_hash, TLS_HASH_LEN);
    if (tls_hash(anchor->raw.p, anchor->raw.len, list->anchor))
        t->nverdicts++;
}

/* A server must say that it is one; a client may say either: see tls_chain_bits(). */
static unsigned
tls_peer_bits(const struct tls *t, const struct tls_path *path)
{
    unsigned purposes = CERT_FOR_SERVERS | (t->profile->server ? CERT_FOR_CLIENTS : 0u);
    return tls_path_bits(path, purposes, &t->profile->ceilings);
}

/* Judge the peer's chain by the next store that could have signed it.  False when there is none.
 * What a certificate may be used for and its key are no matter of who signed: mbed TLS has looked
 * at them once. */
static bool
tls_judge_next(struct tls *t)
{
    const uint32_t own = MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE
        | MBEDTLS_X509_BADCERT_NS_CERT_TYPE | MBEDTLS_X509_BADCERT_BAD_KEY;
    mbedtls_ssl_session *session = t->ssl.TLS_FIELD(session);
    mbedtls_x509_crt *peer = session == NULL ? NULL : session->TLS_FIELD(peer_cert);
    while (peer != NULL && t->judged < t->profile->nothers) {
        struct tls_trust *trust = t->profile->others[t->judged++];
        struct tls_path path;
        uint32_t flags;
        if (!tls_trust_is_named(trust, peer))
            continue;
        flags = tls_trust_verify(trust, tls_trust_in(trust, t->lane), peer, &path)
            | (mbedtls_ssl_get_verify_result(&t->ssl) & own);
        tls_keep_verdict(t, trust, &path, tls_chain_bits(peer, flags) | tls_peer_bits(t, &path));
        return true;
    }
    return false;
}

/* The handshake is over: keep the facts, let go of what served only to get here. */
static enum tls_result
tls_finish(struct tls *t)
{
    const mbedtls_x509_crt *peer = mbedtls_ssl_get_peer_cert(&t->ssl);
    mbedtls_ssl_session *session = t->ssl.TLS_FIELD(session);
    unsigned chain = peer == NULL ? 0
        : tls_chain_bits(peer, mbedtls_ssl_get_verify_result(&t->ssl)) | tls_peer_bits(t, &t->path);
    t->facts = tls_facts_make(peer, chain, t->sni);
    if (t->facts == NULL)
        return tls_answer(t, MBEDTLS_ERR_SSL_ALLOC_FAILED);
    t->barren = 0;
    if (peer != NULL && t->profile->trust != NULL)
        tls_keep_verdict(t, t->profile->trust, &t->path, chain);
    t->facts->verdicts = t->verdicts;
    t->facts->verdicts_count = (unsigned short)t->nverdicts;
    t->facts->version = mbedtls_ssl_get_version(&t->ssl);
    t->facts->ciphersuite = mbedtls_ssl_get_ciphersuite(&t->ssl);
    t->facts->alpn = mbedtls_ssl_get_alpn_protocol(&t->ssl);
    free(t->sni);
    t->sni = NULL;
    (void)mbedtls_ssl_set_hostname(&t->ssl, NULL);
    if (session != NULL && session->TLS_FIELD(peer_cert) != NULL) {
        mbedtls_x509_crt_free(session->TLS_FIELD(peer_cert));
        mbedtls_free(session->TLS_FIELD(peer_cert));
        session->TLS_FIELD(peer_cert) = NULL;
    }
    return TLS_DONE;
}

/* Go on with the handshake for at most TLS_TURN_US and the step begun in it.  Call again: on
 * TLS_AGAIN after others had their turn, on TLS_WANT_* when the descriptor is ready.  Nothing is
 * read beyond the record that ends the handshake; but it may be in the system already, so read
 * after TLS_DONE. */
static enum tls_result
tls_handshake(struct tls *t)
{
    int64_t until;
    int code;
    if (t->end != TLS_DONE)
        return t->end;
    if (t->facts != NULL)
        return TLS_DONE;
    if (t->lane == NULL)
        t->lane = &t->profile->shared->lanes[0];
    code = t->begun ? 0 : tls_begin(t);
    if (code != 0)
        return tls_answer(t, code);
    until = tls_clock_us() + TLS_TURN_US;
    t->allowance = TLS_AHEAD_MAX;
    while (!tls_is_over(&t->ssl)) {
        code = mbedtls_ssl_handshake_step(&t->ssl);
        if (code != 0)
            return tls_answer(t, code);
        if (!tls_is_over(&t->ssl) && tls_clock_us() >= until)
            return TLS_AGAIN;
    }
    while (tls_judge_next(t))
        if (tls_clock_us() >= until)
            return TLS_AGAIN;
    return tls_finish(t);
}

static enum tls_result
tls_read_records(struct tls *t, char *to, size_t max, size_t *got)
{
    const struct tls_shared *s = t->profile->shared;
    while (t->end == TLS_DONE && *got < max) {
        int code = mbedtls_ssl_read(&t->ssl, (unsigned char *)to + *got, max - *got);
        if (code > 0) {
            *got += (size_t)code;
            t->barren = 0;
            continue;
        }
        if (code == 0 && !t->eof)
            continue;   /* an empty record */
        if (code == MBEDTLS_ERR_SSL_WANT_READ && s->ahead_at < s->ahead_len)
            continue;   /* a warning that it tells like this, with more behind it */
#if TLS_HAS_13
        if (code == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            continue;   /* not kept */
#endif
        return tls_answer(t, code == 0 ? MBEDTLS_ERR_SSL_CONN_EOF : code);
    }
    return t->end;
}

/* Decrypt into `to` until it is full (TLS_DONE) or there is no more for now (any other answer).
 * *got counts with every answer: bytes before the end come with it.  What is read ahead always fits
 * into `to`, beside the record that mbed TLS may hold from before: nothing of it is left behind. */
static enum tls_result
tls_read(struct tls *t, char *to, size_t max, size_t *got)
{
    struct tls_shared *s = t->profile->shared;
    size_t room = max > TLS_RECORD_MAX ? max - TLS_RECORD_MAX : 0;
    enum tls_result result;
    *got = 0;
    s->ahead_room = room < TLS_AHEAD_MAX ? room : TLS_AHEAD_MAX;
    t->allowance = TLS_AHEAD_MAX;
    t->ahead = true;
    result = tls_read_records(t, to, max, got);
    t->ahead = false;
    s->ahead_room = s->ahead_at = s->ahead_len = 0;
    return result;
}

/* Encrypt and send at most one record.  TLS_DONE: *put bytes are gone (1 to 16384, maybe fewer than
 * `n`).  TLS_WANT_WRITE: *put is 0, the record is made and partly sent; call again with the same
 * bytes in front (more may have come behind them) until it is TLS_DONE. */
static enum tls_result
tls_write(struct tls *t, const char *from, size_t n, size_t *put)
{
    int code;
    *put = 0;
    if (t->end == TLS_LOST || t->end == TLS_FAILED)
        return t->end;
    if (t->writing > 0) {
        assert(n >= t->writing);
        n = t->writing;   /* mbed TLS believes the length of this call, whatever the last one was */
    }
    if (n == 0)
        return TLS_DONE;
    code = mbedtls_ssl_write(&t->ssl, (const unsigned char *)from, n);
    if (code < 0) {
        enum tls_result result = tls_answer(t, code);
        if (result == TLS_WANT_WRITE || result == TLS_WANT_READ)
            t->writing = n;
        return result;
    }
    t->writing = 0;
    *put = (size_t)code;
    return TLS_DONE;
}

/* Say that nothing follows.  TLS_WANT_WRITE: call again when writable, or leave it. */
static enum tls_result
tls_close_notify(struct tls *t)
{
    int code = 0;
    if (t->goodbye || t->end == TLS_LOST || t->end == TLS_FAILED || !tls_is_over(&t->ssl))
        return TLS_DONE;
    if (t->writing > 0)
        code = mbedtls_ssl_close_notify(&t->ssl);   /* only finishes the record */
    if (code == 0) {
        t->writing = 0;
        code = mbedtls_ssl_close_notify(&t->ssl);
    }
    t->goodbye = code == 0;
    return code == 0 ? TLS_DONE : code == MBEDTLS_ERR_SSL_WANT_WRITE ? TLS_WANT_WRITE : TLS_LOST;
}

/* ---- who may compute: networks and their budgets ---- */

/* What the network owes now: what it has made us compute, less what its budget has paid back. */
static int64_t
tls_debt(const struct tls_shared *s, struct net_source *n)
{
    return net_owed(&n->computed, loop_now(s->loop), s->limits.rate_us);
}

/* A wider network owes for all within it and has more: four times for each byte of its prefix that
 * is open. */
static bool
tls_is_in_debt(const struct tls_shared *s, const struct tls *t)
{
    int64_t most = s->limits.burst_us;
    struct net_source *n;
    for (n = t->from; n != NULL; n = n->wider, most *= 4)
        if (tls_debt(s, n) > most)
            return true;
    return false;
}

/* ---- handshakes beside the loop ---- */

/* Who goes first: the lowest.  What is ours, then networks that are known, then others; but one
 * turn of a few is for those others.  Among equals who has made us compute least, with some credit
 * for a handshake that was begun, since it has cost something; then who came first. */
enum { TLS_RANK_TURN, TLS_RANK_OURS, TLS_RANK_KNOWN, TLS_RANK_OTHER, TLS_RANK_DEBT };

#define TLS_RANK(rank, us) (((int64_t)(rank) << 48) + (us))

static int64_t
tls_rank(const struct tls_shared *s, const struct tls *t)
{
    int64_t debt = tls_debt(s, t->from);
    if (tls_is_in_debt(s, t))
        return TLS_RANK(TLS_RANK_DEBT, debt);
    if (t->favoured)
        return TLS_RANK(TLS_RANK_OURS, 0);
    if (t->begun)
        debt = debt > TLS_BEGUN_US ? debt - TLS_BEGUN_US : 0;
    return TLS_RANK(net_is_known(t->from, loop_now(s->loop)) ? TLS_RANK_KNOWN : TLS_RANK_OTHER,
        debt);
}

/* The same for this turn of a lane. */
static int64_t
tls_rank_now(struct tls_shared *s, const struct tls *t, const struct tls_lane *lane)
{
    int64_t rank = tls_rank(s, t);
    if (lane->turns % TLS_TURN_OTHERS != TLS_TURN_OTHERS - 1 || rank < TLS_RANK(TLS_RANK_OTHER, 0)
        || rank >= TLS_RANK(TLS_RANK_DEBT, 0))
        return rank;
    return rank - TLS_RANK(TLS_RANK_OTHER - TLS_RANK_TURN, 0);
}

/* May the lane take it?  A session stays with its lane; a new one takes the loop's only when there
 * is no other. */
static bool
tls_suits(const struct tls_shared *s, const struct tls *t, const struct tls_lane *lane)
{
    if (t->lane != NULL)
        return t->lane == lane;
    return lane->index == 0 ? s->threads == 0 : lane->index <= s->threads;
}

/* The next session for the lane; NULL: there is none, or all are in debt. */
static struct tls *
tls_pick(struct tls_shared *s, const struct tls_lane *lane)
{
    struct tls *best = NULL;
    int64_t best_rank = TLS_RANK(TLS_RANK_DEBT, 0);
    struct list_node *n;
    for (n = s->waiting.next; n != &s->waiting; n = n->next) {
        struct tls *t = MAP_OWNER(n, struct tls, node);
        int64_t rank = tls_suits(s, t, lane) ? tls_rank_now(s, t, lane) : best_rank;
        if (rank >= best_rank)
            continue;
        best = t;
        best_rank = rank;
    }
    return best;
}

static void
tls_leave_queue(struct tls_shared *s, struct tls *t, enum tls_place place)
{
    list_remove(&t->node);
    s->nwaiting--;
    t->place = place;
}

/* The queue is full: tell the peer, and the owner. */
static void
tls_refuse(struct tls_shared *s, struct tls *t)
{
    static const char alert[] = "\x15\x03\x03\x00\x02\x02\x50";   /* fatal: internal_error */
    tls_leave_queue(s, t, TLS_HERE);
    t->why = XE_WHY_HANDSHAKES;
    if (t->begun)
        (void)mbedtls_ssl_send_alert_message(&t->ssl,
            MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR);
    else if (t->profile->server)
        (void)send(t->fd, alert, sizeof alert - 1, MSG_NOSIGNAL);
    t->back(t, TLS_FAILED, t->user);
}

/* One too many wait: the one goes that would have waited longest. */
static void
tls_refuse_last(struct tls_shared *s)
{
    struct tls *last = NULL;
    int64_t last_rank = 0;
    struct list_node *n;
    for (n = s->waiting.next; n != &s->waiting; n = n->next) {
        struct tls *t = MAP_OWNER(n, struct tls, node);
        int64_t rank = tls_rank(s, t);
        if (last != NULL && rank < last_rank)
            continue;
        last = t;
        last_rank = rank;
    }
    if (last != NULL)
        tls_refuse(s, last);
}

/* Free the session and close its descriptor; when it is being computed, as soon as it is back. */
static void
tls_drop(struct tls *t)
{
    int fd = t->fd;
    t->dropped = t->place == TLS_RUNNING;
    if (t->dropped)
        return;
    if (t->place == TLS_WAITING)
        tls_leave_queue(t->profile->shared, t, TLS_HERE);
    tls_free(t);
    close(fd);
}

static void
tls_wait(struct tls_shared *s, struct tls *t)
{
    t->place = TLS_WAITING;
    list_append(&s->waiting, &t->node);
    s->nwaiting++;
}

/* Take the session out of the queue for a lane. */
static void
tls_give(struct tls_shared *s, struct tls *t, struct tls_lane *lane)
{
    tls_leave_queue(s, t, TLS_RUNNING);
    s->nrunning++;
    t->lane = lane;
    lane->turns++;
    t->spent_us = 0;
}

/* A session was computed: its networks pay, its owner hears of it. */
static void
tls_come_back(struct tls_shared *s, struct tls *t)
{
    struct net_source *n;
    s->nrunning--;
    for (n = t->from; n != NULL; n = n->wider)
        n->computed.spent += t->spent_us;
    if (t->result == TLS_AGAIN) {
        tls_wait(s, t);
        return;
    }
    t->place = TLS_HERE;
    if (t->result != TLS_WANT_READ && t->result != TLS_WANT_WRITE)
        tls_part(t);
    if (t->dropped)
        tls_drop(t);
    else
        t->back(t, t->result, t->user);
}

/* Without threads: the next step is for the next turn, if somebody may have one. */
static void
tls_feed_loop(struct tls_shared *s)
{
    if (tls_pick(s, &s->lanes[0]) != NULL)
        loop_soon(s->loop, &s->turn);
    else if (!list_empty(&s->waiting))
        timer_set(s->loop, &s->later, TLS_LATER_MS);
}

/* And this is the step: all others had their turn. */
static void
tls_turn(struct loop_task *task)
{
    struct tls_shared *s = MAP_OWNER(task, struct tls_shared, turn);
    struct tls *t = tls_pick(s, &s->lanes[0]);
    int64_t before = tls_clock_us();
    if (t == NULL)
        return;
    tls_give(s, t, &s->lanes[0]);
    t->result = tls_handshake(t);
    t->spent_us = tls_clock_us() - before;
    tls_come_back(s, t);
    tls_feed_loop(s);
}

#if TLS_THREADS

/* What a thread does: a session is computed until it has to wait for its peer. */
static void
tls_lane_work(struct tls *t)
{
    int64_t before = tls_clock_us();
    do
        t->result = tls_handshake(t);
    while (t->result == TLS_AGAIN);
    t->spent_us = tls_clock_us() - before;
}

static void *
tls_lane_run(void *user)
{
    struct tls_lane *lane = user;
    struct tls_shared *s = lane->shared;
#if defined(__linux__)
    /* of this thread alone; elsewhere it would be of us all.  Nobody gets below 19 */
    (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + TLS_NICE);
#endif
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct tls *t;
        while (lane->work == NULL && !lane->stop)
            pthread_cond_wait(&lane->wake, &s->lock);
        t = lane->work;
        if (t == NULL)
            break;
        pthread_mutex_unlock(&s->lock);
        tls_lane_work(t);
        pthread_mutex_lock(&s->lock);
        lane->work = NULL;
        list_append(&s->done, &t->node);
        if (write(s->wake, "", 1) < 0)
            continue;   /* full: the loop has more to read than it needs */
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Signals are for the thread that the program knows.  0, or the system's error. */
static int
tls_lane_start(struct tls_lane *lane)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;
    if (lane->started)
        return 0;
    error = pthread_attr_init(&attributes);
    if (error != 0)
        return error;
    lane->work = NULL;
    lane->stop = false;
    (void)pthread_attr_setstacksize(&attributes, TLS_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_cond_init(&lane->wake, NULL);
    if (error == 0) {
        error = pthread_create(&lane->thread, &attributes, tls_lane_run, lane);
        if (error != 0)
            pthread_cond_destroy(&lane->wake);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    lane->started = error == 0;
    return error;
}

static void
tls_lane_stop(struct tls_lane *lane)
{
    if (!lane->started)
        return;
    pthread_mutex_lock(&lane->shared->lock);
    lane->stop = true;
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&lane->shared->lock);
    pthread_join(lane->thread, NULL);
    pthread_cond_destroy(&lane->wake);
    lane->started = false;
}

/* At first, and after fork(), when the threads are in the other process.  What they were computing
 * is lost; the lock may have been held, so there is a new one. */
static void
tls_lanes_renew(struct tls_shared *s)
{
    size_t i;
    s->process = getpid();
    pthread_mutex_init(&s->lock, NULL);
    list_init(&s->done);
    for (i = 1; i <= TLS_LANES_MAX; i++) {
        struct tls *t = s->lanes[i].lent;
        s->lanes[i].started = false;
        s->lanes[i].lent = NULL;
        if (t == NULL)
            continue;
        t->node = (struct list_node){ NULL, NULL };
        t->result = t->end = TLS_LOST;
        tls_come_back(s, t);
    }
}

static void
tls_lane_give(struct tls_lane *lane, struct tls *t)
{
    tls_give(lane->shared, t, lane);
    lane->lent = t;
    pthread_mutex_lock(&lane->shared->lock);
    lane->work = t;
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&lane->shared->lock);
}

/* The system has no thread for us now: we go on with those that there are, the loop if none. */
static void
tls_no_thread(struct tls_shared *s, size_t have, int error)
{
    s->threads = have;
    s->again = loop_now(s->loop) + TLS_THREAD_MS;
    if (s->no_thread != NULL)
        s->no_thread(s->user, have, error);
}

/* Give work to the lanes that are free. */
static void
tls_feed_lanes(struct tls_shared *s)
{
    size_t i;
    if (s->process != getpid())
        tls_lanes_renew(s);
    if (loop_now(s->loop) >= s->again)
        s->threads = s->limits.threads;
    for (i = 1; i <= TLS_LANES_MAX; i++) {
        struct tls_lane *lane = &s->lanes[i];
        struct tls *t = lane->lent != NULL ? NULL : tls_pick(s, lane);
        int error = t == NULL ? 0 : tls_lane_start(lane);
        if (error != 0)
            tls_no_thread(s, i - 1, error);
        else if (t != NULL)
            tls_lane_give(lane, t);
    }
}

/* Those that come back, in the order in which they were finished. */
static void
tls_collect(struct tls_shared *s)
{
    for (;;) {
        struct tls *t = NULL;
        pthread_mutex_lock(&s->lock);
        if (!list_empty(&s->done)) {
            t = MAP_OWNER(s->done.next, struct tls, node);
            list_remove(&t->node);
        }
        pthread_mutex_unlock(&s->lock);
        if (t == NULL)
            return;
        t->lane->lent = NULL;
        tls_come_back(s, t);
    }
}

static void
tls_lanes_close(struct tls_shared *s)
{
    size_t i;
    if (s->process != getpid())
        tls_lanes_renew(s);
    for (i = 1; i <= TLS_LANES_MAX; i++)
        tls_lane_stop(&s->lanes[i]);
    tls_collect(s);
    pthread_mutex_destroy(&s->lock);
}

#else

static void
tls_lanes_renew(struct tls_shared *s)
{
    (void)s;
}

static void
tls_feed_lanes(struct tls_shared *s)
{
    s->threads = 0;
}

static void
tls_collect(struct tls_shared *s)
{
    (void)s;
}

static void
tls_lanes_close(struct tls_shared *s)
{
    (void)s;
}

#endif

static void
tls_feed(struct tls_shared *s)
{
    tls_feed_lanes(s);
    tls_feed_loop(s);
}

static void
tls_feed_later(struct timer *timer)
{
    tls_feed(MAP_OWNER(timer, struct tls_shared, later));
}

static void
tls_woken(struct loop_watch *w, unsigned events)
{
    struct tls_shared *s = MAP_OWNER(w, struct tls_shared, woken);
    char waste[64];
    (void)events;
    while (read(w->fd, waste, sizeof waste) > 0)
        continue;
    tls_collect(s);
    tls_feed(s);
}

/* Let a handshake go on beside the loop: back() is called with its result, within this call only
 * when it is refused.  `peer` is who it counts for. */
static void
tls_lend(struct tls *t, const struct sockaddr_storage *peer, tls_back *back, void *user)
{
    struct tls_shared *s = t->profile->shared;
    assert(t->place == TLS_HERE && s->loop != NULL);
    t->back = back;
    t->user = user;
    if (t->from == NULL && (t->from = net_source_of(s->nets, peer)) != NULL)
        net_count(s->nets, t->from, NET_HANDSHAKES, 1);   /* once, however often it is lent */
    if (t->from == NULL) {
        back(t, TLS_FAILED, user);
        return;
    }
    tls_wait(s, t);
    if (s->nwaiting > s->limits.waiting)
        tls_refuse_last(s);
    tls_feed(s);
}

/* The reason of TLS_FAILED. */
static enum xe_why
tls_failed_why(const struct tls *t)
{
    return t->why != XE_WHY_NONE ? t->why : XE_WHY_TLS_FAILED;
}

static bool
tls_is_lent(const struct tls *t)
{
    return t->place != TLS_HERE;
}

/* From now on handshakes may be lent; the loop, and the book in which their networks stand, must
 * outlive `shared`.  False: no descriptors. */
static bool
tls_lend_open(struct tls_shared *s, struct loop *loop, struct net_book *nets)
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    s->woken.fd = ends[0];
    s->wake = ends[1];
    s->woken.ready = tls_woken;
    s->turn.run = tls_turn;
    s->later.fire = tls_feed_later;
    s->loop = loop;
    s->nets = nets;
    tls_lanes_renew(s);
    return loop_watch_set(loop, &s->woken, LOOP_READ);
}

/* How much may be computed from now on.  Lanes that are too many end their sessions and rest. */
static void
tls_lend_limits(struct tls_shared *s, const struct tls_limits *limits)
{
    s->limits = *limits;
    s->threads = limits->threads;
    s->again = 0;
    if (!list_empty(&s->waiting))
        tls_feed(s);
}

/* All sessions must have been dropped; those that are being computed are waited for. */
static void
tls_lend_close(struct tls_shared *s)
{
    if (s->loop == NULL)
        return;
    tls_lanes_close(s);
    loop_watch_set(s->loop, &s->woken, 0);
    timer_cancel(s->loop, &s->later);
    loop_task_cancel(&s->turn);
    close(s->woken.fd);
    close(s->wake);
    s->loop = NULL;
}

/* ---- making certificates ---- */

/* For the authority of the trunk: P-256 keys, and certificates without an extended key usage, since
 * a node may be the server of one connection and the client of the next. */

#define TLS_MINT_DAY      (24L * 60 * 60)   /* seconds; validity began one ago, for late clocks */

/* A certificate in the making and what comes out of it. */
struct tls_mint {
    mbedtls_x509write_cert crt;
    mbedtls_pk_context key;
    char subject[TLS_MINT_NAME_MAX + 4];   /* "CN=name" */
    char certificate[TLS_MINT_PEM_MAX];    /* PEM, as is the next */
    char private_key[TLS_MINT_PEM_MAX];
};

static void
tls_mint_free(struct tls_mint *m)
{
    if (m == NULL)
        return;
    mbedtls_x509write_crt_free(&m->crt);
    mbedtls_pk_free(&m->key);
    tls_wipe(m->private_key, sizeof m->private_key);
    free(m);
}

static int
tls_mint_key(struct tls_shared *shared, struct tls_mint *m)
{
    int code = mbedtls_pk_setup(&m->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    return code != 0 ? code : mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(m->key),
        mbedtls_ctr_drbg_random, &shared->lanes[0].drbg);
}

/* Positive, 16 bytes, drawn by lot (RFC 5280 4.1.2.2). */
static int
tls_mint_serial(struct tls_shared *shared, struct tls_mint *m)
{
    unsigned char serial[16];
    int code = mbedtls_ctr_drbg_random(&shared->lanes[0].drbg, serial, sizeof serial);
    serial[0] = (unsigned char)((serial[0] & 0x3f) | 0x40);
    return code != 0 ? code : tls_set_serial(&m->crt, serial, sizeof serial);
}

/* From yesterday until `days` from now, or until the authority itself ends. */
static int
tls_mint_validity(struct tls_mint *m, int days, const struct tls_identity *authority)
{
    time_t now = time(NULL);
    time_t begin = now - TLS_MINT_DAY;
    time_t end = now + days * TLS_MINT_DAY;
    struct tm from;
    struct tm to;
    char from_text[16];
    char to_text[96];
    char last[96];
    if (gmtime_r(&begin, &from) == NULL || gmtime_r(&end, &to) == NULL
        || strftime(from_text, sizeof from_text, "%Y%m%d%H%M%S", &from) == 0
        || strftime(to_text, sizeof to_text, "%Y%m%d%H%M%S", &to) == 0)
        return MBEDTLS_ERR_X509_INVALID_DATE;
    if (authority != NULL) {
        const mbedtls_x509_time *t = &authority->chain.valid_to;
        snprintf(last, sizeof last, "%04d%02d%02d%02d%02d%02d", t->year, t->mon, t->day, t->hour,
            t->min, t->sec);
        if (strcmp(last, to_text) < 0)
            memcpy(to_text, last, sizeof to_text);
    }
    return mbedtls_x509write_crt_set_validity(&m->crt, from_text, to_text);
}

/* SubjectAltName ::= SEQUENCE { dNSName [2] IA5String }.  By hand: 2.28 has no call for it. */
static int
tls_mint_dns_name(struct tls_mint *m, const char *domain)
{
    unsigned char der[TLS_MINT_NAME_MAX + 4];
    size_t len = strlen(domain);
    der[0] = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
    der[1] = (unsigned char)(len + 2);
    der[2] = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2;
    der[3] = (unsigned char)len;
    memcpy(der + 4, domain, len);
    return mbedtls_x509write_crt_set_extension(&m->crt, MBEDTLS_OID_SUBJECT_ALT_NAME,
        MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, der, len + 4);
}

/* Everything but the issuer. */
static int
tls_mint_fill(struct tls_shared *shared, struct tls_mint *m, const char *name, int days,
    const struct tls_identity *authority)
{
    bool is_authority = authority == NULL;
    unsigned usage = is_authority ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
        : MBEDTLS_X509_KU_DIGITAL_SIGNATURE;
    int path_len = is_authority ? 0 : -1;
    int code;
    snprintf(m->subject, sizeof m->subject, "CN=%.*s", TLS_MINT_NAME_MAX, name);
    mbedtls_x509write_crt_set_version(&m->crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&m->crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&m->crt, &m->key);
    if ((code = tls_mint_key(shared, m)) != 0 || (code = tls_mint_serial(shared, m)) != 0
        || (code = tls_mint_validity(m, days, authority)) != 0
        || (code = mbedtls_x509write_crt_set_subject_name(&m->crt, m->subject)) != 0
        || (code = mbedtls_x509write_crt_set_basic_constraints(
            &m->crt, is_authority, path_len)) != 0
        || (code = mbedtls_x509write_crt_set_key_usage(&m->crt, usage)) != 0
        || (code = mbedtls_x509write_crt_set_subject_key_identifier(&m->crt)) != 0)
        return code;
    return is_authority ? 0 : tls_mint_dns_name(m, name);
}

/* Sign, and write both texts. */
static int
tls_mint_sign(struct tls_shared *shared, struct tls_mint *m, struct tls_identity *authority)
{
    const char *issuer = authority == NULL ? m->subject : authority->facts->subject;
    int code;
    mbedtls_x509write_crt_set_issuer_key(&m->crt, authority == NULL ? &m->key : &authority->key);
    if ((code = mbedtls_x509write_crt_set_issuer_name(&m->crt, issuer)) != 0
        || (code = mbedtls_x509write_crt_set_authority_key_identifier(&m->crt)) != 0
        || (code = mbedtls_x509write_crt_pem(&m->crt, (unsigned char *)m->certificate,
            sizeof m->certificate, mbedtls_ctr_drbg_random, &shared->lanes[0].drbg)) != 0)
        return code;
    return mbedtls_pk_write_key_pem(&m->key, (unsigned char *)m->private_key,
        sizeof m->private_key);
}

/* Make a key and its certificate for the domain `name`, signed by `authority`, and good for `days`
 * unless that one ends before.  Without one it is an authority itself, of any name.  A name has at
 * most TLS_MINT_NAME_MAX bytes.  NULL and `err` on failure; tls_mint_free() frees it. */
static struct tls_mint *
tls_mint_new(struct tls_shared *shared, const char *name, int days, struct tls_identity *authority,
    char err[TLS_ERROR_MAX])
{
    struct tls_mint *m = calloc(1, sizeof *m);
    int code;
    assert(strlen(name) <= TLS_MINT_NAME_MAX);
    if (m == NULL || (authority != NULL && !authority->chain.TLS_FIELD(ca_istrue))) {
        snprintf(err, TLS_ERROR_MAX,
            m == NULL ? "out of memory" : "what would sign it is not an authority");
        free(m);
        return NULL;
    }
    mbedtls_x509write_crt_init(&m->crt);
    mbedtls_pk_init(&m->key);
    if ((code = tls_mint_fill(shared, m, name, days, authority)) == 0
        && (code = tls_mint_sign(shared, m, authority)) == 0)
        return m;
    tls_error_text(code, err);
    tls_mint_free(m);
    return NULL;
}

/* ===========================================================================
 * [CONN]  conn_ listener_ dial_ wire_   byte pipes: accepting, dialling, TLS, and their end
 * calls:  BASE BUF MAP LOG LOOP DNS TLS
 *
 *   listener_open()  accepted(fd)  --+
 *   dial_new()       connected(fd) --+--> conn_new() --> OPEN --conn_start_tls()--> HANDSHAKE
 *                                                          |                            |
 *                                                          |                         SECURE
 *                                                          +------- conn_close() -------+
 *                                                                        |
 *                     CLOSED <-- LINGER (peer's EOF) <-- FLUSHING (what is queued goes out)
 *
 * Received plaintext is shown to the owner in place, in a scratch buffer that all connections
 * share; a connection keeps only what its owner could not use yet.  What is sent is gathered and
 * written at the end of the turn, so that a TLS record carries as many stanzas as are ready.
 *
 * Ends.  An end that comes from outside is told by events->closed(), exactly once.  The owner ends
 * a connection with conn_close() (what is queued is still written, then TLS close_notify, then FIN,
 * then the peer's EOF is awaited, so that no reset destroys our last words) and hears nothing more.
 * Connections are freed in wire_reap() only, at the end of a turn.
 *
 * A TLS handshake is lent to [TLS] when it has something to do, and not touched until it is back.
 *
 * Written is not arrived: conn_arrived() asks the system how much of what it has taken the peer's
 * system has not acknowledged.  It still knows that after a reset.
 *
 * Costs: besides TLS an idle connection has its struct and at most CONN_KEEP bytes of buffer.  What
 * is sent is copied once, what is received only when the owner leaves it unfinished.
 * Not done: sendmsg() without copying.  TLS copies everything in any case.
 * ======================================================================== */

/* The bytes that wait in the system's send queue, which is no business of POSIX. */
#if defined(__linux__) || defined(__FreeBSD__)
#include <sys/ioctl.h>
#endif
#if defined(TIOCOUTQ) && defined(__linux__)
#define CONN_OUTQ TIOCOUTQ
#elif defined(FIONWRITE)
#define CONN_OUTQ FIONWRITE
#endif

#define WIRE_SCRATCH        98304   /* bytes shown at a time: a rest, 64 KiB new, one more record */
#define CONN_REST_SMALL     16384   /* bytes of a rest that is copied in front of what comes */
#define CONN_WRITE_MAX      16384   /* bytes of one write: a full TLS record */
#define CONN_KEEP           1024    /* bytes of buffer an idle connection may keep */
#define CONN_TLS_FIRST      0x16    /* first byte of a TLS handshake record */
#define LISTENER_ACCEPTS    64      /* connections taken in one turn */

/* What the connections of one running instance share. */
struct wire {
    struct loop      *loop;      /* borrowed */
    struct log       *log;       /* borrowed */
    char             *scratch;   /* owned, WIRE_SCRATCH bytes */
    struct list_node  dead;      /* connections to be freed at the end of the turn */
    struct list_node  all;       /* every connection, for wire_close() */
    size_t            nlingering;  /* connections whose owner has let go */
    struct loop_task  reap;
    int64_t           write_timeout_ms;
};

struct conn;

/* What a connection tells its owner.  The owner may call conn_close() from within any of them; the
 * connection stays valid until the end of the turn. */
struct conn_events {
    /* plaintext has arrived; returns how much was used.  The rest is shown again with more. */
    size_t (*received)(struct conn *c, void *user, const char *at, size_t len);
    void (*secured)(struct conn *c, void *user);     /* the TLS handshake is complete */
    void (*drained)(struct conn *c, void *user);     /* all that was sent has been written */
    void (*closed)(struct conn *c, void *user, enum xe_why why);   /* last call, exactly once */
    void (*hello)(struct conn *c, void *user);   /* instead of bytes: the peer begins with TLS */
};

/* When so many bytes of plaintext had been written, the system had taken so many in all. */
struct conn_mark {
    uint64_t text;
    uint64_t wire;
};

enum conn_state {
    CONN_OPEN, CONN_HANDSHAKE, CONN_SECURE, CONN_FLUSHING, CONN_LINGER, CONN_CLOSED
};

struct conn {
    /* others may read these */
    enum conn_state           state;
    struct tls               *tls;        /* owned; NULL on a plain connection */
    struct sockaddr_storage   peer;
    struct sockaddr_storage   local;
    uint64_t                  received;   /* bytes of plaintext so far */
    /* private */
    struct wire              *wire;       /* borrowed */
    struct loop_watch         watch;
    struct loop_task          flush;      /* end of turn: write what was gathered */
    struct loop_task          again;      /* next turn: more to read or more handshake to do */
    struct timer              timer;      /* no progress in writing; lingering */
    struct buf                in;         /* received, not yet used by the owner */
    struct buf                out;        /* sent, not yet written */
    size_t                    retry;      /* bytes of an unfinished tls_write(), 0 for none */
    uint64_t                  written;    /* bytes of plaintext that the system has taken */
    uint64_t                  clear;      /* of them before TLS */
    uint64_t                  arrived;    /* of them with the peer's system, when last looked at */
    struct conn_mark          marks[CONN_MARKS];   /* beyond `arrived`; the oldest first */
    unsigned                  nmarks;
    bool                      sniffed;    /* the first byte has been looked at */
    bool                      paused;     /* the owner does not want to receive now */
    bool                      unshown;    /* and has not looked at what is in `in` */
    enum tls_result           ended;      /* what he will hear after it; TLS_DONE: nothing yet */
    bool                      hasty;      /* its last words are not waited for long */
    bool                      let_go;     /* the owner has closed it */
    bool                      was_secure; /* close_notify is due before FIN */
    const struct conn_events *events;     /* borrowed; NULL once the owner has let go */
    void                     *user;       /* borrowed, passed to events */
    struct list_node          node;       /* in wire->all */
    struct list_node          dead;       /* in wire->dead */
};

static void
wire_reap(struct loop_task *task)
{
    struct wire *w = MAP_OWNER(task, struct wire, reap);
    while (!list_empty(&w->dead)) {
        struct conn *c = MAP_OWNER(w->dead.next, struct conn, dead);
        list_remove(&c->dead);
        list_remove(&c->node);
        buf_free(&c->in);
        buf_free(&c->out);
        free(c);
    }
}

static bool
wire_open(struct wire *w, struct loop *loop, struct log *log)
{
    *w = (struct wire){ .loop = loop, .log = log, .reap.run = wire_reap };
    list_init(&w->dead);
    list_init(&w->all);
    w->scratch = malloc(WIRE_SCRATCH);
    return w->scratch != NULL;
}

/* The text of an address without its port, "192.0.2.1" or "2001:db8::1". */
static const char *
conn_host_text(const struct sockaddr_storage *a, char out[CONN_TEXT_MAX])
{
    const void *ip = a->ss_family == AF_INET6
        ? (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr
        : (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;
    return inet_ntop(a->ss_family, ip, out, CONN_TEXT_MAX) != NULL ? out : strcpy(out, "?");
}

/* The text of an address, "192.0.2.1:5269" or "[2001:db8::1]:5269". */
static const char *
conn_address_text(const struct sockaddr_storage *a, char out[CONN_TEXT_MAX])
{
    char host[CONN_TEXT_MAX];
    conn_host_text(a, host);
    if (a->ss_family == AF_INET6)
        snprintf(out, CONN_TEXT_MAX, "[%.60s]:%u", host,
            (unsigned)ntohs(((const struct sockaddr_in6 *)(const void *)a)->sin6_port));
    else
        snprintf(out, CONN_TEXT_MAX, "%.60s:%u", host,
            (unsigned)ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port));
    return out;
}

/* Give the descriptor and the TLS session back now, the object at the end of the turn. */
static void
conn_drop(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    if (c->let_go)
        c->wire->nlingering--;
    c->state = CONN_CLOSED;
    timer_cancel(c->wire->loop, &c->timer);
    loop_task_cancel(&c->flush);
    loop_task_cancel(&c->again);
    loop_watch_set(c->wire->loop, &c->watch, 0);
    if (c->tls != NULL)
        tls_drop(c->tls);
    else
        close(c->watch.fd);
    c->tls = NULL;
    c->watch.fd = -1;
    list_append(&c->wire->dead, &c->dead);
    loop_at_end(c->wire->loop, &c->wire->reap);
}

/* An end that comes from outside. */
static void
conn_lost(struct conn *c, enum xe_why why)
{
    const struct conn_events *events = c->events;
    c->events = NULL;
    if (events != NULL)
        events->closed(c, c->user, why);
    conn_drop(c);
}

static bool
conn_is_up(const struct conn *c)
{
    return c->state == CONN_OPEN || c->state == CONN_SECURE;
}

static void
conn_watch(struct conn *c)
{
    unsigned want = 0;
    if (c->state == CONN_CLOSED || c->state == CONN_HANDSHAKE)
        return;   /* a handshake says itself what it waits for */
    /* nobody reads while the last words go out: bytes that come would wake us for nothing */
    if ((!c->paused && c->state != CONN_FLUSHING) || c->state == CONN_LINGER)
        want |= LOOP_READ;
    if (buf_len(&c->out) > 0 && !list_linked(&c->flush.node))
        want |= LOOP_WRITE;
    if (!loop_watch_set(c->wire->loop, &c->watch, want))
        conn_lost(c, XE_WHY_OUT_OF_MEMORY);
}

/* ---- reading ---- */

static enum tls_result
conn_get(struct conn *c, char *to, size_t max, size_t *got)
{
    ssize_t n;
    *got = 0;
    if (c->tls != NULL)
        return tls_read(c->tls, to, max, got);
    do
        n = recv(c->watch.fd, to, max, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *got = (size_t)n;
        return (size_t)n < max ? TLS_WANT_READ : TLS_DONE;
    }
    if (n == 0)
        return TLS_CLOSED;
    return errno == EAGAIN || errno == EWOULDBLOCK ? TLS_WANT_READ : TLS_LOST;
}

/* Read until the system has no more, `max` is full, or the end.  TLS_DONE: there may be more. */
static enum tls_result
conn_fill(struct conn *c, char *to, size_t max, size_t *total)
{
    enum tls_result result = c->ended;
    *total = 0;
    while (result == TLS_DONE && *total < max) {
        size_t got;
        result = conn_get(c, to + *total, max - *total, &got);
        *total += got;
    }
    c->received += *total;
    return result;
}

/* Show the owner what there is; returns how much it used. */
static size_t
conn_show(struct conn *c, const char *at, size_t len)
{
    return len == 0 || c->events == NULL ? 0 : c->events->received(c, c->user, at, len);
}

/* Into the scratch buffer, behind the unfinished rest if there is one: what most turns do, since
 * stanzas do not end where reads end. */
static enum tls_result
conn_read_scratch(struct conn *c)
{
    char *scratch = c->wire->scratch;
    size_t len = buf_len(&c->in);
    size_t got;
    size_t used;
    enum tls_result result;
    if (len > 0)
        memcpy(scratch, buf_at(&c->in), len);
    result = conn_fill(c, scratch + len, WIRE_SCRATCH - len, &got);
    if (got == 0)
        return result;
    buf_clear(&c->in);
    len += got;
    used = conn_show(c, scratch, len);
    if (!conn_is_up(c))
        return result;
    if (used < len && !buf_put(&c->in, span_make(scratch + used, len - used)))
        return TLS_FAILED;
    if (used == len)
        buf_free(&c->in);
    return result;
}

/* The rest is large: the new bytes go right behind it. */
static enum tls_result
conn_read_rest(struct conn *c)
{
    enum tls_result result;
    size_t got;
    size_t used;
    char *room = buf_room(&c->in, CONN_WRITE_MAX);
    if (room == NULL)
        return TLS_FAILED;
    result = conn_fill(c, room, CONN_WRITE_MAX, &got);
    c->in.tail += got;
    used = conn_show(c, buf_at(&c->in), buf_len(&c->in));
    if (!conn_is_up(c))
        return result;   /* closed, or TLS has begun: there is no rest any more */
    buf_skip(&c->in, used);
    if (buf_len(&c->in) == 0)
        buf_free(&c->in);
    return result;
}

/* What was left when the owner did not want more. */
static enum tls_result
conn_read_unshown(struct conn *c)
{
    size_t used = conn_show(c, buf_at(&c->in), buf_len(&c->in));
    if (!conn_is_up(c))
        return TLS_DONE;
    buf_skip(&c->in, used);
    if (buf_len(&c->in) == 0)
        buf_free(&c->in);
    return TLS_DONE;
}

/* Look at the first byte without taking it: 0x16 opens a TLS handshake (XEP-0368), and TLS must
 * find it.  True when the owner has been told. */
static bool
conn_sniff(struct conn *c)
{
    unsigned char first;
    if (c->sniffed || c->tls != NULL || recv(c->watch.fd, &first, 1, MSG_PEEK) != 1)
        return false;
    c->sniffed = true;
    if (first != CONN_TLS_FIRST || c->events == NULL || c->events->hello == NULL)
        return false;
    c->events->hello(c, c->user);
    return true;
}

static void
conn_read(struct conn *c)
{
    enum tls_result result;
    if (c->paused || !conn_is_up(c) || conn_sniff(c))
        return;
    result = c->unshown ? conn_read_unshown(c)
        : buf_len(&c->in) <= CONN_REST_SMALL ? conn_read_scratch(c) : conn_read_rest(c);
    if (!conn_is_up(c) || c->events == NULL)
        return;   /* closed, or in a TLS handshake, by what it received */
    c->unshown = c->paused && buf_len(&c->in) > 0;
    if (c->unshown && (result == TLS_CLOSED || result == TLS_LOST)) {
        c->ended = result;   /* first comes what was said before */
        return;
    }
    switch (result) {
    case TLS_DONE:
    case TLS_AGAIN:
        loop_soon(c->wire->loop, &c->again);   /* TLS may hold bytes that no descriptor shows */
        break;
    case TLS_WANT_READ:
    case TLS_WANT_WRITE:
        break;
    case TLS_CLOSED:
        conn_lost(c, XE_WHY_PEER_CLOSED);
        break;
    case TLS_LOST:
        conn_lost(c, XE_WHY_PEER_LOST);
        break;
    case TLS_FAILED:
        conn_lost(c, c->tls != NULL ? tls_failed_why(c->tls) : XE_WHY_OUT_OF_MEMORY);
        break;
    }
}

/* Stop or go on receiving: the way in which a full queue slows its source down. */
static void
conn_pause(struct conn *c, bool paused)
{
    if (c->paused == paused || c->state == CONN_CLOSED)
        return;
    c->paused = paused;
    conn_watch(c);
    if (!paused && c->state != CONN_CLOSED)
        loop_soon(c->wire->loop, &c->again);
}

/* ---- writing ---- */

static enum tls_result
conn_put(struct conn *c, const char *from, size_t n, size_t *put)
{
    ssize_t sent;
    *put = 0;
    if (c->tls != NULL)
        return tls_write(c->tls, from, n, put);
    do
        sent = send(c->watch.fd, from, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        *put = (size_t)sent;
        return TLS_DONE;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? TLS_WANT_WRITE : TLS_LOST;
}

/* All that the system has taken, with what TLS adds. */
static uint64_t
conn_wire(const struct conn *c)
{
    return c->tls != NULL ? c->clear + c->tls->sent : c->written;
}

/* A batch is written.  When there is no room for one more mark, the last two become one. */
static void
conn_mark(struct conn *c)
{
    if (c->nmarks < CONN_MARKS)
        c->nmarks++;
    c->marks[c->nmarks - 1] = (struct conn_mark){ c->written, conn_wire(c) };
}

/* Bytes that the system has taken and the peer's has not; 0 where it cannot tell. */
static uint64_t
conn_outq(const struct conn *c)
{
#ifdef CONN_OUTQ
    int waiting = 0;
    if (ioctl(c->watch.fd, CONN_OUTQ, &waiting) == 0 && waiting > 0)
        return (uint64_t)waiting;
#endif
    (void)c;
    return 0;
}

/* All bytes that were ever sent on this connection. */
static uint64_t
conn_sent(const struct conn *c)
{
    return c->written + buf_len(&c->out);
}

/* How many of them have arrived at the peer's system, as far as this one can tell. */
static uint64_t
conn_arrived(struct conn *c)
{
    uint64_t outq = c->nmarks == 0 || c->watch.fd < 0 ? 0 : conn_outq(c);
    uint64_t wire = conn_wire(c);
    unsigned n = 0;
    while (n < c->nmarks && c->marks[n].wire + outq <= wire)
        c->arrived = c->marks[n++].text;
    c->nmarks -= n;
    memmove(c->marks, c->marks + n, c->nmarks * sizeof *c->marks);
    return c->arrived;
}

/* All is written and the owner has let go: say goodbye in TLS, then in TCP. */
static void
conn_finish(struct conn *c)
{
    if (c->tls != NULL && c->was_secure)
        tls_close_notify(c->tls);
    shutdown(c->watch.fd, SHUT_WR);
    c->state = CONN_LINGER;
    timer_set(c->wire->loop, &c->timer, CONN_LINGER_MS);
    conn_watch(c);
}

static void
conn_written_all(struct conn *c)
{
    timer_cancel(c->wire->loop, &c->timer);
    if (c->out.cap > CONN_KEEP)
        buf_free(&c->out);
    if (c->state == CONN_FLUSHING)
        conn_finish(c);
    else if (c->events != NULL)
        c->events->drained(c, c->user);
}

static void
conn_write(struct conn *c)
{
    enum tls_result result = TLS_DONE;
    bool moved = false;
    while (result == TLS_DONE && buf_len(&c->out) > 0) {
        size_t len = buf_len(&c->out);
        size_t n = c->retry > 0 ? c->retry : len < CONN_WRITE_MAX ? len : CONN_WRITE_MAX;
        size_t put;
        result = conn_put(c, buf_at(&c->out), n, &put);
        c->retry = result == TLS_DONE ? 0 : n;
        moved = moved || put > 0;
        c->written += put;
        buf_skip(&c->out, put);
    }
    if (moved)
        conn_mark(c);
    if (result == TLS_CLOSED || result == TLS_LOST || result == TLS_FAILED) {
        conn_lost(c, XE_WHY_PEER_LOST);
        return;
    }
    /* last words have one limit in all */
    if (buf_len(&c->out) == 0)
        conn_written_all(c);
    else if ((moved && !c->let_go) || !timer_armed(&c->timer))
        timer_set(c->wire->loop, &c->timer, c->let_go && c->hasty ? CONN_HASTY_MS
            : c->wire->write_timeout_ms);
    if (c->state != CONN_CLOSED)
        conn_watch(c);
}

static void
conn_flush_task(struct loop_task *task)
{
    struct conn *c = MAP_OWNER(task, struct conn, flush);
    if (conn_is_up(c) || c->state == CONN_FLUSHING)
        conn_write(c);
}

static void
conn_flush_later(struct conn *c)
{
    if (c->state != CONN_CLOSED && c->state != CONN_LINGER)
        loop_at_end(c->wire->loop, &c->flush);
}

/* Send bytes; they leave at the end of the turn.  False, and nothing taken, when the connection is
 * going down or its buffer is full. */
static bool
conn_send(struct conn *c, struct xe_span bytes)
{
    if (c->state == CONN_CLOSED || c->state == CONN_FLUSHING || c->state == CONN_LINGER)
        return false;
    if (!buf_put(&c->out, bytes)) {
        c->out.failed = false;
        return false;
    }
    conn_flush_later(c);
    return true;
}

/* Bytes that were sent and are not written yet. */
static size_t
conn_queued(const struct conn *c)
{
    return buf_len(&c->out);
}

/* ---- TLS ---- */

/* A handshake that was lent is back. */
static void
conn_came_back(struct tls *tls, enum tls_result result, void *user)
{
    struct conn *c = user;
    switch (result) {
    case TLS_DONE:
        c->state = CONN_SECURE;
        c->was_secure = true;
        conn_watch(c);
        if (c->events != NULL)
            c->events->secured(c, c->user);
        /* ejabberd sends its header together with its Finished (interop A.3): it is already here */
        if (c->state == CONN_SECURE)
            loop_soon(c->wire->loop, &c->again);
        if (buf_len(&c->out) > 0)
            conn_flush_later(c);
        break;
    case TLS_AGAIN:
        break;
    case TLS_WANT_READ:
    case TLS_WANT_WRITE:
        if (!loop_watch_set(c->wire->loop, &c->watch,
                result == TLS_WANT_READ ? LOOP_READ : LOOP_WRITE))
            conn_lost(c, XE_WHY_OUT_OF_MEMORY);
        break;
    case TLS_CLOSED:
    case TLS_LOST:
        conn_lost(c, XE_WHY_PEER_LOST);
        break;
    case TLS_FAILED:
        conn_lost(c, tls_failed_why(tls));
        break;
    }
}

/* Nobody looks at the descriptor while the handshake is lent. */
static void
conn_handshake(struct conn *c)
{
    loop_watch_set(c->wire->loop, &c->watch, 0);
    if (!tls_is_lent(c->tls))
        tls_lend(c->tls, &c->peer, conn_came_back, c);
}

/* Begin TLS on a plain connection.  What was sent before is written first.  `tls` is taken. */
static void
conn_start_tls(struct conn *c, struct tls *tls)
{
    if (buf_len(&c->out) > 0)
        conn_write(c);   /* <proceed/> or <starttls/>: small, the system takes it at once */
    if (c->state != CONN_OPEN || buf_len(&c->out) > 0) {
        tls_free(tls);
        if (c->state == CONN_OPEN)
            conn_lost(c, XE_WHY_TLS_FAILED);
        return;
    }
    buf_free(&c->in);
    c->tls = tls;
    c->clear = c->written;
    c->paused = c->unshown = false;
    c->state = CONN_HANDSHAKE;
    loop_soon(c->wire->loop, &c->again);
}

/* ---- life and end ---- */

static void
conn_discard(struct conn *c)
{
    char waste[4096];
    ssize_t n = recv(c->watch.fd, waste, sizeof waste, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        conn_drop(c);
}

static void
conn_turn(struct conn *c, unsigned events)
{
    switch (c->state) {
    case CONN_HANDSHAKE:
        conn_handshake(c);
        break;
    case CONN_OPEN:
    case CONN_SECURE:
        if (events & LOOP_WRITE && buf_len(&c->out) > 0)
            conn_write(c);
        if (events & LOOP_READ)
            conn_read(c);
        break;
    case CONN_FLUSHING:
        conn_write(c);
        break;
    case CONN_LINGER:
        conn_discard(c);
        break;
    case CONN_CLOSED:
        break;
    }
}

static void
conn_ready(struct loop_watch *w, unsigned events)
{
    conn_turn(MAP_OWNER(w, struct conn, watch), events);
}

static void
conn_again_task(struct loop_task *task)
{
    conn_turn(MAP_OWNER(task, struct conn, again), LOOP_READ);
}

static void
conn_timeout(struct timer *t)
{
    struct conn *c = MAP_OWNER(t, struct conn, timer);
    conn_lost(c, XE_WHY_WRITE_TIMEOUT);
}

/* Make a connection of a connected, non-blocking descriptor, which is taken.  `in_max` is the most
 * the owner may leave unused (bytes), `out_max` the most that may wait to be written.  NULL when
 * memory is out; the descriptor is then closed. */
static struct conn *
conn_new(struct wire *w, int fd, size_t in_max, size_t out_max,
    const struct conn_events *events, void *user)
{
    struct conn *c = calloc(1, sizeof *c);
    socklen_t len = sizeof c->peer;
    int on = 1;
    if (c == NULL) {
        close(fd);
        return NULL;
    }
    c->wire = w;
    c->watch.fd = fd;
    c->watch.ready = conn_ready;
    c->flush.run = conn_flush_task;
    c->again.run = conn_again_task;
    c->timer.fire = conn_timeout;
    c->in.max = in_max + CONN_WRITE_MAX + WIRE_SCRATCH;
    c->out.max = out_max;
    c->events = events;
    c->user = user;
    getpeername(fd, (struct sockaddr *)&c->peer, &len);
    len = sizeof c->local;
    getsockname(fd, (struct sockaddr *)&c->local, &len);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);   /* we batch by ourselves */
    list_append(&w->all, &c->node);
    if (!loop_watch_set(w->loop, &c->watch, LOOP_READ)) {
        conn_drop(c);
        return NULL;
    }
    return c;
}

/* The owner lets go.  What is queued is still written; no further event. */
static void
conn_close(struct conn *c)
{
    c->events = NULL;
    if (c->state == CONN_HANDSHAKE || (c->state == CONN_OPEN && c->watch.fd < 0)) {
        conn_drop(c);
        return;
    }
    if (!conn_is_up(c))
        return;
    c->state = CONN_FLUSHING;
    c->let_go = true;
    if (c->hasty)
        timer_cancel(c->wire->loop, &c->timer);
    c->wire->nlingering++;
    if (buf_len(&c->out) > 0)
        conn_flush_later(c);
    else
        conn_finish(c);
}

/* The owner lets go, and what is queued is lost. */
static void
conn_abort(struct conn *c)
{
    c->events = NULL;
    conn_drop(c);
}

/* The same, and what the system still has of it is lost, too. */
static void
conn_reset(struct conn *c)
{
    const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
    if (c->watch.fd >= 0)
        setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    conn_abort(c);
}

static void
wire_close(struct wire *w)
{
    struct list_node *n;
    struct list_node *next;
    for (n = w->all.next; n != &w->all; n = next) {
        next = n->next;
        conn_drop(MAP_OWNER(n, struct conn, node));
    }
    wire_reap(&w->reap);
    free(w->scratch);
    w->scratch = NULL;
}

/* ---- listening ---- */

struct listener {
    struct loop_watch   watch;
    struct timer        pause;   /* out of descriptors: wait a little */
    struct wire        *wire;    /* borrowed */
    /* a connection was accepted from this address; the descriptor is the receiver's */
    void              (*accepted)(void *user, int fd, const struct sockaddr_storage *from);
    void               *user;    /* borrowed */
};

static bool
conn_unblock(int fd)
{
    int flags = fcntl(fd, F_GETFL, 0);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0
        && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static void
listener_ready(struct loop_watch *w, unsigned events)
{
    struct listener *l = MAP_OWNER(w, struct listener, watch);
    int i;
    (void)events;
    for (i = 0; i < LISTENER_ACCEPTS && l->watch.fd >= 0; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        int fd;
        memset(&from, 0, sizeof from);
        fd = accept(l->watch.fd, (struct sockaddr *)&from, &len);
        if (fd >= 0 && conn_unblock(fd)) {
            l->accepted(l->user, fd, &from);
            continue;
        }
        if (fd >= 0) {
            close(fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (log_begin(l->wire->log, LOG_ERROR, "accept-failed", span_of("accept"))) {
                log_text(l->wire->log, "error", strerror(errno));
                log_end(l->wire->log);
            }
            loop_watch_set(l->wire->loop, &l->watch, 0);
            timer_set(l->wire->loop, &l->pause, LISTENER_PAUSE_MS);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void
listener_resume(struct timer *t)
{
    struct listener *l = MAP_OWNER(t, struct listener, pause);
    loop_watch_set(l->wire->loop, &l->watch, LOOP_READ);
}

static int
listener_socket(const struct sockaddr_storage *at, socklen_t at_len)
{
    int on = 1;
    int error;
    int fd = socket(at->ss_family, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)at, at_len) == 0 && listen(fd, LISTENER_BACKLOG) == 0
        && conn_unblock(fd))
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Listen; l->accepted and l->user are set by the caller.  False with errno. */
static bool
listener_open(struct listener *l, struct wire *w, const struct sockaddr_storage *at,
    socklen_t at_len)
{
    l->wire = w;
    l->watch.ready = listener_ready;
    l->pause.fire = listener_resume;
    l->watch.fd = listener_socket(at, at_len);
    return l->watch.fd >= 0 && loop_watch_set(w->loop, &l->watch, LOOP_READ);
}

static void
listener_close(struct listener *l)
{
    if (l->wire == NULL || l->watch.fd < 0)
        return;
    timer_cancel(l->wire->loop, &l->pause);
    loop_watch_set(l->wire->loop, &l->watch, 0);
    close(l->watch.fd);
    l->watch.fd = -1;
}

/* ---- dialling: happy eyeballs over the targets of a domain (RFC 8305, XEP-0495) ---- */

/* Targets come in order of preference.  The first is tried; when it has failed, or has not answered
 * for race_ms (RFC 8305 5: 250), the next of the same priority is tried beside it; the next
 * priority waits until all of this one have failed (RFC 2782).  The first connection that stands
 * wins.  When it turns out to be of no use (TLS, stream), dial_next() goes on with the targets that
 * are left. */

struct dial;

struct dial_try {
    struct loop_watch  watch;
    struct timer       timer;    /* the address does not answer */
    struct dial       *dial;     /* its owner; NULL: free slot */
    size_t             target;
};

struct dial {
    struct wire              *wire;      /* borrowed */
    struct dns_target        *targets;   /* owned copy */
    bool                     *used;      /* owned; of each: it is being tried, or has failed */
    size_t                    count;
    struct sockaddr_storage   from;      /* local address to leave from; AF_UNSPEC for any */
    int64_t                   connect_ms; /* for one address to answer */
    int64_t                   race_ms;    /* head start of an address before the next is tried */
    struct dial_try           tries[DIAL_PARALLEL_MAX];
    struct timer              stagger;
    enum xe_why               why;       /* the most telling failure so far */
    size_t                    told;      /* the target that it is about */
    size_t                    refused;   /* the first target that may not be dialled */
    size_t                    nrefused;  /* and how many there were */
    /* may this be dialled?  NULL: all of them, since the configuration names them */
    enum xe_why             (*judge)(void *user, const struct dns_target *target);
    void                    (*connected)(void *user, int fd, const struct dns_target *target);
    void                    (*failed)(void *user, enum xe_why why, const struct dns_target *target);
    void                     *user;      /* borrowed */
};

static void
dial_try_end(struct dial_try *t)
{
    struct dial *d = t->dial;
    timer_cancel(d->wire->loop, &t->timer);
    loop_watch_set(d->wire->loop, &t->watch, 0);
    t->dial = NULL;
}

static enum xe_why
dial_why(int error)
{
    switch (error) {
    case ECONNREFUSED:
        return XE_WHY_REFUSED;
    case ETIMEDOUT:
        return XE_WHY_CONNECT_TIMEOUT;
    case EADDRNOTAVAIL:
    case EACCES:
    case EPERM:
        return XE_WHY_BIND;
    default:
        return XE_WHY_UNREACHABLE;
    }
}

/* The target to try next; d->count: none is left, or the next one waits for its priority. */
static size_t
dial_choose(const struct dial *d)
{
    size_t i;
    size_t next = d->count;
    for (i = d->count; i > 0; i--)
        if (!d->used[i - 1])
            next = i - 1;
    for (i = 0; next < d->count && i < DIAL_PARALLEL_MAX; i++)
        if (d->tries[i].dial != NULL
            && d->targets[d->tries[i].target].priority < d->targets[next].priority)
            return d->count;
    return next;
}

/* A non-blocking socket on its way to the target, from the configured address; -1 with errno. */
static int
dial_socket(const struct dial *d, const struct dns_target *target)
{
    socklen_t from_len = d->from.ss_family == AF_INET6
        ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd = socket(target->addr.ss_family, SOCK_STREAM, 0);
    int error;
    if (fd < 0)
        return -1;
    if (conn_unblock(fd)
        && (d->from.ss_family == AF_UNSPEC
            || bind(fd, (const struct sockaddr *)&d->from, from_len) == 0)
        && (connect(fd, (const struct sockaddr *)&target->addr, target->addr_len) == 0
            || errno == EINPROGRESS))
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* End what is under way.  Its targets may be tried again: not refuted, merely slower. */
static void
dial_stop(struct dial *d)
{
    size_t i;
    timer_cancel(d->wire->loop, &d->stagger);
    for (i = 0; i < DIAL_PARALLEL_MAX; i++)
        if (d->tries[i].dial != NULL) {
            d->used[d->tries[i].target] = false;
            dial_try_end(&d->tries[i]);
            close(d->tries[i].watch.fd);
        }
}

static void
dial_won(struct dial_try *t)
{
    struct dial *d = t->dial;
    int fd = t->watch.fd;
    dial_try_end(t);
    dial_stop(d);
    d->connected(d->user, fd, &d->targets[t->target]);
}

/* How much a failure tells: silence (is there a filter?) more than a refusal, that more than what a
 * stream has ended with, that more than an address that nobody was asked at, and no route least. */
static int
dial_weight(enum xe_why why)
{
    if (why == XE_WHY_CONNECT_TIMEOUT)
        return 5;
    if (why == XE_WHY_REFUSED)
        return 4;
    if (why == XE_WHY_ADDRESS_REFUSED || why == XE_WHY_PORT_REFUSED)
        return 2;
    if (why == XE_WHY_UNREACHABLE || why == XE_WHY_BIND)
        return 1;
    return why == XE_WHY_NONE ? 0 : 3;
}

static void
dial_note(struct dial *d, size_t target, enum xe_why why)
{
    if (dial_weight(why) > dial_weight(d->why)) {
        d->why = why;
        d->told = target;
    }
}

/* May it be dialled?  What may not is not tried, whatever else there is. */
static bool
dial_may(struct dial *d, size_t target)
{
    enum xe_why why = d->judge == NULL ? XE_WHY_NONE : d->judge(d->user, &d->targets[target]);
    if (why == XE_WHY_NONE)
        return true;
    if (d->nrefused++ == 0)
        d->refused = target;
    dial_note(d, target, why);
    return false;
}

/* Start one attempt.  False when it failed at once; the reason is noted. */
static bool
dial_launch(struct dial *d, size_t target)
{
    struct dial_try *t = d->tries;
    d->used[target] = true;
    if (!dial_may(d, target))
        return false;
    if (d->from.ss_family != AF_UNSPEC && d->from.ss_family != d->targets[target].addr.ss_family) {
        dial_note(d, target, XE_WHY_UNREACHABLE);
        return false;
    }
    while (t->dial != NULL)
        t++;
    t->target = target;
    t->watch.fd = dial_socket(d, &d->targets[target]);
    if (t->watch.fd < 0) {
        dial_note(d, target, dial_why(errno));
        return false;
    }
    t->dial = d;
    loop_watch_set(d->wire->loop, &t->watch, LOOP_WRITE);
    timer_set(d->wire->loop, &t->timer, d->connect_ms);
    return true;
}

/* Go on: launch what may be launched now; when nothing runs and nothing is left, it has failed. */
static void
dial_next(struct dial *d)
{
    size_t running = 0;
    size_t i;
    size_t next;
    for (i = 0; i < DIAL_PARALLEL_MAX; i++)
        running += d->tries[i].dial != NULL;
    while (running < DIAL_PARALLEL_MAX && (next = dial_choose(d)) < d->count) {
        if (dial_launch(d, next)) {
            timer_set(d->wire->loop, &d->stagger, d->race_ms);
            return;
        }
    }
    if (running == 0) {
        timer_cancel(d->wire->loop, &d->stagger);
        d->failed(d->user, d->why, d->told < d->count ? &d->targets[d->told] : NULL);
    }
}

static void
dial_try_failed(struct dial_try *t, enum xe_why why)
{
    struct dial *d = t->dial;
    dial_try_end(t);
    close(t->watch.fd);
    dial_note(d, t->target, why);
    dial_next(d);
}

static void
dial_ready(struct loop_watch *w, unsigned events)
{
    struct dial_try *t = MAP_OWNER(w, struct dial_try, watch);
    int error = 0;
    socklen_t len = sizeof error;
    (void)events;
    if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0)
        dial_won(t);
    else
        dial_try_failed(t, dial_why(error));
}

static void
dial_try_timeout(struct timer *timer)
{
    dial_try_failed(MAP_OWNER(timer, struct dial_try, timer), XE_WHY_CONNECT_TIMEOUT);
}

static void
dial_stagger(struct timer *timer)
{
    dial_next(MAP_OWNER(timer, struct dial, stagger));
}

/* Stop, without an event. */
static void
dial_free(struct dial *d)
{
    if (d == NULL)
        return;
    dial_stop(d);
    free(d->targets);
    free(d->used);
    free(d);
}

/* Prepare to dial `count` targets (copied), leaving from `from` (NULL for any address).  The caller
 * sets the events and calls dial_next().  NULL when memory is out. */
static struct dial *
dial_new(struct wire *w, const struct dns_target *targets, size_t count,
    const struct sockaddr_storage *from, int64_t connect_ms, int64_t race_ms)
{
    struct dial *d = calloc(1, sizeof *d);
    size_t i;
    if (d == NULL)
        return NULL;
    d->wire = w;
    d->count = count;
    d->connect_ms = connect_ms;
    d->race_ms = race_ms;
    d->from.ss_family = AF_UNSPEC;
    d->stagger.fire = dial_stagger;
    for (i = 0; i < DIAL_PARALLEL_MAX; i++) {
        d->tries[i].watch.ready = dial_ready;
        d->tries[i].timer.fire = dial_try_timeout;
    }
    if (from != NULL) {
        d->from = *from;
        if (from->ss_family == AF_INET6)
            ((struct sockaddr_in6 *)(void *)&d->from)->sin6_port = 0;
        else
            ((struct sockaddr_in *)(void *)&d->from)->sin_port = 0;
    }
    d->targets = malloc((count > 0 ? count : 1) * sizeof *targets);
    d->used = calloc(count > 0 ? count : 1, sizeof *d->used);
    if (d->targets == NULL || d->used == NULL) {
        dial_free(d);
        return NULL;
    }
    memcpy(d->targets, targets, count * sizeof *targets);
    return d;
}

/* ===========================================================================
 * [QUEUE] queue_         stanzas that wait: for a server, for a trunk, for an acknowledgement
 * calls:  BASE BUF
 *
 *   bytes   |== sent, may come back ==|===== not sent =====|
 *           first                     first + sent         first + count
 *
 * Stanzas are written straight into queue->bytes and then counted in with queue_add().  They leave
 * in order: queue_send() hands the next ones to a connection but keeps them, queue_release()
 * forgets the oldest when it has arrived (acknowledged by the peer, or its TCP), queue_rewind()
 * makes all of them unsent again when the connection died.  So a stanza is always owned by exactly
 * one queue.
 *
 * Costs: a stanza is its bytes and 16 more; everything is constant but the doubling of a full ring.
 * Not done: queues on disk.  What cannot go is returned, and its sender knows best what to do.
 * ======================================================================== */

struct queue_item {
    uint32_t len;     /* bytes */
    uint32_t end;     /* of those of its connection, modulo 2^32, when it was sent on one */
    void    *tag;     /* whose it is; meaning known to the user of the queue */
};

struct queue {
    struct buf         bytes;       /* the stanzas, one after the other */
    struct queue_item *items;       /* owned ring of `cap` items, a power of two */
    size_t             cap;
    size_t             first;       /* index of the oldest, not reduced */
    size_t             count;
    size_t             sent;        /* how many of them have been handed on */
    size_t             sent_bytes;
};

static struct queue_item *
queue_item(const struct queue *q, size_t n)
{
    return &q->items[(q->first + n) & (q->cap - 1)];
}

static bool
queue_grow(struct queue *q)
{
    size_t cap = q->cap == 0 ? 8 : q->cap * 2;
    struct queue_item *items = malloc(cap * sizeof *items);
    size_t i;
    if (items == NULL)
        return false;
    for (i = 0; i < q->count; i++)
        items[i] = *queue_item(q, i);
    free(q->items);
    q->items = items;
    q->cap = cap;
    q->first = 0;
    return true;
}

/* Count in the stanza that was just written to the end of q->bytes, `len` bytes.  False when memory
 * is out; the bytes are then taken back. */
static bool
queue_add(struct queue *q, size_t len, void *tag)
{
    if (q->count == q->cap && !queue_grow(q)) {
        q->bytes.tail -= len;
        return false;
    }
    *queue_item(q, q->count) = (struct queue_item){ (uint32_t)len, 0, tag };
    q->count++;
    return true;
}

static size_t
queue_unsent(const struct queue *q)
{
    return q->count - q->sent;
}

/* Bytes of the next unsent stanza. */
static size_t
queue_next(const struct queue *q)
{
    return queue_item(q, q->sent)->len;
}

/* The next unsent stanzas as one run of at most `max` bytes, but at least one, and behind that none
 * of more than `each`; they count as sent.  *n receives how many. */
static struct xe_span
queue_send(struct queue *q, size_t max, size_t each, size_t *n)
{
    const char *at = buf_at(&q->bytes) + q->sent_bytes;
    size_t len = 0;
    *n = 0;
    while (q->sent < q->count) {
        size_t next = queue_next(q);
        if (*n > 0 && (len + next > max || next > each))
            break;
        len += next;
        q->sent++;
        ++*n;
    }
    q->sent_bytes += len;
    return span_make(at, len);
}

/* The oldest stanza; its bytes are valid until the queue changes. */
static struct xe_span
queue_oldest(const struct queue *q)
{
    return span_make(buf_at(&q->bytes), queue_item(q, 0)->len);
}

/* Forget the oldest stanza. */
static struct queue_item
queue_release(struct queue *q)
{
    struct queue_item item = *queue_item(q, 0);
    q->first++;
    q->count--;
    if (q->sent > 0) {
        q->sent--;
        q->sent_bytes -= item.len;
    }
    buf_skip(&q->bytes, item.len);
    return item;
}

/* What was sent last, `n` stanzas, begins at `at` of the bytes of its connection. */
static void
queue_note_ends(struct queue *q, size_t n, uint64_t at)
{
    for (; n > 0; n--) {
        struct queue_item *item = queue_item(q, q->sent - n);
        at += item->len;
        item->end = (uint32_t)at;
    }
}

static void
queue_rewind(struct queue *q)
{
    q->sent = 0;
    q->sent_bytes = 0;
}

static void
queue_free(struct queue *q)
{
    buf_free(&q->bytes);
    free(q->items);
    *q = (struct queue){ .bytes.max = q->bytes.max };
}

/* ===========================================================================
 * [POLICY] policy_       what a partner's settings allow: 18 combinations, one table
 * calls:  (nothing)
 *
 * Three settings of a partner decide how it may prove who it is:
 *
 *   tls       required | optional | not-supported    is the stream encrypted?
 *   sasl      required | optional | not-supported    SASL EXTERNAL with a certificate (XEP-0178)
 *   dialback  true | false                           XEP-0220, asking the domain's own server
 *
 * and leave some of three methods: SASL over TLS, dialback over TLS, dialback over plain TCP.  The
 * rows and their numbers are those that administrators know from the negotiation settings for XMPP
 * federated partners.  Two rules hold in every row:
 *
 *   1. with tls="required" there is never dialback over plain TCP: row 7 allows it nowhere;
 *   2. a row that leaves no method at all is invalid, and the configuration is refused.
 *
 * A doubtful row works, but not as a reader of the three words would expect; it is warned about.
 * ======================================================================== */

enum policy_level { POLICY_REQUIRED, POLICY_OPTIONAL, POLICY_NOT_SUPPORTED };
static const char *const policy_levels[] = { "required", "optional", "not-supported", NULL };

/* Methods, as bits. */
enum {
    POLICY_SASL_TLS     = 1,   /* SASL EXTERNAL inside TLS */
    POLICY_TLS_DIALBACK = 2,   /* dialback on an encrypted stream */
    POLICY_TCP_DIALBACK = 4    /* dialback on a plain stream */
};

enum policy_verdict { POLICY_VALID, POLICY_DOUBTFUL, POLICY_INVALID };
static const char *const policy_verdicts[] = { "valid", "doubtful", "invalid" };

struct policy_row {
    unsigned            number;    /* 1 to 18, stable */
    enum policy_level   tls;
    enum policy_level   sasl;
    bool                dialback;
    unsigned            methods;   /* POLICY_* bits; 0 in an invalid row */
    enum policy_verdict verdict;
    const char         *why;       /* a sentence; static */
};

/* In order of number, so that the place follows from the settings. */
#define R POLICY_REQUIRED
#define O POLICY_OPTIONAL
#define N POLICY_NOT_SUPPORTED
#define S POLICY_SASL_TLS
#define D POLICY_TLS_DIALBACK
#define T POLICY_TCP_DIALBACK
static const struct policy_row policy_rows[18] = {
    {  1, R, R, true,  S,         POLICY_DOUBTFUL, "dialback is switched on but can never be "
        "used, because SASL is required; say dialback=\"false\", or sasl=\"optional\"" },
    {  2, R, R, false, S,         POLICY_VALID,    "a good certificate over TLS is the only way" },
    {  3, O, R, true,  S | D | T, POLICY_DOUBTFUL, "SASL is required but works only over TLS, "
        "which is optional; without TLS only dialback over plain TCP is left" },
    {  4, O, R, false, S,         POLICY_DOUBTFUL, "SASL is required but works only over TLS, "
        "which is optional; a stream without TLS can never be authenticated" },
    {  5, N, R, true,  T,         POLICY_DOUBTFUL, "SASL is required but cannot work, because "
        "it needs TLS; only dialback over plain TCP is left" },
    {  6, N, R, false, 0,         POLICY_INVALID,  "no method is left: SASL needs TLS, which is "
        "not supported, and dialback is off" },
    {  7, R, O, true,  S | D,     POLICY_VALID,    "a good certificate, or dialback, both over "
        "TLS" },
    {  8, R, O, false, S,         POLICY_VALID,    "SASL over TLS is the only method, as dialback "
        "is off" },
    {  9, O, O, true,  S | D | T, POLICY_DOUBTFUL, "every method is allowed, so a stream may end "
        "up unencrypted with nothing but dialback over plain TCP" },
    { 10, O, O, false, S,         POLICY_DOUBTFUL, "SASL is the only method and works only over "
        "TLS, which is optional; a stream without TLS can never be authenticated" },
    { 11, N, O, true,  T,         POLICY_DOUBTFUL, "SASL is optional but cannot work, because it "
        "needs TLS; only dialback over plain TCP is left" },
    { 12, N, O, false, 0,         POLICY_INVALID,  "no method is left: SASL needs TLS, which is "
        "not supported, and dialback is off" },
    { 13, R, N, true,  D,         POLICY_VALID,    "dialback over TLS is the only method" },
    { 14, R, N, false, 0,         POLICY_INVALID,  "no method is left: SASL or dialback must be "
        "switched on" },
    { 15, O, N, true,  D | T,     POLICY_VALID,    "dialback, over TLS where the partner offers "
        "it" },
    { 16, O, N, false, 0,         POLICY_INVALID,  "no method is left: SASL or dialback must be "
        "switched on" },
    { 17, N, N, true,  T,         POLICY_VALID,    "dialback over plain TCP, nothing is "
        "encrypted" },
    { 18, N, N, false, 0,         POLICY_INVALID,  "no method is left: SASL or dialback must be "
        "switched on" },
};
#undef R
#undef O
#undef N
#undef S
#undef D
#undef T

/* The row of three settings; static, never NULL. */
static const struct policy_row *
policy_row(enum policy_level tls, enum policy_level sasl, bool dialback)
{
    return &policy_rows[(unsigned)sasl * 6 + (unsigned)tls * 2 + (dialback ? 0 : 1)];
}

/* Whether, with these methods (POLICY_*), SASL EXTERNAL may be used on a stream that is or is not
 * encrypted now. */
static bool
policy_allows_sasl(unsigned methods, bool encrypted)
{
    return encrypted && (methods & POLICY_SASL_TLS) != 0;
}

/* Whether dialback may be used on a stream that is or is not encrypted now. */
static bool
policy_allows_dialback(unsigned methods, bool encrypted)
{
    return (methods & (encrypted ? POLICY_TLS_DIALBACK : POLICY_TCP_DIALBACK)) != 0;
}

/* ===========================================================================
 * [AUTH]  dialback_ sasl_ peer_   keys, SASL EXTERNAL and whose certificate it is
 * calls:  BASE JID XML TLS
 *
 * Three pure questions of server-to-server authentication; nothing here waits or keeps state.
 *
 *   dialback_  the key of XEP-0220, computed as XEP-0185 says.  It depends on nothing but the
 *              shared secret and the stream: any edge of a pool verifies what another has sent.
 *   sasl_      the payload of SASL EXTERNAL: base64 of the domain that is claimed (XEP-0178)
 *   peer_      whether a certificate stands for a domain (RFC 6120 13.7.2, RFC 9525)
 *
 * Costs: a key is one HMAC; each name of a certificate is compared, at most TLS_NAMES_MAX.
 * Not done: DANE and POSH.  Both need DNSSEC or HTTPS to be believed first.
 * ======================================================================== */

#define DIALBACK_KEY_LEN  64     /* hex digits of HMAC-SHA256 */

/* ---- dialback ---- */

/* The HMAC key is the hexadecimal *text* of SHA-256(secret), not its 32 bytes (XEP-0185 3). */
struct dialback_secret {
    char key[DIALBACK_KEY_LEN];
};

/* Prepare the shared secret.  False only when the library fails. */
static bool
dialback_secret_set(struct dialback_secret *s, struct xe_span secret)
{
    unsigned char hash[32];
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    if (mbedtls_md(sha256, (const unsigned char *)secret.at, secret.len, hash) != 0)
        return false;
    text_hex(s->key, hash, sizeof hash);
    tls_wipe(hash, sizeof hash);
    return true;
}

/* HMAC-SHA256 of "receiving originating id"; both domains in normal form, `id` the stream id that
 * the receiving server gave.  False when memory is out. */
static bool
dialback_key(const struct dialback_secret *s, struct xe_span receiving, struct xe_span originating,
    struct xe_span id, char key[DIALBACK_KEY_LEN + 1])
{
    const struct xe_span parts[] = { receiving, { " ", 1 }, originating, { " ", 1 }, id };
    unsigned char mac[32];
    mbedtls_md_context_t md;
    bool good;
    size_t i;
    mbedtls_md_init(&md);
    good = mbedtls_md_setup(&md, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 1) == 0
        && mbedtls_md_hmac_starts(&md, (const unsigned char *)s->key, sizeof s->key) == 0;
    for (i = 0; good && i < sizeof parts / sizeof parts[0]; i++)
        good = parts[i].len == 0
            || mbedtls_md_hmac_update(&md, (const unsigned char *)parts[i].at, parts[i].len) == 0;
    good = good && mbedtls_md_hmac_finish(&md, mac) == 0;
    mbedtls_md_free(&md);
    if (good)
        text_hex(key, mac, sizeof mac);
    key[good ? DIALBACK_KEY_LEN : 0] = '\0';
    return good;
}

/* Whether `given` is our key for this stream.  Takes the same time wherever they differ.  White
 * space around the key is left over from pretty printing and does not count. */
static bool
dialback_check(const struct dialback_secret *s, struct xe_span receiving,
    struct xe_span originating, struct xe_span id, struct xe_span given)
{
    char key[DIALBACK_KEY_LEN + 1];
    unsigned difference = 0;
    size_t i;
    given = xml_skip_space(given);
    while (given.len > 0 && xml_is(given.at[given.len - 1], XML_IS_SPACE))
        given.len--;
    if (given.len != DIALBACK_KEY_LEN || !dialback_key(s, receiving, originating, id, key))
        return false;
    for (i = 0; i < DIALBACK_KEY_LEN; i++)
        difference |= (unsigned)(unsigned char)key[i] ^ (unsigned char)given.at[i];
    tls_wipe(key, sizeof key);
    return difference == 0;
}

/* ---- SASL EXTERNAL ---- */

/* The initial response for `domain`.  RFC 6120 would allow "=", old servers want the domain
 * (XEP-0178 3). False, and an empty text, when it does not fit. */
static bool
sasl_external_encode(struct xe_span domain, char *text, size_t max)
{
    size_t len;
    text[0] = '\0';
    return domain.len <= JID_PART_MAX && mbedtls_base64_encode((unsigned char *)text, max, &len,
        (const unsigned char *)domain.at, domain.len) == 0;
}

/* RFC 6120 6.4.2 wants canonical base64; mbed TLS skips white space, so look first. */
static bool
sasl_is_base64(struct xe_span text)
{
    size_t i;
    for (i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && c != '+' && c != '/' && (c != '=' || i + 2 < text.len))
            return false;
    }
    return text.len % 4 == 0;
}

/* The authorization identity of an <auth/> or <response/>.  Empty text and "=" mean none, "": the
 * identity is then the stream's `from`.  False, and "": <incorrect-encoding/>.  An identity with
 * a NUL inside or longer than a domain is refused the same way. */
static bool
sasl_external_decode(struct xe_span text, char *authzid, size_t max)
{
    size_t len = 0;
    bool good = text.len == 0 || span_is(text, "=");
    if (!good && sasl_is_base64(text))
        good = mbedtls_base64_decode((unsigned char *)authzid, max - 1, &len,
                (const unsigned char *)text.at, text.len) == 0
            && len <= JID_PART_MAX && memchr(authzid, '\0', len) == NULL;
    authzid[good ? len : 0] = '\0';
    return good;
}

/* ---- whose certificate ---- */

/* Whether a name of a certificate is this domain, which is in normal form. */
static bool
peer_same_name(struct xe_span name, struct xe_span domain)
{
    char normal[XE_DOMAIN_MAX];
    size_t len;
    return xe_jid_domain_normal(name, normal, &len) && span_eq(span_make(normal, len), domain);
}

/* RFC 9525 6.3: a wildcard is the whole left-most label and stands for exactly one label.  As
 * OpenSSL does, two more labels must follow it: nobody owns all of "*.example". */
static bool
peer_dns_matches(struct xe_span pattern, struct xe_span domain)
{
    size_t label = span_find(domain, '.');
    struct xe_span rest;
    size_t i;
    if (pattern.len < 3 || memcmp(pattern.at, "*.", 2) != 0)
        return span_find(pattern, '*') == pattern.len && peer_same_name(pattern, domain);
    rest = span_skip(pattern, 2);
    i = span_find(rest, '.');
    if (i + 1 >= rest.len || span_find(rest, '*') != rest.len || label == 0 || label == domain.len)
        return false;
    return peer_same_name(rest, span_skip(domain, label + 1));
}

/* RFC 6120 13.7.1.2: "_xmpp-server." and the domain, as it stands. */
static bool
peer_srv_matches(struct xe_span name, struct xe_span domain)
{
    static const struct xe_span service = { "_xmpp-server.", 13 };
    size_t i;
    for (i = 0; i < service.len; i++)
        if (i >= name.len || text_lower(name.at[i]) != service.at[i])
            return false;
    name = span_skip(name, i);
    return span_find(name, '*') == name.len && peer_same_name(name, domain);
}

/* RFC 6120 13.7.1.4: a domain; an address of somebody at it says nothing about the domain. */
static bool
peer_xmpp_matches(struct xe_span address, struct xe_span domain)
{
    return span_find(address, '@') == address.len && span_find(address, '/') == address.len
        && peer_same_name(address, domain);
}

/* Whether a name in the certificate stands for the domain (A-labels for an internationalised one).
 * Never the common name (RFC 9525 2). */
static bool
peer_is_named(const struct tls_facts *facts, struct xe_span domain)
{
    size_t i;
    for (i = 0; i < facts->xmpp_addr_count; i++)
        if (peer_xmpp_matches(facts->xmpp_addr[i], domain))
            return true;
    for (i = 0; i < facts->srv_id_count; i++)
        if (peer_srv_matches(facts->srv_id[i], domain))
            return true;
    for (i = 0; i < facts->dns_count; i++)
        if (peer_dns_matches(facts->dns[i], domain))
            return true;
    return false;
}

/* The certificate decision: XE_WHY_NONE when the rule of the domain believes it (see tls_why), and
 * it names the domain; otherwise what the rule says, otherwise XE_WHY_CERT_NAME. */
static enum xe_why
peer_may_speak_for(const struct tls_facts *facts, struct xe_span domain,
    const struct tls_rule *rule)
{
    enum xe_why why = tls_why(facts, rule);
    if (why != XE_WHY_NONE)
        return why;
    return peer_is_named(facts, domain) ? XE_WHY_NONE : XE_WHY_CERT_NAME;
}

/* ===========================================================================
 * [CONFIG] config_       the configuration file: one table, read once, never changed
 * calls:  BASE BUF WHY JID XML ELEM MAP REACH LOG TLS POLICY
 *
 * config_rows[] names every element and attribute with its type, default, limits, place in the
 * struct and one sentence of documentation.  Reading, the output of `check` and the documented
 * example are three walks over that table, so none can know a setting that the others do not.
 *
 *      file --> config_tokens()  well-formed?  if not, config_refuse_text() says what is where
 *           --> elem_tree()      elements and their values, references resolved
 *           --> config_read_*    the table: unknown, missing, repeated, out of range, defaults
 *           --> config_check_*   what the table cannot say: settings that contradict each other
 *           --> struct config    or all errors, sorted by line
 *
 * The tokenizer reads the file as it reads a stream: a header of ours, then one first-level
 * element, which is the root of the file.  A tree knows no lines, so each element remembers the
 * place of its tag in the text, and lines are counted when somebody asks.
 *
 * All memory of a configuration hangs on one list of blocks and dies in config_free().  Lists are
 * counted before they are filled, so nothing moves and pointers between the parts stay good.
 *
 * Costs: time and memory grow with the file, and its tree is there while it is read.  A domain or a
 * partner is found by one hash.
 * Not done: files that include others.  One file says all of one node, and `check` prints it.
 * ======================================================================== */

enum config_role { CONFIG_EDGE, CONFIG_GATEWAY };

enum config_partner_type {        /* how far the users of a partner are trusted */
    CONFIG_FEDERATED,             /* own company or established business relation */
    CONFIG_PUBLIC_VERIFIED,       /* public provider that verifies its users */
    CONFIG_PUBLIC_UNVERIFIED      /* public provider that does not; the default */
};

enum config_tls_version { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

/* Every text below ends in NUL and belongs to the struct config, spans included; an absent one is
 * NULL (a span: at == NULL).  `line` is a line of the file; 0: the element is not there. */

struct config_address {                  /* an IPv4 or IPv6 literal and a port */
    struct sockaddr_storage sa;          /* port included */
    socklen_t               len;         /* of sa; 0: not given */
    uint16_t                port;        /* host byte order */
};

struct config_host {                     /* a host name, or a literal */
    const char             *name;        /* as written, without the port; NULL: not given */
    struct config_address   address;     /* len > 0 when the name is a literal; port always */
};

struct config_network {                  /* who may connect: address or address/prefix */
    struct config_address   address;     /* port 0 */
    unsigned                prefix;      /* bits that count; 32 or 128 for one address */
    unsigned                line;
};

struct config_certificate {              /* files; loading them is the business of TLS */
    const char             *chain;       /* PEM, own certificate first */
    const char             *key;         /* PEM */
    unsigned                line;        /* 0: no certificate given */
};

struct config_trust {
    const char             *ca;          /* PEM, trusted authorities */
    const char             *crl;         /* PEM, revoked certificates; may be NULL */
    unsigned                line;        /* 0: no trust given */
};

struct config_pins {                     /* keys of a partner */
    unsigned char         (*list)[TLS_HASH_LEN];  /* SHA-256 of each SubjectPublicKeyInfo */
    size_t                  count;
};

struct config_name {                     /* a name in a list */
    struct xe_span          name;        /* lower case */
    const void             *owner;       /* the config_partner or config_inner it belongs to */
    struct map_node         node;        /* in config.partner_map or .inner_map */
    unsigned                line;
};

struct config_domain {                   /* edge: an inner domain */
    struct xe_span            name;      /* lower case */
    struct xe_span            gateway;   /* the only gateway that may serve it; absent: any */
    struct config_certificate certificate; /* line 0: config.certificate is used */
    struct map_node           node;      /* in config.domain_map */
    unsigned                  line;
};

struct config_external {                 /* edge: rows 1 and 2 */
    struct config_address   address;     /* listened on, and source of outgoing connections */
    struct reach_list       networks;    /* opened for every partner */
    unsigned                line;
};

struct config_internal {                 /* edge: row 3 */
    struct config_address     address;
    struct config_certificate certificate; /* the edge's own, towards gateways */
    struct config_trust       trust;     /* authorities of gateway certificates */
    struct config_name       *gateways;  /* names that gateway certificates must carry */
    size_t                    ngateways;
    unsigned                  line;
};

struct config_edge {                     /* gateway: an edge to dial (row 3) */
    struct xe_span          name;        /* what its certificate must carry */
    struct config_host      host;        /* where it is */
    unsigned                line;
};

struct config_listen {                   /* gateway: where the inner server finds the partners */
    struct config_address     address;
    struct config_certificate certificate; /* for STARTTLS; config.certificate if absent */
    unsigned                  line;
};

struct config_inner {                    /* gateway: an inner server */
    struct config_address   address;     /* where it listens for s2s */
    enum policy_level       tls;         /* on the streams with it */
    bool                    bidi;        /* both directions on one connection (XEP-0288) */
    const struct policy_row *row;        /* of tls, sasl not-supported, dialback true */
    struct config_name     *domains;     /* what it serves */
    size_t                  ndomains;
    struct config_network  *sources;     /* who may connect as it; its address if none given */
    size_t                  nsources;    /* >= 1 */
    unsigned                line;
};

struct config_partner {                  /* New-CsXmppAllowedPartner, same names and defaults */
    struct config_name       domain;     /* primary; at == NULL in the default partner */
    struct config_name      *domains;    /* additional ones */
    size_t                   ndomains;
    enum config_partner_type type;
    enum policy_level        tls;
    enum policy_level        sasl;
    bool                     dialback;
    const struct policy_row *row;        /* of the three settings above; never invalid */
    size_t                   connection_limit;
    bool                     keepalive;  /* the partner is expected to send keep-alives */
    bool                     bidi;       /* both directions on one connection (XEP-0288) */
    struct config_trust      trust;      /* in place of config.trust; line 0: none of its own */
    struct config_pins       pins;       /* of its certificate */
    struct config_host       proxy;      /* static route instead of DNS; name NULL: none */
    bool                     proxy_direct_tls; /* the proxy wants TLS from the first byte */
    struct reach_list        networks;   /* opened for it alone */
    const char              *description;
    unsigned                 line;
};

struct config_partners {
    bool                    allow;       /* domains not listed get the default partner's settings */
    struct config_partner   fallback;    /* the default partner */
    struct config_partner  *list;
    size_t                  count;
    unsigned                line;
};

struct config_tls {
    enum config_tls_version minimum;
    enum tls_prefer         prefer;      /* without `ciphersuites` */
    const char             *ciphersuites; /* mbedTLS names, ':' between; NULL: all good */
    bool                    keylog;      /* session keys may be written */
    const char             *keylog_file; /* NULL: the file that SSLKEYLOGFILE names */
    unsigned                line;
};

/* Every limit of the running service.  Sizes and counts are size_t, times milliseconds. */
struct config_limits {
    size_t  connections;           /* s2s connections in all */
    size_t  partner_connections;   /* with one partner, unless it says otherwise */
    size_t  source_connections;    /* accepted from one source address */
    size_t  source_rate;           /* new connections of one source address per second */
    size_t  source_burst;          /* bucket size of source_rate */
    size_t  handshake_threads;     /* beside the loop; 0: none */
    size_t  handshakes;            /* that wait to be computed */
    size_t  source_cpu;            /* ms of processor time a second for one source network */
    size_t  source_cpu_burst;      /* and ms at once */
    struct cert_limits certificates; /* what is computed with */
    size_t  preauth_bytes;         /* received before authentication */
    size_t  preauth_elements;      /* first-level elements before authentication */
    int64_t preauth_ms;            /* time to establish a stream */
    size_t  stanza_bytes;          /* of one stanza */
    size_t  elements;              /* of one stanza */
    size_t  past_bytes;            /* of one that is read past */
    int64_t past_ms;
    size_t  attributes;            /* of one tag */
    size_t  depth;                 /* open elements within a stanza */
    size_t  header_bytes;          /* of a stream header */
    size_t  pairs;                 /* authorised domain pairs on one stream */
    size_t  source_pairs;          /* of one source network, unlisted */
    size_t  total_pairs;           /* remembered, of all streams and trunks */
    size_t  dialbacks;             /* dialback questions under way */
    size_t  partner_dialbacks;     /* and with one domain */
    size_t  source_dialbacks;      /* and for one source network */
    size_t  waiting_dialbacks;     /* those for which there is no room yet */
    int64_t dialback_wait_ms;      /* and how long they wait */
    int64_t connect_ms;            /* TCP connect, per address */
    int64_t race_ms;               /* head start of one address before the next is tried */
    int64_t attempt_ms;            /* whole attempt to reach a partner */
    int64_t dialback_ms;           /* answer to a dialback request */
    int64_t inactivity_ms;         /* stream without anything received is closed */
    int64_t keepalive_ms;          /* whitespace is sent when nothing else was for this long */
    int64_t write_ms;              /* peer that does not read */
    int64_t ack_ms;                /* peer that reads and does not acknowledge */
    int64_t close_ms;              /* wait for the peer's closing tag */
    int64_t partner_retry_first_ms; /* pause after a failed attempt to reach a server, first */
    int64_t partner_retry_max_ms;  /* and largest */
    size_t  queue_bytes;           /* waiting for one pair */
    size_t  queue_stanzas;
    size_t  pair_bounces;          /* a second, before its sources wait */
    int64_t hold_ms;               /* wait for a trunk, or a server, before stanzas are returned */
    size_t  memory_bytes;          /* of all queues */
    int64_t drain_ms;              /* orderly end on SIGTERM */
    size_t  trunk_window;          /* stanzas sent on a trunk and not acknowledged */
    size_t  trunk_window_bytes;
    int64_t trunk_ping_ms;         /* idle trunk is asked for an acknowledgement */
    int64_t trunk_answer_ms;       /* and must answer within */
    int64_t trunk_retry_first_ms;  /* back-off of a gateway's dialling, first */
    int64_t trunk_retry_max_ms;    /* and largest */
    int64_t dns_ms;                /* one question to one name server */
    size_t  dns_tries;             /* per name server */
    unsigned line;
};

struct config_echo {
    struct xe_span            domain;    /* this node answers for it itself; absent: none */
    struct config_certificate certificate; /* edge; line 0: config.certificate is used */
    unsigned                  line;
};

struct config_log {
    enum log_level          level;
    bool                    json;
    const char             *file;        /* NULL: standard error */
};

struct config_resolver {
    struct config_address   address;
    unsigned                line;
};

/* Pieces of memory that end together. */
struct config_blocks {
    struct config_block *last;    /* owned */
    bool                 failed;  /* there is one less than there should be */
};

/* One configuration.  Made by config_load(), immutable, freed by config_free(). */
struct config {
    enum config_role          role;
    struct xe_span            name;      /* of this node */
    const char               *path;      /* of the file, as given */
    const char               *here;      /* where that path starts, '/' at its end; NULL: at / */

    /* edge */
    struct config_external    external;
    struct config_internal    internal;
    struct config_domain     *domains;   /* the inner domains */
    size_t                    ndomains;
    struct config_partners    partners;

    /* gateway */
    struct config_edge       *edges;
    size_t                    nedges;
    struct config_listen      listen;
    struct config_inner      *inner;
    size_t                    ninner;

    /* both; what differs is said */
    struct config_certificate certificate; /* edge: of domains without one; gateway: its own */
    struct config_trust       trust;     /* edge: of partners; gateway: of edges */
    struct config_echo        echo;
    struct config_resolver   *resolvers; /* none: those of the system */
    size_t                    nresolvers;
    struct config_tls         tls;
    struct config_limits      limits;
    struct config_log         log;
    const char               *secret_file;
    struct xe_span            secret;    /* dialback; absent on a gateway: draw one at start */
    unsigned                  secret_line; /* of <dialback> */
    const char               *control;   /* path of the control socket */
    unsigned                  control_line; /* of <control> */
    const char               *user;      /* to run as; NULL: stay */
    unsigned                  run_line;  /* of <run> */
    unsigned                  line;      /* of the root element */

    /* private */
    struct map                partner_map; /* every partner domain -> config_name */
    struct map                domain_map;  /* edge: every inner domain -> config_domain */
    struct map                inner_map;   /* gateway: every inner domain -> config_name */
    struct config_blocks      blocks;    /* all memory of this configuration */
    struct buf                warnings;  /* owned: what config_load() warned about */
};

/* ---- the table ---- */

#define CONFIG_NOWHERE       SIZE_MAX            /* offset: not stored */

enum config_kind {
    CONFIG_ELEMENT,     /* begins an element; the rows up to the next one are its attributes */
    CONFIG_TEXT,        /* const char * */
    CONFIG_DOMAIN,      /* struct xe_span, lower case */
    CONFIG_ADDRESS,     /* struct config_address, all but the port */
    CONFIG_NETWORK,     /* struct config_network */
    CONFIG_PINS,        /* struct config_pins; spaces between */
    CONFIG_NETWORKS,    /* struct reach_list; spaces between */
    CONFIG_HOST,        /* struct config_host, all but the port */
    CONFIG_HOST_PORT,   /* struct config_host */
    CONFIG_PORT,        /* uint16_t */
    CONFIG_COUNT,       /* size_t */
    CONFIG_BYTES,       /* size_t */
    CONFIG_TIME,        /* int64_t, milliseconds */
    CONFIG_BOOL,        /* bool; words[0] is false */
    CONFIG_WORD,        /* an enum; its values are the places in words[] */
    CONFIG_FILE,        /* const char *, absolute; must be there and readable */
    CONFIG_PATH         /* const char *, absolute */
};

/* Enums are stored through the table as unsigned. */
typedef char config_enums_are_unsigned[
    sizeof(enum policy_level) == sizeof(unsigned) && sizeof(enum config_role) == sizeof(unsigned)
    && sizeof(enum log_level) == sizeof(unsigned) ? 1 : -1];

struct config_row {
    enum config_kind   kind;
    unsigned           roles;     /* bit per role */
    const char        *name;      /* element: path below the root; attribute: its name */
    size_t             at;        /* offset in the element's object; element: in the parent's */
    size_t             count_at;  /* list: offset of the number of items in the parent's object */
    size_t             size;      /* list: bytes of one item; 0: not a list */
    size_t             line_at;   /* element: offset of its line in its own object */
    int64_t            min, max;  /* attribute: of the value; element: how often */
    bool               must;      /* attribute: there is no default */
    const char        *def;       /* attribute: default as written; NULL: stays absent */
    const char *const *words;     /* CONFIG_BOOL, CONFIG_WORD; NULL at the end */
    const char        *example;   /* of an attribute; element: "off": commented out */
    const char        *doc;       /* one sentence */
};

static const char *const config_false_true[] = { "false", "true", NULL };
static const char *const config_deny_allow[] = { "deny", "allow", NULL };
static const char *const config_text_json[] = { "text", "json", NULL };
static const char *const config_roles[] = { "edge", "gateway", NULL };
static const char *const config_tls_versions[] = { "1.2", "1.3", NULL };
static const char *const config_tls_prefer[] = { "fastest", "aes", "chacha20", NULL };
static const char *const config_partner_types[] =
    { "federated", "public-verified", "public-unverified", NULL };

#define E (1u << CONFIG_EDGE)
#define G (1u << CONFIG_GATEWAY)

/* An element that may be there once: roles, path, 1 if it must be there, offset, line, ... */
#define ONE(roles, path, least, at, line_at, example, doc) \
    { CONFIG_ELEMENT, roles, path, at, 0, 0, line_at, least, 1, false, NULL, NULL, example, doc }
/* An element that makes an item of a list. */
#define MANY(roles, path, least, parent, items, count, item, example, doc) \
    UPTO(CONFIG_LIST_MAX, roles, path, least, parent, items, count, item, example, doc)
#define UPTO(most, roles, path, least, parent, items, count, item, example, doc) \
    { CONFIG_ELEMENT, roles, path, offsetof(struct parent, items), offsetof(struct parent, count), \
      sizeof(struct item), offsetof(struct item, line), least, most, false, NULL, NULL, example, \
      doc }
/* Attributes: that must be given, that have a default, that may be absent, that are words. */
#define MUST(roles, kind, name, of, field, example, doc) \
    { kind, roles, name, offsetof(struct of, field), 0, 0, 0, 1, 65535, true, NULL, NULL, example, \
      doc }
#define MAY(roles, kind, name, of, field, example, doc) \
    { kind, roles, name, offsetof(struct of, field), 0, 0, 0, 1, 65535, false, NULL, NULL, \
      example, doc }
#define NUM(kind, name, of, field, def, min, max, doc) \
    { kind, E | G, name, offsetof(struct of, field), 0, 0, 0, min, max, false, def, NULL, NULL, \
      doc }
#define WORD(kind, name, of, field, def, words, example, doc) \
    { kind, E | G, name, offsetof(struct of, field), 0, 0, 0, 0, 0, (def) == NULL, def, words, \
      example, doc }
#define PORT(def, of, field, doc) NUM(CONFIG_PORT, "port", of, field, def, 1, 65535, doc)

#define CERTIFICATE(example, example_key) \
    MUST(E | G, CONFIG_FILE, "chain", config_certificate, chain, example, \
        "PEM file: the certificate, then the intermediate ones."), \
    MUST(E | G, CONFIG_FILE, "key", config_certificate, key, example_key, \
        "PEM file with the private key, readable by nobody else.")
#define TRUST(example) \
    MUST(E | G, CONFIG_FILE, "ca", config_trust, ca, example, \
        "PEM file with the authorities that are trusted."), \
    MAY(E | G, CONFIG_FILE, "crl", config_trust, crl, NULL, \
        "PEM file with lists of revoked certificates.")
/* New-CsXmppAllowedPartner: same names, same defaults. */
#define PARTNER(example_type) \
    WORD(CONFIG_WORD, "type", config_partner, type, "public-unverified", config_partner_types, \
        example_type, "How far the users of this partner are trusted."), \
    WORD(CONFIG_WORD, "tls", config_partner, tls, "required", policy_levels, NULL, \
        "Whether streams with this partner are encrypted."), \
    WORD(CONFIG_WORD, "sasl", config_partner, sasl, "required", policy_levels, "optional", \
        "Whether this partner proves its domain with a certificate (SASL EXTERNAL)."), \
    WORD(CONFIG_BOOL, "dialback", config_partner, dialback, "true", config_false_true, NULL, \
        "Whether this partner may prove its domain by server dialback."), \
    { CONFIG_COUNT, E | G, "connection-limit", offsetof(struct config_partner, connection_limit), \
        0, 0, 0, 1, 1000000, false, NULL, NULL, NULL, \
        "Most connections with it at a time; partner-connections of limits if absent." }, \
    WORD(CONFIG_BOOL, "keepalive", config_partner, keepalive, "true", config_false_true, NULL, \
        "Whether this partner is expected to send keep-alives."), \
    WORD(CONFIG_BOOL, "bidi", config_partner, bidi, "false", config_false_true, NULL, \
        "Whether one connection may carry both directions (XEP-0288)."), \
    MAY(E | G, CONFIG_HOST_PORT, "proxy", config_partner, proxy, NULL, \
        "Static route, host or host:port, that takes the place of DNS."), \
    WORD(CONFIG_BOOL, "proxy-direct-tls", config_partner, proxy_direct_tls, "false", \
        config_false_true, NULL, "Whether the proxy expects TLS from the first byte, not STARTTLS.")

#define SECOND INT64_C(1000)
#define HOUR   (3600 * SECOND)
#define LIMIT_COUNT(name, field, def, min, max, doc) \
    NUM(CONFIG_COUNT, name, config_limits, field, def, min, max, doc)
#define LIMIT_BYTES(name, field, def, min, max, doc) \
    NUM(CONFIG_BYTES, name, config_limits, field, def, min, max, doc)
#define LIMIT_TIME(name, field, def, min, max, doc) \
    NUM(CONFIG_TIME, name, config_limits, field, def, min, max, doc)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const struct config_row config_rows[] = {
    ONE(E | G, "", 1, 0, offsetof(struct config, line), NULL,
        "The whole configuration of one node."),
    { CONFIG_WORD, E, "role", offsetof(struct config, role), 0, 0, 0, 0, 0, true, NULL,
        config_roles, "edge",
        "What this node is: edge stands at the border, gateway beside the inner server." },
    { CONFIG_WORD, G, "role", offsetof(struct config, role), 0, 0, 0, 0, 0, true, NULL,
        config_roles, "gateway",
        "What this node is: edge stands at the border, gateway beside the inner server." },
    MUST(E, CONFIG_DOMAIN, "name", config, name, "edge01.corp.example",
        "Name of this node; its certificate towards the gateways must carry it."),
    MUST(G, CONFIG_DOMAIN, "name", config, name, "fe01.corp.example",
        "Name of this node; its certificate towards the edges must carry it."),

    /* edge: the two addresses and what stands behind them */
    ONE(E, "external", 1, offsetof(struct config, external), offsetof(struct config_external, line),
        NULL, "Rows 1 and 2 of the port table: where partners connect to, and the source address "
        "of every connection to a partner."),
    MUST(E, CONFIG_ADDRESS, "address", config_external, address, "203.0.113.10",
        "Address of the external interface."),
    PORT("5269", config_external, address.port, "Port for server-to-server streams."),
    MAY(E, CONFIG_NETWORKS, "networks", config_external, networks, NULL,
        "Networks of the inside to which DNS may lead as well; none if absent."),
    ONE(E, "internal", 0, offsetof(struct config, internal), offsetof(struct config_internal, line),
        NULL, "Row 3 of the port table: where gateways connect to. The edge itself never opens a "
        "connection to the inside."),
    MUST(E, CONFIG_ADDRESS, "address", config_internal, address, "10.0.0.5",
        "Address of the internal interface."),
    PORT("23456", config_internal, address.port, "Port for the gateways."),
    ONE(E, "internal/certificate", 1, offsetof(struct config_internal, certificate),
        offsetof(struct config_certificate, line), NULL,
        "The certificate of this edge towards the gateways, from the internal authority."),
    CERTIFICATE("edge01.corp.example.pem", "edge01.corp.example.key"),
    ONE(E, "internal/trust", 1, offsetof(struct config_internal, trust),
        offsetof(struct config_trust, line), NULL, "Who may vouch for a gateway."),
    TRUST("internal-ca.pem"),
    MANY(E, "internal/gateway", 1, config_internal, gateways, ngateways, config_name, NULL,
        "A gateway that may connect; one element each."),
    MUST(E, CONFIG_DOMAIN, "name", config_name, name, "fe01.corp.example",
        "The name that its certificate must carry."),
    MANY(E, "domain", 0, config, domains, ndomains, config_domain, NULL,
        "An inner domain that is represented to the partners; one element each. Subdomains are not "
        "implied."),
    MUST(E, CONFIG_DOMAIN, "name", config_domain, name, "corp.example", "The domain."),
    MAY(E, CONFIG_DOMAIN, "gateway", config_domain, gateway, NULL,
        "The only gateway that may serve it; any of them if absent."),
    ONE(E, "domain/certificate", 0, offsetof(struct config_domain, certificate),
        offsetof(struct config_certificate, line), NULL,
        "The certificate shown to partners for this domain; the common one if absent."),
    CERTIFICATE("corp.example.pem", "corp.example.key"),
    ONE(E, "certificate", 0, offsetof(struct config, certificate),
        offsetof(struct config_certificate, line), "off",
        "The common certificate, for inner domains that have none of their own."),
    CERTIFICATE("common.pem", "common.key"),
    ONE(E, "trust", 0, offsetof(struct config, trust), offsetof(struct config_trust, line), NULL,
        "Who may vouch for a partner."),
    TRUST("/etc/ssl/certs/ca-certificates.crt"),
    ONE(E, "dialback", 1, 0, offsetof(struct config, secret_line), NULL,
        "What dialback keys are made of; the same for all edges of the same domains."),
    MUST(E, CONFIG_FILE, "secret-file", config, secret_file, "dialback.secret",
        "File with 16 bytes or more, readable by nobody else; a line end at its end does not "
        "count."),
    ONE(E, "partners", 0, offsetof(struct config, partners), offsetof(struct config_partners, line),
        NULL, "With whom this organisation federates."),
    WORD(CONFIG_BOOL, "default", config_partners, allow, "deny", config_deny_allow, NULL,
        "Whether domains that are not listed are allowed, with the settings of default below."),
    ONE(E, "partners/default", 0, offsetof(struct config_partners, fallback),
        offsetof(struct config_partner, line), "off",
        "The settings of domains that are not listed, where those are allowed."),
    PARTNER(NULL),
    ONE(E, "partners/default/trust", 0, offsetof(struct config_partner, trust),
        offsetof(struct config_trust, line), NULL,
        "Who may vouch for domains that are not listed, in place of the common trust."),
    TRUST("/etc/ssl/certs/ca-certificates.crt"),
    MANY(E, "partners/partner", 0, config_partners, list, count, config_partner, NULL,
        "One allowed partner; one element each. With the word required for both tls and sasl, "
        "which is the default, dialback cannot be used."),
    MUST(E, CONFIG_DOMAIN, "domain", config_partner, domain.name, "fabrikam.example",
        "Its main domain."),
    PARTNER("federated"),
    MAY(E, CONFIG_NETWORKS, "networks", config_partner, networks, NULL,
        "The same for this partner alone, beside those of external."),
    MAY(E, CONFIG_PINS, "pin", config_partner, pins, NULL,
        "Its keys: SHA-256 of the SubjectPublicKeyInfo of its own certificate, of the next one "
        "too if it will change. No other is accepted, and one of these needs no authority: the "
        "certificate may be self-signed, but must name the domain and be in date. Beside a trust "
        "of the partner's own, the certificate needs both."),
    MAY(E, CONFIG_TEXT, "description", config_partner, description, "Fabrikam, contract 4711",
        "Free text."),
    ONE(E, "partners/partner/trust", 0, offsetof(struct config_partner, trust),
        offsetof(struct config_trust, line), "off",
        "Who may vouch for the domains of this partner, and for those of no other; the common "
        "trust may not. Whoever signs for one partner alone, as a private authority does, belongs "
        "here."),
    TRUST("fabrikam-ca.pem"),
    MANY(E, "partners/partner/domain", 0, config_partner, domains, ndomains, config_name, NULL,
        "A further domain of the same partner; subdomains are not implied."),
    MUST(E, CONFIG_DOMAIN, "name", config_name, name, "it.fabrikam.example", "The domain."),

    /* gateway: outwards the edges, inwards the servers */
    MANY(G, "edge", 1, config, edges, nedges, config_edge, NULL,
        "An edge that this gateway keeps a connection to; one element each. This is row 3 of the "
        "port table."),
    MUST(G, CONFIG_DOMAIN, "name", config_edge, name, "edge01.corp.example",
        "The name that its certificate must carry."),
    MUST(G, CONFIG_HOST, "address", config_edge, host, "10.0.0.5",
        "Address or host name of its internal interface."),
    PORT("23456", config_edge, host.address.port, "Its port for gateways."),
    ONE(G, "certificate", 1, offsetof(struct config, certificate),
        offsetof(struct config_certificate, line), NULL,
        "The certificate of this gateway towards the edges, from the internal authority."),
    CERTIFICATE("fe01.corp.example.pem", "fe01.corp.example.key"),
    ONE(G, "trust", 1, offsetof(struct config, trust), offsetof(struct config_trust, line), NULL,
        "Who may vouch for an edge."),
    TRUST("internal-ca.pem"),
    ONE(G, "listen", 1, offsetof(struct config, listen), offsetof(struct config_listen, line), NULL,
        "Where the inner servers find the partners."),
    MUST(G, CONFIG_ADDRESS, "address", config_listen, address, "127.0.0.1",
        "Address to listen on."),
    PORT("5269", config_listen, address.port, "Port to listen on."),
    ONE(G, "listen/certificate", 0, offsetof(struct config_listen, certificate),
        offsetof(struct config_certificate, line), "off",
        "The certificate shown to inner servers; that of the gateway if absent."),
    CERTIFICATE("partners.pem", "partners.key"),
    MANY(G, "inner", 0, config, inner, ninner, config_inner, NULL,
        "An inner server; one element each."),
    MUST(G, CONFIG_ADDRESS, "address", config_inner, address, "127.0.0.1",
        "Where it listens for server-to-server streams."),
    { CONFIG_PORT, G, "port", offsetof(struct config_inner, address.port), 0, 0, 0, 1, 65535, false,
        "5269", NULL, "5270", "And on which port." },
    WORD(CONFIG_WORD, "tls", config_inner, tls, "optional", policy_levels, NULL,
        "Whether streams with it are encrypted; it proves its domains by dialback either way."),
    WORD(CONFIG_BOOL, "bidi", config_inner, bidi, "false", config_false_true, NULL,
        "Whether one connection may carry both directions (XEP-0288); needs TLS."),
    UPTO(TRUNK_DOMAINS_MAX, G, "inner/domain", 1, config_inner, domains, ndomains, config_name,
        NULL, "A domain that it serves; one element each."),
    MUST(G, CONFIG_DOMAIN, "name", config_name, name, "corp.example", "The domain."),
    MANY(G, "inner/source", 0, config_inner, sources, nsources, config_network, "off",
        "An address from which it connects; its own address if there is none."),
    MUST(G, CONFIG_NETWORK, "address", config_network, address, "127.0.0.0/8",
        "An address, or a network with its prefix length."),
    ONE(G, "dialback", 0, 0, offsetof(struct config, secret_line), "off",
        "What dialback keys towards the inner servers are made of; drawn at every start if absent. "
        "Gateways that serve the same inner server must share one."),
    MUST(G, CONFIG_FILE, "secret-file", config, secret_file, "dialback.secret",
        "File with 16 bytes or more, readable by nobody else; a line end at its end does not "
        "count."),

    /* both */
    ONE(E | G, "echo", 0, offsetof(struct config, echo), offsetof(struct config_echo, line), "off",
        "A domain that this node answers for by itself: ping, service discovery, and every message "
        "sent back. It tests a path without an inner server."),
    MUST(E | G, CONFIG_DOMAIN, "domain", config_echo, domain, "echo.corp.example", "The domain."),
    ONE(E, "echo/certificate", 0, offsetof(struct config_echo, certificate),
        offsetof(struct config_certificate, line), NULL,
        "The certificate shown to partners for it; the common one if absent."),
    CERTIFICATE("echo.pem", "echo.key"),
    UPTO(DNS_SERVERS_MAX, E | G, "resolver", 0, config, resolvers, nresolvers, config_resolver,
        "off",
        "A name server to ask; one element each. Those of the system are asked if there is none."),
    MUST(E | G, CONFIG_ADDRESS, "address", config_resolver, address, "10.0.0.53", "Its address."),
    PORT("53", config_resolver, address.port, "Its port."),
    ONE(E | G, "tls", 0, offsetof(struct config, tls), offsetof(struct config_tls, line), NULL,
        "TLS in all directions."),
    WORD(CONFIG_WORD, "minimum", config_tls, minimum, "1.2", config_tls_versions, NULL,
        "Oldest version that is accepted."),
    WORD(CONFIG_WORD, "prefer", config_tls, prefer, "fastest", config_tls_prefer, NULL,
        "AES-GCM or ChaCha20-Poly1305 first: what this machine does faster, or always the same."),
    MAY(E | G, CONFIG_TEXT, "ciphersuites", config_tls, ciphersuites, NULL,
        "Names as mbedTLS spells them, with colons between, best first; all good ones if absent."),
    WORD(CONFIG_BOOL, "keylog", config_tls, keylog, "false", config_false_true, NULL,
        "Whether session keys may be written to a file, so that captures can be decrypted."),
    MAY(E | G, CONFIG_PATH, "keylog-file", config_tls, keylog_file, NULL,
        "That file; the one that SSLKEYLOGFILE names if absent."),
    ONE(E | G, "log", 0, offsetof(struct config, log), CONFIG_NOWHERE, NULL,
        "What is written down."),
    WORD(CONFIG_WORD, "level", config_log, level, "info", log_levels, NULL,
        "The least important lines that are written."),
    WORD(CONFIG_BOOL, "format", config_log, json, "text", config_text_json, NULL,
        "One line of key=value, or one JSON object a line."),
    MAY(E | G, CONFIG_PATH, "file", config_log, file, NULL, "Where to; standard error if absent."),
    ONE(E | G, "control", 0, 0, offsetof(struct config, control_line), "off",
        "How status and ping reach this node."),
    MAY(E | G, CONFIG_PATH, "socket", config, control, "/run/xmppedge/control.sock",
        "Path of the socket, in a directory that is there; /run/xmppedge/NAME.sock if absent."),
    ONE(E | G, "run", 0, 0, offsetof(struct config, run_line), "off", "How the service runs."),
    MAY(E | G, CONFIG_TEXT, "user", config, user, "xmppedge",
        "User to become once ports are open and files are read; it stays who it is if absent."),

    ONE(E | G, "limits", 0, offsetof(struct config, limits), offsetof(struct config_limits, line),
        NULL, "Every limit and time-out."),
    LIMIT_COUNT("connections", connections, "1000", 1, 1000000,
        "Connections but for dialback questions: an eighth for dialling, half for partners."),
    LIMIT_COUNT("partner-connections", partner_connections, "20", 1, 1000000,
        "Connections with one partner, dialled or authenticated."),
    LIMIT_COUNT("source-connections", source_connections, "300", 1, 1000000,
        "Connections from one source address that have proven nothing yet."),
    LIMIT_COUNT("source-rate", source_rate, "50", 1, 1000000,
        "New connections from one source address per second."),
    LIMIT_COUNT("source-burst", source_burst, "600", 1, 1000000,
        "And at once: two for each of 250 domains that come back together."),
    LIMIT_COUNT("handshake-threads", handshake_threads, "2", 0, TLS_LANES_MAX,
        "Threads that compute TLS handshakes; with 0 the one that moves stanzas does."),
    LIMIT_COUNT("handshakes", handshakes, "500", 1, 100000,
        "TLS handshakes that wait to be computed; of more the least urgent ends."),
    LIMIT_COUNT("source-cpu", source_cpu, "200", 1, 1000,
        "Milliseconds of processor time a second that the TLS handshakes of one source may take."),
    LIMIT_COUNT("source-cpu-burst", source_cpu_burst, "2000", 100, 1000000,
        "And milliseconds at once; who has used them up waits."),
    LIMIT_COUNT("rsa-bits-min", certificates.rsa_min, "2048", 2048, 8192,
        "Bits of a peer's RSA key; with fewer its certificate proves nothing."),
    LIMIT_COUNT("rsa-bits-max", certificates.rsa_max, "4096", 2048, 8192,
        "And most bits; with more the handshake ends before anything is computed."),
    LIMIT_COUNT("rsa-exponent-bits", certificates.exponent_max, "32", 17, 8192,
        "Bits of the public exponent of an RSA key."),
    LIMIT_COUNT("curve-bits", certificates.curve_max, "521", 256, 521,
        "Bits of the curve of a key: P-256, P-384 or P-521; there are no others."),
    LIMIT_COUNT("chain-certificates", certificates.count_max, "5", 1, CERT_PATH_MAX,
        "Certificates that a peer sends."),
    LIMIT_BYTES("chain-bytes", certificates.bytes_max, "16K", KIB, 16 * KIB,
        "And their bytes."),
    LIMIT_BYTES("preauth-bytes", preauth_bytes, "128K", 4 * KIB, 16 * MIB,
        "Bytes before a stream is authenticated."),
    LIMIT_COUNT("preauth-elements", preauth_elements, "600", 5, 10000,
        "Elements before a stream is authenticated: two for each of 250 domains that share it."),
    LIMIT_TIME("preauth-time", preauth_ms, "60s", SECOND, HOUR, "Time to establish a stream."),
    LIMIT_BYTES("stanza-bytes", stanza_bytes, "512K", 10000, 16 * MIB,
        "Size of one stanza; never below 10000 (RFC 6120 13.12).  A larger one is returned."),
    LIMIT_COUNT("stanza-attributes", attributes, "1000", 16, XE_XML_ATTRS_MAX,
        "Attributes of one tag; a stanza with more is returned."),
    LIMIT_COUNT("stanza-depth", depth, "1000", 8, XE_XML_DEPTH_MAX,
        "Open elements within a stanza; a deeper one is returned (4000 crash ejabberd 23.01)."),
    LIMIT_COUNT("stanza-elements", elements, "25000", 1000, 10000000,
        "Elements of a stanza; one with more is returned (Prosody ends a stream for it)."),
    LIMIT_BYTES("past-bytes", past_bytes, "64M", 20000, GIB,
        "Bytes of a stanza that is returned; one that goes on behind them ends its stream."),
    LIMIT_TIME("past-time", past_ms, "60s", SECOND, HOUR,
        "And the time that it may take from when it is returned to its end."),
    LIMIT_BYTES("header-bytes", header_bytes, "8K", KIB, MIB, "Size of a stream header."),
    LIMIT_COUNT("pairs", pairs, "1000", 1, 100000, "Domain pairs authorised on one stream."),
    LIMIT_COUNT("total-pairs", total_pairs, "20000", 1, 100000,
        "Domain pairs in all, a quarter for partners with an entry; idle ones are forgotten."),
    LIMIT_COUNT("source-pairs", source_pairs, "500", 1, 100000,
        "Domain pairs proven from one source network, of domains without an entry."),
    LIMIT_COUNT("dialbacks", dialbacks, "200", 1, 100000,
        "Connections on which servers are asked about dialback keys, up to 20 each; in all."),
    LIMIT_COUNT("partner-dialbacks", partner_dialbacks, "20", 1, 100000,
        "And on which one partner is asked."),
    LIMIT_COUNT("source-dialbacks", source_dialbacks, "50", 1, 100000,
        "And on which others are asked for one source network."),
    LIMIT_COUNT("waiting-dialbacks", waiting_dialbacks, "1000", 1, 10000,
        "Dialback keys that wait until there is room among these."),
    LIMIT_TIME("dialback-wait", dialback_wait_ms, "20s", SECOND, HOUR,
        "Time for which a dialback key waits for that."),
    LIMIT_TIME("connect-time", connect_ms, "10s", SECOND / 10, HOUR,
        "Time to connect to one address."),
    LIMIT_TIME("race-delay", race_ms, "250ms", SECOND / 100, 10 * SECOND,
        "Head start of one address before the next is tried as well."),
    LIMIT_TIME("attempt-time", attempt_ms, "30s", SECOND, HOUR,
        "Time for a whole attempt to reach a server."),
    LIMIT_TIME("dialback-time", dialback_ms, "30s", SECOND, HOUR,
        "Time to answer a dialback request."),
    LIMIT_TIME("inactivity-time", inactivity_ms, "600s", SECOND, 24 * HOUR,
        "A stream from which nothing came for so long is closed."),
    LIMIT_TIME("keepalive-interval", keepalive_ms, "300s", SECOND, 24 * HOUR,
        "Whitespace is sent on a stream when nothing else was for so long."),
    LIMIT_TIME("write-time", write_ms, "60s", SECOND, HOUR, "A peer that reads nothing is closed."),
    LIMIT_TIME("ack-time", ack_ms, "300s", SECOND, HOUR,
        "A peer that reads and acknowledges nothing (XEP-0198) is closed."),
    LIMIT_TIME("close-time", close_ms, "5s", SECOND / 10, HOUR,
        "Time to wait for the closing tag of the other side."),
    LIMIT_TIME("partner-retry-first", partner_retry_first_ms, "1s", SECOND / 10, HOUR,
        "Pause after a failed attempt to reach a server; after hold-time a partner's doubles."),
    LIMIT_TIME("partner-retry-max", partner_retry_max_ms, "60s", SECOND / 10, HOUR,
        "Longest pause between attempts to reach a partner."),
    LIMIT_BYTES("queue-bytes", queue_bytes, "1M", 10000, GIB, "Bytes that wait for one pair."),
    LIMIT_COUNT("queue-stanzas", queue_stanzas, "1000", 2, 1000000,
        "Stanzas that wait for one pair."),
    LIMIT_COUNT("pair-bounces", pair_bounces, "200", 1, 1000000,
        "Stanzas of one pair returned in a second; then its senders wait until it is over."),
    LIMIT_TIME("hold-time", hold_ms, "10s", SECOND / 10, HOUR,
        "How long stanzas wait for the other node, or a server that was there, to return."),
    LIMIT_BYTES("memory", memory_bytes, "64M", MIB, 64 * GIB, "Bytes of all queues."),
    LIMIT_TIME("drain-time", drain_ms, "5s", SECOND / 10, HOUR, "Time for an orderly end."),
    LIMIT_COUNT("trunk-window", trunk_window, "1000", 1, 1000000,
        "Stanzas sent on a trunk and not yet acknowledged."),
    LIMIT_BYTES("trunk-window-bytes", trunk_window_bytes, "4M", 10000, GIB, "And their bytes."),
    LIMIT_TIME("trunk-ping", trunk_ping_ms, "30s", SECOND / 10, HOUR,
        "An idle trunk is asked for a sign of life after so long."),
    LIMIT_TIME("trunk-answer", trunk_answer_ms, "15s", SECOND / 10, HOUR,
        "And is closed when it gives none within."),
    LIMIT_TIME("trunk-retry-first", trunk_retry_first_ms, "1s", SECOND / 10, HOUR,
        "Pause after the first failed attempt to reach an edge; it doubles."),
    LIMIT_TIME("trunk-retry-max", trunk_retry_max_ms, "30s", SECOND / 10, HOUR,
        "Longest pause between attempts to reach an edge."),
    LIMIT_TIME("resolver-time", dns_ms, "3s", SECOND / 10, HOUR,
        "Time for one question to one name server."),
    LIMIT_COUNT("resolver-tries", dns_tries, "3", 1, 10, "Questions to each name server.")
};

#define CONFIG_ROWS (sizeof config_rows / sizeof *config_rows)

/* The setting of <limits> after which a reason is named, as in limit-NAME: whoever reads of it may
 * have to raise that one.  NULL: there is none. */
static const char *
config_limit_of(enum xe_why why)
{
    static const char prefix[] = "limit-";
    const char *word = xe_why(why)->word;
    size_t i;
    if (why == XE_WHY_QUEUE_FULL)
        return "queue-stanzas queue-bytes";
    if (strncmp(word, prefix, sizeof prefix - 1) == 0)
        word += sizeof prefix - 1;
    else if (why != XE_WHY_DIALBACK_WAIT)
        return NULL;
    for (i = 0; i < CONFIG_ROWS; i++)
        if (config_rows[i].kind != CONFIG_ELEMENT && strcmp(config_rows[i].name, word) == 0)
            return config_rows[i].name;
    return NULL;
}

#undef E
#undef G
#undef ONE
#undef MANY
#undef UPTO
#undef MUST
#undef MAY
#undef NUM
#undef WORD
#undef PORT
#undef CERTIFICATE
#undef TRUST
#undef PARTNER
#undef SECOND
#undef HOUR
#undef LIMIT_COUNT
#undef LIMIT_BYTES
#undef LIMIT_TIME
#undef KIB
#undef MIB
#undef GIB

/* ---- memory and messages of one loading ---- */

struct config_block {                /* a piece of memory; the bytes follow */
    struct config_block *next;
    union {                          /* keeps the bytes aligned for anything stored in them */
        long long whole;
        long double real;
        void *pointer;
    } align;
};

struct config_message {
    const char *text;                /* owned by loader.scratch */
    unsigned    line;                /* 0: of the file as a whole */
    unsigned    order;               /* as they came */
    bool        warning;
};

struct config_loader {
    struct config        *c;
    const char           *directory; /* absolute; relative paths start here; owned by scratch */
    struct config_blocks  scratch;   /* memory that ends with the loading */
    struct buf            text;      /* owned: the file */
    const char           *at;        /* in text: where lines were counted last */
    unsigned              line;      /* of `at` */
    struct xe_xml         xml;       /* has read the text up to `from` */
    const char           *from;      /* in text: where what it has not finished begins */
    struct xe_span        root;      /* in text: the root element; at == NULL before it is read */
    struct elem           tree;      /* owned: of the root */
    struct config_message messages[CONFIG_MESSAGES_MAX];
    unsigned              nmessages;
    unsigned              untold;    /* messages that found no place */
    unsigned              errors;
    bool                  alone;     /* nothing but the file is looked at */
};

/* Zeroed memory on a list; NULL when memory is out, which the list remembers. */
static void *
config_alloc(struct config_blocks *list, size_t size)
{
    struct config_block *b = size > SIZE_MAX - sizeof *b ? NULL : calloc(1, sizeof *b + size);
    list->failed = list->failed || b == NULL;
    if (b == NULL)
        return NULL;
    b->next = list->last;
    list->last = b;
    return b + 1;
}

static void
config_release(struct config_blocks *list)
{
    while (list->last != NULL) {
        struct config_block *b = list->last;
        list->last = b->next;
        free(b);
    }
}

/* A copy that ends in NUL; "" when memory is out, which config_load_file() then refuses. */
static const char *
config_copy(struct config_blocks *list, struct xe_span s)
{
    char *copy = config_alloc(list, s.len + 1);
    if (copy == NULL)
        return "";
    if (s.len > 0)
        memcpy(copy, s.at, s.len);
    return copy;
}

/* The same of a text that was put together for it, which is freed. */
static const char *
config_take(struct config_blocks *list, struct buf *text)
{
    const char *copy = config_copy(list, buf_span(text));
    list->failed = list->failed || text->failed;
    buf_free(text);
    return copy;
}

/* Append a message; the files in it are named from the same place as the configuration itself. */
static void
config_put_message(struct buf *out, const struct config *c, const char *text)
{
    size_t len = c->here == NULL ? 0 : strlen(c->here), i;
    for (i = 0; text[i] != '\0'; i++) {
        if (len > 0 && (i == 0 || text[i - 1] == ' ') && strncmp(text + i, c->here, len) == 0)
            i += len;
        if (text[i] == '\0')
            return;
        buf_putc(out, text[i]);
    }
}

/* Where a message goes; NULL when there is no place.  An error takes that of a warning. */
static struct config_message *
config_message_slot(struct config_loader *l, bool warning)
{
    unsigned i = l->nmessages;
    if (i < CONFIG_MESSAGES_MAX)
        return &l->messages[l->nmessages++];
    l->untold++;
    for (; !warning && i > 0; i--)
        if (l->messages[i - 1].warning)
            return &l->messages[i - 1];
    return NULL;
}

/* Keep a message made of pieces; control characters become '?', so that a line stays a line. */
static void
config_note(struct config_loader *l, unsigned line, bool warning, const char *const *pieces)
{
    struct config_message *m = config_message_slot(l, warning);
    struct buf text = { 0 };
    size_t i;
    l->errors += warning ? 0 : 1;
    if (m == NULL)
        return;
    for (; *pieces != NULL; pieces++)
        config_put_message(&text, l->c, *pieces);
    for (i = text.head; i < text.tail; i++)
        if ((unsigned char)text.bytes[i] < 0x20)
            text.bytes[i] = '?';
    *m = (struct config_message){ config_take(&l->scratch, &text), line,
        l->nmessages + l->untold, warning };
}

#define config_error(l, line, ...) \
    config_note((l), (line), false, (const char *const[]){ __VA_ARGS__, NULL })
#define config_warn(l, line, ...) \
    config_note((l), (line), true, (const char *const[]){ __VA_ARGS__, NULL })

/* A number as text that lives as long as the loading. */
static const char *
config_number(struct config_loader *l, uint64_t n)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    return config_copy(&l->scratch, span_of(digits));
}

static int
config_message_order(const void *a, const void *b)
{
    const struct config_message *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Append "FILE:LINE: ", for what is said of a line; line 0 leaves the number out. */
static void
config_put_where(struct buf *out, const struct config *c, unsigned line)
{
    buf_puts(out, c->path);
    buf_putc(out, ':');
    if (line > 0) {
        buf_putu(out, line);
        buf_putc(out, ':');
    }
    buf_putc(out, ' ');
}

/* Write the messages of the loading in the order of lines, one a line. */
static void
config_tell(struct config_loader *l, bool warnings_only, struct buf *out)
{
    unsigned i;
    qsort(l->messages, l->nmessages, sizeof *l->messages, config_message_order);
    for (i = 0; i < l->nmessages; i++) {
        const struct config_message *m = &l->messages[i];
        if (warnings_only && !m->warning)
            continue;
        config_put_where(out, l->c, m->line);
        buf_puts(out, m->warning ? "warning: " : "");
        buf_puts(out, m->text);
        buf_putc(out, '\n');
    }
    if (l->untold > 0) {
        config_put_where(out, l->c, 0);
        buf_putu(out, l->untold);
        buf_puts(out, " more messages are left out\n");
    }
}

/* ---- the file and its lines ---- */

/* The line of a place in the text.  Costs the way from the place that was asked for before. */
static unsigned
config_line(struct config_loader *l, const char *place)
{
    for (; l->at < place; l->at++)
        l->line += *l->at == '\n' ? 1 : 0;
    while (l->at > place)
        l->line -= *--l->at == '\n' ? 1 : 0;
    return l->line;
}

static unsigned
config_elem_line(struct config_loader *l, struct elem e)
{
    return config_line(l, elem_place(e));
}

/* Show the text to a tokenizer, `step` more bytes each time, behind a header of our own: the root
 * of a file may be empty, a header may not.  False when the text is not one element. */
static bool
config_tokens(struct config_loader *l, size_t step)
{
    static const struct xe_xml_limits limits = { .depth = CONFIG_DEPTH_MAX };
    struct xe_span all = buf_span(&l->text);
    enum xe_xml_result r;
    struct xe_xml_event e;
    size_t shown = 0;
    size_t used;
    xe_xml_free(&l->xml);
    xe_xml_init(&l->xml, &limits);
    l->xml.comments = true;
    l->root = span_make(NULL, 0);
    if (strncmp(all.at + strspn(all.at, " \t\r\n"), "<?xml", 5) == 0)
        while (*all.at != '<')   /* XML wants the declaration first, people may not */
            all = span_skip(all, 1);
    l->from = all.at;
    if (strncmp(all.at, "<?xml", 5) == 0 && (shown = span_find(all, '>')) < all.len)
        shown++;
    if (xe_xml_next(&l->xml, all.at, shown, &used, &e) == XE_XML_BAD || used < shown
        || xe_xml_next(&l->xml, "<file>", 6, &used, &e) != XE_XML_HEADER)
        return false;
    for (l->from += shown;; l->from += used) {
        r = xe_xml_next(&l->xml, l->from, (size_t)(all.at + shown - l->from), &used, &e);
        if (r == XE_XML_ELEMENT && l->root.at == NULL)
            l->root = e.raw;
        else if (r == XE_XML_MORE && shown < all.len)
            shown += step < all.len - shown ? step : all.len - shown;
        else
            break;
    }
    l->from += r == XE_XML_ELEMENT ? 0 : used;   /* a second one is at fault */
    return r == XE_XML_MORE && l->xml.state == XML_AT_GAP && l->root.at != NULL;
}

#define CONFIG_ODD  "expected an element; document types, CDATA and processing instructions have " \
    "no place here"
#define CONFIG_TEXT_FOUND "expected an element or a comment, found text"
#define CONFIG_MARK "\xef\xbb\xbf"   /* U+FEFF; at the beginning of a file it says UTF-8 */

/* What is said of a file that ends or breaks while the tokenizer is in a state.  %t and the like
 * are the names at the places of config_spot(). */
static const struct config_broken {
    char        begun;    /* where that has begun which does not end */
    const char *ended;
    const char *broken;   /* NULL: as `ended` */
} config_broken[] = {
#define IN_TAG "expected > to end <%t, found the end of the file"
#define NOT_ATTR "expected an attribute, > or /> in <%t>"
    [XML_AT_START] = { '.', "expected <xmppedge>, found an empty file", CONFIG_ODD },
    [XML_AT_DECL] = { 'f', "expected ?> to end the XML declaration, found the end of the file",
        "expected <?xml version=\"1.0\" encoding=\"UTF-8\"?>, found another XML declaration" },
    [XML_AT_GAP] = { '.', "expected <xmppedge>, found an empty file", CONFIG_TEXT_FOUND },
    [XML_AT_LT] = { '.', "expected the name of an element after <", NULL },
    [XML_AT_NAME] = { 't', IN_TAG, "expected the name of an element after <" },
    [XML_AT_TAG] = { 't', IN_TAG, NOT_ATTR },
    [XML_AT_ATTR] = { 't', IN_TAG, NOT_ATTR },
    [XML_AT_EQ] = { 't', IN_TAG, "expected = after %a in <%t>" },
    [XML_AT_QUOTE] = { 't', IN_TAG, "expected the value of %a in quotes" },
    [XML_AT_VALUE] = { 'a', "expected the closing quote of %a, found the end of the file",
        "expected &amp; for an ampersand, found & and something unknown" },
    [XML_AT_SLASH] = { 't', IN_TAG, NOT_ATTR },
    [XML_AT_TEXT] = { 'o', "expected </%o> for the element that begins here, found the end of the "
        "file", CONFIG_TEXT_FOUND },
    [XML_AT_BANG] = { '.', CONFIG_ODD, NULL },
    [XML_AT_CDATA] = { 'm', CONFIG_ODD, NULL },
    [XML_AT_COMMENT] = { 'm', "expected --> to end the comment that begins here, found the end of "
        "the file", "expected --> to end the comment, found -- within it" },
    [XML_AT_END] = { 'm', "expected the name of an element and > after </", NULL },
    [XML_AT_END_SPACE] = { 'm', "expected the name of an element and > after </", NULL },
    [XML_AT_CLOSED] = { '.', "expected <xmppedge>, found an end tag", NULL }
#undef IN_TAG
#undef NOT_ATTR
};

static unsigned
config_state(const struct config_loader *l)
{
    return l->xml.state == XML_AT_BAD ? l->xml.failed : l->xml.state;
}

/* A place in the text: f, where what is not finished begins; t and a, the names of the tag and of
 * the attribute; o, that of the innermost open element; m, of the end tag, or the '<' of a comment;
 * '.', where the tokenizer has stopped. */
static const char *
config_spot(const struct config_loader *l, char what)
{
    const struct xe_xml *x = &l->xml;
    unsigned state = config_state(l);
    switch (what) {
    case 't': return l->from + (state == XML_AT_NAME ? x->mark : x->name.name);
    case 'a': return l->from + (state == XML_AT_ATTR ? x->mark : x->attrs[x->nattrs].name);
    case 'o': return l->from + (x->depth == 0 ? 0 : x->frames[x->depth - 1].name);
    case 'm': return l->from + x->mark;
    case '.': return l->from + x->at;
    }
    return l->from;
}

/* The name at such a place. */
static struct xe_span
config_spot_name(const struct config_loader *l, char what)
{
    const char *at = config_spot(l, what);
    return span_make(at, strcspn(at, " \t\r\n=/<>\"'&"));
}

/* What is wrong with a start tag, if the state does not say it. */
static const char *
config_broken_tag(const struct config_loader *l)
{
    const struct xe_xml *x = &l->xml;
    const char *at = config_spot(l, '.');
    unsigned i;
    if (x->failed == XML_AT_VALUE)
        return *at == '<' ? "expected &lt; or the closing quote of %a, found <" : NULL;
    if (x->failed == XML_AT_ATTR) {
        for (i = 0; i < x->nattrs; i++)
            if (span_eq(span_make(l->from + x->attrs[i].name, x->attrs[i].name_len),
                span_make(l->from + x->mark, x->at - x->mark)))
                return "expected %a once in <%t>, found it again";
        return NULL;
    }
    if (x->failed != XML_AT_TAG && x->failed != XML_AT_SLASH)
        return NULL;
    if (*at == '>')
        return x->depth == CONFIG_DEPTH_MAX ? "expected fewer elements within each other"
            : "expected <%t> without namespaces, found some that XML does not allow";
    if (x->failed == XML_AT_TAG && !x->spaced)
        return "expected a space before the next attribute of <%t>";
    return x->why == XE_WHY_XML_LIMIT ? "expected fewer attributes in <%t>" : NULL;
}

/* The text is not one element: the sentence about it, and the place where to look. */
static const char *
config_broken_text(const struct config_loader *l, char *where)
{
    const struct xe_xml *x = &l->xml;
    const struct config_broken *row = &config_broken[config_state(l)];
    const char *at = config_spot(l, '.');
    const char *end = l->text.bytes + l->text.tail;
    const char *more;
    uint32_t c;
    *where = '.';
    if (x->why == XE_WHY_OUT_OF_MEMORY)
        return "out of memory";
    if (at < end && (xe_utf8(at, end, &c) <= 0 || !xml_is_char(c)))
        return "expected UTF-8 text, found other bytes";
    if (l->root.at != NULL && *l->from == '<' && l->from[1] != '!' && l->from[1] != '?') {
        *where = 'f';
        return "expected the end of the file after the first element, found another one; one file "
            "configures one node";
    }
    if (x->state != XML_AT_BAD) {
        *where = row->begun;
        return row->ended;
    }
    if (x->failed == XML_AT_LT && x->why == XE_WHY_XML_RESTRICTED)
        return CONFIG_ODD;
    if (x->failed == XML_AT_END && x->depth == 0)
        return config_broken[XML_AT_CLOSED].ended;
    if (x->failed == XML_AT_END && config_spot_name(l, 'm').len > 0
        && !span_eq(config_spot_name(l, 'm'), config_spot_name(l, 'o')))
        return "expected </%o> for the element of line %l, found </%m>";
    more = config_broken_tag(l);
    return more != NULL ? more : row->broken != NULL ? row->broken : row->ended;
}

/* Say why the text is not one element, and where. */
static void
config_refuse_text(struct config_loader *l)
{
    char where;
    const char *text = config_broken_text(l, &where);
    struct buf out = { 0 };
    for (; *text != '\0'; text++)
        if (*text != '%')
            buf_putc(&out, *text);
        else if (*++text == 'l')
            buf_putu(&out, config_line(l, config_spot(l, 'o')));
        else
            buf_put(&out, config_spot_name(l, *text));
    config_error(l, config_line(l, config_spot(l, where)), buf_text(&out));
    buf_free(&out);
}

/* Refuse what may stand between tags in XML and has no meaning here.  Comments become space,
 * because Mini-XML does not see the end of an empty one. */
static bool
config_clear(struct config_loader *l)
{
    char *p = l->text.bytes + (l->root.at - l->text.bytes);
    const char *end = p + l->root.len;
    struct xe_xml_event tag;
    struct xe_span prefix;
    while (p < end)
        if (*p == '<' && p[1] == '!' && p[2] == '-') {
            size_t n = 4;
            while (memcmp(p + n, "-->", 3) != 0)
                n++;
            for (n += 3; n > 0; n--, p++)
                *p = *p == '\n' ? '\n' : ' ';
        } else if (*p == '<' && p[1] == '/') {
            p += span_find(span_make(p, (size_t)(end - p)), '>') + 1;
        } else if (*p == '<' && p[1] != '!') {
            p += xml_split(p, &tag, &prefix) - p;
        } else if (xml_is(*p, XML_IS_SPACE)) {
            p++;
        } else {
            config_error(l, config_line(l, p), *p == '<' ? CONFIG_ODD : CONFIG_TEXT_FOUND);
            return false;
        }
    return true;
}

/* Mini-XML drops a byte order mark wherever it is: two spellings would be one name. */
static bool
config_refuse_marks(struct config_loader *l)
{
    const char *mark = strstr(l->root.at, CONFIG_MARK);
    if (mark == NULL)
        return true;
    config_error(l, config_line(l, mark),
        "expected text without a byte order mark, found one that cannot be seen");
    return false;
}

/* Tell the elements of the tree where they were read from: every '<' begins a tag now, and the tree
 * is in the same order. */
static bool
config_place(struct config_loader *l)
{
    char *p = l->text.bytes + (l->root.at - l->text.bytes);
    struct elem e = l->tree;
    for (; e.at != NULL; e = elem_walk(e), p++) {
        const char *tag = elem_tag(e);
        while (*p != '\0' && (*p != '<' || p[1] == '/'))
            p++;
        if (*p == '\0' || strncmp(p + 1, tag, strlen(tag)) != 0)
            return false;
        elem_set_place(e, p);
    }
    return true;
}

/* Read the file into a tree. */
static bool
config_open(struct config_loader *l)
{
    bool whole;
    l->text.max = CONFIG_FILE_MAX + TLS_FILE_STEP;
    whole = tls_file_read(l->c->path, &l->text);
    if (whole ? buf_len(&l->text) > CONFIG_FILE_MAX : errno == EFBIG)
        config_error(l, 0, "expected a file of at most ", config_number(l, CONFIG_FILE_MAX >> 20),
            " MiB, found a larger one");
    else if (!whole)
        config_error(l, 0, "expected a file that can be read: ", strerror(errno));
    if (l->errors > 0)
        return false;
    l->at = buf_text(&l->text);
    l->line = 1;
    if (l->text.failed) {
        config_error(l, 0, "out of memory");
        return false;
    }
    if (strncmp(l->at, CONFIG_MARK, 3) == 0)
        buf_skip(&l->text, 3);
    if (!config_tokens(l, SIZE_MAX)) {
        config_tokens(l, 1);   /* stops at the very byte */
        config_refuse_text(l);
        return false;
    }
    if (!config_clear(l) || !config_refuse_marks(l))
        return false;
    l->tree = elem_tree(NULL, l->root);
    if (l->tree.at == NULL || !config_place(l)) {
        config_error(l, 1, "expected XML that the XML library can read as well");
        return false;
    }
    return true;
}

/* ---- values ---- */

static const char *
config_absolute(struct config_loader *l, struct config_blocks *list, const char *path)
{
    struct buf out = { 0 };
    if (*path != '/') {
        buf_puts(&out, l->directory);
        buf_putc(&out, '/');
    }
    buf_puts(&out, path);
    return config_take(list, &out);
}

/* Digits at *text; false when there are none or too many. */
static bool
config_parse_digits(const char **text, int64_t *value)
{
    const char *p = *text;
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (*value > (INT64_MAX - 9) / 10)
            return false;
        *value = *value * 10 + (*p - '0');
    }
    if (p == *text)
        return false;
    *text = p;
    return true;
}

struct config_unit {
    const char *suffix;
    int64_t     factor;
};

/* A number with one of the units; ends at an empty suffix, which is the unit of a bare number. */
static bool
config_parse_unit(const char *text, const struct config_unit *units, int64_t *value)
{
    if (!config_parse_digits(&text, value))
        return false;
    for (;; units++) {
        if (strcmp(text, units->suffix) == 0) {
            if (*value > INT64_MAX / units->factor)
                return false;
            *value *= units->factor;
            return true;
        }
        if (*units->suffix == '\0')
            return false;
    }
}

static bool
config_parse_number(const struct config_row *row, const char *text, int64_t *value)
{
    static const struct config_unit plain[] = { { "", 1 } };
    static const struct config_unit bytes[] = { { "K", INT64_C(1) << 10 }, { "KiB", 1 << 10 },
        { "M", INT64_C(1) << 20 }, { "MiB", INT64_C(1) << 20 }, { "G", INT64_C(1) << 30 },
        { "GiB", INT64_C(1) << 30 }, { "", 1 } };
    static const struct config_unit times[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 },
        { "h", 3600000 }, { "", 1000 } };
    return config_parse_unit(text, row->kind == CONFIG_BYTES ? bytes : row->kind == CONFIG_TIME
        ? times
        : plain, value) && *value >= row->min && *value <= row->max;
}

/* The normal form of a domain; false when it is none. */
static bool
config_parse_domain(struct config_blocks *list, const char *text, struct xe_span *out)
{
    char normal[XE_DOMAIN_MAX];
    size_t len;
    if (!xe_jid_domain_normal(span_of(text), normal, &len))
        return false;
    *out = span_of(config_copy(list, span_make(normal, len)));
    return out->len == len;
}

/* The port of an address, in both places. */
static void
config_set_port(struct config_address *a, uint16_t port)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    a->port = port;
    if (a->len == sizeof in) {
        memcpy(&in, &a->sa, sizeof in);
        in.sin_port = htons(port);
        memcpy(&a->sa, &in, sizeof in);
    } else if (a->len == sizeof in6) {
        memcpy(&in6, &a->sa, sizeof in6);
        in6.sin6_port = htons(port);
        memcpy(&a->sa, &in6, sizeof in6);
    }
}

/* An IPv4 or IPv6 literal; "fe80::1%eth0" names its interface.  The port stays. */
static bool
config_parse_address(const char *text, struct config_address *a)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct addrinfo hints, *found = NULL;
    memset(&in, 0, sizeof in);
    memset(&in6, 0, sizeof in6);
    memset(&hints, 0, sizeof hints);
    memset(&a->sa, 0, sizeof a->sa);
    a->len = 0;
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        in.sin_family = AF_INET;
        memcpy(&a->sa, &in, sizeof in);
        a->len = sizeof in;
    } else if (strchr(text, ':') != NULL) {
        hints.ai_family = AF_INET6;
        hints.ai_flags = AI_NUMERICHOST;
        if (getaddrinfo(text, NULL, &hints, &found) != 0)
            return false;
        if (found->ai_addrlen == sizeof in6) {
            memcpy(&a->sa, found->ai_addr, sizeof in6);
            a->len = sizeof in6;
        }
        freeaddrinfo(found);
    }
    config_set_port(a, a->port);
    return a->len > 0;
}

static bool
config_parse_network(const char *text, struct config_network *n)
{
    char address[64];
    const char *slash = strchr(text, '/');
    size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
    int64_t prefix, most;
    if (len >= sizeof address)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!config_parse_address(address, &n->address))
        return false;
    most = n->address.sa.ss_family == AF_INET ? 32 : 128;
    prefix = most;
    if (slash != NULL) {
        slash++;
        if (!config_parse_digits(&slash, &prefix) || *slash != '\0' || prefix > most)
            return false;
    }
    n->prefix = (unsigned)prefix;
    return true;
}

/* The next word of a list with white space between; of no length at its end. */
static struct xe_span
config_next_word(struct xe_span *rest)
{
    struct xe_span word;
    size_t len = 0;
    while (rest->len > 0 && (unsigned char)*rest->at <= ' ')
        *rest = span_skip(*rest, 1);
    while (len < rest->len && (unsigned char)rest->at[len] > ' ')
        len++;
    word = span_make(rest->at, len);
    *rest = span_skip(*rest, len);
    return word;
}

static bool
config_parse_pins(struct config_blocks *list, struct xe_span text, struct config_pins *p)
{
    struct xe_span word;
    p->count = 0;
    p->list = config_alloc(list, (text.len + 1) / 2 * sizeof *p->list);   /* of a byte each */
    while (p->list != NULL && (word = config_next_word(&text)).len > 0)
        if (!tls_pin_parse(word, p->list[p->count++]))
            return false;
    return p->list != NULL && p->count > 0;
}

/* One network or more. */
static bool
config_parse_networks(struct config_blocks *list, struct xe_span text, struct reach_list *n)
{
    struct xe_span word;
    n->count = 0;
    n->list = config_alloc(list, (text.len + 1) / 2 * sizeof *n->list);   /* of a byte each */
    while (n->list != NULL && (word = config_next_word(&text)).len > 0)
        if (reach_net_parse(word, &n->list[n->count++]) != REACH_GOOD)
            return false;
    return n->list != NULL && n->count > 0;
}

/* A literal or a name.  The port stays. */
static bool
config_parse_host(struct config_blocks *list, struct xe_span text, struct config_host *h)
{
    struct xe_span name;
    h->name = config_copy(list, text);
    if (config_parse_address(h->name, &h->address))
        return true;
    if (text.len == 0 || *text.at == '[' || strspn(h->name, "0123456789.") == text.len
        || !config_parse_domain(list, h->name, &name))
        return false;
    h->name = name.at;
    return true;
}

/* host, host:port, [IPv6] or [IPv6]:port; the port is 5269 if absent. */
static bool
config_parse_host_port(struct config_blocks *list, const char *text, struct config_host *h)
{
    struct xe_span host = span_of(text);
    const char *rest;
    int64_t port = 5269;
    if (*text == '[') {
        host = span_make(text + 1, strcspn(text + 1, "]"));
        if (memchr(host.at, ':', host.len) == NULL || host.at[host.len] != ']')
            return false;
        rest = host.at + host.len + 1;
    } else {
        host.len = strcspn(text, ":");
        rest = text + host.len;
    }
    if (*rest == ':') {
        rest++;
        if (!config_parse_digits(&rest, &port) || port < 1 || port > 65535)
            return false;
    }
    if (*rest != '\0' || !config_parse_host(list, host, h))
        return false;
    config_set_port(&h->address, (uint16_t)port);
    return true;
}

static bool
config_parse_word(const struct config_row *row, const char *text, void *place)
{
    unsigned i;
    for (i = 0; row->words[i] != NULL; i++)
        if (strcmp(text, row->words[i]) == 0) {
            if (row->kind == CONFIG_BOOL)
                *(bool *)place = i == 1;
            else
                memcpy(place, &i, sizeof i);
            return true;
        }
    return false;
}

/* Store one value; false when it is not what the row expects. */
static bool
config_store(struct config_loader *l, const struct config_row *row, const char *text, void *place)
{
    struct config_blocks *list = &l->c->blocks;
    int64_t n;
    switch (row->kind) {
    case CONFIG_ELEMENT:
        return false;
    case CONFIG_TEXT:
        *(const char **)place = config_copy(list, span_of(text));
        return *text != '\0';
    case CONFIG_DOMAIN:
        return config_parse_domain(list, text, place);
    case CONFIG_ADDRESS:
        return config_parse_address(text, place);
    case CONFIG_NETWORK:
        return config_parse_network(text, place);
    case CONFIG_PINS:
        return config_parse_pins(list, span_of(text), place);
    case CONFIG_NETWORKS:
        return config_parse_networks(list, span_of(text), place);
    case CONFIG_HOST:
        return config_parse_host(list, span_of(text), place);
    case CONFIG_HOST_PORT:
        return config_parse_host_port(list, text, place);
    case CONFIG_PORT:
        if (!config_parse_number(row, text, &n))
            return false;
        *(uint16_t *)place = (uint16_t)n;
        return true;
    case CONFIG_COUNT:
    case CONFIG_BYTES:
        if (!config_parse_number(row, text, &n) || (uint64_t)n > SIZE_MAX)
            return false;
        *(size_t *)place = (size_t)n;
        return true;
    case CONFIG_TIME:
        return config_parse_number(row, text, place);
    case CONFIG_BOOL:
    case CONFIG_WORD:
        return config_parse_word(row, text, place);
    case CONFIG_FILE:
    case CONFIG_PATH:
        *(const char **)place = config_absolute(l, list, text);
        return *text != '\0';
    }
    return false;
}

static void
config_put_bytes(struct buf *out, uint64_t n)
{
    unsigned unit = 0;
    while (unit < 3 && n >= 1024 && n % 1024 == 0) {
        n /= 1024;
        unit++;
    }
    buf_putu(out, n);
    if (unit > 0)
        buf_putc(out, " KMG"[unit]);
}

static void
config_put_time(struct buf *out, int64_t ms)
{
    int64_t unit = ms > 0 && ms % 3600000 == 0 ? 3600000 : ms % 1000 == 0 ? 1000 : 1;
    buf_putu(out, (uint64_t)(ms / unit));
    buf_puts(out, unit == 1 ? "ms" : unit == 1000 ? "s" : "h");
}

/* A number of the row's kind as it may stand in a file. */
static void
config_put_number(struct buf *out, enum config_kind kind, int64_t n)
{
    if (kind == CONFIG_BYTES)
        config_put_bytes(out, (uint64_t)n);
    else if (kind == CONFIG_TIME)
        config_put_time(out, n);
    else
        buf_putu(out, (uint64_t)n);
}

/* What a value of the row may be: the numbers, or the words. */
static void
config_put_choice(struct buf *out, const struct config_row *row, const char *from)
{
    size_t i;
    if (row->kind >= CONFIG_PORT && row->kind <= CONFIG_TIME) {
        buf_puts(out, from);
        config_put_number(out, row->kind, row->min);
        buf_puts(out, " to ");
        config_put_number(out, row->kind, row->max);
    }
    for (i = 0; row->words != NULL && row->words[i] != NULL; i++) {
        buf_puts(out, i == 0 ? "" : row->words[i + 1] == NULL ? " or " : ", ");
        buf_puts(out, row->words[i]);
    }
}

/* What a value of the row looks like: "a port from 1 to 65535". */
static void
config_put_expected(struct buf *out, const struct config_row *row)
{
    static const char *const texts[] = {
        [CONFIG_ELEMENT] = "", [CONFIG_TEXT] = "a text",
        [CONFIG_DOMAIN] = "a domain such as corp.example",
        [CONFIG_ADDRESS] = "an IPv4 or IPv6 address",
        [CONFIG_NETWORK] = "an IPv4 or IPv6 address, or a network such as 10.0.0.0/24",
        [CONFIG_PINS] = ("sha256: and the hash in base64 (44 characters) or hexadecimal (64), with "
            "spaces between several"),
        [CONFIG_NETWORKS] = "networks such as 10.0.0.0/8 or fd00::/8, with spaces between",
        [CONFIG_HOST] = "an address or a host name",
        [CONFIG_HOST_PORT] = "a host name or address, with :port if it is not 5269",
        [CONFIG_PORT] = "a port", [CONFIG_COUNT] = "a number",
        [CONFIG_BYTES] = "a size such as 10000, 64K or 1M",
        [CONFIG_TIME] = "a time such as 30s, 500ms or 10m", [CONFIG_BOOL] = "", [CONFIG_WORD] = "",
        [CONFIG_FILE] = "a file that can be read", [CONFIG_PATH] = "a path"
    };
    buf_puts(out, texts[row->kind]);
    config_put_choice(out, row, row->kind <= CONFIG_COUNT ? " from " : ", from ");
}

/* ---- reading by the table ---- */

/* The tag of an element's row: what follows the last '/' of its path. */
static const char *
config_tag(const struct config_row *row)
{
    const char *slash = strrchr(row->name, '/');
    return slash != NULL ? slash + 1 : *row->name == '\0' ? "xmppedge" : row->name;
}

/* Whether `row` is an element directly below the element `parent`. */
static bool
config_is_child(const struct config_row *parent, const struct config_row *row)
{
    size_t len = strlen(parent->name);
    const char *tag = config_tag(row);
    if (row->kind != CONFIG_ELEMENT || *row->name == '\0')
        return false;
    return len == 0 ? tag == row->name
        : strncmp(row->name, parent->name, len) == 0 && row->name[len] == '/'
            && tag == row->name + len + 1;
}

static bool
config_has_role(const struct config_row *row, enum config_role role)
{
    return (row->roles >> role & 1u) != 0;
}

/* The next element below `parent` for a role, after the row `after`; NULL at the end. */
static const struct config_row *
config_next_child(const struct config_row *parent, const struct config_row *after,
    enum config_role role)
{
    const struct config_row *end = config_rows + CONFIG_ROWS;
    for (after++; after < end; after++)
        if (config_has_role(after, role) && config_is_child(parent, after))
            return after;
    return NULL;
}

/* The next attribute of an element for a role, after the row `after`; NULL at the end. */
static const struct config_row *
config_next_attr(const struct config_row *after, enum config_role role)
{
    const struct config_row *end = config_rows + CONFIG_ROWS;
    for (after++; after < end && after->kind != CONFIG_ELEMENT; after++)
        if (config_has_role(after, role))
            return after;
    return NULL;
}

/* The names that may stand in an element: its attributes, or the elements within. */
static const char *
config_known(struct config_loader *l, const struct config_row *element, bool attrs)
{
    const struct config_row *r = element;
    struct buf text = { 0 };
    for (;;) {
        r = attrs ? config_next_attr(r, l->c->role) : config_next_child(element, r, l->c->role);
        if (r == NULL)
            break;
        buf_puts(&text, buf_len(&text) > 0 ? ", " : "");
        buf_puts(&text, attrs ? r->name : config_tag(r));
    }
    if (buf_len(&text) == 0)
        buf_puts(&text, "nothing");
    return config_take(&l->scratch, &text);
}

/* The line of an attribute; that of its element when it is not there. */
static unsigned
config_attr_line(struct config_loader *l, struct elem e, const char *name)
{
    const char *place = elem_place(e);
    struct xe_xml_event tag;
    struct xe_span prefix;
    unsigned i;
    xml_split(place, &tag, &prefix);
    for (i = 0; i < tag.nattrs; i++) {
        struct xe_span local = tag.attrs[i].name;
        const char *whole = tag.attrs[i].prefix.at;
        if (span_is(span_make(whole, (size_t)(local.at + local.len - whole)), name))
            place = whole;
    }
    return config_line(l, place);
}

/* What is wrong with the first bad network of a list, behind a colon. */
static const char *
config_network_fault(struct config_loader *l, struct xe_span text)
{
    static const char *const faults[] = { [REACH_GOOD] = "",
        [REACH_NO_ADDRESS] = " is no network",
        [REACH_NO_PREFIX] = " has a prefix length that is none",
        [REACH_HOST_BITS] = " has bits behind its prefix, " };
    enum reach_fault fault = REACH_GOOD;
    struct xe_span word;
    struct reach_net n;
    char meant[REACH_TEXT_MAX];
    struct buf out = { 0 };
    while (fault == REACH_GOOD && (word = config_next_word(&text)).len > 0)
        fault = reach_net_parse(word, &n);
    if (fault == REACH_GOOD)
        return "";
    buf_puts(&out, ": ");
    buf_put(&out, word);
    buf_puts(&out, faults[fault]);
    if (fault == REACH_HOST_BITS) {
        buf_puts(&out, reach_net_text(&n, meant));
        buf_puts(&out, " has not");
    }
    return config_take(&l->scratch, &out);
}

/* Warn of networks that look as if they opened more than they do. */
static void
config_check_networks(struct config_loader *l, unsigned line, const struct reach_list *n)
{
    char text[REACH_TEXT_MAX];
    size_t i;
    for (i = 0; i < n->count; i++) {
        const struct reach_block *missed = reach_net_misses(&n->list[i]);
        if (missed != NULL)
            config_warn(l, line, "networks: ", reach_net_text(&n->list[i], text),
                " does not open ", missed->net, " (", missed->what, ") within it: a network of "
                "its own is needed for that");
    }
}

/* The file that an attribute names must be there and readable. */
static void
config_check_file(struct config_loader *l, const struct config_row *row, struct elem e,
    const char *path)
{
    unsigned line = config_attr_line(l, e, row->name);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        config_error(l, line, "<", elem_tag(e), "> ", row->name,
            ": expected a file that can be read, found ", path, ": ", strerror(errno));
    else if (S_ISDIR(st.st_mode))
        config_error(l, line, "<", elem_tag(e), "> ", row->name,
            ": expected a file, found the directory ", path);
    if (fd >= 0)
        close(fd);
}

static void
config_read_value(struct config_loader *l, const struct config_row *row, struct elem e,
    const char *text, void *object)
{
    char *place = (char *)object + row->at;
    struct buf expected = { 0 };
    if (!config_store(l, row, text, place)) {
        config_put_expected(&expected, row);
        config_error(l, config_attr_line(l, e, row->name), "<", elem_tag(e), "> ", row->name,
            ": expected ", config_take(&l->scratch, &expected), ", found \"", text, "\"",
            row->kind == CONFIG_NETWORKS ? config_network_fault(l, span_of(text)) : "");
    } else if (row->kind == CONFIG_NETWORKS) {
        config_check_networks(l, config_attr_line(l, e, row->name), (void *)place);
    } else if (row->kind == CONFIG_FILE && !l->alone) {
        config_check_file(l, row, e, *(const char **)(void *)place);
    }
}

/* Complain about the attributes of an element that the table does not have. */
static void
config_refuse_attrs(struct config_loader *l, const struct config_row *element, struct elem e)
{
    const char *name;
    uint8_t i;
    for (i = 0; (name = elem_attr_name(e, i)) != NULL; i++) {
        const struct config_row *r = config_next_attr(element, l->c->role);
        while (r != NULL && strcmp(r->name, name) != 0)
            r = config_next_attr(r, l->c->role);
        if (r == NULL)
            config_error(l, config_attr_line(l, e, name), "<", elem_tag(e), ">: expected ",
                config_known(l, element, true), ", found the unknown attribute ", name);
    }
}

/* The attributes of one element; when it is not there only its defaults are wanted. */
static void
config_read_attrs(struct config_loader *l, const struct config_row *element, struct elem e,
    void *object)
{
    const struct config_row *r = element;
    while ((r = config_next_attr(r, l->c->role)) != NULL) {
        const char *text = elem_attr(e, r->name);
        if (text != NULL) {
            config_read_value(l, r, e, text, object);
        } else if (r->def != NULL) {
            config_store(l, r, r->def, (char *)object + r->at);
        } else if (r->must && e.at != NULL) {
            struct buf expected = { 0 };
            config_put_expected(&expected, r);
            config_error(l, config_elem_line(l, e), "<", elem_tag(e), "> ", r->name, ": expected ",
                config_take(&l->scratch, &expected), ", found nothing");
        }
    }
    /* a port may have been read after its address */
    for (r = element; (r = config_next_attr(r, l->c->role)) != NULL;) {
        char *place = (char *)object + r->at;
        struct config_address *a = r->kind == CONFIG_ADDRESS
            ? (struct config_address *)(void *)place
            : r->kind == CONFIG_HOST ? &((struct config_host *)(void *)place)->address : NULL;
        if (a != NULL)
            config_set_port(a, a->port);
    }
    if (e.at != NULL)
        config_refuse_attrs(l, element, e);
}

/* The first element with the tag among `e` and those that follow it. */
static struct elem
config_find(struct elem e, const char *tag)
{
    while (e.at != NULL && strcmp(elem_tag(e), tag) != 0)
        e = elem_next(e);
    return e;
}

/* How many elements of the row are below e; complains when it is not what the row allows. */
static size_t
config_count(struct config_loader *l, const struct config_row *row, struct elem e)
{
    const char *tag = config_tag(row);
    struct elem first = config_find(elem_first(e), tag);
    struct elem hit = first;
    size_t n = 0;
    for (; hit.at != NULL; hit = config_find(elem_next(hit), tag)) {
        if (n++ != (size_t)row->max)
            continue;
        if (row->max == 1)
            config_error(l, config_elem_line(l, hit), "<", elem_tag(e), ">: expected only one <",
                tag, ">, found another; the first is in line ",
                config_number(l, config_elem_line(l, first)));
        else
            config_error(l, config_elem_line(l, hit), "<", elem_tag(e), ">: expected at most ",
                config_number(l, (uint64_t)row->max), " <", tag, ">, found another");
    }
    if (n < (size_t)row->min)
        config_error(l, config_elem_line(l, e), "<", elem_tag(e), ">: expected ",
            row->max > 1 ? "at least one <" : "a <", tag, "> in it, found none");
    return n;
}

/* The row of an element below `element`, for a role; NULL when it has none. */
static const struct config_row *
config_child_row(const struct config_row *element, struct elem e, enum config_role role)
{
    const struct config_row *r = config_next_child(element, element, role);
    while (r != NULL && strcmp(config_tag(r), elem_tag(e)) != 0)
        r = config_next_child(element, r, role);
    return r;
}

/* Complain about the elements below e that the table does not have for this role. */
static void
config_refuse_children(struct config_loader *l, const struct config_row *element, struct elem e)
{
    enum config_role other = l->c->role == CONFIG_EDGE ? CONFIG_GATEWAY : CONFIG_EDGE;
    struct elem child = elem_first(e);
    for (; child.at != NULL; child = elem_next(child)) {
        bool elsewhere = config_child_row(element, child, other) != NULL;
        if (config_child_row(element, child, l->c->role) == NULL)
            config_error(l, config_elem_line(l, child), "<", elem_tag(e), ">: expected ",
                config_known(l, element, false), ", found the ", elsewhere ? "" : "unknown ",
                "element <", elem_tag(child), ">", elsewhere ? ", which only role=\"" : "",
                elsewhere ? config_roles[other] : "", elsewhere ? "\" has" : "");
    }
}

/* Fill the object of one element and everything below it; the element may not be there.  Recursion
 * is as deep as the table. */
static void
config_read_element(struct config_loader *l, const struct config_row *element, struct elem e,
    void *object)
{
    const struct config_row *row = element;
    config_read_attrs(l, element, e, object);
    if (e.at != NULL && element->line_at != CONFIG_NOWHERE)
        *(unsigned *)(void *)((char *)object + element->line_at) = config_elem_line(l, e);
    while ((row = config_next_child(element, row, l->c->role)) != NULL) {
        size_t n = e.at == NULL ? 0 : config_count(l, row, e), i;
        struct elem hit = config_find(elem_first(e), config_tag(row));
        char *place = (char *)object + row->at;
        if (row->size == 0) {
            config_read_element(l, row, hit, place);
        } else if (n > 0) {
            void *items = config_alloc(&l->c->blocks, n * row->size);
            if (items == NULL) {
                config_error(l, 0, "out of memory");
                return;
            }
            memcpy(place, &items, sizeof items);
            memcpy((char *)object + row->count_at, &n, sizeof n);
            for (i = 0; i < n; i++) {
                config_read_element(l, row, hit, (char *)items + i * row->size);
                hit = config_find(elem_next(hit), config_tag(row));
            }
        }
    }
    if (e.at != NULL)
        config_refuse_children(l, element, e);
}

/* The role decides what else may stand in the file, so it is read before everything. */
static bool
config_read_role(struct config_loader *l)
{
    const char *text = elem_attr(l->tree, "role");
    unsigned i;
    if (strcmp(elem_tag(l->tree), "xmppedge") != 0) {
        config_error(l, config_elem_line(l, l->tree), "expected <xmppedge>, found <",
            elem_tag(l->tree), ">");
        return false;
    }
    for (i = 0; text != NULL && config_roles[i] != NULL; i++)
        if (strcmp(text, config_roles[i]) == 0) {
            l->c->role = (enum config_role)i;
            return true;
        }
    config_error(l, config_attr_line(l, l->tree, "role"), "<xmppedge> role: expected edge or "
        "gateway, found ", text == NULL ? "nothing" : text);
    return false;
}

/* ---- what follows from the settings ---- */

/* Room for one path of the control socket; sun_path must hold it and a NUL. */
#define CONFIG_SOCKET_MAX (sizeof ((struct sockaddr_un *)NULL)->sun_path)

static void
config_derive_partner(struct config *c, struct config_partner *p)
{
    size_t i;
    p->row = policy_row(p->tls, p->sasl, p->dialback);
    if (p->connection_limit == 0)
        p->connection_limit = c->limits.partner_connections;
    p->domain.owner = p;
    p->domain.line = p->line;
    for (i = 0; i < p->ndomains; i++)
        p->domains[i].owner = p;
}

static void
config_derive_inner(struct config_loader *l, struct config_inner *in)
{
    size_t i;
    in->row = policy_row(in->tls, POLICY_NOT_SUPPORTED, true);
    for (i = 0; i < in->ndomains; i++)
        in->domains[i].owner = in;
    if (in->nsources > 0)
        return;
    in->sources = config_alloc(&l->c->blocks, sizeof *in->sources);
    if (in->sources == NULL)
        return;
    in->nsources = 1;
    in->sources->address = in->address;
    config_set_port(&in->sources->address, 0);
    in->sources->prefix = in->address.sa.ss_family == AF_INET ? 32 : 128;
}

static void
config_derive_control(struct config_loader *l)
{
    struct config *c = l->c;
    struct buf path = { 0 };
    if (c->control == NULL && c->name.at != NULL) {
        buf_puts(&path, "/run/xmppedge/");
        buf_put(&path, c->name);
        buf_puts(&path, ".sock");
        c->control = config_take(&c->blocks, &path);
    }
    if (c->control != NULL && strlen(c->control) >= CONFIG_SOCKET_MAX)
        config_error(l, c->control_line, "<control> socket: expected a path of at most ",
            config_number(l, CONFIG_SOCKET_MAX - 1), " bytes, found ",
            config_number(l, strlen(c->control)), ": ", c->control);
}

/* Check the dialback secret and keep it; a line end at its end does not count. */
static void
config_keep_secret(struct config_loader *l, struct xe_span s)
{
    struct config *c = l->c;
    char *copy;
    while (s.len > 0 && (s.at[s.len - 1] == '\n' || s.at[s.len - 1] == '\r'))
        s.len--;
    if (s.len < CONFIG_SECRET_MIN || s.len > CONFIG_SECRET_MAX)
        config_error(l, c->secret_line, "<dialback> secret-file: expected ",
            config_number(l, CONFIG_SECRET_MIN), " to ", config_number(l, CONFIG_SECRET_MAX),
            " bytes in ", c->secret_file, ", found ", config_number(l, s.len));
    else if ((copy = config_alloc(&c->blocks, s.len)) != NULL)
        c->secret = span_make(memcpy(copy, s.at, s.len), s.len);
}

/* Read the dialback secret.  A file that cannot be read was told of when its name was read. */
static void
config_derive_secret(struct config_loader *l)
{
    struct config *c = l->c;
    struct buf text = { 0 };
    struct stat st;
    if (l->alone || c->secret_file == NULL || stat(c->secret_file, &st) != 0)
        return;
    text.max = CONFIG_SECRET_MAX * 4;
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)CONFIG_SECRET_MAX)
        config_error(l, c->secret_line, "<dialback> secret-file: expected a plain file of at most ",
            config_number(l, CONFIG_SECRET_MAX), " bytes, found ", c->secret_file);
    else if (tls_file_read(c->secret_file, &text))
        config_keep_secret(l, buf_span(&text));
    if ((st.st_mode & S_IROTH) != 0)
        config_warn(l, c->secret_line, "every user of this machine can read the dialback secret "
            "in ", c->secret_file, "; take that right away with chmod o-rwx");
    tls_wipe(text.bytes, text.cap);
    buf_free(&text);
}

static void
config_derive(struct config_loader *l)
{
    struct config *c = l->c;
    size_t i;
    config_derive_partner(c, &c->partners.fallback);
    for (i = 0; i < c->partners.count; i++)
        config_derive_partner(c, &c->partners.list[i]);
    for (i = 0; i < c->ninner; i++)
        config_derive_inner(l, &c->inner[i]);
    if (c->listen.certificate.line == 0)
        c->listen.certificate = c->certificate;
    /* To a gateway every domain that is not inside is a partner's: the edge decides. */
    if (c->role == CONFIG_GATEWAY)
        c->partners.allow = true;
    config_derive_control(l);
    config_derive_secret(l);
}

/* ---- what the table cannot say ---- */

static bool
config_address_is_any(const struct config_address *a)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (a->sa.ss_family == AF_INET) {
        memcpy(&in, &a->sa, sizeof in);
        return in.sin_addr.s_addr == htonl(INADDR_ANY);
    }
    memcpy(&in6, &a->sa, sizeof in6);
    return a->len > 0 && IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr);
}

/* The bytes of an address without its port; an IPv4 address within IPv6 counts as IPv4. */
static size_t
config_address_bytes(const struct sockaddr *sa, unsigned char bytes[16])
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        memcpy(bytes, &in.sin_addr, 4);
        return 4;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        memcpy(bytes, &in6.sin6_addr, 16);
        if (memcmp(bytes, net_mapped, sizeof net_mapped) != 0)
            return 16;
        memmove(bytes, bytes + 12, 4);
        return 4;
    }
    return 0;
}

static bool
config_same_address(const struct config_address *a, const struct config_address *b)
{
    unsigned char x[16], y[16];
    size_t n = config_address_bytes((const struct sockaddr *)(const void *)&a->sa, x);
    return n > 0 && n == config_address_bytes((const struct sockaddr *)(const void *)&b->sa, y)
        && memcmp(x, y, n) == 0;
}

/* Whether two sockets could not listen on both at once. */
static bool
config_ports_collide(const struct config_address *a, const struct config_address *b)
{
    return a->len > 0 && b->len > 0 && a->port == b->port && (config_same_address(a, b)
        || (a->sa.ss_family == b->sa.ss_family && (config_address_is_any(a)
            || config_address_is_any(b))));
}

/* Put a domain in a map; complains when it is there already. */
static void
config_index(struct config_loader *l, struct map *map, struct map_node *node, struct xe_span name,
    unsigned line, const char *what)
{
    if (name.at == NULL)
        return;
    if (map_find(map, name) != NULL)
        config_error(l, line, "expected ", name.at, " as ", what, " once, found it again");
    else if (!map_add(map, node, name))
        config_error(l, 0, "out of memory");
}

static void
config_check_partner_name(struct config_loader *l, struct config_name *n)
{
    struct config *c = l->c;
    if (n->name.at == NULL)
        return;
    config_index(l, &c->partner_map, &n->node, n->name, n->line, "a partner domain");
    if (map_find(&c->domain_map, n->name) != NULL
        || (c->echo.domain.at != NULL && span_eq(n->name, c->echo.domain)))
        config_error(l, n->line, "expected the domain of a partner, found ", n->name.at,
            ", which is one of ours");
}

static void
config_check_policy(struct config_loader *l, const struct config_partner *p)
{
    const char *who = p->domain.name.at == NULL ? "the default partner" : p->domain.name.at;
    unsigned line = p->line > 0 ? p->line : l->c->partners.line;
    const struct policy_row *row = p->row;
    if (row->verdict != POLICY_VALID)
        config_note(l, line, row->verdict == POLICY_DOUBTFUL, (const char *const[]){ who,
            ": tls=\"", policy_levels[row->tls], "\" sasl=\"", policy_levels[row->sasl],
            "\" dialback=\"", config_false_true[row->dialback], "\" is row ",
            config_number(l, row->number),
            " of the negotiation settings, which is ", policy_verdicts[row->verdict], ": ",
            row->why, NULL });
    if (p->proxy_direct_tls && p->proxy.name == NULL)
        config_warn(l, line, who, ": proxy-direct-tls has no effect without a proxy");
    if (p->proxy_direct_tls && p->tls == POLICY_NOT_SUPPORTED)
        config_error(l, line, who, ": expected tls=\"required\" or \"optional\" beside "
            "proxy-direct-tls=\"true\", found tls=\"not-supported\"");
    if (p->connection_limit > l->c->limits.connections)
        config_warn(l, line, who, ": connection-limit is above the limit of connections in all");
}

/* A trust or a pin of a partner's own, beside settings that leave it without effect.  (Beside
 * dialback an authority is one way of two, whoever it is; who pins a key means that key.) */
static void
config_check_trust(struct config_loader *l, const struct config_partner *p)
{
    const char *what = p->pins.count > 0 ? "its pin" : "its own <trust>";
    const char *who = p->domain.name.at == NULL ? "the default partner" : p->domain.name.at;
    unsigned line = p->line > 0 ? p->line : l->c->partners.line;
    if (p->pins.count == 0 && p->trust.line == 0)
        return;
    if (p->tls == POLICY_NOT_SUPPORTED)
        config_warn(l, line, who, ": ", what, " has no effect with tls=\"not-supported\"");
    else if (p->pins.count > 0
        && (p->row->methods & (POLICY_TLS_DIALBACK | POLICY_TCP_DIALBACK)) != 0)
        config_warn(l, line, who, ": its pin does not bind it while dialback is allowed, which "
            "needs no certificate; say dialback=\"false\" to insist on one");
}

/* Whether certificates of some partner need the common trust. */
static bool
config_needs_trust(const struct config *c)
{
    size_t i;
    for (i = 0; i <= c->partners.count; i++) {
        const struct config_partner *p = i < c->partners.count ? &c->partners.list[i]
            : &c->partners.fallback;
        if ((p->row->methods & POLICY_SASL_TLS) != 0 && p->trust.line == 0 && p->pins.count == 0
            && (i < c->partners.count || c->partners.allow))
            return true;
    }
    return false;
}

static void
config_check_partners(struct config_loader *l)
{
    struct config *c = l->c;
    size_t i, j;
    for (i = 0; i < c->partners.count; i++) {
        struct config_partner *p = &c->partners.list[i];
        config_check_partner_name(l, &p->domain);
        for (j = 0; j < p->ndomains; j++)
            config_check_partner_name(l, &p->domains[j]);
        config_check_policy(l, p);
        config_check_trust(l, p);
    }
    if (c->partners.allow) {
        config_check_policy(l, &c->partners.fallback);
        config_check_trust(l, &c->partners.fallback);
    } else if (c->partners.count == 0) {
        config_warn(l, c->partners.line, "no partner is listed and default is deny: nobody can "
            "connect");
    }
    if (c->trust.line == 0 && config_needs_trust(c))
        config_warn(l, c->line, "there is no <trust> for partners: no certificate of a partner "
            "can be verified and SASL never succeeds");
}

static bool
config_names_gateway(const struct config_internal *in, struct xe_span name)
{
    size_t i;
    for (i = 0; i < in->ngateways; i++)
        if (span_eq(in->gateways[i].name, name))
            return true;
    return false;
}

static void
config_check_domains(struct config_loader *l)
{
    struct config *c = l->c;
    size_t i;
    for (i = 0; i < c->ndomains; i++) {
        struct config_domain *d = &c->domains[i];
        if (d->name.at == NULL)
            continue;
        config_index(l, &c->domain_map, &d->node, d->name, d->line, "an inner domain");
        if (d->gateway.at != NULL && !config_names_gateway(&c->internal, d->gateway))
            config_error(l, d->line, d->name.at, ": expected one of the gateways of <internal>, "
                "found ", d->gateway.at);
        if (d->certificate.line == 0 && c->certificate.line == 0)
            config_warn(l, d->line, d->name.at, ": there is no certificate for it: partners are "
                "offered no TLS, and those that require it cannot be reached");
    }
    if (c->echo.domain.at != NULL && map_find(&c->domain_map, c->echo.domain) != NULL)
        config_error(l, c->echo.line, "expected an <echo> domain of its own, found the inner "
            "domain ", c->echo.domain.at);
    if (c->echo.line > 0 && c->echo.certificate.line == 0 && c->certificate.line == 0)
        config_warn(l, c->echo.line, "there is no certificate for the echo domain: partners are "
            "offered no TLS");
    if (c->ndomains == 0 && c->echo.line == 0)
        config_error(l, c->line, "expected at least one <domain> or an <echo>, found neither");
}

/* A trunk that cannot carry the domains never comes up. */
static void
config_refuse_domains(struct config_loader *l, unsigned line, const char *per)
{
    config_error(l, line, "expected at most ", config_number(l, TRUNK_DOMAINS_MAX),
        " inner domains ", per, ", which is what a trunk carries, found another");
}

static void
config_check_edge(struct config_loader *l)
{
    const struct config_external *ex = &l->c->external;
    const struct config_internal *in = &l->c->internal;
    size_t i, j;
    if (in->line == 0 && l->c->ndomains > 0)
        config_error(l, l->c->line, "expected an <internal> where the gateways of the inner "
            "domains connect, found none");
    config_check_domains(l);
    config_check_partners(l);
    if (in->ngateways > 0 && l->c->ndomains > in->ngateways * TRUNK_DOMAINS_MAX)
        config_refuse_domains(l, l->c->domains[in->ngateways * TRUNK_DOMAINS_MAX].line,
            "for each <gateway>");
    for (i = 0; i < in->ngateways; i++)
        for (j = 0; j < i; j++)
            if (in->gateways[i].name.at != NULL
                && span_eq(in->gateways[i].name, in->gateways[j].name))
                config_error(l, in->gateways[i].line, "expected the gateway ",
                    in->gateways[i].name.at, " once, found it again");
    if (config_ports_collide(&ex->address, &in->address))
        config_error(l, in->line, "expected another port or address than that of <external>, found "
            "the same for both");
    else if (config_same_address(&ex->address, &in->address))
        config_warn(l, in->line, "the internal address is the external one: gateways connect to an "
            "address that the Internet sees");
    if (in->line > 0 && config_address_is_any(&in->address))
        config_warn(l, in->line, "the port for gateways is open on every address of this machine");
    if (config_address_is_any(&ex->address))
        config_warn(l, ex->line, "connections to partners leave from whatever address the system "
            "picks; row 2 of the port table names one");
}

/* A gateway's own listener must not be what it takes for the inner server. */
static void
config_check_gateway(struct config_loader *l)
{
    struct config *c = l->c;
    size_t i, j, count = c->echo.domain.at != NULL;
    if (c->ninner == 0 && c->echo.domain.at == NULL)
        config_error(l, c->line, "expected at least one <inner> or an <echo>, found neither");
    for (i = 0; i < c->ninner; i++) {
        struct config_inner *in = &c->inner[i];
        for (j = 0; j < in->ndomains; j++) {
            struct config_name *n = &in->domains[j];
            config_index(l, &c->inner_map, &n->node, n->name, n->line, "an inner domain");
            if (++count == TRUNK_DOMAINS_MAX + 1 && j < TRUNK_DOMAINS_MAX)
                config_refuse_domains(l, n->line, "in all, that of <echo> included");
            if (c->echo.domain.at != NULL && n->name.at != NULL && span_eq(n->name, c->echo.domain))
                config_error(l, n->line, "expected another domain than that of <echo>, found ",
                    n->name.at);
        }
        if (config_same_address(&c->listen.address, &in->address)
            && c->listen.address.port == in->address.port)
            config_error(l, in->line, "expected the address and port of the inner server, found "
                "those of <listen>: the gateway would talk to itself");
    }
    for (i = 0; i < c->nedges; i++)
        for (j = 0; j < i; j++)
            if (c->edges[i].name.at != NULL && span_eq(c->edges[i].name, c->edges[j].name))
                config_error(l, c->edges[i].line, "expected the edge ", c->edges[i].name.at,
                    " once, found it again");
}

static void
config_check_order(struct config_loader *l, bool good, const char *small, const char *large)
{
    if (!good)
        config_warn(l, l->c->limits.line, "<limits>: ", small, " is above ", large,
            ", so that it has no effect of its own");
}

static void
config_check_limits(struct config_loader *l)
{
    const struct config_limits *m = &l->c->limits;
    config_check_order(l, m->partner_connections <= m->connections, "partner-connections",
        "connections");
    config_check_order(l, m->source_connections <= m->connections, "source-connections",
        "connections");
    config_check_order(l, m->source_rate <= m->source_burst, "source-rate", "source-burst");
    config_check_order(l, m->certificates.rsa_min <= m->certificates.rsa_max, "rsa-bits-min",
        "rsa-bits-max");
    config_check_order(l, m->header_bytes <= m->preauth_bytes, "header-bytes", "preauth-bytes");
    config_check_order(l, m->pairs <= m->total_pairs, "pairs", "total-pairs");
    config_check_order(l, m->partner_dialbacks <= m->dialbacks, "partner-dialbacks", "dialbacks");
    config_check_order(l, m->source_dialbacks <= m->dialbacks, "source-dialbacks", "dialbacks");
    config_check_order(l, m->connect_ms <= m->attempt_ms, "connect-time", "attempt-time");
    config_check_order(l, m->keepalive_ms <= m->inactivity_ms, "keepalive-interval",
        "inactivity-time");
    config_check_order(l, m->partner_retry_first_ms <= m->partner_retry_max_ms,
        "partner-retry-first", "partner-retry-max");
    config_check_order(l, m->trunk_retry_first_ms <= m->trunk_retry_max_ms, "trunk-retry-first",
        "trunk-retry-max");
    config_check_order(l, m->queue_bytes <= m->memory_bytes, "queue-bytes", "memory");
    config_check_order(l, m->stanza_bytes <= m->past_bytes, "stanza-bytes", "past-bytes");
    if (m->stanza_bytes > m->queue_bytes || m->stanza_bytes > m->trunk_window_bytes)
        config_error(l, m->line, "<limits>: expected queue-bytes and trunk-window-bytes of at "
            "least stanza-bytes, found less: the largest stanza could never be sent");
}

/* The user that the service becomes. */
struct config_who {
    const char *name;                /* borrowed */
    uid_t       uid;
    gid_t      *groups;              /* owned by loader.scratch */
    int         ngroups;
};

/* Whether the mode of a file lets somebody read (4) or enter (1) it. */
static bool
config_may(const struct config_who *who, const char *path, mode_t want)
{
    struct stat st;
    int i;
    if (stat(path, &st) != 0)
        return true;   /* who reads the file will say so */
    if (st.st_uid == who->uid)
        return (st.st_mode >> 6 & want) == want;
    for (i = 0; i < who->ngroups; i++)
        if (st.st_gid == who->groups[i])
            return (st.st_mode >> 3 & want) == want;
    return (st.st_mode & want) == want;
}

/* What keeps somebody from reading a file: a directory above it, or it itself; NULL: nothing. */
static const char *
config_barrier(struct config_loader *l, const struct config_who *who, const char *path)
{
    const char *slash = path;
    while ((slash = strchr(slash + 1, '/')) != NULL) {
        const char *above = config_copy(&l->scratch, span_make(path, (size_t)(slash - path)));
        if (!config_may(who, above, 1))
            return above;
    }
    return config_may(who, path, 4) ? NULL : path;
}

/* A reload reads every file again, as the user that the service has become. */
static void
config_check_reload(struct config_loader *l, const struct config_who *who, unsigned line,
    const char *path)
{
    char *real = realpath(path, NULL);   /* links have directories on both sides */
    const char *barrier = config_barrier(l, who, path);
    if (barrier == NULL && real != NULL)
        barrier = config_barrier(l, who, real);
    if (barrier != NULL)
        config_warn(l, line, "after becoming ", who->name, ", a reload cannot read ", path,
            " because of ", barrier == path ? "its mode" : "the mode of ",
            barrier == path ? "" : barrier);
    free(real);
}

/* The same for every file named in an element and below it. */
static void
config_check_reloads(struct config_loader *l, const struct config_who *who,
    const struct config_row *element, const char *object)
{
    const struct config_row *r = element;
    unsigned line = 0;
    if (element->line_at != CONFIG_NOWHERE)
        memcpy(&line, object + element->line_at, sizeof line);
    while ((r = config_next_attr(r, l->c->role)) != NULL) {
        const char *path = NULL;
        if (r->kind == CONFIG_FILE)
            memcpy(&path, object + r->at, sizeof path);
        if (path != NULL)
            config_check_reload(l, who, line, path);
    }
    for (r = element; (r = config_next_child(element, r, l->c->role)) != NULL;) {
        const char *items = object + r->at;
        size_t n = 1, i;
        if (r->size > 0) {
            memcpy(&n, object + r->count_at, sizeof n);
            memcpy(&items, object + r->at, sizeof items);
        }
        for (i = 0; i < n; i++)
            config_check_reloads(l, who, r, items + i * r->size);
    }
}

static void
config_check_user(struct config_loader *l)
{
    struct config *c = l->c;
    struct config_who who = { .name = c->user };
    const struct passwd *pw = c->user == NULL ? NULL : getpwnam(c->user);
    if (c->user != NULL && pw == NULL)
        config_error(l, c->run_line, "<run> user: expected a user of this machine, found ",
            c->user);
    if (pw == NULL || pw->pw_uid == 0 || pw->pw_uid == geteuid())
        return;
    who.uid = pw->pw_uid;
    getgrouplist(c->user, pw->pw_gid, NULL, &who.ngroups);   /* how many? */
    who.groups = config_alloc(&l->scratch, (size_t)who.ngroups * sizeof *who.groups);
    if (who.groups == NULL || getgrouplist(c->user, pw->pw_gid, who.groups, &who.ngroups) < 0)
        who.ngroups = 0;
    config_check_reload(l, &who, c->run_line, c->path);
    config_check_reloads(l, &who, &config_rows[0], (const char *)c);
}

static void
config_check_common(struct config_loader *l)
{
    const struct config *c = l->c;
    if (c->tls.keylog)
        config_warn(l, c->tls.line, "keylog is allowed: whoever has the file can read every "
            "captured stream");
    if (c->tls.keylog_file != NULL && !c->tls.keylog)
        config_warn(l, c->tls.line, "keylog-file has no effect without keylog=\"true\"");
    if (c->tls.ciphersuites != NULL && c->tls.prefer != TLS_FASTEST)
        config_warn(l, c->tls.line, "prefer has no effect beside ciphersuites");
}

/* ---- loading and look-ups: what other sections use ---- */

static void
config_free(struct config *c)
{
    if (c == NULL)
        return;
    map_free(&c->partner_map);
    map_free(&c->domain_map);
    map_free(&c->inner_map);
    if (c->secret.at != NULL)
        tls_wipe((void *)(uintptr_t)c->secret.at, c->secret.len);
    config_release(&c->blocks);
    buf_free(&c->warnings);
    free(c);
}

/* Where relative paths start: the directory of the file; absolute, as a service changes its own. */
static bool
config_locate(struct config_loader *l)
{
    const char *file = l->c->path;
    const char *slash = strrchr(file, '/');
    char here[CONFIG_PATH_MAX];
    struct buf path = { 0 };
    if (file[0] != '/') {
        if (getcwd(here, sizeof here) == NULL) {
            config_error(l, 0, "expected a directory that can be named: ", strerror(errno));
            return false;
        }
        buf_puts(&path, here);
        buf_puts(&path, "/");
        l->c->here = config_copy(&l->c->blocks, buf_span(&path));
        if (slash == NULL && buf_len(&path) > 0)
            path.tail--;
    }
    buf_put(&path, span_make(file, slash == NULL ? 0 : (size_t)(slash - file)));
    l->directory = config_take(&l->scratch, &path);
    return true;
}

static void
config_read(struct config_loader *l)
{
    if (config_locate(l) && config_open(l) && config_read_role(l)) {
        config_read_element(l, &config_rows[0], l->tree, l->c);
        if (!l->alone)
            config_check_user(l);   /* while every certificate stands only where it was written */
        config_derive(l);
        if (l->c->role == CONFIG_EDGE)
            config_check_edge(l);
        else
            config_check_gateway(l);
        config_check_limits(l);
        config_check_common(l);
    }
    elem_free(l->tree);
    xe_xml_free(&l->xml);
}

/* Read a configuration; with `alone`, the files that it names are left unread.  NULL when anything
 * is wrong with it.  `messages` receives every error as "FILE:LINE: what was expected, what was
 * found", and every warning as "FILE:LINE: warning: ...", one a line, in the order of lines.  Free
 * with config_free(). */
static struct config *
config_load_file(const char *path, bool alone, struct buf *messages)
{
    struct config_loader *l = calloc(1, sizeof *l);
    struct config *c = calloc(1, sizeof *c);
    bool is_whole;
    if (l == NULL || c == NULL) {
        buf_puts(messages, "out of memory\n");
        free(l);
        free(c);
        return NULL;
    }
    c->path = config_copy(&c->blocks, span_of(path));
    l->c = c;
    l->alone = alone;
    config_read(l);
    config_tell(l, false, messages);
    config_tell(l, true, &c->warnings);
    is_whole = !c->blocks.failed && !l->scratch.failed && !c->warnings.failed;
    if (!is_whole)
        buf_puts(messages, "out of memory\n");
    if (l->errors > 0 || !is_whole) {
        config_free(c);
        c = NULL;
    }
    config_release(&l->scratch);
    buf_free(&l->text);
    free(l);
    return c;
}

/* For the service: with every file that it needs. */
static struct config *
config_load(const char *path, struct buf *messages)
{
    return config_load_file(path, false, messages);
}

/* For those who only ask what is in it. */
static struct config *
config_load_alone(const char *path, struct buf *messages)
{
    return config_load_file(path, true, messages);
}

/* Edge: the inner domain of that name (lower case); NULL: none. */
static const struct config_domain *
config_domain_for(const struct config *c, struct xe_span domain)
{
    const struct map_node *n = map_find(&c->domain_map, domain);
    return n == NULL ? NULL : MAP_OWNER(n, const struct config_domain, node);
}

/* Gateway: the inner server of a domain (lower case); NULL: none. */
static const struct config_inner *
config_inner_for(const struct config *c, struct xe_span domain)
{
    const struct map_node *n = map_find(&c->inner_map, domain);
    return n == NULL ? NULL : MAP_OWNER(n, const struct config_name, node)->owner;
}

/* Whether a domain (lower case) is on our side: an inner one or that of the echo. */
static bool
config_is_ours(const struct config *c, struct xe_span domain)
{
    return map_find(&c->domain_map, domain) != NULL || map_find(&c->inner_map, domain) != NULL
        || (c->echo.domain.at != NULL && span_eq(c->echo.domain, domain));
}

/* The settings for a partner domain (lower case); NULL: not allowed.  A gateway allows every domain
 * that is not inside, because the edge decides. */
static const struct config_partner *
config_partner_for(const struct config *c, struct xe_span domain)
{
    const struct map_node *n = map_find(&c->partner_map, domain);
    if (n != NULL)
        return MAP_OWNER(n, const struct config_name, node)->owner;
    return c->partners.allow && !config_is_ours(c, domain) ? &c->partners.fallback : NULL;
}

/* Whether an address lies within a network. */
static bool
config_network_has(const struct config_network *n, const struct sockaddr *sa)
{
    unsigned char net[16], host[16];
    size_t len = config_address_bytes((const struct sockaddr *)(const void *)&n->address.sa, net);
    unsigned bits = n->prefix, whole, rest;
    if (len == 0 || len != config_address_bytes(sa, host))
        return false;
    if (n->address.sa.ss_family == AF_INET6 && len == 4)
        bits = bits > 96 ? bits - 96 : 0;   /* an IPv4 address within IPv6 */
    whole = bits / 8;
    rest = bits % 8;
    return memcmp(net, host, whole) == 0
        && (rest == 0 || (net[whole] ^ host[whole]) >> (8 - rest) == 0);
}

/* Gateway: whether an inner server may connect from an address. */
static bool
config_inner_allows(const struct config_inner *in, const struct sockaddr *sa)
{
    size_t i;
    for (i = 0; i < in->nsources; i++)
        if (config_network_has(&in->sources[i], sa))
            return true;
    return false;
}

/* Gateway: whether any inner server may connect from an address. */
static bool
config_source_allowed(const struct config *c, const struct sockaddr *sa)
{
    size_t i;
    for (i = 0; i < c->ninner; i++)
        if (config_inner_allows(&c->inner[i], sa))
            return true;
    return false;
}

/* Append the host of an address as text. */
static void
config_put_address(struct buf *out, const struct config_address *a)
{
    char text[INET6_ADDRSTRLEN + 32];
    if (a->len > 0 && getnameinfo((const struct sockaddr *)(const void *)&a->sa, a->len, text,
        sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
        buf_puts(out, text);
}

/* ---- printing: the effective settings, the example ---- */

#define CONFIG_PAGE 100   /* columns */

/* Text that is broken into lines at CONFIG_PAGE, each after the first indented. */
struct config_pen {
    struct buf *out;      /* borrowed */
    size_t      column;   /* of the next byte */
    unsigned    indent;   /* spaces before each further line */
};

static void
config_pen_indent(struct config_pen *pen, unsigned n)
{
    for (pen->column = n; n > 0; n--)
        buf_putc(pen->out, ' ');
}

/* A piece that is not broken, after a space or a new line. */
static void
config_pen_piece(struct config_pen *pen, struct xe_span piece)
{
    if (pen->column + 1 + piece.len > CONFIG_PAGE) {
        buf_putc(pen->out, '\n');
        config_pen_indent(pen, pen->indent);
    } else {
        buf_putc(pen->out, ' ');
        pen->column++;
    }
    buf_put(pen->out, piece);
    pen->column += piece.len;
}

static void
config_pen_words(struct config_pen *pen, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        config_pen_piece(pen, span_make(text, len));
        text += len;
        text += strspn(text, " ");
    }
}

static void
config_put_xml(struct buf *out, struct xe_span text)
{
    size_t i;
    for (i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '&')
            buf_puts(out, "&amp;");
        else if (c == '<')
            buf_puts(out, "&lt;");
        else if (c == '"')
            buf_puts(out, "&quot;");
        else if (c == '\n')
            buf_puts(out, "&#10;");
        else
            buf_putc(out, c);
    }
}

static void
config_put_host(struct buf *out, const struct config_host *h, bool port)
{
    bool brackets = port && strchr(h->name, ':') != NULL;
    buf_puts(out, brackets ? "[" : "");
    buf_puts(out, h->name);
    buf_puts(out, brackets ? "]" : "");
    if (port) {
        buf_putc(out, ':');
        buf_putu(out, h->address.port);
    }
}

static void
config_put_network(struct buf *out, const struct config_network *n)
{
    config_put_address(out, &n->address);
    if (n->prefix != (n->address.sa.ss_family == AF_INET ? 32 : 128)) {
        buf_putc(out, '/');
        buf_putu(out, n->prefix);
    }
}

static void
config_put_networks(struct buf *out, const struct reach_list *n)
{
    char text[REACH_TEXT_MAX];
    size_t i;
    for (i = 0; i < n->count; i++) {
        buf_puts(out, i > 0 ? " " : "");
        buf_puts(out, reach_net_text(&n->list[i], text));
    }
}

static void
config_put_pins(struct buf *out, const struct config_pins *p)
{
    char text[TLS_PIN_MAX];
    size_t i;
    for (i = 0; i < p->count; i++) {
        buf_puts(out, i > 0 ? " " : "");
        buf_puts(out, tls_pin_text(p->list[i], text));
    }
}

static void
config_put_word(struct buf *out, const struct config_row *row, const void *place)
{
    unsigned i;
    if (row->kind == CONFIG_BOOL)
        i = *(const bool *)place ? 1 : 0;
    else
        memcpy(&i, place, sizeof i);
    buf_puts(out, row->words[i]);
}

/* The value at `place` as it may stand in a file; nothing when it is absent. */
static void
config_put_value(struct buf *out, const struct config_row *row, const void *place)
{
    const struct config_host *host = place;
    switch (row->kind) {
    case CONFIG_ELEMENT:
        return;
    case CONFIG_TEXT:
    case CONFIG_FILE:
    case CONFIG_PATH:
        buf_put(out, span_of(*(const char *const *)place));
        return;
    case CONFIG_DOMAIN:
        buf_put(out, *(const struct xe_span *)place);
        return;
    case CONFIG_ADDRESS:
        config_put_address(out, place);
        return;
    case CONFIG_NETWORK:
        config_put_network(out, place);
        return;
    case CONFIG_NETWORKS:
        config_put_networks(out, place);
        return;
    case CONFIG_PINS:
        config_put_pins(out, place);
        return;
    case CONFIG_HOST:
    case CONFIG_HOST_PORT:
        if (host->name != NULL)
            config_put_host(out, host, row->kind == CONFIG_HOST_PORT);
        return;
    case CONFIG_PORT:
        buf_putu(out, *(const uint16_t *)place);
        return;
    case CONFIG_COUNT:
    case CONFIG_BYTES:
        config_put_number(out, row->kind, (int64_t)*(const size_t *)place);
        return;
    case CONFIG_TIME:
        config_put_number(out, row->kind, *(const int64_t *)place);
        return;
    case CONFIG_BOOL:
    case CONFIG_WORD:
        config_put_word(out, row, place);
        return;
    }
}

/* Append name="value" as one piece; nothing when the value is absent. */
static void
config_pen_attr(struct config_pen *pen, const struct config_row *row, struct xe_span value)
{
    struct buf piece = { 0 };
    if (value.len == 0)
        return;
    buf_puts(&piece, row->name);
    buf_puts(&piece, "=\"");
    config_put_xml(&piece, value);
    buf_puts(&piece, "\"");
    config_pen_piece(pen, buf_span(&piece));
    buf_fail_with(pen->out, &piece);
    buf_free(&piece);
}

/* Whether an element has all it must have, and anything at all. */
static bool
config_is_present(const struct config_row *element, enum config_role role, const void *object)
{
    const struct config_row *r = element;
    bool any = false, all = true;
    struct buf value = { 0 };
    while ((r = config_next_attr(r, role)) != NULL) {
        buf_clear(&value);
        config_put_value(&value, r, (const char *)object + r->at);
        any = any || value.failed || buf_len(&value) > 0;
        all = all && (value.failed || buf_len(&value) > 0 || !r->must);
    }
    buf_free(&value);
    return any && all;
}

static void
config_put_tag(struct config_pen *pen, const struct config_row *element, unsigned depth)
{
    config_pen_indent(pen, depth * 2);
    buf_putc(pen->out, '<');
    buf_puts(pen->out, config_tag(element));
    pen->column += 1 + strlen(config_tag(element));
    pen->indent = (unsigned)pen->column + 1;
}

static void
config_put_end(struct buf *out, const struct config_row *element, unsigned depth)
{
    struct config_pen pen = { out, 0, 0 };
    config_pen_indent(&pen, depth * 2);
    buf_puts(out, "</");
    buf_puts(out, config_tag(element));
    buf_puts(out, ">\n");
}

/* One element with all its values and everything below it. */
static void
config_put_element(struct buf *out, const struct config_row *element, enum config_role role,
    const void *object, unsigned depth)
{
    struct config_pen pen = { out, 0, 0 };
    const struct config_row *r = element;
    struct buf value = { 0 }, below = { 0 };
    if (!config_is_present(element, role, object))
        return;
    below.max = CONFIG_PRINT_MAX;
    config_put_tag(&pen, element, depth);
    while ((r = config_next_attr(r, role)) != NULL) {
        buf_clear(&value);
        config_put_value(&value, r, (const char *)object + r->at);
        config_pen_attr(&pen, r, buf_span(&value));
        buf_fail_with(out, &value);
    }
    for (r = element; (r = config_next_child(element, r, role)) != NULL;) {
        const char *items = (const char *)object + r->at;
        size_t n = 1, i;
        if (r->size > 0) {
            memcpy(&n, (const char *)object + r->count_at, sizeof n);
            memcpy(&items, (const char *)object + r->at, sizeof items);
        }
        for (i = 0; i < n; i++)
            config_put_element(&below, r, role, items + i * r->size, depth + 1);
    }
    buf_puts(out, buf_len(&below) > 0 ? ">\n" : "/>\n");
    buf_add(out, &below);
    if (buf_len(&below) > 0)
        config_put_end(out, element, depth);
    buf_free(&value);
    buf_free(&below);
}

/* The effective settings with every default, as a file that gives the same configuration; what was
 * warned about stands before it as a comment. */
static void
config_print_effective(const struct config *c, struct buf *out)
{
    struct xe_span w = buf_span(&c->warnings);
    out->max = CONFIG_PRINT_MAX;
    while (w.len > 0) {
        size_t len = span_find(w, '\n'), i;
        buf_puts(out, "<!-- ");
        for (i = 0; i < len; i++) {   /* two hyphens would end the comment */
            buf_putc(out, w.at[i]);
            if (w.at[i] == '-' && i + 1 < len && w.at[i + 1] == '-')
                buf_putc(out, ' ');
        }
        buf_puts(out, " -->\n");
        w = span_skip(w, len + (len < w.len));
    }
    config_put_element(out, &config_rows[0], c->role, c, 0);
}

/* Whether an attribute of the same name and meaning was explained further up. */
static bool
config_is_explained(const struct config_row *row, enum config_role role)
{
    const struct config_row *r;
    for (r = config_rows; r < row; r++)
        if (r->kind == row->kind && config_has_role(r, role) && strcmp(r->name, row->name) == 0
            && strcmp(r->doc, row->doc) == 0)
            return true;
    return false;
}

/* "port from 1 to 65535; default 5269" */
static void
config_put_doc_value(struct buf *out, const struct config_row *row)
{
    static const char *const texts[] = {
        [CONFIG_ELEMENT] = "", [CONFIG_TEXT] = "text", [CONFIG_DOMAIN] = "domain",
        [CONFIG_ADDRESS] = "IPv4 or IPv6 address",
        [CONFIG_NETWORK] = "address, or network such as 10.0.0.0/24",
        [CONFIG_PINS] = "keys such as sha256:BASE64",
        [CONFIG_NETWORKS] = "networks such as 10.0.0.0/8 fd00::/8",
        [CONFIG_HOST] = "address or host name", [CONFIG_HOST_PORT] = "host or host:port",
        [CONFIG_PORT] = "port", [CONFIG_COUNT] = "number", [CONFIG_BYTES] = "size",
        [CONFIG_TIME] = "time", [CONFIG_BOOL] = "", [CONFIG_WORD] = "", [CONFIG_FILE] = "file",
        [CONFIG_PATH] = "path"
    };
    buf_puts(out, texts[row->kind]);
    config_put_choice(out, row, " from ");
    buf_puts(out, row->must ? "; must be given" : row->def == NULL ? "; may be absent"
        : "; default ");
    buf_puts(out, row->def == NULL ? "" : row->def);
}

/* The documentation of an attribute, as a line of the comment before its element. */
static void
config_put_attr_doc(struct buf *out, const struct config_row *row, unsigned depth)
{
    struct config_pen pen = { out, 0, depth * 2 + 25 };
    struct buf text = { 0 };
    buf_putc(out, '\n');
    config_pen_indent(&pen, depth * 2 + 5);
    buf_puts(out, row->name);
    pen.column += strlen(row->name);
    while (pen.column < pen.indent - 1) {
        buf_putc(out, ' ');
        pen.column++;
    }
    buf_puts(&text, row->doc);
    buf_puts(&text, " (");
    config_put_doc_value(&text, row);
    buf_puts(&text, ")");
    config_pen_words(&pen, buf_text(&text));
    buf_free(&text);
}

/* The comment of an element; within one that is commented out, also of those below it. */
static void
config_put_doc(struct buf *out, const struct config_row *element, enum config_role role,
    unsigned depth, bool all)
{
    struct config_pen pen = { out, 0, depth * 2 + 5 };
    const struct config_row *r = element;
    struct buf most = { 0 };
    bool above = false;
    config_pen_indent(&pen, depth * 2);
    buf_puts(out, "<!--");
    pen.column += 4;
    config_pen_words(&pen, config_tag(element));
    buf_putc(out, ':');
    pen.column++;
    config_pen_words(&pen, element->doc);
    if (element->max > 1 && element->max < CONFIG_LIST_MAX) {
        buf_puts(&most, "At most ");
        buf_putu(&most, (uint64_t)element->max);
        buf_puts(&most, " of them.");
        config_pen_words(&pen, buf_text(&most));
        buf_free(&most);
    }
    while ((r = config_next_attr(r, role)) != NULL) {
        if (config_is_explained(r, role))
            above = true;
        else
            config_put_attr_doc(out, r, depth);
    }
    if (above) {
        buf_putc(out, '\n');
        config_pen_indent(&pen, pen.indent - 1);
        config_pen_words(&pen, "Other attributes as above.");
    }
    buf_puts(out, " -->\n");
    for (r = element; all && (r = config_next_child(element, r, role)) != NULL;)
        config_put_doc(out, r, role, depth, all);
}

/* One element of the example.  `off`: within a comment, where no other comment may stand. */
static void
config_put_example(struct buf *out, const struct config_row *element, enum config_role role,
    unsigned depth, bool off)
{
    struct config_pen pen = { out, 0, 0 };
    const struct config_row *r = element;
    bool hide = element->example != NULL, below = false;
    if (!off)
        config_put_doc(out, element, role, depth, hide);
    if (hide) {
        config_pen_indent(&pen, depth * 2);
        buf_puts(out, "<!--\n");
    }
    config_put_tag(&pen, element, depth);
    while ((r = config_next_attr(r, role)) != NULL)
        config_pen_attr(&pen, r, span_of(r->example != NULL ? r->example : r->def));
    for (r = element; (r = config_next_child(element, r, role)) != NULL; below = true) {
        if (!below)
            buf_puts(out, ">\n");
        config_put_example(out, r, role, depth + 1, off || hide);
    }
    if (below)
        config_put_end(out, element, depth);
    else
        buf_puts(out, "/>\n");
    if (hide) {
        config_pen_indent(&pen, depth * 2);
        buf_puts(out, "-->\n");
    }
    if (depth == 1)
        buf_putc(out, '\n');
}

/* A complete configuration of a node with every element, attribute and default explained. */
static void
config_example(enum config_role role, struct buf *out)
{
    struct config_pen pen = { out, 0, 5 };
    buf_puts(out, "<!--");
    pen.column = 4;
    config_pen_words(&pen, role == CONFIG_EDGE
        ? "xmppedge, role edge: the border of an organisation towards its federation partners."
        : "xmppedge, role gateway: stands beside the inner server and connects out to the edges.");
    config_pen_words(&pen, "This file is a working example and the whole documentation of the "
        "settings. Only what must be given has to stay; everything else shows its default or is "
        "commented out. Paths are relative to the directory of this file. Times may be written "
        "30, 30s, 500ms, 10m or 1h; sizes 10000, 64K or 1M.");
    buf_puts(out, " -->\n");
    config_put_example(out, &config_rows[0], role, 0, false);
}

/* ===========================================================================
 * [PORTS] ports_         the port summary of one configuration, as a table and as packet filters
 * calls:  BASE BUF REACH CONFIG
 *
 *   row    protocol/port    from                      to
 *    1     XMPP/TCP 5269    any                       edge, external address
 *    2     XMPP/TCP 5269    edge, external address    any
 *    3     XMPP/MTLS 23456  any gateway               edge, internal address
 *    never any              edge, internal address    any
 *    never any              edge, external address    the inside
 *
 * An edge has these rows, and a row 2 for each static route; a gateway has row 3 from its side, and
 * the two ways between it and the inner server.  The rows of a configuration are made in one place,
 * and every form of output is a walk over them.  Whoever looks up names needs DNS besides, which is
 * no row.
 *
 * The packet filters permit the rows, close their ports for everybody else, drop whatever else the
 * user of the service sends, over any protocol, and forbid the one thing that must never be: a
 * connection from the edge into the LAN.  They touch nothing else on the machine, so they can stand
 * beside rules that are there already; loaded again, they take the place of what they were.
 * ======================================================================== */

enum ports_format { PORTS_TABLE, PORTS_NFT, PORTS_IPTABLES, PORTS_JSON };

#define PORTS_NUMBER_NEVER 4   /* of a row that is forbidden */

/* One permitted direction, or one that is not. */
struct ports_row {
    unsigned                     number;   /* of the port table; 0: behind the gateway */
    bool                         in;       /* towards this node */
    const char                  *protocol;
    uint16_t                     port;     /* of the destination; 0: any */
    const struct config_network *network;  /* source; NULL: see `source` */
    const struct config_host    *from;     /* source; NULL: see `source` */
    const struct config_address *source;   /* NULL: any (in), this machine (out) */
    const struct config_host    *host;     /* destination; NULL: see `destination` */
    const struct config_address *destination; /* NULL: see `place` */
    const char                  *place;    /* destination in words; NULL: any */
    const char                  *comment;
    struct xe_span               partner;  /* of a static route: ends the comment */
};

/* Where the rows go, one after the other. */
typedef void ports_sink(const struct ports_row *row, void *user);

static void
ports_rows_edge(const struct config *c, ports_sink *put, void *user)
{
    const struct config_address *ex = &c->external.address, *in = &c->internal.address;
    struct ports_row rows[3] = {
        { .number = 1, .in = true, .protocol = "XMPP/TCP", .port = ex->port, .destination = ex,
            .comment = "standard s2s port; federated XMPP partners reach the Edge Server's XMPP "
            "proxy" },
        { .number = 2, .protocol = "XMPP/TCP", .port = 5269, .source = ex,
            .comment = "standard s2s port; the Edge Server's XMPP proxy reaches federated XMPP "
            "partners" },
        { .number = 3, .in = true, .protocol = "XMPP/MTLS", .port = in->port, .destination = in,
            .comment = "internal XMPP traffic from the gateways (Front End pool) to the Edge "
            "Server" },
    };
    size_t i;
    for (i = 0; i < 3; i++)
        put(&rows[i], user);
}

/* The static routes: row 2, where the configuration says whereto. */
static void
ports_rows_routes(const struct config *c, ports_sink *put, void *user)
{
    struct ports_row row = { .number = 2, .protocol = "XMPP/TCP", .source = &c->external.address,
        .comment = "the static route of " };
    size_t i;
    for (i = 0; i < c->partners.count; i++) {
        const struct config_partner *p = &c->partners.list[i];
        row.host = &p->proxy;
        row.port = p->proxy.address.port;
        row.partner = p->domain.name;
        if (p->proxy.name != NULL)
            put(&row, user);
    }
}

static void
ports_rows_gateway(const struct config *c, ports_sink *put, void *user)
{
    struct ports_row edge = { .number = 3, .protocol = "XMPP/MTLS",
        .comment = "internal XMPP traffic from this gateway to the Edge Server" };
    struct ports_row from = { .in = true, .protocol = "XMPP/TCP", .port = c->listen.address.port,
        .destination = &c->listen.address,
        .comment = "the inner server reaches the partners through here" };
    struct ports_row to = { .protocol = "XMPP/TCP",
        .comment = "this gateway reaches the inner server" };
    size_t i, j;
    for (i = 0; i < c->nedges; i++) {
        edge.host = &c->edges[i].host;
        edge.port = edge.host->address.port;
        put(&edge, user);
    }
    for (i = 0; i < c->ninner; i++) {
        const struct config_inner *in = &c->inner[i];
        for (j = 0; j < in->nsources; j++) {
            from.network = &in->sources[j];
            put(&from, user);
        }
        to.destination = &in->address;
        to.port = in->address.port;
        put(&to, user);
    }
}

static void
ports_rows(const struct config *c, ports_sink *put, void *user)
{
    if (c->role == CONFIG_GATEWAY) {
        ports_rows_gateway(c, put, user);
        return;
    }
    ports_rows_edge(c, put, user);
    ports_rows_routes(c, put, user);
}

/* What must never be: from either address of an edge, and on a gateway from an edge. */
static void
ports_rows_never(const struct config *c, ports_sink *put, void *user)
{
    struct ports_row inner = { .number = PORTS_NUMBER_NEVER, .protocol = "any",
        .source = &c->internal.address,
        .comment = "the Edge Server opens no connection into the LAN, from either address" };
    struct ports_row outer = { .number = PORTS_NUMBER_NEVER, .protocol = "any",
        .source = &c->external.address, .place = "the inside",
        .comment = "loopback, private and all other addresses where no partner can be" };
    struct ports_row edge = { .number = PORTS_NUMBER_NEVER, .in = true, .protocol = "any",
        .place = "this machine", .comment = "the Edge Server opens no connection into the LAN" };
    size_t i;
    if (c->role == CONFIG_EDGE) {
        put(&inner, user);
        put(&outer, user);
    }
    for (i = 0; i < c->nedges; i++) {
        edge.from = &c->edges[i].host;
        put(&edge, user);
    }
}

/* The source of a row in words; nothing when it may be any and `any` is NULL. */
static void
ports_put_source(struct buf *out, const struct ports_row *row, const char *any)
{
    if (row->network != NULL)
        config_put_network(out, row->network);
    else if (row->from != NULL)
        buf_puts(out, row->from->name);
    else if (row->source != NULL && !config_address_is_any(row->source))
        config_put_address(out, row->source);
    else if (any != NULL)
        buf_puts(out, row->source != NULL || !row->in ? "this machine" : any);
}

static void
ports_put_destination(struct buf *out, const struct ports_row *row, const char *any)
{
    if (row->host != NULL)
        buf_puts(out, row->host->name);
    else if (row->destination != NULL && !config_address_is_any(row->destination))
        config_put_address(out, row->destination);
    else if (any != NULL && row->place != NULL)
        buf_puts(out, row->place);
    else if (any != NULL)
        buf_puts(out, row->destination != NULL ? "this machine" : any);
}

static void
ports_put_comment(struct buf *out, const struct ports_row *row)
{
    buf_puts(out, row->comment);
    buf_put(out, row->partner);
}

static void
ports_put_column(struct buf *out, const struct buf *text, size_t width)
{
    size_t n;
    buf_add(out, text);
    for (n = buf_len(text); n < width; n++)
        buf_putc(out, ' ');
    buf_puts(out, "  ");
}

static void
ports_put_number(struct buf *out, const struct ports_row *row, const char *none)
{
    if (row->number == PORTS_NUMBER_NEVER)
        buf_puts(out, "never");
    else if (row->number > 0)
        buf_putu(out, row->number);
    else
        buf_puts(out, none);
}

static void
ports_row_text(const struct ports_row *row, void *user)
{
    struct buf *out = user, cell = { 0 };
    ports_put_number(&cell, row, "-");
    ports_put_column(out, &cell, 5);
    buf_clear(&cell);
    buf_puts(&cell, row->protocol);
    if (row->port > 0) {
        buf_putc(&cell, '/');
        buf_putu(&cell, row->port);
    }
    ports_put_column(out, &cell, 15);
    buf_clear(&cell);
    ports_put_source(&cell, row, row->number == 3 ? "any gateway" : "any");
    ports_put_column(out, &cell, 18);
    buf_clear(&cell);
    ports_put_destination(&cell, row, "any");
    ports_put_column(out, &cell, 18);
    ports_put_comment(out, row);
    buf_putc(out, '\n');
    buf_free(&cell);
}

static void
ports_row_json(const struct ports_row *row, void *user)
{
    struct buf *out = user, comment = { 0 };
    buf_puts(out, out->tail > out->head && out->bytes[out->tail - 1] == '}' ? ",\n  {" : "\n  {");
    buf_puts(out, row->number < PORTS_NUMBER_NEVER ? "\"row\":" : "\"row\":\"");
    ports_put_number(out, row, "null");
    buf_puts(out, row->number < PORTS_NUMBER_NEVER ? "" : "\"");
    buf_puts(out, ",\"direction\":");
    buf_puts(out, row->in ? "\"in\"" : "\"out\"");
    buf_puts(out, ",\"protocol\":\"");
    buf_puts(out, row->protocol);
    buf_puts(out, "\",\"port\":");
    if (row->port > 0)
        buf_putu(out, row->port);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"source\":\"");
    ports_put_source(out, row, "any");
    buf_puts(out, "\",\"destination\":\"");
    ports_put_destination(out, row, "any");
    buf_puts(out, "\",\"comment\":");
    ports_put_comment(&comment, row);
    buf_put_json(out, buf_span(&comment), SIZE_MAX);
    buf_fail_with(out, &comment);
    buf_free(&comment);
    buf_putc(out, '}');
}

/* The number of ways to name servers; without <resolver> there is one, to those of the system.  A
 * gateway looks up only the names of its edges. */
static size_t
ports_dns_count(const struct config *c)
{
    bool need = c->role == CONFIG_EDGE;
    size_t i;
    for (i = 0; i < c->nedges; i++)
        need = need || c->edges[i].host.address.len == 0;
    return !need ? 0 : c->nresolvers > 0 ? c->nresolvers : 1;
}

/* The i-th of them: the port, and where to in words; `any` (may be NULL) when it is unknown. */
static uint16_t
ports_dns(const struct config *c, size_t i, const char *any, struct buf *where)
{
    if (c->nresolvers > 0)
        config_put_address(where, &c->resolvers[i].address);
    else if (any != NULL)
        buf_puts(where, any);
    return c->nresolvers > 0 ? c->resolvers[i].address.port : 53;
}

static void
ports_dns_text(const struct config *c, struct buf *out)
{
    struct buf where = { 0 };
    size_t i;
    for (i = 0; i < ports_dns_count(c); i++) {
        uint16_t port = ports_dns(c, i, "the resolvers of this system", &where);
        buf_puts(out, "# besides the rows: DNS, UDP and TCP port ");
        buf_putu(out, port);
        buf_puts(out, ", from this machine to ");
        buf_add(out, &where);
        buf_putc(out, '\n');
        buf_clear(&where);
    }
    buf_free(&where);
}

static void
ports_dns_json(const struct config *c, struct buf *out)
{
    struct buf where = { 0 };
    size_t i;
    for (i = 0; i < ports_dns_count(c); i++) {
        uint16_t port = ports_dns(c, i, "any", &where);
        buf_puts(out, i == 0 ? "\n  {\"protocol\":\"DNS/UDP+TCP\",\"port\":"
            : ",\n  {\"protocol\":\"DNS/UDP+TCP\",\"port\":");
        buf_putu(out, port);
        buf_puts(out, ",\"source\":\"this machine\",\"destination\":\"");
        buf_add(out, &where);
        buf_puts(out, "\"}");
        buf_clear(&where);
    }
    buf_free(&where);
}

/* ---- packet filters ---- */

/* What the rules need to know of the machine that they are for, besides the configuration. */
struct ports_machine {
    struct config_address resolvers[PORTS_RESOLVERS_MAX];
    size_t                nresolvers;
    struct reach_machine  here;      /* owned; nothing in it: unknown, or of no interest */
};

/* The chains, each behind those that it jumps to. */
enum ports_chain { PORTS_NEVER, PORTS_SERVICE, PORTS_IN, PORTS_OUT };

#define PORTS_CHAINS 4

static const struct { const char *nft, *iptables; } ports_chains[PORTS_CHAINS] = {
    { "never", "XMPPEDGE-NEVER" },
    { "service", "XMPPEDGE-SERVICE" },
    { "input", "XMPPEDGE-IN" },
    { "output", "XMPPEDGE-OUT" }
};

enum ports_verdict { PORTS_ACCEPT, PORTS_DROP, PORTS_RETURN, PORTS_TO_SERVICE, PORTS_TO_NEVER };

static const struct { const char *nft, *iptables; } ports_verdicts[] = {
    { "accept", "ACCEPT" },
    { "counter drop", "DROP" },
    { "return", "RETURN" },
    { "jump service", "XMPPEDGE-SERVICE" },
    { "jump never", "XMPPEDGE-NEVER" }
};

/* A packet filter in the making. */
struct ports_rules {
    const struct config        *c;
    const struct ports_machine *machine;
    struct buf                 *out;       /* borrowed */
    int                         family;    /* of the rules that iptables takes now; nft: both */
    bool                        iptables;  /* else nft */
    bool                        in;        /* the rows that are being written */
    bool                        known;     /* and of these, those to an address in the file */
    uint16_t                    ports[32]; /* already closed in this chain */
    unsigned                    nports;
    enum ports_chain            chain;
};

/* Texts of one rule; what is empty matches everything. */
struct ports_rule {
    int                family;    /* AF_UNSPEC: both */
    struct buf         about;     /* owned; a line of words above it */
    struct buf         source;    /* owned */
    struct buf         destination; /* owned */
    bool               service;   /* what the user of the service sends */
    bool               local;     /* to an address of this machine */
    const char        *protocol;  /* "tcp", "udp"; NULL: any */
    uint16_t           port;      /* 0: any */
    enum ports_verdict verdict;
    const char        *comment;
};

/* The address family of an address: AF_UNSPEC when it is none, or any. */
static int
ports_family(const struct config_address *a)
{
    return a == NULL || a->len == 0 || config_address_is_any(a) ? AF_UNSPEC : a->sa.ss_family;
}

static int
ports_source_family(const struct ports_row *row)
{
    return ports_family(row->network != NULL ? &row->network->address
        : row->from != NULL ? &row->from->address : row->source);
}

static int
ports_destination_family(const struct ports_row *row)
{
    return ports_family(row->host != NULL ? &row->host->address : row->destination);
}

static void
ports_put_match(struct buf *out, const char *word, struct xe_span value, const char *end)
{
    if (value.len == 0)
        return;
    buf_puts(out, word);
    buf_put(out, value);
    buf_puts(out, end);
}

/* An address without the interface that it may be bound to. */
static struct xe_span
ports_address(const struct buf *text)
{
    struct xe_span s = buf_span(text);
    return span_make(s.at, span_find(s, '%'));
}

/* A rule without its address would match too much. */
static void
ports_fail_with(struct buf *out, const struct ports_rule *r)
{
    buf_fail_with(out, &r->about);
    buf_fail_with(out, &r->source);
    buf_fail_with(out, &r->destination);
}

static void
ports_rule_nft(const struct ports_rules *rules, const struct ports_rule *r)
{
    struct buf *out = rules->out;
    bool v6 = r->family == AF_INET6;
    ports_fail_with(out, r);
    ports_put_match(out, "        # ", buf_span(&r->about), "\n");
    buf_puts(out, "        ");
    if (r->service)
        ports_put_match(out, "meta skuid \"", span_of(rules->c->user), "\" ");
    ports_put_match(out, v6 ? "ip6 saddr " : "ip saddr ", ports_address(&r->source), " ");
    ports_put_match(out, v6 ? "ip6 daddr " : "ip daddr ", ports_address(&r->destination), " ");
    if (r->local)
        buf_puts(out, "fib daddr type local ");
    if (r->port > 0) {
        buf_puts(out, r->protocol);
        buf_puts(out, " dport ");
        buf_putu(out, r->port);
        buf_putc(out, ' ');
    } else {
        ports_put_match(out, "meta l4proto ", span_of(r->protocol), " ");
    }
    buf_puts(out, ports_verdicts[r->verdict].nft);
    ports_put_match(out, " comment \"", span_of(r->comment), "\"");
    buf_putc(out, '\n');
}

static void
ports_rule_iptables(const struct ports_rules *rules, const struct ports_rule *r)
{
    struct buf *out = rules->out;
    if (r->family != AF_UNSPEC && r->family != rules->family)
        return;
    ports_fail_with(out, r);
    ports_put_match(out, "# ", buf_span(&r->about), "\n");
    buf_puts(out, "-A ");
    buf_puts(out, ports_chains[rules->chain].iptables);
    buf_putc(out, ' ');
    ports_put_match(out, "-p ", span_of(r->protocol), " ");
    if (r->service)
        ports_put_match(out, "-m owner --uid-owner ", span_of(rules->c->user), " ");
    ports_put_match(out, "-s ", ports_address(&r->source), " ");
    ports_put_match(out, "-d ", ports_address(&r->destination), " ");
    if (r->local)
        buf_puts(out, "-m addrtype --dst-type LOCAL ");
    if (r->port > 0) {
        buf_puts(out, "--dport ");
        buf_putu(out, r->port);
        buf_putc(out, ' ');
    }
    ports_put_match(out, "-m comment --comment \"", span_of(r->comment), "\" ");
    buf_puts(out, "-j ");
    buf_puts(out, ports_verdicts[r->verdict].iptables);
    buf_putc(out, '\n');
}

static void
ports_put_rule(const struct ports_rules *rules, struct ports_rule *r)
{
    if (rules->iptables)
        ports_rule_iptables(rules, r);
    else
        ports_rule_nft(rules, r);
    buf_free(&r->about);
    buf_free(&r->source);
    buf_free(&r->destination);
}

/* A permitted row.  A static route to a host name may lead anywhere, as DNS does.  No packet goes
 * from one family to the other. */
static void
ports_rule_row(const struct ports_row *row, void *user)
{
    static const char *const names[] = { "inner server", "row 1", "row 2", "row 3" };
    const struct ports_rules *rules = user;
    struct ports_rule r = { .protocol = "tcp", .port = row->port, .comment = names[row->number] };
    bool known = row->destination != NULL || (row->host != NULL && row->host->address.len > 0);
    int from = ports_source_family(row), to = ports_destination_family(row);
    if (row->in != rules->in || known != rules->known
        || (from != AF_UNSPEC && to != AF_UNSPEC && from != to))
        return;
    r.family = to != AF_UNSPEC ? to : from;
    ports_put_source(&r.source, row, NULL);
    if (known)
        ports_put_destination(&r.destination, row, NULL);
    if (row->partner.len > 0) {
        ports_put_comment(&r.about, row);
        buf_puts(&r.about, " to ");
        config_put_host(&r.about, row->host, true);
        buf_puts(&r.about, known ? "" : ", if that is not inside");
    }
    ports_put_rule(rules, &r);
}

static void
ports_rule_rows(struct ports_rules *rules, bool in, bool known)
{
    rules->in = in;
    rules->known = known;
    ports_rows(rules->c, ports_rule_row, rules);
}

/* Questions to the name servers, over both protocols. */
static void
ports_rule_dns(const struct ports_rules *rules)
{
    const struct config *c = rules->c;
    size_t n = c->nresolvers > 0 ? c->nresolvers : rules->machine->nresolvers;
    size_t i;
    for (i = 0; ports_dns_count(c) > 0 && i < 2 * n; i++) {
        const struct config_address *a = c->nresolvers > 0 ? &c->resolvers[i / 2].address
            : &rules->machine->resolvers[i / 2];
        struct ports_rule r = { .protocol = i % 2 == 0 ? "udp" : "tcp", .comment = "DNS" };
        r.port = a->port;
        r.family = a->sa.ss_family;
        config_put_address(&r.destination, a);
        ports_put_rule(rules, &r);
    }
}

/* The port of a row is closed for all others.  Not that of a static route: it may be anything's. */
static void
ports_rule_rest(const struct ports_row *row, void *user)
{
    struct ports_rules *rules = user;
    struct ports_rule r = { .protocol = "tcp", .port = row->port, .verdict = PORTS_DROP,
        .comment = "nothing else on this port" };
    unsigned i;
    for (i = 0; i < rules->nports; i++)
        if (rules->ports[i] == row->port)
            return;
    if (row->in != rules->in || row->partner.len > 0)
        return;
    if (rules->nports < sizeof rules->ports / sizeof *rules->ports)
        rules->ports[rules->nports++] = row->port;
    ports_put_rule(rules, &r);
}

/* ---- never ---- */

/* Nothing begins at the internal address of an edge, whichever program it is. */
static void
ports_rule_internal(const struct ports_rules *rules)
{
    const struct config_address *in = &rules->c->internal.address;
    struct ports_rule r = { .protocol = "tcp", .verdict = PORTS_DROP,
        .comment = "never: edge to LAN" };
    if (config_address_is_any(in))
        return;
    r.family = in->sa.ss_family;
    config_put_address(&r.source, in);
    ports_put_rule(rules, &r);
}

/* Nothing comes to a gateway from an edge. */
static void
ports_rule_edges(const struct ports_rules *rules)
{
    const struct config *c = rules->c;
    size_t i;
    for (i = 0; i < c->nedges; i++) {
        struct ports_rule r = { .protocol = "tcp", .verdict = PORTS_DROP,
            .comment = "never: edge to LAN" };
        r.family = c->edges[i].host.address.sa.ss_family;
        buf_puts(&r.source, c->edges[i].host.name);
        ports_put_rule(rules, &r);
    }
}

static bool
ports_is_v4(const struct reach_net *net)
{
    return net->bits >= 96 && memcmp(net->at, net_mapped, sizeof net_mapped) == 0;
}

/* A network of the chain of those where nobody is to be reached: `what` is there, or, when NULL,
 * a partner may be.  Only in the families that row 2 has. */
static void
ports_rule_net(const struct ports_rules *rules, const struct reach_net *net, const char *what)
{
    char text[REACH_TEXT_MAX];
    struct buf comment = { 0 };
    struct ports_rule r = { .verdict = what == NULL ? PORTS_RETURN : PORTS_DROP };
    int family = ports_family(&rules->c->external.address);
    r.family = ports_is_v4(net) ? AF_INET : AF_INET6;
    if (family != AF_UNSPEC && family != r.family)
        return;
    buf_puts(&r.destination, reach_net_text(net, text));
    buf_puts(&comment, what == NULL ? "row 2" : "never: ");
    buf_puts(&comment, what == NULL ? "" : what);
    r.comment = buf_text(&comment);
    ports_put_rule(rules, &r);
    buf_fail_with(rules->out, &comment);
    buf_free(&comment);
}

/* The same network of IPv4 in those addresses of IPv6 that carry one and lead to partners. */
static void
ports_rule_carried(const struct ports_rules *rules, const struct reach_net *net, const char *what,
    unsigned bits)
{
    size_t i;
    for (i = 0; i < REACH_BLOCKS; i++) {
        const struct reach_block *b = &reach_blocks[i];
        struct reach_net carrier = reach_block_net(b);
        if (b->what != NULL || b->v4_at == 0 || b->v4_at * 8 + net->bits - 96 != bits)
            continue;
        memcpy(carrier.at + b->v4_at, net->at + 12, 4);
        carrier.bits = bits;
        ports_rule_net(rules, &carrier, what);
    }
}

/* A network, where it or what carries it is `bits` long. */
static void
ports_rule_block(const struct ports_rules *rules, const struct reach_net *net, const char *what,
    unsigned bits)
{
    if (net->bits == bits)
        ports_rule_net(rules, net, what);
    if (ports_is_v4(net) && net->bits > 96)
        ports_rule_carried(rules, net, what, bits);
}

static void
ports_rule_opened(const struct ports_rules *rules, const struct reach_list *list,
    unsigned bits)
{
    size_t i;
    for (i = 0; i < list->count; i++)
        ports_rule_block(rules, &list->list[i], NULL, bits);
}

/* Networks of this machine's inside; its addresses have a rule of their own. */
static bool
ports_is_inside(const struct reach_own *own)
{
    return own->net.bits < 128;
}

static bool
ports_has_net(const struct reach_list *list, const struct reach_net *net)
{
    size_t i;
    for (i = 0; i < list->count; i++)
        if (list->list[i].bits == net->bits && reach_net_has(&list->list[i], net->at))
            return true;
    return false;
}

/* Opened as it is: nothing is left of it to be closed. */
static bool
ports_is_opened(const struct config *c, const struct reach_net *net)
{
    bool opened = ports_has_net(&c->external.networks, net);
    size_t i;
    for (i = 0; i < c->partners.count && !opened; i++)
        opened = ports_has_net(&c->partners.list[i].networks, net);
    return opened;
}

/* Where no partner can be, for networks of one length. */
static void
ports_rule_closed(const struct ports_rules *rules, unsigned bits)
{
    const struct reach_machine *here = &rules->machine->here;
    size_t i;
    for (i = 0; i < here->nown; i++)
        if (ports_is_inside(&here->own[i]))
            ports_rule_block(rules, &here->own[i].net, here->own[i].what, bits);
    for (i = 0; i < REACH_BLOCKS; i++) {
        struct reach_net net = reach_block_net(&reach_blocks[i]);
        if (!ports_is_opened(rules->c, &net))
            ports_rule_block(rules, &net, reach_blocks[i].what, bits);
    }
}

/* The decision of [REACH]: the narrowest network decides, so narrow ones come first, and of equal
 * ones those that the configuration opens.  For whom it opens them a packet does not say. */
static void
ports_rule_blocks(const struct ports_rules *rules)
{
    const struct config *c = rules->c;
    unsigned bits = 129;
    size_t i;
    while (bits-- > 0) {
        ports_rule_opened(rules, &c->external.networks, bits);
        for (i = 0; i < c->partners.count; i++)
            ports_rule_opened(rules, &c->partners.list[i].networks, bits);
        ports_rule_closed(rules, bits);
    }
}

/* ---- chains ---- */

/* What was there before a connection was begun is none of the rules' business. */
static void
ports_chain_begin(struct ports_rules *rules, enum ports_chain chain)
{
    struct buf *out = rules->out;
    bool base = chain == PORTS_IN || chain == PORTS_OUT;
    rules->chain = chain;
    rules->nports = 0;
    if (rules->iptables && base) {
        buf_puts(out, "-A ");
        buf_puts(out, ports_chains[chain].iptables);
        buf_puts(out, " -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN\n");
    }
    if (rules->iptables)
        return;
    buf_puts(out, "    chain ");
    buf_puts(out, ports_chains[chain].nft);
    buf_puts(out, " {\n");
    if (!base)
        return;
    buf_puts(out, "        type filter hook ");
    buf_puts(out, ports_chains[chain].nft);
    buf_puts(out, " priority 0; policy accept;\n        ct state established,related accept\n");
}

static void
ports_chain_end(struct ports_rules *rules)
{
    if (!rules->iptables)
        buf_puts(rules->out, "    }\n");
}

static void
ports_chain_never(struct ports_rules *rules)
{
    ports_chain_begin(rules, PORTS_NEVER);
    ports_rule_blocks(rules);
    ports_chain_end(rules);
}

/* Whether packets of the service can be told from others: root's are everybody's. */
static bool
ports_user_known(const struct config *c)
{
    return c->user != NULL && strcmp(c->user, "root") != 0 && strcmp(c->user, "0") != 0;
}

/* From the external address of an edge to where no partner can be; of other programs nothing is
 * known that would forbid it. */
static void
ports_rule_external(const struct ports_rules *rules)
{
    const struct config_address *ex = &rules->c->external.address;
    struct ports_rule local = { .local = true, .verdict = PORTS_DROP,
        .comment = "never: edge to itself" };
    struct ports_rule never = { .verdict = PORTS_TO_NEVER };
    if (rules->chain == PORTS_SERVICE) {
        ports_put_rule(rules, &local);
        ports_put_rule(rules, &never);
    } else if (!ports_user_known(rules->c) && !config_address_is_any(ex)) {
        never.family = ex->sa.ss_family;
        never.protocol = "tcp";
        config_put_address(&never.source, ex);
        ports_put_rule(rules, &never);
    }
}

/* What may go out: whereto the configuration leads and, from an edge, to the port of row 2 where
 * partners can be.  If an edge has one address for both sides, row 2 is all that leaves from it. */
static void
ports_rules_out(struct ports_rules *rules)
{
    const struct config *c = rules->c;
    bool one = config_same_address(&c->external.address, &c->internal.address);
    ports_rule_rows(rules, false, true);
    ports_rule_dns(rules);
    if (c->role == CONFIG_GATEWAY)
        return;
    if (!one)
        ports_rule_internal(rules);
    ports_rule_external(rules);
    ports_rule_rows(rules, false, false);
    if (one)
        ports_rule_internal(rules);
}

static void
ports_chain_service(struct ports_rules *rules)
{
    struct ports_rule rest = { .verdict = PORTS_DROP, .comment = "nothing else of the service" };
    ports_chain_begin(rules, PORTS_SERVICE);
    ports_rules_out(rules);
    ports_put_rule(rules, &rest);
    ports_chain_end(rules);
}

/* A gateway refuses edges before all else. */
static void
ports_chain_in(struct ports_rules *rules)
{
    ports_chain_begin(rules, PORTS_IN);
    ports_rule_edges(rules);
    ports_rule_rows(rules, true, true);
    ports_rows(rules->c, ports_rule_rest, rules);
    ports_chain_end(rules);
}

static void
ports_chain_out(struct ports_rules *rules)
{
    struct ports_rule service = { .service = true, .verdict = PORTS_TO_SERVICE };
    ports_chain_begin(rules, PORTS_OUT);
    if (ports_user_known(rules->c))
        ports_put_rule(rules, &service);
    ports_rules_out(rules);
    ports_rows(rules->c, ports_rule_rest, rules);
    ports_chain_end(rules);
}

static void
ports_all_chains(struct ports_rules *rules)
{
    if (rules->c->role == CONFIG_EDGE)
        ports_chain_never(rules);
    if (ports_user_known(rules->c))
        ports_chain_service(rules);
    ports_chain_in(rules);
    ports_chain_out(rules);
}

static void
ports_nft(struct ports_rules *rules)
{
    /* the table is made if it is not there, so that it can be deleted: all in one transaction */
    buf_puts(rules->out, "table inet xmppedge\ndelete table inet xmppedge\n"
        "table inet xmppedge {\n");
    ports_all_chains(rules);
    buf_puts(rules->out, "}\n");
}

/* What is there of a chain goes with its line here; all in one transaction, too. */
static void
ports_iptables_restore(struct ports_rules *rules, int family, const char *command)
{
    struct buf *out = rules->out;
    size_t i;
    rules->family = family;
    buf_puts(out, command);
    buf_puts(out, "-restore --noflush <<'END'\n*filter\n");
    for (i = 0; i < PORTS_CHAINS; i++) {
        buf_putc(out, ':');
        buf_puts(out, ports_chains[i].iptables);
        buf_puts(out, " - [0:0]\n");
    }
    ports_all_chains(rules);
    buf_puts(out, "COMMIT\nEND\n");
}

/* From a chain of the system's to one of ours, unless it is there. */
static void
ports_put_jump(struct buf *out, const char *command, const char *rule)
{
    buf_puts(out, command);
    buf_puts(out, " -C ");
    buf_puts(out, rule);
    buf_puts(out, " 2>/dev/null || ");
    buf_puts(out, command);
    buf_puts(out, " -I ");
    buf_puts(out, rule);
    buf_putc(out, '\n');
}

static void
ports_iptables(struct ports_rules *rules)
{
    static const struct { int family; const char *command; } tables[] = {
        { AF_INET, "iptables" }, { AF_INET6, "ip6tables" } };
    size_t i;
    buf_puts(rules->out, "set -e\n");
    for (i = 0; i < 2; i++) {
        ports_iptables_restore(rules, tables[i].family, tables[i].command);
        ports_put_jump(rules->out, tables[i].command, "INPUT -j XMPPEDGE-IN");
        ports_put_jump(rules->out, tables[i].command, "OUTPUT -j XMPPEDGE-OUT");
    }
}

/* ---- what stands beside the rows ---- */

/* What row 2 leaves out. */
static void
ports_notes(const struct config *c, struct buf *out)
{
    if (c->role == CONFIG_EDGE)
        buf_puts(out, "# not in row 2: partners may announce other ports in DNS, for direct TLS "
            "often 5270 or 443\n");
}

static bool
ports_inside_known(const struct ports_machine *machine)
{
    size_t i;
    for (i = 0; i < machine->here.nown; i++)
        if (ports_is_inside(&machine->here.own[i]))
            return true;
    return false;
}

/* What rules cannot do here, or not for long. */
static void
ports_rules_notes(const struct config *c, const struct ports_machine *machine, struct buf *out)
{
    if (!ports_user_known(c))
        buf_puts(out, "# <run user=\"...\"/> is absent, or root: the service cannot be told from "
            "other programs, so what\n# never may be is dropped of all of them, over TCP, and "
            "what else the service sends is not.\n");
    if (c->nresolvers == 0 && ports_dns_count(c) > 0)
        buf_puts(out, "# DNS goes to the name servers of /etc/resolv.conf as it is now; "
            "<resolver> would name them.\n");
    if (c->role == CONFIG_EDGE && !ports_inside_known(machine))
        buf_puts(out, "# No interface here has the internal address: what network is behind it, "
            "only the edge itself can tell.\n");
}

/* A rule with a host name would depend on DNS when it is loaded, and be wrong when that changes. */
static bool
ports_only_addresses(const struct config *c, struct buf *errors)
{
    bool good = true;
    size_t i;
    for (i = 0; i < c->nedges; i++) {
        if (c->edges[i].host.address.len > 0)
            continue;
        config_put_where(errors, c, c->edges[i].line);
        buf_puts(errors, "<edge> address: packet filters need an address, found the host name ");
        buf_puts(errors, c->edges[i].host.name);
        buf_puts(errors, "; make the rules from a copy of this file with the address in it\n");
        good = false;
    }
    return good;
}

/* Nor would a rule, or a shell, take every text for a user. */
static bool
ports_only_words(const struct config *c, struct buf *errors)
{
    static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    if (c->user == NULL || (*c->user != '\0' && *c->user != '-'
        && c->user[strspn(c->user, fine)] == '\0'))
        return true;
    config_put_where(errors, c, c->run_line);
    buf_puts(errors, "<run> user: packet filters need letters, digits, '_', '.' and '-', found ");
    buf_put_json(errors, span_of(c->user), SIZE_MAX);
    buf_putc(errors, '\n');
    return false;
}

static bool
ports_resolver(const char *text, struct config_address *a)
{
    bool good = config_parse_address(text, a);
    config_set_port(a, 53);
    return good;
}

/* The name servers that the system asks (resolv.conf(5)): that of this machine if the file names
 * none.  What stands behind '%' is the interface. */
static void
ports_machine_resolvers(struct ports_machine *m, const char *file)
{
    char line[PORTS_LINE_MAX];
    char word[INET6_ADDRSTRLEN];
    FILE *f = fopen(file, "r");
    m->nresolvers = 0;
    while (f != NULL && m->nresolvers < PORTS_RESOLVERS_MAX && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, " nameserver %45[0-9a-fA-F.:]", word) == 1
            && ports_resolver(word, &m->resolvers[m->nresolvers]))
            m->nresolvers++;
    if (f != NULL)
        fclose(f);
    if (m->nresolvers == 0)
        m->nresolvers = ports_resolver("127.0.0.1", &m->resolvers[0]);
}

/* What is to be known of this machine.  False with a line in `errors` when memory is out. */
static bool
ports_machine_read(struct ports_machine *m, const struct config *c, struct buf *errors)
{
    memset(m, 0, sizeof *m);
    ports_machine_resolvers(m, "/etc/resolv.conf");
    if (c->role != CONFIG_EDGE || reach_machine_read(&m->here, 0, &c->external.address.sa,
        &c->internal.address.sa))
        return true;
    buf_puts(errors, "out of memory\n");
    return false;
}

static void
ports_machine_free(struct ports_machine *m)
{
    reach_machine_free(&m->here);
}

/* The rules for this machine, which permit the rows and nothing else of the service.  False with
 * lines in `errors` when they cannot be made. */
static bool
ports_print_rules(const struct config *c, const struct ports_machine *machine, bool iptables,
    struct buf *out, struct buf *errors)
{
    struct ports_rules rules = { .c = c, .machine = machine, .out = out, .iptables = iptables };
    bool addresses = ports_only_addresses(c, errors);
    if (!ports_only_words(c, errors) || !addresses)
        return false;
    ports_rules_notes(c, machine, out);
    if (iptables)
        ports_iptables(&rules);
    else
        ports_nft(&rules);
    ports_notes(c, out);
    return true;
}

static void
ports_print_table(const struct config *c, struct buf *out)
{
    buf_puts(out, "row    protocol/port    source (IP)         destination (IP)    comment\n");
    ports_rows(c, ports_row_text, out);
    ports_rows_never(c, ports_row_text, out);
    ports_dns_text(c, out);
    ports_notes(c, out);
}

static void
ports_print_json(const struct config *c, struct buf *out)
{
    buf_puts(out, "{\"role\":\"");
    buf_puts(out, config_roles[c->role]);
    buf_puts(out, "\",\"name\":\"");
    buf_put(out, c->name);
    buf_puts(out, "\",\"rows\":[");
    ports_rows(c, ports_row_json, out);
    buf_puts(out, "\n],\"never\":[");
    ports_rows_never(c, ports_row_json, out);
    buf_puts(out, "\n],\"dns\":[");
    ports_dns_json(c, out);
    buf_puts(out, "]}\n");
}

/* The port summary of this configuration: what it opens and where it connects to, as a table for
 * people, as JSON, or as rules for `machine`.  False with lines in `errors`: no rules can be. */
static bool
ports_print(const struct config *c, enum ports_format format, const struct ports_machine *machine,
    struct buf *out, struct buf *errors)
{
    if (format == PORTS_NFT || format == PORTS_IPTABLES)
        return ports_print_rules(c, machine, format == PORTS_IPTABLES, out, errors);
    if (format == PORTS_JSON)
        ports_print_json(c, out);
    else
        ports_print_table(c, out);
    return true;
}

/* ===========================================================================
 * [STREAM] stream_       one XML stream over one connection (RFC 6120 4)
 * calls:  BASE BUF WHY JID XML ELEM PHASE MAP NET LOG LOOP TLS CONN AUTH CONFIG
 *
 *                stream_start()
 *                     |
 *                  HEADER <----- stream_restart() after TLS and after SASL
 *                     |  the peer's header              |
 *                   OPEN --stream_start_tls()--> TLS ---+  the handshake is complete
 *                     |
 *    stream_close(), stream_quit() | stream_fail(), the peer's </stream:stream>
 *                     |            |
 *                  CLOSING         |    our end tag is sent; the peer may still finish
 *                     |            |
 *                   ENDED <--------+    events->ended(), exactly once
 *
 * What a peer has under way when we close is taken, whatever the reason: only a violation of its
 * own ends a stream at once.
 *
 * A stream turns bytes into headers and complete first-level elements, keeps the limits that hold
 * before authentication, and words the ends.  It knows nothing of who may talk to whom.
 *
 * Costs: 3.1 KiB, and the bytes of an element that is not complete, at most those of its limit.
 * Not done: compression (XEP-0138).  Beside TLS it tells what is encrypted (RFC 7457 2.6).
 * ======================================================================== */

#define STREAM_NS_SERVER  "jabber:server"
#define STREAM_NS_ERRORS  "urn:ietf:params:xml:ns:xmpp-streams"
#define STREAM_NS_STANZAS "urn:ietf:params:xml:ns:xmpp-stanzas"
#define STREAM_NS_LIMITS  "urn:xmpp:stream-limits:0"

/* The beginning of every header of ours. */
#define STREAM_BEGIN \
    "<stream:stream xmlns='" STREAM_NS_SERVER "' xmlns:stream='" PHASE_NS_STREAMS "'"

#define STREAM_ID_BYTES   16        /* of randomness in a stream id: dialback keys rest on it */

/* What all streams of one running instance share. */
struct stream_shared {
    struct wire                *wire;     /* borrowed */
    struct loop                *loop;     /* borrowed */
    struct log                 *log;      /* borrowed */
    struct tls_shared          *tls;      /* borrowed */
    struct net_book            *nets;     /* borrowed */
    const struct config_limits *limits;   /* borrowed; replaced by a reload */
    struct xe_xml_event         event;    /* the event being told; large, so there is one */
    struct buf                  text;     /* for putting headers and errors together */
};

#define STREAM_STATES(X) \
    X(STREAM_HEADER,  "header") \
    X(STREAM_OPEN,    "open") \
    X(STREAM_TLS,     "tls") \
    X(STREAM_CLOSING, "closing") \
    X(STREAM_ENDED,   "ended")

enum stream_state {
    STREAM_STATES(XE_MEMBER)
};

struct stream;

struct stream_events {
    void (*header)(struct stream *s, const struct xe_xml_event *e);   /* namespaces are right */
    void (*element)(struct stream *s, const struct xe_xml_event *e);
    void (*secured)(struct stream *s);                    /* TLS is up; call stream_restart() */
    void (*drained)(struct stream *s);                    /* all that was sent has been written */
    void (*ended)(struct stream *s, enum xe_why why);     /* last call, exactly once */
    void (*hello)(struct stream *s);     /* the peer begins with TLS; NULL: that is an error */
    void (*parting)(struct stream *s);   /* the last chance to say something.  NULL: no need */
};

struct stream {
    /* others may read these */
    enum stream_state           state;
    struct conn                *conn;        /* owned; NULL when ended */
    bool                        initiator;   /* we opened it */
    bool                        version_1;   /* the peer's header says version 1.0 */
    bool                        peer_closed; /* its end tag has come */
    char                        id[STREAM_ID_MAX];          /* drawn by the receiving side */
    char                        detail[STREAM_DETAIL_MAX];  /* what the peer says of the end */
    uint64_t                    elements;    /* first-level elements received */
    int64_t                     heard;       /* ms, when something was last received */
    int64_t                     spoke;       /* ms, when something was last sent */
    struct xe_xml               xml;
    /* private */
    struct stream_shared       *shared;      /* borrowed */
    bool                        trusted;     /* authenticated: the early limits are lifted */
    bool                        header_sent; /* on this (re)start */
    enum xe_why                 why;         /* the end that is under way */
    struct tls                 *next_tls;    /* owned; TLS begins when this batch is done */
    struct xe_span              next_tls_say; /* in the clear, right before it */
    struct timer                timer;       /* the peer's end tag does not come */
    int64_t                     void_at;     /* ms; so long what comes behind ours is taken */
    const struct stream_events *events;      /* borrowed, static */
};

static const char *
stream_state_name(enum stream_state state)
{
    switch (state) {
    STREAM_STATES(XE_WORD)
    }
    return "?";
}

static bool
stream_is_secure(const struct stream *s)
{
    return s->conn != NULL && s->conn->tls != NULL && s->conn->state != CONN_HANDSHAKE;
}

static void
stream_enter(struct stream *s, enum stream_state next)
{
    struct log *log = s->shared->log;
    if (log_wants(log, LOG_DEBUG)
        && log_begin(log, LOG_DEBUG, "stream-state", span_make(NULL, 0))) {
        char at[CONN_TEXT_MAX];
        log_text(log, "was", stream_state_name(s->state));
        log_text(log, "is", stream_state_name(next));
        if (s->conn != NULL)
            log_text(log, "peer", conn_address_text(&s->conn->peer, at));
        log_end(log);
    }
    s->state = next;
}

/* Remember in words what the other side, or a library, says about the end. */
static void
stream_note(struct stream *s, struct xe_span text)
{
    size_t n = text.len < sizeof s->detail - 1 ? text.len : sizeof s->detail - 1;
    while (n > 0 && n < text.len && ((unsigned char)text.at[n] & 0xc0) == 0x80)
        n--;   /* not in the middle of a character */
    if (n > 0)
        memcpy(s->detail, text.at, n);
    s->detail[n] = '\0';
}

/* An attribute value or text as received, made a C string; false, and "", when it does not fit. */
static bool
stream_unescape(struct xe_span value, char *out, size_t size)
{
    size_t n = value.at == NULL ? SIZE_MAX : xe_xml_unescape(value, out, size - 1);
    out[n == SIZE_MAX ? 0 : n] = '\0';
    return n != SIZE_MAX;
}

/* ---- sending ---- */

static bool
stream_send(struct stream *s, struct xe_span bytes)
{
    if (s->conn == NULL || s->state == STREAM_CLOSING || !conn_send(s->conn, bytes))
        return false;   /* behind our end tag there is nothing to say */
    s->spoke = loop_now(s->shared->loop);
    return true;
}

/* The shared text, empty, for putting something together that stream_send_text() then sends. */
static struct buf *
stream_text(struct stream *s)
{
    buf_clear(&s->shared->text);
    return &s->shared->text;
}

static bool
stream_send_text(struct stream *s)
{
    struct buf *text = &s->shared->text;
    return !text->failed && stream_send(s, buf_span(text));
}

/* XEP-0198: so many stanzas have been handled. */
static void
stream_send_ack(struct stream *s, uint32_t h)
{
    struct buf *text = stream_text(s);
    buf_puts(text, "<a xmlns='" PHASE_NS_SM "' h='");
    buf_putu(text, h);
    buf_puts(text, "'/>");
    stream_send_text(s);
}

/* A number of 32 bits (unsignedInt of XML Schema: white space around it does not count); -1 when it
 * is none. */
static int64_t
stream_number(struct xe_span text)
{
    struct xe_span digits = xml_skip_space(text);
    int64_t value = 0;
    size_t n = 0;
    for (; n < digits.len && digits.at[n] >= '0' && digits.at[n] <= '9'; n++) {
        value = value * 10 + (digits.at[n] - '0');
        if (value > UINT32_MAX)
            return -1;
    }
    return n > 0 && xml_skip_space(span_skip(digits, n)).len == 0 ? value : -1;
}

/* How many of the stanzas that were sent are acknowledged by this <a/> and were not before; they
 * are counted modulo 2^32 (XEP-0198 4).  False when there are not so many as it says. */
static bool
stream_read_ack(const struct xe_xml_event *e, uint32_t acked, size_t sent, uint32_t *fresh)
{
    int64_t h = stream_number(xe_xml_attr(e, "h"));
    *fresh = (uint32_t)h - acked;
    return h >= 0 && *fresh <= sent;
}

/* A domain in normal form, as it is written on a stream. */
static void
stream_put_domain(struct buf *t, const char *name, struct xe_span domain)
{
    struct jid_forms forms;
    xmlout_attr(t, name, jid_unicode(domain, &forms));
}

/* SASL EXTERNAL, with the domain that we claim. */
static bool
stream_send_auth(struct stream *s, struct xe_span domain)
{
    struct buf *t = stream_text(s);
    char claim[SASL_TEXT_MAX];
    struct jid_forms forms;
    sasl_external_encode(jid_unicode(domain, &forms), claim, sizeof claim);
    buf_puts(t, "<auth xmlns='" PHASE_NS_SASL "' mechanism='EXTERNAL'>");
    buf_puts(t, claim);
    buf_puts(t, "</auth>");
    return stream_send_text(s);
}

static bool
stream_new_id(struct stream_shared *v, char id[2 * STREAM_ID_BYTES + 1])
{
    unsigned char bytes[STREAM_ID_BYTES];
    if (!tls_random(v->tls, bytes, sizeof bytes))
        return false;
    *text_hex(id, bytes, sizeof bytes) = '\0';
    return true;
}

/* Send our header.  `from` and `to` may be absent.  No xml:lang: a default language on our header
 * would be stamped onto the stanzas of others.  The dialback prefix is always declared: some peers
 * want to see it even on streams that never use it. */
static bool
stream_send_header(struct stream *s, struct xe_span from, struct xe_span to)
{
    struct buf *t = stream_text(s);
    buf_puts(t, "<?xml version='1.0'?>" STREAM_BEGIN " xmlns:db='" PHASE_NS_DIALBACK "'");
    if (from.at != NULL && from.len > 0)
        stream_put_domain(t, "from", from);
    if (to.at != NULL && to.len > 0)
        stream_put_domain(t, "to", to);
    if (!s->initiator) {
        if (!stream_new_id(s->shared, s->id))
            return false;
        xmlout_attr(t, "id", span_of(s->id));
    }
    if (s->initiator || s->version_1)   /* RFC 6120 4.7.5: none in answer to none */
        buf_puts(t, " version='1.0'");
    buf_putc(t, '>');
    s->header_sent = true;
    return stream_send_text(s);
}

/* ---- ends ---- */

static void
stream_end(struct stream *s, enum xe_why why)
{
    struct conn *c = s->conn;
    if (s->state == STREAM_ENDED)
        return;
    timer_cancel(s->shared->loop, &s->timer);
    stream_enter(s, STREAM_ENDED);
    tls_free(s->next_tls);
    s->next_tls = NULL;
    s->why = why;
    s->events->ended(s, why);
    s->conn = NULL;
    if (c != NULL)
        conn_close(c);
}

static void
stream_part(struct stream *s)
{
    if (s->events->parting != NULL)
        s->events->parting(s);
}

static void
stream_put_error(struct buf *t, const char *condition, const char *text)
{
    buf_puts(t, "<stream:error><");
    buf_puts(t, condition);
    buf_puts(t, " xmlns='" STREAM_NS_ERRORS "'/><text xmlns='" STREAM_NS_ERRORS "' xml:lang='en'>");
    xmlout_text(t, span_of(text));
    buf_puts(t, "</text></stream:error>");
}

/* The stream error of `why` (RFC 6120 4.9), if it has one, and our end tag. */
static void
stream_say_why(struct stream *s, enum xe_why why, const char *text)
{
    const struct xe_why_row *row = xe_why(why);
    struct buf *t;
    if (!s->header_sent)
        stream_send_header(s, span_make(NULL, 0), span_make(NULL, 0));
    stream_part(s);
    t = stream_text(s);
    if (row->stream[0] != '\0')
        stream_put_error(t, row->stream, text != NULL ? text : row->text);
    if ((why == XE_WHY_STANZA_TOO_BIG || why == XE_WHY_STANZA_ENDLESS) && !t->failed) {
        /* Prosody's, beside RFC 6120 13.12 */
        t->tail -= strlen("</stream:error>");
        buf_puts(t, "<stanza-too-big xmlns='urn:xmpp:errors'/></stream:error>");
    }
    buf_puts(t, "</stream:stream>");
    stream_send_text(s);
}

/* End the stream with the stream error of `why`, and hear no more of the peer.  `text` replaces the
 * sentence of the reason; NULL keeps it. */
static void
stream_fail_with(struct stream *s, enum xe_why why, const char *text)
{
    if (s->state == STREAM_ENDED)
        return;
    if (s->conn != NULL && conn_is_up(s->conn) && s->state != STREAM_CLOSING
        && s->state != STREAM_TLS)
        stream_say_why(s, why, text);
    stream_end(s, why);
}

static void
stream_fail(struct stream *s, enum xe_why why)
{
    stream_fail_with(s, why, NULL);
}

/* The peer's end tag does not come, or the end of a stanza that is read past.  Who is not read from
 * cannot say it. */
static void
stream_timeout(struct timer *t)
{
    struct stream *s = MAP_OWNER(t, struct stream, timer);
    int64_t now = loop_now(s->shared->loop);
    int64_t quiet = s->conn->paused ? 0 : now - s->heard;   /* who is not read may have said much */
    if (s->state != STREAM_CLOSING && s->conn->paused)
        timer_set(s->shared->loop, t, s->shared->limits->past_ms);
    else if (s->state != STREAM_CLOSING)
        stream_fail(s, XE_WHY_STANZA_ENDLESS);
    else if (quiet < s->shared->limits->close_ms && now < s->void_at)
        timer_set(s->shared->loop, t, s->shared->limits->close_ms - quiet);
    else
        stream_end(s, s->why);
}

/* Our last words are said: the peer's end tag is awaited, and until then it may finish what it
 * began (RFC 6120 4.4). */
static void
stream_finish(struct stream *s, enum xe_why why)
{
    s->why = why;
    stream_enter(s, STREAM_CLOSING);
    s->void_at = loop_now(s->shared->loop) + STREAM_LATE_MS;
    timer_set(s->shared->loop, &s->timer, s->shared->limits->close_ms);
    if (s->peer_closed)
        stream_end(s, why);
}

static bool
stream_is_ending(const struct stream *s)
{
    return s->state == STREAM_ENDED || s->state == STREAM_CLOSING;
}

/* End in good order. */
static void
stream_close(struct stream *s, enum xe_why why)
{
    if (stream_is_ending(s))
        return;
    if (s->conn == NULL || !conn_is_up(s->conn) || !s->header_sent) {
        stream_end(s, why);
        return;
    }
    stream_part(s);
    stream_send(s, span_of("</stream:stream>"));
    stream_finish(s, why);
}

/* The same, and the peer is told why with a stream error: no less may it finish. */
static void
stream_quit(struct stream *s, enum xe_why why)
{
    if (stream_is_ending(s))
        return;
    if (s->conn == NULL || !conn_is_up(s->conn) || s->state != STREAM_OPEN) {
        stream_fail(s, why);
        return;
    }
    stream_say_why(s, why, NULL);
    stream_finish(s, why);
}

/* The peer's end tag: answer it, unless it answers ours. */
static void
stream_peer_closed(struct stream *s)
{
    s->peer_closed = true;
    if (s->state == STREAM_CLOSING) {
        stream_end(s, s->why);
        return;
    }
    if (!s->header_sent)
        stream_send_header(s, span_make(NULL, 0), span_make(NULL, 0));
    stream_part(s);
    stream_send(s, span_of("</stream:stream>"));
    stream_end(s, XE_WHY_PEER_CLOSED);
}

/* ---- receiving ---- */

/* <stream:error/> from the peer: keep its words for the log, or where it sends us. */
static void
stream_peer_error(struct stream *s, const struct xe_xml_event *e)
{
    struct elem tree = elem_parse(&s->xml, e);
    struct buf *t = stream_text(s);
    enum xe_why why = XE_WHY_PEER_ERROR;
    struct elem child;
    for (child = elem_first(tree); child.at != NULL; child = elem_next(child)) {
        if (elem_is(child, "text", STREAM_NS_ERRORS)) {
            buf_puts(t, ": ");
            elem_put_text(t, child);
        } else if (buf_len(t) == 0 && elem_is(child, "see-other-host", STREAM_NS_ERRORS)) {
            why = XE_WHY_SEE_OTHER_HOST;
            elem_put_text(t, child);
        } else if (buf_len(t) == 0) {
            buf_put(t, elem_name(child));
        }
    }
    stream_note(s, buf_span(t));
    elem_free(tree);
    stream_end(s, why);
}

static bool
stream_header_ok(struct stream *s, const struct xe_xml_event *e)
{
    struct xe_span version = xe_xml_attr(e, "version");
    if (!span_is(e->name, "stream") || !span_is(e->ns, PHASE_NS_STREAMS)) {
        stream_fail(s, span_is(e->name, "stream") ? XE_WHY_BAD_NAMESPACE : XE_WHY_NOT_XMPP);
        return false;
    }
    s->version_1 = version.at != NULL && version.len >= 3 && version.at[0] >= '1'
        && version.at[0] <= '9';
    if (e->flags & XE_XML_UNBOUND || !span_is(xe_xml_stream_ns(&s->xml, ""), STREAM_NS_SERVER)) {
        stream_fail(s, XE_WHY_BAD_NAMESPACE);
        return false;
    }
    return true;
}

static void
stream_on_header(struct stream *s, const struct xe_xml_event *e)
{
    struct xe_span id = xe_xml_attr(e, "id");
    if (!stream_header_ok(s, e))
        return;
    if (s->initiator && !stream_unescape(id, s->id, sizeof s->id) && id.at != NULL) {
        stream_fail(s, XE_WHY_HEADER_TOO_BIG);   /* no dialback key could be made of a part of it */
        return;
    }
    if (s->state == STREAM_CLOSING)
        return;   /* our end tag is out: an answer to our header opens nothing any more */
    stream_enter(s, STREAM_OPEN);
    s->events->header(s, e);
}

static bool
stream_is_stanza(enum xe_element_kind kind)
{
    return kind == XE_KIND_MESSAGE || kind == XE_KIND_PRESENCE || kind == XE_KIND_IQ;
}

/* Behind our end tag what was under way still arrives, and nothing begins anew (RFC 6120 4.4). */
static bool
stream_is_too_late(const struct stream *s, const struct xe_xml_event *e)
{
    enum xe_element_kind kind = xe_element_kind(e);
    return s->state == STREAM_CLOSING && !stream_is_stanza(kind) && kind != XE_KIND_SM_A;
}

/* Of an element over a limit only the start tag is told.  A stanza comes back to its sender; the
 * stream goes on when it has been read past; anything else is no user's doing. */
static bool
stream_may_pass(struct stream *s, const struct xe_xml_event *e)
{
    if (e->why == XE_WHY_NONE)
        return true;
    if (!stream_is_stanza(xe_element_kind(e))) {
        stream_fail(s, e->why);
        return false;
    }
    if (s->state != STREAM_CLOSING)
        timer_set(s->shared->loop, &s->timer, s->shared->limits->past_ms);
    return true;
}

static void
stream_on_element(struct stream *s, const struct xe_xml_event *e)
{
    s->elements++;
    if (!stream_may_pass(s, e))
        return;
    if (!s->trusted && s->elements > s->shared->limits->preauth_elements)
        stream_fail(s, XE_WHY_PREAUTH_ELEMENTS);
    else if (span_is(e->name, "error") && span_is(e->ns, PHASE_NS_STREAMS))
        stream_peer_error(s, e);
    else if (!stream_is_too_late(s, e))
        s->events->element(s, e);
}

/* Begin TLS.  `rest`, bytes behind <starttls/> or <proceed/>, was sent in the clear by somebody who
 * should have waited: an attacker's way to smuggle plaintext into the secured stream.  White space
 * is harmless and is seen in the wild. */
static void
stream_begin_tls(struct stream *s, struct xe_span rest)
{
    struct tls *tls = s->next_tls;
    if (xml_skip_space(rest).len > 0) {
        stream_enter(s, STREAM_OPEN);
        stream_fail(s, XE_WHY_TLS_INJECTION);
        return;
    }
    s->next_tls = NULL;
    if (s->next_tls_say.len > 0)
        stream_send(s, s->next_tls_say);
    conn_start_tls(s->conn, tls);
}

/* One event out of the bytes.  False when the rest has to wait, or is of no use any more. */
static bool
stream_step(struct stream *s, const char *at, size_t len, size_t *used)
{
    struct xe_xml_event *e = &s->shared->event;
    switch (xe_xml_next(&s->xml, at, len, used, e)) {
    case XE_XML_MORE:
        return false;
    case XE_XML_HEADER:
        stream_on_header(s, e);
        break;
    case XE_XML_ELEMENT:
        stream_on_element(s, e);
        break;
    case XE_XML_CLOSE:
        stream_peer_closed(s);
        break;
    case XE_XML_BAD:
        stream_fail(s, s->xml.why);
        break;
    }
    return s->state == STREAM_HEADER || s->state == STREAM_OPEN || s->state == STREAM_CLOSING;
}

static size_t
stream_received(struct conn *c, void *user, const char *at, size_t len)
{
    struct stream *s = user;
    size_t done = 0;
    size_t used = 0;
    s->heard = loop_now(s->shared->loop);
    if (!s->trusted && c->received > s->shared->limits->preauth_bytes) {
        stream_fail(s, XE_WHY_PREAUTH_BYTES);
        return len;
    }
    while (done < len && !c->paused && stream_step(s, at + done, len - done, &used)) {
        done += used;
        used = 0;
    }
    done += used;
    if (s->state != STREAM_CLOSING && timer_armed(&s->timer) && s->xml.state != XML_AT_PAST)
        timer_cancel(s->shared->loop, &s->timer);
    if (s->next_tls != NULL && s->state == STREAM_TLS) {
        stream_begin_tls(s, span_make(at + done, len - done));
        return len;
    }
    return done;
}

static void
stream_secured(struct conn *c, void *user)
{
    struct stream *s = user;
    (void)c;
    s->events->secured(s);
}

static void
stream_drained(struct conn *c, void *user)
{
    struct stream *s = user;
    (void)c;
    if (s->state != STREAM_ENDED)
        s->events->drained(s);
}

static void
stream_conn_closed(struct conn *c, void *user, enum xe_why why)
{
    struct stream *s = user;
    if (why == XE_WHY_TLS_FAILED && c->tls != NULL)
        stream_note(s, span_of(tls_facts(c->tls)->error));
    stream_end(s, s->state == STREAM_CLOSING ? s->why : why);
}

static void
stream_hello(struct conn *c, void *user)
{
    struct stream *s = user;
    (void)c;
    if (s->events->hello != NULL)
        s->events->hello(s);
    else
        stream_end(s, XE_WHY_NOT_XMPP);
}

/* ---- beginning ---- */

/* Forget what was said before TLS or SASL (RFC 6120 4.3.3) and wait for a new header. */
static void
stream_restart(struct stream *s)
{
    xe_xml_restart(&s->xml);
    s->header_sent = false;
    stream_enter(s, STREAM_HEADER);
}

/* TLS begins as soon as what was received together with the last element is found to be blank; only
 * then is `say` sent, which lasts as long as the program.  `tls` is taken. */
static void
stream_start_tls(struct stream *s, struct tls *tls, struct xe_span say)
{
    s->next_tls = tls;
    s->next_tls_say = say;
    stream_enter(s, STREAM_TLS);
}

/* TLS from the first byte (XEP-0368).  `tls` is taken. */
static void
stream_start_direct_tls(struct stream *s, struct tls *tls)
{
    stream_enter(s, STREAM_TLS);
    conn_start_tls(s->conn, tls);
}

/* What an element may be before authentication: nothing that is said there is deep. */
static struct xe_xml_limits
stream_early_limits(const struct config_limits *l)
{
    return (struct xe_xml_limits){ .header = l->header_bytes, .element = l->stanza_bytes,
        .depth = xml_smaller(l->depth, STREAM_EARLY_MAX),
        .attrs = xml_smaller(l->attributes, STREAM_EARLY_MAX) };
}

/* The peer is authenticated: the limits for strangers no longer hold.  `known` is its network when
 * the configuration names it; else NULL. */
static void
stream_trust(struct stream *s, struct net_source *known)
{
    const struct config_limits *l = s->shared->limits;
    if (known != NULL)
        net_prove(s->shared->nets, known, loop_now(s->shared->loop));
    s->trusted = true;
    xml_limit(&s->xml, &(struct xe_xml_limits){ .header = l->header_bytes,
        .element = l->stanza_bytes, .depth = (unsigned)l->depth, .attrs = (unsigned)l->attributes,
        .elements = (unsigned)l->elements, .past = l->past_bytes });
}

/* Begin a stream on a connected descriptor, which is taken.  False when memory is out. */
static bool
stream_start(struct stream *s, struct stream_shared *shared, int fd, bool initiator,
    const struct stream_events *events)
{
    static const struct conn_events conn_events = { stream_received, stream_secured, stream_drained,
        stream_conn_closed, stream_hello };
    struct xe_xml_limits limits = stream_early_limits(shared->limits);
    s->shared = shared;
    s->initiator = initiator;
    s->events = events;
    s->state = STREAM_HEADER;
    s->timer.fire = stream_timeout;
    s->heard = s->spoke = loop_now(shared->loop);
    s->header_sent = s->version_1 = s->peer_closed = s->trusted = false;
    s->elements = 0;
    s->id[0] = '\0';
    xe_xml_init(&s->xml, &limits);
    s->conn = conn_new(shared->wire, fd, limits.element, STREAM_OUT_MAX + limits.element,
        &conn_events, s);
    return s->conn != NULL;
}

/* Take whatever a tokenizer may take, elements of up to `bytes`: the other side of a trunk passes
 * what its own settings allow. */
static void
stream_widen(struct stream *s, size_t bytes)
{
    xml_limit(&s->xml, &(struct xe_xml_limits){ .header = s->xml.limits.header,
        .element = bytes, .past = 2 * bytes });
    if (s->conn != NULL)
        s->conn->in.max += bytes;
}

/* ===========================================================================
 * [S2S]   s2s_           a server-to-server connection: who is there, proven how, for which domains
 * calls:  BASE BUF WHY MAP NET LOG JID XML ELEM PHASE LOOP DNS TLS CONN POLICY AUTH CONFIG STREAM
 *
 * `local` is a domain that this node speaks for on its s2s side, `remote` one on the other side.
 * The same engine serves the edge (local: inner domains, remote: partners) and the gateway (local:
 * partners, remote: inner domains); what is allowed it asks its owner (events->admit).
 *
 * Accepted connections carry stanzas from a *set* of authorised pairs (remote, local); the first
 * may be proven by SASL EXTERNAL, every one by dialback (XEP-0220 multiplexing):
 *
 *   ACCEPTED --<starttls/>--> TLS --> ACCEPTED --<auth/>--> ACCEPTED --a pair is authorised--> OPEN
 *
 * Dialled connections carry stanzas of one pair, or ask dialback questions (`verify`): several when
 * one network wants to know more of the same server within a second (XEP-0220 2.6).  Who ends such
 * a connection before it has answered them all is asked one by one:
 *
 *   RESOLVING -> DIALLING -> HEADER -> FEATURES -> STARTTLS -> TLS -> HEADER -> FEATURES
 *        -> AUTH (EXTERNAL) -> HEADER -> FEATURES -> READY
 *        -> DIALBACK (db:result sent) -> READY
 *        -> VERIFYING (db:verify sent) -> the answer goes to the pair that waits for it
 *
 * Every state has its time limit (s2s_enter).  s2s_end() is the one way out: it tells the owner and
 * the waiting pair, exactly once, and the object is freed at the end of the turn.
 *
 * Dialback, seen from the receiver (XEP-0220 2.1): a request <db:result/> creates a pair in ASKED
 * and a verify connection to the authoritative server; its answer opens or removes the pair.
 * Answers are accepted only on connections that we dialled, for the question that was asked there:
 * an answer from anywhere else is ignored (the spoofing of 2012).
 *
 * A server that we have dialled may send us to another host (s2s_follow), once in an attempt: by
 * the rules for addresses of DNS, and only with a certificate for the domain.
 *
 * Both directions on one connection (XEP-0288), where the settings of both sides say so: whoever
 * has dialled asks for it inside TLS, before anything is proven.  A dialled connection then brings
 * the stanzas of its pair turned round, since its server has been proven; an accepted one carries
 * those of its authorised pairs turned round (events->turned), and of no other.  What the peer says
 * of the other direction adds none.
 *
 * Acknowledgements (XEP-0198), where the peer knows them.  Who sends stanzas asks for them while
 * any is missing, and tells its owner (events->acknowledged).  Who receives them acknowledges what
 * its owner has handed on (s2s_settled), not what this node alone would answer for.  When a
 * connection is left in good order, that is all that was received.
 *
 * Costs: an idle authenticated stream is 42 KiB, 35 of them mbed TLS's (`make bench`, 2.28 on
 * x86-64).  A stanza's pair is that of the one before, or is looked for among all of its stream.
 * How many there are with a domain is counted where they begin and end (struct s2s_peer).
 * Not done: dialback from the accepting side for more pairs (XEP-0288 2.2); they are dialled.
 * ======================================================================== */

enum s2s_kind { S2S_IN, S2S_OUT, S2S_VERIFY };

#define S2S_STATES(X) \
    X(S2S_RESOLVING, "resolving") \
    X(S2S_DIALLING,  "dialling") \
    X(S2S_HEADER,    "header") \
    X(S2S_FEATURES,  "features") \
    X(S2S_STARTTLS,  "starttls") \
    X(S2S_TLS,       "tls") \
    X(S2S_AUTH,      "auth") \
    X(S2S_DIALBACK,  "dialback") \
    X(S2S_VERIFYING, "verifying") \
    X(S2S_READY,     "ready") \
    X(S2S_ACCEPTED,  "accepted") \
    X(S2S_OPEN,      "open") \
    X(S2S_ENDED,     "ended")

enum s2s_state {
    S2S_STATES(XE_MEMBER)
};

/* What the owner allows between two domains, and how the remote one is reached. */
struct s2s_terms {
    enum policy_level            tls;
    unsigned                     methods;    /* POLICY_* bits */
    bool                         keepalive;  /* send white space on idle streams */
    bool                         bidi;       /* both directions on one connection (XEP-0288) */
    bool                         listed;     /* by name, in the configuration */
    bool                         ours;       /* it is one of our own, behind a gateway */
    char                         route[XE_DOMAIN_MAX];  /* static route: host; "" for DNS */
    uint16_t                     route_port;
    bool                         route_tls;  /* the route wants TLS from the first byte */
};

/* An authorised pair, or one whose dialback is under way: whose stanzas a connection may bring. */
struct s2s_pair {
    struct list_node  node;          /* in s2s->pairs */
    struct s2s       *stream;        /* borrowed */
    struct s2s       *verify;        /* the question under way; NULL: the pair is open, or waits */
    struct list_node  ask;           /* in verify->asks */
    bool              alone;         /* it shares its connection with no other question */
    struct list_node  waiting;       /* in service->waiting: there is no room for its question */
    int64_t           asked;         /* ms, since when it waits */
    char             *key;           /* owned; what it asks about, or wants to */
    bool              open;
    bool              certified;     /* proven by the certificate, not by dialback */
    enum xe_why       refused;       /* what still comes goes back, for this reason */
    void             *route;         /* for the owner */
    struct list_node  feed;          /* for the owner */
    struct xe_span    remote;        /* in text */
    struct xe_span    local;         /* in text */
    char              text[];        /* both names, owned */
};

/* How much there is with one remote domain; made with the first that counts, gone with the last. */
struct s2s_peer {
    struct map_node node;      /* in service->peers; the key is `name` */
    size_t          proven;    /* connections dialled or authorised: partner-connections */
    size_t          verifies;  /* connections with dialback questions: partner-dialbacks */
    struct s2s     *verify;    /* the latest of them, which may take one more; NULL: none */
    char            name[];    /* no NUL */
};

/* XEP-0198 on a connection: whoever has dialled asks for it. */
enum s2s_acks { S2S_ACKS_NONE, S2S_ACKS_OFFERED, S2S_ACKS_ASKED, S2S_ACKS_ON };

/* The stanzas that a connection has brought, up to number `h`, are handled when of this pair, as
 * whose last one came, so many have been handed on, and when those before are. */
struct s2s_mark {
    uint32_t         h;
    struct s2s_pair *pair;     /* borrowed */
    uint64_t         taken;
};

struct s2s_service;
struct s2s;

/* An element that may be said on a connection, and who understands it. */
struct s2s_known {
    enum xe_element_kind kind;
    void               (*handle)(struct s2s *s, const struct xe_xml_event *e);
};

struct s2s {
    struct stream           stream;       /* first, so that a stream is its s2s */
    /* others may read these */
    enum s2s_kind           kind;
    enum s2s_state          state;
    char                    local[XE_DOMAIN_MAX];   /* of the header; "" when unknown */
    char                    remote[XE_DOMAIN_MAX];
    struct s2s_terms        terms;
    enum xe_why             cert_why;     /* the peer's certificate for `remote` */
    const char             *method;       /* how the first pair was proven; "" before */
    struct list_node        pairs;        /* s2s_pair, of a dialled connection none or one */
    size_t                  npairs;
    struct sockaddr_storage source;       /* where an accepted connection comes from */
    struct net_source      *from;         /* borrowed; whom it counts for; NULL: ourselves */
    struct list_node        stranger;     /* in service->strangers; verify: in ->questions */
    struct sockaddr_storage target;       /* where a dialled one leads */
    uint64_t                stanzas;      /* passed, in either direction */
    uint64_t                sent;         /* of them by us */
    int64_t                 since;        /* ms, begin */
    bool                    bidi;         /* both directions: whoever has dialled has asked */
    bool                    leaving;      /* our end tag is sent: nothing new may be queued */
    enum xe_why             retired;      /* it ends for this when its timer says so */
    enum s2s_acks           acks;
    size_t                  max_bytes;    /* of a stanza, as the peer says (XEP-0478) */
    bool                    answers_wait; /* a caller does not read: he is not read either */
    unsigned                pauses;       /* how many reasons there are to read nothing now */
    struct list_node        users;        /* for the owner: whose stanzas go this way */
    struct list_node        node;         /* in service->all */
    /* private */
    struct s2s_service     *service;      /* borrowed */
    struct s2s_pair        *last;         /* of the last stanza: usually that of the next */
    struct s2s_peer        *peer;         /* counts this connection; NULL: it is only a claim */
    bool                    unlisted;     /* for a domain that has no entry in the configuration */
    struct dns_query       *query;        /* owned while resolving */
    struct dial            *dial;         /* owned while there may be another target to try */
    bool                    tried_sasl;   /* EXTERNAL was refused on this stream */
    bool                    authenticated; /* SASL is done, the last features are awaited */
    bool                    redirected;   /* a server has said where it leads: terms.route */
    struct list_node        asks;         /* verify: s2s_pair that wait for an answer */
    size_t                  nasks;        /* verify: questions, answered or not */
    bool                    alone;        /* verify: there may be no second one */
    uint32_t                acked;        /* of `sent`, modulo 2^32: what the peer has handled */
    uint32_t                uncounted;    /* of `sent`, before the peer began to count */
    bool                    presumed;     /* some of `acked` the peer has not said */
    bool                    ack_asked;    /* an <a/> of the peer is awaited */
    int64_t                 peer_idle_ms; /* we may be silent for so long (XEP-0478); 0: any time */
    bool                    ack_due;      /* the peer waits for an <a/> */
    bool                    told_late;    /* the answer so far has been given */
    uint32_t                received;     /* stanzas since XEP-0198 is on */
    uint32_t                told;         /* of them acknowledged */
    uint32_t                asked;        /* of them when the peer asked last */
    uint32_t                handled;      /* of them, up to the first mark if any */
    struct s2s_mark        *marks;        /* owned ring of `marks_cap`, a power of two */
    size_t                  marks_cap;
    size_t                  first_mark;   /* not reduced */
    size_t                  nmarks;
    bool                    marks_full;   /* nothing is read until some of them are gone */
    struct timer            ack_timer;    /* the answer waits no longer */
    struct loop_task        ack_task;     /* something has been handed on */
    struct timer            timer;        /* of the state */
    struct timer            attempt;      /* of the whole attempt to connect */
    struct loop_task        resolve;      /* it begins anew at another host */
    struct loop_task        reap;
};

struct s2s_events {
    /* May `remote` and `local` talk?  Either may be empty when not known yet.  XE_WHY_NONE and the
     * terms, or the reason why not. */
    enum xe_why (*admit)(void *user, struct xe_span remote, struct xe_span local,
        struct s2s_terms *terms);
    /* May one more connection with this domain be held? */
    enum xe_why (*room)(void *user, const struct s2s *s, struct xe_span remote);
    /* May this be dialled for `remote`?  XE_WHY_NONE, or why not, and in *what some words (static)
     * for what is there; NULL: it is not about the target. */
    enum xe_why (*reach)(void *user, struct xe_span remote, const struct dns_target *target,
        const char **what);
    struct tls_identity *(*identity)(void *user, struct xe_span local);   /* borrowed; NULL: none */
    const struct tls_rule *(*rule)(void *user, struct xe_span remote);  /* who vouches; borrowed */
    void (*paired)(void *user, struct s2s_pair *p);      /* a pair is authorised */
    void (*unpaired)(void *user, struct s2s_pair *p);    /* and gone */
    void (*stanza)(void *user, struct s2s_pair *p, const struct xe_xml_event *e);
    void (*ready)(void *user, struct s2s *s);      /* a dialled connection may carry stanzas */
    void (*turned)(void *user, struct s2s *s);     /* an accepted one may, too: s2s_may_carry() */
    void (*drained)(void *user, struct s2s *s);    /* and wants more of them */
    void (*leaving)(void *user, struct s2s *s);    /* and takes none any more */
    void (*acknowledged)(void *user, struct s2s *s, size_t n);   /* the oldest n are handled */
    /* how many stanzas of this pair were handed on in all, and in *taken how many were taken */
    uint64_t (*settled)(void *user, const struct s2s_pair *p, uint64_t *taken);
    void (*closed)(void *user, struct s2s *s, enum xe_why why);   /* exactly once */
};

/* What all s2s connections of one running instance share. */
struct s2s_service {
    struct stream_shared       *shared;      /* borrowed */
    struct dns                 *dns;         /* borrowed */
    struct tls_profile         *server_tls;  /* borrowed; NULL: no TLS */
    struct tls_profile         *client_tls;  /* borrowed */
    const struct dialback_secret *secret;    /* borrowed */
    const struct sockaddr_storage *from;     /* dial from this address; NULL: any */
    const struct s2s_events    *events;      /* borrowed, static */
    void                       *user;
    struct list_node            all;
    struct list_node            walks;       /* list_walk: who is on his way through them */
    size_t                      count;       /* connections, dialled and accepted */
    size_t                      peak;        /* the most of them lately; the owner resets it */
    size_t                      accepted;    /* of them accepted */
    size_t                      unlisted;    /* of them dialled or proven for unlisted domains */
    size_t                      verifies;    /* of them dialback questions under way */
    struct map                  peers;       /* s2s_peer by remote domain */
    struct list_node            strangers;   /* accepted, nothing proven; the oldest first */
    struct list_node            questions;   /* dialback questions under way; the oldest first */
    struct list_node            waiting;     /* s2s_pair whose question has no room; the same */
    size_t                      nwaiting;
    struct timer                turn;        /* while some wait: is it somebody else's turn? */
    struct loop_task            serve;       /* there may be room for one that waits */
};

static const char *
s2s_state_name(enum s2s_state state)
{
    switch (state) {
    S2S_STATES(XE_WORD)
    }
    return "?";
}

static const char *
s2s_kind_name(enum s2s_kind kind)
{
    static const char *const names[] = { "in", "out", "verify" };
    return names[kind];
}

/* Is `remote` only what the peer says of itself?  Whoever claims a domain can claim any. */
static bool
s2s_is_claim(const struct s2s *s)
{
    const struct list_node *n;
    for (n = s->pairs.next; s->kind == S2S_IN && n != &s->pairs; n = n->next) {
        const struct s2s_pair *p = MAP_OWNER(n, const struct s2s_pair, node);
        if (p->open && span_is(p->remote, s->remote))
            return false;
    }
    return s->kind == S2S_IN;
}

static struct loop *
s2s_loop(const struct s2s *s)
{
    return s->service->shared->loop;
}

static const struct config_limits *
s2s_limits(const struct s2s *s)
{
    return s->service->shared->limits;
}

/* Whose lines are those about this connection? */
static struct log_party
s2s_party(const struct s2s *s)
{
    bool proven = s->kind == S2S_IN && s->method[0] != '\0';
    if (s->from == NULL && s->terms.listed)
        return log_party(LOG_PARTNER, NULL);
    if (s->from == NULL)
        return s->target.ss_family == 0 ? log_party(LOG_UNPLACED, NULL)
            : log_party_at(LOG_UNLISTED, &s->target);
    if (proven && s->terms.listed && !s2s_is_claim(s))
        return log_party(LOG_PARTNER, NULL);
    if (proven)
        return log_party(LOG_UNLISTED, s->from);
    if (!s->terms.listed)
        return log_party(LOG_STRANGER, s->from);
    return log_party(net_is_known(s->from, loop_now(s2s_loop(s))) ? LOG_RETURNING : LOG_CLAIMANT,
        s->from);
}

/* Begin the log line of an event on this connection. */
static bool
s2s_log(const struct s2s *s, enum log_level level, const char *event)
{
    struct log *log = s->service->shared->log;
    struct log_party who = s2s_party(s);
    char at[CONN_TEXT_MAX];
    if (!log_begin_about(log, level, event, &who, span_of(s->remote[0] != '\0' ? s->remote : "?")))
        return false;
    log_text(log, "dir", s2s_kind_name(s->kind));
    if (s->local[0] != '\0')
        log_text(log, "local", s->local);
    if (s->remote[0] != '\0')
        log_text(log, s2s_is_claim(s) ? "claims" : "remote", s->remote);
    if (s->kind == S2S_IN)
        log_text(log, "peer", conn_address_text(&s->source, at));
    else if (s->target.ss_family != 0)
        log_text(log, "peer", conn_address_text(&s->target, at));
    if (s->stream.conn != NULL)
        log_text(log, "via", conn_address_text(&s->stream.conn->local, at));
    return true;
}

static void
s2s_log_why(const struct s2s *s, enum log_level level, const char *event, enum xe_why why)
{
    struct log *log = s->service->shared->log;
    if (!s2s_log(s, level, event))
        return;
    log_text(log, "state", s2s_state_name(s->state));
    log_text(log, "why", xe_why(why)->word);
    log_text(log, "setting", config_limit_of(why));
    if (s->stream.detail[0] != '\0')
        log_text(log, "detail", s->stream.detail);
    log_end(log);
}

/* A pair is refused: `from` and `to` are what was claimed. */
static void
s2s_log_refused(const struct s2s *s, struct xe_span from, struct xe_span to, enum xe_why why)
{
    struct log *log = s->service->shared->log;
    if (!s2s_log(s, LOG_WARN, "s2s-in-refused"))
        return;
    log_span(log, "from", from);
    log_span(log, "to", to);
    log_text(log, "why", xe_why(why)->word);
    log_text(log, "setting", config_limit_of(why));
    log_end(log);
}

/* The line that says that a connection stands, with all that was proven.  `domain`
 * is the one that was proven now: several may share it. */
static void
s2s_log_open(const struct s2s *s, struct xe_span domain)
{
    struct log *log = s->service->shared->log;
    const struct tls_facts *facts = stream_is_secure(&s->stream) ? tls_facts(s->stream.conn->tls)
        : NULL;
    const struct tls_rule *rule = s->service->events->rule(s->service->user, domain);
    unsigned chain = facts == NULL ? 0 : tls_chain_by(facts, rule->trust);
    char text[TLS_CHAIN_MAX];
    if (!s2s_log(s, LOG_INFO, s->kind == S2S_IN ? "s2s-in-open" : "s2s-out-open"))
        return;
    if (!span_is(domain, s->remote))
        log_span(log, "proven", domain);
    log_text(log, "method", s->method);
    if (s->bidi)
        log_text(log, "bidi", "true");
    log_text(log, "tls", facts == NULL ? "none" : facts->version);
    if (facts != NULL) {
        log_text(log, "cipher", facts->ciphersuite);
        if (span_is(domain, s->remote))
            log_text(log, "cert", s->cert_why == XE_WHY_NONE ? "good"
                : xe_why(s->cert_why)->word);
        if (chain != 0)
            log_text(log, "chain", tls_chain_text(chain, text));
    }
    log_end(log);
}

/* The normal form of a domain in an attribute value; false when it is none. */
static bool
s2s_domain(struct xe_span value, char out[XE_DOMAIN_MAX])
{
    char text[XE_DOMAIN_MAX * 4];
    size_t len;
    return stream_unescape(value, text, sizeof text)
        && jid_address_normal(span_of(text), out, &len);
}

/* Why s2s_domain() refused `a`, or else `b`. */
static enum xe_why
s2s_domain_why(struct xe_span a, struct xe_span b, enum xe_why otherwise)
{
    char text[XE_DOMAIN_MAX * 4];
    if (stream_unescape(b, text, sizeof text))
        otherwise = jid_why(span_of(text), otherwise);
    return stream_unescape(a, text, sizeof text) ? jid_why(span_of(text), otherwise) : otherwise;
}

static bool
s2s_domain_is(struct xe_span value, const char *domain)
{
    char normal[XE_DOMAIN_MAX];
    return s2s_domain(value, normal) && strcmp(normal, domain) == 0;
}

/* The same of an identity that SASL claims: what was decoded has no markup. */
static bool
s2s_authzid_is(const char *authzid, const char *domain)
{
    char normal[XE_DOMAIN_MAX];
    size_t len;
    return jid_address_normal(span_of(authzid), normal, &len) && strcmp(normal, domain) == 0;
}

/* ---- how many there are with a domain ---- */

static struct s2s_peer *
s2s_peer_find(const struct s2s_service *v, struct xe_span remote)
{
    struct map_node *n = map_find(&v->peers, remote);
    return n == NULL ? NULL : MAP_OWNER(n, struct s2s_peer, node);
}

static struct s2s_peer *
s2s_peer_new(struct s2s_service *v, struct xe_span remote)
{
    struct s2s_peer *peer = calloc(1, sizeof *peer + remote.len);
    if (peer == NULL)
        return NULL;
    memcpy(peer->name, remote.at, remote.len);
    if (!map_add(&v->peers, &peer->node, span_make(peer->name, remote.len))) {
        free(peer);
        return NULL;
    }
    return peer;
}

/* The connection counts from now on for `remote`, which is dialled, or proven first: what a header
 * claims costs nobody.  False when memory is out. */
static bool
s2s_count(struct s2s *s, struct xe_span remote, bool listed)
{
    if (s->peer != NULL)
        return true;
    s->peer = s2s_peer_find(s->service, remote);
    if (s->peer == NULL && (s->peer = s2s_peer_new(s->service, remote)) == NULL)
        return false;
    if (s->kind == S2S_VERIFY) {
        s->peer->verifies++;
        s->peer->verify = s;
    } else {
        s->peer->proven++;
    }
    s->unlisted = !listed && s->kind != S2S_VERIFY;
    s->service->unlisted += s->unlisted;
    return true;
}

static void
s2s_uncount(struct s2s *s)
{
    struct s2s_peer *peer = s->peer;
    s->peer = NULL;
    if (peer == NULL)
        return;
    s->service->unlisted -= s->unlisted;
    if (s->kind == S2S_VERIFY)
        peer->verifies--;
    else
        peer->proven--;
    if (peer->verify == s)
        peer->verify = NULL;
    if (peer->proven == 0 && peer->verifies == 0) {
        map_remove(&s->service->peers, &peer->node);
        free(peer);
    }
}

/* ---- where they come from ---- */

/* An accepted connection belongs to a network, and is a stranger's. */
static void
s2s_enter_source(struct s2s *s, struct net_source *from)
{
    s->from = from;
    net_count(s->service->shared->nets, from, NET_CONNECTIONS, 1);
    net_count(s->service->shared->nets, from, NET_STRANGERS, 1);
    list_append(&s->service->strangers, &s->stranger);
}

/* It has proven a domain, or ends. */
static void
s2s_no_stranger(struct s2s *s)
{
    if (!list_linked(&s->stranger))
        return;
    list_remove(&s->stranger);
    net_count(s->service->shared->nets, s->from, NET_STRANGERS, -1);
}

/* A dialback question counts for the network of whoever makes us ask it. */
static void
s2s_enter_question(struct s2s *s, struct net_source *from)
{
    s->from = from;
    net_count(s->service->shared->nets, from, NET_QUESTIONS, 1);
    list_append(&s->service->questions, &s->stranger);
}

static void
s2s_leave_source(struct s2s *s)
{
    struct s2s_service *v = s->service;
    if (s->kind == S2S_VERIFY) {
        list_remove(&s->stranger);
        net_count(v->shared->nets, s->from, NET_QUESTIONS, -1);
        if (v->nwaiting > 0)
            loop_at_end(s2s_loop(s), &v->serve);
    } else {
        s2s_no_stranger(s);
        net_count(v->shared->nets, s->from, NET_CONNECTIONS, -1);
    }
    s->from = NULL;
}

/* ---- pairs ---- */

static struct s2s_pair *
s2s_pair_find(const struct s2s *s, struct xe_span remote, struct xe_span local)
{
    struct list_node *n;
    for (n = s->pairs.next; n != &s->pairs; n = n->next) {
        struct s2s_pair *p = MAP_OWNER(n, struct s2s_pair, node);
        if (span_eq(p->remote, remote) && span_eq(p->local, local))
            return p;
    }
    return NULL;
}

static struct s2s_pair *
s2s_pair_new(struct s2s *s, struct xe_span remote, struct xe_span local)
{
    struct s2s_pair *p = calloc(1, sizeof *p + remote.len + local.len);
    if (p == NULL)
        return NULL;
    memcpy(p->text, remote.at, remote.len);
    memcpy(p->text + remote.len, local.at, local.len);
    p->remote = span_make(p->text, remote.len);
    p->local = span_make(p->text + remote.len, local.len);
    p->stream = s;
    list_append(&s->pairs, &p->node);
    s->npairs++;
    return p;
}

/* Its question waits no longer. */
static void
s2s_pair_unwait(struct s2s_pair *p)
{
    struct s2s_service *v = p->stream->service;
    if (!list_linked(&p->waiting))
        return;
    list_remove(&p->waiting);
    v->nwaiting--;
    net_count(v->shared->nets, p->stream->from, NET_WAITING, -1);
}

/* There is no room for its question now. */
static void
s2s_pair_wait(struct s2s_pair *p)
{
    struct s2s_service *v = p->stream->service;
    p->asked = loop_now(v->shared->loop);
    list_append(&v->waiting, &p->waiting);
    v->nwaiting++;
    net_count(v->shared->nets, p->stream->from, NET_WAITING, 1);
    if (!timer_armed(&v->turn))
        timer_set(v->shared->loop, &v->turn, S2S_TURN_MS / 4);
}

/* Its question is under way on this connection. */
static void
s2s_pair_enter_ask(struct s2s_pair *p, struct s2s *verify)
{
    p->verify = verify;
    list_append(&verify->asks, &p->ask);
    verify->nasks++;
}

static void
s2s_pair_leave_ask(struct s2s_pair *p)
{
    list_remove(&p->ask);
    p->verify = NULL;
}

static void
s2s_pair_free(struct s2s_pair *p)
{
    struct s2s *s = p->stream;
    s2s_pair_unwait(p);
    s2s_pair_leave_ask(p);
    if (p->open) {
        net_count(s->service->shared->nets, s->from, NET_PAIRS, -1);
        s->service->events->unpaired(s->service->user, p);
    }
    if (s->last == p)
        s->last = NULL;
    list_remove(&p->node);
    s->npairs--;
    free(p->key);
    free(p);
}

/* Do stanzas go by this connection now?  An accepted one carries those of its pairs turned round
 * when both sides want that; behind SASL the peer has to begin anew first. */
static bool
s2s_carries(const struct s2s *s)
{
    return !s->leaving && (s->state == S2S_READY
        || (s->bidi && s->state == S2S_OPEN && s->stream.state == STREAM_OPEN));
}

/* May this accepted connection carry those of one more?  Not while it is not read: nor would be
 * what its peer says of them. */
static bool
s2s_may_carry(const struct s2s *s)
{
    return s->kind == S2S_IN && s->pauses == 0 && s->retired == XE_WHY_NONE && s2s_carries(s);
}

/* ---- states and the end ---- */

/* White space goes out before the peer takes the stream for an idle one (XEP-0478). */
static int64_t
s2s_keepalive(const struct s2s *s)
{
    int64_t ms = s2s_limits(s)->keepalive_ms;
    return s->peer_idle_ms > 0 && s->peer_idle_ms / 2 < ms ? s->peer_idle_ms / 2 : ms;
}

/* An idle stream ends after so long: where no white space goes out, before the peer ends it. */
static int64_t
s2s_patience(const struct s2s *s)
{
    int64_t ms = s2s_limits(s)->inactivity_ms;
    return !s->terms.keepalive && s->peer_idle_ms > 0 && s->peer_idle_ms * 3 / 4 < ms
        ? s->peer_idle_ms * 3 / 4 : ms;
}

/* How long a state may last; 0: as long as the attempt timer, or the idle timer, allows. */
static int64_t
s2s_state_limit(const struct s2s *s, enum s2s_state state)
{
    const struct config_limits *l = s2s_limits(s);
    switch (state) {
    case S2S_ACCEPTED:
        return l->preauth_ms;
    case S2S_DIALBACK:
    case S2S_VERIFYING:
        return l->dialback_ms;
    case S2S_READY:
    case S2S_OPEN:
        return s2s_patience(s) < s2s_keepalive(s) ? s2s_patience(s) : s2s_keepalive(s);
    case S2S_RESOLVING:
    case S2S_DIALLING:
    case S2S_HEADER:
    case S2S_FEATURES:
    case S2S_STARTTLS:
    case S2S_TLS:
    case S2S_AUTH:
    case S2S_ENDED:
        break;
    }
    return 0;
}

static void
s2s_enter(struct s2s *s, enum s2s_state next)
{
    int64_t limit = s2s_state_limit(s, next);
    struct log *log = s->service->shared->log;
    if (log_wants(log, LOG_DEBUG) && s2s_log(s, LOG_DEBUG, "s2s-state")) {
        log_text(log, "was", s2s_state_name(s->state));
        log_text(log, "is", s2s_state_name(next));
        log_end(log);
    }
    /* a restart for TLS or SASL does not give a stranger a new allowance of time */
    if (next == S2S_ACCEPTED && s->state == S2S_ACCEPTED && timer_armed(&s->timer))
        return;
    s->state = next;
    timer_cancel(s2s_loop(s), &s->timer);
    if (limit > 0)
        timer_set(s2s_loop(s), &s->timer, limit);
}

static void
s2s_free(struct loop_task *task)
{
    struct s2s *s = MAP_OWNER(task, struct s2s, reap);
    xe_xml_free(&s->stream.xml);
    free(s->marks);
    free(s);
}

/* What a failed dialback means for the request that waits, in the words of XEP-0220 2.5 where the
 * list of reasons has others. */
static const char *
s2s_dialback_condition(enum xe_why why)
{
    static const struct { enum xe_why why; const char *condition; } own[] = {
        { XE_WHY_TLS_REQUIRED, "policy-violation" }, { XE_WHY_DIALBACK_OFF, "policy-violation" },
        { XE_WHY_PARTNER_UNLISTED, "policy-violation" } };
    size_t i;
    for (i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].why == why)
            return own[i].condition;
    return xe_why(why)->stanza[0] != '\0' ? xe_why(why)->stanza : "internal-server-error";
}

/* Begin an element of dialback: its name, "db:result" or "db:verify", and two domains. */
static struct buf *
s2s_begin_dialback(struct s2s *s, const char *name, struct xe_span from, struct xe_span to)
{
    struct buf *t = stream_text(&s->stream);
    buf_putc(t, '<');
    buf_puts(t, name);
    stream_put_domain(t, "from", from);
    stream_put_domain(t, "to", to);
    return t;
}

static void
s2s_send_result(struct s2s *s, struct xe_span from, struct xe_span to, const char *type)
{
    struct buf *t = s2s_begin_dialback(s, "db:result", from, to);
    xmlout_attr(t, "type", span_of(type));
    buf_puts(t, "/>");
    stream_send_text(&s->stream);
}

static void
s2s_send_result_error(struct s2s *s, struct xe_span from, struct xe_span to, enum xe_why why)
{
    struct buf *t = s2s_begin_dialback(s, "db:result", from, to);
    buf_puts(t, " type='error'><error type='cancel'><");
    buf_puts(t, s2s_dialback_condition(why));
    buf_puts(t, " xmlns='" STREAM_NS_STANZAS "'/><text xmlns='" STREAM_NS_STANZAS "'>");
    xmlout_text(t, span_of(xe_why(why)->text));
    buf_puts(t, "</text></error></db:result>");
    stream_send_text(&s->stream);
}

/* May these two talk, and on which terms?  See s2s_events.admit. */
static enum xe_why
s2s_admit(struct s2s *s, struct xe_span remote, struct xe_span local, struct s2s_terms *terms)
{
    return s->service->events->admit(s->service->user, remote, local, terms);
}

static bool
s2s_pair_is_listed(const struct s2s_pair *p)
{
    struct s2s_terms terms;
    return s2s_admit(p->stream, p->remote, p->local, &terms) == XE_WHY_NONE && terms.listed;
}

/* Whether dialback may be used on the stream as it is now. */
static bool
s2s_dialback_allowed(const struct s2s *s, unsigned methods)
{
    return policy_allows_dialback(methods, stream_is_secure(&s->stream));
}

/* Is TLS required between two domains, and this stream does not have it? */
static bool
s2s_tls_missing(const struct s2s *s, const struct s2s_terms *terms)
{
    return terms->tls == POLICY_REQUIRED && !stream_is_secure(&s->stream);
}

/* Do these two, and this stream, allow dialback? */
static enum xe_why
s2s_in_dialback_terms(struct s2s *s, struct xe_span remote, struct xe_span local,
    struct s2s_terms *terms)
{
    enum xe_why why = s2s_admit(s, remote, local, terms);
    if (why != XE_WHY_NONE)
        return why;
    if (s2s_tls_missing(s, terms))
        return XE_WHY_TLS_REQUIRED;
    return s2s_dialback_allowed(s, terms->methods) ? XE_WHY_NONE : XE_WHY_DIALBACK_OFF;
}

/* Do these terms allow what was proven as it was: by the certificate, or else by dialback? */
static bool
s2s_meets(const struct s2s *s, const struct s2s_terms *terms, bool certified)
{
    return !s2s_tls_missing(s, terms) && (s2s_dialback_allowed(s, terms->methods)
        || (certified && policy_allows_sasl(terms->methods, stream_is_secure(&s->stream))));
}

/* A pair is authorised: its stanzas are welcome from now on. */
static void
s2s_pair_open(struct s2s_pair *p, const char *method)
{
    struct s2s *s = p->stream;
    bool listed = s2s_pair_is_listed(p);
    p->open = true;
    net_count(s->service->shared->nets, s->from, NET_PAIRS, 1);
    if (s->method[0] == '\0')
        s->method = method;
    stream_trust(&s->stream, listed ? s->from : NULL);
    if (s->remote[0] == '\0') {   /* pre-1.0 headers name nobody */
        memcpy(s->remote, p->remote.at, p->remote.len);
        memcpy(s->local, p->local.at, p->local.len);
        s->local[p->local.len] = '\0';
    }
    assert(s->peer != NULL);
    s2s_no_stranger(s);
    s2s_enter(s, S2S_OPEN);
    s2s_log_open(s, p->remote);
    s->service->events->paired(s->service->user, p);
    if (s2s_may_carry(s))
        s->service->events->turned(s->service->user, s);
}

/* The answer of the authoritative server, or the reason why there is none. */
static void
s2s_verified(struct s2s_pair *p, enum xe_why why)
{
    struct s2s *s = p->stream;
    struct s2s *verify = p->verify;
    struct s2s_terms terms;
    s2s_pair_leave_ask(p);
    if (why == XE_WHY_NONE)   /* the terms may be others by now */
        why = s2s_in_dialback_terms(s, p->remote, p->local, &terms);
    if (why == XE_WHY_NONE && !s2s_count(s, p->remote, terms.listed))
        why = XE_WHY_OUT_OF_MEMORY;
    if (why == XE_WHY_NONE) {
        free(p->key);
        p->key = NULL;
        s2s_send_result(s, p->local, p->remote, "valid");
        s2s_pair_open(p, stream_is_secure(&s->stream) ? "tls-dialback" : "tcp-dialback");
        return;
    }
    s2s_log_refused(s, p->remote, p->local, why);
    /* whoever chose the question hears what was answered, and not what became of our connection:
     * else we would look for him at what he cannot reach himself */
    if (why == XE_WHY_DIALBACK_INVALID)
        s2s_send_result(s, p->local, p->remote, "invalid");
    else
        s2s_send_result_error(s, p->local, p->remote, verify == NULL
            || why == XE_WHY_DIALBACK_ERROR ? why : XE_WHY_DIALBACK_UNREACHABLE);
    s2s_pair_free(p);
    /* XEP-0220 2.1.1: after `invalid` the stream ends, unless others share it */
    if (why == XE_WHY_DIALBACK_INVALID && s->npairs == 0)
        stream_close(&s->stream, XE_WHY_DIALBACK_INVALID);
}

/* No more answers come on this connection.  Some servers answer one question and close: then each
 * of those that are left has a connection of its own. */
static void
s2s_end_questions(struct s2s *s, enum xe_why why, bool again)
{
    while (!list_empty(&s->asks)) {
        struct s2s_pair *p = MAP_OWNER(s->asks.next, struct s2s_pair, ask);
        if (!again) {
            s2s_verified(p, why == XE_WHY_DONE || why == XE_WHY_PEER_CLOSED
                ? XE_WHY_DIALBACK_UNREACHABLE : why);
            continue;
        }
        s2s_pair_leave_ask(p);
        p->alone = true;
        s2s_pair_wait(p);
    }
}

/* The one way out. */
static void
s2s_end(struct s2s *s, enum xe_why why)
{
    static const char *const events[] = { "s2s-in-closed", "s2s-out-closed", "s2s-verify-closed" };
    struct s2s_service *service = s->service;
    bool again = s->state == S2S_VERIFYING && s->nasks > 1 && (why == XE_WHY_PEER_CLOSED
        || why == XE_WHY_PEER_LOST || why == XE_WHY_PEER_ERROR || why == XE_WHY_SEE_OTHER_HOST);
    bool calm = why == XE_WHY_DONE || why == XE_WHY_PEER_CLOSED || why == XE_WHY_IDLE
        || why == XE_WHY_SHUTDOWN;
    if (s->state == S2S_ENDED)
        return;
    s2s_log_why(s, calm ? LOG_INFO : LOG_WARN, events[s->kind], why);
    s2s_enter(s, S2S_ENDED);
    timer_cancel(s2s_loop(s), &s->attempt);
    timer_cancel(s2s_loop(s), &s->ack_timer);
    loop_task_cancel(&s->ack_task);
    loop_task_cancel(&s->resolve);
    if (s->query != NULL)
        dns_cancel(s->query);
    s->query = NULL;
    dial_free(s->dial);
    s->dial = NULL;
    stream_end(&s->stream, why);
    s2s_end_questions(s, why, again);
    while (!list_empty(&s->pairs)) {
        struct s2s_pair *p = MAP_OWNER(s->pairs.next, struct s2s_pair, node);
        struct s2s *question = p->verify;
        s2s_pair_free(p);
        if (question == NULL || !list_empty(&question->asks))
            continue;
        question->leaving = true;   /* nobody waits for its answers any more */
        if (question->stream.conn != NULL)
            stream_close(&question->stream, XE_WHY_DONE);
        else
            s2s_end(question, XE_WHY_DONE);
    }
    list_leave(&service->walks, &s->node);
    s2s_uncount(s);
    s2s_leave_source(s);
    service->count--;
    service->accepted -= s->kind == S2S_IN;
    service->verifies -= s->kind == S2S_VERIFY;
    service->events->closed(service->user, s, why);
    loop_at_end(s2s_loop(s), &s->reap);
}

/* End with a stream error where there is a stream, else just end. */
static void
s2s_fail(struct s2s *s, enum xe_why why)
{
    if (s->stream.state != STREAM_ENDED && s->stream.conn != NULL)
        stream_fail(&s->stream, why);   /* comes back through s2s_stream_ended() */
    s2s_end(s, why);
}

/* Nothing new goes this way. */
static void
s2s_leave(struct s2s *s)
{
    if (s->leaving)
        return;
    s->leaving = true;
    timer_cancel(s2s_loop(s), &s->timer);
    if (s->state == S2S_READY || s->state == S2S_OPEN)
        s->service->events->leaving(s->service->user, s);
}

/* End in good order. */
static void
s2s_close(struct s2s *s, enum xe_why why)
{
    s2s_leave(s);
    if (s->stream.conn == NULL || s->stream.state == STREAM_ENDED)
        s2s_end(s, why);
    else
        stream_close(&s->stream, why);
}

/* The same with a stream error. */
static void
s2s_quit(struct s2s *s, enum xe_why why)
{
    s2s_leave(s);
    if (s->stream.conn == NULL || s->stream.state == STREAM_ENDED)
        s2s_end(s, why);
    else
        stream_quit(&s->stream, why);
}

/* The same, when answers to what the peer has under way have had the time to go this way. */
static void
s2s_retire(struct s2s *s, enum xe_why why)
{
    s->retired = why;
    timer_set(s2s_loop(s), &s->timer, s2s_limits(s)->close_ms);
}

/* ---- idle streams ---- */

/* Nothing for `inactivity`: the stream ends, without an error, since the peer may think the same at
 * the same time.  A dialled one counts what it sends, and the stanzas that come; an accepted one
 * what it receives, and sends.  White space keeps the path open meanwhile. */
static void
s2s_idle(struct s2s *s)
{
    int64_t patience = s2s_patience(s);
    int64_t keepalive = s2s_keepalive(s);
    int64_t now = loop_now(s2s_loop(s));
    int64_t last = s->kind == S2S_IN && s->stream.heard > s->stream.spoke ? s->stream.heard
        : s->stream.spoke;
    int64_t quiet = s->kind == S2S_IN && s->pauses > 0 ? 0 : now - last;
    if (quiet >= patience) {
        s2s_close(s, XE_WHY_IDLE);
        return;
    }
    if (s->terms.keepalive && s->kind == S2S_OUT && quiet >= keepalive
        && s->stream.conn != NULL)
        conn_send(s->stream.conn, span_of(" "));
    timer_set(s2s_loop(s), &s->timer, patience - quiet < keepalive
        ? patience - quiet : keepalive);
}

static void
s2s_timeout(struct timer *t)
{
    struct s2s *s = MAP_OWNER(t, struct s2s, timer);
    switch (s->state) {
    case S2S_READY:
    case S2S_OPEN:
        if (s->retired != XE_WHY_NONE)
            s2s_quit(s, s->retired);
        else
            s2s_idle(s);
        break;
    case S2S_DIALBACK:
    case S2S_VERIFYING:
        s2s_fail(s, XE_WHY_DIALBACK_TIMEOUT);
        break;
    case S2S_ACCEPTED:
        s2s_fail(s, XE_WHY_SETUP_TIMEOUT);
        break;
    case S2S_RESOLVING:
    case S2S_DIALLING:
    case S2S_HEADER:
    case S2S_FEATURES:
    case S2S_STARTTLS:
    case S2S_TLS:
    case S2S_AUTH:
    case S2S_ENDED:
        break;
    }
}

static void
s2s_attempt_timeout(struct timer *t)
{
    struct s2s *s = MAP_OWNER(t, struct s2s, attempt);
    s2s_fail(s, XE_WHY_ATTEMPT_TIMEOUT);
}

/* ---- TLS ---- */

/* A TLS session for this connection; NULL when memory is out or TLS is not configured. */
static struct tls *
s2s_new_tls(struct s2s *s)
{
    struct s2s_service *v = s->service;
    struct tls_identity *mine = v->events->identity(v->user, span_of(s->local));
    if (s->kind == S2S_IN)
        return v->server_tls == NULL ? NULL
            : tls_new(v->server_tls, mine, NULL, s->stream.conn->watch.fd);
    return v->client_tls == NULL ? NULL
        : tls_new(v->client_tls, mine, s->remote, s->stream.conn->watch.fd);
}

/* What the peer's certificate is worth for a domain, by those who may vouch for it now. */
static enum xe_why
s2s_cert_why(const struct s2s *s, struct xe_span remote)
{
    if (!stream_is_secure(&s->stream))
        return XE_WHY_CERT_MISSING;
    if (remote.len == 0)
        return XE_WHY_CERT_NAME;
    return peer_may_speak_for(tls_facts(s->stream.conn->tls), remote,
        s->service->events->rule(s->service->user, remote));
}

/* And for the domain that it claims.  Somebody has to compare a new key with the one pinned. */
static void
s2s_judge(struct s2s *s)
{
    char key[TLS_PIN_MAX];
    char text[TLS_PIN_MAX + 16];
    s->cert_why = s2s_cert_why(s, span_of(s->remote));
    if (s->cert_why != XE_WHY_CERT_PIN)
        return;
    snprintf(text, sizeof text, "its key is %s",
        tls_pin_text(tls_facts(s->stream.conn->tls)->key, key));
    stream_note(&s->stream, span_of(text));
}

/* Whether what a certificate has proven is still proven: on an accepted stream, of this pair. */
static bool
s2s_pair_is_believed(const struct s2s_pair *p)
{
    return !p->certified || s2s_cert_why(p->stream, p->remote) == XE_WHY_NONE;
}

/* And of the server that we have dialled, which showed it before SASL. */
static bool
s2s_is_believed(const struct s2s *s)
{
    return (!s->authenticated && s->state != S2S_AUTH)
        || s2s_cert_why(s, span_of(s->remote)) == XE_WHY_NONE;
}

/* Let somebody handle the element; the stream ends when nobody knows it. */
static void
s2s_handle(struct s2s *s, const struct xe_xml_event *e, const struct s2s_known *known, size_t n)
{
    enum xe_element_kind kind = xe_element_kind(e);
    const struct s2s_known *end = known + n;
    while (known < end && known->kind != kind)
        known++;
    if (known < end)
        known->handle(s, e);
    else
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
}

/* May this be one more connection with the domain? */
static enum xe_why
s2s_room(struct s2s *s, struct xe_span remote)
{
    return s->service->events->room(s->service->user, s, remote);
}

/* May TLS still begin on this stream? */
static bool
s2s_tls_possible(const struct s2s *s)
{
    const struct s2s_service *v = s->service;
    return !stream_is_secure(&s->stream) && s->terms.tls != POLICY_NOT_SUPPORTED
        && (s->kind == S2S_IN ? v->server_tls : v->client_tls) != NULL;
}

/* One more reason, or one less, to read nothing of a connection now.  Nobody is blamed for what he
 * could not say meanwhile. */
static void
s2s_pause(struct s2s *s, bool paused)
{
    s->pauses = paused ? s->pauses + 1 : s->pauses - 1;
    if (s->pauses == 0)
        s->stream.heard = loop_now(s2s_loop(s));
    if (s->stream.conn != NULL)
        conn_pause(s->stream.conn, s->pauses > 0);
}

/* ---- acknowledgements: what was sent ---- */

/* Does the peer count what it is sent? */
static bool
s2s_is_counted(const struct s2s *s)
{
    return s->acks >= S2S_ACKS_ASKED;
}

/* Ask what has been handled, unless the answer to such a question is still to come. */
static void
s2s_ask_ack(struct s2s *s)
{
    if (s->acks != S2S_ACKS_ON || s->ack_asked || (uint32_t)s->sent == s->acked)
        return;
    s->ack_asked = stream_send(&s->stream, span_of("<r xmlns='" PHASE_NS_SM "'/>"));
}

/* Is `h` behind `asked`, modulo 2^32?  Of stanzas, and of bytes. */
static bool
s2s_is_behind(uint32_t h, uint32_t asked)
{
    return h != asked && asked - h < UINT32_MAX / 2;
}

/* For the owner: the peer has these without having said so.  It does not count them, or is not read
 * and cannot say it. */
static void
s2s_presume(struct s2s *s, size_t n)
{
    s->acked += (uint32_t)n;
    s->presumed = s->presumed || s2s_is_counted(s);
}

/* An <a/>.  Of what it does not count, and of what went before that, the next one says that it has
 * been handled: it comes after it. */
static void
s2s_acknowledged(struct s2s *s, const struct xe_xml_event *e)
{
    uint32_t before = s->acked - s->uncounted;
    uint32_t fresh;
    bool good;
    if (s->kind == S2S_IN && s->sent == 0)
        return;   /* we have sent no stanzas that it could acknowledge */
    good = stream_read_ack(e, before, (uint32_t)s->sent - s->acked, &fresh);
    if (!good && s->presumed && s2s_is_behind(before + fresh, before)) {
        good = true;
        fresh = 0;
    }
    if (!s2s_is_counted(s) || !good) {
        s2s_fail(s, XE_WHY_BAD_ACK);
        return;
    }
    s->acked += fresh;
    s->ack_asked = false;
    s->service->events->acknowledged(s->service->user, s, fresh);
    if (fresh > 0)
        s2s_ask_ack(s);   /* else somewhat later (route_look) */
}

static void
s2s_out_enabled(struct s2s *s, const struct xe_xml_event *e)
{
    if (s->acks != S2S_ACKS_ASKED) {
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
        return;
    }
    s->acks = xe_element_kind(e) == XE_KIND_SM_ENABLED ? S2S_ACKS_ON : S2S_ACKS_NONE;
    s2s_ask_ack(s);
    if (s->acks == S2S_ACKS_NONE)
        s->service->events->drained(s->service->user, s);
}

/* ---- acknowledgements: what was received ---- */

static struct s2s_mark *
s2s_mark_at(const struct s2s *s, size_t n)
{
    return &s->marks[(s->first_mark + n) & (s->marks_cap - 1)];
}

static bool
s2s_grow_marks(struct s2s *s)
{
    size_t cap = s->marks_cap == 0 ? 16 : s->marks_cap * 2;
    struct s2s_mark *marks = malloc(cap * sizeof *marks);
    size_t i;
    if (marks == NULL)
        return false;
    for (i = 0; i < s->nmarks; i++)
        marks[i] = *s2s_mark_at(s, i);
    free(s->marks);
    s->marks = marks;
    s->marks_cap = cap;
    s->first_mark = 0;
    return true;
}

/* A stanza of this pair was received, and the owner has it.  Neighbours share a mark; in blocks,
 * since otherwise in a stream that never pauses no mark would ever be reached. */
static void
s2s_count_received(struct s2s *s, struct s2s_pair *p)
{
    struct s2s_mark *last = s->nmarks > 0 ? s2s_mark_at(s, s->nmarks - 1) : NULL;
    struct s2s_mark mark = { ++s->received, p, 0 };
    uint64_t settled = s->service->events->settled(s->service->user, p, &mark.taken);
    if (last == NULL && settled >= mark.taken) {
        s->handled = mark.h;
        return;
    }
    if (last == NULL || last->pair != p || last->h / 8 != mark.h / 8) {
        if (s->nmarks == s->marks_cap && !s2s_grow_marks(s)) {
            s2s_fail(s, XE_WHY_OUT_OF_MEMORY);
            return;
        }
        last = s2s_mark_at(s, s->nmarks++);
    }
    *last = mark;
    if (s->nmarks >= S2S_MARKS_MAX && !s->marks_full) {
        s->marks_full = true;
        s2s_pause(s, true);
    }
}

/* How many of the stanzas that were received have been handled, one after the other. */
static uint32_t
s2s_handled(struct s2s *s)
{
    uint64_t taken;
    while (s->nmarks > 0) {
        const struct s2s_mark *m = s2s_mark_at(s, 0);
        if (s->service->events->settled(s->service->user, m->pair, &taken) < m->taken)
            break;
        s->handled = m->h;
        s->first_mark++;
        s->nmarks--;
    }
    if (s->marks_full && s->nmarks < S2S_MARKS_MAX / 2) {
        s->marks_full = false;
        s2s_pause(s, false);
    }
    return s->handled;
}

/* An idle stream stays one. */
static void
s2s_send_ack(struct s2s *s, uint32_t h)
{
    int64_t spoke = s->stream.spoke;
    s->told = h;
    s->ack_due = s2s_is_behind(h, s->asked);
    if (!s->ack_due)
        timer_cancel(s2s_loop(s), &s->ack_timer);
    stream_send_ack(&s->stream, h);
    s->stream.spoke = spoke;
}

/* Does so much wait to be read by the peer that answers have time?  Stanzas are no answers. */
static bool
s2s_has_enough(const struct s2s *s)
{
    return s->stream.conn == NULL || conn_queued(s->stream.conn)
        > S2S_ANSWERS_MAX + (list_empty(&s->users) ? 0 : STREAM_OUT_MAX / 2);
}

/* Something has been handed on: answer when it is all that was asked about, or very much. */
static void
s2s_ack_settled(struct loop_task *task)
{
    struct s2s *s = MAP_OWNER(task, struct s2s, ack_task);
    uint32_t h = s2s_handled(s);
    if (!s2s_has_enough(s)
        && ((s->ack_due && !s2s_is_behind(h, s->asked)) || h - s->told >= S2S_ACK_EVERY))
        s2s_send_ack(s, h);
}

/* Whoever asks hears before long what there is. */
static void
s2s_ack_timeout(struct timer *t)
{
    struct s2s *s = MAP_OWNER(t, struct s2s, ack_timer);
    uint32_t h = s2s_handled(s);
    if (!s2s_has_enough(s) && (!s->told_late || h != s->told)) {
        s2s_send_ack(s, h);
        s->told_late = s->ack_due;
    }
    if (s->ack_due)
        timer_set(s2s_loop(s), t, S2S_ACK_MS);
}

/* For the owner: stanzas that came by this connection have been handed on. */
static void
s2s_settled(struct s2s *s)
{
    if (s->acks == S2S_ACKS_ON && s->state != S2S_ENDED)
        loop_at_end(s2s_loop(s), &s->ack_task);
}

/* What went before is not counted: what of it has arrived is known now, the rest with the first
 * <a/>. */
static void
s2s_in_enable(struct s2s *s, const struct xe_xml_event *e)
{
    (void)e;
    if (s->state != S2S_OPEN || s->acks != S2S_ACKS_NONE) {
        stream_send(&s->stream, span_of("<failed xmlns='" PHASE_NS_SM "'>"
            "<unexpected-request xmlns='" STREAM_NS_STANZAS "'/></failed>"));
        return;
    }
    s->service->events->drained(s->service->user, s);
    s->acks = S2S_ACKS_ON;
    s->uncounted = (uint32_t)s->sent;
    stream_send(&s->stream, span_of("<enabled xmlns='" PHASE_NS_SM "'/>"));
    s2s_ask_ack(s);
}

/* <r/>: the answer waits a little for what is on its way (XEP-0198 4). */
static void
s2s_asked_ack(struct s2s *s, const struct xe_xml_event *e)
{
    (void)e;
    if (!s2s_is_counted(s))
        return;
    s->asked = s->received;
    s->ack_due = true;
    s->told_late = false;
    if (!timer_armed(&s->ack_timer))
        timer_set(s2s_loop(s), &s->ack_timer, S2S_ACK_MS);
    loop_at_end(s2s_loop(s), &s->ack_task);
}

/* Before our end tag: we answer for all that has come. */
static void
s2s_parting(struct stream *stream)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    if (s->acks == S2S_ACKS_ON && s->told != s->received)
        s2s_send_ack(s, s->received);
}

/* ---- what a peer takes ---- */

/* A limit of the peer (XEP-0478); 0 when it does not say. */
static int64_t
s2s_peer_limit(struct s2s *s, struct elem from, const char *name)
{
    struct elem limit = elem_child(elem_child(from, "limits", STREAM_NS_LIMITS), name, NULL);
    struct buf *t = stream_text(&s->stream);
    int64_t value;
    if (limit.at == NULL)
        return 0;
    elem_put_text(t, limit);
    value = stream_number(buf_span(t));
    return value > 0 ? value : 0;
}

/* What it takes, and how long it waits.  Less than 10,000 bytes is against RFC 6120 13.12. */
static void
s2s_read_limits(struct s2s *s, struct elem from)
{
    int64_t bytes = s2s_peer_limit(s, from, "max-bytes");
    s->max_bytes = bytes == 0 ? SIZE_MAX : bytes < 10000 ? 10000 : (size_t)bytes;
    s->peer_idle_ms = s2s_peer_limit(s, from, "idle-seconds") * 1000;
}

static void
s2s_put_limits(struct buf *t, const struct config_limits *l)
{
    buf_puts(t, "<limits xmlns='" STREAM_NS_LIMITS "'><max-bytes>");
    buf_putu(t, l->stanza_bytes);
    buf_puts(t, "</max-bytes><idle-seconds>");
    buf_putu(t, (uint64_t)(l->inactivity_ms / 1000));
    buf_puts(t, "</idle-seconds></limits>");
}

/* May both directions still go by one connection?  Inside TLS, where nobody can have turned it
 * round on the way, and before anything is proven. */
static bool
s2s_bidi_possible(const struct s2s *s)
{
    return s->terms.bidi && stream_is_secure(&s->stream) && !s->authenticated && s->npairs == 0
        && s->kind != S2S_VERIFY;
}

/* ---- accepted connections ---- */

static void
s2s_send_features(struct s2s *s)
{
    struct buf *t = stream_text(&s->stream);
    buf_puts(t, "<stream:features>");
    if (s2s_tls_possible(s))
        buf_puts(t, s2s_tls_missing(s, &s->terms)
            ? "<starttls xmlns='" PHASE_NS_TLS "'><required/></starttls>"
            : "<starttls xmlns='" PHASE_NS_TLS "'/>");
    if (!s->authenticated && s->cert_why == XE_WHY_NONE
        && policy_allows_sasl(s->terms.methods, stream_is_secure(&s->stream)))
        buf_puts(t, "<mechanisms xmlns='" PHASE_NS_SASL "'><mechanism>EXTERNAL</mechanism>"
            "</mechanisms>");
    if (s2s_dialback_allowed(s, s->terms.methods))
        buf_puts(t, "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>");
    if (s->authenticated || (stream_is_secure(&s->stream)
            && s2s_dialback_allowed(s, s->terms.methods)))
        buf_puts(t, "<sm xmlns='" PHASE_NS_SM "'/>");
    if (s2s_bidi_possible(s))
        buf_puts(t, "<bidi xmlns='" PHASE_NS_BIDI_OFFER "'/>");
    s2s_put_limits(t, s2s_limits(s));
    buf_puts(t, "</stream:features>");
    stream_send_text(&s->stream);
}

/* Take the addresses of the peer's header.  False when they are of no use and the stream ends. */
static bool
s2s_in_addresses(struct s2s *s, const struct xe_xml_event *e)
{
    struct xe_span from = xe_xml_attr(e, "from");
    struct xe_span to = xe_xml_attr(e, "to");
    char domain[XE_DOMAIN_MAX];
    if (to.at != NULL) {
        if (!s2s_domain(to, domain) || (s->local[0] != '\0' && strcmp(domain, s->local) != 0)) {
            s2s_fail(s, s2s_domain_why(to, to,
                s->local[0] != '\0' ? XE_WHY_HEADER_CHANGED : XE_WHY_HOST_UNKNOWN));
            return false;
        }
        strcpy(s->local, domain);
    }
    if (from.at != NULL) {
        if (!s2s_domain(from, domain) || (s->remote[0] != '\0' && strcmp(domain, s->remote) != 0)) {
            s2s_fail(s, s2s_domain_why(from, from, XE_WHY_HEADER_CHANGED));
            return false;
        }
        strcpy(s->remote, domain);
    }
    return true;
}

/* Nothing that is left on this stream could prove the peer: say so now rather than let it try. */
static enum xe_why
s2s_in_hopeless(const struct s2s *s)
{
    bool external = s->stream.version_1 && s->terms.methods & POLICY_SASL_TLS;
    if (s->authenticated || s->npairs > 0 || s2s_dialback_allowed(s, s->terms.methods))
        return XE_WHY_NONE;
    if (stream_is_secure(&s->stream))
        return external ? s->cert_why : XE_WHY_NO_METHOD;
    if (s->stream.version_1 && s->terms.tls != POLICY_NOT_SUPPORTED)
        return XE_WHY_NONE;
    return s2s_tls_missing(s, &s->terms) ? XE_WHY_TLS_REQUIRED : XE_WHY_BAD_VERSION;
}

static void
s2s_in_header(struct stream *stream, const struct xe_xml_event *e)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    enum xe_why why;
    if (!s2s_in_addresses(s, e))
        return;
    why = s2s_admit(s, span_of(s->remote), span_of(s->local), &s->terms);
    if (why == XE_WHY_NONE && s->remote[0] != '\0')
        why = s2s_room(s, span_of(s->remote));
    stream_send_header(&s->stream, span_of(s->local), span_of(s->remote));
    s2s_judge(s);
    if (why == XE_WHY_NONE)
        why = s2s_in_hopeless(s);
    if (why != XE_WHY_NONE) {
        s2s_fail(s, why);
        return;
    }
    if (s->stream.version_1)
        s2s_send_features(s);
    if (s2s_may_carry(s))
        s->service->events->turned(s->service->user, s);
}

/* <bidi/>: stanzas may come this way, too, when it has been proven who is there. */
static void
s2s_in_bidi(struct s2s *s, const struct xe_xml_event *e)
{
    struct elem bidi;
    if (s->state != S2S_ACCEPTED || !s2s_bidi_possible(s)) {
        s2s_fail(s, XE_WHY_BAD_ELEMENT);   /* it was not offered */
        return;
    }
    bidi = elem_parse(&s->stream.xml, e);
    s2s_read_limits(s, bidi);
    elem_free(bidi);
    s->bidi = true;
}

static void
s2s_in_starttls(struct s2s *s, const struct xe_xml_event *e)
{
    struct tls *tls = NULL;
    (void)e;
    /* a question about a key that was shown in the clear must not be answered inside TLS */
    if (s2s_tls_possible(s) && s->state == S2S_ACCEPTED && s->npairs == 0)
        tls = s2s_new_tls(s);
    if (tls == NULL) {
        stream_send(&s->stream, span_of("<failure xmlns='" PHASE_NS_TLS "'/></stream:stream>"));
        s2s_end(s, XE_WHY_TLS_REFUSED);
        return;
    }
    stream_start_tls(&s->stream, tls, span_of("<proceed xmlns='" PHASE_NS_TLS "'/>"));
}

static void
s2s_in_sasl_failure(struct s2s *s, const char *condition)
{
    struct buf *t = stream_text(&s->stream);
    buf_puts(t, "<failure xmlns='" PHASE_NS_SASL "'><");
    buf_puts(t, condition);
    buf_puts(t, "/></failure>");
    stream_send_text(&s->stream);
}

/* Has this network proven as many domains without an entry as it may?  One certificate stands for
 * as many as somebody likes. */
static enum xe_why
s2s_source_pairs_why(const struct s2s *s, bool listed)
{
    return !listed && net_load(s->from, NET_PAIRS) >= s2s_limits(s)->source_pairs
        ? XE_WHY_SOURCE_PAIRS : XE_WHY_NONE;
}

/* <auth mechanism='EXTERNAL'/> (XEP-0178 3): the certificate stands for the domain of the header;
 * what is claimed here must be the same. */
static void
s2s_in_auth(struct s2s *s, const struct xe_xml_event *e)
{
    char authzid[XE_DOMAIN_MAX];
    struct s2s_pair *p;
    enum xe_why why;
    s2s_judge(s);   /* once more: since the header there may have been a reload */
    if (s->state != S2S_ACCEPTED || s->authenticated || s->npairs > 0) {
        s2s_fail(s, XE_WHY_SASL_ABUSE);   /* after dialback the stream cannot begin anew */
    } else if (s->local[0] == '\0') {
        s2s_fail(s, XE_WHY_BAD_ADDRESS);   /* nobody has said whom the stream is for */
    } else if (!span_is(xe_xml_attr(e, "mechanism"), "EXTERNAL")) {
        s2s_in_sasl_failure(s, "invalid-mechanism");
    } else if (!policy_allows_sasl(s->terms.methods, stream_is_secure(&s->stream))) {
        s2s_in_sasl_failure(s, "encryption-required");
    } else if (s->cert_why != XE_WHY_NONE) {
        s2s_log_why(s, LOG_WARN, "s2s-in-refused", s->cert_why);
        s2s_in_sasl_failure(s, "not-authorized");
    } else if (!sasl_external_decode(e->inner, authzid, sizeof authzid)) {
        s2s_in_sasl_failure(s, "incorrect-encoding");
    } else if (authzid[0] != '\0' && !s2s_authzid_is(authzid, s->remote)) {
        s2s_in_sasl_failure(s, "invalid-authzid");
    } else if ((why = s2s_source_pairs_why(s, s->terms.listed)) != XE_WHY_NONE
        || (why = s2s_room(s, span_of(s->remote))) != XE_WHY_NONE) {
        s2s_fail(s, why);
    } else {
        p = s2s_pair_new(s, span_of(s->remote), span_of(s->local));
        if (p == NULL || !s2s_count(s, p->remote, s->terms.listed)) {
            s2s_fail(s, XE_WHY_OUT_OF_MEMORY);
            return;
        }
        stream_send(&s->stream, span_of("<success xmlns='" PHASE_NS_SASL "'/>"));
        s->authenticated = true;
        p->certified = true;
        stream_restart(&s->stream);
        s2s_pair_open(p, "sasl-external");
    }
}

/* ---- stanzas that come in ---- */

/* The domain in a stanza address, as written; slow forms are resolved into `text`. */
static struct xe_span
s2s_address_domain(struct xe_span value, char *text, size_t text_size)
{
    struct xe_jid jid;
    if (value.at == NULL)
        return value;
    if (span_find(value, '&') < value.len) {
        if (!stream_unescape(value, text, text_size))
            return span_make(NULL, 0);
        value = span_of(text);
    }
    return xe_jid_split(value, &jid) ? jid.domain : span_make(NULL, 0);
}

/* The pair of these two domains, written in whatever way; NULL when it is not authorised here. */
static struct s2s_pair *
s2s_pair_lookup(struct s2s *s, struct xe_span from, struct xe_span to)
{
    char remote[XE_DOMAIN_MAX];
    char local[XE_DOMAIN_MAX];
    size_t remote_len;
    size_t local_len;
    struct s2s_pair *p = s->last;
    if (p != NULL && span_eq(p->remote, from) && span_eq(p->local, to))
        return p;
    if (!jid_address_normal(from, remote, &remote_len)
        || !jid_address_normal(to, local, &local_len))
        return NULL;
    p = s2s_pair_find(s, span_make(remote, remote_len), span_make(local, local_len));
    if (p == NULL || !p->open)
        return NULL;
    /* a pair that is not ASCII is never the last: as text its normal form is an A-label */
    if (span_eq(p->remote, from) && span_eq(p->local, to))
        s->last = p;
    return p;
}

/* A stanza.  It does not come towards whoever has dialled, unless he has asked for it. */
static void
s2s_stanza(struct s2s *s, const struct xe_xml_event *e)
{
    char from_text[3 * 1024];
    char to_text[3 * 1024];
    struct xe_span from = s2s_address_domain(xe_xml_attr(e, "from"), from_text, sizeof from_text);
    struct xe_span to = s2s_address_domain(xe_xml_attr(e, "to"), to_text, sizeof to_text);
    struct s2s_pair *p;
    if (s->state != S2S_OPEN && (!s->bidi || s->state != S2S_READY)) {
        s2s_fail(s, s->kind == S2S_IN || s->bidi ? XE_WHY_NOT_AUTHORIZED : XE_WHY_BAD_ELEMENT);
        return;
    }
    if (from.at == NULL || to.at == NULL) {
        s2s_fail(s, XE_WHY_BAD_ADDRESS);
        return;
    }
    p = s2s_pair_lookup(s, from, to);
    if (p == NULL) {
        if (s2s_log(s, LOG_WARN, "s2s-in-invalid-from")) {
            log_span(s->service->shared->log, "from", from);
            log_span(s->service->shared->log, "to", to);
            log_end(s->service->shared->log);
        }
        s2s_fail(s, jid_why(from, jid_why(to, XE_WHY_INVALID_FROM)));
        return;
    }
    if (s->acks == S2S_ACKS_ON && s->stream.state == STREAM_CLOSING) {
        s2s_log_why(s, LOG_DEBUG, "s2s-in-late", s->stream.why);
        return;   /* the peer knows how many we have, and answers for the others */
    }
    s->stanzas++;
    if (s->kind == S2S_OUT)
        s->stream.spoke = loop_now(s2s_loop(s));   /* it is no idle stream */
    s->service->events->stanza(s->service->user, p, e);
    if (s->acks == S2S_ACKS_ON && s->state != S2S_ENDED)
        s2s_count_received(s, p);
}

/* ---- dialback: requests that come in ---- */

/* The text of a dialback element; false when it is no key. */
static bool
s2s_key(const struct xe_xml_event *e, char key[S2S_KEY_MAX])
{
    return e->inner.len > 0 && span_find(e->inner, '<') == e->inner.len
        && stream_unescape(e->inner, key, S2S_KEY_MAX) && key[0] != '\0';
}

/* An element of dialback whose addresses are of no use. */
static void
s2s_bad_pair(struct s2s *s, const struct xe_xml_event *e)
{
    struct xe_span from = xe_xml_attr(e, "from");
    struct xe_span to = xe_xml_attr(e, "to");
    s2s_fail(s, s2s_domain_why(from, to, XE_WHY_BAD_ADDRESS));
}

/* What was answered about a key.  Two edges of one organisation that do not share the secret refuse
 * each other's keys: from outside that looks like a forgery, so it is said here. */
static void
s2s_log_asked(const struct s2s *s, const char *type)
{
    struct log *log = s->service->shared->log;
    bool valid = strcmp(type, "valid") == 0;
    bool known = strcmp(type, "error") != 0;
    if (!s2s_log(s, valid ? LOG_DEBUG : LOG_WARN, "dialback-asked"))
        return;
    log_text(log, "why", xe_why(valid ? XE_WHY_NONE : known ? XE_WHY_DIALBACK_INVALID
        : XE_WHY_HOST_UNKNOWN)->word);
    if (!valid && known)
        log_text(log, "detail", "not made with our secret: forged, or by another edge that has "
            "another secret-file");
    log_end(log);
}

/* <db:verify/>: was this key made by us?  Needs no state and no trunk, and is answered for every
 * domain of ours, in any state and on any stream (interop A.4). */
static void
s2s_verify_asked(struct s2s *s, const struct xe_xml_event *e)
{
    char remote[XE_DOMAIN_MAX];
    char local[XE_DOMAIN_MAX];
    char key[S2S_KEY_MAX];
    char id[STREAM_ID_MAX];
    struct xe_span raw_id = xe_xml_attr(e, "id");
    struct s2s_terms terms;
    struct buf *t;
    const char *type = "invalid";
    if (!s2s_domain(xe_xml_attr(e, "from"), remote) || !s2s_domain(xe_xml_attr(e, "to"), local)) {
        s2s_bad_pair(s, e);
        return;
    }
    if (!stream_unescape(raw_id, id, sizeof id) || !s2s_key(e, key)) {
        s2s_fail(s, XE_WHY_DIALBACK_INVALID);
        return;
    }
    if (s2s_admit(s, span_of(""), span_of(local), &terms) != XE_WHY_NONE)
        type = "error";
    else if (dialback_check(s->service->secret, span_of(remote), span_of(local),
        span_of(id), span_of(key)))
        type = "valid";
    t = s2s_begin_dialback(s, "db:verify", span_of(local), span_of(remote));
    xmlout_attr(t, "id", span_of(id));
    xmlout_attr(t, "type", span_of(type));
    buf_puts(t, strcmp(type, "error") == 0 ? "><error type='cancel'><item-not-found xmlns='"
        STREAM_NS_STANZAS "'/></error></db:verify>" : "/>");
    stream_send_text(&s->stream);
    s2s_log_asked(s, type);
}

/* May this pair be proven by dialback here and now? */
static enum xe_why
s2s_in_dialback_why(struct s2s *s, struct xe_span remote, struct xe_span local,
    struct s2s_terms *terms)
{
    enum xe_why why = s2s_in_dialback_terms(s, remote, local, terms);
    if (why != XE_WHY_NONE)
        return why;
    if (s->npairs >= s2s_limits(s)->pairs)
        return XE_WHY_PAIR_LIMIT;
    why = s2s_source_pairs_why(s, terms->listed);
    if (why != XE_WHY_NONE)
        return why;
    return s->npairs == 0 || !span_is(remote, s->remote)
        ? s2s_room(s, remote) : XE_WHY_NONE;
}

static void
s2s_in_result_refused(struct s2s *s, struct xe_span remote, struct xe_span local, enum xe_why why)
{
    s2s_log_refused(s, remote, local, why);
    s2s_send_result_error(s, local, remote, why);
}

/* ---- dialled connections ---- */

/* Where there is another target, a connection that failed before it was of any use is no end. */
static bool
s2s_try_next_target(struct s2s *s, enum xe_why why)
{
    bool certificate = why >= XE_WHY_CERT_KEY_SIZE && why <= XE_WHY_CERT_CRITICAL;
    if (s->dial == NULL || s->kind == S2S_IN || !timer_armed(&s->attempt))
        return false;
    if (s->state != S2S_HEADER && s->state != S2S_TLS && s->state != S2S_STARTTLS
        && s->state != S2S_FEATURES)
        return false;
    if (!certificate && why != XE_WHY_TLS_FAILED && why != XE_WHY_PEER_LOST
        && why != XE_WHY_PEER_CLOSED && why != XE_WHY_NOT_XMPP && why != XE_WHY_TLS_REFUSED)
        return false;
    s2s_log_why(s, LOG_INFO, "s2s-target-failed", why);
    xe_xml_free(&s->stream.xml);
    s2s_enter(s, S2S_DIALLING);
    s->dial->why = why;
    dial_next(s->dial);
    return true;
}

/* The host and port of a <see-other-host/>, which are what stands in front of its text; *port is 0
 * when it has none.  False when it is no address (RFC 6120 4.9.3.19). */
static bool
s2s_other_host(const char *said, char host[XE_DOMAIN_MAX], uint16_t *port)
{
    const char *text = strstr(said, ": ");
    struct xe_span at = span_make(said, text == NULL ? strlen(said) : (size_t)(text - said));
    size_t digits = at.len;
    int64_t number = 0;
    size_t len;
    while (digits > 0 && at.at[digits - 1] >= '0' && at.at[digits - 1] <= '9')
        digits--;
    if (digits > 0 && at.at[digits - 1] == ':') {
        number = stream_number(span_skip(at, digits));
        at.len = digits - 1;
        if (number < 1 || number > UINT16_MAX)
            return false;
    }
    *port = (uint16_t)number;
    return at.len < STREAM_DETAIL_MAX - 1 && jid_address_normal(at, host, &len);
}

/* May this connection, which has ended, be followed to where its server says?  Not from where the
 * configuration alone says where a server is, nor where there is no TLS to prove the other one. */
static bool
s2s_may_follow(const struct s2s *s, enum xe_why why)
{
    char host[XE_DOMAIN_MAX];
    uint16_t port;
    return why == XE_WHY_SEE_OTHER_HOST && s->kind != S2S_IN && !s->redirected && !s->leaving
        && !s->terms.ours && s->terms.tls != POLICY_NOT_SUPPORTED
        && s->service->client_tls != NULL && s2s_other_host(s->stream.detail, host, &port);
}

static void
s2s_log_followed(const struct s2s *s)
{
    struct log *log = s->service->shared->log;
    if (!s2s_log(s, LOG_INFO, "s2s-out-redirected"))
        return;
    log_text(log, "host", s->terms.route);
    if (s->terms.route_port != 0)
        log_int(log, "port", s->terms.route_port);
    log_end(log);
}

/* Begin anew at another host, in the time that is left for the attempt.  Whoever has sent us there
 * may be anybody on the way: what is found there needs a certificate for the domain, whatever else
 * policy would take (s2s_out_authenticate). */
static void
s2s_follow(struct s2s *s, const char *said)
{
    if (!s2s_other_host(said, s->terms.route, &s->terms.route_port))
        return;
    s->redirected = true;
    s2s_log_followed(s);
    if (s->query != NULL)
        dns_cancel(s->query);
    s->query = NULL;
    dial_free(s->dial);
    s->dial = NULL;
    s->tried_sasl = s->authenticated = false;
    s->stream.detail[0] = '\0';
    xe_xml_free(&s->stream.xml);
    s2s_enter(s, S2S_RESOLVING);
    if (!timer_armed(&s->attempt))
        timer_set(s2s_loop(s), &s->attempt, s2s_limits(s)->attempt_ms);
    loop_at_end(s2s_loop(s), &s->resolve);
}

static void
s2s_stream_ended(struct stream *stream, enum xe_why why)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    if (s->state == S2S_ENDED || s2s_try_next_target(s, why))
        return;
    if (s->state != S2S_READY && s2s_may_follow(s, why)) {
        s2s_follow(s, s->stream.detail);
        return;
    }
    /* a stream error in the middle of dialback or SASL says more than the bare end */
    s2s_end(s, why);
}

static void
s2s_send_dialback(struct s2s *s)
{
    char key[DIALBACK_KEY_LEN + 1];
    struct buf *t;
    dialback_key(s->service->secret, span_of(s->remote), span_of(s->local),
        span_of(s->stream.id), key);
    t = s2s_begin_dialback(s, "db:result", span_of(s->local), span_of(s->remote));
    buf_putc(t, '>');
    buf_puts(t, key);
    buf_puts(t, "</db:result>");
    timer_cancel(s2s_loop(s), &s->attempt);
    s2s_enter(s, S2S_DIALBACK);
    stream_send_text(&s->stream);
}

/* Ask the authoritative server about the key that was shown to us (XEP-0220 2.3). */
static void
s2s_send_verify(struct s2s *s, const struct s2s_pair *p)
{
    struct buf *t = s2s_begin_dialback(s, "db:verify", p->local, p->remote);
    xmlout_attr(t, "id", span_of(p->stream->stream.id));
    buf_putc(t, '>');
    xmlout_text(t, span_of(p->key));
    buf_puts(t, "</db:verify>");
    stream_send_text(&s->stream);
}

/* All the questions that have come together while the connection was made. */
static void
s2s_send_verifies(struct s2s *s)
{
    const struct list_node *n;
    if (list_empty(&s->asks)) {   /* who wanted to know has gone meanwhile */
        s2s_close(s, XE_WHY_DONE);
        return;
    }
    timer_cancel(s2s_loop(s), &s->attempt);
    s2s_enter(s, S2S_VERIFYING);
    for (n = s->asks.next; n != &s->asks; n = n->next)
        s2s_send_verify(s, MAP_OWNER(n, const struct s2s_pair, ask));
}

static void
s2s_send_auth(struct s2s *s)
{
    s->tried_sasl = true;
    s2s_enter(s, S2S_AUTH);
    stream_send_auth(&s->stream, span_of(s->local));
}

/* Who is there has been proven, by the certificate or by where DNS has led us: stanzas of the pair
 * turned round are welcome, too. */
static void
s2s_turn_round(struct s2s *s)
{
    struct s2s_pair *p = s2s_pair_new(s, span_of(s->remote), span_of(s->local));
    if (p == NULL) {
        s2s_fail(s, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    p->open = true;
    p->certified = s->authenticated;
    s->service->events->paired(s->service->user, p);
}

/* Ask for both directions on this connection, and say what we take. */
static void
s2s_send_bidi(struct s2s *s)
{
    struct buf *t = stream_text(&s->stream);
    buf_puts(t, "<bidi xmlns='" PHASE_NS_BIDI "'>");
    s2s_put_limits(t, s2s_limits(s));
    buf_puts(t, "</bidi>");
    s->bidi = stream_send_text(&s->stream);
}

/* The connection may carry the stanzas of its pair. */
static void
s2s_become_ready(struct s2s *s, const char *method)
{
    s->method = method;
    timer_cancel(s2s_loop(s), &s->attempt);
    dial_free(s->dial);
    s->dial = NULL;
    stream_trust(&s->stream,
        s->terms.listed ? net_source_of(s->service->shared->nets, &s->target) : NULL);
    s2s_enter(s, S2S_READY);
    s2s_log_open(s, span_of(s->remote));
    if (s->acks == S2S_ACKS_OFFERED
        && stream_send(&s->stream, span_of("<enable xmlns='" PHASE_NS_SM "'/>")))
        s->acks = S2S_ACKS_ASKED;
    s->service->events->ready(s->service->user, s);
    if (s->bidi && s->state == S2S_READY)
        s2s_turn_round(s);
}

/* Dialback where policy allows it on this stream; otherwise the reason why there is no way on. */
static void
s2s_out_dialback_or(struct s2s *s, enum xe_why why)
{
    if (!s2s_dialback_allowed(s, s->terms.methods)) {
        s2s_fail(s, why);
        return;
    }
    if (stream_is_secure(&s->stream) && s->cert_why != XE_WHY_NONE)
        s2s_log_why(s, LOG_INFO, "s2s-out-certificate", s->cert_why);
    s2s_send_dialback(s);
}

/* There will be no more TLS than there is: prove who we are, or ask what we came to ask.
 * `external`: the peer offers it. */
static void
s2s_out_authenticate(struct s2s *s, bool external)
{
    bool trusted = s->cert_why == XE_WHY_NONE;
    if (s2s_tls_missing(s, &s->terms) || (s->redirected && !stream_is_secure(&s->stream))) {
        s2s_fail(s, XE_WHY_TLS_NOT_OFFERED);
    } else if (s->redirected && !trusted) {
        s2s_fail(s, s->cert_why);
    } else if (s->kind == S2S_VERIFY) {
        s2s_send_verifies(s);
    } else if (external && trusted && !s->tried_sasl
        && policy_allows_sasl(s->terms.methods, stream_is_secure(&s->stream))) {
        s2s_send_auth(s);
    } else {
        s2s_out_dialback_or(s, s->tried_sasl ? XE_WHY_SASL_REFUSED : !trusted
            && stream_is_secure(&s->stream) ? s->cert_why : XE_WHY_NO_METHOD);
    }
}

static bool
s2s_offers_external(struct s2s *s, struct elem features)
{
    struct elem m = elem_first(elem_child(features, "mechanisms", PHASE_NS_SASL));
    for (; m.at != NULL; m = elem_next(m)) {
        struct buf *t = stream_text(&s->stream);
        elem_put_text(t, m);
        if (elem_is(m, "mechanism", PHASE_NS_SASL) && span_is(buf_span(t), "EXTERNAL"))
            return true;
    }
    return false;
}

static void
s2s_out_features(struct s2s *s, const struct xe_xml_event *e)
{
    struct elem features;
    bool external;
    bool starttls;
    bool bidi;
    if (s->state != S2S_FEATURES)
        return;
    features = elem_parse(&s->stream.xml, e);
    external = s2s_offers_external(s, features);
    s->acks = elem_child(features, "sm", PHASE_NS_SM).at != NULL ? S2S_ACKS_OFFERED : S2S_ACKS_NONE;
    starttls = elem_child(features, "starttls", PHASE_NS_TLS).at != NULL;
    bidi = elem_child(features, "bidi", PHASE_NS_BIDI_OFFER).at != NULL
        || elem_child(features, "bidi", PHASE_NS_BIDI).at != NULL;
    s2s_read_limits(s, features);
    elem_free(features);
    if (s->authenticated) {
        s2s_become_ready(s, "sasl-external");
    } else if (starttls && s2s_tls_possible(s)) {
        s2s_enter(s, S2S_STARTTLS);
        stream_send(&s->stream, span_of("<starttls xmlns='" PHASE_NS_TLS "'/>"));
    } else {
        if (bidi && s2s_bidi_possible(s))
            s2s_send_bidi(s);
        s2s_out_authenticate(s, external);
    }
}

static void
s2s_out_header(struct stream *stream, const struct xe_xml_event *e)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    (void)e;
    s2s_judge(s);
    s2s_enter(s, S2S_FEATURES);
    if (!s->stream.version_1)
        s2s_out_authenticate(s, false);   /* before 1.0 there are no features (RFC 6120 4.7.5) */
}

static void
s2s_out_proceed(struct s2s *s, const struct xe_xml_event *e)
{
    struct tls *tls = s->state == S2S_STARTTLS ? s2s_new_tls(s) : NULL;
    (void)e;
    if (tls == NULL) {
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
        return;
    }
    s2s_enter(s, S2S_TLS);
    stream_start_tls(&s->stream, tls, span_make(NULL, 0));
}

static void
s2s_out_success(struct s2s *s, const struct xe_xml_event *e)
{
    (void)e;
    if (s->state != S2S_AUTH) {
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
        return;
    }
    s->authenticated = true;
    stream_restart(&s->stream);
    s2s_enter(s, S2S_HEADER);
    stream_send_header(&s->stream, span_of(s->local), span_of(s->remote));
}

/* <failure/>: remember what the peer says and go on with dialback on the same stream (XEP-0178
 * 1.2). */
static void
s2s_out_sasl_failure(struct s2s *s, const struct xe_xml_event *e)
{
    struct elem failure;
    struct elem c;
    struct buf *t;
    if (s->state != S2S_AUTH) {
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
        return;
    }
    failure = elem_parse(&s->stream.xml, e);
    t = stream_text(&s->stream);
    for (c = elem_first(failure); c.at != NULL; c = elem_next(c)) {
        buf_puts(t, buf_len(t) > 0 ? ": " : "");
        if (elem_is(c, "text", NULL))
            elem_put_text(t, c);
        else
            buf_put(t, elem_name(c));
    }
    stream_note(&s->stream, buf_span(t));
    elem_free(failure);
    s2s_log_why(s, LOG_WARN, "s2s-out-sasl-refused", XE_WHY_SASL_REFUSED);
    s2s_out_dialback_or(s, XE_WHY_SASL_REFUSED);
}

/* The condition inside <error/> of a dialback answer, for the log. */
static void
s2s_note_error(struct s2s *s, const struct xe_xml_event *e)
{
    struct elem tree = elem_parse(&s->stream.xml, e);
    struct elem c = elem_first(elem_child(tree, "error", NULL));
    if (c.at != NULL)
        stream_note(&s->stream, elem_name(c));
    elem_free(tree);
}

static bool
s2s_answer_matches(const struct s2s *s, const struct xe_xml_event *e)
{
    return s2s_domain_is(xe_xml_attr(e, "from"), s->remote)
        && s2s_domain_is(xe_xml_attr(e, "to"), s->local);
}

/* An answer to our <db:result/>. */
static void
s2s_out_result(struct s2s *s, const struct xe_xml_event *e)
{
    struct xe_span type = xe_xml_attr(e, "type");
    if (s->state != S2S_DIALBACK || !s2s_answer_matches(s, e)) {
        s2s_log_why(s, LOG_WARN, "s2s-unasked-dialback", XE_WHY_BAD_ELEMENT);
        return;
    }
    if (span_is(type, "valid")) {
        s2s_become_ready(s, stream_is_secure(&s->stream) ? "tls-dialback" : "tcp-dialback");
    } else if (span_is(type, "error")) {
        s2s_note_error(s, e);
        s2s_close(s, XE_WHY_DIALBACK_ERROR);
    } else {
        s2s_close(s, XE_WHY_DIALBACK_INVALID);
    }
}

/* The pair whose question this answers; NULL: nobody has asked that here. */
static struct s2s_pair *
s2s_asked(const struct s2s *s, const struct xe_xml_event *e)
{
    const struct list_node *n;
    char remote[XE_DOMAIN_MAX];
    char local[XE_DOMAIN_MAX];
    char id[STREAM_ID_MAX];
    if (s->state != S2S_VERIFYING || xe_xml_attr(e, "id").at == NULL
        || !stream_unescape(xe_xml_attr(e, "id"), id, sizeof id)
        || !s2s_domain(xe_xml_attr(e, "from"), remote) || !s2s_domain(xe_xml_attr(e, "to"), local))
        return NULL;
    for (n = s->asks.next; n != &s->asks; n = n->next) {
        struct s2s_pair *p = MAP_OWNER(n, struct s2s_pair, ask);
        if (span_is(p->remote, remote) && span_is(p->local, local)
            && strcmp(id, p->stream->stream.id) == 0)
            return p;
    }
    return NULL;
}

/* The answer to a <db:verify/> of ours. */
static void
s2s_out_verify(struct s2s *s, const struct xe_xml_event *e)
{
    struct xe_span type = xe_xml_attr(e, "type");
    struct s2s_pair *p = s2s_asked(s, e);
    if (p == NULL) {
        s2s_log_why(s, LOG_WARN, "s2s-unasked-dialback", XE_WHY_BAD_ELEMENT);
        return;
    }
    if (span_is(type, "error"))
        s2s_note_error(s, e);
    s2s_verified(p, span_is(type, "valid") ? XE_WHY_NONE
        : span_is(type, "error") ? XE_WHY_DIALBACK_ERROR : XE_WHY_DIALBACK_INVALID);
    if (list_empty(&s->asks) && s->state != S2S_ENDED)
        s2s_close(s, XE_WHY_DONE);
}

static void
s2s_out_tls_failure(struct s2s *s, const struct xe_xml_event *e)
{
    (void)e;
    s2s_fail(s, XE_WHY_TLS_REFUSED);
}

/* A dialback key for more pairs, which XEP-0288 allows: no error, and nothing that we take here.
 * The peer dials for them, as it would have done. */
static void
s2s_out_more_pairs(struct s2s *s, const struct xe_xml_event *e)
{
    char remote[XE_DOMAIN_MAX];
    char local[XE_DOMAIN_MAX];
    if (!s->bidi || s->state != S2S_READY)
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
    else if (!s2s_domain(xe_xml_attr(e, "from"), remote)
        || !s2s_domain(xe_xml_attr(e, "to"), local))
        s2s_bad_pair(s, e);
    else
        s2s_in_result_refused(s, span_of(remote), span_of(local), XE_WHY_DIALBACK_OFF);
}

/* A question about a key of ours comes this way when the peer has no other one to us. */
static void
s2s_out_asked_verify(struct s2s *s, const struct xe_xml_event *e)
{
    if (s->bidi && s->state == S2S_READY)
        s2s_verify_asked(s, e);
    else
        s2s_fail(s, XE_WHY_BAD_ELEMENT);
}

/* What a dialled connection may say, and who understands it. */
static void
s2s_out_element(struct stream *stream, const struct xe_xml_event *e)
{
    static const struct s2s_known known[] = {
        { XE_KIND_FEATURES, s2s_out_features }, { XE_KIND_PROCEED, s2s_out_proceed },
        { XE_KIND_TLS_FAILURE, s2s_out_tls_failure }, { XE_KIND_SUCCESS, s2s_out_success },
        { XE_KIND_SASL_FAILURE, s2s_out_sasl_failure },
        { XE_KIND_DB_RESULT_ANSWER, s2s_out_result },
        { XE_KIND_DB_VERIFY_ANSWER, s2s_out_verify }, { XE_KIND_SM_ENABLED, s2s_out_enabled },
        { XE_KIND_SM_FAILED, s2s_out_enabled }, { XE_KIND_SM_A, s2s_acknowledged },
        { XE_KIND_SM_R, s2s_asked_ack }, { XE_KIND_MESSAGE, s2s_stanza },
        { XE_KIND_PRESENCE, s2s_stanza }, { XE_KIND_IQ, s2s_stanza },
        { XE_KIND_DB_RESULT, s2s_out_more_pairs }, { XE_KIND_DB_VERIFY, s2s_out_asked_verify } };
    s2s_handle((struct s2s *)(void *)stream, e, known, sizeof known / sizeof *known);
}

/* TLS is up, in either direction: what was said before does not count (RFC 6120 5.4.3.3). */
static void
s2s_secured(struct stream *stream)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    stream_restart(stream);
    if (s->kind == S2S_IN)
        return;
    s2s_enter(s, S2S_HEADER);
    stream_send_header(stream, span_of(s->local), span_of(s->remote));
}

static void
s2s_stream_drained(struct stream *stream)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    if (s->answers_wait) {
        s->answers_wait = false;
        s2s_pause(s, false);
    }
    if (s2s_carries(s))
        s->service->events->drained(s->service->user, s);
}

static enum xe_why
s2s_reach(const struct s2s *s, const struct dns_target *target, const char **what)
{
    return s->service->events->reach(s->service->user, span_of(s->remote), target, what);
}

static enum xe_why
s2s_judge_target(void *user, const struct dns_target *target)
{
    const char *what;
    return s2s_reach(user, target, &what);
}

/* Say once what was left out, where there was something better to dial. */
static void
s2s_log_left_out(struct s2s *s)
{
    struct log *log = s->service->shared->log;
    const struct dns_target *target = &s->dial->targets[s->dial->refused];
    const char *what = NULL;
    char at[CONN_TEXT_MAX];
    enum xe_why why = s->dial->nrefused > 0 ? s2s_reach(s, target, &what) : XE_WHY_NONE;
    if (what != NULL && s2s_log(s, LOG_WARN, "s2s-target-refused")) {
        log_text(log, "why", xe_why(why)->word);
        log_text(log, "target", conn_address_text(&target->addr, at));
        log_text(log, "host", target->host);
        log_text(log, "detail", what);
        log_int(log, "refused", (int64_t)s->dial->nrefused);
        log_end(log);
    }
    s->dial->nrefused = 0;
}

/* What the end of an attempt says of a target that may not be dialled. */
static void
s2s_note_refused(struct s2s *s, const struct dns_target *target)
{
    const char *what;
    char at[CONN_TEXT_MAX];
    char text[STREAM_DETAIL_MAX];
    s2s_reach(s, target, &what);
    if (what == NULL)   /* a reload has opened it meanwhile */
        return;
    snprintf(text, sizeof text, "%s: %s", conn_address_text(&target->addr, at), what);
    stream_note(&s->stream, span_of(text));
}

static void
s2s_connected(void *user, int fd, const struct dns_target *target)
{
    static const struct stream_events events = { s2s_out_header, s2s_out_element, s2s_secured,
        s2s_stream_drained, s2s_stream_ended, NULL, s2s_parting };
    struct s2s *s = user;
    struct tls *tls;
    s->target = target->addr;
    s->acks = S2S_ACKS_NONE;
    s->bidi = false;
    s->max_bytes = SIZE_MAX;
    s->peer_idle_ms = 0;
    s2s_log_left_out(s);
    if (!stream_start(&s->stream, s->service->shared, fd, true, &events)) {
        s2s_end(s, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    if (!target->direct_tls) {
        s2s_enter(s, S2S_HEADER);
        stream_send_header(&s->stream, span_of(s->local), span_of(s->remote));
        return;
    }
    s2s_enter(s, S2S_TLS);
    tls = s2s_new_tls(s);
    if (tls == NULL)
        s2s_end(s, XE_WHY_TLS_FAILED);
    else
        stream_start_direct_tls(&s->stream, tls);
}

static void
s2s_dial_failed(void *user, enum xe_why why, const struct dns_target *target)
{
    struct s2s *s = user;
    if (target != NULL)
        s->target = target->addr;
    if (why == XE_WHY_ADDRESS_REFUSED || why == XE_WHY_PORT_REFUSED)
        s2s_note_refused(s, target);
    else
        s2s_log_left_out(s);
    s2s_end(s, why);
}

static void
s2s_resolved(void *user, enum xe_why why, const struct dns_target *targets, size_t n)
{
    struct s2s *s = user;
    s->query = NULL;
    if (why != XE_WHY_NONE) {
        s2s_end(s, why);
        return;
    }
    s->dial = dial_new(s->service->shared->wire, targets, n, s->service->from,
        s2s_limits(s)->connect_ms, s2s_limits(s)->race_ms);
    if (s->dial == NULL) {
        s2s_end(s, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    s->dial->judge = s2s_judge_target;
    s->dial->connected = s2s_connected;
    s->dial->failed = s2s_dial_failed;
    s->dial->user = s;
    s2s_enter(s, S2S_DIALLING);
    dial_next(s->dial);
}

static struct dns_query *
s2s_resolve(struct s2s *s)
{
    static const struct dns_events events = { s2s_resolved };
    const struct log_party party = s2s_party(s);
    const struct s2s_terms *t = &s->terms;
    enum dns_tls tls = t->tls == POLICY_NOT_SUPPORTED ? DNS_TLS_STARTTLS_ONLY : DNS_TLS_ANY;
    if (s->redirected && t->route_port != 0)
        return dns_find_host(s->service->dns, t->route, t->route_port, &party, &events, s);
    if (t->route[0] != '\0' && !s->redirected)
        return dns_find_address(s->service->dns, t->route, t->route_port, t->route_tls, &events, s);
    return dns_find_servers(s->service->dns, s->redirected ? t->route : s->remote, tls, &party,
        &events, s);
}

static void
s2s_resolve_again(struct loop_task *task)
{
    struct s2s *s = MAP_OWNER(task, struct s2s, resolve);
    s->query = s2s_resolve(s);
    if (s->query == NULL)
        s2s_end(s, XE_WHY_OUT_OF_MEMORY);
}

static struct s2s *
s2s_new(struct s2s_service *v, enum s2s_kind kind)
{
    struct s2s *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->service = v;
    s->kind = kind;
    s->method = "";
    s->max_bytes = SIZE_MAX;
    s->cert_why = XE_WHY_CERT_MISSING;
    s->stream.shared = v->shared;
    s->stream.state = STREAM_ENDED;
    s->timer.fire = s2s_timeout;
    s->attempt.fire = s2s_attempt_timeout;
    s->ack_timer.fire = s2s_ack_timeout;
    s->ack_task.run = s2s_ack_settled;
    s->resolve.run = s2s_resolve_again;
    s->reap.run = s2s_free;
    s->since = loop_now(v->shared->loop);
    list_init(&s->pairs);
    list_init(&s->asks);
    list_init(&s->users);
    list_append(&v->all, &s->node);
    v->count++;
    v->peak = v->count > v->peak ? v->count : v->peak;
    v->accepted += kind == S2S_IN;
    v->verifies += kind == S2S_VERIFY;
    return s;
}

/* Connect to `remote` in the name of `local`.  For S2S_VERIFY, `asker` has a key to be asked about.
 * NULL when memory is out; else the outcome comes as an event. */
static struct s2s *
s2s_dial(struct s2s_service *v, enum s2s_kind kind, struct xe_span remote, struct xe_span local,
    const struct s2s_terms *terms, struct s2s_pair *asker)
{
    struct s2s *s = s2s_new(v, kind);
    if (s == NULL)
        return NULL;
    s->terms = *terms;
    memcpy(s->remote, remote.at, remote.len);
    memcpy(s->local, local.at, local.len);
    s2s_enter(s, S2S_RESOLVING);
    timer_set(v->shared->loop, &s->attempt, s2s_limits(s)->attempt_ms);
    if (asker != NULL) {
        s->alone = asker->alone;
        s2s_enter_question(s, asker->stream->from);
    }
    s->query = !s2s_count(s, remote, terms->listed) ? NULL : s2s_resolve(s);
    if (s->query == NULL) {
        s2s_end(s, XE_WHY_OUT_OF_MEMORY);
        return NULL;
    }
    if (asker != NULL)
        s2s_pair_enter_ask(asker, s);
    return s;
}

/* ---- dialback: whose question is asked, and whose waits ---- */

/* Claims cost nothing, so room is kept: a quarter for domains that are listed, and of that half for
 * networks where one was proven lately, whatever they ask about.  They go before others, too.
 * Between equals the network with least under way goes first, then the domain: many networks that
 * ask about domains with slow servers, a question each, do not hold up another's. */
enum s2s_rank { S2S_ANYBODY, S2S_LISTED, S2S_KNOWN };

static enum s2s_rank
s2s_rank(const struct s2s_service *v, const struct net_source *from, bool listed)
{
    if (net_is_known(from, loop_now(v->shared->loop)))
        return S2S_KNOWN;
    return listed ? S2S_LISTED : S2S_ANYBODY;
}

/* How much of the questions about a domain is there for a network? */
static size_t
s2s_peer_load(const struct s2s_service *v, const struct s2s_peer *peer,
    const struct net_source *from)
{
    size_t counts[NET_WIDTHS] = { 0 };
    const struct list_node *n;
    for (n = v->questions.next; n != &v->questions; n = n->next) {
        const struct s2s *q = MAP_OWNER(n, const struct s2s, stranger);
        if (q->peer == peer)
            net_tally(counts, q->from, from);
    }
    return net_fold(counts);
}

/* How much of the questions is about a domain? */
static size_t
s2s_domain_load(const struct s2s_pair *p)
{
    const struct s2s_peer *peer = s2s_peer_find(p->stream->service, p->remote);
    return peer == NULL ? 0 : peer->verifies;
}

/* The connection on which this network asks the same server already, if it takes one question more;
 * NULL: there is none. */
static struct s2s *
s2s_question_with(const struct s2s_pair *p, const struct s2s_terms *terms)
{
    const struct s2s_service *v = p->stream->service;
    const struct s2s_peer *peer = s2s_peer_find(v, p->remote);
    struct s2s *q = peer == NULL || p->alone ? NULL : peer->verify;
    if (q == NULL || q->alone || q->leaving || q->nasks >= S2S_SHARE_MAX
        || q->from != p->stream->from || q->terms.tls != terms->tls
        || loop_now(v->shared->loop) - q->since >= S2S_TURN_MS)
        return NULL;
    return q->stream.conn != NULL && q->stream.state == STREAM_CLOSING ? NULL : q;
}

/* Why the question about a pair cannot be asked now; XE_WHY_NONE: it can.  Our own servers come
 * with hundreds when they have been restarted: they are no strangers. */
static enum xe_why
s2s_question_why(const struct s2s_pair *p, const struct s2s_terms *terms)
{
    const struct s2s_service *v = p->stream->service;
    const struct net_source *from = p->stream->from;
    const struct config_limits *l = v->shared->limits;
    const struct s2s_peer *peer = s2s_peer_find(v, p->remote);
    enum s2s_rank rank = terms->ours ? S2S_KNOWN : s2s_rank(v, from, terms->listed);
    size_t kept = rank == S2S_KNOWN ? 0 : l->dialbacks / (rank == S2S_LISTED ? 8 : 4);
    size_t kept_of_domain = rank == S2S_KNOWN ? 0 : l->partner_dialbacks / 4;
    if (s2s_question_with(p, terms) != NULL)
        return XE_WHY_NONE;
    if (v->verifies + kept >= l->dialbacks)
        return XE_WHY_DIALBACKS;
    if (terms->ours)
        return XE_WHY_NONE;
    if (net_load(from, NET_QUESTIONS) >= l->source_dialbacks)
        return XE_WHY_SOURCE_DIALBACKS;
    /* a slow domain must not use up those of all, nor who claims it those about it */
    if (peer != NULL && (peer->verifies + kept_of_domain >= l->partner_dialbacks
        || s2s_peer_load(v, peer, from) >= (l->partner_dialbacks + 3) / 4))
        return XE_WHY_PARTNER_DIALBACKS;
    return XE_WHY_NONE;
}

static enum xe_why
s2s_pair_why(const struct s2s_pair *p)
{
    struct s2s_terms terms = { .listed = false };
    s2s_admit(p->stream, p->remote, p->local, &terms);
    return s2s_question_why(p, &terms);
}

/* Is `a` to be asked before `b`, which waits for longer?  `what` is what is scarce. */
static bool
s2s_pair_goes_before(const struct s2s_pair *a, const struct s2s_pair *b, enum net_what what)
{
    const struct s2s_service *v = a->stream->service;
    enum s2s_rank rank_of_a = s2s_rank(v, a->stream->from, s2s_pair_is_listed(a));
    enum s2s_rank rank_of_b = s2s_rank(v, b->stream->from, s2s_pair_is_listed(b));
    size_t load_of_a = net_load(a->stream->from, what);
    size_t load_of_b = net_load(b->stream->from, what);
    if (rank_of_a != rank_of_b)
        return rank_of_a > rank_of_b;
    if (load_of_a != load_of_b)
        return load_of_a < load_of_b;
    return s2s_domain_load(a) < s2s_domain_load(b);
}

/* The one to be asked next; NULL: there is room for none. */
static struct s2s_pair *
s2s_next_waiting(const struct s2s_service *v)
{
    struct s2s_pair *best = NULL;
    const struct list_node *n;
    for (n = v->waiting.next; n != &v->waiting; n = n->next) {
        struct s2s_pair *p = MAP_OWNER(n, struct s2s_pair, waiting);
        if ((best == NULL || s2s_pair_goes_before(p, best, NET_QUESTIONS))
            && s2s_pair_why(p) == XE_WHY_NONE)
            best = p;
    }
    return best;
}

/* The one that goes when too many wait: the newest of those who have most of it. */
static struct s2s_pair *
s2s_last_waiting(const struct s2s_service *v)
{
    struct s2s_pair *worst = NULL;
    const struct list_node *n;
    for (n = v->waiting.next; n != &v->waiting; n = n->next) {
        struct s2s_pair *p = MAP_OWNER(n, struct s2s_pair, waiting);
        if (worst == NULL || !s2s_pair_goes_before(p, worst, NET_WAITING))
            worst = p;
    }
    return worst;
}

static void
s2s_ask(struct s2s_pair *p, const struct s2s_terms *terms)
{
    struct s2s *q = s2s_question_with(p, terms);
    if (q == NULL) {
        if (s2s_dial(p->stream->service, S2S_VERIFY, p->remote, p->local, terms, p) == NULL)
            s2s_verified(p, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    s2s_pair_enter_ask(p, q);
    if (q->state == S2S_VERIFYING)
        s2s_send_verify(q, p);
}

/* Ask, or wait until there is room.  When too many wait, one of them is refused. */
static void
s2s_ask_or_wait(struct s2s_pair *p, const struct s2s_terms *terms, const char *key)
{
    struct s2s_service *v = p->stream->service;
    enum xe_why why = s2s_question_why(p, terms);
    p->key = malloc(strlen(key) + 1);
    if (p->key == NULL) {
        s2s_verified(p, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    strcpy(p->key, key);
    if (why == XE_WHY_NONE) {
        s2s_ask(p, terms);
        return;
    }
    s2s_pair_wait(p);
    s2s_log_why(p->stream, LOG_INFO, "s2s-in-waits", why);
    if (v->nwaiting > v->shared->limits->waiting_dialbacks)
        s2s_verified(s2s_last_waiting(v), XE_WHY_DIALBACKS);
}

/* Ask as many of those that wait as there is room for. */
static void
s2s_serve_waiting(struct loop_task *task)
{
    struct s2s_service *v = MAP_OWNER(task, struct s2s_service, serve);
    struct s2s_pair *p;
    while ((p = s2s_next_waiting(v)) != NULL) {
        struct s2s_terms terms;
        enum xe_why why = s2s_in_dialback_terms(p->stream, p->remote, p->local, &terms);
        s2s_pair_unwait(p);
        if (why == XE_WHY_NONE)
            s2s_ask(p, &terms);
        else
            s2s_verified(p, why);
    }
}

/* Whose question has to end so that this one can be asked?  One that has had its turn, of a network
 * that would still have as many as the one that waits, or, where the two would have as many, about
 * such a domain; NULL: it has to wait. */
static struct s2s *
s2s_question_over(const struct s2s_service *v, const struct s2s_pair *p, enum xe_why why)
{
    const struct s2s_peer *peer = s2s_peer_find(v, p->remote);
    const struct net_source *from = p->stream->from;
    bool of_domain = why == XE_WHY_PARTNER_DIALBACKS;
    enum s2s_rank rank = s2s_rank(v, from, s2s_pair_is_listed(p));
    size_t most = 1 + (of_domain ? s2s_peer_load(v, peer, from) : net_load(from, NET_QUESTIONS));
    size_t most_of_domain = 1 + s2s_domain_load(p);
    struct s2s *worst = NULL;
    struct list_node *n;
    for (n = v->questions.next; n != &v->questions; n = n->next) {
        struct s2s *q = MAP_OWNER(n, struct s2s, stranger);
        size_t load;
        if (loop_now(v->shared->loop) - q->since < S2S_TURN_MS)
            break;   /* and those behind it began later */
        if (of_domain && q->peer != peer)
            continue;
        load = of_domain ? s2s_peer_load(v, peer, q->from) : net_load(q->from, NET_QUESTIONS);
        if (load < most || (load == most && q->peer->verifies <= most_of_domain)
            || s2s_rank(v, q->from, q->terms.listed) > rank)
            continue;
        most = load;
        most_of_domain = q->peer->verifies;
        worst = q;
    }
    return worst;
}

/* End a question for one that waits; false when there is none to be ended for any. */
static bool
s2s_take_turns(struct s2s_service *v)
{
    struct list_node *n;
    for (n = v->waiting.next; n != &v->waiting; n = n->next) {
        struct s2s_pair *p = MAP_OWNER(n, struct s2s_pair, waiting);
        enum xe_why why = s2s_pair_why(p);
        struct s2s *over = why == XE_WHY_DIALBACKS || why == XE_WHY_PARTNER_DIALBACKS
            ? s2s_question_over(v, p, why) : NULL;
        if (over != NULL) {
            s2s_end(over, why);
            return true;
        }
    }
    return false;
}

/* Time has gone by for those that wait: too much of it, or somebody else has had his turn. */
static void
s2s_turn(struct timer *t)
{
    struct s2s_service *v = MAP_OWNER(t, struct s2s_service, turn);
    int64_t before = loop_now(v->shared->loop) - v->shared->limits->dialback_wait_ms;
    while (v->nwaiting > 0
        && MAP_OWNER(v->waiting.next, struct s2s_pair, waiting)->asked <= before)
        s2s_verified(MAP_OWNER(v->waiting.next, struct s2s_pair, waiting), XE_WHY_DIALBACK_WAIT);
    do
        s2s_serve_waiting(&v->serve);
    while (s2s_take_turns(v));
    if (v->nwaiting > 0)
        timer_set(v->shared->loop, &v->turn, S2S_TURN_MS / 4);
}

/* ---- dialback: a request for a pair ---- */

/* <db:result/> from the other side: it wants to send from `remote` to `local`. */
static void
s2s_in_result(struct s2s *s, const struct xe_xml_event *e)
{
    char remote[XE_DOMAIN_MAX];
    char local[XE_DOMAIN_MAX];
    char key[S2S_KEY_MAX];
    struct s2s_terms terms;
    struct s2s_pair *p;
    enum xe_why why;
    bool certain;
    if (!s2s_domain(xe_xml_attr(e, "from"), remote) || !s2s_domain(xe_xml_attr(e, "to"), local)) {
        s2s_bad_pair(s, e);
        return;
    }
    if (!s2s_key(e, key)) {
        s2s_fail(s, XE_WHY_DIALBACK_INVALID);
        return;
    }
    p = s2s_pair_find(s, span_of(remote), span_of(local));
    if (p != NULL) {
        if (p->open)
            s2s_send_result(s, p->local, p->remote, "valid");
        return;   /* else: the answer is on its way */
    }
    why = s2s_in_dialback_why(s, span_of(remote), span_of(local), &terms);
    if (why != XE_WHY_NONE) {
        s2s_in_result_refused(s, span_of(remote), span_of(local), why);
        return;
    }
    certain = s2s_cert_why(s, span_of(remote)) == XE_WHY_NONE;
    p = s2s_pair_new(s, span_of(remote), span_of(local));
    if (p == NULL || (certain && !s2s_count(s, p->remote, terms.listed))) {
        s2s_fail(s, XE_WHY_OUT_OF_MEMORY);
    } else if (certain) {
        p->certified = true;   /* XEP-0344: the certificate is proof */
        s2s_send_result(s, p->local, p->remote, "valid");
        s2s_pair_open(p, "certificate");
    } else {
        s2s_ask_or_wait(p, &terms, key);
    }
}

/* An answer to a question that was never asked here: ignored (XEP-0220 2.1). */
static void
s2s_in_unasked(struct s2s *s, const struct xe_xml_event *e)
{
    (void)e;
    s2s_log_why(s, LOG_WARN, "s2s-unasked-dialback", XE_WHY_BAD_ELEMENT);
}

/* What an accepted connection may say, and who understands it. */
static void
s2s_in_element(struct stream *stream, const struct xe_xml_event *e)
{
    static const struct s2s_known known[] = {
        { XE_KIND_MESSAGE, s2s_stanza }, { XE_KIND_PRESENCE, s2s_stanza },
        { XE_KIND_IQ, s2s_stanza }, { XE_KIND_STARTTLS, s2s_in_starttls },
        { XE_KIND_AUTH, s2s_in_auth }, { XE_KIND_DB_RESULT, s2s_in_result },
        { XE_KIND_DB_VERIFY, s2s_verify_asked }, { XE_KIND_DB_RESULT_ANSWER, s2s_in_unasked },
        { XE_KIND_DB_VERIFY_ANSWER, s2s_in_unasked }, { XE_KIND_SM_ENABLE, s2s_in_enable },
        { XE_KIND_SM_R, s2s_asked_ack }, { XE_KIND_SM_A, s2s_acknowledged },
        { XE_KIND_BIDI, s2s_in_bidi } };
    struct s2s *s = (struct s2s *)(void *)stream;
    s2s_handle(s, e, known, sizeof known / sizeof *known);
    if (!s->answers_wait && stream->conn != NULL && s2s_has_enough(s)) {
        s->answers_wait = true;
        s2s_pause(s, true);
    }
}

/* The first byte is that of a TLS ClientHello: direct TLS (XEP-0368). */
static void
s2s_in_hello(struct stream *stream)
{
    struct s2s *s = (struct s2s *)(void *)stream;
    struct tls *tls = s2s_new_tls(s);
    if (tls == NULL)
        s2s_end(s, XE_WHY_TLS_REFUSED);
    else
        stream_start_direct_tls(stream, tls);
}

/* Serve an accepted connection, which counts for `from`; the descriptor is taken. */
static struct s2s *
s2s_accept(struct s2s_service *v, int fd, const struct sockaddr_storage *source,
    struct net_source *from)
{
    static const struct stream_events events = { s2s_in_header, s2s_in_element, s2s_secured,
        s2s_stream_drained, s2s_stream_ended, s2s_in_hello, s2s_parting };
    struct s2s *s = s2s_new(v, S2S_IN);
    if (s == NULL) {
        close(fd);
        return NULL;
    }
    s->source = *source;
    s2s_enter_source(s, from);
    if (!stream_start(&s->stream, v->shared, fd, false, &events)) {
        s2s_end(s, XE_WHY_OUT_OF_MEMORY);
        return NULL;
    }
    if (s->stream.conn != NULL)
        s->stream.conn->hasty = true;   /* it is told answers, and no stanza yet */
    s2s_enter(s, S2S_ACCEPTED);
    s2s_log_why(s, LOG_DEBUG, "s2s-in-accepted", XE_WHY_NONE);
    return s;
}

/* Make a service ready; what it shares with others is set by its owner. */
static void
s2s_open_service(struct s2s_service *v)
{
    list_init(&v->all);
    list_init(&v->walks);
    list_init(&v->strangers);
    list_init(&v->questions);
    list_init(&v->waiting);
    v->turn.fire = s2s_turn;
    v->serve.run = s2s_serve_waiting;
}

static void
s2s_close_service(struct s2s_service *v)
{
    timer_cancel(v->shared->loop, &v->turn);
    loop_task_cancel(&v->serve);
    map_free(&v->peers);
}

/* ===========================================================================
 * [TRUNK] trunk_         the link between an edge and a gateway on 23456
 * calls:  BASE BUF WHY MAP NET LOG JID XML ELEM PHASE QUEUE LOOP DNS TLS CONN AUTH CONFIG STREAM
 *
 * An RFC 6120 stream over direct TLS with certificates on both sides, dialled by the gateway.  The
 * edge never dials.
 *
 *   gateway                                            edge
 *     TCP, TLS (SNI: the edge's name, ALPN xmpp-server, client certificate)
 *     <stream:stream from='fe01' to='edge01'>  ------>   the certificate must carry fe01
 *     <------  header, features: EXTERNAL
 *     <auth mechanism='EXTERNAL'/>  ----------------->
 *     <------  <success/>; both send new headers
 *     <------  features: <trunk xmlns='urn:xmppedge:trunk:0'/> <sm xmlns='urn:xmpp:sm:3'/>
 *     <trunk pair-bytes='524288' pair-stanzas='500'>
 *       <domain>corp.example</domain>...</trunk>  ---->   may this gateway serve them?
 *     <------  <trunk max-bytes='262144' idle-seconds='60' pair-bytes=... pair-stanzas=.../>
 *     <enable xmlns='urn:xmpp:sm:3'/>  -------------->
 *     <------  <enabled/>                                 UP: stanzas and <a/> both ways
 *
 * A stanza that was sent stays in `window` until the other side has acknowledged it (XEP-0198
 * <a/>): acknowledged means that the other side answers for it.  When a trunk goes down, its window
 * is given back to the owner, in order, to be sent another way.
 *
 * A slow server slows its own senders down and nobody else: <pause from='a' to='b'/> says that what
 * waits for this pair has reached half of what there is room for, <resume/> that there is room
 * again.  The other half is for what is under way, so each side has said with pair-bytes and
 * pair-stanzas how much that may be.  Who has not said so (0.1.0) is not told to pause.
 *
 * Leaving in order: <drain/> says that nothing new should be sent this way; the other side answers
 * <drained/> when all it had sent is acknowledged; the leaving side closes when its own window is
 * empty too.
 *
 * Costs: 19 KiB, and each stanza until it is acknowledged.  An <a/> answers for all of 20 ms, or
 * for an eighth of what may be under way: one for each turn is a seventh of the work when one
 * stanza travels at a time.
 * Not done: resuming a trunk (XEP-0198 5).  What its window held goes by another trunk or by its
 * successor.  Dialling from the edge: nothing ever connects from the DMZ to the inside.
 * ======================================================================== */

#define TRUNK_OUT_HIGH     ((size_t)256 << 10)   /* bytes handed to the connection at a time */
#define TRUNK_ACK_MS       20   /* an acknowledgement may wait so long for others */
#define TRUNK_QUIET_MS     1000 /* without a sign of life it is asked, and twice that is silence */
#define TRUNK_ACK_SHARE    8    /* or until it is for this part of a window */

#define TRUNK_STATES(X) \
    X(TRUNK_DIALLING, "dialling") \
    X(TRUNK_TLS,      "tls") \
    X(TRUNK_HEADER,   "header") \
    X(TRUNK_FEATURES, "features") \
    X(TRUNK_AUTH,     "auth") \
    X(TRUNK_OFFER,    "offer") \
    X(TRUNK_ENABLE,   "enable") \
    X(TRUNK_UP,       "up") \
    X(TRUNK_ENDED,    "ended")

enum trunk_state {
    TRUNK_STATES(XE_MEMBER)
};

struct trunk_service;
struct trunk_link;

struct trunk {
    struct stream         stream;       /* first, so that a stream is its trunk */
    /* others may read these */
    enum trunk_state      state;
    char                  name[XE_DOMAIN_MAX];   /* proven, or of the edge that we dial */
    struct xe_span        domains[TRUNK_DOMAINS_MAX];  /* inner domains behind the gateway; owned */
    size_t                ndomains;
    struct queue          window;       /* sent or to be sent, and not acknowledged */
    size_t                max_bytes;    /* of a stanza, as the other side says */
    bool                  narrow;       /* 0.1.0 would end the trunk for a stanza XE_XML_LARGE */
    size_t                pair_bytes;   /* of a pair under way, as it says; 0: it knows no pauses */
    size_t                pair_stanzas;
    uint64_t              stanzas_in;
    uint64_t              stanzas_out;
    int64_t               since;        /* ms, begin */
    bool                  leaving;      /* one of the sides drains: nothing new this way */
    bool                  we_leave;     /* we have said so */
    int64_t               left;         /* ms, when we have */
    bool                  peer_leaves;  /* the other side has said so */
    bool                  silent;       /* it does not answer: others are better */
    struct list_node      node;         /* in service->all */
    struct list_node      pairs;        /* for the owner */
    /* private */
    struct trunk_service *service;      /* borrowed */
    struct trunk_link    *link;         /* borrowed; NULL at the edge */
    struct sockaddr_storage source;     /* the other side's address */
    uint32_t              received;     /* stanzas, modulo 2^32 (XEP-0198 4) */
    uint32_t              told;         /* of them acknowledged to the other side */
    uint64_t              told_bytes;   /* stream.conn->received at that time */
    bool                  asked;        /* for an acknowledgement now */
    uint32_t              acked;        /* of ours acknowledged by the other side */
    int64_t               moved;        /* ms, when the window was empty or shrank last */
    bool                  authenticated;
    bool                  drained_told; /* <drained/> is sent */
    bool                  peer_drained; /* <drained/> has come */
    struct timer          timer;        /* set-up, then liveness */
    struct timer          quiet;        /* while something is to be acknowledged: is it there? */
    bool                  quiet_asked;  /* it was asked */
    struct timer          ack;          /* what has come may wait no longer for its <a/> */
    struct loop_task      flush;        /* end of turn: send what has gathered, acknowledge */
    struct loop_task      reap;
};

struct trunk_events {
    /* edge: may the gateway of this name serve the domain? */
    bool (*may_serve)(void *user, struct xe_span gateway, struct xe_span domain);
    void (*up)(void *user, struct trunk *t);
    void (*down)(void *user, struct trunk *t, enum xe_why why);  /* take back t->window now */
    void (*leaving)(void *user, struct trunk *t);   /* or silent: pin nothing new to it */
    void (*stanza)(void *user, struct trunk *t, const struct xe_xml_event *e);
    /* the other side has no room for more of this pair, or has again */
    void (*paused)(void *user, struct trunk *t, struct xe_span from, struct xe_span to, bool yes);
    void (*released)(void *user, struct trunk *t, struct queue_item item);   /* acknowledged */
    bool (*settled)(void *user);        /* all that trunks brought has been handed on */
    bool (*finished)(void *user);       /* nothing more will be sent from here */
};

/* A gateway's standing order to keep a trunk to one edge. */
struct trunk_link {
    struct trunk_service *service;      /* borrowed */
    struct list_node      node;         /* in service->links */
    char                  name[XE_DOMAIN_MAX];    /* what the edge's certificate must carry */
    char                  host[XE_DOMAIN_MAX];
    uint16_t              port;
    struct trunk         *trunk;        /* NULL between attempts */
    struct dns_query     *query;        /* owned */
    struct dial          *dial;         /* owned */
    struct timer          retry;
    int64_t               backoff_ms;   /* of the next pause */
    enum xe_why           why;          /* of the last end */
    char                  detail[STREAM_DETAIL_MAX];   /* what the other side said, or where */
    struct loop_task      reap;         /* frees the object at the end of the turn */
};

/* How the last trunk of a kind ended. */
struct trunk_last {
    uint64_t                count;      /* of all that ended; 0: there is no last one */
    enum xe_why             why;
    int64_t                 ms;
    struct sockaddr_storage peer;
    char                    name[XE_DOMAIN_MAX];         /* proven, or "" */
    char                    detail[STREAM_DETAIL_MAX];
};

struct trunk_service {
    struct stream_shared      *shared;      /* borrowed */
    const struct config       *config;      /* borrowed; replaced by a reload */
    struct dns                *dns;         /* borrowed; gateway */
    struct tls_profile        *profile;     /* borrowed; of the side: edges are TLS servers */
    struct tls_identity       *identity;    /* borrowed */
    struct tls_rule            rule;        /* who may vouch for the other node */
    const struct trunk_events *events;      /* borrowed, static */
    void                      *user;
    struct list_node           all;         /* trunk */
    struct list_node           links;       /* trunk_link */
    struct trunk_last          last;        /* of those that had proven who they are */
    struct trunk_last          refused;     /* of those that had not: anybody on the port */
    size_t                     count;
    bool                       stopping;    /* no new attempts */
};

static const char *
trunk_state_name(enum trunk_state state)
{
    switch (state) {
    TRUNK_STATES(XE_WORD)
    }
    return "?";
}

static bool
trunk_log(const struct trunk *t, enum log_level level, const char *event)
{
    struct log *log = t->service->shared->log;
    char at[CONN_TEXT_MAX];
    struct log_party who = t->name[0] != '\0' ? log_party(LOG_PARTNER, NULL)
        : log_party_at(LOG_STRANGER, &t->source);
    if (!log_begin_about(log, level, event, &who, span_of(t->name)))
        return false;
    log_text(log, "name", t->name[0] != '\0' ? t->name : NULL);
    log_text(log, "peer", conn_address_text(&t->source, at));
    if (t->stream.conn != NULL)
        log_text(log, "via", conn_address_text(&t->stream.conn->local, at));
    return true;
}

static const struct config_limits *
trunk_limits(const struct trunk *t)
{
    return t->service->shared->limits;
}

static void
trunk_enter(struct trunk *t, enum trunk_state next)
{
    struct log *log = t->service->shared->log;
    if (log_wants(log, LOG_DEBUG) && trunk_log(t, LOG_DEBUG, "trunk-state")) {
        log_text(log, "was", trunk_state_name(t->state));
        log_text(log, "is", trunk_state_name(next));
        log_end(log);
    }
    t->state = next;
    if (next == TRUNK_UP)
        timer_set(t->service->shared->loop, &t->timer, trunk_limits(t)->trunk_ping_ms);
}

/* ---- the end ---- */

static void
trunk_free(struct loop_task *task)
{
    struct trunk *t = MAP_OWNER(task, struct trunk, reap);
    size_t i;
    for (i = 0; i < t->ndomains; i++)
        free((void *)(uintptr_t)t->domains[i].at);
    queue_free(&t->window);
    xe_xml_free(&t->stream.xml);
    free(t);
}

static void
trunk_log_end(const struct trunk *t, enum xe_why why)
{
    struct log *log = t->service->shared->log;
    bool calm = t->we_leave || why == XE_WHY_DONE || why == XE_WHY_SHUTDOWN
        || (why == XE_WHY_PEER_CLOSED && t->leaving);
    if (!trunk_log(t, calm ? LOG_INFO : LOG_WARN, "trunk-down"))
        return;
    log_text(log, "state", trunk_state_name(t->state));
    log_text(log, "why", xe_why(why)->word);
    if (t->stream.detail[0] != '\0')
        log_text(log, "detail", t->stream.detail);
    log_int(log, "unacknowledged", (int64_t)t->window.count);
    log_end(log);
}

/* The next attempt: later each time, with jitter so that gateways do not come in step. */
static void
trunk_link_wait(struct trunk_link *link, enum xe_why why)
{
    struct trunk_service *v = link->service;
    const struct config_limits *l = v->shared->limits;
    unsigned char dice = 128;
    int64_t pause;
    tls_random(v->shared->tls, &dice, 1);
    pause = link->backoff_ms * 3 / 4 + link->backoff_ms * dice / 512;   /* 0.75 to 1.25 of it */
    link->backoff_ms = link->backoff_ms * 2 < l->trunk_retry_max_ms
        ? link->backoff_ms * 2 : l->trunk_retry_max_ms;
    link->why = why;
    if (v->stopping || list_linked(&link->reap.node))
        return;
    if (log_begin(v->shared->log, LOG_WARN, "trunk-retry", span_of(link->name))) {
        log_text(v->shared->log, "name", link->name);
        log_text(v->shared->log, "why", xe_why(why)->word);
        if (link->detail[0] != '\0')
            log_text(v->shared->log, "detail", link->detail);
        log_int(v->shared->log, "retry_ms", pause);
        log_end(v->shared->log);
    }
    timer_set(v->shared->loop, &link->retry, pause);
}

/* For the status.  Who has proven nothing does not replace what is told of who has. */
static void
trunk_remember(const struct trunk *t, enum xe_why why)
{
    struct trunk_service *v = t->service;
    struct trunk_last *last = t->name[0] != '\0' ? &v->last : &v->refused;
    last->count++;
    last->why = why;
    last->ms = loop_now(v->shared->loop);
    last->peer = t->source;
    snprintf(last->name, sizeof last->name, "%s", t->name);
    snprintf(last->detail, sizeof last->detail, "%s", t->stream.detail);
}

/* The one way out: give the window back, then forget. */
static void
trunk_end(struct trunk *t, enum xe_why why)
{
    struct trunk_service *v = t->service;
    bool was_up = t->state == TRUNK_UP;
    if (t->state == TRUNK_ENDED)
        return;
    trunk_log_end(t, why);
    trunk_enter(t, TRUNK_ENDED);
    timer_cancel(v->shared->loop, &t->timer);
    timer_cancel(v->shared->loop, &t->ack);
    timer_cancel(v->shared->loop, &t->quiet);
    loop_task_cancel(&t->flush);
    stream_end(&t->stream, why);
    list_remove(&t->node);
    v->count--;
    trunk_remember(t, why);
    queue_rewind(&t->window);
    if (t->link != NULL) {
        t->link->trunk = NULL;
        snprintf(t->link->detail, sizeof t->link->detail, "%s", t->stream.detail);
        trunk_link_wait(t->link, why);
    }
    if (was_up)
        v->events->down(v->user, t, why);
    loop_at_end(v->shared->loop, &t->reap);
}

static void
trunk_fail_with(struct trunk *t, enum xe_why why, const char *text)
{
    if (t->stream.state != STREAM_ENDED)
        stream_fail_with(&t->stream, why, text);
    trunk_end(t, why);
}

static void
trunk_fail(struct trunk *t, enum xe_why why)
{
    trunk_fail_with(t, why, NULL);
}

static void
trunk_stream_ended(struct stream *stream, enum xe_why why)
{
    trunk_end((struct trunk *)(void *)stream, why);
}

/* ---- sending and acknowledging ---- */

/* May more be put on this trunk now? */
static bool
trunk_has_room(const struct trunk *t)
{
    const struct config_limits *l = trunk_limits(t);
    return t->state == TRUNK_UP && t->window.count < l->trunk_window
        && buf_len(&t->window.bytes) < l->trunk_window_bytes;
}

/* May what has come wait for more, to be acknowledged together?  Not where somebody waits for it:
 * who has asked or leaves, and who has sent a part of what he, or one pair of his, may send. */
static bool
trunk_ack_may_wait(const struct trunk *t)
{
    const struct config_limits *l = trunk_limits(t);
    size_t most = l->trunk_window < l->queue_stanzas / 2 ? l->trunk_window : l->queue_stanzas / 2;
    size_t most_bytes = l->trunk_window_bytes < l->queue_bytes / 2 ? l->trunk_window_bytes
        : l->queue_bytes / 2;
    return !t->asked && !t->leaving && t->received - t->told < most / TRUNK_ACK_SHARE
        && t->stream.conn->received - t->told_bytes < most_bytes / TRUNK_ACK_SHARE;
}

static void
trunk_send_acks(struct trunk *t)
{
    struct loop *loop = t->service->shared->loop;
    if ((t->told == t->received && !t->asked)
        || (t->we_leave && !t->service->events->settled(t->service->user)))
        return;
    if (trunk_ack_may_wait(t)) {
        if (!timer_armed(&t->ack))
            timer_set(loop, &t->ack, TRUNK_ACK_MS);
        return;
    }
    timer_cancel(loop, &t->ack);
    t->asked = false;
    t->told = t->received;
    t->told_bytes = t->stream.conn->received;
    stream_send_ack(&t->stream, t->received);
}

/* Hand unsent stanzas to the connection, as many as it should hold at a time. */
static void
trunk_push(struct trunk *t)
{
    if (t->window.sent == 0)
        t->moved = loop_now(t->service->shared->loop);
    while (queue_unsent(&t->window) > 0 && conn_queued(t->stream.conn) < TRUNK_OUT_HIGH) {
        size_t n;
        struct xe_span run = queue_send(&t->window, TRUNK_OUT_HIGH / 4, SIZE_MAX, &n);
        if (!stream_send(&t->stream, run)) {
            trunk_end(t, XE_WHY_OUT_OF_MEMORY);
            return;
        }
        t->stanzas_out += n;
    }
    if (t->window.sent > 0 && !timer_armed(&t->quiet))
        timer_set(t->service->shared->loop, &t->quiet, TRUNK_QUIET_MS);
}

/* Both windows empty on a trunk that somebody leaves: the last words. */
static void
trunk_check_drained(struct trunk *t)
{
    if (!t->leaving || t->window.count > 0)
        return;
    if (t->peer_leaves && !t->drained_told) {
        /* said by both when both leave, or each would wait for the other */
        t->drained_told = true;
        stream_send(&t->stream, span_of("<drained xmlns='" PHASE_NS_TRUNK "'/>"));
    }
    /* when the whole node stops, its accepted streams may still bring what goes this way */
    if (t->we_leave && t->peer_drained
        && (!t->service->stopping || t->service->events->finished(t->service->user)))
        stream_close(&t->stream, XE_WHY_SHUTDOWN);
}

static void
trunk_flush(struct loop_task *task)
{
    struct trunk *t = MAP_OWNER(task, struct trunk, flush);
    if (t->state != TRUNK_UP)
        return;
    trunk_push(t);
    if (t->state == TRUNK_UP) {
        trunk_send_acks(t);
        trunk_check_drained(t);
    }
}

static void
trunk_flush_later(struct trunk *t)
{
    if (t->state == TRUNK_UP)
        loop_at_end(t->service->shared->loop, &t->flush);
}

static void
trunk_ack_due(struct timer *timer)
{
    struct trunk *t = MAP_OWNER(timer, struct trunk, ack);
    t->asked = true;
    trunk_flush_later(t);
}

/* Count in a stanza of `len` bytes that was written to the end of t->window.bytes. */
static bool
trunk_commit(struct trunk *t, size_t len, void *tag)
{
    if (!queue_add(&t->window, len, tag))
        return false;
    trunk_flush_later(t);
    return true;
}

/* <a h='n'/>: the other side answers for n stanzas in all, modulo 2^32 (XEP-0198 4). */
static void
trunk_on_ack(struct trunk *t, const struct xe_xml_event *e)
{
    uint32_t fresh;
    if (!stream_read_ack(e, t->acked, t->window.sent, &fresh)) {
        trunk_fail_with(t, XE_WHY_TRUNK_PROTOCOL,
            "an acknowledgement of stanzas that were not sent");
        return;
    }
    t->acked += fresh;
    t->moved = loop_now(t->service->shared->loop);
    for (; fresh > 0; fresh--)
        t->service->events->released(t->service->user, t, queue_release(&t->window));
    trunk_flush_later(t);
}

/* ---- pair by pair ---- */

/* Tell the other side to send no more of this pair for now, or to go on. */
static void
trunk_pause(struct trunk *t, struct xe_span from, struct xe_span to, bool paused)
{
    struct buf *text;
    if (t->state != TRUNK_UP || t->pair_bytes == 0)
        return;
    text = stream_text(&t->stream);
    buf_puts(text, paused ? "<pause" : "<resume");
    buf_puts(text, " xmlns='" PHASE_NS_TRUNK "'");
    xmlout_attr(text, "from", from);
    xmlout_attr(text, "to", to);
    buf_puts(text, "/>");
    stream_send_text(&t->stream);
}

static void
trunk_on_pause(struct trunk *t, const struct xe_xml_event *e, bool paused)
{
    struct xe_span from = xe_xml_attr(e, "from");
    struct xe_span to = xe_xml_attr(e, "to");
    if (from.at == NULL || to.at == NULL)
        trunk_fail(t, XE_WHY_TRUNK_PROTOCOL);
    else
        t->service->events->paused(t->service->user, t, from, to, paused);
}

/* What this node takes, as attributes: how deep stanzas may be, and what one pair may have under
 * way, half of its queue here. */
static void
trunk_put_limits(const struct trunk *t, struct buf *text)
{
    buf_puts(text, " max-depth='");
    buf_putu(text, XE_XML_DEPTH_MAX);
    buf_puts(text, "' max-attributes='");
    buf_putu(text, XE_XML_ATTRS_MAX);
    buf_putc(text, '\'');
    buf_puts(text, " pair-bytes='");
    buf_putu(text, trunk_limits(t)->queue_bytes / 2);
    buf_puts(text, "' pair-stanzas='");
    buf_putu(text, trunk_limits(t)->queue_stanzas / 2);
    buf_putc(text, '\'');
}

static void
trunk_read_limits(struct trunk *t, const struct xe_xml_event *e)
{
    int64_t bytes = stream_number(xe_xml_attr(e, "pair-bytes"));
    int64_t stanzas = stream_number(xe_xml_attr(e, "pair-stanzas"));
    t->narrow = stream_number(xe_xml_attr(e, "max-depth")) < XE_XML_DEPTH_MAX
        || stream_number(xe_xml_attr(e, "max-attributes")) < XE_XML_ATTRS_MAX;
    t->pair_bytes = bytes > 0 && stanzas > 0 ? (size_t)bytes : 0;
    t->pair_stanzas = stanzas > 0 ? (size_t)stanzas : 0;
}

/* ---- liveness ---- */

static void
trunk_timeout(struct timer *timer)
{
    struct trunk *t = MAP_OWNER(timer, struct trunk, timer);
    const struct config_limits *l = trunk_limits(t);
    int64_t now = loop_now(t->service->shared->loop);
    int64_t quiet = now - t->stream.heard;
    if (t->window.sent > 0 && !t->leaving && now - t->moved > quiet)
        quiet = now - t->moved;   /* answering is not enough: it has to answer for what we sent */
    if (t->state == TRUNK_UP && t->we_leave && !t->service->stopping
        && now - t->left >= l->drain_ms) {
        trunk_fail(t, XE_WHY_SHUTDOWN);   /* what is not answered for goes another way */
    } else if (t->state != TRUNK_UP) {
        trunk_fail(t, XE_WHY_SETUP_TIMEOUT);
    } else if (quiet >= l->trunk_ping_ms + l->trunk_answer_ms) {
        trunk_fail(t, XE_WHY_PING_TIMEOUT);
    } else if (quiet >= l->trunk_ping_ms) {
        stream_send(&t->stream, span_of("<r xmlns='" PHASE_NS_SM "'/>"));
        timer_set(t->service->shared->loop, timer, l->trunk_ping_ms + l->trunk_answer_ms - quiet);
    } else {
        timer_set(t->service->shared->loop, timer, l->trunk_ping_ms - quiet);
    }
}

static void
trunk_set_silent(struct trunk *t, bool silent)
{
    if (t->silent == silent)
        return;
    t->silent = silent;
    if (trunk_log(t, LOG_WARN, silent ? "trunk-silent" : "trunk-heard")) {
        log_int(t->service->shared->log, "unacknowledged", (int64_t)t->window.sent);
        log_end(t->service->shared->log);
    }
    if (silent)
        t->service->events->leaving(t->service->user, t);
}

/* What was sent is not acknowledged yet.  Who is there answers when he is asked, even if he cannot
 * answer for it; who does not gets nothing more where there are others.  What he has may be with
 * him all the same: it goes another way when the trunk has ended, and not before. */
static void
trunk_quiet(struct timer *timer)
{
    struct trunk *t = MAP_OWNER(timer, struct trunk, quiet);
    struct loop *loop = t->service->shared->loop;
    int64_t quiet = loop_now(loop) - t->stream.heard;
    if (quiet < TRUNK_QUIET_MS || t->window.sent == 0) {
        t->quiet_asked = false;
        trunk_set_silent(t, false);
        if (t->window.sent > 0)
            timer_set(loop, timer, TRUNK_QUIET_MS - quiet);
        return;
    }
    if (t->quiet_asked && quiet >= TRUNK_QUIET_MS + trunk_limits(t)->trunk_answer_ms) {
        trunk_fail(t, XE_WHY_PING_TIMEOUT);
        return;
    }
    if (t->quiet_asked)
        trunk_set_silent(t, true);
    else
        t->quiet_asked = stream_send(&t->stream, span_of("<r xmlns='" PHASE_NS_SM "'/>"));
    timer_set(loop, timer, TRUNK_QUIET_MS);
}

/* ---- both sides: a trunk that is up ---- */

/* Leave in order; what is under way still arrives. */
static void
trunk_leave(struct trunk *t)
{
    if (t->state != TRUNK_UP) {
        trunk_end(t, XE_WHY_SHUTDOWN);
        return;
    }
    if (t->we_leave)
        return;
    t->leaving = t->we_leave = true;
    t->left = loop_now(t->service->shared->loop);
    timer_set(t->service->shared->loop, &t->timer, trunk_limits(t)->drain_ms);
    stream_send(&t->stream, span_of("<drain xmlns='" PHASE_NS_TRUNK "'/>"));
    trunk_flush_later(t);
}

static void
trunk_on_drain(struct trunk *t)
{
    t->leaving = t->peer_leaves = true;
    trunk_log(t, LOG_INFO, "trunk-leaving");
    log_end(t->service->shared->log);
    t->service->events->leaving(t->service->user, t);
    trunk_flush_later(t);
}

static void
trunk_become_up(struct trunk *t)
{
    struct log *log = t->service->shared->log;
    trunk_enter(t, TRUNK_UP);
    t->window.bytes.max = trunk_limits(t)->trunk_window_bytes + 2 * trunk_limits(t)->stanza_bytes;
    if (t->link != NULL)
        t->link->backoff_ms = trunk_limits(t)->trunk_retry_first_ms;
    if (trunk_log(t, LOG_INFO, "trunk-up")) {
        log_text(log, "tls", tls_facts(t->stream.conn->tls)->version);
        log_text(log, "cipher", tls_facts(t->stream.conn->tls)->ciphersuite);
        log_int(log, "domains", (int64_t)t->ndomains);
        log_end(log);
    }
    t->service->events->up(t->service->user, t);
}

static void
trunk_on_stanza(struct trunk *t, const struct xe_xml_event *e)
{
    t->received++;
    t->stanzas_in++;
    t->service->events->stanza(t->service->user, t, e);
    trunk_flush_later(t);
}

static void
trunk_up_element(struct trunk *t, const struct xe_xml_event *e)
{
    enum xe_element_kind kind = xe_element_kind(e);
    if (stream_is_stanza(kind)) {
        trunk_on_stanza(t, e);
    } else if (kind == XE_KIND_SM_A) {
        trunk_on_ack(t, e);
    } else if (kind == XE_KIND_SM_R) {
        t->asked = true;   /* an answer is due even when nothing is new */
        trunk_flush_later(t);
    } else if (span_is(e->ns, PHASE_NS_TRUNK) && span_is(e->name, "drain")) {
        trunk_on_drain(t);
    } else if (span_is(e->ns, PHASE_NS_TRUNK) && span_is(e->name, "drained")) {
        t->peer_drained = true;
        trunk_flush_later(t);
    } else if (span_is(e->ns, PHASE_NS_TRUNK) && span_is(e->name, "pause")) {
        trunk_on_pause(t, e, true);
    } else if (span_is(e->ns, PHASE_NS_TRUNK) && span_is(e->name, "resume")) {
        trunk_on_pause(t, e, false);
    } else {
        trunk_fail(t, XE_WHY_BAD_ELEMENT);
    }
}

/* Whose certificate is it?  Demanded on both sides: no certificate, no trunk. */
static enum xe_why
trunk_judge(const struct trunk *t, struct xe_span name)
{
    return peer_may_speak_for(tls_facts(t->stream.conn->tls), name, &t->service->rule);
}

static enum xe_why
trunk_add_domain(struct trunk *t, struct xe_span domain)
{
    char *copy;
    if (t->ndomains == TRUNK_DOMAINS_MAX)
        return XE_WHY_TRUNK_DOMAINS;
    copy = malloc(domain.len + 1);
    if (copy == NULL)
        return XE_WHY_OUT_OF_MEMORY;
    memcpy(copy, domain.at, domain.len);
    copy[domain.len] = '\0';
    t->domains[t->ndomains++] = span_make(copy, domain.len);
    return XE_WHY_NONE;
}

/* The other side has proven who it is: it may send whatever a stanza may be. */
static void
trunk_trust(struct trunk *t)
{
    t->authenticated = true;
    stream_trust(&t->stream,
        net_source_of(t->service->shared->nets, &t->stream.conn->peer));
    stream_widen(&t->stream, TRUNK_STANZA_MAX);
}

/* Is this inner domain behind the gateway of this trunk? */
static bool
trunk_serves(const struct trunk *t, struct xe_span domain)
{
    size_t i;
    for (i = 0; i < t->ndomains; i++)
        if (span_eq(t->domains[i], domain))
            return true;
    return false;
}

static struct trunk *
trunk_new(struct trunk_service *v)
{
    struct trunk *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->service = v;
    t->stream.shared = v->shared;
    t->stream.state = STREAM_ENDED;
    t->state = TRUNK_TLS;
    t->max_bytes = v->shared->limits->stanza_bytes;
    t->timer.fire = trunk_timeout;
    t->ack.fire = trunk_ack_due;
    t->quiet.fire = trunk_quiet;
    t->flush.run = trunk_flush;
    t->reap.run = trunk_free;
    t->since = loop_now(v->shared->loop);
    list_init(&t->pairs);
    list_append(&v->all, &t->node);
    v->count++;
    timer_set(v->shared->loop, &t->timer, v->shared->limits->preauth_ms);
    return t;
}

/* Begin the stream on a descriptor, which is taken, with TLS from the first byte.  `edge` is who a
 * gateway has dialled; NULL on an edge. */
static void
trunk_begin(struct trunk *t, int fd, const char *edge, const struct stream_events *events)
{
    struct trunk_service *v = t->service;
    struct tls *tls = NULL;
    if (stream_start(&t->stream, v->shared, fd, edge != NULL, events))
        tls = tls_new(v->profile, v->identity, edge, fd);
    if (tls == NULL) {
        trunk_end(t, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    tls->favoured = true;
    stream_start_direct_tls(&t->stream, tls);
}

static void
trunk_drained(struct stream *stream)
{
    trunk_flush_later((struct trunk *)(void *)stream);
}

/* ---- the edge: accepted trunks ---- */

static bool
trunk_edge_knows(const struct trunk *t, const char *name)
{
    const struct config_internal *internal = &t->service->config->internal;
    size_t i;
    for (i = 0; i < internal->ngateways; i++)
        if (span_is(internal->gateways[i].name, name))
            return true;
    return false;
}

/* A gateway that connects again while its old trunk has not been noticed dead takes its place. */
static void
trunk_edge_replace(struct trunk *t)
{
    struct list_node *n = t->service->all.next;
    while (n != &t->service->all) {
        struct trunk *old = MAP_OWNER(n, struct trunk, node);
        n = n->next;
        if (old != t && old->state != TRUNK_ENDED && strcmp(old->name, t->name) == 0) {
            trunk_fail(old, XE_WHY_REPLACED);
            n = t->service->all.next;
        }
    }
}

static void
trunk_edge_header(struct stream *stream, const struct xe_xml_event *e)
{
    struct trunk *t = (struct trunk *)(void *)stream;
    struct xe_span own = t->service->config->name;
    char name[XE_DOMAIN_MAX];
    size_t len;
    enum xe_why why = XE_WHY_NONE;
    bool named = xe_jid_domain_normal(xe_xml_attr(e, "from"), name, &len);
    stream_send_header(stream, own, named ? span_of(name) : span_make(NULL, 0));
    if (!named || (t->authenticated && strcmp(name, t->name) != 0))
        why = XE_WHY_BAD_ADDRESS;
    else if (!t->authenticated)
        why = trunk_judge(t, span_of(name));
    if (why == XE_WHY_NONE && !trunk_edge_knows(t, name))
        why = XE_WHY_NAME_DENIED;
    if (why != XE_WHY_NONE) {
        if (named)
            stream_note(stream, span_of(name));
        trunk_fail(t, why);
        return;
    }
    strcpy(t->name, name);
    stream_send(stream, span_of(t->authenticated
        ? "<stream:features><trunk xmlns='" PHASE_NS_TRUNK "'/><sm xmlns='" PHASE_NS_SM "'/>"
            "</stream:features>"
        : "<stream:features><mechanisms xmlns='" PHASE_NS_SASL "'><mechanism>EXTERNAL</mechanism>"
            "</mechanisms></stream:features>"));
    trunk_enter(t, t->authenticated ? TRUNK_OFFER : TRUNK_AUTH);
}

static void
trunk_edge_auth(struct trunk *t, const struct xe_xml_event *e)
{
    char authzid[XE_DOMAIN_MAX];
    if (t->state != TRUNK_AUTH || !span_is(xe_xml_attr(e, "mechanism"), "EXTERNAL")
        || !sasl_external_decode(e->inner, authzid, sizeof authzid)
        || (authzid[0] != '\0' && strcmp(authzid, t->name) != 0)) {
        stream_send(&t->stream,
            span_of("<failure xmlns='" PHASE_NS_SASL "'><not-authorized/></failure>"));
        trunk_fail(t, XE_WHY_NAME_DENIED);
        return;
    }
    trunk_trust(t);
    stream_send(&t->stream, span_of("<success xmlns='" PHASE_NS_SASL "'/>"));
    stream_restart(&t->stream);
    trunk_enter(t, TRUNK_HEADER);
}

/* A domain of an offer: it must be one of ours, and this gateway's. */
static enum xe_why
trunk_edge_domain(struct trunk *t, struct elem d)
{
    struct buf *said = stream_text(&t->stream);
    struct xe_span name;
    char domain[XE_DOMAIN_MAX];
    char text[XE_DOMAIN_MAX + 64];
    size_t len;
    elem_put_text(said, d);
    name = buf_span(said);
    if (elem_is(d, "domain", PHASE_NS_TRUNK) && xe_jid_domain_normal(name, domain, &len)
        && t->service->events->may_serve(
            t->service->user, span_of(t->name), span_make(domain, len)))
        return trunk_add_domain(t, span_make(domain, len));
    snprintf(text, sizeof text, "this gateway may not serve the domain %.*s",
        (int)(name.len < 200 ? name.len : 200), name.at == NULL ? "" : name.at);
    stream_note(&t->stream, span_of(text));
    return XE_WHY_DOMAIN_NOT_YOURS;
}

/* <trunk> with the domains that the gateway serves. */
static void
trunk_edge_offer(struct trunk *t, const struct xe_xml_event *e)
{
    struct elem offer = elem_parse(&t->stream.xml, e);
    enum xe_why why = offer.at == NULL ? XE_WHY_TRUNK_DOMAINS : XE_WHY_NONE;   /* too large */
    struct elem d;
    struct buf *answer;
    for (d = elem_first(offer); d.at != NULL && why == XE_WHY_NONE; d = elem_next(d))
        why = trunk_edge_domain(t, d);
    elem_free(offer);
    if (why != XE_WHY_NONE) {
        trunk_fail_with(t, why, t->stream.detail[0] != '\0' ? t->stream.detail : NULL);
        return;
    }
    trunk_read_limits(t, e);
    answer = stream_text(&t->stream);
    buf_puts(answer, "<trunk xmlns='" PHASE_NS_TRUNK "' max-bytes='");
    buf_putu(answer, trunk_limits(t)->stanza_bytes);
    buf_puts(answer, "' idle-seconds='");
    buf_putu(answer, (uint64_t)(trunk_limits(t)->trunk_ping_ms + trunk_limits(t)->trunk_answer_ms)
        / 1000);
    buf_putc(answer, '\'');
    if (t->pair_bytes > 0)
        trunk_put_limits(t, answer);
    buf_puts(answer, "/>");
    stream_send_text(&t->stream);
    trunk_enter(t, TRUNK_ENABLE);
}

static void
trunk_edge_element(struct stream *stream, const struct xe_xml_event *e)
{
    struct trunk *t = (struct trunk *)(void *)stream;
    enum xe_element_kind kind = xe_element_kind(e);
    if (t->state == TRUNK_UP) {
        trunk_up_element(t, e);
    } else if (kind == XE_KIND_AUTH) {
        trunk_edge_auth(t, e);
    } else if (t->state == TRUNK_OFFER && kind == XE_KIND_TRUNK) {
        trunk_edge_offer(t, e);
    } else if (t->state == TRUNK_ENABLE && kind == XE_KIND_SM_ENABLE) {
        trunk_edge_replace(t);
        stream_send(stream, span_of("<enabled xmlns='" PHASE_NS_SM "'/>"));
        trunk_become_up(t);
    } else {
        trunk_fail(t, XE_WHY_TRUNK_PROTOCOL);
    }
}

static void
trunk_edge_secured(struct stream *stream)
{
    struct trunk *t = (struct trunk *)(void *)stream;
    stream_restart(stream);
    trunk_enter(t, TRUNK_HEADER);
}

/* Serve a connection on the internal address; the descriptor is taken. */
static void
trunk_accept(struct trunk_service *v, int fd, const struct sockaddr_storage *source)
{
    static const struct stream_events events = { trunk_edge_header, trunk_edge_element,
        trunk_edge_secured, trunk_drained, trunk_stream_ended, NULL, NULL };
    struct trunk *t = trunk_new(v);
    if (t == NULL) {
        close(fd);
        return;
    }
    t->source = *source;
    trunk_begin(t, fd, NULL, &events);
}

/* ---- the gateway: dialled trunks ---- */

static void
trunk_gateway_header(struct stream *stream, const struct xe_xml_event *e)
{
    struct trunk *t = (struct trunk *)(void *)stream;
    (void)e;
    if (!t->authenticated) {
        enum xe_why why = trunk_judge(t, span_of(t->link->name));
        if (why != XE_WHY_NONE) {
            trunk_fail(t, why);
            return;
        }
    }
    trunk_enter(t, TRUNK_FEATURES);
}

static void
trunk_gateway_features(struct trunk *t)
{
    struct buf *text;
    size_t i;
    if (!t->authenticated) {
        stream_send_auth(&t->stream, t->service->config->name);
        trunk_enter(t, TRUNK_AUTH);
        return;
    }
    text = stream_text(&t->stream);
    buf_puts(text, "<trunk xmlns='" PHASE_NS_TRUNK "'");
    trunk_put_limits(t, text);
    buf_putc(text, '>');
    for (i = 0; i < t->ndomains; i++) {
        buf_puts(text, "<domain>");
        xmlout_text(text, t->domains[i]);
        buf_puts(text, "</domain>");
    }
    buf_puts(text, "</trunk>");
    stream_send_text(&t->stream);
    trunk_enter(t, TRUNK_OFFER);
}

static void
trunk_gateway_offered(struct trunk *t, const struct xe_xml_event *e)
{
    int64_t max = stream_number(xe_xml_attr(e, "max-bytes"));
    if (max > 0 && (uint64_t)max < t->max_bytes)
        t->max_bytes = (size_t)max;
    trunk_read_limits(t, e);
    stream_send(&t->stream, span_of("<enable xmlns='" PHASE_NS_SM "'/>"));
    trunk_enter(t, TRUNK_ENABLE);
}

static void
trunk_gateway_success(struct trunk *t)
{
    trunk_trust(t);
    stream_restart(&t->stream);
    trunk_enter(t, TRUNK_HEADER);
    stream_send_header(&t->stream, t->service->config->name, span_of(t->link->name));
}

static void
trunk_gateway_element(struct stream *stream, const struct xe_xml_event *e)
{
    struct trunk *t = (struct trunk *)(void *)stream;
    enum xe_element_kind kind = xe_element_kind(e);
    if (t->state == TRUNK_UP)
        trunk_up_element(t, e);
    else if (t->state == TRUNK_FEATURES && kind == XE_KIND_FEATURES)
        trunk_gateway_features(t);
    else if (t->state == TRUNK_AUTH && kind == XE_KIND_SUCCESS)
        trunk_gateway_success(t);
    else if (t->state == TRUNK_AUTH && kind == XE_KIND_SASL_FAILURE)
        trunk_fail(t, XE_WHY_SASL_REFUSED);
    else if (t->state == TRUNK_OFFER && kind == XE_KIND_TRUNK)
        trunk_gateway_offered(t, e);
    else if (t->state == TRUNK_ENABLE && kind == XE_KIND_SM_ENABLED)
        trunk_become_up(t);
    else
        trunk_fail(t, XE_WHY_TRUNK_PROTOCOL);
}

static void
trunk_gateway_secured(struct stream *stream)
{
    struct trunk *t = (struct trunk *)(void *)stream;
    stream_restart(stream);
    trunk_enter(t, TRUNK_HEADER);
    stream_send_header(stream, t->service->config->name, span_of(t->link->name));
}

/* The domains that this gateway stands for: those of its inner servers and its echo domain.  There
 * is room for them (config_check_gateway); false when memory is out. */
static bool
trunk_gateway_domains(struct trunk *t)
{
    const struct config *config = t->service->config;
    enum xe_why why = XE_WHY_NONE;
    size_t i;
    size_t k;
    for (i = 0; i < config->ninner; i++)
        for (k = 0; k < config->inner[i].ndomains && why == XE_WHY_NONE; k++)
            why = trunk_add_domain(t, config->inner[i].domains[k].name);
    if (config->echo.domain.at != NULL && why == XE_WHY_NONE)
        why = trunk_add_domain(t, config->echo.domain);
    return why == XE_WHY_NONE;
}

/* ---- links: a gateway's standing orders ---- */

static void
trunk_link_connected(void *user, int fd, const struct dns_target *target)
{
    static const struct stream_events events = { trunk_gateway_header, trunk_gateway_element,
        trunk_gateway_secured, trunk_drained, trunk_stream_ended, NULL, NULL };
    struct trunk_link *link = user;
    struct trunk_service *v = link->service;
    struct trunk *t = trunk_new(v);
    if (t == NULL) {
        close(fd);
        trunk_link_wait(link, XE_WHY_OUT_OF_MEMORY);
        return;
    }
    t->link = link;
    link->trunk = t;
    t->source = target->addr;
    strcpy(t->name, link->name);
    if (trunk_gateway_domains(t)) {
        trunk_begin(t, fd, link->name, &events);
    } else {
        close(fd);
        trunk_end(t, XE_WHY_OUT_OF_MEMORY);
    }
}

static void
trunk_link_dial_failed(void *user, enum xe_why why, const struct dns_target *target)
{
    struct trunk_link *link = user;
    char at[CONN_TEXT_MAX];
    if (target != NULL)
        snprintf(link->detail, sizeof link->detail, "%s", conn_address_text(&target->addr, at));
    trunk_link_wait(link, why);
}

static void
trunk_link_resolved(void *user, enum xe_why why, const struct dns_target *targets, size_t n)
{
    struct trunk_link *link = user;
    struct trunk_service *v = link->service;
    link->query = NULL;
    if (why == XE_WHY_NONE) {
        link->dial = dial_new(v->shared->wire, targets, n, NULL, v->shared->limits->connect_ms,
            v->shared->limits->race_ms);
        if (link->dial == NULL)
            why = XE_WHY_OUT_OF_MEMORY;
    }
    if (why != XE_WHY_NONE) {
        trunk_link_wait(link, why);
        return;
    }
    link->dial->connected = trunk_link_connected;
    link->dial->failed = trunk_link_dial_failed;
    link->dial->user = link;
    dial_next(link->dial);
}

static void
trunk_link_try(struct timer *timer)
{
    static const struct dns_events events = { trunk_link_resolved };
    struct trunk_link *link = MAP_OWNER(timer, struct trunk_link, retry);
    dial_free(link->dial);
    link->dial = NULL;
    link->query = dns_find_address(link->service->dns, link->host, link->port, true, &events, link);
    if (link->query == NULL)
        trunk_link_wait(link, XE_WHY_OUT_OF_MEMORY);
}

static void
trunk_link_reap(struct loop_task *task)
{
    free(MAP_OWNER(task, struct trunk_link, reap));
}

/* Keep a trunk to this edge from now on.  False when memory is out. */
static bool
trunk_link_open(struct trunk_service *v, const struct config_edge *edge)
{
    struct trunk_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return false;
    link->service = v;
    snprintf(link->name, sizeof link->name, "%.*s", (int)edge->name.len, edge->name.at);
    snprintf(link->host, sizeof link->host, "%s", edge->host.name);
    link->port = edge->host.address.port;
    link->backoff_ms = v->shared->limits->trunk_retry_first_ms;
    link->retry.fire = trunk_link_try;
    link->reap.run = trunk_link_reap;
    list_append(&v->links, &link->node);
    timer_set(v->shared->loop, &link->retry, 0);
    return true;
}

/* Whether a trunk that is up is what the configuration, perhaps a new one, asks for. */
static bool
trunk_is_current(const struct trunk *t)
{
    const struct config *config = t->service->config;
    size_t count = config->echo.domain.at != NULL;
    size_t i;
    if (t->state != TRUNK_UP)
        return true;
    if (stream_is_secure(&t->stream) && trunk_judge(t, span_of(t->name)) != XE_WHY_NONE)
        return false;
    if (t->link == NULL && !t->we_leave) {
        bool current = trunk_edge_knows(t, t->name);
        for (i = 0; i < t->ndomains; i++)
            current = current && t->service->events->may_serve(t->service->user, span_of(t->name),
                t->domains[i]);
        return current;
    }
    for (i = 0; i < config->ninner; i++)
        count += config->inner[i].ndomains;
    for (i = 0; i < t->ndomains; i++)
        if (config_inner_for(config, t->domains[i]) == NULL
            && !span_eq(config->echo.domain, t->domains[i]))
            return false;
    return count == t->ndomains;
}

static bool
trunk_link_is(const struct trunk_link *link, const struct config_edge *edge)
{
    return span_is(edge->name, link->name) && strcmp(edge->host.name, link->host) == 0
        && edge->host.address.port == link->port;
}

/* Give the standing order up; a trunk that is up leaves in order. */
static void
trunk_link_close(struct trunk_link *link)
{
    struct trunk_service *v = link->service;
    timer_cancel(v->shared->loop, &link->retry);
    if (link->query != NULL)
        dns_cancel(link->query);
    link->query = NULL;
    dial_free(link->dial);
    link->dial = NULL;
    list_remove(&link->node);
    if (link->trunk != NULL) {
        link->trunk->link = NULL;
        trunk_leave(link->trunk);
    }
    loop_at_end(v->shared->loop, &link->reap);
}

/* ===========================================================================
 * [ROUTE] route_         where a stanza goes, where it waits, and what comes back when it cannot go
 * calls:  BASE BUF WHY JID XML ELEM PHASE MAP NET LOG LOOP TLS CONN QUEUE CONFIG STREAM S2S TRUNK
 *
 * Everything is kept per pair: the domain that a stanza is from and the one that it is to.  Order
 * is kept within a pair, limits are counted per pair, and one pair's trouble is no other's.
 *
 *   from s2s  --> pair TO_TRUNK --> window of the trunk that it is pinned to --> released by <a/>
 *                      \--> pair->queue while there is none (hold) or no room here or there
 *   from trunk --> pair TO_S2S --> pair->queue --> the dialled connection of the pair --> released
 *                      \                            when it has arrived (XEP-0198, TCP)
 *                       \--> no connection: one is dialled, unless an accepted one carries both
 *                            directions; its outcome sends the queue, bounces it, or holds it for
 *                            a server that has just been there, or is ours
 *
 * A pair is pinned to a trunk by rendezvous hashing over those that are up and stays there until
 * the trunk goes down or leaves.  From a leaving trunk a pair moves when what it sent there is
 * acknowledged, so that order is kept.
 *
 * Slow is not undeliverable: when half of what a pair may hold is held, its sources are not read
 * until half of that is gone: the accepted connections that feed it, or, through <pause/>, those at
 * the other end of the trunk, when its queue is half full, too.  So they are paced while answers to
 * them wait, or when too many of their stanzas come back.  Reading on for so long has a reason:
 * behind the stanzas of a stream may come the dialback question on which its own answers wait.
 *
 * What cannot be delivered comes back to its sender as a stanza error (RFC 6120 8.3), never an
 * error for an error.  A stanza belongs to exactly one queue at any time, or has been handed on, or
 * has been bounced: that is the invariant that `nothing lost` rests on.
 *
 * The same section keeps the limits on connections and says who may talk to whom (route_admit),
 * because both are questions about domains.
 *
 * Costs: a stanza costs the hash of its pair, unless the one before was of the same; 0.7 KiB a
 * pair, at most total-pairs.  A trunk that comes, and a reload, walk over all pairs; a trunk that
 * goes over those that are pinned to it.
 * Not done: moving pairs when a trunk comes, which makes them wait for nothing.  Keeping what waits
 * through a restart: draining returns it to its senders.
 * ======================================================================== */

#define ROUTE_SWEEP_MS       60000               /* how often that is looked at */
#define ROUTE_CROWD          100                 /* connections whose memory is worth the work */
#define ROUTE_BOUNCE_MS      1000                /* pair-bounces are counted for so long */
#define ROUTE_OUT_HIGH       ((size_t)128 << 10) /* bytes handed to a connection at a time */
#define ROUTE_PING_ID        "xmppedge-ping-"    /* and 16 hex digits */
#define ROUTE_PING_RESOURCE  "/xmppedge"         /* sends messages to echo domains */

enum route_way { ROUTE_TO_S2S, ROUTE_TO_TRUNK, ROUTE_TO_ECHO };

struct route_pair {
    struct map_node   node;        /* in route->pairs; the key is from NUL to */
    struct list_node  all;         /* in route->all */
    struct list_node  waiting;     /* in route->waiting: its queue waits for room on a trunk */
    struct xe_span    from;        /* in text */
    struct xe_span    to;          /* in text */
    enum route_way    way;
    bool              admitted;    /* a trunk may bring it: asked since the last reload */
    bool              full;        /* above the high mark, and not yet below the low one */
    bool              far_full;    /* so says the node behind the trunk: all waits in `queue` */
    bool              answers_wait;   /* to its senders, in the opposite pair, which is full */
    bool              slowed;      /* too many of its stanzas went back in a second */
    bool              paused;      /* one of these: its sources are not read */
    bool              settling;    /* `hold` runs until settle_at */
    int64_t           settle_at;   /* ms; by then what went the old way has arrived */
    bool              gave_up;     /* held for too long: bounced at once until a trunk is up */
    struct queue      queue;
    struct queue      back;        /* what a dead trunk gives back, until the queue is behind it */
    struct timer      hold;        /* the oldest held stanza has waited long enough, or retry_at */
    struct loop_task  push;        /* end of turn: hand on what is in the queue */
    uint64_t          taken;       /* stanzas that were ever put into its queues */
    uint64_t          settled;     /* of them handed on, or back */
    struct route     *route;       /* borrowed */
    /* to s2s */
    struct s2s       *out;         /* borrowed; NULL: none.  Other pairs may share it */
    struct list_node  use;         /* in out->users */
    bool              good;        /* it has brought something home */
    struct timer      look;        /* has what was written arrived? */
    int64_t           look_ms;     /* until the next look */
    int64_t           moved_ms;    /* since when nothing has arrived */
    int64_t           retry_at;    /* ms; before it no new attempt is made */
    int64_t           backoff_ms;
    bool              worked;      /* the last connection carried something */
    bool              elsewhere;   /* and its server has sent us where last_detail says */
    int64_t           hold_until;  /* ms; then what waits goes back; 0: it waits for no server */
    enum xe_why       last_why;    /* of the last failed attempt */
    enum xe_why       bounce_why;  /* of the last stanza sent back, since it last worked */
    char              last_detail[STREAM_DETAIL_MAX];
    struct list_node  feeds;       /* s2s_pair.feed: accepted connections that bring its stanzas */
    /* to a trunk */
    struct trunk     *trunk;       /* borrowed; pinned to; NULL: none */
    struct list_node  pin;         /* in trunk->pairs */
    size_t            in_flight;   /* stanzas in that trunk's window */
    size_t            in_flight_bytes;
    /* for the status */
    uint64_t          passed;      /* stanzas handed on */
    uint64_t          bounced;
    int64_t           last_ms;     /* of the last stanza */
    int64_t           bounce_ms;   /* begin of the second in which bounces are counted */
    size_t            bounce_count;
    struct list_node  slow;        /* in route->slow */
    char              text[];      /* from NUL to */
};

/* A ping under way (the `ping` command). */
struct route_ping {
    struct list_node node;         /* in route->pings */
    char             id[40];
    /* the answer's content, or why there is none; the ping is out of the list by then */
    void           (*answered)(struct route_ping *p, enum xe_why why, struct xe_span what);
};

struct route {
    struct stream_shared *shared;   /* borrowed */
    const struct config  *config;   /* borrowed; replaced by a reload */
    struct s2s_service   *s2s;      /* borrowed */
    struct trunk_service *trunks;   /* borrowed */
    struct map            pairs;
    struct list_node      all;      /* route_pair */
    struct list_node      walks;    /* list_walk: who is on his way through them */
    struct list_node      waiting;  /* route_pair */
    struct loop_task      serve_waiting;
    struct list_node      slow;     /* route_pair: slowed */
    struct timer          slow_timer;
    struct timer          sweep;
    size_t                memory;   /* bytes in all queues and windows */
    size_t                outward;  /* stanzas that wait to be sent to a server */
    struct list_node      pings;
    size_t                npings;
    struct xe_xml         reader;   /* reads back stanzas that wait */
    struct xe_xml_event   event;    /* of the reader */
    struct buf            text;     /* a stanza of our own */
    struct route_pair    *last;     /* the pair of the last stanza from a trunk */
    bool                  ending;   /* everything is being closed: nothing new is dialled */
    void                (*push)(struct loop_task *t);   /* work of a pair at the end of a turn */
    void                (*held)(struct timer *t);       /* a pair has waited too long for a trunk */
    void                (*look)(struct timer *t);       /* has what a pair sent arrived? */
    uint64_t              stanzas;  /* handed on */
    uint64_t              bounces;
    uint64_t              refusals[XE_WHY_COUNT];  /* ends and bounces by reason */
};

static bool
route_is_edge(const struct route *r)
{
    return r->config->role == CONFIG_EDGE;
}

/* ---- who may talk to whom ---- */

/* Is this one of the domains that this node speaks for on its s2s side? */
static bool
route_is_local(const struct route *r, struct xe_span domain)
{
    if (route_is_edge(r))
        return config_domain_for(r->config, domain) != NULL || span_eq(r->config->echo.domain,
            domain);
    return config_partner_for(r->config, domain) != NULL
        && config_inner_for(r->config, domain) == NULL && !span_eq(r->config->echo.domain, domain);
}

/* Does this partner have an entry of its own, or is it one of everybody? */
static bool
route_is_named(const struct config_partner *partner)
{
    return partner != NULL && partner->domain.name.at != NULL;
}

static void
route_terms_of_partner(const struct config_partner *p, struct s2s_terms *terms)
{
    terms->tls = p->tls;
    terms->methods = p->row->methods;
    terms->keepalive = p->keepalive;
    terms->bidi = p->bidi;
    terms->listed = route_is_named(p);
    terms->ours = false;
    terms->route[0] = '\0';
    if (p->proxy.name != NULL) {
        snprintf(terms->route, sizeof terms->route, "%s", p->proxy.name);
        terms->route_port = p->proxy.address.port;
        terms->route_tls = p->proxy_direct_tls;
    }
}

static void
route_terms_of_inner(const struct config_inner *inner, struct s2s_terms *terms)
{
    char text[CONN_TEXT_MAX];
    terms->tls = inner->tls;
    terms->methods = inner->row->methods;
    terms->keepalive = terms->listed = terms->ours = true;
    terms->bidi = inner->bidi;
    snprintf(terms->route, sizeof terms->route, "%s", conn_host_text(&inner->address.sa, text));
    terms->route_port = inner->address.port;
    terms->route_tls = false;
}

/* What holds until a peer has said who it is. */
static void
route_terms_of_stranger(struct s2s_terms *terms)
{
    *terms = (struct s2s_terms){ .tls = POLICY_OPTIONAL,
        .methods = POLICY_SASL_TLS | POLICY_TLS_DIALBACK | POLICY_TCP_DIALBACK };
}

/* May `remote`, on the s2s side, talk to `local`, which we speak for there?  "": not known yet. */
static enum xe_why
route_admit(void *user, struct xe_span remote, struct xe_span local, struct s2s_terms *terms)
{
    const struct route *r = user;
    const struct config_partner *partner;
    const struct config_inner *inner;
    route_terms_of_stranger(terms);
    if (local.len > 0 && !route_is_local(r, local))
        return route_is_edge(r) || config_inner_for(r->config, local) != NULL
            ? XE_WHY_HOST_UNKNOWN : XE_WHY_PARTNER_UNLISTED;
    if (remote.len == 0)
        return XE_WHY_NONE;
    if (!route_is_edge(r)) {
        inner = config_inner_for(r->config, remote);
        if (inner == NULL)
            return XE_WHY_DOMAIN_NOT_YOURS;
        route_terms_of_inner(inner, terms);
        return XE_WHY_NONE;
    }
    partner = route_is_local(r, remote) ? NULL : config_partner_for(r->config, remote);
    if (partner == NULL)
        return XE_WHY_PARTNER_UNLISTED;
    route_terms_of_partner(partner, terms);
    return XE_WHY_NONE;
}

static size_t
route_connection_limit(const struct route *r, struct xe_span remote)
{
    const struct config_partner *partner = route_is_edge(r) ? config_partner_for(r->config, remote)
        : NULL;
    return partner != NULL ? partner->connection_limit
        : route_is_edge(r) ? r->config->limits.partner_connections : r->config->limits.connections;
}

/* Those of which there are so many at a time: a dialback question has a ceiling of its own, and is
 * the doing of callers. */
static size_t
route_connections(const struct route *r)
{
    return r->s2s->count - r->s2s->verifies;
}

/* Domains without an entry have half of all connections, dialled or proven: whoever proves as many
 * as he likes, and makes us dial them, does not cut off those that have one. */
static bool
route_is_full_for(const struct route *r, const struct s2s *s, struct xe_span remote)
{
    return r->s2s->unlisted >= r->config->limits.connections / 2 && route_is_edge(r)
        && !(s != NULL && s->unlisted) && !route_is_named(config_partner_for(r->config, remote));
}

/* May one more connection with this domain be held?  `s`, if any, is the one that asks.  Only those
 * count whose domain is proven, or that we dial: claims cost a partner nothing. */
static enum xe_why
route_room(void *user, const struct s2s *s, struct xe_span remote)
{
    const struct route *r = user;
    const struct s2s_peer *peer = s2s_peer_find(r->s2s, remote);
    size_t count = peer == NULL ? 0 : peer->proven;
    if (route_connections(r) + (s == NULL) > r->config->limits.connections
        || route_is_full_for(r, s, remote))
        return XE_WHY_CONN_LIMIT;
    if (s != NULL && s->peer != NULL && s->peer == peer)
        count--;   /* it is one of them already */
    return count >= route_connection_limit(r, remote) ? XE_WHY_PARTNER_LIMIT : XE_WHY_NONE;
}

/* ---- limits on who connects ---- */

/* Take a connection from what the network, and those around it, may open in a second; false when
 * there is none left. */
static bool
route_source_spend(struct route *r, struct net_source *s)
{
    const struct config_limits *l = &r->config->limits;
    int64_t now = loop_now(r->shared->loop);
    int64_t price = 1000 / (int64_t)l->source_rate;   /* ms; half of it in a /56 */
    int64_t most = price * (int64_t)l->source_burst;
    struct net_source *n;
    bool enough = true;
    int share;
    for (n = s, share = 1; n != NULL; n = n->wider, share *= 2)
        enough = net_owed(&n->connected, now, 1) + price / share <= most && enough;
    for (n = s, share = 1; enough && n != NULL; n = n->wider, share *= 2)
        n->connected.spent += price / share;
    return enough;
}

/* May one more connection be accepted from this source?  Those that have proven a domain count for
 * that, and where it is on no list as source-pairs: many partners may share an address.  The inner
 * server of a gateway comes with a connection for each partner: no limit for it. */
static enum xe_why
route_source_enter(struct route *r, struct net_source *s)
{
    if (s == NULL)
        return XE_WHY_OUT_OF_MEMORY;
    if (!route_is_edge(r))
        return XE_WHY_NONE;
    if (net_load(s, NET_STRANGERS) >= r->config->limits.source_connections)
        return XE_WHY_SOURCE_LIMIT;
    return route_source_spend(r, s) ? XE_WHY_NONE : XE_WHY_SOURCE_RATE;
}

/* An eighth of all connections is for what we dial: callers alone cannot cut us off. */
static bool
route_is_full(const struct route *r)
{
    size_t most = r->config->limits.connections;
    return route_connections(r) >= most - most / 8;
}

/* ---- pairs ---- */

static struct route_pair *
route_pair_find(struct route *r, struct xe_span from, struct xe_span to)
{
    char key[2 * XE_DOMAIN_MAX];
    struct map_node *n;
    if (from.len + to.len + 1 > sizeof key)
        return NULL;
    memcpy(key, from.at, from.len);
    key[from.len] = '\0';
    memcpy(key + from.len + 1, to.at, to.len);
    n = map_find(&r->pairs, span_make(key, from.len + 1 + to.len));
    return n == NULL ? NULL : MAP_OWNER(n, struct route_pair, node);
}

/* The way towards a domain, seen from this node.  A gateway's own name asks when an inner server is
 * pinged; what else comes for it is nobody else's business. */
static enum route_way
route_way_to(const struct route *r, struct xe_span to)
{
    if (r->config->echo.domain.at != NULL && span_eq(r->config->echo.domain, to))
        return ROUTE_TO_ECHO;
    if (!route_is_edge(r) && span_eq(r->config->name, to)
        && config_inner_for(r->config, to) == NULL)
        return ROUTE_TO_ECHO;
    if (route_is_edge(r))
        return config_domain_for(r->config, to) != NULL ? ROUTE_TO_TRUNK : ROUTE_TO_S2S;
    return config_inner_for(r->config, to) != NULL ? ROUTE_TO_S2S : ROUTE_TO_TRUNK;
}

static void
route_note_memory(struct route *r, size_t more, size_t less)
{
    r->memory = r->memory + more - less;
}

/* One stanza less that this node alone answers for: whoever sent it may be told. */
static void
route_settle(struct route_pair *p)
{
    struct list_node *n;
    p->settled++;
    for (n = p->feeds.next; n != &p->feeds; n = n->next)
        s2s_settled(MAP_OWNER(n, struct s2s_pair, feed)->stream);
}

static void
route_pair_drop(struct route_pair *p)
{
    struct route *r = p->route;
    timer_cancel(r->shared->loop, &p->hold);
    timer_cancel(r->shared->loop, &p->look);
    loop_task_cancel(&p->push);
    list_remove(&p->waiting);
    list_remove(&p->slow);
    list_remove(&p->pin);
    list_leave(&r->walks, &p->all);
    map_remove(&r->pairs, &p->node);
    if (r->last == p)
        r->last = NULL;
    route_note_memory(r, 0, buf_len(&p->queue.bytes));
    queue_free(&p->queue);
    queue_free(&p->back);
    free(p);
}

/* Does nothing depend on it? */
static bool
route_pair_is_idle(const struct route_pair *p)
{
    return p->queue.count == 0 && p->in_flight == 0 && p->out == NULL && !p->paused
        && list_empty(&p->feeds) && loop_now(p->route->shared->loop) >= p->settle_at;
}

/* When a crowd has left, the system gets back what the allocator keeps for the next one.  GNU's has
 * to be asked: 1,000 streams that came and went had left it 40 MB. */
static void
route_give_back(struct s2s_service *v)
{
    if (v->peak < ROUTE_CROWD || v->count > v->peak / 4)
        return;
    v->peak = v->count;
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

/* Idle pairs are forgotten, some time after the last stanza: the status shows them until then. */
static void
route_sweep(struct timer *t)
{
    struct route *r = MAP_OWNER(t, struct route, sweep);
    int64_t before = loop_now(r->shared->loop) - ROUTE_PAIR_IDLE_MS;
    struct list_node *n = r->all.next;
    while (n != &r->all) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, all);
        n = n->next;
        if (p->last_ms < before && route_pair_is_idle(p))
            route_pair_drop(p);
    }
    route_give_back(r->s2s);
    log_tell_lost(r->shared->log);   /* though nothing else happens */
    timer_set(r->shared->loop, &r->sweep, ROUTE_SWEEP_MS);
}

/* ---- back-pressure towards the sources of a pair ---- */

/* Read its sources or do not: the accepted connections that feed it, or the pair of the same name
 * at the other end of the trunk that brings it. */
static void
route_pace(struct route_pair *p)
{
    bool paused = p->full || p->answers_wait || p->slowed;
    struct list_node *n;
    if (p->paused == paused)
        return;
    p->paused = paused;
    for (n = p->feeds.next; n != &p->feeds; n = n->next)
        s2s_pause(MAP_OWNER(n, struct s2s_pair, feed)->stream, paused);
    if (p->way != ROUTE_TO_TRUNK && p->trunk != NULL)
        trunk_pause(p->trunk, p->from, p->to, paused);
}

/* How much of a pair may be held before its sources wait: half of what there is room for, and less
 * when the memory for all pairs comes to its end. */
static size_t
route_high_bytes(const struct route_pair *p)
{
    const struct config_limits *l = &p->route->config->limits;
    size_t left = l->memory_bytes > p->route->memory ? l->memory_bytes - p->route->memory : 0;
    return l->queue_bytes / 2 < left / 4 ? l->queue_bytes / 2 : left / 4;
}

/* Full from the high marks on, until half of them is left.  Stanzas that were sent and have not
 * arrived are not counted: many small ones fill a long way. */
static void
route_press(struct route_pair *p)
{
    size_t bytes = p->in_flight_bytes + buf_len(&p->queue.bytes);
    size_t count = p->in_flight + queue_unsent(&p->queue);
    size_t most = p->route->config->limits.queue_stanzas / 2;
    size_t most_bytes = route_high_bytes(p);
    bool was = p->full;
    struct route_pair *opposite;
    if (count > 0 && (count >= most || bytes >= most_bytes))
        p->full = true;
    else if (count <= most / 2 && (count == 0 || bytes <= most_bytes / 2))
        p->full = false;
    route_pace(p);
    opposite = was && !p->full ? route_pair_find(p->route, p->to, p->from) : NULL;
    if (opposite != NULL) {
        opposite->answers_wait = false;
        route_pace(opposite);
    }
}

/* Whoever is sent back more than so much in a second is not read until it is over. */
static void
route_slow_down(struct route_pair *p)
{
    struct route *r = p->route;
    int64_t now = loop_now(r->shared->loop);
    if (now - p->bounce_ms >= ROUTE_BOUNCE_MS) {
        p->bounce_ms = now;
        p->bounce_count = 0;
    }
    if (++p->bounce_count <= r->config->limits.pair_bounces || p->slowed)
        return;
    p->slowed = true;
    list_append(&r->slow, &p->slow);
    if (!timer_armed(&r->slow_timer))
        timer_set(r->shared->loop, &r->slow_timer, ROUTE_BOUNCE_MS);
    route_pace(p);
}

static void
route_speed_up(struct timer *t)
{
    struct route *r = MAP_OWNER(t, struct route, slow_timer);
    struct list_node *n = r->slow.next;
    while (n != &r->slow) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, slow);
        n = n->next;
        if (loop_now(r->shared->loop) - p->bounce_ms < ROUTE_BOUNCE_MS)
            continue;
        list_remove(&p->slow);
        p->slowed = false;
        route_pace(p);
    }
    if (!list_empty(&r->slow))
        timer_set(r->shared->loop, &r->slow_timer, ROUTE_BOUNCE_MS / 4);
}

/* ---- pinning pairs to trunks ---- */

static bool
route_trunk_usable(const struct route *r, const struct trunk *t, const struct route_pair *p)
{
    /* while the node stops, what our own sources still bring goes out by it all the same */
    return t->state == TRUNK_UP
        && (!t->leaving || (t->we_leave && !t->peer_leaves && r->trunks->stopping))
        && (!route_is_edge(r) || trunk_serves(t, p->to));
}

/* Is there a trunk for this pair that answers? */
static bool
route_has_better(const struct route_pair *p)
{
    const struct list_node *all = &p->route->trunks->all;
    const struct list_node *n;
    for (n = all->next; n != all; n = n->next) {
        const struct trunk *t = MAP_OWNER(n, const struct trunk, node);
        if (!t->silent && route_trunk_usable(p->route, t, p))
            return true;
    }
    return false;
}

/* Should nothing more of this pair go by its trunk, which is silent?  One that is stays better than
 * none at all. */
static bool
route_is_stuck(const struct route_pair *p)
{
    return p->trunk != NULL && p->trunk->silent && route_has_better(p);
}

/* Rendezvous hashing: of the trunks that could serve, the one with the highest mark for this pair.
 * When a trunk goes away, only its pairs move. */
static uint64_t
route_mark(const struct trunk *t, const struct route_pair *p)
{
    struct map keyed = { .seed = { UINT64_C(0x7872c3a5), 0 } };   /* the same everywhere, always */
    uint64_t a = map_hash(&keyed, span_of(t->name));
    keyed.seed[1] = a;
    return map_hash(&keyed, p->node.key);
}

static void
route_set_trunk(struct route_pair *p, struct trunk *t)
{
    if (p->trunk == t)
        return;
    list_remove(&p->pin);
    p->trunk = t;
    p->far_full = false;   /* what the node behind the last one said of itself */
    if (t != NULL)
        list_append(&t->pairs, &p->pin);
    if (t != NULL && p->way != ROUTE_TO_TRUNK && p->paused)
        trunk_pause(t, p->from, p->to, true);
}

static void
route_pin(struct route_pair *p)
{
    struct route *r = p->route;
    struct trunk *best = NULL;
    const struct list_node *n;
    int64_t now = loop_now(r->shared->loop);
    bool stuck = route_is_stuck(p);
    if (p->trunk != NULL && (p->in_flight > 0 || (route_trunk_usable(r, p->trunk, p) && !stuck)))
        return;
    if (p->trunk != NULL)
        p->settle_at = now + ROUTE_SETTLE_MS;
    for (n = r->trunks->all.next; n != &r->trunks->all && now >= p->settle_at; n = n->next) {
        struct trunk *t = MAP_OWNER(n, struct trunk, node);
        if (route_trunk_usable(r, t, p) && (best == NULL || best->silent > t->silent
                || (best->silent == t->silent && route_mark(t, p) > route_mark(best, p))))
            best = t;
    }
    route_set_trunk(p, best);
}

/* Is this a pair with a partner that has an entry of its own, or one of a gateway? */
static bool
route_is_listed(const struct route *r, struct xe_span from, struct xe_span to)
{
    return !route_is_edge(r)
        || route_is_named(config_partner_for(r->config, route_is_local(r, to) ? from : to));
}

/* Whose lines are those about this pair?  Who owns one domain owns as many below it as he likes. */
static struct log_party
route_party(const struct route_pair *p)
{
    const struct s2s_pair *feed;
    if (route_is_listed(p->route, p->from, p->to))
        return log_party(LOG_PARTNER, NULL);
    if (p->out != NULL)
        return s2s_party(p->out);
    if (list_empty(&p->feeds))
        return log_party(LOG_UNPLACED, NULL);
    feed = MAP_OWNER(p->feeds.next, const struct s2s_pair, feed);
    return feed->stream->from == NULL ? s2s_party(feed->stream)
        : log_party(LOG_UNLISTED, feed->stream->from);
}

static bool
route_log(const struct route_pair *p, enum log_level level, const char *event)
{
    struct log_party who = route_party(p);
    return log_begin_about(p->route->shared->log, level, event, &who, p->node.key);
}

/* One line that names the two legs of a pair, by which captures of both sides can be joined. */
static void
route_log_joined(const struct route_pair *p, const struct stream *s2s, const struct trunk *t)
{
    struct log *log = p->route->shared->log;
    char at[CONN_TEXT_MAX];
    if (s2s->conn == NULL || t == NULL || t->stream.conn == NULL
        || !route_log(p, LOG_INFO, "pair-joined"))
        return;
    log_span(log, "from", p->from);
    log_span(log, "to", p->to);
    log_text(log, "s2s_local", conn_address_text(&s2s->conn->local, at));
    log_text(log, "s2s_peer", conn_address_text(&s2s->conn->peer, at));
    log_text(log, "trunk_local", conn_address_text(&t->stream.conn->local, at));
    log_text(log, "trunk_peer", conn_address_text(&t->stream.conn->peer, at));
    log_text(log, "trunk", t->name);
    log_end(log);
}

/* ---- handing on ---- */

static bool
route_is_held(const struct route_pair *p)
{
    return p->trunk == NULL || !route_trunk_usable(p->route, p->trunk, p);
}

/* May a stanza of this pair go into the window of its trunk now?  There must be room at its other
 * end, too, for all that is under way. */
static bool
route_may_send(const struct route_pair *p)
{
    const struct trunk *t = p->trunk;
    return !route_is_held(p) && !route_is_stuck(p) && !p->far_full && trunk_has_room(t)
        && (t->pair_bytes == 0
            || (p->in_flight < t->pair_stanzas && p->in_flight_bytes < t->pair_bytes));
}

/* Wait for a trunk: until the last one's stanzas have settled, or as long as a pair may be held. */
static void
route_arm_hold(struct route_pair *p)
{
    int64_t settle = p->settle_at - loop_now(p->route->shared->loop);
    if (timer_armed(&p->hold))
        return;
    p->settling = settle > 0;
    timer_set(p->route->shared->loop, &p->hold, settle > 0 ? settle
        : p->route->config->limits.hold_ms);
}

/* ---- bouncing ---- */

static bool
route_is_error_type(struct xe_span type)
{
    return span_is(type, "error");
}

/* RFC 6120 8.3.1: never an error for an error or a result.  Unavailable presence wants no answer
 * (RFC 6121 4.5): there is nobody left to tell. */
static bool
route_may_bounce(const struct xe_xml_event *e)
{
    struct xe_span type = xe_xml_attr(e, "type");
    if (xe_element_kind(e) == XE_KIND_IQ)
        return span_is(type, "get") || span_is(type, "set");
    if (xe_element_kind(e) == XE_KIND_PRESENCE && span_is(type, "unavailable"))
        return false;
    return !route_is_error_type(type);
}

/* Copy an attribute of the original under another name, quoted as it was. */
static void
route_put_attr(struct buf *out, const struct xe_xml_event *e, const char *theirs, const char *ours)
{
    unsigned i;
    for (i = 0; i < e->nattrs; i++) {
        const struct xe_xml_attr *a = &e->attrs[i];
        if (a->prefix.len > 0 || !span_is(a->name, theirs))
            continue;
        if (a->value.len > ROUTE_ID_MAX && span_is(a->name, "id"))
            continue;   /* nobody has room for answers that are as large as what they answer */
        buf_putc(out, ' ');
        buf_puts(out, ours);
        buf_putc(out, '=');
        buf_putc(out, a->quote);
        buf_put(out, a->value);
        buf_putc(out, a->quote);
    }
}

/* Begin an answer to a stanza: its name, addresses turned round, its id. */
static void
route_put_reply(struct buf *out, const struct xe_xml_event *e, const char *type)
{
    buf_putc(out, '<');
    buf_put(out, e->name);
    route_put_attr(out, e, "to", "from");
    route_put_attr(out, e, "from", "to");
    route_put_attr(out, e, "id", "id");
    if (type != NULL) {
        buf_puts(out, " type='");
        buf_puts(out, type);
        buf_putc(out, '\'');
    }
    buf_putc(out, '>');
}

static void
route_put_error(struct buf *out, const struct xe_xml_event *e, enum xe_why why)
{
    const struct xe_why_row *row = xe_why(why);
    route_put_reply(out, e, "error");
    buf_puts(out, "<error type='");
    buf_puts(out, row->stanza[0] != '\0' ? row->stanza_type : "wait");
    buf_puts(out, "'><");
    buf_puts(out, row->stanza[0] != '\0' ? row->stanza : "remote-server-timeout");
    buf_puts(out, " xmlns='" STREAM_NS_STANZAS "'/><text xmlns='" STREAM_NS_STANZAS
        "' xml:lang='en'>");
    xmlout_text(out, span_of(row->text));
    buf_puts(out, "</text></error></");
    buf_put(out, e->name);
    buf_putc(out, '>');
}

static void
route_log_bounce(const struct route_pair *p, const struct xe_xml_event *e, enum xe_why why)
{
    struct log *log = p->route->shared->log;
    if (!route_log(p, LOG_WARN, "bounce"))
        return;
    log_span(log, "from", p->from);
    log_span(log, "to", p->to);
    log_span(log, "kind", e->name);
    log_text(log, "why", xe_why(why)->word);
    log_text(log, "setting", config_limit_of(why));
    if (p->last_detail[0] != '\0' && why == p->last_why)
        log_text(log, "detail", p->last_detail);
    log_end(log);
}

/* ---- taking stanzas in: the one place where a stanza enters a queue ---- */

/* Why this pair's queue cannot take more; XE_WHY_NONE when it can.  Of what is waited for at either
 * end of a trunk, one stanza each may stand over the mark.  An answer to a stanza is owed, and
 * small unless it is an echo: who causes them waits when they fill half of the queue, so twice its
 * size is enough for those to all that was under way, and no memory is spared on them. */
static enum xe_why
route_queue_why(const struct route_pair *p, bool owed)
{
    const struct config_limits *l = &p->route->config->limits;
    size_t times = owed ? 2 : 1;
    if (queue_unsent(&p->queue) >= times * l->queue_stanzas
        || buf_len(&p->queue.bytes) >= times * l->queue_bytes + 2 * l->stanza_bytes)
        return XE_WHY_QUEUE_FULL;
    return p->route->memory >= l->memory_bytes && !owed ? XE_WHY_MEMORY : XE_WHY_NONE;
}

/* Make the reader ready: it sits inside a stream of its own. */
static void
route_open_reader(struct route *r)
{
    static const char header[] = STREAM_BEGIN ">";
    struct xe_xml_limits limits = { .header = 1024, .element = (size_t)1 << 28 };
    size_t used;
    xe_xml_free(&r->reader);
    xe_xml_init(&r->reader, &limits);
    xe_xml_next(&r->reader, header, sizeof header - 1, &used, &r->event);
}

/* A stanza of a queue as an event, read back by our own tokenizer. */
static const struct xe_xml_event *
route_read_back(struct route *r, struct xe_span stanza)
{
    size_t used;
    if (xe_xml_next(&r->reader, stanza.at, stanza.len, &used, &r->event) == XE_XML_ELEMENT)
        return &r->event;
    route_open_reader(r);   /* a tokenizer that has refused something stays that way */
    return NULL;
}

/* May the written form be more than a tokenizer accepts although the received one was not?  The
 * header of the old stream can add declarations and a language to the root tag. */
static bool
route_is_doubtful(const struct xe_xml *xml, const struct xe_xml_event *e)
{
    return (e->flags & (XE_XML_STREAM_PREFIX | XE_XML_REWRITE)) != 0
        || e->nattrs + xml->root_nns >= XE_XML_ATTRS_MAX;
}

/* Write the stanza as it must read on the other stream to the end of `out`; `text` is one that is
 * ready.  *len receives the bytes.  Nothing is written for which the other side would have to end
 * a shared stream: over `max` bytes, or too much for a tokenizer. */
static enum xe_why
route_write(struct route *r, struct buf *out, const struct xe_xml *xml,
    const struct xe_xml_event *e, struct xe_span text, size_t max, size_t *len)
{
    size_t before = buf_len(out);
    enum xe_why why = XE_WHY_NONE;
    *len = 0;
    if (e != NULL ? !xmlout_stanza(out, xml, e) : !buf_put(out, text)) {
        why = XE_WHY_MEMORY;
    } else {
        *len = buf_len(out) - before;
        if (*len > max)
            why = XE_WHY_STANZA_TOO_BIG;
        else if (e != NULL && route_is_doubtful(xml, e)
            && route_read_back(r, span_make(out->bytes + out->head + before, *len)) == NULL)
            why = XE_WHY_XML_PREFIX;
    }
    if (why != XE_WHY_NONE) {
        out->tail = out->head + before;
        out->failed = false;
    }
    return why;
}

/* The usual way towards a trunk: straight into its window. */
static enum xe_why
route_put_window(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e,
    struct xe_span text)
{
    struct trunk *t = p->trunk;
    size_t max = t->max_bytes + p->route->config->limits.header_bytes;
    size_t len;
    enum xe_why why = t->narrow && e != NULL && (e->flags & XE_XML_LARGE) != 0 ? XE_WHY_XML_LIMIT
        : route_write(p->route, &t->window.bytes, xml, e, text, max, &len);
    if (why != XE_WHY_NONE)
        return why;
    if (!trunk_commit(t, len, p))
        return XE_WHY_OUT_OF_MEMORY;
    route_note_memory(p->route, len, 0);
    p->taken++;
    p->in_flight++;
    p->in_flight_bytes += len;
    p->passed++;
    p->route->stanzas++;
    route_press(p);
    return XE_WHY_NONE;
}

/* A server is given no more than stanza-bytes: it may end its stream for more.  On a trunk
 * what the header of the old stream adds does not count. */
static enum xe_why
route_put_queue(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e,
    struct xe_span text)
{
    const struct config_limits *l = &p->route->config->limits;
    enum xe_why why = route_queue_why(p, e == NULL && text.len <= ROUTE_OWED_MAX);
    size_t len;
    if (why != XE_WHY_NONE)
        return why;
    p->queue.bytes.max = 2 * l->queue_bytes + 4 * l->stanza_bytes;
    why = route_write(p->route, &p->queue.bytes, xml, e, text,
        l->stanza_bytes + (p->way == ROUTE_TO_TRUNK ? l->header_bytes : 0), &len);
    if (why != XE_WHY_NONE)
        return why == XE_WHY_MEMORY ? XE_WHY_QUEUE_FULL : why;
    if (!queue_add(&p->queue, len, p))
        return XE_WHY_OUT_OF_MEMORY;
    p->route->outward += p->way == ROUTE_TO_S2S;
    p->taken++;
    route_note_memory(p->route, len, 0);
    route_press(p);
    loop_at_end(p->route->shared->loop, &p->push);
    return XE_WHY_NONE;
}

static enum xe_why
route_put_trunk(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e,
    struct xe_span text)
{
    route_pin(p);
    if (p->trunk == NULL && p->gave_up)
        return XE_WHY_NO_TRUNK;
    if (p->queue.count == 0 && route_may_send(p)
        && p->route->memory < p->route->config->limits.memory_bytes)
        return route_put_window(p, xml, e, text);
    return route_put_queue(p, xml, e, text);
}

/* Its server has just been there and is tried again: what comes meanwhile waits. */
static bool
route_waits_for_server(const struct route_pair *p)
{
    return p->out == NULL && loop_now(p->route->shared->loop) < p->hold_until;
}

/* Towards a server: wait for its connection, or be told why there is none. */
static enum xe_why
route_put_s2s(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e,
    struct xe_span text)
{
    if (p->out == NULL && p->last_why != XE_WHY_NONE && !route_waits_for_server(p)
        && loop_now(p->route->shared->loop) < p->retry_at)
        return p->last_why;
    return route_put_queue(p, xml, e, text);
}

/* Put a stanza on its way, or say why not. */
static enum xe_why
route_put(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e,
    struct xe_span text)
{
    p->last_ms = loop_now(p->route->shared->loop);
    switch (p->way) {
    case ROUTE_TO_TRUNK:
        return route_put_trunk(p, xml, e, text);
    case ROUTE_TO_S2S:
        return route_put_s2s(p, xml, e, text);
    case ROUTE_TO_ECHO:
        break;
    }
    return XE_WHY_NONE;   /* answers to the echo domain itself have arrived */
}

/* ---- pings of our own ---- */

/* The ping of this id; NULL when it is none of ours. */
static struct route_ping *
route_ping_find(struct route *r, struct xe_span id)
{
    struct list_node *n;
    if (r->npings == 0 || id.at == NULL)
        return NULL;
    for (n = r->pings.next; n != &r->pings; n = n->next)
        if (span_is(id, MAP_OWNER(n, struct route_ping, node)->id))
            return MAP_OWNER(n, struct route_ping, node);
    return NULL;
}

static void
route_ping_end(struct route *r, struct route_ping *ping, enum xe_why why, struct xe_span what)
{
    list_remove(&ping->node);
    r->npings--;
    ping->answered(ping, why, what);
}

/* The condition of a stanza error and its text, in the shared text. */
static struct xe_span
route_error_words(struct route *r, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    struct elem stanza = elem_parse(xml, e);
    struct elem c = elem_first(elem_child(stanza, "error", NULL));
    struct buf *t = &r->text;
    buf_clear(t);
    for (; c.at != NULL; c = elem_next(c)) {
        if (!elem_is(c, NULL, STREAM_NS_STANZAS))
            continue;
        if (buf_span(t).len > 0)
            buf_puts(t, ": ");
        if (elem_is(c, "text", NULL))
            elem_put_text(t, c);
        else
            buf_put(t, elem_name(c));
    }
    elem_free(stanza);
    return buf_span(t);
}

/* An answer to one of our pings?  Then it goes no further. */
static bool
route_is_ping_answer(struct route *r, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    struct xe_span type = xe_xml_attr(e, "type");
    struct route_ping *ping = r->npings == 0 ? NULL : route_ping_find(r, xe_xml_attr(e, "id"));
    if (ping == NULL || span_is(type, "get"))
        return false;
    if (route_is_error_type(type))
        route_ping_end(r, ping, XE_WHY_PING_ERROR, route_error_words(r, xml, e));
    else
        route_ping_end(r, ping, XE_WHY_NONE, e->inner);
    return true;
}

/* May there be one more pair?  When all are taken, those that nothing depends on make room before
 * their time; and the last quarter is for listed partners, whoever proves a thousand domains. */
static bool
route_pair_room(struct route *r, struct xe_span from, struct xe_span to)
{
    size_t total = r->config->limits.total_pairs;
    size_t most = r->pairs.count < total - total / 4 || route_is_listed(r, from, to) ? total
        : total - total / 4;
    size_t looked = 0;
    while (r->pairs.count >= most && looked++ < ROUTE_LOOK_MAX && !list_empty(&r->all)) {
        struct route_pair *p = MAP_OWNER(r->all.next, struct route_pair, all);
        list_leave(&r->walks, &p->all);
        list_append(&r->all, &p->all);
        if (route_pair_is_idle(p) && p->to.at != from.at)   /* not the one that is answered */
            route_pair_drop(p);
    }
    return r->pairs.count < most;
}

/* The pair of these domains, made if need be; NULL, and *why, when there can be no more. */
static struct route_pair *
route_pair_get(struct route *r, struct xe_span from, struct xe_span to, enum xe_why *why)
{
    struct route_pair *p = route_pair_find(r, from, to);
    size_t len = from.len + 1 + to.len;
    bool full = p == NULL && !route_pair_room(r, from, to);
    *why = p != NULL ? XE_WHY_NONE : full ? XE_WHY_TOTAL_PAIRS : XE_WHY_OUT_OF_MEMORY;
    if (p != NULL || full)
        return p;
    p = calloc(1, sizeof *p + len + 1);
    if (p == NULL)
        return NULL;
    memcpy(p->text, from.at, from.len);
    memcpy(p->text + from.len + 1, to.at, to.len);
    p->from = span_make(p->text, from.len);
    p->to = span_make(p->text + from.len + 1, to.len);
    p->way = route_way_to(r, to);
    p->route = r;
    p->push.run = r->push;
    p->hold.fire = r->held;
    p->look.fire = r->look;
    p->last_ms = loop_now(r->shared->loop);
    list_init(&p->feeds);
    if (!map_add(&r->pairs, &p->node, span_make(p->text, len))) {
        free(p);
        return NULL;
    }
    list_append(&r->all, &p->all);
    *why = XE_WHY_NONE;
    return p;
}

/* Put the shared text, an answer to a stanza of this pair, on the way of the opposite pair. */
static void
route_answer(struct route_pair *p)
{
    struct route *r = p->route;
    enum xe_why lost;
    struct route_pair *back = route_pair_get(r, p->to, p->from, &lost);
    if (back != NULL)
        lost = r->text.failed ? XE_WHY_OUT_OF_MEMORY
            : route_put(back, NULL, NULL, buf_span(&r->text));
    if (back != NULL && back->full) {
        p->answers_wait = true;
        route_pace(p);
    }
    if (lost != XE_WHY_NONE && route_log(p, LOG_WARN, "answer-undeliverable")) {
        log_span(r->shared->log, "from", p->to);
        log_span(r->shared->log, "to", p->from);
        log_text(r->shared->log, "why", xe_why(lost)->word);
        log_end(r->shared->log);
    }
}

/* Send a stanza of a pair back to its sender. */
static void
route_bounce(struct route_pair *p, const struct xe_xml_event *e, enum xe_why why)
{
    struct route *r = p->route;
    struct route_ping *ping;
    r->refusals[why]++;
    p->bounce_why = why;
    p->bounced++;
    r->bounces++;
    route_log_bounce(p, e, why);
    route_slow_down(p);
    if (!route_may_bounce(e))
        return;
    ping = route_ping_find(r, xe_xml_attr(e, "id"));
    if (ping != NULL) {
        route_ping_end(r, ping, why, span_of(p->last_detail));
        return;
    }
    buf_clear(&r->text);
    route_put_error(&r->text, e, why);
    route_answer(p);
}

/* Send the oldest stanza that waits for a pair back. */
static void
route_return_oldest(struct route_pair *p, enum xe_why why)
{
    struct xe_span stanza = queue_oldest(&p->queue);
    const struct xe_xml_event *e = route_read_back(p->route, stanza);
    if (e != NULL)
        route_bounce(p, e, why);
    route_note_memory(p->route, 0, stanza.len);
    p->route->outward -= p->way == ROUTE_TO_S2S && p->queue.sent == 0;
    queue_release(&p->queue);
    route_settle(p);
}

/* What was sent to a server that has gone waits again. */
static void
route_rewind(struct route_pair *p)
{
    p->route->outward += p->way == ROUTE_TO_S2S ? p->queue.sent : 0;
    queue_rewind(&p->queue);
}

/* Send all of them back. */
static void
route_bounce_queue(struct route_pair *p, enum xe_why why)
{
    timer_cancel(p->route->shared->loop, &p->hold);
    list_remove(&p->waiting);
    route_rewind(p);
    while (p->queue.count > 0)
        route_return_oldest(p, why);
    route_press(p);
}

/* From now on its stanzas go by this connection. */
static void
route_use(struct route_pair *p, struct s2s *s)
{
    p->out = s;
    p->good = false;
    list_append(&s->users, &p->use);
}

static void
route_use_end(struct route_pair *p)
{
    p->out = NULL;
    list_remove(&p->use);
}

/* Does the pair's connection bring stanzas, too, and is not read for them?  Then what its peer says
 * of ours is not read either. */
static bool
route_is_unread(const struct route_pair *p)
{
    return p->out != NULL && p->out->bidi && p->out->pauses > 0;
}

/* Nothing of the pair is under way on its connection: what comes now goes by another one. */
static void
route_part(struct route_pair *p)
{
    route_use_end(p);
    p->worked = p->worked || p->good;
    if (p->queue.count > 0)
        loop_at_end(p->route->shared->loop, &p->push);
}

/* Hand stanzas to the pair's own connection; they stay in the queue until they have arrived.  So
 * much may be under way that the other half of what makes a queue full still waits. */
static void
route_push_s2s(struct route_pair *p)
{
    struct s2s *s = p->out;
    if (s == NULL || !s2s_carries(s) || p->way != ROUTE_TO_S2S)
        return;
    if (route_is_unread(p) && p->queue.sent == 0 && queue_unsent(&p->queue) > 0) {
        route_part(p);
        return;
    }
    if (p->queue.sent == 0)
        p->moved_ms = loop_now(p->route->shared->loop);
    if (s2s_is_counted(s))
        conn_arrived(s->stream.conn);   /* it has few marks, and nobody else looks at them now */
    while (queue_unsent(&p->queue) > 0 && conn_queued(s->stream.conn) < ROUTE_OUT_HIGH
        && p->queue.sent_bytes < p->route->config->limits.queue_bytes / 4) {
        uint64_t at = conn_sent(s->stream.conn);
        size_t n;
        struct xe_span run;
        if (queue_next(&p->queue) > s->max_bytes) {
            if (p->queue.sent > 0)
                break;   /* it comes back when those before it have arrived */
            route_return_oldest(p, XE_WHY_STANZA_TOO_BIG);
            continue;
        }
        run = queue_send(&p->queue, ROUTE_OUT_HIGH, s->max_bytes, &n);
        if (!stream_send(&s->stream, run)) {
            p->queue.sent -= n;
            p->queue.sent_bytes -= run.len;
            s2s_close(s, XE_WHY_OUT_OF_MEMORY);
            return;
        }
        p->route->outward -= n;
        s->stanzas += n;
        s->sent += n;
        queue_note_ends(&p->queue, n, at);
    }
    s2s_ask_ack(s);
}

/* ---- from the queue of a pair to its trunk ---- */

/* Would the node at the other end of the pair's trunk end that for this stanza?  r->event is it. */
static bool
route_is_too_large(struct route_pair *p, struct xe_span stanza)
{
    const struct xe_xml_event *e = p->trunk->narrow ? route_read_back(p->route, stanza) : NULL;
    return e != NULL && (e->flags & XE_XML_LARGE) != 0;
}

/* Move what waits into the window of the pair's trunk, as far as there is room. */
static void
route_push_trunk(struct route_pair *p)
{
    struct route *r = p->route;
    route_pin(p);
    while (p->queue.count > 0 && route_may_send(p)) {
        struct xe_span stanza = queue_oldest(&p->queue);
        if (route_is_too_large(p, stanza)) {
            route_return_oldest(p, XE_WHY_XML_LIMIT);
            continue;
        }
        if (!buf_put(&p->trunk->window.bytes, stanza)) {
            p->trunk->window.bytes.failed = false;
            break;
        }
        if (!trunk_commit(p->trunk, stanza.len, p))
            break;
        p->in_flight++;
        p->in_flight_bytes += stanza.len;
        p->passed++;
        r->stanzas++;
        queue_release(&p->queue);
    }
    if (p->queue.count == 0) {
        timer_cancel(r->shared->loop, &p->hold);
        list_remove(&p->waiting);
    } else {
        if (!list_linked(&p->waiting) && !p->far_full)
            list_append(&r->waiting, &p->waiting);
        if (p->trunk == NULL)
            route_arm_hold(p);
    }
    route_press(p);
}

static void
route_serve_waiting(struct loop_task *task)
{
    struct route *r = MAP_OWNER(task, struct route, serve_waiting);
    struct list_node *n = r->waiting.next;
    while (n != &r->waiting) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, waiting);
        n = n->next;
        route_push_trunk(p);
    }
}

/* Refuse a stanza of a trunk on the trunk itself: its pair is none of ours. */
static void
route_refuse_on_trunk(struct route *r, struct trunk *t, const struct xe_xml_event *e,
    enum xe_why why)
{
    struct log *log = r->shared->log;
    r->refusals[why]++;
    r->bounces++;
    if (log_begin(log, LOG_WARN, "bounce", span_of(t->name))) {
        log_text(log, "trunk", t->name);
        log_span(log, "from", xe_xml_attr(e, "from"));
        log_span(log, "to", xe_xml_attr(e, "to"));
        log_span(log, "kind", e->name);
        log_text(log, "why", xe_why(why)->word);
        log_end(log);
    }
    if (!route_may_bounce(e) || xe_xml_attr(e, "from").at == NULL)
        return;
    buf_clear(&r->text);
    route_put_error(&r->text, e, why);
    if (!r->text.failed && buf_put(&t->window.bytes, buf_span(&r->text))
        && trunk_commit(t, buf_len(&r->text), NULL))
        route_note_memory(r, buf_len(&r->text), 0);
    t->window.bytes.failed = false;
}

/* ---- the echo domain ---- */

static void
route_echo_iq(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    struct elem iq = elem_parse(xml, e);
    struct elem query = elem_first(iq);
    struct buf *t = &p->route->text;
    buf_clear(t);
    if (elem_is(query, "ping", "urn:xmpp:ping")) {
        route_put_reply(t, e, "result");
        buf_puts(t, "</iq>");
    } else if (elem_is(query, "query", "http://jabber.org/protocol/disco#info")) {
        route_put_reply(t, e, "result");
        buf_puts(t, "<query xmlns='http://jabber.org/protocol/disco#info'>"
            "<identity category='client' type='bot' name='echo'/>"
            "<feature var='http://jabber.org/protocol/disco#info'/><feature var='urn:xmpp:ping'/>"
            "</query></iq>");
    } else {
        route_put_reply(t, e, "error");
        buf_puts(t, "<error type='cancel'><service-unavailable xmlns='" STREAM_NS_STANZAS
            "'/></error></iq>");
    }
    elem_free(iq);
    route_answer(p);
}

/* The content goes back as it has to read on another stream, like everything that is forwarded. */
static void
route_echo_message(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    struct buf *t = &p->route->text;
    char *room;
    buf_clear(t);
    route_put_reply(t, e, span_is(xe_xml_attr(e, "type"), "chat") ? "chat" : NULL);
    room = buf_room(t, e->raw.len + xmlout_extra(xml, e));
    if (room != NULL && !t->failed) {
        room = xmlout_declarations(room - 1, xml, e);   /* in the place of the '>' */
        t->tail = (size_t)(room - t->bytes);
    }
    buf_putc(t, '>');
    if (e->flags & XE_XML_REWRITE)
        xmlout_content(t, xml, e);
    else
        buf_put(t, e->inner);
    buf_puts(t, "</message>");
    route_answer(p);
}

/* Nobody is here whose presence could be seen. */
static void
route_echo_presence(struct route_pair *p, const struct xe_xml_event *e)
{
    struct buf *t = &p->route->text;
    if (!span_is(xe_xml_attr(e, "type"), "subscribe"))
        return;
    buf_clear(t);
    route_put_reply(t, e, "unsubscribed");
    buf_puts(t, "</presence>");
    route_answer(p);
}

/* Is this the echo of a message of our own, too late to be waited for? */
static bool
route_is_late_echo(const struct xe_xml_event *e)
{
    struct xe_span to = xe_xml_attr(e, "to");
    size_t at = span_find(to, '/');
    return span_is(span_skip(to, at), ROUTE_PING_RESOURCE);
}

/* The domain that this node answers for by itself: pings, disco, and messages sent back. */
static void
route_echo(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    enum xe_element_kind kind = xe_element_kind(e);
    p->passed++;
    if (!route_may_bounce(e))
        return;   /* errors and answers want no answer */
    if (kind == XE_KIND_IQ)
        route_echo_iq(p, xml, e);
    else if (kind == XE_KIND_MESSAGE && !route_is_late_echo(e))
        route_echo_message(p, xml, e);
    else if (kind == XE_KIND_PRESENCE)
        route_echo_presence(p, e);
}

/* ---- a stanza has come in ---- */

static void
route_forward(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    enum xe_why why = e->why == XE_WHY_NONE && (e->flags & XE_XML_UNBOUND) != 0
        ? XE_WHY_XML_PREFIX : e->why;
    if (why == XE_WHY_NONE && p->way == ROUTE_TO_ECHO)
        route_echo(p, xml, e);
    else if (why == XE_WHY_NONE)
        why = route_put(p, xml, e, span_make(NULL, 0));
    if (why != XE_WHY_NONE)
        route_bounce(p, e, why);
}

static void
route_stanza(struct route_pair *p, const struct xe_xml *xml, const struct xe_xml_event *e)
{
    if (e->why != XE_WHY_NONE || !route_is_ping_answer(p->route, xml, e))
        route_forward(p, xml, e);
}

/* From an accepted connection: its pair is authorised, or was until a moment ago. */
static void
route_s2s_stanza(void *user, struct s2s_pair *sp, const struct xe_xml_event *e)
{
    (void)user;
    if (sp->refused != XE_WHY_NONE)
        route_bounce(sp->route, e, sp->refused);
    else
        route_stanza(sp->route, &sp->stream->stream.xml, e);
}

/* The domains of a stanza in normal form; false when there are none. */
static bool
route_domains(const struct xe_xml_event *e, char from[XE_DOMAIN_MAX], char to[XE_DOMAIN_MAX])
{
    char text[3 * 1024];
    struct xe_span domain = s2s_address_domain(xe_xml_attr(e, "from"), text, sizeof text);
    size_t len;
    if (domain.at == NULL || !jid_address_normal(domain, from, &len))
        return false;
    from[len] = '\0';
    domain = s2s_address_domain(xe_xml_attr(e, "to"), text, sizeof text);
    if (domain.at == NULL || !jid_address_normal(domain, to, &len))
        return false;
    to[len] = '\0';
    return true;
}

/* May this trunk bring stanzas of this pair? */
static enum xe_why
route_trunk_why(struct route *r, const struct trunk *t, struct xe_span from, struct xe_span to)
{
    struct s2s_terms terms;
    if (route_is_edge(r)) {
        if (!trunk_serves(t, from))
            return XE_WHY_DOMAIN_NOT_YOURS;
        return route_is_local(r, to) ? XE_WHY_DOMAIN_UNKNOWN : route_admit(r, to, from, &terms);
    }
    if (route_way_to(r, to) == ROUTE_TO_TRUNK)
        return XE_WHY_DOMAIN_UNKNOWN;
    /* any other may be a partner's, and the edge decides: even a subdomain of ours that is not
     * inside, for only the edge knows which of them others host */
    return config_is_ours(r->config, from) || span_eq(r->config->name, from)
        ? XE_WHY_DOMAIN_NOT_YOURS : XE_WHY_NONE;
}

/* The pair of the last stanza from a trunk when this one is of the same, as most are: nothing has
 * to be normalised or looked up then. */
static struct route_pair *
route_pair_again(const struct route *r, const struct xe_xml_event *e)
{
    char text[3 * 1024];
    struct route_pair *p = r->last;
    return p != NULL
        && span_eq(s2s_address_domain(xe_xml_attr(e, "from"), text, sizeof text), p->from)
        && span_eq(s2s_address_domain(xe_xml_attr(e, "to"), text, sizeof text), p->to) ? p : NULL;
}

/* From a trunk: is it a pair that this trunk may bring?  Asked once per pair and reload. */
static void
route_trunk_stanza(void *user, struct trunk *t, const struct xe_xml_event *e)
{
    struct route *r = user;
    char from[XE_DOMAIN_MAX];
    char to[XE_DOMAIN_MAX];
    enum xe_why why = XE_WHY_NONE;
    struct route_pair *p = route_pair_again(r, e);
    if (p == NULL && !route_domains(e, from, to)) {
        route_refuse_on_trunk(r, t, e, XE_WHY_BAD_ADDRESS);
        return;
    }
    if (p == NULL)
        p = route_pair_find(r, span_of(from), span_of(to));
    if (p == NULL)
        why = route_trunk_why(r, t, span_of(from), span_of(to));
    else if (!p->admitted || (route_is_edge(r) && !trunk_serves(t, p->from)))
        why = route_trunk_why(r, t, p->from, p->to);
    if (why == XE_WHY_NONE && p == NULL)
        p = route_pair_get(r, span_of(from), span_of(to), &why);
    if (why != XE_WHY_NONE) {
        route_refuse_on_trunk(r, t, e, why);
        return;
    }
    r->last = p;
    p->admitted = true;
    if (p->way != ROUTE_TO_TRUNK)
        route_set_trunk(p, t);   /* whence it comes: to slow it down, and for the log */
    route_stanza(p, &t->stream.xml, e);
}

/* ---- news from s2s connections ---- */

static void
route_paired(void *user, struct s2s_pair *sp)
{
    struct route *r = user;
    enum xe_why why;
    struct route_pair *p = route_pair_get(r, sp->remote, sp->local, &why);
    sp->route = p;
    if (p == NULL) {
        s2s_fail(sp->stream, why);
        return;
    }
    list_append(&p->feeds, &sp->feed);
    if (p->way == ROUTE_TO_TRUNK) {
        route_pin(p);
        route_log_joined(p, &sp->stream->stream, p->trunk);
    }
    if (p->paused)
        s2s_pause(sp->stream, true);
}

static void
route_unpaired(void *user, struct s2s_pair *sp)
{
    struct route_pair *p = sp->route;
    const struct stream *stream = &sp->stream->stream;
    (void)user;
    list_remove(&sp->feed);
    sp->route = NULL;
    if (p != NULL && p->paused)
        s2s_pause(sp->stream, false);
    if (p == NULL || p->way == ROUTE_TO_S2S)
        return;
    /* for the status: how a connection ended on which the pair was proven, never a mere claim */
    p->last_why = stream->why;
    snprintf(p->last_detail, sizeof p->last_detail, "%s", stream->detail);
}

/* What is to be done for each pair whose stanzas go by a connection, as long as there is one. */
static void
route_each(struct s2s *s, void (*act)(struct route_pair *p))
{
    struct list_node *n = s->users.next;
    while (list_linked(n) && n != &s->users) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, use);
        n = n->next;
        act(p);
    }
}

/* It may send now. */
static void
route_out_ready(struct route_pair *p)
{
    p->last_why = p->bounce_why = XE_WHY_NONE;
    p->last_detail[0] = '\0';
    p->backoff_ms = 0;
    if (p->trunk != NULL && p->trunk->state == TRUNK_UP)
        route_log_joined(p, &p->out->stream, p->trunk);
    loop_at_end(p->route->shared->loop, &p->push);
}

static void
route_s2s_ready(void *user, struct s2s *s)
{
    (void)user;
    route_each(s, route_out_ready);
}

/* An accepted connection carries the stanzas of this pair from now on. */
static void
route_turn(struct route_pair *p, struct s2s *s)
{
    route_use(p, s);
    s->stream.conn->hasty = false;
    route_out_ready(p);
}

/* An accepted connection may carry stanzas: those of its pairs turned round that have no other. */
static void
route_s2s_turned(void *user, struct s2s *s)
{
    struct list_node *n;
    for (n = s->pairs.next; n != &s->pairs; n = n->next) {
        const struct s2s_pair *sp = MAP_OWNER(n, const struct s2s_pair, node);
        struct route_pair *p = sp->open ? route_pair_find(user, sp->local, sp->remote) : NULL;
        if (p != NULL && p->way == ROUTE_TO_S2S && p->out == NULL)
            route_turn(p, s);
    }
}

/* Is there an accepted connection that may carry the stanzas of this pair?  NULL: there is none. */
static struct s2s *
route_turned(const struct route_pair *p)
{
    const struct route_pair *opposite = route_pair_find(p->route, p->to, p->from);
    const struct list_node *n;
    for (n = opposite == NULL ? NULL : opposite->feeds.next; n != NULL && n != &opposite->feeds;
        n = n->next) {
        struct s2s *s = MAP_OWNER(n, struct s2s_pair, feed)->stream;
        if (s2s_may_carry(s))
            return s;
    }
    return NULL;
}

/* Forget the oldest stanza: it has arrived. */
static void
route_release_oldest(struct route_pair *p)
{
    struct route *r = p->route;
    struct queue_item item = queue_release(&p->queue);
    route_note_memory(r, 0, item.len);
    p->good = true;
    p->moved_ms = loop_now(r->shared->loop);
    p->look_ms = ROUTE_LOOK_MS;
    p->passed++;
    r->stanzas++;
    route_settle(p);
}

/* Of all bytes of the connection of a pair, modulo 2^32, those up to its last stanza there. */
static uint32_t
route_sent_end(const struct route_pair *p)
{
    return p->queue.sent == 0 ? 0 : queue_item(&p->queue, p->queue.sent - 1)->end;
}

/* And those that the peer's system has. */
static uint32_t
route_arrived(const struct route_pair *p, const struct s2s *s)
{
    return s->stream.conn == NULL ? route_sent_end(p) : (uint32_t)conn_arrived(s->stream.conn);
}

/* Is the oldest stanza that was sent among them? */
static bool
route_has_arrived(const struct route_pair *p, uint32_t arrived)
{
    return p->queue.sent > 0 && !s2s_is_behind(arrived, queue_item(&p->queue, 0)->end);
}

/* Forget all that are. */
static void
route_release(struct route_pair *p, uint32_t arrived)
{
    while (route_has_arrived(p, arrived))
        route_release_oldest(p);
}

/* Look again, seldom when nothing comes, and not for ever. */
static void
route_look_later(struct route_pair *p)
{
    const struct config_limits *l = &p->route->config->limits;
    struct loop *loop = p->route->shared->loop;
    bool counted = s2s_is_counted(p->out);
    int64_t wait = (counted ? l->ack_ms : l->write_ms) - (loop_now(loop) - p->moved_ms);
    if (p->queue.sent == 0) {
        timer_cancel(loop, &p->look);
        return;
    }
    if (wait <= 0) {
        s2s_fail(p->out, counted ? XE_WHY_ACK_TIMEOUT : XE_WHY_WRITE_TIMEOUT);
        return;
    }
    if (p->look_ms == 0)
        p->look_ms = ROUTE_LOOK_MS;
    timer_set(loop, &p->look, wait < p->look_ms ? wait : p->look_ms);
    p->look_ms = p->look_ms * 4 < ROUTE_LOOK_LATE_MS ? p->look_ms * 4 : ROUTE_LOOK_LATE_MS;
}

/* What comes now goes by the next connection, which does not wait for the end of this one: only
 * what has not arrived yet does. */
static void
route_move_on(struct route_pair *p)
{
    if (!s2s_carries(p->out) && p->queue.sent == 0)
        route_part(p);
}

/* Something may have arrived: go on with what that means. */
static void
route_moved(struct route_pair *p)
{
    route_press(p);
    route_look_later(p);
    if (p->out == NULL)
        return;   /* it was silent for too long */
    route_push_s2s(p);
    if (p->out != NULL)
        route_move_on(p);
}

/* What has arrived is forgotten.  Without XEP-0198 that is what the peer's system has; with it too,
 * when what the peer says of it has not been read for so long: else two pairs could wait for each
 * other, each for what stands behind the stanzas of the other. */
static void
route_look(struct route_pair *p)
{
    size_t sent = p->queue.sent;
    if (!s2s_is_counted(p->out) || (route_is_unread(p)
            && loop_now(p->route->shared->loop) - p->moved_ms >= ROUTE_UNREAD_MS))
        route_release(p, route_arrived(p, p->out));
    s2s_presume(p->out, sent - p->queue.sent);
    route_moved(p);
}

static void
route_pair_look(struct timer *t)
{
    struct route_pair *p = MAP_OWNER(t, struct route_pair, look);
    if (p->out == NULL)
        return;
    route_look(p);
}

static void
route_out_drained(struct route_pair *p)
{
    p->look_ms = ROUTE_LOOK_MS;
    route_look(p);
}

/* Whoever is the first to go on is the last the next time: there may be room for the stanzas of one
 * pair only. */
static void
route_s2s_drained(void *user, struct s2s *s)
{
    struct list_node *first = s->users.next;
    (void)user;
    if (list_empty(&s->users))
        return;
    list_remove(first);
    list_append(&s->users, first);
    route_each(s, route_out_drained);
}

static void
route_out_leaving(struct route_pair *p)
{
    route_move_on(p);
    if (p->out != NULL && !timer_armed(&p->look))
        timer_set(p->route->shared->loop, &p->look, ROUTE_LOOK_MS);
}

static void
route_s2s_leaving(void *user, struct s2s *s)
{
    (void)user;
    route_each(s, route_out_leaving);
}

/* The pair whose stanza was sent before all others that are under way; NULL: none is. */
static struct route_pair *
route_sent_first(const struct s2s *s)
{
    struct route_pair *first = NULL;
    const struct list_node *n;
    for (n = s->users.next; n != &s->users; n = n->next) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, use);
        if (p->queue.sent > 0 && (first == NULL || s2s_is_behind(queue_item(&p->queue, 0)->end,
                queue_item(&first->queue, 0)->end)))
            first = p;
    }
    return first;
}

/* The peer has handled the oldest n. */
static void
route_s2s_acknowledged(void *user, struct s2s *s, size_t n)
{
    struct route_pair *p;
    (void)user;
    for (; n > 0 && (p = route_sent_first(s)) != NULL; n--)
        route_release_oldest(p);
    route_each(s, route_moved);
}

/* For what an accepted connection may acknowledge. */
static uint64_t
route_s2s_settled(void *user, const struct s2s_pair *sp, uint64_t *taken)
{
    const struct route_pair *p = sp->route;
    (void)user;
    *taken = p == NULL ? 0 : p->taken;
    return p == NULL ? 0 : p->settled;
}

/* Is this a pair with one of our own servers, which the configuration names? */
static bool
route_is_inward(const struct route_pair *p)
{
    return !route_is_edge(p->route) && p->way == ROUTE_TO_S2S;
}

/* A server that was there a moment ago, or is one of ours, is likely to be there again soon: what
 * waits for it is held as for a trunk, from the first failure on and until it has carried something
 * again, since who says yes and goes away is no better. */
static bool
route_may_hold(struct route_pair *p)
{
    int64_t now = loop_now(p->route->shared->loop);
    if (p->hold_until == 0 && (p->worked || route_is_inward(p)))
        p->hold_until = now + p->route->config->limits.hold_ms;
    p->worked = false;
    return now < p->hold_until && !p->route->ending;
}

/* Later each time, with jitter, never longer than the cap; not later for a server that is waited
 * for, or for one of ours. */
static void
route_back_off(struct route_pair *p, enum xe_why why, const char *detail)
{
    const struct config_limits *l = &p->route->config->limits;
    bool steady = route_may_hold(p) || route_is_inward(p);
    unsigned char dice = 128;
    p->backoff_ms = p->backoff_ms == 0 || steady ? l->partner_retry_first_ms : p->backoff_ms * 2;
    if (p->backoff_ms > l->partner_retry_max_ms)
        p->backoff_ms = l->partner_retry_max_ms;
    tls_random(p->route->shared->tls, &dice, 1);
    p->retry_at = loop_now(p->route->shared->loop) + p->backoff_ms / 2 + p->backoff_ms * dice / 512;
    p->last_why = why;
    snprintf(p->last_detail, sizeof p->last_detail, "%s", detail);
}

/* What waits for a server is held until the next attempt, or comes back. */
static void
route_hold_or_bounce(struct route_pair *p, enum xe_why why)
{
    int64_t now = loop_now(p->route->shared->loop);
    if (!route_waits_for_server(p) || p->route->ending)
        route_bounce_queue(p, why);
    else if (p->queue.count > 0)
        timer_set(p->route->shared->loop, &p->hold,
            (p->retry_at < p->hold_until ? p->retry_at : p->hold_until) - now);
}

/* The peer's system has these, and the peer has not said that it has handled them: sent again they
 * might arrive twice, so their senders shall know. */
static size_t
route_return(struct route_pair *p, uint32_t arrived)
{
    size_t n = 0;
    for (; route_has_arrived(p, arrived); n++)
        route_return_oldest(p, XE_WHY_UNACKNOWLEDGED);
    return n;
}

/* What a dead connection did not deliver, for the one who asks what a fault has cost. */
static void
route_log_undelivered(const struct route_pair *p, size_t returned)
{
    struct log *log = p->route->shared->log;
    if ((returned == 0 && p->queue.sent == 0) || !route_log(p, LOG_WARN, "undelivered"))
        return;
    log_span(log, "from", p->from);
    log_span(log, "to", p->to);
    log_int(log, "sent_again", (int64_t)p->queue.sent);
    log_int(log, "returned", (int64_t)returned);
    log_end(log);
}

/* The connection of a pair has ended.  What did not arrive goes by the next one, if this one has
 * brought anything home; after a failed attempt all is held, or comes back.  That it was ready, or
 * has been sent something, is not enough: who says yes and goes would be dialled for ever. */
static void
route_out_closed(struct route_pair *p, struct s2s *s, enum xe_why why)
{
    uint32_t arrived = route_arrived(p, s);
    bool under_way = p->queue.sent > 0 && s2s_is_behind(arrived, route_sent_end(p));
    size_t returned = 0;
    route_use_end(p);
    timer_cancel(p->route->shared->loop, &p->look);
    if (s->acks != S2S_ACKS_ON)
        route_release(p, arrived);
    else if (!s->stream.peer_closed)   /* who takes leave has said before what he has handled */
        returned = route_return(p, arrived);
    p->good = p->good || returned > 0;
    route_log_undelivered(p, returned);
    if (under_way && p->queue.sent > 0 && s->stream.conn != NULL)
        conn_reset(s->stream.conn);   /* or the peer might read what goes another way, too */
    route_rewind(p);
    route_press(p);
    p->elsewhere = p->queue.count > 0 && s2s_may_follow(s, why);
    if (p->elsewhere)
        snprintf(p->last_detail, sizeof p->last_detail, "%s", s->stream.detail);
    if (!p->good && !p->elsewhere && s->kind == S2S_OUT && route_turned(p) == NULL) {
        route_back_off(p, why, s->stream.detail);
        route_hold_or_bounce(p, why);
        return;
    }
    p->worked = true;
    p->hold_until = 0;
    if (p->queue.count > 0)
        loop_at_end(p->route->shared->loop, &p->push);
}

static void
route_s2s_closed(void *user, struct s2s *s, enum xe_why why)
{
    struct route *r = user;
    r->refusals[why]++;
    while (!list_empty(&s->users))
        route_out_closed(MAP_OWNER(s->users.next, struct route_pair, use), s, why);
}

/* ---- news from trunks ---- */

static bool
route_may_serve(void *user, struct xe_span gateway, struct xe_span domain)
{
    const struct route *r = user;
    const struct config_domain *d = config_domain_for(r->config, domain);
    return d != NULL && (d->gateway.at == NULL || span_eq(d->gateway, gateway));
}

static void
route_trunk_up(void *user, struct trunk *t)
{
    struct route *r = user;
    struct list_node *n;
    (void)t;
    for (n = r->all.next; n != &r->all; n = n->next) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, all);
        p->gave_up = false;
        if (p->way == ROUTE_TO_TRUNK && p->queue.count > 0)
            loop_at_end(r->shared->loop, &p->push);
    }
}

/* Put a stanza at the end of a queue of its pair, room or not: it was accepted long ago. */
static void
route_requeue(struct route_pair *p, struct queue *q, struct xe_span stanza)
{
    q->bytes.max = SIZE_MAX / 2;
    if (buf_put(&q->bytes, stanza) && queue_add(q, stanza.len, p)) {
        route_note_memory(p->route, stanza.len, 0);
        return;
    }
    q->bytes.failed = false;
    if (route_read_back(p->route, stanza) != NULL)
        route_bounce(p, &p->route->event, XE_WHY_OUT_OF_MEMORY);
    route_settle(p);
}

/* Stanzas that nobody has answered for come back, in order. */
static void
route_take_back(struct route *r, struct trunk *t)
{
    while (t->window.count > 0) {
        struct xe_span stanza = queue_oldest(&t->window);
        struct route_pair *p = queue_item(&t->window, 0)->tag;
        route_note_memory(r, 0, stanza.len);
        if (p != NULL)
            route_requeue(p, &p->back, stanza);
        queue_release(&t->window);
    }
}

/* And stand in front of what waited behind them. */
static void
route_put_before(struct route_pair *p)
{
    struct queue waited = p->queue;
    p->queue = p->back;
    p->back = (struct queue){ .count = 0 };
    for (; waited.count > 0; queue_release(&waited)) {
        route_note_memory(p->route, 0, queue_oldest(&waited).len);
        route_requeue(p, &p->queue, queue_oldest(&waited));
    }
    queue_free(&waited);
}

static void
route_trunk_down(void *user, struct trunk *t, enum xe_why why)
{
    struct route *r = user;
    r->refusals[why]++;
    route_take_back(r, t);
    while (!list_empty(&t->pairs)) {
        struct route_pair *p = MAP_OWNER(t->pairs.next, struct route_pair, pin);
        route_set_trunk(p, NULL);
        /* what the other side took and did not answer for is still on its way */
        p->settle_at = t->leaving || (p->in_flight > 0 && why != XE_WHY_REPLACED)
            ? loop_now(r->shared->loop) + ROUTE_SETTLE_MS : 0;
        p->in_flight = p->in_flight_bytes = 0;
        if (p->back.count > 0)
            route_put_before(p);
        route_press(p);
        if (p->way == ROUTE_TO_TRUNK)
            loop_at_end(r->shared->loop, &p->push);
    }
}

/* The other side leaves: its pairs move when what they sent is acknowledged (route_push_trunk). */
static void
route_trunk_leaving(void *user, struct trunk *t)
{
    struct route *r = user;
    struct list_node *n;
    for (n = t->pairs.next; n != &t->pairs; n = n->next) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, pin);
        if (p->in_flight == 0 && p->way == ROUTE_TO_TRUNK)
            loop_at_end(r->shared->loop, &p->push);
    }
}

static void
route_trunk_released(void *user, struct trunk *t, struct queue_item item)
{
    struct route *r = user;
    struct route_pair *p = item.tag;
    (void)t;
    route_note_memory(r, 0, item.len);
    if (p != NULL) {
        p->in_flight--;
        p->in_flight_bytes -= item.len;
        route_settle(p);
        route_press(p);
    }
    if (!list_empty(&r->waiting))
        loop_at_end(r->shared->loop, &r->serve_waiting);
}

/* The node behind this trunk has no room for a pair, or has again.  What is under way it takes. */
static void
route_trunk_paused(void *user, struct trunk *t, struct xe_span from, struct xe_span to, bool yes)
{
    struct route *r = user;
    struct route_pair *p = route_pair_find(r, from, to);
    if (p == NULL || p->trunk != t || p->way != ROUTE_TO_TRUNK)
        return;   /* it goes another way by now, or is forgotten */
    p->far_full = yes;
    if (yes)
        list_remove(&p->waiting);
    else
        loop_at_end(r->shared->loop, &p->push);
}

/* ---- the pair's own work ---- */

/* Has the edge that brings this pair as many connections of a gateway as are its share?  It is
 * looked at when half of them are in use: one edge, in strange hands, is not to cut off others. */
static bool
route_edge_is_greedy(const struct route_pair *p)
{
    const struct route *r = p->route;
    const struct list_node *n;
    size_t most = r->config->limits.connections;
    size_t dialled = 0;
    if (route_is_edge(r) || p->trunk == NULL || r->config->nedges < 2
        || route_connections(r) < most / 2)
        return false;
    for (n = p->trunk->pairs.next; n != &p->trunk->pairs; n = n->next)
        dialled += MAP_OWNER(n, const struct route_pair, pin)->out != NULL;
    return dialled >= most / r->config->nedges;
}

/* Connect for what waits.  XE_WHY_NONE: the outcome comes as an event. */
static enum xe_why
route_dial(struct route_pair *p)
{
    struct route *r = p->route;
    struct s2s_terms terms;
    struct s2s *s;
    enum xe_why why = route_admit(r, p->to, p->from, &terms);
    struct s2s *turned = why == XE_WHY_NONE && terms.bidi && !p->elsewhere ? route_turned(p) : NULL;
    if (turned != NULL) {
        route_turn(p, turned);
        return XE_WHY_NONE;
    }
    terms.bidi = terms.bidi && !r->trunks->stopping;   /* nothing new is brought to us */
    if (why == XE_WHY_NONE && route_edge_is_greedy(p))
        why = XE_WHY_CONN_LIMIT;
    if (why == XE_WHY_NONE)
        why = route_room(r, NULL, p->to);
    if (why != XE_WHY_NONE)
        return why;
    s = s2s_dial(r->s2s, S2S_OUT, p->to, p->from, &terms, NULL);
    if (s == NULL)
        return XE_WHY_OUT_OF_MEMORY;
    route_use(p, s);
    if (p->elsewhere)
        s2s_follow(s, p->last_detail);
    p->elsewhere = false;
    return XE_WHY_NONE;
}

/* What waits for a server: on its connection, or on one that is made for it now. */
static void
route_serve_s2s(struct route_pair *p)
{
    struct route *r = p->route;
    enum xe_why why = XE_WHY_NONE;
    if (route_waits_for_server(p) && loop_now(r->shared->loop) < p->retry_at && !r->ending) {
        route_hold_or_bounce(p, p->last_why);
        return;
    }
    if (p->out == NULL && p->queue.count > 0)
        why = r->ending ? XE_WHY_SHUTDOWN : route_dial(p);
    if (why != XE_WHY_NONE)
        route_bounce_queue(p, why);
    else
        route_push_s2s(p);
}

static void
route_pair_push(struct loop_task *task)
{
    struct route_pair *p = MAP_OWNER(task, struct route_pair, push);
    if (p->way == ROUTE_TO_TRUNK)
        route_push_trunk(p);
    else
        route_serve_s2s(p);
}

/* It is time for another attempt to reach a server; or nothing has come for too long, and what was
 * held goes back. */
static void
route_pair_held(struct timer *t)
{
    struct route_pair *p = MAP_OWNER(t, struct route_pair, hold);
    if (p->way != ROUTE_TO_TRUNK) {
        if (route_waits_for_server(p))
            route_serve_s2s(p);
        else if (p->out == NULL)
            route_bounce_queue(p, p->last_why);
        return;
    }
    route_pin(p);
    if (p->settling || p->trunk != NULL) {
        loop_at_end(p->route->shared->loop, &p->push);
        return;
    }
    p->gave_up = true;
    route_bounce_queue(p, XE_WHY_NO_TRUNK);
}

/* A domain in whose name a ping may go to `to`: one of ours towards the outside, a partner's
 * towards the inside. */
static struct xe_span
route_ping_from(const struct route *r, struct xe_span to)
{
    const struct config *c = r->config;
    bool inward = route_is_edge(r) ? route_way_to(r, to) == ROUTE_TO_TRUNK
        : route_way_to(r, to) == ROUTE_TO_S2S;
    if (inward)
        return c->partners.count > 0 ? c->partners.list[0].domain.name : c->name;
    if (c->echo.domain.at != NULL)
        return c->echo.domain;
    return c->ndomains > 0 ? c->domains[0].name : c->inner[0].domains[0].name;
}

/* A message names a resource to which its echo goes: when it comes too late to be taken for the
 * answer, the echo domain here must not echo it again, or two of them would never stop. */
static struct xe_span
route_ping_sender(struct xe_span domain, bool is_message, char *text)
{
    size_t tail = is_message ? sizeof ROUTE_PING_RESOURCE - 1 : 0;
    memcpy(text, domain.at, domain.len);
    memcpy(text + domain.len, ROUTE_PING_RESOURCE, tail);
    return span_make(text, domain.len + tail);
}

/* Send a ping (XEP-0199) to a domain, or with a `body` a message for an echo.  The outcome comes to
 * ping->answered(), unless it can be told at once: then it is returned. */
static enum xe_why
route_ping_send(struct route *r, struct route_ping *ping, struct xe_span to, struct xe_span body)
{
    struct xe_span from = route_ping_from(r, to);
    unsigned char dice[8];
    char sender[XE_DOMAIN_MAX + sizeof ROUTE_PING_RESOURCE];
    struct jid_forms forms;
    struct route_pair *p;
    const struct xe_xml_event *e;
    enum xe_why why;
    if (span_eq(to, r->config->echo.domain)) {
        ping->answered(ping, XE_WHY_NONE, span_make(NULL, 0));   /* by this node itself */
        return XE_WHY_NONE;
    }
    p = route_pair_get(r, from, to, &why);
    if (p == NULL)
        return why;
    if (!tls_random(r->shared->tls, dice, sizeof dice))
        return XE_WHY_INTERNAL;
    strcpy(ping->id, ROUTE_PING_ID);
    *text_hex(ping->id + strlen(ROUTE_PING_ID), dice, sizeof dice) = '\0';
    buf_clear(&r->text);
    buf_puts(&r->text, body.at != NULL ? "<message" : "<iq type='get'");
    from = jid_unicode(from, &forms);
    xmlout_attr(&r->text, "from", route_ping_sender(from, body.at != NULL, sender));
    stream_put_domain(&r->text, "to", to);
    xmlout_attr(&r->text, "id", span_of(ping->id));
    buf_puts(&r->text, body.at != NULL ? "><body>" : "><ping xmlns='urn:xmpp:ping'/></iq>");
    if (body.at != NULL) {
        xmlout_text(&r->text, body);
        buf_puts(&r->text, "</body></message>");
    }
    list_append(&r->pings, &ping->node);
    r->npings++;
    e = route_read_back(r, buf_span(&r->text));
    if (e != NULL)
        route_forward(p, &r->reader, e);
    return XE_WHY_NONE;
}

/* Does policy still allow this pair of an accepted connection, as it was proven? */
static enum xe_why
route_proven_why(struct route *r, const struct s2s_pair *sp)
{
    struct s2s_terms terms;
    enum xe_why why = route_admit(r, sp->remote, sp->local, &terms);
    return why != XE_WHY_NONE || (sp->open && !s2s_meets(sp->stream, &terms, sp->certified))
        ? XE_WHY_RELOADED : s2s_pair_is_believed(sp) ? XE_WHY_NONE : XE_WHY_TRUST_CHANGED;
}

/* Does policy still allow what this connection is for?  *met: as it is, too. */
static bool
route_is_allowed(struct route *r, struct s2s *s, bool *met)
{
    struct s2s_terms terms;
    *met = true;
    if (s->remote[0] == '\0')
        return true;
    if (route_admit(r, span_of(s->remote), span_of(s->local), &terms) != XE_WHY_NONE)
        return false;
    s->terms = terms;   /* for what is still to be proven */
    *met = s->state != S2S_READY || s2s_meets(s, &terms, s->authenticated);
    return true;
}

/* An accepted connection: each pair hears of itself, and if one of them may not go on, nor does the
 * connection.  What the peer has under way is delivered or comes back. */
static void
route_reload_accepted(struct route *r, struct s2s *s)
{
    enum xe_why why = XE_WHY_NONE;
    struct list_node *n;
    bool met;
    for (n = s->pairs.next; n != &s->pairs; n = n->next) {
        struct s2s_pair *sp = MAP_OWNER(n, struct s2s_pair, node);
        sp->refused = route_proven_why(r, sp);
        why = why == XE_WHY_NONE ? sp->refused : why;
    }
    if (!route_is_allowed(r, s, &met))
        why = XE_WHY_RELOADED;
    s->bidi = s->bidi && s->terms.bidi;
    if (!s->bidi)
        route_s2s_leaving(r, s);   /* its pairs that are turned round, if any */
    if (why != XE_WHY_NONE && s->state == S2S_OPEN)
        s2s_quit(s, why);
    else if (why != XE_WHY_NONE)
        s2s_fail(s, why);
}

/* A dialled one ends at once when it is not what it has to be; when nobody is to be talked to there
 * any more, or it may not bring stanzas any more, it still carries what comes back. */
static void
route_reload_dialled(struct route *r, struct s2s *s)
{
    bool met;
    bool allowed = route_is_allowed(r, s, &met) && (s->terms.bidi || s->npairs == 0 || s->leaving);
    if (!s2s_is_believed(s))
        s2s_fail(s, allowed ? XE_WHY_TRUST_CHANGED : XE_WHY_RELOADED);
    else if (!allowed && s->state == S2S_READY && !s->leaving)
        s2s_retire(s, XE_WHY_RELOADED);
    else if (!allowed || !met)
        s2s_fail(s, XE_WHY_RELOADED);
    else
        s->retired = XE_WHY_NONE;
}

/* Policy may have changed, and who vouches for whom: ask again for every pair, close what is not
 * allowed or not proven any more. */
static void
route_reloaded(struct route *r)
{
    struct list_node *n;
    for (n = r->all.next; n != &r->all; n = n->next) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, all);
        p->admitted = false;
        p->way = p->queue.count == 0 && p->in_flight == 0 ? route_way_to(r, p->to) : p->way;
    }
    for (n = r->s2s->all.next; n != &r->s2s->all;) {
        struct s2s *s = MAP_OWNER(n, struct s2s, node);
        size_t before = r->s2s->count;
        n = n->next;
        if (s->kind == S2S_IN)
            route_reload_accepted(r, s);
        else
            route_reload_dialled(r, s);
        if (r->s2s->count < before)
            n = r->s2s->all.next;   /* others may have gone with it */
    }
}

/* What is still undelivered when the time for an orderly end is over. */
static void
route_bounce_all(struct route *r, enum xe_why why)
{
    struct list_node *n;
    for (n = r->all.next; n != &r->all; n = n->next) {
        struct route_pair *p = MAP_OWNER(n, struct route_pair, all);
        if (p->out != NULL && p->queue.sent > 0)
            s2s_fail(p->out, why);   /* so that what has arrived does not come back, too */
        if (p->queue.count > 0)
            route_bounce_queue(p, why);
    }
}

/* Whether all that trunks brought has been handed on: only then does a trunk that leaves
 * acknowledge it, so that the pairs it served do not overtake themselves on their new way. */
static bool
route_settled(void *user)
{
    const struct route *r = user;
    return r->outward == 0;
}

/* Whether no accepted connection can bring more. */
static bool
route_finished(void *user)
{
    const struct route *r = user;
    return r->s2s->accepted == 0;
}

/* Whether nothing waits to be sent on a connection. */
static bool
route_all_sent(const struct s2s *s)
{
    const struct list_node *n;
    for (n = s->users.next; n != &s->users; n = n->next)
        if (queue_unsent(&MAP_OWNER(n, const struct route_pair, use)->queue) > 0)
            return false;
    return true;
}

/* Whether anything waits for somebody to take it. */
static bool
route_is_empty(const struct route *r)
{
    return r->memory == 0;
}

static bool
route_open(struct route *r)
{
    r->push = route_pair_push;
    r->held = route_pair_held;
    r->look = route_pair_look;
    r->serve_waiting.run = route_serve_waiting;
    r->slow_timer.fire = route_speed_up;
    r->sweep.fire = route_sweep;
    list_init(&r->all);
    list_init(&r->walks);
    list_init(&r->waiting);
    list_init(&r->slow);
    list_init(&r->pings);
    r->text.max = TRUNK_STANZA_MAX;   /* an echo is as large as what it answers */
    route_open_reader(r);
    timer_set(r->shared->loop, &r->sweep, ROUTE_SWEEP_MS);
    return tls_random(r->shared->tls, r->pairs.seed, sizeof r->pairs.seed)
        && tls_random(r->shared->tls, r->shared->log->keyed.seed, sizeof r->shared->log->keyed.seed)
        && tls_random(r->shared->tls, r->s2s->peers.seed, sizeof r->s2s->peers.seed);
}

static void
route_close(struct route *r)
{
    timer_cancel(r->shared->loop, &r->sweep);
    timer_cancel(r->shared->loop, &r->slow_timer);
    loop_task_cancel(&r->serve_waiting);
    while (!list_empty(&r->all))
        route_pair_drop(MAP_OWNER(r->all.next, struct route_pair, all));
    map_free(&r->pairs);
    s2s_close_service(r->s2s);
    xe_xml_free(&r->reader);
    buf_free(&r->text);
}

/* ===========================================================================
 * [EDGE]  edge_ xe_      one running instance: start, reload, drain, stop
 * calls:  BASE BUF WHY XML MAP NET REACH LOG LOOP DNS TLS CONN AUTH CONFIG STREAM S2S TRUNK ROUTE
 *
 *   RUNNING --xe_stop()--> DRAINING --all delivered, or the time is up--> RETURNING what is left
 *      --> ENDING all connections --last words written--> STOPPED
 *
 * What is made from the configuration and must change with it (certificates, trust, TLS profiles)
 * is one struct edge_keys: a reload builds a new one beside the old one and swaps the pointers only
 * when all of it is good.  Sessions hold references of their own, so old streams keep what they
 * began with.
 *
 * Draining: listeners close, trunks say <drain/>, accepted streams get our end tag and may finish,
 * queues empty.  What is left after drain-time goes back to its senders, then everything ends.
 *
 * Costs: a reload reads every file and asks policy again for every connection, in one go: meanwhile
 * nobody is served.
 * Not done: changing the addresses or the role of a running instance.  That takes a restart.
 * ======================================================================== */

#define EDGE_STEP_MS     100         /* how often draining looks around */
#define EDGE_LAST_STEP_MS 10         /* between the last steps of the end */
#define EDGE_SECRET_BYTES 32         /* of a dialback secret that is drawn at start */

enum edge_state { EDGE_RUNNING, EDGE_DRAINING, EDGE_RETURNING, EDGE_ENDING, EDGE_STOPPED };

/* A trust that a partner has of its own, and maybe others have as well. */
struct edge_trust {
    const struct config_trust *files;   /* borrowed from the configuration */
    struct tls_trust          *trust;   /* held */
};

struct edge_keys {
    struct tls_identity **domains;   /* owned, in the order of config->domains; NULL: fallback */
    size_t                ndomains;
    struct tls_identity  *fallback;  /* of the s2s side; NULL: none */
    struct tls_identity  *echo;      /* of the echo domain; NULL: the fallback */
    struct tls_identity  *trunk;     /* of the trunk side */
    struct tls_trust     *partners;
    struct tls_trust     *internal;
    struct edge_trust    *own;       /* owned; of single partners, each pair of files once */
    size_t                nown;
    struct tls_rule      *rules;     /* owned, of config->partners.list, then of the default */
    struct tls_profile   *server;    /* s2s accepting */
    struct tls_profile   *client;    /* s2s dialling */
    struct tls_profile   *link;      /* trunk */
    struct dialback_secret secret;
};

struct xmppedge {
    enum edge_state       state;
    struct config        *config;    /* owned */
    struct log            log;
    int                   log_file;  /* owned descriptor, -1: standard error */
    struct loop           loop;
    struct wire           wire;
    struct tls_shared    *tls;       /* owned */
    struct net_book       nets;      /* who is there, and who was */
    struct dns           *dns;       /* owned */
    struct edge_keys      keys;      /* owned */
    struct stream_shared  shared;
    struct s2s_service    s2s;
    struct trunk_service  trunks;
    struct route          route;
    struct listener       s2s_listener;
    struct listener       trunk_listener;
    struct sockaddr_storage from;    /* edge: outgoing connections leave from here (row 2) */
    struct reach_machine  machine;   /* what is ours, and is not dialled */
    struct timer          drain;     /* looks around while draining */
    int64_t               drain_until;   /* ms */
    int64_t               started;   /* ms */
    uint64_t              reloads;
    bool                  told;      /* that it is ready */
    void                (*on_stop)(struct xmppedge *e);  /* set by the section below; may be NULL */
    void                 *control;   /* of the section below */
};

/* ---- keys ---- */

static void
edge_keys_free(struct edge_keys *k)
{
    size_t i;
    for (i = 0; i < k->ndomains; i++)
        tls_identity_release(k->domains[i]);
    free(k->domains);
    tls_identity_release(k->fallback);
    tls_identity_release(k->echo);
    tls_identity_release(k->trunk);
    tls_trust_release(k->partners);
    tls_trust_release(k->internal);
    while (k->nown > 0)
        tls_trust_release(k->own[--k->nown].trust);
    free(k->own);
    free(k->rules);
    tls_profile_release(k->server);
    tls_profile_release(k->client);
    tls_profile_release(k->link);
    tls_wipe(&k->secret, sizeof k->secret);
    *k = (struct edge_keys){ .ndomains = 0 };
}

static void
edge_complain(const struct config *c, unsigned line, const char *what, struct buf *out)
{
    config_put_where(out, c, line);
    config_put_message(out, c, what);
    buf_putc(out, '\n');
}

/* Load a certificate of the configuration; none given is no error.  `out` gets a line an error. */
static struct tls_identity *
edge_load_identity(struct xmppedge *e, const struct config *c,
    const struct config_certificate *cert, struct buf *out)
{
    char err[TLS_ERROR_MAX];
    struct tls_identity *id;
    if (cert->line == 0)
        return NULL;
    id = tls_identity_load(e->tls, cert->chain, cert->key, err);
    if (id == NULL)
        edge_complain(c, cert->line, err, out);
    return id;
}

static struct tls_trust *
edge_load_trust(const struct config *c, const struct config_trust *trust, struct buf *out)
{
    char err[TLS_ERROR_MAX];
    struct tls_trust *t;
    if (trust->line == 0)
        return NULL;
    t = tls_trust_load(trust->ca, trust->crl, err);
    if (t == NULL)
        edge_complain(c, trust->line, err, out);
    return t;
}

static bool
edge_same_files(const struct config_trust *a, const struct config_trust *b)
{
    return strcmp(a->ca, b->ca) == 0 && (a->crl == NULL) == (b->crl == NULL)
        && (a->crl == NULL || strcmp(a->crl, b->crl) == 0);
}

/* The trust of a partner's own; the same files are read once.  NULL: an error, told in `out`, or
 * memory is out. */
static struct tls_trust *
edge_own_trust(const struct config *c, struct edge_keys *k, const struct config_trust *files,
    struct buf *out)
{
    struct edge_trust *own;
    size_t i;
    for (i = 0; i < k->nown; i++)
        if (edge_same_files(k->own[i].files, files))
            return k->own[i].trust;
    own = realloc(k->own, (k->nown + 1) * sizeof *own);
    if (own == NULL)
        return NULL;
    k->own = own;
    own += k->nown;
    own->files = files;
    own->trust = edge_load_trust(c, files, out);
    k->nown += own->trust != NULL;
    return own->trust;
}

/* Who may vouch for the domains of each partner.  False: an error, or memory is out. */
static bool
edge_load_rules(const struct config *c, struct edge_keys *k, struct buf *out)
{
    bool good = true;
    size_t i;
    k->rules = calloc(c->partners.count + 1, sizeof *k->rules);
    for (i = 0; k->rules != NULL && i <= c->partners.count; i++) {
        const struct config_partner *p = i < c->partners.count ? &c->partners.list[i]
            : &c->partners.fallback;
        bool own = p->trust.line > 0;
        k->rules[i] = (struct tls_rule){ .own = own, .pins_count = p->pins.count,
            .pins = (const unsigned char (*)[TLS_HASH_LEN])p->pins.list,
            .trust = own ? edge_own_trust(c, k, &p->trust, out) : k->partners };
        good = good && (!own || k->rules[i].trust != NULL);
    }
    return good && k->rules != NULL;
}

/* Sessions with partners judge by every trust that one of them has. */
static bool
edge_share_trust(struct edge_keys *k)
{
    size_t i;
    for (i = 0; i < k->nown; i++)
        if (!tls_profile_judge_by(k->server, k->own[i].trust)
            || !tls_profile_judge_by(k->client, k->own[i].trust))
            return false;
    return true;
}

static struct tls_profile *
edge_new_profile(struct xmppedge *e, const struct config *c, bool server, struct tls_trust *trust,
    struct buf *out)
{
    static const char *const alpn[] = { "xmpp-server", NULL };
    const char *keylog = c->tls.keylog_file != NULL ? c->tls.keylog_file : getenv("SSLKEYLOGFILE");
    struct tls_options options = { .only_13 = c->tls.minimum == CONFIG_TLS_1_3,
        .prefer = c->tls.prefer, .ciphersuites = c->tls.ciphersuites,
        .keylog_file = c->tls.keylog ? keylog : NULL, .ceilings = &c->limits.certificates };
    char err[TLS_ERROR_MAX];
    struct tls_profile *p = tls_profile_new(e->tls, server, &options, trust, alpn, err);
    if (p == NULL)
        edge_complain(c, c->tls.line, err, out);
    return p;
}

/* The dialback secret: of the configuration, or drawn now (a gateway answers for itself alone). */
static bool
edge_set_secret(struct xmppedge *e, const struct config *c, struct dialback_secret *secret)
{
    unsigned char dice[EDGE_SECRET_BYTES];
    if (c->secret.at != NULL)
        return dialback_secret_set(secret, c->secret);
    return tls_random(e->tls, dice, sizeof dice)
        && dialback_secret_set(secret, span_make((const char *)dice, sizeof dice));
}

/* Who shows what to whom asks for a name of ours: what edge_identity() says of a domain, but made
 * once, for those who compute handshakes. */
static bool
edge_name_identities(const struct config *c, struct edge_keys *k)
{
    size_t i;
    for (i = 0; i < k->ndomains; i++)
        if (k->domains[i] != NULL
            && !tls_profile_serve(k->server, c->domains[i].name, k->domains[i]))
            return false;
    tls_profile_serve_others(k->server, k->fallback);
    return k->echo == NULL || tls_profile_serve(k->server, c->echo.domain, k->echo);
}

/* Everything that comes out of files.  False with one line an error in `out`; `k` is then empty. */
static bool
edge_load_keys(struct xmppedge *e, const struct config *c, struct edge_keys *k, struct buf *out)
{
    bool edge = c->role == CONFIG_EDGE;
    size_t errors = buf_len(out);
    bool rules;
    size_t i;
    *k = (struct edge_keys){ .ndomains = 0 };
    k->domains = calloc(c->ndomains + 1, sizeof *k->domains);
    k->ndomains = k->domains == NULL ? 0 : c->ndomains;
    for (i = 0; i < k->ndomains; i++)
        k->domains[i] = edge_load_identity(e, c, &c->domains[i].certificate, out);
    k->fallback = edge_load_identity(e, c, edge ? &c->certificate : &c->listen.certificate, out);
    k->echo = edge ? edge_load_identity(e, c, &c->echo.certificate, out) : NULL;
    k->trunk = edge_load_identity(e, c, edge ? &c->internal.certificate : &c->certificate, out);
    k->partners = edge ? edge_load_trust(c, &c->trust, out) : NULL;
    k->internal = edge_load_trust(c, edge ? &c->internal.trust : &c->trust, out);
    rules = edge_load_rules(c, k, out);
    k->server = edge_new_profile(e, c, true, k->partners, out);
    k->client = edge_new_profile(e, c, false, k->partners, out);
    k->link = edge_new_profile(e, c, edge, k->internal, out);
    if (k->domains != NULL && edge_set_secret(e, c, &k->secret)
        && buf_len(out) == errors && !out->failed
        && rules && edge_share_trust(k) && edge_name_identities(c, k))
        return true;
    if (buf_len(out) == errors)
        buf_puts(out, "out of memory\n");
    edge_keys_free(k);
    return false;
}

/* The beginning of a warning about a file. */
static void
edge_warn(const struct config *c, unsigned line, const char *file, struct buf *out)
{
    config_put_where(out, c, line);
    buf_puts(out, "warning: ");
    config_put_message(out, c, file);
}

/* A certificate of ours that will not be believed, or not for this name: one line. */
static void
edge_warn_identity(const struct config *c, const struct config_certificate *cert,
    const struct tls_identity *id, struct xe_span name, struct buf *out)
{
    char chain[TLS_CHAIN_MAX];
    enum xe_why why = id == NULL ? XE_WHY_NONE
        : peer_may_speak_for(tls_identity_facts(id), name, NULL);
    if (why == XE_WHY_NONE)
        return;
    edge_warn(c, cert->line, cert->chain, out);
    buf_puts(out, why == XE_WHY_CERT_NAME ? " does not name " : " will not be accepted for ");
    buf_put(out, name);
    if (why != XE_WHY_CERT_NAME) {
        buf_puts(out, ": ");
        buf_puts(out, tls_chain_text(tls_identity_facts(id)->chain, chain));
    } else if (c->role == CONFIG_GATEWAY) {
        buf_puts(out, ", the name of this node: no edge will accept it");
    } else if (cert == &c->internal.certificate) {
        buf_puts(out, ", the name of this node: no gateway will accept it");
    }
    buf_putc(out, '\n');
}

/* The other node of a trunk judges our certificate as we judge its: one authority signs both. */
static void
edge_warn_trunk(const struct config *c, const struct edge_keys *k, struct buf *out)
{
    bool edge = c->role == CONFIG_EDGE;
    const struct config_certificate *cert = edge ? &c->internal.certificate : &c->certificate;
    const char *ca = edge ? c->internal.trust.ca : c->trust.ca;
    unsigned bits = k->trunk == NULL || k->internal == NULL ? 0
        : tls_trust_verdict(k->internal, k->trunk);
    char chain[TLS_CHAIN_MAX];
    bits &= ~(unsigned)(TLS_CHAIN_EXPIRED | TLS_CHAIN_NOT_YET);   /* said with the name */
    if (bits == 0)
        return;
    edge_warn(c, cert->line, cert->chain, out);
    if ((bits & TLS_CHAIN_UNTRUSTED) != 0) {
        buf_puts(out, " is not signed by an authority in ");
        config_put_message(out, c, ca);
    } else {
        buf_puts(out, " fails the test against ");
        config_put_message(out, c, ca);
        buf_puts(out, " (");
        buf_puts(out, tls_chain_text(bits, chain));
        buf_puts(out, ")");
    }
    buf_puts(out, edge ? ": a gateway that trusts the same authorities will not accept it\n"
        : ": an edge that trusts the same authorities will not accept it\n");
}

static void
edge_warn_key(const struct config *c, const struct config_certificate *cert, struct buf *out)
{
    struct stat st;
    if (cert->line == 0 || stat(cert->key, &st) != 0 || (st.st_mode & S_IROTH) == 0)
        return;
    edge_warn(c, cert->line, cert->key, out);
    buf_puts(out, ": every user of this machine can read this private key; take that right away "
        "with chmod o-rwx\n");
}

static void
edge_warn_beyond(const struct config *c, unsigned line, const char *file, const char *what,
    const struct tls_beyond *b, const char *so, struct buf *out)
{
    if (b->why == XE_WHY_NONE)
        return;
    edge_warn(c, line, file, out);
    buf_puts(out, what);
    buf_putu(out, b->nth);
    buf_puts(out, " (");
    buf_puts(out, b->subject);
    buf_puts(out, ") is beyond the ceilings in <limits>, ");
    buf_puts(out, xe_why(b->why)->word);
    buf_puts(out, so);
}

/* A chain of ours that partners with the same ceilings would refuse. */
static void
edge_warn_chain(const struct config *c, const struct config_certificate *cert,
    const struct tls_identity *id, struct buf *out)
{
    struct tls_beyond b;
    if (id == NULL)
        return;
    tls_identity_holds(id, &c->limits.certificates, &b);
    edge_warn_beyond(c, cert->line, cert->chain, ": certificate ", &b,
        ": partners with the same ones refuse it\n", out);
    if (!tls_identity_constrains(id))
        return;
    edge_warn(c, cert->line, cert->chain, out);
    buf_puts(out, ": a name constraint in this chain is critical: mbed TLS at the other end, as "
        "in xmppedge, ends the handshake; leave that authority out, to be trusted there\n");
}

static void
edge_warn_authorities(const struct config *c, const struct config_trust *files,
    const struct tls_trust *trust, struct buf *out)
{
    struct tls_beyond b;
    if (trust == NULL)
        return;
    tls_authorities_hold(trust, &c->limits.certificates, &b);
    edge_warn_beyond(c, files->line, files->ca, ": authority ", &b,
        ": nothing that it signs is accepted\n", out);
}

/* Our own chains and all authorities, held against what we ask of others. */
static void
edge_warn_limits(const struct edge_keys *k, const struct config *c, struct buf *out)
{
    bool edge = c->role == CONFIG_EDGE;
    size_t i;
    for (i = 0; i < k->ndomains; i++)
        edge_warn_chain(c, &c->domains[i].certificate, k->domains[i], out);
    edge_warn_chain(c, edge ? &c->certificate : &c->listen.certificate, k->fallback, out);
    edge_warn_chain(c, &c->echo.certificate, k->echo, out);
    edge_warn_chain(c, edge ? &c->internal.certificate : &c->certificate, k->trunk, out);
    edge_warn_authorities(c, &c->trust, k->partners, out);
    edge_warn_authorities(c, edge ? &c->internal.trust : &c->trust, k->internal, out);
    for (i = 0; i < k->nown; i++)
        edge_warn_authorities(c, k->own[i].files, k->own[i].trust, out);
}

/* What is to be said of our own certificates.  What we speak for without a certificate that names
 * it is left to dialback, so these are warnings. */
static void
edge_warn_keys(const struct edge_keys *k, const struct config *c, struct buf *out)
{
    bool edge = c->role == CONFIG_EDGE;
    size_t i;
    for (i = 0; i < k->ndomains; i++) {
        bool own = k->domains[i] != NULL;
        edge_warn_identity(c, own ? &c->domains[i].certificate : &c->certificate,
            own ? k->domains[i] : k->fallback, c->domains[i].name, out);
    }
    if (edge && c->echo.domain.at != NULL)
        edge_warn_identity(c, k->echo != NULL ? &c->echo.certificate : &c->certificate,
            k->echo != NULL ? k->echo : k->fallback, c->echo.domain, out);
    edge_warn_identity(c, edge ? &c->internal.certificate : &c->certificate,
        k->trunk, c->name, out);
    edge_warn_trunk(c, k, out);
    edge_warn_limits(k, c, out);
    for (i = 0; i < c->ndomains; i++)
        edge_warn_key(c, &c->domains[i].certificate, out);
    edge_warn_key(c, &c->certificate, out);
    edge_warn_key(c, &c->internal.certificate, out);
    edge_warn_key(c, &c->echo.certificate, out);
    if (c->listen.certificate.line != c->certificate.line)
        edge_warn_key(c, &c->listen.certificate, out);
}

/* The authorities that the system believes: the file that its package manager keeps.  NULL where
 * there is none of these.  What an administrator has added to it counts as the system's. */
static struct tls_trust *
edge_load_system(const char **file)
{
    static const char *const files[] = {
        "/etc/ssl/certs/ca-certificates.crt",       /* Debian, Ubuntu, Arch, Alpine */
        "/etc/pki/tls/certs/ca-bundle.crt",         /* Fedora, RHEL */
        "/etc/ssl/ca-bundle.pem",                   /* SUSE */
        "/etc/ssl/cert.pem",                        /* OpenBSD, FreeBSD, macOS */
        "/usr/local/share/certs/ca-root-nss.crt",   /* FreeBSD, of ports */
        "/etc/openssl/certs/ca-certificates.crt" }; /* NetBSD */
    char err[TLS_ERROR_MAX];
    size_t i;
    for (i = 0; i < sizeof files / sizeof *files; i++) {
        struct tls_trust *trust = tls_trust_load(files[i], NULL, err);
        *file = files[i];
        if (trust != NULL)
            return trust;
    }
    return NULL;
}

/* Whether the common trust vouches for more than one partner. */
static bool
edge_trust_is_shared(const struct config *c)
{
    size_t users = 0;
    size_t i;
    for (i = 0; i < c->partners.count; i++)
        users += c->partners.list[i].trust.line == 0 && c->partners.list[i].pins.count == 0;
    return c->trust.line > 0 && (users > 1
        || (c->partners.allow && c->partners.fallback.trust.line == 0));
}

/* An authority that somebody has put beside those of the system may have been meant for one. */
static void
edge_warn_common(const struct edge_keys *k, const struct config *c, struct buf *out)
{
    const char *file;
    struct tls_trust *system = c->role == CONFIG_EDGE && edge_trust_is_shared(c)
        ? edge_load_system(&file) : NULL;
    char first[TLS_DN_MAX];
    unsigned count = system == NULL ? 0 : tls_trust_alone(k->partners, system, first);
    tls_trust_release(system);
    if (count == 0)
        return;
    edge_warn(c, c->trust.line, c->trust.ca, out);
    buf_puts(out, " holds ");
    buf_putu(out, count);
    buf_puts(out, count == 1 ? " authority that is not in " : " authorities that are not in ");
    buf_puts(out, file);
    buf_puts(out, count == 1 ? " (" : " (the first is ");
    buf_puts(out, first);
    buf_puts(out, "): each may vouch for every partner; one that signs for a single partner "
        "belongs in a <trust> within its <partner>\n");
}

/* The certificate that is shown for one of our domains. */
static struct tls_identity *
edge_identity(void *user, struct xe_span local)
{
    const struct xmppedge *e = MAP_OWNER(user, struct xmppedge, route);
    const struct config_domain *d = e->config->role == CONFIG_EDGE
        ? config_domain_for(e->config, local) : NULL;
    struct tls_identity *id = d != NULL ? e->keys.domains[d - e->config->domains] : NULL;
    if (id == NULL && e->keys.echo != NULL && span_eq(local, e->config->echo.domain))
        id = e->keys.echo;
    if (id == NULL)
        id = e->keys.fallback;
    if (id == NULL && local.len == 0)   /* a peer that names nobody gets the first we have */
        id = e->keys.ndomains > 0 && e->keys.domains[0] != NULL ? e->keys.domains[0] : e->keys.echo;
    return id;
}

/* Who may vouch for a partner's domain.  Of the inner servers, for a gateway, nobody does. */
static const struct tls_rule *
edge_rule(void *user, struct xe_span remote)
{
    static const struct tls_rule nobody = { .own = false };
    const struct xmppedge *e = MAP_OWNER(user, struct xmppedge, route);
    const struct config_partners *partners = &e->config->partners;
    const struct config_partner *p = config_partner_for(e->config, remote);
    if (p == NULL || e->config->role != CONFIG_EDGE)
        return &nobody;
    return &e->keys.rules[p == &partners->fallback ? partners->count
        : (size_t)(p - partners->list)];
}

/* May this be dialled for a partner?  A gateway dials only what its configuration names. */
static enum xe_why
edge_reach(void *user, struct xe_span remote, const struct dns_target *target, const char **what)
{
    struct xmppedge *e = MAP_OWNER(user, struct xmppedge, route);
    const struct config *c = e->config;
    const struct config_partner *partner = config_partner_for(c, remote);
    struct reach reach = { { &c->external.networks, partner == NULL ? NULL : &partner->networks },
        NULL, 0 };
    *what = NULL;
    if (c->role == CONFIG_GATEWAY)
        return XE_WHY_NONE;
    if (!reach_machine_read(&e->machine, loop_now(&e->loop), &c->external.address.sa,
        &c->internal.address.sa))
        return XE_WHY_OUT_OF_MEMORY;
    reach.own = e->machine.own;
    reach.nown = e->machine.nown;
    return reach_why(&reach, &target->addr, target->given, what);
}

/* ---- connections come in ---- */

static size_t
edge_refused_received(struct conn *c, void *user, const char *at, size_t len)
{
    (void)c;
    (void)user;
    (void)at;
    return len;
}

/* The last words to a connection that is not served; the descriptor is taken. */
static void
edge_tell(struct xmppedge *e, int fd, struct xe_span words)
{
    static const struct conn_events events = { edge_refused_received, NULL, NULL, NULL, NULL };
    struct conn *c;
    if (e->wire.nlingering >= EDGE_REFUSED_MAX) {
        close(fd);
        return;
    }
    c = conn_new(&e->wire, fd, 0, 4096, &events, e);
    if (c == NULL)
        return;
    conn_send(c, words);
    conn_close(c);
}

/* A whole stream that says nothing but why there is none.  It has an id: Prosody, and who reads
 * RFC 6120 4.7.3 as it stands, complains of its absence first and never tells our reason. */
static void
edge_put_refusal(struct xmppedge *e, struct buf *t, enum xe_why why)
{
    char id[2 * STREAM_ID_BYTES + 1];
    buf_clear(t);
    buf_puts(t, "<?xml version='1.0'?>" STREAM_BEGIN);
    if (stream_new_id(&e->shared, id))
        xmlout_attr(t, "id", span_of(id));
    buf_puts(t, " version='1.0'>");
    stream_put_error(t, xe_why(why)->stream, xe_why(why)->text);
    buf_puts(t, "</stream:stream>");
}

/* Tell a connection that is not accepted why, in the words of a stream, and close it. */
static void
edge_refuse(struct xmppedge *e, int fd, const struct sockaddr_storage *from, enum xe_why why)
{
    struct buf *t = &e->shared.text;
    struct net net = net_of(from, NET_SUBNET);
    char at[CONN_TEXT_MAX];
    char network[NET_TEXT_MAX];
    e->route.refusals[why]++;
    if (log_begin_from(&e->log, LOG_WARN, "connection-refused",
        net_source_of(&e->nets, from))) {
        log_text(&e->log, "source", conn_host_text(from, at));
        if (from->ss_family == AF_INET6)
            log_text(&e->log, "network", net_text(&net, network));
        log_text(&e->log, "why", xe_why(why)->word);
        log_text(&e->log, "setting", config_limit_of(why));
        log_end(&e->log);
    }
    edge_put_refusal(e, t, why);
    edge_tell(e, fd, buf_span(t));
}

/* Has this caller said nothing at all, and had the time for it? */
static bool
edge_is_silent(const struct s2s *s, int64_t now)
{
    return !s->stream.header_sent && now - s->since >= EDGE_SILENCE_MS
        && (s->stream.conn == NULL || s->stream.conn->state == CONN_OPEN);
}

/* Is `a` the one to go rather than `b`?  What counts first stands first: a network that has proven
 * a listed domain lately keeps its place, silence loses it, then the network with most callers
 * gives one, and of those the one that waits for nothing from us and was heard longest ago. */
static bool
edge_goes_first(const struct s2s *a, const struct s2s *b, int64_t now)
{
    size_t load_of_a = net_load(a->from, NET_STRANGERS);
    size_t load_of_b = net_load(b->from, NET_STRANGERS);
    if (net_is_known(a->from, now) != net_is_known(b->from, now))
        return net_is_known(b->from, now);
    if (edge_is_silent(a, now) != edge_is_silent(b, now))
        return edge_is_silent(a, now);
    if (load_of_a != load_of_b)
        return load_of_a > load_of_b;
    if ((a->npairs == 0) != (b->npairs == 0))
        return a->npairs == 0;
    return a->stream.heard < b->stream.heard;
}

/* All connections are taken: one that has proven nothing makes room for one from this source, which
 * counts as if it were there.  False when all have proven something. */
static bool
edge_evict(struct xmppedge *e, struct net_source *from)
{
    int64_t now = loop_now(&e->loop);
    struct s2s *worst = NULL;
    struct list_node *n = e->s2s.strangers.next;
    size_t looked = 0;
    net_count(&e->nets, from, NET_STRANGERS, 1);
    for (; n != &e->s2s.strangers && looked < EDGE_LOOK_MAX; n = n->next, looked++) {
        struct s2s *s = MAP_OWNER(n, struct s2s, stranger);
        if (worst == NULL || edge_goes_first(s, worst, now))
            worst = s;
    }
    net_count(&e->nets, from, NET_STRANGERS, -1);
    if (worst == NULL)
        return false;
    if (e->wire.nlingering >= EDGE_REFUSED_MAX && worst->stream.conn != NULL)
        conn_abort(worst->stream.conn);
    s2s_fail(worst, XE_WHY_CONN_LIMIT);
    return true;
}

/* The same for trunks, without patience: a gateway is there within milliseconds. */
static bool
edge_evict_trunk(struct xmppedge *e)
{
    struct list_node *n;
    for (n = e->trunks.all.next; n != &e->trunks.all; n = n->next) {
        struct trunk *t = MAP_OWNER(n, struct trunk, node);
        if (t->state != TRUNK_UP) {
            trunk_fail(t, XE_WHY_TRUNK_LIMIT);
            return true;
        }
    }
    return false;
}

static void
edge_s2s_accepted(void *user, int fd, const struct sockaddr_storage *from)
{
    struct xmppedge *e = user;
    struct net_source *source = net_source_of(&e->nets, from);
    /* a gateway serves its inner servers only */
    enum xe_why why = e->config->role == CONFIG_EDGE
        || config_source_allowed(e->config, (const struct sockaddr *)(const void *)from)
        ? route_source_enter(&e->route, source) : XE_WHY_SOURCE_DENIED;
    if (why == XE_WHY_NONE && route_is_full(&e->route) && !edge_evict(e, source))
        why = XE_WHY_CONN_LIMIT;
    if (why != XE_WHY_NONE)
        edge_refuse(e, fd, from, why);
    else
        s2s_accept(&e->s2s, fd, from, source);
}

static void
edge_trunk_accepted(void *user, int fd, const struct sockaddr_storage *from)
{
    struct xmppedge *e = user;
    if (e->trunks.count >= e->config->internal.ngateways * 4 + EDGE_TRUNKS
        && !edge_evict_trunk(e)) {
        edge_refuse(e, fd, from, XE_WHY_TRUNK_LIMIT);
        return;
    }
    trunk_accept(&e->trunks, fd, from);
}

/* ---- start ---- */

static void
edge_no_thread(void *user, size_t have, int error)
{
    struct log *log = &((struct xmppedge *)user)->log;
    if (!log_begin(log, LOG_ERROR, "thread-failed", span_of("threads")))
        return;
    log_text(log, "error", strerror(error));
    log_int(log, "threads", (int64_t)have);
    log_end(log);
}

/* Handshakes: a source's ms a second are us a ms. */
static void
edge_use_limits(struct xmppedge *e, const struct config_limits *l)
{
    struct tls_limits limits = { .threads = l->handshake_threads, .waiting = l->handshakes,
        .rate_us = (int64_t)l->source_cpu, .burst_us = (int64_t)l->source_cpu_burst * 1000 };
    e->tls->no_thread = edge_no_thread;
    e->tls->user = e;
    tls_lend_limits(e->tls, &limits);
}

static void
edge_use(struct xmppedge *e)
{
    e->shared.limits = &e->config->limits;
    e->wire.write_timeout_ms = e->config->limits.write_ms;
    edge_use_limits(e, &e->config->limits);
    e->trunks.config = e->route.config = e->config;
    e->s2s.server_tls = e->keys.fallback != NULL || e->keys.ndomains > 0 || e->keys.echo != NULL
        ? e->keys.server : NULL;
    e->s2s.client_tls = e->keys.client;
    e->s2s.secret = &e->keys.secret;
    e->trunks.profile = e->keys.link;
    e->trunks.identity = e->keys.trunk;
    e->trunks.rule = (struct tls_rule){ .trust = e->keys.internal };
    e->log.level = e->config->log.level;
    e->log.json = e->config->log.json;
}

static bool
edge_open_log(struct xmppedge *e, struct buf *out)
{
    int fd = 2;
    if (e->config->log.file != NULL) {
        fd = open(e->config->log.file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0) {
            buf_puts(out, e->config->log.file);
            buf_puts(out, ": cannot open the log file: ");
            buf_puts(out, strerror(errno));
            buf_putc(out, '\n');
            return false;
        }
    }
    if (e->log_file >= 0 || fd != 2) {   /* the beginning of what is left stands in the old file */
        e->log.lost += buf_len(&e->log.rest) > 0;
        buf_free(&e->log.rest);
    }
    if (e->log_file >= 0)
        close(e->log_file);
    e->log_file = fd == 2 ? -1 : fd;
    e->log.fd = fd;
    return true;
}

static bool
edge_open_dns(struct xmppedge *e)
{
    struct dns_options options = { .timeout_ms = (int)e->config->limits.dns_ms,
        .tries = (int)e->config->limits.dns_tries, .nservers = e->config->nresolvers };
    size_t i;
    for (i = 0; i < options.nservers; i++) {
        assert(i < DNS_SERVERS_MAX);   /* the maximum of the row in config_rows[] */
        conn_host_text(&e->config->resolvers[i].address.sa, options.servers[i].address);
        options.servers[i].port = e->config->resolvers[i].address.port;
    }
    return dns_open(&e->dns, &e->loop, &options, &e->log);
}

static bool
edge_listen(struct xmppedge *e, struct listener *l, const struct config_address *at, unsigned line,
    void (*accepted)(void *, int, const struct sockaddr_storage *), struct buf *out)
{
    char text[CONN_TEXT_MAX];
    l->accepted = accepted;
    l->user = e;
    if (listener_open(l, &e->wire, &at->sa, at->len))
        return true;
    config_put_where(out, e->config, line);
    buf_puts(out, "cannot listen on ");
    buf_puts(out, conn_address_text(&at->sa, text));
    buf_puts(out, ": ");
    buf_puts(out, strerror(errno));
    buf_putc(out, '\n');
    return false;
}

static bool
edge_open_listeners(struct xmppedge *e, struct buf *out)
{
    const struct config *c = e->config;
    bool edge = c->role == CONFIG_EDGE;
    const struct config_address *s2s = edge ? &c->external.address : &c->listen.address;
    if (!edge_listen(e, &e->s2s_listener, s2s, edge ? c->external.line : c->listen.line,
        edge_s2s_accepted, out))
        return false;
    if (edge)
        return c->internal.line == 0 || edge_listen(e, &e->trunk_listener, &c->internal.address,
            c->internal.line, edge_trunk_accepted, out);
    return true;
}

static bool
edge_open_services(struct xmppedge *e)
{
    static const struct s2s_events s2s_events = { route_admit, route_room, edge_reach,
        edge_identity, edge_rule, route_paired, route_unpaired, route_s2s_stanza,
        route_s2s_ready, route_s2s_turned, route_s2s_drained, route_s2s_leaving,
        route_s2s_acknowledged, route_s2s_settled, route_s2s_closed };
    static const struct trunk_events trunk_events = { route_may_serve, route_trunk_up,
        route_trunk_down, route_trunk_leaving, route_trunk_stanza, route_trunk_paused,
        route_trunk_released, route_settled, route_finished };
    e->shared.wire = &e->wire;
    e->shared.loop = &e->loop;
    e->shared.log = &e->log;
    e->shared.tls = e->tls;
    e->shared.nets = &e->nets;
    e->s2s.shared = e->trunks.shared = e->route.shared = &e->shared;
    e->s2s.dns = e->trunks.dns = e->dns;
    e->s2s.events = &s2s_events;
    e->trunks.events = &trunk_events;
    e->s2s.user = e->trunks.user = &e->route;
    e->route.s2s = &e->s2s;
    e->route.trunks = &e->trunks;
    s2s_open_service(&e->s2s);
    list_init(&e->trunks.all);
    list_init(&e->trunks.links);
    if (e->config->role == CONFIG_EDGE) {
        e->from = e->config->external.address.sa;
        e->s2s.from = &e->from;
    }
    edge_use(e);
    return route_open(&e->route);
}

static bool
edge_open_links(struct xmppedge *e)
{
    size_t i;
    for (i = 0; i < e->config->nedges; i++)
        if (!trunk_link_open(&e->trunks, &e->config->edges[i]))
            return false;
    return true;
}

static void
edge_log_ready(struct xmppedge *e)
{
    char at[CONN_TEXT_MAX];
    if (!log_begin(&e->log, LOG_INFO, "ready", span_make(NULL, 0)))
        return;
    log_text(&e->log, "version", XE_VERSION);
    log_text(&e->log, "role", e->config->role == CONFIG_EDGE ? "edge" : "gateway");
    log_span(&e->log, "name", e->config->name);
    if (e->config->role == CONFIG_EDGE) {
        log_text(&e->log, "external", conn_address_text(&e->config->external.address.sa, at));
        if (e->config->internal.line > 0)
            log_text(&e->log, "internal", conn_address_text(&e->config->internal.address.sa, at));
    } else {
        log_text(&e->log, "listen", conn_address_text(&e->config->listen.address.sa, at));
    }
    log_int(&e->log, "pid", (int64_t)getpid());
    log_end(&e->log);
}

/* Descriptors for all connections that may be held, and for as many that are being closed. */
static rlim_t
edge_files(const struct config *c)
{
    return ((rlim_t)c->limits.connections + c->limits.dialbacks) * 2 + EDGE_FILES;
}

/* What the system does not allow is not held: nobody is evicted to make room for the next when it
 * is descriptors that are out, and an administrator's question finds none. */
static void
edge_fit_files(struct config *c)
{
    size_t want = (size_t)edge_files(c) - EDGE_FILES;
    struct rlimit files;
    char text[256];
    size_t have;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max == RLIM_INFINITY
        || files.rlim_max >= edge_files(c))
        return;
    have = (size_t)files.rlim_max;
    have -= have / 4 < EDGE_FILES ? have / 4 : EDGE_FILES;
    snprintf(text, sizeof text, "%s: warning: connections=\"%lu\" takes %lu descriptors, and the "
        "system allows %lu: %lu connections are held\n", c->path,
        (unsigned long)c->limits.connections, (unsigned long)edge_files(c),
        (unsigned long)files.rlim_max, (unsigned long)(c->limits.connections * have / want));
    buf_puts(&c->warnings, text);
    c->limits.connections = c->limits.connections * have / want;
    c->limits.dialbacks = c->limits.dialbacks * have / want + 1;
}

/* Each warning of the configuration as a line of the log. */
static void
edge_log_warnings(struct xmppedge *e, const struct config *c)
{
    struct xe_span w = buf_span(&c->warnings);
    while (w.len > 0) {
        size_t len = span_find(w, '\n');
        if (len > 0 && log_begin(&e->log, LOG_WARN, "config-warning", span_make(NULL, 0))) {
            log_span(&e->log, "text", span_make(w.at, len));
            log_end(&e->log);
        }
        w = span_skip(w, len + (len < w.len));
    }
}

/* ---- end ---- */

static void
edge_end_all(struct xmppedge *e)
{
    e->route.ending = true;
    while (!list_empty(&e->s2s.all))
        s2s_fail(MAP_OWNER(e->s2s.all.next, struct s2s, node), XE_WHY_SHUTDOWN);
    while (!list_empty(&e->trunks.all))
        trunk_fail(MAP_OWNER(e->trunks.all.next, struct trunk, node), XE_WHY_SHUTDOWN);
}

/* Are all windows, queues and connections empty? */
static bool
edge_is_drained(const struct xmppedge *e)
{
    return list_empty(&e->s2s.all) && list_empty(&e->trunks.all) && route_is_empty(&e->route);
}

/* Dialled connections end when all that waits for them is sent and no trunk can bring more;
 * accepted ones were told at the beginning. */
static void
edge_drain_dialled(struct xmppedge *e)
{
    struct list_node *n = e->s2s.all.next;
    while (n != &e->s2s.all) {
        struct s2s *s = MAP_OWNER(n, struct s2s, node);
        n = n->next;
        if (s->kind == S2S_OUT && !s->leaving && list_empty(&e->trunks.all)
            && route_finished(&e->route) && route_all_sent(s)) {
            s2s_close(s, XE_WHY_SHUTDOWN);
            n = e->s2s.all.next;
        }
    }
}

static void
edge_log_stopped(struct xmppedge *e)
{
    if (!log_begin(&e->log, LOG_INFO, "stopped", span_make(NULL, 0)))
        return;
    log_int(&e->log, "stanzas", (int64_t)e->route.stanzas);
    log_int(&e->log, "bounced", (int64_t)e->route.bounces);
    log_int(&e->log, "undelivered_bytes", (int64_t)e->route.memory);
    log_end(&e->log);
}

/* The orderly end, step by step; each step leaves a turn of the loop for what it has set going. */
static void
edge_drain_step(struct timer *t)
{
    struct xmppedge *e = MAP_OWNER(t, struct xmppedge, drain);
    bool late = loop_now(&e->loop) >= e->drain_until;
    struct list_node *n;
    if (e->state == EDGE_DRAINING) {
        edge_drain_dialled(e);
        for (n = e->trunks.all.next; n != &e->trunks.all; n = n->next)
            trunk_flush_later(MAP_OWNER(n, struct trunk, node));   /* acknowledgements held back */
        if (edge_is_drained(e) || late) {
            e->state = EDGE_RETURNING;
            e->drain_until = loop_now(&e->loop) + EDGE_RETURN_MS;
            route_bounce_all(&e->route, XE_WHY_SHUTDOWN);
        }
    } else if (e->state == EDGE_RETURNING && (late || route_is_empty(&e->route))) {
        e->state = EDGE_ENDING;
        e->drain_until = loop_now(&e->loop) + CONN_LINGER_MS;
        edge_end_all(e);
    } else if (e->state == EDGE_ENDING && (e->wire.nlingering == 0 || late)) {
        e->state = EDGE_STOPPED;
        edge_log_stopped(e);
        return;
    }
    timer_set(&e->loop, t, e->state == EDGE_DRAINING ? EDGE_STEP_MS : EDGE_LAST_STEP_MS);
}

/* Begin the orderly end: no new connections, everything under way is delivered or returned. */
void
xe_stop(struct xmppedge *e)
{
    struct list_node *n;
    if (e->state != EDGE_RUNNING)
        return;
    e->state = EDGE_DRAINING;
    if (log_begin(&e->log, LOG_INFO, "draining", span_make(NULL, 0)))
        log_end(&e->log);
    e->trunks.stopping = true;
    listener_close(&e->s2s_listener);
    listener_close(&e->trunk_listener);
    while (!list_empty(&e->trunks.links))
        trunk_link_close(MAP_OWNER(e->trunks.links.next, struct trunk_link, node));
    for (n = e->trunks.all.next; n != &e->trunks.all;) {
        struct trunk *t = MAP_OWNER(n, struct trunk, node);
        n = n->next;
        trunk_leave(t);
    }
    for (n = e->s2s.all.next; n != &e->s2s.all;) {
        struct s2s *s = MAP_OWNER(n, struct s2s, node);
        n = n->next;
        if (s->kind == S2S_IN && !s->leaving) {
            s2s_close(s, XE_WHY_SHUTDOWN);
            n = e->s2s.all.next;
        }
    }
    e->drain_until = loop_now(&e->loop) + e->config->limits.drain_ms;
    timer_set(&e->loop, &e->drain, 0);
}

bool
xe_is_running(const struct xmppedge *e)
{
    return e->state != EDGE_STOPPED;
}

/* Free everything; what is still under way ends at once. */
void
xe_close(struct xmppedge *e)
{
    if (e == NULL)
        return;
    if (e->on_stop != NULL)
        e->on_stop(e);
    if (e->tls != NULL && e->shared.wire != NULL) {
        edge_end_all(e);
        while (!list_empty(&e->trunks.links))
            trunk_link_close(MAP_OWNER(e->trunks.links.next, struct trunk_link, node));
        listener_close(&e->s2s_listener);
        listener_close(&e->trunk_listener);
        loop_step(&e->loop, 0);
        route_close(&e->route);
    }
    timer_cancel(&e->loop, &e->drain);
    if (e->wire.scratch != NULL)
        wire_close(&e->wire);
    dns_close(e->dns);
    edge_keys_free(&e->keys);
    if (e->tls != NULL)
        tls_lend_close(e->tls);
    net_book_close(&e->nets);
    tls_shared_close(e->tls);
    loop_close(&e->loop);
    reach_machine_free(&e->machine);
    buf_free(&e->shared.text);
    buf_free(&e->log.line);
    buf_free(&e->log.rest);
    if (e->log_file >= 0)
        close(e->log_file);
    config_free(e->config);
    free(e);
}

/* A text as the message of a caller: whole lines, and a word about those that do not fit. */
static void
edge_say(char *message, size_t size, struct buf *text)
{
    static const char rest[] = "more is left out\n";
    struct xe_span said = text->failed ? span_of("out of memory\n") : buf_span(text);
    bool whole = said.len < size;
    if (!whole)
        said.len = size < sizeof rest ? 0 : size - sizeof rest;
    while (!whole && said.len > 0 && said.at[said.len - 1] != '\n')
        said.len--;
    if (message != NULL && size > 0)
        snprintf(message, size, "%.*s%s", (int)said.len, said.at, whole ? "" : rest);
    buf_free(text);
}

/* Everything but the listeners' privileges: in the order in which it is torn down again. */
static bool
edge_open(struct xmppedge *e, const char *path, struct buf *out)
{
    char err[TLS_ERROR_MAX];
    e->config = config_load(path, out);
    if (e->config == NULL || !edge_open_log(e, out))
        return false;
    buf_clear(out);   /* warnings go to the log */
    e->tls = tls_shared_open(err);
    if (e->tls == NULL) {
        buf_puts(out, err);
        return false;
    }
    if (!edge_load_keys(e, e->config, &e->keys, out))
        return false;
    if (!tls_random(e->tls, e->nets.map.seed, sizeof e->nets.map.seed)
        || !tls_lend_open(e->tls, &e->loop, &e->nets) || !wire_open(&e->wire, &e->loop, &e->log)
        || !edge_open_dns(e) || !edge_open_services(e)) {
        buf_puts(out, "out of memory or descriptors\n");
        return false;
    }
    return edge_open_listeners(e, out) && edge_open_links(e);
}

struct xmppedge *
xe_open(const char *config_file, char *message, size_t size)
{
    struct xmppedge *e = calloc(1, sizeof *e);
    struct buf out = { 0 };
    if (e == NULL || !loop_open(&e->loop)) {
        free(e);
        snprintf(message, size, "out of memory or descriptors\n");
        return NULL;
    }
    e->log_file = -1;
    e->log.fd = 2;
    e->log.level = LOG_INFO;
    e->s2s_listener.watch.fd = e->trunk_listener.watch.fd = -1;
    e->drain.fire = edge_drain_step;
    list_init(&e->trunks.links);
    list_init(&e->trunks.all);
    list_init(&e->s2s.all);
    net_book_open(&e->nets);
    if (!edge_open(e, config_file, &out)) {
        edge_say(message, size, &out);
        xe_close(e);
        return NULL;
    }
    buf_free(&out);
    e->started = loop_now(&e->loop);
    edge_fit_files(e->config);
    edge_warn_keys(&e->keys, e->config, &e->config->warnings);
    edge_log_warnings(e, e->config);
    return e;
}

/* ---- reload ---- */

/* What cannot change while running: say so rather than ignore it. */
static const char *
edge_fixed_part(const struct config *was, const struct config *is)
{
    if (was->role != is->role)
        return "role";
    if (!span_eq(was->name, is->name))
        return "name";
    if (was->external.address.len != is->external.address.len
        || memcmp(&was->external.address.sa, &is->external.address.sa,
            sizeof was->external.address.sa) != 0)
        return "external address";
    if (memcmp(&was->internal.address.sa, &is->internal.address.sa,
        sizeof was->internal.address.sa) != 0)
        return "internal address";
    if (memcmp(&was->listen.address.sa, &is->listen.address.sa, sizeof was->listen.address.sa) != 0)
        return "listen address";
    return strcmp(was->control, is->control) != 0 ? "control socket" : NULL;
}

/* Gateway: keep links to edges that are still there, open new ones, close the others. */
static void
edge_reload_links(struct xmppedge *e)
{
    struct list_node *n = e->trunks.links.next;
    size_t i;
    while (n != &e->trunks.links) {
        struct trunk_link *link = MAP_OWNER(n, struct trunk_link, node);
        bool keep = false;
        n = n->next;
        for (i = 0; i < e->config->nedges; i++)
            keep = keep || trunk_link_is(link, &e->config->edges[i]);
        if (!keep)
            trunk_link_close(link);
    }
    for (i = 0; i < e->config->nedges; i++) {
        bool there = false;
        for (n = e->trunks.links.next; n != &e->trunks.links; n = n->next)
            there = there || trunk_link_is(MAP_OWNER(n, struct trunk_link, node),
                &e->config->edges[i]);
        if (!there)
            trunk_link_open(&e->trunks, &e->config->edges[i]);
    }
}

/* Trunks that the new configuration would not set up this way end; the gateway comes back with what
 * is right now. */
static void
edge_reload_trunks(struct xmppedge *e)
{
    struct list_node *n = e->trunks.all.next;
    while (n != &e->trunks.all) {
        struct trunk *t = MAP_OWNER(n, struct trunk, node);
        n = n->next;
        if (trunk_is_current(t))
            continue;
        if (e->config->role == CONFIG_GATEWAY) {
            trunk_leave(t);   /* and the link dials again */
        } else {
            trunk_fail(t, XE_WHY_RELOADED);
            n = e->trunks.all.next;
        }
    }
}

bool
xe_reload(struct xmppedge *e, char *message, size_t size)
{
    struct buf out = { 0 };
    struct edge_keys keys;
    struct config *fresh = e->state == EDGE_RUNNING ? config_load(e->config->path, &out) : NULL;
    struct config *old = e->config;
    const char *fixed = fresh == NULL ? NULL : edge_fixed_part(old, fresh);
    if (fresh != NULL)
        buf_clear(&out);
    if (e->state != EDGE_RUNNING)
        buf_puts(&out, "the service is shutting down\n");
    if (fixed != NULL) {
        buf_puts(&out, "the ");
        buf_puts(&out, fixed);
        buf_puts(&out, " cannot change while running: restart instead\n");
    }
    if (fresh == NULL || fixed != NULL || !edge_load_keys(e, fresh, &keys, &out)) {
        if (log_begin(&e->log, LOG_ERROR, "reload-failed", span_make(NULL, 0))) {
            log_span(&e->log, "text", buf_span(&out));
            log_text(&e->log, "effect", "nothing has changed");
            log_end(&e->log);
        }
        edge_say(message, size, &out);
        config_free(fresh);
        return false;
    }
    if (old->secret.at == NULL && fresh->secret.at == NULL)
        keys.secret = e->keys.secret;   /* drawn at start: questions about it are under way */
    edge_keys_free(&e->keys);
    e->keys = keys;
    e->config = fresh;
    edge_use(e);
    edge_open_log(e, &out);
    e->reloads++;
    edge_fit_files(fresh);
    edge_warn_keys(&e->keys, fresh, &fresh->warnings);
    edge_log_warnings(e, fresh);
    route_reloaded(&e->route);
    edge_reload_links(e);
    edge_reload_trunks(e);
    config_free(old);
    if (log_begin(&e->log, LOG_INFO, "reloaded", span_make(NULL, 0)))
        log_end(&e->log);
    edge_say(message, size, &out);
    return true;
}

/* ---- the loop, from outside ---- */

bool
xe_step(struct xmppedge *e, int max_wait_ms)
{
    if (!e->told)   /* not before: the caller had things of its own to open */
        edge_log_ready(e);
    e->told = true;
    return loop_step(&e->loop, max_wait_ms) && e->state != EDGE_STOPPED;
}

int
xe_fd(const struct xmppedge *e)
{
    return loop_fd(&e->loop);
}

int
xe_timeout(struct xmppedge *e)
{
    return loop_timeout(&e->loop);
}

/* ===========================================================================
 * [CONTROL] control_ status_   the control socket of a running instance, and what it tells
 * calls:  BASE BUF WHY JID MAP LOOP TLS CONN CONFIG STREAM S2S TRUNK ROUTE EDGE
 *
 * A UNIX socket that only its user can open.  One line is one question, the answer ends with the
 * connection:
 *
 *   status | status json      trunks, streams, partners in both directions, queues, reasons
 *   ping DOMAIN               XEP-0199 through the running service, both ways
 *   message DOMAIN [TEXT]     a message to an echo domain, and back
 *   reload | stop             what SIGHUP and SIGTERM do
 *
 * The first word of an answer to ping, message, reload and stop is "ok" or "failed".  After "ok"
 * and the time comes the content that was sent back, if any.
 *
 * Costs: `status` is told in turns, CONTROL_ROWS rows in each, and every row as it is then: what
 * comes meanwhile may be missing.
 * Not done: a port for metrics.  `status --json` tells the same without one.
 * ======================================================================== */

/* ---- what there is to tell ---- */

/* What a whole answer ends with: who asks sees when it was cut short. */
#define STATUS_END      "\nEND\n"
#define STATUS_END_JSON "}\n"

/* What comes next. */
enum status_part { STATUS_HEAD, STATUS_STREAMS, STATUS_PAIRS, STATUS_TOLD };

/* A writer of both forms: aligned text for people, one JSON object for programs. */
struct status {
    struct buf      *out;   /* borrowed; of this turn */
    bool             json;
    bool             comma; /* something stands before in this object or list */
    enum status_part part;
    struct list_walk walk;  /* through streams, or through pairs */
};

static void
status_key(struct status *w, const char *key)
{
    if (w->json) {
        buf_puts(w->out, w->comma ? ",\"" : "\"");
        buf_puts(w->out, key);
        buf_puts(w->out, "\":");
    } else {
        buf_putc(w->out, ' ');
        buf_puts(w->out, key);
        buf_putc(w->out, '=');
    }
    w->comma = true;
}

static void
status_span(struct status *w, const char *key, struct xe_span value)
{
    if (value.at == NULL || (value.len == 0 && !w->json))
        return;
    status_key(w, key);
    if (w->json)
        buf_put_json(w->out, value, SIZE_MAX);
    else
        buf_put_value(w->out, value, SIZE_MAX);
}

static void
status_text(struct status *w, const char *key, const char *value)
{
    status_span(w, key, span_of(value));
}

static void
status_int(struct status *w, const char *key, uint64_t value)
{
    status_key(w, key);
    buf_putu(w->out, value);
}

/* A list of objects: begin, each, end. */
static void
status_list(struct status *w, const char *name, const char *title)
{
    if (w->json) {
        status_key(w, name);
        buf_putc(w->out, '[');
    } else {
        buf_putc(w->out, '\n');
        buf_puts(w->out, title);
        buf_putc(w->out, '\n');
    }
    w->comma = false;
}

static void
status_item(struct status *w, bool begin)
{
    if (!w->json) {
        buf_puts(w->out, begin ? " " : "\n");
        return;
    }
    buf_puts(w->out, begin ? w->comma ? ",{" : "{" : "}");
    w->comma = !begin;
}

static void
status_list_end(struct status *w)
{
    if (w->json)
        buf_putc(w->out, ']');
    w->comma = true;
}

static uint64_t
status_seconds(const struct xmppedge *e, int64_t since)
{
    int64_t ms = loop_now(&e->loop) - since;
    return ms > 0 ? (uint64_t)(ms / 1000) : 0;
}

static bool
status_has_trunk(const struct xmppedge *e, struct xe_span name)
{
    const struct list_node *n;
    for (n = e->trunks.all.next; n != &e->trunks.all; n = n->next)
        if (span_is(name, MAP_OWNER(n, const struct trunk, node)->name))
            return true;
    return false;
}

static void
status_trunk_last(struct status *w, const struct xmppedge *e, const struct trunk_last *last,
    const char *state)
{
    char at[CONN_TEXT_MAX];
    if (last->count == 0)
        return;
    status_item(w, true);
    status_text(w, "name", last->name);
    status_text(w, "state", state);
    status_text(w, "why", xe_why(last->why)->word);
    status_text(w, "detail", last->detail);
    status_text(w, "peer", conn_address_text(&last->peer, at));
    status_int(w, "count", last->count);
    status_int(w, "seconds", status_seconds(e, last->ms));
    status_item(w, false);
}

/* At the edge: gateways that are expected and not there, how the last trunk ended, and the last one
 * that was refused: with a wrong certificate it is not known whose it was. */
static void
status_missing_gateways(struct status *w, const struct xmppedge *e)
{
    const struct config_internal *in = &e->config->internal;
    size_t i;
    bool missing = false;
    for (i = 0; i < in->ngateways; i++) {
        if (status_has_trunk(e, in->gateways[i].name))
            continue;
        missing = true;
        status_item(w, true);
        status_span(w, "name", in->gateways[i].name);
        status_text(w, "state", "down");
        status_item(w, false);
    }
    if (!missing)
        return;
    status_trunk_last(w, e, &e->trunks.last, "ended");
    status_trunk_last(w, e, &e->trunks.refused, "refused");
}

static void
status_trunks(struct status *w, const struct xmppedge *e)
{
    const struct list_node *n;
    char at[CONN_TEXT_MAX];
    status_list(w, "trunks", "TRUNKS");
    for (n = e->trunks.all.next; n != &e->trunks.all; n = n->next) {
        const struct trunk *t = MAP_OWNER(n, const struct trunk, node);
        status_item(w, true);
        status_text(w, "name", t->name);
        status_text(w, "state", t->leaving ? "leaving" : trunk_state_name(t->state));
        status_text(w, "peer", conn_address_text(&t->source, at));
        if (t->stream.conn != NULL)
            status_text(w, "local", conn_address_text(&t->stream.conn->local, at));
        if (stream_is_secure(&t->stream)) {
            status_text(w, "tls", tls_facts(t->stream.conn->tls)->version);
            status_text(w, "certificate", tls_facts(t->stream.conn->tls)->subject);
        }
        status_int(w, "domains", t->ndomains);
        status_int(w, "in", t->stanzas_in);
        status_int(w, "out", t->stanzas_out);
        status_int(w, "unacknowledged", t->window.count);
        status_int(w, "seconds", status_seconds(e, t->since));
        status_item(w, false);
    }
    for (n = e->trunks.links.next; n != &e->trunks.links; n = n->next) {
        const struct trunk_link *link = MAP_OWNER(n, const struct trunk_link, node);
        if (link->trunk != NULL)
            continue;
        status_item(w, true);
        status_text(w, "name", link->name);
        status_text(w, "state", "down");
        status_text(w, "why", xe_why(link->why)->word);
        status_text(w, "detail", link->detail);
        status_item(w, false);
    }
    status_missing_gateways(w, e);
    status_list_end(w);
}

/* What the certificate of the other server is worth for the domain of the header. */
static const char *
status_certificate(const struct s2s *s)
{
    if (!stream_is_secure(&s->stream))
        return "none";
    return s->cert_why == XE_WHY_NONE ? "good" : xe_why(s->cert_why)->word;
}

static void
status_stream(struct status *w, const struct xmppedge *e, const struct s2s *s)
{
    char at[CONN_TEXT_MAX];
    status_item(w, true);
    status_text(w, "direction", s2s_kind_name(s->kind));
    status_text(w, s2s_is_claim(s) ? "claims" : "remote", s->remote);
    status_text(w, "domain", s->local);
    status_text(w, "state", s2s_state_name(s->state));
    status_text(w, "method", s->method);
    status_text(w, "tls", stream_is_secure(&s->stream) ? tls_facts(s->stream.conn->tls)->version
        : "none");
    status_text(w, "certificate", status_certificate(s));
    status_text(w, "peer", conn_address_text(s->kind == S2S_IN ? &s->source : &s->target, at));
    if (s->stream.conn != NULL)
        status_text(w, "local", conn_address_text(&s->stream.conn->local, at));
    if (s->bidi)
        status_text(w, "bidi", "true");
    status_int(w, "pairs", s->npairs);
    status_int(w, "stanzas", s->stanzas);
    status_int(w, "seconds", status_seconds(e, s->since));
    status_item(w, false);
}

/* Why the last attempt failed; else why the last stanza came back. */
static const char *
status_pair_error(const struct route_pair *p)
{
    enum xe_why why = p->last_why != XE_WHY_NONE ? p->last_why : p->bounce_why;
    return why == XE_WHY_NONE ? "" : xe_why(why)->word;
}

/* The state of one direction of a pair, in one word. */
static const char *
status_pair_state(const struct route_pair *p)
{
    switch (p->way) {
    case ROUTE_TO_S2S:
        return p->out == NULL ? p->last_why != XE_WHY_NONE ? "failed" : "closed"
            : s2s_carries(p->out) ? "open" : "connecting";
    case ROUTE_TO_TRUNK:
        return list_empty(&p->feeds) ? "closed" : p->paused ? "paused" : "open";
    case ROUTE_TO_ECHO:
        break;
    }
    return "open";   /* it is always at home */
}

/* Why the sources of a pair are not read; NULL when they are. */
static const char *
status_pair_pause(const struct route_pair *p)
{
    if (p->full)
        return p->far_full ? "other-node" : "queue";
    return p->answers_wait ? "answers" : p->slowed ? "bounces" : NULL;
}

static void
status_pair(struct status *w, const struct xmppedge *e, const struct route_pair *p)
{
    status_item(w, true);
    status_span(w, "from", p->from);
    status_span(w, "to", p->to);
    status_text(w, "way", p->way == ROUTE_TO_S2S ? "out" : "in");
    status_text(w, "state", status_pair_state(p));
    status_text(w, "paused_by", status_pair_pause(p));
    status_text(w, "last_error", status_pair_error(p));
    status_text(w, "detail", w->json ? p->last_detail : NULL);
    if (p->way == ROUTE_TO_TRUNK && p->trunk != NULL)
        status_text(w, "trunk", p->trunk->name);
    status_int(w, "passed", p->passed);
    status_int(w, "bounced", p->bounced);
    status_int(w, "queued", p->queue.count + p->in_flight);
    status_int(w, "queued_bytes", buf_len(&p->queue.bytes) + p->in_flight_bytes);
    status_int(w, "idle_seconds", status_seconds(e, p->last_ms));
    status_item(w, false);
}

static void
status_reasons(struct status *w, const struct xmppedge *e)
{
    unsigned i;
    status_list(w, "reasons", "ENDS AND BOUNCES BY REASON");
    for (i = 1; i < XE_WHY_COUNT; i++) {
        if (e->route.refusals[i] == 0)
            continue;
        status_item(w, true);
        status_text(w, "why", xe_why((enum xe_why)i)->word);
        status_int(w, "count", e->route.refusals[i]);
        status_item(w, false);
    }
    status_list_end(w);
}

static void
status_head(struct status *w, const struct xmppedge *e)
{
    static const char *const states[] = { "running", "draining", "returning", "ending", "stopped" };
    buf_puts(w->out, w->json ? "{" : "xmppedge");
    status_text(w, "version", XE_VERSION);
    status_text(w, "role", e->config->role == CONFIG_EDGE ? "edge" : "gateway");
    status_span(w, "name", e->config->name);
    status_text(w, "state", states[e->state]);
    status_int(w, "pid", (uint64_t)getpid());
    status_int(w, "seconds", status_seconds(e, e->started));
    status_int(w, "connections", e->s2s.count);
    status_int(w, "stanzas", e->route.stanzas);
    status_int(w, "bounces", e->route.bounces);
    status_int(w, "queued_bytes", e->route.memory);
    status_int(w, "reloads", e->reloads);
    if (!w->json)
        buf_putc(w->out, '\n');
}

/* Tell a row, or what stands between two lists. */
static void
status_step(struct status *w, struct xmppedge *e)
{
    struct list_node *n = w->part == STATUS_HEAD ? NULL : list_walk_next(&w->walk);
    switch (w->part) {
    case STATUS_HEAD:
        status_head(w, e);
        status_trunks(w, e);
        status_list(w, "streams", "STREAMS");
        list_walk_begin(&w->walk, &e->s2s.walks, &e->s2s.all, e->s2s.count);
        w->part = STATUS_STREAMS;
        break;
    case STATUS_STREAMS:
        if (n != NULL) {
            status_stream(w, e, MAP_OWNER(n, const struct s2s, node));
            break;
        }
        status_list_end(w);
        status_list(w, "pairs", "PAIRS (each direction by itself)");
        list_walk_end(&w->walk);
        list_walk_begin(&w->walk, &e->route.walks, &e->route.all, e->route.pairs.count);
        w->part = STATUS_PAIRS;
        break;
    case STATUS_PAIRS:
        if (n != NULL) {
            status_pair(w, e, MAP_OWNER(n, const struct route_pair, all));
            break;
        }
        status_list_end(w);
        status_reasons(w, e);
        buf_puts(w->out, w->json ? STATUS_END_JSON : STATUS_END);
        list_walk_end(&w->walk);
        w->part = STATUS_TOLD;
        break;
    case STATUS_TOLD:
        break;
    }
}

/* Some rows more, as many as a turn has time for.  False when that was all. */
static bool
status_put(struct status *w, struct xmppedge *e, struct buf *out)
{
    int rows = 0;
    w->out = out;
    while (w->part != STATUS_TOLD && rows++ < CONTROL_ROWS)
        status_step(w, e);
    return w->part != STATUS_TOLD;
}

/* ---- clients ---- */

struct control {
    struct listener  listener;
    struct xmppedge *edge;       /* borrowed */
    char             path[CONFIG_SOCKET_MAX];
    struct list_node clients;
    size_t           count;
};

struct control_client {
    struct route_ping ping;      /* first, so that a ping is its client */
    struct status     status;    /* being told, once `telling` */
    struct loop_task  tell;
    bool              telling;
    struct control   *control;   /* borrowed */
    struct conn      *conn;      /* owned */
    struct timer      timer;     /* the question, or the answer to a ping, takes too long */
    bool              asked_one; /* the question has come */
    int64_t           asked;     /* ms */
    struct loop_task  reap;
    struct list_node  node;
};

static void
control_free(struct loop_task *task)
{
    free(MAP_OWNER(task, struct control_client, reap));
}

static void
control_end(struct control_client *c)
{
    struct control *control = c->control;
    struct conn *conn = c->conn;
    if (conn == NULL)
        return;
    c->conn = NULL;
    timer_cancel(&control->edge->loop, &c->timer);
    loop_task_cancel(&c->tell);
    list_walk_end(&c->status.walk);
    if (list_linked(&c->ping.node)) {
        list_remove(&c->ping.node);
        control->edge->route.npings--;
    }
    list_remove(&c->node);
    control->count--;
    conn_close(conn);
    loop_at_end(&control->edge->loop, &c->reap);
}

/* The text is sent as it is: who puts somebody else's words into it escapes them there. */
static void
control_answer(struct control_client *c, struct xe_span text)
{
    conn_send(c->conn, text);
    control_end(c);
}

static void
control_answer_ping(struct control_client *c, enum xe_why why, struct xe_span what)
{
    struct buf out = { .max = 4096 };
    if (why == XE_WHY_NONE) {
        buf_puts(&out, "ok ");
        buf_putu(&out, (uint64_t)(loop_now(&c->control->edge->loop) - c->asked));
        buf_puts(&out, what.len > 0 ? " ms: " : " ms");
        buf_put_escaped(&out, what, 2048);
        buf_putc(&out, '\n');
    } else {
        buf_puts(&out, "failed why=");
        buf_puts(&out, xe_why(why)->word);
        buf_puts(&out, ": ");
        buf_puts(&out, xe_why(why)->text);
        if (what.len > 0) {
            buf_puts(&out, ": ");
            buf_put_escaped(&out, what, 600);
        }
        buf_putc(&out, '\n');
    }
    control_answer(c, buf_span(&out));
    buf_free(&out);
}

static void
control_ping_answered(struct route_ping *ping, enum xe_why why, struct xe_span what)
{
    control_answer_ping((struct control_client *)(void *)ping, why, what);
}

static void
control_ping_timeout(struct timer *t)
{
    struct control_client *c = MAP_OWNER(t, struct control_client, timer);
    control_answer_ping(c, XE_WHY_PING_TIMEOUT, span_make(NULL, 0));
}

/* A ping, or with a `body` a message. */
static void
control_ping(struct control_client *c, struct xe_span domain, struct xe_span body)
{
    struct xmppedge *e = c->control->edge;
    char normal[XE_DOMAIN_MAX];
    size_t len;
    enum xe_why why;
    if (!xe_jid_domain_normal(domain, normal, &len)) {
        control_answer(c, span_of("failed: this is not a domain\n"));
        return;
    }
    c->asked = loop_now(&e->loop);
    c->ping.answered = control_ping_answered;
    /* the reason why a server cannot be reached comes with the end of the attempt: wait for it */
    timer_set(&e->loop, &c->timer, e->config->limits.attempt_ms + e->config->limits.dialback_ms
        + CONTROL_ASK_MS);
    why = route_ping_send(&e->route, &c->ping, span_make(normal, len), body);
    if (why != XE_WHY_NONE)
        control_answer_ping(c, why, span_make(NULL, 0));
}

/* The next rows of a status.  They are written before those behind them are made, so that a client
 * costs one piece of memory, however slow it is; one that takes nothing is closed by write-time. */
static void
control_tell(struct loop_task *task)
{
    struct control_client *c = MAP_OWNER(task, struct control_client, tell);
    struct buf out = { .max = CONTROL_PIECE };
    bool more = status_put(&c->status, c->control->edge, &out);
    c->telling = !out.failed && conn_send(c->conn, buf_span(&out)) && more;
    buf_free(&out);
    if (!c->telling)
        control_end(c);
}

static void
control_drained(struct conn *conn, void *user)
{
    struct control_client *c = user;
    (void)conn;
    if (c->telling)
        loop_soon(&c->control->edge->loop, &c->tell);
}

static void
control_status(struct control_client *c, bool json)
{
    timer_cancel(&c->control->edge->loop, &c->timer);
    c->status.json = json;
    control_tell(&c->tell);
}

static void
control_reload(struct control_client *c)
{
    char message[1024];
    struct buf out = { .max = 4096 };
    bool ok = xe_reload(c->control->edge, message, sizeof message);
    buf_puts(&out, ok ? "ok\n" : "failed: ");
    if (!ok)
        buf_put_lines(&out, span_of(message));   /* of files: paths, names of certificates */
    control_answer(c, buf_span(&out));
    buf_free(&out);
}

static void
control_command(struct control_client *c, struct xe_span line)
{
    size_t space = span_find(line, ' ');
    struct xe_span word = span_make(line.at, space);
    struct xe_span rest = span_skip(line, space + (space < line.len));
    if (span_is(word, "status")) {
        control_status(c, span_is(rest, "json"));
    } else if (span_is(word, "ping")) {
        control_ping(c, rest, span_make(NULL, 0));
    } else if (span_is(word, "message")) {
        control_ping(c, rest, span_of("hello across the border"));
    } else if (span_is(word, "reload")) {
        control_reload(c);
    } else if (span_is(word, "stop")) {
        xe_stop(c->control->edge);
        control_answer(c, span_of("ok\n"));
    } else {
        control_answer(c, span_of("failed: unknown command\n"));
    }
}

static size_t
control_received(struct conn *conn, void *user, const char *at, size_t len)
{
    struct control_client *c = user;
    size_t end = span_find(span_make(at, len), '\n');
    (void)conn;
    if (c->conn == NULL || c->asked_one)
        return len;   /* one question a connection */
    c->asked_one = end < len;
    if (end < len)
        control_command(c, span_make(at, end));
    else if (len < CONTROL_LINE_MAX)
        return 0;
    else
        control_end(c);
    return len;
}

static void
control_closed(struct conn *conn, void *user, enum xe_why why)
{
    (void)conn;
    (void)why;
    control_end(user);
}

static void
control_accepted(void *user, int fd, const struct sockaddr_storage *from)
{
    static const struct conn_events events = { control_received, NULL, control_drained,
        control_closed, NULL };
    struct control *control = user;
    struct control_client *c = control->count < CONTROL_CLIENTS ? calloc(1, sizeof *c) : NULL;
    (void)from;
    if (c == NULL) {
        edge_tell(control->edge, fd, span_of("failed: too many questions at a time\n"));
        return;
    }
    c->control = control;
    c->timer.fire = control_ping_timeout;
    c->tell.run = control_tell;
    c->reap.run = control_free;
    c->conn = conn_new(&control->edge->wire, fd, CONTROL_LINE_MAX, CONTROL_PIECE, &events, c);
    if (c->conn == NULL) {
        free(c);
        return;
    }
    list_append(&control->clients, &c->node);
    control->count++;
    timer_set(&control->edge->loop, &c->timer, CONTROL_ASK_MS);
}

static void
control_close(struct xmppedge *e)
{
    struct control *control = e->control;
    if (control == NULL)
        return;
    while (!list_empty(&control->clients))
        control_end(MAP_OWNER(control->clients.next, struct control_client, node));
    loop_step(&e->loop, 0);
    listener_close(&control->listener);
    unlink(control->path);
    free(control);
    e->control = NULL;
}

/* Whether somebody answers at this path. */
static bool
control_is_alive(const struct sockaddr_un *at)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) == 0;
    if (fd >= 0)
        close(fd);
    return alive;
}

/* Remove what a process that was killed has left; nothing but a socket. */
static void
control_clear(const char *path)
{
    struct stat is;
    if (lstat(path, &is) == 0 && S_ISSOCK(is.st_mode))
        unlink(path);
}

/* Why the control socket cannot be opened, and what to do; in most cases it is its directory. */
static void
control_explain(const struct config *c, int code, char *message, size_t size)
{
    struct stat is;
    char dir[sizeof ((struct control *)NULL)->path];
    int len = (int)(strrchr(c->control, '/') - c->control);
    snprintf(dir, sizeof dir, "%.*s", len == 0 ? 1 : len, c->control);
    if (stat(dir, &is) != 0)
        snprintf(message, size, "%s: cannot open the control socket %s: there is no directory %s: "
            "create it, or set <control socket=\"...\"/>\n", c->path, c->control, dir);
    else
        snprintf(message, size, "%s: cannot open the control socket %s: %s\n", c->path, c->control,
            strerror(code));
}

/* Open the control socket.  False with a sentence in `message`. */
static bool
control_open(struct xmppedge *e, char *message, size_t size)
{
    struct sockaddr_storage at;
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&at;
    struct control *control = calloc(1, sizeof *control);
    mode_t mask;
    bool ok;
    if (control == NULL) {
        snprintf(message, size, "out of memory\n");
        return false;
    }
    memset(&at, 0, sizeof at);
    un->sun_family = AF_UNIX;
    snprintf(control->path, sizeof control->path, "%s", e->config->control);
    snprintf(un->sun_path, sizeof un->sun_path, "%s", e->config->control);
    control->edge = e;
    control->listener.accepted = control_accepted;
    control->listener.user = control;
    control->listener.watch.fd = -1;
    list_init(&control->clients);
    if (control_is_alive(un)) {
        snprintf(message, size, "%s: another instance is running with this control socket\n",
            control->path);
        free(control);
        return false;
    }
    control_clear(control->path);
    mask = umask(0177);
    ok = listener_open(&control->listener, &e->wire, &at, sizeof *un);
    umask(mask);
    if (!ok) {
        control_explain(e->config, errno, message, size);
        free(control);
        return false;
    }
    e->control = control;
    e->on_stop = control_close;
    return true;
}

/* ---- the other end: asking a running instance ---- */

static bool
control_exchange(int fd, struct xe_span question, struct buf *answer)
{
    ssize_t n;
    while (question.len > 0) {
        n = send(fd, question.at, question.len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        question = span_skip(question, (size_t)n);
    }
    do {
        char *room = buf_room(answer, 4096);
        n = room == NULL ? -1 : recv(fd, room, 4096, 0);
        if (n > 0)
            answer->tail += (size_t)n;
    } while (n > 0);
    return n == 0;
}

/* Put a question to the instance at `path`; `argument` may be NULL.  False with errno if nobody is
 * there to answer. */
static bool
control_ask(const char *path, const char *question, const char *argument, struct buf *answer)
{
    struct sockaddr_un at;
    struct buf line = { .max = CONTROL_LINE_MAX };
    struct timeval wait = { CONTROL_WAIT_S, 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool ok;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    buf_puts(&line, question);
    if (argument != NULL) {
        buf_putc(&line, ' ');
        buf_puts(&line, argument);
    }
    buf_putc(&line, '\n');
    ok = fd >= 0 && !line.failed && connect(fd, (struct sockaddr *)&at, sizeof at) == 0
        && control_exchange(fd, buf_span(&line), answer);
    if (!ok && errno == EAGAIN)
        errno = ETIMEDOUT;   /* connected, but not accepted, or not answered */
    buf_free(&line);
    if (fd >= 0)
        close(fd);
    return ok;
}

#ifndef XMPPEDGE_NO_MAIN

/* ===========================================================================
 * [AUTHORITY] authority_   certificates for the trunk, and the dialback secret
 * calls:  BASE BUF JID TLS
 *
 *   internal-ca.pem      the authority's certificate        for every node
 *   internal-ca.key      its key, which signs               for no node
 *   NAME.pem, NAME.key   the certificate of a node          for that node
 *   dialback.secret      drawn by lot                       for every edge
 *
 * Nothing in the directory is ever overwritten: what is there is kept and told of, what is not is
 * made, as new files only.  So asking again with one more name adds that name, and whoever wants a
 * new certificate removes the old one with its key before.
 * ======================================================================== */

#define AUTHORITY_CA         "internal-ca"
#define AUTHORITY_DAYS       730    /* of a certificate, unless asked otherwise */
#define AUTHORITY_SECRET_LEN 32     /* bytes of entropy, written in hexadecimal */

struct authority {
    const char *dir;             /* borrowed */
    struct tls_shared *tls;
    struct tls_identity *ca;     /* what signs; NULL until it is there */
    struct tls_trust *trust;     /* the same as nodes will believe it */
};

/* What went wrong with which file or name; always false. */
static bool
authority_fail(const char *what, const char *why)
{
    text_print(stderr, "xmppedge authority: ", what, ": ", why, "\n");
    return false;
}

/* ---- files ---- */

static void
authority_path(const struct authority *a, const char *name, const char *suffix,
    char path[AUTHORITY_PATH_MAX])
{
    snprintf(path, AUTHORITY_PATH_MAX, "%s/%s%s", a->dir, name, suffix);
}

static bool
authority_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* A new file, whole or not at all. */
static bool
authority_write(const char *path, mode_t mode, const char *text)
{
    size_t len = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    bool ok;
    if (fd < 0)
        return authority_fail(path, strerror(errno));
    errno = ENOSPC;   /* what it means when less is written */
    ok = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    if (!ok) {
        authority_fail(path, strerror(errno));
        unlink(path);
    }
    close(fd);
    return ok;
}

/* The directory, if it is not there yet, for its user alone. */
static bool
authority_make_dir(const struct authority *a)
{
    if (strlen(a->dir) > AUTHORITY_PATH_MAX - TLS_MINT_NAME_MAX - 8)
        return authority_fail(a->dir, "the name of the directory is too long");
    return mkdir(a->dir, 0700) == 0 || errno == EEXIST || authority_fail(a->dir, strerror(errno));
}

/* ---- a certificate and its key ---- */

static bool
authority_make_pair(struct authority *a, const char *name, int days, const char *certificate,
    const char *key)
{
    char err[TLS_ERROR_MAX];
    struct tls_mint *m = tls_mint_new(a->tls, name, days, a->ca, err);
    bool ok = m != NULL ? authority_write(key, 0600, m->private_key) : authority_fail(name, err);
    if (ok && !authority_write(certificate, 0644, m->certificate)) {
        unlink(key);   /* half a pair would be in the way of the next attempt */
        ok = false;
    }
    tls_mint_free(m);
    return ok;
}

static void
authority_tell_pair(bool kept, const char *certificate, const char *file, const char *until)
{
    char day[] = "yyyy-mm-dd";
    memcpy(day, until, strnlen(until, sizeof day - 1));
    text_print(stdout, kept ? "kept " : "made ", certificate, " and ", file, ".key, until ", day,
        "\n");
}

/* The pair in FILE.pem and FILE.key, made for `name` if there is none.  NULL, and told why, when it
 * cannot be used. */
static struct tls_identity *
authority_pair(struct authority *a, const char *file, const char *name, int days)
{
    char certificate[AUTHORITY_PATH_MAX];
    char key[AUTHORITY_PATH_MAX];
    char err[TLS_ERROR_MAX];
    struct tls_identity *pair;
    bool kept;
    authority_path(a, file, ".pem", certificate);
    authority_path(a, file, ".key", key);
    kept = authority_exists(certificate);
    if (authority_exists(key) != kept) {
        text_print(stderr, "xmppedge authority: ", kept ? key : certificate, " is missing beside ",
            kept ? certificate : key, ": put it back, or remove the other\n");
        return NULL;
    }
    if (!kept && !authority_make_pair(a, name, days, certificate, key))
        return NULL;
    pair = tls_identity_load(a->tls, certificate, key, err);
    if (pair == NULL)
        text_print(stderr, "xmppedge authority: ", err, "\n");
    else
        authority_tell_pair(kept, certificate, file, tls_identity_facts(pair)->not_after);
    return pair;
}

/* ---- what is in the directory ---- */

/* Why this authority cannot sign; NULL: it can.  A name of several parts might not come out of a
 * certificate as it went in. */
static const char *
authority_why_not(const struct tls_facts *facts)
{
    if ((facts->chain & TLS_CHAIN_EXPIRED) != 0)
        return "this authority has expired: make another one in a new directory";
    if ((facts->chain & TLS_CHAIN_NOT_YET) != 0)
        return "this authority is not valid yet: is the clock right?";
    if (strncmp(facts->subject, "CN=", 3) != 0 || strpbrk(facts->subject, ",+\\\"") != NULL)
        return "this authority was made elsewhere, with more than a common name: sign there";
    return NULL;
}

/* The authority itself. */
static bool
authority_open(struct authority *a)
{
    unsigned char dice[4];
    char name[TLS_MINT_NAME_MAX];
    char path[AUTHORITY_PATH_MAX];
    char err[TLS_ERROR_MAX];
    const char *why_not;
    if (!tls_random(a->tls, dice, sizeof dice))
        return authority_fail(a->dir, "no random numbers");
    /* each has a name of its own, so that a node can trust the old one and the new one */
    snprintf(name, sizeof name, "xmppedge authority %02x%02x%02x%02x", dice[0], dice[1], dice[2],
        dice[3]);
    a->ca = authority_pair(a, AUTHORITY_CA, name, AUTHORITY_DAYS_MAX);
    if (a->ca == NULL)
        return false;
    authority_path(a, AUTHORITY_CA, ".pem", path);
    why_not = authority_why_not(tls_identity_facts(a->ca));
    if (why_not != NULL)
        return authority_fail(path, why_not);
    a->trust = tls_trust_load(path, NULL, err);
    return a->trust != NULL || authority_fail(path, err);
}

/* The dialback secret, in hexadecimal. */
static bool
authority_secret(struct authority *a)
{
    unsigned char dice[AUTHORITY_SECRET_LEN];
    char text[2 * sizeof dice + 2];
    char path[AUTHORITY_PATH_MAX];
    bool kept;
    size_t i;
    authority_path(a, "dialback", ".secret", path);
    kept = authority_exists(path);
    if (!kept) {
        if (!tls_random(a->tls, dice, sizeof dice))
            return authority_fail(path, "no random numbers");
        for (i = 0; i < sizeof dice; i++)
            snprintf(text + 2 * i, 4, "%02x\n", dice[i]);
        if (!authority_write(path, 0600, text))
            return false;
    }
    text_print(stdout, kept ? "kept " : "made ", path, "\n");
    return true;
}

/* The certificate of one node, which has to convince whoever trusts the authority. */
static bool
authority_node(struct authority *a, const char *name, int days)
{
    struct tls_identity *pair = authority_pair(a, name, name, days);
    char words[128];
    char why[256];
    unsigned chain = pair == NULL ? 0 : tls_trust_verdict(a->trust, pair);
    if (chain != 0) {
        snprintf(why, sizeof why, "the authority here does not vouch for it (%s): remove the "
            "certificate and its key for new ones", tls_chain_text(chain, words));
        authority_fail(name, why);
    }
    tls_identity_release(pair);
    return pair != NULL && chain == 0;
}

/* ---- the command ---- */

/* Whether `word` can be the name of a node here; `name` is how it is written in its certificate and
 * in its files. */
static bool
authority_name(const char *word, char name[XE_DOMAIN_MAX])
{
    struct in_addr address;
    size_t len;
    if (!xe_jid_domain_normal(span_of(word), name, &len) || name[0] == '['
        || inet_pton(AF_INET, name, &address) == 1)
        return authority_fail(word, "expected a domain such as edge01.corp.example");
    if (len > TLS_MINT_NAME_MAX)
        return authority_fail(word, "the name of a certificate has at most 64 characters");
    return strcmp(name, AUTHORITY_CA) != 0
        || authority_fail(word, "this is the name of the authority's own files");
}

static bool
authority_fill(struct authority *a, char *const *words, int days)
{
    char name[XE_DOMAIN_MAX];
    bool ok = authority_make_dir(a) && authority_open(a) && authority_secret(a);
    for (; ok && *words != NULL; words++)
        ok = authority_name(*words, name) && authority_node(a, name, days);
    if (ok)
        printf("Each node gets " AUTHORITY_CA ".pem and the two files of its name, each edge also\n"
            "dialback.secret.  " AUTHORITY_CA ".key belongs on none of them.\n");
    return ok;
}

/* Make what is missing in `dir`: the authority, the secret, and a certificate good for `days` for
 * each of the names, which end with NULL.  The exit code; what was done is printed. */
static int
authority_run(const char *dir, char *const *words, int days)
{
    struct authority a = { .dir = dir };
    char err[TLS_ERROR_MAX];
    char name[XE_DOMAIN_MAX];
    size_t i;
    bool ok;
    for (i = 0; words[i] != NULL; i++)
        if (!authority_name(words[i], name))
            return 2;
    a.tls = tls_shared_open(err);
    ok = a.tls != NULL ? authority_fill(&a, words, days) : authority_fail(dir, err);
    tls_trust_release(a.trust);
    tls_identity_release(a.ca);
    tls_shared_close(a.tls);
    return ok ? 0 : 1;
}

/* ===========================================================================
 * [MAIN]  main_ main     commands, signals, exit codes
 * calls:  BASE BUF ELEM MAP LOOP DNS TLS CONN CONFIG PORTS EDGE CONTROL AUTHORITY
 *
 * Exit codes: 0 fine, 1 what was asked for failed, 2 usage or configuration.
 * ======================================================================== */

static const char main_usage[] =
    "xmppedge " XE_VERSION ": the border of an XMPP organisation\n"
    "\n"
    "  xmppedge run FILE                 serve, in the foreground\n"
    "  xmppedge check FILE               read the configuration; print every setting in effect\n"
    "  xmppedge config [edge|gateway]    print a complete, commented example configuration\n"
    "  xmppedge ports FILE [--nft|--iptables|--json]\n"
    "                                    print the port summary, or firewall rules, of this "
        "configuration\n"
    "  xmppedge status FILE [--json]     what the running service is doing\n"
    "  xmppedge ping FILE DOMAIN         ping a domain through the running service\n"
    "  xmppedge message FILE DOMAIN      the same with a message, which an echo domain sends back\n"
    "  xmppedge authority DIR NAME... [--days N]\n"
    "                                    make an authority for the trunk in DIR, a certificate for "
        "each node\n"
    "                                    NAME, and the dialback secret; what is there is kept\n"
    "  xmppedge --version\n"
    "  xmppedge --help\n"
    "\n"
    "Signals of a running service: SIGHUP reads configuration and certificates again, SIGTERM and\n"
    "SIGINT end it in order.\n"
    "Exit codes: 0 fine, 1 what was asked for failed, 2 usage or configuration.\n";

/* ---- a command and its arguments ---- */

#define MAIN_WANTS_MAX 2   /* kinds of arguments of one command, options aside */

/* What was asked for, checked against the table of commands. */
struct main_call {
    char **given;         /* the arguments; NULL at their end */
    const char *option;   /* NULL: none */
    const char *value;    /* of the option; NULL: it takes none */
};

struct main_command {
    const char *name;
    unsigned least;                          /* arguments that must be given */
    const char *wants[MAIN_WANTS_MAX + 1];   /* what they are; with dots behind it: one or more */
    const char *options[4];                  /* one may be given, anywhere; "--x N": with a value */
    int (*perform)(const struct main_call *call);   /* the exit code */
};

/* ---- run ---- */

/* The signal handler's only memory: the writing end of a pipe that the loop watches. */
static int main_signal_fd = -1;

struct main_signals {
    struct loop_watch watch;     /* the reading end */
    struct xmppedge  *edge;      /* borrowed */
};

static void
main_on_signal(int number)
{
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    if (write(main_signal_fd, &byte, 1) < 0)
        byte = 0;   /* the pipe is full of signals already */
    errno = saved;
}

static void
main_signalled(struct loop_watch *w, unsigned events)
{
    struct main_signals *s = MAP_OWNER(w, struct main_signals, watch);
    unsigned char byte;
    (void)events;
    while (read(w->fd, &byte, 1) == 1) {
        if (byte == SIGHUP)
            xe_reload(s->edge, NULL, 0);
        else
            xe_stop(s->edge);
    }
}

/* Hold signals back, or let them come: one that arrives before its handler is there must wait. */
static void
main_hold_signals(bool held)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(held ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static bool
main_catch_signals(struct main_signals *s, struct xmppedge *e)
{
    struct sigaction act;
    int fds[2];
    if (pipe(fds) != 0 || !conn_unblock(fds[0]) || !conn_unblock(fds[1]))
        return false;
    main_signal_fd = fds[1];
    *s = (struct main_signals){ .watch = { .fd = fds[0], .ready = main_signalled }, .edge = e };
    memset(&act, 0, sizeof act);
    sigemptyset(&act.sa_mask);
    act.sa_flags = SA_RESTART;
    act.sa_handler = main_on_signal;
    sigaction(SIGHUP, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
    main_hold_signals(false);
    return loop_watch_set(&e->loop, &s->watch, LOOP_READ);
}

/* Groups first: without root there is no way to leave them. */
static bool
main_set_user(const struct passwd *pw)
{
    return initgroups(pw->pw_name, pw->pw_gid) == 0 && setgid(pw->pw_gid) == 0
        && setuid(pw->pw_uid) == 0;
}

/* What was made as root and is used later belongs to the user, too. */
static bool
main_give_files(const struct xmppedge *e, const struct passwd *pw)
{
    return lchown(e->config->control, pw->pw_uid, pw->pw_gid) == 0
        && (e->log_file < 0 || fchown(e->log_file, pw->pw_uid, pw->pw_gid) == 0);
}

/* Become the configured user, for good. */
static bool
main_drop_privileges(const struct xmppedge *e)
{
    const struct config *c = e->config;
    struct passwd *pw;
    if (c->user == NULL || geteuid() != 0)
        return true;
    pw = getpwnam(c->user);
    if (pw == NULL) {
        text_print(stderr, c->path, ": there is no user ", c->user, " on this system\n");
        return false;
    }
    if (main_give_files(e, pw) && main_set_user(pw) && setuid(0) != 0)
        return true;
    text_print(stderr, c->path, ": cannot become user ", c->user, ": ", strerror(errno), "\n");
    return false;
}

/* As many descriptors as that takes, where the system gives them. */
static void
main_allow_files(const struct config *c)
{
    struct rlimit files;
    rlim_t want = edge_files(c);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= want)
        return;
    files.rlim_cur = want < files.rlim_max ? want : files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* Serve until told to stop by a signal. */
static int
main_serve(const struct main_call *call)
{
    char message[8192];
    struct main_signals signals;
    struct xmppedge *e;
    main_hold_signals(true);
    e = xe_open(call->given[0], message, sizeof message);
    if (e == NULL) {
        text_print(stderr, message);
        return 2;
    }
    main_allow_files(e->config);
    if (!control_open(e, message, sizeof message)) {
        text_print(stderr, message);
        xe_close(e);
        return 2;
    }
    if (!main_drop_privileges(e) || !main_catch_signals(&signals, e)) {
        xe_close(e);
        return 2;
    }
    while (xe_step(e, -1))
        continue;
    loop_watch_set(&e->loop, &signals.watch, 0);
    close(signals.watch.fd);
    xe_close(e);
    return 0;
}

/* ---- the commands that only read the configuration ---- */

/* 0, or 1 with a sentence when not everything could be written to standard output.  The reason is
 * told if errno was 0 before. */
static int
main_flush(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return 0;
    fprintf(stderr, "xmppedge: cannot write to standard output%s%s\n", errno == 0 ? "" : ": ",
        errno == 0 ? "" : strerror(errno));
    return 1;
}

static int
main_print(struct buf *out)
{
    bool whole = !out->failed;
    errno = 0;
    if (whole)
        text_print(stdout, buf_text(out));
    else
        fputs("xmppedge: out of memory\n", stderr);
    buf_free(out);
    return main_flush() == 0 && whole ? 0 : 1;
}

/* check: the configuration, and the files that it names. */
static int
main_check(const struct main_call *call)
{
    struct buf out = { 0 };
    struct buf errors = { 0 };
    struct xmppedge scratch = { .state = EDGE_RUNNING };
    char err[TLS_ERROR_MAX];
    bool ok;
    scratch.config = config_load(call->given[0], &errors);
    text_print(stderr, buf_text(&errors));
    buf_clear(&errors);
    if (scratch.config == NULL) {
        buf_free(&errors);
        return 2;
    }
    scratch.tls = tls_shared_open(err);
    ok = scratch.tls != NULL && edge_load_keys(&scratch, scratch.config, &scratch.keys, &errors);
    if (ok) {
        edge_warn_keys(&scratch.keys, scratch.config, &errors);
        edge_warn_common(&scratch.keys, scratch.config, &errors);
        text_print(stderr, buf_text(&errors));
        config_print_effective(scratch.config, &out);
        edge_keys_free(&scratch.keys);
    } else {
        text_print(stderr, scratch.tls == NULL ? err : buf_text(&errors));
    }
    tls_shared_close(scratch.tls);
    config_free(scratch.config);
    buf_free(&errors);
    return ok ? main_print(&out) : 2;
}

static int
main_config(const struct main_call *call)
{
    const char *role = call->given[0];
    struct buf out = { 0 };
    if (role != NULL && strcmp(role, "edge") != 0 && strcmp(role, "gateway") != 0) {
        text_print(stderr, "xmppedge config: expected edge or gateway, found ", role, "\n");
        return 2;
    }
    config_example(role != NULL && strcmp(role, "gateway") == 0 ? CONFIG_GATEWAY : CONFIG_EDGE,
        &out);
    return main_print(&out);
}

/* The configuration without the files that it names: whoever asks about it may not read those. */
static struct config *
main_load(const char *file)
{
    struct buf messages = { 0 };
    struct config *c = config_load_alone(file, &messages);
    if (c == NULL)
        text_print(stderr, buf_text(&messages));
    buf_free(&messages);
    return c;
}

static int
main_ports(const struct main_call *call)
{
    static const struct { const char *word; enum ports_format format; } formats[] = {
        { "--nft", PORTS_NFT }, { "--iptables", PORTS_IPTABLES }, { "--json", PORTS_JSON } };
    enum ports_format format = PORTS_TABLE;
    struct ports_machine machine;
    struct buf out = { .max = CONFIG_PRINT_MAX };
    struct buf errors = { 0 };
    struct config *c = main_load(call->given[0]);
    size_t i;
    bool ok;
    if (c == NULL)
        return 2;
    for (i = 0; call->option != NULL && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(call->option, formats[i].word) == 0)
            format = formats[i].format;
    ok = ports_machine_read(&machine, c, &errors)
        && ports_print(c, format, &machine, &out, &errors);
    text_print(stderr, buf_text(&errors));
    ports_machine_free(&machine);
    config_free(c);
    buf_free(&errors);
    return ok ? main_print(&out) : 2;
}

static int
main_version(const struct main_call *call)
{
    char tls[32];
    struct buf out = { .max = 1024 };
    (void)call;
    buf_puts(&out, "xmppedge " XE_VERSION " (");
    buf_puts(&out, tls_library_name(tls));
    buf_puts(&out, ", ");
    buf_puts(&out, dns_library_name());
    buf_puts(&out, ", ");
    buf_puts(&out, elem_library_name());
    buf_puts(&out, ")\nxmppedge ");
    tls_paces_put(&out, tls_paces());
    buf_putc(&out, '\n');
    return main_print(&out);
}

static int
main_help(const struct main_call *call)
{
    (void)call;
    errno = 0;
    fputs(main_usage, stdout);
    return main_flush();
}

/* ---- the command that makes certificates ---- */

static int
main_authority(const struct main_call *call)
{
    long days = AUTHORITY_DAYS;
    char *end = NULL;
    int result;
    if (call->option != NULL)
        days = strtol(call->value, &end, 10);
    if (days < 1 || days > AUTHORITY_DAYS_MAX || (end != NULL && *end != '\0')) {
        char most[24];
        snprintf(most, sizeof most, "%d", AUTHORITY_DAYS_MAX);
        text_print(stderr, "xmppedge authority: expected a number of days from 1 to ", most,
            ", found ", call->value, "\n");
        return 2;
    }
    result = authority_run(call->given[0], call->given + 1, (int)days);
    errno = 0;   /* of something else, long ago */
    return main_flush() != 0 ? 1 : result;
}

/* ---- the commands that ask the running service ---- */

/* Ask over the control socket and print the answer.  1 when it says "failed", otherwise 0. */
/* Ask a running instance, print its answer, which ends with `end` when it is whole. */
static int
main_ask(const char *file, const char *question, const char *argument, const char *end)
{
    struct config *c = main_load(file);
    struct buf answer = { .max = CONTROL_ANSWER_MAX };
    int result;
    if (c == NULL)
        return 2;
    if (!control_ask(c->control, question, argument, &answer)) {
        text_print(stderr, c->control, ": nobody answers on the control socket (", strerror(errno),
            "): is the service running, and are you its user?\n");
        config_free(c);
        buf_free(&answer);
        return 1;
    }
    config_free(c);
    result = buf_len(&answer) == 0 || strncmp(buf_text(&answer), "failed", 6) == 0;
    if (result == 0 && !span_is(span_last(buf_span(&answer), strlen(end)), end)) {
        text_print(stderr, "xmppedge: the answer was cut short, for the service has ended, or has "
            "no memory\n");
        result = 1;
    }
    return main_print(&answer) != 0 ? 1 : result;
}

static int
main_status(const struct main_call *call)
{
    bool json = call->option != NULL;
    return main_ask(call->given[0], "status", json ? "json" : NULL,
        json ? STATUS_END_JSON : STATUS_END);
}

static int
main_ping(const struct main_call *call)
{
    return main_ask(call->given[0], "ping", call->given[1], "\n");
}

static int
main_message(const struct main_call *call)
{
    return main_ask(call->given[0], "message", call->given[1], "\n");
}

/* ---- which of them ---- */

static const struct main_command main_commands[] = {
    { "run", 1, { "FILE" }, { NULL }, main_serve },
    { "check", 1, { "FILE" }, { NULL }, main_check },
    { "config", 0, { "edge|gateway" }, { NULL }, main_config },
    { "ports", 1, { "FILE" }, { "--nft", "--iptables", "--json" }, main_ports },
    { "status", 1, { "FILE" }, { "--json" }, main_status },
    { "ping", 2, { "FILE", "DOMAIN" }, { NULL }, main_ping },
    { "message", 2, { "FILE", "DOMAIN" }, { NULL }, main_message },
    { "authority", 2, { "DIR", "NAME..." }, { "--days N" }, main_authority },
    { "--version", 0, { NULL }, { NULL }, main_version },
    { "--help", 0, { NULL }, { NULL }, main_help },
    { "-h", 0, { NULL }, { NULL }, main_help }
};

/* "xmppedge status FILE [--json]" */
static void
main_put_synopsis(const struct main_command *m)
{
    size_t i;
    fprintf(stderr, "usage: xmppedge %s", m->name);
    for (i = 0; m->wants[i] != NULL; i++)
        fprintf(stderr, i < m->least ? " %s" : " [%s]", m->wants[i]);
    for (i = 0; m->options[i] != NULL; i++)
        fprintf(stderr, "%s%s", i == 0 ? " [" : "|", m->options[i]);
    fputs(i > 0 ? "]\n" : "\n", stderr);
}

/* Say what is wrong with the arguments of a command; the exit code. */
static int
main_misused(const struct main_command *m, const char *what, const char *which)
{
    text_print(stderr, "xmppedge ", m->name, ": ", what, which, "\n");
    main_put_synopsis(m);
    return 2;
}

/* The option that a word is, as in the table of commands; NULL: it is none. */
static const char *
main_find_option(const struct main_command *m, const char *word)
{
    size_t len = strlen(word);
    size_t i;
    for (i = 0; m->options[i] != NULL; i++)
        if (strncmp(m->options[i], word, len) == 0
            && (m->options[i][len] == '\0' || m->options[i][len] == ' '))
            return m->options[i];
    return NULL;
}

/* Sort the arguments of a command, in place, then perform it. */
static int
main_perform(const struct main_command *m, char **arguments)
{
    struct main_call call = { .given = arguments };
    const char *const *wants = m->wants;
    unsigned n = 0;
    for (; *arguments != NULL; arguments++) {
        char *word = *arguments;
        const char *option = main_find_option(m, word);
        if (option != NULL) {
            if (call.option != NULL)
                return main_misused(m, "one option is enough, found also ", word);
            call.option = word;
            if (strchr(option, ' ') != NULL && (call.value = *++arguments) == NULL)
                return main_misused(m, "missing value of ", option);
        } else if (word[0] == '-' && word[1] != '\0') {
            return main_misused(m, "unknown option ", word);
        } else if (*wants == NULL) {
            return main_misused(m, "one argument too many: ", word);
        } else {
            call.given[n++] = word;
            wants += strchr(*wants, '.') == NULL ? 1 : 0;
        }
    }
    call.given[n] = NULL;
    if (n < m->least)
        return main_misused(m, "missing argument ", m->wants[n]);
    return m->perform(&call);
}

int
main(int argc, char **argv)
{
    size_t i;
    if (argc < 2) {
        fprintf(stderr, "xmppedge: a command is needed\n\n%s", main_usage);
        return 2;
    }
    for (i = 0; i < sizeof main_commands / sizeof *main_commands; i++)
        if (strcmp(argv[1], main_commands[i].name) == 0)
            return main_perform(&main_commands[i], argv + 2);
    text_print(stderr, "xmppedge: unknown ", argv[1][0] == '-' ? "option " : "command ", argv[1],
        "\nxmppedge --help lists the commands\n");
    return 2;
}

#endif /* XMPPEDGE_NO_MAIN */

#endif /* XMPPEDGE_LANGUAGE_ONLY */
