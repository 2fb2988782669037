/*
 * Messages of simulated Unix sockets, and what goes along with their bytes: credentials and
 * descriptors.
 *
 *     a number of the sender --send()--> open in a message --recv()--> a number of the receiver
 *                                              |
 *                                              +--the socket is closed, or there is no room--> closed
 *
 * A message holds its sender, which is charged for its memory and whose address the receiver asks
 * for. Descriptors in messages can make circles: a socket in a message that waits in its own queue is
 * open and nobody can ever read it. A collector finds those, whenever a Unix socket is closed, as
 * that of Linux does.
 */
#include "sim/charge.h"
#include "sim/unix.h"

struct ucred gyre__sim_unix_who(const struct unix_socket *self)
{
    const struct gyre_sim_process *process = gyre__sim_process();
    struct ucred who = self->socket.owner;

    if (process != NULL) {
        who.pid = (pid_t)process->pid;
    }
    return who;
}

/* ---- what is sent along ---- */

static int add_rights(struct unix_control *control, const int *numbers, size_t count)
{
    const struct gyre_sim_process *process = gyre__sim_process();

    if (count == 0) {
        return 0;
    }
    if (count > UNIX_RIGHTS_MAX) {
        return -EINVAL;
    }
    if (control->rights == NULL) {
        control->rights = gyre__sim_alloc(sizeof(*control->rights));
    }
    if (control->rights->count + count > UNIX_RIGHTS_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        struct sim_file *file = process != NULL ? gyre__sim_fd_file(process, numbers[i]) : NULL;

        if (file == NULL) {
            return -EBADF;
        }
        gyre__sim_file_open(file);
        if (gyre__sim_unix_is(file)) {
            unix_of_file(file)->travelling++;
        }
        control->rights->file[control->rights->count++] = file;
    }
    return 0;
}

/* One may say who one is, but not that one is another. */
static int set_who(struct unix_socket *self, struct unix_control *control, const void *data)
{
    const struct ucred mine = gyre__sim_unix_who(self);

    memcpy(&control->who, data, sizeof(control->who));
    if (control->who.pid != mine.pid || control->who.uid != mine.uid ||
        control->who.gid != mine.gid) {
        return -EPERM;
    }
    control->has_who = 1;
    return 0;
}

static int read_item(struct unix_socket *self, const struct cmsghdr *item,
                     struct unix_control *control)
{
    const size_t len = item->cmsg_len - CMSG_LEN(0);
    int numbers[UNIX_RIGHTS_MAX];

    if (item->cmsg_level != SOL_SOCKET) {
        return 0;
    }
    if (item->cmsg_type == SCM_RIGHTS) {
        if (len / sizeof(int) > UNIX_RIGHTS_MAX) {
            return -EINVAL;
        }
        memcpy(numbers, CMSG_DATA(item), len / sizeof(int) * sizeof(int));
        return add_rights(control, numbers, len / sizeof(int));
    }
    if (item->cmsg_type == SCM_CREDENTIALS && len == sizeof(struct ucred)) {
        return set_who(self, control, CMSG_DATA(item));
    }
    return -EINVAL;
}

int gyre__sim_unix_read_control(struct unix_socket *self, const struct msghdr *msg,
                                struct unix_control *out_control)
{
    const size_t len = msg->msg_control != NULL ? msg->msg_controllen : 0;
    size_t at = 0;
    int rc = 0;

    memset(out_control, 0, sizeof(*out_control));
    while (rc == 0 && at < len && len - at >= sizeof(struct cmsghdr)) {
        const struct cmsghdr *item = (const void *)((const uint8_t *)msg->msg_control + at);

        if (item->cmsg_len < sizeof(*item) || item->cmsg_len > len - at) {
            rc = -EINVAL;
        } else {
            rc = read_item(self, item, out_control);
            at += CMSG_ALIGN(item->cmsg_len);
        }
    }
    if (rc < 0) {
        gyre__sim_unix_drop_control(out_control);
    }
    return rc;
}

void gyre__sim_unix_drop_control(struct unix_control *control)
{
    struct unix_rights *rights = control->rights;

    control->rights = NULL;
    control->has_who = 0;
    if (rights == NULL) {
        return;
    }
    for (uint32_t i = 0; i < rights->count; i++) {
        if (gyre__sim_unix_is(rights->file[i])) {
            unix_of_file(rights->file[i])->travelling--;
        }
        gyre__sim_file_close(rights->file[i]);
    }
    free(rights);
}

void gyre__sim_unix_add_who(struct unix_control *control, const struct unix_socket *from,
                            const struct unix_socket *to)
{
    if (!control->has_who && (from->passes_credentials || to->passes_credentials)) {
        control->who = gyre__sim_unix_who(from);
        control->has_who = 1;
    }
}

/* ---- messages ---- */

struct unix_message *gyre__sim_unix_message_new(struct unix_socket *sender,
                                                const struct msghdr *msg, size_t offset, size_t len,
                                                struct unix_control *control)
{
    struct unix_message *message = gyre__sim_alloc(sizeof(*message) + len);

    gyre__list_init(&message->link);
    unix_hold(sender);
    message->sender = sender;
    message->memory = gyre__sim_charge_unix(len, sender->socket.type == SOCK_STREAM);
    message->len = len;
    message->control = *control;
    control->rights = NULL;
    gyre__sim_gather(msg->msg_iov, msg->msg_iovlen, offset, message->bytes, len);
    sender->memory += message->memory;
    return message;
}

