/* Datagram sockets: what can be switched on. Groups, families, packet info, GRO, ICMP, adoption. */
#include "dgramkit.h"

#include <fcntl.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static int has_v6(void)
{
    const struct gyre_addr local = addr_v6("::1", 0);
    const int number = plain_try(&local, NULL);

    if (number >= 0) {
        close(number);
    }
    return number >= 0;
}

static void need_v6(void)
{
    if (!has_v6()) {
        test_skip("no IPv6 here");
    }
}

/* ---- packet info ---- */

static void info_over(const struct gyre_addr *bound, const struct gyre_addr *asked,
                      const struct gyre_addr *expected)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr any = {.len = asked->len, .storage.ss_family = asked->any.sa_family};
    const int client = plain_try(&any, NULL);
    struct gyre_addr there;
    struct gyre_addr from;
    struct mate server;
    uint8_t byte;

    mate_open(&server, loop,
              (struct gyre_dgram_options){.local = bound, .flags = GYRE_DGRAM_PACKET_INFO});
    there = mate_addr(&server);
    server.then = mate_echo;
    from = *asked;
    if (asked->any.sa_family == AF_INET) {
        from.in.sin_port = htons((uint16_t)addr_port(&there));
    } else {
        from.in6.sin6_port = htons((uint16_t)addr_port(&there));
    }
    there = from;
    plain_send(client, &there, "x", 1);
    mate_until(&server, 1);
    addr_same(&server.local, expected);
    assert_int_equal(server.last.interface, if_nametoindex("lo"));
    assert_int_equal(server.last.ttl, -1);
    assert_int_equal(server.last.tos, -1);
    plain_until(loop, client);
    assert_int_equal(plain_take(client, &byte, 1, &from), 1);
    addr_same(&from, &there);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void info_v4_tells_the_address_and_the_reply_leaves_from_it(void)
{
    const struct gyre_addr any = addr_v4("0.0.0.0", 0);
    const struct gyre_addr asked = addr_v4("127.0.0.3", 0);

    info_over(&any, &asked, &asked);
}

static void info_v6_tells_the_address_and_the_reply_leaves_from_it(void)
{
    need_v6();
    const struct gyre_addr any = addr_v6("::", 0);
    const struct gyre_addr asked = addr_v6("::1", 0);
    info_over(&any, &asked, &asked);
}

static void info_of_v4_over_v6_tells_the_mapped_address(void)
{
    need_v6();
    const struct gyre_addr any = addr_v6("::", 0);
    const struct gyre_addr asked = addr_v4("127.0.0.3", 0);
    const struct gyre_addr mapped = addr_v6("::ffff:127.0.0.3", 0);
    info_over(&any, &asked, &mapped);
}

/* A broadcast address is none to answer from. */
static void broadcast_is_answered_over(const struct gyre_addr *bound)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const int on = 1;
    struct gyre_addr from;
    struct mate server;
    uint8_t byte;

    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)), 0);
    mate_open(&server, loop,
              (struct gyre_dgram_options){.local = bound, .flags = GYRE_DGRAM_PACKET_INFO});
    server.then = mate_echo;
    from = mate_addr(&server);
    const struct gyre_addr all = addr_v4("127.255.255.255", addr_port(&from));
    plain_send(client, &all, "x", 1);
    mate_until(&server, 1);
    assert_int_equal(server.last.interface, if_nametoindex("lo"));
    trial_turns(loop, 3);
    assert_int_equal(server.errors, 0);
    plain_until(loop, client);
    assert_int_equal(plain_take(client, &byte, 1, &from), 1);
    assert_int_equal(from.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void info_of_a_broadcast_answers_from_the_interface(void)
{
    const struct gyre_addr any = addr_v4("0.0.0.0", 0);

    broadcast_is_answered_over(&any);
}

static void info_of_a_broadcast_over_v6_answers_from_the_interface(void)
{
    need_v6();
    const struct gyre_addr any = addr_v6("::", 0);
    broadcast_is_answered_over(&any);
}

static void source_address_is_the_one_asked_for(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr from = addr_v4("127.0.0.7", 0);
    const unsigned lo = if_nametoindex("lo");
    struct gyre_addr there;
    struct gyre_addr got;
    const int server = plain_open("127.0.0.1", &there);
    struct mate client;
    uint8_t byte;

    mate_open(&client, loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UDP4});
    for (unsigned interface = 0; interface <= lo; interface += lo) {
        const struct gyre_dgram_message message = {
            .to = &there, .data = "x", .len = 1, .from = &from, .interface = interface};

        assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
        plain_until(loop, server);
        assert_int_equal(plain_take(server, &byte, 1, &got), 1);
        assert_int_equal(got.in.sin_addr.s_addr, from.in.sin_addr.s_addr);
    }
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* To an address, and to the peer of a connected socket; each is @there over the socket's family. */
static void interface_alone_over(const struct gyre_addr *to, const struct gyre_addr *there)
{
    struct gyre_loop *loop = test_loop();
    const int server = plain_try(there, NULL);
    struct mate mates[2];
    uint8_t byte;

    assert_true(server >= 0);
    mate_open(&mates[0], loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UDP6});
    mate_open(&mates[1], loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UDP6, .peer = to});
    for (int i = 0; i < 2; i++) {
        const struct gyre_dgram_message message = {
            .to = i == 0 ? to : NULL, .data = "x", .len = 1, .interface = if_nametoindex("lo")};

        assert_int_equal(gyre_dgram_send_message(&mates[i].dgram, &message), 0);
        trial_turns(loop, 3);
        assert_int_equal(mates[i].errors, 0);
        plain_until(loop, server);
        assert_int_equal(plain_take(server, &byte, 1, NULL), 1);
    }
    mate_close(&mates[0]);
    mate_close(&mates[1]);
    close(server);
    test_loop_end(loop);
}

