/* test_invite.c -- [INVITE]: whom users have written to, how many, and the file that keeps them */
#include "cut/INVITE.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct world {
    char               dir[64];
    char               file[128];
    struct invites     t;
    struct invite_file f;
};

static struct world world;

static int
make_world(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    strcpy(world.dir, "/tmp/test_invite.XXXXXX");
    if (mkdtemp(world.dir) == NULL)
        return -1;
    snprintf(world.file, sizeof world.file, "%s/invitations", world.dir);
    invite_open(&world.t, &world.f);
    world.f.path = strdup(world.file);
    return world.f.path == NULL ? -1 : 0;
}

static int
remove_world(void **state)
{
    (void)state;
    invite_close(&world.t, &world.f);
    unlink(world.file);
    return rmdir(world.dir);
}

static bool
invite(const char *user, const char *contact, size_t most)
{
    struct invite_key k;
    return invite_key_of(&k, span_of(user), span_of(contact))
        && invite_get(&world.t, &k, most, false) != NULL;
}

static bool
hear(const char *user, const char *contact, size_t most)
{
    struct invite_key k;
    return invite_key_of(&k, span_of(user), span_of(contact))
        && invite_get(&world.t, &k, most, true) != NULL;
}

static bool
is_invited(const char *user, const char *contact)
{
    struct invite_key k;
    return invite_key_of(&k, span_of(user), span_of(contact)) && invite_find(&world.t, &k) != NULL;
}

