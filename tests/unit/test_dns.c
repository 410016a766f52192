/* test_dns.c -- [DNS]: answers, their order, and everything that name servers do wrong
 *
 * Reading answers, the order of RFC 2782, what two SRV answers mean together (XEP-0368).  A name
 * server made of a socket in the same loop says whatever a test wants; a real dnsmasq shows that
 * the world agrees. */
#include "cut/DNS.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <cmocka.h>

/* ---- DNS messages by hand ---- */

enum { A = 1, CNAME = 5, AAAA = 28, SRV = 33 };

struct message {
    unsigned char bytes[8192];
    size_t        len;
};

static void
put16(struct message *m, unsigned n)
{
    m->bytes[m->len++] = (unsigned char)(n >> 8);
    m->bytes[m->len++] = (unsigned char)n;
}

static void
put_name(struct message *m, const char *name)
{
    while (*name != '\0' && strcmp(name, ".") != 0) {
        size_t label = strcspn(name, ".");
        m->bytes[m->len++] = (unsigned char)label;
        memcpy(m->bytes + m->len, name, label);
        m->len += label;
        name += label + (name[label] == '.');
    }
    m->bytes[m->len++] = 0;
}

static void
message_begin(struct message *m, const char *name, unsigned type)
{
    m->len = 0;
    put16(m, 0x1234);
    put16(m, 0x8180);
    put16(m, 1);
    put16(m, 0);
    put16(m, 0);
    put16(m, 0);
    put_name(m, name);
    put16(m, type);
    put16(m, 1);
}

/* `text`: "priority weight port target" for SRV, an address, or a name for CNAME. */
static void
message_add(struct message *m, const char *owner, unsigned type, const char *text)
{
    size_t len_at;
    put_name(m, owner);
    put16(m, type);
    put16(m, 1);
    put16(m, 0);
    put16(m, 60);
    len_at = m->len;
    put16(m, 0);
    if (type == SRV) {
        unsigned priority, weight, port;
        char target[300];
        assert_int_equal(sscanf(text, "%u %u %u %299s", &priority, &weight, &port, target), 4);
        put16(m, priority);
        put16(m, weight);
        put16(m, port);
        put_name(m, target);
    } else if (type == CNAME) {
        put_name(m, text);
    } else {
        assert_int_equal(inet_pton(type == A ? AF_INET : AF_INET6, text, m->bytes + m->len), 1);
        m->len += type == A ? 4 : 16;
    }
    m->bytes[len_at] = (unsigned char)((m->len - len_at - 2) >> 8);
    m->bytes[len_at + 1] = (unsigned char)(m->len - len_at - 2);
    m->bytes[7]++;
}

#define ASKED "_xmpp-server._tcp.far.example"

static struct dns_srv got[DNS_SRV_MAX];
static size_t ngot;
static struct dns_odds odds;

/* Read from memory that ends with the message, so that the sanitizer sees a step too far. */
static enum dns_answer
read_srv(const struct message *m, size_t len)
{
    unsigned char *copy = malloc(len == 0 ? 1 : len);
    enum dns_answer answer;
    assert_non_null(copy);
    memcpy(copy, m->bytes, len);
    answer = dns_read_srv(copy, len, ASKED, got, &ngot, &odds);
    free(copy);
    return answer;
}

static void
records_are_read_and_names_become_lower_case(void **state)
{
    struct message m;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, "_XMPP-Server._TCP.Far.Example", SRV, "10 20 5269 Host.Far.Example");
    message_add(&m, ASKED, SRV, "30 0 5270 other.example");
    assert_int_equal(read_srv(&m, m.len), DNS_SOME);
    assert_int_equal(ngot, 2);
    assert_string_equal(got[0].host, "host.far.example");
    assert_int_equal(got[0].priority, 10);
    assert_int_equal(got[0].weight, 20);
    assert_int_equal(got[0].port, 5269);
    assert_string_equal(got[1].host, "other.example");
}

static void
records_of_other_names_and_types_are_ignored(void **state)
{
    struct message m;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, "_xmpp-server._tcp.evil.example", SRV, "0 0 1 evil.example");
    message_add(&m, ASKED, A, "192.0.2.1");
    assert_int_equal(read_srv(&m, m.len), DNS_NONE);
    assert_int_equal(ngot, 0);
}

static void
an_alias_of_the_service_is_followed(void **state)
{
    struct message m;
    int i;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, CNAME, "_srv.hoster.example");
    message_add(&m, "_srv.hoster.example", SRV, "0 0 5269 x.hoster.example");
    message_add(&m, ASKED, SRV, "0 0 1 late.example");
    assert_int_equal(read_srv(&m, m.len), DNS_SOME);
    assert_int_equal(ngot, 1);
    assert_string_equal(got[0].host, "x.hoster.example");
    message_begin(&m, ASKED, SRV);
    for (i = 0; i <= DNS_ALIASES_MAX; i++)
        message_add(&m, ASKED, CNAME, ASKED);
    assert_int_equal(read_srv(&m, m.len), DNS_BROKEN);
}

static void
a_dot_refuses_only_when_it_is_alone(void **state)
{
    struct message m;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, SRV, "0 0 0 .");
    assert_int_equal(read_srv(&m, m.len), DNS_REFUSED);
    message_add(&m, ASKED, SRV, "0 0 5269 x.example");
    assert_int_equal(read_srv(&m, m.len), DNS_SOME);
    assert_int_equal(ngot, 1);
}

static void
records_without_sense_are_left_out(void **state)
{
    struct message m;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, SRV, "0 0 0 port.example");
    message_add(&m, ASKED, SRV, "0 0 5269 192.0.2.1");
    message_add(&m, ASKED, SRV, "0 0 5269 good.example");
    assert_int_equal(read_srv(&m, m.len), DNS_SOME);
    assert_int_equal(ngot, 1);
    assert_string_equal(got[0].host, "good.example");
    assert_int_equal(odds.all, 2);
    assert_string_equal(odds.list[0].host, "port.example");
    assert_string_equal(odds.list[0].fault, "port 0 is none");
    assert_string_equal(odds.list[1].host, "192.0.2.1");
    assert_string_equal(odds.list[1].fault, "the target is an address: it must be a name");
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, SRV, "0 0 0 port.example");
    message_add(&m, ASKED, SRV, "0 0 5269 192.0.2.1");
    message_add(&m, ASKED, SRV, "0 0 5269 quo\"te.example");
    assert_int_equal(read_srv(&m, m.len), DNS_BROKEN);
    assert_int_equal(ngot, 0);
    assert_int_equal(odds.n, 3);
    assert_string_equal(odds.list[2].fault, "the target is no name of a host");
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, SRV, "0 0 5269 192.0.2.1");
    assert_int_equal(read_srv(&m, m.len), DNS_ADDRESS);
    assert_int_equal(ngot, 0);
}

