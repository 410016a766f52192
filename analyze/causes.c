/* causes.c -- words and sentences of the verdict
 *
 * What verdict.c concludes is a number; here it becomes English.  Sentences may be made better at
 * any time; words are stable, scripts match them.  A sentence has a small letter at its beginning
 * and no full stop at its end: it stands behind a colon, or in a list.
 */
#include "verdict.h"

static const struct cause_row cause_rows[CAUSE_COUNT] = {
    [CAUSE_NONE] = { "none", "nothing failed", "", "" },
    /* before TCP */
    [CAUSE_DNS_NOT_FOUND] = { "dns-not-found",
        "the domain does not exist or has no server records",
        "check the spelling of the domain and that the resolver of "
        "the edge sees the public name space",
        "publish an SRV record _xmpp-server._tcp or an address record for your domain" },
    [CAUSE_DNS_NO_SERVICE] = { "dns-no-service",
        "the domain announces that it offers no XMPP service",
        "nothing can be done here: the partner has switched XMPP off for this domain",
        "your SRV record has the target '.', which says that you offer no XMPP; "
        "correct it if you do" },
    [CAUSE_DNS_FAILED] = { "dns-failed",
        "the name servers did not answer, or answered with an error",
        "check the resolver of the edge and that port 53 (UDP and TCP) is open to it",
        "check the name servers of your domain: they time out or fail" },
    [CAUSE_SRV_ADDRESS] = { "srv-address",
        "the target of the SRV record is an IP address: a name is needed",
        "nothing can be done here: servers look the target up as a name, and find nothing",
        "the target of your SRV record is an IP address; RFC 2782 wants a name that has an address "
        "record" },
    [CAUSE_SRV_ALIAS] = { "srv-alias",
        "the target of the SRV record is an alias that leads nowhere",
        "nothing can be done here: the name behind the alias has no address",
        "the target of your SRV record is an alias (CNAME), and leads to no address; RFC 2782 "
        "wants a name with an address record of its own" },
    [CAUSE_SRV_NO_ADDRESS] = { "srv-no-address",
        "the SRV record is there, and its target has no address",
        "see that the resolver of the edge sees the public name space; if it does, nothing can be "
        "done here",
        "the target of your SRV record has no address record: publish one, or correct the target" },
    [CAUSE_SRV_NO_PORT] = { "srv-no-port",
        "the SRV record names port 0, to which nobody can connect",
        "nothing can be done here: the partner has to correct his record",
        "your SRV record names port 0: name the port of your server, usually 5269, or the target "
        "'.' if you offer no XMPP" },
    /* TCP */
    [CAUSE_TCP_REFUSED] = { "tcp-refused",
        "the connection was refused",
        "nothing listens there: start the service, or correct the SRV record if it is ours",
        "your server refuses connections on this port: start it, or correct your SRV record" },
    [CAUSE_TCP_TIMEOUT] = { "tcp-timeout",
        "no answer came: the connection is filtered, or the host is down",
        "let the firewalls on our side pass this row of the port table",
        "your firewall drops connections to this port, or the host is down: let our edge pass" },
    [CAUSE_TCP_PROHIBITED] = { "tcp-prohibited",
        "a router or firewall prohibits the connection and says so",
        "the address that sent the ICMP error is the filter: "
        "permit this row of the port table there",
        "a router on the path prohibits the connection and says so: if it is yours, permit it "
        "there" },
    [CAUSE_TCP_UNREACHABLE] = { "tcp-unreachable",
        "there is no route to the server",
        "check the routing of the edge, and IPv6 if this is an IPv6 address",
        "the address in your DNS records cannot be reached: check routing and records" },
    [CAUSE_PATH_MTU] = { "path-mtu",
        "large packets do not get through: path MTU discovery is broken",
        "permit ICMP 'fragmentation needed' (IPv6: 'packet too big'), "
        "or clamp the MSS on the tunnel or VPN",
        "large packets are lost on the path to you: permit ICMP 'fragmentation needed'" },
    [CAUSE_PEER_LOST] = { "peer-lost",
        "the connection was cut",
        "look into the logs of both servers at this time, and at firewalls that reset connections",
        "your server cut the connection at this time: what does its log say?" },
    [CAUSE_MIDDLEBOX_RESET] = { "middlebox-reset",
        "something on the path reset the connection: the reset came from neither side",
        "find the firewall, intrusion prevention or proxy on the path that cuts connections at "
        "this point, and let this row of the port table pass; how far the TTL is below 64, 128 or "
        "255 tells how far away it is",
        "something on the path between our servers resets the connection at this point: is there a "
        "firewall or intrusion prevention on your side that looks into connections?" },
    [CAUSE_IDLE_CUT] = { "idle-cut",
        "something on the path forgot the idle connection",
        "set keepalives of the edge below the idle time-out of the firewall, "
        "or raise that time-out",
        "a firewall forgets idle connections: use shorter keepalives" },
    /* streams */
    [CAUSE_SILENT_PEER] = { "silent-peer",
        "the server accepted the connection and then said nothing",
        "check that an XMPP server (no load balancer without one behind it) listens there",
        "your server accepts connections and stays silent: it hangs, or a load balancer has "
        "nothing behind it" },
    [CAUSE_CALLER_SILENT] = { "caller-silent",
        "the caller opened the connection and then said nothing",
        "a health check or port scan does this; if it is the gateway, look into its log",
        "your server opens connections and says nothing" },
    [CAUSE_NOT_XMPP] = { "not-xmpp",
        "what was said is no XMPP stream",
        "another program calls, or listens, on this port",
        "something else than XMPP is spoken on your side" },
    [CAUSE_BAD_NAMESPACE] = { "bad-namespace",
        "the namespace of the stream is not that of servers, or is not accepted there",
        "a client connection (5222) was pointed at the server port, or the other way round",
        "your server opens the stream with the wrong namespace: jabber:server is needed" },
    [CAUSE_BAD_VERSION] = { "bad-version",
        "the XMPP version was not accepted",
        "the partner's software is too old, or the version attribute is missing",
        "your server announces a version that is not accepted" },
    [CAUSE_HOST_UNKNOWN] = { "host-unknown",
        "the domain is not served there",
        "check that the domain is configured on the called server, and where its SRV record points",
        "your DNS records lead to a server that does not serve this domain" },
    [CAUSE_XML_MALFORMED] = { "xml-malformed",
        "what was sent is not well-formed XML",
        "the sender's software is at fault; the log of the other side may show what it was",
        "your server sends XML that is not well-formed" },
    [CAUSE_XML_RESTRICTED] = { "xml-restricted",
        "forbidden XML: a comment, processing instruction or entity",
        "the sender's software is at fault",
        "your server sent XML that RFC 6120 forbids" },
    [CAUSE_BAD_ELEMENT] = { "bad-element",
        "an element was sent that the other side does not support",
        "compare the software and the settings of both sides",
        "your server sends an element that ours does not support" },
    [CAUSE_BAD_ADDRESS] = { "bad-address",
        "a stanza or header had no proper address",
        "the sender's software is at fault",
        "your server sends elements with wrong addresses" },
    [CAUSE_INVALID_FROM] = { "invalid-from",
        "a sender domain was used that is not authorised on the stream",
        "check that the sending server is configured for this domain",
        "your server sends from a domain for which it has not authenticated" },
    [CAUSE_NOT_AUTHORIZED] = { "not-authorized",
        "the other side does not accept who we are",
        "check certificate and DNS of the refused side; the words of the other side may say more",
        "your server does not authorise ours: which rule refuses it?" },
    [CAUSE_POLICY] = { "policy-violation",
        "the other side's policy forbids it",
        "read its words; often encryption is required, "
        "or the domain is on no list of allowed partners",
        "your server's policy refuses ours: please permit our domain" },
    [CAUSE_BLOCKED] = { "blocked",
        "an administrator has blocked the domain of the other side",
        "nothing, if our side meant it; xmppedge unblock FILE DOMAIN, at each edge, lets the "
        "domain pass again",
        "your border has blocked our domain: please let us know why, and when it passes again" },
    [CAUSE_LIMIT] = { "limit-connections",
        "the other side has no room for another connection",
        "raise the limit of connections for this partner, or find out why so many are open",
        "your server has no resources for our connection" },
    [CAUSE_TOO_BIG] = { "stanza-too-big",
        "a stanza was larger than the other side takes",
        "set the stanza limit of the edge to the smaller of both sides",
        "your server closes the stream when a stanza is too large: bounce it instead, "
        "or raise the limit" },
    [CAUSE_SHUTDOWN] = { "shutdown",
        "the server was shut down before the stream was ready",
        "try again when the server runs",
        "your server was shutting down at this time" },
    [CAUSE_SETUP_TIMEOUT] = { "setup-timeout",
        "the stream was not ready in time",
        "find the last step before the silence in the details: "
        "the side that owes the next one is at fault",
        "the negotiation between our servers stops in the middle: what does each side wait for?" },
    [CAUSE_STREAM_ERROR] = { "peer-stream-error",
        "the other server ended the stream with an error",
        "read its condition and words",
        "your server ended the stream with this error" },
    [CAUSE_CRASH] = { "crash-in-negotiation",
        "a side dropped the stream in the middle of the negotiation without a reason",
        "look into the log of that server for a crash at this time; ejabberd up to 24.12 crashes "
        "on certificates with an xmppAddr name",
        "your server drops our stream without an error in the middle of the negotiation: please "
        "look for a crash" },
    /* TLS */
    [CAUSE_TLS_REQUIRED] = { "tls-required",
        "TLS is required and the caller did not use it",
        "enable TLS on the calling server",
        "your server does not start TLS although ours requires it" },
    [CAUSE_TLS_NOT_OFFERED] = { "tls-not-offered",
        "the caller needs TLS and the other server does not offer it",
        "allow plain connections with this partner, or wait until the partner has TLS",
        "your server does not offer STARTTLS: please enable it" },
    [CAUSE_TLS_REFUSED] = { "tls-refused",
        "the server offered TLS and then refused to start it",
        "check the certificate and key of the refusing server",
        "your server offers STARTTLS and then refuses it: check its certificate and key" },
    [CAUSE_TLS_VERSION] = { "tls-version",
        "the two sides have no TLS version in common",
        "permit TLS 1.2 and 1.3 on both sides",
        "your server needs TLS 1.2 or newer" },
    [CAUSE_TLS_NO_CIPHER] = { "tls-no-common-cipher",
        "the two sides have no cipher suite in common",
        "compare the cipher lists and the key types of the certificates (RSA, ECDSA) of both sides",
        "your server shares no cipher suite with ours: permit AES-GCM with ECDHE" },
    [CAUSE_TLS_FAILED] = { "tls-failed",
        "the TLS handshake failed",
        "the alert says why; look into the log of the side that sent it",
        "your server ends the TLS handshake between our servers: what does its log say?" },
    [CAUSE_CERT_MISSING] = { "cert-missing",
        "a certificate is required and none was sent",
        "give the calling server a certificate and let it present it",
        "your server presents no certificate when it calls" },
    [CAUSE_CERT_EXPIRED] = { "cert-expired",
        "a certificate has expired",
        "renew the certificate",
        "the certificate of your server has expired: please renew it" },
    [CAUSE_CERT_NOT_YET] = { "cert-not-yet-valid",
        "a certificate is not valid yet",
        "check the clocks of both sides",
        "the certificate of your server is not valid yet: check clocks" },
    [CAUSE_CERT_NAME] = { "cert-name",
        "a certificate is not valid for the domain",
        "get a certificate that names the XMPP domain (not the host) as dNSName",
        "your certificate does not name your XMPP domain: please get one that does" },
    [CAUSE_CERT_UNTRUSTED] = { "cert-untrusted",
        "a certificate is not from a trusted authority",
        "use a certificate of a public authority and send the intermediate ones too, "
        "or trust the issuer",
        "your certificate is not from an authority that we trust, "
        "or intermediate certificates are missing" },
    [CAUSE_CERT_PURPOSE] = { "cert-purpose",
        "a certificate may not be used by a client (extended key usage)",
        "get a certificate with clientAuth, or let the called server ignore that usage (RFC 6120 "
        "needs no more)",
        "public authorities no longer issue clientAuth: "
        "please let your server accept serverAuth only" },
    [CAUSE_CERT_REVOKED] = { "cert-revoked",
        "a certificate has been revoked",
        "get a new certificate",
        "the certificate of your server has been revoked" },
    [CAUSE_CERT_INVALID] = { "cert-invalid",
        "a certificate is not acceptable",
        "compare the certificate with what the other side demands (names, dates, chain, usage, "
        "key)",
        "our server does not accept your certificate: which one do you use?" },
    [CAUSE_REFUSED_INSIDE] = { "refused-inside-tls",
        "one side ended the stream inside TLS before it was ready",
        "give the key log of one server (--keys) to see the words; usual reasons are the "
        "certificate or the domain",
        "your server ends the stream right after the TLS handshake: what does its log say?" },
    /* authentication */
    [CAUSE_SASL_REFUSED] = { "sasl-refused",
        "SASL EXTERNAL was refused",
        "the certificate of the caller is not accepted; the words of the other side say why",
        "your server refuses SASL EXTERNAL from ours: which rule fails?" },
    [CAUSE_NO_METHOD] = { "no-auth-method",
        "no way to authenticate was offered that the caller may use",
        "allow dialback with this partner, or get a certificate that the partner accepts",
        "your server offers neither SASL EXTERNAL nor dialback to ours" },
    [CAUSE_DIALBACK_INVALID] = { "dialback-invalid",
        "dialback failed: the key was not valid",
        "the name server record of the calling domain leads to another server, or servers of one "
        "domain have different dialback secrets",
        "your authoritative server does not know the key that your server sent: "
        "same secret on all of them?" },
    [CAUSE_DIALBACK_ERROR] = { "dialback-error",
        "dialback failed: the other server answered with an error",
        "the condition says why",
        "dialback between our servers ends with this error: what does your log say?" },
    [CAUSE_DIALBACK_TIMEOUT] = { "dialback-timeout",
        "dialback was not answered",
        "the called server could not ask the authoritative one: check SRV record and port 5269 of "
        "the calling domain",
        "your server never answers our dialback key: can it reach our server on port 5269?" },
    [CAUSE_DIALBACK_UNREACHABLE] = { "dialback-unreachable",
        "dialback failed: the authoritative server could not be asked",
        "make port 5269 of the calling domain reachable from the "
        "called server (row 1 of the port table)",
        "our server could not reach yours to verify your key: "
        "check your SRV record and port 5269" },
    /* not known */
    [CAUSE_CAPTURE_SHORT] = { "capture-short",
        "the capture does not show how it ended",
        "capture longer, on both sides of the edge, with full packets (snaplen 0)",
        "" },
};

