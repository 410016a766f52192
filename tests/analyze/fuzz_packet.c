/* fuzz_packet.c -- frames of any bytes, right before memory that cannot be read
 *
 * Input: two bytes of link type (taken from a table), then frames: a byte of flags, two bytes of
 * length, the bytes.  A flag makes the frame longer on the wire than it was captured.
 */
#include "lower.h"

#include "../fuzz/fuzz_main.h"

static uint64_t sum;

static void
take_packet(void *user, const struct packet *p)
{
    char text[46];
    (void)user;
    must(p->captured <= p->length, "lengths");
    must((p->kind == PACKET_ICMP_ERROR) == (p->icmp != ICMP_NONE), "ICMP");
    for (size_t i = 0; i < p->captured; i++)
        sum += p->payload[i];
    sum += strlen(address_text(&p->source, text, sizeof text));
    sum += strlen(address_text(&p->target, text, sizeof text));
}

static void
take_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    (void)user;
    sum += (uint64_t)r + frame + strlen(detail);
}

static const struct packet_events news = { .packet = take_packet, .remark = take_remark };

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    static const int links[] = { 1, 113, 276, 101, 0, 108, 9, 50, 51, 104, 105, 109, 127, 239, 258,
        228, 229, 12, 160, 192, 163, 119, 100 };
    struct packet_reader *r = packet_new(&news, NULL);
    uint64_t number = 0;
    if (len < 2 || r == NULL) {
        packet_free(r);
        return 0;
    }
    int link = links[at[0] % (sizeof links / sizeof *links)];
    at += 2;
    len -= 2;
    while (len >= 3) {
        struct packet peeked[1];
        size_t size = (size_t)at[1] << 8 | at[2];
        size = size > len - 3 ? len - 3 : size;
        number++;
        struct frame f = { .number = number, .time_ns = (int64_t)number * 1000000, .link = link,
            .captured = size, .length = size + ((at[0] & 1) != 0 ? 700u : 0) };
        f.bytes = guarded(at + 3, size);
        packet_peek(&f, 1, peeked);
        packet_push(r, &f);
        at += 3 + size;
        len -= 3 + size;
    }
    packet_end(r);
    packet_free(r);
    return 0;
}