static void
a_long_list_is_cut_at_its_ceiling(void **state)
{
    struct message m;
    int i;
    (void)state;
    message_begin(&m, ASKED, SRV);
    for (i = 0; i < 40; i++) {
        char text[64];
        snprintf(text, sizeof text, "%d 0 5269 h%d.example", i, i);
        message_add(&m, ASKED, SRV, text);
    }
    assert_int_equal(read_srv(&m, m.len), DNS_SOME);
    assert_int_equal(ngot, DNS_SRV_MAX);
    assert_int_equal(odds.all, 40 - DNS_SRV_MAX);
    assert_int_equal(odds.n, DNS_ODD_MAX);
    assert_string_equal(odds.list[0].host, "h16.example");
}

static void
a_message_cut_anywhere_is_never_an_answer_without_records(void **state)
{
    struct message m;
    size_t len;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, CNAME, "_srv.hoster.example");
    message_add(&m, "_srv.hoster.example", SRV, "0 0 5269 x.hoster.example");
    assert_int_equal(read_srv(&m, m.len), DNS_SOME);
    for (len = 0; len < m.len; len++)
        assert_int_equal(read_srv(&m, len), DNS_BROKEN);
}

static void
changed_bytes_do_no_harm(void **state)
{
    struct message m, bent;
    uint32_t r = 1;
    int i, j;
    (void)state;
    message_begin(&m, ASKED, SRV);
    message_add(&m, ASKED, CNAME, "_srv.hoster.example");
    message_add(&m, "_srv.hoster.example", SRV, "0 0 5269 x.hoster.example");
    message_add(&m, "_srv.hoster.example", SRV, "1 0 5269 y.hoster.example");
    for (i = 0; i < 20000; i++) {
        bent = m;
        for (j = 0; j < 1 + i % 4; j++) {
            r = r * 1664525u + 1013904223u;
            bent.bytes[(r >> 8) % m.len] = (unsigned char)(r >> 24);
        }
        read_srv(&bent, m.len);
        assert_true(ngot <= DNS_SRV_MAX && odds.n <= DNS_ODD_MAX);
    }
}

static void
names_of_hosts_are_checked(void **state)
{
    char out[DNS_NAME_MAX + 1];
    char text[300];
    (void)state;
    assert_true(dns_name_copy(out, span_of("A-b_1.Example.")));
    assert_string_equal(out, "a-b_1.example");
    assert_true(dns_name_copy(out, span_of("localhost")));
    assert_true(dns_name_copy(out, span_of("xn--bcher-kva.example")));
    assert_false(dns_name_copy(out, span_of("")));
    assert_false(dns_name_copy(out, span_of(".")));
    assert_false(dns_name_copy(out, span_of("a..b")));
    assert_false(dns_name_copy(out, span_of(".a")));
    assert_false(dns_name_copy(out, span_of("a b")));
    assert_false(dns_name_copy(out, span_of("b\xc3\xbc" "cher.example")));
    assert_false(dns_name_copy(out, span_of("192.0.2.1")));
    assert_false(dns_name_copy(out, span_make("a\0b", 3)));
    memset(text, 'a', sizeof text);
    assert_true(dns_name_copy(out, span_make(text, JID_LABEL_MAX)));
    assert_false(dns_name_copy(out, span_make(text, JID_LABEL_MAX + 1)));
    text[63] = text[127] = text[191] = '.';
    assert_true(dns_name_copy(out, span_make(text, DNS_NAME_MAX)));
    assert_false(dns_name_copy(out, span_make(text, DNS_NAME_MAX + 1)));
}

/* ---- order ---- */

static uint32_t
draw_lowest(void *user)
{
    (void)user;
    return 0;
}

static uint32_t
draw_highest(void *user)
{
    (void)user;
    return UINT32_MAX;
}

static uint32_t
draw_evenly(void *user)
{
    struct dns d = { .random = *(uint64_t *)user };
    uint32_t r = dns_random(&d);
    *(uint64_t *)user = d.random;
    return r;
}

static struct dns_srv
srv_make(unsigned priority, unsigned weight, const char *host)
{
    struct dns_srv s = { .priority = (uint16_t)priority, .weight = (uint16_t)weight, .port = 5269 };
    snprintf(s.host, sizeof s.host, "%s", host);
    return s;
}

static void
lower_priorities_come_first(void **state)
{
    struct dns_srv list[5];
    uint64_t seed = 7;
    int i;
    (void)state;
    for (i = 0; i < 50; i++) {
        list[0] = srv_make(30, 65535, "d");
        list[1] = srv_make(10, 0, "a");
        list[2] = srv_make(65535, 65535, "e");
        list[3] = srv_make(20, 1, "b");
        list[4] = srv_make(20, 1, "c");
        dns_order(list, 5, draw_evenly, &seed);
        assert_string_equal(list[0].host, "a");
        assert_true(list[1].host[0] + list[2].host[0] == 'b' + 'c');
        assert_string_equal(list[3].host, "d");
        assert_string_equal(list[4].host, "e");
    }
    dns_order(list, 0, draw_evenly, &seed);
    dns_order(list, 1, draw_evenly, &seed);
}

static void
weights_decide_how_often_a_record_is_first(void **state)
{
    unsigned first[3] = { 0, 0, 0 };
    unsigned second_after_a[3] = { 0, 0, 0 };
    uint64_t seed = 42;
    int i;
    (void)state;
    for (i = 0; i < 20000; i++) {
        struct dns_srv list[3];
        list[i % 3] = srv_make(0, 600, "a");   /* wherever it stands in the answer */
        list[(i + 1) % 3] = srv_make(0, 300, "b");
        list[(i + 2) % 3] = srv_make(0, 100, "c");
        dns_order(list, 3, draw_evenly, &seed);
        first[list[0].host[0] - 'a']++;
        if (list[0].host[0] == 'a')
            second_after_a[list[1].host[0] - 'a']++;
    }
    assert_in_range(first[0], 11500, 12500);
    assert_in_range(first[1], 5500, 6500);
    assert_in_range(first[2], 1600, 2400);
    assert_in_range(second_after_a[1] * 100 / first[0], 71, 79);   /* 300 of 400 */
}