const struct cause_row *
cause_row(enum cause c)
{
    return &cause_rows[c];
}

bool
cause_is_cert(enum cause c)
{
    return c >= CAUSE_CERT_MISSING && c <= CAUSE_CERT_INVALID;
}

const char *
cause_refusal(enum cause c)
{
    if (c == CAUSE_NOT_AUTHORIZED || c == CAUSE_POLICY || c == CAUSE_SASL_REFUSED)
        return "our server refuses yours for the reason that is given here";
    if (c == CAUSE_TOO_BIG)
        return "your server sends stanzas that are larger than ours takes";
    if (c == CAUSE_CERT_PURPOSE)
        return "the certificate of your server may not be used by a client (extended key usage)";
    return NULL;
}

const char *
cause_refuses_servers(void)
{
    return "your server refuses the namespace jabber:server on this port: does something for "
        "clients listen there?";
}

const char *
cause_unsaid(enum cause c)
{
    if (c == CAUSE_TLS_FAILED)
        return "nobody said why: look into the logs of both servers at this time";
    if (c == CAUSE_SASL_REFUSED)
        return "the certificate of the caller is not accepted: look into the log of the called "
            "server at this time";
    if (c == CAUSE_DIALBACK_ERROR)
        return "no condition was given: look into the log of the called server at this time";
    return cause_rows[c].remedy;
}

