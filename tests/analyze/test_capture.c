/* test_capture.c -- files by hand, and what capture.c reads from them */
#include "lower.h"

#include <inttypes.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct transcript heard;
static struct bytes b;
static int64_t last_ns;

static void
hear_frame(void *user, const struct frame *f)
{
    (void)user;
    assert_true(f->length >= f->captured);
    last_ns = f->time_ns;
    say(&heard, "%" PRIu64 " file %" PRIu32 " if %" PRIu32 " link %d dir %d %" PRId64 ".%09" PRId64
        " '%.*s' %zu\n", f->number, f->file, f->interface, f->link, f->direction,
        f->time_ns / 1000000000, f->time_ns % 1000000000, f->captured < 12 ? (int)f->captured : 0,
        (const char *)f->bytes, f->length);
}

static void
hear_keys(void *user, const char *text, size_t len)
{
    (void)user;
    say(&heard, "keys %.*s\n", (int)len, text);
}

static void
hear_drops(void *user, uint32_t interface, uint64_t n)
{
    (void)user;
    say(&heard, "drops %" PRIu32 " %" PRIu64 "\n", interface, n);
}

static void
hear_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    (void)user;
    (void)detail;
    say(&heard, "remark %s at %" PRIu64 "\n", remark_word(r), frame);
}

static const struct capture_events news = { hear_frame, hear_keys, hear_drops, hear_remark, NULL };
static char names[3][40];
static struct capture *capture;
static char why[300];

static int
setup(void **state)
{
    (void)state;
    memset(&heard, 0, sizeof heard);
    memset(names, 0, sizeof names);
    b.len = 0;
    b.little = true;
    capture = NULL;
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    capture_free(capture);
    for (int i = 0; i < 3; i++) {
        if (names[i][0] != '\0')
            unlink(names[i]);
    }
    return 0;
}

