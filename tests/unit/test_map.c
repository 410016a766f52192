/* test_map.c -- [MAP]: walks through lists that change */
#include "cut/MAP.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define MANY 6

static struct {
    struct list_node head;
    struct list_node walks;
    struct list_node nodes[MANY];
} ring;

static void
ring_of(size_t count)
{
    size_t i;
    list_init(&ring.head);
    list_init(&ring.walks);
    for (i = 0; i < count; i++)
        list_append(&ring.head, &ring.nodes[i]);
}

/* The number of the node that a walk meets next, -1 at its end. */
static int
next_of(struct list_walk *w)
{
    struct list_node *n = list_walk_next(w);
    return n == NULL ? -1 : (int)(n - ring.nodes);
}

static void
a_walk_meets_every_node_once(void **state)
{
    struct list_walk w;
    int i;
    (void)state;
    ring_of(MANY);
    list_walk_begin(&w, &ring.walks, &ring.head, MANY);
    for (i = 0; i < MANY; i++)
        assert_int_equal(next_of(&w), i);
    assert_int_equal(next_of(&w), -1);
    assert_int_equal(next_of(&w), -1);
    list_walk_end(&w);
    assert_true(list_empty(&ring.walks));
}

static void
who_leaves_takes_no_walk_along(void **state)
{
    struct list_walk early;
    struct list_walk late;
    (void)state;
    ring_of(MANY);
    list_walk_begin(&early, &ring.walks, &ring.head, MANY);
    list_walk_begin(&late, &ring.walks, &ring.head, MANY);
    assert_int_equal(next_of(&late), 0);
    assert_int_equal(next_of(&late), 1);
    list_leave(&ring.walks, &ring.nodes[0]);   /* where one stands, behind the other */
    list_leave(&ring.walks, &ring.nodes[2]);   /* where the other stands */
    list_leave(&ring.walks, &ring.nodes[3]);   /* and then stands */
    list_leave(&ring.walks, &ring.nodes[5]);   /* before both */
    assert_int_equal(next_of(&late), 4);
    assert_int_equal(next_of(&late), -1);
    list_walk_end(&late);
    assert_int_equal(next_of(&early), 1);
    list_leave(&ring.walks, &ring.nodes[1]);   /* the one that was just met */
    list_leave(&ring.walks, &ring.nodes[4]);   /* the last */
    assert_int_equal(next_of(&early), -1);
    assert_true(list_empty(&ring.head));
    list_walk_end(&early);
}

static void
who_comes_does_not_make_a_walk_longer(void **state)
{
    struct list_walk w;
    (void)state;
    ring_of(2);
    list_walk_begin(&w, &ring.walks, &ring.head, 2);
    assert_int_equal(next_of(&w), 0);
    list_append(&ring.head, &ring.nodes[2]);
    assert_int_equal(next_of(&w), 1);
    assert_int_equal(next_of(&w), -1);
    list_walk_end(&w);
}

static void
a_walk_that_was_not_begun_or_has_ended_may_be_ended(void **state)
{
    struct list_walk w = { .left = 0 };
    (void)state;
    ring_of(1);
    list_walk_end(&w);
    list_walk_begin(&w, &ring.walks, &ring.head, 1);
    list_walk_end(&w);
    list_walk_end(&w);
    assert_true(list_empty(&ring.walks));
}

static void
a_ring_that_grows_keeps_its_items_in_order(void **state)
{
    size_t cap = 0;
    size_t first = 0;
    unsigned *ring = ring_grow(NULL, sizeof *ring, &cap, &first);
    unsigned i;
    (void)state;
    assert_non_null(ring);
    first = cap + 3;   /* the oldest stands in the middle, the youngest in front of it */
    for (i = 0; i < cap; i++)
        ring[(first + i) & (cap - 1)] = i;
    ring = ring_grow(ring, sizeof *ring, &cap, &first);
    assert_non_null(ring);
    assert_int_equal(cap, 16);
    assert_int_equal(first, 0);
    for (i = 0; i < cap / 2; i++)
        assert_int_equal(ring[i], i);
    free(ring);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_meets_every_node_once),
        cmocka_unit_test(who_leaves_takes_no_walk_along),
        cmocka_unit_test(who_comes_does_not_make_a_walk_longer),
        cmocka_unit_test(a_walk_that_was_not_begun_or_has_ended_may_be_ended),
        cmocka_unit_test(a_ring_that_grows_keeps_its_items_in_order),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
