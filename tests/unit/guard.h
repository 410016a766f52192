/* guard.h -- input whose last byte is followed by memory that cannot be read
 *
 * A parser that looks one byte too far stops the test program at once.  guard_put() places bytes
 * right before an unreadable page; the place is used again by the next call. */
#ifndef GUARD_H
#define GUARD_H

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_PAGES 160       /* readable pages of 4096 bytes, rounded up to the system's */

struct guard {
    char  *base;              /* mapped */
    size_t size;              /* readable bytes */
};

static struct guard
guard_make(void)
{
    struct guard g = { NULL, (size_t)GUARD_PAGES * 4096 };
    size_t page = 65536;      /* no system here has larger ones */
    int zero = open("/dev/zero", O_RDWR);   /* anonymous mappings are not in POSIX.1-2008 */
    g.base = mmap(NULL, g.size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    close(zero);
    if (g.base == MAP_FAILED || mprotect(g.base + g.size, page, PROT_NONE) != 0)
        abort();
    return g;
}

static char *
guard_put(const struct guard *g, const char *bytes, size_t len)
{
    char *at = g->base + g->size - len;
    if (len > g->size)
        abort();
    if (len > 0)
        memmove(at, bytes, len);
    return at;
}

#endif
