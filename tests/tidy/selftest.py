"""The checks of this directory go red: each is shown a clean sample, then small violations.

Every case starts from the same clean tree, changes one file of it and runs the check to its exit
code. That must be 1, with the words that the case expects; on the clean tree, and for what looks
like a violation but is none, 0.
"""

import argparse
import contextlib
import importlib
import io
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import common

STYLE = """\
BasedOnStyle: LLVM
IndentWidth: 4
ColumnLimit: 100
BreakBeforeBraces: Linux
"""
HEADER = """\
/* A sample. */
#ifndef GYRE_THING_H
#define GYRE_THING_H

#include <gyre/base.h>

GYRE_BEGIN

/**
 * struct gyre_thing - a thing.
 * @count: how many.
 */
struct gyre_thing {
    int count;
};

/**
 * gyre_thing_fn() - a thing happened.
 */
typedef void (*gyre_thing_fn)(struct gyre_thing *thing);

/**
 * gyre_thing_make() - make it.
 * Returns: 0.   Thread: any.
 * Source: docs/thing.md.
 */
GYRE_API int gyre_thing_make(struct gyre_thing *thing);

GYRE_END

#endif
"""
BASE = """\
#ifndef GYRE_BASE_H
#define GYRE_BASE_H

#if defined(__cplusplus)
#define GYRE_BEGIN extern "C" {
#define GYRE_END }
#else
#define GYRE_BEGIN
#define GYRE_END
#endif
#define GYRE_API __attribute__((visibility("default")))

#endif
"""
SOURCE = """\
#include "core/thing.h"

#include <gyre/thing.h>

/* Calls of sprintf(), exit() and socket() in a comment, or in "a string: abort()", are none. */
int gyre_thing_make(struct gyre_thing *thing)
{
    if (thing->count > 0) {
        return 0;
    }
    do {
        thing->count++;
    } while (thing->count < 3);
    return gyre__thing_open(gyre__sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}
"""
CLEAN = {
    ".clang-format": STYLE,
    "include/gyre.h": "#ifndef GYRE_H\n#define GYRE_H\n\n#include <gyre/base.h>\n"
                      "#include <gyre/thing.h>\n\n#endif\n",
    "include/gyre/base.h": BASE,
    "include/gyre/thing.h": HEADER,
    "lib/meson.build": "library('gyre', 'core/thing.c')\n",
    "lib/gyre.map": "GYRE_0 {\nglobal:\n    gyre_thing_make;\nlocal:\n    *;\n};\n",
    "lib/base/list.h": "int gyre__list_empty(void);\n",
    "lib/core/thing.h": '#include "base/list.h"\n\nint gyre__thing_open(int fd);\n',
    "lib/core/thing.c": SOURCE,
    "lib/backend/select.c": '#include "backend/epoll/driver.h"\n'
                            '#include "backend/uring/driver.h"\n',
    "lib/backend/epoll/driver.h": '#include "core/thing.h"\n\nint gyre__epoll(void);\n',
    "lib/backend/uring/driver.h": '#include "core/thing.h"\n\nint gyre__uring(void);\n',
    "lib/dns/dns.h": "int gyre__dns(void);\n",
    "lib/net/stream.c": '#include "core/thing.h"\n\n#include <gyre/thing.h>\n',
    "examples/echo.c": "#include <gyre.h>\n",
    "docs/thing.md": "# Thing\n",
}
SOURCES = ("lib/core/thing.c", "lib/backend/select.c", "lib/net/stream.c", "examples/echo.c")
DEFINITION = "int gyre_thing_make(void *thing) { return thing != 0; }\n"
EXPORTED = DEFINITION.replace("int ", '__attribute__((visibility("default"))) int ', 1)


def body(lines):
    return "static int f(int x)\n{\n" + "".join(lines) + "    return x;\n}\n"


LONG = body(["    x++;\n"] * 75)
FLAT_SWITCH = body(["    switch (x) {\n"] + ["    case %d:\n        return %d;\n" % (n, n + 1)
                                             for n in range(40)] + ["    }\n"])
