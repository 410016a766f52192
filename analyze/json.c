/* json.c -- the report as JSON Lines, for other programs
 *
 * What there is stands in one table: lines are written by it, and --json-fields prints it, so no
 * key is without its sentence.  What users may rely on stands in json_preface.
 */
#include "report.h"

#define JSON_SCHEMA 1
#define JSON_BLOCK  16384    /* bytes that are written at once */

/* ---- what there is ---- */

enum json_type {
    /* headings: what follows belongs to them */
    JSON_RECORD,     /* a line; its name is how it begins */
    JSON_OBJECT,     /* inside of others */
    /* values */
    JSON_NUMBER, JSON_BOOL, JSON_TEXT, JSON_SENTENCE, JSON_TIME, JSON_SECONDS, JSON_ADDRESS,
    JSON_ADDRESSES,
    /* `of` names a list of words */
    JSON_WORD, JSON_WORDS, JSON_COUNTS,
    /* `of` names an object */
    JSON_ONE, JSON_LIST
};

/* X(id, type, name, of, what it means).  A '?' behind `of`: or null. */
#define JSON_FIELDS(X) \
    X(CAPTURE, RECORD, "\"type\":\"capture\"", "", "one, the first line") \
    X(CAPTURE_SCHEMA, NUMBER, "schema", "", "version of this reference") \
    X(CAPTURE_PROGRAM, TEXT, "program", "", "xmppedge-analyze") \
    X(CAPTURE_VERSION, TEXT, "version", "", "of the program") \
    X(CAPTURE_FILES, LIST, "files", "file", "that were read") \
    X(CAPTURE_INTERFACES, LIST, "interfaces", "interface", \
        "that they name, or that were captured on") \
    X(CAPTURE_PACKETS, NUMBER, "packets", "", "analysed") \
    X(CAPTURE_CONNECTIONS, NUMBER, "connections", "", "TCP, of any kind") \
    X(CAPTURE_ATTEMPTS, NUMBER, "attempts", "", "connections of federation") \
    X(CAPTURE_ATTEMPTS_LISTED, NUMBER, "attempts_listed", "", "with all of their details") \
    X(CAPTURE_DNS_MESSAGES, NUMBER, "dns_messages", "", "questions and answers, of any kind") \
    X(CAPTURE_FIRST, TIME, "first", "", "of the first packet") \
    X(CAPTURE_LAST, TIME, "last", "", "of the last one") \
    X(CAPTURE_EXTERNAL, ADDRESSES, "external", "", "of the external interface of the edge") \
    X(CAPTURE_EXTERNAL_SOURCE, WORD, "external_source", "known", "where they come from") \
    X(CAPTURE_INTERNAL, ADDRESSES, "internal", "", "of its internal interface") \
    X(CAPTURE_INTERNAL_SOURCE, WORD, "internal_source", "known", "where they come from") \
    X(CAPTURE_ADDRESSES_WHY, SENTENCE, "addresses_why", "", "on what grounds they are inferred") \
    X(CAPTURE_EXTERNAL_PORT, NUMBER, "external_port", "", "of rows 1 and 2") \
    X(CAPTURE_INTERNAL_PORT, NUMBER, "internal_port", "", "of row 3") \
    X(CAPTURE_KEYS_GIVEN, BOOL, "keys_given", "", "a key log was") \
    X(CAPTURE_KEYS_USED, NUMBER, "keys_used", "", "secrets that opened something") \
    X(CAPTURE_KEYS_UNUSED, NUMBER, "keys_unused", "", "and that did not") \
    X(CAPTURE_KEYS_WOULD_HELP, BOOL, "keys_would_help", "", "something would be known with keys") \
    X(CAPTURE_LOGS, LIST, "logs", "log", "of nodes, beside the capture") \
    X(CAPTURE_DAMAGED, BOOL, "damaged", "", "a file is, or could not be opened") \
    X(CAPTURE_CONTENT_SHOWN, BOOL, "content_shown", "", "--show-content was given") \
    X(CAPTURE_REMARKS, LIST, "remarks", "finding", "about the capture itself") \
    X(LOG, OBJECT, "log", "", "") \
    X(LOG_NAME, TEXT, "name", "", "as it was named") \
    X(LOG_LINES, NUMBER, "lines", "", "of xmppedge") \
    X(LOG_ENTRIES, NUMBER, "entries", "", "of these, about a connection") \
    X(LOG_JOINED, NUMBER, "joined", "", "of these, to one of the capture") \
    X(LOG_DECIDED, NUMBER, "decided", "", "attempts of which they are the cause") \
    X(FILE, OBJECT, "file", "", "") \
    X(FILE_NAME, TEXT, "name", "", "as it was named") \
    X(FILE_FORMAT, WORD, "format", "format", "of the file") \
    X(FILE_PACKETS, NUMBER, "packets", "", "also those that a filter left out") \
    X(FILE_BYTES, NUMBER, "bytes", "", "captured") \
    X(FILE_FIRST, TIME, "first", "", "of its first packet") \
    X(FILE_LAST, TIME, "last", "", "of its last one") \
    X(FILE_CUT, BOOL, "cut", "", "its end is missing") \
    X(FILE_DAMAGED, BOOL, "damaged", "", "it could not be read to its end") \
    X(INTERFACE, OBJECT, "interface", "", "") \
    X(INTERFACE_FILE, NUMBER, "file", "", "place in files, from 0") \
    X(INTERFACE_NAME, TEXT, "name", "", "as the file or the system names it") \
    X(INTERFACE_DESCRIPTION, TEXT, "description", "", "the same") \
    X(INTERFACE_LINK_TYPE, NUMBER, "link_type", "", "LINKTYPE_ of pcap") \
    X(INTERFACE_SNAPLEN, NUMBER, "snaplen", "", "bytes kept of a packet; 0: all") \
    X(INTERFACE_PACKETS, NUMBER, "packets", "", "from it") \
    X(INTERFACE_DROPS, NUMBER, "drops", "", "packets that the capturing machine lost") \
    X(FINDING, OBJECT, "finding", "", "") \
    X(FINDING_REMARK, WORD, "remark", "remark", "what it is") \
    X(FINDING_TEXT, SENTENCE, "text", "", "the same for people") \
    X(FINDING_COUNT, NUMBER, "count", "", "how often") \
    X(FINDING_PACKET, NUMBER, "packet", "?", "the first one") \
    X(FINDING_DETAIL, TEXT, "detail", "", "of the first one") \
    X(FLOW, RECORD, "\"type\":\"flow\"", "", "one for each attempt that had a connection") \
    X(FLOW_ATTEMPT, NUMBER, "attempt", "?", \
        "from 1 in order of time, and those without events from 2001 on; joins lines") \
    X(FLOW_FLOW, NUMBER, "flow", "?", "number of its TCP connection; null: only DNS was seen") \
    X(FLOW_COMMUNITY_ID, TEXT, "community_id", "?", \
        "joins it with records of Zeek, Suricata and Arkime") \
    X(FLOW_FIRST, TIME, "first", "", "of its first packet") \
    X(FLOW_LAST, TIME, "last", "", "of its last one") \
    X(FLOW_DURATION, SECONDS, "duration", "", "between them") \
    X(FLOW_EVIDENCE, WORD, "evidence", "evidence", "how it is known who called") \
    X(FLOW_MIDSTREAM, BOOL, "midstream", "", "it is older than the capture") \
    X(FLOW_ESTABLISHED, BOOL, "established", "", "the TCP connection stood") \
    X(FLOW_END, WORD, "end", "end", "how it ended") \
    X(FLOW_INTERFACE, NUMBER, "interface", "", "place in interfaces, from 0") \
    X(FLOW_REMARKS, WORDS, "remarks", "remark", "about its packets") \
    X(FLOW_INITIATOR, ONE, "initiator", "endpoint", "who called") \
    X(FLOW_RESPONDER, ONE, "responder", "endpoint", "who was called") \
    X(FLOW_PROXY, ONE, "proxy", "proxy?", "header of a load balancer; null: there was none") \
    X(FLOW_TLS, ONE, "tls", "tls?", "null: there was none") \
    X(FLOW_STREAM, ONE, "stream", "stream", "what was said") \
    X(FLOW_STANZAS, ONE, "stanzas", "stanzas", "how many") \
    X(ENDPOINT, OBJECT, "endpoint", "", "") \
    X(ENDPOINT_ADDRESS, ADDRESS, "address", "", "IP address") \
    X(ENDPOINT_PORT, NUMBER, "port", "", "TCP port") \
    X(ENDPOINT_DOMAIN, TEXT, "domain", "", "as stream headers or DNS name it") \
    X(ENDPOINT_BYTES, NUMBER, "bytes", "", "sent, of content") \
    X(ENDPOINT_PACKETS, NUMBER, "packets", "", "sent") \
    X(ENDPOINT_RETRANSMITTED, NUMBER, "retransmitted", "", "packets sent again") \
    X(ENDPOINT_LOST, NUMBER, "lost", "", "bytes that the capture lacks") \
    X(ENDPOINT_FIRST, TIME, "first", "", "first packet sent") \
    X(ENDPOINT_LAST, TIME, "last", "", "last one") \
    X(PROXY, OBJECT, "proxy", "", "") \
    X(PROXY_VERSION, NUMBER, "version", "", "of the PROXY protocol: 1, 2") \
    X(PROXY_SOURCE, ADDRESS, "source", "", "who called the balancer; \"\": not told") \
    X(PROXY_SOURCE_PORT, NUMBER, "source_port", "", "of his") \
    X(PROXY_DESTINATION, ADDRESS, "destination", "", "where he called") \
    X(PROXY_DESTINATION_PORT, NUMBER, "destination_port", "", "of it") \
    X(TLS, OBJECT, "tls", "", "") \
    X(TLS_ESTABLISHED, BOOL, "established", "", "the handshake was completed") \
    X(TLS_VERSION, WORD, "version", "tls-version", "that was chosen") \
    X(TLS_CIPHER, TEXT, "cipher", "", "name at IANA") \
    X(TLS_SNI, TEXT, "sni", "", "the name that the ClientHello asks for") \
    X(TLS_ALPN, TEXT, "alpn", "", "what was chosen, if visible, else offered") \
    X(TLS_STARTTLS, BOOL, "starttls", "", "it began inside of a stream") \
    X(TLS_RESUMED, BOOL, "resumed", "", "a session went on, without certificates") \
    X(TLS_DECRYPTED, BOOL, "decrypted", "", "it was read with keys") \
    X(TLS_WHY_CLOSED, SENTENCE, "why_closed", "", "why it was not") \
    X(TLS_CLIENT_PROOF, WORD, "client_proof", "proof-of", \
        "did the caller prove itself by a certificate") \
    X(TLS_CLIENT_PROOF_HOW, SENTENCE, "client_proof_how", "", "what that rests on") \
    X(TLS_ALERT, TEXT, "alert", "", "its name in RFC 8446, \"\": none seen") \
    X(TLS_ALERT_FROM, WORD, "alert_from", "side?", "who sent it") \
    X(TLS_ALERT_PACKET, NUMBER, "alert_packet", "?", "where") \
    X(TLS_RECORDS_INITIATOR, NUMBER, "records_initiator", "", "with data of the caller") \
    X(TLS_RECORDS_RESPONDER, NUMBER, "records_responder", "", "with data of the called side") \
    X(TLS_SERVER_CERTIFICATE, ONE, "server_certificate", "certificate?", "null: none seen") \
    X(TLS_CLIENT_CERTIFICATE, ONE, "client_certificate", "certificate?", "null: none seen") \
    X(CERTIFICATE, OBJECT, "certificate", "", "") \
    X(CERTIFICATE_SUBJECT, TEXT, "subject", "", "distinguished name") \
    X(CERTIFICATE_ISSUER, TEXT, "issuer", "", "distinguished name") \
    X(CERTIFICATE_NAMES, TEXT, "names", "", "that it is for") \
    X(CERTIFICATE_NOT_BEFORE, TIME, "not_before", "", "valid from") \
    X(CERTIFICATE_NOT_AFTER, TIME, "not_after", "", "valid until") \
    X(CERTIFICATE_SELF_SIGNED, BOOL, "self_signed", "", "it vouches for itself") \
    X(CERTIFICATE_CHAIN_LENGTH, NUMBER, "chain_length", "", "certificates that were sent") \
    X(CERTIFICATE_SHA256, TEXT, "sha256", "", "fingerprint") \
    X(STREAM, OBJECT, "stream", "", "") \
    X(STREAM_FROM, TEXT, "from", "", "domain of the caller, by its header") \
    X(STREAM_TO, TEXT, "to", "", "called domain") \
    X(STREAM_ID, TEXT, "id", "", "of the called side") \
    X(STREAM_FEATURES, TEXT, "features", "", "latest that were offered") \
    X(STREAM_BIDI, BOOL, "bidi", "", "XEP-0288 was agreed") \
    X(STREAM_STREAM_MANAGEMENT, BOOL, "stream_management", "", "XEP-0198 was agreed") \
    X(STREAM_TRUNK, BOOL, "trunk", "", "it is one between edge and gateway") \
    X(STREAM_ERROR, TEXT, "error", "", "condition of a stream error") \
    X(STREAM_ERROR_TEXT, TEXT, "error_text", "", "its text") \
    X(STREAM_ERROR_FROM, WORD, "error_from", "side?", "who sent it") \
    X(STREAM_ERROR_PACKET, NUMBER, "error_packet", "?", "where") \
    X(STANZAS, OBJECT, "stanzas", "", "") \
    X(STANZAS_INITIATOR, ONE, "initiator", "sent", "by the caller") \
    X(STANZAS_RESPONDER, ONE, "responder", "sent", "by the called side") \
    X(SENT, OBJECT, "sent", "", "") \
    X(SENT_MESSAGE, NUMBER, "message", "", "messages") \
    X(SENT_PRESENCE, NUMBER, "presence", "", "presence") \
    X(SENT_IQ, NUMBER, "iq", "", "questions and answers") \
    X(SENT_ERRORS, NUMBER, "errors", "", "those of type error, counted above too") \
    X(EVENT, RECORD, "\"type\":\"event\"", "", "what happened in an attempt, in order") \
    X(EVENT_ATTEMPT, NUMBER, "attempt", "?", \
        "from 1 in order of time, and those without events from 2001 on; joins lines") \
    X(EVENT_FLOW, NUMBER, "flow", "?", "number of its TCP connection; null: only DNS was seen") \
    X(EVENT_COMMUNITY_ID, TEXT, "community_id", "?", \
        "joins it with records of Zeek, Suricata and Arkime") \
    X(EVENT_PACKET, NUMBER, "packet", "?", "where") \
    X(EVENT_TIME, TIME, "time", "", "when") \
    X(EVENT_OFFSET, SECONDS, "offset", "", "since the first packet of the attempt") \
    X(EVENT_EVENT, WORD, "event", "event", "what") \
    X(EVENT_ELEMENT, WORD, "element", "element", "of event element and stanza") \
    X(EVENT_SIDE, WORD, "side", "side", "who sent it") \
    X(EVENT_COVER, WORD, "cover", "cover", "how it was protected") \
    X(EVENT_FROM, TEXT, "from", "", "user and resource are *** without --show-content") \
    X(EVENT_TO, TEXT, "to", "", "the same") \
    X(EVENT_WHAT, TEXT, "what", "", "type, condition, mechanism, names ...") \
    X(EVENT_TEXT, TEXT, "text", "", "words of the other side") \
    X(DNS, RECORD, "\"type\":\"event\",\"event\":\"dns-question\"", "", \
        "one for each question that was asked") \
    X(DNS_ATTEMPT, NUMBER, "attempt", "?", "null") \
    X(DNS_FLOW, NUMBER, "flow", "?", "null") \
    X(DNS_COMMUNITY_ID, TEXT, "community_id", "?", "null") \
    X(DNS_PACKET, NUMBER, "packet", "?", "the question") \
    X(DNS_TIME, TIME, "time", "", "of the question") \
    X(DNS_ANSWER_PACKET, NUMBER, "answer_packet", "?", "the answer") \
    X(DNS_ANSWER, TIME, "answer", "", "of the answer") \
    X(DNS_CLIENT, ADDRESS, "client", "", "who asked") \
    X(DNS_SERVER, ADDRESS, "server", "", "who was asked") \
    X(DNS_RECORD, WORD, "record", "dns-type", "that was asked for") \
    X(DNS_NAME, TEXT, "name", "", "the same") \
    X(DNS_DOMAIN, TEXT, "domain", "", "of XMPP, for which it was asked") \
    X(DNS_SERVICE, TEXT, "service", "", "xmpp-server, xmpps-server; of SRV") \
    X(DNS_RESULT, WORD, "result", "dns-result", "what came of it") \
    X(DNS_ALIAS, TEXT, "alias", "", "where a CNAME leads") \
    X(DNS_ASKED, NUMBER, "asked", "", "how often") \
    X(DNS_ANSWERED, NUMBER, "answered", "", "how often") \
    X(DNS_TARGETS, LIST, "targets", "target", "what was answered") \
    X(TARGET, OBJECT, "target", "", "") \
    X(TARGET_HOST, TEXT, "host", "", "of SRV; \".\": there is no service") \
    X(TARGET_PORT, NUMBER, "port", "", "of SRV") \
    X(TARGET_PRIORITY, NUMBER, "priority", "", "of SRV") \
    X(TARGET_WEIGHT, NUMBER, "weight", "", "of SRV") \
    X(TARGET_ADDRESS, ADDRESS, "address", "", "of A and AAAA") \
    X(ATTEMPT, RECORD, "\"type\":\"verdict\",\"about\":\"attempt\"", "", \
        "what is thought of an attempt: one for each") \
    X(ATTEMPT_ATTEMPT, NUMBER, "attempt", "?", \
        "from 1 in order of time, and those without events from 2001 on; joins lines") \
    X(ATTEMPT_FLOW, NUMBER, "flow", "?", "number of its TCP connection; null: only DNS was seen") \
    X(ATTEMPT_COMMUNITY_ID, TEXT, "community_id", "?", \
        "joins it with records of Zeek, Suricata and Arkime") \
    X(ATTEMPT_ROW, WORD, "row", "row", "of the port table") \
    X(ATTEMPT_DIRECTION, WORD, "direction", "direction", "seen from the edge") \
    X(ATTEMPT_OUTCOME, WORD, "outcome", "outcome", "how it ended") \
    X(ATTEMPT_REACHED, WORD, "reached", "reach", "how far it got") \
    X(ATTEMPT_REACHED_INFERRED, BOOL, "reached_inferred", "", "from lengths, without keys") \
    X(ATTEMPT_OLDER, BOOL, "older", "", "in use since before the capture began") \
    X(ATTEMPT_CAUSE, WORD, "cause", "cause", "why it failed, or why that is not known") \
    X(ATTEMPT_CAUSE_INFERRED, BOOL, "cause_inferred", "", "from lengths, without keys") \
    X(ATTEMPT_SETBACK, WORD, "setback", "cause", \
        "a step that failed, and another way was found; or the block that ended its work") \
    X(ATTEMPT_FAULT, WORD, "fault", "side?", "who has to change something") \
    X(ATTEMPT_CLOSER, WORD, "closer", "side?", "who ended it first") \
    X(ATTEMPT_STORY, SENTENCE, "story", "", "what happened") \
    X(ATTEMPT_WORDS, TEXT, "words", "", "what the other side said") \
    X(ATTEMPT_SAID_BY, WORD, "said_by", "side?", "who said it") \
    X(ATTEMPT_REMEDY, SENTENCE, "remedy", "", "what our administrator can do") \
    X(ATTEMPT_FORWARD, SENTENCE, "forward", "", "what the partner is told") \
    X(ATTEMPT_METHOD, WORD, "method", "method", "by which the caller proved itself") \
    X(ATTEMPT_KEYS_WOULD_HELP, BOOL, "keys_would_help", "", "more would be known with keys") \
    X(ATTEMPT_VERIFY_ONLY, BOOL, "verify_only", "", "only a dialback question was asked") \
    X(ATTEMPT_DOMAINS_BY_DNS, BOOL, "domains_by_dns", "", \
        "the called domain is named by DNS or SNI") \
    X(ATTEMPT_JOINED, NUMBER, "joined", "?", "flow of the other half of a dialback") \
    X(ATTEMPT_VIOLATIONS, WORDS, "violations", "violation", "of the port table") \
    X(ATTEMPT_SUSPECTED, WORDS, "suspected", "violation", "if the inferred addresses are right") \
    X(ATTEMPT_PROOFS, LIST, "proofs", "proof", "where in the capture it can be seen") \
    X(ATTEMPT_CAUSE_FROM_LOG, BOOL, "cause_from_log", "", "a log says it, not the capture") \
    X(ATTEMPT_LOG_INITIATOR, ONE, "log_initiator", "told?", "by the log of the caller") \
    X(ATTEMPT_LOG_RESPONDER, ONE, "log_responder", "told?", "by that of the called side") \
    X(ATTEMPT_AGAINST_LOG, SENTENCE, "against_log", "", "what the capture says against it") \
    X(ATTEMPT_TWIN, ONE, "twin", "twin?", "the same connection with other addresses") \
    X(ATTEMPT_TRUNK_FLOW, NUMBER, "trunk_flow", "?", \
        "flow by which its stanzas go, as a log says") \
    X(TWIN, OBJECT, "twin", "", "") \
    X(TWIN_FLOW, NUMBER, "flow", "", "its number") \
    X(TWIN_WHY, SENTENCE, "why", "", "by what it is the same") \
    X(TWIN_PACKET, NUMBER, "packet", "?", "the first one") \
    X(TWIN_FIRST, TIME, "first", "", "when") \
    X(TWIN_CALLER, ADDRESS, "caller", "", "address of the caller there") \
    X(TWIN_CALLER_PORT, NUMBER, "caller_port", "", "and its port") \
    X(TWIN_CALLED, ADDRESS, "called", "", "address of the called side there") \
    X(TWIN_CALLED_PORT, NUMBER, "called_port", "", "and its port") \
    X(TOLD, OBJECT, "told", "", "") \
    X(TOLD_FILE, TEXT, "file", "", "the log, as it was named") \
    X(TOLD_TIME, TIME, "time", "", "by the clock of the machine that wrote it") \
    X(TOLD_EVENT, TEXT, "event", "", "of the line") \
    X(TOLD_STATE, TEXT, "state", "", "in which it ended") \
    X(TOLD_HOP, TEXT, "hop", "", "where") \
    X(TOLD_WHY, TEXT, "why", "", "a reason of xmppedge") \
    X(TOLD_CERTIFICATE, TEXT, "certificate", "", "what was wrong with that of the peer, or good") \
    X(TOLD_DETAIL, TEXT, "detail", "", "of the line") \
    X(TOLD_BY_PEER_ONLY, BOOL, "by_peer_only", "", \
        "its own address is another one in the capture") \
    X(PROOF, OBJECT, "proof", "", "") \
    X(PROOF_PACKET, NUMBER, "packet", "?", "its number") \
    X(PROOF_TIME, TIME, "time", "", "its time") \
    X(PROOF_WHAT, TEXT, "what", "", "what is seen there") \
    X(ROW, RECORD, "\"type\":\"verdict\",\"about\":\"row\"", "", \
        "one for each row of the port table, and for all else") \
    X(ROW_ROW, WORD, "row", "row", "which") \
    X(ROW_NUMBER, NUMBER, "number", "?", "1 to 3; null: none of them") \
    X(ROW_SERVICE, TEXT, "service", "", "first column of the port table") \
    X(ROW_SOURCE, TEXT, "source", "", "second") \
    X(ROW_DESTINATION, TEXT, "destination", "", "third") \
    X(ROW_OBSERVED, BOOL, "observed", "", "there were attempts") \
    X(ROW_STATE, WORD, "state", "state", "does it work") \
    X(ROW_RULING, WORD, "ruling", "ruling", "does it keep to the port table") \
    X(ROW_WHY, SENTENCE, "why", "", "why that is thought") \
    X(ROW_ATTEMPTED, NUMBER, "attempted", "", "connections that were asked for") \
    X(ROW_ESTABLISHED, NUMBER, "established", "", "the TCP connection stood") \
    X(ROW_WORKING, NUMBER, "working", "", "authenticated") \
    X(ROW_OLDER, NUMBER, "older", "", "of them in use since before the capture began") \
    X(ROW_FAILED, NUMBER, "failed", "", "also after they had worked") \
    X(ROW_UNKNOWN, NUMBER, "unknown", "", "not known how they ended") \
    X(ROW_STANZAS, NUMBER, "stanzas", "", "seen on it") \
    X(ROW_MUTUAL_TLS_PROVEN, NUMBER, "mutual_tls_proven", "", \
        "row 3: working, with a certificate that was seen") \
    X(ROW_MUTUAL_TLS_INFERRED, NUMBER, "mutual_tls_inferred", "", "the same, by lengths") \
    X(ROW_FAILED_BY, COUNTS, "failed_by", "cause", "how many of which") \
    X(ROW_VIOLATIONS, COUNTS, "violations", "violation", "how many of which") \
    X(VIOLATION, RECORD, "\"type\":\"verdict\",\"about\":\"violation\"", "", \
        "one for each place where a rule was broken") \
    X(VIOLATION_KIND, WORD, "kind", "violation", "which rule") \
    X(VIOLATION_TEXT, SENTENCE, "text", "", "which rule") \
    X(VIOLATION_REMEDY, SENTENCE, "remedy", "", "why it matters, and what to do") \
    X(VIOLATION_ROW, WORD, "row", "row", "of the port table") \
    X(VIOLATION_SUSPECTED, BOOL, "suspected", "", "if the inferred addresses are right") \
    X(VIOLATION_FLOW, NUMBER, "flow", "?", "number of the TCP connection") \
    X(VIOLATION_PACKET, NUMBER, "packet", "?", "where") \
    X(VIOLATION_TIME, TIME, "time", "", "when") \
    X(VIOLATION_SOURCE, ADDRESS, "source", "", "who called") \
    X(VIOLATION_DESTINATION, ADDRESS, "destination", "", "who was called") \
    X(VIOLATION_PORT, NUMBER, "port", "", "that was called") \
    X(VIOLATION_DETAIL, TEXT, "detail", "", "more about it") \
    X(PARTNER, RECORD, "\"type\":\"verdict\",\"about\":\"partner\"", "", \
        "one for each pair of domains") \
    X(PARTNER_OURS, TEXT, "ours", "", "domain, or address; \"\": the edge; row 3: who calls") \
    X(PARTNER_THEIRS, TEXT, "theirs", "", "domain, or address when none is known") \
    X(PARTNER_INNER, BOOL, "inner", "", "row 3: who calls from inside, and whom") \
    X(PARTNER_DIRECTION_KNOWN, BOOL, "direction_known", "", \
        "false: ours is the caller, and only out is used") \
    X(PARTNER_IN, ONE, "in", "way", "they called") \
    X(PARTNER_OUT, ONE, "out", "way", "we called") \
    X(WAY, OBJECT, "way", "", "") \
    X(WAY_ATTEMPTS, NUMBER, "attempts", "", "all") \
    X(WAY_WORKED, NUMBER, "worked", "", "authenticated") \
    X(WAY_FAILED, NUMBER, "failed", "", "failed") \
    X(WAY_UNKNOWN, NUMBER, "unknown", "", "not known how they ended") \
    X(WAY_VERIFIES, NUMBER, "verifies", "", "only a dialback question was asked") \
    X(WAY_REACHED, WORD, "reached", "reach", "of the best attempt") \
    X(WAY_REACHED_INFERRED, BOOL, "reached_inferred", "", "from lengths, without keys") \
    X(WAY_METHOD, WORD, "method", "method", "of the best attempt") \
    X(WAY_TLS_VERSION, WORD, "tls_version", "tls-version", "of the best attempt") \
    X(WAY_CIPHER, TEXT, "cipher", "", "of the best attempt") \
    X(WAY_CLIENT_CERTIFICATE, BOOL, "client_certificate", "", \
        "the caller proved itself with one") \
    X(WAY_MESSAGE, NUMBER, "message", "", "on connections of this way, in both directions") \
    X(WAY_PRESENCE, NUMBER, "presence", "", "the same") \
    X(WAY_IQ, NUMBER, "iq", "", "the same") \
    X(WAY_STANZA_ERRORS, NUMBER, "stanza_errors", "", "the same") \
    X(WAY_LAST_CAUSE, WORD, "last_cause", "cause", "of the last failure") \
    X(WAY_LAST_WORDS, TEXT, "last_words", "", "of the last failure") \
    X(WAY_LAST_FAILURE, TIME, "last_failure", "", "when") \
    X(WAY_FIRST, TIME, "first", "", "first packet") \
    X(WAY_LAST, TIME, "last", "", "last packet") \
    X(CAUSE, RECORD, "\"type\":\"verdict\",\"about\":\"cause\"", "", \
        "one for each cause between the same domains") \
    X(CAUSE_KIND, WORD, "kind", "group", "did the attempts fail") \
    X(CAUSE_CAUSE, WORD, "cause", "cause", "which") \
    X(CAUSE_WHAT, SENTENCE, "what", "", "what it means") \
    X(CAUSE_COUNT, NUMBER, "count", "", "attempts") \
    X(CAUSE_ROW, WORD, "row", "row", "of the port table") \
    X(CAUSE_DIRECTION, WORD, "direction", "direction", "seen from the edge") \
    X(CAUSE_OURS, TEXT, "ours", "", "domain") \
    X(CAUSE_PARTNER, TEXT, "partner", "", "domain") \
    X(CAUSE_FIRST, TIME, "first", "", "when the first one began") \
    X(CAUSE_LAST, TIME, "last", "", "when the last one began") \
    X(CAUSE_FIRST_ATTEMPT, NUMBER, "first_attempt", "", "its number") \
    X(CAUSE_STORY, SENTENCE, "story", "", "of the first one") \
    X(CAUSE_WORDS, TEXT, "words", "", "that were said to the first one") \
    X(CAUSE_REMEDY, SENTENCE, "remedy", "", "what our administrator can do") \
    X(CAUSE_FORWARD, SENTENCE, "forward", "", "complete, to be sent to the partner") \
    X(SUMMARY, RECORD, "\"type\":\"verdict\",\"about\":\"summary\"", "", "one, the last line") \
    X(SUMMARY_WORKED, NUMBER, "worked", "", "attempts") \
    X(SUMMARY_FAILED, NUMBER, "failed", "", "attempts") \
    X(SUMMARY_UNKNOWN, NUMBER, "unknown", "", "attempts") \
    X(SUMMARY_EXIT_STATUS, NUMBER, "exit_status", "", "of this run") \
    X(SUMMARY_MISSING_ROWS, TEXT, "missing_rows", "", "required, and not observed") \
    X(SUMMARY_RESULT, SENTENCE, "result", "", "all in all") \
    X(SUMMARY_ATTEMPTS_LEFT_OUT, NUMBER, "attempts_left_out", "", "without details") \
    X(SUMMARY_PARTNERS_LEFT_OUT, NUMBER, "partners_left_out", "", \
        "attempts between domains that are not listed") \
    X(SUMMARY_DNS_LEFT_OUT, NUMBER, "dns_left_out", "", "questions that are not listed") \
    X(SUMMARY_FAILED_BY, COUNTS, "failed_by", "cause", "how many of which")

