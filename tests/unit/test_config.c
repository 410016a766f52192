/* test_config.c -- [CONFIG]: what a file may say, and what the program says when it may not
 *
 * With the line; then the look-ups, the example and the effective settings, which must parse, and
 * the port summary. */
#include "cut/PORTS.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- a directory with the files that configurations name ---- */

static const char *const files[] = { "edge01.pem", "edge01.key", "edge01.corp.example.pem",
    "edge01.corp.example.key", "internal-ca.pem", "corp.example.pem", "corp.example.key",
    "common.pem", "common.key", "fe01.pem", "fe01.key", "fe01.corp.example.pem",
    "fe01.corp.example.key", "ca.pem", "fabrikam-ca.pem", "dialback.secret", "echo.pem", "echo.key",
    "partners.pem", "partners.key", "component.secret" };

struct world {
    char          dir[64];
    struct buf    messages;   /* of the last load */
    struct config *c;         /* of the last load */
};

static struct world world;

static const char *
path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", world.dir, name);
    return path;
}

static void
write_file(const char *name, struct xe_span text, unsigned mode)
{
    const char *path = path_of(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.at, text.len), (ssize_t)text.len);
    assert_int_equal(fchmod(fd, (mode_t)mode), 0);
    close(fd);
}

static int
make_world(void **state)
{
    size_t i;
    (void)state;
    strcpy(world.dir, "/tmp/test_config.XXXXXX");
    if (mkdtemp(world.dir) == NULL)
        return -1;
    for (i = 0; i < sizeof files / sizeof *files; i++)
        write_file(files[i], span_of("0123456789abcdef\n"), 0600);
    return 0;
}

static int
forget(void **state)
{
    (void)state;
    config_free(world.c);
    world.c = NULL;
    buf_free(&world.messages);
    return 0;
}

static int
remove_world(void **state)
{
    size_t i;
    for (i = 0; i < sizeof files / sizeof *files; i++)
        unlink(path_of(files[i]));
    unlink(path_of("x.xml"));
    rmdir(path_of("d"));
    rmdir(world.dir);
    return forget(state);
}

/* Load a text as a file; the messages are without the directory. */
static const char *
load(struct xe_span text)
{
    char dir[80];
    char *hit;
    forget(NULL);
    write_file("x.xml", text, 0600);
    world.c = config_load(path_of("x.xml"), &world.messages);
    buf_text(&world.messages);
    snprintf(dir, sizeof dir, "%s/", world.dir);
    while (world.messages.bytes != NULL && (hit = strstr(world.messages.bytes, dir)) != NULL)
        memmove(hit, hit + strlen(dir), strlen(hit + strlen(dir)) + 1);
    return world.messages.bytes == NULL ? "" : world.messages.bytes;
}

#define TRUST_PARTNERS "<trust ca='ca.pem'/>"
#define EDGE_AT(external) \
    "<xmppedge role='edge' name='edge01.corp.example'>" \
    "<external address='" external "'/>" \
    "<internal address='10.0.0.5'><certificate chain='edge01.pem' key='edge01.key'/>" \
    "<trust ca='internal-ca.pem'/><gateway name='fe01.corp.example'/></internal>" \
    "<certificate chain='common.pem' key='common.key'/>" \
    "<dialback secret-file='dialback.secret'/>" TRUST_PARTNERS
#define EDGE_HEAD EDGE_AT("203.0.113.10")
#define EDGE_DOMAIN "<domain name='corp.example'/>"
#define PARTNER "<partner domain='fabrikam.example' sasl='optional'/>"
#define GATEWAY_HEAD \
    "<xmppedge role='gateway' name='fe01.corp.example'>" \
    "<edge name='edge01.corp.example' address='10.0.0.5'/>" \
    "<certificate chain='fe01.pem' key='fe01.key'/><trust ca='internal-ca.pem'/>" \
    "<listen address='127.0.0.1'/>"
#define INNER "<inner address='127.0.0.1' port='5270'><domain name='corp.example'/></inner>"

/* An edge with `rest` in line 2. */
static const char *
load_edge(const char *rest)
{
    struct buf text = { 0 };
    const char *said;
    buf_puts(&text, EDGE_HEAD "\n");
    buf_puts(&text, rest);
    buf_puts(&text, "\n</xmppedge>\n");
    said = load(buf_span(&text));
    buf_free(&text);
    return said;
}

/* The same with one partner that has these attributes, in line 2. */
static const char *
load_partner(const char *attributes)
{
    char text[1024];
    snprintf(text, sizeof text,
        EDGE_DOMAIN "<partners><partner domain='p.example' %s/></partners>", attributes);
    return load_edge(text);
}

static const char *
load_gateway(const char *rest)
{
    struct buf text = { 0 };
    const char *said;
    buf_puts(&text, GATEWAY_HEAD "\n");
    buf_puts(&text, rest);
    buf_puts(&text, "\n</xmppedge>\n");
    said = load(buf_span(&text));
    buf_free(&text);
    return said;
}

static void
assert_says(const char *said, const char *part)
{
    if (strstr(said, part) == NULL)
        fail_msg("expected \"%s\" in:\n%s", part, said);
}

/* ---- reading ---- */

static void
a_small_edge_is_read_without_a_word(void **state)
{
    (void)state;
    assert_string_equal(load_edge(EDGE_DOMAIN "<partners>" PARTNER "</partners>"), "");
    assert_non_null(world.c);
    assert_int_equal(world.c->role, CONFIG_EDGE);
    assert_true(span_is(world.c->name, "edge01.corp.example"));
    assert_int_equal(world.c->externals[0].address.port, 5269);
    assert_int_equal(world.c->internal.address.port, 23456);
    assert_int_equal(world.c->internal.ngateways, 1);
    assert_int_equal(world.c->ndomains, 1);
    assert_int_equal(world.c->partners.count, 1);
    assert_true(span_is(world.c->secret, "0123456789abcdef"));
}

static void
a_small_gateway_is_read_without_a_word(void **state)
{
    (void)state;
    assert_string_equal(load_gateway(INNER), "");
    assert_non_null(world.c);
    assert_int_equal(world.c->role, CONFIG_GATEWAY);
    assert_int_equal(world.c->nedges, 1);
    assert_int_equal(world.c->edges[0].host.address.port, 23456);
    assert_true(world.c->edges[0].host.address.len > 0);
    assert_string_equal(world.c->listen.certificate.chain, world.c->certificate.chain);
    assert_null(world.c->secret.at);
}

static void
every_limit_has_the_documented_default(void **state)
{
    const struct config_limits *m;
    (void)state;
    load_gateway(INNER);
    assert_non_null(world.c);
    m = &world.c->limits;
    assert_int_equal(m->connections, 1000);
    assert_int_equal(m->partner_connections, 20);
    assert_int_equal(m->source_connections, 300);
    assert_int_equal(m->source_rate, 50);
    assert_int_equal(m->source_burst, 600);
    assert_int_equal(m->preauth_bytes, 131072);
    assert_int_equal(m->preauth_elements, 600);
    assert_int_equal(m->preauth_ms, 60000);
    assert_int_equal(m->stanza_bytes, 524288);
    assert_int_equal(m->attributes, 1000);
    assert_int_equal(m->depth, 1000);
    assert_int_equal(m->elements, 25000);
    assert_int_equal(m->past_bytes, 64 << 20);
    assert_int_equal(m->past_ms, 60000);
    assert_int_equal(m->header_bytes, 8192);
    assert_int_equal(m->connect_ms, 10000);
    assert_int_equal(m->attempt_ms, 30000);
    assert_int_equal(m->dialback_ms, 30000);
    assert_int_equal(m->inactivity_ms, 600000);
    assert_int_equal(m->keepalive_ms, 300000);
    assert_int_equal(m->queue_bytes, 1048576);
    assert_int_equal(m->queue_stanzas, 1000);
    assert_int_equal(m->hold_ms, 10000);
    assert_int_equal(m->memory_bytes, 67108864);
    assert_int_equal(m->drain_ms, 5000);
    assert_int_equal(m->partner_retry_max_ms, 60000);
    assert_int_equal(m->trunk_retry_first_ms, 1000);
    assert_int_equal(m->trunk_retry_max_ms, 30000);
}

static void
a_partner_has_the_defaults_of_new_csxmppallowedpartner(void **state)
{
    const struct config_partner *p;
    (void)state;
    load_partner("");
    assert_non_null(world.c);
    p = &world.c->partners.list[0];
    assert_int_equal(p->type, CONFIG_FEDERATED);   /* an edge sees to no other */
    assert_int_equal(p->tls, POLICY_REQUIRED);
    assert_int_equal(p->sasl, POLICY_REQUIRED);
    assert_false(p->dialback);   /* true there, and of no use beside the two above */
    assert_true(p->keepalive);
    assert_false(p->bidi);
    assert_int_equal(p->connection_limit, 20);
    assert_null(p->proxy.name);
    assert_null(p->description);
    assert_int_equal(p->row->number, 2);
    assert_string_equal(world.messages.bytes == NULL ? "" : buf_text(&world.messages), "");
    load_partner("sasl='optional'");
    assert_true(world.c->partners.list[0].dialback);
}

static void
times_and_sizes_take_units(void **state)
{
    (void)state;
    load_gateway(INNER
        "<limits attempt-time='45' hold-time='500ms' inactivity-time='10m' drain-time='2s' "
        "keepalive-interval='1m' memory='1G' queue-bytes='2M' stanza-bytes='300000' "
        "preauth-bytes='16KiB'/>");
    assert_non_null(world.c);
    assert_int_equal(world.c->limits.attempt_ms, 45000);
    assert_int_equal(world.c->limits.hold_ms, 500);
    assert_int_equal(world.c->limits.inactivity_ms, 600000);
    assert_int_equal(world.c->limits.drain_ms, 2000);
    assert_int_equal(world.c->limits.keepalive_ms, 60000);
    assert_int_equal(world.c->limits.memory_bytes, (size_t)1 << 30);
    assert_int_equal(world.c->limits.queue_bytes, 2 << 20);
    assert_int_equal(world.c->limits.stanza_bytes, 300000);
    assert_int_equal(world.c->limits.preauth_bytes, 16384);
}

static void
numbers_outside_their_limits_are_refused_with_the_limits(void **state)
{
    static const char *const bad[] = { "0", "-1", "1.5", "", "5s", "99999999999999999999",
        "1000001" };
    char text[256];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, INNER "<limits connections='%s'/>", bad[i]);
        assert_says(load_gateway(text),
            "x.xml:2: <limits> connections: expected a number from 1 to 1000000, found \"");
        assert_null(world.c);
    }
    assert_says(load_gateway(INNER "<limits attempt-time='9223372036854775807'/>"),
        "expected a time such as 30s, 500ms or 10m, from 1s to 1h, found \"9223372036854775807\"");
    assert_says(load_gateway(INNER "<limits stanza-bytes='9999'/>"), "from 10000 to 16M");
    assert_says(load_gateway(INNER "<limits rsa-bits-min='1024'/>"), "from 2048 to 8192");
    assert_says(load_gateway(INNER "<limits curve-bits='255'/>"), "from 256 to 521");
    assert_says(load_gateway(INNER "<limits chain-bytes='17K'/>"), "from 1K to 16K");
}

static void
addresses_of_both_families_are_read_with_their_ports(void **state)
{
    struct sockaddr_in6 in6;
    struct buf text = { 0 };
    (void)state;
    load(span_of("<xmppedge role='gateway' name='fe01.corp.example'>"
        "<edge port='24000' address='2001:db8::5' name='edge01.corp.example'/>"
        "<edge address='edge02.dmz.example' name='edge02.corp.example'/>"
        "<certificate chain='fe01.pem' key='fe01.key'/><trust ca='internal-ca.pem'/>"
        "<listen address='::1'/>" INNER "<resolver address='127.0.0.53'/>"
        "<resolver address='::1' port='5353'/></xmppedge>"));
    assert_non_null(world.c);
    memcpy(&in6, &world.c->edges[0].host.address.sa, sizeof in6);
    assert_int_equal(in6.sin6_family, AF_INET6);
    assert_int_equal(ntohs(in6.sin6_port), 24000);
    assert_int_equal(world.c->edges[1].host.address.len, 0);
    assert_string_equal(world.c->edges[1].host.name, "edge02.dmz.example");
    assert_int_equal(world.c->edges[1].host.address.port, 23456);
    assert_int_equal(world.c->nresolvers, 2);
    assert_int_equal(world.c->resolvers[1].address.port, 5353);
    config_put_address(&text, &world.c->listen.address);
    assert_true(span_is(buf_span(&text), "::1"));
    buf_free(&text);
}

static void
things_that_are_no_address_are_refused(void **state)
{
    static const char *const bad[] = { "300.1.1.1", "10.1", "corp.example", "10.0.0.5:5269", "",
        "::g", "10.0.0.5/24" };
    char text[256];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, INNER "<resolver address='%s'/>", bad[i]);
        assert_says(load_gateway(text),
            "x.xml:2: <resolver> address: expected an IPv4 or IPv6 address, found \"");
    }
    assert_says(load_gateway(INNER "<resolver address='127.0.0.1' port='65536'/>"),
        "<resolver> port: expected a port from 1 to 65535, found \"65536\"");
}

static void
a_proxy_is_a_host_with_a_port_or_without(void **state)
{
    static const struct { const char *text, *name; unsigned port; bool literal; } good[] = {
        { "xmpp.p.example", "xmpp.p.example", 5269, false },
        { "XMPP.P.example:15269", "xmpp.p.example", 15269, false },
        { "192.0.2.1", "192.0.2.1", 5269, true },
        { "192.0.2.1:5270", "192.0.2.1", 5270, true },
        { "[2001:db8::1]", "2001:db8::1", 5269, true },
        { "[2001:db8::1]:5270", "2001:db8::1", 5270, true },
    };
    static const char *const bad[] = { "", ":5269", "a:b", "a:0", "a:65536", "2001:db8::1", "[::1",
        "[a.example]", "a b", "1.2.3", "-a.example" };
    char text[128];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "proxy='%s'", good[i].text);
        load_partner(text);
        assert_non_null(world.c);
        assert_string_equal(world.c->partners.list[0].proxy.name, good[i].name);
        assert_int_equal(world.c->partners.list[0].proxy.address.port, good[i].port);
        assert_int_equal(world.c->partners.list[0].proxy.address.len > 0, good[i].literal);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "proxy='%s'", bad[i]);
        assert_says(load_partner(text), "<partner> proxy: expected a host name or address");
    }
}

static void
domains_are_brought_to_lower_case_and_checked(void **state)
{
    static const char *const bad[] = { "", ".", "a..b", ".a", "-a.b", "a-.b", "a b", "a/b", "a@b",
        "[::g]", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example" };
    char text[256];
    size_t i;
    (void)state;
    load_edge("<domain name='Corp.EXAMPLE.'/>");
    assert_non_null(world.c);
    assert_true(span_is(world.c->domains[0].name, "corp.example"));
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "<domain name='%s'/>", bad[i]);
        assert_says(load_edge(text),
            "x.xml:2: <domain> name: expected a domain such as corp.example");
    }
}

static void
paths_start_at_the_directory_of_the_file(void **state)
{
    struct buf messages = { 0 };
    char here[512];
    struct config *c;
    (void)state;
    load_gateway(INNER "<log file='logs/x.log'/><control socket='c.sock'/>");
    assert_non_null(world.c);
    assert_string_equal(world.c->certificate.chain, path_of("fe01.pem"));
    assert_string_equal(world.c->log.file, path_of("logs/x.log"));
    assert_string_equal(world.c->control, path_of("c.sock"));
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(world.dir), 0);
    c = config_load("x.xml", &messages);
    assert_int_equal(chdir(here), 0);
    assert_non_null(c);
    assert_string_equal(c->certificate.chain, path_of("fe01.pem"));
    config_free(c);
    buf_free(&messages);
}

static void
an_absent_control_socket_is_named_after_the_node(void **state)
{
    (void)state;
    load_gateway(INNER);
    assert_string_equal(world.c->control, "/run/xmppedge/fe01.corp.example.sock");
}

static void
entities_and_quotes_in_values_are_resolved(void **state)
{
    (void)state;
    load_partner("sasl='optional' description='A &amp; B &lt;&#67;&#x44;&gt; \"&apos;&quot;'");
    assert_non_null(world.c);
    assert_string_equal(world.c->partners.list[0].description, "A & B <CD> \"'\"");
}

static void
comments_declaration_and_byte_order_mark_are_fine(void **state)
{
    (void)state;
    assert_string_equal(load(span_of("\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>\n"
        "<!-- a <comment> & more -->\n" GATEWAY_HEAD "<!-- x\ny --><!---->" INNER
        "</xmppedge>\n<!-- end -->\n")),
        "");
    assert_non_null(world.c);
}

/* ---- errors and their lines ---- */