static void interface_alone_is_enough_over_v6(void)
{
    struct gyre_addr there = addr_v6("::1", 0);

    need_v6();
    close(plain_try(&there, &there));
    interface_alone_over(&there, &there);
}

static void interface_alone_is_enough_for_v4_over_v6(void)
{
    struct gyre_addr there;

    need_v6();
    close(plain_open("127.0.0.1", &there));
    const struct gyre_addr mapped = addr_v6("::ffff:127.0.0.1", addr_port(&there));
    interface_alone_over(&mapped, &there);
}

#define NOT_ALLOWED 99

/* Gives an interface an IPv6 address, and waits until it may be used. */
static int add_address(const struct gyre_addr *addr, int interface)
{
    struct in6_ifreq request = {
        .ifr6_addr = addr->in6.sin6_addr, .ifr6_prefixlen = 64, .ifr6_ifindex = interface};
    const int number = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int rc = ioctl(number, SIOCSIFADDR, &request);
    int user = -1;

    close(number);
    while (rc == 0 && user < 0) {
        user = plain_try(addr, NULL);
        sched_yield();
    }
    close(user);
    return rc;
}

static int bring_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    const int number = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int rc = ioctl(number, SIOCSIFFLAGS, &request);

    close(number);
    return rc;
}

/* In a process of its own, in a network namespace with nothing but a loopback interface, which gets
 * a link-local address and one of more than the link. */
static int answer_from_link_local(void *argument)
{
    struct gyre_addr here = addr_v6("fe80::7", 0);
    const struct gyre_addr wide = addr_v6("fd77::1", 0);
    const struct gyre_addr any = addr_v6("::", 0);
    struct gyre_addr from;
    struct mate server;
    uint8_t byte;

    (void)argument;
    if (unshare(CLONE_NEWNET) != 0 || bring_loopback_up() != 0) {
        return NOT_ALLOWED;
    }
    here.in6.sin6_scope_id = if_nametoindex("lo");
    if (add_address(&here, (int)here.in6.sin6_scope_id) != 0 ||
        add_address(&wide, (int)here.in6.sin6_scope_id) != 0) {
        return NOT_ALLOWED;
    }
    struct gyre_loop *loop = test_loop();
    const int client = plain_try(&wide, NULL);
    mate_open(&server, loop,
              (struct gyre_dgram_options){.local = &any, .flags = GYRE_DGRAM_PACKET_INFO});
    server.then = mate_echo;
    from = mate_addr(&server);
    here.in6.sin6_port = from.in6.sin6_port;
    plain_send(client, &here, "x", 1);
    mate_until(&server, 1);
    trial_turns(loop, 3);
    assert_int_equal(server.errors, 0);
    plain_until(loop, client);
    assert_int_equal(plain_take(client, &byte, 1, &from), 1);
    assert_memory_equal(&from.in6.sin6_addr, &here.in6.sin6_addr, sizeof(from.in6.sin6_addr));
    mate_close(&server);
    close(client);
    test_loop_end(loop);
    return 0;
}

