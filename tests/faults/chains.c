/* Calls are told apart by the chains of callers along which they come (chain.c). */
#include "base/sys.h"
#include "faults/faults.h"
#include "harness.h"

#include <errno.h>
#include <sys/socket.h>

static struct faults_places places;

/* A call that fails by itself. Nothing here is inlined, and no call is the last thing done: each has a
 * frame. */
__attribute__((noinline)) static int ask(void)
{
    errno = 0;
    (void)gyre__sys_getsockname(-1, NULL, NULL);
    return errno;
}

__attribute__((noinline)) static int ask_from_elsewhere(void)
{
    volatile int error = ask();

    return error;
}

__attribute__((noinline)) static int ask_from_the_depth(int depth)
{
    volatile int error = depth > 0 ? ask_from_the_depth(depth - 1) : ask();

    return error;
}

/* A chain of this many calls; NULL: none, or several. */
static const struct faults_place *with_count(uint64_t count)
{
    const struct faults_place *found = NULL;

    for (size_t i = 0; i < FAULTS_PLACES_MAX; i++) {
        if (places.at[i].chain != 0 && places.at[i].count == count) {
            found = found == NULL ? &places.at[i] : NULL;
        }
    }
    return found;
}

/* Three, four and two calls along three chains. */
static void ask_along_three_chains(int *errors)
{
    for (int i = 0; i < 3; i++) {
        *errors++ = ask();
    }
    for (int i = 0; i < 4; i++) {
        *errors++ = ask_from_elsewhere();
    }
    for (int depth = 3; depth < 100; depth += 90) {
        *errors++ = ask_from_the_depth(depth);
    }
}

static void calls_are_told_apart_by_their_callers(void)
{
    const struct faults_place *elsewhere;
    int errors[9];

#if defined(__OPTIMIZE__)
    test_skip("there may be no frame pointers, and callers that were put together");
#endif
    faults_strike(FAULTS_CALLS, 0, 0);
    faults_chain_from(__builtin_frame_address(0));
    faults_record(&places);
    ask_along_three_chains(errors);
    faults_record(NULL);
    elsewhere = with_count(4);
    assert_non_null(elsewhere);
    assert_int_equal(elsewhere->call, FAULTS_CALL_getsockname);
    assert_int_equal(elsewhere->first, 4);
    assert_int_equal(elsewhere->last, 7);
    assert_non_null(with_count(3));
    assert_non_null(with_count(2)); /* one chain, at any depth */

    faults_strike_chain(FAULTS_CALL_getsockname, ENOBUFS, elsewhere->chain, 2);
    ask_along_three_chains(errors);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(errors[i], i == 4 ? ENOBUFS : EBADF);
    }
    faults_chain_from(NULL);
    faults_strike(FAULTS_CALLS, 0, 0);
}

int main(void)
{
    const struct test_case cases[] = {
        TEST_CASE(calls_are_told_apart_by_their_callers),
    };

    return test_main("faults-chains", cases, TEST_COUNT(cases));
}