static void
the_wrong_line_is_never_named(void **state)
{
    (void)state;
    assert_says(load(span_of("<?xml version='1.0'?>\n<!-- one\n two <external/> -->\n\n"
        "<xmppedge\n  role='gateway'\n  name='fe01.corp.example'\n  colour='red'>\n"
        "<edge name='e.example'\n      address='10.0.0.5'\n      port='x'/>\n"
        "<certificate chain='fe01.pem' key='fe01.key'/><trust ca='internal-ca.pem'/>\n"
        "<listen address='127.0.0.1'/>\n<!-- <bad/> -->" INNER "\n<bad a='>'/>\n</xmppedge>")),
        "x.xml:8: <xmppedge>: expected role, name, found the unknown attribute colour "
        "(the first of 3 errors)\n"
        "x.xml:11: <edge> port: expected a port from 1 to 65535, found \"x\"\n"
        "x.xml:15: <xmppedge>: expected ");
    assert_says(world.messages.bytes, "found the unknown element <bad>");
    assert_null(world.c);
}

static void
all_errors_are_told_in_the_order_of_lines(void **state)
{
    const char *said = load(span_of("<xmppedge role='edge' name='x y'>\n<external/>\n"
        "<domain name='a.example' gatewy='b'/>\n<partners default='maybe'>\n"
        "<partner tls='maybe'/>\n"
        "<partner domain='q.example' tls='not-supported' dialback='false'/>\n</partners>\n"
        "</xmppedge>"));
    (void)state;
    assert_null(world.c);
    assert_says(said, "x.xml:1: <xmppedge> name: expected a domain");
    assert_says(said, "x.xml:1: expected an <internal> where the gateways of the inner domains "
        "connect, found none\n");
    assert_says(said, "x.xml:1: <xmppedge>: expected a <dialback> in it, found none\n");
    assert_says(said,
        "x.xml:2: <external> address: expected an IPv4 or IPv6 address, found nothing\n");
    assert_says(said,
        "x.xml:3: <domain>: expected name, gateway, found the unknown attribute gatewy; did you "
        "mean gateway?\n");
    assert_says(said, "x.xml:4: <partners> default: expected deny or allow, found \"maybe\"\n");
    assert_says(said, "x.xml:5: <partner> domain: expected a domain");
    assert_says(said, "x.xml:5: <partner> tls: expected required, optional or not-supported, found "
        "\"maybe\"\n");
    assert_says(said,
        "x.xml:6: q.example: tls=\"not-supported\" sasl=\"required\" dialback=\"false\" is row 6 "
        "of the negotiation settings, which is invalid: no method is left");
    assert_true(strstr(said, "x.xml:2:") > strstr(said, "x.xml:1:"));
    assert_true(strstr(said, "x.xml:6:") > strstr(said, "x.xml:5:"));
}

static void
xml_that_is_not_well_formed_is_refused_with_its_line(void **state)
{
    static const struct { const char *text, *said; } bad[] = {
        { "", "x.xml:1: expected <xmppedge>, found an empty file" },
        { "  \n", "x.xml:2: expected <xmppedge>, found an empty file" },
        { "hello", "x.xml:1: expected an element or a comment, found text" },
        { "\n<a>",
          "x.xml:2: expected </a> for the element that begins here, found the end of the file" },
        { "<a>\n<b>\n</a>", "x.xml:3: expected </b> for the element of line 2, found </a>" },
        { "<a>\n</a>\n<a/>", "x.xml:3: expected the end of the file after the first element" },
        { "<a>\nx</a>", "x.xml:2: expected an element or a comment, found text" },
        { "<a\nb/>", "x.xml:2: expected = after b in <a>" },
        { "<a b=c/>", "x.xml:1: expected the value of b in quotes" },
        { "<a b='1'c='2'/>", "x.xml:1: expected a space before the next attribute of <a>" },
        { "<a b='1'\n b='2'/>", "x.xml:2: expected b once in <a>, found it again" },
        { "<a b='\n<'/>", "x.xml:2: expected &lt; or the closing quote of b, found <" },
        { "<a b='\n", "x.xml:1: expected the closing quote of b, found the end of the file" },
        { "<a b='&nbsp;'/>", "x.xml:1: expected &amp; for an ampersand" },
        { "<a b='&#0;'/>", "x.xml:1: expected &amp; for an ampersand" },
        { "<a b='&#xd800;'/>", "x.xml:1: expected &amp; for an ampersand" },
        { "<a b='&amp'/>", "x.xml:1: expected &amp; for an ampersand" },
        { "<a b='", "x.xml:1: expected the closing quote of b" },
        { "<a", "x.xml:1: expected > to end <a, found the end of the file" },
        { "<", "x.xml:1: expected the name of an element after <" },
        { "</a>", "x.xml:1: expected <xmppedge>, found an end tag" },
        { "<a>\n<!-- x -- y --></a>",
          "x.xml:2: expected --> to end the comment, found -- within it" },
        { "<a>\n<!-- x", "x.xml:2: expected --> to end the comment that begins here" },
        { "<!DOCTYPE a>\n<a/>", "x.xml:1: expected an element; document types" },
        { "<a><![CDATA[x]]></a>", "x.xml:1: expected an element; document types" },
        { "<a>\n<?php x?></a>", "x.xml:2: expected an element; document types" },
        { "<a>\n\xff</a>", "x.xml:2: expected UTF-8 text, found other bytes" },
        { "<a><a><a><a><a><a><a><a><a>", "x.xml:1: expected fewer elements within each other" },
        { "<config/>", "x.xml:1: expected <xmppedge>, found <config>" },
        { "<xmppedge/>", "x.xml:1: <xmppedge> role: expected edge or gateway, found nothing" },
        { "<xmppedge\nrole='proxy'/>",
          "x.xml:2: <xmppedge> role: expected edge or gateway, found proxy" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_says(load(span_of(bad[i].text)), bad[i].said);
        assert_null(world.c);
    }
    assert_says(load(span_make("<a>\n\0</a>", 9)), "x.xml:2: expected UTF-8 text");
}

static void
strange_and_hostile_files_are_refused_with_a_sentence_and_a_line(void **state)
{
    static const struct { const char *text, *said; } bad[] = {
        /* what editors and other systems make */
        { "\xef\xbb\xbf\n<a>", "2: expected </a> for the element that begins here" },
        { "<xmppedge ro\xef\xbb\xbfle=''/>", "1: expected text without a byte order mark" },
        { "<xmppedge>\n<log level='in\xef\xbb\xbf""fo'/></xmppedge>",
            "2: expected text without a byte order mark" },
        { "\xff\xfe<", "1: expected UTF-8 text" },
        { "<a>\r\n<b>\r\n</a>", "3: expected </b> for the element of line 2, found </a>" },
        { "<?xml version='1.1'?>\n<a/>", "1: expected <?xml version=\"1.0\" encoding=\"UTF-8\"?>" },
        { "\n<?xml version='1.0' encoding='latin1'?><a/>", "2: expected <?xml version=\"1.0\"" },
        { "<?xml version='1.0'\n", "1: expected ?> to end the XML declaration" },
        { "<?xml version='1.0'?\n><a/>", "1: expected <?xml version=\"1.0\"" },
        { "<?xml-stylesheet href='x'?><a/>", "1: expected an element; document types" },
        { "<a>\n<?xml version='1.0'?></a>", "2: expected an element; document types" },
        { "<a/>\n<?x?>", "2: expected an element; document types" },
        /* document types, CDATA, references */
        { "<!DOCTYPE a [\n<!ENTITY x 'y'>\n]>\n<a/>", "1: expected an element; document types" },
        { "<a>\n<!ENTITY x 'y'></a>", "2: expected an element; document types" },
        { "<a/>\n<!DOCTYPE a>", "2: expected an element; document types" },
        { "<a>\n<![CDATA[\n<b/>]]></a>", "2: expected an element; document types" },
        { "<a>\n<![CDATA[\n<b/>", "2: expected an element; document types" },
        { "<a>\n&lt;</a>", "2: expected an element or a comment, found text" },
        { "<a>\n&#228;</a>", "2: expected an element or a comment, found text" },
        { "<a>\n&nbsp;</a>", "2: expected an element or a comment, found text" },
        { "<a>\n]]></a>", "2: expected an element or a comment, found text" },
        { "<a\nb='&#228;&lt;&#xe4;' b='2'/>", "2: expected b once in <a>, found it again" },
        { "<a\nb='\n&#1;'/>", "3: expected &amp; for an ampersand" },
        { "<a b='&'/>", "1: expected &amp; for an ampersand" },
        /* comments */
        { "<!-- a\n-- b\n--><a/>", "2: expected --> to end the comment, found -- within it" },
        { "\n<!-- a --->\n<a/>", "2: expected --> to end the comment, found -- within it" },
        { "<a>\n<!--\n\n</a>", "2: expected --> to end the comment that begins here" },
        { "<a/>\n<!-- x\n", "2: expected --> to end the comment that begins here" },
        { "<a/>\n<!- x -->\n", "2: expected an element; document types" },
        /* around the root element */
        { "\n</file>", "2: expected <xmppedge>, found an end tag" },
        { "<a/>\ntext", "2: expected an element or a comment, found text" },
        { "<a/>\n\n<b\n\n", "3: expected the end of the file after the first element" },
        { "<a>\n</a>\n</a>", "3: expected the end of the file after the first element" },
        { "<a/>\n<b>\n&</b>", "2: expected the end of the file after the first element" },
        /* tags */
        { "<a></ a>", "1: expected the name of an element and > after </" },
        { "<a>\n</a b>", "2: expected the name of an element and > after </" },
        { "<a>\n</", "2: expected the name of an element and > after </" },
        { "<a>\n</a", "2: expected the name of an element and > after </" },
        { "<a>\n</ab>", "2: expected </a> for the element of line 1, found </ab>" },
        { "<ab>\n</a>", "2: expected </ab> for the element of line 1, found </a>" },
        { "\n<a\nb", "2: expected > to end <a, found the end of the file" },
        { "\n<a\nb =", "2: expected > to end <a, found the end of the file" },
        { "\n<a\nb = 'x'\n", "2: expected > to end <a, found the end of the file" },
        { "\n<a /", "2: expected > to end <a, found the end of the file" },
        { "<a\n/ >", "2: expected an attribute, > or /> in <a>" },
        { "<a\n='x'>", "2: expected an attribute, > or /> in <a>" },
        { "<a b:c:d='x'>", "1: expected an attribute, > or /> in <a>" },
        { "<a\n xmlns:p=''/>", "2: expected <a> without namespaces" },
        { "\n< a/>", "2: expected the name of an element after <" },
        { "\n<1/>", "2: expected the name of an element after <" },
        { "\n<a:/>", "2: expected the name of an element after <" },
        { "\n<a\xc3\x97/>", "2: expected the name of an element after <" },
        { "<a>\n<>", "2: expected the name of an element after <" },
        /* bytes that are no text */
        { "<a b='\n\xc3'/>", "2: expected UTF-8 text, found other bytes" },
        { "<a>\n<!--\n\x01-->", "3: expected UTF-8 text, found other bytes" },
        { "<a>\n<b\xff/>", "2: expected UTF-8 text, found other bytes" },
        { "<a>\n\xe2\x82", "2: expected UTF-8 text, found other bytes" },
        { "<a b='\n\xef\xbf\xbf'/>", "2: expected UTF-8 text, found other bytes" },
    };
    char text[XE_XML_ATTRS_MAX * 10 + 32] = "<a";
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_says(load(span_of(bad[i].text)), bad[i].said);
        assert_int_equal(strncmp(world.messages.bytes, "x.xml:", 6), 0);
        assert_int_equal(strchr(world.messages.bytes, '\n')[1], '\0');
        assert_null(world.c);
    }
    assert_says(load(span_make("<a\nb='\0'/>", 11)), "x.xml:2: expected UTF-8 text");
    assert_says(load(span_make("\0", 1)), "x.xml:1: expected UTF-8 text");
    for (i = 0; i <= XE_XML_ATTRS_MAX; i++)
        sprintf(text + strlen(text), "\na%u=''", (unsigned)i);
    assert_says(load(span_of(text)), "x.xml:1002: expected fewer attributes in <a>\n");
}

static void
lines_end_as_on_any_system(void **state)
{
    (void)state;
    assert_says(load(span_of("\xef\xbb\xbf\r\n<?xml version='1.0'?>\r\n<xmppedge\r\n"
        "\trole='edge'\r\n\tname='a b'>\r\n<!--\r\n--><!----><external\r\n"
        " x='y'/></xmppedge>\r\n")),
        "x.xml:5: <xmppedge> name: expected a domain");
    assert_says(world.messages.bytes, "x.xml:7: <external> address: expected an IPv4 or IPv6 "
        "address, found nothing\n"
        "x.xml:8: <external>: expected address, port, networks, balancers, "
        "found the unknown attribute x\n");
}

/* Any byte in the place of any other: sanitizers watch, and there is a sentence. */
static void
damage_is_never_met_with_silence(void **state)
{
    static const char good[] = "<?xml version='1.0'?>\n<!-- x -->\n<a:b c='&lt;'>\n<!----><d/>"
        "</a:b>\n";
    static const char bytes[] = "<>&'\"/!?-[]=: \n;x\xff";
    char text[sizeof good];
    size_t i, j;
    (void)state;
    for (i = 0; i + 1 < sizeof good; i++)
        for (j = 0; j < sizeof bytes; j++) {   /* the NUL among them */
            memcpy(text, good, sizeof good);
            text[i] = bytes[j];
            assert_says(load(span_make(text, sizeof good - 1)), "x.xml:");
            assert_says(world.messages.bytes, ": expected ");
            assert_null(strstr(world.messages.bytes, "XML library"));
            assert_null(world.c);
        }
}

/* An edge with the partners p0.example, p1.example ..., each with two more domains, a line each
 * from line 3 on. */
static void
put_partners(struct buf *text, unsigned n)
{
    unsigned i;
    text->max = CONFIG_FILE_MAX * 2;
    buf_puts(text, EDGE_HEAD "\n" EDGE_DOMAIN "<partners>\n");
    for (i = 0; i < n; i++) {
        char line[256];
        snprintf(line, sizeof line, "<partner domain='p%u.example' sasl='optional'><domain "
            "name='a.p%u.example'/><!-- --><domain name='b.p%u.example'/></partner>\n", i, i, i);
        buf_puts(text, line);
    }
}

static void
ten_thousand_partners_are_read_and_written(void **state)
{
    const struct config_partner *p;
    struct buf text = { 0 }, first = { 0 }, second = { 0 };
    (void)state;
    put_partners(&text, 10000);
    buf_puts(&text, "<partner domain='p0.example' sasl='optional' tls='x'/></partners></xmppedge>");
    assert_says(load(buf_span(&text)), "x.xml:10003: <partner> tls: expected required");
    assert_says(world.messages.bytes, "x.xml:10003: expected p0.example as a partner domain once");
    buf_clear(&text);
    put_partners(&text, 10000);
    buf_puts(&text, "</partners></xmppedge>");
    assert_string_equal(load(buf_span(&text)), "");
    assert_non_null(world.c);
    assert_int_equal(world.c->partners.count, 10000);
    p = config_partner_for(world.c, span_of("b.p9999.example"));
    assert_ptr_equal(p, &world.c->partners.list[9999]);
    assert_int_equal(p->line, 10002);
    config_print_effective(world.c, &first);
    assert_false(first.failed);
    assert_string_equal(load(buf_span(&first)), "");
    config_print_effective(world.c, &second);
    assert_true(span_eq(buf_span(&first), buf_span(&second)));
    buf_free(&text);
    buf_free(&first);
    buf_free(&second);
}

static void
the_size_of_a_file_has_a_ceiling(void **state)
{
    struct buf text = { 0 };
    (void)state;
    put_partners(&text, 1);
    buf_puts(&text, "</partners></xmppedge>");
    while (buf_len(&text) < CONFIG_FILE_MAX)
        buf_putc(&text, '\n');
    assert_int_equal(buf_len(&text), CONFIG_FILE_MAX);
    assert_string_equal(load(buf_span(&text)), "");
    buf_putc(&text, '\n');
    assert_string_equal(load(buf_span(&text)), "x.xml: expected a file of at most 16 MiB, found a "
        "larger one\n");
    buf_free(&text);
}

static void
every_beginning_of_a_good_file_is_refused_without_harm(void **state)
{
    static const char text[] = "\xef\xbb\xbf <?xml version='1.0'?><!-- x -->" GATEWAY_HEAD
        INNER "<!-- & --></xmppedge>";
    size_t len;
    (void)state;
    for (len = 0; len + 1 < sizeof text; len++) {
        assert_says(load(span_make(text, len)), "x.xml:1: expected ");
        assert_null(world.c);
    }
}

static void
a_file_that_is_not_there_is_named(void **state)
{
    struct buf messages = { 0 };
    (void)state;
    assert_null(config_load("/nonexistent/x.xml", &messages));
    assert_says(buf_text(&messages),
        "/nonexistent/x.xml: expected a file that can be read: No such file");
    buf_clear(&messages);
    assert_null(config_load(world.dir, &messages));
    assert_says(buf_text(&messages), "Is a directory");
    buf_free(&messages);
}

/* ---- files that are included ---- */

/* Of a directory of their own, with a name that a pattern could take for one. */
static void
put_piece(const char *name, const char *text)
{
    char path[64];
    mkdir(path_of("d"), 0700);
    snprintf(path, sizeof path, "d/%s", name);
    write_file(path, span_of(text), 0600);
}

static void
drop_piece(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "d/%s", name);
    unlink(path_of(path));
}

