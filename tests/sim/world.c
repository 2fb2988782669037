/* The simulator as a product: worlds, time, chance, what ends a run and how it says so. What scripts
 * do to the network is in script.c. */
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the same again ---- */

struct outcome {
    uint64_t hash;
    uint64_t steps;
    uint64_t now_ns;
};

/* A world with all faults, in which three callers meet one server. */
static struct outcome run_busy(uint64_t seed, enum gyre_sim_personality personality,
                               void (*trace)(void *context, const char *line), void *context)
{
    const struct gyre_sim_options options = {
        .seed = seed, .personality = personality, .trace = trace, .trace_context = context};
    struct echo echo = {.connections = 3};
    struct caller caller[3];
    struct outcome outcome;
    struct rig rig;

    if (gyre_sim_create(&rig.sim, &options) < 0 ||
        gyre_sim_host_create(rig.sim, "server", "10.0.0.1", &rig.server) < 0 ||
        gyre_sim_host_create(rig.sim, "client", "10.0.0.2", &rig.client) < 0 ||
        gyre_sim_spawn(rig.server, echo_main, &echo, GYRE_SIM_DAEMON, NULL) < 0) {
        abort();
    }
    for (int i = 0; i < 3; i++) {
        caller[i] = (struct caller){.rig = &rig, .len = 5000, .delay_ns = GYRE_MSEC};
        if (gyre_sim_spawn(rig.client, caller_main, &caller[i], 0, NULL) < 0) {
            abort();
        }
    }
    (void)!gyre_sim_run(rig.sim); /* with faults it may end in any way, but always in the same */
    outcome.hash = gyre_sim_hash(rig.sim);
    outcome.steps = gyre_sim_steps(rig.sim);
    outcome.now_ns = gyre_sim_now(rig.sim);
    gyre_sim_destroy(rig.sim);
    return outcome;
}

static enum gyre_sim_personality personality(void)
{
    return test_variant_uring() ? GYRE_SIM_URING : GYRE_SIM_EPOLL;
}

enum { SEEDS = 40 };

/* In a child: what a run that failed leaves behind is nobody's. */
static int compare_runs(void *argument)
{
    uint64_t last = 0;

    (void)argument;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const struct outcome first = run_busy(seed, personality(), NULL, NULL);
        const struct outcome again = run_busy(seed, personality(), NULL, NULL);

        assert_int_equal(first.hash, again.hash);
        assert_int_equal(first.steps, again.steps);
        assert_int_equal(first.now_ns, again.now_ns);
        assert_int_not_equal(first.hash, last);
        last = first.hash;
    }
    return 0;
}

static void seed_again_gives_the_same_run_and_another_seed_another(void)
{
    test_child_passes(compare_runs, NULL);
}

static int compare_personalities(void *argument)
{
    (void)argument;
    assert_int_not_equal(run_busy(3, GYRE_SIM_URING, NULL, NULL).hash,
                         run_busy(3, GYRE_SIM_EPOLL, NULL, NULL).hash);
    return 0;
}

static void personality_makes_another_run(void)
{
    test_child_passes(compare_personalities, NULL);
}

static void count_line(void *context, const char *line)
{
    assert_non_null(line);
    assert_null(strchr(line, '\n'));
    ++*(int *)context;
}

static int compare_traced(void *argument)
{
    int lines = 0;

    (void)argument;
    assert_int_equal(run_busy(5, personality(), count_line, &lines).hash,
                     run_busy(5, personality(), NULL, NULL).hash);
    assert_true(lines > 20);
    return 0;
}

static void trace_that_somebody_reads_is_the_same_run(void)
{
    test_child_passes(compare_traced, NULL);
}

struct batch {
    pthread_t thread;
    enum gyre_sim_personality personality;
    uint64_t hash[SEEDS];
};

static void *run_batch(void *context)
{
    struct batch *batch = context;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        batch->hash[seed] = run_busy(seed, batch->personality, NULL, NULL).hash;
    }
    return NULL;
}

