/* packet.h -- one frame becomes at most one TCP segment, UDP datagram or ICMP error
 *
 *   in         packet_push, frames in any order
 *   out        packet_events.packet, once a frame at most
 *   borrowed   a packet and its payload during the call
 *   bounds     128 datagrams that wait for fragments, for 30 s of packet time: 9 MB at worst;
 *              24 headers above each other
 */
#ifndef XMPPEDGE_ANALYZE_PACKET_H
#define XMPPEDGE_ANALYZE_PACKET_H

#include "capture.h"

struct address {
    unsigned char bytes[16];   /* IPv4: the first four, the rest is 0 */
    uint8_t       family;      /* 4 or 6; 0: none */
};

/* As in RFC 5952; `out` has 46 bytes or more, and is returned. */
const char *address_text(const struct address *a, char *out, size_t size);

/* "192.0.2.1:5269", "[2001:db8::1]:5269"; without a port when it is 0.  Returns `out`. */
#define ENDPOINT_MAX 64
const char *endpoint_text(const struct address *a, uint16_t port, char out[ENDPOINT_MAX]);
#define ENDPOINT(a, port) endpoint_text((a), (port), (char[ENDPOINT_MAX]){ "" })

bool address_equal(const struct address *a, const struct address *b);

/* "192.0.2.1", "2001:db8::1"; false: it is none, and of family 0. */
bool address_read(const char *text, struct address *out);

enum packet_kind { PACKET_TCP, PACKET_UDP, PACKET_ICMP_ERROR };

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

/* What hurt a TCP connection: an error of ICMP or ICMPv6. */
enum icmp_error {
    ICMP_NONE,
    ICMP_PORT,
    ICMP_HOST,
    ICMP_NET,
    ICMP_PROHIBITED,
    ICMP_TOO_BIG,
    ICMP_TTL
};

struct packet {
    const struct frame  *frame;     /* borrowed */
    enum packet_kind     kind;
    /* addresses, ports and seq of an ICMP error are those of the packet that it is about */
    struct address       source, target;
    uint16_t             source_port, target_port;
    uint32_t             seq, ack;
    uint8_t              flags;     /* TCP_* */
    const unsigned char *payload;   /* borrowed */
    size_t               captured;  /* bytes of payload there are */
    size_t               length;    /* bytes there were; >= captured */
    uint32_t             sum;       /* TCP: packet_sum of the content; 0: cut */
    enum icmp_error      icmp;
    struct address       reporter;  /* who sent the ICMP error */
    /* IPv4 identification; 0: none.  A repeated frame repeats it, a retransmission does not */
    uint16_t             ip_id;
    uint8_t              ttl;       /* hop limit of IPv6 */
    uint64_t             piece;     /* in fragments: frame of the first of them; 0: whole */
};

struct packet_events {
    void (*packet)(void *user, const struct packet *p);
    void (*remark)(void *user, enum remark r, uint64_t frame_number, const char *detail);
    /* a fragment, and its datagram is not whole yet: `first` is what packet.piece will be */
    void (*piece)(void *user, const struct frame *f, uint64_t first);
};

struct packet_reader;

struct packet_reader *packet_new(const struct packet_events *ev, void *user);
void packet_free(struct packet_reader *r);

/* Sum of `len` bytes as of a checksum: contents of which it differs are different.  The reverse is
 * not sure, as with TCP's own checksum. */
uint32_t packet_sum(const unsigned char *at, size_t len);

/* Takes a frame apart.  A fragment is kept until its datagram is whole; what makes no sense is told
 * in a remark and forgotten. */
void packet_push(struct packet_reader *r, const struct frame *f);

/* End of the capture: tells of datagrams that never became whole. */
void packet_end(struct packet_reader *r);

/* What carries packets of its own and could not be read: encrypted, or told by no header. */
struct packet_unread {
    const char *what;      /* static: "IPsec (ESP)" */
    uint64_t    packets;
    uint64_t    frame;     /* of the first one */
};

/* In order of appearance; NULL: there are no more than i. */
const struct packet_unread *packet_unread_at(const struct packet_reader *r, size_t i);

/* For speed only: frame, addresses and ports, nothing else, of those of n frames that are ordinary
 * TCP.  Returns how many of `out` were filled; it has room for n. */
size_t packet_peek(const struct frame *frames, size_t n, struct packet *out);

#endif
