"""The documentation, checked: its code is compiled and run, its links and names lead somewhere.

    README.md and docs/**/*.md
      ```c with int main     a program: compiled with -std=c11 -Wall -Wextra -Werror against the
                             static library, and run once for each driver. It has to end by itself
                             with 0. One that prints "listening on 127.0.0.1:PORT" is a server: it
                             has to send back what it gets, and is ended by SIGTERM to its pid.
      ... that includes      a simulation: linked with libgyre-sim instead, and run once, since the
      <gyre/sim.h>           program chooses the driver. Skipped where that library is not built.
      ```c ends with N       the program has to end with N.
      ``` with "$ ./a -b"    what the program before it on the page prints when it is run so: exactly
                             these lines, or behind a line "..." the last ones. "$ a -b" is a
                             program that was given with --program.
      ```c without           declarations and functions, compiled at file scope behind PREAMBLE
      `lib/core/op.c`        a file or directory of the repository
      `gyre_op_send()`       a name that the public headers, the library or the tests have
      contract_05_...        a case of tests/core/contract.c or tests/ops/contract.c; each of the
                             twelve lines has at least one, and it is named in docs/contract.md
    every *.md
      [text](page.md#part)   the page exists, and has that heading
    include/**/*.h
      Source: docs/...       the page exists

Other blocks (shell, text) are not run. Results are TAP lines. docs.py --root DIR [--no-code] checks
another tree; selftest.py uses that. With --update it writes what the programs print into the blocks
instead, as after a change that moves what a seed of the simulation does: look at the difference then,
since the text around a block may speak of it.
"""

import argparse
import ctypes
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

# Of each program that simulates threads, in builds with AddressSanitizer.
ASAN_SAYS = re.compile(r"==\d+==WARNING: ASan doesn't fully support makecontext/swapcontext")
LIMIT_SECONDS = 30  # for a program that hangs; never a verdict on speed
PREAMBLE = "".join("#include <%s>\n" % name for name in (
    "errno.h", "gyre.h", "netinet/in.h", "poll.h", "stdio.h", "stdlib.h", "string.h",
    "sys/epoll.h", "sys/socket.h", "unistd.h"))
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror")
FENCE = re.compile(r"^( *)(```+|~~~+)[ ]*([\w+-]*)[^\n]*\n(.*?)^\1\2[ ]*$", re.M | re.S)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
SESSION = re.compile(r"\$ (\S+)(.*)\n")  # what somebody types
STATUS = re.compile(r"^ *[`~]+ *c ends with (\d+)$", re.M)
SIMULATION = re.compile(r"^#include <gyre/sim\.h>$", re.M)
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?:bench|docs|examples|include|lib|tests)/[\w./-]*[\w/]$")
NAME = re.compile(r"\b(?:gyre_\w+|GYRE_\w+)")
CONTRACT = re.compile(r"\bcontract_\d\d_\w+")
SOURCE = re.compile(r"\bdocs/[\w./-]+\.md\b")
READY = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")


class Tap:
    """Counts the cases and prints a line for each."""

    def __init__(self):
        self.count = 0

    def case(self, name, problems, skipped=""):
        self.count += 1
        print("%s %d - %s%s" % ("not ok" if problems else "ok", self.count, name,
                                skipped and " # SKIP " + skipped), flush=True)
        for problem in problems:
            for line in str(problem).rstrip().split("\n"):
                print("# " + line, flush=True)


def read(path):
    return path.read_text(encoding="utf-8")


def pages(root):
    """README.md and the pages of docs/."""
    return [root / "README.md"] + sorted((root / "docs").rglob("*.md"))


def every_page(root):
    """All Markdown of the repository, without what builds leave behind."""
    skip = {".git", "build", "gyre-bench-results"}
    return sorted(path for path in root.rglob("*.md")
                  if not skip & set(path.relative_to(root).parts[:1]))


def prose(text):
    """The text with fenced blocks blanked, line numbers kept."""
    return FENCE.sub(lambda match: "\n" * match.group().count("\n"), text)


# ---- code ----

class Library:
    """How to compile and link against the library that was built."""

    def __init__(self, opts):
        self.compiler = shlex.split(opts.cc)
        self.flags = ["-I" + str(opts.root / "include")]
        if opts.sanitize not in ("", "none"):
            self.flags.append("-fsanitize=" + opts.sanitize)
        uring = subprocess.run(["pkg-config", "--libs", "liburing"], capture_output=True,
                               text=True, check=False)
        found = shlex.split(uring.stdout) if uring.returncode == 0 else ["-luring"]
        self.link = [opts.library, *found, "-pthread"]
        self.link_sim = [opts.sim_library, *found, "-pthread"] if opts.sim_library else None

    def compile(self, source, output, more=(), simulated=False):
        """Returns the compiler's complaint, or None."""
        command = [*self.compiler, *STRICT, *more, *self.flags, "-o", str(output), str(source)]
        if "-c" not in more:
            command += self.link_sim if simulated else self.link
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return None if result.returncode == 0 else result.stderr or "the compiler failed"


