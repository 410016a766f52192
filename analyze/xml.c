/* xml.c -- what was said on one connection, as XML that people can read
 *
 *   > 10:00:00.004 packet 16, a.example
 *   <stream:stream from='a.example' to='b.example' version='1.0'>
 *   < 10:00:00.009 packet 20, b.example
 *     <stream:features>
 *       <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
 *     </stream:features>
 *
 * Elements come whole and well-formed from the tokenizer; here they are broken into lines.  What
 * users say and secrets are left out: a stanza keeps its names, namespaces, types and domains, and
 * of negotiations that carry keys only the frame is shown.  An element that nobody knows is treated
 * as a stanza.
 */
#include "report.h"

/* What may be shown of an element. */
enum xml_cover { XML_OPEN, XML_KEYS, XML_STANZA };

static enum xml_cover
xml_cover(enum xe_element_kind k)
{
    static const bool keys[XE_KIND_COUNT] = { [XE_KIND_AUTH] = true, [XE_KIND_CHALLENGE] = true,
        [XE_KIND_RESPONSE] = true, [XE_KIND_SUCCESS] = true, [XE_KIND_DB_RESULT] = true,
        [XE_KIND_DB_RESULT_ANSWER] = true, [XE_KIND_DB_VERIFY] = true,
        [XE_KIND_DB_VERIFY_ANSWER] = true, [XE_KIND_SM_ENABLED] = true, [XE_KIND_SM_RESUME] = true,
        [XE_KIND_SM_RESUMED] = true, [XE_KIND_HANDSHAKE] = true };
    static const bool stanzas[XE_KIND_COUNT] = { [XE_KIND_UNKNOWN] = true,
        [XE_KIND_MESSAGE] = true, [XE_KIND_PRESENCE] = true, [XE_KIND_IQ] = true };
    if (stanzas[k])
        return XML_STANZA;
    return keys[k] ? XML_KEYS : XML_OPEN;
}

struct xml {
    struct text          out;
    enum xml_cover       cover;
    enum xe_element_kind kind;
    unsigned             depth;    /* of the tag that is read; 0: that of the stream */
    bool                 fresh;    /* nothing stands behind the last start tag yet */
};

static void
xml_line(struct xml *x)
{
    unsigned i;
    TEXT(&x->out, x->out.len > 0 ? "\n" : "");
    for (i = 0; i < x->depth; i++)
        TEXT(&x->out, "  ");
}

/* A piece of the element as it came. */
static void
xml_put(struct xml *x, const char *at, size_t len)
{
    struct text piece = { NULL, 0, 0 };
    text_put(&piece, at, len);
    text_clean(&x->out, piece.at);
    text_free(&piece);
}

/* Is the value of this attribute a fact of the protocol? */
static bool
xml_may_show(const struct xml *x, const char *name)
{
    static const char *const names[] = { "type", "version", "xml:lang", "mechanism" };
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    if (x->cover == XML_OPEN || strncmp(name, "xmlns", 5) == 0)
        return true;
    return strcmp(name, "id") == 0 && x->depth == 1 && x->kind != XE_KIND_SM_ENABLED;
}

static void
xml_value(struct xml *x, const char *name, const char *value)
{
    bool address = strcmp(name, "from") == 0 || strcmp(name, "to") == 0;
    struct text jid = { NULL, 0, 0 };
    if (address && x->cover != XML_OPEN) {
        text_jid(&jid, value, false);
        text_clean(&x->out, jid.at == NULL ? "" : jid.at);
        text_free(&jid);
    } else {
        text_clean(&x->out, xml_may_show(x, name) ? value : "***");
    }
}

/* A start tag, from its '<' to its '>'. */
static void
xml_tag(struct xml *x, const char *at, const char *end)
{
    size_t n = strcspn(at, " \t\r\n/>");
    bool empty = end[-1] == '/';
    xml_line(x);
    xml_put(x, at, n);
    for (at += n; at < end && (at += strspn(at, " \t\r\n")) < end && *at != '/'; ) {
        struct text name = { NULL, 0, 0 }, value = { NULL, 0, 0 };
        text_put(&name, at, strcspn(at, "= \t\r\n"));
        at += strcspn(at, "'\"");
        text_put(&value, at + 1, strcspn(at + 1, *at == '"' ? "\"" : "'"));
        TEXT(&x->out, " ");
        text_clean(&x->out, name.at);
        TEXT(&x->out, "=");
        xml_put(x, at, 1);
        xml_value(x, name.at, value.at);
        xml_put(x, at, 1);
        at += value.len + 2;
        text_free(&name);
        text_free(&value);
    }
    TEXT(&x->out, empty ? "/>" : ">");
    x->depth += !empty;
    x->fresh = !empty;
}

/* Text or CDATA between tags. */
static void
xml_words(struct xml *x, const char *at, size_t len)
{
    if (strspn(at, " \t\r\n") >= len)
        return;
    if (!x->fresh)
        xml_line(x);
    if (x->cover == XML_OPEN)
        xml_put(x, at, len);
    else
        TEXT(&x->out, "***");
}

/* The '>' that ends a tag; one inside of a value does not. */
static const char *
xml_tag_end(const char *at)
{
    while (*at != '>' && *at != '\0') {
        if (*at == '\'' || *at == '"')
            at = strchr(at + 1, *at);
        if (at == NULL)
            return NULL;
        at++;
    }
    return *at == '\0' ? NULL : at;
}

/* One tag or what stands between two; returns what is behind it, NULL: not as it should be. */
static const char *
xml_step(struct xml *x, const char *at)
{
    const char *end;
    size_t n = strcspn(at, "<");
    if (n > 0) {
        xml_words(x, at, n);
        return at + n;
    }
    if (strncmp(at, "<![CDATA[", 9) == 0) {
        end = strstr(at, "]]>");
        if (end != NULL)
            xml_words(x, at, (size_t)(end - at) + 3);
        return end == NULL ? NULL : end + 3;
    }
    end = xml_tag_end(at);
    if (end == NULL)
        return NULL;
    if (at[1] == '/') {
        x->depth -= x->depth > 0;
        if (!x->fresh)
            xml_line(x);
        x->fresh = false;
        xml_put(x, at, (size_t)(end - at) + 1);
    } else if (at[1] != '?' && at[1] != '!') {
        xml_tag(x, at, end);
    }
    return end + 1;
}

int
report_xml(const struct xe_xml_event *e, enum xe_xml_result what, bool show, FILE *to)
{
    struct xml x = { .depth = what == XE_XML_ELEMENT };
    struct text raw = { NULL, 0, 0 };
    const char *at;
    text_clear(&x.out);
    text_clear(&raw);
    text_put(&raw, e->raw.at, e->raw.len);
    x.kind = what == XE_XML_ELEMENT ? xe_element_kind(e) : XE_KIND_HEADER;
    x.cover = show ? XML_OPEN : xml_cover(x.kind);
    for (at = raw.at; at != NULL && *at != '\0'; )
        at = xml_step(&x, at);
    fprintf(to, "%s\n", x.out.at);
    text_free(&x.out);
    text_free(&raw);
    return ferror(to) != 0 ? -1 : 0;
}
