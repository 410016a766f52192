/* test_log.c -- [LOG]: what a line says can be read back, whatever bytes a stranger has sent */
#include "cut/LOG.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char line[LOG_LINE_MAX + 16];

static void
keep_line(void *user, int priority, const char *text, size_t len)
{
    (void)user;
    assert_int_equal(priority, 6);
    assert_int_equal(strlen(text), len);
    snprintf(line, sizeof line, "%s", text);
}

/* The value that a line of this form has for one field. */
static const char *
value_of(bool json, struct xe_span value)
{
    struct log log = { .level = LOG_DEBUG, .json = json, .sink = keep_line };
    char *at;
    assert_true(log_begin(&log, LOG_INFO, "test", span_make(NULL, 0)));
    log_span(&log, "to", value);
    log_end(&log);
    buf_free(&log.line);
    at = strstr(line, json ? "\"to\":" : " to=");
    assert_non_null(at);
    at[strlen(at) - (json ? 2 : 1)] = '\0';   /* the end of the object, and of the line */
    return at + (json ? 5 : 4);
}

static void
values_are_read_back_as_they_were(void **state)
{
    static const struct { const char *in; const char *text; const char *json; } rows[] = {
        { "far.example", "far.example", "\"far.example\"" },
        { "", "\"\"", "\"\"" },
        { "b\xc3\xbc" "cher.example", "\"b\xc3\xbc" "cher.example\"",
          "\"b\xc3\xbc" "cher.example\"" },
        { "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"", "\"\xf0\x9f\x98\x80\"" },
        { "say \"a\\b\"", "\"say \\\"a\\\\b\\\"\"", "\"say \\\"a\\\\b\\\"\"" },
        { "a\nb\x7f", "\"a\\u000ab\\u007f\"", "\"a\\u000ab\\u007f\"" },
        { "to=me", "\"to=me\"", "\"to=me\"" },
        { "\xe2\x80\xae" "elpmaxe", "\"\\u202eelpmaxe\"", "\"\\u202eelpmaxe\"" },   /* backwards */
        { "\xf3\xa0\x80\x81", "\"\\udb40\\udc01\"", "\"\\udb40\\udc01\"" },
        { "\xff" "b\xc3", "\"\\ufffdb\\ufffd\"", "\"\\ufffdb\\ufffd\"" },
        { "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"", "\"\\ufffd\\ufffd\\ufffd\"" },
    };
    size_t i;
    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_string_equal(value_of(false, span_of(rows[i].in)), rows[i].text);
        assert_string_equal(value_of(true, span_of(rows[i].in)), rows[i].json);
    }
}

static void
a_long_value_is_cut_between_two_characters(void **state)
{
    char long_one[2 * LOG_VALUE_MAX];
    const char *value;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof long_one; i += 2)
        memcpy(long_one + i, "\xc3\xbc", 2);
    value = value_of(true, span_make(long_one, sizeof long_one));
    assert_int_equal(strlen(value), LOG_VALUE_MAX + strlen("\"...\""));
    assert_memory_equal(value + 1, long_one, LOG_VALUE_MAX);
    assert_string_equal(value + 1 + LOG_VALUE_MAX, "...\"");
}

/* ---- budgets ---- */

static struct net_book book;
static size_t lines;

static void
count_line(void *user, int priority, const char *text, size_t len)
{
    (void)user;
    (void)priority;
    (void)text;
    (void)len;
    lines++;
}

static struct net_source *
network(const char *text)
{
    struct sockaddr_storage a;
    struct net_source *s;
    memset(&a, 0, sizeof a);
    a.ss_family = AF_INET6;
    if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)(void *)&a)->sin6_addr) != 1) {
        a.ss_family = AF_INET;
        inet_pton(AF_INET, text, &((struct sockaddr_in *)(void *)&a)->sin_addr);
    }
    s = net_source_of(&book, &a);
    assert_non_null(s);
    net_count(&book, s, NET_CONNECTIONS, 1);
    return s;
}

