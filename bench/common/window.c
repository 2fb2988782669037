/*
 * The measured window; see window.h.
 */
#include "window.h"

#include "clock.h"
#include "cpu_time.h"

#include <time.h>
#include <unistd.h>

static void note_own(struct window *window)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    window->own_cpu_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
    window->own_delay_ns = 0;
    cpu_time_delay(getpid(), &window->own_delay_ns);
    window->wall_ns = clock_now_ns();
}

static int note_server(struct window *window)
{
    if (window->server_pid > 0) {
        const int rc = cpu_time_settled(window->server_pid, &window->server_cpu_ns);

        if (rc < 0) {
            return rc;
        }
        cpu_time_delay(window->server_pid, &window->server_delay_ns);
    }
    if (window->server_cpu >= 0) {
        window->has_ksoftirqd =
            cpu_time_ksoftirqd((unsigned)window->server_cpu, &window->ksoftirqd_ns) == 0;
    }
    return 0;
}

int window_open(struct window *window)
{
    *window = (struct window){
        .server_pid = window->server_pid,
        .server_cpu = window->server_cpu,
    };
    const int rc = note_server(window);

    note_own(window);
    return rc;
}

int window_close(struct window *window)
{
    const struct window before = *window;

    note_own(window);
    const int rc = note_server(window);

    window->wall_ns -= before.wall_ns;
    window->own_cpu_ns -= before.own_cpu_ns;
    window->own_delay_ns -= before.own_delay_ns;
    window->server_cpu_ns -= before.server_cpu_ns;
    window->server_delay_ns -= before.server_delay_ns;
    window->ksoftirqd_ns -= before.ksoftirqd_ns;
    return rc;
}

void window_add(struct window *sum, const struct window *more)
{
    sum->wall_ns += more->wall_ns;
    sum->own_cpu_ns += more->own_cpu_ns;
    sum->own_delay_ns += more->own_delay_ns;
    sum->server_cpu_ns += more->server_cpu_ns;
    sum->server_delay_ns += more->server_delay_ns;
    sum->ksoftirqd_ns += more->ksoftirqd_ns;
    sum->has_ksoftirqd = more->has_ksoftirqd;
}

uint64_t window_server_ns(const struct window *window)
{
    return window->server_cpu_ns + window->ksoftirqd_ns;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0.0 : (double)part / (double)whole;
}

json_t *window_server_json(const struct window *window, uint64_t count)
{
    if (window->server_pid == 0) {
        return json_null();
    }
    json_t *ksoftirqd =
        window->has_ksoftirqd ? json_integer((json_int_t)window->ksoftirqd_ns) : json_null();
    const uint64_t total = window_server_ns(window);

    return json_pack("{sI sI so sf sf}", "cpu_ns", (json_int_t)window->server_cpu_ns, "delay_ns",
                     (json_int_t)window->server_delay_ns, "ksoftirqd_ns", ksoftirqd, "busy",
                     share(total, window->wall_ns), "cpu_ns_per_message", share(total, count));
}

json_t *window_load_json(const struct window *window, uint64_t count, uint64_t idle_ns)
{
    const uint64_t idle = idle_ns < window->own_cpu_ns ? idle_ns : window->own_cpu_ns;
    const uint64_t busy = window->own_cpu_ns - idle;

    return json_pack("{sI sI sI sf sf}", "cpu_ns", (json_int_t)window->own_cpu_ns, "delay_ns",
                     (json_int_t)window->own_delay_ns, "idle_spin_ns", (json_int_t)idle, "busy",
                     share(busy, window->wall_ns), "cpu_ns_per_message", share(busy, count));
}
