/* sections.c -- configuration, start, reload, questions, DNS and certificates without memory
 *
 * What a scene says is so while memory is refused; what it says with all memory is so again when
 * memory is back. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#include <sys/types.h>
#include <sys/socket.h>

/* Every port is taken from those that are free. */
static int own_bind(int fd, const struct sockaddr *to, socklen_t len);
#define bind(fd, to, len) own_bind(fd, to, len)
#include "cut/AUTHORITY.c"
#undef bind

#include "scenes.h"

static struct {
    char         dir[64];
    char         file[96];      /* the configuration */
    int          resolver;      /* a name server that answers with no records */
    unsigned     port;          /* of it */
} world;

static int
own_bind(int fd, const struct sockaddr *to, socklen_t len)
{
    struct sockaddr_in any;
    if (to->sa_family != AF_INET)
        return bind(fd, to, len);
    memset(&any, 0, sizeof any);
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return bind(fd, (struct sockaddr *)&any, sizeof any);
}

/* ---- a world ---- */

static void
write_config(const char *more)
{
    FILE *f = fopen(world.file, "w");
    if (f == NULL)
        exit(99);
    fprintf(f, "<xmppedge role='edge' name='edge.near.example'>\n"
        "<external address='127.0.0.1'/>\n"
        "<internal address='127.0.0.1'><certificate chain='edge.near.example.pem' "
        "key='edge.near.example.key'/><trust ca='internal-ca.pem'/>"
        "<gateway name='fe.near.example'/></internal>\n"
        "<domain name='near.example'><certificate chain='near.example.pem' "
        "key='near.example.key'/></domain>\n"
        "<trust ca='internal-ca.pem'/><dialback secret-file='dialback.secret'/>\n"
        "<echo domain='echo.near.example'/>\n"
        "<partners default='allow'><partner domain='far.example' tls='optional'>"
        "<domain name='two.far.example'/></partner>%s</partners>\n"
        "<resolver address='127.0.0.1' port='%u'/>\n"
        "<log file='/dev/null'/><control socket='%s/socket'/>\n</xmppedge>\n", more, world.port,
        world.dir);
    fclose(f);
}

static char *const names[] = { "edge.near.example", "fe.near.example", "near.example", NULL };

static bool
make_world(void)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    snprintf(world.dir, sizeof world.dir, "/tmp/memory.XXXXXX");
    if (mkdtemp(world.dir) == NULL || chdir(world.dir) != 0 || authority_run(".", names, 10) != 0)
        return false;
    snprintf(world.file, sizeof world.file, "edge.xml");
    world.resolver = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(world.resolver, (struct sockaddr *)&at, len) != 0
        || getsockname(world.resolver, (struct sockaddr *)&at, &len) != 0)
        return false;
    world.port = ntohs(at.sin_port);
    write_config("");
    return true;
}

