/* transcripts.c -- negotiations in which memory runs out
 *
 *      transcripts [-v] [-m N] [-k N] [FILE.talk | DIRECTORY] ...
 *
 * Each transcript is played as often as there are places in it where the instance asks for memory:
 * every time another request fails, in one round once, in another from then on until the transcript
 * is over.  -m N is content with N places, chosen evenly; -k N takes the Nth request and no other
 * and tells who that was; -v tells what was logged.  Without a file: a few transcripts, the long
 * ones in a few places only.
 *
 * Before the first step a file before-* is played: a bystander, with a stream of its own.  What the
 * transcript expects need not come any more.  But nothing crashes and nothing leaks (the sanitizers
 * know), the loop goes on, counts are true, and when memory is back after-* is played, word by
 * word: the bystander's stream stands and carries a stanza, and a stranger gets a new one. */
#define TALK_NO_MAIN
#include "../talk/talk.c"

#include "memory.h"

#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined MBEDTLS_SSL_PROTO_TLS1_3
/* Linked with --wrap, too: where these two find no memory for the second key, mbed TLS 3.6 frees
 * the struct that holds the first, and not the key.  What is asked for in there is not refused. */
#define WITH_MEMORY(function) \
    int __real_##function(mbedtls_ssl_context *ssl); \
    int __wrap_##function(mbedtls_ssl_context *ssl); \
    int \
    __wrap_##function(mbedtls_ssl_context *ssl) \
    { \
        bool runs = memory.runs; \
        int ret; \
        memory.runs = false; \
        ret = __real_##function(ssl); \
        memory.runs = runs; \
        return ret; \
    }
WITH_MEMORY(mbedtls_ssl_tls13_compute_handshake_transform)
WITH_MEMORY(mbedtls_ssl_tls13_compute_application_transform)
#endif

struct plan {
    size_t        most;      /* places of a transcript */
    bool          is_daily;  /* and of short ones all */
    unsigned long only;      /* this request; 0: all */
};

/* What has happened in a copy. */
struct outcome {
    bool          is_good;   /* all that holds always */
    bool          goes_on;   /* and after-* has been played */
    char          text[4000];
};

static size_t begins, ends;     /* steps of the transcript itself */

#define FEW   8     /* places of a long transcript, every day */
#define SHORT 100   /* places: of a long one those are left out that were tried before */

/* The instance's connections that the transcript has not met yet are hidden from before-*. */
static void
hide_unmet(const char *was, const char *is)
{
    size_t i;
    for (i = 0; i < talk.npeers; i++)
        if (strcmp(talk.peers[i].name, was) == 0)
            snprintf(talk.peers[i].name, sizeof talk.peers[i].name, "%s", is);
}

static bool
run_step(size_t at)
{
    size_t i;
    for (i = 0; i < sizeof talk_verbs / sizeof *talk_verbs; i++)
        if (strcmp(talk.steps[at].verb, talk_verbs[i].name) == 0)
            return talk_verbs[i].run(at);
    return talk_fail(&talk.steps[at], "unknown step");
}

static bool
run_strictly(size_t from, size_t to)
{
    for (; from < to; from++)
        if (!run_step(from))
            return false;
    return true;
}

static bool
needs_connection(const char *verb)
{
    static const char *const verbs[] = { "us", "tls", "no-tls", "shows", "asks", "closed", "alive",
        "hangup", "deaf" };
    size_t i;
    for (i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verb, verbs[i]) == 0)
            return true;
    return false;
}

/* What an expectation finds is of no matter; only what holds always is looked at. */
static bool
run_mildly(size_t from, size_t to)
{
    for (; from < to; from++) {
        const char *verb = talk.steps[from].verb;
        if (talk.on == NULL && needs_connection(verb))
            continue;
        /* that is a trunk of ours */
        talk_runs = strcmp(verb, "trunk-up") == 0 ? NULL : memory_runs;
        if (!run_step(from) && (strcmp(verb, "dialled") == 0 || strcmp(verb, "open") == 0))
            talk.on = NULL;
        talk_runs = memory_runs;
        if (!talk_rest(&talk.steps[from]))
            return false;
    }
    return true;
}

/* The trunk of the bystander's stanzas, where there is more than one.  A pair without a trunk takes
 * any, once what went by the old one has had its time: then those go away that after-* would not
 * look at. */
static void
find_trunk(void)
{
    bool edge = talk.edge->config->role == CONFIG_EDGE;
    struct route_pair *p = route_pair_find(&talk.edge->route,
        span_of(edge ? "by.example" : "also.near.example"),
        span_of(edge ? "near.example" : "by.example"));
    const char *name = p != NULL && p->trunk != NULL ? p->trunk->name : NULL;
    size_t i;
    for (i = 0; i < talk.npeers; i++)
        if (talk.peers[i].pilot && name != NULL && strcmp(talk.peers[i].name, name) == 0)
            talk.trunk = &talk.peers[i];
        else if (talk.peers[i].pilot && name == NULL && &talk.peers[i] != talk.trunk)
            talk_hang_up(&talk.peers[i]);
    talk.ahead_ms += name == NULL ? ROUTE_SETTLE_MS : 0;
}

