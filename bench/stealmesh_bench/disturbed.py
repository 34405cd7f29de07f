"""The 50 bad inputs, and what the honest calls beside them waited: ``python -m stealmesh_bench.disturbed``.

Plays the tests of the table (`tests/hostile/rows.py`) one after the other. Beside each attack on a node an honest
program calls, waits, calls again; it does so before and behind the attack, too. Shown for each row: the p99 during the
attack, that of the undisturbed calls around it, and their ratio. Exit status 1: a test failed, or a ratio is above
RATIO_MAX. Rows whose tests start processes of their own, or none, have no honest calls beside them, and say so.

A bench, and no test: on a busy machine a percentile is the machine's. Refuses to know what the attacks are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import quantiles

RATIO_MAX = 3.0
TEST_SECONDS_MAX = 600
"""Calls before and behind each attack take their time, and pytest's usual bound is for a test without them."""
CALLS_MIN = 20
"""Of fewer calls beside an attack there is no percentile: the longest counts."""


def played(root: Path, tests: list[str], waits: Path, rest: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow"]
    command += [f"--timeout={TEST_SECONDS_MAX}", *rest, *tests]
    environment = {**os.environ, "HOSTILE_WAITS": str(waits)}
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


def p99(seconds: list[float]) -> float:
    return max(seconds) if len(seconds) < CALLS_MIN else quantiles(seconds, n=100, method="inclusive")[98]  # fmt: skip


def told_in(waits: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Test → what calls waited beside its attacks, and around them."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in waits.read_text().splitlines() if waits.exists() else ():
        name, seconds, first, last = json.loads(line)
        test = name.partition(" ")[0].partition("[")[0]
        beside, around = found.setdefault(test, ([], []))
        beside.extend(seconds[first:last])
        around.extend([*seconds[:first], *seconds[last:]])
    return found


def shown(root: Path, waits: Path, only: list[int]) -> int:
    sys.path.insert(0, str(root))
    from tests.hostile.rows import ROWS

    found, above = told_in(waits), 0
    for row in ROWS:
        beside = [each for test in row.tests for each in found.get(test, ([], []))[0]]
        around = [each for test in row.tests for each in found.get(test, ([], []))[1]]
        if only and row.number not in only:
            continue
        if not beside or not around:
            print(f"{row.number:3} no honest calls beside it: {row.bad_input}")
            continue
        ratio = p99(beside) / p99(around)
        above += ratio > RATIO_MAX
        print(
            f"{row.number:3} p99 {1000 * p99(beside):7.1f} ms of {len(beside):5} calls, undisturbed "
            f"{1000 * p99(around):7.1f} ms of {len(around):5}, {ratio:5.2f} x{' ABOVE' * (ratio > RATIO_MAX)}  "
            f"{row.bad_input}"
        )
    return above


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stealmesh_bench.disturbed", description=__doc__
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")  # fmt: skip
    parser.add_argument("--rows", default="", help="these rows only, as in 1,2,9")
    parser.add_argument(
        "--times",
        type=int,
        default=1,
        help="play each row so often: calls beside short attacks are few",
    )
    parser.add_argument("rest", nargs="*", help="more options for pytest, behind --")
    told = parser.parse_args(arguments)
    sys.path.insert(0, str(told.root))
    from tests.hostile.rows import ROWS

    only = [int(each) for each in told.rows.split(",") if each]
    rows = [row for row in ROWS if not only or row.number in only]
    tests = list(dict.fromkeys(test for row in rows for test in row.tests))
    with tempfile.TemporaryDirectory() as name:
        waits = Path(name) / "waits"
        status = max(played(told.root, tests, waits, told.rest) for _ in range(told.times))
        above = shown(told.root, waits, only)
    print(f"{above} rows above {RATIO_MAX:.0f} x; the tests ended with status {status}")
    return int(bool(above or status))


if __name__ == "__main__":
    sys.exit(main())
