/*
 * The queue of posts at the moment at which a loop falls asleep, one step after the other: what
 * core/post.c has threads race for.
 */
#include "harness.h"

#include "core/loop.h"

static void run_posted(struct gyre_loop *loop, void *data)
{
    (void)loop;
    ++*(int *)data;
}

/* What is there when the loop has said that it sleeps is seen, or nobody would wake it. */
static void post_that_is_there_is_not_slept_past(void)
{
    struct gyre_loop *loop = test_loop();
    int runs = 0;

    assert_int_equal(gyre__posts_sleep(&loop->posts), GYRE__POSTS_ASLEEP);
    gyre__posts_awake(&loop->posts);
    assert_int_equal(gyre_loop_post(loop, run_posted, &runs), 0);
    assert_int_equal(gyre__posts_sleep(&loop->posts), GYRE__POSTS_THERE);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(runs, 1);
    test_loop_end(loop);
}

/* The next post wakes it, and only that one. */
static void post_behind_the_sleep_wakes_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_loop_stats stats;
    int runs = 0;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(gyre__posts_sleep(&loop->posts),
                         i == 0 ? GYRE__POSTS_ASLEEP : GYRE__POSTS_THERE);
        assert_int_equal(gyre_loop_post(loop, run_posted, &runs), 0);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(runs, 3);
    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    assert_int_equal(stats.wakes, 1);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(post_that_is_there_is_not_slept_past),
        TEST_CASE(post_behind_the_sleep_wakes_once),
    };

    return test_main("posts", cases, TEST_COUNT(cases));
}
