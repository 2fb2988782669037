"""The mutations: mistakes of one to three lines that a person could make, each in a place where it
would cost somebody's data, descriptors or sleep.

A mutation names the function, the text in it (which must be there exactly once, however broken into
lines) and what stands there instead. `breaks` says what is then wrong, `checks` what should notice,
in the order in which they are tried: the simulator first, which costs the least, then tests by
their names in the build. System calls have wrappers, whose names may change: the texts avoid them.
"""

import dataclasses

SIM = ("sim-uring", "sim-epoll")


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str
    breaks: str
    function: str
    old: str
    new: str
    checks: tuple


def mutant(name, breaks, function, old, new, tests, sim=SIM):
    return Mutant(name, breaks, function, old, new, (*sim, *tests.split()))


CORE = [
    mutant(
        "starved-forgotten",
        "receives that found no block are not tried again when one comes back",
        "serve_starved",
        "gyre__op_feed_starved(loop);",
        "",
        "ops-pool-epoll ops-pool-uring"),
    mutant(
        "hold-never-ends",
        "a receive held back by the quota does not go on when leases are given back",
        "gyre_lease_release",
        "gyre__fd_lent_less(owner);",
        "",
        "ops-pool-epoll ops-pool-uring"),
    mutant(
        "block-free-while-lent",
        "a block goes back to the pool while parts of it are lent",
        "gyre__pool_chunk_done",
        "if (entry->leases != 0) {",
        "if (entry->leases > 1) {",
        "ops-pool-epoll ops-pool-uring"),
    mutant(
        "two-sends-at-once",
        "an operation does not wait for the one before it: two writes may change places",
        "take_turn",
        "if (direction == GYRE__DIR_NONE || !(op->fd->armed & direction)) {",
        "if (direction == GYRE__DIR_NONE || op->fd->state == GYRE__FD_OPEN) {",
        "ops-send-epoll ops-send-uring"),
    mutant(
        "turn-not-handed-over",
        "the next operation of a direction is not started when one ends",
        "leave_fd",
        "if (op->flags & GYRE__OP_TURN) {",
        "if (op->flags & GYRE__OP_TURN & GYRE__OP_CANCELLED) {",
        "ops-send-epoll ops-send-uring"),
    mutant(
        "close-too-early",
        "close(2) does not wait for the last completion of the descriptor's operations",
        "gyre__fd_step",
        "if (fd->ops.next == &close->fd_link && close->state == GYRE__OP_QUEUED) {",
        "if (close->state == GYRE__OP_QUEUED) {",
        "ops-close-uring ops-close-epoll"),
    mutant(
        "close-cuts-writes",
        "a flushing close shuts the socket down before the queued writes have left",
        "gyre__fd_step",
        "if (flushing(close) && any_writes(fd)) {",
        "if (flushing(close) && any_writes(fd) && close->state != GYRE__OP_QUEUED) {",
        "ops-close-epoll ops-close-uring"),
    mutant(
        "deadline-hides-result",
        "an operation that won the race against its deadline says ETIMEDOUT all the same",
        "gyre__op_outcome",
        "if (error == -ECANCELED && (op->flags & GYRE__OP_TIMED_OUT)) {",
        "if (op->flags & GYRE__OP_TIMED_OUT) {",
        "ops-cancel-uring"),
    mutant(
        "cancel-forgets-moved-bytes",
        "a cancelled send does not say how many bytes had left",
        "gyre__op_outcome",
        "if (op->done > 0 && gyre__op_continues(op)) {",
        "if (op->done > 0 && gyre__op_continues(op) && error != -ECANCELED) {",
        "ops-cancel-epoll ops-send-epoll ops-cancel-uring ops-send-uring"),
    mutant(
        "names-used-again",
        "a name is not new when its slot is taken again: what is late reaches a stranger",
        "gyre__slots_release",
        "entry->generation++;",
        "",
        "ops-pool-epoll ops-pool-uring"),
    mutant(
        "shortage-not-over",
        "an accept that ran out of descriptors is never tried again",
        "pause_ended",
        "gyre__op_try_later(op);",
        "(void)op;",
        "ops-accept-epoll ops-accept-uring"),
    mutant(
        "shortage-spins",
        "an accept that is out of descriptors tries again at once, for ever",
        "gyre__accept_recover",
        "pause_accept(op);\n    return 0;",
        "return 1;",
        "ops-accept-epoll ops-accept-uring"),
    mutant(
        "receive-without-budget",
        "a flooded connection receives until it is empty, and starves everything else",
        "receive_more",
        "tries < TRIES_PER_TURN && loop->received - before < BYTES_PER_TURN && "
        "loop->received < BYTES_OF_ALL;",
        "loop->received - before < INT32_MAX / 2;",
        "net-hostile-epoll ops-recv-epoll net-pause-epoll core-contract-epoll"),
    mutant(
        "posts-without-budget",
        "posts that post again keep timers and sockets from their turn",
        "run_posts",
        "count > 0 && gyre__posts_pop",
        "gyre__posts_pop",
        "core-post-epoll core-loop-epoll"),
    mutant(
        "post-lost-asleep",
        "a post that comes as the loop goes to sleep does not wake it",
        "gyre__posts_sleep",
        "for (int i = 0; !gyre__posts_pending(posts); i++) {",
        "for (int i = 0;; i++) {\n        if (tail == 0 || i == 0) {\n            return GYRE__POSTS_ASLEEP;\n        }",
        "core-posts",
        sim=()),
    mutant(
        "timer-early",
        "timers that are due within the next millisecond fire with those that are due",
        "take_due",
        "gyre__wheel_pop(&loop->wheel, loop->now_ns);",
        "gyre__wheel_pop(&loop->wheel, loop->now_ns + GYRE_MSEC);",
        "core-timer-epoll core-loop-epoll"),
    mutant(
        "timer-overslept",
        "a timer that is nearer than all before it does not shorten the sleep",
        "gyre__wheel_add",
        "if (deadline < wheel->nearest) {",
        "if (deadline < wheel->nearest && !wheel->nearest_known) {",
        "core-wheel core-timer-epoll"),
    mutant(
        "due-unsorted",
        "timers that come due at once fire in the order of their starts, not of their moments",
        "insert_due",
        "alarm_of(before)->deadline_ns > alarm->deadline_ns",
        "alarm_of(before)->deadline_ns > UINT64_MAX - 1",
        "core-wheel core-timer-epoll"),
    mutant(
        "slot-never-empty",
        "a slot whose last timer was stopped stays marked: the next is looked for there",
        "vacate",
        "place < GYRE__WHEEL_LEVELS * GYRE__WHEEL_SLOTS",
        "place < GYRE__WHEEL_SLOTS",
        "core-wheel core-timer-epoll"),
]