/* What was built becomes file i; building starts again. */
static void
save(int i)
{
    if (names[i][0] == '\0') {
        strcpy(names[i], "/tmp/test_capture.XXXXXX");
        close(mkstemp(names[i]));
    }
    FILE *f = fopen(names[i], "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.at, 1, b.len, f), b.len);
    fclose(f);
    b.len = 0;
}

static void
begin(const char *filter)
{
    struct capture_options o = { .filter = filter };
    capture_free(capture);
    heard.len = 0;
    heard.text[0] = '\0';
    capture = capture_new(&o, &news, NULL, why, sizeof why);
    assert_non_null(capture);
}

static void
run(void)
{
    while (capture_push(capture, 3) != CAPTURE_DONE) {
    }
}

/* Reads one file, which is what was built. */
static void
read_built(const char *filter)
{
    save(0);
    begin(filter);
    if (!capture_add_file(capture, names[0], why, sizeof why)) {
        say(&heard, "refused\n");
        return;
    }
    run();
}

static void
expect(const char *text)
{
    assert_string_equal(heard.text, text);
}

/* ---- pcap ---- */

static void
put_pcap(uint32_t magic, uint32_t link)
{
    put32(&b, magic);
    put16(&b, b.little ? 2 : 2);
    put16(&b, 4);
    put32(&b, 0);
    put32(&b, 0);
    put32(&b, 65535);
    put32(&b, link);
}

static void
put_record(uint32_t s, uint32_t fraction, const char *text, size_t length)
{
    put32(&b, s);
    put32(&b, fraction);
    put32(&b, (uint32_t)strlen(text));
    put32(&b, (uint32_t)length);
    put_bytes(&b, text, strlen(text));
}

static void
pcap_is_read_in_both_byte_orders_and_resolutions(void **state)
{
    (void)state;
    for (int little = 0; little < 2; little++) {
        for (int nano = 0; nano < 2; nano++) {
            b.little = little != 0;
            put_pcap(nano ? 0xA1B23C4D : 0xA1B2C3D4, 1);
            put_record(5, nano ? 7000 : 7, "abc", 3);
            put_record(6, 0, "de", 99);
            read_built(NULL);
            expect("1 file 0 if 0 link 1 dir 0 5.000007000 'abc' 3\n"
                "2 file 0 if 0 link 1 dir 0 6.000000000 'de' 99\n");
        }
    }
}

static void
time_stamps_are_good_beyond_2038(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(0xF0000000, 1, "a", 1);
    read_built(NULL);
    expect("1 file 0 if 0 link 1 dir 0 4026531840.000001000 'a' 1\n");
}

static void
a_cut_file_is_read_up_to_the_cut(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(5, 0, "abc", 3);
    put_record(6, 0, "def", 3);
    b.len -= 2;
    read_built(NULL);
    expect("remark file-cut at 1\n1 file 0 if 0 link 1 dir 0 5.000000000 'abc' 3\n");
    assert_true(capture_file_at(capture, 0)->cut);
    assert_int_equal(capture_file_at(capture, 0)->frames, 1);
}

static void
a_damaged_record_ends_the_file(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(5, 0, "abc", 3);
    put32(&b, 6);
    put_fill(&b, 0xFF, 60);
    read_built(NULL);
    expect("remark file-damaged at 1\n1 file 0 if 0 link 1 dir 0 5.000000000 'abc' 3\n");
    assert_true(capture_file_at(capture, 0)->damaged);
}

static void
what_is_no_capture_is_refused_with_a_reason(void **state)
{
    (void)state;
    put_bytes(&b, "hello, world, this is a text file", 33);
    read_built(NULL);
    expect("refused\n");
    put_bytes(&b, "Begin of a text: only a pipe is known by its first byte", 56);
    read_built(NULL);
    expect("refused\n");
    assert_null(strstr(why, "compressed"));
    put_bytes(&b, "\x1F\x8B\x08\0\0\0\0\0\0\0\0\0", 12);
    read_built(NULL);
    expect("refused\n");
    assert_non_null(strstr(why, "compressed, and gzip"));
    read_built(NULL);
    expect("refused\n");
    assert_string_equal(why, "the file is empty");
    assert_false(capture_add_file(capture, "/nonexistent/file", why, sizeof why));
}

static void
a_packed_file_is_read_and_one_without_its_end_is_damaged(void **state)
{
    static const char long_content[1200];
    char command[128];
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(5, 0, "abc", 3);
    save(0);
    save(1);
    snprintf(command, sizeof command, "gzip -c %s >%s", names[0], names[1]);
    assert_int_equal(system(command), 0);
    begin(NULL);
    assert_true(capture_add_file(capture, names[1], why, sizeof why));
    run();
    expect("1 file 0 if 0 link 1 dir 0 5.000000000 'abc' 3\n");
    put_pcap(0xA1B2C3D4, 1);
    for (uint32_t i = 0; i < 60; i++)
        put_record(i, 0, long_content, sizeof long_content);
    save(0);
    snprintf(command, sizeof command, "gzip -c %s | head -c -6 >%s", names[0], names[1]);
    assert_int_equal(system(command), 0);
    begin(NULL);
    assert_true(capture_add_file(capture, names[1], why, sizeof why));
    run();
    assert_true(capture_file_at(capture, 0)->cut || capture_file_at(capture, 0)->damaged);
    assert_true(capture_file_at(capture, 0)->frames > 0);
}

static void
a_wrong_filter_is_refused_at_once(void **state)
{
    struct capture_options o = { .filter = "tcp prot 5" };
    (void)state;
    assert_null(capture_new(&o, &news, NULL, why, sizeof why));
    assert_true(why[0] != '\0');
}

static void
a_filter_leaves_out_frames_and_keeps_their_numbers(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(5, 0, "abc", 3);
    put_record(6, 0, "defgh", 5);
    put_record(7, 0, "i", 1);
    read_built("greater 5");
    expect("2 file 0 if 0 link 1 dir 0 6.000000000 'defgh' 5\n");
    assert_int_equal(capture_file_at(capture, 0)->frames, 3);
    assert_int_equal(capture_interface_at(capture, 0)->frames, 1);
}

/* ---- pcapng ---- */

static size_t block_at;

static void
block_open(uint32_t type)
{
    block_at = b.len;
    put32(&b, type);
    put32(&b, 0);
}

static void
block_close(void)
{
    while (b.len % 4 != 0)
        put8(&b, 0);
    uint32_t len = (uint32_t)(b.len - block_at + 4);
    put32(&b, len);
    memcpy(b.at + block_at + 4, b.at + b.len - 4, 4);
}

static void
put_section(void)
{
    block_open(0x0A0D0D0A);
    put32(&b, 0x1A2B3C4D);
    put16(&b, 1);
    put16(&b, 0);
    put_fill(&b, 0xFF, 8);
    block_close();
}

static void
put_option(unsigned code, const void *at, size_t len)
{
    put16(&b, code);
    put16(&b, (unsigned)len);
    put_bytes(&b, at, len);
    while (b.len % 4 != 0)
        put8(&b, 0);
}

static void
put_interface(unsigned link, uint32_t snaplen, const char *name, int resolution)
{
    block_open(1);
    put16(&b, link);
    put16(&b, 0);
    put32(&b, snaplen);
    put_option(2, name, strlen(name));
    if (resolution >= 0) {
        unsigned char code = (unsigned char)resolution;
        put_option(9, &code, 1);
    }
    put_option(0, NULL, 0);
    block_close();
}

/* An enhanced packet, with flags when they are not zero. */
static void
put_packet(uint32_t interface, uint64_t time, const char *text, uint32_t flags)
{
    block_open(6);
    put32(&b, interface);
    put32(&b, (uint32_t)(time >> 32));
    put32(&b, (uint32_t)time);
    put32(&b, (uint32_t)strlen(text));
    put32(&b, (uint32_t)strlen(text));
    put_bytes(&b, text, strlen(text));
    while (b.len % 4 != 0)
        put8(&b, 0);
    if (flags != 0) {
        put16(&b, 2);
        put16(&b, 4);
        put32(&b, flags);
        put32(&b, 0);
    }
    block_close();
}

static void
interfaces_may_differ_in_everything(void **state)
{
    (void)state;
    for (int little = 0; little < 2; little++) {
        b.little = little != 0;
        put_section();
        put_interface(1, 65535, "eth0", -1);
        put_interface(101, 96, "tun0", 9);
        put_interface(1, 0, "eth1", 0x80 | 10);
        put_packet(0, 1000001, "a", 1);
        put_packet(1, UINT64_C(2000000003), "b", 2);
        put_packet(2, 3 * 1024 + 512, "c", 3);
        read_built(NULL);
        expect("1 file 0 if 0 link 1 dir 1 1.000001000 'a' 1\n"
            "2 file 0 if 1 link 101 dir 2 2.000000003 'b' 1\n"
            "3 file 0 if 2 link 1 dir 0 3.500000000 'c' 1\n");
        assert_int_equal(capture_interface_count(capture), 3);
        assert_string_equal(capture_interface_at(capture, 1)->name, "tun0");
        assert_int_equal(capture_interface_at(capture, 1)->snaplen, 96);
    }
}

static void
sections_start_their_interfaces_anew(void **state)
{
    (void)state;
    put_section();
    put_interface(1, 0, "a", -1);
    put_packet(0, 1000000, "x", 0);
    b.little = false;
    put_section();
    put_interface(113, 0, "b", -1);
    put_packet(0, 2000000, "y", 0);
    put_packet(1, 3000000, "z", 0);              /* was never described */
    read_built(NULL);
    expect("remark file-damaged at 2\n1 file 0 if 0 link 1 dir 0 1.000000000 'x' 1\n"
        "2 file 0 if 1 link 113 dir 0 2.000000000 'y' 1\n");
}

static void
simple_and_old_packets_are_read(void **state)
{
    (void)state;
    put_section();
    put_interface(1, 4, "a", -1);
    put_packet(0, 1000000, "x", 0);
    block_open(3);
    put32(&b, 9);
    put_bytes(&b, "abcd", 4);
    block_close();
    block_open(2);
    put16(&b, 0);
    put16(&b, 5);                                /* drops before it */
    put32(&b, 0);
    put32(&b, 2000000);
    put32(&b, 3);
    put32(&b, 30);
    put_bytes(&b, "old", 3);
    block_close();
    read_built(NULL);
    expect("drops 0 5\n1 file 0 if 0 link 1 dir 0 1.000000000 'x' 1\n"
        "2 file 0 if 0 link 1 dir 0 1.000000000 'abcd' 9\n"
        "3 file 0 if 0 link 1 dir 0 2.000000000 'old' 30\n");
}

static void
secrets_and_drops_are_told(void **state)
{
    (void)state;
    put_section();
    put_interface(1, 0, "a", -1);
    block_open(10);
    put32(&b, 0x544C534B);
    put32(&b, 11);
    put_bytes(&b, "CLIENT_TEST", 11);
    block_close();
    for (unsigned i = 1; i <= 2; i++) {          /* statistics count from the start */
        block_open(5);
        put32(&b, 0);
        put32(&b, 0);
        put32(&b, 0);
        put16(&b, 5);
        put16(&b, 8);
        put32(&b, b.little ? 10 * i : 0);
        put32(&b, 0);
        block_close();
    }
    block_open(0x0BAD);                          /* somebody's own */
    put_fill(&b, 0x55, 40);
    block_close();
    read_built(NULL);
    expect("keys CLIENT_TEST\ndrops 0 10\ndrops 0 10\n");
    assert_int_equal(capture_interface_at(capture, 0)->drops, 20);
}

static void
a_filter_is_compiled_for_each_interface(void **state)
{
    static struct bytes ip;
    char text[80];
    (void)state;
    ip.len = 0;
    put_ipv4(&ip, 6, 20, 0, 1);
    put_tcp(&ip, TCP_ACK, 1, 1, "");
    assert_true(ip.len < sizeof text);
    put_section();
    put_interface(101, 0, "tun", -1);
    put_interface(1, 0, "eth", -1);
    for (unsigned i = 0; i < 2; i++) {
        block_open(6);
        put32(&b, i);
        put32(&b, 0);
        put32(&b, 0);
        put32(&b, (uint32_t)(ip.len + 14 * i));
        put32(&b, (uint32_t)(ip.len + 14 * i));
        put_bytes(&b, "\2\2\2\2\2\2\4\4\4\4\4\4\x08\0", 14 * i);
        put_bytes(&b, ip.at, ip.len);
        block_close();
    }
    put_packet(1, 0, "neither", 0);
    read_built("tcp port 5269");
    expect(
        "1 file 0 if 0 link 101 dir 0 0.000000000 '' 40\n"
        "2 file 0 if 1 link 1 dir 0 0.000000000 '' 54\n");
}

static void
a_pcapng_file_cut_anywhere_is_read_up_to_there(void **state)
{
    static struct bytes whole;
    (void)state;
    put_section();
    put_interface(1, 0, "eth0", 9);
    size_t first = b.len;
    put_packet(0, 1, "abc", 1);
    size_t second = b.len;
    put_packet(0, 2, "def", 2);
    whole = b;
    for (size_t cut = 1; cut <= whole.len; cut++) {
        b = whole;
        b.len = cut;
        read_built(NULL);
        bool even = cut == 28 || cut == first || cut == second || cut == whole.len;
        assert_int_equal(capture_file_at(capture, 0)->cut, !even);
        assert_int_equal(capture_file_at(capture, 0)->frames, (cut >= second) + (cut >= whole.len));
        assert_false(capture_file_at(capture, 0)->damaged);
    }
}

static void
damage_in_any_byte_does_no_harm(void **state)
{
    static struct bytes whole;
    (void)state;
    put_section();
    put_interface(276, 0, "eth0", 9);
    put_packet(0, 1, "abcdefghijklmnopqrstuvwxyz", 1);
    put_packet(0, 2, "def", 2);
    whole = b;
    for (size_t at = 0; at < whole.len; at++) {
        for (unsigned v = 0; v < 256; v += 51) {
            b = whole;
            b.at[at] = (unsigned char)v;
            read_built("ip or ip6 or not ip");
        }
    }
}

static void
impossible_blocks_end_the_file(void **state)
{
    static const uint32_t lengths[] = { 0, 8, 13, 0x7FFFFFFC, 0xFFFFFFFC };
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_section();
        put_interface(1, 0, "a", -1);
        put_packet(0, 1, "abc", 0);
        put32(&b, 6);
        put32(&b, lengths[i]);
        put_fill(&b, 0, 40);
        read_built(NULL);
        expect("remark file-damaged at 1\n1 file 0 if 0 link 1 dir 0 0.000001000 'abc' 3\n");
    }
}