static void info_of_a_link_local_address_answers_from_it(void)
{
    need_v6();
    test_skip_simulated("the simulated host has no link-local addresses");
    const int status = test_child_status(answer_from_link_local, NULL);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_ALLOWED) {
        test_skip("not allowed to make a network namespace");
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void ttl_and_tos_are_told(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const int ttl = 42;
    const int tos = 0x10;
    struct mate server;

    mate_open(
        &server, loop,
        (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_TTL | GYRE_DGRAM_TOS});
    assert_int_equal(setsockopt(client, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)), 0);
    assert_int_equal(setsockopt(client, IPPROTO_IP, IP_TOS, &tos, sizeof(tos)), 0);
    const struct gyre_addr there = mate_addr(&server);
    plain_send(client, &there, "x", 1);
    mate_until(&server, 1);
    assert_int_equal(server.last.ttl, ttl);
    assert_int_equal(server.last.tos, tos);
    assert_null(server.last.local);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void ttl_and_tos_are_told_over_v6(void)
{
    need_v6();
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v6("::1", 0);
    const int client = plain_try(&local, NULL);
    const int ttl = 42;
    const int tos = 0x10;
    struct mate server;

    mate_open(&server, loop,
              (struct gyre_dgram_options){.local = &local,
                                          .flags = GYRE_DGRAM_TTL | GYRE_DGRAM_TOS |
                                                   GYRE_DGRAM_PACKET_INFO | GYRE_DGRAM_GRO});
    assert_int_equal(setsockopt(client, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, sizeof(ttl)), 0);
    assert_int_equal(setsockopt(client, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos)), 0);
    const struct gyre_addr there = mate_addr(&server);
    plain_send(client, &there, "x", 1);
    mate_until(&server, 1);
    assert_int_equal(server.last.ttl, ttl);
    assert_int_equal(server.last.tos, tos);
    assert_non_null(server.last.local);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void add_bytes(struct mate *mate, const struct gyre_datagram *datagram)
{
    size_t *total = mate->context;

    assert_true(datagram->segment == 0 ? datagram->len <= 1000 : datagram->segment == 1000);
    wire_check(datagram->data, datagram->len, *total);
    *total += datagram->len;
}

static void gro_joins_datagrams_of_one_size(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    static uint8_t bytes[30500];
    size_t total = 0;
    int has;
    socklen_t len = sizeof(has);
    struct mate server;
    struct mate client;

    wire_fill(bytes, sizeof(bytes), 0);
    mate_open(&server, loop, (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_GRO});
    mate_open(&client, loop, (struct gyre_dgram_options){.local = &local});
    server.then = add_bytes;
    server.context = &total;
    const struct gyre_addr there = mate_addr(&server);
    const struct gyre_dgram_message message = {
        .to = &there, .data = bytes, .len = sizeof(bytes), .segment = 1000};
    assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
    while (total < sizeof(bytes)) {
        trial_turns(loop, 1);
    }
    assert_int_equal(total, sizeof(bytes));
    /* Over loopback they stay joined where the kernel has both, Linux 5.0. */
    assert_true(getsockopt(gyre_dgram_number(&server.dgram), SOL_UDP, UDP_GRO, &has, &len) < 0 ||
                server.datagrams < 31);
    mate_close(&server);
    mate_close(&client);
    test_loop_end(loop);
}

/* ---- families, ports ---- */

/* U11 */
static void dual_stack_serves_v4_unless_v6only(void)
{
    need_v6();
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr any = addr_v6("::", 0);
    struct gyre_addr mine;
    struct gyre_addr from;
    const int client = plain_open("127.0.0.1", &mine);
    struct mate dual;
    struct mate only;
    uint8_t byte;

    mate_open(&dual, loop, (struct gyre_dgram_options){.local = &any});
    mate_open(&only, loop, (struct gyre_dgram_options){.local = &any, .flags = GYRE_DGRAM_V6ONLY});
    dual.then = mate_echo;
    const struct gyre_addr dual_addr = mate_addr(&dual);
    const struct gyre_addr only_addr = mate_addr(&only);
    const struct gyre_addr there = addr_v4("127.0.0.1", addr_port(&dual_addr));
    plain_send(client, &there, "x", 1);
    mate_until(&dual, 1);
    assert_int_equal(dual.from.any.sa_family, AF_INET6);
    assert_true(IN6_IS_ADDR_V4MAPPED(&dual.from.in6.sin6_addr));
    plain_until(loop, client);
    assert_int_equal(plain_take(client, &byte, 1, &from), 1);
    addr_same(&from, &there);
    const struct gyre_addr none = addr_v4("127.0.0.1", addr_port(&only_addr));
    plain_send(client, &none, "x", 1);
    plain_send(client, &there, "x", 1);
    mate_until(&dual, 2);
    trial_turns(loop, 3);
    assert_int_equal(only.datagrams, 0);
    mate_close(&dual);
    mate_close(&only);
    close(client);
    test_loop_end(loop);
}

/* U12 */
static void reuse_port_spreads_senders(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr local = addr_v4("127.0.0.1", 0);
    struct mate servers[2];

    for (int i = 0; i < 2; i++) {
        mate_open(&servers[i], loop,
                  (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_REUSE_PORT});
        local = mate_addr(&servers[i]);
    }
    for (int i = 0; i < 64; i++) {
        const int client = plain_open("127.0.0.1", NULL);

        plain_send(client, &local, "x", 1);
        close(client);
    }
    while (servers[0].datagrams + servers[1].datagrams < 64) {
        trial_turns(loop, 1);
    }
    assert_true(servers[0].datagrams > 0);
    assert_true(servers[1].datagrams > 0);
    mate_close(&servers[0]);
    mate_close(&servers[1]);
    test_loop_end(loop);
}

static void broadcast_needs_its_flag(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr any = addr_v4("0.0.0.0", 0);
    struct mate server;
    struct mate plain;
    struct mate loud;

    mate_open(&server, loop, (struct gyre_dgram_options){.local = &any});
    mate_open(&plain, loop, (struct gyre_dgram_options){.local = &any});
    mate_open(&loud, loop,
              (struct gyre_dgram_options){.local = &any, .flags = GYRE_DGRAM_BROADCAST});
    const struct gyre_addr bound = mate_addr(&server);
    const struct gyre_addr all = addr_v4("127.255.255.255", addr_port(&bound));
    assert_int_equal(gyre_dgram_send(&plain.dgram, &all, "x", 1), 0);
    test_turns_until(loop, &plain.errors);
    assert_int_equal(plain.error, -EACCES);
    assert_int_equal(gyre_dgram_send(&loud.dgram, &all, "y", 1), 0);
    mate_until(&server, 1);
    assert_int_equal(server.bytes[0], 'y');
    assert_int_equal(loud.errors, 0);
    mate_close(&server);
    mate_close(&plain);
    mate_close(&loud);
    test_loop_end(loop);
}

/* ---- multicast ---- */

struct members {
    struct gyre_loop *loop;
    struct mate in[2];
    struct mate out;
    struct gyre_addr group;
    unsigned interface;
};

static void group_options(struct members *members, int level, int ttl_option)
{
    const int number = gyre_dgram_number(&members->out.dgram);
    int value = -1;
    socklen_t len = sizeof(value);

    assert_int_equal(gyre_dgram_set_multicast_ttl(&members->out.dgram, 0), 0);
    assert_int_equal(getsockopt(number, level, ttl_option, &value, &len), 0);
    assert_int_equal(value, 0);
    assert_int_equal(gyre_dgram_set_multicast_ttl(&members->out.dgram, 256), -EINVAL);
    assert_int_equal(gyre_dgram_set_multicast_ttl(&members->out.dgram, 3), 0);
    assert_int_equal(getsockopt(number, level, ttl_option, &value, &len), 0);
    assert_int_equal(value, 3);
    assert_int_equal(gyre_dgram_set_multicast_loop(&members->out.dgram, 2), -EINVAL);
    assert_int_equal(gyre_dgram_set_multicast_loop(&members->out.dgram, 0), 0);
    assert_int_equal(gyre_dgram_set_multicast_loop(&members->out.dgram, 1), 0);
    assert_int_equal(gyre_dgram_set_multicast_interface(&members->out.dgram, members->interface),
                     0);
}

static void group_send(struct members *members, int expected)
{
    assert_int_equal(gyre_dgram_send(&members->out.dgram, &members->group, "x", 1), 0);
    for (int i = 0; i < 2; i++) {
        mate_until(&members->in[i], expected);
    }
    assert_int_equal(members->out.errors, 0);
}

static void group_over(struct members *members, const struct gyre_addr *any, int level,
                       int ttl_option)
{
    struct gyre_addr local = *any;

    members->loop = test_loop();
    for (int i = 0; i < 2; i++) {
        mate_open(&members->in[i], members->loop,
                  (struct gyre_dgram_options){
                      .local = &local, .flags = GYRE_DGRAM_REUSE_ADDR | GYRE_DGRAM_PACKET_INFO});
        local = mate_addr(&members->in[i]);
        assert_int_equal(
            gyre_dgram_join(&members->in[i].dgram, &members->group, members->interface), 0);
    }
    if (any->any.sa_family == AF_INET) {
        members->group.in.sin_port = local.in.sin_port;
    } else {
        members->group.in6.sin6_port = local.in6.sin6_port;
    }
    mate_open(&members->out, members->loop, (struct gyre_dgram_options){.local = any});
    group_options(members, level, ttl_option);
    group_send(members, 1);
    assert_int_equal(members->in[0].last.interface, members->interface);
    group_send(members, 2);
    assert_int_equal(gyre_dgram_join(&members->in[0].dgram, &members->group, members->interface),
                     -EADDRINUSE);
    assert_int_equal(gyre_dgram_leave(&members->in[0].dgram, &members->group, members->interface),
                     0);
    assert_int_equal(gyre_dgram_leave(&members->in[0].dgram, &members->group, members->interface),
                     -EADDRNOTAVAIL);
    assert_int_equal(gyre_dgram_join(&members->in[0].dgram, any, members->interface), -EINVAL);
    assert_int_equal(gyre_dgram_join(&members->in[0].dgram, NULL, 0), -EINVAL);
    for (int i = 0; i < 2; i++) {
        mate_close(&members->in[i]);
    }
    mate_close(&members->out);
    test_loop_end(members->loop);
}

/* U10 */
static void multicast_v4_reaches_the_members(void)
{
    static struct members members;
    const struct gyre_addr any = addr_v4("0.0.0.0", 0);

    members.group = addr_v4("239.255.77.77", 0);
    members.interface = if_nametoindex("lo");
    group_over(&members, &any, IPPROTO_IP, IP_MULTICAST_TTL);
}

/* An interface that has a route for IPv6 multicast, or 0. */
static unsigned multicast_interface(const struct gyre_addr *group)
{
    struct if_nameindex *all = if_nameindex();
    unsigned found = 0;

    for (size_t i = 0; all != NULL && all[i].if_index != 0 && found == 0; i++) {
        const int number = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct gyre_addr to = *group;

        to.in6.sin6_scope_id = all[i].if_index;
        to.in6.sin6_port = htons(9);
        found = connect(number, &to.any, to.len) == 0 ? all[i].if_index : 0;
        close(number);
    }
    if_freenameindex(all);
    return found;
}

/* U10 */
static void multicast_v6_reaches_the_members(void)
{
    static struct members members;
    const struct gyre_addr any = addr_v6("::", 0);

    need_v6();
    members.group = addr_v6("ff02::7777", 0);
    members.interface = multicast_interface(&members.group);
    if (members.interface == 0) {
        test_skip("no interface has a route for IPv6 multicast");
    }
    members.group.in6.sin6_scope_id = members.interface;
    group_over(&members, &any, IPPROTO_IPV6, IPV6_MULTICAST_HOPS);
}

/* An IPv6 socket sends to IPv4 groups by mapped addresses. */
static void multicast_v4_over_v6_obeys_the_options(void)
{
    need_v6();
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr any = addr_v4("0.0.0.0", 0);
    const struct gyre_addr group = addr_v4("239.255.77.78", 0);
    const unsigned lo = if_nametoindex("lo");
    struct mate in;
    struct mate out;
    int ttl = -1;
    int looped = -1;
    socklen_t len = sizeof(ttl);

    mate_open(&in, loop,
              (struct gyre_dgram_options){.local = &any, .flags = GYRE_DGRAM_PACKET_INFO});
    assert_int_equal(gyre_dgram_join(&in.dgram, &group, lo), 0);
    mate_open(&out, loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UDP6});
    assert_int_equal(gyre_dgram_set_multicast_interface(&out.dgram, lo), 0);
    assert_int_equal(gyre_dgram_set_multicast_ttl(&out.dgram, 3), 0);
    assert_int_equal(gyre_dgram_set_multicast_loop(&out.dgram, 0), 0);
    const int number = gyre_dgram_number(&out.dgram);
    assert_int_equal(getsockopt(number, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, &len), 0);
    assert_int_equal(ttl, 3);
    assert_int_equal(getsockopt(number, IPPROTO_IP, IP_MULTICAST_LOOP, &looped, &len), 0);
    assert_int_equal(looped, 0);
    assert_int_equal(gyre_dgram_set_multicast_loop(&out.dgram, 1), 0);
    const struct gyre_addr local = mate_addr(&in);
    const struct gyre_addr to = addr_v6("::ffff:239.255.77.78", addr_port(&local));
    assert_int_equal(gyre_dgram_send(&out.dgram, &to, "x", 1), 0);
    trial_turns(loop, 3);
    assert_int_equal(out.errors, 0);
    mate_until(&in, 1);
    assert_int_equal(in.last.interface, lo);
    mate_close(&in);
    mate_close(&out);
    test_loop_end(loop);
}