URING = [
    mutant(
        "quota-exceeded-for-ever",
        "io_uring: a multishot receive goes on however much of what it brought is retained",
        "stays_over_quota",
        "return op->arg.lease.over_turn != turn || gyre__pool_is_short(pool);",
        "return 0;",
        "ops-pool-uring"),
    mutant(
        "quota-ends-at-once",
        "io_uring: each burst beyond the quota ends the receive, and it is begun anew",
        "stays_over_quota",
        "return op->arg.lease.over_turn != turn || gyre__pool_is_short(pool);",
        "return 1;",
        "ops-counters-uring",
        sim=()),
    mutant(
        "bulk-for-ever",
        "a connection that was bulk once is never received by the ring again",
        "is_bulk",
        "op->fd->flags &= (uint16_t)~GYRE__FD_BULK;",
        ";",
        "ops-counters-uring-noinc"),
    mutant(
        "bulk-in-pieces",
        "pieces of what is there at a time count singly: with small blocks nothing is bulk",
        "gyre__uring_received",
        "gyre__fd_note_size(op->fd, (uint32_t)cqe->res, op->fd->ready & GYRE__DIR_IN);",
        "gyre__fd_note_size(op->fd, (uint32_t)cqe->res, 0);",
        "ops-counters-uring-noinc"),
    mutant(
        "cancel-dropped",
        "a cancel that finds the submission queue full is forgotten",
        "gyre__uring_cancel",
        "gyre__list_append(&gyre__uring_of(op->loop)->cancels, &op->link);",
        "op->loop->stats.retries++;",
        "sim-regress-uring ops-cancel-uring"),
    mutant(
        "over-before-completion",
        "a cancelled operation is called over while the kernel still has its memory",
        "gyre__uring_cancel",
        "if (gyre__list_empty(&op->link) && !submit_cancel(op)) {",
        "if (gyre__list_empty(&op->link) && submit_cancel(op)) {\n"
        "        if ((op->flags & GYRE__OP_CANCELLED) && op->state == GYRE__OP_ARMED) {\n"
        "            gyre__op_ready(op, gyre__op_outcome(op, -ECANCELED));\n"
        "        }\n"
        "    } else if (gyre__list_empty(&op->link)) {",
        "ops-cancel-uring ops-close-uring ops-recv-uring"),
    mutant(
        "more-ignored",
        "a multishot accept that the kernel ended is taken to go on",
        "accepted",
        "if (res >= 0 && more) {",
        "if (res >= 0 && (more || (op->flags & GYRE_MULTISHOT))) {",
        "ops-pressure-uring ops-accept-uring-nomultishot"),
    mutant(
        "overflow-ends-receive",
        "a multishot receive that an overflow ended is not armed again",
        "deliver_slice",
        "gyre__uring_recv_go_on(op);",
        "gyre__uring_count_rearm(op);",
        "ops-pressure-uring net-stream-uring ops-recv-uring"),
    mutant(
        "accept-loses-descriptor",
        "a connection that an accept got although it was cancelled is dropped, its descriptor open",
        "accepted_last",
        "gyre__op_finish(op, is_junk ?",
        "gyre__op_finish(op, is_junk || (op->flags & GYRE__OP_CANCELLED) ?",
        "ops-accept-uring ops-cancel-uring"),
    mutant(
        "short-send-is-all",
        "a transfer that the kernel cut short is taken to be whole",
        "transferred",
        "if (whole || cancelled) {",
        "if (whole || cancelled || sends) {",
        "ops-send-uring ops-msg-uring net-send-uring ops-file-uring"),
    mutant(
        "direct-send-is-all",
        "what a large send by system call left over is not sent by the ring",
        "send_direct",
        "if (rc >= 0 && gyre__op_left(op) == 0) {",
        "if (rc > 0) {",
        "ops-send-uring net-send-uring"),
    mutant(
        "empty-datagram-twice",
        "an empty datagram that is sent alone is submitted as well",
        "send_direct",
        "if (rc >= 0 && gyre__op_left(op) == 0) {",
        "if (rc > 0 && gyre__op_left(op) == 0) {",
        "ops-msg-uring"),
    mutant(
        "alone-when-busy",
        "on a busy loop, too, a send is taken to be alone",
        "note_calm",
        "loop->calm = uring->idle && uring->taken <= 1;",
        "loop->calm = uring->taken <= 1;",
        "ops-counters-uring"),
    mutant(
        "never-alone",
        "no send is taken to be alone",
        "note_calm",
        "loop->calm = uring->idle && uring->taken <= 1;",
        "loop->calm = 0;",
        "ops-counters-uring ops-msg-uring net-send-uring"),
    mutant(
        "block-place-wrong",
        "slices of an incrementally filled block are looked for in the wrong place",
        "gyre__bufring_place",
        "block->used += len;",
        "block->used = len;",
        "ops-pool-uring ops-recv-uring"),
    mutant(
        "late-data-dropped",
        "what a receive got although it was cancelled is dropped, its buffer forgotten",
        "gyre__uring_received",
        "if (cqe->flags & IORING_CQE_F_BUFFER) {",
        "if ((cqe->flags & IORING_CQE_F_BUFFER) && !(op->flags & GYRE__OP_CANCELLED)) {",
        "ops-cancel-uring ops-recv-uring net-torture-uring"),
    mutant(
        "starvation-is-an-error",
        "a receive that found the kernel's ring of buffers empty ends with ENOBUFS",
        "ended",
        "unserved(op);",
        "gyre__op_finish(op, res, NULL);",
        "ops-pool-uring ops-pressure-uring net-pause-uring"),
    mutant(
        "submission-dropped",
        "an operation that finds the submission queue full never reaches the kernel",
        "submit_op",
        "gyre__op_try_next_turn(op);",
        "op->loop->stats.retries++;",
        "faults-regress-uring"),
    mutant(
        "completions-skipped",
        "of more completions than one turn takes the rest is given back unread",
        "gyre__ring_take",
        "head + count);",
        "head + ready);",
        "ops-pressure-uring ops-cancel-uring"),
    mutant(
        "overflow-unseen",
        "completions that the kernel keeps behind a full queue are not fetched by a turn that need not"
        " wait",
        "gyre__ring_pending",
        "(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)",
        "IORING_SQ_TASKRUN",
        "ops-pressure-uring ops-cancel-uring"),
    mutant(
        "slack-forgotten",
        "a sleep ends at the nanosecond asked for: each timer costs a wake of its own",
        "timeout_of",
        "gyre__time_add(deadline_ns - now, slack_ns)",
        "deadline_ns - now + 0 * slack_ns",
        "core-timer-uring"),
    mutant(
        "poll-not-armed-again",
        "a multishot poll that an overflow ended is not armed again: nothing wakes the loop",
        "polled",
        "gyre__uring_submit(op);",
        "",
        "ops-pressure-uring"),
    mutant(
        "reset-unasked-when-armed",
        "a receive armed while nothing was known to wait does not ask for a reset behind its data",
        "submit_receive",
        "op->done = polls_behind_data(op) ? 0 : (uint32_t)op->loop->stats.turns | 1;",
        "op->done = 0;",
        "sim-regress-uring"),
    mutant(
        "reset-behind-the-starved",
        "a receive for which data waits lets the kernel poll first, and nobody asks for a reset",
        "submit_receive",
        "gyre__uring_submit(op);",
        "op->fd->ready &= (uint8_t)~GYRE__DIR_IN; gyre__uring_submit(op);",
        "ops-pool-uring"),
    mutant(
        "hidden-reset-unasked",
        "a reset that was there with data of many buffers is asked for behind the first of them only",
        "hides_reset",
        "op->done = (uint32_t)op->loop->stats.turns | 1;",
        "op->done = 0;",
        "sim-regress-uring"),
    mutant(
        "doubt-left-standing",
        "whether a reset is hidden behind data that nobody answers is never asked",
        "uring_wait",
        "if (uring->doubt_count > 0) {",
        "if (0 && uring->doubt_count > 0) {",
        "net-pause-uring"),
    mutant(
        "doubt-unconfirmed",
        "a send by the ring that met a reset does not make the kernel look behind the data",
        "transferred",
        "gyre__uring_sent_in_doubt(op->fd, gyre__op_left(op), res);",
        "",
        "ops-recv-uring"),
    mutant(
        "doubt-dispelled-by-all",
        "any send at once is taken to have met no reset, also one that failed",
        "send_direct",
        "if (rc > 0) {\n        op->fd->ready",
        "op->fd->ready &= (uint8_t)~GYRE__READY_DOUBT; if (rc > 0) {\n        op->fd->ready",
        "ops-recv-uring"),
]

