/* Many: ten thousand connections at once, a hundred thousand one after another. The clients live in
 * a process of their own, so that both ends fit below the limit of descriptors. */
#include "echo.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNECTIONS 10000
#define CYCLES      100000
#define WARM_UP     10000
#define BATCH       50
#define MESSAGE     32
#define ROUNDS      3

/* Memory may wander by this much, for what libc and the kernel keep; a leak of 64 bytes per
 * connection would be 5.7 MB. */
#define RSS_SLACK ((size_t)2 << 20)

/* The process of the clients, and the two pipes that keep it and the server in step. */
struct clients {
    pid_t pid;
    int said;   /* the parent reads */
    int answer; /* the parent writes */
};

/* In the clients' process. */
struct stage {
    struct sockaddr_in address;
    int say;
    int hear;
};

static void tell_and_wait(const struct stage *stage)
{
    char byte = 'x';

    assert_int_equal(write(stage->say, &byte, 1), 1);
    assert_int_equal(read(stage->hear, &byte, 1), 1);
}

static struct clients clients_start(int listener, const struct sockaddr_in *address,
                                    void (*body)(const struct stage *stage))
{
    int said[2];
    int answer[2];

    wire_pipe(said);
    wire_pipe(answer);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct stage stage = {.address = *address, .say = said[1], .hear = answer[0]};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(listener);
        close(said[0]);
        close(answer[1]);
        body(&stage);
        _exit(0);
    }
    close(said[1]);
    close(answer[0]);
    return (struct clients){.pid = pid, .said = said[0], .answer = answer[1]};
}

