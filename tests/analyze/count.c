/* count.c -- the lower three stages alone: how many TCP connections are in a file
 *
 *      count [-f FILTER] [-v] [-t] FILE ...
 *
 * One line for each file: connections, frames, name.  -v adds a line for each connection, remarks
 * and drops; -t the time-outs that the program itself uses.  Without -t no connection ends by
 * silence, which is how tshark counts: `tshark -r FILE -q -z conv,tcp`.  Several files with -m are
 * merged into one run. Exit status 1: a file was damaged or could not be opened.
 */
#include "../../analyze/flow.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct run {
    struct packet_reader *packets;
    struct flow_table    *flows;
    bool                  verbose;
    uint64_t              data, gaps, bytes, packet_count;
    uint64_t sum; /* of all content: reading must not be optimised away */
    uint64_t              remarks[REMARK_COUNT];
};

static void
run_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    struct run *run = user;
    if (run->remarks[r]++ == 0 && run->verbose)
        printf("  remark %d frame %" PRIu64 ": %s\n", (int)r, frame, detail);
}

static void
run_frame(void *user, const struct frame *f)
{
    struct run *run = user;
    packet_push(run->packets, f);
}

static void
run_soon(void *user, const struct frame *frames, size_t n)
{
    struct run *run = user;
    struct packet soon[CAPTURE_BATCH];
    flow_expect(run->flows, soon, packet_peek(frames, n, soon));
}

static void
run_drops(void *user, uint32_t interface, uint64_t n)
{
    struct run *run = user;
    if (run->verbose)
        printf("  interface %u dropped %" PRIu64 "\n", interface, n);
}

static void
run_keys(void *user, const char *text, size_t len)
{
    struct run *run = user;
    if (run->verbose && text != NULL)
        printf("  keys: %zu bytes\n", len);
}

static void
run_packet(void *user, const struct packet *p)
{
    struct run *run = user;
    run->packet_count++;
    flow_push(run->flows, p);
}

static void
run_data(void *user, struct flow *f, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct run *run = user;
    (void)f;
    (void)side;
    (void)frame;
    (void)time_ns;
    run->data++;
    run->bytes += len;
    run->sum += at[0];
}

static void
run_gap(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame, int64_t time_ns)
{
    struct run *run = user;
    (void)time_ns;
    run->gaps++;
    if (run->verbose) {
        printf("  gap %" PRIu64 " of %" PRIu64 " side %d frame %" PRIu64 "\n", missing, f->number,
            side, frame);
    }
}

static void
run_closed(void *user, struct flow *f)
{
    struct run *run = user;
    char a[46];
    char b[46];
    if (!run->verbose)
        return;
    printf("  %" PRIu64 " %s:%u -> %s:%u by %s%s%s, %s; %" PRIu64 "+%" PRIu64 " bytes, %" PRIu64
        "+%" PRIu64 " packets, %" PRIu64 "+%" PRIu64 " retransmitted, %" PRIu64 "+%" PRIu64
        " lost, icmp %d, syns %u+%u, if %u\n",
        f->number, address_text(&f->side[0].address, a, sizeof a), f->side[0].port,
        address_text(&f->side[1].address, b, sizeof b), f->side[1].port,
        flow_evidence_word(f->evidence), f->midstream ? ", midstream" : "",
        f->established ? ", established" : "", flow_end_word(f->end), f->side[0].bytes,
        f->side[1].bytes, f->side[0].packets, f->side[1].packets, f->side[0].retransmitted,
        f->side[1].retransmitted, f->side[0].lost, f->side[1].lost, (int)f->icmp, f->side[0].syns,
        f->side[1].syns, f->interface);
}

static const struct capture_events capture_news = { run_frame, run_keys, run_drops, run_remark,
    run_soon };
static const struct packet_events packet_news = { .packet = run_packet, .remark = run_remark };
static const struct flow_events flow_news = { NULL, run_data, run_gap, run_closed, run_remark,
    NULL };

static void
run_print(const struct run *run, struct capture *c, const char *name)
{
    struct flow_counts n = flow_count(run->flows);
    printf("%" PRIu64 " %" PRIu64 " %s\n", n.flows, capture_file_count(c) == 0 ? 0
        : capture_file_at(c, 0)->frames, name);
    if (!run->verbose)
        return;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double s = (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6
        + (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6;
    printf("  packets %" PRIu64 ", data %" PRIu64 ", bytes %" PRIu64 ", gaps %" PRIu64
        ", open most %u, "
        "pending most %zu, cpu %.3f s, %ld kB\n",
        run->packet_count, run->data, run->bytes, run->gaps, n.open_most, n.pending_most, s,
        u.ru_maxrss);
}

static bool
run_files(char **files, int count, const char *filter, bool verbose, bool timeouts)
{
    struct flow_options o = { 0 };
    if (!timeouts)
        o.idle_ns = o.unanswered_ns = o.linger_ns = INT64_MAX / 4;
    struct run run = { .verbose = verbose };
    struct capture_options co = { .filter = filter };
    char why[256] = "";
    struct capture *c = capture_new(&co, &capture_news, &run, why, sizeof why);
    bool ok = c != NULL;
    run.packets = packet_new(&packet_news, &run);
    run.flows = flow_new(&o, &flow_news, &run);
    for (int i = 0; ok && i < count; i++)
        ok = capture_add_file(c, files[i], why, sizeof why);
    if (!ok) {
        fprintf(stderr, "%s: %s\n", files[0], why);
    } else {
        while (capture_push(c, 4096) != CAPTURE_DONE) {
        }
        packet_end(run.packets);
        flow_end(run.flows);
        for (size_t i = 0; i < capture_file_count(c); i++)
            ok = ok && !capture_file_at(c, i)->cut && !capture_file_at(c, i)->damaged;
    }
    if (c != NULL)
        run_print(&run, c, files[0]);
    packet_free(run.packets);
    flow_free(run.flows);
    capture_free(c);
    return ok;
}

int
main(int argc, char **argv)
{
    const char *filter = NULL;
    bool verbose = false;
    bool timeouts = false;
    bool merge = false;
    bool ok = true;
    int o;
    while ((o = getopt(argc, argv, "f:vtm")) != -1) {
        filter = o == 'f' ? optarg : filter;
        verbose = verbose || o == 'v';
        timeouts = timeouts || o == 't';
        merge = merge || o == 'm';
        if (o == '?')
            return 2;
    }
    if (merge)
        return run_files(argv + optind, argc - optind, filter, verbose, timeouts) ? 0 : 1;
    for (int i = optind; i < argc; i++)
        ok = run_files(argv + i, 1, filter, verbose, timeouts) && ok;
    return ok ? 0 : 1;
}
