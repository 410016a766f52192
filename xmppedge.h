/* xmppedge.h -- the public face of xmppedge.c
 *
 * Two halves.  The first is XMPP as data: a streaming tokenizer for RFC 6120 XML, addresses, the
 * reason words and the protocol table.  It knows no sockets, keeps no global state and allocates
 * only where its text says so; compile xmppedge.c with -DXMPPEDGE_LANGUAGE_ONLY to have it alone.
 * The second embeds the proxy in a program that has its own main loop: compile xmppedge.c with
 * -DXMPPEDGE_NO_MAIN.
 *
 * Conventions.  Sizes are bytes.  Times are milliseconds of a monotonic clock.  Domains are
 * compared in lower case.  A function that returns a pointer says who frees it.  Nothing here is
 * thread-safe within one object; two objects never share state.  C++11 can include this file;
 * xmppedge.c is C, and is compiled by itself then.
 */
#ifndef XMPPEDGE_H
#define XMPPEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version in words, and as a number that #if compares: major * 10000 + minor * 100 + patch.  A
 * header belongs to the xmppedge.c beside it; there is no other way to mix the two. */
#define XE_VERSION "0.2.0"
#define XE_VERSION_NUMBER 200
#define XE_DATE    "2026-11-28"   /* of this version: pages of the manual have it */

/* ---- bytes ---- */

/* Bytes that belong to somebody else; never NUL-terminated.  An absent text has at == NULL. */
struct xe_span {
    const char *at;
    size_t      len;
};

/* ---- lists ---- */

/* A list of names exists once, as a macro whose rows begin with a name and its word.  These two
 * make of its rows the members of an enum, and the cases of a switch that returns the words. */
#define XE_MEMBER(name, ...)  name,
#define XE_WORD(name, word)   case name: return word;

/* ---- pages of a manual ---- */

/* Room that text of `len` bytes takes at most: each byte escaped, each word alone on its line. */
#define XE_ROFF_SIZE(len)  (4 * (len) + 3)

/* Write text as man(7) has it: its words, escaped so that none is taken for a request, in lines of
 * at most 78 columns unless a word is longer.  Spaces between words count as one; all other bytes
 * must be visible.
 *
 *   text     ends in NUL; borrowed
 *   out      where it is written: lines, the last with its end too, and NUL
 *   size     of out; XE_ROFF_SIZE(strlen(text)) is always enough
 *   returns  the bytes written, NUL aside; SIZE_MAX when there is no room, and what is in `out`
 *            then says nothing */
size_t xe_roff_text(const char *text, char *out, size_t size);

/* ---- endings: one vocabulary ---- */

/* Everything that ends a stream, refuses a peer or returns a stanza names its reason from this
 * list.  The columns are: the enum; the word in logs, metrics and verdicts (stable: scripts match
 * it); the stream error condition of RFC 6120 4.9.3 ("" closes without an error); the stanza error
 * condition of RFC 6120 8.3.3 for what it leaves undelivered; its error type; one sentence in words
 * that may be shown to the other side; one sentence for our own administrator, what to do or where
 * to look, of at most XE_REMEDY_MAX bytes.  In the last one name= is an attribute of the
 * configuration or a key of the log, <name> an element of the configuration; DOMAIN, ADDRESS, PORT,
 * FILE and "the other server" are what it is about, and where that is known it stands there. */