static int compare_threads(void *argument)
{
    static struct batch alone;
    static struct batch together[3];

    (void)argument;
    alone.personality = personality();
    run_batch(&alone);
    for (int i = 0; i < 3; i++) {
        together[i].personality = personality();
        assert_int_equal(pthread_create(&together[i].thread, NULL, run_batch, &together[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(together[i].thread, NULL), 0);
        assert_memory_equal(together[i].hash, alone.hash, sizeof(alone.hash));
    }
    return 0;
}

static void worlds_in_three_threads_run_as_each_does_alone(void)
{
    test_child_passes(compare_threads, NULL);
}

/* ---- time ---- */

struct sleeper {
    struct rig *rig;
    uint64_t span_ns;
    uint64_t began_ns;
    uint64_t ended_ns;
    int status;
};

static int sleeper_main(void *context)
{
    struct sleeper *sleeper = context;

    sleeper->began_ns = gyre_sim_now(sleeper->rig->sim);
    gyre_sim_sleep(sleeper->span_ns);
    sleeper->ended_ns = gyre_sim_now(sleeper->rig->sim);
    return sleeper->status;
}

static void sleep_is_never_early_and_late_only_by_faults(void)
{
    static const uint64_t spans[] = {0, 1, 999, GYRE_USEC, GYRE_MSEC, 7 * GYRE_SEC, 200 * GYRE_SEC};

    for (size_t i = 0; i < 2 * TEST_COUNT(spans); i++) {
        const int late = i >= TEST_COUNT(spans);
        struct sleeper sleeper = {.span_ns = spans[i % TEST_COUNT(spans)]};
        struct rig rig;

        rig_begin(&rig, NULL);
        if (late) {
            assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_WAKE_LATE, 1000000), 0);
        }
        sleeper.rig = &rig;
        rig_spawn(rig.server, sleeper_main, &sleeper, 0);
        rig_run(&rig);
        assert_true(sleeper.ended_ns >= sleeper.began_ns + sleeper.span_ns);
        assert_true(sleeper.ended_ns <=
                    sleeper.began_ns + sleeper.span_ns + (late ? 50 * GYRE_MSEC : 20 * GYRE_USEC));
        rig_end(&rig);
    }
}

struct alarm {
    struct gyre_timer timer;
    struct gyre_loop *loop;
    struct rig *rig;
    uint64_t span_ns;
    uint64_t due_ns;
    int left;
    int early;
};

static void alarm_again(struct alarm *alarm)
{
    alarm->span_ns = gyre_sim_random(alarm->rig->sim) % (300 * GYRE_MSEC);
    alarm->due_ns = gyre_sim_now(alarm->rig->sim) + alarm->span_ns;
    if (gyre_timer_start(&alarm->timer, alarm->span_ns) < 0) {
        alarm->early++;
    }
}

static void on_alarm(struct gyre_timer *timer)
{
    struct alarm *alarm = gyre_container_of(timer, struct alarm, timer);

    alarm->early += gyre_sim_now(alarm->rig->sim) < alarm->due_ns;
    if (--alarm->left > 0) {
        alarm_again(alarm);
    }
}

static int alarm_main(void *context)
{
    struct alarm *alarm = context;

    if (gyre_loop_create(&alarm->loop, NULL) < 0 ||
        gyre_timer_init(&alarm->timer, alarm->loop, on_alarm) < 0) {
        return 1;
    }
    alarm_again(alarm);
    return gyre_loop_run(alarm->loop, GYRE_RUN_DEFAULT) < 0 || gyre_loop_destroy(alarm->loop) < 0;
}

static void timer_of_a_loop_is_never_early(void)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct alarm alarm = {.left = 50};
        struct rig rig;

        rig_begin(&rig, &(struct gyre_sim_options){.seed = seed, .faults_off = 1});
        assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_WAKE_LATE, 300000), 0);
        assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_ENTER_EINTR, 300000), 0);
        alarm.rig = &rig;
        rig_spawn(rig.server, alarm_main, &alarm, 0);
        rig_run(&rig);
        assert_int_equal(alarm.left, 0);
        assert_int_equal(alarm.early, 0);
        rig_end(&rig);
    }
}

struct note {
    struct rig *rig;
    struct note *before;
    uint64_t wanted_ns;
    uint64_t called_ns;
    int count;
};

static void take_note(void *context)
{
    struct note *note = context;

    assert_true(note->before == NULL || note->before->count == 1);
    note->called_ns = gyre_sim_now(note->rig->sim);
    note->count++;
}