/* ---- several ---- */

static void
files_are_merged_by_time(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(1, 0, "a", 1);
    put_record(4, 0, "d", 1);
    save(0);
    put_section();
    put_interface(101, 0, "b", -1);
    put_packet(0, 2000000, "b", 0);
    put_packet(0, 3000000, "c", 0);
    put_packet(0, 4000000, "e", 0);
    save(1);
    begin(NULL);
    assert_true(capture_add_file(capture, names[0], why, sizeof why));
    assert_true(capture_add_file(capture, names[1], why, sizeof why));
    run();
    expect(
        "1 file 0 if 0 link 1 dir 0 1.000000000 'a' 1\n"
        "2 file 1 if 1 link 101 dir 0 2.000000000 'b' 1\n"
        "3 file 1 if 1 link 101 dir 0 3.000000000 'c' 1\n"
        "4 file 0 if 0 link 1 dir 0 4.000000000 'd' 1\n"
        "5 file 1 if 1 link 101 dir 0 4.000000000 'e' 1\n");
    assert_int_equal(capture_file_at(capture, 1)->format, CAPTURE_PCAPNG);
}

static void
a_damaged_file_does_not_stop_the_others(void **state)
{
    (void)state;
    put_section();
    put_fill(&b, 0xEE, 40);
    save(0);
    put_pcap(0xA1B2C3D4, 1);
    put_record(1, 0, "a", 1);
    save(1);
    begin(NULL);
    assert_true(capture_add_file(capture, names[0], why, sizeof why));
    assert_true(capture_add_file(capture, names[1], why, sizeof why));
    run();
    expect("remark file-damaged at 0\n1 file 1 if 0 link 1 dir 0 1.000000000 'a' 1\n");
}

