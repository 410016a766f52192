/* test_elem.c -- [ELEM] elements as trees, [PHASE] the protocol table */
#include "cut/PHASE.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEADER "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' " \
    "xmlns:stream='http://etherx.jabber.org/streams'>"
#define NS_SASL "urn:ietf:params:xml:ns:xmpp-sasl"

static const struct xe_xml_limits limits = { 8192, 1 << 20, 64, 64, 0, 0 };

/* A header was read and then one element. */
struct one {
    struct buf          in;
    struct xe_xml       x;
    struct xe_xml_event e;
};

static struct one *
one_make(const char *element)
{
    static struct one o;
    size_t used;
    size_t head;
    memset(&o, 0, sizeof o);
    buf_puts(&o.in, HEADER);
    head = buf_len(&o.in);
    buf_puts(&o.in, element);
    xe_xml_init(&o.x, &limits);
    assert_int_equal(xe_xml_next(&o.x, o.in.bytes, buf_len(&o.in), &used, &o.e), XE_XML_HEADER);
    assert_int_equal(xe_xml_next(&o.x, o.in.bytes + head, buf_len(&o.in) - head, &used, &o.e),
        XE_XML_ELEMENT);
    return &o;
}

static void
one_free(struct one *o)
{
    xe_xml_free(&o->x);
    buf_free(&o->in);
}

/* Has the element exactly this text? */
static bool
says(struct elem e, const char *want)
{
    struct buf text = { 0 };
    bool same;
    elem_put_text(&text, e);
    same = strcmp(buf_text(&text), want) == 0;
    if (!same)
        print_message("# text is '%s'\n", buf_text(&text));
    buf_free(&text);
    return same;
}

static void
features_are_read_as_a_tree(void **state)
{
    struct one *o = one_make("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"
        "<required/></starttls>\n <mechanisms xmlns='" NS_SASL "'><mechanism>EXTERNAL</mechanism>"
        "<mechanism>PLAIN</mechanism></mechanisms><db:dialback/></stream:features>");
    struct elem t = elem_parse(&o->x, &o->e);
    struct elem m;
    (void)state;
    assert_true(elem_is(t, "features", "http://etherx.jabber.org/streams"));
    assert_non_null(elem_child(elem_child(t, "starttls", NULL), "required",
        "urn:ietf:params:xml:ns:xmpp-tls").at);
    m = elem_first(elem_child(t, "mechanisms", NS_SASL));
    assert_true(elem_is(m, "mechanism", NS_SASL));
    assert_true(says(m, "EXTERNAL"));
    m = elem_next(m);
    assert_true(says(m, "PLAIN"));
    assert_null(elem_next(m).at);
    assert_non_null(elem_child(t, "dialback", "jabber:server:dialback").at);
    assert_null(elem_child(t, "dialback", "jabber:server").at);
    assert_null(elem_child(t, "bind", NULL).at);
    assert_true(elem_is(elem_child(t, NULL, "jabber:server:dialback"), "dialback", NULL));
    elem_free(t);
    one_free(o);
}

static void
what_is_not_there_is_answered_in_kind(void **state)
{
    struct elem none = { NULL, NULL };
    (void)state;
    assert_null(elem_first(none).at);
    assert_null(elem_next(none).at);
    assert_null(elem_child(none, "a", NULL).at);
    assert_false(elem_is(none, "a", NULL));
    assert_false(elem_is(none, NULL, NULL));
    assert_true(says(none, ""));
    assert_null(elem_name(none).at);
    assert_null(elem_attr(none, "a"));
    elem_free(none);
}

static void
text_is_put_together_with_references_and_cdata_resolved(void **state)
{
    struct one *o = one_make("<db:result from='a&amp;b&apos;&#x20ac;' to=\"'\" type='valid'>"
        " a &lt;&apos;&quot;<x>no</x>&#x20ac;<![CDATA[<&]]>z\n</db:result>");
    struct elem t = elem_parse(&o->x, &o->e);
    (void)state;
    assert_true(elem_is(t, "result", "jabber:server:dialback"));
    assert_true(says(t, " a <'\"\xe2\x82\xac<&z\n"));
    assert_string_equal(elem_attr(t, "from"), "a&b'\xe2\x82\xac");
    assert_string_equal(elem_attr_name(t, 2), "type");
    assert_null(elem_attr_name(t, 3));
    assert_null(elem_attr(t, "id"));
    assert_string_equal(elem_tag(t), "db:result");
    elem_free(t);
    one_free(o);
}

static void
namespaces_come_from_the_element_its_parents_or_the_header(void **state)
{
    struct one *o = one_make("<a xmlns:p='urn:p'><p:b xmlns='urn:q'><c><d xmlns=''/></c></p:b>"
        "<p:e xmlns:p='urn:r'/><db:f/><u:g/><xml:h/></a>");
    struct elem t = elem_parse(&o->x, &o->e);
    struct elem b = elem_first(t);
    (void)state;
    assert_true(elem_is(t, "a", "jabber:server"));
    assert_true(elem_is(b, "b", "urn:p"));
    assert_true(elem_is(elem_first(b), "c", "urn:q"));
    assert_true(elem_is(elem_first(elem_first(b)), "d", ""));
    assert_non_null(elem_child(t, "e", "urn:r").at);
    assert_non_null(elem_child(t, "f", "jabber:server:dialback").at);
    assert_false(elem_is(elem_child(t, "g", NULL), "g", ""));
    assert_non_null(elem_child(t, "h", "http://www.w3.org/XML/1998/namespace").at);
    elem_free(t);
    one_free(o);
}

