/* fuzz_keylog.c -- the key log of tls.c fed with anything
 *
 * The input is one byte, and a key log.  However it is cut the same is read, every secret that is
 * kept stands in the text, and a line that is asked for again changes nothing.
 */
#include "../../analyze/base.h"
#include "../../analyze/tls.c"

#include "../fuzz/fuzz_main.h"

static struct tls_keys *
read_pieces(const char *text, size_t len, size_t piece)
{
    struct tls_keys *k = tls_keys_new();
    while (len > 0) {
        size_t some = len < piece ? len : piece;
        tls_keys_add(k, text, some);
        text += some;
        len -= some;
    }
    tls_keys_end(k);
    return k;
}

/* Whether these bytes stand in the text as digits, in either case. */
static bool
is_written(const char *text, size_t len, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i + 2 * n <= len; i++) {
        size_t same = 0;
        while (same < n && hex_digit(text[i + 2 * same]) == bytes[same] >> 4
            && hex_digit(text[i + 2 * same + 1]) == (bytes[same] & 15))
            same++;
        if (same == n)
            return true;
    }
    return false;
}

/* A NUL ends no line, but spoils it: in the text that is compared there is none. */
static void
check_secrets(const struct secrets *s, const char *text, size_t len)
{
    bool any = false;
    must(is_written(text, len, s->random, RANDOM_LEN), "a session is one of the log");
    must(!s->used, "nothing was opened yet");
    for (int i = 0; i < SECRET_KINDS; i++) {
        must(s->len[i] <= SECRET_MAX, "a secret has its ceiling");
        must(is_written(text, len, s->secret[i], s->len[i]), "a secret is one of the log");
        any = any || s->len[i] > 0;
    }
    must(any, "a session has a secret");
}

static void
check_table(const struct tls_keys *k, const char *text, size_t len)
{
    size_t found = 0;
    size_t used, unused;
    for (size_t i = 0; i < k->slots; i++) {
        if (k->slot[i] == NULL)
            continue;
        found++;
        must(keys_find(k, k->slot[i]->random) == k->slot[i], "a session is found");
        check_secrets(k->slot[i], text, len);
    }
    tls_keys_count(k, &used, &unused);
    must(found == k->count && used == 0 && unused == found, "sessions are counted");
    must(k->line_len == 0 && !k->line_bad, "the last line is over");
    must(k->lines >= k->count, "a session comes of a line");
}

static void
check_same(const struct tls_keys *a, const struct tls_keys *b)
{
    must(a->count == b->count && a->slots == b->slots && a->lines == b->lines,
        "pieces make no difference");
    for (size_t i = 0; i < a->slots; i++) {
        must((a->slot[i] == NULL) == (b->slot[i] == NULL), "the same slots");
        must(a->slot[i] == NULL || memcmp(a->slot[i], b->slot[i], sizeof *a->slot[i]) == 0,
            "the same secrets");
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 65536)
        return 0;
    const char *text = (const char *)data + 1;
    size_t len = size - 1;
    struct tls_keys *whole = read_pieces(text, len, len);
    struct tls_keys *pieces = read_pieces(text, len, data[0] % 64 + 1u);
    check_table(whole, text, len);
    check_same(whole, pieces);
    size_t count = whole->count;
    tls_keys_add(whole, text, len);
    tls_keys_end(whole);
    must(whole->count == count || whole->slots > 64, "a session is known again");
    tls_keys_free(whole);
    tls_keys_free(pieces);
    return 0;
}
