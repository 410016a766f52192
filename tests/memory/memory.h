/* memory.h -- allocations that fail when a test says so
 *
 * Linked with --wrap for malloc(), calloc() and realloc(): what is linked statically calls what
 * stands here: xmppedge.c, mbed TLS and c-ares.  Mini-XML and the C library have their memory.
 *
 * The request that fails has a number, counted while the code under test runs; with `always`, so
 * does every one behind it, until memory_is_back().  Which numbers are worth it a run without
 * failure tells: requests that come the same way, through the same ten functions, are one place. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unwind.h>

#define MEMORY_PLACES 65536   /* told apart; a power of two */
#define MEMORY_WAYS   10      /* functions that make a place */

#if defined __SANITIZE_ADDRESS__
#define MEMORY_SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define MEMORY_SANITIZED 1
#endif
#endif

#ifdef MEMORY_SANITIZED
int __lsan_do_recoverable_leak_check(void);
size_t __sanitizer_get_current_allocated_bytes(void);
void __sanitizer_print_stack_trace(void);
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *at, size_t size);

static struct {
    bool          runs;       /* the code under test */
    bool          always;
    unsigned long fails_at;   /* 0: none */
    unsigned long seen;
    unsigned long failed;
    bool          tells;      /* on standard error, who is refused */
} memory;

/* Where memory is asked for.  Copies of the process share it. */
static struct memory_map {
    uint64_t      here[MEMORY_PLACES];   /* places met in this run, as a hash table; 0: none */
    uint64_t      ever[MEMORY_PLACES];   /* and in any */
    unsigned long first[MEMORY_PLACES];  /* the first request of each place in this run, in order */
    bool          is_new[MEMORY_PLACES]; /* and no other run had it */
    size_t        count;
    size_t        left;                  /* bytes that a run without failure leaves at its end */
    bool          looks;
} *memory_map;

struct memory_way {
    uint64_t hash;
    unsigned depth;
};

static _Unwind_Reason_Code
memory_step(struct _Unwind_Context *context, void *user)
{
    struct memory_way *way = user;
    way->hash = (way->hash ^ (uint64_t)_Unwind_GetIP(context)) * UINT64_C(0x9e3779b97f4a7c15);
    way->hash ^= way->hash >> 29;
    return ++way->depth < MEMORY_WAYS + 3 ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

/* False: it is there, or there is no room for it. */
static bool
memory_put(uint64_t *table, uint64_t hash)
{
    size_t i = (size_t)hash & (MEMORY_PLACES - 1);
    size_t tried = 0;
    while (table[i] != 0 && table[i] != hash && ++tried < MEMORY_PLACES)
        i = (i + 1) & (MEMORY_PLACES - 1);
    if (table[i] != 0)
        return false;
    table[i] = hash;
    return true;
}

/* Remember the request, if it is the first of its place. */
static void
memory_look(void)
{
    struct memory_way way = { 1, 0 };
    memory_map->looks = false;      /* the unwinder may ask for memory */
    _Unwind_Backtrace(memory_step, &way);
    memory_map->looks = true;
    way.hash |= way.hash == 0;
    if (!memory_put(memory_map->here, way.hash))
        return;
    memory_map->first[memory_map->count] = memory.seen;
    memory_map->is_new[memory_map->count++] = memory_put(memory_map->ever, way.hash);
}

/* Before the first run.  False: no memory for this. */
static bool
memory_open(void)
{
    memory_map = mmap(NULL, sizeof *memory_map, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory_map != MAP_FAILED;
}

static bool
memory_refuse(void)
{
    memory.failed++;
#ifdef MEMORY_SANITIZED
    if (memory.tells && memory.failed == 1)
        __sanitizer_print_stack_trace();
#endif
    return true;
}

static bool
memory_is_out(void)
{
    if (!memory.runs)
        return false;
    memory.seen++;
    if (memory_map->looks)
        memory_look();
    return memory.fails_at > 0
        && (memory.seen == memory.fails_at || (memory.always && memory.seen > memory.fails_at))
        && memory_refuse();
}

void *
__wrap_malloc(size_t size)
{
    return memory_is_out() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
    return memory_is_out() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *at, size_t size)
{
    return memory_is_out() ? NULL : __real_realloc(at, size);
}

static void
memory_runs(bool runs)
{
    memory.runs = runs;
}

/* The next run is looked at, and none after it. */
static void
memory_look_for_places(bool looks)
{
    if (looks) {
        memset(memory_map->here, 0, sizeof memory_map->here);
        memory_map->count = 0;
    }
    memory_map->looks = looks;
}

/* From now on the `n`th allocation fails, and with `always` what follows. */
static void
memory_fail(unsigned long n, bool always)
{
    memory.fails_at = n;
    memory.always = always;
    memory.seen = memory.failed = 0;
}

static void
memory_is_back(void)
{
    memory.fails_at = 0;
}

/* Bytes in use, by anybody. */
static size_t
memory_in_use(void)
{
#ifdef MEMORY_SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    return 0;
#endif
}

/* Whether something leaks.  Who has as many bytes as ought to be left need not be searched, which
 * costs more than most runs. */
static bool
memory_leaks(size_t left)
{
#ifdef MEMORY_SANITIZED
    return memory_in_use() != left && __lsan_do_recoverable_leak_check() != 0;
#else
    (void)left;
    return false;
#endif
}

#endif