static void
partners_stand_in_files_of_their_own(void **state)
{
    struct buf first = { 0 };
    (void)state;
    put_piece("b.xml", "<?xml version='1.0'?>\n<!-- b -->\n<partner domain='b.example' "
        "sasl='optional'>\n<domain name='b2.example'/>"
        "<trust ca='fabrikam-ca.pem'/></partner>");
    put_piece("a.xml", "\xef\xbb\xbf<partners><partner domain='a.example' sasl='optional'/>"
        "</partners>\n<partner domain='c.example' sasl='optional'/>");
    put_piece("c.txt", "no XML");
    assert_string_equal(load_edge(EDGE_DOMAIN "<partners default='allow'><default sasl='optional'/>"
        PARTNER "</partners>\n<include file='d/*.xml'/>"), "");
    assert_non_null(world.c);
    assert_int_equal(world.c->partners.count, 4);
    assert_true(world.c->partners.allow);
    assert_string_equal(world.c->partners.list[1].domain.name.at, "a.example");
    assert_string_equal(world.c->partners.list[2].domain.name.at, "c.example");
    assert_string_equal(world.c->partners.list[3].domains[0].name.at, "b2.example");
    config_print_effective(world.c, &first);
    assert_null(strstr(buf_text(&first), "include"));
    assert_string_equal(load(buf_span(&first)), "");
    assert_int_equal(world.c->partners.count, 4);
    buf_free(&first);
    assert_string_equal(load_edge(EDGE_DOMAIN "<include file='d/b.xml'/>"), "");
    assert_int_equal(world.c->partners.count, 1);   /* without <partners> */
    drop_piece("a.xml");
    drop_piece("b.xml");
    drop_piece("c.txt");
}

static void
what_is_wrong_in_an_included_file_is_told_of_its_line(void **state)
{
    (void)state;
    put_piece("a.xml", "\n<partner domain='p.example' sasl='optional'/>");
    put_piece("b.xml", "<partners>\n<partner domain='b.example' sasl='optional'>\n<domain\n"
        "nome='x'/></partner>\n<partner domain='p.example' sasl='optional'/></partners>");
    assert_string_equal(load_edge(EDGE_DOMAIN "\n<include file='d/?.xml'/>\n<log leval='x'/>"),
        "x.xml:4: <log>: expected level, format, file, found the unknown attribute leval; did "
        "you mean level? (the first of 4 errors)\n"
        "d/b.xml:3: <domain> name: expected a domain such as corp.example, found nothing\n"
        "d/b.xml:4: <domain>: expected name, found the unknown attribute nome; did you mean name?\n"
        "d/b.xml:5: expected p.example as a partner domain once, found it again; the first is in "
        "d/a.xml:2\n");
    put_piece("b.xml", "<partner domain='b.example' sasl='optional'>\n<trust ca='nota.pem'/>\n"
        "<trust ca='ca.pem'/></partner>");
    assert_says(load_edge(EDGE_DOMAIN "<include file='d/a.xml'/><include file='d/b.xml'/>"),
        "d/b.xml:3: <partner>: expected only one <trust>, found another; the first is in line 2\n");
    assert_says(world.messages.bytes, "d/b.xml:2: <trust> ca: expected a file that can be read, "
        "found nota.pem");
    put_piece("b.xml", "<partner domain='b.example' sasl='optional'>\n<domain>\n</partner>");
    assert_string_equal(load_edge(EDGE_DOMAIN "<include file='d/*.xml'/>"),
        "d/b.xml:3: expected </domain> for the element of line 2, found </partner>\n");
    put_piece("b.xml", "");
    assert_string_equal(load_edge(EDGE_DOMAIN "<include file='d/*.xml'/>"),
        "d/b.xml:1: expected <partner> or <partners>, found an empty file\n");
    put_piece("b.xml", "<partner domain='b.example'\n/>\n<!-- -->\nb2.example");
    assert_string_equal(load_edge(EDGE_DOMAIN "<include file='d/*.xml'/>"),
        "d/b.xml:4: expected an element or a comment, found text\n");
    put_piece("b.xml", "<partner domain='b.example'/>");   /* doubtful */
    assert_says(load_edge(EDGE_DOMAIN "<include file='d/*.xml'/><log/><log/>"),
        "x.xml:2: <xmppedge>: expected only one <log>");
    drop_piece("a.xml");
    drop_piece("b.xml");
}

static void
an_included_file_holds_partners_and_includes_no_other(void **state)
{
    (void)state;
    assert_says(load_edge(EDGE_DOMAIN "<include file='*.xml'/>"),   /* itself */
        "x.xml:1: expected <partner> or <partners>, found <xmppedge>; a file that is included "
        "holds partners and nothing else\n");
    put_piece("a.xml", "<include file='a.xml'/>\n<partners default='allow'>\n<default/>\n"
        "<include file='*.xml'/></partners>");
    assert_string_equal(load_edge(EDGE_DOMAIN "<partners default='allow'><default sasl='optional'/>"
        "</partners><include file='d/a.xml'/>"),
        "d/a.xml:1: expected <partner> or <partners>, found <include>; a file that is included "
        "holds partners and nothing else (the first of 4 errors)\n"
        "d/a.xml:2: <partners>: expected no attributes, found default; those stand in x.xml\n"
        "d/a.xml:3: expected <partner>, found <default>; a file that is included holds partners "
        "and nothing else\n"
        "d/a.xml:4: expected <partner>, found <include>; a file that is included holds partners "
        "and nothing else\n");
    assert_says(load_gateway(INNER "<include file='d/a.xml'/>"),
        "found the element <include>, which only role=\"edge\" has");
    drop_piece("a.xml");
}

static void
a_name_must_be_there_and_a_pattern_may_match_nothing(void **state)
{
    (void)state;
    mkdir(path_of("d"), 0700);
    assert_string_equal(load_edge(EDGE_DOMAIN "<partners>" PARTNER "</partners>"
        "<include file='nowhere/*.xml'/><include file='d/*.xml'/>"), "");
    assert_string_equal(load_edge(EDGE_DOMAIN "\n<include file='d/a.xml'/>"),
        "x.xml:3: expected a file that can be read, found d/a.xml: No such file or directory\n"
        "x.xml:3: warning: no partner is listed and default is deny: nobody can connect\n");
    assert_says(load_edge(EDGE_DOMAIN "\n<include file='d'/>"),
        "x.xml:3: <include> file: expected a plain file, found d\n");
    assert_says(load_edge(EDGE_DOMAIN "\n<include file=''/><include name='x'/>"),
        "x.xml:3: <include> file: expected a text, found \"\" (the first of 3 errors)\n"
        "x.xml:3: <include> file: expected a text, found nothing\n"
        "x.xml:3: <include>: expected file, found the unknown attribute name\n");
    mkfifo(path_of("d/pipe.xml"), 0600);
    assert_says(load_edge(EDGE_DOMAIN "\n<include file='d/*.xml'/>"),
        "x.xml:3: <include> file: expected a plain file, found d/pipe.xml\n");
    drop_piece("pipe.xml");
}

/* What somebody without rights is told of the last file, and of no other that it names. */
static const char *
load_as_nobody(void)
{
    uid_t own = geteuid();
    buf_clear(&world.messages);
    chmod(world.dir, 0711);
    chmod(path_of("x.xml"), 0644);
    if (own == 0)
        assert_int_equal(seteuid(65534), 0);
    config_free(config_load_alone(path_of("x.xml"), &world.messages));
    assert_int_equal(seteuid(own), 0);
    return buf_text(&world.messages);
}

static void
what_cannot_be_read_is_told_of_the_line_that_includes_it(void **state)
{
    (void)state;
    put_piece("a.xml", "<partner domain='a.example' sasl='optional'/>");
    chmod(path_of("d"), 0755);
    assert_string_equal(load_edge(EDGE_DOMAIN "\n<include file='d/*.xml'/>"), "");
    chmod(path_of("d/a.xml"), 0);
    assert_says(load_as_nobody(), "x.xml:3: expected a file that can be read, found ");
    assert_says(world.messages.bytes, "/d/a.xml: Permission denied\n");
    chmod(path_of("d"), 0);
    assert_says(load_as_nobody(), "x.xml:3: <include> file: expected directories that can be read, "
        "found one that cannot on the way to d/*.xml\n");
    chmod(path_of("d"), 0700);
    drop_piece("a.xml");
}

static void
included_files_have_ceilings(void **state)
{
    struct buf text = { .max = CONFIG_FILE_MAX };
    unsigned i;
    (void)state;
    for (i = 0; i <= CONFIG_INCLUDES_MAX; i++)
        buf_puts(&text, "<include file='d/*'/>\n");
    assert_says(load_edge(buf_text(&text)),
        "x.xml:102: <xmppedge>: expected at most 100 <include>, found another\n");
    buf_clear(&text);
    buf_puts(&text, "<partner domain='a.example' sasl='optional'/>");
    while (buf_len(&text) < CONFIG_FILE_MAX - 200)
        buf_putc(&text, '\n');
    put_piece("a.xml", buf_text(&text));
    assert_says(load_edge(EDGE_DOMAIN "\n<include file='d/*'/>"),
        "x.xml:3: expected files of at most 16 MiB in all, found more with d/a.xml\n");
    drop_piece("a.xml");
    for (i = 0; i <= CONFIG_INCLUDED_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        put_piece(name, "");
    }
    assert_says(load_edge(EDGE_DOMAIN "\n<include file='d/*'/>"),
        "x.xml:3: <include> file: expected at most 10000 files in all, found more with d/*\n");
    for (i = 0; i <= CONFIG_INCLUDED_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        drop_piece(name);
    }
    buf_free(&text);
}

static void
the_directory_of_the_configuration_is_no_pattern(void **state)
{
    static const char text[] = EDGE_HEAD EDGE_DOMAIN "<include file='p*.xml'/></xmppedge>";
    struct buf messages = { 0 };
    struct config *c;
    (void)state;
    mkdir(path_of("[d]*"), 0700);
    write_file("[d]*/x.xml", span_of(text), 0600);
    write_file("[d]*/p1.xml", span_of("<partner domain='a.example' sasl='optional'/>"), 0600);
    c = config_load_alone(path_of("[d]*/x.xml"), &messages);
    assert_string_equal(buf_text(&messages), "");
    assert_int_equal(c->partners.count, 1);
    config_free(c);
    buf_free(&messages);
    unlink(path_of("[d]*/x.xml"));
    unlink(path_of("[d]*/p1.xml"));
    rmdir(path_of("[d]*"));
}

static void
missing_files_are_named_with_the_line_that_names_them(void **state)
{
    const char *said = load(span_of("<xmppedge role='gateway' name='fe01.corp.example'>"
        "<edge name='edge01.corp.example' address='10.0.0.5'/>\n"
        "<certificate chain='fe01.pem'\n key='nokey'/><trust ca='.'/>\n"
        "<listen address='127.0.0.1'/>" INNER "</xmppedge>"));
    (void)state;
    assert_says(said,
        "x.xml:3: <certificate> key: expected a file that can be read, found nokey: No such file "
        "or directory (the first of 2 errors)\n");
    assert_says(said, "x.xml:3: <trust> ca: expected a file, found the directory ");
}

static void
an_element_that_may_be_there_once_is_refused_twice(void **state)
{
    (void)state;
    assert_says(load_gateway(INNER "\n<log/>\n<tls/>\n<log/>"),
        "x.xml:5: <xmppedge>: expected only one <log>, found another; the first is in line 3\n");
}

/* `n` times `text`, with a number for %u, between two others. */
static struct buf
repeated(const char *before, const char *text, unsigned from, unsigned n, const char *after)
{
    struct buf out = { .max = CONFIG_FILE_MAX };
    char one[200];
    buf_puts(&out, before);
    for (; n > 0; n--, from++) {
        snprintf(one, sizeof one, text, from);
        buf_puts(&out, one);
    }
    buf_puts(&out, after);
    return out;
}

static const char *
load_repeated(struct buf text)
{
    const char *said = load(buf_span(&text));
    buf_free(&text);
    return said;
}

static void
a_name_server_that_would_never_be_asked_is_refused(void **state)
{
    static const char one[] = "\n<resolver address='10.0.0.%u'/>";
    (void)state;
    load_repeated(repeated(GATEWAY_HEAD INNER, one, 1, DNS_SERVERS_MAX, "</xmppedge>"));
    assert_int_equal(world.c->nresolvers, DNS_SERVERS_MAX);
    assert_says(load_repeated(repeated(GATEWAY_HEAD INNER, one, 1, DNS_SERVERS_MAX + 1,
        "</xmppedge>")),
        "x.xml:6: <xmppedge>: expected at most 4 <resolver>, found another\n");
}

#define MANY_DOMAINS "\n<domain name='d%u.example'/>"

static void
inner_domains_that_a_trunk_does_not_carry_are_refused(void **state)
{
    static const char head[] = GATEWAY_HEAD "\n<inner address='127.0.0.1' port='5270'>";
    static const char next[] = "</inner><inner address='127.0.0.2'>"
        "<domain name='corp.example'/></inner></xmppedge>";
    (void)state;
    load_repeated(repeated(head, MANY_DOMAINS, 1, TRUNK_DOMAINS_MAX, "</inner></xmppedge>"));
    assert_non_null(world.c);
    assert_int_equal(world.c->inner[0].ndomains, TRUNK_DOMAINS_MAX);
    assert_string_equal(load_repeated(repeated(head, MANY_DOMAINS, 1, TRUNK_DOMAINS_MAX + 1,
        "</inner></xmppedge>")),
        "x.xml:1003: <inner>: expected at most 1000 <domain>, found another\n");
    assert_says(load_repeated(repeated(head, MANY_DOMAINS, 1, TRUNK_DOMAINS_MAX, next)),
        "x.xml:1002: expected at most 1000 inner domains in all, that of <echo> included, which is "
        "what a trunk carries, found another\n");
    assert_says(load_repeated(repeated(head, MANY_DOMAINS, 1, TRUNK_DOMAINS_MAX,
        "</inner><echo domain='echo.example'/></xmppedge>")),
        "x.xml:1002: expected at most 1000 inner domains");
}

static void
an_edge_needs_gateways_enough_for_its_domains(void **state)
{
    (void)state;
    load_repeated(repeated(EDGE_HEAD, MANY_DOMAINS, 1, TRUNK_DOMAINS_MAX, "</xmppedge>"));
    assert_int_equal(world.c->ndomains, TRUNK_DOMAINS_MAX);
    assert_says(load_repeated(repeated(EDGE_HEAD, MANY_DOMAINS, 1, TRUNK_DOMAINS_MAX + 1,
        "</xmppedge>")),
        "x.xml:1002: expected at most 1000 inner domains for each <gateway>, which is what a trunk "
        "carries, found another\n");
}

static void
an_element_in_the_wrong_place_is_told_where_it_stands(void **state)
{
    const char *said = load_edge(EDGE_DOMAIN "<partners>\n<include file='d/*.xml'/><trust/>\n"
        "<source address='::1'/><component/></partners>\n<inner/>");
    (void)state;
    assert_says(said, "x.xml:3: <partners>: expected default, partner, found the element "
        "<include>, which stands in <xmppedge> (the first of 5 errors)\n");
    assert_says(said, "the element <trust>, which stands in <xmppedge> or <internal> or ");
    assert_says(said, "x.xml:4: <partners>: expected default, partner, found the element <source>, "
        "which stands in <metrics>\n");
    assert_says(said, "the element <component>, which stands in <inner> of role=\"gateway\"\n");
    assert_says(said, "the element <inner>, which only role=\"gateway\" has\n");
}

static void
what_was_meant_is_named(void **state)
{
    const char *said = load_gateway(INNER "<limts/>\n<lgo levl='info' colour='red'/>"
        "<log levl='info'/>\n<component/>\n<bad/>");
    (void)state;
    assert_says(said, "found the unknown element <limts>; did you mean <limits>? (the "
        "first of 5 errors)\n");
    assert_says(said, "found the unknown element <lgo>\n");   /* half of it is wrong */
    assert_says(said, "found the unknown attribute levl; did you mean level?\n");
    assert_says(said, "found the unknown element <bad>\n");
    assert_says(load_gateway(INNER "<external/>"), "which only role=\"edge\" has\n");
    said = load(span_of("<xmppedge role='edge' name='e.example'><dailback/></xmppedge>"));
    assert_says(said, "did you mean <dialback>?\n");
    assert_null(strstr(said, "expected a <dialback> in it"));   /* that is the same again */
}

static void
errors_stand_before_warnings(void **state)
{
    const char *said = load_gateway(INNER "<tls keylog='true'/>\n<limts/>");
    (void)state;
    assert_says(said, "warning: keylog is allowed");
    assert_true(strstr(said, "<limts>") < strstr(said, "warning: "));
}

/* Where the service of a file with this text listens, the directory of the file left out. */
static const char *
control_of(const char *text)
{
    static char found[512];
    struct buf out = { 0 };
    size_t dir = strlen(world.dir) + 1;
    write_file("x.xml", span_of(text), 0600);
    config_find_control(path_of("x.xml"), &out);
    assert_false(out.failed);
    snprintf(found, sizeof found, "%s", strncmp(buf_text(&out), path_of(""), dir) == 0
        ? buf_text(&out) + dir : buf_text(&out));
    buf_free(&out);
    return found;
}

