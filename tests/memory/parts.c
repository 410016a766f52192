/* parts.c -- buffers, the tokenizer, trees, tables, the loop and queues without memory
 *
 * Each is compared with what it must hold when it has taken some things and others not.  With poll:
 * with epoll the kernel has the memory of the loop. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#define XMPPEDGE_POLL 1

#include "cut/QUEUE.c"

#include "scenes.h"

#define MANY         300   /* things: every table grows several times */
#define FEW_NETWORKS 60    /* each has memory of its own */

/* ---- buffers ---- */

/* Pieces of all sizes, put in all the ways that there are, until one has no room. */
static void
put_pieces(struct buf *b)
{
    struct buf part = { 0 };
    unsigned i;
    for (i = 0; i < MANY; i++) {
        buf_putu(b, i);
        buf_puts(b, i % 7 == 0 ? " a longer piece of text, that does not fit at once" : " ");
        buf_put_json(b, span_of("\"quoted\" and \x01"), i);
        buf_put_lines(b, span_of("two\nlines\x7f"));
        buf_puts(&part, "in a part of its own;");
        buf_add(b, &part);
        buf_clear(&part);
    }
    buf_free(&part);
}

/* What is in a buffer is what was put before the first piece that had no room, and it says so. */
static void
text_is_whole_or_said_not_to_be(void)
{
    struct buf whole = { 0 }, out = { 0 };
    size_t len;
    put_pieces(&whole);
    memory_runs(true);
    put_pieces(&out);
    memory_runs(false);
    len = buf_len(&out);
    must(out.failed == !had_memory(), "it is said");
    must(len <= buf_len(&whole) && memcmp(buf_at(&out), buf_at(&whole), len) == 0, "it begins so");
    must(out.failed || len == buf_len(&whole), "it is whole");
    memory_is_back();
    buf_clear(&out);
    put_pieces(&out);
    must(span_eq(buf_span(&out), buf_span(&whole)), "when memory is back it is whole");
    buf_free(&out);
    buf_free(&whole);
}

/* A buffer that is read from the front while it is filled at the end. */
static void
bytes_in_flight_stay_in_order(void)
{
    struct buf b = { 0 };
    unsigned char next_in = 0, next_out = 0;
    unsigned i;
    for (i = 1; i < MANY; i++) {
        size_t n = i * 5 % 211 + 1, taken = buf_len(&b) / 3, k;
        char *room;
        memory_runs(true);
        room = buf_room(&b, n);
        memory_runs(false);
        must(room != NULL || b.failed, "it is said that there is no room");
        must(room != NULL || !had_memory(), "there is room");
        for (k = 0; room != NULL && k < n; k++)
            room[k] = (char)next_in++;
        b.tail += room != NULL ? n : 0;
        b.failed = false;
        for (k = 0; k < taken; k++)
            must((unsigned char)buf_at(&b)[k] == next_out++, "in order");
        buf_skip(&b, taken);
    }
    must((unsigned char)(next_out + buf_len(&b)) == next_in, "and all of them");
    buf_free(&b);
}

/* ---- elements ---- */

static const char header[] = "<?xml version='1.0'?><s:stream xmlns='jabber:server'"
    " xmlns:db='jabber:server:dialback' xmlns:s='http://etherx.jabber.org/streams'"
    " xml:lang='de' version='1.0'>";

static const char plain[] = "<message from='a@b.example' to='c@d.example'><body>1</body></message>";
static const char odd[] = "<message from='a@b.example' to='c@d.example'><body><![CDATA["
    "<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&<&]]></body>"
    "<x xmlns='urn:x' a='1'><y/></x><db:z/></message>";
static const char *const stanzas[] = { plain, odd };

/* The next event of `text`, which is one. */
static bool
read_next(struct xe_xml *x, const char *text, struct xe_xml_event *event)
{
    size_t used;
    enum xe_xml_result result;
    memory_runs(true);
    result = xe_xml_next(x, text, strlen(text), &used, event);
    memory_runs(false);
    must(result == (text == header ? XE_XML_HEADER : XE_XML_ELEMENT)
        || (!had_memory() && result == XE_XML_BAD && x->why == XE_WHY_OUT_OF_MEMORY),
        "it is read, or memory is out");
    return result != XE_XML_BAD;
}

/* The stanza for another stream; nothing of it where it does not fit. */
static void
write_stanza(const struct xe_xml *x, const struct xe_xml_event *event)
{
    struct buf whole = { 0 }, out = { 0 };
    bool ok;
    xmlout_stanza(&whole, x, event);
    memory_runs(true);
    ok = buf_puts(&out, "before ") && xmlout_stanza(&out, x, event);
    memory_runs(false);
    must(ok || !had_memory(), "it is written");
    must(ok ? buf_len(&out) == buf_len(&whole) + 7 : buf_len(&out) == 7 || out.failed,
        "or nothing of it is");
    must(!ok || memcmp(buf_at(&out) + 7, buf_at(&whole), buf_len(&whole)) == 0, "as it should be");
    buf_free(&out);
    buf_free(&whole);
}

