/* embed.cpp -- a C++ program around the proxy
 *
 * It includes xmppedge.h as it is and is linked with xmppedge.c, which a C compiler has made with
 * -DXMPPEDGE_NO_MAIN.  It uses a function of each part of the header.  Prints TAP.
 */
#include "../../xmppedge.h"

#include <cstdio>
#include <cstring>
#include <string>

#if XE_VERSION_NUMBER < 200
#error "this program needs xmppedge 0.2"
#endif

namespace {

struct Program {
    int  tests = 0;
    bool failed = false;

    void report(bool ok, const char *what)
    {
        std::printf("%sok %d - %s\n", ok ? "" : "not ", ++tests, what);
        failed = failed || !ok;
    }
};

/* What XE_VERSION_NUMBER must be, by XE_VERSION. */
int version_number()
{
    int major = 0, minor = 0, patch = 0;
    return std::sscanf(XE_VERSION, "%d.%d.%d", &major, &minor, &patch) != 3 ? -1
        : major * 10000 + minor * 100 + patch;
}

xe_span span(const char *text)
{
    return xe_span{text, std::strlen(text)};
}

/* The name of the first element of a stream; "" when there is none. */
std::string first_element(const char *text)
{
    xe_xml_limits limits = xe_xml_limits();
    xe_xml_event event;
    xe_xml x;
    size_t used;
    std::string name;
    xe_xml_init(&x, &limits);
    if (xe_xml_next(&x, text, std::strlen(text), &used, &event) == XE_XML_HEADER
            && xe_xml_next(&x, text + used, std::strlen(text) - used, &used, &event)
                == XE_XML_ELEMENT)
        name.assign(event.name.at, event.name.len);
    xe_xml_free(&x);
    return name;
}

}

int main()
{
    Program p;
    char message[512] = "";
    char domain[XE_DOMAIN_MAX];
    size_t len;
    const char text[] = "<xmppedge role='edge'/>";
    xe_options options = xe_options();
    options.user = &p;
    options.stanza = [](void *, const xe_stanza *) { return XE_WHY_NONE; };
    std::printf("1..6\n");
    p.report(version_number() == XE_VERSION_NUMBER, "the version is the same in words and number");
    p.report(xe_why_find(span(xe_why(XE_WHY_SHUTDOWN)->word)) == XE_WHY_SHUTDOWN,
        "a reason is found by its word");
    p.report(xe_jid_domain_normal(span("Far.Example."), domain, &len)
        && std::strcmp(domain, "far.example") == 0, "a domain has its normal form");
    p.report(first_element("<stream:stream xmlns='jabber:server' "
        "xmlns:stream='http://etherx.jabber.org/streams'><iq type='get'/>") == "iq",
        "the tokenizer reads a stanza");
    p.report(xe_open("/nonexistent/edge.xml", message, sizeof message) == nullptr
        && std::strstr(message, "/nonexistent/edge.xml: ") != nullptr,
        "a configuration that is not there is refused in words");
    p.report(xe_open_text(text, sizeof text - 1, "/appliance/edge.xml", &options, message,
        sizeof message) == nullptr && std::strstr(message, "/appliance/edge.xml:1: ") != nullptr,
        "and so is one in memory, by the name that it was given");
    return p.failed ? 1 : 0;
}
