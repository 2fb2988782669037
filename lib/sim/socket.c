/*
 * What all sockets have in common: making one, the options of SOL_SOCKET, options that are kept and
 * do nothing here, and bytes in pieces. Options are read and written through one table of integers,
 * so that what was set is what is got.
 */
#include "base/assert.h"
#include "sim/sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

enum {
    BUFFER_DEFAULT = 212992, /* net.core.wmem_default and rmem_default; TCP has others */
    SEND_LEAST = 4608,       /* net/core/sock.c, SOCK_MIN_SNDBUF */
    RECEIVE_LEAST = 2304,
    OPTION_LAST = 128,
    BUFFER_MOST = 425984, /* net.core.wmem_max, doubled */
};

/* ---- making ---- */

void *gyre__sim_socket_new(struct gyre_sim_host *host, const struct sim_file_ops *file_ops,
                           const struct sim_socket_ops *ops, size_t len)
{
    struct sim_socket *socket = gyre__sim_file_new(host, file_ops, len);
    const struct gyre_sim_process *process = gyre__sim_process();

    gyre_assert(file_ops->read == gyre__sim_socket_read);
    socket->ops = ops;
    socket->send_buffer = BUFFER_DEFAULT;
    socket->receive_buffer = BUFFER_DEFAULT;
    socket->owner.pid = process != NULL ? (pid_t)process->pid : 0;
    socket->owner.uid = 1000;
    socket->owner.gid = 1000;
    return socket;
}

static int make_internet(struct gyre_sim_host *host, int family, int type, int protocol,
                         struct sim_socket **out_socket)
{
    if (type == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) {
        return gyre__sim_tcp_make(host, family, out_socket);
    }
    if (type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP)) {
        return gyre__sim_udp_make(host, family, out_socket);
    }
    return type == SOCK_RAW ? -EPERM : -EPROTONOSUPPORT;
}

int gyre__sim_socket_make(struct gyre_sim_host *host, int family, int type, int protocol,
                          struct sim_socket **out_socket)
{
    int rc = -EAFNOSUPPORT;

    if (family == AF_INET || family == AF_INET6) {
        rc = make_internet(host, family, type, protocol, out_socket);
        protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    } else if (family == AF_UNIX) {
        rc = protocol == 0 ? gyre__sim_unix_make(host, type, out_socket) : -EPROTONOSUPPORT;
    }
    if (rc == 0) {
        (*out_socket)->family = family;
        (*out_socket)->type = type;
        (*out_socket)->protocol = protocol;
    }
    return rc;
}

struct sim_socket *gyre__sim_socket_of(struct sim_file *file)
{
    return file->ops->read == gyre__sim_socket_read
               ? gyre_container_of(file, struct sim_socket, file)
               : NULL;
}

int gyre__sim_socket_error(struct sim_socket *socket)
{
    const int error = -socket->error;

    socket->error = 0;
    return error;
}

ssize_t gyre__sim_socket_read(struct sim_file *file, const struct iovec *pieces, int count,
                              int flags)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)count};

    return gyre__sim_do_recv(file, &msg, flags);
}

ssize_t gyre__sim_socket_write(struct sim_file *file, const struct iovec *pieces, int count,
                               int flags)
{
    const struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)pieces,
                               .msg_iovlen = (size_t)count};

    return gyre__sim_do_send(file, &msg, flags);
}

/* ---- options ---- */

int gyre__sim_socket_option(const struct sim_socket *socket, int level, int name, int otherwise)
{
    for (uint32_t i = 0; i < socket->option_count; i++) {
        if (socket->option[i].level == level && socket->option[i].name == name) {
            return socket->option[i].value;
        }
    }
    return otherwise;
}

static int keep(struct sim_socket *socket, int level, int name, int value)
{
    uint32_t i = 0;

    while (i < socket->option_count &&
           (socket->option[i].level != level || socket->option[i].name != name)) {
        i++;
    }
    if (i == SIM_OPTIONS_MAX) {
        return -ENOBUFS;
    }
    socket->option_count += i == socket->option_count;
    socket->option[i].level = level;
    socket->option[i].name = name;
    socket->option[i].value = value;
    return 0;
}

static uint32_t buffer_len(int value, uint32_t least)
{
    const uint64_t len = value > 0 ? 2 * (uint64_t)value : 0;

    return len < least ? least : len > BUFFER_MOST ? BUFFER_MOST : (uint32_t)len;
}

/* SOL_SOCKET; -ENOPROTOOPT: one that is only kept. */
static int set_common(struct sim_socket *socket, int name, int value)
{
    switch (name) {
    case SO_REUSEADDR:
        socket->reuse_address = value != 0;
        return 0;
    case SO_REUSEPORT:
        socket->reuse_port = value != 0;
        return 0;
    case SO_SNDBUF:
        socket->send_buffer = buffer_len(value, SEND_LEAST);
        return 0;
    case SO_RCVBUF:
        socket->receive_buffer = buffer_len(value, RECEIVE_LEAST);
        return 0;
    case SO_TYPE:
    case SO_DOMAIN:
    case SO_PROTOCOL:
    case SO_ACCEPTCONN:
    case SO_ERROR:
    case SO_PEERCRED:
        return -ENOPROTOOPT;
    default:
        return keep(socket, SOL_SOCKET, name, value);
    }
}

/* Which levels a socket has: 0 or an error. Of the options of a level that are only kept, any number
 * that Linux could have is one. */
static int check_option(const struct sim_socket *socket, int level, int name)
{
    int has;

    if (level != SOL_SOCKET && socket->family == AF_UNIX) {
        return -EOPNOTSUPP;
    }
    has = level == SOL_SOCKET || level == IPPROTO_IP || level == socket->protocol ||
          (level == IPPROTO_IPV6 && socket->family == AF_INET6);
    return has && name > 0 && name <= OPTION_LAST ? 0 : -ENOPROTOOPT;
}

