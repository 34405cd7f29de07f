"""Everything at once, from many threads of one program: ``python -m stealmesh_bench.mixed``.

Does: threads that mix submits, maps, reductions, searches, large values and cancels on one local
mesh, undisturbed or with processes killed under them; checks every value; says how long each kind
took at most and what is stuck. Exit status 1 if a value was wrong or something stood still.

The first of its kind found a program that stood still for ever although no process was killed: two threads
had told one core what they had read, in the wrong order.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import operator
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import stealmesh

VICTIMS = ("none", "workers", "nurseries", "nodes", "all")
STUCK_SECONDS = 60.0
"""Undisturbed, nothing here takes a second: a call that takes this long stands still."""
LATE_SECONDS = 5.0
"""A call that takes this long is late, whatever was killed. The state of the mesh is shown while it waits."""
LARGE_OCTETS = 3 << 20


def square(x: int) -> int:
    return x * x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def expand(n: int) -> tuple[int, list[int]]:
    return 1, ([n - 1, n - 1] if n else [])


def reverse(octets: bytes) -> bytes:
    return octets[::-1]


@dataclass
class Record:
    """What the threads have done so far."""

    done: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    at_work: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Thread → what it is at, and since when."""
    kills: Counter[str] = field(default_factory=Counter)

    counters: dict[str, int] = field(default_factory=dict)
    """Of all peers, as the last `status` had them."""
    told_at: float = 0.0
    """When late calls were last shown."""

    def stuck(self) -> list[str]:
        return self.older_than(STUCK_SECONDS)

    def older_than(self, seconds: float) -> list[str]:
        """The calls that have taken longer by now."""
        now = time.monotonic()
        old = [(what, now - since) for what, since in list(self.at_work.values())]
        return [f"{what} for {age:.1f} s" for what, age in old if age > seconds]


class WorkMixture:
    """The kinds of work: each is one call that checks its own answer."""

    def __init__(self, mesh: stealmesh.Mesh, rng: Random) -> None:
        self.mesh = mesh
        self.rng = rng
        self.kinds: dict[str, Callable[[], None]] = {
            "submit": self.submit, "submits": self.submits, "map": self.map, "listed": self.listed,
            "reduce": self.reduce, "explore": self.explore, "large": self.large, "cancel": self.cancel,
        }  # fmt: skip

    def submit(self) -> None:
        x = self.rng.randrange(1000)
        check(self.mesh.submit(square, x).result(), x * x)

    def submits(self) -> None:
        futures = [self.mesh.submit(square, x) for x in range(self.rng.randrange(1, 300))]
        check([future.result() for future in futures], [x * x for x in range(len(futures))])

    def map(self) -> None:
        items = range(self.rng.randrange(20_000))
        ordered = self.rng.random() < 0.7
        results = list(self.mesh.map(square, items, ordered=ordered))
        check(results if ordered else sorted(results), [x * x for x in items])

    def listed(self) -> None:
        items = [self.rng.randrange(100) for _ in range(self.rng.randrange(1, 500))]
        check(list(self.mesh.map(square, items)), [x * x for x in items])

    def reduce(self) -> None:
        count = self.rng.randrange(1, 20_000)
        total = self.mesh.map_reduce(square, range(count), operator.add).result()
        check(total, sum(x * x for x in range(count)))

    def explore(self) -> None:
        depth = self.rng.randrange(9)
        found = self.mesh.explore(stealmesh.each(expand), [depth], operator.add).result()
        check(found, 2 ** (depth + 1) - 1)

    def large(self) -> None:
        octets = bytes([self.rng.randrange(256)]) * 7 + bytes(self.rng.randrange(LARGE_OCTETS))
        check(self.mesh.submit(reverse, octets).result() == octets[::-1], True)

    def cancel(self) -> None:
        futures = [self.mesh.submit(nap, 0.005) for _ in range(30)]
        cancelled = [future for future in futures[::2] if future.cancel()]
        wait(futures)
        for future in futures:
            if future in cancelled:
                check(future.cancelled(), True)
            else:
                check(future.result(), 0.005)


def check(found: Any, right: Any) -> None:
    if found != right:
        raise AssertionError(f"found {str(found)[:80]}, right is {str(right)[:80]}")


