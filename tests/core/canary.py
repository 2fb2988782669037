#!/usr/bin/env python3
"""Run the canaries of canary.c and check that the harness reports each of them as what it is.

usage: canary.py PROGRAM [simulated]
"""
import os
import re
import subprocess
import sys

# The verdict on each canary, and words that the report must contain; where none are asked for, "".
EXPECTED = {
    "canary_passes": ("ok", ""),
    "canary_skips": ("skip", "because it is a canary"),
    "canary_fails_assertion": ("not ok", "0x1 != 0x2"),
    "canary_leaks_descriptor": ("not ok", "(/dev/null) left open"),
    "canary_closes_foreign_descriptor": ("not ok", "was open before the case"),
    "canary_leaks_loop": ("not ok", "allocations of the library alive"),
    "canary_leaks_thread": ("not ok", "2 threads, 1 before"),
    "canary_leaves_child": ("not ok", "child processes left"),
    "canary_hangs": ("not ok", "canary_hangs hangs"),
    "canary_spins": ("not ok", "canary_spins hangs"),
    "canary_crashes": ("not ok", "Segmentation fault"),
    "canary_aborts": ("not ok", "Aborted"),
    "canary_dies_in_its_directory": ("not ok", "directory: /tmp/"),
    "canary_exits": ("not ok", ""),
    "canary_fails_in_forked_process": ("not ok", "0x6f != 0"),
    "canary_busy_loop_is_destroyed": ("not ok", "nop: 1 started, 0 finished"),
    "canary_waits_for_nothing": ("not ok", "nothing left to do"),
}

# On the simulated kernel, what is different.
SIMULATED = {
    "canary_leaks_descriptor": ("not ok", "(null) left open"),
    "canary_leaves_child": ("skip", "the simulation has no fork"),
    "canary_crashes": ("skip", "the simulation has no signal handlers"),
    "canary_dies_in_its_directory": ("skip", "the simulation has no files"),
}


def run(program, name):
    env = dict(os.environ, GYRE_TEST_VARIANT="epoll")
    env.pop("GYRE_TEST_NOFORK", None)
    env.pop("GYRE_TEST_TAP", None)
    plain = subprocess.run([program, name], env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    env["GYRE_TEST_TAP"] = "1"
    tap = subprocess.run([program, name], env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return plain.returncode, tap.stdout.decode(), tap.stderr.decode(errors="replace")


def verdict_of(lines, name):
    for line in lines:
        if line == f"ok 1 - {name}":
            return "ok"
        if line.startswith(f"ok 1 - {name} # SKIP "):
            return "skip"
        if line == f"not ok 1 - {name}":
            return "not ok"
    return "no verdict"


def main():
    program = sys.argv[1]
    if sys.argv[2:] == ["simulated"]:
        EXPECTED.update(SIMULATED)
    listed = subprocess.run([program, "--list"], stdout=subprocess.PIPE, check=True).stdout.decode()
    failures = []
    if listed.split() != list(EXPECTED):
        failures.append("--list does not name the canaries that are expected")
    for name, (verdict, words) in EXPECTED.items():
        code, tap, report = run(program, name)
        if code != {"ok": 0, "skip": 77, "not ok": 1}[verdict]:
            failures.append(f"{name}: exit status {code}")
        if tap.splitlines()[0] != "1..1" or verdict_of(tap.splitlines(), name) != verdict:
            failures.append(f"{name}: expected '{verdict}', got:\n{tap}")
        if words not in report + tap:
            failures.append(f"{name}: the report lacks '{words}':\n{report}")
        for path in re.findall(r"^directory: (\S+)$", report, re.MULTILINE):
            if os.path.exists(path):
                failures.append(f"{name}: left {path}")
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{len(EXPECTED)} canaries, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