/* There is no such name. */
static void
answer_questions(void)
{
    unsigned char bytes[600];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n;
    while ((n = recvfrom(world.resolver, bytes, sizeof bytes, MSG_DONTWAIT,
            (struct sockaddr *)&from, &len)) > 12) {
        bytes[2] = 0x81;
        bytes[3] = 0x83;
        bytes[11] = 0;             /* EDNS is left out */
        sendto(world.resolver, bytes, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
}

static struct xmppedge *
open_instance(void)
{
    char message[2048] = "";
    struct xmppedge *e = xe_open(world.file, message, sizeof message);
    if (e == NULL || !control_open(e, message, sizeof message)) {
        must(false, message);
        exit(99);
    }
    return e;
}

/* ---- scenes ---- */

/* The configuration as it is understood; the caller frees it. */
static struct buf
effective(const struct config *c)
{
    struct buf out = { .max = CONFIG_PRINT_MAX };
    config_print_effective(c, &out);
    return out;
}

/* A file is read as it is, or not at all. */
static void
configuration_is_whole_or_refused(void)
{
    struct buf messages = { 0 }, whole, now;
    struct config *good = config_load(world.file, &messages);
    struct config *c;
    whole = effective(good);
    buf_free(&messages);
    memory_runs(true);
    c = config_load(world.file, &messages);
    memory_runs(false);
    must(c != NULL || !had_memory(), "the configuration is read");
    must(c != NULL || messages.failed || buf_len(&messages) > 0, "an error is told");
    if (c != NULL) {
        now = effective(c);
        must(span_eq(buf_span(&now), buf_span(&whole)), "what is read is what is written");
        must(span_eq(c->secret, good->secret), "and so is the secret");
        buf_free(&now);
    }
    config_free(c);
    config_free(good);
    buf_free(&whole);
    buf_free(&messages);
}

/* Lists of ports are printed whole, or it is said that they are not. */
static void
ports_are_whole_or_refused(void)
{
    static const enum ports_format formats[] = { PORTS_TABLE, PORTS_NFT, PORTS_IPTABLES,
        PORTS_JSON };
    struct buf messages = { 0 };
    struct config *c = config_load(world.file, &messages);
    struct ports_machine machine = { 0 };
    size_t i;
    for (i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct buf out = { 0 }, whole = { 0 }, errors = { 0 };
        bool ok;
        ports_print(c, formats[i], &machine, &whole, &errors);
        memory_runs(true);
        ok = ports_print(c, formats[i], &machine, &out, &errors) && !out.failed;
        memory_runs(false);
        must(!ok || span_eq(buf_span(&out), buf_span(&whole)), "what is printed is whole");
        must(ok || !had_memory(), "it is printed");
        buf_free(&out);
        buf_free(&whole);
        buf_free(&errors);
    }
    config_free(c);
    buf_free(&messages);
}

static bool
has_all_keys(const struct xmppedge *e)
{
    const struct edge_keys *k = &e->keys;
    return k->ndomains == e->config->ndomains && k->domains[0] != NULL && k->trunk != NULL
        && k->partners != NULL && k->internal != NULL && k->server != NULL && k->client != NULL
        && k->link != NULL;
}

/* An instance has all that its configuration names, or does not start and says why. */
static void
instance_starts_whole_or_not(void)
{
    char message[2048] = "";
    struct xmppedge *e;
    memory_runs(true);
    e = xe_open(world.file, message, sizeof message);
    memory_runs(false);
    must(e != NULL || !had_memory(), "it starts");
    must(e != NULL || message[0] != '\0', "it is said why not");
    must(e == NULL || has_all_keys(e), "it has all keys");
    memory_runs(true);
    xe_close(e);
    memory_runs(false);
}

/* A reload that fails changes nothing, and says so. */
static void
reload_is_whole_or_changes_nothing(void)
{
    struct xmppedge *e = open_instance();
    char message[2048] = "";
    struct config *old = e->config;
    bool ok;
    write_config("<partner domain='more.example'/>");
    memory_runs(true);
    ok = xe_reload(e, message, sizeof message);
    must(loop_step(&e->loop, 0), "the loop goes on");
    memory_runs(false);
    must(ok || !had_memory(), "it is reloaded");
    must(ok || message[0] != '\0', "it is said why not");
    must(ok || e->config == old, "and nothing changes");
    must(has_all_keys(e), "it has all keys");
    must((e->config->partners.count == 2) == ok, "its partners are those of its file");
    memory_is_back();
    must(xe_reload(e, message, sizeof message), "later it succeeds");
    must(e->config->partners.count == 2, "and has the new partner");
    write_config("");
    xe_close(e);
}

static void
count_answers(void *user, enum xe_why why, const char *words)
{
    unsigned *answers = user;
    (void)words;
    *answers += why != XE_WHY_NONE ? 1 : 100;
}

/* What a program around the proxy asks for it gets whole, or not at all; and a ping that is taken
 * ends, once. */
static void
a_program_around_hears_all_or_nothing(void)
{
    struct xmppedge *e = open_instance();
    static const char faulty[] = "<xmppedge role='edge' name='edge.near.example'>\n<x/></xmppedge>";
    char message[2048] = "";
    unsigned pings, answers = 0;
    size_t len = 1;
    char *status;
    memory_runs(true);
    status = xe_status(e, &len);
    pings = xe_ping(e, "far.example", count_answers, &answers);
    must(!xe_reload_text(e, faulty, sizeof faulty - 1, message, sizeof message), "it is refused");
    memory_runs(false);
    must(status != NULL || (len == 0 && !had_memory()), "there is a status");
    must(status == NULL || (strlen(status) == len && strcmp(status + len - 3, "]}\n") == 0),
        "it is whole");
    must(message[0] != '\0' && e->text == NULL, "it is said why not, and nothing of it is kept");
    must(pings == 1 || !had_memory(), "the ping is taken");
    memory_runs(true);
    xe_close(e);
    memory_runs(false);
    must(answers == pings, "it ends once");
    free(status);
}

/* One question, and the loop for as long as its answer takes; what was said is in `said`.  c-ares
 * asks again after seconds when it had no memory for what came. */
static void
ask(struct xmppedge *e, const char *question, struct buf *said)
{
    struct sockaddr_storage from = { .ss_family = AF_UNIX };
    char bytes[4096];
    ssize_t n = -1;
    unsigned turns;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        exit(99);
    memory_runs(true);
    control_accepted(e->control, pair[0], &from);
    memory_runs(false);
    if (send(pair[1], question, strlen(question), MSG_NOSIGNAL) < 0)
        n = 0;
    for (turns = 0; turns < (memory.fails_at > 0 ? 400 : 30000) && n != 0; turns++) {
        answer_questions();
        memory_runs(true);
        must(loop_step(&e->loop, turns < 20 ? 0 : 1), "the loop goes on");
        memory_runs(false);
        while ((n = recv(pair[1], bytes, sizeof bytes, 0)) > 0)
            buf_put(said, span_make(bytes, (size_t)n));
        n = n == 0 || errno != EAGAIN ? 0 : -1;
    }
    must(n == 0 || !had_memory(), "an answer ends");
    close(pair[1]);
}

/* A question is answered whole, or it is said that it is not. */
static void
questions_are_answered_or_refused(void)
{
    static const struct { const char *question, *begins, *ends; } all[] = {
        { "status\n", "xmppedge", "\n" },
        { "status json\n", "{\"version\"", "]}\n" },
        { "message echo.near.example\n", "ok", "\n" },
        { "ping far.example\n", "failed why=", "\n" },
        { "partner far.example\n", "far.example, as ", "\nEND\n" },
        { "partner-json far.example\n", "{\"domain\"", "]}\n" },
        { "ping a b\n", "failed", "\n" },
        { "nonsense\n", "failed", "\n" },
        { "reload\n", "ok\n", "\n" },
    };
    struct xmppedge *e = open_instance();
    size_t i, round;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < sizeof all / sizeof *all; i++) {
            struct buf said = { .max = (size_t)1 << 20 };
            size_t begins = strlen(all[i].begins), ends = strlen(all[i].ends);
            struct xe_span text;
            ask(e, all[i].question, &said);
            text = buf_span(&said);
            if (had_memory() || round == 1)
                must(text.len >= begins && memcmp(text.at, all[i].begins, begins) == 0
                    && memcmp(text.at + text.len - ends, all[i].ends, ends) == 0,
                    all[i].question);
            else
                must(text.len == 0 || text.at[text.len - 1] == '\n', "a line is whole");
            buf_free(&said);
        }
        memory_is_back();
    }
    xe_close(e);
}

