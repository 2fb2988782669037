/*
 * The choice of the driver: option, then GYRE_BACKEND, then what the kernel allows; and io_uring
 * refused in every way that a kernel or a sandbox can. Catalogue G03..G06, F08.
 *
 * A seccomp filter is for life, so each is put on in a forked child, before the child's first loop:
 * what a process has found out about its kernel is remembered, and must not come from before.
 */
#include "core/traffic.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

static struct gyre_loop *loop_of(enum gyre_backend backend)
{
    const struct gyre_loop_options options = {.backend = backend};

    return test_loop_with(&options);
}

static struct gyre_loop_info info_of(struct gyre_loop *loop)
{
    struct gyre_loop_info info;

    assert_int_equal(gyre_loop_info(loop, &info), 0);
    return info;
}

static enum gyre_backend backend_of(struct gyre_loop *loop)
{
    return info_of(loop).backend;
}

/* Skips the case where the kernel has no io_uring for us. */
static void need_uring(void)
{
    const struct gyre_loop_options options = {.backend = GYRE_BACKEND_URING};
    struct gyre_loop *loop = NULL;
    int rc = gyre_loop_create(&loop, &options);

    if (rc == GYRE_ENOURING) {
        test_skip(gyre_loop_refusal());
    }
    assert_int_equal(rc, 0);
    test_loop_end(loop);
}

static void use_and_end(struct gyre_loop *loop)
{
    traffic_check(loop, 20);
    test_loop_end(loop);
}

/* A sentence: some words, and no line break. */
static void check_sentence(const char *text)
{
    assert_non_null(text);
    assert_true(strlen(text) >= 5);
    assert_null(strchr(text, '\n'));
}

/* ---- option and environment ---- */

static void option_epoll_is_obeyed(void)
{
    struct gyre_loop *loop = loop_of(GYRE_BACKEND_EPOLL);
    const struct gyre_loop_info info = info_of(loop);

    assert_int_equal(info.backend, GYRE_BACKEND_EPOLL);
    assert_string_equal(info.backend_name, "epoll");
    assert_int_equal(info.features, 0);
    assert_int_equal(info.sq_entries, 0);
    assert_int_equal(info.cq_entries, 0);
    assert_string_equal(gyre_loop_refusal(), "");
    use_and_end(loop);
}

static void option_uring_is_obeyed(void)
{
    struct gyre_loop *loop;
    struct gyre_loop_info info;

    need_uring();
    loop = loop_of(GYRE_BACKEND_URING);
    info = info_of(loop);
    assert_int_equal(info.backend, GYRE_BACKEND_URING);
    assert_string_equal(info.backend_name, "uring");
    assert_true(info.sq_entries >= 8 && info.cq_entries >= 2 * info.sq_entries);
    assert_string_equal(gyre_loop_refusal(), "");
    use_and_end(loop);
}

static void environment_decides_without_option(void)
{
    struct gyre_loop *loop;

    need_uring();
    assert_int_equal(setenv("GYRE_BACKEND", "epoll", 1), 0);
    loop = loop_of(GYRE_BACKEND_AUTO);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_EPOLL);
    use_and_end(loop);
    assert_int_equal(gyre_loop_create(&loop, NULL), 0);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_EPOLL);
    use_and_end(loop);
    assert_int_equal(setenv("GYRE_BACKEND", "uring", 1), 0);
    loop = loop_of(GYRE_BACKEND_AUTO);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_URING);
    use_and_end(loop);
    assert_int_equal(setenv("GYRE_BACKEND", "auto", 1), 0);
    loop = loop_of(GYRE_BACKEND_AUTO);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_URING);
    use_and_end(loop);
}

static void option_beats_environment(void)
{
    struct gyre_loop *loop;

    need_uring();
    assert_int_equal(setenv("GYRE_BACKEND", "uring", 1), 0);
    loop = loop_of(GYRE_BACKEND_EPOLL);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_EPOLL);
    use_and_end(loop);
    assert_int_equal(setenv("GYRE_BACKEND", "epoll", 1), 0);
    loop = loop_of(GYRE_BACKEND_URING);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_URING);
    use_and_end(loop);
}

