/* test_loop.c -- [LOOP]: order of a turn, stale events, fairness, timers, tasks
 *
 * Compiled twice, for epoll and (-DXMPPEDGE_POLL) for poll. */
#include "cut/LOOP.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct end {
    struct loop_watch watch;
    struct loop      *loop;
    int               other;      /* the far end of the socket pair */
    unsigned          calls;
    unsigned          last;       /* events of the last call */
    bool              drain;      /* read what is there */
    struct end       *remove;     /* remove this one when called */
    bool              renew;      /* ... and add it again */
    bool              narrow;     /* ... or only stop reading */
};

static struct loop loop;

static void
end_ready(struct loop_watch *w, unsigned events)
{
    struct end *e = MAP_OWNER(w, struct end, watch);
    char bytes[16];
    e->calls++;
    e->last = events;
    if (e->drain && read(w->fd, bytes, sizeof bytes) < 0)
        fail();
    if (e->remove != NULL) {
        loop_watch_set(e->loop, &e->remove->watch, e->narrow ? LOOP_WRITE : 0);
        if (e->renew)
            loop_watch_set(e->loop, &e->remove->watch, LOOP_READ);
    }
}

static void
end_open(struct end *e)
{
    int fds[2];
    memset(e, 0, sizeof *e);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    e->watch.fd = fds[0];
    e->watch.ready = end_ready;
    e->other = fds[1];
    e->loop = &loop;
}

static void
end_close(struct end *e)
{
    loop_watch_set(&loop, &e->watch, 0);
    close(e->watch.fd);
    if (e->other >= 0)
        close(e->other);
}

static void
poke(struct end *e)
{
    assert_int_equal(write(e->other, "x", 1), 1);
}

static int
setup(void **state)
{
    (void)state;
    return loop_open(&loop) ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    loop_close(&loop);
    return 0;
}

/* ---- watches ---- */

static void
a_readable_socket_is_told_until_it_is_read(void **state)
{
    struct end e;
    (void)state;
    end_open(&e);
    assert_true(loop_watch_set(&loop, &e.watch, LOOP_READ));
    assert_true(loop_step(&loop, 0));
    assert_int_equal(e.calls, 0);
    poke(&e);
    assert_true(loop_step(&loop, 1000));
    assert_true(loop_step(&loop, 1000));
    assert_int_equal(e.calls, 2);
    assert_int_equal(e.last, LOOP_READ);
    e.drain = true;
    assert_true(loop_step(&loop, 1000));
    assert_true(loop_step(&loop, 0));
    assert_int_equal(e.calls, 3);
    end_close(&e);
}

static void
interest_can_change_and_end(void **state)
{
    struct end e;
    (void)state;
    end_open(&e);
    poke(&e);
    assert_true(loop_watch_set(&loop, &e.watch, LOOP_READ | LOOP_WRITE));
    loop_step(&loop, 1000);
    assert_int_equal(e.last, LOOP_READ | LOOP_WRITE);
    assert_true(loop_watch_set(&loop, &e.watch, LOOP_WRITE));
    loop_step(&loop, 1000);
    assert_int_equal(e.last, LOOP_WRITE);
    assert_true(loop_watch_set(&loop, &e.watch, 0));
    assert_true(loop_watch_set(&loop, &e.watch, 0));
    loop_step(&loop, 0);
    assert_int_equal(e.calls, 2);
    assert_true(loop_watch_set(&loop, &e.watch, LOOP_READ));
    loop_step(&loop, 1000);
    assert_int_equal(e.calls, 3);
    end_close(&e);
}

static void
a_hangup_is_told_and_is_readable_and_writable(void **state)
{
    struct end e;
    (void)state;
    end_open(&e);
    assert_true(loop_watch_set(&loop, &e.watch, LOOP_WRITE));
    close(e.other);
    e.other = -1;
    loop_step(&loop, 1000);
    assert_int_equal(e.last, LOOP_READ | LOOP_WRITE | LOOP_BROKEN);
    end_close(&e);
}