/* What could not be made is not in the way of the next attempt. */
static void
authority_is_made_in_the_end(void)
{
    static const char *const made[] = { "internal-ca.pem", "internal-ca.key", "a.example.pem",
        "a.example.key", "dialback.secret" };
    char *const words[] = { "a.example", NULL };
    char dir[80], path[160];
    size_t i;
    int code;
    snprintf(dir, sizeof dir, "%s/authority", world.dir);
    mkdir(dir, 0700);
    memory_runs(true);
    code = authority_run(dir, words, 10);
    memory_runs(false);
    must(code == 0 || !had_memory(), "it is made");
    memory_is_back();
    must(authority_run(dir, words, 10) == 0, "it is made when memory is back");
    for (i = 0; i < sizeof made / sizeof *made; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        must(unlink(path) == 0, "each file is there");
    }
    must(rmdir(dir) == 0, "and no other");
}

static const struct scene scenes[] = {
    { "configuration_is_whole_or_refused", configuration_is_whole_or_refused, false },
    { "ports_are_whole_or_refused", ports_are_whole_or_refused, false },
    { "instance_starts_whole_or_not", instance_starts_whole_or_not, false },
    { "reload_is_whole_or_changes_nothing", reload_is_whole_or_changes_nothing, false },
    { "a_program_around_hears_all_or_nothing", a_program_around_hears_all_or_nothing, false },
    { "questions_are_answered_or_refused", questions_are_answered_or_refused, false },
    { "authority_is_made_in_the_end", authority_is_made_in_the_end, false },
};

int
main(int argc, char **argv)
{
    char command[96];
    int status = scenes_run(argc, argv, scenes, sizeof scenes / sizeof *scenes, make_world);
    snprintf(command, sizeof command, "rm -rf '%s'", world.dir);
    return system(command) == 0 ? status : 1;
}
