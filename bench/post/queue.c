/* What travels beside a wake-up: a queue under a mutex, taken whole; see post.h. */
#include "post.h"

#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t buffers[2][POST_IN_FLIGHT_MAX];
static uint64_t *filling = buffers[0];
static size_t used;

void queue_push(uint64_t number)
{
    pthread_mutex_lock(&lock);
    filling[used++] = number;
    pthread_mutex_unlock(&lock);
}

int queue_take_all(void)
{
    int last = 0;

    pthread_mutex_lock(&lock);
    const uint64_t *taken = filling;
    const size_t count = used;

    filling = filling == buffers[0] ? buffers[1] : buffers[0];
    used = 0;
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < count; i++) {
        last |= post_arrived(taken[i]);
    }
    return last;
}
