"""Does a change leave behaviour as it was? ``python -m stealmesh_bench.traces > before``, then ``--same before``.

Does: runs the same worlds and scenarios in virtual time and prints one line each with the hash of its
trace. `--same FILE` runs what the file lists and names each line with another trace. Exit status 1 if
one has.

The trace holds every event of every process, in order, with its time. A change that only moves code
leaves all hashes as they are; one that renames a message or an event changes them, and says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from stealmesh_bench.chaos import simulated
from stealmesh_bench.chaos.named import SCENARIOS, Wanted, draw
from stealmesh_sim import durable_worlds, random_worlds

NODES = 64
SEED = 1


def world(seed: str) -> str:
    return random_worlds.run(int(seed)).trace


def unlike(seed: str) -> str:
    return random_worlds.run(int(seed), unlike=True).trace


def durable(seed: str) -> str:
    return durable_worlds.run(int(seed)).trace


def sliced(seed: str) -> str:
    return durable_worlds.run(int(seed), sliced=True).trace


def scenario(name: str) -> str:
    return simulated.play(draw(Wanted(name, SEED, NODES)), "").trace or ""


KINDS = {
    "world": world, "unlike": unlike, "durable": durable, "sliced": sliced, "scenario": scenario,
}  # fmt: skip


def wanted(worlds: int, few: int, *, scenarios: bool) -> Iterator[tuple[str, str]]:
    """What is run: (kind, seed or name)."""
    yield from (("world", str(seed)) for seed in range(1, worlds + 1))
    for kind in ("durable", "unlike", "sliced"):
        yield from ((kind, str(seed)) for seed in range(1, few + 1))
    if scenarios:
        yield from (("scenario", name) for name in SCENARIOS if name != "random")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.traces", description=__doc__)
    parser.add_argument("--worlds", type=int, default=50, help="random worlds")
    parser.add_argument(
        "--few", type=int, default=20, help="durable, unlike and sliced worlds each"
    )
    parser.add_argument(
        "--no-scenarios", action="store_true", help="leave out the scenarios of 64 nodes: minutes"
    )
    parser.add_argument("--same", metavar="FILE", type=Path, help="compare with what it lists")
    parser.add_argument("--only", choices=KINDS, action="append", help="these kinds alone")
    told = parser.parse_args(arguments)
    if told.same is None:
        listed = [
            (kind, what, "")
            for kind, what in wanted(told.worlds, told.few, scenarios=not told.no_scenarios)
        ]
    else:
        listed = [_parts(line) for line in told.same.read_text().splitlines()]
    changed = 0
    for kind, what, before in listed:
        if told.only and kind not in told.only:
            continue
        now = KINDS[kind](what)
        if told.same is None:
            print(kind, what, now, flush=True)
        elif now != before:
            changed += 1
            print(f"changed: {kind} {what}", flush=True)
    if told.same is not None:
        print(f"{changed} changed")
    return 1 if changed else 0


def _parts(line: str) -> tuple[str, str, str]:
    kind, what, trace = line.split(" ")
    return kind, what, trace


if __name__ == "__main__":
    sys.exit(main())
