/* What the files of the datagram sockets share. See dgram.c. */
#ifndef GYRE_NET_DGRAM_H
#define GYRE_NET_DGRAM_H

#include "base/assert.h"
#include "base/list.h"
#include "core/loop.h"
#include "core/task.h"
#include "net/net.h"

#include <gyre/dgram.h>

enum gyre__dgram_state {
    GYRE__DGRAM_NONE = 0,
    GYRE__DGRAM_OPEN = 0x61,
    GYRE__DGRAM_CLOSING,
    GYRE__DGRAM_CLOSED,
};

/* gyre_dgram.room: in the send buffer. A datagram that was sent makes it unknown. */
enum gyre__dgram_room {
    GYRE__DGRAM_ROOM_UNKNOWN = 0,
    GYRE__DGRAM_ROOM_UNTOLD, /* nothing could be asked to say so */
    GYRE__DGRAM_ROOM_TOLD,   /* an event said so */
    GYRE__DGRAM_ROOM_SURE,   /* and poll(2), just now */
};

/* gyre_dgram.busy */
enum gyre__dgram_busy {
    GYRE__DGRAM_IDLE = 0, /* a poll tells of data, or a recvmsg brings it */
    GYRE__DGRAM_BUSY,     /* a poll has told, and none is active: read in each turn */
    GYRE__DGRAM_BUSY_FED, /* and something was there in each turn since */
};

/* gyre_dgram.traits */
#define GYRE__DGRAM_IPV4      (1u << 0) /* the socket's family */
#define GYRE__DGRAM_IPV6      (1u << 1)
#define GYRE__DGRAM_UDP       (1u << 2)
#define GYRE__DGRAM_RAW       (1u << 3)
#define GYRE__DGRAM_CONNECTED (1u << 4)
#define GYRE__DGRAM_GSO_KNOWN (1u << 5) /* the kernel was asked for UDP_SEGMENT */
#define GYRE__DGRAM_GSO       (1u << 6) /* ... and has it */
#define GYRE__DGRAM_PEER_IPV4 (1u << 7) /* connected to an IPv4 address, if by a mapped one */

/* gyre_dgram.flags: not of the options; never asked for single datagrams, see dgram_lone.c. */
#define GYRE__DGRAM_BATCHES_ONLY (1u << 15)

#define GYRE__DGRAM_INFO_FLAGS \
    (GYRE_DGRAM_PACKET_INFO | GYRE_DGRAM_TTL | GYRE_DGRAM_TOS | GYRE_DGRAM_GRO)

enum {
    GYRE__DGRAM_BATCH = 64,    /* datagrams per system call */
    GYRE__DGRAM_ROOM = 65600,  /* for the largest datagram, and a cache line to stagger them */
    GYRE__DGRAM_CONTROL = 192, /* received: all items of control.c at once; an ICMP error has 184 */
    GYRE__DGRAM_CONTROL_OUT = 64,      /* packet info and a segment size */
    GYRE__DGRAM_PAGE_ROOM = 66 * 1024, /* the largest item */
    GYRE__DGRAM_ITEM_SPLIT = 1u << 0,  /* the library cuts the segments */
    GYRE__DGRAM_AVERAGE_UNIT = 64,     /* of gyre_dgram.batch */
    GYRE__DGRAM_CALM = 32,             /* gyre_dgram.calm: events with few datagrams on average */
};

struct gyre__dgram_item;

/*
 * Where datagrams are received, and where the descriptions of those to be sent are put together:
 * one for each loop, used by whichever socket has its turn, so that it stays in the cache.
 *
 * There is room for 64 datagrams of 64 KiB. Small ones touch a page of each room, and no more of the
 * 4 MiB is ever there; they begin a cache line further each, so that they do not crowd in one set of
 * the cache. One piece each: the kernel takes a second one of a message with more ado.
 */
struct gyre__dgram_scratch {
    _Alignas(64) struct mmsghdr in[GYRE__DGRAM_BATCH]; /* a cache line each */
    struct iovec in_iov[GYRE__DGRAM_BATCH];
    struct gyre_addr from[GYRE__DGRAM_BATCH];
    _Alignas(struct cmsghdr) uint8_t in_control[GYRE__DGRAM_BATCH][GYRE__DGRAM_CONTROL];
    uint32_t shaped_max; /* receive_max that in_iov is set up for */
    int shaped_control;

