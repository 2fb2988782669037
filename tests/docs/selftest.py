"""Shows docs.py one fault after another and expects it to be found; and a sound tree, to be let be.

The trees are small and in a temporary directory. Their programs use no library: an empty archive
stands for it.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = pathlib.Path(__file__).with_name("docs.py")

SOUND = {
    "README.md": "# Top\n\n[a page](docs/contract.md#one-two) `gyre_thing()` `include/gyre.h`\n",
    "include/gyre/sim.h": "",
    "include/gyre.h": "/* Source: docs/contract.md. */\nvoid gyre_thing(void);\n",
    "tests/contract.c": "".join("contract_%02d_a\n" % number for number in range(1, 13)),
    "docs/contract.md": "# One, two\n\n" + "".join(
        "contract_%02d_a\n" % number for number in range(1, 13)),
}

PROGRAM = "\n```c\n#include <stdio.h>\n#include <unistd.h>\n\nint main(void)\n{\n%s\n}\n```\n"
SESSION = (PROGRAM % '    puts("one");\n    puts("two");\n    return 0;'
           + "\n```\n$ ./a -b\n%s```\n")
SIMULATION = "\n```c%s\n#include <gyre/sim.h>\n\nint main(void)\n{\n    return %d;\n}\n```\n"
SERVER = """
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 5) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) < 0) {
        return 1;
    }
    printf("listening on 127.0.0.1:%%d\\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        const int peer = accept(listener, NULL, NULL);
        char bytes[65536];
        ssize_t len_got;

        while ((len_got = read(peer, bytes, sizeof(bytes))) > 0) {
            %s
            if (write(peer, bytes, (size_t)len_got) != len_got) {
                break;
            }
        }
        close(peer);
    }
}
"""

# What is changed in the sound tree, and what docs.py has to say; "" means that all is well.
CASES = [
    ("sound", {}, ""),
    ("dead link", {"README.md": "[x](docs/none.md)\n"}, "docs/none.md does not exist"),
    ("link out of the tree", {"README.md": "[x](../../etc/passwd)\n"}, "does not exist"),
    ("dead heading", {"README.md": "[x](docs/contract.md#three)\n"}, "has no heading #three"),
    ("unknown name", {"README.md": "`gyre_nothing()`\n"}, "nothing is called gyre_nothing"),
    ("unknown file", {"README.md": "`lib/none.c`\n"}, "there is no lib/none.c"),
    ("unknown case", {"docs/contract.md": SOUND["docs/contract.md"] + "contract_07_b\n"},
     "names contract_07_b"),
    ("contract line without a case", {"tests/contract.c": "contract_01_a\n"}, "has no case"),
    ("page missing", {"include/gyre.h": "/* Source: docs/none.md. */\nvoid gyre_thing(void);\n"},
     "include/gyre.h: docs/none.md does not exist"),
    ("program that fails", {"docs/a.md": PROGRAM % "    return 3;"}, "ended with 3"),
    ("program that warns", {"docs/a.md": PROGRAM % "    int unused;"}, "unused"),
    ("program that succeeds", {"docs/a.md": PROGRAM % "    return 0;"}, ""),
    ("program that is to fail", {"docs/a.md": (PROGRAM % "    return 3;").replace(
        "```c", "```c ends with 3", 1)}, ""),
    ("program that is to fail in another way", {"docs/a.md": (PROGRAM % "    return 3;").replace(
        "```c", "```c ends with 4", 1)}, "ended with 3"),
    ("simulation that succeeds", {"docs/a.md": SIMULATION % ("", 0)}, ""),
    ("simulation that fails", {"docs/a.md": SIMULATION % ("", 2)}, "ended with 2"),
    ("simulation that is to fail", {"docs/a.md": SIMULATION % (" ends with 2", 2)}, ""),
    ("session as shown", {"docs/a.md": SESSION % "one\ntwo\n"}, ""),
    ("session's end as shown", {"docs/a.md": SESSION % "...\ntwo\n"}, ""),
    ("session with another end", {"docs/a.md": SESSION % "...\none\n"}, "it prints:"),
    ("session without its first line", {"docs/a.md": SESSION % "two\n"}, "it prints:"),
    ("session with a line more", {"docs/a.md": SESSION % "one\ntwo\nthree\n"}, "it prints:"),
    ("fragment that is wrong", {"docs/a.md": "\n```c\nint f(void) { return nothing; }\n```\n"},
     "nothing"),
    ("fragment that is right", {"docs/a.md": "\n```c\nstatic int f(void) { return 0; }\n```\n"},
     ""),
    ("shell is not run", {"docs/a.md": "\n```sh\nexit 1\n```\n"}, ""),
    ("server that echoes", {"docs/a.md": "\n```c" + SERVER % "" + "```\n"}, ""),
    ("server that changes a byte", {"docs/a.md": "\n```c" + SERVER % "bytes[0] ^= 1;" + "```\n"},
     "not what was sent"),
    ("server that exits", {"docs/a.md": "\n```c" + SERVER % "_exit(0);" + "```\n"},
     "GYRE_BACKEND=auto"),
]


def write_tree(root, changes):
    for name, text in {**SOUND, **changes}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def judge(root, compiler, *more):
    archive = root / "libempty.a"
    subprocess.run(["ar", "rc", str(archive)], check=True)
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--root", str(root), "--cc", compiler,
         "--library", str(archive), "--sim-library", str(archive), *more],
        capture_output=True, text=True, check=False, env=dict(os.environ))
    if result.returncode != 0:
        sys.exit("docs.py broke:\n%s%s" % (result.stdout, result.stderr))
    return [line for line in result.stdout.split("\n") if line.startswith(("not ok", "#"))]


def updates(compiler, wrong, right):
    """Whether --update makes of one page the other, and finds nothing wrong with it then."""
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch).resolve()
        write_tree(root, {"docs/a.md": SESSION % wrong})
        judge(root, compiler, "--update")
        return (root / "docs/a.md").read_text(encoding="utf-8") == SESSION % right and not judge(
            root, compiler)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cc", default="cc")
    opts = parser.parse_args()
    wrong = 0
    for name, changes, expected in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch).resolve()
            write_tree(root, changes)
            said = judge(root, opts.cc)
        found = any(expected in line for line in said) if expected else not said
        print("%s: %s" % (name, "ok" if found else "NOT FOUND"))
        if not found:
            wrong += 1
            print("  expected %r\n  said:\n    %s" % (expected or "nothing", "\n    ".join(said)))
    for shown in ("three\n", "one\n", "one\ntwo\n"):
        if not updates(opts.cc, shown, "one\ntwo\n"):
            wrong += 1
            print("update of %r: NOT DONE" % shown)
    if not updates(opts.cc, "...\none\n", "...\ntwo\n"):
        wrong += 1
        print("update of an end: NOT DONE")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