static void
the_control_socket_is_found_in_what_is_no_configuration(void **state)
{
    (void)state;
    assert_string_equal(control_of("<xmppedge role='edge'><bad><control socket='a.sock'/>"),
        "a.sock");
    assert_string_equal(control_of("<xmppedge name='e.example'>\n<control x='1'\n socket = "
        "\"/run/b.sock\""), "/run/b.sock");
    assert_string_equal(control_of("<!-- <control socket='not'/> --><controls socket='not'/>"
        "<xmppedge nam='f.example' name='e.example'>"), "/run/xmppedge/e.example.sock");
    assert_string_equal(control_of("<bad><control socket='/run/a&amp;b&#46;sock'/>"),
        "/run/a&b.sock");
    assert_string_equal(control_of("<xmppedge name='E.example.'>"), "/run/xmppedge/e.example.sock");
    assert_string_equal(control_of("<xmppedge name='../../tmp/x'>"), "");
    assert_string_equal(control_of("<xmppedge name='e.example><control"), "");
    assert_string_equal(control_of("<!-- <xmppedge name='e.example'>"), "");
    assert_string_equal(control_of("<xmppedge name=\"e.example<"), "");
    assert_string_equal(control_of("<xmppedge name"), "");
    assert_string_equal(control_of("<"), "");
    assert_string_equal(control_of(""), "");
}

static void
no_number_of_warnings_hides_an_error(void **state)
{
    static const char text[] =
        "\n<partner domain='p%u.example' sasl='optional' connection-limit='2000'/>";
    (void)state;
    load_repeated(repeated(EDGE_HEAD EDGE_DOMAIN "<limits queue-bytes='20000'/><partners>", text, 1,
        CONFIG_MESSAGES_MAX + 50, "</partners></xmppedge>"));
    assert_null(world.c);
    assert_says(buf_text(&world.messages), "x.xml:1: <limits>: expected queue-bytes");
    assert_says(buf_text(&world.messages), "x.xml: 51 more messages are left out\n");
}

static void
an_element_of_the_other_role_is_told_apart_from_an_unknown_one(void **state)
{
    (void)state;
    assert_says(load_gateway(INNER "<external/>"),
        "found the element <external>, which only role=\"edge\" has\n");
    assert_says(load_gateway(INNER "<partner/>"), "found the element <partner>, which stands in "
        "<component> or <partners>\n");
}

static void
a_flood_of_errors_is_cut_and_counted(void **state)
{
    struct buf text = { 0 };
    int i;
    (void)state;
    buf_puts(&text, INNER);
    for (i = 0; i < 300; i++)
        buf_puts(&text, "<bad/>\n");
    assert_says(load_gateway(buf_text(&text)), "x.xml: 100 more messages are left out\n");
    assert_null(world.c);
    buf_free(&text);
}

/* ---- settings that contradict each other ---- */

static void
the_five_invalid_rows_are_refused_and_the_seven_doubtful_ones_warned_about(void **state)
{
    static const char *const words[] = { "required", "optional", "not-supported" };
    unsigned i;
    (void)state;
    for (i = 0; i < 18; i++) {
        const struct policy_row *row =
            policy_row((enum policy_level)(i % 3), (enum policy_level)(i / 3 % 3), i / 9 == 0);
        char text[128];
        const char *said;
        snprintf(text, sizeof text, "tls='%s' sasl='%s' dialback='%s'", words[i % 3],
            words[i / 3 % 3], i / 9 == 0 ? "true" : "false");
        said = load_partner(text);
        assert_int_equal(world.c == NULL, row->verdict == POLICY_INVALID);
        if (row->verdict == POLICY_VALID) {
            assert_string_equal(said, "");
            continue;
        }
        snprintf(text, sizeof text, "is row %u of the negotiation settings, which is %s: ",
            row->number, policy_verdicts[row->verdict]);
        assert_says(said, text);
        assert_says(said, row->why);
        assert_says(said, row->verdict == POLICY_DOUBTFUL ? "x.xml:2: warning: p.example: tls="
            : "x.xml:2: p.example: tls=");
    }
}

static void
two_partners_cannot_share_a_domain(void **state)
{
    (void)state;
    assert_says(load_edge(EDGE_DOMAIN "<partners>" PARTNER
        "\n<partner domain='b.example' sasl='optional'>\n"
        "<domain name='Fabrikam.example'/></partner></partners>"),
        "x.xml:4: expected fabrikam.example as a partner domain once, found it again; the first is "
        "in x.xml:2\n");
    assert_null(world.c);
}

static void
a_partner_cannot_have_one_of_our_domains(void **state)
{
    (void)state;
    assert_says(load_edge(EDGE_DOMAIN "<partners>\n<partner domain='corp.example' sasl='optional'/>"
        "</partners>"),
        "x.xml:3: expected the domain of a partner, found corp.example, which is one of ours\n");
    assert_says(load_edge("<echo domain='e.example'/><partners>\n<partner domain='e.example' "
        "sasl='optional'/></partners>"), "found e.example, which is one of ours\n");
}

static void
an_edge_needs_a_domain_or_an_echo(void **state)
{
    (void)state;
    assert_says(load_edge(""),
        "x.xml:1: expected at least one <domain> or an <echo>, found neither\n");
    load_edge("<echo domain='echo.corp.example'/>");
    assert_non_null(world.c);
}

static void
a_domain_cannot_be_bound_to_an_unknown_gateway(void **state)
{
    (void)state;
    assert_says(load_edge("<domain name='corp.example' gateway='fe02.corp.example'/>"),
        "corp.example: expected one of the gateways of <internal>, found fe02.corp.example\n");
    load_edge("<domain name='corp.example' gateway='fe01.corp.example'/>");
    assert_non_null(world.c);
    assert_true(span_is(world.c->domains[0].gateway, "fe01.corp.example"));
}

static void
repeated_domains_gateways_and_edges_are_refused(void **state)
{
    (void)state;
    assert_says(load_edge(EDGE_DOMAIN "\n" EDGE_DOMAIN),
        "x.xml:3: expected corp.example as an inner domain once, found it again\n");
    assert_says(load_gateway(INNER
        "\n<inner address='127.0.0.2'><domain name='corp.example'/></inner>"),
        "x.xml:3: expected corp.example as an inner domain once, found it again\n");
    assert_says(load_gateway(INNER "\n<edge name='edge01.corp.example' address='10.0.0.6'/>"),
        "x.xml:3: expected the edge edge01.corp.example once, found it again\n");
}

static void
the_two_addresses_of_an_edge_are_compared(void **state)
{
    static const char head[] = "<xmppedge role='edge' name='e.example'>" EDGE_DOMAIN
        "<certificate chain='common.pem' key='common.key'/>"
        "<dialback secret-file='dialback.secret'/>" TRUST_PARTNERS
        "<external address='%s'/><internal address='%s' port='%s'>"
        "<certificate chain='edge01.pem' key='edge01.key'/><trust ca='ca.pem'/>"
        "<gateway name='g.example'/></internal>"
        "</xmppedge>";
    char text[1024];
    (void)state;
    snprintf(text, sizeof text, head, "10.0.0.5", "10.0.0.5", "23456");
    assert_says(load(span_of(text)), "x.xml:1: warning: the internal address is the external one");
    assert_non_null(world.c);
    snprintf(text, sizeof text, head, "10.0.0.5", "10.0.0.5", "5269");
    assert_says(load(span_of(text)), "expected another port or address than that of <external>");
    assert_null(world.c);
    snprintf(text, sizeof text, head, "0.0.0.0", "10.0.0.5", "5269");
    assert_says(load(span_of(text)), "expected another port or address than that of <external>");
    snprintf(text, sizeof text, head, "0.0.0.0", "10.0.0.5", "23456");
    assert_says(load(span_of(text)), "row 2 of the port table names one");
    assert_non_null(world.c);
    snprintf(text, sizeof text, head, "10.0.0.6", "::", "23456");
    assert_says(load(span_of(text)), "the port for gateways is open on every address");
}

/* A gateway whose inner server, with these attributes, has this <component>, in line 2. */
static const char *
load_component(const char *attributes, const char *component)
{
    char text[1024];
    snprintf(text, sizeof text,
        "<inner address='127.0.0.1' port='5270' %s><domain name='corp.example'/>%s</inner>",
        attributes, component);
    return load_gateway(text);
}

#define COMPONENT(partners) "<component secret-file='component.secret'>" partners "</component>"

static void
partners_may_be_components_of_an_inner_server(void **state)
{
    const struct config_component *component;
    const struct config_inner *in;
    (void)state;
    assert_string_equal(load_component("", COMPONENT("<partner domain='A.example'/>"
        "<partner domain='b.example'/>")), "");
    in = config_inner_for(world.c, span_of("corp.example"));
    component = config_component_for(in, span_of("a.example"));
    assert_ptr_equal(component, &in->component);
    assert_ptr_equal(config_component_for(in, span_of("b.example")), component);
    assert_null(config_component_for(in, span_of("c.example")));
    assert_int_equal(component->port, 5347);
    assert_true(span_is(component->secret, "0123456789abcdef"));
    load_component("", "");
    assert_null(config_component_for(config_inner_for(world.c, span_of("corp.example")),
        span_of("a.example")));
}

static void
components_that_could_not_be_are_refused(void **state)
{
    (void)state;
    assert_says(load_component("", COMPONENT("<partner domain='corp.example'/>")),
        "x.xml:2: expected the domain of a partner, found corp.example, which is inside");
    assert_says(load_component("", COMPONENT("<partner domain='a.example'/>"
        "<partner domain='a.example'/>")),
        "x.xml:2: expected a.example as a component once, found it again");
    assert_says(load_component("", COMPONENT("")), "x.xml:2: ");
    assert_says(load_component("tls='required'", COMPONENT("<partner domain='a.example'/>")),
        "x.xml:2: <component>: expected tls=\"optional\" of <inner>, found tls=\"required\"");
    write_file("component.secret", span_of("short"), 0600);
    assert_says(load_component("", COMPONENT("<partner domain='a.example'/>")),
        "x.xml:2: <component> secret-file: expected 16 to 4096 bytes in ");
    write_file("component.secret", span_of("0123456789abcdef\n"), 0604);
    assert_says(load_component("", COMPONENT("<partner domain='a.example'/>")),
        "x.xml:2: warning: every user of this machine can read the secret of <component> in ");
    write_file("component.secret", span_of("0123456789abcdef\n"), 0600);
    assert_says(load_gateway("<limits connections='1'/><inner address='::1'>"
        "<domain name='c.example'/>" COMPONENT("<partner domain='a.example'/>"
        "<partner domain='b.example'/>") "</inner>"),
        "expected at most 1 partners in <component>, as <limits> connections says, found 2");
}

static void
a_component_that_is_not_on_this_machine_is_warned_about(void **state)
{
    static const struct { const char *address; bool warned; } rows[] = { { "127.9.9.9", false },
        { "::1", false }, { "10.1.0.1", true }, { "2001:db8::1", true } };
    char text[512];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "<inner address='%s'><domain name='corp.example'/>"
            COMPONENT("<partner domain='a.example'/>") "</inner>", rows[i].address);
        assert_int_equal(strstr(load_gateway(text), "x.xml:2: warning: <component>: stanzas cross "
            "the network in the clear") != NULL, rows[i].warned);
        assert_non_null(world.c);
    }
}

static void
a_gateway_is_kept_from_talking_to_itself(void **state)
{
    (void)state;
    assert_says(load_gateway("<inner address='127.0.0.1'><domain name='corp.example'/></inner>"),
        "x.xml:2: expected the address and port of the inner server, found those of <listen>");
    assert_null(world.c);
}

static void
a_gateway_has_types_of_partners_which_are_federated_unless_it_says_otherwise(void **state)
{
    const struct config *c;
    (void)state;
    load_gateway(INNER);
    assert_int_equal(config_partner_for(world.c, span_of("far.example"))->type, CONFIG_FEDERATED);
    assert_string_equal(load_gateway(INNER "<partners invitations-file='invitations'>"
        "<default type='public-verified'/><partner domain='far.example'>"
        "<domain name='Also.example'/></partner>"
        "<partner domain='own.example' type='federated'/></partners>"), "");
    c = world.c;
    assert_non_null(c);
    assert_string_equal(c->partners.invitations_file, path_of("invitations"));
    assert_int_equal(config_partner_for(c, span_of("far.example"))->type,
        CONFIG_PUBLIC_UNVERIFIED);
    assert_int_equal(config_partner_for(c, span_of("also.example"))->type,
        CONFIG_PUBLIC_UNVERIFIED);
    assert_int_equal(config_partner_for(c, span_of("own.example"))->type, CONFIG_FEDERATED);
    assert_int_equal(config_partner_for(c, span_of("x.example"))->type, CONFIG_PUBLIC_VERIFIED);
    assert_null(config_partner_for(c, span_of("corp.example")));
}

static void
invitations_are_kept_where_they_matter(void **state)
{
    static const char lost[] = "warning: there is no invitations-file: a restart forgets whom "
        "users have written to, ";
    (void)state;
    assert_says(load_gateway(INNER "<partners><partner domain='far.example'/></partners>"), lost);
    assert_says(load_gateway(INNER "<partners><default type='public-unverified'/></partners>"),
        lost);
    assert_says(load_gateway(INNER "<partners invitations-file='x'>"
        "<partner domain='far.example' type='public-verified'/></partners>"),
        "warning: invitations-file has no effect without a partner of the type public-unverified");
    assert_non_null(world.c);
}

static void
partners_of_a_gateway_are_not_its_own_domains_and_have_no_other_settings(void **state)
{
    (void)state;
    assert_says(load_gateway(INNER "<partners><partner domain='corp.example'/></partners>"),
        "expected the domain of a partner, found corp.example, which is one of ours");
    assert_says(load_gateway(INNER "<partners><partner domain='a.example'/>"
        "<partner domain='A.example'/></partners>"),
        "expected a.example as a partner domain once, found it again");
    assert_says(load_gateway(INNER "<partners><partner domain='a.example' tls='optional'/>"
        "</partners>"), "<partner>: expected domain, type, found the unknown attribute tls");
    assert_null(world.c);
}

static void
a_short_secret_is_refused_and_an_open_one_warned_about(void **state)
{
    (void)state;
    write_file("dialback.secret", span_of("0123456789abcde\r\n"), 0600);
    assert_says(load_edge(EDGE_DOMAIN),
        "x.xml:1: <dialback> secret-file: expected 16 to 4096 bytes in ");
    assert_null(world.c);
    write_file("dialback.secret", span_of("0123456789abcdef"), 0644);
    assert_says(load_edge(EDGE_DOMAIN),
        "x.xml:1: warning: every user of this machine can read the secret of <dialback> in ");
    assert_non_null(world.c);
    write_file("dialback.secret", span_of("0123456789abcdef\n"), 0600);
}

static void
files_that_a_reload_could_not_read_are_warned_about(void **state)
{
    static const char gateway[] = "\n" INNER "<run user='nobody'/>";
    const struct passwd *pw = getpwnam("nobody");
    const char *said;
    (void)state;
    if (pw == NULL || pw->pw_uid == geteuid())
        skip();
    assert_int_equal(chmod(world.dir, 0711), 0);
    write_file("fe01.key", span_of("x"), 0600);
    write_file("fe01.pem", span_of("x"), 0644);
    said = load_gateway(gateway);
    assert_non_null(world.c);
    assert_says(said,
        "x.xml:1: warning: after becoming nobody, a reload cannot read fe01.key because of its "
        "mode\n");
    assert_null(strstr(said, "read fe01.pem"));
    assert_int_equal(chmod(world.dir, 0700), 0);
    said = load_gateway(gateway);
    assert_says(said,
        "x.xml:1: warning: after becoming nobody, a reload cannot read fe01.pem because of the "
        "mode of ");
    assert_says(said,
        "x.xml:3: warning: after becoming nobody, a reload cannot read x.xml because");
    assert_string_equal(load_gateway("\n" INNER "<run user='root'/>"), "");
    write_file("fe01.pem", span_of("x"), 0600);
}

static void
the_mode_of_a_file_counts_for_owner_group_or_others(void **state)
{
    gid_t group = getegid() + 1;
    struct config_who who = { .name = "somebody", .uid = geteuid() + 1, .groups = &group,
        .ngroups = 1 };
    const char *file = path_of("fe01.key");
    struct stat st;
    (void)state;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(chmod(file, 0604), 0);
    assert_true(config_may(&who, file, 4));
    group = st.st_gid;
    assert_false(config_may(&who, file, 4));
    assert_int_equal(chmod(file, 0640), 0);
    assert_true(config_may(&who, file, 4));
    assert_false(config_may(&who, file, 1));
    who.uid = st.st_uid;
    assert_int_equal(chmod(file, 0440), 0);
    assert_true(config_may(&who, file, 4));
    assert_int_equal(chmod(file, 0060), 0);
    assert_false(config_may(&who, file, 4));
    assert_int_equal(chmod(file, 0600), 0);
    assert_true(config_may(&who, path_of("nothere"), 4));
}

