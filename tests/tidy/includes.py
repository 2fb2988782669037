"""The include graph: a file includes its own layer or one below it.

    base < core < backend                  backend/select.c alone names the drivers
    base < core < net < server             net never meets backend
                  net < sim                sim is below the seam of base/sys.h: a kernel, not a driver
                  net < dns, net < tls     dns and tls never meet
    include/gyre/*.h                       public; each belongs to the layer that implements it
    examples, bench                        users: public headers and their own directory
    tests                                  may include everything
"""

import re

import common

BELOW = {
    "base": set(),
    "core": {"base"},
    "backend": {"core", "base"},
    "net": {"core", "base"},
    "sim": {"net", "core", "base"},
    "dns": {"net", "core", "base"},
    "tls": {"net", "core", "base"},
    "server": {"dns", "tls", "net", "core", "base"},
}
# The layer of each public header; one that is not listed belongs to core.
PUBLIC = {
    "base": {"alloc", "base", "error", "version"},
    "net": {"addr", "dgram", "listener", "signal", "sockopt", "stream", "work"},
    "sim": {"sim"},
    "dns": {"dns"},
    "tls": {"tls"},
    "server": {"server"},
}
# Public headers that gyre.h leaves out: they come with a library and a .pc file of their own.
OWN_LIBRARY = {"dns", "server", "sim", "tls"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">\n]+)[">]', re.M)


def includes(path):
    """(line, quote, name) of each #include; commented-out ones are not."""
    text = common.blank(common.read(path), strings=False)
    for match in INCLUDE.finditer(text):
        yield common.line_of(text, match.start()), match.group(1), match.group(2)


def resolve(root, path, quote, name):
    """The file of the tree that an #include means, or None: a system header, or nothing."""
    places = [path.parent] if quote == '"' else []
    for place in places + [root / "include", root / "lib", root]:
        target = (place / name).resolve()
        if target.is_file() and target.is_relative_to(root):
            return target
    return None


def layer(root, path):
    """(top directory, layer, driver): ("lib", "backend", "epoll") for lib/backend/epoll/ring.h."""
    parts = path.relative_to(root).parts
    if parts[0] == "include":
        for name, stems in PUBLIC.items():
            if path.stem in stems:
                return "include", name, None
        return "include", "core", None
    name = parts[1] if len(parts) > 2 else None
    driver = parts[2] if parts[0] == "lib" and name == "backend" and len(parts) > 3 else None
    return parts[0], name, driver


def wrong(root, path, target):
    """Why @path must not include @target, or None."""
    top, own, driver = layer(root, path)
    to_top, to, to_driver = layer(root, target)
    if top == "tests":
        return None
    if top in ("examples", "bench"):
        if to_top != "include" and to_top != top:
            return "programs use public headers only; include <gyre.h>"
        return None
    if to_top not in ("lib", "include"):
        return "%s/ is above the library; move what is needed into a layer" % to_top
    if top == "include" and to_top == "lib":
        return "a public header must not include a private one; it is not installed"
    if target == root / "include" / "gyre.h":
        return "gyre.h is for users; include the header of the concept"
    if path == root / "include" / "gyre.h":
        return None
    if own not in BELOW:
        return "lib/%s is no layer of design.md; add it to %s" % (own, "tests/tidy/includes.py")
    if to != own and to not in BELOW[own]:
        return "%s must not include %s; it may include %s" % (
            own, to, ", ".join(sorted(BELOW[own] | {own})))
    if to_driver and to_driver != driver and path != root / "lib" / "backend" / "select.c":
        return "lib/backend/select.c alone names the drivers; go through the vtable"
    return None


def umbrella(path):
    """Whether a header declares nothing of its own."""
    text = common.blank(common.read(path), strings=False)
    count = len(list(INCLUDE.finditer(text)))
    left = re.sub(r"^[ \t]*#.*$|\bGYRE_(BEGIN|END)\b", "", text, flags=re.M)
    return count > 1 and not left.strip()


def driver_names(root, path):
    """Uses of a driver's own symbols (gyre__epoll_...) outside of the driver and of select.c."""
    backend = root / "lib" / "backend"
    others = [entry.name for entry in backend.glob("*/")
              if entry.is_dir() and not path.is_relative_to(entry)]
    if not others or path == backend / "select.c":
        return
    text = common.blank(common.read(path))
    for match in re.finditer(r"\bgyre__(?:%s)(?:_\w*)?\b" % "|".join(others), text):
        yield path, common.line_of(text, match.start()), (
            "%s: lib/backend/select.c alone names the drivers; go through the vtable"
            % match.group())


def cycles(graph):
    """Headers that include themselves by a detour: the edge that closes each cycle."""
    state = {}

    def visit(node, trail):
        state[node] = "open"
        for line, target in graph.get(node, ()):
            if state.get(target) == "open":
                yield node, line, "closes a cycle of includes with %s" % target.name
            elif target not in state:
                yield from visit(target, trail + [node])
        state[node] = "done"

    for start in sorted(graph):
        if start not in state:
            yield from visit(start, [])


def check(opts):
    root = opts.root.resolve()
    graph = {}
    for path in common.files(root, (".c", ".h")):
        for line, quote, name in includes(path):
            target = resolve(root, path, quote, name)
            if target is None:
                top = path.relative_to(root).parts[0]
                if top == "include" and re.match(r"liburing|linux/io_uring", name):
                    yield path, line, "users must not need liburing; keep %s in lib/" % name
                elif quote == '"' and top in ("include", "lib"):
                    yield path, line, 'no such file: "%s"; system headers take <>' % name
                continue
            graph.setdefault(path, []).append((line, target))
            reason = wrong(root, path, target)
            if reason:
                yield path, line, reason
        if path.is_relative_to(root / "lib"):
            yield from driver_names(root, path)
        if path.suffix == ".h" and path.is_relative_to(root / "lib") and umbrella(path):
            yield path, 1, "an umbrella private header; include what is used where it is used"
    yield from cycles(graph)
    top = root / "include" / "gyre.h"
    listed = {target for _, target in graph.get(top, [])}
    for path in sorted((root / "include" / "gyre").glob("*.h")):
        if path.stem not in OWN_LIBRARY and path not in listed:
            yield top, 1, "does not include <gyre/%s>" % path.name
    if top.is_file() and not umbrella(top):
        yield top, 1, "gyre.h only includes the others; move declarations to gyre/*.h"


if __name__ == "__main__":
    common.run(check, common.options())
