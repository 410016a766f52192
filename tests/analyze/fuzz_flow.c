/* fuzz_flow.c -- segments of any numbers; what is delivered must be the bytes of their place
 *
 * Every content byte is made from its sequence number, so a wrong order, a repetition or a gap of
 * the wrong length shows at once.  Input: eight bytes a segment: ports, flags, sequence,
 * acknowledgement, length and time, all small so that segments meet.
 */
#include "lower.h"

#include "../fuzz/fuzz_main.h"

struct track {
    bool     known;
    uint8_t  next;             /* sequence number of the next byte, modulo 256 */
};

/* What is known of one connection; hangs on flow.user. */
struct tracks {
    struct track side[2];
    uint64_t     bytes[2], lost[2];
};

struct fuzz {
    unsigned alive;
    unsigned choices;          /* bits that decide about hints and muting */
};

static void
tracks_turn(struct tracks *t)
{
    struct tracks old = *t;
    for (int i = 0; i < 2; i++) {
        t->side[i] = old.side[1 - i];
        t->bytes[i] = old.bytes[1 - i];
        t->lost[i] = old.lost[1 - i];
    }
}

static void
fuzz_opened(void *user, struct flow *f)
{
    struct fuzz *z = user;
    z->alive++;
    f->user = calloc(1, sizeof(struct tracks));
    must(f->user != NULL, "memory");
    if (z->choices % 16 == 7)
        flow_mute(f);
}

static void
fuzz_data(void *user, struct flow *f, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct fuzz *z = user;
    struct tracks *t = f->user;
    (void)frame;
    (void)time_ns;
    if (z->choices % 4 == 1 && flow_hint_initiator(f, (int)(z->choices / 4 % 2))) {
        tracks_turn(t);
        side = 1 - side;
    }
    struct track *k = &t->side[side];
    t->bytes[side] += len;
    for (size_t i = 0; i < len; i++) {
        must(!k->known || at[i] == k->next, "content is not of its place");
        k->known = true;
        k->next = (uint8_t)(at[i] + 1);
    }
    if (z->choices % 64 == 9)
        flow_mute(f);
}

static void
fuzz_gap(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame, int64_t time_ns)
{
    struct tracks *t = f->user;
    (void)user;
    (void)frame;
    (void)time_ns;
    must(missing > 0 && missing < 0x80000000, "size of a gap");
    t->lost[side] += missing;
    t->side[side].next = (uint8_t)(t->side[side].next + missing);
}

static void
fuzz_turned(void *user, struct flow *f)
{
    (void)user;
    tracks_turn(f->user);
}

static void
fuzz_closed(void *user, struct flow *f)
{
    struct fuzz *z = user;
    struct tracks *t = f->user;
    z->alive--;
    must(f->end != FLOW_OPEN, "end");
    for (int i = 0; i < 2; i++)
        must(f->side[i].bytes >= t->bytes[i] && f->side[i].lost >= t->lost[i], "counts");
    free(t);
}

static const struct flow_events news = { fuzz_opened, fuzz_data, fuzz_gap, fuzz_closed, NULL,
    fuzz_turned };

static void
fuzz_segment(struct flow_table *table, const uint8_t *at, uint64_t number, int64_t *now_ns)
{
    unsigned char content[256];
    struct frame f = { .number = number };
    struct packet p = { .frame = &f, .kind = at[0] >> 6 == 3 ? PACKET_ICMP_ERROR : PACKET_TCP };
    int from = at[0] & 1;
    /* most steps are of milliseconds, a few of minutes or back */
    *now_ns += at[7] < 250 ? (int64_t)at[7] * 1000000 : (int64_t)(at[7] - 251) * 600000000000;
    *now_ns = *now_ns < 0 ? 0 : *now_ns;
    f.time_ns = *now_ns;
    p.source = (struct address){ { 10, (unsigned char)from }, 4 };
    p.target = (struct address){ { 10, (unsigned char)(1 - from) }, 4 };
    p.source_port = from == 0 ? (uint16_t)(1000 + (at[0] >> 1 & 3)) : 5269;
    p.target_port = from == 0 ? 5269 : (uint16_t)(1000 + (at[0] >> 1 & 3));
    p.flags = at[1] & 0x1F;
    /* near the wrap, so that it is crossed */
    uint32_t base = (at[0] & 8) != 0 ? 0xFFFFFF00 : 0xFFFFFF40;
    p.seq = base + at[2] + ((at[1] & 0x80) != 0 ? (uint32_t)at[3] << 23 : 0);
    p.ack = base + at[4] + ((at[1] & 0x40) != 0 ? (uint32_t)at[3] << 23 : 0);
    p.length = at[5];
    p.captured = (at[6] & 1) != 0 && p.length > 3 ? p.length - at[6] % p.length : p.length;
    p.ip_id = at[6] & 2 ? at[6] : 0;
    p.icmp = p.kind == PACKET_ICMP_ERROR ? ICMP_HOST : ICMP_NONE;
    uint32_t first = p.seq + ((p.flags & TCP_SYN) != 0 ? 1u : 0);
    for (size_t i = 0; i < p.captured; i++)
        content[i] = (unsigned char)(first + i);
    p.payload = guarded(content, p.captured);
    flow_push(table, &p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct flow_options o = { .flows_max = 3, .pending_max = 1500, .pending_side_max = 700,
        .seed = { 3, 4 } };
    struct fuzz z = { .alive = 0 };
    int64_t now_ns = 1000000000;
    uint64_t number = 0;
    struct flow_table *table = flow_new(len % 3 == 0 ? &o : NULL, &news, &z);
    must(table != NULL, "memory");
    for (; len >= 8; at += 8, len -= 8) {
        z.choices = at[6];
        fuzz_segment(table, at, ++number, &now_ns);
        must(z.alive == flow_count(table).open, "open connections");
    }
    flow_end(table);
    must(z.alive == 0 && flow_count(table).pending == 0, "everything closed");
    flow_free(table);
    return 0;
}