/* `status` and `ports` are asked by those who may not read keys. */
static void
a_configuration_alone_needs_none_of_its_files(void **state)
{
    static const char text[] = "<xmppedge role='gateway' name='fe01.corp.example'>"
        "<edge name='edge01.corp.example' address='10.0.0.5'/><certificate chain='n' key='n'/>"
        "<trust ca='n'/><listen address='127.0.0.1'/><dialback secret-file='n'/>"
        "<run user='no-such-user'/>%s" INNER "</xmppedge>";
    char whole[1024];
    (void)state;
    snprintf(whole, sizeof whole, text, "");
    load(span_of(whole));
    assert_null(world.c);
    buf_clear(&world.messages);
    world.c = config_load_alone(path_of("x.xml"), &world.messages);
    assert_non_null(world.c);
    assert_string_equal(buf_text(&world.messages), "");
    forget(NULL);
    snprintf(whole, sizeof whole, text, "<nothing/>");
    load(span_of(whole));
    assert_null(config_load_alone(path_of("x.xml"), &world.messages));
    assert_says(buf_text(&world.messages), "unknown element <nothing>");
}

static void
a_text_is_read_as_the_file_of_its_name_would_be(void **state)
{
    static const char text[] = "<xmppedge role='edge' name='edge01.corp.example'>\n"
        "<include file='more.xml'/>\n<nothing/></xmppedge>";
    (void)state;
    forget(NULL);
    write_file("more.xml", span_of("<partner/>"), 0600);
    assert_null(config_load_file(path_of("not-there.xml"), span_of(text), true, &world.messages));
    assert_says(buf_text(&world.messages), "not-there.xml:3: <xmppedge>: expected external, ");
    assert_says(buf_text(&world.messages), "more.xml:1: <partner>");
    forget(NULL);
    assert_null(config_load_file(path_of("not-there.xml"), span_of(""), true, &world.messages));
    assert_says(buf_text(&world.messages),
        "not-there.xml:1: expected <xmppedge>, found an empty file");
}

static void
files_are_named_from_where_the_configuration_is(void **state)
{
    struct buf messages = { 0 };
    char here[512];
    (void)state;
    load_gateway(INNER);
    write_file("x.xml", span_of("<xmppedge role='gateway' name='a.example'>"
        "<certificate chain='fe01.pem' key='nothere.key'/></xmppedge>"), 0600);
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(world.dir), 0);
    assert_null(config_load("x.xml", &messages));
    assert_int_equal(chdir(here), 0);
    assert_says(buf_text(&messages),
        "x.xml:1: <certificate> key: expected a file that can be read, found nothere.key: "
        "No such file");
    assert_null(strstr(buf_text(&messages), world.dir));
    buf_free(&messages);
}

static void
a_control_socket_must_fit_its_address(void **state)
{
    char text[512], path[200];
    (void)state;
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    snprintf(text, sizeof text, INNER "\n<control socket='/%s'/>", path);
    assert_says(load_gateway(text), "x.xml:3: <control> socket: expected a path of at most ");
    assert_null(world.c);
}

static void
a_user_must_exist(void **state)
{
    (void)state;
    assert_says(load_gateway(INNER "\n<run user='no-such-user-here'/>"),
        "x.xml:3: <run> user: expected a user of this machine, found no-such-user-here\n");
    load_gateway(INNER "<run user='root'/>");
    assert_non_null(world.c);
}

static void
settings_without_effect_are_warned_about(void **state)
{
    (void)state;
    assert_says(load_gateway(INNER "<tls keylog='true'/>"), "x.xml:2: warning: keylog is allowed");
    assert_says(load_gateway(INNER "<tls keylog-file='k'/>"), "keylog-file has no effect");
    assert_says(load_gateway(INNER "<tls prefer='aes' ciphersuites='X'/>"),
        "x.xml:2: warning: prefer has no effect beside ciphersuites");
    assert_says(load_gateway(INNER "\n<limits connect-time='40s' pairs='9' total-pairs='8'/>"),
        "x.xml:3: warning: <limits>: connect-time is above attempt-time");
    assert_says(buf_text(&world.messages),
        "x.xml:3: warning: <limits>: pairs is above total-pairs");
    assert_says(load_partner("sasl='optional' proxy-direct-tls='true'"),
        "no effect without a proxy");
    assert_says(load_partner("sasl='optional' connection-limit='1001'"),
        "connection-limit is above");
    assert_says(load_edge(EDGE_DOMAIN), "nobody can connect");
    assert_non_null(world.c);
    assert_says(load_gateway(INNER "\n<limits rsa-bits-min='4096' rsa-bits-max='3072'/>"),
        "x.xml:3: warning: <limits>: rsa-bits-min is above rsa-bits-max");
    assert_says(load_gateway(INNER "\n<limits queue-bytes='20000'/>"),
        "x.xml:3: <limits>: expected queue-bytes");
    assert_null(world.c);
    assert_says(load_partner(
        "tls='not-supported' sasl='not-supported' proxy='a' proxy-direct-tls='true'"),
        "beside proxy-direct-tls=\"true\", found tls=\"not-supported\"");
    assert_null(world.c);
}

static void
a_domain_without_a_certificate_is_warned_about(void **state)
{
    (void)state;
    assert_says(load(span_of("<xmppedge role='edge' name='e.example'>"
        "<external address='192.0.2.1'/><internal address='10.0.0.5'>"
        "<certificate chain='edge01.pem' key='edge01.key'/><trust ca='ca.pem'/>"
        "<gateway name='g.example'/></internal><dialback secret-file='dialback.secret'/>"
        EDGE_DOMAIN "<partners>" PARTNER "</partners></xmppedge>")),
        "corp.example: there is no certificate for it");
    assert_says(world.messages.bytes, "there is no <trust> for partners");
    assert_non_null(world.c);
    assert_int_equal(world.c->domains[0].certificate.line + world.c->certificate.line, 0);
}

static void
an_echo_is_a_domain_of_its_own(void **state)
{
    (void)state;
    assert_says(load_edge(EDGE_DOMAIN "\n<echo domain='corp.example'/>"),
        "x.xml:3: expected an <echo> domain of its own, found the inner domain corp.example\n");
    assert_says(load_gateway(INNER "\n<echo domain='corp.example'/>"),
        "x.xml:2: expected another domain than that of <echo>, found corp.example\n");
    assert_null(world.c);
}

static void
a_secret_that_is_no_plain_small_file_is_refused(void **state)
{
    struct buf text = { 0 };
    (void)state;
    while (buf_len(&text) <= CONFIG_SECRET_MAX)
        buf_puts(&text, "0123456789");
    write_file("dialback.secret", buf_span(&text), 0600);
    assert_says(load_edge(EDGE_DOMAIN),
        "<dialback> secret-file: expected a plain file of at most 4096 ");
    assert_null(world.c);
    write_file("dialback.secret", span_of("0123456789abcdef\n"), 0600);
    assert_says(load_gateway(INNER "<dialback secret-file='/dev/null'/>"), "expected a plain file");
    buf_free(&text);
}

static void
files_that_cannot_be_loaded_later_are_named_with_their_line(void **state)
{
    struct buf text = { 0 };
    (void)state;
    load_gateway("\n" INNER);
    config_put_where(&text, world.c, world.c->inner[0].line);
    assert_says(buf_text(&text), "x.xml:3: ");
    buf_free(&text);
}

/* ---- look-ups ---- */

static void
a_partner_is_found_by_each_of_its_domains_and_by_nothing_else(void **state)
{
    const struct config_partner *p;
    (void)state;
    load_edge(EDGE_DOMAIN
        "<partners><partner domain='a.example' sasl='optional'><domain name='b.example'/>"
        "</partner>" PARTNER "</partners>");
    assert_non_null(world.c);
    p = config_partner_for(world.c, span_of("b.example"));
    assert_non_null(p);
    assert_ptr_equal(p, config_partner_for(world.c, span_of("a.example")));
    assert_true(span_is(p->domain.name, "a.example"));
    assert_ptr_not_equal(p, config_partner_for(world.c, span_of("fabrikam.example")));
    assert_null(config_partner_for(world.c, span_of("x.a.example")));
    assert_null(config_partner_for(world.c, span_of("unlisted.example")));
    assert_null(config_partner_for(world.c, span_of("")));
    assert_null(config_partner_for(world.c, span_of("corp.example")));
}

static void
allow_gives_the_default_partner_to_all_but_our_own_domains(void **state)
{
    const struct config_partner *p;
    (void)state;
    load_edge(EDGE_DOMAIN "<partners default='allow'>"
        "<default sasl='optional' connection-limit='3'/>" PARTNER "</partners>");
    assert_non_null(world.c);
    p = config_partner_for(world.c, span_of("unlisted.example"));
    assert_non_null(p);
    assert_int_equal(p->row->number, 7);
    assert_int_equal(p->connection_limit, 3);
    assert_null(p->domain.name.at);
    assert_null(config_partner_for(world.c, span_of("corp.example")));
    assert_int_equal(config_partner_for(world.c,
        span_of("fabrikam.example"))->connection_limit, 20);
}

static void
a_default_partner_with_an_invalid_row_counts_only_when_it_is_used(void **state)
{
    (void)state;
    assert_says(load_edge(EDGE_DOMAIN "<partners default='allow'>\n<default tls='not-supported' "
        "dialback='false'/></partners>"), "x.xml:3: the default partner: tls=\"not-supported\"");
    assert_null(world.c);
    load_edge(EDGE_DOMAIN "<partners>" PARTNER
        "<default tls='not-supported' dialback='false'/></partners>");
    assert_non_null(world.c);
}

static void
inner_domains_are_found_on_their_side(void **state)
{
    (void)state;
    load_edge(EDGE_DOMAIN "<echo domain='echo.corp.example'/>");
    assert_ptr_equal(config_domain_for(world.c, span_of("corp.example")), &world.c->domains[0]);
    assert_null(config_domain_for(world.c, span_of("echo.corp.example")));
    assert_true(config_is_ours(world.c, span_of("echo.corp.example")));
    assert_false(config_is_ours(world.c, span_of("fabrikam.example")));
    assert_int_equal(world.c->domains[0].certificate.line, 0);
    assert_true(world.c->certificate.line > 0);
    load_gateway(INNER
        "<inner address='127.0.0.2'><domain name='a.example'/><domain name='b.example'/>"
        "</inner>");
    assert_ptr_equal(config_inner_for(world.c, span_of("b.example")), &world.c->inner[1]);
    assert_ptr_equal(config_inner_for(world.c, span_of("corp.example")), &world.c->inner[0]);
    assert_null(config_inner_for(world.c, span_of("fabrikam.example")));
    assert_non_null(config_partner_for(world.c, span_of("fabrikam.example")));
    assert_null(config_partner_for(world.c, span_of("a.example")));
}

static bool
allowed(const char *address)
{
    struct config_address a = { 0 };
    assert_true(config_parse_address(address, &a));
    return config_source_allowed(world.c, (const struct sockaddr *)(const void *)&a.sa);
}

static void
inner_servers_connect_from_their_own_address_unless_told_otherwise(void **state)
{
    (void)state;
    load_gateway(INNER);
    assert_true(allowed("127.0.0.1"));
    assert_true(allowed("::ffff:127.0.0.1"));
    assert_false(allowed("127.0.0.2"));
    assert_false(allowed("::1"));
    load_gateway("<inner address='10.1.2.3'><domain name='corp.example'/>"
        "<source address='10.1.0.0/20'/><source address='2001:db8::/33'/></inner>");
    assert_non_null(world.c);
    assert_true(allowed("10.1.15.255"));
    assert_false(allowed("10.1.16.0"));
    assert_true(allowed("2001:db8:7fff::1"));
    assert_false(allowed("2001:db8:8000::1"));
    assert_says(load_gateway("<inner address='10.1.2.3'><domain name='corp.example'/>"
        "<source address='10.1.0.0/33'/></inner>"),
        "<source> address: expected an IPv4 or IPv6 address, or a network");
}

/* ---- who vouches for whom ---- */

#define PIN "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define PIN_HEX "sha256:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static void
a_partner_has_a_trust_and_pins_of_its_own(void **state)
{
    const struct config_partner *p;
    struct buf out = { 0 };
    (void)state;
    assert_string_equal(load_edge(EDGE_DOMAIN "<partners default='allow'>"
        "<default dialback='false'><trust ca='common.pem'/></default>"
        "<partner domain='p.example' dialback='false' pin=' " PIN "\n" PIN_HEX " '>"
        "<trust ca='ca.pem' crl='echo.pem'/><domain name='q.example'/></partner>"
        "<partner domain='r.example' dialback='false'/></partners>"), "");
    p = config_partner_for(world.c, span_of("q.example"));
    assert_string_equal(p->trust.ca, path_of("ca.pem"));
    assert_string_equal(p->trust.crl, path_of("echo.pem"));
    assert_int_equal(p->trust.line, 3);
    assert_int_equal(p->pins.count, 2);
    assert_int_equal(p->pins.list[0][31], 0x1f);
    assert_int_equal(p->pins.list[1][0], 0xff);
    p = config_partner_for(world.c, span_of("r.example"));
    assert_int_equal(p->trust.line, 0);
    assert_int_equal(p->pins.count, 0);
    assert_string_equal(world.c->partners.fallback.trust.ca, path_of("common.pem"));
    config_print_effective(world.c, &out);
    assert_says(buf_text(&out), "pin=\"" PIN " sha256:/wECAwQ");
    buf_free(&out);
}

static void
a_pin_that_is_none_is_refused_with_its_line(void **state)
{
    static const char *const bad[] = { "sha256:", "sha256:abc", "sha1:" PIN, PIN "," PIN_HEX,
        PIN " x", "AA:BB" };
    char attributes[256];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(attributes, sizeof attributes, "pin='%s'", bad[i]);
        assert_says(load_partner(attributes), "x.xml:2: <partner> pin: expected sha256: and the "
            "hash in base64 (44 characters) or hexadecimal (64), with spaces between several, "
            "found \"");
        assert_null(world.c);
    }
    assert_says(load_partner("pin=''"), "<partner> pin: expected sha256:");
    assert_says(load_edge(EDGE_DOMAIN "<partners default='allow'><default pin='" PIN "'/>"
        "</partners>"), "found the unknown attribute pin");
}

static void
a_trust_that_binds_nobody_is_warned_about(void **state)
{
    (void)state;
    assert_says(load_partner("sasl='optional' pin='" PIN "'"), "x.xml:2: warning: p.example: its "
        "pin does not bind it while dialback is allowed, which needs no certificate; say "
        "dialback=\"false\" to insist on one");
    assert_says(load_edge(EDGE_DOMAIN "<partners><partner domain='p.example' tls='not-supported' "
        "sasl='not-supported'><trust ca='ca.pem'/></partner></partners>"),
        "its own <trust> has no effect with tls=\"not-supported\"");
    assert_says(load_partner("tls='not-supported' sasl='not-supported' pin='" PIN "'"),
        "its pin has no effect with tls=\"not-supported\"");
    assert_says(load_edge(EDGE_DOMAIN "<partners><partner domain='p.example'>"
        "<trust ca='missing.pem'/></partner></partners>"),
        "x.xml:2: <trust> ca: expected a file that can be read, found missing.pem");
    assert_string_equal(load_partner("sasl='optional' dialback='false' pin='" PIN "'"), "");
}

static void
networks_are_a_list_for_all_partners_or_for_one(void **state)
{
    const struct reach_list *n;
    char text[REACH_TEXT_MAX];
    (void)state;
    assert_non_null(load(span_of("<xmppedge role='edge' name='e.example'><external "
        "address='192.0.2.1' networks=' 10.0.0.0/8\n\tfd00::/8  192.168.7.9 '/><echo "
        "domain='echo.example'/><dialback secret-file='dialback.secret'/><partners><partner "
        "domain='p.example' networks='127.0.0.0/8'/></partners></xmppedge>")));
    assert_non_null(world.c);
    n = &world.c->externals[0].networks;
    assert_int_equal(n->count, 3);
    assert_string_equal(reach_net_text(&n->list[0], text), "10.0.0.0/8");
    assert_string_equal(reach_net_text(&n->list[1], text), "fd00::/8");
    assert_string_equal(reach_net_text(&n->list[2], text), "192.168.7.9");
    n = &config_partner_for(world.c, span_of("p.example"))->networks;
    assert_int_equal(n->count, 1);
    assert_string_equal(reach_net_text(&n->list[0], text), "127.0.0.0/8");
    load_partner("");
    assert_int_equal(world.c->externals[0].networks.count, 0);
    assert_int_equal(world.c->partners.list[0].networks.count, 0);
}

/* A file with one partner in which these elements are. */
static const char *
load_rules(const char *rules)
{
    char text[4096];
    snprintf(text, sizeof text,
        EDGE_DOMAIN "<partners><partner domain='p.example'>%s</partner></partners>", rules);
    return load_edge(text);
}

static void
what_passes_is_said_for_each_direction(void **state)
{
    static const bool in[] = { true, false, true }, out[] = { false, true, true };
    const struct config_partner *p;
    struct buf text = { 0 };
    unsigned kind;
    (void)state;
    assert_string_equal(load_rules("<allow kinds=' message\niq ' direction='in'/>"
        "<allow kinds='presence iq' direction='out'/><allow kinds='iq'/>"
        "<deny namespace='jabber:iq:last'/><deny namespace='urn:x' direction='out'/>"), "");
    p = &world.c->partners.list[0];
    for (kind = 0; kind < 3; kind++) {
        assert_int_equal(config_passes(p, kind, true), in[kind]);
        assert_int_equal(config_passes(p, kind, false), out[kind]);
    }
    buf_clear(&text);
    config_put_rules(&text, p);
    assert_string_equal(buf_text(&text), "only message iq in, only presence iq out, only iq both "
        "ways, not jabber:iq:last both ways, not urn:x out");
    buf_clear(&text);
    config_print_effective(world.c, &text);
    assert_says(buf_text(&text), "<allow kinds=\"message iq\" direction=\"in\"/>");
    assert_says(buf_text(&text), "<deny namespace=\"jabber:iq:last\" direction=\"both\"/>");
    buf_free(&text);
    assert_string_equal(load_rules("<allow kinds='message' direction='in'/>"), "");
    p = &world.c->partners.list[0];
    assert_false(config_passes(p, 2, true));
    assert_true(config_passes(p, 2, false));
    load_partner("");
    assert_true(config_passes(&world.c->partners.list[0], 2, true));
}

