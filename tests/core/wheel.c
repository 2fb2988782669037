/*
 * The timer wheel alone, against a model that is too simple to be wrong: an array searched from end
 * to end. Catalogue T04, T10, T11.
 */
#include "harness.h"

#include "core/wheel.h"

#include <stdlib.h>
#include <string.h>

enum { ALARMS = 300 };

struct model_alarm {
    struct gyre_alarm alarm;
    uint64_t deadline;
    uint64_t sequence; /* of the add: decides between equals */
    int active;
};

struct model {
    struct gyre__wheel wheel;
    struct model_alarm alarms[ALARMS];
    uint64_t now;
    uint64_t sequence;
    uint64_t seed;
    uint64_t popped;
    int active;
};

static uint64_t next_random(struct model *model)
{
    /* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2014 */
    model->seed ^= model->seed >> 12;
    model->seed ^= model->seed << 25;
    model->seed ^= model->seed >> 27;
    return model->seed * UINT64_C(2685821657736338717);
}

static struct model *model_create(uint64_t seed, uint64_t now)
{
    struct model *model = calloc(1, sizeof(*model));
    int i;

    assert_non_null(model);
    model->seed = seed;
    model->now = now;
    gyre__wheel_init(&model->wheel, now);
    for (i = 0; i < ALARMS; i++) {
        gyre__alarm_init(&model->alarms[i].alarm);
        assert_false(gyre__alarm_active(&model->alarms[i].alarm));
    }
    return model;
}

static struct model_alarm *model_first(struct model *model)
{
    struct model_alarm *first = NULL;
    int i;

    for (i = 0; i < ALARMS; i++) {
        struct model_alarm *alarm = &model->alarms[i];

        if (alarm->active &&
            (first == NULL || alarm->deadline < first->deadline ||
             (alarm->deadline == first->deadline && alarm->sequence < first->sequence))) {
            first = alarm;
        }
    }
    return first;
}

static void model_add(struct model *model, struct model_alarm *alarm, uint64_t deadline)
{
    alarm->deadline = deadline;
    alarm->sequence = model->sequence++;
    alarm->active = 1;
    model->active++;
    gyre__wheel_add(&model->wheel, &alarm->alarm, deadline);
    assert_true(gyre__alarm_active(&alarm->alarm));
}

static void model_remove(struct model *model, struct model_alarm *alarm)
{
    alarm->active = 0;
    model->active--;
    gyre__wheel_remove(&model->wheel, &alarm->alarm);
    assert_false(gyre__alarm_active(&alarm->alarm));
}

/* Never after the first deadline: the loop would sleep past it. */
static void model_check_next(struct model *model)
{
    const struct model_alarm *first = model_first(model);
    uint64_t next = gyre__wheel_next(&model->wheel);

    if (first == NULL) {
        assert_int_equal(next, UINT64_MAX);
    } else {
        assert_true(next <= first->deadline);
    }
    assert_true(gyre__wheel_next(&model->wheel) == next);
}

/* Pops one alarm, which must be the model's first, or nothing, when that has not come. */
static int model_pop(struct model *model)
{
    struct model_alarm *first = model_first(model);
    struct gyre_alarm *popped = gyre__wheel_pop(&model->wheel, model->now);

    if (first == NULL || first->deadline > model->now || first->deadline == UINT64_MAX) {
        assert_null(popped);
        return 0;
    }
    assert_ptr_equal(popped, &first->alarm);
    assert_false(gyre__alarm_active(popped));
    first->active = 0;
    model->active--;
    model->popped++;
    return 1;
}

/* When nothing is due the loop sleeps: until a moment that has not passed, or it would spin. */
static void model_pop_all(struct model *model)
{
    while (model_pop(model)) {
    }
    model_check_next(model);
    assert_true(gyre__wheel_next(&model->wheel) > model->now);
}

/* A deadline of any magnitude, often one that another alarm has. */
static uint64_t random_deadline(struct model *model)
{
    uint64_t distance = next_random(model) >> (next_random(model) % 64);
    uint64_t deadline;

    if (next_random(model) % 4 == 0) {
        return model->alarms[next_random(model) % ALARMS].deadline;
    }
    if (next_random(model) % 16 == 0) {
        return model->now - model->now % 7 - distance % 1000;
    }
    if (next_random(model) % 64 == 0) {
        return UINT64_MAX - next_random(model) % 2;
    }
    return __builtin_add_overflow(model->now, distance, &deadline) ? UINT64_MAX : deadline;
}