EPOLL = [
    mutant(
        "room-never-told",
        "a datagram socket whose send buffer was full is not registered to be told of room",
        "await_first_edge",
        "before & GYRE__FD_REGISTERED ? control(op->fd, EPOLL_CTL_MOD)",
        "op->fd->flags & GYRE__FD_REGISTERED ? 0",
        "net-dgram_send-epoll"),
    mutant(
        "end-behind-short-read",
        "a short read means empty although an end is known to be behind it: the end is lost",
        "gyre__fd_note_received",
        "if (got < room && !(fd->ready & GYRE__READY_END)) {",
        "if (got < room) {",
        "ops-recv-epoll net-stream-epoll"),
    mutant(
        "readiness-forgotten",
        "a receive waits for an edge although data is known to be there",
        "epoll_arm",
        "else if (op->fd->ready & direction) {",
        "else if (op->fd->ready & direction & GYRE__DIR_OUT) {",
        "ops-recv-epoll net-pause-epoll"),
    mutant(
        "short-try-is-all",
        "a send that the socket took a part of is taken to be whole",
        "try_once",
        "if ((size_t)rc == left) {",
        "if ((size_t)rc <= left) {",
        "ops-send-epoll net-send-epoll"),
    mutant(
        "ended-listener-told-for-ever",
        "a listener whose file a duplicate keeps stays in the epoll set: the loop spins",
        "close_resume",
        "if (op->fd->flags & GYRE__FD_LISTENS) {",
        "if (0) {",
        "ops-accept-epoll net-listener-epoll"),
    mutant(
        "paused-listener-stays",
        "of a listener that was paused a duplicate goes on to tell after the close",
        "close_resume",
        "GYRE__FD_LISTENS",
        "GYRE__FD_LEVEL",
        "ops-accept-epoll"),
    mutant(
        "nobody-accepts-and-all-are-told",
        "connections that nobody accepts wake the loop in each turn",
        "dispatch_event",
        "use_edges(fd);",
        "(void)fd;",
        "ops-accept-epoll net-listener-epoll"),
]

