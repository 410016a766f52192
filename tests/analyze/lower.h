/* lower.h -- for tests of capture.c, packet.c and flow.c: bytes built by hand, transcripts, a
 * guard page
 *
 * A transcript is what a stage has said, one word or line after the other; tests compare it as a
 * whole, so that what should not have been said is seen too.
 */
#ifndef LOWER_H
#define LOWER_H

#include "../../analyze/flow.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- bytes ---- */

struct bytes {
    unsigned char at[90000];
    size_t        len;
    bool          little;     /* order of put16 and put32 */
};

static inline void
put8(struct bytes *b, unsigned v)
{
    b->at[b->len++] = (unsigned char)v;
}

static inline void
put16(struct bytes *b, unsigned v)
{
    put8(b, b->little ? v : v >> 8);
    put8(b, b->little ? v >> 8 : v);
}

static inline void
put32(struct bytes *b, uint32_t v)
{
    put16(b, b->little ? v & 0xFFFF : v >> 16);
    put16(b, b->little ? v >> 16 : v & 0xFFFF);
}

static inline void
put_bytes(struct bytes *b, const void *at, size_t len)
{
    if (len > 0)
        memcpy(b->at + b->len, at, len);
    b->len += len;
}

static inline void
put_fill(struct bytes *b, unsigned v, size_t len)
{
    memset(b->at + b->len, (int)v, len);
    b->len += len;
}

static inline void
patch16(struct bytes *b, size_t at, unsigned v)
{
    b->at[at] = (unsigned char)(v >> 8);
    b->at[at + 1] = (unsigned char)v;
}

/* Ones' complement sum over bytes, as a checksum is made: sum_done() gives the field. */
static inline uint32_t
sum_add(uint32_t sum, const unsigned char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 == 0 ? (uint32_t)at[i] << 8 : at[i];
    return sum;
}

static inline unsigned
sum_done(uint32_t sum)
{
    while (sum > 0xFFFF)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return ~sum & 0xFFFF;
}

/* ---- packets: 192.0.2.1:40000 to 192.0.2.2:5269, or 2001:db8::1 to ::2 ---- */

static inline void
put_ethernet(struct bytes *b, unsigned type)
{
    put_fill(b, 2, 12);
    put16(b, type);
}

static inline void
put_ipv4(struct bytes *b, unsigned protocol, size_t payload, unsigned fragment, unsigned id)
{
    size_t at = b->len;
    put16(b, 0x4500);
    put16(b, (unsigned)(20 + payload));
    put16(b, id);
    put16(b, fragment);
    put8(b, 64);
    put8(b, protocol);
    put16(b, 0);
    put_bytes(b, "\xC0\x00\x02\x01\xC0\x00\x02\x02", 8);
    patch16(b, at + 10, sum_done(sum_add(0, b->at + at, 20)));
}

static inline void
put_ipv6(struct bytes *b, unsigned next, size_t payload)
{
    put32(b, 0x60000000);
    put16(b, (unsigned)payload);
    put8(b, next);
    put8(b, 64);
    put_bytes(b, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    put_bytes(b, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\2", 16);
}

/* The checksum is right when IPv4 with the addresses above is below. */
static inline void
put_tcp(struct bytes *b, unsigned flags, uint32_t seq, uint32_t ack, const char *text)
{
    size_t at = b->len;
    size_t len = strlen(text);
    put16(b, 40000);
    put16(b, 5269);
    put32(b, seq);
    put32(b, ack);
    put16(b, 0x5000 | flags);
    put16(b, 1000);
    put32(b, 0);
    put_bytes(b, text, len);
    uint32_t sum = sum_add(0, (const unsigned char *)"\xC0\x00\x02\x01\xC0\x00\x02\x02", 8);
    sum += 6 + 20 + (uint32_t)len;
    patch16(b, at + 16, sum_done(sum_add(sum, b->at + at, 20 + len)));
}

/* ---- guard page ---- */

enum { GUARD_SIZE = 40 * 4096, GUARD_AFTER = 65536 };

/* The same bytes, right before memory that cannot be read; the next call reuses the place. */
static inline const unsigned char *
guarded(const void *at, size_t len)
{
    static unsigned char *base;
    if (base == NULL) {
        int zero = open("/dev/zero", O_RDWR);
        base = mmap(NULL, GUARD_SIZE + GUARD_AFTER, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
        close(zero);
        if (base == MAP_FAILED || mprotect(base + GUARD_SIZE, GUARD_AFTER, PROT_NONE) != 0)
            abort();
    }
    if (len > GUARD_SIZE)
        abort();
    if (len > 0)
        memmove(base + GUARD_SIZE - len, at, len);
    return base + GUARD_SIZE - len;
}

/* ---- transcripts ---- */

struct transcript {
    char   text[131072];
    size_t len;
};

/* Adds to a transcript, as printf. */
#define say(t, ...) \
    ((t)->len += (t)->len >= sizeof (t)->text ? 0 \
        : (size_t)snprintf((t)->text + (t)->len, sizeof (t)->text - (t)->len, __VA_ARGS__))

#endif
