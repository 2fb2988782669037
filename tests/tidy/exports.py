"""Each shared library exports exactly the functions that the public headers declare.

The export map must agree: it names nothing that no header declares, and hides the rest. And the
library imports none of the functions whose system calls it makes in place.
"""

import pathlib
import platform
import re
import shutil
import subprocess

import common
import doclabels


def declared(root):
    """Public functions with external linkage: name -> (path, line)."""
    found = {}
    for path in common.files(root, (".h",), ("include",)):
        for line, text, _, _ in doclabels.items(common.read(path)):
            kind, name = doclabels.classify(text)
            if kind == "function" and not re.match(r"(?:static|inline)\b", text):
                found[name] = (path, line)
    return found


# lib/base/syscall.h has them.
IN_PLACE = ("send", "sendto", "sendmsg", "sendmmsg", "recv", "recvmsg", "recvmmsg", "epoll_wait",
            "epoll_pwait2", "io_uring_enter2")


def has_calls_in_place(build):
    """Not with sanitizers or the option; and of the machines that have them, the usual one."""
    options = {option["name"]: option["value"]
               for option in common.load(build / "meson-info" / "intro-buildoptions.json")}
    return (not options.get("libc_calls") and options.get("b_sanitize", "none") == "none"
            and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc")


def imported(library):
    """The dynamic symbols that the library expects of others."""
    result = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True,
                            text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in result.stdout.splitlines()}


def exported(library):
    """The dynamic symbols that the library defines, version nodes (type A) aside."""
    result = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True,
                            text=True, check=True)
    found = {}
    for line in result.stdout.splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":
            found[name.split("@")[0]] = kind
    return found


def shared_library(build, name):
    """Where the build put a shared library, or None when it builds none of that name."""
    for target in common.load(build / "meson-info" / "intro-targets.json"):
        if target["name"] == name and target["type"] == "shared library":
            return pathlib.Path(target["filename"][0])
    return None


def map_names(text):
    """(line, name) of each global entry of an export map, and whether it hides the rest."""
    text = re.sub(r"/\*.*?\*/|#[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text,
                  flags=re.S)
    names, scope = [], "global"
    for match in re.finditer(r"(global|local)\s*:|([\w*?\[\]!.]+)\s*;", text):
        if match.group(1):
            scope = match.group(1)
        elif scope == "global" and "}" not in match.group():
            names.append((common.line_of(text, match.start()), match.group(2)))
    return names, bool(re.search(r"local\s*:\s*\*\s*;", text))


def compare(library, public):
    """What a library exports, and what is declared for it."""
    symbols = exported(library)
    for name, (path, line) in public.items():
        if name not in symbols:
            yield path, line, "%s() is declared but not exported by %s; define it, or see the map" % (
                name, library.name)
    for name, kind in symbols.items():
        if name not in public:
            yield library.name, 0, "%s (%s) is exported but in no public header; hide it" % (
                name, kind)


def check(opts):
    if shutil.which("nm") is None:
        raise common.Skip("nm is not installed")
    library = (pathlib.Path(opts.library) if opts.library
               else shared_library(pathlib.Path(opts.build), "gyre"))
    if library is None:
        raise common.Skip("this build makes no shared library")
    public = declared(opts.root)
    yield from compare(library, {name: place for name, place in public.items()
                                 if place[0].stem != "sim"})
    if has_calls_in_place(pathlib.Path(opts.build)):
        for name in sorted(imported(library).intersection(IN_PLACE)):
            yield library.name, 0, "%s() is imported; make the call in place, or say why not" % name
    simulator = None if opts.library else shared_library(pathlib.Path(opts.build), "gyre-sim")
    if simulator is not None:
        yield from compare(simulator, public)
    maps = sorted((opts.root / "lib").rglob("*.map"))
    if not maps:
        yield "lib", 0, "no export map (*.map)"
    for path in maps:
        names, hides = map_names(common.read(path))
        if not hides:
            yield path, 1, "does not hide the rest; add: local: *;"
        for line, name in names:
            if not re.search(r"[*?\[]", name) and name not in public:
                yield path, line, "%s is declared in no public header" % name


if __name__ == "__main__":
    common.run(check, common.options(build="build directory", library="instead of the build's"))
