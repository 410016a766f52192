/* fuzz_log.c -- log.c fed with anything
 *
 * The input is one byte, and a log.  However it is cut the same is read; texts end, and every entry
 * names an end of a connection.
 */
#include "../../analyze/log.h"

#include "../fuzz/fuzz_main.h"

struct sum {
    uint64_t entries;
    uint64_t hash;
};

static void
add_bytes(struct sum *s, const void *at, size_t len)
{
    for (const unsigned char *b = at; len > 0; b++, len--)
        s->hash = (s->hash ^ *b) * UINT64_C(0x100000001B3);
}

static void
add_text(struct sum *s, const char *text, size_t size)
{
    const char *end = memchr(text, '\0', size);
    must(end != NULL, "a text ends");
    add_bytes(s, text, (size_t)(end - text));
}

static void
on_entry(void *user, const struct log_entry *e)
{
    struct sum *s = user;
    s->entries++;
    must(e->peer.port != 0 && e->peer.address.family != 0, "somebody was connected");
    must(e->kind == LOG_PAIRED || e->word[0] != '\0', "there is a reason");
    must(e->why <= XE_WHY_COUNT, "the reason is one of the list, or none");
    must(e->time_ns >= 0, "the time is one");
    add_text(s, e->event, sizeof e->event);
    add_text(s, e->state, sizeof e->state);
    add_text(s, e->hop, sizeof e->hop);
    add_text(s, e->word, sizeof e->word);
    add_text(s, e->cert, sizeof e->cert);
    add_text(s, e->detail, sizeof e->detail);
    add_text(s, e->local, sizeof e->local);
    add_text(s, e->remote, sizeof e->remote);
    add_bytes(s, &e->time_ns, sizeof e->time_ns);
    add_bytes(s, e->own.address.bytes, sizeof e->own.address.bytes);
}

static struct log_counts
read_pieces(const char *text, size_t len, size_t piece, struct sum *s)
{
    static const struct log_events events = { on_entry };
    struct log_reader *r = log_new(&events, s);
    struct log_counts c;
    must(r != NULL, "there is memory");
    for (; len > 0; text += piece, len -= piece) {
        piece = piece < len ? piece : len;
        log_push(r, text, piece);
    }
    log_finish(r);
    c = log_count(r);
    log_free(r);
    return c;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sum whole = { 0, 1 }, pieces = { 0, 1 };
    struct log_counts a, b;
    const char *text = (const char *)data + 1;
    if (size < 2 || size > 65536)
        return 0;
    a = read_pieces(text, size - 1, size - 1, &whole);
    b = read_pieces(text, size - 1, data[0] % 64 + 1u, &pieces);
    must(a.lines == b.lines && a.others == b.others && a.entries == b.entries
        && a.first_ns == b.first_ns && a.last_ns == b.last_ns, "pieces make no difference");
    must(whole.entries == a.entries && whole.hash == pieces.hash && pieces.entries == b.entries,
        "the same entries");
    return 0;
}