static struct log *
fresh_log(void)
{
    static struct log log;
    log = (struct log){ .level = LOG_INFO, .sink = count_line, .keyed.seed = { 3, 7 } };
    book = (struct net_book){ .idle.count = 0 };
    net_book_open(&book);
    lines = 0;
    return &log;
}

/* How many lines of `n` are written. */
static size_t
written(struct log *log, const struct net_source *from, const char *subject, size_t n)
{
    size_t before = lines;
    for (; n > 0; n--)
        if (from != NULL ? log_begin_from(log, LOG_WARN, "ended", from)
            : log_begin(log, LOG_WARN, "ended", span_of(subject)))
            log_end(log);
    return lines - before;
}

static void
done(struct log *log)
{
    buf_free(&log->line);
    net_book_close(&book);
}

static void
one_network_does_not_silence_another(void **state)
{
    struct log *log = fresh_log();
    (void)state;
    assert_in_range(written(log, network("192.0.2.1"), NULL, 5000),
        LOG_SOURCE_BURST, 2 * LOG_SOURCE_BURST);
    assert_int_equal(written(log, network("192.0.2.2"), NULL, 5), 5);
    done(log);
}

static void
a_site_has_the_lines_of_two_networks_however_many_it_uses(void **state)
{
    struct log *log = fresh_log();
    size_t all = 0;
    size_t i;
    (void)state;
    for (i = 0; i < 1000; i++) {
        char text[64];
        snprintf(text, sizeof text, "2001:db8:1:%zx::1", i);
        all += written(log, network(text), NULL, 10);
    }
    assert_in_range(all, 2 * LOG_SOURCE_BURST, 4 * LOG_SOURCE_BURST);   /* the window may end */
    assert_int_equal(written(log, network("2001:db8:2::1"), NULL, 5), 5);
    done(log);
}

static void
strangers_of_all_networks_do_not_silence_who_is_proven(void **state)
{
    struct log *log = fresh_log();
    size_t all = 0;
    size_t i;
    (void)state;
    for (i = 0; i < 2000; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.%zu.%zu.1", i / 250, i % 250);
        all += written(log, network(text), NULL, 10);
    }
    assert_in_range(all, LOG_EVENT_BURST, 2 * LOG_EVENT_BURST);
    assert_int_equal(written(log, NULL, "far.example", 5), 5);
    done(log);
}

/* How many lines are written about parties of one kind that come from so many networks. */
static size_t
written_of_many(struct log *log, enum log_whom whom, size_t networks, size_t n)
{
    size_t before = lines;
    size_t i, j;
    for (i = 0; i < networks; i++) {
        char text[32];
        struct log_party who;
        snprintf(text, sizeof text, "10.%zu.%zu.1", i / 250, i % 250);
        who = log_party(whom, network(text));
        for (j = 0; j < n; j++)
            if (log_begin_about(log, LOG_INFO, "ended", &who, span_of("far.example")))
                log_end(log);
    }
    return lines - before;
}

static void
no_kind_of_party_silences_another(void **state)
{
    size_t kind, other;
    (void)state;
    for (kind = 0; kind < LOG_WHOMS; kind++) {
        struct log *log = fresh_log();
        assert_in_range(written_of_many(log, (enum log_whom)kind, 2000, 10),
            LOG_EVENT_BURST, 2 * LOG_EVENT_BURST);
        for (other = 0; other < LOG_WHOMS; other++)
            if (other != kind)
                assert_int_equal(written_of_many(log, (enum log_whom)other, 1, 5), 5);
        done(log);
    }
}

static void
who_claims_a_listed_domain_has_few_lines(void **state)
{
    struct log *log = fresh_log();
    (void)state;
    assert_in_range(written_of_many(log, LOG_CLAIMANT, 1, 1000), LOG_BURST, 2 * LOG_BURST);
    done(log);
}

