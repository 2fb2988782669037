/*
 * Included before everything else in a test program that runs on the simulated kernel: the system
 * calls that its cases make by their bare names become calls of that kernel. What it does not have
 * ends the case as skipped, with a reason; so the reasons are in redirect.c, in one place.
 *
 * The names are macros with parameters, so that members of structures and variables may still be
 * called so.
 */
#ifndef GYRE_TESTS_SIM_REDIRECT_H
#define GYRE_TESTS_SIM_REDIRECT_H

/* All headers that declare one of the names, or a macro would tear the declaration. */
#include "base/sys.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <gyre.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Past what torture puts between the library and the kernel: the cases' own calls do not fail. Outside
 * of programs, where the harness waits for its children, to the operating system. */
extern const struct gyre__kernel gyre__sim_kernel;
struct sim_thread *gyre__sim_self(void);

static inline const struct gyre__kernel *sim_kernel_here(void)
{
    return gyre__sim_self() != NULL ? &gyre__sim_kernel : gyre__kernel;
}

#define X(result, name, parameters, arguments)      \
    static inline result sim_call_##name parameters \
    {                                               \
        return sim_kernel_here()->name arguments;   \
    }
GYRE__SYS_MAP(X)
#undef X

#define accept4(...)            sim_call_accept4(__VA_ARGS__)
#define bind(...)               sim_call_bind(__VA_ARGS__)
#define chmod(...)              sim_call_chmod(__VA_ARGS__)
#define clock_gettime(...)      sim_call_clock_gettime(__VA_ARGS__)
#define close(...)              sim_call_close(__VA_ARGS__)
#define connect(...)            sim_call_connect(__VA_ARGS__)
#define epoll_create1(...)      sim_call_epoll_create1(__VA_ARGS__)
#define epoll_ctl(...)          sim_call_epoll_ctl(__VA_ARGS__)
#define epoll_wait(...)         sim_call_epoll_wait(__VA_ARGS__)
#define eventfd(...)            sim_call_eventfd(__VA_ARGS__)
#define fstat(...)              sim_call_fstat(__VA_ARGS__)
#define getpeername(...)        sim_call_getpeername(__VA_ARGS__)
#define getrlimit(...)          sim_call_getrlimit(__VA_ARGS__)
#define getsockname(...)        sim_call_getsockname(__VA_ARGS__)
#define getsockopt(...)         sim_call_getsockopt(__VA_ARGS__)
#define ioctl(...)              sim_call_ioctl(__VA_ARGS__)
#define listen(...)             sim_call_listen(__VA_ARGS__)
#define lstat(...)              sim_call_lstat(__VA_ARGS__)
#define poll(...)               sim_call_poll(__VA_ARGS__)
#define prctl(...)              sim_call_prctl(__VA_ARGS__)
#define pthread_create(...)     sim_call_pthread_create(__VA_ARGS__)
#define pthread_join(...)       sim_call_pthread_join(__VA_ARGS__)
#define pthread_mutex_lock(m)   sim_call_pthread_mutex_lock(m)
#define pthread_mutex_unlock(m) sim_call_pthread_mutex_unlock(m)
#define pthread_sigmask(...)    sim_call_pthread_sigmask(__VA_ARGS__)
#define read(...)               sim_call_read(__VA_ARGS__)
#define recv(...)               sim_call_recv(__VA_ARGS__)
#define recvmsg(...)            sim_call_recvmsg(__VA_ARGS__)
#define send(...)               sim_call_send(__VA_ARGS__)
#define sendmsg(...)            sim_call_sendmsg(__VA_ARGS__)
#define setsockopt(...)         sim_call_setsockopt(__VA_ARGS__)
#define shutdown(...)           sim_call_shutdown(__VA_ARGS__)
#define signalfd(...)           sim_call_signalfd(__VA_ARGS__)
#define socket(...)             sim_call_socket(__VA_ARGS__)
#define socketpair(...)         sim_call_socketpair(__VA_ARGS__)
#define stat(...)               sim_call_stat(__VA_ARGS__)
#define unlink(...)             sim_call_unlink(__VA_ARGS__)
#define write(...)              sim_call_write(__VA_ARGS__)

/* What the library does not ask for, and so the simulated kernel has no call for: made of what it
 * has, see redirect.c. */
int redirect_fcntl(int number, int what, ...);
int redirect_eventfd_write(int number, eventfd_t value);
int redirect_kill(pid_t pid, int signal);
int redirect_open(const char *path, int flags, ...);
int redirect_pipe2(int ends[2], int flags);
int redirect_sem_wait(sem_t *semaphore);
int redirect_setrlimit(int resource, const struct rlimit *limit);
int redirect_sigpending(sigset_t *out_set);
pid_t redirect_getpid(void);
pthread_t redirect_pthread_self(void);
ssize_t redirect_recvfrom(int number, void *data, size_t len, int flags, struct sockaddr *from,
                          socklen_t *from_len);
ssize_t redirect_sendto(int number, const void *data, size_t len, int flags,
                        const struct sockaddr *to, socklen_t to_len);
int redirect_yield(void);

#define eventfd_read(number, value) \
    (sim_call_read(number, value, sizeof(eventfd_t)) == sizeof(eventfd_t) ? 0 : -1)
#define eventfd_write(number, value) redirect_eventfd_write(number, value)
#define fcntl(...)                   redirect_fcntl(__VA_ARGS__)
#define getpid()                     redirect_getpid()
#define if_nametoindex(n)            ((unsigned)(strcmp(n, "lo") == 0))
#define kill(pid, signal)            redirect_kill(pid, signal)
#define open(...)                    redirect_open(__VA_ARGS__)
#define pipe2(...)                   redirect_pipe2(__VA_ARGS__)
#define pthread_self()               redirect_pthread_self()
#define raise(signal)                redirect_kill(redirect_getpid(), signal)
#define recvfrom(...)                redirect_recvfrom(__VA_ARGS__)
#define rmdir(path)                  ((void)(path), 0)
#define sched_yield()                redirect_yield()
#define sem_wait(s)                  redirect_sem_wait(s)
#define sigpending(set)              redirect_sigpending(set)
#define sendto(...)                  redirect_sendto(__VA_ARGS__)
#define setrlimit(...)               redirect_setrlimit(__VA_ARGS__)

/* What has no meaning there. */
int redirect_skip(const char *why);

#define getgid()                  ((gid_t)1000)
#define getuid()                  ((uid_t)1000)
#define fork()                    redirect_skip("the simulation has no fork")
#define memfd_create(...)         redirect_skip("the simulation has no files")
#define pthread_barrier_init(...) redirect_skip("the simulation has no barriers for threads")
#define pthread_kill(...)         redirect_skip("the simulation has no signals of one thread")
#define setenv(...)               redirect_skip("the simulation has no environment")
#define setitimer(w, now, before) \
    ((void)(now), redirect_skip("the simulation has no signal handlers"))
#define sigqueue(...)  redirect_skip("the simulation has no values of signals")
#define setresuid(...) redirect_skip("the simulation has no users")
#define unshare(...)   redirect_skip("the simulation has no namespaces")

#endif