enum json_id {
#define JSON_ID(id, type, name, of, means) JSON_##id,
    JSON_FIELDS(JSON_ID)
#undef JSON_ID
    JSON_COUNT
};

struct json_field {
    enum json_type type;
    size_t         len;      /* of the name */
    const char    *name, *of, *means;
};

static const struct json_field json_fields[JSON_COUNT] = {
#define JSON_ROW_OF(id, type, name, of, means) { JSON_##type, sizeof name - 1, name, of, means },
    JSON_FIELDS(JSON_ROW_OF)
#undef JSON_ROW_OF
};

static const char *const json_sides[] = { "initiator", "responder" };
static const char *const json_formats[] = { "pcap", "pcapng", "live" };
static const char *const json_methods[] = { "EXTERNAL", "dialback", "verify", "trunk",
    "EXTERNAL or dialback" };
static const char *const json_group_kinds[] = { "failed", "setback" };

/* X(list, how many, the one with number i): those of an enum, so that none is forgotten. */
#define JSON_WORD_LISTS(X) \
    X("row", ROW_COUNT, row_word((enum row)i)) \
    X("direction", DIRECTION_OUT + 1, direction_word((enum direction)i)) \
    X("outcome", OUTCOME_UNKNOWN + 1, outcome_word((enum outcome)i)) \
    X("reach", REACH_STANZAS + 1, reach_word((enum reach)i)) \
    X("cause", CAUSE_COUNT - 1, cause_row((enum cause)(i + 1))->word) \
    X("group", GROUP_SETBACK + 1, json_group_kinds[i]) \
    X("method", sizeof json_methods / sizeof *json_methods, json_methods[i]) \
    X("side", sizeof json_sides / sizeof *json_sides, json_sides[i]) \
    X("state", ROW_STATE_UNCLEAR + 1, row_state_word((enum row_state)i)) \
    X("ruling", RULING_CANNOT_TELL + 1, ruling_word((enum ruling)i)) \
    X("violation", VIOLATION_COUNT, violation_word((enum violation_kind)i)) \
    X("event", EVENT_PROXY + 1, event_word((enum event_kind)i)) \
    X("element", XE_KIND_COUNT, xe_element_kind_name((enum xe_element_kind)i)) \
    X("cover", COVER_CLOSED + 1, cover_word((enum cover)i)) \
    X("evidence", EVIDENCE_NONE + 1, flow_evidence_word((enum evidence)i)) \
    X("end", FLOW_EVICTED + 1, flow_end_word((enum flow_end)i)) \
    X("tls-version", 5, tls_version_name(0x300 + i)) \
    X("proof-of", PROOF_INFERRED_NONE + 1, tls_proof_word((enum tls_client_proof)i)) \
    X("dns-type", DNS_AAAA + 1, dns_type_word((enum dns_type)i)) \
    X("dns-result", DNS_CUT + 1, dns_result_word((enum dns_result)i)) \
    X("known", KNOWN_INFERRED + 1, known_word((enum known)i)) \
    X("format", sizeof json_formats / sizeof *json_formats, json_formats[i]) \
    X("remark", REMARK_COUNT, remark_word((enum remark)i))