/* The instance may have given up the trunk; nothing else may be missing. */
static bool
come_back(void)
{
    size_t i;
    memory_is_back();
    find_trunk();
    talk.hold_acks = false;
    talk.refuse = talk.silent = 0;
    hide_unmet("", "?");
    for (i = 0; i < talk.npeers; i++)
        talk.peers[i].deaf = false;
    if (talk.trunk == NULL || talk.trunk->eof || talk.trunk->fd < 0) {
        if (!talk_usual_trunk())
            return false;
    } else {
        talk_pilot_say(talk.trunk);
    }
    if (!talk_rest(NULL))
        return false;
    for (i = 0; i < talk.npeers; i++)
        talk.peers[i].seen = talk.peers[i].got.tail;
    return true;
}

static void
play_copy(unsigned long n, bool always, int fd)
{
    static struct outcome out;
    struct xe_span log;
    talk_unshare();
    memory_fail(n, always);
    memory_look_for_places(n == 0);
    out.is_good = run_mildly(begins, ends);
    memory_look_for_places(false);
    out.goes_on = out.is_good && come_back() && run_strictly(ends, talk.nsteps);
    log = span_make(talk.log.bytes, talk.log.tail);
    snprintf(out.text, sizeof out.text, "%.*s\n%.*s", (int)buf_len(&talk.error),
        out.goes_on ? "" : buf_at(&talk.error), log.len < 3000 ? (int)log.len : 3000, log.at);
    if (write(fd, &out, sizeof out) != (ssize_t)sizeof out)
        _exit(2);
    close(fd);
    buf_free(&talk.error);
    talk_clean();
    if (n == 0)
        memory_map->left = memory_in_use();
    if (n > 0 && memory_in_use() == memory_map->left)
        _exit(0);   /* as in memory_leaks() */
    exit(0);
}

/* In a copy of this process; its exit is the sanitizers' word. */
static struct outcome
play(unsigned long n, bool always)
{
    struct outcome out = { .is_good = false };
    ssize_t got;
    int status = 1;
    int fds[2];
    pid_t pid;
    if (pipe(fds) != 0)
        exit(99);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        play_copy(n, always, fds[1]);
    }
    close(fds[1]);
    got = read(fds[0], &out, sizeof out);
    close(fds[0]);
    waitpid(pid, &status, 0);
    if (got != (ssize_t)sizeof out || status != 0) {
        size_t len = strlen(out.text);
        out.is_good = out.goes_on = false;
        snprintf(out.text + len, sizeof out.text - len, "(a crash or a leak: status %d)\n", status);
    }
    return out;
}

