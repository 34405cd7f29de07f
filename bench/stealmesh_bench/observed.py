"""What it costs that a mesh can be looked at: `python -m stealmesh_bench.observed`.

Journals, their rings and counters are written whether or not anybody looks. A busy machine's clock is off by ten
times of what that costs, so it is counted. The same world of real cores in virtual time runs twice under valgrind:
as it is, and with nothing written (no rings, no story, no counts). The difference in instructions is what is written
for a task; nothing else differs, as the worlds have the same messages and steps. It is then a share of what a task
costs in real processes (the processor time of program, nodes and workers together).

With --pairs N the processor time of real meshes with and without rings is compared as well, in turn. Needs valgrind.
Decides nothing. Exit status: 1 if the share of a workload is beyond 1 %.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import resource
import statistics
import subprocess
import sys
from typing import Any

import stealmesh
from stealmesh_bench.printed_lines import processor_seconds
from stealmesh_bench.workloads.noop import increment
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.base.rings import Rings
from stealmesh_engine.config import Config
from stealmesh_protocol.messages import JobKind
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

SHARE_MAX = 0.01
ITEM_SECONDS = 0.01
"""Of virtual work: so long that each item is a chunk, which has one entry."""
NODES = 2
TASKS = 3000
RING = 512
"""Entries that a ring keeps here, so that it is full soon, and forgets one for each that it takes."""
UNSEEN = Config(journal_chunks_max=0, journal_entries_max=0, hire_after_calls=0)
SEEN = Config(journal_chunks_max=RING, journal_entries_max=RING, hire_after_calls=0)


# ---------------------------------------------------------------- the world that is counted


def _nothing(*told: Any, **more: Any) -> None:
    """In place of writing something down."""


def play(kind: str, *, seen: bool, tasks: int) -> None:
    if not seen:
        Journal.tell = _nothing  # type: ignore[method-assign]
        Counters.count = _nothing  # type: ignore[method-assign]
        Rings.ran = Rings.note = Rings.often = _nothing  # type: ignore[method-assign]
    gc.disable()  # when it comes depends on how much there is
    world = World(1, config=SEEN if seen else UNSEEN, audit=False, hashing=False)
    first = world.node("n0", seeds=None)
    for number in range(1, NODES):
        world.node(f"n{number}", seeds=[first.core.me.endpoints[0]])
    client = world.client("client", seeds=[first.core.me.endpoints[0]])
    world.run(3.0)
    alone = kind == "submit"
    law = CostLaw("const", 2e-6 if alone else ITEM_SECONDS)
    wish = Wish(JobKind.SUBMIT if alone else JobKind.MAP, tasks, law, world.now, alone=alone)
    program = VirtualProgram(world, client, wish)
    world.run(world.now + 60.0 + tasks, unless=lambda: program.done)
    assert program.done, "it ends"


def written(kind: str, tasks: int) -> dict[str, int]:
    """How often the world writes something."""
    counts: dict[str, int] = {}

    def counted(owner: type, name: str) -> None:
        plain = getattr(owner, name)

        def write(*told: Any, **more: Any) -> Any:
            key = f"{owner.__name__}.{name}"
            counts[key] = counts.get(key, 0) + 1
            return plain(*told, **more)

        setattr(owner, name, write)

    for owner, name in (
        (Journal, "tell"), (Counters, "count"), (Rings, "ran"), (Rings, "note"), (Rings, "often"),
    ):  # fmt: skip
        counted(owner, name)
    play(kind, seen=True, tasks=tasks)
    return counts


def child(kind: str, *arguments: str, counted: bool) -> tuple[str, str]:
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]  # fmt: skip
    own = [sys.executable, "-X", "frozen_modules=on", "-m", "stealmesh_bench.observed", "--play", kind, *arguments]  # fmt: skip
    told = subprocess.run(
        [*(valgrind if counted else []), *own],
        env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return told.stdout, told.stderr


def instructions_of(kind: str, tasks: int, *, seen: bool) -> int:
    _, told = child(kind, "--tasks", str(tasks), *(["--seen"] if seen else []), counted=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", told)
    assert found is not None, told
    return int(found[1].replace(",", ""))


# ---------------------------------------------------------------- real processes


def real(kind: str, tasks: int, config: Config) -> float:
    """Processor seconds for one task, of all processes."""
    with stealmesh.Mesh(workers=2, config=config) as mesh:
        _run(mesh, kind, tasks // 10)
        before = processor_seconds()
        _run(mesh, kind, tasks)
        return (processor_seconds() - before) / tasks


def _run(mesh: stealmesh.Mesh, kind: str, tasks: int) -> None:
    if kind == "submit":
        for each in range(tasks):
            assert mesh.submit(increment, each).result() == each + 1
    else:
        for at, found in enumerate(mesh.map(increment, range(tasks))):
            assert found == at + 1


def chunks_of(tasks: int) -> int:
    """How many entries a real map of this many tasks has."""
    with stealmesh.Mesh(workers=2) as mesh:
        _run(mesh, "map", tasks)
        ready = mesh._life.link.ask_journals(since={}, kinds=0, octets=4096, only=None, named="")
        return sum(int(page.page.told[0]) for page in ready.result(10.0).pages)


# ---------------------------------------------------------------- the command


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="stealmesh_bench.observed")
    parser.add_argument("--tasks", type=int, default=TASKS, help="in the worlds that are counted")
    parser.add_argument("--calls", type=int, default=3000, help="lone calls in real processes")
    parser.add_argument("--items", type=int, default=3_000_000, help="of a map in real processes")
    parser.add_argument("--pairs", type=int, default=0, help="of real meshes with and without")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    parser.add_argument("--seen", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--writes", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if told.play:
        if told.writes:
            print(json.dumps(written(told.play, told.tasks)))
            return 0
        play(told.play, seen=told.seen, tasks=told.tasks)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
        return 0
    beyond = False
    for kind, much in (("submit", told.calls), ("map", told.items)):
        beyond |= share_of(kind, much, told) > SHARE_MAX
    return int(beyond)


def share_of(kind: str, much: int, told: argparse.Namespace) -> float:
    tasks = told.tasks
    seen = instructions_of(kind, tasks, seen=True)
    unseen = instructions_of(kind, tasks, seen=False)
    plain = statistics.median(
        float(child(kind, "--tasks", str(tasks), "--seen", counted=False)[0]) for _ in range(3)
    )
    writes = json.loads(child(kind, "--tasks", str(tasks), "--writes", counted=False)[0])
    chunks = writes["Rings.ran"]
    each, rate = (seen - unseen) / chunks, seen / plain
    extra = each / rate
    cost = real(kind, much, Config(hire_after_calls=0))
    entries = 1.0
    if kind == "map":
        entries = chunks_of(much) / much
    share: float = extra * entries / cost
    kinds = ", ".join(f"{name} {n / chunks:.2f}" for name, n in sorted(writes.items()))
    print(
        f"{kind}: what is written for a chunk takes {each:,.0f} instructions ({kinds} a chunk), {extra * 1e6:.2f} µs at "
        f"{rate / 1e9:.1f} G/s. A task costs {cost * 1e6:.3f} µs in all processes and is {entries:.6f} chunks: "
        f"{share:.2%} of it",
        flush=True,
    )
    if told.pairs:
        ratios = []
        for pair in range(told.pairs):
            order = (Config(), Config(journal_chunks_max=0, journal_entries_max=0))
            both = [real(kind, much, each) for each in (order if pair % 2 else order[::-1])]
            ratios.append(both[0] / both[1] if pair % 2 else both[1] / both[0])
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(
            f"{kind}: processor time with rings to that without: {middle:.3f} (median of {told.pairs} pairs, "
            f"{low:.3f} to {high:.3f})",
            flush=True,
        )
    return share


if __name__ == "__main__":
    sys.exit(main())