#define XE_REMEDY_MAX 119
#define XE_WHY(X) \
    X(XE_WHY_NONE, "none", "", \
        "", "", "no reason", \
        "Nothing: nothing has gone wrong.") \
    /* orderly ends */ \
    X(XE_WHY_DONE, "done", "", \
        "remote-server-timeout", "wait", "the stream was closed", \
        "Nothing: the stream was of no more use, and the next stanza opens another.") \
    X(XE_WHY_PEER_CLOSED, "peer-closed", "", \
        "remote-server-timeout", "wait", "the other server closed the stream", \
        "Look into the log of the other server if this comes again and again; once in a while " \
            "it is normal.") \
    X(XE_WHY_PEER_LOST, "peer-lost", "", \
        "remote-server-timeout", "wait", "the connection to the other server was lost", \
        "Look for a restart of the other server, or a firewall in between that cuts idle " \
            "connections.") \
    X(XE_WHY_PEER_ERROR, "peer-stream-error", "", \
        "remote-server-timeout", "wait", "the other server ended the stream with an error", \
        "Read detail=, what the other server said of it, and show that to its administrator.") \
    X(XE_WHY_SEE_OTHER_HOST, "see-other-host", "", \
        "remote-server-timeout", "wait", \
        "the other server sends us to another host, to which we do not go", \
        "Ask the administrator of DOMAIN whether the host in detail= is his; if so, name it in " \
            "proxy= of its <partner>.") \
    X(XE_WHY_SHUTDOWN, "shutdown", "system-shutdown", \
        "remote-server-timeout", "wait", "the service is shutting down", \
        "Start this node again if nobody stopped it on purpose: systemctl status xmppedge.") \
    X(XE_WHY_RELOADED, "policy-changed", "policy-violation", \
        "not-allowed", "cancel", "federation with this domain is no longer allowed", \
        "List DOMAIN as <partner> again and reload, unless it was taken out on purpose.") \
    X(XE_WHY_TRUST_CHANGED, "trust-changed", "reset", \
        "remote-server-timeout", "wait", \
        "the certificate of the other server is no longer believed", \
        "Compare <trust> and pin= of the partner, which the last reload has changed, with its " \
            "certificate.") \
    X(XE_WHY_REPLACED, "replaced", "conflict", \
        "remote-server-timeout", "wait", "a newer connection took the place of this one", \
        "If this comes again and again, two gateways have the same name: give each its own " \
            "name=.") \
    /* reaching a server */ \
    X(XE_WHY_DNS_NOT_FOUND, "dns-not-found", "", \
        "remote-server-not-found", "cancel", \
        "the domain does not exist or has no server records", \
        "Run dig SRV _xmpp-server._tcp.DOMAIN on this machine; its owner must publish it, or " \
            "set proxy=.") \
    X(XE_WHY_DNS_NO_SERVICE, "dns-no-service", "", \
        "remote-server-not-found", "cancel", \
        "the domain announces that it offers no XMPP service", \
        "Ask why the SRV record of DOMAIN has the target \".\"; proxy= of the <partner> leads " \
            "around it.") \
    X(XE_WHY_DNS_TARGET, "dns-target-address", "", \
        "remote-server-not-found", "cancel", \
        "the domain's SRV record names an address, where the name of a host must be", \
        "Tell the administrator of DOMAIN: the target of an SRV record is the name of a host.") \
    X(XE_WHY_DNS_FAILED, "dns-failed", "", \
        "remote-server-timeout", "wait", "our resolver gave no usable answer about the domain", \
        "Check that this machine reaches each <resolver>, or those of /etc/resolv.conf, on " \
            "UDP and TCP port 53.") \
    X(XE_WHY_ADDRESS_REFUSED, "address-refused", "", \
        "remote-server-not-found", "cancel", \
        "the domain leads to an address that is not connected to from here", \
        "If the server of DOMAIN does stand at an inside address, add that to networks= of its " \
            "<partner>.") \
    X(XE_WHY_PORT_REFUSED, "port-refused", "", \
        "remote-server-not-found", "cancel", \
        "the domain leads to a port that is not connected to from here", \
        "Ask for an SRV record of DOMAIN with another port, or set proxy= of its <partner>.") \
    X(XE_WHY_REFUSED, "tcp-refused", "", \
        "remote-server-not-found", "cancel", "the other server refused the connection", \
        "Check that the server runs and listens at ADDRESS:PORT, and that no firewall rejects " \
            "us: xmppedge ports FILE.") \
    X(XE_WHY_UNREACHABLE, "tcp-unreachable", "", \
        "remote-server-not-found", "cancel", "the other server cannot be reached", \
        "Check the route to ADDRESS from this machine with ip route get, and the rules of the " \
            "firewall.") \
    X(XE_WHY_OTHER_FAMILY, "other-address-family", "", \
        "remote-server-not-found", "cancel", \
        "the other server has addresses only of the kind (IPv4 or IPv6) that we have not", \
        "Give this edge a second <external>, with an address of the other kind, or ask him for " \
            "one of ours.") \
    X(XE_WHY_CONNECT_TIMEOUT, "tcp-timeout", "", \
        "remote-server-timeout", "wait", "the other server did not answer", \
        "Look for a firewall that drops our packets to ADDRESS:PORT; xmppedge ports FILE lists " \
            "what must be open.") \
    X(XE_WHY_BIND, "bind-failed", "", \
        "remote-server-timeout", "wait", \
        "no connection could be made from the configured address", \
        "Check with ip address that address= of <external> is on this machine, and local " \
            "firewall rules.") \
    X(XE_WHY_ATTEMPT_TIMEOUT, "attempt-timeout", "connection-timeout", \
        "remote-server-timeout", "wait", \
        "the connection to the other server could not be completed in time", \
        "See with level=\"debug\" in <log> which target took the time; attempt-time= of " \
            "<limits> is the limit.") \
    X(XE_WHY_SETUP_TIMEOUT, "setup-timeout", "connection-timeout", \
        "remote-server-timeout", "wait", "the stream was not established in time", \
        "See state= for what the other side left undone; preauth-time= of <limits> is the limit.") \
    /* XML and streams */ \
    X(XE_WHY_XML_MALFORMED, "xml-malformed", "not-well-formed", \
        "", "", "the data is not well-formed XML", \
        "Tell the administrator of the other server: it sends broken XML; a capture shows " \
            "which.") \
    X(XE_WHY_XML_RESTRICTED, "xml-restricted", "restricted-xml", \
        "", "", \
        "comments, processing instructions, document types and entities are not allowed", \
        "Tell the administrator of the other server: it sends XML that RFC 6120 11.1 forbids.") \
    X(XE_WHY_XML_ENCODING, "xml-encoding", "unsupported-encoding", \
        "", "", "only UTF-8 is allowed", \
        "Tell the administrator of the other server: it sends text that is not UTF-8.") \
    X(XE_WHY_XML_LIMIT, "xml-limit", "policy-violation", \
        "policy-violation", "modify", \
        "too deeply nested, or too many elements, attributes or namespaces, or too long a name", \
        "Find out what sends such stanzas; stanza-depth=, stanza-attributes= and " \
            "stanza-elements= are the limits.") \
    X(XE_WHY_XML_PREFIX, "xml-prefix", "", \
        "bad-request", "modify", "a namespace prefix or name in the stanza cannot be forwarded", \
        "Tell the sender's software maker: the stanza uses a prefix that it nowhere declares.") \
    X(XE_WHY_HEADER_TOO_BIG, "header-too-big", "policy-violation", \
        "", "", "the stream header is too large", \
        "Raise header-bytes= of <limits> if the other side is a server that you know.") \
    X(XE_WHY_STANZA_TOO_BIG, "stanza-too-big", "policy-violation", \
        "policy-violation", "modify", "the stanza is too large", \
        "Raise stanza-bytes= of <limits> on edges and gateways if such large stanzas are wanted.") \
    X(XE_WHY_STANZA_ENDLESS, "stanza-endless", "policy-violation", \
        "", "", "a stanza that is too large did not come to its end", \
        "Find out which user sends so much; past-bytes= and past-time= of <limits> are the " \
            "limits.") \
    X(XE_WHY_NOT_XMPP, "not-xmpp", "invalid-xml", \
        "", "", "this is not an XMPP stream", \
        "Check that what answers at ADDRESS:PORT is an s2s port (5269), not that of clients or " \
            "of the web.") \
    X(XE_WHY_BAD_NAMESPACE, "bad-namespace", "invalid-namespace", \
        "", "", "the stream header does not name the server-to-server namespace", \
        "Check that the port is for servers: clients (5222) and components (5347) have another.") \
    X(XE_WHY_BAD_VERSION, "bad-version", "unsupported-version", \
        "", "", "XMPP version 1.0 is needed here", \
        "Ask for a server of XMPP 1.0 (2004); only dialback=\"true\" with tls=\"optional\" " \
            "lets it in.") \
    X(XE_WHY_HOST_UNKNOWN, "host-unknown", "host-unknown", \
        "item-not-found", "cancel", "this domain is not served here", \
        "Add a <domain> if the one in to= is ours; else a partner's DNS leads the wrong " \
            "domain to us.") \
    X(XE_WHY_HEADER_CHANGED, "header-changed", "improper-addressing", \
        "", "", "the stream addresses changed after a restart", \
        "Tell the administrator of the other server: after TLS or SASL it names other domains " \
            "than before.") \
    X(XE_WHY_HEADER_ADDRESS, "header-address", "improper-addressing", \
        "", "", "an address in the stream header is empty, or is no domain", \
        "Tell the administrator of the other server: from or to in its stream header is no " \
            "domain.") \
    X(XE_WHY_BAD_ADDRESS, "bad-address", "improper-addressing", \
        "jid-malformed", "modify", "the stanza has no valid sender or recipient address", \
        "Look at from= and to= in the log: a client or server writes addresses that are none.") \
    X(XE_WHY_DOMAIN_DISALLOWED, "domain-disallowed", "improper-addressing", \
        "jid-malformed", "modify", "a domain has characters that IDNA 2008 does not allow", \
        "Look at the domain in the log: it is misspelt, or the other software is older than " \
            "IDNA 2008.") \
    X(XE_WHY_DOMAIN_A_LABEL, "domain-a-label", "improper-addressing", \
        "jid-malformed", "modify", "XMPP writes a domain in Unicode, not with xn--", \
        "Tell the administrator of the other server to write its domain in Unicode on XMPP " \
            "streams.") \
    X(XE_WHY_DOMAIN_NOT_ASCII, "domain-not-ascii", "improper-addressing", \
        "jid-malformed", "modify", "domains that are not ASCII are not known here", \
        "Build xmppedge with libidn2 (make finds it by itself), or leave such domains out.") \
    X(XE_WHY_INVALID_FROM, "invalid-from", "invalid-from", \
        "not-allowed", "cancel", "the sender domain is not authorised on this stream", \
        "Tell the administrator of the other server: it sends for a domain that it has not " \
            "proven.") \
    X(XE_WHY_BAD_ELEMENT, "bad-element", "unsupported-stanza-type", \
        "", "", "an element that is not known here", \
        "Tell the administrator of the other server what it sends; level=\"debug\" in <log> " \
            "shows it.") \
    X(XE_WHY_BAD_ACK, "bad-ack", "undefined-condition", \
        "", "", "an acknowledgement of stanzas that were not sent", \
        "Tell the administrator of the other server: its XEP-0198 counts wrongly; a restart of " \
            "it helps.") \
    X(XE_WHY_NOT_AUTHORIZED, "not-authorized", "not-authorized", \
        "", "", "stanzas were sent before authentication", \
        "Ignore it from strangers; a partner's server that does so is broken, and its " \
            "administrator should know.") \
    /* TLS and certificates */ \
    X(XE_WHY_TLS_FAILED, "tls-failed", "", \
        "remote-server-timeout", "wait", "the TLS handshake failed", \
        "See the alert or error in detail=, else in their log; versions and ciphersuites= are " \
            "set in <tls>.") \
    X(XE_WHY_TLS_REQUIRED, "tls-required", "policy-violation", \
        "remote-server-timeout", "wait", "encryption is required", \
        "Tell the administrator of DOMAIN to turn on TLS, or set tls=\"optional\" for it here.") \
    X(XE_WHY_TLS_NOT_OFFERED, "tls-not-offered", "policy-violation", \
        "remote-server-timeout", "wait", \
        "encryption is required and the other server does not offer it", \
        "Have STARTTLS offered at DOMAIN, or set tls=\"optional\" for it here; somebody may " \
            "strip it on the way.") \
    X(XE_WHY_TLS_REFUSED, "tls-refused", "", \
        "remote-server-timeout", "wait", "the other server refused to start TLS", \
        "Check that the side that refuses has a certificate for the domain: here, xmppedge " \
            "check FILE.") \
    X(XE_WHY_TLS_INJECTION, "tls-injection", "policy-violation", \
        "", "", "data was sent between STARTTLS and the TLS handshake", \
        "Take it seriously from a known server: somebody in between may add plaintext; else " \
            "its software is broken.") \
    X(XE_WHY_CERT_MISSING, "cert-missing", "not-authorized", \
        "remote-server-timeout", "wait", "a certificate is required and none was sent", \
        "Ask the partner to send its certificate as a client, too, or allow dialback=\"true\".") \
    X(XE_WHY_CERT_EXPIRED, "cert-expired", "not-authorized", \
        "remote-server-timeout", "wait", "the certificate of the other server has expired", \
        "Have the certificate of DOMAIN renewed and loaded; look at the clock of this machine, " \
            "too.") \
    X(XE_WHY_CERT_NOT_YET, "cert-not-yet-valid", "not-authorized", \
        "remote-server-timeout", "wait", "the certificate of the other server is not valid yet", \
        "Check the clock of this machine with timedatectl; if it is right, the partner's is " \
            "wrong.") \
    X(XE_WHY_CERT_NAME, "cert-name", "not-authorized", \
        "remote-server-timeout", "wait", \
        "the certificate of the other server is not valid for its domain", \
        "Have it certified for DOMAIN, not only for its host; a node of ours for its name=.") \
    X(XE_WHY_CERT_UNTRUSTED, "cert-untrusted", "not-authorized", \
        "remote-server-timeout", "wait", \
        "the certificate of the other server is not from a trusted authority", \
        "Ask for its whole chain, or name its authority in <trust>: of the <partner>, of " \
            "<internal> for a trunk.") \
    X(XE_WHY_CERT_NOT_FOR_PARTNER, "cert-untrusted-for-partner", "not-authorized", \
        "remote-server-timeout", "wait", \
        "the certificate of the other server is from an authority that may not vouch for it", \
        "Name the authority that signs for this partner in its own <trust>, if it is the " \
            "right one.") \
    X(XE_WHY_CERT_PIN, "cert-pin-mismatch", "not-authorized", \
        "remote-server-timeout", "wait", \
        "the key of the other server is not one of those that are pinned for its domain", \
        "Ask the partner, by telephone, whether its key has changed; then put the new one " \
            "into pin=.") \
    X(XE_WHY_CERT_REVOKED, "cert-revoked", "not-authorized", \
        "remote-server-timeout", "wait", "the certificate of the other server has been revoked", \
        "Ask the partner for a new certificate; crl= of <trust> names the list, which should " \
            "be fresh.") \
    X(XE_WHY_CERT_CONSTRAINTS, "cert-name-constraints", "not-authorized", \
        "remote-server-timeout", "wait", \
        "an authority in the chain may not vouch for the names in the certificate", \
        "Ask the partner for a certificate of an authority that may sign for its domain.") \
    X(XE_WHY_CERT_PURPOSE, "cert-purpose", "not-authorized", \
        "remote-server-timeout", "wait", \
        "the certificate, or an authority in its chain, is not for this purpose", \
        "Ask the partner for a certificate with serverAuth and clientAuth, or with no " \
            "extended key usage.") \
    X(XE_WHY_CERT_WEAK, "cert-weak", "not-authorized", \
        "remote-server-timeout", "wait", \
        "a key or a signature in the chain is weaker than is allowed", \
        "Ask the partner for a key of 2048 bits or more and SHA-256; rsa-bits-min= of " \
            "<limits> is the limit.") \
    /* certificates that end a handshake, KEY_SIZE to CRITICAL */ \
    X(XE_WHY_CERT_KEY_SIZE, "cert-key-size", "", \
        "remote-server-timeout", "wait", \
        "a certificate has a key with more bits than are computed with here", \
        "Raise rsa-bits-max= or curve-bits= of <limits>, or ask the partner for a smaller key.") \
    X(XE_WHY_CERT_KEY_EXPONENT, "cert-key-exponent", "", \
        "remote-server-timeout", "wait", \
        "a certificate has an RSA key with a longer public exponent than is computed with here", \
        "Ask the partner for a key with the exponent 65537, or raise rsa-exponent-bits= of " \
            "<limits>.") \
    X(XE_WHY_CERT_KEY_KIND, "cert-key-kind", "", \
        "remote-server-timeout", "wait", \
        "a certificate has a key that is neither RSA nor of P-256, P-384 or P-521", \
        "Ask the partner for a key of RSA, P-256, P-384 or P-521; nothing else is computed " \
            "with here.") \
    X(XE_WHY_CERT_CHAIN_LENGTH, "cert-chain-length", "", \
        "remote-server-timeout", "wait", "the chain has more certificates than are read here", \
        "Ask the partner to send fewer certificates, or raise chain-certificates= of <limits>.") \
    X(XE_WHY_CERT_CHAIN_BYTES, "cert-chain-bytes", "", \
        "remote-server-timeout", "wait", "the chain has more bytes than are read here", \
        "Ask the partner to send a shorter chain, or raise chain-bytes= of <limits>.") \
    X(XE_WHY_CERT_MALFORMED, "cert-malformed", "", \
        "remote-server-timeout", "wait", "a certificate cannot be read", \
        "Ask the partner for a certificate that openssl x509 -text can read.") \
    X(XE_WHY_CERT_CRITICAL, "cert-critical-extension", "", \
        "remote-server-timeout", "wait", \
        "a certificate has a critical extension, such as name constraints, that cannot be read", \
        "Ask the partner for a chain without that extension, or name its lowest authority in " \
            "<trust>.") \
    /* and any other */ \
    X(XE_WHY_CERT_INVALID, "cert-invalid", "not-authorized", \
        "remote-server-timeout", "wait", \
        "the certificate of the other server is not acceptable", \
        "Look at it: openssl s_client -starttls xmpp-server -xmpphost DOMAIN -connect " \
            "ADDRESS:PORT; ask for another.") \
    /* authentication */ \
    X(XE_WHY_SASL_REFUSED, "sasl-refused", "not-authorized", \
        "remote-server-timeout", "wait", "the other server refused SASL EXTERNAL", \
        "Send our chain and its authority to the partner, who must trust it for our domain; " \
            "detail= has his words, if any.") \
    X(XE_WHY_SASL_ABUSE, "sasl-abuse", "policy-violation", \
        "", "", "SASL was used in a way that is not allowed", \
        "Ignore it from strangers; a partner's server that does so is broken, or asks for PLAIN.") \
    X(XE_WHY_NO_METHOD, "no-auth-method", "policy-violation", \
        "remote-server-timeout", "wait", \
        "no permitted authentication method is offered by the other server", \
        "Compare sasl= and dialback= of the <partner> with what its server offers; one must " \
            "be common.") \
    X(XE_WHY_DIALBACK_OFF, "dialback-off", "policy-violation", \
        "", "", "dialback is not allowed with this domain", \
        "Ask the partner to use a certificate (SASL EXTERNAL), or set dialback=\"true\" for it.") \
    X(XE_WHY_DIALBACK_INVALID, "dialback-invalid", "not-authorized", \
        "internal-server-error", "wait", "dialback failed: the key was not valid", \
        "Give all nodes of one side the same secret-file= of <dialback>; restart those that " \
            "have an old one.") \
    X(XE_WHY_DIALBACK_ERROR, "dialback-error", "", \
        "remote-server-timeout", "wait", \
        "dialback failed: the other server answered with an error", \
        "Look into the log of the server that should confirm the key: it does not know it, or " \
            "cannot be asked.") \
    X(XE_WHY_DIALBACK_TIMEOUT, "dialback-timeout", "connection-timeout", \
        "remote-server-timeout", "wait", "dialback was not answered in time", \
        "See who asks whom: the other server must reach ours under its SRV name, on the port " \
            "there.") \
    X(XE_WHY_DIALBACK_UNREACHABLE, "dialback-unreachable", "", \
        "remote-server-timeout", "wait", \
        "dialback failed: the authoritative server could not be asked", \
        "Look for the dialback lines just before: the server that DNS names for DOMAIN cannot " \
            "be reached.") \
    X(XE_WHY_INNER_RESOLVER, "inner-resolver", "connection-timeout", \
        "remote-server-timeout", "wait", \
        "the inner server has not asked the gateway who is calling", \
        "Have the inner server load dialback, and find every partner at the gateway's <listen>: " \
            "see with dig there.") \
    X(XE_WHY_INNER_SOURCE, "inner-source", "connection-timeout", \
        "remote-server-timeout", "wait", \
        "the inner server has not asked the gateway, which has refused a caller meanwhile", \
        "If the inner server calls from the address in detail=, put a <source> with it into " \
            "<inner>; else see inner-resolver.") \
    X(XE_WHY_COMPONENT_UNKNOWN, "component-unknown", "", \
        "remote-server-timeout", "wait", "the other server has no component for this domain", \
        "Add the partner as an external component to the inner server, with the domain in the " \
            "log.") \
    X(XE_WHY_COMPONENT_REFUSED, "component-refused", "", \
        "remote-server-timeout", "wait", "the other server did not accept the component's secret", \
        "Put the same secret into secret-file= of <component> and into the inner server's " \
            "settings.") \
    X(XE_WHY_COMPONENT_CONFLICT, "component-conflict", "", \
        "remote-server-timeout", "wait", "the other server has this component already", \
        "Stop the other gateway or program that is this component: only one can be connected.") \
    /* policy */ \
    X(XE_WHY_PARTNER_UNLISTED, "partner-unlisted", "policy-violation", \
        "not-allowed", "cancel", "this domain is not on the list of allowed partners", \
        "Add a <partner> with domain=\"DOMAIN\" and reload, if the two organisations are to " \
            "talk.") \
    X(XE_WHY_DOMAIN_UNKNOWN, "domain-unknown", "host-unknown", \
        "item-not-found", "cancel", "the domain is not served here", \
        "Look at to= in the log: our own server should not send this domain to the border.") \
    X(XE_WHY_DOMAIN_NOT_YOURS, "domain-not-yours", "not-authorized", \
        "not-allowed", "cancel", "this peer may not speak for the domain", \
        "List the domain under <inner> at the gateway and as <domain> at the edge, if that is " \
            "where it belongs.") \
    X(XE_WHY_UNINVITED, "uninvited", "", \
        "not-allowed", "cancel", "the recipient has not written to this contact", \
        "Nothing: who is wanted is written to first; type= in <partners> of the gateway asks for " \
            "that.") \
    X(XE_WHY_BLOCKED, "blocked", "policy-violation", \
        "not-allowed", "cancel", "federation with this domain is blocked for now", \
        "Wait until the time in xmppedge status FILE, or let it pass again, at each edge: " \
            "xmppedge unblock FILE DOMAIN.") \
    X(XE_WHY_KIND_DENIED, "kind-denied", "", \
        "not-allowed", "cancel", "stanzas of this kind do not pass between these domains", \
        "Add the kind in kind= to kinds= of <allow> in the <partner>, if it is to pass in that " \
            "direction.") \
    X(XE_WHY_NAMESPACE_DENIED, "namespace-denied", "", \
        "not-allowed", "cancel", "what the stanza carries does not pass between these domains", \
        "Take the <deny> of its namespace out of the <partner>, if it is to pass in that " \
            "direction.") \
    X(XE_WHY_FILTERED, "filtered", "", \
        "policy-violation", "modify", "a filter does not let the stanza pass", \
        "Look at the filter of the program that contains this node: no setting of its " \
            "configuration has refused it.") \
    X(XE_WHY_SOURCE_DENIED, "source-denied", "not-authorized", \
        "", "", "connections from this address are not accepted here", \
        "If it is an address of the inner server, add a <source> for it to <inner>.") \
    X(XE_WHY_PROXY_HEADER, "proxy-header", "policy-violation", \
        "", "", "the load balancer does not say whose connection it brings", \
        "Let it send the PROXY protocol (haproxy: send-proxy-v2 on its server line), or take its " \
            "address out of balancers=.") \
    X(XE_WHY_NAME_DENIED, "name-denied", "not-authorized", \
        "", "", "this name is not configured here", \
        "Give the name in the log its <gateway> at the edge; each node must use its own " \
            "certificate.") \
    /* limits */ \
    X(XE_WHY_CONN_LIMIT, "limit-connections", "resource-constraint", \
        "resource-constraint", "wait", "too many connections (limit: connections)", \
        "See in xmppedge status FILE whose connections they are; connections= of <limits> is " \
            "the limit.") \
    X(XE_WHY_PARTNER_LIMIT, "limit-partner-connections", "resource-constraint", \
        "resource-constraint", "wait", \
        "too many connections with this domain (limit: partner-connections)", \
        "Raise connection-limit= of the <partner>, if it is so large, or else " \
            "partner-connections=.") \
    X(XE_WHY_SOURCE_LIMIT, "limit-source-connections", "resource-constraint", \
        "", "", "too many connections from this address (limit: source-connections)", \
        "Block the address in peer= if it is no partner; else raise source-connections= of " \
            "<limits>.") \
    X(XE_WHY_SOURCE_RATE, "limit-source-rate", "resource-constraint", \
        "", "", "too many new connections from this address (limit: source-rate)", \
        "Block the address in peer= if it floods us; else raise source-rate= and " \
            "source-burst= of <limits>.") \
    X(XE_WHY_HANDSHAKES, "limit-handshakes", "", \
        "resource-constraint", "wait", "too many TLS handshakes are waiting (limit: handshakes)", \
        "Raise handshake-threads= to the number of cores, then handshakes= of <limits>; look " \
            "who connects.") \
    X(XE_WHY_TLS_BYTES, "limit-tls-bytes", "", \
        "remote-server-timeout", "wait", "TLS sends and sends, and no data comes of it", \
        "Block the address in peer= if it is no partner: no honest program does this.") \
    X(XE_WHY_PREAUTH_BYTES, "limit-preauth-bytes", "policy-violation", \
        "", "", "too much data before authentication (limit: preauth-bytes)", \
        "Ignore it from strangers; for a partner of many domains raise preauth-bytes= of " \
            "<limits>.") \
    X(XE_WHY_PREAUTH_ELEMENTS, "limit-preauth-elements", "policy-violation", \
        "", "", "too many elements before authentication (limit: preauth-elements)", \
        "Ignore it from strangers; for a partner of many domains raise preauth-elements= of " \
            "<limits>.") \
    X(XE_WHY_PAIR_LIMIT, "limit-pairs", "resource-constraint", \
        "resource-constraint", "wait", "too many domain pairs on one stream (limit: pairs)", \
        "Raise pairs= of <limits> if the partner does host so many domains.") \
    X(XE_WHY_TOTAL_PAIRS, "limit-total-pairs", "resource-constraint", \
        "resource-constraint", "wait", "too many domain pairs in all (limit: total-pairs)", \
        "Raise total-pairs= of <limits> (1 KiB each); see in xmppedge status FILE who has so " \
            "many.") \
    X(XE_WHY_SOURCE_PAIRS, "limit-source-pairs", "resource-constraint", \
        "resource-constraint", "wait", \
        "too many domain pairs from one source (limit: source-pairs)", \
        "List the domains behind that network as <partner>, or raise source-pairs= of <limits>.") \
    X(XE_WHY_RESUMABLE_STREAMS, "limit-resumable-streams", "", \
        "", "", "too many lost streams are kept for their callers (limit: resumable-streams)", \
        "Look whose connections are lost so often; raise resumable-streams= of <limits> if they " \
            "are many.") \
    X(XE_WHY_DIALBACKS, "limit-dialbacks", "resource-constraint", \
        "resource-constraint", "wait", \
        "too many dialback keys are being verified (limit: dialbacks)", \
        "Raise dialbacks= of <limits> if many partners come at once; silent servers take the " \
            "places.") \
    X(XE_WHY_PARTNER_DIALBACKS, "limit-partner-dialbacks", "resource-constraint", \
        "resource-constraint", "wait", \
        "too many dialback keys of this domain are being verified (limit: partner-dialbacks)", \
        "See why that partner's server answers so slowly; partner-dialbacks= of <limits> is " \
            "the limit.") \
    X(XE_WHY_SOURCE_DIALBACKS, "limit-source-dialbacks", "resource-constraint", \
        "resource-constraint", "wait", \
        "too many dialback keys of this source are being verified (limit: source-dialbacks)", \
        "Block the network if it is no partner's; else raise source-dialbacks= of <limits>.") \
    X(XE_WHY_DIALBACK_WAIT, "dialback-wait", "resource-constraint", \
        "resource-constraint", "wait", \
        "the dialback key waited too long for others before it (limit: dialback-wait)", \
        "Raise dialbacks= of <limits>, or find the servers that do not answer their dialback " \
            "questions.") \
    X(XE_WHY_QUEUE_FULL, "limit-queue", "", \
        "resource-constraint", "wait", \
        "too much is waiting for the other server (limit: queue-stanzas, queue-bytes)", \
        "See in xmppedge status FILE why the other server takes so little; queue-stanzas= and " \
            "queue-bytes= limit.") \
    X(XE_WHY_MEMORY, "limit-memory", "resource-constraint", \
        "resource-constraint", "wait", "too much is waiting for delivery (limit: memory)", \
        "Find the pairs with the most queued_bytes= in xmppedge status FILE; memory= of " \
            "<limits> is the limit.") \
    X(XE_WHY_IDLE, "idle", "connection-timeout", \
        "remote-server-timeout", "wait", "the stream was idle for too long", \
        "Nothing: the next stanza opens a new stream; inactivity-time= of <limits> is the limit.") \
    X(XE_WHY_WRITE_TIMEOUT, "write-timeout", "connection-timeout", \
        "remote-server-timeout", "wait", "the other server stopped reading", \
        "Ask the administrator of the other server: it hangs or is overloaded; write-time= of " \
            "<limits> is the limit.") \
    X(XE_WHY_ACK_TIMEOUT, "ack-timeout", "connection-timeout", \
        "remote-server-timeout", "wait", "the other server stopped acknowledging", \
        "Ask the administrator of the other server: it reads and hangs; ack-time= of <limits> " \
            "is the limit.") \
    X(XE_WHY_UNACKNOWLEDGED, "unacknowledged", "", \
        "remote-server-timeout", "wait", \
        "the connection was lost before the other server acknowledged this; it may have arrived", \
        "Tell the sender to ask whether it came; look for peer-lost of the same connection " \
            "before.") \
    X(XE_WHY_PING_TIMEOUT, "ping-timeout", "connection-timeout", \
        "remote-server-timeout", "wait", "the other side stopped answering", \
        "Try again with level=\"debug\" in <log> at both nodes: the last line shows how far " \
            "it came.") \
    X(XE_WHY_PING_ERROR, "ping-error", "", "", "", "the answer is an error", \
        "Read the error: whoever answers it was reached, so the way there is good.") \
    /* the trunk */ \
    X(XE_WHY_NO_TRUNK, "no-trunk", "", \
        "remote-server-timeout", "wait", "the two nodes of this border are not connected", \
        "See at the gateway whether it runs; if it does, its own xmppedge status says why it is " \
            "not connected.") \
    X(XE_WHY_GATEWAY_UNKNOWN, "gateway-unknown", "", \
        "remote-server-timeout", "wait", "the edge has no <gateway> with the name of this node", \
        "Write <gateway name=.../> with this node's name, as its certificate has it, into " \
            "<internal> of the edge; reload.") \
    X(XE_WHY_TRUNK_LIMIT, "limit-trunks", "resource-constraint", \
        "", "", "too many connections of gateways", \
        "Look for gateways that connect in a loop, or another program on the port of <internal>.") \
    X(XE_WHY_TRUNK_DOMAINS, "limit-trunk-domains", "policy-violation", \
        "", "", "more inner domains than a trunk carries", \
        "Serve fewer domains with one gateway: share those of <inner> among two.") \
    X(XE_WHY_TRUNK_PROTOCOL, "trunk-protocol", "undefined-condition", \
        "", "", "the other side does not follow the trunk protocol", \
        "Run the same version of xmppedge at both ends; what else speaks on that port is no " \
            "gateway.") \
    X(XE_WHY_OUT_OF_MEMORY, "out-of-memory", "internal-server-error", \
        "resource-constraint", "wait", "out of memory", \
        "Give this machine more memory, or lower memory= and connections= of <limits>.") \
    X(XE_WHY_INTERNAL, "internal", "internal-server-error", \
        "internal-server-error", "wait", "an internal error", \
        "Report it with the log lines before it: it is a fault of xmppedge.")

