/* pool.h -- pieces of memory of one size, close together
 *
 * What belongs to a connection is a handful of structs of fixed sizes, made when it opens and given
 * back when it closes.  With many connections open each packet meets memory that was not used for
 * a while, and then it is the translation of addresses that costs, more than the bytes: pieces come
 * in slabs of the size of a huge page.  No slab is given back while there is work: memory is that
 * of the most connections that were open.
 */
#ifndef XMPPEDGE_ANALYZE_POOL_H
#define XMPPEDGE_ANALYZE_POOL_H

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

/* 0: each piece is memory of its own, so that sanitizers see who uses it too late. */
#ifndef POOL_SLAB
#ifdef __SANITIZE_ADDRESS__
#define POOL_SLAB 0
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define POOL_SLAB 0
#endif
#endif
#endif
#ifndef POOL_SLAB
#define POOL_SLAB ((size_t)2 * 1024 * 1024)
#endif

#define POOL_LINE ((size_t)64)     /* bytes that come from memory together: pieces begin there */

/* Begins a slab, and a piece that nobody uses. */
struct pool_link {
    struct pool_link *next;
};

/* Zero is an empty pool, but for the size. */
struct pool {
    size_t            size;        /* bytes of a piece */
    struct pool_link *unused;
    struct pool_link *slabs;       /* owned */
};

static inline struct pool_link *
pool_at(void *slab, size_t offset)
{
    return (struct pool_link *)(void *)((unsigned char *)slab + offset);
}

static inline void
pool_grow(struct pool *p)
{
    size_t step = (p->size + POOL_LINE - 1) / POOL_LINE * POOL_LINE;
    void *slab = NULL;
    if (posix_memalign(&slab, POOL_SLAB, POOL_SLAB) != 0)
        return;
#ifdef MADV_HUGEPAGE
    madvise(slab, POOL_SLAB, MADV_HUGEPAGE);   /* a wish: nothing depends on it */
#endif
    pool_at(slab, 0)->next = p->slabs;
    p->slabs = slab;
    for (size_t at = (POOL_SLAB - POOL_LINE) / step; at-- > 0; ) {
        struct pool_link *piece = pool_at(slab, POOL_LINE + at * step);
        piece->next = p->unused;
        p->unused = piece;
    }
}

/* A piece with any content; NULL: no memory. */
static inline void *
pool_get(struct pool *p)
{
    if (POOL_SLAB == 0)
        return malloc(p->size);
    if (p->unused == NULL)
        pool_grow(p);
    struct pool_link *piece = p->unused;
    if (piece != NULL)
        p->unused = piece->next;
    return piece;
}

/* NULL is allowed. */
static inline void
pool_put(struct pool *p, void *at)
{
    struct pool_link *piece = at;
    if (POOL_SLAB == 0) {
        free(at);
    } else if (piece != NULL) {
        piece->next = p->unused;
        p->unused = piece;
    }
}

/* All pieces with their slabs, also those that are in use. */
static inline void
pool_free(struct pool *p)
{
    while (p->slabs != NULL) {
        struct pool_link *next = p->slabs->next;
        free(p->slabs);
        p->slabs = next;
    }
    p->unused = NULL;
}

#endif