/* ---- ICMP ---- */

static uint16_t checksum(const uint8_t *bytes, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static const uint8_t ping_text[8] = "gyreping";

static void look_for_pong(struct mate *mate, const struct gyre_datagram *datagram)
{
    const uint8_t *bytes = datagram->data;
    const int *type = mate->context;

    if (datagram->len == 16 && bytes[0] == *type && memcmp(bytes + 8, ping_text, 8) == 0) {
        mate->next = 1;
    }
}

/* A raw socket gets every ICMP message of the host. Those that other tests cause would fill its
 * receive buffer, with no room left for the reply; and may have, before the filter was there. */
static void take_only(int number, int type)
{
    enum { FILTER = 1 }; /* ICMP_FILTER of linux/icmp.h, which excludes netinet/ip_icmp.h */
    struct icmp6_filter filter;
    uint8_t byte;

    if (type == ICMP6_ECHO_REPLY) {
        ICMP6_FILTER_SETBLOCKALL(&filter);
        ICMP6_FILTER_SETPASS(type, &filter);
        assert_int_equal(setsockopt(number, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)),
                         0);
    } else {
        const uint32_t refused = ~(1U << type);

        assert_int_equal(setsockopt(number, SOL_RAW, FILTER, &refused, sizeof(refused)), 0);
    }
    while (recv(number, &byte, 1, MSG_DONTWAIT) >= 0) {
    }
    assert_int_equal(errno, EAGAIN);
}