    struct gyre_dgram *answering; /* whose datagrams are being delivered, or NULL */
    uint32_t answers;             /* of it: messages in out[] that are to be sent */
    _Alignas(64) struct mmsghdr out[GYRE__DGRAM_BATCH];
    struct iovec out_iov[GYRE__DGRAM_BATCH];
    struct gyre__dgram_item *out_item[GYRE__DGRAM_BATCH]; /* of an answer: room for one */
    _Alignas(struct cmsghdr) uint8_t out_control[GYRE__DGRAM_BATCH][GYRE__DGRAM_CONTROL_OUT];

    _Alignas(64) uint8_t rooms[GYRE__DGRAM_BATCH][GYRE__DGRAM_ROOM];
};

/* A datagram to be sent: on the queue, or on the list of those that ended and have a callback to
 * come. Its address and, if they were copied, its bytes follow it. */
struct gyre__dgram_item {
    struct gyre_link link;
    struct gyre__dgram_page *page;
    const uint8_t *data;
    uint32_t len;
    uint32_t offset; /* bytes that were sent: of one that was cut into segments */
    int32_t error;
    uint16_t segment; /* 0: one datagram */
    uint8_t flags;
    uint8_t from_family; /* AF_INET, AF_INET6; 0: no packet info to send */
    unsigned interface;
    socklen_t to_len;
    union {
        struct in_addr in;
        struct in6_addr in6;
    } from;
    gyre_dgram_release_fn release;
    void *context;
    max_align_t to[];
};

/* Items lie one behind the other in pages, so that a queue of small datagrams is small. */
struct gyre__dgram_page {
    uint32_t used; /* bytes */
    uint32_t live; /* items */
    _Alignas(max_align_t) uint8_t bytes[GYRE__DGRAM_PAGE_ROOM];
};

/* Where the kernel puts a datagram that comes alone. See dgram_lone.c. */
struct gyre__dgram_lone {
    struct gyre_msg_op op;
    struct gyre_dgram *dgram;
    uint32_t taken;   /* since it was last asked whether others wait */
    uint32_t look_at; /* so many: then it is asked again */
    _Alignas(struct cmsghdr) uint8_t control[GYRE__DGRAM_CONTROL];
    uint8_t bytes[GYRE_DGRAM_MAX];
};

_Static_assert(sizeof(struct gyre__dgram_item) + sizeof(struct gyre_addr) + GYRE_DGRAM_MAX + 64 <=
                   GYRE__DGRAM_PAGE_ROOM,
               "the largest datagram fits");
_Static_assert(GYRE__DGRAM_ROOM >= GYRE_DGRAM_MAX, "the largest datagram fits");

static inline struct gyre_loop *gyre__dgram_loop(const struct gyre_dgram *dgram)
{
    return dgram->fd.loop;
}

static inline int gyre__dgram_is_open(const struct gyre_dgram *dgram)
{
    return dgram->state == GYRE__DGRAM_OPEN;
}

static inline int gyre__dgram_wants_control(const struct gyre_dgram *dgram)
{
    return (dgram->flags & GYRE__DGRAM_INFO_FLAGS) != 0;
}

/* There may be something, and it may be delivered. */
static inline int gyre__dgram_may_receive(const struct gyre_dgram *dgram)
{
    return dgram->readable && !dgram->paused && gyre__dgram_is_open(dgram);
}

/* What an IPv6 socket sends to @addr leaves over IPv4. */
static inline int gyre__dgram_is_ipv4(const struct gyre_addr *addr)
{
    return addr->any.sa_family == AF_INET ||
           (addr->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr));
}

static inline struct gyre__dgram_scratch *gyre__dgram_scratch(const struct gyre_dgram *dgram)
{
    return gyre__dgram_loop(dgram)->net->scratch;
}

/* 0 if it is open and this is its thread. */
int gyre__dgram_check(const struct gyre_dgram *dgram);

