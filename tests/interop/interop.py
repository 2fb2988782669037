#!/usr/bin/env python3
"""The example programs against programs that others wrote: one table.

usage: interop.py [--backend epoll|uring] [--only TEXT] EXAMPLES

EXAMPLES is the directory of the built examples. Rows come from rows_*.py beside this file. A row
whose program is not installed is skipped, and named at the end. Exit status 1 if a row fails.
"""

import argparse
import importlib
import os
import pathlib
import signal
import sys
import traceback

import rows
from program import Env, Skip

ROW_LIMIT = 180  # seconds, for what hangs
FORMAT = "{:<12} {:<10} {:<6} {:<60} {}"


def examples(top):
    """All programs below a directory."""
    return [str(path) for path in sorted(pathlib.Path(top).rglob("*"))
            if path.is_file() and os.access(path, os.X_OK) and not path.suffix]


def on_alarm(_number, _frame):
    raise rows.Failure(f"took longer than {ROW_LIMIT} s")


def run_row(entry, env):
    """Returns (verdict, text)."""
    if entry.missing():
        return "skipped", "skipped: no " + ", ".join(entry.missing())
    signal.alarm(ROW_LIMIT)
    try:
        return "ok", f"ok {entry.function(env) or ''}".strip()
    except Skip as reason:
        return "skipped", f"skipped: {reason}"
    except Exception as error:  # pylint: disable=broad-except
        traceback.print_exc()
        return "failed", f"FAILED: {error}"
    finally:
        signal.alarm(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=["epoll", "uring"])
    parser.add_argument("--only", default="", help="rows whose line contains this text")
    parser.add_argument("examples")
    options = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    for path in sorted(here.glob("rows_*.py")):
        importlib.import_module(path.stem)
    signal.signal(signal.SIGALRM, on_alarm)
    versions = {}
    results = []
    print(FORMAT.format("program", "version", "driver", "case", "result"))
    for entry in rows.ROWS:
        if options.only not in f"{entry.program} {entry.case}":
            continue
        if entry.program not in versions:
            versions[entry.program] = rows.version(entry.program) if not entry.missing() else "-"
        for backend in [options.backend] if options.backend else ["uring", "epoll"]:
            verdict, text = run_row(entry, Env(backend, examples(options.examples)))
            line = FORMAT.format(entry.program, versions[entry.program], backend, entry.case, text)
            print(line, flush=True)
            results.append((verdict, line))
    count = {name: sum(verdict == name for verdict, _ in results)
             for name in ("ok", "failed", "skipped")}
    print("\n{ok} ok, {failed} failed, {skipped} skipped".format(**count))
    for name in ("failed", "skipped"):
        for verdict, line in results:
            if verdict == name:
                print(line)
    sys.exit(1 if count["failed"] or not results else 0)


if __name__ == "__main__":
    main()