static void ping(enum gyre_dgram_kind kind, const struct gyre_addr *to, int request, int reply)
{
    struct gyre_loop *loop = test_loop();
    uint8_t packet[16] = {(uint8_t)request, 0, 0, 0, 0x12, 0x34, 0, 1};
    struct mate client;
    const uint32_t flags =
        GYRE_DGRAM_PACKET_INFO | GYRE_DGRAM_TTL | GYRE_DGRAM_TOS | GYRE_DGRAM_ERROR_DETAIL;
    const int rc =
        mate_try(&client, loop, (struct gyre_dgram_options){.kind = kind, .flags = flags});

    if (rc == -EACCES || rc == -EPERM) {
        test_loop_end(loop);
        test_skip("neither ping sockets nor raw sockets are allowed");
    }
    assert_int_equal(rc, 0);
    client.then = look_for_pong;
    client.context = &reply;
    memcpy(packet + 8, ping_text, 8);
    if (kind == GYRE_DGRAM_ICMP4) {
        const uint16_t sum = checksum(packet, sizeof(packet));

        packet[2] = (uint8_t)(sum >> 8);
        packet[3] = (uint8_t)sum;
    }
    if (gyre_dgram_is_raw(&client.dgram)) {
        take_only(gyre_dgram_number(&client.dgram), reply);
    }
    assert_int_equal(gyre_dgram_send(&client.dgram, to, packet, sizeof(packet)), 0);
    while (client.next == 0) {
        assert_true(gyre_loop_run(loop, GYRE_RUN_ONCE) >= 0);
    }
    assert_int_equal(client.errors, 0);
    assert_true(client.last.ttl > 0);
    assert_true(client.last.tos >= 0);
    assert_non_null(client.last.local);
    mate_close(&client);
    test_loop_end(loop);
}