FAT_CASE = body(["    switch (x) {\n    case 0:\n"] + ["        x++;\n"] * 75 + ["    }\n"])
FLAT_TABLE = body(["    static const int table[] = {\n"] + ["        %d,\n" % n for n in range(80)]
                  + ["    };\n    x = table[x];\n"])

# check, file, what it has instead of the clean text, words of the expected output ("" = passes).
CASES = [
    ("format", "lib/core/thing.c", "int  f( void );\n", "not formatted"),
    ("format", ".clang-format", "NoSuchKey: 1\n", "refuses"),
    ("includes", "lib/base/list.h", '#include "core/thing.h"\n\nint a;\n',
     "base must not include core"),
    ("includes", "lib/core/thing.c", '#include "backend/epoll/driver.h"\n',
     "core must not include"),
    ("includes", "lib/core/thing.c", '#include "../net/list.h"\n', "no such file"),
    ("includes", "lib/net/stream.c", '#include "backend/epoll/driver.h"\n', "net must not include"),
    ("includes", "lib/backend/epoll/driver.c",
     '#include "driver.h"\n#include "backend/uring/driver.h"\n', "select.c alone"),
    ("includes", "lib/backend/other.c", '#include "backend/uring/driver.h"\n', "select.c alone"),
    ("includes", "lib/core/thing.c", "int a = gyre__epoll_wait(1);\n", "select.c alone"),
    ("includes", "lib/backend/select.c", "int a = gyre__epoll_wait(1);\n", ""),
    ("includes", "lib/backend/uring/driver.h", "int a = gyre__epoll(1);\n", "select.c alone"),
    ("includes", "lib/tls/tls.c", '#include "dns/dns.h"\n', "tls must not include dns"),
    ("includes", "lib/odd/odd.c", '#include "base/list.h"\n', "no layer"),
    ("includes", "lib/base/list.h", "#include <gyre/thing.h>\n\nint a;\n",
     "base must not include core"),
    ("includes", "lib/core/thing.c", "#include <gyre.h>\n", "gyre.h is for users"),
    ("includes", "lib/core/all.h", '#include "base/list.h"\n#include "core/thing.h"\n', "umbrella"),
    ("includes", "lib/core/thing.h", '#include "core/thing2.h"\n\nint a;\n', "no such file"),
    ("includes", "lib/base/list.h", '#include "list.h"\n\nint a;\n', "cycle"),
    ("includes", "include/gyre/base.h", "#include <liburing.h>\n", "must not need liburing"),
    ("includes", "include/gyre/base.h", '#include "../../lib/base/list.h"\n', "not installed"),
    ("includes", "include/gyre/new.h", "int a;\n", "does not include <gyre/new.h>"),
    ("includes", "include/gyre.h", "#include <gyre/base.h>\n#include <gyre/thing.h>\nint a;\n",
     "only includes the others"),
    ("includes", "examples/echo.c", '#include "core/thing.h"\n', "public headers only"),
    ("includes", "tests/unit.c", '#include "core/thing.h"\n', ""),
    ("headers-c", "include/gyre/thing.h", "size_t gyre_thing(void);\n", "does not compile alone"),
    ("headers-c", "include/gyre/thing.h", "struct gyre_thing {\n};\n", "does not compile alone"),
    ("headers-cxx", "include/gyre/thing.h", "int gyre_thing(int class);\n",
     "does not compile alone"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace("   Thread: any", ""), "lacks Thread:"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace("Source:", "See"), "lacks Source:"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace("Returns: 0.", ""), "lacks Returns:"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace("gyre_thing_make() -", "makes it:"),
     "must begin"),
    ("doclabels", "include/gyre/thing.h",
     HEADER.replace("/**\n * gyre_thing_make", "/*\n * gyre_thing_make"), "must begin with /**"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace(" */\nGYRE_API", " */\n\nGYRE_API"),
     "no comment"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace("gyre_thing_fn() - ", ""), "must begin"),
    ("doclabels", "include/gyre/thing.h", HEADER.replace("struct gyre_thing - ", ""), "must begin"),
    ("doclabels", "include/gyre/thing.h", HEADER + "int gyre_more(void);\n", "no comment"),
    ("doclabels", "include/gyre/thing.h", HEADER + "enum gyre_more {\n    GYRE_A,\n};\n",
     "no comment"),
    ("doclabels", "include/gyre/thing.h",
     HEADER + "static inline int gyre_more(void)\n{\n    return 1;\n}\n", "no comment"),
    ("doclabels", "include/gyre/thing.h",
     HEADER + "/* Never touched by the caller. */\nstruct gyre_more {\n    int a;\n};\n", ""),
    ("length", "lib/core/thing.c", LONG, "f() has 76 lines"),
    ("length", "lib/core/thing.c", FAT_CASE, "f() has"),
    ("length", "lib/core/thing.c", FLAT_SWITCH, ""),
    ("length", "lib/core/thing.c", FLAT_TABLE, ""),
    ("text", "lib/core/thing.c", "int a; \n", "trailing white space"),
    ("text", "lib/core/thing.c", "int a;\r\n", "trailing white space"),
    ("text", "lib/core/thing.c", "int\ta;\n", "a tab"),
    ("text", "lib/core/thing.c", "int a;", "exactly one newline"),
    ("text", "lib/core/thing.c", "int a; /* FIX" "ME: later */\n", "a note"),
    ("text", "lib/meson.build", "# TO" "DO\n", "a note"),
    ("text", "lib/core/thing.c", "/* see docs/absent.md */\n", "does not exist"),
    ("text", "lib/core/thing.c", "void f(int x)\n{\n    if (x)\n        f(0);\n}\n",
     "without braces"),
    ("text", "lib/core/thing.c", "void f(int x)\n{\n    if (x) {\n    } else\n        f(0);\n}\n",
     "without braces"),
    ("text", "lib/core/thing.c", "void f(int x)\n{\n    while (x)\n        x--;\n}\n",
     "without braces"),
    ("text", "lib/core/thing.c", 'static const char name[] = "/tmp/gyre-XXXXXX";\n', ""),
    ("listed", "lib/core/stray.c", "int a;\n", "compiled by nothing"),
    ("listed", "tests/stray.c", "int a;\n", "compiled by nothing"),
    ("exports", "library", EXPORTED.replace("thing_make", "thing_other"),
     "declared but not exported"),
    ("exports", "library", EXPORTED + "int gyre__leaked = 1;\n",
     "exported but in no public header"),
    ("exports", "library", "int recv(int, void *, unsigned long, int);\n"
     + EXPORTED.replace("thing != 0", "recv(1, thing, 2, 3)"), "recv() is imported"),
    ("exports", "lib/gyre.map", "GYRE_0 {\nglobal:\n    gyre_thing_make;\n};\n", "does not hide"),
    ("exports", "lib/gyre.map", "GYRE_0 {\nglobal:\n    gyre_gone;\nlocal:\n    *;\n};\n",
     "gyre_gone is declared in no"),
]
CASES += [("banned", "lib/core/thing.c", "int a = %s;\n" % call, "is banned") for call in (
    "strcpy(d, s)", "strcat(d, s)", "sprintf(d, s)", "vsprintf(d, s, v)", "atoi(s)", "gets(s)",
    "usleep(1)", "sleep(1)", "exit(1)", "_exit(1)", "abort()", "printf(s)", "puts(s)",
    "fprintf(stderr, s)", "perror(s)", "signal(2, f)", "sigaction(2, 0, 0)", "accept(1, 0, 0)",
    "dup(1)", "epoll_create(1)", "assert(s)", "nanosleep(t, 0)", "recv(1, d, 2, 0)", "close(1)",
    "clock_gettime(1, t)", "syscall(1)", "GYRE__SYSCALL(recvfrom, fd, d, 2, 0, 0, 0)")]
