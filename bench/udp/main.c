/*
 * gyre-udp-load: a closed loop of datagrams to a UDP echo server.
 *
 * Each flow is a socket of its own with DEPTH datagrams under way. A datagram begins with its number
 * and goes on with the pattern from a place that follows from the number, so that a wrong byte, a
 * datagram of another flow and one that came twice are seen. Datagrams may be lost: when nothing has
 * come back on a flow for a while, what was under way is counted as lost and sent anew, with new
 * numbers. More than one in a hundred lost is a failure: the CPU time was spent on something else.
 *
 * One recvmmsg(2) and one sendmmsg(2) for a flow that has news.
 */
#include "clock.h"
#include "histogram.h"
#include "source.h"

#include "../load/pattern.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256
#define BATCH           64u
#define LOSS_NS         (100 * NS_PER_MS)
#define NUMBER_SIZE     sizeof(uint64_t)

struct flow {
    uint64_t first;       /* number of the oldest datagram under way */
    uint64_t next;        /* number of the next to send */
    uint64_t given_up;    /* numbers below it were, some of them */
    uint64_t progress_ns; /* when anything came back last */
    uint32_t under_way;
    int fd;
};

struct udp_load {
    struct source_options options;
    const uint8_t *pattern;
    struct flow *flows;
    uint64_t *sent_ns; /* by flow and number modulo its window */
    uint8_t *came;     /* the same: whether the datagram has come back */
    int epoll_fd;
    uint64_t under_way;
    uint64_t messages;
    uint64_t lost;
    uint64_t idle_ns;
    bool resend;
    struct histogram service;
};

static struct udp_load load;
static uint8_t buffers[BATCH][65536];

static uint32_t flow_index(const struct flow *flow)
{
    return (uint32_t)(flow - load.flows);
}

/* Twice the depth: numbers under way are never farther apart. */
static size_t place(const struct flow *flow, uint64_t number)
{
    const uint32_t width = load.options.depth * 2;

    return (size_t)flow_index(flow) * width + number % width;
}

/* Behind the number, which is the flow's and the datagram's in one. */
static const uint8_t *content(uint64_t number)
{
    return load.pattern + number * 31u % PATTERN_PERIOD;
}

static uint64_t tagged(const struct flow *flow, uint64_t number)
{
    return number << 16 | flow_index(flow);
}

static void send_batch(struct flow *flow, uint32_t count)
{
    static uint64_t tags[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec parts[BATCH][2];
    const uint64_t now = clock_now_ns();

    for (uint32_t i = 0; i < count; i++) {
        const uint64_t number = flow->next + i;

        tags[i] = tagged(flow, number);
        parts[i][0] = (struct iovec){.iov_base = &tags[i], .iov_len = NUMBER_SIZE};
        parts[i][1] = (struct iovec){
            .iov_base = (void *)(uintptr_t)content(tags[i]),
            .iov_len = load.options.size - NUMBER_SIZE,
        };
        messages[i].msg_hdr = (struct msghdr){.msg_iov = parts[i], .msg_iovlen = 2};
        load.sent_ns[place(flow, number)] = now;
        load.came[place(flow, number)] = 0;
    }
    const int sent = sendmmsg(flow->fd, messages, count, 0);

    if (sent < 0 && errno != EAGAIN && errno != ENOBUFS) {
        source_fail(errno == ECONNREFUSED ? SOURCE_REFUSED : SOURCE_SYSTEM, "send: %s",
                    strerror(errno));
    }
    /* What was not taken counts as under way all the same, and is found missing later. */
    flow->next += count;
    flow->under_way += count;
    load.under_way += count;
}

static void send_up_to_depth(struct flow *flow)
{
    while (load.resend && flow->under_way < load.options.depth) {
        const uint32_t room = load.options.depth - flow->under_way;

        send_batch(flow, room < BATCH ? room : BATCH);
    }
}

static void take(struct flow *flow, const uint8_t *data, uint32_t len)
{
    uint64_t tag = 0;

    memcpy(&tag, data, len < NUMBER_SIZE ? len : NUMBER_SIZE);
    const uint64_t number = tag >> 16;

    if (len != load.options.size || (tag & 0xffff) != flow_index(flow) || number >= flow->next ||
        memcmp(data + NUMBER_SIZE, content(tag), len - NUMBER_SIZE) != 0) {
        source_fail(SOURCE_WRONG_BYTES, "flow %u: %u bytes came back that were never sent",
                    flow_index(flow), len);
    }
    if (number < flow->given_up) {
        return; /* too late */
    }
    if (number < flow->first || load.came[place(flow, number)] != 0) {
        source_fail(SOURCE_WRONG_BYTES, "flow %u: datagram %llu came back twice", flow_index(flow),
                    (unsigned long long)number);
    }
    load.came[place(flow, number)] = 1;
    histogram_add(&load.service, clock_now_ns() - load.sent_ns[place(flow, number)]);
    load.messages++;
    load.under_way--;
    flow->under_way--;
    while (flow->first < flow->next && load.came[place(flow, flow->first)] != 0) {
        flow->first++;
    }
}

static void receive(struct flow *flow)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec parts[BATCH];

    for (uint32_t i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){.iov_base = buffers[i], .iov_len = sizeof(buffers[i])};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    const int count = recvmmsg(flow->fd, messages, BATCH, MSG_DONTWAIT, NULL);

    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        source_fail(errno == ECONNREFUSED ? SOURCE_REFUSED : SOURCE_SYSTEM, "receive: %s",
                    strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        take(flow, buffers[i], messages[i].msg_len);
    }
    flow->progress_ns = clock_now_ns();
    send_up_to_depth(flow);
}

