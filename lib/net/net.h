/*
 * What the net layer keeps for one loop: memory that its objects take while they need it and give
 * back, so that an idle one holds none. Made when first needed, freed with the loop.
 */
#ifndef GYRE_NET_NET_H
#define GYRE_NET_NET_H

#include "net/slab.h"

#include <gyre/loop.h>

struct gyre__dgram_scratch;

struct gyre__net {
    /* What an on_data() is being given whose queue is sent when it returns; or NULL. */
    const struct gyre_lease *handed;
    const struct gyre_lease *loan; /* the same, once it is to be sent when that returns; or NULL */
    struct gyre__slab flows;       /* struct gyre__flow: streams with something to send */
    struct gyre__slab chunks;      /* struct gyre__chunk: pieces of send queues */
    struct gyre__slab parcels;     /* struct gyre__parcel: sends of several pieces, connects */
    struct gyre__slab buffers;     /* struct gyre__buffer: bytes that were copied to be sent */
    struct gyre__slab dgram_pages; /* struct gyre__dgram_page: what sockets have to send */
    struct gyre__slab dgram_lones; /* struct gyre__dgram_lone: where single ones are received */
    struct gyre__dgram_scratch *scratch; /* where datagrams are received, or NULL; see dgram.h */
    void *scratch_memory;                /* ... and what it lies in */
};

/* The loop's, or NULL when there is no memory for it. */
struct gyre__net *gyre__net_of(struct gyre_loop *loop);

#endif