int gyre__sim_socket_set(struct sim_socket *socket, int level, int name, const void *value,
                         socklen_t len)
{
    int number = 0;
    int rc = socket->ops->setsockopt != NULL
                 ? socket->ops->setsockopt(socket, level, name, value, len)
                 : -ENOPROTOOPT;

    if (rc != -ENOPROTOOPT) {
        return rc;
    }
    rc = check_option(socket, level, name);
    if (rc < 0) {
        return rc;
    }
    if (level == SOL_SOCKET && name == SO_LINGER) {
        if (len < sizeof(socket->linger)) {
            return -EINVAL;
        }
        memcpy(&socket->linger, value, sizeof(socket->linger));
        return 0;
    }
    if (len < sizeof(number)) {
        return -EINVAL;
    }
    memcpy(&number, value, sizeof(number));
    if (level == SOL_SOCKET) {
        return set_common(socket, name, number);
    }
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY) {
        socket->v6only = number != 0;
    }
    return keep(socket, level, name, number);
}

static int get_common(struct sim_socket *socket, int name)
{
    switch (name) {
    case SO_REUSEADDR:
        return socket->reuse_address;
    case SO_REUSEPORT:
        return socket->reuse_port;
    case SO_SNDBUF:
        return (int)socket->send_buffer;
    case SO_RCVBUF:
        return (int)socket->receive_buffer;
    case SO_TYPE:
        return socket->type;
    case SO_DOMAIN:
        return socket->family;
    case SO_PROTOCOL:
        return socket->family == AF_UNIX ? 0 : socket->protocol;
    case SO_ACCEPTCONN:
        return socket->listening;
    case SO_ERROR:
        return -gyre__sim_socket_error(socket);
    default:
        return gyre__sim_socket_option(socket, SOL_SOCKET, name, 0);
    }
}

static int put_value(void *to, socklen_t *len, const void *value, size_t size)
{
    if (*len > size) {
        *len = (socklen_t)size;
    }
    memcpy(to, value, *len);
    return 0;
}

int gyre__sim_socket_get(struct sim_socket *socket, int level, int name, void *value,
                         socklen_t *len)
{
    int number;
    int rc = socket->ops->getsockopt != NULL
                 ? socket->ops->getsockopt(socket, level, name, value, len)
                 : -ENOPROTOOPT;

    if (rc != -ENOPROTOOPT) {
        return rc;
    }
    rc = check_option(socket, level, name);
    if (rc < 0) {
        return rc;
    }
    if (level == SOL_SOCKET && name == SO_LINGER) {
        return put_value(value, len, &socket->linger, sizeof(socket->linger));
    }
    number = level == SOL_SOCKET ? get_common(socket, name)
                                 : gyre__sim_socket_option(socket, level, name, 0);
    return put_value(value, len, &number, sizeof(number));
}

/* ---- bytes in pieces ---- */

size_t gyre__sim_pieces_len(const struct iovec *pieces, size_t count)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        len += pieces[i].iov_len;
    }
    return len;
}

/* The part of a piece behind @offset of all; the offset is used up as pieces are passed. */
static size_t part_of(const struct iovec *piece, size_t *offset, char **out_data)
{
    const size_t skip = *offset < piece->iov_len ? *offset : piece->iov_len;

    *offset -= skip;
    *out_data = piece->iov_len > 0 ? (char *)piece->iov_base + skip : NULL;
    return piece->iov_len - skip;
}

size_t gyre__sim_scatter(const struct iovec *pieces, size_t count, size_t offset, const void *data,
                         size_t len)
{
    size_t done = 0;

    for (size_t i = 0; i < count && done < len; i++) {
        char *to;
        const size_t room = part_of(&pieces[i], &offset, &to);
        const size_t part = room < len - done ? room : len - done;

        if (part > 0) {
            memcpy(to, (const char *)data + done, part);
        }
        done += part;
    }
    return done;
}

size_t gyre__sim_gather(const struct iovec *pieces, size_t count, size_t offset, void *data,
                        size_t len)
{
    size_t done = 0;

    for (size_t i = 0; i < count && done < len; i++) {
        char *from;
        const size_t room = part_of(&pieces[i], &offset, &from);
        const size_t part = room < len - done ? room : len - done;

        if (part > 0) {
            memcpy((char *)data + done, from, part);
        }
        done += part;
    }
    return done;
}

void gyre__sim_put_name(struct msghdr *msg, const struct sockaddr_storage *address, socklen_t len)
{
    if (msg->msg_name != NULL) {
        memcpy(msg->msg_name, address, len < msg->msg_namelen ? len : msg->msg_namelen);
    }
    msg->msg_namelen = msg->msg_name != NULL ? len : 0;
}

void gyre__sim_put_control(struct msghdr *msg, size_t *used, int level, int type, const void *data,
                           size_t len)
{
    struct cmsghdr head = {.cmsg_level = level, .cmsg_type = type};
    const size_t left = msg->msg_control != NULL ? msg->msg_controllen - *used : 0;
    char *to = (char *)msg->msg_control + *used;

    if (left < sizeof(head)) {
        msg->msg_flags |= MSG_CTRUNC;
        return;
    }
    head.cmsg_len = CMSG_LEN(len);
    if (head.cmsg_len > left) {
        msg->msg_flags |= MSG_CTRUNC;
        head.cmsg_len = left;
    }
    memcpy(to, &head, sizeof(head));
    if (head.cmsg_len > sizeof(head)) {
        memcpy(to + sizeof(head), data, head.cmsg_len - sizeof(head));
    }
    *used += CMSG_SPACE(len) < left ? CMSG_SPACE(len) : left;
}
