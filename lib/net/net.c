#include "net/net.h"

#include "base/alloc.h"
#include "core/loop.h"
#include "net/dgram.h"
#include "net/stream.h"

/* Objects of a page: about 16 KiB, 64 KiB for buffers. */
enum { FLOW_PAGE = 64, CHUNK_PAGE = 192, PARCEL_PAGE = 24, BUFFER_PAGE = 16 };

static void net_fini(struct gyre_loop *loop)
{
    struct gyre__net *net = loop->net;

    gyre__slab_fini(&net->flows);
    gyre__slab_fini(&net->chunks);
    gyre__slab_fini(&net->parcels);
    gyre__slab_fini(&net->buffers);
    gyre__slab_fini(&net->dgram_pages);
    gyre__slab_fini(&net->dgram_lones);
    gyre__free(net->scratch_memory);
    gyre__free(net);
}

struct gyre__net *gyre__net_of(struct gyre_loop *loop)
{
    struct gyre__net *net = loop->net;

    if (net != NULL) {
        return net;
    }
    net = gyre__zalloc(sizeof(*net));
    if (net == NULL) {
        return NULL;
    }
    gyre__slab_init(&net->flows, sizeof(struct gyre__flow), FLOW_PAGE, gyre__flow_construct);
    gyre__slab_init(&net->chunks, sizeof(struct gyre__chunk), CHUNK_PAGE, NULL);
    gyre__slab_init(&net->parcels, sizeof(struct gyre__parcel), PARCEL_PAGE,
                    gyre__parcel_construct);
    gyre__slab_init(&net->buffers, sizeof(struct gyre__buffer), BUFFER_PAGE, NULL);
    gyre__slab_init(&net->dgram_pages, sizeof(struct gyre__dgram_page), 1, NULL);
    gyre__slab_init(&net->dgram_lones, sizeof(struct gyre__dgram_lone), 1, NULL);
    loop->net = net;
    loop->net_fini = net_fini;
    return net;
}
