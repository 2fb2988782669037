/*
 * The ring: queues, entering, waiting. What io_uring_enter() does, in Linux's order:
 *
 *     take in entries, each tried at once; stop at a shortage
 *     with GETEVENTS, if all were taken in:
 *         do task work, up to 20 pieces of it; move what overflowed to the queue
 *         sleep until there are as many completions as asked for; do the task work that woke us
 *
 * A completion that is one of several (multishot) is posted only where there is room; where there
 * is none, or others wait in the overflow list before it, the request ends, with that result and
 * without F_MORE: so Linux 6.18 does it, alike for receive, accept and poll. The last completion of
 * a request is never lost: it goes to the overflow list.
 */
#include "sim/uring.h"

#include <errno.h>
#include <linux/time_types.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { WORK_MAX = 20 }; /* pieces of task work before others have a turn */

/* As the versions report. */
#define FEATURES_618 0x3ffffu /* all up to NO_IOWAIT, 6.15 */
#define FEATURES_601 0x1fffu  /* all up to LINKED_FILE */

enum {
    IN_ORDER_SINCE = 616, /* io_req_post_cqe() posts first what was put off; seen on 6.18 */
    NO_IOWAIT_SINCE = 615,
    LIBURING_REGISTERED = 1, /* INT_FLAG_REG_RING, in a header of liburing's own */
};
#define SETUP_FLAGS                                                       \
    (IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | \
     IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
#define SETUP_NEEDED (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
#define ENTER_FLAGS                                                                 \
    (IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_REGISTERED_RING | \
     GYRE__ENTER_NO_IOWAIT)

/* Of the world's thread: rings that are entered by an index. */
static _Thread_local struct sim_uring *registered;

static void uring_release(struct sim_file *file);
static void uring_destroy(struct sim_file *file);
static uint32_t uring_poll(struct sim_file *file);

static const struct sim_file_ops uring_ops = {
    .name = "io_uring",
    .poll = uring_poll,
    .release = uring_release,
    .destroy = uring_destroy,
};

static struct sim_uring *uring_of(struct sim_file *file)
{
    return gyre_container_of(file, struct sim_uring, file);
}

int gyre__sim_uring_unmodelled(struct sim_uring *ring, const char *what)
{
    gyre__sim_failed(gyre__sim_of_uring(ring), "io_uring: %s is not modelled", what);
    return -EINVAL;
}

/* ---- the completion queue ---- */

static uint32_t ready_count(const struct sim_uring *ring)
{
    return ring->queues->cq_tail - ring->queues->cq_head;
}

static int has_room(const struct sim_uring *ring)
{
    return ready_count(ring) < ring->queues->cq_entries;
}

static void signal_event(struct sim_uring *ring)
{
    const uint64_t one = 1;
    const struct iovec piece = {.iov_base = (void *)(uintptr_t)&one, .iov_len = sizeof(one)};

    if (ring->event != NULL && !(ring->queues->cq_flags & IORING_CQ_EVENTFD_DISABLED)) {
        /* A counter that is full is readable already. */
        (void)ring->event->ops->write(ring->event, &piece, 1, 0);
    }
}

static void put(struct sim_uring *ring, const struct sim_uring_completion *completion)
{
    struct io_uring_cqe *place = &ring->cqes[ring->queues->cq_tail & ring->queues->cq_mask];

    place->user_data = completion->user_data;
    place->res = completion->res;
    place->flags = completion->flags;
    ring->queues->cq_tail++;
}

static struct sim_uring_completion *first_of(struct gyre_link *list)
{
    return gyre__list_empty(list)
               ? NULL
               : gyre_container_of(list->next, struct sim_uring_completion, link);
}

static void overflow(struct sim_uring *ring, struct sim_uring_completion *completion)
{
    if (gyre__list_empty(&ring->overflow)) {
        ring->queues->sq_flags |= IORING_SQ_CQ_OVERFLOW;
        gyre__sim_trace(gyre__sim_of_uring(ring), "ring %llu: overflow",
                        (unsigned long long)ring->file.id);
    }
    gyre__sim_sometimes(gyre__sim_of_uring(ring), GYRE_SIM_PATH_CQ_OVERFLOW);
    gyre__list_append(&ring->overflow, &completion->link);
}

/* Linux collects the last completions of a batch of requests and posts them at its end. */
static void flush_done(struct sim_uring *ring)
{
    const uint32_t tail = ring->queues->cq_tail;
    struct sim_uring_completion *completion;

    while ((completion = first_of(&ring->done)) != NULL) {
        gyre__list_remove(&completion->link);
        if (gyre__list_empty(&ring->overflow) && has_room(ring)) {
            put(ring, completion);
            free(completion);
        } else {
            overflow(ring, completion);
        }
    }
    if (ring->queues->cq_tail != tail) {
        signal_event(ring);
        gyre__sim_file_wake(&ring->file, EPOLLIN | EPOLLRDNORM);
    }
}

static void flush_overflow(struct sim_uring *ring)
{
    struct sim_uring_completion *completion;

    while ((completion = first_of(&ring->overflow)) != NULL && has_room(ring)) {
        gyre__list_remove(&completion->link);
        put(ring, completion);
        free(completion);
    }
    if (completion == NULL) {
        ring->queues->sq_flags &= ~IORING_SQ_CQ_OVERFLOW;
    }
}

static void trace_completion(const struct sim_request *request, int32_t res, uint32_t flags)
{
    gyre__sim_trace(gyre__sim_of_uring(request->ring), "ring %llu: #%llu %s -> %d flags %x",
                    (unsigned long long)request->ring->file.id, (unsigned long long)request->id,
                    gyre__sim_request_name(request), res, flags);
}

int gyre__sim_uring_post_more(struct sim_request *request, int32_t res, uint32_t flags)
{
    struct sim_uring *ring = request->ring;
    const struct sim_uring_completion completion = {
        .user_data = request->sqe.user_data, .res = res, .flags = flags | IORING_CQE_F_MORE};

    if (gyre__sim_kernel_version(ring->file.sim) >= IN_ORDER_SINCE) {
        flush_done(ring); /* or completions stand in another order than what they are about */
    }
    if (!gyre__list_empty(&ring->overflow) || !has_room(ring) ||
        gyre__sim_fault(gyre__sim_of_uring(ring), GYRE_SIM_FAULT_MULTISHOT_ENDS)) {
        return 0;
    }
    trace_completion(request, res, completion.flags);
    put(ring, &completion);
    signal_event(ring);
    gyre__sim_file_wake(&ring->file, EPOLLIN | EPOLLRDNORM);
    return 1;
}

void gyre__sim_uring_post_last(struct sim_request *request)
{
    struct sim_uring_completion *completion;

    trace_completion(request, request->res, request->cqe_flags);
    if ((request->sqe.flags & IOSQE_CQE_SKIP_SUCCESS) && !request->failed) {
        return;
    }
    completion = gyre__sim_alloc(sizeof(*completion));
    completion->user_data = request->sqe.user_data;
    completion->res = request->res;
    completion->flags = request->cqe_flags;
    gyre__list_append(&request->ring->done, &completion->link);
}

/* ---- task work ---- */

void gyre__sim_uring_work_added(struct sim_uring *ring, int now)
{
    if (ring->work_count == 1) {
        ring->queues->sq_flags |= IORING_SQ_TASKRUN;
        signal_event(ring);
    }
    if (ring->wanted > 0 && (now || ring->work_count >= ring->wanted)) {
        ring->wanted = 0;
        gyre__sim_thread_wake(ring->owner);
    }
}

/* The first of those that wait, or, by a fault, any. A request waits there once only, so that the
 * completions of one never change places. */
static struct sim_request *next_work(struct sim_uring *ring)
{
    struct gyre_sim *sim = gyre__sim_of_uring(ring);
    struct gyre_link *link = ring->work.next;

    if (ring->work_count > 1 && gyre__sim_fault(sim, GYRE_SIM_FAULT_COMPLETION_ORDER)) {
        for (uint64_t skip = gyre__sim_below(sim, ring->work_count); skip > 0; skip--) {
            link = link->next;
        }
    }
    gyre__list_remove(link);
    ring->work_count--;
    return gyre_container_of(link, struct sim_request, work);
}

/* At most @max pieces of what waits; again what these have brought, until @least are done. */
static void run_work(struct sim_uring *ring, uint32_t least, uint32_t max)
{
    uint32_t count = 0;

    ring->queues->sq_flags &= ~IORING_SQ_TASKRUN;
    while (ring->work_count > 0) {
        uint32_t pass = ring->work_count < max ? ring->work_count : max;

        count += pass;
        while (pass-- > 0 && ring->work_count > 0) {
            gyre__sim_request_run(next_work(ring));
        }
        flush_done(ring);
        if (count >= least) {
            break;
        }
    }
    if (ring->work_count > 0) {
        ring->queues->sq_flags |= IORING_SQ_TASKRUN;
    }
}

static void run_turn(struct sim_uring *ring, uint32_t least)
{
    if (ring->work_count > 0) {
        run_work(ring, least, least > WORK_MAX ? least : WORK_MAX);
    }
}

/* ---- waiting ---- */

/* Sleeps until there may be @missing completions more. Returns 0, -ETIME or -EINTR. */
static int rest(struct sim_uring *ring, uint32_t missing, uint64_t deadline_ns)
{
    int rc;

    if (ring->work_count > 0 || !gyre__list_empty(&ring->overflow)) {
        return 0;
    }
    if (gyre__sim_fault(gyre__sim_of_uring(ring), GYRE_SIM_FAULT_ENTER_EINTR)) {
        return -EINTR;
    }
    ring->wanted = missing;
    rc = gyre__sim_thread_sleep(deadline_ns);
    ring->wanted = 0;
    return rc < 0 ? -ETIME : 0;
}

static int await(struct sim_uring *ring, uint32_t count, uint64_t deadline_ns)
{
    int rc = 0;

    run_turn(ring, count);
    flush_overflow(ring);
    while (ready_count(ring) < count) {
        const uint32_t missing = count - ready_count(ring);

        rc = rest(ring, missing, deadline_ns);
        if (ring->work_count > 0) {
            run_work(ring, missing, missing);
        }
        flush_overflow(ring);
        if (rc < 0) {
            break;
        }
    }
    return ready_count(ring) > 0 ? 0 : rc;
}

/* ---- entering ---- */

/* Takes in up to @count entries. Returns how many. */
static uint32_t take_entries(struct sim_uring *ring, uint32_t count)
{
    struct sim_uring_queues *queues = ring->queues;

    for (uint32_t i = 0; i < count; i++) {
        const unsigned index = ring->sq_array[queues->sq_head & queues->sq_mask];
        struct io_uring_sqe sqe;

        if (index >= queues->sq_entries) {
            queues->sq_dropped++;
            queues->sq_head++;
            return i;
        }
        sqe = ring->sqes[index];
        queues->sq_head++;
        gyre__sim_request_submit(ring, &sqe);
    }
    return count;
}

static int submit(struct sim_uring *ring, uint32_t to_submit)
{
    struct gyre_sim *sim = gyre__sim_of_uring(ring);
    const struct sim_uring_queues *queues = ring->queues;
    const uint32_t waiting = queues->sq_tail - queues->sq_head;
    uint32_t count = to_submit < waiting ? to_submit : waiting;

    if (waiting == queues->sq_entries) {
        gyre__sim_sometimes(sim, GYRE_SIM_PATH_SQ_FULL);
    }
    if (gyre__sim_fault(sim, GYRE_SIM_FAULT_ENTER_EAGAIN)) {
        return -EAGAIN;
    }
    if (gyre__sim_fault(sim, GYRE_SIM_FAULT_ENTER_EBUSY)) {
        return -EBUSY;
    }
    if (count > 1 && gyre__sim_fault(sim, GYRE_SIM_FAULT_ENTER_PARTIAL)) {
        count = 1 + (uint32_t)gyre__sim_below(sim, count - 1);
    }
    count = take_entries(ring, count);
    flush_done(ring);
    return (int)count;
}

/* The argument that says how long to wait. */
static int deadline_of(struct sim_uring *ring, unsigned flags, const void *argument, size_t len,
                       uint64_t *out_deadline_ns)
{
    const struct io_uring_getevents_arg *arg = argument;
    const struct __kernel_timespec *span;

    *out_deadline_ns = UINT64_MAX;
    if (!(flags & IORING_ENTER_EXT_ARG)) {
        return argument != NULL ? gyre__sim_uring_unmodelled(ring, "a mask of signals") : 0;
    }
    if (len != sizeof(*arg)) {
        return -EINVAL;
    }
    if (arg->sigmask != 0 || arg->pad != 0) {
        return gyre__sim_uring_unmodelled(ring, "a mask of signals or a least wait");
    }
    span = (const struct __kernel_timespec *)(uintptr_t)arg->ts;
    if (span != NULL) {
        const uint64_t now = gyre__sim_now(gyre__sim_of_uring(ring));
        const uint64_t span_ns = span->tv_sec < (int64_t)(INT64_MAX / (int64_t)GYRE_SEC)
                                     ? (uint64_t)span->tv_sec * GYRE_SEC + (uint64_t)span->tv_nsec
                                     : UINT64_MAX;

        *out_deadline_ns = span_ns < UINT64_MAX - now ? now + span_ns : UINT64_MAX;
    }
    return 0;
}

static struct sim_uring *find_ring(unsigned number, unsigned flags, int *out_error)
{
    struct sim_file *file;

    if (flags & IORING_ENTER_REGISTERED_RING) {
        *out_error = number < SIM_URING_REGISTERED_MAX ? -EBADF : -EINVAL;
        for (struct sim_uring *ring = registered; ring != NULL; ring = ring->next_registered) {
            if (ring->registrar == gyre__sim_self() && ring->index == (int)number) {
                return ring;
            }
        }
        return NULL;
    }
    file = gyre__sim_fd_file(gyre__sim_process(), (int)number);
    *out_error = file == NULL ? -EBADF : -EOPNOTSUPP;
    return file != NULL && file->ops == &uring_ops ? uring_of(file) : NULL;
}

int gyre__sim_uring_enter(unsigned fd, unsigned to_submit, unsigned wait_count, unsigned flags,
                          void *argument, size_t len)
{
    uint64_t deadline_ns;
    int taken = 0;
    int rc = -EINVAL;
    struct sim_uring *ring = flags & ~ENTER_FLAGS ? NULL : find_ring(fd, flags, &rc);

    if (ring == NULL) {
        return rc;
    }
    if (ring->owner != gyre__sim_self() && (to_submit > 0 || (flags & IORING_ENTER_GETEVENTS))) {
        return -EEXIST;
    }
    if (to_submit > 0) {
        taken = submit(ring, to_submit);
        if (taken != (int)to_submit) {
            return taken; /* nothing is reaped then */
        }
        if (flags & IORING_ENTER_GETEVENTS) {
            run_turn(ring, wait_count);
        }
    }
    if (flags & IORING_ENTER_GETEVENTS) {
        const uint32_t most = ring->queues->cq_entries;

        rc = deadline_of(ring, flags, argument, len, &deadline_ns);
        rc = rc < 0 ? rc : await(ring, wait_count < most ? wait_count : most, deadline_ns);
        return taken > 0 ? taken : rc;
    }
    return taken;
}

/* ---- setup ---- */

static uint32_t power_of_two(uint32_t count)
{
    uint32_t power = 1;

    while (power < count) {
        power *= 2;
    }
    return power;
}

/* The sizes, rounded and clamped. */
static int size(unsigned entries, struct io_uring_params *params)
{
    const int clamps = (params->flags & IORING_SETUP_CLAMP) != 0;
    uint32_t cq = params->cq_entries;

    if (entries == 0 || (entries > SIM_URING_SQ_MAX && !clamps)) {
        return -EINVAL;
    }
    params->sq_entries = power_of_two(entries < SIM_URING_SQ_MAX ? entries : SIM_URING_SQ_MAX);
    if (!(params->flags & IORING_SETUP_CQSIZE)) {
        params->cq_entries = 2 * params->sq_entries;
        return 0;
    }
    if (cq == 0 || (cq > SIM_URING_CQ_MAX && !clamps)) {
        return -EINVAL;
    }
    params->cq_entries = power_of_two(cq < SIM_URING_CQ_MAX ? cq : SIM_URING_CQ_MAX);
    return params->cq_entries < params->sq_entries ? -EINVAL : 0;
}

static struct sim_uring *ring_new(struct gyre_sim_process *process,
                                  const struct io_uring_params *params)
{
    struct sim_uring *ring = gyre__sim_file_new(process->host, &uring_ops, sizeof(*ring));

    ring->process = process;
    ring->owner = gyre__sim_self();
    ring->index = -1;
    gyre__list_init(&ring->requests);
    gyre__list_init(&ring->work);
    gyre__list_init(&ring->done);
    gyre__list_init(&ring->overflow);
    ring->queues = gyre__sim_alloc(sizeof(*ring->queues));
    ring->queues->sq_entries = params->sq_entries;
    ring->queues->sq_mask = params->sq_entries - 1;
    ring->queues->cq_entries = params->cq_entries;
    ring->queues->cq_mask = params->cq_entries - 1;
    ring->sq_array = gyre__sim_alloc(params->sq_entries * sizeof(*ring->sq_array));
    ring->sqes = gyre__sim_alloc(params->sq_entries * sizeof(*ring->sqes));
    ring->cqes = gyre__sim_alloc(params->cq_entries * sizeof(*ring->cqes));
    return ring;
}

/* What liburing fills in after it has mapped the queues. */
static uint32_t features_of(const struct gyre_sim *sim)
{
    return gyre__sim_kernel_version(sim) >= NO_IOWAIT_SINCE ? FEATURES_618 : FEATURES_601;
}

static void tell(const struct sim_uring *ring, int number, unsigned flags,
                 struct io_uring *out_ring)
{
    struct sim_uring_queues *queues = ring->queues;
    struct io_uring_sq *sq = &out_ring->sq;
    struct io_uring_cq *cq = &out_ring->cq;

    memset(out_ring, 0, sizeof(*out_ring));
    sq->khead = &queues->sq_head;
    sq->ktail = &queues->sq_tail;
    sq->kring_mask = &queues->sq_mask;
    sq->kring_entries = &queues->sq_entries;
    sq->kflags = &queues->sq_flags;
    sq->kdropped = &queues->sq_dropped;
    sq->array = ring->sq_array;
    sq->sqes = ring->sqes;
    sq->ring_mask = queues->sq_mask;
    sq->ring_entries = queues->sq_entries;
    cq->khead = &queues->cq_head;
    cq->ktail = &queues->cq_tail;
    cq->kring_mask = &queues->cq_mask;
    cq->kring_entries = &queues->cq_entries;
    cq->kflags = &queues->cq_flags;
    cq->koverflow = &queues->cq_overflow;
    cq->cqes = ring->cqes;
    cq->ring_mask = queues->cq_mask;
    cq->ring_entries = queues->cq_entries;
    out_ring->flags = flags;
    out_ring->ring_fd = number;
    out_ring->enter_ring_fd = number;
    out_ring->features = features_of(ring->file.sim);
}

int gyre__sim_uring_setup(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    struct gyre_sim_process *process = gyre__sim_process();
    struct sim_uring *made;
    int rc = size(entries, params);

    if (rc < 0 || (params->flags & ~SETUP_FLAGS) ||
        (params->flags & SETUP_NEEDED) == IORING_SETUP_DEFER_TASKRUN) {
        return -EINVAL;
    }
    made = ring_new(process, params);
    if ((params->flags & SETUP_NEEDED) != SETUP_NEEDED) {
        gyre__sim_file_put(&made->file);
        gyre__sim_failed(process->host->sim, "io_uring: only DEFER_TASKRUN is modelled");
        return -EINVAL;
    }
    rc = gyre__sim_fd_install(process, &made->file, 0, 1);
    if (rc >= 0) {
        params->features = features_of(process->host->sim);
        tell(made, rc, params->flags, ring);
        gyre__sim_trace(process->host->sim, "ring %llu: %u and %u entries",
                        (unsigned long long)made->file.id, params->sq_entries, params->cq_entries);
    }
    gyre__sim_file_put(&made->file);
    return rc < 0 ? rc : 0;
}

/* ---- registration ---- */

/* The program's ring, for a call that registers something. */
static struct sim_uring *registering(const struct io_uring *ring, int *out_error)
{
    struct sim_uring *found = find_ring((unsigned)ring->ring_fd, 0, out_error);

    if (found != NULL && found->owner != gyre__sim_self()) {
        *out_error = -EEXIST;
        return NULL;
    }
    if (found != NULL &&
        gyre__sim_fault(gyre__sim_of_uring(found), GYRE_SIM_FAULT_REGISTER_FAILS)) {
        *out_error = -ENOMEM;
        return NULL;
    }
    return found;
}

static int index_is_free(int index)
{
    for (const struct sim_uring *ring = registered; ring != NULL; ring = ring->next_registered) {
        if (ring->registrar == gyre__sim_self() && ring->index == index) {
            return 0;
        }
    }
    return 1;
}

int gyre__sim_uring_register_ring(struct io_uring *ring)
{
    int rc;
    struct sim_uring *found = registering(ring, &rc);

    if (found == NULL) {
        return rc;
    }
    if (found->index >= 0) {
        return -EEXIST;
    }
    for (int index = 0; index < SIM_URING_REGISTERED_MAX; index++) {
        if (index_is_free(index)) {
            found->index = index;
            found->registrar = gyre__sim_self();
            found->next_registered = registered;
            registered = found;
            ring->enter_ring_fd = index;
            ring->int_flags |= LIBURING_REGISTERED;
            return 1;
        }
    }
    return -EBUSY;
}

static void unregister(struct sim_uring *ring)
{
    struct sim_uring **place = &registered;

    while (*place != NULL && *place != ring) {
        place = &(*place)->next_registered;
    }
    if (*place != NULL) {
        *place = ring->next_registered;
    }
    ring->index = -1;
}

int gyre__sim_uring_register_eventfd(struct io_uring *ring, int fd)
{
    int rc;
    struct sim_uring *found = registering(ring, &rc);
    struct sim_file *event = gyre__sim_fd_file(gyre__sim_process(), fd);

    if (found == NULL) {
        return rc;
    }
    if (found->event != NULL) {
        return -EBUSY;
    }
    if (event == NULL) {
        return -EBADF;
    }
    if (strcmp(event->ops->name, "eventfd") != 0) {
        return -EINVAL;
    }
    gyre__sim_file_open(event);
    found->event = event;
    return 0;
}

int gyre__sim_uring_register_buffers(struct io_uring *ring, struct io_uring_buf_reg *registration)
{
    int rc;
    struct sim_uring *found = registering(ring, &rc);

    return found == NULL
               ? rc
               : gyre__sim_group_register(found, (const struct gyre__buf_reg *)registration);
}

/* ---- the end ---- */

static uint32_t uring_poll(struct sim_file *file)
{
    const struct sim_uring *ring = uring_of(file);
    const struct sim_uring_queues *queues = ring->queues;
    uint32_t events = 0;

    if (queues->sq_tail - queues->sq_head < queues->sq_entries) {
        events |= EPOLLOUT | EPOLLWRNORM;
    }
    if (ready_count(ring) > 0 || ring->work_count > 0 || !gyre__list_empty(&ring->overflow)) {
        events |= EPOLLIN | EPOLLRDNORM;
    }
    return events;
}

static void drop_all(struct gyre_link *list)
{
    struct sim_uring_completion *completion;

    while ((completion = first_of(list)) != NULL) {
        gyre__list_remove(&completion->link);
        free(completion);
    }
}

/* All requests end, and nobody is told. Linux does this a little later, in a thread of its own. */
static void uring_release(struct sim_file *file)
{
    struct sim_uring *ring = uring_of(file);

    ring->wanted = 0;
    unregister(ring);
    while (!gyre__list_empty(&ring->requests)) {
        gyre__sim_request_drop(gyre_container_of(ring->requests.next, struct sim_request, link));
    }
    ring->work_count = 0;
    drop_all(&ring->done);
    drop_all(&ring->overflow);
    if (ring->event != NULL) {
        gyre__sim_file_close(ring->event);
        ring->event = NULL;
    }
}

static void uring_destroy(struct sim_file *file)
{
    struct sim_uring *ring = uring_of(file);

    free(ring->queues);
    free(ring->sq_array);
    free(ring->sqes);
    free(ring->cqes);
}

void gyre__sim_uring_exit(struct io_uring *ring)
{
    int rc;
    struct sim_uring *found = find_ring((unsigned)ring->ring_fd, 0, &rc);

    if (found != NULL) {
        unregister(found);
        gyre__sim_fd_close(gyre__sim_process(), ring->ring_fd);
    }
}