CASES += [("banned", "lib/core/thing.c", "int a = %s;\n" % call, "CLOEXEC") for call in (
    "gyre__sys_socket(AF_INET, SOCK_STREAM, 0)", "gyre__sys_accept4(1, 0, 0, SOCK_NONBLOCK)",
    "gyre__sys_eventfd(0, 0)", "gyre__sys_epoll_create1(0)", "pipe2(p, 0)",
    "gyre__sys_timerfd_create(1, TFD_NONBLOCK)", "gyre__sys_socketpair(1, 1, 0, p)")]
CASES += [("banned", "examples/echo.c", 'int a = open("/dev/null", O_RDONLY);\n', "CLOEXEC")]
CASES += [
    ("banned", "examples/echo.c", "int a = strcpy(d, s);\n", "is banned"),
    ("banned", "tests/unit.c", "int a = sleep(1);\n", "is banned"),
]
CASES += [("banned", path, text, "") for path, text in (
    ("examples/echo.c", "int a = printf(s) + exit(1) + signal(2, f);\n"),
    ("lib/base/assert.c", "int a = fprintf(stderr, s) + abort();\n"),
    ("lib/core/thing.c", "int a = ops->open(x) + ops.socket(y) + gyre__accept(z);\n"),
    ("lib/core/thing.c", "int a = gyre__sys_socket(AF_INET,\n    SOCK_STREAM | SOCK_CLOEXEC, 0);\n"),
    ("lib/core/thing.c", "int type = x | SOCK_CLOEXEC;\nint a = gyre__sys_socket(AF_INET, type, 0);\n"),
    ("lib/sim/thing.c", "int a = close(1) + madvise(m, 1, 2);\n"))]