static void
look_at_tree(const struct xe_xml *x, const struct xe_xml_event *event)
{
    struct elem e;
    memory_runs(true);
    e = elem_parse(x, event);
    memory_runs(false);
    must(e.at != NULL || !had_memory(), "there is a tree");
    must(e.at == NULL || elem_first(e).at != NULL, "with what is in it");
    elem_free(e);
}

/* A stream is read, or says why not; what it carries is written whole or not at all. */
static void
elements_are_whole_or_not_there(void)
{
    struct xe_xml_limits limits = { 0 };
    struct xe_xml_event event;
    struct xe_xml x;
    size_t i;
    xe_xml_init(&x, &limits);
    if (!read_next(&x, header, &event)) {
        memory_is_back();
        xe_xml_restart(&x);
        must(read_next(&x, header, &event), "memory is back, and another header is read");
    }
    for (i = 0; i < sizeof stanzas / sizeof *stanzas; i++)
        if (read_next(&x, stanzas[i], &event)) {
            write_stanza(&x, &event);
            look_at_tree(&x, &event);
        }
    xe_xml_free(&x);
}

/* ---- tables ---- */

struct thing {
    struct map_node node;
    unsigned        key;
    bool            is_in;
};

static struct xe_span
thing_key(const struct thing *t)
{
    return span_make((const char *)&t->key, sizeof t->key);
}

/* Each thing is in the table or was refused, also when the table could not grow. */
static void
map_has_what_it_took(void)
{
    static struct thing things[MANY];
    struct map m = { .seed = { 1, 2 } };
    size_t count = 0, i;
    for (i = 0; i < MANY; i++) {
        struct thing *t = &things[i];
        t->key = (unsigned)i;
        memory_runs(true);
        t->is_in = map_add(&m, &t->node, thing_key(t));
        memory_runs(false);
        must(t->is_in || !had_memory(), "it is taken");
        count += t->is_in;
        if (i % 3 == 2 && things[i - 1].is_in) {
            map_remove(&m, &things[i - 1].node);
            things[i - 1].is_in = false;
            count--;
        }
    }
    must(m.count == count, "the count is right");
    for (i = 0; i < MANY; i++)
        must((map_find(&m, thing_key(&things[i])) != NULL) == things[i].is_in, "it is found");
    map_free(&m);
}

static struct sockaddr_storage
address(unsigned i)
{
    struct sockaddr_storage a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a;
    memset(&a, 0, sizeof a);
    a.ss_family = i % 2 == 0 ? AF_INET : AF_INET6;
    if (i % 2 == 0)
        v4->sin_addr.s_addr = htonl(0xc6336400u + i);
    else
        inet_pton(AF_INET6, "2001:db8:1::1", &v6->sin6_addr);
    if (i % 2 != 0)
        v6->sin6_addr.s6_addr[5 + i % 3] = (unsigned char)i;
    return a;
}

/* What a network has is counted, or the network is not there; what is counted can be taken back. */
static void
networks_are_counted_or_not_there(void)
{
    static struct net_source *sources[FEW_NETWORKS];
    struct net_book b = { .map = { .seed = { 1, 2 } } };
    unsigned i;
    net_book_open(&b);
    for (i = 0; i < FEW_NETWORKS; i++) {
        struct sockaddr_storage a = address(i);
        memory_runs(true);
        sources[i] = net_source_of(&b, &a);
        memory_runs(false);
        must(sources[i] != NULL || !had_memory(), "it is there");
        if (sources[i] != NULL) {
            net_count(&b, sources[i], NET_CONNECTIONS, 1);
            must(net_load(sources[i], NET_CONNECTIONS) > 0, "it is counted");
        }
    }
    for (i = 0; i < FEW_NETWORKS; i++)
        if (sources[i] != NULL)
            net_count(&b, sources[i], NET_CONNECTIONS, -1);
    for (i = 0; i < FEW_NETWORKS; i++)
        must(sources[i] == NULL || net_load(sources[i], NET_CONNECTIONS) == 0, "and taken back");
    net_book_close(&b);
}

/* What is ours is known whole, or not at all: then nothing is dialled. */
static void
own_addresses_are_whole_or_not_there(void)
{
    struct sockaddr_storage external = address(0), internal = address(1);
    const struct sockaddr *const own[] = { (const struct sockaddr *)&internal,
        (const struct sockaddr *)&external, NULL };
    struct reach_machine whole = { 0 }, m = { 0 };
    bool ok;
    reach_machine_read(&whole, 0, own);
    memory_runs(true);
    ok = reach_machine_read(&m, 0, own);
    memory_runs(false);
    must(ok || !had_memory(), "it is known");
    must(m.nown == (ok ? whole.nown : 0), "it is whole");
    memory_is_back();
    must(reach_machine_read(&m, 0, own) && m.nown == whole.nown, "later it is");
    reach_machine_free(&m);
    reach_machine_free(&whole);
}