bool
cause_is_wordless(enum cause c)
{
    return c == CAUSE_TLS_FAILED || c == CAUSE_REFUSED_INSIDE || c == CAUSE_PEER_LOST;
}

bool
cause_asks_why(enum cause c)
{
    return cause_is_wordless(c) || c == CAUSE_CRASH || c == CAUSE_DIALBACK_ERROR
        || c == CAUSE_SETUP_TIMEOUT;
}

const char *
cause_wordless(enum cause c, bool ours)
{
    if (c == CAUSE_REFUSED_INSIDE && ours)
        return "our side ended it first: the reason stands in the log of our server at this time "
            "(--log reads it beside the capture); usual reasons are the certificate or the domain "
            "of the other side";
    if (c == CAUSE_REFUSED_INSIDE)
        return "the other side ended it first and knows why; a key log of one server (--keys) "
            "shows what was said; usual reasons are our certificate or our domain";
    return ours ? "our side ended it first: look into the log of our server at this time"
        : "the other side ended it first: only its log says why; see that no firewall between "
            "resets connections";
}

/* Texts that may hold NUL. */
#define STRANGER(text, name, remedy) { text, sizeof(text) - 1, name, remedy }

static const char stranger_balancer[] = "the load balancer that calls writes a PROXY protocol "
    "header in front of the stream, and the server does not expect one: switch it off there, or on "
    "in the server";
