/* fuzz_http.c -- [HTTP] asked anything
 *
 * The input is what comes on a connection, in one piece or in two.  There is one answer, which
 * begins with a status that has a reason and ends as its head says, or none; what is asked has a
 * path and no control characters; and nothing is left of the connection afterwards. */
#define XMPPEDGE_NO_THREADS
#include "cut/HTTP.c"

#include "fuzz_main.h"

static struct loop loop;
static struct wire wire;
static struct http_server server;
static unsigned pieces;   /* still to be told */

static bool
may(void *user, const struct sockaddr_storage *from)
{
    (void)user;
    (void)from;
    return true;
}

static void
asked(void *user, struct http_client *c, const struct http_request *r)
{
    size_t i;
    (void)user;
    must(r->path.len > 0 && r->path.at[0] == '/', "there is a path");
    for (i = 0; i < r->path.len; i++)
        must(r->path.at[i] > ' ' && r->path.at[i] <= '~' && r->path.at[i] != '?', "it is one");
    for (i = 0; i < r->accept.len; i++)
        must((unsigned char)r->accept.at[i] >= ' ' || r->accept.at[i] == '\t', "a field is one");
    if (r->path.len % 2 == 0) {
        http_answer(c, 404, "text/plain", span_of("no\n"));
        return;
    }
    pieces = (unsigned)r->path.len % 4;
    http_begin(c, "text/plain");
}

static bool
more(void *user, struct http_client *c, struct buf *out)
{
    (void)user;
    (void)c;
    if (pieces % 2 == 1)
        buf_puts(out, "piece\n");
    return pieces-- > 0;
}

static void
ended(void *user, struct http_client *c)
{
    (void)user;
    must(c->conn == NULL, "it has ended");
}

static void
open_world(void)
{
    static const struct http_events events = { may, asked, more, ended };
    static struct log log = { .fd = -1, .level = LOG_ERROR };
    must(loop_open(&loop) && wire_open(&wire, &loop, &log), "there is a loop");
    wire.write_timeout_ms = 1000;
    server.events = &events;
    server.listener.wire = &wire;
    server.listener.watch.fd = -1;
    list_init(&server.clients);
}

static void
check_answer(struct buf *said)
{
    const char *text = buf_text(said);
    const char *content = strstr(text, "\r\n\r\n");
    const char *length = strstr(text, "Content-Length: ");
    must(strncmp(text, "HTTP/1.1 ", 9) == 0 && strlen(text) > 20 && text[12] == ' ', "a status");
    must(content != NULL, "the end of its head");
    if (length != NULL && length < content && content[4] != '\0')
        must(strtoul(length + 16, NULL, 10) == strlen(content + 4), "its length");
    if (strstr(text, "chunked\r\n\r\n") != NULL && content[4] != '\0')
        must(strcmp(text + strlen(text) - 5, "0\r\n\r\n") == 0, "its last chunk");
}

static void
turn(int fd, struct buf *said)
{
    char bytes[4096];
    ssize_t n;
    must(loop_step(&loop, 0), "the loop goes on");
    while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        buf_put(said, span_make(bytes, (size_t)n));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sockaddr_storage from = { .ss_family = AF_UNIX };
    struct buf said = { 0 };
    size_t half = size > 0 ? data[0] % size : 0, i;
    int pair[2];
    if (wire.loop == NULL)
        open_world();
    if (size > 20000 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        return 0;
    http_accepted(&server, pair[0], &from);
    must(send(pair[1], data, half, MSG_NOSIGNAL) >= 0, "the first part is sent");
    turn(pair[1], &said);
    (void)!send(pair[1], data + half, size - half, MSG_NOSIGNAL);
    for (i = 0; i < 12; i++)
        turn(pair[1], &said);
    if (buf_len(&said) > 0)
        check_answer(&said);
    close(pair[1]);
    for (i = 0; i < 4; i++)
        turn(-1, &said);
    must(server.count == 0 && list_empty(&server.clients), "nobody is left");
    buf_free(&said);
    return 0;
}
