/* scenes.h -- scenes that are played while memory is refused
 *
 *      PROGRAM [-a] [-m N] [-k N] [SCENE] ...
 *
 * A scene is a function that says in words of its own what may come of it.  It is played with all
 * memory, and then for each place twice: one request fails, or it and all behind it.  -a tries all
 * places, -m N so many, chosen evenly; -k N takes the Nth request and no other, and tells who that
 * was.  Words choose scenes whose names contain one. */
#ifndef SCENES_H
#define SCENES_H

#include "memory.h"

#include <signal.h>
#include <unistd.h>

#define FEW 8      /* places of a scene, every day */

struct scene {
    const char *name;
    void      (*play)(void);
    bool        is_short;    /* every request is tried, also of one place */
};

static struct {
    FILE       *tap;         /* standard output belongs to what is tested */
    const char *name;
    bool        is_good;     /* in the present run */
} scene;

static void
tell_where(void)
{
    fprintf(scene.tap, "# %s -k %lu, %s\n", scene.name, memory.fails_at,
        memory.always ? "always" : "once");
    fflush(scene.tap);
}

static void
must(bool ok, const char *what)
{
    if (ok)
        return;
    scene.is_good = false;
    tell_where();
    fprintf(scene.tap, "#   this must hold: %s\n", what);
}

/* Nothing has been refused in this run: then all must be well. */
static bool
had_memory(void)
{
    return memory.failed == 0;
}

static bool
scene_play(const struct scene *s, unsigned long n, bool always)
{
    size_t before = memory_in_use();
    scene.is_good = true;
    memory_fail(n, always);
    s->play();
    memory_runs(false);
    must(!memory_leaks(before), "nothing leaks");
    return scene.is_good;
}

/* The ith of the requests that are tried. */
static unsigned long
scene_request(const struct scene *s, size_t i, size_t tried)
{
    return s->is_short ? i + 1 : memory_map->first[i * memory_map->count / tried];
}

static bool
scene_play_all(const struct scene *s, size_t most, unsigned long only)
{
    bool ok;
    size_t all, tried, i;
    memory_look_for_places(true);
    ok = scene_play(s, 0, false);
    memory_look_for_places(false);
    all = s->is_short ? memory.seen : memory_map->count;
    tried = only > 0 ? 1 : s->is_short || all < most ? all : most;
    for (i = 0; ok && i < tried; i++) {
        unsigned long n = only > 0 ? only : scene_request(s, i, tried);
        ok = scene_play(s, n, false) && scene_play(s, n, true);
    }
    fprintf(scene.tap, "%sok - %s, no memory at %lu of %lu %s\n", ok ? "" : "not ", s->name,
        (unsigned long)tried, (unsigned long)all, s->is_short ? "requests" : "places");
    fflush(scene.tap);
    return ok;
}

static bool
scene_is_wanted(const char *name, char *const *words)
{
    size_t i;
    for (i = 0; words[i] != NULL; i++)
        if (strstr(name, words[i]) != NULL)
            return true;
    return i == 0;
}

/* The exit status.  `open` makes what all scenes need. */
static int
scenes_run(int argc, char **argv, const struct scene *scenes, size_t n, bool (*open)(void))
{
    size_t most = FEW, played = 0, failed = 0, i;
    unsigned long only = 0;
    int option;
    signal(SIGPIPE, SIG_IGN);
    while ((option = getopt(argc, argv, "am:k:")) != -1) {
        if (option == 'k')
            memory.tells = (only = strtoul(optarg, NULL, 10)) > 0;
        else
            most = option == 'm' ? strtoul(optarg, NULL, 10) : SIZE_MAX;
    }
    scene.tap = fdopen(dup(1), "w");
    if (scene.tap == NULL || freopen("/dev/null", "w", stdout) == NULL || !memory_open() || !open())
        return 99;
#ifdef MEMORY_SANITIZED
    __sanitizer_set_death_callback(tell_where);
#endif
    for (i = 0; i < n; i++) {
        scene.name = scenes[i].name;
        if (!scene_is_wanted(scene.name, argv + optind))
            continue;
        played++;
        failed += !scene_play_all(&scenes[i], most, only);
    }
    fprintf(scene.tap, "1..%lu\n", (unsigned long)played);
    fclose(scene.tap);
    return failed == 0 ? 0 : 1;
}

#endif