static void
a_tree_is_walked_in_the_order_of_the_document(void **state)
{
    struct one *o = one_make("<a>t<b><c/>t</b><![CDATA[<x/>]]><d/></a>");
    struct elem t = elem_parse(&o->x, &o->e);
    struct elem e = t;
    char order[8] = "";
    size_t n = 0;
    (void)state;
    for (; e.at != NULL && n < sizeof order - 1; e = elem_walk(e)) {
        assert_null(elem_place(e));
        order[n++] = *elem_tag(e);
        elem_set_place(e, &order[n]);
        assert_ptr_equal(elem_place(e), &order[n]);
    }
    assert_string_equal(order, "abcd");
    elem_free(t);
    one_free(o);
}

static void
an_empty_element_is_a_tree(void **state)
{
    struct one *o = one_make("<a/>");
    struct elem t = elem_parse(&o->x, &o->e);
    (void)state;
    assert_true(elem_is(t, "a", "jabber:server"));
    assert_null(elem_first(t).at);
    assert_null(elem_next(t).at);
    elem_free(t);
    one_free(o);
}

static void
trees_of_streams_have_a_ceiling(void **state)
{
    struct buf b = { 0 };
    struct one *o;
    struct elem t;
    (void)state;
    buf_puts(&b, "<a>");
    while (buf_len(&b) < ELEM_BYTES_MAX - 5)
        buf_putc(&b, 'x');
    buf_puts(&b, "</a>");
    o = one_make(buf_text(&b));
    t = elem_parse(&o->x, &o->e);
    assert_non_null(t.at);
    elem_free(t);
    one_free(o);
    buf_clear(&b);
    buf_puts(&b, "<a>");
    while (buf_len(&b) < ELEM_BYTES_MAX - 4)
        buf_putc(&b, 'x');
    buf_puts(&b, "</a>");
    o = one_make(buf_text(&b));
    assert_null(elem_parse(&o->x, &o->e).at);
    one_free(o);
    buf_free(&b);
}