static void
a_watch_removed_during_a_turn_gets_no_stale_event(void **state)
{
    struct end a, b;
    int i;
    (void)state;
    for (i = 0; i < 2; i++) {   /* whichever of the two comes first */
        end_open(&a);
        end_open(&b);
        a.remove = &b;
        b.remove = &a;
        loop_watch_set(&loop, i == 0 ? &a.watch : &b.watch, LOOP_READ);
        loop_watch_set(&loop, i == 0 ? &b.watch : &a.watch, LOOP_READ);
        poke(&a);
        poke(&b);
        loop_step(&loop, 1000);
        loop_step(&loop, 0);
        assert_true(a.calls == 0 || b.calls == 0);
        assert_true(a.calls + b.calls > 0);
        end_close(&a);
        end_close(&b);
    }
}

static void
a_watch_removed_and_added_again_waits_for_the_next_turn(void **state)
{
    struct end a, b;
    (void)state;
    end_open(&a);
    end_open(&b);
    a.remove = &b;
    b.remove = &a;
    a.renew = b.renew = true;
    loop_watch_set(&loop, &a.watch, LOOP_READ);
    loop_watch_set(&loop, &b.watch, LOOP_READ);
    poke(&a);
    poke(&b);
    loop_step(&loop, 1000);
    assert_int_equal(a.calls + b.calls, 1);
    end_close(&a);
    end_close(&b);
}

static void
reading_stopped_by_an_earlier_callback_is_respected(void **state)
{
    struct end a, b;
    (void)state;
    end_open(&a);
    end_open(&b);
    a.remove = &b;
    b.remove = &a;
    a.narrow = b.narrow = true;
    loop_watch_set(&loop, &a.watch, LOOP_READ);
    loop_watch_set(&loop, &b.watch, LOOP_READ);
    poke(&a);
    poke(&b);
    loop_step(&loop, 1000);
    assert_int_equal(a.calls + b.calls, 1);
    end_close(&a);
    end_close(&b);
}

static void
a_freed_watch_and_a_reused_descriptor_do_no_harm(void **state)
{
    struct end *a = malloc(sizeof *a);
    struct end b;
    int fd;
    (void)state;
    assert_non_null(a);
    end_open(a);
    loop_watch_set(&loop, &a->watch, LOOP_READ);
    poke(a);
    fd = a->watch.fd;
    end_close(a);
    free(a);
    end_open(&b);
    assert_true(b.watch.fd == fd || b.other == fd);
    assert_true(loop_watch_set(&loop, &b.watch, LOOP_READ));
    poke(&b);
    loop_step(&loop, 1000);
    assert_int_equal(b.calls, 1);
    end_close(&b);
}

static void
more_ready_sockets_than_a_turn_serves_are_all_served(void **state)
{
    enum { N = LOOP_EVENTS_MAX + 100 };
    static struct end ends[N];
    unsigned once = 0, twice = 0;
    size_t i;
    (void)state;
    for (i = 0; i < N; i++) {
        end_open(&ends[i]);
        assert_true(loop_watch_set(&loop, &ends[i].watch, LOOP_READ));
        poke(&ends[i]);
    }
    loop_step(&loop, 1000);
    for (i = 0; i < N; i++)
        once += ends[i].calls;
    assert_int_equal(once, LOOP_EVENTS_MAX);
    loop_step(&loop, 1000);   /* nobody has read: all are ready still, and the rest comes first */
    for (i = 0; i < N; i++) {
        assert_true(ends[i].calls >= 1);
        twice += ends[i].calls;
    }
    assert_int_equal(twice, 2 * LOOP_EVENTS_MAX);
    for (i = 0; i < N; i += 2)   /* removal in any order keeps the others alive */
        end_close(&ends[i]);
    loop_step(&loop, 0);
    for (i = 1; i < N; i += 2)
        assert_true(ends[i].calls >= 2);
    for (i = 1; i < N; i += 2)
        end_close(&ends[i]);
    loop_step(&loop, 0);
}

