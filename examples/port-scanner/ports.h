/* Lists of ports, as people write them: "22,80,8000-8080". */
#ifndef EXAMPLE_PORTS_H
#define EXAMPLE_PORTS_H

#include <stddef.h>
#include <stdint.h>

enum { PORTS_MAX = 65535 };

/* Reads a list into ports, in rising order, each once. Returns how many; 0: it is not a list. */
size_t ports_parse(const char *text, uint16_t ports[PORTS_MAX]);

#endif