static void environment_nonsense_is_refused(void)
{
    static const char *const nonsense[] = {"kqueue",      "EPOLL",    "epoll ", " uring",
                                           "uring,epoll", "io_uring", "1"};
    struct gyre_loop *untouched = (struct gyre_loop *)&nonsense;
    struct gyre_loop *loop = untouched;
    size_t i;

    for (i = 0; i < TEST_COUNT(nonsense); i++) {
        assert_int_equal(setenv("GYRE_BACKEND", nonsense[i], 1), 0);
        assert_int_equal(gyre_loop_create(&loop, NULL), GYRE_EBACKEND);
        assert_ptr_equal(loop, untouched);
    }
}

/* ---- features ---- */

static void info_names_every_feature_and_says_why(void)
{
    static const char *const names[] = {
#define X(name, bit, text) #name,
        GYRE_FEATURE_MAP(X)
#undef X
    };
    static const enum gyre_backend backends[] = {GYRE_BACKEND_AUTO, GYRE_BACKEND_EPOLL};
    size_t i;
    size_t bit;

    for (i = 0; i < TEST_COUNT(backends); i++) {
        struct gyre_loop *loop = loop_of(backends[i]);
        const struct gyre_loop_info info = info_of(loop);

        check_sentence(info.backend_why);
        assert_int_equal(TEST_COUNT(names), GYRE_FEATURE_COUNT);
        for (bit = 0; bit < GYRE_FEATURE_COUNT; bit++) {
            int on = (info.features >> bit) & 1;

            assert_non_null(info.feature_names[bit]);
            assert_int_equal(strcasecmp(info.feature_names[bit], names[bit]), 0);
            assert_non_null(info.feature_why[bit]);
            assert_int_equal(strcmp(info.feature_why[bit], "on") == 0, on);
        }
        test_loop_end(loop);
    }
}

static void feature_switched_off_is_not_used(void)
{
    uint32_t bit;

    need_uring();
    for (bit = 0; bit < GYRE_FEATURE_COUNT; bit++) {
        const struct gyre_loop_options options = {
            .backend = GYRE_BACKEND_URING,
            .features_off = 1u << bit,
        };
        struct gyre_loop *loop = test_loop_with(&options);
        const struct gyre_loop_info info = info_of(loop);

        assert_int_equal(info.features & (1u << bit), 0);
        check_sentence(info.feature_why[bit]);
        use_and_end(loop);
    }
}

static void all_features_switched_off_still_works(void)
{
    const struct gyre_loop_options options = {
        .backend = GYRE_BACKEND_URING,
        .features_off = (1u << GYRE_FEATURE_COUNT) - 1,
    };
    struct gyre_loop *loop;

    need_uring();
    loop = test_loop_with(&options);
    assert_int_equal(info_of(loop).features, 0);
    use_and_end(loop);
}

static void without_buffer_ring_there_is_no_incremental(void)
{
    const struct gyre_loop_options options = {
        .backend = GYRE_BACKEND_URING,
        .features_off = GYRE_FEATURE_BUFFER_RING,
    };
    struct gyre_loop *loop;

    need_uring();
    loop = test_loop_with(&options);
    assert_int_equal(info_of(loop).features & GYRE_FEATURE_INCREMENTAL, 0);
    use_and_end(loop);
}

/* F08: rings and buffer rings are not locked memory since 5.12. */
static int use_without_locked_memory(void *unused)
{
    const struct rlimit none = {0, 0};
    struct gyre_loop *loop = NULL;

    (void)unused;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    assert_int_equal(gyre_loop_create(&loop, NULL), 0);
    use_and_end(loop);
    return 0;
}

static void locked_memory_limit_zero_still_works(void)
{
    test_child_passes(use_without_locked_memory, NULL);
}

/* ---- io_uring refused by seccomp ---- */

#ifdef HAVE_SECCOMP

struct filter {
    const char *syscalls[3];
    int error; /* 0: the process is killed */
};

static void filter_apply(const struct filter *filter)
{
    const uint32_t action =
        filter->error == 0 ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO((uint32_t)filter->error);
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
    size_t i;

    assert_non_null(context);
    for (i = 0; i < TEST_COUNT(filter->syscalls) && filter->syscalls[i] != NULL; i++) {
        int number = seccomp_syscall_resolve_name(filter->syscalls[i]);

        assert_true(number != __NR_SCMP_ERROR);
        assert_int_equal(seccomp_rule_add(context, action, number, 0), 0);
    }
    assert_int_equal(seccomp_load(context), 0);
    seccomp_release(context);
}