static void
what_the_system_refuses_is_reported(void **state)
{
    struct loop_watch w = { .fd = -1, .ready = end_ready };
    (void)state;
    if (loop_fd(&loop) < 0)
        skip();   /* poll() learns of a bad descriptor only when it waits */
    assert_false(loop_watch_set(&loop, &w, LOOP_READ));
    assert_int_equal(w.events, 0);
}

static void
the_loop_can_live_in_another_loop(void **state)
{
    struct end e;
    struct pollfd p;
    (void)state;
    if (loop_fd(&loop) < 0)
        skip();   /* poll has no descriptor to give */
    end_open(&e);
    loop_watch_set(&loop, &e.watch, LOOP_READ);
    p = (struct pollfd){ .fd = loop_fd(&loop), .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 0);
    poke(&e);
    assert_int_equal(poll(&p, 1, 1000), 1);
    end_close(&e);
}

/* ---- timers ---- */

struct alarm {
    struct timer timer;
    int64_t      fired_at;
    int          times;
    int64_t      again_ms;      /* >= 0: arm again */
    struct alarm *cancel;
};

static int64_t last_due;
static int fired;

static void
alarm_fire(struct timer *t)
{
    struct alarm *a = MAP_OWNER(t, struct alarm, timer);
    assert_false(timer_armed(t));
    assert_true(t->due <= loop_now(&loop));
    assert_true(t->due >= last_due);
    last_due = t->due;
    a->fired_at = loop_now(&loop);
    a->times++;
    fired++;
    if (a->again_ms >= 0)
        timer_set(&loop, t, a->again_ms);
    if (a->cancel != NULL)
        timer_cancel(&loop, &a->cancel->timer);
}

static void
alarm_init(struct alarm *a)
{
    *a = (struct alarm){ .timer = { .fire = alarm_fire }, .again_ms = -1 };
    last_due = 0;
    fired = 0;
}

static void
a_timer_fires_once_and_not_early(void **state)
{
    struct alarm a;
    int64_t start;
    (void)state;
    alarm_init(&a);
    assert_int_equal(loop_timeout(&loop), -1);
    timer_set(&loop, &a.timer, 30);
    start = loop_now(&loop);
    assert_true(timer_armed(&a.timer));
    assert_in_range(loop_timeout(&loop), 1, 30);
    while (a.times == 0)
        assert_true(loop_step(&loop, -1));
    assert_true(a.fired_at - start >= 30);
    assert_true(a.fired_at - start < 1000);
    loop_step(&loop, 20);
    assert_int_equal(a.times, 1);
    assert_int_equal(loop_timeout(&loop), -1);
}

static void
a_cancelled_timer_stays_silent(void **state)
{
    struct alarm a, b;
    (void)state;
    alarm_init(&a);
    alarm_init(&b);
    timer_cancel(&loop, &a.timer);
    timer_set(&loop, &a.timer, 0);
    timer_cancel(&loop, &a.timer);
    timer_cancel(&loop, &a.timer);
    loop_step(&loop, 2);
    assert_int_equal(a.times, 0);
    timer_set(&loop, &a.timer, 1);
    timer_set(&loop, &b.timer, 2);
    a.cancel = &b;
    loop_step(&loop, 0);
    while (a.times == 0)
        loop_step(&loop, 50);
    loop_step(&loop, 5);
    assert_int_equal(a.times, 1);
    assert_true(b.times == 0 && !timer_armed(&b.timer));
}

static void
a_timer_can_be_put_off_and_brought_forward(void **state)
{
    struct alarm a;
    (void)state;
    alarm_init(&a);
    timer_set(&loop, &a.timer, 5);
    timer_set(&loop, &a.timer, 60000);
    assert_in_range(loop_timeout(&loop), 59000, 60000);
    timer_set(&loop, &a.timer, 70000);
    timer_set(&loop, &a.timer, 10);
    assert_in_range(loop_timeout(&loop), 1, 10);
    while (a.times == 0)
        loop_step(&loop, -1);
    assert_false(timer_armed(&a.timer));
}