enum xe_why {
    XE_WHY(XE_MEMBER)
    XE_WHY_COUNT
};

/* The columns of one reason.  Every text is static and never NULL. */
struct xe_why_row {
    const char *word;        /* log word */
    const char *stream;      /* stream error condition, "" for none */
    const char *stanza;      /* stanza error condition, "" for none */
    const char *stanza_type; /* cancel, wait, modify, auth; "" for none */
    const char *text;        /* one sentence, that the other side may read */
    const char *remedy;      /* one sentence for our administrator: what to do */
};

/* The row of a reason; `why` outside the list gives the row of XE_WHY_INTERNAL.  Static. */
const struct xe_why_row *xe_why(enum xe_why why);

/* The reason of a word, as it stands in a log; XE_WHY_COUNT when there is no such word.  Looks
 * through the list, allocates nothing. */
enum xe_why xe_why_find(struct xe_span word);

/* ---- alerts of TLS ---- */

/* RFC 8446 6, RFC 5246 7.2, RFC 4346 7.2, RFC 6066 9, RFC 7301 3.2.  The columns are the enum, the
 * number in the protocol and the word of the specification. */
#define XE_ALERTS(X) \
    X(XE_ALERT_CLOSE_NOTIFY, 0, "close_notify") \
    X(XE_ALERT_UNEXPECTED_MESSAGE, 10, "unexpected_message") \
    X(XE_ALERT_BAD_RECORD_MAC, 20, "bad_record_mac") \
    X(XE_ALERT_DECRYPTION_FAILED, 21, "decryption_failed") \
    X(XE_ALERT_RECORD_OVERFLOW, 22, "record_overflow") \
    X(XE_ALERT_DECOMPRESSION_FAILURE, 30, "decompression_failure") \
    X(XE_ALERT_HANDSHAKE_FAILURE, 40, "handshake_failure") \
    X(XE_ALERT_NO_CERTIFICATE, 41, "no_certificate") \
    X(XE_ALERT_BAD_CERTIFICATE, 42, "bad_certificate") \
    X(XE_ALERT_UNSUPPORTED_CERTIFICATE, 43, "unsupported_certificate") \
    X(XE_ALERT_CERTIFICATE_REVOKED, 44, "certificate_revoked") \
    X(XE_ALERT_CERTIFICATE_EXPIRED, 45, "certificate_expired") \
    X(XE_ALERT_CERTIFICATE_UNKNOWN, 46, "certificate_unknown") \
    X(XE_ALERT_ILLEGAL_PARAMETER, 47, "illegal_parameter") \
    X(XE_ALERT_UNKNOWN_CA, 48, "unknown_ca") \
    X(XE_ALERT_ACCESS_DENIED, 49, "access_denied") \
    X(XE_ALERT_DECODE_ERROR, 50, "decode_error") \
    X(XE_ALERT_DECRYPT_ERROR, 51, "decrypt_error") \
    X(XE_ALERT_EXPORT_RESTRICTION, 60, "export_restriction") \
    X(XE_ALERT_PROTOCOL_VERSION, 70, "protocol_version") \
    X(XE_ALERT_INSUFFICIENT_SECURITY, 71, "insufficient_security") \
    X(XE_ALERT_INTERNAL_ERROR, 80, "internal_error") \
    X(XE_ALERT_INAPPROPRIATE_FALLBACK, 86, "inappropriate_fallback") \
    X(XE_ALERT_USER_CANCELED, 90, "user_canceled") \
    X(XE_ALERT_NO_RENEGOTIATION, 100, "no_renegotiation") \
    X(XE_ALERT_MISSING_EXTENSION, 109, "missing_extension") \
    X(XE_ALERT_UNSUPPORTED_EXTENSION, 110, "unsupported_extension") \
    X(XE_ALERT_CERTIFICATE_UNOBTAINABLE, 111, "certificate_unobtainable") \
    X(XE_ALERT_UNRECOGNIZED_NAME, 112, "unrecognized_name") \
    X(XE_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE, 113, "bad_certificate_status_response") \
    X(XE_ALERT_BAD_CERTIFICATE_HASH_VALUE, 114, "bad_certificate_hash_value") \
    X(XE_ALERT_UNKNOWN_PSK_IDENTITY, 115, "unknown_psk_identity") \
    X(XE_ALERT_CERTIFICATE_REQUIRED, 116, "certificate_required") \
    X(XE_ALERT_NO_APPLICATION_PROTOCOL, 120, "no_application_protocol") \
    X(XE_ALERT_ECH_REQUIRED, 121, "ech_required")