static const char *const json_lists[] = {
#define JSON_LIST_NAME(name, n, word) name,
    JSON_WORD_LISTS(JSON_LIST_NAME)
#undef JSON_LIST_NAME
};

/* NULL: there is no more. */
static const char *
json_word_at(size_t list, unsigned i)
{
#define JSON_LIST_WORD(name, n, word) \
    if (list-- == 0) \
        return i < n ? word : NULL;
    JSON_WORD_LISTS(JSON_LIST_WORD)
#undef JSON_LIST_WORD
    return NULL;
}

/* ---- the reference ---- */

#define JSON_WIDTH 80    /* columns */
#define JSON_TYPE  23    /* where the type begins */
#define JSON_MEANS 38    /* where the meaning does */

static const char json_preface[] =
    "What --json writes: one object a line (JSON Lines, RFC 8259), UTF-8.  Every line\n"
    "has all fields of its kind.\n"
    "\n"
    "Stable while the schema is the same: fields, types, meanings and words.  New\n"
    "fields and words may come: leave alone what you do not know.  Sentences are for\n"
    "people, and their wording changes.\n"
    "\n"
    "TYPES\n"
    "  number      whole, not negative\n"
    "  seconds     with nine digits behind the point\n"
    "  bool        true or false\n"
    "  time        ISO 8601, UTC, nanoseconds; beside it NAME_epoch, the same in\n"
    "              seconds since 1970; both are null when it is not known\n"
    "  address     IPv4 or IPv6, \"\": none\n"
    "  text        names and words of others, printable; any other byte is written\n"
    "              as \\xNN; \"\": none\n"
    "  sentence    English\n"
    "  NAME        an object, or a word of the list of this name; \"\": none applies\n"
    "  NAME?       the same, or null\n"
    "  [NAME]      a list of them\n"
    "  {NAME}      numbers by words of this list, without those that are 0\n";