/* Write a line to whatever it is. */
static void
say(struct log *log, const char *event)
{
    assert_true(log_begin(log, LOG_INFO, event, span_make(NULL, 0)));
    log_text(log, "fill", "................................................................");
    log_end(log);
}

/* What is in a pipe, as text. */
static const char *
drained(int fd)
{
    static char text[1 << 17];
    size_t len = 0;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (len < sizeof text - 1 && poll(&p, 1, 0) == 1) {
        ssize_t n = read(fd, text + len, sizeof text - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    return text;
}

static size_t
lines_of(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static void
a_pipe_that_nobody_reads_holds_up_nothing(void **state)
{
    struct log log = { .level = LOG_INFO };
    int ends[2];
    size_t said = 0;
    char expected[64];
    const char *text;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    log.fd = ends[1];
    while (log.lost < 100) {
        say(&log, "test");
        assert_true(++said < 100000);
    }
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(lines_of(drained(ends[0])), said - 100);
    say(&log, "after");
    text = drained(ends[0]);
    snprintf(expected, sizeof expected, " log-lost lines=%d\n", 100);
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(strstr(text, expected), " after "));
    assert_int_equal(lines_of(text), 2);
    say(&log, "last");
    assert_int_equal(lines_of(drained(ends[0])), 1);
    close(ends[0]);
    close(ends[1]);
    buf_free(&log.line);
    buf_free(&log.rest);
}

/* A file that may have so many bytes and no more: what a full disk does. */
static void
a_full_disk_tears_no_line(void **state)
{
    struct log log = { .level = LOG_INFO };
    struct rlimit was, small;
    char name[] = "/tmp/test_log.XXXXXX";
    static char text[4096];
    ssize_t len;
    size_t i;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    log.fd = mkstemp(name);
    assert_true(log.fd >= 0);
    unlink(name);
    getrlimit(RLIMIT_FSIZE, &was);
    small = was;
    small.rlim_cur = 300;   /* two lines and a half */
    setrlimit(RLIMIT_FSIZE, &small);
    for (i = 0; i < 5; i++)
        say(&log, "test");
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(log.lost, 2);
    say(&log, "after");
    len = pread(log.fd, text, sizeof text - 1, 0);
    assert_true(len > 0);
    text[len] = '\0';
    assert_int_equal(lines_of(text), 5);
    assert_non_null(strstr(text, "...\n2"));
    assert_non_null(strstr(text, "log-lost lines=2\n"));
    assert_null(strstr(text, "\n."));
    close(log.fd);
    buf_free(&log.line);
    buf_free(&log.rest);
}

static void
a_device_that_takes_nothing_is_no_error(void **state)
{
    struct log log = { .level = LOG_INFO, .fd = open("/dev/full", O_WRONLY) };
    int ends[2];
    (void)state;
    if (log.fd < 0)
        skip();
    say(&log, "one");
    say(&log, "two");
    assert_int_equal(log.lost, 2);
    close(log.fd);
    assert_int_equal(pipe(ends), 0);
    log.fd = ends[1];
    log_tell_lost(&log);
    assert_non_null(strstr(drained(ends[0]), " log-lost lines=2\n"));
    assert_int_equal(log.lost, 0);
    close(ends[0]);
    close(ends[1]);
    buf_free(&log.line);
    buf_free(&log.rest);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_back_as_they_were),
        cmocka_unit_test(a_long_value_is_cut_between_two_characters),
        cmocka_unit_test(one_network_does_not_silence_another),
        cmocka_unit_test(a_site_has_the_lines_of_two_networks_however_many_it_uses),
        cmocka_unit_test(strangers_of_all_networks_do_not_silence_who_is_proven),
        cmocka_unit_test(no_kind_of_party_silences_another),
        cmocka_unit_test(who_claims_a_listed_domain_has_few_lines),
        cmocka_unit_test(a_pipe_that_nobody_reads_holds_up_nothing),
        cmocka_unit_test(a_full_disk_tears_no_line),
        cmocka_unit_test(a_device_that_takes_nothing_is_no_error),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