enum xe_alert {
#define X(name, number, word) name = number,
    XE_ALERTS(X)
#undef X
    XE_ALERT_NONE = -1   /* no alert */
};

/* The word of the alert with this number, "unknown" when it has none.  Static. */
const char *xe_alert_name(int number);

/* ---- characters ---- */

/* The character of UTF-8 (RFC 3629: shortest form, no surrogates) at p, which is before end: its
 * length in bytes, 0 when the end comes first, -1 when it is none.  *out is the character; it means
 * nothing unless the length is above 0. */
int xe_utf8(const char *p, const char *end, uint32_t *out);

/* May `c` be shown to people as it is?  Not what cannot be seen, what moves other text around,
 * private use and what is no character. */
bool xe_is_visible(uint32_t c);

/* ---- dates ---- */

/* A moment in UTC of the Gregorian calendar, without leap seconds.  time_t is not asked: where it
 * has 32 bits it ends in 2038. */
struct xe_date {
    int64_t year;
    int     month, day;             /* from 1 */
    int     hour, minute, second;   /* from 0 */
};

/* Its seconds since 1970, negative before.  Month must be 1 to 12; what the others have too many
 * is counted on. */
int64_t xe_date_seconds(const struct xe_date *date);

/* And back, for every number of seconds. */
void xe_date_of(int64_t seconds, struct xe_date *out);

