/* fuzz_capture.c -- a file of any bytes goes through capture, packet and flow
 *
 * Checked beside the sanitizers: frame numbers are consecutive, a frame is never longer than it
 * says, all connections that were opened are closed, and what was delivered adds up.
 */
#include "lower.h"

#include "../fuzz/fuzz_main.h"

struct lower {
    struct packet_reader *packets;
    struct flow_table    *flows;
    uint64_t              frames, opened, closed, bytes, lost, sum;
};

static void
lower_soon(void *user, const struct frame *frames, size_t n)
{
    struct lower *l = user;
    struct packet soon[CAPTURE_BATCH];
    flow_expect(l->flows, soon, packet_peek(frames, n, soon));
}

static void
lower_frame(void *user, const struct frame *f)
{
    struct lower *l = user;
    must(f->number == ++l->frames, "frame numbers");
    must(f->captured <= f->length, "frame lengths");
    must(f->time_ns >= 0 && f->time_ns <= INT64_MAX / 2, "frame time");
    for (size_t i = 0; i < f->captured; i++)
        l->sum += f->bytes[i];
    packet_push(l->packets, f);
}

static void
lower_keys(void *user, const char *text, size_t len)
{
    struct lower *l = user;
    for (size_t i = 0; i < len; i++)
        l->sum += (unsigned char)text[i];
}

static void
lower_packet(void *user, const struct packet *p)
{
    struct lower *l = user;
    must(p->captured <= p->length, "packet lengths");
    flow_push(l->flows, p);
}

static void
lower_opened(void *user, struct flow *f)
{
    struct lower *l = user;
    must(f->number == ++l->opened, "flow numbers");
}

static void
lower_data(void *user, struct flow *f, int side, const unsigned char *at, size_t len,
    uint64_t frame, int64_t time_ns)
{
    struct lower *l = user;
    (void)time_ns;
    must(len > 0 && frame <= l->frames && f->side[side].bytes >= len, "data");
    l->bytes += len;
    for (size_t i = 0; i < len; i++)
        l->sum += at[i];
}

static void
lower_gap(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame, int64_t time_ns)
{
    struct lower *l = user;
    (void)time_ns;
    must(missing > 0 && frame <= l->frames && f->side[side].lost >= missing, "gap");
    l->lost += missing;
}

static void
lower_closed(void *user, struct flow *f)
{
    struct lower *l = user;
    l->closed++;
    l->bytes -= f->side[0].bytes + f->side[1].bytes;
    l->lost -= f->side[0].lost + f->side[1].lost;
    must(f->end != FLOW_OPEN, "end");
}

static void
lower_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    struct lower *l = user;
    (void)frame;
    must(r < REMARK_COUNT && detail != NULL, "remark");
    l->sum += strlen(detail);
}

static const struct capture_events capture_news = { lower_frame, lower_keys, NULL, lower_remark,
    lower_soon };
static const struct packet_events packet_news = { .packet = lower_packet, .remark = lower_remark };
static const struct flow_events flow_news = { lower_opened, lower_data, lower_gap, lower_closed,
    lower_remark, NULL };

static const char *
fuzz_file(const uint8_t *at, size_t len)
{
    static char name[40];
    if (name[0] == '\0') {
        const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(name, sizeof name, "%s/fuzz_capture.XXXXXX", folder);
        close(mkstemp(name));
    }
    FILE *f = fopen(name, "wb");
    must(f != NULL && fwrite(at, 1, len, f) == len && fclose(f) == 0, "temporary file");
    return name;
}

int
LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    /* small ceilings, so that they are met; a filter for half of the inputs */
    struct flow_options o = { .flows_max = 16, .pending_max = 4096, .pending_side_max = 2048,
        .seed = { 1, 2 } };
    struct capture_options co = { .filter = len % 2 == 0 ? "tcp or vlan or ip6" : NULL };
    struct lower l = { .packets = NULL };
    char why[300];
    const char *name = fuzz_file(at, len);
    struct capture *c = capture_new(&co, &capture_news, &l, why, sizeof why);
    l.packets = packet_new(&packet_news, &l);
    l.flows = flow_new(len % 4 < 2 ? &o : NULL, &flow_news, &l);
    must(c != NULL, "capture_new");
    if (capture_add_file(c, name, why, sizeof why) && co.filter == NULL) {
        while (capture_push(c, 100) != CAPTURE_DONE) {
        }
    } else if (capture_file_count(c) > 0) {
        /* numbers have holes where the filter leaves frames out: read without the other stages */
        static const struct capture_events quiet = { NULL, NULL, NULL, NULL, NULL };
        capture_free(c);
        c = capture_new(&co, &quiet, NULL, why, sizeof why);
        must(c != NULL && capture_add_file(c, name, why, sizeof why), "again");
        while (capture_push(c, 100) != CAPTURE_DONE) {
        }
    }
    packet_end(l.packets);
    flow_end(l.flows);
    must(l.opened == l.closed && l.bytes == 0 && l.lost == 0, "everything closed and counted");
    must(flow_count(l.flows).open == 0 && flow_count(l.flows).pending == 0, "nothing left");
    packet_free(l.packets);
    flow_free(l.flows);
    capture_free(c);
    unlink(name);
    return 0;
}