void gyre__sim_unix_message_free(struct unix_message *message)
{
    struct unix_socket *sender = message->sender;

    gyre__sim_unix_drop_control(&message->control);
    sender->memory -= message->memory;
    if (!sender->dead && unix_is_writable(sender)) {
        gyre__sim_file_wake(&sender->socket.file, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
    unix_put(sender);
    free(message);
}

/* ---- what is received along ---- */

/* As many descriptors as there is room and numbers for; that not all came is told. */
static void write_rights(const struct unix_rights *rights, struct msghdr *msg, size_t *used,
                         int flags)
{
    struct gyre_sim_process *process = gyre__sim_process();
    const size_t left = msg->msg_controllen - *used;
    const size_t room = left > CMSG_LEN(0) ? (left - CMSG_LEN(0)) / sizeof(int) : 0;
    struct cmsghdr head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    uint8_t *to = (uint8_t *)msg->msg_control + *used;
    size_t count = 0;

    while (process != NULL && count < rights->count && count < room) {
        const int number =
            gyre__sim_fd_install(process, rights->file[count], 0, (flags & MSG_CMSG_CLOEXEC) != 0);

        if (number < 0) {
            break;
        }
        memcpy(to + CMSG_LEN(count * sizeof(int)), &number, sizeof(number));
        count++;
    }
    if (count > 0) {
        const size_t space = CMSG_SPACE(count * sizeof(int));

        head.cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(to, &head, sizeof(head));
        *used += space < left ? space : left;
    }
    if (count < rights->count) {
        msg->msg_flags |= MSG_CTRUNC;
    }
}

void gyre__sim_unix_write_control(const struct unix_socket *self, struct msghdr *msg, int flags,
                                  const struct unix_control *control)
{
    const struct ucred nobody = {.pid = 0, .uid = 65534, .gid = 65534};
    size_t used = 0;

    if (msg->msg_control == NULL) {
        if (self->passes_credentials || control->rights != NULL) {
            msg->msg_flags |= MSG_CTRUNC;
        }
        msg->msg_controllen = 0;
        return;
    }
    if (self->passes_credentials) {
        gyre__sim_put_control(msg, &used, SOL_SOCKET, SCM_CREDENTIALS,
                              control->has_who ? &control->who : &nobody, sizeof(nobody));
    }
    if (control->rights != NULL) {
        write_rights(control->rights, msg, &used, flags);
    }
    msg->msg_controllen = used;
}

/* ---- the collector ---- */

static void mark(struct unix_socket *self);

static void mark_queue(struct unix_socket *self)
{
    for (struct gyre_link *link = self->queue.next; link != &self->queue; link = link->next) {
        if (self->state == UNIX_LISTEN) {
            mark(gyre_container_of(link, struct unix_socket, turn));
            continue;
        }
        const struct unix_rights *rights =
            gyre_container_of(link, struct unix_message, link)->control.rights;

        for (uint32_t i = 0; rights != NULL && i < rights->count; i++) {
            if (gyre__sim_unix_is(rights->file[i])) {
                mark(unix_of_file(rights->file[i]));
            }
        }
    }
}

static void mark(struct unix_socket *self)
{
    if (!self->reachable) {
        self->reachable = 1;
        mark_queue(self);
    }
}

/* Takes the descriptors out of the queue; closing them is for later, when no list is walked. */
static void take_rights(struct unix_socket *self, struct gyre_link *garbage)
{
    struct gyre_link *next;

    for (struct gyre_link *link = self->queue.next; link != &self->queue; link = next) {
        next = link->next;
        if (self->state == UNIX_LISTEN) {
            take_rights(gyre_container_of(link, struct unix_socket, turn), garbage);
        } else if (gyre_container_of(link, struct unix_message, link)->control.rights != NULL) {
            gyre__list_remove(link);
            self->queued--;
            gyre__list_append(garbage, link);
        }
    }
}

static struct unix_socket *of_host(struct gyre_link *link)
{
    return gyre_container_of(link, struct unix_socket, of_host);
}

void gyre__sim_unix_collect(struct gyre_sim_host *host)
{
    struct gyre_link *all = &host->unix_sockets;
    struct gyre_link garbage;
    uint32_t travelling = 0;

    for (struct gyre_link *link = all->next; link != all; link = link->next) {
        of_host(link)->reachable = 0;
        travelling += of_host(link)->travelling;
    }
    if (travelling == 0) {
        return;
    }
    for (struct gyre_link *link = all->next; link != all; link = link->next) {
        if (of_host(link)->socket.file.descriptors > of_host(link)->travelling) {
            mark(of_host(link));
        }
    }
    gyre__list_init(&garbage);
    for (struct gyre_link *link = all->next; link != all; link = link->next) {
        if (of_host(link)->travelling > 0 && !of_host(link)->reachable) {
            take_rights(of_host(link), &garbage);
        }
    }
    while (!gyre__list_empty(&garbage)) {
        struct unix_message *message = gyre_container_of(garbage.next, struct unix_message, link);

        gyre__list_remove(&message->link);
        gyre__sim_unix_message_free(message);
    }
}

/* The end of a host: a circle that was closed last has had nobody to find it. */
void gyre__sim_unix_free(struct gyre_sim_host *host)
{
    gyre__sim_unix_collect(host);
}