/* ---- XML: the streaming tokenizer (RFC 6120 11, XML 1.0, Namespaces in XML) ---- */

/* Ceilings; each reached one is XE_XML_BAD with its reason, or the element is read past. */
#define XE_XML_DEPTH_MAX  1000 /* open elements inside the stream, the stanza itself included */
#define XE_XML_ATTRS_MAX  1000 /* attributes of one tag, namespace declarations included */
#define XE_XML_NS_MAX     256  /* declarations of prefixes in scope within one stanza */
#define XE_XML_STREAM_NS_MAX 16 /* namespace declarations of the stream header */
#define XE_XML_STREAM_KEPT_MAX 512 /* bytes of them, name and language: stanzas inherit them */

/* What has room in the tokenizer itself; more takes memory, until the element is over. */
#define XE_XML_SMALL_DEPTH 32
#define XE_XML_SMALL_ATTRS 32

struct xe_xml_limits {
    size_t   header;    /* bytes of the XML declaration and the stream header */
    size_t   element;   /* bytes of one first-level element */
    unsigned depth;     /* <= XE_XML_DEPTH_MAX */
    unsigned attrs;     /* <= XE_XML_ATTRS_MAX; not below 6 with `past` */
    unsigned elements;  /* of one first-level element, itself included; 0: any number */
    size_t   past;      /* bytes of an element over these limits that are read past; 0: none are */
};

