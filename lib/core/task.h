/*
 * Work for the end of the turn: what the callbacks of a turn ask for, done once for all of them.
 * The layers above use it to send in one go what many callbacks wrote.
 */
#ifndef GYRE_CORE_TASK_H
#define GYRE_CORE_TASK_H

#include "base/list.h"
#include "core/loop.h"

/* Set up a task; @run may run callbacks, and ask for the task again. */
static inline void gyre__task_init(struct gyre_task *task, void (*run)(struct gyre_task *task))
{
    gyre__list_init(&task->link);
    task->run = run;
}

static inline int gyre__task_pending(const struct gyre_task *task)
{
    return !gyre__list_empty(&task->link);
}

/* Run it once before the loop waits again; asking twice is asking once. */
static inline void gyre__task_request(struct gyre_loop *loop, struct gyre_task *task)
{
    if (!gyre__task_pending(task)) {
        gyre__list_append(&loop->tasks, &task->link);
    }
}

static inline void gyre__task_withdraw(struct gyre_task *task)
{
    gyre__list_remove(&task->link);
}

#endif
