"""Calls that are not made, with what to call instead; descriptors are close-on-exec from birth."""

import re

import common

EVERYWHERE = {
    "strcpy": "memcpy with a checked length, or snprintf",
    "strcat": "snprintf",
    "sprintf": "snprintf",
    "vsprintf": "vsnprintf",
    "atoi": "strtol, with its end pointer and errno checked",
    "atol": "strtol, with its end pointer and errno checked",
    "gets": "fgets",
    "usleep": "wait for the event itself",
    "sleep": "wait for the event itself",
    "accept": "accept4 with SOCK_CLOEXEC",
    "dup": "fcntl with F_DUPFD_CLOEXEC",
    "pipe": "pipe2 with O_CLOEXEC",
    "epoll_create": "epoll_create1 with EPOLL_CLOEXEC",
}
PRINTS = "nothing: the library never prints"
ENDS = "return an error; gyre_assert for a programmer error"
SIGNALS = "nothing: the library installs no signal handlers"
IN_LIBRARY = {
    "dup2": "dup3 with O_CLOEXEC",
    "nanosleep": "a timer", "clock_nanosleep": "a timer",
    "signal": SIGNALS, "sigaction": SIGNALS, "bsd_signal": SIGNALS, "sigset": SIGNALS,
}
# Only the file that implements gyre_assert may print and end the process.
IN_LIBRARY_BUT_ASSERT = {
    "assert": "gyre_assert, which stays in release builds",
    "exit": ENDS, "_exit": ENDS, "_Exit": ENDS, "quick_exit": ENDS, "abort": ENDS,
    "printf": PRINTS, "vprintf": PRINTS, "fprintf": PRINTS, "vfprintf": PRINTS, "dprintf": PRINTS,
    "puts": PRINTS, "fputs": PRINTS, "putchar": PRINTS, "putc": PRINTS, "fputc": PRINTS,
    "perror": PRINTS, "psignal": PRINTS, "syslog": PRINTS,
}
# Calls that make a descriptor, and the flag that must be among the arguments.
CLOEXEC = {
    "socket": "SOCK_CLOEXEC", "socketpair": "SOCK_CLOEXEC", "accept4": "SOCK_CLOEXEC",
    "eventfd": "EFD_CLOEXEC", "epoll_create1": "EPOLL_CLOEXEC", "timerfd_create": "TFD_CLOEXEC",
    "signalfd": "SFD_CLOEXEC", "inotify_init1": "IN_CLOEXEC", "memfd_create": "MFD_CLOEXEC",
    "open": "O_CLOEXEC", "openat": "O_CLOEXEC", "pipe2": "O_CLOEXEC", "dup3": "O_CLOEXEC",
    "io_uring_prep_accept": "SOCK_CLOEXEC", "io_uring_prep_multishot_accept": "SOCK_CLOEXEC",
    "io_uring_prep_socket": "SOCK_CLOEXEC", "io_uring_prep_openat": "O_CLOEXEC",
}
# What the library asks of the operating system goes through lib/base/sys.h, or the simulated kernel
# would not see it.
SYSTEM = """
    accept4 bind chmod clock_gettime clock_nanosleep close connect epoll_create1 epoll_ctl epoll_pwait
    epoll_pwait2 epoll_wait eventfd fcntl fstat getenv getpeername getrandom getrlimit getsockname
    getsockopt gettimeofday if_indextoname if_nametoindex ioctl io_uring_enter2
    io_uring_queue_exit io_uring_queue_init_params io_uring_register_buf_ring
    io_uring_register_eventfd io_uring_register_ring_fd io_uring_ring_dontfork listen lstat madvise
    mmap munmap open openat poll prctl preadv2 pthread_cond_broadcast pthread_cond_signal
    pthread_cond_wait pthread_create pthread_join pthread_mutex_lock pthread_mutex_unlock
    pthread_setname_np pthread_sigmask pwritev2 read readv recv recvfrom recvmmsg recvmsg send
    sendmmsg sendmsg sendto setsockopt shutdown signalfd socket socketpair stat time timerfd_create
    timerfd_settime unlink write writev
""".split()
RAW = ("syscall", "gyre__syscall", "GYRE__SYSCALL", "GYRE__SYSCALL_ERRNO")
# Beneath the seam: its own table and the simulated kernel.
BELOW_SEAM = ("lib/base/sys.h", "lib/base/syscall.h", "lib/sim/")
# A name before "(" that is not a member (a.open(, a->open(), nor the end of a longer name.
CALL = re.compile(r"(?<![\w.])(?<!->)(\w+)\s*\(")


def banned(root, path):
    """The names that this file must not call."""
    names = dict(EVERYWHERE)
    if path.is_relative_to(root / "lib"):
        names.update(IN_LIBRARY)
        if not path.relative_to(root).as_posix().startswith(BELOW_SEAM):
            names.update({name: "gyre__sys_%s, of base/sys.h" % name for name in SYSTEM})
            names.update({name: "a function of base/sys.h" for name in RAW})
        if not (path.parent == root / "lib" / "base" and path.stem == "assert"):
            names.update(IN_LIBRARY_BUT_ASSERT)
    return names


def has_cloexec(before, arguments):
    """Whether the arguments name a CLOEXEC flag, or a variable that was set to one above."""
    if "CLOEXEC" in arguments:
        return True
    return any(re.search(r"(?<![\w.>])%s\s*\|?=[^=;][^;]*CLOEXEC" % name, before)
               for name in re.findall(r"[a-z_]\w*", arguments))


def check(opts):
    for path in common.files(opts.root, (".c", ".h")):
        names = banned(opts.root, path)
        text = common.blank(common.read(path))
        for match in CALL.finditer(text):
            name, line = match.group(1), common.line_of(text, match.start())
            if name in names:
                yield path, line, "%s() is banned; use %s" % (name, names[name])
            elif path in (opts.root / "lib/sim/real.c", opts.root / "tests/sim/redirect.h"):
                pass  # passes on what it is given
            elif name.removeprefix("gyre__sys_") in CLOEXEC:
                name = name.removeprefix("gyre__sys_")
                arguments = text[match.end():common.closing(text, match.end() - 1)]
                if not has_cloexec(text[:match.start()], arguments):
                    yield path, line, "%s() without %s; a descriptor must not leak across exec" % (
                        name, CLOEXEC[name])


if __name__ == "__main__":
    common.run(check, common.options())