static const char stranger_web[] = "a web server answers there: see what listens on this port, and "
    "where the records of the domain lead";
static const char stranger_tls[] = "TLS is spoken there from the first byte: an _xmpps-server "
    "record may lead to this port, an _xmpp-server record must not";

static const struct stranger_row stranger_rows[] = {
    STRANGER("PROXY ", "PROXY protocol", stranger_balancer),
    STRANGER("\r\n\r\n\0\r\nQUIT\n", "PROXY protocol", stranger_balancer),
    STRANGER("HTTP/", "HTTP", stranger_web),
    STRANGER("GET ", "HTTP", ""),
    STRANGER("HEAD ", "HTTP", ""),
    STRANGER("POST ", "HTTP", ""),
    STRANGER("OPTIONS sip:", "SIP", ""),
    STRANGER("OPTIONS ", "HTTP", ""),
    STRANGER("CONNECT ", "HTTP", ""),
    STRANGER("<html", "HTML", stranger_web),
    STRANGER("<!DOCTYPE", "HTML", stranger_web),
    STRANGER("SSH-", "SSH", ""),
    STRANGER("220 ", "SMTP or FTP", ""),
    STRANGER("220-", "SMTP or FTP", ""),
    STRANGER("554 ", "SMTP", ""),
    STRANGER("EHLO ", "SMTP", ""),
    STRANGER("HELO ", "SMTP", ""),
    STRANGER("* OK", "IMAP", ""),
    STRANGER("+OK", "POP3", ""),
    STRANGER("RFB ", "VNC", ""),
    STRANGER("\x15\x03", "TLS alert", stranger_tls),
    STRANGER("\x16\x03", "TLS", stranger_tls),
    STRANGER("\x03\0\0", "RDP", ""),
};