static void
time_that_goes_back_is_remarked_once(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(3, 0, "a", 1);
    put_record(2, 0, "b", 1);
    put_record(1, 0, "c", 1);
    read_built(NULL);
    assert_non_null(strstr(heard.text, "remark time-back at 1\n"));
    assert_null(strstr(heard.text, "remark time-back at 2\n"));
}

static void
standard_input_and_pipes_are_read(void **state)
{
    (void)state;
    for (int ng = 0; ng < 2; ng++) {
        int ends[2];
        int keep = dup(STDIN_FILENO);
        assert_int_equal(pipe(ends), 0);
        if (ng) {
            put_section();
            put_interface(1, 0, "", -1);
            put_packet(0, 1000000, "a", 0);
        } else {
            put_pcap(0xA1B2C3D4, 1);
            put_record(1, 0, "a", 1);
        }
        assert_int_equal(write(ends[1], b.at, b.len), (ssize_t)b.len);
        b.len = 0;
        close(ends[1]);
        dup2(ends[0], STDIN_FILENO);
        begin(NULL);
        assert_true(capture_add_file(capture, "-", why, sizeof why));
        run();
        expect("1 file 0 if 0 link 1 dir 0 1.000000000 'a' 1\n");
        dup2(keep, STDIN_FILENO);
        close(keep);
        close(ends[0]);
    }
}