static size_t
json_wrap(FILE *to, size_t column, size_t indent, const char *s)
{
    return text_wrap(to, column, indent, JSON_WIDTH, s);
}

static void
json_explain(FILE *to, const struct json_field *f)
{
    static const char *const types[] = { [JSON_NUMBER] = "number", [JSON_BOOL] = "bool",
        [JSON_TEXT] = "text", [JSON_SENTENCE] = "sentence", [JSON_TIME] = "time",
        [JSON_SECONDS] = "seconds", [JSON_ADDRESS] = "address", [JSON_ADDRESSES] = "address" };
    bool list = f->type == JSON_ADDRESSES || f->type == JSON_WORDS || f->type == JSON_LIST;
    char type[48];
    size_t column;
    if (f->type == JSON_RECORD || f->type == JSON_OBJECT) {
        fprintf(to, f->type == JSON_RECORD ? "\nLINE {%s}\n" : "\nOBJECT %s\n", f->name);
        if (f->type == JSON_RECORD)
            fprintf(to, "  %s\n", f->means);
        return;
    }
    snprintf(type, sizeof type, "%s%s%s%s", list ? "[" : f->type == JSON_COUNTS ? "{" : "",
        f->type < JSON_WORD ? types[f->type] : "", f->of,
        list ? "]" : f->type == JSON_COUNTS ? "}" : "");
    column = json_wrap(to, json_wrap(to, 0, 2, f->name), JSON_TYPE, type);
    json_wrap(to, column, JSON_MEANS, f->means);
    fputc('\n', to);
}

int
report_json_fields(FILE *to)
{
    struct text words = { NULL, 0, 0 };
    const char *word;
    size_t i;
    unsigned k;
    fprintf(to, "schema %d\n\n%s", JSON_SCHEMA, json_preface);
    for (i = 0; i < JSON_COUNT; i++)
        json_explain(to, &json_fields[i]);
    fputs("\nWORDS\n", to);
    for (i = 0; i < sizeof json_lists / sizeof *json_lists; i++) {
        text_clear(&words);
        for (k = 0; (word = json_word_at(i, k)) != NULL; k++)
            TEXT(&words, k == 0 ? "" : ", ", word);
        json_wrap(to, json_wrap(to, 0, 2, json_lists[i]), JSON_TYPE, words.at);
        fputc('\n', to);
    }
    text_free(&words);
    return fflush(to) != 0 || ferror(to) != 0 ? -1 : 0;
}

/* ---- writing ---- */

struct json {
    FILE   *to;
    bool    comma;           /* something stands before in this object or list */
    int64_t second;          /* of `stamp`; -1: none yet */
    char    stamp[STAMP_MAX];
    char    community[COMMUNITY_MAX];   /* of the attempt that is written */
    size_t  len;
    char    block[JSON_BLOCK];
};

static void
json_flush(struct json *j)
{
    fwrite(j->block, 1, j->len, j->to);
    j->len = 0;
}

static void
json_put(struct json *j, const char *at, size_t len)
{
    if (len > sizeof j->block - j->len)
        json_flush(j);
    if (len > sizeof j->block) {
        fwrite(at, 1, len, j->to);
        return;
    }
    memcpy(j->block + j->len, at, len);
    j->len += len;
}

static void
json_puts(struct json *j, const char *s)
{
    json_put(j, s, strlen(s));
}

static void
json_put_number(struct json *j, uint64_t n)
{
    char digits[NUMBER_MAX];
    size_t i = sizeof digits;
    do
        digits[--i] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    json_put(j, digits + i, sizeof digits - i);
}