def die_with_parent():
    """In the child: whatever becomes of this script, its programs do not outlive it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def converse(port):
    """Connect twice, send, and get the same bytes back. Returns what is wrong, or None."""
    payload = bytes(range(256)) * 1024
    for message in (b"hello\n", payload):
        with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as peer:
            peer.settimeout(LIMIT_SECONDS)
            got = b""
            for start in range(0, len(message), 4096):
                piece = message[start:start + 4096]
                peer.sendall(piece)
                while len(got) < start + len(piece):
                    data = peer.recv(65536)
                    if not data:
                        return "the connection ended after %d bytes" % len(got)
                    got += data
            if got != message:
                return "what came back is not what was sent"
            peer.shutdown(socket.SHUT_WR)
            if peer.recv(1) != b"":
                return "bytes came back that nobody sent"
    return None


def first_line(process):
    """The first line a program prints, or b"" when it ends without one."""
    guard = signal.signal(signal.SIGALRM, lambda *_: process.kill())
    signal.alarm(LIMIT_SECONDS)
    try:
        return process.stdout.readline()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, guard)


def run(program, status, **variables):
    """Run a program, which is to end with a status. Returns what is wrong, or None."""
    env = dict(os.environ, **variables)
    with subprocess.Popen([str(program)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=env,
                          preexec_fn=die_with_parent) as process:
        try:
            ready = READY.match(first_line(process))
            problem = converse(int(ready.group(1))) if ready else None
            if ready and process.poll() is None:
                process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "still running after %d seconds" % LIMIT_SECONDS
        except OSError as error:
            return "the conversation failed: %s" % error
        finally:
            if process.poll() is None:
                process.kill()
        expected = -signal.SIGTERM if ready else status
        if problem is None and process.returncode != expected:
            problem = "ended with %d\n%s" % (process.returncode, errors.decode(errors="replace"))
        return problem


def session_output(program, arguments, shown):
    """Run a program as a page shows it. Returns what the page has to show, or None if it hangs."""
    try:
        result = subprocess.run([str(program), *arguments], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                timeout=LIMIT_SECONDS, preexec_fn=die_with_parent,
                                env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    except subprocess.TimeoutExpired:
        return None
    printed = [line for line in result.stdout.decode(errors="replace").splitlines()
               if not ASAN_SAYS.match(line)]
    lines = shown.splitlines()
    if lines[:1] == ["..."] and len(printed) >= len(lines):
        printed = ["...", *printed[1 - len(lines):]]
    return "".join(line + "\n" for line in printed)


def check_session(program, arguments, block, update):
    """Compare what a page shows with what is printed. Returns the problems, and what to show."""
    printed = session_output(program, arguments, block)
    if printed is None:
        return ["still running after %d seconds" % LIMIT_SECONDS], block
    if printed == block or update:
        return [], printed
    return ["it prints:", *printed.splitlines()[:40]], block


def check_block(library, scratch, text, status):
    """Compile a block; run it if it is a program. Returns the list of problems."""
    is_program = re.search(r"\bint main\(", text) is not None
    simulated = is_program and SIMULATION.search(text) is not None
    source = scratch / "block.c"
    source.write_text(text if is_program else PREAMBLE + text, encoding="utf-8")
    more = () if is_program else ("-c", "-Wno-unused-function", "-Wno-unused-variable")
    complaint = library.compile(source, scratch / "block", more, simulated)
    if complaint is not None:
        return [complaint]
    if not is_program:
        return []
    if simulated:  # what a run that fails has lost is not looked for
        problem = run(scratch / "block", status, ASAN_OPTIONS="detect_leaks=0")
        return [problem] if problem is not None else []
    found = []
    for backend in ("auto", "epoll"):
        problem = run(scratch / "block", status, GYRE_BACKEND=backend)
        if problem is not None:
            found.append("GYRE_BACKEND=%s: %s" % (backend, problem))
    return found


def check_page_code(tap, library, page, opts, programs):
    text = read(page)
    updated = text
    with tempfile.TemporaryDirectory() as top:
        before = None  # the program that was compiled last
        for match in FENCE.finditer(text):
            code = match.group(4)
            name = "%s:%d " % (page.relative_to(opts.root), text.count("\n", 0, match.start()) + 1)
            session = SESSION.match(code) if match.group(3) == "" else None
            if session is not None:
                show = before if session[1].startswith("./") else programs.get(session[1])
                if show is None:
                    tap.case(name + "prints", [], "%s is not built" % session[1])
                    continue
                old = code[session.end():]
                found, new = check_session(show, shlex.split(session[2]), old, opts.update)
                tap.case(name + "prints", found)
                updated = updated.replace(session[0] + old, session[0] + new)
            if match.group(3) != "c":
                continue
            what = "runs" if re.search(r"\bint main\(", code) else "compiles"
            status = STATUS.match(match.group())
            if what == "runs" and SIMULATION.search(code) and library.link_sim is None:
                tap.case(name + what, [], "libgyre-sim is not built")
                continue
            scratch = pathlib.Path(tempfile.mkdtemp(dir=top))
            tap.case(name + what, check_block(library, scratch, code,
                                              int(status.group(1)) if status else 0))
            before = scratch / "block" if what == "runs" else before
    if updated != text:
        page.write_text(updated, encoding="utf-8")


def check_code(tap, opts):
    library = Library(opts)
    for page in pages(opts.root):
        check_page_code(tap, library, page, opts, {path.name: path for path in opts.program})


# ---- links and names ----

def anchor(heading):
    """The fragment that a heading is reached by."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def headings(path):
    return {anchor(line) for line in re.findall(r"^#+[ ]+(.*)$", prose(read(path)), re.M)}


