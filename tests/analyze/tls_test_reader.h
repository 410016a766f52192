/* tls_test_reader.h -- for tests of tls.c alone: TLS bytes of a capture without gaps
 *
 * Ethernet or Linux cooked, IPv4, TCP; segments as they come, retransmissions dropped, no
 * reordering.  TLS starts at the first segment of a flow that begins with a ClientHello.
 */
#ifndef TLS_TEST_READER_H
#define TLS_TEST_READER_H

#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

struct test_segment {
    int            side;
    unsigned char *at;
    size_t         len;
    uint64_t       frame;
    int64_t        time_ns;
};

struct test_flow {
    uint32_t             address[2];
    uint16_t             port[2];
    uint32_t             next[2];
    bool                 known[2];
    bool                 tls;
    struct test_segment *segment;
    size_t               count;
};

struct test_capture {
    struct test_flow *flow;
    size_t            count;
};

static void
test_capture_free(struct test_capture *c)
{
    for (size_t i = 0; i < c->count; i++) {
        for (size_t j = 0; j < c->flow[i].count; j++)
            free(c->flow[i].segment[j].at);
        free(c->flow[i].segment);
    }
    free(c->flow);
    *c = (struct test_capture){ NULL, 0 };
}

static struct test_flow *
test_flow_find(struct test_capture *c, uint32_t from, uint32_t to, uint16_t from_port,
    uint16_t to_port, bool syn, int *side)
{
    for (size_t i = c->count; i-- > 0 && !syn;) {
        struct test_flow *f = &c->flow[i];
        for (*side = 0; *side < 2; ++*side)
            if (f->address[*side] == from && f->address[1 - *side] == to
                && f->port[*side] == from_port && f->port[1 - *side] == to_port)
                return f;
    }
    c->flow = realloc(c->flow, (c->count + 1) * sizeof c->flow[0]);
    struct test_flow *f = &c->flow[c->count++];
    memset(f, 0, sizeof *f);
    f->address[0] = from;
    f->address[1] = to;
    f->port[0] = from_port;
    f->port[1] = to_port;
    *side = 0;
    return f;
}

static uint32_t
test_u32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void
test_segment_add(struct test_flow *f, int side, uint32_t seq, const unsigned char *at, size_t len,
    uint64_t frame, int64_t time_ns)
{
    if (f->known[side] && (int32_t)(seq - f->next[side]) < 0)
        return;
    f->known[side] = true;
    f->next[side] = seq + (uint32_t)len;
    if (!f->tls && !tls_begins(at, len))
        return;
    f->tls = true;
    f->segment = realloc(f->segment, (f->count + 1) * sizeof f->segment[0]);
    struct test_segment *s = &f->segment[f->count++];
    s->side = side;
    s->at = malloc(len);
    memcpy(s->at, at, len);
    s->len = len;
    s->frame = frame;
    s->time_ns = time_ns;
}

static void
test_packet(struct test_capture *c, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    if (len < 20 || at[0] >> 4 != 4 || at[9] != 6)
        return;
    const size_t ip = (size_t)(at[0] & 15) * 4;
    const size_t total = (size_t)at[2] << 8 | at[3];
    if (total > len || total < ip + 20)
        return;
    const unsigned char *tcp = at + ip;
    const size_t head = (size_t)(tcp[12] >> 4) * 4;
    int side;
    if (total < ip + head)
        return;
    struct test_flow *f =
        test_flow_find(c, test_u32(at + 12), test_u32(at + 16), (uint16_t)(tcp[0] << 8 | tcp[1]),
            (uint16_t)(tcp[2] << 8 | tcp[3]), (tcp[13] & 0x12) == 2, &side);
    if (total > ip + head)
        test_segment_add(f, side, test_u32(tcp + 4), tcp + head, total - ip - head, frame, time_ns);
}

static bool
test_capture_read(struct test_capture *c, const char *path)
{
    char message[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr *head;
    const unsigned char *bytes;
    uint64_t frame = 0;
    pcap_t *p = pcap_open_offline(path, message);
    *c = (struct test_capture){ NULL, 0 };
    if (p == NULL)
        return false;
    size_t skip = 0;
    if (pcap_datalink(p) == DLT_EN10MB)
        skip = 14;
    else if (pcap_datalink(p) == DLT_LINUX_SLL)
        skip = 16;
    while (pcap_next_ex(p, &head, &bytes) == 1) {
        frame++;
        if (head->caplen > skip)
            test_packet(c, bytes + skip, head->caplen - skip, frame,
                (int64_t)head->ts.tv_sec * 1000000000 + (int64_t)head->ts.tv_usec * 1000);
    }
    pcap_close(p);
    return true;
}

#endif
