/* fuzz_control.c -- [CONTROL] asked anything
 *
 * The input is what comes on the control socket of an edge, in one piece or in two.  There is an
 * answer of whole lines without control characters, or the connection ends without a word; and the
 * instance has nothing left of it afterwards.  To stop is no answer here. */
#define XMPPEDGE_NO_THREADS
#include "cut/CONTROL.c"

#include "fuzz_main.h"

static struct xmppedge *edge;
static char dir[64];

static void
remove_world(void)
{
    char command[96];
    xe_close(edge);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        fprintf(stderr, "fuzz_control: %s stays\n", dir);
}

/* A gateway without inner servers: it has a trunk that never comes up, and pairs that fail. */
static void
open_world(void)
{
    char command[1500], file[96], message[1024] = "";
    snprintf(dir, sizeof dir, "/tmp/fuzz_control.XXXXXX");
    must(mkdtemp(dir) != NULL, "there is a directory");
    snprintf(command, sizeof command, "cd %s && openssl req -x509 -newkey ec -pkeyopt "
        "ec_paramgen_curve:prime256v1 -nodes -keyout k -out c -days 30 -subj /CN=a >log 2>&1 && "
        "echo \"<xmppedge role='gateway' name='fe.example'>"
        "<edge name='edge.example' address='127.0.0.4' port='1'/>"
        "<certificate chain='c' key='k'/><trust ca='c'/><listen address='127.0.0.1' port='0'/>"
        "<inner address='127.0.0.1' port='1'><domain name='near.example'/></inner>"
        "<log file='/dev/null'/><control socket='%s/s'/></xmppedge>\" | "
        "sed \"s/ port='0'/ port='$((20000 + $$ %% 30000))'/\" >x.xml", dir, dir);
    must(system(command) == 0, "there is a configuration");
    snprintf(file, sizeof file, "%s/x.xml", dir);
    edge = xe_open(file, message, sizeof message);
    fputs(message, stderr);
    must(edge != NULL && control_open(edge, message, sizeof message), "there is an instance");
    atexit(remove_world);
}

static bool
stops(const uint8_t *data, size_t size)
{
    return size >= 4 && memcmp(data, "stop", 4) == 0;
}

/* Text of any kind, but nothing that a terminal obeys. */
static void
check_answer(struct xe_span said)
{
    size_t i;
    must(said.len == 0 || said.at[said.len - 1] == '\n', "an answer is whole lines");
    for (i = 0; i < said.len; i++)
        must((unsigned char)said.at[i] >= ' ' || said.at[i] == '\n', "an answer is visible");
}

static void
turn(int fd, struct buf *said, bool *ended)
{
    char bytes[4096];
    ssize_t n;
    must(loop_step(&edge->loop, 0), "the loop goes on");
    while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        buf_put(said, span_make(bytes, (size_t)n));
    *ended = *ended || n == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sockaddr_storage from = { .ss_family = AF_UNIX };
    struct buf said = { .max = (size_t)4 << 20 };
    size_t half = size > 0 ? data[0] % size : 0, i;
    bool ended = false;
    int pair[2];
    if (edge == NULL)
        open_world();
    if (stops(data, size) || size > 4096
        || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        return 0;
    control_accepted(edge->control, pair[0], &from);
    must(send(pair[1], data, half, MSG_NOSIGNAL) >= 0, "the first part is sent");
    turn(pair[1], &said, &ended);
    if (!ended)
        (void)!send(pair[1], data + half, size - half, MSG_NOSIGNAL);
    for (i = 0; i < 20 && !ended; i++)
        turn(pair[1], &said, &ended);
    if (ended)
        check_answer(buf_span(&said));
    close(pair[1]);
    for (i = 0; i < 4; i++)
        loop_step(&edge->loop, 0);
    must(((struct control *)edge->control)->count == 0, "nobody is left");
    buf_free(&said);
    return 0;
}