static void clients_end(struct clients *clients)
{
    int status = -1;

    close(clients->answer);
    assert_int_equal(waitpid(clients->pid, &status, 0), clients->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Serves until the clients say that they got so far. */
static void serve_until_told(struct echo_server *server, struct gyre_fd *said)
{
    struct trial reading;
    char byte;

    trial_init(&reading, NULL, NULL);
    assert_int_equal(gyre_op_read(&reading.op, said, &byte, 1, GYRE_OFFSET_CURRENT), 0);
    assert_int_equal(trial_end(server->loop, &reading), 1);
}

static void send_to_all(const int *numbers, uint64_t count, int round)
{
    for (uint64_t i = 0; i < count; i++) {
        wire_send_stream(numbers[i], MESSAGE, WIRE_STREAM(i) + (uint64_t)round * MESSAGE);
    }
}

static void ten_thousand_clients(const struct stage *stage)
{
    const uint64_t count = (uint64_t)test_steps(CONNECTIONS, 1);
    static int numbers[CONNECTIONS];

    for (uint64_t i = 0; i < count; i++) {
        numbers[i] = test_connect(&stage->address);
    }
    for (int round = 0; round < ROUNDS; round++) {
        send_to_all(numbers, count, round);
        for (uint64_t i = 0; i < count; i++) {
            wire_expect_stream(numbers[i], MESSAGE, WIRE_STREAM(i) + (uint64_t)round * MESSAGE);
        }
    }
    tell_and_wait(stage);
    for (uint64_t i = 0; i < count; i++) {
        wire_reset(numbers[i]);
    }
}

/* Done when, point 4 */
static void scale_ten_thousand_connections_echo_correctly(void)
{
    struct sockaddr_in address;
    struct echo_server server;
    struct gyre_fd said;
    const int count = test_steps(CONNECTIONS, 1);

    wire_raise_descriptors((size_t)count + 100);
    const int listener = wire_listener(SOMAXCONN, &address);
    struct clients clients = clients_start(listener, &address, ten_thousand_clients);
    struct gyre_loop *loop = test_loop();
    echo_start(&server, loop, listener);
    trial_attach(loop, &said, clients.said);
    serve_until_told(&server, &said);
    assert_int_equal(server.opened, count);
    assert_int_equal(server.open, count);
    assert_int_equal(server.bytes, (uint64_t)count * ROUNDS * MESSAGE);
    test_pool_conserved(loop);
    assert_int_equal(write(clients.answer, "x", 1), 1);
    test_turns_until_count(loop, &server.closed, count);
    clients_end(&clients);
    trial_close(loop, &said);
    echo_end(&server);
    test_loop_end(loop);
}

/* One batch: every other client has a message echoed; most leave with a reset, some with a FIN. */
static void batch_of_clients(const struct stage *stage, uint64_t batch)
{
    int numbers[BATCH];

    for (uint64_t i = 0; i < BATCH; i++) {
        numbers[i] = test_connect(&stage->address);
        if (i % 2 == 0) {
            wire_send_stream(numbers[i], MESSAGE, WIRE_STREAM(batch) + i * MESSAGE);
        }
    }
    for (uint64_t i = 0; i < BATCH; i++) {
        if (i % 2 == 0) {
            wire_expect_stream(numbers[i], MESSAGE, WIRE_STREAM(batch) + i * MESSAGE);
        }
        if (i % 25 == 0) {
            assert_int_equal(close(numbers[i]), 0);
        } else {
            wire_reset(numbers[i]);
        }
    }
}

static void hundred_thousand_clients(const struct stage *stage)
{
    const uint64_t batches = (uint64_t)test_steps(CYCLES, BATCH) / BATCH;
    const uint64_t first = (uint64_t)test_steps(WARM_UP, BATCH) / BATCH;

    for (uint64_t batch = 0; batch < batches; batch++) {
        batch_of_clients(stage, batch);
        if (batch + 1 == first) {
            tell_and_wait(stage);
        }
    }
    tell_and_wait(stage);
}

struct footprint {
    size_t fds;
    size_t live;
    size_t resident;
    struct gyre_pool_stats pool;
};

/* Lets the clients come so far, and takes stock when the last connection is gone. */
static struct footprint stock_after(struct echo_server *server, struct gyre_fd *said, int answer,
                                    int connections)
{
    struct footprint stock;

    serve_until_told(server, said);
    test_turns_until_count(server->loop, &server->closed, connections);
    assert_int_equal(server->opened, connections);
    stock.fds = test_open_fds();
    stock.live = gyre_allocator_live();
    stock.resident = test_resident();
    stock.pool = trial_pool(server->loop);
    assert_int_equal(stock.pool.lent, 0);
    assert_int_equal(stock.pool.leases, 0);
    assert_int_equal(write(answer, "x", 1), 1);
    return stock;
}

/* Done when, point 4; H05 */
static void scale_a_hundred_thousand_connections_leave_everything_flat(void)
{
    struct sockaddr_in address;
    struct echo_server server;
    struct gyre_fd said;
    const int listener = wire_listener(SOMAXCONN, &address);

    struct clients clients = clients_start(listener, &address, hundred_thousand_clients);
    struct gyre_loop *loop = test_loop();
    echo_start(&server, loop, listener);
    trial_attach(loop, &said, clients.said);
    const struct footprint warm =
        stock_after(&server, &said, clients.answer, test_steps(WARM_UP, BATCH));
    const struct footprint end =
        stock_after(&server, &said, clients.answer, test_steps(CYCLES, BATCH));
    print_message("resident %zu -> %zu\n", warm.resident, end.resident);
    assert_int_equal(end.fds, warm.fds);
    assert_int_equal(end.live, warm.live);
    assert_true(end.resident <= warm.resident + RSS_SLACK);
    assert_int_equal(end.pool.total, warm.pool.total);
    clients_end(&clients);
    trial_close(loop, &said);
    echo_end(&server);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"scale_ten_thousand_connections_echo_correctly",
         scale_ten_thousand_connections_echo_correctly, 60},
        {"scale_a_hundred_thousand_connections_leave_everything_flat",
         scale_a_hundred_thousand_connections_leave_everything_flat, 100},
    };

    return test_main("ops-scale", cases, TEST_COUNT(cases));
}