static void script_runs_at_its_moment_in_order(void)
{
    static const uint64_t moments[] = {0, 5, GYRE_MSEC, GYRE_SEC};
    struct note note[TEST_COUNT(moments)];
    struct sleeper sleeper = {.span_ns = 2 * GYRE_SEC};
    struct note after = {.wanted_ns = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    sleeper.rig = &rig;
    for (size_t i = TEST_COUNT(moments); i-- > 0;) {
        note[i] = (struct note){.rig = &rig, .wanted_ns = moments[i]};
        note[i].before = i > 0 ? &note[i - 1] : NULL;
        assert_int_equal(gyre_sim_at(rig.sim, moments[i], take_note, &note[i]), 0);
    }
    rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    rig_run(&rig);
    for (size_t i = 0; i < TEST_COUNT(moments); i++) {
        assert_int_equal(note[i].count, 1);
        assert_int_equal(note[i].called_ns, moments[i]);
    }
    after.rig = &rig; /* a moment that has passed is now */
    assert_int_equal(gyre_sim_at(rig.sim, 1, take_note, &after), 0);
    rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    rig_run(&rig);
    assert_int_equal(after.count, 1);
    assert_true(after.called_ns >= 2 * GYRE_SEC);
    rig_end(&rig);
}

/* ---- programs ---- */

struct family {
    struct rig *rig;
    struct sleeper child;
    struct sleeper daemon;
    int rc;
};

static int parent_main(void *context)
{
    struct family *family = context;

    family->rc = gyre_sim_spawn(family->rig->client, sleeper_main, &family->child, 0, NULL);
    family->rc |= gyre_sim_run(family->rig->sim) != -EINVAL; /* not from within */
    return 0;
}

static void program_started_by_a_program_is_waited_for_and_a_daemon_is_not(void)
{
    struct family family = {.child = {.span_ns = GYRE_SEC}, .daemon = {.span_ns = 100 * GYRE_SEC}};
    struct gyre_sim_process *daemon;
    struct gyre_sim_process *parent;
    int status = -1;
    struct rig rig;

    rig_begin(&rig, NULL);
    family.rig = family.child.rig = family.daemon.rig = &rig;
    daemon = rig_spawn(rig.server, sleeper_main, &family.daemon, GYRE_SIM_DAEMON);
    parent = rig_spawn(rig.server, parent_main, &family, 0);
    rig_run(&rig);
    assert_int_equal(family.rc, 0);
    assert_true(family.child.ended_ns >= GYRE_SEC);
    assert_int_equal(gyre_sim_ended(parent, &status), 1);
    assert_int_equal(status, 0);
    assert_int_equal(gyre_sim_ended(daemon, &status), 0);
    assert_int_equal(family.daemon.ended_ns, 0);
    rig_run(&rig); /* nothing to wait for */
    rig_end(&rig);
}

static void world_without_programs_ends_at_once(void)
{
    struct rig rig;

    rig_begin(&rig, NULL);
    rig_run(&rig);
    assert_int_equal(gyre_sim_now(rig.sim), 0);
    assert_int_equal(gyre_sim_steps(rig.sim), 0);
    rig_end(&rig);
}

/* ---- how a run fails ---- */

static void program_with_a_status_fails_the_run(void)
{
    struct sleeper sleeper = {.status = 3};
    struct rig rig;

    rig_begin(&rig, &(struct gyre_sim_options){.seed = 0x2a, .faults_off = 1});
    sleeper.rig = &rig;
    rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    rig_fails(&rig, "process 1 of server ended with status 3");
    assert_int_equal(strncmp(gyre_sim_failure(rig.sim), "seed=0x2a step=", 15), 0);
    assert_non_null(strstr(gyre_sim_failure(rig.sim), " time=0.0000"));
    rig_end(&rig);
}

static void program_that_waits_for_ever_fails_the_run(void)
{
    struct sleeper sleeper = {.span_ns = UINT64_MAX};
    struct sleeper first = {.span_ns = GYRE_SEC};
    struct rig rig;

    rig_begin(&rig, NULL);
    sleeper.rig = first.rig = &rig;
    rig_spawn(rig.server, sleeper_main, &first, 0);
    rig_run(&rig); /* so that it is not the beginning of time */
    rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    rig_fails(&rig, "1 programs wait for what will never happen");
    rig_end(&rig);
}

static void end_of_time_fails_the_run(void)
{
    struct sleeper sleeper = {.span_ns = 400 * GYRE_SEC};
    struct rig rig;

    rig_begin(&rig, NULL);
    sleeper.rig = &rig;
    rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    rig_fails(&rig, "1 programs have not ended at the end of time");
    rig_end(&rig);
    rig_begin(&rig,
              &(struct gyre_sim_options){.seed = 1, .faults_off = 1, .end_ns = 500 * GYRE_SEC});
    sleeper.rig = &rig;
    rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    rig_run(&rig);
    rig_end(&rig);
}

static int spin_main(void *context)
{
    struct gyre_loop *loop;

    (void)context;
    if (gyre_loop_create(&loop, NULL) < 0) {
        return 1;
    }
    gyre_loop_ref(loop);
    while (gyre_loop_run(loop, GYRE_RUN_NOWAIT) >= 0) {
    }
    return 1;
}

static int spin(void *argument)
{
    struct rig rig;

    (void)argument;
    rig_begin(&rig, NULL);
    rig_spawn(rig.server, spin_main, NULL, 0);
    rig_fails(&rig, "a thread of server spins");
    rig_end(&rig);
    return 0;
}

static void program_that_spins_fails_the_run(void)
{
    test_child_passes(spin, NULL);
}

static int wait_main(void *context)
{
    struct gyre_loop *loop;

    (void)context;
    if (gyre_loop_create(&loop, NULL) < 0) {
        return 1;
    }
    gyre_loop_ref(loop); /* for posts that nobody makes */
    return gyre_loop_run(loop, GYRE_RUN_DEFAULT) < 0;
}

static int wait_for_nothing(void *argument)
{
    struct rig rig;

    (void)argument;
    rig_begin(&rig, NULL);
    rig_spawn(rig.server, wait_main, NULL, 0);
    rig_spawn(rig.client, wait_main, NULL, 0);
    rig_fails(&rig, "2 programs wait for what will never happen");
    rig_end(&rig);
    return 0;
}

static void loops_that_wait_for_nothing_fail_the_run(void)
{
    test_child_passes(wait_for_nothing, NULL);
}

struct guard {
    uint64_t calls;
    uint64_t allowed;
};

static const char *guard_check(void *context)
{
    struct guard *guard = context;

    return ++guard->calls > guard->allowed ? "the guard has had enough" : NULL;
}

static int nap_main(void *context)
{
    (void)context;
    for (int i = 0; i < 50; i++) {
        gyre_sim_sleep(GYRE_MSEC);
    }
    return 0;
}

static void invariant_is_asked_at_each_step_and_ends_the_run(void)
{
    struct guard patient = {.allowed = UINT64_MAX};
    struct guard guard = {.allowed = 20};
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_check(rig.sim, guard_check, &patient), 0);
    rig_spawn(rig.server, nap_main, NULL, 0);
    rig_run(&rig);
    assert_int_equal(patient.calls, gyre_sim_steps(rig.sim));
    assert_true(patient.calls >= 50);
    assert_int_equal(gyre_sim_check(rig.sim, guard_check, &guard), 0);
    rig_spawn(rig.server, nap_main, NULL, 0);
    rig_fails(&rig, "the guard has had enough");
    assert_int_equal(guard.calls, 21);
    rig_end(&rig);
}