static void
tell(const char *name, unsigned long n, bool always, const struct outcome *out)
{
    const char *line = out->text;
    printf("# %s -k %lu, %s:\n", name, n, always ? "always" : "once");
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        printf("#   %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

static bool
play_one(const char *name, unsigned long n, bool always, bool goes_on)
{
    struct outcome out = play(n, always);
    bool ok = out.is_good && (out.goes_on || !goes_on);
    if (talk_verbose || !ok)
        tell(name, n, always, &out);
    return ok;
}

/* The requests that are tried, from those that the first run has seen. */
static size_t
choose(const struct plan *plan, unsigned long *chosen)
{
    const struct memory_map *m = memory_map;
    size_t all = 0, n = 0, most, i;
    for (i = 0; i < m->count; i++)
        if (m->count <= SHORT || m->is_new[i])
            chosen[all++] = m->first[i];
    most = m->count <= SHORT && plan->is_daily ? SHORT : plan->most;
    for (; n < all && n < most; n++)
        chosen[n] = chosen[all <= most ? n : n * all / most];
    if (plan->only > 0)
        chosen[0] = plan->only;
    return plan->only > 0 ? 1 : n;
}

/* First with all memory: where is it asked for, and does it leave an instance that after-* can
 * be played with? */
static bool
play_all(const struct plan *plan, const char *name, size_t *tried, bool *goes_on)
{
    static unsigned long chosen[MEMORY_PLACES];
    struct outcome out = play(0, false);
    bool ok = out.is_good;
    size_t i;
    *goes_on = out.goes_on;
    *tried = choose(plan, chosen);
    for (i = 0; ok && i < *tried; i++)
        ok = play_one(name, chosen[i], false, *goes_on)
            && play_one(name, chosen[i], true, *goes_on);
    if (talk_verbose || !out.is_good)
        tell(name, 0, false, &out);
    return ok;
}

/* The bystander's inner server has no TLS: where it is required there is none. */
static bool
is_alone(void)
{
    return span_is(talk_setting("role"), "gateway") && span_is(talk_setting("tls"), "required");
}

/* Of before-* and after-*: those that are made for the role of the instance. */
static bool
load_for_role(const char *path, const char *when)
{
    char title[256], file[600];
    const char *slash = strrchr(path, '/');
    snprintf(file, sizeof file, "%.*s../memory/%s-%s", slash == NULL ? 0 : (int)(slash - path) + 1,
        path, when, span_is(talk_setting("role"), "gateway") ? "gateway" : "edge");
    return talk_load(file, title, sizeof title);
}

/* The steps of the transcript are moved behind those of before-*: it says itself which that is. */
static bool
load(const char *path)
{
    static struct talk_step steps[TALK_STEPS];
    char title[256], words[512];
    size_t n;
    talk.settings.max = talk.error.max = 65536;
    talk_words_path(path, words, sizeof words);
    if (!talk_load(words, title, sizeof title) || !talk_load(path, title, sizeof title))
        return false;
    n = talk.nsteps;
    memcpy(steps, talk.steps, n * sizeof *steps);
    memset(talk.steps, 0, n * sizeof *steps);
    talk.nsteps = 0;
    if ((!is_alone() && !load_for_role(path, "before")) || talk.nsteps + n > TALK_STEPS)
        return false;
    begins = talk.nsteps;
    memcpy(talk.steps + begins, steps, n * sizeof *steps);
    ends = talk.nsteps = begins + n;
    return load_for_role(path, "after");
}

/* As far as the first step of the transcript. */
static bool
begin(void)
{
    if (!talk_open_tls() || !talk_open_instance() || buf_room(&talk.log, (size_t)4 << 20) == NULL)
        return false;
    hide_unmet("", "-");
    if (!run_strictly(0, begins))
        return false;
    hide_unmet("-", "");
    talk.on = NULL;
    talk.bystanders = talk.npeers - (talk.trunk != NULL);
    return true;
}

static int
play_file(const struct plan *plan, const char *path)
{
    const char *name = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
    bool goes_on = false;
    size_t tried = 0;
    bool ok = load(path) && begin();
    if (!ok)
        printf("# %.*s\n", (int)buf_len(&talk.error), buf_at(&talk.error));
    talk_runs = memory_runs;
    ok = ok && play_all(plan, name, &tried, &goes_on);
    printf("%sok - %s, no memory at %lu of %lu places%s\n", ok ? "" : "not ", name,
        (unsigned long)tried, (unsigned long)memory_map->count,
        goes_on ? "" : ", and no bystander");
    buf_free(&talk.error);
    if (talk.edge != NULL)
        talk_clean();
    unlink(talk.config_file);
    fflush(stdout);
    return ok ? 0 : 1;
}

/* One for each kind of stream, of proof and of end. */
static size_t
find_few(struct talk_job *jobs)
{
    static const char *const few[] = { "001-dialback-plain", "003-external", "037-certificate-self",
        "050-dialback-invalid", "090-dial-dialback", "102-dial-direct-tls", "112-dial-queue",
        "120-trunk-edge", "131-trunk-gives-back", "143-gateway-inner-multiplex",
        "147-gateway-drains", "150-drain", "152-reload-unlisted", "156-echo" };
    size_t n = sizeof few / sizeof *few, i;
    for (i = 0; i < n; i++)
        snprintf(jobs[i].path, sizeof jobs[i].path, "tests/talk/%s.talk", few[i]);
    return n;
}

/* Each in a process of its own. */
static int
play_jobs(const struct plan *plan, const struct talk_job *jobs, size_t n)
{
    int status, failed = 0;
    size_t i;
    printf("1..%lu\n", (unsigned long)n);
    for (i = 0; i < n; i++) {
        fflush(stdout);
        if (fork() == 0)
            exit(play_file(plan, jobs[i].path));
        wait(&status);
        failed += status != 0;
    }
    return failed;
}

int
main(int argc, char **argv)
{
    static struct talk_job jobs[1000];
    struct plan plan = { .most = SIZE_MAX };
    size_t n = 0;
    char remove[96];
    int failed, i;
    signal(SIGPIPE, SIG_IGN);
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0)
            talk_verbose = true;
        else if (strcmp(argv[i], "-m") == 0 && i + 1 < argc)
            plan.most = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-k") == 0 && i + 1 < argc)
            memory.tells = (plan.only = strtoul(argv[++i], NULL, 10)) > 0;
        else
            n += talk_find_jobs(argv[i], jobs + n, 900 - n);
    }
    if (n == 0) {
        n = find_few(jobs);
        plan.most = FEW;
        plan.is_daily = true;
    }
    snprintf(talk.dir, sizeof talk.dir, "/tmp/talk.XXXXXX");
    if (!memory_open() || mkdtemp(talk.dir) == NULL || !talk_make_certificates()) {
        printf("Bail out! no memory or no certificates\n");
        return 99;
    }
    failed = play_jobs(&plan, jobs, n);
    snprintf(remove, sizeof remove, "rm -rf %s", talk.dir);
    return system(remove) == 0 && failed == 0 ? 0 : 1;
}
