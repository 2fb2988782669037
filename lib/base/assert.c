#include "base/assert.h"

#include <stdlib.h>

/* Not static and not const: `print gyre__assertion` in a debugger or on a core file. */
struct gyre__assertion {
    const char *condition;
    const char *file;
    int line;
};
extern volatile struct gyre__assertion gyre__assertion;
volatile struct gyre__assertion gyre__assertion;

_Noreturn void gyre__assert_failed(const char *condition, const char *file, int line)
{
    gyre__assertion.condition = condition;
    gyre__assertion.file = file;
    gyre__assertion.line = line;
    abort();
}