enum xe_xml_result {
    XE_XML_MORE,     /* nothing complete yet */
    XE_XML_HEADER,   /* the stream header: name, ns, attrs; any root tag, the owner judges it */
    XE_XML_ELEMENT,  /* one complete first-level element, or the start tag of one read past */
    XE_XML_CLOSE,    /* the end tag of the stream */
    XE_XML_BAD       /* not well-formed or forbidden; x->why says which; x stays bad */
};

struct xe_xml_attr {
    struct xe_span prefix;   /* "" when there is none */
    struct xe_span name;     /* local name */
    struct xe_span value;    /* as received, entities not resolved, without the quotes */
    char           quote;    /* ' or " */
};

/* xe_xml_event.flags: what an element needs before it may leave on another stream.  A header with
 * XE_XML_UNBOUND is not namespace-well-formed (RFC 6120 4.9.3.2, bad-namespace-prefix). */
enum {
    XE_XML_STREAM_PREFIX = 1, /* uses prefixes that only the stream header declares */
    XE_XML_UNBOUND       = 2, /* uses a prefix declared nowhere, or a name parsers disagree on */
    XE_XML_REWRITE       = 4, /* content must be written anew (CDATA, jabber:client, ...) */
    XE_XML_LARGE         = 8  /* deeper, or more attributes or namespaces, than 0.1.0 takes */
};
#define XE_XML_USED_SHIFT 16  /* flags above this bit: which declarations of the header are used */

/* One event.  Spans point into the buffer given to xe_xml_next and into the tokenizer; they are
 * valid until the buffer changes or the next call. */
struct xe_xml_event {
    struct xe_span     name;   /* local name of the root tag */
    struct xe_span     ns;     /* its namespace; "" for none; at == NULL if its prefix is unbound */
    struct xe_span     raw;    /* from '<' to '>' inclusive */
    struct xe_span     inner;  /* between start and end tag; empty for <x/> */
    enum xe_why        why;    /* NONE; or the limit it is over: raw is a start tag then */
    unsigned           flags;
    unsigned           nattrs;
    struct xe_xml_attr attrs[XE_XML_ATTRS_MAX]; /* without namespace declarations; nattrs are set */
};

/* Parts of the tokenizer's state.  Places are offsets from the start of the unfinished element, so
 * that the owner may move its buffer. */
struct xe_xml_mark {
    uint32_t name;       /* place of the first byte of the name */
    uint32_t value;      /* place of the first byte of the value */
    uint32_t end;        /* place of the closing quote */
    uint16_t name_len;   /* bytes of the name with its prefix */
    uint8_t  prefix_len; /* bytes of the prefix; 0 when there is none */
    uint8_t  kind;       /* plain, prefixed, xml:, xmlns, xmlns: */
};

struct xe_xml_binding {
    uint32_t prefix;     /* place of the prefix; its length 0 is the default namespace */
    uint32_t value;      /* place of the namespace name */
    uint16_t value_len;
    uint8_t  prefix_len;
    uint8_t  kind;       /* jabber:server, jabber:client, other */
};

struct xe_xml_frame {
    uint32_t name;       /* place of the name of an open element */
    uint16_t name_len;
    uint16_t nns;        /* bindings in scope outside of it */
    uint8_t  bits;       /* where its default namespace comes from */
};

struct xe_xml_large;     /* tables of the full size */
struct xe_xml_past;      /* an element that is read past */

/* The tokenizer of one stream in one direction; about 1.6 KiB.  Read `why` and `whitespace`; treat
 * the rest as private.  The definition is public so that it can be embedded; it may not be moved.
 *
 * With limits.past, an element inside the stream that is over a limit does not end it: an event
 * tells its start tag, with `why`, as soon as that is complete, and the rest goes by without being
 * kept.  Of the attributes only from, to, id, type and what its own namespace needs are told.
 *
 * To read a file, set `comments` after xe_xml_init(): comments are then passed over wherever XML
 * allows them.  One between elements counts against the limit of an element, one before the header
 * against that of the header; an element with one is XE_XML_UNBOUND, because it may not leave on a
 * stream.  Without it a comment is XE_WHY_XML_RESTRICTED, as RFC 6120 11.1 demands. */
struct xe_xml {
    struct xe_xml_limits  limits;      /* as given */
    bool                  comments;    /* may there be comments?  Not on a stream, the default */
    enum xe_why           why;         /* the reason after XE_XML_BAD */
    uint64_t              whitespace;  /* bytes of white space read between elements (keepalives) */
    char                 *stream;      /* what is remembered of the header; owned, NULL before it */
    uint32_t              stream_name; /* bytes of the header's name, which is at its beginning */
    uint16_t              lang_len;    /* bytes of its " xml:lang='...'", which follows */
    bool                  has_lang;
    uint8_t               stream_kind; /* what the header's default namespace is */
    uint32_t              before;      /* bytes of the prolog that are already dropped */
    uint32_t              at;          /* next byte to look at */
    uint32_t              mark;        /* first byte of what is being read */
    uint32_t              colon;       /* place of the colon of the name being read; 0 for none */
    uint32_t              inner;       /* first byte after the root tag */
    uint32_t              flags;       /* of the element being read */
    uint32_t              seen;        /* filter for duplicate attributes of a tag */
    uint32_t              elements;    /* of the element being read, itself included */
    uint8_t               state;
    uint8_t               failed;      /* the state in which it became bad */
    uint8_t               quote;       /* of the value being read */
    bool                  spaced;      /* white space seen since the last attribute */
    uint8_t               tag;         /* kinds of attributes seen in the tag being read, a set */
    uint8_t               default_kind; /* of the namespace that the tag declares as default */
    uint8_t               nstream;     /* stream_ns in use */
    uint16_t              depth;       /* frames in use */
    uint16_t              nns;         /* bindings in use */
    uint16_t              nattrs;      /* attrs in use */
    uint16_t              root_nns;    /* bindings made by the root tag */
    uint16_t              depth_room;  /* room for so many, in the tables at hand */
    uint16_t              ns_room;
    uint16_t              attrs_room;
    struct xe_xml_frame  *frames;      /* these three: the small tables, or those in `large` */
    struct xe_xml_binding *ns;
    struct xe_xml_mark   *attrs;
    struct xe_xml_large  *large;       /* owned; NULL as long as the small tables are enough */
    struct xe_xml_past   *past;        /* owned; NULL when nothing is read past */
    struct xe_xml_mark    name;        /* of the tag being read */
    struct xe_xml_binding stream_ns[XE_XML_STREAM_NS_MAX]; /* places are in `stream` */
    struct xe_xml_frame   small_frames[XE_XML_SMALL_DEPTH];
    struct xe_xml_binding small_ns[XE_XML_STREAM_NS_MAX];
    struct xe_xml_mark    small_attrs[XE_XML_SMALL_ATTRS];
};

/* Make a tokenizer ready.  The limits are copied; 0, or what is over a ceiling, is that ceiling. */
void xe_xml_init(struct xe_xml *x, const struct xe_xml_limits *limits);

