#!/usr/bin/env python3
"""io_uring refused from outside: strace injects errors into its system calls (catalogue G03, G04).

usage: refused.py STRACE PROGRAM      STRACE: path of strace, or "none"

PROGRAM is refused.c: it prints "DRIVER: why", or "GYRE_ENOURING: why" and exits with 3.
"""
import os
import subprocess
import sys

SKIP = 77
REFUSED = 3


def run(strace, program, inject, backend=""):
    env = dict(os.environ)
    env.pop("GYRE_BACKEND", None)
    # LeakSanitizer needs to trace the program itself.
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    if backend:
        env["GYRE_BACKEND"] = backend
    command = [strace, "-f", "-qq", "-o", "/dev/null"]
    for part in inject:
        command += ["-e", f"inject={part}"]
    result = subprocess.run(command + [program], env=env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                            timeout=30)
    return result.returncode, result.stdout.decode().strip(), result.stderr.decode().strip()


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIP)


def fallback_cases():
    for error in ("EPERM", "ENOSYS", "EACCES", "EINVAL", "ENOMEM"):
        yield [f"io_uring_setup:error={error}"]
        yield [f"io_uring_enter:error={error}"]
    yield ["io_uring_setup:error=EPERM", "io_uring_register:error=EPERM"]


def check(strace, program):
    failures = []
    for inject in fallback_cases():
        code, out, err = run(strace, program, inject)
        if code != 0 or not out.startswith("epoll: ") or len(out) < 12 or err:
            failures.append(f"{inject}: exit {code}, '{out}' '{err}'")
        code, out, err = run(strace, program, inject, "uring")
        if code != REFUSED or not out.startswith("GYRE_ENOURING: ") or len(out) < 20 or err:
            failures.append(f"{inject}, uring demanded: exit {code}, '{out}' '{err}'")
    for error in ("EPERM", "ENOSYS", "EINVAL", "ENOMEM"):
        code, out, err = run(strace, program, [f"io_uring_register:error={error}"])
        if code != 0 or out.split(":")[0] not in ("epoll", "uring") or err:
            failures.append(f"register refused with {error}: exit {code}, '{out}' '{err}'")
    code, out, err = run(strace, program, ["io_uring_setup:error=EPERM"], "epoll")
    if code != 0 or not out.startswith("epoll: "):
        failures.append(f"epoll asked for: exit {code}, '{out}' '{err}'")
    return failures


def main():
    strace, program = sys.argv[1:3]
    if strace == "none":
        skip("strace is not installed")
    probe = subprocess.run([strace, "-qq", "-o", "/dev/null", "-e", "inject=io_uring_setup:error=EPERM",
                            "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if probe.returncode != 0:
        skip("strace cannot trace here: " + probe.stderr.decode().strip())
    failures = check(strace, program)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