static void
rules_that_are_none_are_refused_with_their_line(void **state)
{
    char many[65 * 24 + 1];
    size_t i;
    (void)state;
    assert_says(load_rules("<allow kinds='messages'/>"), "x.xml:2: <allow> kinds: expected one or "
        "more, with spaces between, of message, presence or iq, found \"messages\"");
    assert_says(load_rules("<allow kinds=' '/>"), "<allow> kinds: expected one or more");
    assert_says(load_rules("<allow direction='in'/>"), "<allow> kinds: expected one or more");
    assert_says(load_rules("<allow kinds='iq' direction='inward'/>"),
        "<allow> direction: expected both, in or out, found \"inward\"");
    assert_says(load_rules("<deny/>"), "<deny> namespace: expected a text, found nothing");
    assert_says(load_rules("<deny namespace=''/>"), "<deny> namespace: expected a text");
    assert_says(load_rules("<deny namespace='jabber:client'/>"), "<deny> namespace: expected that "
        "of an extension, found jabber:client, that of stanzas themselves: see <allow>");
    assert_says(load_rules("<deny namespace='urn:a&amp;b'/>"), "<deny> namespace: expected a name "
        "without &, < and line ends, found urn:a&b");
    for (many[0] = '\0', i = 0; i < 65; i++)
        strcat(many, "<deny namespace='u:x'/>");
    assert_says(load_rules(many), "<partner>: expected at most 64 <deny>, found another");
}

static void
a_type_that_promises_what_an_edge_does_not_do_is_said_once(void **state)
{
    (void)state;
    assert_string_equal(load_partner("type='federated'"), "");
    assert_string_equal(load_partner("type='public-verified'"), "x.xml:2: warning: p.example: "
        "type=\"public-verified\" has no effect at an edge, only in <partners> of the gateways; "
        "other partners that have such a type here: 0\n");
    assert_string_equal(load_edge(EDGE_DOMAIN "<partners><partner domain='a.example'/>\n"
        "<partner domain='b.example' type='public-unverified'/>\n"
        "<partner domain='c.example' type='public-verified'/></partners>"), "x.xml:3: warning: "
        "b.example: type=\"public-unverified\" has no effect at an edge, only in <partners> of the "
        "gateways; other partners that have such a type here: 1\n");
    assert_says(load_edge(EDGE_DOMAIN "<partners default='allow'><default type='public-verified'/>"
        "</partners>"), "the default partner: type=\"public-verified\" has no effect at an edge");
}

static void
balancers_are_a_list_for_each_address(void **state)
{
    static const char text[] = "<xmppedge role='edge' name='e.example'><external "
        "address='192.0.2.1' balancers='%s'/><echo domain='echo.example'/>"
        "<dialback secret-file='dialback.secret'/></xmppedge>";
    struct sockaddr_storage at = { .ss_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET };
    char file[512];
    (void)state;
    snprintf(file, sizeof file, text, "10.0.0.80 10.1.0.0/16 fd00::/64");
    assert_says(load(span_of(file)), "");
    assert_int_equal(world.c->externals[0].balancers.count, 3);
    assert_int_equal(world.c->internal.balancers.count, 0);
    assert_false(reach_list_has(&world.c->externals[0].balancers, &at));
    inet_pton(AF_INET, "10.1.2.3", &in.sin_addr);
    memcpy(&at, &in, sizeof in);
    assert_true(reach_list_has(&world.c->externals[0].balancers, &at));
    inet_pton(AF_INET, "10.0.0.81", &in.sin_addr);
    memcpy(&at, &in, sizeof in);
    assert_false(reach_list_has(&world.c->externals[0].balancers, &at));
    snprintf(file, sizeof file, text, "10.0.0.80/24");
    assert_says(load(span_of(file)), "<external> balancers: expected networks such as");
    snprintf(file, sizeof file, text, "10.0.0.0/8 0.0.0.0/0");
    assert_says(load(span_of(file)), "warning: balancers: 0.0.0.0/0 is everybody: whoever connects "
        "may say that he is somebody else");
}

static void
a_bad_network_is_refused_with_what_is_wrong(void **state)
{
    static const struct { const char *text, *says; } rows[] = {
        { "10.1.2.3/8", "10.1.2.3/8 has bits behind its prefix, 10.0.0.0/8 has not" },
        { "10.0.0.0/8 fd00::1/8", "fd00::1/8 has bits behind its prefix, fd00::/8 has not" },
        { "127.0.0.1/31", "127.0.0.1/31 has bits behind its prefix, 127.0.0.0/31 has not" },
        { "10.0.0.0/33", "10.0.0.0/33 has a prefix length that is none" },
        { "fd00::/129", "fd00::/129 has a prefix length that is none" },
        { "10.0.0.0/", "10.0.0.0/ has a prefix length that is none" },
        { "10.0.0.0/-1", "10.0.0.0/-1 has a prefix length that is none" },
        { "10.0.0.0/8/8", "10.0.0.0/8/8 has a prefix length that is none" },
        { "10.0.0.0/00008", "10.0.0.0/00008 has a prefix length that is none" },
        { "10.0.0.0/8,fd00::/8", "10.0.0.0/8,fd00::/8 has a prefix length that is none" },
        { "10.0.0/8", "10.0.0/8 is no network" },
        { "10/8", "10/8 is no network" },
        { "corp.example", "corp.example is no network" },
        { "fe80::1%eth0", "fe80::1%eth0 is no network" },
        { "/8", "/8 is no network" },
        { "", "networks: expected networks such as 10.0.0.0/8 or fd00::/8, with spaces between, "
            "found \"\"\n" },
        { "  ", "found \"  \"\n" } };
    char text[128];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "networks='%s'", rows[i].text);
        assert_says(load_partner(text), rows[i].says);
        assert_null(world.c);
    }
}

static void
a_network_that_opens_less_than_it_seems_is_warned_about(void **state)
{
    static const struct { const char *text, *says; } rows[] = {
        { "0.0.0.0/0", "0.0.0.0/0 does not open 0.0.0.0/8 (this network) within it" },
        { "172.0.0.0/8", "172.0.0.0/8 does not open 172.16.0.0/12 (private) within it" },
        { "192.0.0.0/8", "192.0.0.0/8 does not open 192.0.0.0/24 (protocol assignments)" },
        { "::/0", "::/0 does not open" }, { "fc00::/6", "fc00::/6 does not open fc00::/7" } };
    static const char *const good[] = { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
        "10.1.2.0/24", "fc00::/7", "fd00::/8", "127.0.0.0/8", "::1", "198.51.100.7",
        "2001:db8::/32", "8.8.8.0/24" };
    char text[128];
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "networks='%s' sasl='optional'", rows[i].text);
        assert_says(load_partner(text), rows[i].says);
        assert_non_null(world.c);
    }
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "networks='%s' sasl='optional'", good[i]);
        assert_string_equal(load_partner(text), "");
    }
}

static void
ten_thousand_partners_are_read_and_found(void **state)
{
    struct buf text = { 0 };
    char line[128];
    unsigned i;
    (void)state;
    text.max = 4 << 20;
    buf_puts(&text, EDGE_HEAD EDGE_DOMAIN "<partners>\n");
    for (i = 0; i < 10000; i++) {
        snprintf(line, sizeof line, "<partner domain='p%u.example' sasl='optional'/>\n", i);
        buf_puts(&text, line);
    }
    buf_puts(&text, "</partners></xmppedge>\n");
    load(buf_span(&text));
    assert_non_null(world.c);
    assert_int_equal(config_partner_for(world.c, span_of("p9999.example"))->line, 10001);
    assert_null(config_partner_for(world.c, span_of("p10000.example")));
    buf_free(&text);
}

/* ---- what is printed ---- */

/* The example names the authorities of the system, which a test must not need. */
static struct xe_span
localise(struct buf *text)
{
    char *hit = strstr((char *)(uintptr_t)buf_text(text), "/etc/ssl/certs/ca-certificates.crt");
    if (hit != NULL) {
        memcpy(hit, "ca.pem\"", 7);
        memset(hit + 7, ' ', strlen("/etc/ssl/certs/ca-certificates.crt") - 7);
        hit[strlen("/etc/ssl/certs/ca-certificates.crt")] = ' ';
    }
    return buf_span(text);
}

static void
the_examples_parse_without_a_word(void **state)
{
    static const enum config_role roles[] = { CONFIG_EDGE, CONFIG_GATEWAY };
    struct buf text = { 0 };
    size_t i;
    (void)state;
    for (i = 0; i < 2; i++) {
        buf_clear(&text);
        config_example(roles[i], &text);
        assert_false(text.failed);
        assert_string_equal(load(localise(&text)), "");
        assert_non_null(world.c);
        assert_int_equal(world.c->role, roles[i]);
    }
    buf_free(&text);
}

/* Take the comment marks that stand alone on their line away. */
static void
uncomment(struct buf *text)
{
    char *p = (char *)(uintptr_t)buf_text(text);
    while ((p = strstr(p, "<!--\n")) != NULL)
        memset(p, ' ', 4);
    p = text->bytes + text->head;
    while ((p = strstr(p, " -->\n")) != NULL) {
        char *line = p;
        while (line > text->bytes && line[-1] == ' ')
            line--;
        if (line == text->bytes || line[-1] == '\n')
            memset(p, ' ', 4);
        else
            p += 4;
    }
}

static void
the_examples_parse_with_everything_that_is_commented_out(void **state)
{
    static const enum config_role roles[] = { CONFIG_EDGE, CONFIG_GATEWAY };
    struct buf text = { 0 };
    const char *said;
    size_t i;
    (void)state;
    for (i = 0; i < 2; i++) {
        buf_clear(&text);
        config_example(roles[i], &text);
        localise(&text);
        uncomment(&text);
        said = load(buf_span(&text));
        if (getpwnam("xmppedge") == NULL)
            assert_says(said, "<run> user: expected a user of this machine, found xmppedge\n");
        assert_null(strstr(said, "unknown"));
        assert_true(said[0] == '\0' || strchr(said, '\n')[1] == '\0');
    }
    buf_free(&text);
}

static void
every_row_of_the_table_is_in_an_example_and_explained(void **state)
{
    struct buf text = { 0 };
    const char *examples;
    size_t i;
    (void)state;
    config_example(CONFIG_EDGE, &text);
    config_example(CONFIG_GATEWAY, &text);
    examples = buf_text(&text);
    for (i = 0; i < CONFIG_ROWS; i++) {
        const struct config_row *row = &config_rows[i];
        char mark[64];
        assert_true(strlen(row->doc) > 3 && row->doc[strlen(row->doc) - 1] == '.');
        snprintf(mark, sizeof mark, row->kind == CONFIG_ELEMENT ? "<!-- %s: " : " %s ",
            row->kind == CONFIG_ELEMENT ? config_tag(row) : row->name);
        assert_says(examples, mark);
    }
    buf_free(&text);
}

static void
every_default_in_the_table_is_a_value_that_the_table_accepts(void **state)
{
    struct config_loader *l = calloc(1, sizeof *l);
    size_t i;
    (void)state;
    l->c = calloc(1, sizeof *l->c);
    l->directory = "/";
    for (i = 0; i < CONFIG_ROWS; i++) {
        union { char bytes[256]; int64_t whole; void *pointer; } place;
        if (config_rows[i].def != NULL)
            assert_true(config_store(l, &config_rows[i], config_rows[i].def, &place));
        if (config_rows[i].kind != CONFIG_ELEMENT && config_rows[i].example != NULL)
            assert_true(config_store(l, &config_rows[i], config_rows[i].example, &place));
    }
    config_release(&l->scratch);
    config_free(l->c);
    free(l);
}

static void
the_effective_settings_give_the_same_configuration_again(void **state)
{
    static const char *const texts[] = {
        EDGE_HEAD EDGE_DOMAIN "<echo domain='echo.corp.example'><certificate chain='echo.pem' "
        "key='echo.key'/></echo><tls minimum='1.3' prefer='chacha20' keylog='true' "
        "keylog-file='k &amp; l'/>"
        "<partners default='allow'><default sasl='optional'/>" PARTNER
        "<partner domain='a.example' sasl='not-supported' proxy='[2001:db8::1]:5270' "
        "description='&lt;&quot;&amp;&#39;&#10;>' keepalive='false' connection-limit='7' "
        "bidi='true' networks='10.0.0.0/8 192.168.1.1 ::1 fd00:1::/32'>"
        "<domain name='b.example'/></partner></partners>"
        "<limits hold-time='1500ms' memory='100000K'/></xmppedge>",
        GATEWAY_HEAD INNER "<inner address='::1' tls='required' bidi='true'>"
        "<domain name='a.example'/><source address='10.0.0.0/8'/></inner>"
        "<inner address='127.0.0.2'><domain name='b.example'/>"
        COMPONENT("<partner domain='c.example'/>") "</inner>"
        "<log level='debug' format='json' file='x.log'/>"
        "<resolver address='::1' port='5300'/></xmppedge>" };
    struct buf first = { 0 }, second = { 0 };
    size_t i;
    (void)state;
    for (i = 0; i < 2; i++) {
        buf_clear(&first);
        buf_clear(&second);
        load(span_of(texts[i]));
        assert_non_null(world.c);
        config_print_effective(world.c, &first);
        load(buf_span(&first));
        assert_non_null(world.c);
        config_print_effective(world.c, &second);
        assert_string_equal(strstr(buf_text(&first), "<xmppedge"),
            strstr(buf_text(&second), "<xmppedge"));
    }
    assert_says(buf_text(&second), "format=\"json\"");
    buf_free(&first);
    buf_free(&second);
}

static void
the_effective_settings_carry_the_warnings(void **state)
{
    struct buf text = { 0 };
    (void)state;
    load_partner("dialback='true'");
    config_print_effective(world.c, &text);
    assert_says(buf_text(&text), ".xml:2: warning: p.example: ");
    assert_says(buf_text(&text), "is row 1 of the negotiation settings, which is doubtful");
    assert_says(buf_text(&text), "connection-limit=\"20\"");
    assert_says(buf_text(&text), "inactivity-time=\"600s\"");
    buf_free(&text);
}

static void
the_secret_is_never_printed(void **state)
{
    struct buf text = { 0 };
    (void)state;
    load_edge(EDGE_DOMAIN);
    config_print_effective(world.c, &text);
    assert_null(strstr(buf_text(&text), "0123456789abcdef"));
    buf_free(&text);
}

/* The same edge with another one or two <external> in line 2. */
static const char *
load_externals(const char *more)
{
    char text[2048];
    snprintf(text, sizeof text, EDGE_HEAD "\n%s" EDGE_DOMAIN "<run user='root'/></xmppedge>", more);
    return load(span_of(text));
}

static void
an_edge_has_an_external_address_of_each_family(void **state)
{
    const struct sockaddr *own[CONFIG_OWN_MAX + 1];
    (void)state;
    assert_string_equal(load_externals("<external address='2001:db8::10' networks='fd00::/8'/>"
        "<partners>" PARTNER "</partners>"), "");
    assert_int_equal(world.c->nexternals, 2);
    assert_int_equal(world.c->externals[0].address.sa.ss_family, AF_INET);
    assert_int_equal(world.c->externals[1].address.sa.ss_family, AF_INET6);
    assert_int_equal(world.c->externals[0].networks.count, 0);
    assert_int_equal(world.c->externals[1].networks.count, 1);
    config_own_addresses(world.c, own);
    assert_ptr_equal(own[0], &world.c->internal.address.sa);
    assert_ptr_equal(own[2], &world.c->externals[1].address.sa);
    assert_null(own[3]);
    assert_says(load_externals("<external address='2001:db8::10' networks='10.0.0.0/33'/>"),
        "x.xml:2: <external> networks: ");
}

static void
two_external_addresses_are_of_two_families_and_have_one_port(void **state)
{
    static const struct { const char *more, *said; } rows[] = {
        { "<external address='203.0.113.11'/>", "x.xml:2: expected at most one <external> with an "
            "IPv4 address and one with an IPv6 address, found a second with an IPv4 address\n" },
        { "<external address='2001:db8::1' port='5270'/>", "x.xml:2: <external> port: expected "
            "that of the other <external>, for a partner finds both addresses with one port, "
            "found another\n" },
        { "<external address='2001:db8::1'/><external address='2001:db8::2'/>",
            "<external>" },
        { "<external address='nowhere'/>", "<external> address: expected " },
        { "<metrics address='2001:db8::1' port='5269' force='true'/>"
            "<external address='2001:db8::1'/>", "<metrics>: expected another port or address than "
            "those of the streams, found the same\n" }
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_says(load_externals(rows[i].more), rows[i].said);
        assert_null(world.c);
    }
}

/* ---- the port summary ---- */