static void
cooked_captures_tell_leg_and_direction(void **state)
{
    static const char out[] = "\x08\0\0\0\0\0\0\3\0\1\4\6\2\2\2\2\2\2\0\0";
    static const char in[] = "\x08\0\0\0\0\0\0\7\0\1\0\6\2\2\2\2\2\2\0\0";
    (void)state;
    put_pcap(0xA1B2C3D4, 276);
    for (int i = 0; i < 3; i++) {
        put32(&b, 1);
        put32(&b, 0);
        put32(&b, 20);
        put32(&b, 20);
        put_bytes(&b, i == 1 ? in : out, 20);
    }
    read_built(NULL);
    expect("1 file 0 if 1 link 276 dir 2 1.000000000 '' 20\n"
        "2 file 0 if 2 link 276 dir 1 1.000000000 '' 20\n"
        "3 file 0 if 1 link 276 dir 2 1.000000000 '' 20\n");
    assert_string_equal(capture_interface_at(capture, 1)->name, "index 3");
}

static void
a_frame_larger_than_a_batch_comes_whole(void **state)
{
    static char text[80001];
    (void)state;
    memset(text, 'x', 80000);
    put_section();
    put_interface(1, 0, "", -1);
    put_packet(0, 1, "a", 0);
    put_packet(0, 2, text, 0);
    save(0);
    FILE *f = fopen(names[0], "ab");
    for (int i = 0; i < 20; i++) {
        put_packet(0, (uint64_t)(3 + i), text, 0);
        assert_int_equal(fwrite(b.at, 1, b.len, f), b.len);
        b.len = 0;
    }
    fclose(f);
    begin(NULL);
    assert_true(capture_add_file(capture, names[0], why, sizeof why));
    run();
    assert_int_equal(capture_file_at(capture, 0)->frames, 22);
    assert_non_null(strstr(heard.text, "22 file 0 if 0 link 1 dir 0 0.000022000 '' 80000\n"));
}