static void seventeenth_invariant_is_refused(void)
{
    struct guard guard = {.allowed = UINT64_MAX};
    struct rig rig;

    rig_begin(&rig, NULL);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(gyre_sim_check(rig.sim, guard_check, &guard), 0);
    }
    assert_int_equal(gyre_sim_check(rig.sim, guard_check, &guard), -ENOBUFS);
    rig_end(&rig);
}

static int doubter_main(void *context)
{
    const struct rig *rig = context;

    gyre_sim_fail(rig->sim, "%s of %d", "first", 2);
    gyre_sim_fail(rig->sim, "second");
    return 0;
}

static void failure_that_came_first_is_kept(void)
{
    struct rig rig;

    rig_begin(&rig, NULL);
    rig_spawn(rig.server, doubter_main, &rig, 0);
    rig_fails(&rig, ": first of 2");
    assert_int_equal(gyre_sim_run(rig.sim), GYRE_ESIM); /* it is over */
    rig_end(&rig);
}

/* ---- faults ---- */

static void count_faults(void *context, const char *line)
{
    uint64_t *last_ns = context;
    char *end;
    const double moment = strtod(line, &end);

    if (strncmp(end, " fault ", 7) == 0) {
        *last_ns = (uint64_t)(moment * 1e9);
    }
}