static void advance_time(struct model *model)
{
    uint64_t step = next_random(model) >> (24 + next_random(model) % 40);

    if (step >= UINT64_MAX - model->now) {
        step = UINT64_MAX - 1 - model->now; /* the last moment there is: UINT64_MAX never comes */
    }
    model->now += step;
}

static void model_step(struct model *model)
{
    struct model_alarm *alarm = &model->alarms[next_random(model) % ALARMS];
    uint64_t choice = next_random(model) % 100;

    if (choice < 50 && !alarm->active) {
        model_add(model, alarm, random_deadline(model));
    } else if (choice < 65 && alarm->active) {
        model_remove(model, alarm);
    } else if (choice < 70) {
        model_check_next(model);
    } else if (choice < 80) {
        (void)model_pop(model);
    } else if (choice < 90) {
        advance_time(model);
        (void)model_pop(model);
    } else if (choice < 92) {
        const struct model_alarm *first = model_first(model);

        if (first != NULL && first->deadline != UINT64_MAX && first->deadline > model->now) {
            model->now = first->deadline;
        }
        model_pop_all(model);
    } else {
        model_pop_all(model);
    }
}

static void run_model(uint64_t seed, uint64_t now, int steps)
{
    struct model *model = model_create(seed, now);
    int i;

    for (i = 0; i < steps; i++) {
        model_step(model);
    }
    assert_true(model->popped > 0);
    for (i = 0; i < ALARMS; i++) {
        if (model->alarms[i].active) {
            model_remove(model, &model->alarms[i]);
        }
    }
    assert_int_equal(model->active, 0);
    assert_int_equal(gyre__wheel_next(&model->wheel), UINT64_MAX);
    assert_null(gyre__wheel_pop(&model->wheel, UINT64_MAX));
    free(model);
}

/* T11 */
static void wheel_random_use_agrees_with_model(void)
{
    uint64_t seed;

    for (seed = 1; seed <= 40; seed++) {
        run_model(seed, seed * UINT64_C(987654321987), 5000);
    }
}

/* T04: from the first moment there is, and close to the last. */
static void wheel_at_both_ends_of_time_agrees_with_model(void)
{
    uint64_t seed;

    for (seed = 1; seed <= 20; seed++) {
        run_model(seed, 0, 2000);
        run_model(seed, UINT64_MAX / 2 + 1 - seed, 2000);
        run_model(seed, UINT64_MAX - UINT64_C(1000000000000000), 2000);
        run_model(seed, UINT64_MAX - 1000000, 500);
    }
}

/* The crowd is longer than what wheel_next looks through, so its answer is a bound; that bound must
 * not stay when the crowd has gone, or the loop would find nothing due and not sleep either. */
static void wheel_crowd_removed_does_not_leave_a_past_moment(void)
{
    const uint64_t now = UINT64_C(1) << 40;
    const uint64_t crowd = now + (UINT64_C(1) << 30);
    struct model *model = model_create(1, now);
    int i;

    model_add(model, &model->alarms[0], now + (UINT64_C(1) << 36));
    for (i = 1; i < 100; i++) {
        model_add(model, &model->alarms[i], crowd + 1000 + (uint64_t)i);
    }
    model_check_next(model);
    for (i = 1; i < 100; i++) {
        model_remove(model, &model->alarms[i]);
        model_check_next(model);
    }
    model->now = crowd + 5000;
    model_pop_all(model);
    assert_int_equal(gyre__wheel_next(&model->wheel), model->alarms[0].deadline);
    model_remove(model, &model->alarms[0]);
    free(model);
}

/* A slot that is over with few alarms in it is sorted, one with more is spread: around that limit, with
 * the latest first and each moment twice. */