static void
a_weight_of_zero_has_a_small_chance(void **state)
{
    unsigned first[2] = { 0, 0 };
    uint64_t seed = 42;
    int i;
    (void)state;
    for (i = 0; i < 20000; i++) {
        struct dns_srv list[2];
        list[0] = srv_make(0, 9, "a");
        list[1] = srv_make(0, 0, "b");
        dns_order(list, 2, draw_evenly, &seed);
        first[list[0].host[0] - 'a']++;
    }
    assert_in_range(first[1], 1700, 2300);   /* one in ten: 0 of 0..9 */
}

static void
records_without_weights_share_the_load(void **state)
{
    unsigned first[4] = { 0, 0, 0, 0 };
    uint64_t seed = 42;
    int i;
    (void)state;
    for (i = 0; i < 8000; i++) {
        struct dns_srv list[4];
        list[0] = srv_make(0, 0, "a");
        list[1] = srv_make(0, 0, "b");
        list[2] = srv_make(0, 0, "c");
        list[3] = srv_make(0, 0, "d");
        dns_order(list, 4, draw_evenly, &seed);
        first[list[0].host[0] - 'a']++;
    }
    for (i = 0; i < 4; i++)
        assert_in_range(first[i], 1800, 2200);
}

static void
the_ends_of_the_random_range_are_in_range(void **state)
{
    struct dns_srv list[3] = { srv_make(0, 5, "a"), srv_make(0, 0, "b"), srv_make(0, 5, "c") };
    (void)state;
    dns_order(list, 3, draw_lowest, NULL);
    assert_string_equal(list[0].host, "b");
    dns_order(list, 3, draw_highest, NULL);
    assert_string_not_equal(list[0].host, "b");
}

/* ---- a name server in the same loop ---- */

enum how { ANSWER, NXDOMAIN, NODATA, SERVFAIL, REFUSED, SILENCE, GARBAGE, SHORT };

struct rule {
    const char *name;
    unsigned    type;
    enum how    how;
    const char *text[12];   /* of records for `name` and `type`; "@name" is a CNAME */
};

static struct {
    struct loop_watch  watch;
    unsigned           port;
    const struct rule *rules;
    unsigned           asked;     /* questions in all */
    unsigned           asked_addresses;
} ns;

static struct loop loop;
static struct dns *dns;
static struct log dns_log;
static char logged[4096];

static const struct rule *
ns_rule(const char *name, unsigned type)
{
    const struct rule *r;
    for (r = ns.rules; r->name != NULL; r++)
        if (strcmp(r->name, name) == 0 && (r->type == type || r->type == 0))
            return r;
    return NULL;
}

static void
ns_answer(struct message *m, const struct rule *r, const char *name, unsigned type)
{
    size_t i;
    message_begin(m, name, type);
    for (i = 0; r != NULL && r->how == ANSWER && r->text[i] != NULL; i++) {
        const char *text = r->text[i];
        if (text[0] == '@') {
            message_add(m, name, CNAME, text + 1);
            name = text + 1;
        } else {
            message_add(m, name, type, text);
        }
    }
    if (r == NULL || r->how == NXDOMAIN)
        m->bytes[3] |= 3;
    else if (r->how == SERVFAIL)
        m->bytes[3] |= 2;
    else if (r->how == REFUSED)
        m->bytes[3] |= 5;
}

static void
ns_ready(struct loop_watch *w, unsigned events)
{
    unsigned char bytes[600];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    struct dns_message q = { bytes, 0, 12, false };
    struct message m;
    char name[DNS_NAME_MAX + 1];
    unsigned type;
    const struct rule *r;
    ssize_t n = recvfrom(w->fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &from_len);
    (void)events;
    assert_true(n > 12);
    q.len = (size_t)n;
    dns_message_name(&q, name);
    type = dns_message_u16(&q);
    assert_false(q.bad);
    ns.asked++;
    ns.asked_addresses += type == A || type == AAAA;
    r = ns_rule(name, type);
    if (r != NULL && r->how == SILENCE)
        return;
    ns_answer(&m, r, name, type);
    memcpy(m.bytes, bytes, 2);
    if (r != NULL && r->how == GARBAGE)   /* the id alone is right */
        memset(m.bytes + 12, 0xc0, m.len - 12);
    if (r != NULL && r->how == SHORT)
        m.len = 9;
    sendto(w->fd, m.bytes, m.len, 0, (struct sockaddr *)&from, from_len);
}

static void
log_sink(void *user, int priority, const char *line, size_t len)
{
    (void)user;
    (void)priority;
    if (strlen(logged) + len < sizeof logged)
        strncat(logged, line, len);
}

static int
setup(void **state)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    struct dns_options o;
    (void)state;
    memset(&ns, 0, sizeof ns);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ns.watch.fd = socket(AF_INET, SOCK_DGRAM, 0);
    ns.watch.ready = ns_ready;
    if (bind(ns.watch.fd, (struct sockaddr *)&at, len) != 0
        || getsockname(ns.watch.fd, (struct sockaddr *)&at, &len) != 0)
        return -1;
    ns.port = ntohs(at.sin_port);
    memset(&dns_log, 0, sizeof dns_log);
    dns_log.level = LOG_DEBUG;
    dns_log.sink = log_sink;
    logged[0] = '\0';
    memset(&o, 0, sizeof o);
    snprintf(o.servers[0].address, sizeof o.servers[0].address, "127.0.0.1");
    o.servers[0].port = ns.port;
    o.nservers = 1;
    o.timeout_ms = 200;
    o.tries = 2;
    if (!loop_open(&loop) || !loop_watch_set(&loop, &ns.watch, LOOP_READ))
        return -1;
    return dns_open(&dns, &loop, &o, &dns_log) ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    dns_close(dns);
    dns = NULL;
    loop_watch_set(&loop, &ns.watch, 0);
    close(ns.watch.fd);
    loop_close(&loop);
    buf_free(&dns_log.line);
    return 0;
}

/* ---- asking it ---- */

struct outcome {
    unsigned          times;
    enum xe_why       why;
    size_t            n;
    struct dns_target targets[DNS_TARGETS_MAX];
    char              text[4096];   /* one target a line: host address port kind */
    bool              close_dns;
};

static void
outcome_done(void *user, enum xe_why why, const struct dns_target *targets, size_t n)
{
    struct outcome *o = user;
    size_t i;
    o->times++;
    o->why = why;
    o->n = n;
    o->text[0] = '\0';
    assert_true(n <= DNS_TARGETS_MAX);
    assert_true((why == XE_WHY_NONE) == (n > 0));
    for (i = 0; i < n; i++) {
        char host[64], port[16];
        o->targets[i] = targets[i];
        assert_int_equal(getnameinfo((const struct sockaddr *)&targets[i].addr, targets[i].addr_len,
            host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV), 0);
        snprintf(o->text + strlen(o->text), sizeof o->text - strlen(o->text), "%s %s %s %s\n",
            targets[i].host, host, port, targets[i].direct_tls ? "direct" : "starttls");
    }
    if (o->close_dns) {
        dns_close(dns);
        dns = NULL;
    }
}