static uint64_t struck(const struct rig *rig)
{
    uint64_t sum = 0;

    for (int i = 0; i < GYRE_SIM_FAULT_COUNT; i++) {
        sum += gyre_sim_struck(rig->sim, (enum gyre_sim_fault)i);
    }
    return sum;
}

static void faults_off_means_none(void)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct caller caller = {.len = 100000};
        struct echo echo = {0};
        struct rig rig;

        rig_begin(&rig, &(struct gyre_sim_options){.seed = seed, .faults_off = 1});
        rig_call(&rig, &echo, &caller);
        assert_int_equal(struck(&rig), 0);
        assert_int_equal(caller.received, 100000);
        assert_int_equal(caller.error, 0);
        rig_end(&rig);
    }
}

static void no_fault_strikes_once_the_world_is_healed(void)
{
    uint64_t sum = 0;

    for (uint64_t seed = 0; seed < 30; seed++) {
        uint64_t last_ns = 0;
        struct rig rig;

        rig_begin(&rig, &(struct gyre_sim_options){.seed = seed,
                                                   .heal_at_ns = 20 * GYRE_MSEC,
                                                   .trace = count_faults,
                                                   .trace_context = &last_ns});
        rig_spawn(rig.server, nap_main, NULL, 0);
        assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_WAKE_LATE, 500000), 0);
        rig_run(&rig);
        assert_true(last_ns <= 20 * GYRE_MSEC);
        sum += struck(&rig);
        rig_end(&rig);
    }
    assert_true(sum > 0);
}

static void seeds_differ_in_which_faults_strike(void)
{
    int calm = 0;
    int hit = 0;

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct rig rig;

        rig_begin(&rig, &(struct gyre_sim_options){.seed = seed});
        rig_spawn(rig.server, nap_main, NULL, 0);
        rig_run(&rig);
        calm += gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_WAKE_LATE) == 0;
        hit += gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_WAKE_LATE) > 0;
        rig_end(&rig);
    }
    assert_true(calm > 0 && hit > 0);
}

static void names_are_there_for_all(void)
{
    for (int i = 0; i < GYRE_SIM_FAULT_COUNT; i++) {
        assert_true(strchr(gyre_sim_fault_name((enum gyre_sim_fault)i), '.') != NULL);
    }
    for (int i = 0; i < GYRE_SIM_PATH_COUNT; i++) {
        assert_true(strlen(gyre_sim_path_name((enum gyre_sim_path)i)) > 10);
    }
    assert_string_equal(gyre_sim_fault_name((enum gyre_sim_fault) - 1), "unknown");
    assert_string_equal(gyre_sim_fault_name(GYRE_SIM_FAULT_COUNT), "unknown");
    assert_string_equal(gyre_sim_path_name(GYRE_SIM_PATH_COUNT), "unknown");
}

static void keep_line(void *context, const char *line)
{
    snprintf(context, 200, "%s", line);
}

static void note_is_in_the_trace_and_its_hash(void)
{
    char line[200] = "";
    uint64_t before;
    struct rig rig;

    rig_begin(&rig,
              &(struct gyre_sim_options){.seed = 1, .trace = keep_line, .trace_context = line});
    before = gyre_sim_hash(rig.sim);
    gyre_sim_note(rig.sim, "here %s\n%d\x7f", "we are", 7);
    assert_string_equal(line, "    0.000000000 here we are.7.");
    assert_int_not_equal(gyre_sim_hash(rig.sim), before);
    rig_end(&rig);
}

struct probing {
    int first;
    int second;
};

static int probe_main(void *context)
{
    const struct gyre_loop_options options = {.backend = GYRE_BACKEND_URING};
    struct probing *probing = context;
    struct gyre_loop *loop;

    probing->first = gyre_loop_create(&loop, &options);
    if (probing->first == 0) {
        gyre_loop_destroy(loop);
    }
    probing->second = gyre_loop_create(&loop, &options);
    return probing->second == 0 && gyre_loop_destroy(loop) < 0;
}

