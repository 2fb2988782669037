/*
 * Datagrams beside the streams: every program has a socket and sends to the others'. A datagram says
 * how long it is and what its bytes have to be, so that one that was cut, merged or changed is found
 * out; one that is lost, doubled or late is not.
 */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

enum { LEN_LEAST = 8, LEN_MOST = 3000, PORT = 7001 };

static uint8_t byte_at(uint32_t seed, uint32_t i)
{
    return (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

static void put32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *from)
{
    uint32_t value;

    memcpy(&value, from, sizeof(value));
    return value;
}

static struct program *program_of(struct gyre_dgram *dgram)
{
    return gyre_container_of(dgram, struct program, dgram);
}

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    const uint8_t *data = datagram->data;
    struct program *program = program_of(dgram);
    uint64_t sent = 0;

    program->dgrams_received++;
    if (datagram->len == 0) {
        return;
    }
    if (datagram->len < LEN_LEAST || get32(data) != datagram->len) {
        broken("%s: a datagram of %zu bytes says that it has %u", program->name, datagram->len,
               datagram->len < LEN_LEAST ? 0 : get32(data));
        return;
    }
    for (uint32_t i = LEN_LEAST; i < datagram->len; i++) {
        if (data[i] != byte_at(get32(data + 4), i)) {
            broken("%s: byte %u of a datagram is wrong", program->name, i);
            return;
        }
    }
    for (int i = 0; i < fuzz.program_count; i++) {
        sent += fuzz.program[i].dgrams_sent;
    }
    if (program->dgrams_received > 2 * sent) { /* each may come twice */
        broken("%s: %llu datagrams received, %llu sent", program->name,
               (unsigned long long)program->dgrams_received, (unsigned long long)sent);
    }
}

static void on_closed(struct gyre_dgram *dgram)
{
    program_of(dgram)->dgram_open = 0;
}

static const struct gyre_dgram_handler handler = {
    .on_datagram = on_datagram,
    .on_close = on_closed,
};

void dgrams_open(struct program *program)
{
    const struct gyre_dgram_options options = {.handler = &handler, .kind = GYRE_DGRAM_UDP4};
    struct gyre_addr local;
    struct gyre_dgram_options bound = options;

    if (gyre_addr_parse_ip("0.0.0.0", (unsigned)(PORT + (program - fuzz.program)), &local) < 0) {
        broken("an address is not read");
    }
    bound.local = &local;
    program->dgram_open = gyre_dgram_open(&program->dgram, program->loop, &bound) == 0;
}

static void send_one(struct program *program, const struct gyre_addr *to)
{
    uint8_t data[LEN_MOST];
    const size_t len = one_in(10) ? 0 : LEN_LEAST + chance(LEN_MOST - LEN_LEAST);
    const uint32_t seed = (uint32_t)chance(UINT32_MAX);
    int rc;

    for (uint32_t i = LEN_LEAST; i < len; i++) {
        data[i] = byte_at(seed, i);
    }
    put32(data, (uint32_t)len);
    put32(data + 4, seed);
    rc = gyre_dgram_send(&program->dgram, to, data, len);
    program->dgrams_sent += rc == 0;
    if (rc < 0 && rc != -ENOMEM && rc != -ENOBUFS) {
        broken("%s: a datagram is refused: %s", program->name, gyre_error_name(rc));
    }
}

void dgrams_send(struct program *program)
{
    const int count = (int)chance(20);
    const int whom = (int)chance((uint64_t)fuzz.program_count);
    char host[24];
    struct gyre_addr to;

    if (!program->dgram_open || program->stopping) {
        return;
    }
    snprintf(host, sizeof(host), "10.0.0.%d", whom < 2 ? 1 : whom);
    if (gyre_addr_parse_ip(host, (unsigned)(PORT + whom), &to) < 0) {
        broken("an address is not read");
    }
    for (int i = 0; i < count; i++) {
        send_one(program, &to);
    }
}

void dgrams_close(struct program *program)
{
    if (program->dgram_open && gyre_dgram_close(&program->dgram) < 0) {
        program->dgram_open = 0; /* it is on its way already */
    }
}