static void
put(const char *text, size_t len)
{
    FILE *out = fopen(world.file, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static struct buf
get(void)
{
    struct buf text = { 0 };
    assert_true(tls_file_read(world.file, &text));
    return text;
}

/* What is said of a file with this text. */
static const char *
said(const char *text)
{
    put(text, strlen(text));
    return invite_file_read(&world.f, &world.t, 10);
}

static void
addresses_are_compared_bare_and_in_lower_case(void **state)
{
    (void)state;
    assert_true(invite("B@Near.example/x", "a@FAR.example./y", 10));
    assert_true(is_invited("b@near.example", "A@far.example/other"));
    assert_false(is_invited("b@near.example", "far.example"));
    assert_false(is_invited("a@near.example", "b@far.example"));
    assert_true(invite("b@near.example", "far.example", 10));
    assert_int_equal(world.t.map.count, 2);
}

static void
what_is_no_address_is_no_pair(void **state)
{
    struct invite_key k;
    (void)state;
    assert_false(invite_key_of(&k, span_of("b@near.example"), span_make(NULL, 0)));
    assert_false(invite_key_of(&k, span_of("b@near..example"), span_of("a@far.example")));
    assert_false(invite_key_of(&k, span_of("b c@near.example"), span_of("a@far.example")));
    assert_false(invite_key_of(&k, span_of("b@near.example"), span_of("a&#10;@far.example")));
    assert_true(invite_key_of(&k, span_of("near.example"), span_of("&#x61;@far.example")));
    assert_false(invite_is_of_user(&k));
    assert_string_equal(k.text, "near.example a@far.example");
}

static void
the_longest_addresses_fit(void **state)
{
    char user[2 * JID_PART_MAX];
    char label[64];
    size_t i;
    (void)state;
    memset(user, 'u', JID_PART_MAX);
    user[JID_PART_MAX] = '@';
    memset(label, 'd', 63);
    label[63] = '\0';
    for (i = 0; i < 3; i++)
        snprintf(user + JID_PART_MAX + 1 + i * 64, 65, "%s.", label);
    label[61] = '\0';
    strcat(user, label);
    assert_true(invite(user, user, 10));
    assert_true(invite_file_write(&world.f, &world.t, false));
    invite_clear(&world.t);
    assert_null(invite_file_read(&world.f, &world.t, 10));
    assert_true(is_invited(user, user));
}

static void
a_full_table_forgets_the_pair_unused_for_longest(void **state)
{
    (void)state;
    assert_true(invite("b@n.example", "1@f.example", 3));
    assert_true(invite("b@n.example", "2@f.example", 3));
    assert_true(invite("b@n.example", "3@f.example", 3));
    assert_true(is_invited("b@n.example", "1@f.example"));
    assert_true(invite("b@n.example", "4@f.example", 3));
    assert_false(is_invited("b@n.example", "2@f.example"));
    assert_int_equal(world.t.map.count, 3);
    assert_true(invite("b@n.example", "5@f.example", 1));   /* after a reload with less */
    assert_int_equal(world.t.map.count, 1);
    assert_true(is_invited("b@n.example", "5@f.example"));
}

static void
what_others_tell_drives_out_nothing_that_was_seen(void **state)
{
    char contact[32];
    int i;
    (void)state;
    assert_true(invite("b@n.example", "1@f.example", 3));
    for (i = 2; i < 50; i++) {
        snprintf(contact, sizeof contact, "%d@f.example", i);
        assert_true(hear("b@n.example", contact, 3));
        assert_true(is_invited("b@n.example", contact));   /* who is used stays what he is */
    }
    assert_true(is_invited("b@n.example", "1@f.example"));
    assert_true(is_invited("b@n.example", "48@f.example"));
    assert_false(is_invited("b@n.example", "46@f.example"));
    assert_true(invite("b@n.example", "48@f.example", 3));   /* now it is seen here */
    assert_true(hear("b@n.example", "48@f.example", 3));     /* and stays so, whatever is heard */
    assert_true(invite("b@n.example", "50@f.example", 3));
    assert_false(hear("b@n.example", "51@f.example", 3));
    assert_true(is_invited("b@n.example", "1@f.example"));
    assert_true(is_invited("b@n.example", "48@f.example"));
    assert_int_equal(world.t.map.count, 3);
    assert_true(hear("b@n.example", "52@f.example", 4));
    assert_true(hear("b@n.example", "53@f.example", 2));     /* after a reload with less */
    assert_true(is_invited("b@n.example", "53@f.example"));
}

static void
a_file_gives_back_what_was_written_in_its_order_and_is_for_its_owner_alone(void **state)
{
    struct buf text;
    struct stat st;
    int error;
    (void)state;
    assert_null(invite_file_read(&world.f, &world.t, 10));   /* none is an empty one */
    assert_true(invite("b@n.example", "\xc3\xbc@f.example", 10));
    assert_true(invite("c@n.example", "2@f.example", 10));
    assert_true(is_invited("b@n.example", "\xc3\xbc@f.example"));
    assert_true(world.t.news);
    assert_true(invite_file_write(&world.f, &world.t, true));
    assert_true(invite_file_is_done(&world.f, true, &error));
    assert_int_equal(error, 0);
    assert_false(world.t.news);
    text = get();
    assert_string_equal(buf_text(&text), "xmppedge invitations 1\n"
        "c@n.example 2@f.example\nb@n.example \xc3\xbc@f.example\nend 2\n");
    buf_free(&text);
    assert_int_equal(stat(world.file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    invite_clear(&world.t);
    assert_null(invite_file_read(&world.f, &world.t, 1));    /* a lower ceiling keeps the newest */
    assert_int_equal(world.t.map.count, 1);
    assert_true(is_invited("b@n.example", "\xc3\xbc@f.example"));
    assert_false(world.t.news);
}

static void
a_file_that_cannot_be_written_says_why_and_leaves_the_old_one(void **state)
{
    char fresh[160];
    struct buf text;
    int error;
    (void)state;
    assert_null(said("xmppedge invitations 1\nend 0\n"));
    snprintf(fresh, sizeof fresh, "%s.new", world.file);
    assert_int_equal(mkdir(fresh, 0700), 0);
    assert_true(invite_file_write(&world.f, &world.t, true));
    assert_true(invite_file_is_done(&world.f, true, &error));
    assert_int_equal(error, EEXIST);
    assert_true(invite_file_is_done(&world.f, false, &error));
    assert_int_equal(error, 0);   /* told once */
    assert_int_equal(rmdir(fresh), 0);
    text = get();
    assert_string_equal(buf_text(&text), "xmppedge invitations 1\nend 0\n");
    buf_free(&text);
}

static void
a_foreign_or_damaged_file_is_refused_as_a_whole(void **state)
{
    static const char *const bad[] = { "", "\n", "0123456789abcdef",
        "xmppedge invitations 2\nend 0\n",
        "xmppedge invitations 1\n", "xmppedge invitations 1\nb@n.example a@f.example\n",
        "xmppedge invitations 1\nb@n.example a@f.example\nend 2\n",
        "xmppedge invitations 1\nb@n.example a@f.example\nend 1",
        "xmppedge invitations 1\nb@n.example a@f.example\nend 1\n\n",
        "xmppedge invitations 1\nb@n.example a@f.example\nb@n.example a@f.example\nend 2\n",
        "xmppedge invitations 1\nB@n.example a@f.example\nend 1\n",
        "xmppedge invitations 1\nb@n.example a@f.example/x\nend 1\n",
        "xmppedge invitations 1\nb@n.example  a@f.example\nend 1\n",
        "xmppedge invitations 1\nn.example a@f.example\nend 1\n",
        "xmppedge invitations 1\nb@n.example \xff@f.example\nend 1\n",
        "xmppedge invitations 1\nb@n.example\nend 1\n" };
    struct buf text;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_non_null(said(bad[i]));
        assert_int_equal(world.t.map.count, 0);
        assert_false(invite_file_may_be_written(&world.f));
    }
    put("xmppedge invitations 1\nb@n.example a\0@f.example\nend 1\n", 53);
    assert_non_null(invite_file_read(&world.f, &world.t, 10));
    text = get();
    assert_int_equal(buf_len(&text), 53);
    buf_free(&text);
    assert_int_equal(unlink(world.file), 0);
    assert_true(invite_file_may_be_written(&world.f));   /* it was taken away */
    assert_null(said("xmppedge invitations 1\nb@n.example a@f.example\nend 1\n"));
    assert_true(is_invited("b@n.example", "a@f.example"));
}

static void
what_is_no_plain_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir(world.file, 0700), 0);
    assert_string_equal(invite_file_read(&world.f, &world.t, 10), "it is no plain file");
    assert_false(invite_file_may_be_written(&world.f));
    assert_int_equal(rmdir(world.file), 0);
    assert_int_equal(mkfifo(world.file, 0600), 0);
    assert_string_equal(invite_file_read(&world.f, &world.t, 10), "it is no plain file");
    assert_int_equal(unlink(world.file), 0);
    assert_int_equal(symlink("/nowhere", world.file), 0);
    assert_non_null(strstr(invite_file_read(&world.f, &world.t, 10), "symbolic link"));
    assert_false(invite_file_may_be_written(&world.f));   /* nor when it leads nowhere */
}

static void
a_hundred_thousand_pairs_are_kept(void **state)
{
    char contact[64];
    size_t i;
    (void)state;
    for (i = 0; i < 100000; i++) {
        snprintf(contact, sizeof contact, "contact%lu@public.example", (unsigned long)i);
        assert_true(invite("user@near.example", contact, 100000));
    }
    assert_true(invite_file_write(&world.f, &world.t, false));
    invite_clear(&world.t);
    assert_null(invite_file_read(&world.f, &world.t, 100000));
    assert_int_equal(world.t.map.count, 100000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, remove_world)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(addresses_are_compared_bare_and_in_lower_case),
        TEST(what_is_no_address_is_no_pair),
        TEST(the_longest_addresses_fit),
        TEST(a_full_table_forgets_the_pair_unused_for_longest),
        TEST(what_others_tell_drives_out_nothing_that_was_seen),
        TEST(a_file_gives_back_what_was_written_in_its_order_and_is_for_its_owner_alone),
        TEST(a_file_that_cannot_be_written_says_why_and_leaves_the_old_one),
        TEST(a_foreign_or_damaged_file_is_refused_as_a_whole),
        TEST(what_is_no_plain_file_is_refused),
        TEST(a_hundred_thousand_pairs_are_kept),
    };
    return cmocka_run_group_tests_name("invite", tests, NULL, NULL);
}