static void icmp_v4_echo_is_answered(void)
{
    const struct gyre_addr to = addr_v4("127.0.0.1", 0);

    ping(GYRE_DGRAM_ICMP4, &to, ICMP_ECHO, ICMP_ECHOREPLY);
}

static void icmp_v6_echo_is_answered(void)
{
    const struct gyre_addr to = addr_v6("::1", 0);

    need_v6();
    ping(GYRE_DGRAM_ICMP6, &to, ICMP6_ECHO_REQUEST, ICMP6_ECHO_REPLY);
}

/* A raw IPv4 socket gets the IP header too; the handler must not. */
static void icmp_raw_adopted_delivers_from_the_icmp_header(void)
{
    const int number = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);

    if (number < 0) {
        test_skip("raw sockets are not allowed");
    }
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_options options = {.handler = &mate_handler};
    const struct gyre_addr to = addr_v4("127.0.0.1", 0);
    uint8_t packet[16] = {ICMP_ECHO, 0, 0, 0, 0x56, 0x78, 0, 1};
    int reply = ICMP_ECHOREPLY;
    static struct mate client;

    take_only(number, reply);
    client.loop = loop;
    assert_int_equal(gyre_dgram_adopt(&client.dgram, loop, number, &options), 0);
    assert_int_equal(gyre_dgram_is_raw(&client.dgram), 1);
    client.then = look_for_pong;
    client.context = &reply;
    memcpy(packet + 8, ping_text, 8);
    const uint16_t sum = checksum(packet, sizeof(packet));
    packet[2] = (uint8_t)(sum >> 8);
    packet[3] = (uint8_t)sum;
    assert_int_equal(gyre_dgram_send(&client.dgram, &to, packet, sizeof(packet)), 0);
    while (client.next == 0) {
        assert_true(gyre_loop_run(loop, GYRE_RUN_ONCE) >= 0);
    }
    mate_close(&client);
    test_loop_end(loop);
}

