#!/usr/bin/env python3
"""Each system call fails once, at each of its places (catalogue F05): strace injects the errors.

usage: failing_calls.py STRACE PROGRAM BACKEND      STRACE: path of strace, or "none"

PROGRAM is life.c: it exits with 0 if all went well, with 3 if a failure was told and everything
ended in order all the same. Anything else, and being killed, is a defect.
"""
import os
import subprocess
import sys
import tempfile

SKIP = 77
FINE, TOLD = 0, 3
# Not among them: close(2), since a close that was not made leaves a descriptor, as it has to; and
# fcntl(2), which cannot fail for what it is asked here, but in F_DUPFD.
CALLS = {
    "accept4": ["EMFILE", "ENOMEM", "ECONNABORTED"],
    "bind": ["EADDRINUSE"],
    "connect": ["ENETUNREACH", "EAGAIN"],
    "epoll_create1": ["EMFILE"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "epoll_pwait": ["EINTR"],
    "epoll_pwait2": ["EINTR", "ENOSYS"],
    "epoll_wait": ["EINTR"],
    "eventfd2": ["EMFILE"],
    "getsockname": ["ENOBUFS"],
    "getsockopt": ["ENOBUFS"],
    "io_uring_enter": ["EINTR", "EAGAIN", "EBUSY", "ENOMEM"],
    "io_uring_register": ["ENOMEM", "EINVAL"],
    "io_uring_setup": ["ENOMEM", "EMFILE"],
    "listen": ["EADDRINUSE"],
    "recvfrom": ["EINTR", "ENOMEM", "ECONNRESET"],
    "recvmmsg": ["EINTR", "ENOMEM"],
    "recvmsg": ["EINTR", "ENOMEM"],
    "sendmmsg": ["EINTR", "ENOBUFS", "EPERM"],
    "sendmsg": ["EINTR", "ENOBUFS", "EPIPE"],
    "sendto": ["EINTR", "ENOBUFS", "EPIPE"],
    "setsockopt": ["ENOMEM"],
    "shutdown": ["ENOTCONN"],
    "socket": ["EMFILE", "ENOBUFS"],
}


def run(strace, program, backend, options):
    env = dict(os.environ, GYRE_BACKEND=backend)
    # LeakSanitizer needs to trace the program itself.
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return subprocess.run([strace, "-f", "-qq", *options, program], env=env, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, timeout=60)


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIP)


def count_calls(strace, program, backend):
    """How often each call is made when nothing fails."""
    with tempfile.NamedTemporaryFile("r", encoding="ascii", errors="replace") as log:
        done = run(strace, program, backend, ["-o", log.name])
        if done.returncode == TOLD and backend == "uring":
            skip("io_uring is refused here")
        assert done.returncode == FINE, done
        names = [line.split(maxsplit=1)[1].split("(")[0] for line in log if "(" in line]
    return {name: names.count(name) for name in CALLS if name in names}


def main():
    strace, program, backend = sys.argv[1:4]
    if strace == "none":
        skip("strace is not installed")
    probe = subprocess.run([strace, "-qq", "-o", "/dev/null", "-e", "inject=close:error=EBADF:when=99",
                            "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if probe.returncode != 0:
        skip("strace cannot trace here: " + probe.stderr.decode().strip())
    outcomes = {FINE: 0, TOLD: 0}
    failures = []
    for name, count in count_calls(strace, program, backend).items():
        for error in CALLS[name]:
            for place in range(1, count + 1):
                inject = f"inject={name}:error={error}:when={place}"
                done = run(strace, program, backend, ["-o", "/dev/null", "-e", inject])
                if done.returncode in outcomes:
                    outcomes[done.returncode] += 1
                else:
                    failures.append(f"{inject}: {done.returncode} {done.stderr.decode()[-2000:]}")
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{outcomes[FINE]} survived, {outcomes[TOLD]} told, {len(failures)} defects")
    if not outcomes[FINE] or not outcomes[TOLD]:
        failures.append("nothing was injected")
    return 1 if failures else 0


sys.exit(main())