NET = [
    mutant(
        "no-memory-is-room",
        "a poll for room that fails is asked for again, for ever",
        "gyre__dgram_on_room",
        "dgram_fail_first(dgram, result->res);",
        "(void)dgram;",
        "faults-regress-uring"),
    mutant(
        "dead-send-unasked",
        "a reset that a send under way has used up passes for the peer's end",
        "died_while_sending",
        "info.tcpi_state == TCP_CLOSE;",
        "info.tcpi_state == TCP_CLOSE_WAIT;",
        "sim-regress-uring"),
    mutant(
        "end-lost-behind-kept-data",
        "the peer's end is not told when data was kept before it while reading was paused",
        "hand_out_stash",
        "if (may_tell(stream) && (stream->flags & GYRE__STREAM_ENDED)) {",
        "if (may_tell(stream) && (stream->flags & GYRE__STREAM_ENDED) && stream->flow == NULL) {",
        "net-pause-epoll net-pause-uring"),
    mutant(
        "lease-kept-at-close",
        "data kept for a paused stream is not given back when the stream ends",
        "gyre__flow_drop",
        "gyre__flow_drop_stash(stream);",
        "",
        "net-pause-epoll net-close-epoll net-torture-epoll"),
    mutant(
        "closed-twice",
        "a listener whose last stream ends while its socket is being closed is told twice",
        "finish_listener",
        "if (listener->state != LISTENER_WAITING || listener->count > 0) {",
        "if (listener->state == LISTENER_LISTENING || listener->count > 0) {",
        "net-listener-epoll net-listener-uring net-torture-uring"),
    mutant(
        "parked-not-closed",
        "connections accepted above the maximum stay open when the listener closes",
        "gyre_listener_close",
        "close_parked(listener);",
        "",
        "net-listener-epoll net-listener-uring"),
    mutant(
        "failed-listen-leaks",
        "a socket that could not be bound or listen is left open",
        "open_listener",
        "if (number >= 0) {",
        "if (number >= 0 && rc == -EINVAL) {",
        "net-listener-epoll"),
    mutant(
        "sent-bytes-repeated",
        "of a chunk that left in part the beginning is sent again",
        "pop_sent",
        "chunk->data += len;",
        "",
        "net-send-epoll net-send-uring"),
    mutant(
        "close-drops-queue",
        "a graceful close ends the sending side before what is queued has left",
        "gyre_stream_close",
        "if (gyre__stream_sends(stream)) {",
        "if (gyre__stream_sends(stream) && stream->flow->sending != 0) {",
        "net-close-epoll net-close-uring"),
    mutant(
        "drain-not-told",
        "a full queue that falls past its low mark without hitting it is not told",
        "go_on_sending",
        "weight_of(flow) <= low_of(stream)",
        "weight_of(flow) == low_of(stream)",
        "net-send-epoll net-send-uring"),
    mutant(
        "coupled-stays-held",
        "a stream held back by its partner's full queue is not read on when that has drained",
        "note_drained",
        "if (stream->flow != NULL && stream->flow->coupled != NULL) {",
        "if (stream->flow != NULL && stream->flow->coupled == stream) {",
        "net-pause-epoll net-send-epoll"),
    mutant(
        "idle-not-refreshed",
        "data that comes does not move the idle deadline",
        "received",
        "gyre__stream_be_active(stream);",
        "",
        "net-timeout-epoll"),
    mutant(
        "timeout-early",
        "moments are rounded down: a stream's time is up a millisecond too early",
        "tick_end",
        "(tick - (uint32_t)now) + 1)",
        "(tick - (uint32_t)now))",
        "net-timeout-epoll"),
    mutant(
        "alarm-outlives-stream",
        "a stream's alarm stays set when the stream has ended",
        "gyre__stream_step",
        "if (gyre__alarm_active(&stream->recv.alarm)) {",
        "if (gyre__alarm_active(&stream->recv.alarm) && (stream->flags & GYRE__STREAM_RESET)) {",
        "net-timeout-epoll net-close-epoll"),
    mutant(
        "failure-looks-like-end",
        "a stream that fails ends as if all had been sent: the peer takes a part for the whole",
        "gyre__stream_fail",
        "stream->flags |= GYRE__STREAM_RESET;",
        "stream->flags |= GYRE__STREAM_SHUT;",
        "net-close-epoll net-timeout-epoll net-hostile-epoll"),
    mutant(
        "datagrams-skipped",
        "datagrams that the kernel did not take with the others are taken to be sent",
        "gyre__dgram_flush",
        "dgram_sent(dgram, scratch, rc);",
        "dgram_sent(dgram, scratch, (int)count);",
        "net-dgram_send-epoll"),
    mutant(
        "flood-for-ever",
        "a paused socket that was flooded is polled for one event again and again: the loop spins",
        "dgram_note_batch",
        "dgram->streak = 0;\n            dgram->flooded = 0;",
        "dgram->streak = 0;",
        "net-dgram-uring"),
    mutant(
        "poll-anew-for-ever",
        "io_uring: a paused datagram socket is polled for one event again and again: the loop spins",
        "dgram_note_batch",
        "dgram->streak = 0;",
        "",
        "net-dgram-uring"),
    mutant(
        "poll-that-stays",
        "io_uring: a poll that stays is called by the kernel for each datagram",
        "dgram_polls_once",
        "dgram->streak == STREAK_FROM",
        "0",
        "net-dgram-uring net-dgram-sim-uring"),
    mutant(
        "unasked-reset-hidden",
        "io_uring: where it cannot be asked whether there is a reset behind data, there is none",
        "ask_for_reset",
        "return rc < 0 || (rc == 1",
        "return (rc == 1",
        "faults-regress-uring"),
    mutant(
        "queued-error-unheard",
        "a queued error that cannot be read is told with the next one only",
        "dgram_report_queued_error",
        "if (rc < 0 && errno == EAGAIN) {",
        "if (rc < 0) {",
        "faults-regress-epoll faults-regress-uring"),
    mutant(
        "loan-overtaken",
        "epoll: what on_data() writes behind what it forwarded leaves before it",
        "check_write",
        "if (gyre__stream_has_loan(stream) && queue_loan(stream) < 0) {",
        "if (0) {",
        "net-send-epoll"),
    mutant(
        "error-queue-of-unix",
        "a Unix socket is asked for its error queue, and hands out datagrams that are then lost",
        "dgram_switch_on",
        "(GYRE__DGRAM_INFO_FLAGS | GYRE_DGRAM_ERROR_DETAIL);",
        "GYRE__DGRAM_INFO_FLAGS;",
        "net-dgram-epoll net-dgram-uring"),
    mutant(
        "answers-overtaken",
        "a datagram that has to be queued leaves before the answers given before it",
        "dgram_enqueue",
        "if (dgram->answering) {",
        "if (0) {",
        "net-dgram_answer-epoll net-dgram_answer-uring"),
    mutant(
        "flooded-counts-for-ever",
        "a flooded datagram socket that is closed is still counted: the loop never ends",
        "gyre__dgram_end",
        "gyre__dgram_rest(dgram);",
        "",
        "net-dgram-epoll net-dgram-uring"),
    mutant(
        "lone-while-paused",
        "io_uring: a paused datagram socket goes on asking for single datagrams, and keeps them all",
        "gyre__dgram_lone_may_start",
        " && !dgram->paused",
        "",
        "net-dgram_lone-uring"),
    mutant(
        "lone-for-ever",
        "io_uring: a socket that asks for single datagrams never looks how many there are",
        "lone_took",
        "++dgram->lone->taken >= dgram->lone->look_at",
        "0",
        "net-dgram_lone-uring"),
    mutant(
        "lone-uncounted",
        "io_uring: a single datagram that comes when the socket has been closed is not counted",
        "dgram_on_lone",
        "dgram->stats.lost += result->res >= 0;",
        "",
        "net-dgram_lone-uring"),
    mutant(
        "silent-sleeps",
        "io_uring: the loop sleeps although somebody waits to know what became of a silent send",
        "gyre__uring_must_tell",
        " || uring->silent.is_awaited(uring->silent_fd)",
        "",
        "net-silent-uring net-silent-sim-uring"),
    mutant(
        "silent-asked-in-vain",
        "io_uring: who runs the loop until a queue is empty sleeps, though what was silent has left",
        "gyre__uring_must_tell",
        "is_submitted(uring) || ",
        "",
        "net-silent-uring"),
    mutant(
        "silent-failure-missed",
        "io_uring: the completion of a silent send that failed is taken for nothing",
        "gyre__uring_learn_silent",
        "uring->silent_res = uring->batch[i].res;",
        "",
        "net-silent-uring"),
    mutant(
        "silent-behind-a-run",
        "io_uring: a loop that stops does not submit what leaves silently",
        "leave",
        "loop->backend->submit_silent != NULL",
        "loop->backend->submit_silent == NULL",
        "net-silent-uring"),
    mutant(
        "silent-unwatched",
        "what is written behind a silent send has no time in which it must leave",
        "on_sent_silently",
        "gyre__stream_watch_sending(stream);",
        "",
        "net-silent-uring"),
    mutant(
        "silent-for-borrowed",
        "memory that was borrowed is not released before the loop has something else to do",
        "is_send_awaited",
        " || flow->queue.first->kind == GYRE__CHUNK_REF",
        "",
        "net-silent-uring"),
    mutant(
        "silent-active-late",
        "a silent send counts as activity when it is known, and not when it was made",
        "on_sent_silently",
        "flow_left(flow, res);",
        "flow_sent(flow, res);",
        "net-silent-sim-uring"),
    mutant(
        "silent-closed-under",
        "a datagram socket is closed while an answer of it has not left",
        "gyre_dgram_close",
        "if (!dgram->silent) {",
        "if (1) {",
        "net-silent-uring net-silent-sim-uring"),
]

MUTANTS = CORE + URING + EPOLL + NET