static const struct dns_events outcome_events = { outcome_done, NULL };

static void
run_until_done(struct outcome *o)
{
    int64_t until = loop_clock() + 10000;
    while (o->times == 0 && loop_clock() < until)
        assert_true(loop_step(&loop, 100));
    assert_int_equal(o->times, 1);
}

static struct outcome out;
static const struct log_party ours = { .whom = LOG_PARTNER };

static void
find_servers(const char *domain, enum dns_tls tls)
{
    memset(&out, 0, sizeof out);
    assert_non_null(dns_find_servers(dns, domain, tls, &ours, &outcome_events, &out));
    assert_int_equal(out.times, 0);   /* never from within the call */
    run_until_done(&out);
}

static void
find_address(const char *host, unsigned port)
{
    memset(&out, 0, sizeof out);
    assert_non_null(dns_find_address(dns, host, (uint16_t)port, true, &outcome_events, &out));
    assert_int_equal(out.times, 0);
    run_until_done(&out);
}

#define XMPPS "_xmpps-server._tcp.far.example"
#define XMPP  "_xmpp-server._tcp.far.example"

static void
both_kinds_of_record_are_mixed_by_priority(void **state)
{
    static const struct rule rules[] = {
        { XMPPS, SRV, ANSWER, { "20 0 5270 a.far.example", "5 0 443 b.far.example" } },
        { XMPP, SRV, ANSWER, { "10 0 5269 a.far.example", "30 0 5269 c.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "b.far.example", A, ANSWER, { "127.1.0.2" } },
        { "c.far.example", AAAA, ANSWER, { "::1" } },
        { "a.far.example", 0, NODATA, { 0 } },
        { "b.far.example", 0, NODATA, { 0 } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("Far.Example", DNS_TLS_ANY);
    assert_string_equal(out.text,
        "b.far.example 127.1.0.2 443 direct\n"
        "a.far.example 127.1.0.1 5269 starttls\n"
        "a.far.example 127.1.0.1 5270 direct\n"
        "c.far.example ::1 5269 starttls\n");
    assert_int_equal(out.targets[1].priority, 10);
    assert_int_equal(ns.asked, 8);   /* two services, three hosts twice: a.far.example once */
}

static void
one_kind_is_asked_for_when_only_one_will_do(void **state)
{
    static const struct rule rules[] = {
        { XMPPS, SRV, ANSWER, { "0 0 5270 a.far.example" } },
        { XMPP, SRV, ANSWER, { "0 0 5269 a.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_STARTTLS_ONLY);
    assert_string_equal(out.text, "a.far.example 127.1.0.1 5269 starttls\n");
    find_servers("far.example", DNS_TLS_DIRECT_ONLY);
    assert_string_equal(out.text, "a.far.example 127.1.0.1 5270 direct\n");
}

static void
without_any_srv_record_the_domain_itself_is_the_server(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, NODATA, { 0 } },
        { "far.example", A, ANSWER, { "127.1.0.1" } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "far.example 127.1.0.1 5269 starttls\n");
    find_servers("far.example", DNS_TLS_DIRECT_ONLY);   /* direct TLS has no port of its own */
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
}

static void
a_domain_that_does_not_exist_is_not_found(void **state)
{
    static const struct rule rules[] = { { 0 } };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
    find_address("far.example", 5269);
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
}

/* What two answers mean together. */
static void
the_table_of_srv_answers_holds(void **state)
{
    static const struct {
        enum how    xmpps, xmpp;
        const char *xmpps_text, *xmpp_text;
        enum xe_why why;
        const char *kind;       /* of the only target */
        bool        fall_back;
    } rows[] = {
        { ANSWER, NXDOMAIN, "0 0 0 .", NULL, XE_WHY_DNS_NO_SERVICE, NULL, false },
        { NXDOMAIN, ANSWER, NULL, "0 0 0 .", XE_WHY_DNS_NO_SERVICE, NULL, false },
        { ANSWER, ANSWER, "0 0 0 .", "0 0 0 .", XE_WHY_DNS_NO_SERVICE, NULL, false },
        { NXDOMAIN, ANSWER, NULL, "0 0 5269 192.0.2.1", XE_WHY_DNS_TARGET, NULL, false },
        { SERVFAIL, ANSWER, NULL, "0 0 5269 192.0.2.1", XE_WHY_DNS_TARGET, NULL, false },
        { ANSWER, ANSWER, "0 0 0 .", "0 0 5269 192.0.2.1", XE_WHY_DNS_TARGET, NULL, false },
        { ANSWER, ANSWER, "0 0 0 .", "0 0 5269 a.far.example", XE_WHY_NONE, "starttls", false },
        { ANSWER, ANSWER, "0 0 5270 a.far.example", "0 0 0 .", XE_WHY_NONE, "direct", false },
        { ANSWER, NODATA, "0 0 5270 a.far.example", NULL, XE_WHY_NONE, "direct", false },
        { ANSWER, SERVFAIL, "0 0 5270 a.far.example", NULL, XE_WHY_NONE, "direct", false },
#if ARES_VERSION < 0x011c00   /* newer ones drop the socket, and with it the question beside */
        { GARBAGE, ANSWER, NULL, "0 0 5269 a.far.example", XE_WHY_NONE, "starttls", false },
#endif
        { NODATA, NXDOMAIN, NULL, NULL, XE_WHY_NONE, "starttls", true },
        { SERVFAIL, NXDOMAIN, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { NXDOMAIN, SERVFAIL, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { REFUSED, REFUSED, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { GARBAGE, GARBAGE, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { SHORT, NXDOMAIN, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { SILENCE, NXDOMAIN, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { NXDOMAIN, SILENCE, NULL, NULL, XE_WHY_DNS_FAILED, NULL, false },
        { ANSWER, SERVFAIL, "0 0 0 .", NULL, XE_WHY_DNS_FAILED, NULL, false },
        { ANSWER, NXDOMAIN, "0 0 0 a.far.example", NULL, XE_WHY_DNS_FAILED, NULL, false },
        { SILENCE, ANSWER, NULL, "0 0 5269 a.far.example", XE_WHY_NONE, "starttls", false },
    };
    size_t i;
    (void)state;
    teardown(NULL);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rule rules[] = {
            { XMPPS, SRV, rows[i].xmpps, { rows[i].xmpps_text } },
            { XMPP, SRV, rows[i].xmpp, { rows[i].xmpp_text } },
            { "a.far.example", A, ANSWER, { "127.1.0.1" } },
            { "far.example", A, ANSWER, { "127.1.0.9" } },
            { 0 }
        };
        assert_int_equal(setup(NULL), 0);
        ns.rules = rules;
        find_servers("far.example", DNS_TLS_ANY);
        if (out.why != rows[i].why || (out.n > 0 && strstr(out.text, rows[i].kind) == NULL))
            fail_msg("row %u: why=%s %s", (unsigned)i, xe_why(out.why)->word, out.text);
        assert_int_equal(out.n, rows[i].kind == NULL ? 0 : 1);
        if (out.why != XE_WHY_NONE)   /* nobody looks for the domain itself */
            assert_int_equal(ns.asked_addresses, 0);
        else
            assert_true((strstr(out.text, "127.1.0.9") != NULL) == rows[i].fall_back);
        teardown(NULL);
    }
    assert_int_equal(setup(NULL), 0);
}

static void
a_silent_name_server_is_a_failure_and_takes_its_time(void **state)
{
    static const struct rule rules[] = {
        { XMPPS, 0, SILENCE, { 0 } }, { XMPP, 0, SILENCE, { 0 } }, { 0 }
    };
    int64_t start = loop_clock();
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_FAILED);
    assert_in_range(loop_clock() - start, 200, 5000);
    assert_true(ns.asked >= 4);   /* two tries */
}

static void
addresses_take_turns_and_begin_with_ipv6(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 a.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1", "127.1.0.2", "127.1.0.3", "127.1.0.1" } },
        { "a.far.example", AAAA, ANSWER, { "::1", "2001:db8::2" } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_string_equal(out.text,
        "a.far.example ::1 5269 starttls\n"
        "a.far.example 127.1.0.1 5269 starttls\n"
        "a.far.example 2001:db8::2 5269 starttls\n"
        "a.far.example 127.1.0.2 5269 starttls\n"
        "a.far.example 127.1.0.3 5269 starttls\n");
}

static void
lists_of_addresses_have_ceilings(void **state)
{
#define TEN "127.1.0.1", "127.1.0.2", "127.1.0.3", "127.1.0.4", "127.1.0.5", \
    "127.1.0.6", "127.1.0.7", "127.1.0.8", "127.1.0.9", "127.1.0.10"
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 1 a.far.example", "1 0 1 b.far.example", "2 0 2 a.far.example",
            "3 0 3 a.far.example", "4 0 4 a.far.example", "5 0 5 a.far.example" } },
        { "a.far.example", A, ANSWER, { TEN } },
        { "b.far.example", A, ANSWER, { TEN } },
        { 0 }
    };
#undef TEN
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_int_equal(out.n, DNS_TARGETS_MAX);
    /* b.far.example has the addresses and port of a.far.example: nothing new */
    assert_null(strstr(out.text, "b.far.example"));
    assert_non_null(strstr(out.text, "a.far.example 127.1.0.8 1 starttls\n"
        "a.far.example 127.1.0.1 2 starttls\n"));
}

static void
addresses_that_are_nobodys_are_left_out(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 a.far.example" } },
        { "a.far.example", A, ANSWER, { "0.0.0.0", "224.0.0.1", "255.255.255.255" } },
        { "a.far.example", AAAA, ANSWER, { "::", "ff02::1" } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_address("a.far.example", 5269);
    assert_int_equal(out.why, XE_WHY_ADDRESS_REFUSED);
    find_servers("far.example", DNS_TLS_ANY);   /* where it leads is another's business, and told */
    assert_string_equal(out.text, "a.far.example :: 5269 starttls\n"
        "a.far.example 0.0.0.0 5269 starttls\na.far.example ff02::1 5269 starttls\n"
        "a.far.example 224.0.0.1 5269 starttls\na.far.example 255.255.255.255 5269 starttls\n");
}

static void
one_family_is_enough_when_the_other_fails(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 a.far.example", "1 0 5269 b.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "a.far.example", AAAA, SERVFAIL, { 0 } },
        { "b.far.example", A, ANSWER, { "127.1.0.2" } },
        { "b.far.example", AAAA, SILENCE, { 0 } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "a.far.example 127.1.0.1 5269 starttls\n"
        "b.far.example 127.1.0.2 5269 starttls\n");
}

static void
a_late_answer_does_not_hold_up_a_good_one(void **state)
{
    static const struct rule rules[] = {
        { XMPPS, SRV, SILENCE, { 0 } },
        { XMPP, SRV, ANSWER, { "0 0 5269 a.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "a.far.example", AAAA, SILENCE, { 0 } },
        { 0 }
    };
    struct dns_options o = { .servers = { { "127.0.0.1", 0 } }, .nservers = 1,
        .timeout_ms = 4000, .tries = 1 };
    int64_t start;
    (void)state;
    ns.rules = rules;
    dns_close(dns);
    o.servers[0].port = ns.port;
    assert_true(dns_open(&dns, &loop, &o, &dns_log));
    start = loop_clock();
    find_servers("far.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "a.far.example 127.1.0.1 5269 starttls\n");
    assert_in_range(loop_clock() - start, 2 * DNS_PATIENCE_MS - 50, 3500);
    assert_non_null(strstr(logged, "problem=late"));
}

static void
targets_without_addresses_are_passed_over(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 gone.far.example", "1 0 5269 a.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "a.far.example", AAAA, NODATA, { 0 } },
        { 0 }
    };
    static const struct rule broken[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 gone.far.example", "1 0 5269 b.far.example" } },
        { "b.far.example", A, SERVFAIL, { 0 } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "a.far.example 127.1.0.1 5269 starttls\n");
    teardown(NULL);
    assert_int_equal(setup(NULL), 0);
    ns.rules = broken;
    find_servers("far.example", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_FAILED);
}

static void
an_alias_as_target_works_and_is_reported(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 alias.far.example" } },
        { "alias.far.example", A, ANSWER, { "@real.far.example", "127.1.0.1" } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "alias.far.example 127.1.0.1 5269 starttls\n");
    assert_non_null(strstr(logged,
        "dns-target-is-alias domain=far.example target=alias.far.example"));
}

static void
addresses_need_no_name_server(void **state)
{
    static const struct rule rules[] = { { 0 } };
    (void)state;
    ns.rules = rules;
    find_address("127.0.0.9", 5000);
    assert_string_equal(out.text, "127.0.0.9 127.0.0.9 5000 direct\n");
    find_address("::1", 5000);
    assert_string_equal(out.text, "::1 ::1 5000 direct\n");
    find_servers("[::1]", DNS_TLS_ANY);
    assert_string_equal(out.text, "[::1] ::1 5269 starttls\n");
    find_servers("127.0.0.9", DNS_TLS_ANY);
    assert_string_equal(out.text, "127.0.0.9 127.0.0.9 5269 starttls\n");
    find_address("0.0.0.0", 5000);
    assert_int_equal(out.why, XE_WHY_ADDRESS_REFUSED);
    assert_int_equal(ns.asked, 0);
}

/* A name of the hosts file, and its address; localhost is not taken, which c-ares knows by itself.
 * False when there is none: a bare chroot has none. */
static bool
name_of_the_hosts_file(char address[64], char name[64])
{
    FILE *f = fopen("/etc/hosts", "r");
    char line[256];
    char copy[DNS_NAME_MAX + 1];
    bool found = false;
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
        found = sscanf(line, "%63[0-9.] %63s", address, name) == 2
            && strcmp(name, "localhost") != 0 && dns_name_copy(copy, span_of(name));
    if (f != NULL)
        fclose(f);
    return found;
}

static void
the_hosts_file_answers_for_names_of_the_configuration(void **state)
{
    static const struct rule rules[] = { { 0 } };
    char address[64], name[64], text[192];
    (void)state;
    if (!name_of_the_hosts_file(address, name)) {
        print_message("# no name but localhost in /etc/hosts here\n");
        return;
    }
    ns.rules = rules;
    find_address(name, 5000);
    assert_int_equal(ns.asked, 0);
    snprintf(text, sizeof text, "%s %s 5000 direct\n", name, address);
    assert_non_null(strstr(out.text, text));
    assert_int_equal(out.targets[0].given, REACH_ADDRESS_GIVEN | REACH_PORT_GIVEN);
}

static void
names_from_the_network_never_meet_the_hosts_file(void **state)
{
    char address[64], name[64], srv[128], text[128];
    struct rule rules[] = { { XMPP, SRV, ANSWER, { srv } }, { name, A, ANSWER, { "127.1.0.7" } },
        { 0 } };
    (void)state;
    if (!name_of_the_hosts_file(address, name)) {
        print_message("# no name but localhost in /etc/hosts here\n");
        return;
    }
    ns.rules = rules;
    snprintf(srv, sizeof srv, "0 0 5000 %s", name);
    find_servers("far.example", DNS_TLS_ANY);   /* as the target of a record */
    snprintf(text, sizeof text, "%s 127.1.0.7 5000 starttls\n", name);
    assert_string_equal(out.text, text);
    assert_int_equal(out.targets[0].given, 0);
    rules[0].name = "none.example";
    find_servers(name, DNS_TLS_STARTTLS_ONLY);   /* and as a domain without records */
    snprintf(text, sizeof text, "%s 127.1.0.7 5269 starttls\n", name);
    assert_string_equal(out.text, text);
    assert_int_equal(out.targets[0].given, 0);
}

static void
each_target_says_what_of_it_the_configuration_has_given(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 22 a.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "a.far.example", AAAA, ANSWER, { "::ffff:127.1.0.1" } },
        { 0 }
    };
    (void)state;
    ns.rules = rules;
    find_servers("far.example", DNS_TLS_ANY);
    assert_int_equal(out.n, 2);
    assert_int_equal(out.targets[0].given | out.targets[1].given, 0);
    find_servers("127.0.0.9", DNS_TLS_ANY);
    assert_int_equal(out.targets[0].given, 0);
    find_servers("[::1]", DNS_TLS_ANY);
    assert_int_equal(out.targets[0].given, 0);
    find_address("a.far.example", 22);
    assert_int_equal(out.n, 2);
    assert_int_equal(out.targets[0].given, REACH_PORT_GIVEN);
    assert_int_equal(out.targets[1].given, REACH_PORT_GIVEN);
    find_address("127.0.0.9", 22);
    assert_int_equal(out.targets[0].given, REACH_ADDRESS_GIVEN | REACH_PORT_GIVEN);
    find_address("::1", 22);
    assert_int_equal(out.targets[0].given, REACH_ADDRESS_GIVEN | REACH_PORT_GIVEN);
}

static void
names_that_cannot_exist_are_not_asked_for(void **state)
{
    static const struct rule rules[] = { { 0 } };
    char longest[DNS_NAME_MAX + 1];
    (void)state;
    ns.rules = rules;
    find_servers("b\xc3\xbc" "cher.example", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
    find_servers("", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
    find_address("a..b", 1);
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
    assert_int_equal(ns.asked, 0);
    memset(longest, 'a', DNS_NAME_MAX);
    longest[63] = longest[127] = longest[191] = '.';
    longest[DNS_NAME_MAX] = '\0';
    find_servers(longest, DNS_TLS_ANY);   /* no room for a service in front: the fall-back */
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
    assert_int_equal(ns.asked_addresses, 2);
}

static void
a_cancelled_query_is_never_done(void **state)
{
    static const struct rule rules[] = {
        { XMPP, SRV, ANSWER, { "0 0 5269 a.far.example" } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { 0 }
    };
    struct dns_query *q;
    int step;
    (void)state;
    ns.rules = rules;
    memset(&out, 0, sizeof out);
    for (step = 0; step < 6; step++) {   /* after every turn of its life */
        int i;
        q = dns_find_servers(dns, "far.example", DNS_TLS_ANY, &ours, &outcome_events, &out);
        assert_non_null(q);
        for (i = 0; i < step && out.times == 0; i++)
            loop_step(&loop, 20);
        if (out.times == 0)
            dns_cancel(q);
        out.times = 0;
        for (i = 0; i < 10; i++)
            loop_step(&loop, 5);
        assert_int_equal(out.times, 0);
    }
    q = dns_find_address(dns, "127.0.0.1", 1, false, &outcome_events, &out);
    dns_cancel(q);
    loop_step(&loop, 5);
    assert_int_equal(out.times, 0);
    assert_true(list_empty(&dns->queries));
}

static void
closing_forgets_the_queries_that_run(void **state)
{
    static const struct rule rules[] = {
        { XMPPS, 0, SILENCE, { 0 } }, { XMPP, 0, SILENCE, { 0 } }, { 0 }
    };
    int i;
    (void)state;
    ns.rules = rules;
    memset(&out, 0, sizeof out);
    for (i = 0; i < 20; i++)
        assert_non_null(dns_find_servers(dns, "far.example", DNS_TLS_ANY, &ours,
            &outcome_events, &out));
    loop_step(&loop, 5);
    dns_close(dns);
    dns = NULL;
    loop_step(&loop, 5);
    assert_int_equal(out.times, 0);
}

static void
dns_may_be_closed_by_whom_it_answers(void **state)
{
    static const struct rule rules[] = { { 0 } };
    (void)state;
    ns.rules = rules;
    memset(&out, 0, sizeof out);
    out.close_dns = true;
    assert_non_null(dns_find_servers(dns, "far.example", DNS_TLS_DIRECT_ONLY, &ours,
        &outcome_events, &out));
    run_until_done(&out);
    assert_null(dns);
}

static void
dns_may_be_closed_while_late_questions_are_open(void **state)
{
    static const struct rule rules[] = {
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "a.far.example", AAAA, SILENCE, { 0 } },
        { 0 }
    };
    struct dns_options o = { .servers = { { "127.0.0.1", 0 } }, .nservers = 1,
        .timeout_ms = 5000, .tries = 1 };
    (void)state;
    ns.rules = rules;
    dns_close(dns);
    o.servers[0].port = ns.port;
    assert_true(dns_open(&dns, &loop, &o, NULL));
    memset(&out, 0, sizeof out);
    out.close_dns = true;
    assert_non_null(dns_find_address(dns, "a.far.example", 5269, false, &outcome_events, &out));
    run_until_done(&out);
    assert_int_equal(out.n, 1);
}

/* As when the system had no memory for the watch.  c-ares asks all that comes through the socket
 * that it has: none of those questions may have to wait until it gives one up. */
static void
a_socket_that_could_not_be_watched_is_heard_when_something_else_is_asked(void **state)
{
    static const struct rule rules[] = {
        { "silent.example", 0, SILENCE, { 0 } },
        { "a.far.example", A, ANSWER, { "127.1.0.1" } },
        { "a.far.example", AAAA, NODATA, { 0 } },
        { 0 }
    };
    struct outcome silent = { .times = 0 };
    unsigned asked;
    size_t i;
    (void)state;
    ns.rules = rules;
    assert_non_null(dns_find_address(dns, "silent.example", 1, false, &outcome_events, &silent));
    assert_true(dns_socket_find(dns, -1) != &dns->sockets[0]);
    for (i = 0; i < DNS_SOCKETS_MAX; i++)
        loop_watch_set(&loop, &dns->sockets[i].watch, 0);
    dns->deaf = true;
    asked = ns.asked;
    find_address("a.far.example", 5269);
    assert_int_equal(out.n, 1);
    assert_true(ns.asked <= asked + 4);   /* nothing twice: two of each */
    assert_false(dns->deaf);
    run_until_done(&silent);
}

/* After a restart every partner is looked for at once. */
static void
many_queries_run_at_a_time(void **state)
{
    static const struct rule rules[] = { { 0 } };
    static struct outcome many[1000];
    size_t i;
    (void)state;
    ns.rules = rules;
    for (i = 0; i < sizeof many / sizeof *many; i++) {
        memset(&many[i], 0, sizeof many[i]);
        assert_non_null(dns_find_address(dns, "nobody.far.example", 1, false,
            &outcome_events, &many[i]));
    }
    for (i = 0; i < sizeof many / sizeof *many; i++)
        run_until_done(&many[i]);
    find_address("127.0.0.1", 1);
    assert_int_equal(out.n, 1);
}

static void
addresses_of_name_servers_are_checked(void **state)
{
    struct dns_options o = { .servers = { { "not an address", 53 } }, .nservers = 1,
        .timeout_ms = 1500, .tries = 3 };
    struct dns *other = NULL;
    (void)state;
    assert_false(dns_open(&other, &loop, &o, NULL));
    assert_null(other);
    snprintf(o.servers[0].address, sizeof o.servers[0].address, "::1");
    snprintf(o.servers[1].address, sizeof o.servers[1].address, "127.0.0.1");
    o.nservers = 2;
    assert_true(dns_open(&other, &loop, &o, NULL));
    dns_close(other);
    o.nservers = 0;
    assert_true(dns_open(&other, &loop, &o, NULL));   /* those of the system */
    dns_close(other);
    dns_close(NULL);
}

/* ---- the real thing ---- */

static struct {
    pid_t    pid;
    unsigned port;
    char     file[64];
} masq;

static const char masq_config[] =
    "no-resolv\nno-hosts\nbind-interfaces\nlisten-address=127.0.0.1\nlocal=/example/\npid-file=\n"
    "srv-host=_xmpp-server._tcp.two.example,stream.two.example,5269,20,0\n"
    "srv-host=_xmpps-server._tcp.two.example,tls.two.example,5270,10,5\n"
    "host-record=stream.two.example,127.2.0.1\n"
    "host-record=tls.two.example,127.2.0.2,::1\n"
    "srv-host=_xmpp-server._tcp.closed.example\n"
    "host-record=closed.example,127.2.0.3\n"
    "host-record=plain.example,127.2.0.4\n"
    "srv-host=_xmpp-server._tcp.alias.example,www.alias.example,5269\n"
    "cname=www.alias.example,stream.two.example\n";

static bool
masq_answers(void)
{
    struct sockaddr_in at;
    struct message m;
    struct pollfd p = { .fd = socket(AF_INET, SOCK_DGRAM, 0), .events = POLLIN };
    bool yes = false;
    int i;
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons((uint16_t)masq.port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    message_begin(&m, "plain.example", A);
    m.bytes[2] = 1;
    m.bytes[3] = 0;
    for (i = 0; i < 100 && !yes; i++) {
        struct timespec pause = { 0, 20000000 };
        sendto(p.fd, m.bytes, m.len, 0, (struct sockaddr *)&at, sizeof at);
        yes = poll(&p, 1, 20) == 1 && recv(p.fd, m.bytes, 12, MSG_DONTWAIT) > 0;
        if (!yes)
            nanosleep(&pause, NULL);
    }
    close(p.fd);
    return yes;
}

static void
masq_exec(const char *program)
{
    char option[80];
    int null = open("/dev/null", O_RDWR);
    dup2(null, 2);
    snprintf(option, sizeof option, "--conf-file=%s", masq.file);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    execl(program, program, "-k", option, (char *)NULL);
    _exit(127);
}

static int
masq_start(void **state)
{
    static const char long_name[] = "a-very-long-name-of-a-host-that-takes-room-in-the-answer";
    static const char *const programs[] = {
        "/usr/sbin/dnsmasq", "/usr/local/sbin/dnsmasq", "/sbin/dnsmasq"
    };
    const char *program = NULL;
    FILE *f;
    int fd, i;
    (void)state;
    for (i = 0; i < 3 && program == NULL; i++)
        program = access(programs[i], X_OK) == 0 ? programs[i] : NULL;
    if (program == NULL)
        return 0;
    if (setup(NULL) != 0)
        return -1;
    masq.port = ns.port;   /* a port that was free a moment ago */
    teardown(NULL);
    snprintf(masq.file, sizeof masq.file, "/tmp/test_dns.XXXXXX");
    fd = mkstemp(masq.file);
    f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL)
        return -1;
    fprintf(f, "%sport=%u\n%s", masq_config, masq.port, getuid() == 0 ? "user=root\n" : "");
    for (i = 0; i < 40; i++)   /* too much for UDP */
        fprintf(f, "srv-host=_xmpp-server._tcp.many.example,%s-%d.many.example,5269,%d\n"
            "host-record=%s-%d.many.example,127.3.0.%d\n", long_name, i, i, long_name, i, i + 1);
    fclose(f);
    masq.pid = fork();
    if (masq.pid == 0)
        masq_exec(program);
    return masq.pid > 0 && masq_answers() ? 0 : -1;
}

static int
masq_stop(void **state)
{
    (void)state;
    if (masq.pid > 0) {
        kill(masq.pid, SIGTERM);
        waitpid(masq.pid, NULL, 0);
        unlink(masq.file);
    }
    return 0;
}

static void
masq_use(void)
{
    struct dns_options o = { .servers = { { "127.0.0.1", 0 } }, .nservers = 1,
        .timeout_ms = 1500, .tries = 3 };
    if (masq.pid <= 0) {
        print_message("dnsmasq is not installed\n");
        skip();
    }
    dns_close(dns);
    o.servers[0].port = masq.port;
    assert_true(dns_open(&dns, &loop, &o, &dns_log));
}

static void
dnsmasq_gives_both_kinds_of_record(void **state)
{
    (void)state;
    masq_use();
    find_servers("two.example", DNS_TLS_ANY);
    assert_string_equal(out.text,
        "tls.two.example ::1 5270 direct\n"
        "tls.two.example 127.2.0.2 5270 direct\n"
        "stream.two.example 127.2.0.1 5269 starttls\n");
}

static void
dnsmasq_says_that_there_is_no_service(void **state)
{
    (void)state;
    masq_use();
    find_servers("closed.example", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_NO_SERVICE);
}

static void
dnsmasq_has_no_srv_record_and_the_domain_itself_is_asked_for(void **state)
{
    (void)state;
    masq_use();
    find_servers("plain.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "plain.example 127.2.0.4 5269 starttls\n");
    find_servers("nobody.example", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_NOT_FOUND);
}

static void
dnsmasq_refuses_what_it_does_not_serve(void **state)
{
    (void)state;
    masq_use();
    find_servers("elsewhere.test", DNS_TLS_ANY);
    assert_int_equal(out.why, XE_WHY_DNS_FAILED);
}

static void
dnsmasq_gives_an_alias_as_target(void **state)
{
    (void)state;
    masq_use();
    find_servers("alias.example", DNS_TLS_ANY);
    assert_string_equal(out.text, "www.alias.example 127.2.0.1 5269 starttls\n");
    assert_non_null(strstr(logged, "dns-target-is-alias"));
}

static void
an_answer_too_large_for_udp_comes_by_tcp(void **state)
{
    (void)state;
    masq_use();
    find_servers("many.example", DNS_TLS_ANY);
    assert_int_equal(out.n, DNS_SRV_MAX);
    assert_int_equal(out.why, XE_WHY_NONE);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read_and_names_become_lower_case),
        cmocka_unit_test(records_of_other_names_and_types_are_ignored),
        cmocka_unit_test(an_alias_of_the_service_is_followed),
        cmocka_unit_test(a_dot_refuses_only_when_it_is_alone),
        cmocka_unit_test(records_without_sense_are_left_out),
        cmocka_unit_test(a_long_list_is_cut_at_its_ceiling),
        cmocka_unit_test(a_message_cut_anywhere_is_never_an_answer_without_records),
        cmocka_unit_test(changed_bytes_do_no_harm),
        cmocka_unit_test(names_of_hosts_are_checked),
        cmocka_unit_test(lower_priorities_come_first),
        cmocka_unit_test(weights_decide_how_often_a_record_is_first),
        cmocka_unit_test(a_weight_of_zero_has_a_small_chance),
        cmocka_unit_test(records_without_weights_share_the_load),
        cmocka_unit_test(the_ends_of_the_random_range_are_in_range),
        T(both_kinds_of_record_are_mixed_by_priority),
        T(one_kind_is_asked_for_when_only_one_will_do),
        T(without_any_srv_record_the_domain_itself_is_the_server),
        T(a_domain_that_does_not_exist_is_not_found),
        T(the_table_of_srv_answers_holds),
        T(a_silent_name_server_is_a_failure_and_takes_its_time),
        T(addresses_take_turns_and_begin_with_ipv6),
        T(lists_of_addresses_have_ceilings),
        T(addresses_that_are_nobodys_are_left_out),
        T(one_family_is_enough_when_the_other_fails),
        T(a_late_answer_does_not_hold_up_a_good_one),
        T(targets_without_addresses_are_passed_over),
        T(an_alias_as_target_works_and_is_reported),
        T(addresses_need_no_name_server),
        T(the_hosts_file_answers_for_names_of_the_configuration),
        T(names_from_the_network_never_meet_the_hosts_file),
        T(each_target_says_what_of_it_the_configuration_has_given),
        T(names_that_cannot_exist_are_not_asked_for),
        T(a_cancelled_query_is_never_done),
        T(closing_forgets_the_queries_that_run),
        T(dns_may_be_closed_by_whom_it_answers),
        T(dns_may_be_closed_while_late_questions_are_open),
        T(a_socket_that_could_not_be_watched_is_heard_when_something_else_is_asked),
        T(many_queries_run_at_a_time),
        T(addresses_of_name_servers_are_checked),
        T(dnsmasq_gives_both_kinds_of_record),
        T(dnsmasq_says_that_there_is_no_service),
        T(dnsmasq_has_no_srv_record_and_the_domain_itself_is_asked_for),
        T(dnsmasq_refuses_what_it_does_not_serve),
        T(dnsmasq_gives_an_alias_as_target),
        T(an_answer_too_large_for_udp_comes_by_tcp),
    };
#undef T
    return cmocka_run_group_tests(tests, masq_start, masq_stop);
}