CHECKS = ("format", "includes", "headers-c", "headers-cxx", "doclabels", "length", "banned", "text",
          "listed", "exports")


def plant(root, changes):
    """Write the clean tree with these changes, and what the build would have written about it."""
    for name, text in {**CLEAN, **changes}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    info = root / "build" / "meson-info"
    info.mkdir(parents=True)
    sources = [str(root / name) for name in SOURCES]
    targets = [{"target_sources": [{"sources": sources}]}]
    (info / "intro-targets.json").write_text(json.dumps(targets))
    (info / "intro-buildoptions.json").write_text("[]")


def link(root, text, compiler):
    """A shared library of this source, with hidden visibility off so that leaks are seen."""
    source, library = root / "library.c", root / "libgyre.so"
    source.write_text(text)
    subprocess.run(shlex.split(compiler) + ["-shared", "-fPIC", "-nostdlib", str(source), "-o",
                                            str(library)], check=True)
    return library


def options(check, root, changes, opts):
    """The check's module and its options, or None when what it needs is not on this machine."""
    name, _, language = check.partition("-")
    given = argparse.Namespace(root=root, build=str(root / "build"), library=None)
    if name == "headers":
        given.language, given.compiler = language, {"c": opts.cc, "cxx": opts.cxx}[language]
    if name == "exports" and shutil.which("nm"):
        given.library = str(link(root, changes.get("library", EXPORTED), opts.cc))
    return importlib.import_module(name), given


def attempt(check, changes, words, opts):
    """Run one case: None, "skipped", or what went wrong."""
    printed, code = io.StringIO(), None
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(printed):
        root = pathlib.Path(scratch).resolve()
        plant(root, {name: text for name, text in changes.items() if name != "library"})
        module, given = options(check, root, changes, opts)
        try:
            common.run(module.check, given)
        except SystemExit as end:
            code = end.code
    output = printed.getvalue()
    if code == common.SKIPPED:
        return "skipped"
    if code != (1 if words else 0) or words not in output:
        return "ended with %s, expected %s; it printed:\n%s" % (
            code, '1 and "%s"' % words if words else "0", output)
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--cxx", default="")
    opts = parser.parse_args()
    cases = [(check, None, "", "") for check in CHECKS] + CASES
    failures, skipped = 0, set()
    for check, name, text, words in cases:
        problem = attempt(check, {name: text} if name else {}, words, opts)
        if problem == "skipped":
            skipped.add(check)
        elif problem:
            failures += 1
            change = "%s = %r" % (name, text) if name else "clean tree"
            print("%s, %s: %s" % (check, change, problem))
    for check in sorted(skipped):
        print("skipped: %s cannot run on this machine" % check)
    print("%d cases, %d failures" % (len(cases), failures))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