/* Of a receive_max that ends in the IP header nothing is left. */
static void icmp_raw_never_delivers_from_the_ip_header(void)
{
    static const size_t most[] = {1, 19, 20, 21};
    const int tries = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);

    if (tries < 0) {
        test_skip("raw sockets are not allowed");
    }
    close(tries);
    for (size_t i = 0; i < TEST_COUNT(most); i++) {
        struct gyre_loop *loop = test_loop();
        const struct gyre_dgram_options options = {.handler = &mate_handler,
                                                   .receive_max = most[i]};
        const int number = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
        const struct gyre_addr to = addr_v4("127.0.0.1", 0);
        const uint8_t packet[16] = {ICMP_TIMESTAMPREPLY};
        static struct mate mate;

        memset(&mate, 0, sizeof(mate));
        mate.loop = loop;
        assert_int_equal(gyre_dgram_adopt(&mate.dgram, loop, number, &options), 0);
        assert_int_equal(gyre_dgram_send(&mate.dgram, &to, packet, sizeof(packet)), 0);
        test_turns_until(loop, &mate.datagrams);
        assert_int_equal(mate.last.len, most[i] <= 20 ? 0 : most[i] - 20);
        assert_int_equal(mate.last.flags, GYRE_DGRAM_TRUNCATED);
        mate_close(&mate);
        test_loop_end(loop);
    }
}

/* ---- adoption ---- */

static void adopt_takes_a_socket_over_and_closes_it(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_options options = {.handler = &mate_handler};
    struct gyre_addr there;
    struct gyre_addr mine;
    const int number = plain_open("127.0.0.1", &there);
    const int client = plain_open("127.0.0.1", &mine);
    static struct mate server;

    server.loop = loop;
    server.then = mate_echo;
    assert_int_equal(connect(number, &mine.any, mine.len), 0);
    assert_int_equal(gyre_dgram_adopt(&server.dgram, loop, number, &options), 0);
    assert_int_equal(gyre_dgram_number(&server.dgram), number);
    plain_send(client, &there, "x", 1);
    mate_until(&server, 1);
    plain_until(loop, client);
    assert_int_equal(gyre_dgram_send(&server.dgram, NULL, "peer", 4), 0);
    trial_turns(loop, 1);
    mate_close(&server);
    assert_int_equal(fcntl(number, F_GETFD), -1);
    assert_int_equal(gyre_dgram_number(&server.dgram), -EBADF);
    close(client);
    test_loop_end(loop);
}

static void adopt_can_make_a_socket_v6_only(void)
{
    struct gyre_loop *loop;
    struct gyre_dgram_options options = {.handler = &mate_handler, .flags = GYRE_DGRAM_V6ONLY};
    static struct mate mate;
    int only = 0;
    socklen_t len = sizeof(only);

    need_v6();
    loop = test_loop();
    mate.loop = loop;
    const int number = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(gyre_dgram_adopt(&mate.dgram, loop, number, &options), 0);
    assert_int_equal(getsockopt(number, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len), 0);
    assert_int_equal(only, 1);
    mate_close(&mate);
    test_loop_end(loop);
}

static void joined_or_single(struct mate *mate, const struct gyre_datagram *datagram)
{
    assert_true(datagram->len <= 1000 || datagram->segment == 1000);
    mate->next += (uint32_t)datagram->len;
}