static void
kinds_are_told_by_name_namespace_and_type(void **state)
{
    static const struct { const char *in; const char *kind; } rows[] = {
        { "<message/>", "message" }, { "<presence/>", "presence" }, { "<iq/>", "iq" },
        { "<message xmlns='jabber:client'/>", "message" }, { "<message xmlns='x'/>", "unknown" },
        { "<p:iq xmlns:p='jabber:server'/>", "iq" }, { "<p:iq/>", "unknown" },
        { "<query/>", "unknown" }, { "<stream:features/>", "features" },
        { "<stream:error/>", "stream-error" },
        { "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "starttls" },
        { "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "proceed" },
        { "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "tls-failure" },
        { "<failure xmlns='" NS_SASL "'/>", "sasl-failure" },
        { "<auth xmlns='" NS_SASL "' mechanism='EXTERNAL'>=</auth>", "auth" },
        { "<success xmlns='" NS_SASL "'/>", "success" },
        { "<db:result/>", "db-result" }, { "<db:result type='valid'/>", "db-result-answer" },
        { "<db:verify/>", "db-verify" }, { "<db:verify type='error'/>", "db-verify-answer" },
        { "<result/>", "unknown" }, { "<r xmlns='urn:xmpp:sm:3'/>", "sm-request" },
        { "<a xmlns='urn:xmpp:sm:3' h='1'/>", "sm-ack" },
        { "<trunk xmlns='urn:xmppedge:trunk:0'/>", "trunk" },
        { "<bidi xmlns='urn:xmpp:bidi'/>", "bidi" },
        { "<bidi xmlns='urn:xmpp:features:bidi'/>", "bidi" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct one *o = one_make(rows[i].in);
        assert_string_equal(xe_element_kind_name(xe_element_kind(&o->e)), rows[i].kind);
        one_free(o);
    }
}

struct said {
    enum xe_side         side;
    enum xe_element_kind kind;
    bool                 valid;
    const char          *phase;   /* after it */
    const char          *why;
};

static void
expect_talk(const struct said *s, size_t n)
{
    enum xe_phase phase = XE_PHASE_START;
    size_t i;
    for (i = 0; i < n; i++) {
        struct xe_phase_step step = xe_phase_next(phase, s[i].side, s[i].kind, s[i].valid);
        if (strcmp(xe_phase_name(step.next), s[i].phase) != 0
            || strcmp(xe_why(step.why)->word, s[i].why) != 0)
            fail_msg("line %zu: %s in %s leads to %s, %s (%s)", i, xe_element_kind_name(s[i].kind),
                xe_phase_name(phase), xe_phase_name(step.next), xe_why(step.why)->word,
                step.rule);
        assert_int_equal(step.why == XE_WHY_NONE, *step.rule == '\0');
        phase = step.next;
    }
}

#define I XE_SIDE_INITIATOR
#define R XE_SIDE_RECEIVER
#define TALK(t) expect_talk(t, sizeof t / sizeof *t)

static void
a_stream_with_tls_and_sasl_goes_through_all_phases(void **state)
{
    static const struct said talk[] = {
        { I, XE_KIND_HEADER, 0, "header", "none" }, { R, XE_KIND_HEADER, 0, "features", "none" },
        { R, XE_KIND_FEATURES, 0, "open", "none" }, { I, XE_KIND_STARTTLS, 0, "tls-asked", "none" },
        { I, XE_KIND_HEADER, 0, "tls-asked", "tls-injection" },
        { R, XE_KIND_PROCEED, 0, "tls", "none" }, { I, XE_KIND_IQ, 0, "tls", "not-authorized" },
        { I, XE_KIND_HEADER, 0, "header", "none" }, { R, XE_KIND_HEADER, 0, "features", "none" },
        { R, XE_KIND_FEATURES, 0, "open", "none" }, { I, XE_KIND_AUTH, 0, "sasl-asked", "none" },
        { R, XE_KIND_SASL_FAILURE, 0, "open", "none" },
        { I, XE_KIND_AUTH, 0, "sasl-asked", "none" },
        { R, XE_KIND_SUCCESS, 0, "sasl-done", "none" },
        { I, XE_KIND_HEADER, 0, "auth-header", "none" },
        { R, XE_KIND_HEADER, 0, "auth-features", "none" },
        { R, XE_KIND_FEATURES, 0, "authenticated", "none" },
        { I, XE_KIND_MESSAGE, 0, "authenticated", "none" },
        { R, XE_KIND_MESSAGE, 0, "authenticated", "bad-element" },
        { I, XE_KIND_CLOSE, 0, "closing", "none" }, { R, XE_KIND_IQ, 0, "closing", "none" },
        { R, XE_KIND_CLOSE, 0, "ended", "none" },
    };
    (void)state;
    TALK(talk);
}

static void
dialback_authenticates_when_an_answer_is_valid(void **state)
{
    static const struct said talk[] = {
        { I, XE_KIND_HEADER, 0, "header", "none" }, { R, XE_KIND_HEADER, 0, "features", "none" },
        { R, XE_KIND_FEATURES, 0, "open", "none" },
        { I, XE_KIND_MESSAGE, 0, "open", "not-authorized" },
        { R, XE_KIND_DB_RESULT_ANSWER, 1, "open", "dialback-invalid" },
        { I, XE_KIND_DB_VERIFY, 0, "open", "none" },
        { R, XE_KIND_DB_VERIFY_ANSWER, 0, "open", "none" },
        { I, XE_KIND_DB_RESULT, 0, "dialback", "none" },
        { R, XE_KIND_DB_RESULT_ANSWER, 0, "open", "none" },
        { I, XE_KIND_DB_RESULT, 0, "dialback", "none" },
        { R, XE_KIND_DB_RESULT_ANSWER, 1, "authenticated", "none" },
        { I, XE_KIND_DB_RESULT, 0, "authenticated", "none" },
        { I, XE_KIND_IQ, 0, "authenticated", "none" },
        { R, XE_KIND_DB_RESULT_ANSWER, 0, "authenticated", "none" },
        { R, XE_KIND_STREAM_ERROR, 0, "closing", "none" },
        { R, XE_KIND_CLOSE, 0, "ended", "none" },
        { I, XE_KIND_CLOSE, 0, "ended", "bad-element" },
    };
    static const struct said old[] = {   /* no version, no features */
        { I, XE_KIND_HEADER, 0, "header", "none" }, { R, XE_KIND_HEADER, 0, "features", "none" },
        { I, XE_KIND_DB_RESULT, 0, "dialback", "none" },
        { R, XE_KIND_DB_RESULT_ANSWER, 1, "authenticated", "none" },
    };
    static const struct said rude[] = { { I, XE_KIND_MESSAGE, 0, "start", "not-authorized" },
                                        { R, XE_KIND_HEADER, 0, "start", "bad-element" } };
    (void)state;
    TALK(talk);
    TALK(old);
    TALK(rude);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_read_as_a_tree),
        cmocka_unit_test(what_is_not_there_is_answered_in_kind),
        cmocka_unit_test(text_is_put_together_with_references_and_cdata_resolved),
        cmocka_unit_test(namespaces_come_from_the_element_its_parents_or_the_header),
        cmocka_unit_test(a_tree_is_walked_in_the_order_of_the_document),
        cmocka_unit_test(an_empty_element_is_a_tree),
        cmocka_unit_test(trees_of_streams_have_a_ceiling),
        cmocka_unit_test(kinds_are_told_by_name_namespace_and_type),
        cmocka_unit_test(a_stream_with_tls_and_sasl_goes_through_all_phases),
        cmocka_unit_test(dialback_authenticates_when_an_answer_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
