/*
 * The keys and values of the key-value server: a hash table with limits. A value does not change
 * once it is stored: setting a key puts another value in its place. So whoever sends a value holds
 * it and sends it from where it lies, however long that takes, and gets it whole.
 */
#ifndef SIM_KV_STORE_H
#define SIM_KV_STORE_H

#include <stddef.h>
#include <stdint.h>

enum {
    KV_KEY_MAX = 64,
    KV_VALUE_MAX = 16384,
    KV_BUCKETS = 4096,
};

/* A key and its value. Freed when nobody holds it any more. */
struct kv_entry {
    struct kv_entry *next; /* of its bucket */
    uint32_t holds;        /* the store's, and those of replies and requests under way */
    uint32_t key_len;
    uint32_t value_len;
    char key[KV_KEY_MAX];
    unsigned char value[];
};

struct kv_store {
    struct kv_entry *bucket[KV_BUCKETS];
    uint32_t count;
    size_t bytes; /* of keys and values */
    uint32_t count_max;
    size_t bytes_max;
};

void kv_store_init(struct kv_store *store, uint32_t count_max, size_t bytes_max);

/* Drops everything; what is held by somebody stays until that is put back. */
void kv_store_end(struct kv_store *store);

/* A new entry that the caller holds and the store does not know yet; NULL: no memory. */
struct kv_entry *kv_entry_new(const char *key, size_t key_len, size_t value_len);
void kv_entry_hold(struct kv_entry *entry);
void kv_entry_put(struct kv_entry *entry);

/* The entry of a key, not held for the caller; NULL: there is none. */
struct kv_entry *kv_store_find(const struct kv_store *store, const char *key, size_t key_len);

/* Puts an entry in the place of the one with its key, and holds it: 0, or -1 if the store is full. */
int kv_store_set(struct kv_store *store, struct kv_entry *entry);

/* 1: deleted; 0: there was none. */
int kv_store_delete(struct kv_store *store, const char *key, size_t key_len);

/* NULL, or what is wrong with it. For tests: it looks at everything. */
const char *kv_store_check(const struct kv_store *store);

#endif