static void
stopping_ends_the_run(void **state)
{
    (void)state;
    put_pcap(0xA1B2C3D4, 1);
    put_record(1, 0, "a", 1);
    save(0);
    begin(NULL);
    assert_true(capture_add_file(capture, names[0], why, sizeof why));
    capture_stop(capture);
    assert_int_equal(capture_push(capture, 9), CAPTURE_DONE);
    expect("");
}

/* The kernel keeps frames back for a while, to hand over many at once. */
static void
what_came_before_the_stop_is_read_from_an_interface(void **state)
{
    enum { FRAMES = 50 };
    struct capture_options options = { .filter = "udp and dst host 127.7.7.7 and dst port 7777" };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7777) };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    (void)state;
    to.sin_addr.s_addr = inet_addr("127.7.7.7");
    capture = capture_new(&options, &news, NULL, why, sizeof why);
    assert_non_null(capture);
    if (!capture_add_interface(capture, "lo", why, sizeof why)) {
        close(fd);
        skip();
    }
    for (int i = 0; i < FRAMES; i++)
        assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
    capture_stop(capture);
    while (capture_push(capture, 9) != CAPTURE_DONE)
        ;
    close(fd);
    assert_int_equal(capture_file_at(capture, 0)->frames, FRAMES);
}

static void
an_interface_that_is_not_there_is_refused_with_a_reason(void **state)
{
    (void)state;
    begin(NULL);
    assert_false(capture_add_interface(capture, "no-such-if0", why, sizeof why));
    assert_true(why[0] != '\0');
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pcap_is_read_in_both_byte_orders_and_resolutions),
        TEST(time_stamps_are_good_beyond_2038),
        TEST(a_cut_file_is_read_up_to_the_cut), TEST(a_damaged_record_ends_the_file),
        TEST(what_is_no_capture_is_refused_with_a_reason),
        TEST(a_packed_file_is_read_and_one_without_its_end_is_damaged),
        TEST(a_wrong_filter_is_refused_at_once),
        TEST(a_filter_leaves_out_frames_and_keeps_their_numbers),
        TEST(interfaces_may_differ_in_everything), TEST(sections_start_their_interfaces_anew),
        TEST(simple_and_old_packets_are_read), TEST(secrets_and_drops_are_told),
        TEST(a_filter_is_compiled_for_each_interface),
        TEST(a_pcapng_file_cut_anywhere_is_read_up_to_there), TEST(damage_in_any_byte_does_no_harm),
        TEST(impossible_blocks_end_the_file), TEST(files_are_merged_by_time),
        TEST(a_damaged_file_does_not_stop_the_others), TEST(time_that_goes_back_is_remarked_once),
        TEST(standard_input_and_pipes_are_read), TEST(cooked_captures_tell_leg_and_direction),
        TEST(a_frame_larger_than_a_batch_comes_whole), TEST(stopping_ends_the_run),
        TEST(what_came_before_the_stop_is_read_from_an_interface),
        TEST(an_interface_that_is_not_there_is_refused_with_a_reason)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
