#!/usr/bin/env python3
"""Torture of everything (./dev torture): each program of the conformance suite, and the scenarios,
on both drivers; see tests/faults/torture.c.

usage: torture.py [--ms N] [--jobs N] [--variant V] [--only SUBSTRING] DIRECTORY

Prints a line for each program and variant, then the sum; defects in full, with what repeats them.
The exit status says whether there were any.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

VARIANTS = ("uring", "epoll")
SUMMARY = re.compile(r"^= \S+: (\d+) cases, (\d+) injections \((\d+) passed, (\d+) ended early, "
                     r"(\d+) stalled\), (\d+) places left out, (\d+) defects$", re.MULTILINE)
NAMES = ("cases", "injections", "passed", "ended early", "stalled", "places left out", "defects")
PROGRAM_S = 6 * 3600


def torture(program, variant, budget_ms):
    """(numbers of the summary or None, all that was printed)"""
    env = dict(os.environ, GYRE_TEST_VARIANT=variant, GYRE_TORTURE="all",
               GYRE_TORTURE_MS=str(budget_ms))
    done = subprocess.run([program], env=env, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_S)
    text = done.stdout.decode(errors="replace")
    found = SUMMARY.search(text)
    numbers = [int(number) for number in found.groups()] if found else None
    if numbers and done.returncode != (numbers[-1] > 0):
        numbers = None
    return numbers, text


def describe(numbers):
    return ", ".join("%d %s" % pair for pair in zip(numbers, NAMES))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--ms", type=int, default=20000, help="about so long for a case; 0: every place")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--variant", choices=VARIANTS, action="append")
    parser.add_argument("--only", default="", help="programs whose names contain this")
    opts = parser.parse_args()
    programs = sorted(path for path in opts.directory.iterdir()
                      if path.name.startswith(("faulty-", "torture-")) and path.is_file()
                      and os.access(path, os.X_OK) and opts.only in path.name)
    sums, broken = [0] * len(NAMES), 0
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        runs = {pool.submit(torture, program, variant, opts.ms): (program.name, variant)
                for program in programs for variant in opts.variant or VARIANTS}
        for run in concurrent.futures.as_completed(runs):
            numbers, text = run.result()
            name, variant = runs[run]
            if numbers is None or numbers[-1] > 0:
                print(text)
            print("%-26s %-5s %s" % (name, variant, describe(numbers) if numbers else "BROKEN"),
                  flush=True)
            broken += numbers is None
            sums = [a + b for a, b in zip(sums, numbers or [0] * len(NAMES))]
    print("all: %s, %d programs broken" % (describe(sums), broken))
    return 1 if broken or sums[-1] or not sums[1] else 0


sys.exit(main())