/* Of a machine that asks 192.0.2.53, and has an internal network within what may be opened. */
static bool
ports_may_print(enum ports_format format, struct buf *text, struct buf *errors)
{
    struct reach_own own[2] = { { .what = "an address of this machine" },
        { .what = "the internal network" } };
    struct ports_machine machine = { .nresolvers = 1, .here = { .own = own, .nown = 2 } };
    reach_net_parse(span_of("10.0.0.5"), &own[0].net);
    reach_net_parse(span_of("10.0.0.0/24"), &own[1].net);
    assert_true(ports_resolver("192.0.2.53", &machine.resolvers[0]));
    buf_clear(text);
    return ports_print(world.c, format, &machine, text, errors);
}

static const char *
ports(enum ports_format format, struct buf *text)
{
    assert_true(ports_may_print(format, text, NULL));
    return buf_text(text);
}

static void
the_port_table_of_an_edge_has_the_three_rows_of_the_document(void **state)
{
    struct buf text = { 0 };
    (void)state;
    load_edge(EDGE_DOMAIN);
    assert_string_equal(ports(PORTS_TABLE, &text),
        "row    protocol/port    source (IP)         destination (IP)    comment\n"
        "1      XMPP/TCP/5269    any                 203.0.113.10        standard s2s port; "
        "federated XMPP partners reach the Edge Server's XMPP proxy\n"
        "2      XMPP/TCP/5269    203.0.113.10        any                 standard s2s port; "
        "the Edge Server's XMPP proxy reaches federated XMPP partners\n"
        "3      XMPP/MTLS/23456  any gateway         10.0.0.5            internal XMPP traffic "
        "from the gateways (Front End pool) to the Edge Server\n"
        "never  any              10.0.0.5            any                 the Edge Server opens no "
        "connection into the LAN, from either address\n"
        "never  any              203.0.113.10        the inside          loopback, private and all "
        "other addresses where no partner can be\n"
        "# besides the rows: DNS, UDP and TCP port 53, from this machine to the resolvers of this "
        "system\n"
        "# not in row 2: partners may announce other ports in DNS, for direct TLS often 5270 or "
        "443\n");
    assert_says(ports(PORTS_JSON, &text), "],\"never\":[\n"
        "  {\"row\":\"never\",\"direction\":\"out\",\"protocol\":\"any\",\"port\":null,"
        "\"source\":\"10.0.0.5\",\"destination\":\"any\",");
    buf_free(&text);
}

static void
where_partners_are_components_there_is_a_row_for_it(void **state)
{
    struct buf text = { 0 };
    (void)state;
    load_component("", COMPONENT("<partner domain='a.example'/>"));
    assert_says(ports(PORTS_TABLE, &text), "XMPP/TCP/5347    this machine        "
        "127.0.0.1           partners are components of the inner server\n");
    load_component("", "");
    assert_null(strstr(ports(PORTS_TABLE, &text), "components"));
    buf_free(&text);
}

/* What stands between two places of a text. */
static const char *
part(const char *text, const char *from, const char *to)
{
    static char kept[16384];
    const char *at = strstr(text, from);
    const char *end = at == NULL ? NULL : strstr(at, to);
    assert_non_null(end);
    assert_true((size_t)(end - at) < sizeof kept);
    snprintf(kept, sizeof kept, "%.*s", (int)(end - at), at);
    return kept;
}

static void
the_port_table_has_the_rows_of_both_families(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_externals("<partners><partner domain='a.example' proxy='192.0.2.9'/>"
        "<partner domain='b.example' proxy='[2001:db8::9]:5270'/>"
        "<partner domain='c.example' proxy='c.example'/></partners>"
        "<external address='2001:db8::10' networks='fd00::/8'/>");
    said = ports(PORTS_TABLE, &text);
    assert_says(said, "\n1      XMPP/TCP/5269    any                 203.0.113.10        standard");
    assert_says(said, "\n1      XMPP/TCP/5269    any                 2001:db8::10        standard");
    assert_says(said, "\n2      XMPP/TCP/5269    203.0.113.10        any                 standard");
    assert_says(said, "\n2      XMPP/TCP/5269    2001:db8::10        any                 standard");
    assert_says(said, "2      XMPP/TCP/5269    203.0.113.10        192.0.2.9 ");
    assert_null(strstr(said, "2001:db8::10        192.0.2.9 "));
    assert_says(said, "2      XMPP/TCP/5270    2001:db8::10        2001:db8::9 ");
    assert_null(strstr(said, "203.0.113.10        2001:db8::9 "));
    assert_says(said, "203.0.113.10        c.example ");
    assert_says(said, "2001:db8::10        c.example ");
    assert_says(said, "never  any              203.0.113.10        the inside ");
    assert_says(said, "never  any              2001:db8::10        the inside ");
    said = ports(PORTS_JSON, &text);
    assert_says(said, "\"port\":5269,\"source\":\"any\",\"destination\":\"2001:db8::10\"");
    assert_says(said, "\"port\":5269,\"source\":\"any\",\"destination\":\"203.0.113.10\"");
    said = ports(PORTS_NFT, &text);
    assert_says(said, "ip daddr 203.0.113.10 tcp dport 5269 accept comment \"row 1\"");
    assert_says(said, "ip6 daddr 2001:db8::10 tcp dport 5269 accept comment \"row 1\"");
    assert_says(said, "ip saddr 203.0.113.10 tcp dport 5269 accept comment \"row 2\"");
    assert_says(said, "ip6 saddr 2001:db8::10 tcp dport 5269 accept comment \"row 2\"");
    assert_says(said, "ip saddr 203.0.113.10 meta l4proto tcp jump never");
    assert_says(said, "ip6 saddr 2001:db8::10 meta l4proto tcp jump never");
    said = part(said, "chain never {", "}");
    assert_says(said, "ip daddr 10.0.0.0/8 counter drop");
    assert_says(said, "ip6 daddr fd00::/8 return");
    assert_says(said, "ip6 daddr fe80::/10 counter drop");
    buf_free(&text);
}

static bool
may_ask(const char *from)
{
    struct config_address a;
    assert_true(config_parse_address(from, &a));
    return config_monitor_allowed(world.c, (const struct sockaddr *)(const void *)&a.sa);
}

static void
a_monitor_asks_where_no_partner_can(void **state)
{
    static const char *const edge[] = { "127.0.0.1", "127.9.9.9", "::1", "10.0.0.5" };
    static const char *const edge_not[] = { "203.0.113.10", "0.0.0.0", "::", "10.0.0.6",
        "2001:db8::1" };
    static const char *const gateway[] = { "127.0.0.1", "10.9.9.9", "192.168.1.1", "fd00::1" };
    static const char *const gateway_not[] = { "8.8.8.8", "0.0.0.0", "::", "2a00::1" };
    char text[512];
    size_t i;
    (void)state;
    for (i = 0; i < 4; i++) {
        snprintf(text, sizeof text, EDGE_DOMAIN "<metrics address='%s' port='9269'/>", edge[i]);
        load_edge(text);
        assert_non_null(world.c);
        snprintf(text, sizeof text, INNER "<metrics address='%s' port='9269'/>", gateway[i]);
        load_gateway(text);
        assert_non_null(world.c);
        snprintf(text, sizeof text, INNER "<metrics address='%s' port='9269'/>", gateway_not[i]);
        assert_says(load_gateway(text), "<metrics> address: expected one of loopback, or one of "
            "the inside, found ");
        assert_null(world.c);
    }
    for (i = 0; i < sizeof edge_not / sizeof *edge_not; i++) {
        snprintf(text, sizeof text, EDGE_DOMAIN "<metrics address='%s' port='9'/>", edge_not[i]);
        assert_says(load_edge(text), "<metrics> address: expected one of loopback, or that of "
            "<internal>, found ");
        assert_null(world.c);
        snprintf(text, sizeof text, EDGE_DOMAIN "<metrics address='%s' port='9' force='true'/>",
            edge_not[i]);
        load_edge(text);
        assert_non_null(world.c);
    }
    assert_says(load_edge(EDGE_DOMAIN "<metrics address='10.0.0.5' port='23456'/>"),
        "expected another port or address than those of the streams");
    assert_says(load_edge(EDGE_DOMAIN "<metrics address='10.0.0.5'/>"),
        "<metrics> port: expected a port from 1 to 65535, found nothing");
    load_edge(EDGE_DOMAIN "<metrics address='10.0.0.5' port='9269'><source address='10.1.0.0/16'/>"
        "</metrics>");
    assert_true(may_ask("10.1.2.3"));
    assert_false(may_ask("10.2.2.3"));
    load_edge(EDGE_DOMAIN "<metrics address='10.0.0.5' port='9269'/><limits partner-series='0'/>");
    assert_true(may_ask("10.2.2.3"));
    assert_int_equal(world.c->limits.partner_series, 0);
}

static void
the_port_of_a_monitor_is_a_row_and_a_rule_unless_it_is_of_loopback(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_edge(EDGE_DOMAIN "<metrics address='10.0.0.5' port='9269'><source address='10.1.0.0/16'/>"
        "<source address='10.2.0.9'/></metrics>");
    said = ports(PORTS_TABLE, &text);
    assert_says(said, "\n-      HTTP/TCP/9269    10.1.0.0/16         10.0.0.5            "
        "a monitor asks for metrics and health\n");
    assert_says(said, "\n-      HTTP/TCP/9269    10.2.0.9            10.0.0.5            ");
    assert_says(ports(PORTS_JSON, &text), "{\"row\":null,\"direction\":\"in\",\"protocol\":"
        "\"HTTP/TCP\",\"port\":9269,\"source\":\"10.1.0.0/16\",\"destination\":\"10.0.0.5\"");
    said = part(ports(PORTS_NFT, &text), "chain input", "}");
    assert_says(said, "ip saddr 10.1.0.0/16 ip daddr 10.0.0.5 tcp dport 9269 accept comment "
        "\"metrics\"");
    assert_says(said, "tcp dport 9269 counter drop comment \"nothing else on this port\"");
    assert_says(ports(PORTS_IPTABLES, &text), "-A XMPPEDGE-IN -p tcp -s 10.2.0.9 -d 10.0.0.5 "
        "--dport 9269 -m comment --comment \"metrics\" -j ACCEPT");
    load_gateway(INNER "<metrics address='10.0.0.7' port='9269'/>");
    assert_says(ports(PORTS_TABLE, &text), "HTTP/TCP/9269    any                 10.0.0.7 ");
    load_edge(EDGE_DOMAIN "<metrics address='127.0.0.1' port='9269'/>");
    assert_null(strstr(ports(PORTS_TABLE, &text), "9269"));
    assert_null(strstr(ports(PORTS_NFT, &text), "9269"));
    buf_free(&text);
}

static void
rules_of_an_edge_hold_its_user_to_the_rows(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_edge(EDGE_DOMAIN "<run user='nobody'/>");
    said = ports(PORTS_NFT, &text);
    assert_int_equal(strncmp(strstr(said, "table"),
        "table inet xmppedge\ndelete table inet xmppedge\ntable inet xmppedge {\n", 69), 0);
    assert_string_equal(part(said, "    chain service {", "# not in row 2"),
        "    chain service {\n"
        "        ip daddr 192.0.2.53 udp dport 53 accept comment \"DNS\"\n"
        "        ip daddr 192.0.2.53 tcp dport 53 accept comment \"DNS\"\n"
        "        ip saddr 10.0.0.5 meta l4proto tcp counter drop comment \"never: edge to LAN\"\n"
        "        fib daddr type local counter drop comment \"never: edge to itself\"\n"
        "        jump never\n"
        "        ip saddr 203.0.113.10 tcp dport 5269 accept comment \"row 2\"\n"
        "        counter drop comment \"nothing else of the service\"\n"
        "    }\n"
        "    chain input {\n"
        "        type filter hook input priority 0; policy accept;\n"
        "        ct state established,related accept\n"
        "        ip daddr 203.0.113.10 tcp dport 5269 accept comment \"row 1\"\n"
        "        ip daddr 10.0.0.5 tcp dport 23456 accept comment \"row 3\"\n"
        "        tcp dport 5269 counter drop comment \"nothing else on this port\"\n"
        "        tcp dport 23456 counter drop comment \"nothing else on this port\"\n"
        "    }\n"
        "    chain output {\n"
        "        type filter hook output priority 0; policy accept;\n"
        "        ct state established,related accept\n"
        "        meta skuid \"nobody\" jump service\n"
        "        ip daddr 192.0.2.53 udp dport 53 accept comment \"DNS\"\n"
        "        ip daddr 192.0.2.53 tcp dport 53 accept comment \"DNS\"\n"
        "        ip saddr 10.0.0.5 meta l4proto tcp counter drop comment \"never: edge to LAN\"\n"
        "        ip saddr 203.0.113.10 tcp dport 5269 accept comment \"row 2\"\n"
        "        tcp dport 5269 counter drop comment \"nothing else on this port\"\n"
        "    }\n"
        "}\n");
    said = ports(PORTS_IPTABLES, &text);
    assert_says(said, "set -e\niptables-restore --noflush <<'END'\n*filter\n"
        ":XMPPEDGE-NEVER - [0:0]\n:XMPPEDGE-SERVICE - [0:0]\n:XMPPEDGE-IN - [0:0]\n"
        ":XMPPEDGE-OUT - [0:0]\n");
    assert_string_equal(part(said, "-A XMPPEDGE-SERVICE", "-A XMPPEDGE-IN"),
        "-A XMPPEDGE-SERVICE -p udp -d 192.0.2.53 --dport 53 -m comment --comment \"DNS\" "
        "-j ACCEPT\n"
        "-A XMPPEDGE-SERVICE -p tcp -d 192.0.2.53 --dport 53 -m comment --comment \"DNS\" "
        "-j ACCEPT\n"
        "-A XMPPEDGE-SERVICE -p tcp -s 10.0.0.5 -m comment --comment \"never: edge to LAN\" "
        "-j DROP\n"
        "-A XMPPEDGE-SERVICE -m addrtype --dst-type LOCAL -m comment "
        "--comment \"never: edge to itself\" -j DROP\n"
        "-A XMPPEDGE-SERVICE -j XMPPEDGE-NEVER\n"
        "-A XMPPEDGE-SERVICE -p tcp -s 203.0.113.10 --dport 5269 -m comment --comment \"row 2\" "
        "-j ACCEPT\n"
        "-A XMPPEDGE-SERVICE -m comment --comment \"nothing else of the service\" -j DROP\n");
    assert_says(said, "-A XMPPEDGE-OUT -m owner --uid-owner nobody -j XMPPEDGE-SERVICE\n");
    assert_string_equal(part(said, "ip6tables-restore", "-A XMPPEDGE-IN"),
        "ip6tables-restore --noflush <<'END'\n*filter\n"
        ":XMPPEDGE-NEVER - [0:0]\n:XMPPEDGE-SERVICE - [0:0]\n:XMPPEDGE-IN - [0:0]\n"
        ":XMPPEDGE-OUT - [0:0]\n"
        "-A XMPPEDGE-SERVICE -m addrtype --dst-type LOCAL -m comment "
        "--comment \"never: edge to itself\" -j DROP\n"
        "-A XMPPEDGE-SERVICE -j XMPPEDGE-NEVER\n"
        "-A XMPPEDGE-SERVICE -m comment --comment \"nothing else of the service\" -j DROP\n");
    buf_free(&text);
}

static void
rules_without_a_user_say_so_and_hold_all_programs_to_what_never_may_be(void **state)
{
    static const char *const users[] = { NULL, "root", "0" };
    struct buf text = { 0 };
    const char *said;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof users / sizeof *users; i++) {
        load_edge(EDGE_DOMAIN);
        world.c->user = users[i];
        said = ports(PORTS_NFT, &text);
        assert_int_equal(strncmp(said, "# <run user=\"...\"/> is absent, or root: ", 40), 0);
        assert_null(strstr(said, "skuid"));
        assert_null(strstr(said, "of the service\""));
        assert_says(said, "ip saddr 203.0.113.10 meta l4proto tcp jump never\n");
        assert_true(strstr(said, "jump never") < strstr(said, "accept comment \"row 2\""));
        said = ports(PORTS_IPTABLES, &text);
        assert_null(strstr(said, "--uid-owner"));
        assert_says(said, "\n-A XMPPEDGE-OUT -p tcp -s 203.0.113.10 -j XMPPEDGE-NEVER\n");
    }
    buf_free(&text);
}

static void
rules_for_a_user_whom_no_rule_can_name_are_not_made(void **state)
{
    static const char *const users[] = { "", "a b", "-A", "a\" accept", "$(id)", "b\374cher" };
    struct buf text = { 0 }, errors = { 0 };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof users / sizeof *users; i++) {
        load_edge(EDGE_DOMAIN);
        world.c->user = users[i];
        assert_false(ports_may_print(PORTS_NFT, &text, &errors));
        assert_false(ports_may_print(PORTS_IPTABLES, &text, &errors));
        assert_int_equal(buf_len(&text), 0);
        assert_says(buf_text(&errors), "<run> user: packet filters need letters, digits, ");
        buf_clear(&errors);
    }
    buf_free(&text);
    buf_free(&errors);
}