static void probe_with_busy_rings(uint64_t count, int first)
{
    struct probing probing = {0};
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_fail_nth(rig.sim, GYRE_SIM_FAULT_ENTER_EBUSY, 1, count), 0);
    rig_spawn(rig.server, probe_main, &probing, 0);
    rig_run(&rig);
    assert_int_equal(gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_ENTER_EBUSY), count);
    assert_int_equal(probing.first, first);
    assert_int_equal(probing.second, 0);
    rig_end(&rig);
}

/* Once, io_uring was refused to the process from then on. */
static void probe_that_met_a_busy_ring_goes_on_or_is_made_again(void)
{
    probe_with_busy_rings(1, 0);
    probe_with_busy_rings(16, GYRE_ENOURING);
}

/* ---- misuse ---- */

static void second_world_in_a_thread_is_refused(void)
{
    struct gyre_sim *second = NULL;
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_create(&second, NULL), -EBUSY);
    assert_null(second);
    rig_end(&rig);
    assert_int_equal(gyre_sim_create(&second, NULL), 0);
    gyre_sim_destroy(second);
    gyre_sim_destroy(NULL);
}

static void bad_options_are_refused(void)
{
    struct gyre_sim *sim = NULL;

    assert_int_equal(gyre_sim_create(NULL, NULL), -EINVAL);
    assert_int_equal(
        gyre_sim_create(&sim,
                        &(struct gyre_sim_options){.personality = (enum gyre_sim_personality)7}),
        -EINVAL);
    assert_null(sim);
}

static void bad_hosts_are_refused(void)
{
    struct gyre_sim_host *host = NULL;
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_host_create(NULL, "a", "10.0.0.9", &host), -EINVAL);
    assert_int_equal(gyre_sim_host_create(rig.sim, NULL, "10.0.0.9", &host), -EINVAL);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", NULL, &host), -EINVAL);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", "10.0.0.9", NULL), -EINVAL);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", "sea", &host), -EINVAL);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", "10.0.0.9,", &host), -EINVAL);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", "10.0.0.9,10.0.0.9", &host), -EADDRINUSE);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", "10.0.0.1", &host), -EADDRINUSE);
    assert_int_equal(gyre_sim_host_create(rig.sim, "a", "::ffff:10.0.0.1", &host), -EADDRINUSE);
    assert_int_equal(
        gyre_sim_host_create(rig.sim, "a", "10.0.1.1,10.0.1.2,10.0.1.3,10.0.1.4,10.0.1.5", &host),
        -EINVAL);
    assert_int_equal(
        gyre_sim_host_create(rig.sim, "a name that has 32 bytes in all.", "10.0.0.9", &host),
        -EINVAL);
    assert_null(host);
    assert_int_equal(
        gyre_sim_host_create(rig.sim, "a name that has 31 bytes in all", "10.0.0.9", &host), 0);
    rig_end(&rig);
}

