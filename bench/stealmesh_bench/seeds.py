"""Random worlds in virtual time, as many as you like: ``python -m stealmesh_bench.seeds``.

Does: runs worlds from consecutive seeds, says how far it is and what it has seen, and for each
world that broke a promise prints the one command that repeats it. Exit 1 if there was any.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import Counter
from dataclasses import asdict

from stealmesh_sim import durable_graphs, durable_worlds, graphs, random_worlds
from stealmesh_sim.random_worlds import WorldOutcome

STORY_LINES_MAX = 200
FAMILIES = {
    "durable": "worlds whose jobs are durable",
    "sliced": "the same, with jobs that are cut into slices",
    "graphs": "worlds with graphs of calls",
    "durable-graphs": "worlds with graphs of durable calls",
}
GRAPHS = {"graphs": graphs.run, "durable-graphs": durable_graphs.run}
UNLIKE = "unlike"
PLACED = "placed"
WORLDS_BETWEEN_CLEANINGS = 10


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    if options.one is not None:
        return _one(options)
    gc.disable()  # a world is one large cycle that lives to its end: garbage is for afterwards
    try:
        return _many(options)
    finally:
        gc.enable()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.seeds", description=__doc__)
    parser.add_argument("--worlds", type=int, default=2000, help="how many worlds to run")
    parser.add_argument("--seed", type=int, default=1, help="the first world's seed")
    family = parser.add_mutually_exclusive_group()
    for name, meaning in FAMILIES.items():
        family.add_argument(
            f"--{name}", dest="family", action="store_const", const=name, default="", help=meaning
        )
    parser.add_argument(
        "--unlike", action="store_true",
        help="some nodes have another Python, or lack modules that jobs need",
    )  # fmt: skip
    parser.add_argument(
        "--placed", action="store_true",
        help="jobs have bounds on what runs at once, resources and priorities",
    )  # fmt: skip
    parser.add_argument("--one", type=int, metavar="N", help="run world N alone and tell its story")
    parser.add_argument("--watch", action="store_true", help="with --one: print every event")
    parser.add_argument("--json", action="store_true", help="one object a world, one a line")
    options = parser.parse_args(arguments)
    if options.family in GRAPHS and (options.unlike or options.placed):
        parser.error(f"--{options.family} knows neither --{UNLIKE} nor --{PLACED}")
    if options.unlike:
        options.family = f"{options.family} {UNLIKE}".strip()
    if options.placed:
        options.family = f"{options.family} {PLACED}".strip()
    return options


def replay(seed: int, family: str = "") -> str:
    """The command that repeats a world."""
    told = "".join(f"--{each} " for each in family.split())
    return f"python -m stealmesh_bench.seeds {told}--one {seed}"


def _run(seed: int, family: str, *, watch: bool = False) -> WorldOutcome:
    if family in GRAPHS:
        return GRAPHS[family](seed, watch=watch)
    told = family.split()
    unlike, placed = UNLIKE in told, PLACED in told
    if "durable" not in told and "sliced" not in told:
        return random_worlds.run(seed, watch=watch, unlike=unlike, placed=placed)
    sliced = "sliced" in told
    return durable_worlds.run(seed, watch=watch, sliced=sliced, unlike=unlike, placed=placed)


def _one(options: argparse.Namespace) -> int:
    outcome = _run(options.one, options.family, watch=options.watch)
    if options.json:
        print(_as_json(outcome, options.family))
    else:
        if outcome.breach:
            print("\n".join(outcome.story[-STORY_LINES_MAX:]))
        print(_line(outcome))
    return 1 if outcome.breach else 0


def _many(options: argparse.Namespace) -> int:
    first, count, family = options.seed, options.worlds, options.family
    begun = time.perf_counter()
    totals: Counter[str] = Counter()
    counters: Counter[str] = Counter()
    bad: list[WorldOutcome] = []
    slowest = busiest = longest_queue = (0.0, 0)
    for done, seed in enumerate(range(first, first + count), 1):
        outcome = _run(seed, family)
        if done % WORLDS_BETWEEN_CLEANINGS == 0:
            gc.collect()
        if options.json:
            print(_as_json(outcome, family), flush=True)
        if outcome.breach:
            bad.append(outcome)
            if not options.json:
                print(f"world {seed}: {outcome.breach}\n    {replay(seed, family)}", flush=True)
        for name in ("events", "messages", "crashes", "faults", "steals", "jobs", "nodes"):
            totals[name] += getattr(outcome, name)
        counters.update(outcome.counters)
        totals["virtual seconds"] += int(outcome.virtual_seconds)
        slowest = max(slowest, (outcome.wall_seconds, seed))
        busiest = max(busiest, (outcome.rate_max, seed))
        longest_queue = max(longest_queue, (outcome.queue_max, seed))
        if not options.json and done % 100 == 0:
            took = time.perf_counter() - begun
            print(f"{done} worlds, {len(bad)} bad, {took / done:.3f} s each", flush=True)
    took = time.perf_counter() - begun
    figures = ", ".join(f"{value} {name}" for name, value in sorted(totals.items()))
    print(f"{count} worlds in {took:.1f} s: {figures}", file=sys.stderr)
    print(
        f"slowest {slowest[0]:.1f} s (world {slowest[1]}); at most {busiest[0]} messages a second "
        f"from one process ({busiest[1]}), {longest_queue[0]} unacknowledged to one peer "
        f"({longest_queue[1]})",
        file=sys.stderr,
    )
    print(
        "counters: " + ", ".join(f"{n} {v}" for n, v in sorted(counters.items())), file=sys.stderr
    )
    kinds = Counter(outcome.kind for outcome in bad)
    print(f"{len(bad)} broke a promise {dict(kinds)}" if bad else "no breach", file=sys.stderr)
    return 1 if bad else 0


def _line(outcome: WorldOutcome) -> str:
    verdict = f"BREACH {outcome.breach}" if outcome.breach else "fine"
    return (
        f"world {outcome.seed}: {verdict}; {outcome.nodes} nodes, {outcome.jobs} jobs, "
        f"{outcome.faults} faults, {outcome.virtual_seconds:.1f} virtual seconds in "
        f"{outcome.wall_seconds:.2f} s, {outcome.events} events, trace {outcome.trace}"
    )


def _as_json(outcome: WorldOutcome, family: str) -> str:
    fields = asdict(outcome)
    del fields["story"]
    fields["verdict"] = outcome.breach or "pass"
    fields["replay"] = replay(outcome.seed, family)
    return json.dumps(fields)


if __name__ == "__main__":
    sys.exit(main())
