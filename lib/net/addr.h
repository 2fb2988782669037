/* What addr.c shares with its neighbours. */
#ifndef GYRE_NET_ADDR_H
#define GYRE_NET_ADDR_H

/* A port as text: one to five digits, no sign, no leading zero. Returns it, -EINVAL, or -ERANGE
 * above 65535. */
int gyre__addr_read_port(const char *text);

#endif