static void
a_timer_of_no_time_does_not_hold_the_turn(void **state)
{
    struct alarm a;
    (void)state;
    alarm_init(&a);
    a.again_ms = 0;
    timer_set(&loop, &a.timer, 0);
    loop_step(&loop, 0);
    assert_int_equal(a.times, 1);
    while (a.times < 3)
        loop_step(&loop, -1);
    timer_cancel(&loop, &a.timer);
}

static void
times_without_sense_are_brought_into_range(void **state)
{
    struct alarm a, b;
    (void)state;
    alarm_init(&a);
    alarm_init(&b);
    timer_set(&loop, &a.timer, INT64_MIN);
    timer_set(&loop, &b.timer, INT64_MAX);
    loop_step(&loop, 0);
    assert_int_equal(a.times, 1);
    assert_int_equal(b.times, 0);
    assert_int_equal(loop_timeout(&loop), INT_MAX);
    timer_cancel(&loop, &b.timer);
}

static void
thousands_of_timers_fire_in_order_whatever_is_done_to_them(void **state)
{
    enum { N = 3000 };
    static struct alarm all[N];
    uint32_t r = 12345;
    int armed = 0;
    size_t i;
    (void)state;
    for (i = 0; i < N; i++)
        alarm_init(&all[i]);
    for (i = 0; i < 10 * N; i++) {
        struct alarm *a = &all[((r = r * 1664525u + 1013904223u) >> 8) % N];
        r = r * 1664525u + 1013904223u;
        if (r >> 28 == 0)
            timer_cancel(&loop, &a->timer);
        else
            timer_set(&loop, &a->timer, r >> 16 & 63);
    }
    for (i = 0; i < N; i++)
        armed += timer_armed(&all[i].timer);
    assert_true(armed > N / 2);
    while (loop_timeout(&loop) >= 0)
        loop_step(&loop, -1);
    assert_int_equal(fired, armed);
    for (i = 0; i < N; i++)
        assert_true(all[i].times <= 1 && !timer_armed(&all[i].timer));
}

static void
free_own_timer(struct timer *t)
{
    fired++;
    free(MAP_OWNER(t, struct alarm, timer));
}

static void
a_timer_may_be_freed_when_it_fires(void **state)
{
    struct alarm *a = calloc(1, sizeof *a);
    (void)state;
    fired = 0;
    assert_non_null(a);
    a->timer.fire = free_own_timer;
    timer_set(&loop, &a->timer, 0);
    loop_step(&loop, 0);
    assert_int_equal(fired, 1);
}

/* ---- tasks and the order of a turn ---- */

static char order[64];

struct job {
    struct loop_task task;
    const char      *name;
    struct job      *then_end;   /* queue for the end phase */
    bool             again;      /* soon again */
    int              busy_ms;
};

static void
job_run(struct loop_task *t)
{
    struct job *j = MAP_OWNER(t, struct job, task);
    struct timespec pause = { 0, (long)j->busy_ms * 1000000 };
    strcat(order, j->name);
    if (j->busy_ms > 0)
        nanosleep(&pause, NULL);
    if (j->then_end != NULL)
        loop_at_end(&loop, &j->then_end->task);
    if (j->again)
        loop_soon(&loop, t);
}

static void
order_ready(struct loop_watch *w, unsigned events)
{
    (void)w;
    (void)events;
    strcat(order, "r");
}

static void
order_fire(struct timer *t)
{
    (void)t;
    strcat(order, "t");
}

