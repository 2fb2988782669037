/*
 * A circular doubly linked list through struct gyre_link. A head is a link that points at itself
 * when the list is empty; a link that is on no list points at itself too, so that removing it twice
 * is harmless and "is it on a list" needs no flag.
 */
#ifndef GYRE_BASE_LIST_H
#define GYRE_BASE_LIST_H

#include <gyre/base.h>

static inline void gyre__list_init(struct gyre_link *link)
{
    link->prev = link;
    link->next = link;
}

static inline int gyre__list_empty(const struct gyre_link *head)
{
    return head->next == head;
}

static inline void gyre__list_append(struct gyre_link *head, struct gyre_link *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void gyre__list_remove(struct gyre_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    gyre__list_init(link);
}

/* Move all of @from, which becomes empty, to @to, which need not be initialised. */
static inline void gyre__list_take(struct gyre_link *to, struct gyre_link *from)
{
    if (gyre__list_empty(from)) {
        gyre__list_init(to);
        return;
    }
    *to = *from;
    to->next->prev = to;
    to->prev->next = to;
    gyre__list_init(from);
}

/* Move all of @from, which becomes empty, to the end of @to. */
static inline void gyre__list_move(struct gyre_link *to, struct gyre_link *from)
{
    while (!gyre__list_empty(from)) {
        struct gyre_link *link = from->next;

        gyre__list_remove(link);
        gyre__list_append(to, link);
    }
}

#endif