/* RFC 6120 4.3.3: forget all but the limits and `comments`; a new stream header is expected. */
void xe_xml_restart(struct xe_xml *x);

/* Give back what was allocated, in the first place what remembers the header.  x may be restarted
 * afterwards. */
void xe_xml_free(struct xe_xml *x);

/* Read on.
 *
 *   buf, len  the bytes that are not consumed yet; buf may have moved since the last call, but its
 *             content must be what was left then, with more behind it
 *   used      bytes that the caller may drop from the front, set in all cases.  After XE_XML_MORE
 *             the rest is an unfinished element and has to be there again next time; how far it
 *             has been looked at is remembered, so that the total work is linear
 *   event     filled in for HEADER, ELEMENT and CLOSE
 *
 * White space between elements is consumed at once and counted.  After XE_XML_CLOSE everything is
 * consumed and ignored. */
enum xe_xml_result xe_xml_next(struct xe_xml *x, const char *buf, size_t len, size_t *used,
    struct xe_xml_event *event);

/* Value of an attribute without prefix, as received; at == NULL when there is none. */
struct xe_span xe_xml_attr(const struct xe_xml_event *event, const char *name);

/* Value of xml:lang of the root tag, as received; at == NULL when there is none. */
struct xe_span xe_xml_lang(const struct xe_xml_event *event);

/* xml:lang of the stream header; at == NULL when there is none. */
struct xe_span xe_xml_stream_lang(const struct xe_xml *x);

/* The namespace that the stream header binds to `prefix` ("" is the default, which is the content
 * namespace of RFC 6120 4.8.2); at == NULL when there is none. */
struct xe_span xe_xml_stream_ns(const struct xe_xml *x, const char *prefix);

/* Resolve the references of an attribute value as received, and normalise its white space as a
 * parser does (a line end or a tab is a space).  Returns the bytes written to out, or SIZE_MAX when
 * they do not fit. */
size_t xe_xml_unescape(struct xe_span value, char *out, size_t max);

/* ---- addresses (RFC 7622) ---- */

#define XE_DOMAIN_MAX 256   /* bytes that hold any domain in normal form and a NUL */

/* The parts of an address; local and resource have at == NULL when they are absent. */
struct xe_jid {
    struct xe_span local;
    struct xe_span domain;    /* as written, without a trailing dot */
    struct xe_span resource;
};

/* Split an address, references resolved already, at its first '/' and the first '@' before it.
 * False when a part is empty or longer than 1023 bytes or the localpart has a forbidden
 * character.  The domain is not looked into: that is what xe_jid_domain_normal is for. */
bool xe_jid_split(struct xe_span text, struct xe_jid *jid);

/* The form in which domains are compared, with a NUL behind it: A-labels (RFC 5890), ASCII in lower
 * case, no trailing dot; an IPv6 address in brackets.  False, and "", for what is no domain: empty
 * labels or labels over 63 bytes, more than 253 bytes in either form, ASCII other than letters,
 * digits, '-' inside a label and '_', "--" at a label's third byte but for "xn--", and what IDNA
 * 2008 disallows (RFC 5891 4) or servers take for another domain: sharp s, final sigma, joiners.
 * Without libidn2 (XMPPEDGE_IDN2), or memory, false for all that is not ASCII and for "xn--".  *len
 * is its length in bytes, without the NUL; 0 with false.  May be called from any thread. */
bool xe_jid_domain_normal(struct xe_span in, char out[XE_DOMAIN_MAX], size_t *len);

/* The same for the domain of an address in an attribute value as received, which may have
 * references; false too for value.at == NULL and for what is no address. */
bool xe_xml_domain(struct xe_span value, char out[XE_DOMAIN_MAX], size_t *len);

/* ---- the protocol table (RFC 6120, XEP-0198, XEP-0220, XEP-0288) ---- */

/* What an element is: the enum and its word.  Stanza kinds are those of jabber:server and
 * jabber:client. */
#define XE_KINDS(X) \
    X(XE_KIND_UNKNOWN,          "unknown") \
    X(XE_KIND_MESSAGE,          "message") \
    X(XE_KIND_PRESENCE,         "presence") \
    X(XE_KIND_IQ,               "iq") \
    X(XE_KIND_HEADER,           "stream-header") /* told by XE_XML_HEADER */ \
    X(XE_KIND_CLOSE,            "stream-end")    /* told by XE_XML_CLOSE */ \
    X(XE_KIND_FEATURES,         "features") \
    X(XE_KIND_STREAM_ERROR,     "stream-error") \
    X(XE_KIND_STARTTLS,         "starttls") \
    X(XE_KIND_PROCEED,          "proceed") \
    X(XE_KIND_TLS_FAILURE,      "tls-failure") \
    X(XE_KIND_AUTH,             "auth") \
    X(XE_KIND_CHALLENGE,        "challenge") \
    X(XE_KIND_RESPONSE,         "response") \
    X(XE_KIND_SUCCESS,          "success") \
    X(XE_KIND_SASL_FAILURE,     "sasl-failure") \
    X(XE_KIND_ABORT,            "abort") \
    X(XE_KIND_DB_RESULT,        "db-result")        /* the request: no type */ \
    X(XE_KIND_DB_RESULT_ANSWER, "db-result-answer") /* type is there */ \
    X(XE_KIND_DB_VERIFY,        "db-verify") \
    X(XE_KIND_DB_VERIFY_ANSWER, "db-verify-answer") \
    X(XE_KIND_SM_ENABLE,        "sm-enable") \
    X(XE_KIND_SM_ENABLED,       "sm-enabled") \
    X(XE_KIND_SM_R,             "sm-request") \
    X(XE_KIND_SM_A,             "sm-ack") \
    X(XE_KIND_SM_FAILED,        "sm-failed") \
    X(XE_KIND_SM_RESUME,        "sm-resume") \
    X(XE_KIND_SM_RESUMED,       "sm-resumed") \
    X(XE_KIND_TRUNK,            "trunk") \
    X(XE_KIND_BIDI,             "bidi") \
    X(XE_KIND_HANDSHAKE,        "handshake")        /* of a component, XEP-0114 */

enum xe_element_kind {
    XE_KINDS(XE_MEMBER)
    XE_KIND_COUNT
};

/* The kind of an element event.  Never XE_KIND_HEADER or XE_KIND_CLOSE. */
enum xe_element_kind xe_element_kind(const struct xe_xml_event *event);

/* Its word; static. */
const char *xe_element_kind_name(enum xe_element_kind kind);

/* How far a stream is, both directions taken together. */
#define XE_PHASES(X) \
    X(XE_PHASE_START,         "start")         /* nothing was said */ \
    X(XE_PHASE_HEADER,        "header")        /* the initiator's header; the receiver's is due */ \
    X(XE_PHASE_FEATURES,      "features")      /* both headers; features are due with 1.0 */ \
    X(XE_PHASE_OPEN,          "open")          /* features are known, nobody is authenticated */ \
    X(XE_PHASE_TLS_ASKED,     "tls-asked")     /* starttls */ \
    X(XE_PHASE_TLS,           "tls")           /* proceed: a handshake, then a new header */ \
    X(XE_PHASE_SASL_ASKED,    "sasl-asked")    /* auth */ \
    X(XE_PHASE_SASL_DONE,     "sasl-done")     /* success: a new header is due */ \
    X(XE_PHASE_AUTH_HEADER,   "auth-header")   /* which the receiver has to answer */ \
    X(XE_PHASE_AUTH_FEATURES, "auth-features") /* the last features are due */ \
    X(XE_PHASE_DIALBACK,      "dialback")      /* a key was sent, no pair is valid yet */ \
    X(XE_PHASE_AUTHENTICATED, "authenticated") /* stanzas may follow */ \
    X(XE_PHASE_CLOSING,       "closing")       /* one side has ended the stream */ \
    X(XE_PHASE_ENDED,         "ended")

enum xe_phase {
    XE_PHASES(XE_MEMBER)
    XE_PHASE_COUNT
};

/* Its word; static. */
const char *xe_phase_name(enum xe_phase phase);

/* RFC 6120 1.4: the initiating entity opened the connection. */
enum xe_side { XE_SIDE_INITIATOR, XE_SIDE_RECEIVER };

/* What an element does to a stream. */
struct xe_phase_step {
    enum xe_phase next;   /* the phase after it; unchanged when it is refused */
    enum xe_why   why;    /* XE_WHY_NONE when it may be said */
    const char   *rule;   /* the clause it breaks, "" for none; static */
};

