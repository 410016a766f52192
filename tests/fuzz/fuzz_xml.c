/* fuzz_xml.c -- [XML] [JID] [ELEM] [PHASE] fed with anything
 *
 * The input is a stream.  It is read whole and in pieces; the events have to be the same.  What the
 * writer makes of a stanza has to be read by a fresh tokenizer without complaint, and what that
 * writes has to be the same again.  Addresses and small trees are tried on every element.
 *
 *   clang -fsanitize=fuzzer,address,undefined -DFUZZ_LIBFUZZER fuzz_xml.c -lmxml
 *   cc    -fsanitize=address,undefined fuzz_xml.c -lmxml;  ./a.out corpus/xml/<files>
 */
#include "cut/PHASE.c"

#include "fuzz_main.h"

#define FRESH "<stream:stream xmlns='jabber:server' " \
    "xmlns:stream='http://etherx.jabber.org/streams'>"

/* A stanza that was written is read and written again. */
static void
check_written(struct xe_span stanza)
{
    static const struct xe_xml_limits limits = { 1024, 1 << 20, 64, 64, 0, 0 };
    struct xe_xml x;
    struct xe_xml_event e;
    struct buf again = { 0 };
    struct buf third = { 0 };
    size_t used;
    size_t head = sizeof FRESH - 1;
    char *text = malloc(stanza.len);
    memcpy(text, stanza.at, stanza.len);
    xe_xml_init(&x, &limits);
    must(xe_xml_next(&x, FRESH, head, &used, &e) == XE_XML_HEADER, "no header");
    must(xe_xml_next(&x, text, stanza.len, &used, &e) == XE_XML_ELEMENT && used == stanza.len,
        "what was written is not one element");
    must((e.flags & (XE_XML_UNBOUND | XE_XML_STREAM_PREFIX | XE_XML_REWRITE)) == 0,
        "what was written depends on the stream");
    must(xmlout_stanza(&again, &x, &e), "what was written cannot be written");
    must(span_eq(buf_span(&again), stanza), "writing again changes something");
    xe_xml_free(&x);
    free(text);
    buf_free(&again);
    buf_free(&third);
}

static void
try_element(const struct xe_xml *x, const struct xe_xml_event *e)
{
    char domain[XE_DOMAIN_MAX];
    char text[300];
    size_t len;
    struct buf out = { 0 };
    unsigned i;
    elem_free(elem_parse(x, e));
    must(xe_element_kind(e) < XE_KIND_COUNT, "kind");
    for (i = 0; i < e->nattrs; i++) {
        if (xe_xml_domain(e->attrs[i].value, domain, &len))
            must(len > 0 && len < XE_DOMAIN_MAX && strlen(domain) == len, "domain");
        xe_xml_unescape(e->attrs[i].value, text, sizeof text);
        must(xmlout_attr(&out, "x", e->attrs[i].value), "attr");
    }
    buf_clear(&out);
    if (xmlout_stanza(&out, x, e))
        check_written(buf_span(&out));
    buf_free(&out);
}

/* Read the stream in pieces of `step`; returns a number that says what was read. */
static uint64_t
read_stream(const char *data, size_t size, size_t step, bool thorough)
{
    static const struct xe_xml_limits limits = { 4096, 65536, 16, 16, 0, 0 };
    struct xe_xml x;
    struct xe_xml_event e;
    enum xe_xml_result r;
    uint64_t sum = 0;
    size_t from = 0;
    size_t to = step < size ? step : size;
    xe_xml_init(&x, &limits);
    x.comments = size > 0 && *data == '\t';
    for (;;) {
        size_t used = 0;
        char *copy = malloc(to - from + 1);              /* its end is watched by the sanitizer */
        char *exact = realloc(copy, to - from > 0 ? to - from : 1);
        memcpy(exact, data + from, to - from);
        r = xe_xml_next(&x, exact, to - from, &used, &e);
        must(used <= to - from, "used");
        from += used;
        if (r == XE_XML_HEADER || r == XE_XML_ELEMENT)
            sum = ((sum * 31 + e.flags) * 31 + e.raw.len) * 31 + e.inner.len * 64 + e.nattrs;
        if (r == XE_XML_ELEMENT && thorough)
            try_element(&x, &e);
        free(exact);
        if (r == XE_XML_MORE && to < size) {
            to = size - to < step ? size : to + step;
            continue;
        }
        sum = sum * 31 + (unsigned)r;
        if (r == XE_XML_BAD || r == XE_XML_MORE || r == XE_XML_CLOSE)
            break;
    }
    sum = sum * 31 + (unsigned)x.why;
    xe_xml_free(&x);
    return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    uint64_t whole = read_stream(text, size, size > 0 ? size : 1, true);
    must(size > 4096 || whole == read_stream(text, size, 1, false), "byte by byte differs");
    must(whole == read_stream(text, size, 7, true), "in sevens differs");
    return 0;
}
