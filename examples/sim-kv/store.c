/* A hash table of fixed size, with chains; see store.h. */
#include "sim-kv/store.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a. It is not secret: who knows it can put all keys into one bucket, and is held up himself
 * by that and by the limits. */
static size_t bucket_of(const char *key, size_t len)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)key[i]) * 16777619u;
    }
    return hash % KV_BUCKETS;
}

static size_t size_of(const struct kv_entry *entry)
{
    return (size_t)entry->key_len + entry->value_len;
}

void kv_store_init(struct kv_store *store, uint32_t count_max, size_t bytes_max)
{
    *store = (struct kv_store){.count_max = count_max, .bytes_max = bytes_max};
}

struct kv_entry *kv_entry_new(const char *key, size_t key_len, size_t value_len)
{
    struct kv_entry *entry = malloc(sizeof(*entry) + value_len);

    if (entry != NULL) {
        *entry = (struct kv_entry){
            .holds = 1, .key_len = (uint32_t)key_len, .value_len = (uint32_t)value_len};
        memcpy(entry->key, key, key_len);
    }
    return entry;
}

void kv_entry_hold(struct kv_entry *entry)
{
    entry->holds++;
}

void kv_entry_put(struct kv_entry *entry)
{
    if (--entry->holds == 0) {
        free(entry);
    }
}

/* What points to the entry of the key, or where one would be added. */
static struct kv_entry **place_of(struct kv_entry **bucket, const char *key, size_t key_len)
{
    struct kv_entry **place = &bucket[bucket_of(key, key_len)];

    while (*place != NULL &&
           ((*place)->key_len != key_len || memcmp((*place)->key, key, key_len) != 0)) {
        place = &(*place)->next;
    }
    return place;
}

struct kv_entry *kv_store_find(const struct kv_store *store, const char *key, size_t key_len)
{
    struct kv_entry *entry = store->bucket[bucket_of(key, key_len)];

    while (entry != NULL && (entry->key_len != key_len || memcmp(entry->key, key, key_len) != 0)) {
        entry = entry->next;
    }
    return entry;
}

static void take_out(struct kv_store *store, struct kv_entry **place)
{
    struct kv_entry *entry = *place;

    *place = entry->next;
    store->count--;
    store->bytes -= size_of(entry);
    kv_entry_put(entry);
}

int kv_store_set(struct kv_store *store, struct kv_entry *entry)
{
    struct kv_entry **place = place_of(store->bucket, entry->key, entry->key_len);
    const size_t freed = *place != NULL ? size_of(*place) : 0;

    if (store->count - (*place != NULL) >= store->count_max ||
        store->bytes - freed + size_of(entry) > store->bytes_max) {
        return -1;
    }
    if (*place != NULL) {
        take_out(store, place);
    }
    kv_entry_hold(entry);
    entry->next = *place;
    *place = entry;
    store->count++;
    store->bytes += size_of(entry);
    return 0;
}

int kv_store_delete(struct kv_store *store, const char *key, size_t key_len)
{
    struct kv_entry **place = place_of(store->bucket, key, key_len);

    if (*place == NULL) {
        return 0;
    }
    take_out(store, place);
    return 1;
}

void kv_store_end(struct kv_store *store)
{
    for (size_t i = 0; i < KV_BUCKETS; i++) {
        while (store->bucket[i] != NULL) {
            take_out(store, &store->bucket[i]);
        }
    }
}

const char *kv_store_check(const struct kv_store *store)
{
    size_t count = 0;
    size_t bytes = 0;

    for (size_t i = 0; i < KV_BUCKETS; i++) {
        for (const struct kv_entry *entry = store->bucket[i]; entry != NULL; entry = entry->next) {
            if (entry->holds == 0 || bucket_of(entry->key, entry->key_len) != i) {
                return "the store has an entry that does not belong there";
            }
            count++;
            bytes += size_of(entry);
        }
    }
    if (count != store->count || bytes != store->bytes) {
        return "the store has counted wrong";
    }
    return count > store->count_max || bytes > store->bytes_max ? "the store exceeds its limits"
                                                                : NULL;
}
