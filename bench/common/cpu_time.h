/*
 * CPU time of other processes, in nanoseconds.
 *
 * A process: the kernel's process CPU clock (clock_getcpuclockid(3)). It sums over all threads of
 * the process, those that have ended included, in one system call. The files in /proc do not:
 * /proc/PID/schedstat is the main thread only, the sum over /proc/PID/task/ loses a thread when it
 * ends, and utime in /proc/PID/stat counts ticks.
 *
 * All of these share one weakness: the time of a thread that is running on another CPU is brought
 * up to date at the timer tick or when the thread sleeps, so a reading can be a whole tick (4 ms at
 * HZ=250) old. Read it when the process is known to sleep; cpu_time_settled() does.
 */
#ifndef BENCH_CPU_TIME_H
#define BENCH_CPU_TIME_H

#include <stdint.h>
#include <sys/types.h>

/** cpu_time_process() - CPU time used so far by process @pid. Returns: 0 or -errno. */
int cpu_time_process(pid_t pid, uint64_t *out_ns);

/**
 * cpu_time_settled() - the same, once the process has gone to sleep. Reads until the clock has
 * stood still for 200 us, for at most 20 ms: a process that polls never sleeps, and then the last
 * reading is good to a tick.
 * Returns: 0 or -errno.
 */
int cpu_time_settled(pid_t pid, uint64_t *out_ns);

/**
 * cpu_time_ksoftirqd() - CPU time of the kernel thread ksoftirqd/@cpu.
 * Returns: 0; -ENOENT when the thread cannot be seen (in a PID namespace, for instance).
 */
int cpu_time_ksoftirqd(unsigned cpu, uint64_t *out_ns);

/**
 * cpu_time_delay() - how long the main thread of @pid was ready to run and had no CPU.
 * Returns: 0; -ENOENT when the kernel does not say.
 */
int cpu_time_delay(pid_t pid, uint64_t *out_ns);

#endif
