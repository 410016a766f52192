/* clock.c -- the time of day, wrong by as many seconds as the file CLOCK_SHIFT says.
 *
 * It stands in front of a program (LD_PRELOAD).  The monotonic clock stays as it is: nobody can
 * set that.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static long
shift(void)
{
    static const char *text;
    const char *path = getenv("CLOCK_SHIFT");
    if (text == NULL && path != NULL) {
        void *at = mmap(NULL, 16, PROT_READ, MAP_SHARED, open(path, O_RDONLY | O_CLOEXEC), 0);
        text = at == MAP_FAILED ? NULL : at;
    }
    return text == NULL ? 0 : atol(text);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += shift();
    return status;
}

time_t
time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL)
        *at = now.tv_sec;
    return now.tv_sec;
}