/* Without io_uring there is epoll, and a reason; io_uring demanded is a clear error. */
static void check_fallback(void)
{
    const struct gyre_loop_options demand = {.backend = GYRE_BACKEND_URING};
    size_t fds = test_open_fds();
    struct gyre_loop *untouched = (struct gyre_loop *)&fds;
    struct gyre_loop *loop = untouched;

    assert_int_equal(gyre_loop_create(&loop, &demand), GYRE_ENOURING);
    assert_ptr_equal(loop, untouched);
    check_sentence(gyre_loop_refusal());
    assert_int_equal(test_open_fds(), fds);
    assert_int_equal(gyre_allocator_live(), 0);
    assert_int_equal(setenv("GYRE_BACKEND", "uring", 1), 0);
    assert_int_equal(gyre_loop_create(&loop, NULL), GYRE_ENOURING);
    assert_int_equal(unsetenv("GYRE_BACKEND"), 0);
    assert_int_equal(gyre_loop_create(&loop, NULL), 0);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_EPOLL);
    check_sentence(info_of(loop).backend_why);
    check_sentence(gyre_loop_refusal());
    use_and_end(loop);
    loop = loop_of(GYRE_BACKEND_EPOLL);
    assert_string_equal(gyre_loop_refusal(), "");
    use_and_end(loop);
    assert_int_equal(test_open_fds(), fds);
}

static int fall_back_under(void *filter)
{
    filter_apply(filter);
    check_fallback();
    return 0;
}

/* The first loop of the process is one that may choose: nothing is known yet. */
static int choose_epoll_under(void *filter)
{
    struct gyre_loop *loop = NULL;

    filter_apply(filter);
    assert_int_equal(gyre_loop_create(&loop, NULL), 0);
    assert_int_equal(backend_of(loop), GYRE_BACKEND_EPOLL);
    check_sentence(gyre_loop_refusal());
    use_and_end(loop);
    return 0;
}

/* The limit of registrations of the user (epoll(7), max_user_watches), or no memory. The loop was made,
 * deaf to posts, and its run never returned. */
static int create_without_registration(void *filter)
{
    const struct gyre_loop_options options = {.backend = GYRE_BACKEND_EPOLL};
    const size_t fds = test_open_fds();
    struct gyre_loop *loop = NULL;

    filter_apply(filter);
    assert_int_equal(gyre_loop_create(&loop, &options), -((struct filter *)filter)->error);
    assert_null(loop);
    assert_int_equal(test_open_fds(), fds);
    assert_int_equal(gyre_allocator_live(), 0);
    return 0;
}

static void loop_that_nothing_could_wake_is_refused(void)
{
    struct filter filters[] = {{{"epoll_ctl"}, ENOSPC}, {{"epoll_ctl"}, ENOMEM}};

    for (size_t i = 0; i < TEST_COUNT(filters); i++) {
        test_child_passes(create_without_registration, &filters[i]);
    }
}

static const int refusal_errors[] = {EPERM, ENOSYS, EACCES, EINVAL, ENOMEM};

static void check_refusals_of(const char *syscall_name)
{
    size_t i;

    for (i = 0; i < TEST_COUNT(refusal_errors); i++) {
        struct filter filter = {{syscall_name}, refusal_errors[i]};

        test_child_passes(fall_back_under, &filter);
        test_child_passes(choose_epoll_under, &filter);
    }
}

/* G03 */
static void setup_refused_falls_back(void)
{
    check_refusals_of("io_uring_setup");
}

/* G04: found out when the loop is created, not when it is run. */
static void enter_refused_falls_back(void)
{
    check_refusals_of("io_uring_enter");
}

/* G04: nothing can be registered. A driver that needs nothing registered may go on with io_uring, if
 * it says what is off; it must work, and be a refusal in words otherwise. */
static int use_without_register(void *filter)
{
    struct gyre_loop *loop = NULL;
    struct gyre_loop_info info;

    filter_apply(filter);
    assert_int_equal(gyre_loop_create(&loop, NULL), 0);
    info = info_of(loop);
    if (info.backend == GYRE_BACKEND_EPOLL) {
        check_sentence(gyre_loop_refusal());
    } else {
        assert_int_equal(info.features & (GYRE_FEATURE_REGISTERED_RING | GYRE_FEATURE_BUFFER_RING |
                                          GYRE_FEATURE_INCREMENTAL),
                         0);
        check_sentence(info.feature_why[4]);
    }
    use_and_end(loop);
    return 0;
}

