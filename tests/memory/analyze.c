/* analyze.c -- the analyzer without memory
 *
 * Conversations whose truth is known are read while memory is refused.  The analyzer ends, or goes
 * on with less; either way it says so, unless the report is word for word what it should be. */
#define main analyze_main
#include "../../analyze/analyze.c"
#undef main

#include "scenes.h"

#include <fcntl.h>
#include <sys/wait.h>

#define WORDS   32       /* of a command line */
#define SECONDS 60       /* for one run, on a machine that has other things to do */
#define FINDING "99"     /* exit status when a sanitizer has found something */

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
    return "exitcode=" FINDING;
}

const char *
__ubsan_default_options(void)
{
    return "exitcode=" FINDING;
}

static struct {
    char dir[64];
    char line[2048];         /* of the command of the present scene */
    char *words[WORDS];
    int  count;
    char made[128];          /* of which capture */
} world;

/* ---- files ---- */

static struct text
read_file(const char *name)
{
    char path[128], bytes[4096];
    struct text t = { NULL, 0, 0 };
    FILE *f;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", world.dir, name);
    f = fopen(path, "r");
    text_clear(&t);
    while (f != NULL && (n = fread(bytes, 1, sizeof bytes, f)) > 0)
        text_put(&t, bytes, n);
    if (f != NULL)
        fclose(f);
    return t;
}

static bool
same_files(const char *a, const char *b)
{
    struct text x = read_file(a), y = read_file(b);
    bool same = x.len == y.len && memcmp(x.at, y.at, x.len) == 0;
    text_free(&x);
    text_free(&y);
    return same;
}

/* gen.py makes the capture, once, and says how to read it. */
static void
make_capture(const char *name, const char *shape)
{
    char command[256], made[128];
    FILE *f;
    snprintf(made, sizeof made, "%s %s", name, shape);
    if (strcmp(world.made, made) == 0)
        return;
    snprintf(command, sizeof command,
        "python3 tests/analyze/gen.py %s %s %s", name, world.dir, shape);
    f = popen(command, "r");
    if (f == NULL || fgets(world.line, sizeof world.line, f) == NULL)
        exit(99);
    while (fgetc(f) != EOF)
        continue;
    if (pclose(f) != 0)
        exit(99);
    snprintf(world.made, sizeof world.made, "%s", made);
    world.count = 0;
    for (char *word = strtok(world.line, " \n"); word != NULL; word = strtok(NULL, " \n"))
        world.words[world.count++] = word;
}

/* ---- running ---- */

static void
send_to(int fd, const char *name)
{
    char path[128];
    int file;
    snprintf(path, sizeof path, "%s/%s", world.dir, name);
    file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || dup2(file, fd) < 0)
        _exit(98);
    close(file);
}

/* A copy of this process is the analyzer: what it has left undone ends with it. */
static void
run_copy(char **words)
{
    char page[128];
    int count = 0;
    int status;
    snprintf(page, sizeof page, "%s/page", world.dir);
    unlink(page);
    while (words[count] != NULL)
        count++;
    send_to(STDOUT_FILENO, "report");
    send_to(STDERR_FILENO, "errors");
    alarm(SECONDS);
    memory_runs(true);
    status = analyze_main(count, words);
    memory_runs(false);
    exit(status);
}

static int
run_analyzer(char **words)
{
    int status = 0;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        run_copy(words);
    waitpid(pid, &status, 0);
    return status;
}

/* The files of the run with all memory are what the others are compared with. */
static void
keep_whole(void)
{
    static const char *const names[] = { "report", "page" };
    char from[128], to[128];
    size_t i;
    for (i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", world.dir, names[i]);
        snprintf(to, sizeof to, "%s/whole-%s", world.dir, names[i]);
        unlink(to);
        rename(from, to);
    }
}

static bool
is_whole(void)
{
    return same_files("report", "whole-report") && same_files("page", "whole-page");
}

/* Read the capture of a scene of gen.py; `option` and its value, if it has one, stand in front. */
static void
read_capture(const char *name, const char *shape, const char *option, const char *value)
{
    static int status_of_whole;
    char *words[WORDS + 3];
    struct text errors;
    int n = 0, i, status;
    make_capture(name, shape);
    words[n++] = world.words[0];
    if (option != NULL)
        words[n++] = (char *)option;
    if (value != NULL)
        words[n++] = (char *)value;
    for (i = 1; i < world.count; i++)
        words[n++] = world.words[i];
    words[n] = NULL;
    status = run_analyzer(words);
    errors = read_file("errors");
    if (memory.fails_at == 0) {
        keep_whole();
        status_of_whole = status;
    }
    must(WIFEXITED(status) && WEXITSTATUS(status) <= 4, "no crash, no leak, and it ends");
    if (memory.fails_at == 0)
        must(errors.len == 0, "nothing is complained about");
    else if (strstr(errors.at, "memory") != NULL)
        must(WIFEXITED(status) && WEXITSTATUS(status) == 2, "its status says so, too");
    else
        must(status == status_of_whole && is_whole(), "what is not whole says so");
    if (!scene.is_good)
        fprintf(scene.tap, "#   status %x, %.2000s\n", (unsigned)status, errors.at);
    text_free(&errors);
}

/* ---- scenes ---- */

/* TLS 1.3 with keys, every row, as text. */
static void
report_says_what_it_lacks(void)
{
    read_capture("all_rows_13", "", NULL, NULL);
}

/* Secrets inside of pcapng, segments out of order, fragments. */
static void
lines_say_what_they_lack(void)
{
    read_capture("all_rows_12", "odd", "--json", NULL);
}

/* Names, failures and groups of them. */
static void
page_says_what_it_lacks(void)
{
    char page[128];
    snprintf(page, sizeof page, "%s/page", world.dir);
    read_capture("answered_at_the_second_try_out", "", "--html", page);
}

/* A violation, and a configuration that says where the edge may call. */
static void
violations_are_not_forgotten(void)
{
    char path[128];
    FILE *f;
    snprintf(path, sizeof path, "%s/edge.xml", world.dir);
    f = fopen(path, "w");
    if (f == NULL)
        exit(99);
    fputs("<xmppedge role='edge' name='edge01.corp.example'>"
        "<external address='203.0.113.10' networks='10.7.0.0/16'/><internal address='10.0.0.10'/>"
        "<partners><partner domain='a.example' networks='10.8.0.0/16 10.9.0.0/16'/></partners>"
        "</xmppedge>\n", f);
    fclose(f);
    read_capture("dns_leads_into_the_lan_out_13", "odd", "-c", path);
}

static const struct scene scenes[] = {
    { "report_says_what_it_lacks", report_says_what_it_lacks, false },
    { "lines_say_what_they_lack", lines_say_what_they_lack, false },
    { "page_says_what_it_lacks", page_says_what_it_lacks, false },
    { "violations_are_not_forgotten", violations_are_not_forgotten, false },
};

static bool
make_world(void)
{
    snprintf(world.dir, sizeof world.dir, "/tmp/memory.XXXXXX");
    return mkdtemp(world.dir) != NULL;
}

int
main(int argc, char **argv)
{
    char command[96];
    int status = scenes_run(argc, argv, scenes, sizeof scenes / sizeof *scenes, make_world);
    snprintf(command, sizeof command, "rm -rf '%s'", world.dir);
    return system(command) == 0 ? status : 1;
}
