/* base.h -- what all of analyze/ stands on
 *
 * A stage includes its own header first, and every header begins here: feature macros, and the
 * headers of C that everybody uses, are said once.
 *
 * The conventions of all headers of analyze/:
 *
 *   STAGE_new    makes a stage; NULL: no memory.  STAGE_free(NULL) is allowed
 *   STAGE_push   takes one input, borrowed during the call; what comes of it is told during that
 *                call by the functions of STAGE_events, and borrowed by them
 *   ev, user     the table is borrowed until STAGE_free, its members may be NULL; user is what they
 *                are given
 *   ..._ns       nanoseconds since 1970, UTC, as the packets tell; 0: not seen
 *   frame        the number of a frame, as Wireshark shows it, from 1; 0: none
 *   side         of a connection: 0 its initiator, 1 its responder
 *   texts        end in NUL, are "" when there is nothing to say, never NULL; what strangers wrote
 *                may hold any bytes
 */
#ifndef XMPPEDGE_ANALYZE_BASE_H
#define XMPPEDGE_ANALYZE_BASE_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
/* For huge pages where there are any (pool.h); libpcap's header uses the old names of types. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#include "../xmppedge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000LL   /* in nanoseconds */

/* ---- memory; these end the program with a message when there is none ---- */

void *memory_or_exit(void *at);   /* what malloc has given */
void *memory_get(size_t len);     /* of zeros */

/* At least `need` bytes: what is at `at` (NULL: nothing), moved when it must be.  *cap is how many
 * there are; it doubles. */
void *memory_room(void *at, size_t *cap, size_t need);

/* ---- memory; with these a stage goes on without, and the program says so when it ends ---- */

void *memory_try(void *at);        /* what malloc has given, or NULL */
bool  memory_suffices(bool good);  /* what cannot fail but for memory was good */
bool  memory_is_there(void);       /* now: for who is not told why something failed */
bool  memory_was_short(void);      /* something was not there: the report is not whole */

/* Room for one more in a list that has n, of `size` bytes each.  NULL: no memory, and the list is
 * as it was. */
void *list_grow(void *list, size_t n, size_t size);

/* ---- numbers ---- */

/* FNV-1a: goes on from h, HASH at first.  For tables with a ceiling: it holds nobody off. */
#define HASH 2166136261u
uint32_t hash_bytes(uint32_t h, const void *at, size_t n);

/* ---- growing text ---- */

/* Zero is an empty one. */
struct text {
    char  *at;    /* owned; ends in NUL */
    size_t len;
    size_t cap;
};

void text_clear(struct text *t);   /* at is "" then, not NULL */
void text_put(struct text *t, const char *at, size_t len);
void text_join(struct text *t, ...);   /* strings; the last argument is a null pointer of char */
#define TEXT(t, ...) text_join(t, __VA_ARGS__, (const char *)NULL)
#define SET(t, ...) (text_clear(t), TEXT(t, __VA_ARGS__))   /* in place of what it was */
void text_free(struct text *t);

/* Print words from the column `indent` on, and from there in each further line: at most `width`
 * columns, unless a word is longer.  `column` is where the line is; returns where it is then. */
size_t text_wrap(FILE *to, size_t column, size_t indent, size_t width, const char *s);

bool text_is(struct xe_span s, const char *word);   /* the same bytes */

#endif
