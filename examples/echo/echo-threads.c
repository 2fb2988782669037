/*
 * echo-threads - a thread per connection.
 *
 * The idea: the blocking program, once per client. The main thread accepts; every connection gets
 * a thread that receives and sends with blocking calls. The scheduler does what an event loop does
 * by hand, the code stays as plain as the blocking one, and all processors are used.
 *
 * What it costs: a stack and a kernel thread per client, and for each message a sleep, a wake-up
 * and a context switch, which take longer than the echo itself. Shared data needs locks. The
 * number of threads must have a limit; here further clients wait in the backlog when it is
 * reached.
 *
 * When it is right: up to some hundreds of connections, above all when the work per message is
 * long or uses libraries that block.
 */
#include "common.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* A thread costs some 20 KiB of memory in use; this many cost less than 100 MiB. */
    THREAD_LIMIT = 4096,
    BUFFER_SIZE = 64 * 1024,
    /* Only pages that are touched take memory: the buffer's size matters, not this. */
    STACK_SIZE = BUFFER_SIZE + 128 * 1024,
};

struct connection {
    LIST_ENTRY(connection) link;
    int fd;
};

/* All that the threads share. The list is for the end, when every connection must be shut down. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_gone = PTHREAD_COND_INITIALIZER;
static LIST_HEAD(, connection) connections = LIST_HEAD_INITIALIZER(connections);
static unsigned connection_count;

/* A blocking send may still be short when a signal interrupts it. */
static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        const ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return false;
        }
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

static void echo_until_end(int fd)
{
    char buffer[BUFFER_SIZE];
    for (;;) {
        const ssize_t received = recv(fd, buffer, sizeof(buffer), 0);
        if (received < 0 && errno == EINTR) {
            continue;
        }
        if (received <= 0 || !send_all(fd, buffer, (size_t)received)) {
            return;
        }
    }
}

/* Closes under the lock, so that shut_down_all() never meets a number that is used anew. */
static void forget(struct connection *connection)
{
    pthread_mutex_lock(&lock);
    LIST_REMOVE(connection, link);
    close(connection->fd);
    connection_count--;
    if (connection_count == 0) {
        pthread_cond_signal(&all_gone);
    }
    pthread_mutex_unlock(&lock);
    free(connection);
}

static void *thread_main(void *argument)
{
    struct connection *connection = argument;
    echo_until_end(connection->fd);
    forget(connection);
    return NULL;
}

static bool start_thread(struct connection *connection)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_t thread;
    const int error = pthread_create(&thread, &attributes, thread_main, connection);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        warnx("thread: %s", strerror(error));
    }
    return error == 0;
}

/* Registers the connection before its thread runs, because the thread's last act is forget(). */
static void welcome(int fd)
{
    struct connection *connection = malloc(sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->fd = fd;
    pthread_mutex_lock(&lock);
    LIST_INSERT_HEAD(&connections, connection, link);
    connection_count++;
    pthread_mutex_unlock(&lock);
    if (!start_thread(connection)) {
        forget(connection);
    }
}

/* The threads wait in recv() or send(); shutting their sockets down makes both return. */
static void shut_down_all(void)
{
    pthread_mutex_lock(&lock);
    struct connection *connection;
    LIST_FOREACH(connection, &connections, link)
    {
        shutdown(connection->fd, SHUT_RDWR);
    }
    while (connection_count > 0) {
        pthread_cond_wait(&all_gone, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static bool has_room(void)
{
    pthread_mutex_lock(&lock);
    const bool room = connection_count < THREAD_LIMIT;
    pthread_mutex_unlock(&lock);
    return room;
}

/*
 * poll() watches the signals as well as the listener. Without room, or after a shortage, it
 * watches the signals alone for a while and then looks again.
 */
static void serve(int listener, int signals)
{
    struct pollfd watched[] = {{.fd = signals, .events = POLLIN},
                               {.fd = listener, .events = POLLIN}};
    bool shortage = false;
    for (;;) {
        const bool paused = shortage || !has_room();
        const int ready = poll(watched, paused ? 1 : 2, paused ? ECHO_ACCEPT_PAUSE_MS : -1);
        shortage = false;
        if (ready > 0 && watched[0].revents != 0) {
            return;
        }
        if (ready <= 0 || paused) {
            continue;
        }
        const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(fd);
        } else {
            shortage = echo_is_shortage(errno);
        }
    }
}

int main(int argc, char **argv)
{
    struct echo_options options;
    echo_parse_options(argc, argv, "Echo server with a thread per connection.", &options);
    echo_raise_fd_limit();
    const int signals = echo_signal_fd();
    /* Not blocking: a client may be gone again between poll() and accept4(). */
    const int listener = echo_listen(&options, SOCK_NONBLOCK);
    echo_announce(listener, NULL);
    serve(listener, signals);
    close(listener);
    shut_down_all();
    close(signals);
    return EXIT_SUCCESS;
}