static void
a_turn_serves_sockets_then_timers_then_end_then_soon(void **state)
{
    struct end e;
    struct timer t = { .fire = order_fire };
    struct job soon = { .task = { .run = job_run }, .name = "s" };
    struct job second = { .task = { .run = job_run }, .name = "E" };
    struct job first = { .task = { .run = job_run }, .name = "e", .then_end = &second };
    (void)state;
    order[0] = '\0';
    end_open(&e);
    e.watch.ready = order_ready;
    loop_watch_set(&loop, &e.watch, LOOP_READ);
    poke(&e);
    loop_at_end(&loop, &first.task);
    loop_at_end(&loop, &first.task);
    loop_soon(&loop, &soon.task);
    loop_soon(&loop, &soon.task);
    timer_set(&loop, &t, 0);
    loop_step(&loop, -1);
    assert_string_equal(order, "rteEs");
    end_close(&e);
}

static void
a_soon_task_that_comes_again_waits_for_the_next_turn_without_delay(void **state)
{
    struct job j = { .task = { .run = job_run }, .name = "s", .again = true };
    (void)state;
    order[0] = '\0';
    loop_soon(&loop, &j.task);
    loop_step(&loop, -1);
    assert_string_equal(order, "s");
    assert_int_equal(loop_timeout(&loop), 0);
    loop_step(&loop, -1);
    assert_string_equal(order, "ss");
    loop_task_cancel(&j.task);
    loop_task_cancel(&j.task);
    assert_int_equal(loop_timeout(&loop), -1);
    loop_step(&loop, 0);
    assert_string_equal(order, "ss");
}

static void
slow_soon_tasks_give_the_sockets_a_turn_in_between(void **state)
{
    struct end e;
    struct job a = { .task = { .run = job_run }, .name = "a", .busy_ms = LOOP_SOON_MS + 2 };
    struct job b = { .task = { .run = job_run }, .name = "b", .busy_ms = LOOP_SOON_MS + 2 };
    struct job c = { .task = { .run = job_run }, .name = "c" };
    (void)state;
    order[0] = '\0';
    end_open(&e);
    e.watch.ready = order_ready;
    loop_watch_set(&loop, &e.watch, LOOP_READ);
    poke(&e);
    loop_soon(&loop, &a.task);
    loop_soon(&loop, &b.task);
    loop_step(&loop, -1);
    loop_soon(&loop, &c.task);   /* behind what was left */
    loop_step(&loop, -1);
    loop_step(&loop, -1);
    assert_string_equal(order, "rarbrc");
    end_close(&e);
}

static void
ignore_signal(int sig)
{
    (void)sig;
}

static void
a_signal_ends_the_wait_quietly(void **state)
{
    struct sigaction act, old;
    (void)state;
    memset(&act, 0, sizeof act);
    act.sa_handler = ignore_signal;
    sigaction(SIGALRM, &act, &old);
    alarm(1);
    assert_true(loop_step(&loop, 10000));
    sigaction(SIGALRM, &old, NULL);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_readable_socket_is_told_until_it_is_read),
        T(interest_can_change_and_end),
        T(a_hangup_is_told_and_is_readable_and_writable),
        T(a_watch_removed_during_a_turn_gets_no_stale_event),
        T(a_watch_removed_and_added_again_waits_for_the_next_turn),
        T(reading_stopped_by_an_earlier_callback_is_respected),
        T(a_freed_watch_and_a_reused_descriptor_do_no_harm),
        T(more_ready_sockets_than_a_turn_serves_are_all_served),
        T(what_the_system_refuses_is_reported),
        T(the_loop_can_live_in_another_loop),
        T(a_timer_fires_once_and_not_early),
        T(a_cancelled_timer_stays_silent),
        T(a_timer_can_be_put_off_and_brought_forward),
        T(a_timer_of_no_time_does_not_hold_the_turn),
        T(times_without_sense_are_brought_into_range),
        T(thousands_of_timers_fire_in_order_whatever_is_done_to_them),
        T(a_timer_may_be_freed_when_it_fires),
        T(a_turn_serves_sockets_then_timers_then_end_then_soon),
        T(a_soon_task_that_comes_again_waits_for_the_next_turn_without_delay),
        T(slow_soon_tasks_give_the_sockets_a_turn_in_between),
        T(a_signal_ends_the_wait_quietly),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