static void wheel_slots_that_are_over_pop_in_order(void)
{
    int count;
    int i;

    for (count = 2; count <= 40; count++) {
        struct model *model = model_create(1, UINT64_C(1) << 40);
        const uint64_t slot = model->now + (UINT64_C(1) << 12); /* of 4,096 moments */

        for (i = 0; i < count; i++) {
            model_add(model, &model->alarms[i], slot + (uint64_t)(count - i) / 2 * 90);
        }
        model->now = slot + 4095;
        model_pop_all(model);
        assert_int_equal(model->popped, count);
        model_add(model, &model->alarms[0], slot + 4095); /* what comes after the slot's end */
        model_add(model, &model->alarms[1], slot + 4096);
        assert_int_equal(model_pop(model), 1);
        assert_int_equal(gyre__wheel_next(&model->wheel), slot + 4096);
        model->now++;
        model_pop_all(model);
        assert_int_equal(model->active, 0);
        free(model);
    }
}

/* What an idle loop does: sleep until wheel_next, look, sleep again. A lone alarm costs one wake-up. */
static void wheel_lone_alarm_is_slept_for_exactly(void)
{
    struct model *model = model_create(1, 12345);
    int shift;

    for (shift = 0; shift < 63; shift++) {
        uint64_t deadline = model->now + (UINT64_C(1) << (shift % 40)) + 1;

        model_add(model, &model->alarms[0], deadline);
        assert_true(gyre__wheel_next(&model->wheel) == deadline);
        model->now = deadline - 1;
        assert_int_equal(model_pop(model), 0);
        assert_true(gyre__wheel_next(&model->wheel) == deadline);
        model->now = deadline;
        assert_int_equal(model_pop(model), 1);
    }
    free(model);
}

/* T10: wake-ups beyond one per alarm are few, whatever the crowd. */
static void wheel_crowd_is_served_with_few_wakeups(void)
{
    struct model *model = model_create(7, UINT64_C(1) << 50);
    uint64_t wakeups = 0;
    uint64_t moments = 0;
    int i;

    for (i = 0; i < ALARMS; i++) {
        model_add(model, &model->alarms[i], model->now + next_random(model) % GYRE_SEC);
    }
    while (model->active > 0) {
        model->now = gyre__wheel_next(&model->wheel);
        wakeups++;
        moments += model_pop(model);
        model_pop_all(model);
    }
    assert_int_equal(model->popped, ALARMS);
    assert_true(wakeups <= moments * 12);
    free(model);
}

/* T10 */
static void wheel_million_alarms_pop_in_order(void)
{
    const size_t count = 1000000;
    struct gyre_alarm *alarms = calloc(count, sizeof(*alarms));
    struct gyre__wheel *wheel = malloc(sizeof(*wheel));
    struct model random = {.seed = 11};
    struct gyre_alarm *alarm;
    uint64_t last = 0;
    size_t popped = 0;
    size_t i;

    assert_true(alarms != NULL && wheel != NULL);
    gyre__wheel_init(wheel, 0);
    for (i = 0; i < count; i++) {
        gyre__alarm_init(&alarms[i]);
        gyre__wheel_add(wheel, &alarms[i], 1 + next_random(&random) % (100 * GYRE_SEC));
    }
    for (i = 0; i < count; i += 3) {
        gyre__wheel_remove(wheel, &alarms[i]);
    }
    while ((alarm = gyre__wheel_pop(wheel, 200 * GYRE_SEC)) != NULL) {
        assert_true(alarm->deadline_ns >= last);
        last = alarm->deadline_ns;
        popped++;
    }
    assert_int_equal(popped, count - (count + 2) / 3);
    assert_int_equal(gyre__wheel_next(wheel), UINT64_MAX);
    free(wheel);
    free(alarms);
}

static const struct test_case cases[] = {
    {"wheel_random_use_agrees_with_model", wheel_random_use_agrees_with_model, 30},
    {"wheel_at_both_ends_of_time_agrees_with_model", wheel_at_both_ends_of_time_agrees_with_model,
     30},
    {"wheel_crowd_removed_does_not_leave_a_past_moment",
     wheel_crowd_removed_does_not_leave_a_past_moment, 0},
    {"wheel_slots_that_are_over_pop_in_order", wheel_slots_that_are_over_pop_in_order, 0},
    {"wheel_lone_alarm_is_slept_for_exactly", wheel_lone_alarm_is_slept_for_exactly, 0},
    {"wheel_crowd_is_served_with_few_wakeups", wheel_crowd_is_served_with_few_wakeups, 0},
    {"wheel_million_alarms_pop_in_order", wheel_million_alarms_pop_in_order, 30},
};

int main(void)
{
    return test_main("wheel", cases, TEST_COUNT(cases));
}
