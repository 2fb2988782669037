"""The checks that may catch a mutation: seeds of the simulator, and tests of the build by name.

Each has a name, the targets that it needs, and run(), which returns a verdict. A check that fails,
crashes or hangs has caught something; it ends at the first failing case, since one is enough.
"""

import collections
import json
import os
import re
import signal
import subprocess
import threading
import time

PASSED, CAUGHT, SKIPPED = "passed", "caught", "skipped"
EXIT_SKIPPED = 77
SIM_PROGRAM = "tests/sim/gyre-sim-fuzz"
SIM_BATCH_SECONDS = 120
SIM_FIRST, SIM_MOST = 16, 1024  # seeds of the first batch and of the largest

Verdict = collections.namedtuple("Verdict", "outcome detail")


def stop(process):
    """End a process of ours and those of its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def lines_of(command, seconds, **options):
    """Run @command; yields its output line by line, then its exit status as a number, or None if it
    reached the time limit. Ends it when the caller has seen enough."""
    late = threading.Event()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          errors="replace", start_new_session=True, **options) as process:
        timer = threading.Timer(seconds, lambda: (late.set(), stop(process)))
        timer.start()
        try:
            yield from process.stdout
            status = process.wait()
            yield None if late.is_set() else status
        finally:
            timer.cancel()
            stop(process)


def ending(status, seconds):
    """In words, how a program ended that should have ended with 0."""
    if status is None:
        return "hangs, time limit of %d s" % seconds
    return "killed by signal %d" % -status if status < 0 else "exit status %d" % status


class Test:
    """A test of the build, as meson has written it down."""

    sim = False

    def __init__(self, entry, targets):
        self.name = entry["name"]
        self.targets = targets
        self.command = entry["cmd"]
        self.environment = {**os.environ, **entry["env"]}
        self.seconds = entry["timeout"]
        self.tap = entry["protocol"] == "tap"

    def run(self):
        skipped = passed = 0
        for line in lines_of(self.command, self.seconds, stderr=subprocess.DEVNULL,
                             env=self.environment):
            if not isinstance(line, str):
                return self.end(line, skipped, passed)
            if self.tap and line.startswith("not ok"):
                return Verdict(CAUGHT, line.split(" - ", 1)[-1].strip())
            if self.tap and line.startswith("ok"):
                skipped += " # SKIP" in line
                passed += " # SKIP" not in line
        raise AssertionError("lines_of() ends with a status")

    def end(self, status, skipped, passed):
        if status == EXIT_SKIPPED or (self.tap and status == 0 and skipped and not passed):
            return Verdict(SKIPPED, "skipped")
        if status != 0:
            return Verdict(CAUGHT, ending(status, self.seconds))
        return Verdict(PASSED, "") if passed or not self.tap else Verdict(CAUGHT, "ran no case")


class Sim:
    """Seeds of the simulator, in batches that grow, so that what dies without a word is known to the
    batch."""

    sim = True

    def __init__(self, personality, program, targets, seeds, start):
        self.name = "sim-" + personality
        self.targets = targets
        self.command = [program, "--personality", personality]
        self.seeds = seeds
        self.start = start

    def run(self):
        begin = time.monotonic()
        done, batch = 0, SIM_FIRST
        while done < self.seeds:
            count = min(batch, self.seeds - done)
            verdict = self.run_batch(done, count)
            if verdict is not None:
                return verdict
            done += count
            batch = min(2 * batch, SIM_MOST)
        return Verdict(PASSED, "%d seeds, %.0f s" % (done, time.monotonic() - begin))

    def run_batch(self, done, count):
        first = self.start + done
        said = None
        for line in lines_of([*self.command, "--seeds", str(count), "--start", str(first)],
                             SIM_BATCH_SECONDS, stderr=subprocess.STDOUT):
            if isinstance(line, str):
                said = said or re.search(r"FAIL seed=(0x[0-9a-fA-F]+|\d+)(.*)", line)
                continue
            if line == 0:
                return None
            if said:
                seed = int(said.group(1), 0)
                return Verdict(CAUGHT, "seed %d, after %d seeds" % (seed, seed - self.start + 1))
            return Verdict(CAUGHT, "%s, within %d seeds" % (ending(line, SIM_BATCH_SECONDS),
                                                           done + count))
        raise AssertionError("lines_of() ends with a status")


def load(build, name):
    with open(build / "meson-info" / name, encoding="utf-8") as stream:
        return json.load(stream)


def of_build(build, seeds, start):
    """All checks that the build directory has."""
    files = {target["id"]: target["filename"] for target in load(build, "intro-targets.json")}
    found = []
    program = str(build / SIM_PROGRAM)
    if any(program in names for names in files.values()):
        found += [Sim(personality, program, {SIM_PROGRAM}, seeds, start)
                  for personality in ("uring", "epoll")]
    for entry in load(build, "intro-tests.json"):
        needed = {os.path.relpath(name, build)
                  for target in entry["depends"] for name in files[target]}
        found.append(Test(entry, needed))
    return found
