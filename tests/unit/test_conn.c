/* test_conn.c -- [CONN]: what a peer said before it was gone */
#include "cut/CONN.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct loop loop;
static struct log conn_log;
static struct wire wire;
static char heard[64];
static enum xe_why ended;
static unsigned ends;
static int64_t silent;      /* when something was heard */

static size_t
owner_received(struct conn *c, void *user, const char *at, size_t len)
{
    (void)user;
    silent = c->silent_ms;
    snprintf(heard, sizeof heard, "%.*s", (int)len, at);
    return len;
}

static void
owner_drained(struct conn *c, void *user)
{
    (void)c;
    (void)user;
}

static void
owner_closed(struct conn *c, void *user, enum xe_why why)
{
    (void)c;
    (void)user;
    ended = why;
    ends++;
}

static const struct conn_events owner = { owner_received, NULL, owner_drained, owner_closed, NULL };

/* The write comes before the descriptor is looked at: the peer has gone in the same turn. */
static void
the_last_words_are_read_behind_a_reset(void **state)
{
    int fd[2];
    struct conn *c;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    assert_true(conn_unblock(fd[0]));
    c = conn_new(&wire, fd[0], 100, 100, &owner, NULL);
    assert_non_null(c);
    assert_true(conn_send(c, span_of("unread")));
    conn_flush_task(&c->flush);
    assert_int_equal(write(fd[1], "<stream:error/>", 15), 15);
    close(fd[1]);
    assert_true(conn_send(c, span_of("more")));
    conn_flush_task(&c->flush);
    assert_string_equal(heard, "<stream:error/>");
    assert_int_equal(ends, 1);
    assert_int_equal(ended, XE_WHY_PEER_LOST);
    assert_int_equal(c->state, CONN_CLOSED);
}

/* A caller says something and resets the connection `ms` after we last read of it; what he said is
 * heard, and for how long he may have waited is known before. */
static void
hear_of_a_reset(int64_t ms)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof at;
    const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int caller = socket(AF_INET, SOCK_STREAM, 0);
    struct conn *c;
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(connect(caller, (struct sockaddr *)&at, sizeof at), 0);
    c = conn_new(&wire, accept(listener, NULL, NULL), 100, 100, &owner, NULL);
    assert_non_null(c);
    assert_true(conn_unblock(c->watch.fd));
    c->read_ms = loop_now(&loop) - ms;
    heard[0] = '\0';
    ends = 0;
    assert_int_equal(write(caller, "<message/>", 10), 10);
    setsockopt(caller, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(caller);
    close(listener);
    while (ends == 0)
        assert_true(loop_step(&loop, 1000));
    assert_int_equal(ended, XE_WHY_PEER_LOST);
    assert_string_equal(heard, "<message/>");
}

static void
a_reset_tells_for_how_long_nothing_was_read(void **state)
{
    (void)state;
    hear_of_a_reset(0);
    assert_true(silent < 1000);
    hear_of_a_reset(1500);
    assert_true(silent >= 1500);
}

int
main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(the_last_words_are_read_behind_a_reset),
        cmocka_unit_test(a_reset_tells_for_how_long_nothing_was_read),
    };
    int failed;
    signal(SIGPIPE, SIG_IGN);
    if (!loop_open(&loop) || !wire_open(&wire, &loop, &conn_log))
        return 1;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    failed = cmocka_run_group_tests(all, NULL, NULL);
    wire_close(&wire);
    loop_close(&loop);
    return failed;
}