/* G04 */
static void register_refused_falls_back_or_goes_without(void)
{
    size_t i;

    for (i = 0; i < TEST_COUNT(refusal_errors); i++) {
        struct filter filter = {{"io_uring_register"}, refusal_errors[i]};

        test_child_passes(use_without_register, &filter);
    }
}

/* G03 */
static void everything_refused_falls_back(void)
{
    struct filter filter = {{"io_uring_setup", "io_uring_enter", "io_uring_register"}, ENOSYS};

    test_child_passes(fall_back_under, &filter);
    test_child_passes(choose_epoll_under, &filter);
}

static int use_epoll_under_pain_of_death(void *by_environment)
{
    const struct filter filter = {{"io_uring_setup", "io_uring_enter", "io_uring_register"}, 0};
    const struct gyre_loop_options epoll = {.backend = GYRE_BACKEND_EPOLL};
    struct gyre_loop *loop = NULL;

    assert_int_equal(setenv("GYRE_BACKEND", by_environment != NULL ? "epoll" : "uring", 1), 0);
    filter_apply(&filter);
    assert_int_equal(gyre_loop_create(&loop, by_environment != NULL ? NULL : &epoll), 0);
    assert_true(gyre_loop_fd(loop) >= 0);
    use_and_end(loop);
    return 0;
}

/* G05: not one system call of io_uring, by environment, and by option against the environment. */
static void epoll_asked_for_makes_no_uring_call(void)
{
    test_child_passes(use_epoll_under_pain_of_death, (void *)"environment");
    test_child_passes(use_epoll_under_pain_of_death, NULL);
}

static int use_uring_under_pain_of_death(void *unused)
{
    const struct filter filter = {{"io_uring_setup", "io_uring_enter", "io_uring_register"}, 0};
    struct gyre_loop *loop = NULL;

    (void)unused;
    filter_apply(&filter);
    return gyre_loop_create(&loop, NULL) == 0 ? 0 : 1;
}

/* G05, the other way round: the filter does kill. */
static void uring_probed_under_killing_filter_dies(void)
{
    int status;

    need_uring();
    status = test_child_status(use_uring_under_pain_of_death, NULL);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

#else

static void seccomp_cases_need_libseccomp(void)
{
    test_skip("built without libseccomp");
}

#endif

static const struct test_case cases[] = {
    {"option_epoll_is_obeyed", option_epoll_is_obeyed, 0},
    {"option_uring_is_obeyed", option_uring_is_obeyed, 0},
    {"environment_decides_without_option", environment_decides_without_option, 0},
    {"option_beats_environment", option_beats_environment, 0},
    {"environment_nonsense_is_refused", environment_nonsense_is_refused, 0},
    {"info_names_every_feature_and_says_why", info_names_every_feature_and_says_why, 0},
    {"feature_switched_off_is_not_used", feature_switched_off_is_not_used, 0},
    {"all_features_switched_off_still_works", all_features_switched_off_still_works, 0},
    {"without_buffer_ring_there_is_no_incremental", without_buffer_ring_there_is_no_incremental, 0},
    {"locked_memory_limit_zero_still_works", locked_memory_limit_zero_still_works, 0},
#ifdef HAVE_SECCOMP
    {"setup_refused_falls_back", setup_refused_falls_back, 0},
    {"enter_refused_falls_back", enter_refused_falls_back, 0},
    {"register_refused_falls_back_or_goes_without", register_refused_falls_back_or_goes_without, 0},
    {"everything_refused_falls_back", everything_refused_falls_back, 0},
    {"epoll_asked_for_makes_no_uring_call", epoll_asked_for_makes_no_uring_call, 0},
    {"loop_that_nothing_could_wake_is_refused", loop_that_nothing_could_wake_is_refused, 0},
    {"uring_probed_under_killing_filter_dies", uring_probed_under_killing_filter_dies, 0},
#else
    {"seccomp_cases_need_libseccomp", seccomp_cases_need_libseccomp, 0},
#endif
};

int main(void)
{
    unsetenv("GYRE_BACKEND");
    return test_main("backend", cases, TEST_COUNT(cases));
}