static void adopt_finds_out_that_datagrams_may_come_joined(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_dgram_options options = {.handler = &mate_handler};
    struct gyre_addr there;
    const int number = plain_open("127.0.0.1", &there);
    static uint8_t bytes[3000];
    static struct mate server;
    struct mate client;
    int on = 1;
    socklen_t len = sizeof(on);

    if (setsockopt(number, SOL_UDP, UDP_GRO, &on, sizeof(on)) < 0 ||
        getsockopt(number, SOL_UDP, UDP_GRO, &on, &len) < 0) {
        close(number);
        test_loop_end(loop);
        test_skip("UDP_GRO is not known here");
    }
    server.loop = loop;
    server.then = joined_or_single;
    assert_int_equal(gyre_dgram_adopt(&server.dgram, loop, number, &options), 0);
    mate_open(&client, loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UDP4});
    const struct gyre_dgram_message message = {
        .to = &there, .data = bytes, .len = sizeof(bytes), .segment = 1000};
    assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
    while (server.next < sizeof(bytes)) {
        trial_turns(loop, 1);
    }
    mate_close(&server);
    mate_close(&client);
    test_loop_end(loop);
}

/* Errors that nobody took would fill the receive buffer, with room left for one datagram. */
static void adopt_takes_the_errors_of_a_socket_that_queues_them(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_dgram_options options = {.handler = &mate_handler};
    struct gyre_addr there;
    const int number = plain_open("127.0.0.1", &there);
    const int client = plain_open("127.0.0.1", NULL);
    const struct gyre_addr nowhere = nobody();
    static struct mate server;
    const int on = 1;

    assert_int_equal(setsockopt(number, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
    server.loop = loop;
    assert_int_equal(gyre_dgram_adopt(&server.dgram, loop, number, &options), 0);
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 10; k++) {
            assert_int_equal(gyre_dgram_send(&server.dgram, &nowhere, "lost", 4), 0);
        }
        trial_turns(loop, 2);
    }
    plain_send_numbers(client, &there, 0, 50, 10);
    mate_until(&server, 50);
    assert_true(server.errors > 0);
    addr_same(&server.error_to, &nowhere);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void adopt_refuses_what_is_no_datagram_socket(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_options options = {.handler = &mate_handler};
    struct gyre_dgram dgram;
    const int tcp = wire_tcp();
    int ends[2];

    wire_pipe(ends);
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, tcp, &options), -EPROTOTYPE);
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, ends[0], &options), -ENOTSOCK);
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, -1, &options), -EBADF);
    options.kind = GYRE_DGRAM_UDP4;
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, tcp, &options), -EINVAL);
    assert_int_equal(close(tcp), 0);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(info_v4_tells_the_address_and_the_reply_leaves_from_it),
        TEST_CASE(info_v6_tells_the_address_and_the_reply_leaves_from_it),
        TEST_CASE(info_of_v4_over_v6_tells_the_mapped_address),
        TEST_CASE(info_of_a_broadcast_answers_from_the_interface),
        TEST_CASE(info_of_a_broadcast_over_v6_answers_from_the_interface),
        TEST_CASE(interface_alone_is_enough_over_v6),
        TEST_CASE(interface_alone_is_enough_for_v4_over_v6),
        {"info_of_a_link_local_address_answers_from_it",
         info_of_a_link_local_address_answers_from_it, 60}, /* a namespace takes its time */
        TEST_CASE(source_address_is_the_one_asked_for),
        TEST_CASE(ttl_and_tos_are_told),
        TEST_CASE(ttl_and_tos_are_told_over_v6),
        TEST_CASE(gro_joins_datagrams_of_one_size),
        TEST_CASE(dual_stack_serves_v4_unless_v6only),
        TEST_CASE(reuse_port_spreads_senders),
        TEST_CASE(broadcast_needs_its_flag),
        TEST_CASE(multicast_v4_reaches_the_members),
        TEST_CASE(multicast_v6_reaches_the_members),
        TEST_CASE(multicast_v4_over_v6_obeys_the_options),
        TEST_CASE(icmp_v4_echo_is_answered),
        TEST_CASE(icmp_v6_echo_is_answered),
        TEST_CASE(icmp_raw_adopted_delivers_from_the_icmp_header),
        TEST_CASE(icmp_raw_never_delivers_from_the_ip_header),
        TEST_CASE(adopt_takes_a_socket_over_and_closes_it),
        TEST_CASE(adopt_can_make_a_socket_v6_only),
        TEST_CASE(adopt_finds_out_that_datagrams_may_come_joined),
        TEST_CASE(adopt_takes_the_errors_of_a_socket_that_queues_them),
        TEST_CASE(adopt_refuses_what_is_no_datagram_socket),
    };

    return test_main("net-dgram-options", cases, TEST_COUNT(cases));
}