static void calls_with_null_or_bad_values_are_refused(void)
{
    const struct gyre_sim_link link = {0};
    struct gyre_sim_process *process;
    struct sleeper sleeper = {0};
    struct rig rig;

    rig_begin(&rig, NULL);
    sleeper.rig = &rig;
    process = rig_spawn(rig.server, sleeper_main, &sleeper, 0);
    assert_int_equal(gyre_sim_spawn(NULL, sleeper_main, NULL, 0, NULL), -EINVAL);
    assert_int_equal(gyre_sim_spawn(rig.server, NULL, NULL, 0, NULL), -EINVAL);
    assert_int_equal(gyre_sim_spawn(rig.server, sleeper_main, NULL, 2, NULL), -EINVAL);
    assert_int_equal(gyre_sim_run(NULL), -EINVAL);
    assert_int_equal(gyre_sim_check(NULL, guard_check, NULL), -EINVAL);
    assert_int_equal(gyre_sim_check(rig.sim, NULL, NULL), -EINVAL);
    assert_int_equal(gyre_sim_at(NULL, 0, take_note, NULL), -EINVAL);
    assert_int_equal(gyre_sim_at(rig.sim, 0, NULL, NULL), -EINVAL);
    assert_int_equal(gyre_sim_link(NULL, rig.server, &link), -EINVAL);
    assert_int_equal(gyre_sim_link(rig.client, rig.server, NULL), -EINVAL);
    assert_int_equal(gyre_sim_link(rig.server, rig.server, &link), -EINVAL);
    assert_int_equal(gyre_sim_reset(NULL, 0), -EINVAL);
    assert_int_equal(gyre_sim_fail_nth(NULL, GYRE_SIM_FAULT_RECV_SHORT, 1, 1), -EINVAL);
    assert_int_equal(gyre_sim_fail_nth(rig.sim, GYRE_SIM_FAULT_COUNT, 1, 1), -EINVAL);
    assert_int_equal(gyre_sim_fail_nth(rig.sim, GYRE_SIM_FAULT_RECV_SHORT, 0, 1), -EINVAL);
    assert_int_equal(gyre_sim_rate(NULL, GYRE_SIM_FAULT_RECV_SHORT, 1), -EINVAL);
    assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_COUNT, 1), -EINVAL);
    assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_RECV_SHORT, 1000001), -EINVAL);
    assert_int_equal(gyre_sim_limit_fds(NULL, 10), -EINVAL);
    assert_int_equal(gyre_sim_limit_fds(process, 0), -EINVAL);
    assert_int_equal(gyre_sim_limit_fds(process, 4096), -EINVAL);
    assert_int_equal(gyre_sim_limit_fds(process, 4095), 0);
    assert_int_equal(gyre_sim_signal(NULL, 15), -EINVAL);
    assert_int_equal(gyre_sim_signal(process, 0), -EINVAL);
    assert_int_equal(gyre_sim_signal(process, 65), -EINVAL);
    assert_int_equal(gyre_sim_kill(NULL), -EINVAL);
    assert_int_equal(gyre_sim_seen(rig.sim, GYRE_SIM_PATH_COUNT), 0);
    assert_int_equal(gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_COUNT), 0);
    rig_run(&rig);
    assert_int_equal(gyre_sim_signal(process, 15), -ESRCH);
    assert_int_equal(gyre_sim_kill(process), -ESRCH);
    rig_end(&rig);
}

static const struct test_case cases[] = {
    {"seed_again_gives_the_same_run_and_another_seed_another",
     seed_again_gives_the_same_run_and_another_seed_another, 60},
    TEST_CASE(personality_makes_another_run),
    TEST_CASE(trace_that_somebody_reads_is_the_same_run),
    {"worlds_in_three_threads_run_as_each_does_alone",
     worlds_in_three_threads_run_as_each_does_alone, 60},
    TEST_CASE(sleep_is_never_early_and_late_only_by_faults),
    TEST_CASE(timer_of_a_loop_is_never_early),
    TEST_CASE(script_runs_at_its_moment_in_order),
    TEST_CASE(program_started_by_a_program_is_waited_for_and_a_daemon_is_not),
    TEST_CASE(world_without_programs_ends_at_once),
    TEST_CASE(program_with_a_status_fails_the_run),
    TEST_CASE(program_that_waits_for_ever_fails_the_run),
    TEST_CASE(end_of_time_fails_the_run),
    TEST_CASE(program_that_spins_fails_the_run),
    TEST_CASE(loops_that_wait_for_nothing_fail_the_run),
    TEST_CASE(invariant_is_asked_at_each_step_and_ends_the_run),
    TEST_CASE(seventeenth_invariant_is_refused),
    TEST_CASE(failure_that_came_first_is_kept),
    TEST_CASE(faults_off_means_none),
    TEST_CASE(no_fault_strikes_once_the_world_is_healed),
    TEST_CASE(seeds_differ_in_which_faults_strike),
    TEST_CASE(names_are_there_for_all),
    TEST_CASE(note_is_in_the_trace_and_its_hash),
    TEST_CASE(probe_that_met_a_busy_ring_goes_on_or_is_made_again),
    TEST_CASE(second_world_in_a_thread_is_refused),
    TEST_CASE(bad_options_are_refused),
    TEST_CASE(bad_hosts_are_refused),
    TEST_CASE(calls_with_null_or_bad_values_are_refused),
};

int main(void)
{
    return test_main("sim-world", cases, TEST_COUNT(cases));
}