static void
of_two_networks_the_narrower_rule_comes_first(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_partner("sasl='optional' networks='10.7.0.0/16 172.16.0.0/12'");
    said = part(ports(PORTS_NFT, &text), "chain never {", "}");
    assert_says(said, "\n        ip daddr 10.7.0.0/16 return comment \"row 2\"\n");
    assert_says(said, "\n        ip daddr 10.0.0.0/8 counter drop comment \"never: private\"\n");
    assert_true(strstr(said, "10.7.0.0/16") < strstr(said, "10.0.0.0/8"));
    assert_says(said,
        "ip daddr 10.0.0.0/24 counter drop comment \"never: the internal network\"\n");
    assert_true(strstr(said, "10.0.0.0/24") < strstr(said, "10.7.0.0/16"));
    assert_null(strstr(said, "10.0.0.5"));
    assert_says(said, "172.16.0.0/12 return");
    assert_null(strstr(said, "172.16.0.0/12 counter drop"));
    assert_null(strstr(said, "ip6"));   /* the external address has none of it */
    buf_free(&text);
}

static void
where_ipv6_carries_ipv4_the_rules_of_ipv4_hold(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load(span_of(EDGE_AT("2001:db8::5") EDGE_DOMAIN "</xmppedge>"));
    said = part(ports(PORTS_NFT, &text), "chain never {", "}");
    assert_says(said, "ip6 daddr 64:ff9b::a00:0/104 counter drop comment \"never: private\"\n");
    assert_says(said, "ip6 daddr 2002:a00::/24 counter drop comment \"never: private\"\n");
    assert_says(said, "ip6 daddr 2000::/3 return comment \"row 2\"\n");
    assert_says(said, "ip6 daddr ::/0 counter drop comment \"never: not global unicast\"\n");
    assert_true(strstr(said, "64:ff9b::a00:0/104") < strstr(said, "64:ff9b::/96 return"));
    assert_true(strstr(said, "2002:a00::/24") < strstr(said, "2002::/16 return"));
    assert_null(strstr(said, "ip daddr"));
    buf_free(&text);
}

static void
rules_of_a_gateway_mirror_row_3_and_refuse_the_edge(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_gateway(INNER "<run user='nobody'/>");
    said = ports(PORTS_NFT, &text);
    assert_string_equal(part(said, "    chain service {", "    chain output"),
        "    chain service {\n"
        "        ip daddr 10.0.0.5 tcp dport 23456 accept comment \"row 3\"\n"
        "        ip daddr 127.0.0.1 tcp dport 5270 accept comment \"inner server\"\n"
        "        counter drop comment \"nothing else of the service\"\n"
        "    }\n"
        "    chain input {\n"
        "        type filter hook input priority 0; policy accept;\n"
        "        ct state established,related accept\n"
        "        ip saddr 10.0.0.5 meta l4proto tcp counter drop comment \"never: edge to LAN\"\n"
        "        ip saddr 127.0.0.1 ip daddr 127.0.0.1 tcp dport 5269 accept "
        "comment \"inner server\"\n"
        "        tcp dport 5269 counter drop comment \"nothing else on this port\"\n"
        "    }\n");
    assert_null(strstr(said, "chain never"));
    assert_says(ports(PORTS_TABLE, &text), "never  any              10.0.0.5            "
        "this machine        the Edge Server opens no connection into the LAN\n");
    said = ports(PORTS_JSON, &text);
    assert_says(said, "{\"row\":3,\"direction\":\"out\",\"protocol\":\"XMPP/MTLS\",\"port\":23456,"
        "\"source\":\"this machine\",\"destination\":\"10.0.0.5\"");
    buf_free(&text);
}

static void
ipv6_rules_are_written_for_ipv6(void **state)
{
    struct buf text = { 0 };
    (void)state;
    load_gateway("<inner address='2001:db8::7' port='5270'><domain name='corp.example'/></inner>");
    assert_says(ports(PORTS_NFT, &text), "ip6 daddr 2001:db8::7 tcp dport 5270 accept");
    assert_says(ports(PORTS_IPTABLES, &text), "ip6tables-restore");
    assert_null(strstr(buf_text(&text), "-s 2001:db8::7 -d 127.0.0.1"));   /* never seen */
    assert_null(strstr(part(buf_text(&text), "*filter", "ip6tables-restore"), "2001:db8::7"));
    assert_says(strstr(buf_text(&text), "ip6tables-restore"),
        "\n-A XMPPEDGE-OUT -p tcp -d 2001:db8::7 --dport 5270 ");
    buf_free(&text);
}

static void
rules_let_questions_to_the_resolvers_pass(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_edge(EDGE_DOMAIN
        "<resolver address='10.0.0.53'/><resolver address='2001:db8::53' port='5353'/>");
    said = ports(PORTS_TABLE, &text);
    assert_says(said,
        "# besides the rows: DNS, UDP and TCP port 53, from this machine to 10.0.0.53\n");
    assert_says(said,
        "# besides the rows: DNS, UDP and TCP port 5353, from this machine to 2001:db8::53\n");
    said = ports(PORTS_NFT, &text);
    said = part(said, "chain output", "jump never");
    assert_says(said, "ip daddr 10.0.0.53 udp dport 53 accept comment \"DNS\"\n");
    assert_says(said, "ip daddr 10.0.0.53 tcp dport 53 accept comment \"DNS\"\n");
    assert_says(said, "ip6 daddr 2001:db8::53 tcp dport 5353 accept comment \"DNS\"\n");
    assert_null(strstr(said, "192.0.2.53"));
    said = ports(PORTS_IPTABLES, &text);
    assert_says(said, "\n-A XMPPEDGE-OUT -p udp -d 10.0.0.53 --dport 53 ");
    assert_says(strstr(said, "ip6tables"),
        "\n-A XMPPEDGE-OUT -p tcp -d 2001:db8::53 --dport 5353 ");
    said = ports(PORTS_JSON, &text);
    assert_says(said,
        "\"dns\":[\n  {\"protocol\":\"DNS/UDP+TCP\",\"port\":53,\"source\":\"this machine\","
        "\"destination\":\"10.0.0.53\"},\n  {");
    load_gateway(INNER);   /* which knows all its addresses */
    assert_null(strstr(ports(PORTS_TABLE, &text), "DNS"));
    assert_says(ports(PORTS_JSON, &text), "\"dns\":[]");
    buf_free(&text);
}

static void
the_resolvers_of_the_system_are_read_as_the_system_does(void **state)
{
    static const struct { const char *file, *want; } rows[] = {
        { "# nameserver 192.0.2.9\nsearch x.example\nnameserver 192.0.2.1\n"
            " nameserver\t2001:db8::1  # that\noptions edns0", "192.0.2.1 2001:db8::1 " },
        { "nameserver fe80::53%eth0\n", "fe80::53 " },
        { "nameserver of-no-address\nnameserver 192.0.2.300\n", "127.0.0.1 " },
        { "", "127.0.0.1 " } };
    struct ports_machine machine;
    struct buf said = { 0 };
    size_t i, j;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        buf_clear(&said);
        write_file("x.xml", span_of(rows[i].file), 0600);
        ports_machine_resolvers(&machine, path_of("x.xml"));
        for (j = 0; j < machine.nresolvers; j++) {
            assert_int_equal(machine.resolvers[j].port, 53);
            config_put_address(&said, &machine.resolvers[j]);
            buf_putc(&said, ' ');
        }
        assert_string_equal(buf_text(&said), rows[i].want);
    }
    ports_machine_resolvers(&machine, path_of("is-not-there"));
    assert_int_equal(machine.nresolvers, 1);
    buf_free(&said);
}

static void
rules_are_not_made_of_host_names(void **state)
{
    struct buf text = { 0 }, errors = { 0 };
    (void)state;
    load(span_of("<xmppedge role='gateway' name='fe01.corp.example'>\n"
        "<edge name='edge01.corp.example' address='inside.corp.example'/>"
        "<certificate chain='fe01.pem' key='fe01.key'/><trust ca='internal-ca.pem'/>"
        "<listen address='127.0.0.1'/>" INNER "</xmppedge>"));
    assert_non_null(world.c);
    assert_says(ports(PORTS_TABLE, &text), "inside.corp.example");
    assert_says(buf_text(&text), "# besides the rows: DNS");
    assert_false(ports_may_print(PORTS_NFT, &text, &errors));
    assert_false(ports_may_print(PORTS_IPTABLES, &text, &errors));
    assert_int_equal(buf_len(&text), 0);
    assert_says(buf_text(&errors),
        "x.xml:2: <edge> address: packet filters need an address, found the host name "
        "inside.corp.example; ");
    buf_free(&text);
    buf_free(&errors);
}

static void
a_static_route_is_a_row_of_its_own_also_where_dns_may_not_lead(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_partner("sasl='optional' proxy='10.0.0.9:443'");
    assert_says(ports(PORTS_TABLE, &text), "2      XMPP/TCP/443     203.0.113.10        "
        "10.0.0.9            the static route of p.example\n");
    said = part(ports(PORTS_NFT, &text), "chain output", "jump never");
    assert_says(said, "        # the static route of p.example to 10.0.0.9:443\n"
        "        ip saddr 203.0.113.10 ip daddr 10.0.0.9 tcp dport 443 accept comment \"row 2\"\n");
    assert_null(strstr(buf_text(&text), "tcp dport 443 counter drop"));
    buf_free(&text);
}

/* Which a rule cannot name: so it is open like row 2, to where DNS may lead. */
static void
a_static_route_to_a_host_name_opens_its_port_where_partners_can_be(void **state)
{
    struct buf text = { 0 };
    const char *said;
    (void)state;
    load_partner("sasl='optional' proxy='relay.example:5270'");
    said = strstr(ports(PORTS_NFT, &text), "jump never");
    assert_says(said,
        "        # the static route of p.example to relay.example:5270, if that is not inside\n"
        "        ip saddr 203.0.113.10 tcp dport 5270 accept comment \"row 2\"\n");
    buf_free(&text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_teardown(name, forget)
        TEST(a_small_edge_is_read_without_a_word),
        TEST(a_small_gateway_is_read_without_a_word),
        TEST(every_limit_has_the_documented_default),
        TEST(a_partner_has_the_defaults_of_new_csxmppallowedpartner),
        TEST(times_and_sizes_take_units),
        TEST(numbers_outside_their_limits_are_refused_with_the_limits),
        TEST(addresses_of_both_families_are_read_with_their_ports),
        TEST(things_that_are_no_address_are_refused),
        TEST(a_proxy_is_a_host_with_a_port_or_without),
        TEST(domains_are_brought_to_lower_case_and_checked),
        TEST(paths_start_at_the_directory_of_the_file),
        TEST(an_absent_control_socket_is_named_after_the_node),
        TEST(entities_and_quotes_in_values_are_resolved),
        TEST(comments_declaration_and_byte_order_mark_are_fine),
        TEST(the_wrong_line_is_never_named),
        TEST(all_errors_are_told_in_the_order_of_lines),
        TEST(xml_that_is_not_well_formed_is_refused_with_its_line),
        TEST(strange_and_hostile_files_are_refused_with_a_sentence_and_a_line),
        TEST(lines_end_as_on_any_system),
        TEST(damage_is_never_met_with_silence),
        TEST(ten_thousand_partners_are_read_and_written),
        TEST(the_size_of_a_file_has_a_ceiling),
        TEST(every_beginning_of_a_good_file_is_refused_without_harm),
        TEST(a_file_that_is_not_there_is_named),
        TEST(partners_stand_in_files_of_their_own),
        TEST(what_is_wrong_in_an_included_file_is_told_of_its_line),
        TEST(an_included_file_holds_partners_and_includes_no_other),
        TEST(a_name_must_be_there_and_a_pattern_may_match_nothing),
        TEST(what_cannot_be_read_is_told_of_the_line_that_includes_it),
        TEST(included_files_have_ceilings),
        TEST(the_directory_of_the_configuration_is_no_pattern),
        TEST(missing_files_are_named_with_the_line_that_names_them),
        TEST(an_element_that_may_be_there_once_is_refused_twice),
        TEST(an_edge_has_an_external_address_of_each_family),
        TEST(two_external_addresses_are_of_two_families_and_have_one_port),
        TEST(the_port_table_has_the_rows_of_both_families),
        TEST(a_name_server_that_would_never_be_asked_is_refused),
        TEST(inner_domains_that_a_trunk_does_not_carry_are_refused),
        TEST(an_edge_needs_gateways_enough_for_its_domains),
        TEST(what_was_meant_is_named),
        TEST(an_element_in_the_wrong_place_is_told_where_it_stands),
        TEST(errors_stand_before_warnings),
        TEST(the_control_socket_is_found_in_what_is_no_configuration),
        TEST(no_number_of_warnings_hides_an_error),
        TEST(an_element_of_the_other_role_is_told_apart_from_an_unknown_one),
        TEST(a_flood_of_errors_is_cut_and_counted),
        TEST(the_five_invalid_rows_are_refused_and_the_seven_doubtful_ones_warned_about),
        TEST(two_partners_cannot_share_a_domain),
        TEST(a_partner_cannot_have_one_of_our_domains),
        TEST(an_edge_needs_a_domain_or_an_echo),
        TEST(a_domain_cannot_be_bound_to_an_unknown_gateway),
        TEST(repeated_domains_gateways_and_edges_are_refused),
        TEST(the_two_addresses_of_an_edge_are_compared),
        TEST(partners_may_be_components_of_an_inner_server),
        TEST(components_that_could_not_be_are_refused),
        TEST(a_component_that_is_not_on_this_machine_is_warned_about),
        TEST(a_gateway_is_kept_from_talking_to_itself),
        TEST(a_gateway_has_types_of_partners_which_are_federated_unless_it_says_otherwise),
        TEST(invitations_are_kept_where_they_matter),
        TEST(partners_of_a_gateway_are_not_its_own_domains_and_have_no_other_settings),
        TEST(a_short_secret_is_refused_and_an_open_one_warned_about),
        TEST(files_that_a_reload_could_not_read_are_warned_about),
        TEST(the_mode_of_a_file_counts_for_owner_group_or_others),
        TEST(a_configuration_alone_needs_none_of_its_files),
        TEST(a_text_is_read_as_the_file_of_its_name_would_be),
        TEST(files_are_named_from_where_the_configuration_is),
        TEST(a_control_socket_must_fit_its_address),
        TEST(a_user_must_exist),
        TEST(settings_without_effect_are_warned_about),
        TEST(a_domain_without_a_certificate_is_warned_about),
        TEST(an_echo_is_a_domain_of_its_own),
        TEST(a_secret_that_is_no_plain_small_file_is_refused),
        TEST(files_that_cannot_be_loaded_later_are_named_with_their_line),
        TEST(a_partner_is_found_by_each_of_its_domains_and_by_nothing_else),
        TEST(allow_gives_the_default_partner_to_all_but_our_own_domains),
        TEST(a_default_partner_with_an_invalid_row_counts_only_when_it_is_used),
        TEST(inner_domains_are_found_on_their_side),
        TEST(inner_servers_connect_from_their_own_address_unless_told_otherwise),
        TEST(a_partner_has_a_trust_and_pins_of_its_own),
        TEST(a_pin_that_is_none_is_refused_with_its_line),
        TEST(a_trust_that_binds_nobody_is_warned_about),
        TEST(networks_are_a_list_for_all_partners_or_for_one),
        TEST(a_type_that_promises_what_an_edge_does_not_do_is_said_once),
        TEST(what_passes_is_said_for_each_direction),
        TEST(rules_that_are_none_are_refused_with_their_line),
        TEST(balancers_are_a_list_for_each_address),
        TEST(a_bad_network_is_refused_with_what_is_wrong),
        TEST(a_network_that_opens_less_than_it_seems_is_warned_about),
        TEST(ten_thousand_partners_are_read_and_found),
        TEST(the_examples_parse_without_a_word),
        TEST(the_examples_parse_with_everything_that_is_commented_out),
        TEST(every_row_of_the_table_is_in_an_example_and_explained),
        TEST(every_default_in_the_table_is_a_value_that_the_table_accepts),
        TEST(the_effective_settings_give_the_same_configuration_again),
        TEST(the_effective_settings_carry_the_warnings),
        TEST(the_secret_is_never_printed),
        TEST(the_port_table_of_an_edge_has_the_three_rows_of_the_document),
        TEST(where_partners_are_components_there_is_a_row_for_it),
        TEST(a_monitor_asks_where_no_partner_can),
        TEST(the_port_of_a_monitor_is_a_row_and_a_rule_unless_it_is_of_loopback),
        TEST(rules_of_an_edge_hold_its_user_to_the_rows),
        TEST(rules_without_a_user_say_so_and_hold_all_programs_to_what_never_may_be),
        TEST(rules_for_a_user_whom_no_rule_can_name_are_not_made),
        TEST(of_two_networks_the_narrower_rule_comes_first),
        TEST(where_ipv6_carries_ipv4_the_rules_of_ipv4_hold),
        TEST(rules_of_a_gateway_mirror_row_3_and_refuse_the_edge),
        TEST(ipv6_rules_are_written_for_ipv6),
        TEST(rules_let_questions_to_the_resolvers_pass),
        TEST(the_resolvers_of_the_system_are_read_as_the_system_does),
        TEST(rules_are_not_made_of_host_names),
        TEST(a_static_route_is_a_row_of_its_own_also_where_dns_may_not_lead),
        TEST(a_static_route_to_a_host_name_opens_its_port_where_partners_can_be),
    };
    return cmocka_run_group_tests_name("config", tests, make_world, remove_world);
}