const struct stranger_row *
cause_stranger(const unsigned char *at, size_t len)
{
    size_t i;
    for (i = 0; i < sizeof stranger_rows / sizeof *stranger_rows; i++) {
        const struct stranger_row *row = &stranger_rows[i];
        if (len >= row->len && memcmp(at, row->begins, row->len) == 0)
            return row;
    }
    return NULL;
}

static const struct violation_row {
    const char *word, *text, *remedy;
} violation_rows[VIOLATION_COUNT] = {
    [VIOLATION_EDGE_INSIDE] = { "edge-to-inside",
        "the edge opened a connection towards the inside, where none of it may ever lead",
        "whoever is able to make the edge do this reaches the LAN through it, past the firewall; "
        "load the rules of 'xmppedge ports FILE --nft' on the edge, close the way in the inner "
        "firewall, then see in the log of the edge who led it there" },
    [VIOLATION_EDGE_DIALS] = { "edge-opened-23456",
        "the edge opened a connection to port 23456: only gateways may",
        "the inner firewall must not have a rule from the edge into the LAN: gateways call the "
        "edge; remove it, and find the program on the edge that calls" },
    [VIOLATION_INNER_OUTSIDE] = { "23456-on-external",
        "port 23456 was reached on the external address",
        "the port is for gateways alone: close it on the outer firewall, and let the edge listen "
        "on its internal address only" },
    [VIOLATION_NO_MTLS] = { "23456-without-mutual-tls",
        "a connection to 23456 worked without a client certificate",
        "without one anybody in the LAN can be a gateway: see what listens there, and with which "
        "configuration" },
    [VIOLATION_NO_TLS] = { "23456-without-tls",
        "XMPP was spoken on 23456 without TLS",
        "what is said there can be read and changed in the LAN: see what listens there, and with "
        "which configuration" },
    [VIOLATION_OTHER_SOURCE] = { "5269-from-other-address",
        "an outgoing 5269 connection did not leave from the external address",
        "partners and firewalls know the edge by that address: let no other host, and no other "
        "address of the edge, out on this port" },
    [VIOLATION_OTHER_TARGET] = { "5269-on-other-address",
        "an incoming 5269 connection was served on another address than the external one",
        "who is reached there is not held to the rules of the edge: close the port on that "
        "address, and correct the records that lead to it" },
    [VIOLATION_OTHER_PORT] = { "xmpp-on-unlisted-port",
        "XMPP was spoken on a port that is not in the port table",
        "stop what listens there, or, if it is a partner's port, let the firewall pass it and "
        "know why" },
    [VIOLATION_PLAIN] = { "plain-stanzas",
        "stanzas crossed the network without encryption",
        "everybody on the path can read and change them: set tls=\"required\" for this partner, "
        "and ask him for it" },
};

const char *
violation_word(enum violation_kind v)
{
    return violation_rows[v].word;
}

const char *
violation_text(enum violation_kind v)
{
    return violation_rows[v].text;
}

const char *
violation_remedy(enum violation_kind v)
{
    return violation_rows[v].remedy;
}

const char *
reach_word(enum reach r)
{
    static const char *const words[] = { "nothing", "name", "syn", "tcp", "header", "tls", "stream",
        "authenticated", "stanzas" };
    return words[r];
}

const char *
row_word(enum row r)
{
    static const char *const words[] = { "other", "5269-in", "5269-out", "23456-in" };
    return words[r < ROW_COUNT ? r : 0];
}

const char *
ruling_word(enum ruling r)
{
    static const char *const words[] = { "conforms", "violates", "cannot-tell" };
    return words[r];
}

const char *
outcome_word(enum outcome o)
{
    static const char *const words[] = { "worked", "failed", "cannot-tell" };
    return words[o];
}

const char *
direction_word(enum direction d)
{
    static const char *const words[] = { "unknown", "in", "out" };
    return words[d];
}

const char *
known_word(enum known k)
{
    static const char *const words[] = { "not known", "option", "configuration", "inferred" };
    return words[k];
}