def mix(
    *,
    seconds: float,
    nodes: int = 4,
    workers: int = 1,
    threads: int = 8,
    kill: str = "none",
    every: float = 0.5,
    seed: int = 1,
    mixture: type[WorkMixture] = WorkMixture,
    watch: Callable[[stealmesh.Mesh], None] = lambda mesh: None,
) -> Record:
    """Run the mixture for `seconds`; returns once every call has ended, or stands still. `watch` is shown
    the mesh with every kill."""
    record = Record()
    with stealmesh.Mesh(nodes=nodes, workers=workers) as mesh:
        mesh.submit(square, 1).result()
        end = time.monotonic() + seconds
        working = []
        for number in range(threads):
            mixed = mixture(mesh, Random(f"{seed}/{number}"))
            working.append(threading.Thread(target=_work, args=(mixed, record, end), daemon=True))
        for thread in working:
            thread.start()
        chance = Random(f"{seed}/kills")
        while any(thread.is_alive() for thread in working) and not record.stuck():
            if kill != "none" and time.monotonic() < end:
                _kill_one(mesh, kill, chance, record)
            watch(mesh)
            if record.older_than(LATE_SECONDS) and time.monotonic() > record.told_at + LATE_SECONDS:
                record.told_at = time.monotonic()
                _tell("LATE", record.older_than(LATE_SECONDS), mesh)
            working[0].join(every)
            for thread in working:
                thread.join(0.0)
        if record.stuck():
            faulthandler.dump_traceback(all_threads=True)
            _tell("STUCK", record.stuck(), mesh)
            mesh._abandon()  # or leaving the block would wait for what stands still
        else:
            record.counters = mesh.status()["counters"]
    return record


def _work(mixture: WorkMixture, record: Record, end: float) -> None:
    me = threading.get_ident()
    while time.monotonic() < end:
        kind = mixture.rng.choice(list(mixture.kinds))
        begun = time.monotonic()
        record.at_work[me] = kind, begun
        try:
            mixture.kinds[kind]()
        except (Exception, CancelledError) as error:  # noqa: BLE001  any exception is a finding
            record.wrong.append(f"{kind}: {error!r}\n{traceback.format_exc()}")
        record.done[kind] += 1
        record.slowest[kind] = max(record.slowest.get(kind, 0.0), time.monotonic() - begun)
    del record.at_work[me]


def _kill_one(mesh: stealmesh.Mesh, kind: str, chance: Random, record: Record) -> None:
    if kind == "all":
        kind = chance.choice(VICTIMS[1:4])
    nodes = mesh._local.pids() if mesh._local is not None else []
    nurseries = [child for node in nodes for child in children(node)]
    among = {"nodes": nodes, "nurseries": nurseries}.get(kind)
    if among is None:
        among = [child for nursery in nurseries for child in children(nursery)]
    if among:
        try:
            os.kill(chance.choice(among), signal.SIGKILL)
        except ProcessLookupError:
            return  # it has gone by itself meanwhile
        record.kills[kind] += 1


def children(pid: int) -> list[int]:
    """The processes that this one has started and that are alive."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def _tell(word: str, calls: list[str], mesh: stealmesh.Mesh) -> None:
    """What a person needs to see of a mesh that is late or stands still: accounts, holders, counters."""
    try:
        status = mesh.status()
    except TimeoutError:
        print(f"{word} {calls}, and no status within 5 s", file=sys.stderr, flush=True)
        return
    jobs = [job for job in status["jobs"] if job["state"] != "done"]
    shown = {word: calls, "jobs": jobs, "nodes": status["nodes"], "counters": status["counters"]}
    print(json.dumps(shown, indent=1, default=str), file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None, mixture: type[WorkMixture] = WorkMixture) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.mixed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="a node")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--kill", choices=VICTIMS, default="none")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    record = mix(**vars(parser.parse_args(arguments)), mixture=mixture)
    print(f"done {dict(record.done)}, killed {dict(record.kills)}")
    print("slowest", {kind: round(seconds, 2) for kind, seconds in record.slowest.items()})
    print("counters", record.counters)
    for wrong in record.wrong[:5]:
        print(wrong)
    print(f"{len(record.wrong)} wrong, {len(record.stuck())} stuck")
    return 1 if record.wrong or record.stuck() else 0


if __name__ == "__main__":
    sys.exit(main())