/* ---- the loop ---- */

struct end {
    struct loop_watch watch;
    int               other;
    unsigned          calls;
};

static void
end_ready(struct loop_watch *w, unsigned events)
{
    char bytes[8];
    must((events & LOOP_READ) != 0 && read(w->fd, bytes, sizeof bytes) > 0, "it can be read");
    MAP_OWNER(w, struct end, watch)->calls++;
}

static void
end_open(struct end *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(99);
    *e = (struct end){ { .fd = pair[0], .ready = end_ready }, pair[1], 0 };
}

/* Who is watched is served, and nobody else; who could not be watched can be later. */
static void
loop_serves_whom_it_watches(void)
{
    static struct end ends[MANY];
    static struct loop l;
    size_t i;
    loop_open(&l);
    for (i = 0; i < MANY; i++) {
        bool ok;
        end_open(&ends[i]);
        memory_runs(true);
        ok = loop_watch_set(&l, &ends[i].watch, LOOP_READ);
        memory_runs(false);
        must(ok || !had_memory(), "it is watched");
        must(ok == (ends[i].watch.events == LOOP_READ), "and it knows");
        must(write(ends[i].other, "x", 1) == 1, "there is room");
    }
    memory_runs(true);
    must(loop_step(&l, 0) && loop_step(&l, 0), "the loop goes on");
    memory_runs(false);
    for (i = 0; i < MANY; i++)
        must(ends[i].calls == (ends[i].watch.events != 0), "who is watched is served once");
    memory_is_back();
    for (i = 0; i < MANY; i++)
        must(loop_watch_set(&l, &ends[i].watch, LOOP_READ), "later it is watched");
    must(loop_step(&l, 0) && loop_step(&l, 0), "the loop goes on");
    for (i = 0; i < MANY; i++) {
        must(ends[i].calls == 1, "and served");
        loop_watch_set(&l, &ends[i].watch, 0);
        close(ends[i].watch.fd);
        close(ends[i].other);
    }
    loop_close(&l);
}

/* ---- queues ---- */

/* The number of the stanza stands in it. */
static bool
write_numbered(struct queue *q, unsigned i)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%u %.*s", i, (int)(i % 29),
        "............................");
    bool ok;
    memory_runs(true);
    ok = buf_put(&q->bytes, span_make(text, (size_t)len)) && queue_add(q, (size_t)len, NULL);
    memory_runs(false);
    q->bytes.failed = false;
    must(ok || !had_memory(), "it is taken");
    return ok;
}

/* What has been taken comes out, in order, sent or not. */
static void
queue_has_what_it_took(void)
{
    static unsigned taken[MANY];
    struct queue q = { .sent = 0 };
    size_t first = 0, last = 0, n;
    unsigned i;
    for (i = 0; i < MANY; i++) {
        taken[last] = i;
        last += write_numbered(&q, i);
        must(q.count == last - first, "the count is right");
        if (i % 5 == 0)
            queue_send(&q, 0, 100, SIZE_MAX, &n);
        if (i % 40 == 39)
            queue_rewind(&q);
        if (i % 3 == 0 && q.count > 0) {
            must(strtoul(queue_oldest(&q).at, NULL, 10) == taken[first++], "it is the oldest");
            queue_release(&q);
        }
    }
    for (; q.count > 0; first++) {
        must(strtoul(queue_oldest(&q).at, NULL, 10) == taken[first], "in order");
        queue_release(&q);
    }
    must(first == last && buf_len(&q.bytes) == 0, "all of them");
    queue_free(&q);
}

static const struct scene scenes[] = {
    { "text_is_whole_or_said_not_to_be", text_is_whole_or_said_not_to_be, true },
    { "bytes_in_flight_stay_in_order", bytes_in_flight_stay_in_order, true },
    { "elements_are_whole_or_not_there", elements_are_whole_or_not_there, true },
    { "map_has_what_it_took", map_has_what_it_took, true },
    { "networks_are_counted_or_not_there", networks_are_counted_or_not_there, true },
    { "own_addresses_are_whole_or_not_there", own_addresses_are_whole_or_not_there, true },
    { "loop_serves_whom_it_watches", loop_serves_whom_it_watches, true },
    { "queue_has_what_it_took", queue_has_what_it_took, true },
};

static bool
is_ready(void)
{
    return true;
}

int
main(int argc, char **argv)
{
    return scenes_run(argc, argv, scenes, sizeof scenes / sizeof *scenes, is_ready);
}