/* Nine digits. */
static void
json_put_fraction(struct json *j, uint64_t ns)
{
    char digits[10] = ".";
    int i;
    for (i = 9; i > 0; i--, ns /= 10)
        digits[i] = (char)('0' + ns % 10);
    json_put(j, digits, sizeof digits);
}

/* As it is, in JSON: nearly all. */
static bool
json_is_simple(char c)
{
    return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

/* RFC 8259 7.  Valid UTF-8 whatever comes in; characters that cannot be seen are escaped. */
static void
json_quoted(struct json *j, const char *s)
{
    const char *end = s + strlen(s);
    uint32_t c = 0;
    char odd[16];
    size_t run;
    int n;
    json_put(j, "\"", 1);
    while (s < end) {
        for (run = 0; json_is_simple(s[run]); run++)
            ;
        json_put(j, s, run);
        s += run;
        if (s == end || (n = xe_utf8(s, end, &c)) == 0)   /* 0: it was cut, not damaged */
            break;
        odd[0] = '\0';
        if (n < 0)
            snprintf(odd, sizeof odd, "\\\\x%02x", (unsigned)(unsigned char)*s);
        else if (c == '"' || c == '\\')
            snprintf(odd, sizeof odd, "\\%c", (char)c);
        else if (xe_is_visible(c))
            json_put(j, s, (size_t)n);
        else if (c < 0x10000)
            snprintf(odd, sizeof odd, "\\u%04lx", (unsigned long)c);
        else
            snprintf(odd, sizeof odd, "\\u%04lx\\u%04lx", 0xd7c0 + ((unsigned long)c >> 10),
                0xdc00 | ((unsigned long)c & 0x3ff));
        json_puts(j, odd);
        s += n > 0 ? n : 1;
    }
    json_put(j, "\"", 1);
}

static void
json_comma(struct json *j)
{
    if (j->comma)
        json_put(j, ",", 1);
    j->comma = true;
}

/* The key that stands in the table, and what is added to it. */
static void
json_key_and(struct json *j, enum json_id id, const char *more)
{
    json_comma(j);
    json_put(j, "\"", 1);
    json_put(j, json_fields[id].name, json_fields[id].len);
    json_puts(j, more);
}

static void
json_key(struct json *j, enum json_id id)
{
    json_key_and(j, id, "\":");
}

static void
json_bracket(struct json *j, char bracket)
{
    json_put(j, &bracket, 1);
    j->comma = bracket == '}' || bracket == ']';
}

static void
json_open(struct json *j, enum json_id id, char bracket)
{
    json_key(j, id);
    json_bracket(j, bracket);
}

/* An object in a list. */
static void
json_item(struct json *j)
{
    json_comma(j);
    json_bracket(j, '{');
}

/* A text in a list. */
static void
json_word(struct json *j, const char *s)
{
    json_comma(j);
    json_quoted(j, s);
}

/* One of those that are counted by words. */
static void
json_count(struct json *j, const char *word, uint64_t n)
{
    if (n == 0)
        return;
    json_word(j, word);
    json_put(j, ":", 1);
    json_put_number(j, n);
}

static void
json_text(struct json *j, enum json_id id, const char *s)
{
    json_key(j, id);
    json_quoted(j, s);
}

static void
json_number(struct json *j, enum json_id id, uint64_t n)
{
    json_key(j, id);
    json_put_number(j, n);
}

static void
json_null(struct json *j, enum json_id id)
{
    json_key(j, id);
    json_put(j, "null", 4);
}

/* 0 stands for "none". */
static void
json_number_or_null(struct json *j, enum json_id id, uint64_t n)
{
    if (n == 0)
        json_null(j, id);
    else
        json_number(j, id, n);
}

static void
json_bool(struct json *j, enum json_id id, bool yes)
{
    json_key(j, id);
    json_puts(j, yes ? "true" : "false");
}

/* Both forms of a time; "": it is not known.  stamp: up to the second. */
static void
json_moment(struct json *j, enum json_id id, const char *stamp, int64_t seconds, int64_t ns)
{
    json_key(j, id);
    if (stamp[0] != '\0') {
        json_put(j, "\"", 1);
        json_put(j, stamp, strcspn(stamp, "."));
        json_put_fraction(j, (uint64_t)ns);
        json_put(j, "Z\"", 2);
    } else {
        json_put(j, "null", 4);
    }
    json_key_and(j, id, "_epoch\":");
    if (stamp[0] == '\0') {
        json_put(j, "null", 4);
        return;
    }
    json_puts(j, seconds < 0 ? "-" : "");
    json_put_number(j, seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds);
    json_put_fraction(j, (uint64_t)ns);
}

/* Many are of the same second. */
static void
json_time(struct json *j, enum json_id id, int64_t ns)
{
    int64_t second = ns / SECOND;
    if (ns > 0 && second != j->second) {
        stamp_text(ns, STAMP_ISO, j->stamp);
        j->second = second;
    }
    json_moment(j, id, ns <= 0 ? "" : j->stamp, second, ns % SECOND);
}

static void
json_time_seconds(struct json *j, enum json_id id, int64_t seconds)
{
    char stamp[STAMP_MAX];
    json_moment(j, id, stamp_seconds(seconds, stamp), seconds, 0);
}

static void
json_seconds(struct json *j, enum json_id id, int64_t ns)
{
    json_key(j, id);
    json_puts(j, ns < 0 ? "-" : "");
    ns = ns < 0 ? -ns : ns;
    json_put_number(j, (uint64_t)(ns / SECOND));
    json_put_fraction(j, (uint64_t)(ns % SECOND));
}

static void
json_address(struct json *j, enum json_id id, const struct address *a)
{
    json_text(j, id, ENDPOINT(a, 0));
}

static void
json_side(struct json *j, enum json_id id, int side)
{
    if (side == 0 || side == 1)
        json_text(j, id, json_sides[side]);
    else
        json_null(j, id);
}

static void
json_begin(struct json *j, enum json_id record)
{
    json_put(j, "{", 1);
    json_put(j, json_fields[record].name, json_fields[record].len);
    j->comma = true;
}

static void
json_end(struct json *j)
{
    json_put(j, "}\n", 2);
}

/* What joins the lines of one attempt: three fields that follow each other in each record. */
static void
json_attempt_key(struct json *j, enum json_id attempt, const struct attempt *a, uint64_t number)
{
    json_number(j, attempt, number);
    json_number_or_null(j, attempt + 1, a->flow.number);
    if (j->community[0] != '\0')
        json_text(j, attempt + 2, j->community);
    else
        json_null(j, attempt + 2);
}

/* ---- capture ---- */

static void
json_files(struct json *j, const struct report *r)
{
    size_t i;
    json_open(j, JSON_CAPTURE_FILES, '[');
    for (i = 0; i < r->nfiles; i++) {
        const struct capture_file *f = &r->files[i];
        json_item(j);
        json_text(j, JSON_FILE_NAME, f->name);
        json_text(j, JSON_FILE_FORMAT, json_formats[f->format]);
        json_number(j, JSON_FILE_PACKETS, f->frames);
        json_number(j, JSON_FILE_BYTES, f->bytes);
        json_time(j, JSON_FILE_FIRST, f->first_ns);
        json_time(j, JSON_FILE_LAST, f->last_ns);
        json_bool(j, JSON_FILE_CUT, f->cut);
        json_bool(j, JSON_FILE_DAMAGED, f->damaged);
        json_bracket(j, '}');
    }
    json_bracket(j, ']');
}

static void
json_interfaces(struct json *j, const struct report *r)
{
    size_t i;
    json_open(j, JSON_CAPTURE_INTERFACES, '[');
    for (i = 0; i < r->ninterfaces; i++) {
        const struct capture_interface *f = &r->interfaces[i];
        json_item(j);
        json_number(j, JSON_INTERFACE_FILE, f->file);
        json_text(j, JSON_INTERFACE_NAME, f->name);
        json_text(j, JSON_INTERFACE_DESCRIPTION, f->description);
        json_number(j, JSON_INTERFACE_LINK_TYPE, (uint64_t)f->link);
        json_number(j, JSON_INTERFACE_SNAPLEN, f->snaplen);
        json_number(j, JSON_INTERFACE_PACKETS, f->frames);
        json_number(j, JSON_INTERFACE_DROPS, f->drops);
        json_bracket(j, '}');
    }
    json_bracket(j, ']');
}

static void
json_addresses(struct json *j, enum json_id id, const struct address *list, size_t n)
{
    size_t i;
    json_open(j, id, '[');
    for (i = 0; i < n; i++)
        json_word(j, ENDPOINT(&list[i], 0));
    json_bracket(j, ']');
}

static void
json_remarks(struct json *j, const struct report *r)
{
    int k;
    json_open(j, JSON_CAPTURE_REMARKS, '[');
    for (k = 0; k < REMARK_COUNT; k++) {
        if (r->remarks[k] == 0)
            continue;
        json_item(j);
        json_text(j, JSON_FINDING_REMARK, remark_word((enum remark)k));
        json_text(j, JSON_FINDING_TEXT, remark_text((enum remark)k));
        json_number(j, JSON_FINDING_COUNT, r->remarks[k]);
        json_number_or_null(j, JSON_FINDING_PACKET, r->remark_frame[k]);
        json_text(j, JSON_FINDING_DETAIL, r->remark_detail[k]);
        json_bracket(j, '}');
    }
    json_bracket(j, ']');
}

static void
json_logs(struct json *j, const struct report *r)
{
    size_t i;
    json_open(j, JSON_CAPTURE_LOGS, '[');
    for (i = 0; i < r->nlogs; i++) {
        const struct report_log *l = &r->logs[i];
        json_item(j);
        json_text(j, JSON_LOG_NAME, l->name);
        json_number(j, JSON_LOG_LINES, l->counts.lines);
        json_number(j, JSON_LOG_ENTRIES, l->counts.entries);
        json_number(j, JSON_LOG_JOINED, l->joined);
        json_number(j, JSON_LOG_DECIDED, l->decided);
        json_bracket(j, '}');
    }
    json_bracket(j, ']');
}

static void
json_capture(struct json *j, const struct report *r)
{
    json_begin(j, JSON_CAPTURE);
    json_number(j, JSON_CAPTURE_SCHEMA, JSON_SCHEMA);
    json_text(j, JSON_CAPTURE_PROGRAM, "xmppedge-analyze");
    json_text(j, JSON_CAPTURE_VERSION, XE_VERSION);
    json_files(j, r);
    json_interfaces(j, r);
    json_number(j, JSON_CAPTURE_PACKETS, r->packets);
    json_number(j, JSON_CAPTURE_CONNECTIONS, r->flows);
    json_number(j, JSON_CAPTURE_ATTEMPTS, r->flows_xmpp);
    json_number(j, JSON_CAPTURE_ATTEMPTS_LISTED, r->nattempts);
    json_number(j, JSON_CAPTURE_DNS_MESSAGES, r->dns_messages);
    json_time(j, JSON_CAPTURE_FIRST, r->first_ns);
    json_time(j, JSON_CAPTURE_LAST, r->last_ns);
    json_addresses(j, JSON_CAPTURE_EXTERNAL, r->external, r->nexternal);
    json_text(j, JSON_CAPTURE_EXTERNAL_SOURCE, known_word(r->external_known));
    json_addresses(j, JSON_CAPTURE_INTERNAL, r->internal, r->ninternal);
    json_text(j, JSON_CAPTURE_INTERNAL_SOURCE, known_word(r->internal_known));
    json_text(j, JSON_CAPTURE_ADDRESSES_WHY, r->addresses_why);
    json_number(j, JSON_CAPTURE_EXTERNAL_PORT, r->external_port);
    json_number(j, JSON_CAPTURE_INTERNAL_PORT, r->internal_port);
    json_bool(j, JSON_CAPTURE_KEYS_GIVEN, r->keys_given);
    json_number(j, JSON_CAPTURE_KEYS_USED, r->keys_used);
    json_number(j, JSON_CAPTURE_KEYS_UNUSED, r->keys_unused);
    json_bool(j, JSON_CAPTURE_KEYS_WOULD_HELP, r->keys_would_help);
    json_logs(j, r);
    json_bool(j, JSON_CAPTURE_DAMAGED, r->damaged);
    json_bool(j, JSON_CAPTURE_CONTENT_SHOWN, r->show_content);
    json_remarks(j, r);
    json_end(j);
}

/* ---- flow ---- */

static void
json_flow_side(struct json *j, enum json_id id, const struct attempt *a, int side)
{
    const struct flow_side *s = &a->flow.side[side];
    json_open(j, id, '{');
    json_address(j, JSON_ENDPOINT_ADDRESS, &s->address);
    json_number(j, JSON_ENDPOINT_PORT, s->port);
    json_text(j, JSON_ENDPOINT_DOMAIN, attempt_domain(a, side));
    json_number(j, JSON_ENDPOINT_BYTES, s->bytes);
    json_number(j, JSON_ENDPOINT_PACKETS, s->packets);
    json_number(j, JSON_ENDPOINT_RETRANSMITTED, s->retransmitted);
    json_number(j, JSON_ENDPOINT_LOST, s->lost);
    json_time(j, JSON_ENDPOINT_FIRST, s->first_ns);
    json_time(j, JSON_ENDPOINT_LAST, s->last_ns);
    json_bracket(j, '}');
}

static void
json_certificate(struct json *j, enum json_id id, const struct cert *c)
{
    if (c == NULL) {
        json_null(j, id);
        return;
    }
    json_open(j, id, '{');
    json_text(j, JSON_CERTIFICATE_SUBJECT, c->subject);
    json_text(j, JSON_CERTIFICATE_ISSUER, c->issuer);
    json_text(j, JSON_CERTIFICATE_NAMES, c->names);
    json_time_seconds(j, JSON_CERTIFICATE_NOT_BEFORE, c->not_before);
    json_time_seconds(j, JSON_CERTIFICATE_NOT_AFTER, c->not_after);
    json_bool(j, JSON_CERTIFICATE_SELF_SIGNED, c->self_signed);
    json_number(j, JSON_CERTIFICATE_CHAIN_LENGTH, c->chain_length);
    json_text(j, JSON_CERTIFICATE_SHA256, c->fingerprint);
    json_bracket(j, '}');
}

static void
json_proxy(struct json *j, const struct proxy_header *p)
{
    if (p->version == 0) {
        json_null(j, JSON_FLOW_PROXY);
        return;
    }
    json_open(j, JSON_FLOW_PROXY, '{');
    json_number(j, JSON_PROXY_VERSION, p->version);
    json_address(j, JSON_PROXY_SOURCE, &p->address[0]);
    json_number(j, JSON_PROXY_SOURCE_PORT, p->port[0]);
    json_address(j, JSON_PROXY_DESTINATION, &p->address[1]);
    json_number(j, JSON_PROXY_DESTINATION_PORT, p->port[1]);
    json_bracket(j, '}');
}

static void
json_tls(struct json *j, const struct attempt *a)
{
    const struct tls_view *v = &a->tls;
    if (!v->client_hello && a->content != CONTENT_TLS) {
        json_null(j, JSON_FLOW_TLS);
        return;
    }
    json_open(j, JSON_FLOW_TLS, '{');
    json_bool(j, JSON_TLS_ESTABLISHED, v->established);
    json_text(j, JSON_TLS_VERSION, v->version == 0 ? "" : tls_version_name(v->version));
    json_text(j, JSON_TLS_CIPHER, v->cipher_name);
    json_text(j, JSON_TLS_SNI, a->sni);
    json_text(j, JSON_TLS_ALPN, a->alpn);
    json_bool(j, JSON_TLS_STARTTLS, a->starttls);
    json_bool(j, JSON_TLS_RESUMED, v->resumed);
    json_bool(j, JSON_TLS_DECRYPTED, v->decrypted);
    json_text(j, JSON_TLS_WHY_CLOSED, v->why_closed);
    json_text(j, JSON_TLS_CLIENT_PROOF, tls_proof_word(v->proof));
    json_text(j, JSON_TLS_CLIENT_PROOF_HOW, v->proof_how);
    json_text(j, JSON_TLS_ALERT, v->alert_side < 0 ? "" : xe_alert_name(v->alert));
    json_side(j, JSON_TLS_ALERT_FROM, v->alert_side);
    json_number_or_null(j, JSON_TLS_ALERT_PACKET, v->alert_frame);
    json_number(j, JSON_TLS_RECORDS_INITIATOR, v->app_records[0]);
    json_number(j, JSON_TLS_RECORDS_RESPONDER, v->app_records[1]);
    json_certificate(j, JSON_TLS_SERVER_CERTIFICATE, v->server);
    json_certificate(j, JSON_TLS_CLIENT_CERTIFICATE, v->client);
    json_bracket(j, '}');
}

static void
json_stream(struct json *j, const struct attempt *a)
{
    json_open(j, JSON_FLOW_STREAM, '{');
    json_text(j, JSON_STREAM_FROM, a->from);
    json_text(j, JSON_STREAM_TO, a->to);
    json_text(j, JSON_STREAM_ID, a->id);
    json_text(j, JSON_STREAM_FEATURES, a->features);
    json_bool(j, JSON_STREAM_BIDI, a->bidi);
    json_bool(j, JSON_STREAM_STREAM_MANAGEMENT, a->sm);
    json_bool(j, JSON_STREAM_TRUNK, a->trunk);
    json_text(j, JSON_STREAM_ERROR, a->error);
    json_text(j, JSON_STREAM_ERROR_TEXT, a->error_text);
    json_side(j, JSON_STREAM_ERROR_FROM, a->error_side);
    json_number_or_null(j, JSON_STREAM_ERROR_PACKET, a->error_frame);
    json_bracket(j, '}');
}

static void
json_kinds(struct json *j, enum json_id first, const uint64_t stanzas[3])
{
    int i;
    for (i = 0; i < 3; i++)
        json_number(j, first + (unsigned)i, stanzas[i]);
}

static void
json_stanzas(struct json *j, const struct attempt *a)
{
    int side;
    json_open(j, JSON_FLOW_STANZAS, '{');
    for (side = 0; side < 2; side++) {
        json_open(j, side == 0 ? JSON_STANZAS_INITIATOR : JSON_STANZAS_RESPONDER, '{');
        json_kinds(j, JSON_SENT_MESSAGE, a->stanzas[side]);
        json_number(j, JSON_SENT_ERRORS, a->stanza_errors[side]);
        json_bracket(j, '}');
    }
    json_bracket(j, '}');
}

static void
json_flow(struct json *j, const struct attempt *a, uint64_t number)
{
    const struct flow *f = &a->flow;
    int k;
    json_begin(j, JSON_FLOW);
    json_attempt_key(j, JSON_FLOW_ATTEMPT, a, number);
    json_time(j, JSON_FLOW_FIRST, f->first_ns);
    json_time(j, JSON_FLOW_LAST, f->last_ns);
    json_seconds(j, JSON_FLOW_DURATION, f->last_ns - f->first_ns);
    json_text(j, JSON_FLOW_EVIDENCE, flow_evidence_word(f->evidence));
    json_bool(j, JSON_FLOW_MIDSTREAM, f->midstream);
    json_bool(j, JSON_FLOW_ESTABLISHED, f->established);
    json_text(j, JSON_FLOW_END, flow_end_word(f->end));
    json_number(j, JSON_FLOW_INTERFACE, f->interface);
    json_open(j, JSON_FLOW_REMARKS, '[');
    for (k = 0; k < REMARK_COUNT; k++)
        if (((a->remarks | f->remarks) & 1u << k) != 0)
            json_word(j, remark_word((enum remark)k));
    json_bracket(j, ']');
    json_flow_side(j, JSON_FLOW_INITIATOR, a, 0);
    json_flow_side(j, JSON_FLOW_RESPONDER, a, 1);
    json_proxy(j, &a->proxy);
    json_tls(j, a);
    json_stream(j, a);
    json_stanzas(j, a);
    json_end(j);
}

/* ---- event ---- */

static void
json_jid(struct json *j, enum json_id id, const char *jid, bool show, struct text *room)
{
    text_clear(room);
    text_jid(room, jid, show);
    json_text(j, id, room->at);
}

static void
json_events(struct json *j, const struct report *r, size_t i)
{
    const struct attempt *a = r->attempts[i];
    struct ladder l = ladder_begin(a);
    struct text room = { NULL, 0, 0 };
    struct rung g;
    while (ladder_next(&l, &g)) {
        const struct event *e = g.e;
        bool element = e->kind == EVENT_ELEMENT || e->kind == EVENT_STANZA;
        bool show = r->show_content || e->kind != EVENT_STANZA;
        json_begin(j, JSON_EVENT);
        json_attempt_key(j, JSON_EVENT_ATTEMPT, a, i + 1);
        json_number_or_null(j, JSON_EVENT_PACKET, e->frame);
        json_time(j, JSON_EVENT_TIME, e->time_ns);
        json_seconds(j, JSON_EVENT_OFFSET, e->time_ns - a->flow.first_ns);
        json_text(j, JSON_EVENT_EVENT, event_word(e->kind));
        json_text(j, JSON_EVENT_ELEMENT, element ? xe_element_kind_name(e->element) : "");
        json_text(j, JSON_EVENT_SIDE, json_sides[e->side & 1]);
        json_text(j, JSON_EVENT_COVER, cover_word(g.cover));
        json_jid(j, JSON_EVENT_FROM, e->from, r->show_content || e->kind == EVENT_TLS_CERT, &room);
        json_jid(j, JSON_EVENT_TO, e->to, r->show_content, &room);
        json_text(j, JSON_EVENT_WHAT, e->what);
        json_text(j, JSON_EVENT_TEXT, show ? e->text : "");
        json_end(j);
    }
    text_free(&room);
}

static void
json_targets(struct json *j, const struct dns_fact *f)
{
    unsigned i;
    json_open(j, JSON_DNS_TARGETS, '[');
    for (i = 0; i < f->ntargets; i++) {
        json_item(j);
        json_text(j, JSON_TARGET_HOST, f->targets[i].host);
        json_number(j, JSON_TARGET_PORT, f->targets[i].port);
        json_number(j, JSON_TARGET_PRIORITY, f->targets[i].priority);
        json_number(j, JSON_TARGET_WEIGHT, f->targets[i].weight);
        json_address(j, JSON_TARGET_ADDRESS, &f->targets[i].address);
        json_bracket(j, '}');
    }
    json_bracket(j, ']');
}

static void
json_dns(struct json *j, const struct dns_fact *f)
{
    json_begin(j, JSON_DNS);
    json_null(j, JSON_DNS_ATTEMPT);
    json_null(j, JSON_DNS_FLOW);
    json_null(j, JSON_DNS_COMMUNITY_ID);
    json_number_or_null(j, JSON_DNS_PACKET, f->query_frame);
    json_time(j, JSON_DNS_TIME, f->query_ns);
    json_number_or_null(j, JSON_DNS_ANSWER_PACKET, f->answer_frame);
    json_time(j, JSON_DNS_ANSWER, f->answer_ns);
    json_address(j, JSON_DNS_CLIENT, &f->client);
    json_address(j, JSON_DNS_SERVER, &f->server);
    json_text(j, JSON_DNS_RECORD, dns_type_word(f->type));
    json_text(j, JSON_DNS_NAME, f->name);
    json_text(j, JSON_DNS_DOMAIN, f->domain);
    json_text(j, JSON_DNS_SERVICE, f->service);
    json_text(j, JSON_DNS_RESULT, dns_result_word(f->result));
    json_text(j, JSON_DNS_ALIAS, f->alias);
    json_number(j, JSON_DNS_ASKED, f->asked);
    json_number(j, JSON_DNS_ANSWERED, f->answered);
    json_targets(j, f);
    json_end(j);
}

/* ---- verdict ---- */

static void
json_violation_list(struct json *j, enum json_id id, uint32_t bits)
{
    int k;
    json_open(j, id, '[');
    for (k = 0; k < VIOLATION_COUNT; k++)
        if ((bits & 1u << k) != 0)
            json_word(j, violation_word((enum violation_kind)k));
    json_bracket(j, ']');
}

static void
json_cause(struct json *j, enum json_id id, enum cause c)
{
    json_text(j, id, c == CAUSE_NONE ? "" : cause_row(c)->word);
}

static void
json_proofs(struct json *j, const struct verdict *v)
{
    unsigned i;
    json_open(j, JSON_ATTEMPT_PROOFS, '[');
    for (i = 0; i < v->nproofs; i++) {
        json_item(j);
        json_number_or_null(j, JSON_PROOF_PACKET, v->proofs[i].frame);
        json_time(j, JSON_PROOF_TIME, v->proofs[i].time_ns);
        json_text(j, JSON_PROOF_WHAT, v->proofs[i].what);
        json_bracket(j, '}');
    }
    json_bracket(j, ']');
}

static void
json_told(struct json *j, enum json_id id, const struct log_said *said)
{
    const struct log_entry *e;
    if (said == NULL) {
        json_null(j, id);
        return;
    }
    e = &said->entry;
    json_open(j, id, '{');
    json_text(j, JSON_TOLD_FILE, said->file);
    json_time(j, JSON_TOLD_TIME, e->time_ns);
    json_text(j, JSON_TOLD_EVENT, e->event);
    json_text(j, JSON_TOLD_STATE, e->state);
    json_text(j, JSON_TOLD_HOP, e->hop);
    json_text(j, JSON_TOLD_WHY, e->word);
    json_text(j, JSON_TOLD_CERTIFICATE, e->cert);
    json_text(j, JSON_TOLD_DETAIL, e->detail);
    json_bool(j, JSON_TOLD_BY_PEER_ONLY, said->by_peer);
    json_bracket(j, '}');
}

static void
json_twin(struct json *j, const struct verdict *v)
{
    const struct flow *f = v->twin;
    if (f == NULL) {
        json_null(j, JSON_ATTEMPT_TWIN);
        return;
    }
    json_open(j, JSON_ATTEMPT_TWIN, '{');
    json_number(j, JSON_TWIN_FLOW, f->number);
    json_text(j, JSON_TWIN_WHY, v->twin_why);
    json_number_or_null(j, JSON_TWIN_PACKET, f->first_frame);
    json_time(j, JSON_TWIN_FIRST, f->first_ns);
    json_address(j, JSON_TWIN_CALLER, &f->side[0].address);
    json_number(j, JSON_TWIN_CALLER_PORT, f->side[0].port);
    json_address(j, JSON_TWIN_CALLED, &f->side[1].address);
    json_number(j, JSON_TWIN_CALLED_PORT, f->side[1].port);
    json_bracket(j, '}');
}

/* What was found beside the packets themselves. */
static void
json_beside(struct json *j, const struct verdict *v)
{
    json_bool(j, JSON_ATTEMPT_CAUSE_FROM_LOG, v->from_log);
    json_told(j, JSON_ATTEMPT_LOG_INITIATOR, v->said[0]);
    json_told(j, JSON_ATTEMPT_LOG_RESPONDER, v->said[1]);
    json_text(j, JSON_ATTEMPT_AGAINST_LOG, v->against);
    json_twin(j, v);
    json_number_or_null(j, JSON_ATTEMPT_TRUNK_FLOW, v->leg_flow);
}

static void
json_attempt(struct json *j, const struct attempt *a, uint64_t number)
{
    const struct verdict *v = a->verdict;
    json_begin(j, JSON_ATTEMPT);
    json_attempt_key(j, JSON_ATTEMPT_ATTEMPT, a, number);
    json_text(j, JSON_ATTEMPT_ROW, row_word(v->row));
    json_text(j, JSON_ATTEMPT_DIRECTION, direction_word(v->direction));
    json_text(j, JSON_ATTEMPT_OUTCOME, outcome_word(v->outcome));
    json_text(j, JSON_ATTEMPT_REACHED, reach_word(v->reached));
    json_bool(j, JSON_ATTEMPT_REACHED_INFERRED, v->reach_inferred);
    json_bool(j, JSON_ATTEMPT_OLDER, v->older);
    json_cause(j, JSON_ATTEMPT_CAUSE, v->cause);
    json_bool(j, JSON_ATTEMPT_CAUSE_INFERRED, v->cause_inferred);
    json_cause(j, JSON_ATTEMPT_SETBACK, v->setback);
    json_side(j, JSON_ATTEMPT_FAULT, v->fault);
    json_side(j, JSON_ATTEMPT_CLOSER, v->closer);
    json_text(j, JSON_ATTEMPT_STORY, v->story);
    json_text(j, JSON_ATTEMPT_WORDS, v->words);
    json_side(j, JSON_ATTEMPT_SAID_BY, v->said_by);
    json_text(j, JSON_ATTEMPT_REMEDY, v->remedy);
    json_text(j, JSON_ATTEMPT_FORWARD, v->forward);
    json_text(j, JSON_ATTEMPT_METHOD, v->method);
    json_bool(j, JSON_ATTEMPT_KEYS_WOULD_HELP, v->keys_would_help);
    json_bool(j, JSON_ATTEMPT_VERIFY_ONLY, v->verify_only);
    json_bool(j, JSON_ATTEMPT_DOMAINS_BY_DNS, v->domains_by_dns);
    json_number_or_null(j, JSON_ATTEMPT_JOINED, v->joined);
    json_violation_list(j, JSON_ATTEMPT_VIOLATIONS, v->violations);
    json_violation_list(j, JSON_ATTEMPT_SUSPECTED, v->suspected);
    json_proofs(j, v);
    json_beside(j, v);
    json_end(j);
}

static void
json_failed_by(struct json *j, enum json_id id, const uint64_t failed_by[CAUSE_COUNT])
{
    int c;
    json_open(j, id, '{');
    for (c = 0; c < CAUSE_COUNT; c++)
        json_count(j, cause_row((enum cause)c)->word, failed_by[c]);
    json_bracket(j, '}');
}

static void
json_row(struct json *j, const struct report *r, enum row row, struct text *room)
{
    const struct report_row *w = &r->rows[row];
    struct row_face f = row_face(r, row, room);
    int k;
    json_begin(j, JSON_ROW);
    json_text(j, JSON_ROW_ROW, row_word(row));
    json_number_or_null(j, JSON_ROW_NUMBER, (uint64_t)row);
    json_text(j, JSON_ROW_SERVICE, f.service);
    json_text(j, JSON_ROW_SOURCE, f.source);
    json_text(j, JSON_ROW_DESTINATION, f.target);
    json_bool(j, JSON_ROW_OBSERVED, w->observed);
    json_text(j, JSON_ROW_STATE, row_state_word(row_state(w)));
    json_text(j, JSON_ROW_RULING, ruling_word(w->ruling));
    json_text(j, JSON_ROW_WHY, w->why);
    json_number(j, JSON_ROW_ATTEMPTED, w->attempted);
    json_number(j, JSON_ROW_ESTABLISHED, w->established);
    json_number(j, JSON_ROW_WORKING, w->working);
    json_number(j, JSON_ROW_OLDER, w->older);
    json_number(j, JSON_ROW_FAILED, w->failed);
    json_number(j, JSON_ROW_UNKNOWN, w->unknown);
    json_number(j, JSON_ROW_STANZAS, w->stanzas);
    json_number(j, JSON_ROW_MUTUAL_TLS_PROVEN, w->mtls_proven);
    json_number(j, JSON_ROW_MUTUAL_TLS_INFERRED, w->mtls_inferred);
    json_failed_by(j, JSON_ROW_FAILED_BY, w->failed_by);
    json_open(j, JSON_ROW_VIOLATIONS, '{');
    for (k = 0; k < VIOLATION_COUNT; k++)
        json_count(j, violation_word((enum violation_kind)k), w->violations[k]);
    json_bracket(j, '}');
    json_end(j);
}

static void
json_violation(struct json *j, const struct report_violation *v)
{
    json_begin(j, JSON_VIOLATION);
    json_text(j, JSON_VIOLATION_KIND, violation_word(v->kind));
    json_text(j, JSON_VIOLATION_TEXT, violation_text(v->kind));
    json_text(j, JSON_VIOLATION_REMEDY, violation_remedy(v->kind));
    json_text(j, JSON_VIOLATION_ROW, row_word(v->row));
    json_bool(j, JSON_VIOLATION_SUSPECTED, v->suspected);
    json_number_or_null(j, JSON_VIOLATION_FLOW, v->flow);
    json_number_or_null(j, JSON_VIOLATION_PACKET, v->frame);
    json_time(j, JSON_VIOLATION_TIME, v->time_ns);
    json_address(j, JSON_VIOLATION_SOURCE, &v->source);
    json_address(j, JSON_VIOLATION_DESTINATION, &v->target);
    json_number(j, JSON_VIOLATION_PORT, v->port);
    json_text(j, JSON_VIOLATION_DETAIL, v->detail);
    json_end(j);
}

static void
json_way(struct json *j, enum json_id id, const struct report_way *w)
{
    json_open(j, id, '{');
    json_number(j, JSON_WAY_ATTEMPTS, w->attempts);
    json_number(j, JSON_WAY_WORKED, w->worked);
    json_number(j, JSON_WAY_FAILED, w->failed);
    json_number(j, JSON_WAY_UNKNOWN, w->unknown);
    json_number(j, JSON_WAY_VERIFIES, w->verifies);
    json_text(j, JSON_WAY_REACHED, reach_word(w->reached));
    json_bool(j, JSON_WAY_REACHED_INFERRED, w->reach_inferred);
    json_text(j, JSON_WAY_METHOD, w->method);
    json_text(j, JSON_WAY_TLS_VERSION, w->tls_version == 0 ? "" : tls_version_name(w->tls_version));
    json_text(j, JSON_WAY_CIPHER, w->cipher);
    json_bool(j, JSON_WAY_CLIENT_CERTIFICATE, w->client_cert);
    json_kinds(j, JSON_WAY_MESSAGE, w->stanzas);
    json_number(j, JSON_WAY_STANZA_ERRORS, w->stanza_errors);
    json_cause(j, JSON_WAY_LAST_CAUSE, w->last_cause);
    json_text(j, JSON_WAY_LAST_WORDS, w->last_words);
    json_time(j, JSON_WAY_LAST_FAILURE, w->last_failure_ns);
    json_time(j, JSON_WAY_FIRST, w->first_ns);
    json_time(j, JSON_WAY_LAST, w->last_ns);
    json_bracket(j, '}');
}

static void
json_partner(struct json *j, const struct report_partner *q)
{
    json_begin(j, JSON_PARTNER);
    json_text(j, JSON_PARTNER_OURS, q->ours);
    json_text(j, JSON_PARTNER_THEIRS, q->theirs);
    json_bool(j, JSON_PARTNER_INNER, q->kind == PAIR_INNER);
    json_bool(j, JSON_PARTNER_DIRECTION_KNOWN, q->kind != PAIR_UNPLACED);
    json_way(j, JSON_PARTNER_IN, &q->in);
    json_way(j, JSON_PARTNER_OUT, &q->out);
    json_end(j);
}

static void
json_group(struct json *j, const struct group *g, const char *kind, struct text *room)
{
    const struct attempt *a = g->first;
    const struct verdict *v = a->verdict;
    const char *partner = group_partner(g);
    json_begin(j, JSON_CAUSE);
    json_text(j, JSON_CAUSE_KIND, kind);
    json_cause(j, JSON_CAUSE_CAUSE, g->cause);
    json_text(j, JSON_CAUSE_WHAT, cause_row(g->cause)->what);
    json_number(j, JSON_CAUSE_COUNT, g->count);
    json_text(j, JSON_CAUSE_ROW, row_word(v->row));
    json_text(j, JSON_CAUSE_DIRECTION, direction_word(v->direction));
    json_text(j, JSON_CAUSE_OURS, partner == a->to ? a->from : a->to);
    json_text(j, JSON_CAUSE_PARTNER, partner);
    json_time(j, JSON_CAUSE_FIRST, a->flow.first_ns);
    json_time(j, JSON_CAUSE_LAST, g->last->flow.first_ns);
    json_number(j, JSON_CAUSE_FIRST_ATTEMPT, g->index + 1);
    json_text(j, JSON_CAUSE_STORY, v->story);
    json_text(j, JSON_CAUSE_WORDS, v->words);
    json_text(j, JSON_CAUSE_REMEDY, v->remedy);
    group_forward(room, g);
    json_text(j, JSON_CAUSE_FORWARD, room->at);
    json_end(j);
}

static void
json_groups(struct json *j, const struct report *r, enum group_kind kind, struct text *room)
{
    size_t n = 0, i;
    struct group *list = report_groups(r, kind, &n);
    for (i = 0; i < n; i++)
        json_group(j, &list[i], json_group_kinds[kind], room);
    free(list);
}

static void
json_summary(struct json *j, const struct report *r, struct text *room)
{
    json_begin(j, JSON_SUMMARY);
    json_number(j, JSON_SUMMARY_WORKED, r->worked);
    json_number(j, JSON_SUMMARY_FAILED, r->failed);
    json_number(j, JSON_SUMMARY_UNKNOWN, r->unknown);
    json_number(j, JSON_SUMMARY_EXIT_STATUS, (uint64_t)r->exit_code);
    json_text(j, JSON_SUMMARY_MISSING_ROWS, r->missing_rows);
    report_result(room, r);
    json_text(j, JSON_SUMMARY_RESULT, room->at);
    json_number(j, JSON_SUMMARY_ATTEMPTS_LEFT_OUT, r->attempts_left_out);
    json_number(j, JSON_SUMMARY_PARTNERS_LEFT_OUT, r->partners_left_out);
    json_number(j, JSON_SUMMARY_DNS_LEFT_OUT, r->dns_left_out);
    json_failed_by(j, JSON_SUMMARY_FAILED_BY, r->failed_by);
    json_end(j);
}

/* Lines that were written when their attempts went. */
static void
json_unlisted(struct json *j, FILE *lines)
{
    char block[JSON_BLOCK];
    size_t n;
    if (lines == NULL)
        return;
    rewind(lines);
    while ((n = fread(block, 1, sizeof block, lines)) > 0)
        json_put(j, block, n);
}

int
report_json_unlisted(const struct attempt *a, uint64_t number, FILE *to)
{
    struct json j = { .to = to, .second = -1 };
    community_of(&a->flow, j.community);
    json_flow(&j, a, number);
    json_attempt(&j, a, number);
    json_flush(&j);
    return ferror(to) != 0 ? -1 : 0;
}

int
report_json(const struct report *r, FILE *to)
{
    struct json j = { .to = to, .second = -1 };
    struct text room = { NULL, 0, 0 };
    size_t i;
    json_capture(&j, r);
    for (i = 0; i < r->nattempts; i++) {
        if (!choice_takes(&r->choice, r->attempts[i]))
            continue;
        community_of(&r->attempts[i]->flow, j.community);
        if (attempt_has_number(r->attempts[i]))
            json_flow(&j, r->attempts[i], i + 1);
        json_events(&j, r, i);
        json_attempt(&j, r->attempts[i], i + 1);
    }
    json_unlisted(&j, r->unlisted);
    for (i = 0; i < r->ndns; i++)
        json_dns(&j, &r->dns[i]);
    for (i = 0; i < ROW_COUNT; i++)
        json_row(&j, r, report_rows[i], &room);
    for (i = 0; i < r->nviolations; i++)
        json_violation(&j, &r->violations[i]);
    for (i = 0; i < r->npartners; i++)
        if (choice_takes_partner(&r->choice, &r->partners[i]))
            json_partner(&j, &r->partners[i]);
    json_groups(&j, r, GROUP_FAILED, &room);
    json_groups(&j, r, GROUP_SETBACK, &room);
    json_summary(&j, r, &room);
    text_free(&room);
    json_flush(&j);
    if (r->unlisted != NULL && ferror(r->unlisted) != 0)
        return -1;
    return fflush(to) != 0 || ferror(to) != 0 ? -1 : 0;
}