/* `side` says something of `kind` in `phase`.  `valid` tells, of a dialback answer, whether its
 * type is 'valid'; it counts for nothing else.  Streams over direct TLS begin with
 * XE_PHASE_START too. */
struct xe_phase_step xe_phase_next(enum xe_phase phase, enum xe_side side,
    enum xe_element_kind kind, bool valid);

/* ---- the proxy, embedded ---- */

#ifndef XMPPEDGE_LANGUAGE_ONLY

/* One running instance.  Several may live in one process; each belongs to the thread that calls it.
 *
 * TLS handshakes are computed by threads of the instance (handshake-threads of <limits>; none with
 * 0 or -DXMPPEDGE_NO_THREADS).  They take no signals and call nothing of the caller's.  The first
 * handshake starts them, so the program may fork() and change its user after xe_open().  After a
 * later fork() one of the two processes may go on with the instance; when it is the child, the
 * handshakes that were being computed are lost and all else goes on. */
struct xmppedge;

/* Read the configuration, load the certificates, bind the addresses.  NULL when anything is wrong:
 * `message` (of `size` bytes, ends in NUL) then says what, one line an error, FILE:LINE first where
 * a line is to blame; "more is left out" ends what does not fit.  Nothing is served before
 * xe_step() is called.  Free with xe_close(). */
struct xmppedge *xe_open(const char *config_file, char *message, size_t size);

/* A stanza on its way from one side to the other, as the program around an instance sees it: good
 * until the function returns that is asked about it.  Of `event`, the stanza as received, there are
 * xe_xml_attr() for addresses, type and id, and `inner` for what is in it. */
struct xe_stanza {
    enum xe_element_kind kind;    /* XE_KIND_MESSAGE, XE_KIND_PRESENCE or XE_KIND_IQ */
    bool                 inward;  /* from a partner to us; else out to a partner */
    struct xe_span       from;    /* domain of the sender, in normal form; proven */
    struct xe_span       to;      /* domain of the recipient, likewise; not proven yet */
    const struct xe_xml_event *event;
};

/* What the program around an instance wants to have a word in.  All zero is the same as xe_open();
 * members that come later are at the end, and zero means that things are as they were.  The
 * functions are called in the thread of the instance, within xe_open_with() and the other
 * functions for it, and may call none of them for the same instance. */
struct xe_options {
    void *user;   /* handed to the functions; not looked at */

    /* Takes each line of the log; NULL: it goes to the file of <log>, or to standard error.  Where
     * this is set the file is not opened; level and format are those of <log>, and what <log>
     * leaves out does not come.
     *
     *   priority   as syslog(3) has it (RFC 5424 6.2.1): 3 error, 4 warning, 6 informational,
     *              7 debug
     *   line, len  the line, which ends in a newline, and its length with that; a NUL is behind
     *              it.  Good until the function returns
     *
     * A line has some 2 KiB at most and is UTF-8; what others have said is quoted in it, so that no
     * byte of theirs can end it or forge a field. */
    void (*log)(void *user, int priority, const char *line, size_t len);

    /* Says whether a stanza passes; NULL: all do that the configuration lets pass, at no cost.  It
     * is asked once for each that an instance takes, when all else is in order and before the
     * stanza waits for anything, so the time that it takes is everybody's.  A stanza that crosses
     * an edge and a gateway is shown to both.  Pings of this node are among them as they leave; the
     * answers to those, and errors that this node makes, are not.
     *
     * XE_WHY_NONE lets it pass.  Any other reason sends it back to its sender with the stanza error
     * of that reason, which the log (bounce), the counters and the status tell: XE_WHY_FILTERED, or
     * another of XE_WHY that has a stanza error; one that has none counts as XE_WHY_FILTERED.  A
     * result, an error and unavailable presence have no answer (RFC 6120 8.3.1, RFC 6121 4.5): when
     * they are refused, log and counters tell it here, and nobody there. */
    enum xe_why (*stanza)(void *user, const struct xe_stanza *stanza);
};

/* xe_open() with options, which are copied; NULL: without. */
struct xmppedge *xe_open_with(const char *config_file, const struct xe_options *options,
    char *message, size_t size);

/* The same of a configuration in memory: `text` of `len` bytes, not NULL, which is copied.
 * `config_file` is the name of a file in which it might stand, and which is not opened: relative
 * names of other files start at its directory, and messages say its name before a line.  So
 * "/etc/appliance/edge.xml" makes <include file="partners.xml"/> that file of /etc/appliance. */
struct xmppedge *xe_open_text(const char *text, size_t len, const char *config_file,
    const struct xe_options *options, char *message, size_t size);

/* One turn: wait at most `max_wait_ms` (-1: until something happens), do what is due.  False
 * when the instance has stopped, after xe_stop(), or when waiting itself failed. */
bool xe_step(struct xmppedge *e, int max_wait_ms);

/* For a program with a loop of its own: a descriptor that is readable when xe_step(e, 0) has
 * something to do (-1 where the system offers none: then call xe_step() regularly), and the
 * milliseconds after which it must be called in any case (-1: never). */
int xe_fd(const struct xmppedge *e);
int xe_timeout(struct xmppedge *e);

/* Read configuration, certificates and revocation lists again.  False when anything in them is
 * wrong: nothing has changed then, and `message` says what, in whole lines as far as `size` bytes
 * with the NUL hold them.  With true it may say what could not be opened anew, such as the file of
 * the log; it is "" otherwise.  `message` may be NULL.  A configuration from memory is the one that
 * was taken last: its files are read again. */
bool xe_reload(struct xmppedge *e, char *message, size_t size);

/* The same with another text in the place of the file or text before, whose name it keeps; `text`
 * is that of xe_open_text().  What xe_reload() says of false and `message` holds. */
bool xe_reload_text(struct xmppedge *e, const char *text, size_t len, char *message, size_t size);

/* Begin the orderly end: nothing new is accepted, what is under way is delivered or returned within
 * drain-time of <limits>.  Go on calling xe_step() until it returns false. */
void xe_stop(struct xmppedge *e);

/* Whether all is well, as GET /health says: it is running, a trunk is up, inner servers are
 * reached, our certificates are valid.  `message` (of `size` bytes, ends in NUL; may be NULL) gets
 * a line for each reason, and for what is only to be noted one that begins with "note:". */
bool xe_health(const struct xmppedge *e, char *message, size_t size);

/* What a monitor asks, as GET /metrics says: OpenMetrics 1.0, or when not `open` the text format
 * 0.0.4 of Prometheus.  It is told in one go: with 10,000 streams and as many pairs that takes some
 * ms.  *len is its length in bytes, without the NUL behind it.  The caller frees it with free();
 * NULL, and *len 0, when memory is out. */
char *xe_metrics(const struct xmppedge *e, bool open, size_t *len);

/* What xmppedge status --json prints: one object of JSON (RFC 8259) with all trunks, partners,
 * streams, pairs and certificates; its keys are told in [STATUS] of xmppedge.c, and are as stable
 * as the words of reasons.  Length, freeing and costs are those of xe_metrics(). */
char *xe_status(struct xmppedge *e, size_t *len);

/* Ask whether a domain answers, as xmppedge ping does: XEP-0199 through this instance, which goes
 * on serving, and all that stands between, in the name of a domain of the other side.  `domain` is
 * outside or ours, in any form that xe_jid_domain_normal() takes.
 *
 * `answered` is called once, in xe_step(), xe_close() or before xe_ping() returns: `why` is
 * XE_WHY_NONE when there was an answer, or the reason, and `words` what the command prints, lines
 * that end in newlines, with a NUL:
 *
 *   ok 12 ms
 *
 *   failed why=tcp-refused: the other server refused the connection
 *   hop=partner
 *   what to do: Check that the server runs and listens there, ...
 *
 * They are good until it returns; what others have said is escaped in them.  It may call xe_ping()
 * and what only tells (xe_health(), xe_metrics(), xe_status(), xe_is_running()), and nothing else
 * of this instance.  It takes at most attempt-time and dialback-time of <limits> and 5 s.
 *
 * False, and `answered` is never called: `domain` is none, 64 pings are under way, the instance has
 * stopped, or memory is out. */
bool xe_ping(struct xmppedge *e, const char *domain,
    void (*answered)(void *user, enum xe_why why, const char *words), void *user);

/* Whether it has not come to its end. */
bool xe_is_running(const struct xmppedge *e);

/* End at once and free everything.  NULL is allowed. */
void xe_close(struct xmppedge *e);

#endif /* XMPPEDGE_LANGUAGE_ONLY */

#ifdef __cplusplus
}
#endif

#endif /* XMPPEDGE_H */