/* Callbacks are due: on_work() runs soon. */
void gyre__dgram_request_work(struct gyre_dgram *dgram);

/* Count an error and tell it. @to may be NULL. Callback context only. */
void gyre__dgram_report(struct gyre_dgram *dgram, int error, const struct gyre_addr *to);

/* dgram_open.c */

/* A new socket for the options, bound and connected. Sets traits. Returns it or an error. */
int gyre__dgram_socket(struct gyre_dgram *dgram, const struct gyre_dgram_options *options);

/* Find out what an existing socket is, and switch on what the options ask. */
int gyre__dgram_inspect(struct gyre_dgram *dgram, int number,
                        const struct gyre_dgram_options *options);

/* dgram_receive.c: callback context only. */

/* Deliver what is kept, then receive, as much as one turn allows. */
void gyre__dgram_receive(struct gyre_dgram *dgram);

/* The first @count places of the scratch were received into: deliver them. */
void gyre__dgram_take_batch(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch,
                            int count);

/* Make the headers of the scratch fit what the socket expects. */
void gyre__dgram_shape(struct gyre__dgram_scratch *scratch, const struct gyre_dgram *dgram);

/* recvmsg(2) said so: tell it, or what the error queue says of it. */
void gyre__dgram_receive_failed(struct gyre_dgram *dgram, int error);

/* Nothing waits for data and nothing can be started to: read in each turn. */
void gyre__dgram_get_busy(struct gyre_dgram *dgram);

/* Wait for data, to be told of it or to receive it. Returns 0 or -ENOMEM. */
int gyre__dgram_wait(struct gyre_dgram *dgram);

/* The poll is over with @result, events or why it was given up: wait again, or read without. Runs
 * no callbacks. */
void gyre__dgram_poll_ended(struct gyre_dgram *dgram, int32_t result);

/* Be busy no longer. */
void gyre__dgram_rest(struct gyre_dgram *dgram);

/* Tell the ICMP errors that wait in the error queue, if it is used. Returns how many. */
int gyre__dgram_take_errors(struct gyre_dgram *dgram);

/* Forget what is kept. */
void gyre__dgram_drop_held(struct gyre_dgram *dgram);

/* dgram_lone.c */

/* Which sockets never ask for single datagrams. */
void gyre__dgram_lone_init(struct gyre_dgram *dgram);

/* Whether the next datagram is to be asked for alone, and there is memory for it. */
int gyre__dgram_lone_may_start(const struct gyre_dgram *dgram);

/* Ask for one. Returns 0, or an error: wait for many. */
int gyre__dgram_lone_start(struct gyre_dgram *dgram);

/* Nothing of the socket is with the kernel: give the memory back. */
void gyre__dgram_lone_fini(struct gyre_dgram *dgram);

/* dgram_send.c */

/* Send what is queued, as much as the socket takes. Runs no callbacks. */
void gyre__dgram_flush(struct gyre_dgram *dgram);

/* Nothing is being sent of which it is not known what became of it: close. */
void gyre__dgram_end(struct gyre_dgram *dgram);

/* Send what the callbacks of a batch answered. Runs no callbacks. */
void gyre__dgram_send_answers(struct gyre__dgram_scratch *scratch);

/* Everything queued has ended; flush or close is over. */
void gyre__dgram_drop_queue(struct gyre_dgram *dgram);

/* Tell the errors of datagrams that ended, and release what they borrowed. Callback context only. */
void gyre__dgram_settle(struct gyre_dgram *dgram);

/* There is room in the socket's send buffer; or waiting for it ended. */
void gyre__dgram_on_room(struct gyre_op *op, const struct gyre_result *result);

/* dgram_control.c */

/* Fill @datagram from the control data of a message received. */
void gyre__dgram_read_control(struct msghdr *msg, struct gyre_datagram *datagram,
                              struct gyre_addr *local);

/* Write the control data for @item, of which @piece bytes go in one call. @msg has none yet. */
void gyre__dgram_write_control(const struct gyre__dgram_item *item, size_t piece,
                               struct msghdr *msg, uint8_t *control);

#endif