def bad_links(root, page):
    text = prose(read(page))
    for match in LINK.finditer(text):
        target, _, part = match.group(1).partition("#")
        line = text.count("\n", 0, match.start()) + 1
        if re.match(r"[a-z]+:", match.group(1)):
            continue
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or not place.is_relative_to(root):
            yield "line %d: %s does not exist" % (line, match.group(1))
        elif part and place.suffix == ".md" and part not in headings(place):
            yield "line %d: %s has no heading #%s" % (line, place.name, part)


def sources(root, *tops):
    for top in tops:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".c", ".h", ".build", ".py"):
                yield path


def known_names(root):
    return {name for path in sources(root, "include", "lib", "tests", "examples")
            for name in NAME.findall(read(path))}


def bad_names(root, page, known):
    text = prose(read(page))
    for match in CODE.finditer(text):
        code = match.group(1)
        line = text.count("\n", 0, match.start()) + 1
        if PATH.match(code) and not (root / code).exists():
            yield "line %d: there is no %s" % (line, code)
        for name in NAME.findall(code):
            stem = name.rstrip("_*")
            if name not in known and not any(other.startswith(stem) for other in known):
                yield "line %d: nothing is called %s" % (line, name)


def contract_cases(root):
    return {name for path in sources(root, "tests") if path.name == "contract.c"
            for name in CONTRACT.findall(read(path))}


def bad_contract(root):
    cases = contract_cases(root)
    page = root / "docs" / "contract.md"
    named = set(CONTRACT.findall(read(page))) if page.is_file() else set()
    for name in sorted(named - cases):
        yield "docs/contract.md names %s, and there is no such case" % name
    for number in range(1, 13):
        if not any(name.startswith("contract_%02d_" % number) for name in named & cases):
            yield "line %d of the contract has no case named in docs/contract.md" % number


def bad_sources(root):
    for path in sources(root, "include"):
        for page in SOURCE.findall(read(path)):
            if not (root / page).is_file():
                yield "%s: %s does not exist" % (path.relative_to(root), page)


def check_text(tap, root):
    known = known_names(root)
    for page in every_page(root):
        tap.case("%s links" % page.relative_to(root), list(bad_links(root, page)))
    for page in pages(root):
        tap.case("%s names" % page.relative_to(root), list(bad_names(root, page, known)))
    tap.case("contract cases", list(bad_contract(root)))
    tap.case("pages that headers name", list(bad_sources(root)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", required=True, type=pathlib.Path)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--library", default="", help="libgyre.a")
    parser.add_argument("--sim-library", default="", help="libgyre-sim.a")
    parser.add_argument("--program", default=[], action="append", type=pathlib.Path,
                        help="one that pages show being run")
    parser.add_argument("--sanitize", default="none", help="what the library was built with")
    parser.add_argument("--no-code", action="store_true")
    parser.add_argument("--update", action="store_true", help="write what programs print")
    opts = parser.parse_args()
    opts.root = opts.root.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    tap = Tap()
    check_text(tap, opts.root)
    if not opts.no_code:
        if shutil.which(shlex.split(opts.cc)[0]) is None or not opts.library:
            sys.exit("docs.py: --cc and --library are needed, or --no-code")
        check_code(tap, opts)
    print("1..%d" % tap.count)


if __name__ == "__main__":
    main()