/* Numbers that are given up lie behind `first`; the window must not run away from a late one. */
static void give_up(struct flow *flow, uint64_t now)
{
    if (flow->under_way == 0 || now - flow->progress_ns < LOSS_NS) {
        return;
    }
    load.lost += flow->under_way;
    load.under_way -= flow->under_way;
    flow->under_way = 0;
    flow->first = flow->next;
    flow->given_up = flow->next;
    flow->progress_ns = now;
    send_up_to_depth(flow);
}

static bool turn(void)
{
    struct epoll_event events[EVENTS_PER_TURN];
    const int wait_ms = load.options.spin ? 0 : 20;
    const int count = epoll_wait(load.epoll_fd, events, EVENTS_PER_TURN, wait_ms);

    for (int i = 0; i < count; i++) {
        receive(&load.flows[events[i].data.u32]);
    }
    return count > 0;
}

static void phase(uint64_t duration_ns)
{
    const uint64_t start = clock_now_ns();
    uint64_t now = start;
    uint64_t checked = start;
    uint64_t progress = start;

    load.resend = true;
    for (uint32_t i = 0; i < load.options.connections; i++) {
        load.flows[i].progress_ns = start;
        send_up_to_depth(&load.flows[i]);
    }
    while (load.under_way > 0) {
        const bool active = turn();
        const uint64_t then = now;

        now = clock_now_ns();
        progress = active ? now : progress;
        load.idle_ns += !active && load.options.spin ? now - then : 0;
        load.resend = now - start < duration_ns;
        for (uint32_t i = 0; now - checked > LOSS_NS && i < load.options.connections; i++) {
            give_up(&load.flows[i], now);
        }
        checked = now - checked > LOSS_NS ? now : checked;
        if (now - progress > load.options.timeout_ms * NS_PER_MS) {
            source_fail(SOURCE_STALLED, "nothing came back for %u ms", load.options.timeout_ms);
        }
    }
}

static void flow_open(uint32_t index)
{
    const struct sockaddr_in server = {
        .sin_family = AF_INET,
        .sin_port = htons(load.options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)&server, sizeof(server)) < 0 ||
        epoll_ctl(load.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        source_fail(SOURCE_SYSTEM, "flow %u: %s", index, strerror(errno));
    }
    load.flows[index].fd = fd;
}

static void start(void)
{
    const struct source_options *o = &load.options;

    load.pattern = pattern_create();
    load.flows = calloc(o->connections, sizeof(*load.flows));
    load.sent_ns = calloc((size_t)o->connections * o->depth * 2, sizeof(*load.sent_ns));
    load.came = calloc((size_t)o->connections * o->depth * 2, sizeof(*load.came));
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load.pattern == NULL || load.flows == NULL || load.sent_ns == NULL || load.came == NULL ||
        load.epoll_fd < 0) {
        source_fail(SOURCE_SYSTEM, "start: %s", strerror(errno));
    }
    if (o->size < NUMBER_SIZE) {
        source_fail(SOURCE_USAGE, "a datagram carries its number: at least %zu bytes", NUMBER_SIZE);
    }
    for (uint32_t i = 0; i < o->connections; i++) {
        flow_open(i);
    }
}

static void print_result(const struct window *window)
{
    const struct histogram *h = &load.service;

    if (load.lost * 100 > load.messages) {
        source_fail(SOURCE_LOST, "%llu datagrams were lost, %llu came back",
                    (unsigned long long)load.lost, (unsigned long long)load.messages);
    }
    source_print(
        json_pack("{sb sI sI sI sI sI sI sf s{sI sI sI} so so}", "ok", 1, "flows",
                  (json_int_t)load.options.connections, "size", (json_int_t)load.options.size,
                  "depth", (json_int_t)load.options.depth, "window_ns", (json_int_t)window->wall_ns,
                  "messages", (json_int_t)load.messages, "lost", (json_int_t)load.lost,
                  "messages_per_second", (double)load.messages * 1e9 / (double)window->wall_ns,
                  "service_ns", "p50", (json_int_t)histogram_percentile(h, 50.0), "p99",
                  (json_int_t)histogram_percentile(h, 99.0), "max", (json_int_t)h->max, "generator",
                  window_load_json(window, load.messages, load.idle_ns), "server",
                  window_server_json(window, load.messages)));
}

int main(int argc, char **argv)
{
    struct window window;

    source_parse(argc, argv, "Keeps DEPTH datagrams under way on each flow to a UDP echo server.",
                 &load.options);
    start();
    phase(load.options.warmup_ms * NS_PER_MS);
    load.messages = 0;
    load.lost = 0;
    load.idle_ns = 0;
    histogram_reset(&load.service);
    source_measure(&load.options, &load.messages, phase, &window);
    print_result(&window);
    return SOURCE_OK;
}
